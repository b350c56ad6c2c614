r"""Compare two plain parts of formulas: math-verify reads them, and sympy computes their values.

What math-verify calls equal must also have equal values, exactly: to it `e^{-100}` is `e^{-101}`, since both are nearly
0. `latex_compare.py` asks, in the process of `latex_worker.py`.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

# At these points, two formulas of the same unknowns have the same values, or else they are not equal.
POINTS: Final = ("37/29", "-19/23", "11/31", "-53/17", "71/13", "-7/41")
DIGITS: Final = 40  # of these values
MOST_DIGITS: Final = 400  # to tell two numbers apart
_CONSTANT: Final = r"[Cc](?:_\{?[01]\}?)?"  # of integration


Sides = tuple[str, str]  # of an equation


class Unreadable(Exception):
    """A plain part that math-verify cannot read."""


class Meaningless(Unreadable):
    """A part without a value, such as 0/0, or an equation that is always true, or never."""


@functools.lru_cache(maxsize=1024)  # the completions of a group share their gold answer
def read(formula: str) -> Any:
    """Return a plain part as a sympy object, in exact numbers. Raises Unreadable."""
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
    from math_verify.grader import should_treat_as_complex
    from sympy import Basic, E, Float, I, MatrixBase, Product, Rational, Sum, Symbol, nan, oo, zoo

    rules = NormalizationConfig(malformed_operators=True, nits=True, boxed="none")
    try:
        text = normalize_latex(formula, rules)
        value = latex2sympy(
            text,
            is_real=not should_treat_as_complex(text),
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception as error:
        raise Unreadable(formula) from error
    if not isinstance(value, Basic | MatrixBase):
        raise Unreadable(formula)
    same: dict[Any, Any] = {number: Rational(str(number)) for number in value.atoms(Float)}
    constants = {"e": E} if value.has(Sum, Product) else {"e": E, "i": I}  # there, i is an index
    for symbol in value.atoms(Symbol):
        same[symbol] = constants.get(symbol.name) or Symbol(symbol.name, real=True)
    try:
        value = value.xreplace(same)
        if value.has(Sum, Product) and not value.has(oo):
            value = value.doit()
        evaluated = value.doit() if not value.free_symbols else value
    except Exception:  # noqa: BLE001 - sympy's errors have many classes
        evaluated = value
    if evaluated.has(nan, zoo):
        raise Meaningless(formula)
    return value


def same_leaf(gold: str, answer: str, tolerance: float) -> bool:
    """Tell whether two plain parts are equal, or as close as `tolerance` allows. Raises Unreadable."""
    from math_verify import verify
    from sympy import Set, Tuple, oo
    from sympy.core.relational import Relational

    if gold == answer:
        return True
    expected, given = read(gold), read(answer)
    kinds = [isinstance(value, Set | Tuple) for value in (expected, given)]
    if expected in (oo, -oo) or given in (oo, -oo):
        return expected == given and not set(answer) - set("+-\\infty ")  # and not infinity plus anything
    if kinds[0] != kinds[1] or isinstance(expected, Relational) or isinstance(given, Relational):
        return False
    if _has_question(given) and not _has_question(expected):
        return False
    given = _with_its_constant(given, expected)
    as_written, folded = (expected, given), (_small_letters(expected), _small_letters(given))
    for one, other in (as_written,) if folded == as_written else (as_written, folded):
        if not _differ(one, other) and verify(one, other, timeout_seconds=None):
            return True
    return tolerance > 0 and _is_close(expected, given, tolerance)


def _has_question(value: Any) -> bool:
    """Tell whether a formula has something to work out, that sympy has left as it is."""
    from sympy import Derivative, Integral, Limit

    return bool(value.has(Derivative, Integral, Limit))


def _with_its_constant(given: Any, expected: Any) -> Any:
    """Return a formula with its constant of integration, as `C_1`, named as in the expected one, where it has one."""
    ours, theirs = given.free_symbols - expected.free_symbols, expected.free_symbols - given.free_symbols
    if len(ours) != 1 or len(theirs) != 1:
        return given
    (symbol,), (name,) = ours, theirs
    is_constant = re.fullmatch(_CONSTANT, symbol.name) and name.name == "C"
    return given.xreplace({symbol: name}) if is_constant else given


def _small_letters(value: Any) -> Any:
    """Return a formula with its unknowns in small letters, or itself where two of them would become one."""
    from sympy import Symbol

    symbols = value.free_symbols
    names = {symbol.name.lower() for symbol in symbols}
    if len(names) < len(symbols) or names == {symbol.name for symbol in symbols}:
        return value
    return value.xreplace({symbol: Symbol(symbol.name.lower(), real=True) for symbol in symbols})


def _values(value: Any, symbols: list[Any]) -> list[Any]:
    """Return the values of a formula at a few points; None for a value that cannot be computed."""
    from sympy import AccumBounds, Rational, nan, oo, zoo

    values = []
    for first in range(len(POINTS) if symbols else 1):
        point = {symbol: Rational(POINTS[(first + n) % len(POINTS)]) + n for n, symbol in enumerate(symbols)}
        number = value.xreplace(point).evalf(DIGITS, maxn=2 * DIGITS)
        is_number = number.is_number and not number.has(nan, zoo, oo, -oo, AccumBounds)
        values.append(number if is_number else None)
    return values


def _differ(one: Any, other: Any) -> bool:
    """Tell whether two formulas, or two parts of matrices or sets, surely have different values somewhere."""
    from sympy import Expr, MatrixBase

    if isinstance(one, MatrixBase) and isinstance(other, MatrixBase):
        return bool(one.shape != other.shape) or any(map(_differ, one, other))
    if not isinstance(one, Expr) or not isinstance(other, Expr):
        parts = _parts(one), _parts(other)
        return len(parts[0]) == len(parts[1]) and any(map(_differ, *parts))
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    try:
        pairs = zip(_values(one, symbols), _values(other, symbols), strict=True)
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        far = any(abs(a - b) > (abs(a) * 10**-20 if a else 10**-60) for a, b in known)
        return far or (not symbols and _is_nonzero(one - other))
    except Exception:  # noqa: BLE001 - sympy cannot compute these values, and its errors have many classes
        return False


def _is_nonzero(difference: Any) -> bool:
    """Tell whether a number surely is not zero; it is computed to `MOST_DIGITS` digits, if need be."""
    from sympy.core.evalf import PrecisionExhausted

    try:
        value = difference.evalf(2, maxn=MOST_DIGITS, strict=True)
    except PrecisionExhausted:
        return False
    return bool(value.is_comparable and value != 0)


def _parts(value: Any) -> list[Any]:
    """Return the numbers in a set or a tuple, in their order; nothing for one with unknowns."""
    from sympy import Expr, Set, Tuple, default_sort_key, oo

    if not isinstance(value, Set | Tuple) or value.free_symbols:
        return []
    found: list[Any] = []
    for part in value.args:
        found += [part] if isinstance(part, Expr) and part not in (oo, -oo) else _parts(part)
    if isinstance(value, Tuple) or any(not part.is_comparable for part in found):
        return found
    return sorted(found, key=lambda part: (part.evalf(DIGITS), default_sort_key(part)))


def _is_close(expected: Any, given: Any, tolerance: float) -> bool:
    """Tell whether two numbers are at most `tolerance` times the expected one apart."""
    try:
        if expected.free_symbols or given.free_symbols:
            return False
        (target,), (number,) = _values(expected, []), _values(given, [])
        return target is not None and number is not None and bool(abs(number - target) <= tolerance * abs(target))
    except Exception:  # noqa: BLE001 - sympy cannot compute these values, and its errors have many classes
        return False


def _numerator(sides: Sides) -> Any:
    """Return what an equation, given by its two sides, says is zero, without a denominator; None for no formulas."""
    from sympy import Expr, fraction, together

    left, right = map(read, sides)
    are_formulas = isinstance(left, Expr) and isinstance(right, Expr)
    return fraction(together(left - right))[0] if are_formulas else None


def proportional(gold: Sides, answer: Sides) -> bool:
    """Tell whether two equations of the same unknowns say the same: a constant factor other than 0 is between them.

    An equation is given by its two sides. One that is always true, or never, says nothing. Raises Unreadable.
    """
    one, other = _numerator(gold), _numerator(answer)
    if one is None or other is None:
        return False
    symbols = sorted(one.free_symbols, key=str)
    if not symbols or other.free_symbols != one.free_symbols:
        return False
    pairs = zip(_values(one, symbols), _values(other, symbols), strict=True)
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(known) < 3 or any(not a or not b for a, b in known):
        return False
    first = known[0][0] / known[0][1]
    is_constant = all(abs(a / b - first) <= abs(first) * 10**-20 for a, b in known)
    varies = any(abs(a - known[0][0]) > 10**-20 for a, _ in known)
    return is_constant and varies


def is_linear(sides: Sides) -> bool:
    """Tell whether an equation is one of a line or a plane: of several unknowns, none multiplied. Raises Unreadable."""
    from sympy import Poly

    zero = _numerator(sides)
    if zero is None or len(zero.free_symbols) < 2 or not zero.is_polynomial(*zero.free_symbols):
        return False
    return bool(Poly(zero, *zero.free_symbols).total_degree() == 1)


def is_value_of_function(sides: Sides) -> bool:
    r"""Tell whether an equation gives the value of a function, as `\cos x = 1/2` does. Raises Unreadable."""
    left, right = map(read, sides)
    return bool(left.is_Function and not right.free_symbols)
