"""Where things are on the pages: in view, not over each other, and on paper; on a screen and on a phone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import long_but

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import AFTER, BEFORE
from grpo_colab.reporting import report
from grpo_colab.reporting.embedding import embed
from tests.browser.test_report import all_drawn

Open = Callable[..., Any]
Box = dict[str, float]
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}
SCREENS = {"screen": {"width": 1400}, "phone": PHONE}
SIZES = pytest.mark.parametrize("size", long_but(["phone"], SCREENS))


def boxes(page: Any, selector: str) -> list[Box]:
    """Where the elements are that have a place on the page."""
    found = [one.bounding_box() for one in page.locator(selector).all()]
    return [box for box in found if box and box["width"]]


def overlap(one: Box, other: Box) -> bool:
    return (
        one["x"] < other["x"] + other["width"]
        and other["x"] < one["x"] + one["width"]
        and one["y"] < other["y"] + other["height"]
        and other["y"] < one["y"] + one["height"]
    )


def side(right: int) -> list[dict[str, Any]]:
    answered = {"completion": "7", "answer": "7", "verdict": "?", "rewards": {}}
    rights = [{"right": n < right, "lenient_right": n < right} for n in range(9)]
    return [{"source": n, "question": f"{n}?", **answered, **one} for n, one in enumerate(rights)]


def evaluated(path: Path, steps: int = 4, **tables: Any) -> Run:
    run = Run.create(Recipe.load(budget={"max_steps": 4}, **tables), path)
    row = {"reward_std": 0.5, "reward/max": 4.0, "reward/min": 0.0, "loss": 0.1, "grad_norm": 1.0, "num_tokens": 80_000}
    run.append("metrics.jsonl", [{"step": n, "reward": n / 2, **row} for n in range(1, steps + 1)])
    run.write_lines(BEFORE, side(3))
    run.write_lines(AFTER, side(6))
    return run


@SIZES
def test_the_ticks_of_steps_are_whole_and_each_is_there_once(size: str, open_page: Open, tmp_path: Path) -> None:
    """Also where a part of the chart is seen, after a zoom."""
    page = open_page(report([evaluated(tmp_path / "run").path]).as_uri(), **SCREENS[size])
    all_drawn(page)
    for chart in page.locator("#charts > .charts .chart").all():
        ticks = chart.locator(".xtick text").all_text_contents()
        assert ticks in (["1", "2", "3", "4"], ["0", "1", "2", "3", "4"]), chart.get_attribute("aria-label")
    chart = page.locator(".chart").first
    chart.evaluate("(chart) => Plotly.relayout(chart, {'xaxis.range': [1.5, 3.5]})")
    assert chart.locator(".xtick text").all_text_contents() == ["2", "3"]


def test_numbers_on_the_axes_are_as_people_write_them(open_page: Open, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.append("metrics.jsonl", [{"step": n, "mine": 20_000.0 * n, "learning_rate": 2e-5 * n} for n in range(1, 5)])
    page = open_page(report([run.path]).as_uri())
    page.get_by_text("More metrics").click()
    page.locator("#charts details .chart .ytick").first.wait_for()
    ticks = page.locator(".ytick text").all_text_contents()
    assert {"80,000", "0.00008"} <= set(ticks)
    assert not [text for text in ticks if re.search("[ekKM]", text)]
    chart = page.locator("#charts details .chart").first
    chart.evaluate("(chart) => Plotly.Fx.hover(chart, [{ curveNumber: 0, pointNumber: 3 }])")
    page.locator(".hoverlayer text").first.wait_for(state="attached")
    told = " ".join(page.locator(".hoverlayer text").all_text_contents())
    assert "80,000" in told
    assert "e+" not in told


def test_the_diamond_is_seen_around_the_dot(open_page: Open, tmp_path: Path) -> None:
    page = open_page(report([evaluated(tmp_path / "run").path]).as_uri())
    all_drawn(page)
    chart = page.locator("figure", has=page.get_by_role("heading", name="Held-out accuracy")).locator(".chart")
    dots, diamonds = (
        sorted(boxes(chart, f".scatterlayer .trace:nth-child({n}) .points path"), key=lambda box: box["x"])
        for n in (1, 2)
    )
    assert len(dots) == len(diamonds) == 2
    for dot, diamond in zip(dots, diamonds, strict=True):
        assert diamond["x"] < dot["x"] - 5
        assert diamond["x"] + diamond["width"] > dot["x"] + dot["width"] + 5


@SIZES
@pytest.mark.parametrize("count", [2, 6])
def test_nothing_of_a_comparison_is_cut_off(size: str, count: int, open_page: Open, tmp_path: Path) -> None:
    """Names and values as long as they come, and the accuracy is there, on a phone, too."""
    runs = []
    for n in range(count):
        image = f"hub/{'x' * 60}{n}"
        runs.append(evaluated(tmp_path / f"{'2026-11-21-word-problems-' * 5}{n}", model={"model_name": image}))
    width = SCREENS[size]["width"]
    page = open_page(report([run.path for run in runs], tmp_path / "page.html").as_uri(), **SCREENS[size])
    for selector in (".runs", ".settings"):
        cells = boxes(page, f"{selector} :is(td, th)")
        assert len(cells) >= 4 - 2 * (size == "phone")
        assert max(box["x"] + box["width"] for box in cells) <= width
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.locator(".runs").inner_text().count("66.7 %") == count
    for cell in page.locator(".runs td", has_text="66.7 %").all():
        assert cell.is_visible()


@SIZES
def test_all_completions_of_a_group_are_in_view_with_what_each_part_paid(
    size: str, open_page: Open, tmp_path: Path
) -> None:
    run = evaluated(tmp_path / "run")
    rewards = dict.fromkeys(run.recipe.rewards, 1.0)
    row = {"step": 1, "group": 0, "prompt": "3 + 4?", "answer": "7", "rewards": rewards, "advantage": 0.1}
    run.append("completions.jsonl", [{**row, "completion": f"<answer>{n}</answer>"} for n in range(8)])
    page = open_page(report([run.path]).as_uri(), **SCREENS[size])
    page.locator("#completions .row").first.click()
    page.get_by_text("Its group: 8 completions side by side").click()
    cards = boxes(page, ".group article")
    assert len(cards) == 8
    for card in cards:
        assert card["x"] >= 0
        assert card["x"] + card["width"] <= SCREENS[size]["width"]
    assert not any(overlap(*pair) for pair in itertools.combinations(cards, 2))
    paid = [line.split("\t") for line in page.locator(".group .parts").first.inner_text().splitlines()]
    assert paid[0] == ["correctness", "1 × 2 =", "2"]
    assert [line[1:] for line in paid[1:5]] == [["1 × 0.5 =", "0.5"]] * 4
    assert paid[5] == ["reward", "", "4"]
    assert "8 of 8" in page.locator(".group article").last.inner_text()


def test_whatever_is_printed_is_drawn(open_page: Open, tmp_path: Path) -> None:
    """By a program that prints as soon as the page is loaded, and by one that asks for no dialogue."""
    url = report([evaluated(tmp_path / "run").path]).as_uri()
    page = open_page("about:blank", height=300)
    page.goto(url, wait_until="load")
    assert page.locator("html").get_attribute("data-ready") == "yes"
    page.emulate_media(media="print")  # without the event of a dialogue
    page.locator("html.paper").wait_for(state="attached")
    charts = page.locator("#charts > .charts .chart")
    drawn = page.locator("#charts > .charts .chart .main-svg:first-child")
    assert charts.count() == drawn.count() == 4
    for box in boxes(page, "#charts > .charts .main-svg:first-child"):
        assert box["x"] + box["width"] <= 718  # the width of A4 within its margins
    page.emulate_media(media="screen")
    page.locator("html:not(.paper)").wait_for(state="attached")
    wide = max(box["width"] for box in boxes(page, "#charts > .charts .main-svg:first-child"))
    assert wide > 450  # as large as before


def test_the_titles_of_drawings_can_be_read_on_a_phone(open_page: Open, tmp_path: Path) -> None:
    from grpo_colab.tasks.drawing.rendering import png

    run = Run.create(Recipe.load("drawing-tiny"), tmp_path / "run")
    image = tuple((0, 1, 2, 3, 4, 5, 6, 7) for _ in range(6))
    png(run.path / "drawing.png", [image] * 6, ["target", *(f"step {n}: 10 % right" for n in range(5))])
    page = open_page(report([run.path]).as_uri(), **PHONE)
    picture = page.locator(".picture img").first
    assert picture.evaluate("(image) => image.clientWidth === image.naturalWidth && image.naturalWidth > 1000")
    assert page.get_by_text("Scroll it sideways").is_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


@pytest.fixture(scope="module")
def word_map(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (embed("word_problems", n=150, out=tmp_path_factory.mktemp("map") / "out").path / "map.html").as_uri()


@SIZES
def test_on_a_map_nothing_lies_on_something_else(size: str, word_map: str, open_page: Open) -> None:
    page = open_page(word_map, **SCREENS[size])
    words = boxes(page, ".annotation-text")
    assert len(words) > 5
    assert not any(overlap(*pair) for pair in itertools.combinations(words, 2))
    page.locator(".chart").hover()
    (bar,) = boxes(page, ".modebar")
    for column, colours in (("split", ".legend"), ("answer", ".colorbar")):
        page.select_option("#colour", column)
        page.locator(f".chart {colours}").wait_for()
        (legend,) = boxes(page, f".chart {colours}")
        assert not overlap(bar, legend)
        assert not any(overlap(word, legend) for word in words)
        assert legend["x"] + legend["width"] <= SCREENS[size]["width"]


@SIZES
def test_a_search_says_at_once_how_many_it_found(size: str, word_map: str, open_page: Open) -> None:
    page = open_page(word_map, **SCREENS[size])
    page.fill("#search", "marbles")
    page.get_by_role("link", name="See the list").wait_for()
    count = len(page.locator("#list tbody tr").all())
    assert page.locator("#found").inner_text() == f"{count} of 300 problems"
    (told,) = boxes(page, "#found")
    assert told["y"] + told["height"] < page.viewport_size["height"] / 2  # in view, with the search
    page.get_by_role("link", name="See the list").click()
    (first,) = boxes(page, "#list tbody tr:first-child td:first-child")
    assert 0 <= first["y"] < page.viewport_size["height"]
    assert first["x"] + first["width"] <= SCREENS[size]["width"]
    assert "marbles" in page.locator("#list tbody tr td").first.inner_text().lower()
    page.click("#clear")
    page.locator("#list tbody").wait_for(state="detached")
    assert page.locator("#found").inner_text() == ""


def test_one_huge_answer_leaves_the_others_their_colours(open_page: Open, tmp_path: Path) -> None:
    rows = [f'{{"prompt": "How many of {word} are there?", "answer": "{answer}"}}' for word, answer in ANSWERS]
    (tmp_path / "problems.jsonl").write_text("\n".join(rows))
    found = embed("jsonl", path=str(tmp_path / "problems.jsonl"), out=tmp_path / "out")
    page = open_page((found.path / "map.html").as_uri())
    page.select_option("#colour", "answer")
    page.locator(".colorbar").wait_for()
    colours = page.locator(".chart").evaluate("(chart) => chart.data.flatMap((trace) => [...trace.marker.color])")
    assert len({round(colour, 1) for colour in colours}) == 11  # over the whole scale, and not all at one end
    ticks = page.locator(".colorbar .cbaxis text").all_text_contents()
    assert ticks[-1] == "80,000,000"


ANSWERS = [(f"thing{n}", str(n if n < 59 else 80_000_000)) for n in range(60)]
