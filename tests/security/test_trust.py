"""To read is not to run: whose code runs, who is asked, and what is said of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, Run, notebook
from grpo_colab.cli import main
from grpo_colab.doctor.findings import Probe
from grpo_colab.doctor.template import check_template
from grpo_colab.errors import SettingError
from grpo_colab.evaluation.data_summary import describe_data
from grpo_colab.evaluation.evaluate import evaluate_run
from grpo_colab.evaluation.golds import examples_of_task
from grpo_colab.experiments.variants import variants
from grpo_colab.plan import plan
from grpo_colab.plan.disk import adapter_bytes
from grpo_colab.plan.model_shape import ModelShape, adapted
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.policy.templates import load_tokenizer
from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.recipe.trust import check_trust, check_trust_of_all
from grpo_colab.rewards import get_strict_format_reward, resolve_reward
from grpo_colab.rewards.names import parse_reward
from grpo_colab.runs import mirror
from grpo_colab.runs.folders import check_free
from grpo_colab.runs.resume import open_run, unfinished
from grpo_colab.tasks.jsonl_rows import read_jsonl
from grpo_colab.utils.device import current_device

Command = Callable[..., subprocess.CompletedProcess[str]]
LOUD = "open({mark!r}, 'w').close()\ndef own_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n"
REWARDS = (
    "\"os.system(command='touch {mark}')\" = 1.0",
    '"{folder}/own.py:own_reward" = 1.0',
    '"loud_module.own_reward" = 1.0',
    '"loud_module.get_own_reward(at=1)" = 1.0',
    '"loud_package.inner.own_reward" = 1.0',
)


@pytest.fixture
def received(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write a recipe that somebody sent, with this line in its rewards, and the code beside it."""
    folder = tmp_path / "received"
    (folder / "loud_package").mkdir(parents=True)
    for name in ("own.py", "loud_module.py", "loud_package/__init__.py", "loud_package/inner.py"):
        (folder / name).write_text(LOUD.format(mark=str(mark)))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])

    def write(rewards: str, rest: str = "") -> Path:
        line = rewards.replace("{mark}", str(mark)).replace("{folder}", str(folder))
        (folder / "recipe.toml").write_text(f'preset = "word-problems-tiny"\n{rest}\n[rewards]\n{line}\n')
        return folder / "recipe.toml"

    return write


