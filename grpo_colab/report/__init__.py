"""What a run looks like: pictures of its metrics, and a page of all that it has learnt."""

from grpo_colab.report.curves import draw_rewards
from grpo_colab.report.drawings import draw_drawings, drawings
from grpo_colab.report.page import report, write_report

__all__ = ["draw_drawings", "draw_rewards", "drawings", "report", "write_report"]
