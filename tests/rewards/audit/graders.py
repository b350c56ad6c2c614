"""Graders as they are widely used, written anew with their defects, and others that break the contract on purpose."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
import time
from typing import Any

NUMBER = r"-?[$0-9.,]{2,}|-?[0-9]+"


def _said(completions: list[Any]) -> list[str]:
    return [completion[0]["content"] for completion in completions]


def _in_tag(text: str) -> str:
    return text.rpartition("<answer>")[2].partition("</answer>")[0].strip()


def _last_number(text: str, gold: str) -> float:
    found = re.findall(NUMBER, text)
    return float(bool(found) and found[-1].strip("$.,").replace(",", "") == gold.replace(",", ""))


# What is in use.


def notebook_reward(completions, answer, **kwargs):
    return [2.0 if _in_tag(text) == gold else 0.0 for text, gold in zip(_said(completions), answer, strict=True)]


def notebook_soft_format_reward(completions, **kwargs):
    """As published: the dot does not match a line break."""
    pattern = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 if re.match(pattern, text) else 0.0 for text in _said(completions)]


def dotall_soft_format_reward(completions, **kwargs):
    """As it is commonly mended, which makes it quadratic."""
    pattern = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 if re.match(pattern, text, re.DOTALL) else 0.0 for text in _said(completions)]


def last_in_text_reward(completions, answer, **kwargs):
    return [_last_number(text, gold) for text, gold in zip(_said(completions), answer, strict=True)]


def last_in_tag_reward(completions, answer, **kwargs):
    return [_last_number(_in_tag(text), gold) for text, gold in zip(_said(completions), answer, strict=True)]


def math_verify_reward(completions, answer, **kwargs):
    from math_verify import parse, verify

    return [float(verify(parse(gold), parse(text))) for text, gold in zip(_said(completions), answer, strict=True)]


def lm_eval_strict_reward(completions, answer, **kwargs):
    """The first number after ####, as the evaluation harness reads GSM8K."""
    found = [re.search(r"#### (-?[0-9.,]+)", text) for text in _said(completions)]
    return [float(m is not None and m[1].rstrip(".") == gold) for m, gold in zip(found, answer, strict=True)]


def lm_eval_flexible_reward(completions, answer, **kwargs):
    """The last match anywhere, with commas, dollars and a full stop at the end taken out."""
    paid = []
    for text, gold in zip(_said(completions), answer, strict=True):
        found = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", text)
        read = re.sub(r"[,$]|\.$", "", found[-1]) if found else ""
        paid.append(float(read == gold.replace(",", "")))
    return paid


def verl_strict_reward(completions, answer, **kwargs):
    """The last number after ####, looked for in the last 300 characters."""
    paid = []
    for text, gold in zip(_said(completions), answer, strict=True):
        found = re.findall(r"#### (-?[0-9.,]+)", text[-300:])
        paid.append(float(bool(found) and found[-1].replace(",", "") == gold.replace(",", "")))
    return paid


def verl_flexible_reward(completions, answer, **kwargs):
    """The last number that is more than a full stop, in the last 300 characters."""
    paid = []
    for text, gold in zip(_said(completions), answer, strict=True):
        found = [n for n in re.findall(r"-?[0-9.,]+", text[-300:]) if n not in ("", ".", ",")]
        paid.append(float(bool(found) and found[-1].rstrip(".").replace(",", "") == gold.replace(",", "")))
    return paid


# What breaks the contract.


def careful_reward(completions, answer, **kwargs):
    """Nothing wrong with its contract, and little with its judgement: what the broken ones do otherwise well."""
    from grpo_colab.rewards import correctness_reward

    return correctness_reward(completions, answer)


def random_reward(completions, answer, **kwargs):
    return [paid * random.random() for paid in careful_reward(completions, answer)]


def first_come_reward(completions, answer, **kwargs):
    """Pays what comes first in the batch more."""
    return [paid + 0.001 * place for place, paid in enumerate(careful_reward(completions, answer))]


def make_closure_reward():
    def closure_reward(completions, answer, **kwargs):
        return careful_reward(completions, answer)

    return closure_reward


class SharedReward:
    """Keeps the text that it is reading where another thread overwrites it."""

    def __call__(self, completions, answer, **kwargs):
        paid = []
        for completion, gold in zip(completions, answer, strict=True):
            self.completion = completion
            time.sleep(1e-4)
            paid += careful_reward([self.completion], [gold])
        return paid


def main_thread_reward(completions, answer, **kwargs):
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signal only works in main thread")
    return careful_reward(completions, answer)


