"""The doctor's checks of the environment: Python, the packages' versions, what is in memory, and vLLM."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import mmap
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import grpo_colab.doctor.findings as limits
from grpo_colab.doctor.findings import Answer, Probe, broken, numbers, ok, refused, run, tried, warning
from grpo_colab.utils import stack

VLLM_S = 90.0  # for its import, which reads gigabytes
STACK: Final = ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "datasets", "accelerate")
COMPILED: Final = ("bitsandbytes", "xformers", "torchvision", "vllm")  # each against one torch
# What a kernel may have imported before an install changed it, where the module is called as its package.
LOADED: Final = (*STACK, *COMPILED, "torch", "numpy", "pyarrow", "pandas", "torchao", "huggingface_hub", "tokenizers")


def _requirements(package: str, extra: str = "") -> Iterator[Any]:
    """Yield what an installed package requires here, as packaging's Requirements; nothing if it is not installed."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, (importlib.metadata.requires(package) or ()) if version_of(package) else ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def version_of(package: str) -> str:
    """Return the version of an installed package, or an empty string."""
    return next((found.version or "" for found in importlib.metadata.distributions(name=package)), "")


def _pip(requirements: Iterable[Any]) -> str:
    return "`pip install " + " ".join(f'"{r.name}{r.specifier}"' for r in requirements) + "`"


def check_python(probe: Probe) -> Answer:
    colab = os.environ.get("COLAB_RELEASE_TAG")
    found = f"Python {platform.python_version()} on {platform.system()}{f', Colab {colab}' if colab else ''}"
    tested = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return ok(found) if tested else warning(found, "this was tested with Python 3.11 to 3.13; take one of them")


def check_packages(probe: Probe) -> Answer:
    """Compare with the train extra, which is the tested set.

    On a card Unsloth needs two more packages, which are left out where it is installed for a CPU.
    """
    more = [r for r in _requirements("unsloth") if probe.cuda and r.name in ("bitsandbytes", "triton")]
    have = {requirement: version_of(requirement.name) for requirement in (*_requirements("grpo_colab", "train"), *more)}
    wrong = [r for r, version in have.items() if not version or not r.specifier.contains(version, prereleases=True)]
    found = [f"{r.name} {have[r] or 'is not installed'} (tested: {r.specifier})" for r in wrong]
    if not have or not all(have.values()):
        return broken(", ".join(found) or "grpo_colab itself is not installed", '`pip install "grpo_colab[train]"`')
    if wrong:
        return warning(", ".join(found), f"it may work; if not: {_pip(wrong)}")
    return ok(", ".join(f"{r.name} {version}" for r, version in have.items() if r.name in STACK))


def check_conflicts(probe: Probe) -> Answer:
    """Look for conflicts between what is installed; what is asked for and missing may be left out on purpose."""
    unmet = {  # without certifi, of which Unsloth asks for one that the package index may not have yet
        f"{owner} asks for {r.name}{r.specifier}, not {have}": r
        for owner in (*STACK, *COMPILED)
        for r in _requirements(owner)
        if r.name != "certifi" and (have := version_of(r.name)) and not r.specifier.contains(have, True)
    }
    if not unmet:
        return ok("the packages' requirements of each other are met")
    state = broken if any(r.name == "torch" for r in unmet.values()) else warning
    return state("; ".join(unmet), f"{_pip(unmet.values())}, and restart the runtime")


def check_in_memory(probe: Probe) -> Answer:
    """Compare what is in memory with what is installed: a notebook's kernel keeps what it imported before."""
    old = []
    for name in LOADED:
        memory, disk = str(getattr(sys.modules.get(name), "__version__", "")), version_of(name)
        if memory and disk and memory.partition("+")[0] != disk.partition("+")[0]:
            old.append(f"{name} {memory} is in memory, {disk} is installed")
    again = "restart the runtime (Runtime > Restart session), and begin again from the top"
    return warning("; ".join(old), again) if old else ok("what is in memory is what is installed")


def check_import_order(probe: Probe) -> Answer:
    error = tried(limits.ANSWER_S, stack.check_import_order)
    return refused(error) if error else ok("nothing was imported before unsloth that must come after it")


def check_vllm(probe: Probe) -> Answer:
    version = version_of("vllm")
    range_ = next((r.specifier for r in _requirements("trl", "vllm") if r.name == "vllm"), "")
    if not version:
        return _without_vllm(probe, range_)
    found, without = f"vllm {version}", "`pip uninstall vllm`, and generate without it"
    try:
        if trouble := _vllm_trouble(probe):
            return broken(f"{found} {trouble}", without)
        run(VLLM_S, sys.executable, "-P", "-c", "from vllm import LLM, SamplingParams")  # as TRL and Unsloth do
    except subprocess.TimeoutExpired:
        return warning(f"{found}: its import takes more than {VLLM_S:.0f} s", f"wait for it, or {without}")
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        return broken(f"{found} cannot be imported ({said[-1][:200]})", without)
    return _vllm_fits(probe, version, range_)


def _without_vllm(probe: Probe, range_: Any) -> Answer:
    """Judge that vLLM is not installed.

    In Colab that is as it should be: its torch is not the one that vLLM needs, and the installer leaves it out.
    """
    if not probe.wants_vllm:
        return ok("not installed, and not asked for")
    found = "not installed, so that generation takes longer"
    if os.environ.get("COLAB_RELEASE_TAG"):
        return ok(f"{found}; `%run install.py --vllm` adds it, and moves torch")
    line = f'`pip install "vllm{range_}" vllm-bnb-plugin` into a new environment, since it brings a torch of its own'
    return warning(found, f"write model.fast_inference = false; or {line}")


def _vllm_trouble(probe: Probe) -> str:
    """Return what is wrong with the CUDA that vLLM is built for, or an empty string.

    pip installs it for any, and its import may only warn about it.
    """
    spec = importlib.util.find_spec("vllm")
    for library in Path(spec.origin or "").parent.glob("_C*.so") if spec and probe.built_for else ():
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            needed = next((match[1].decode() for match in re.finditer(rb"libcudart\.so\.(\d+)", content)), "")
        if needed and needed != probe.built_for.partition(".")[0]:
            return f"is built for CUDA {needed}, and torch for {probe.built_for}"
    return ""


def _vllm_fits(probe: Probe, version: str, range_: Any) -> Answer:
    found, plain = f"vllm {version}", version.partition("+")[0]
    if range_ and not range_.contains(plain, True):
        return warning(f"{found}; TRL supports {range_}", f'`pip install "vllm{range_}"`')
    able = version_of("vllm-bnb-plugin") or numbers(plain) < (0, 28) or not probe.model("load_in_4bit")
    if probe.wants_vllm and not able:
        return broken(f"{found} loads 4-bit models with vllm-bnb-plugin alone", "`pip install vllm-bnb-plugin`")
    return ok(found)
