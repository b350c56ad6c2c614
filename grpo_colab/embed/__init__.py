"""See the data: a task's problems as points, on a map and in the TensorFlow Embedding Projector.

embeddings/gsm8k/
    map.png, map.html           by split and by number of steps; the page lists what is searched for or lassoed
    vectors.tsv, metadata.tsv   one line a problem, for the Load button of the stand-alone projector
    projector_config.json       what a projector that is served beside them takes as its ?config=
    projector_config.pbtxt      what `tensorboard --logdir embeddings/gsm8k` takes
    near-duplicates.tsv         test problems that a training problem is nearly the same as
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from grpo_colab import files
from grpo_colab.console import on_one_line as _on_one_line
from grpo_colab.console import printable
from grpo_colab.embed import pictures, points
from grpo_colab.errors import SettingError, nearest
from grpo_colab.evaluate import AFTER, BEFORE
from grpo_colab.recipe import Recipe, preset_names
from grpo_colab.report.shell import shown
from grpo_colab.run import Run, quote
from grpo_colab.tables import typed
from grpo_colab.tasks import TASKS, Problem, Task, load_task, task_options

SPLITS: Final = ("train", "test")
SIDES: Final = ("before", "after")
LONGEST: Final = 2000  # characters of a question in the files
OURS: Final = (
    "projector_config.json",  # the first that is written: by it a folder is known as ours
    "projector_config.pbtxt",
    "vectors.tsv",
    "metadata.tsv",
    "near-duplicates.tsv",
    "map.png",
    "map.html",
)
PBTXT: Final = (
    'embeddings {\n  tensor_name: "questions"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'
)


@dataclass(frozen=True)
class Embedding:
    """What `embed` has written to the folder `path`."""

    path: Path
    task: str
    counts: Mapping[str, int]  # split -> problems
    dimensions: int
    embedder: str  # what made the vectors, and why not another
    layout: str  # what made the map of them
    duplicates: Sequence[Mapping[str, Any]]  # similarity, test, train: questions on one line; the likest first
    asked: int  # problems that the run's policy was asked


def embed(
    task: str | None = None,
    *,
    run: str | Path | None = None,
    out: str | Path | None = None,
    model: str | None = None,
    n: int | None = None,
    **options: Any,
) -> Embedding:
    """Embed the questions of both splits, and write the files of this module's head into `out`.

    `task` is a task's name with its options, or a recipe's name or file; left out, it is that of the folder `run`,
    whose success on each problem is added to the columns. `model` names a sentence-transformers model; `n` is how many
    problems of a split. Raises SettingError for what cannot work.
    """
    if n is not None and n < 1:
        raise SettingError(f"--n {n}: write 1 or more, the problems of each split")
    made = named_task(task, options) if run is None else task_of(Run(run), task, options)
    folder = Path(out) if out is not None else Path("embeddings") / made.name
    try:
        files.check_name("--out", folder)
    except ValueError as error:
        raise SettingError(str(error)) from None
    check_out(folder)
    split = {name: made.problems(name, n) for name in SPLITS}
    problems = [problem for name in SPLITS for problem in split[name]]
    if not problems:
        raise SettingError(f"embed {task or made.name}: the task has no problems")
    columns: dict[str, list[Any]] = {
        "split": [name for name in SPLITS for _ in split[name]],
        "steps": [len(problem.steps) or None for problem in problems],  # an answer without its solution has none
        "answer": [on_one_line(problem.answer, 80) for problem in problems],
        "length": [len(problem.question) for problem in problems],
    }
    if run is not None:
        columns |= rates(Run(run), made, problems)
    questions = columns["question"] = [on_one_line(problem.question) for problem in problems]

    texts = [problem.question[: points.LONGEST] for problem in problems]
    words, names = points.tfidf(texts)
    vectors, embedder = points.embedded(texts, words, model)
    places, layout = points.flat(vectors)
    topics = points.labels(places, words, names)
    trained = len(split["train"])
    duplicates = [
        {
            "similarity": round(pair.similarity, 3),
            "test": questions[trained + pair.test],
            "train": questions[pair.train],
        }
        for pair in points.near_duplicates(texts[:trained], texts[trained:])
    ]
    counts = {name: len(split[name]) for name in SPLITS}
    asked = sum(any(columns[side][i] is not None for side in SIDES if side in columns) for i in range(len(problems)))
    found = Embedding(folder, made.name, counts, vectors.shape[1], embedder, layout, duplicates, asked)

    shape = {"tensorName": "questions", "tensorShape": list(vectors.shape)}
    config = {"embeddings": [{**shape, "tensorPath": "vectors.tsv", "metadataPath": "metadata.tsv"}]}
    title = f"{made.name}: {len(problems):,} questions"
    content: dict[str, str | bytes] = {
        "projector_config.json": json.dumps(config, indent=2) + "\n",
        "projector_config.pbtxt": PBTXT,
        "vectors.tsv": "".join("\t".join(f"{value:.4g}" for value in row) + "\n" for row in vectors.tolist()),
        "metadata.tsv": tsv(columns),
        "near-duplicates.tsv": tsv({key: [row[key] for row in duplicates] for key in ("similarity", "test", "train")}),
        "map.png": pictures.picture(title, columns, places, topics),
        "map.html": pictures.page(title, embed_lines(found), columns, places, topics, duplicates),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in OURS:
            text = content[name]
            files.write_bytes(
                folder / name, text if isinstance(text, bytes) else text.encode(errors="backslashreplace")
            )
    except OSError as error:
        raise SettingError(f"--out {str(folder)!r}: cannot write there ({error.strerror})") from None
    return found


def embed_text(found: Embedding, shown_pairs: int = 5) -> str:
    """What a person wants to know of it, and how to look at it; questions are on one line and without control signs."""
    pairs = [
        f"  {row['similarity']:.2f}  test   {shorten(row['test'], 110)}\n        train  {shorten(row['train'], 110)}"
        for row in found.duplicates[:shown_pairs]
    ]
    ways = {
        "map.html": "the map: hover, search, colour, lasso",
        "map.png": "the same as a picture",
        "near-duplicates.tsv": "all pairs",
        "vectors.tsv": "with metadata.tsv for https://projector.tensorflow.org (Load)",
    }
    width = max(map(len, ways))
    listed = [f"  {name:<{width}}  {what}" for name, what in ways.items()]
    see = (
        f"In TensorBoard: tensorboard --logdir {_on_one_line(quote(found.path))}, then http://localhost:6006/#projector"
    )
    return printable("\n".join([*embed_lines(found), *pairs, f"In {_on_one_line(found.path)}:", *listed, see]))


def embed_lines(found: Embedding) -> list[str]:
    """What was embedded, how, and what was found, a sentence a line."""
    counts = " and ".join(f"{count:,} {name}" for name, count in found.counts.items())
    lines = [
        f"{found.task}: {counts} problems in {found.dimensions} dimensions by {found.embedder}.",
        f"Laid out in two by {found.layout}: neighbours on the map are alike, distances between groups mean little.",
        f"{len(found.duplicates):,} of the {found.counts['test']:,} test problems nearly repeat a training problem: of "
        f"their runs of three words, numbers aside, half or more are the same (a cosine of {points.ALIKE:g} or more).",
    ]
    lines += [f"The run's policy was asked {found.asked:,} of them."] * (found.asked > 0)
    return [_on_one_line(line) for line in lines]


def named_task(name: str | None, options: Mapping[str, Any]) -> Task:
    """The task of this name, or that of a recipe; SettingError for another name, and for options that do not fit."""
    if name in TASKS:
        known = task_options(name)
        for key, value in options.items():
            if key not in known:
                raise SettingError(
                    f"task.{key} = {str(value)!r}: the task {name!r} has no such setting{nearest(key, known)} "
                    f"It has: {', '.join(known)}"
                )
        return load_task(name, **{key: typed(known[key], value, f"task.{key}") for key, value in options.items()})
    if name is not None and (name in preset_names() or name.endswith(".toml")):
        return Recipe.load(name, task=options).load_task()
    near = nearest(name or "", [*TASKS, *preset_names()])
    raise SettingError(
        f"embed {name or 'TASK'}: no such task{near or ';'} there are {', '.join(TASKS)}, and those of the recipes "
        f"{', '.join(preset_names())}, or of a recipe's .toml file"
    )


def task_of(run: Run, name: str | None, options: Mapping[str, Any]) -> Task:
    """The task that a run was trained on, with its seed and options; SettingError when `name` is of another."""
    made = Recipe.load(run.path / "recipe.toml", task=options).load_task()
    if name is not None and name != made.name and (name in TASKS or named_task(name, {}).name != made.name):
        raise SettingError(
            f"--run {str(run.path)!r}: was trained on the task {made.name!r}, not {name!r}; write embed {made.name}"
        )
    return made


def check_out(folder: Path) -> None:
    """SettingError for a folder that holds anything but what `embed` writes: nothing foreign is overwritten."""
    there = files.is_folder(folder)
    if os.path.lexists(folder) and not there:
        what = "a file" if files.is_file(folder) else "no folder"
        raise SettingError(f"--out {str(folder)!r}: is {what}; choose a folder")
    held = sorted(path.name for path in folder.glob("[!.]*")) if there else []
    if foreign := held if OURS[0] not in held else [name for name in held if name not in OURS]:
        raise SettingError(
            f"--out {str(folder)!r}: holds other files ({on_one_line(', '.join(foreign[:3]))}); choose another folder"
        )


def rates(run: Run, task: Task, problems: Sequence[Problem]) -> dict[str, list[float | None]]:
    """Shares of right answers a problem, None where it was not asked: "before" and "after", and their difference.

    Of a held-out problem they are of the evaluations before and after, of a training problem of the completions in the
    first and in the second half of the training.
    """
    by_question = {problem.question: problem for problem in problems}
    right: tuple[dict[str, list[bool]], ...] = ({}, {})
    evaluated = [(side, row) for side, name in enumerate((BEFORE, AFTER)) for row in _rows(run, name)]
    for side, row in evaluated:
        if isinstance(row.get("question"), str):
            right[side].setdefault(row["question"], []).append(row.get("right") is True)
    sampled = [row for row in _rows(run, "completions.jsonl") if files.number(row.get("step")) is not None]
    if not evaluated and not sampled:
        raise SettingError(f"--run {str(run.path)!r}: has neither an evaluation nor completions; train it first")
    middle = max((row["step"] for row in sampled), default=0) / 2
    for row in sampled:
        problem = by_question.get(_asked(row.get("prompt")))
        if problem is not None and isinstance(row.get("completion"), str):
            verdict = task.grade(row["completion"], problem)
            right[row["step"] > middle].setdefault(problem.question, []).append(verdict.right)
    if not any(question in by_question for side in right for question in side):
        raise SettingError(
            f"--run {str(run.path)!r}: was asked none of these {len(problems):,} problems; leave --run away, or give "
            "the settings of its task, and no --n"
        )
    before, after = ([_share(side.get(problem.question)) for problem in problems] for side in right)
    change = [None if b is None or a is None else a - b for b, a in zip(before, after, strict=True)]
    return {"before": before, "after": after, "change": change}


def _rows(run: Run, name: str) -> list[dict[str, Any]]:
    return files.read_objects(run.path / name).rows


def _asked(prompt: Any) -> str:
    """The question in a prompt as completions.jsonl keeps it: a text, or a conversation, of which it is the last."""
    last = prompt[-1] if isinstance(prompt, list) and prompt else prompt
    asked = last.get("content") if isinstance(last, dict) else last
    return asked if isinstance(asked, str) else ""


def _share(right: Sequence[bool] | None) -> float | None:
    return fmean(right) if right else None


def tsv(columns: Mapping[str, Sequence[Any]]) -> str:
    """A header and a line a row; None is empty. Texts are on one line already."""
    rows = zip(*columns.values(), strict=True)
    return "".join("\t".join(map(_cell, row)) + "\n" for row in (columns, *rows))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def on_one_line(text: str, longest: int = LONGEST) -> str:
    """Shortened, without tabs, ends of lines and what a terminal or a page must not get."""
    return shown(" ".join(text.split()), longest)


def shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 4] + " ..."
