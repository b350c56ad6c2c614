"""Grids of ten colours, and the statements that draw on them. Standard library only.

A statement is a letter, a colour and coordinates; a program is a tuple of statements, run in order on a canvas of
colour 0. Rows and columns count from 0 at the top left, and a point outside of the canvas is moved to its nearest edge.

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
# letter -> what follows the colour
STATEMENTS = {"P": "yx", "H": "y", "V": "x", "L": "yxYX", "R": "yxYX", "S": "yxn"}

Image = tuple[tuple[int, ...], ...]  # rows of colours


class CanvasSize(NamedTuple):
    rows: int
    columns: int


class Statement(NamedTuple):
    """`letter` of STATEMENTS, `colour` 0 to 9, and the numbers that this letter takes."""

    letter: str
    colour: int
    numbers: tuple[int, ...]


Program = tuple[Statement, ...]


def shape_of(image: Image) -> CanvasSize:
    return CanvasSize(len(image), len(image[0]))


def blank(shape: CanvasSize, colour: int = 0) -> Image:
    return ((colour,) * shape.columns,) * shape.rows


def cells(statement: Statement, shape: CanvasSize) -> list[tuple[int, int]]:
    """The (row, column) of each cell that `statement` paints on a canvas of `shape`; none for a side below 1."""
    rows, columns = shape
    numbers = _on_canvas(statement, shape)
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
        case _:  # S; another letter is a KeyError above
            top, left, side = numbers
            bottom, right = min(top + side, rows) - 1, min(left + side, columns) - 1
    return [(row, column) for row in range(top, bottom + 1) for column in range(left, right + 1)]


def _on_canvas(statement: Statement, shape: CanvasSize) -> tuple[int, ...]:
    """Its numbers, rows and columns moved to the canvas's nearest edge; a side as it is."""
    kinds = zip(STATEMENTS[statement.letter], statement.numbers, strict=True)
    last = {"y": shape.rows - 1, "Y": shape.rows - 1, "x": shape.columns - 1, "X": shape.columns - 1}
    return tuple(number if kind == "n" else min(max(number, 0), last[kind]) for kind, number in kinds)


def line_cells(row: int, column: int, to_row: int, to_column: int) -> list[tuple[int, int]]:
    """The cells of a straight line from one cell to another (Bresenham 1965), both included."""
    down, right = abs(to_row - row), abs(to_column - column)
    step_row, step_column = (1 if to_row > row else -1), (1 if to_column > column else -1)
    error, found = right - down, [(row, column)]
    while (row, column) != (to_row, to_column):
        twice = 2 * error
        if twice > -down:
            error -= down
            column += step_column
        if twice < right:
            error += right
            row += step_row
        found.append((row, column))
    return found


def execute(program: Iterable[Statement], shape: CanvasSize) -> Image:
    """What `program` draws on an empty canvas."""
    grid = [[0] * shape.columns for _ in range(shape.rows)]
    for statement in program:
        for row, column in cells(statement, shape):
            grid[row][column] = statement.colour
    return tuple(map(tuple, grid))


def prune(program: Sequence[Statement], shape: CanvasSize) -> Program:
    """`program` without the statements that change nothing in what it draws, the first ones left out first."""
    drawn = execute(program, shape)
    kept = list(program)
    index = 0
    while index < len(kept):
        shorter = kept[:index] + kept[index + 1 :]
        if execute(shorter, shape) == drawn:
            kept = shorter
        else:
            index += 1
    return tuple(kept)


def ordered(program: Sequence[Statement], shape: CanvasSize) -> Program:
    """The same drawing, its statements from the top left to the bottom right as far as none covers another.

    Two statements keep their order where they share a cell in different colours; of those that may come next, the one
    whose first visible cell, row by row, is the first. A statement of which nothing is seen comes as late as it may.
    All orders that differ only in statements that may change places become the same one.
    """
    painted = [set(cells(statement, shape)) for statement in program]
    visible: list[tuple[int, int]] = [shape] * len(program)
    over: dict[tuple[int, int], int] = {}  # the colour of all later statements on a cell; -1 for several
    for index in reversed(range(len(program))):
        colour = program[index].colour
        visible[index] = min((cell for cell in painted[index] if over.get(cell, colour) == colour), default=shape)
        over |= {cell: colour if over.get(cell, colour) == colour else -1 for cell in painted[index]}
    waiting = list(range(len(program)))
    done = []
    while waiting:
        free = [
            index
            for place, index in enumerate(waiting)
            if not any(
                program[earlier].colour != program[index].colour and painted[earlier] & painted[index]
                for earlier in waiting[:place]
            )
        ]
        first = min(free, key=lambda index: (visible[index], program[index]))
        waiting.remove(first)
        done.append(program[first])
    return tuple(done)


def simplest(statement: Statement, shape: CanvasSize) -> Statement:
    """What paints the same cells in the fewest words, and within the canvas: for the same cells always the same."""
    painted = set(cells(statement, shape))
    rows, columns = sorted({row for row, _ in painted}), sorted({column for _, column in painted})
    if not painted:
        return Statement("S", statement.colour, (0, 0, 0))
    top, left, bottom, right = rows[0], columns[0], rows[-1], columns[-1]
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
    # a slope that is another one from its other end
    return statement._replace(numbers=_on_canvas(statement, shape))


def normal(program: Sequence[Statement], shape: CanvasSize) -> Program:
    """The same drawing in the form in which the small model learns it: pruned, each statement simplest, and ordered."""
    return ordered([simplest(statement, shape) for statement in prune(program, shape)], shape)


def random_statement(rng: random.Random, shape: CanvasSize) -> Statement:
    """One statement, uniform over the letters; its points lie on the canvas, a rectangle's corners in their order."""
    letter = rng.choice(tuple(STATEMENTS))
    row, column = rng.randrange(shape.rows), rng.randrange(shape.columns)
    to_row, to_column = rng.randrange(shape.rows), rng.randrange(shape.columns)
    if letter == "R":
        (row, to_row), (column, to_column) = sorted((row, to_row)), sorted((column, to_column))
    side = rng.randint(1, min(shape.rows - row, shape.columns - column))
    values = {"y": row, "x": column, "Y": to_row, "X": to_column, "n": side}
    return Statement(letter, rng.randrange(COLOURS), tuple(values[kind] for kind in STATEMENTS[letter]))


def random_drawing(rng: random.Random, draws: Sequence[int], sides: Sequence[int]) -> tuple[Image, Program]:
    """An image and a program that draws it: a number of statements out of `draws`, rows and columns out of `sides`.

    No statement can be left out, so that the program may be shorter than was drawn for it; it is never empty.
    """
    while True:
        shape = CanvasSize(rng.choice(sides), rng.choice(sides))
        program = prune([random_statement(rng, shape) for _ in range(rng.choice(draws))], shape)
        if program:
            return execute(program, shape), program


def random_drawings(seed: int, draws: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[Image, Program]]:
    """Endless random drawings, the same ones for the same seed."""
    rng = random.Random(f"drawings/{seed}")
    while True:
        yield random_drawing(rng, draws, sides)
