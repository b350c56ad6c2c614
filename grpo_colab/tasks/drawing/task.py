"""The drawing task: write a program that draws the image of the prompt.

The image is one that is learnt at test time, or random ones for training, as in ironbar's ARC25 notes. The program is
in calls of Python functions (`python_calls`, for real models) or in the compact language (`compact`, for the small
model). The reward is the share of right pixels.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

from grpo_colab.errors import SettingError, shown
from grpo_colab.rewards import Verdict, reads_golds
from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs
from grpo_colab.tasks import Problem, Task
from grpo_colab.tasks.drawing.canvas import MAX_SIDE, CanvasSize, Image, Program, execute, random_drawing, shape_of
from grpo_colab.tasks.drawing.compact import from_compact, image_words, to_compact
from grpo_colab.tasks.drawing.images import cover, image_text, load_image, parse_image, right_share
from grpo_colab.tasks.drawing.python_calls import LONGEST, SIGNATURES, run_python, to_python
from grpo_colab.utils.files import read_bytes

RANDOM = "random"
MOST_DRAWS = 100
MOST_STATEMENTS = MAX_SIDE**2  # enough for any image: one statement per pixel
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
    """Draw one image, the same in both splits; or, with image = "random", random drawings of 1 to `draws` objects.

    `image` is what `load_image` takes. `language` is that of the programs. Random images have `min_side` to `max_side`
    rows and columns. Raises SettingError for an image that cannot be loaded, a setting out of its bounds, and a system
    prompt in the compact language.
    """

    name = "drawing"
    default_system_prompt = ""
    default_rewards: ClassVar[Mapping[str, float]] = {"grpo_colab.tasks.drawing.pixels_reward": 1.0}

    def __init__(
        self,
        *,
        image: str = "12-squares",
        language: Literal["python", "compact"] = "python",
        draws: int = 5,
        min_side: int = 3,
        max_side: int = 10,
        system_prompt: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(system_prompt=system_prompt, seed=seed)
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
            random_choice = f'"{RANDOM}", to train on random drawings'
            remedy = f"{error.remedy}; or {random_choice}" if error.remedy else f"write {random_choice}"
            raise error.replace(remedy=remedy) from None
        self.source, self.language, self.draws = image, language, draws
        self.sides = range(min_side, max_side + 1)

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the one image, whatever the split, or the first `n` random drawings of the split.

        With n = None there are 4,096 random drawings for training and 256 for testing, and no image is in both splits.
        A problem's `steps` are the statements of a program that draws it; for a random drawing, those that made it.
        Raises ValueError for another split than "train" and "test".
        """
        if split not in DEFAULT_SIZES:
            raise ValueError(f"split = {split!r}: drawings have {' and '.join(map(repr, DEFAULT_SIZES))}")
        if self.image is not None:
            return [self._problem(self.image, cover(self.image), f"drawing/{self.source}")][:n]
        count = DEFAULT_SIZES[split] if n is None else n
        return [self._random_problem(split, index) for index in range(count)]

    def check_model(self, name: str, path: str) -> None:
        """Raise SettingError for a model that was made for another language, or for smaller images.

        The configuration of a small drawing model says what it was made for. Any other model writes Python, on images
        of every size. An absolute `path` without a readable configuration raises nothing, since loading it will say
        what is wrong. `name` is the model's name in the recipe, `path` its folder or its name on the hub.
        """
        made_for: dict[str, Any] = {"language": "python"}
        try:
            # follow: in the hub's cache, the file is a link
            config = json.loads(read_bytes(Path(path, "config.json"), follow=True))
            made_for = dict(config.get("drawing", made_for))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            # A folder without a readable model: loading it will say what is wrong. A name on the hub has no file yet.
            if Path(path).is_absolute():
                return
        if self.language != made_for.get("language"):
            raise SettingError(
                f"model.model_name = {name!r} was made for {made_for.get('language')!r}",
                setting="task.language",
                value=self.language,
                remedy="write that, or another model",
            )
        given: str | int
        if self.image:
            side, setting, given = max(shape_of(self.image)), "image", self.source
        else:
            side, setting, given = self.sides[-1], "max_side", self.sides[-1]
        if side > made_for.get("max_side", side):
            raise SettingError(
                f"has sides of {side}, and model.model_name = {name!r} was made for {made_for['max_side']} at most",
                setting=f"task.{setting}",
                value=given,
                remedy="write a smaller one, or another model",
            )

    def golden_completion(self, problem: Problem) -> str:
        """Return the program of the problem's steps.

        In Python it has a call per line; in the compact language all is on one line. Without steps, as after
        `problem_of`, it is an empty text.
        """
        return ("\n" if self.language == "python" else " ").join(problem.steps)

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """Return whether the completion draws the image exactly, with the share of right pixels as the verdict's value.

        The program runs as in `draw_completions`. The verdict is "right" or "wrong". The value is None if the
        completion draws nothing.
        """
        target = parse_image(problem.answer)
        drawing = draw_completions([completion], [target])[0]
        value = None
        if drawing is not None:
            value = Fraction(right_share(drawing, target)).limit_denominator(MOST_STATEMENTS)
        return Verdict("right" if drawing == target else "wrong", value)

    def lenient_right(self, completion: str, problem: Problem) -> bool:
        """Tell whether the completion draws the image exactly: a drawing is graded in one way only."""
        return self.grade(completion, problem).right

    def _random_problem(self, split: str, index: int) -> Problem:
        """Return random drawing `index` of a split, the same one on every machine.

        An image belongs to a split by its hash. Drawings of the other split are discarded until one fits.
        """
        source = f"drawing/{split}/{self.seed}/{index}"
        rng = random.Random(hashlib.blake2b(source.encode(), digest_size=16).digest())
        while True:
            image, program = random_drawing(rng, range(1, self.draws + 1), self.sides)
            if split_of(image) == split:
                return self._problem(image, program, source)

    def problem_of(self, image: Image) -> Problem:
        """Return the problem that asks for `image`, without the steps of a program; hindsight relabels with it."""
        return self._problem(image, (), "hindsight")

    def _problem(self, image: Image, program: Program, source: str) -> Problem:
        """Return the problem that asks for `image` in the task's language, with `program` as its solution."""
        if self.language == "compact":
            return Problem(
                image_words(image), image_text(image), source, tuple(to_compact((statement,)) for statement in program)
            )
        rows, columns = shape_of(image)
        text = image_text(image)
        question = QUESTION.format(rows=rows, columns=columns, image=text, functions="\n".join(SIGNATURES))
        return Problem(question, text, source, tuple(to_python(program).splitlines()))


