"""Images that are asked for: the study's named ones, N-squares for any N, and a user's own from a text or a PNG.

The named ones are those of ironbar's ARC25 notes (iterations 5, 6 and 8); squares and lines are drawn column by column,
top to bottom, in the colours 1, 2, ... 9, 1, ... on a canvas of colour 0.
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

# ARC's ten colours, as its site and every viewer since paint them
PALETTE = tuple(map(bytes.fromhex, (
    "000000", "0074d9", "ff4136", "2ecc40", "ffdc00", "aaaaaa", "f012be", "ff851b", "7fdbff", "870c25",
)))  # fmt: skip
TOLERANCE = 16  # of 255 a channel, for pictures that went through a colour profile; two of the ten are 68 apart
_AT_MOST = f"at most {MAX_SIDE} rows of {MAX_SIDE} cells"
LARGEST_FILE = 1_000_000  # bytes; the largest image is 2 kB of text


def load_image(source: str | Path, setting: str = "image") -> Image:
    """Return the image that a task's name, a file (text or PNG, one pixel a cell) or rows of digits say.

    Rows are parted by line ends or slashes, "8888/8448". Raises SettingError, with the row, the column or the pixel
    that is wrong; `setting` is where the source was written.
    """
    try:
        return _image_of(source)
    except SettingError as error:
        raise error.replace(setting=setting, value=str(source)) from None


def _image_of(source: str | Path) -> Image:
    if isinstance(source, str):
        if source == "chick":
            return parse_image(CHICK)
        if source == "9-vertical-lines":
            return execute([Statement("V", column + 1, (column,)) for column in range(9)], CanvasSize(9, 9))
        if squares := re.fullmatch(r"([0-9]+)-squares", source):
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
        # of one line with anything else in it, it is a file's name that is mistyped
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
    try:
        if path.suffix.lower() == ".png":
            raise UnicodeError
        return parse_image(content.decode("utf-8-sig"))
    except UnicodeError:
        raise SettingError("is neither a text of digits nor a PNG picture", remedy="write one of them") from None


def parse_image(text: str) -> Image:
    """Return the image in rows of digits, all with spaces, all with commas or all with nothing between.

    Blank lines do not count. Raises SettingError, with the row and the column, both counted from 1.
    """
    rows: list[tuple[int, ...]] = []
    forms: list[str] = []
    for line in filter(None, map(str.strip, re.split(r"[\n\r/]+", text))):
        forms.append("commas" if "," in line else "spaces" if len(line.split()) > 1 else "nothing")
        by_comma = [cell.strip() for cell in line.removesuffix(",").split(",")]
        cells = {"commas": by_comma, "spaces": line.split(), "nothing": list(line)}[forms[-1]]
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
        if forms[-1] != forms[0]:
            problem = f"row {row} has {forms[-1]} between its cells and row 1 has {forms[0]}"
            raise SettingError(problem, remedy="write all rows in one form")
        rows.append(tuple(map(int, cells)))
    if not rows:
        raise SettingError("is empty", remedy='write rows of digits such as "8888/8448"')
    return tuple(rows)


def image_text(image: Image) -> str:
    """Rows of digits, one a line: the form in which an answer column holds an image."""
    return "\n".join("".join(map(str, row)) for row in image)


def cover(image: Image) -> Program:
    """A program that draws `image`, short but seldom the shortest, and never empty.

    Each cell that is still wrong, in reading order, becomes the top left corner of the largest block of its colour;
    before that the most frequent colour fills the canvas, where that saves a statement.
    """
    shape = shape_of(image)
    colours = [colour for row in image for colour in row]
    most = max(range(COLOURS), key=colours.count)
    programs = [_blocks(image, 0, ()) or (Statement("P", 0, (0, 0)),)]
    if most:
        fill = Statement("R", most, (0, 0, shape.rows - 1, shape.columns - 1))
        programs.append(_blocks(image, most, (fill,)))
    return min(programs, key=len)


def _blocks(image: Image, background: int, begun: Program) -> Program:
    rows, columns = shape_of(image)
    program, right = list(begun), {(y, x) for y in range(rows) for x in range(columns) if image[y][x] == background}
    for y in range(rows):
        for x in range(columns):
            if (y, x) in right:
                continue
            colour = image[y][x]
            # how far the colour goes in each row from here, no further than in the rows above
            widths = [columns - x]
            for row in image[y:]:
                run = next((i for i, other in enumerate(row[x : x + widths[-1]]) if other != colour), widths[-1])
                if not run:
                    break
                widths.append(run)
            height, width = max(((h, w) for h, w in enumerate(widths) if h), key=lambda size: (size[0] * size[1], size))
            program.append(
                _block(Statement("R", colour, (y, x, y + height - 1, x + width - 1)), CanvasSize(rows, columns))
            )
            right |= {(y + i, x + j) for i in range(height) for j in range(width)}
    return tuple(program)


def _block(rectangle: Statement, shape: CanvasSize) -> Statement:
    """The shortest statement that draws the same."""
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
    """`n` squares of 2 x 2, as near to one large square as they go; of two numbers of columns the even one."""
    if not 1 <= n <= MOST_SQUARES:
        problem = f"that many squares do not fit into {MAX_SIDE} x {MAX_SIDE} cells"
        raise SettingError(problem, remedy=f"write N-squares for any N of 1 to {MOST_SQUARES}")
    columns = math.isqrt(n - 1) + 1
    if columns % 2 and n <= columns * (columns - 1):
        columns -= 1
    rows = -(-n // columns)
    return execute(
        [Statement("S", i % 9 + 1, (i % rows * 2, i // rows * 2, 2)) for i in range(n)],
        CanvasSize(2 * rows, 2 * columns),
    )


def _from_png(content: bytes) -> Image:
    """One pixel a cell; the size is looked at before any pixel is unpacked."""
    try:
        from PIL import Image as Picture
    except ImportError:
        raise SettingError("a picture needs Pillow", remedy="pip install pillow, or write rows of digits") from None
    import io

    try:
        with Picture.open(io.BytesIO(content), formats=["PNG"]) as picture:
            (width, height), frames = picture.size, getattr(picture, "n_frames", 1)
            small = max(width, height) <= MAX_SIDE and frames == 1
            pixels = picture.convert("RGBA").tobytes() if small else b""
    except (OSError, SyntaxError, ValueError, Picture.DecompressionBombError) as error:
        raise SettingError(f"is a PNG picture that cannot be read ({error})", remedy="save it again") from None
    if not small:
        raise SettingError(
            f"is a picture of {width} x {height} pixels and {frames} frame(s)",
            remedy=f"a pixel is a cell, so write at most {MAX_SIDE} x {MAX_SIDE}, and one frame",
        )
    cells = [_colour(pixels[at : at + 4], divmod(at // 4, width)) for at in range(0, len(pixels), 4)]
    return tuple(tuple(cells[row * width : (row + 1) * width]) for row in range(height))


def _colour(pixel: bytes, cell: tuple[int, int]) -> int:
    far = [max(abs(a - b) for a, b in zip(pixel, known, strict=False)) for known in PALETTE]
    colour = far.index(min(far))
    if far[colour] > TOLERANCE or pixel[3] < 255 - TOLERANCE:
        seen, known = pixel.hex().removesuffix("ff"), ", ".join(f"{i} #{code.hex()}" for i, code in enumerate(PALETTE))
        problem = f"row {cell[0] + 1}, column {cell[1] + 1}: #{seen} is none of the ten colours"
        raise SettingError(problem, remedy=f"write one of {known}")
    return colour


def right_pixels(drawn: Image, image: Image) -> tuple[int, int]:
    """How many pixels are in `drawn` as in `image`, which is of the same shape, and of how many."""
    pairs = [pair for rows in zip(drawn, image, strict=True) for pair in zip(*rows, strict=True)]
    return sum(a == b for a, b in pairs), len(pairs)


def right_share(drawn: Image, image: Image) -> float:
    """The share of right pixels, 0.0 to 1.0."""
    right, pixels = right_pixels(drawn, image)
    return right / pixels
