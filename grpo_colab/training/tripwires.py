"""What stops a run before it goes on into nonsense: values that are not finite, and a KL, a length or a text that runs
away. Each wire is a setting of [tripwires]; a healthy run never meets one.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from accelerate.utils import gather_object
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.errors import SettingError
from grpo_colab.runs.records import is_step_row

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe import recipe
    from grpo_colab.runs.run import Run

OVERFLOWS: Final = 10  # steps in a row that a loss scaler may skip, which on float16 is how it finds its scale
KL_STEPS: Final = 3
WINDOW: Final = 10  # steps, at the start and now, that a length is the mean of
SAMPLES: Final = 4  # completions that are looked at under the base model
FIRST: Final = 4  # steps after each of which they are looked at; later on every EVERY steps
EVERY: Final = 20

Found = tuple[str, int, dict[str, Any], str]  # the wire, the last step with good weights, the numbers, the words


class Tripped(SettingError):
    """A tripwire stopped the run. `record` is what tripwire.json holds.

    Its `last_good_step` is the last whose weights are known to be good: a step's samples are those of the weights
    before it, so that a checkpoint may have been written of weights that were spoilt already.
    """

    def __init__(self, problem: str, record: Mapping[str, Any], **fields: Any) -> None:
        """`fields` are SettingError's: setting, value, remedy, place."""
        super().__init__(problem, **fields)
        self.record = record


