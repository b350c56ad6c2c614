"""Define grids of ten colours and the statements that draw on them. Standard library only.

A statement is a letter, a colour and coordinates. A program is a tuple of statements, run in order on a canvas of
colour 0. Rows and columns count from 0 at the top left. A point outside the canvas is moved to its nearest edge.
`compact` and `python_calls` write programs as text, `images` reads images.

    P pixel       colour, row, column
    H horizontal  colour, row                            the whole row
    V vertical    colour, column                         the whole column
    L line        colour, row, column, row, column       both ends included
    R rectangle   colour, row, column, row, column       filled, both corners included
    S square      colour, row, column, side              filled, from its top left corner
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

COLOURS = 10
MAX_SIDE = 30
# The letter of a statement -> the kinds of numbers that follow its colour. y and x are a row and a column, Y and X are
# those of the other end, n is a side.
STATEMENTS = {"P": "yx", "H": "y", "V": "x", "L": "yxYX", "R": "yxYX", "S": "yxn"}

Image = tuple[tuple[int, ...], ...]  # rows of colours


class CanvasSize(NamedTuple):
    """The number of rows and columns of a canvas."""

    rows: int
    columns: int


class Statement(NamedTuple):
    """One drawing statement: a letter of STATEMENTS, a colour from 0 to 9, and the numbers that the letter takes."""

    letter: str
    colour: int
    numbers: tuple[int, ...]


Program = tuple[Statement, ...]


def shape_of(image: Image) -> CanvasSize:
    """Return the number of rows and columns of an image."""
    return CanvasSize(len(image), len(image[0]))


def blank(shape: CanvasSize, colour: int = 0) -> Image:
    """Return an image of one colour."""
    return ((colour,) * shape.columns,) * shape.rows


def cells(statement: Statement, shape: CanvasSize) -> list[tuple[int, int]]:
    """Return the (row, column) of each cell that `statement` paints on a canvas of `shape`.

    No cell is in the list twice. It is empty for a square with a side below 1. Raises KeyError for an unknown letter,
    and ValueError for a wrong count of numbers.
    """
    rows, columns = shape
    numbers = _numbers_on_canvas(statement, shape)
    match statement.letter:
        case "P":
            return [(numbers[0], numbers[1])]
        case "H":
            return [(numbers[0], column) for column in range(columns)]
        case "V":
            return [(row, numbers[0]) for row in range(rows)]
        case "L":
            return line_cells(*numbers)
        case "R":
            top, left, bottom, right = numbers
            (top, bottom), (left, right) = sorted((top, bottom)), sorted((left, right))
        case _:  # S; for an unknown letter, _numbers_on_canvas has raised KeyError
            top, left, side = numbers
            bottom = min(top + side, rows) - 1
            right = min(left + side, columns) - 1
    return [(row, column) for row in range(top, bottom + 1) for column in range(left, right + 1)]


def _numbers_on_canvas(statement: Statement, shape: CanvasSize) -> tuple[int, ...]:
    """Return a statement's numbers with rows and columns moved to the nearest edge of the canvas; a side is kept."""
    last = {"y": shape.rows - 1, "Y": shape.rows - 1, "x": shape.columns - 1, "X": shape.columns - 1}
    moved = []
    for kind, number in zip(STATEMENTS[statement.letter], statement.numbers, strict=True):
        moved.append(number if kind == "n" else min(max(number, 0), last[kind]))
    return tuple(moved)


def line_cells(row: int, column: int, to_row: int, to_column: int) -> list[tuple[int, int]]:
    """Return the cells of a straight line from one cell to another, both included (Bresenham 1965)."""
    down, right = abs(to_row - row), abs(to_column - column)
    step_row = 1 if to_row > row else -1
    step_column = 1 if to_column > column else -1
    error = right - down
    line = [(row, column)]
    while (row, column) != (to_row, to_column):
        twice = 2 * error
        if twice > -down:
            error -= down
            column += step_column
        if twice < right:
            error += right
            row += step_row
        line.append((row, column))
    return line


def execute(program: Iterable[Statement], shape: CanvasSize) -> Image:
    """Return the image that `program` draws on an empty canvas of `shape`."""
    grid = [[0] * shape.columns for _ in range(shape.rows)]
    for statement in program:
        for row, column in cells(statement, shape):
            grid[row][column] = statement.colour
    return tuple(map(tuple, grid))


def prune(program: Sequence[Statement], shape: CanvasSize) -> Program:
    """Return `program` without the statements that are not needed for its image.

    Statements are tried from the first to the last, and each is left out if the image stays the same.
    """
    image = execute(program, shape)
    kept = list(program)
    index = 0
    while index < len(kept):
        shorter = kept[:index] + kept[index + 1 :]
        if execute(shorter, shape) == image:
            kept = shorter
        else:
            index += 1
    return tuple(kept)


