"""Report to W&B, online or else offline, in bounded time. What W&B did not receive can be uploaded later.

accelerate's tracker starts a W&B run, logs to it and sends its tables. Added here is what accelerate lacks: the
fallback to offline, the id that a resumed run keeps, the end of wandb's service process, and what transformers'
callback sends besides metrics (the x axis, the summary, WANDB_WATCH and WANDB_LOG_MODEL).
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
from grpo_colab.training.tracking import LIMIT_S, SUMMARY, public_config, run_name, tracker_names
from grpo_colab.training.tracking_wandb_service import (
    end_service,
    kept_id,
    sync_command,
    unsynced_folders,
    wandb_settings,
)
from grpo_colab.utils import console
from grpo_colab.utils.timeouts import run_with_timeout


class NoKeyError(Exception):
    """W&B should be online, but has no API key."""


@contextlib.contextmanager
def wandb_tracker(run: Run, recipe: Recipe) -> Iterator[WandbTracker | None]:
    """Start a W&B run, yield its tracker, and end the run after the block. A run that is open already is used instead.

    Such a run stays open. Yield None when grpo.report_to does not name "wandb", when W&B cannot be used, and in all
    processes but rank 0. Never ask for a key, never raise, and take little longer than wandb's init_timeout and
    finish_timeout. An exception of the block marks the run as failed, and is passed on. Meanwhile WANDB_DATA_DIR is the
    run's folder wandb/, unless the user has set it.
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
    # wandb keeps a copy of what it uploads here. By default that is the home folder, and `wandb sync` never removes it.
    sets_data_dir = "WANDB_DATA_DIR" not in os.environ
    if sets_data_dir:
        os.environ["WANDB_DATA_DIR"] = str(run.path.resolve() / "wandb")
    status = 1
    try:
        started = tracker.begin()
        yield tracker if started else None
        status = 0
    finally:
        tracker.end(status)
        if sets_data_dir:
            os.environ.pop("WANDB_DATA_DIR", None)


