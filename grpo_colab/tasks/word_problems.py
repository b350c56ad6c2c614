"""Generate word problems of one to three steps, without end, for a model of half a million parameters.

A problem is a short story. An opening says how many things there are, events change that number, and a closing asks for
it or for something computed from it. Every number in the text is 2 to 29, every result on the way is 1 to 99, and every
division has no remainder.

    >>> make_problem("train", seed=0, index=1).question
    'Uma has 15 red coins and 22 blue ones. How many coins are there in the end?'

A hash of its text decides which of "train" and "test" a problem belongs to, so no seed puts one problem into both. Both
are made of the same sentences. A third split, "new_stories", has sentences of its own, in words that the others have,
too: neither the training nor the pre-training of the shipped model has met one of them.
Left out on purpose: numbers above 99, fractions, numbers that the story does not need, results that are used twice.
Standard library only.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final, NamedTuple

from grpo_colab.tasks import Problem, Task

OPERAND_MAX = 29
RESULT_MAX = 99
STEP_WEIGHTS: Mapping[int, int] = {1: 31, 2: 39, 3: 30}  # number of steps -> share of the problems, in percent
NEW_STORIES: Final = "new_stories"
DEFAULT_SIZES = {"train": 4096, "test": 256, NEW_STORIES: 256}
TEST_SHARE = 8  # one question text in this many belongs to the test split, and the others to the training split

NAMES = {
    "Ada": "she", "Ben": "he", "Carla": "she", "Dan": "he", "Elif": "she", "Finn": "he", "Grace": "she", "Hugo": "he",
    "Hana": "she", "Ivan": "he", "June": "she", "Kofi": "he", "Lena": "she", "Marco": "he", "Nina": "she", "Omar": "he",
    "Priya": "she", "Quinn": "he", "Rosa": "she", "Sam": "he", "Sara": "she", "Tom": "he", "Uma": "she", "Wei": "he",
}  # fmt: skip
THINGS = (
    "apple", "balloon", "bead", "book", "button", "card", "coin", "cookie", "egg", "flower", "lemon", "marble",
    "muffin", "orange", "pencil", "plum", "postcard", "ribbon", "seed", "shell", "stamp", "sticker", "stone", "ticket",
)  # fmt: skip

# Each clause is an operation ("" for none) and its sentence. In a sentence, {a} is the first number of the story, and
# {b} the operand of the clause. {name} is the owner, with the pronouns {she}, {She}, {her}; {friend} is somebody else.
OPENINGS = (
    ("", "{name} has {a} {things}."),
    ("", "{name} starts the day with {a} {things}."),
    ("", "There are {a} {things} in {name}'s basket."),
    ("+", "{name} has {a} red {things} and {b} blue ones."),
    ("+", "{name} collects {a} {things} on Monday and {b} on Tuesday."),
    ("*", "{name} has {a} bags with {b} {things} in each."),
    ("*", "{name} fills {a} boxes with {b} {things} each."),
    ("-", "{name} takes {a} {things} to school and leaves {b} of them there."),
)
EVENTS = (
    ("+", "{friend} gives {her} {b} more {things}."),
    ("+", "Then {she} buys {b} more."),
    ("+", "{She} finds {b} more {things} at home."),
    ("-", "{She} gives {b} of them to {friend}."),
    ("-", "Then {she} loses {b} {things}."),
    ("-", "{She} trades {b} of them for a kite."),
    ("*", "By the next morning there are {b} times as many."),
)
CLOSINGS = (
    ("", "How many {things} does {name} have now?"),
    ("", "How many {things} are there in the end?"),
    ("+", "{friend} has {b} {things} more than {name}. How many {things} does {friend} have?"),
    ("-", "{friend} has {b} {things} fewer than {name}. How many {things} does {friend} have?"),
    ("*", "{She} sells every {thing} for {b} dollars. How many dollars does {she} get?"),
    ("*", "{friend} has {b} times as many {things} as {name}. How many {things} does {friend} have?"),
    ("/", "{She} shares them equally among {b} friends. How many {things} does each friend get?"),
    ("/", "{She} packs them into {b} bags of the same size. How many {things} are in each bag?"),
)

# The clauses of "new_stories". Their words are those above, as the shipped model has learnt no others.
NEW_OPENINGS = (
    ("", "{name} takes {a} {things} to school."),
    ("", "{a} {things} are in {name}'s bag."),
    ("", "By the next morning {name} has {a} {things}."),
    ("+", "{name} finds {a} {things} at school and {b} at home."),
    ("+", "{name} has {a} {things} in a basket and {b} in a bag."),
    ("*", "{name} buys {a} bags of {b} {things} each."),
    ("*", "There are {a} boxes in {name}'s basket with {b} {things} in each."),
    ("-", "{name} starts with {a} {things} and loses {b} of them."),
)
NEW_EVENTS = (
    ("+", "Then {she} collects {b} more at school."),
    ("+", "{friend} sells {her} {b} more."),
    ("+", "{She} trades a kite for {b} more {things}."),
    ("-", "Then {she} leaves {b} of them at school."),
    ("-", "{friend} takes {b} of them home."),
    ("-", "{She} sells {b} {things}."),
    ("*", "Then {she} has {b} times as many."),
)
NEW_CLOSINGS = (
    ("", "How many {things} are there now?"),
    ("", "How many {things} does {she} have in the end?"),
    ("+", "{friend} has as many {things} as {name} and {b} more. How many does {friend} have?"),
    ("-", "{friend} has {b} fewer. How many does {friend} have in the end?"),
    ("*", "{friend} buys every {thing} for {b} dollars. How many dollars does {name} get?"),
    ("*", "There are {b} times as many in {friend}'s basket. How many {things} are in {friend}'s basket?"),
    ("/", "{She} gives them equally to {b} friends. How many {things} does each have now?"),
    ("/", "{She} fills {b} bags of the same size with them. How many {things} are there in each?"),
)


class Clauses(NamedTuple):
    """The clauses that stories are made of."""

    openings: tuple[tuple[str, str], ...]
    events: tuple[tuple[str, str], ...]
    closings: tuple[tuple[str, str], ...]


KNOWN: Final = Clauses(OPENINGS, EVENTS, CLOSINGS)
NEW: Final = Clauses(NEW_OPENINGS, NEW_EVENTS, NEW_CLOSINGS)


class WordProblems(Task):
    """Generated word problems, which the shipped tiny model learns in about a minute on a CPU."""

    name = "word_problems"
    held_out_note = (
        "No sentence of these problems is new: the training problems have each of them, with other names, things and "
        "numbers."
    )
    further_splits: ClassVar[Mapping[str, str]] = {NEW_STORIES: "in sentences that no training problem has"}
    default_system_prompt = "Think in <reasoning>, then give the number in <answer>."

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of `split`; with n = None, 4,096 for training and 256 of the others.

        They are generated, so there are as many as are asked for. Raises ValueError for another split than "train",
        "test" and "new_stories".
        """
        _check_split(split)
        if n is None:
            n = DEFAULT_SIZES[split]
        return [make_problem(split, self.seed, index) for index in range(n)]


