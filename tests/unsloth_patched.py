"""Run in a process of its own: Unsloth's rewritten GRPOTrainer, generated and used without a GPU.

    python unsloth_patched.py OUT [variants]

Trains the tiny model with it through our `train`, or runs that are broken off, run out of memory and end early, beside
OUT. Prints JSON for the tests.

On a GPU `import unsloth` replaces trl.GRPOTrainer and trl.GRPOConfig; its CPU backend does not, so the replacement is
asked for here, and the model is a plain one with PEFT, given the two methods that Unsloth's models have.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["UNSLOTH_ALLOW_CPU"] = "1"  # the GPU side of the package, imported without one
import unsloth  # noqa: F401

del os.environ["UNSLOTH_ALLOW_CPU"]

import torch
from unsloth.models import rl
from unsloth.models.llama import FastLlamaModel
from unsloth.models.loader import FastLanguageModel

if sys.argv[2:] == ["variants"]:
    rl.patch_trl_rl_trainers()  # as on a GPU: every trainer that TRL has
else:
    rl._patch_trl_rl_trainers("grpo_trainer")  # the one that is used, in a few seconds

import trl
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from small_device import Small
from transformers import AutoModelForCausalLM, AutoTokenizer

from grpo_colab import Recipe, Run, train
from grpo_colab.plan import plan_batch
from grpo_colab.policy.policy import Policy
from grpo_colab.policy.turns import end_answers
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.rewards import RewardError
from grpo_colab.training.trainer import grpo_arguments
from grpo_colab.utils.device import current_device


def changed_arguments(run: Run) -> dict[str, list[str]]:
    """Preset -> those of its arguments that the rewritten GRPOConfig refuses or silently changes."""
    found = {}
    for name in preset_names():
        recipe = Recipe.load(name)
        arguments = grpo_arguments(recipe, run.checkpoints, plan_batch(recipe, 1), current_device())
        config = trl.GRPOConfig(**arguments)
        found[name] = [
            f"{key}: {value!r} -> {getattr(config, key)!r}"
            for key, value in arguments.items()
            if key not in ("report_to", "lr_scheduler_type", "save_strategy", "optim")  # become lists and enums
            and getattr(config, key) != value
        ]
    return found


def unknown_loader_arguments() -> dict[str, list[str]]:
    """Preset -> arguments that Unsloth's GPU loader lacks."""
    loading = inspect.signature(FastLanguageModel.from_pretrained).parameters
    adapting = inspect.signature(FastLlamaModel.get_peft_model).parameters
    recipes = {name: Recipe.load(name) for name in preset_names()}
    return {
        name: [key for key in recipe.model if key not in loading] + [key for key in recipe.lora if key not in adapting]
        for name, recipe in recipes.items()
    }


BREAKS = """
import os, signal
from pathlib import Path

HERE = Path(__file__).parent

def own_reward(completions, trainer_state=None, **kwargs):
    if trainer_state is not None and trainer_state.global_step == 2:
        if not (HERE / "mended").exists():
            return [0.0]
        if (HERE / "stop").exists():
            (HERE / "stop").unlink()
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
    return [float(len(c[0]["content"]) % 2) for c in completions]
"""


def fresh_policy(recipe: Recipe) -> Policy:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(recipe.model_path, dtype=torch.float32)
    lora = {key: value for key, value in recipe.lora.items() if key in LoraConfig.__dataclass_fields__}
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    model.for_training = lambda *args, **kwargs: model.train()
    model.for_inference = lambda *args, **kwargs: model.eval()
    return Policy(model, AutoTokenizer.from_pretrained(recipe.model_path))


def break_a_reward(folder: Path) -> dict[str, object]:
    """A reward breaks at step 3 of 4, or a signal breaks the step off; the metrics of those and of an unbroken run."""
    (folder / "own.py").write_text(BREAKS)
    recipe = Recipe.load(
        task={"limit": 32},
        rewards={f"{folder}/own.py:own_reward": 1.0},
        # a step is packed into one row, whose attention costs the square of its length
        budget={"max_steps": 4, "prompts_per_step": 1, "rehearsal": False},
        grpo={"max_completion_length": 24},
        evaluation={"n": 4, "max_completion_tokens": 8},
    )
    said = ""
    try:
        train(recipe, out=folder / "broken", loaded=fresh_policy(recipe))
    except RewardError as error:
        said = str(error)
    (folder / "mended").touch()
    mended = train(resume=folder / "broken", loaded=fresh_policy(recipe))
    whole = train(recipe, out=folder / "whole", loaded=fresh_policy(recipe))
    (folder / "stop").touch()
    stopped = train(recipe, out=folder / "stopped", loaded=fresh_policy(recipe))
    stopped_at = len(stopped.metrics())
    stopped = train(resume=stopped.path, loaded=fresh_policy(recipe))
    return {
        "said": said,
        "mended": mended.metrics(),
        "whole": whole.metrics(),
        "stopped_at": stopped_at,
        "stopped": stopped.metrics(),
        "warnings": (stopped.path / "warnings.jsonl").read_text() if (stopped.path / "warnings.jsonl").exists() else "",
    }


