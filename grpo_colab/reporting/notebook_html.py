"""The HTML that a notebook shows of a run: live charts, a page in a frame, drawings side by side."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from grpo_colab.utils.templates import render

TEMPLATES: Final = Path(__file__).parent / "templates"


def live_html(picture: bytes, head: Sequence[str], row: Sequence[str], facts: str) -> str:
    """Return HTML with the charts (a PNG), the latest step as a table of the two rows `head` and `row`, and `facts`."""
    encoded = b64encode(picture).decode()
    return render(TEMPLATES / "live.html.j2", picture=encoded, head=head, row=row, facts=facts)


def frame_html(page: str) -> str:
    """Return the HTML of a frame that holds `page`, the text of a whole HTML page."""
    return render(TEMPLATES / "frame.html.j2", page=page)


def drawings_html(gifs: Iterable[tuple[str, bytes | None]]) -> str:
    """Return HTML with the GIFs side by side, each given with its run's name; None becomes a sentence."""
    runs = [(name, b64encode(gif).decode() if gif else "") for name, gif in gifs]
    return render(TEMPLATES / "drawings.html.j2", runs=runs)
