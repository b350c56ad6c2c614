"""What is not ours is not touched: mirrors, copies that come back, drawings, checkpoints, run folders.

Whoever can write beside us may have put their files where ours go, links that lead out, names that lead out, numbers
that are none, and files that never end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from earlier_copies import as_earlier
from marks import long_but
from refusals import refused

from grpo_colab import draw
from grpo_colab.errors import SettingError
from grpo_colab.experiments.series import made_runs, new_runs
from grpo_colab.notebook import runs_of
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs import checkpoints, mirror
from grpo_colab.runs.checkpoints import MANIFEST, damage, saved, seal
from grpo_colab.runs.folders import check_free
from grpo_colab.runs.lock import locked
from grpo_colab.runs.mirror.lookup import read_recipes
from grpo_colab.runs.mirror.slots import SLOTS, copied
from grpo_colab.runs.resume import open_run, rewind_to_checkpoint
from grpo_colab.runs.run import Run
from grpo_colab.utils.files import append, write_json

FAST = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
THEIRS = b"of another person"
HASH = "0" * 64


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy takes long to start a process: what a test waits for comes all the same."""
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 60.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of twenty steps, with checkpoints at 10 (the best) and 20, and an adapter."""
    run = tmp_path / "runs" / "photos"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text('name = "example"\n')
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(3000))
    for step, value in ((10, 0.9), (20, 0.1)):
        train_to(run, step, value)
    return run


def train_to(run: Path, step: int, value: float) -> Path:
    append(run / "metrics.jsonl", json.dumps({"step": step}) + "\n")
    staged = checkpoints.new_staging(run / "checkpoints") / f"checkpoint-{step}"
    (staged / "deep").mkdir(parents=True)
    (staged / "optimizer.pt").write_bytes(os.urandom(5000))
    (staged / "deep" / "empty").write_bytes(b"")
    return seal(staged, run / "checkpoints", "reward", value)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    (tmp_path / "backup").mkdir()
    return tmp_path / "backup"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of theirs, with a file and a whole checkpoint's worth of files."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("optimizer.pt", "adapter_model.safetensors", "manifest.json", "notes.txt"):
        (folder / name).write_bytes(THEIRS)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from huggingface_hub import constants

    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    with Hub() as served:
        for name, value in served.environment(tmp_path / "home", **FAST).items():
            monkeypatch.setenv(name, value)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home"))
        yield served


def everything(folder: Path) -> dict[str, str | bytes | None]:
    """All that is below a folder: a file's bytes, a link's target, None for a folder and what else there is."""
    found: dict[str, str | bytes | None] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def in_time(task: Callable[[], Any]) -> None:
    """Run what might hang, such as on a pipe."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


# ------------------------------------------------------------------------------ a mirror's folder that others have


def put_files(folder: Path) -> None:
    (folder / "2019").mkdir(parents=True)
    (folder / "2019" / "a.jpg").write_bytes(THEIRS)
    (folder / "metrics.jsonl").write_bytes(THEIRS)


def put_checkpoints(folder: Path) -> None:
    """An earlier run of that name."""
    for step in (5, 10):
        train_to(folder, step, 0.5) if folder.is_dir() else (folder.mkdir(), train_to(folder, step, 0.5))


def put_another_run(folder: Path) -> None:
    put_checkpoints(folder)
    write_json(folder / mirror.MARKER, {"run": "photos", "id": "f" * 32, "files": ["metrics.jsonl"]})


def put_marker(text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        put_files(folder)
        (folder / mirror.MARKER).write_text(text)

    return put


def put_one(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        folder.mkdir()
        (folder / name).write_bytes(THEIRS)

    return put


OTHERS: dict[str, Callable[[Path], Any]] = {
    "files": put_files,
    "an earlier run": put_checkpoints,
    "another run's copy": put_another_run,
    "one hidden file": put_one(".DS_Store"),
    "a planted temporary file": put_one(".copying"),
    "an empty folder in it": lambda folder: (folder / "new").mkdir(parents=True),
    "a marker without an id": put_marker('{"files": ["metrics.jsonl"]}'),
    "a marker that is none": put_marker("[1, 2"),
    "a marker of null": put_marker('{"id": null}'),
    "a marker that is a list": put_marker('["id"]'),
    "a file of that name": lambda folder: folder.write_bytes(THEIRS),
}


@pytest.mark.parametrize("others", OTHERS)
def test_what_others_have_under_a_runs_name_is_left_alone(others: str, run: Path, backup: Path) -> None:
    OTHERS[others](backup / "photos")
    before = everything(backup)
    with pytest.raises(OSError, match=r"photos (holds|is no folder).*--out"):
        mirror.push(run, str(backup))
    assert everything(backup) == before
    # and nobody trains for hours to hear of it
    with refused("budget.mirror", str(backup), problem="photos ", remedy="choose another --out") as error:
        mirror.check_free(str(backup), [run.parent.parent / "new" / "photos"])
    assert "photos holds " in error.value.problem or "photos is no folder" in error.value.problem
    assert everything(backup) == before


@pytest.mark.parametrize("target", ["elsewhere", "nothing", "empty"])
def test_a_link_under_a_runs_name_is_not_followed(target: str, run: Path, backup: Path, elsewhere: Path) -> None:
    (elsewhere.parent / "empty").mkdir()
    (backup / "photos").symlink_to(elsewhere.parent / target)
    before = everything(elsewhere.parent)
    with pytest.raises(OSError, match="a link"):
        mirror.push(run, str(backup))
    with refused("budget.mirror", str(backup), problem="a link"):
        mirror.check_free(str(backup), [Path("new") / "photos"])
    assert {name: what for name, what in everything(elsewhere.parent).items() if "mirror.id" not in name} == before


@pytest.mark.parametrize("others", ["a.jpg", f"photos/{mirror.MARKER}", "metrics.jsonl", "checkpoints/checkpoint-20/x"])
def test_what_others_have_on_the_hub_is_left_alone(others: str, run: Path, hub: Any) -> None:
    name = others.removeprefix("photos/")
    held = {".gitattributes": b"", f"photos/{name}": b'{"id": "0000"}' if name == mirror.MARKER else THEIRS}
    hub.repositories["someone/copies"] = dict(held)
    with pytest.raises(OSError, match="photos there holds"):
        mirror.push(run, "hf://someone/copies")
    with refused("budget.mirror", "hf://someone/copies", problem=" holds ", remedy="choose another --out"):
        mirror.check_free("hf://someone/copies", [run])
    assert hub.repositories["someone/copies"] == held


def test_on_the_hub_only_what_the_mirror_wrote_goes(run: Path, hub: Any) -> None:
    mirror.push(run, "hf://someone/copies")
    held = hub.repositories["someone/copies"]
    theirs = {"photos/notes.txt", "photos/checkpoints/checkpoint-20/notes.txt", "photos/evaluation.json", "other/a.jpg"}
    hub.repositories["someone/copies"] = held | dict.fromkeys(theirs, THEIRS)
    for step in (30, 40):
        train_to(run, step, 0.5)
        mirror.push(run, "hf://someone/copies")
    write_json(run / "evaluation.json", {"step": 40})
    (run / "metrics.jsonl").unlink()
    with pytest.raises(OSError, match=r"evaluation\.json in the copy is not the mirror's"):
        mirror.push(run, "hf://someone/copies")
    held = hub.repositories["someone/copies"]
    assert {name for name, content in held.items() if content == THEIRS} == theirs
    assert [name for name in held if "checkpoint-20/" in name] == ["photos/checkpoints/checkpoint-20/notes.txt"]
    assert "photos/checkpoints/checkpoint-40/optimizer.pt" in held
    assert "photos/metrics.jsonl" not in held
    assert set(json.loads(held[f"photos/{mirror.MARKER}"])["files"]) == {
        name.removeprefix("photos/")
        for name, content in held.items()
        if name.startswith("photos/") and name != f"photos/{mirror.MARKER}" and content != THEIRS
    }


def test_a_copy_on_the_hub_of_an_earlier_release_goes_on(run: Path, hub: Any) -> None:
    mirror.push(run, "hf://someone/copies")
    held = hub.repositories["someone/copies"]
    marker = json.loads(held[f"photos/{mirror.MARKER}"])
    del marker["files"]
    held |= {f"photos/{mirror.MARKER}": json.dumps(marker).encode(), "photos/notes.txt": THEIRS}
    for step in (30, 40):
        train_to(run, step, 0.5)
        assert mirror.push(run, "hf://someone/copies") == step
    held = hub.repositories["someone/copies"]
    assert held["photos/notes.txt"] == THEIRS
    assert not [name for name in held if "checkpoint-20/" in name]


def test_a_new_copy_begins_where_nothing_is(run: Path, backup: Path, hub: Any, tmp_path: Path) -> None:
    hub.repositories["someone/copies"] = {"another/recipe.toml": THEIRS}
    (backup / "photos").mkdir()  # empty
    for place in (str(backup), str(tmp_path / "not there yet"), str(tmp_path / "not" / "mounted")):
        mirror.check_free(place, [run])
    mirror.check_free("hf://someone/copies", [run])
    mirror.check_free("hf://someone/not-there-yet", [run])
    mirror.check_free(str(run.parent), [run])  # it is its own copy
    assert mirror.push(run, str(backup)) == 20
    assert mirror.push(run, "hf://someone/copies") == 20


HANGS = """
import os, sys, time

def hang(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(os.environ.get("HANGS", "-")):
        time.sleep(600)

sys.addaudithook(hang)
"""


def test_a_destination_that_hangs_does_not_hold_the_start_up(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(backup / "photos")
    (tmp_path / "hanging").mkdir()
    (tmp_path / "hanging" / "sitecustomize.py").write_text(HANGS)
    monkeypatch.syspath_prepend(tmp_path / "hanging")
    monkeypatch.setenv("HANGS", str(backup))
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 1.0)
    in_time(lambda: mirror.check_free(str(backup), [Path("photos")]))


def test_training_is_refused_before_anything_is_made(backup: Path, tmp_path: Path) -> None:
    put_files(backup / "photos")
    recipe = Recipe.load(budget={"mirror": str(backup)})
    problem = "photos holds other files (2019, metrics.jsonl)"
    with refused("budget.mirror", str(backup), problem=problem, remedy="choose another --out"):
        open_run(recipe, tmp_path / "photos", None, contextlib.ExitStack())
    assert not (tmp_path / "photos").exists()
    assert open_run(recipe, tmp_path / "others", None, contextlib.ExitStack())[2] == tmp_path / "others"


def test_the_command_says_what_to_choose(tmp_path: Path, command: Callable[..., Any]) -> None:
    put_files(tmp_path / "backup" / "photos")
    done = command("train", "word-problems-tiny", "--budget.mirror", "backup", "--out", "photos")
    assert done.returncode == 2
    assert "photos holds other files (2019, metrics.jsonl); choose another --out or budget.mirror" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "backup" / "photos" / "2019" / "a.jpg").read_bytes() == THEIRS
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


def test_drawing_is_refused_before_anything_is_made(backup: Path, tmp_path: Path) -> None:
    put_files(backup / "seed=43")
    recipes = {f"seed={n}": Recipe.load("drawing-tiny", budget={"mirror": str(backup)}) for n in (42, 43)}
    problem, remedy = "seed=43 holds other files", "choose another budget.mirror"
    with refused("budget.mirror", str(backup), problem=problem, remedy=remedy):
        new_runs(recipes, tmp_path / "drawn", "draw.json")
    assert not (tmp_path / "drawn").exists()
    assert [run.path.name for run in new_runs({"seed=42": recipes["seed=42"]}, tmp_path / "drawn", "draw.json")] == [
        "seed=42"
    ]


# ------------------------------------------------------------------------------ files of theirs in a copy of ours


def test_what_a_person_puts_into_a_copy_stays(run: Path, backup: Path) -> None:
    mirror.push(run, str(backup))
    copy = backup / "photos"
    theirs = [copy / name for name in ("notes.txt", "checkpoints/slot-1/notes.txt", "adapter/x/y", ".hidden")]
    theirs += [copy / name for name in ("checkpoints/mine/a", "checkpoints/checkpoint-999/a", ".adapter/a", ".copying")]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(THEIRS)
    for step in (30, 40):
        train_to(run, step, 0.5)
        assert mirror.push(run, str(backup)) == step
    (run / "metrics.jsonl").unlink()
    (run / "adapter" / "adapter_model.safetensors").rename(run / "adapter" / "adapter.bin")
    assert mirror.push(run, str(backup)) == 40
    assert [path.read_bytes() for path in theirs] == [THEIRS] * len(theirs)
    # and what was the mirror's own beside them is gone
    assert sorted(path.name for path in (copy / "adapter").iterdir()) == ["adapter.bin", "x"]
    assert not (copy / "metrics.jsonl").exists()
    names = set(json.loads((copy / mirror.MARKER).read_text())["files"])
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file() and path not in theirs}
    assert found == names | {mirror.MARKER}


