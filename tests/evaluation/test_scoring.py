"""Scoring a file of completions: the numbers by hand, from every kind of file, and what is said of a bad one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import check, refused

from grpo_colab.evaluation.scoring import default_rewards, score
from grpo_colab.rewards import correctness_reward
from grpo_colab.tasks.jsonl import JSONL

Command = Callable[..., subprocess.CompletedProcess[str]]
GOOD = "<reasoning>\nbecause\n</reasoning>\n<answer>\n18\n</answer>"
ROWS: list[dict[str, Any]] = [
    {"prompt": "a", "completion": GOOD, "answer": "18"},
    {"prompt": "a", "completion": "<answer>$18</answer>", "answer": "18"},
    {"prompt": "b", "completion": GOOD, "answer": "19"},
    {"prompt": "b", "completion": "<answer>18 or 19</answer>", "answer": "19"},
    {"prompt": "c", "completion": "18", "answer": None},
]
OWN = """
def loud_reward(completions, prompts, **kwargs):
    print("noise")
    return [float(prompt == "a") for prompt in prompts]

def thin_reward(completions, **kwargs):
    return [1 / len(c[0]["content"].removeprefix("18")) for c in completions]

def topic_reward(completions, topic, **kwargs):
    return [1.0] * len(completions)

def ids_reward(completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]
"""


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "completions.jsonl", ROWS)


def test_what_each_reward_pays_and_why(file: Path) -> None:
    scores = score(file, ["correctness", "strict_format"])
    assert scores.paid == {"correctness": [1.0, 1.0, 0.0, 0.0, None], "strict_format": [1.0, 0.0, 1.0, 0.0, 0.0]}
    shares = {name.removeprefix("verdict/"): share for name, share in scores.logged["correctness"].items() if share}
    assert shares == {"right": 0.5, "wrong": 0.25, "many_numbers": 0.25}
    assert list(scores.disagreements()) == [("correctness", "strict_format", [1], [2])]


def test_the_table_on_stdout_the_rows_in_a_file_and_noise_on_neither(file: Path, command: Command) -> None:
    (file.parent / "own.py").write_text(OWN)
    rewards = "correctness,strict_format,own.py:loud_reward,repetition_penalty(ngram_size=1, max_penalty=-0.5)"
    done = command("score", "completions.jsonl", "--rewards", rewards, "--out", "scored.jsonl")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "completions.jsonl: 5 completions"
    table = {line.split()[0]: line.split()[1:] for line in lines[3:7]}
    assert table["correctness"] == ["0.500", "0.500", "0", "1", "50.0%", "1"]
    assert table["loud"] == ["0.400", "0.490", "0", "1", "40.0%", "0"]
    # of each GOOD's five words none repeats; of "18 or 19" none; so nothing is punished
    assert table["repetition_penalty"] == ["0.000", "0.000", "0", "0", "0.0%", "0"]
    assert "correctness: right 50.0%, wrong 25.0%, many_numbers 25.0%" in lines
    assert "correctness and strict_format disagree on 2 of 5:" in lines
    assert "  only correctness pays 1: line 2" in lines
    assert not any("repetition_penalty disagree" in line for line in lines)
    assert "noise" not in done.stdout
    scored = [json.loads(line) for line in (file.parent / "scored.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in ROWS[0]} for row in scored] == ROWS
    assert scored[1]["scores"] == {"correctness": 1.0, "strict_format": 0.0, "loud": 1.0, "repetition_penalty": 0.0}
    assert scored[4]["scores"]["correctness"] is None


def test_it_needs_no_torch(file: Path) -> None:
    code = (
        "import sys\nfrom grpo_colab.cli import main\n"
        f"try: main(['score', {str(file)!r}])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'datasets', 'accelerate'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "correctness  " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_conversations_other_columns_and_token_ids(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    rows = [
        {
            "completion": [{"role": "assistant", "content": GOOD}],
            "gold": "18",
            "topic": "eggs",
            "completion_ids": [1, 2],
        },
        {"completion": GOOD, "gold": "7", "topic": "bacon", "completion_ids": [1]},
    ]
    own = [f"{tmp_path}/own.py:{name}_reward" for name in ("topic", "ids")]
    scores = score(write(tmp_path / "c.jsonl", rows), ["correctness", "cosine_scaled(max_len=2)", *own], "gold")
    assert scores.paid["correctness"] == [1.0, 0.0]
    assert scores.paid["topic"] == [1.0, 1.0]
    assert scores.paid["ids"] == [2.0, 1.0]
    assert scores.paid["cosine_scaled"] == pytest.approx([0.5, -0.75])


def test_a_run_folder_and_its_batches(tmp_path: Path) -> None:
    """A step is a batch: the lengths of one prompt's completions are compared within it, not with a later step's."""
    rows = [
        {"step": step, "prompt": "p", "completion": f"{'word ' * n}{GOOD}", "answer": "18", "rewards": {}}
        for step, n in ((1, 0), (1, 4), (2, 8), (2, 10))
    ]  # fmt: skip
    write(tmp_path / "completions.jsonl", rows)
    assert score(tmp_path, ["length"]).paid == {"length": [0.5, -0.5, 0.5, -0.5]}


def test_the_rewards_of_a_run_folder_look_where_its_task_does(tmp_path: Path) -> None:
    rows = [{"step": 1, "completion": text, "answer": "1200"} for text in ("\\boxed{1.200}", "<answer>1200</answer>")]
    write(tmp_path / "completions.jsonl", rows)
    names = ["correctness", "integer", "length(grader='math')", "math(answer_in='answer_tag')"]
    (tmp_path / "recipe.toml").write_text('[task]\nname = "jsonl"\nanswer_in = "boxed"\nlocale = "de"\n')
    paid = score(tmp_path, names).paid
    assert (paid["correctness"], paid["integer"], paid["math"]) == ([1.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    # the file by itself is of no task
    assert score(tmp_path / "completions.jsonl", ["correctness"]).paid["correctness"] == [0.0, 1.0]
    (tmp_path / "recipe.toml").write_text("no recipe")
    assert score(tmp_path, ["correctness"]).paid["correctness"] == [0.0, 1.0]


# What a run keeps of what its rewards were given.

RECIPE = """
[task]
name = "jsonl"
[rewards]
correctness = 2.0
"own.py:topic_reward" = 0.5
"""
TOPICS = """
def topic_reward(completions, topic, **kwargs):
    return [float(t == "eggs") for t in topic]

