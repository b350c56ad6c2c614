"""What a folder tells of its run: while it is trained, stopped, finished, damaged, and by a version yet to come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.runs import checkpoints
from grpo_colab.runs.lock import LOCK, locked
from grpo_colab.runs.status import status, status_text
from grpo_colab.text import printable
from grpo_colab.utils import files

HOLD = "import sys, time; from pathlib import Path; from grpo_colab.runs.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(Recipe.load(budget={"max_steps": 40}), tmp_path / "run")


def steps(run: Run, last: int, **extra: Any) -> None:
    rows = [{"step": n, "reward": n / 100, "step_time": 2.0 if n % 5 else 60.0, **extra} for n in range(1, last + 1)]
    files.append(run.path / "metrics.jsonl", files.lines(rows))


def checkpoint(run: Run, step: int, value: float | None = None) -> Path:
    staged = run.checkpoints / checkpoints.STAGING / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "adapter_model.safetensors").write_bytes(bytes(1000))
    return checkpoints.seal(staged, run.checkpoints, "reward", value)


def shown(run: Run) -> dict[str, str]:
    """The text's lines by their heads; it must be plain, aligned and short."""
    text = status_text(status(run.path))
    assert printable(text) == text
    assert 6 <= len(text.splitlines()) <= 10
    assert {line[15] for line in text.splitlines()} == {" "}
    return {line[:16].strip(): line[16:] for line in text.splitlines()}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with refused(place=f"run '{tmp_path}'", problem="so it is no run folder"):
        status(tmp_path)


def test_not_begun(run: Run) -> None:
    found = status(run.path)
    assert (found["state"], found["step"], found["max_steps"]) == ("not begun", 0, 40)
    unknown = ("step_s", "left_s", "reward_now", "checkpoint", "best", "mirror", "tripwire", "evaluation", "pid")
    assert {found[key] for key in unknown} == {None}
    assert not (run.path / LOCK).exists()  # it looks, and leaves nothing
    lines = shown(run)
    assert lines["run"] == f"{run.path} (word-problems-tiny)"
    assert (lines["step"], lines["reward"], lines["checkpoint"]) == ("0 of 40", "none yet", "none yet")
    assert lines["warnings (0)"] == "none"


def test_stopped_half_way(run: Run) -> None:
    steps(run, 30)
    files.write_json(run.path / "clock.json", {"evaluation_s": 7.5, "save_s": 1.0})
    for step, value in ((10, 0.3), (20, 0.7), (30, 0.5)):
        checkpoint(run, step, value)
    found = status(run.path)
    assert (found["state"], found["step"], found["step_s"]) == ("stopped", 30, 2.0)
    assert found["left_s"] == 10 * 2.0 + 7.5
    assert found["reward_start"] == pytest.approx(0.055)
    assert found["reward_now"] == pytest.approx(0.255)
    assert (found["checkpoint"]["name"], found["checkpoint"]["step"]) == ("checkpoint-30", 30)
    assert 0 <= found["checkpoint"]["age_s"] < 600
    assert found["best"] == {"name": "checkpoint-20", "metric": "reward", "value": 0.7}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    lines = shown(run)
    assert lines["step"] == "30 of 40, 2 s per step, about 28 s left"
    assert lines["reward"] == "0.255 now, 0.055 at the start (means of 10 steps)"
    assert lines["checkpoint"].endswith("s ago; best checkpoint-20 (reward 0.700)")


def test_the_best_is_the_lowest_where_less_is_better(tmp_path: Path) -> None:
    recipe = Recipe.load(grpo={"metric_for_best_model": "kl", "greater_is_better": False})
    run = Run.create(recipe, tmp_path / "run")
    for step, value in ((10, 0.3), (20, 0.7)):
        checkpoint(run, step, value)
    assert status(run.path)["best"]["name"] == "checkpoint-10"


def test_running_until_the_process_is_killed(run: Run) -> None:
    steps(run, 3)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        for _ in range(3):  # to look does not take the lock from its holder
            found = status(run.path)
            assert (found["state"], found["pid"], found["host"]) == ("running", process.pid, os.uname().nodename)
        assert shown(run)["state"].startswith(f"running, process {process.pid} on {os.uname().nodename}; last written ")
        (run.path / LOCK).write_text("")  # a full disk: the lock holds, its text is not there
        assert status(run.path)["state"] == "running"
        assert shown(run)["state"].startswith("running, process ? on ?; ")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = status(run.path)
    assert (found["state"], found["pid"]) == ("stopped", None)


