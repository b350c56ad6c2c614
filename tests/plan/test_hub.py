"""A model that is on the hub alone: a plan downloads its configuration, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.recipe.recipe import TINY_MODEL

PLAN = """
import sys
FIELDS = ("setting", "value", "problem", "remedy")
import transformers  # as the command line does: nothing is trained here
from grpo_colab import Recipe
from grpo_colab.errors import SettingError
from grpo_colab.plan import plan
import json
for failure in sys.argv[1:]:
    name = "someone/adapter" if failure == "adapter" else "someone/tiny"
    print(failure, flush=True)
    sys.stdin.readline()  # until the hub is as it should be
    try:
        print(plan(Recipe.load(model={"model_name": name}), "T4").parameters, flush=True)
    except SettingError as error:
        print(json.dumps({name: getattr(error, name) for name in FIELDS}), flush=True)
print("end", "unsloth" in sys.modules, flush=True)
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    with Hub() as served:
        yield served


def test_only_the_configuration_is_asked_for(hub: Any, tmp_path: Path) -> None:
    hub.repositories["someone/tiny"] = {path.name: path.read_bytes() for path in TINY_MODEL.iterdir()}
    adapter = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "someone/tiny"})
    hub.repositories["someone/adapter"] = {"adapter_config.json": adapter.encode()}
    failures = ["gated", "404", "hang", "good", "adapter"]  # what was had is cached, so the good answer comes last
    process = subprocess.Popen(
        [sys.executable, "-c", PLAN, *failures],
        env={**hub.environment(tmp_path), "HF_HUB_ETAG_TIMEOUT": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: dict[str, str] = {}
    word = ""
    for line in process.stdout:
        if line.strip() in failures:
            word = line.strip()
            hub.failure = None if word in ("good", "adapter") else word
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            said[word] = said.get(word, "") + line
    assert process.wait() == 0
    errors = {failure: json.loads(said[failure]) for failure in ("gated", "404", "hang")}
    for error in errors.values():
        assert (error["setting"], error["value"]) == ("model.model_name", "someone/tiny")
    assert errors["gated"]["problem"] == "is gated"
    assert "ask for access on https://huggingface.co/someone/tiny" in errors["gated"]["remedy"]
    for failure in ("404", "hang"):
        assert "configuration cannot be read" in errors[failure]["problem"]
        assert "download config.json from the model's page into a folder" in errors[failure]["remedy"]
    assert "does not answer" in errors["hang"]["problem"]
    parameters, end = said["adapter"].split("\n")[:2]
    assert int(parameters) > 500_000
    assert said["good"] == f"{parameters}\n"
    assert end == "end False"
    files = {request.rpartition("/")[2].partition("?")[0] for request in hub.requests if "tiny/resolve/" in request}
    assert files == {"config.json"}
    files = {request.rpartition("/")[2].partition("?")[0] for request in hub.requests if "adapter/resolve/" in request}
    assert files == {"config.json", "adapter_config.json"}