@pytest.mark.parametrize("rewards", REWARDS)
def test_a_recipe_is_read_and_printed_and_compared_without_running_it(
    rewards: str, received: Callable[[str], Path], mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = received(rewards)
    recipe = Recipe.load(path)
    assert recipe == Recipe.load(path)
    assert recipe.repeats(Recipe.load(path))
    run = Run.create(recipe, tmp_path / "runs" / "one")
    assert not run.finished
    # what a notebook does when it looks for an unfinished run
    assert list(unfinished(recipe, (tmp_path / "runs").iterdir())) == [run.path]
    with pytest.raises(SystemExit):
        main(["recipes", str(path)])
    assert "correctness = 2.0" in capsys.readouterr().out
    assert not mark.exists()


LOOKING = """
import sys
from grpo_colab.cli import main
recipe, run = sys.argv[1:]
for words in (
    ["recipes", recipe], ["plan", recipe, "--gpu", "T4"], ["doctor", recipe],
    ["embed", recipe, "--n", "20"], ["embed", "--run", run, "--n", "20"], ["status", run], ["report", run],
):
    try:
        main(words)
    except SystemExit as ended:
        print("ended", words[0], ended.code)
"""


def test_no_command_that_looks_runs_what_it_looks_at(
    received: Callable[[str], Path], mark: Path, tmp_path: Path
) -> None:
    """All the examples in one recipe, and all the commands in one process, which stands where the code lies."""
    path = received("\n".join(one.replace("own_reward", f"own_{n}_reward") for n, one in enumerate(REWARDS)))
    for file in path.parent.rglob("*.py"):
        names = "".join(f"own_{n}_reward = own_reward\n" for n in range(len(REWARDS)))
        file.write_text(file.read_text() + names)
    run = Run.create(Recipe.load(path), tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", LOOKING, str(path), str(run.path)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("\nended ") >= 1
    assert (run.path / "report.html").is_file()
    assert not mark.exists()


GRADER = "open({mark!r}, 'w').close()\ndef grade(response, answer):\n    return response == answer\n"


@pytest.mark.parametrize(
    "settings",
    [
        '[task]\ngrader = "{file}:grade"\n',
        "[rewards]\ncorrectness = false\n\"correctness(grader='{file}:grade')\" = 1.0\n",
        "[rewards]\n\"length(grader='{file}:grade')\" = 1.0\n",
        "[rewards]\ncorrectness = false\n\"grpo_colab.rewards.get_correctness_reward(grader='{file}:grade')\" = 1.0\n",
    ],
)
def test_a_grader_of_others_is_trusted_before_it_runs(settings: str, tmp_path: Path, mark: Path) -> None:
    """Wherever it is named: reading, comparing and asking for the golds do not import it."""
    file = tmp_path / "own.py"
    file.write_text(GRADER.format(mark=str(mark)))
    path = tmp_path / "recipe.toml"
    path.write_text(f'preset = "word-problems-tiny"\n{settings.format(file=file)}')
    recipe = Recipe.load(path)
    task = recipe.load_task()
    assert task.system_prompt
    recipe.own_reward_functions()
    with refused(problem=f"runs code that is not grpo_colab's: {file}:grade", snapshot=False):
        check_trust(recipe)
    assert not mark.exists()
    assert f"{file}:grade" in str(check_trust(recipe, trust_code=True))
    check_trust(recipe)  # remembered
    for function in recipe.reward_functions():
        function(completions=["<answer>4</answer>"], answer=["4"])
    assert mark.exists()


TASK = """from grpo_colab.tasks import Problem, Task
open({mark!r}, "w").close()
class Own(Task):
    name = "own"
    def problems(self, split, n=None):
        return [Problem(f"{{split}} {{number}} + 1?", str(number + 1)) for number in range(40)][:n]
"""


def test_data_runs_a_task_of_others_only_where_it_is_trusted(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "own.py").write_text(TASK.format(mark=str(mark)))
    path = tmp_path / "mine.toml"
    path.write_text(f'preset = "word-problems-tiny"\n[task]\nname = "{tmp_path / "own.py"}:Own"\n')
    with refused(problem="runs code that is not grpo_colab's", remedy="--trust-code", snapshot=False):
        describe_data(Recipe.load(path))
    with refused(problem="runs code that is not grpo_colab's", snapshot=False):
        examples_of_task(str(path))
    assert not mark.exists()
    assert describe_data(Recipe.load(path), trust_code=True).splits["train"].problems == 40
    assert mark.exists()


def test_no_command_that_looks_runs_a_task_either(
    received: Callable[..., Path], mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor imports a library of tasks: only `embed` needs the problems, and asks."""
    path = received("correctness = 1.0", '[task]\nname = "own_task.py:Own"')
    (path.parent / "own_task.py").write_text(TASK.format(mark=str(mark)))
    run = Run.create(Recipe.load(path), tmp_path / "run")
    run.write_lines("metrics.jsonl", [{"step": 1, "reward": 1.0}])
    done = subprocess.run(
        [sys.executable, "-c", LOOKING, str(path), str(run.path)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("ended embed 2") == 2
    assert done.stderr.count("--trust-code once") == 2
    assert (run.path / "report.html").is_file()
    assert not mark.exists()
    # named on the command line, it is the user's own; from a file it is trusted once
    for words in (["embed", "own_task.py:Own"], ["embed", str(path), "--trust-code"], ["embed", str(path)]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--out", str(tmp_path / "map")])
        assert ended.value.code == 0
        said = capsys.readouterr()
        assert f"Running code that is not grpo_colab's: {path.parent}/own_task.py:Own" in said.err
        assert said.out.startswith("own: 40 train and 40 test problems")
    assert mark.exists()


@pytest.mark.parametrize("rewards", REWARDS)
def test_who_trains_a_received_recipe_is_asked_once(
    rewards: str, received: Callable[[str], Path], mark: Path, tmp_path: Path
) -> None:
    path = received(rewards)
    with ExitStack() as held, refused(problem="came as a file, and runs code ", remedy="--trust-code once"):
        open_run(Recipe.load(path), tmp_path / "out", None, held)
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    assert check_trust(Recipe.load(path), trust_code=True)
    said = check_trust(Recipe.load(path))
    assert said is not None
    assert said.startswith("Running code that is not grpo_colab's: ")


def test_trust_is_of_one_name_in_one_place(received: Callable[[str], Path], tmp_path: Path) -> None:
    check_trust(Recipe.load(received('"{folder}/own.py:own_reward" = 1.0')), trust_code=True)
    others = (
        '"loud_module.own_reward" = 1.0',
        '"{folder}/loud_module.py:own_reward" = 1.0',
        '"{folder}/own.py:get_own_reward(of=1)" = 1.0',
    )
    (tmp_path / "received" / "own.py").write_text("def own_reward(**kw): ...\ndef get_own_reward(of): ...\n")
    for rewards in others:
        with refused(problem="runs code", remedy="--trust-code"):
            check_trust(Recipe.load(received(rewards)))
    assert check_trust(Recipe.load(received('"{folder}/own.py:own_reward" = 0.25')))


def test_what_the_user_names_is_the_users_choice(received: Callable[[str], Path], tmp_path: Path) -> None:
    """On the command line or in Python; and remembered, so that the run's own folder asks nothing afterwards."""
    name = f"{tmp_path}/received/own.py:own_reward"
    path = received(f'"{name}" = 1.0')
    said = check_trust(Recipe.load(rewards={name: 0.5}))
    assert said == f"Running code that is not grpo_colab's: {name}"
    assert check_trust(Recipe.load(path)) == said
    assert check_trust(Recipe.load()) is None


def test_a_memory_that_cannot_be_kept_lasts_as_long_as_the_process(
    received: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    path = received('"{folder}/own.py:own_reward" = 1.0')
    assert check_trust(Recipe.load(path), trust_code=True) == check_trust(Recipe.load(path))


@pytest.mark.parametrize(
    "table",
    [
        "[model]\ntrust_remote_code = true",
        "[grpo]\nmodel_init_kwargs = {attn_implementation = 'someone/kernel'}",
        "[grpo]\ntrust_remote_code = true",
        "[grpo]\nmodel_init_kwargs = {trust_remote_code = true}",
        "[grpo]\nmodel_init_kwargs = '{\"trust_remote_code\": true}'",
        "[grpo]\nmodel_init_kwargs = {use_kernels = true}",
        "[grpo]\nmodel_init_kwargs = '[{\"trust_remote_code\": true}]'",
        "[lora]\nmegatron_config = {x = 1}",
    ],
)
def test_a_models_own_code_is_code(table: str, received: Callable[..., Path]) -> None:
    setting = table[1:].replace("]\n", ".").partition(" ")[0]
    path = received("correctness = 1.0", table)
    with refused(problem=f"{setting} of the model tiny", remedy="--trust-code"):
        check_trust(Recipe.load(path))
    assert setting in str(check_trust(Recipe.load(path), trust_code=True))
    # another model is another's code
    elsewhere = Recipe.load(path)
    elsewhere.model["model_name"] = "someone/else"
    with refused(problem=f"{setting} of the model someone/else", remedy="--trust-code"):
        check_trust(elsewhere)


def test_what_is_switched_off_is_no_code(received: Callable[..., Path]) -> None:
    assert check_trust(Recipe.load(received("correctness = 1.0", "[model]\ntrust_remote_code = false"))) is None
    assert check_trust(Recipe.load(received("", "[grpo]\nmodel_init_kwargs = {attn_implementation = 'sdpa'}"))) is None


@pytest.mark.stack
def test_a_plan_reads_a_models_configuration_and_not_its_code(
    received: Callable[..., Path], mark: Path, tmp_path: Path
) -> None:
    """A folder with its own Python, which `trust_remote_code` would run: from a file, and as a user's own setting."""
    model = tmp_path / "model"
    shutil.copytree(TINY_MODEL, model)
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    path = received("correctness = 1.0", f"[model]\nmodel_name = {str(model)!r}\ntrust_remote_code = true")
    assert plan(Recipe.load(path), "T4").parameters > 500_000
    with ExitStack() as held, refused(problem="runs code", remedy="--trust-code"):
        open_run(Recipe.load(path), tmp_path / "run", None, held)
    assert (mark.exists(), (tmp_path / "run").exists()) == (False, False)


@pytest.mark.stack
@pytest.mark.parametrize("trusts", long_but(["false"], ["true", "false", None]))
def test_the_doctor_reads_a_models_tokenizer_and_runs_none_of_its_code(
    trusts: str | None, received: Callable[..., Path], mark: Path, tmp_path: Path
) -> None:
    """A tokenizer with its own Python, in a recipe that came as a file."""
    model = tmp_path / "model"
    shutil.copytree(TINY_MODEL, model)
    for name, auto_class in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((model / name).read_text())
        content["auto_map"] = {auto_class: "code.Own" if auto_class == "AutoConfig" else ["code.Own", "code.Own"]}
        content["tokenizer_class"] = "Own"
        content["model_type"] = "own"
        (model / name).write_text(json.dumps(content))
    (model / "code.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    trust = f"trust_remote_code = {trusts}" if trusts else ""
    recipe = Recipe.load(received("correctness = 1.0", f"[model]\nmodel_name = {str(model)!r}\n{trust}"))
    state, found, _ = check_template(Probe(recipe, [], "", None, False))
    assert (state, found.startswith("not known")) == ("ok", True)
    assert not mark.exists()


def test_a_run_folder_a_mirror_and_drawings_ask(received: Callable[[str], Path], mark: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(received('"{folder}/own.py:own_reward" = 1.0'))
    run = Run.create(recipe, tmp_path / "sent" / "run")
    with ExitStack() as held, refused(problem="runs code", remedy="--trust-code"):
        open_run(None, None, run.path, held)
    mirror.push(run.path, str(tmp_path / "mirror"))
    with ExitStack() as held, refused(problem="runs code", remedy="--trust-code"):
        open_run(None, tmp_path / "back", f"{tmp_path}/mirror/run", held)
    with refused(problem="runs code", remedy="--trust-code"):
        check_trust_of_all([run.recipe])
    assert not mark.exists()
    # who brings the recipe in Python has named its code; the folder is then its own
    own = Recipe.load(rewards=recipe.rewards)
    with ExitStack() as held:
        found, _, _ = open_run(own, None, run.path, held)
    assert found is not None
    with ExitStack() as held:
        open_run(None, None, run.path, held)


def test_evaluate_asks(received: Callable[[str], Path], mark: Path, tmp_path: Path, command: Command) -> None:
    run = Run.create(Recipe.load(received('"{folder}/own.py:own_reward" = 1.0')), tmp_path / "run")
    run.adapter.mkdir()
    run.write_json("adapter/adapter_config.json", {})
    run.write_lines("evaluation-before.jsonl", [{"question": "q", "right": True}])
    done = command("evaluate", str(run.path))
    assert done.returncode == 2
    assert "--trust-code" in done.stderr
    assert not mark.exists()


def test_the_values_that_a_file_sweeps_over_are_the_files(received: Callable[..., Path]) -> None:
    tables = {"task": {"image": "12-squares"}}
    path = received("correctness = 1.0")
    path.write_text(
        'preset = "drawing-tiny"\n[sweep]\n"model.trust_remote_code" = [true]\n"hindsight.samples" = [8]\n'
        '"rewards.loud_module.own_reward" = [1.0]\n'
    )
    [recipe] = variants(path, tables, 1, True).values()
    assert set(recipe.received) == {"model.trust_remote_code", "rewards.loud_module.own_reward"}
    with refused(problem="runs code", remedy="--trust-code"):
        check_trust(recipe)
    [named] = variants(path, tables | {"sweep": {"model.trust_remote_code": [True]}}, 1, True).values()
    assert set(named.received) == {"rewards.loud_module.own_reward"}


def test_with_its_settings_a_factory_alone_is_called(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from grpo_colab.rewards import reward_factory\n"
        f"def run(command):\n    open({str(mark)!r}, 'w').close()\n    return lambda **kwargs: []\n"
        "def get_own_reward(by):\n    return lambda **kwargs: [by]\n"
        "@reward_factory\ndef made(by):\n    return lambda **kwargs: [by]\n"
    )
    for name in ("os.system(command='true')", "builtins.exec(x=1)", f"{tmp_path}/own.py:run(command='x')"):
        with refused(None, problem="only a factory is called with them", remedy="name it get_"):
            resolve_reward(name)
    assert not mark.exists()
    for name in ("get_own_reward", "made"):
        assert resolve_reward(f"{tmp_path}/own.py:{name}(by=3)")() == [3]


def test_what_is_this_packages_own_needs_no_trust() -> None:
    ours = ("correctness", "think_format(prefilled=True)", "grpo_colab.rewards.correctness_reward")
    assert all(parse_reward(name).ours for name in (*ours, "grpo_colab.tasks.drawing.pixels_reward"))
    strange = (
        "grpo_colab.tiny.__main__.main",
        "grpo_colab.rewards.__main__.f",
        "grpo_colab.utils.files.write_text",
        "grpo_colab_evil.f_reward",
        "grpo_colab/rewards/__init__.py:f_reward",
        "grpo_colab.py:f_reward",
    )
    assert not any(parse_reward(name).ours for name in strange)
    with refused(None, problem="is no reward of grpo_colab", remedy="write the module that it comes from"):
        resolve_reward("grpo_colab.rewards.resolve.cast")
    made = resolve_reward("grpo_colab.rewards.get_strict_format_reward(reasoning_tag='think')")
    assert made.settings == get_strict_format_reward(reasoning_tag="think").settings


LOOKED_FOR = ("click", "tomli_w", "statistics", "org", "envwrap", "vllm", "triton", "kernels", "cuda", "sitecustomize")


@pytest.mark.long
def test_no_file_where_one_stands_takes_a_librarys_place(tmp_path: Path, mark: Path) -> None:
    """Nor that of one that is not installed and that another one looks for, nor an entry point, in any command."""
    for name in (*LOOKED_FOR, "loud_plugin"):
        # what stands in for a library says so, and then that it is not there
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\nraise ImportError\n")
    about = tmp_path / "loud-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nx = loud_plugin:f\n[torch.backends]\nx = loud_plugin:f\n")
    (tmp_path / "vllm-0.11.0.dist-info").mkdir()
    (tmp_path / "vllm-0.11.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.0\n")
    (tmp_path / "c.jsonl").write_text(
        json.dumps({"completion": r"\boxed{\frac{x^2+1}{\sqrt{3}}}", "answer": r"\sqrt{2}"})
    )
    for words in (("recipes",), ("doctor",), ("score", "c.jsonl", "--rewards", "math"), ("status", str(tmp_path))):
        done = subprocess.run(
            [sys.executable, "-m", "grpo_colab", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        assert not mark.exists(), (words, mark.read_text())


def test_a_reward_of_ones_own_is_still_found_where_one_stands(tmp_path: Path, command: Command) -> None:
    (tmp_path / "my_rewards.py").write_text("def brief_reward(completions, **kwargs):\n    return [1.0]\n")
    (tmp_path / "c.jsonl").write_text('{"completion": "x"}\n')
    for name in ("my_rewards.brief_reward", "my_rewards.py:brief_reward"):
        done = command("score", "c.jsonl", "--rewards", name)
        assert done.returncode == 0, done.stderr
        where = f"{tmp_path}/my_rewards.py"
        shown = f"{where}:brief_reward" if ":" in name else f"my_rewards.brief_reward from {where}"
        assert done.stderr == f"Running code that is not grpo_colab's: {shown}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--resume", ""),
        ("train", "--resume", "  "),
        ("train", "--out", ""),
        ("draw", "--resume", ""),
        ("score", "x.jsonl", "--out="),
        ("report", "x", "--out", ""),
        ("embed", "--run", ""),
    ],
    ids=" ".join,
)
def test_an_empty_name_is_no_name(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--resume "$RUN"` with an unset variable must not train a new run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        main([*words])
    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []
    with ExitStack() as held, refused("--resume", "", problem="is empty", remedy="name a run folder"):
        open_run(None, None, "", held)


@pytest.mark.parametrize("link", ["warnings.jsonl", "completions.jsonl", "checkpoints", "adapter", ".lock", "deep/er"])
def test_a_run_folder_with_a_link_out_of_it_is_not_gone_on_with(link: str, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    (tmp_path / "theirs").write_text("theirs")
    (run.path / link).parent.mkdir(exist_ok=True)
    (run.path / link).symlink_to(tmp_path / "theirs")
    with ExitStack() as held, pytest.raises(SettingError, match=rf"{re.escape(link)}'? is a link"):
        open_run(None, None, run.path, held)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_links_that_stay_inside_are_nobodys_business(tmp_path: Path) -> None:
    """Such as wandb's own; and the whole folder may be a link."""
    run = Run.create(Recipe.load(), tmp_path / "elsewhere" / "run")
    (run.path / "wandb" / "run-1").mkdir(parents=True)
    (run.path / "wandb" / "latest-run").symlink_to("run-1")
    (tmp_path / "run").symlink_to(run.path)
    with ExitStack() as held:
        found, _, _ = open_run(None, None, tmp_path / "run", held)
    assert found is not None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    with Hub() as served:
        yield served


@pytest.mark.stack
def test_the_hub_is_never_asked_for_a_folder_of_this_machine(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose adapter is gone, a model's folder that is gone: a token would go along."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with refused(problem="has no adapter_model.safetensors", place=tmp_path / "adapter"):
        Policy(None, None).load_adapter(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    for name in (f"{tmp_path}/absent", "./absent", "../absent/model", "~/absent", "a/b/c"):
        gone = Recipe.load()
        gone = gone.model_copy(update={"model": {**gone.model, "model_name": name}})  # as a run's own recipe is read
        for use in (lambda recipe: load_policy(recipe, current_device()), lambda recipe: plan(recipe, "T4")):
            with refused("model.model_name", name, problem="there is no such folder", snapshot=False):
                use(gone)
        assert load_tokenizer(gone) is None
    assert hub.requests == []


@pytest.mark.stack
@pytest.mark.parametrize("damage", [b"", b"\0" * 100, None])
def test_an_adapter_that_is_damaged_is_told_in_words(damage: bytes | None, tmp_path: Path) -> None:
    learner = load_policy(Recipe.load(), current_device())
    learner.save(tmp_path / "adapter")
    kept = tmp_path / "adapter" / "adapter_model.safetensors"
    kept.write_bytes(kept.read_bytes()[:-500] if damage is None else damage)
    problem, remedy = "its adapter_model.safetensors is damaged (", "take another checkpoint"
    with refused(problem=problem, remedy=remedy, place=tmp_path / "adapter", snapshot=False):
        learner.load_adapter(tmp_path / "adapter")


def test_what_is_taken_home_is_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link in the adapter's folder would be zipped, and pushed to the hub, with what it leads to."""
    monkeypatch.chdir(tmp_path)
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    (tmp_path / "id_rsa").write_text("secret")
    (run.adapter / "notes.txt").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(SettingError, match="is a link out of the folder"):
        notebook.take_home(run, download=False)
    assert not list(tmp_path.glob("*.zip"))
    (run.adapter / "notes.txt").unlink()
    (run.path / "drawing.gif").symlink_to(tmp_path / "id_rsa")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    notebook.animate(run)
    assert "has drawn nothing" in shown[0].data


def test_a_line_without_an_end_is_no_row(tmp_path: Path) -> None:
    with (tmp_path / "rows.jsonl").open("wb") as file:
        file.truncate(60 << 30)
    with refused(problem="has a line of more than", place=tmp_path / "rows.jsonl"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("config", ["[]", "{", '{"hidden_size": "x", "num_hidden_layers": 1e400}', "[" * 100_000])
def test_a_models_configuration_that_is_odd_ends_in_words(config: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(config)
    recipe = Recipe.load(model={"model_name": str(tmp_path / "model")})
    assert adapter_bytes(recipe) > 0
    with refused("model.model_name", problem="its configuration cannot be read", snapshot=False):
        plan(recipe, "T4")


@pytest.mark.stack
def test_a_model_of_a_thousand_million_layers_is_not_built(tmp_path: Path) -> None:
    shutil.copytree(TINY_MODEL, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text()) | {"num_hidden_layers": 10**9}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with refused("model.model_name", problem="num_hidden_layers = 1000000000 is more than any model has"):
        plan(Recipe.load(model={"model_name": str(tmp_path / "model")}), "T4")


@pytest.mark.parametrize("name", ["recipe.toml", "adapter/adapter_model.safetensors"])
def test_a_run_is_not_read_through_a_link(name: str, tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.adapter.mkdir()
    theirs = tmp_path / "theirs"
    theirs.write_text(Recipe.load().to_toml())
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(theirs)
    (run.adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(SettingError, match="is a link"):
        evaluate_run(run.path)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "x" * 3000, "a/" * 2000])
def test_a_name_that_no_file_can_have_ends_in_a_line(name: str, tmp_path: Path, capsys: Any) -> None:
    """As a reward's file, a task's, a mirror, a model, and as the folder of a run."""
    for words in (
        ["recipes", f"--rewards.{name}.py:f_reward", "1"],
        ["recipes", "gsm8k-tiny", "--task.path", name],
        ["recipes", "--budget.mirror", name],
        ["recipes", "--model.model-name", name],
        ["train", "--resume", name],
        ["status", name],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code in (0, 2)
        assert len(capsys.readouterr().err.splitlines()) <= 1


def test_a_path_that_is_too_long_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--out .*: is a path of over 3000 bytes; choose a shorter one"):
        check_free(tmp_path / "/".join(["x" * 150] * 30))


@pytest.mark.parametrize("name", ["grpo_colab.rewards.combine.combine", "grpo_colab.rewards.parametrised.Parametrised"])
def test_what_is_ours_and_no_reward_is_refused_in_words(name: str) -> None:
    with refused(f"rewards.{name}", problem="has no signature that can be read", remedy="name a Python function"):
        Recipe.load(rewards={name: 1.0})


def test_a_pattern_that_is_none_is_refused_in_words() -> None:
    with refused("lora.target_modules", "[", problem="is not a regular expression"):
        adapted(_shape_of_one_layer(), "[", 8)


def _shape_of_one_layer() -> ModelShape:
    return ModelShape(1, 2, 2, 2, 2, 4, (4,), (("model.layers.0.q_proj", 2, 2),), ())