def split_of(image: Image) -> str:
    """Return the split that a random image belongs to, "train" or "test", by a hash of its cells."""
    digest = hashlib.blake2b(image_text(image).encode(), digest_size=8).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


def _read_gold(gold: str) -> Image:
    """Return the image of a gold answer; raise ValueError, which shows the answer, for one that is none."""
    try:
        return parse_image(gold)
    except SettingError as error:
        raise ValueError(f"the gold answer is no image ({error}): {shown(gold)}") from None


@reads_golds(_read_gold)
def pixels_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Return the share of pixels that each completion's program draws right, 0.0 to 1.0.

    A program that draws nothing, because it fails, times out or is in neither language, gets 0.0. `answer` has images
    in rows of digits; a row without an answer gets None. Raises SettingError for an answer that is no image, TypeError
    for arguments of other types, and ValueError for lists of different lengths.
    """
    return [
        None if target is None else _share(right_share, drawing, target)
        for drawing, target in _drawings_and_targets("pixels_reward", completions, answer)
    ]


@reads_golds(_read_gold)
def exact_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Return 1.0 for each completion whose program draws the image of `answer` exactly, 0.0 for the others.

    A row without an answer gets None. Raises as `pixels_reward` does.
    """
    return [
        None if target is None else float(drawing == target)
        for drawing, target in _drawings_and_targets("exact_reward", completions, answer)
    ]


