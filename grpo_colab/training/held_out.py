"""Ask the policy of a run its held-out problems, before and after the training, and say how many answers are right."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from grpo_colab.evaluation import evaluate
from grpo_colab.evaluation.statistics import summary
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.training.distributed import is_main_process
from grpo_colab.utils.console import info

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grpo_colab.evaluation.evaluate import Answers
    from grpo_colab.runs.records import AnswerRow
    from grpo_colab.tasks import Task
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.phases import Phases
    from grpo_colab.training.setup import Setup


def evaluate_baseline(setup: Setup, run: Run, manager: CheckpointManager, phases: Phases) -> Answers:
    """Return the untrained policy's answers to the held-out problems, by split.

    Those in the run folder are returned if they answer the same questions. Otherwise the setup's policy answers now,
    before a checkpoint is loaded into it, and the answers are written to the folder, with the seconds that all of them
    took. Raises SettingError where they cannot be written.
    """
    found = {}
    took_s: dict[str, float] = {}
    for split, problems in setup.evaluated.items():
        file = evaluate.answers_file(evaluate.BEFORE, split)
        found[split] = run.answers(file)
        if evaluate.find_answers(found[split], problems) == found[split]:
            continue
        if run.last_step:
            evaluate.need_same_problems(run, found[split], problems)
        began = time.monotonic()
        found[split] = answer_held_out(setup, split, phases, before=True)
        took_s[split] = time.monotonic() - began
        if is_main_process():
            with writing_to(run):
                run.write_lines(file, found[split])
    if took_s and is_main_process():
        # a run that was killed between two splits has only asked the rest, which take about as long each
        manager.record_cost(evaluation_s=sum(took_s.values()) * len(found) / len(took_s))
    return found


def answer_held_out(setup: Setup, split: str, phases: Phases, *, before: bool) -> list[AnswerRow]:
    """Return the policy's graded answers to the held-out problems of a split, one row per problem.

    Every process gets all of them. How far it is, is shown on the screen and in phase.json.
    """
    problems = setup.evaluated[split]
    when = "before" if before else "after"
    called = evaluate.held_out_problems(split)
    title = f"Answering {len(problems)} {called if len(problems) > 1 else called.replace('problems', 'problem')}"
    with phases.stage(f"evaluating {when}", f"{title} {when} training", ticking=True) as shown:
        return evaluate.answer(
            setup.policy, setup.recipe, setup.task, problems, setup.evaluation_batch, on_progress=shown.update
        )


def say_accuracy(when: str, answers: Answers, task: Task) -> None:
    """Print on stderr, in a line for each split, how many of the answers to the task's problems are right."""
    for split, rows in answers.items():
        info(f"{when} {accuracy_line(rows, task, split)}")


def accuracy_line(rows: Sequence[AnswerRow], task: Task, split: str = evaluate.OWN) -> str:
    """Return a line on how many of the answers to a split's problems are right. There must be at least one."""
    if len(rows) == 1:  # one image or one example: a percentage would mean nothing
        return f"answered greedily, {'right' if rows[0]['right'] else 'wrong'} ({rows[0]['verdict']})"
    side = summary(rows)
    low, high = side["ci95"]
    lenient = side["lenient_accuracy"]
    in_other_form = "" if lenient is None else f"; {lenient:.1%} {task.grader.lenient}"
    return (
        f"{side['accuracy']:.1%} of {len(rows)} {evaluate.held_out_problems(split)} right "
        f"(95 % interval {low:.1%} to {high:.1%}{in_other_form})"
    )
