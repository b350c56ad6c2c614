r"""Compare two formulas, given as nodes of `latex_tree.py`. Runs in the process of `latex_worker.py`.

`latex_leaf.py` compares the plain parts (`leaf`).

Equations are equal where a constant factor is between them, and not where they have the same solutions: a policy could
else answer with the question. Where the gold is solved for its unknown, so must the answer be. Inequalities are equal
where they have the same sides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any, Final

from grpo_colab.rewards.latex_leaf import (
    Meaningless,
    Unreadable,
    is_linear,
    is_value_of_function,
    proportional,
    read,
    same_leaf,
)

Node = list[Any]
Alike = Callable[[Node, Node], bool]  # compares two parts


def same(gold: Node, answer: Node, tolerance: float = 0.0, is_part: bool = False) -> bool:
    """Tell whether two nodes state the same. Raises Unreadable.

    `is_part` says that they are parts of something, where `x=1` does not stand for 1.
    """
    gold, answer = _apart(gold, answer), _without_indices(_apart(answer, gold), gold)
    if gold == answer:
        return True
    if "equation" in (gold[0], answer[0]):
        return _same_equation(gold, answer, tolerance, is_part)
    if {gold[0], answer[0]} <= {"leaf", "run"} and {gold[0], answer[0]} != {"run"}:
        return same_leaf(gold[1], answer[1], tolerance)
    judge = JUDGES.get((gold[0], answer[0]), _same_set)
    return judge(gold, answer, functools.partial(same, tolerance=tolerance, is_part=True))


def _apart(node: Node, other: Node) -> Node:
    """Return `(x,y)=(1,2)` as two equations, where the other node is a list, and any other node as it is."""
    if node[0] == "equation" and other[0] == "list" and len(node[3]) == 2:
        names, values = node[3]
        if names[0] == values[0] == "tuple" and len(names[2]) == len(values[2]):
            pairs = zip(names[2], values[2], strict=True)
            return ["list", ",", [["equation", name[1], "letter", [name, value]] for name, value in pairs]]
    return node


def _without_indices(answer: Node, gold: Node) -> Node:
    """Return `x_1=3, x_2=5` as 3 and 5, where the gold is a list of values, and any other answer as it is."""
    if answer[0] == "list" and gold[0] in ("list", "set") and not _has_statements(gold):
        wanted = [f"_{number}" for number in range(1, len(answer[2]) + 1)]
        names = [part[1] for part in answer[2] if part[0] == "equation" and len(part[3]) == 2]
        if sorted(name[1:] for name in names) == sorted(wanted) and len({name[:1] for name in names}) == 1:
            return ["list", ",", [part[3][1] for part in answer[2]]]
    return answer


def _has_statements(node: Node) -> bool:
    """Tell whether a list or a set has equations or inequalities in it."""
    return any(part[0] in ("equation", "relation") for part in node[-1])


def _in_order(gold: list[Node], answer: list[Node], alike: Alike) -> bool:
    return len(gold) == len(answer) and all(map(alike, gold, answer))


def _same_parts(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether each part of a list or a set has a part of the other to itself, and none is left."""
    left = list(answer[-1])
    for part in gold[-1]:
        partner = next((other for other in left if alike(part, other)), None)
        if partner is None:
            return False
        left.remove(partner)
    return not left


