"""The tripwires: each stops a run that earns it, at the step that meets it, and says what to change."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from refusals import check, refused

from grpo_colab import Recipe, train
from grpo_colab.recipe.schema import Tripwires as Settings
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.run import Run
from grpo_colab.training.trainer_rows import CompletionLogMixin

pytestmark = pytest.mark.stack

STEPS = 4


def recipe(tripwires: dict[str, Any] | None = None, **grpo: Any) -> Recipe:
    small = {"max_completion_length": 16, "num_generations": 4, "lr_scheduler_type": "constant"}
    return Recipe.load(
        task={"limit": 64},
        grpo={**small, **grpo},
        tripwires=tripwires or {},
        budget={"max_steps": STEPS, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 2, "max_completion_tokens": 4},
    )


def tripped(chosen: Recipe, out: Path) -> tuple[str, dict[str, Any]]:
    """What was said, and what tripwire.json holds."""
    module = importlib.import_module("grpo_colab.training.tripwires")
    with pytest.raises(module.Tripped) as caught:
        train(chosen, out=out)
    record = json.loads((out / "tripwire.json").read_text())
    assert record == json.loads(json.dumps(caught.value.record))
    assert record["wire"] in str(caught.value)
    assert record["completions"][0].keys() == {"prompt", "completion", "rewards"}
    return str(caught.value), record


class PoisonedGradient:
    """Makes one number of one gradient NaN at a step, where the trainer has clipped them: a callback."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any, **kwargs: Any) -> None:
        if state.global_step == self.step - 1:
            optimizer.param_groups[0]["params"][-1].grad.view(-1)[0] = math.nan


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("grpo_colab.training.trainer")
    build = module.build_trainer

    def with_poison(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        trainer.add_callback(PoisonedGradient(3))
        return trainer

    monkeypatch.setattr(module, "build_trainer", with_poison)


@pytest.mark.usefixtures("poisoned")
def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(tmp_path: Path) -> None:
    text, record = tripped(recipe(), tmp_path / "run")
    assert "at step 3 the gradient was nan; the policy wrote '" in text
    assert (record["wire"], record["what"]) == ("tripwires.non_finite", "the gradient was nan")
    assert record["suggestion"].startswith("lower grpo.learning_rate (now 0.0008), say to 0.0002")
    assert f"; {record['suggestion']}; tripwires.non_finite = false turns this off" in text
    assert (record["step"], record["last_good_step"], record["seen"]) == (3, 2, {"largest_gradient": "nan"})
    run = Run(tmp_path / "run")
    assert [row["step"] for row in run.metrics()] == [1, 2]
    last = run.last_checkpoint()
    assert last is not None
    assert last.name == "checkpoint-2"
    from safetensors.torch import load_file

    assert all(values.isfinite().all() for values in load_file(last / "adapter_model.safetensors").values())


@pytest.mark.usefixtures("poisoned")
def test_without_the_wire_it_is_the_users_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NaN"):  # the adapter is merged for the next step's sampling, and PEFT refuses
        train(recipe({"non_finite": False}), out=tmp_path / "run")
    assert len(Run(tmp_path / "run").metrics()) == 3


def test_a_huge_step_makes_gibberish_which_is_seen_at_once(tmp_path: Path) -> None:
    text, record = tripped(recipe(learning_rate=1.0), tmp_path / "run")
    assert "at step 2 its samples are worth -" in text
    assert (record["wire"], record["threshold"], record["step"]) == ("tripwires.gibberish", 2.0, 2)
    assert record["suggestion"].startswith("lower grpo.learning_rate (now 1)")
    assert record["last_good_step"] == 0  # the first update spoilt it, so that checkpoint-1 is no good
    assert record["seen"]["nats"] < record["seen"]["nats_at_first"] - 2.0


def test_a_kl_that_runs_away_is_seen_at_its_third_step(tmp_path: Path) -> None:
    wires = {"gibberish": 0.0, "max_kl": 5.0}
    text, record = tripped(
        recipe(wires, learning_rate=1.0, beta=0.1, mask_truncated_completions=False), tmp_path / "run"
    )
    assert "tripwires.max_kl = 5.0: at step 4 the KL to the base model was" in text
    assert "or raise grpo.beta (now 0.1)" in text
    assert "tripwires.max_kl = 0.0 turns this off" in text
    assert (record["step"], record["last_good_step"]) == (4, 0)
    assert min(record["seen"]["kl"]) > 5.0


def test_turned_off_the_same_runs_go_on_and_a_healthy_one_is_the_same_with_and_without(tmp_path: Path) -> None:
    off = {"gibberish": 0.0, "max_kl": 0.0, "max_length_growth": 0.0, "non_finite": False}
    ruined = train(recipe(off, learning_rate=1.0, beta=0.1), out=tmp_path / "ruined")
    assert len(ruined.metrics()) == STEPS
    without, watched = train(recipe(off), out=tmp_path / "without"), train(recipe(), out=tmp_path / "watched")
    assert repeatable(without.metrics()) == repeatable(watched.metrics())
    assert without.completions() == watched.completions()
    assert not (watched.path / "tripwire.json").exists()


class Bench(CompletionLogMixin):
    """The parts of a trainer that the wires read; with rows as metrics, they are all that decides."""

    class accelerator:
        scaler: Any = None
        process_index, num_processes = 0, 1

    class args:
        learning_rate, max_grad_norm, beta, max_completion_length, fp16 = 1e-5, 1.0, 0.04, 200, True

    def __init__(self) -> None:
        self.log_samples(None, [])

    def log_samples(self, prompt: Any, completions: list[str]) -> None:
        """As TRL logs a step's completions."""
        same: dict[str, list[Any]] = {"prompt": len(completions) * [prompt], "advantages": len(completions) * [0.0]}
        rewards = {"own": len(completions) * [0.0]}
        self._logs = {**same, "completion": completions, "rewards": rewards, "extra": {}}

    def is_world_process_zero(self) -> bool:
        return True


def seen(rows: list[dict[str, Any]], tmp_path: Path, scaler: Any = None, **settings: Any) -> Any:
    """The tripwires after these rows, of which the last tripped them, or none."""
    from transformers import TrainerControl, TrainerState

    module = importlib.import_module("grpo_colab.training.tripwires")
    run = Run.create(Recipe.load(), tmp_path / "run")
    wires = module.Tripwires(Settings(**{"gibberish": 0.0, **settings}), run, None)
    wires.trainer = Bench()
    wires.trainer.accelerator.scaler = scaler
    for step, row in enumerate(rows, 1):
        assert wires.tripped is None, f"tripped before step {step}"
        control = TrainerControl(should_save=True)
        wires.on_log(None, TrainerState(global_step=step), control, logs=row)
        stopped = wires.tripped is not None
        assert (control.should_save, control.should_training_stop) == (not stopped, stopped)
    return wires


def row(**values: Any) -> dict[str, Any]:
    return {"reward": 1.0, "loss": 0.0, "grad_norm": 0.3, "completions/mean_length": 40.0, **values}


def lengths(*parts: tuple[int, float, float]) -> list[dict[str, Any]]:
    """Rows by parts: how many, their length, their reward."""
    return [row(reward=paid, **{"completions/mean_length": long}) for n, long, paid in parts for _ in range(n)]


TRIPS = {
    "loss": ([row(), row(loss=math.nan)], {}, "non_finite", 1),
    "reward": ([row(reward=math.inf)], {}, "non_finite", 0),
    "gradient": ([row(grad_norm=math.inf)], {}, "non_finite", 0),
    "KL of NaN, which TRL leaves out": ([row(kl=0.1), row(kl=None)], {}, "non_finite", 1),
    "KL": ([row(kl=0.1), *3 * [row(kl=10.5)]], {}, "max_kl", 0),
    "KL later": ([*5 * [row(kl=0.1)], *3 * [row(kl=10.5)]], {}, "max_kl", 4),
    "length": (lengths((10, 40, 1.0), (10, 900, 1.0)), {}, "max_length_growth", 19),
    "length, slowly, with a falling reward": (
        lengths((10, 40, 1.0), (20, 100, 1.0), (9, 170, 0.8)),
        {},
        "max_length_growth",
        38,
    ),
}
HOLDS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "healthy": (60 * [row(kl=0.3)], {}),
    "off": ([row(loss=math.nan, grad_norm=math.nan, reward=math.inf, kl=None)], {"non_finite": False}),
    "a reward that nobody could give": ([row(reward=None)], {}),
    "a KL of two steps, twice": ([*2 * [row(kl=99.0)], row(kl=1.0), *2 * [row(kl=99.0)]], {}),
    "KL off": (9 * [row(kl=99.0)], {"max_kl": 0.0}),
    "length off": (lengths((10, 40, 1.0), (30, 900, 1.0)), {"max_length_growth": 0.0}),
    "length that pays": (lengths((10, 40, 1.0), (30, 900, 1.1)), {}),
    "length within the limit": (lengths((10, 40, 1.0), (30, 160, 0.5)), {}),
    "a few long steps": (lengths((10, 40, 1.0), (9, 150, 1.0), (1, 200, 1.0)), {}),
    "what is no step": ([{"train_loss": math.nan, "train_runtime": 1.0}], {}),
}


