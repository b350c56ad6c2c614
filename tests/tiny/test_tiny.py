"""The shipped model is what its card says, and `python -m grpo_colab.tiny` makes one like it."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.tasks.word_problems import WordProblems, make_problem, split_of
from grpo_colab.tiny.corpus import STYLE_SHARES, answered_problems, completion, equations, one_line
from grpo_colab.tiny.tokenizer import SPECIAL, TAGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer():
    import transformers  # not above: where tests of the whole stack run too, unsloth is imported first

    return transformers.AutoTokenizer.from_pretrained(TINY_MODEL)


@pytest.fixture(scope="module")
def model():
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(TINY_MODEL, dtype=torch.float32).eval()


# The tokenizer


def round_trip(tokenizer, text):
    return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces\t\ttabs\r\n\r\nlines \n",
        "$1,234.50 = 100% ≠ ½",
        "naïve café, Straße, 日本語, עברית, 👩‍👩‍👧‍👦🏳️‍🌈",
        "<reasoning>\n1 + 1 = 2\n</reasoning>\n<answer>\n2\n</answer>\n",
        "<answer> <answers> < answer></reasoning >",
        "\x00\x7f\u200b\ufeff\u2028",
    ],
)
def test_any_text_survives(tokenizer, text):
    assert round_trip(tokenizer, text) == text


def test_random_unicode_survives(tokenizer):
    rng = random.Random(0)
    planes = [(0x20, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    for _ in range(1500):
        text = "".join(chr(rng.randint(*rng.choice(planes))) for _ in range(rng.randint(1, 30)))
        assert round_trip(tokenizer, text) == text


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8k_survives_and_fits(tokenizer, gsm8k, split):
    rows = [json.loads(line) for line in (gsm8k / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [row[column] for row in rows for column in ("question", "answer")]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == texts
    assert max(map(len, ids)) < 1024


def test_digits_and_tags_are_one_token_each(tokenizer):
    assert "|".join(tokenizer.tokenize("2026 +1998")).replace("Ġ", "") == "2|0|2|6|+|1|9|9|8"
    for tag in TAGS:
        assert len(tokenizer.encode(f"{tag}", add_special_tokens=False)) == 1
        assert tokenizer.convert_tokens_to_ids(tag) not in tokenizer.all_special_ids
    assert tokenizer.pad_token != tokenizer.eos_token == "<|eot_id|>"
    assert all(len(tokenizer.encode(token, add_special_tokens=False)) == 1 for token in SPECIAL)


def test_chat_template_is_that_of_llama_3(tokenizer):
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": " Q "}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    # Tokenising in one go and in TRL's two (prompt, then completion) must agree.
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == tokenizer.encode(text, add_special_tokens=False)
    both = tokenizer.encode(text + "<reasoning>\n1", add_special_tokens=False)
    assert both == ids + tokenizer.encode("<reasoning>\n1", add_special_tokens=False)


# The corpus


def test_the_corpus_is_train_only_and_mixed_as_told():
    pairs = [pair for pair, _ in zip(answered_problems(seed=0), range(3000), strict=False)]
    assert all(split_of(problem.question) == "train" for problem, _ in pairs)
    for style, share in STYLE_SHARES.items():
        ambiguous = sum(len(problem.steps) > 1 for problem, _ in pairs)  # styles coincide on one step
        drawn = sum(text == completion(problem, style) for problem, text in pairs if len(problem.steps) > 1)
        assert abs(drawn / ambiguous - share) < 0.04
    assert sum(STYLE_SHARES.values()) == pytest.approx(1)


def test_every_style_tells_the_truth():
    for problem, text in (pair for pair, _ in zip(answered_problems(seed=3), range(500), strict=False)):
        assert re.findall(r"\d+", text)[-1] == problem.answer
        expression, result = one_line(problem.steps).split(" = ")
        assert eval(expression) == int(result) == int(problem.answer)  # noqa: S307 - our own digits
    for equation in (fact for fact, _ in zip(equations(seed=3), range(2000), strict=False)):
        expression, result = equation.split(" = ")
        assert eval(expression) == int(result)  # noqa: S307 - our own digits


# The shipped model


def test_the_weights_are_small(model):
    import torch

    assert sum(path.stat().st_size for path in TINY_MODEL.glob("*.safetensors")) <= 2_000_000
    assert model.config.max_position_embeddings >= 2048
    assert model.dtype == torch.float32


@pytest.mark.long
def test_it_starts_low_and_can_reach_high(model, tokenizer):
    import torch

    from grpo_colab.tiny.measure import measure

    torch.manual_seed(0)
    numbers = measure(model, tokenizer, WordProblems().problems("test", 256))
    assert 0.25 <= numbers["accuracy/greedy"] <= 0.45, numbers
    assert numbers["accuracy/steps_greedy"] >= 0.97, numbers
    assert numbers["accuracy/steps_sampled"] >= 0.95, numbers
    assert numbers["format/strict"] >= 0.5, numbers
    assert numbers["accuracy/sampled"] >= 0.25, "GRPO needs samples that are right to start from"


def test_padding_on_the_left_changes_nothing(model, tokenizer):
    from grpo_colab.tiny.measure import complete

    problems = [make_problem("test", 1, index) for index in range(12)]
    assert complete(model, tokenizer, problems) == complete(model, tokenizer, problems, batch_size=1)


def test_importing_the_package_part_loads_nothing_heavy():
    code = "import sys, grpo_colab.tiny, grpo_colab.tasks.word_problems; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


# Making one


@pytest.mark.long
def test_the_command_makes_a_model_that_learns_and_loads(tmp_path):
    import torch
    import transformers

    command = [sys.executable, "-m", "grpo_colab.tiny", "--out", str(tmp_path), "--steps", "6", "--measure", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    numbers = json.loads(done.stdout.splitlines()[-1])
    assert numbers["loss/last"] < numbers["loss/first"] - 1
    made = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert all(parameter.isfinite().all() for parameter in made.parameters())
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).encode("7<answer>") is not None
    card = (tmp_path / "README.md").read_text()
    assert "apache-2.0" in card
    assert "--steps 6" in card
