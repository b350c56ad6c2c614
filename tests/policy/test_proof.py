"""The proof after saving: a good adapter has no troubles, a bad one is told, and the policy is as it was before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack

WEIGHTS = "adapter_model.safetensors"
KINDS = ("unsloth", "4-bit", "plain PEFT", "with the trainer's reference")


def samples() -> list[tuple[Any, str]]:
    task = Recipe.load().load_task()
    problems = task.problems("train", 3)
    return [*((task.messages(problem), task.golden_completion(problem)) for problem in problems), ([], "")]


def loaded(kind: str) -> Policy:
    """A policy in training mode, whose adapter is trained a little, with dropout."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    recipe = Recipe.load(model={"load_in_4bit": kind == "4-bit"})
    if kind == "plain PEFT":
        model = AutoModelForCausalLM.from_pretrained(recipe.model_path, dtype=torch.float32)
        adapter = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "up_proj"], lora_dropout=0.5)
        policy = Policy(get_peft_model(model, adapter), AutoTokenizer.from_pretrained(recipe.model_path))
    else:
        policy = load_policy(recipe, current_device())
    if kind == "with the trainer's reference":  # that TRL adds where beta is above 0
        policy.model.add_adapter("ref", policy.model.peft_config["default"])
    for name, parameter in policy.model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    policy.model.train()
    return policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return loaded("unsloth")


@pytest.fixture
def saved(policy: Policy, tmp_path: Path) -> Path:
    policy.save(tmp_path / "adapter")
    return tmp_path / "adapter"


def rewrite(adapter: Path, change: Callable[[str, Any], tuple[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / WEIGHTS)
    save_file(dict(change(name, values) for name, values in weights.items()), adapter / WEIGHTS)


def state(policy: Policy) -> list[Any]:
    """What a step of training depends on, of the model."""
    import torch

    model = policy.model
    return [
        [(name, module.training) for name, module in model.named_modules()],
        [(name, id(parameter), parameter.requires_grad) for name, parameter in model.named_parameters()],
        (model.active_adapter, model.base_model.active_adapters, sorted(model.peft_config)),
        torch.get_rng_state().tolist(),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_adapter_is_proved_and_training_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    import torch

    policy = loaded(kind)
    policy.save(tmp_path / "adapter")
    learning = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    before = state(policy)
    values = [parameter.detach().clone() for parameter in policy.model.parameters()]
    assert policy.check_saved_adapter(tmp_path / "adapter", samples()) == []
    assert state(policy) == before
    assert all(torch.equal(*pair) for pair in zip(values, policy.model.parameters(), strict=True))
    ids = torch.tensor([policy.tokenizer("Two and two are four.")["input_ids"]])
    policy.model(input_ids=ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in learning)
    optimizer.step()
    assert not any(torch.equal(*pair) for pair in zip(values, learning, strict=False) if pair[1].requires_grad)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_log_probability_is_the_mean_over_the_completions_tokens(kind: str) -> None:
    import torch

    policy = loaded(kind)
    before = state(policy)
    asked = samples()
    values, below = policy.log_probabilities(asked), policy.log_probabilities(asked, base=True)
    short = policy.log_probabilities(asked, limit_tokens=5)
    assert state(policy) == before
    assert len(values) == len(below) == len(asked) - 1  # one is empty
    policy.model.eval()
    for index, (prompt, completion) in enumerate(asked[:-1]):
        head, tail = (
            policy.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (policy.prompt_text(prompt), completion)
        )
        with torch.no_grad():
            ids = torch.tensor([head + tail])
            ours = policy.model(input_ids=ids).logits[0].log_softmax(-1)
            with policy.model.disable_adapter():
                base = policy.model(input_ids=ids).logits[0].log_softmax(-1)
        tokens = [(len(head) - 1 + place, token) for place, token in enumerate(tail)]
        for found, logits, read in ((values, ours, tokens), (below, base, tokens), (short, ours, tokens[:5])):
            nats = pytest.approx(sum(logits[at].item() for at in read) / len(read), abs=1e-4)
            assert found[index] == (nats, len(read))
    assert [nats for nats, _ in values] != pytest.approx([nats for nats, _ in below], abs=1e-3)


def test_an_adapter_that_changes_nothing(policy: Policy, saved: Path) -> None:
    rewrite(saved, lambda name, values: (name, values * ("lora_B" not in name)))
    zero, away = policy.check_saved_adapter(saved, samples())
    assert zero.startswith("21 of 21 B matrices are zero, so that the adapter changes nothing (model.layers.0.")
    assert away.startswith("reloaded, it is 0.")
    assert away.endswith("nats per token away from the policy in memory")


def test_one_matrix_that_is_zero_is_named(policy: Policy, saved: Path) -> None:
    rewrite(saved, lambda name, values: (name, values * ("layers.1.mlp.up_proj.lora_B" not in name)))
    zero = policy.check_saved_adapter(saved, samples())[0]
    assert zero == "1 of 21 B matrices are zero (model.layers.1.mlp.up_proj.lora_B)"


def test_weights_that_are_no_numbers(policy: Policy, saved: Path) -> None:
    rewrite(saved, lambda name, values: (name, values / ("layers.1.mlp.up_proj.lora_A" not in name)))
    broken, away = policy.check_saved_adapter(saved, samples())
    assert broken == "1 matrices hold NaN or infinity (model.layers.1.mlp.up_proj.lora_A)"
    assert "is nan nats per token away" in away


def test_weights_of_another_model_are_not_taken_for_these(policy: Policy, saved: Path) -> None:
    before = state(policy)
    rewrite(saved, lambda name, values: (name.replace(".layers.", ".blocks."), values))
    foreign, away = policy.check_saved_adapter(saved, samples())
    assert foreign == "42 of its matrices are missing, 42 do not belong to this model"
    assert "nats per token away" in away
    assert state(policy) == before


def test_a_configuration_that_is_another_gives_other_log_probabilities(policy: Policy, saved: Path) -> None:
    path = saved / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 64', '"lora_alpha": 640'))
    (away,) = policy.check_saved_adapter(saved, samples())
    assert "nats per token away" in away


@pytest.mark.parametrize("breaks", ["missing", "cut off", "no configuration", "another rank"])
def test_what_cannot_be_loaded_is_a_trouble_and_no_exception(breaks: str, policy: Policy, saved: Path) -> None:
    before = state(policy)
    if breaks == "missing":
        (saved / WEIGHTS).unlink()
    elif breaks == "cut off":
        (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:1000])
    elif breaks == "no configuration":
        (saved / "adapter_config.json").unlink()
    else:
        path = saved / "adapter_config.json"
        path.write_text(path.read_text().replace('"r": 32', '"r": 16'))
    (trouble,) = policy.check_saved_adapter(saved, samples())
    assert trouble.startswith("it cannot be reloaded (")
    assert state(policy) == before
    policy.save(saved)
    assert policy.check_saved_adapter(saved, samples()) == []


def test_an_adapter_of_another_rank_is_refused_in_words(policy: Policy, saved: Path) -> None:
    rewrite(saved, lambda name, values: (name, (values[:, :2] if "lora_B" in name else values[:2]).contiguous()))
    with refused(problem="is not an adapter of this model", remedy="[lora]", place=saved, snapshot=False):
        policy.load_adapter(saved)
