"""Reward completions and grade answers for GRPO, in plain Python without torch, for any TRL script.

from grpo_colab.rewards import correctness_reward, strict_format_reward
GRPOTrainer(..., reward_funcs=[correctness_reward, strict_format_reward])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpo_colab.rewards.combine import combine
from grpo_colab.rewards.correctness import (
    correctness_reward,
    exact_answer_reward,
    get_correctness_reward,
    get_exact_answer_reward,
    get_soft_correctness_reward,
    soft_correctness_reward,
)
from grpo_colab.rewards.format import (
    get_integer_reward,
    get_soft_format_reward,
    get_strict_format_reward,
    get_tag_count_reward,
    get_think_format_reward,
    integer_reward,
    soft_format_reward,
    strict_format_reward,
    tag_count_reward,
    think_format_reward,
)
from grpo_colab.rewards.golds import reads_golds
from grpo_colab.rewards.grading import REASONS, Verdict, gold_number, grade, lenient_grade
from grpo_colab.rewards.guard import RewardError, call_reward, guard
from grpo_colab.rewards.latex import get_math_reward, math_reward
from grpo_colab.rewards.names import reward_key
from grpo_colab.rewards.number_parser import parse_number
from grpo_colab.rewards.resolve import check_signature, resolve_reward, reward_factory, reward_name
from grpo_colab.rewards.shaping import (
    get_cosine_scaled_reward,
    get_length_reward,
    get_reasoning_steps_reward,
    get_repetition_penalty_reward,
    get_soft_overlong_punishment_reward,
    length_reward,
    reasoning_steps_reward,
)

if TYPE_CHECKING:
    from grpo_colab.rewards.code import get_code_reward as get_code_reward


def __getattr__(name: str) -> Any:
    """Import `get_code_reward` on demand: the sandbox takes longer to import than all other rewards together.

    Raises AttributeError for every other name.
    """
    if name == "get_code_reward":
        from grpo_colab.rewards.code import get_code_reward

        return get_code_reward
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "REASONS",
    "RewardError",
    "Verdict",
    "call_reward",
    "check_signature",
    "combine",
    "correctness_reward",
    "exact_answer_reward",
    "get_correctness_reward",
    "get_cosine_scaled_reward",
    "get_exact_answer_reward",
    "get_integer_reward",
    "get_length_reward",
    "get_math_reward",
    "get_reasoning_steps_reward",
    "get_repetition_penalty_reward",
    "get_soft_correctness_reward",
    "get_soft_format_reward",
    "get_soft_overlong_punishment_reward",
    "get_strict_format_reward",
    "get_tag_count_reward",
    "get_think_format_reward",
    "gold_number",
    "grade",
    "guard",
    "integer_reward",
    "length_reward",
    "lenient_grade",
    "math_reward",
    "parse_number",
    "reads_golds",
    "reasoning_steps_reward",
    "resolve_reward",
    "reward_factory",
    "reward_key",
    "reward_name",
    "soft_correctness_reward",
    "soft_format_reward",
    "strict_format_reward",
    "tag_count_reward",
    "think_format_reward",
]
