"""Check, by types and lengths alone, that a value from the sandbox is plain and small."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection
from typing import Any, Final

MAX_BITS: Final = 4096  # of an integer in a result: Python refuses to print what has more than 4,300 digits
PLAIN: Final[frozenset[type]] = frozenset({type(None), bool, int, float, str, list, tuple, dict})
# The beginning of an outcome's message: the test is to blame, whatever the program does.
OWN_INSTANCE: Final = "a test hands the program an instance of its own class"
# The interpreter returns ranges, functions, modules and the like as the text that they print as. An honest text may
# look like that, too.
_LOOKS_LIKE_AN_OBJECT: Final = re.compile(
    r"<.*>|[\w.]+\(.*\)|[\w.]+\[.*\]|\[\.\.\.\]|\{\.\.\.\}|\(\.\.\.\)|typing\.\w+|[\w.\[\], ]+( \| [\w.\[\], ]+)+",
    re.DOTALL,
)
_HASHABLE: Final = ("str", "int", "float", "bool", "NoneType", "bytes", "complex", "tuple", "frozenset")


def refusal(
    value: Any,
    max_items: int,
    max_depth: int,
    max_characters: int,
    *,
    kinds: Collection[type] = PLAIN,
    max_bits: int = MAX_BITS,
) -> str:
    """Say why `value` may not be a result, or return an empty string.

    `value` may hold only the types in `kinds`, and no subclasses of them. `max_items` bounds the items of all
    containers together, where a dictionary's keys and values both count. `max_depth` counts the levels of containers: 0
    allows none. `max_characters` bounds all texts and bytes together.

    The check goes level by level, and looks at types and lengths alone. A list that holds itself, or is shared forty
    levels deep, has more items than any limit: to compare, copy or print it would never end.
    """
    items = characters = 0
    level = [value]
    for _ in range(max_depth + 1):
        other_types = [kind.__name__[:80] for kind in set(map(type, level)) - set(kinds)]
        if other_types:
            return f"the result has a value of type {other_types}"
        containers = [item for item in level if isinstance(item, list | tuple | dict | set | frozenset)]
        dictionaries = [item for item in containers if isinstance(item, dict)]
        bits = max((item.bit_length() for item in level if type(item) is int), default=0)
        characters += sum(len(item) for item in level if type(item) in (str, bytes))
        items += sum(map(len, containers)) + sum(map(len, dictionaries))
        problem = ""
        if bits > max_bits:
            problem = f"an integer of more than {max_bits} bits"
        elif characters > max_characters:
            problem = f"more characters than max_output={max_characters}"
        elif items > max_items:
            problem = f"more items than max_items={max_items}"
        elif any(_keys_collide(item) for item in containers):
            problem = "keys that share one hash"
        if problem:
            return f"the result has {problem}"
        if not containers:
            return ""
        level = list(itertools.chain(*containers, *(item.values() for item in dictionaries)))
    return f"the result is nested deeper than max_depth={max_depth}"


def _keys_collide(container: Any) -> bool:
    """Tell whether so many keys or members share a hash that to build the container again would take a second.

    That is more than 100 of them. False for what is no dictionary and no set.
    """
    if not isinstance(container, dict | set | frozenset):
        return False
    return len(container) - len(set(map(hash, container))) > 100


def doubtful_texts(value: Any, path: str) -> list[str]:
    """Return the paths to texts in `value` that look like an object's, such as a range's or a function's.

    A path is a Python expression in which `path`, such as "v", stands for `value`: `v[0]` is one. For a set with texts
    there is one path, whatever the texts are: it picks a member of no plain type, or an empty text. `value` has passed
    `refusal`. The paths come level by level.
    """
    found: list[str] = []
    level = [(value, path)]
    while level:
        below: list[tuple[Any, str]] = []
        for item, at in level:
            if isinstance(item, str):
                if _LOOKS_LIKE_AN_OBJECT.fullmatch(item):
                    found.append(at)
            elif isinstance(item, list | tuple):
                below += [(inner, f"{at}[{index}]") for index, inner in enumerate(item)]
            elif isinstance(item, dict):
                for index, (key, inner) in enumerate(item.items()):
                    below += [(key, f"list({at})[{index}]"), (inner, f"list({at}.values())[{index}]")]
            elif isinstance(item, set | frozenset) and any(isinstance(inner, str) for inner in item):
                # A set has another order in the interpreter, so the path picks a member whose type has no plain value.
                found.append(f"([x for x in {at} if type(x).__name__ not in {_HASHABLE}] or [''])[0]")
        level = below
    return found


def holds(value: Any, test: Callable[[Any], bool]) -> bool:
    """Tell whether `test` is true of any key, item or value in `value` that is no container itself.

    `value` has passed `refusal`, so this ends.
    """
    if isinstance(value, dict):
        return any(holds(item, test) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(holds(item, test) for item in value)
    return test(value)


def is_nan(value: Any) -> bool:
    """Tell whether `value` is NaN, which equals nothing."""
    return isinstance(value, float) and math.isnan(value)


def has_lone_surrogate(value: Any) -> bool:
    """Tell whether `value` is a text with a lone surrogate (half a character), which the interpreter cannot return."""
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)
