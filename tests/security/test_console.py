"""What a terminal is shown of a stranger's text, and what opens something."""

from __future__ import annotations

import time
from typing import Any

import pytest

from grpo_colab.text import is_secret, masked, on_one_line, printable, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("runs/\x1b[2Jmine", r"runs/\x1b[2Jmine"),
        ("\x9b31m", r"\x9b31m"),
        ("\x1b]8;;http://x\x07link", r"\x1b]8;;http://x\x07link"),
        ("a\rb\bc\x7f", r"a\rb\x08c\x7f"),
        ("evil\u202etxt.exe", r"evil\u202etxt.exe"),
        ("half \ud83d", r"half \ud83d"),
        ("Übung, 日本, 👍, a\tb\nc", "Übung, 日本, 👍, a\tb\nc"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_strangers_text_cannot_pass_for_a_line_of_ours() -> None:
    assert on_one_line("ok\n\nWarning:\u2028 none\x1b[A") == r"ok Warning: none\x1b[A"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@host/x", "https://...@host/x"),
        ("/home/me/s3:/me:pass@bucket/x", "/home/me/s3:/...@bucket/x"),
        ("https://host/x?token=abc&n=1", "https://host/x?token=...&n=1"),
        ("https://host/x?a=1&api_key=abc", "https://host/x?a=1&api_key=..."),
        ("HF_TOKEN is hf_abcdefghijklmnopqrstuvwxyz!", "HF_TOKEN is hf_...!"),
        ("sk-abcdefghijklmnopqrstuvwxyz0", "sk-..."),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_..."),
        ("me:pass@host:8000/x", "...@host:8000/x"),
        ("https://host/x;token=abc#access_token=def", "https://host/x;token=...#access_token=..."),
        (
            "https://host/x?auth=abc&pwd=def&X-Amz-Credential=ghi",
            "https://host/x?auth=...&pwd=...&X-Amz-Credential=...",
        ),
        ("https://host/x%3Ftoken%3Dabc%26a%3Db", "https://host/x%3Ftoken%3D...%26a%3Db"),
        ("Authorization: Bearer abcdefgh1234", "Authorization: Bearer ..."),
        ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "npm_..."),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh", "eyJ..."),
        (
            "3:40@home, ratio 4:5, mail me@host.org, https://medium.com/@me",
            "3:40@home, ratio 4:5, mail me@host.org, https://medium.com/@me",
        ),
        ("a@b.c at 5:30, hf_short, https://host/x?n=token", "a@b.c at 5:30, hf_short, https://host/x?n=token"),
    ],
)
def test_what_opens_something_has_dots(text: str, shown: str) -> None:
    assert masked(text) == shown


SECRET = (
    "hub_token api_key PASSWORD passwd pwd pass apikey apiKey accessKey api_keys tokens token_id access_key_id auth"
)
SECRET += " access_key_id authorization bearer credentials private_key_pem secret_value"
PLAIN = "max_tokens monkey eos_token pad_token tokenizer author passes keyboard new_tokens stop_token bypass turkey"


def test_keys_are_left_out_of_tables_and_numbers_stay() -> None:
    told: dict[str, Any] = {"model": {"token": "x", "name": "m"}, "rewards": {"token": 1.0}, "list": ["https://a:b@c"]}
    assert without_secrets(told) == {"model": {"name": "m"}, "rewards": {"token": 1.0}, "list": ["https://...@c"]}
    assert [name for name in SECRET.split() if not is_secret(name)] == []
    assert [name for name in PLAIN.split() if is_secret(name)] == []


UNITS = (
    "a.",
    "eyJ-",
    "eyJaaaaaaaa.",
    "a:",
    "a@",
    ":/",
    "://a",
    "a:bb@c",
    "&a.",
    "?key",
    "#token=",
    ";auth ",
    "%3Ftoken",
)


@pytest.mark.parametrize("unit", (*UNITS, "hf_", "-sk-"))
def test_a_megabyte_is_masked_in_linear_time(unit: str) -> None:
    """What is quadratic takes minutes."""
    text = unit * (1_000_000 // len(unit)) + " @ :/ ? = %3 bearer "
    began = time.process_time()
    masked(text)
    assert time.process_time() - began < 20
