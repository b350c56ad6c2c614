"""The functions that the Colab notebooks call, one per cell.

    recipe = settings(recipe="auto", steps=100, hours=3.5, drive=True)
    check(recipe)
    run = trained(recipe)
    show(run)
    take_home(run)

`explore` shows a task's problems on a map. `animate` and `compare` show how several methods drew one image. Outside
Colab there are no secrets, no Drive and no downloads; everything else works the same.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.colab import drive_folder, hours_that_fit, keys, what_a_session_keeps
from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import DEFAULT_PRESET, Recipe
from grpo_colab.recipe.schema import Text
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs import checkpoints, mirror
from grpo_colab.runs.lock import check_no_links
from grpo_colab.runs.resume import runs_of
from grpo_colab.runs.run import Run
from grpo_colab.text import counted
from grpo_colab.utils import files
from grpo_colab.utils.console import info
from grpo_colab.utils.timeouts import run_with_timeout

if TYPE_CHECKING:
    from pandas import DataFrame

    from grpo_colab.plan import Plan

# From this much GPU memory on, Llama-3.1-8B in 4 bits fits. A T4 has 15 GB, which is 14.6 GiB that can be used.
LARGE_GPU_BYTES = 14 * 2**30
# How long the hub may take: for one small request, and for the upload of an adapter (about 100 MB) with its report.
HUB_PATIENCE_S = 30.0
PUSH_PATIENCE_S = 300.0


def settings(
    recipe: str = "auto", steps: Any = None, hours: Any = None, wandb: bool = False, drive: bool = False, hub: str = ""
) -> Recipe:
    """Return the recipe that the notebook's form describes, and print its name, steps and description.

    "auto" chooses the recipe that suits the GPU. `steps` and `hours` are budget.max_steps and budget.max_hours; an
    empty field keeps the recipe's own value, and "auto" hours are those that a free session of Colab allows. `drive`
    mounts Drive and keeps a copy of the run there. `hub` is the repository that the adapter is pushed to, made if
    missing; without Drive it keeps the copy, too. Keys are copied from Colab's secrets into the environment. Raises
    SettingError, as the command line does, for what cannot work, and for a missing key.
    """
    hub = hub.strip()
    if str(hours).strip() == "auto":
        hours = hours_that_fit()
    keys("HF_TOKEN")
    if wandb:
        keys("WANDB_API_KEY")
    fields = {"max_steps": steps, "max_hours": hours, "mirror": f"hf://{hub}" if hub else None}
    # texts, as on the command line, so that a bad value gets the same error
    budget = {name: Text(value) for name, value in fields.items() if value not in (None, "")}
    name = preset_for_this_gpu() if recipe == "auto" else recipe
    grpo = {"report_to": "wandb"} if wandb else {}
    chosen = Recipe.load(name, budget=budget, grpo=grpo)
    if hub:
        open_repository(hub)
    if drive:
        chosen = Recipe.load(name, budget=budget | {"mirror": drive_folder()}, grpo=grpo)
    print(f"{chosen.name}, {counted(chosen.budget.max_steps, 'step')}: {chosen.description}")
    return chosen


def preset_for_this_gpu() -> str:
    """Return the name of the preset that suits this machine's GPU, or its CPU where there is none.

    It goes by the GPU's total memory, since the free memory depends on what ran before.
    """
    import torch

    if not torch.cuda.is_available():
        return DEFAULT_PRESET
    large = torch.cuda.get_device_properties(0).total_memory >= LARGE_GPU_BYTES
    return "gsm8k-llama31-8b" if large else "gsm8k-qwen25-1.5b"


def open_repository(hub: str) -> None:
    """Create the private repository if it is missing, before the training, so that a bad token is refused now.

    Raises SettingError without a token, for a refusal, and for no answer within HUB_PATIENCE_S seconds.
    """
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise SettingError(
            "needs a token that may write",
            setting="hub",
            value=hub,
            remedy="put it as HF_TOKEN into Colab's secrets (the key on the left), give this notebook access, and run "
            "the cell again, or leave the field empty",
        )
    with explained_hub_errors(hub):
        run_with_timeout(HUB_PATIENCE_S, HfApi().create_repo, hub, private=True, exist_ok=True)


@contextlib.contextmanager
def explained_hub_errors(hub: str) -> Iterator[None]:
    """Turn any exception of the block into a SettingError about the repository `hub` that says what to do."""
    try:
        yield
    except Exception as error:  # errors of httpx and of huggingface_hub have no class in common
        problem, remedy = mirror.hub_problem(mirror.HUB + hub, error)
        raise SettingError(problem, setting="hub", value=hub, remedy=remedy or None) from error


def check(recipe: Recipe) -> Plan | None:
    """Print what the doctor finds, and return the plan, which a notebook displays. Imports Unsloth for the training.

    In Colab it also prints what the session keeps of the run. Where no plan can be made, prints why and returns None.
    Raises SettingError when the doctor finds something broken, and for a run that would take days on a CPU: "Run all"
    is not to begin that. `train(recipe)` begins it, beyond three days only where budget.max_hours limits it.
    """
    from grpo_colab.doctor.diagnose import doctor, doctor_text
    from grpo_colab.doctor.fit import OTHER_DEVICE
    from grpo_colab.plan import CannotEstimate, plan
    from grpo_colab.utils.stack import import_unsloth

    found = doctor(recipe)
    print(doctor_text(found), flush=True)
    for finding in found:
        if finding.state == "broken" or finding.advice == OTHER_DEVICE:
            raise SettingError(finding.found, setting=finding.name, remedy=finding.advice)
    # the plan imports transformers, and this kernel trains later, for which unsloth must have been imported first
    import_unsloth()
    try:
        planned = plan(recipe)
        for line in what_a_session_keeps(recipe, planned):
            print(line)
        return planned
    except CannotEstimate as error:  # the recipe can still be trained
        print(error)
        return None


def trained(recipe: Recipe, trust_code: bool = False) -> Run:
    """Return the finished run of this recipe, from runs/ or from its mirror; train it where there is none.

    `train` finds an unfinished run of the recipe by itself and resumes it. `trust_code` allows other people's code that
    the recipe's file names to run. A finished run is copied to the recipe's mirror where its copy is not up to date.
    """
    from grpo_colab import train

    check_trust(recipe, trust_code, only=("task.name",))
    recipe = recipe.completed_by_task()  # as that of a run is
    for run in runs_of(recipe):
        if run.finished:
            info(f"{run.path} is this recipe's run, and finished; train(recipe, resume=False) trains another.")
            if recipe.budget.mirror:
                bring_copy_up_to_date(run, recipe.budget.mirror)
            return run
    return train(recipe, trust_code=trust_code)


def bring_copy_up_to_date(run: Run, destination: str) -> None:
    """Copy a finished run to the mirror `destination` if its copy there is missing, not of this run, or older.

    It then names that mirror in the run's recipe.toml, and prints what it does. A copy that fails is a printed warning.
    """
    copy: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # the copying below reports what is wrong
        copy = run_with_timeout(HUB_PATIENCE_S, mirror.marker, f"{destination}/{run.path.name}")
    is_copy_of_run = bool(copy) and copy.get("id") == mirror.identity(run.path)
    if is_copy_of_run and not is_older(copy, run, destination):
        return
    recipe = run.recipe
    budget = recipe.budget.model_copy(update={"mirror": destination})
    files.write_text(run.path / "recipe.toml", recipe.model_copy(update={"budget": budget}).to_toml())
    info(f"{destination} does not hold this run yet: copying it ...")
    run_mirror = mirror.Mirror(run.path, destination)
    unfinished = run_mirror.finish(mirror.PATIENCE_S)
    if unfinished:
        info(f"Warning: {unfinished}. To try again: {run_mirror.command}")
    else:
        info(f"Copied to {destination}/{run.path.name}")


def is_older(copy: Mapping[str, Any], run: Run, destination: str) -> bool:
    """Tell whether a copy, given by its mirrored.json, lacks a checkpoint of a finished run or its last evaluation."""
    checkpoint = run.last_checkpoint()
    run_step = checkpoints.step_of(checkpoint) if checkpoint else 0
    copied_step = files.number(copy.get("step")) or 0
    if copied_step < run_step:
        return True
    state = files.read_json(run.path / mirror.STATE) or {}
    if state.get("destination") != destination:
        return False  # another machine made the copy, and this run was restored from it
    copied_at = 0.0
    with contextlib.suppress(KeyError, TypeError, ValueError):  # an odd file counts as never copied
        copied_at = datetime.datetime.fromisoformat(state["at"]).timestamp()
    evaluated_at = (run.path / "evaluation.json").stat().st_mtime
    return bool(state.get("error")) or copied_at < int(evaluated_at)


def show(run: Run) -> None:
    """Write the run's report.html, and display it: accuracy before and after, curves, problems gained and lost."""
    from grpo_colab.reporting import write_report

    show_page(write_report(run))


