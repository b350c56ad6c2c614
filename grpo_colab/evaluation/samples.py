"""Ask a model a few things outside a run's evaluation: one question of a person's, or some training problems."""

from __future__ import annotations

import contextlib
from pathlib import Path

from grpo_colab.evaluation.evaluate import answer
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs.records import AnswerRow
from grpo_colab.tasks import Problem
from grpo_colab.tasks.own_tasks import problems_of


def answer_without_and_with_adapter(
    recipe: Recipe, adapter: Path, question: str, trust_code: bool = False
) -> tuple[str, str]:
    """Return the greedy answers to one question: the base model's, then the one with the adapter in this folder.

    The prompt is the system prompt of the recipe's task, if it has one, and the question. The model is loaded without
    vLLM. `trust_code` allows other people's code that the recipe names to run, and the code is remembered as trusted.
    Raises SettingError for such code without it, and for a model or an adapter that cannot be loaded.
    """
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device
    from grpo_colab.utils.memory import free_memory
    from grpo_colab.utils.stack import import_unsloth

    import_unsloth()
    free_memory()  # a model that was trained in this process may still hold it
    check_trust(recipe, trust_code)
    recipe = recipe.completed_by_task()
    # without vLLM, which takes minutes to start and cannot answer without the adapter
    without_vllm = recipe.model_copy(update={"model": recipe.model | {"fast_inference": False}})
    policy = load_policy(without_vllm, current_device(), adapter)
    messages = recipe.load_task().messages(Problem(question, answer=""))
    with policy.model.disable_adapter():
        [before] = policy.generate([messages], recipe.max_completion_tokens)
    [after] = policy.generate([messages], recipe.max_completion_tokens)
    return before, after


def sample_answers(recipe: Recipe, n: int) -> list[AnswerRow]:
    """Return the graded answers of the recipe's untrained model to `n` training problems, or to all if there are fewer.

    The model is loaded, with a new adapter, and the rewards are imported and run. Raises SettingError for code that is
    not trusted, for a model that cannot be loaded, and for a reward that cannot be imported or breaks.
    """
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    check_trust(recipe)
    recipe = recipe.completed_by_task()
    with contextlib.closing(load_policy(recipe, current_device())) as policy:
        task = recipe.load_task()
        return answer(policy, recipe, task, problems_of(task, "train", n), at_once=64)