def test_a_run_can_begin_whenever_its_status_was_asked(run: Run) -> None:
    """Someone asks all the time; the trainer gets its lock each time."""
    code = "import sys; from grpo_colab.runs.status import status\nprint(flush=True)\nwhile True: status(sys.argv[1])\n"
    with locked(run.path):
        pass  # so that there is a lock to try
    process = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(50):
            with locked(run.path):
                pass
    finally:
        process.kill()
        process.wait()


def test_finished_is_when_the_last_adapter_is_evaluated(run: Run) -> None:
    steps(run, 40)
    evaluation = {"before": {"accuracy": 0.1}, "after": {"accuracy": 0.45}, "n": 16, "step": 20}
    files.write_json(run.path / "evaluation.json", evaluation)
    assert status(run.path)["state"] == "stopped"  # it was stopped at step 20, evaluated, and gone on with
    files.write_json(run.path / "evaluation.json", evaluation | {"step": 40})
    found = status(run.path)
    assert (found["state"], found["left_s"]) == ("finished", 0)
    assert found["evaluation"] == evaluation | {"step": 40}
    assert shown(run)["evaluation"] == "10.0% right before, 45.0% after"
    further = {"new_stories": {"before": {"accuracy": 0.0}, "after": {"accuracy": 0.25}}}
    files.write_json(run.path / "evaluation.json", evaluation | {"step": 40, "further": further})
    lines = status_text(status(run.path)).splitlines()
    (place,) = [n for n, line in enumerate(lines) if line.startswith("evaluation")]
    assert lines[place + 1] == f"{'':16}new_stories: 0.0% right before, 25.0% after"
    del evaluation["step"]  # as an earlier version wrote it, at the end alone
    files.write_json(run.path / "evaluation.json", evaluation)
    assert status(run.path)["state"] == "finished"


def test_a_checkpoint_of_another_size_is_not_the_newest(run: Run) -> None:
    for step in (10, 20, 30):
        checkpoint(run, step)
    (run.checkpoints / "checkpoint-30" / "adapter_model.safetensors").write_bytes(bytes(999))
    (run.checkpoints / "checkpoint-20" / checkpoints.MANIFEST).write_text("{")
    (run.checkpoints / "checkpoint-40").mkdir()  # without a manifest
    assert status(run.path)["checkpoint"]["name"] == "checkpoint-10"
    (run.checkpoints / "checkpoint-10" / "adapter_model.safetensors").unlink()
    assert status(run.path)["checkpoint"] is None


def test_the_mirror_and_how_far_it_is_behind(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(budget={"mirror": "hf://me/runs"}), tmp_path / "run")
    steps(run, 25)
    assert shown(run)["mirror"] == "hf://me/runs, nothing there yet"
    state = {"destination": "hf://me/runs", "step": 20, "at": "x", "error": "ConnectionError: refused", "failures": 2}
    files.write_json(run.path / "mirror.json", state)
    assert status(run.path)["mirror"] == state | {"behind": 5}
    assert shown(run)["mirror"] == "hf://me/runs, 5 steps behind; ConnectionError: refused"


def test_what_stopped_a_run_is_told_until_it_has_gone_on(run: Run) -> None:
    steps(run, 12)
    files.write_json(run.path / "tripwire.json", {"wire": "max_kl", "step": 12, "seen": [1e9], "what": "the KL was 9"})
    run.save_failure({"reward": "own", "step": 13, "what": "gave nan", "index": None, "columns": {}})
    found = status(run.path)
    assert found["tripwire"] == {"wire": "max_kl", "step": 12, "what": "the KL was 9", "suggestion": None}
    assert found["reward_failure"] == {"reward": "own", "step": 13, "what": "gave nan"}
    lines = shown(run)
    assert lines["tripwire"] == "max_kl at step 12: the KL was 9; see tripwire.json"
    assert lines["reward failure"] == "own gave nan at step 13; see reward-failure.json"
    files.append(run.path / "metrics.jsonl", files.lines([{"step": 13}]))
    found = status(run.path)
    assert (found["tripwire"], found["reward_failure"]) == (None, None)


