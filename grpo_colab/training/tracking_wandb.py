"""W&B: begun online or else offline and ended in bounded time, and all that it has not got can be sent later.

accelerate's tracker begins a run, logs to it and sends its tables. Around it, since accelerate has none of these: the
fallback to offline, the id that a resumed run keeps, the end of wandb's service process, and what transformers'
callback gives beside metrics (the x axis, the summary, WANDB_WATCH and WANDB_LOG_MODEL).
"""

from __future__ import annotations

import contextlib
import importlib
import numbers
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import WandBTracker
from transformers.integrations.integration_utils import WandbLogModel, rewrite_logs, save_model_architecture_to_file

from grpo_colab.errors import one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.run import Run
from grpo_colab.training.tracking import LIMIT_S, SUMMARY, config_of, name_of, tracker_names
from grpo_colab.training.tracking_wandb_service import end_service, kept_id, sync_line, unsynced, wandb_settings
from grpo_colab.utils import console
from grpo_colab.utils.timeouts import run_with_timeout


class NoKeyError(Exception):
    """W&B is to be online, and there is no key for it."""


@contextlib.contextmanager
def wandb_tracker(run: Run, recipe: Recipe) -> Iterator[WandbTracker | None]:
    """Have a W&B run, where grpo.report_to asks for it, while the block runs; one that is there already is used.

    None where there can be none, and in all processes but the first. Never asks for a key, never raises, and takes
    little more time than wandb's init_timeout and finish_timeout allow.
    """
    if "wandb" not in tracker_names(recipe.grpo) or int(os.environ.get("RANK", "0")) != 0:
        yield None
        return
    import wandb

    tracker = WandbTracker(run, recipe)
    if wandb.run is not None:
        tracker.run = wandb.run
        yield tracker
        return
    # where it puts a copy of what it has to upload, which is in the home folder else, where `wandb sync` leaves it
    data = "WANDB_DATA_DIR" not in os.environ
    if data:
        os.environ["WANDB_DATA_DIR"] = str(run.path.resolve() / "wandb")
    status = 1
    try:
        yield tracker if tracker.begin() else None
        status = 0
    finally:
        tracker.end(status)
        if data:
            os.environ.pop("WANDB_DATA_DIR", None)


