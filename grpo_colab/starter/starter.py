"""Write a folder with a recipe, its data, a reward and their tests, which train as they are: `grpo-colab init NAME`.

The files are in `samples/`, a folder per kind of answers and one for what all share. Their Python ends in `.py.txt`,
since it is nobody's module there. `$name` and other words that begin with a dollar sign are filled in.
"""

from __future__ import annotations

import re
import shlex
import string
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from grpo_colab.errors import SettingError, one_of
from grpo_colab.recipe.reading import LONGEST_RECIPE_NAME
from grpo_colab.recipe.trust import check_trust_of_rewards
from grpo_colab.utils import files

SAMPLES: Final = Path(__file__).parent / "samples"
NAME: Final = r"\w[\w.-]*"  # of the folder, which is that of the recipe and of its runs, too
DEFAULT_KIND: Final = "number"
WIDTH: Final = 120  # characters of a line


class Sample(NamedTuple):
    """What the files of a kind of answers do not say themselves: what it is about, and how its reward is audited."""

    about: str
    reward: str
    audited_as: str


KINDS: Final[Mapping[str, Sample]] = {
    "number": Sample("word problems of one to three steps", "shown_work_reward", "scaled"),
    "choice": Sample("tickets of a help desk, and how urgent each is", "near_miss_reward", "choice"),
    "text": Sample("invoices and letters, and the company in each", "quoted_reward", "text"),
    "json": Sample("orders in plain words, to be written as JSON", "right_fields_reward", "json"),
    "code": Sample("small functions to write in Python, with tests", "plain_code_reward", "shaping"),
    "math": Sample("fractions in LaTeX", "lowest_terms_reward", "shaping"),
}
MADE_OF_ROWS: Final = "It makes its cheats of your rows."
# What the README says of the audit.
AUDITS: Final = {
    "scaled": "`scaled` says that right answers may be paid differently.",
    "choice": MADE_OF_ROWS,
    "text": MADE_OF_ROWS,
    "json": MADE_OF_ROWS,
    "shaping": "This one pays for the form of an answer, right or wrong, so only how it can be called is looked at, "
    "`shaping`.",
}


# What to expect of the small model, by whether the sample is in its words.
SMALL: Final = {
    True: "The small model that comes with the package answers word problems such as these, and nothing else. These 60 "
    "steps bring it from 30 % to 100 % of the 50 that are held out, in about a minute.",
    False: "The small model that comes with the package knows nothing of these problems: on the CPU the run shows that "
    "everything works, and what the model learns is the form of an answer.",
}


@dataclass(frozen=True)
class Starter:
    """What was written: the `folder`, the names of its `files`, and the shell `commands` that come next."""

    folder: Path
    files: tuple[str, ...]
    commands: tuple[str, ...]

    def text(self) -> str:
        """Return this for a terminal: the files and the commands, one per line."""
        lines = [f"Wrote {self.folder}: {', '.join(self.files)}. Next:", ""]
        return "\n".join([*lines, *(f"  {command}" for command in self.commands)])


def write_starter(name: str | Path, kind: str = DEFAULT_KIND) -> Starter:
    """Write the folder `name` with the sample of a kind of answers, one of KINDS; return what was written.

    The folder may exist if it is empty. Its reward is the user's own from now on, so that code is remembered as
    trusted, as `recipe.trust` does it. Raises SettingError for an unknown kind, for a name that no recipe can have,
    where something is in the way, and where nothing can be written. Then no file is left behind.
    """
    if kind not in KINDS:
        raise SettingError("is no kind of answers", setting="--kind", value=kind, remedy=one_of(kind, KINDS))
    folder = _checked_folder(name)
    contents = starter_files(folder.absolute().name, kind)
    is_new = not folder.exists()
    written: list[Path] = []
    try:
        with files.unwritable_refused("NAME", folder, "choose another place"):
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in contents.items():
                written.append(folder / file)
                files.write_text(folder / file, text)
    except SettingError:
        for path in written:
            path.unlink(missing_ok=True)
        if is_new and folder.is_dir():
            folder.rmdir()
        raise
    sample = KINDS[kind]
    check_trust_of_rewards([f"{folder.absolute() / 'rewards.py'}:{sample.reward}"], str(folder), trust_code=True)
    return Starter(folder, tuple(contents), _commands(folder, sample))


def starter_files(name: str, kind: str) -> dict[str, str]:
    """Return the texts of a starter's files by their names, for a recipe called `name`."""
    sample = KINDS[kind]
    sources = [path for folder in (kind, "shared") for path in sorted((SAMPLES / folder).iterdir())]
    found = {path.name.removesuffix(".txt"): path.read_text("utf-8") for path in sources}
    cases = found.pop("cases.py").rstrip()
    words = {
        "name": name,
        "about": f"{sample.about[0].upper()}{sample.about[1:]}.",
        "data": next(file for file in found if file.startswith("data.")),
        "reward": sample.reward,
        "kind": sample.audited_as,
        "audit": textwrap.fill(
            f"`audit` asks what a model could exploit in the reward. {AUDITS[sample.audited_as]}", WIDTH
        ),
        "small": textwrap.fill(SMALL[kind == DEFAULT_KIND], WIDTH),
        "cases": cases,
    }
    for file in ("README.md", "recipe.toml", "test_rewards.py"):
        found[file] = string.Template(found[file]).substitute(words)
    return found


def _checked_folder(name: str | Path) -> Path:
    """Return the folder to write; raise SettingError for a name that will not do, and for what is in the way."""
    folder = files.expanded(name)
    given = {"setting": "NAME", "value": str(name)}
    files.check_name("NAME", folder)
    last = folder.absolute().name if str(name) else ""
    if not re.fullmatch(NAME, last) or last.endswith(".toml") or len(last.encode()) > LONGEST_RECIPE_NAME:
        raise SettingError(
            "is no name for a recipe and its folder",
            remedy=f"write letters, digits, dots and dashes, at most {LONGEST_RECIPE_NAME} bytes, as in my-tickets",
            **given,
        )
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SettingError("is in the way: it is there, and no folder", remedy="choose another name", **given)
    if folder.is_dir() and any(folder.iterdir()):
        remedy = "choose a new name, or remove what is in the folder"
        raise SettingError("is in the way: the folder is not empty", remedy=remedy, **given)
    return folder


def _commands(folder: Path, sample: Sample) -> tuple[str, ...]:
    """Return the five commands that come next, for the folder from which the starter was written."""
    recipe, rewards = (shlex.quote(str(folder / file)) for file in ("recipe.toml", "rewards.py"))
    name = folder.absolute().name
    return (
        f"grpo-colab data {recipe}",
        f"grpo-colab audit {rewards}:{sample.reward} --kind {sample.audited_as} --task {recipe}",
        f"grpo-colab train {recipe} --dry-run",
        f"grpo-colab train {recipe}",
        f"grpo-colab report runs/*-{name}",
    )
