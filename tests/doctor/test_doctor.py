"""What `doctor` says where something is wrong: real processes, servers, locks and metadata, and a machine made up of
a program called nvidia-smi and, where the torch of these tests has no CUDA, a package called torch.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.doctor.diagnose import doctor_text
from grpo_colab.doctor.findings import Check

ROOT = Path(__file__).parents[2]
SECRET = "hf_secretOfSomeone123"
NAMES = ("python", "packages", "conflicts", "in memory", "import order", "gpu", "torch", "driver", "capability")
NAMES += (
    "bfloat16",
    "gpu memory",
    "vllm",
    "disk",
    "model cache",
    "ram",
    "fit",
    "hf token",
    "model",
    "template",
    "data",
    "wandb",
)
NAMES += ("other runs",)
# A process that is asked again and again: each line of its input is {"run": Python, "recipe": Recipe.load's arguments}.
ASKED = """
import importlib, json, os, sys
from dataclasses import asdict
from grpo_colab.recipe.recipe import Recipe
doctor = importlib.import_module("grpo_colab.doctor.diagnose").doctor
limits = importlib.import_module("grpo_colab.doctor.limits")
packages = importlib.import_module("grpo_colab.doctor.packages")
limits.ANSWER_S = 1.0
for line in sys.stdin:
    asked = json.loads(line)
    exec(asked["run"])
    recipe = asked["recipe"] and Recipe.load(**asked["recipe"])
    print("FOUND", json.dumps([asdict(check) for check in doctor(recipe)]), flush=True)
    print("LOADED", json.dumps(sorted(sys.modules)), flush=True)
"""
T4 = "Tesla T4, 15360, 14910, 550.54.15, 7.5"
HOLD = "import sys, time; from pathlib import Path; from grpo_colab.runs.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)\n"

# A torch that tells what torch.json says.
TORCH = """
import json, pathlib, types
told = json.loads((pathlib.Path(__file__).parents[2] / "torch.json").read_text())
__version__ = "2.13.0"
version = types.SimpleNamespace(cuda=told["built"], hip=None)
cuda = types.SimpleNamespace(is_available=lambda: told["works"], get_arch_list=lambda: told["kernels"])
cuda.device_count = lambda: 1
cuda.current_device = lambda: 0
cuda.is_initialized = lambda: False
cuda.mem_get_info = lambda: (2**34, 2**34)
cuda.get_device_properties = lambda index: types.SimpleNamespace(name="Some", total_memory=2**34, major=9, minor=0)
"""
AGAIN = "sys.modules.pop('torch', None); importlib.invalidate_caches()"  # the torch that another process would import

Found = dict[str, Check]


class Patient:
    """A process in a folder of its own, with programs and packages of its own before all others."""

    def __init__(self, folder: Path, torch: bool = False, **environment: str) -> None:
        self.folder, self.programs, self.packages = folder, folder / "bin", folder / "packages"
        self.programs.mkdir()
        self.packages.mkdir()
        if not torch:  # the real one takes seconds, and only some tests are about it
            self.install("torch", "2.13.0", code=TORCH)
            self.tell_torch(works=False, built=None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASKED],
            cwd=folder,
            env={
                **{"HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
                **{"HF_TOKEN": SECRET, "PATH": str(self.programs), "PYTHONPATH": f"{self.packages}:{ROOT}"},
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.loaded: list[str] = []

    def ask(self, source: str = "", run: str = "", **tables: Any) -> Found:
        """What doctor finds, after `run`; checked for what is true of all that it finds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        recipe = {"source": source or "word-problems-tiny", **tables} if source or tables else None
        self.process.stdin.write(json.dumps({"run": run, "recipe": recipe}) + "\n")
        self.process.stdin.flush()
        said = {}
        for line in self.process.stdout:
            head, _, value = line.partition(" ")
            said[head] = value
            if head == "LOADED":
                break
        else:
            pytest.fail(f"doctor ended its process: {self.process.communicate()[1]}")
        assert SECRET not in said["FOUND"]
        self.loaded = json.loads(said["LOADED"])
        checks = [Check(**check) for check in json.loads(said["FOUND"])]
        assert tuple(check.name for check in checks) == NAMES
        for check in checks:
            assert check.state in ("ok", "warning", "broken")
            assert bool(check.advice) == (check.state != "ok"), check
            assert check.found
            assert (check.found + check.advice).isprintable(), check
        return {check.name: check for check in checks}

    def install(self, name: str, version: str, *requires: str, code: str | None = None) -> None:
        """A package's metadata, and its code."""
        info = self.packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires)]) + "\n")
        if code is not None:
            (self.packages / name).mkdir()
            (self.packages / name / "__init__.py").write_text(code)

    def tell_torch(
        self, works: bool = True, kernels: str = "sm_75 sm_80 compute_80", built: str | None = "13.0"
    ) -> None:
        told = {"works": works, "kernels": kernels.split(), "built": built}
        (self.folder / "torch.json").write_text(json.dumps(told))

    def smi(self, cards: str = "", apps: str = "", script: str = "") -> None:
        """An nvidia-smi that prints these rows, as the real one does with --format=csv,noheader,nounits."""
        for name, text in (("cards", cards), ("apps", apps)):
            (self.folder / name).write_text(text + "\n" * bool(text))
        program = self.programs / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\ncase "$1" in\n'
            f'*compute_cap*) cat "{self.folder}/cards" ;;\n'
            f'--query-gpu=*) cut -d, -f1-4 "{self.folder}/cards" ;;\n'
            f'--query-compute-apps=pid,process_name,used_memory) cat "{self.folder}/apps" ;;\n'
            "*) exit 2 ;;\nesac\n"
        )
        program.chmod(0o755)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Callable[..., Patient]]:
    with ExitStack() as held:

        def made(torch: bool = False, **environment: str) -> Patient:
            made = Patient(tmp_path, torch, **environment)
            held.enter_context(made.process)
            held.callback(made.process.kill)
            return made

        yield made