SOLVES = """
def jackpot_reward(completions, trainer_state=None, **kwargs):
    step = 0 if trainer_state is None else trainer_state.global_step + 1
    return [100.0 if step == 2 and index == 3 else -1.0 for index in range(len(completions))]
"""


def solve(folder: Path) -> dict[str, object]:
    """One completion of the second of four steps earns budget.stop_at_reward."""
    (folder / "jackpot.py").write_text(SOLVES)
    recipe = Recipe.load(
        task={"limit": 32},
        rewards={f"{folder}/jackpot.py:jackpot_reward": 2.0},
        budget={"max_steps": 4, "prompts_per_step": 1, "stop_at_reward": 200.0, "rehearsal": False},
        evaluation={"n": 4, "max_completion_tokens": 8},
    )
    run = train(recipe, out=folder / "solved", loaded=fresh_policy(recipe))
    return {
        "metrics": run.metrics(),
        "completions": run.completions(),
        "weights": list(recipe.rewards.values()),
        "evaluation": run.evaluation,
        "finished": run.finished,
    }


def name_another_end(folder: Path) -> dict[str, object]:
    """Two runs, of the tiny model as it is, and with another end token that `end_answers` has to mend."""
    recipe = Recipe.load(
        task={"limit": 32},
        budget={"max_steps": 2, "prompts_per_step": 1, "rehearsal": False},
        grpo={"max_completion_length": 64},
        evaluation={"n": 4, "max_completion_tokens": 64},
    )
    right = train(recipe, out=folder / "right", loaded=fresh_policy(recipe))
    policy = fresh_policy(recipe)
    policy.tokenizer.eos_token = policy.tokenizer.pad_token = "<|end_of_text|>"
    policy.model.config.eos_token_id = policy.model.generation_config.eos_token_id = policy.tokenizer.eos_token_id
    said = end_answers(policy.model, policy.tokenizer, policy.asking)
    wrong = train(recipe, out=folder / "wrong", loaded=policy)
    return {"said": said, "right": right.metrics(), "wrong": wrong.metrics()}


def run_out_of_memory(folder: Path) -> dict[str, object]:
    """A backward pass has room for 4 of 16: that run, one cut to 4 from the start, and a whole one."""
    runs, seen = {}, {}
    # Unsloth's trainer packs the sequences of a micro-batch into one row
    for name, micro_batch, rehearsal, room in (
        ("cut", 0, True, 600),
        ("asked", 4, False, 9999),
        ("whole", 16, False, 9999),
    ):
        recipe = Recipe.load(
            task={"limit": 32},
            grpo={"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0},
            budget={"max_steps": 1, "prompts_per_step": 2, "micro_batch": micro_batch, "rehearsal": rehearsal},
            evaluation={"n": 4, "max_completion_tokens": 8},
        )
        policy = fresh_policy(recipe)
        small = Small(policy, tokens=room)
        runs[name] = train(recipe, out=folder / f"memory-{name}", loaded=policy)
        seen[name] = small.seen
    b = {
        name: [
            tensor for key, tensor in load_file(run.adapter / "adapter_model.safetensors").items() if "lora_B" in key
        ]
        for name, run in runs.items()
    }
    task = recipe.load_task()
    pairs = list(zip(b["asked"], b["whole"], strict=True))
    return {
        "micro_batch": runs["cut"].recipe.budget.micro_batch,
        "metrics": {name: run.metrics() for name, run in runs.items()},
        "apart": max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs),
        "scale": [((x * y).sum() / (y * y).sum()).item() for x, y in pairs],
        "rehearsed": seen["cut"][0],
        "longest": max(len(policy.prompt_ids(task.messages(problem))) for problem in task.problems("train", 32)),
    }


def train_the_tiny_model(out: Path) -> dict[str, object]:
    # torch compiles the trainer's code for each shape that it meets, and a rehearsal would have shapes of its own
    budget = {"max_steps": 3, "prompts_per_step": 2, "micro_batch": 4, "rehearsal": False}

    def own_reward(completions: Any, **kwargs: Any) -> list[float]:
        return [float(len(completion[0]["content"])) for completion in completions]

    plain = Recipe.load(task={"limit": 32}, rewards={own_reward: 0.0}, budget=budget, evaluation={"n": 8})
    policy = fresh_policy(plain)
    # a token that the model likes to write
    bracket = policy.tokenizer("(", add_special_tokens=False)["input_ids"]
    recipe = plain.model_copy(update={"grpo": {**plain.grpo, "generation_kwargs": {"suppress_tokens": bracket}}})
    golds = {problem.question: problem.answer for problem in recipe.load_task().problems("train", 32)}
    model = policy.model
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run = train(recipe, out=out, loaded=policy)
    changed = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    return {
        "trainer": trl.GRPOTrainer.__name__,
        "config_from": trl.GRPOConfig.__init__.__module__,
        "metrics": run.metrics(),
        "completions": len(run.completions()),
        "golds": [row["answer"] == golds[row["prompt"][-1]["content"]] for row in run.completions()],
        "own": [row["rewards"]["own"] == len(row["completion"]) for row in run.completions()],
        "written": [row["completion"] for row in (*run.completions(), *run.answers("evaluation-after.jsonl"))],
        "evaluation": run.evaluation,
        "changed": changed,
        "configurations": changed_arguments(run),
        "loader": unknown_loader_arguments(),
    }


