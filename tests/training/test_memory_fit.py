"""Out of memory: met in a rehearsal, and gone on with in smaller portions that learn the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused
from small_device import Small
from warm import Warm

from grpo_colab import Recipe, Run, train
from grpo_colab.plan import plan
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.runs.folders import is_free_again
from grpo_colab.runs.records import repeatable
from grpo_colab.training.preparation import has_room_to_spare
from grpo_colab.utils.device import current_device
from grpo_colab.utils.memory import out_of_memory

pytestmark = pytest.mark.stack

LONGEST = 48  # tokens of a completion in the default recipe


def quick(steps: int = 2, **tables: dict[str, Any]) -> Recipe:
    budget = {"max_steps": steps, "prompts_per_step": 2, **tables.pop("budget", {})}
    evaluation = {"n": 4, "max_completion_tokens": 8}
    return Recipe.load(task={"limit": 64}, budget=budget, evaluation=evaluation, **tables)


def learnt(run: Run) -> list[dict[str, Any]]:
    return repeatable(run.metrics())


def fresh(recipe: Recipe, **room: int) -> tuple[Policy, Small]:
    policy = load_policy(recipe, current_device())
    return policy, Small(policy, **room)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(quick(4, budget={"rehearsal": False}), out=tmp_path_factory.mktemp("runs") / "undisturbed")


def test_the_rehearsal_leaves_no_trace(undisturbed: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # where the policy is brought along there is no plan, which would say that this machine has memory to spare
    run = train(quick(4), out=tmp_path / "run", loaded=load_policy(quick(4), current_device()))
    assert learnt(run) == learnt(undisturbed)
    assert run.completions() == undisturbed.completions()
    adapters = [(each.adapter / "adapter_model.safetensors").read_bytes() for each in (run, undisturbed)]
    assert adapters[0] == adapters[1]
    (run.path / "evaluation.json").unlink()
    train(resume=run.path)  # where only the evaluation is left there is nothing to rehearse
    assert capfd.readouterr().err.count("A step fits at the longest prompt and 48 tokens") == 1


@pytest.mark.long
def test_with_a_reference_and_several_iterations_neither(tmp_path: Path) -> None:
    grpo = {"beta": 0.1, "num_iterations": 2, "top_entropy_quantile": 0.5}
    runs = []
    for on in (True, False):
        recipe = quick(2, grpo=grpo, budget={"rehearsal": on})
        runs.append(train(recipe, out=tmp_path / str(on), loaded=load_policy(recipe, current_device())))
    assert learnt(runs[0]) == learnt(runs[1])
    assert any(row["kl"] for row in runs[0].metrics())


def test_a_step_that_does_not_fit_is_cut_before_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = quick()
    policy, small = fresh(recipe, backward=5)
    run = train(recipe, out=tmp_path / "cut", loaded=policy)
    assert small.errors == 2  # 16, then 8: both in the first minute
    task = recipe.load_task()
    longest = max(len(policy.prompt_ids(task.messages(problem))) for problem in task.problems("train", 64))
    assert small.seen[:3] == [(16, longest + LONGEST), (8, longest + LONGEST), (4, longest + LONGEST)]
    assert small.seen[3][1] < longest + LONGEST  # the first step itself
    assert run.finished
    assert run.recipe.budget.micro_batch == 4
    assert (
        "Out of memory with budget.micro_batch = 8: now 2 prompts x 8 completions = 16 per step (4 per"
        in capfd.readouterr().err
    )
    asked = train(quick(budget={"micro_batch": 4}), out=tmp_path / "asked")
    assert learnt(run) == learnt(asked)
    assert run.completions() == asked.completions()


def test_in_the_middle_of_a_run_it_goes_on_from_the_last_step(undisturbed: Run, tmp_path: Path) -> None:
    recipe = quick(4, grpo={"save_steps": 100})
    policy, small = fresh(recipe, backward=8, since=3)  # the rehearsal and two steps go well
    run = train(recipe, out=tmp_path / "run", loaded=policy)
    assert small.errors == 1
    assert run.recipe.budget.micro_batch == 8
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    assert learnt(run)[:2] == learnt(undisturbed)[:2]
    assert run.completions()[:48] == undisturbed.completions()[:48]  # the third step is asked the same again
    for ours, whole in zip(learnt(run), learnt(undisturbed), strict=True):
        assert ours["reward"] == whole["reward"]
        assert ours["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("loss", long_but(["dapo"], ["dapo", "grpo", "dr_grpo"]))
def test_every_micro_batch_has_the_same_gradient(loss: str, tmp_path: Path) -> None:
    """One step of plain gradient descent at rate 1 from B = 0 makes B the gradient, with its sign turned."""
    from safetensors.torch import load_file

    grpo = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    gradients = {}
    for size in (16, 2):
        recipe = quick(
            1, grpo={**grpo, "loss_type": loss}, budget={"micro_batch": size, "rehearsal": False}, tripwires=OFF
        )
        run = train(recipe, out=tmp_path / f"{size}")
        weights = load_file(run.adapter / "adapter_model.safetensors")
        gradients[size] = {name: tensor for name, tensor in weights.items() if "lora_B" in name}
    for name, whole in gradients[16].items():
        scale = whole.abs().max().item()
        assert scale > 0
        assert (gradients[2][name] - whole).abs().max().item() < 1e-4 * scale, name


OFF = {"non_finite": False, "max_kl": 0.0, "max_length_growth": 0.0, "gibberish": 0.0}


@pytest.mark.long
def test_with_a_reference_in_the_middle_of_a_run_too(tmp_path: Path) -> None:
    """TRL keeps it as an adapter beside the policy's; the next trainer must not take what was learnt for it."""
    grpo = {"beta": 0.5, "learning_rate": 1e-2}
    policy, small = fresh(quick(3, grpo=grpo), backward=8, since=3)
    run = train(quick(3, grpo=grpo), out=tmp_path / "run", loaded=policy)
    whole = train(quick(3, grpo=grpo), out=tmp_path / "whole")
    assert small.errors == 1
    assert [row["kl"] for row in run.metrics()] == pytest.approx([row["kl"] for row in whole.metrics()], rel=0.05)
    assert run.metrics()[-1]["kl"] > 0


