"""Whether a recipe can be trained here, asked before anything is downloaded: `grpo-colab doctor`.

Nothing here raises, asks a person, or waits longer than its limit. unsloth, trl, transformers and peft stay unimported,
so that unsloth can still come first: their versions are read off their metadata, and vLLM, whose import may crash, is
tried in a process of its own. `import unsloth` is not tried: what would break it is looked at by itself, and it takes a
quarter of a minute, and memory on the card, to say the same.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import mmap
import netrc
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from grpo_colab import plan, policy
from grpo_colab.console import masked, on_one_line
from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe import Recipe
from grpo_colab.run import RUNS, Run, free_path
from grpo_colab.run_lock import holder
from grpo_colab.tasks.gsm8k import HUB_CONFIGURATION, HUB_NAME
from grpo_colab.tracking import within

ANSWER_S: Final = 5.0  # for an answer from outside
LIMIT_S: Final = 20.0  # for a whole check, with what it imports
VLLM_S: Final = 90.0  # for its import, which reads gigabytes
# NVIDIA's minor version compatibility: the oldest driver that runs any CUDA of that major version
OLDEST_DRIVER: Final = {"11": 450, "12": 525, "13": 580}
STACK: Final = ("unsloth", "unsloth_zoo", "trl", "transformers", "peft", "datasets", "accelerate")
COMPILED: Final = ("bitsandbytes", "xformers", "torchvision", "vllm")  # each against one torch
# What a kernel may have imported before an install changed it, where the module is called as its package.
LOADED: Final = (*STACK, *COMPILED, "torch", "numpy", "pyarrow", "pandas", "torchao", "huggingface_hub", "tokenizers")
COLOURS: Final = {"ok": 32, "warning": 33, "broken": 31}

State = Literal["ok", "warning", "broken"]
Answer = tuple[State, str, str]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was found, and what to do about it unless it is ok."""

    name: str
    state: State
    found: str
    advice: str


class Card(NamedTuple):
    """A GPU that this process may use, as nvidia-smi tells it; memory in MiB, and 0, "" or () where it is not told."""

    name: str
    total: float
    free: float
    driver: str
    capability: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """What several checks look at."""

    recipe: Recipe | None
    cards: list[Card]
    trouble: str  # what nvidia-smi says where it tells of no card
    torch: Any  # the module, or the exception that its import raised
    cuda: bool  # whether torch can use a card

    def model(self, key: str) -> Any:
        return self.recipe.model.get(key) if self.recipe else None

    @property
    def hub_name(self) -> str:
        """The recipe's model, where it has to come from the hub, or an empty string."""
        return "" if not self.recipe or policy.is_local(self.recipe.model_path) else self.recipe.model_path

    @property
    def wants_vllm(self) -> bool:
        return bool(self.model("fast_inference")) and self.cuda

    @property
    def built_for(self) -> str:
        """The CUDA that torch is built for, or an empty string."""
        return getattr(getattr(self.torch, "version", None), "cuda", None) or ""


def doctor(recipe: Recipe | None = None) -> list[Check]:
    """Look at the machine, the environment and, with a recipe, at what that needs beyond them."""
    torch = _tried(LIMIT_S * 3, importlib.import_module, "torch")
    cuda = hasattr(torch, "cuda") and _tried(LIMIT_S, torch.cuda.is_available) is True
    told = _tried(LIMIT_S, _cards, torch if cuda else None)
    cards, trouble = ([], one_line(told)) if isinstance(told, Exception) else told
    seen = Seen(recipe, cards, trouble, torch, cuda)
    with ThreadPoolExecutor(len(CHECKS)) as pool:  # side by side: what waits, waits for the world
        return list(pool.map(_checked, CHECKS, [seen] * len(CHECKS)))


