"""drawing.png and drawing.gif: the image that was asked for, and the best drawings of it as the run went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from grpo_colab.drawing.canvas import Image
from grpo_colab.drawing.images import right_share
from grpo_colab.records import CompletionRow, weighted_reward
from grpo_colab.run import Run

MOST_SHOWN: Final = 5  # drawings beside the target in the picture


class Drawn(NamedTuple):
    """The best drawing of one step, and its share of right pixels."""

    step: int
    image: Image
    share: float


def drawings(run: Run) -> tuple[Image | None, list[Drawn]]:
    """What a run was asked to draw, None where that is random; and the best drawing of each step that drew anything.

    Read off completions.jsonl alone; the best is the one that the rewards paid most for.
    """
    from grpo_colab.tasks.drawing import drawn

    target = getattr(run.recipe.load_task(), "image", None)
    if target is None:
        return None, []
    best: dict[int, tuple[float, CompletionRow]] = {}
    weights = list(run.recipe.rewards.values())
    for row in run.completions():
        earned = weighted_reward(row["rewards"].values(), weights)
        if row["step"] not in best or earned > best[row["step"]][0]:
            best[row["step"]] = earned, row
    images = drawn([row["completion"] for _, row in best.values()], [target] * len(best))
    pairs = zip(best, images, strict=True)
    return target, [Drawn(step, image, right_share(image, target)) for step, image in pairs if image is not None]


def draw_drawings(run: Run) -> None:
    """Write both pictures; nothing for other tasks, random drawings, and runs in which nothing was drawn."""
    from grpo_colab.drawing.show import gif, png

    target, found = drawings(run)
    if target is None or not found:
        return
    shown = milestones(found)
    titles = [f"step {one.step}: {int(100 * one.share)} % right" for one in shown]
    png(run.path / "drawing.png", [target, *(one.image for one in shown)], ["target", *titles])
    gif(run.path / "drawing.gif", target, [(one.step, one.image) for one in found])


def milestones(found: Sequence[Drawn]) -> list[Drawn]:
    """The first drawing and those that were better than all before; of many a few, with the first and the last."""
    better = [one for n, one in enumerate(found) if one.share > max((o.share for o in found[:n]), default=-1.0)]
    if len(better) <= MOST_SHOWN:
        return better
    return [better[n * (len(better) - 1) // (MOST_SHOWN - 1)] for n in range(MOST_SHOWN)]
