"""No path, name or key of a stranger's reaches the terminal as it is, whatever prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.doctor.diagnose import doctor_text
from grpo_colab.doctor.findings import Check
from grpo_colab.evaluation.scoring import Scores, score
from grpo_colab.plan import plan
from grpo_colab.reporting.embedding import Embedding, embed_text
from grpo_colab.rewards.audit.findings import Audit
from grpo_colab.text import printable

ESCAPES = "\x1b[2J\x1b]0;t\x07\x9b31m\r\u202e"


def is_plain(text: str, lines: int | None = None) -> None:
    assert printable(text) == text
    assert "x1b[2J" in text
    assert lines is None or len(text.splitlines()) == lines


def test_scores(tmp_path: Path) -> None:
    name = f"mine{ESCAPES}\n"
    found = Scores(
        tmp_path / f"a{ESCAPES}\n.jsonl", ["x:1"], [{}], {name: [1.0], "b": [0.0]}, {name: {f"verdict/{name}": 1.0}}
    )
    is_plain(found.text())
    assert all(line.startswith(("/", "reward", "mine", "b ")) for line in found.text().splitlines() if line)


def test_scores_near_the_greatest_number(tmp_path: Path) -> None:
    found = Scores(tmp_path / "a.jsonl", ["x:1", "x:2"], [{}, {}], {"a": [1e308, 1e308], "b": [-1e308, 1e308]}, {})
    assert "1e+308" in found.text()
    assert max(map(len, found.text().splitlines()[1:])) < 100


def test_scores_are_written_where_that_is_meant(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"completion": "<answer>7</answer>", "answer": "7"}) + "\n")
    found = score(rows, ["correctness"])
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "theirs")
    for out in (tmp_path / "in" / "link", tmp_path / ("x" * 300), tmp_path / "a\x1b[2J"):
        with refused("--out", str(out), remedy="choose", snapshot=False):
            found.write(out)
    found.write("/dev/null")
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize("colour", [False, True])
def test_a_plan(colour: bool, tmp_path: Path) -> None:
    planned = plan(Recipe.load().model_copy(update={"name": f"mine{ESCAPES}"}), gpu="T4")
    planned.advice.append(f"try {ESCAPES}\n another")
    text = planned.text(colour)
    is_plain(text.replace("\x1b[1", "").replace("\x1b[3", "").replace("\x1b[0m", "") if colour else text)
    (tmp_path / "link.png").symlink_to("/etc/shadow-of-none")
    for path in (tmp_path / "link.png", tmp_path / "a\nb.png"):
        with refused("--picture", str(path), remedy="choose another"):
            planned.draw(path)
    planned.draw(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_an_audit() -> None:
    found = Audit(f"mine{ESCAPES}\n")
    found.add("breaks", f"raised {ESCAPES}\nok")
    found.notes.append(f"fails: {ESCAPES}\nok")
    is_plain(str(found), 5)


def test_a_diagnosis() -> None:
    from grpo_colab.doctor.findings import Probe, safe

    probe = Probe(None, [], "", None, False)
    is_plain(doctor_text([Check("x", "ok", safe(f"found {ESCAPES}\nok", probe), "")]), 2)
    assert "pa55" not in safe("https://me:pa55@host/ and https://host/?token=pa55", probe)


def test_an_embedding(tmp_path: Path) -> None:
    pair = {"similarity": 1.0, "test": "a", "train": "b"}
    path = tmp_path / f"a{ESCAPES}\nb"
    is_plain(embed_text(Embedding(path, ESCAPES, {"test": 1}, 3, f"a model {ESCAPES}\n", "t-SNE", [pair], 1)), 12)


@pytest.mark.stack
def test_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    from grpo_colab.utils import console

    console.warn(f"the reward {ESCAPES}\nis flat", step=3)
    is_plain(capsys.readouterr().err, 1)