def doctor_text(checks: list[Check], colour: bool = False) -> str:
    """The checks in aligned lines, each with its advice below it, and how many of them are not ok."""
    width, lines = max(len(check.name) for check in checks) + 2, []
    for check in checks:
        mark = f"\033[{COLOURS[check.state]}m{check.state:<9}\033[0m" if colour else f"{check.state:<9}"
        lines += [f"{mark}{check.name:<{width}}{check.found}"]
        lines += [f"{'':<{width + 9}}-> {check.advice}"] if check.advice else []
    warnings, broken = ([check.state for check in checks].count(state) for state in ("warning", "broken"))
    counts = [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings) + [f"{broken} broken"] * bool(broken)
    return "\n".join([*lines, ", ".join(counts) or "All is well"])


def _checked(check: Callable[[Seen], Answer], seen: Seen) -> Check:
    """A check's line, whatever becomes of the check."""
    answer: Any = _ok("no card")
    if seen.cards or check not in OF_A_CARD:
        answer = _tried(VLLM_S + LIMIT_S if check is check_vllm else LIMIT_S, check, seen)
    if isinstance(answer, ModuleNotFoundError):
        answer = _warning(f"{answer.name} is not installed", '`pip install "grpo_colab[train]"`')
    elif isinstance(answer, Exception):
        answer = _warning(f"could not be looked at ({one_line(answer)})", "look at it yourself, or go on without")
    state, found, advice = answer
    name = check.__name__.removeprefix("check_").replace("_", " ")
    return Check(name, state, _safe(found, seen), _safe(advice, seen))


def _tried(limit_s: float, function: Callable[..., Any], *args: Any) -> Any:
    """What it returns, or the exception that it raised."""
    try:
        return within(limit_s, function, *args)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return error


def _safe(text: str, seen: Seen) -> str:
    """On one line, without a terminal's escapes, and without a secret that some error quoted."""
    secrets = [value for name, value in os.environ.items() if re.search("TOKEN|KEY|SECRET|PASSWORD", name)]
    for secret in (*secrets, str(seen.model("token") or "")):
        text = text.replace(secret, "***") if len(secret) >= 8 else text
    return on_one_line(masked(text))


def _ok(found: str) -> Answer:
    return "ok", found, ""


def _warning(found: str, advice: str) -> Answer:
    return "warning", found, advice


def _broken(found: str, advice: str) -> Answer:
    return "broken", found, advice


def _cards(torch: Any) -> tuple[list[Card], str]:
    """The cards that this process may use, as nvidia-smi or else torch tells, and why nvidia-smi tells of none."""
    visible, trouble = os.environ.get("CUDA_VISIBLE_DEVICES"), ""
    if visible is not None and (not visible or visible.startswith("-")):
        return [], "CUDA_VISIBLE_DEVICES hides all"
    told, chosen = "--query-gpu=name,memory.total,memory.free,driver_version", ["-i", visible] if visible else []
    try:
        rows = _smi(told, *chosen)
        with contextlib.suppress(subprocess.CalledProcessError):  # drivers before 510 do not know the field
            rows = _smi(f"{told},compute_cap", *chosen)
        return [Card(row[0], _mib(row[1]), _mib(row[2]), row[3], _numbers("".join(row[4:]))) for row in rows], ""
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        if not isinstance(error, FileNotFoundError):
            said = error.output if isinstance(error, subprocess.CalledProcessError) else ""
            trouble = (said.strip() or one_line(error)).partition("\n")[0]
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())] if torch else []
    return [Card(d.name, d.total_memory >> 20, 0, "", (d.major, d.minor)) for d in devices], trouble


def _smi(*arguments: str) -> list[list[str]]:
    """The rows of a query to nvidia-smi; FileNotFoundError where there is none."""
    said = _run(LIMIT_S / 2, "nvidia-smi", *arguments, "--format=csv,noheader,nounits")
    return [line.split(", ") for line in said.splitlines() if line.strip()]


