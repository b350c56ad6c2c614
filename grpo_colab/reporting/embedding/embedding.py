"""Embed a task's problems, and write them as a map and for the TensorFlow Embedding Projector.

embeddings/gsm8k/
    map.png, map.html           by split and by number of steps; the page lists what is searched for or lassoed
    vectors.tsv, metadata.tsv   one line per problem, for the Load button of the stand-alone projector
    projector_config.json       the ?config= of a projector that is served beside them
    projector_config.pbtxt      what `tensorboard --logdir embeddings/gsm8k` reads
    near-duplicates.tsv         test problems that are nearly the same as a training problem
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from grpo_colab.errors import SettingError, one_of
from grpo_colab.evaluation.evaluate import AFTER, BEFORE
from grpo_colab.recipe.recipe import Recipe, preset_names
from grpo_colab.recipe.schema import typed
from grpo_colab.recipe.trust import check_trust
from grpo_colab.reporting.embedding import map as problem_map
from grpo_colab.reporting.embedding import points
from grpo_colab.reporting.embedding.screen import embed_lines, phases
from grpo_colab.reporting.page.html import display_text, readable
from grpo_colab.runs.run import Run
from grpo_colab.tasks import TASKS, Problem, Task, load_task, task_options
from grpo_colab.tasks.conversations import distinct_parts, prompt_key
from grpo_colab.tasks.names import OTHER_NAMES, canonical_task, parse_task
from grpo_colab.tasks.own_tasks import problems_of
from grpo_colab.text import counted
from grpo_colab.utils import files
from grpo_colab.utils.console import info

SPLITS: Final = ("train", "test")
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
    trust_code: bool = False,
    **options: Any,
) -> Embedding:
    """Embed the questions of both splits, and write the files that the head of this module lists into `out`.

    `task` is a task's name, or a recipe's name or .toml file; `options` are settings of the task. With the run folder
    `run`, the task is that of the run, and `task` may be left out. The success of the run's policy on each problem then
    becomes three more columns. `out` is embeddings/<task> by default. `model` names a sentence-transformers model. The
    default is points.MODEL, or TF-IDF where that cannot be loaded. `n` is the number of problems of each split, None
    for all. A task of others runs its code: `trust_code` allows that of one that a file names, which is remembered.

    The data and the model may be downloaded. Files of an earlier embedding are replaced. Raises SettingError for what
    cannot work, and where the files cannot be written.
    """
    if n is not None and n < 1:
        raise SettingError(
            "there is nothing to embed", setting="--n", value=n, remedy="write 1 or more, the problems of each split"
        )
    made = named_task(task, options, trust_code) if run is None else task_of_run(Run(run), task, options, trust_code)
    folder = Path(out) if out is not None else Path("embeddings") / re.sub(r"[^\w.-]+", "-", made.name)
    files.check_name("--out", folder)
    check_out(folder)
    with phases() as begin:
        begin("Reading the problems")
        split = {name: problems_of(made, name, n) for name in SPLITS}
        if not any(split.values()):
            raise SettingError("the task has no problems", setting="TASK", value=task or made.name)
        columns = problem_columns(split)
        if run is not None:
            problems = [problem for name in SPLITS for problem in split[name]]
            columns |= success_rates(Run(run), made, problems)
        columns["question"] = columns.pop("question")  # the last column: it is the widest

        questions = distinct_parts([problem.question for name in SPLITS for problem in split[name]])
        texts = [question[: points.LONGEST] for question in questions]
        begin(f"Making vectors of {counted(len(texts), 'question')}")
        words, names = points.tfidf(texts)
        vectors, embedder = points.embed_texts(texts, words, model)
        begin("Looking for near-duplicates")
        duplicates = _near_duplicates(texts, len(split["train"]), columns["question"])
        begin("Laying them out on a map, which takes longest")
        places, layout = points.lay_out(vectors)
        begin("Finding topics")
        topics = points.find_topics(places, words, names)
        found = Embedding(
            path=folder,
            task=made.name,
            counts={name: len(split[name]) for name in SPLITS},
            dimensions=vectors.shape[1],
            embedder=embedder,
            layout=layout,
            duplicates=duplicates,
            asked=_count_asked(columns),
        )
        begin("Drawing and writing")
        _write(folder, _contents(found, columns, vectors, places, topics))
    return found


def problem_columns(split: Mapping[str, Sequence[Problem]]) -> dict[str, list[Any]]:
    """Return the columns of metadata.tsv by their names, a value per problem in the order of SPLITS.

    "steps" is None for a problem without a written solution. "length" is in characters. The texts "answer" and
    "question" are shortened, and on one line.
    """
    problems = [problem for name in SPLITS for problem in split[name]]
    return {
        "split": [name for name in SPLITS for _ in split[name]],
        "steps": [len(problem.steps) or None for problem in problems],  # None for an answer without its solution
        "answer": [to_cell(problem.answer, 80) for problem in problems],
        "length": [len(problem.question) for problem in problems],
        "question": [to_cell(question) for question in distinct_parts([problem.question for problem in problems])],
    }


def _near_duplicates(texts: Sequence[str], trained: int, questions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs of a test problem and the training problem that it nearly repeats, the most similar first.

    `texts` are compared and `questions` are returned. Both have a text per problem, the `trained` training problems
    first.
    """
    return [
        {
            "similarity": round(pair.similarity, 3),
            "test": questions[trained + pair.test],
            "train": questions[pair.train],
        }
        for pair in points.near_duplicates(texts[:trained], texts[trained:])
    ]


