"""Find the rows that `task.path` names, split by split: a file, a folder, a data set on the hub, or a file of a run.

A folder has a file per split (`train.csv` and `test.csv`, or the shards of a repository of the hub), or what `datasets`
saved by `save_to_disk`. `hf://owner/name/configuration@revision` is a data set on the hub. `run:NAME` is a file in the
run folder that the recipe belongs to. Only the hub and `save_to_disk` need the library `datasets`, which is imported
when their rows are read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.tasks.jsonl_rows import Placed, Row, read_jsonl
from grpo_colab.tasks.table_files import check_format, format_of, read_tables
from grpo_colab.utils.files import expanded, is_file, is_folder, read_bytes, safe_join
from grpo_colab.utils.hub import ask_hub

HUB: Final = "hf://"
RUN: Final = "run:"
LARGEST: Final = 1 << 32  # bytes of a run's data file, as much as a mirror copies
WHOLE: Final = "data"  # the split of a data set without splits, in the name of its file
HELD_OUT: Final = (
    "test",
    "validation",
    "valid",
    "val",
    "dev",
    "eval",
)  # the first that there is holds the test problems
SPLIT_NAME: Final = re.compile(rf"(train(?:ing)?|{'|'.join(HELD_OUT)})(?![a-z])", re.IGNORECASE)
SHARD: Final = re.compile(r"-\d+-of-\d+$")
IN_FOLDERS: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")  # formats of a split's file
SUBFOLDERS: Final = ("data", "main", "default")  # where a repository of the hub has its files
REPOSITORY: Final = re.compile(
    r"hf://(?:datasets/)?(?P<name>[\w.-]+/[\w.-]+?)(?:@(?P<early>[\w.-]+))?(?:/(?P<config>[\w.-]+?))?(?:@(?P<late>[\w./-]+))?"
)
# Files by which `save_to_disk` marks a folder.
SAVED: Final = ("dataset_dict.json", "state.json")
ABOUT: Final = ("dataset_infos.json", "dataset_info.json")  # describe a data set, and have none of its rows


RunFiles = Path | Mapping[str, str] | None
Rows = Callable[[], Iterable[Placed]]  # reads the rows of a split from the beginning


@dataclass(frozen=True)
class Source:
    """The rows of a source by the name of their split, read when they are asked for; an empty name for an only one.

    `notes` has a sentence on files of a folder that are not read.
    """

    place: str
    splits: Mapping[str, Rows]
    notes: tuple[str, ...] = ()


def is_remote(path: object) -> bool:
    """Tell whether a `task.path` is a data set on the hub, which is downloaded when its rows are read."""
    return isinstance(path, str) and path.startswith(HUB)


def is_fixed(path: str) -> bool:
    """Tell whether a `task.path` is no path of the file system, so that it must not be made absolute."""
    return path.startswith((HUB, RUN))


def check_source(path: str, setting: str) -> None:
    """Raise SettingError for a source that is not there, as far as that is seen without reading it or a download.

    `setting` is the setting that names it.
    """
    fields: dict[str, Any] = {"setting": setting, "value": path}
    if path.startswith(HUB):
        if not REPOSITORY.fullmatch(path):
            remedy = "write hf://owner/name, or hf://owner/name/configuration, and @revision behind it if you like"
            raise SettingError("is no data set of the hub", remedy=remedy, **fields)
    elif path.startswith(RUN):
        return
    elif is_folder(expanded(path)):
        _folder_splits(expanded(path), fields)
    elif is_file(expanded(path)):
        check_format(expanded(path), **fields)
    else:
        remedy = "write the path of a file or a folder; a data set on the hub is hf://owner/name"
        raise SettingError("there is no such file", remedy=remedy, **fields)


def find_source(path: str, setting: str, run_files: RunFiles = None) -> Source:
    """Return what a source holds. Raises SettingError for one that is not there or cannot be read.

    `run_files` is the run folder for a path that begins with `run:`, or the texts of the files that will be there.
    A JSON file, a folder of `save_to_disk` and a data set on the hub are read here, which may download the latter.
    """
    fields: dict[str, Any] = {"setting": setting, "value": path}
    if path.startswith(HUB):
        return Source(path, _hub_splits(path, fields))
    if path.startswith(RUN):
        return Source(path, {"": partial(_run_rows, run_name(path), run_files)})
    check_source(path, setting)
    place = expanded(path)
    if is_file(place):
        tables = read_tables(place)
        return Source(str(place), {name: partial(_again, place, name, rows) for name, rows in tables.items()})
    if _is_saved(place):
        return Source(str(place), _saved_splits(place, fields))
    files = _folder_splits(place, fields)
    rows = {name: partial(_rows_of_files, paths) for name, paths in files.items()}
    return Source(str(place), rows, _unread(next(iter(files.values()))[0].parent, files))


def run_name(path: str) -> str:
    """Return the name of the file in a run folder that a `task.path` stands for; an empty one for any other source."""
    return path.removeprefix(RUN) if path.startswith(RUN) else ""


def run_text(name: str, run_files: RunFiles) -> str:
    """Return the JSON lines of a run's data file, from the run folder or from the texts that are to be written there.

    Raises SettingError for a name that leads out of the folder, and for a file that is not there or is a link.
    """
    fields: dict[str, Any] = {"setting": "task.path", "value": RUN + name}
    if isinstance(run_files, Mapping) and name in run_files:
        return run_files[name]
    remedy = "restore it, or train from the data set again"
    if not isinstance(run_files, Path):
        raise SettingError("is a file of a run, and this recipe is in no run folder", remedy=remedy, **fields)
    try:
        return read_bytes(safe_join(run_files, name), LARGEST).decode()
    except FileNotFoundError:
        raise SettingError("there is no such file in the run folder", remedy=remedy, **fields) from None
    except UnicodeDecodeError:
        raise SettingError("is damaged: it is not UTF-8", remedy=remedy, **fields) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"cannot be read: {why}", remedy=remedy, **fields) from None


def _run_rows(name: str, run_files: RunFiles) -> Iterator[Placed]:
    """Yield the rows that a run keeps in the file `name`, of the data set that it was given.

    Their places are the same before the folder is there and wherever it is moved.
    """
    text = run_text(name, run_files)
    split = name.partition("-")[0]
    for number, (_, row) in enumerate(read_jsonl(Path(name), lambda _: io.BytesIO(text.encode())), 1):
        yield place_of(split, number), row


def place_of(split: str, number: int) -> str:
    """Return the place of a row, numbered from 1, of a data set that a Python program gave."""
    return f"dataset row {number}" if split == WHOLE else f"dataset {split!r} row {number}"


def _again(path: Path, name: str, rows: Iterable[Placed]) -> Iterable[Placed]:
    """Return the rows of a file each time from the beginning: a list is one, an iterator is made anew."""
    return rows if isinstance(rows, list) else read_tables(path)[name]


def _rows_of_files(paths: Iterable[Path]) -> Iterator[Placed]:
    """Yield the rows of the files of one split; a JSON file must not have splits of its own."""
    for path in paths:
        tables = read_tables(path)
        if list(tables) != [""]:
            problem = f"has splits itself, {_listed(tables)}, and is one of a folder"
            raise SettingError(problem, remedy="name the file as task.path", place=path)
        yield from tables[""]


def _is_saved(folder: Path) -> bool:
    """Tell whether a folder was written by `save_to_disk` of the library datasets."""
    return any(is_file(folder / name) for name in SAVED)


def _folder_splits(folder: Path, fields: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Return the files of each split in a folder, or in its folder `data`; none for a folder of `save_to_disk`.

    Raises SettingError, with `fields`, where there is no file of a split, and where a split has files in two formats.
    """
    if _is_saved(folder):
        return {}
    for place in (folder, *(folder / name for name in SUBFOLDERS)):
        splits: dict[str, list[Path]] = {}
        for path in sorted(place.iterdir()) if is_folder(place) else []:
            stem = SHARD.sub("", path.name.partition(".")[0])
            if is_file(path) and format_of(path)[0] in IN_FOLDERS and split_kind(stem):
                splits.setdefault(stem, []).append(path)
        if splits:
            break
    else:
        found = [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        problem = f"has no file of a split, such as train.jsonl; it has {_listed(found)}"
        remedy = "name the file to train on as task.path, or call it train with its own suffix"
        raise SettingError(problem, remedy=remedy, **fields)
    for name, paths in splits.items():
        if len({format_of(path) for path in paths}) > 1:
            problem = f"has {name!r} in two formats: {_listed(path.name for path in paths)}"
            raise SettingError(problem, remedy="take one of them out, or name a file as task.path", **fields)
    return splits


def _unread(folder: Path, splits: Mapping[str, list[Path]]) -> tuple[str, ...]:
    """Return words on the data files of a folder that belong to none of its splits; nothing where all do."""
    taken = {path for paths in splits.values() for path in paths}
    data = [path for path in sorted(folder.iterdir()) if is_file(path) and format_of(path)[0] in IN_FOLDERS]
    unread = [path.name for path in data if path not in taken and path.name not in ABOUT]
    if not unread:
        return ()
    return (f"Not read: {_listed(unread)} of {folder}. A split's file is called train, or {', '.join(HELD_OUT)}",)


def _saved_splits(folder: Path, fields: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the splits in a folder of `save_to_disk`; raise SettingError for one that `datasets` cannot read."""
    datasets = _import_datasets(fields)
    try:
        return _dataset_splits(datasets.load_from_disk(str(folder)), str(folder))
    except Exception as error:  # of pyarrow, json and datasets, which have no class in common
        problem, remedy = f"datasets cannot load it ({one_line(error)})", "save it again by save_to_disk"
        raise SettingError(problem, remedy=remedy, **fields) from error


def _hub_splits(path: str, fields: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the splits of a data set on the hub, downloaded or from the hub's cache.

    Raises SettingError for one that is not there, needs a configuration, or cannot be reached.
    """
    check_source(path, str(fields["setting"]))
    parts = REPOSITORY.fullmatch(path)
    assert parts is not None  # check_source has matched it
    datasets = _import_datasets(fields)
    try:
        # The library would ask a silent hub for half a minute. What is in its cache it finds all the same.
        if not _in_cache(datasets, parts["name"]):
            ask_hub(parts["name"], "README.md", "dataset")
        loaded = datasets.load_dataset(parts["name"], parts["config"], revision=parts["early"] or parts["late"])
    except Exception as error:  # of httpx, huggingface_hub, datasets and pyarrow, which have no class in common
        if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
            problem, remedy = one_line(error, 400), f"write one of them as hf://{parts['name']}/CONFIGURATION"
        else:
            problem = f"cannot be downloaded from the hub ({one_line(error)})"
            remedy = (
                "look at its name, and log in by `hf auth login` if it is private; without a network write task.path = "
                "a folder with a copy of its files"
            )
        raise SettingError(problem, remedy=remedy, **fields) from error
    return _dataset_splits(loaded, path)


def _in_cache(datasets: Any, name: str) -> bool:
    """Tell whether the cache of the library has a data set of this owner."""
    owner = name.partition("/")[0]
    return any(Path(datasets.config.HF_DATASETS_CACHE).glob(f"{owner}___*"))


def _import_datasets(fields: Mapping[str, Any]) -> Any:
    """Return the library datasets; raise SettingError where it is not installed."""
    try:
        import datasets
    except ModuleNotFoundError:
        problem, remedy = "needs the library datasets", "pip install datasets, or name a .jsonl or .csv file"
        raise SettingError(problem, remedy=remedy, **fields) from None
    return datasets


def _dataset_splits(loaded: Any, place: str) -> dict[str, Rows]:
    """Return the splits of a Dataset or a DatasetDict of the library datasets."""
    splits = loaded if isinstance(loaded, Mapping) else {"": loaded}
    return {str(name): partial(_dataset_rows, rows, f"{place} {name}".rstrip()) for name, rows in splits.items()}


def _dataset_rows(dataset: Any, place: str) -> Iterator[Placed]:
    for number, row in enumerate(rows_of_dataset(dataset), 1):
        yield f"{place} row {number}", row


def rows_of_dataset(dataset: Any) -> Iterator[Row]:
    """Yield the rows of a Dataset of the library datasets. A label, which it holds as a number, becomes its name."""
    labels = {
        name: feature.names
        for name, feature in (dataset.features or {}).items()
        if type(feature).__name__ == "ClassLabel"
    }
    for row in dataset:
        for name, known in labels.items():
            label = row[name]
            row[name] = known[label] if label is not None and label >= 0 else None  # -1 stands for no label
        yield row


def split_kind(name: str) -> str | None:
    """Return which of "train" and HELD_OUT a split's name begins with, such as `train_sft`; None for neither."""
    found = SPLIT_NAME.match(name)
    if found is None:
        return None
    return "train" if found[1].lower().startswith("train") else found[1].lower()


def choose_splits(names: Iterable[str], fields: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the names of the split to train on, and of the one that is held out, None for none.

    A single split is the one to train on, whatever its name. Raises SettingError, with `fields`, where it is not clear
    which split to take.
    """
    names = list(names)
    if len(names) == 1:
        return names[0], None
    train = _named(names, "train")
    if len(train) != 1:
        problem = f"it is not clear which of its splits to train on: {_listed(names)}"
        raise SettingError(problem, remedy="save that split as a file, and name it as task.path", **fields)
    for kind in HELD_OUT:
        held_out = _named(names, kind)
        if len(held_out) > 1:
            problem = f"it is not clear which of its splits to hold out: {_listed(held_out)}"
            raise SettingError(problem, remedy="save that split as a file, and name it as task.test_path", **fields)
        if held_out:
            return train[0], held_out[0]
    return train[0], None


def choose_held_out(names: Iterable[str], setting: str, path: str) -> str:
    """Return the name of the split of a task.test_path: the only one, or the first of HELD_OUT; else SettingError."""
    names = list(names)
    if len(names) == 1:
        return names[0]
    for kind in HELD_OUT:
        found = _named(names, kind)
        if len(found) == 1:
            return found[0]
    problem = f"it is not clear which of its splits to hold out: {_listed(names)}"
    raise SettingError(problem, setting=setting, value=path, remedy="save that split as a file, and name that")


def _named(names: Iterable[str], kind: str) -> list[str]:
    """Return the split that is called `kind`, or else all whose names begin so."""
    found = [name for name in names if split_kind(name) == kind]
    return [name for name in found if name.lower() == kind] or found


def _listed(names: Iterable[str], most: int = 8) -> str:
    """Return names for an error message, the first ones only."""
    listed = list(names)
    shown = ", ".join(repr(name) for name in listed[:most]) or "nothing"
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