def test_generation_is_cut_into_portions(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = quick()
    policy, small = fresh(recipe, forward=5)
    run = train(recipe, out=tmp_path / "run", loaded=policy)
    assert small.errors
    assert run.finished
    assert len(run.completions()) == 2 * 16
    for start in range(0, 32, 8):  # still whole groups of one prompt each
        assert len({json.dumps(row["prompt"]) for row in run.completions()[start : start + 8]}) == 1
    said = capfd.readouterr().err
    assert said.count("of a step's 16 completions are generated together") == 2  # 8, then 4; not every step anew
    assert run.recipe.budget.micro_batch == 16  # the backward pass had room


def test_an_evaluation_is_cut_into_portions(tmp_path: Path) -> None:
    recipe = quick()
    policy, small = fresh(recipe)
    prompts = [recipe.load_task().messages(problem) for problem in recipe.load_task().problems("test", 10)]
    whole = policy.generate(prompts, 16, batch_size=10)
    small.forward = 3
    assert policy.generate(prompts, 16, batch_size=10) == whole
    assert small.errors == 2  # of 10, of 5; 2 fit


def test_one_answer_that_does_not_fit_alone_says_what_to_write(tmp_path: Path) -> None:
    recipe = quick()
    policy, _ = fresh(recipe, forward=0)
    prompt = recipe.load_task().messages(recipe.load_task().problems("test", 1)[0])
    with refused("evaluation.max_completion_tokens", 16, problem="out of memory with a single answer"):
        policy.generate([prompt], 16)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: ..."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."), False),
        (ValueError("out of memory"), False),
    ],
    ids=["CUDA", "CPU", "cuBLAS", "cuDNN", "another kind"],
)
def test_which_errors_are_of_memory(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected


def test_only_a_cpu_with_twice_the_planned_memory_is_not_tried() -> None:
    planned = plan(quick())
    assert planned.kind == "cpu"
    enough = dataclasses.replace(planned, memory=2 * planned.bytes)
    assert has_room_to_spare(enough)
    assert not has_room_to_spare(dataclasses.replace(enough, memory=enough.memory - 1))
    assert not has_room_to_spare(dataclasses.replace(enough, kind="cuda"))


def test_one_that_cannot_be_cut_says_what_to_write(tmp_path: Path) -> None:
    recipe = quick(budget={"micro_batch": 1})
    policy, _ = fresh(recipe, backward=0)
    problem = "out of memory (OutOfMemoryError: CUDA out of memory."
    remedy = "write a smaller grpo.max_completion_length, or a smaller lora.r"
    with refused("budget.micro_batch", 1, problem=problem, remedy=remedy):
        train(recipe, out=tmp_path / "run", loaded=policy)
    assert is_free_again(tmp_path / "run")


REAL = """
import resource, sys
from grpo_colab import Recipe, train
from grpo_colab.utils.device import current_device
from grpo_colab.policy.loading import load_policy
import torch

recipe = Recipe.load(
    model={"max_seq_length": 1024}, grpo={"max_completion_length": 400}, rewards={"strict_format": 1.0},
    budget={"max_steps": 1, "prompts_per_step": 8, "micro_batch": 64}, evaluation={"n": 2, "max_completion_tokens": 4},
)
policy = load_policy(recipe, current_device())

def limit(*_):  # from the first backward pass on the system gives 900 MiB more and then no more
    if torch.is_grad_enabled() and resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, ((taken << 10) + (900 << 20),) * 2)

policy.model.register_forward_pre_hook(limit)
train(recipe, out=sys.argv[1], loaded=policy)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is Linux's")
def test_a_real_lack_of_memory(tmp_path: Path, warm: Warm) -> None:
    """64 sequences of 500 tokens take 1.7 GiB for a backward pass of the tiny model, 8 take 0.2."""
    done = warm.run("-c", REAL, str(tmp_path / "run"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "Out of memory with budget.micro_batch = 64: now 8 prompts x 8 completions = 64 per step (32 per" in done.stderr
    )
    run = Run(tmp_path / "run")
    assert run.finished
    assert 1 <= run.recipe.budget.micro_batch <= 32
    assert run.metrics()[0]["grad_norm"] > 0
