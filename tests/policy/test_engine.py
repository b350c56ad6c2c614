"""vLLM's engine beside a policy: asked only while it is awake, and let go with its run.

vLLM needs a GPU, so the engine here is a small one that keeps vLLM's rules (vllm/v1/engine/core.py): it answers nobody
while it sleeps, `sleep` and `wake_up` of one that does so already do nothing, and a worker maps its memory once.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, train
from grpo_colab.evaluation.evaluate import evaluate_run
from grpo_colab.policy.asking import check_asking
from grpo_colab.policy.engine import STANDBY
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.utils.device import Device, current_device

pytestmark = pytest.mark.stack

SHORT: dict[str, dict[str, Any]] = {
    "task": {"limit": 32},
    "budget": {"max_steps": 1, "prompts_per_step": 1, "rehearsal": False},
    "grpo": {"num_generations": 2, "max_completion_length": 8},
    "evaluation": {"n": 2, "max_completion_tokens": 8},
}


class Engine:
    """vLLM's LLM with the engine core in its own process, as Unsloth makes it. It answers with the token 4."""

    shared_weights = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.asleep = False
        self.fails = False
        self.llm_engine = SimpleNamespace(is_sleeping=lambda: self.asleep, model_executor=object())

    def sleep(self, level: int = 1) -> None:
        self.calls.append(f"sleep {level}")
        self.asleep = True

    def wake_up(self, tags: Sequence[str] | None = None) -> None:
        assert tags is None, "a part alone leaves it asleep"
        self.calls.append("wake up")
        self.asleep = False

    def generate(self, prompts: Sequence[Any], parameters: Any, lora_request: Any) -> list[Any]:
        assert not self.asleep, "vLLM would wait forever: nothing is scheduled while it sleeps"
        assert (Path(lora_request) / "adapter_model.safetensors").is_file()
        self.calls.append(f"answer {len(prompts)}")
        if self.fails:
            raise RuntimeError("the engine broke")
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(4,))]) for _ in prompts]


def with_engine(policy: Policy, engine: Engine) -> Policy:
    """Give a policy's model an engine where Unsloth does: on the base model, and on the PEFT model around it."""
    for model in (policy.model.base_model.model, policy.model):
        model.vllm_engine, model.fast_generate = engine, engine.generate
        model.fast_generate_batches = engine.generate
    policy.model.save_lora = policy.model.save_pretrained
    policy.model.load_lora = lambda folder: folder
    return policy


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The parts of vLLM that are imported here and by Unsloth's delete_vllm; what the latter ends is in the list."""
    monkeypatch.setenv("FLASHINFER_WORKSPACE_BASE", "elsewhere")  # which the first of them sets for good otherwise
    for module in ("unsloth_zoo.vllm_utils", "trl.trainer.grpo_trainer"):
        importlib.import_module(module)  # both look for the real vLLM when they are imported
    ended: list[str] = []
    parts = ("vllm", "vllm.distributed", "vllm.distributed.parallel_state")
    modules = {name: ModuleType(name) for name in parts}
    modules["vllm"].SamplingParams = lambda **settings: settings  # type: ignore[attr-defined]
    for name in ("destroy_model_parallel", "destroy_distributed_environment"):
        setattr(modules[parts[2]], name, lambda name=name: ended.append(name))
    for name in parts:
        monkeypatch.setitem(sys.modules, name, modules[name])
    yield ended


@pytest.fixture(scope="module")
def plain() -> Policy:
    return load_policy(Recipe.load(), current_device())


@pytest.fixture
def policy(plain: Policy) -> Iterator[tuple[Policy, Engine]]:
    engine = Engine()
    yield with_engine(plain, engine), engine
    plain.close()


def ask(policy: Policy) -> list[str]:
    return policy.generate([[{"role": "user", "content": "2 + 2?"}]] * 3, 8)


def test_an_engine_that_sleeps_is_woken_to_answer_and_sleeps_again(
    policy: tuple[Policy, Engine], vllm: list[str]
) -> None:
    asked, engine = policy
    engine.sleep(level=2)  # as TRL does after each generation
    assert len(ask(asked)) == 3
    assert engine.calls == ["sleep 2", "wake up", "answer 3", "sleep 1"]
    assert [tokens[-1] for tokens in asked.sample([[{"role": "user", "content": "?"}]], 2, 8, temperature=1.0)] == [
        4,
        4,
    ]
    assert engine.asleep