def step_reward(completions, step, rewards, **kwargs):
    return [s + r for s, r in zip(step, rewards)]

def ids_reward(completions, completion_ids, **kwargs):
    return [float(sum(ids)) for ids in completion_ids]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose data set has columns with the names of a row's own keys, and the folder as it was before."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(TOPICS)
    for folder in ("run", "old"):
        Path(folder).mkdir()
        Path(folder, "recipe.toml").write_text(RECIPE)
    old, new = [], []
    for index, topic in enumerate(("eggs", "bacon")):
        row = {"step": 1, "group": 0, "prompt": "p", "completion": GOOD, "rewards": {"correctness": 1.0, "topic": 1.0}}
        old.append(row | {"answer": "18", "advantage": 0.0})
        columns = {"topic": topic, "step": 40 + index, "rewards": 0.5, "columns": "x", "left_out": 1, "scores": None}
        new.append(old[-1] | {"columns": columns, "left_out": ["tests"], "completion_ids": "12 7"})
    write(Path("old") / "completions.jsonl", old)
    write(Path("run") / "completions.jsonl", new)
    return tmp_path


def test_columns_of_a_run_are_those_of_its_data_set_whatever_their_names(run: Path) -> None:
    rewards = ["own.py:topic_reward", "own.py:step_reward", "own.py:ids_reward"]
    for source in ("run", "run/completions.jsonl"):
        assert score(source, rewards).paid == {"topic": [1.0, 0.0], "step": [40.5, 41.5], "ids": [19.0, 19.0]}
    assert score("run", ["correctness"], "rewards").paid == {"correctness": [0.0, 0.0]}  # the gold is 0.5


