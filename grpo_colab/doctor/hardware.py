"""Check the machine: the GPU, its driver, the torch built for it, memory, disks, and other runs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

from grpo_colab import plan
from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import Answer, Card, Probe, broken, numbers, ok, refused, run, tried, warning
from grpo_colab.doctor.packages import version_of
from grpo_colab.errors import SettingError, one_line
from grpo_colab.plan.disk import free_bytes
from grpo_colab.plan.start import weights_are_cached
from grpo_colab.runs.folders import RUNS, free_path
from grpo_colab.runs.lock import holder
from grpo_colab.runs.run import Run

# The oldest driver that runs any CUDA of a major version, by NVIDIA's minor version compatibility.
OLDEST_DRIVER: Final = {"11": 450, "12": 525, "13": 580}


def cards_here(torch: Any) -> tuple[list[Card], str]:
    """Return the GPUs that this process may use, and why nvidia-smi reports none, which may be empty.

    They come from nvidia-smi or, where that fails, from `torch`, the module; it is None where torch can use no GPU. The
    list is empty where CUDA_VISIBLE_DEVICES hides all GPUs, and where nvidia-smi fails and `torch` is None.
    """
    visible, trouble = os.environ.get("CUDA_VISIBLE_DEVICES"), ""
    if visible is not None and (not visible or visible.startswith("-")):
        return [], "CUDA_VISIBLE_DEVICES hides all"
    query = "--query-gpu=name,memory.total,memory.free,driver_version"
    chosen = ["-i", visible] if visible else []
    try:
        rows = _query_nvidia_smi(query, *chosen)
        # Drivers before 510 do not know this field.
        with contextlib.suppress(subprocess.CalledProcessError):
            rows = _query_nvidia_smi(f"{query},compute_cap", *chosen)
        return [Card(row[0], _mib(row[1]), _mib(row[2]), row[3], numbers("".join(row[4:]))) for row in rows], ""
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        if not isinstance(error, FileNotFoundError):
            printed = error.output if isinstance(error, subprocess.CalledProcessError) else ""
            trouble = (printed.strip() or one_line(error)).partition("\n")[0]
    cards = []
    for index in range(torch.cuda.device_count() if torch else 0):
        device = torch.cuda.get_device_properties(index)
        cards.append(Card(device.name, device.total_memory >> 20, 0, "", (device.major, device.minor)))
    return cards, trouble


def _query_nvidia_smi(*arguments: str) -> list[list[str]]:
    """Return the rows of a query to nvidia-smi, each as the texts of its fields.

    Raises FileNotFoundError where it is not installed, CalledProcessError where it fails, and TimeoutExpired where it
    takes more than half of a check's limit.
    """
    printed = run(limits.LIMIT_S / 2, "nvidia-smi", *arguments, "--format=csv,noheader,nounits")
    return [line.split(", ") for line in printed.splitlines() if line.strip()]


def _mib(text: str) -> float:
    """Return the number in a field of nvidia-smi, or 0 for fields such as [N/A] and [Not Supported]."""
    return float(text) if re.fullmatch(r"[\d.]+", text) else 0.0


def check_gpu(probe: Probe) -> Answer:
    """Look for a GPU. Without one the CPU trains, and `check_fit` tells whether and how long.

    The state is a warning where there seems to be a GPU that cannot be used, and the recipe's model comes from the hub.
    """
    if probe.cards:
        memory = f", {probe.cards[0].total / 1024:.1f} GiB" if probe.cards[0].total else ""
        more = f" and {len(probe.cards) - 1} more" if probe.cards[1:] else ""
        return ok(probe.cards[0].name + memory + more)
    if probe.trouble and probe.hub_name:
        advice = "look what `nvidia-smi` and CUDA_VISIBLE_DEVICES say; in Colab: Runtime > Change runtime type"
        return warning(f"none ({probe.trouble}); the CPU trains", advice)
    found = f"none{f' ({probe.trouble})' if probe.trouble else ''}"
    return ok(f"{found}; the CPU trains" if probe.recipe else f"{found}; a tiny model learns on the CPU")


def check_torch(probe: Probe) -> Answer:
    """Look whether torch can be imported and, where there is a GPU, is built for CUDA; if not, it is broken."""
    # It is an exception, or an empty module where an uninstall left torch's folder behind.
    if not hasattr(probe.torch, "__version__"):
        return broken(f"cannot be imported ({one_line(probe.torch)})", "`pip install --force-reinstall torch`")
    cuda = f"CUDA {probe.built_for}" if probe.built_for else "no CUDA"
    found = f"torch {probe.torch.__version__}, built for {cuda}"
    if probe.built_for or probe.cuda or not probe.cards:
        return ok(found)
    line = f"`pip install --force-reinstall torch=={str(probe.torch.__version__).partition('+')[0]}`"
    return broken(f"{found}, so that it cannot use the card", f"{line}: on Linux the index's own build is for CUDA")


def check_driver(probe: Probe) -> Answer:
    """Look whether the driver is new enough for the CUDA that torch is built for.

    The state is broken where it is too old, and where torch sees no GPU for another reason. Needs a GPU.
    """
    found = f"driver {probe.cards[0].driver or 'of an unknown version'}"
    if probe.cuda or not probe.built_for:
        return ok(f"{found}, which torch can use" if probe.cuda else found)
    oldest = OLDEST_DRIVER.get(probe.built_for.partition(".")[0], 0)
    if numbers(probe.cards[0].driver)[:1] < (oldest,):
        found += f", but torch is built for CUDA {probe.built_for}, which needs {oldest} or newer"
        return broken(found, "update the driver, or install a torch that is built for an older CUDA")
    return broken(f"{found}, but torch sees no card", "restart the machine; in Colab: Runtime > Disconnect and delete")


def check_capability(probe: Probe) -> Answer:
    """Look whether torch, bitsandbytes, vLLM and Unsloth support the GPU's compute capability.

    The state is broken where torch has no kernels for it, or where the recipe asks for what it cannot do. It is a
    warning where Unsloth is slow with it. A capability that is not known is ok. Needs a GPU, and looks at the first.
    """
    card = probe.cards[0].capability
    found = ".".join(map(str, card))
    architectures = " ".join(probe.torch.cuda.get_arch_list()) if probe.cuda else ""
    built = re.findall(r"(sm|compute)_(\d+)(\d)", architectures)
    if card and built and not any(_runs_on(card, *architecture) for architecture in built):
        return broken(f"{found}, for which this torch has no kernels", "take a newer card, or an older torch")
    if () < card < (6, 0) and probe.in_4_bits:
        return broken(f"{found}; bitsandbytes needs 6.0", "take a newer card, or write model.load_in_4bit = false")
    if () < card < (7, 5) and probe.wants_vllm and version_of("vllm"):
        return broken(f"{found}; vLLM needs 7.5", "write model.fast_inference = false")
    if () < card < (7, 0):
        return warning(f"{found}; below 7.0 Unsloth trains without torch.compile", "expect it to be slow")
    return ok(found or "not told")


def _runs_on(card: tuple[int, ...], kind: str, major: str, minor: str) -> bool:
    """Tell whether code that was built for an architecture, such as ("sm", "8", "6"), runs on a GPU.

    Machine code ("sm") runs on later GPUs of its own generation, and PTX ("compute") on all later GPUs.
    """
    return (int(major), int(minor)) <= card and (kind == "compute" or int(major) == card[0])


def check_bfloat16(probe: Probe) -> Answer:
    """Look whether the GPU computes in bfloat16; without it, a recipe that asks for it is broken.

    Without it and without such a recipe the state is ok, since float16 is taken. Needs a GPU, and looks at the first.
    """
    if not () < probe.cards[0].capability < (8, 0):
        return ok("yes")
    if probe.model("dtype") == "bfloat16":
        return broken("no, but model.dtype = 'bfloat16'", "leave model.dtype out, and float16 is taken by itself")
    return ok("no; float16 is taken by itself")


def check_gpu_memory(probe: Probe) -> Answer:
    """Look at the GPU with the least free memory, and for the processes that hold memory.

    The state is a warning where less than 90 % is free, and ok where the free memory is not known. Needs a GPU, and
    runs nvidia-smi.
    """
    fullest = min(probe.cards, key=lambda card: card.free)
    total, free = fullest.total / 1024, fullest.free / 1024
    found = [f"{free:.1f} of {total:.1f} GiB free"]
    if free >= 0.9 * total or not free:
        return ok(found[0] if free else "not told")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        for row in _query_nvidia_smi("--query-compute-apps=pid,process_name,used_memory"):
            if len(row) < 3:
                continue
            pid, name, used = row
            who = "this process" if pid == str(os.getpid()) else f"process {pid} ({name})"
            found.append(f"{who} has {used} MiB")
    advice = "end what uses it" if found[1:] else "look at `nvidia-smi` for what uses it"
    return warning("; ".join(found), f"{advice}; in a notebook: Runtime > Restart session")


def check_disk(probe: Probe) -> Answer:
    """Look whether the working folder's disk has room for the recipe's run.

    The state is broken where the run does not fit, and a warning where it fits, or there is no recipe, and at most 1
    GiB is free.
    """
    _, free = free_bytes(Path.cwd())
    if probe.recipe:
        error = tried(limits.ANSWER_S, plan.check_disk, probe.recipe, free_path(probe.recipe))
        if error:
            return refused(error)
    found = f"{free / plan.GIB:.1f} GiB free in the working folder"
    return ok(found) if free > plan.GIB else warning(found, "free some: a run keeps its checkpoints there")


def check_model_cache(probe: Probe) -> Answer:
    """Look whether the disk of the hub's cache has room for the recipe's model, whose size its name tells.

    The state is broken where it has not. It is ok for a model whose weights are in the cache, that is not on the hub,
    or that has no size in its name.
    """
    from huggingface_hub import constants

    folder, name = Path(constants.HF_HUB_CACHE), probe.hub_name
    disk, free = free_bytes(folder)
    found = f"{free / plan.GIB:.1f} GiB free in {disk}"
    size = re.search(r"(\d+(?:\.\d+)?)b\b", name, re.IGNORECASE)
    # Unsloth has 4-bit copies of its own models, with embeddings in 16 bits. All others are downloaded in 16 bits.
    four_bit_copy = probe.in_4_bits and name.startswith("unsloth/")
    if size is None or weights_are_cached(name, four_bit_copy):
        return ok(found)
    need = float(size[1]) * 1e9 * (0.75 if four_bit_copy else 2)
    found += f"; the model takes about {need / plan.GIB:.0f}"
    return ok(found) if free > need else broken(found, "free some, or set HF_HOME to a folder on a larger disk")


def check_ram(probe: Probe) -> Answer:
    """Look whether there is enough free RAM to load the recipe's model; if not, the state is a warning.

    A model from the hub needs 4 GiB, any other 2 GiB.
    """
    import psutil

    free = psutil.virtual_memory().available / plan.GIB
    need = 4 if probe.hub_name else 2
    found = f"{free:.1f} GiB free"
    return ok(found) if free >= need else warning(found, f"loading takes about {need}; end other programs first")


def check_other_runs(probe: Probe) -> Answer:
    """Look for runs in the working folder's runs/ that another process is training: a warning, if there are any."""
    held = []
    for folder in sorted(RUNS.iterdir()) if RUNS.is_dir() else []:
        with contextlib.suppress(SettingError, OSError):
            process = holder(Run(folder).path)
            if process.running:
                held.append(f"{folder} is being trained by process {process.pid or '?'}")
    wait = "wait for it, or stop it (it saves first): two share the memory"
    return warning("; ".join(held), wait) if held else ok("none in this folder")
