"""The drawing task: what is asked, what deserves which reward, and which language a completion is in."""

from __future__ import annotations

import pickle
import random

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.rewards import check_signature, resolve_reward
from grpo_colab.tasks.drawing import task as drawing
from grpo_colab.tasks.drawing.canvas import execute, shape_of
from grpo_colab.tasks.drawing.compact import from_compact, image_words
from grpo_colab.tasks.drawing.images import NAMED, image_text, load_image, parse_image
from grpo_colab.tasks.drawing.python_calls import parse_calls
from grpo_colab.tasks.drawing.task import (
    Drawing,
    draw_completions,
    exact_reward,
    foreground_reward,
    pixels_reward,
    split_of,
)

REWARDS = (pixels_reward, exact_reward, foreground_reward)
LANGUAGES = ("python", "compact")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("image", [*NAMED, "7-squares", "0123/4567", "00/00"])
def test_one_image_is_the_problem_of_both_splits_and_its_golden_completion_earns_all(image: str, language: str) -> None:
    task = Drawing(image=image, language=language)
    [problem] = task.problems("train")
    assert task.problems("test", 256) == [problem]
    assert parse_image(problem.answer) == load_image(image)
    golden = task.golden_completion(problem)
    for reward in REWARDS:
        assert reward([golden], answer=[problem.answer]) == [1.0]
    verdict = task.grade(golden, problem)
    assert verdict.right
    assert verdict.value == 1
    assert (parse_calls(golden) if language == "python" else from_compact(golden)) is not None


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_golden_completion_of_the_largest_and_noisiest_image_earns_all(language: str) -> None:
    """Neighbours always differ, so that it takes about a statement a pixel, of the longest numbers."""
    rng = random.Random(0)
    noise = "/".join("".join(str(rng.randrange(5) * 2 + (row + i) % 2) for i in range(30)) for row in range(30))
    task = Drawing(image=noise, language=language)
    [problem] = task.problems("test")
    assert len(problem.steps) > 700
    assert exact_reward([task.golden_completion(problem)], answer=[problem.answer]) == [1.0]


def test_the_compact_question_is_one_message_and_nothing_else() -> None:
    task = Drawing(image="12/34", language="compact")
    assert task.messages(task.problems("train")[0]) == [{"role": "user", "content": image_words(((1, 2), (3, 4)))}]


def test_the_python_question_says_the_image_its_size_and_every_function() -> None:
    task = Drawing(image="123/450")
    [message] = task.messages(task.problems("train")[0])
    assert message["role"] == "user"
    assert "\n123\n450\n" in message["content"]
    assert "2 rows and 3 columns" in message["content"]
    for signature in (
        "draw_pixel(img, point, color)",
        "draw_horizontal_line(img, row, color)",
        "draw_vertical_line(img, column, color)",
        "draw_line(img, point1, point2, color)",
        "draw_rectangle(img, point1, point2, color)",
        "draw_square(img, point, side, color)",
    ):
        assert f"\n{signature}\n" in message["content"]
    own = Drawing(image="123/450", system_prompt="You draw.")
    assert own.messages(own.problems("train")[0]) == [{"role": "system", "content": "You draw."}, message]


@pytest.mark.parametrize("language", LANGUAGES)
def test_random_drawings_come_with_a_program_in_splits_that_share_none(language: str) -> None:
    tasks = [Drawing(image="random", language=language, seed=seed) for seed in (0, 1)]
    train, test = ([p for task in tasks for p in task.problems(split, 200)] for split in ("train", "test"))
    assert not {problem.answer for problem in train} & {problem.answer for problem in test}
    assert {split_of(parse_image(problem.answer)) for problem in train} == {"train"}
    assert len({problem.answer for problem in train}) > 390
    problems = tasks[0].problems("test", 30)
    assert problems == tasks[0].problems("test", 200)[:30]
    for problem in problems:
        image = parse_image(problem.answer)
        golden = tasks[0].golden_completion(problem)
        program = parse_calls(golden) if language == "python" else from_compact(golden)
        assert program is not None
        assert execute(program, shape_of(image)) == image
        assert 1 <= len(problem.steps) == len(program) <= 5
        assert all(3 <= side <= 10 for side in shape_of(image))
    assert all(reward.right for reward in [tasks[0].grade(tasks[0].golden_completion(p), p) for p in problems[:5]])


