"""Teach a real model to draw at all, before it is asked for any image: supervised training on random drawings.

TRL's SFTTrainer gets prompts and the programs that answer them, with the loss on the programs alone. The adapter is
kept in a run folder of its own, runs/<recipe>-pretraining, where every draw with the same recipe finds it again.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.recipe.recipe import Pretraining, Recipe
from grpo_colab.recipe.schema import without_secrets
from grpo_colab.runs.environment import keep_environment
from grpo_colab.runs.lock import locked
from grpo_colab.runs.resume import rewind_to_checkpoint
from grpo_colab.runs.run import RUNS, Run, quote, writing_to
from grpo_colab.utils.console import info
from grpo_colab.utils.device import Machine
from grpo_colab.utils.memory import free_memory

if TYPE_CHECKING:
    from grpo_colab.training.signals import Signals

OPTIMISER = ("optim", "weight_decay", "max_grad_norm")
SHARED = (*OPTIMISER, "gradient_checkpointing", "seed")  # settings of [grpo] that it follows, too


class PretrainingStopped(SettingError):
    """A signal ended the pre-training."""


def pretrained(recipe: Recipe, device: Machine, run_for: Run | None) -> Path | None:
    """Return the folder of the recipe's pre-trained adapter, trained first if missing; None without [pretraining].

    `run_for` is the run that needs it, if there is one already. Raises SettingError when the folder holds the adapter
    of another model, task or pre-training, and PretrainingStopped when a signal ended it.
    """
    if recipe.pretraining is None or not recipe.pretraining.steps:
        return None
    wanted = pretraining_recipe(recipe)
    path = RUNS / wanted.name
    if (found := _found(path, wanted)) is not None:
        return found
    if device.processes > 1:
        raise SettingError(
            f"there is none in {quote(path)} yet", setting="[pretraining]", remedy="make it in one process, by `train`"
        )
    with contextlib.ExitStack() as held:
        held.enter_context(locked(path))
        if (found := _found(path, wanted)) is not None:  # which another process has just made
            return found
        run = Run(path) if (path / "recipe.toml").is_file() else Run.create(wanted, path)
        from grpo_colab.training.signals import Signals, Stopped  # needs transformers, which unsloth must precede

        info(f"Pre-training {recipe.model['model_name']} on random drawings, once, in {path} ...")
        keep_environment(run, wanted, device)
        policy = load_policy(wanted, device)
        with Signals() as signals, contextlib.suppress(Stopped), writing_to(run):
            if supervise(policy, run, wanted, device, signals):
                policy.save(run.adapter)
                run.write_json("evaluation.json", {"step": wanted.budget.max_steps})  # marks the run as finished
        del policy
        free_memory()  # for the policy that the adapter is for, which is loaded next
        if run.finished:
            return run.adapter
    raise PretrainingStopped(
        f"stopped by a signal after step {run.last_step} of {wanted.budget.max_steps}",
        setting="[pretraining]",
        remedy=f"go on with: {run_for.resume_command if run_for else 'the same command'}",
    )


def _found(path: Path, wanted: Recipe) -> Path | None:
    """Return the adapter in a pre-training's folder, None while there is none. Refuse one of another pre-training."""
    if not (path / "recipe.toml").is_file():
        return None
    theirs = _decides(Run(path).recipe)
    for table, ours in _decides(wanted).items():
        if ours != theirs[table]:
            raise SettingError(
                f"{quote(path)} holds a pre-training with another",
                setting=f"[{table}]",
                remedy="move it away, or write this recipe to a file of another name",
            )
    return path / "adapter" if (path / "adapter").is_dir() else None


def pretraining_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of the pre-training's run folder: the same model and adapter, on random drawings."""
    settings = _settings(recipe)
    budget = {"max_steps": settings.steps, "uncapped": True, "stop_at_reward": None, "mirror": None}
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-pretraining",
            "task": {**recipe.task, "image": "random"},
            "model": {**recipe.model, "fast_inference": False},  # nothing is sampled
            "budget": recipe.budget.model_copy(update=budget),
            "hindsight": None,
            "sweep": None,
        }
    )


def supervise(policy: Policy, run: Run, recipe: Recipe, device: Machine, signals: Signals) -> bool:
    """Train from the newest whole checkpoint, or from the start, and return whether all steps are done."""
    import trl
    from datasets import Dataset

    from grpo_colab.training.callbacks import StepLog
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.trainer import CheckpointMixin

    manager = CheckpointManager(run, recipe, signals, deadline=math.inf, mirror=None)

    class SFTTrainer(CheckpointMixin, trl.SFTTrainer):
        """The trainer of this pre-training."""

        checkpoint_manager = manager
        trained_policy = policy

    settings, task = _settings(recipe), recipe.load_task()
    rows = []
    for problem in task.problems("train", settings.steps * settings.batch_size):
        program = {"role": "assistant", "content": task.golden_completion(problem)}
        rows.append({"prompt": task.messages(problem), "completion": [program]})
    arguments = trl.SFTConfig(**sft_arguments(recipe, run.checkpoints, device))
    arguments.num_iterations = 1  # an argument of GRPO's that the manager reads
    trainer = SFTTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        callbacks=[StepLog(run), manager],
    )
    checkpoint = rewind_to_checkpoint(run)
    with signals.in_training():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return manager.stopped_by is None


def sft_arguments(recipe: Recipe, output: Path, device: Machine) -> dict[str, Any]:
    """Return SFTConfig's arguments."""
    settings = _settings(recipe)
    return {
        **{key: recipe.grpo[key] for key in SHARED if key in recipe.grpo},
        "output_dir": str(output),
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.batch_size // settings.micro_batch,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "max_length": recipe.model.get("max_seq_length", recipe.prompts.max_prompt_tokens + 768),
        "completion_only_loss": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
        "save_steps": 500,
        "save_total_limit": 1,
        "report_to": "none",
        "bf16": False,  # with neither, Unsloth's trainer takes the precision of the model that it loaded
        "fp16": False,
        "use_cpu": device.kind == "cpu",
    }


def _settings(recipe: Recipe) -> Pretraining:
    assert recipe.pretraining is not None
    return recipe.pretraining


def _decides(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that decide what the adapter learns, without the seeds: every draw brings its own."""
    task = {key: value for key, value in recipe.task.items() if key not in ("seed", "limit", "max_prompt_tokens")}
    lora = {key: value for key, value in recipe.lora.items() if key != "random_state"}
    optimiser = {key: recipe.grpo.get(key) for key in OPTIMISER}
    tables = {"task": task, "model": without_secrets(recipe.model), "lora": lora, "grpo": optimiser}
    return {**tables, "pretraining": recipe.pretraining}
