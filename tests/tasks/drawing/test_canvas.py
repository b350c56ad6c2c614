"""Statements draw what they say, pruning and ordering keep the drawing, both languages mean what the canvas does."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_colab.tasks.drawing.canvas import (
    STATEMENTS,
    CanvasSize,
    Image,
    Program,
    Statement,
    blank,
    cells,
    execute,
    line_cells,
    ordered,
    prune,
    random_drawing,
    random_drawings,
    random_statement,
    shape_of,
    simplest,
)
from grpo_colab.tasks.drawing.compact import from_compact, image_words, to_compact, vocabulary
from grpo_colab.tasks.drawing.python_calls import parse_calls, run_python, to_python

shapes = st.builds(CanvasSize, st.integers(1, 12), st.integers(1, 12))


def statements(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Statement]:
    return st.sampled_from(sorted(STATEMENTS)).flatmap(
        lambda letter: st.builds(
            Statement, st.just(letter), st.integers(0, 9), st.tuples(*[numbers] * len(STATEMENTS[letter]))
        )
    )


# small numbers on small canvases, so that statements cover each other
programs = st.lists(statements(st.integers(0, 8)), max_size=7).map(tuple)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("P c3 y1 x2", "0000 0030 0000"),
        ("P c3 y9 x9", "0000 0000 0003"),
        ("H c4 y1", "0000 4444 0000"),
        ("V c5 x3", "0005 0005 0005"),
        ("V c5 x30", "0005 0005 0005"),
        ("L c1 y0 x0 Y2 X2", "1000 0100 0010"),
        ("L c1 y2 x0 Y0 X2", "0010 0100 1000"),
        ("L c1 y1 x3 Y1 X1", "0000 0111 0000"),
        ("R c2 y0 x1 Y1 X3", "0222 0222 0000"),
        ("R c2 y1 x3 Y0 X1", "0222 0222 0000"),
        ("S c6 y1 x1 n2", "0000 0660 0660"),
        ("S c6 y1 x2 n9", "0000 0066 0066"),
        ("S c6 y1 x1 n0", "0000 0000 0000"),
        ("H c4 y0 V c5 x0 P c0 y0 x3", "5440 5000 5000"),
    ],
)
def test_what_statements_draw(words: str, rows: str) -> None:
    drawn = execute(from_compact(words), CanvasSize(3, 4))
    assert drawn == tuple(tuple(map(int, row)) for row in rows.split())


@given(statements(st.integers(-(10**40), 10**40) | st.integers(-3, 15)), shapes)
def test_cells_lie_on_the_canvas_and_none_twice(statement: Statement, shape: CanvasSize) -> None:
    found = cells(statement, shape)
    assert all(0 <= row < shape.rows and 0 <= column < shape.columns for row, column in found)
    assert len(set(found)) == len(found)
    assert found or statement.letter == "S"


points = st.tuples(st.integers(0, 29), st.integers(0, 29))


@given(points, points)
def test_a_line_goes_from_end_to_end_by_neighbours_and_close_to_the_straight_one(start, end) -> None:
    found = line_cells(*start, *end)
    assert (found[0], found[-1]) == (start, end)
    down, right = end[0] - start[0], end[1] - start[1]
    assert len(found) == max(abs(down), abs(right)) + 1
    assert all(max(abs(a - c), abs(b - d)) == 1 for (a, b), (c, d) in pairwise(found))
    # |cross product| / longer side is the distance along the shorter one: half a cell at most
    assert all(
        2 * abs((row - start[0]) * right - (column - start[1]) * down) <= max(abs(down), abs(right))
        for row, column in found
    )
    assert len(line_cells(*end, *start)) == len(found)


@given(programs, shapes)
def test_pruning_keeps_the_drawing_and_nothing_that_could_go(program: Program, shape: CanvasSize) -> None:
    kept = prune(program, shape)
    drawn = execute(program, shape)
    assert execute(kept, shape) == drawn
    assert all(execute(kept[:i] + kept[i + 1 :], shape) != drawn for i in range(len(kept)))
    left = iter(program)
    assert all(statement in left for statement in kept)  # in their order


@given(programs, shapes)
def test_ordering_keeps_the_drawing_and_the_statements(program: Program, shape: CanvasSize) -> None:
    done = ordered(program, shape)
    assert execute(done, shape) == execute(program, shape)
    assert sorted(done) == sorted(program)


@given(programs, shapes, st.randoms(use_true_random=False))
def test_ordering_does_not_depend_on_the_order_of_what_may_change_places(program, shape, rng) -> None:
    """Neighbours that share no cell, or have one colour, change places at random: the same order comes of it."""
    mixed = list(program)
    for _ in range(3 * len(mixed)):
        at = rng.randrange(len(mixed) - 1) if len(mixed) > 1 else 0
        pair = mixed[at : at + 2]
        first, last = pair[0], pair[-1]
        if first.colour == last.colour or not set(cells(first, shape)) & set(cells(last, shape)):
            mixed[at : at + 2] = reversed(pair)
    assert ordered(mixed, shape) == ordered(program, shape)


@pytest.mark.parametrize(
    ("words", "shortest"),
    [
        ("R c1 y1 x1 Y1 X1", "P c1 y1 x1"),
        ("L c1 y2 x3 Y2 X0", "H c1 y2"),
        ("R c1 y9 x2 Y0 X2", "V c1 x2"),
        ("R c1 y2 x2 Y1 X1", "S c1 y1 x1 n2"),
        ("S c1 y1 x2 n9", "S c1 y1 x2 n2"),
        ("S c1 y1 x1 n9", "R c1 y1 x1 Y2 X3"),
        ("R c1 y1 x3 Y0 X1", "R c1 y0 x1 Y1 X3"),
        ("L c1 y1 x3 Y1 X2", "R c1 y1 x2 Y1 X3"),
        ("L c1 y2 x2 Y0 X0", "L c1 y0 x0 Y2 X2"),
        ("L c1 y2 x0 Y0 X2", "L c1 y0 x2 Y2 X0"),
        # another slope from its other end; off the canvas it is the one at its edge
        ("L c1 y1 x0 Y0 X2", "L c1 y1 x0 Y0 X2"),
        ("L c1 y1 x1 Y0 X9", "L c1 y1 x1 Y0 X3"),
        ("L c1 y9 x1 Y1 X3", "L c1 y2 x1 Y1 X3"),
        ("S c1 y2 x2 n0", "S c1 y0 x0 n0"),
    ],
)
def test_the_shortest_statement_for_what_is_painted(words: str, shortest: str) -> None:
    [statement], shape = from_compact(words), CanvasSize(3, 4)
    assert to_compact((simplest(statement, shape),)) == shortest
    assert cells(simplest(statement, shape), shape) or statement.numbers[-1] == 0


@given(
    st.lists(statements(st.integers(-1, 5)), min_size=2, max_size=12), st.builds(CanvasSize, *[st.integers(1, 4)] * 2)
)
def test_what_paints_the_same_is_the_same_when_simplest(several: list[Statement], shape: CanvasSize) -> None:
    forms: dict[frozenset[tuple[int, int]], set[Statement]] = {}
    for statement in several:
        short = simplest(statement, shape)
        assert set(cells(short, shape)) == set(cells(statement, shape))
        forms.setdefault(frozenset(cells(statement, shape)), set()).add(short._replace(colour=0))
    assert all(len(found) == 1 for found in forms.values())


def test_statements_that_do_not_touch_come_in_reading_order() -> None:
    program = from_compact("P c1 y0 x0 S c2 y0 x2 n2 H c3 y3 P c4 y2 x0")
    mixed = random.Random(0).sample(program, len(program))
    assert ordered(mixed, CanvasSize(4, 4)) == from_compact("P c1 y0 x0 S c2 y0 x2 n2 P c4 y2 x0 H c3 y3")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        # the column's first cell is covered, so that the row above its second one comes before it
        ("V c1 x0 P c2 y0 x0 P c3 y0 x2", "P c3 y0 x2 V c1 x0 P c2 y0 x0"),
        # covered by another colour, though the one just above it is its own
        ("V c1 x0 L c1 y0 x0 Y0 X1 P c5 y0 x0 P c3 y0 x2", "L c1 y0 x0 Y0 X1 P c3 y0 x2 V c1 x0 P c5 y0 x0"),
        # nothing of the first is seen
        ("P c1 y0 x0 S c2 y0 x0 n2 P c3 y2 x2", "P c3 y2 x2 P c1 y0 x0 S c2 y0 x0 n2"),
    ],
)
def test_the_first_visible_cell_decides(program: str, expected: str) -> None:
    assert to_compact(ordered(from_compact(program), CanvasSize(3, 3))) == expected


def test_random_drawings_are_their_programs_and_the_same_for_a_seed() -> None:
    found = [pair for pair, _ in zip(random_drawings(3, range(1, 6), range(3, 11)), range(200), strict=False)]
    for image, program in found:
        assert execute(program, shape_of(image)) == image != blank(shape_of(image))
        assert prune(program, shape_of(image)) == program
        assert 1 <= len(program) <= 5
        assert all(3 <= side <= 10 for side in shape_of(image))
    assert {statement.letter for _, program in found for statement in program} == set(STATEMENTS)
    again = random_drawings(3, range(1, 6), range(3, 11))
    assert [next(again) for _ in range(200)] == found
    assert next(random_drawings(4, range(1, 6), range(3, 11))) != found[0]


@given(programs)
def test_compact_says_every_program(program: Program) -> None:
    assert from_compact(to_compact(program)) == program


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Q c1 y0", "word 1, 'Q'"),
        ("P c1 y0", "the end: after 'y0' comes x0 to x30"),
        ("P c1 x0 y0", "word 3, 'x0': after 'c1' comes y0 to y30"),
        ("H c1 y0 V", "the end"),
        ("H c10 y0", "word 2, 'c10': after 'H' comes c0 to c9"),
        ("H c1 y31", "word 3, 'y31'"),
        ("H c1 y-1", "'y-1'"),
        ("H c1 y", "'y'"),
        ("H c1 y²", "word 3"),
        ("H c1 y٣", "word 3"),
        ("H c1 y" + "1" * 5000, "'y1111111111111111111'"),
    ],
)
def test_the_wrong_word_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"word|the end") as caught:
        from_compact(text)
    assert said in str(caught.value)


def test_an_image_is_asked_for_by_where_its_colours_begin() -> None:
    image = ((1, 1, 2, 2), (0, 9, 9, 0), (3, 3, 3, 3))
    assert image_words(image) == "rows3 columns4 y0x0:1 y0x2:2 y1x0:0 y1x1:9 y1x3:0 y2x0:3"


def test_the_vocabulary_has_a_word_for_all_that_is_asked_and_answered() -> None:
    words = vocabulary(10)
    assert len(set(words)) == len(words)
    drawings = random_drawings(5, range(1, 6), range(3, 11))
    said = {word for _ in range(300) for image, program in [next(drawings)] for word in said_of(image, program)}
    assert said <= set(words)


def said_of(image: Image, program: Program) -> list[str]:
    return f"{image_words(image)} {to_compact(program)}".split()


def wild_program(rng: random.Random, shape: CanvasSize) -> Program:
    """Random statements, some with numbers far off the canvas."""
    program = []
    for _ in range(rng.randint(1, 10)):
        letter, colour, numbers = random_statement(rng, shape)
        if rng.random() < 0.4:
            numbers = tuple(rng.choice([rng.randint(-3, 33), 10**30, -(10**30)]) for _ in numbers)
        program.append(Statement(letter, colour, numbers))
    return tuple(program)


def test_python_calls_draw_in_the_sandbox_what_the_canvas_draws() -> None:
    rng = random.Random(7)
    sizes = [CanvasSize(rng.randint(1, 30), rng.randint(1, 30)) for _ in range(300)]
    wild = [wild_program(rng, shape) for shape in sizes]
    assert {statement.letter for program in wild for statement in program} == set(STATEMENTS)
    assert run_python(list(map(to_python, wild)), sizes) == [
        execute(program, shape) for program, shape in zip(wild, sizes, strict=True)
    ]


def test_calls_are_read_back_and_numbers_off_the_canvas_become_its_edge() -> None:
    rng = random.Random(8)
    for _ in range(200):
        image, program = random_drawing(rng, range(1, 6), range(3, 11))
        assert parse_calls(to_python(program)) == program
        wild = wild_program(rng, shape_of(image))
        read = parse_calls(to_python(wild))
        assert read is not None
        assert execute(read, shape_of(image)) == execute(wild, shape_of(image))
        assert from_compact(to_compact(read)) == read, "the compact language has words for its numbers"
    assert parse_calls("draw_pixel(img, (-4, 40), 3)") == (Statement("P", 3, (0, 29)),)
    assert parse_calls("draw_square(img, (9, 9), 99, 3)") == (Statement("S", 3, (9, 9, 30)),)


def test_what_a_model_is_taught_to_write() -> None:
    program = from_compact("P c1 y2 x3 H c4 y5 V c6 x7 L c8 y9 x0 Y1 X2 R c3 y4 x5 Y6 X7 S c9 y8 x7 n6")
    assert to_python(program).splitlines() == [
        "draw_pixel(img, (2, 3), 1)",
        "draw_horizontal_line(img, 5, 4)",
        "draw_vertical_line(img, 7, 6)",
        "draw_line(img, (9, 0), (1, 2), 8)",
        "draw_rectangle(img, (4, 5), (6, 7), 3)",
        "draw_square(img, (8, 7), 6, 9)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "draw_pixel(img, (0, 1), 3)",
        "```python\ndraw_pixel(img, (0, 1), 3)\n```",
        "draw_pixel(color=3, img=img, point=[0, 1])  # a pixel",
        "draw_pixel(img,\n    (0, 1),\n    color=3,\n)",
        " draw_pixel(img, (0, 1), 3)",
        "\n  draw_pixel(img, (0, 1), 3)\n",
    ],
)
def test_plain_calls_however_they_are_laid_out(text: str) -> None:
    assert parse_calls(text) == (Statement("P", 3, (0, 1)),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "A pixel, then.",
        "draw_pixel(img, (0, 1), 3)\nimg[0][0] = 1",
        "img = draw_pixel(img, (0, 1), 3)",
        "for x in (1,): draw_pixel(img, (0, 1), 3)",
        "draw_pixel(img, (0, x), 3)",
        "draw_pixel(img, (0, 2 - 1), 3)",
        "draw_pixel(img, (0, 1), 10)",
        "draw_pixel(img, (0, 1), -1)",
        "draw_pixel(img, (0, 1), True)",
        "draw_pixel(img, (0, 1.0), 3)",
        "draw_pixel(img, (0, '1'), 3)",
        "draw_pixel(img, (0, 1, 2), 3)",
        "draw_pixel(img, 1, 3)",
        "draw_pixel(image, (0, 1), 3)",
        "draw_pixel(img, (0, 1))",
        "draw_pixel(img, (0, 1), 3, 4)",
        "draw_pixel(img, (0, 1), 3, color=4)",
        "draw_pixel(img, (0, 1), 3, colour=4)",
        "draw_pixel(*everything)",
        "draw_pixel(**everything)",
        "draw_circle(img, (0, 1), 3)",
        "draw.draw_pixel(img, (0, 1), 3)",
        "draw_pixel(img, {}, 3)",
        "draw_pixel(img, (0, 1), 3)\0",
        "draw_pixel(img, (0, " + "-" * 9000 + "1), 3)",
        "(" * 9000,
        "draw_pixel(img, (0, " + "1" * 5000 + "), 3)",
        "draw_pixel(img, (0, 1), 3)\n" * 2000,
    ],
    ids=range(30),
)
def test_what_is_no_plain_call_is_not_guessed_at(text: str) -> None:
    assert parse_calls(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no program"),
        ("```python\n\n```", "no program"),
        ("draw_pixel(img, (0, 1), 3)\n" * 2000, "over 50,000 characters"),
        ("The image is blue.", "error: no Python"),
        ("draw_pixel(img, (0, 1), 3)\nwhile True: pass", "time"),
        ("draw_pixel(img, (0, 1), 3)\nraise ValueError('red')", "error: ValueError: red"),
        ("pass", "no drawing function is called"),
        ("x = 3  # draw_pixel(img, (0, 1), 3)", "no drawing function is called"),
        ("y0x0:3", "no drawing function is called"),
        ("draw_pixel([[0]], (0, 0), 3)", "no drawing function is called"),
        ("draw_pixel(img, (0, 0), True)", "a color is 0 to 9"),
        ("draw_pixel(img, (0, 0), 10)", "a color is 0 to 9"),
        ("draw_pixel(img, (0, 0), 'red')", "a color is 0 to 9"),
        ("draw_pixel(img, (0, 0.0), 1)", "whole number is needed, not float"),
        ("draw_pixel(img, (True, 0), 1)", "whole number is needed, not bool"),
        ("draw_pixel(img, 0, 1)", "a point is (row, column)"),
        ("draw_line(img, (0, 0), (1, 1, 1), 1)", "a point is (row, column)"),
        ("draw_square(img, (0, 0), None, 1)", "whole number is needed, not NoneType"),
    ],
)
def test_why_a_program_draws_nothing(text: str, said: str) -> None:
    found, after = run_python([text, "draw_pixel(img, (1, 2), 5)"], [CanvasSize(2, 3)] * 2)
    assert isinstance(found, str)
    assert said in found
    assert after == ((0, 0, 0), (0, 0, 5))


def test_any_python_may_stand_around_the_calls_and_nothing_is_kept_for_the_next() -> None:
    loop = "Here it is:\n```python\nfor i in range(3):\n    draw_pixel(img, (i, i), i + 1)\n```\nDone."
    listed = "rows = [draw_pixel(color=i + 1, img=img, point=[i, i]) for i in range(3)]"
    function = "def cross(row):\n    draw_pixel(img, (row, 1), 1)\n    return row\nk = cross(1)"
    # its own img is another one
    shadow = "def other(img):\n    draw_pixel(img, (0, 0), 5)\nother([[0]])\ndraw_pixel(img, (1, 1), 1)"
    global_ = "def f():\n    global k\n    k = 1\nf()\ndraw_pixel(img, (k, k), k)"
    diagonal, middle = ((1, 0, 0), (0, 2, 0), (0, 0, 3)), ((0, 0, 0), (0, 1, 0), (0, 0, 0))
    texts = [loop, listed, function, "draw_pixel(img, (k, 1), 1)", shadow, global_]
    found = run_python(texts, [CanvasSize(3, 3)] * len(texts))
    assert found[:3] + found[4:] == [diagonal, diagonal, middle, middle, middle]
    assert "NameError" in found[3], "k was another program's"
    assert run_python([], []) == []


CALL = "draw_pixel(img, (0, 0), 0)"
COPY = "[[1, 2, 3], [4, 5, 6]]"


@pytest.mark.parametrize(
    "text",
    [
        f"img = {COPY}",
        "img = [list(map(int, row)) for row in '123 456'.split()]",
        f"img[:] = {COPY}",
        "img[0][0] = 1",
        f"img += {COPY}",
        "img.clear()",
        "img",
        "canvas = img",
        "row = img[0]",
        "first, *rest = img",
        "(canvas := img)[0][0] = 1",
        "for row in img: row[0] = 1",
        f"for img in [{COPY}]: pass",
        f"[0 for img in [{COPY}]]",
        f"def img(): return {COPY}",
        "class img: pass",
        "import math as img",
        "from math import pi as img",
        "try: 1 / 0\nexcept ZeroDivisionError as img: pass",
        f"match {COPY}:\n    case img: pass",
        f"match {COPY}:\n    case [*img]: pass",
        "match {}:\n    case {**img}: pass",
        f"with {COPY} as img: pass",
        "del img",
        "list(map(len, img))",
        "def f(canvas): canvas[0][0] = 1\nf(img)",
        "def f(img): img[0][0] = 1\nf(1)",
        "def f(canvas=img): canvas[0][0] = 1\nf()",
        "f = draw_pixel\nf(img, (0, 0), 1)",
        "[].append(img)",
        "f'{img}'",
        "draw_pixel((0, 0), img, 1)",
        "draw_pixel(*[img], (0, 0), 1)",
        "draw_pixel(img[0], (0, 0), 1)",
        "ｉｍｇ[0][0] = 1",
    ],
)
def test_img_stands_nowhere_but_in_the_calls(text: str) -> None:
    """Not even beside a call that draws."""
    found = run_python([f"{CALL}\n{text}", f"{text}\n{CALL}"], [CanvasSize(2, 3)] * 2)
    assert found == ["error: img may only be the first argument of a drawing function"] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eval('im' + 'g')[0][0] = 1", "eval"),
        ("e = eval\ne('im' + 'g')[0][0] = 1", "eval"),
        ("exec('im' + 'g[0][0] = 1')", "exec"),
        ("locals()['im' + 'g'][0][0] = 1", "locals"),
        ("globals()['im' + 'g'][0][0] = 1", "globals"),
        ("def draw_pixel(canvas, point, color): canvas[0][0] = 9", "draw_pixel"),
        ("draw_pixel = lambda canvas, point, color: canvas.clear()", "draw_pixel"),
        ("def f(draw_pixel): draw_pixel(img, 1, 1)\nf(lambda canvas, point, color: canvas.clear())", "draw_pixel"),
        ("def _point(canvas, point):\n    canvas[:] = [[9]]\n    return 0, 0", "_point"),
        ("def len(canvas): return canvas.append(1)", "len"),
        ("import math as len", "len"),
        ("from m import len", "len"),
        ("return [[1, 2, 3], [4, 5, 6]]", "return outside"),
        ("if True:\n    return [[1, 2, 3], [4, 5, 6]]", "return outside"),
        ("class A:\n    return [[1, 2, 3], [4, 5, 6]]", "return outside"),
        ("x = 1 \\", "no Python"),
    ],
)
def test_no_way_around_its_name(text: str, said: str) -> None:
    assert said in run_python([f"{CALL}\n{text}"], [CanvasSize(2, 3)])[0]