def ordered(program: Sequence[Statement], shape: CanvasSize) -> Program:
    """Return the program with its statements sorted from the top left to the bottom right, drawing the same image.

    Two statements keep their order if they paint a common cell in different colours. Of the statements that may come
    next, the one whose first visible cell, row by row, comes first is taken. A statement that cannot be seen comes as
    late as possible. Programs that differ only in the order of independent statements become equal.
    """
    painted = [set(cells(statement, shape)) for statement in program]
    visible = _first_visible_cells(program, painted, shape)

    def must_follow(index: int, earlier: int) -> bool:
        return program[earlier].colour != program[index].colour and bool(painted[earlier] & painted[index])

    remaining = list(range(len(program)))  # indices into `program`
    result = []
    while remaining:
        candidates = []
        for place, index in enumerate(remaining):
            if not any(must_follow(index, earlier) for earlier in remaining[:place]):
                candidates.append(index)
        following = min(candidates, key=lambda index: (visible[index], program[index]))
        remaining.remove(following)
        result.append(program[following])
    return tuple(result)


def _first_visible_cells(
    program: Sequence[Statement], painted: Sequence[set[tuple[int, int]]], shape: CanvasSize
) -> list[tuple[int, int]]:
    """Return the first cell, row by row, that each statement determines in the image; `shape` if there is none.

    `painted` has the cells of each statement. A cell counts if all later statements paint it in the same colour, too.
    """
    mixed = -1
    visible: list[tuple[int, int]] = [shape] * len(program)
    # The colour in which the later statements paint a cell, or `mixed` if they disagree.
    later_colour: dict[tuple[int, int], int] = {}
    for index in reversed(range(len(program))):
        colour = program[index].colour
        agreeing = {cell for cell in painted[index] if later_colour.get(cell, colour) == colour}
        visible[index] = min(agreeing, default=shape)
        for cell in painted[index]:
            later_colour[cell] = colour if cell in agreeing else mixed
    return visible


def simplest(statement: Statement, shape: CanvasSize) -> Statement:
    """Return the statement that paints the same cells in the fewest words, with all its points on the canvas.

    Statements that paint the same cells in the same colour become equal. One that paints nothing becomes a square of
    side 0 at the top left.
    """
    painted = set(cells(statement, shape))
    if not painted:
        return Statement("S", statement.colour, (0, 0, 0))
    top, bottom = min(row for row, _ in painted), max(row for row, _ in painted)
    left, right = min(column for _, column in painted), max(column for _, column in painted)
    candidates: list[tuple[str, tuple[int, ...]]] = [
        ("P", (top, left)),
        ("H", (top,)),
        ("V", (left,)),
        ("S", (top, left, bottom - top + 1)),
        ("R", (top, left, bottom, right)),
        ("L", (top, left, bottom, right)),
        ("L", (top, right, bottom, left)),
    ]
    for letter, numbers in candidates:
        shorter = Statement(letter, statement.colour, numbers)
        if set(cells(shorter, shape)) == painted:
            return shorter
    # A line that runs upwards: rounding gives other cells from its other end, so it is none of the candidates.
    return statement._replace(numbers=_numbers_on_canvas(statement, shape))


def normal_form(program: Sequence[Statement], shape: CanvasSize) -> Program:
    """Return the program in the form in which the small model learns it, drawing the same image.

    The program is pruned, each statement is the simplest, and the statements are ordered.
    """
    return ordered([simplest(statement, shape) for statement in prune(program, shape)], shape)


def random_statement(rng: random.Random, shape: CanvasSize) -> Statement:
    """Return a random statement, each letter equally likely, with all its points on the canvas.

    The first corner of a rectangle is its top left.
    """
    letter = rng.choice(tuple(STATEMENTS))
    row, column = rng.randrange(shape.rows), rng.randrange(shape.columns)
    to_row, to_column = rng.randrange(shape.rows), rng.randrange(shape.columns)
    if letter == "R":
        row, to_row = sorted((row, to_row))
        column, to_column = sorted((column, to_column))
    side = rng.randint(1, min(shape.rows - row, shape.columns - column))
    values = {"y": row, "x": column, "Y": to_row, "X": to_column, "n": side}
    return Statement(letter, rng.randrange(COLOURS), tuple(values[kind] for kind in STATEMENTS[letter]))


def random_drawing(rng: random.Random, draws: Sequence[int], sides: Sequence[int]) -> tuple[Image, Program]:
    """Return a random image and a program that draws it.

    The number of statements is chosen from `draws`, the rows and the columns each from `sides`. Statements that are not
    needed are then left out, so the program may be shorter; it is never empty.
    """
    while True:
        shape = CanvasSize(rng.choice(sides), rng.choice(sides))
        program = prune([random_statement(rng, shape) for _ in range(rng.choice(draws))], shape)
        if program:
            return execute(program, shape), program


def random_drawings(seed: int, draws: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[Image, Program]]:
    """Yield random images with their programs without end, the same ones for the same seed."""
    rng = random.Random(f"drawings/{seed}")
    while True:
        yield random_drawing(rng, draws, sides)
