"""Build the trainer: trl.GRPOTrainer, or the class that Unsloth puts in its place, with mixins for what a run needs.

Only this file and the other trainer_*.py know the private names and habits of TRL's and transformers' trainers. Other
files use the mixins' public methods.

    CheckpointMixin         checkpoints are written whole, and read in full
    StepTimingMixin         a step's seconds and memory, beside TRL's metrics
    MergedGenerationMixin   completions are generated with the adapter merged, where that is exact (trainer_sampling.py)
    ChunkedGenerationMixin  completions are generated in smaller chunks when memory runs out
    PrecisionMixin          the adapter is trained in the precision that it was loaded in (in trainer_precision.py)
    SamplingMixin           a step learns from the groups that [sampling] chooses (in trainer_sampling.py)
    RowsMixin               the rows of the training set, as they are (in trainer_rows.py)
    CompletionLogMixin      a step's completions with their rewards, as rows (in trainer_rows.py)
    TrackerMixin            completions go to the trackers, and a failing table does not end the run
    DryRunMixin             one step at full length, from which nothing is learned

`build_trainer` defines the class itself: the name `trl.GRPOTrainer` must be looked up after Unsloth, which has to be
imported before trl, has replaced it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import one_line
from grpo_colab.plan import GIB
from grpo_colab.policy.policy import Policy
from grpo_colab.policy.turns import end_tokens
from grpo_colab.recipe.settings_search import without_secrets
from grpo_colab.rewards import guard
from grpo_colab.training.tracking import table_arguments
from grpo_colab.training.trainer_precision import PrecisionMixin
from grpo_colab.training.trainer_rows import CompletionLogMixin, Kept, RowsMixin, index_column
from grpo_colab.training.trainer_sampling import MergedGenerationMixin, ReplayMixin, SamplingMixin, practice_of, rows_of
from grpo_colab.utils import console
from grpo_colab.utils.memory import bytes_held, free_memory, out_of_memory

if TYPE_CHECKING:
    from trl import GRPOTrainer as Trainer  # the mixins' `super()`, once they are mixed in

    from grpo_colab.plan import BatchPlan
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.run import Run
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.setup import GRPOSetup
    from grpo_colab.training.tracking_callback import TrackerCallback
    from grpo_colab.utils.device import Device
else:
    Trainer = object


class CheckpointMixin(Trainer):
    """Write checkpoints through the run's CheckpointManager, and read them in full. For any transformers trainer."""

    checkpoint_manager: CheckpointManager
    trained_policy: Policy

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the current step. A failure is only a warning (`CheckpointManager.save`)."""
        self._save_checkpoint(self.model, trial=None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        write = super()._save_checkpoint
        self.checkpoint_manager.save(self, lambda: write(model, trial))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card among the checkpoints; the adapter has one. TRL calls this for each checkpoint."""

    def _get_output_dir(self, trial: Any) -> str:
        return self.checkpoint_manager.staging

    def _load_from_checkpoint(self, path: str, model: Any = None) -> None:
        super()._load_from_checkpoint(path, model)
        # transformers does not load the policy's adapter when there is a reference adapter as well.
        self.trained_policy.load_adapter(Path(path))

    def _load_scaler(self, checkpoint: Any) -> None:
        # A checkpoint of a T4, in float16, has the state of a loss scaler; bfloat16 has no scaler to take it.
        if getattr(self.accelerator, "scaler", None) is not None:
            super()._load_scaler(checkpoint)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        self.checkpoint_manager.sampler = super()._get_train_sampler(*args, **kwargs)
        return self.checkpoint_manager.sampler


