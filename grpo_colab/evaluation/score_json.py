"""Give the result of `score` in JSON's types, as `grpo-colab score --json` prints it."""

from __future__ import annotations

from typing import Any

from grpo_colab.evaluation.scoring import Scores, mean_and_deviation


def score_json(scores: Scores) -> dict[str, Any]:
    """Return what `Scores.text` shows, as a dict: a summary per reward, its own metrics, and the disagreements.

    A reward without any judgement has None for its numbers. The places of rows are texts, as `file:line`. A mean of
    huge values may be infinite.
    """
    rewards = {}
    for name, values in scores.paid.items():
        judged = [value for value in values if value is not None]
        mean, deviation = mean_and_deviation(judged) if judged else (None, None)
        rewards[name] = {
            "mean": mean,
            "std": deviation,
            "least": min(judged, default=None),
            "most": max(judged, default=None),
            "above_0": sum(value > 0 for value in judged) / len(judged) if judged else None,
            "no_judgement": len(values) - len(judged),
            "metrics": scores.logged.get(name, {}),
        }
    disagreements = []
    for first, second, only_first, only_second in scores.disagreements():
        paid_by = {first: only_first, second: only_second}
        places = {name: [scores.where[index] for index in indices] for name, indices in paid_by.items()}
        disagreements.append({"rewards": [first, second], "paid_only_by": places})
    return {
        "file": str(scores.source),
        "completions": len(scores.rows),
        "rewards": rewards,
        "disagreements": disagreements,
    }
