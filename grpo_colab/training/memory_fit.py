"""Make a step fit the memory: try the longest one first, and cut it into smaller micro-batches when it does not fit.

The first completion of full length may come after a hundred steps. So before the evaluation and the training, one step
is tried at the longest prompt and the full completion length, where memory peaks. When it does not fit, the micro-batch
gets smaller, or fewer completions are generated together. Neither changes what a step learns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from grpo_colab.errors import SettingError, one_line
from grpo_colab.plan import GIB
from grpo_colab.training.step_watch import StepWatch
from grpo_colab.training.trainer import DryRunDone, build_dry_run
from grpo_colab.utils.console import info, warn
from grpo_colab.utils.memory import free_memory, out_of_memory

if TYPE_CHECKING:
    from grpo_colab.runs.run import Run
    from grpo_colab.training.phases import Phases
    from grpo_colab.training.setup import GRPOSetup
    from grpo_colab.utils.stage import Stage


def dry_run_longest_step(setup: GRPOSetup, longest: dict[str, Any], phases: Phases) -> GRPOSetup:
    """Try one step on the row with the longest prompt, at full completion length, and return the setup cut to fit.

    `longest` is that row of the training set. Nothing is learned. What fits, and each cut, is printed. Raises
    SettingError when the step does not fit and `can_be_cut` is false; other errors of the step are raised as they are.
    """
    began = time.monotonic()
    tokens = setup.recipe.grpo["max_completion_length"]
    title = f"Trying the longest step, of {tokens} tokens per completion"
    fits = False
    while not fits:
        with contextlib.ExitStack() as held:
            folder = held.enter_context(tempfile.TemporaryDirectory())
            shown = held.enter_context(phases.library_stage("dry run", title, drop=True))
            trainer = build_dry_run(setup, longest, Path(folder))
            # It learns from one micro-batch, like which all others are.
            watch = StepWatch(trainer.model, tokens, 1, partial(show_share, shown))
            held.callback(watch.close)
            try:
                trainer.train()
            except DryRunDone:
                fits = True
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if not can_be_cut(setup):
                    raise out_of_memory_error(error, setup) from error
            setup = dataclasses.replace(setup, generation_batch=trainer.generation_batch)
            release_model(trainer)
            del trainer  # free its memory before the next one is built
        if not fits:
            setup = smaller(setup)
    took = f" (tried in {time.monotonic() - began:.0f} s)"
    info(f"A step fits at the longest prompt and {tokens} tokens{gpu_peak()}{took}.")
    return setup


def show_share(shown: Stage, watch: StepWatch) -> None:
    """Show how far the step is."""
    shown.update(watch.share)


def gpu_peak() -> str:
    """Return the peak of GPU memory as text for a line, without that of vLLM's engine; "" without a GPU."""
    return f", in {torch.cuda.max_memory_reserved() / GIB:.1f} GiB" if torch.cuda.is_available() else ""


def release_model(trainer: Any) -> None:
    """Remove gradients, mixed precision and the reference adapter from a trainer's model, in place.

    Another trainer can then take the model.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    model.zero_grad()
    if "ref" in model.peft_config:  # the next trainer makes it again, or takes it from its checkpoint
        model.delete_adapter("ref")


def can_be_cut(setup: GRPOSetup) -> bool:
    """Tell whether a smaller micro-batch can be tried. Among several processes it cannot: the others would wait."""
    return setup.batch_plan.processes == 1 and setup.batch_plan.micro_batch > 1


def smaller(setup: GRPOSetup) -> GRPOSetup:
    """Return the setup with the largest micro-batch that divides the step and is at most half of the present one.

    Frees memory, and prints the change. Raises ValueError for a micro-batch of 1: ask `can_be_cut` before.
    """
    free_memory()
    plan = setup.batch_plan
    completions = plan.micro_batch * plan.accumulation
    half = max(size for size in range(1, plan.micro_batch // 2 + 1) if completions % size == 0)
    cut = dataclasses.replace(plan, micro_batch=half, accumulation=completions // half)
    info(f"Out of memory with budget.micro_batch = {plan.micro_batch}: now {cut}, which learns the same from a step.")
    if setup.recipe.grpo.get("loss_type") == "bnpo":
        warn("grpo.loss_type = 'bnpo' weighs by micro-batch, so that what it learns changes a little with it")
    return dataclasses.replace(setup, batch_plan=cut)


def out_of_memory_error(error: BaseException, setup: GRPOSetup, run: Run | None = None) -> SettingError:
    """Return the refusal of a step that does not fit, when no smaller micro-batch can be tried from here.

    The caller raises it. With a `run`, it also says how to resume that one.
    """
    micro_batch = setup.batch_plan.micro_batch
    ways = ["a smaller grpo.max_completion_length", "a smaller lora.r"]
    if micro_batch > 1:
        ways.insert(0, f"budget.micro_batch below {micro_batch}")
    if getattr(setup.policy.model, "vllm_engine", None) is not None:
        ways.append("a smaller model.gpu_memory_utilization")
    resume = f". Go on with: {run.resume_command}" if run else ""
    return SettingError(
        f"out of memory ({one_line(error)})",
        setting="budget.micro_batch",
        value=micro_batch,
        remedy=f"write {', or '.join(ways)} (`grpo-colab plan` says what each needs){resume}",
    )
