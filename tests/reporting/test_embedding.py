"""A task's problems as points: files, columns, what is nearly the same, and data that nobody would wish for."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import struct
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.reporting.embedding import embed, embed_text, points
from grpo_colab.reporting.embedding.embedding import OURS
from grpo_colab.reporting.embedding.map import draw_map, remove_overlaps, render_map
from grpo_colab.utils import files

STORIES = (
    "{name} reads {n} pages of a book every evening. How many pages does {name} read in {m} evenings?",
    "A farm has {n} cows and {m} sheep in the meadow. How many animals are in the meadow?",
    "The train to the coast travels {n} miles an hour. How far does it travel in {m} hours?",
    "{name} bakes {n} trays of cookies and eats {m} cookies. How many cookies are left on the trays?",
    "There are {n} red marbles and {m} blue marbles in {name}'s bag. How many marbles are in the bag?",
)
NAMES = ("Ada", "Ben", "Carla", "Dan", "Elif", "Finn")


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """problems(train, test) writes them to files; returns the options of the task jsonl. Each text's answer is 7."""

    def write(train: list[str], test: list[str]) -> dict[str, str]:
        for name, texts in (("train", train), ("test", test)):
            rows = [{"prompt": [{"role": "user", "content": text}], "answer": "7"} for text in texts]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths = {"path": str(tmp_path / "train.jsonl"), "test_path": str(tmp_path / "test.jsonl")}
        return {**paths, "duplicates": "keep"}

    return write


def stories(count: int, first: int = 0) -> list[str]:
    numbers = range(first, first + count)
    return [STORIES[i % 5].format(name=NAMES[i % 6], n=3 + 7 * i, m=2 + i % 9) for i in numbers]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))


def vectors(out: Path) -> list[list[float]]:
    return [[float(value) for value in line.split("\t")] for line in (out / "vectors.tsv").read_text().splitlines()]


