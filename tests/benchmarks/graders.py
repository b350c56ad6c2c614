"""Completions a second of four graders on the real GSM8K test solutions: string equality, ours, math-verify, TRL's.

    python tests/benchmarks/graders.py [--rounds 5] [--slow 150]

All in this one process, in turns, each with the solutions in the form that it needs: `<answer>N</answer>` for the first
two, `\\boxed{N}` for the others, which grade only `--slow` of them a round, since they take milliseconds each. What is
known about a gold answer beforehand (its text without commas) costs nobody anything. Prints medians and ratios.

Then the same for the answer alone, written in several ways, ours against math-verify on the same text: a bare number, a
sentence, a box, a unit, an equation. What ours has cached is forgotten before each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
GSM8K = Path(__file__).parents[3] / "shared" / "gsm8k" / "test.jsonl"


def graders(count: int, slow: int) -> dict[str, tuple[int, Callable[[], list[float]]]]:
    """By name: how many completions it grades, and the call that does."""
    from math_verify import parse, verify
    from trl.rewards import accuracy_reward

    from grpo_colab.rewards import correctness_reward
    from grpo_colab.rewards.latex import math_reward

    rows = [json.loads(line)["answer"].partition("####") for line in GSM8K.open(encoding="utf-8")][:count]
    golds = [gold.strip().replace(",", "") for _, _, gold in rows]
    pairs = [(steps.strip(), gold) for (steps, _, _), gold in zip(rows, golds, strict=True)]
    tagged = [f"<reasoning>\n{steps}\n</reasoning>\n<answer>\n{gold}\n</answer>\n" for steps, gold in pairs]
    boxed = [f"{steps}\nThe answer is $\\boxed{{{gold}}}$." for steps, gold in pairs]
    said = [[{"role": "assistant", "content": text}] for text in tagged]
    boxed_said = [[{"role": "assistant", "content": text}] for text in boxed[:slow]]

    def equality() -> list[float]:
        answers = [text.split("<answer>")[-1].split("</answer>")[0].strip() for text in tagged]
        return [1.0 if answer == gold else 0.0 for answer, gold in zip(answers, golds, strict=True)]

    def bare_math_verify() -> list[float]:
        return [float(verify(parse(gold), parse(text))) for text, gold in zip(boxed[:slow], golds, strict=False)]

    return {
        "string equality": (len(rows), equality),
        "correctness_reward, strings": (len(rows), lambda: correctness_reward(tagged, golds)),
        "correctness_reward, conversations": (len(rows), lambda: correctness_reward(said, golds)),
        "math_reward, boxed": (len(rows), lambda: math_reward(boxed, golds)),
        "math-verify": (slow, bare_math_verify),
        "TRL accuracy_reward": (slow, lambda: accuracy_reward(boxed_said, golds[:slow])),
    }


STYLES = {
    "N": "{}",
    "The answer is $N.": "The answer is ${}.",
    "\\boxed{N}": "\\boxed{{{}}}",
    "N eggs": "{} eggs",
    "She earns $N every day.": "She earns ${} every day.",
    "3 * 6 = N": "3 * 6 = {}",
    "N, in Chinese": "一共有{}个。",
}


def styles(rounds: int, slow: int) -> None:
    """Print the speeds of both graders for every style of answer."""
    from math_verify import parse, verify

    from grpo_colab.rewards import correctness_reward, grading, number_parser, numerals

    caches = [grading._gold_number, number_parser._plain, number_parser._read, numerals._integer]
    rows = [json.loads(line)["answer"] for line in GSM8K.open(encoding="utf-8")]
    golds = [row.rpartition("####")[2].strip().replace(",", "") for row in rows]
    print(f"\n{'answer':<26}{'ours/s':>12}{'math-verify/s':>16}{'ratio':>9}")
    for name, style in STYLES.items():
        answers = [style.format(gold) for gold in golds]
        tagged = [f"<answer>\n{answer}\n</answer>" for answer in answers]
        ours, theirs = [], []
        for turn in range(rounds + 1):
            for cache in caches:
                cache.cache_clear()
            began = time.perf_counter()
            paid = correctness_reward(tagged, golds)
            ours.append(len(tagged) / (time.perf_counter() - began))
            assert paid == [1.0] * len(tagged)
            began = time.perf_counter()
            for answer, gold in zip(answers[:slow], golds, strict=False):
                verify(parse(gold), parse(answer))
            theirs.append(slow / (time.perf_counter() - began))
            if turn == 0:  # the first warms up
                ours.clear(), theirs.clear()
        one, other = statistics.median(ours), statistics.median(theirs)
        print(f"{name:<26}{one:>12,.0f}{other:>16,.0f}{one / other:>8.0f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow", type=int, default=150)
    options = parser.parse_args()
    calls = graders(1319, options.slow)
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(options.rounds + 1):  # the first warms up what is cached
        for name, (count, call) in calls.items():
            repeats = 20 if count > options.slow else 1
            began = time.perf_counter()
            for _ in range(repeats):
                paid = call()
            if turn:
                speeds[name].append(repeats * count / (time.perf_counter() - began))
            assert paid == [1.0] * count, f"{name} calls {paid.count(0.0)} of {count} wrong"
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ours = medians["correctness_reward, strings"]
    print(f"{'grader':<36}{'completions/s':>15}{'ours is':>12}")
    for name, median in medians.items():
        print(f"{name:<36}{median:>15,.0f}{ours / median:>10.2f} x")
    styles(options.rounds, options.slow)


if __name__ == "__main__":
    main()
