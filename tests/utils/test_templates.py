"""Templates: whatever is put into one is text, and every template of the package can be parsed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import grpo_colab
from grpo_colab.reporting.page.html import TEMPLATES
from grpo_colab.utils.templates import environment, render

PACKAGE = Path(grpo_colab.__file__).parent
FILES = sorted(PACKAGE.rglob("*.html.j2"))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return tmp_path / "page.html.j2"


def test_every_value_is_escaped(template: Path) -> None:
    template.write_text('<p title="{{ value }}">{{ value }}</p>\n{% for one in values %}{{ one }}{% endfor %}')
    value = "<b>\"'&"
    escaped = "&lt;b&gt;&#34;&#39;&amp;"
    page = render(template, value=value, values=[value])
    assert page == f'<p title="{escaped}">{escaped}</p>\n{escaped}'


def test_what_a_macro_returns_is_not_escaped_twice(template: Path) -> None:
    template.write_text("{% macro bold(text) %}<b>{{ text }}</b>{% endmacro %}{{ bold(value) }}")
    assert render(template, value="<i>") == "<b>&lt;i&gt;</b>"


def test_a_value_that_was_forgotten_is_an_error(template: Path) -> None:
    from jinja2 import UndefinedError

    for source in ("{{ forgotten }}", "{{ given.forgotten }}", "{% if forgotten %}{% endif %}"):
        template.write_text(source)
        environment.cache_clear()
        with pytest.raises(UndefinedError):
            render(template, given={})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_template_turns_the_escaping_off(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    environment(path.parent, TEMPLATES).parse(source)
    assert not re.search(r"\|\s*(safe|forceescape)\b|autoescape", source)


def test_scripts_and_stylesheets_of_ours_are_all_that_is_not_escaped() -> None:
    """Markup is made in one place, of files that come with the package."""
    uses = [path.name for path in PACKAGE.rglob("*.py") if re.search(r"\bMarkup\(", path.read_text(encoding="utf-8"))]
    assert uses == ["html.py"]
