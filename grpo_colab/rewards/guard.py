"""Guard a reward: check what it returns, and stop with an error that says where it broke, instead of training on.

TRL silently reads NaN as "cannot judge", lets infinity through, and reports an exception only by its traceback.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, cast

from grpo_colab.errors import shown
from grpo_colab.rewards.failure import RewardError, Search, failure, ignore, raised, told
from grpo_colab.rewards.names import reward_key
from grpo_colab.rewards.resolve import callable_name, is_async
from grpo_colab.text import counted

if TYPE_CHECKING:
    from inspect import Signature

__all__ = ["Guard", "RewardError", "call_reward", "guard", "ignore"]


def guard(
    function: Callable[..., Any],
    save: Callable[[dict[str, Any]], Any] | None = None,
    places: Sequence[str] | None = None,
) -> Guard:
    """Return `function` under the same name, with its rewards checked.

    It must return one finite number, or None, per completion. Otherwise, and when it raises an Exception, RewardError
    names the function, its file and line, the step and the completion; see `failure`. Before, `save` gets the record;
    it may return where it wrote the record, and the error then says where. `places` are those of the completions in a
    file, which the error then names. KeyboardInterrupt and SystemExit pass through.

    To find the completion on which it raised, the function is called with one completion at a time, for about
    `failure.SEARCH_S` seconds at most. Async functions stay async.
    """
    if is_async(function):
        return _AsyncGuard(function, save, places)
    return Guard(function, save, places)


def call_reward(
    function: Callable[..., Any],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    token_ids: Sequence[Sequence[int]] | None,
    columns: Mapping[str, Sequence[Any]],
    log_metric: Callable[[str, float], None] = lambda name, value: None,
    save: Callable[[dict[str, Any]], Any] | None = None,
    places: Sequence[str] | None = None,
) -> list[float | None]:
    """Call a reward outside of training as the trainer does: guarded, and with all that TRL passes.

    Returns one float or None per completion. `completions` are texts or conversations. `columns` are the data set's
    other columns. `token_ids` are passed as `completion_ids`, or left out where they are None. What the reward logs
    goes to `log_metric`; its columns for `log_extra` are dropped. An async reward runs in a thread of its own, and is
    waited for. Raises RewardError for a reward that breaks its contract; `save` and `places` are as in `guard`.
    """
    import inspect

    result = guard(function, save, places)(
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

    def __init__(
        self,
        function: Callable[..., Any],
        save: Callable[[dict[str, Any]], Any] | None,
        places: Sequence[str] | None = None,
    ) -> None:
        self.function, self.save, self.places = function, save, places
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
            search = Search(kwargs, error)
            for alone in search:
                try:
                    self.function(**alone)
                except Exception as again:  # noqa: BLE001 - it is compared with the error that is reported
                    search.see(again)
            raise self._raised(error, kwargs, search) from error
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
            raise self._failure(f"gave {counted(size, 'reward')} for {counted(expected, 'completion')}", None, kwargs)
        rewards: list[float | None] = []
        for index, value in enumerate(result):
            try:
                number = None if value is None else float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if isinstance(value, str | bytes) or (number is not None and not math.isfinite(number)):
                remedy = "a reward is a finite number, or None where it cannot judge"
                raise self._failure(f"gave {shown(value)}", index, kwargs, remedy=remedy)
            rewards.append(number)
        return rewards

    def _raised(self, error: Exception, kwargs: Mapping[str, Any], search: Search) -> RewardError:
        """Save the record of what the reward raised, on the completion that the search found; return its error."""
        return self._error(failure(self.function, raised(error), kwargs, search.index, search.alone, error))

    def _failure(
        self, what: str, index: int | None, kwargs: Mapping[str, Any], remedy: str | None = None
    ) -> RewardError:
        """Save the record of wrong rewards, of the completion `index` (None: of all of them); return its error.

        `what` says what the reward gave. `index` counts from 0, the message from 1.
        """
        return self._error(failure(self.function, what, kwargs, index), remedy)

    def _error(self, record: dict[str, Any], remedy: str | None = None) -> RewardError:
        """Save a record, and return the error that tells it, which the caller raises."""
        saved = None if self.save is None else self.save(record)
        setting, place = f"rewards.{reward_key(self.__name__)}", record["place"]
        return RewardError(
            told(record, self.places), record, setting=setting, place=place, remedy=_and_see(remedy, saved)
        )

    def _saved(self, error: RewardError) -> RewardError:
        """Save the record of a guarded part's error, and return a copy of the error that says where it was saved."""
        saved = None if self.save is None else self.save(dict(error.record))
        problem = told(error.record, self.places) if self.places else error.problem
        return error.replace(problem=problem, remedy=_and_see(error.remedy, saved))


class _AsyncGuard(Guard):
    """A guard around an async reward. The search for the failing completion waits for one call after the other."""

    async def __call__(self, /, **kwargs: Any) -> Any:
        import asyncio

        try:
            result = await self.function(**kwargs)
        except RewardError as error:
            raise self._saved(error) from error
        except Exception as error:
            search = Search(kwargs, error)
            for alone in search:
                try:
                    # The search ends when its time is over, even in the middle of a call.
                    await asyncio.wait_for(self.function(**alone), max(0.0, search.seconds_left))
                except Exception as again:  # noqa: BLE001 - it is compared with the error that is reported
                    if search.seconds_left > 0:
                        search.see(again)
            raise self._raised(error, kwargs, search) from error
        return self._checked(result, kwargs)


def _and_see(remedy: str | None, saved: Any) -> str | None:
    """Return the remedy, with where the record was saved, if it was."""
    if saved is None:
        return remedy
    return f"{remedy}; see {saved}" if remedy else f"see {saved}"