def _run(limit_s: float, *command: str) -> str:
    """What a program prints; CalledProcessError or TimeoutExpired with what it said until then."""
    text: Any = {"text": True, "errors": "replace", "stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, timeout=limit_s, check=True, **text).stdout


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _mib(text: str) -> float:
    return float(text) if re.fullmatch(r"[\d.]+", text) else 0.0  # [N/A], [Not Supported]


def _requirements(package: str, extra: str = "") -> Iterator[Any]:
    """What an installed package requires here, as packaging's Requirements; nothing of one that is not installed."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, (importlib.metadata.requires(package) or ()) if _version(package) else ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _version(package: str) -> str:
    """Of an installed package, or an empty string."""
    return next((found.version or "" for found in importlib.metadata.distributions(name=package)), "")


def _pip(requirements: Iterable[Any]) -> str:
    return "`pip install " + " ".join(f'"{r.name}{r.specifier}"' for r in requirements) + "`"


def check_python(seen: Seen) -> Answer:
    colab = os.environ.get("COLAB_RELEASE_TAG")
    found = f"Python {platform.python_version()} on {platform.system()}{f', Colab {colab}' if colab else ''}"
    tested = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return _ok(found) if tested else _warning(found, "this was tested with Python 3.11 to 3.13; take one of them")


def check_packages(seen: Seen) -> Answer:
    """The train extra is the tested set; on a card Unsloth needs two more, which are left out where it is for a CPU."""
    more = [r for r in _requirements("unsloth") if seen.cuda and r.name in ("bitsandbytes", "triton")]
    have = {requirement: _version(requirement.name) for requirement in (*_requirements("grpo_colab", "train"), *more)}
    wrong = [r for r, version in have.items() if not version or not r.specifier.contains(version, prereleases=True)]
    found = [f"{r.name} {have[r] or 'is not installed'} (tested: {r.specifier})" for r in wrong]
    if not have or not all(have.values()):
        return _broken(", ".join(found) or "grpo_colab itself is not installed", '`pip install "grpo_colab[train]"`')
    if wrong:
        return _warning(", ".join(found), f"it may work; if not: {_pip(wrong)}")
    return _ok(", ".join(f"{r.name} {version}" for r, version in have.items() if r.name in STACK))


def check_conflicts(seen: Seen) -> Answer:
    """Between what is installed; what an owner asks for and is not there may be left out on purpose."""
    unmet = {  # without certifi, of which Unsloth asks for one that the package index may not have yet
        f"{owner} asks for {r.name}{r.specifier}, not {have}": r
        for owner in (*STACK, *COMPILED)
        for r in _requirements(owner)
        if r.name != "certifi" and (have := _version(r.name)) and not r.specifier.contains(have, True)
    }
    if not unmet:
        return _ok("the packages' requirements of each other are met")
    state = _broken if any(r.name == "torch" for r in unmet.values()) else _warning
    return state("; ".join(unmet), f"{_pip(unmet.values())}, and restart the runtime")


def check_in_memory(seen: Seen) -> Answer:
    """A notebook's kernel keeps what it imported before an install."""
    old = []
    for name in LOADED:
        memory, disk = str(getattr(sys.modules.get(name), "__version__", "")), _version(name)
        if memory and disk and memory.partition("+")[0] != disk.partition("+")[0]:
            old.append(f"{name} {memory} is in memory, {disk} is installed")
    again = "restart the runtime (Runtime > Restart session), and begin again from the top"
    return _warning("; ".join(old), again) if old else _ok("what is in memory is what is installed")


def check_import_order(seen: Seen) -> Answer:
    error = _tried(ANSWER_S, policy.check_import_order)
    return _broken(*str(error).split("; ", 1)) if error else _ok("nothing came before unsloth that must come after it")


def check_gpu(seen: Seen) -> Answer:
    if seen.cards:
        memory = f", {seen.cards[0].total / 1024:.1f} GiB" if seen.cards[0].total else ""
        more = f" and {len(seen.cards) - 1} more" if seen.cards[1:] else ""
        return _ok(seen.cards[0].name + memory + more)
    found = f"none{f' ({seen.trouble})' if seen.trouble else ''}"
    if not (seen.model("load_in_4bit") or seen.hub_name):
        return _ok(f"{found}; a tiny model learns on the CPU")
    why = "model.load_in_4bit = true" if seen.model("load_in_4bit") else f"model.model_name = {seen.hub_name!r}"
    advice = "in Colab: Runtime > Change runtime type > T4 GPU (or better); or train a recipe for the CPU: gsm8k-tiny"
    return _broken(f"{found}, but {why} needs one", advice)


def check_torch(seen: Seen) -> Answer:
    if not hasattr(seen.torch, "__version__"):  # an exception, or what an uninstall left of the folder
        return _broken(f"cannot be imported ({one_line(seen.torch)})", "`pip install --force-reinstall torch`")
    found = f"torch {seen.torch.__version__}, built for {f'CUDA {seen.built_for}' if seen.built_for else 'no CUDA'}"
    if seen.built_for or seen.cuda or not seen.cards:
        return _ok(found)
    line = f"`pip install --force-reinstall torch=={str(seen.torch.__version__).partition('+')[0]}`"
    return _broken(f"{found}, so that it cannot use the card", f"{line}: on Linux the index's own build is for CUDA")


def check_driver(seen: Seen) -> Answer:
    found = f"driver {seen.cards[0].driver or 'of an unknown version'}"
    if seen.cuda or not seen.built_for:
        return _ok(f"{found}, which torch can use" if seen.cuda else found)
    oldest = OLDEST_DRIVER.get(seen.built_for.partition(".")[0], 0)
    if _numbers(seen.cards[0].driver)[:1] < (oldest,):
        found += f", but torch is built for CUDA {seen.built_for}, which needs {oldest} or newer"
        return _broken(found, "update the driver, or install a torch that is built for an older CUDA")
    return _broken(f"{found}, but torch sees no card", "restart the machine; in Colab: Runtime > Disconnect and delete")


def check_capability(seen: Seen) -> Answer:
    card = seen.cards[0].capability
    found = ".".join(map(str, card))
    built = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(seen.torch.cuda.get_arch_list()) if seen.cuda else "")
    # machine code runs on its own generation from its own number on; PTX ("compute") on all later ones
    able = [(int(a), int(b)) <= card and (kind == "compute" or int(a) == card[0]) for kind, a, b in built]
    if card and built and not any(able):
        return _broken(f"{found}, for which this torch has no kernels", "take a newer card, or an older torch")
    if () < card < (6, 0) and seen.model("load_in_4bit"):
        return _broken(f"{found}; bitsandbytes needs 6.0", "take a newer card, or write model.load_in_4bit = false")
    if () < card < (7, 5) and seen.wants_vllm and _version("vllm"):
        return _broken(f"{found}; vLLM needs 7.5", "write model.fast_inference = false")
    if () < card < (7, 0):
        return _warning(f"{found}; below 7.0 Unsloth trains without torch.compile", "expect it to be slow")
    return _ok(found or "not told")


