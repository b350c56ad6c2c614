"""The report in a real browser: of a real run, of a big one, of a hostile one, on a phone, on paper, by keyboard."""

from __future__ import annotations

import html
import importlib.util
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import AFTER, BEFORE
from grpo_colab.reporting import report
from grpo_colab.utils.files import append, lines
from tests.browser.conftest import colours

Open = Callable[..., Any]
Keep = Callable[..., Path]
NASTY = {
    "a script": "<script>document.title = 'run'</script>",
    "an image that runs": "<img src=x onerror=\"document.title = 'run'\">",
    "the end of a script": "</script><script>document.title = 'run'</script><!--",
    "the end of the page": "</pre></details></body></html>",
    "a link": '<a href="javascript:document.title=1">x</a> [x](javascript:alert(1))',
    "a template's place": "$title ${sections} {{x}} %{x} $$x^2$$ <br><b>bold</b>",
    "escapes": "\x1b[31mred\x1b]0;title\x07 \x9b2J \r\n a\x00b",
    "half a pair": "half \ud800 pair",
    "from right to left": "a\u202eright to left\u202c \u2066b\u2069 מימין לשמאל",
    "many scripts": "😀 漢字 ق́ π ≠ ∞ ﷽",
    "a regular expression": "(a+)+$ [ \\ .* ^",
    "a long word": "x" * 3000,
}


@pytest.fixture
def real(finished_run: Path) -> Path:
    return finished_run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def all_drawn(page: Any) -> None:
    page.wait_for_selector("#charts[data-drawn]", timeout=60_000)


def charts_have_pixels(page: Any, keep: Keep, name: str, most: int = 2) -> int:
    """Whether the first charts have lines in them, and how many were looked at."""
    found = page.locator("#charts > .charts .chart").all()[:most]
    for n, chart in enumerate(found):
        chart.scroll_into_view_if_needed()
        path = keep(chart, f"{name}-chart-{n}")
        assert colours(path) > 1000, chart.get_attribute("aria-label")
        path.unlink()
    return len(found)


def values(chart: Any) -> list[str]:
    """The rows of a chart's values below their head, once they are there: the browser tells of an opening after it."""
    chart.get_by_text("Values").click()
    chart.locator(".steps tr").last.wait_for()
    return chart.locator(".steps tr").all_inner_texts()[1:]


def said(page: Any, name: str) -> str:
    """Such as "1 to 25 of 128 completions"."""
    return page.locator(f"#{name} [role=status]").inner_text()


def test_the_report_of_a_real_run_has_all_its_parts(real: Path, open_page: Open, keep: Keep) -> None:
    page = open_page((real / "report.html").as_uri())
    all_drawn(page)
    heads = page.locator("h2").all_inner_texts()
    parts = [
        "What it learnt",
        "Charts",
        "Completions in training",
        "Before and after, by problem",
        "Recipe and environment",
    ]
    assert [head for head in heads if head in parts] == parts
    charts = set(page.locator("#charts > .charts h3").all_inner_texts())
    assert charts >= {
        "Reward",
        "Its parts, unweighted",
        "Held-out accuracy",
        "Verdicts",
        "Groups with variance",
        "Loss",
    }
    assert charts >= {"Completion length, tokens", "Entropy", "Gradient norm", "Learning rate", "Step time, s"}
    assert charts_have_pixels(page, keep, "report", 99) == len(charts)
    keep(page, "report-light")
    reward = page.locator("figure", has=page.get_by_role("heading", name="Reward", exact=True))
    metrics = rows(real / "metrics.jsonl")
    assert len(values(reward)) == len(metrics)
    first, last = (f"{row['reward']:.3g} (step {row['step']})" for row in (metrics[0], metrics[-1]))
    assert reward.locator(".ends tr").nth(1).inner_text().split("\t")[:3] == ["mean", first, last]
    page.get_by_text("More metrics").click()
    more = page.locator("#charts details .charts .chart").last
    more.locator("svg").first.wait_for()
    more.scroll_into_view_if_needed()
    assert colours(keep(more, "report-more")) > 500


