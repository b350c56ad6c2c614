"""Say which rewards read gold answers, and read them all before a reward has to.

A reward that reads golds declares its reader by `reads_golds`. So a gold that it could not judge by is found before the
first step, in place of `None` for each completion of its problem. A reward without a reader, such as a user's own, is
not asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from grpo_colab.errors import SettingError

RewardT = TypeVar("RewardT", bound=Callable[..., Any])
Reader = Callable[[str], object]  # of one gold answer; raises ValueError, whose words show the gold
_READER: Final = "read_gold"  # the attribute that `reads_golds` sets


def reads_golds(reader: Reader) -> Callable[[RewardT], RewardT]:
    """Return a decorator that declares the reader of a reward's gold answers.

    `reader` raises ValueError for a gold that the reward cannot judge by. It must be picklable, as the reward is.
    """

    def declare(reward: RewardT) -> RewardT:
        setattr(reward, _READER, reader)
        return reward

    return declare


def gold_readers(reward: Callable[..., Any]) -> Iterator[Reader]:
    """Yield the readers of a reward's gold answers: its own, and those of the parts of a `combine`."""
    while isinstance(reward, functools.partial):
        reward = reward.func
    reader = getattr(reward, _READER, None)
    if callable(reader):
        yield reader
    parts = getattr(reward, "parts", ())  # of `combine`
    if isinstance(parts, list | tuple):
        for part in parts:
            yield from gold_readers(part)


def read_all(readers: Iterable[Reader], golds: Iterable[tuple[str, str]], **fields: Any) -> None:
    """Read each different gold once by every reader. Raise SettingError, with the place, for the first that is refused.

    `golds` are pairs of a gold and its place, of which the first counts. The error has the reader's words and `fields`.
    """
    places: dict[str, str] = {}
    for gold, place in golds:
        places.setdefault(gold, place)
    for read in readers:
        for gold, place in places.items():
            try:
                read(gold)
            except ValueError as error:
                raise SettingError(str(error), place=place or None, **fields) from None


def warn_of_gold(reward: str, error: ValueError) -> None:
    """Warn that the reward called `reward` cannot judge by a gold answer; `error` says which, and why."""
    import warnings

    warnings.warn(f"{reward}: {error}: it pays None for completions of this problem", stacklevel=2)