class StepTimingMixin(Trainer):
    """Log where a step's time goes, and how much memory it took.

        time/generation_s   sampling the completions
        time/reward_s       the reward functions
        time/update_s       the rest of TRL's step_time: log probabilities, loss and gradients
        memory/peak_gib     the most so far: of torch's allocator on a GPU, else what the process held after a step

    Seconds are those of the main process. A step that learns from the completions of an earlier step generates none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._spent_s = {"generation": 0.0, "reward": 0.0}
        self._peak_bytes = 0
        super().__init__(*args, **kwargs)

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        return self._count_time("generation", super()._generate, *args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        return self._count_time("reward", super()._calculate_rewards, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        metrics = self._metrics["train"]
        steps_before = len(metrics["step_time"])
        result = super().training_step(*args, **kwargs)
        if len(metrics["step_time"]) > steps_before:  # this was the last of the step's micro-batches
            update_s = max(0.0, metrics["step_time"][-1] - sum(self._spent_s.values()))
            for name, seconds in {**self._spent_s, "update": update_s}.items():
                metrics[f"time/{name}_s"].append(seconds)
            self._spent_s = dict.fromkeys(self._spent_s, 0.0)
            self._peak_bytes = max(self._peak_bytes, bytes_held())
            metrics["memory/peak_gib"].append(self._peak_bytes / GIB)
        return result

    def _count_time(self, part: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what `work` returns, and add its seconds to a part of the step."""
        began = time.perf_counter()
        try:
            return work(*args, **kwargs)
        finally:
            self._spent_s[part] += time.perf_counter() - began


class TrackerMixin(Trainer):
    """Leave all reporting to `trackers`, a class attribute, and give them the step's completions as well.

    TRL also writes a table of the completions. An error there, such as a full disk or a column of mixed types, must
    not end the run.
    """

    trackers: TrackerCallback
    log_completions: bool  # TRL's attribute: whether it writes the table

    def __init__(self, *, args: Any, callbacks: list[Any], **kwargs: Any) -> None:
        args.report_to = []  # else TRL would call the trackers itself, without a time limit
        super().__init__(args=args, callbacks=[self.trackers, *callbacks], **kwargs)

    def log(self, logs: dict[str, Any], *arguments: Any) -> None:
        """Log as TRL does, which writes the table to a file, and give the step's completions to the trackers.

        After a failure to write the table, warn, and write no further one. Other errors are raised.
        """
        # A step has completions of its own unless it shares those of an earlier step. The final summary has none.
        fresh = "reward" in self._metrics["train"]
        tables = self.log_completions
        self.log_completions = tables and fresh
        try:
            super().log(logs, *arguments)
        except Exception as error:
            # TRL clears the metrics before it writes the table. An error before that is not the table's.
            if self._metrics["train"] or not self.log_completions:
                raise
            tables = False
            console.warn(f"the table of completions is off for the rest of this run ({one_line(error)})")
        finally:
            self.log_completions = tables
        if fresh and self.accelerator.is_main_process:
            self.trackers.log_completions(self, tables)

    def completion_columns(self) -> tuple[dict[str, list[Any]], list[Any], list[str]]:
        """Return the step's completions as the columns of a table, their images, and the names of reward columns."""
        logs = self._logs
        columns = {
            "step": [self.state.global_step] * len(logs["prompt"]),
            "prompt": list(logs["prompt"]),
            "completion": list(logs["completion"]),
            **logs["rewards"],
            **logs["extra"],
            "advantage": logs["advantages"],
        }
        return columns, list(logs["images"]), list(logs["rewards"])


@contextlib.contextmanager
def timings_to(trackers: TrackerCallback) -> Iterator[None]:
    """Send TRL's timings of each part of a step, in seconds, to the trackers while the block runs.

    TRL's timer has no hook: it calls the trackers' libraries itself, without a time limit. So the method that does so
    is replaced meanwhile. Nothing else of another library is replaced.
    """
    from trl.extras.profiling import ProfilingContext

    original = ProfilingContext._log_metrics

    def log_metrics(timer: Any, duration: float) -> None:
        if timer.is_main_process and timer.step is not None:  # only a trainer's own timer knows the step
            trackers.log_timing({f"{timer.metric_prefix}: {timer.name}": duration}, timer.step)

    ProfilingContext._log_metrics = log_metrics
    try:
        yield
    finally:
        ProfilingContext._log_metrics = original