@reads_golds(_read_gold)
def foreground_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Return the share of right pixels among those that have a colour other than 0 in the image or in the drawing.

    Colour 0 is that of the empty canvas, so a blank drawing gets 0.0 unless the image is blank. A program that draws
    nothing gets 0.0, and a row without an answer None, as in `pixels_reward`. Raises as `pixels_reward` does.
    """
    return [
        None if target is None else _share(_foreground_share, drawing, target)
        for drawing, target in _drawings_and_targets("foreground_reward", completions, answer)
    ]


def _share(share_of: Callable[[Image, Image], float], drawing: Image | None, target: Image) -> float:
    """Return the share of right pixels as `share_of` computes it, 0.0 for no drawing."""
    return 0.0 if drawing is None else share_of(drawing, target)


def _foreground_share(drawing: Image, target: Image) -> float:
    """Return the share of right pixels among those that are not 0 in one image or the other; 1.0 if both are blank."""
    right = total = 0
    for drawn_row, target_row in zip(drawing, target, strict=True):
        for drawn_colour, target_colour in zip(drawn_row, target_row, strict=True):
            if drawn_colour or target_colour:
                total += 1
                right += drawn_colour == target_colour
    return right / total if total else 1.0


def _drawings_and_targets(
    reward: str, completions: Completions, answer: Golds
) -> list[tuple[Image | None, Image | None]]:
    """Return what each completion draws, and the image it was asked for, in pairs.

    A drawing is None if the program draws nothing; both are None for a row without an answer. `reward` is the name for
    errors, which are those of `pixels_reward`.
    """
    pairs = graded_pairs(reward, completions, answer)
    targets = [None if gold is None else _gold_image(reward, gold) for _, gold in pairs]
    judged = [(text, target) for (text, _), target in zip(pairs, targets, strict=True) if target is not None]
    drawings = iter(draw_completions([text for text, _ in judged], [target for _, target in judged]))
    return [(None, None) if target is None else (next(drawings), target) for target in targets]


def _gold_image(reward: str, gold: str) -> Image:
    """Return the image of a gold answer; raise SettingError that names the reward's `answer`."""
    try:
        return parse_image(gold)
    except SettingError as error:
        raise error.replace(setting="answer", value=gold, place=reward) from None


# A word of a program or of a prompt. A run such as "y0x2:3" alone would be Python, too: an annotation.
_WORD = "(?:[PHVLRS]|[cyxYXn][0-9]{1,2}|(?:rows|columns)[0-9]+|y[0-9]+x[0-9]+:[0-9])"
# The compact language begins with two words without a sign between them, which Python never has, or is one word alone.
_COMPACT = re.compile(rf"\s*{_WORD}(?:[ \t]+{_WORD}|\s*$)")
# What programs have drawn: several rewards and the grader ask for the same completions.
_CACHE: dict[tuple[str, CanvasSize], Image | None] = {}


def draw_completions(completions: Sequence[str], images: Sequence[Image]) -> list[Image | None]:
    """Return what each completion's program draws on an empty canvas of its image's shape; None if it draws nothing.

    The first two words decide which language a program is in. Programs of more than 50,000 characters or 900 compact
    statements do not run. Python programs run in the sandbox, all at once. What each has drawn is kept in this process
    for the next call, until there are over 1,024. Nothing is raised for a program that fails. Raises ValueError for
    lists of different lengths, and what `Sandbox.run` raises.
    """
    if len(_CACHE) > 1024:
        _CACHE.clear()
    keys = []
    for text, image in zip(completions, images, strict=True):
        keys.append((text if len(text) <= LONGEST else "", shape_of(image)))
    drawings = {key: _CACHE[key] for key in keys if key in _CACHE}
    python_keys = []
    for key in dict.fromkeys(keys):
        if key in drawings:
            continue
        text, shape = key
        if _COMPACT.match(text):
            drawings[key] = _draw_compact(text, shape)
        else:
            python_keys.append(key)
    if python_keys:
        outcomes = run_python([text for text, _ in python_keys], [shape for _, shape in python_keys])
        for key, outcome in zip(python_keys, outcomes, strict=True):
            # a text says why the program draws nothing
            drawings[key] = None if isinstance(outcome, str) else outcome
    _CACHE.update(drawings)
    return [drawings[key] for key in keys]


def _draw_compact(text: str, shape: CanvasSize) -> Image | None:
    """Return what a compact program draws; None if it is none, or has more than MOST_STATEMENTS statements."""
    try:
        program = from_compact(text)
    except ValueError:
        return None
    return execute(program, shape) if len(program) <= MOST_STATEMENTS else None
