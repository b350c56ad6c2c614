"""A stranger's run folder: looking at it ends, follows no link, moves no cursor, shows no key."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import AFTER, BEFORE
from grpo_colab.reporting import report
from grpo_colab.reporting.page.html import unique_names
from grpo_colab.reporting.page.run_reader import equal_share, read_run, read_runs
from grpo_colab.runs.folders import DRAW
from grpo_colab.runs.lock import LOCK
from grpo_colab.runs.status import status, status_text
from grpo_colab.text import printable
from grpo_colab.utils.files import MOST_READ
from grpo_colab.utils.json_rows import MOST_ROWS, MOST_VALUES

WITHIN_S = 60.0  # what does not end is over it on any machine; what is bounded takes a few seconds
FILES = ("recipe.toml", "metrics.jsonl", "completions.jsonl", "warnings.jsonl", BEFORE, AFTER, "evaluation.json")
FILES += ("environment.json", "clock.json", "mirror.json", "phase.json", "tripwire.json", "reward-failure.json", LOCK)
FILES += ("drawing.png", "drawing.gif", "collapse.json")
# What else is said of a link in their place, the page leaves out.
UNSAID = ("clock.json", "mirror.json", "phase.json", "tripwire.json", "reward-failure.json", "collapse.json", LOCK)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(Recipe.load(budget={"max_steps": 4}), tmp_path / "run")
    run.append("metrics.jsonl", [{"step": n, "reward": 1.0, "rewards/a/mean": n} for n in (1, 2)])
    return run


def data(page: Path) -> str:
    """Everything in a page: its own text, and what its scripts are given."""
    source = page.read_text(encoding="utf-8")
    packed = re.findall(r'id="(?:data|rest)">([^<]*)<', source)
    own = re.sub(r'<script type="text/plain" id="\w+">[^<]*<', "<", source)
    return html.unescape(own) + "".join(gzip.decompress(base64.b64decode(one)).decode() for one in packed)


def looked_at(path: Path) -> str:
    """All that status and report tell, within the time."""
    began = time.process_time()
    told = status(path)
    text = status_text(told)
    found = text + json.dumps(told, allow_nan=False) + data(report([path], path.parent / "p.html"))
    assert time.process_time() - began < WITHIN_S
    assert printable(text) == text
    return found


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_big_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(60 << 30)


@pytest.mark.parametrize("put", [a_pipe, a_device, a_big_file, Path.mkdir])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_of_a_run_is_not_waited_for(name: str, put: Callable[[Path], None], run: Run) -> None:
    if name == "recipe.toml" and put is not a_big_file:  # else it is no run folder
        return
    (run.path / name).unlink(missing_ok=True)
    put(run.path / name)
    looked_at(run.path)


HUGE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "rows of two bytes": ("completions.jsonl", lambda: b"{}\n" * 3_000_000),
    "rows of a step": ("metrics.jsonl", lambda: b'{"step":1}\n' * 2_000_000),
    "answers of two bytes": (BEFORE, lambda: b"{}\n" * 3_000_000),
    "warnings of two bytes": ("warnings.jsonl", lambda: b"{}\n" * 3_000_000),
    "blank lines": ("metrics.jsonl", lambda: b"\n" * 20_000_000),
    "a name a step": ("metrics.jsonl", lambda: b"".join(b'{"step":%d,"m%d":1}\n' % (n, n) for n in range(200_000))),
    "many names": ("metrics.jsonl", lambda: b'{"step":1,%s}\n' % b",".join(b'"%d":1' % n for n in range(1_000_000))),
    "many keys": ("evaluation.json", lambda: b"{%s}" % b",".join(b'"%d":1' % n for n in range(1_000_000))),
    "a long line": ("completions.jsonl", lambda: b'{"step":1,"completion":"%s"}\n' % (b"x" * 30_000_000)),
    "a deep line": ("metrics.jsonl", lambda: b'{"a":' * 5_000_000),
    "a deep object": ("environment.json", lambda: b'{"a":' * 900 + b"1" + b"}" * 900),
    "many messages": ("completions.jsonl", lambda: b'{"step":1,"prompt":[%s"m"]}\n' % (b'"m",' * 1_000_000)),
    "a dotted key": ("recipe.toml", lambda: b"a." * 20_000 + b"a=1"),
    "deep arrays": ("recipe.toml", lambda: b"a=" + b"[" * 100_000),
}


# each kind of file once; to read the others takes seconds
USUAL = {*HUGE} - {"rows of two bytes", "rows of a step", "a name a step"}


@pytest.mark.parametrize("kind", long_but(USUAL, HUGE))
def test_reading_ends(kind: str, run: Run) -> None:
    name, content = HUGE[kind]
    (run.path / name).write_bytes(content())
    looked_at(run.path)


@pytest.mark.parametrize("count", [5_000, pytest.param(20_000, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "form", ["rewards/r{}/mean", "rewards/r{}/std", "verdict/{}", "m{}", "rewards/" + "x" * 200 + "{}/mean"]
)
def test_thousands_of_names_are_linear(form: str, count: int, run: Run) -> None:
    run.append("metrics.jsonl", [{"step": n, **{form.format(i): n * i for i in range(count)}} for n in range(3, 13)])
    rewards: list[dict[str, Any]] = [{form.format(i): 1.0 for i in range(n, count, 20)} for n in range(20)]
    row = {"prompt": "?", "completion": "x", "extra": rewards[0]}
    run.append("completions.jsonl", [{"step": n, **row, "rewards": paid} for n, paid in enumerate(rewards)])
    found = looked_at(run.path)
    assert "metrics beyond the first" in found
    assert "60 of" in found


def test_names_that_look_alike_are_told_apart_in_linear_time() -> None:
    began = time.process_time()
    assert len(set(unique_names(["x"] * 200_000))) == 200_000
    assert unique_names(["a", "a", "a (2)", "a", "b"]) == ["a", "a (2)", "a (2) (2)", "a (3)", "b"]
    assert time.process_time() - began < WITHIN_S


def test_a_folder_of_drawings_names_runs_that_are_in_it(run: Run, tmp_path: Path) -> None:
    outside = Run.create(Recipe.load(), tmp_path / "outside")
    folder = tmp_path / "drawings"
    folder.mkdir()
    (folder / "link").symlink_to(outside.path)
    Run.create(Recipe.load(), folder / "one")
    names = [
        "../outside",
        str(outside.path),
        "link",
        "x" * 300,
        "a\0b",
        7,
        None,
        "one",
        "one",
        *map(str, range(100_000)),
    ]
    (folder / DRAW).write_text(json.dumps({"runs": names}))
    began = time.process_time()
    page = data(report([folder], tmp_path / "page.html"))
    assert time.process_time() - began < WITHIN_S
    assert "run folder one" in page
    assert "outside" not in page
    (folder / DRAW).write_text(json.dumps({"runs": [name for name in names if name != "one"]}))
    with refused(problem="none of the runs", snapshot=False):
        report([folder], tmp_path / "page.html")


@pytest.mark.parametrize("name", FILES[1:])
def test_no_link_is_followed(name: str, run: Run, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    secret = "what-is-elsewhere"
    rows = {"step": 1, "text": secret, "completion": secret, "question": secret, "name": secret, "wire": secret}
    theirs.write_text(json.dumps({**rows, "reward": secret, "destination": secret, "task": secret}) + "\n")
    if name.startswith("drawing"):
        theirs.write_bytes(PNG + secret.encode())
    was = theirs.read_bytes()
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(theirs)
    found = looked_at(run.path)
    assert secret not in found
    assert base64.b64encode(PNG).decode()[:8] not in found
    assert theirs.read_bytes() == was  # the lock's, too, which to try would empty
    if name not in UNSAID:
        assert f"{name} is a link, which is not followed" in found


@pytest.mark.parametrize("name", ["checkpoints", "adapter"])
def test_no_link_to_a_folder_is_followed(name: str, run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other" / "checkpoint-77"
    other.mkdir(parents=True)
    (other / "manifest.json").write_text('{"value": 0.5, "metric": "theirs", "files": {}}')
    (run.path / name).symlink_to(other.parent)
    found = looked_at(run.path)
    assert f"{name} is a link, which is not followed" in found
    assert "theirs" not in found
    assert status(run.path)["checkpoint"] is None


def test_a_picture_is_one_by_its_first_bytes(run: Run) -> None:
    for name in ("drawing.png", "drawing.gif"):
        (run.path / name).write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    found = looked_at(run.path)
    assert "drawing.png is no PNG, and is left out" in found
    assert "drawing.gif is no GIF, and is left out" in found
    assert "<img" not in found
    (run.path / "drawing.png").write_bytes(PNG)
    (run.path / "drawing.gif").write_bytes(b"GIF89a")
    assert looked_at(run.path).count("<img") == 2


def test_a_page_is_written_where_it_was_asked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (run.path / "report.html").symlink_to(tmp_path / "theirs")
    for out in (None, run.path / "report.html"):
        with refused(problem="link", snapshot=False):
            report([run.path], out)
    assert (tmp_path / "theirs").read_text() == "theirs"
    with refused(problem="300 bytes", snapshot=False):
        report([run.path], tmp_path / ("x" * 300))
    with refused(problem="cannot be printed", snapshot=False):
        report([run.path], tmp_path / "a\x1b[2J.html")
    report([run.path], "/dev/null")
    code = "import sys\nfrom grpo_colab.reporting import report\nreport([sys.argv[1]], '/dev/stdout')"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<!doctype html>")


ESCAPES = "\x1b[2J\x1b]0;t\x07\x9b31m\r\u202e"


def test_no_name_or_text_moves_a_cursor(tmp_path: Path) -> None:
    folder = tmp_path / f"a{ESCAPES}\nb"
    Run.create(Recipe.load(), tmp_path / "run").path.rename(folder)  # none of ours: another made it
    run = Run(folder)
    recipe = run.path / "recipe.toml"
    quoted = json.dumps(ESCAPES)
    recipe.write_text(f"name = {quoted}\n[budget]\nmax_steps = 4\nmirror = {quoted}\n[rewards]\n{quoted} = 1.0\n")
    run.append("metrics.jsonl", [{"step": 1, "reward": 1.0, f"rewards/{ESCAPES}/mean": 1.0, f"verdict/{ESCAPES}": 1.0}])
    run.append("warnings.jsonl", [{"step": 1, "text": ESCAPES}])
    run.append("completions.jsonl", [{"step": 1, "prompt": ESCAPES, "completion": ESCAPES, "rewards": {ESCAPES: 1}}])
    for name in ("evaluation", "environment", "mirror", "tripwire", "reward-failure", "collapse"):
        keys = ("wire", "reward", "what", "destination", "error", "task", "device")
        rates = {"back_to": 9, "learning_rate_before": 0.1, "learning_rate": 0.05}
        run.write_json(f"{name}.json", {**dict.fromkeys(keys, ESCAPES), **rates, "step": 99, ESCAPES: ESCAPES})
    found = looked_at(run.path)
    assert not set(found) & set("\x1b\x9b\x07\u202e")
    assert "x1b[2J" in status_text(status(run.path))


SECRETS = {
    "address": ("https://me:pa55-w0rd@host/x", "pa55-w0rd"),
    "query": ("https://host/x?a=1&token=pa55-w0rd&b=2", "pa55-w0rd"),
    "hub": ("hf_" + "aB3" * 11, "aB3aB3"),
    "openai": ("sk-" + "aB3" * 11, "aB3aB3"),
    "github": ("ghp_" + "aB3" * 12, "aB3aB3"),
    "wandb": ("wandb_v1_" + "aB3" * 12, "aB3aB3"),
    "gitlab": ("glpat-" + "aB3" * 8, "aB3aB3"),
    "aws": ("AKIA" + "ABCD" * 4, "ABCDABCD"),
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("several", [False, True])
def test_what_opens_something_is_shown_nowhere(kind: str, several: bool, tmp_path: Path) -> None:
    written, hidden = SECRETS[kind]
    name = "run" if "/" in written else written
    run = Run.create(Recipe.load(), tmp_path / name)
    quoted, long = json.dumps(written), "x" * 11_990 + f" {written} " + "y" * 3000
    (run.path / "recipe.toml").write_text(
        f"name = {quoted}\n[budget]\nmax_steps = 4\nmirror = {quoted}\n[rewards]\n{quoted} = 1.0\n"
        f"[x]\n{quoted} = {quoted}\n"
        f"[model]\nmodel_name = {quoted}\n[task]\nname = {quoted}\n"
    )
    metric = {"step": 1, "reward": 1.0, f"rewards/{written}/mean": 1.0, f"rewards/{written}/std": 1.0}
    run.append("metrics.jsonl", [{**metric, f"verdict/{written}": 1.0, written: 1.0, f"{written} odd": "text"}])
    run.append("warnings.jsonl", [{"step": 1, "text": written, "kind": written, "api_key": "pa55-w0rd"}])
    row = {"step": 1, "completion": written, "answer": written, "rewards": {written: 1.0}, "group": written}
    extra = {"extra": {written: written, "token": hidden}}
    run.append("completions.jsonl", [{**row, "prompt": [{"role": written, "content": written}], **extra}])
    run.append("completions.jsonl", [{**row, "prompt": long, "completion": long[n:]} for n in range(0, 40, 7)])
    for side in (BEFORE, AFTER):
        answer = dict.fromkeys(("source", "question", "answer", "completion", "verdict"), written)
        run.append(side, [{**answer, "right": True, "lenient_right": True, "rewards": {written: 1.0}}])
    keys = ("wire", "reward", "what", "destination", "error", "task", "id", "at", "split")
    rates = {"back_to": 9, "learning_rate_before": 0.1, "learning_rate": 0.05}
    for file in ("evaluation", "environment", "mirror", "tripwire", "reward-failure", "collapse", "wandb", "clock"):
        told = {**dict.fromkeys(keys, written), **rates, "step": 99, "device": {"name": written}}
        run.write_json(f"{file}.json", told)
        (run.path.parent / "evaluation").mkdir(exist_ok=True)
    (run.path / "evaluation.json").write_text(json.dumps({"task": written, "before": {"accuracy": 0.5}, "n": 9}))
    paths = [run.path]
    if several:
        paths.append(Run.create(Recipe.load(), tmp_path / "another").path)
    told = status(run.path)
    page = data(report(paths, tmp_path / "page.html"))
    assert [page[max(0, at.start() - 90) : at.end()] for at in re.finditer(re.escape(hidden), page)] == []
    assert hidden not in status_text(told)
    assert hidden not in json.dumps(told)
    assert "..." in page


BEYOND = "1" + "0" * 310  # no float
NEARLY = "1" + "0" * 307  # a float; a hundred times it is none
BAD_FIGURES = (BEYOND, NEARLY, "-1", "1.01", "1e308", "-1e308", "Infinity", "NaN", "true", '"x"', "[]")
FIGURES = {
    "before.accuracy": '{"accuracy":%s,"ci95":[0,1],"lenient_accuracy":0.5}',
    "before.low": '{"accuracy":0.5,"ci95":[%s,1],"lenient_accuracy":0.5}',
    "before.high": '{"accuracy":0.5,"ci95":[0,%s],"lenient_accuracy":0.5}',
    "before.lenient": '{"accuracy":0.5,"ci95":[0,1],"lenient_accuracy":%s}',
}


@pytest.mark.parametrize("bad", BAD_FIGURES, ids=range(len(BAD_FIGURES)))
@pytest.mark.parametrize("figure", [*FIGURES, "n", "step", "gained", "lost", "p_value"])
def test_an_evaluation_of_figures_that_cannot_be(figure: str, bad: str, run: Run, tmp_path: Path) -> None:
    before = FIGURES[figure] % bad if figure in FIGURES else '{"accuracy":0.5}'
    paired = {key: bad if key == figure else "1" for key in ("gained", "lost", "p_value")}
    first = {key: bad if key == figure else "10" for key in ("n", "step")}
    (run.path / "evaluation.json").write_text(
        f'{{"n":{first["n"]},"step":{first["step"]},"before":{before},"after":{{"accuracy":0.5}},'
        f'"paired":{{{",".join(f"{json.dumps(key)}:{value}" for key, value in paired.items())}}}}}'
    )
    found = looked_at(run.path)
    told = status(run.path)
    report([run.path, Run.create(Recipe.load(), tmp_path / "other").path], tmp_path / "both.html")
    assert told["evaluation"] is None or (figure, bad) == ("step", "-1")
    if figure in FIGURES:
        assert f"evaluation.json is damaged: {figure} cannot be" in found


@pytest.mark.parametrize("great", [BEYOND, NEARLY, "1" + "0" * 200, "-" + NEARLY, "1e308", "-1e308", "true"])
def test_no_number_of_a_file_is_too_great_to_reckon_with(great: str, run: Run, tmp_path: Path) -> None:
    (run.path / "recipe.toml").write_text(
        f'name = "x"\n[budget]\nmax_steps = {great}\n[rewards]\na = {great}\nb = {great}\n[grpo]\nnum = {great}\n'
    )
    keys = ["reward", "reward_std", "step_time", "sample_time", "kl", "rewards/a/mean", "verdict/right"]
    keys.append("frac_reward_zero_std")
    row = ",".join(f'"{key}":{great}' for key in keys)
    steps = "".join(f'{{"step":{step},{row}}}\n' for step in (1, 2, great, f"-{great}".replace("--", "")))
    (run.path / "metrics.jsonl").write_text(steps)
    (run.path / "warnings.jsonl").write_text(f'{{"step":{great},"text":"x"}}\n')
    one = f'"completion":"x","advantage":{great},"rewards":{{"a":{great},"b":{great}}},"extra":{{"e":{great}}}'
    (run.path / "completions.jsonl").write_text("".join(f'{{"step":{step},{one}}}\n' for step in (1, great)))
    for name in ("clock", "mirror", "tripwire", "reward-failure", "collapse"):
        rates = f'"back_to":{great},"learning_rate":{great},"learning_rate_before":{great}'
        told = f'{{"step":{great},"evaluation_s":{great},"failures":{great},{rates}}}'
        (run.path / f"{name}.json").write_text(told)
    folder = run.checkpoints / ("checkpoint-" + "9" * 200)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(f'{{"value":{great},"metric":"reward","files":{{}}}}')
    looked_at(run.path)
    report([run.path, Run.create(Recipe.load(), tmp_path / "other").path], tmp_path / "both.html")


@pytest.mark.long
def test_runs_with_names_of_their_own_are_linear(tmp_path: Path) -> None:
    """Every name of every run was once looked for in the rows of all others: hours of a hundred runs."""
    paths = []
    for n in range(100):
        run = Run.create(Recipe.load(), tmp_path / f"run-{n}")
        own = "".join(f"name-{n}-{i} = 1\n" for i in range(1000))
        (run.path / "recipe.toml").write_text(f'name = "x"\n[theirs]\n{own}')
        names = [f"rewards/{n}-{i}/mean" for i in range(900)]
        run.append(
            "metrics.jsonl", [{"step": step, "reward": step, **dict.fromkeys(names, step)} for step in (1, 2, 3)]
        )
        row = {"step": 1, "prompt": "?", "completion": "x"}
        run.append("completions.jsonl", [{**row, "rewards": {f"{n}-{i}": 1.0 for i in range(100)}}])
        paths.append(run.path)
    began = time.process_time()
    page = data(report(paths, tmp_path / "page.html"))
    assert time.process_time() - began < WITHIN_S
    assert "60 of 10,000 rewards" in page
    assert "And 99,940 more" in page


@pytest.mark.long
def test_runs_with_steps_of_their_own_are_linear(tmp_path: Path) -> None:
    """A chart's table has a row a step and a column a run."""
    runs = [Run.create(Recipe.load(), tmp_path / f"run-{n}") for n in range(100)]
    for n, run in enumerate(runs):
        keys = ("reward", "kl", "loss", "entropy", "step_time")
        run.append("metrics.jsonl", [{"step": step, **dict.fromkeys(keys, 1.0)} for step in range(n, 40_000, 100)])
    began = time.process_time()
    page = data(report([run.path for run in runs], tmp_path / "page.html"))
    assert time.process_time() - began < WITHIN_S
    assert "The table has one step in 80." in page
    assert len(page) < 20_000_000


