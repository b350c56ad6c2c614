"""The same training as in Unsloth's notebook, by Unsloth and TRL alone: what our seconds per step are held against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from grpo_colab import Recipe
from grpo_colab.plan import BatchPlan


def train_bare(recipe: Recipe, batch: BatchPlan, rewards: list[Callable[..., Any]], folder: Path) -> list[float]:
    """Train for budget.max_steps, and return TRL's step_time of each step, in seconds.

    Model, adapter, rows, rewards, batch and settings of [grpo] are the recipe's. Nothing is evaluated, and `folder`
    stays empty but for what the trainer itself writes at the end.
    """
    import torch
    import trl
    from datasets import Dataset
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=recipe.model_path,
        max_seq_length=recipe.model["max_seq_length"],
        load_in_4bit=True,
        fast_inference=False,
        max_lora_rank=recipe.lora["r"],
    )
    model = FastLanguageModel.get_peft_model(model, **recipe.lora)
    task = recipe.load_task()
    problems = task.problems("train", recipe.prompts.limit)
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=rewards,
        train_dataset=Dataset.from_list([{"prompt": task.messages(one), "answer": one.answer} for one in problems]),
        args=trl.GRPOConfig(
            output_dir=str(folder),
            max_steps=recipe.budget.max_steps,
            **batch.as_grpo(),
            logging_steps=1,
            disable_tqdm=True,
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
            **{key: value for key, value in recipe.grpo.items() if not key.startswith("save_")},
            save_strategy="no",
        ),
    )
    trainer.train()
    return [row["step_time"] for row in trainer.state.log_history if "step_time" in row]
