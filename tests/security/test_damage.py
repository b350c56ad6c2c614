"""A run folder whose small files were damaged goes on, is evaluated, shown and embedded, and says what was damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.evaluation.evaluate import AFTER, BEFORE, evaluate_run
from grpo_colab.reporting import report
from grpo_colab.reporting.embedding import embed, embed_text
from grpo_colab.runs import checkpoints
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.status import status, status_text

pytestmark = pytest.mark.stack

STEPS = 4
ROWS = ("metrics.jsonl", "completions.jsonl", "warnings.jsonl", BEFORE, AFTER)
OBJECTS = ("environment.json", "clock.json", "evaluation.json", "mirror.json", "tripwire.json", "reward-failure.json")
OBJECTS += ("wandb.json", "draw.json", "phase.json", "collapse.json")
SMALL: dict[str, dict[str, Any]] = {
    "task": {"limit": 56},
    "budget": {"max_steps": STEPS, "prompts_per_step": 2, "rehearsal": False},
    "grpo": {"num_generations": 4, "max_completion_length": 12, "save_steps": 2},
    "evaluation": {"n": 8},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(Recipe.load(**SMALL), out=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def stopped(whole: Run, tmp_path: Path) -> Run:
    """The same run, as it was after its second step."""
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    for name in ("evaluation.json", AFTER, "report.html", "rewards.png"):
        (path / name).unlink()
    shutil.rmtree(path / "checkpoints" / f"checkpoint-{STEPS}")
    (path / "warnings.jsonl").write_text('{"step": 1, "kind": "x", "text": "one"}\n{"step": 2, "text": "two"}\n')
    return Run(path)


def in_the_middle(line: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        first, *rest = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + line + b"\n" + b"".join(rest))

    return damage


def in_place_of_the_first(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        first, *rest = path.read_text().splitlines(keepends=True)
        path.write_text(json.dumps(change(json.loads(first))) + "\n" + "".join(rest))

    return damage


def at_the_end(piece: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + piece) and None  # type: ignore[func-returns-value]


def a_bad_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] = 0xFF
    path.write_bytes(content)


def a_link(path: Path) -> None:
    path.rename(path.with_name(f"elsewhere-{path.name}"))
    path.symlink_to(f"elsewhere-{path.name}")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGED_ROWS: dict[str, Callable[[Path], None]] = {
    "half a line": at_the_end(b'{"step": 2, "rew'),
    "lines of junk at the end": at_the_end(b"\xff\xfe\n[1]\n"),
    "NULs in the middle": in_the_middle(bytes(4096)),
    "a bad byte": a_bad_byte,
    "a list in the middle": in_the_middle(b"[1, 2]"),
    "a text for a step": in_the_middle(b'{"step": "one", "question": 7, "reward": "high"}'),
    "no step": in_the_middle(b'{"reward": 1.0}'),
    "no end of nesting": in_the_middle(b'{"step": 1, "a": ' + b"[" * 5000),
    "a great number": in_place_of_the_first(lambda row: {**row, "reward": 10**400}),
    "a greater number": in_the_middle(b'{"step": 1' + b"0" * 5000 + b"}"),
    "texts for numbers": in_place_of_the_first(lambda row: {**dict.fromkeys(row, "x"), "step": 1}),
    "numbers for texts": in_place_of_the_first(lambda row: {**dict.fromkeys(row, 1e308), "step": 1}),
    "numbers that overflow": in_place_of_the_first(
        lambda row: {**row, "reward": 1e308, "reward/max": 1e308, "loss": 1e308, "rewards": {"a": 1e308, "b": 1e308}}
    ),
    "infinities": in_place_of_the_first(lambda row: {**row, "reward": float("inf"), "rewards": {"a": float("nan")}}),
    "nothing at all": lambda path: path.write_bytes(b"") and None,  # type: ignore[func-returns-value]
    "nothing but NULs": lambda path: path.write_bytes(bytes(70_000)) and None,  # type: ignore[func-returns-value]
    "a link": a_link,
    "a pipe": a_pipe,
    "a folder": a_folder,
}
DAMAGED_OBJECTS = {
    "a list": "[1, 2]",
    "half": '{"step": 4, "bef',
    "NULs": "\0" * 300,
    "no keys": "{}",
    "texts": json.dumps(
        dict.fromkeys(("step", "before", "after", "n", "paired", "versions", "device", "processes", "runs"), "x")
        | dict.fromkeys(("evaluation_s", "save_s", "wire", "reward", "destination", "id", "solved", "error"), "x")
    ),
    "numbers": json.dumps(
        dict.fromkeys(("step", "before", "after", "n", "paired", "versions", "device", "processes", "runs"), 1e308)
        | dict.fromkeys(("evaluation_s", "save_s", "wire", "reward", "destination", "id", "solved", "error"), 7)
    ),
    "lists": json.dumps({key: [[]] for key in ("step", "before", "after", "versions", "device", "runs", "save_s")}),
    "inner texts": json.dumps(
        {side: {"accuracy": "all", "ci95": ["a", "b"], "rewards": 7} for side in ("before", "after")}
        | {"device": {"name": ["x"]}, "versions": {"torch": [1]}, "step": 4, "paired": {"gained": "x"}, "n": 8}
    ),
    "great numbers": '{"step": 1e400, "n": NaN, "save_s": -Infinity, "evaluation_s": 1'
    + "0" * 400
    + ', "runs": [1e999]}',
    "deep": '{"step": ' + "[" * 500 + "]" * 500 + "}",
}


def look_at(run: Run) -> str:
    """All that only reads; the page's own text."""
    assert json.loads(json.dumps(status(run.path), allow_nan=False))
    assert status_text(status(run.path))
    return report([run.path], run.path.parent / "page.html").read_text(encoding="utf-8")


