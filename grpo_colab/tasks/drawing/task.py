"""Drawing an image by a program: one image that is to be learnt at test time, or random ones to be trained on.

After ironbar's ARC25 notes: the prompt is an image, the completion a program, in calls of Python functions (for real
models) or in the compact language (for the small model). The reward is the share of right pixels.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

from grpo_colab.errors import SettingError
from grpo_colab.rewards import Verdict
from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs
from grpo_colab.tasks import Problem, Task
from grpo_colab.tasks.drawing.canvas import MAX_SIDE, CanvasSize, Image, Program, execute, random_drawing, shape_of
from grpo_colab.tasks.drawing.compact import asked, from_compact, to_compact
from grpo_colab.tasks.drawing.images import cover, image_text, load_image, parse_image, right_share
from grpo_colab.tasks.drawing.python_calls import LONGEST, SIGNATURES, run_python, to_python
from grpo_colab.utils.files import read_bytes

RANDOM = "random"
MOST_DRAWS = 100
MOST_STATEMENTS = MAX_SIDE**2  # a pixel each draws any image
DEFAULT_SIZES = {"train": 4096, "test": 256}
TEST_SHARE = 8  # one random image in this many belongs to the test split
QUESTION = """\
Draw this image of {rows} rows and {columns} columns; each digit is the color of a pixel:
{image}

