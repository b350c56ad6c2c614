"""A reward that breaks in the middle of a run: what is said, what is saved, and that the mended run goes on exactly."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, train
from grpo_colab.rewards import RewardError
from grpo_colab.runs.folders import is_free_again
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.run import Run

pytestmark = pytest.mark.stack

# breaks at its fourth step, as long as the file named `mended` is not there
FRAGILE = """
from pathlib import Path

def fragile_reward(completions, answer, trainer_state=None, **kwargs):
    mended = Path(__file__).with_name("mended").exists()
    paid = [float(len(c[0]["content"]) % 2) for c in completions]
    if trainer_state is not None and trainer_state.global_step == 3 and not mended:
        BREAK
    return paid
"""
BROKEN = {
    "raise ValueError('no such file')": "raised ValueError: no such file (at step 4, on completion 1 of 16: ",
    "return paid[1:]": "gave 15 rewards for 16 completions (at step 4)",
    "paid[5] = float('nan')": "gave nan (at step 4, on completion 6 of 16: ",
}


def recipe(path: Path) -> Recipe:
    return Recipe.load(
        task={"limit": 64},
        rewards={f"{path}:fragile_reward": 0.5},
        budget={"max_steps": 6, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 8, "max_completion_tokens": 8},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mended").touch()
    (folder / "own.py").write_text(FRAGILE.replace("BREAK", "pass"))
    return train(recipe(folder / "own.py"), out=folder / "run")


@pytest.mark.parametrize("breaks", long_but(["raise ValueError('no such file')"], BROKEN))
def test_it_stops_with_everything_safe_and_goes_on_as_if_nothing_had_happened(
    breaks: str, whole: Run, tmp_path: Path
) -> None:
    problem = BROKEN[breaks]
    (tmp_path / "own.py").write_text(FRAGILE.replace("BREAK", breaks))
    out = tmp_path / "run"
    # a completion stands in the sentence, which differs from machine to machine
    remedy = f"once it is mended: grpo-colab train --resume {out}"
    with refused("rewards.fragile", problem=problem, remedy=remedy, kind=RewardError, snapshot=False) as caught:
        train(recipe(tmp_path / "own.py"), out=out)
    assert str(caught.value).startswith(
        f"{tmp_path / 'own.py'}:{8 if breaks.startswith('raise') else 4}: rewards.fragile: "
    )
    assert f"see {out / 'reward-failure.json'}; once it is mended: grpo-colab train --resume {out}" in str(caught.value)
    record = json.loads((out / "reward-failure.json").read_text())
    assert (record["reward"], record["step"]) == ("fragile", 4)
    assert len(record["completions"]) == len(record["answer"]) == (16 if record["index"] is None else 1)
    run = Run(out)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    last = run.last_checkpoint()
    assert last is not None
    assert last.name == "checkpoint-3"  # of the last whole step, though the recipe saves every 20

    (tmp_path / "mended").touch()
    train(resume=out)
    assert repeatable(run.metrics()) == repeatable(whole.metrics())
    assert run.completions() == whole.completions()
    assert run.evaluation == whole.evaluation


def test_one_that_breaks_before_the_first_step_leaves_its_folder_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def own_reward(completions, **kwargs):\n    return [float('nan')]\n")
    problem, remedy = "gave nan (outside of training, on completion 1 of 1: ", "a reward is a finite number"
    with refused("rewards.own", problem=problem, remedy=remedy, kind=RewardError):
        train(Recipe.load(rewards={f"{tmp_path}/own.py:own_reward": 1.0}), out=tmp_path / "run")
    assert is_free_again(tmp_path / "run")


def test_the_command_says_it_in_a_line_and_exits_with_2(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "own.py").write_text(
        FRAGILE.replace("BREAK", "raise ValueError('no such file')").replace("== 3", "== 1")
    )
    settings = ["--budget.max-steps", "3", "--budget.rehearsal", "false", "--evaluation.n", "4", "--task.limit", "64"]
    settings += ["--rewards.own.py:fragile_reward", "1.0"]
    done = command("train", *settings, "--out", "run")
    assert done.returncode == 2, done.stderr[-3000:]
    assert done.stdout == ""
    told, frame, source = done.stderr.splitlines()[-3:]
    problem = "raised ValueError: no such file (at step 2, on completion 1 of 16: "
    assert told.startswith(f"grpo-colab: own.py:8: rewards.fragile: {problem}")
    assert (frame, source) == ("  own.py:8, in fragile_reward", "    raise ValueError('no such file')")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-1" / "trainer_state.json").is_file()


def test_a_combined_reward_and_one_with_settings_train_and_are_logged_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from grpo_colab.rewards import combine, correctness_reward, strict_format_reward\n"
        "all_reward = combine([correctness_reward, strict_format_reward], weights=[1, 0.5],\n"
        "    gates={'strict_format': 'correctness'}, name='all_reward')\n"
    )
    asked = {
        f"{tmp_path}/own.py:all_reward": 1.0,
        "soft_overlong_punishment(max_completion_len=48, soft_punish_cache=16)": 0.1,
    }
    taken_out = dict.fromkeys(Recipe.load().rewards, False)
    chosen = Recipe.load(
        task={"limit": 64},
        rewards={**taken_out, **asked},
        budget={"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 4},
    )
    run = train(chosen, out=tmp_path / "run")
    for row in run.metrics():
        for name in ("all", "correctness", "strict_format", "soft_overlong_punishment"):
            assert f"rewards/{name}_reward/mean" in row
        assert row["verdict/right"] == pytest.approx(row["rewards/correctness_reward/mean"])
    for row in run.completions():
        truth, form = row["extra"]["correctness"], row["extra"]["strict_format"]
        assert row["rewards"]["all"] == pytest.approx(truth + 0.5 * form * truth)
        assert row["rewards"]["soft_overlong_punishment"] <= 0.0


def test_warnings_are_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text("def flat_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n")
    chosen = Recipe.load(
        task={"limit": 64},
        rewards={**dict.fromkeys(Recipe.load().rewards, False), f"{tmp_path}/own.py:flat_reward": 1.0},
        budget={"max_steps": 21, "prompts_per_step": 1, "rehearsal": False},
        grpo={"max_completion_length": 2, "num_generations": 2},
        evaluation={"n": 2},
    )
    run = train(chosen, out=tmp_path / "run")
    told = [json.loads(line) for line in (run.path / "warnings.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kind"]) for row in told] == [
        (1, "cut_off"), (3, "no_reward"), (20, "constant"), (21, "cut_off"), (21, "adapter"),
    ]  # fmt: skip
    assert "21 of 21 B matrices are zero, so that the adapter changes nothing" in told[-1]["text"]
    errors = capsys.readouterr().err
    assert "Warning, step 3: no completion has earned anything from any reward in 3 steps" in errors
    assert "Warning, step 20: flat has been 0 for every completion of 20 steps" in errors
