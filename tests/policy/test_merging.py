"""The merged adapter: answers are the same as without it, and the base's weights come back to the last bit."""

from __future__ import annotations

from typing import Any

import pytest

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.merging import merged_adapter, unmergeable
from grpo_colab.policy.policy import Policy
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack


def trained(policy: Policy, adapter: str = "default") -> Policy:
    """Return the policy with an adapter that changes what it says."""
    import torch

    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if f"lora_B.{adapter}" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Return the tiny policy as Unsloth loads it, in float32."""
    return trained(load_policy(Recipe.load(sampling={"merge_adapter": True}), current_device()))


def plain(**lora: Any) -> Any:
    """Return the tiny model with an adapter of PEFT's own, without Unsloth."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    dtype = lora.pop("dtype", torch.float32)
    model = AutoModelForCausalLM.from_pretrained(Recipe.load().model_path, dtype=dtype)
    modules = lora.pop("target_modules", ["q_proj", "up_proj"])
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=modules, **lora))


def state(model: Any) -> dict[str, Any]:
    """Return a copy of all weights of a model, by name."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def logits(model: Any) -> Any:
    """Return what the model says of a few tokens."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 9, 2, 7, 30, 11]])).logits


def test_inside_it_says_the_same_and_afterwards_it_is_the_same(policy: Policy) -> None:
    import torch

    before, said = state(policy.model), logits(policy.model)
    addresses = {name: value.data_ptr() for name, value in policy.model.state_dict().items()}
    with policy.model.disable_adapter():
        assert not torch.allclose(logits(policy.model), said, atol=0.1), "the adapter changes nothing here"
    for _ in range(3):  # PEFT's own `unmerge` leaves a rounding error each time
        with merged_adapter(policy.model):
            inside = state(policy.model)
            torch.testing.assert_close(logits(policy.model), said, atol=1e-4, rtol=1e-4)
    changed = {name for name in before if not torch.equal(before[name], inside[name])}
    assert len(changed) == 21, "3 layers of seven matrices are merged"
    assert all("base_layer" in name for name in changed)
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    assert {name: value.data_ptr() for name, value in policy.model.state_dict().items()} == addresses
    assert torch.equal(logits(policy.model), said)


def test_the_weights_come_back_after_an_error(policy: Policy) -> None:
    import torch

    before = state(policy.model)
    with pytest.raises(KeyboardInterrupt), merged_adapter(policy.model):
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    with merged_adapter(policy.model):  # it can be merged once more
        pass


def test_a_broken_adapter_is_an_error_and_leaves_no_trace() -> None:
    import torch

    model = plain()
    before = state(model)
    last = [parameter for name, parameter in model.named_parameters() if "lora_B" in name][-1]
    last.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"), merged_adapter(model):
        raise AssertionError("the block runs with a broken adapter")
    last.data[0, 0] = 0.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.isfinite(logits(model)).all()


def test_answers_are_the_same_and_the_policy_merges_only_if_it_is_asked_to(policy: Policy) -> None:
    task = Recipe.load().load_task()
    prompts = [task.messages(problem) for problem in task.problems("test", 24)]
    seen = []
    hook = policy.model.register_forward_pre_hook(lambda model, _: seen.append(merged_layers(model)))
    unmerged = Policy(policy.model, policy.tokenizer)
    try:
        assert policy.generate(prompts, 24) == unmerged.generate(prompts, 24)
    finally:
        hook.remove()
    assert set(seen) <= {0, 21}
    with policy.merged():
        assert merged_layers(policy.model) == 21
    with unmerged.merged():
        assert merged_layers(policy.model) == 0


def merged_layers(model: Any) -> int:
    return sum(bool(getattr(module, "merged", False)) for module in model.modules())


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({}, None),
        ({"lora_dropout": 0.1}, "with lora.lora_dropout"),
        ({"use_dora": True}, "with other matrices than plain LoRA's"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "with lora.lora_bias"),
        ({"target_modules": ["embed_tokens"]}, "with other matrices than plain LoRA's"),
        ({"use_rslora": True}, None),
    ],
)
def test_only_plain_lora_is_merged(lora: dict[str, Any], reason: str | None) -> None:
    assert unmergeable(plain(**lora)) == reason


def test_a_base_of_fewer_bits_is_not_merged(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    model = plain(dtype=torch.bfloat16)
    assert unmergeable(model) == "in bfloat16"
    before = state(model)
    with merged_adapter(model):
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    recipe = Recipe.load(model={"load_in_4bit": True}, sampling={"merge_adapter": True})
    in_four_bits = load_policy(recipe, current_device())
    assert unmergeable(in_four_bits.model) == "with other matrices than plain LoRA's"
    said = "the adapter is not merged with other matrices than plain LoRA's. It generates as usual"
    assert f"sampling.merge_adapter: {said}" in capsys.readouterr().err


def test_merging_in_bfloat16_would_lose_the_adapter() -> None:
    """The reason of the rule: there PEFT's merge moves the policy further than rounding does in float32."""
    import torch

    distances = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = plain(dtype=dtype)
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.001)
        said = logits(model).float()
        model.base_model.merge_adapter()
        distances[dtype] = (logits(model).float() - said).abs().max().item()
    assert distances[torch.bfloat16] > 100 * distances[torch.float32]


def test_several_adapters_at_once_are_not_merged() -> None:
    model = plain()
    assert unmergeable(model) is None
    model.add_adapter("ref", model.peft_config["default"])  # as TRL does where beta is above 0: it is not active
    assert unmergeable(model) is None
    model.base_model.set_adapter(["default", "ref"])
    assert unmergeable(model) == "without one adapter"
