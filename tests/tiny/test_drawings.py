"""The tiny drawing model: what it reads, that it learns, and that what is shipped can do what its card says."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.tasks.drawing.canvas import execute, normal_form, random_drawing, shape_of
from grpo_colab.tasks.drawing.compact import from_compact, image_words, vocabulary
from grpo_colab.tiny.drawings import DrawingPretraining, make_row

DRAWING = TINY_MODEL.with_name("drawing")


def test_it_is_small_and_says_what_it_can_be_asked_for() -> None:
    assert sum(path.stat().st_size for path in DRAWING.iterdir()) < 4_000_000
    assert json.loads((DRAWING / "config.json").read_text())["drawing"] == {"language": "compact", "max_side": 10}
    card = (DRAWING / "README.md").read_text()
    steps = re.search(r"--seed 0 --steps (\d+)", card)
    assert steps and int(steps[1]) == DrawingPretraining.steps, "the card is of another recipe than the code's"


def test_its_words_are_the_languages() -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(DRAWING)
    words = vocabulary(10)
    assert len(set(words)) == len(words)
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer)))[-len(words) :] == words
    text = "S c3 y0 x2 n2 V c5 x7"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": image_words(((1, 1), (0, 2)))}], add_generation_prompt=True, return_dict=False
    )
    assert tokenizer.decode(prompt) == "<|begin|> rows2 columns2 y0x0:1 y1x0:0 y1x1:2 <|draw|>"
    assert tokenizer.unk_token_id not in prompt


def test_a_row_is_the_question_and_its_program_in_the_normal_form() -> None:
    settings = DrawingPretraining()
    words = ["<|begin|>", "<|draw|>", "<|end|>", *vocabulary(settings.max_side)]
    ids_of = {word: index for index, word in enumerate(words)}
    jumped, known = 0, set()
    for seed in range(60):
        image, program = random_drawing(random.Random(seed), *settings.ranges)
        ids, labels, positions = make_row(random.Random(seed), settings, ids_of, known)
        said = [words[label] for label in labels if label >= 0]
        assert said[-1] == "<|end|>"
        assert from_compact(" ".join(said[:-1])) == normal_form(program, shape_of(image))
        assert execute(from_compact(" ".join(said[:-1])), shape_of(image)) == image
        asked_for = [words[index] for index, label in zip(ids, labels, strict=True) if label < 0]
        assert asked_for == ["<|begin|>", *image_words(image).split(), "<|draw|>"]
        assert positions[: len(asked_for)] == list(range(len(asked_for)))
        gaps = [later - earlier for earlier, later in itertools.pairwise(positions)]
        assert min(gaps) == 1
        jumped += max(gaps) > 1
    assert 15 < jumped < 45  # half of the rows
    assert {hash(random_drawing(random.Random(seed), *settings.ranges)[0]) for seed in range(60)} == known


def test_the_shipped_model_draws_what_it_was_taught_to() -> None:
    """At least the reference's 0.50 and 0.66 on 1 to 5 objects; 0.652 and 0.699 were measured on 256."""
    import torch
    import transformers

    from grpo_colab.tiny.drawings import measure_drawing

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(DRAWING, dtype=torch.float32).eval()
    measured = measure_drawing(model, transformers.AutoTokenizer.from_pretrained(DRAWING), DrawingPretraining(), n=64)
    assert measured["random/greedy"] >= 0.50
    assert measured["random/pass@8"] >= 0.62  # 64 drawings tell it within 6 points
    assert measured["unseen/greedy"] == measured["random/greedy"]  # nothing is known here


@pytest.mark.long
def test_it_is_made_by_one_command(tmp_path: Path) -> None:
    import transformers

    done = subprocess.run(
        [sys.executable, "-m", "grpo_colab.tiny", "drawing", "--steps", "12", "--threads", "1", "--measure", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loss/last"] < 0.75 * found["loss/first"]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "drawing")
    # rows, columns and colours are one sum each: the same difference between two rows, whatever the column and colour
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "drawing").get_vocab()
    table = model.get_input_embeddings().weight.float()
    apart = [table[words[f"y3x{x}:{c}"]] - table[words[f"y8x{x}:{c}"]] for x, c in ((0, 0), (7, 2))]
    assert (apart[0] - apart[1]).abs().max() < 2e-3  # float16
    assert apart[0].abs().max() > 1e-2
    assert "--steps 12" in (tmp_path / "drawing" / "README.md").read_text()


@pytest.mark.parametrize("model", ["word-problems", "drawings"])
def test_an_unknown_model_is_refused(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpo_colab.tiny", model, "--steps", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ("invalid int value" if model == "word-problems" else "invalid choice") in done.stderr
