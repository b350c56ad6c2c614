"""Report to trackio: one trackio run per run folder, which a resumed run continues.

accelerate's tracker starts a run, logs to it and ends it. Added here is what accelerate lacks: the choice between a
new run and an old one, tables, the adapter as an artifact, and Spaces, which transformers' callback takes care of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.tracking import TrackioTracker as AccelerateTrackioTracker
from transformers.integrations import TrackioCallback
from transformers.integrations.integration_utils import rewrite_logs

from grpo_colab.runs.run import Run
from grpo_colab.training.tracking import SUMMARY, public_config, run_name


class TrackioTracker(AccelerateTrackioTracker):
    """Log to the trackio run of a run folder.

    With `resume` continue the trackio run of that name, if there is one; else start a new one. Call all methods in one
    `contextvars` context.
    """

    title = "Trackio"
    has_tables = True

    def __init__(self, run: Run, resume: bool) -> None:
        grpo = run.recipe.grpo
        super().__init__(
            grpo.get("project", "huggingface"),  # as transformers has it
            name=run_name(run),
            space_id=grpo.get("trackio_space_id"),
            bucket_id=grpo.get("trackio_bucket_id"),
            private=grpo.get("hub_private_repo"),
            config=public_config(run.recipe),
            resume="allow" if resume else "never",
            embed=False,  # it would start a server in a notebook and, in Colab, make it public
        )

    def begin_training(self, arguments: Mapping[str, Any], config: dict[str, Any], model: Any) -> None:
        """Start the run, and add the trainer's arguments and the model's config to its config.

        Both are in `config`; `arguments` and `model` are not used.
        """
        import trackio

        self.start()
        self.store_init_configuration(config)
        self.spaces = TrackioCallback()
        self.spaces._initialized, self.spaces._space_id = True, trackio.context_vars.current_space_id.get()

    def log_step(self, values: Mapping[str, Any], step: int) -> None:
        """Log a step's metrics under its number. By itself trackio counts calls, and a step has several.

        Metrics of the whole training (SUMMARY) are left out.
        """
        charted = rewrite_logs({name: value for name, value in values.items() if name not in SUMMARY})
        self.log({**charted, "train/global_step": step}, step=step)

    def log_timing(self, values: dict[str, float], step: int) -> None:
        """Log seconds that TRL measured, under TRL's names."""
        self.log(values, step=step)

    def log_completions(self, table: Any, rewards: list[str], step: int) -> None:
        """Log a step's completions, a DataFrame, as a table, with its images if it has any. `rewards` is not used."""
        import trackio

        if "image" in table:
            table = table.assign(image=[[trackio.Image(image) for image in images] for images in table["image"]])
        self.log({"completions": trackio.Table(dataframe=table)}, step=step)

    def on_push_begin(self, *arguments: Any, **named: Any) -> None:
        """Let transformers publish the metrics as a static Space, next to a model that is pushed to the hub."""
        self.spaces.on_push_begin(*arguments, **named)

    def end_training(self, *arguments: Any, **named: Any) -> None:
        """Let transformers end the run, and freeze its Space if it has one."""
        self.spaces.on_train_end(*arguments, **named)


def log_adapter_to_trackio(run: Run) -> None:
    """Log the trained adapter as an artifact. The trackio run ended with the training, so it is opened again.

    It is ended again afterwards. Raises what trackio raises.
    """
    tracker = TrackioTracker(run, resume=True)
    tracker.start()
    name = f"model-{tracker.run.id}"
    tracker.run.log_artifact(str(run.adapter), name=name, type="model", aliases=["final_model"])
    tracker.finish()
