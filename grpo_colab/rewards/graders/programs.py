"""Judge answers that are programs: the sandbox runs them against the tests of the gold answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.graders.grader import NO_ANSWER, NO_COLUMNS, Grader, Row, stated
from grpo_colab.rewards.grading import Reason, Verdict, after_thoughts
from grpo_colab.sandbox.code_blocks import all_python_code

if TYPE_CHECKING:
    from grpo_colab.rewards.code import CodeReward

SOLUTION: Final = "solution"  # the column of a program that passes the tests


@lru_cache(maxsize=1)
def _reward() -> CodeReward:
    """Return the reward whose sandbox runs all programs; it is made at the first one."""
    from grpo_colab.rewards.code import get_code_reward

    return get_code_reward(extract=all_python_code)


@dataclass(frozen=True, kw_only=True)
class CodeGrader(Grader):
    """Judge a program by whether it passes the gold answer's tests, as `get_code_reward` runs them.

    The gold answer is Python with assertions, or a list of such texts. The program is all blocks of Python in the
    answer, one after the other, or all of the answer.
    """

    kind: ClassVar[str] = "code"
    reasons: ClassVar[tuple[Reason, ...]] = ("right", "wrong", *NO_ANSWER, "too_long")
    lenient: ClassVar[str] = "by the last block of code alone"

    def gold_text(self, value: object) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, Sequence) and value and all(isinstance(test, str) for test in value):
            return json.dumps(value, ensure_ascii=False)
        raise ValueError(f"the tests are no text and no list of texts: {shown(value)}")

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> list[str]:
        from grpo_colab.rewards.assertions import parse_tests

        tests = _tests(gold)
        _reward().need_tests([parse_tests(tests, "")])
        return tests

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        [paid] = _reward()(completions=[response], tests=[_tests(gold)])
        return Verdict("right" if paid == 1.0 else "wrong")

    def verdicts(self, completions: Sequence[str], golds: Sequence[str], rows: Sequence[Row]) -> list[Verdict]:
        """Return the verdict on each completion, whose programs run together."""
        blocks = [self.answer_block(completion) for completion in completions]
        running = [index for index, block in enumerate(blocks) if isinstance(block, str)]
        paid = _reward()(
            completions=[blocks[index] for index in running], tests=[_tests(golds[index]) for index in running]
        )
        verdicts = [block if isinstance(block, Verdict) else Verdict("wrong") for block in blocks]
        for index, reward in zip(running, paid, strict=True):
            if reward == 1.0:
                verdicts[index] = Verdict("right")
        return verdicts

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool:
        if self.grade(completion, gold).right:
            return True
        return self.judge(after_thoughts(completion, self.reasoning_tag), gold, row).right

    def golden_answer(self, gold: str, row: Row = NO_COLUMNS) -> str | None:
        solution = row.get(SOLUTION)
        return f"```python\n{solution.strip()}\n```" if isinstance(solution, str) and solution.strip() else None

    def request(self) -> str:
        return "The answer is Python code alone, in a block that begins with ```python and ends with ```."


def _tests(gold: str) -> list[str]:
    """Return the tests of a gold answer, a text or a list of texts as `gold_text` writes it."""
    if gold.lstrip().startswith("["):
        try:
            tests = json.loads(gold)
        except ValueError:
            tests = None
        if isinstance(tests, list) and tests and all(isinstance(test, str) for test in tests):
            return tests
    return [stated_tests(gold)]


def stated_tests(gold: str) -> str:
    """Return the text of the tests; raise ValueError for an empty one. `####` is a comment in Python, and no mark."""
    return gold if gold.strip() else stated(gold)