# A resume takes seconds: those that differ in what is done. What a resume does to the files is asked of each below.
RESUMED = ("half a line", "a bad byte", "numbers that overflow", "a link")


@pytest.mark.parametrize("damage", RESUMED)
def test_damaged_rows_are_left_out_said_and_gone_on_without(
    damage: str, whole: Run, stopped: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ROWS[: 3 if damage == "a link" else 4]:  # nothing is written through a link: it is not asked again
        DAMAGED_ROWS[damage](stopped.path / name)
    look_at(stopped)
    run = train(resume=stopped.path)
    assert run.finished
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    # of the steps that no damage has met, all is as it would have been
    assert repeatable(run.metrics())[1:] == repeatable(whole.metrics())[1:]
    assert [row for row in run.completions() if row["step"] > 2] == [
        row for row in whole.completions() if row["step"] > 2
    ]
    assert run.answers(AFTER) == whole.answers(AFTER)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning: metrics.jsonl")]
    assert len(said) <= 2
    if damage == "a bad byte":
        assert "1 line was damaged, and left out; the original is kept as damaged-metrics.jsonl" in said[0]
        assert (run.path / "damaged-metrics.jsonl").is_file()
        assert run.completions()[-1]["step"] == 4
        assert len(run.completions()) >= len(whole.completions()) - 1  # what follows the damage is there
        assert evaluate_run(run.path)["after"] == (whole.evaluation or {})["after"]
    look_at(run)


@pytest.mark.parametrize("damage", ["half", "texts"])
def test_damaged_objects_are_read_past(damage: str, whole: Run, stopped: Run) -> None:
    for name in OBJECTS:
        (stopped.path / name).write_text(DAMAGED_OBJECTS[damage])
    (stopped.path.parent / "draw.json").write_text(DAMAGED_OBJECTS[damage])
    for checkpoint in checkpoints.saved(stopped.checkpoints):
        odd_state(checkpoint, DAMAGED_OBJECTS[damage])
    (stopped.path / "metrics.jsonl").write_text("")
    look_at(stopped)
    assert stopped.resume_command
    if stopped.finished:  # "solved" or a step without an end: whoever wrote that has ended it
        with refused("--resume", str(stopped.path), problem="is finished"):
            train(resume=stopped.path)
        (stopped.path / "evaluation.json").unlink()
    run = train(resume=stopped.path)
    assert run.finished
    assert run.completions() == whole.completions()
    look_at(run)
    (run.path / "evaluation.json").write_text(DAMAGED_OBJECTS[damage])
    look_at(run)
    assert evaluate_run(run.path)["after"] == (whole.evaluation or {})["after"]


@pytest.mark.parametrize("damage", DAMAGED_OBJECTS)
def test_every_damaged_object_is_looked_past(damage: str, whole: Run, stopped: Run) -> None:
    for name in OBJECTS:
        (stopped.path / name).write_text(DAMAGED_OBJECTS[damage])
    (stopped.path.parent / "draw.json").write_text(DAMAGED_OBJECTS[damage])
    look_at(stopped)
    assert stopped.resume_command
    assert stopped.finished in (True, False)
    (checkpoint,) = checkpoints.saved(stopped.checkpoints)
    odd_state(checkpoint, DAMAGED_OBJECTS[damage])
    (stopped.path / "metrics.jsonl").write_text("")
    assert stopped.rewind_to(checkpoint) == []
    assert stopped.metrics() == []


def odd_state(checkpoint: Path, odd: str) -> None:
    """Make a log of a checkpoint's state odd, under a right manifest."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    try:
        log = json.loads(odd)
    except (ValueError, RecursionError):
        log = [odd]
    path.write_text(json.dumps({**state, "log_history": [log, {"step": "x", "loss": 1}, 7, None]}))
    told = json.loads((checkpoint / checkpoints.MANIFEST).read_text())
    (checkpoint / checkpoints.MANIFEST).unlink()
    staged = checkpoint.parent / checkpoints.STAGING / checkpoint.name
    staged.parent.mkdir(exist_ok=True)
    checkpoint.rename(staged)
    checkpoints.seal(staged, checkpoint.parent, told["metric"], told["value"])


@pytest.mark.parametrize("damage", DAMAGED_ROWS)
def test_every_damage_is_read_past_and_mended(damage: str, stopped: Run) -> None:
    for name in ROWS[:4]:
        DAMAGED_ROWS[damage](stopped.path / name)
    look_at(stopped)
    for rows in (stopped.metrics(), stopped.completions(), stopped.answers(BEFORE)):
        assert all(isinstance(row, dict) for row in rows)
    notes = stopped.rewind_to(checkpoints.saved(stopped.checkpoints)[-1])
    assert damage in SOUND or any(note.startswith("metrics.jsonl") for note in notes)
    assert [row["step"] for row in stopped.metrics()] == [1, 2]
    assert stopped.rewind_to(checkpoints.saved(stopped.checkpoints)[-1]) == []  # it is said once
    look_at(stopped)


SOUND = ("texts for numbers", "numbers for texts", "numbers that overflow", "infinities", "a great number")


def test_what_is_set_aside_overwrites_nothing(stopped: Run) -> None:
    for name in ("damaged-metrics.jsonl", "damaged-metrics-2.jsonl"):
        (stopped.path / name).write_text("theirs")
    DAMAGED_ROWS["a bad byte"](stopped.path / "metrics.jsonl")
    was = (stopped.path / "metrics.jsonl").read_bytes()
    (note, _) = stopped.rewind_to(checkpoints.saved(stopped.checkpoints)[-1])
    assert note.endswith("the original is kept as damaged-metrics-3.jsonl")
    assert (stopped.path / "damaged-metrics-3.jsonl").read_bytes() == was
    assert (stopped.path / "damaged-metrics.jsonl").read_text() == "theirs"


@pytest.mark.parametrize("damage", long_but([], ["a bad byte", "numbers for texts", "a pipe"]))
def test_an_embedding_of_damaged_files_is_made(damage: str, whole: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    for name in ("completions.jsonl", AFTER):
        DAMAGED_ROWS[damage](path / name)
    assert "problems in" in embed_text(embed(run=path, out=tmp_path / "out", limit=56))


@pytest.mark.parametrize("cut", [0, 1, 100, 5000])
def test_an_adapter_that_is_cut_short_is_no_matter_to_who_only_looks(cut: int, whole: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    for adapter in path.rglob("adapter_model.safetensors"):
        os.truncate(adapter, cut)
    look_at(Run(path))
    assert status(path)["checkpoint"] is None
