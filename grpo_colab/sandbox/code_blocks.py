"""Find the code in what a model wrote. Standard library only."""

from __future__ import annotations

from typing import Final

_FENCES: Final = ("```python", "```py", "```python3", "```")


def python_code(text: str) -> str:
    """Return the code of a completion: the last closed fence that says python, else the last bare one, else all."""
    lines = text.split("\n")
    found: dict[str, str] = {}
    language, start = None, 0
    for number, line in enumerate(lines):
        mark = line.strip()
        if mark == "```" and language is not None:
            found["" if language == "" else "python"] = "\n".join(lines[start:number])
            language = None
        elif mark.lower() in _FENCES:
            language, start = mark[3:].strip().lower(), number + 1
    return found.get("python", found.get("", text))