def test_a_file_that_is_no_runs_may_have_a_column_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def f_reward(columns, left_out, **kwargs):\n    return [c['a'] for c in columns]\n"
    )
    rows = [{"completion": "x", "columns": {"a": 3}, "left_out": 1}]
    assert score(write(tmp_path / "c.jsonl", rows), [f"{tmp_path}/own.py:f_reward"]).paid == {"f": [3.0]}


def test_a_run_is_scored_with_its_own_rewards_and_compared_with_what_they_paid(run: Path, command: Command) -> None:
    done = command("score", "run", "--trust-code")
    assert done.returncode == 0, done.stderr
    assert "own.py:topic_reward" in done.stderr  # whose code runs
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["correctness", "topic"]
    assert "As the run itself was paid: correctness" in lines
    assert "topic paid otherwise in the run on 1 of 2: line 2" in lines


def test_code_that_a_run_folder_names_is_run_only_if_it_is_trusted(
    run: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(run / "config"))
    Path("own.py").write_text("open('was_run', 'w')\n" + TOPICS)
    done = cli("score", "run")
    assert done.returncode == 2
    check(done.error, problem="came as a file, and runs code", remedy="--trust-code once", place="run 'run'")
    assert not Path("was_run").exists()
    assert cli("score", "run", "--rewards", "correctness").returncode == 0
    assert not Path("was_run").exists()
    assert cli("score", "run", "--trust-code").returncode == 0
    assert cli("score", "run").returncode == 0  # it is remembered
    assert Path("was_run").exists()


def test_what_a_run_does_not_have_is_said_with_the_reason(run: Path) -> None:
    problem = (
        "no column 'topic', which topic needs; it has 'step', 'group', 'answer', 'advantage'. A run keeps the columns"
    )
    with refused(problem=problem, place="old/completions.jsonl:1"):
        score("old", ["own.py:topic_reward"])
    with refused(problem="A run keeps the tokens where one of its rewards names them", place="old/completions.jsonl:1"):
        score("old", ["own.py:ids_reward"])
    assert score("old", ["correctness"]).paid == {"correctness": [1.0, 1.0]}
    Path("own.py").write_text("def tests_reward(completions, tests, **kwargs):\n    return tests\n")
    with refused(problem="no column 'tests', which tests needs", place="run/completions.jsonl:1") as told:
        score("run", ["own.py:tests_reward"])
    assert "The run left it out, since it has no room in a row" in told.value.problem


def test_a_folder_whose_recipe_cannot_be_read_asks_for_the_rewards(run: Path) -> None:
    assert default_rewards("run/completions.jsonl") == ["correctness", "strict_format"]
    Path("run/recipe.toml").write_text("no recipe")
    with refused(problem="names no reward that can be read", remedy="--rewards correctness", place="run 'run'"):
        default_rewards("run")
    Path("run/recipe.toml").unlink()
    assert default_rewards("run") == ["correctness", "strict_format"]


def test_solutions_and_numbers_are_golds(tmp_path: Path) -> None:
    golds = ["6 * 3\n#### 18", 18, 18.0, None, "19"]
    path = write(tmp_path / "rows.jsonl", [{"completion": GOOD, "answer": gold} for gold in golds])
    paid = [1.0, 1.0, 1.0, None, 0.0]
    assert score(path, ["correctness", "math"]).paid == {"correctness": paid, "math": paid}


def test_trls_own_tables(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = {
        "step": [1, 1],
        "prompt": ["p", "p"],
        "completion": [[{"role": "assistant", "content": GOOD}], [{"role": "assistant", "content": "18"}]],
        "correctness_reward": [0.0, 0.0],
        "answer": ["18", "18"],
        "advantage": [0.0, 0.0],
    }
    pandas.DataFrame(table).to_parquet(tmp_path / "completions_00001.parquet")
    assert score(tmp_path / "completions_00001.parquet", ["correctness"]).paid == {"correctness": [1.0, 0.0]}
    pandas.DataFrame(table).to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    assert score(tmp_path / "c.jsonl", ["correctness"]).paid == {"correctness": [1.0, 0.0]}


def test_golds_from_another_file_and_whole_numbers(tmp_path: Path) -> None:
    rows = [
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "How many? "}], "completion": GOOD},
        {"prompt": "How old?", "completion": GOOD, "answer": 18},
    ]
    golds = [{"question": "How many?", "answer": "9 * 2 = 18\n#### 18"}, {"prompt": "Other", "answer": "1"}]
    file = write(tmp_path / "c.jsonl", rows)
    assert score(file, ["correctness"], golds=write(tmp_path / "g.jsonl", golds)).paid["correctness"] == [1.0, 1.0]
    with refused(problem="no column 'answer', which correctness needs", remedy="--golds", place=f"{file}:1"):
        score(file, ["correctness"])


