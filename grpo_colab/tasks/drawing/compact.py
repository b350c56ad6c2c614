"""The compact drawing language: a word is a token, and says by itself what it is, so that a small model can write it.

    S c3 y0 x2 n2 V c5 x7      a square of colour 3 and side 2 at row 0, column 2; then column 7 in colour 5

The words of a statement: its letter, c (colour), y and x (a row and a column), Y and X (those of the other end), n (a
side). The image that is asked for is told in words too: "rows6 columns8", then "y0x2:3" where in row 0 colour 3 begins
at column 2, and goes on until the row's next word.
"""

from __future__ import annotations

import re

from grpo_colab.tasks.drawing.canvas import COLOURS, MAX_SIDE, STATEMENTS, Image, Program, Statement


def to_compact(program: Program) -> str:
    words = []
    for letter, colour, numbers in program:
        words += [letter, f"c{colour}", *map("{}{}".format, STATEMENTS[letter], numbers)]
    return " ".join(words)


def from_compact(text: str) -> Program:
    """The program that `text` says; ValueError that names the word which is wrong."""
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
            word, limit = words[place] if place < len(words) else "", COLOURS - 1 if kind == "c" else MAX_SIDE
            number = word[1:]
            if word[:1] != kind or not re.fullmatch("[0-9]{1,2}", number) or int(number) > limit:
                found = f"word {place + 1}, {word[:20]!r}" if word else "the end"
                raise ValueError(f"{found}: after {words[place - 1]!r} comes {kind}0 to {kind}{limit}")
            numbers.append(int(number))
        program.append(Statement(letter, numbers[0], tuple(numbers[1:])))
        place += 1
    return tuple(program)


def asked(image: Image) -> str:
    """`image` as the question that the small model was made for: its size, and where each row changes its colour."""
    runs = [
        f"y{row}x{column}:{colour}"
        for row, line in enumerate(image)
        for column, colour in enumerate(line)
        if column == 0 or line[column - 1] != colour
    ]
    return " ".join([f"rows{len(image)}", f"columns{len(image[0])}", *runs])


def vocabulary(max_side: int) -> list[str]:
    """All words of programs, then all of questions, for images of up to `max_side` rows and columns."""
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
    """The words of a question that say where a colour begins: by row, then column, then colour."""
    places = range(max_side)
    return [f"y{row}x{column}:{colour}" for row in places for column in places for colour in range(COLOURS)]
