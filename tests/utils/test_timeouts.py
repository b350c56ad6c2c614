"""What may hang gets a time limit: its value, its error, or a TimeoutError comes back."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from grpo_colab.utils.timeouts import run_with_timeout


def test_a_value_and_an_error_come_back() -> None:
    assert run_with_timeout(5, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        run_with_timeout(5, divmod, 7, 0)


def test_what_hangs_is_left_alone_in_time() -> None:
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer in 0 s"):
        run_with_timeout(0.1, release.wait)
    assert time.monotonic() - began < 5
    release.set()


def test_a_timeout_of_the_function_itself_is_its_own_error() -> None:
    def times_out() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        run_with_timeout(5, times_out)


def test_an_exit_is_an_error_and_no_exit() -> None:
    with pytest.raises(RuntimeError, match="SystemExit"):
        run_with_timeout(5, sys.exit, 3)
