"""What the Colab notebooks call, a cell a function: the form becomes a recipe, a run becomes a page and a zip.

    recipe = settings(recipe="auto", steps=100, hours=3.5, drive=True)
    check(recipe)
    run = trained(recipe)
    show(run)
    take_home(run)

`explore` shows a task's problems on a map. Of one image that was drawn by several methods `animate` shows how, and
`compare` what came of it. Where there is no
Colab, its secrets, its Drive and its downloads are left out, and the rest works the same.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import html
import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe.recipe import DEFAULT_PRESET, Recipe, Text
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs import checkpoints, mirror
from grpo_colab.runs.lock import check_no_links
from grpo_colab.runs.resume import restore_run
from grpo_colab.runs.run import RUNS, Run
from grpo_colab.utils import files
from grpo_colab.utils.console import info
from grpo_colab.utils.timeouts import run_with_timeout
from grpo_colab.utils.toml_reading import parse_toml

if TYPE_CHECKING:
    from pandas import DataFrame

    from grpo_colab.plan import Plan

LARGE_GPU_BYTES = 14 * 2**30  # a T4's 15 GB, of which 14.6 GiB are to be had: Llama-3.1-8B in 4-bit fits
HUB_PATIENCE_S = 30.0
PUSH_PATIENCE_S = 300.0  # some 100 MB, and then the report


def settings(
    recipe: str = "auto", steps: Any = None, hours: Any = None, wandb: bool = False, drive: bool = False, hub: str = ""
) -> Recipe:
    """The form as a recipe; SettingError for nonsense, in the command line's words, and for a key that is missing.

    "auto" takes the recipe that suits the GPU. `steps` and `hours` are budget.max_steps and budget.max_hours; an empty
    field leaves the recipe's own. `drive` keeps a copy of the run in Drive. `hub` is the repository that the adapter
    goes to; without Drive it keeps the copy of the run too.
    """
    hub = hub.strip()
    keys("HF_TOKEN", *["WANDB_API_KEY"][: bool(wandb)])
    fields = {"max_steps": steps, "max_hours": hours, "mirror": f"hf://{hub}" if hub else None}
    # as texts, which is how the command line has them
    budget = {name: Text(value) for name, value in fields.items() if value not in (None, "")}
    name = suited() if recipe == "auto" else recipe
    grpo = {"report_to": "wandb"} if wandb else {}
    chosen = Recipe.load(name, budget=budget, grpo=grpo)
    if hub:
        open_repository(hub)
    if drive:
        chosen = Recipe.load(name, budget=budget | {"mirror": drive_folder()}, grpo=grpo)
    print(f"{chosen.name}, {chosen.budget.max_steps} steps: {chosen.description}")
    return chosen


def keys(*names: str) -> None:
    """Put these keys into the environment from Colab's secrets, where they are, and this notebook may read them.

    They are never asked for and never shown. A secret goes before what the environment has already.
    """
    try:
        from google.colab import userdata
    except ImportError:
        return
    for name in names:
        # not there, no access, nobody at the browser: each is an exception class of its own, not all in every release
        with contextlib.suppress(Exception):
            if secret := userdata.get(name):
                os.environ[name] = secret


def suited() -> str:
    """The preset for this machine's GPU, by all of its memory: what is free depends on what ran before."""
    import torch

    if not torch.cuda.is_available():
        return DEFAULT_PRESET
    large = torch.cuda.get_device_properties(0).total_memory >= LARGE_GPU_BYTES
    return "gsm8k-llama31-8b" if large else "gsm8k-qwen25-1.5b"


def drive_folder() -> str:
    """The folder for runs in the user's Drive, which is mounted: beside the notebook, that is /content/drive."""
    try:
        from google.colab import drive
    except ImportError:
        raise SettingError(
            "there is no Drive outside Colab",
            setting="drive",
            value=True,
            remedy="untick it, and keep the run folder",
        ) from None
    place = Path("drive").absolute()
    try:
        drive.mount(str(place))
    except Exception as error:  # Colab's own classes, for a dialogue that was closed as for a Drive that is full
        raise SettingError(
            f"Drive was not mounted ({one_line(error)})",
            setting="drive",
            value=True,
            remedy="run the cell again, or untick it",
        ) from error
    return str(place / "MyDrive" / "grpo_colab")


