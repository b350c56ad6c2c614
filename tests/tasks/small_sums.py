"""An environment of verifiers, as its authors write them: sums, a parser of tags, and a rubric of two functions."""

from __future__ import annotations

from typing import Any

import verifiers as vf
from datasets import Dataset


def rows(first: int, last: int) -> Any:
    sums = [(left, right) for left in range(first, last) for right in range(2, 6)]
    question = "Sam has {} apples. Dan gives him {} more apples. How many apples does Sam have now?"
    return Dataset.from_list(
        [
            {"question": question.format(left, right), "answer": str(left + right), "info": {"left": left}}
            for left, right in sums
        ]
    )


def load_environment(kind: str = "single", held_out: bool = False) -> Any:
    parser = vf.XMLParser(["reasoning", "answer"], answer_field="answer")

    def correct(completion: Any, answer: str, info: dict[str, Any], **kwargs: Any) -> float:
        assert info["left"] < int(answer)
        return float(parser.parse_answer(completion) == answer)

    def best_of_group(completions: list[Any], **kwargs: Any) -> list[float]:
        """A function of the whole group: 1.0 for the shortest."""
        sizes = [len(completion[-1].content) for completion in completions]
        return [float(size == min(sizes)) for size in sizes]

    functions, weights = [correct, parser.get_format_reward_func()], [1.0, 0.2]
    if kind == "group":
        functions, weights = [correct, best_of_group], [1.0, 0.25]
    settings: dict[str, Any] = {
        "dataset": rows(2, 20),
        "system_prompt": "Think in <reasoning>, then give the number in <answer>.",
        "parser": parser,
        "rubric": vf.Rubric(funcs=functions, weights=weights, parser=parser),
    }
    if held_out:
        settings["eval_dataset"] = rows(18, 22)
    if kind == "several":

        class Several(vf.MultiTurnEnv):  # type: ignore[misc]
            async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
                return []

        return Several(**settings)
    return vf.SingleTurnEnv(**settings)
