"""What the wrapper costs: seconds a step of `grpo_colab.train` against a bare script with the same TRL trainer.

    python tests/benchmarks/wrapper.py [--steps 20] [--rounds 5]

Both sides train the shipped tiny model with the same GRPOConfig, rewards, rows and seed, in this process, in turns
(the order swaps each round). The answer is the ratio of the medians of TRL's own `step_time`; below it that of the
trainer's whole train() call, in which the callbacks' work between steps is counted too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import unsloth  # noqa: F401  # first, as everywhere


def bare(steps: int) -> tuple[list[float], float]:
    """TRL by hand, as its documentation shows it."""
    import trl
    from datasets import Dataset
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback
    from unsloth import FastLanguageModel

    from grpo_colab import Recipe

    recipe = Recipe.load(budget={"max_steps": steps})
    model, tokenizer = FastLanguageModel.from_pretrained(recipe.model_path, max_seq_length=512, load_in_4bit=False)
    model = FastLanguageModel.get_peft_model(model, **recipe.lora)
    task = recipe.load_task()
    rows = [{"prompt": task.messages(p), "answer": p.answer} for p in task.problems("train")]
    seconds: list[float] = []

    class Times(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "step_time" in logs:
                seconds.append(logs["step_time"])

    with tempfile.TemporaryDirectory() as folder:
        trainer = trl.GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=recipe.reward_functions(),
            train_dataset=Dataset.from_list(rows),
            callbacks=[Times()],
            args=trl.GRPOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=recipe.completions_per_step,
                gradient_accumulation_steps=1,
                reward_weights=list(recipe.rewards.values()),
                logging_steps=1,
                disable_tqdm=True,
                report_to="none",
                use_cpu=True,
                bf16=False,
                save_strategy="no",
                **recipe.grpo,
            ),
        )
        trainer.remove_callback(PrinterCallback)
        began = time.perf_counter()
        trainer.train()
        return seconds, time.perf_counter() - began


def wrapped(steps: int) -> tuple[list[float], float]:
    """The same through the package; its two evaluations stand outside what is timed, as the bare script has none."""
    import trl

    from grpo_colab import Recipe, train

    took: list[float] = []
    original = trl.GRPOTrainer.train

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = original(self, *args, **kwargs)
        took.append(time.perf_counter() - began)
        return result

    trl.GRPOTrainer.train = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            recipe = Recipe.load(budget={"max_steps": steps}, evaluation={"n": 1}, grpo={"save_strategy": "no"})
            run = train(recipe, out=Path(folder) / "run")
            return [row["step_time"] for row in run.metrics()], took[0]
    finally:
        trl.GRPOTrainer.train = original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sides = {"bare": bare, "wrapped": wrapped}
    steps: dict[str, list[float]] = {name: [] for name in sides}
    whole: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(options.rounds + 1):
        for name in sorted(sides, reverse=bool(round_number % 2)):
            seconds, total = sides[name](options.steps)
            if round_number:  # the first round warms both up
                steps[name] += seconds
                whole[name].append(total)
                print(
                    f"round {round_number}  {name:<8} {statistics.median(seconds):.4f} s a step, {total:.2f} s in all"
                )
    medians = {name: statistics.median(values) for name, values in steps.items()}
    totals = {name: statistics.median(values) for name, values in whole.items()}
    print(
        f"\nstep_time, median of {len(steps['bare'])} steps: bare {medians['bare']:.4f} s, wrapped "
        f"{medians['wrapped']:.4f} s, ratio {medians['wrapped'] / medians['bare']:.3f}\n"
        f"trainer.train(), median of {options.rounds}: bare {totals['bare']:.2f} s, wrapped {totals['wrapped']:.2f} s, "
        f"ratio {totals['wrapped'] / totals['bare']:.3f}"
    )


if __name__ == "__main__":
    main()
