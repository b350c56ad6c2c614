"""Pre-train a model on random drawings, supervised, so that it can draw before hindsight asks it for an image.

TRL's SFTTrainer gets prompts with the programs that answer them, and computes the loss on the programs only. The
adapter is kept in a run folder of its own, runs/<recipe>-pretraining, where each draw with the same recipe finds it.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError
from grpo_colab.policy.card import model_card
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.schema import Pretraining, without_secrets
from grpo_colab.runs.environment import keep_environment
from grpo_colab.runs.folders import RUNS, quote
from grpo_colab.runs.lock import locked
from grpo_colab.runs.resume import rewind_to_checkpoint
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.training.endings import PretrainingStopped
from grpo_colab.utils.console import info
from grpo_colab.utils.device import Device
from grpo_colab.utils.memory import free_memory

if TYPE_CHECKING:
    from grpo_colab.training.signals import Signals

# Settings of [grpo] that the pre-training uses as well. Those of the optimiser change what the adapter learns.
OPTIMISER = ("optim", "weight_decay", "max_grad_norm")
SHARED = (*OPTIMISER, "gradient_checkpointing", "seed")


def pretrained(recipe: Recipe, device: Device, run_for: Run | None) -> Path | None:
    """Return the folder of the recipe's pre-trained adapter, and train it first if it is missing.

    Return None when the recipe has no [pretraining], or one of 0 steps. `run_for` is the run that needs the adapter, if
    there is one already. The training is a run of its own, in runs/<recipe>-pretraining, and continues there if it was
    stopped. Raises SettingError when the folder holds the adapter of another model, task or pre-training, when another
    process trains in it, and when the adapter is missing under torchrun with several processes. Raises
    PretrainingStopped when a signal ended the training.
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

        info(f"Pre-training {recipe.model['model_name']} on random drawings, once, in {path} ...")
        keep_environment(run, wanted, device)
        policy = load_policy(wanted, device)
        with Signals() as signals, contextlib.suppress(Stopped), writing_to(run):
            if supervise(policy, run, wanted, device, signals):
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
    """Return the recipe of the pre-training's run folder: same model and adapter, but random drawings as the task.

    Its steps are those of [pretraining]. It has no [hindsight], no [sweep], no mirror and no reward to stop at.
    """
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


def supervise(policy: Policy, run: Run, recipe: Recipe, device: Device, signals: Signals) -> bool:
    """Train the policy in place, from the newest whole checkpoint or from the start. Return whether all steps are done.

    Metrics and checkpoints go to the run folder; the caller saves the adapter. A signal that waits for the end of the
    step makes this return False. A signal that breaks off a step raises Stopped. Raises SettingError where the run
    folder cannot be rewound to the checkpoint.
    """
    import trl
    from datasets import Dataset

    from grpo_colab.training.callbacks import StepLog
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.trainer import CheckpointMixin

    manager = CheckpointManager(run, recipe, signals, deadline=math.inf, mirror=None)

    class SFTTrainer(CheckpointMixin, trl.SFTTrainer):
        """TRL's trainer, with this package's checkpoints."""

        checkpoint_manager = manager
        trained_policy = policy

    settings, task = _settings(recipe), recipe.load_task()
    rows = []
    for problem in task.problems("train", settings.steps * settings.batch_size):
        program = {"role": "assistant", "content": task.golden_completion(problem)}
        rows.append({"prompt": task.messages(problem), "completion": [program]})
    arguments = trl.SFTConfig(**sft_arguments(recipe, run.checkpoints, device))
    arguments.num_iterations = 1  # GRPOConfig has this argument, and the checkpoint manager reads it
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
        "max_length": recipe.model.get("max_seq_length", recipe.prompts.max_prompt_tokens + 768),
        "completion_only_loss": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "metric_for_best_model": "loss",
        "greater_is_better": False,
        "save_steps": 500,
        "save_total_limit": 1,
        "report_to": "none",
        # With neither of the two, Unsloth's trainer uses the precision of the model that it loaded.
        "bf16": False,
        "fp16": False,
        "use_cpu": device.kind == "cpu",
    }


def _settings(recipe: Recipe) -> Pretraining:
    """Return the recipe's [pretraining], which it must have."""
    assert recipe.pretraining is not None
    return recipe.pretraining


def _deciding_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that decide what the adapter learns, by table. Seeds are left out: each draw has its own."""
    task = {key: value for key, value in recipe.task.items() if key not in ("seed", "limit", "max_prompt_tokens")}
    lora = {key: value for key, value in recipe.lora.items() if key != "random_state"}
    optimiser = {key: recipe.grpo.get(key) for key in OPTIMISER}
    return {
        "task": task,
        "model": without_secrets(recipe.model),
        "lora": lora,
        "grpo": optimiser,
        "pretraining": recipe.pretraining,
    }
