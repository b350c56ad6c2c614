"""Install grpo_colab into a notebook's runtime, or say in one line why not and what to do.

    %run install.py                    in a notebook; the kernel restarts by itself if it has to
    python install.py                  in a terminal
        --package WHEEL_OR_URL         install grpo_colab from this wheel, folder or address, not from the repository
        --vllm                         install vLLM, too: generation is faster, but torch and a hundred others change
        --no-vllm                      keep the runtime's own torch (the default)
        --refresh                      download --package again, even if it has been downloaded before
        --dry-run                      print what would change, and change nothing
        --no-restart                   say that the kernel must be restarted, but leave it running

This file needs only the standard library, Python 3.11 to 3.13, and a runtime that has torch, as Colab's and Kaggle's
do. Every package that it adds has an exact version, and a test resolves them against Colab's own package lists. The
packages that the runtime has stay: their versions are constraints. uv (a private copy) first says what would change. If
that is not what the row of the matrix expects, the installation stops before any file is changed. A second run of a
finished installation changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = "https://github.com/grpo-colab/grpo_colab"
UV = "0.13.9"
WAY_OUT = "pin an older runtime (in Colab: Runtime > Change runtime type > Runtime version, 2026.08 is tested)"
Changes = dict[str, tuple[str | None, str | None]]  # package -> version before and after; None where it is not there


def _versions(text: str) -> dict[str, tuple[str, ...]]:
    """Parse `name==1|2 name==3`. A package has two versions where runtimes need different ones."""
    return {name: tuple(versions.split("|")) for name, versions in (item.split("==") for item in text.split())}


@dataclass(frozen=True)
class Row:
    """A row of the matrix: what is installed for one kind of runtime, and which packages may change for it."""

    name: str
    exact: tuple[str, ...]  # must have the row's version
    wants: tuple[str, ...]  # keep the runtime's version if it has one
    brings: Mapping[str, tuple[str, ...]]  # every package that may change, and the versions that it may change to
    without: tuple[str, ...] = ()  # required by metadata, but never used in this kind of runtime
    # Keep the runtime's version, whatever metadata requires: Unsloth's requires a certifi that does not exist yet.
    keeps: tuple[str, ...] = ("certifi",)
    driver: int = 0  # the oldest NVIDIA driver that works
    takes: str = "a minute or two"


EXACT = ("unsloth", "unsloth-zoo", "trl", "datasets")
MONTY = "pydantic-monty>=1.4,<1.5"  # 1.5.0 requires a client that is not on the index
# peft 0.18 imports a class that torchao no longer has
WANTS = (
    "peft>=0.19",
    "wandb",
    "click",
    "pydantic",
    "tomli-w",
    "filelock",
    "jinja2",
    "matplotlib",
    "pillow",
    "plotly>=5.24",
    "rich",
    "scikit-learn",
    MONTY,
)
COMMON = _versions("""
    bitsandbytes==0.50.2 cut-cross-entropy==25.1.1 datasets==4.8.5 hf-transfer==0.1.9 msgspec==0.22.0 peft==0.21.2
    pyarrow==26.0.1 pydantic-monty==1.4.0 pydantic-monty-client==1.4.0 pydantic-monty-runtime==1.4.0 safetensors==0.8.0
    tokenizers==0.23.3 tomli-w==1.2.0 torchao==0.18.0 transformers==5.17.0 trl==1.15.0 tyro==1.0.17 unsloth==2026.10.9
    unsloth-zoo==2026.10.9""")
GPU = COMMON | _versions("json5==0.17.3 structlog==26.1.0 xformers==0.0.35")
# torch 2.13 is built for CUDA 13. The runtime's packages that were built for 12.8 (cudf, cupy, ...) stop working.
VLLM = GPU | _versions("""
    agent-detector==2.0.0 anthropic==2.12.0 apache-tvm-ffi==0.1.11 astor==0.8.1 blake3==1.0.11 cbor2==6.2.1 click==8.5.1
    compressed-tensors==0.17.0 cuda-bindings==13.4.4 cuda-core==1.2.2 cuda-pathfinder==1.9.0 cuda-python==13.4.4
    cuda-tile==1.7.0 cuda-toolkit==13.0.3.0 depyf==0.20.0 detect-installer==0.2.1 dnspython==2.9.2
    email-validator==2.4.0 fastapi==0.136.3 fastapi-cli==0.0.32|0.0.34 fastapi-cloud-cli==0.24.0|0.28.0 fastar==0.12.0
    fastsafetensors==0.5.0 flashinfer-python==0.7.0.post1 hf-xet==1.8.0 httpcore2==2.16.2 httpx2==2.16.2
    huggingface-hub==1.33.0 humming-kernels==0.1.16 idna==3.20 ijson==3.6.0 instanttensor==0.2.2 interegular==0.3.3
    jmespath==1.1.0 lark==1.2.2 llguidance==1.7.6 llvmlite==0.47.0 lm-format-enforcer==0.11.3 loguru==0.7.3 mcp==2.3.0
    mcp-types==2.3.0 mistral-common==1.13.1 model-hosting-container-standards==0.1.16 nccl-extensions==0.1.0
    nccl4py==0.6.0 ninja==1.13.2 numba==0.65.0 nvidia-cublas==13.1.1.3 nvidia-cuda-cccl==13.3.5.0.6
    nvidia-cuda-crt==13.5.37 nvidia-cuda-cupti==13.0.85 nvidia-cuda-nvcc==13.5.37 nvidia-cuda-nvdisasm==13.5.37
    nvidia-cuda-nvrtc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cudnn-cu13==9.20.0.48 nvidia-cudnn-frontend==1.31.0
    nvidia-cufft==12.0.0.61 nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35 nvidia-cusolver==12.0.4.66
    nvidia-cusparse==12.6.3.3 nvidia-cusparselt-cu13==0.8.1 nvidia-cutlass-dsl==4.7.1
    nvidia-cutlass-dsl-libs-base==4.7.1 nvidia-cutlass-dsl-libs-core==4.7.1 nvidia-cutlass-dsl-libs-cu12==4.7.1
    nvidia-cutlass-dsl-libs-cu13==4.7.1 nvidia-nccl-cu13==2.29.7 nvidia-nvjitlink==13.5.37 nvidia-nvshmem-cu13==3.4.5
    nvidia-nvtx==13.0.85 nvidia-nvvm==13.5.37 nvtx==0.2.15 opentelemetry-exporter-otlp==1.38.0|1.42.1
    opentelemetry-exporter-otlp-proto-common==1.42.1 opentelemetry-exporter-otlp-proto-grpc==1.38.0|1.42.1
    opentelemetry-exporter-otlp-proto-http==1.42.1 opentelemetry-proto==1.42.1
    opentelemetry-semantic-conventions-ai==0.5.1 oss-harmony==0.0.11 outlines-core==0.2.14
    partial-json-parser==0.2.1.1.post7 prometheus-fastapi-instrumentator==8.1.0 pybase64==1.5.1 pycountry==26.2.16
    pydantic-extra-types==2.11.1 pydantic-settings==2.16.3 pynvvideocodec==2.0.4 quack-kernels==0.6.5
    rich-toolkit==0.20.6 rignore==0.8.1 setproctitle==1.3.8 setuptools==80.10.2 sse-starlette==3.7.0 starlette==1.10.0
    supervisor==4.3.0 tilelang==0.1.12 tokenspeed-mla==0.1.8 tokenspeed-triton==3.9.10.post20261028 torch==2.13.0
    torch-c-dlpack-ext==0.1.5 torchaudio==2.11.0 torchcodec==0.17.0 torchvision==0.28.0 triton==3.7.1 truststore==0.10.5
    vllm==0.31.0 vllm-bnb-plugin==0.0.3 xgrammar==0.2.7 z3-solver==4.15.4.0""")
# Unsloth requires these, but a CPU never uses them. colab/lock-cpu.txt leaves out the same.
NO_GPU = ("triton", "xformers", "torchvision", "diffusers", "einops", "json5", "structlog")
MATRIX = {
    "cpu": Row("cpu", EXACT, WANTS, COMMON, without=NO_GPU),
    "gpu": Row("gpu", EXACT, WANTS, GPU),
    "gpu-vllm": Row(
        "gpu-vllm", (*EXACT, "vllm", "vllm-bnb-plugin"), WANTS, VLLM, driver=580, takes="five to ten minutes"
    ),
}
FLASHINFER = "UNSLOTH_VLLM_NO_FLASHINFER"
PYTHONS = ((3, 11), (3, 12), (3, 13))
# PEP 440. Debian's own packages have other versions (1.1build1), which neither a constraint nor uv can parse.
VERSION = re.compile(
    r"v?(\d+!)?\d+(\.\d+)*([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?"
    r"([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)
# The environment variables of uv that say where packages come from. The others change what it does, and are removed.
UV_MEANS = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX.*|EXTRA_INDEX_URL|FIND_LINKS|CACHE_DIR|HTTP_.*|NATIVE_TLS|SYSTEM_CERTS|INSECURE_HOST|"
    r"KEYRING_PROVIDER|BREAK_SYSTEM_PACKAGES)"
)


class InstallError(Exception):
    """Raised if the installation failed. A notebook shows only its message, without a traceback, and Run all stops."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Restarting(InstallError):
    """Raised when the kernel is about to restart, to keep the cells below from running. This is not a failure."""


