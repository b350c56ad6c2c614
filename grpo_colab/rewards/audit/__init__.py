"""Find what a model could exploit in a reward function: `audit(function)` plays an adversary against it."""

from grpo_colab.rewards.audit.findings import Audit, Finding
from grpo_colab.rewards.audit.judge import audit

__all__ = ["Audit", "Finding", "audit"]
