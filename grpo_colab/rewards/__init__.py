"""Rewards and answer grading for GRPO in plain Python: no torch, no dependencies, usable in anyone's TRL script.

from grpo_colab.rewards import correctness_reward, strict_format_reward
GRPOTrainer(..., reward_funcs=[correctness_reward, strict_format_reward])
"""

from __future__ import annotations

from grpo_colab.rewards.answers import REASONS, Verdict, gold_number, grade, lenient_grade
from grpo_colab.rewards.functions import (
    correctness_reward,
    exact_answer_reward,
    integer_reward,
    soft_correctness_reward,
    soft_format_reward,
    strict_format_reward,
    tag_count_reward,
)
from grpo_colab.rewards.numbers import parse_number
from grpo_colab.rewards.resolve import check_signature, resolve_reward, reward_name

__all__ = [
    "REASONS",
    "Verdict",
    "check_signature",
    "correctness_reward",
    "exact_answer_reward",
    "gold_number",
    "grade",
    "integer_reward",
    "lenient_grade",
    "parse_number",
    "resolve_reward",
    "reward_name",
    "soft_correctness_reward",
    "soft_format_reward",
    "strict_format_reward",
    "tag_count_reward",
]