def test_completions_are_searched_and_filtered(real: Path, open_page: Open) -> None:
    page = open_page((real / "report.html").as_uri())
    written = rows(real / "completions.jsonl")
    asked = [row["prompt"][-1]["content"] for row in written]
    place = page.locator("#completions")
    assert said(page, "completions") == f"1 to 25 of {len(written)} completions"

    word = re.findall(r"[A-Z][a-z]+", asked[-1])[0]  # a name, such as "Ivan"
    place.get_by_label("Search").fill(f"{word.upper()} {word[1:3]}")
    has = [
        word.lower() in f"{question} {row['completion']}".lower() for question, row in zip(asked, written, strict=True)
    ]
    assert said(page, "completions").endswith(f"of {sum(has)} completions")
    assert sum(has) < len(written)
    assert place.locator(".row mark").first.inner_text().lower() in (word.lower(), word[1:3].lower())
    place.get_by_label("Search").fill("nowhere-to-be-found")
    assert said(page, "completions") == "No completions are like that."
    place.get_by_label("Search").fill("")

    place.get_by_label("Step from").fill("3")
    place.get_by_label("to", exact=True).first.fill("4")
    within = [row for row in written if 3 <= row["step"] <= 4]
    assert said(page, "completions").endswith(f"of {len(within)} completions")
    place.get_by_label("Verdict").select_option("right")
    right = [row for row in within if row["rewards"]["correctness"] == 1.0]
    assert right
    assert said(page, "completions").endswith(f"of {len(right)} completions")
    place.get_by_label("Verdict").select_option("not right")
    assert f"of {len(within) - len(right)} completions" in said(page, "completions")
    place.get_by_label("Verdict").select_option("any")
    place.get_by_label("Reward from").fill("4")
    best = [row for row in within if sum(row["rewards"].values()) == 5]  # all of them: 2 + 4 x 0.5
    assert f"of {len(best)} completions" in said(page, "completions")
    assert "completions.from=3" in page.url


def test_a_completion_opens_with_its_group_and_the_view_has_an_address(real: Path, open_page: Open, keep: Keep) -> None:
    page = open_page((real / "report.html").as_uri() + "#?completions.from=3&completions.to=4")
    place = page.locator("#completions")
    within = [row for row in rows(real / "completions.jsonl") if 3 <= row["step"] <= 4]
    assert said(page, "completions").endswith(f"of {len(within)} completions")
    place.get_by_label("Sort").select_option("lowest reward")
    least = [float(text) for text in place.locator(".row .number").all_inner_texts()]
    assert least == sorted(least)

    row = place.locator(".row").nth(2)
    row.click()
    place.get_by_text("Its group: 8 completions side by side").click()
    earned = [float(head.split()[1]) for head in place.locator(".group h4").all_inner_texts()]
    assert len(earned) == 8
    assert earned == sorted(earned, reverse=True)
    texts = sorted(" ".join(text.split()) for text in place.locator(".group pre").all_inner_texts())
    groups: dict[tuple[int, int], list[str]] = {}
    for one in within:
        groups.setdefault((one["step"], one["group"]), []).append(" ".join(one["completion"].split()))
    assert texts in [sorted(group) for group in groups.values()]
    assert place.locator(".group article.this").count() == 1
    keep(page, "report-group")
    row.click()
    assert place.locator(".group").count() == 0
    assert "completions.sort=lowest+reward" in page.url