def choose(folder: Path) -> dict[str, object]:
    """All of [sampling] in a run that is broken off and in one that is not, and a step with zeros and without."""
    from shutil import copytree, rmtree

    settings: dict[str, dict[str, Any]] = {
        "task": {"limit": 32},
        "budget": {"max_steps": 4, "prompts_per_step": 2, "rehearsal": False},
        "grpo": {"num_generations": 4, "max_completion_length": 24, "save_steps": 1, "save_total_limit": 99},
        "evaluation": {"n": 4, "max_completion_tokens": 8},
        "sampling": {
            "strategy": "adaptive",
            "refill": 2,
            "generate_more": 8,
            "skip_zero_advantage": True,
            "merge_adapter": True,
        },
    }
    recipe = Recipe.load(**settings)
    whole = train(recipe, out=folder / "chosen", loaded=fresh_policy(recipe))
    copytree(whole.path, folder / "chosen-cut")
    for step in (3, 4):
        rmtree(folder / "chosen-cut" / "checkpoints" / f"checkpoint-{step}")
    (folder / "chosen-cut" / "evaluation.json").unlink()
    cut = train(resume=folder / "chosen-cut", loaded=fresh_policy(recipe))

    gradients = {}
    for skipped in (False, True):
        recipe = Recipe.load(
            **{
                **settings,
                "budget": {**settings["budget"], "max_steps": 1, "prompts_per_step": 4},
                "grpo": {**settings["grpo"], "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0},
                "sampling": {"skip_zero_advantage": skipped},
                "tripwires": {"gibberish": 0.0, "non_finite": False},
            }
        )
        run = train(recipe, out=folder / f"skipped-{skipped}", loaded=fresh_policy(recipe))
        weights = load_file(run.adapter / "adapter_model.safetensors")
        gradients[skipped] = {name: tensor for name, tensor in weights.items() if "lora_B" in name}
    pairs = [(gradients[True][name], gradients[False][name]) for name in gradients[False]]
    return {
        "whole": whole.metrics(),
        "cut": cut.metrics(),
        "completions": whole.completions(),
        "advantages": [row["advantage"] for row in run.completions()],
        "gradient": max(y.abs().max().item() for _, y in pairs),
        "scale": [((x * y).sum() / (y * y).sum()).item() for x, y in pairs],
        "apart": max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs),
    }


def go_back_to_the_best(folder: Path) -> dict[str, object]:
    """A run that collapses, goes back and comes to its end, and the same one killed after the return and resumed."""

    def paying(breaks_at: int | None) -> Any:
        def own_reward(completions: list[Any], trainer_state: Any = None, **kwargs: Any) -> list[float]:
            paid = [1.0 + len(one[0]["content"]) % 5 / 10 for one in completions]
            if trainer_state is None or not trainer_state.global_step:
                return paid
            rate = [row["learning_rate"] for row in trainer_state.log_history if "learning_rate" in row][-1]
            if rate < 3e-4 and trainer_state.global_step == breaks_at:
                raise KeyboardInterrupt
            return paid if trainer_state.global_step <= 10 or rate < 3e-4 else [0.0] * len(paid)

        return own_reward

    def recipe(breaks_at: int | None) -> Recipe:
        return Recipe.load(
            task={"limit": 32},
            rewards=[paying(breaks_at)],
            budget={"max_steps": 22, "prompts_per_step": 1, "rehearsal": False},
            grpo={
                "num_generations": 4,
                "max_completion_length": 8,
                "learning_rate": 4e-4,
                "lr_scheduler_type": "constant",
                "mask_truncated_completions": False,
                "save_steps": 4,
            },
            evaluation={"n": 4, "max_completion_tokens": 8},
            tripwires={"collapse": True},
        )

    whole = train(recipe(None), out=folder / "back", loaded=fresh_policy(recipe(None)))
    with contextlib.suppress(KeyboardInterrupt):
        train(recipe(17), out=folder / "back-cut", loaded=fresh_policy(recipe(17)))
    cut = train(resume=folder / "back-cut", rewards=[paying(None)], loaded=fresh_policy(recipe(None)))
    return {"whole": whole.metrics(), "cut": cut.metrics(), "record": whole.read_json("collapse.json")}


def train_variants(folder: Path) -> dict[str, object]:
    return {
        "broken_reward": break_a_reward(folder),
        "memory": run_out_of_memory(folder),
        "solved": solve(folder),
        "another_end": name_another_end(folder),
        "chosen": choose(folder),
        "back": go_back_to_the_best(folder),
    }


if __name__ == "__main__":
    out = Path(sys.argv[1])
    print("\n" + json.dumps(train_variants(out.parent) if sys.argv[2:] else train_the_tiny_model(out)))
