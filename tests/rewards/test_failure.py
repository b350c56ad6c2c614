"""A bug in a reward is shown where it is: file, line, the lines that led there, and the completion; in one form."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.rewards import RewardError, call_reward, combine, guard, resolve_reward

Command = Callable[..., subprocess.CompletedProcess[str]]
OWN = """\
import functools
import json


def share(text):
    return 1 / len(text.removeprefix("two"))


def thin_reward(completions, **kwargs):
    texts = [c[0]["content"] if isinstance(c, list) else c for c in completions]
    return [share(text) for text in texts]


def parsed_reward(completions, **kwargs):
    return [json.loads(c[0]["content"])["x"] for c in completions]


def short_reward(completions, **kwargs):
    return []


@functools.wraps(thin_reward)
def wrapped_reward(*args, **kwargs):
    return thin_reward(*args, **kwargs)


def secret_reward(completions, **kwargs):
    raise ValueError("\\x1b[2J " + "hf_" + "a" * 30 + "x" * 500_000)  # hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa


class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def rude_reward(completions, **kwargs):
    raise Rude


def deep_reward(completions, depth=0, **kwargs):
    return deep_reward(completions, depth + 1)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    return lambda name: resolve_reward(f"own.py:{name}_reward")


def broken(function: Any, completions: list[str], **kwargs: Any) -> RewardError:
    with pytest.raises(RewardError) as caught:
        call_reward(function, ["p"] * len(completions), completions, None, {}, **kwargs)
    return caught.value


def test_the_lines_that_led_to_it_are_the_persons_own(own: Any) -> None:
    error = broken(own("thin"), ["one", "two"])
    assert error.place == "own.py:6"
    assert str(error).splitlines() == [
        "own.py:6: rewards.thin: raised ZeroDivisionError: division by zero "
        "(outside of training, on completion 2 of 2: 'two')",
        "  own.py:11, in thin_reward",
        "    return [share(text) for text in texts]",
        "  own.py:6, in share",
        '    return 1 / len(text.removeprefix("two"))',
    ]
    assert error.record["lines"] == [line.removeprefix("  ") for line in str(error).splitlines()[1:]]


def test_lines_of_a_library_are_left_out(own: Any) -> None:
    error = broken(own("parsed"), ['{"x": 1}', "{"])
    assert error.place == "own.py:15"  # not json/decoder.py, where it was raised
    assert "raised JSONDecodeError: Expecting property name" in error.problem
    assert len(str(error).splitlines()) == 3


def test_wrong_rewards_are_shown_where_the_function_is_defined(own: Any) -> None:
    error = broken(own("short"), ["one", "two"])
    assert error.place == "own.py:18"
    assert error.problem == "gave 0 rewards for 2 completions (outside of training)"
    assert broken(own("wrapped"), ["two"]).place == "own.py:6"


def test_nothing_of_it_is_long_secret_or_obeyed_by_a_terminal(own: Any) -> None:
    said = str(broken(own("secret"), ["y" * 50_000 + "\x1b[31m\u202e hf_" + "b" * 30]))
    assert len(said) < 1200
    assert "hf_..." in said
    assert not any(bad in said for bad in ("hf_a", "hf_b", "\x1b", "\u202e"))


def test_an_error_without_a_text_and_one_without_end(own: Any) -> None:
    assert "raised Rude, whose text cannot be read (outside" in broken(own("rude"), ["one"]).problem
    deep = broken(own("deep"), ["one"])
    assert "raised RecursionError" in deep.problem
    assert len(str(deep)) < 1200


def test_a_part_of_a_combined_reward_is_named_with_the_row_of_the_file(own: Any) -> None:
    error = broken(combine([own("thin")]), ["one", "two"], places=["c.jsonl:1", "c.jsonl:2"])
    assert error.place == "own.py:6"
    assert error.problem.endswith("(c.jsonl:2, on completion 2 of 2: 'two')")


def test_a_whole_batch_of_a_file_is_named_by_its_rows(own: Any) -> None:
    error = broken(own("short"), ["one", "two"], places=["c.jsonl:4", "c.jsonl:9"])
    assert error.problem == "gave 0 rewards for 2 completions (c.jsonl:4 to 9)"


def test_a_function_of_a_notebooks_cell() -> None:
    names: dict[str, Any] = {}
    code = compile("def cell_reward(completions, **kwargs):\n    return [1 / 0]", "<ipython-input-3>", "exec")
    exec(code, names)  # noqa: S102 - as a notebook does
    with pytest.raises(RewardError) as caught:
        guard(names["cell_reward"])(completions=["one"])
    assert caught.value.place == "<ipython-input-3>:2"


@pytest.mark.parametrize(
    ("source", "place"),
    [("x = 1\ny = z\n", "own.py:2"), ("x = 1\n\ndef (:\n", "own.py:3"), ("import json\njson.loads('{')", "own.py:2")],
)
def test_a_file_that_breaks_while_it_is_imported_is_told_by_its_line(
    source: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(source)
    with refused(problem="'own.py' does not import: ", place=place, snapshot=False):
        resolve_reward("own.py:own_reward")


def test_score_and_audit_tell_it_alike(tmp_path: Path, command: Command) -> None:
    (tmp_path / "own.py").write_text(OWN)
    rows = [{"completion": text} for text in ("one", "two", "three")]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["own.py:11, in thin_reward", "return [share(text) for text in texts]", "own.py:6, in share"]
    scored = command("score", "c.jsonl", "--rewards", "own.py:thin_reward")
    assert scored.returncode == 2
    assert scored.stderr.splitlines()[-5] == (
        "grpo-colab: own.py:6: rewards.thin: raised ZeroDivisionError: division by zero "
        "(c.jsonl:2, on completion 2 of 3: 'two')"
    )
    assert [line.strip() for line in scored.stderr.splitlines()[-4:-1]] == lines
    audited = command("audit", "own.py:thin_reward")
    assert audited.returncode == 1
    assert "own.py:6: raised ZeroDivisionError: division by zero" in audited.stdout
    said = [line.strip() for line in audited.stdout.splitlines()]
    at = said.index(lines[0])
    assert said[at : at + 3] == lines