def test_before_and_after_on_the_same_problem(real: Path, open_page: Open, keep: Keep) -> None:
    page = open_page((real / "report.html").as_uri())
    place = page.locator("#problems")
    before, after = rows(real / BEFORE), rows(real / AFTER)
    assert said(page, "problems").endswith(f"of {len(before)} problems")
    kinds = {
        (True, False): "lost",
        (False, True): "gained",
        (False, False): "wrong in both",
        (True, True): "right in both",
    }
    found = [kinds[b["right"], a["right"]] for b, a in zip(before, after, strict=True)]
    for kind in set(found):
        place.get_by_label("Which").select_option(kind)
        assert said(page, "problems").endswith(f"of {found.count(kind)} problems")
        assert set(place.locator(".row b").all_inner_texts()) == {kind}
    place.get_by_label("Which").select_option("any")
    place.get_by_label("Search").fill(before[5]["question"])
    place.locator(".row").first.click()
    sides = place.locator(".sides pre")
    assert sides.nth(0).inner_text().split() == before[5]["completion"].split()
    assert sides.nth(1).inner_text().split() == after[5]["completion"].split()
    keep(page.locator("#problems"), "report-problems")


def test_by_keyboard_alone(real: Path, open_page: Open) -> None:
    page = open_page((real / "report.html").as_uri())
    focused = "document.activeElement"
    page.evaluate("() => document.querySelector('#charts').scrollIntoView()")
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate(f"() => {focused}.matches('#completions .row')"):
            break
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    assert page.evaluate(f"() => [...document.querySelectorAll('#completions .row')].indexOf({focused})") == 1
    page.keyboard.press("Enter")
    assert page.locator("#completions .detail").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the button of its group
    assert page.locator("#completions .group article").count() == 8
    page.keyboard.press("Tab")
    assert page.evaluate(f"() => {focused}.className") == "group"  # which the arrow keys then scroll
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")  # beyond the last: the next page
    assert said(page, "completions").startswith("26 to 50")
    page.keyboard.press("ArrowUp")
    assert said(page, "completions").startswith("1 to 25")
    assert page.evaluate(f"() => [...document.querySelectorAll('#completions .row')].indexOf({focused})") == 24


def test_in_the_dark_on_a_phone_and_on_paper(real: Path, open_page: Open, keep: Keep) -> None:
    from PIL import Image

    url = (real / "report.html").as_uri()
    dark = open_page(url, scheme="dark")
    all_drawn(dark)
    assert charts_have_pixels(dark, keep, "report-dark") == 2
    picture = Image.open(keep(dark, "report-dark")).convert("L")
    assert sum(picture.resize((50, 50)).getdata()) / 2500 < 90  # of 255

    phone = open_page(url, width=360, height=740, has_touch=True, is_mobile=True)
    all_drawn(phone)
    phone.locator("#completions .row").first.click()
    phone.get_by_text("Its group: 8 completions side by side").click()
    phone.locator("#problems .row").first.click()
    keep(phone, "report-phone")
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert charts_have_pixels(phone, keep, "report-phone") == 2

    dark.emulate_media(media="print", color_scheme="dark")
    dark.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    picture = Image.open(keep(dark, "report-print")).convert("L")
    assert sum(picture.resize((50, 50)).getdata()) / 2500 > 220  # white paper
    assert dark.locator("#completions .tools").is_hidden()
    assert dark.pdf()[:4] == b"%PDF"


def test_on_paper_all_charts_are_there_however_soon_it_is_printed(real: Path, open_page: Open) -> None:
    page = open_page((real / "report.html").as_uri(), height=200)
    page.pdf()
    assert (
        page.locator("#charts > .charts .chart").count()
        == page.locator("#charts > .charts .chart .main-svg:first-child").count()
    )


def test_in_a_notebooks_frame_and_without_scripts(real: Path, open_page: Open, browser: Any, tmp_path: Path) -> None:
    source = (real / "report.html").read_text(encoding="utf-8")
    frame = (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(source)}" style="width: 100%; height: 900px"></iframe>'
    )
    outer = tmp_path / "notebook.html"
    outer.write_text(f'<!doctype html><html data-ready="yes"><meta charset="utf-8">{frame}</html>', encoding="utf-8")
    inner = open_page(outer.as_uri()).frame_locator("iframe")
    inner.locator("html[data-ready]").wait_for(state="attached", timeout=60_000)
    inner.locator("#completions").get_by_label("Search").fill("nowhere-to-be-found")
    assert inner.locator("#completions [role=status]").inner_text() == "No completions are like that."

    around = browser.new_context(java_script_enabled=False)
    plain = around.new_page()
    plain.goto((real / "report.html").as_uri())
    text = plain.locator("body").inner_text()
    around.close()
    for there in ("What it learnt", "95 % interval", "16 held-out problems", "The charts need JavaScript", "Recipe"):
        assert there in text


