"""Show a model what is asked for, supervised, before it learns by rewards: a model that earns none learns nothing.

For a drawing it is random drawings with their programs, before hindsight asks for an image. For every other task it is
the golden completions of its training problems. TRL's SFTTrainer gets the prompts as the policy is asked them, and
computes the loss on the completions only. The adapter is kept in a run folder of its own, runs/<recipe>-pretraining,
where each run of the same recipe finds it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.policy.card import model_card
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.schema import Pretraining
from grpo_colab.recipe.settings_search import without_secrets
from grpo_colab.runs.environment import keep_environment
from grpo_colab.runs.folders import RUNS, quote
from grpo_colab.runs.lock import locked
from grpo_colab.runs.resume import rewind_to_checkpoint
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.training.endings import PretrainingStopped
from grpo_colab.utils.device import Device
from grpo_colab.utils.library_output import library_lines_once
from grpo_colab.utils.memory import free_memory
from grpo_colab.utils.stage import stage

if TYPE_CHECKING:
    from grpo_colab.tasks import Problem
    from grpo_colab.training.signals import Signals

# Settings of [grpo] that the pre-training uses as well. Those of the optimiser change what the adapter learns.
OPTIMISER = ("optim", "weight_decay", "max_grad_norm")
NOT_LEARNT: Final = -100  # the label of a token that the loss leaves out
SHARED = (*OPTIMISER, "gradient_checkpointing", "seed")


def pretrained(recipe: Recipe, device: Device, run_for: Run | None, problems: Sequence[Problem] = ()) -> Path | None:
    """Return the folder of the recipe's pre-trained adapter, and train it first if it is missing.

    Return None when the recipe has no [pretraining], or one of 0 steps. `run_for` is the run that needs the adapter, if
    there is one already. `problems` are those to train on, for a task that draws nothing. The training is a run of its
    own, in runs/<recipe>-pretraining, and continues there if it was stopped. Raises SettingError when the folder holds
    the adapter of another model, task or pre-training, when another process trains in it, when the adapter is missing
    under torchrun with several processes, and where no golden completion is known. Raises PretrainingStopped when a
    signal ended the training.
    """
    if recipe.pretraining is None or not recipe.pretraining.steps:
        return None
    wanted = pretraining_recipe(recipe)
    path = RUNS / wanted.name
    adapter = _existing_adapter(path, wanted)
    if adapter is not None:
        return adapter
    if device.processes > 1:
        raise SettingError(
            f"there is none in {quote(path)} yet", setting="[pretraining]", remedy="make it in one process, by `train`"
        )
    with contextlib.ExitStack() as held:
        held.enter_context(locked(path))
        adapter = _existing_adapter(path, wanted)  # another process may have made it while this one waited
        if adapter is not None:
            return adapter
        run = Run(path) if (path / "recipe.toml").is_file() else Run.create(wanted, path)
        from grpo_colab.training.signals import Signals, Stopped  # needs transformers, which unsloth must precede

        what = "random drawings" if _draws(recipe) else "golden completions"
        keep_environment(run, wanted, device)
        title = f"Pre-training {recipe.model['model_name']} on {what}, once, in {path}"
        with Signals() as signals, contextlib.suppress(Stopped), writing_to(run), stage(title) as shown:
            with library_lines_once():
                policy = load_policy(wanted, device)
            if supervise(policy, run, wanted, device, signals, problems, shown.update):
                policy.save(run.adapter, model_card(wanted))
                run.write_json("evaluation.json", {"step": wanted.budget.max_steps})  # marks the run as finished
        del policy
        free_memory()  # the caller loads the policy again next, with the adapter
        if run.finished:
            return run.adapter
    raise PretrainingStopped(
        f"stopped by a signal after step {run.last_step} of {wanted.budget.max_steps}",
        setting="[pretraining]",
        remedy=f"go on with: {run_for.resume_command if run_for else 'the same command'}",
    )


def _existing_adapter(path: Path, wanted: Recipe) -> Path | None:
    """Return the adapter in a pre-training's folder, None while there is none.

    Raise SettingError when the folder belongs to a pre-training with other settings.
    """
    if not (path / "recipe.toml").is_file():
        return None
    found = _deciding_settings(Run(path).recipe)
    for table, settings in _deciding_settings(wanted).items():
        if settings != found[table]:
            raise SettingError(
                f"{quote(path)} holds a pre-training with another",
                setting=f"[{table}]",
                remedy="move it away, or write this recipe to a file of another name",
            )
    return path / "adapter" if (path / "adapter").is_dir() else None


def pretraining_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of the pre-training's run folder: same model and adapter, for a drawing with random ones.

    Its steps are those of [pretraining]. It has no [hindsight], no [sweep], no probe, no mirror, and no reward to stop
    at.
    """
    settings = _settings(recipe)
    budget = {"max_steps": settings.steps, "uncapped": True, "stop_at_reward": None, "mirror": None}
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-pretraining",
            "task": {**recipe.task, "image": "random"} if _draws(recipe) else recipe.task,
            "model": {**recipe.model, "fast_inference": False},  # nothing is sampled
            "budget": recipe.budget.model_copy(update=budget),
            "evaluation": recipe.evaluation.model_copy(update={"every": 0}),
            "hindsight": None,
            "sweep": None,
        }
    )