def test_the_last_three_warnings_and_how_many_there_are(run: Run) -> None:
    steps(run, 5)
    odd = "\x1b[31m\x9b2Jred\r\x07\n“語\u202e”\x00"
    rows = [{"step": n, "kind": "cut_off", "text": f"{odd} {n}"} for n in range(1, 6)]
    files.append(run.path / "warnings.jsonl", files.lines(rows))
    assert status(run.path)["warnings"] == rows
    last = status_text(status(run.path)).splitlines()[-3:]
    assert [line[:24] for line in last] == [
        f"{head:<16}step {n}: " for head, n in (("warnings (5)", 3), ("", 4), ("", 5))
    ]
    assert last[-1].endswith(r"\x1b[31m\x9b2Jred \x07 “語\u202e”\x00 5")
    shown(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "warnings.jsonl", "evaluation.json", "clock.json", "mirror.json",
                                  "phase.json", "tripwire.json", "reward-failure.json", "collapse.json",
                                  LOCK])  # fmt: skip
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 50, b'{"step": 3, "re', b'{"step": null}\n', b'{"step": "x", "text": 1}\n', b"[1]\n", b"\xff\xfe\n"],
)
def test_a_file_that_is_empty_torn_or_of_another_kind(run: Run, name: str, content: bytes) -> None:
    steps(run, 3)
    (run.path / name).write_bytes(content)
    found = status(run.path)
    assert (found["state"], found["step"]) in (("stopped", 3), ("not begun", 0), ("finished", 3))
    json.dumps(found, allow_nan=False)
    shown(run)


def test_a_torn_line_in_the_middle_and_metrics_without_a_reward(run: Run) -> None:
    lines = [
        '{"step": 1, "reward": NaN}',
        '{"step": 2, "rew',
        '{"step": 3, "reward": null}',
        '{"step": 4}',
        '{"step": 5',
    ]
    (run.path / "metrics.jsonl").write_text("\n".join(lines))
    found = status(run.path)
    assert (found["step"], found["reward_start"], found["reward_now"]) == (4, None, None)
    assert (found["step_s"], found["left_s"]) == (None, None)
    assert shown(run)["step"] == "4 of 40"


def test_a_clock_that_jumped_gives_no_negative_age(run: Run) -> None:
    saved = checkpoint(run, 10)
    for path in (*run.path.iterdir(), saved / checkpoints.MANIFEST):
        os.utime(path, (time.time() + 1e6,) * 2)
    found = status(run.path)
    assert (found["last_written_s"], found["checkpoint"]["age_s"]) == (0, 0)
    assert "saved 0 s ago" in shown(run)["checkpoint"]


def test_another_versions_recipe_and_keys(run: Run) -> None:
    text = (run.path / "recipe.toml").read_text()
    (run.path / "recipe.toml").write_text('[orbit]\nkind = "new"\n' + text.replace("[budget]", "[budget]\nnew = 1"))
    steps(run, 3, novelty={"a": 1})
    files.write_json(run.path / "mirror.json", {"destination": "x", "step": "three", "parts": [1]})
    assert status(run.path)["step"] == 3
    shown(run)
    (run.path / "recipe.toml").write_text("budget = 3\n[grpo")
    found = status(run.path)
    assert (found["state"], found["recipe"], found["max_steps"]) == ("stopped", None, None)
    assert shown(run)["step"].startswith("3 of ?")


def test_a_checkpoint_that_only_its_owner_may_read(run: Run) -> None:
    """Root may read all, so that a lesser user asks."""
    steps(run, 3)
    (run.checkpoints / "checkpoint-1").mkdir(parents=True, mode=0o700)
    code = (
        "import os, filelock; from grpo_colab.runs.status import status\n"
        "os.geteuid() == 0 and os.setuid(65534)\nprint(status('.')['checkpoint'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run.path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "None", done.stderr[-2000:]


def test_a_lock_that_cannot_be_tried(run: Run) -> None:
    """Of another person's run, which one may read alone. Root may lock all, so that a lesser user asks for it."""
    with locked(run.path):
        pass
    steps(run, 3)
    (run.path / LOCK).chmod(0o444)
    run.path.chmod(0o555)
    code = (
        "import os, filelock; from grpo_colab.runs.status import status\n"
        "os.geteuid() == 0 and os.setuid(65534)\nprint(status('.')['state'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=run.path, capture_output=True, text=True, check=False)
    run.path.chmod(0o755)
    assert done.stdout.strip() == "unknown", done.stderr[-2000:]


def test_it_reads_without_torch_or_the_libraries(run: Run) -> None:
    steps(run, 3)
    code = (
        "import sys; from grpo_colab.runs.status import status, status_text\nprint(status_text(status(sys.argv[1])))\n"
        "print([name for name in ('torch', 'transformers', 'trl', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
