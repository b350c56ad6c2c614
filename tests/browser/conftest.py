"""A real browser: Debian's headless Chromium, driven by Playwright. Its pictures stay in `artefacts/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ARTEFACTS = Path(os.environ.get("ARTEFACTS", Path(__file__).parents[2] / "artefacts"))
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Where the browser is, which is installed when it is missing and can be; else the test skips and says why."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    if sys.platform != "linux" or not shutil.which("apt-get") or os.geteuid() != 0:
        pytest.skip("no Chromium here, and it can only be installed as root with apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        try:
            said = subprocess.run(
                ["apt-get", "-q", *command], env=quiet, timeout=600, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"no Chromium here, and apt-get {command[0]} took more than ten minutes")
        if said.returncode:
            pytest.skip(f"no Chromium here, and apt-get {command[0]} failed: {said.stderr.strip()[-300:]}")
    return shutil.which("chromium") or pytest.skip("apt-get installed Chromium, but it is not there")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Not of the session: Playwright keeps an event loop running, in which no later test could start its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield program
        program.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """open_page(url, width=1200, scheme="light", **context) gives Playwright's page; nothing in it may go wrong.

    It waits until a page of ours is drawn. `page.troubles` are the errors of its console and of its scripts, and the
    test fails at its end when there are any, and when a page asked for anything but itself.
    """
    opened: list[Any] = []

    def open_one(url: str, width: int = 1200, height: int = 900, scheme: str = "light", **context: Any) -> Any:
        offline = url.startswith("file:")
        # whoever runs the tests may have other languages, zones and widths
        around = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", **context
        )
        page = around.new_page()
        page.troubles, page.asked = [], []
        page.on("console", lambda said: page.troubles.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("dialog", lambda dialog: (page.troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        if offline:
            page.on("request", lambda request: page.asked.append(request.url))
        opened.append(page)
        page.goto(url)
        if offline:
            # not wait_for_function, which evaluates a text: our pages forbid that
            page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        return page

    yield open_one
    for page in opened:
        others = [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))]
        page.context.close()
        assert page.troubles == []
        assert others == []


@pytest.fixture
def keep() -> Callable[..., Path]:
    """keep(page, "report-dark") takes a picture of the whole page, or of an element, and keeps it; returns the file."""

    def take(seen: Any, name: str, **options: Any) -> Path:
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / f"{name}.png"
        seen.screenshot(path=str(path), **({"full_page": True} if hasattr(seen, "goto") else {}) | options)
        return path

    return take


def colours(path: Path, box: tuple[int, int, int, int] | None = None) -> int:
    """How many pixels of a picture, or of a part of it, differ from its commonest colour, the background."""
    from PIL import Image

    picture = Image.open(path).convert("RGB").crop(box)
    found = picture.getcolors(maxcolors=picture.width * picture.height)
    assert found
    return picture.width * picture.height - max(count for count, _ in found)
