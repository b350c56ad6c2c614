"""Show a plan as text with a bar, as a picture and as HTML for a notebook, and several plans as a table."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_colab.plan.devices import GIB
from grpo_colab.plan.disk import checkpoint_bytes, mirror_copies
from grpo_colab.plan.duration import UNCERTAINTY
from grpo_colab.plan.start import HUB_BYTES_S
from grpo_colab.text import counted, duration, on_one_line
from grpo_colab.utils.templates import render

if TYPE_CHECKING:
    from grpo_colab.plan import Plan

# Part -> its letter in the bar, its label, its colour in the picture and its colour code in a terminal. The colours are
# Okabe and Ito's, which people with any colour vision can tell apart.
PARTS = {
    "weights": ("W", "weights", "#0072B2", 33),
    "adapter": ("A", "adapter", "#56B4E9", 117),
    "optimiser": ("O", "optimiser", "#009E73", 36),
    "gradients": ("G", "gradients", "#F0E442", 227),
    "kv_cache": ("K", "KV cache", "#E69F00", 214),
    "activations": ("T", "activations", "#D55E00", 166),
    "logits": ("L", "logits", "#CC79A7", 175),
    "vllm": ("V", "vLLM's own", "#999999", 250),
    "runtime": ("C", "CUDA's own", "#555555", 243),
}
# Whether it fits -> the words for it, and their colour code in a terminal.
VERDICT = {"yes": ("fits", 32), "tight": ("is tight", 33), "no": ("does not fit", 31)}


def gib(size: float) -> str:
    """Return a size in bytes as a number of GiB, without the unit.

    It has two digits after the point, or four where two would show nothing.
    """
    return f"{size / GIB:.2f}" if size >= 0.005 * GIB or not size else f"{size / GIB:.4f}"


def labels(plan: Plan) -> dict[str, str]:
    """Return the labels of the parts on the plan's kind of device: part -> label."""
    found = {part: label for part, (_, label, _, _) in PARTS.items()}
    if plan.kind == "cpu":
        found["runtime"] = "Python's own"
    return found


def headline(plan: Plan) -> str:
    """Return the plan's answer in one line: the recipe, whether it fits, and the memory."""
    return on_one_line(
        f"{plan.recipe.name} {VERDICT[plan.fits][0]} on {plan.device}: about {gib(plan.bytes)} GiB of "
        f"{gib(plan.memory)} GiB ({plan.bytes / plan.memory:.0%})"
    )


def text(plan: Plan, colour: bool, width: int) -> str:
    """Return what `grpo-colab plan` prints, wrapped to `width` columns; in ASCII unless `colour`."""

    def paint(words: str, code: str) -> str:
        """Return the words in a terminal's colour, unless the text is without colour."""
        return f"\033[{code}m{words}\033[0m" if colour else words

    lines = [
        paint(headline(plan), f"1;{VERDICT[plan.fits][1]}"),
        str(plan.batch_plan),
        *installation([plan]),
        "",
        bar(plan, colour, width),
        "",
    ]
    lines.append(f"{'GiB':<19}" + "".join(f"{moment:>12}" for moment in plan.peaks))
    for part, (letter, _, _, code) in PARTS.items():
        if any(sizes.get(part) for sizes in plan.peaks.values()):
            row = "".join(f"{gib(sizes.get(part, 0)):>12}" for sizes in plan.peaks.values())
            lines.append(f"{paint(letter, f'38;5;{code}')} {labels(plan)[part]:<17}{row}")
    lines.append(f"{'  together':<19}" + "".join(f"{gib(sum(sizes.values())):>12}" for sizes in plan.peaks.values()))
    sections = {
        "KV cache": [kv_cache(plan)],
        "Chosen": chosen(plan),
        "Time": [time(plan), *start(plan)],
        "Mirror": mirror(plan),
        "What to change": plan.advice,
    }
    for title, entries in sections.items():
        if entries:
            lines += ["", paint(title, "1")]
            lines += _wrapped(entries, width)
    return "\n".join(lines)


