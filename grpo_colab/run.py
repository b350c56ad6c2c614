"""The run folder: everything that a run leaves behind, and nothing anywhere else.

    runs/2026-11-21-word-problems-tiny/
        recipe.toml         resolved; running it again repeats the run
        environment.json    versions, device, seeds
        metrics.jsonl       one line a step
        completions.jsonl   what the policy wrote, with each reward
        checkpoints/        to go on from
        adapter/            the trained LoRA with its tokenizer
        evaluation.json     before, after, and the paired test
        evaluation-before.jsonl, evaluation-after.jsonl     what was answered, one row a problem
        warnings.jsonl      what looked wrong, and at which step
        reward-failure.json the completion on which a reward broke, when one did
        rewards.png         the curves

A file is written under a temporary name and then renamed, so that a run that is killed leaves whole files. The two
`.jsonl` files grow by whole lines; a torn last line is left out when they are read.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.recipe import Recipe

RUNS = Path("runs")


class Run:
    """A run folder. `Run(path)` opens one that exists; `Run.create` makes a new one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "recipe.toml").is_file():
            raise SettingError(f"run {str(path)!r}: no recipe.toml there, so it is no run folder")

    @classmethod
    def create(cls, recipe: Recipe, out: str | Path | None = None) -> Run:
        """Make the folder, `out` or runs/<date>-<recipe>[-n], with the recipe in it.

        Raises SettingError for a folder that holds anything already, or that cannot be written.
        """
        path = free_path(recipe) if out is None else Path(out)
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / "recipe.toml", recipe.to_toml())
        except OSError as error:
            raise SettingError(f"--out {str(path)!r}: cannot write there ({error.strerror})") from None
        return cls(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(self.path / "recipe.toml")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Before / after / paired, as evaluation.json has them; None while there is none."""
        path = self.path / "evaluation.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def metrics(self) -> list[dict[str, Any]]:
        """One dict a step, in order."""
        return read_lines(self.path / "metrics.jsonl")

    def completions(self) -> list[dict[str, Any]]:
        return read_lines(self.path / "completions.jsonl")

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.path / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """A .jsonl file at once."""
        write_text(self.path / name, lines(rows))

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to a .jsonl file in one write, so that a line is whole or the file's last."""
        text = lines(rows)
        with (self.path / name).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def save_failure(self, record: Mapping[str, Any]) -> Path:
        """Keep what a reward broke on; returns the file. What JSON cannot hold is written as Python shows it."""
        path = self.path / "reward-failure.json"
        write_text(path, json.dumps(record, indent=2, default=repr) + "\n")
        return path

    def last_checkpoint(self) -> Path | None:
        """The newest `checkpoint-<step>` that has its trainer state, which is the last file of a checkpoint."""
        found = [path for path in self.checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
        return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps after `step`, which a resumed run writes again."""
        for name in ("metrics.jsonl", "completions.jsonl", "warnings.jsonl"):
            path = self.path / name
            if path.is_file():
                self.write_lines(name, [row for row in read_lines(path) if row["step"] <= step])


def free_path(recipe: Recipe) -> Path:
    """runs/<date>-<recipe>, with -2, -3, ... when that is taken."""
    base = RUNS / f"{datetime.date.today().isoformat()}-{recipe.name}"
    path, n = base, 1
    while path.exists():
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def check_free(path: Path) -> None:
    """Raise SettingError when `path` is a file or a folder with anything in it."""
    if (path / "recipe.toml").is_file():
        raise SettingError(f"--out {str(path)!r}: holds a run already; choose another folder, or --resume {path}")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise SettingError(f"--out {str(path)!r}: is not an empty folder; choose another")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all. Half a surrogate pair becomes its escape, which in JSON means it."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all: to a temporary name beside it, to the disk, and then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=plain) + "\n" for row in rows)


def plain(value: Any) -> Any:
    """What a reward logged, in JSON's types: arrays and tensors as lists or numbers, the rest as Python shows it."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file that the package wrote; a torn last line is left out, a missing file is empty."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].split("\n") if line]
