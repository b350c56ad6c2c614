"""What reaches a person's terminal, and what must not: the escapes in a stranger's text, and what opens something.

A path, a recipe's key, a model's words: each may hold signs that move the cursor, hide a line or turn its order.
`printable` shows them as Python writes them. `masked` puts dots for keys. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# All but what is printed: C0 and C1 controls, what turns the order of a line, separators of lines, half pairs.
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
# What opens something: by its key, or as it stands in an address or a text.
_SECRET_KEY: Final = re.compile(
    r"(?:token|password|passwd|passphrase|secret|apikey|credentials?)s?(?:[_.-](?:id|value|pem))?$"
    r"|(?:^|[_.-])(?:pass|pwd|auth|authorization|bearer|keys?)(?:[_.-](?:id|value|pem))?$"
    r"|(?-i:[a-z](?:Key|Token)s?$)",
    re.IGNORECASE,
)
# Of a tokenizer, or a number of them: they open nothing.
_SPECIAL_KEY: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:eos|bos|pad|unk|sep|cls|mask|image|audio|video|stop|special|max|min|num|new)_tokens?(?:_id)?$"
)
_WORDS: Final = "token|api.?key|key|secret|password|passwd|pwd|auth|credential|signature|sig"
_ADDRESS: Final = re.compile(r"(:[/\\]{1,2})[^/\\\s@]+(?=@)")  # one slash, where it was taken for a path
_LOGIN: Final = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,200}:[^\s:@/]{2,200}(?=@[\w.-]{1,200}(?::\d|/))"
)  # user:password@host:8000
_QUERY: Final = re.compile(rf"([?&;#](?:[\w.-]*(?:{_WORDS}))\s?=\s?)[^&;#\s\"']+", re.IGNORECASE)
_ESCAPED: Final = re.compile(rf"((?:[?&]|%3F|%26)(?:[\w.-]*(?:{_WORDS}))%3D)[^&\s\"'%]+", re.IGNORECASE)
_BEARER: Final = re.compile(r"(\bBearer )[\w.~+/=-]{8,}", re.IGNORECASE)
# What keys begin with, and how long they are at least: Hugging Face, OpenAI, GitHub, W&B, GitLab, Slack, npm, PyPI, ...
_PREFIXES: Final = (
    *("hf_", "sk-", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "wandb_v1_", "glpat-", "xoxb-", "xoxp-"),
    *("xapp-", "npm_", "pypi-", "nvapi-", "gsk_", "r8_", "ya29."),
)
_BEGINNINGS: Final = "|".join(map(re.escape, _PREFIXES))
_KEY: Final = re.compile(
    rf"\b({_BEGINNINGS})[\w-]{{20,}}"
    r"|\b((?-i:AKIA|ASIA))[0-9A-Z]{16}\b|\b(AIza)[\w-]{35}|(?<![\w-])(eyJ)[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?",
    re.IGNORECASE,
)


def printable(text: object) -> str:
    """Return a text without anything that a terminal obeys but the ends of lines and tabs, which it keeps."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def escaped(text: object) -> str:
    """Return a text on one line from which it can be told what it was: ends of lines and tabs as Python writes them."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def on_one_line(text: object) -> str:
    """Return a stranger's text on one line, so that it cannot pass for a line of ours."""
    return printable(" ".join(str(text).split()))


def masked(text: str) -> str:
    """Return a text with dots for `user:password@` and `?token=` in addresses, and for keys of known forms."""
    if "@" in text and ":" in text:
        text = _LOGIN.sub("...", _ADDRESS.sub(r"\1...", text))
    if "=" in text and any(sign in text for sign in "?&;#"):
        text = _QUERY.sub(r"\1...", text)
    if "%3" in text:
        text = _ESCAPED.sub(r"\1...", text)
    low = text.lower()  # to look for a few signs is a tenth of the work
    if "bearer " in low:
        text = _BEARER.sub(r"\1...", text)
    if any(prefix in low for prefix in (*_PREFIXES, "akia", "asia", "aiza", "eyj")):
        text = _KEY.sub(lambda found: f"{found[1] or found[2] or found[3] or found[4]}...", text)
    return text


def without_secrets(value: Any) -> Any:
    """Return a copy of JSON's types without what opens anything. A number opens nothing: it is a weight."""
    if isinstance(value, Mapping):
        kept = {k: inner for k, inner in value.items() if isinstance(inner, int | float) or not is_secret(k)}
        return {key: without_secrets(inner) for key, inner in kept.items()}
    if isinstance(value, str):
        return masked(value)
    return [without_secrets(inner) for inner in value] if isinstance(value, list | tuple) else value


def is_secret(key: object) -> bool:
    """Tell whether a text of this name opens something: token, hub_token, api_key, password."""
    return _SECRET_KEY.search(str(key)) is not None and not _SPECIAL_KEY.search(str(key))
