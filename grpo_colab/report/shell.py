"""One page in one file, which opens offline: the chart library, the data and the scripts are inside it.

What a model wrote is only ever text here: escaped in the page's own text, JSON in its data, and shown by scripts that
take no HTML. A content policy stands behind that: no script runs but the page's own, and nothing is fetched.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Final

from grpo_colab.console import masked
from grpo_colab.files import plain

LONGEST_KEY: Final = 2000  # characters of what opens something: it is masked before it might be cut in two
LONGEST: Final = 600  # characters of what a model wrote, in the page's own text
CONTROL: Final = re.compile(
    r"[^\t\n\x20-\x7e\x85\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]"
)

# in plotly.js: the head of the call whose last argument is a function that holds the library
WRAPPED: Final = 'typeof self !== "undefined" ? self : this, () => {'

PAGE: Final = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:;
 script-src 'nonce-$nonce' 'strict-dynamic'$eval">
<title>$title</title>
<style>
$style
</style></head><body>
$body
<p id="state" class="muted">Drawing ...</p>
<noscript>The charts and the lists need JavaScript.</noscript>
<script type="text/plain" id="library">$library</script>
<script type="text/plain" id="data">$data</script>
<script type="text/plain" id="rest">$rest</script>
<script nonce="$nonce">
$script
</script>
</body></html>
""")


def document(
    title: str,
    body: str,
    data: Mapping[str, Any],
    script: str,
    style: str = "",
    *,
    rest: Mapping[str, Any] | None = None,
    webgl: bool = False,
) -> str:
    """The whole page. `title` is text; `body` is HTML, in which whatever is foreign went through `text`.

    `data` is what the page's `async function start(data)` in `script` gets, NaN and infinities as null; that script
    has all of shell.js: `make`, `draw`, `ink`. What is big and not seen at first goes in `rest`, for its `finish(rest)`
    after that was drawn. `script` and `style` are files' texts of this package. `webgl` is for charts of many points
    ("scattergl"), whose library compiles its own functions.
    """
    packed, later = (pack(json.dumps(finite(one), ensure_ascii=False, default=plain)) for one in (data, rest or {}))
    return PAGE.substitute(
        title=text(title),
        style=part("shell.css") + style,
        body=body,
        library=_library(),
        data=packed,
        rest=later,
        script=part("shell.js") + script,
        eval=" 'unsafe-eval'" if webgl else "",
        nonce=hashlib.sha256((packed + later).encode()).hexdigest()[:32],  # which nothing inside the data can know
    )


def text(value: Any, longest: int = LONGEST) -> str:
    """Anything as text in a page: shortened, without signs that no page may hold, and escaped."""
    return html.escape(shown(value, longest))


def shown(value: Any, longest: int = LONGEST) -> str:
    """Anything as text for a page's data: shortened, without control characters and those that turn the order.

    What opens something has dots for it, also in what a model wrote.
    """
    whole = str(value)
    part = whole[: longest + LONGEST_KEY]
    kept = masked(part)
    if len(whole) > longest:
        sure = len(kept) - (LONGEST_KEY if len(part) < len(whole) else 0)  # at the end one may be cut in two
        kept = f"{kept[: min(longest, sure)]} ... ({len(whole):,} characters)"
    return CONTROL.sub("\ufffd", kept)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, with a number where one was there before: what is shortened may look alike."""
    found: dict[str, None] = {}
    last: dict[str, int] = {}  # number that each was given, so that none is tried twice
    for name in names:
        one, n = name, last.get(name, 1)
        while one in found:
            n += 1
            one = f"{name} ({n})"
        last[name] = n
        found[one] = None
    return list(found)


def part(name: str) -> str:
    """The text of a stylesheet or script of this package."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def pack(content: str) -> str:
    """Compressed, and in base64; the same for the same content."""
    return base64.b64encode(gzip.compress(content.encode(errors="backslashreplace"), 6, mtime=0)).decode()


def finite(value: Any) -> Any:
    """A copy in which every float that JSON has no sign for is None."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


@cache
def _library() -> str:
    from plotly.offline import get_plotlyjs

    return pack(_eager(get_plotlyjs()))


def _eager(script: str) -> str:
    """plotly.js with parentheses around the function that holds it all, where that is found.

    They tell V8 that it is called at once, and spare it a first reading of all 4.8 MB: 0.2 to 0.3 s of opening a page.
    """
    head, found, body = script.partition(WRAPPED)
    if not found or not (body := body.rstrip()).endswith("}));"):
        return script
    return f"{head}{WRAPPED.replace('() => {', '(() => {')}{body.removesuffix('}));')}}})));"
