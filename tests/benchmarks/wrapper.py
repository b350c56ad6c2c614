"""What the wrapper costs: seconds per step of `grpo_colab.train` against a bare script with the same TRL trainer.

    python tests/benchmarks/wrapper.py [--steps 150]
    python tests/benchmarks/wrapper.py --safety     everything that keeps a run, against the same run without it

With --safety both sides are ours: one with the default recipe's checkpoints (by step and by time), tripwires, clock and
a mirror in a folder, the other with all of that off. A checkpoint falls on one step in twenty, so that there the ratio
of the sums counts.

Both sides train the shipped tiny model with the same GRPOConfig, rewards, rows and seed, in one process, and take turns
step by step: a machine whose speed drifts by a quarter within a minute (as shared ones do) then slows both alike. Each
side keeps its own random states, so that both do the same work, which is checked. A step is timed from its beginning to
the beginning of the next, so what the callbacks do between steps counts. Printed is the median of the ratios of the
pairs, with its interval from the binomial distribution of ranks.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import unsloth  # noqa: F401  # first, as everywhere

import torch  # isort: skip
from transformers import TrainerCallback  # isort: skip

from grpo_colab import Recipe

train = importlib.import_module("grpo_colab.training.train").train
trainer_module = importlib.import_module("grpo_colab.training.trainer")
build_trainer = trainer_module.build_trainer
WARM_UP = 5  # steps a side that are not counted
SIDES = ["bare", "wrapped"]


class Turns:
    """Lets one of two threads go on at a time, each with its own random states."""

    def __init__(self) -> None:
        self.ready = threading.Barrier(len(SIDES))
        self.may_go = {side: threading.Event() for side in SIDES}
        self.may_go[SIDES[0]].set()
        self.done = dict.fromkeys(SIDES, False)

    def wait(self, side: str) -> None:
        self.may_go[side].wait()
        self.may_go[side].clear()

    def give(self, side: str) -> None:
        other = SIDES[1 - SIDES.index(side)]
        self.may_go[side if self.done[other] else other].set()


class Timed(TrainerCallback):
    """Times the steps of one side while it has the turn."""

    def __init__(self, side: str, turns: Turns) -> None:
        self.side, self.turns = side, turns
        self.seconds: list[float] = []
        self.rewards: list[float] = []
        self.began: float | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        states = torch.get_rng_state(), random.getstate()
        if self.began is None:
            self.turns.ready.wait()
        else:
            self.seconds.append(time.perf_counter() - self.began)
            self.turns.give(self.side)
        self.turns.wait(self.side)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        self.began = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "reward" in logs:
            self.rewards.append(logs["reward"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.turns.done[self.side] = True
        self.turns.give(self.side)


def bare(recipe: Recipe, timed: Timed, folder: Path) -> None:
    """TRL by hand, as its documentation shows it."""
    import trl
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from unsloth import FastLanguageModel

    # in float32, as ours: without it Unsloth takes bfloat16 on a CPU that has it, which is another amount of work
    model, tokenizer = FastLanguageModel.from_pretrained(
        recipe.model_path, max_seq_length=512, load_in_4bit=False, dtype=torch.float32
    )
    model = FastLanguageModel.get_peft_model(model, **recipe.lora)
    task = recipe.load_task()
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=recipe.reward_functions(),
        train_dataset=Dataset.from_list(
            [{"prompt": task.messages(p), "answer": p.answer} for p in task.problems("train")]
        ),
        callbacks=[timed],
        args=trl.GRPOConfig(
            output_dir=str(folder),
            max_steps=recipe.budget.max_steps,
            per_device_train_batch_size=recipe.completions_per_step,
            gradient_accumulation_steps=1,
            reward_weights=list(recipe.rewards.values()),
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            use_cpu=True,
            bf16=False,
            **recipe.grpo,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def wrapped(recipe: Recipe, timed: Timed, folder: Path) -> None:
    """The same through the package."""

    def build_timed_trainer(*args: Any, **kwargs: Any) -> Any:
        trainer = build_trainer(*args, **kwargs)
        trainer.add_callback(timed)
        return trainer

    trainer_module.build_trainer = build_timed_trainer  # looked up before the other side begins
    train(recipe, out=folder / "run")


def kept(recipe: Recipe, timed: Timed, folder: Path) -> None:
    """With everything that keeps a run, the first minute's checkpoint included."""
    budget = {"max_hours": 9.0, "save_minutes": 5.0, "mirror": str(folder / "mirror")}
    wrapped(
        Recipe.load(
            budget={**recipe.budget.model_dump(exclude_none=True), **budget},
            evaluation={"n": 1},
            grpo={"save_strategy": "steps"},
        ),
        timed,
        folder,
    )


def unkept(recipe: Recipe, timed: Timed, folder: Path) -> None:
    """With none of it."""
    off = {"non_finite": False, "max_kl": 0.0, "max_length_growth": 0.0, "gibberish": 0.0}
    budget = {**recipe.budget.model_dump(exclude_none=True), "save_minutes": 0.0}
    wrapped(Recipe.load(budget=budget, evaluation={"n": 1}, grpo={"save_strategy": "no"}, tripwires=off), timed, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--safety", action="store_true")
    given = parser.parse_args()
    steps, functions = given.steps, (bare, wrapped)
    if given.safety:
        SIDES[:], functions = ["unkept", "kept"], (unkept, kept)
    recipe = Recipe.load(budget={"max_steps": steps}, evaluation={"n": 1}, grpo={"save_strategy": "no"})
    turns = Turns()
    timed = {side: Timed(side, turns) for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        threads = []
        for side, function in zip(SIDES, functions, strict=True):
            threads.append(
                threading.Thread(target=function, args=(recipe, timed[side], Path(folder) / side), daemon=True)
            )
            threads[-1].start()
            while len(threads) == 1 and turns.ready.n_waiting == 0 and threads[0].is_alive():
                time.sleep(0.1)  # one loads after the other: both set the global random state
        for thread in threads:
            thread.join()
    first, second = (timed[side] for side in SIDES)
    if first.rewards != second.rewards or not first.rewards:
        raise SystemExit("the two sides did not do the same work, so their times cannot be compared")
    pairs = list(zip(first.seconds, second.seconds, strict=True))
    pairs = pairs if given.safety else pairs[WARM_UP:]  # the first step's checkpoint is part of the price
    ratios = sorted(w / b for b, w in pairs)
    half = math.ceil(0.98 * math.sqrt(len(ratios)))  # ranks of a 95 % interval of the median
    low, high = ratios[max(0, len(ratios) // 2 - half)], ratios[min(len(ratios) - 1, len(ratios) // 2 + half)]
    for side, seconds in zip(SIDES, zip(*pairs, strict=True), strict=True):
        print(f"{side:<8} median {statistics.median(seconds):.4f} s per step, {sum(seconds):.1f} s in all")
    sums = sum(w for _, w in pairs) / sum(b for b, _ in pairs)
    print(
        f"{len(pairs)} pairs of steps on the same work, {' / '.join(reversed(SIDES))}: median ratio "
        f"{statistics.median(ratios):.4f} (95 % interval {low:.4f} to {high:.4f}), ratio of the sums {sums:.4f}"
    )


if __name__ == "__main__":
    main()
