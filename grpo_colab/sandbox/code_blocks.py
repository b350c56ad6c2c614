"""Find the code in a completion."""

from __future__ import annotations

from typing import Final

_FENCES: Final = ("```python", "```py", "```python3", "```")


def python_code(text: str) -> str:
    """Return the last closed code block marked as Python; else the last one without a language; else all of `text`.

    A block is returned without its marks, which stand on lines of their own. The marks of Python are python, py and
    python3, in any case.
    """
    lines = text.split("\n")
    marked_block: str | None = None
    bare_block: str | None = None
    language, start = None, 0  # of the open block; None between blocks
    for number, line in enumerate(lines):
        fence = line.strip()
        if fence == "```" and language is not None:
            block = "\n".join(lines[start:number])
            if language == "":
                bare_block = block
            else:
                marked_block = block
            language = None
        elif fence.lower() in _FENCES:
            language, start = fence[3:].strip().lower(), number + 1
    if marked_block is not None:
        return marked_block
    return text if bare_block is None else bare_block


def all_python_code(text: str) -> str:
    """Return all closed code blocks marked as Python, one after the other; without two of them, as `python_code`."""
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in text.split("\n"):
        fence = line.strip().lower()
        if inside is None and fence in _FENCES[:-1]:
            inside = []
        elif inside is not None and fence == "```":
            blocks.append("\n".join(inside))
            inside = None
        elif inside is not None:
            inside.append(line)
    return "\n\n".join(blocks) if len(blocks) > 1 else python_code(text)
