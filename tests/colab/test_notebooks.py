"""The notebooks as a person runs them: from top to bottom, in a kernel that has a `google.colab`, again after it was
cut, and on another machine. Only the form's values and the two addresses of the install cell are the test's own.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.cli import main
from grpo_colab.errors import SettingError
from grpo_colab.notebook import animate, compare, keys, preset_for_this_gpu, settings
from grpo_colab.recipe.recipe import preset_names

ROOT = Path(__file__).parents[2]
COLAB = ROOT / "colab"
FAKE = Path(__file__).parent / "fake_colab"
NAMES = ("grpo_gsm8k", "your_own_data", "reward_workshop", "drawing_grpo_vs_her", "explore_gsm8k")
SECRET = "hf_not_for_anyones_eyes"
STEPS = 12


def stored(name: str) -> Any:
    return nbformat.read(COLAB / f"{name}.ipynb", as_version=4)


def code_cells(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


# --- the files


def test_what_is_generated_is_what_the_sources_say() -> None:
    done = subprocess.run(
        [sys.executable, COLAB / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_repositorys_address_is_one_setting(tmp_path: Path) -> None:
    shutil.copytree(COLAB, tmp_path / "colab")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    old = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    text = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text.replace(old, "https://github.com/someone/elsewhere"))
    generate = [sys.executable, tmp_path / "colab" / "generate.py"]
    assert subprocess.run([*generate, "--check"], capture_output=True, check=False).returncode == 1
    subprocess.run(generate, check=True, capture_output=True)
    assert subprocess.run([*generate, "--check"], capture_output=True, check=False).returncode == 0
    raw = "https://raw.githubusercontent.com/someone/elsewhere/main/colab/install.py"
    page = "https://colab.research.google.com/github/someone/elsewhere/blob/main/colab/grpo_gsm8k.ipynb"
    places = {
        "colab/grpo_gsm8k.ipynb": raw,
        "colab/your_own_data.ipynb": raw,
        "colab/reward_workshop.ipynb": raw,
        "colab/drawing_grpo_vs_her.ipynb": raw,
        "colab/explore_gsm8k.ipynb": raw,
        "README.md": page,
        "colab/install.py": 'REPOSITORY = "https://github.com/someone/elsewhere"',
    }
    gone = old.removeprefix("https://github.com/")
    for name, expected in places.items():
        changed = (tmp_path / name).read_text().replace("\\", "")
        assert expected in changed, name
        assert gone not in changed, name


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_is_clean_and_its_cells_are_short(name: str) -> None:
    book = stored(name)
    nbformat.validate(book)
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    for cell in code_cells(book):
        assert cell.outputs == []
        assert cell.execution_count is None
        code = [line for line in cell.source.splitlines() if line and not line.startswith("#")]
        assert len(code) <= 12, cell.source
        assert (
            not re.search(r"^\s*(if|for|while|try|with)\b", cell.source, re.MULTILINE) or "%%writefile" in cell.source
        )
    assert book.metadata.get("accelerator") == ("GPU" if name == "grpo_gsm8k" else None)


def test_every_cell_of_the_main_notebook_says_what_it_does() -> None:
    for cell in code_cells(stored("grpo_gsm8k")):
        title, sentence, *_ = cell.source.splitlines()
        assert re.fullmatch(r"# @title \d\. .*", title), cell.source
        assert re.match(r"# @markdown .{30,}", sentence), cell.source
        assert re.search(r"second|minute|hour|once", sentence), f"does not say how long: {sentence}"


def test_the_form_offers_every_preset() -> None:
    field = re.search(
        r'^recipe = "auto"  # @param (\[.*?\])', "\n".join(c.source for c in stored("grpo_gsm8k").cells), re.M
    )
    assert field is not None
    # drawing has a notebook of its own
    assert json.loads(field[1]) == ["auto", *(name for name in preset_names() if not name.startswith("drawing-"))]


def test_an_address_that_does_not_answer_costs_a_line_and_an_installer_that_is_there_runs(tmp_path: Path) -> None:
    (tmp_path / "install.py").write_text("print('installed already')")
    cell = code_cells(stored("grpo_gsm8k"))[0].source
    text, changed = re.subn(r"https://raw\S*/colab/install\.py", "http://127.0.0.1:1/install.py", cell)
    assert changed == 1
    (tmp_path / "cell.ipy").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "cell.ipy"],
        cwd=tmp_path,
        env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert "installed already" in lines
    assert len(lines) == 2, lines
    assert any(line.startswith("curl: ") for line in lines)


# --- the form


NONSENSE = {
    "more than 250 steps": ({"steps": 1000}, ("--budget.max-steps", "1000")),
    "no step": ({"steps": "0"}, ("--budget.max-steps", "0")),
    "half a step": ({"steps": 12.5}, ("--budget.max-steps", "12.5")),
    "steps in words": ({"steps": "many"}, ("--budget.max-steps", "many")),
    "hours below nought": ({"hours": -1}, ("--budget.max-hours", "-1")),
    "hours in words": ({"hours": "all night"}, ("--budget.max-hours", "all night")),
    "no such recipe": ({"recipe": "lama"}, ("lama",)),
    "a repository without its owner": ({"hub": "adapter"}, ("--budget.mirror", "hf://adapter")),
    "a repository that is a sentence": ({"hub": "my best/model ever"}, ("--budget.mirror", "hf://my best/model ever")),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_in_a_field_is_the_command_lines_error(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    fields, words = NONSENSE[case]
    with pytest.raises(SettingError) as error:
        settings(**{"recipe": "word-problems-tiny", **fields})
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"grpo-colab: {error.value}\n"


def test_the_form_is_a_recipe_and_empty_fields_are_its_own() -> None:
    for empty in ("", "   "):
        assert settings("gsm8k-tiny", "", "", False, False, empty) == settings("gsm8k-tiny")
    chosen = settings("gsm8k-tiny", "7", 3.5, wandb=True)
    assert (chosen.budget.max_steps, chosen.budget.max_hours) == (7, 3.5)
    assert chosen.grpo["report_to"] == "wandb"
    assert settings("auto").name == preset_for_this_gpu()


def test_outside_colab_drive_is_refused_and_secrets_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_from_the_environment")
    keys("HF_TOKEN", "WANDB_API_KEY")
    assert os.environ["HF_TOKEN"] == "hf_from_the_environment"
    with refused("drive", True, problem="there is no Drive outside Colab", remedy="untick it"):
        settings("word-problems-tiny", drive=True)


# --- drawings


def drawn_run(folder: Path, seed: int, rewards: list[tuple[float, float]]) -> Run:
    """A run folder with these rewards of the best and the worst of two programs, one iteration each."""
    run = Run.create(Recipe.load("drawing-tiny", task={"image": "11/00"}, grpo={"seed": seed}), folder / f"seed={seed}")
    for step, pair in enumerate(rewards, 1):
        best, worst = pair
        run.append("metrics.jsonl", [{"step": step, "reward/max": best, "reward/min": worst, "step_time": 1.5}])
        rows = [
            {"step": step, "prompt": "11/00", "completion": "H c1 y0", "rewards": {"pixels": paid}} for paid in pair
        ]
        run.append("completions.jsonl", rows)
    run.to_disk()
    run.write_json("evaluation.json", {"step": len(rewards), "solved": rewards[-1][0] == 1.0})
    return run


def test_a_table_over_methods_has_medians_and_spreads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hers = [drawn_run(tmp_path / "her", seed, [(0.5, 0.0)] * (seed - 1) + [(1.0, 0.5)]) for seed in (1, 2, 5)]
    begun = Run.create(Recipe.load("drawing-tiny"), tmp_path / "begun" / "seed=1")
    table = compare(hindsight=hers, both=hers[:1], begun=[begun])
    assert list(table.index) == ["hindsight", "both", "begun"]
    assert list(table["solved"]) == ["3 of 3", "1 of 1", "0 of 0"]
    assert list(table["iterations"]) == ["2 (1 to 5)", "1", "-"]
    assert list(table["samples"]) == ["4 (2 to 10)", "2", "-"]
    assert list(table["seconds"]) == ["3 (1.5 to 7.5)", "1.5", "-"]
    assert list(table["best drawing"]) == ["100.0% right", "100.0% right", "0.0% right"]


def test_a_run_that_drew_nothing_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = drawn_run(tmp_path / "a<b", 7, [(1.0, 0.0)])
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    animate(run)
    assert html.escape("a<b, seed=7 has drawn nothing") in shown[0].data
    assert "<img" not in shown[0].data


# --- keys, Drive and the hub, each in a process that has a google.colab


def python(code: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "colab").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "WANDB_"))}
    ours = {"PYTHONPATH": f"{FAKE}:{ROOT}", "FAKE_COLAB": str(folder / "colab"), "HF_HOME": str(folder / "hf")}
    ours["HF_HUB_OFFLINE"] = "0"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**kept, **ours, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


KEYS = """
import os, sys
from grpo_colab.notebook import settings
settings("word-problems-tiny", wandb=True)
found = {name: os.environ.get(name) for name in ("HF_TOKEN", "WANDB_API_KEY")}
expected = dict(HF_TOKEN=sys.argv[1] or None, WANDB_API_KEY=sys.argv[2] or None)
print("as expected" if found == expected else "otherwise")
"""
SECRETS: dict[str, tuple[dict[str, str | None] | None, dict[str, str], tuple[str, str]]] = {
    "both are there": ({"HF_TOKEN": SECRET, "WANDB_API_KEY": "key"}, {}, (SECRET, "key")),
    "a secret goes before the environment": ({"HF_TOKEN": SECRET}, {"HF_TOKEN": "other"}, (SECRET, "")),
    "no access": ({"HF_TOKEN": None}, {"HF_TOKEN": SECRET}, (SECRET, "")),
    "not there": ({}, {"WANDB_API_KEY": SECRET}, ("", SECRET)),
    "nobody at the browser": (None, {"HF_TOKEN": SECRET}, (SECRET, "")),
}


@pytest.mark.parametrize("case", SECRETS)
def test_keys_reach_the_environment_and_nobodys_eyes(case: str, tmp_path: Path) -> None:
    secrets, environment, expected = SECRETS[case]
    (tmp_path / "colab").mkdir()
    if secrets is not None:
        (tmp_path / "colab" / "secrets.json").write_text(json.dumps(secrets))
    done = python(KEYS, tmp_path, *expected, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("as expected\n")
    assert SECRET not in done.stdout + done.stderr


FORM = """
import json, sys
from grpo_colab.errors import SettingError
from grpo_colab.notebook import settings
for fields in map(eval, sys.argv[1:]):
    try:
        print("mirror", settings("word-problems-tiny", **fields).budget.mirror)
    except SettingError as error:
        print("refused", json.dumps([error.setting, error.value, error.problem, error.remedy]))
