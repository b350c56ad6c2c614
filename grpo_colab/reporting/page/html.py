"""Write an HTML page that opens offline: the chart library, the data and the scripts are inside it.

Whatever a model wrote stays text. The templates escape it, the data are compressed JSON, and the scripts have no
function that takes HTML. A content security policy is the second defence: only the page's own script runs, and nothing
is fetched.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.text import masked
from grpo_colab.utils.files import to_jsonable
from grpo_colab.utils.templates import environment

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FOLDER: Final = Path(__file__).parent
TEMPLATES: Final = FOLDER / "templates"
LONGEST_KEY: Final = 2000  # characters of a secret: a text is masked before a secret in it might be cut in two
LONGEST: Final = 600  # characters of a foreign text in the page's own text
# Everything but what a page may show: no controls, nothing that turns the order of a line, no half pairs.
CONTROL: Final = re.compile(
    r"[^\t\n\x20-\x7e\x85\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]"
)
SUPERSCRIPT: Final = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
SMALLEST, BIGGEST = 1e-5, 1e15  # a number beyond them is written with a power of ten
# In plotly.js: the head of the call whose last argument is a function that holds the whole library.
PLOTLY_HEAD: Final = 'typeof self !== "undefined" ? self : this, () => {'


def render_page(
    template: Path,
    *,
    title: str,
    data: Mapping[str, Any],
    rest: Mapping[str, Any] | None = None,
    script: Path,
    style: Path,
    webgl: bool = False,
    **values: Any,
) -> str:
    """Return a page, rendered from a template that extends document.html.j2 and fills its block `body` from `values`.

    `data` goes to the function `start(data)` of the file `script`, with NaN and infinities as null. That script can use
    all of document.js: `make`, `draw`, `cssColour`. What is big and not seen at first belongs in `rest`, which its
    function `finish(rest)` gets once the first charts are drawn. `style` is a stylesheet that follows document.css.
    `webgl` is for charts of many points ("scattergl"), whose library compiles its own functions.

    Nothing is written. Raises ImportError where Plotly or Jinja is not installed.
    """
    packed_data, packed_rest = compress(to_json(data)), compress(to_json(rest or {}))
    return (
        _environment(template.parent)
        .get_template(template.name)
        .render(
            values,
            title=title,
            style=_own_files(FOLDER / "document.css", style),
            script=_own_files(FOLDER / "document.js", script),
            library=_plotly(),
            data=packed_data,
            rest=packed_rest,
            # nothing in the data can contain it, since it is a hash of them
            nonce=hashlib.sha256((packed_data + packed_rest).encode()).hexdigest()[:32],
            webgl=webgl,
        )
    )


@cache
def _environment(folder: Path) -> Environment:
    """Return an environment for the templates in `folder` and those of the report, with the filters of a page."""
    found = environment(folder, TEMPLATES)
    found.filters |= {"text": display_text, "words": readable, "name": short_name, "number": format_number}
    found.filters |= {"whole": format_whole, "percent": format_percent}
    return found


def display_text(value: Any, longest: int = LONGEST) -> str:
    """Return any value as text for a page: secrets masked, control characters replaced by U+FFFD.

    A text of more than `longest` characters is cut there or before, and its length is added. The text is not escaped.
    In a template that happens by itself; in a page's data there is nothing to escape.
    """
    whole = str(value)
    part = whole[: longest + LONGEST_KEY]
    kept = masked(part)
    if len(whole) > longest:
        # the end of the part may be a secret that was cut in two, which is not masked
        sure = len(kept) - (LONGEST_KEY if len(part) < len(whole) else 0)
        kept = f"{kept[: min(longest, sure)]} ... ({len(whole):,} characters)"
    return CONTROL.sub("\ufffd", kept)


def format_whole(value: float | None) -> str:
    """Return a number without decimals and with thousands separators, "?" for None."""
    return "?" if value is None else f"{value:,.0f}"


def format_percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal, a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number as a person writes it, with `digits` significant digits: 80,000 and 0.00005, never 8e+4.

    Thousands are whole. What is beyond SMALLEST or BIGGEST has a power of ten, as 1.6 × 10⁻⁵⁵. None is a dash.
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if not SMALLEST <= abs(value) < BIGGEST:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{float(mantissa):g}\u00a0×\u00a010{str(int(exponent)).translate(SUPERSCRIPT)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def readable(name: Any, longest: int = LONGEST) -> str:
    """Return a name of a file or a metric in words, as `display_text`: "word_problems" as "word problems"."""
    shown = display_text(name, longest)
    return shown.replace("_", " ").strip() or shown


def short_name(name: Any, longest: int = 80) -> str:
    """Return a name as `display_text`; of a long one the beginning and the end, by which names differ."""
    text = display_text(name)
    if len(text) <= longest:
        return text
    head = 2 * longest // 3
    return f"{text[:head]}…{text[head + 1 - longest :]}"


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names, with a number added to each that has come before: "a", "a (2)".

    Names that were shortened may be the same.
    """
    found: dict[str, None] = {}
    last: dict[str, int] = {}  # the last number that was tried for each name: none is tried twice
    for name in names:
        unique, n = name, last.get(name, 1)
        while unique in found:
            n += 1
            unique = f"{name} ({n})"
        last[name] = n
        found[unique] = None
    return list(found)


def to_json(value: Any) -> str:
    """Return a value as JSON that every browser reads: NaN and infinities become null.

    Arrays become lists, and values for which JSON has no type their repr.
    """
    return json.dumps(_without_non_finite(value), ensure_ascii=False, default=to_jsonable)


def compress(content: str) -> str:
    """Return a text as gzip in base64: the same text gives the same result, and no character of it is HTML's."""
    return base64.b64encode(gzip.compress(content.encode(errors="backslashreplace"), 6, mtime=0)).decode()


def _without_non_finite(value: Any) -> Any:
    """Copy a value with None for every float that is NaN or infinite."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): _without_non_finite(inner) for key, inner in value.items()}
    return [_without_non_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _own_files(*paths: Path) -> Markup:
    """Return the text of scripts or stylesheets of this package, one after the other, as Markup that is not escaped."""
    from markupsafe import Markup

    return Markup("".join(path.read_text(encoding="utf-8") for path in paths))


@cache
def _plotly() -> str:
    """Return plotly.js as `compress` packs it. Raises ImportError where Plotly is not installed."""
    from plotly.offline import get_plotlyjs

    return compress(_parsed_once(get_plotlyjs()))


def _parsed_once(script: str) -> str:
    """Return plotly.js with parentheses around the function that holds it; unchanged where that is not found.

    They tell V8 that the function is called at once. Otherwise it reads all 4.8 MB twice, which costs 0.2 to 0.3 s
    whenever a page is opened.
    """
    head, found, body = script.partition(PLOTLY_HEAD)
    body = body.rstrip()
    if not found or not body.endswith("}));"):
        return script
    return f"{head}{PLOTLY_HEAD.replace('() => {', '(() => {')}{body.removesuffix('}));')}}})));"