def test_it_sleeps_again_after_an_error(policy: tuple[Policy, Engine], vllm: list[str]) -> None:
    asked, engine = policy
    engine.sleep(level=2)
    engine.fails = True
    with pytest.raises(RuntimeError, match="the engine broke"):
        ask(asked)
    assert engine.asleep


def test_an_engine_that_is_awake_stays_awake(policy: tuple[Policy, Engine], vllm: list[str]) -> None:
    """TRL would wake one that fell asleep without its knowledge only in part."""
    asked, engine = policy
    ask(asked)
    assert engine.calls == ["answer 3"]


@pytest.mark.parametrize("asleep", [False, True])
def test_a_closed_policy_has_no_engine_and_answers_by_transformers(
    asleep: bool, plain: Policy, vllm: list[str]
) -> None:
    engine = Engine()
    with_engine(plain, engine)
    if asleep:
        engine.sleep(level=2)
    calls, gone = engine.calls, weakref.ref(engine)
    del engine
    plain.close()
    assert gone() is None, "something still holds it, and its memory"
    assert vllm == ["destroy_model_parallel", "destroy_distributed_environment"]
    assert calls == (["sleep 2", "wake up"] if asleep else []), "vLLM cannot free what sleeps"
    assert not hasattr(plain.model, "vllm_engine")
    assert len(ask(plain)) == 3
    plain.close()
    assert len(vllm) == 2


def test_memory_that_cannot_be_given_back_is_told(
    policy: tuple[Policy, Engine], vllm: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked, engine = policy
    del engine.llm_engine.model_executor
    asked.close()
    assert "vLLM's memory was not given back" in capsys.readouterr().err


@pytest.fixture
def loads_with_engine(vllm: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Every policy that is loaded has an engine, which sleeps: in this list."""
    from grpo_colab.policy import loading
    from grpo_colab.training import preparation

    engines: list[Engine] = []

    def load(*arguments: Any) -> Policy:
        engines.append(Engine())
        engines[-1].sleep(level=2)
        return with_engine(load_policy(*arguments), engines[-1])

    for module in (preparation, loading):
        monkeypatch.setattr(module, "load_policy", load)
    return engines


def test_a_run_evaluates_with_an_engine_that_sleeps_and_lets_it_go(
    loads_with_engine: list[Engine], vllm: list[str], tmp_path: Path
) -> None:
    run = train(Recipe.load(**SHORT), out=tmp_path / "run")
    assert run.finished
    asked = ["wake up", "answer 2", "sleep 1"]
    assert loads_with_engine[0].calls == ["sleep 2", *asked * 4, "wake up"], "two sets, before and after; the end"
    assert len(vllm) == 2
    evaluate_run(run.path)
    assert loads_with_engine[1].calls == ["sleep 2", *asked * 2, "wake up"]
    assert len(vllm) == 4
    train(Recipe.load(**SHORT), out=tmp_path / "dry", dry_run=True)
    assert len(vllm) == 6


def test_a_run_that_fails_lets_its_engine_go(
    loads_with_engine: list[Engine], vllm: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(completions: list[Any], **kwargs: Any) -> list[float]:
        raise ValueError("mend me")

    with pytest.raises(Exception, match="mend me"):  # before the first step, in prepare
        train(Recipe.load(**SHORT), rewards=[breaks], out=tmp_path / "run")
    assert len(loads_with_engine) == 1
    assert len(vllm) == 2


def test_a_policy_that_is_brought_keeps_its_engine(
    policy: tuple[Policy, Engine], vllm: list[str], tmp_path: Path
) -> None:
    brought, engine = policy
    train(Recipe.load(**SHORT), out=tmp_path / "run", loaded=brought)
    assert brought.model.vllm_engine is engine
    assert vllm == []


def test_an_engine_that_could_not_wake_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "vllm", True)
    device = current_device()
    monkeypatch.delenv(STANDBY, raising=False)
    recipe = Recipe.load(model={"fast_inference": True}, grpo={"vllm_enable_sleep_mode": True})
    with refused("grpo.vllm_enable_sleep_mode", True, remedy=f"{STANDBY}=1"):
        check_asking(recipe, device)
    monkeypatch.setenv(STANDBY, "1")
    check_asking(recipe, device)
    monkeypatch.setenv(STANDBY, "0")
    check_asking(Recipe.load(grpo={"vllm_enable_sleep_mode": True}), device)  # without vLLM nothing sleeps
