"""trackio: a run of the name of the run folder, in which a resumed run goes on.

accelerate's tracker begins a run, logs to it and ends it. Around it, since accelerate has none of these: the choice
between a new run and an old one, tables, the adapter as an artifact, and Spaces, which transformers' callback keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.tracking import TrackioTracker as AccelerateTrackioTracker
from transformers.integrations import TrackioCallback
from transformers.integrations.integration_utils import rewrite_logs

from grpo_colab.runs.run import Run
from grpo_colab.training.tracking import SUMMARY, config_of, name_of


class TrackioTracker(AccelerateTrackioTracker):
    """accelerate's tracker of a trackio run, for a run folder.

    With `resume` it goes on in the run of that name, if there is one. Call all of it in one context of variables.
    """

    title = "Trackio"
    has_tables = True

    def __init__(self, run: Run, resume: bool) -> None:
        grpo = run.recipe.grpo
        super().__init__(
            grpo.get("project", "huggingface"),  # as transformers has it
            name=name_of(run),
            space_id=grpo.get("trackio_space_id"),
            bucket_id=grpo.get("trackio_bucket_id"),
            private=grpo.get("hub_private_repo"),
            config=config_of(run.recipe),
            resume="allow" if resume else "never",
            embed=False,  # in a notebook it would begin a server and, in Colab, make it public
        )

    def begin_training(self, arguments: Mapping[str, Any], config: dict[str, Any], model: Any) -> None:
        """Begin the run, and add the trainer's arguments and the model's config to its own."""
        import trackio

        self.start()
        self.store_init_configuration(config)
        self.spaces = TrackioCallback()
        self.spaces._initialized, self.spaces._space_id = True, trackio.context_vars.current_space_id.get()

    def log_step(self, values: Mapping[str, Any], step: int) -> None:
        """Log a step's metrics at that step: trackio else counts the calls, of which a step has several."""
        charted = rewrite_logs({name: value for name, value in values.items() if name not in SUMMARY})
        self.log({**charted, "train/global_step": step}, step=step)

    def log_timing(self, values: dict[str, float], step: int) -> None:
        """Log what TRL measured, under its own name."""
        self.log(values, step=step)

    def log_completions(self, table: Any, rewards: list[str], step: int) -> None:
        """Log a step's table of completions."""
        import trackio

        if "image" in table:
            table = table.assign(image=[[trackio.Image(image) for image in images] for images in table["image"]])
        self.log({"completions": trackio.Table(dataframe=table)}, step=step)

    def on_push_begin(self, *arguments: Any, **named: Any) -> None:
        """Have transformers put what is tracked into a static Space beside a model that goes to the hub."""
        self.spaces.on_push_begin(*arguments, **named)

    def end_training(self, *arguments: Any, **named: Any) -> None:
        """Have transformers end the run and freeze its Space, where it has one."""
        self.spaces.on_train_end(*arguments, **named)


def log_adapter_to_trackio(run: Run) -> None:
    """Log the trained adapter as an artifact of the run, which ended with its training."""
    tracker = TrackioTracker(run, resume=True)
    tracker.start()
    name = f"model-{tracker.run.id}"
    tracker.run.log_artifact(str(run.adapter), name=name, type="model", aliases=["final_model"])
    tracker.finish()
