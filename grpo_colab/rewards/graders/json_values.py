"""Judge answers that are JSON: by equal values, and by a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, Final

from grpo_colab.errors import SettingError, one_line, shown
from grpo_colab.rewards.graders.grader import NO_ANSWER, NO_COLUMNS, Grader, Row, stated
from grpo_colab.rewards.grading import Reason, Verdict, after_thoughts

DEEPEST: Final = 64  # levels of nesting
LARGEST_EXPONENT: Final = 300  # of ten, as a float has it
MOST_COMPARED: Final = 300  # items of a value whose schema compares them all with each other


def read_json(text: str) -> Any:
    """Return the value that a text states in JSON, which may stand in a fenced block.

    A number with a point is a Decimal. Raises ValueError for what is no JSON by RFC 8259, as NaN is not, for a key that
    an object has twice, and for a value nested deeper than DEEPEST levels.
    """
    try:
        value = json.loads(
            _without_fence(text),
            parse_float=_decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not _is_flat(value, DEEPEST):
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    return value


def _without_fence(text: str) -> str:
    """Return what is in the one fenced block that a text consists of, or the text itself."""
    before, *inside = text.replace("\ufeff", "").strip().split("```")
    if len(inside) != 2 or before.strip() or inside[1].strip():
        return text
    return re.sub(r"\A[ \t]*json[0-9a-z]*\b", "", inside[0], flags=re.IGNORECASE)


def _decimal(text: str) -> Decimal:
    """Return a number with a point or an exponent, exactly. Raises ValueError for one that no float could hold."""
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"a number of this size is none: {text[:20]}") from None
    if number and abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(f"a number of this size is none: {text[:20]}")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _is_flat(value: Any, levels: int) -> bool:
    """Tell whether a value is nested at most `levels` deep."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(one, levels - 1) for one in inner)


def is_json(text: str) -> bool:
    """Tell whether a text is JSON as `read_json` reads it."""
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def are_equal(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Tell whether two values of `read_json` are equal: 1 equals 1.0, and true equals neither 1 nor "true".

    The order of an object's keys does not count, that of a list's items does. With a `tolerance`, a number may be that
    share of the other one away from it.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_equal(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(lambda a, b: are_equal(a, b, tolerance), one, other))
    if _is_number(one) and _is_number(other):
        if one == other or not tolerance:
            return bool(one == other)
        return abs(Fraction(one) - Fraction(other)) <= Fraction(tolerance) * abs(Fraction(other))
    return type(one) is type(other) and one == other


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def checked_schema(schema: str) -> str:
    """Return the text of a JSON schema; raise SettingError for one that is none, or without the package jsonschema."""
    try:
        from jsonschema.validators import validator_for
    except ImportError:
        remedy = 'install it: pip install "grpo_colab[json]"'
        raise SettingError("needs the package jsonschema", setting="schema", value=schema, remedy=remedy) from None
    from jsonschema.exceptions import SchemaError

    try:
        content = json.loads(schema)
        validator_for(content).check_schema(content)
    except (ValueError, SchemaError, AttributeError, RecursionError) as error:
        words = error.message if isinstance(error, SchemaError) else one_line(error)
        remedy = "write the path of a file with a JSON schema, or a table such as { type = 'object' }"
        raise SettingError(f"is no JSON schema ({words:.120})", setting="schema", value=schema, remedy=remedy) from None
    return schema


@lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    """Return the validator of a schema, which fetches nothing from anywhere."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    content = json.loads(schema)
    return validator_for(content)(content, registry=Registry())


@dataclass(frozen=True, kw_only=True)
class JSONGrader(Grader):
    """Judge JSON by whether its value equals the gold's, and before by a `schema`, the text of a JSON schema."""

    kind: ClassVar[str] = "json"
    reasons: ClassVar[tuple[Reason, ...]] = ("right", "wrong", *NO_ANSWER, "not_json", "off_schema", "too_long")
    lenient: ClassVar[str] = "by the last JSON value alone"

    schema: str = ""
    tolerance: float = 0.0

    def gold_text(self, value: object) -> str:
        if isinstance(value, str):
            return value
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the gold answer is no JSON ({one_line(error)}): {shown(value)}") from None

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> Any:
        value, problem = _read_gold(gold if is_json(gold) else stated(gold), self.schema)
        if problem:
            raise ValueError(f"{problem}: {shown(gold)}")
        return value

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        try:
            value = read_json(response)
        except ValueError:
            return Verdict("not_json")
        if are_equal(value, self.read_gold(gold), self.tolerance):
            return Verdict("right")
        return Verdict("off_schema" if self.schema and not _fits(value, self.schema) else "wrong")

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool:
        if self.grade(completion, gold).right:
            return True
        text = after_thoughts(completion, self.reasoning_tag)
        last = _last_value(text)
        return last is not None and are_equal(last[0], self.read_gold(gold), self.tolerance)

    def golden_answer(self, gold: str, row: Row = NO_COLUMNS) -> str:
        text = gold if is_json(gold) else stated(gold)
        return text if "\n" not in text else json.dumps(json.loads(text), ensure_ascii=False)

    def request(self) -> str:
        schema = f" It fits this schema: {self.schema}" if self.schema else ""
        return f"The answer is JSON, and nothing else.{schema}"


@lru_cache(maxsize=4096)  # the completions of a group share their gold answer
def _read_gold(gold: str, schema: str) -> tuple[Any, str]:
    """Return the value of a gold answer and no text, or None and what is wrong with it."""
    try:
        value = read_json(gold)
    except ValueError as error:
        return None, f"the gold answer is no JSON ({one_line(error)})"
    fits = not schema or _fits(value, schema)
    return value, "" if fits else f"the gold answer does not fit the schema {shown(schema)}"


def _fits(value: Any, schema: str) -> bool:
    """Tell whether a value fits a schema. One whose `$ref` leads elsewhere fits nothing."""
    from referencing.exceptions import Unresolvable

    if "uniqueItems" in schema and _count(value) > MOST_COMPARED:
        return False
    try:
        return bool(_validator(schema).is_valid(_with_floats(value)))
    except (Unresolvable, RecursionError, ArithmeticError):
        return False


def _count(value: Any) -> int:
    """Return the number of values in a value, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, inner))


def _with_floats(value: Any) -> Any:
    """Return a value with its Decimals as floats, which jsonschema takes for numbers."""
    if isinstance(value, Mapping):
        return {key: _with_floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_floats(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value


def _last_value(text: str) -> tuple[Any] | None:
    """Return the last object or list that a text states in JSON, in a tuple; None where there is none.

    Beginnings of an object or a list are tried from the front, and what a value holds is not looked at again.
    """
    decoder = json.JSONDecoder(parse_float=_decimal)
    last, at = None, 0
    tries = 0
    while (start := re.search(r"[{\[]", text[at:])) and tries < 200:
        at += start.start()
        tries += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        last, at = (value,), end
    return last
