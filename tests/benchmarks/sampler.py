"""Compare ways to choose what is practised, on real outcomes of the tiny model: simulated steps, without training.

    python tests/benchmarks/sampler.py [--problems 600] [--seeds 12]

The base answers problems of the hard level eight times each. Then each way chooses two problems per step out of 16,
sees eight completions of each, and learns from that. `ranked` is the share of pairs of problems that it has never met
which it puts in the right order after 30 steps. `teach` is the mean chance that a chosen group has right and wrong
completions in 60 steps, while every problem's logit rises by so much per step.

`Beta by steps` and `by length` have a Beta posterior for each kind, of which 0.8 stays from step to step.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from steps_to_accuracy import HARD

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.tasks import Problem
from grpo_colab.tasks.kinds import features_of
from grpo_colab.tasks.word_problems import make_problem
from grpo_colab.training.sampling.forecast import Forecast, logistic
from grpo_colab.utils.device import current_device

Outcomes = Sequence[tuple[int, int, int]]
SEED = 301  # of no measurement of steps
GROUP, PROMPTS, CANDIDATES = 8, 2, 16


class BetaByKind:
    """A Beta posterior for each value of one feature."""

    def __init__(self, features: Sequence[Sequence[str]]) -> None:
        self.features = features
        self.counts: dict[str, list[float]] = {}

    def _beta(self, row: int) -> tuple[float, float]:
        right, wrong = self.counts.get(self.features[row][0], (0.0, 0.0))
        return 1 + right, 1 + wrong

    def share(self, row: int) -> float:
        """Return the mean of the posterior."""
        right, wrong = self._beta(row)
        return right / (right + wrong)

    def draw(self, row: int, rng: random.Random) -> float:
        """Return a share drawn from the posterior."""
        return rng.betavariate(*self._beta(row))

    def update(self, outcomes: Outcomes) -> None:
        """Add a step's counts to what is left of the earlier ones."""
        for kind in {self.features[row][0] for row, _, _ in outcomes}:
            self.counts[kind] = [0.8 * count for count in self.counts.get(kind, (0.0, 0.0))]
        for row, right, wrong in outcomes:
            counts = self.counts[self.features[row][0]]
            counts[0] += right
            counts[1] += wrong


class Uniform(BetaByKind):
    """No preference."""

    def draw(self, row: int, rng: random.Random) -> float:
        """Return a share of no meaning."""
        return rng.random()


def outcomes_of_the_base(problems: Sequence[Problem]) -> list[int]:
    """Return how many of GROUP completions of each problem are right, sampled from the tiny model."""
    recipe = Recipe.load(sampling={"merge_adapter": True})
    policy, task = load_policy(recipe, current_device()), recipe.load_task()
    torch.manual_seed(SEED)
    tokens = policy.sample([task.messages(one) for one in problems], GROUP, 48, temperature=1.0, batch_size=256)
    texts = policy.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    right = [task.grade(text, problems[place // GROUP]).right for place, text in enumerate(texts)]
    return [sum(right[start : start + GROUP]) for start in range(0, len(right), GROUP)]


def clusters(problems: Sequence[Problem], n: int) -> list[str]:
    """Return the cluster of each question among `n`, by TF-IDF, truncated SVD and k-means."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(min_df=2).fit_transform([problem.question for problem in problems])
    vectors = TruncatedSVD(50, random_state=0).fit_transform(words)
    return [f"cluster {label}" for label in KMeans(n, n_init=3, random_state=0).fit_predict(vectors)]


def ranked(way: BetaByKind | Forecast, right: Sequence[int], seed: int, steps: int = 30) -> float:
    """Return the share of pairs of unmet problems that are in the right order, where ties count half."""
    rng = random.Random(seed)
    order = rng.sample(range(len(right)), len(right))
    for step in range(steps):
        met = order[PROMPTS * step : PROMPTS * (step + 1)]
        way.update([(row, right[row], GROUP - right[row]) for row in met])
    new = order[PROMPTS * steps :]
    scores = []
    for _ in range(6000):
        a, b = sorted(rng.sample(new, 2), key=lambda row: -right[row])
        if right[a] != right[b]:
            scores.append(0.5 if way.share(a) == way.share(b) else float(way.share(a) > way.share(b)))
    return fmean(scores)


def teaching(way: BetaByKind | Forecast, right: Sequence[int], rise: float, seed: int, pool: int, steps: int) -> float:
    """Return the mean chance that a chosen group teaches. In a small pool each problem is made harder or easier."""
    rng = random.Random(seed)
    rows = rng.sample(range(len(right)), pool)
    own = 1.0 if pool < len(right) else 0.0
    logits = {row: math.log((right[row] + 0.3) / (GROUP - right[row] + 0.3)) + own * rng.gauss(0, 1) for row in rows}
    chances = []
    for step in range(steps):
        candidates = rng.sample(rows, CANDIDATES)
        chosen = sorted(candidates, key=lambda row: abs(way.draw(row, rng) - 0.5))[:PROMPTS]
        outcomes = []
        for row in chosen:
            share = logistic(logits[row] + rise * step)
            chances.append(1 - share**GROUP - (1 - share) ** GROUP)
            count = sum(rng.random() < share for _ in range(GROUP))
            outcomes.append((row, count, GROUP - count))
        way.update(outcomes)
    return fmean(chances)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=12)
    asked = parser.parse_args()
    problems = [make_problem("train", SEED, index, HARD) for index in range(asked.problems)]
    right = outcomes_of_the_base(problems)
    features = features_of(problems)
    steps, lengths = [(row[0],) for row in features], [(row[2],) for row in features]
    topics = [(cluster,) for cluster in clusters(problems, 8)]
    with_topics = [(*row, *topic) for row, topic in zip(features, topics, strict=True)]
    ways: dict[str, Callable[[], BetaByKind | Forecast]] = {
        "uniform": lambda: Uniform(steps),
        "Beta by steps": lambda: BetaByKind(steps),
        "Beta by length": lambda: BetaByKind(lengths),
        "Beta by cluster": lambda: BetaByKind(topics),
        "forecast, steps": lambda: Forecast(steps),
        "forecast, length": lambda: Forecast(lengths),
        "forecast, all": lambda: Forecast(features),
        "forecast, and cluster": lambda: Forecast(with_topics),
    }
    print("way                    ranked  teach, all problems      teach, 60 problems in 120 steps")
    print("                               0     0.05  0.1   0.2    0     0.02  0.05 rise of the logit per step")
    for name, make in ways.items():
        seeds = range(asked.seeds)
        line = [fmean(ranked(make(), right, seed) for seed in seeds)]
        for rise in (0.0, 0.05, 0.1, 0.2):
            line.append(fmean(teaching(make(), right, rise, seed, asked.problems, 60) for seed in seeds))
        for rise in (0.0, 0.02, 0.05):
            line.append(fmean(teaching(make(), right, rise, seed, 60, 120) for seed in seeds))
        print(f"{name:<23}{line[0]:.2f}    " + "  ".join(f"{value:.2f}" for value in line[1:]))


if __name__ == "__main__":
    main()
