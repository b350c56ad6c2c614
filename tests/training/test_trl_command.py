"""TRL's own command trains on our rewards by their dotted paths, with nothing of ours around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from warm import Warm

from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.rewards import REASONS
from grpo_colab.tasks.word_problems import WordProblems

# TRL 1.15 has its log-probabilities from a GPU kernel only; unsloth, once imported, lends it one for the CPU.
CPU_KERNEL = 'import sys\nif any(part.endswith("grpo.py") for part in sys.orig_argv):\n    import unsloth\n'
COMMAND = """
    --dataset_name data --output_dir out
    --reward_funcs grpo_colab.rewards.correctness_reward grpo_colab.rewards.strict_format_reward
    --max_steps 2 --per_device_train_batch_size 8 --gradient_accumulation_steps 1 --num_generations 4
    --max_completion_length 64 --learning_rate 1e-3 --use_cpu --bf16 false --gradient_checkpointing false
    --logging_steps 1 --save_steps 2 --report_to none --seed 7
"""


@pytest.mark.parametrize("launched", [False, pytest.param(True, marks=pytest.mark.long)])
def test_trls_command_trains_with_our_rewards(launched: bool, tmp_path: Path, warm: Warm) -> None:
    """By its script; and by the command, which starts accelerate's launcher, and that the script."""
    task = WordProblems()
    prompts = {p.question: p.answer for p in task.problems("train", 8)}
    system = {"role": "system", "content": task.default_system_prompt}
    rows = [{"prompt": [system, {"role": "user", "content": q}], "answer": gold} for q, gold in prompts.items()]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    arguments = [*COMMAND.split(), "--model_name_or_path", str(TINY_MODEL)]
    if launched:
        (tmp_path / "sitecustomize.py").write_text(CPU_KERNEL)
        done = subprocess.run(
            [str(Path(sys.executable).with_name("trl")), "grpo", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    else:
        done = warm.run("-m", "trl.scripts.grpo", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]

    state = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    steps = [row for row in state["log_history"] if "reward" in row]
    assert [row["step"] for row in steps] == [1, 2]
    for row in steps:
        correct, strict = (row[f"rewards/{name}_reward/mean"] for name in ("correctness", "strict_format"))
        shares = {reason: row[f"verdict/{reason}"] for reason in REASONS}
        assert sum(shares.values()) == pytest.approx(1.0)
        assert correct == pytest.approx(shares["right"])
        assert row["reward"] == pytest.approx(correct + strict)
    assert any(0.0 < row["reward"] < 2.0 for row in steps)  # it can solve some of them

    shipped, trained = load_file(TINY_MODEL / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert shipped.keys() == trained.keys()
    assert any((shipped[name].astype("float32") != trained[name].astype("float32")).any() for name in shipped)
