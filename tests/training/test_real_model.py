"""A real pre-trained model of 135 million parameters through the same code: what a model of 0.6 million hides."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_models import real_model

from grpo_colab import Recipe, Run, train
from grpo_colab.policy.loading import load_policy
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return real_model("smollm2", "smollm2-135m")


def test_its_answers_end_where_its_template_ends_a_turn(smollm2: Path, tmp_path: Path) -> None:
    """Also where a conversion names another end, as that of these weights did."""
    converted = tmp_path / "converted"
    shutil.copytree(smollm2, converted, ignore=shutil.ignore_patterns("model.safetensors"))
    (converted / "model.safetensors").symlink_to(smollm2 / "model.safetensors")
    for name, changed in {
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
        "generation_config.json": {"eos_token_id": 0},
        "config.json": {"eos_token_id": 0},
    }.items():
        file = converted / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    question = [{"role": "user", "content": "Reply with one word: what colour is the sky?"}]
    answers = []
    for folder in (smollm2, converted):
        policy = load_policy(Recipe.load(model={"model_name": str(folder), "load_in_4bit": False}), current_device())
        assert policy.prompt_text(question).startswith("<|im_start|>system\nYou are a helpful AI assistant")
        (tokens,) = policy.sample([question], 1, 64, temperature=1e-4)
        assert policy.tokenizer.decode(tokens[-1]) == "<|im_end|>"
        assert len(tokens) < 64
        answers.append(tokens)
    assert answers[0] == answers[1]


@pytest.mark.long
def test_it_is_trained_evaluated_saved_and_resumed(
    smollm2: Path, gsm8k: Path, tmp_path: Path, command: Command
) -> None:
    settings = {
        "model.model-name": smollm2,
        "task.path": gsm8k,
        "budget.max-steps": 2,
        "budget.prompts-per-step": 1,
        "grpo.num-generations": 4,
        "grpo.max-completion-length": 48,
        "grpo.save-steps": 1,
        "evaluation.n": 4,
    }
    options = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    done = command("train", "gsm8k-qwen25-0.5b", *options, "--out", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line.strip() for line in done.stderr.splitlines() if line.startswith("  | ")]
    assert len(said) == len({*said})  # each library's remark once
    for remark in ("new PAD/BOS/EOS tokens", "Ignoring clean_up_tokenization_spaces"):
        assert remark not in done.stderr
    run = Run(tmp_path / "run")
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert run.evaluation["n"] == 4
    before = run.metrics()

    done = command("train", "--resume", "run", "--budget.max-steps", "3")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.metrics()[:2] == before
    done = command("evaluate", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((run.path / "evaluation.json").read_text())["n"] == 4


@pytest.mark.long
def test_it_writes_the_format_only_once_it_was_shown(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of this model's answers none has a tag, so that nothing is ever paid. Golden completions teach it the tags."""
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {
        "model": {"model_name": str(smollm2), "dtype": None, "load_in_4bit": False},
        "budget": {"max_steps": 3, "prompts_per_step": 1, "rehearsal": False},
        "grpo": {"num_generations": 2, "max_completion_length": 64, "optim": "adamw_torch"},
        "evaluation": {"n": 8, "max_completion_tokens": 96},
        "task": {"limit": 64},
    }
    run = train(Recipe.load(**settings), out=tmp_path / "silent")
    assert all(row["reward"] == 0 for row in run.metrics())
    assert "no completion has earned anything from any reward in 3 steps" in capfd.readouterr().err

    shown = {"steps": 12, "batch_size": 8, "micro_batch": 4, "learning_rate": 5e-4}
    run = train(Recipe.load(**settings, pretraining=shown), out=tmp_path / "shown")
    answers = run.answers("evaluation-before.jsonl")
    assert sum("</answer>" in row["completion"] for row in answers) >= 6
    assert any(row["reward"] > 0 for row in run.metrics())
