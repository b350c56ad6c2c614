"""A run's copy elsewhere, in a folder (Drive, say) or a model repository on the hub, kept by a child process.

    <destination>/<the run folder's name>/      laid out as the run folder, and
        mirrored.json                           whose copy it is, and how far it goes

A file system or a hub that hangs holds up the child, never the run: `Mirror` starts it, looks after it and tries again.
The child is `python -m grpo_colab.mirror RUN DESTINATION`. Standard library only at import, for it is started often.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from grpo_colab import checkpoints
from grpo_colab.errors import SettingError, one_line
from grpo_colab.files import read_json, to_disk, write_json, write_text

HUB: Final = "hf://"
MARKER: Final = "mirrored.json"  # in a copy
STATE: Final = "mirror.json"  # in a run folder: how its mirror fares
IDENTITY: Final = ".mirror.id"  # in a run folder: the copy that belongs to it, whatever the folder is called
KEEP: Final = 2
BUSY, FAILED = 3, 4  # the child's exit status: another one is at it; it failed, and mirror.json says why
FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
LIMIT_S = 1800.0  # for one pass
REACH_S = 10.0  # for a look at what is there
PATIENCE_S = 60.0  # that a run waits at its end for its copies, which then go on by themselves


def push(run: Path, destination: str) -> int | None:
    """Bring the copy up to date, once; returns the step of the newest checkpoint that it then holds.

    Raises OSError (most of the hub's errors are such), also after all is copied but a checkpoint that is damaged here.
    """
    run = run.absolute()  # "." has no name
    # listed before the small files are read, so that the copy's metrics reach at least as far as its checkpoints
    here = checkpoints.saved(run / "checkpoints")
    step, troubles = (_push_to_hub if destination.startswith(HUB) else _push_to_folder)(run, destination, here)
    if troubles:
        raise OSError(f"not copied: {'; '.join(troubles)}")
    return step


def _push_to_folder(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    copy = Path(destination).expanduser() / run.name
    if copy.resolve() == run.resolve():
        return _newest_step(here), []
    copy.parent.mkdir(exist_ok=True)  # not its parents: a Drive that is not mounted must not become a local folder
    copy.mkdir(exist_ok=True)
    before = read_json(copy / MARKER)
    marker = _marker(run, before)
    folder = copy / "checkpoints"
    for old in checkpoints.saved(folder):
        future = here and checkpoints.step_of(old) > checkpoints.step_of(here[-1])
        if future or old.name in checkpoints.spoilt(run / "checkpoints"):
            checkpoints.delete(
                old
            )  # of a future that this run went back from; it must not outlive the metrics of its steps

    names = _small_files(run)
    for name in names:
        _copy(run / name, copy / name, copy)
    for path in copy.iterdir():
        if path.is_file() and path.name not in (*names, MARKER):
            path.unlink()
    if (run / "adapter").is_dir() and (before or {}).get("adapter") != marker["adapter"]:
        staged = copy / ".adapter"
        shutil.rmtree(staged, ignore_errors=True)
        for path in _files(run / "adapter"):
            _copy(path, staged / path.relative_to(run / "adapter"), copy)
        shutil.rmtree(copy / "adapter", ignore_errors=True)
        staged.rename(copy / "adapter")
    write_json(copy / MARKER, marker | {"step": _newest_step(checkpoints.saved(folder))})

    greater = _greater_is_better(run)
    troubles = _take(here, greater, lambda checkpoint: _copy_checkpoint(checkpoint, copy))
    kept = {*checkpoints.saved(folder)[-KEEP:], checkpoints.best(folder, greater)}
    for path in folder.iterdir() if folder.exists() else ():
        if path not in kept:
            checkpoints.delete(path)
    step = _newest_step(checkpoints.saved(folder))
    write_json(copy / MARKER, marker | {"step": step})
    return step, troubles


def _copy(source: Path, target: Path, copy: Path) -> None:
    """A whole file under its name, or none; one that vanishes meanwhile is no longer wanted."""
    temporary = copy / ".copying"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, temporary)
        to_disk(temporary)
        temporary.replace(target)
    except FileNotFoundError:
        if source.exists():
            raise
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk, half of it would stay in the way
        raise


def _copy_checkpoint(source: Path, copy: Path) -> str | None:
    """Copy a checkpoint that is not there yet; returns what is wrong with it, and then there is no copy."""
    folder, about = copy / "checkpoints", checkpoints.manifest(source)
    there = folder / source.name
    if checkpoints.manifest(there) == about and checkpoints.sizes_are_right(there):  # its bytes were checked at first
        return None
    staged = folder / checkpoints.STAGING / source.name
    if checkpoints.manifest(staged) != about:  # else what a killed child has copied of this one stays
        shutil.rmtree(staged, ignore_errors=True)
    for name in (checkpoints.MANIFEST, *about.get("files", ())):
        if not (staged / name).exists():
            _copy(source / name, staged / name, copy)
    if trouble := checkpoints.damage(staged):
        shutil.rmtree(staged)
        return trouble
    checkpoints.publish(staged, folder)
    return None


def _push_to_hub(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    """All in one commit: what is on the hub is one state of the run, never a mixture."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    api, (repository, _) = HfApi(), parse_hub(destination)
    _bound_requests()
    try:
        there = {file.path for file in api.list_repo_tree(repository, recursive=True) if isinstance(file, RepoFile)}
    except RepositoryNotFoundError:
        api.create_repo(repository, private=True, exist_ok=True)
        there = set()
    there = {path.removeprefix(f"{run.name}/") for path in there if path.startswith(f"{run.name}/")}
    before = None
    if MARKER in there:
        with tempfile.TemporaryDirectory() as folder:
            before = read_json(_fetched(repository, [f"{glob.escape(run.name)}/{MARKER}"], folder) / run.name / MARKER)
    marker = _marker(run, before)

    # the small ones as bytes, for they grow while they are sent
    files: dict[str, Path | bytes] = {name: (run / name).read_bytes() for name in _small_files(run)}
    files |= {path.relative_to(run).as_posix(): path for path in _files(run / "adapter")}

    def add(checkpoint: Path) -> str | None:
        trouble = checkpoints.damage(checkpoint)
        if trouble is None:
            files.update({path.relative_to(run).as_posix(): path for path in _files(checkpoint)})
        return trouble

    troubles = _take(here, _greater_is_better(run), add)
    old = {path.split("/")[1] for path in there if path.endswith(f"/{checkpoints.MANIFEST}")}
    new = {path.split("/")[1] for path in files if path.endswith(f"/{checkpoints.MANIFEST}")}
    steps = sorted(checkpoints.step_of(Path(name)) for name in (old | new) - checkpoints.spoilt(run / "checkpoints"))
    steps = [step for step in steps if not here or step <= checkpoints.step_of(here[-1])]
    left = {f"checkpoint-{step}" for step in steps[-KEEP:]} - new  # neither sent again nor deleted
    gone = [path for path in there if path not in (*files, MARKER) and not (set(path.split("/")[1:2]) & left)]
    step = steps[-1] if steps else None
    files[MARKER] = json.dumps(marker | {"step": step}).encode()
    operations: list[Any] = [
        *(CommitOperationAdd(f"{run.name}/{name}", content) for name, content in files.items()),
        *(CommitOperationDelete(f"{run.name}/{path}") for path in gone),
    ]
    api.create_commit(repository, operations, commit_message=f"{run.name}: step {step}")
    return step, troubles


def _bound_requests() -> None:
    """Let no request of this process wait for ever: huggingface_hub itself sets no limit when it lists and commits."""
    import httpx
    from huggingface_hub import constants, is_offline_mode, set_client_factory

    if is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    # the hub's own setting is for the first byte of a file; a commit takes longer
    limit = httpx.Timeout(6 * constants.HF_HUB_DOWNLOAD_TIMEOUT).as_dict()
    hooks = {"request": [lambda request: request.extensions.update(timeout=limit)]}
    set_client_factory(lambda: httpx.Client(follow_redirects=True, event_hooks=hooks))


def _take(here: list[Path], greater_is_better: bool, take: Callable[[Path], str | None]) -> list[str]:
    """Give `take` the newest whole checkpoint and the best one; returns what was wrong with any that it refused."""
    troubles: dict[Path, str | None] = {}
    for checkpoint in reversed(here):
        troubles[checkpoint] = take(checkpoint)
        if troubles[checkpoint] is None:
            break
    best = checkpoints.best(here[0].parent, greater_is_better) if here else None
    if best in here and best not in troubles:
        troubles[best] = take(best)
    # one without its manifest was not damaged: the run deleted it meanwhile
    return [f"{path.name}: {t}" for path, t in troubles.items() if t and (path / checkpoints.MANIFEST).exists()]


def _marker(run: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    """What the copy's mirrored.json will say; OSError when it is another run's copy, which must not be lost."""
    if identity(run) is None:
        write_text(run / IDENTITY, uuid.uuid4().hex)
    if before is not None and before.get("id") != identity(run):
        raise OSError(f"it holds another run called {run.name}; give this one another name with --out, or move that")
    adapter = (run / "adapter").stat().st_mtime_ns if (run / "adapter").is_dir() else None
    return {"run": run.name, "step": None, "at": _now(), "id": identity(run), "adapter": adapter}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _small_files(run: Path) -> list[str]:
    names = [path.name for path in run.iterdir() if path.is_file()]
    return sorted(name for name in names if not name.startswith(".") and name not in (STATE, MARKER))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _newest_step(saved: list[Path]) -> int | None:
    return checkpoints.step_of(saved[-1]) if saved else None


def _greater_is_better(run: Path) -> bool:
    import tomllib

    return checkpoints.greater_is_better(
        tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8")).get("grpo", {})
    )


def main(arguments: list[str]) -> int:
    """The child: one pass over RUN, or with --recipes the names and recipes of what is at a destination, as JSON."""
    if hasattr(os, "nice"):
        os.nice(10)  # the run needs the processor more
    if arguments[0] == "--recipes":
        print(json.dumps(_recipes(arguments[1])))
        return 0
    from filelock import FileLock, Timeout

    run, destination, wait_s = Path(arguments[0]), arguments[1], float(arguments[2])
    try:
        with FileLock(run / ".mirror.lock", timeout=wait_s):
            _record(run, destination, push(run, destination), None)
    except Timeout:
        return BUSY
    except Exception as error:  # noqa: BLE001 - whatever it is, mirror.json is where a person looks
        hub = destination.startswith(HUB)
        _record(run, destination, None, hub_trouble(destination, error) if hub else one_line(error))
        return FAILED
    return 0


def _record(run: Path, destination: str, step: int | None, error: str | None) -> None:
    before = read_json(run / STATE) or {}
    if error is not None and before.get("destination") == destination:
        step = before.get("step")
    failures = 0 if error is None else before.get("failures", 0) + 1
    with contextlib.suppress(OSError):  # a full disk stops the run for its own reasons
        state = {"destination": destination, "step": step, "at": _now(), "error": error, "failures": failures}
        write_json(run / STATE, state)


class Mirror:
    """Keeps a run's copy from beside the run: each method returns at once (but `finish`), and none raises.

    `pinned` is the checkpoint that is being copied, which pruning should leave alone. Call `request` when there is
    something new, and `poll` now and then.
    """

    def __init__(self, run: Path, destination: str) -> None:
        self.run = run.absolute()
        hub = destination.startswith(HUB)
        self.destination = destination if hub else str(Path(destination).expanduser().absolute())
        self.pinned: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False  # for what the present child may not see
        self._began = self._due = 0.0
        self._failed = 0  # times in a row

    @property
    def command(self) -> str:
        """One pass by hand."""
        return shlex.join(["python", "-m", __name__, str(self.run), self.destination, "0"])

    def request(self) -> None:
        """There is something new: copy it now, or when the present child has ended."""
        self._asked, self._due = True, 0.0
        self.poll()

    def poll(self) -> None:
        """See whether the child has ended or has taken too long, and start the next when one is due."""
        now = time.monotonic()
        if self._child is not None:
            status = self._child.poll()
            if status is None and now < self._began + LIMIT_S:
                return
            if status is None:
                self._child.kill()  # and forgotten: one that hangs in the kernel does not even die
                self._ended(f"stopped after {LIMIT_S / 60:.0f} minutes")
            else:
                self._ended({0: None, BUSY: "", FAILED: ""}.get(status, f"its process ended with status {status}"))
        if self._asked and now >= self._due:
            self.start()

    def start(self, wait_s: float = 0.0) -> None:
        """Start a child, which waits so long for another that is at it."""
        self._asked, self._began = False, time.monotonic()
        self.pinned = next(reversed(checkpoints.saved(self.run / "checkpoints")), None)
        command = [sys.executable, "-m", __name__, str(self.run), self.destination, str(wait_s)]
        quiet = subprocess.DEVNULL
        try:  # in a session of its own, out of reach of Ctrl-C
            self._child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        except OSError as error:
            self._ended(one_line(error))

    def _ended(self, error: str | None) -> None:
        """The child is gone: None, it has done its work; else why not, or "" when that has been said."""
        self._child = self.pinned = None
        self._failed = 0 if error is None else self._failed + 1
        if error:
            _record(self.run, self.destination, None, error)
        if error is not None:
            self._asked = True
            self._due = time.monotonic() + min(FIRST_RETRY_S * 2 ** (self._failed - 1), LONGEST_RETRY_S)

    def finish(self, wait_s: float) -> str | None:
        """Copy all that is there, in at most so many seconds; returns one line about what is not done then.

        What is not done then is left to a child that goes on by itself, also when this process ends.
        """
        deadline = time.monotonic() + wait_s
        self.request()
        while (self._child is not None or self._asked) and time.monotonic() < deadline:
            time.sleep(0.05)
            self.poll()
        if self._child is None and not self._asked:
            return None
        self.start(LIMIT_S)  # the present one may see only a part of it, or end at once because another is at it
        state = read_json(self.run / STATE) or {}
        error = f" ({state['error']})" if state.get("error") else ""
        held = "none" if state.get("step") is None else f"step {state['step']}"
        return f"{self.destination} does not hold all of this run{error}; its newest checkpoint there: {held}"


def identity(run: Path) -> str | None:
    """What a run's copies are known by; None before it has had one."""
    return (run / IDENTITY).read_text() if (run / IDENTITY).is_file() else None


def find(source: str) -> str:
    """`source` if it names a copy, else the newest copy in that destination. SettingError where there is none."""
    if not source.startswith(HUB):
        copies = [Path(source).expanduser()]
        copies = copies if (copies[0] / MARKER).is_file() else _copies(copies[0])
        found = str(copies[0]) if copies else None
    elif parse_hub(source)[1]:
        found = source
    else:
        found = next((f"{source.rstrip('/')}/{name}" for name in recipes(source)), None)
    if found is None:
        raise SettingError(f"{source!r}: no copy of a run is there, or it does not answer")
    return found


def marker(source: str) -> dict[str, Any]:
    """What a copy's mirrored.json says: whose copy it is and how far it goes; empty where that cannot be read."""
    if not source.startswith(HUB):
        return read_json(Path(source).expanduser() / MARKER) or {}
    repository, name = parse_hub(source)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, ValueError):
        _bound_requests()
        return (
            read_json(_fetched(repository, [f"{glob.escape(str(name))}/{MARKER}"], folder) / str(name) / MARKER) or {}
        )
    return {}


def is_mirror(source: str) -> bool:
    """Whether `source` is a copy, or a destination with some in it."""
    root = Path(source).expanduser()
    return (
        source.startswith(HUB)
        or (root / MARKER).is_file()
        or (not (root / "recipe.toml").exists() and bool(_copies(root)))
    )


def recipes(destination: str) -> dict[str, str]:
    """Each copy's name and recipe, the newest first; empty when there is none, or none that answers in time."""
    command = [sys.executable, "-m", __name__, "--recipes", destination]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        output, _ = child.communicate(timeout=REACH_S)
    except subprocess.TimeoutExpired:
        child.kill()  # without waiting for it: one that hangs in the kernel does not die
        return {}
    return json.loads(output) if child.returncode == 0 else {}


def _recipes(destination: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(destination).expanduser()
        if destination.startswith(HUB):
            _bound_requests()
            root = _fetched(parse_hub(destination)[0], [f"*/{MARKER}", "*/recipe.toml"], folder)
        return {copy.name: (copy / "recipe.toml").read_text(encoding="utf-8") for copy in _copies(root)}


def _copies(root: Path) -> list[Path]:
    """The copies in a folder, the newest first."""
    found = [(str((read_json(path) or {}).get("at")), path.parent) for path in root.glob(f"*/{MARKER}")]
    return [path for _, path in sorted(found, reverse=True)]


def restore(source: str, into: Path) -> Path:
    """Make the run folder `into` from the copy `source`, <destination>/<run>, or from a destination's newest copy.

    A checkpoint that is damaged there is left out. Raises SettingError when there is no such copy, when it cannot be
    reached, and when it has checkpoints but none is whole; `into` is then as it was.
    """
    if into.is_file() or (into.is_dir() and any(into.iterdir())):
        raise SettingError(f"{str(into)!r}: holds something already, so that {source} cannot be restored there")
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{into.name}.", suffix=".tmp", dir=into.parent) as folder:
            copy = _brought(source, folder)
            found = checkpoints.saved(copy / "checkpoints")
            damaged = {path: trouble for path in found if (trouble := checkpoints.damage(path))}
            if damaged and len(damaged) == len(found):
                what = "; ".join(f"{path.name}: {trouble}" for path, trouble in damaged.items())
                raise SettingError(f"{source!r}: none of its checkpoints is whole ({what}); train again without it")
            for path in damaged:
                shutil.rmtree(path)
            write_text(copy / IDENTITY, str((read_json(copy / MARKER) or {}).get("id")))
            (copy / MARKER).unlink()
            return copy.replace(into)
    except OSError as error:
        raise SettingError(f"{source!r}: cannot be restored to {str(into)!r} ({one_line(error)})") from error


def _brought(source: str, folder: str) -> Path:
    """The copy `source`, or the newest in it, as a folder in `folder`."""
    if source.startswith(HUB):
        import httpx

        repository, name = parse_hub(source)
        try:
            if name is None:
                name = next((copy.name for copy in _copies(_fetched(repository, [f"*/{MARKER}"], folder))), "")
            root = _fetched(repository, [f"{glob.escape(name)}/*"], folder)
        except (OSError, ValueError, httpx.HTTPError) as error:
            raise SettingError(f"{source!r}: {hub_trouble(source, error)}; or correct budget.mirror") from error
    else:
        root = Path(source).expanduser()
        found = [root] if (root / MARKER).is_file() else _copies(root)
        name = "copy"
        if found:  # without what is being written there
            shutil.copytree(found[0], Path(folder, name), ignore=shutil.ignore_patterns(".*"))
            root = Path(folder)
    if not (root / name / MARKER).is_file():
        raise SettingError(f"{source!r}: no copy of a run is there; name one as <budget.mirror>/<the run's name>")
    return root / name


def parse_hub(source: str) -> tuple[str, str | None]:
    """hf://user/repository[/run] as the repository and the run; SettingError for anything else."""
    user, _, rest = source.removeprefix(HUB).strip("/").partition("/")
    repository, _, name = rest.partition("/")
    if not repository or "/" in name:
        raise SettingError(f"budget.mirror = {source!r}: is no repository; write {HUB}user/repository")
    return f"{user}/{repository}", name or None


def _fetched(repository: str, patterns: list[str], folder: str) -> Path:
    """Download the files that match into `folder`, laid out as in the repository."""
    from huggingface_hub import HfApi, snapshot_download

    # asked with a limit first, for snapshot_download itself would wait without one
    revision = HfApi().repo_info(repository, timeout=REACH_S).sha
    return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_dir=folder))


def hub_trouble(source: str, error: BaseException) -> str:
    """What an error says, or for one of the hub's that a person can do something about, what that is."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if not isinstance(error, HfHubHTTPError) or error.response.status_code not in (401, 403, 404):
        return one_line(error)
    page = f"https://huggingface.co/{parse_hub(source)[0]}"
    if isinstance(error, GatedRepoError):
        return f"ask for access on {page} first, then set HF_TOKEN or run `hf auth login`"
    way = "your token does not open it" if get_token() else "without a token; set HF_TOKEN or run `hf auth login`"
    return f"the hub refuses {page} ({error.response.status_code}): {way}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
