"""What a `get_noun_reward(...)` returns: a reward with its settings, which TRL can name, call and pickle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError

if TYPE_CHECKING:
    from inspect import Signature


class Parametrised:
    """`function(*settings, completions, ...)` as a reward of its own.

    The settings go by position, so that a column of the data set with the name of one can never replace it: the
    function takes them before a `/`. Its name without the underscore is the reward's.
    """

    def __init__(self, function: Callable[..., Any], *settings: Any) -> None:
        self.function, self.settings = function, settings
        self.__name__ = function.__name__.removeprefix("_")
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self.settings, *args, **kwargs)

    def __repr__(self) -> str:
        return f"get_{self.__name__}({', '.join(map(repr, self.settings))})"

    @property
    def __signature__(self) -> Signature:
        """Without the settings: what is left to be passed."""
        import inspect

        return inspect.signature(functools.partial(self.function, *self.settings))


def require(condition: bool, setting: str, value: object, instead: str) -> None:
    """Raise SettingError unless `condition`, with what to write `instead`."""
    if not condition:
        raise SettingError("cannot work", setting=setting, value=value, remedy=f"write {instead}")
