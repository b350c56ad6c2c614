"""Files are whole or not there, whatever happens to their writer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_colab.utils.files import append, read_json, read_lines, write_text


def test_a_writer_that_is_killed_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A process rewrites a file for ever and is killed at any moment: what stands there is one whole version."""
    path = tmp_path / "value.json"
    code = (
        "import sys, itertools, json\nfrom pathlib import Path\nfrom grpo_colab.utils.files import write_text\n"
        "for n in itertools.count():\n"
        "    write_text(Path(sys.argv[1]), json.dumps([n] * 50_000))\n"
        "    print(n, flush=True)\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        values = json.loads(path.read_text())
        assert len(values) == 50_000
        assert len(set(values)) == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_reading_a_file_that_is_not_there_is_reading_nothing(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "absent.jsonl") == []


def test_lines_are_added_whole(tmp_path: Path) -> None:
    append(tmp_path / "rows.jsonl", '{"a": 1}\n')
    append(tmp_path / "rows.jsonl", '{"a": 2}\n{"a": "\ud83d"}\n')  # half a surrogate pair
    assert [row["a"] for row in read_lines(tmp_path / "rows.jsonl")] == [1, 2, "\ud83d"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\x00\x00"])
def test_json_that_cannot_be_read_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "value.json").write_text(content)
    assert read_json(tmp_path / "value.json") is None
    assert read_json(tmp_path / "absent.json") is None
