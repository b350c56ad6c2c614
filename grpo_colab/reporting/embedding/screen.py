"""Say on the screen what `grpo-colab embed` is doing, and what it has found and written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from grpo_colab.reporting.embedding import points
from grpo_colab.runs.folders import quote
from grpo_colab.text import on_one_line, printable
from grpo_colab.utils.console import info

if TYPE_CHECKING:
    from grpo_colab.reporting.embedding.embedding import Embedding

PHASES: Final = 6  # of `embed`


@contextlib.contextmanager
def phases() -> Iterator[Callable[[str], None]]:
    """Yield a function that says on stderr which phase begins, above a bar of all PHASES where stderr is a terminal."""
    from tqdm import tqdm

    begun = 0
    with tqdm(total=PHASES, unit="phase", disable=None, leave=False) as bar:

        def begin(phase: str) -> None:
            """Print the phase with its number, and move the bar to it."""
            nonlocal begun
            begun += 1
            info(f"{begun}/{PHASES}  {phase} ...")
            bar.update(begun - 1 - bar.n)

        yield begin


def embed_text(found: Embedding, shown_pairs: int = 10) -> str:
    """Return what `grpo-colab embed` prints: what was found, the most similar pairs, and how to look at the files.

    `shown_pairs` is the number of near-duplicates in it, at most; how many more there are, and where, is said below
    them. Control characters are shown as escapes.
    """
    pairs = [
        f"  {row['similarity']:.2f}  test   {shorten(row['test'], 110)}\n        train  {shorten(row['train'], 110)}"
        for row in found.duplicates[:shown_pairs]
    ]
    left = len(found.duplicates) - shown_pairs
    if left > 0:
        pairs.append(f"  and {left:,} more in {on_one_line(found.path / 'near-duplicates.tsv')}")
    ways = {
        "map.html": "the map: hover, search, colour, lasso",
        "map.png": "the same as a picture",
        "near-duplicates.tsv": "all pairs",
        "vectors.tsv": "with metadata.tsv for https://projector.tensorflow.org (Load)",
    }
    width = max(map(len, ways))
    listed = [f"  {name:<{width}}  {what}" for name, what in ways.items()]
    see = (
        f"In TensorBoard: tensorboard --logdir {on_one_line(quote(found.path))}, then http://localhost:6006/#projector"
    )
    return printable(
        "\n".join([*embed_lines(found, found.task), *pairs, f"In {on_one_line(found.path)}:", *listed, see])
    )


def embed_lines(found: Embedding, name: str) -> list[str]:
    """Return what was embedded, how, and what was found, a sentence per line. `name` is what they call the task."""
    counts = " and ".join(f"{count:,} {split}" for split, count in found.counts.items())
    lines = [
        f"{name}: {counts} problems in {found.dimensions} dimensions by {found.embedder}.",
        f"Laid out in two by {found.layout}: neighbours on the map are alike, distances between groups mean little.",
        f"{len(found.duplicates):,} of the {found.counts['test']:,} test problems nearly repeat a training problem: of "
        f"their runs of three words, numbers aside, half or more are the same (a cosine of {points.ALIKE:g} or more).",
    ]
    lines += [f"The run's policy was asked {found.asked:,} of them."] * (found.asked > 0)
    return [on_one_line(line) for line in lines]


def shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 4] + " ..."