class WandbTracker(WandBTracker):
    """accelerate's tracker of a W&B run, for a run folder. `begin` and `end` never raise; `begin` before all else."""

    title = "Wandb"
    has_tables = True

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.run_folder, self.recipe = run, recipe
        self.log_model = WandbLogModel(os.environ.get("WANDB_LOG_MODEL", "false").lower())
        self.sitting: Path | None = None  # what this process writes for W&B, in the run folder
        PartialState()  # without which accelerate's trackers refuse to work; there already, where a trainer is
        super().__init__(
            os.environ.get("WANDB_PROJECT", "huggingface"),  # as transformers has it
            dir=str(run.path.resolve()),
            name=name_of(run),
            config=config_of(run.recipe),
        )

    def begin(self) -> bool:
        """Begin the run online or else offline, and say which; False when it is disabled, or cannot be begun at all."""
        # before wandb reads it: what it reports about itself is waited for at Python's end, longer than the run's data
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.init_kwargs["id"] = kept_id(self.run_folder)
        hooks: Any = (sys.exit, sys.excepthook, sys.argv)
        why, begun = "", None
        sys.argv = self.recipe.without_tokens(sys.argv)  # it keeps the command
        try:
            for mode in (None, "offline", "disabled"):  # None: as the user's settings have it
                try:
                    limit_s = float(os.environ.get("WANDB_INIT_TIMEOUT", "15")) + LIMIT_S
                    begun = run_with_timeout(limit_s, self._begin, mode)
                    break
                except Exception as error:  # noqa: BLE001 - never the run
                    why = why or f" ({error if isinstance(error, NoKeyError) else one_line(error, 300)})"
                    end_service(kill=True)  # it would say that the id is in use; ended in order, it writes to stdout
        finally:
            sys.exit, sys.excepthook, sys.argv = hooks  # those of wandb print a traceback twice
        if begun is None or begun.disabled:
            if why:
                console.warn(f"W&B cannot be used{why}")
            return False
        self.sitting = self.run_folder.path / "wandb" / Path(begun.dir).parent.name
        later = f"W&B is offline{why}. Once it is done: {sync_line(self.run_folder)}"
        console.info(later if begun.offline else f"W&B: {begun.url}")
        return True

    def _begin(self, mode: str | None) -> Any:
        import wandb

        settings = wandb_settings()
        if (mode or settings.mode) == "online" and not wandb.login(prompt=False, verify=False):
            raise NoKeyError("no API key")
        self.init_kwargs |= {"mode": mode or settings.mode, "resume": "allow" if mode is None else None}
        self.start()
        with contextlib.suppress(ImportError, AttributeError):  # another release
            # of what is imported from now on it would report, and where its service has died no import would work
            importlib.import_module("wandb.sdk.lib.import_hooks").unregister_all_post_import_hooks()
        if self.run.offline:  # at each save, that it has no address for TRL's model card
            wandb.termsetup(wandb.Settings(show_info=False, show_warnings=False), None)
        return self.run

    def begin_training(self, arguments: Mapping[str, Any], config: dict[str, Any], model: Any) -> None:
        """Add the trainer's arguments and the model's config; charts go by the training step, not by the call."""
        self.store_init_configuration(config)
        self.run.define_metric("train/global_step")
        self.run.define_metric("*", step_metric="train/global_step", step_sync=True)
        watch = os.environ.get("WANDB_WATCH", "false")
        if watch in ("all", "parameters", "gradients"):
            self.run.watch(model, log=watch, log_freq=100)
        if self.log_model is WandbLogModel.CHECKPOINT:
            about = {
                "model_config": model.config.to_dict() if hasattr(model, "config") else None,
                "num_parameters": config.get("model/num_parameters"),
                "initial_model": True,
            }
            with tempfile.TemporaryDirectory() as folder:
                save_model_architecture_to_file(model, folder)
                self._log_folder(self._model_name(arguments), folder, about, ["base_model"])

    def log_step(self, values: Mapping[str, Any], step: int) -> None:
        """Log a step's metrics. W&B counts the calls itself, of which a step has several."""
        for name in SUMMARY:
            if name in values:
                self.run.summary[name] = values[name]
        charted = rewrite_logs({name: value for name, value in values.items() if name not in SUMMARY})
        self.log({**charted, "train/global_step": step})

    def log_timing(self, values: dict[str, float], step: int) -> None:
        """Log what TRL measured, under its own name."""
        self.log(values)

    def log_completions(self, table: Any, rewards: list[str], step: int) -> None:
        """Log a step's table of completions."""
        import wandb

        if "image" in table:
            table = table.assign(image=[[wandb.Image(image) for image in images] for images in table["image"]])
        self.log_table("completions", dataframe=table)

    def log_checkpoint(self, arguments: Mapping[str, Any], state: Any) -> None:
        """Log the checkpoint of this step as an artifact, where WANDB_LOG_MODEL=checkpoint asks for it."""
        if self.log_model is not WandbLogModel.CHECKPOINT:
            return
        summary = dict(self.run.summary)
        about = {k: v for k, v in summary.items() if isinstance(v, numbers.Number) and not k.startswith("_")}
        about["model/num_parameters"] = self.run.config.get("model/num_parameters")
        folder = Path(arguments["output_dir"]) / f"checkpoint-{state.global_step}"
        aliases = [f"epoch_{round(state.epoch, 2)}", f"checkpoint_global_step_{state.global_step}"]
        self._log_folder(self._model_name(arguments), folder, about, aliases)

    def log_adapter(self) -> None:
        """Log the trained adapter as an artifact, and wait until W&B has it."""
        name, about = f"model-{self.run.id}", {"step": self.run_folder.last_step}
        logged = self._log_folder(name, self.run_folder.adapter, about, ["final_model"])  # as transformers calls it
        if not self.run.offline:  # else its end is waited for no longer than a run's
            logged.wait()

    def _model_name(self, arguments: Mapping[str, Any]) -> str:
        named = arguments["run_name"] not in (None, arguments["output_dir"])
        return f"model-{self.run.name if named else self.run.id}"

    def _log_folder(self, name: str, folder: str | Path, about: dict[str, Any], aliases: list[str]) -> Any:
        import wandb

        artifact = wandb.Artifact(name, type="model", metadata=about)
        artifact.add_dir(str(folder))
        return self.run.log_artifact(artifact, aliases=aliases)

    def end(self, status: int) -> None:
        """End the run and its service process, and say how to sync what did not get through.

        `status` is 0 for a run that ended well, else 1.
        """
        import wandb

        sitting, trouble = self.sitting, " (it was stopped)"  # which is no Exception
        try:
            limit_s = (wandb.run.settings.finish_timeout if wandb.run else 0) + 5
            run_with_timeout(limit_s, wandb.finish, status)  # accelerate's `finish` takes no status
            # wandb warns of it, and does not tell its caller
            log = (sitting / "logs" / "debug-internal.log").read_text(errors="replace") if sitting else ""
            trouble = " (its server refused the data)" if "filestream: fatal error" in log else ""
        except Exception as error:  # noqa: BLE001 - never the run
            trouble = f" ({one_line(error, 300)})"
        finally:
            wandb.run = None  # wandb leaves it where its end failed early
            end_service()
            if sitting is not None and (trouble or unsynced(self.run_folder)):
                later = sync_line(self.run_folder, *[sitting] if trouble else [])
                console.info(f"W&B has not got all of this run{trouble}. To send it: {later}")
