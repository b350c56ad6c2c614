"""Several rewards as one: weights, gates and a clip, with every part still logged by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import nearest
from grpo_colab.rewards.guard import guard
from grpo_colab.rewards.parametrised import require
from grpo_colab.rewards.resolve import callable_name, is_async, reward_name

if TYPE_CHECKING:
    from inspect import Signature


class combine:
    """One reward that is the weighted sum of `parts`.

        combine([correctness_reward, strict_format_reward], weights=[1.0, 0.2],
                gates={"strict_format": "correctness"}, clip=(0.0, 1.0))

    `gates` maps a part to the part that opens it: it counts only for completions whose gate paid more than 0. `clip`
    bounds the sum. A part that gives None is left out of a completion's sum, with all of them None the sum is; a gate
    that gives None is shut. `name` is its metric's.

    Where TRL passes `log_metric` and `log_extra`, each part's mean and spread, before weight and gate, are logged as
    `rewards/<part>/mean` and `rewards/<part>/std`, and its values in a column of the completions table. Raises
    ValueError for settings that cannot work, TypeError for a part that is no function or an async one, and RewardError
    for one that breaks, as `guard` does.
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
        self.gates = {k.removesuffix("_reward"): v.removesuffix("_reward") for k, v in (gates or {}).items()}
        for gated, gate in self.gates.items():
            for part_name in (gated, gate):
                known = part_name in names
                require(known, "gates", gates, f"names of parts: {', '.join(names)}{nearest(part_name, names)}")
            require(gated != gate, "gates", gates, "another part as the gate; a part cannot open itself")
        require(clip is None or (len(clip) == 2 and clip[0] <= clip[1]), "clip", clip, "(lowest, highest)")
        self.parts, self.names, self.weights, self.clip = list(parts), names, weights, clip
        self.__name__ = name

    @property
    def __signature__(self) -> Signature:
        """What the parts need, each once, and the rest of what TRL passes."""
        import inspect

        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        needed = {
            parameter.name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for part in self.parts
            for parameter in inspect.signature(part).parameters.values()
            if parameter.kind in kinds and parameter.default is parameter.empty
        }
        return inspect.Signature([*needed.values(), inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])

    def __call__(self, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
        log_metric, log_extra = kwargs.get("log_metric"), kwargs.get("log_extra")
        paid: dict[str, list[float | None]] = {}
        for name, part in zip(self.names, self.parts, strict=True):
            values = paid[name] = guard(part)(completions=completions, **kwargs)  # a clip would hide an infinity
            judged = [value for value in values if value is not None]
            if log_metric is not None and judged:
                mean = math.fsum(judged) / len(judged)
                squares = math.fsum((value - mean) ** 2 for value in judged)
                log_metric(f"rewards/{callable_name(part)}/mean", mean)
                log_metric(f"rewards/{callable_name(part)}/std", math.sqrt(squares / max(1, len(judged) - 1)))
            if log_extra is not None:
                log_extra(name, values)
        return [self._sum({name: values[index] for name, values in paid.items()}) for index in range(len(completions))]

    def _sum(self, paid: Mapping[str, float | None]) -> float | None:
        judged = {name: value for name, value in paid.items() if value is not None}
        if not judged:
            return None
        total = math.fsum(
            weight * judged[name]
            for name, weight in zip(self.names, self.weights, strict=True)
            if name in judged and (name not in self.gates or judged.get(self.gates[name], 0.0) > 0)
        )
        return total if self.clip is None else min(max(total, self.clip[0]), self.clip[1])
