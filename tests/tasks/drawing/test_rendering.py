"""What a person sees is the image: the colours in a terminal, the pixels of a picture, the frames of a GIF."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image as Picture
from PIL import ImageChops

from grpo_colab.tasks.drawing.canvas import CanvasSize, blank, shape_of
from grpo_colab.tasks.drawing.images import PALETTE, load_image
from grpo_colab.tasks.drawing.rendering import CELL, ansi, beside, gif, picture, png

TEN = (tuple(range(5)), tuple(range(5, 10)))
CHICK = load_image("chick")


def cells_of(image: Picture.Image, left: int, top: int, shape: CanvasSize) -> list[list[tuple[int, ...]]]:
    """The colour in the middle of each cell of a grid whose corner is there."""
    seen = image.convert("RGB")
    return [
        [seen.getpixel((left + CELL * x + CELL // 2, top + CELL * y + CELL // 2)) for x in range(shape.columns)]
        for y in range(shape.rows)
    ]


def colours(image) -> list[list[tuple[int, ...]]]:
    return [[tuple(PALETTE[cell]) for cell in row] for row in image]


def corner_of(image: Picture.Image, after: int = 0) -> tuple[int, int]:
    """The first pixel of the grid's colour, column by column, from the column `after` on."""
    seen = image.convert("RGB")
    return next(
        (x, y) for x in range(after, seen.width) for y in range(seen.height) if seen.getpixel((x, y)) == (85, 85, 85)
    )


def test_a_terminal_shows_each_digit_on_its_colour() -> None:
    lines = ansi(TEN).split("\n")
    found = [re.findall(r"\x1b\[48;2;(\d+);(\d+);(\d+);(30|97)m(\d) ", line) for line in lines]
    assert [[tuple(map(int, cell[:3])) for cell in row] for row in found] == colours(TEN)
    assert [[int(cell[4]) for cell in row] for row in found] == [list(row) for row in TEN]
    assert all(line.endswith("\x1b[0m") for line in lines), "the colour ends with the line"
    letters = {int(cell[4]): cell[3] for row in found for cell in row}
    assert (letters[0], letters[9], letters[4], letters[8]) == ("97", "97", "30", "30"), "white on dark, black on light"


def test_without_colour_there_are_digits_alone() -> None:
    assert ansi(TEN, colour=False) == "0 1 2 3 4\n5 6 7 8 9"


def test_images_stand_side_by_side_whatever_their_height() -> None:
    wide, low = ((1, 2), (3, 4), (5, 6)), ((7,),)
    assert beside(wide, low, wide, colour=False).split("\n") == [
        "1 2    7    1 2",
        "3 4         3 4",
        "5 6         5 6",
    ]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in beside(wide, low, wide).split("\n")]
    assert [line.rstrip() for line in plain] == beside(wide, low, wide, colour=False).split("\n")


def test_a_picture_has_crisp_cells_with_a_grid_around_them(tmp_path: Path) -> None:
    png(tmp_path / "two.png", [CHICK, TEN], ["chick", "ten"])
    seen = Picture.open(tmp_path / "two.png").convert("RGB")
    left, top = corner_of(seen)
    assert cells_of(seen, left, top, shape_of(CHICK)) == colours(CHICK)
    right, _ = corner_of(seen, left + 10 * CELL + 1)
    assert cells_of(seen, right, top, shape_of(TEN)) == colours(TEN)
    within = {seen.getpixel((x, y)) for x in range(left, left + 10 * CELL + 1) for y in range(top, top + 10 * CELL + 1)}
    assert within == {(85, 85, 85), *(tuple(PALETTE[cell]) for cell in (0, 2, 4, 7, 8))}, "no colour between two"
    assert list(tmp_path.iterdir()) == [tmp_path / "two.png"], "written whole, under its own name"


def test_titles_are_written_and_make_room() -> None:
    bare, short, long = (picture([((1,),)], titles) for titles in ([], ["a"], ["a title that is wider than its image"]))
    assert bare.height < short.height == long.height
    assert bare.width == short.width < long.width
    above = long.crop((0, 0, long.width, corner_of(long)[1]))
    assert above.getextrema()[0] == (0, 255), "black letters on white"
    assert above.crop((above.width - 12, 0, above.width, above.height)).getextrema()[0] == (255, 255), "none cut off"


def test_a_gif_shows_the_target_beside_each_drawing_and_holds_the_last(tmp_path: Path) -> None:
    half = CHICK[:5] + blank(CanvasSize(5, 10))
    way = [(0, blank(CanvasSize(10, 10))), (3, half), (12, CHICK)]
    gif(tmp_path / "way.gif", CHICK, way)
    with Picture.open(tmp_path / "way.gif") as seen:
        assert seen.n_frames == 3
        durations, titles = [], []
        for number, (_, drawing) in enumerate(way):
            seen.seek(number)
            left, top = corner_of(seen)
            assert cells_of(seen, left, top, shape_of(CHICK)) == colours(CHICK)
            right, _ = corner_of(seen, left + 10 * CELL + 1)
            assert cells_of(seen, right, top, shape_of(CHICK)) == colours(drawing)
            durations.append(seen.info["duration"])
            titles.append(seen.convert("RGB").crop((right, 0, seen.width, top)).tobytes())
        assert durations[0] == durations[1] < durations[2]
        assert len(set(titles)) == 3, "each says which iteration it is"
        assert seen.info["loop"] == 0


def test_a_gif_says_how_many_per_cent_are_right_in_whole_numbers(tmp_path: Path) -> None:
    """29 of 100 right pixels are 29 %, though 100 * 0.29 is less."""
    target = blank(CanvasSize(10, 10))
    drawn = (((0,) * 10,) * 2) + (((0,) * 9 + (1,)),) + ((1,) * 10,) * 7
    gif(tmp_path / "way.gif", target, [(1, drawn)])
    with Picture.open(tmp_path / "way.gif") as seen:
        said = seen.convert("RGB")
    far = {}
    for share in (28, 29, 30):
        expected = picture([target, drawn], ["target", f"iteration 1: {share} % right"])
        far[share] = max(high for _, high in ImageChops.difference(said, expected).getextrema())
    # of the letters' 256 greys a GIF has 17, while another digit differs in black and white
    assert far[29] < 64 < min(far[28], far[30])


@pytest.mark.parametrize("n", [1, 400])
def test_a_gif_of_one_frame_and_of_many(n: int, tmp_path: Path) -> None:
    drawings = [((i // 10 % 10, i % 10),) for i in range(n)]
    gif(tmp_path / "way.gif", ((3, 3),), list(enumerate(drawings)))
    with Picture.open(tmp_path / "way.gif") as seen:
        assert seen.n_frames == n
        assert seen.convert("RGB").getpixel((seen.width - 1, seen.height - 1)) == (255, 255, 255)
        seen.seek(n - 1)
        corner = corner_of(seen, corner_of(seen)[0] + 2 * CELL + 1)
        assert cells_of(seen, *corner, CanvasSize(1, 2)) == colours(drawings[-1])
