"""drawing.png and drawing.gif: the image that was asked for, and the best drawings of it as the run went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from grpo_colab.runs.records import CompletionRow, weighted_reward
from grpo_colab.runs.run import Run
from grpo_colab.tasks.drawing.canvas import Image
from grpo_colab.tasks.drawing.images import right_share

MOST_SHOWN: Final = 5  # drawings beside the target in drawing.png


class StepDrawing(NamedTuple):
    """The best drawing of one step, and its share of right pixels, from 0 to 1."""

    step: int
    image: Image
    share: float


def best_drawings(run: Run) -> tuple[Image | None, list[StepDrawing]]:
    """Return the image that a run was asked for, and the best drawing of each step.

    The best drawing is the one with the highest weighted reward, the first of several. A step whose best completion
    draws nothing is left out. Returns None and an empty list for a task without one fixed image: another task, or
    random drawings.

    Reads recipe.toml and completions.jsonl, and runs the best programs again. Raises SettingError where this version
    cannot read the recipe.
    """
    from grpo_colab.tasks.drawing.task import draw_completions

    # A task of others is not made: that would run its code.
    target = getattr(run.recipe.load_task(), "image", None) if run.table("task").get("name") == "drawing" else None
    if target is None:
        return None, []
    weights = list(run.recipe.rewards.values())
    best: dict[int, tuple[float, CompletionRow]] = {}
    for row in run.completions():
        step, earned = row["step"], weighted_reward(row["rewards"].values(), weights)
        if step not in best or earned > best[step][0]:
            best[step] = earned, row
    images = draw_completions([row["completion"] for _, row in best.values()], [target] * len(best))
    found = zip(best, images, strict=True)
    return target, [StepDrawing(step, image, right_share(image, target)) for step, image in found if image is not None]


def draw_drawings(run: Run) -> None:
    """Write drawing.png and drawing.gif into the run's folder.

    Writes nothing for another task, for random drawings, and where nothing was drawn. Raises SettingError where Pillow
    is not installed, and OSError where a file cannot be written.
    """
    from grpo_colab.tasks.drawing.rendering import gif, png

    target, found = best_drawings(run)
    if target is None or not found:
        return
    shown = milestones(found)
    titles = [f"step {one.step}: {int(100 * one.share)} % right" for one in shown]
    png(run.path / "drawing.png", [target, *(one.image for one in shown)], ["target", *titles])
    gif(run.path / "drawing.gif", target, [(one.step, one.image) for one in found])


def milestones(found: Sequence[StepDrawing]) -> list[StepDrawing]:
    """Return the first drawing, and each with a larger share of right pixels than all before it.

    Of more than MOST_SHOWN such drawings, MOST_SHOWN are returned, spread evenly, with the first and the last. The list
    is empty for no drawings.
    """
    better: list[StepDrawing] = []
    for one in found:
        if not better or one.share > better[-1].share:
            better.append(one)
    if len(better) <= MOST_SHOWN:
        return better
    return [better[n * (len(better) - 1) // (MOST_SHOWN - 1)] for n in range(MOST_SHOWN)]
