"""Stop a run before it goes on into nonsense: on a value that is not finite, or a KL, length or text that runs away.

Each tripwire is a setting of [tripwires]. A healthy run trips none. `collapse` takes the run back to its best
checkpoint first, and stops it the second time: see collapse.py. Warnings, which stop nothing, are in metric_alerts.py.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from accelerate.utils import gather_object
from torch.nn.utils import get_total_norm
from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.runs import checkpoints
from grpo_colab.runs.collapse import read_return
from grpo_colab.runs.records import is_step_row, reaches
from grpo_colab.training.collapse import CollapseRule
from grpo_colab.training.distributed import broadcast_from_main
from grpo_colab.training.endings import Tripped

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe import schema
    from grpo_colab.runs.run import Run

OVERFLOWS: Final = 10  # consecutive steps that a loss scaler may skip: this is how it finds its scale on float16
KL_STEPS: Final = 3  # consecutive steps above max_kl that trip
WINDOW: Final = 10  # steps that a completion length is averaged over, at the start and now
SAMPLES: Final = 4  # completions that are scored under the base model
# Samples are scored after each of the first FIRST steps, later after every EVERY-th step.
FIRST: Final = 4
EVERY: Final = 20


class Finding(NamedTuple):
    """What tripped: a setting of [tripwires], the last step with good weights, the numbers, and a sentence."""

    wire: str
    last_good_step: int
    seen: dict[str, Any]
    description: str


class Tripwires(TrainerCallback):
    """Stop a run at the step that trips, with the reason in `tripped` and in the run's tripwire.json.

    Gradients are checked before they reach the weights; there Tripped is raised, in every process. What a step's
    metrics show stops the run after that step, and no checkpoint of it is saved. Set `trainer` once it is built.

    `collapse` is the rule of tripwires.collapse, None where that is off. The first collapse of a run leaves its record
    for `runs.collapse.go_back` in `goes_back`, and no tripwire.json, if there is a checkpoint to go back to.
    """

    def __init__(
        self, settings: schema.Tripwires, run: Run, policy: Policy, collapse: CollapseRule | None = None
    ) -> None:
        self.settings, self.run, self.policy, self.collapse = settings, run, policy, collapse
        self.goes_back: dict[str, Any] | None = None
        self.is_best = False  # whether the last step is the best so far, by the rule
        self.trainer: Any = None
        self.tripped: Tripped | None = None
        self.rows: list[Mapping[str, Any]] = []
        # Nats per token of the first step's completions under the base model: no update has touched them.
        self.baseline: float | None = None
        self.overflows = 0  # consecutive steps with a gradient that is not finite

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Read the metrics before a resumed step, and score the run's first samples again.

        The first step after a return to the best checkpoint gets the metric `collapse/at_step`, for the trackers.
        """
        self.rows = [row for row in self.run.metrics() if row["step"] <= state.global_step]
        if self.collapse is not None:
            for row in self.rows:
                self.collapse.update(row)
            returned = read_return(self.run)
            if returned is not None and returned.back_to == state.global_step:
                self.trainer.add_metrics(**{"collapse/at_step": returned.step})
        if self.rows and self.settings.gibberish:
            first = self.rows[0]["step"]
            self.baseline = self._nats_under_base([row for row in self.run.completions() if row["step"] == first])

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, optimizer: Any, **kwargs: Any
    ) -> None:
        """Raise Tripped for a gradient that is not finite. A loss scaler may skip OVERFLOWS - 1 such steps in a row.

        tripwire.json is written before. Nothing is checked with tripwires.non_finite = false.
        """
        if not self.settings.non_finite:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        largest = float(get_total_norm(gradients, math.inf))  # one norm of all: the GPU is waited for only once
        self.overflows = 0 if math.isfinite(largest) else self.overflows + 1
        allowed = OVERFLOWS if self._has_loss_scaler() else 1
        if self.overflows < allowed:
            return
        times = f" {self.overflows} times in a row" if self.overflows > 1 else ""
        # The weights may have been bad before this gradient. The samples tell.
        bad_already = self.settings.gibberish and self._is_gibberish(self._nats_under_base(self._samples()))
        last_good_step = self._last_good_step() if bad_already else state.global_step
        seen = {"largest_gradient": str(largest)}
        finding = Finding("non_finite", last_good_step, seen, f"the gradient was {largest}{times}")
        raise self._trip(state.global_step + 1, finding)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> TrainerControl:
        """Stop the run, without saving, when the step's metrics trip.

        Then tripwire.json is written, or the record of the run's only return is left in `goes_back`. Nothing is raised.
        A step that is the best so far is saved where tripwires.collapse is on.
        """
        if logs is None or not is_step_row(logs):
            return control
        step = state.global_step
        self.rows.append({"step": step, **logs})
        collapsed = self._collapse()
        # A collapse comes before what else it may trip, since those end the run.
        finding = self._non_finite() or collapsed or self._kl() or self._length() or self._gibberish()
        if finding:
            control.should_save, control.should_training_stop = False, True
            if finding is collapsed:
                self.goes_back = broadcast_from_main(self._return(step, finding))
            if self.goes_back is None:
                self._trip(step, finding)
        elif self.is_best:
            control.should_save = True
        return control

    def explain(self, error: RuntimeError) -> Tripped | None:
        """Return the tripwire behind an error of the training, None where there is none.

        After an update that left NaN in the weights, sampling fails: torch finds no finite probability. Then
        tripwire.json is written, and `tripped` is set. None also with tripwires.non_finite = false.
        """
        if not self.settings.non_finite or "probability tensor contains" not in str(error):
            return None
        step = self.trainer.state.global_step + 1
        seen = {"probabilities": "nan"}
        finding = Finding("non_finite", max(0, step - 2), seen, "the policy's probabilities were NaN")
        return self._trip(step, finding)

    def _has_loss_scaler(self) -> bool:
        return getattr(self.trainer.accelerator, "scaler", None) is not None

    def _non_finite(self) -> Finding | None:
        """Return a finding when the last step's loss, reward, KL or gradient norm is NaN or infinite."""
        if not self.settings.non_finite:
            return None
        row = self.rows[-1]
        keys = ["loss", "reward", "kl"]
        if not self._has_loss_scaler():  # a scaler skips a step whose gradients are not finite, on purpose
            keys.append("grad_norm")
        for key in keys:
            value = row.get(key, 0.0)
            # A KL of None was NaN, which TRL leaves out of its means. A reward of None is no error: no reward
            # function could judge the completions.
            if value is None and key == "kl":
                value = math.nan
            if value is not None and not math.isfinite(value):
                return Finding("non_finite", row["step"] - 1, {key: str(value)}, f"{key} was {value}")
        return None

    def _kl(self) -> Finding | None:
        """Return a finding when the KL was above max_kl for KL_STEPS consecutive steps."""
        limit = self.settings.max_kl
        recent = [row.get("kl") or 0.0 for row in self.rows[-KL_STEPS:]]
        if not limit or len(recent) < KL_STEPS or not all(kl > limit for kl in recent):
            return None
        last_good_step = self.rows[-KL_STEPS - 1]["step"] - 1 if len(self.rows) > KL_STEPS else 0
        values = ", ".join(f"{kl:.3g}" for kl in recent)
        description = f"the KL to the base model was {values} nats per token"
        return Finding("max_kl", last_good_step, {"kl": recent}, description)

    def _length(self) -> Finding | None:
        """Return a finding when completions grew beyond max_length_growth without earning more than at first.

        The means of the last WINDOW steps are compared with those of the first WINDOW. None before there are twice as
        many.
        """
        limit = self.settings.max_length_growth
        lengths, rewards = [], []
        for row in self.rows:
            length, reward = row.get("completions/mean_length"), row.get("reward")
            if length is not None and reward is not None:
                lengths.append(length)
                rewards.append(reward)
        if not limit or len(lengths) < 2 * WINDOW:
            return None
        first_length, first_reward = fmean(lengths[:WINDOW]), fmean(rewards[:WINDOW])
        length, reward = fmean(lengths[-WINDOW:]), fmean(rewards[-WINDOW:])
        if length <= limit * first_length or reward > first_reward:  # growth that pays is reasoning
            return None
        seen = {
            "length_at_first": first_length,
            "length": length,
            "reward_at_first": first_reward,
            "reward": reward,
        }
        description = (
            f"completions had {length:.0f} tokens (at first {first_length:.0f}), reward {reward:.3g} "
            f"({first_reward:.3g})"
        )
        return Finding("max_length_growth", self.rows[-1]["step"] - 1, seen, description)

    def _collapse(self) -> Finding | None:
        """Return a finding when the step's row completes a collapse by the rule. The main process decides for all."""
        if self.collapse is None:
            return None
        row = self.rows[-1]
        fall = self.collapse.update(row)
        self.is_best = self.collapse.best is not None and self.collapse.best.step == row["step"]
        if fall is not None and reaches(row, self.run.table("budget").get("stop_at_reward")):
            fall = None  # the run is solved
        fall, self.is_best = broadcast_from_main((fall, self.is_best))
        return Finding("collapse", fall.best_step, fall.seen, fall.description) if fall is not None else None

    def _return(self, step: int, finding: Finding) -> dict[str, Any] | None:
        """Return the record of a return to the best checkpoint, for `runs.collapse.go_back`.

        None where the run has gone back once already, and where it has no checkpoint of the best step or before. There
        is one of the best step, unless it could not be written, or the tripwire was off until then.
        """
        saved = [checkpoints.step_of(checkpoint) for checkpoint in checkpoints.saved(self.run.checkpoints)]
        back_to = max((each for each in saved if each <= finding.last_good_step), default=None)
        if back_to is None or read_return(self.run) is not None:
            return None
        rate = self.trainer.args.learning_rate
        return {
            "step": step,
            "back_to": back_to,
            "what": finding.description,
            "learning_rate_before": rate,
            "learning_rate": rate / 2,
            "seen": finding.seen,
            "completions": self._samples()[:8],
        }

    def _gibberish(self) -> Finding | None:
        """Return a finding when the base model finds the step's samples far less likely than the first step's.

        The first step's samples set `baseline`. Samples are scored after each of the first FIRST steps, later after
        every EVERY-th step. None for all other steps.
        """
        rewarded_steps = sum("reward" in row for row in self.rows)
        if not self.settings.gibberish or "reward" not in self.rows[-1]:
            return None
        if rewarded_steps > FIRST and rewarded_steps % EVERY:
            return None
        nats = self._nats_under_base(self._samples())
        if rewarded_steps == 1:
            self.baseline = nats
        if not self._is_gibberish(nats):
            return None
        description = (
            f"its samples are worth {nats:.2f} nats per token to the base model, and were {self.baseline:.2f} at first"
        )
        return Finding("gibberish", self._last_good_step(), {"nats_at_first": self.baseline, "nats": nats}, description)

    def _last_good_step(self) -> int:
        """Return the last step whose weights were good, by the logged samples of the steps; 0 if there is none.

        Samples are not scored after every step, so gibberish is found some steps after it began.
        """
        logged = self.run.completions()
        for row in reversed(self.rows):
            nats = self._nats_under_base([sample for sample in logged if sample["step"] == row["step"]])
            if nats is not None and not self._is_gibberish(nats):
                return row["step"] - 1
        return 0

    def _is_gibberish(self, nats: float | None) -> bool:
        """Tell whether samples of `nats` per token lost more against the first ones than the setting allows.

        False where `nats` is None, or where the first ones were not scored.
        """
        return nats is not None and self.baseline is not None and self.baseline - nats > self.settings.gibberish

    def _nats_under_base(self, samples: Sequence[Mapping[str, Any]]) -> float | None:
        """Return the log-probability of up to SAMPLES samples under the base model, in nats per token.

        Every process scores a share of them and gets the mean over all. None where all samples are empty. The mean is
        over tokens: a bare number among answers with a chain of thought is no gibberish, yet in a mean over samples
        its one token would weigh as much as all the tokens of another sample.
        """
        pairs = [(sample["prompt"], sample["completion"]) for sample in samples if sample["completion"]]
        # evenly spaced, so that they come from several prompts
        chosen = pairs[:: max(1, len(pairs) // SAMPLES)][:SAMPLES]
        accelerator = self.trainer.accelerator
        share = chosen[accelerator.process_index :: accelerator.num_processes]
        scores = gather_object(self.policy.log_probabilities(share, base=True))
        tokens = sum(size for _, size in scores)
        return sum(nats * size for nats, size in scores) / tokens if tokens else None

    def _samples(self) -> list[dict[str, Any]]:
        """Return the step's completions, of all processes, as completions.jsonl has them.

        Only the prompt, the completion and the rewards of each are returned.
        """
        rows = self.trainer.step_completions()
        return [{key: row[key] for key in ("prompt", "completion", "rewards")} for row in rows]

    def _trip(self, step: int, finding: Finding) -> Tripped:
        """Write tripwire.json, and return the error that names the setting to change, which `tripped` keeps.

        Only the main process writes, and a file that cannot be written raises no error. `step` is the step that
        tripped.
        """
        setting = f"tripwires.{finding.wire}"
        limit = getattr(self.settings, finding.wire)
        samples = self._samples()[:8]
        suggestion = suggest_fix(finding.wire, self.trainer.args)
        record = {
            "wire": setting,
            "what": finding.description,
            "threshold": limit,
            "step": step,
            "last_good_step": finding.last_good_step,
            "seen": finding.seen,
            "suggestion": suggestion,
            "completions": samples,
        }
        if self.trainer.is_world_process_zero():
            with contextlib.suppress(OSError):  # a full disk must not hide what happened
                self.run.write_json("tripwire.json", record)
        wrote = f"; the policy wrote {' '.join(samples[0]['completion'].split())[:80]!r}" if samples else ""
        off_value = json.dumps(type(limit)())  # false or 0.0
        self.tripped = Tripped(
            f"at step {step} {finding.description}{wrote}",
            record,
            setting=setting,
            value=limit,
            remedy=f"{suggestion}; {setting} = {off_value} turns this off",
        )
        return self.tripped


def suggest_fix(wire: str, args: Any) -> str:
    """Return which settings to change after a tripwire of this name, with the trainer's present values.

    `wire` is a setting of [tripwires], such as "max_kl". `args` are the trainer's. Raises KeyError for an unknown name.
    """
    lower_rate = f"lower grpo.learning_rate (now {args.learning_rate:g}), say to {args.learning_rate / 4:.1g}"
    longest = args.max_completion_length
    overlong = f"soft_overlong_punishment(max_completion_len={longest}, soft_punish_cache={max(1, longest // 4)})"
    return {
        "non_finite": f"{lower_rate}, or grpo.max_grad_norm (now {args.max_grad_norm:g})"
        + (", or write model.dtype = 'bfloat16' where the GPU has it" if args.fp16 else ""),
        "max_kl": f"{lower_rate}, or raise grpo.beta (now {args.beta:g})",
        "max_length_growth": f"add the reward {overlong!r}, write grpo.mask_truncated_completions = true, or lower "
        f"grpo.max_completion_length (now {longest})",
        "gibberish": f"{lower_rate}; if the samples were like this from the start, check model.dtype, and whether "
        "the tokenizer has the right chat template",
        "collapse": f"{lower_rate}, or raise grpo.beta (now {args.beta:g}), which keeps the policy near the base model",
    }[wire]
