"""Use the same rewards in other trainers: verifiers, verl and OpenRLHF. Importing this file imports none of them.

verifiers, in a Rubric where the release has one, or in a task:

    vf.Rubric(funcs=[verifiers_reward(correctness_reward)], weights=[1.0])

    class Problem(vf.Task[ProblemData]):  # verifiers.v1
        correct = vf.reward(verifiers_reward(correctness_reward), weight=1.0)

verl, on its command line; without the last line it is `correctness_reward` alone:

    reward.custom_reward_function.path=pkg://grpo_colab.rewards.adapters
    reward.custom_reward_function.name=compute_score
    '+reward.custom_reward_function.reward_kwargs.rewards={correctness: 1.0, strict_format: 0.2}'

OpenRLHF, in the file that `--reward.remote_url` names; for `correctness_reward` alone, import `reward_func` itself:

    from grpo_colab.rewards import adapters
    reward_func = functools.partial(adapters.reward_func, rewards={"correctness": 1.0, "strict_format": 0.2})

All three ask about one completion at a time and pass no token counts. So `length_reward` has nothing to compare with,
and rewards that need `completion_ids` cannot judge.

A gold answer may be a text, a number or None. A gold that a reward cannot read counts as None, and a warning tells
once. What becomes of a completion that a reward cannot judge is said for each trainer below.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.rewards.arguments import Golds
from grpo_colab.rewards.combine import combine
from grpo_colab.rewards.resolve import callable_name, is_async, resolve_reward

Rewards = Mapping[str, float] | combine
_DEFAULT: Final[Rewards] = {"correctness": 1.0}
# Tokens with which chat models end their turn: <|eot_id|>, <|im_end|>, DeepSeek's wide bars, </s>, <eos>,
# <end_of_turn>.
_END: Final = re.compile(r"(?:<[|｜][^\s<>]+[|｜]>|</s>|<eos>|<end_of_turn>)\Z")
_END_SIZE: Final = 64  # characters of the longest of them, so that the search is linear in the length of the text
_PROMPT_END: Final = 20  # characters that suffice to recognise a prompt whose beginning OpenRLHF has cut off


class verifiers_reward:
    """Wrap `reward` for verifiers, under its own name. The columns are the fields of the row or of the task's data.

    The wrapped reward is async. Each call asks `reward` about one completion and returns its number. In verifiers.v1
    the gold answer is the task's `answer`, and the completion the trace's last reply. There a completion that the
    reward cannot judge gives {}, so it gets no entry in the trace. In a Rubric, which has no value for that, it raises
    ValueError.

    Exceptions of `reward` pass through. A Rubric logs every exception as an error and counts 0.0. A v1 task fails with
    it.
    """

    def __init__(self, reward: Callable[..., Any]) -> None:
        # The attribute must not be called `reward`, which vf.reward sets as its mark.
        self._function, self.__name__ = reward, callable_name(reward)

    # verifiers passes what the signature names. A name in the plural, or a list as the result, would mean a group.
    async def __call__(
        self, completion: Any = None, prompt: Any = None, task: Any = None, trace: Any = None, **row: Any
    ) -> float | dict[str, float]:
        row = {**row, "task": task} if trace is None else dict(task)
        if trace is not None:
            completion, prompt = trace.last_reply, row.pop("prompt")
        columns = {name: [value] for name, value in row.items()}
        result = self._function(completions=[_as_mappings(completion)], prompts=[_as_mappings(prompt)], **columns)
        [reward] = await result if is_async(self._function) else result
        if reward is None and trace is None:
            raise ValueError(f"{self.__name__} cannot judge this completion, and a Rubric has no word for that")
        return {} if reward is None else float(reward)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | float | None,
    extra_info: Mapping[str, Any] | None = None,
    rewards: Rewards = _DEFAULT,
    **kwargs: Any,
) -> dict[str, float | str | None]:
    """Return what verl asks of a reward function, for the one completion `solution_str`.

    `rewards` maps names as in a recipe to weights, or is a `combine`. The columns are the fields of `extra_info`, with
    `data_source`, and with `ground_truth` as `answer`. Other arguments are ignored. The result always has the same
    keys, as verl needs:

    - `score`: the weighted sum, 0.0 where no reward can judge
    - `rewards/<name>`: what each reward pays, None where it cannot judge, which verl's means leave out
    - `acc`: what the first reward pays, None where it cannot judge, which verl reports as the accuracy
    - `reason`: the verdict of `correctness_reward`, None without one

    The first call imports the rewards, or runs their files. Raises RewardError for a reward that breaks, SettingError
    (a ValueError) for `rewards` that cannot be found or combined, and TypeError for a weight that is no number.
    """
    columns = {name: [value] for name, value in (extra_info or {}).items()} | {"data_source": [data_source]}
    logged: dict[str, float] = {}
    [score], parts = _graded(rewards, [solution_str], [ground_truth], {**columns, "log_metric": logged.__setitem__})
    # With a single completion, one verdict has a share of 1 and all others 0.
    reasons = [name.removeprefix("verdict/") for name, share in logged.items() if name.startswith("verdict/") and share]
    paid = {name: value for name, [value] in parts.items()}
    return {**paid, "reason": reasons[0] if reasons else None, "acc": next(iter(paid.values())), "score": score}


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Golds, rewards: Rewards = _DEFAULT, **kwargs: Any
) -> dict[str, Any]:
    """Return what OpenRLHF asks of a reward function, for a batch of B completions; `rewards` is as in `compute_score`.

    A completion is what follows the prompt in its query, without the special tokens that end a turn, which OpenRLHF
    keeps in the text. `labels` are the gold answers. Other arguments are ignored. The result has float32 tensors of
    shape (B,):

    - `rewards`: the weighted sum, 0.0 where no reward can judge
    - `scores`: what the first reward pays, by which OpenRLHF filters groups; NaN where it cannot judge
    - `extra_logs`: what each reward pays, in a dictionary by `rewards/<name>`; NaN where it cannot judge

    Raises RewardError for a reward that breaks, and SettingError or TypeError for `rewards` as `compute_score` does.
    Raises ValueError for another number of prompts than of queries. It also does for a query that begins neither with
    its prompt nor with the end of it, which is all that OpenRLHF leaves of a long prompt. OpenRLHF only logs an
    exception.
    """
    import torch

    texts = [_completion(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
    total, parts = _graded(rewards, texts, list(labels), {"prompts": list(prompts)})
    logs = {}
    for name, values in parts.items():
        logs[name] = torch.tensor([float("nan") if value is None else value for value in values])
    return {"rewards": torch.tensor(total), "scores": next(iter(logs.values())), "extra_logs": logs}


def _graded(
    rewards: Rewards, texts: list[str], golds: Golds, columns: Mapping[str, Any]
) -> tuple[list[float], dict[str, list[float | None]]]:
    """Return the combined reward of each completion, 0.0 where it is None, and what each part pays for each completion.

    The second is a dictionary by the metric's name, `rewards/<function's name>`; its lists hold None where the part
    cannot judge. `texts` are the completions, `golds` the column `answer`. Raises RewardError for a reward that breaks,
    and raises as `_combined` does.
    """
    reward = rewards if isinstance(rewards, combine) else _combined(tuple(rewards.items()))
    paid: dict[str, list[float | None]] = {}
    total = reward(**{**columns, "completions": texts, "answer": golds, "log_extra": paid.__setitem__})
    parts = {
        f"rewards/{callable_name(part)}": paid[name] for part, name in zip(reward.parts, reward.names, strict=True)
    }
    return [0.0 if value is None else value for value in total], parts


@functools.lru_cache  # so that a reward's file is run once, and not for each completion
def _combined(rewards: tuple[tuple[str, float], ...]) -> combine:
    """Return the rewards of these names and weights as one.

    Imports what the names lead to, or runs their files, once for the same `rewards`. Raises SettingError for a name
    that leads to no reward and for what `combine` refuses, and TypeError for a weight that is no number.
    """
    parts, weights = [], []
    for name, weight in rewards:
        try:
            part = resolve_reward(name)
        except SettingError as error:
            raise error.within(name) from None
        parts.append(_synchronous(part) if is_async(part) else part)
        weights.append(weight)
    return combine(parts, weights=weights)


def _synchronous(reward: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async reward as a plain function, for the threads of verl and OpenRLHF, which have no event loop.

    `reward` must be async. The function takes keyword arguments only. Of the reward's attributes it keeps only
    `__name__`.
    """

    def synchronous(**kwargs: Any) -> Any:
        import asyncio

        return asyncio.run(reward(**kwargs))

    synchronous.__name__ = callable_name(reward)
    return synchronous


def _completion(query: str, prompt: str) -> str:
    """Return what follows the prompt in a query, without the tokens that end the turn.

    The beginning of the prompt may be missing, where OpenRLHF has cut it off; its last 20 characters must be there, or
    all of a shorter prompt. Raises ValueError for a query that begins with less.
    """
    for start in range(max(1, len(prompt) - _PROMPT_END + 1)):
        if query.startswith(prompt[start:]):
            begin, end = len(prompt) - start, len(query)
            while True:
                end_token = _END.search(query, max(begin, end - _END_SIZE), end)
                if end_token is None:
                    return query[begin:end]
                end = end_token.start()
    raise ValueError(f"reward_func: the query does not begin with its prompt: {query!r:.80}")


def _as_mappings(messages: Any) -> Any:
    """Return messages as the mappings that a reward takes; verifiers may pass pydantic models.

    None and a text are returned as they are.
    """
    if messages is None or isinstance(messages, str):
        return messages
    return [message if isinstance(message, Mapping) else message.model_dump() for message in messages]