def hostile(path: Path) -> Run:
    """A run in whose every text is something that must not be run, and megabytes of it."""
    name = 'evil <b>run & "co"'
    run = Run.create(Recipe.load(), path / name)
    recipe = run.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('name = "word', 'name = "<img src=x onerror=alert(1)> ${x} word', 1))
    texts = list(NASTY.values())
    for step, text in enumerate(texts, 1):
        metrics = {"step": step, "loss": 0.1, "reward": step / 10, "reward_std": 0.5, "reward/max": 2, "step_time": 1.0}
        parts = {f"rewards/{text}/mean": step / 10 for text in texts[:6]}
        run.append("metrics.jsonl", [metrics | parts | {f"verdict/{text}": 0.1 for text in texts} | {text: 1.0 + step}])
        row = {"step": step, "group": 0, "answer": text, "rewards": {text: 1.0}, "advantage": 0.1}
        row["extra"] = {text: text}
        prompt = [{"role": text, "content": text}]
        run.append("completions.jsonl", [row | {"prompt": prompt, "completion": other} for other in texts])
    run.append("completions.jsonl", [{"step": 99, "prompt": "x", "completion": texts[0] * 120_000, "rewards": {}}])
    run.append("warnings.jsonl", [{"step": n, "kind": "k", "text": text} for n, text in enumerate(texts, 1)])
    sides = [[answered(n, text, right) for n, text in enumerate(texts)] for right in (False, True)]
    run.write_lines(BEFORE, sides[0])
    run.write_lines(AFTER, sides[1])
    return run


def answered(n: int, text: str, right: bool) -> dict[str, Any]:
    return {"source": n, "question": f"{n} {text}", "answer": text, "completion": text, "right": right, "verdict": text}


def test_whatever_a_model_writes_is_only_text(open_page: Open, keep: Keep, tmp_path: Path) -> None:
    run = hostile(tmp_path)
    other = Run.create(Recipe.load(), tmp_path / "other")
    for path in (report([run.path]), report([run.path, other.path], tmp_path / "both.html")):
        page = open_page(path.as_uri(), width=360)
        all_drawn(page)
        if (more := page.get_by_text("More metrics")).count():
            more.click()
        for name in ("completions", "problems"):
            for row in page.locator(f"#{name} .row").all()[:14]:
                row.click()
        page.locator("#completions").get_by_text("Its group: 12 completions side by side").first.click()
        for text in NASTY.values():
            page.locator("#completions").get_by_label("Search").fill(re.sub(r"[^ -~]", " ", text)[:200])
            assert "completions" in said(page, "completions")
        assert page.locator("script").count() == 5  # the page's own, and the chart library
        assert (
            page.locator("#completions img, #problems img, #charts a, #completions a, #charts img, iframe").count() == 0
        )
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        text = page.locator("body").inner_text()
        for nasty in ("<script>document.title = 'run'</script>", "<b>bold</b>", "onerror="):
            assert nasty in text
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert page.title() not in ("run", "1")
        keep(page, f"report-hostile-{path.stem}")


