"""A stranger's TOML ends, and ends in words: what takes tomllib minutes, memory or Python's stack is found before."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path

import pytest

from grpo_colab.recipe.reading import PRESETS
from grpo_colab.utils.toml_reading import MOST_LEVELS, MOST_PARTS, NotToml, parse_toml, read_toml

WITHIN_S = 10.0  # what takes minutes is over it on any machine, what is linear far below
ALLOWED = ".".join("a" * MOST_PARTS)
PREFIX = ".".join("a" * (MOST_PARTS - 1))


def filled(unit: str, size: int) -> str:
    return unit * (size // len(unit))


def counted(line: str, size: int) -> str:
    return "".join(line.format(n) for n in range(size // len(line)))


REFUSED = {
    "a dotted key": lambda size: f"{filled('a.', size)}a = 1",
    "a dotted key in quotes": lambda size: f"""{filled('"a".', size)}'a' = 1""",
    "a dotted key with spaces": lambda size: f"{filled('a . ', size)}a = 1",
    "a dotted header": lambda size: f"[{filled('a.', size // 2)}a]\n" + counted("k{} = 1\n", size // 2),
    "a dotted header of a list": lambda size: f"[[{filled('a.', size)}a]]\n",
    "a dotted key in an inline table": lambda size: f"x = {{ {filled('a.', size)}a = 1 }}",
    "a dotted key after a string": lambda size: f'x = ["""q"""", {{ {filled("a.", size)}a = 1 }}]',
    "a dotted key after a literal string": lambda size: f"x = ['''q''''', {{ {filled('a.', size)}a = 1 }}]",
    "a dotted key after escapes": lambda size: f'x = "\\\\" # "\n{filled("a.", size)}a = 1',
    "arrays in arrays": lambda size: f"x = {filled('[', size)}",
    "arrays in arrays, closed": lambda size: f"x = {filled('[', size // 2)}{filled(']', size // 2)}",
    "arrays over lines": lambda size: "x = " + filled("[\n", size),
    "tables in tables": lambda size: f"x = {filled('{a = ', size)}",
    "tables in tables by dotted keys": lambda size: f"x = {f'{{ {ALLOWED} = ' * 50}1{'}' * 50}",
    "many deep headers": lambda size: counted(f"[k{{}}.{PREFIX}]\n", size) * (size > 1 << 17) or filled("[", size),
    "one quote": lambda size: filled('"', size) + "x",
    "no end of a string": lambda size: 'x = """' + filled('\\"', size),
    "no end of a literal string": lambda size: "x = '''" + filled("'x", size),
    "no end of strings": lambda size: "x = [" + filled('"""\\', size),
    "a long integer": lambda size: f"x = {filled('1', size)}",
    "a long hexadecimal integer": lambda size: f"x = 0x{filled('f', size)}",
    "carriage returns": lambda size: filled("\r", size),
    "no value": lambda size: filled("a\n", size),
}
READ = {
    "keys below a deep header": lambda size: f"[{ALLOWED}]\n" + counted("k{} = 1\n", size),
    "keys": lambda size: counted("k{} = 1\n", size),
    "tables": lambda size: counted("[t{}]\n", size),
    "tables in a list": lambda size: filled("[[a]]\n", size),
    "escapes": lambda size: 'x = "' + filled("\\u00e9", size) + '"',
    "escapes of several widths": lambda size: 'x = "' + filled("\\u00e9\\U0001F600a", size) + '"',
    "lines that go on": lambda size: 'x = """' + filled("\\\n", size) + '"""',
    "small arrays": lambda size: f"x = [{filled('[[[1]]],', size)}]",
    "numbers": lambda size: f"x = [{filled('1.5,', size)}]",
    "digits": lambda size: f"x = 1.{filled('1', size)}",
    "dates": lambda size: f"x = [{filled('1979-05-27T07:32:00.9Z,', size)}]",
    "comments": lambda size: filled("#\n", size),
    "blank lines": lambda size: filled("\r\n", size),
    "a long key": lambda size: f"{filled('a', size)} = 1",
    "a wide inline table": lambda size: f"x = {{{counted('k{}.a = 1,', size)}z = 1}}",
}