"""


def test_drive_keeps_the_run_and_without_it_the_hub_does(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "colab" / "drive").mkdir(parents=True)
    fields = ["{'drive': True}", "{'hub': 'someone/adapter'}", "{'drive': True, 'hub': 'someone/adapter'}"]
    done = python(FORM, tmp_path, *fields, HF_TOKEN=SECRET, HF_ENDPOINT=hub.url)
    folder = tmp_path / "drive" / "MyDrive" / "grpo_colab"
    mirrors = [line for line in done.stdout.splitlines() if line.startswith(("mirror", "refused"))]
    assert mirrors == [f"mirror {folder}", "mirror hf://someone/adapter", f"mirror {folder}"], done.stderr
    assert hub.private == {"someone/adapter"}
    assert SECRET not in done.stdout + done.stderr


def test_what_cannot_be_written_to_is_said_before_the_training(hub: Any, tmp_path: Path) -> None:
    without_token = python(FORM, tmp_path, "{'hub': 'someone/adapter'}", "{'drive': True}", HF_ENDPOINT=hub.url)
    errors = refusals_in(without_token.stdout)
    assert errors[0][:3] == ["hub", "someone/adapter", "needs a token that may write"]
    assert errors[0][3].startswith("put it as HF_TOKEN into Colab's secrets")
    assert errors[1][:3] == ["drive", True, "Drive was not mounted (ValueError: mount failed)"]
    assert hub.requests == []
    hub.failure = "401"
    done = python(FORM, tmp_path, "{'hub': 'someone/adapter'}", HF_TOKEN=SECRET, HF_ENDPOINT=hub.url)
    [(setting, value, problem, _)] = refusals_in(done.stdout)
    assert (setting, value) == ("hub", "someone/adapter")
    assert problem == "the hub refuses https://huggingface.co/someone/adapter (401): your token does not open it"
    assert SECRET not in done.stdout + done.stderr


def refusals_in(printed: str) -> list[list[Any]]:
    """The fields of the refusals that a process has printed: setting, value, problem, remedy."""
    return [json.loads(line.removeprefix("refused ")) for line in printed.splitlines() if line.startswith("refused ")]


HOME = """
import json, sys
from pathlib import Path
from grpo_colab import Recipe, Run, notebook
from grpo_colab.errors import SettingError
from grpo_colab.notebook import take_home
run = Run.create(Recipe.load(sys.argv[1]), "runs/mine")
try:
    take_home(run)