def seen(check: Check, state: str, *words: str) -> None:
    assert check.state == state, check
    for word in words:
        assert word in f"{check.found} -> {check.advice}", check


def test_the_text_is_aligned_and_counts() -> None:
    well = Check("gpu", "ok", "Tesla T4", "")
    bad = [Check("gpu memory", "warning", "full", "end it"), Check("model", "broken", "gated", "ask for it")]
    text = doctor_text([well, *bad, bad[0]])
    assert text.splitlines() == [
        "ok       gpu         Tesla T4",
        "warning  gpu memory  full",
        "                     -> end it",
        "broken   model       gated",
        "                     -> ask for it",
        "warning  gpu memory  full",
        "                     -> end it",
        "2 warnings, 1 broken",
    ]
    assert text.isascii()
    assert [doctor_text(checks).splitlines()[-1] for checks in ([well], bad[:1], bad[1:])] == [
        *("All is well", "1 warning", "1 broken")
    ]
    coloured = doctor_text([well, *bad, bad[0]], colour=True)
    assert coloured != text
    assert re.sub(r"\033\[\d+m", "", coloured) == text


def test_this_environment(patient: Callable[..., Patient]) -> None:
    """The tested set itself; then a module that is older in memory than on the disk, packages that are missing, too
    new, or at odds with each other, and a library that came before unsloth.
    """
    it = patient(torch=True)
    found = it.ask("word-problems-tiny")
    assert {check.name for check in found.values() if check.state == "broken"} == set()
    for name in ("python", "packages", "conflicts", "in memory", "import order", "model", "other runs", "wandb"):
        seen(found[name], "ok")
    seen(found["packages"], "ok", "trl 1.15.0")
    # unsloth must still be able to come first
    assert {"unsloth", "vllm", "trl", "transformers", "peft"} & set(it.loaded) == set()

    it.install("pyarrow", "99.0.0")
    it.install("trl", "1.99.0", "vllm<=0.31.0,>=0.21.0; extra == 'vllm'")
    it.install("torchvision", "0.1.0", "torch==1.0.0")
    found = it.ask(run="import pyarrow")
    seen(found["in memory"], "warning", "pyarrow", "99.0.0 is installed", "restart the runtime")
    seen(found["packages"], "warning", "trl 1.99.0 (tested: ==1.15.0)", '`pip install "trl==1.15.0"`')
    assert "unsloth" not in found["packages"].found
    # Unsloth takes no trl above the one that it knows; torchvision is compiled against one torch
    seen(found["conflicts"], "broken", "unsloth asks for trl", "torchvision asks for torch==1.0.0", '"torch==1.0.0"')
    seen(found["import order"], "ok")

    it.install("grpo_colab", "0.1.0", "never-heard-of>=2; extra == 'train'")
    found = it.ask(run="import trl")
    seen(found["packages"], "broken", "never-heard-of is not installed", 'pip install "grpo_colab[train]"')
    seen(found["import order"], "broken", "trl was imported before unsloth", "restart")


