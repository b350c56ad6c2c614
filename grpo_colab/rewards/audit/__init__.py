"""What could a model exploit? An adversary against any reward function: `audit(function)`, and what it found."""

from grpo_colab.rewards.audit.judge import Audit, Finding, audit

__all__ = ["Audit", "Finding", "audit"]
