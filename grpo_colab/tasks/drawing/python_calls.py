"""The drawing language for real models: calls of Python functions, in the manner of ironbar's ARC25 study.

    draw_square(img, (0, 2), 2, 3)
    draw_vertical_line(img, 7, 5)

Around the calls there may be any Python that the sandbox runs. `img` is there, a list of rows of zeros, and what it
holds at the end is the drawing. Only the functions may touch it: to copy the image from the prompt is not to draw it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from types import CodeType

from grpo_colab.sandbox import Outcome, Sandbox
from grpo_colab.sandbox.code_blocks import python_code
from grpo_colab.tasks.drawing.canvas import COLOURS, MAX_SIDE, STATEMENTS, CanvasSize, Image, Program, Statement

# letter of a statement -> its function and what that takes between img and color
FUNCTIONS = {
    "P": ("draw_pixel", ("point",)),
    "H": ("draw_horizontal_line", ("row",)),
    "V": ("draw_vertical_line", ("column",)),
    "L": ("draw_line", ("point1", "point2")),
    "R": ("draw_rectangle", ("point1", "point2")),
    "S": ("draw_square", ("point", "side")),
}
SIGNATURES = tuple(f"{name}(img, {', '.join(taken)}, color)" for name, taken in FUNCTIONS.values())
LONGEST = 50_000  # characters of a program: 900 pixels, which draw anything, and as much again

# The functions inside the sandbox: what canvas.cells does, in Python that the sandbox's interpreter has.
PRELUDE = """
def _number(value, last):
    if type(value) is not int:
        raise TypeError(f"a whole number is needed, not {type(value).__name__}")
    return min(max(value, 0), last)

def _point(img, point):
    if type(point) not in (tuple, list) or len(point) != 2:
        raise TypeError("a point is (row, column)")
    return _number(point[0], len(img) - 1), _number(point[1], len(img[0]) - 1)

def _color(color):
    if type(color) is not int or not 0 <= color <= 9:
        raise ValueError("a color is 0 to 9")
    return color

def _fill(img, top, left, bottom, right, color):
    cells = [_color(color)] * max(right - left + 1, 0)
    for row in range(top, bottom + 1):
        img[row][left : right + 1] = cells

def draw_pixel(img, point, color):
    row, column = _point(img, point)
    img[row][column] = _color(color)

def draw_horizontal_line(img, row, color):
    row = _number(row, len(img) - 1)
    _fill(img, row, 0, row, len(img[0]) - 1, color)

def draw_vertical_line(img, column, color):
    column = _number(column, len(img[0]) - 1)
    _fill(img, 0, column, len(img) - 1, column, color)

def draw_rectangle(img, point1, point2, color):
    top, left = _point(img, point1)
    bottom, right = _point(img, point2)
    _fill(img, min(top, bottom), min(left, right), max(top, bottom), max(left, right), color)

def draw_square(img, point, side, color):
    top, left = _point(img, point)
    side = _number(side, len(img) + len(img[0]))
    _fill(img, top, left, min(top + side, len(img)) - 1, min(left + side, len(img[0])) - 1, color)

def draw_line(img, point1, point2, color):
    row, column = _point(img, point1)
    to_row, to_column = _point(img, point2)
    color = _color(color)
    down, right = abs(to_row - row), abs(to_column - column)
    step_row, step_column = (1 if to_row > row else -1), (1 if to_column > column else -1)
    error = right - down
    img[row][column] = color
    while row != to_row or column != to_column:
        twice = 2 * error
        if twice > -down:
            error -= down
            column += step_column
        if twice < right:
            error += right
            row += step_row
        img[row][column] = color