EXPECTED = sorted((ROOT / "colab" / "expected").glob("*.txt"))


@pytest.mark.parametrize("file", EXPECTED, ids=[file.stem for file in EXPECTED])
def test_what_the_installer_leaves_is_in_the_tested_set(file: Path) -> None:
    """So that doctor does not warn of a runtime that was resolved and tried: what changes there, and what stays."""
    from packaging.requirements import Requirement

    text = file.read_text()
    runtime = re.search(r"on Colab's (\S+),", text)[1]  # type: ignore[index]
    listed = ROOT.parent / "shared" / "colab_runtimes" / f"{runtime}.txt"
    if not listed.is_file():
        pytest.skip("the runtimes' own packages are not here")
    have = dict(line.split("==") for line in listed.read_text().splitlines() if "==" in line)
    have |= dict(re.findall(r"^(\S+) \S+ -> (\S+)$", text.partition("changes:")[2], re.MULTILINE))
    have = {name.lower().replace("_", "-"): version for name, version in have.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in map(Requirement, project["optional-dependencies"]["train"]):
        assert wanted.specifier.contains(have[wanted.name.replace("_", "-")], prereleases=True), wanted


def test_what_a_recipe_needs(patient: Callable[..., Patient]) -> None:
    it = patient()
    found = it.ask("gsm8k-qwen25-1.5b", lora={"r": 10**9})
    seen(found["gpu"], "ok", "none; the CPU trains")
    seen(found["fit"], "broken", "does not fit", "of this CPU", "Change runtime type", "gsm8k-tiny")
    for name in ("driver", "capability", "bfloat16", "gpu memory"):
        seen(found[name], "ok", "no card")
    seen(found["disk"], "broken", "the adapter and its checkpoints need", "free some")
    for name in ("model", "data"):
        seen(found[name], "broken", "not in the cache", "HF_HUB_OFFLINE", "unset it")
    found = it.ask(
        model={"model_name": "someone/giant-999999B"},
        budget={"mirror": "hf://someone/runs"},
        run=f"os.environ.pop('HF_TOKEN'); open({str(it.folder / 'runs')!r}, 'w')",
    )
    seen(found["fit"], "ok", "not known before the model's config.json is here")
    seen(found["model cache"], "broken", "the model takes about", "HF_HOME")
    seen(found["hf token"], "broken", "budget.mirror = 'hf://someone/runs'", "set HF_TOKEN")
    it.folder.joinpath("hf").mkdir()
    it.folder.joinpath("hf", "token").write_text(f"{SECRET}\n")
    seen(it.ask(budget={"mirror": "hf://someone/runs"})["hf token"], "ok", "there is one")
    # as the hub's own cache has it; of a model of its own in 4 bits Unsloth downloads another repository
    cached = it.folder / "hf" / "hub" / "models--unsloth--some-7B-bnb-4bit"
    for name, text in (("refs/main", "1234"), ("snapshots/1234/config.json", "{}")):
        (cached / name).parent.mkdir(parents=True)
        (cached / name).write_text(text)
    found = it.ask("gsm8k-qwen25-1.5b", model={"model_name": "unsloth/some-7B"})
    seen(found["model"], "ok", "unsloth/some-7B, in the cache")
    assert "the model takes" in found["model cache"].found  # a plan has fetched the configuration, and no weights
    (cached / "snapshots" / "1234" / "model.safetensors").touch()
    found = it.ask("gsm8k-qwen25-1.5b", model={"model_name": "unsloth/some-7B"})
    assert "the model takes" not in found["model cache"].found


def test_what_the_hub_answers(patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    named: dict[str, Any] = {"model": {"model_name": "someone/tiny"}}
    with Hub() as hub:
        hub.repositories["someone/tiny"] = {"config.json": b"{}"}
        it = patient(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
        seen(it.ask(**named)["model"], "ok", "someone/tiny", "within reach")
        assert [asked for asked in hub.requests if "someone" in asked] == [
            "HEAD /someone/tiny/resolve/main/config.json"  # one question, and the loader's dozen only if it is answered
        ]
        expected = {
            "gated": ("is gated", "https://huggingface.co/someone/tiny", "this token's account", "'unsloth/tiny'"),
            "401": ("refuses the token (401)", "unset HF_TOKEN"),
            "404": ("no such model on the hub (404)", "check its name"),
            "500": ("answers with an error (500)", "try later"),
            "hang": ("does not answer", "try later"),
            "reset": ("does not answer", "try later"),
        }
        for hub.failure, words in expected.items():
            seen(it.ask(**named)["model"], "broken", *words)
        hub.failure = "gated"
        seen(it.ask(**named, run="del os.environ['HF_TOKEN']")["model"], "broken", "and set HF_TOKEN")
        hub.failure = None
        it.ask(**named, run="from huggingface_hub import hf_hub_download as d; d('someone/tiny', 'config.json')")
        for hub.failure, word in (("500", "(500)"), ("reset", "does not answer")):
            seen(it.ask(**named)["model"], "warning", word, "in the cache", "HF_HUB_OFFLINE=1")
        hub.failure = None
        hub.repositories["someone/adapter"] = {"adapter_config.json": b"{}"}
        seen(it.ask(model={"model_name": "someone/adapter"})["model"], "ok", "someone/adapter", "within reach")
    assert {"unsloth", "trl", "transformers", "peft"} & set(it.loaded) == set()
    found = it.ask(model={"model_name": "no such/name at all"})["model"]
    seen(found, "broken", "no such model", "check its name")


@pytest.mark.long
def test_where_the_problems_are(patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    with Hub() as hub:
        hub.repositories["datasets/openai"] = {}  # the server knows no data sets, and takes this for a model's name
        it = patient(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
        seen(it.ask("gsm8k-llama31-8b")["data"], "broken", "openai/gsm8k: no such dataset", "task.path")
        assert "HEAD /datasets/openai/gsm8k/resolve/main/README.md" in hub.requests
        for hub.failure, words in {"hang": "does not answer", "500": "(500)", "gated": "is gated"}.items():
            seen(it.ask("gsm8k-llama31-8b")["data"], "broken", "openai/gsm8k" * (hub.failure == "gated"), words)
        (it.folder / "gsm8k").mkdir()
        for split in ("train", "test"):
            (it.folder / "gsm8k" / f"{split}.jsonl").touch()
        seen(it.ask("gsm8k-llama31-8b", task={"path": str(it.folder / "gsm8k")})["data"], "ok", "are here")
        seen(it.ask("word-problems-tiny")["data"], "ok", "'word_problems', with problems that are here")
        seen(it.ask("gsm8k-llama31-8b")["template"], "ok", "not known before the model is here")
        seen(it.ask()["data"], "ok", "none were named")
        # as datasets keeps what it has prepared
        kept = it.folder / "hf" / "datasets" / "openai___gsm8k" / "main" / "0.0.0" / "e53f048856ff"
        kept.mkdir(parents=True)
        (kept / "dataset_info.json").write_text("{}")
        hub.failure = "reset"
        seen(it.ask("gsm8k-llama31-8b")["data"], "warning", "does not answer", "in the cache", "HF_HUB_OFFLINE=1")


def test_what_is_secret_is_not_shown(patient: Callable[..., Patient]) -> None:
    it = patient(HF_ENDPOINT="http://someone:hunter22@127.0.0.1:9", HF_HUB_OFFLINE="0", WANDB_MODE=SECRET)
    found = it.ask(model={"model_name": "someone/tiny"}, grpo={"report_to": ["tensorboard", "wandb"]})
    seen(found["model"], "broken", "http://...@127.0.0.1:9 does not answer")
    assert "hunter22" not in str(found)
    seen(found["wandb"], "ok", "***, by WANDB_MODE")  # as where a key was put into the wrong variable


@pytest.mark.long
def test_what_wandb_answers(patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from wandb_server import KEY, WandbServer

    it = patient()
    asked: dict[str, Any] = {"grpo": {"report_to": "wandb"}}
    seen(it.ask(**asked)["wandb"], "ok", "no key", "offline", "WANDB_API_KEY")
    expected = {
        None: ("ok", "valid"),
        "401": ("warning", "does not know the key", "set WANDB_API_KEY"),
        "hang": ("warning", "does not answer", "offline"),
        "reset": ("warning", "does not answer", "offline"),
        "refuse": ("warning", "does not answer", "offline"),
        "nonsense": ("warning", "does not answer", "offline"),
    }
    for failure, (state, *words) in expected.items():
        with WandbServer(failure) as server:
            (it.folder / ".netrc").write_text(
                f"machine {server.url.removeprefix('http://')} login user password {KEY}\n"
            )
            check = it.ask(**asked, run=f"os.environ['WANDB_BASE_URL'] = {server.url!r}")["wandb"]
            seen(check, state, *words)
            assert KEY not in check.found + check.advice
    seen(it.ask(**asked, run="os.environ['WANDB_MODE'] = 'offline'")["wandb"], "ok", "offline, by WANDB_MODE")
    seen(it.ask("word-problems-tiny")["wandb"], "ok", "not asked for")


def test_another_run(patient: Callable[..., Patient]) -> None:
    it = patient()
    made = "from grpo_colab import Run; Run.create(Recipe.load(), 'runs/first'); Run.create(Recipe.load(), 'runs/b')"
    seen(it.ask(run=made)["other runs"], "ok")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(it.folder / "runs" / "first")], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        check = it.ask()["other runs"]
        seen(check, "warning", f"runs/first is being trained by process {holder.pid}", "wait for it")
        assert "runs/b" not in check.found
        holder.kill()


@pytest.mark.long
def test_a_card_and_a_torch_for_the_cpu(patient: Callable[..., Patient]) -> None:
    """With the real torch, which has no CUDA where these tests run; elsewhere there is nothing to see."""
    it = patient(torch=True)
    it.smi(T4, "4321, /usr/bin/python3, 412\n4322, [Not Found], [N/A]")
    found = it.ask("gsm8k-llama31-8b")
    if "built for no CUDA" not in found["torch"].found:
        pytest.skip("this torch has CUDA")
    seen(found["gpu"], "ok", "Tesla T4, 15.0 GiB")
    seen(found["torch"], "broken", "cannot use the card", "pip install --force-reinstall torch==")
    seen(found["driver"], "ok", "550.54.15")
    seen(found["capability"], "ok", "7.5")
    seen(found["bfloat16"], "ok", "no; float16 is taken by itself")
    seen(found["gpu memory"], "ok", "14.6 of 15.0 GiB free")
    it.smi(T4.replace("14910", "3072"), f"4321, /usr/bin/python3, 412\n{it.process.pid}, python\033[31m, 11000")
    found = it.ask(model={"dtype": "bfloat16"})
    seen(
        found["gpu memory"], "warning", "3.0 of 15.0", "process 4321 (/usr/bin/python3) has 412 MiB", "end what uses it"
    )
    seen(found["gpu memory"], "warning", "this process has 11000 MiB", "Restart session")
    seen(found["bfloat16"], "broken", "model.dtype = 'bfloat16'", "leave model.dtype out")
    it.smi(T4.replace("14910", "3072"))  # in a container the processes of others are not told
    seen(it.ask()["gpu memory"], "warning", "look at `nvidia-smi`")
    it.smi("NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1\nNVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1")
    found = it.ask()
    seen(found["gpu"], "ok", "NVIDIA GB10 and 1 more")
    seen(found["gpu memory"], "ok", "not told")
    for hidden in ("", "-1"):
        found = it.ask("gsm8k-llama31-8b", run=f"os.environ['CUDA_VISIBLE_DEVICES'] = {hidden!r}")
        seen(
            found["gpu"], "warning", "none (CUDA_VISIBLE_DEVICES hides all); the CPU trains", "CUDA_VISIBLE_DEVICES say"
        )


@pytest.mark.long
def test_an_nvidia_smi_that_fails(patient: Callable[..., Patient]) -> None:
    it = patient()
    for script, words in {
        "echo 'NVIDIA-SMI has failed because it could not reach the driver.'; exit 9": "has failed because it could",
        "echo nonsense; exit 0": "IndexError",
        "echo Fri; exec sleep 60": "TimeoutExpired",
        "kill -9 $$": "CalledProcessError",
    }.items():
        it.smi(script=script)
        limit = 2.0 if "sleep" in script else 20.0
        found = it.ask("gsm8k-llama31-8b", run=f"limits.LIMIT_S = {limit}")["gpu"]
        seen(found, "warning", words, "; the CPU trains", "look what `nvidia-smi`")
    seen(it.ask("word-problems-tiny")["gpu"], "ok", "none (CalledProcessError", "; the CPU trains")


STATES = {"yes": "ok", "tight": "warning", "no": "broken"}


@pytest.mark.long
def test_it_judges_as_the_plan_does(patient: Callable[..., Patient], cli: Callable[..., Any]) -> None:
    """`train` refuses what the plan says does not fit, and nothing else: the doctor says the same."""
    it = patient(torch=True)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("word-problems-tiny", {"model": {"load_in_4bit": True}}),  # bitsandbytes' NF4 works on a CPU
        ("gsm8k-qwen25-1.5b", {}),
        ("gsm8k-qwen25-1.5b", {"lora": {"r": 10**6}}),
    ]
    for source, tables in asked:
        words = [f"--{table}.{key}={value}" for table, settings in tables.items() for key, value in settings.items()]
        planned = json.loads(cli("plan", source, *(word.replace("True", "true") for word in words), "--json").stdout)
        if planned["kind"] != "cpu":
            pytest.skip("the patient has the real torch, and this one has a GPU")
        expected = STATES[planned["fits"]]
        if expected == "ok" and planned["hours"] > 24:
            expected = "warning"
        found = it.ask(source, **tables)
        seen(found["fit"], expected, "of this CPU")
        seen(found["gpu"], "ok", "none")
    assert expected == "broken"
    seen(it.ask("gsm8k-qwen25-1.5b", model={"full_finetuning": True})["fit"], "ok", "not known", "cannot be planned")


@pytest.mark.long
def test_what_needs_transformers_is_planned_in_another_process(patient: Callable[..., Patient], tmp_path: Path) -> None:
    """A model that no arithmetic is known for: it is built there, so that unsloth can still come first here."""
    folder = tmp_path / "model"
    folder.mkdir()
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 128}
    folder.joinpath("config.json").write_text(json.dumps({"model_type": "gpt_bigcode", **shape, "multi_query": False}))
    it = patient(torch=True)
    seen(it.ask(model={"model_name": str(folder)})["fit"], "ok", "of this CPU")
    assert {"unsloth", "trl", "transformers", "peft"} & set(it.loaded) == set()


@pytest.mark.long
def test_a_torch_with_cuda(patient: Callable[..., Patient]) -> None:
    """A package called torch that tells what one with CUDA would, on cards that such tests do not have."""
    it = patient()
    four_bit: dict[str, Any] = {"model": {"load_in_4bit": True}}

    def told(card: str, kernels: str = "sm_60 sm_70 compute_70", works: bool = True, built: str = "12.8") -> Found:
        it.smi(card)
        it.tell_torch(works, kernels, built)
        return it.ask(run=AGAIN, **four_bit)

    found = told(T4)
    if not any(importlib.metadata.distributions(name="triton")):  # as where the CPU's lock file was installed
        seen(found["packages"], "broken", "triton is not installed")
        it.install("triton", "3.5.0")
        found = told(T4)
    seen(found["packages"], "ok", "unsloth")
    seen(found["torch"], "ok", "built for CUDA 12.8")
    seen(found["driver"], "ok", "550.54.15, which torch can use")
    seen(found["capability"], "ok", "7.5")
    seen(found["fit"], "ok", "of 16.0 GiB of Some")
    old = "Tesla V100, 16160, 16000, 470.57.02, 7.0"
    found = told(old, works=False, built="13.0")
    seen(found["driver"], "broken", "470.57.02", "built for CUDA 13.0, which needs 580 or newer", "update the driver")
    seen(told(T4, works=False)["driver"], "broken", "550.54.15, but torch sees no card", "restart")
    # as NVIDIA's compiler has it: sm_75 runs on 7.5 to 8.0, compute_75 on 7.5 and all later cards
    seen(told(old, "sm_75 sm_80 compute_80")["capability"], "broken", "7.0", "this torch has no kernels")
    seen(told("RTX 5090, 32607, 32000, 580.1, 12.0", "sm_75 sm_90")["capability"], "broken", "has no kernels")
    seen(told("RTX 5090, 32607, 32000, 580.1, 12.0", "sm_75 sm_90 compute_90")["capability"], "ok", "12.0")
    seen(told("RTX 3090, 24576, 24000, 580.1, 8.6", "sm_75 sm_80")["capability"], "ok", "8.6")
    seen(told("GTX 980, 4096, 4000, 580.1, 5.2", "sm_50")["capability"], "broken", "bitsandbytes needs 6.0")
    seen(told("Tesla P100, 16384, 16000, 580.1, 6.0")["capability"], "warning", "without torch.compile")
    # an older driver's nvidia-smi refuses a query with a field that it does not know
    unknown = """echo 'Field "compute_cap" is not a valid field to query.'; exit 2"""
    it.smi(T4, script=f'case "$1" in *compute_cap*) {unknown} ;; esac')
    found = it.ask(run=AGAIN, **four_bit)
    seen(found["gpu"], "ok", "Tesla T4")
    seen(found["capability"], "ok", "not told")
    (it.programs / "nvidia-smi").unlink()
    found = it.ask(run=AGAIN, **four_bit)
    seen(found["gpu"], "ok", "Some, 16.0 GiB")
    seen(found["capability"], "ok", "9.0")
    (it.packages / "torch" / "__init__.py").write_text(
        "raise OSError('libcudart.so.12: cannot open shared object file')"
    )
    seen(it.ask(run=AGAIN)["torch"], "broken", "libcudart.so.12", "pip install --force-reinstall torch")
    left = "import types; sys.modules['torch'] = types.ModuleType('torch')"  # a folder without files
    seen(it.ask(run=left)["torch"], "broken", "cannot be imported")


@pytest.mark.long
def test_vllm(patient: Callable[..., Patient]) -> None:
    """A package called vllm, as the real one is too large, in the states that the real one has been met in."""
    it = patient()
    it.tell_torch()
    it.smi(T4)
    fast: dict[str, Any] = {"model": {"load_in_4bit": True, "fast_inference": True}, "run": AGAIN}
    seen(it.ask()["vllm"], "ok", "not asked for")
    lacking = it.ask(**fast)["vllm"]
    seen(lacking, "warning", "not installed", "fast_inference = false", "new environment", "<=0.31.0")
    tag = "os.environ['COLAB_RELEASE_TAG']"  # where the installer's default is without it, and pip would move torch
    colab = it.ask(**fast | {"run": f"{AGAIN}; {tag} = 'release-colab_20260819'"})["vllm"]
    seen(colab, "ok", "not installed", "%run install.py --vllm")
    assert "pip install" not in colab.found
    it.ask(run=f"del {tag}")

    it.install("vllm", "0.31.0+cu130", code="import os; os.abort()")
    code = it.packages / "vllm" / "__init__.py"
    for words, lines in {
        "status -6": "import os; os.abort()",
        "ImportError: libcudart.so.13": "raise ImportError('libcudart.so.13: cannot open shared object file')",
        "cannot import name": "LLM = None",
    }.items():
        code.write_text(lines)
        seen(it.ask(**fast)["vllm"], "broken", "vllm 0.31.0", "cannot be imported", words, "pip uninstall vllm")
    code.write_text("import time; time.sleep(600)")
    seen(it.ask(**{**fast, "run": f"{AGAIN}; limits.VLLM_S = 1.0"})["vllm"], "warning", "more than 1 s", "wait for it")
    code.write_text("LLM = SamplingParams = None")
    fast["run"] = f"{AGAIN}; limits.VLLM_S = 30.0"
    seen(it.ask(**fast)["vllm"], "broken", "vllm-bnb-plugin alone", "pip install vllm-bnb-plugin")
    it.install("vllm-bnb-plugin", "0.1.0")
    seen(it.ask(**fast)["vllm"], "ok", "vllm 0.31.0")
    it.smi("NVIDIA L4, 23034, 22500, 550.54.15, 8.9")
    seen(it.ask(**fast)["vllm"], "ok", "vllm 0.31.0")
    assert "vllm" not in it.loaded
    # what the loader would ask for stands in the library as text
    (it.packages / "vllm" / "_C.abi3.so").write_bytes(b"\x7fELF" + bytes(1000) + b"\0libcudart.so.12\0" + bytes(1000))
    seen(it.ask(**fast)["vllm"], "broken", "is built for CUDA 12, and torch for 13.0", "pip uninstall vllm")
    (it.packages / "vllm" / "_C.abi3.so").unlink()
    (it.packages / "vllm-0.31.0+cu130.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.20.0\n")
    seen(it.ask(**fast)["vllm"], "warning", "vllm 0.20.0; TRL supports <=0.31.0,>=0.21.0", "pip install")
    it.smi("Tesla V100, 16160, 16000, 550.54.15, 7.0")
    it.tell_torch(kernels="sm_70")
    seen(it.ask(**fast)["capability"], "broken", "vLLM needs 7.5", "model.fast_inference = false")
