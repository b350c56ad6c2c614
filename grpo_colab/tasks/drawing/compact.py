"""Write and read programs in the compact drawing language, which the small model speaks: each word is one token.

    S c3 y0 x2 n2 V c5 x7      a square of colour 3 and side 2 at row 0, column 2; then column 7 in colour 5

The words of a statement are its letter, c (colour), y and x (a row and a column), Y and X (those of the other end) and
n (a side). The prompt is the image in words, too: first "rows6 columns8", then its runs. The run "y0x2:3" says that in
row 0 colour 3 begins at column 2; it ends where the next run begins.
"""

from __future__ import annotations

import itertools
import re

from grpo_colab.tasks.drawing.canvas import COLOURS, MAX_SIDE, STATEMENTS, Image, Program, Statement


def to_compact(program: Program) -> str:
    """Return a program as text in the compact language."""
    words = []
    for letter, colour, numbers in program:
        words += [letter, f"c{colour}"]
        words += [f"{kind}{number}" for kind, number in zip(STATEMENTS[letter], numbers, strict=False)]
    return " ".join(words)


def from_compact(text: str) -> Program:
    """Return the program that `text` describes; raise ValueError that names the first wrong word, counted from 1.

    An empty text is an empty program.
    """
    words = text.split()
    program = []
    place = 0
    while place < len(words):
        letter = words[place]
        if letter not in STATEMENTS:
            raise ValueError(f"word {place + 1}, {letter[:20]!r}: a statement begins with {', '.join(STATEMENTS)}")
        numbers = []
        for kind in "c" + STATEMENTS[letter]:
            place += 1
            word = words[place] if place < len(words) else ""
            number = word[1:]
            limit = COLOURS - 1 if kind == "c" else MAX_SIDE
            if word[:1] != kind or not re.fullmatch("[0-9]{1,2}", number) or int(number) > limit:
                where = f"word {place + 1}, {word[:20]!r}" if word else "the end"
                raise ValueError(f"{where}: after {words[place - 1]!r} comes {kind}0 to {kind}{limit}")
            numbers.append(int(number))
        program.append(Statement(letter, numbers[0], tuple(numbers[1:])))
        place += 1
    return tuple(program)


def image_words(image: Image) -> str:
    """Return `image` in words, the prompt of the small model: its size, and where each row changes its colour."""
    words = [f"rows{len(image)}", f"columns{len(image[0])}"]
    for row, line in enumerate(image):
        for column, colour in enumerate(line):
            if column == 0 or line[column - 1] != colour:
                words.append(f"y{row}x{column}:{colour}")
    return " ".join(words)


def vocabulary(max_side: int) -> list[str]:
    """Return all words of programs, then all words of prompts, for images of up to `max_side` rows and columns."""
    sides = range(1, max_side + 1)
    program = [
        *STATEMENTS,
        *(f"c{colour}" for colour in range(COLOURS)),
        *(f"{kind}{place}" for kind in "yxYX" for place in range(max_side)),
        *(f"n{side}" for side in sides),
    ]
    size = [f"{word}{side}" for word in ("rows", "columns") for side in sides]
    return program + size + run_words(max_side)


def run_words(max_side: int) -> list[str]:
    """Return the words of a prompt that say where a colour begins, sorted by row, then column, then colour."""
    places = itertools.product(range(max_side), range(max_side), range(COLOURS))
    return [f"y{row}x{column}:{colour}" for row, column, colour in places]