def _same_list(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether two lists or sets have the same parts; "or" between statements is neither "and" nor a comma."""
    if _has_statements(gold) and ("or" in gold[1:-1]) != ("or" in answer[1:-1]):
        return _same_set(gold, answer, alike)
    return _same_parts(gold, answer, alike)


def _same_tuple(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether two tuples, or a tuple in round brackets and a list without any, have the same parts in order."""
    brackets = {gold[1], "()" if answer[0] == "list" and answer[1] == "," else answer[1]}
    is_alike = len(brackets) == 1 or (answer[0] == "tuple" and brackets == {"()", "\\langle\\rangle"})
    return is_alike and _in_order(gold[2], answer[2], alike)


def _same_ratio(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether a : b is c : d, so that a d is b c. Raises Unreadable for parts that are no numbers.

    A ratio has no 0 where the other has none, and what may be a time, such as 7:30, has only its own parts.
    """
    if len(gold[1]) != len(answer[1]) or any(part[0] != "leaf" for part in gold[1] + answer[1]):
        return False
    if _may_be_time(gold):
        return _in_order(gold[1], answer[1], functools.partial(same, is_part=True))
    pairs = [(read(a[1]).doit(), read(b[1]).doit()) for a, b in zip(gold[1], answer[1], strict=True)]
    if any((one == 0) != (other == 0) for one, other in pairs):
        return False
    return all((other * a - one * b).doit().expand() == 0 for (one, other), (a, b) in combinations(pairs, 2))


def _may_be_time(ratio: Node) -> bool:
    """Tell whether a ratio may be a time of day."""
    texts = [part[1] for part in ratio[1]]
    is_clock = all(text.isdecimal() and len(text) <= 2 for text in texts)
    return is_clock and all(len(text) == 2 and int(text) < 60 for text in texts[1:])


def _same_relation(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether two chains of inequalities have the same sides, from left to right or from right to left."""
    turned = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
    backwards = [turned[sign] for sign in answer[1][::-1]]
    return (gold[1] == answer[1] and _in_order(gold[2], answer[2], alike)) or (
        gold[1] == backwards and _in_order(gold[2], answer[2][::-1], alike)
    )


def _same_congruence(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether two congruences have the same left side and modulus, and right sides that are congruent.

    They are exact, whatever the tolerance in `alike`.
    """
    alike = functools.partial(same, is_part=True)
    (left, right, modulus), (other_left, other_right, other_modulus) = gold[1], answer[1]
    if not (alike(left, other_left) and alike(modulus, other_modulus)):
        return False
    if alike(right, other_right):
        return True
    nodes = right, other_right, modulus
    numbers = [read(node[1]).doit() for node in nodes if node[0] == "leaf"]
    return len(numbers) == 3 and all(n.is_Integer for n in numbers) and (numbers[0] - numbers[1]) % numbers[2] == 0


def _same_equation(gold: Node, answer: Node, tolerance: float, is_part: bool) -> bool:
    """Tell whether two nodes, of which one is an equation, state the same. Raises Unreadable."""
    expected, given = stated(gold), stated(answer)
    values_agree = expected is not None and given is not None and same(expected, given, tolerance, is_part=True)
    if gold[0] != answer[0]:
        return values_agree and not is_part and not (_is_choice(gold) and answer[2] != "word")
    if gold[1] == answer[1] and gold[1]:
        return values_agree
    kinds = gold[2], answer[2]
    if values_agree and not is_part and kinds not in (("letter", "letter"), ("other", "other")):
        return True
    if len(gold[3]) != len(answer[3]):
        return False
    return _is_same_line(gold, answer)


def _is_choice(node: Node) -> bool:
    """Tell whether a node is one capital letter, as a choice among answers is: `A=B` does not choose B."""
    return bool(node[0] == "leaf" and len(node[1]) == 1 and "A" <= node[1] <= "Z")


def _is_same_line(gold: Node, answer: Node) -> bool:
    """Tell whether a constant factor is between two equations, of which the gold is unsolved, or that of a line."""
    if not (_are_leaves(gold[3]) and _are_leaves(answer[3])):
        return False
    pairs, others = ([(a[1], b[1]) for a, b in pairwise(node[3])] for node in (gold, answer))
    is_solved = bool(gold[2]) or any(map(is_value_of_function, pairs))
    if is_solved and _same_parts(
        ["list", ",", gold[3]], ["list", ",", answer[3]], functools.partial(same, is_part=True)
    ):
        return len(gold[3]) == 2 and not gold[2]
    return (not is_solved or all(map(is_linear, pairs))) and all(map(proportional, pairs, others))


def stated(node: Node) -> Node | None:
    """Return what an equation says that its name is, or the last of several equal numbers; None for other equations.

    Any other node is returned as it is. Raises Unreadable.
    """
    from sympy.core.function import AppliedUndef

    if node[0] != "equation":
        return node
    *members, last = node[3]
    if node[2]:
        members = members[1:]
    elif any(side[0] != "leaf" or read(side[1]).free_symbols or read(side[1]).atoms(AppliedUndef) for side in node[3]):
        return None
    return last if all(same(last, member, is_part=True) for member in members) else None


def _same_set(gold: Node, answer: Node, alike: Alike) -> bool:
    """Tell whether two nodes, such as an interval and an inequality, stand for the same set. Raises Unreadable."""
    one, other = as_set(gold), as_set(answer)
    if one is None or other is None or len({one[1], other[1]} - {None}) > 1:
        return False
    return bool(one[0] == other[0] or one[0].symmetric_difference(other[0]).is_empty)


def as_set(node: Node) -> tuple[Any, Any] | None:
    """Return a node as a sympy set, with the unknown that it names, if any; None for what is no set of numbers.

    Raises Unreadable.
    """
    from sympy import FiniteSet, Intersection, Interval, Set, Union

    found: Any = None
    unknown = None
    if node[0] == "leaf" and isinstance(read(node[1]), Set):
        found = read(node[1])
    elif node[0] == "tuple" and len(node[2]) == 2 and node[1][0] in "([" and _are_leaves(node[2]):
        start, end = (read(part[1]) for part in node[2])
        # It is a point, where it starts behind its end.
        found = Interval(start, end, node[1][0] == "(", node[1][1] == ")") if bool(start < end) else None
    elif node[0] == "set" and _are_leaves(node[1]):
        found = FiniteSet(*(read(part[1]) for part in node[1]))
    elif node[0] == "list":
        parts = [_solution(part) for part in node[2]]
        if node[1] == "or" and any(_is_surely_interval(part) for part in node[2]):
            parts = [as_set(part) if part[0] == "tuple" else None for part in node[2]]
        solved = [part for part in parts if part is not None]
        if len(solved) == len(parts) and len({part[1] for part in solved}) == 1:
            unknown = solved[0][1]
            common = Intersection(*(part[0] for part in solved))
            # A comma is "and", unless nothing is both.
            is_or = node[1] == "or" or (node[1] == "," and common.is_empty)
            found = Union(*(part[0] for part in solved)) if is_or else common
    elif node[0] == "relation":
        return _solution(node)
    return None if found is None else (found, unknown)


def _is_surely_interval(node: Node) -> bool:
    """Tell whether a pair in brackets is an interval, and no point."""
    return node[0] == "tuple" and (node[1] in ("(]", "[)") or any("\\infty" in part[1] for part in node[2]))


def _are_leaves(nodes: list[Node]) -> bool:
    return all(node[0] == "leaf" for node in nodes)


def _solution(node: Node) -> tuple[Any, Any] | None:
    """Return the numbers that `x < 3` or `1 < x < 3` allows, and the unknown; None for what is no solved inequality."""
    from sympy import FiniteSet, Intersection, Interval, S

    if node[0] != "relation" or len(node[2]) > 3 or not _are_leaves(node[2]):
        return None
    members = [read(member[1]) for member in node[2]]
    unknown = members[0] if len(members) == 2 and members[0].is_Symbol else members[1]
    others = [member for member in members if member != unknown]
    if not unknown.is_Symbol or len(others) != len(members) - 1 or any(other.free_symbols for other in others):
        return None
    if "\\ne" in node[1]:
        return (S.Reals - FiniteSet(*others), unknown) if len(members) == 2 else None
    intervals = []
    for (left, right), sign in zip(pairwise(members), node[1], strict=True):
        is_open, is_below = sign in ("<", ">"), (sign in ("<", "\\le")) == (left == unknown)
        bound = right if left == unknown else left
        below, above = Interval(S.NegativeInfinity, bound, True, is_open), Interval(bound, S.Infinity, is_open)
        intervals.append(below if is_below else above)
    return Intersection(*intervals), unknown


JUDGES: Final[dict[tuple[str, str], Callable[[Node, Node, Alike], bool]]] = {
    **{(one, other): _same_list for one in ("list", "set") for other in ("list", "set")},
    **{("tuple", other): _same_tuple for other in ("tuple", "list")},
    ("ratio", "ratio"): _same_ratio,
    ("relation", "relation"): _same_relation,
    ("congruence", "congruence"): _same_congruence,
}


def check(node: Node) -> None:
    """Raise Unreadable for a node with a part that cannot be read, and Meaningless for one that says nothing."""
    if node[0] == "leaf":
        read(node[1])
    elif node[0] == "equation" and not node[2] and stated(node) is None:
        for pair in pairwise(node[3]):
            for member in pair:
                check(member)
            sides = pair[0][1], pair[1][1]
            if _are_leaves(list(pair)) and not proportional(sides, sides):
                raise Meaningless
    else:
        for part in node[1:]:
            for inner in part if isinstance(part, list) else ():
                if isinstance(inner, list):
                    check(inner)


def compare(gold: Node, answer: Node | None, tolerance: float = 0.0) -> str:
    """Return right, wrong, not_a_number where something cannot be read, or too_long where sympy gives up.

    Without an answer, check the gold: it is wrong where it has no meaning.
    """
    from sympy.polys.polyerrors import BasePolynomialError

    try:
        if answer is None:
            check(gold)
            return "right"
        return "right" if same(gold, answer, tolerance) else "wrong"
    except Meaningless:
        return "wrong"
    except Unreadable:
        return "not_a_number"
    except (ArithmeticError, AttributeError, TypeError, ValueError, NotImplementedError, LookupError):
        return "wrong"  # sympy's way to say that it cannot compare these two
    except (RecursionError, MemoryError, BasePolynomialError):
        return "too_long"
