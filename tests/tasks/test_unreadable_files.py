"""A file that cannot be read as its name says is refused with its line, and with what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab.tasks.dataset import Dataset

HEAD = "question,answer\n"
BAD: dict[str, tuple[str, str, str, str | None]] = {  # name: file name, its text, problem with its line, remedy
    "a cell too many": ("a.csv", f"{HEAD}1+1?,2\n1,1?,2\n", ":3|has 3 values, and there are 2 columns", "into quotes"),
    "a cell too few": ("a.tsv", "question\tanswer\n\n1+1?\n", ":3|has 1 values", "into quotes"),
    "an open quote": ("a.csv", f'{HEAD}1+1?,2\n"1+1?,2\n3+3?,6\n', ":3|not CSV (unexpected end of data)", "close the"),
    "an empty gold": ("a.csv", f"{HEAD}1+1?,2\n\n1+2?, \n", ":4|column 'answer': is empty", "take the row out"),
    "after a long cell": ("a.csv", f'{HEAD}"1\n+\n1?",2\n1+2?,two or three\n', ":5|not one number: 'two or", None),
    "a space before a quote": ("a.csv", f'{HEAD}1+1?,2\n"1,1?", "1,1"\n', ":3|has a space between a ','", ',"..."'),
    "and as many values": ("a.csv", f'{HEAD}1+1?, "2"\n', ":2|has a space between a ','", "take the space out"),
    "a byte of Latin-1": ("a.csv", f"{HEAD}1+1?,2\né,3\n", ":3|is not UTF-8 (it has the byte 0xe9)", "-t UTF-8 a.csv"),
    "one in JSON lines": (
        "a.jsonl",
        '{"question": "1+1?", "answer": 2}\n"é"',
        ":2|the byte 0xe9",
        'calls it "CSV UTF-8"',
    ),
    "one in JSON": ("a.json", '[\n"é"]', ":2|is not UTF-8", "iconv -f WINDOWS-1252"),
    "one name twice": ("a.csv", "question,x,x,answer\n1+1?,1,1,2\n", ":1|two columns have the name 'x'", "rename"),
    "only a header": ("a.csv", HEAD, "|the data set is empty", None),
    "an empty CSV": ("a.csv", "", "|the data set is empty", None),
    "a number in a list": (
        "a.json",
        '[\n{"question": "1+1?", "answer": 2},\n5\n]',
        ":3|must be a JSON object, not int",
        None,
    ),
    "a comma too few": ("a.json", '[\n{"question": "?", "answer": 2}\n{"question": "?"}]', ":3|expected ','", None),
    "a broken row": (
        "a.json",
        '[\n{"question": "?", "answer": 2},\n{"question": ?}]',
        ":3|not JSON (Expecting value",
        None,
    ),
    "a cut file": ("a.json", '[\n{"question": "?", "answer": 2},\n', ":3|not JSON (Expecting value", None),
    "text after the list": ("a.json", "[] x", ":1|has text after its list: 'x'", None),
    "a list per column": (
        "a.json",
        '{"question": ["?"], "answer": [2]}',
        "|without a list of rows",
        'orient="records"',
    ),
    "a text": ("a.json", '"x"', "|is no list of rows", "write a list of rows"),
    "a null in a list": (
        "a.json",
        '[{"question": "?", "answer": 2},\n{"question": "!", "answer": null}]',
        ":2|is null",
        None,
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_named_with_its_line(kind: str, tmp_path: Path) -> None:
    name, content, expected, remedy = BAD[kind]
    (tmp_path / name).write_text(content, encoding="latin-1")
    place, problem = expected.split("|")
    with refused(place=f"{tmp_path / name}{place}", problem=problem, remedy=remedy):
        Dataset(path=str(tmp_path / name)).problems("train")


def test_a_text_in_another_encoding_is_named_however_it_is_packed(tmp_path: Path) -> None:
    """The byte is in the second part of the file that is read."""
    long = f"{HEAD}" + "1+1?,2\n" * 200_000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(f"{long}é,2\n".encode("latin-1")))
    with refused(place=f"{tmp_path / 'a.csv.gz'}:200002", problem="is not UTF-8", remedy="as UTF-8"):
        Dataset(path=str(tmp_path / "a.csv.gz")).problems("train")
    (tmp_path / "b.csv").write_text(f"{HEAD}1+1?,2\n", encoding="utf-16")
    with refused(place=f"{tmp_path / 'b.csv'}", problem="is UTF-16, not UTF-8", remedy="iconv -f UTF-16"):
        Dataset(path=str(tmp_path / "b.csv")).problems("train")
    (tmp_path / "c.csv").write_bytes(f"{HEAD}1+1?,é".encode()[:-1])
    with refused(place=f"{tmp_path / 'c.csv'}:2", problem="ends within a character", remedy="restore the file"):
        Dataset(path=str(tmp_path / "c.csv")).problems("train")


DAMAGED = {"a.jsonl.gz": b"x", "b.csv.bz2": b"x", "c.json.xz": b"x", "d.parquet": b"PAR1", "e.csv": b"question\n\xff\n"}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    with refused(place=tmp_path / name, snapshot=False):
        Dataset(path=str(tmp_path / name)).problems("train")
