"""The command as a user types it: results on stdout, one or two lines on stderr and exit status 2 for bad input."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.cli import main
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.runs.folders import is_free_again

Command = Callable[..., subprocess.CompletedProcess[str]]
Cli = Callable[..., Any]


def test_recipes_lists_every_preset_with_its_description(command: Command) -> None:
    done = command("recipes")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert all(len(line.split()) > 3 for line in lines)
    assert done.stderr == ""


def test_recipes_prints_one_resolved_and_it_is_a_recipe(cli: Cli, tmp_path: Path) -> None:
    done = cli("recipes", "gsm8k-tiny", "--grpo.learning-rate", "1e-5", "--budget.max-steps=7")
    assert tomllib.loads(done.stdout)["grpo"]["learning_rate"] == 1e-5
    (tmp_path / "printed.toml").write_text(done.stdout)
    expected = Recipe.load("gsm8k-tiny", grpo={"learning_rate": 1e-5}, budget={"max_steps": 7})
    assert Recipe.load(tmp_path / "printed.toml") == expected


def test_help_opens_with_examples(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert done.stdout.index("grpo-colab train gsm8k-llama31-8b") < done.stdout.index("Commands:")
    assert "--TABLE.SETTING" in cli("train", "--help").stdout


FILES = {
    "torn.jsonl": '{"prompt": "1 + 1", "answer": "2"}\n{"prompt": "2 +\n',
    "empty.jsonl": "",
    "no_gold.jsonl": '{"prompt": "1 + 1", "answer": "two or three"}\n',
    "no_column.jsonl": '{"text": "1 + 1", "answer": "2"}\n',
    "wrong.py": "def no_completions_reward(texts):\n    return [0.0]\n",
    "broken.py": "import no_such_thing\n\ndef some_reward(completions, **kwargs):\n    return [0.0]\n",
    "taken/recipe.toml": Recipe.load().to_toml(),
    "full/file": "mine",
    "finished/recipe.toml": Recipe.load().to_toml(),
    "finished/evaluation.json": "{}",
    "twice.py": "def correctness_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n",
}
JSONL = ("gsm8k-tiny", "--task.name", "jsonl", "--task.path")
BAD_INPUT: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown recipe": (("gsm8k-tinny",), "'gsm8k-tiny'"),
    "misspelt key": (("--grpo.learning-rat", "1"), "'learning_rate'"),
    "misspelt table": (("--grop.learning-rate", "1"), "'grpo'"),
    "wrong type": (("--grpo.learning-rate", "fast"), "grpo.learning_rate = 'fast'"),
    "251 steps": (("--budget.max-steps", "251"), "budget.uncapped = true"),
    "a group of one": (("--grpo.num-generations", "1"), "write 2 or more"),
    "no such folder": (("gsm8k-tiny", "--task.path", "absent"), "no train.jsonl there"),
    "no such file": ((*JSONL, "absent.jsonl"), "there is no such file"),
    "a line that does not parse": ((*JSONL, "torn.jsonl"), "torn.jsonl:2: not JSON"),
    "an empty data set": ((*JSONL, "empty.jsonl"), "empty.jsonl: the data set is empty"),
    "a gold answer that is no number": (
        (*JSONL, "no_gold.jsonl"),
        "no_gold.jsonl:1: the gold answer is not one number: 'two",
    ),
    "a missing column": ((*JSONL, "no_column.jsonl"), "no column 'prompt'; it has 'text', 'answer'"),
    "a reward that does not import": (("--rewards.broken.py:some_reward", "1"), "no_such_thing"),
    "a reward without its module": (("--rewards.absent_module.some_reward", "1"), "absent_module"),
    "a reward with the wrong signature": (("--rewards.wrong.py:no_completions_reward", "1"), "no_completions_reward"),
    "a folder that holds a run": (("--out", "taken"), "--resume taken"),
    "a folder that holds something": (("--out", "full"), "is not an empty folder"),
    "a finished run to resume": (("--resume", "finished"), "is finished, and evaluated"),
    "a learning-rate schedule that is none": (("--grpo.lr-scheduler-type", "cosin"), "TRL refuses it"),
    "an optimiser that is none": (("--grpo.optim", "adamm"), "TRL refuses it"),
    "a loss that is none": (("--grpo.loss-type", "dapoo"), "'dapo'"),
    "a temperature of nought": (("--grpo.temperature", "0"), "write a number above 0"),
    "a micro-batch that does not divide": (("--budget.micro-batch", "5"), "write one of 1, 2, 4, 8, 16"),
    "a module to adapt that is not there": (("--lora.target-modules", '["foo_proj"]'), "[lora]: this model"),
    "a reward without its settings": (("--rewards.cosine_scaled", "1"), "missing 1 required positional argument"),
    "a reward with a bad setting": (
        ("--rewards.cosine_scaled(max_len=0)", "1"),
        "max_len = 0: cannot work; write",
    ),
    "a reward twice": (("--rewards.twice.py:correctness_reward", "1"), "rename one"),
    "no run to resume": (("--resume", "absent"), "it is no run folder"),
    "a setting without a value": (("--budget.max-steps",), "no value"),
    "an option without its table": (("--learning-rate", "1"), "write --grpo.learning-rate"),
    "an option that is none": (("--learnin-rate", "1"), "--TABLE.SETTING"),
}


# The others run in the tests' own process.
IN_A_PROCESS = ("misspelt key", "a folder that holds a run", "a loss that is none")


@pytest.fixture
def main_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Like `command`, but in this process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        return subprocess.CompletedProcess(arguments, ended.value.code, *capfd.readouterr())

    return run


# What stands before an error that needs the libraries, or the model, to be loaded.
CHATTER = (
    "Running code that is not grpo_colab's: ",
    "It takes about ",
    "Loading ",
    "Unsloth",
    "\rLoading ",
    "W1",
    "[torchao",
    "[transformers]",
    "grpo_colab ",
    "  | ",
)
# What only the libraries, or other people's code, can tell leaves a run folder that never began, with the error in it.
NEED_LIBRARIES = (
    "a reward that does not import",
    "a learning-rate schedule that is none",
    "an optimiser that is none",
    "a module to adapt that is not there",
)


@pytest.mark.stack
@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_gets_a_line_and_status_2(kind: str, command: Command, main_here: Command, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    arguments, said = BAD_INPUT[kind]
    done = (command if kind in IN_A_PROCESS else main_here)("train", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    ours = [line for line in done.stderr.splitlines() if not line.startswith(CHATTER) and line.strip()]
    assert len(ours) <= 2, done.stderr
    assert done.stdout == ""
    after = [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts]
    if kind in NEED_LIBRARIES:
        assert [is_free_again(path) for path in tmp_path.glob("runs/*")] == [True]
        after = [path for path in after if (tmp_path / "runs") not in (path, *path.parents)]
    assert after == before  # nothing half-written


def test_report_prints_where_the_page_is(cli: Cli, tmp_path: Path) -> None:
    for name in ("one", "other"):
        Run.create(Recipe.load(), tmp_path / name)
    done = cli("report", "one")
    assert (done.stdout, done.stderr, done.returncode) == ("one/report.html\n", "", 0)
    assert "word-problems-tiny" in (tmp_path / "one" / "report.html").read_text()
    done = cli("report", "one", "other", "--out", "both.html")
    assert (done.stdout, done.stderr) == ("both.html\n", "")
    assert {"one", "other"} <= set(re.findall("[a-z]+", (tmp_path / "both.html").read_text()))
    done = cli("report", "absent")
    assert (done.stdout, done.returncode) == ("", 2)
    assert "it is no run folder" in done.stderr


def test_embed_says_what_it_wrote(command: Command, cli: Cli, tmp_path: Path) -> None:
    done = command("embed", "word_problems", "--n", "20", "--task.seed", "5", "--out", "here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("word_problems: 20 train and 20 test problems")
    assert len((tmp_path / "here" / "metadata.tsv").read_text().splitlines()) == 1 + 40
    for words, said in (
        (("gsm8",), "no such task; did you mean 'gsm8k'"),
        (("gsm8k", "--grpo.beta", "1"), "--grpo: embed takes settings of the task alone"),
        (("gsm8k", "word_problems"), "one task at a time"),
    ):
        done = cli("embed", *words)
        assert (done.stdout, done.returncode) == ("", 2)
        assert said in done.stderr


def test_a_reward_with_settings_and_a_value_with_brackets(cli: Cli, tmp_path: Path) -> None:
    wanted = ("--rewards.cosine_scaled(max_len=48)=0.5", "--rewards.repetition_penalty(ngram_size=2)", "0.25")
    (tmp_path / "own.py").write_text("def get_own_reward(at):\n    return lambda completions, **kwargs: [1.0]\n")
    own = "--rewards.own.py:get_own_reward(at=('a:b', 'c)'))=2.0"
    done = cli("recipes", "gsm8k-tiny", *wanted, own, "--task.system_prompt=Say (x = 1) now")
    assert done.returncode == 0, done.stderr
    assert '"cosine_scaled(max_len=48)" = 0.5' in done.stdout
    assert '"repetition_penalty(ngram_size=2)" = 0.25' in done.stdout
    assert 'system_prompt = "Say (x = 1) now"' in done.stdout
    assert f"{tmp_path}/own.py:get_own_reward(at=('a:b', 'c)'))\" = 2.0" in done.stdout  # from wherever it is resumed


def test_audit_prints_what_it_found_and_says_it_in_its_status(command: Command, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def last_word_reward(completions, answer, **kwargs):\n"
        "    print('noise')\n"
        "    return [float(c[-1]['content'].split()[-1:] == [a]) for c, a in zip(completions, answer)]\n"
    )
    good, bad = command("audit", "correctness"), command("audit", "own.py:last_word_reward", "--all")
    assert (good.returncode, bad.returncode) == (0, 1), good.stderr + bad.stderr
    assert good.stdout.splitlines()[-1] == "ok"
    assert "pays, and should not" in bad.stdout
    assert re.search(r"\n    the bare gold, 1\.0 of 1: '(\w+)' for \1\n", bad.stdout)
    assert "noise" not in bad.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("own.py:nope",), "has no 'nope'"),
        (("no_such_module.f",), "'no_such_module' does not import"),
        (("corectness",), "did you mean 'correctness'"),
        (("correctness", "--kind", "formt"), "did you mean 'format'"),
        (
            ("correctness", "--time-limit", "0"),
            "write a number of seconds above 0",
        ),
    ],
)
def test_what_audit_cannot_ask_is_said_in_a_line(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "own.py").write_text("")
    done = cli("audit", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_is_seen_before_anything_is_written(command: Command, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        done = command("train", "--out", str(disk / "run"))
        assert done.returncode == 2
        assert "MiB free, but the adapter and its checkpoints need" in done.stderr
        assert not (disk / "run").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_importing_the_stack_before_unsloth_is_refused(tmp_path: Path) -> None:
    code = "import transformers\nfrom grpo_colab import train\ntrain(out='run')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "transformers was imported before unsloth" in done.stderr
    assert "put `import unsloth` first" in done.stderr
    assert not (tmp_path / "run").exists()


SMALL = "--evaluation.n 2 --evaluation.max-completion-tokens 4 --budget.rehearsal false --budget.max-steps"
FRESH = [
    f"train --out run --task.limit 8 {SMALL} 1",
    pytest.param(f"draw 2/2 --method her --out drawn --hindsight.samples 4 {SMALL} 1", marks=pytest.mark.long),
    pytest.param("evaluate run", marks=pytest.mark.long),
]


@pytest.mark.parametrize("line", FRESH, ids=["train", "draw", "evaluate"])
def test_a_process_of_its_own_imports_unsloth_before_what_must_follow_it(line: str, tmp_path: Path) -> None:
    """The other tests' commands are forks of a process that has imported everything."""
    if line.startswith("evaluate"):
        train = [sys.executable, "-m", "grpo_colab", *FRESH[0].split()]  # type: ignore[union-attr]
        subprocess.run(train, cwd=tmp_path, check=True, capture_output=True)
    command = [sys.executable, "-m", "grpo_colab", *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "was imported before unsloth" not in done.stderr


def test_code_that_runs_is_said_though_another_name_is_wrong(cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def own_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n")
    (tmp_path / "c.jsonl").write_text('{"completion": "x"}\n')
    done = cli("score", str(tmp_path / "c.jsonl"), "--rewards", f"{own}:own_reward,nonsense")
    assert done.returncode == 2
    assert f"Running code that is not grpo_colab's: {own}" in done.stderr


def strict(text: str) -> Any:
    """What a parser reads that knows JSON alone: NaN and Infinity are none."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_results_as_json(cli: Cli, finished_run: Path, tmp_path: Path) -> None:
    presets = strict(cli("recipes", "--json").stdout)
    assert [preset["name"] for preset in presets] == preset_names()
    assert all(preset["description"] for preset in presets)
    recipe = strict(cli("recipes", "gsm8k-tiny", "--grpo.learning-rate", "1e-5", "--json").stdout)
    assert recipe == Recipe.load("gsm8k-tiny", grpo={"learning_rate": 1e-5}).public(mode="json", exclude_none=True)

    rows = [{"completion": "<answer>18</answer>", "answer": "18"}, {"completion": "no", "answer": "19"}]
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.py").write_text(
        "def huge_reward(completions, **kwargs):\n    return [1e308, 1e308]\n\n\n"
        "def silent_reward(completions, **kwargs):\n    return [None, None]\n"
    )
    words = ("score", "said.jsonl", "--rewards", "correctness,own.py:huge_reward,own.py:silent_reward", "--json")
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    scored = strict(done.stdout)
    assert (scored["file"], scored["completions"]) == ("said.jsonl", 2)
    by_name = dict(zip(("exact", "huge", "silent"), scored["rewards"].values(), strict=True))
    assert [by_name["exact"][key] for key in ("mean", "std", "least", "most", "above_0")] == [0.5, 0.5, 0.0, 1.0, 0.5]
    assert by_name["huge"]["std"] is None  # no number that JSON has
    assert (by_name["silent"]["mean"], by_name["silent"]["no_judgement"]) == (None, 2)
    [disagreement, *_] = scored["disagreements"]
    assert [len(places) for places in disagreement["paid_only_by"].values()] == [0, 1]
    assert disagreement["paid_only_by"]["huge"] == ["said.jsonl:2"]

    copy = tmp_path / "a run"
    shutil.copytree(finished_run, copy)
    told = strict(cli("report", str(copy), "--json").stdout)
    assert told["page"] == str(copy / "report.html")
    assert [run["evaluation"] for run in told["runs"]] == [json.loads((copy / "evaluation.json").read_text())]
    assert strict(cli("status", str(copy), "--json").stdout)["state"] == "finished"