def check_bfloat16(seen: Seen) -> Answer:
    if not () < seen.cards[0].capability < (8, 0):
        return _ok("yes")
    if seen.model("dtype") == "bfloat16":
        return _broken("no, but model.dtype = 'bfloat16'", "leave model.dtype out, and float16 is taken by itself")
    return _ok("no; float16 is taken by itself")


def check_gpu_memory(seen: Seen) -> Answer:
    fullest = min(seen.cards, key=lambda card: card.free)
    total, free = fullest.total / 1024, fullest.free / 1024
    found = [f"{free:.1f} of {total:.1f} GiB free"]
    if free >= 0.9 * total or not free:
        return _ok(found[0] if free else "not told")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        for pid, name, used in (row for row in _smi("--query-compute-apps=pid,process_name,used_memory") if row[2:]):
            who = "this process" if pid == str(os.getpid()) else f"process {pid} ({name})"
            found.append(f"{who} has {used} MiB")
    advice = "end what uses it" if found[1:] else "look at `nvidia-smi` for what uses it"
    return _warning("; ".join(found), f"{advice}; in a notebook: Runtime > Restart session")


def check_vllm(seen: Seen) -> Answer:
    version = _version("vllm")
    range_ = next((r.specifier for r in _requirements("trl", "vllm") if r.name == "vllm"), "")
    if not version:
        return _without_vllm(seen, range_)
    found, without = f"vllm {version}", "`pip uninstall vllm`, and generate without it"
    try:
        if trouble := _vllm_trouble(seen):
            return _broken(f"{found} {trouble}", without)
        _run(VLLM_S, sys.executable, "-P", "-c", "from vllm import LLM, SamplingParams")  # as TRL and Unsloth do
    except subprocess.TimeoutExpired:
        return _warning(f"{found}: its import takes more than {VLLM_S:.0f} s", f"wait for it, or {without}")
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        return _broken(f"{found} cannot be imported ({said[-1][:200]})", without)
    return _vllm_fits(seen, version, range_)


