"""Say where a reward broke: its file and line, the lines that led there, and the completion that it was called with.

Training, the evaluation, `score`, `audit` and the adapters tell a broken reward in this one form:

    own.py:6: rewards.thin_reward: raised ZeroDivisionError: division by zero (at step 7, on completion 2 of 3: 'two')
      own.py:9, in thin_reward
        return [share(text) for text in texts]
      own.py:6, in share
        return 1 / len(text)

Frames of libraries, of TRL and of this package are left out, unless the reward is theirs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError, one_line, shown
from grpo_colab.rewards.arguments import is_column
from grpo_colab.rewards.names import reward_key
from grpo_colab.rewards.resolve import callable_name
from grpo_colab.text import masked, on_one_line

SEARCH_S: Final = 10.0  # for finding the completion on which a reward fails
MOST_FRAMES: Final = 4  # the last ones of a traceback
MOST_SOURCE: Final = 160  # characters of a line of source
_PACKAGE: Final = str(Path(__file__).resolve().parents[1]) + os.sep


class RewardError(SettingError):
    """Say that a reward broke its contract; `setting` names the reward, and `place` its file and line.

    `record` has the details: reward, step, what, index, of, alone, place, lines, traceback, and the completion with its
    columns. The step counts from 1, and is None outside of training. The index counts from 0, and is None where no
    single completion is to blame: then all completions are there. `of` is the number of completions in the call, and
    `alone` what became of them one by one. `lines` are the person's own lines of the traceback.
    """

    def __init__(self, problem: str = "", record: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self.record: Mapping[str, Any] = record or {}
        super().__init__(problem, **fields)

    def _sentence(self) -> str:
        """Return the message: the sentence of a SettingError, then the lines of code that led to the failure."""
        lines = [f"  {line}" for line in self.record.get("lines", ())]
        return "\n".join([super()._sentence(), *lines])


class Frame(NamedTuple):
    """One line of a traceback; `source` is empty where the file cannot be read."""

    file: str
    line: int
    name: str
    source: str

    @property
    def place(self) -> str:
        """Return `file:line`, with the path as seen from the current folder where the file is in it."""
        path = self.file
        with contextlib.suppress(OSError, ValueError):  # no current folder, or another drive
            relative = os.path.relpath(path)
            path = path if path.startswith("<") or relative.startswith(os.pardir) else relative
        return f"{path}:{self.line}"


def own_frames(error: BaseException, function: Callable[..., Any] | None = None) -> list[Frame]:
    """Return the frames of an error that are the person's own code, the innermost last, MOST_FRAMES at most.

    The file of `function` counts as the person's own, wherever it lies outside of this package.
    """
    import traceback

    definition = None if function is None else definition_of(function)
    own_file = None if definition is None or _of_this_package(definition.file) else definition.file
    frames: list[Frame] = []
    for summary in traceback.extract_tb(error.__traceback__):
        # The secrets are masked before the line is cut, since half a secret is no longer recognised as one.
        source = on_one_line(masked(summary.line or ""))
        source = source if len(source) <= MOST_SOURCE else f"{source[:MOST_SOURCE]}..."
        frame = Frame(summary.filename, summary.lineno or 0, summary.name, source)
        is_same_line = bool(frames) and frames[-1][:2] == frame[:2]  # a comprehension has a frame of its own
        if (frame.file == own_file or not _of_library(frame.file)) and not is_same_line:
            frames.append(frame)
    return frames[-MOST_FRAMES:]


def definition_of(function: Callable[..., Any]) -> Frame | None:
    """Return where a reward is defined, None where that is not in Python code."""
    import inspect

    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return None if code is None else Frame(code.co_filename, code.co_firstlineno, code.co_name, "")


def raised(error: BaseException) -> str:
    """Return what an error says on one line, as in `raised KeyError: 'x'`. An error that cannot say it is named."""
    try:
        return f"raised {one_line(error)}"
    except Exception:  # noqa: BLE001 - the person's own __str__ is broken, too
        return f"raised {type(error).__name__}, whose text cannot be read"


def place_of_error(error: BaseException) -> str | None:
    """Return file:line of the person's own code where an error was raised, None where it was in no such code."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return Frame(error.filename, error.lineno, "", "").place
    return next((frame.place for frame in own_frames(error)[-1:]), None)


