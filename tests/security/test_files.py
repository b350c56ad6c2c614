"""What others put where the package writes and reads: links, pipes, devices, other names, other people's modes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.errors import SettingError
from grpo_colab.evaluation.scoring import score
from grpo_colab.plan import plan
from grpo_colab.reporting import report
from grpo_colab.reporting.embedding import embed
from grpo_colab.tasks import load_task
from grpo_colab.utils.files import (
    append,
    check_name,
    is_file,
    is_folder,
    read_bytes,
    read_json,
    read_objects,
    regular_files,
    safe_join,
    sha256,
    write_out,
    write_text,
)

WRITERS: dict[str, Callable[[Path, str], None]] = {"whole": write_text, "lines": append, "named": write_out}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_written_through_a_link_that_leads_out(writer: str, exists: bool, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    target, link = tmp_path / "theirs.txt", tmp_path / "run" / "warnings.jsonl"
    if exists:
        target.write_text("theirs")
    link.symlink_to(target)
    with pytest.raises(OSError, match="it is a link"):
        WRITERS[writer](link, "ours\n")
    assert link.is_symlink()
    assert target.exists() is exists
    assert not exists or target.read_text() == "theirs"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["warnings.jsonl"]


def test_a_link_within_its_folder_is_followed_where_a_person_names_it(tmp_path: Path) -> None:
    (tmp_path / "latest.jsonl").symlink_to("scores-2.jsonl")
    write_out(tmp_path / "latest.jsonl", "one\n")
    (tmp_path / "scores-2.jsonl").chmod(0o600)
    write_out(tmp_path / "latest.jsonl", "two\n")
    assert (tmp_path / "latest.jsonl").is_symlink()
    assert (tmp_path / "scores-2.jsonl").read_text() == "two\n"
    assert stat.S_IMODE((tmp_path / "scores-2.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o755])
@pytest.mark.parametrize("writer", ["whole", "named"])
def test_a_file_keeps_its_mode(mode: int, writer: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text("before")
    path.chmod(mode)
    WRITERS[writer](path, "after")
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    os.chown(path, 1234, 1234)
    write_text(path, "after")
    assert (path.stat().st_uid, path.stat().st_gid, path.read_text()) == (1234, 1234, "after")


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom grpo_colab.utils.files import append, write_text\n"
        "os.umask(0o027)\nwrite_text(Path('whole'), 'a')\nappend(Path('lines'), 'a')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("whole", "lines")] == [0o640, 0o640]


def test_a_device_and_a_pipe_are_written_straight_where_a_person_names_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_out(tmp_path / "pipe", "x" * 200_000)  # more than a pipe holds
    reader.join()
    assert read == [b"x" * 200_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    write_out("/dev/null", "nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name_is_added_to(name: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom grpo_colab.utils.files import write_out\n"
        "print('before', flush=True)\nwrite_out(sys.argv[1], 'x\\n')"
    )
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code, name], stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "before\nx\n"


@pytest.mark.parametrize("writer", ["whole", "lines"])
def test_our_own_files_are_regular_or_refused(writer: str, tmp_path: Path) -> None:
    """A pipe that nobody reads would be waited for."""
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(OSError, match="no regular file"):
        WRITERS[writer](tmp_path / "metrics.jsonl", "text\n")
    assert stat.S_ISFIFO((tmp_path / "metrics.jsonl").stat().st_mode)


def test_a_copy_by_hard_links_stays_what_it_was(tmp_path: Path) -> None:
    """`cp -al` of a run folder shares its files' bodies."""
    append(tmp_path / "metrics.jsonl", "1\n")
    (tmp_path / "backup").hardlink_to(tmp_path / "metrics.jsonl")
    append(tmp_path / "metrics.jsonl", "2\n")
    assert (tmp_path / "backup").read_text() == "1\n"
    assert (tmp_path / "metrics.jsonl").read_text() == "1\n2\n"


def test_a_planted_temporary_name_is_not_met(tmp_path: Path) -> None:
    """The names are random: what was planted under the process's number is neither written nor removed."""
    planted = tmp_path / f".report.html.{os.getpid()}.tmp"
    planted.symlink_to(tmp_path / "theirs")
    write_text(tmp_path / "report.html", "ours")
    assert planted.is_symlink()
    assert not (tmp_path / "theirs").exists()