def open_repository(hub: str) -> None:
    """Make the private repository now, when it is missing: a token that may not write shows before the training."""
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise SettingError(
            "needs a token that may write",
            setting="hub",
            value=hub,
            remedy="put it as HF_TOKEN into Colab's secrets (the key on the left), give this notebook access, and run "
            "the cell again, or leave the field empty",
        )
    with said_of(hub):
        run_with_timeout(HUB_PATIENCE_S, HfApi().create_repo, hub, private=True, exist_ok=True)


@contextlib.contextmanager
def said_of(hub: str) -> Iterator[None]:
    """Turn what goes wrong with a repository into a SettingError that says what to do about it."""
    try:
        yield
    except Exception as error:  # httpx' and the hub's, which have no class in common
        problem, remedy = mirror.hub_problem(mirror.HUB + hub, error)
        raise SettingError(problem, setting="hub", value=hub, remedy=remedy or None) from error


def check(recipe: Recipe) -> Plan | None:
    """Print what the doctor says, and return the plan, which a notebook shows; SettingError for what is broken."""
    from grpo_colab.doctor.diagnose import doctor, doctor_text
    from grpo_colab.plan import Unplanned, plan
    from grpo_colab.utils.stack import import_unsloth

    found = doctor(recipe)
    print(doctor_text(found), flush=True)
    if broken := [one for one in found if one.state == "broken"]:
        raise SettingError(broken[0].found, setting=broken[0].name, remedy=broken[0].advice)
    import_unsloth()  # before transformers, which the plan asks, for this kernel is to train afterwards
    try:
        return plan(recipe)
    except Unplanned as error:  # which does not keep it from being trained
        print(error)
        return None


def trained(recipe: Recipe, trust_code: bool = False) -> Run:
    """The run of this recipe: one that is finished, here or in its mirror, or else `train`, which finds a half one.

    `trust_code` lets run what a recipe's file names of others' code.
    """
    from grpo_colab import train

    for run in runs_of(recipe):
        if run.finished:
            info(f"{run.path} is this recipe's run, and finished; train(recipe, resume=False) trains another.")
            if recipe.budget.mirror:
                mirrored(run, recipe.budget.mirror)
            return run
    return train(recipe, trust_code=trust_code)


def runs_of(recipe: Recipe) -> Iterator[Run]:
    """Its runs in runs/, and then those that its mirror alone has, each brought here."""
    for path in sorted(RUNS.glob("*"), reverse=True):
        with contextlib.suppress(SettingError, OSError):
            if (run := Run(path)).recipe.repeats(recipe):
                yield run
    for name, text in mirror.recipes(recipe.budget.mirror).items() if recipe.budget.mirror else ():
        with contextlib.suppress(ValueError):  # of another release, which cannot be read
            if not (RUNS / name).exists() and Recipe.model_validate(parse_toml(text)).repeats(recipe):
                yield restore_run(f"{recipe.budget.mirror}/{name}")


def mirrored(run: Run, destination: str) -> None:
    """Copy a finished run where no copy of it is, or an older one: the wish came later, or the last copy failed."""
    copy: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # whatever it is, the copying says it better
        copy = run_with_timeout(HUB_PATIENCE_S, mirror.marker, f"{destination}/{run.path.name}")
    last, state = run.last_checkpoint(), files.read_json(run.path / mirror.STATE) or {}
    older = (files.number(copy.get("step")) or 0) < (checkpoints.step_of(last) if last else 0)
    if state.get("destination") == destination:  # else another machine made the copy, and this run came from it
        evaluated, copied = (run.path / "evaluation.json").stat().st_mtime, 0.0
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of an odd file: it is copied again
            copied = datetime.datetime.fromisoformat(state["at"]).timestamp()
        older |= bool(state.get("error")) or copied < int(evaluated)
    if copy and copy.get("id") == mirror.identity(run.path) and not older:
        return
    begun = run.recipe
    budget = begun.budget.model_copy(update={"mirror": destination})
    files.write_text(run.path / "recipe.toml", begun.model_copy(update={"budget": budget}).to_toml())
    info(f"{destination} does not hold this run yet: copying it ...")
    keeper = mirror.Mirror(run.path, destination)
    behind = keeper.finish(mirror.PATIENCE_S)
    info(f"Warning: {behind}. To try again: {keeper.command}" if behind else f"Copied to {destination}/{run.path.name}")