@pytest.mark.parametrize(
    "names",
    [
        ["evaluation.json"],
        [f"checkpoints/{slot}/optimizer.pt" for slot in SLOTS],
        [f"checkpoints/{slot}/manifest.json" for slot in SLOTS],
    ],
    ids=["a small file", "in all slots", "manifests"],
)
def test_a_name_that_another_has_is_not_taken(names: list[str], run: Path, backup: Path) -> None:
    mirror.push(run, str(backup))
    copy = backup / "photos"
    for name in names:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(THEIRS)
    write_json(run / "evaluation.json", {"step": 30})
    train_to(run, 30, 0.5)
    for _ in range(2):  # nor the next time
        with pytest.raises(OSError, match=r"in the copy is not the mirror's; move it"):
            mirror.push(run, str(backup))
        assert [(copy / name).read_bytes() for name in names] == [THEIRS] * len(names)
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()  # the others are copied
    for name in names:
        (copy / name).unlink()
    assert mirror.push(run, str(backup)) == 30
    whole = copied(copy / "checkpoints")
    assert {"checkpoint-10", "checkpoint-30"} <= set(whole)
    assert [damage(path) for path in whole.values()] == [None] * len(whole)
    assert (copy / "evaluation.json").is_file()


IN_PLACES = [
    (name, kind)
    for name in ("metrics.jsonl", "adapter", "adapter/adapter_model.safetensors")
    for kind in ("folder", "link", "pipe")
]


@pytest.mark.parametrize(("name", "kind"), [*IN_PLACES, ("adapter", "file")])
def test_what_a_person_put_in_the_place_of_ours_stays_and_the_rest_is_copied(
    name: str, kind: str, run: Path, backup: Path, elsewhere: Path
) -> None:
    """Also under a name that is listed: it is not what the mirror wrote. A file there cannot be told from ours."""
    mirror.push(run, str(backup))
    path = backup / "photos" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "folder":
        (path / "mine").mkdir(parents=True)
        (path / "mine" / "a.jpg").write_bytes(THEIRS)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(THEIRS) if kind == "file" else path.symlink_to(elsewhere)
    before = everything(backup / "photos" / name.partition("/")[0])
    os.utime(run / "adapter", ns=(1, 1))
    train_to(run, 30, 0.5)
    if kind == "folder" and name == "adapter":  # where there is room for both
        assert mirror.push(run, str(backup)) == 30
        assert (path / "adapter_model.safetensors").is_file()
        assert (path / "mine" / "a.jpg").read_bytes() == THEIRS
        return
    with pytest.raises(OSError, match=r"in the copy is not the mirror's"):
        in_time(lambda: mirror.push(run, str(backup)))
    assert everything(backup / "photos" / name.partition("/")[0]) == before
    assert os.path.lexists(path)
    assert damage(copied(backup / "photos" / "checkpoints")["checkpoint-30"]) is None


LISTS: dict[str, Any] = {
    "a number": 5,
    "a text": "notes.txt",
    "a table": {"notes.txt": 1},
    "null": None,
    "odd types": [5, None, ["notes.txt"], {}, True, 1.5, ""],
    "parents": ["../theirs.txt", "checkpoints/../../theirs.txt", "..", "."],
    "absolute": ["ABSOLUTE"],
    "the folder": ["2019", "2019/a.jpg", "checkpoints", "checkpoints/checkpoint-20", "adapter"],
    "itself": [mirror.MARKER, ".mirror.id", "mirror.json", ".hidden"],
    "nul": ["notes.txt\0", "a" * 5000],
    "a million": [f"{n}.txt" for n in range(1_000_000)] + ["notes.txt"],
    "in links": ["adapter/link/theirs.txt", "link", "checkpoints/checkpoint-5/link"],
}


