"""One image is learnt at test time, by each method, for real: the shipped model, and a real one's shape, on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from warm import Warm

from grpo_colab import Recipe, Run, draw, train
from grpo_colab.errors import SettingError
from grpo_colab.experiments.results import draw_text, summary, table
from grpo_colab.experiments.series import made_runs, new_runs, stop_signals_watched
from grpo_colab.experiments.variants import variants
from grpo_colab.runs.folders import DRAW
from grpo_colab.runs.lock import locked
from grpo_colab.runs.status import status
from grpo_colab.utils.files import read_json, write_json

pytestmark = pytest.mark.stack

Command = Callable[..., subprocess.CompletedProcess[str]]
METHODS = ("grpo", "her", "both")
FEW: dict[str, dict[str, Any]] = {
    "budget": {"max_steps": 2},
    "grpo": {"num_generations": 8},
    "hindsight": {"samples": 6, "cold_samples": 2},
}
HARD = "12-squares"


def share(row: dict[str, Any]) -> float:
    """Of right pixels in a completion's drawing, by the recipe's one reward."""
    [value] = row["rewards"].values()
    return value


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of two steps by each method."""
    folder = tmp_path_factory.mktemp("tiny")
    return {method: draw(HARD, method, out=folder / method, **FEW)[0] for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_whole_run_folder(method: str, tiny: dict[str, Run]) -> None:
    from safetensors.torch import load_file

    run = tiny[method]
    assert run.finished
    assert [row["step"] for row in run.metrics()] == [1, 2]
    rows = run.completions()
    for line in run.metrics():
        paid = [share(row) for row in rows if row["step"] == line["step"]]
        assert len(paid) == 8
        assert line["reward/max"] == pytest.approx(max(paid))
        assert line["reward/min"] == pytest.approx(min(paid))
        assert line["reward"] == pytest.approx(sum(paid) / 8)
    assert run.evaluation is not None
    assert run.evaluation["solved"] is False
    assert run.recipe.hindsight is not None
    assert run.recipe.hindsight.method == method
    weights = load_file(run.adapter / "adapter_model.safetensors")
    assert any(values.any() for name, values in weights.items() if "lora_B" in name)  # it has learnt something


@pytest.mark.parametrize("method", METHODS)
def test_the_way_is_seen_in_pictures_and_in_the_report(method: str, tiny: dict[str, Run]) -> None:
    from PIL import Image

    run = tiny[method]
    drew = {row["step"] for row in run.completions() if share(row) > 0}
    with Image.open(run.path / "drawing.gif") as gif:
        assert gif.n_frames == len(drew) > 0
    with Image.open(run.path / "drawing.png") as png:
        png.load()
        assert png.width > 2 * 8 * 10  # two canvases of 8 columns at least
    page = (run.path / "report.html").read_text()
    assert "data:image/gif;base64," in page
    assert "<h2>The drawings</h2>" in page
    assert "\x1b[" in draw_text([run], colour=True)
    assert "\x1b[" not in draw_text([run], colour=False)


def test_a_summary_is_read_off_the_folder(tiny: dict[str, Run]) -> None:
    found = summary(tiny["her"])
    rows = tiny["her"].completions()
    assert (found["solved"], found["iterations"], found["samples"], found["method"]) == (False, 2, len(rows), "her")
    assert found["best"] == pytest.approx(max(share(row) for row in rows))
    assert found["seconds"] > 0
    assert status(tiny["her"].path)["state"] == "finished"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_easy_is_solved_and_ends_the_run(method: str, tmp_path: Path) -> None:
    few = {**FEW, "grpo": {"num_generations": 32}, "hindsight": {"samples": 32}, "budget": {"max_steps": 20}}
    [run] = draw("3333/3333/3333", method, out=tmp_path / "runs", **few)
    assert run.finished
    assert run.evaluation is not None
    assert run.evaluation["solved"] is True
    last = run.last_step
    assert last < 20
    solved = {row["step"] for row in run.completions() if share(row) == 1.0}
    assert solved == {last}
    assert summary(run)["best"] == 1.0
    assert status(run.path)["state"] == "finished"


@pytest.mark.long
def test_seeds_in_a_table_and_a_resume_that_skips_what_is_finished(command: Command, tmp_path: Path) -> None:
    settings = ["--grpo.num-generations", "8", "--budget.max-steps", "1"]
    done = command("draw", HARD, "--seeds", "2", "--out", "runs", "--json", *settings, timeout_s=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert [one["seed"] for one in found["summaries"]] == [42, 43]
    [row] = found["table"]
    assert (row["solved"], row["seeds"], row["samples"]) == (0, 2, {"median": 8, "min": 8, "max": 8})
    seconds = sorted(one["seconds"] for one in found["summaries"])
    assert (row["seconds"]["min"], row["seconds"]["max"]) == (seconds[0], seconds[1])
    written = [
        read_json(tmp_path / "runs" / DRAW),
        *(run.completions() for run in map(Run, (tmp_path / "runs").glob("s*"))),
    ]
    assert written[0] == found
    assert written[1] != written[2]

    shutil.rmtree(tmp_path / "runs" / "seed=43")  # as if it had only been begun
    Run.create(
        Recipe.load(
            "drawing-tiny", task={"image": HARD}, grpo={"seed": 43, "num_generations": 8}, budget={"max_steps": 1}
        ),
        tmp_path / "runs" / "seed=43",
    )
    before = (tmp_path / "runs" / "seed=42" / "metrics.jsonl").stat().st_mtime_ns
    runs = draw(resume=tmp_path / "runs")
    assert (tmp_path / "runs" / "seed=42" / "metrics.jsonl").stat().st_mtime_ns == before
    assert Run(tmp_path / "runs" / "seed=43").finished
    said = draw_text(runs, colour=False)
    assert "0/2" in said
    assert "seed=43: not solved in 1 iteration, 8 samples" in said


def test_a_table_counts_the_seeds_that_are_finished() -> None:
    counts = [(3, True, True), (9, True, False), (4, True, True), (1, False, False)]
    rows = table(
        [
            {
                "setting": "",
                "finished": finished,
                "solved": solved,
                "iterations": n,
                "samples": 72 * n,
                "seconds": 0.5 * n,
            }
            for n, finished, solved in counts
        ]
    )
    assert rows == [
        {
            "setting": "", "solved": 2, "seeds": 3,
            "iterations": {"median": 4, "min": 3, "max": 9},
            "samples": {"median": 288, "min": 216, "max": 648},
            "seconds": {"median": 2.0, "min": 1.5, "max": 4.5},
        }
    ]  # fmt: skip


@pytest.mark.long
def test_ctrl_c_says_how_to_go_on_and_it_does(tmp_path: Path, warm: Warm) -> None:
    settings = ["--hindsight.samples", "16", "--budget.max-steps", "250", "--out", "runs"]
    words = ["draw", "chick", "--method", "her", "--seeds", "2"]
    process = warm.start("-m", "grpo_colab", *words, *settings, cwd=tmp_path)
    first = tmp_path / "runs" / "seed=42"
    while process.poll() is None and not (first / "metrics.jsonl").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    assert "Go on with: grpo-colab draw --resume runs" in err
    assert "seed=42: unfinished in " in out
    assert not (tmp_path / "runs" / "seed=43" / "metrics.jsonl").exists()
    done = Run(first).last_step
    for seed in (42, 43):  # so that the rest is short
        path = tmp_path / "runs" / f"seed={seed}" / "recipe.toml"
        path.write_text(path.read_text().replace("max_steps = 250", f"max_steps = {done + 1 if seed == 42 else 1}"))
    draw(resume=tmp_path / "runs")
    assert [row["step"] for row in Run(first).metrics()] == list(range(1, done + 2))
    assert {row["step"] for row in Run(first).completions()} == set(range(1, done + 2))
    assert Run(first).finished


JACKPOT = """
def jackpot_reward(completions, trainer_state=None, **kwargs):
    step = 0 if trainer_state is None else trainer_state.global_step + 1
    return [100.0 if step == 2 and index == 3 else -1.0 for index in range(len(completions))]
"""


@pytest.mark.parametrize("iterations", [1, 2])
def test_stop_at_reward_ends_a_run_which_is_finished(iterations: int, tmp_path: Path) -> None:
    (tmp_path / "jackpot.py").write_text(JACKPOT)
    recipe = Recipe.load(
        rewards={f"{tmp_path}/jackpot.py:jackpot_reward": 2.0},
        grpo={"num_iterations": iterations},
        budget={"max_steps": 6, "stop_at_reward": 200.0, "rehearsal": False},
        evaluation={"n": 4},
    )
    if iterations == 2:  # the completions of step 3 are the second ones
        (tmp_path / "jackpot.py").write_text(JACKPOT.replace("step == 2", "step == 3"))
    run = train(recipe, out=tmp_path / "run")
    last = 2 if iterations == 1 else 3
    assert run.last_step == last
    assert run.finished
    assert run.evaluation is not None
    assert (run.evaluation["solved"], run.evaluation["step"]) == (True, last)
    assert status(run.path)["state"] == "finished"
    for line in (line for line in run.metrics() if "reward/max" in line):
        sums = [
            sum(weight * value for weight, value in zip(recipe.rewards.values(), row["rewards"].values(), strict=True))
            for row in run.completions()
            if row["step"] == line["step"]
        ]
        assert (line["reward/max"], line["reward/min"]) == (pytest.approx(max(sums)), pytest.approx(min(sums)))
    if iterations == 1:  # killed before its evaluation: it is not trained further
        (run.path / "evaluation.json").unlink()
        again = train(resume=run.path)
        assert (again.last_step, again.finished) == (last, True)


# What is given, and fields of the refusal.
BAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an unknown task": (
        {"image": "13-sqares"},
        {"setting": "task.image", "value": "13-sqares", "remedy": "9-vertical-lines, 12-squares, "},
    ),
    "ragged rows": (
        {"image": "888/88"},
        {"setting": "task.image", "value": "888/88", "problem": "row 2 has 2 cells"},
    ),
    "random drawings": (
        {"image": "random"},
        {"setting": "task.image", "value": "random", "remedy": "write one image, such as '12-squares'"},
    ),
    "an unknown method": (
        {"method": "hers"},
        {"setting": "hindsight.method", "value": "hers", "remedy": "'grpo', 'her' or 'both'"},
    ),
    "no seeds": ({"seeds": 0}, {"setting": "--seeds", "value": 0, "remedy": "1 or more"}),
    "a sweep of nothing": ({"sweep": True}, {"setting": "--sweep", "problem": "has no [sweep]"}),
    "a sweep with a bad value": (
        {"sweep": True, "recipe": "drawing-qwen25-coder-0.5b", "grpo": {"num_generatons": 2}},
        {"setting": "grpo.num_generatons", "remedy": "num_generations"},
    ),
    "another language": (
        {"task": {"language": "python"}},
        {"setting": "task.language", "value": "python", "problem": "was made for 'compact'"},
    ),
    "a compact real model": (
        {"recipe": "drawing-qwen25-coder-0.5b", "task": {"language": "compact"}},
        {"setting": "task.language", "value": "compact", "problem": "was made for 'python'"},
    ),
    "too large an image": (
        {"image": "36-squares"},
        {"setting": "task.image", "value": "36-squares", "problem": "was made for 10 at most"},
    ),
    "no folder to resume": (
        {"resume": "absent"},
        {"setting": "--resume", "value": "absent", "problem": "has no draw.json"},
    ),
    "a recipe for a resume": (
        {"resume": "absent", "recipe": "drawing-tiny"},
        {"setting": "--resume", "value": "absent", "remedy": "leave out --recipe"},
    ),
    "a setting for a resume": (
        {"resume": "absent", "budget": {"max_steps": 3}},
        {"setting": "--resume", "value": "absent", "remedy": "leave out budget"},
    ),
    "an image twice": (
        {"image": "chick", "task": {"image": HARD}},
        {"setting": "task.image", "value": HARD, "problem": "is given by TASK, too", "remedy": "leave one of them out"},
    ),
    "a tracker that hindsight does not know": (
        {"method": "her", "grpo": {"report_to": "trackio"}},
        {"setting": "grpo.report_to", "value": ["trackio"], "problem": "no tracker", "remedy": "--method grpo"},
    ),
    "groups to sample again": (
        {"method": "both", "sampling": {"refill": 1}},
        {"setting": "[sampling]", "problem": "is for GRPO", "remedy": "--method grpo"},
    ),
    "a probe of one image": (
        {"method": "her", "evaluation": {"every": 5}},
        {"setting": "evaluation.every", "problem": "is for GRPO"},
    ),
    "a method twice": (
        {"method": "her", "hindsight": {"method": "both"}},
        {"setting": "hindsight.method", "value": "both", "problem": "is given by --method, too"},
    ),
    "a sweep of what is not read": (
        {"method": "her", "sweep": {"grpo.beta": [0.0, 0.1], "grpo.seed": [1, 2]}},
        {"setting": "--sweep", "problem": "grpo.beta, grpo.seed", "remedy": "hindsight.samples for her and both"},
    ),
    "a sweep whose folders have too long names": (
        {"recipe": "drawing-qwen25-coder-0.5b", "sweep": {"task.system_prompt": ["x" * 300, "y"]}},
        {"setting": "--sweep", "problem": "over 200 bytes", "remedy": "write shorter values"},
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_work_is_refused_before_anything_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, fields = BAD[kind]
    with refused(**fields):
        draw(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_which_tasks_there_are(command: Command) -> None:
    for words in ((), ("12-squares", "chick")):
        done = command("draw", *words)
        assert done.returncode == 2
        assert "9-vertical-lines" in done.stderr
    assert command("draw", "12-squares", "--resume", "runs").returncode == 2


def test_each_method_sweeps_what_it_reads(command: Command, tmp_path: Path) -> None:
    settings = ["--hindsight.cold-samples", "1", "--budget.max-steps", "1"]
    sweep = ["--sweep.hindsight.samples", "[2, 3]", "--sweep.grpo.learning-rate", "[1e-5, 1e-4]"]
    done = command("draw", HARD, "--method", "her", "--out", "runs", "--json", *settings, *sweep, timeout_s=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "without grpo.learning_rate" in done.stderr
    assert [(row["setting"], row["samples"]["max"]) for row in json.loads(done.stdout)["table"]] == [
        ("samples=2", 3), ("samples=3", 4),
    ]  # fmt: skip
    study = "drawing-qwen25-coder-0.5b"
    by_method = {m: list(variants(study, {"hindsight": {"method": m}}, 1, True)) for m in METHODS}
    assert by_method["her"] == by_method["both"] == ["samples=128-seed=42", "samples=256-seed=42"]
    assert len(by_method["grpo"]) == 4 * 2


def test_a_setting_of_no_table_is_refused(command: Command) -> None:
    done = command("draw", HARD, "--image.x", "1")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--image.x: no such option" in done.stderr
    assert "hindsight, pretraining, sweep" in done.stderr


def test_what_a_kill_left_of_new_folders_is_made_by_a_resume(tmp_path: Path) -> None:
    made = new_runs(variants("drawing-tiny", {}, 2, False), tmp_path / "runs", DRAW)
    texts = [(run.path / "recipe.toml").read_text() for run in made]
    shutil.rmtree(made[1].path)
    assert [(run.path / "recipe.toml").read_text() for run in made_runs(tmp_path / "runs", DRAW)] == texts
    assert made[1].resume_command == f"grpo-colab draw --resume {tmp_path / 'runs'}"
    write_json(tmp_path / "runs" / DRAW, {"runs": [made[0].path.name]})  # beside which the other one only lies
    assert made[1].resume_command == f"grpo-colab train --resume {made[1].path}"


def test_an_error_in_one_run_leaves_the_others_alone(tmp_path: Path) -> None:
    few = {**FEW, "budget": {"max_steps": 1}, "hindsight": {"method": "her", "samples": 2, "cold_samples": 1}}
    first, second = new_runs(variants("drawing-tiny", few, 2, False), tmp_path / "runs", DRAW)
    with locked(first.path), refused(problem="is being trained by", place=first.path, snapshot=False):
        draw(resume=tmp_path / "runs")
    assert (first.finished, second.finished) == (False, True)
    assert read_json(tmp_path / "runs" / DRAW) is not None
    draw(resume=tmp_path / "runs")
    assert first.finished


def test_a_tripwire_says_how_to_go_on_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"num_generations": 8, "learning_rate": 1e30, "max_grad_norm": 1e30}
    [run] = draw(HARD, out=tmp_path / "runs", grpo=settings, budget={"max_steps": 6})
    assert (run.path / "tripwire.json").is_file()
    said = capsys.readouterr().err
    assert f"grpo-colab train --resume {run.path} --TABLE.SETTING VALUE. It counts as not solved." in said
    assert "draw --resume" not in said


def test_a_signal_that_another_handles_is_noticed() -> None:
    from grpo_colab.training.signals import Signals

    with stop_signals_watched() as stop_arrived:
        assert not stop_arrived()
        with Signals() as signals, signals.in_training():
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.count == 1
        assert stop_arrived()
    with (
        pytest.raises(SettingError, match="as it is"),
        stop_signals_watched() as stop_arrived,
    ):  # what goes wrong meanwhile is not lost
        assert not stop_arrived()
        raise SettingError("as it is")


def test_hindsight_keeps_to_its_hours_and_its_mirror(tmp_path: Path) -> None:
    budget = {"max_steps": 2, "max_hours": 1e-9, "mirror": str(tmp_path / "copies")}
    (tmp_path / "copies").mkdir()
    [run] = draw(HARD, "her", out=tmp_path / "runs", **{**FEW, "budget": budget})
    assert (run.last_step, run.finished) == (1, False)
    assert (tmp_path / "copies" / run.path.name / "checkpoints" / "slot-1" / "hindsight.pt").is_file()
    draw(resume=tmp_path / "runs")  # the last iteration, so that it is evaluated, though it is not solved
    assert (run.last_step, run.finished, run.evaluation and run.evaluation["solved"]) == (2, True, False)


def test_training_knows_grpo_alone() -> None:
    with refused("hindsight.method", "her", problem="is for `grpo-colab draw`, not for training"):
        train(Recipe.load("drawing-tiny", hindsight={"method": "her"}), out="never")
    assert not Path("never").exists()


# ------------------------------------------------------------------------------- a real model's shape


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of random weights, in a folder, with a small byte-pair tokenizer that has whole statements as tokens.

    So that some of the few tokens that it writes at random draw something.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    from grpo_colab.tasks.drawing.canvas import STATEMENTS, Statement
    from grpo_colab.tasks.drawing.python_calls import to_python
    from grpo_colab.tasks.drawing.task import Drawing

    task = Drawing(image="random", language="python")
    texts = [text for p in task.problems("train", 40) for text in (p.question, task.golden_completion(p))]
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer, whole.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    whole.train_from_iterator(
        [*texts, "system user assistant"], trainers.BpeTrainer(special_tokens=special, vocab_size=90)
    )
    statements = {
        f"{to_python((Statement(letter, colour, numbers[: len(kinds)]),))}\n"
        for letter, kinds in STATEMENTS.items()
        for colour in range(10)
        for numbers in ((0, 1, 1, 3), (1, 0, 1, 2), (1, 3, 0, 1), (0, 2, 1, 1))
    }
    whole.add_tokens([AddedToken(text, normalized=False) for text in sorted(statements)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, eos_token=special[2], pad_token=special[0])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes, **heads, **ends)
    folder = tmp_path_factory.mktemp("qwen") / "model"
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def small(model: Path, **tables: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's settings that a model of that shape needs to take two steps at once."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"model_name": str(model), "load_in_4bit": False},
        "grpo": {"num_generations": 4, "max_completion_length": 3, "optim": "adamw_torch", "learning_rate": 1e-3},
        "hindsight": {"samples": 6, "cold_samples": 2},
        "pretraining": {"steps": 2, "batch_size": 4, "micro_batch": 2},
        "budget": {"max_steps": 2, "rehearsal": False},
    }
    return {"recipe": "drawing-qwen25-coder-0.5b", **{t: {**v, **tables.get(t, {})} for t, v in settings.items()}}


@pytest.mark.long
def test_a_real_model_is_pretrained_once_and_then_learns_by_every_method(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from grpo_colab.training.pretraining import pretrained
    from grpo_colab.utils.device import current_device

    monkeypatch.chdir(tmp_path)
    adapters, pretraining, handler = {}, None, signal.getsignal(signal.SIGINT)
    for method in METHODS:
        [run] = draw("1234/5678", method, out=tmp_path / method, **small(qwen))
        assert run.finished
        assert [row["step"] for row in run.metrics()] == [1, 2]
        adapters[method] = load_file(run.adapter / "adapter_model.safetensors")
        [folder] = (tmp_path / "runs").iterdir()
        written = (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
        assert pretraining in (None, written)  # made once, and found again
        pretraining = written
    assert folder.name == "drawing-qwen25-coder-0.5b-pretraining"
    assert [row["step"] for row in Run(folder).metrics()] == [1, 2]
    assert status(folder)["state"] == "finished"
    assert signal.getsignal(signal.SIGINT) is handler
    taught = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert any(taught[name].any() for name in taught if "lora_B" in name)
    for weights in adapters.values():
        assert any((weights[name] != taught[name]).any() for name in taught)
        # it went on from what it was taught, and was not begun anew
        assert all((weights[name] - taught[name]).abs().max() < 0.02 for name in taught)

    problem = "drawing-qwen25-coder-0.5b-pretraining holds a pre-training with another"
    with refused("[lora]", problem=problem):
        draw("1234/5678", out=tmp_path / "other", **small(qwen), lora={"r": 4})
    with refused("[grpo]", problem=problem):
        draw("1234/5678", out=tmp_path / "more", **small(qwen, grpo={"weight_decay": 0.5}))
    tables = small(qwen)
    shorter = Recipe.load(tables.pop("recipe"), **tables, task={"max_prompt_tokens": 700})
    assert pretrained(shorter, current_device(), None) == folder.relative_to(tmp_path) / "adapter"

    shutil.rmtree(folder)  # as on another machine: a run that has begun has in it what was taught
    path = tmp_path / "her" / "seed=42" / "recipe.toml"
    path.write_text(path.read_text().replace("max_steps = 2", "max_steps = 3"))
    draw(resume=tmp_path / "her")
    assert Run(path.parent).last_step == 3
    assert not folder.exists()


def test_a_recipe_that_draws_nothing_and_two_values_of_one_folder_are_refused() -> None:
    with refused("--recipe", "word-problems-tiny", problem="draws nothing", remedy="drawing-tiny"):
        variants("word-problems-tiny", {}, 1, False)
    with refused("--sweep", problem="share the run folder", remedy="letters or digits"):
        variants("drawing-tiny", {"sweep": {"budget.mirror": ["a b", "a-b"]}}, 1, True)