@dataclass(frozen=True)
class Gpu:
    """The GPU of this runtime."""

    name: str
    capability: tuple[int, int]  # CUDA's compute capability
    driver: int  # major version of NVIDIA's driver


def this_gpu() -> Gpu | None:
    """Return the GPU as nvidia-smi describes it, None if there is none.

    torch is not asked: once imported, it could not be replaced without a restart of the kernel.
    """
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        name, capability, driver = answer.splitlines()[0].split(", ")
        major, minor = capability.split(".")
        return Gpu(name, (int(major), int(minor)), int(driver.split(".")[0]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def pick(gpu: Gpu | None, vllm: bool, python: tuple[int, int]) -> Row:
    """Return the row for a runtime. Raises InstallError if there is none for its Python, GPU or driver."""
    if python not in PYTHONS:
        raise InstallError(f"Python {'.'.join(map(str, python))} is none of 3.11, 3.12 and 3.13: {WAY_OUT}")
    row = MATRIX["cpu" if gpu is None else "gpu-vllm" if vllm else "gpu"]
    if vllm and gpu is None:
        raise InstallError(
            "--vllm needs a GPU, and there is none: choose one (Runtime > Change runtime type) or --no-vllm"
        )
    if gpu and gpu.driver < row.driver:
        raise InstallError(
            f"vLLM needs the NVIDIA driver {row.driver} or newer, and this is {gpu.driver}: use --no-vllm"
        )
    return row


def canonical(name: str) -> str:
    """Return a package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Return the version of every package that this Python can import, read from the disk now.

    Packages whose version uv cannot parse are left out.
    """
    importlib.invalidate_caches()
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"]
        if name and VERSION.fullmatch(package.version or ""):
            found.setdefault(canonical(name), package.version)  # the first on the path is the one that is imported
    return found


def requirements(row: Row) -> list[str]:
    """Return the requirements that uv is to install for a row."""
    return [f"{name}=={row.brings[name][-1]}" for name in row.exact] + list(row.wants)


def guards(row: Row, runtime: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the lines of uv's constraints, overrides and excludes.

    A package that must not change is constrained to the runtime's version. One that may change is constrained to be no
    newer than the row's or the runtime's version.
    """
    fixed = [f"{name}=={version}" for name, version in runtime.items() if name not in row.brings]
    newest = {name: max(*versions, runtime.get(name, "0"), key=_ordered) for name, versions in row.brings.items()}
    allowed = [f"{name}<={version.partition('+')[0]}" for name, version in newest.items()]
    return {"constraints": fixed + allowed, "overrides": list(row.keeps), "excludes": list(row.without)}


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))


def planned(
    row: Row, runtime: Mapping[str, str], uv: str, python: str = sys.executable, options: Iterable[str] = ()
) -> Changes:
    """Return what installing a row would change in `python`'s packages. uv resolves everything and installs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        named = []
        for name, lines in guards(row, runtime).items():
            Path(folder, name).write_text("\n".join(lines) + "\n")
            named += [f"--{name}={folder}/{name}"] if lines else []
        return plan(uv, python, "--no-build", *named, *options, *requirements(row))


def plan(uv: str, python: str, *arguments: str) -> Changes:
    """Return what `uv pip install` with these arguments would change."""
    changes: Changes = {}
    for change in json.loads(_run_uv(uv, python, "--dry-run", "--output-format=json", *arguments))["changes"]:
        before, after = changes.get(change["name"], (None, None))
        removed = change["action"] == "uninstalled"
        changes[change["name"]] = (change["version"], after) if removed else (before, change["version"])
    return changes


def _run_uv(uv: str, python: str, *arguments: str) -> str:
    command = [uv, "pip", "install", "--no-config", f"--python={python}", *arguments]
    means = {key: value for key, value in os.environ.items() if not key.startswith("UV_") or UV_MEANS.fullmatch(key)}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=means)
    if process.returncode == 0:
        return process.stdout
    said = " ".join(re.sub(r"[×╰─▶│├╴]", " ", process.stderr).split())
    if "No solution found" in said:
        problem = (
            f"No versions of what grpo_colab needs fit this runtime, so nothing was changed. What to do: {WAY_OUT}. "
        )
        said = said[said.index("No solution found") :].partition(": ")[2]
    elif re.search(r"fetch|download|request|connect|HTTP|dns", said):
        problem = "A download failed: check the network, then run this again. "
    else:
        problem = "uv, which installs the packages, failed. "
    raise InstallError(f"{problem}uv says: {said[max(0, said.find('error:')) :][:400]}")


def surprises(row: Row, changes: Changes) -> list[str]:
    """Return the changes that the row does not expect, each as a text that says what it would break."""
    found = []
    for name, (before, after) in changes.items():
        if after is not None and after in row.brings.get(name, ()):
            continue
        what = f"{name} {before or '(absent)'} -> {after or '(removed)'}"
        if name in row.brings:
            means = f"tested with {' or '.join(row.brings[name])} alone"
        elif name.startswith(("torch", "triton", "nvidia-", "cuda-")):
            means = "torch, its CUDA and what was built for them would no longer match"
        elif before is None:
            means = "nobody has tested what this brings"
        else:
            means = "other packages of the runtime rely on the version that it has"
        found.append(f"{what} ({means})")
    return found


def complete(row: Row) -> bool:
    """Tell whether all of a row's requirements, and theirs in turn, are installed. Needs neither network nor uv."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False  # Unsloth itself requires packaging, so something is missing
    have, seen = installed(), set()
    todo = [Requirement(line) for line in requirements(row)]
    while todo:
        need = todo.pop()
        name = canonical(need.name)
        if name in row.without or (name, *need.extras) in seen:
            continue
        seen.add((name, *need.extras))
        if name not in have or (name not in row.keeps and not need.specifier.contains(have[name], prereleases=True)):
            return False
        asked = [Requirement(line) for line in importlib.metadata.requires(need.name) or ()]
        extras = [{"extra": extra} for extra in ("", *need.extras)]
        todo += [one for one in asked if one.marker is None or any(map(one.marker.evaluate, extras))]
    return True


def cache() -> Path:
    """Return the folder for this file's own downloads, and create it if necessary."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grpo_colab"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_uv() -> str:
    """Return the path of uv, of the version whose output this file can parse.

    It is the one on PATH if its version fits, else a private copy, which is downloaded once (20 MB).
    """
    if there := shutil.which("uv"):
        version = subprocess.run([there, "--version"], capture_output=True, text=True, check=False).stdout.split()
        if version[1:2] == [UV]:
            return there
    private = cache() / f"uv-{UV}"
    if not private.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            _pip("install", f"uv=={UV}", f"--target={folder}/uv", "--only-binary=:all:")
            Path(folder, "uv").rename(private)
    return str(private / "bin" / "uv")


def _pip(do: str, what: str, *options: str) -> None:
    command = [sys.executable, "-m", "pip", do, "--quiet", "--no-deps", "--disable-pip-version-check", "--retries=2"]
    dated = os.environ | {"SOURCE_DATE_EPOCH": "315532800"}  # two wheels built from the same folder are identical
    process = subprocess.run([*command, *options, what], capture_output=True, text=True, check=False, env=dated)
    if process.returncode:
        said = process.stderr.splitlines() or ["pip did not say why"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise InstallError(
            f"Could not get {what}: check the network and the address, then run this again. {errors[-1][:400]}"
        )


def fetch(package: str, refresh: bool = False) -> Path:
    """Return the wheel of grpo_colab: `package` itself, or built from the folder or the address that it names.

    The wheel of an address is kept, and is built again only with `refresh`.
    """
    if package.endswith(".whl") and Path(package).is_file():
        return Path(package)
    remote = "://" in package
    if not remote and not Path(package).is_dir():
        raise InstallError(
            f"--package {package}: no such wheel or folder. Give a .whl file, a checkout, or an https:// address."
        )
    folder = cache() / f"package-{hashlib.sha256(package.encode()).hexdigest()[:16]}"
    if refresh or not remote or not folder.exists():
        print(f"Getting grpo_colab from {package} (some seconds) ...", flush=True)
        with tempfile.TemporaryDirectory(dir=cache()) as made:
            _pip("wheel", package, f"--wheel-dir={made}/wheel")
            shutil.rmtree(folder, ignore_errors=True)
            Path(made, "wheel").rename(folder)
    (wheel,) = folder.glob("*.whl")
    if not wheel.name.startswith("grpo_colab-"):
        raise InstallError(f"--package {package} is {wheel.name}, and not grpo_colab.")
    return wheel


def has(wheel: Path) -> bool:
    """Tell whether exactly this wheel is installed, by the checksum that pip keeps of a file it installed from."""
    try:
        record = json.loads(importlib.metadata.distribution("grpo_colab").read_text("direct_url.json") or "{}")
    except importlib.metadata.PackageNotFoundError:
        return False
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return bool(record.get("archive_info", {}).get("hashes", {}).get("sha256") == digest)


def modules(name: str) -> list[Any]:
    """Return the top-level modules of a package that this process has imported."""
    files = importlib.metadata.distribution(name).files or ()
    names = {file.parts[0].partition(".")[0] for file in files if file.suffix in (".py", ".so")}
    return [sys.modules[module] for module in sorted(names & set(sys.modules))]


def imported(names: Iterable[str]) -> list[str]:
    """Return those of these packages that this process has imported.

    A new version on the disk does not replace what is imported.
    """
    return [name for name in names if modules(name)]


def outdated(row: Row) -> list[str]:
    """Return the row's packages whose version on the disk is not the one that this process has imported."""
    found = []
    for name, version in installed().items():
        said = [getattr(module, "__version__", None) for module in modules(name)] if name in row.brings else []
        if any(isinstance(one, str) and _ordered(one) not in ((), _ordered(version)) for one in said):
            found.append(name)
    return found


def install(row: Row, package: str, dry_run: bool = False, refresh: bool = False) -> list[str]:
    """Install a row's packages, then grpo_colab.

    Returns the names of the packages that changed after this process had imported them, so that it must restart.
    """
    begun = time.monotonic()
    wheel = Path(package) if dry_run else fetch(package, refresh)
    whole = complete(row) and not _unfinished().exists()
    stale = sorted({*([] if whole else _bring(row, dry_run)), *outdated(row)})
    if dry_run:
        print(f"Would install grpo_colab from {package}. Nothing was changed.")
        return []
    if has(wheel):
        print(
            "grpo_colab and everything that it needs are installed already"
            + (": nothing to do." if whole and not stale else ".")
        )
        return stale
    before = installed()
    stale += imported({"grpo-colab"} & before.keys())
    _pip("install", str(wheel), "--force-reinstall")
    _as_expected(before, {"grpo-colab"})
    print(f"grpo_colab {installed()['grpo-colab']} is installed ({time.monotonic() - begun:.0f} s).")
    return stale


def _unfinished() -> Path:
    """Return the path of a file that lists what is being installed, and that exists only meanwhile.

    If it exists at the start, the last installation was killed: what it lists is installed again.
    """
    return cache() / f"unfinished-{hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]}"


def _bring(row: Row, dry_run: bool) -> list[str]:
    runtime = installed()
    if "torch" not in runtime:
        raise InstallError(
            "There is no torch here, and this file is for runtimes that bring their own, as Colab's do. On a machine "
            'of yours: pip install "grpo_colab[train]"'
        )
    print(
        f"Looking at this runtime: {len(runtime)} packages, torch {runtime['torch']}, for {row.name} (some seconds) ..."
    )
    uv = find_uv()
    changes = planned(row, runtime, uv)
    if found := surprises(row, changes):
        way_out = f"use --no-vllm, or {WAY_OUT}" if "vllm" in row.exact else WAY_OUT
        raise InstallError(
            "This runtime is not one that grpo_colab was tested on: packages would change that should not. Nothing was "
            "installed.\n  " + "\n  ".join(found) + f"\nWhat to do: {way_out}."
        )
    for name, (old, new) in sorted(changes.items()):
        print(f"  {name} {f'{old} -> ' if old else ''}{new}")
    if dry_run:
        return []
    stale = imported(name for name, (old, _) in changes.items() if old)
    half_done = _unfinished().read_text().split() if _unfinished().exists() else []
    wanted = sorted({*half_done, *(f"{name}=={new}" for name, (_, new) in changes.items())})
    if not wanted:
        return []
    print(f"Installing these {len(wanted)} ({row.takes}) ...", flush=True)
    _unfinished().write_text("\n".join(wanted))
    try:
        _run_uv(uv, sys.executable, "--no-build", "--no-deps", *(["--reinstall"] if half_done else []), *wanted)
    except InstallError as error:
        if installed() != runtime:
            raise InstallError(f"{error}\nIt stopped half-way: run this again to install everything anew.") from None
        if not half_done:
            _unfinished().unlink()  # uv downloads everything before it changes anything
        raise
    _as_expected(runtime, set(changes), changes)
    _unfinished().unlink()
    return stale


def _as_expected(before: Mapping[str, str], may_change: set[str], changes: Changes | None = None) -> None:
    """Raise InstallError unless what changed on the disk is what was planned."""
    after = installed()
    done = {
        name: (before.get(name), after.get(name))
        for name in before.keys() | after
        if before.get(name) != after.get(name)
    }
    if (changes is not None and done != changes) or not done.keys() <= may_change:
        differ = [name for name in sorted(done.keys() | may_change) if done.get(name) != (changes or {}).get(name)]
        raise InstallError(
            f"The installation changed other packages than planned: {', '.join(differ)}. Start with a fresh "
            "runtime (in Colab: Runtime > Disconnect and delete runtime)."
        )


def _shell() -> Any:
    """Return IPython's shell if this file runs in a notebook's kernel, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def _fail(error: InstallError) -> NoReturn:
    """End with the error's message alone.

    `%run` only shows an error, and the rest of its cell and all cells below go on. So the function that shows it is
    replaced by one that raises it.
    """
    shell = _shell()
    if shell is None:
        print(error, file=sys.stderr)
        raise SystemExit(1)

    def show(*_: object, **__: object) -> NoReturn:
        del shell.showtraceback
        raise error

    if "__file__" in globals():  # there is none if this file was pasted into a cell
        shell.showtraceback = show
    raise error


def _restart(stale: list[str], may_restart: bool) -> None:
    """Restart the kernel, or ask for it, if packages changed that it has imported already."""
    if not stale:
        return
    changed = f"{', '.join(stale)} changed and {'was' if len(stale) == 1 else 'were'} in use here already"
    shell = _shell()
    if shell is None or not may_restart:
        print(f"{changed}: restart the runtime (in Colab: Runtime > Restart session), then run all again.")
        return
    shell.kernel.do_shutdown(True)
    raise Restarting(
        f"{changed}: the runtime restarts now, by itself. When it is back, press Run all again; nothing is installed "
        "twice. (Colab may call this a crash. It is none.)"
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InstallError(
            f"install.py: {message}. It knows --package, --vllm, --no-vllm, --refresh, --dry-run, --no-restart."
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: see the top of this file."""
    parser = _Parser(description="Installs grpo_colab into a notebook's runtime.")
    parser.add_argument(
        "--package", default=f"{REPOSITORY}/archive/refs/heads/main.zip", help="a wheel, folder or address"
    )
    parser.add_argument(
        "--vllm", action=argparse.BooleanOptionalAction, default=False, help="replaces torch; see the top"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--refresh", action="store_true", help="ask --package's address again")
    parser.add_argument("--no-restart", action="store_true", help="never restart the kernel")
    chosen = parser.parse_args(arguments)
    gpu = this_gpu()
    row = pick(gpu, chosen.vllm, sys.version_info[:2])
    if chosen.vllm and gpu and gpu.capability < (8, 0):
        os.environ[FLASHINFER] = "1"  # FlashInfer has no kernels for a T4
    _restart(install(row, chosen.package, chosen.dry_run, chosen.refresh), not chosen.no_restart)


if __name__ == "__main__":
    try:
        main(None if "__file__" in globals() else [])  # in a pasted cell, sys.argv is the kernel's
    except InstallError as failure:
        _fail(failure)
