"""Make the tiny drawing model: a Llama that reads an image and writes a program in the compact language.

It is trained on random drawings of a few statements, each once. Three things let it write programs several times as
long later:

- The statements are in one form and order (`canvas.normal_form`), so the next one follows from the last one and from
  the image, however much is drawn already.
- In half of the rows the positions jump at random between statements, so no distance is new in a longer program (a
  cheap form of arXiv 2305.16843). The shipped model is a plain Llama with plain rotary positions.
- In training, the embedding of "colour c begins at row y, column x" is a sum of three parts, for the row, the column
  and the colour, so what is learnt at one place holds at every place.

Run it as `python -m grpo_colab.tiny drawing --out my-model`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_colab.tasks.drawing.canvas import (
    COLOURS,
    Image,
    execute,
    normal_form,
    random_drawing,
    random_drawings,
    shape_of,
)
from grpo_colab.tasks.drawing.compact import from_compact, image_words, run_words, to_compact, vocabulary
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
MEASURED_SEED = -1  # the seed of the drawings that the model is measured on; those of its training have seed 0 or more


@dataclass(frozen=True)
class DrawingPretraining(Descent):
    """The settings of a training; the defaults make the shipped model. A batch has `rows` drawings."""

    steps: int = 5000
    rows: int = 64
    draws: int = 5
    min_side: int = 3
    max_side: int = 10
    jump_tokens: int = 80  # a jump of the positions is shorter than this
    hidden_size: int = 128
    intermediate_size: int = 352
    layers: int = 3
    heads: int = 4

    @property
    def ranges(self) -> tuple[range, range]:
        """Return how many statements a drawing may have, and how many rows or columns its canvas."""
        return range(1, self.draws + 1), range(self.min_side, self.max_side + 1)


def pretrain_drawing(
    settings: DrawingPretraining, taught: set[int], log: Callable[[str], None] = print
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[float]]:
    """Return the trained model (float32, in evaluation mode), its tokenizer, and the loss of every step.

    Losses are in nats per token. The hashes of the images in the training are added to `taught`, because a small random
    image may come again when the model is measured. `log` gets a line with the model's size, and one every 50 steps.
    The seed of torch is set to that of the settings.
    """
    import torch

    torch.manual_seed(settings.seed)
    tokenizer = make_tokenizer(settings.max_side)
    model = build_model(settings, tokenizer)
    log(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    parts = embedding_parts(settings, tokenizer)
    batches = make_batches(settings, tokenizer, taught)

    def next_loss() -> torch.Tensor:
        ids, labels, positions = next(batches)
        table = embedding_table(parts)
        # Without a mask, transformers would take a jump of the positions for the beginning of another row.
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
    """Return the tokenizer, in which each word of `compact.vocabulary` is a token.

    It splits at spaces, pads on the left, and has the model's chat template. `max_side` is the most rows or columns of
    an image.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *vocabulary(max_side)]
    word_level = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<|unknown|>"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_level,
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
    """Return an untrained Llama with the tokenizer's vocabulary.

    Its configuration names the language that it writes and the largest side of an image, for `Drawing.check_model`.
    """
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
    """Return the parameters that the embeddings are made of.

    The first one, [words, hidden], has a vector for each word that is no run. The embedding of a run is the sum of a
    vector for its row, [side, 1, 1, hidden], its column, [1, side, 1, hidden], and its colour, [1, 1, colours, hidden].
    """
    import torch

    side, hidden = settings.max_side, settings.hidden_size
    plain = len(tokenizer) - len(run_words(side))
    shapes = ((plain, hidden), (side, 1, 1, hidden), (1, side, 1, hidden), (1, 1, COLOURS, hidden))
    return [torch.nn.Parameter(0.02 * torch.randn(shape)) for shape in shapes]