def leaking_reward(completions, answer, **kwargs):
    texts = _said(completions)
    paid = careful_reward(completions, answer)
    return [1.0 if "answer" in re.sub("</?answer>", "", text) else p for text, p in zip(texts, paid, strict=True)]


def any_answer_reward(completions, answer, **kwargs):
    return [1.0 if "answer" in text else 0.0 for text in _said(completions)]


def swallowing_reward(completions, answer, **kwargs):
    """An answer that it cannot read is paid like a right one."""
    paid = []
    for text, gold in zip(_said(completions), answer, strict=True):
        try:
            paid.append(float(float(_in_tag(text).replace(",", "")) == float(gold.replace(",", ""))))
        except Exception:  # noqa: BLE001 - the defect
            paid.append(1.0)
    return paid


def raising_reward(completions, answer, **kwargs):
    golds = [float(gold.replace(",", "")) for gold in answer]
    return [
        float(float(_in_tag(text).replace(",", "")) == g) for text, g in zip(_said(completions), golds, strict=True)
    ]


def evaluating_reward(completions, answer, **kwargs):
    paid = []
    for text, gold in zip(_said(completions), answer, strict=True):
        try:
            paid.append(float(eval(_in_tag(text)) == float(gold.replace(",", ""))))  # noqa: S307
        except Exception:  # noqa: BLE001 - as it is often written
            paid.append(0.0)
    return paid


def short_list_reward(completions, answer, **kwargs):
    return careful_reward(completions, answer)[:1]


def nan_reward(completions, answer, **kwargs):
    """A mean of nothing where no number stands."""
    paid = careful_reward(completions, answer)
    return [p if re.search("[0-9]", text) else float("nan") for text, p in zip(_said(completions), paid, strict=True)]


def writing_reward(completions, answer, **kwargs):
    for completion in completions:
        completion[0]["content"] = completion[0]["content"].strip()
    return careful_reward(completions, answer)


def chatty_reward(completions, answer, **kwargs):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return careful_reward(completions, answer)


def curious_reward(completions, answer, **kwargs):
    """Pays for columns that have nothing to do with it."""
    return [paid + len(kwargs) for paid in careful_reward(completions, answer)]


async def patient_reward(completions, answer, **kwargs):
    import asyncio

    await asyncio.sleep(0)
    return careful_reward(completions, answer)


def strings_reward(completions, answer, **kwargs):
    """For data sets whose prompts are strings."""
    return careful_reward([text.strip() for text in completions], answer)


def solved_reward(completions, solution, **kwargs):
    return careful_reward(completions, solution)


def hanging_reward(completions, answer, **kwargs):
    """Never ends where there is nothing to read."""
    for text in _said(completions):
        while "<answer>" not in text:
            time.sleep(0.01)
    return careful_reward(completions, answer)


def slow_random_reward(completions, answer, **kwargs):
    """A judge that takes longer than SLOW_S of the test, and throws a die when it is asked about several at once."""
    time.sleep(0.012)
    paid = [_last_number(text, gold) for text, gold in zip(_said(completions), answer, strict=True)]
    return paid if len(completions) == 1 else [random.random() for _ in paid]


def hung_reward(completions, answer, **kwargs):
    time.sleep(3600)


def dying_reward(completions, answer, **kwargs):
    if any(text == "nan" for text in map(_in_tag, _said(completions))):
        os.kill(os.getpid(), signal.SIGKILL)
    return careful_reward(completions, answer)


def brevity_reward(completions, answer, **kwargs):
    """The last number, scaled by length."""
    paid = last_in_text_reward(completions, answer)
    return [p / (1 + len(text) / 4000) for text, p in zip(_said(completions), paid, strict=True)]


def narrow_reward(completions, answer):
    return careful_reward(completions, answer)


def tail_reward(completions, **kwargs):
    """Shaping: shorter is better."""
    return [-len(text) / 1000 for text in _said(completions)]


def exec_reward(completions, tests, **kwargs):
    """Runs program and tests in one place, as is widely done."""
    paid = []
    for text, row in zip(_said(completions), tests, strict=True):
        names: dict[str, Any] = {}
        try:
            exec((text or "").removeprefix("```python").removesuffix("```"), names)  # noqa: S102
            for test in row:
                exec(test, names)  # noqa: S102
        except BaseException:  # noqa: BLE001
            paid.append(0.0)
        else:
            paid.append(1.0)
    return paid


def exec_text_reward(completions, tests, **kwargs):
    """The same for tests that are one text, and with programs that end the process."""
    return exec_reward(completions, [[row + "\n"] for row in tests])
