"""Find what a model could exploit in a reward function: `audit(function)` plays an adversary against it."""

from grpo_colab.rewards.audit.answers import Example
from grpo_colab.rewards.audit.auditing import audit, gold_columns
from grpo_colab.rewards.audit.findings import Audit, Finding

__all__ = ["Audit", "Example", "Finding", "audit", "gold_columns"]
