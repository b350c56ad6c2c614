"""W&B, TensorBoard and trackio hold what the run's folder holds: read back with their own readers, and served for real.

One process trains three runs with a terminal on which nobody types, no key, no network and an empty home: a run, the
same run resumed, and one whose completions are hostile.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pty
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.rewards.names import reward_key

pytest.importorskip("wandb")
pytest.importorskip("trackio")
pytest.importorskip("tensorboard")
sys.path.insert(0, str(Path(__file__).parents[1]))
from wandb_server import WandbServer

pytestmark = pytest.mark.long  # test_tracking.py has the rest of the trackers, and is quicker

TOKEN = "hf_thisIsNobodysToken"
# Nothing outside answers: whoever asks for more than this machine gets an error, and the tests see that none did.
ALONE = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
    "PYTHONUNBUFFERED": "1",
    "BROWSER": "true",  # what trackio opens its dashboard with
}
NAMES = ("WANDB_", "TRACKIO_", "TENSORBOARD_", "HF_TOKEN")  # of a user's own settings
MEASURED = ("_prepare_inputs", "compute_loss", "correctness_reward")  # some of the parts of a step that TRL measures
HOSTILE = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">```</pre>\x1b[31m\x00"
# Its completions are hostile; from the third step on what it logs has no type that a table could hold.
REWARD = f"""
texts = [{HOSTILE!r}, "x" * 1_000_000, "", "plain"]
calls = 0

def hostile(completions, log_extra, **kwargs):
    global calls
    calls += 1
    for index, completion in enumerate(completions):
        completion[0]["content"] = texts[index % 4]
    log_extra("note", (["a", 3, "\\ud800", None] if calls > 2 else [{HOSTILE!r}] * 4) * (len(completions) // 4))
    return [float(index % 4) for index in range(len(completions))]
"""
DRIVER = """
import importlib, sys
from pathlib import Path
import unsloth
from grpo_colab import Recipe
from grpo_colab.utils.device import current_device
from grpo_colab.policy.loading import load_policy
train = importlib.import_module("grpo_colab.training.train").train

def recipe(steps, rewards, **grpo):
    return Recipe.load(
        task={"limit": 32},
        model={"token": sys.argv[-1]},
        rewards=rewards,
        grpo={
            "num_generations": 4, "max_completion_length": 12, "report_to": ["wandb", "tensorboard", "trackio"],
            "hub_token": sys.argv[-1], **grpo
        },
        budget={"max_steps": steps, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 4},
    )

loaded = load_policy(recipe(2, {}), current_device())
train(recipe(2, {}), out="clean", loaded=loaded)
train(recipe(3, {}), resume="clean", loaded=loaded)
only = dict.fromkeys(["correctness", "integer", "strict_format", "soft_format", "tag_count"], False)
reward = str(Path("reward.py").absolute()) + ":hostile"
train(recipe(4, {reward: 1.0, **only}, run_name="of another name"), out="hostile", loaded=loaded)
"""


class Trained:
    """The folder in which the runs are, and what was said meanwhile."""

    def __init__(self, base: Path, said: str, out: str) -> None:
        self.base, self.said, self.out = base, said, out
        self.env = own_environment(base)

    def python(self, *arguments: str, **environment: str) -> str:
        """What this Python prints, run beside the runs with nobody to ask; it must end well."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.base,
            env=self.env | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, run: str, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.base / run / name).read_text().split("\n") if line]

    def metrics(self, run: str) -> dict[int, dict[str, float]]:
        """The metrics that have a value, by their names in a tracker, of each step."""
        return {
            row["step"]: {f"train/{k}": v for k, v in row.items() if k != "step" and v is not None}
            for row in self.rows(run, "metrics.jsonl")
        }

    def completions(self, run: str) -> list[tuple[Any, ...]]:
        return sorted(
            (row["step"], row["completion"], tuple(row["rewards"].values()), row["advantage"])
            for row in self.rows(run, "completions.jsonl")
        )

    def config(self, run: str) -> dict[str, Any]:
        return tomllib.loads((self.base / run / "recipe.toml").read_text())


