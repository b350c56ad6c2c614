"""Write, read and run programs in the drawing language of real models: calls of Python functions.

    draw_square(img, (0, 2), 2, 3)
    draw_vertical_line(img, 7, 5)

The functions are those of ironbar's ARC25 study. Around the calls there may be any Python that the sandbox runs. `img`
is given as a list of rows of zeros, and what it holds at the end is the drawing. Only the functions may change it:
otherwise a program could copy the image from the prompt instead of drawing it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from types import CodeType
from typing import Any

from grpo_colab.sandbox import Outcome, Sandbox
from grpo_colab.sandbox.code_blocks import python_code
from grpo_colab.tasks.drawing.canvas import COLOURS, MAX_SIDE, STATEMENTS, CanvasSize, Image, Program, Statement

# The letter of a statement -> its function, and the function's parameters between img and color.
FUNCTIONS = {
    "P": ("draw_pixel", ("point",)),
    "H": ("draw_horizontal_line", ("row",)),
    "V": ("draw_vertical_line", ("column",)),
    "L": ("draw_line", ("point1", "point2")),
    "R": ("draw_rectangle", ("point1", "point2")),
    "S": ("draw_square", ("point", "side")),
}
SIGNATURES = tuple(f"{name}(img, {', '.join(parameters)}, color)" for name, parameters in FUNCTIONS.values())
LONGEST = 50_000  # characters of a program: twice what 900 pixels take, which draw any image

# The functions inside the sandbox. They do what canvas.cells does, in the Python that the sandbox's interpreter knows.
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
    """Return `program` as calls, one per line: what a model is taught to write."""
    return "\n".join(_call(statement) for statement in program)


def _call(statement: Statement) -> str:
    """Return a statement as a call. A parameter that is a point takes two of the statement's numbers."""
    name, parameters = FUNCTIONS[statement.letter]
    numbers = iter(statement.numbers)
    values = []
    for parameter in parameters:
        if parameter.startswith("point"):
            values.append(f"({next(numbers)}, {next(numbers)})")
        else:
            values.append(str(next(numbers)))
    return f"{name}(img, {', '.join(values)}, {statement.colour})"


def parse_calls(text: str) -> Program | None:
    """Return the program of a completion that is nothing but drawing calls with literal numbers; None for any other.

    The calls may stand in a code block. No call at all, and more than LONGEST characters, give None, too. Nothing is
    run or raised. Numbers outside every canvas are moved to the edge of the largest one, which draws the same.
    """
    if len(text) > LONGEST:
        return None
    try:
        calls = ast.parse(python_code(text).strip()).body
        return tuple(_statement(call) for call in calls) or None
    except (*_UNREADABLE, TypeError, KeyError):
        return None


_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what ast.parse raises
_LETTERS = {name: letter for letter, (name, _) in FUNCTIONS.items()}


def _statement(node: ast.stmt) -> Statement:
    """Return the statement of a drawing call; raise ValueError, TypeError or KeyError for anything else."""
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError("not a call")
    letter = _LETTERS[call.func.id]
    parameters = ("img", *FUNCTIONS[letter][1], "color")
    # Bind the arguments as Python would: first by position, the rest by name.
    by_name = {str(keyword.arg): keyword.value for keyword in call.keywords}
    by_position = len(call.args)
    img, *arguments = [*call.args, *(by_name.pop(parameter) for parameter in parameters[by_position:])]
    if by_name or len(arguments) != len(parameters) - 1 or not (isinstance(img, ast.Name) and img.id == "img"):
        raise ValueError("not its arguments")
    *numbers, colour = _literal_numbers(parameters[1:], arguments)
    if not 0 <= colour < COLOURS:
        raise TypeError("not a colour")
    limits = [MAX_SIDE if kind == "n" else MAX_SIDE - 1 for kind in STATEMENTS[letter]]
    clipped = tuple(min(max(number, 0), limit) for number, limit in zip(numbers, limits, strict=False))
    return Statement(letter, colour, clipped)