def show(run: Run) -> None:
    """The run's report, in the notebook: accuracy before and after, the curves, what was gained and lost."""
    from grpo_colab.reporting import write_report

    framed(write_report(run))


def explore(task: str | None = None, **settings: Any) -> None:
    """The map of a task's problems, in the notebook; the settings are those of `embed`."""
    from grpo_colab.reporting.embedding import embed, embed_text
    from grpo_colab.utils.stack import import_unsloth

    import_unsloth()  # before transformers, which an embedder asks, for this kernel is to train afterwards
    found = embed(task, **settings)
    print(embed_text(found))
    framed(found.path / "map.html")


def framed(page: Path) -> None:
    """Show a page in a frame, in which its style is its own."""
    from IPython.display import HTML, display

    text = html.escape(page.read_text(encoding="utf-8"))
    display(HTML(f'<div><iframe srcdoc="{text}" style="width: 100%; height: 900px; border: 0"></iframe></div>'))
    print(f"The same page, as a file: {page}")


def animate(*runs: Run) -> None:
    """Show the GIFs of how the drawings came to be, next to each other."""
    from IPython.display import HTML, display

    shown = []
    for run in runs:
        path, name = run.path / "drawing.gif", html.escape(f"{run.path.parent.name}, {run.path.name}")
        picture = f"<p>{name} has drawn nothing</p>"
        with contextlib.suppress(OSError):  # there is none, or a link in its place
            data = base64.b64encode(files.read_bytes(path)).decode()
            picture = f'<img alt="The best drawing of each iteration: {name}" src="data:image/gif;base64,{data}">'
        shown.append(picture)
    display(HTML(f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{"".join(shown)}</div>'))


def compare(**methods: Sequence[Run]) -> DataFrame:
    """Show the best and the worst reward of each iteration, a panel a name; return what came of the runs, a row a name.

    Counts are medians of the finished runs, with the least and the most where they differ.
    """
    from IPython.display import Image, display
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from pandas import DataFrame

    from grpo_colab.experiments.sweep import COUNTED, summary, table
    from grpo_colab.reporting.curves import COLOURS

    figure = Figure(figsize=(4.2 * len(methods), 3.4), dpi=100, layout="constrained")
    panels, rows = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0], {}
    for axes, (name, runs) in zip(panels, methods.items(), strict=True):
        for first, run in zip([True, *[False] * len(runs)], runs, strict=False):
            metrics = [row for row in run.metrics() if "reward/max" in row]
            for side, colour, label in (("max", COLOURS[0], "best"), ("min", COLOURS[1], "worst")):
                curve = [row["step"] for row in metrics], [row[f"reward/{side}"] for row in metrics]
                axes.plot(*curve, ".-", color=colour, alpha=0.8, label=label if first else None)
        summaries = [summary(run) | {"setting": name} for run in runs]
        [row] = table(summaries)
        counts = {key: "-" if key not in row else _spread(row[key]) for key in COUNTED}
        best = max(one["best"] for one in summaries)
        rows[name] = {"solved": f"{row['solved']} of {row['seeds']}", **counts, "best drawing": f"{best:.1%} right"}
        axes.set(title=f"{name}: solved {rows[name]['solved']}", xlabel="iteration", ylim=(-0.05, 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of right pixels")
    panels[0].legend(edgecolor="none", framealpha=0.85)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    display(Image(data=picture.getvalue()))
    return DataFrame.from_dict(rows, orient="index")


def _spread(count: Mapping[str, float]) -> str:
    span = f" ({count['min']:g} to {count['max']:g})" if count["min"] != count["max"] else ""
    return f"{count['median']:g}{span}"


def draw_on_gpu(image: str, method: str, recipe: str = "drawing-qwen25-coder-0.5b") -> list[Run]:
    """The runs of `draw` with a recipe that needs a GPU; where there is none it says so, and there are no runs."""
    import torch

    from grpo_colab import draw

    if not torch.cuda.is_available():
        print("There is no GPU here, so this was left out. Runtime > Change runtime type, T4 GPU; then Run all again.")
        return []
    return draw(image, method, recipe=recipe)


def ask(run: Run, question: str, trust_code: bool = False) -> None:
    """Print what the model answers without and with the adapter that the run saved."""
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import this_machine
    from grpo_colab.utils.memory import free_memory
    from grpo_colab.utils.stack import import_unsloth

    import_unsloth()
    free_memory()  # of the model that was trained
    recipe, adapter = run.recipe, adapter_of(run)
    check_trust(recipe, trust_code)
    # one question is not worth vLLM's minutes, and it would not take the adapter off
    slim = recipe.model_copy(update={"model": recipe.model | {"fast_inference": False}})
    policy = load_policy(slim, this_machine(), adapter)
    system = recipe.load_task().system_prompt
    messages = [{"role": role, "content": text} for role, text in (("system", system), ("user", question)) if text]
    with policy.model.disable_adapter():
        before = policy.generate([messages], recipe.max_completion_tokens)
    after = policy.generate([messages], recipe.max_completion_tokens)
    print(f"--- before training\n{before[0]}\n\n--- after training\n{after[0]}")


def samples(name: str, n: int = 64, shown: int = 4, out: str | Path = "samples.jsonl") -> None:
    """Write what the untrained model of the recipe `name` answers to the file `out`, for `score`; print the first."""
    from grpo_colab.evaluation import evaluate
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import this_machine

    recipe = Recipe.load(name)
    check_trust(recipe)
    policy, task = load_policy(recipe, this_machine()), recipe.load_task()
    rows = evaluate.answer(policy, recipe, task, task.problems("train", n), at_once=64)
    files.write_out(out, files.lines(rows))
    for row in rows[:shown]:
        verdict = "right" if row["right"] else f"wrong, it is {row['answer']}"
        print(f"{row['question']}\n{row['completion']}\n({verdict})\n")
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} are right; all of them are in {out}")


def take_home(run: Run, hub: str = "", download: bool = True) -> None:
    """Zip the adapter with its report; send it to the browser where this is Colab, and to the hub repository.

    A hub that refuses or is silent costs nothing but its copy: SettingError says how to push again.
    """
    adapter = adapter_of(run)
    check_no_links(run.path)  # what it leads to would be sent, too
    archive = Path(f"{run.path.name}-adapter.zip")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in (*sorted(adapter.iterdir()), run.path / "report.html"):
            if path.is_file():
                file.write(path, path.name)
    files.write_out(archive, packed.getvalue())
    print(f"The adapter: {archive} ({archive.stat().st_size / 2**20:.1f} MiB)")
    if kept := run.recipe.budget.mirror:
        print(f"The whole run: {kept}/{run.path.name}")
    if download:
        with contextlib.suppress(ImportError):
            from google.colab import files as browser

            browser.download(str(archive))
    if hub := hub.strip():
        try:
            with said_of(hub):
                run_with_timeout(PUSH_PATIENCE_S, push, run, hub)
        except SettingError as error:
            again = f"the adapter is in {archive}; to push it again: take_home(run, {hub!r}, download=False)"
            raise error.replace(remedy=f"{error.remedy}; {again}" if error.remedy else again) from error
        print(f"On the hub: https://huggingface.co/{hub}")


def push(run: Run, hub: str) -> None:
    """The adapter to the repository's top, where PeftModel.from_pretrained looks for it, and the report beside it."""
    from huggingface_hub import HfApi

    # PEFT's model card names the base model, and the hub refuses one whose base model is a folder
    card = ["README.md"] if Path(run.recipe.model_path).is_dir() else None
    message = run.path.name
    HfApi().upload_folder(repo_id=hub, folder_path=run.adapter, commit_message=message, ignore_patterns=card)
    if (page := run.path / "report.html").is_file():
        HfApi().upload_file(repo_id=hub, path_or_fileobj=page, path_in_repo=page.name, commit_message=message)


def adapter_of(run: Run) -> Path:
    if not (run.adapter / "adapter_config.json").is_file():
        raise SettingError("has no adapter yet", remedy="run the training cell to its end", place=run.path)
    return run.adapter