@pytest.mark.parametrize("size", [40_000, 200_000, 1_000_000])
@pytest.mark.parametrize("name", [*REFUSED, *READ])
def test_reading_ends(name: str, size: int) -> None:
    began = time.process_time()
    if name in READ:
        assert parse_toml(READ[name](size)) or name in ("comments", "blank lines")
    else:
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            parse_toml(REFUSED[name](size))
    assert time.process_time() - began < WITHIN_S


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a = 1\n{ALLOWED}.a = 1", f"a key of more than {MOST_PARTS} parts \\(in line 2\\)"),
        (f"a = 1\n\nx = {'[' * 61}", f"more than {MOST_LEVELS} brackets are open \\(in line 3\\)"),
        (f"x = {f'{{ {ALLOWED} = ' * 5}1{'}' * 5}", f"nested deeper than {MOST_LEVELS} levels"),
        (f"x = 0x{'f' * 2000}", "an integer of more than a thousand digits"),
        ("x = ", "Invalid value"),
    ],
)
def test_it_ends_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_toml(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{ALLOWED} = 1",
        f"x = {'[' * 50}1{']' * 50}",
        f'x = \'{"a." * 100}\'\ny = "{"a." * 100}" # {"a." * 100}\nz = """{"a." * 100}"""',
        f"x = \"{'[' * 100}\" # {'[' * 100}\ny = '''\n{'[' * 100}'''''\nz = \"{chr(92)}\"{'[' * 100}\"",
        'x = """He said: "Go.""""\ny = [1.5, 2.5, 1979-05-27T07:32:00.5Z]\n[a."b.c"]\n"d]" = {}',
    ],
)
def test_what_is_in_strings_and_comments_does_not_count(text: str) -> None:
    assert parse_toml(text) == tomllib.loads(text)


def test_every_recipe_of_ours_is_read() -> None:
    recipes = sorted(PRESETS.glob("*.toml"))
    assert recipes
    for path in recipes:
        assert read_toml(path) == tomllib.loads(path.read_text())


def test_a_file_is_regular_bounded_and_a_text(tmp_path: Path) -> None:
    (tmp_path / "theirs.toml").write_text("x = 1")
    (tmp_path / "link.toml").symlink_to("theirs.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "bytes.toml").write_bytes(b"x = 1 # \xff")
    with (tmp_path / "sparse.toml").open("wb") as file:
        file.truncate(60 << 30)
    for name, words in (("link", "a link"), ("zero", "a link"), ("pipe", "no regular file"), ("sparse", "more than")):
        with pytest.raises(OSError, match=words):
            read_toml(tmp_path / f"{name}.toml")
    with pytest.raises(ValueError, match=r"no UTF-8 \(byte 8\)"):
        read_toml(tmp_path / "bytes.toml")
    assert read_toml(tmp_path / "link.toml", follow=True) == {"x": 1}
    with pytest.raises(OSError, match="no regular file"):
        read_toml(tmp_path / "zero.toml", follow=True)


def test_what_to_write_takes_no_time_to_find() -> None:
    """A line of a stranger's, on which a pattern of two repetitions would walk back and forth."""
    began = time.process_time()
    with pytest.raises(NotToml) as caught:
        parse_toml(f'x = a{" " * 200_000}"')
    assert time.process_time() - began < 5
    assert caught.value.remedy is None


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("answer = text", 'write answer = "text"'),
        ("hub_token = abcdef123456", 'write hub_token = "..."'),
        ("WANDB_API_KEY = abcdef123456", 'write WANDB_API_KEY = "..."'),
        ("answer = text # the kind", 'write answer = "text"'),
        ("path = my data/ok.jsonl", 'write path = "my data/ok.jsonl"'),
        ("path = hf://owner/name", 'write path = "hf://owner/name"'),
        ("answer = \u201ctext\u201d", 'write answer = "text"'),
        ("system_prompt = 5 apples", 'write system_prompt = "5 apples"'),
        ("load_in_4bit = True", "write load_in_4bit = true"),
        ("limit = None", "take the line out: what no line sets has its default"),
        ("beta = .5", "write a number as 18 or 0.5"),
        ("beta = 0,5", "write a number as 18 or 0.5"),
        ('path = "C:\\data\\ok.jsonl"', "put a text that has a backslash into single quotes: 'C:\\data'"),
        ('path = "C:\\Users\\ok.jsonl"', "put a text that has a backslash into single quotes: 'C:\\data'"),
        ("examples = [a, b]", None),
        ("answer: 5", None),
        ('path = "unclosed', None),
    ],
)
def test_a_value_that_is_no_toml_is_told_how_to_write_it(line: str, remedy: str | None) -> None:
    with pytest.raises(NotToml, match=r"line 2|end of document") as caught:
        parse_toml(f"[task]\n{line}")
    assert caught.value.remedy == remedy
    if remedy is not None and remedy.startswith("write ") and " = " in remedy:
        assert parse_toml(remedy.removeprefix("write "))
