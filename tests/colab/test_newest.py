"""colab/newest.py: which pins may move, by the wheels of an index on loopback; and today, by those of the real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import colab_wheels as wheels  # noqa: E402

sys.path.remove(str(HERE))

ROOT = HERE.parents[1]
LINES = (ROOT / "colab" / "lock-cpu.txt").read_text().splitlines()
LOCKED = dict(line.split("==") for line in LINES if line and not line.startswith("#"))
WATCHED = ("trl", "transformers", "peft", "datasets")
# No release has ever had these versions: each is newer than the locked one, whatever that is.
NEXT, AFTER = "9000.0", "9001.0"


Done = subprocess.CompletedProcess[str]


def newest(**environment: str) -> Done:
    script = ROOT / "colab" / "newest.py"
    return subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., Done]]:
    """Run it where the index has the locked versions, `more` releases, and an Unsloth that requires `limits`."""
    with wheels.Index(tmp_path) as index:

        def run(more: dict[str, list[str]], limits: list[str], unsloth: str) -> Done:
            for name in WATCHED:
                for version in (LOCKED[name], *more.get(name, [])):
                    wheels.write_wheel(tmp_path, name, version)
            for name in ("unsloth", "unsloth_zoo"):
                wheels.write_wheel(tmp_path, name, LOCKED[name], [f"{one}<=0" for one in WATCHED])
                wheels.write_wheel(tmp_path, name, unsloth, limits)
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
            more_environment = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url, "NO_PROXY": "127.0.0.1"}
            return newest(**environment | more_environment)

        yield run


def test_where_the_newest_unsloth_forbids_them_no_pin_moves(ask: Callable[..., Done]) -> None:
    limits = [f"trl!=0.19.0,<={LOCKED['trl']}", "transformers", "torch>=2", 'peft<=0; extra == "huggingface"']
    done = ask({"trl": [NEXT]}, limits, LOCKED["unsloth"])
    assert done.returncode == 0, done.stderr
    unsloth, zoo, trl, transformers, *_, last = done.stdout.splitlines()
    assert unsloth == f"unsloth {LOCKED['unsloth']} is the newest."
    assert zoo == f"unsloth-zoo {LOCKED['unsloth_zoo']} is the newest."
    why = "; ".join(f"{name} {LOCKED['unsloth']} requires trl<={LOCKED['trl']}" for name in ("unsloth", "unsloth-zoo"))
    assert trl == f"trl {LOCKED['trl']} stays, though {NEXT} is out: {why}."
    assert transformers == f"transformers {LOCKED['transformers']} is the newest."
    assert last == "No pin may move today."


def test_what_a_newer_unsloth_allows_may_move_as_far_as_it_allows(ask: Callable[..., Done]) -> None:
    more = {"trl": [NEXT, AFTER], "transformers": [NEXT], "peft": [NEXT], "datasets": []}
    done = ask(more, [f"trl<{AFTER}", f"transformers<={AFTER}", f"peft!={NEXT}"], NEXT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"unsloth {LOCKED['unsloth']} may move to {NEXT}."
    why = f"unsloth {NEXT} requires trl<{AFTER}; unsloth-zoo {NEXT} requires trl<{AFTER}"
    assert lines[2] == f"trl {LOCKED['trl']} may move to {NEXT}, not yet to {AFTER}: {why}."
    assert lines[3] == f"transformers {LOCKED['transformers']} may move to {NEXT}."
    assert lines[4].startswith(f"peft {LOCKED['peft']} stays, though {NEXT} is out: unsloth {NEXT} requires peft!=")
    assert lines[5] == f"datasets {LOCKED['datasets']} is the newest."
    assert lines[6].startswith("Pins may move today: unsloth, unsloth-zoo, trl, transformers. Change them in pyproject")
    assert "make test-all" in lines[6]


def test_without_an_answer_it_says_so(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = newest(**environment, PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.match("pip found no answer; check the network and the index: .*unsloth", done.stderr)


@pytest.mark.long
def test_the_pins_are_the_newest_that_unsloth_allows_today() -> None:
    """A pin that may move is a warning in the summary, and no failure: nothing here has changed."""
    done = newest(**os.environ)
    if done.returncode:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip()}")
    named = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert named == ["unsloth", "unsloth-zoo", *WATCHED]
    if "No pin may move" not in done.stdout:
        warnings.warn(done.stdout.splitlines()[-1], stacklevel=1)
