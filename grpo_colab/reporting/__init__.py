"""What a run looks like: pictures of its metrics and of its drawings, and a page of all that it has learnt."""

from grpo_colab.reporting.curves import draw_rewards
from grpo_colab.reporting.drawings import best_drawings, draw_drawings
from grpo_colab.reporting.page.page import report, write_report

__all__ = ["best_drawings", "draw_drawings", "draw_rewards", "report", "write_report"]
