"""A model from the hub, and a hub that refuses it: the error says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.recipe.recipe import TINY_MODEL

LOAD = """
import json, sys
from grpo_colab.errors import SettingError
from grpo_colab.utils.device import current_device
from grpo_colab.policy.loading import load_policy
from grpo_colab.recipe.recipe import Recipe
for failure in sys.argv[1:]:
    print(failure, flush=True)
    sys.stdin.readline()  # until the hub is as it should be
    try:
        policy = load_policy(Recipe.load(model={"model_name": "someone/tiny"}), current_device())
        print(policy.model.num_parameters(), flush=True)
    except SettingError as error:
        fields = ("setting", "value", "problem", "remedy")
        print(json.dumps({name: getattr(error, name) for name in fields}), flush=True)
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    with Hub() as served:
        yield served


@pytest.mark.long
def test_what_the_hub_answers_is_what_one_reads(hub: Any, tmp_path: Path) -> None:
    """One process asks again and again, and the hub answers otherwise each time."""
    hub.repositories["someone/tiny"] = {path.name: path.read_bytes() for path in TINY_MODEL.iterdir()}
    # what was loaded is cached, so the good answer comes last
    failures = ["gated", "401", "404", "500", "hang", "reset", "good"]
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD, *failures],
        env={**hub.environment(tmp_path), "HF_HUB_ETAG_TIMEOUT": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: dict[str, list[str]] = {}
    for line in process.stdout:
        word = line.strip()
        if word in failures:
            hub.failure = None if word == "good" else word
            lines = said.setdefault(word, [])
            process.stdin.write("\n")
            process.stdin.flush()
        elif said:
            lines.append(word)
    assert process.wait() == 0
    errors = {word: json.loads(lines[-1]) for word, lines in said.items() if word != "good"}
    for error in errors.values():
        assert (error["setting"], error["value"]) == ("model.model_name", "someone/tiny")
    assert errors["gated"]["problem"] == "is gated"
    for words in (
        "ask for access on https://huggingface.co/someone/tiny",
        "then set HF_TOKEN or run `hf auth login`",
        "'unsloth/tiny'",
    ):
        assert words in errors["gated"]["remedy"]
    for failure in ("401", "404"):
        assert "cannot be loaded" in errors[failure]["problem"]
        assert "write the name of a model on the hub that you can reach" in errors[failure]["remedy"]
    # the loader by itself would try each of its files for minutes
    for failure in ("500", "hang", "reset"):
        assert "does not answer" in errors[failure]["problem"]
    assert said["good"][-1].isdigit()