def _without_vllm(seen: Seen, range_: Any) -> Answer:
    """Which is no trouble in Colab: its torch is not the one that vLLM needs, and the installer leaves it out."""
    if not seen.wants_vllm:
        return _ok("not installed, and not asked for")
    found = "not installed, so that generation takes longer"
    if os.environ.get("COLAB_RELEASE_TAG"):
        return _ok(f"{found}; `%run install.py --vllm` adds it, and moves torch")
    line = f'`pip install "vllm{range_}" vllm-bnb-plugin` into a new environment, since it brings a torch of its own'
    return _warning(found, f"write model.fast_inference = false; or {line}")


def _vllm_trouble(seen: Seen) -> str:
    """What is wrong with the CUDA that it is built for: pip takes it for any, and its import may only warn of it."""
    spec = importlib.util.find_spec("vllm")
    for library in Path(spec.origin or "").parent.glob("_C*.so") if spec and seen.built_for else ():
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            needed = next((match[1].decode() for match in re.finditer(rb"libcudart\.so\.(\d+)", content)), "")
        if needed and needed != seen.built_for.partition(".")[0]:
            return f"is built for CUDA {needed}, and torch for {seen.built_for}"
    return ""


def _vllm_fits(seen: Seen, version: str, range_: Any) -> Answer:
    found, plain = f"vllm {version}", version.partition("+")[0]
    if range_ and not range_.contains(plain, True):
        return _warning(f"{found}; TRL supports {range_}", f'`pip install "vllm{range_}"`')
    able = _version("vllm-bnb-plugin") or _numbers(plain) < (0, 28) or not seen.model("load_in_4bit")
    if seen.wants_vllm and not able:
        return _broken(f"{found} loads 4-bit models with vllm-bnb-plugin alone", "`pip install vllm-bnb-plugin`")
    return _ok(found)


def check_disk(seen: Seen) -> Answer:
    """The working folder's, where runs go."""
    free = shutil.disk_usage(Path.cwd()).free
    if seen.recipe and (error := _tried(ANSWER_S, plan.check_disk, seen.recipe, free_path(seen.recipe))):
        return _broken(*str(error).split("; ", 1))
    found = f"{free / plan.GIB:.1f} GiB free in the working folder"
    return _ok(found) if free > plan.GIB else _warning(found, "free some: a run keeps its checkpoints there")


def check_model_cache(seen: Seen) -> Answer:
    """The disk that a model is downloaded to."""
    from huggingface_hub import constants

    folder, name = Path(constants.HF_HUB_CACHE), seen.hub_name
    disk = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(disk).free
    found = f"{free / plan.GIB:.1f} GiB free in {disk}"
    size = re.search(r"(\d+(?:\.\d+)?)b\b", name, re.IGNORECASE)
    if size is None or _cached(name):
        return _ok(found)
    # Unsloth has its own models in 4 bits, embeddings not among them; the others come in 16
    need = float(size[1]) * 1e9 * (0.75 if seen.model("load_in_4bit") and name.startswith("unsloth/") else 2)
    found += f"; the model takes about {need / plan.GIB:.0f}"
    return _ok(found) if free > need else _broken(found, "free some, or set HF_HOME to a folder on a larger disk")


