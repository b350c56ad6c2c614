"""What a run looks like: pictures of its metrics."""

from grpo_colab.report.curves import draw_rewards

__all__ = ["draw_rewards"]