def installation(plans: Sequence[Plan]) -> list[str]:
    """Return a line that says whether the plans are made with vLLM; none where that makes no difference to any."""
    found = dict.fromkeys(plan.installation for plan in plans if plan.installation)
    named = "; --vllm plans with it" if any("," in words for words in found) else ""
    return [f"Planned {words}{named}" for words in found]


def _wrapped(entries: Sequence[str], width: int) -> list[str]:
    """Return the lines of the entries, each entry wrapped to `width` columns and indented."""
    lines = []
    for entry in entries:
        lines += textwrap.wrap(on_one_line(entry), width, initial_indent="  ", subsequent_indent="      ")
    return lines


def bar(plan: Plan, colour: bool, width: int) -> str:
    """Return the larger peak as a bar of `width` columns, at least 20: a letter for each part, dots for what is free.

    A `|` marks the device's memory; what stands right of it does not fit. With `colour` the bar has a terminal's codes
    for colours.
    """
    scale = (max(20, width) - 1) / max(plan.bytes, plan.memory)
    cells: list[tuple[str, int]] = []  # letter, colour code
    end = 0.0
    for part, (letter, _, _, code) in PARTS.items():
        end += plan.parts.get(part, 0) * scale
        cells += [(letter, code)] * (round(end) - len(cells))
    limit = round(plan.memory * scale)
    cells += [(".", 0)] * (limit - len(cells))
    cells.insert(limit, ("|", 0))
    painted = []
    for code, run in groupby(cells, key=lambda cell: cell[1]):
        letters = "".join(letter for letter, _ in run)
        painted.append(f"\033[30;48;5;{code}m{letters}\033[0m" if colour and code else letters)
    return "".join(painted)


def chosen(plan: Plan) -> list[str]:
    """Return a line for each setting that was chosen, with its value and the reason."""
    return [f"{setting} = {_toml(value)}: {why}" for setting, value, why in plan.chosen]


def _toml(value: object) -> str:
    """Return a number or a boolean as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def kv_cache(plan: Plan) -> str:
    """Return how many sequences the KV cache holds, beside how many one process's step has."""
    held, sequences = counted(plan.sequences, "sequence"), plan.batch_plan.completions // plan.batch_plan.processes
    return (
        f"{plan.kv_token / 1024:.3g} KiB per token: it holds {held} of {plan.tokens:,} tokens, and a step has "
        f"{sequences}"
    )


def time(plan: Plan) -> str:
    """Return the estimated time per step and of the whole run as a sentence."""
    steps = counted(plan.recipe.budget.max_steps, "step")
    before = plan.start
    probes = ", with its probes" if plan.recipe.evaluation.every else ""
    started = "the start, " if before.download_s or before.compile_s or before.pretraining_s else ""
    return (
        f"about {duration(plan.step_s)} per step: {duration(3600 * plan.hours)} for {started}{steps} and the "
        f"evaluation before and after{probes}, to within a factor of {UNCERTAINTY}"
    )


def start(plan: Plan) -> list[str]:
    """Return a line on what comes before the first step; none where it is the evaluation alone."""
    before, parts = plan.start, []
    if before.download_s:
        size, rate = before.download_bytes / 1e9, HUB_BYTES_S / 1e6
        parts.append(f"{duration(before.download_s)} to download {size:.1f} GB, at {rate:.0f} MB/s")
    if before.compile_s:
        parts.append(f"{duration(before.compile_s)} to compile")
    if before.pretraining_s:
        parts.append(f"{duration(before.pretraining_s)} to pre-train, once")
    if not parts:
        return []
    parts.append(f"{duration(before.evaluation_s)} for the evaluation before")
    return [f"{duration(before.seconds)} until the first step: {', '.join(parts)}"]


