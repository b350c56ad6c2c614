"""Say which pins may move: what the newest Unsloth allows of the newest trl, transformers, peft and datasets.

    python colab/newest.py

pip is asked twice, with --dry-run, so that nothing is installed: for the newest release of each, and for the newest
one that the newest Unsloth's metadata allows. The pins are those of colab/lock-cpu.txt. Exits with status 0 whether or
not a pin may move, and with 1 where pip gets no answer.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
DECIDE = ("unsloth", "unsloth-zoo")  # whose metadata says what the others may be
WATCHED = ("trl", "transformers", "peft", "datasets")
PLACES = "pyproject.toml, colab/lock-cpu.txt and colab/install.py"


class NoAnswer(Exception):
    """Raised where pip could not get what was asked for."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A release of a package: its version, and what its metadata requires without any extra."""

    version: Version
    requires: tuple[Requirement, ...]


@dataclasses.dataclass(frozen=True)
class Pin:
    """A package with the version that is pinned, the newest one, and the newest one that is allowed."""

    name: str
    pinned: Version
    newest: Version
    allowed: Version
    limits: tuple[str, ...]  # what forbids the newest, as `unsloth 2026.10.9 requires trl<=1.15.0`

    @property
    def may_move(self) -> bool:
        """Tell whether a newer version than the pinned one is allowed."""
        return self.allowed > self.pinned

    def __str__(self) -> str:
        """Return the verdict as a line."""
        if self.newest <= self.pinned:
            return f"{self.name} {self.pinned} is the newest."
        if self.may_move:
            rest = "" if self.allowed == self.newest else f", not yet to {self.newest}: {'; '.join(self.limits)}"
            return f"{self.name} {self.pinned} may move to {self.allowed}{rest}."
        return f"{self.name} {self.pinned} stays, though {self.newest} is out: {'; '.join(self.limits)}."


def ask_pip(requirements: Iterable[str]) -> dict[str, Release]:
    """Return the newest release that fits each requirement, by its package's name. Raises NoAnswer."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += ["--disable-pip-version-check", "--report=-", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NoAnswer(errors[-1] if errors else "pip did not say why")
    found = {}
    for item in json.loads(done.stdout)["install"]:
        about = item["metadata"]
        needs = (Requirement(text) for text in about.get("requires_dist", ()))
        wanted = tuple(need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""}))
        found[canonicalize_name(about["name"])] = Release(Version(about["version"]), wanted)
    return found


def limits_of(deciders: Mapping[str, Release], package: str) -> dict[str, SpecifierSet]:
    """Return what each release in `deciders` requires of the package, by its name and version."""
    limits: dict[str, SpecifierSet] = {}
    for name, release in deciders.items():
        said = [need.specifier for need in release.requires if canonicalize_name(need.name) == package]
        for specifier in said:
            key = f"{name} {release.version}"
            limits[key] = limits.get(key, SpecifierSet()) & specifier
    return limits


def judge(locked: Mapping[str, Version]) -> list[Pin]:
    """Return the state of each watched package and of Unsloth itself, for these pinned versions. Raises NoAnswer."""
    newest = ask_pip((*DECIDE, *WATCHED))
    deciders = {name: newest[name] for name in DECIDE}
    limits = {name: limits_of(deciders, name) for name in WATCHED}
    joined = {name: SpecifierSet(",".join(map(str, limits[name].values()))) for name in WATCHED}
    allowed = ask_pip(f"{name}{joined[name]}" for name in WATCHED)
    pins = [Pin(name, locked[name], newest[name].version, newest[name].version, ()) for name in DECIDE]
    for name in WATCHED:
        version = newest[name].version
        forbid = []
        for who, limit in limits[name].items():
            parts = ",".join(str(part) for part in limit if not part.contains(version, prereleases=True))
            forbid += [f"{who} requires {name}{parts}"] if parts else []
        pins.append(Pin(name, locked[name], version, allowed[name].version, tuple(forbid)))
    return pins


def locked_versions(lock: Path) -> dict[str, Version]:
    """Return the version of each package in a file of lines `name==version`."""
    lines = [line for line in lock.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def main() -> int:
    """Print a line for each package, and what to do where a pin may move. Returns the exit status."""
    try:
        pins = judge(locked_versions(ROOT / "colab" / "lock-cpu.txt"))
    except NoAnswer as error:
        print(f"pip found no answer; check the network and the index: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, pins)))
    moving = [pin.name for pin in pins if pin.may_move]
    if moving:
        print(f"Pins may move today: {', '.join(moving)}. Change them in {PLACES}, then run `make test-all`.")
    else:
        print("No pin may move today.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