def failure(
    function: Callable[..., Any],
    what: str,
    kwargs: Mapping[str, Any],
    index: int | None,
    alone: str = "",
    error: BaseException | None = None,
) -> dict[str, Any]:
    """Return the record of a failure, as RewardError has it.

    `what` says what the reward did, and `error` is what it raised, None for wrong rewards. `kwargs` are the arguments
    of the call. `index` counts from 0, None for all completions; `alone` then says what became of them one by one.
    """
    import traceback

    state = kwargs.get("trainer_state")
    frames = [] if error is None else own_frames(error, function)
    definition = definition_of(function)
    own_definition = [] if definition is None or _of_library(definition.file) else [definition]
    place = next((frame.place for frame in [*frames[-1:], *own_definition]), None)
    lines = []
    for frame in frames:
        lines += [f"{frame.place}, in {frame.name}", *([f"  {frame.source}"] if frame.source else [])]
    return {
        "reward": reward_key(callable_name(function)),
        "step": None if state is None else state.global_step + 1,
        "what": what,
        "index": index,
        "of": len(kwargs["completions"]),
        "alone": alone,
        "place": place,
        "lines": lines,
        # The failing completion with its columns, or all completions where no single one is to blame.
        **{key: value for key, value in one_of_batch(kwargs, index).items() if isinstance(value, Sequence)},
        "traceback": None if error is None else "".join(traceback.format_exception(error)),
    }


def told(record: Mapping[str, Any], places: Sequence[str] | None = None) -> str:
    """Return a record's failure as a problem: what the reward did, and on which completion, which is shortened.

    `places` are those of the completions in a file, such as file:line.
    """
    index, step = record["index"], record["step"]
    if places and index is not None:
        where = [places[index]]
    elif places:
        where = [places[0] if len(places) == 1 else f"{places[0]} to {places[-1].rpartition(':')[2]}"]
    else:
        where = ["outside of training" if step is None else f"at step {step}"]
    if index is not None:
        where.append(f"on completion {index + 1} of {record['of']}: {_shown(record['completions'][0])}")
    elif record["alone"]:
        where.append(record["alone"])
    return f"{record['what']} ({', '.join(where)})"


def one_of_batch(kwargs: Mapping[str, Any], index: int | None) -> dict[str, Any]:
    """Return TRL's arguments for one completion only, or for all where `index` is None; what is logged is dropped."""
    size = len(kwargs["completions"])
    alone: dict[str, Any] = {}
    for name, value in kwargs.items():
        if name in ("log_extra", "log_metric"):
            alone[name] = ignore
        elif index is not None and is_column(value, size):
            alone[name] = value[index : index + 1]
        else:
            alone[name] = value
    return alone


def ignore(name: str, value: Any) -> None:
    """Take what a reward logs, and drop it."""


class Search:
    """The search for the completion on which a reward raises: iterate over the calls with one completion each.

    Give what a call raises to `see`. Afterwards `index` is the first completion that raises the same error alone, from
    0, and None where there is none, or none was found within SEARCH_S seconds. `alone` then says what was seen.
    """

    def __init__(self, kwargs: Mapping[str, Any], error: Exception) -> None:
        self.kwargs, self.raised = kwargs, raised(error)
        self.index: int | None = None
        self.alone = ""
        self._at, self._deadline = 0, time.monotonic() + SEARCH_S
        self._other: tuple[int, str] | None = None  # the first completion that alone raises something else

    def __iter__(self) -> Iterator[dict[str, Any]]:
        size = len(self.kwargs["completions"])
        for self._at in range(size):
            yield one_of_batch(self.kwargs, self._at)
            if self.index is not None:
                return
            if self.seconds_left <= 0 and self._at + 1 < size:
                self.alone = f"on one of {size} completions, which was not found within {SEARCH_S:g} s"
                return
        if self._other is not None:
            at, other = self._other
            self.alone = f"on the batch of {size}; completion {at + 1} alone {other}"
        elif size == 1:
            self.alone = "on 1 completion, and not when it was called again"
        else:
            self.alone = f"only on the batch of {size}: it raises on no completion alone"

    @property
    def seconds_left(self) -> float:
        """Return how long the search may still take, in seconds."""
        return self._deadline - time.monotonic()

    def see(self, error: Exception) -> None:
        """Take what the reward raised for the present completion."""
        if raised(error) == self.raised:
            self.index = self._at
        elif self._other is None:
            self._other = (self._at, raised(error))


@functools.cache
def _library_folders() -> tuple[str, ...]:
    """Return the folders of Python's own modules and of installed packages, each with a separator at its end."""
    import sysconfig

    paths = sysconfig.get_paths()
    return tuple(os.path.realpath(paths[key]) + os.sep for key in ("stdlib", "purelib", "platlib"))


def _of_library(file: str) -> bool:
    """Tell whether a file is of Python, of an installed package or of this package. A notebook's cell is not."""
    if file.startswith("<frozen ") or _of_this_package(file):
        return True
    return os.path.realpath(file).startswith(_library_folders())


def _of_this_package(file: str) -> bool:
    return os.path.realpath(file).startswith(_PACKAGE)


def _shown(completion: Any) -> str:
    """Return a completion, or its last message, as an error shows it: its two ends where it is long."""
    if isinstance(completion, list) and completion and isinstance(completion[-1], Mapping):
        completion = completion[-1].get("content")
    return shown(completion, 200)
