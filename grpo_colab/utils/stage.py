"""Show a long piece of work while it lasts: a bar with the time left on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from grpo_colab.utils import files
from grpo_colab.utils.console import Verbosity, info, stderr, verbosity
from grpo_colab.utils.device import in_notebook

LINE_S: Final = 30.0  # seconds between two lines where there is no terminal
BAR_S: Final = 0.2  # seconds between two states of the bar
TOLD_S: Final = 5.0  # seconds between two calls of `on_change`
TICK_S: Final = 1.0
# A share from which the time left can be told.
ENOUGH: Final = 0.02
MOST_TIMES: Final = 100  # works whose time is remembered

OnChange = Callable[[float | None, float | None], None]


class Stage:
    """How far a piece of work is. `update` tells it; without that, the seconds that it took the last time do.

    `share` is from 0 to 1 and `left_s` the seconds until the end; both are None while they are not known.
    """

    def __init__(self, name: str, expected_s: float | None = None, on_change: OnChange | None = None) -> None:
        self.name, self.expected_s, self.on_change = name, expected_s, on_change
        self.began = time.monotonic()
        self.done: float | None = None
        self.bar: Any = None
        self._lines_at = self._told_at = self.began
        self._drawn_at = 0.0
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def share(self) -> float | None:
        if self.done is not None:
            return self.done
        return min(0.99, self.elapsed_s / self.expected_s) if self.expected_s else None

    @property
    def left_s(self) -> float | None:
        if self.done is not None:
            return self.elapsed_s * (1 - self.done) / self.done if self.done >= ENOUGH else None
        return max(0.0, self.expected_s - self.elapsed_s) if self.expected_s else None

    def update(self, share: float) -> None:
        """Tell how much is done, from 0 to 1, and show it if that is due."""
        self.done = min(1.0, max(0.0, share))
        self.refresh()

    def refresh(self) -> None:
        """Show the present state, if that is due."""
        with self._lock:
            now = time.monotonic()
            if self.bar is not None and now - self._drawn_at >= BAR_S:
                self._drawn_at = now
                self._draw()
            elif self.bar is None and now - self._lines_at >= LINE_S:
                self._lines_at = now
                info(f"{self.name}: {self.text()}")
            if self.on_change is not None and now - self._told_at >= TOLD_S:
                self._told_at = now
                self.on_change(self.share, self.left_s)

    def text(self) -> str:
        """Return the time taken and left, such as "0:40, about 1:20 left"."""
        left, done = self.left_s, f"{self.done:.0%} after " if self.done is not None else ""
        return f"{done}{clock(self.elapsed_s)}" + (f", about {clock(left)} left" if left is not None else "")

    def _draw(self) -> None:
        share = self.share
        self.bar.n = share or 0.0
        self.bar.bar_format = "  {bar:24} {desc}" if share is not None else "  {desc}"
        self.bar.set_description_str(self.text(), refresh=False)
        with contextlib.suppress(OSError, ValueError):
            self.bar.refresh()


def clock(seconds: float) -> str:
    """Return a time span as minutes and seconds, or as hours, minutes and seconds: "0:40", "1:02:03"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@contextlib.contextmanager
def stage(
    title: str, *, remember: str | None = None, ticking: bool = False, on_change: OnChange | None = None
) -> Iterator[Stage]:
    """Print `title`, and show how far the block is while it runs. The block may call the stage's `update`.

    With `remember`, a name, the block is expected to take the seconds that it took the last time on this machine under
    that name. With `ticking`, a thread redraws the bar each second; otherwise only `update` does. `on_change` is called
    with the share and the seconds left at most every TOLD_S seconds. What the block raises is passed on.
    """
    info(f"{title} ...")
    shown = Stage(title, past_seconds().get(remember) if remember else None, on_change)
    ended = threading.Event()
    with contextlib.ExitStack() as held:
        if shows_bars():
            shown.bar = held.enter_context(_bar())
        if ticking:
            held.callback(_start_ticking(shown, ended).join)
            held.callback(ended.set)
        yield shown
    if remember:
        remember_seconds(remember, shown.elapsed_s)


def shows_bars() -> bool:
    """Tell whether stderr shows a bar that is redrawn in its line, and whether this process is the one to show it."""
    stream = stderr()
    # With Verbosity.VERBOSE the libraries print what they like, which a bar would only be in the way of.
    if stream is None or verbosity() != Verbosity.NORMAL or os.environ.get("RANK", "0") != "0":
        return False
    if in_notebook():
        return True
    # `!grpo-colab train` in a notebook has a terminal, too, but its output is kept line by line.
    is_dumb = os.environ.get("TERM", "dumb") == "dumb" or "JPY_PARENT_PID" in os.environ
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return bool(stream.isatty()) and not is_dumb
    return False


@contextlib.contextmanager
def _bar() -> Iterator[Any]:
    """Yield a bar of tqdm from 0 to 1 on our stderr, which leaves no line behind; None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield None
        return

    class Bar(tqdm):
        monitor_interval = 0  # no thread of tqdm's own

    with Bar(total=1.0, leave=False, file=stderr(), bar_format="  {desc}", dynamic_ncols=True) as bar:
        yield bar


def _start_ticking(shown: Stage, ended: threading.Event) -> threading.Thread:
    """Start a thread that refreshes the stage until `ended` is set, and return it.

    A fork waits until the thread is not in the middle of it, since a lock that the thread holds then would stay locked
    in the child.
    """

    def tick() -> None:
        while not ended.wait(TICK_S):
            with _not_forking:
                shown.refresh()

    thread = threading.Thread(target=tick, name="grpo_colab stage", daemon=True)
    thread.start()
    return thread


_not_forking: Final = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_not_forking.acquire, after_in_parent=_not_forking.release, after_in_child=_not_forking.release
    )


def _times_file() -> Any:
    """Return the file in the user's cache that says how long works took."""
    return files.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "grpo_colab" / "seconds.json"


def past_seconds() -> dict[str, float]:
    """Return the seconds that works took on this machine, by their names; empty where they cannot be read."""
    found = files.read_json(_times_file()) or {}
    return {name: seconds for name, seconds in found.items() if (files.number(seconds) or 0) > 0}


def remember_seconds(name: str, seconds: float) -> None:
    """Remember how long a work took. Where that cannot be written nothing is raised."""
    times = past_seconds()
    times.pop(name, None)
    newest = dict(list(times.items())[-MOST_TIMES + 1 :]) | {name: round(seconds, 1)}
    with contextlib.suppress(OSError):
        _times_file().parent.mkdir(parents=True, exist_ok=True)
        files.write_json(_times_file(), newest)