def test_the_worst_folder_opens_all_the_same(open_page: Open, keep: Keep, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    rng = random.Random(0)
    strange = {"reward": float("nan"), "loss": "x", "reward_std": 10**400, "step_time": None}
    (run.path / "metrics.jsonl").write_text(
        lines([{"step": 1, "reward": 1.0}, {"step": 2, **strange}, {"step": 3, "kl": -1.0}])
    )
    append(run.path / "metrics.jsonl", '[1]\n{"step": "x"}\n{"step": 4, "rew')
    (run.path / "completions.jsonl").write_bytes(rng.randbytes(100_000))
    append(
        run.path / "completions.jsonl",
        '\n{"step": null, "completion": {"a": [1]}, "prompt": [7, null], "rewards": "x"}\n{}\n{"prompt": []}\n',
    )
    (run.path / "evaluation.json").write_bytes(rng.randbytes(1000))
    (run.path / BEFORE).write_text('{"right": 7}\n{}\n{"question": [1]')
    (run.path / "recipe.toml").write_bytes(rng.randbytes(1000))
    (run.path / "drawing.png").write_bytes(rng.randbytes(1000))
    page = open_page(report([run.path]).as_uri())
    all_drawn(page)
    assert page.locator("#charts > .charts .chart").count() >= 1
    assert said(page, "completions") == "1 to 3 of 3 completions"
    page.locator("#completions .row").first.click()
    text = page.locator("body").inner_text()
    page.locator("#completions .row").last.click()
    assert page.locator("#completions .row[aria-expanded=true]").count() == 2
    for says in ("recipe.toml cannot be read", "evaluation.json cannot be read", "its last line is cut off"):
        assert says in text
    keep(page, "report-worst")


def test_several_runs_are_laid_over_each_other(real: Path, open_page: Open, keep: Keep, tmp_path: Path) -> None:
    other = Run.create(Recipe.load(grpo={"learning_rate": 0.1}, budget={"max_steps": 4}), tmp_path / "other")
    other.append("metrics.jsonl", [{"step": step, "loss": 0.0, "reward": 1.0, "step_time": 1.0} for step in (1, 2, 3)])
    prompt = [{"role": "user", "content": "zebra"}]
    other.append(
        "completions.jsonl", [{"step": 1, "group": 0, "prompt": prompt, "completion": "7", "rewards": {"r": 1.0}}]
    )
    page = open_page(report([real, other.path], tmp_path / "both.html").as_uri())
    all_drawn(page)
    reward = page.locator("figure", has=page.get_by_role("heading", name="Reward", exact=True))
    assert set(reward.locator(".legendtext").all_text_contents()) == {real.name, "other"}
    assert charts_have_pixels(page, keep, "report-both") == 2
    place = page.locator("#completions")
    place.get_by_label("Run").select_option("other")
    assert said(page, "completions") == "1 to 1 of 1 completions"
    place.get_by_label("Run").select_option(real.name)
    place.get_by_label("Search").fill("zebra")
    assert said(page, "completions") == "No completions are like that."
    keep(page, "report-both")


def test_what_is_printed_of_a_dark_page_is_black_on_white(open_page: Open, tmp_path: Path) -> None:
    """What the charts are at the moment of the print, which no picture shows: they are drawn before it begins."""
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.append("metrics.jsonl", [{"step": n, "reward": n % 3, "reward_std": 0.5, "loss": 1.0} for n in range(1, 30)])
    page = open_page(report([run.path]).as_uri(), scheme="dark")
    all_drawn(page)
    fills = "[...document.querySelectorAll('.xtick text')].map((one) => getComputedStyle(one).fill)"
    page.evaluate(f"() => addEventListener('beforeprint', () => {{ window.fills = {fills}; }})")
    light = page.evaluate(f"() => {fills}")
    page.pdf()
    printed = page.evaluate("() => window.fills")
    assert set(printed) == {"rgb(0, 0, 0)"}
    assert set(light).isdisjoint(printed)
    assert set(page.evaluate(f"() => {fills}")) == set(light)  # and is dark again


@pytest.mark.long
def test_names_that_are_javascripts_own_and_runs_of_two_tasks(open_page: Open, tmp_path: Path) -> None:
    own = ("__proto__", "constructor", "toString", "hasOwnProperty", "length")
    first = Run.create(Recipe.load(), tmp_path / "__proto__")
    steps = (12344, 12345, 12346)
    for step in steps:
        parts = {f"rewards/{name}/mean": float(n) + step / 1e6 for n, name in enumerate(own)}
        extra = dict.fromkeys(own, 1.5) | {f"verdict/{name}": 0.2 for name in own}
        first.append("metrics.jsonl", [{"step": step, "reward": 1234567.0, **parts, **extra}])
        row = {"step": step, "group": 0, "prompt": "3 + 4?", "answer": "7", "rewards": dict.fromkeys(own, 0.5)}
        row["extra"] = {"toString": "seven"}
        texts = ("<answer>7</answer>", "<answer>8</answer>")
        first.append("completions.jsonl", [{**row, "completion": text} for text in texts])
    drawing = Run.create(Recipe.load("drawing-tiny"), tmp_path / "drawing")
    drawing.append("metrics.jsonl", [{"step": 1, "reward": 0.5, "reward/max": 1.0, "distinct": 3, "new_samples": 4}])
    row = {"step": 1, "group": 0, "prompt": [{"role": "user", "content": "draw"}], "answer": "00", "rewards": {}}
    drawing.append("completions.jsonl", [{**row, "completion": f"D{n}"} for n in range(4)])

    page = open_page(report([first.path]).as_uri())
    all_drawn(page)
    parts = page.locator("figure", has=page.get_by_role("heading", name="Its parts, unweighted"))
    assert set(parts.locator(".legendtext").all_text_contents()) == {name.replace("_", " ").strip() for name in own}
    page.get_by_text("More metrics").click()
    named = {"Proto", "Constructor", "ToString", "HasOwnProperty", "Length"}
    assert set(page.locator("#charts details h3").all_inner_texts()) == named
    reward = page.locator("figure", has=page.get_by_role("heading", name="Reward", exact=True))
    assert values(reward) == [f"{step:,}\t1,234,567" for step in steps]
    page.locator("#completions .row").first.click()
    assert set(page.locator("#completions .parts th").all_inner_texts()) == {"proto", *own[1:], "reward"}
    assert page.locator("#completions .parts tr").last.inner_text().split() == ["toString", "seven"]

    page = open_page(report([first.path, drawing.path], tmp_path / "both.html").as_uri())
    all_drawn(page)
    place = page.locator("#completions")
    assert said(page, "completions").endswith("of 10 completions")
    place.get_by_label("Verdict").select_option("not right")
    assert said(page, "completions").endswith("of 3 completions")  # those of the other task have no verdict
    place.get_by_label("Run").select_option("drawing")
    assert said(page, "completions") == "No completions are like that."


def test_the_page_of_completions_is_turned_by_keyboard(open_page: Open, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.append("completions.jsonl", [{"step": n, "prompt": "?", "completion": "x", "rewards": {}} for n in range(30)])
    page = open_page(report([run.path]).as_uri())
    page.get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    assert said(page, "completions") == "26 to 30 of 30 completions"
    page.keyboard.press("Enter")  # on what is left to press
    assert said(page, "completions") == "1 to 25 of 30 completions"


@pytest.mark.long
def test_250_steps_of_8_completions_of_768_tokens_are_under_8_mb_and_can_be_searched(
    open_page: Open, tmp_path: Path
) -> None:
    place = Path(__file__).parents[1] / "benchmarks" / "report.py"
    spec = importlib.util.spec_from_file_location("report_benchmark", place)
    assert spec
    assert spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    run = benchmark.synthetic(tmp_path / "run")
    path = report([run.path])
    assert path.stat().st_size < 8_000_000
    page = open_page(path.as_uri())
    assert said(page, "completions") == "1 to 25 of 2000 completions"
    words = rows(run.path / "completions.jsonl")[1234]["completion"].split()[100:104]
    page.locator("#completions").get_by_label("Search").fill(" ".join(words))
    assert "completions" in said(page, "completions")
    assert page.locator("#completions .row").count() >= 1
