"""Guard a reward: check what it returns, and stop with an error that says where it broke, instead of training on.

TRL silently reads NaN as "cannot judge", lets infinity through, and reports an exception only by its traceback.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final, cast

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards.arguments import is_column
from grpo_colab.rewards.resolve import callable_name, is_async

if TYPE_CHECKING:
    from inspect import Signature


SEARCH_S: Final = 10.0  # for finding the completion on which a reward fails


class RewardError(SettingError):
    """Say that a reward broke its contract; `setting` names the reward.

    `record` has the details: reward, step, what, index, traceback, and the completion with its columns. The step counts
    from 1, and is None outside of training. The index counts from 0, and is None where no single completion is to
    blame: then all completions are there.
    """

    def __init__(self, problem: str = "", record: Mapping[str, Any] | None = None, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.record = record or {}


def guard(function: Callable[..., Any], save: Callable[[dict[str, Any]], Any] | None = None) -> Guard:
    """Return `function` under the same name, with its rewards checked.

    It must return one finite number, or None, per completion. Otherwise, and when it raises an Exception, RewardError
    names the function, the step and the completion. Before, `save` gets the record; it may return where it wrote the
    record, and the error then says where. KeyboardInterrupt and SystemExit pass through.

    To find the completion on which it raised, the function is called with one completion at a time, for about
    `SEARCH_S` seconds at most. Async functions stay async, and are not called again.
    """
    if is_async(function):
        return _AsyncGuard(function, save)
    return Guard(function, save)


def call_reward(
    function: Callable[..., Any],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    token_ids: Sequence[Sequence[int]] | None,
    columns: Mapping[str, Sequence[Any]],
    log_metric: Callable[[str, float], None] = lambda name, value: None,
    save: Callable[[dict[str, Any]], Any] | None = None,
) -> list[float | None]:
    """Call a reward outside of training as the trainer does: guarded, and with all that TRL passes.

    Returns one float or None per completion. `completions` are texts or conversations. `columns` are the data set's
    other columns. `token_ids` are passed as `completion_ids`, or left out where they are None. What the reward logs
    goes to `log_metric`; its columns for `log_extra` are dropped. An async reward runs in a thread of its own, and is
    waited for. Raises RewardError for a reward that breaks its contract; `save` gets its record before, as in `guard`.
    """
    import inspect

    result = guard(function, save)(
        prompts=prompts,
        completions=[_as_conversation(completion) for completion in completions],
        trainer_state=None,
        log_extra=lambda column, values: None,
        log_metric=log_metric,
        **({} if token_ids is None else {"completion_ids": token_ids}),
        **columns,
    )
    if inspect.iscoroutine(result):
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        # A thread of its own, because a notebook's event loop is running in this one.
        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(asyncio.run, result).result()
    return cast(list[float | None], result)


def _as_conversation(completion: Any) -> Any:
    """Return a text as the assistant's one message; a conversation as it is."""
    return [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion


class Guard:
    """A reward whose results are checked; see `guard`.

    It is called with keywords only, `completions` among them. It returns a list of floats and None, or raises
    RewardError.
    """

    def __init__(self, function: Callable[..., Any], save: Callable[[dict[str, Any]], Any] | None) -> None:
        self.function, self.save = function, save
        self.__name__ = callable_name(function)

    @property
    def __signature__(self) -> Signature:
        import inspect

        return inspect.signature(self.function)

    def __call__(self, /, **kwargs: Any) -> Any:
        try:
            result = self.function(**kwargs)
        except RewardError as error:  # from a guarded part, whose error says more
            raise self._saved(error) from error
        except Exception as error:
            index = self._failing_completion(kwargs, error)
            raise self._failure(f"raised {one_line(error)}", index, kwargs, error) from error
        return self._checked(result, kwargs)

    def _checked(self, result: Any, kwargs: Mapping[str, Any]) -> list[float | None]:
        """Return the rewards as a list of floats and None.

        Raises RewardError, after saving its record, for a result that is a text, a mapping, a set or without a length,
        for another number of rewards than of completions, and for a reward that is no finite number or None.
        """
        expected = len(kwargs["completions"])
        try:
            size = None if isinstance(result, str | bytes | Mapping | Set) else len(result)
        except TypeError:  # a number, a generator, or an array or tensor without dimensions
            size = None
        if size is None:
            kind = type(result).__name__
            remedy = "a reward gives a list, with one number for each completion"
            raise self._failure(f"gave a {kind}", None, kwargs, remedy=remedy)
        if size != expected:
            raise self._failure(f"gave {size} rewards for {expected} completions", None, kwargs)
        rewards: list[float | None] = []
        for index, value in enumerate(result):
            try:
                number = None if value is None else float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if isinstance(value, str | bytes) or (number is not None and not math.isfinite(number)):
                remedy = "a reward is a finite number, or None where it cannot judge"
                raise self._failure(f"gave {value!r:.80}", index, kwargs, remedy=remedy)
            rewards.append(number)
        return rewards

    def _failing_completion(self, kwargs: Mapping[str, Any], raised: Exception) -> int | None:
        """Return the index, from 0, of the first completion that raises the same error when it is passed alone.

        None where there is none, or none was found within `SEARCH_S` seconds. The function is called once per
        completion. What it raises is not passed on.
        """
        deadline = time.monotonic() + SEARCH_S
        for index in range(len(kwargs["completions"])):
            try:
                self.function(**_alone(kwargs, index))
            except Exception as error:  # noqa: BLE001 - it is compared with the error that is reported
                if one_line(error) == one_line(raised):
                    return index
            if time.monotonic() > deadline:
                break
        return None

    def _saved(self, error: RewardError) -> RewardError:
        """Save the record of a guarded part's error, and return a copy of the error that says where it was saved."""
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
        """Save the record of a failure on the completion `index` (None: on all of them), and return its error.

        The error is not raised here. `what` says what the reward did. `error` is what the reward raised, whose
        traceback goes into the record. `index` counts from 0, the message from 1.
        """
        import traceback

        state, completions = kwargs.get("trainer_state"), kwargs["completions"]
        step = None if state is None else state.global_step + 1
        record = {
            "reward": self.__name__,
            "step": step,
            "what": f"{what}; {remedy}" if remedy else what,
            "index": index,
            # The failing completion with its columns, or all completions where no single one is to blame.
            **{name: value for name, value in _alone(kwargs, index).items() if isinstance(value, Sequence)},
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
    """A guard around an async reward.

    It does not search for the failing completion: an async reward waits for other services, and asking again could take
    minutes.
    """

    async def __call__(self, /, **kwargs: Any) -> Any:
        try:
            result = await self.function(**kwargs)
        except RewardError as error:
            raise self._saved(error) from error
        except Exception as error:
            raise self._failure(f"raised {one_line(error)}", None, kwargs, error) from error
        return self._checked(result, kwargs)


def _alone(kwargs: Mapping[str, Any], index: int | None) -> dict[str, Any]:
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


def _and_see(remedy: str | None, saved: Any) -> str | None:
    """Return the remedy, with where the record was saved, if it was."""
    if saved is None:
        return remedy
    return f"{remedy}; see {saved}" if remedy else f"see {saved}"


def ignore(name: str, value: Any) -> None:
    """Take what a reward logs, and drop it."""


def _shown(completion: Any) -> str:
    """Return the beginning of a completion, or of its last message, as an error shows it."""
    if isinstance(completion, list) and completion and isinstance(completion[-1], Mapping):
        completion = completion[-1].get("content")
    text = repr(completion)
    return text if len(text) <= 200 else f"{text[:200]}..."