def sound(out: Path, count: int) -> list[dict[str, str]]:
    """The columns, where every file is there, whole, and of so many problems; no vector has what is no number."""
    assert sorted(path.name for path in out.iterdir()) == sorted(OURS)
    rows, found = read(out / "metadata.tsv"), vectors(out)
    assert len(rows) == len(found) == count
    (dimensions,) = {len(vector) for vector in found}
    assert dimensions >= 3  # which the Projector turns
    # each has the length 1, or 0 where there is nothing to go by
    assert all(abs(sum(x * x for x in one) - 1) < 0.01 or not any(one) for one in found)
    (tensor,) = json.loads((out / "projector_config.json").read_text())["embeddings"]
    assert tensor["tensorShape"] == [count, dimensions]
    assert (tensor["tensorPath"], tensor["metadataPath"]) == ("vectors.tsv", "metadata.tsv")
    picture = (out / "map.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24])[0] >= 700
    assert (out / "map.html").read_text().rstrip().endswith("</html>")
    return rows


def test_word_problems_have_their_files_and_columns(tmp_path: Path) -> None:
    found = embed("word_problems", n=60, seed=3, out=tmp_path / "out")
    rows = sound(tmp_path / "out", 120)
    assert list(rows[0]) == ["split", "steps", "answer", "length", "question"]
    expected = Recipe.load(task={"seed": 3}).load_task()
    for split, own in (("train", rows[:60]), ("test", rows[60:])):
        for row, problem in zip(own, expected.problems(split, 60), strict=True):
            assert row == {
                "split": split,
                "steps": str(len(problem.steps)),
                "answer": problem.answer,
                "length": str(len(problem.question)),
                "question": problem.question,
            }
    assert found.counts == {"train": 60, "test": 60}
    assert "TF-IDF and truncated SVD (sentence-transformers is not installed)" in found.embedder
    assert found.embedder in embed_text(found)
    assert str(found.path) in embed_text(found)
    # what TensorBoard's own reader makes of it
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = text_format.Parse((tmp_path / "out" / "projector_config.pbtxt").read_text(), ProjectorConfig())
    assert [(one.tensor_path, one.metadata_path) for one in config.embeddings] == [("vectors.tsv", "metadata.tsv")]


def test_the_same_subject_is_near_and_another_far(problems: Callable[..., Any], tmp_path: Path) -> None:
    embed("jsonl", **problems(stories(40), stories(10, 40)), out=tmp_path / "out")
    words = ("evenings", "farm", "train", "trays", "marbles")  # one a story
    story = [next(word for word in words if word in row["question"]) for row in read(tmp_path / "out" / "metadata.tsv")]
    points_of = list(zip(story, vectors(tmp_path / "out"), strict=True))
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for (one, a), (other, b) in combinations(points_of, 2):
        cosines[one == other].append(sum(x * y for x, y in zip(a, b, strict=True)))
    assert min(cosines[True]) > max(cosines[False])  # whatever the names and the numbers


def test_it_says_what_it_is_doing(
    problems: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A phase per line on stderr, numbered up to the number that it names; nothing on stdout, and no bar in a file."""
    embed("jsonl", **problems(stories(40), stories(10, 40)), out=tmp_path / "out")
    out, err = capfd.readouterr()
    said = re.findall(r"^(\d)/(\d)  \w.* \.\.\.$", err, re.MULTILINE)
    assert said == [(str(number), "6") for number in range(1, 7)]
    assert "Making vectors of 50 questions ..." in err
    assert out == ""
    assert "phase/s" not in err


def test_near_duplicates_are_those_with_other_numbers_and_names(problems: Callable[..., Any], tmp_path: Path) -> None:
    train = [*stories(5), "Nobody knows how many stars there are above the quiet harbour tonight."]
    test = [
        STORIES[3].format(name=NAMES[3], n=99, m=4),  # other numbers
        "Tell me the colour of your bicycle, please, and where it was bought.",
        train[5],  # the very same
        STORIES[4].format(name="Zoe", n=5, m=6),  # another name, too
        "",
    ]
    found = embed("jsonl", **problems(train, test[:4]), out=tmp_path / "out")
    pairs = {(row["test"], row["train"]): row["similarity"] for row in found.duplicates}
    assert {*pairs} == {(test[0], train[3]), (test[2], train[5]), (test[3], train[4])}
    assert pairs[test[2], train[5]] == 1  # the same text
    assert 0.5 <= pairs[test[3], train[4]] < pairs[test[0], train[3]] == 1
    assert [*pairs.values()] == sorted(pairs.values(), reverse=True)
    rows = read(tmp_path / "out" / "near-duplicates.tsv")
    assert [(row["test"], row["train"]) for row in rows] == [*pairs]
    assert "3 of the 4 test problems nearly repeat" in embed_text(found)
    assert embed_text(found).count("train  ") == 3
    assert " more in " not in embed_text(found, 3)
    assert f"and 2 more in {tmp_path / 'out' / 'near-duplicates.tsv'}" in embed_text(found, 1)
    assert points.near_duplicates(train, test[4:]) == []
    assert points.near_duplicates(["", "x"], ["", "?"]) == []


NASTY = {
    "a tag": "<script>alert(1)</script><img src=x onerror=alert(2)> how many?",
    "the end of the script": "</script><script>window.hacked = 1</script>",
    "tabs and lines": "one\ttwo\nthree\r\nfour\x85five\u2028six\x0bseven",
    "terminal": "\x1b[31mred\x1b]0;title\x07 \x9b5m",
    "order": "\u202eright to left\u2066",
    "quotes": '"an open quote, \' and "" and = + - @',
    "templates": "${x} {{y}} %{z} $title $$",
    "formulas": r"\(x\) $\frac{1}{0}$ $",
    "other scripts": "小明有三个苹果，妈妈又给了他五个。他现在有几个苹果？ كم عدد التفاح؟ 😀",
    "empty": "",
    "blank": " \n\t ",
    "signs": "?! 12 + 34",
    "megabyte": "word " * 200_000,
}


def test_questions_hold_anything(problems: Callable[..., Any], tmp_path: Path, capsys: Any) -> None:
    found = embed("jsonl", **problems([*NASTY.values(), *stories(20)], [*NASTY.values()]), out=tmp_path / "out")
    rows = sound(tmp_path / "out", 2 * len(NASTY) + 20)
    questions = {row["question"] for row in rows}
    assert questions >= {"one two three four five six seven", ""}
    assert questions >= {NASTY[name] for name in ("a tag", "quotes", "templates", "formulas", "other scripts")}
    (whole,) = {row["question"] for row in rows if row["length"] == "1000000"}
    assert 2000 < len(whole) < 2100
    text = "".join((tmp_path / "out" / name).read_text() for name in ("metadata.tsv", "near-duplicates.tsv"))
    for shown in (text, embed_text(found, 100)):
        assert not set(shown) & set("\x1b\x07\x9b\u202e\u2066\x85\u2028\x0b")
    page = (tmp_path / "out" / "map.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page  # in the list of near-duplicates, as text
    # every question with a word in it is found again on the other side
    assert sum(row["similarity"] == 1 for row in found.duplicates) == len(NASTY) - 2


FEW = {
    "one": (["How many?"], []),
    "one and one": (["How many apples are there?"], ["How far is the moon?"]),
    "two identical": (["How many?"], ["How many?"]),
    "all identical": (["How many apples?"] * 9, ["How many apples?"] * 9),
    "all empty": (["", " "], ["\n"] * 8),
    "three": (["How many apples?", "x"], ["y"]),
    "seven": (stories(4), stories(3, 4)),
    "eight": (stories(4), stories(4, 4)),
    "fewer than the neighbours of t-SNE": (stories(12), stories(3, 12)),
    "one word": (["apples", "apples", "apples pears"], ["pears"]),
    "Chinese": (["小明有三个苹果。", "小红有五个梨。", "他们有几个？"], ["小明有四个苹果。"]),
}


@pytest.mark.parametrize("case", FEW)
@pytest.mark.filterwarnings("error")
def test_few_problems_and_alike_ones(case: str, problems: Callable[..., Any], tmp_path: Path) -> None:
    train, test = FEW[case]
    if not test:  # the task itself says that it has none to hold out
        with refused(problem="the data set is empty", snapshot=False):
            embed("jsonl", **problems(train, test), out=tmp_path / "out")
        return
    found = embed("jsonl", **problems(train, test), out=tmp_path / "out")
    sound(tmp_path / "out", len(train) + len(test))
    expected = {"two identical": 1, "all identical": 9, "all empty": 0, "one and one": 0}
    assert len(found.duplicates) == expected.get(case, len(found.duplicates))


# --- with a run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Of word problems: four were asked before and after, and two in training, in steps 1 and 2 of 4, and 3 and 4."""
    run = Run.create(Recipe.load("word-problems-tiny", budget={"max_steps": 4}), tmp_path / "run")
    task = run.recipe.load_task()
    for name, right in (("before", (0, 0, 1, 1)), ("after", (0, 1, 0, 1))):
        rows = [
            {"question": problem.question, "right": bool(one)}
            for problem, one in zip(task.problems("test", 4), right, strict=True)
        ]
        files.write_text(run.path / f"evaluation-{name}.jsonl", files.lines(rows))
    first, second = task.problems("train", 2)
    shares = [(1, first, (1, 0, 0, 0)), (3, first, (1, 1, 1, 0)), (2, second, (1, 1, 0, 0))]
    rows = [
        {
            "step": step,
            "prompt": task.messages(problem),
            "completion": f"<reasoning>\nso\n</reasoning>\n<answer>\n{problem.answer if one else '-5'}\n</answer>",
        }
        for step, problem, right in shares
        for one in right
    ]
    rows.append({"step": 4, "prompt": task.messages(second), "completion": None})
    files.write_text(run.path / "completions.jsonl", files.lines(rows) + '{"step": 4, "pro')
    return run


def test_a_run_adds_what_its_policy_made_of_each_problem(run: Run, tmp_path: Path) -> None:
    found = embed(run=run.path, n=20, out=tmp_path / "out")
    rows = sound(tmp_path / "out", 40)
    assert list(rows[0]) == ["split", "steps", "answer", "length", "before", "after", "change", "question"]
    told = [(row["before"], row["after"], row["change"]) for row in rows]
    assert told[:2] == [("0.25", "0.75", "0.5"), ("0.5", "", "")]
    assert told[20:24] == [("0", "0", "0"), ("0", "1", "1"), ("1", "0", "-1"), ("1", "1", "0")]
    assert {*told[2:20], *told[24:]} == {("", "", "")}
    assert found.asked == 6
    assert "was asked 6 of them" in embed_text(found)
    assert found.task == "word_problems"


def test_a_run_without_its_evaluation_or_of_another_task(run: Run, tmp_path: Path) -> None:
    (run.path / "evaluation-before.jsonl").unlink()
    (run.path / "evaluation-after.jsonl").write_bytes(b"\x00\xff no JSON\n[1]\n{}\n")
    assert embed("word_problems", run=run.path, n=5, out=tmp_path / "out").asked == 2
    with refused("--run", str(run.path), problem="on the task 'word_problems'", remedy="write embed word_problems"):
        embed("drawing", run=run.path, n=5, out=tmp_path / "other")
    with refused("--run", str(run.path), problem="none of these 10 problems", remedy="the settings of its task"):
        embed(run=run.path, n=5, out=tmp_path / "other", seed=99)
    (run.path / "completions.jsonl").unlink()
    (run.path / "evaluation-after.jsonl").unlink()
    with refused("--run", str(run.path), problem="neither an evaluation nor completions", remedy="train it first"):
        embed(run=run.path, n=5, out=tmp_path / "other")
    with refused(problem="so it is no run folder", snapshot=False):
        embed(run=tmp_path, n=5)
    assert not (tmp_path / "other").exists()


# --- the map


def map_data(page: str) -> dict[str, Any]:
    """What the map's script gets."""
    (packed,) = re.findall(r'id="data">([^<]*)<', page)
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return found


def columns_of(answers: list[str], **more: list[Any]) -> dict[str, dict[str, Any]]:
    """The columns of a map of problems with these answers, by their names."""
    count = len(answers)
    given: dict[str, list[Any]] = {"split": ["train"] * count, "answer": answers, **more}
    page = render_map("x: y", [], given | {"question": ["?"] * count}, np.zeros((count, 2)), [], [])
    return {column["name"]: column for column in map_data(page)["columns"]}


def test_answers_of_any_kind_have_colours_that_tell_them_apart() -> None:
    numbers = columns_of([str(n**5) for n in range(50)])["answer"]
    assert (numbers["kind"], numbers["scale"]["ranked"]) == ("number", True)  # else all but the largest are one colour
    few = columns_of(["1", "2", "3"] * 9)["answer"]
    assert few["scale"] == {"colours": "amount", "low": 1, "high": 3, "ranked": False}
    choices = columns_of(["B", "A", "C", "A"])["answer"]
    assert (choices["kind"], choices["classes"]) == ("class", ["A", "B", "C"])
    many = columns_of([f"city {n % 20}" for n in range(45)])["answer"]
    assert (many["kind"], many["classes"]) == ("class", [f"city {n}" for n in (0, 1, 2, 3, 4, 5)])
    assert columns_of([f"city {n}" for n in range(45)])["answer"]["kind"] == "text"  # none comes twice
    assert columns_of(["nan", "inf", "1e999", "7"] * 3)["answer"]["kind"] == "class"
    assert columns_of(["7"] * 3, change=[-0.5, None, 1.0])["change"]["scale"]["colours"] == "change"


def test_the_mouse_is_told_the_answer_and_the_steps(run: Run, tmp_path: Path) -> None:
    embed(run=run.path, n=20, out=tmp_path / "out")
    rows, hover = (
        read(tmp_path / "out" / "metadata.tsv"),
        map_data((tmp_path / "out" / "map.html").read_text())["hover"],
    )
    for row, told in zip(rows, hover, strict=True):
        text = told.replace("<br>", " ")
        assert text.startswith(row["question"].split(".")[0])
        steps = f"{row['steps']} step{'' if row['steps'] == '1' else 's'}"
        assert f"answer {row['answer']}, {steps}, of {row['split']}" in text
    assert "right before 25.0 %, right after 75.0 %" in hover[0].replace("<br>", " ")


DARK, LIGHT = (0x3B, 0x52, 0x8B), (0xDD, 0xE3, 0x18)


def test_the_page_and_the_picture_have_the_same_scale() -> None:
    """A few steps are dark in both; in the picture, the points with a few are on the left."""
    columns = {"split": ["train"] * 2, "steps": [1, 8], "answer": ["7"] * 2, "length": [1, 2], "question": ["?"] * 2}
    picture = Image.open(io.BytesIO(draw_map("x", columns, np.array([[-1.0, 0.0], [1.0, 0.0]]), [])))
    pixels = np.array(picture.convert("RGB"))
    few, many = (np.flatnonzero((pixels == colour).all(axis=2).any(axis=0))[0] for colour in (DARK, LIGHT))
    assert few < many  # the first column of pixels of each: the scale itself is on the right of all points
    page = render_map("x: y", [], columns, np.zeros((2, 2)), [], [])
    scale = map_data(page)["scales"]["amount"]
    assert (scale[0], scale[-1]) == ([0, "#3b528b"], [1, "#dde318"])


def test_no_word_of_the_picture_is_written_over_another() -> None:
    """Of two in one place the first stays: that of more problems."""
    figure = Figure(figsize=(7, 7))
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    words = [axes.text(0.5, 0.5 + n / 200, word) for n, word in enumerate(("apples", "pears"))]
    words.append(axes.text(0.1, 0.1, "plums"))
    figure.draw_without_rendering()
    remove_overlaps(words)
    assert [text.get_text() for text in axes.texts] == ["apples", "plums"]


# --- settings


# What is asked for, and the fields of the refusal.
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no task": (
        {},
        {"setting": "TASK", "remedy": "there are: gsm8k, word_problems, dataset, jsonl, drawing, drawing-"},
    ),
    "a misspelt one": (
        {"task": "gsm8"},
        {"setting": "TASK", "value": "gsm8", "problem": "no such task", "remedy": "did you mean 'gsm8k'"},
    ),
    "an option that it lacks": (
        {"task": "word_problems", "path": "x"},
        {"setting": "task.path", "value": "x", "problem": "no such setting", "remedy": "seed"},
    ),
    "no problems": ({"task": "word_problems", "n": 0}, {"setting": "--n", "value": 0, "remedy": "write 1 or more"}),
    "a model, which is not there": (
        {"task": "word_problems", "n": 3, "model": "m"},
        # why it cannot be loaded depends on what is installed
        {"setting": "--model", "value": "m", "problem": "cannot be loaded", "remedy": "TF-IDF", "snapshot": False},
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_cannot_work(case: str, tmp_path: Path) -> None:
    options, fields = WRONG[case]
    with refused(**fields):
        embed(**{"task": None, "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "options"), [("seed", {"task": "word_problems", "seed": "x"}), ("path", {"task": "gsm8k", "path": "/no"})]
)
def test_a_tasks_own_refusal_names_the_setting(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    with refused(snapshot=False) as caught:
        embed(**options, out=tmp_path / "out")
    assert f"task.{name} = {options[name]!r}" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_tasks_of_recipes(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('preset = "word-problems-tiny"\n[task]\nseed = 5\n')
    for name in ("word-problems-tiny", str(tmp_path / "mine.toml")):
        embed(name, seed=8, n=4, out=tmp_path / "out")
        first = Recipe.load("word-problems-tiny", task={"seed": 8}).load_task().problems("train", 1)
        assert sound(tmp_path / "out", 8)[0]["question"] == first[0].question


def test_a_drawing_task_has_points_too(tmp_path: Path) -> None:
    embed("drawing", image="random", language="compact", n=12, out=tmp_path / "out")
    rows = sound(tmp_path / "out", 24)
    assert rows[0]["answer"].strip("0123456789 ") == ""  # an image's rows, on one line


def test_it_replaces_its_own_files_and_touches_no_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed("word_problems", n=5, out=out)
    embed("word_problems", n=7, out=out)
    sound(out, 14)
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with refused("--out", str(out), problem="(notes.txt)", remedy="choose another folder"):
        embed("word_problems", n=9, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    other = tmp_path / "vectors of my own"
    other.mkdir()
    (other / "vectors.tsv").write_text("1\t2\n")
    with refused("--out", str(other), problem="(vectors.tsv)", remedy="choose another folder"):
        embed("word_problems", n=5, out=other)
    assert (other / "vectors.tsv").read_text() == "1\t2\n"
    with refused("--out", str(other / "vectors.tsv"), problem="is a file", remedy="choose a folder"):
        embed("word_problems", n=5, out=other / "vectors.tsv")