def mirror(plan: Plan) -> list[str]:
    """Return what the run's copies in budget.mirror amount to, as a sentence; nothing for a recipe without a mirror."""
    budget = plan.recipe.budget
    if not budget.mirror:
        return []
    copies, checkpoint = mirror_copies(plan.recipe, plan.hours, plan.step_s), checkpoint_bytes(plan)
    often = f"every {budget.mirror_minutes:g} minutes" if budget.mirror_minutes else "with every checkpoint"
    # A copy has the newest checkpoint and, where that is another one, the best.
    most = 2 * copies * checkpoint
    where = f"they overwrite one another in three places, {gib(3 * checkpoint)} GiB"
    if budget.mirror.startswith("hf://"):
        where = "its history is squashed each time, where nobody else commits there"
    return [
        f"{budget.mirror} gets a copy {often} and at the end: at most {copies} times two checkpoints of about "
        f"{gib(checkpoint)} GiB, {gib(most)} GiB in all; {where}. A machine that is taken away loses what came after "
        "the last copy"
    ]


def table(plans: Sequence[Plan], colour: bool, width: int) -> str:
    """Return the plans of one recipe for several devices: a row for each device, then what to change for those in need.

    The text is wrapped to `width` columns. Without `colour` it has no codes for a terminal. There must be a plan.
    """
    name = max(len("device"), *(len(on_one_line(plan.device)) for plan in plans)) + 2
    lines = [
        on_one_line(plans[0].recipe.name),
        *installation(plans),
        f"{'device':<{name}}{'':<14}{'GiB':>9}{'of':>9}{'per step':>11}{'in all':>9}   completions",
    ]
    for plan in plans:
        verdict, code = VERDICT[plan.fits]
        verdict = f"\033[{code}m{verdict:<14}\033[0m" if colour else f"{verdict:<14}"
        tokens, at_once = plan.recipe.grpo["max_completion_length"], plan.batch_plan.micro_batch
        lines.append(
            f"{on_one_line(plan.device):<{name}}{verdict}{gib(plan.bytes):>9}{gib(plan.memory):>9}"
            f"{duration(plan.step_s):>11}{duration(3600 * plan.hours):>9}   {tokens:,} tokens, {at_once:,} at once"
        )
    for plan in plans:
        if plan.advice:
            lines += ["", f"What to change for {on_one_line(plan.device)}", *_wrapped(plan.advice, width)]
    return "\n".join(lines)


def draw(plan: Plan, path: Path | io.BytesIO) -> None:
    """Write a PNG of both peaks as stacked bars, with a line at the device's memory, to a file or into a buffer.

    Imports matplotlib. An existing file is replaced. Raises OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no window, safe in a notebook

    figure = Figure(figsize=(10, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    moments = list(plan.peaks)[::-1]
    names, ends = labels(plan), dict.fromkeys(moments, 0.0)
    for part, (_, _, part_colour, _) in PARTS.items():
        sizes = [plan.peaks[moment].get(part, 0) / GIB for moment in moments]
        if any(sizes):
            axes.barh(moments, sizes, left=list(ends.values()), color=part_colour, edgecolor="white", label=names[part])
            ends = {moment: ends[moment] + size for moment, size in zip(moments, sizes, strict=True)}
    for place, end in enumerate(ends.values()):
        axes.text(end, place, f" {end:.1f}", va="center")
    axes.axvline(plan.memory / GIB, color="#222222", linewidth=2)
    axes.set_xlim(0, 1.08 * max(plan.memory / GIB, *ends.values()))
    axes.set_xlabel(f"GiB; the line is what {on_one_line(plan.device)} has, {gib(plan.memory)}")
    axes.set_title(headline(plan), loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, format="png")


def as_html(plan: Plan) -> str:
    """Return the plan as HTML for a notebook: the picture, the table of memory, and the lines of text below it."""
    picture = io.BytesIO()
    draw(plan, picture)
    rows = {}
    for part, label in labels(plan).items():
        if any(sizes.get(part) for sizes in plan.peaks.values()):
            rows[label] = [gib(sizes.get(part, 0)) for sizes in plan.peaks.values()]
    return render(
        Path(__file__).parent / "plan.html.j2",
        headline=headline(plan),
        picture=base64.b64encode(picture.getvalue()).decode(),
        moments=list(plan.peaks),
        rows=rows,
        lines=[
            *installation([plan]),
            kv_cache(plan),
            *chosen(plan),
            time(plan),
            *start(plan),
            *mirror(plan),
            *plan.advice,
        ],
    )