def check_ram(seen: Seen) -> Answer:
    import psutil

    free, need = psutil.virtual_memory().available / plan.GIB, 4 if seen.hub_name else 2
    found = f"{free:.1f} GiB free"
    return _ok(found) if free >= need else _warning(found, f"loading takes about {need}; end other programs first")


def check_hf_token(seen: Seen) -> Answer:
    mirror = (seen.recipe.budget.mirror if seen.recipe else None) or ""
    if not _token(seen) and mirror.startswith("hf://"):
        return _broken(f"none, but budget.mirror = {mirror!r} needs one", "set HF_TOKEN, or run `hf auth login`")
    return _ok("there is one" if _token(seen) else "none; open models need none")


def _token(seen: Seen) -> str:
    """As huggingface_hub finds it, but never in Colab's secrets: to look there may ask the user."""
    from huggingface_hub import constants

    asked, names = seen.model("token"), ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    token = asked if isinstance(asked, str) else next((os.environ[name] for name in names if os.environ.get(name)), "")
    with contextlib.suppress(OSError, ValueError):
        token = token or Path(constants.HF_TOKEN_PATH).read_text()
    return token.strip()


def _cached(name: str) -> bool:
    """Whether the hub's cache has the model, or Unsloth's 4-bit copy of it."""
    from huggingface_hub import try_to_load_from_cache

    copies = [f"{name}{end}" for end in ("", "-bnb-4bit", "-unsloth-bnb-4bit")]
    # tried, for a name that cannot be one is refused here
    return any(isinstance(_tried(ANSWER_S, try_to_load_from_cache, copy, "config.json"), str) for copy in copies)


def check_model(seen: Seen) -> Answer:
    """Whether the recipe's model is here, or the hub lets one have it."""
    if not (name := seen.hub_name):
        return _ok(f"{seen.model('model_name')}, a folder here" if seen.recipe else "none was named")
    return _reached(seen, _cached(name), "model.model_name", name, "config.json", revision=seen.model("revision"))


def check_data(seen: Seen) -> Answer:
    """The same of its problems, which are on the hub where the task is gsm8k without a folder."""
    from huggingface_hub import constants

    task = seen.recipe.task if seen.recipe else {}
    if task.get("name") != "gsm8k" or task.get("path"):
        return _ok(f"task.name = {task['name']!r}, with problems that are here" if task else "none were named")
    home = Path(os.environ.get("HF_DATASETS_CACHE") or f"{constants.HF_HOME}/datasets")
    cached = any(home.glob(f"{HUB_NAME.replace('/', '___')}/{HUB_CONFIGURATION}/*/*/dataset_info.json"))
    return _reached(seen, cached, "task.path", HUB_NAME, "README.md", repo_type="dataset")


def _reached(seen: Seen, cached: bool, setting: str, name: str, file: str, **where: Any) -> Answer:
    from huggingface_hub import is_offline_mode

    copy = f"or write the folder of a copy in {setting}"
    if is_offline_mode() and not cached:
        return _broken(f"{name} is not in the cache, and HF_HUB_OFFLINE forbids to ask", f"unset it, {copy}")
    answer = _ok(name) if is_offline_mode() else _asked_hub(_token(seen), copy, name, file, **where)
    if isinstance(answer, str):  # it did not say yes or no
        if cached:
            return _warning(f"{answer}; {name} is in the cache", "set HF_HUB_OFFLINE=1, if all of it is there")
        return _broken(answer, f"check the network, try later, {copy}")
    return _ok(f"{name}, {'in the cache' if cached else 'within reach'}") if answer[0] == "ok" else answer


