"""A call that must come back: what may hang gets a time limit, and is left alone once it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def run_with_timeout(limit_s: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call `function` in a thread of its own, and return what it returns within `limit_s` seconds.

    Raises TimeoutError when it takes longer; its thread then goes on by itself, and does not keep Python from exiting.
    Raises what the function raises, but RuntimeError in place of its SystemExit or KeyboardInterrupt.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - wandb.teardown calls sys.exit
            future.set_exception(RuntimeError(repr(error)))

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(limit_s)
    except TimeoutError:
        if future.done():  # the function's own
            raise
        raise TimeoutError(f"no answer in {limit_s:.0f} s") from None
