"""How a policy is loaded on a CPU."""

from __future__ import annotations

import pytest

from grpo_colab import Recipe

pytestmark = pytest.mark.stack


def test_the_heads_weights_are_not_copied_for_each_sequence() -> None:
    """torch expands a frozen head over the batch, and in bfloat16 copies it, where it is given a slice."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    policy = load_policy(Recipe.load(model={"dtype": "bfloat16"}), current_device())
    vocabulary, width = policy.model.get_output_embeddings().weight.shape
    ids = torch.randint(5, 20, (4, 12))
    for kept in (1, 7):
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
            logits = policy.model(input_ids=ids, logits_to_keep=kept, use_cache=False).logits
        assert logits.shape == (4, kept, vocabulary)
        shapes = [event.input_shapes for event in profiled.events() if event.name in ("aten::copy_", "aten::bmm")]
        assert [4, width, vocabulary] not in [shape for event in shapes for shape in event]