def _count_asked(columns: Mapping[str, Sequence[Any]]) -> int:
    """Return how many problems the run's policy was asked, before or after; 0 where the columns are of no run."""
    sides = [columns[side] for side in ("before", "after") if side in columns]
    return sum(any(value is not None for value in values) for values in zip(*sides, strict=True))


def _contents(
    found: Embedding, columns: Mapping[str, Sequence[Any]], vectors: Any, places: Any, topics: problem_map.Topics
) -> dict[str, str | bytes]:
    """Return the content of each file of OURS, by the file's name."""
    tensor = {"tensorName": "questions", "tensorShape": list(vectors.shape)}
    config = {"embeddings": [{**tensor, "tensorPath": "vectors.tsv", "metadataPath": "metadata.tsv"}]}
    pairs = {key: [row[key] for row in found.duplicates] for key in ("similarity", "test", "train")}
    name = readable(found.task)
    title = f"{name}: {sum(found.counts.values()):,} questions"
    lines = embed_lines(found, name)
    return {
        "projector_config.json": json.dumps(config, indent=2) + "\n",
        "projector_config.pbtxt": PBTXT,
        "vectors.tsv": "".join("\t".join(f"{value:.4g}" for value in row) + "\n" for row in vectors.tolist()),
        "metadata.tsv": to_tsv(columns),
        "near-duplicates.tsv": to_tsv(pairs),
        "map.png": problem_map.draw_map(title, columns, places, topics),
        "map.html": problem_map.render_map(title, lines, columns, places, topics, found.duplicates),
    }


