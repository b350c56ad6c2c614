"""The Tab key: what a shell is told through click's own protocol, in new processes that import nothing heavy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.plan.devices import GPUS
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.recipe.schema import Budget
from grpo_colab.rewards.graders.settings import KINDS
from grpo_colab.rewards.resolve import SHORT_NAMES

COMMAND = """
import json, sys
from grpo_colab.cli import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "trl", "datasets", "numpy", "pandas"} & {*sys.modules}
    print(json.dumps(sorted(heavy)), file=sys.stderr)
"""


def completed(words: str, folder: Path) -> list[str]:
    """What click tells bash for the last of these words, as `type,value`; the words are separated by single spaces."""
    environment = {"_GRPO_COLAB_COMPLETE": "bash_complete", "COMP_WORDS": f"grpo-colab {words}"}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        cwd=folder,
        env={**os.environ, **environment, "COMP_CWORD": str(len(words.split(" ")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stderr) == []  # neither a word of trouble nor a heavy import
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train gsm8k-", [f"plain,{name}" for name in preset_names() if name.startswith("gsm8k-")]),
        ("recipes ", [f"plain,{name}" for name in preset_names()]),
        ("plan gsm8k-tiny --gpu A", ["plain,A100-40", "plain,A100-80"]),
        ("plan --gpu ", [f"plain,{name}" for name in (*GPUS, "cpu")]),
        ("train --grpo.learning", ["plain,--grpo.learning-rate"]),
        ("train gsm8k-tiny --seed 3 --rewards.soft_f", ["plain,--rewards.soft_format"]),
        ("doctor --budget.", [f"plain,--budget.{key.replace('_', '-')}" for key in Budget.model_fields]),
        ("train --resu", ["plain,--resume"]),
        ("train --task.name wo", ["plain,word_problems"]),
        ("train --budget.uncapped ", ["plain,true", "plain,false"]),
        ("train --grpo.loss-type dap", ["plain,dapo"]),
        ("train --task.path some/wh", ["file,some/wh"]),
        ("train mine", ["file,mine"]),
        ("embed g", ["plain,gsm8k", *(f"plain,{name}" for name in preset_names() if name[0] == "g")]),
        ("embed gsm8k --grpo.", []),
        ("draw ch", ["plain,chick"]),
        ("draw --recipe dr", ["plain,drawing-qwen25-coder-0.5b", "plain,drawing-tiny"]),
        ("score x.jsonl --rewards correctness,strict", ["plain,correctness,strict_format"]),
        ("audit ", [f"plain,{name}" for name in SHORT_NAMES]),
        ("audit my_rew", ["file,my_rew"]),
        ("report ", ["plain,runs/2026-02-02-b", "plain,runs/2026-01-01-a"]),
        ("train --resume runs/2026-01", ["plain,runs/2026-01-01-a"]),
        ("status other/", ["dir,other/"]),
        ("init mine --kind ", [f"plain,{name}" for name in KINDS]),
        ("train --task.answer js", ["plain,json"]),
    ],
)
def test_a_word_is_completed(words: str, expected: list[str], tmp_path: Path) -> None:
    for name in ("2026-01-01-a", "2026-02-02-b"):
        Run.create(Recipe.load(), tmp_path / "runs" / name)
    (tmp_path / "runs" / "no run").mkdir()
    assert completed(words, tmp_path) == expected


def test_the_runs_of_a_comparison_of_drawings_are_among_them(tmp_path: Path) -> None:
    Run.create(Recipe.load(), tmp_path / "runs" / "chick" / "grpo-seed-0")
    (tmp_path / "runs" / "chick" / "draw.json").write_text('{"runs": ["grpo-seed-0"]}')
    assert completed("report runs/ch", tmp_path) == ["plain,runs/chick/grpo-seed-0"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_itself(tmp_path: Path) -> None:
    """As the README switches it on: the script that click gives bash, and what bash then offers."""
    program = tmp_path / "grpo-colab"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpo_colab "$@"\n')
    program.chmod(0o755)
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    [line] = [line for line in readme.splitlines() if line.startswith('eval "$(_GRPO_COLAB_COMPLETE')]
    script = f"""{line}
complete -p grpo-colab
COMP_WORDS=(grpo-colab train gsm8k-t) COMP_CWORD=2 COMP_TYPE=9
$(complete -p grpo-colab | sed "s/.*-F \\([^ ]*\\) .*/\\1/") grpo-colab
echo "OFFERED ${{COMPREPLY[*]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "OFFERED gsm8k-tiny"