img is a list of {rows} lists of {columns} zeros. Draw on it with these functions; points are (row, column), counted \
from 0 at the top left:
{functions}
Write the calls alone, one a line."""


class Drawing(Task):
    """One image in both splits, or with image = "random" drawings of 1 to `draws` objects, disjoint by a hash."""

    name = "drawing"
    default_system_prompt = ""
    default_rewards: ClassVar[Mapping[str, float]] = {"grpo_colab.tasks.drawing.task.pixels_reward": 1.0}

    def __init__(
        self,
        *,
        image: str = "12-squares",
        language: Literal["python", "compact"] = "python",
        draws: int = 5,
        min_side: int = 3,
        max_side: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if language not in ("python", "compact"):
            remedy = "write 'python' or 'compact'"
            raise SettingError("no such language", setting="task.language", value=language, remedy=remedy)
        if language == "compact" and self.system_prompt:
            raise SettingError(
                "in the compact language the prompt is the image alone",
                setting="task.system_prompt",
                value=self.system_prompt,
                remedy='leave it out, or write task.language = "python"',
            )
        if not 1 <= draws <= MOST_DRAWS:
            raise SettingError(
                "is no number of objects in a random image",
                setting="task.draws",
                value=draws,
                remedy=f"write 1 to {MOST_DRAWS}",
            )
        for option, side, least in (("min_side", min_side, 2), ("max_side", max_side, min_side)):
            if not least <= side <= MAX_SIDE:
                remedy = f"write {least} to {MAX_SIDE}"
                raise SettingError("is no side of an image", setting=f"task.{option}", value=side, remedy=remedy)
        try:
            self.image = None if image == RANDOM else load_image(image, "task.image")
        except SettingError as error:
            otherwise = f'"{RANDOM}", to train on random drawings'
            remedy = f"{error.remedy}; or {otherwise}" if error.remedy else f"write {otherwise}"
            raise error.replace(remedy=remedy) from None
        self.source, self.language, self.draws = image, language, draws
        self.sides = range(min_side, max_side + 1)

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """The one image whatever the split; or the first `n` random ones, for None 4,096 for training, 256 for testing.

        `steps` are the statements of a program that draws it: a random drawing's own.
        """
        if split not in DEFAULT_SIZES:
            raise ValueError(f"split = {split!r}: drawings have {' and '.join(map(repr, DEFAULT_SIZES))}")
        if self.image is not None:
            return [self._problem(self.image, cover(self.image), f"drawing/{self.source}")][:n]
        return [self._random_problem(split, index) for index in range(DEFAULT_SIZES[split] if n is None else n)]

    def check_model(self, name: str, path: str) -> None:
        """A small model writes the language that it was made for, on canvases that it knows; any other writes Python.

        SettingError for another language, and for an image that is too large.
        """
        made: dict[str, Any] = {"language": "python"}
        try:
            config = json.loads(read_bytes(Path(path, "config.json"), follow=True))  # in a hub's cache it is a link
            made = dict(config.get("drawing", made))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            if Path(path).is_absolute():
                return  # a folder without a model, of which its loader says what is wrong
        if self.language != made.get("language"):
            raise SettingError(
                f"model.model_name = {name!r} was made for {made.get('language')!r}",
                setting="task.language",
                value=self.language,
                remedy="write that, or another model",
            )
        side = max(shape_of(self.image)) if self.image else self.sides[-1]
        if side > made.get("max_side", side):
            setting, given = ("image", self.source) if self.image else ("max_side", self.sides[-1])
            raise SettingError(
                f"has sides of {side}, and model.model_name = {name!r} was made for {made['max_side']} at most",
                setting=f"task.{setting}",
                value=given,
                remedy="write a smaller one, or another model",
            )

    def golden_completion(self, problem: Problem) -> str:
        return ("\n" if self.language == "python" else " ").join(problem.steps)

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """Right where the image is drawn exactly; `value` is the share of right pixels, None for what draws nothing."""
        image = parse_image(problem.answer)
        found = drawn([completion], [image])[0]
        value = None if found is None else Fraction(right_share(found, image)).limit_denominator(MOST_STATEMENTS)
        return Verdict("right" if found == image else "wrong", value)

    def lenient_right(self, completion: str, problem: Problem) -> bool:
        return self.grade(completion, problem).right

    def _random_problem(self, split: str, index: int) -> Problem:
        """The same one on every machine; what belongs to the other split is thrown away, as in word problems."""
        source = f"drawing/{split}/{self.seed}/{index}"
        rng = random.Random(hashlib.blake2b(source.encode(), digest_size=16).digest())
        while True:
            image, program = random_drawing(rng, range(1, self.draws + 1), self.sides)
            if split_of(image) == split:
                return self._problem(image, program, source)

    def problem_of(self, image: Image) -> Problem:
        """What is asked for where `image` is; no program is known."""
        return self._problem(image, (), "hindsight")

    def _problem(self, image: Image, program: Program, source: str) -> Problem:
        if self.language == "compact":
            return Problem(asked(image), image_text(image), source, tuple(to_compact((one,)) for one in program))
        rows, columns = shape_of(image)
        text = image_text(image)
        question = QUESTION.format(rows=rows, columns=columns, image=text, functions="\n".join(SIGNATURES))
        return Problem(question, text, source, tuple(to_python(program).splitlines()))


def split_of(image: Image) -> str:
    digest = hashlib.blake2b(image_text(image).encode(), digest_size=8).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


def pixels_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """The share of pixels that the completion's program draws right; 0.0 for what draws nothing.

    That is a program which fails or times out, or is of neither language. The answer is an image in rows of digits.
    """
    pairs = _drawings("pixels_reward", completions, answer)
    return [None if image is None else 0.0 if found is None else right_share(found, image) for found, image in pairs]


def exact_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """1.0 where the completion's program draws the answer's image exactly, else 0.0."""
    return [None if i is None else float(found == i) for found, i in _drawings("exact_reward", completions, answer)]


def foreground_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """The share of right pixels among those that are not 0, the empty canvas's colour, in the image or the drawing.

    0.0 for what draws nothing, as in `pixels_reward`; a blank canvas is worth nothing here unless that was asked for.
    """
    pairs = _drawings("foreground_reward", completions, answer)
    return [None if image is None else 0.0 if found is None else _foreground(found, image) for found, image in pairs]


def _foreground(found: Image, image: Image) -> float:
    cells = [pair for rows in zip(found, image, strict=True) for pair in zip(*rows, strict=True) if any(pair)]
    return sum(a == b for a, b in cells) / len(cells) if cells else 1.0


def _drawings(name: str, completions: Completions, answer: Golds) -> list[tuple[Image | None, Image | None]]:
    """What each completion draws, and what was asked for; None for no drawing, and for no answer."""
    pairs = graded_pairs(name, completions, answer)
    images = [None if gold is None else _gold_image(name, gold) for _, gold in pairs]
    judged = [(text, image) for (text, _), image in zip(pairs, images, strict=True) if image is not None]
    found = iter(drawn([text for text, _ in judged], [image for _, image in judged]))
    return [(None, None) if image is None else (next(found), image) for image in images]


def _gold_image(reward: str, gold: str) -> Image:
    try:
        return parse_image(gold)
    except SettingError as error:
        raise error.replace(setting="answer", value=gold, place=reward) from None


# of a program, or of the question: "y0x2:3" alone would be Python, an annotation
_WORD = "(?:[PHVLRS]|[cyxYXn][0-9]{1,2}|(?:rows|columns)[0-9]+|y[0-9]+x[0-9]+:[0-9])"
# two words with no sign between, which Python never has; or one alone
_COMPACT = re.compile(rf"\s*{_WORD}(?:[ \t]+{_WORD}|\s*$)")
_DRAWN: dict[tuple[str, CanvasSize], Image | None] = {}  # several rewards and the grader ask for the same completions


def drawn(completions: Sequence[str], images: Sequence[Image]) -> list[Image | None]:
    """What each completion's program draws on an empty canvas of its image's shape; None where it draws nothing.

    Its language is seen from its first two words. Programs of over 50,000 characters or 900 compact statements are not
    run; those in Python are run in the sandbox, all at once.
    """
    if len(_DRAWN) > 1024:
        _DRAWN.clear()
    keys = [(text if len(text) <= LONGEST else "", shape_of(i)) for text, i in zip(completions, images, strict=True)]
    found = {key: _DRAWN[key] for key in keys if key in _DRAWN}
    python = []
    for key in dict.fromkeys(keys):
        if key not in found and _COMPACT.match(key[0]):
            found[key] = _draw_compact(*key)
        elif key not in found:
            python.append(key)
    ran = run_python([text for text, _ in python], [shape for _, shape in python]) if python else []
    found |= {key: None if isinstance(made, str) else made for key, made in zip(python, ran, strict=True)}
    _DRAWN.update(found)
    return [found[key] for key in keys]


def _draw_compact(text: str, shape: CanvasSize) -> Image | None:
    try:
        program = from_compact(text)
    except ValueError:
        return None
    return execute(program, shape) if len(program) <= MOST_STATEMENTS else None