def test_reading_ends(tmp_path: Path) -> None:
    """Pipes and devices are not waited for, links are not followed, and no more than a bounded part is read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").write_text('{"key": 1}\n')
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(60 << 30)
    for name in ("pipe", "link", "zero"):
        assert read_json(tmp_path / name) is None
        assert read_objects(tmp_path / name).rows == []
        assert read_objects(tmp_path / name).error
        with pytest.raises(OSError, match="it is"):
            read_bytes(tmp_path / name)
        with pytest.raises(OSError, match="it is"):
            sha256(tmp_path / name)
    assert read_json(tmp_path / "sparse") is None
    assert read_objects(tmp_path / "sparse").rows == []
    with pytest.raises(OSError, match="more than 1,000 bytes"):
        read_bytes(tmp_path / "sparse", most=1000)
    assert read_bytes(tmp_path / "link", follow=True) == b'{"key": 1}\n'


@pytest.mark.parametrize(
    "name",
    ["../out", "a/../../out", "/etc/passwd", "", ".", "..", "link/x", "link", "a\0b", "x" * 300, 5, None, ["a"], {}],
)
def test_a_name_that_was_read_stays_in_its_folder(name: object, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/tmp")
    with pytest.raises(ValueError, match=r"."):
        safe_join(tmp_path, name)


def test_a_plain_name_that_was_read_is_a_path(tmp_path: Path) -> None:
    assert safe_join(tmp_path, "adapter/a b.json") == tmp_path / "adapter" / "a b.json"
    assert safe_join(tmp_path, "seed=42") == tmp_path / "seed=42"


def test_what_is_copied_is_regular_files_alone(tmp_path: Path) -> None:
    """Links in a circle end, and what they lead to is not taken along."""
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "adapter" / "model").write_text("m")
    (tmp_path / "run" / "adapter" / "again").symlink_to("..")
    (tmp_path / "run" / "key").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "run" / "pipe")
    assert list(regular_files(tmp_path / "run")) == [tmp_path / "run" / "adapter" / "model"]


@pytest.mark.parametrize(
    "name", ["r\udcffun", "x" * 256, "é" * 128, "a\x1b[2Jb", "a\nb", "runs/\u202eexe", "r\ud800un"]
)
def test_a_name_that_cannot_be_is_refused_before_the_work(name: str) -> None:
    with refused("--out", name, remedy="choose"):
        check_name("--out", name)


@pytest.mark.parametrize("name", ["runs/2026-11-29 a run [1]", "/content/drive/MyDrive/Übung", "x" * 200, "日本"])
def test_an_uncommon_name_is_a_name(name: str) -> None:
    check_name("--out", name)


BEYOND = "/".join(["a" * 200] * 30)  # more than any path may have: the system will not even say whether it is there


@pytest.mark.parametrize("name", ["/dev/fd/²", "/dev/fd/٣", "/dev/fd/" + "9" * 20, "/dev/fd/999999", BEYOND])
def test_what_is_no_place_to_write_to_is_an_os_error(name: str) -> None:
    with pytest.raises(OSError, match=r"."):
        write_out(name, "x")


def a_circle(folder: Path, links: int) -> Path:
    for n in range(links):
        (folder / f"link-{n}").symlink_to(f"link-{(n + 1) % links}")
    return folder / "link-0"


@pytest.mark.parametrize("links", [1, 2])
def test_a_link_in_a_circle_is_told_and_kept(links: int, tmp_path: Path) -> None:
    link = a_circle(tmp_path, links)
    with pytest.raises(OSError, match="link"):
        write_out(link, "x")
    with pytest.raises(OSError, match=r"."):
        write_out(link / "file", "x")
    assert len(list(tmp_path.iterdir())) == links
    assert link.is_symlink()


NOWHERE: dict[str, Callable[[Path], str]] = {
    "a link to itself": lambda folder: str(a_circle(folder, 1)),
    "two in a circle": lambda folder: str(a_circle(folder, 2)),
    "in a circle": lambda folder: str(a_circle(folder, 2) / "file"),
    "too long a path": lambda folder: BEYOND,
    "another sign for a digit": lambda folder: "/dev/fd/²",
    "a number beyond all": lambda folder: "/dev/fd/" + "9" * 20,
}


@pytest.mark.parametrize("case", NOWHERE)
def test_every_command_says_that_it_cannot_write_there(case: str, tmp_path: Path) -> None:
    out = NOWHERE[case](tmp_path)
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.append("completions.jsonl", [{"step": 1, "completion": "<answer>1</answer>", "answer": "1"}])
    commands: list[Callable[[], object]] = [
        lambda: score(run.path, ["correctness"]).write(out),
        lambda: report([run.path], out),
        lambda: report([run.path, Run.create(Recipe.load(), tmp_path / "other").path], out),
        lambda: embed("word_problems", n=5, out=out),
        lambda: Run.create(Recipe.load(), out),
    ]
    for command in commands:
        with pytest.raises(SettingError, match=r"cannot write|choose|is a file"):
            command()


@pytest.mark.stack
@pytest.mark.parametrize("case", NOWHERE)
def test_a_plan_says_that_its_picture_cannot_be_written(case: str, tmp_path: Path) -> None:
    out = NOWHERE[case](tmp_path)
    with refused("--picture", out, remedy="choose") as error:
        plan(Recipe.load(), "T4").draw(out)
    assert error.value.problem.startswith(("cannot be written (", "is a path of over 3000 bytes"))


def test_what_is_there_cannot_be_told_of_every_path(tmp_path: Path) -> None:
    for path in (Path(BEYOND), Path("a\0b"), a_circle(tmp_path, 2), tmp_path / "none", tmp_path / "link-0" / "x"):
        assert not is_file(path)
        assert not is_folder(path)
    for name, path in (("task.path", BEYOND), ("task.path", str(tmp_path / "link-0"))):
        for task in ("jsonl", "gsm8k"):
            with refused(name, path, snapshot=False):
                load_task(task, path=path)