def _literal_numbers(parameters: Sequence[str], arguments: Sequence[ast.expr]) -> list[int]:
    """Return the whole numbers of a call's arguments, two for a point; raise ValueError or TypeError for anything else.

    Nothing is run: `ast.literal_eval` accepts literals only.
    """
    numbers: list[Any] = []
    for parameter, argument in zip(parameters, arguments, strict=True):
        value = ast.literal_eval(argument)
        if parameter.startswith("point"):
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise TypeError(parameter)
            numbers += value
        else:
            numbers.append(value)
    if any(type(number) is not int for number in numbers):
        raise TypeError("not numbers")
    return numbers


def run_python(texts: Sequence[str], shapes: Sequence[CanvasSize]) -> list[Image | str]:
    """Run the completions' programs in the sandbox; return what each draws on an empty canvas of its shape.

    For a program that draws nothing the result is a text that says why: nothing is raised for it. Raises what
    `Sandbox.run` raises, such as RuntimeError when the workers hang.
    """
    codes = [python_code(text).strip() if len(text) <= LONGEST else "" for text in texts]
    problems = [_problem_of(code) for code in codes]
    programs: list[str] = []
    variables: list[dict[str, Any]] = []
    for code, (rows, columns), problem in zip(codes, shapes, problems, strict=True):
        if not problem:
            programs.append(f"{code}\nimg")  # the last expression is what the sandbox returns
            variables.append({"img": [[0] * columns for _ in range(rows)]})
    outcomes = iter(_sandbox().run(programs, variables))
    return [f"error: {problem}" if problem else _drawing(next(outcomes)) for problem in problems]


def _drawing(outcome: Outcome) -> Image | str:
    """Return the image that a program left in `img`, or why there is none.

    `_problem_of` has made sure that only the drawing functions changed it, so it is a grid of colours.
    """
    if outcome.kind != "ok":
        return f"{outcome.kind}: {outcome.message}"
    return tuple(map(tuple, outcome.value))


def _problem_of(code: str) -> str:
    """Return why `code` may not run as a drawing program; an empty text if it may.

    `img` may only be what a drawing function draws on, and nothing that the drawing functions use may be replaced.
    """
    if not code:
        return f"no program, or one of over {LONGEST:,} characters"
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except _UNREADABLE as error:
        return f"no Python ({error})"
    names = [node for node in nodes if isinstance(node, ast.Name)]
    canvases = _canvas_arguments(nodes)
    # Names that definitions, imports, exceptions and patterns bind. None of them may be img.
    defined = {getattr(node, field, None) for node in nodes for field in ("name", "asname", "rest")}
    if "img" in defined or any(name.id == "img" and name not in canvases for name in names):
        return "img may only be the first argument of a drawing function"
    # Parameters and assignments bind names, too. A parameter may be called img: inside its function, the same rule
    # applies to it.
    bound = defined | {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    wrong = bound & _PROTECTED_NAMES or _FORBIDDEN_NAMES.intersection(name.id for name in names)
    if wrong:
        return f"a program that draws must not use or redefine {min(map(str, wrong))}"
    # The sandbox's interpreter would take the value of a return outside of a function for img.
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside_functions = {node for function in functions for node in ast.walk(function)}
    if any(isinstance(node, ast.Return) and node not in inside_functions for node in nodes):
        return "return outside of a function"
    return "" if any(name.id == "img" for name in names) else "no drawing function is called on img"


def _canvas_arguments(nodes: Sequence[ast.AST]) -> set[ast.expr]:
    """Return what the drawing functions are told to draw on: the first argument of each call, or its `img=`."""
    canvases: set[ast.expr] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _LETTERS:
            canvases.update(node.args[:1])
            canvases.update(keyword.value for keyword in node.keywords if keyword.arg == "img")
    return canvases


def _names_used(code: CodeType) -> set[str]:
    """Return the global names that a module's code uses, at its top level and in its functions."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(constant.co_names)
    return names


# Ways to reach img without its name, of those that the interpreter has or may get.
_FORBIDDEN_NAMES = frozenset({"eval", "exec", "compile", "globals", "locals", "vars", "__import__", "__builtins__"})
# The drawing functions and all they call. A program's own `len`, for instance, would be handed img.
_PROTECTED_NAMES = frozenset(_names_used(compile(PRELUDE, "<prelude>", "exec")))


@functools.cache
def _sandbox() -> Sandbox:
    """Return the one sandbox of this process. It starts its workers at the first run, and new ones after a fork.

    Raises SettingError where the sandbox cannot run, as without pydantic-monty.
    """
    return Sandbox(PRELUDE)
