"""What the READMEs say is so: links lead somewhere, commands parse and run, snippets print what stands beside them.

A fenced block is a file where the paragraph before it names one in backticks and ends with a colon. Python blocks of a
file run one after the other, in a process of their own; a comment behind a `print` is what it must print.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from warm import Warm

from grpo_colab import Recipe, Run
from grpo_colab.cli import cli
from grpo_colab.experiments.sweep_checks import sweep_variants
from grpo_colab.recipe.overrides import parse_overrides, read_recipe
from grpo_colab.starter import write_starter
from grpo_colab.tasks import load_task

ROOT = Path(__file__).parents[1]
WINGS = (
    *("rewards", "tasks", "tasks/drawing", "recipe", "plan", "runs", "reporting", "training", "evaluation"),
    *("experiments", "doctor", "policy", "sandbox", "utils", "starter"),
)
FRONT = ROOT / "README.md"
READMES = (
    FRONT,
    *(ROOT / "grpo_colab" / wing / "README.md" for wing in WINGS),
    ROOT / "colab" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
QUICK = ("recipes", "status", "report", "score", "audit", "--help")  # commands that are run as they stand
SHORT = 'Recipe.load("word-problems-tiny", budget={"max_steps": 1}, evaluation={"n": 8}, task={"limit": 8}, '


class Block(NamedTuple):
    language: str
    text: str
    file: str | None  # that it is to be written to


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file."""
    found = []
    text = path.read_text(encoding="utf-8")
    for fence in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: fence.start()].rstrip().rpartition("\n\n")[2]
        named = re.findall(r"`([\w-]+\.(?:py|toml|jsonl|jinja))`", before) if before.endswith(":") else []
        found.append(Block(fence[1], fence[2], named[0] if named else None))
    return found


