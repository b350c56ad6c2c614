"""The trackers of `grpo.report_to` (W&B, TensorBoard, ...), which may fail at any time, and then the run goes on.

transformers' and TRL's own code does the reporting. Here W&B is begun and ended in bounded time, and each call of a
tracker is made in a thread that is waited for no longer than LIMIT_S: what raises or hangs is left out from then on.
What their code leaves out is added where it is: the recipe as the run's config, the name of the run, a place in its
folder, TensorBoard's completions, and the adapter as an artifact where <TRACKER>_LOG_MODEL asks for it.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import json
import os
import re
import secrets
import shlex
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from grpo_colab.errors import SettingError, nearest, one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.run import Run
from grpo_colab.utils.files import read_json, write_json

LIMIT_S = 30.0  # for one call of a tracker
ARTIFACT_LIMIT_S = 300.0  # for the upload of the adapter, where it is asked for
KEPT: Final = "wandb.json"  # in a run folder: the id under which W&B knows the run
# Where wandb's own default is to wait for minutes or forever, or to copy what others print; WANDB_<NAME> wins.
WANDB_SETTINGS: Final[dict[str, Any]] = {
    "init_timeout": 15.0,
    "finish_timeout": LIMIT_S,
    "finish_timeout_raises": True,
    "console": "off",
    "quiet": True,
    "show_info": False,  # its warnings and errors stay
    "x_disable_viewer": True,  # else it asks the server, for longer than init_timeout, whose key it is, to print that
}

T = TypeVar("T")
replaced: list[tuple[dict[str, Any], str, Any]] = []  # where, which name, and what it was before


def trackers(grpo: Mapping[str, Any]) -> list[str]:
    """The names in grpo.report_to, as transformers reads them; for "all" it is imported, and unsloth must be before."""
    named = grpo.get("report_to", "none")
    named = named if isinstance(named, list) else [named]
    if named == ["all"]:
        from transformers.integrations import get_available_reporting_integrations

        return list(get_available_reporting_integrations())
    return [] if named == ["none"] else named


def check_trackers(grpo: Mapping[str, Any]) -> None:
    """Raise SettingError for a tracker that does not exist or is not installed. Imports transformers, after unsloth."""
    if not (named := trackers(grpo)):
        return
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in named:
        setting = f"grpo.report_to = {grpo['report_to']!r}: {name}"
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            raise SettingError(f"{setting}: no such tracker{nearest(name, INTEGRATION_TO_CALLBACK)} There are: {known}")
        try:
            if name not in get_available_reporting_integrations():  # a list that leaves some out; they know themselves
                INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            raise SettingError(
                f'{setting} is not installed ({one_line(error)}); `pip install {name}`, or write "none"'
            ) from None


def within(limit_s: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """`function(...)` in a thread of its own; TimeoutError, and the thread left to itself, when it takes longer."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - wandb.teardown calls sys.exit
            future.set_exception(RuntimeError(repr(error)))

    threading.Thread(target=work, daemon=True).start()  # a daemon: it must not keep Python from exiting
    try:
        return future.result(limit_s)
    except TimeoutError:
        if future.done():
            raise
        raise TimeoutError(f"no answer in {limit_s:.0f} s") from None