def test_what_is_kept_of_several_runs_is_what_is_kept_of_one(tmp_path: Path) -> None:
    runs = [Run.create(Recipe.load(), tmp_path / f"run-{n}") for n in range(3)]
    wide = ",".join(f'"m{i}":1' for i in range(200))
    for run in runs[:2]:
        with (run.path / "completions.jsonl").open("w") as file:
            file.writelines(f'{{"step":{n}}}\n' for n in range(120_000))
        with (run.path / "metrics.jsonl").open("w") as file:
            file.writelines(f'{{"step":{n},{wide}}}\n' for n in range(8000))
    runs[2].append("metrics.jsonl", [{"step": n, "reward": n} for n in range(1, 9)])
    readings = read_runs(runs, ["a", "b", "c"])
    assert sum(len(one.completions) for one in readings) < 1.1 * MOST_ROWS
    assert sum(map(len, (row for one in readings for row in one.metrics))) < 1.2 * MOST_ROWS * MOST_VALUES
    for one in readings[:2]:
        for name, rows, end in (("completions", one.completions, 120_000), ("metrics", one.metrics, 8000)):
            assert any(note.startswith(f"{name}.jsonl has more lines or values than are read") for note in one.notes)
            steps = [row["step"] for row in rows]
            for start in range(0, end, end // 8):  # something of each part
                assert any(start <= step < start + end // 8 for step in steps), (name, start)
    assert len(readings[2].metrics) == 8


def test_what_small_runs_leave_is_the_others() -> None:
    assert equal_share([5, 5, 5], 15) == MOST_READ
    assert equal_share([90, 1, 90, 9], 100) == 45
    assert equal_share([90, 90], 100) == 50
    assert equal_share([], 100) == MOST_READ


def test_a_line_of_too_much_leaves_the_others(run: Run) -> None:
    rows = (
        b'{"step":3,"reward":1.0}\n' + b'{"step":4,"z":[%s1]}\n' % (b"[]," * 3_000_000) + b'{"step":5,"reward":2.0}\n'
    )
    (run.path / "metrics.jsonl").write_bytes(rows)
    assert [row["step"] for row in read_run(run).metrics] == [3, 5]
    assert "metrics.jsonl has more lines or values than are read: 1 lines were left out." in read_run(run).notes
