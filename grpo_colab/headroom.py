"""What runs out of memory: met in the first minute, and gone on with in smaller portions.

Before the first step of a run, one is rehearsed at the longest prompt and the full completion length, where memory
peaks; a completion that long might otherwise come after a hundred steps. What then does not fit is cut: the completions
that are generated together, here; the micro-batch, by train. Neither changes what a step learns from.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch

from grpo_colab.callbacks import over_bar, warn
from grpo_colab.policy import free_memory, out_of_memory

# What a step leaves in TRL's trainer, stock or Unsloth's, beside its gradients.
COUNTED = (
    *("_step", "_metrics", "_logs", "_total_train_tokens", "_current_train_step_time", "_pending_extra_logs"),
    *("_pending_metrics", "_last_world_entropy", "_entropy_window_stats"),
)


def rehearsing(trainer_class: type, row: dict[str, Any], done: Callable[[float], None]) -> type:
    """The trainer's class, stock or Unsloth's, with its first step rehearsed and its generation cut where it must be.

    `row` is the data set's row with the longest prompt; `done` is told the seconds that the rehearsal took.
    """

    class Rehearsing(trainer_class):
        rehearsed = rehearsal = False
        at_once = 0  # completions that are generated together; 0: all of a step's

        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            if not self.rehearsed:
                began = time.monotonic()
                rows = [row] * len(inputs)
                _rehearse(self, lambda: super(Rehearsing, self).training_step(model, rows, *rest))
                self.rehearsed = True
                done(time.monotonic() - began)
            return super().training_step(model, inputs, *rest)

        def _generate_single_turn(self, prompt_ids: Any, images: Any, fields: Any, *rest: Any) -> Any:
            generate = super()._generate_single_turn
            if images or fields or self.use_vllm:  # vLLM makes its own portions
                ids, logprobs = generate(prompt_ids, images, fields, *rest)
            else:
                ids, logprobs = _in_portions(self, lambda some: generate(some, images, fields, *rest), prompt_ids)
            if self.rehearsal:  # a policy that knows when to stop would hide what a long completion costs
                filler = prompt_ids[0][-1]
                ids = [said + [filler] * (self.max_completion_length - len(said)) for said in ids]
                logprobs = logprobs and [
                    each + each[-1:] * (self.max_completion_length - len(each)) for each in logprobs
                ]
            return ids, logprobs

    Rehearsing.__name__ = trainer_class.__name__
    return Rehearsing


def _rehearse(trainer: Any, step: Callable[[], Any]) -> None:
    """Run `step`, a forward and a backward pass at full length, and leave everything as it was."""
    before = {name: copy.deepcopy(vars(trainer)[name]) for name in COUNTED if name in vars(trainer)}
    tokens, rewards = trainer.state.num_input_tokens_seen, trainer.reward_funcs
    # the optimiser's moments come with the first step's end: 8-bit ones take a byte each, paged ones can leave
    optim, has_them = str(trainer.args.optim), bool(trainer.optimizer.state)
    moments = 0 if has_them or "paged" in optim else 2 if "8bit" in optim else 8
    learning = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    config = getattr(trainer, "generation_config", None)
    shortest = getattr(config, "min_new_tokens", None)
    cuda = trainer.args.device.type == "cuda"
    held = torch.empty(moments * learning, dtype=torch.uint8, device=trainer.args.device)
    try:
        trainer.rehearsal, trainer.reward_funcs = True, [_nothing] * len(rewards)
        if config is not None:
            config.min_new_tokens = trainer.max_completion_length
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            step()
    finally:
        del held
        trainer.rehearsal, trainer.reward_funcs = False, rewards
        if config is not None:
            config.min_new_tokens = shortest
        vars(trainer).update(before, _buffered_inputs=None)
        trainer.state.num_input_tokens_seen = tokens
        trainer.model.zero_grad()
    if trainer.accelerator.is_main_process:
        peak = f", {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB at its peak" if cuda else ""
        over_bar(f"A step at the longest prompt and {trainer.max_completion_length} tokens of completion fits{peak}.")


def _nothing(completions: list[Any], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def _in_portions(trainer: Any, generate: Callable[[Any], Any], prompt_ids: list[Any]) -> Any:
    """Generate for all the prompts, in smaller portions from when on memory asks for it."""
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
        step, group = trainer.state.global_step + 1, len(prompt_ids)
        warn(step, f"out of memory: {trainer.at_once} of its {group} completions are generated together from now on")
