"""The named images are the study's, a user's own is read or refused with the cell that is wrong, all can be drawn."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from refusals import refused

from grpo_colab.errors import SettingError
from grpo_colab.tasks.drawing.canvas import CanvasSize, Image, execute, random_drawings, shape_of
from grpo_colab.tasks.drawing.images import (
    NAMED,
    PALETTE,
    cover,
    image_text,
    load_image,
    parse_image,
    right_pixels,
    right_share,
)


def images(colours: int) -> st.SearchStrategy[Image]:
    return st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
        lambda size: st.tuples(*[st.tuples(*[st.integers(0, colours - 1)] * size[1])] * size[0])
    )


def png_of(image, mode: str = "P") -> bytes:
    """One pixel a cell."""
    picture = Picture.new("P", (len(image[0]), len(image)))
    picture.putpalette(b"".join(PALETTE))
    picture.putdata([cell for row in image for cell in row])
    written = io.BytesIO()
    picture.convert(mode).save(written, "PNG")
    return written.getvalue()


def test_the_named_images_are_those_of_the_study() -> None:
    assert NAMED == ("9-vertical-lines", "12-squares", "16-squares", "20-squares", "25-squares", "chick")
    assert load_image("9-vertical-lines") == ((1, 2, 3, 4, 5, 6, 7, 8, 9),) * 9
    assert image_text(load_image("12-squares")).split() == [
        *["11447711"] * 2,
        *["22558822"] * 2,
        *["33669933"] * 2,
    ]
    sizes = {"16-squares": CanvasSize(8, 8), "20-squares": CanvasSize(10, 8), "25-squares": CanvasSize(10, 10)}
    assert {name: shape_of(load_image(name)) for name in sizes} == sizes
    rows = "8888448888 8844444488 8440440448 8424474248 8444774448 8844444488 4444444444 4444444444"
    assert image_text(load_image("chick")) == "\n".join([*rows.split(), "8444444448", "8847447488"])


@pytest.mark.parametrize("n", [*range(1, 40), 100, 210, 211, 225])
def test_squares_for_any_number(n: int) -> None:
    image = load_image(f"{n}-squares")
    rows, columns = shape_of(image)
    assert rows % 2 == columns % 2 == 0
    assert max(rows, columns) <= 30
    assert abs(rows - columns) <= 2, "near to a square"
    assert (rows - 2) * columns < 4 * n or rows == 2
    corners = [image[row][column] for column in range(0, columns, 2) for row in range(0, rows, 2)]
    assert corners == [i % 9 + 1 for i in range(n)] + [0] * (rows * columns // 4 - n), "column by column, then nothing"
    assert all(
        image[row][column] == image[row // 2 * 2][column // 2 * 2] for row in range(rows) for column in range(columns)
    )


@pytest.mark.parametrize(
    "text",
    [
        "123\n450",
        "123/450",
        "1 2 3\n4 5 0\n",
        "1,2,3\r\n4,5,0\r\n",
        "\n\n 1, 2, 3,\n\n 4, 5, 0,\n",
        "1\t2\t3/4\t5\t0",
    ],
)
def test_rows_of_digits_however_they_are_written(text: str, tmp_path: Path) -> None:
    assert load_image(text) == ((1, 2, 3), (4, 5, 0))
    (tmp_path / "mine").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_image(tmp_path / "mine") == load_image(str(tmp_path / "mine")) == ((1, 2, 3), (4, 5, 0))


@given(images(10))
def test_an_image_is_its_text(image) -> None:
    assert parse_image(image_text(image)) == image


@pytest.mark.parametrize(
    ("source", "problem", "remedy"),
    [
        ("12-sqares", "no such image or file", "did you mean '12-squares'"),
        ("giraffe", "no such image or file", "there are: 9-vertical-lines, 12-squares, 16-squares, 20-squares, 25-"),
        ("no/such/file.png", "no such image or file", "rows of digits"),
        ("~nobody-of-this-name/x.txt", "no such image or file", "rows of digits"),
        ("x" * 5000, "no such image or file", "rows of digits"),
        ("chick\0", "no such image or file", "did you mean 'chick'"),
        ("", "is empty", "rows of digits"),
        (" \n/ ", "is empty", "rows of digits"),
        ("0-squares", "no number of squares", "any N of 1 to 225"),
        ("226-squares", "squares that fit into 30 x 30 cells", "any N of 1 to 225"),
        ("9" * 5000 + "-squares", "no number of squares", "any N of 1 to 225"),
        ("123\n45\n678", "row 2 has 2 cells and row 1 has 3", "rows of one length"),
        ("123\n\n4567", "row 2 has 4 cells and row 1 has 3", "rows of one length"),
        ("123\n4x6", "row 2, column 2: 'x' is no colour", "write 0 to 9"),
        ("red\ngreen", "row 1, column 1: 'r'", "write 0 to 9"),
        ("1, 2, 10", "row 1, column 3: '10'", "write 0 to 9"),
        ("1 -2\n3 4", "row 1, column 2: '-2'", "write 0 to 9"),
        ("12\n٣4", "row 2, column 1: '٣'", "write 0 to 9"),
        ("12\n3²", "row 2, column 2: '²'", "write 0 to 9"),
        ("/data/2026/11/20/1.png", "no such image or file", "rows of digits"),
        ("12/٣4", "no such image or file", "rows of digits"),
        ("1,,2/3,,4", "row 1, column 2: '' is no colour", "write 0 to 9"),
        ("1,2/,4", "row 2, column 1: ''", "write 0 to 9"),
        ("1,2,,/3,4", "row 1, column 3: ''", "write 0 to 9"),
        ("1,2/,", "row 2, column 1: ''", "write 0 to 9"),
        ("1,2 3/4,5,6", "row 1, column 2: '2 3'", "write 0 to 9"),
        ("1,2/34", "row 2 has nothing between its cells and row 1 has commas", "write all rows in one form"),
        ("12/3 4", "row 2 has spaces between its cells and row 1 has nothing", "write all rows in one form"),
        ("1 2/3,4", "row 2 has commas between its cells and row 1 has spaces", "write all rows in one form"),
        ("1" * 31, "row 1 has 31 cells", "at most 30 rows of 30"),
        ("1/" * 31, "row 31 has 1 cells", "at most 30 rows of 30"),
        ("1" * 1_000_000, "row 1 has 1000000 cells", "at most 30 rows of 30"),
    ],
    ids=range(32),
)
def test_what_is_no_image_is_refused_in_words(source: str, problem: str, remedy: str) -> None:
    with refused("image", source, problem=problem, remedy=remedy) as caught:
        load_image(source)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_picture_is_read_one_pixel_a_cell(mode: str, tmp_path: Path) -> None:
    image = (tuple(range(10)), tuple(reversed(range(10))))
    path = tmp_path / "mine.png"
    path.write_bytes(png_of(image, mode))
    assert load_image(str(path)) == image
    path.rename(tmp_path / "without ending")
    assert load_image(tmp_path / "without ending") == image


def test_colours_may_be_a_little_off_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    near = [(min(r + 12, 255), max(g - 12, 0), b) for r, g, b in PALETTE]
    for pixels, found in ((near, tuple(range(10))), ([*near[:6], (255, 255, 255), *near[7:]], None)):
        picture = Picture.new("RGB", (5, 2))
        picture.putdata(pixels)
        picture.save(path)
        if found:
            assert load_image(path) == (found[:5], found[5:])
        else:
            problem = "row 2, column 2: #ffffff is none of the ten colours"
            with refused("image", str(path), problem=problem, remedy="write one of 0 #000000, 1 #0074d9"):
                load_image(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = chunk(b"IEND", b"")


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


NOISE = zlib.compress(b"".join(b"\0" + random.Random(row).randbytes(60) for row in range(20)))
SMALL = chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
BLACK = zlib.compress(b"\0" * 20_000_000, 1)


def jpeg() -> bytes:
    written = io.BytesIO()
    Picture.new("RGB", (3, 3)).save(written, "JPEG")
    return written.getvalue()


def animated() -> bytes:
    written = io.BytesIO()
    frames = [Picture.new("RGB", (3, 3), colour) for colour in ("black", "#0074d9")]
    frames[0].save(written, "PNG", save_all=True, append_images=frames[1:])
    return written.getvalue()


def transparent() -> bytes:
    written = io.BytesIO()
    Picture.new("RGBA", (2, 1), (0, 0, 0, 0)).save(written, "PNG")
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "large.png",
            png_of(((0,) * 31,)),
            "31 x 1 pixels and 1 frame(s)",
        ),
        ("bomb.png", SIGNATURE + header(2**31 - 1, 2**31 - 1) + SMALL + END, "cannot be read"),
        ("black.png", SIGNATURE + header(9_000, 9_000) + chunk(b"IDAT", BLACK) + END, "9000 x 9000 pixels"),
        ("twice.png", SIGNATURE + header(1, 1) + header(9_000, 9_000) + chunk(b"IDAT", BLACK) + END, "9000 x 9000"),
        ("text.png", SIGNATURE + header(1, 1) + chunk(b"zTXt", b"a\0\0" + BLACK) + SMALL + END, "cannot be read"),
        ("animated.png", animated(), "2 frame(s)"),
        ("transparent.png", transparent(), "row 1, column 1: #00000000"),
        ("torn.png", png_of(((1, 2), (3, 4)))[:50], "cannot be read"),
        ("halves.png", SIGNATURE + header(20, 20) + chunk(b"IDAT", NOISE[:50]) + b"\0\0\0\1!!!!", "cannot be read"),
        ("bare.png", SIGNATURE, "cannot be read"),
        ("none.png", b"1234", "neither a text of digits nor a PNG picture"),
        ("photo.jpg", jpeg(), "neither a text of digits nor a PNG picture"),
        ("empty.txt", b"", "is empty"),
        ("ragged.txt", b"123\n12\n", "row 2 has 2 cells"),
        ("letters.txt", b"123\n1b3\n", "row 2, column 2: 'b'"),
        ("long.txt", b"1" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.count(".") == 1 and " " not in value else "",
)
def test_files_that_are_no_image(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    words_of_pillow = "cannot be read" in problem
    with refused("image", str(path), problem=problem, snapshot=not words_of_pillow) as caught:
        load_image(path)
    assert caught.value.remedy


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with refused("image", str(tmp_path), problem="no such image or file"):
        load_image(tmp_path)


def test_a_spoilt_picture_is_an_image_or_refused(tmp_path: Path) -> None:
    whole, rng = png_of(((1, 2, 3), (4, 5, 6)), "P"), random.Random(0)
    path, none = tmp_path / "x.png", 0
    for _ in range(300):
        spoilt = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            spoilt[rng.randrange(8, len(spoilt))] = rng.randrange(256)
        # checksums put right, so that the change gets past them
        at = 8
        while at + 12 <= len(spoilt) and (size := int.from_bytes(spoilt[at : at + 4], "big")) < len(spoilt) - at - 11:
            spoilt[at + 8 + size : at + 12 + size] = struct.pack(">I", zlib.crc32(spoilt[at + 4 : at + 8 + size]))
            at += 12 + size
        path.write_bytes(spoilt)
        try:
            shape_of(load_image(path))
        except SettingError:
            none += 1
    assert 50 < none < 300


@given(images(3))
def test_any_image_can_be_covered(image) -> None:
    assert execute(cover(image), shape_of(image)) == image


def test_a_cover_is_short() -> None:
    assert {
        name: len(cover(load_image(name))) <= most for name, most in zip(NAMED, (9, 12, 16, 20, 25, 30), strict=True)
    } == (dict.fromkeys(NAMED, True))
    drawings = random_drawings(0, range(1, 6), range(3, 11))
    for image, _ in (next(drawings) for _ in range(50)):
        assert len(cover(image)) < len(image) * len(image[0])


def test_the_share_of_right_pixels() -> None:
    assert right_share(((1, 2), (3, 4)), ((1, 2), (3, 4))) == 1.0
    assert right_share(((1, 2), (3, 4)), ((1, 0), (0, 0))) == 0.25
    assert right_pixels(((1, 2, 5), (3, 4, 5)), ((1, 0, 5), (0, 0, 5))) == (3, 6)
    with pytest.raises(ValueError, match="zip"):
        right_share(((1, 2), (3, 4)), ((1, 2),))
