"""What runs out of memory: met in the first minute, and gone on with in smaller portions.

Before anything is asked or learnt, a step is rehearsed at the longest prompt and the full completion length, where
memory peaks; a completion that long might otherwise come after a hundred steps. What then does not fit is cut: the
micro-batch, or the completions that are generated together. Neither changes what a step learns from.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset

from grpo_colab.callbacks import over_bar
from grpo_colab.console import say
from grpo_colab.errors import SettingError, one_line
from grpo_colab.plan import GIB, Geometry
from grpo_colab.policy import Policy, free_memory, out_of_memory
from grpo_colab.recipe import Recipe
from grpo_colab.run import Run

# A rehearsal tells nobody, and leaves nothing.
QUIET = {"report_to": "none", "log_completions": False, "save_strategy": "no"}


def rehearse(
    learner: Policy,
    steps: int,
    recipe: Recipe,
    shape: Geometry,
    longest: dict[str, Any],
    arguments: Callable[[Path, Geometry], dict[str, Any]],
) -> tuple[Geometry, int]:
    """One step's work on the row with the longest prompt, at full length: how it is cut to fit, and nothing is learnt.

    Returns the step's geometry, and how many completions are generated together (0: all of a step's). `steps` are left
    to be trained, without which there is nothing to try; `arguments` makes GRPOConfig's, of a folder and a geometry.
    """
    portion = 0
    while recipe.budget.rehearsal and steps > 0:
        with tempfile.TemporaryDirectory() as folder:
            trainer = rehearsing(portioned(trl.GRPOTrainer, portion))(
                model=learner.model,
                processing_class=learner.tokenizer,
                reward_funcs=[_nothing] * len(recipe.rewards),
                args=trl.GRPOConfig(**{**arguments(Path(folder), shape), **QUIET}),
                train_dataset=Dataset.from_list([longest] * shape.prompts_per_step),
            )
            fits = False
            try:
                trainer.train()
            except Rehearsed:
                fits = True
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if not can_be_cut(shape):
                    raise too_large(error, shape, learner) from error
            portion = trainer.at_once
            dismiss(trainer)
            del trainer  # and with it all that it holds, before another is made
        if fits:
            say(f"A step fits at the longest prompt and {recipe.grpo['max_completion_length']} tokens{peak()}.")
            break
        shape = smaller(shape, recipe)
    return shape, portion


def peak() -> str:
    """What the process has taken of a GPU at most, vLLM's engine apart."""
    return f", in {torch.cuda.max_memory_reserved() / GIB:.1f} GiB" if torch.cuda.is_available() else ""


def dismiss(trainer: Any) -> None:
    """Give the model back as it was before a trainer took it: its gradients, mixed precision and reference adapter."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    model.zero_grad()
    if "ref" in model.peft_config:  # which the next trainer makes again, or takes from its checkpoint
        model.delete_adapter("ref")


def can_be_cut(shape: Geometry) -> bool:
    """Among several processes one alone may be out of memory, and the others wait for it."""
    return shape.processes == 1 and shape.micro_batch > 1


def smaller(shape: Geometry, recipe: Recipe) -> Geometry:
    """The next smaller micro-batch, after one that was out of memory."""
    free_memory()
    share = shape.micro_batch * shape.accumulation
    half = max(size for size in range(1, shape.micro_batch // 2 + 1) if share % size == 0)
    cut = dataclasses.replace(shape, micro_batch=half, accumulation=share // half)
    say(f"Out of memory with budget.micro_batch = {shape.micro_batch}: now {cut}, which learns the same from a step.")
    if recipe.grpo.get("loss_type") == "bnpo":
        say("Warning: grpo.loss_type = 'bnpo' weighs by micro-batch, so that what it learns changes a little with it")
    return cut


def too_large(error: BaseException, shape: Geometry, learner: Policy, run: Run | None = None) -> SettingError:
    """What to write where a step does not fit, and no smaller micro-batch can be tried from here."""
    ways = ["a smaller grpo.max_completion_length", "a smaller lora.r"]
    if shape.micro_batch > 1:
        ways.insert(0, f"budget.micro_batch below {shape.micro_batch}")
    if getattr(learner.model, "vllm_engine", None) is not None:
        ways.append("a smaller model.gpu_memory_utilization")
    go_on = f". Go on with: {run.resume_command}" if run else ""
    return SettingError(
        f"budget.micro_batch = {shape.micro_batch}: out of memory ({one_line(error)}); write {', or '.join(ways)} "
        f"(`grpo-colab plan` says what each needs){go_on}"
    )


class Rehearsed(Exception):
    """The end of a rehearsal: no step follows it."""


def portioned(trainer_class: type, at_once: int = 0) -> type:
    """The trainer's class, stock or Unsloth's, which generates in portions from when on memory asks for it.

    `at_once` is the number of completions to begin with, 0 all of a step's; the trainer's attribute of that name has
    the number that fitted.
    """

    class Portioned(trainer_class):
        def _generate_single_turn(self, prompt_ids: Any, images: Any, fields: Any, *rest: Any) -> Any:
            generate = super()._generate_single_turn
            if images or fields or self.use_vllm:  # vLLM makes its own portions
                return generate(prompt_ids, images, fields, *rest)
            return _in_portions(self, lambda some: generate(some, images, fields, *rest), prompt_ids)

    Portioned.__name__ = trainer_class.__name__
    Portioned.at_once = at_once
    return Portioned


def rehearsing(trainer_class: type) -> type:
    """The trainer's class, whose `train` does one step's work at full length, and ends with Rehearsed.

    It learns nothing.
    """

    class Rehearsing(trainer_class):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            if getattr(self, "generation_config", None) is not None:
                self.generation_config.min_new_tokens = self.max_completion_length
            # the optimiser's moments come with a step's end: 8-bit ones take a byte each, paged ones can leave
            optim = str(self.args.optim)
            moments = 0 if "paged" in optim else 2 if "8bit" in optim else 8
            learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
            held = torch.empty(moments * learning, dtype=torch.uint8, device=self.args.device)
            super().training_step(model, inputs, *rest)
            del held
            raise Rehearsed

        def _generate_single_turn(self, prompt_ids: Any, *rest: Any) -> Any:
            """A policy that knows when to stop would hide what a long completion costs, so that each is filled up."""
            ids, logprobs = super()._generate_single_turn(prompt_ids, *rest)
            filler, length = prompt_ids[0][-1], self.max_completion_length
            ids = [said + [filler] * (length - len(said)) for said in ids]
            return ids, logprobs and [each + each[-1:] * (length - len(each)) for each in logprobs]

    Rehearsing.__name__ = trainer_class.__name__
    return Rehearsing


def _nothing(completions: list[Any], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def _in_portions(trainer: Any, generate: Callable[[Any], Any], prompt_ids: list[Any]) -> Any:
    while True:
        size = trainer.at_once or len(prompt_ids)
        try:
            parts = [generate(prompt_ids[start : start + size]) for start in range(0, len(prompt_ids), size)]
            return [said for ids, _ in parts for said in ids], parts[0][1]
        except RuntimeError as error:
            if size == 1 or not out_of_memory(error):
                raise
        free_memory()
        trainer.at_once = (size + 1) // 2
        over_bar(
            f"Out of memory: {trainer.at_once} of a step's {len(prompt_ids)} completions are generated together from "
            "now on."
        )