def make_problem(split: str, seed: int, index: int, step_weights: Mapping[int, int] = STEP_WEIGHTS) -> Problem:
    """Return problem `index` of a seed and a split of DEFAULT_SIZES, the same one on every machine.

    `step_weights` maps numbers of steps to their relative shares. A hash of split, seed and index seeds the random
    generator; with a sum, problem 1 of seed 0 would be problem 0 of seed 1. Stories that do not fit, or belong to the
    other split, are discarded until one is left. Raises ValueError for another split.
    """
    _check_split(split)
    rng = random.Random(hashlib.blake2b(f"{split}/{seed}/{index}".encode(), digest_size=16).digest())
    n_steps = rng.choices(list(step_weights), list(step_weights.values()))[0]
    while True:
        problem = _random_story(rng, n_steps, NEW if split == NEW_STORIES else KNOWN)
        if problem is not None and split in (NEW_STORIES, split_of(problem.question)):
            return replace(problem, source=f"word_problems/{split}/{seed}/{index}")


def _check_split(split: str) -> None:
    """Raise ValueError for a split that word problems do not have."""
    if split not in DEFAULT_SIZES:
        raise ValueError(f"split = {split!r}: word problems have {', '.join(map(repr, DEFAULT_SIZES))}")


def split_of(question: str) -> str:
    """Return "train" or "test", by a hash of a question's text, whatever its case and spacing."""
    text = " ".join(question.lower().split())
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


def apply(left: int, operation: str, right: int) -> int | None:
    """Return the result of `left operation right`, or None if it is not a whole number from 1 to 99."""
    if operation == "/":
        result = left // right if left % right == 0 else 0
    else:
        result = {"+": left + right, "-": left - right, "*": left * right}[operation]
    return result if 1 <= result <= RESULT_MAX else None


def _random_story(rng: random.Random, n_steps: int, made_of: Clauses) -> Problem | None:
    """Return a random story of `n_steps` steps, or None if its clauses or its numbers do not fit, as most do not."""
    opening, closing = rng.choice(made_of.openings), rng.choice(made_of.closings)
    n_events = n_steps - bool(opening[0]) - bool(closing[0])
    if n_events < 0 or (n_events == 0 and not opening[0] and not closing[0]):
        return None
    clauses = [opening, *rng.sample(made_of.events, n_events), closing]

    name, friend = rng.sample(list(NAMES), 2)
    she, thing = NAMES[name], rng.choice(THINGS)
    pronouns = {"she": she, "She": she.capitalize(), "her": "her" if she == "she" else "him"}
    words = {"name": name, "friend": friend, "thing": thing, "things": thing + "s", **pronouns}
    first = rng.randint(2, OPERAND_MAX)
    value = first  # how many things there are now
    sentences, steps = [], []
    for operation, sentence in clauses:
        operand = rng.randint(2, OPERAND_MAX if operation in ("+", "-") else 9)
        if operation:
            result = apply(value, operation, operand)
            if result is None:
                return None
            steps.append(f"{value} {operation} {operand} = {result}")
            value = result
        sentences.append(sentence.format(a=first, b=operand, **words))
    return Problem(" ".join(sentences), str(value), steps=tuple(steps))
