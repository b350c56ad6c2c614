"""Whose code a recipe would run, and whether this user trusts it.

A recipe is read, printed, planned, compared and looked for without running what it names. Who trains or evaluates it
runs its rewards, and a model's own Python where `trust_remote_code` allows that. Such code is this user's own choice
where the user named it: on the command line, or as an override in Python. What a file named, be it a recipe, a run
folder or a mirror's copy, has to be trusted once, by `--trust-code`. The names of what is trusted are kept in
`grpo_colab/trusted.txt` below the user's configuration folder, one a line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe, foreign_settings
from grpo_colab.rewards.look import place_of
from grpo_colab.rewards.resolve import parse_reward
from grpo_colab.text import escaped
from grpo_colab.utils import files

_remembered: Final[set[str]] = set()  # also where the file cannot be written


def check_trust(recipe: Recipe, trust_code: bool = False) -> str | None:
    """Let through what this user may run, and remember it; return a line that says what that is, or None.

    Raises SettingError for code that a file names and that nobody has trusted yet, unless `trust_code` does so now.
    """
    named = {setting: named_code(recipe, setting) for setting in foreign_settings(recipe)}
    if not named:
        return None
    known = trusted()
    strange = [code for setting, code in named.items() if setting in recipe.received and code not in known]
    if strange and not trust_code:
        raise SettingError(
            f"came as a file, and runs code that is not grpo_colab's: {_listed(strange)}",
            remedy="read that code; if you trust it, write --trust-code once (trust_code=True in Python)",
            place=f"recipe {recipe.name!r}",
        )
    remember(code for code in named.values() if code not in known)
    return f"Running code that is not grpo_colab's: {_listed(list(named.values()))}"


def all_trusted(recipes: Iterable[Recipe], trust_code: bool = False) -> list[str]:
    """Do `check_trust` for several recipes; return the different lines."""
    return list(dict.fromkeys(line for recipe in recipes if (line := check_trust(recipe, trust_code))))


def announced(names: list[str]) -> str | None:
    """Return a line that says which of these rewards, named by the user, are code of others; None for none."""
    own = [_reward_code(name) for name in names if not parse_reward(name).ours]
    return f"Running code that is not grpo_colab's: {_listed(own)}" if own else None


def named_code(recipe: Recipe, setting: str) -> str:
    """Return what a setting of `foreign_settings` would run, with its place: by this it is trusted."""
    table, _, key = setting.partition(".")
    if table == "rewards":
        return _reward_code(key)
    model, revision = recipe.model.get("model_name"), recipe.model.get("revision")
    return escaped(f"{setting} of the model {model}" + (f" at {revision}" if revision else ""))


def trusted() -> set[str]:
    """Return the names of all code that this user has trusted."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        _remembered.update(files.read_bytes(_file()).decode().splitlines())
    return _remembered


def remember(names: Iterable[str]) -> None:
    """Keep names of code as trusted; where the file cannot be written, in this process."""
    new = list(names)
    _remembered.update(new)
    if new:
        with contextlib.suppress(OSError):
            _file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.append(_file(), "".join(f"{name}\n" for name in new))


def _file() -> Path:
    return files.expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "grpo_colab" / "trusted.txt"


def _reward_code(name: str) -> str:
    """Return a reward's whole name, and the file or package that it comes from."""
    parsed = parse_reward(name)
    settings = "" if parsed.settings is None else f"({', '.join(f'{k}={v!r}' for k, v in parsed.settings.items())})"
    if parsed.in_file:
        return escaped(f"{place_of(parsed)}:{parsed.attribute}{settings}")
    return escaped(f"{parsed.text}{settings} from {place_of(parsed)}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
