"""Makes the tiny drawing model: a Llama that reads an image and writes a program in the compact language.

It reads random drawings of a few statements, each once. Three things let it go on where its training ended, at programs
several times as long. The statements stand in one form and order (`canvas.normal`), so that what comes next follows
from what came last and from the image, however much is drawn already. In half of the rows the positions jump at random
from one statement to the next, so that no distance is new later (a cheap kind of arXiv 2305.16843); the shipped model
is a plain Llama with plain rotary positions. And the embedding of "colour c from row y, column x on" is the sum of
three parts while it is learnt, so that what is learnt of one place holds for all.

Run it as `python -m grpo_colab.tiny drawing --out my-model`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_colab.tasks.drawing.canvas import COLOURS, Image, execute, normal, random_drawing, random_drawings, shape_of
from grpo_colab.tasks.drawing.compact import asked, from_compact, run_words, to_compact, vocabulary
from grpo_colab.tiny.descent import IGNORED, Descent, descend

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<|pad|>", "<|begin|>", "<|draw|>", "<|end|>", "<|unknown|>")
QUESTION = "<|begin|> {} <|draw|>"
CONTEXT_TOKENS = 1024
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'] }}"
    "{{ eos_token }}{% elif message['role'] == 'user' %} {{ message['content'] }} <|draw|>{% endif %}{% endfor %}"
)
MEASURED_SEED = -1  # of the drawings that it is measured on; those it learns from have the settings' seed, 0 or more


@dataclass(frozen=True)
class DrawingPretraining(Descent):
    """The settings of one pre-training run; the defaults make the shipped model."""

    steps: int = 5000
    rows: int = 64
    draws: int = 5
    min_side: int = 3
    max_side: int = 10
    jump_tokens: int = 80  # the longest jump of the positions
    hidden_size: int = 128
    intermediate_size: int = 352
    layers: int = 3
    heads: int = 4

    @property
    def ranges(self) -> tuple[range, range]:
        """Statements a drawing, and rows or columns of its canvas."""
        return range(1, self.draws + 1), range(self.min_side, self.max_side + 1)


def pretrain_drawing(
    settings: DrawingPretraining, known: set[int], log: Callable[[str], None] = print
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[float]]:
    """The trained model (float32, in evaluation mode), its tokenizer, and the loss of every step (nats a token).

    `known` grows by the hashes of the images that it was taught: the small ones among them come again by chance.
    """
    import torch

    torch.manual_seed(settings.seed)
    tokenizer = make_tokenizer(settings.max_side)
    model = build_model(settings, tokenizer)
    log(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    parts = embedding_parts(settings, tokenizer)
    batches = make_batches(settings, tokenizer, known)

    def next_loss() -> torch.Tensor:
        ids, labels, positions = next(batches)
        table = embedding_table(parts)
        # with a mask, or transformers would take a jump of the positions for the beginning of another row
        hidden = model.model(
            inputs_embeds=table[ids], attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False
        ).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        in_loss = targets != IGNORED
        return torch.nn.functional.cross_entropy(hidden[in_loss] @ table.T, targets[in_loss])

    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    norms = [p for name, p in model.named_parameters() if p.ndim != 2]
    losses = descend(settings, next_loss, matrices, [*norms, *parts], log)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embedding_table(parts))
    return model.eval(), tokenizer, losses


def make_tokenizer(max_side: int) -> PreTrainedTokenizerFast:
    """A word is a token; see `compact.vocabulary`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *vocabulary(max_side)]
    whole = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<|unknown|>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=whole,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        extra_special_tokens=["<|draw|>"],
        padding_side="left",
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_model(settings: DrawingPretraining, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama that fits the tokenizer; its configuration says what it can be asked for."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        drawing={"language": "compact", "max_side": settings.max_side},
        **tokens,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(max_new_tokens=200, **tokens)
    return model


def embedding_parts(settings: DrawingPretraining, tokenizer: PreTrainedTokenizerFast) -> list[torch.nn.Parameter]:
    """Of the words that are no runs, [words, hidden]; then of a run's row, column and colour, to be broadcast."""
    import torch

    side, hidden = settings.max_side, settings.hidden_size
    plain = len(tokenizer) - len(run_words(side))
    shapes = ((plain, hidden), (side, 1, 1, hidden), (1, side, 1, hidden), (1, 1, COLOURS, hidden))
    return [torch.nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes]


def embedding_table(parts: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """The embedding of every token, [tokens, hidden], of which the output layer is the transpose."""
    import torch

    plain, row, column, colour = parts
    return torch.cat([plain, (row + column + colour).flatten(0, 2)])


def make_batches(
    settings: DrawingPretraining, tokenizer: PreTrainedTokenizerFast, known: set[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless (input ids, labels, positions), each [rows, tokens], padded on the right; of like length together."""
    import torch

    rng, ids_of = random.Random(f"batches/{settings.seed}"), tokenizer.get_vocab()
    while True:
        rows = [make_row(rng, settings, ids_of, known) for _ in range(8 * settings.rows)]
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[first : first + settings.rows] for first in range(0, len(rows), settings.rows)]
        rng.shuffle(batches)
        for batch in batches:
            length = max(len(ids) for ids, _, _ in batch)
            yield tuple(  # type: ignore[misc]  # three
                torch.tensor([row[part] + [fill] * (length - len(row[part])) for row in batch])
                for part, fill in ((0, tokenizer.pad_token_id), (1, IGNORED), (2, 0))
            )


def make_row(
    rng: random.Random, settings: DrawingPretraining, ids_of: Mapping[str, int], known: set[int]
) -> tuple[list[int], list[int], list[int]]:
    """One drawing as (ids, labels, positions): the question, then the program in its order."""
    image, program = random_drawing(rng, *settings.ranges)
    known.add(hash(image))
    question = [ids_of[word] for word in QUESTION.format(asked(image)).split()]
    texts = [*(to_compact((statement,)) for statement in normal(program, shape_of(image))), "<|end|>"]
    statements = [[ids_of[word] for word in text.split()] for text in texts]
    positions = list(range(len(question)))
    jumps = rng.random() < 0.5
    place = len(question) + (rng.randrange(settings.jump_tokens) if jumps else 0)
    for statement in statements:
        positions += range(place, place + len(statement))
        place += len(statement) + (rng.randrange(settings.jump_tokens) if jumps and rng.random() < 0.4 else 0)
    answer = list(itertools.chain.from_iterable(statements))
    return question + answer, [IGNORED] * len(question) + answer, positions


def measure_drawing(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: DrawingPretraining,
    n: int,
    known: Collection[int] = (),
) -> dict[str, float]:
    """Share of `n` random drawings that is drawn exactly: greedily, and by one of 8 samples at temperature 1.

    "random/..." are as they come, "unseen/..." without those whose hash is in `known`, which are the harder ones.
    """
    images = [image for image, _ in itertools.islice(random_drawings(MEASURED_SEED, *settings.ranges), 2 * n)]
    unseen = [image for image in images if hash(image) not in known][:n]
    right = {image: _draws(model, tokenizer, image) for image in {*images[:n], *unseen}}
    return {
        f"{name}/{how}": sum(right[image][place] for image in asked_for) / len(asked_for)
        for name, asked_for in (("random", images[:n]), ("unseen", unseen))
        for place, how in enumerate(("greedy", "pass@8"))
    }


def _draws(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, image: Image) -> tuple[bool, bool]:
    """Whether it is drawn greedily, and whether by one of 8 samples."""
    import torch

    ids = torch.tensor([tokenizer.encode(QUESTION.format(asked(image)))])
    with torch.inference_mode():
        first = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64)
        ids = ids.repeat(8, 1)
        samples = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=64)
    tails = [rows[:, ids.shape[1] :] for rows in (first, samples)]
    greedy, sampled = (
        [draws(text, image) for text in tokenizer.batch_decode(tail, skip_special_tokens=True)] for tail in tails
    )
    return greedy[0], any(sampled)


def draws(text: str, image: Image) -> bool:
    try:
        return execute(from_compact(text), shape_of(image)) == image
    except ValueError:
        return False
