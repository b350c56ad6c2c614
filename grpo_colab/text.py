"""Make untrusted text safe to print: show terminal escapes as text, and mask secrets. Write counts and durations.

A path, a recipe's key or a model's completion may hold characters that move the cursor, hide a line or reverse its
order. `printable` shows them as Python writes them. `masked` replaces passwords, tokens and API keys with dots.
`counted` and `duration` write numbers with their nouns and units. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# Characters that are not printed: C0 and C1 controls, those that change the direction of text, separators of lines, and
# halves of surrogate pairs.
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
# Names whose values are secrets.
_SECRET_KEY: Final = re.compile(
    r"(?:token|password|passwd|passphrase|secret|apikey|credentials?)s?(?:[_.-](?:id|value|pem))?$"
    r"|(?:^|[_.-])(?:pass|pwd|auth|authorization|bearer|keys?)(?:[_.-](?:id|value|pem))?$"
    r"|(?-i:[a-z](?:Key|Token)s?$)",
    re.IGNORECASE,
)
# Names that look like these but belong to a tokenizer, or count tokens.
_SPECIAL_KEY: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:eos|bos|pad|unk|sep|cls|mask|image|audio|video|stop|special|max|min|num|new)_tokens?(?:_id)?$"
)
# How secrets stand in an address or in a text.
_WORDS: Final = "token|api.?key|key|secret|password|passwd|pwd|auth|credential|signature|sig"
# ://user:password@host, with one slash where pathlib took the address for a path
_ADDRESS: Final = re.compile(r"(:[/\\]{1,2})[^/\\\s@]+(?=@)")
# user:password@host:8000, user:password@host/path
_LOGIN: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,200}:[^\s:@/]{2,200}(?=@[\w.-]{1,200}(?::\d|/))")
_QUERY: Final = re.compile(rf"([?&;#](?:[\w.-]*(?:{_WORDS}))\s?=\s?)[^&;#\s\"']+", re.IGNORECASE)
_ESCAPED: Final = re.compile(rf"((?:[?&]|%3F|%26)(?:[\w.-]*(?:{_WORDS}))%3D)[^&\s\"'%]+", re.IGNORECASE)
_BEARER: Final = re.compile(r"(\bBearer )[\w.~+/=-]{8,}", re.IGNORECASE)
# How keys begin: of Hugging Face, OpenAI, GitHub, W&B, GitLab, Slack, npm, PyPI and others.
_PREFIXES: Final = (
    *("hf_", "sk-", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "wandb_v1_", "glpat-", "xoxb-", "xoxp-"),
    *("xapp-", "npm_", "pypi-", "nvapi-", "gsk_", "r8_", "ya29."),
)
_BEGINNINGS: Final = "|".join(map(re.escape, _PREFIXES))
# Such keys, at least 20 characters long, then those of AWS and Google, then JSON web tokens.
_KEY: Final = re.compile(
    rf"\b({_BEGINNINGS})[\w-]{{20,}}"
    r"|\b((?-i:AKIA|ASIA))[0-9A-Z]{16}\b|\b(AIza)[\w-]{35}|(?<![\w-])(eyJ)[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?",
    re.IGNORECASE,
)


def printable(text: object) -> str:
    """Return a text, or the `str` of another object, in which control characters are shown as escapes.

    Line feeds and tabs stay. Carriage returns, marks of direction and halves of surrogate pairs are escaped, too.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def escaped(text: object) -> str:
    """Return a text on one line, with line ends and tabs shown as escapes as well."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def on_one_line(text: object) -> str:
    """Return untrusted text on one line, so that it cannot pass for a line of ours.

    Each run of white space, line ends included, becomes one space. Control characters are shown as escapes.
    """
    return printable(" ".join(str(text).split()))


def masked(text: str) -> str:
    """Return a text with dots for logins and `?token=` values in addresses, bearer tokens, and API keys of known forms.

    A key keeps its known beginning, such as `hf_`. The expressions are slow, so each is used only where the text has
    the characters that it needs.
    """
    if "@" in text and ":" in text:
        text = _LOGIN.sub("...", _ADDRESS.sub(r"\1...", text))
    if "=" in text and any(sign in text for sign in "?&;#"):
        text = _QUERY.sub(r"\1...", text)
    if "%3" in text:
        text = _ESCAPED.sub(r"\1...", text)
    lower = text.lower()
    if "bearer " in lower:
        text = _BEARER.sub(r"\1...", text)
    if any(prefix in lower for prefix in (*_PREFIXES, "akia", "asia", "aiza", "eyj")):
        text = _KEY.sub(lambda found: f"{found[1] or found[2] or found[3] or found[4]}...", text)
    return text


def without_secrets(value: Any) -> Any:
    """Return a copy of a value of JSON's types without the keys that name a secret, and with its texts masked.

    A number is never a secret: under such a key it is a weight or a count, and stays. Tuples become lists. Other keys
    stay as they are.
    """
    if isinstance(value, Mapping):
        copy = {}
        for key, inner in value.items():
            if isinstance(inner, int | float) or not is_secret(key):
                copy[key] = without_secrets(inner)
        return copy
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return masked(value) if isinstance(value, str) else value


def is_secret(key: object) -> bool:
    """Tell whether a key names a secret, such as token, hub_token, api_key or password.

    Names of a tokenizer's tokens and of counts, such as eos_token and max_tokens, name none.
    """
    return _SECRET_KEY.search(str(key)) is not None and not _SPECIAL_KEY.search(str(key))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as `1 prompt` or `2,048 prompts`.

    The plural is the noun with an s, unless `plural` is given.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it, such as `0.65 s`, `61 s`, `28 min`, `5.1 h` or `5 days`.

    It has two digits, or three where whole units have them. A new unit begins at 100 seconds, at 100 minutes and at 72
    hours.
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 9.95:
        return f"{minutes:.1f} min"
    if minutes < 99.5:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    if hours < 71.95:
        return f"{hours:.1f} h"
    return f"{hours / 24:,.0f} days"