@pytest.mark.parametrize(("rows", "settings", "wire", "good"), TRIPS.values(), ids=list(TRIPS))
def test_rows_that_trip_at_the_last(
    rows: list[dict[str, Any]], settings: dict[str, Any], wire: str, good: int, tmp_path: Path
) -> None:
    wires = seen(rows, tmp_path, **settings)
    assert wires.tripped is not None
    record = json.loads((tmp_path / "run" / "tripwire.json").read_text())
    assert (record["wire"], record["step"], record["last_good_step"]) == (f"tripwires.{wire}", len(rows), good)
    check(wires.tripped, f"tripwires.{wire}", getattr(Settings(), wire), remedy=record["suggestion"])


@pytest.mark.parametrize(("rows", "settings"), HOLDS.values(), ids=list(HOLDS))
def test_rows_that_trip_nothing(rows: list[dict[str, Any]], settings: dict[str, Any], tmp_path: Path) -> None:
    assert seen(rows, tmp_path, **settings).tripped is None
    assert not (tmp_path / "run" / "tripwire.json").exists()


def test_a_loss_scaler_may_skip_nine_steps_in_a_row(tmp_path: Path) -> None:
    import torch

    module = importlib.import_module("grpo_colab.training.tripwires")
    wires = seen([row(grad_norm=math.inf)], tmp_path, scaler=torch.amp.GradScaler("cpu"))
    assert wires.tripped is None
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], lr=1.0)

    def step(value: float) -> None:
        from transformers import TrainerState

        parameter.grad = torch.tensor([0.0, value, 0.0])
        wires.on_pre_optimizer_step(None, TrainerState(global_step=6), None, optimizer=optimizer)

    for value in [*9 * [math.inf], 1.0, *9 * [math.nan]]:
        step(value)
    problem, remedy = "at step 7 the gradient was inf 10 times in a row", "model.dtype = 'bfloat16'"
    with refused("tripwires.non_finite", True, problem=problem, remedy=remedy, kind=module.Tripped):
        step(math.inf)