@pytest.mark.parametrize("bodies", [True, False], ids=["what was written", "names alone"])
@pytest.mark.parametrize("names", LISTS)
def test_a_marker_that_anyone_may_have_changed(names: str, bodies: bool, run: Path, backup: Path) -> None:
    """Nothing outside the copy goes, nothing through a link, and no folder; the mirror goes on."""
    mirror.push(run, str(backup))
    copy = backup / "photos"
    (backup / "theirs.txt").write_bytes(THEIRS)
    for name in ("2019/a.jpg", ".hidden", "notes.txt\n"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(THEIRS)
    (copy / "notes.txt").write_bytes(THEIRS)
    (copy / "adapter" / "link").symlink_to(backup)
    (copy / "link").symlink_to(backup / "theirs.txt")
    marker = json.loads((copy / mirror.MARKER).read_text())
    listed = LISTS[names]
    if isinstance(listed, list):
        listed = [str(backup / "theirs.txt") if name == "ABSOLUTE" else name for name in listed]
        listed = listed if names == "a million" else [*marker["files"], *listed]
        if bodies:
            # of so many the marker is larger than one may be, with what was written
            written = {str(name): {"0" * 64: len(THEIRS)} for name in listed[-20_000:]}
            listed = written | (marker["files"] if names != "a million" else {})
    elif bodies and isinstance(listed, dict):
        listed = marker["files"] | listed | {"2019/a.jpg": {"0" * 64: -1, "x": 1}, "link": {"0" * 64: True}}
    write_json(copy / mirror.MARKER, marker | {"files": listed})
    train_to(run, 30, 0.5)
    with contextlib.suppress(OSError):  # it may be told, and then once
        mirror.push(run, str(backup))
    assert mirror.push(run, str(backup)) == 30
    assert (backup / "theirs.txt").read_bytes() == THEIRS
    for name in ("2019/a.jpg", ".hidden", "notes.txt", "notes.txt\n"):
        assert (copy / name).read_bytes() == THEIRS
    assert (copy / "adapter" / "link").is_symlink()
    assert (copy / "link").is_symlink()
    assert damage(copied(copy / "checkpoints")["checkpoint-30"]) is None


@pytest.mark.parametrize(
    "about", [{"step": "x"}, {"step": [1]}, {"adapter": "x"}, {"adapter": {}}, {"at": 5}, {"run": 1}]
)
def test_a_marker_of_odd_types(about: dict[str, Any], run: Path, backup: Path, tmp_path: Path) -> None:
    mirror.push(run, str(backup))
    marker = json.loads((backup / "photos" / mirror.MARKER).read_text())
    write_json(backup / "photos" / mirror.MARKER, marker | about)
    assert (mirror.marker(str(backup / "photos"))["step"] or 0) in (0, 20)
    assert mirror.restore(str(backup), tmp_path / "back").is_dir()
    train_to(run, 30, 0.5)
    assert mirror.push(run, str(backup)) == 30


def test_a_copy_of_an_earlier_release_goes_on(run: Path, backup: Path, tmp_path: Path) -> None:
    """It has a marker without a list: of it, the checkpoints that the run has and what equals the run's is ours."""
    mirror.push(run, str(backup))
    copy = backup / "photos"
    as_earlier(copy, has_list=False)
    (backup / "theirs.txt").write_bytes(THEIRS)
    os.truncate(copy / "checkpoints" / "checkpoint-10" / "optimizer.pt", 100)
    theirs = [
        copy / name for name in ("notes.txt", ".copying", "checkpoints/checkpoint-20/notes.txt", "evaluation.json")
    ]
    for path in theirs:
        path.write_bytes(THEIRS)
    assert mirror.restore(str(copy), tmp_path / "back").is_dir()
    for step in (30, 40, 50):
        train_to(run, step, 0.5)
        assert mirror.push(run, str(backup)) == step
    assert [path.read_bytes() for path in (*theirs, backup / "theirs.txt")] == [THEIRS] * 5
    assert [path.name for path in (copy / "checkpoints" / "checkpoint-20").iterdir()] == ["notes.txt"]
    whole = copied(copy / "checkpoints")
    assert list(whole) == ["checkpoint-10", "checkpoint-40", "checkpoint-50"]
    assert damage(whole["checkpoint-10"]) is None  # mended


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/slot-1", "adapter", "metrics.jsonl", "TEMPORARY"])
def test_nothing_is_written_or_deleted_through_a_link_in_a_copy(
    name: str, run: Path, backup: Path, elsewhere: Path
) -> None:
    mirror.push(run, str(backup))
    link = backup / "photos" / name.replace("TEMPORARY", f".{mirror.identity(run)}.tmp")
    shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
    link.symlink_to(elsewhere / "notes.txt" if name in ("metrics.jsonl", "TEMPORARY") else elsewhere)
    before = everything(elsewhere)
    os.utime(run / "adapter", ns=(1, 1))
    for step in (30, 40, 50):
        train_to(run, step, 0.5)
        with contextlib.suppress(OSError):
            mirror.push(run, str(backup))
    assert everything(elsewhere) == before
    assert name == "TEMPORARY" or link.is_symlink()


@pytest.mark.parametrize("name", ["checkpoints", "adapter"])
def test_a_runs_own_links_are_not_followed(name: str, run: Path, backup: Path, elsewhere: Path) -> None:
    shutil.rmtree(run / name)
    (run / name).symlink_to(elsewhere)
    (run / "drawing.png").symlink_to(elsewhere / "notes.txt")
    (run / "round").symlink_to(run)
    os.mkfifo(run / "pipe.jsonl")
    with pytest.raises(OSError, match=f"{name} is a link, which is not followed"):  # it would be missed in the copy
        mirror.push(run, str(backup))
    kept = everything(backup / "photos")
    assert THEIRS not in kept.values()
    assert {"drawing.png", "round", "pipe.jsonl"}.isdisjoint(kept)
    assert kept["metrics.jsonl"] == (run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    "name", ["adapter/deep/link", "checkpoints/checkpoint-20/link", "drawing.png", "checkpoints/link"]
)
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_links_within_a_run_are_left_out(
    name: str, place: str, run: Path, backup: Path, elsewhere: Path, request: pytest.FixtureRequest
) -> None:
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(elsewhere / "notes.txt")
    if place == "folder":
        assert mirror.push(run, str(backup)) == 20
        held = everything(backup / "photos")
    else:
        hub = request.getfixturevalue("hub")
        assert mirror.push(run, "hf://someone/copies") == 20
        held = hub.repositories["someone/copies"]
    assert THEIRS not in held.values()
    assert not [key for key in held if key.endswith(("link", "drawing.png"))]


def test_a_manifest_that_leads_out_of_the_run_copies_nothing(run: Path, backup: Path, elsewhere: Path) -> None:
    path = run / "checkpoints" / "checkpoint-20"
    about = json.loads((path / MANIFEST).read_text())
    about["files"]["../../../../elsewhere/notes.txt"] = {"bytes": 17, "sha256": "0" * 64}
    write_json(path / MANIFEST, about)
    with pytest.raises(OSError, match=r"checkpoint-20: manifest\.json cannot be read"):
        mirror.push(run, str(backup))
    assert list(copied(backup / "photos" / "checkpoints")) == ["checkpoint-10"]
    assert THEIRS not in everything(backup).values()


CHANGING = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


# ------------------------------------------------------------------------------ a list that was changed, or believed


def without_list(copy: Path) -> None:
    marker = json.loads((copy / mirror.MARKER).read_text())
    write_json(copy / mirror.MARKER, {**marker, "files": None})


@pytest.mark.parametrize("form", ["what was written", "names alone"])
def test_a_list_that_names_a_persons_file_deletes_nothing(form: str, run: Path, backup: Path) -> None:
    mirror.push(run, str(backup))
    copy = backup / "photos"
    theirs = ["notes.txt", "adapter/notes.txt", "checkpoints/slot-1/notes.txt", "checkpoints/checkpoint-15/x"]
    for name in theirs:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(THEIRS)
    empty = [copy / "adapter" / "mine", copy / "checkpoints" / "slot-1" / "mine"]
    for path in empty:
        path.mkdir()
    marker = json.loads((copy / mirror.MARKER).read_text())
    more = [*theirs, "adapter/mine/x", "checkpoints/slot-1/mine/x"]
    if form == "names alone":
        marker["files"] = [*marker["files"], *more]
    else:
        marker["files"] |= {name: {HASH: len(THEIRS)} for name in more}
    write_json(copy / mirror.MARKER, marker)
    os.utime(run / "adapter", ns=(1, 1))
    for step in (30, 40):
        train_to(run, step, 0.5)
        if form == "what was written":  # told once: then they are no longer listed
            with pytest.raises(OSError, match=r"in the copy is not what the mirror wrote; it stays there"):
                mirror.push(run, str(backup))
            form = "told"
        if step == 40:
            with contextlib.suppress(OSError):
                mirror.push(run, str(backup))
        assert mirror.push(run, str(backup)) == step
    assert [(copy / name).read_bytes() for name in theirs] == [THEIRS] * len(theirs)
    assert [path.is_dir() for path in empty] == [True, True]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "name", ["evaluation.json", "adapter/adapter_model.safetensors", "checkpoints/slot-1/optimizer.pt"]
)
@pytest.mark.parametrize("size", ["the same size", "another size"])
def test_a_file_that_a_person_changed_is_theirs(name: str, listed: bool, size: str, run: Path, backup: Path) -> None:
    write_json(run / "evaluation.json", {"step": 20})
    mirror.push(run, str(backup))
    copy = backup / "photos"
    held = (copy / name).read_bytes()
    changed = bytes([held[0] ^ 1]) + held[1:] if size == "the same size" else THEIRS * 2000
    (copy / name).write_bytes(changed)
    if not listed:
        without_list(copy)
    if listed or name == "evaluation.json":  # without a list, what the run has no longer cannot be told from theirs
        write_json(run / "evaluation.json", {"step": 30, "more": 1})
    if listed or name.startswith("adapter"):
        (run / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(3000))
        os.utime(run / "adapter", ns=(1, 1))
    said = []
    for step in (30, 40, 50):
        train_to(run, step, 0.5)
        try:
            mirror.push(run, str(backup))
        except OSError as error:
            said.append(str(error))
    assert (copy / name).read_bytes() == changed
    assert f"{name} in the copy is not " in said[0]
    assert damage(copied(copy / "checkpoints")["checkpoint-50"]) is None
    if "checkpoint" not in name:  # and is told until it is moved
        assert len(said) == 3
        (copy / name).unlink()
        assert mirror.push(run, str(backup)) == 50
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_what_is_cut_off_in_the_copy_is_mended_for_nothing_is_lost(run: Path, backup: Path) -> None:
    write_json(run / "evaluation.json", {"step": 20})
    mirror.push(run, str(backup))
    copy = backup / "photos"
    newest = copied(copy / "checkpoints")["checkpoint-20"]
    for path in (copy / "evaluation.json", copy / "metrics.jsonl", newest / "optimizer.pt"):
        os.truncate(path, 3)
    assert mirror.push(run, str(backup)) == 20
    for name in ("evaluation.json", "metrics.jsonl"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()
    assert damage(copied(copy / "checkpoints")["checkpoint-20"]) is None


def test_a_persons_checkpoint_in_an_earlier_releases_copy_stays(run: Path, backup: Path) -> None:
    mirror.push(run, str(backup))
    copy = backup / "photos"
    (backup / "theirs").mkdir()
    for step in (15, 90):
        train_to(backup / "theirs", step, 0.5)
        (backup / "theirs" / "checkpoints" / f"checkpoint-{step}").rename(copy / "checkpoints" / f"checkpoint-{step}")
    without_list(copy)
    with pytest.raises(
        OSError, match=r"checkpoint-90 in the copy is none that this run has; it stays until you delete"
    ):
        mirror.push(run, str(backup))
    for step in (30, 40):
        train_to(run, step, 0.5)
        assert mirror.push(run, str(backup)) == step
    whole = copied(copy / "checkpoints")
    assert [name for name in whole if name != "checkpoint-20"] == [f"checkpoint-{n}" for n in (10, 15, 30, 40, 90)]
    assert [damage(path) for path in whole.values()] == [None] * len(whole)


@pytest.mark.parametrize("name", ["\ud800x", "deep/\udcff", "\ud800/x"])
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_checkpoint_whose_manifest_names_no_utf8_is_damaged_and_the_one_before_is_copied(
    name: str, place: str, run: Path, backup: Path, request: pytest.FixtureRequest
) -> None:
    path = train_to(run, 30, 0.5)
    about = json.loads((path / MANIFEST).read_text())
    about["files"][name] = {"bytes": 0, "sha256": HASH}
    (path / MANIFEST).write_text(json.dumps(about))
    hub = request.getfixturevalue("hub") if place == "hub" else None
    for _ in range(2):
        with pytest.raises(OSError, match=r"checkpoint-30: manifest\.json cannot be read"):
            mirror.push(run, "hf://someone/copies" if hub else str(backup))
    back = mirror.restore("hf://someone/copies" if hub else str(backup), backup / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10", "checkpoint-20"]


@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_copied_run_folder_deletes_nothing_of_the_other(
    place: str, run: Path, backup: Path, request: pytest.FixtureRequest
) -> None:
    hub = request.getfixturevalue("hub") if place == "hub" else None
    destination = "hf://someone/copies" if hub else str(backup)
    mirror.push(run, destination)
    write_json(run / mirror.STATE, {"destination": destination, "step": 20, "failures": 0})
    clone = run.parent.parent / "clone" / "photos"
    shutil.copytree(run, clone, symlinks=True)
    for step in (40, 50):
        train_to(run, step, 0.5)
        assert mirror.push(run, destination) == step
    train_to(clone, 30, 0.5)
    before = dict(hub.repositories["someone/copies"]) if hub else everything(backup)
    with pytest.raises(OSError, match=r"photos there holds checkpoint-50, which .*; rename this run's folder"):
        mirror.push(clone, destination)
    assert (dict(hub.repositories["someone/copies"]) if hub else everything(backup)) == before
    renamed = clone.rename(clone.parent / "other")
    assert mirror.push(renamed, destination) == 30
    # but what this run has copied itself, and then lost, goes
    write_json(run / mirror.STATE, {"destination": destination, "step": 50, "failures": 0})
    for step in (40, 50):
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{step}")
    assert mirror.push(run, destination) == 20


def test_a_run_that_came_back_without_its_newest_checkpoint_goes_on_with_its_copy(
    run: Path, backup: Path, tmp_path: Path
) -> None:
    mirror.push(run, str(backup))
    (copied(backup / "photos" / "checkpoints")["checkpoint-20"] / "optimizer.pt").unlink()
    back = mirror.restore(str(backup), tmp_path / "new" / "photos")
    train_to(back, 15, 0.5)
    assert mirror.push(back, str(backup)) == 15


@pytest.mark.parametrize("kind", ["folder", "pipe", "file"])
def test_what_stands_under_the_temporary_name_is_told_or_goes(kind: str, run: Path, backup: Path) -> None:
    mirror.push(run, str(backup))
    temporary = backup / "photos" / f".{mirror.identity(run)}.tmp"
    if kind == "folder":
        (temporary / "mine").mkdir(parents=True)
        with pytest.raises(OSError, match=r"\.tmp is in the mirror's way \(Is a directory\); move it"):
            mirror.push(run, str(backup))
        assert (temporary / "mine").is_dir()
        return
    os.mkfifo(temporary) if kind == "pipe" else temporary.write_bytes(THEIRS)
    in_time(lambda: mirror.push(run, str(backup)))
    assert not temporary.exists()


def killed_at(moment: int, run: Path, backup: Path) -> bool:
    """Push in a process that is killed before its so many-th change or opening; whether it came so far."""
    pid = os.fork()
    if pid == 0:
        left = [moment]

        def count(event: str, arguments: Any) -> None:
            if event in CHANGING and str(backup) in str(arguments[0]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            mirror.push(run, str(backup))
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("copy", long_but(["the first"], ["the first", "a later one", "an earlier release's"]))
def test_a_kill_at_any_moment_leaves_nothing_that_is_not_listed(copy: str, run: Path, tmp_path: Path) -> None:
    mirror.push(run, str(run.parent))  # so that it has its identity
    start = tmp_path / "start"
    start.mkdir()
    if copy != "the first":
        train_to(run, 5, 0.1)
        mirror.push(run, str(start))
        if copy == "an earlier release's":
            as_earlier(start / "photos", has_list=False)
        newest = copied(start / "photos" / "checkpoints")["checkpoint-20"]
        for path in (start / "photos" / "notes.txt", newest / "notes.txt"):
            path.write_bytes(THEIRS)
        for step in (30, 40):
            train_to(run, step, 0.5)
        shutil.rmtree(run / "adapter")
        (run / "adapter").mkdir()
        (run / "adapter" / "adapter.bin").write_bytes(os.urandom(3000))
        (run / "metrics.jsonl").unlink()
        write_json(run / "evaluation.json", {"step": 40})
    began = everything(start)
    theirs = {name for name, content in began.items() if content == THEIRS}
    moment, reached = 0, True
    while reached:
        moment += 3 if moment and copy == "an earlier release's" else 1  # that one ends as the one before it
        backup = tmp_path / str(moment)
        shutil.copytree(start, backup)
        reached = killed_at(moment, run, backup)
        held = {name: content for name, content in everything(backup).items() if content is not None}
        assert {name for name, content in held.items() if content == THEIRS} == theirs
        ours = {f"photos/.{mirror.identity(run)}.tmp", f"photos/{mirror.MARKER}"}
        if f"photos/{mirror.MARKER}" in held:
            ours |= {f"photos/{name}" for name in json.loads(held[f"photos/{mirror.MARKER}"]).get("files", ())}
        # of what an earlier release wrote, nobody can tell all
        assert set(held) <= ours | (set(began) if copy == "an earlier release's" else theirs), moment
        whole = copied(backup / "photos" / "checkpoints")
        assert [damage(path) for path in whole.values()] == [None] * len(whole)
        # the next pass mends it, and leaves what a pass that was not killed leaves
        assert mirror.push(run, str(backup)) == (20 if copy == "the first" else 40)
        after = {name: content for name, content in everything(backup).items() if not name.endswith(mirror.MARKER)}
        if moment == 1:
            expected = after
        # an inner folder that a kill left empty stays, for it cannot be told from a person's
        left = {name: content for name, content in after.items() if content is not None}
        assert left == {name: content for name, content in expected.items() if content is not None}
        assert sum(name not in expected for name in after) <= 2
        shutil.rmtree(backup)
    assert moment > 30


# ------------------------------------------------------------------------------ names and numbers that were read

BAD_NAMES = [
    "../../theirs.txt",
    "ABSOLUTE",
    "..",
    ".",
    "",
    "deep/../../x",
    "link/notes.txt",
    "a\0b",
    "x" * 5000,
    "\ud800x",
    "deep/\udcff",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_manifest_that_leads_out_is_damaged_and_nothing_is_read(name: str, run: Path, elsewhere: Path) -> None:
    path = run / "checkpoints" / "checkpoint-20"
    (path / "link").symlink_to(elsewhere)
    about = json.loads((path / MANIFEST).read_text())
    about["files"] = {name.replace("ABSOLUTE", str(elsewhere / "notes.txt")): {"bytes": 17, "sha256": "0" * 64}}
    write_json(path / MANIFEST, about)
    opened: list[str] = []
    active = [True]
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" and active[0] else None)
    try:
        assert damage(path) == "manifest.json cannot be read"
        assert not checkpoints.sizes_are_right(path)
    finally:
        active[0] = False
    assert {name for name in opened if str(run) in name or "elsewhere" in name} == {str(path / MANIFEST)}
    found, troubles = checkpoints.newest_whole(run / "checkpoints")
    assert found == run / "checkpoints" / "checkpoint-10"
    assert troubles == ["checkpoint-20 is damaged: manifest.json cannot be read"]


STEPS = [None, True, -20, 20.0, "20", [20], 10**16, "../../checkpoint-20"]


@pytest.mark.parametrize("step", STEPS)
def test_a_slot_of_an_odd_step_holds_no_checkpoint(step: Any, run: Path, backup: Path, tmp_path: Path) -> None:
    mirror.push(run, str(backup))
    path = copied(backup / "photos" / "checkpoints")["checkpoint-20"] / MANIFEST
    write_json(path, json.loads(path.read_text()) | {"step": step})
    back = mirror.restore(str(backup), tmp_path / "back")
    assert [path.name for path in (back / "checkpoints").iterdir()] == ["checkpoint-10"]


MANIFESTS: list[Any] = [
    {"files": []},
    {"files": 5},
    {"files": "optimizer.pt"},
    {"files": {"optimizer.pt": 5}},
    {"files": {"optimizer.pt": {}}},
    {"files": {"optimizer.pt": {"bytes": "x", "sha256": HASH}}},
    {"files": {"optimizer.pt": {"bytes": True, "sha256": HASH}}},
    {"files": {"optimizer.pt": {"bytes": -1, "sha256": HASH}}},
    {"files": {"optimizer.pt": {"bytes": 5e3, "sha256": HASH}}},
    {"files": {"optimizer.pt": {"bytes": 5000, "sha256": 5}}},
    {"files": {"optimizer.pt": {"bytes": 5000, "sha256": "zz"}}},
    {"files": {"manifest.json": {"bytes": 5000, "sha256": HASH}}},
    {"files": {"optimizer.pt": {"bytes": 10**400, "sha256": HASH}}},
    {"files": {f"{n}": {"bytes": 1, "sha256": HASH} for n in range(20_000)}},
    [],
    "text",
    None,
]


@pytest.mark.parametrize("about", MANIFESTS, ids=lambda about: repr(about)[:60])
def test_a_manifest_of_odd_types_is_damaged(about: Any, run: Path, backup: Path, tmp_path: Path) -> None:
    mirror.push(run, str(backup))
    path = run / "checkpoints" / "checkpoint-20"
    slot = copied(backup / "photos" / "checkpoints")["checkpoint-20"]
    path.joinpath(MANIFEST).write_text(json.dumps(about))
    in_slot = {"step": 20, **about} if isinstance(about, dict) else about
    slot.joinpath(MANIFEST).write_text(json.dumps(in_slot))
    assert damage(path) is not None
    assert not checkpoints.sizes_are_right(path)
    with pytest.raises(OSError, match="checkpoint-20: "):
        mirror.push(run, str(backup))
    assert saved(mirror.restore(str(backup), tmp_path / "back") / "checkpoints")[0].name == "checkpoint-10"
    assert checkpoints.newest_whole(run / "checkpoints")[0] == run / "checkpoints" / "checkpoint-10"


@pytest.mark.parametrize("value", ['"good"', "NaN", "Infinity", "-Infinity", "1e400", "[1]", "{}", "true", "null"])
def test_a_checkpoints_worth_is_a_number(value: str, run: Path) -> None:
    for step in (20, 30):
        path = run / "checkpoints" / f"checkpoint-{step}"
        path = path if path.is_dir() else train_to(run, step, 0.0)
        about = json.loads((path / MANIFEST).read_text())
        about["value"] = "VALUE"
        (path / MANIFEST).write_text(json.dumps(about).replace('"VALUE"', value))
    for greater in (True, False):
        assert checkpoints.best(run / "checkpoints", greater) == run / "checkpoints" / "checkpoint-10"
    checkpoints.prune(run / "checkpoints", keep=1)
    assert [path.name for path in saved(run / "checkpoints")] == ["checkpoint-10", "checkpoint-30"]


def test_a_manifest_without_a_step_is_of_its_folders(run: Path) -> None:
    path = run / "checkpoints" / "checkpoint-20"
    about = json.loads((path / MANIFEST).read_text())
    del about["step"], about["value"], about["saved_at"]
    write_json(path / MANIFEST, about)
    assert checkpoints.newest_whole(run / "checkpoints") == (path, [])


NO_CHECKPOINTS = ["checkpoint-99999999999999999999", "checkpoint-²", "checkpoint-٣", "checkpoint--5", "checkpoint-1e5"]
NO_CHECKPOINTS += ["checkpoint- 5", "checkpoint-5\n", "x-checkpoint-5", "checkpoint-5.bak", "checkpoint-" + "9" * 200]


def test_what_is_called_nearly_as_a_checkpoint_is_none(
    run: Path, backup: Path, elsewhere: Path, tmp_path: Path
) -> None:
    folder = run / "checkpoints"
    for name in NO_CHECKPOINTS:
        (folder / name).mkdir()
        write_json(folder / name / MANIFEST, {"files": {}})
    (folder / "checkpoint-5").write_bytes(THEIRS)
    (folder / "checkpoint-50").symlink_to(elsewhere)
    (folder / "checkpoint-60").mkdir()
    (folder / "checkpoint-60" / MANIFEST).symlink_to(elsewhere / MANIFEST)
    (folder / "checkpoint-70").mkdir()
    os.mkfifo(folder / "checkpoint-70" / MANIFEST)
    (folder / "checkpoint-80" / MANIFEST).mkdir(parents=True)
    assert [path.name for path in saved(folder)] == ["checkpoint-10", "checkpoint-20"]
    assert checkpoints.best(folder) == folder / "checkpoint-10"
    assert checkpoints.newest_whole(folder) == (folder / "checkpoint-20", [])
    in_time(lambda: mirror.push(run, str(backup)))
    back = mirror.restore(str(backup), tmp_path / "back")
    assert sorted(path.name for path in (back / "checkpoints").iterdir()) == ["checkpoint-10", "checkpoint-20"]


# The names of recipes, and of runs: what draw.json says, and what it must not make or read.
DRAWINGS: list[dict[str, Any]] = [
    {"runs": 5},
    {"runs": "seed=42"},
    {"runs": {}},
    {"runs": []},
    {"runs": [5]},
    {"runs": [None]},
    {"runs": [["seed=42"]]},
    {"runs": ["../theirs"], "recipes": {"../theirs": "RECIPE"}},
    {"runs": ["ABSOLUTE"], "recipes": {"ABSOLUTE": "RECIPE"}},
    {"runs": ["a/b"], "recipes": {"a/b": "RECIPE"}},
    {"runs": ["link"], "recipes": {"link": "RECIPE"}},
    {"runs": ["."], "recipes": {".": "RECIPE"}},
    {"runs": [".."], "recipes": {"..": "RECIPE"}},
    {"runs": ["a\x1b[2J"], "recipes": {"a\x1b[2J": "RECIPE"}},
    {"runs": ["x" * 400], "recipes": {"x" * 400: "RECIPE"}},
    {"runs": ["seed=42"], "recipes": []},
    {"runs": ["seed=42"], "recipes": "RECIPE"},
    {"runs": ["seed=42"], "recipes": {"seed=42": 5}},
    {"runs": ["seed=42"], "recipes": {"seed=42": None}},
    {"runs": ["file"], "recipes": {"file": "RECIPE"}},
    {"runs": ["absent"]},
    {"recipes": {"seed=42": "RECIPE"}},
]


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: repr(drawing)[:60])
def test_a_drawing_that_leads_out_is_refused_in_words(drawing: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    folder.mkdir()
    (tmp_path / "theirs").mkdir()
    (folder / "link").symlink_to(tmp_path / "theirs")
    (folder / "file").write_bytes(THEIRS)
    text = json.dumps(drawing).replace("ABSOLUTE", str(tmp_path / "theirs")).replace("RECIPE", "name = 'x'")
    (folder / "draw.json").write_text(text)
    before = everything(tmp_path)
    with pytest.raises(SettingError, match=r"--resume|recipe\.toml"):
        made_runs(folder, "draw.json")
    assert everything(tmp_path) == before
    with pytest.raises(SettingError):
        draw(resume=folder)


def test_recipes_that_no_run_has_are_not_written(tmp_path: Path) -> None:
    text = Recipe.load().to_toml()
    recipes = {"seed=42": text, "../theirs": text, str(tmp_path / "absolute"): text}
    write_json(tmp_path / "drawn" / "draw.json", {}) if (tmp_path / "drawn").is_dir() else (tmp_path / "drawn").mkdir()
    write_json(tmp_path / "drawn" / "draw.json", {"runs": ["seed=42"], "recipes": recipes})
    assert [run.path for run in made_runs(tmp_path / "drawn", "draw.json")] == [tmp_path / "drawn" / "seed=42"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["draw.json", "seed=42"]


@pytest.mark.parametrize("drawing", [*DRAWINGS, [], 5, None], ids=lambda drawing: repr(drawing)[:60])
def test_how_to_go_on_is_said_whatever_lies_beside(drawing: Any, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    (tmp_path / "draw.json").write_text(json.dumps(drawing))
    assert run.resume_command == f"grpo-colab train --resume {run.path}"


@pytest.mark.parametrize("kept", [{}, {"id": 5}, {"id": None}, {"id": "../../x"}, {"id": ""}, {"id": "x" * 500}, []])
def test_a_trackers_id_is_one(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grpo_colab.training.tracking_wandb_service import kept_id

    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    run = Run.create(Recipe.load(), tmp_path / "run")
    (run.path / "wandb.json").write_text(json.dumps(kept))
    found = kept_id(run)
    assert len(found) == 8
    assert found.isalnum()
    assert kept_id(run) == found  # kept


# ------------------------------------------------------------------------------ a copy that comes back


def copy_of(run: Path, backup: Path) -> Path:
    mirror.push(run, str(backup))
    return backup / "photos"


def test_links_pipes_and_circles_do_not_come_back(run: Path, backup: Path, elsewhere: Path, tmp_path: Path) -> None:
    copy = copy_of(run, backup)
    marker = json.loads((copy / mirror.MARKER).read_text())
    names = ["secret.txt", "pipe.jsonl", "adapter/link", "adapter/round/metrics.jsonl", "adapter/pipe"]
    marker["files"] |= {name: {HASH: len(THEIRS)} for name in names}
    write_json(copy / mirror.MARKER, marker)
    for folder in (copy, copy / "adapter", copy / "checkpoints", copy / "checkpoints" / "slot-1"):
        (folder / "round").symlink_to(copy)
        (folder / "link").symlink_to(elsewhere / "notes.txt")
        os.mkfifo(folder / "pipe")
    (copy / "secret.txt").symlink_to(elsewhere / "notes.txt")
    os.mkfifo(copy / "pipe.jsonl")
    in_time(lambda: mirror.restore(str(copy), tmp_path / "back"))
    back = everything(tmp_path / "back")
    assert THEIRS not in back.values()
    assert not [
        name for name in back if name.rpartition("/")[2] in ("round", "link", "pipe", "secret.txt", "pipe.jsonl")
    ]
    assert back["metrics.jsonl"] == (run / "metrics.jsonl").read_bytes()
    assert [damage(path) for path in saved(tmp_path / "back" / "checkpoints")] == [None, None]


def test_what_no_manifest_lists_does_not_come_back(run: Path, backup: Path, tmp_path: Path) -> None:
    copy = copy_of(run, backup)
    for name in ("notes.txt", "checkpoints/slot-1/extra.bin", "checkpoints/extra", "2019/a.jpg", "adapter/x"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(THEIRS)
    deep = copy / "adapter"
    for _ in range(60):  # a folder that has no end, or nearly
        deep = deep / "deeper"
        deep.mkdir()
    assert THEIRS not in everything(mirror.restore(str(copy), tmp_path / "back")).values()


def test_what_a_person_has_beside_it_does_not_keep_a_copy_from_coming_back(
    run: Path, backup: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, backup)
    (copy / "video.mp4").touch()
    os.truncate(copy / "video.mp4", 60 << 30)
    (copy / "adapter" / "photos").mkdir()
    for n in range(10_001):
        (copy / "adapter" / "photos" / str(n)).touch()
    for n in range(1000, 1101):
        shutil.copytree(copy / "checkpoints" / "slot-1", copy / "checkpoints" / f"checkpoint-{n}")
    back = mirror.restore(str(copy), tmp_path / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10", "checkpoint-20"]
    assert [path.name for path in (back / "adapter").iterdir()] == ["adapter_model.safetensors"]
    # of an earlier release's copy, which has no list, nobody can tell what is whose
    marker = json.loads((copy / mirror.MARKER).read_text())
    del marker["files"]
    write_json(copy / mirror.MARKER, marker)
    with refused(problem="has 103 checkpoints", remedy="remove those that do not belong to it", place=copy):
        mirror.restore(str(copy), tmp_path / "again")
    shutil.rmtree(copy / "checkpoints")
    with refused(problem="adapter holds more than 10,000 files", place=copy):
        mirror.restore(str(copy), tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("recipe.toml", "recipe.toml has 64,424,509,440 bytes and may have 1,048,576"),
        ("metrics.jsonl", "metrics.jsonl has 64,424,509,440 bytes and may have 4,294,967,296"),
        ("adapter/adapter_model.safetensors", "adapter_model.safetensors has 64,424,509,440 bytes"),
    ],
)
def test_a_file_that_would_fill_the_disk_is_refused(
    name: str, says: str, run: Path, backup: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, backup)
    os.truncate(copy / name, 60 << 30)
    with refused(problem=says, remedy="take another copy", place=copy):
        mirror.restore(str(copy), tmp_path / "back")
    assert not [path for path in tmp_path.iterdir() if "back" in path.name and path != backup]
    assert mirror.recipes(str(backup)) == ({} if name == "recipe.toml" else {"photos": 'name = "example"\n'})


def test_more_than_the_disk_has_is_refused_before_it_is_copied(run: Path, backup: Path, tmp_path: Path) -> None:
    copy = copy_of(run, backup)
    files = {f"part-{n}": {"bytes": 30 << 30, "sha256": HASH} for n in range(400)}  # 12 TB, of which nothing is written
    for name in files:
        with (copy / "checkpoints" / "slot-1" / name).open("wb") as file:
            file.truncate(30 << 30)
    write_json(copy / "checkpoints" / "slot-1" / MANIFEST, {"step": 20, "files": files})
    with refused(problem="takes 12,288,000 MiB", remedy="free some space", place=copy, snapshot=False):
        in_time(lambda: mirror.restore(str(copy), tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["checkpoints/slot-1/optimizer.pt", "checkpoints/slot-1/manifest.json"])
def test_a_checkpoint_that_would_fill_the_disk_is_left_out(name: str, run: Path, backup: Path, tmp_path: Path) -> None:
    copy = copy_of(run, backup)
    os.truncate(copy / name, 60 << 30)
    back = mirror.restore(str(copy), tmp_path / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10"]


@pytest.mark.parametrize(
    "text", ["[1, 2", "", "null", '{"id": 5}', '{"id": null}', '{"id": ["x"]}', '{"id": "../x"}', "[" * 99999]
)
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_damaged_marker_is_told(
    text: str, place: str, run: Path, backup: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = str(backup / "photos")
    if place == "folder":
        (copy_of(run, backup) / mirror.MARKER).write_text(text)
    else:
        hub = request.getfixturevalue("hub")
        mirror.push(run, "hf://someone/copies")
        hub.repositories["someone/copies"][f"photos/{mirror.MARKER}"] = text.encode()
        source = "hf://someone/copies/photos"
    with refused(problem="its mirrored.json is damaged", remedy="take another copy", place=source):
        mirror.restore(source, tmp_path / "back")
    assert mirror.marker(source) == {}
    with pytest.raises(OSError, match=r"holds a mirrored\.json that cannot be read"):
        mirror.push(run, source.rpartition("/")[0])


def test_a_recipe_that_is_none_is_left_out_of_the_list(run: Path, backup: Path, hub: Any) -> None:
    copy_of(run, backup)
    for n, content in enumerate([b"\xff\xfe", b"x" * 2_000_000]):
        shutil.copytree(backup / "photos", backup / f"copy-{n}")
        (backup / f"copy-{n}" / "recipe.toml").write_bytes(content)
    shutil.copytree(backup / "photos", backup / "pipe")
    (backup / "pipe" / "recipe.toml").unlink()
    os.mkfifo(backup / "pipe" / "recipe.toml")
    shutil.copytree(backup / "photos", backup / "deep")
    (backup / "deep" / "recipe.toml").write_text("a = " + "[" * 9999)
    (backup / "link").symlink_to(backup / "photos")
    assert list(mirror.recipes(str(backup))) == ["photos"]
    mirror.push(run, "hf://someone/copies")
    held = hub.repositories["someone/copies"]
    big = {"big/mirrored.json": held["photos/mirrored.json"], "big/recipe.toml": b"x" * 2_000_000}
    hub.repositories["someone/copies"] = held | big | {"a/b/mirrored.json": b"{}", "a/b/recipe.toml": b""}
    assert list(mirror.recipes("hf://someone/copies")) == ["photos"]


STRANGE_RECIPES = {
    "a key of many parts": "a." * 400_000 + "a=1",
    "brackets": "a=" + "[" * 487 + "]" * 487,
    "tables": "a=" + "{b=" * 480 + "1" + "}" * 480,
    "a long integer": f"a=0x{'f' * 9000}",
    "no TOML": "a=",
}


@pytest.mark.parametrize("text", STRANGE_RECIPES.values(), ids=STRANGE_RECIPES)
def test_one_strangers_copy_hides_no_other(text: str, run: Path, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from the list, nor by an error where the list is read: a new run would quietly be begun."""
    (backup / "evil").mkdir()
    write_json(backup / "evil" / mirror.MARKER, {"id": "abc", "at": "9999"})
    (backup / "evil" / "recipe.toml").write_text(text)
    recipe = Recipe.load(budget={"mirror": str(backup)})
    (run / "recipe.toml").write_text(recipe.to_toml())
    mirror.push(run, str(backup))
    began = time.monotonic()
    assert read_recipes(str(backup)) == {"photos": recipe.to_toml()}
    assert time.monotonic() - began < 60
    # where an earlier release's child lists it all the same
    monkeypatch.setattr(mirror, "recipes", lambda _: {"evil": text, "photos": recipe.to_toml()})
    monkeypatch.chdir(run.parent.parent)
    run.rename(run.parent / "elsewhere")
    shutil.rmtree(run.parent)
    found, _, path = open_run(recipe, None, True, contextlib.ExitStack())
    assert found is not None
    assert path == Path("runs") / "photos"
    shutil.rmtree(path)
    assert [one.path for one in runs_of(recipe)] == [path]


def test_a_strangers_many_large_copies_hide_no_other(run: Path, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.push(run, str(backup))
    for n in range(20):
        (backup / f"evil-{n}").mkdir()
        write_json(backup / f"evil-{n}" / mirror.MARKER, {"id": "abc", "at": "9999"})
        (backup / f"evil-{n}" / "recipe.toml").write_text("".join(f"a{line}=1\n" for line in range(90_000)))
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 0.5)
    found = read_recipes(str(backup))
    assert "photos" in found
    assert len(found) < 20


def test_a_strangers_many_large_markers_hide_no_other(run: Path, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (backup / "large").write_text(json.dumps({"id": "abc", "at": "9999", "x": [0] * 5_000_000}))
    for n in range(60):
        (backup / f"evil-{n}").mkdir()
        (backup / f"evil-{n}" / mirror.MARKER).hardlink_to(backup / "large")
    mirror.push(run, str(backup))
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 0.5)
    began = time.process_time()
    assert read_recipes(str(backup)) == {"photos": 'name = "example"\n'}
    assert time.process_time() - began < 4


def test_only_so_many_copies_are_looked_into(run: Path, backup: Path) -> None:
    copy = copy_of(run, backup)
    for n in range(400):
        (backup / f"copy-{n}").mkdir()
        for name in (mirror.MARKER, "recipe.toml"):
            (backup / f"copy-{n}" / name).hardlink_to(copy / name)
    assert len(mirror.recipes(str(backup))) == 300


def test_from_the_hub_comes_what_the_lists_say(run: Path, hub: Any, tmp_path: Path) -> None:
    mirror.push(run, "hf://someone/copies")
    held = hub.repositories["someone/copies"]
    names = ("notes.txt", "checkpoints/checkpoint-20/x", "2019/a.jpg", "adapter/x/y")
    hub.repositories["someone/copies"] = held | {f"photos/{name}": THEIRS for name in names}
    hub.requests.clear()
    back = mirror.restore("hf://someone/copies/photos", tmp_path / "back")
    assert THEIRS not in everything(back).values()
    assert [damage(path) for path in saved(back / "checkpoints")] == [None, None]
    assert not [request for request in hub.requests if "notes.txt" in request]  # nor is it downloaded


# ------------------------------------------------------------------------------ the child, and what it says


@pytest.mark.parametrize("name", ["filelock", "json", "grpo_colab", "huggingface_hub"])
def test_what_lies_in_the_current_folder_is_not_imported(
    name: str, run: Path, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / f"{name}.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nraise OSError"
    )
    monkeypatch.chdir(beside)
    monkeypatch.syspath_prepend(beside)  # as `python -m grpo_colab` has it
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(beside)]))
    keeper = mirror.Mirror(run, str(backup))
    assert keeper.finish(60) is None
    assert mirror.recipes(str(backup)) == {"photos": 'name = "example"\n'}
    with refused("budget.mirror", str(backup), problem="holds another run"):
        mirror.check_free(str(backup), [Path("photos")])
    assert not (tmp_path / "ran").exists()


def test_what_opens_something_is_not_written_down(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An exception's text may hold the address that it was about, with a password, and lines of its own."""
    secret = (
        "https://me:s3cret@host/x?token=s3cret "
        + "x" * 130
        + " https://me:"
        + "s3cret" * 20
        + "@host\nWarning: \x1b[2J"
    )
    code = (
        "import sys\nfrom grpo_colab.runs.mirror import mirror\n"
        f"def fails(*_): raise OSError({secret!r})\n"
        "mirror.push_to_folder = fails\nsys.exit(mirror.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run), str(tmp_path), "0"], check=False, capture_output=True)
    assert done.returncode == mirror.FAILED
    text = (run / mirror.STATE).read_text()
    assert "https://...@host/x?token=..." in text
    assert "s3cret" not in text
    error = json.loads(text)["error"]
    assert "\n" not in error
    assert "\x1b" not in error


def test_what_is_printed_of_a_destination_is_on_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a\nb").mkdir()
    place = str(tmp_path / "a\nb" / "c\x1b[2J\nWarning: no")
    write_json(run / mirror.STATE, {"error": "x\nWarning: all is lost \x1b[2J", "step": "\x1b", "failures": "x"})
    Path(place).write_text("")
    keeper = mirror.Mirror(run, place)
    said = keeper.finish(0.0)
    assert said is not None
    assert "\n" not in said
    assert "\x1b" not in said
    assert "\x1b" not in keeper.command
    with pytest.raises(SettingError) as caught:
        mirror.restore(place, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


# ------------------------------------------------------------------------------ links in a run's own folder


@pytest.mark.parametrize("name", ["damaged-checkpoint-20", "spoilt-checkpoint-20", "checkpoint-30", ".new"])
@pytest.mark.parametrize("there", [True, False])
def test_checkpoints_never_leave_their_folder(
    name: str, there: bool, run: Path, elsewhere: Path, tmp_path: Path
) -> None:
    folder = run / "checkpoints"
    (folder / name).symlink_to(elsewhere if there else tmp_path / "nowhere")
    before = everything(elsewhere)
    train_to(run, 30, 0.5)
    checkpoints.set_spoilt_aside(folder, after=20)
    checkpoints.set_spoilt_aside(folder, after=10)
    train_to(run, 20, 0.5)
    os.truncate(folder / "checkpoint-20" / "optimizer.pt", 1)
    assert checkpoints.newest_whole(folder)[0] == folder / "checkpoint-10"
    checkpoints.prune(folder, keep=1)
    assert everything(elsewhere) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_staging_folder_that_is_a_link_is_not_sealed(run: Path, elsewhere: Path) -> None:
    (run / "checkpoints" / ".new").symlink_to(elsewhere)
    before = everything(elsewhere)
    with pytest.raises(OSError, match="a link"):
        seal(run / "checkpoints" / ".new" / "checkpoint-5", run / "checkpoints")
    (elsewhere / "checkpoint-5").mkdir()
    with pytest.raises(OSError, match="a link"):
        checkpoints.publish(run / "checkpoints" / ".new" / "checkpoint-5", run / "checkpoints")
    (elsewhere / "checkpoint-5").rmdir()
    assert everything(elsewhere) == before


def test_a_folder_of_checkpoints_that_is_a_link_is_refused_in_words(elsewhere: Path, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    train_to(elsewhere, 5, 0.5)
    (run.checkpoints).symlink_to(elsewhere / "checkpoints")
    before = everything(elsewhere)
    with pytest.raises(SettingError, match="its checkpoints is a link, which is not followed; put the folder"):
        rewind_to_checkpoint(run)
    with pytest.raises(OSError, match="a link"):
        checkpoints.new_staging(run.checkpoints)
    checkpoints.prune(run.checkpoints, keep=1)
    checkpoints.set_spoilt_aside(run.checkpoints, after=0)
    assert everything(elsewhere) == before


def test_of_what_is_left_only_ours_goes(elsewhere: Path, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    ours = [".0123456789abcdef.tmp", ".metrics.jsonl.77.tmp", ".adapter.123.tmp", ".adapter.0123456789abcdef.tmp"]
    theirs = [".notes.tmp", ".0123.tmp.txt", "..tmp", ".my.tmp"]
    for name in (*ours, *theirs):
        (run.path / name).write_bytes(THEIRS)
    (run.path / ".adapter.9.tmp").mkdir()
    (run.path / ".adapter.9.tmp" / "link").symlink_to(elsewhere)
    (run.path / ".adapter.10.tmp").symlink_to(elsewhere)
    os.mkfifo(run.path / ".metrics.jsonl.78.tmp")
    run.checkpoints.mkdir()
    (run.checkpoints / ".new").symlink_to(elsewhere)
    before = everything(elsewhere)
    in_time(lambda: run.rewind_to(None))
    assert everything(elsewhere) == before
    held = {path.name for path in run.path.iterdir()}
    assert held == {*theirs, ".metrics.jsonl.78.tmp", "recipe.toml", "checkpoints"}
    assert not (run.checkpoints / ".new").is_symlink()


@pytest.mark.parametrize("name", ["metrics.jsonl", "completions.jsonl", "warnings.jsonl"])
def test_lines_are_not_cut_through_a_link(name: str, elsewhere: Path, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    (elsewhere / "lines.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (run.path / name).symlink_to(elsewhere / "lines.jsonl")
    assert run.rewind_to(None) == [
        f"{name} cannot be read (it is a link, which is not followed); it is set aside as damaged-{name}"
    ]
    assert not (run.path / name).is_symlink()
    assert (elsewhere / "lines.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize(
    "state", [{}, {"log_history": 5}, {"log_history": [5, None, {"loss": 1}]}, [], {"log_history": {}}]
)
def test_a_trainers_log_of_odd_types_gives_no_lines(state: Any, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    staged = checkpoints.new_staging(run.checkpoints) / "checkpoint-3"
    staged.mkdir()
    (staged / "trainer_state.json").write_text(json.dumps(state))
    run.rewind_to(seal(staged, run.checkpoints))
    assert run.metrics() == []


def test_an_adapter_is_not_saved_through_a_link(elsewhere: Path, tmp_path: Path) -> None:
    from grpo_colab.policy.policy import Policy

    class Saves:
        def save_pretrained(self, path: Path) -> None:
            (Path(path) / "adapter_model.safetensors").write_bytes(b"ours")

    run = Run.create(Recipe.load(), tmp_path / "run")
    (run.path / f".adapter.{os.getpid()}.tmp").symlink_to(elsewhere)
    run.adapter.symlink_to(elsewhere)
    before = everything(elsewhere)
    Policy(Saves(), Saves()).save(run.adapter)
    assert everything(elsewhere) == before
    assert not run.adapter.is_symlink()
    assert everything(run.adapter) == {"adapter_model.safetensors": b"ours"}
    assert (run.path / f".adapter.{os.getpid()}.tmp").is_symlink()  # not ours
    assert run.adapter.stat().st_mode == run.path.stat().st_mode


@pytest.mark.parametrize("name", [".lock", ".mirror.lock"])
def test_a_lock_is_not_taken_through_a_link(name: str, run: Path, backup: Path, elsewhere: Path) -> None:
    (run / name).symlink_to(elsewhere / "notes.txt")
    if name == ".lock":
        with pytest.raises(SettingError, match="a link, which is not followed"), locked(run):
            pass
    else:
        done = subprocess.run([sys.executable, "-m", "grpo_colab.runs.mirror", str(run), str(backup), "0"], check=False)
        assert done.returncode == mirror.FAILED
        assert "is a link" in json.loads((run / mirror.STATE).read_text())["error"]
    assert (elsewhere / "notes.txt").read_bytes() == THEIRS


def test_a_new_runs_folder_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is not an empty folder"):
        put_files(tmp_path / "photos")
        check_free(tmp_path / "photos")
