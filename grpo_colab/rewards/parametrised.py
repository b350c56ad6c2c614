"""Make rewards with settings, which TRL can name, call and pickle: what `get_noun_reward(...)` returns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError

if TYPE_CHECKING:
    from inspect import Signature


class Parametrised:
    """A reward that calls `function(*settings, completions, ...)`.

    The function takes the settings by position, before a `/`, so that a column of the data set with the same name can
    never replace one. The reward has the function's name without the leading underscore.
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
        """Return the function's signature without the settings."""
        import inspect

        return inspect.signature(functools.partial(self.function, *self.settings))


def settings_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return the settings that a reward of this package was made with; none for any other function."""
    while isinstance(function, functools.partial):
        function = function.func
    settings = getattr(function, "settings", ())
    return settings if isinstance(settings, tuple) else ()


def require(condition: bool, setting: str, value: object, instead: str) -> None:
    """Raise SettingError unless `condition` holds; the error says what to write `instead`."""
    if not condition:
        raise SettingError("cannot work", setting=setting, value=value, remedy=f"write {instead}")