except SettingError as error:
    print("refused", json.dumps([error.place, None, error.problem, error.remedy]))
run.adapter.mkdir()
for name in ("adapter_config.json", "adapter_model.safetensors"):
    (run.adapter / name).write_bytes(name.encode())
card = f"---\\nbase_model: {run.recipe.model_path}\\nlibrary_name: peft\\n---\\n"  # as PEFT writes it
(run.adapter / "README.md").write_text(card)
(run.path / "report.html").write_text("the report")
notebook.PUSH_PATIENCE_S = float(sys.argv[2])
try:
    take_home(run, "someone/adapter ")
except SettingError as error:
    print("refused", json.dumps([error.setting, error.value, error.problem, error.remedy]))
take_home(run, download=False)
"""


@pytest.mark.parametrize("recipe", ["word-problems-tiny", "gsm8k-qwen25-1.5b"])
def test_the_adapter_and_the_report_go_to_the_browser_and_to_the_top_of_the_repository(
    recipe: str, hub: Any, tmp_path: Path
) -> None:
    hub.repositories["someone/adapter"] = {}
    done = python(HOME, tmp_path, recipe, "60", HF_TOKEN=SECRET, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    [early] = refusals_in(done.stdout)
    assert early == ["runs/mine", None, "has no adapter yet", "run the training cell to its end"]
    files = {name: name.encode() for name in ("adapter_config.json", "adapter_model.safetensors")}
    files["report.html"] = b"the report"
    card = hub.repositories["someone/adapter"].pop("README.md", None)
    assert (card is not None) == (recipe == "gsm8k-qwen25-1.5b")  # the hub refuses a base model that is a folder
    assert hub.repositories["someone/adapter"] == files
    calls = [json.loads(line) for line in (tmp_path / "colab" / "calls.jsonl").read_text().splitlines()]
    assert calls == [{"call": "files.download", "filename": "mine-adapter.zip"}]
    with zipfile.ZipFile(tmp_path / "colab" / "downloads" / "mine-adapter.zip") as taken:
        assert {name: taken.read(name) for name in taken.namelist() if name != "README.md"} == files
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(("failure", "patience_s"), [("hang", "2"), ("401", "60")])
def test_a_hub_that_fails_costs_the_push_alone(failure: str, patience_s: str, hub: Any, tmp_path: Path) -> None:
    hub.repositories["someone/adapter"] = {}
    hub.failure = failure
    done = python(HOME, tmp_path, "word-problems-tiny", patience_s, HF_TOKEN=SECRET, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "colab" / "downloads" / "mine-adapter.zip").is_file()
    _, (setting, value, problem, remedy) = refusals_in(done.stdout)
    assert (setting, value) == ("hub", "someone/adapter")
    assert ("no answer in 2 s" in problem) == (failure == "hang")
    again = "take_home(run, 'someone/adapter', download=False)"
    assert remedy.endswith(f"the adapter is in mine-adapter.zip; to push it again: {again}")


LATER = """
import sys
from pathlib import Path
from grpo_colab import Recipe, Run
from grpo_colab.notebook import take_home, trained
mirror = None if len(sys.argv) == 1 else sys.argv[1]
recipe = Recipe.load("word-problems-tiny", budget={"mirror": mirror} if mirror else {})
if not Path("runs").exists():
    run = Run.create(recipe, "runs/mine")
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    run.write_json("evaluation.json", {"step": recipe.budget.max_steps})
take_home(trained(recipe), download=False)
"""


@pytest.mark.parametrize("kind", ["drive", "hub"])
def test_a_finished_run_is_copied_once_where_that_was_wished_for_later(kind: str, hub: Any, tmp_path: Path) -> None:
    hub.repositories["someone/adapter"] = {}
    destination = "hf://someone/adapter" if kind == "hub" else str(tmp_path / "drive")

    def held() -> bytes | None:
        if kind == "hub":
            return hub.repositories["someone/adapter"].get("mine/evaluation.json")
        file = tmp_path / "drive" / "mine" / "evaluation.json"
        return file.read_bytes() if file.is_file() else None

    def once(*arguments: str, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        done = python(LATER, folder, *arguments, HF_TOKEN=SECRET, HF_ENDPOINT=hub.url)
        assert done.returncode == 0, done.stderr
        assert "is this recipe's run, and finished" in done.stderr
        return done

    assert "copying" not in once().stderr
    assert held() is None
    later = once(destination)
    evaluation = tmp_path / "runs" / "mine" / "evaluation.json"
    assert held() == evaluation.read_bytes()
    assert f"Copied to {destination}/mine" in later.stderr
    assert f"The whole run: {destination}/mine" in later.stdout
    if kind == "hub":
        return
    assert "copying" not in once(destination).stderr
    # one whose last copy is older than its evaluation
    evaluation.write_text(evaluation.read_text() + " ")
    os.utime(evaluation, (time.time() + 60, time.time() + 60))
    assert "Copied to" in once(destination).stderr
    assert held() == evaluation.read_bytes()
    # on another machine, which has it from there
    (tmp_path / "another").mkdir()
    shutil.copytree(tmp_path / "runs", tmp_path / "another" / "runs", ignore=lambda *_: ["mine"])
    assert "copying" not in once(destination, folder=tmp_path / "another").stderr


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tests")
    from hub_server import Hub

    with Hub() as served:
        yield served


CHECK = """
import json
from grpo_colab import Recipe
from grpo_colab.errors import SettingError
from grpo_colab.notebook import check
try:
    check(Recipe.load("gsm8k-llama31-8b"))