class WandbTracker(WandBTracker):
    """Log to the W&B run of a run folder. Call `begin` before all else; it and `end` never raise."""

    title = "Wandb"
    has_tables = True

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.run_folder, self.recipe = run, recipe
        self.log_model = WandbLogModel(os.environ.get("WANDB_LOG_MODEL", "false").lower())
        self.wandb_folder: Path | None = None  # in the run folder: what wandb writes in this process
        PartialState()  # accelerate's trackers refuse to work before it is made; a trainer has made it already
        super().__init__(
            os.environ.get("WANDB_PROJECT", "huggingface"),  # as transformers has it
            dir=str(run.path.resolve()),
            name=run_name(run),
            config=public_config(run.recipe),
        )

    def begin(self) -> bool:
        """Start the run online or else offline, print which, and return whether there is a run.

        There is none when W&B is disabled. There is none either when W&B cannot be started at all; that is a printed
        warning. W&B's id of the run is kept in wandb.json. wandb's service process stays alive until `end`.
        """
        # Set before wandb reads it. At Python's exit wandb waits for its own error reports, longer than for the data.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.init_kwargs["id"] = kept_id(self.run_folder)
        # wandb replaces both hooks, and its own print a traceback twice.
        original_exit, original_excepthook, original_argv = sys.exit, sys.excepthook, sys.argv
        reason, wandb_run = "", None
        sys.argv = self.recipe.without_tokens(sys.argv)  # wandb uploads the command line
        try:
            for mode in (None, "offline", "disabled"):  # None: the mode of the user's own settings
                try:
                    limit_s = float(os.environ.get("WANDB_INIT_TIMEOUT", "15")) + LIMIT_S
                    wandb_run = run_with_timeout(limit_s, self._start_wandb, mode)
                    break
                except Exception as error:  # noqa: BLE001 - a tracker must never end the run
                    if not reason:  # the first failure is the cause of the others
                        reason = f" ({error if isinstance(error, NoKeyError) else one_line(error, 300)})"
                    # Left alive, the service would refuse the id as being in use; a regular end writes to stdout.
                    end_service(kill=True)
        finally:
            sys.exit, sys.excepthook, sys.argv = original_exit, original_excepthook, original_argv
        if wandb_run is None or wandb_run.disabled:
            if reason:
                console.warn(f"W&B cannot be used{reason}")
            return False
        self.wandb_folder = self.run_folder.path / "wandb" / Path(wandb_run.dir).parent.name
        if wandb_run.offline:
            console.info(f"W&B is offline{reason}. Once the run is done: {sync_command(self.run_folder)}")
        else:
            console.info(f"W&B: {wandb_run.url}")
        return True

    def _start_wandb(self, mode: str | None) -> Any:
        """Start and return the W&B run, in wandb's `mode`; None is the user's. Raise NoKeyError without a key.

        Also raises what wandb raises.
        """
        import wandb

        settings = wandb_settings()
        if (mode or settings.mode) == "online" and not wandb.login(prompt=False, verify=False):
            raise NoKeyError("no API key")
        self.init_kwargs |= {"mode": mode or settings.mode, "resume": "allow" if mode is None else None}
        self.start()
        # wandb's hooks report each later import to its service. Once that has died, every such import fails.
        with contextlib.suppress(ImportError, AttributeError):  # another release of wandb may have no such hooks
            importlib.import_module("wandb.sdk.lib.import_hooks").unregister_all_post_import_hooks()
        # An offline run would print at each save that it has no URL, which TRL asks for to write its model card.
        if self.run.offline:
            wandb.termsetup(wandb.Settings(show_info=False, show_warnings=False), None)
        return self.run

    def begin_training(self, arguments: Mapping[str, Any], config: dict[str, Any], model: Any) -> None:
        """Add the trainer's arguments and the model's config to the run's, and let the training step be the x axis.

        WANDB_WATCH=all, parameters or gradients has W&B watch the model, too. WANDB_LOG_MODEL=checkpoint logs a text of
        the model's architecture as an artifact.
        """
        self.store_init_configuration(config)
        self.run.define_metric("train/global_step")
        self.run.define_metric("*", step_metric="train/global_step", step_sync=True)
        watch = os.environ.get("WANDB_WATCH", "false")
        if watch in ("all", "parameters", "gradients"):
            self.run.watch(model, log=watch, log_freq=100)
        if self.log_model is WandbLogModel.CHECKPOINT:
            metadata = {
                "model_config": model.config.to_dict() if hasattr(model, "config") else None,
                "num_parameters": config.get("model/num_parameters"),
                "initial_model": True,
            }
            with tempfile.TemporaryDirectory() as folder:
                save_model_architecture_to_file(model, folder)
                self._log_folder(self._model_name(arguments), folder, metadata, ["base_model"])

    def log_step(self, values: Mapping[str, Any], step: int) -> None:
        """Log a step's metrics, with the step among them: W&B's own count is of calls, and a step has several.

        Metrics of the whole training (SUMMARY) go to the run's summary instead.
        """
        for name in SUMMARY:
            if name in values:
                self.run.summary[name] = values[name]
        charted = rewrite_logs({name: value for name, value in values.items() if name not in SUMMARY})
        self.log({**charted, "train/global_step": step})

    def log_timing(self, values: dict[str, float], step: int) -> None:
        """Log seconds that TRL measured, under TRL's names."""
        self.log(values)

    def log_completions(self, table: Any, rewards: list[str], step: int) -> None:
        """Log a step's completions, a DataFrame, as a table, with its images if it has any. `rewards` is not used."""
        import wandb

        if "image" in table:
            table = table.assign(image=[[wandb.Image(image) for image in images] for images in table["image"]])
        self.log_table("completions", dataframe=table)

    def log_checkpoint(self, arguments: Mapping[str, Any], state: Any) -> None:
        """Log the checkpoint of this step as an artifact, where WANDB_LOG_MODEL=checkpoint asks for it."""
        folder = Path(arguments["output_dir"]) / f"checkpoint-{state.global_step}"
        # There is no folder when the checkpoint could not be written.
        if self.log_model is not WandbLogModel.CHECKPOINT or not folder.is_dir():
            return
        metadata: dict[str, Any] = {}
        for name, value in dict(self.run.summary).items():
            if isinstance(value, numbers.Number) and not name.startswith("_"):
                metadata[name] = value
        metadata["model/num_parameters"] = self.run.config.get("model/num_parameters")
        aliases = [f"epoch_{round(state.epoch, 2)}", f"checkpoint_global_step_{state.global_step}"]
        self._log_folder(self._model_name(arguments), folder, metadata, aliases)

    def log_adapter(self) -> None:
        """Log the trained adapter as an artifact, under transformers' names, and wait until W&B has it.

        An offline run does not wait.
        """
        metadata = {"step": self.run_folder.last_step}
        artifact = self._log_folder(f"model-{self.run.id}", self.run_folder.adapter, metadata, ["final_model"])
        if not self.run.offline:  # `end` would not wait long enough for its upload
            artifact.wait()

    def _model_name(self, arguments: Mapping[str, Any]) -> str:
        """Return the name of a model artifact: by the run's name where the user chose one, else by its id."""
        has_name = arguments["run_name"] not in (None, arguments["output_dir"])
        return f"model-{self.run.name if has_name else self.run.id}"

    def _log_folder(self, name: str, folder: str | Path, metadata: dict[str, Any], aliases: list[str]) -> Any:
        """Start to upload a folder as a model artifact, and return wandb's handle of it, without waiting."""
        import wandb

        artifact = wandb.Artifact(name, type="model", metadata=metadata)
        artifact.add_dir(str(folder))
        return self.run.log_artifact(artifact, aliases=aliases)

    def end(self, status: int) -> None:
        """End the run and its service process, and print how to upload what did not get through.

        `status` is 0 for a run that ended well, else 1. Never raises, but for KeyboardInterrupt. Takes little longer
        than wandb's finish_timeout. Nothing is printed when W&B has received everything.
        """
        import wandb

        folder = self.wandb_folder
        trouble = " (it was stopped)"  # holds when KeyboardInterrupt ends the block below: no branch handles that
        try:
            limit_s = (wandb.run.settings.finish_timeout if wandb.run else 0) + 5
            run_with_timeout(limit_s, wandb.finish, status)  # accelerate's `finish` takes no status
            # When the server refuses data, wandb only logs it, and `finish` returns as if all were well.
            log = (folder / "logs" / "debug-internal.log").read_text(errors="replace") if folder else ""
            trouble = " (its server refused the data)" if "filestream: fatal error" in log else ""
        except Exception as error:  # noqa: BLE001 - a tracker must never end the run
            trouble = f" ({one_line(error, 300)})"
        finally:
            wandb.run = None  # wandb leaves it set when `finish` fails early
            end_service()
            if folder is not None and (trouble or unsynced_folders(self.run_folder)):
                command = sync_command(self.run_folder, *([folder] if trouble else []))
                console.info(f"W&B has not received all of this run{trouble}. To upload it: {command}")
