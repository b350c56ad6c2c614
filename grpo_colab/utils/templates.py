"""Render HTML from Jinja templates, in which every value is escaped.

A template is a file `NAME.html.j2` beside the module that renders it. Every value is inserted as text unless it is
`markupsafe.Markup`. Only the output of templates and the package's own scripts are.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment(*folders: Path) -> Environment:
    """Return a Jinja environment that looks for templates in `folders`, in this order.

    It is made once for the same folders and kept. Every value is escaped. A name that was not given raises
    `jinja2.UndefinedError`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: Path, **values: Any) -> str:
    """Return a template file rendered with `values`. It can include the other templates of its folder.

    Raises `jinja2.UndefinedError` for a value that the template needs and did not get.
    """
    return environment(template.parent).get_template(template.name).render(values)