def test_draws_and_sides_are_what_was_asked_for() -> None:
    problems = Drawing(image="random", language="compact", draws=12, min_side=6, max_side=7).problems("train", 60)
    assert 8 < max(len(problem.steps) for problem in problems) <= 12
    assert {side for p in problems for side in shape_of(parse_image(p.answer))} == {6, 7}
    task = Drawing(image="random", language="compact", draws=1, min_side=2, max_side=2)
    assert {len(problem.steps) for problem in task.problems("test", 20)} == {1}


def test_default_sizes_and_unknown_splits() -> None:
    task = Drawing(image="random", language="compact", max_side=4)
    assert (len(task.problems("train")), len(task.problems("test"))) == (4096, 256)
    for image in ("random", "chick"):
        with pytest.raises(ValueError, match="validation"):
            Drawing(image=image).problems("validation")


IMAGE = "1200\n0000"


@pytest.mark.parametrize(
    ("completion", "pixels", "exact", "foreground"),
    [
        ("P c1 y0 x0 P c2 y0 x1", 1.0, 1.0, 1.0),
        ("draw_pixel(img, (0, 0), 1)\ndraw_pixel(img, (0, 1), 2)", 1.0, 1.0, 1.0),
        ("```python\nfor i in range(2):\n    draw_pixel(img, (0, i), i + 1)\n```", 1.0, 1.0, 1.0),
        ("img = [[1, 2, 0, 0], [0, 0, 0, 0]]", 0.0, 0.0, 0.0),
        ('img = [list(map(int, row)) for row in """1200\n0000""".split()]', 0.0, 0.0, 0.0),
        ("y0x0:3", 0.0, 0.0, 0.0),
        ("y0x0:3 y0x1:2", 0.0, 0.0, 0.0),
        ("rows2 columns4 y0x0:1 y0x1:2 y0x2:0", 0.0, 0.0, 0.0),
        ("rows2", 0.0, 0.0, 0.0),
        ("P c1 y0 x0", 7 / 8, 0.0, 1 / 2),
        ("H c1 y0", 5 / 8, 0.0, 1 / 4),
        ("R c3 y0 x0 Y1 X3", 0.0, 0.0, 0.0),
        ("pass", 0.0, 0.0, 0.0),
        ("draw_pixel(img, (0, 0), 0)", 6 / 8, 0.0, 0.0),
        ("P c0 y0 x0", 6 / 8, 0.0, 0.0),
        ("x1 = 1\ndraw_pixel(img, (0, 0), x1)", 7 / 8, 0.0, 1 / 2),
        ("P c1 y0", 0.0, 0.0, 0.0),
        ("P c1 y0 x0 and so on", 0.0, 0.0, 0.0),
        ("c1 y0 x0", 0.0, 0.0, 0.0),
        ("P", 0.0, 0.0, 0.0),
        ("draw_pixel(img, (0, 0), 1)\nraise ValueError", 0.0, 0.0, 0.0),
        ("draw_pixel(img, (0, 0), 1)\nwhile True: pass", 0.0, 0.0, 0.0),
        ("draw_pixel(img, (0, 0), 1)\nimg[0][1] = 2", 0.0, 0.0, 0.0),
        ("I would draw two pixels.", 0.0, 0.0, 0.0),
        ("", 0.0, 0.0, 0.0),
        (" \n", 0.0, 0.0, 0.0),
        ("H c1 y0 " * 900, 5 / 8, 0.0, 1 / 4),
        ("H c1 y0 " * 901, 0.0, 0.0, 0.0),
        ("H c1 y0 " * 200_000, 0.0, 0.0, 0.0),
        ("x" * 1_000_000, 0.0, 0.0, 0.0),
        ("P c1 y0 x0" + " " * 50_000, 0.0, 0.0, 0.0),
    ],
    ids=range(31),
)
def test_what_a_completion_earns(completion: str, pixels: float, exact: float, foreground: float) -> None:
    conversation = [{"role": "assistant", "content": completion}]
    for reward, value in zip(REWARDS, (pixels, exact, foreground), strict=True):
        assert reward([completion], answer=[IMAGE]) == [value]
        assert reward(completions=[conversation], answer=[IMAGE], prompts=["?"], log_metric=print) == [value]
    task = Drawing(image=IMAGE)
    [problem] = task.problems("test")
    verdict = task.grade(completion, problem)
    assert verdict.right is (exact == 1.0)
    assert verdict.value in (pixels, None)
    assert (verdict.value is None) <= (pixels == 0.0)


