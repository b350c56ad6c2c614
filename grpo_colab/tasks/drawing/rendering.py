"""Grids as a person sees them: coloured in a terminal, as a picture, and as a GIF of how a drawing came to be."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_colab.errors import SettingError
from grpo_colab.tasks.drawing.canvas import Image
from grpo_colab.tasks.drawing.images import PALETTE, right_pixels
from grpo_colab.utils.files import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

CELL, MARGIN, TITLE = 24, 12, 22  # pixels: a cell's side, the space around a grid, the line above it
GRID = (85, 85, 85)
# What a GIF holds beside the ten colours: the grid's, and what black letters on white smooth to.
GREYS = (GRID, *((level, level, level) for level in range(0, 256, 17)))


def ansi(image: Image, colour: bool = True) -> str:
    """One line a row, two characters a cell: its digit on its colour. Without `colour` digits alone."""
    return beside(image, colour=colour)


def beside(*images: Image, colour: bool = True) -> str:
    """Several images next to each other, as `ansi` writes them."""
    empty = ["  " * len(image[0]) for image in images]
    rows = zip_longest(*(_lines(image, colour) for image in images))
    return "\n".join("   ".join(line or empty[i] for i, line in enumerate(row)).rstrip(" ") for row in rows)


def picture(images: Sequence[Image], titles: Sequence[str] = ()) -> Picture:
    """Grids side by side, each below its title. A notebook shows the result as it is; `png` writes it."""
    try:
        from PIL import Image as Pictures
        from PIL import ImageDraw, ImageFont
    except ImportError:
        raise SettingError("pictures of drawings need Pillow", remedy="pip install pillow") from None

    font = ImageFont.load_default(14)
    titles = [*titles, *[""] * (len(images) - len(titles))]
    widths = [
        max(CELL * len(image[0]) + 1, int(font.getlength(title)) + 1)
        for image, title in zip(images, titles, strict=True)
    ]
    top = MARGIN + (TITLE if any(titles) else 0)
    size = (sum(widths) + MARGIN * (len(images) + 1), top + CELL * max(map(len, images)) + 1 + MARGIN)
    made = Pictures.new("RGB", size, "white")
    pen, left = ImageDraw.Draw(made), MARGIN
    for image, title, width in zip(images, titles, widths, strict=True):
        pen.text((left, MARGIN - 2), title, fill="black", font=font)
        for row, line in enumerate(image):
            for column, cell in enumerate(line):
                x, y = left + CELL * column, top + CELL * row
                pen.rectangle((x, y, x + CELL, y + CELL), fill=tuple(PALETTE[cell]), outline=GRID)
        left += width + MARGIN
    return made


def png(path: str | Path, images: Sequence[Image], titles: Sequence[str] = ()) -> None:
    """Write `picture(images, titles)` to `path`, whole or not at all."""
    written = io.BytesIO()
    picture(images, titles).save(written, "PNG", optimize=True)
    write_bytes(Path(path), written.getvalue())


def gif(path: str | Path, target: Image, frames: Sequence[tuple[int, Image]]) -> None:
    """Write the way to `target`: beside it the drawing of each (iteration, drawing), and its share of right pixels.

    All but the last frame, which is held, take at most ten seconds together, or 40 ms each.
    """
    shown = []
    for iteration, drawn in frames:
        right, pixels = right_pixels(drawn, target)
        shown.append(picture([target, drawn], ["target", f"iteration {iteration}: {100 * right // pixels} % right"]))
    from PIL import Image as Pictures

    size = max(frame.width for frame in shown), max(frame.height for frame in shown)
    whole = [Pictures.new("RGB", size, "white") for _ in shown]
    for page, frame in zip(whole, shown, strict=True):
        page.paste(frame)
    colours = Pictures.new("P", (1, 1))
    colours.putpalette(b"".join([*PALETTE, *map(bytes, GREYS)]))
    # never a colour between two: each pixel becomes the nearest of the palette
    whole = [page.quantize(palette=colours, dither=Pictures.Dither.NONE) for page in whole]
    each = max(40, min(400, 10_000 // len(shown)))
    written = io.BytesIO()
    whole[0].save(
        written, "GIF", save_all=True, append_images=whole[1:], duration=[each] * (len(whole) - 1) + [2500], loop=0
    )
    write_bytes(Path(path), written.getvalue())


def _lines(image: Image, colour: bool) -> list[str]:
    if not colour:
        return ["".join(f"{cell} " for cell in row) for row in image]
    return ["".join(map(_cell, row)) + "\x1b[0m" for row in image]


def _cell(colour: int) -> str:
    red, green, blue = PALETTE[colour]
    letters = 30 if 299 * red + 587 * green + 114 * blue > 128_000 else 97  # black on light, white on dark
    return f"\x1b[48;2;{red};{green};{blue};{letters}m{colour} "
