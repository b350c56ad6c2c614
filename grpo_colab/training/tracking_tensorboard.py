"""Write TensorBoard's files to the run folder. A resumed run continues in them, without the steps that it repeats.

accelerate's tracker writes the scalars. It stores a config as hyperparameters, which cannot be nested and create a
second folder, and it has no tables. So the config and the completions are written as texts.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from accelerate.tracking import TensorBoardTracker as AccelerateTensorBoardTracker
from transformers.integrations.integration_utils import rewrite_logs

from grpo_colab.runs.run import Run
from grpo_colab.training.tracking import public_config
from grpo_colab.utils import console


class TensorBoardTracker(AccelerateTensorBoardTracker):
    """Write TensorBoard's files to tensorboard/ in the run folder, or to TENSORBOARD_LOGGING_DIR.

    `step` is the last step before this training: 0, or that of the checkpoint. TensorBoard hides what the files already
    hold of later steps. Nothing is written before `begin_training`.
    """

    title = "TensorBoard"
    has_tables = False

    def __init__(self, run: Run, step: int) -> None:
        self.run_folder = run
        named = os.environ.get("TENSORBOARD_LOGGING_DIR")
        # a text, as transformers has it: a bucket's address would lose a slash as a Path
        self.folder = os.path.expanduser(named) if named else str(run.path / "tensorboard")  # noqa: PTH111
        parent, name = os.path.split(self.folder.rstrip("/"))
        super().__init__(name, parent, purge_step=step + 1)

    def begin_training(self, arguments: Mapping[str, Any], config: dict[str, Any], model: Any) -> None:
        """Open the file, and write the trainer's arguments, the model's config and the recipe, all as texts.

        Prints the command that shows the files. `config` is not used.
        """
        self.start()
        self.writer.add_text("args", json.dumps(arguments, indent=2))
        if getattr(model, "config", None) is not None:
            self.writer.add_text("model_config", model.config.to_json_string())
        recipe = json.dumps(public_config(self.run_folder.recipe), indent=2)
        self.writer.add_text("recipe", verbatim(recipe, sys.maxsize))
        console.info(f"TensorBoard: {shlex.join(['tensorboard', '--logdir', self.folder])}")

    def log_step(self, values: Mapping[str, Any], step: int) -> None:
        """Log a step's metrics. TensorBoard leaves out those that are None."""
        self.log(rewrite_logs(values), step=step)

    def log_completions(self, table: Any, rewards: list[str], step: int) -> None:
        """Log a step's best and worst completion as one text, each with its advantage and its rewards.

        `table` is a DataFrame with at least one row. `rewards` are the names of its columns of rewards. A completion
        without an advantage counts as the worst.
        """
        ordered = table.sort_values("advantage", kind="stable", na_position="first")
        texts = []
        for _, row in ordered.iloc[[-1, 0]].iterrows():
            row_rewards = ", ".join(f"{name} {row[name]:.3g}" for name in rewards)
            conversation = f"{verbatim(row['prompt'])}\n\n---\n\n{verbatim(row['completion'])}"
            texts.append(f"advantage {row['advantage']:.3g}, {row_rewards}\n\n{conversation}")
        self.writer.add_text("completions", "\n\n---\n\n".join(texts), step)

    def end_training(self, *arguments: Any, **named: Any) -> None:
        """Close the file."""
        self.finish()


def verbatim(text: str, longest: int = 4000) -> str:
    """Return a text as a Markdown code block, cut after `longest` characters, with lone surrogates escaped."""
    shown = text[:longest]
    if len(text) > longest:
        shown += f"\n... ({len(text)} characters)"
    encodable = shown.encode(errors="backslashreplace").decode()
    return "\n".join(f"    {line}" for line in encodable.splitlines())