def test_a_batch_keeps_its_order_whatever_is_in_it() -> None:
    clear, one = "draw_pixel(img, (0, 0), 0)", "draw_pixel(img, (0, 0), 1)"
    completions = [clear, "P c1 y0 x0", "nonsense!", "P c1 y0 x0", one, clear]
    answers = ["00/00", "10/00", "10/00", "1000", "12/00", None]
    assert pixels_reward(completions, answer=answers) == [1.0, 1.0, 0.0, 1.0, 0.75, None]
    assert exact_reward(completions, answer=answers) == [1.0, 1.0, 0.0, 1.0, 0.0, None]
    assert foreground_reward(completions, answer=answers) == [1.0, 1.0, 0.0, 1.0, 0.5, None]
    assert pixels_reward([], answer=[]) == []
    images = [load_image("00/00"), load_image("000/000/000")]
    assert list(map(shape_of, draw_completions(["V c3 x1"] * 2, images))) == [(2, 2), (3, 3)], (
        "the canvas is its image's"
    )


def test_more_completions_than_are_remembered() -> None:
    completions = [f"P c1 y{i % 30} x{i // 30}" for i in range(900)] + [
        f"P c2 y{i % 30} x{i // 30}" for i in range(900)
    ]
    image = load_image("225-squares")
    for colour in "345":
        texts = [text + f" P c{colour} y0 x0" for text in completions]
        assert draw_completions(texts, [image] * 1800) == [
            execute(from_compact(text), shape_of(image)) for text in texts
        ]
    assert len(drawing._CACHE) < 3000


def test_rewards_are_what_trl_and_a_pickle_take() -> None:
    for reward in REWARDS:
        check_signature(reward, Drawing(image="chick").reward_columns())
        assert pickle.loads(pickle.dumps(reward)) is reward
    with refused("answer", "eighteen", problem="row 1, column 1", remedy="write 0 to 9", place="pixels_reward"):
        pixels_reward(["pass"], answer=["eighteen"])
    with pytest.raises(TypeError, match="pixels_reward"):
        pixels_reward([3], answer=["00"])
    with pytest.raises(ValueError, match="2 answers for 1"):
        pixels_reward(["pass"], answer=["00", "00"])


@pytest.mark.parametrize(
    ("options", "problem", "remedy"),
    [
        ({"image": "12-sqares"}, "no such image or file", "did you mean '12-squares'"),
        ({"image": "Random"}, "no such image or file", '"random", to train on random drawings'),
        ({"image": "12/3"}, "row 2 has 1 cells and row 1 has 2", "write rows of one length"),
        ({"language": "logo"}, "no such language", "write 'python' or 'compact'"),
        ({"system_prompt": "You draw.", "language": "compact"}, "the prompt is the image alone", "leave it out"),
        ({"draws": 0}, "is no number of objects", "write 1 to 100"),
        ({"draws": 101}, "is no number of objects", "write 1 to 100"),
        ({"min_side": 1}, "is no side", "write 2 to 30"),
        ({"max_side": 31}, "is no side", "write 3 to 30"),
        ({"max_side": 7, "min_side": 8}, "is no side", "write 8 to 30"),
    ],
    ids=str,
)
def test_options_that_cannot_work(options: dict[str, object], problem: str, remedy: str) -> None:
    setting, value = next(iter(options.items()))
    with refused(f"task.{setting}", value, problem=problem, remedy=remedy):
        Drawing(**options)  # type: ignore[arg-type]


def test_an_image_of_ones_own(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("1 2\n3 4\n")
    [problem] = Drawing(image=str(tmp_path / "mine.txt")).problems("train")
    assert problem.answer == image_text(((1, 2), (3, 4)))


def test_the_rewards_have_the_names_that_recipes_of_every_age_give_them() -> None:
    module = "grpo_colab.tasks.drawing"
    recipe = Recipe.load("drawing-tiny", rewards={f"{module}.{reward.__name__}": 1.0 for reward in REWARDS})
    assert recipe.reward_functions() == [*REWARDS]
    with refused(remedy="did you mean 'pixels_reward'", snapshot=False):
        resolve_reward(f"{module}.pixel_reward")