def _asked_hub(token: str, copy: str, name: str, file: str, **where: Any) -> Answer | str:
    """Whether the hub lets one have it, by one request; or why it does not say."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, HFValidationError

    try:
        with contextlib.suppress(EntryNotFoundError):  # as in an adapter, which the loader knows how to load
            get_hf_file_metadata(hf_hub_url(name, file, **where), token=token or False, timeout=ANSWER_S)
        return _ok(name)
    except GatedRepoError:
        how = "with this token's account" if token else "and set HF_TOKEN (or run `hf auth login`)"
        page, other = f"https://huggingface.co/{name}", f"'unsloth/{name.rpartition('/')[2]}'"
        return _broken(f"{name} is gated", f"ask for access on {page} {how}; or take an open copy, such as {other}")
    except (HfHubHTTPError, HFValidationError) as error:
        code = error.response.status_code if isinstance(error, HfHubHTTPError) else 404
        if code == 401 and token:
            return _broken(f"the hub refuses the token (401) for {name}", "make another, or unset HF_TOKEN")
        if code in (401, 403, 404):
            what = f"no such {where.get('repo_type', 'model')} on the hub ({code}), or not for you"
            return _broken(f"{name}: {what}", f"check its name, {copy}")
        return f"{constants.ENDPOINT} answers with an error ({code})"
    except Exception as error:  # noqa: BLE001 - the network's, in several libraries' classes
        return f"{constants.ENDPOINT} does not answer ({one_line(error)})"


def check_wandb(seen: Seen) -> Answer:
    named = seen.recipe.grpo.get("report_to", "none") if seen.recipe else "none"
    if "wandb" not in named and not ("all" in named and _version("wandb")):
        return _ok("not asked for (grpo.report_to)")
    if not _version("wandb"):
        return _broken("grpo.report_to asks for it, and it is not installed", '`pip install wandb`, or write "none"')
    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        return _ok(f"{mode}, by WANDB_MODE")
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    key = os.environ.get("WANDB_API_KEY")
    with contextlib.suppress(OSError, netrc.NetrcParseError, TypeError):  # TypeError: no entry
        home = os.environ.get("NETRC") or Path.home() / ".netrc"
        key = key or netrc.netrc(home).authenticators(urlsplit(address).netloc)[2]  # type: ignore[index]
    return _asked_wandb(address, key) if key else _ok("no key, so the run is offline; WANDB_API_KEY changes that")


def _asked_wandb(address: str, key: str) -> Answer:
    """Whether the server knows the key, by the question that wandb itself asks."""
    import httpx

    question = {"operationName": "Viewer", "query": "query Viewer { viewer { id } }", "variables": {}}
    offline = "otherwise the run is offline, and can be sent later"
    try:
        answer = httpx.post(f"{address}/graphql", json=question, auth=("api", key), timeout=ANSWER_S)
        if answer.status_code not in (401, 403) and answer.raise_for_status().json()["data"]["viewer"]:
            return _ok("there is a key, and it is valid")
    except Exception as error:  # noqa: BLE001 - no network, no HTTP, no JSON, or another JSON
        return _warning(f"{address} does not answer ({one_line(error)})", f"check the network; {offline}")
    return _warning(f"{address} does not know the key", f"set WANDB_API_KEY to a valid one; {offline}")


def check_other_runs(seen: Seen) -> Answer:
    held = []
    for folder in sorted(RUNS.iterdir()) if RUNS.is_dir() else []:
        with contextlib.suppress(SettingError, OSError):
            if (by := holder(Run(folder).path)).running:
                held.append(f"{folder} is being trained by process {by.pid or '?'}")
    wait = "wait for it, or stop it (it saves first): two share the memory"
    return _warning("; ".join(held), wait) if held else _ok("none in this folder")


# in the order of this file
CHECKS: Final = [value for name, value in list(globals().items()) if name.startswith("check_")]
OF_A_CARD: Final = (check_driver, check_capability, check_bfloat16, check_gpu_memory)