def own_environment(base: Path) -> dict[str, str]:
    users = {name: value for name, value in os.environ.items() if not name.startswith(NAMES)}
    return {**users, **ALONE, "HOME": str(base / "home"), "HF_HOME": str(base / "home" / "hf"), "NETRC": os.devnull}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    base = tmp_path_factory.mktemp("trackers")
    (base / "home").mkdir()
    (base / "reward.py").write_text(REWARD)
    (base / "driver.py").write_text(DRIVER)
    ours, theirs = pty.openpty()  # who asks for input there waits until the test fails
    with (base / "said").open("w") as said, (base / "out").open("w") as out:
        done = subprocess.run(
            [sys.executable, "driver.py", "--model.token", TOKEN],
            cwd=base,
            env=own_environment(base) | {"WANDB_LOG_MODEL": "end", "TRACKIO_LOG_MODEL": "end"},
            stdin=theirs,
            stdout=out,
            stderr=said,
            timeout=600,
            check=False,
        )
    os.close(ours)
    os.close(theirs)
    trained = Trained(base, (base / "said").read_text(), (base / "out").read_text())
    assert done.returncode == 0, trained.said
    return trained


def test_the_runs_go_on_with_each_tracker_and_are_not_asked_anything(trained: Trained) -> None:
    assert sorted(trained.metrics("clean")) == [1, 2, 3]
    assert sorted(trained.metrics("hostile")) == [1, 2, 3, 4]
    assert "off for the rest of this run" not in trained.said.replace("the table of completions is off", "")
    assert trained.said.count("the table of completions is off") == 1  # of the third step's notes
    assert not re.search(r"Enter your choice|\[y/N\]|API key:", trained.said)
    assert "* Trackio" not in trained.out and "╭" not in trained.out  # stdout is for results
    for line in ("W&B is offline (no API key).", "TensorBoard: tensorboard --logdir clean/tensorboard", "trackio show"):
        assert line in trained.said