class ChunkedGenerationMixin(Trainer):
    """Generate a step's completions in smaller chunks once memory runs out.

    `generation_batch` is the number of completions per chunk, 0 for all of a step's at once. It is halved whenever a
    chunk does not fit, which is printed, and stays so. Raises RuntimeError when a single completion does not fit.
    """

    generation_batch = 0

    def _generate_single_turn(self, prompt_ids: Any, images: Any, fields: Any, *rest: Any) -> Any:
        generate = super()._generate_single_turn
        if images or fields or self.use_vllm:  # vLLM makes chunks of its own
            return generate(prompt_ids, images, fields, *rest)
        while True:
            size = self.generation_batch or len(prompt_ids)
            try:
                chunks = [
                    generate(prompt_ids[start : start + size], images, fields, *rest)
                    for start in range(0, len(prompt_ids), size)
                ]
                completions = [ids for chunk, _ in chunks for ids in chunk]
                return completions, chunks[0][1]
            except RuntimeError as error:
                if size == 1 or not out_of_memory(error):
                    raise
            free_memory()
            self.generation_batch = (size + 1) // 2
            self._say_chunks(len(prompt_ids))

    def _say_chunks(self, completions: int) -> None:
        console.info(
            f"Out of memory: {self.generation_batch} of a step's {completions} completions are generated together "
            "from now on.",
            every_process=True,
        )


class DryRunDone(Exception):
    """Signal that a dry run has done its one step."""


class DryRunMixin(Trainer):
    """Make `train` do the work of one step at full length without learning from it, then raise DryRunDone."""

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
        import torch

        if getattr(self, "generation_config", None) is not None:
            self.generation_config.min_new_tokens = self.max_completion_length
        # The optimiser's moments come with a step's end. In 8 bits they take a byte each; paged ones can make room.
        optimiser = str(self.args.optim)
        bytes_each = 0 if "paged" in optimiser else 2 if "8bit" in optimiser else 8
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        moments = torch.empty(bytes_each * trained, dtype=torch.uint8, device=self.args.device)
        super().training_step(model, inputs, *rest)
        del moments
        raise DryRunDone

    def _generate_single_turn(self, prompt_ids: Any, *rest: Any) -> Any:
        """Pad each completion to full length: a policy that stops early would hide what a long completion costs."""
        completions, logprobs = super()._generate_single_turn(prompt_ids, *rest)
        filler, length = prompt_ids[0][-1], self.max_completion_length
        completions = [ids + [filler] * (length - len(ids)) for ids in completions]
        return completions, logprobs and [each + each[-1:] * (length - len(each)) for each in logprobs]


def build_trainer(setup: GRPOSetup, run: Run, checkpoints: CheckpointManager, tracker_callback: TrackerCallback) -> Any:
    """Return the trainer of a run, with the arguments that follow from the recipe, and all callbacks. Imports TRL."""
    import trl
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from grpo_colab.training.callbacks import Alarms, RunLog, UntilSolved
    from grpo_colab.training.probe import Probe
    from grpo_colab.training.progress import Progress

    recipe = setup.recipe
    rewards = recipe.reward_functions()
    # The sampler only draws whole steps of different prompts. With fewer rows than prompts per step, repeat the rows.
    rows = rows_of(setup, setup.rows * math.ceil(recipe.budget.prompts_per_step / len(setup.rows)))

    class GRPOTrainer(
        TrackerMixin,
        CheckpointMixin,
        StepTimingMixin,
        MergedGenerationMixin,
        ChunkedGenerationMixin,
        PrecisionMixin,
        SamplingMixin,
        RowsMixin,
        CompletionLogMixin,
        ReplayMixin,
        trl.GRPOTrainer,
    ):
        """The trainer of this run."""

        trackers = tracker_callback
        checkpoint_manager = checkpoints
        trained_policy = setup.policy
        training_rows = rows
        practice = practice_of(setup, rows)
        kept = Kept.of(rewards)
        generation_batch = setup.generation_batch

    GRPOTrainer.__name__ = trl.GRPOTrainer.__name__  # TRL's metrics hold it: Unsloth's class has another
    log, probe = RunLog(run), Probe(setup)
    trainer = GRPOTrainer(
        model=setup.policy.model,
        processing_class=setup.policy.tokenizer,
        reward_funcs=[guard(function, run.save_failure) for function in rewards],
        args=trl.GRPOConfig(**_arguments(setup, run.checkpoints)),
        train_dataset=Dataset.from_dict(index_column(rows)),
        callbacks=[log, probe, Alarms(run), UntilSolved(recipe.budget.stop_at_reward), Progress(run)],
    )
    log.trainer = probe.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # it prints each step's dict; Progress shows the same to a person
    return trainer