def test_columns_with_the_names_of_what_trl_passes(tmp_path: Path) -> None:
    taken = {"completions": "x", "prompts": "x", "log_metric": 1, "log_extra": 1, "self": 1, "trainer_state": 2}
    rows = [{"completion": GOOD, "answer": "18", "when": None} | taken]
    assert score(write(tmp_path / "c.jsonl", rows), ["correctness"]).paid == {"correctness": [1.0]}


def test_half_a_character_is_written_as_it_was_read(tmp_path: Path) -> None:
    rows = [{"completion": f"\ud83d {GOOD}", "answer": "18"}]
    score(write(tmp_path / "c.jsonl", rows), ["correctness"]).write(tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == rows[0] | {"scores": {"correctness": 1.0}}


def test_every_real_gsm8k_solution(gsm8k: Path, tmp_path: Path) -> None:
    parts = [json.loads(line)["answer"].split("\n#### ") for line in (gsm8k / "test.jsonl").open()]
    form = "<reasoning>\n{}\n</reasoning>\n<answer>\n{}\n</answer>"
    rows = [{"completion": form.format(text, gold), "answer": gold} for text, gold in parts]
    scores = score(write(tmp_path / "c.jsonl", rows), ["correctness", "strict_format"])
    assert scores.paid == {name: [1.0] * 1319 for name in ("correctness", "strict_format")}


DEFAULT = ("correctness", "strict_format")
ONE = '{"completion": "x"}'
# content of c.jsonl, rewards, the column of the gold answer, the fields of the refusal
BAD: dict[str, tuple[str, tuple[str, ...], str, dict[str, Any]]] = {
    "no completion": ('{"text": "x"}\n', DEFAULT, "answer", {
        "problem": "no column 'completion'; it has 'text'", "place": "c.jsonl:1",
    }),
    "a completion that is none": ('{"completion": 3}\n', DEFAULT, "answer", {
        "problem": "a completion is a text or a list of messages, not 3", "place": "c.jsonl:1",
    }),
    "messages that are none": ('{"completion": [3], "answer": "1"}', DEFAULT, "answer", {
        "problem": "(c.jsonl:1, on completion 1 of 1: [3])", "snapshot": False,
    }),
    "no gold answer": (
        '{"completion": "x", "answer": "1"}\n{"completion": "x", "solution": "1"}\n', DEFAULT, "answer", {
        "problem": "no column 'answer', which correctness needs; it has 'completion', 'solution'",
        "remedy": "--answer-column", "place": "c.jsonl:2",
    }),
    "a gold answer that is no number": ('{"completion": "x", "answer": "4 or 5"}', DEFAULT, "answer", {
        "setting": "--rewards", "value": "correctness", "problem": "'4 or 5'", "place": "c.jsonl:1",
    }),
    "another column that is not there": (ONE, DEFAULT, "gold", {"problem": "no column 'gold'", "place": "c.jsonl:1"}),
    "no line": ("\n\n", DEFAULT, "answer", {"problem": "holds no completion", "place": "c.jsonl"}),
    "a reward that is none": (ONE, ("corectness",), "answer", {
        "setting": "--rewards", "value": "corectness", "remedy": "did you mean 'correctness'", "snapshot": False,
    }),
    "a reward that does not import": (ONE, ("nope.f",), "answer", {
        "setting": "--rewards", "value": "nope.f", "problem": "'nope' does not import", "snapshot": False,
    }),
    "no reward": (ONE, (), "answer", {"setting": "--rewards", "remedy": "--rewards correctness,strict_format"}),
    "what has no signature": (ONE, ("builtins.max",), "answer", {
        "setting": "--rewards", "value": "max", "problem": "no signature that can be read",
    }),
    "a reward twice": (
        '{"completion": "x", "answer": "1"}', ("correctness", "correctness_reward"), "answer", {
        "setting": "--rewards", "value": "correctness_reward", "remedy": "rename one",
    }),
    "a reward that breaks": ('{"completion": "x"}\n{"completion": "18"}', ("own.py:thin_reward",), "answer", {
        "setting": "rewards.thin", "place": "own.py:7",
        "problem": "raised ZeroDivisionError: division by zero (c.jsonl:2, on completion 2 of 2: '18')",
    }),
    "a column of the user's own": (ONE, ("own.py:topic_reward",), "answer", {
        "problem": "no column 'topic', which topic needs", "place": "c.jsonl:1",
    }),
    "no tokens": (ONE, ("own.py:ids_reward",), "answer", {
        "problem": "no column 'completion_ids'", "place": "c.jsonl:1",
    }),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_scored_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, rewards, answer_column, fields = BAD[kind]
    Path("own.py").write_text(OWN)
    Path("c.jsonl").write_text(content)
    with refused(**fields):
        score("c.jsonl", rewards, answer_column)


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ('{"completion": "x", "answer": "1"}\n{"completion": \n', "c.jsonl:2", "not JSON"),
        ("[1]\n", "c.jsonl:1", "a row must be a JSON object, not list"),
        (None, "c.jsonl", "cannot read it ("),
    ],
    ids=["a line that is no JSON", "a line that is no object", "no file"],
)
def test_a_file_that_is_none_is_refused_by_line(
    content: str | None, place: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("c.jsonl").write_text(content)
    with refused(problem=problem, place=place):
        score("c.jsonl", DEFAULT)


def test_scores_that_cannot_be_written_are_refused(file: Path, tmp_path: Path) -> None:
    scores, out = score(file, ["tag_count"]), str(tmp_path / "no" / "such")
    with refused("--out", out, problem="cannot be written", remedy="choose another file"):
        scores.write(out)


@pytest.mark.parametrize("arguments", [(), ("--rewards", ","), ("--rewards", "own.py:thin_reward")])
def test_bad_input_gets_a_line_and_status_2(arguments: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "c.jsonl").write_text('{"completion": "18"}\n')
    done = command("score", "c.jsonl", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if not line.startswith("Running code that is not grpo_colab's")]
    assert said[0].startswith("grpo-colab: ")
    assert all(line.startswith("  ") for line in said[1:]), done.stderr  # the lines of the reward that broke


def test_a_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_text("no")
    with refused(problem="cannot be read (", place=tmp_path / "c.parquet", snapshot=False):
        score(tmp_path / "c.parquet", ["correctness"])


def test_scores_are_those_of_the_function_itself(file: Path) -> None:
    paid = correctness_reward([row["completion"] for row in ROWS], [row["answer"] for row in ROWS])
    assert score(file, ["correctness"]).paid["correctness"] == paid


# --- a file that someone else wrote

WITHIN_S = 60.0  # what does not end, or is quadratic, is over it on any machine
ROW: dict[str, Any] = {"completion": GOOD, "answer": "18"}


@pytest.mark.parametrize("kind", ["pipe", "link", "device"])
def test_a_run_folders_file_is_a_file(kind: str, file: Path, tmp_path: Path) -> None:
    """A pipe in it would be waited for, and a link would show what lies elsewhere."""
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    inside = tmp_path / "run" / "completions.jsonl"
    if kind == "pipe":
        os.mkfifo(inside)
    else:
        inside.symlink_to(file if kind == "link" else "/dev/zero")
    for folder in ("run", "latest"):
        place = tmp_path / folder / "completions.jsonl"
        with refused(problem=f"cannot read it (it is {'no regular file' if kind == 'pipe' else 'a link'}", place=place):
            score(tmp_path / folder, ["correctness"])


def test_a_pipe_that_a_person_names_is_read(file: Path, tmp_path: Path) -> None:
    """As `score <(jq ... theirs.jsonl)` does; a link that they name is followed."""
    (tmp_path / "link.jsonl").symlink_to(file)
    assert len(score(tmp_path / "link.jsonl", ["correctness"]).rows) == len(ROWS)
    read, write_to = os.pipe()
    os.write(write_to, file.read_bytes())
    os.close(write_to)
    try:
        assert len(score(f"/dev/fd/{read}", ["correctness"]).rows) == len(ROWS)
    finally:
        os.close(read)


def test_columns_without_end_are_refused_with_their_line(tmp_path: Path) -> None:
    rows = [ROW | {f"c{n}_{i}": 1 for i in range(20)} for n in range(5000)]
    began = time.process_time()
    remedy = "give the same columns to all rows"
    with refused(problem="more than 1,000 different columns", remedy=remedy, place=tmp_path / "c.jsonl:50"):
        score(write(tmp_path / "c.jsonl", rows), ["correctness", "strict_format"])
    rows = [ROW | {f"c{n % 900}": 1} for n in range(15_000)]
    with refused(problem="one step with 901 columns", remedy=remedy, place=tmp_path / "c.jsonl:15000"):
        score(write(tmp_path / "c.jsonl", rows), ["correctness"])
    rows = [ROW | {f"c{i}": n for i in range(900)} for n in range(200)]
    assert score(write(tmp_path / "c.jsonl", rows), ["correctness"]).paid["correctness"] == [1.0] * 200
    assert time.process_time() - began < WITHIN_S


def test_a_reward_without_keywords_gets_the_columns_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def exact_reward(prompts, completions, topic, trainer_state, log_extra, log_metric):\n    return topic\n"
    )
    rows = [ROW | {"topic": n, "other": 1} for n in range(3)]
    scores = score(write(tmp_path / "c.jsonl", rows), [f"{tmp_path}/own.py:exact_reward"])
    assert scores.paid == {"exact": [0.0, 1.0, 2.0]}