except SettingError as error:
    print("refused", json.dumps([error.setting, None, error.problem, error.remedy]))
"""


def test_a_machine_that_cannot_train_the_recipe_stops_run_all(tmp_path: Path) -> None:
    done = python(CHECK, tmp_path, CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
    [(setting, _, problem, remedy)] = refusals_in(done.stdout)
    assert setting == "fit", done.stderr
    assert "GiB of this CPU" in problem  # it does not fit, or takes weeks
    assert "Change runtime type" in remedy
    assert len(done.stdout.splitlines()) > 11  # all that the doctor looked at


def test_an_error_is_one_sentence_in_a_notebook() -> None:
    code = "from grpo_colab.notebook import settings; settings('lama')"
    done = subprocess.run([sys.executable, "-m", "IPython", "-c", code], capture_output=True, text=True, check=False)
    with pytest.raises(SettingError) as error:
        settings("lama")
    assert done.stdout.strip() == str(error.value)


# --- the notebooks, executed


@dataclass
class Colab:
    """A runtime: an environment that has the stack but not this package, and a wheel of the checkout."""

    environment: Path
    wheel: Path
    place: Path  # $FAKE_COLAB

    def run(self, name: str, folder: Path, kill_after: int = 0, **form: str) -> Any:
        """Execute the notebook in `folder` with these values in its form; the notebook with its outputs.

        With `kill_after` the kernel is killed when a run has logged so many steps, and there is nothing to return.
        """
        book = stored(name)
        source = (COLAB / "install.py").as_uri()
        changed = 0
        for cell in code_cells(book):
            text = re.sub(r"https://\S*/colab/install\.py", source, cell.source)
            text = text.replace("%run install.py", f"%run install.py --package {self.wheel}")
            for field, value in form.items():
                text, times = re.subn(rf"^{field} = .*?(?=  # @param)", f"{field} = {value}", text, flags=re.MULTILINE)
                changed += times
            cell.source = text
        assert changed == len(form)
        folder.mkdir(exist_ok=True)
        specs = KernelSpecManager(kernel_dirs=[str(self.environment / "kernels")])
        manager = AsyncKernelManager(kernel_spec_manager=specs, kernel_name="runtime")
        client = nbclient.NotebookClient(
            book, km=manager, timeout=300, resources={"metadata": {"path": str(folder)}}, allow_errors=False
        )
        if kill_after:
            threading.Thread(target=self._kill, args=(manager, folder, kill_after), daemon=True).start()
            with pytest.raises(nbclient.exceptions.DeadKernelError):
                client.execute(env=self._variables())
            return None
        client.execute(env=self._variables())
        return book

    def _kill(self, manager: Any, folder: Path, steps: int) -> None:
        while not any(len(file.read_text().splitlines()) >= steps for file in folder.glob("runs/*/metrics.jsonl")):
            time.sleep(0.05)
        os.kill(manager.provisioner.pid, 9)

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "WANDB_API_KEY")}
        path = f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        home = str(self.place / "home")
        return kept | {"PATH": path, "PYTHONPATH": str(FAKE), "FAKE_COLAB": str(self.place), "HF_HOME": home}


@pytest.fixture(scope="module")
def colab(tmp_path_factory: pytest.TempPathFactory) -> Colab:
    folder = tmp_path_factory.mktemp("colab")
    source = folder / "source"  # a build leaves its traces beside what it builds
    source.mkdir()
    shutil.copytree(ROOT / "grpo_colab", source / "grpo_colab", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", *build, str(source)], check=True)
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    stack = folder / "stack"
    stack.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "grpo_colab" not in path.name and path.suffix != ".pth":
            (stack / path.name).symlink_to(path)
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "stack.pth").write_text(f"{stack}\n")
    spec = environment / "kernels" / "runtime"
    spec.mkdir(parents=True)
    command = [str(environment / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": command, "display_name": "runtime", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about))
    place = folder / "colab"
    (place / "drive").mkdir(parents=True)
    (place / "secrets.json").write_text(json.dumps({"HF_TOKEN": SECRET}))
    return Colab(environment, next(folder.glob("*.whl")), place)


def said(book: Any) -> str:
    """All that the outputs hold, as text."""
    return json.dumps([cell.outputs for cell in code_cells(book)], ensure_ascii=False)


def cell_of(book: Any, words: str) -> Any:
    return next(cell for cell in code_cells(book) if words in cell.source)


def test_the_main_notebook_from_top_to_bottom_and_again_after_a_cut(colab: Colab, tmp_path: Path) -> None:
    form = {"steps": f'"{STEPS}"', "drive": "True"}
    first = tmp_path / "content"
    colab.run("grpo_gsm8k", first, kill_after=4, **form)
    (path,) = (first / "runs").iterdir()
    asked = (path / "evaluation-before.jsonl").stat().st_mtime_ns
    assert not (path / "evaluation.json").exists()

    book = colab.run("grpo_gsm8k", first, **form)
    assert "grpo_colab and everything that it needs are installed already" in str(cell_of(book, "install.py").outputs)
    assert "Resuming" in str(cell_of(book, "trained(").outputs)
    assert list((first / "runs").iterdir()) == [path]
    assert (path / "evaluation-before.jsonl").stat().st_mtime_ns == asked
    run = Run(path)
    assert run.recipe.name == "word-problems-tiny"
    assert [row["step"] for row in run.metrics()] == list(range(1, STEPS + 1))
    assert run.finished
    assert run.evaluation is not None
    assert run.evaluation["n"] == 256
    assert (path / "report.html").is_file()
    assert (path / "rewards.png").is_file()
    (shown,) = [o for o in cell_of(book, "show(").outputs if "text/html" in o.get("data", {})]
    assert "held-out problems" in shown.data["text/html"]
    assert any("text/html" in o.get("data", {}) for o in cell_of(book, "check(").outputs)
    answers = str(cell_of(book, "ask(").outputs)
    assert answers.index("before training") < answers.index("after training")

    copy = colab.place / "drive" / "grpo_colab" / path.name
    assert (copy / "adapter" / "adapter_model.safetensors").read_bytes() == (
        path / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
    with zipfile.ZipFile(colab.place / "downloads" / f"{path.name}-adapter.zip") as taken:
        assert {"adapter_model.safetensors", "adapter_config.json", "report.html"} <= set(taken.namelist())

    assert SECRET not in said(book)
    assert not any(SECRET.encode() in file.read_bytes() for file in path.rglob("*") if file.is_file())

    metrics = (path / "metrics.jsonl").read_bytes()
    another_machine = tmp_path / "another-machine"
    another_machine.mkdir()
    for folder in (first, another_machine):
        done = python(ONCE_MORE, folder, str(STEPS), FAKE_COLAB=str(colab.place))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"runs/{path.name}"
        assert "is this recipe's run, and finished" in done.stderr
        assert [run.name for run in (folder / "runs").iterdir()] == [path.name]
        assert (folder / "runs" / path.name / "metrics.jsonl").read_bytes() == metrics


ONCE_MORE = """
import sys
from grpo_colab.notebook import settings, take_home, trained
run = trained(settings("auto", sys.argv[1], drive=True))
take_home(run, download=False)
print(run.path)
"""


@pytest.mark.long
def test_your_own_data_from_top_to_bottom_on_the_sample(colab: Colab, tmp_path: Path) -> None:
    book = colab.run("your_own_data", tmp_path, download="False")
    read = "".join(o.get("text", "") for o in cell_of(book, "own_recipe(").outputs)
    assert "held out     50 rows" in read
    audited = "".join(o.get("text", "") for o in cell_of(book, "look_for_holes(").outputs)
    assert audited.rstrip().endswith("\nok")
    (path,) = (tmp_path / "runs").iterdir()
    run = Run(path)
    assert run.finished
    assert "python:brevity_reward" in run.recipe.rewards
    evaluation = run.evaluation
    assert evaluation is not None
    assert evaluation["n"] == 50
    # what its text promises: that the small model learns the sample
    assert evaluation["paired"]["p_value"] < 0.01
    assert evaluation["after"]["accuracy"] > evaluation["before"]["accuracy"]
    pictures = [o.data for o in cell_of(book, "trained(").outputs if "text/html" in o.get("data", {})]
    assert any("data:image/png;base64," in data["text/html"] for data in pictures)
    answers = str(cell_of(book, "ask(").outputs)
    assert answers.index("before training") < answers.index("after training")
    assert (tmp_path / f"{path.name}-adapter.zip").is_file()


@pytest.mark.long
def test_the_reward_workshop_from_top_to_bottom(colab: Colab, tmp_path: Path) -> None:
    book = colab.run("reward_workshop", tmp_path)
    audits = [cell for cell in code_cells(book) if "grpo-colab audit" in cell.source]
    holes, mended = ("".join(o.get("text", "") for o in cell.outputs) for cell in audits)
    assert "pays, and should not (" in holes
    assert mended.rstrip().endswith("\nok")
    scores = "".join(o.get("text", "") for o in cell_of(book, "grpo-colab score").outputs)
    assert "correctness and first disagree" in scores
    assert "correctness and my disagree" not in scores
    (path,) = (tmp_path / "runs").iterdir()
    evaluation = Run(path).evaluation
    assert evaluation is not None
    # what its text promises: that it learns, by more than chance
    assert evaluation["after"]["accuracy"] > evaluation["before"]["accuracy"]
    assert evaluation["paired"]["p_value"] < 0.01
    assert (path / "report.html").is_file()


@pytest.mark.long
def test_the_drawing_notebook_from_top_to_bottom(colab: Colab, tmp_path: Path) -> None:
    book = colab.run("drawing_grpo_vs_her", tmp_path, image='"4-squares"', iterations="4", method='"her"')
    folders = sorted((tmp_path / "runs").iterdir())
    runs = [Run(path) for folder in folders for path in folder.iterdir() if path.is_dir()]
    assert [run.recipe.hindsight.method for run in runs if run.recipe.hindsight] == ["both", "grpo", "her", "her"]
    assert [run.recipe.task["image"] for run in runs][:3] == ["4-squares"] * 3
    assert all(run.finished and run.last_step <= 4 for run in runs)
    images = [cell.outputs[-1].data for cell in code_cells(book) if "picture(" in cell.source]
    assert ["image/png" in data for data in images] == [True, True]
    for words in ("her = ", "grpo = ", "both = ", "mine = "):
        pages = [o.get("data", {}).get("text/html", "") for o in cell_of(book, words).outputs]
        assert sum(page.count("data:image/gif;base64,") for page in pages) == 1, words
    curves, table = [o.data for o in cell_of(book, "compare(").outputs]
    assert "image/png" in curves
    for method in ("hindsight", "grpo", "both"):
        assert re.search(rf"<th>{method}</th>\s*<td>[01] of 1</td>", table["text/html"]), method
    # what its text promises of an image with few objects
    assert any(run.solved for run in runs if run.recipe.task["image"] == "4-squares")
    real = "".join(o.get("text", "") for o in cell_of(book, "draw_on_gpu(").outputs)
    assert "There is no GPU here" in real


@pytest.mark.long
def test_the_notebook_that_looks_from_top_to_bottom(colab: Colab, gsm8k: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some"  # of GSM8K: the whole of it has a test of its own
    folder.mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        rows = (gsm8k / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(rows[:150]), encoding="utf-8")
    book = colab.run("explore_gsm8k", tmp_path / "content", path=repr(str(folder)), steps=str(STEPS))
    (path,) = (tmp_path / "content" / "runs").iterdir()
    assert [row["step"] for row in Run(path).metrics()] == list(range(1, STEPS + 1))
    for words, page in (
        ('explore("gsm8k"', "gsm8k: 300 questions"),
        ("show(", "held-out problems"),
        ("explore(run=", "word problems: 4,352 questions"),
    ):
        (shown,) = [o.data["text/html"] for o in cell_of(book, words).outputs if "text/html" in o.get("data", {})]
        assert "<iframe srcdoc=" in shown, words
        assert page in shown, words
    outputs = cell_of(book, "train(").outputs
    pictures = [o.data for o in outputs if "data:image/png;base64," in o.get("data", {}).get("text/html", "")]
    assert len(pictures) == 1  # drawn again and again in one place
    asked = "".join(o.get("text", "") for o in cell_of(book, "explore(run=").outputs)
    assert "The run's policy was asked " in asked