def _write(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write the files of OURS, in their order, into a folder, which is made if it is missing.

    Raises SettingError where that is not possible.
    """
    with files.unwritable_refused("--out", folder, "choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in OURS:
            content = contents[name]
            if isinstance(content, str):
                content = content.encode(errors="backslashreplace")
            files.write_bytes(folder / name, content)


def named_task(name: str | None, options: Mapping[str, Any], trust_code: bool = False) -> Task:
    """Return the task of this name, or that of a preset or a recipe's .toml file, with `options` as its settings.

    A task of others runs its code, and so its name here is the user's own choice. Raises SettingError for no name, for
    a name that is none of these, for options that the task does not have or that are of a wrong type, and for a task of
    others that a file names and the user does not trust.
    """
    if name is not None and parse_task(name).runs_code and not name.endswith(".toml"):
        return task_of_recipe(Recipe.load(task={"name": name, **options}))
    if name in TASKS:
        known = task_options(name)
        for key, value in options.items():
            if key not in known:
                raise SettingError(
                    f"the task {name!r} has no such setting",
                    setting=f"task.{key}",
                    value=str(value),
                    remedy=one_of(key, known),
                )
        return load_task(name, **{key: typed(known[key], value, f"task.{key}") for key, value in options.items()})
    if name is not None and (name in preset_names() or name.endswith(".toml")):
        return task_of_recipe(Recipe.load(name, task=options), trust_code)
    remedy = f"{one_of(name or '', [*TASKS, *preset_names()])}; or give {OTHER_NAMES}, or a recipe's .toml file"
    if name is None:
        raise SettingError("no task is given", setting="TASK", remedy=remedy)
    raise SettingError("no such task", setting="TASK", value=name, remedy=remedy)


def task_of_recipe(recipe: Recipe, trust_code: bool = False) -> Task:
    """Return the task of a recipe, which runs the code of a task of others, and says so on stderr.

    Raises SettingError for such code that a file names and the user does not trust, unless `trust_code` is true.
    """
    announcement = check_trust(recipe, trust_code, only=("task.name",))
    if announcement:
        info(announcement)
    return recipe.completed_by_task().load_task()


def task_of_run(run: Run, name: str | None, options: Mapping[str, Any], trust_code: bool = False) -> Task:
    """Return the task that a run was trained on, with its settings; `options` replace some of them.

    `name` is what the user calls the task, if anything: a task or a recipe. Raises SettingError where it is another
    task than the run's, where the run's recipe cannot be read, and as `task_of_recipe` does.
    """
    recipe = Recipe.load(run.path / "recipe.toml", task=options)
    made = task_of_recipe(recipe, trust_code)
    if name is None or name == made.name or canonical_task(name) == recipe.task["name"]:
        return made
    if name in TASKS or parse_task(name).runs_code or named_task(name, {}, trust_code).name != made.name:
        raise SettingError(
            f"was trained on the task {made.name!r}, not {name!r}",
            setting="--run",
            value=str(run.path),
            remedy=f"write embed {made.name}",
        )
    return made


def check_out(folder: Path) -> None:
    """Raise SettingError for a path that is no folder, and for a folder that holds anything but what `embed` writes.

    So nothing foreign is overwritten. A folder counts as `embed`'s own by projector_config.json: without that file,
    whatever it holds is foreign. A folder that is missing or empty is allowed, and hidden files do not count.
    """
    is_there = files.is_folder(folder)
    if os.path.lexists(folder) and not is_there:
        what = "a file" if files.is_file(folder) else "no folder"
        raise SettingError(f"is {what}", setting="--out", value=str(folder), remedy="choose a folder")
    held = sorted(path.name for path in folder.glob("[!.]*")) if is_there else []
    foreign = [name for name in held if name not in OURS] if OURS[0] in held else held
    if foreign:
        raise SettingError(
            f"holds other files ({to_cell(', '.join(foreign[:3]))})",
            setting="--out",
            value=str(folder),
            remedy="choose another folder",
        )


def success_rates(run: Run, task: Task, problems: Sequence[Problem]) -> dict[str, list[float | None]]:
    """Return the share of right answers to each problem, None where it was not asked: "before", "after", "change".

    For a held-out problem the shares are of the evaluations before and after. For a training problem they are of the
    completions in the first and in the second half of the training, which are graded anew. A change is None where
    either share is. Raises SettingError for a run that has neither evaluations nor completions, or was asked none of
    the problems.
    """
    # An evaluation knows a problem by its source and its question, the completions by its prompt and its gold answer.
    by_question: dict[tuple[str, str], Problem] = {}
    by_prompt: dict[str, list[Problem]] = {}
    for problem in problems:
        for question in problem.known_as:
            by_question[problem.source, question] = by_question["", question] = problem  # some rows have no source
        by_prompt.setdefault(prompt_key(task.messages(problem)), []).append(problem)
    right: tuple[dict[int, list[bool]], ...] = ({}, {})
    evaluated = [(side, row) for side, name in enumerate((BEFORE, AFTER)) for row in _read_rows(run, name)]
    for side, row in evaluated:
        answered = by_question.get((str(row.get("source", "")), str(row.get("question"))))
        if answered is not None:
            right[side].setdefault(id(answered), []).append(row.get("right") is True)
    sampled = [row for row in _read_rows(run, "completions.jsonl") if files.number(row.get("step")) is not None]
    if not evaluated and not sampled:
        raise SettingError(
            "has neither an evaluation nor completions", setting="--run", value=str(run.path), remedy="train it first"
        )
    middle = max((row["step"] for row in sampled), default=0) / 2
    for row in sampled:
        asked = by_prompt.get(prompt_key(row.get("prompt")), [])
        if asked and isinstance(row.get("completion"), str):
            problem = next((one for one in asked if one.answer == row.get("answer")), asked[0])
            verdict = task.grade(row["completion"], problem)
            right[row["step"] > middle].setdefault(id(problem), []).append(verdict.right)
    if not any(right):
        raise SettingError(
            f"was asked none of these {len(problems):,} problems",
            setting="--run",
            value=str(run.path),
            remedy="remove --run, or give the settings of its task, and no --n",
        )
    before, after = ([_share(side.get(id(problem))) for problem in problems] for side in right)
    change = [None if b is None or a is None else a - b for b, a in zip(before, after, strict=True)]
    return {"before": before, "after": after, "change": change}


def _read_rows(run: Run, name: str) -> list[dict[str, Any]]:
    return files.read_objects(run.path / name).rows


def _share(right: Sequence[bool] | None) -> float | None:
    return fmean(right) if right else None


def to_tsv(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return a header and a line per row; None is an empty cell. Texts must be on one line already."""
    rows = zip(*columns.values(), strict=True)
    return "".join("\t".join(map(_format_cell, row)) + "\n" for row in (columns, *rows))


def _format_cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def to_cell(text: str, longest: int = LONGEST) -> str:
    """Return a text on one line, cut to about `longest` characters, secrets masked, without control characters."""
    return display_text(" ".join(text.split()), longest)