LARGE: dict[str, tuple[Callable[[], str], str]] = {
    "lists": (
        lambda: '{"completion": "x", "z": [' + "[]," * 11_000_000 + "1]}",
        "commas and brackets, more than a row",
    ),
    "nested lists": (lambda: '{"completion": "x", "z": [' + "[[[]]]," * 300_000 + "1]}", "commas and brackets, more"),
    "columns": (
        lambda: json.dumps({"text": 1, "x" * 3000: 2, **{f"c{n}": 1 for n in range(200_000)}}),
        "more than 1,000 different columns",
    ),
    "depth": (lambda: '{"completion": "x", "z": ' + "[" * 500 + "]" * 500 + "}", "nested deeper than 40 levels"),
    "a completion": (lambda: json.dumps({"completion": dict.fromkeys(map(str, range(100_000)))}), "not {'0': None"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_a_row_may_hold_is_said_in_few_words(kind: str, tmp_path: Path) -> None:
    content, words = LARGE[kind]
    (tmp_path / "c.jsonl").write_text(content() + "\n")
    began = time.process_time()
    with refused(problem=words, place=tmp_path / "c.jsonl:1") as told:
        score(tmp_path / "c.jsonl", ["correctness"])
    assert time.process_time() - began < WITHIN_S
    assert len(str(told.value)) < 1000 + len(str(tmp_path))


def test_the_columns_that_are_there_are_told_in_few_words(tmp_path: Path) -> None:
    row = {"text": 1, "x" * 3000: 2, **{f"c{n}": 1 for n in range(900)}}
    for call in (
        lambda: score(write(tmp_path / "c.jsonl", [row]), ["correctness"]),
        lambda: score(write(tmp_path / "c.jsonl", [{"completion": "x", **row}]), ["correctness"]),
        lambda: JSONL(path=str(write(tmp_path / "c.jsonl", [row]))).problems("train"),
    ):
        with refused(problem="no column ", place=tmp_path / "c.jsonl:1") as told:
            call()
        assert re.search(r"it has .*'text', 'xxx.* and \d+ more", told.value.problem)
        assert len(str(told.value)) < 1000 + len(str(tmp_path))