def test_a_token_is_written_nowhere(trained: Trained) -> None:
    """Neither in what a tracker keeps, nor in the run folders, whose checkpoints have the trainer's arguments."""
    files = [path for path in trained.base.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {".wandb", ".db"} <= {path.suffix for path in files}
    assert {"recipe.toml", "training_args.bin", "environment.json"} <= {path.name for path in files}
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def equal(told: Mapping[str, Any], run: Mapping[str, float], relative: float = 0.0) -> bool:
    """Whether a tracker was told all of a step's metrics, and no others."""
    return {k for k, v in told.items() if v is not None} - {"train/global_step"} == set(run) and all(
        math.isclose(told[name], value, rel_tol=relative) for name, value in run.items()
    )


def contains(told: Mapping[str, Any], recipe: Mapping[str, Any]) -> bool:
    return all(
        contains(told[key], value) if isinstance(value, dict) else told[key] == value for key, value in recipe.items()
    )


# W&B: `wandb sync` reads the offline files, and a server on this machine gets what is in them.


@pytest.fixture(scope="module")
def synced(trained: Trained) -> Iterator[WandbServer]:
    folders = sorted(str(path) for path in trained.base.glob("*/wandb/offline-run-*"))
    assert len(folders) == 3  # the resumed run has two
    with WandbServer() as server:
        trained.python("-m", "wandb", "sync", *folders, **server.environment())
        yield server


def wandb_id(trained: Trained, run: str) -> str:
    return str(json.loads((trained.base / run / "wandb.json").read_text())["id"])


@pytest.mark.parametrize("run", ["clean", "hostile"])
def test_wandb_has_every_metric_and_the_recipe(trained: Trained, synced: WandbServer, run: str) -> None:
    key = wandb_id(trained, run)
    steps = {row["train/global_step"]: row for row in synced.history[key] if "train/reward" in row}
    metrics = trained.metrics(run)
    assert set(steps) == set(metrics)
    for step, row in steps.items():
        assert equal({k: v for k, v in row.items() if k.startswith("train/")}, metrics[step])
    assert contains(synced.configs[key], trained.config(run))


def test_wandb_has_what_trl_measures(trained: Trained, synced: WandbServer) -> None:
    rows = synced.history[wandb_id(trained, "clean")]
    for part in MEASURED:
        assert len([row for row in rows if f"profiling/Time taken: GRPOTrainer.{part}" in row]) == 3, part


@pytest.mark.parametrize(("run", "steps"), [("clean", (1, 2, 3)), ("hostile", (1, 2))])
def test_wandb_has_the_completions_with_their_rewards(
    trained: Trained, synced: WandbServer, run: str, steps: tuple[int, ...]
) -> None:
    found = set()
    for name, content in synced.files[wandb_id(trained, run)].items():
        if name.startswith("media/table/completions_"):
            found |= set(of_table(rows_of(json.loads(content)), trained.rows(run, "completions.jsonl")[0]["rewards"]))
    assert sorted(found) == sorted({row for row in trained.completions(run) if row[0] in steps})


def rows_of(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def of_table(rows: list[dict[str, Any]], rewards: Mapping[str, float]) -> list[tuple[Any, ...]]:
    """Return the rows as a run's completions are; TRL's table has its own name for a reward, the function's."""
    found = []
    for row in rows:
        by_key = {reward_key(name): value for name, value in row.items()}
        found.append((row["step"], row["completion"], tuple(by_key[name] for name in rewards), row["advantage"]))
    return found


def test_wandb_has_the_adapter_as_an_artifact(trained: Trained, synced: WandbServer) -> None:
    key = wandb_id(trained, "clean")
    files = {
        name.removeprefix(f"model-{key}/"): content
        for name, content in synced.artifacts[key].items()
        if name.startswith("model-")
    }
    assert files.pop("manifest")
    check_adapter(trained, files)


def check_adapter(trained: Trained, files: dict[str, bytes]) -> None:
    """The files are those of the adapter; its card is of the end of the training, before there was a result."""
    own = {path.name: path.read_bytes() for path in (trained.base / "clean" / "adapter").iterdir()}
    assert files.keys() == own.keys()
    assert [name for name in own if files[name] != own[name]] == ["README.md"]
    assert b"Not evaluated." in files["README.md"]
    assert b"Not evaluated." not in own["README.md"]


# TensorBoard


def events(trained: Trained, run: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(trained.base / run / "tensorboard"), {"scalars": 0, "tensors": 0}).Reload()


def texts(trained: Trained, run: str, tag: str) -> dict[int, str]:
    tensors = events(trained, run).Tensors(f"{tag}/text_summary")
    return {event.step: event.tensor_proto.string_val[0].decode() for event in tensors}


@pytest.mark.parametrize("run", ["clean", "hostile"])
def test_tensorboard_has_every_metric_and_the_recipe(trained: Trained, run: str) -> None:
    read = events(trained, run)
    steps: dict[int, dict[str, float]] = {step: {} for step in trained.metrics(run)}
    for tag in read.Tags()["scalars"]:
        for event in read.Scalars(tag):
            steps[event.step].setdefault(tag, event.value)
    summary = {"train/train_runtime", "train/train_samples_per_second", "train/train_steps_per_second"}
    summary |= {"train/total_flos", "train/train_loss"}
    for step, metrics in trained.metrics(run).items():
        told = {tag: value for tag, value in steps[step].items() if tag not in summary}
        assert equal(told, metrics, relative=1e-6)  # it keeps 32 bits
    recipe = json.loads(texts(trained, run, "recipe")[0])
    assert contains(recipe, trained.config(run))


@pytest.mark.parametrize("run", ["clean", "hostile"])
def test_tensorboard_has_the_best_and_the_worst_completion_of_each_step(trained: Trained, run: str) -> None:
    shown = texts(trained, run, "completions")
    assert set(shown) == set(trained.metrics(run))
    for step, text in shown.items():
        rows = [row for row in trained.completions(run) if row[0] == step]
        best, worst = (choose(rows, key=lambda row: row[3]) for choose in (max, min))
        assert text.startswith(f"advantage {best[3]:.3g}, ")
        assert f"---\n\nadvantage {worst[3]:.3g}, " in text
        candidates = [row[1] for row in rows if row[3] == best[3]]
        assert any(all(f"    {line}" in text for line in said.splitlines()) for said in candidates)
        assert len(text) < 40_000
        outside = [line for line in text.splitlines() if not line.startswith("    ")]
        assert not [line for line in outside if "<" in line or "\x1b" in line]  # all of it is shown as it is


def test_a_tensorboard_serves_them(trained: Trained) -> None:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", ".", "--port", "0", "--host", "127.0.0.1"]
    with served(trained, command, r"at (http://127\.0\.0\.1:\d+)") as url:
        wanted = {run: set().union(*trained.metrics(run).values()) for run in ("clean", "hostile")}
        for _ in range(300):  # it reads while it serves
            tags = asked(f"{url}/data/plugin/scalars/tags")
            if all(wanted[run] <= set(tags.get(f"{run}/tensorboard", {})) for run in wanted):
                break
            time.sleep(0.2)
        where = urllib.parse.urlencode({"run": "clean/tensorboard", "tag": "train/reward"})
        points = asked(f"{url}/data/plugin/scalars/scalars?{where}")
        assert [step for _, step, _ in points] == [1, 2, 3]
        assert [value for *_, value in points] == pytest.approx(
            [metrics["train/reward"] for metrics in trained.metrics("clean").values()]
        )
        where = urllib.parse.urlencode({"run": "hostile/tensorboard", "tag": "completions/text_summary"})
        shown = asked(f"{url}/data/plugin/text/text?{where}")
        assert [event["step"] for event in shown] == [1, 2, 3, 4]
        # as text, in the page that it makes of it
        assert all("<script" not in event["text"] and "<img" not in event["text"] for event in shown)
        assert sum("&lt;script&gt;" in event["text"] for event in shown) == 4


@contextlib.contextmanager
def served(trained: Trained, command: list[str], says: str, **env: str) -> Iterator[str]:
    """The URL that a server says it is at."""
    log = trained.base / "served"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=trained.base, env=trained.env | env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        for _ in range(600):
            if (found := re.search(says, log.read_text())) or server.poll() is not None:
                break
            time.sleep(0.2)
        assert found, log.read_text()
        yield found[1].rstrip("/")
    finally:
        server.terminate()
        server.wait(timeout=30)


def asked(url: str, body: Any = None) -> Any:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return json.load(answer)


# trackio


READ = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
read = {}
for run in trackio.Api().runs("huggingface"):
    assert run.name not in read, run.name
    read[run.name] = {"id": run.id, "config": run.config, "logs": SQLiteStorage.get_logs("huggingface", run.name)}
print(json.dumps(read))
"""


@pytest.fixture(scope="module")
def tracked(trained: Trained) -> dict[str, dict[str, Any]]:
    """What trackio's own API reads of each run, by its name."""
    said = trained.python("-c", READ)
    return dict(json.loads(said.splitlines()[-1]))


NAMED = [("clean", "clean"), ("hostile", "of another name")]


@pytest.mark.parametrize(("run", "name"), NAMED)
def test_trackio_has_every_metric_at_its_step_and_the_recipe(
    trained: Trained, tracked: dict[str, dict[str, Any]], run: str, name: str
) -> None:
    rows = [row for row in tracked[name]["logs"] if "train/reward" in row]
    assert [row["step"] for row in rows] == sorted(trained.metrics(run))  # a resumed run goes on in its own
    for row in rows:
        told = {k: v for k, v in row.items() if k.startswith("train/")}
        assert equal(told, trained.metrics(run)[row["step"]])
    assert contains(tracked[name]["config"], trained.config(run))


def test_trackio_has_what_trl_measures_of_each_step(tracked: dict[str, dict[str, Any]]) -> None:
    for part in MEASURED:
        rows = [row for row in tracked["clean"]["logs"] if f"profiling/Time taken: GRPOTrainer.{part}" in row]
        assert [row["step"] for row in rows] == [0, 1, 2], part  # those that were done when it began


@pytest.mark.parametrize(("run", "name", "steps"), [(*NAMED[0], (1, 2, 3)), (*NAMED[1], (1, 2))])
def test_trackio_has_the_completions_with_their_rewards(
    trained: Trained, tracked: dict[str, dict[str, Any]], run: str, name: str, steps: tuple[int, ...]
) -> None:
    rewards = trained.rows(run, "completions.jsonl")[0]["rewards"]
    tables = [row for row in tracked[name]["logs"] if "completions" in row]
    found = {tuple(cells) for row in tables for cells in of_table(row["completions"]["_value"], rewards)}
    assert sorted(found) == sorted({row for row in trained.completions(run) if row[0] in steps})
    assert all(row["step"] == row["completions"]["_value"][0]["step"] for row in tables)


def test_trackio_has_the_adapter_as_an_artifact(trained: Trained, tracked: dict[str, dict[str, Any]]) -> None:
    fetch = "import json, sys, trackio; trackio.init('huggingface', 'reader', embed=False)\n"
    fetch += "print(json.dumps(str(trackio.use_artifact(sys.argv[1]).download())))"
    said = trained.python("-c", fetch, f"model-{tracked['clean']['id']}")
    (folder,) = (json.loads(line) for line in said.splitlines() if line.startswith('"'))
    fetched = {path.name: path.read_bytes() for path in (trained.base / folder).iterdir()}
    check_adapter(trained, fetched)


def test_trackio_show_serves_them(trained: Trained) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "trackio.cli", "show", "--project", "huggingface"]
    with served(trained, command, r"(http://127\.0\.0\.1:\d+/)", GRADIO_SERVER_PORT=port) as url:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as page:
            assert b"<html" in page.read()
        logs = asked(f"{url}/api/get_logs", {"project": "huggingface", "run": "clean"})["data"]
        rewards = {row["step"]: row["train/reward"] for row in logs if "train/reward" in row}
        assert rewards == {step: metrics["train/reward"] for step, metrics in trained.metrics("clean").items()}