def explore(task: str | None = None, **settings: Any) -> None:
    """Write the map of a task's problems by `embed`, whose settings these are; print what was found, and display it."""
    from grpo_colab.reporting.embedding import embed, embed_text
    from grpo_colab.utils.stack import import_unsloth

    # an embedder may import transformers, and this kernel trains later, for which unsloth must be imported first
    import_unsloth()
    found = embed(task, **settings)
    print(embed_text(found))
    show_page(found.path / "map.html")


def show_page(page: Path) -> None:
    """Display an HTML page in a frame, so that its style and the notebook's do not mix, and print its path."""
    from IPython.display import HTML, display

    from grpo_colab.reporting.notebook_html import frame_html

    display(HTML(frame_html(page.read_text(encoding="utf-8"))))
    print(f"The same page, as a file: {page}")


def animate(*runs: Run) -> None:
    """Display each run's GIF of its best drawings, one per iteration, side by side; a run without one gets a text."""
    from IPython.display import HTML, display

    from grpo_colab.reporting.notebook_html import drawings_html

    gifs: list[tuple[str, bytes | None]] = []
    for run in runs:
        name = f"{run.path.parent.name}, {run.path.name}"
        gif = None
        with contextlib.suppress(OSError):  # there is no GIF, or a link in its place
            gif = files.read_bytes(run.path / "drawing.gif")
        gifs.append((name, gif))
    display(HTML(drawings_html(gifs)))