def embedding_table(parts: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """Return the embedding of every token, [tokens, hidden]. The output layer is its transpose."""
    import torch

    plain, row, column, colour = parts
    return torch.cat([plain, (row + column + colour).flatten(0, 2)])


def make_batches(
    settings: DrawingPretraining, tokenizer: PreTrainedTokenizerFast, taught: set[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield batches without end: input ids, labels and positions, each of shape [rows, tokens], padded on the right.

    A batch has `settings.rows` rows of similar length, so that little of it is padding. The hashes of the images are
    added to `taught`. The same seed gives the same batches.
    """
    import torch

    rng = random.Random(f"batches/{settings.seed}")
    ids_of = tokenizer.get_vocab()
    while True:
        # Eight batches at a time are sorted by length.
        rows = [make_row(rng, settings, ids_of, taught) for _ in range(8 * settings.rows)]
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[first : first + settings.rows] for first in range(0, len(rows), settings.rows)]
        rng.shuffle(batches)
        for batch in batches:
            ids, labels, positions = zip(*batch, strict=True)
            yield (
                torch.tensor(_padded(ids, tokenizer.pad_token_id)),
                torch.tensor(_padded(labels, IGNORED)),
                torch.tensor(_padded(positions, 0)),
            )


def _padded(rows: Sequence[list[int]], fill: int) -> list[list[int]]:
    """Return the rows made equally long by appending `fill`."""
    length = max(map(len, rows))
    return [row + [fill] * (length - len(row)) for row in rows]


def make_row(
    rng: random.Random, settings: DrawingPretraining, ids_of: Mapping[str, int], taught: set[int]
) -> tuple[list[int], list[int], list[int]]:
    """Return a random drawing as token ids, labels and positions: the prompt, then the program.

    The three lists have the same length. Only the program is in the loss: the labels of the prompt are IGNORED. In half
    of the rows, the positions jump between statements. The hash of the image is added to `taught`.
    """
    image, program = random_drawing(rng, *settings.ranges)
    taught.add(hash(image))
    question = [ids_of[word] for word in QUESTION.format(image_words(image)).split()]
    texts = [to_compact((statement,)) for statement in normal_form(program, shape_of(image))]
    statements = [[ids_of[word] for word in text.split()] for text in [*texts, "<|end|>"]]
    positions = list(range(len(question)))
    position = len(question)
    # Half of the rows jump before the program, and then after 40 % of the statements.
    jumps = rng.random() < 0.5
    if jumps:
        position += rng.randrange(settings.jump_tokens)
    for statement in statements:
        positions += range(position, position + len(statement))
        position += len(statement)
        if jumps and rng.random() < 0.4:
            position += rng.randrange(settings.jump_tokens)
    answer = list(itertools.chain.from_iterable(statements))
    return question + answer, [IGNORED] * len(question) + answer, positions


def measure_drawing(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: DrawingPretraining,
    n: int,
    taught: Collection[int] = (),
) -> dict[str, float]:
    """Return the share of `n` random drawings that the model draws exactly, greedily and by one of 8 samples.

    Samples are at temperature 1. The keys are "random/greedy", "random/pass@8", "unseen/greedy" and "unseen/pass@8".
    "random/..." is measured on any random drawings, "unseen/..." on drawings whose hash is not in `taught`. Those are
    harder: small images come again by chance. Of 2 n drawings at most n unseen ones are used. Raises ZeroDivisionError
    where there is none.
    """
    images = [image for image, _ in itertools.islice(random_drawings(MEASURED_SEED, *settings.ranges), 2 * n)]
    unseen = [image for image in images if hash(image) not in taught][:n]
    solved = {image: _solves(model, tokenizer, image) for image in {*images[:n], *unseen}}
    shares = {}
    for name, measured_on in (("random", images[:n]), ("unseen", unseen)):
        results = [solved[image] for image in measured_on]
        shares[f"{name}/greedy"] = sum(greedy for greedy, _ in results) / len(results)
        shares[f"{name}/pass@8"] = sum(sampled for _, sampled in results) / len(results)
    return shares


def _solves(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, image: Image) -> tuple[bool, bool]:
    """Tell whether the model draws `image` greedily, and whether by one of 8 samples, in up to 64 tokens."""
    import torch

    prompt = torch.tensor([tokenizer.encode(QUESTION.format(image_words(image)))])  # [1, tokens]
    prompts = prompt.repeat(8, 1)
    with torch.inference_mode():
        greedy = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=64)
        samples = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0, max_new_tokens=64
        )
    solved = []
    for ids in (greedy, samples):
        texts = tokenizer.batch_decode(ids[:, prompt.shape[1] :], skip_special_tokens=True)
        solved.append(any(draws(text, image) for text in texts))
    return solved[0], solved[1]


def draws(text: str, image: Image) -> bool:
    """Tell whether `text` is a program in the compact language that draws `image` exactly; False for any other text."""
    try:
        return execute(from_compact(text), shape_of(image)) == image
    except ValueError:
        return False
