"""Load target images, find a program that draws one, and compare a drawing with its target.

Images have a name, are N squares for any N, or come from a text or a PNG file of the user. The named ones are those of
ironbar's ARC25 notes (iterations 5, 6 and 8). Squares and lines come column by column, top to bottom, in the colours 1,
2, ... 9, 1, ... on a canvas of colour 0.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from grpo_colab.errors import SettingError, one_of
from grpo_colab.tasks.drawing.canvas import COLOURS, MAX_SIDE, CanvasSize, Image, Program, Statement, execute, shape_of

CHICK = """
8888448888
8844444488
8440440448
8424474248
8444774448
8844444488
4444444444
4444444444
8444444448
8847447488
"""
NAMED: tuple[str, ...] = ("9-vertical-lines", "12-squares", "16-squares", "20-squares", "25-squares", "chick")
MOST_SQUARES = (MAX_SIDE // 2) ** 2

# ARC's ten colours, as its site shows them.
PALETTE = tuple(map(bytes.fromhex, (
    "000000", "0074d9", "ff4136", "2ecc40", "ffdc00", "aaaaaa", "f012be", "ff851b", "7fdbff", "870c25",
)))  # fmt: skip
# How far each channel of a pixel, 0 to 255, may be from a colour of the palette. Colour profiles shift colours a bit;
# the two nearest colours of the palette are 68 apart.
TOLERANCE = 16
_AT_MOST = f"at most {MAX_SIDE} rows of {MAX_SIDE} cells"
LARGEST_FILE = 1_000_000  # bytes; as a text, the largest image has 2 kB


def load_image(source: str | Path, setting: str = "image") -> Image:
    """Return the image of a name, a file (a text, or a PNG with one pixel per cell) or rows of digits.

    Line ends or slashes separate rows: "8888/8448". `setting` is the setting or option in which `source` is written.
    Raises SettingError that names it: for what is no image, with the wrong row, column or pixel, for a file that is too
    large or cannot be read, and for a PNG without Pillow.
    """
    try:
        return _image_of(source)
    except SettingError as error:
        raise error.replace(setting=setting, value=str(source)) from None


def _image_of(source: str | Path) -> Image:
    """Return the image of a name, a file or rows of digits, tried in this order; raise SettingError if it is none.

    A file holds rows of digits, or it is a PNG. One that may not be read, is too large or holds no image raises at
    once: its name is not tried as rows.
    """
    if source == "chick":
        return parse_image(CHICK)
    if source == "9-vertical-lines":
        return execute([Statement("V", column + 1, (column,)) for column in range(9)], CanvasSize(9, 9))
    squares = re.fullmatch(r"([0-9]+)-squares", source) if isinstance(source, str) else None
    if squares:
        return _squares(int(squares[1][:9]))
    try:
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except PermissionError as error:
        raise SettingError(f"cannot be read ({error.strerror})") from None
    except (OSError, ValueError, RuntimeError):  # no such file, or a name that no file can have
        # Several lines, or a line of digits and separators, are rows. Any other line is a mistyped name.
        if isinstance(source, str) and ("\n" in source or re.fullmatch(r"[0-9\s,/]*", source)):
            return parse_image(source)
        remedy = (
            f"{one_of(str(source), NAMED)}, and N-squares for any N of 1 to {MOST_SQUARES}; or write rows of digits "
            'such as "8888/8448"'
        )
        raise SettingError("no such image or file", remedy=remedy) from None
    if len(content) > LARGEST_FILE:
        raise SettingError(f"is larger than {LARGEST_FILE:,} bytes", remedy=f"an image has {_AT_MOST}")
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _from_png(content)
    neither = SettingError("is neither a text of digits nor a PNG picture", remedy="write one of them")
    if path.suffix.lower() == ".png":
        raise neither
    try:
        text = content.decode("utf-8-sig")
    except UnicodeError:
        raise neither from None
    return parse_image(text)


def parse_image(text: str) -> Image:
    """Return the image that rows of digits describe, with spaces, commas or nothing between the digits.

    All rows must have the same separator. Blank lines are skipped. Raises SettingError that names the row and the
    column, both counted from 1.
    """
    rows: list[tuple[int, ...]] = []
    first_separator = ""
    for line in map(str.strip, re.split(r"[\n\r/]+", text)):
        if not line:
            continue
        separator, cells = _split_row(line)
        first_separator = first_separator or separator
        row = len(rows) + 1
        if row > MAX_SIDE or len(cells) > MAX_SIDE:
            raise SettingError(f"row {row} has {len(cells)} cells", remedy=f"write {_AT_MOST}")
        for column, cell in enumerate(cells, 1):
            if len(cell) != 1 or cell not in "0123456789":
                problem = f"row {row}, column {column}: {cell[:20]!r} is no colour"
                raise SettingError(problem, remedy="write 0 to 9")
        if rows and len(cells) != len(rows[0]):
            problem = f"row {row} has {len(cells)} cells and row 1 has {len(rows[0])}"
            raise SettingError(problem, remedy="write rows of one length")
        if separator != first_separator:
            problem = f"row {row} has {separator} between its cells and row 1 has {first_separator}"
            raise SettingError(problem, remedy="write all rows in one form")
        rows.append(tuple(map(int, cells)))
    if not rows:
        raise SettingError("is empty", remedy='write rows of digits such as "8888/8448"')
    return tuple(rows)


def _split_row(line: str) -> tuple[str, list[str]]:
    """Return what separates the cells of a row ("commas", "spaces" or "nothing"), and the cells."""
    if "," in line:
        return "commas", [cell.strip() for cell in line.removesuffix(",").split(",")]
    if len(line.split()) > 1:
        return "spaces", line.split()
    return "nothing", list(line)


def image_text(image: Image) -> str:
    """Return an image as rows of digits, one per line, as in a gold answer."""
    return "\n".join("".join(map(str, row)) for row in image)


def cover(image: Image) -> Program:
    """Return a program that draws `image`. It is short but seldom the shortest, and never empty.

    Each cell that is not yet right, in reading order, becomes the top left corner of the largest block of its colour.
    If that takes fewer statements, the most frequent colour fills the canvas first.
    """
    shape = shape_of(image)
    colours = [colour for row in image for colour in row]
    most_frequent = max(range(COLOURS), key=colours.count)
    programs = [_blocks(image, 0, ()) or (Statement("P", 0, (0, 0)),)]
    if most_frequent:
        fill = Statement("R", most_frequent, (0, 0, shape.rows - 1, shape.columns - 1))
        programs.append(_blocks(image, most_frequent, (fill,)))
    return min(programs, key=len)


def _blocks(image: Image, background: int, beginning: Program) -> Program:
    """Return `beginning`, which fills the canvas with `background`, and the blocks that complete the image."""
    shape = shape_of(image)
    program = list(beginning)
    done = {(y, x) for y, row in enumerate(image) for x, colour in enumerate(row) if colour == background}
    for y in range(shape.rows):
        for x in range(shape.columns):
            if (y, x) in done:
                continue
            height, width = _largest_block(image, y, x)
            rectangle = Statement("R", image[y][x], (y, x, y + height - 1, x + width - 1))
            program.append(_shortest_statement(rectangle, shape))
            done |= {(y + down, x + right) for down in range(height) for right in range(width)}
    return tuple(program)


def _largest_block(image: Image, y: int, x: int) -> tuple[int, int]:
    """Return the height and the width of the largest block of one colour whose top left corner is row y, column x."""
    colour = image[y][x]
    # For each height, the widest block of that height is as wide as its narrowest row.
    sizes: list[tuple[int, int]] = []
    width = len(image[0]) - x
    for row in image[y:]:
        run = 0
        while run < width and row[x + run] == colour:
            run += 1
        if run == 0:
            break
        width = run
        sizes.append((len(sizes) + 1, width))
    # Of blocks with equally many cells, the tallest.
    return max(sizes, key=lambda size: (size[0] * size[1], size))


def _shortest_statement(rectangle: Statement, shape: CanvasSize) -> Statement:
    """Return the statement with the fewest numbers that draws the same as a rectangle."""
    _, colour, (top, left, bottom, right) = rectangle
    height, width = bottom - top + 1, right - left + 1
    if height == width:
        return Statement("P", colour, (top, left)) if height == 1 else Statement("S", colour, (top, left, height))
    if height == 1 and width == shape.columns:
        return Statement("H", colour, (top,))
    if width == 1 and height == shape.rows:
        return Statement("V", colour, (left,))
    return rectangle


def _squares(n: int) -> Image:
    """Return an image of `n` squares of 2 x 2 cells, arranged as nearly to one large square as possible.

    If two numbers of columns are equally good, it is the even one. Raises SettingError if the squares do not fit.
    """
    if not 1 <= n <= MOST_SQUARES:
        problem = f"is no number of squares that fit into {MAX_SIDE} x {MAX_SIDE} cells"
        raise SettingError(problem, remedy=f"write N-squares for any N of 1 to {MOST_SQUARES}")
    columns = math.isqrt(n - 1) + 1
    if columns % 2 and n <= columns * (columns - 1):
        columns -= 1
    rows = math.ceil(n / columns)
    squares = []
    for index in range(n):
        column, row = divmod(index, rows)
        squares.append(Statement("S", index % 9 + 1, (2 * row, 2 * column, 2)))
    return execute(squares, CanvasSize(2 * rows, 2 * columns))


def _from_png(content: bytes) -> Image:
    """Return the image of a PNG file, one pixel per cell; raise SettingError for a picture that is no image.

    That is one with too many pixels, more than one frame, a colour outside of the palette, or damage. Raises
    SettingError also if Pillow is not installed. The size is checked before any pixel is decompressed, so a huge
    picture costs nothing.
    """
    try:
        from PIL import Image as Picture
    except ImportError:
        raise SettingError("a picture needs Pillow", remedy="pip install pillow, or write rows of digits") from None
    import io

    try:
        with Picture.open(io.BytesIO(content), formats=["PNG"]) as picture:
            width, height = picture.size
            frames = getattr(picture, "n_frames", 1)
            small = max(width, height) <= MAX_SIDE and frames == 1
            pixels = picture.convert("RGBA").tobytes() if small else b""
    except (OSError, SyntaxError, ValueError, Picture.DecompressionBombError) as error:
        raise SettingError(f"is a PNG picture that cannot be read ({error})", remedy="save it again") from None
    if not small:
        raise SettingError(
            f"is a picture of {width} x {height} pixels and {frames} frame(s)",
            remedy=f"a pixel is a cell, so write at most {MAX_SIDE} x {MAX_SIDE}, and one frame",
        )
    rows = []
    for row in range(height):
        starts = [4 * (row * width + column) for column in range(width)]  # a pixel has four bytes
        rows.append(tuple(_colour(pixels[at : at + 4], row, column) for column, at in enumerate(starts)))
    return tuple(rows)


def _colour(pixel: bytes, row: int, column: int) -> int:
    """Return the palette's colour of an RGBA pixel; raise SettingError for another colour or a transparent pixel.

    Each channel may differ by TOLERANCE. `row` and `column` count from 0, and from 1 in the error.
    """
    distances = [max(abs(a - b) for a, b in zip(pixel, entry, strict=False)) for entry in PALETTE]
    colour = distances.index(min(distances))
    alpha = pixel[3]
    if distances[colour] > TOLERANCE or alpha < 255 - TOLERANCE:
        known = ", ".join(f"{index} #{entry.hex()}" for index, entry in enumerate(PALETTE))
        written = pixel.hex().removesuffix("ff")
        problem = f"row {row + 1}, column {column + 1}: #{written} is none of the ten colours"
        raise SettingError(problem, remedy=f"write one of {known}")
    return colour


def right_pixels(drawn: Image, image: Image) -> tuple[int, int]:
    """Return how many pixels of `drawn` are as in `image`, which has the same shape, and how many pixels there are.

    Raises ValueError for images of different shapes.
    """
    right = total = 0
    for drawn_row, image_row in zip(drawn, image, strict=True):
        right += sum(a == b for a, b in zip(drawn_row, image_row, strict=True))
        total += len(image_row)
    return right, total


def right_share(drawn: Image, image: Image) -> float:
    """Return the share of pixels of `drawn` that are as in `image`, 0.0 to 1.0."""
    right, pixels = right_pixels(drawn, image)
    return right / pixels
