"""Combine several rewards into one, by weights, gates and a clip; every part is still logged by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import nearest
from grpo_colab.rewards.guard import guard
from grpo_colab.rewards.names import reward_key
from grpo_colab.rewards.parametrised import require
from grpo_colab.rewards.resolve import callable_name, is_async, reward_name

if TYPE_CHECKING:
    from inspect import Signature


class combine:
    """One reward that is the weighted sum of `parts`.

        combine([correctness_reward, strict_format_reward], weights=[1.0, 0.2],
                gates={"strict_format": "correctness"}, clip=(0.0, 1.0))

    `weights` are 1.0 each by default. `gates` maps the name of a part to that of its gate, another part. The part then
    counts only for completions for which the gate paid more than 0, whatever the gate's own weight and gate. `clip` is
    the lowest and the highest sum. `name` is the name of the metric. A part that gives None for a completion is left
    out of its sum, and a gate that gives None is shut. Where all parts give None, the combined reward is None.

    Where TRL passes `log_metric` and `log_extra`, each part's mean and standard deviation, before weight and gate, are
    logged as `rewards/<part>/mean` and `rewards/<part>/std`, and its values as a column of the completions table.

    Raises SettingError for settings that cannot work, and TypeError for a part that is async or no function. A call
    returns one number or None per completion. It raises RewardError for a part that breaks, as `guard` does.
    """

    def __init__(
        self,
        parts: Sequence[Callable[..., Any]],
        *,
        weights: Sequence[float] | None = None,
        gates: Mapping[str, str] | None = None,
        clip: tuple[float, float] | None = None,
        name: str = "combined_reward",
    ) -> None:
        require(len(parts) > 0, "parts", parts, "a list of one reward or more")
        for part in parts:
            if not callable(part) or is_async(part):
                raise TypeError(f"combine: a part is a function that is not async, got {part!r}")
        names = [reward_name(part) for part in parts]
        require(len(set(names)) == len(names), "parts", names, "parts of different names, which their metrics need")
        weights = [1.0] * len(parts) if weights is None else list(weights)
        require(len(weights) == len(parts), "weights", weights, f"one for each of {', '.join(names)}")
        require(all(math.isfinite(weight) for weight in weights), "weights", weights, "finite numbers")
        self.gates: dict[str, str] = {}
        for gated, gate in (gates or {}).items():
            self.gates[reward_key(gated)] = reward_key(gate)
        for gated, gate in self.gates.items():
            for part_name in (gated, gate):
                hint = nearest(part_name, names)
                instead = f"names of parts: {', '.join(names)}{'; ' if hint else ''}{hint}"
                require(part_name in names, "gates", gates, instead)
            require(gated != gate, "gates", gates, "another part as the gate; a part cannot open itself")
        require(clip is None or (len(clip) == 2 and clip[0] <= clip[1]), "clip", clip, "(lowest, highest)")
        self.parts, self.names, self.weights, self.clip = list(parts), names, weights, clip
        self.__name__ = name

    @property
    def __signature__(self) -> Signature:
        """Return a signature with each parameter that a part needs, and `**kwargs` for the rest of what TRL passes."""
        import inspect

        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        needed: dict[str, inspect.Parameter] = {}
        for part in self.parts:
            for parameter in inspect.signature(part).parameters.values():
                if parameter.kind in kinds and parameter.default is parameter.empty:
                    needed[parameter.name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return inspect.Signature([*needed.values(), inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        log_metric, log_extra = kwargs.get("log_metric"), kwargs.get("log_extra")
        paid: dict[str, list[float | None]] = {}
        for name, part in zip(self.names, self.parts, strict=True):
            # Each part has a guard of its own, since the clip would hide an infinity.
            values = paid[name] = guard(part)(completions=completions, **kwargs)
            judged = [value for value in values if value is not None]
            if log_metric is not None and judged:
                mean = math.fsum(judged) / len(judged)
                squares = math.fsum((value - mean) ** 2 for value in judged)
                log_metric(f"rewards/{callable_name(part)}/mean", mean)
                log_metric(f"rewards/{callable_name(part)}/std", math.sqrt(squares / max(1, len(judged) - 1)))
            if log_extra is not None:
                log_extra(name, values)
        sums = []
        for index in range(len(completions)):
            sums.append(self._sum({name: values[index] for name, values in paid.items()}))
        return sums

    def _sum(self, paid: Mapping[str, float | None]) -> float | None:
        """Return the weighted, gated and clipped sum of what the parts pay for one completion.

        `paid` maps the parts' names to what they pay. The sum is None where all parts give None, and 0.0 before the
        clip where none counts.
        """
        judged = {name: value for name, value in paid.items() if value is not None}
        if not judged:
            return None
        terms = []
        for name, weight in zip(self.names, self.weights, strict=True):
            gate_is_open = name not in self.gates or judged.get(self.gates[name], 0.0) > 0
            if name in judged and gate_is_open:
                terms.append(weight * judged[name])
        total = math.fsum(terms)
        return total if self.clip is None else min(max(total, self.clip[0]), self.clip[1])
