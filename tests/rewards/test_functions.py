"""The reward functions: what each pays for, and TRL's contract for all of them."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_colab import rewards
from grpo_colab.rewards import (
    REASONS,
    correctness_reward,
    exact_answer_reward,
    integer_reward,
    soft_correctness_reward,
    soft_format_reward,
    strict_format_reward,
    tag_count_reward,
)
from grpo_colab.rewards.grading import TAGS

ROOT = Path(__file__).parents[2]
GOLDEN_PAY = [  # a golden completion earns full marks from each of these, and nothing true costs more than 1.0
    correctness_reward, exact_answer_reward, soft_correctness_reward, integer_reward,
    strict_format_reward, soft_format_reward, tag_count_reward,
]  # fmt: skip
SETTINGS = {"get_cosine_scaled_reward": [40], "get_soft_overlong_punishment_reward": [40, 30]}
EVERY = [
    getattr(rewards, name)(*SETTINGS.get(name, [])) if name.startswith("get_") else getattr(rewards, name)
    for name in rewards.__all__
    if name.endswith("_reward") and name not in ("call_reward", "resolve_reward")
]
OF_THE_ANSWER = [correctness_reward, exact_answer_reward, soft_correctness_reward]
GOLDEN = "<reasoning>\nNine eggs.\nAt $2 each: 9 * 2 = 18.\n</reasoning>\n<answer>\n18\n</answer>\n"


def _call(function, completions, answer, **kwargs):
    """With a token a word, which some of the rewards need."""
    said = [item if isinstance(item, str) else str(item) for item in completions]
    return function(completions=completions, answer=answer, completion_ids=[t.split() for t in said], **kwargs)


def _pays(function, completion: str, gold: str = "18") -> float:
    return function(completions=[completion], answer=[gold])[0]


def reward_id(function) -> str:
    """The same in every process: a parametrised one's repr has its settings, a plain function's has an address."""
    return getattr(function, "__qualname__", None) or repr(function)


@pytest.mark.parametrize("function", GOLDEN_PAY)
@pytest.mark.parametrize("completion", [GOLDEN, GOLDEN.removesuffix("\n")])
def test_a_golden_completion_earns_full_marks(function, completion: str) -> None:
    assert _pays(function, completion) == 1.0


def test_all_are_here() -> None:
    assert len(EVERY) == len({repr(function) for function in EVERY}) == 25


@pytest.mark.parametrize("function", GOLDEN_PAY)
@pytest.mark.parametrize(
    "completion", ["", " \n", "eighteen", "\x00", "<answer", "</answer><answer>", "<answer></answer>" * 9]
)
def test_what_says_nothing_earns_nothing(function, completion: str) -> None:
    assert _pays(function, completion) <= (0.5 if function is tag_count_reward else 0.0)


@pytest.mark.parametrize(
    ("answer", "gold", "pays"),
    [
        ("18", "18", (1, 1, 1, 1)),
        (" 18 ", "18\n", (1, 1, 1, 1)),
        ("1,200", "1,200", (1, 1, 1, 1)),
        ("1200", "1,200", (1, 0, 1, 1)),
        ("$1,200.00", "1200", (1, 0, 1, 0)),
        ("96%", "96", (1, 0, 1, 0)),
        ("72 units", "72", (1, 0, 1, 0)),
        ("$27", "27", (1, 0, 1, 0)),
        ("18.0", "18", (1, 0, 1, 0)),
        ("-3", "-3", (1, 1, 1, 1)),
        ("\u22123", "-3", (1, 0, 1, 1)),
        ("+3", "3", (1, 0, 1, 1)),
        ("1/2", "1/2", (1, 1, 1, 0)),
        ("19", "18", (0, 0, 0, 1)),
        ("18 or 19", "18", (0, 0, 1, 0)),
        ("19 or 18", "18", (0, 0, 0, 0)),
        ("1,00", "100", (0, 0, 0, 0)),
        ("1,0", "1", (0, 0, 1, 0)),
        ("\u00b2", "2", (0, 0, 0, 0)),
        ("\u0661\u0668", "18", (1, 0, 1, 1)),
        ("eighteen", "18", (1, 0, 1, 0)),
        ("", "18", (0, 0, 0, 0)),
        ("-", "18", (0, 0, 0, 0)),
        ("9" * 5000, "18", (0, 0, 0, 0)),
    ],
)
def test_what_an_answer_pays(answer: str, gold: str, pays: tuple[float, ...]) -> None:
    """`pays`: correctness, exact answer, soft correctness, integer."""
    completion = f"<reasoning>18 or 19</reasoning><answer>{answer}</answer>"
    assert tuple(_pays(function, completion, gold) for function in [*OF_THE_ANSWER, integer_reward]) == pays


@pytest.mark.parametrize(
    ("completion", "pays"),
    [
        ("18", (0, 0, 1, 0)),
        ("It is $18, or 19.", (0, 0, 1, 0)),
        ("First 3, then 18", (0, 0, 0, 0)),
        ("<answer>18", (0, 0, 0, 0)),
        ("18</answer>", (0, 0, 0, 0)),
        ("<answer>17</answer><answer>18</answer>", (0, 0, 0, 0)),
        ("<answer>18</answer><answer>17</answer>", (0, 0, 0, 0)),
        ("<answer>18</answer><answer>", (0, 0, 0, 0)),
        ("18 <answer>none</answer>", (0, 0, 0, 0)),
    ],
)
def test_where_the_answer_stands(completion: str, pays: tuple[float, ...]) -> None:
    """`pays`: correctness, exact answer, soft correctness, integer."""
    assert tuple(_pays(function, completion) for function in [*OF_THE_ANSWER, integer_reward]) == pays


@pytest.mark.parametrize(
    ("completion", "strict", "soft"),
    [
        ("<reasoning>\na\nb\n\nc\n</reasoning>\n<answer>\n1\n2\n</answer>", 1, 1),
        ("<reasoning>\n a\n</reasoning>\n<answer>\n1\n</answer>\n\n", 0, 1),
        ("\n<reasoning>\na\n</reasoning>\n<answer>\n1\n</answer>", 0, 1),
        ("<reasoning>\na\n</reasoning>\n\n<answer>\n1\n</answer>", 0, 1),
        ("<reasoning>\na\n</reasoning>\n<answer>1</answer>", 0, 1),
        ("<reasoning>a</reasoning><answer>1</answer>", 0, 1),
        ("<reasoning>a</reasoning>\t <answer>1</answer> and more", 0, 1),
        ("<reasoning>\r\na\r\n</reasoning>\r\n<answer>\r\n1\r\n</answer>", 0, 1),
        ("<reasoning>\na\n</reasoning>\n<answer>\n1\n</answer>.", 0, 1),
        ("Sure! <reasoning>a</reasoning><answer>1</answer>", 0, 0),
        ("<reasoning>a</reasoning> so <answer>1</answer>", 0, 0),
        ("<answer>\n1\n</answer>\n<reasoning>\na\n</reasoning>", 0, 0),
        ("<reasoning>\na\n<answer>\n1\n</answer>\n</reasoning>", 0, 0),
        ("<reasoning>\n<reasoning>\na\n</reasoning>\n<answer>\n1\n</answer>", 0, 0),
        ("<reasoning>\na\n</reasoning>\n<answer>\n1\n</answer>\n</answer>", 0, 0),
        ("<reasoning>\na\n</reasoning>\n<answer>\n1\n</answer>\n" * 2, 0, 0),
        ("<reasoning>\n\n</reasoning>\n<answer>\n1\n</answer>", 0, 0),
        ("<reasoning>\na\n</reasoning>\n<answer>\n\n</answer>", 0, 0),
        ("<reasoning>\n</reasoning>\n<answer>\n</answer>", 0, 0),
        ("<reasoning>a\n</reasoning>\n<answer>\n1\n</answer>", 0, 1),
        ("<reasoning>\na</reasoning>\n<answer>\n1\n</answer>", 0, 1),
        ("<reasoning>\na\n</reasoning>\n<answer>\n1", 0, 0),
        ("<REASONING>\na\n</REASONING>\n<answer>\n1\n</answer>", 0, 0),
    ],
)
def test_formats(completion: str, strict: float, soft: float) -> None:
    assert (_pays(strict_format_reward, completion), _pays(soft_format_reward, completion)) == (strict, soft)


@pytest.mark.parametrize(
    ("completion", "pays"),
    [
        ("", 0.0),
        ("<reasoning>", 0.25),
        ("<reasoning></reasoning>", 0.5),
        ("<reasoning></reasoning><answer>", 0.75),
        ("<reasoning></reasoning><answer></answer>", 1.0),
        ("<reasoning></reasoning><answer></answer>\n", 1.0),
        ("<reasoning></reasoning><answer></answer>\n\n", 0.996),
        ("<reasoning></reasoning><answer></answer>" + "x" * 100, 0.6),
        ("<reasoning></reasoning><answer></answer>" + "x" * 5000, 0.0),
        ("<reasoning></reasoning><answer></answer>x</answer>", 0.71),
        ("<answer><answer>", 0.0),
        ("".join(TAGS) * 100, 0.0),
    ],
)
def test_tag_count(completion: str, pays: float) -> None:
    assert _pays(tag_count_reward, completion) == pytest.approx(pays)


@pytest.mark.parametrize("function", EVERY, ids=reward_id)
@pytest.mark.parametrize(
    "conversation",
    [
        [{"role": "assistant", "content": GOLDEN}],
        [
            {"role": "assistant", "content": "no"},
            {"role": "tool", "content": "9"},
            {"role": "assistant", "content": GOLDEN},
        ],
        [{"role": "assistant", "content": GOLDEN}, {"role": "user", "content": "Thanks"}],
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": GOLDEN[:20]},
                    {"type": "image"},
                    {"type": "text", "text": GOLDEN[20:]},
                ],
            }
        ],
        ({"role": "assistant", "content": GOLDEN},),
    ],
)
def test_conversations_pay_what_their_text_pays(function, conversation) -> None:
    ids = [[1, 2, 3]] * 2
    said, text = (function(completions=[c] * 2, answer=["18"] * 2, completion_ids=ids) for c in (conversation, GOLDEN))
    assert said == text
    assert function not in GOLDEN_PAY or said == [1.0, 1.0]


def test_a_message_that_only_calls_a_tool_says_nothing() -> None:
    assert correctness_reward([[{"role": "assistant", "content": None}]], ["18"]) == [0.0]


@pytest.mark.parametrize("function", OF_THE_ANSWER)
def test_no_gold_no_judgement(function) -> None:
    assert function(completions=[GOLDEN, "", GOLDEN], answer=["18", None, None]) == [1.0, None, None]


@pytest.mark.parametrize("function", EVERY, ids=reward_id)
def test_what_trl_passes_beside_and_unknown_columns_change_nothing(function) -> None:
    completions = [[{"role": "assistant", "content": text}] for text in (GOLDEN, "no", GOLDEN)]
    bare = _call(function, completions, ["18", "18", "19"])
    beside = {"prompts": ["a"] * 3, "trainer_state": object(), "log_extra": print, "log_metric": lambda *_: None}
    columns = {"gold": [1] * 3, "x": None, "max_len": [1] * 3, "reasoning_tag": ["a"] * 3, "steps": [1] * 3}
    called = _call(function, completions, ["18", "18", "19"], **beside, **columns)
    assert called == bare
    assert all(type(reward) is float for reward in called)


@pytest.mark.parametrize("function", EVERY, ids=reward_id)
def test_picklable_and_empty_batches(function) -> None:
    again = pickle.loads(pickle.dumps(function))
    assert again is function or (again.__name__ == function.__name__ and repr(again) == repr(function))
    assert _call(again, [GOLDEN, "no"], ["18", "18"]) == _call(function, [GOLDEN, "no"], ["18", "18"])
    assert function(completions=[], answer=[]) == []


@pytest.mark.parametrize("function", EVERY, ids=reward_id)
def test_threads_agree_and_order_does_not_matter(function) -> None:
    texts = [GOLDEN, "no", "<answer>18</answer>", "<answer>$1,800</answer>x", "18", "".join(TAGS)] * 20
    golds = [str(18 + index % 3) for index in range(len(texts))]
    expected = _call(function, texts, golds)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: _call(function, texts, golds), range(32)):
            assert got == expected
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = _call(function, [texts[i] for i in order], [golds[i] for i in order])
    assert shuffled == [expected[i] for i in order]


@given(completions=st.lists(st.text() | st.lists(st.sampled_from([*TAGS, "\n", "18", "x"]), max_size=12).map("".join)))
@settings(deadline=None)
def test_every_reward_lies_between_its_bounds(completions: list[str]) -> None:
    for function in EVERY:
        paid = _call(function, completions, ["18"] * len(completions))
        assert len(paid) == len(completions)
        lowest = 0.0 if function in GOLDEN_PAY or "format" in function.__name__ else -1.0
        assert all(lowest <= reward <= 1.0 for reward in paid)


@given(st.lists(st.sampled_from([*TAGS, "\n", " ", "18"]), max_size=12).map("".join))
@settings(deadline=None)
def test_what_is_strict_is_also_soft(completion: str) -> None:
    assert _pays(soft_format_reward, completion) >= _pays(strict_format_reward, completion)


def test_the_shares_of_verdicts_are_logged() -> None:
    logged: dict[str, float] = {}
    texts = [GOLDEN, GOLDEN, "<answer>19</answer>", "18", GOLDEN]
    correctness_reward(texts, ["18"] * 4 + [None], log_metric=logged.__setitem__)
    assert logged == {f"verdict/{reason}": 0.0 for reason in REASONS} | {
        "verdict/right": 0.5,
        "verdict/wrong": 0.25,
        "verdict/no_tag": 0.25,
    }
    logged.clear()
    correctness_reward(texts, [None] * 5, log_metric=logged.__setitem__)
    assert logged == {}


@pytest.mark.parametrize("function", OF_THE_ANSWER)
def test_broken_columns_raise(function) -> None:
    name = function.__name__
    with pytest.raises(ValueError, match=f"{name}: 1 answer for 2 completions"):
        function(completions=["a", "b"], answer=["18"])
    for gold in ([18], True, {"value": 18}, b"18"):
        with pytest.raises(TypeError, match=f"{name}: a gold answer is a string, a number or None, got "):
            function(completions=["a"], answer=[gold])
    with pytest.raises(TypeError, match=f"{name}: answer must be a list .* got str"):
        function(completions=["a", "b"], answer="18")


@pytest.mark.parametrize("function", EVERY, ids=reward_id)
@pytest.mark.parametrize(
    ("completions", "words"),
    [
        ("text", "completions must be a list .* got str"),
        (b"text", "got bytes"),
        (None, "got NoneType"),
        ({"a": 1}, "got dict"),
        ([None], "got None"),
        ([18], "got 18"),
        ([["text"]], r"got \['text'\]"),
        ([[]], "no message of the role 'assistant'"),
        ([[{"role": "user", "content": "18"}]], "no message of the role 'assistant'"),
        ([[{"role": "assistant", "content": 18}]], "content is a string or a list of parts, got 18"),
        ([[{"role": "assistant", "content": ["18"]}]], "content is a string or a list of parts"),
        ([[{"role": "assistant", "content": [{"type": "text"}]}]], "content is a string or a list of parts"),
    ],
)
def test_broken_completions_raise_and_name_the_function(function, completions, words: str) -> None:
    with pytest.raises(TypeError, match=words) as error:
        function(completions=completions, answer=["18"])
    assert function.__name__ in str(error.value)


MEGABYTES = ["<reasoning>", "<reasoning>\n</reasoning>", "<answer>", "</answer>", " ", "\n", "x", "18 "]


@pytest.mark.parametrize("function", EVERY, ids=reward_id)
@pytest.mark.parametrize("unit", MEGABYTES)
def test_time_is_linear_at_megabytes(function, unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        texts = [text, f"<reasoning>{text}</reasoning>{text}<answer>{text}</answer>"]
        return min(_timed(function, texts) for _ in range(3))

    # what is linear takes four times as long; on a busy machine a look may catch others' work, and is repeated
    assert any(seconds(1_000_000) < 16 * max(seconds(250_000), 1e-3) for _ in range(5))


def _timed(function, texts: list[str]) -> float:
    start = time.process_time()
    _call(function, texts, ["18"] * len(texts))
    return time.process_time() - start


def test_importing_the_rewards_brings_nothing_heavy() -> None:
    code = "import sys, grpo_colab.rewards; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"torch", "numpy", "datasets", "transformers", "trl", "sympy", "pandas"})
    assert "grpo_colab" in loaded


@pytest.mark.parametrize("gold", ["", "  ", "3 + 4\n####"])
def test_an_empty_gold_pays_nothing_for_an_empty_answer(gold: str) -> None:
    assert rewards.exact_answer_reward(["<answer></answer>", "<answer>7</answer>"], [gold, "7"]) == [None, 1.0]