def supervise(
    policy: Policy,
    run: Run,
    recipe: Recipe,
    device: Device,
    signals: Signals,
    problems: Sequence[Problem] = (),
    on_progress: Callable[[float], None] = lambda share: None,
) -> bool:
    """Train the policy in place, from the newest whole checkpoint or from the start. Return whether all steps are done.

    `problems` are those of a task that draws nothing. Metrics and checkpoints go to the run folder; the caller saves
    the adapter. `on_progress` gets the share of the steps that are done. A signal that waits for the end of the step
    makes this return False. A signal that breaks off a step raises Stopped. Raises SettingError where no golden
    completion is known, and where the run folder cannot be rewound to the checkpoint.
    """
    import trl
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from grpo_colab.training.callbacks import Share, StepLog
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.trainer import CheckpointMixin

    manager = CheckpointManager(run, recipe, signals, deadline=math.inf, mirror=None)

    class SFTTrainer(CheckpointMixin, trl.SFTTrainer):
        """TRL's trainer, with this package's checkpoints."""

        checkpoint_manager = manager
        trained_policy = policy

    arguments = trl.SFTConfig(**sft_arguments(recipe, run.checkpoints, device))
    arguments.num_iterations = 1  # GRPOConfig has this argument, and the checkpoint manager reads it
    trainer = SFTTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        args=arguments,
        train_dataset=Dataset.from_list(_examples(policy, recipe, problems)),
        callbacks=[StepLog(run), Share(on_progress), manager],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = rewind_to_checkpoint(run)
    with signals.in_training():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return manager.stopped_by is None


def _examples(policy: Policy, recipe: Recipe, problems: Sequence[Problem]) -> list[dict[str, list[int]]]:
    """Return a row of `input_ids` and `labels` for each example: a prompt, and the completion that is learnt.

    The prompt is the policy's own, and the completion ends with the end token, as in the training that follows. Rows
    that are longer than max_seq_length are cut.
    """
    settings, task = _settings(recipe), recipe.load_task()
    wanted = settings.steps * settings.batch_size
    chosen = task.problems("train", wanted) if _draws(recipe) else problems[:wanted]
    longest = recipe.model.get("max_seq_length", recipe.prompts.max_prompt_tokens + 768)
    rows = []
    for problem in chosen:
        golden = task.golden_completion(problem)
        if not _draws(recipe):
            golden = golden.rstrip()  # an answer ends with its last tag, as the rewards allow
        if not golden:
            raise SettingError(
                "has nothing to show: no right completion is known of this problem",
                setting="[pretraining]",
                remedy="take the table out, or add solutions to the data",
                place=problem.source or None,
            )
        prompt = policy.prompt_ids(task.messages(problem))
        completion = policy.tokenizer(golden, add_special_tokens=False)["input_ids"] + [policy.tokenizer.eos_token_id]
        labels = [NOT_LEARNT] * len(prompt) + completion
        rows.append({"input_ids": (prompt + completion)[:longest], "labels": labels[:longest]})
    return rows


def sft_arguments(recipe: Recipe, output: Path, device: Device) -> dict[str, Any]:
    """Return the arguments of SFTConfig. Checkpoints and logs go to `output`."""
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
        "max_length": None,  # the rows are cut already
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
        "save_steps": 500,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        # With neither of the two, Unsloth's trainer uses the precision of the model that it loaded.
        "bf16": False,
        "fp16": False,
        "use_cpu": device.kind == "cpu",
    }


def _draws(recipe: Recipe) -> bool:
    """Tell whether the task is a drawing."""
    return recipe.task["name"] == "drawing"


def _settings(recipe: Recipe) -> Pretraining:
    """Return the recipe's [pretraining], which it must have."""
    assert recipe.pretraining is not None
    return recipe.pretraining


def _deciding_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that decide what the adapter learns, by table. Seeds are left out: each draw has its own."""
    undecided = ("seed", "limit", "max_prompt_tokens") if _draws(recipe) else ("max_prompt_tokens",)
    task = {key: value for key, value in recipe.task.items() if key not in undecided}
    lora = {key: value for key, value in recipe.lora.items() if key != "random_state"}
    optimiser = {key: recipe.grpo.get(key) for key in OPTIMISER}
    return {
        "task": task,
        "model": without_secrets(recipe.model),
        "lora": lora,
        "grpo": optimiser,
        "pretraining": recipe.pretraining,
    }
