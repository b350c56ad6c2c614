"""Say whether a value that left the sandbox is plain and small, by types and lengths alone."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection
from typing import Any, Final

MAX_BITS: Final = 4096  # of an integer in a result: Python refuses to print what has more than 4,300 digits
PLAIN: Final[frozenset[type]] = frozenset({type(None), bool, int, float, str, list, tuple, dict})
OWN_INSTANCE: Final = "a test hands the program an instance of its own class"  # which no program can mend
# The interpreter hands out ranges, functions, modules and their like as their text. So an honest text may look, too.
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

    It is looked at level by level, by type and length alone: a list that holds itself, or is shared forty deep, has
    more items than any limit, and to compare, copy or print it would never end.
    """
    items = characters = 0
    level = [value]
    for _ in range(max_depth + 1):
        others = [kind.__name__[:80] for kind in set(map(type, level)) - set(kinds)]
        bits = max((item.bit_length() for item in level if type(item) is int), default=0)
        characters += sum(len(item) for item in level if type(item) in (str, bytes))
        inner = [item for item in level if isinstance(item, list | tuple | dict | set | frozenset)]
        keyed = [item for item in inner if isinstance(item, dict)]
        hashed = [item for item in inner if isinstance(item, dict | set | frozenset)]
        items += sum(map(len, inner)) + sum(map(len, keyed))
        if others:
            return f"the result has a value of type {others}"
        for refused, why in (
            (bits > max_bits, f"an integer of more than {max_bits} bits"),
            (characters > max_characters, f"more characters than max_output={max_characters}"),
            (items > max_items, f"more items than max_items={max_items}"),
            # which take a second to put into a dictionary or a set again
            (any(len(item) - len(set(map(hash, item))) > 100 for item in hashed), "keys that share one hash"),
        ):
            if refused:
                return f"the result has {why}"
        if not inner:
            return ""
        level = list(itertools.chain(*inner, *(item.values() for item in keyed)))
    return f"the result is nested deeper than max_depth={max_depth}"


def doubtful_texts(value: Any, path: str) -> list[str]:
    """List the paths below `path` to texts that may stand for an object, in a value that `refusal` has passed."""
    found, level = [], [(value, path)]
    while level:
        below: list[tuple[Any, str]] = []
        for item, at in level:
            if isinstance(item, str):
                found += [at] if _LOOKS_LIKE_AN_OBJECT.fullmatch(item) else []
            elif isinstance(item, list | tuple):
                below += [(inner, f"{at}[{index}]") for index, inner in enumerate(item)]
            elif isinstance(item, dict):
                for index, (key, inner) in enumerate(item.items()):
                    below += [(key, f"list({at})[{index}]"), (inner, f"list({at}.values())[{index}]")]
            elif isinstance(item, set | frozenset) and any(isinstance(inner, str) for inner in item):
                # its order is another one there
                found.append(f"([x for x in {at} if type(x).__name__ not in {_HASHABLE}] or [''])[0]")
        level = below
    return found


def holds(value: Any, what: Callable[[Any], bool]) -> bool:
    """Say whether `what` is true of anything in a value that `refusal` has passed."""
    if isinstance(value, dict):
        return any(holds(item, what) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(holds(item, what) for item in value)
    return what(value)


def is_nan(value: Any) -> bool:
    """Say whether this is the NaN, which equals nothing."""
    return isinstance(value, float) and math.isnan(value)


def has_lone_surrogate(value: Any) -> bool:
    """Say whether this is a text with a lone surrogate, which the interpreter has no way to return."""
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)