def test_sampling_that_fails_is_told_as_the_tripwire_that_it_is(tmp_path: Path) -> None:
    import torch

    wires = seen([], tmp_path)
    from transformers import TrainerState

    wires.trainer.state = TrainerState(global_step=4)
    with pytest.raises(RuntimeError) as failed:
        torch.multinomial(torch.tensor([math.nan, 1.0]), 1)
    explained = wires.explain(failed.value)
    check(explained, "tripwires.non_finite", True, problem="at step 5 the policy's probabilities were NaN")
    assert explained.record["last_good_step"] == 3
    assert wires.explain(RuntimeError("CUDA out of memory")) is None


def test_a_few_terse_answers_are_no_gibberish(tmp_path: Path) -> None:
    """A token or two that the base model would not have begun with, beside others that it would write itself."""
    from transformers import TrainerControl, TrainerState

    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    module = importlib.import_module("grpo_colab.training.tripwires")
    task = Recipe.load().load_task()
    problem = task.problems("train", 1)[0]
    prompt, good = task.messages(problem), task.golden_completion(problem)
    wires = module.Tripwires(
        Settings(), Run.create(Recipe.load(), tmp_path / "run"), load_policy(Recipe.load(), current_device())
    )
    wires.trainer = Bench()
    for step, said in enumerate((4 * [good], [good, "8", "34", "8"], 4 * ["9 acks7 kit la0 � 4"]), 1):
        assert wires.tripped is None
        wires.trainer.log_samples(prompt, said)
        wires.on_log(None, TrainerState(global_step=step), TrainerControl(), logs=row())
    assert wires.tripped.record["wire"] == "tripwires.gibberish"


def test_a_resumed_run_knows_what_came_before(tmp_path: Path) -> None:
    from transformers import TrainerControl, TrainerState

    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    module = importlib.import_module("grpo_colab.training.tripwires")
    run = Run.create(Recipe.load(), tmp_path / "run")
    task = Recipe.load().load_task()
    problem = task.problems("train", 1)[0]
    prompt, good, bad = task.messages(problem), task.golden_completion(problem), "9 acks7 kit la0 � 4"
    run.append("metrics.jsonl", [{"step": step, **row(kl=99.0 if step > 1 else 0.1)} for step in (1, 2, 3, 4)])
    run.append(
        "completions.jsonl",
        [{"step": n, "prompt": prompt, "completion": bad if n > 2 else good, "rewards": {}} for n in (1, 2, 3)],
    )

    def resumed(**settings: Any) -> Any:
        """At the step after checkpoint-2; the metrics of steps 3 and 4 are of the run that was cut."""
        wires = module.Tripwires(Settings(**settings), run, load_policy(Recipe.load(), current_device()))
        wires.trainer = Bench()
        wires.trainer.log_samples(prompt, [bad])
        wires.on_train_begin(None, TrainerState(global_step=2), TrainerControl())
        wires.on_log(None, TrainerState(global_step=3), TrainerControl(), logs=row(kl=99.0))
        return wires

    wires = resumed(max_kl=0.0)
    assert wires.tripped.record["wire"] == "tripwires.gibberish"
    assert (wires.tripped.record["step"], wires.tripped.record["last_good_step"]) == (3, 1)
    wires = resumed(gibberish=0.0)
    assert wires.tripped is None  # the KL of steps 2 and 3 alone: 4 is not of this run
    wires.on_log(None, TrainerState(global_step=4), TrainerControl(), logs=row(kl=99.0))
    assert wires.tripped.record["wire"] == "tripwires.max_kl"