def build_dry_run(setup: GRPOSetup, longest: dict[str, Any], folder: Path) -> Any:
    """Return a trainer whose `train` tries one step on the row `longest`; it reports to nobody and keeps nothing.

    `folder` is an output folder that TRL asks for.
    """
    import trl
    from datasets import Dataset

    rows = [longest] * setup.batch_plan.prompts_per_step

    class DryRunTrainer(DryRunMixin, ChunkedGenerationMixin, PrecisionMixin, RowsMixin, trl.GRPOTrainer):
        """The trainer of this dry run."""

        trained_policy = setup.policy
        training_rows = rows
        generation_batch = setup.generation_batch

    arguments = {
        **_arguments(setup, folder),
        "report_to": "none",
        "log_completions": False,
        "save_strategy": "no",
    }
    return DryRunTrainer(
        model=setup.policy.model,
        processing_class=setup.policy.tokenizer,
        reward_funcs=[_no_reward] * len(setup.recipe.rewards),
        args=trl.GRPOConfig(**arguments),
        train_dataset=Dataset.from_dict(index_column(rows)),
    )


def _no_reward(completions: list[Any], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def _arguments(setup: GRPOSetup, output: Path) -> dict[str, Any]:
    """Return `grpo_arguments` of a setup. vLLM is told what ends an answer; elsewhere TRL reads it from the model."""
    arguments = grpo_arguments(setup.recipe, output, setup.batch_plan, setup.device)
    policy = setup.policy
    if getattr(policy.model, "vllm_engine", None) is not None:
        ends = {"stop_token_ids": end_tokens(policy.model, policy.tokenizer)}
        arguments["generation_kwargs"] = {**(arguments.get("generation_kwargs") or {}), **ends}
    return arguments


def grpo_arguments(recipe: Recipe, output: Path, batch_plan: BatchPlan, device: Device) -> dict[str, Any]:
    """Return GRPOConfig's arguments: defaults that suit a run folder, the recipe's own, and what follows from them.

    Each overrides those before. Checkpoints go to `output`. Access tokens are left out.
    """
    defaults: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 20,
        "save_total_limit": 2,
        "metric_for_best_model": "probe/accuracy" if recipe.evaluation.every else "reward",
        "logging_nan_inf_filter": False,  # it shows an earlier loss in place of NaN, and hides it from the tripwire
        **table_arguments(recipe.grpo),
        "disable_tqdm": True,
        "bf16": False,  # with neither, Unsloth's trainer takes the precision of the model that it loaded
        "fp16": False,
        "use_cpu": device.kind == "cpu",
        "ddp_find_unused_parameters": False,  # every matrix of an adapter is in every forward pass
    }
    derived: dict[str, Any] = {
        "output_dir": str(output),
        "max_steps": recipe.budget.max_steps,
        "reward_weights": list(recipe.rewards.values()),
        "logging_steps": 1,
        **batch_plan.as_grpo(),
    }
    # without tokens: the trainer writes its arguments into every checkpoint
    return {**defaults, **without_secrets(recipe.grpo), **derived}
