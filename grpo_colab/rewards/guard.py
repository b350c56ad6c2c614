"""A guard around any reward: what it gives is checked, and a broken one says where it broke instead of training on.

TRL turns NaN into "cannot judge" in silence, lets infinity through, and knows an exception only by its traceback.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards.resolve import callable_name, is_async

if TYPE_CHECKING:
    from inspect import Signature


SEARCH_S: Final = 10.0  # for the completion that a reward fails on


class RewardError(SettingError):
    """Say that a reward broke its contract: `setting` is the reward.

    `record` says all about it: reward, step, what, index, traceback, and the completion with its columns.
    """

    def __init__(self, problem: str = "", record: Mapping[str, Any] | None = None, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.record = record or {}


def guard(function: Callable[..., Any], save: Callable[[dict[str, Any]], Any] | None = None) -> Guard:
    """Return `function` under the same name, with its rewards checked: one finite number, or None, for a completion.

    Otherwise, and when it raises, RewardError names the function, the step and the completion. `save` gets the whole
    record first, and may return where it put it. Async functions stay async.
    """
    return (_AsyncGuard if is_async(function) else Guard)(function, save)


def call_reward(
    function: Callable[..., Any],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    token_ids: Sequence[Sequence[int]] | None,
    columns: Mapping[str, Sequence[Any]],
    log_metric: Callable[[str, float], None] = lambda name, value: None,
    save: Callable[[dict[str, Any]], Any] | None = None,
) -> list[float | None]:
    """Call a reward as the trainer does, guarded and with all that TRL passes, but outside of training.

    `completions` are texts or conversations. `columns` are the data set's other columns. `token_ids` are passed as
    `completion_ids`, and left out where they are None. An async reward is awaited. Raises RewardError for a reward that
    breaks its contract; `save` gets its record first, as in `guard`.
    """
    import inspect

    result = guard(function, save)(
        prompts=prompts,
        completions=[[{"role": "assistant", "content": c}] if isinstance(c, str) else c for c in completions],
        trainer_state=None,
        log_extra=lambda column, values: None,
        log_metric=log_metric,
        **({} if token_ids is None else {"completion_ids": token_ids}),
        **columns,
    )
    if inspect.iscoroutine(result):
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        # in a thread of its own, since a notebook's event loop is running in this one
        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(asyncio.run, result).result()
    return cast(list[float | None], result)


class Guard:
    def __init__(self, function: Callable[..., Any], save: Callable[[dict[str, Any]], Any] | None) -> None:
        self.function, self.save = function, save
        self.__name__ = callable_name(function)

    @property
    def __signature__(self) -> Signature:
        import inspect

        return inspect.signature(self.function)

    def __call__(self, /, **kwargs: Any) -> Any:
        try:
            given = self.function(**kwargs)
        except RewardError as error:  # of a guarded part, which knows better
            raise self._kept(error) from error
        except Exception as error:
            raise self._failure(f"raised {one_line(error)}", self._culprit(kwargs, error), kwargs, error) from error
        return self._checked(given, kwargs)

    def _checked(self, given: Any, kwargs: Mapping[str, Any]) -> list[float | None]:
        expected = len(kwargs["completions"])
        if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__len__"):
            kind = type(given).__name__
            remedy = "a reward gives a list, with one number for each completion"
            raise self._failure(f"gave a {kind}", None, kwargs, remedy=remedy)
        if len(given) != expected:
            raise self._failure(f"gave {len(given)} rewards for {expected} completions", None, kwargs)
        paid: list[float | None] = []
        for index, value in enumerate(given):
            try:
                number = None if value is None else float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if isinstance(value, str | bytes) or (number is not None and not math.isfinite(number)):
                remedy = "a reward is a finite number, or None where it cannot judge"
                raise self._failure(f"gave {value!r:.80}", index, kwargs, remedy=remedy)
            paid.append(number)
        return paid

    def _culprit(self, kwargs: Mapping[str, Any], raised: Exception) -> int | None:
        """Which completion it fails on in the same way when asked about each alone; None when that tells nothing."""
        deadline = time.monotonic() + SEARCH_S
        for index in range(len(kwargs["completions"])):
            try:
                self.function(**_alone(kwargs, index))
            except Exception as error:  # noqa: BLE001 - it is compared with the one that is told
                if one_line(error) == one_line(raised):
                    return index
            if time.monotonic() > deadline:
                break
        return None

    def _kept(self, error: RewardError) -> RewardError:
        saved = None if self.save is None else self.save(dict(error.record))
        return error.replace(remedy=_and_see(error.remedy, saved))

    def _failure(
        self,
        what: str,
        index: int | None,
        kwargs: Mapping[str, Any],
        error: Exception | None = None,
        remedy: str | None = None,
    ) -> RewardError:
        import traceback

        state, completions = kwargs.get("trainer_state"), kwargs["completions"]
        step = None if state is None else state.global_step + 1
        record = {
            "reward": self.__name__,
            "step": step,
            "what": f"{what}; {remedy}" if remedy else what,
            "index": index,
            # the one completion with its columns; all of them where no one is to blame
            **{key: value for key, value in _alone(kwargs, index).items() if isinstance(value, Sequence)},
            "traceback": None if error is None else "".join(traceback.format_exception(error)),
        }
        where = "outside of training" if step is None else f"at step {step}"
        if index is not None:
            where += f", on completion {index + 1} of {len(completions)}: {_shown(completions[index])}"
        saved = None if self.save is None else self.save(record)
        return RewardError(
            f"{what} ({where})", record, setting=f"rewards.{self.__name__}", remedy=_and_see(remedy, saved)
        )


class _AsyncGuard(Guard):
    async def __call__(self, /, **kwargs: Any) -> Any:
        try:
            given = await self.function(**kwargs)
        except RewardError as error:
            raise self._kept(error) from error
        except Exception as error:  # what waits for others is not asked again: it may cost minutes
            raise self._failure(f"raised {one_line(error)}", None, kwargs, error) from error
        return self._checked(given, kwargs)


def _alone(kwargs: Mapping[str, Any], index: int | None) -> dict[str, Any]:
    """What TRL passed, for one completion only, and with nothing logged; all of it for None."""
    size = len(kwargs["completions"])
    quiet = {name: _nothing for name in ("log_extra", "log_metric") if name in kwargs}
    return {
        key: value[index : index + 1] if index is not None and _is_column(value, size) else value
        for key, value in kwargs.items()
    } | quiet


def _is_column(value: Any, size: int) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == size


def _and_see(remedy: str | None, saved: Any) -> str | None:
    """Return a remedy that ends in where the record is kept, if it is."""
    if saved is None:
        return remedy
    return f"{remedy}; see {saved}" if remedy else f"see {saved}"


def _nothing(name: str, value: Any) -> None:
    pass


def _shown(completion: Any) -> str:
    if isinstance(completion, list) and completion and isinstance(completion[-1], Mapping):
        completion = completion[-1].get("content")
    text = repr(completion)
    return text if len(text) <= 200 else f"{text[:200]}..."
