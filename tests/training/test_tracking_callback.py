"""The trackers that are transformers' callbacks, and what TRL measures, reach their libraries; what fails is left out.

The stand-ins are for libraries that are not installed here; the callback that calls them is the real one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.runs.run import Run
from grpo_colab.training import tracking

pytestmark = pytest.mark.stack


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """What a tracker named comet_ml was told: each event, and the callback's number."""
    from transformers import TrainerCallback
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    events: list[tuple[Any, ...]] = []
    hangs = threading.Event()

    class CometCallback(TrainerCallback):
        made = 0

        def __init__(self) -> None:
            CometCallback.made += 1
            self.number = CometCallback.made

        def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            events.append(("init", self.number))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            print("printed by a library")
            if logs == "breaks":
                raise OSError("no route to host")
            if logs == "hangs":
                hangs.wait()
            events.append(("log", self.number, logs))

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            events.append(("end", self.number))

    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "comet_ml", CometCallback)
    yield events
    hangs.set()


def tracker_callback(folder: Path, report_to: str | list[str]) -> Any:
    from grpo_colab.training.tracking_callback import TrackerCallback

    recipe = Recipe.load(grpo={"report_to": report_to})
    return TrackerCallback(Run.create(recipe, folder), recipe)


STATE = SimpleNamespace(is_world_process_zero=True, global_step=0)
ARGS = SimpleNamespace(to_dict=dict)


def test_a_callback_of_transformers_hears_all_and_is_made_anew_for_each_trainer(
    tmp_path: Path, told: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    with tracker_callback(tmp_path / "run", ["comet_ml"]) as trackers:
        for _ in range(2):
            trackers.on_init_end(ARGS, STATE, None)
            trackers.on_train_begin(ARGS, STATE, None)
            trackers.on_step_end(ARGS, STATE, None)
            trackers.on_log(ARGS, STATE, None, logs={"reward": 1.0})
            trackers.on_train_end(ARGS, STATE, None)
    assert told == [
        *[("init", 1), ("log", 1, {"reward": 1.0}), ("end", 1)],
        *[("init", 2), ("log", 2, {"reward": 1.0}), ("end", 2)],
    ]
    said = capsys.readouterr()
    assert said.out == ""  # for results
    assert said.err.count("printed by a library") == 2


@pytest.mark.parametrize(("how", "why"), [("breaks", "OSError: no route to host"), ("hangs", "no answer in 0 s")])
def test_what_fails_is_left_out_and_said_once(
    how: str,
    why: str,
    tmp_path: Path,
    told: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "LIMIT_S", 0.3)
    with tracker_callback(tmp_path / "run", "comet_ml") as trackers:
        trackers.on_init_end(ARGS, STATE, None)
        trackers.on_log(ARGS, STATE, None, logs=how)
        trackers.on_log(ARGS, STATE, None, logs="after")
        trackers.on_train_end(ARGS, STATE, None)
    assert told == [("init", 1)]
    warnings = re.findall("Warning: Comet is off for the rest of this run .*", capsys.readouterr().err)
    assert len(warnings) == 1
    assert why in warnings[0]


def test_what_cannot_be_made_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    class CometCallback:
        def __init__(self) -> None:
            raise RuntimeError("its service is away")

    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "comet_ml", CometCallback)
    with tracker_callback(tmp_path / "run", ["comet_ml"]) as trackers:
        trackers.on_init_end(ARGS, STATE, None)
        trackers.on_log(ARGS, STATE, None, logs={})
    assert "Comet is off for the rest of this run (RuntimeError: its service is away)" in capsys.readouterr().err


def test_nobody_is_asked_for(tmp_path: Path) -> None:
    with tracker_callback(tmp_path / "run", "none") as trackers:
        trackers.on_init_end(ARGS, STATE, None)
        assert not trackers.integrations
        assert not trackers.trackers


def test_what_trl_measures_is_told_while_it_is_entered_and_of_trainers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.extras.profiling import ProfilingContext

    def measure() -> None:
        for name, step, main in (("part", 3, True), ("of no trainer", None, True), ("of another process", 3, False)):
            with ProfilingContext(name=f"GRPOTrainer.{name}", report_to=[], is_main_process=main, step=step):
                pass

    trl_s_own = ProfilingContext._log_metrics
    measured: list[tuple[dict[str, float], int]] = []
    trackers = tracker_callback(tmp_path / "run", "none")
    monkeypatch.setattr(trackers, "log_timing", lambda values, step: measured.append((values, step)))
    with trackers:
        measure()
    measure()
    ((values, step),) = measured
    assert [*values] == ["profiling/Time taken: GRPOTrainer.part"]
    assert 0 <= values["profiling/Time taken: GRPOTrainer.part"] < 5
    assert step == 3
    assert ProfilingContext._log_metrics is trl_s_own


def test_a_tracker_that_is_not_there_is_refused() -> None:
    # without the sentences, which list what is installed and what transformers has
    with refused("grpo.report_to", ["wandbb"], problem="wandbb", remedy="did you mean 'wandb'", snapshot=False):
        tracking.check_trackers({"report_to": ["wandbb"]})
    if importlib.util.find_spec("swanlab") is None:
        with refused("grpo.report_to", "swanlab", problem="is not installed", remedy="pip install", snapshot=False):
            tracking.check_trackers({"report_to": "swanlab"})


def test_a_signal_in_the_upload_of_the_adapter_ends_all_that_was_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of training a signal is raised, which no guard catches; the upload may take five minutes."""
    from trl.extras.profiling import ProfilingContext

    trackers = tracker_callback(tmp_path / "run", ["trackio"])
    trackers.run.adapter.mkdir()
    before = ProfilingContext._log_metrics

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trackers, "_log_adapter", interrupted)
    with pytest.raises(KeyboardInterrupt), trackers:
        assert ProfilingContext._log_metrics is not before
    assert ProfilingContext._log_metrics is before


@pytest.mark.parametrize("named", ["s3://bucket/logs", "~nobody-of-this-name/logs"])
def test_tensorboards_folder_is_what_transformers_would_take(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address of a bucket keeps its slashes, and a `~name` that nobody has stays as it is."""
    pytest.importorskip("tensorboard")
    from grpo_colab.training.tracking_tensorboard import TensorBoardTracker

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", named)
    tracker = TensorBoardTracker(Run.create(Recipe.load(), tmp_path / "run"), step=0)
    # accelerate joins these two to its folder
    assert tracker.folder == os.path.join(tracker.logging_dir_param, tracker.run_name) == named  # noqa: PTH118