"""


def to_python(program: Program) -> str:
    """`program` as calls, one a line: what a model is taught to write."""
    return "\n".join(_call(statement) for statement in program)


def _call(statement: Statement) -> str:
    name, taken = FUNCTIONS[statement.letter]
    numbers = list(map(str, statement.numbers))
    values = [f"({numbers.pop(0)}, {numbers.pop(0)})" if kind.startswith("point") else numbers.pop(0) for kind in taken]
    return f"{name}(img, {', '.join(values)}, {statement.colour})"


def parse_calls(text: str) -> Program | None:
    """The program of a completion that is nothing but drawing calls with literal numbers; None for any other.

    Nothing is run. Numbers off every canvas become those at the largest canvas's edge, which draws the same.
    """
    try:
        tree = ast.parse(python_code(text).strip()) if len(text) <= LONGEST else None
        return tuple(_statement(node) for node in tree.body) if tree and tree.body else None
    except (*_UNREADABLE, TypeError, KeyError):
        return None


_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what ast.parse raises
_LETTERS = {name: letter for letter, (name, _) in FUNCTIONS.items()}


def _statement(node: ast.stmt) -> Statement:
    """ValueError, TypeError or KeyError for what is no plain call."""
    if not (
        isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call) and isinstance(call.func, ast.Name)
    ):
        raise ValueError("not a call")
    letter = _LETTERS[call.func.id]
    named = {str(keyword.arg): keyword.value for keyword in call.keywords}
    taken = ("img", *FUNCTIONS[letter][1], "color")
    img, *given = [*call.args, *(named.pop(name) for name in taken[len(call.args) :])]
    if named or len(given) != len(taken) - 1 or not (isinstance(img, ast.Name) and img.id == "img"):
        raise ValueError("not its arguments")
    numbers: list[int] = []
    for name, value in zip(taken[1:], map(ast.literal_eval, given), strict=True):
        pair = value if name.startswith("point") else [value]
        if not isinstance(pair, tuple | list) or len(pair) != 1 + name.startswith("point"):
            raise TypeError(name)
        numbers += pair
    if any(type(number) is not int for number in numbers) or not 0 <= numbers[-1] < COLOURS:
        raise TypeError("not numbers")
    limits = [MAX_SIDE if kind == "n" else MAX_SIDE - 1 for kind in STATEMENTS[letter]]
    clipped = tuple(min(max(number, 0), limit) for number, limit in zip(numbers, limits, strict=False))
    return Statement(letter, numbers[-1], clipped)


def run_python(texts: Sequence[str], shapes: Sequence[CanvasSize]) -> list[Image | str]:
    """What each completion's program draws on an empty canvas of its shape, or in words why it draws nothing."""
    codes = [python_code(text).strip() if len(text) <= LONGEST else "" for text in texts]
    whys = [_why_not(code) for code in codes]
    canvases = [{"img": [[0] * columns for _ in range(rows)]} for rows, columns in shapes]
    ours = [(f"{code}\nimg", canvas) for code, canvas, why in zip(codes, canvases, whys, strict=True) if not why]
    outcomes = iter(_sandbox().run([code for code, _ in ours], [canvas for _, canvas in ours]))
    return [f"error: {why}" if why else _drawing(next(outcomes)) for why in whys]


def _drawing(outcome: Outcome) -> Image | str:
    """The image that a program left: `_why_not` has seen to it that only the functions changed it."""
    return tuple(map(tuple, outcome.value)) if outcome.kind == "ok" else f"{outcome.kind}: {outcome.message}"


def _why_not(code: str) -> str:
    """Why `code` draws nothing, found before it runs; empty where it may run.

    `img` stands nowhere but as what a drawing function draws on, and nothing takes the place of what those are made of.
    """
    if not code:
        return f"no program, or one of over {LONGEST:,} characters"
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except _UNREADABLE as error:
        return f"no Python ({error})"
    names = [node for node in nodes if isinstance(node, ast.Name)]
    calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in _LETTERS]
    drawn_on = {value for n in calls for value in (*n.args[:1], *(key.value for key in n.keywords if key.arg == "img"))}
    # functions, classes, imports, exceptions, patterns; then parameters, of which one may be called img
    bound = {getattr(node, field, None) for node in nodes for field in ("name", "asname", "rest")}
    own = bound | {n.arg for n in nodes if isinstance(n, ast.arg)}
    own |= {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    if "img" in bound or any(name.id == "img" and name not in drawn_on for name in names):
        return "img may only be the first argument of a drawing function"
    if wrong := own & _KEPT or _PEEPHOLES.intersection(name.id for name in names):
        return f"a program that draws must not use or redefine {min(map(str, wrong))}"
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {node for function in functions for node in ast.walk(function)}
    if any(isinstance(node, ast.Return) and node not in inner for node in nodes):
        return "return outside of a function"  # the sandbox's interpreter would take its value for img
    return "" if any(name.id == "img" for name in names) else "no drawing function is called on img"


# Ways to img that do without its name, of those that the interpreter has or may come to have.
_PEEPHOLES = frozenset({"eval", "exec", "compile", "globals", "locals", "vars", "__import__", "__builtins__"})
# What the drawing functions call, and themselves: another `len` would be given img.
_PRELUDE = compile(PRELUDE, "<prelude>", "exec")
_KEPT = frozenset(
    name for code in (_PRELUDE, *_PRELUDE.co_consts) if isinstance(code, CodeType) for name in code.co_names
)


@functools.cache
def _sandbox() -> Sandbox:
    """One for all; it starts its workers at the first run, and others after a fork."""
    return Sandbox(PRELUDE)
