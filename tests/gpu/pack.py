"""Fetch and shrink what the machine of the GPU tests lacks, so that it can be carried there without a network.

    python tests/gpu/pack.py [NAME ...] [--python 3.12] [--out tests/gpu/wheels]     see run.sh
    python tests/gpu/pack.py --check                                                 what is still missing there

The versions are those of colab/lock-cpu.txt. pip fetches the wheels from wherever it is told to look. What no test
needs is left out of them, and all is compressed anew. A NAME is one package more, for a machine that has less than
THERE.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib.metadata
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE.parents[1] / "colab" / "lock-cpu.txt"
LIMIT_MIB = 64  # of what may be carried, compressed
# What the training imports, and a machine for other work with torch does not have, or not in this version.
PACKED = (
    "accelerate",
    "annotated-types",
    "bitsandbytes",
    "click",
    "cut-cross-entropy",
    "datasets",
    "dill",
    "docstring_parser",
    "msgspec",
    "multiprocess",
    "peft",
    "plotly",
    "pydantic",
    "pydantic_core",
    "tomli_w",
    "torchao",
    "trl",
    "typeguard",
    "typing-inspection",
    "tyro",
    "unsloth",
    "unsloth_zoo",
)
# What is expected there: torch, and what comes with it and with transformers on a machine for such work.
THERE = (
    "torch",
    "triton",
    "transformers",
    "filelock",
    "fsspec",
    "httpx",
    "huggingface_hub",
    "hypothesis",
    "jinja2",
    "matplotlib",
    "narwhals",
    "numpy",
    "packaging",
    "pandas",
    "pillow",
    "protobuf",
    "psutil",
    "pyarrow",
    "pytest",
    "PyYAML",
    "regex",
    "requests",
    "rich",
    "safetensors",
    "scikit-learn",
    "sentencepiece",
    "tokenizers",
    "tqdm",
    "typer",
    "typing_extensions",
    "xxhash",
)
# What the wheels have that no test here uses: files whose path matches are left out.
LEFT_OUT = {
    "": r"[^/]+/tests?/",  # the packages' own tests
    "bitsandbytes": r"bitsandbytes/libbitsandbytes_(?!cpu\.|cuda130\.)",  # torch there is built for CUDA 13.0
    "unsloth": r"(unsloth/)?studio/",
}
# A machine's pip takes a wheel for any glibc up to its own, but asked for another machine it matches each exactly.
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)


def locked() -> dict[str, str]:
    """Return the version of each package of the lock, by its name as the index spells it."""
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def canonical(name: str) -> str:
    """Return a package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(names: Iterable[str], python: str, folder: Path) -> list[Path]:
    """Have pip download the locked wheels of these packages into `folder`, for a Python on Linux and x86-64."""
    versions = locked()
    unknown = [name for name in names if canonical(name) not in versions]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not in {LOCK.name}, so that no version of it is tested")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}"]
    command += ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    command += [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["--platform=manylinux2014_x86_64"]
    command += [f"{name}=={versions[canonical(name)]}" for name in names]
    subprocess.run(command, check=True)
    return sorted(folder.glob("*.whl"))


def repack(wheel: Path, folder: Path) -> Path:
    """Write the wheel into `folder` without what LEFT_OUT names for its package, compressed as far as zip can."""
    package = canonical(wheel.name.split("-")[0])
    patterns = [LEFT_OUT[""], *(pattern for name, pattern in LEFT_OUT.items() if canonical(name) == package and name)]
    left_out = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    path = folder / wheel.name
    rows = []
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for entry in old.infolist():
            if entry.filename.endswith(".dist-info/RECORD"):
                record = entry
            elif not entry.is_dir() and not left_out.match(entry.filename):
                data = old.read(entry)
                new.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)  # the entry keeps its mode
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                rows.append((entry.filename, f"sha256={digest}", len(data)))
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([*rows, (record.filename, "", "")])
        new.writestr(record, table.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return path


def pack(names: Iterable[str], python: str, out: Path) -> float:
    """Fetch and repack these packages into `out`, whose wheels are replaced, and print the sizes. Returns MiB."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.whl"):
        old.unlink()
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for wheel in fetch(names, python, Path(folder)):
            before, after = (path.stat().st_size / 2**20 for path in (wheel, repack(wheel, out)))
            print(f"{after:7.2f} MiB of {before:7.2f}  {wheel.name}")
            total += after
    print(f"{total:7.2f} MiB of {LIMIT_MIB} in {out}, for Python {python}")
    return total


def installed() -> dict[str, str]:
    """Return the version of each package that this Python has; the first on the path is the one that is imported."""
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        found.setdefault(canonical(package.metadata["Name"]), package.version)
    return found


def check() -> None:
    """Print the versions that this Python has. Exits with what it lacks of PACKED and THERE, if anything."""
    have = installed()
    shown = ("torch", "triton", "transformers", "unsloth", "unsloth-zoo", "trl", "peft", "bitsandbytes", "accelerate")
    print(f"Python {sys.version.split()[0]}, " + ", ".join(f"{name} {have.get(name)}" for name in shown))
    if missing := [name for name in (*PACKED, *THERE) if canonical(name) not in have]:
        raise SystemExit(
            f"Missing here: {', '.join(missing)}. Pack them where there is a network: tests/gpu/run.sh pack NAME ..."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages of the lock to pack as well")
    parser.add_argument("--python", default="3.12", help="the Python of that machine")
    parser.add_argument("--out", type=Path, default=HERE / "wheels")
    parser.add_argument("--check", action="store_true", help="only say what this Python has, and what it lacks")
    given = parser.parse_args()
    if given.check:
        return check()
    size = pack(dict.fromkeys([*PACKED, *given.names]), given.python, given.out)
    if size > LIMIT_MIB:
        raise SystemExit(f"That is {size - LIMIT_MIB:.1f} MiB more than can be carried")
    return None


if __name__ == "__main__":
    main()
