"""Find in the settings of a recipe what is secret, and what lets a model bring code, however deeply it is nested."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from grpo_colab.text import is_secret, masked

BRINGS_CODE: Final = ("trust_remote_code", "use_kernels", "megatron_config", "megatron_core", "auto_mapping")


def brings_code(key: str, value: Any) -> bool:
    """Tell whether a setting, or one inside it, lets a model or the hub bring code: Python, or kernels.

    `key` is the setting's name without its table. Tables, lists, and texts that are JSON of these are searched.
    """
    container = _container(value)
    if isinstance(container, Mapping):
        if any(brings_code(name, inner) for name, inner in container.items()):
            return True
        return key in BRINGS_CODE and bool(container)
    if container is not None:
        return any(brings_code(key, inner) for inner in container)
    # An attention implementation with a slash is a repository of kernels.
    if key == "attn_implementation" and isinstance(value, str) and "/" in value:
        return True
    return key in BRINGS_CODE and bool(value)


def without_secrets(value: Any, secret: bool = False) -> Any:
    """Return a copy of a setting's value without the secrets in it, however deeply they are nested.

    A text under the name of a secret is left out, and so is every text in a list or table with `secret`. A secret that
    is a part of another text is replaced by dots. A text that is JSON is searched as well. Tuples become lists.
    """
    if isinstance(value, Mapping):
        copy = {}
        for key, inner in value.items():
            inner_secret = secret or is_secret(key)
            if not (inner_secret and isinstance(inner, str)):
                copy[key] = without_secrets(inner, inner_secret)
        return copy
    if isinstance(value, list | tuple):
        return [without_secrets(inner, secret) for inner in value if not (secret and isinstance(inner, str))]
    parsed = _parsed_json(value)
    if parsed is not None:
        return json.dumps(without_secrets(parsed)) if any(secrets_in(parsed)) else value
    return masked(value) if isinstance(value, str) else value


def secrets_in(value: Any, setting: str = "", secret: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of every secret in `value`, the value of `setting`.

    Tables, lists, and texts that are JSON of these are searched. An item of a list has the list's name. With `secret`,
    every text in `value` is a secret, but an empty one is not.
    """
    container = _container(value)
    if isinstance(container, Mapping):
        for key, inner in container.items():
            yield from secrets_in(inner, f"{setting}.{key}", secret or is_secret(key))
    elif container is not None:
        for inner in container:
            yield from secrets_in(inner, setting, secret)
    elif isinstance(value, str) and value and (secret or masked(value) != value):
        yield setting, value


def _container(value: Any) -> Any:
    """Return a table or a list, which `value` either is or is the JSON of; None for anything else."""
    return value if isinstance(value, Mapping | list | tuple) else _parsed_json(value)


def _parsed_json(value: Any) -> Any:
    """Return the table or the list that a text is the JSON of, as TRL takes some of its arguments; None otherwise."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return None