def ids(value: Path | list[str]) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else " ".join(value)


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of each line of the shell blocks."""
    for block in blocks(path):
        if block.language == "sh":
            for line in block.text.splitlines():
                if words := shlex.split(line, comments=True):
                    yield words


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with what the READMEs take for granted: problems, completions, a starter, two runs."""
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(30)]
    problems = "".join(json.dumps(row) + "\n" for row in rows)
    completions = [{**row, "completion": f"<answer>{row['answer']}</answer>"} for row in rows]
    Path("problems.jsonl").write_text(problems)
    Path("completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in completions))
    for library in ("reasoning_gym", "verifiers", "my_env"):  # a recipe that names one is read where there is one
        Path(f"{library}.py").touch()
    Path("my/gsm8k").mkdir(parents=True)
    for split in ("train", "test"):
        Path("my/gsm8k", f"{split}.jsonl").write_text('{"question": "What is 3 + 4?", "answer": "7\\n#### 7"}\n')
    write_starter("mine")
    for name in ("mine", "other"):
        run = Run.create(Recipe.load(), f"runs/{name}")
        run.append("metrics.jsonl", [{"step": 1, "loss": 0.0, "reward": 2.5}])
        one = {"prompt": "What is 3 + 4?", "completion": "<answer>7</answer>", "answer": "7"}
        run.append("completions.jsonl", [{"step": 1, **one, "rewards": {"correctness": 1.0}, "advantage": 0.0}])
    return tmp_path


def write_files(path: Path) -> None:
    """Write the blocks that are files into the current folder."""
    for block in blocks(path):
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")


def test_the_front_readme_is_short_and_opens_with_what_it_is() -> None:
    text = FRONT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    title, sentence, *_ = text.split("\n\n")
    assert title == "# grpo_colab"
    assert re.fullmatch(r"[^\[!<]+\.", sentence)  # no badge, no picture
    for wing in WINGS:
        assert f"(grpo_colab/{wing}/README.md)" in text, wing


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_it_may_import_and_how_to_add_one_more(wing: str) -> None:
    text = (ROOT / "grpo_colab" / wing / "README.md").read_text(encoding="utf-8")
    assert "**May import:**" in text
    assert re.search(r"^## (Add|Bring|Use) ", text, re.MULTILINE)
    assert any(block.language in ("python", "toml") for block in blocks(ROOT / "grpo_colab" / wing / "README.md"))


def headings(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a file's headings."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", READMES, ids=ids)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor:
            assert anchor in headings(there), target


@pytest.mark.parametrize("path", READMES, ids=ids)
def test_recipes_load(path: Path, workplace: Path) -> None:
    write_files(path)
    for block in blocks(path):
        if block.language == "toml" and block.file is None:
            assert "preset" not in tomllib.loads(block.text)
            Path("part.toml").write_text(f'preset = "word-problems-tiny"\n{block.text}', encoding="utf-8")
            Recipe.load("part.toml")
        elif block.language == "toml":
            assert block.file is not None
            Recipe.load(block.file)


@pytest.mark.parametrize("path", READMES, ids=ids)
def test_commands_parse(path: Path, workplace: Path) -> None:
    write_files(path)
    makefile = (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for program, *words in commands(path):
        if program == "grpo-colab":
            parse(words)
        elif program == "make":
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words), words
        elif program == "pip":
            assert words[0] == "install"
            assert set(re.findall(r"\[(\w+)\]", " ".join(words))) <= set(extras)
        elif program == "python":
            assert (ROOT / words[0]).is_file() or words[:2] == ["-m", "grpo_colab.tiny"], words
        elif program == "eval":
            assert words == ["$(_GRPO_COLAB_COMPLETE=bash_source grpo-colab)"]  # test_completion.py runs it
        else:
            assert [program, *words] == [".", ".venv/bin/activate"]


def parse(words: list[str]) -> None:
    """Let click read a command, and the recipe its settings; what is named in it must be there."""
    if words == ["--help"]:
        return
    # a context with the group's own settings: a command keeps the names of its help option from the first it meets
    parent = cli.make_context("grpo-colab", [], resilient_parsing=True)
    context = cli.commands[words[0]].make_context(words[0], words[1:], parent=parent)
    values: dict[str, Any] = context.params
    if words[0] in ("train", "plan", "doctor", "recipes", "data"):
        if values.get("resume"):
            Recipe.load(**parse_overrides(values["words"])[1])
        else:
            read_recipe(values["words"])
    elif words[0] == "sweep" and not values["resume"]:
        (recipe,), overrides = parse_overrides(values["words"])
        assert sweep_variants(recipe, overrides, values["seeds"])
    elif words[0] == "draw" and not values["resume"]:
        (image,), overrides = parse_overrides(values["words"])
        task = {"image": image, **overrides.pop("task", {})}
        hindsight = {"method": values["method"]} if values["method"] else {}
        Recipe.load(values["recipe"] or "drawing-tiny", task=task, hindsight=hindsight, **overrides)
    elif words[0] == "embed" and not values["run"]:
        (task_name,), overrides = parse_overrides(values["words"])
        load_task(task_name, **overrides.get("task", {}))


def quick_commands() -> list[tuple[Path, list[str]]]:
    found: dict[tuple[str, ...], Path] = {}
    for path in READMES:
        for program, *words in commands(path):
            if program == "grpo-colab" and words[0] in QUICK:
                found.setdefault(tuple(words), path)
    return [(path, list(words)) for words, path in found.items()]


@pytest.mark.parametrize(("path", "words"), quick_commands(), ids=ids)
def test_a_quick_command_runs(path: Path, words: list[str], workplace: Path) -> None:
    write_files(path)
    done = subprocess.run(
        [sys.executable, "-m", "grpo_colab", *words], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def trains(block: Block) -> bool:
    return "import Recipe, train" in block.text


def run_python(warm: Warm, path: Path, code: str) -> None:
    """Run a file's Python blocks; each comment behind a print must be printed, in that order."""
    done = warm.run("-c", code, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    printed = iter(done.stdout.splitlines())
    for expected in re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE):
        if not expected.startswith("metrics, "):  # which says what is there
            assert expected in printed, f"{path.name}: {expected!r} is not printed, or too early: {done.stdout}"


PYTHON = [path for path in READMES if any(block.language == "python" for block in blocks(path))]


@pytest.mark.parametrize("path", PYTHON, ids=ids)
def test_snippets_work(path: Path, workplace: Path, warm: Warm) -> None:
    write_files(path)
    code = [block.text for block in blocks(path) if block.language == "python" and not trains(block)]
    run_python(warm, path, "\n".join(code))


def test_the_snippet_that_trains_works(workplace: Path, warm: Warm) -> None:
    (code,) = [block.text for block in blocks(FRONT) if trains(block)]
    shortened = code.replace('Recipe.load("word-problems-tiny", ', SHORT)
    assert shortened != code
    run_python(warm, FRONT, shortened)
    (path,) = [path for path in Path("runs").iterdir() if path.name not in ("mine", "other")]
    assert Run(path).finished
    assert (path / "report.html").is_file()