class Tripwires(TrainerCallback):
    """Stops a run at the step that meets a wire, with the reason in `tripped` and in the run's tripwire.json.

    Gradients are looked at before they reach the weights: there Tripped is raised, in all processes alike. What is
    seen in a step's metrics stops the run after that step, which is not saved. Set `trainer` once it is made.
    """

    def __init__(self, settings: recipe.Tripwires, run: Run, policy: Policy) -> None:
        self.settings, self.run, self.policy = settings, run, policy
        self.trainer: Any = None
        self.tripped: Tripped | None = None
        self.rows: list[Mapping[str, Any]] = []
        self.baseline: float | None = None  # of the first step's completions, which no update has touched
        self.overflows = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.rows = [row for row in self.run.metrics() if row["step"] <= state.global_step]
        if self.rows and self.settings.gibberish:
            first = self.rows[0]["step"]
            self.baseline = self._under_base([row for row in self.run.completions() if row["step"] == first])

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, optimizer: Any, **kwargs: Any
    ) -> None:
        if not self.settings.non_finite:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        largest = float(get_total_norm(gradients, math.inf))  # one pass over all, and one wait for the GPU
        self.overflows = 0 if math.isfinite(largest) else self.overflows + 1
        if self.overflows >= (OVERFLOWS if self._scaled() else 1):
            often = f" {self.overflows} times in a row" if self.overflows > 1 else ""
            words = f"the gradient was {largest}{often}"
            spoilt = self.settings.gibberish and self._lost(self._under_base(self._samples()))
            good = self._good() if spoilt else state.global_step
            found = ("non_finite", good, {"largest_gradient": str(largest)}, words)
            raise self._trip(state.global_step + 1, found)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> TrainerControl:
        if logs is None or not is_step_row(logs):
            return control
        self.rows.append({"step": state.global_step, **logs})
        if found := self._non_finite() or self._kl() or self._length() or self._gibberish():
            self._trip(state.global_step, found)
            control.should_save, control.should_training_stop = False, True
        return control

    def explain(self, error: RuntimeError) -> Tripped | None:
        """The tripwire that an error of the training is: sampling fails where an update left no finite probability."""
        if not self.settings.non_finite or "probability tensor contains" not in str(error):
            return None
        step = self.trainer.state.global_step + 1
        found = ("non_finite", max(0, step - 2), {"probabilities": "nan"}, "the policy's probabilities were NaN")
        return self._trip(step, found)

    def _scaled(self) -> bool:
        return getattr(self.trainer.accelerator, "scaler", None) is not None

    def _non_finite(self) -> Found | None:
        # a scaler skips a step whose gradients are not finite, on purpose
        for key in ("loss", "reward", "kl", *(() if self._scaled() else ("grad_norm",))):
            value = self.rows[-1].get(key, 0.0)
            if value is None and key == "kl":  # TRL leaves NaN out of its means; a reward may be nobody's to give
                value = math.nan
            if self.settings.non_finite and value is not None and not math.isfinite(value):
                return "non_finite", self.rows[-1]["step"] - 1, {key: str(value)}, f"{key} was {value}"
        return None

    def _kl(self) -> Found | None:
        limit, seen = self.settings.max_kl, [row.get("kl") or 0.0 for row in self.rows[-KL_STEPS:]]
        if not limit or len(seen) < KL_STEPS or not all(kl > limit for kl in seen):
            return None
        good = self.rows[-KL_STEPS - 1]["step"] - 1 if len(self.rows) > KL_STEPS else 0
        words = f"the KL to the base model was {', '.join(f'{kl:.3g}' for kl in seen)} nats a token"
        return "max_kl", good, {"kl": seen}, words

    def _length(self) -> Found | None:
        limit, keys = self.settings.max_length_growth, ("completions/mean_length", "reward")
        pairs = [pair for row in self.rows if None not in (pair := tuple(row.get(key) for key in keys))]
        if not limit or len(pairs) < 2 * WINDOW:
            return None
        (first, paid_first), (last, paid) = (
            map(fmean, zip(*part, strict=True)) for part in (pairs[:WINDOW], pairs[-WINDOW:])
        )
        if last <= limit * first or paid > paid_first:  # growth that pays is reasoning
            return None
        seen = {"length_at_first": first, "length": last, "reward_at_first": paid_first, "reward": paid}
        words = f"completions had {last:.0f} tokens (at first {first:.0f}), reward {paid:.3g} ({paid_first:.3g})"
        return "max_length_growth", self.rows[-1]["step"] - 1, seen, words

    def _gibberish(self) -> Found | None:
        limit, seen = self.settings.gibberish, sum("reward" in row for row in self.rows)
        if not limit or "reward" not in self.rows[-1] or (seen > FIRST and seen % EVERY):
            return None
        now = self._under_base(self._samples())
        if seen == 1:
            self.baseline = now
        if not self._lost(now):
            return None
        words = f"its samples are worth {now:.2f} nats a token to the base model, and were {self.baseline:.2f} at first"
        return "gibberish", self._good(), {"nats_at_first": self.baseline, "nats": now}, words

    def _good(self) -> int:
        """The last step with good weights, by what was sampled between two looks: found only when it is too late."""
        said = self.run.completions()
        for row in reversed(self.rows):
            nats = self._under_base([sample for sample in said if sample["step"] == row["step"]])
            if nats is not None and not self._lost(nats):
                return row["step"] - 1
        return 0

    def _lost(self, nats: float | None) -> bool:
        return nats is not None and self.baseline is not None and self.baseline - nats > self.settings.gibberish

    def _under_base(self, samples: Sequence[Mapping[str, Any]]) -> float | None:
        """The nats a token of some samples under the base model, of each process's share; None where all are empty.

        Of all their tokens: one bare number among answers that are thought through is no gibberish, but as a mean over
        samples it would weigh as much as all the tokens of another.
        """
        said = [(sample["prompt"], sample["completion"]) for sample in samples if sample["completion"]]
        chosen = said[:: max(1, len(said) // SAMPLES)][:SAMPLES]  # of several prompts
        accelerator = self.trainer.accelerator
        share = chosen[accelerator.process_index :: accelerator.num_processes]
        values = gather_object(self.policy.log_probabilities(share, base=True))
        tokens = sum(size for _, size in values)
        return sum(nats * size for nats, size in values) / tokens if tokens else None

    def _samples(self) -> list[dict[str, Any]]:
        """The step's completions, of all processes, as completions.jsonl has them."""
        rows = self.trainer.step_completions()
        return [{key: row[key] for key in ("prompt", "completion", "rewards")} for row in rows]

    def _trip(self, step: int, found: Found) -> Tripped:
        wire, good, seen, words = found
        samples, limit, mended = self._samples()[:8], getattr(self.settings, wire), suggest_fix(wire, self.trainer.args)
        about = {"wire": f"tripwires.{wire}", "threshold": limit, "step": step, "last_good_step": good, "seen": seen}
        record = {**about, "suggestion": mended, "completions": samples}
        if self.trainer.is_world_process_zero():
            with contextlib.suppress(OSError):  # a full disk must not hide what happened
                self.run.write_json("tripwire.json", record)
        wrote = f"; the policy wrote {' '.join(samples[0]['completion'].split())[:80]!r}" if samples else ""
        off = f"tripwires.{wire} = {json.dumps(type(limit)())} turns this off"
        self.tripped = Tripped(
            f"at step {step} {words}{wrote}",
            record,
            setting=f"tripwires.{wire}",
            value=limit,
            remedy=f"{mended}; {off}",
        )
        return self.tripped


def suggest_fix(wire: str, args: Any) -> str:
    """Return what to write instead, with the trainer's present values."""
    slower = f"lower grpo.learning_rate (now {args.learning_rate:g}), say to {args.learning_rate / 4:.1g}"
    longest = args.max_completion_length
    overlong = f"soft_overlong_punishment(max_completion_len={longest}, soft_punish_cache={max(1, longest // 4)})"
    return {
        "non_finite": f"{slower}, or grpo.max_grad_norm (now {args.max_grad_norm:g})"
        + (", or write model.dtype = 'bfloat16' where the GPU has it" if args.fp16 else ""),
        "max_kl": f"{slower}, or raise grpo.beta (now {args.beta:g})",
        "max_length_growth": f"add the reward {overlong!r}, write grpo.mask_truncated_completions = true, or lower "
        f"grpo.max_completion_length (now {longest})",
        "gibberish": f"{slower}; where the model was so from the start, look at model.dtype, and whether its tokenizer "
        "has the right chat template",
    }[wire]
