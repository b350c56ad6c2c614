"""Check the Python environment: Python, the packages' versions, what was imported already, and vLLM."""

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

from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import Answer, Probe, broken, numbers, ok, refused, run, tried, warning
from grpo_colab.utils import stack

STACK: Final = ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "datasets", "accelerate")
COMPILED: Final = ("bitsandbytes", "xformers", "torchvision", "vllm")  # each is built for one version of torch
# Packages that a notebook's kernel may have imported before an installation replaced them. The module of each has the
# package's name.
LOADED: Final = (*STACK, *COMPILED, "torch", "numpy", "pyarrow", "pandas", "torchao", "huggingface_hub", "tokenizers")


def _requirements(package: str, extra: str = "") -> Iterator[Any]:
    """Yield what an installed package requires on this machine, as packaging's Requirements.

    Yields nothing for a package that is not installed.
    """
    from packaging.requirements import Requirement

    if not version_of(package):
        return
    for requirement in map(Requirement, importlib.metadata.requires(package) or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def version_of(package: str) -> str:
    """Return the version of an installed package, or an empty string."""
    return next((found.version or "" for found in importlib.metadata.distributions(name=package)), "")


def _pip_install(requirements: Iterable[Any]) -> str:
    """Return the command that installs the versions that are required."""
    return "`pip install " + " ".join(f'"{r.name}{r.specifier}"' for r in requirements) + "`"


def check_python(probe: Probe) -> Answer:
    """Look whether this version of Python is one that was tested; if not, the state is a warning."""
    found = f"Python {platform.python_version()} on {platform.system()}"
    colab = os.environ.get("COLAB_RELEASE_TAG")
    if colab:
        found += f", Colab {colab}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return warning(found, "this was tested with Python 3.11 to 3.13; take one of them")
    return ok(found)


def check_packages(probe: Probe) -> Answer:
    """Compare the installed versions with those of the train extra, which were tested together.

    The state is broken where a package is not installed, and a warning where it has another version. With a GPU Unsloth
    needs two more packages, which are left out where it is installed for a CPU.
    """
    required = list(_requirements("grpo_colab", "train"))
    if probe.cuda:
        required += [r for r in _requirements("unsloth") if r.name in ("bitsandbytes", "triton")]
    installed = {requirement: version_of(requirement.name) for requirement in required}
    wrong = []
    for requirement, version in installed.items():
        if not version or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(requirement)
    found = [f"{r.name} {installed[r] or 'is not installed'} (tested: {r.specifier})" for r in wrong]
    if not installed or not all(installed.values()):
        return broken(", ".join(found) or "grpo_colab itself is not installed", '`pip install "grpo_colab[train]"`')
    if wrong:
        return warning(", ".join(found), f"it may work; if not: {_pip_install(wrong)}")
    return ok(", ".join(f"{r.name} {version}" for r, version in installed.items() if r.name in STACK))


def check_conflicts(probe: Probe) -> Answer:
    """Look for installed packages of a version that another package does not accept.

    The state is broken where torch is among them, and a warning for all others. A required package that is not
    installed is no conflict: it may be left out on purpose.
    """
    unmet = {}
    for owner in (*STACK, *COMPILED):
        for requirement in _requirements(owner):
            installed = version_of(requirement.name)
            # Unsloth requires a version of certifi that the package index may not have yet.
            if requirement.name == "certifi" or not installed:
                continue
            if not requirement.specifier.contains(installed, prereleases=True):
                conflict = f"{owner} asks for {requirement.name}{requirement.specifier}, not {installed}"
                unmet[conflict] = requirement
    if not unmet:
        return ok("the packages' requirements of each other are met")
    state = broken if any(requirement.name == "torch" for requirement in unmet.values()) else warning
    return state("; ".join(unmet), f"{_pip_install(unmet.values())}, and restart the runtime")


def check_in_memory(probe: Probe) -> Answer:
    """Compare the imported versions with the installed ones: a notebook's kernel keeps what it imported before.

    The state is a warning where they differ. Nothing is imported.
    """
    old = []
    for name in LOADED:
        imported = str(getattr(sys.modules.get(name), "__version__", ""))
        installed = version_of(name)
        if imported and installed and imported.partition("+")[0] != installed.partition("+")[0]:
            old.append(f"{name} {imported} is in memory, {installed} is installed")
    if old:
        return warning("; ".join(old), "restart the runtime (Runtime > Restart session), and begin again from the top")
    return ok("what is in memory is what is installed")


def check_import_order(probe: Probe) -> Answer:
    """Look whether a library was imported before unsloth that must come after it; if so, the state is broken."""
    error = tried(limits.ANSWER_S, stack.check_import_order)
    return refused(error) if error else ok("nothing was imported before unsloth that must come after it")


def check_vllm(probe: Probe) -> Answer:
    """Look whether vLLM is installed where the recipe wants it, can be imported, and is a version that TRL supports.

    It is imported in a process of its own, within VLLM_S seconds. The state is broken where the import fails or vLLM is
    built for another CUDA than torch, and a warning where the import takes longer. For the rest see `_without_vllm` and
    `_check_vllm_version`.
    """
    version = version_of("vllm")
    supported = next((r.specifier for r in _requirements("trl", "vllm") if r.name == "vllm"), "")
    if not version:
        return _without_vllm(probe, supported)
    found, without = f"vllm {version}", "`pip uninstall vllm`, and generate without it"
    try:
        trouble = _wrong_cuda(probe)
        if trouble:
            return broken(f"{found} {trouble}", without)
        # TRL and Unsloth import these.
        run(limits.VLLM_S, sys.executable, "-P", "-c", "from vllm import LLM, SamplingParams")
    except subprocess.TimeoutExpired:
        return warning(f"{found}: its import takes more than {limits.VLLM_S:.0f} s", f"wait for it, or {without}")
    except subprocess.CalledProcessError as error:
        printed = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        return broken(f"{found} cannot be imported ({printed[-1][:200]})", without)
    return _check_vllm_version(probe, version, supported)


def _without_vllm(probe: Probe, supported: Any) -> Answer:
    """Return the answer where vLLM is not installed; `supported` are the versions that TRL supports.

    The state is a warning where the recipe wants vLLM, and ok otherwise. In Colab it is always ok: vLLM needs another
    torch than Colab's, so the installer leaves it out.
    """
    if not probe.wants_vllm:
        return ok("not installed, and not asked for")
    found = "not installed, so that generation takes longer"
    if os.environ.get("COLAB_RELEASE_TAG"):
        return ok(f"{found}; `%run install.py --vllm` adds it, and moves torch")
    line = f'`pip install "vllm{supported}" vllm-bnb-plugin` into a new environment, since it brings a torch of its own'
    return warning(found, f"write model.fast_inference = false; or {line}")


def _wrong_cuda(probe: Probe) -> str:
    """Return how the CUDA that vLLM is built for differs from torch's, or an empty string where both are the same.

    The string is empty also where one of them cannot be told. pip installs vLLM whatever CUDA it is built for, and its
    import may only warn. vLLM's compiled files are searched, not imported.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None or not probe.built_for:
        return ""
    for library in Path(spec.origin or "").parent.glob("_C*.so"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            match = re.search(rb"libcudart\.so\.(\d+)", content)
            needed = match[1].decode() if match else ""
        if needed and needed != probe.built_for.partition(".")[0]:
            return f"is built for CUDA {needed}, and torch for {probe.built_for}"
    return ""


def _check_vllm_version(probe: Probe, version: str, supported: Any) -> Answer:
    """Look whether TRL supports this version of vLLM, and whether it loads 4-bit models where the recipe has one.

    The state is a warning for a version that TRL does not support, and broken where vLLM cannot load the recipe's
    model.
    """
    found, plain = f"vllm {version}", version.partition("+")[0]
    if supported and not supported.contains(plain, True):
        return warning(f"{found}; TRL supports {supported}", f'`pip install "vllm{supported}"`')
    # From 0.28 on vLLM needs a plugin for the 4-bit models of bitsandbytes.
    loads_model = version_of("vllm-bnb-plugin") or numbers(plain) < (0, 28) or not probe.in_4_bits
    if probe.wants_vllm and not loads_model:
        return broken(f"{found} loads 4-bit models with vllm-bnb-plugin alone", "`pip install vllm-bnb-plugin`")
    return ok(found)
