"""The map of all of GSM8K in a real browser, by itself and in TensorBoard's Embedding Projector."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.reporting.embedding import embed
from tests.browser.conftest import colours
from tests.conftest import GSM8K, ROOT
from tests.reporting.test_embedding import NASTY, read

COUNT = 7473 + 1319
# where on the page a point is
AT = """point => {
  const chart = document.querySelector(".chart"), { left, top } = chart.getBoundingClientRect();
  const { xaxis, yaxis } = chart._fullLayout, { x, y } = chart.data[0];
  return [left + xaxis._offset + xaxis.d2p(x[point]), top + yaxis._offset + yaxis.d2p(y[point])];
}"""


@pytest.fixture(scope="module")
def gsm8k_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all of GSM8K, which takes half a minute."""
    if not (GSM8K / "train.jsonl").is_file():
        pytest.skip(f"real GSM8K is not at {GSM8K.relative_to(ROOT.parent)} beside the checkout")
    return embed("gsm8k", path=str(GSM8K), out=tmp_path_factory.mktemp("embeddings") / "gsm8k").path


def url_of(folder: Path) -> str:
    return (folder / "map.html").as_uri()


def lasso(page: Any, left: float, top: float, right: float, bottom: float) -> None:
    """Draw with the mouse around a part of the chart, given in shares of its width and height."""
    box = page.locator(".chart").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(left, top))
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top + 0.01)):
        page.mouse.move(*at(*corner), steps=5)
    page.mouse.up()


def listed(page: Any) -> list[dict[str, str]]:
    names = page.locator("#list th").all_inner_texts()
    rows = page.locator("#list tbody tr").all()
    return [dict(zip(names, row.locator("td").all_inner_texts(), strict=True)) for row in rows]


@pytest.mark.long
def test_the_map_of_gsm8k(gsm8k_map: Path, open_page: Callable[..., Any], keep: Callable[..., Path]) -> None:
    questions = {row["question"]: row for row in read(gsm8k_map / "metadata.tsv")}
    page = open_page(url_of(gsm8k_map), height=1100, accept_downloads=True)
    assert colours(keep(page, "map")) > 20_000
    by_split = keep(page.locator(".chart"), "map-by-split")
    assert colours(by_split) > 20_000
    words = page.locator(".chart .annotation-text").all_text_contents()
    assert {"eggs", "miles"} <= set(words)

    # another column has other colours, and a scale of them
    page.select_option("#colour", "steps")
    page.locator(".chart .infolayer .colorbar").wait_for()
    assert keep(page.locator(".chart"), "map-by-steps").read_bytes() != by_split.read_bytes()

    # what the mouse is on is told, as text that is a question's
    box = page.locator(".chart").bounding_box()
    for step in range(60):
        page.mouse.move(box["x"] + box["width"] * (0.4 + step / 400), box["y"] + box["height"] * 0.5)
        if page.locator(".hoverlayer .hovertext").count():
            break
    told = page.locator(".hoverlayer .hovertext tspan.line, .hoverlayer .hovertext .nums").all_text_contents()
    squeezed = re.sub(r"\W", "", told[-1] if len(told) == 1 else "".join(told))
    assert len(squeezed) > 30
    assert any(squeezed[:30] in re.sub(r"\W", "", question) for question in questions)

    lasso(page, 0.45, 0.45, 0.55, 0.55)
    page.locator("#list tbody tr").first.wait_for()
    found = listed(page)
    assert 10 < len(found) <= 200
    for row in found:
        known = questions[row["question"]]
        assert (row["split"], row["steps"], row["length"]) == (known["split"], known["steps"], known["length"])
    keep(page, "map-lasso")

    # the list is saved whole, and is what is on the screen
    count = int(page.locator("#found").inner_text().split()[0].replace(",", ""))
    with page.expect_download() as download:
        page.click("#save")
    rows = read(Path(download.value.path()))
    assert len(rows) == count
    assert [row["question"] for row in rows][: len(found)] == [row["question"] for row in found]
    page.click("#clear")
    page.locator("#list tbody").wait_for(state="detached")


def test_search_by_keyboard_alone_and_on_a_phone_in_the_dark(
    gsm8k_map: Path, open_page: Callable[..., Any], keep: Callable[..., Path]
) -> None:
    expected = {
        row["question"]
        for row in read(gsm8k_map / "metadata.tsv")
        if "marbles" in row["question"].lower() and "twice" in row["question"].lower()
    }
    page = open_page(url_of(gsm8k_map), width=360, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    before = keep(page.locator(".chart"), "map-phone").read_bytes()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("Marbles twice")
    page.locator("#list tbody tr").first.wait_for()
    assert {row["question"] for row in listed(page)} == expected
    assert page.locator("#found").inner_text() == f"{len(expected)} of {COUNT:,} problems"
    assert keep(page.locator(".chart"), "map-phone-search").read_bytes() != before  # the others are faint
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_hostile_questions_are_text(tmp_path: Path, open_page: Callable[..., Any], keep: Callable[..., Path]) -> None:
    for name in ("train", "test"):
        rows = [{"prompt": [{"role": "user", "content": text}], "answer": "7"} for text in NASTY.values()]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = {"path": str(tmp_path / "train.jsonl"), "test_path": str(tmp_path / "test.jsonl")}
    embed("jsonl", **paths, duplicates="keep", out=tmp_path / "out")
    page = open_page(url_of(tmp_path / "out"))
    assert colours(keep(page, "map-hostile")) > 1000
    page.fill("#search", "alert(1)")
    page.locator("#list tbody tr").first.wait_for()
    assert {row["question"] for row in listed(page)} == {NASTY["a tag"]}
    # what is told over each point is made of letters, not of tags
    told = set()
    for point in range(len(NASTY)):
        page.mouse.move(*page.evaluate(AT, point), steps=2)
        page.wait_for_timeout(100)
        told |= set(page.locator(".hoverlayer .hovertext").all_text_contents())
    assert any(text.startswith("<script>alert(1)</script><img src=x") for text in told), told
    assert page.locator(".chart img, .chart script, .chart a[href^='java']").count() == 0
    assert page.evaluate("window.hacked") is None


@pytest.fixture
def tensorboard(gsm8k_map: Path) -> Iterator[str]:
    """The address of a real TensorBoard over the map's folder."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(gsm8k_map),
        "--port",
        "0",
        "--host",
        "127.0.0.1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if served := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield served[0]
                break
        else:
            pytest.fail(f"TensorBoard ended: {said}")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.long
def test_the_projector_of_a_real_tensorboard(
    tensorboard: str, open_page: Callable[..., Any], keep: Callable[..., Path]
) -> None:
    page = open_page("about:blank", width=1400)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{tensorboard}#projector")
    projector = page.frame_locator("iframe").frame_locator("iframe")
    projector.get_by_text(str(COUNT), exact=True).wait_for(timeout=90_000)
    assert projector.locator(".numDataPoints").inner_text() == str(COUNT)
    page.wait_for_timeout(3000)  # its principal components, and the flight to them
    canvas = projector.locator("#scatter canvas").first
    assert colours(keep(canvas, "projector-points")) > 5000
    assert colours(keep(page, "projector")) > 20_000
    assert [url for url in asked if not url.startswith((tensorboard, "data:", "blob:"))] == []