def compare(**methods: Sequence[Run]) -> DataFrame:
    """Display the best and the worst reward of each iteration, a panel per method; return a table, a row per method.

    Its counts are medians over the finished runs, and their ranges. Raises ValueError for a method without runs.
    """
    from IPython.display import Image, display
    from pandas import DataFrame

    from grpo_colab.experiments.comparison import method_rows, reward_figure

    rows = method_rows(methods)
    picture = io.BytesIO()
    reward_figure(methods, rows).savefig(picture, format="png")
    display(Image(data=picture.getvalue()))
    return DataFrame.from_dict(rows, orient="index")


def draw_on_gpu(image: str, method: str, recipe: str = "drawing-qwen25-coder-0.5b") -> list[Run]:
    """Draw the image with a recipe that needs a GPU, and return the runs; without a GPU, print so and return none."""
    import torch

    from grpo_colab import draw

    if not torch.cuda.is_available():
        print("There is no GPU here, so this was left out. Runtime > Change runtime type, T4 GPU; then Run all again.")
        return []
    return draw(image, method, recipe=recipe)


def ask(run: Run, question: str, trust_code: bool = False) -> None:
    """Print the model's answers to `question` without and with the run's adapter; SettingError where it has none."""
    from grpo_colab.evaluation.samples import answer_without_and_with_adapter

    before, after = answer_without_and_with_adapter(run.recipe, adapter_of(run), question, trust_code)
    print(f"--- before training\n{before}\n\n--- after training\n{after}")


def samples(name: str, n: int = 64, shown: int = 4, out: str | Path = "samples.jsonl") -> None:
    """Let the untrained model of the recipe `name` answer `n` training problems, and print the first `shown` answers.

    All graded answers are written to the file `out`, which `score` reads. Raises OSError where that is not possible.
    """
    from grpo_colab.evaluation.samples import sample_answers

    rows = sample_answers(Recipe.load(name), n)
    files.write_out(out, files.lines(rows))
    for row in rows[:shown]:
        verdict = "right" if row["right"] else f"wrong, it is {row['answer']}"
        print(f"{row['question']}\n{row['completion']}\n({verdict})\n")
    print(f"{sum(row['right'] for row in rows)} of {len(rows)} are right; all of them are in {out}")


def take_home(run: Run, hub: str = "", download: bool = True) -> None:
    """Zip the adapter with its report here; in Colab download the zip; push the adapter to the repository `hub`.

    An empty `hub` pushes nothing. Raises SettingError where the run has no adapter, or a link out of its folder. The
    zip is there before the push, so the SettingError of a push that fails says how to push again.
    """
    adapter = adapter_of(run)
    check_no_links(run.path)  # the file that a link leads to would be sent, too
    archive = Path(f"{run.path.name}-adapter.zip")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in (*sorted(adapter.iterdir()), run.path / "report.html"):
            if path.is_file():
                file.write(path, path.name)
    files.write_out(archive, packed.getvalue())
    print(f"The adapter: {archive} ({archive.stat().st_size / 2**20:.1f} MiB)")
    if run.recipe.budget.mirror:
        print(f"The whole run: {run.recipe.budget.mirror}/{run.path.name}")
    if download:
        with contextlib.suppress(ImportError):
            from google.colab import files as browser

            browser.download(str(archive))
    hub = hub.strip()
    if hub:
        try:
            with explained_hub_errors(hub):
                run_with_timeout(PUSH_PATIENCE_S, push, run, hub)
        except SettingError as error:
            again = f"the adapter is in {archive}; to push it again: take_home(run, {hub!r}, download=False)"
            raise error.replace(remedy=f"{error.remedy}; {again}" if error.remedy else again) from error
        print(f"On the hub: https://huggingface.co/{hub}")


def push(run: Run, hub: str) -> None:
    """Upload the adapter to the repository's top folder, where PeftModel.from_pretrained looks, and the report too."""
    from huggingface_hub import HfApi

    # PEFT's model card, as older versions left it, names the base model; the hub refuses one that names a folder
    card, readme = None, run.adapter / "README.md"
    if readme.is_file() and f"base_model: {run.recipe.model_path}\n" in readme.read_text(errors="replace"):
        card = ["README.md"] if Path(run.recipe.model_path).is_dir() else None
    message = run.path.name
    HfApi().upload_folder(repo_id=hub, folder_path=run.adapter, commit_message=message, ignore_patterns=card)
    page = run.path / "report.html"
    if page.is_file():
        HfApi().upload_file(repo_id=hub, path_or_fileobj=page, path_in_repo=page.name, commit_message=message)


def adapter_of(run: Run) -> Path:
    """Return the run's adapter folder. Raises SettingError when the run has none yet."""
    if not (run.adapter / "adapter_config.json").is_file():
        raise SettingError("has no adapter yet", remedy="run the training cell to its end", place=run.path)
    return run.adapter