class Shield:
    """Calls what may raise or hang, and no more after it did, which it says once. What they print goes to stderr."""

    def __init__(self, name: str, context: contextvars.Context | None = None, limit_s: float | None = None) -> None:
        self.name, self.on, self.limit_s = name, True, limit_s
        # one for all threads of a tracker: trackio keeps its run in such variables
        self.context = context or contextvars.copy_context()

    def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        if self.on:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    return within(self.limit_s or LIMIT_S, self.context.run, function, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever a tracker's library raises
                self.on = False
                tell(f"Warning: {self.name} is off for the rest of this run ({one_line(error)})")
        return None


class Instead:
    """A module some of whose names are others."""

    def __init__(self, module: Any, **names: Any) -> None:
        self.module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class Direct(Instead):
    """A tracker's module as TRL sees it, which also reports without a callback: its completions and its profile."""

    def __init__(self, module: Any, context: contextvars.Context | None = None) -> None:
        super().__init__(module)
        self.shield = Shield(f"what TRL itself reports to {module.__name__}", context)

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        return partial(self.shield, value) if name in ("log", "log_metrics", "Image") else value

    def Table(self, dataframe: Any) -> Any:
        """With texts for conversations, which they show as objects."""
        said = {name: dataframe[name].map(spoken) for name in ("prompt", "completion") if name in dataframe}
        return self.shield(self.module.Table, dataframe=dataframe.assign(**said))


def table_arguments(grpo: Mapping[str, Any]) -> dict[str, Any]:
    """GRPOConfig's arguments by which TRL gives a tracker that has tables each step's completions, and prints none."""
    wanted = {"wandb", "trackio"}.intersection(trackers(grpo)) and "log_completions" not in grpo
    return {"log_completions": True, "num_completions_to_print": 0} if wanted else {}


def shield(trainer: Any) -> None:
    """Put a Shield around each of the trainer's reporting callbacks, and around what TRL reports by itself.

    The folder that holds its `output_dir` is the run's.
    """
    from transformers import TrainerCallback
    from trl.extras import profiling

    run = Run(Path(trainer.args.output_dir).parent)
    contexts: dict[str, contextvars.Context] = defaultdict(contextvars.copy_context)

    def shielded(callback: TrainerCallback) -> TrainerCallback:
        name = type(callback).__name__.removesuffix("Callback")
        outer, guard = TrainerCallback(), Shield(name, contexts[name.lower()])
        for event in (name for name in dir(TrainerCallback) if name.startswith("on_")):
            if getattr(type(callback), event) is not getattr(TrainerCallback, event):
                setattr(outer, event, partial(guard, getattr(callback, event)))
        if name == "TensorBoard":
            outer.on_train_begin = partial(guard, begin_board, callback, run)
            outer.on_log = partial(guard, log_to_board, callback, trainer, run.recipe.grpo)
        elif name == "Trackio":
            callback._trackio = Instead(callback._trackio, init=partial(begin_trackio, trainer, run))
        elif name == "Wandb":
            # it would make another Trainer, to save an adapter before ours is there
            outer.on_train_end = TrainerCallback().on_train_end
            if callback._log_model != "checkpoint":
                callback._log_model = type(callback._log_model)("false")
        return outer

    callbacks = trainer.callback_handler.callbacks
    for index, callback in enumerate(callbacks):
        if type(callback).__module__.startswith("transformers.integrations"):
            callbacks[index] = shielded(callback)
    # TRL's class, or what Unsloth compiled of it, and the timer of its steps
    places = [getattr(vars(kind).get("log"), "__globals__", {}) for kind in type(trainer).__mro__] + [vars(profiling)]
    for name in ("wandb", "trackio", "mlflow"):
        if seen := [place for place in places if name in place]:
            there = seen[0][name]
            # the inner one of a trainer before this one
            module = there.module if isinstance(there, Direct) else there
            direct = Direct(module, contexts[name])
            for place in seen:
                place[name] = direct
                replaced.append((place, name, module))
    if trainer.log_completions:
        trainer.log = partial(log_or_no_table, trainer, trainer.log)


def log_or_no_table(trainer: Any, log: Callable[..., None], logs: dict[str, Any], *args: Any) -> None:
    """TRL's log, whose table of completions must not end the run: neither by a full disk nor by what it holds."""
    tables = trainer.log_completions
    # a step that has completions of its own: not one that shares those of a step before, nor the summary at the end
    trainer.log_completions = tables and "reward" in trainer._metrics["train"]
    try:
        log(logs, *args)
    except Exception as error:
        if trainer._metrics["train"] or not trainer.log_completions:  # it was not at the table yet
            raise
        tables = False
        tell(f"Warning: the table of completions is off for the rest of this run ({one_line(error)})")
    finally:
        trainer.log_completions = tables


def config_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe in JSON's types, without its tokens."""
    return recipe.public(mode="json")


def name_of(run: Run) -> str:
    return str(run.recipe.grpo.get("run_name") or run.path.resolve().name)


def begin_trackio(trainer: Any, run: Run, **given: Any) -> Any:
    """trackio.init, with the run's name and config; one that is resumed goes on in its run of that name."""
    import trackio

    resume = "allow" if trainer.state.global_step else "never"
    # in a notebook it would begin a server and, in Colab, make it public
    about = {"name": name_of(run), "config": config_of(run.recipe), "resume": resume, "embed": False}
    begun = trackio.init(**{**given, **about})
    log = begun.log  # which else counts the calls, of which TRL makes several a step
    begun.log = lambda metrics, step=None: log(metrics, trainer.state.global_step if step is None else step)
    return begun


def begin_board(callback: Any, run: Run, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
    """In the run's folder, where a run that is resumed goes on; what came after its checkpoint is left out."""
    if not state.is_world_process_zero:
        return
    folder = callback.logging_dir or str(run.path / "tensorboard")
    callback.tb_writer = callback._SummaryWriter(log_dir=folder, purge_step=state.global_step + 1)
    callback.on_train_begin(args, state, control, **kwargs)
    callback.tb_writer.add_text("recipe", verbatim(json.dumps(config_of(run.recipe), indent=2), sys.maxsize))
    tell(f"TensorBoard: {shlex.join(['tensorboard', '--logdir', folder])}")


def log_to_board(
    callback: Any, trainer: Any, grpo: Mapping[str, Any], args: Any, state: Any, control: Any, logs: Any, **kwargs: Any
) -> None:
    """A step's metrics, and its best and worst completion."""
    # it warns of each that has no value in a step
    shown = {name: value for name, value in logs.items() if value is not None}
    callback.on_log(args, state, control, logs=shown, **kwargs)
    kept = trainer._logs
    if callback.tb_writer and "reward" in logs and kept["completion"] and grpo.get("log_completions", True):
        rewards = [dict(zip(kept["rewards"], row, strict=True)) for row in zip(*kept["rewards"].values(), strict=True)]
        rows = sorted(
            zip(kept["advantages"], range(len(rewards)), kept["prompt"], kept["completion"], rewards, strict=True)
        )
        texts = [
            f"advantage {advantage:.3g}, {', '.join(f'{name} {value:.3g}' for name, value in paid.items())}\n\n"
            f"{verbatim(spoken(prompt))}\n\n---\n\n{verbatim(spoken(completion))}"
            for advantage, _, prompt, completion, paid in (rows[-1], rows[0])
        ]
        callback.tb_writer.add_text("completions", "\n\n---\n\n".join(texts), state.global_step)


def spoken(messages: Any) -> str:
    """What is said in a conversation; a text as it is."""
    if isinstance(messages, list):
        return "\n\n".join(str(message.get("content")) for message in messages)
    return str(messages)


def verbatim(text: str, longest: int = 4000) -> str:
    """As Markdown shows it unread; half a surrogate pair becomes its escape."""
    cut = text[:longest] + f"\n... ({len(text)} characters)" * (len(text) > longest)
    return "\n".join(f"    {line}" for line in cut.encode(errors="backslashreplace").decode().splitlines())


@contextlib.contextmanager
def tracked(run: Run, recipe: Recipe) -> Iterator[None]:
    """wandb_run, and the adapter to each tracker that takes it, where WANDB_LOG_MODEL or TRACKIO_LOG_MODEL is set."""
    with contextlib.ExitStack() as after:
        after.callback(put_back)
        after.enter_context(wandb_run(run, recipe))
        yield
        if run.adapter.is_dir() and int(os.environ.get("RANK", "0")) == 0:
            for name, log in (("wandb", adapter_to_wandb), ("trackio", adapter_to_trackio)):
                asked = os.environ.get(f"{name.upper()}_LOG_MODEL", "").lower() in ("end", "checkpoint")
                if asked and name in trackers(recipe.grpo):
                    Shield(f"the adapter in {name}", limit_s=ARTIFACT_LIMIT_S)(log, run)


def put_back() -> None:
    """Leave TRL as it was, for a trainer that is not ours."""
    for place, name, module in replaced:
        place[name] = module
    replaced.clear()


def adapter_to_wandb(run: Run) -> None:
    import wandb

    if wandb.run is None:
        return
    artifact = wandb.Artifact(f"model-{wandb.run.id}", type="model", metadata={"step": run.last_step})
    artifact.add_dir(str(run.adapter))
    logged = wandb.run.log_artifact(artifact, aliases=["final_model"])  # as transformers calls it
    if not wandb.run.offline:  # else its end is waited for no longer than a run's
        logged.wait()


def adapter_to_trackio(run: Run) -> None:
    """Anew in the run that its callback has ended."""
    import trackio

    grpo = run.recipe.grpo
    about = {"space_id": grpo.get("trackio_space_id"), "resume": "allow", "embed": False}
    begun = trackio.init(grpo.get("project", "huggingface"), name_of(run), **about)
    begun.log_artifact(str(run.adapter), name=f"model-{begun.id}", type="model", aliases=["final_model"])
    trackio.finish()


@contextlib.contextmanager
def wandb_run(run: Run, recipe: Recipe) -> Iterator[None]:
    """Have `wandb.run`, where grpo.report_to asks for it, while the block runs; one that is there already is used.

    Enter it before the trainer is made. Never asks for a key, never raises, and takes little more time than wandb's
    init_timeout and finish_timeout allow.
    """
    if "wandb" not in trackers(recipe.grpo) or int(os.environ.get("RANK", "0")) != 0:
        yield
        return
    import wandb

    if wandb.run is not None:
        yield
        return
    # where it puts a copy of what it has to upload, which is in the home folder else, where `wandb sync` leaves it
    data = "WANDB_DATA_DIR" not in os.environ
    if data:
        os.environ["WANDB_DATA_DIR"] = str(run.path.resolve() / "wandb")
    folder, status = None, 1
    try:
        folder = start_wandb(run, recipe)
        yield
        status = 0
    finally:
        finish_wandb(run, folder, status)
        if data:
            os.environ.pop("WANDB_DATA_DIR", None)


def kept_id(run: Run) -> str:
    """The id under which W&B knows the run: that of its folder, where it is one that W&B takes, or else a new one."""
    found = (read_json(run.path / KEPT) or {}).get("id")
    if not isinstance(found, str) or not re.fullmatch(r"[\w.-]{1,64}", found, re.ASCII):
        found = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    with contextlib.suppress(OSError):  # a full disk
        write_json(run.path / KEPT, {"id": found})
    return found


def start_wandb(run: Run, recipe: Recipe) -> Path | None:
    """Begin the W&B run, online or else offline, and say which; returns its folder, None when there is none."""
    import wandb

    # before wandb reads it: what it reports about itself is waited for at Python's end, longer than the run's own data
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    about: dict[str, Any] = {
        "id": kept_id(run),
        "dir": str(run.path.resolve()),
        "name": name_of(run),
        "project": os.environ.get("WANDB_PROJECT", "huggingface"),  # as transformers has it
        "config": config_of(run.recipe),
    }

    def begin(mode: Any) -> Any:
        settings = wandb_settings()
        if (mode or settings.mode) == "online" and not wandb.login(prompt=False, verify=False):
            raise SettingError("no API key")
        begun = wandb.init(mode=mode or settings.mode, resume="allow" if mode is None else None, **about)
        with contextlib.suppress(ImportError, AttributeError):  # another release
            # of what is imported from now on it would report, and where its service has died no import would work
            importlib.import_module("wandb.sdk.lib.import_hooks").unregister_all_post_import_hooks()
        if begun.offline:  # at each save, that it has no address for TRL's model card
            wandb.termsetup(wandb.Settings(show_info=False, show_warnings=False), None)
        return begun

    hooks: Any = (sys.exit, sys.excepthook, sys.argv)
    why, begun = "", None
    sys.argv = recipe.without_tokens(sys.argv)  # it keeps the command
    try:
        for mode in (None, "offline", "disabled"):  # None: as the user's settings have it
            try:
                begun = within(float(os.environ.get("WANDB_INIT_TIMEOUT", "15")) + LIMIT_S, begin, mode)
                break
            except Exception as error:  # noqa: BLE001 - never the run
                why = why or f" ({error if isinstance(error, SettingError) else one_line(error, 300)})"
                end_service(kill=True)  # it would say that the run's id is in use; ended in order, it writes to stdout
    finally:
        sys.exit, sys.excepthook, sys.argv = hooks  # those of wandb print a traceback twice
    if begun is None or begun.disabled:
        if why:
            tell(f"Warning: W&B cannot be used{why}")
        return None
    folder = run.path / "wandb" / Path(begun.dir).parent.name
    tell(f"W&B is offline{why}. Once it is done: {sync_line(run)}" if begun.offline else f"W&B: {begun.url}")
    return folder


def wandb_settings() -> Any:
    """wandb's settings, ours among them unless the user's environment has others; starts its service process."""
    import wandb

    ours = {name: value for name, value in WANDB_SETTINGS.items() if f"WANDB_{name.upper()}" not in os.environ}
    return wandb.setup(settings=wandb.Settings(**ours)).settings


def finish_wandb(run: Run, folder: Path | None, status: int = 0) -> None:
    """End the W&B run and its service process, and say how to sync what did not get through."""
    import wandb

    trouble = " (it was stopped)"  # which is no Exception
    try:
        within((wandb.run.settings.finish_timeout if wandb.run else 0) + 5, wandb.finish, status)
        # wandb warns of it, and does not tell its caller
        log = (folder / "logs" / "debug-internal.log").read_text(errors="replace") if folder else ""
        trouble = " (its server refused the data)" if "filestream: fatal error" in log else ""
    except Exception as error:  # noqa: BLE001 - never the run
        trouble = f" ({one_line(error, 300)})"
    finally:
        wandb.run = None  # wandb leaves it where its end failed early
        end_service()
        if folder is not None and (trouble or unsynced(run)):
            later = sync_line(run, *[folder] if trouble else [])
            tell(f"W&B has not got all of this run{trouble}. To send it: {later}")


def end_service(kill: bool = False) -> None:
    """End wandb's service process: in order, when it writes what it has to its file, or else killed."""
    import psutil
    import wandb

    with contextlib.suppress(Exception):
        if not kill:
            return within(5, wandb.teardown)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "wandb-core" in child.name():
                child.kill()
    with contextlib.suppress(Exception):  # that nothing of it is left to do at Python's end
        within(5, wandb.teardown)
    return None


def unsynced(run: Run) -> list[Path]:
    """The folders of the run's sittings that were offline and that `wandb sync` has not marked."""
    return sorted(path for path in run.path.glob("wandb/offline-run-*") if not [*path.glob("*.synced")])


def sync_line(run: Run, *more: Path) -> str:
    paths = dict.fromkeys((*unsynced(run), *more))
    online = any(not path.name.startswith("offline-") for path in paths)  # left out unless it is asked for
    return shlex.join(["wandb", "sync", *["--include-online"][:online], *map(str, paths)])


def tell(text: str) -> None:
    """On stderr, above a progress bar; nothing where there is no stderr, or it takes no more."""
    from tqdm.auto import tqdm

    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(text, file=sys.stderr)
