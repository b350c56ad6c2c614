"""Read and write the names of reward functions, without importing or running anything.

`resolve.py` finds the functions themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError

FACTORY_NAME: Final = r"get_(?:\w+_)?reward"
PYTHON: Final = "python:"  # before the name of a function that was given to a recipe itself


class RewardName(NamedTuple):
    """A parsed reward's name.

    `text` is the name without settings. `origin` is the module or the file, empty for this package's short names, and
    PYTHON for a function that a recipe was given itself. `attribute` is the function in it. `settings` are None for a
    name without brackets. `in_file` says that `origin` is a file.
    """

    text: str
    origin: str
    attribute: str
    settings: dict[str, Any] | None
    in_file: bool

    @property
    def ours(self) -> bool:
        """Tell whether the reward is this package's own, which may be imported and called without the user's trust."""
        parts = self.origin.split(".")
        own = parts[0] == "grpo_colab" and parts[1:2] in (["rewards"], ["tasks"])
        return not self.origin or (own and not self.in_file and not any(part[:1] == "_" for part in parts))

    @property
    def given(self) -> bool:
        """Tell whether the reward is a function that Python code gives, so that no import leads to it."""
        return self.origin == PYTHON

    @property
    def grader(self) -> str | None:
        """Return the name of the function that the setting `grader` of one of our rewards names; None for none."""
        named = (self.settings or {}).get("grader")
        return named if self.ours and isinstance(named, str) and "." in named else None

    @property
    def runs_code(self) -> bool:
        """Tell whether the reward runs code that is not this package's and that its name leads to."""
        return self.grader is not None or not (self.ours or self.given)


def parse_reward(name: str) -> RewardName:
    """Parse a reward's name without importing or running anything. Raises SettingError for unreadable settings."""
    if name.startswith(PYTHON) and name.removeprefix(PYTHON).isidentifier():
        return RewardName(name, PYTHON, name.removeprefix(PYTHON), settings=None, in_file=False)
    head, settings = _settings(name)
    origin, colon, attribute = head.rpartition(":")
    if not (colon and origin.endswith(".py")):
        origin, _, attribute = head.rpartition(".")
    return RewardName(head, origin, attribute, settings, bool(colon and origin.endswith(".py")))


def reward_key(name: str) -> str:
    """Return the key for the name of a reward function: `correctness` for `correctness_reward`.

    Recipes and all files of a run use the key; TRL's own metrics use the function's name. The key of a key is the key
    itself.
    """
    end = len(name)
    while name.endswith("_reward", 0, end):
        end -= len("_reward")
    return name[:end] or name


def split_names(text: str) -> list[str]:
    """Split names at commas, but not at those in brackets or quotes: `a,b(x=(1, 2), y="p,q")` has two names.

    White space around a name is removed, and empty names are left out. Nothing is raised for an unclosed bracket or
    quote.
    """
    names, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        if not quote and character in "([{":
            depth += 1
        elif not quote and character in ")]}":
            depth -= 1
        if character == "," and not depth and not quote:
            names.append("")
        else:
            names[-1] += character
    return [name.strip() for name in names if name.strip()]


def split_settings(name: str) -> tuple[str, str]:
    """Split a name into the function's name and its settings with their brackets, or an empty string.

    Brackets in the path of a file are part of the name.
    """
    found = re.fullmatch(r"(.+?\.py:\w+|[\w.]+)\s*(\(.*\))", name.strip(), re.DOTALL)
    return (found[1], found[2]) if found else (name, "")


def with_paths(name: str, path: Callable[[str], str]) -> str:
    """Return a reward's name with `path` applied to the path of its file, and to that of a grader in its brackets.

    The name may be a file without its function, which others refuse.
    """
    head, settings = split_settings(name)
    grader = re.search(r"""\bgrader\s*=\s*(?P<named>"[^"]+"|'[^']+')""", settings)
    if grader is not None:
        named = with_paths(grader["named"][1:-1], path)
        settings = f"{settings[: grader.start('named')]}{named!r}{settings[grader.end('named') :]}"
    file, colon, function = head.rpartition(":") if not head.endswith(".py") else (head, "", "")
    return f"{path(file)}{colon}{function}{settings}" if file.endswith(".py") else head + settings


def _settings(name: str) -> tuple[str, dict[str, Any] | None]:
    """Return the name and the settings of `cosine_scaled(max_len=512)`; None for a name without brackets.

    Raises SettingError for settings that are not keywords with literal values.
    """
    head, inside = split_settings(name)
    if not inside and not re.fullmatch(r"[\w.]+\(.*", head, re.DOTALL):
        return name, None
    import ast

    try:
        call = ast.parse(f"call{inside}", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return head, {str(pair.arg): ast.literal_eval(pair.value) for pair in call.keywords}
    except (SyntaxError, ValueError, AssertionError, MemoryError, RecursionError):
        remedy = "write them as in cosine_scaled(max_len=512)"
        raise SettingError(f"the settings of {name!r:.200} cannot be read", remedy=remedy) from None
