"""Show images: in colour in a terminal, as a picture, and as a GIF of the best drawings of a run."""

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

CELL, MARGIN, TITLE = 24, 12, 22  # in pixels: the side of a cell, the space around an image, the height of its title
GRID = (85, 85, 85)
# The colours of a GIF beside the palette: the grid's, and the greys at the edges of black letters on white.
GREYS = (GRID, *((level, level, level) for level in range(0, 256, 17)))


def ansi(image: Image, colour: bool = True) -> str:
    """Return an image as text for a terminal: a line per row, two characters per cell, its digit on its colour.

    Without `colour`, the text has digits and spaces only.
    """
    return beside(image, colour=colour)


def beside(*images: Image, colour: bool = True) -> str:
    """Return several images as text, next to each other, each as `ansi` writes it."""
    blanks = ["  " * len(image[0]) for image in images]
    lines = []
    # An image with fewer rows than the others is continued by blanks.
    for parts in zip_longest(*(_lines(image, colour) for image in images)):
        line = "   ".join(part or blank for part, blank in zip(parts, blanks, strict=True))
        lines.append(line.rstrip(" "))
    return "\n".join(lines)


def picture(images: Sequence[Image], titles: Sequence[str] = ()) -> Picture:
    """Return a picture of images side by side, each below its title; images without a title have none.

    A notebook shows the picture, `png` writes it. There must be an image, and no more titles than images. Raises
    SettingError if Pillow is not installed.
    """
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
    result = Pictures.new("RGB", size, "white")
    pen = ImageDraw.Draw(result)
    left = MARGIN
    for image, title, width in zip(images, titles, widths, strict=True):
        pen.text((left, MARGIN - 2), title, fill="black", font=font)
        for row, line in enumerate(image):
            for column, cell in enumerate(line):
                x, y = left + CELL * column, top + CELL * row
                pen.rectangle((x, y, x + CELL, y + CELL), fill=tuple(PALETTE[cell]), outline=GRID)
        left += width + MARGIN
    return result


def png(path: str | Path, images: Sequence[Image], titles: Sequence[str] = ()) -> None:
    """Write `picture(images, titles)` to `path`, whole or not at all.

    Raises SettingError if Pillow is not installed, and OSError where `path` cannot be written.
    """
    content = io.BytesIO()
    picture(images, titles).save(content, "PNG", optimize=True)
    write_bytes(Path(path), content.getvalue())


def gif(path: str | Path, target: Image, frames: Sequence[tuple[int, Image]]) -> None:
    """Write an animation to `path`: a frame for each (iteration, drawing) of `frames`, beside the target.

    Each frame's title has the drawing's share of right pixels. A frame lasts 400 ms, or less so that all of them take
    ten seconds together, but at least 40 ms. The last one stays for 2.5 s, then the animation starts again. The file is
    written whole or not at all. Raises SettingError if Pillow is not installed, OSError where `path` cannot be written,
    and ValueError without frames.
    """
    pictures = []
    for iteration, drawing in frames:
        right, pixels = right_pixels(drawing, target)
        title = f"iteration {iteration}: {100 * right // pixels} % right"
        pictures.append(picture([target, drawing], ["target", title]))
    from PIL import Image as Pictures

    # All frames of a GIF have one size; titles of different lengths give pictures of different widths.
    size = max(frame.width for frame in pictures), max(frame.height for frame in pictures)
    pages = [Pictures.new("RGB", size, "white") for _ in pictures]
    for page, frame in zip(pages, pictures, strict=True):
        page.paste(frame)
    palette = Pictures.new("P", (1, 1))
    palette.putpalette(b"".join([*PALETTE, *map(bytes, GREYS)]))
    # Without dithering, each pixel gets the nearest colour of the palette.
    pages = [page.quantize(palette=palette, dither=Pictures.Dither.NONE) for page in pages]
    frame_ms = max(40, min(400, 10_000 // len(pages)))
    durations_ms = [frame_ms] * (len(pages) - 1) + [2500]
    content = io.BytesIO()
    pages[0].save(content, "GIF", save_all=True, append_images=pages[1:], duration=durations_ms, loop=0)
    write_bytes(Path(path), content.getvalue())


def _lines(image: Image, colour: bool) -> list[str]:
    """Return the lines of an image's text, with escape sequences if `colour`."""
    if not colour:
        return ["".join(f"{cell} " for cell in row) for row in image]
    return ["".join(map(_cell, row)) + "\x1b[0m" for row in image]


def _cell(colour: int) -> str:
    """Return a cell's digit on its colour: black on a light colour, white on a dark one."""
    red, green, blue = PALETTE[colour]
    brightness = (299 * red + 587 * green + 114 * blue) / 1000  # 0 to 255
    foreground = 30 if brightness > 128 else 97
    return f"\x1b[48;2;{red};{green};{blue};{foreground}m{colour} "
