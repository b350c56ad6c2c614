"""Answers in LaTeX: what is right, what must not pay, where the answer is, and what the settings change."""

from __future__ import annotations

import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from refusals import refused

pytest.importorskip("math_verify", reason="needs grpo_colab[math]")

from grpo_colab.errors import SettingError
from grpo_colab.rewards import REASONS, correctness_reward, latex, latex_process
from grpo_colab.rewards.latex import get_math_reward, math_reasons, math_reward, read_math_gold

ROOT = Path(__file__).parents[2]
BOMB = "10^{10^{10}}"


def _pays(answer: str, gold: str) -> float | None:
    return math_reward([f"<answer>{answer}</answer>"], [gold])[0]


def _reason(completion: str, gold: str) -> str:
    logged: dict[str, float] = {}
    math_reward([completion], [gold], log_metric=logged.__setitem__)
    return next(name.removeprefix("verdict/") for name, share in logged.items() if share == 1.0)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
        (r"\dfrac12", "0.5"),
        (r"$\frac{36}{2}$", "18"),
        (r"\sqrt{4}", "2"),
        ("2", r"\sqrt{4}"),
        (r"3\sqrt{13}", r"\sqrt{117}"),
        (r"x^2+2x+1", r"(x+1)^2"),
        (r"\sin^2 x + \cos^2 x", "1"),
        (r"y = 2x+1", "2x+1"),
        (r"x \le 3", r"3 \ge x"),
        (r"[0, 1)", r"\left[0,1\right)"),
        (r"(-\infty, 3]", r"(-\infty,3]"),
        (r"\{2, 1\}", r"\{1,2\}"),
        ("1 or 2", r"\{1,2\}"),
        (r"x=1\text{ or }x=2", "1,2"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ \frac42 \end{pmatrix}"),
        (r"2\pi", r"\pi+\pi"),
        (r"2π", r"2\pi"),
        (r"\sqrt2\text{ cm}", r"\sqrt{2}"),
        (r"\sqrt{2}", r"\sqrt{2}\text{ cm}^2"),
        (r"\text{even}", "even"),
        (r"\text{June 20}", r"\text{June 20}"),
        (r"101_2", r"101_{2}"),
        ("2t", "2t"),
        (r"\frac{t}{2}", r"\frac{1}{2}t"),
        (r"The answer is $\sqrt{2}$.", r"\sqrt2"),
        (r"\boxed{\sqrt{2}}", r"$\sqrt2$"),
        (r"\[ x = \boxed{\frac{\pi}{4}} \]", r"\pi/4"),
        ("\n\\sqrt{2}\n", r"\sqrt2"),
        (r"10^{-7}", "0.0000001"),
        ("$1,000.00", "1000"),
        # brackets around one value change nothing, and one value stated twice is one
        (r"\{4\}", "4"),
        (r"[4]", "4"),
        (r"(\sqrt{2})", r"\sqrt{2}"),
        (r"\boxed{4}\boxed{4}", "4"),
        (r"$\sqrt{2}$ cm", r"\sqrt{2}"),
        (r"**$\sqrt{2}$**", r"\sqrt{2}"),
        (r"10 \text{ pm}", "10"),
        # one letter right behind a digit of the gold is a factor
        ("18 g", "18g"),
        (r"18\text{ g}", "18g"),
        (r"t \cdot 2", "2t"),
        # several values, in any order
        (r"$2$ and $1$", "1,2"),
        (r"x=1, x=2", "x = 1 \\text{ or } x=2"),
        (r"1+\sqrt3, 1-\sqrt3", r"1\pm\sqrt3"),
        (r"x = \pm\sqrt{3}", r"\pm\sqrt3"),
        (r"x=1\quad y=2", "y=2, x=1"),
        # sets and inequalities
        (r"x<-1 \text{ or } x>4", r"(-\infty,-1)\cup(4,\infty)"),
        (r"x \in [1,3]", r"1 \le x \le 3"),
        (r"(2,\infty)", r"\{x \mid x>2\}"),
        (r"\text{all real numbers}", r"\mathbb{R}"),
        ("(1,2)", r"\langle 1,2\rangle"),
        ("6:10", "3:5"),
        (r"x≡10 (mod 7)", r"x \equiv 3 \pmod{7}"),
        # exact values, also where math-verify's own rounding would do
        (r"\sqrt{5+2\sqrt{6}}", r"\sqrt2+\sqrt3"),
        (r"(1+i)^2", "2i"),
        (r"1.5x^2", r"\frac{3}{2}x^2"),
        (r"\frac{1}{2}x^2 + c", r"\frac{x^2}{2}+C"),
        (r"\frac16", r"0.1\overline{6}"),
        ("9/2", "4 1/2"),
    ],
)
def test_right(answer: str, gold: str) -> None:
    assert _pays(answer, gold) == 1.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sqrt{3}", r"\sqrt{2}"),
        ("2", "2t"),
        ("0.5", r"\frac{1}{2}t"),
        (r"\frac{1}{3}", "0.333333"),
        ("0.707107", r"\frac{\sqrt{2}}{2}"),
        (r"x^2+2x", r"(x+1)^2"),
        ("x", "y"),
        ("(0,1)", "[0,1)"),
        (r"\{1,2,3\}", r"\{1,2\}"),
        ("1,2,3,4,5", r"\{1,2\}"),
        (r"\sqrt{2}t", r"\sqrt{2}"),
        (r"\sqrt{2}", r"\sqrt{2}t"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
        # guesses: of a number ...
        ("4 or 5", "4"),
        ("4, 5", "5"),
        ("4, 4", "4"),
        (r"\{4,4\}", "4"),
        (r"[4,4]", "4"),
        (r"\pm 4", "4"),
        (r"x=4,x=5", "5"),
        (r"x\in\{4,5\}", "4"),
        (r"4\text{ or }5", "4"),
        (r"4\text{ or }\frac{10}{2}", "4"),
        (r"4\text{, }\frac{10}{2}", "4"),
        (r"4\text{, 5}", "4"),
        (r"4\mathrm{, 5}", "4"),
        (r"4\text{ (or five)}", "4"),
        (r"4\text{ or more}", "4"),
        (r"4_{5}", "4"),
        (r"4\approx 5", "4"),
        (r"x\approx 4", "4"),
        (r"4\ne 5", "4"),
        (r"4 \quad 5", "4"),
        (r"4 \lor 5", "4"),
        (r"4\text{ thousand}", "4"),
        (r"\frac{8}{2}\text{ dozen}", "4"),
        (r"\text{not }4", "4"),
        (r"\neq 4", "4"),
        ("$4$ or $5$", "4"),
        (r"\boxed{4} or \boxed{5}", "4"),
        (r"\{4\}\cup\{4\}", "4"),
        (r"\le 4", "4"),
        ("7/30", "7:30"),
        # ... and of a formula
        (r"\le \sqrt{2}", r"\sqrt{2}"),
        (r"\sqrt{2}_3", r"\sqrt{2}"),
        (r"\sqrt{3} = \sqrt{2}", r"\sqrt{2}"),
        (r"\boxed{\sqrt2}, \boxed{\sqrt3}", r"\sqrt{2}"),
        (r"x \in \{\sqrt2, \sqrt3\}", r"\sqrt{2}"),
        (r"\sqrt{2} or \sqrt{3}", r"\sqrt{2}"),
        (r"\sqrt{2}, \sqrt{3}", r"\sqrt{3}"),
        (r"$\sqrt{2}$ or $\sqrt{3}$", r"\sqrt{2}"),
        (r"$\sqrt{2}$ and $\sqrt{3}$", r"\sqrt{3}"),
        (r"not $\sqrt{2}$", r"\sqrt{2}"),
        (r"about \boxed{\sqrt{2}}", r"\sqrt{2}"),
        (r"3$\sqrt{2}$", r"\sqrt{2}"),
        (r"-$\sqrt{2}$", r"\sqrt{2}"),
        (r"\sqrt{2}\text{, }\sqrt{3}", r"\sqrt{2}"),
        (r"\sqrt{2}\text{ thousand}", r"\sqrt{2}"),
        # a question is no answer
        (r"\int_0^1 x^2\,dx", r"\frac{1}{3}"),
        (r"\lim_{x\to 0}\frac{\sin x}{x}", "1"),
        (r"\frac{d}{dx} x^2", "2x"),
        ("3x+6 \\le 0", r"x \le -2"),
        ("{" * 499 + "2" + "}" * 499, r"\sqrt{4}"),
        # what math-verify reads too kindly
        ("e^{-101}", "e^{-100}"),
        ("0", r"\pi(R^2-r^2)"),
        ("101_3", "101_2"),
        ("5 6", "11"),
        (r"1 \ldots 5", "6"),
        ("1:6", "1:2:3"),
        (r"\gcd(3,4)", "1"),
        (r"\infty + 1", r"\infty"),
        (r"4\text{ ft }3\text{ in}", r"3\text{ ft }4\text{ in}"),
        ("y=2y", "y'=2y"),
        (r"f(x)=\frac{2}{x-1}", r"f^{-1}(x)=\frac{x-1}{2}"),
        (r"p \lor q", r"p \land q"),
        (r"x < 1", r"y < 1"),
        # a part of the answer, or more than it, or another order
        ("18", "18g"),
        ("18 kg", "18g"),
        ("18t", "18"),
        ("1", "1,2"),
        ("(1,2)", "1,2"),
        (r"\{1,2\}", "(1,2)"),
        ("(2,1)", "(1,2)"),
        ("[1,2]", "(1,2)"),
        ("x=2, y=1", "x=1, y=2"),
        ("1, 2", "x=1, y=2"),
        ("x", r"\{x \mid x>2\}"),
        (r"\frac{x^3}{3}", r"\frac{x^3}{3}+C"),
        ("(B)", r"\text{(A)}"),
        (r"x \equiv 3 \pmod 5", r"x \equiv 3 \pmod 7"),
        ("3", r"x \equiv 3 \pmod 7"),
        # no formula
        ("", r"\sqrt{2}"),
        ("$", r"\sqrt{2}"),
        (r"\boxed{}", r"\sqrt{2}"),
        (r"\sqrt{2", r"\sqrt{2}"),
        ("\ud800\x00", r"\sqrt{2}"),
        ("(" * 400 + "2" + ")" * 400, r"\sqrt{2}"),
        (r"\sqrt{2}" + " " * 10 + "+0" * 600, r"\sqrt{2}"),
    ],
)
def test_wrong(answer: str, gold: str) -> None:
    assert _pays(answer, gold) == 0.0


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (r"So \boxed{\sqrt{2}}.", "right"),
        (r"<think>\boxed{3}</think> It is $\boxed{\frac{2}{\sqrt{2}}}$", "right"),
        (r"\boxed{3}, no: \boxed{\sqrt{2}}", "wrong"),
        (r"\boxed{\sqrt{2}}, no: \boxed{3}", "wrong"),
        (r"\boxed{\sqrt{2}}, so it is \boxed{\sqrt{2}}", "right"),
        (r"<think>it goes in <answer></think>\boxed{\sqrt{2}}", "right"),
        (r"<think><answer>3</answer></think><answer>\sqrt{2}</answer>", "right"),
        (r"<reasoning>\boxed{3}</reasoning><answer>\sqrt{2}</answer>", "right"),
        (r"\boxed{\sqrt{2}} <answer>3</answer>", "wrong"),
        (r"It is \sqrt{2}", "no_tag"),
        ("", "no_tag"),
        (r"\boxed{\sqrt{2}</answer>", "no_tag"),
        (r"<answer>\boxed{\sqrt{2}}", "unclosed"),
        (r"\boxed{\sqrt{2}", "unclosed"),
        (r"\boxed \sqrt{2}", "unclosed"),
        (r"<think>\boxed{\sqrt{2}}", "unclosed"),
        (r"<think>\boxed{\sqrt{2}}</think>", "no_tag"),
        (r"\boxed{\sqrt{2}}</reasoning>", "no_tag"),
        (r"<answer>\sqrt{2}</answer><answer>\sqrt{3}</answer>", "many_tags"),
        (r"<answer>\sqrt{2}</answer>" * 100, "many_tags"),
        ("<answer>1.4, 1.5</answer>", "wrong"),
        (r"<answer>1.4 or 1.5</answer>", "many_numbers"),
        ("<answer>no idea?</answer>", "not_a_number"),
        (f"<answer>{BOMB}</answer>", "too_long"),
        (f"<answer>{'9' * 2000}</answer>", "too_long"),
        (rf"\boxed{{{'9' * 5000}}}", "unclosed"),
    ],
)
def test_where_the_answer_stands_and_why_it_does_not_count(completion: str, reason: str) -> None:
    assert reason in REASONS
    assert _reason(completion, r"\sqrt{2}") == reason


EQUATIONS = [  # gold, what states the same, what does not
    ("x^2-4x-2=0", ["2x^2-8x=4", "0=x^2-4x-2"], ["0", "x^2-7x-44=0", "x^2-4x-2", "0=0", "(x^2-4x-2)^2=0"]),
    ("(x-1)^2+(y+2)^2=9", ["x^2-2x+y^2+4y-4=0"], ["9", "x^2+y^2=9", "(x+1)^2+(y-2)^2=9"]),
    ("2x+4y-3=0", ["y=-x/2+3/4", "3 = 2x+4y"], ["0", "-x/2+3/4", "2x+4y+3=0", "x(2x+4y-3)=0", "1=2"]),
    (r"\frac{x^2}{9}+\frac{y^2}{4}=1", ["4x^2+9y^2=36"], [r"\frac{x^2}{4}+\frac{y^2}{9}=1", "1"]),
    ("x=2y", ["y=x/2", "2y=x", "2y"], ["y=2x", "x=y", "x/2"]),
    ("x^2=0", ["2x^2=0"], ["x=0", "0", "x^3=0"]),
    ("x=2y+1", ["2y+1"], ["y=2x+1", "2x+1"]),
    ("y=2x+1", ["2x+1", "y-2x=1"], ["z=2x+1", "y=2x", "x=2y+1"]),
    ("2x+1", ["y=2x+1", "f(x)=2x+1", r"\text{The slope} = 2x+1"], ["2y=2x+1", "y^2=2x+1", "x=2x+1", "y+2x+1=0"]),
    ("18", ["x=18", "x=3*6=18", r"x=\sqrt{324}", r"3 \cdot 6 = \sqrt{324}"], ["2x=18", "x^2=18", "x/2=18", "-x=18"]),
    ("9", ["x=9"], ["2x=18", "x+9=18", r"f(2)=\sqrt{81}"]),
    (r"\sqrt2", [r"x=\frac{2}{\sqrt2}=\sqrt2", r"\frac{2}{\sqrt2}=\sqrt2"], [r"2x=\sqrt2", r"x^2=\sqrt2", "x^2=2"]),
    ("f(x)=3x-5", ["3x-5", "y=3x-5"], ["g(x)=3x-5", "f(x)=3x", "f(y)=3y-5"]),
    ("y'=2y", [r"y^{\prime}=2y", "y'-2y=0"], ["2y", "y=2y", "y=0", "y''=2y"]),
    (r"\frac{dy}{dx}=2xy", ["dy/dx = 2yx"], ["2xy=0", "2xy", r"\frac{dx}{dy}=2xy"]),
    ("x=1 \\text{ or } x=2", ["1,2", "x=2,1"], ["(x-1)(x-2)=0", "x=1", "1"]),
    ("(x,y)=(1,-1)", ["(1,-1)"], ["(-1,1)", "1", "(x,y)=(-1,1)"]),
]


@pytest.mark.parametrize(("gold", "same", "other"), EQUATIONS)
def test_an_equation_is_an_equation(gold: str, same: list[str], other: list[str]) -> None:
    assert [answer for answer in [gold, *same] if _pays(answer, gold) != 1.0] == []
    assert [answer for answer in other if _pays(answer, gold) != 0.0] == []


@pytest.mark.parametrize(
    ("gold", "same", "other"),
    [
        (
            "silent",
            ["Silent.", r"\text{silent}", r"$\text{silent}$"],
            ["listen", "tinsel", r"s i l e n t", "not silent"],
        ),
        ("abc", ["ABC", r"\text{abc}", r"a \cdot b \cdot c"], ["bca", "cab", r"a \cdot b"]),
        ("xy", ["yx", r"x \cdot y"], ["xz"]),
        ("no", ["No.", r"\text{no}"], ["on", "n", "yes"]),
        ("even", [r"\text{Even}"], ["not even", "odd", "even or odd", r"\ne \text{even}", "4"]),
        (r"\text{no solution}", ["No solution"], ["no", "solution", "0"]),
        ("偶数", [r"\text{偶数}", "偶数。"], ["奇数", "数偶"]),
        ("7:30 PM", ["7:30 p.m.", r"7:30\text{ pm}"], ["7:30 AM", "7:30", "7:31 PM"]),
        ("12 (r5)", ["12 r 5", "12 remainder 5"], ["12", "5 (r12)", "17"]),
        (r"\text{(A)}", ["A", "(A)", r"\textbf{(A)}"], ["B", "AB", "0"]),
        ("4", [], ["four or five", "even"]),
        (r"\sqrt{2}", [], ["root two", "even"]),
    ],
)
def test_words_are_compared_as_text(gold: str, same: list[str], other: list[str]) -> None:
    assert [answer for answer in [gold, *same] if _pays(answer, gold) != 1.0] == []
    assert [answer for answer in other if _pays(answer, gold) != 0.0] == []


AGREED = [
    "18g",
    "18 m/s",
    r"18^\circ",
    r"\left(18\right)",
    "[18]",
    r"\displaystyle 18",
    r"\boxed{18g}",
    "18 = 18",
    "18 18",
]


@pytest.mark.parametrize(
    "answer", [*AGREED, "18", "$18.00", "18 eggs", "17", "not 18", "1/2", "50%", "17 or 18", "9 * 2 = 18"]
)
@pytest.mark.parametrize("gold", ["18", "0.5", "50"])
def test_the_two_graders_agree_on_plain_numbers_without_a_process(answer: str, gold: str, monkeypatch) -> None:
    if "or" not in answer and "not" not in answer:
        monkeypatch.setattr(latex_process, "compare", None)
    completion = f"<answer>{answer}</answer>"
    assert math_reward([completion], [gold]) == correctness_reward([completion], [gold])


def test_columns_settings_and_pickling() -> None:
    texts = [r"\boxed{\sqrt{2}}", "no", r"\boxed{\sqrt{3}}"]
    made = get_math_reward(time_limit_s=20)
    for function in (math_reward, made, pickle.loads(pickle.dumps(made))):
        assert function.__name__ == "math_reward"
        assert function(texts, [r"\sqrt{2}", None, r"\sqrt{2}"], prompts=["a"] * 3) == [1.0, None, 0.0]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    assert made(messages, [r"\sqrt{2}"] * 3) == [1.0, 0.0, 0.0]
    assert math_reward([], []) == []
    for value in (0, -1.0, float("inf"), 100, True, "1"):
        with refused("time_limit_s", value, remedy="write seconds from 0.01 to 60"):
            get_math_reward(value)
    with refused("time_limit_s", remedy="write seconds from 0.01 to 60"):
        get_math_reward(float("nan"))
    for setting, value in (("answer_in", "no tag"), ("locale", "xx"), ("tolerance", 1.0)):
        with pytest.raises(SettingError) as error:
            get_math_reward(**{setting: value})
        assert error.value.setting == setting


@pytest.mark.parametrize(
    ("gold", "why"),
    [
        ("", "write the answer alone"),
        ("?", "cannot be read"),
        (r"\frac{1}{", "cannot be read"),
        (r"\frac{0}{0}", "says nothing"),
        ("x=x", "says nothing"),
        ("not $2$, but $3$", "write the answer alone"),
        ("9" * 1001, "write at most 1000"),
        (BOMB, "simpler"),
        ("words " * 40, "a few words"),
    ],
)
def test_a_gold_that_cannot_be_read_is_named_before_a_run_and_pays_none_in_it(gold: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        read_math_gold(gold)
    assert gold[:20] in str(error.value).replace("\\\\", "\\")
    column = [gold, "18", None, gold]
    for reward in (math_reward, get_math_reward(answer_in="answer_tag", tolerance=0.001)):
        latex._gold_or_warning.cache_clear()
        with pytest.warns(UserWarning, match="math_reward") as warned:
            assert reward(["<answer>18</answer>"] * 4, column) == [None, 1.0, None, None]
        assert len(warned) == 1


@pytest.mark.parametrize(
    ("gold", "read"),
    [
        ("2 + 16 = <<2+16=18>>18 #### 18", Fraction(18)),
        (r"so it is #### \frac{\sqrt2}{2}", r"\frac{\sqrt2}{2}"),
        ("1,5", r"1,5"),
        (r"2\text{ cm}", Fraction(2)),
        ("2t", "2t"),
    ],
)
def test_the_gold_is_what_it_states(gold: str, read: Fraction | str) -> None:
    assert read_math_gold(gold) == read


def test_numbers_and_solutions_are_golds() -> None:
    golds = [18, 18.0, Fraction(36, 2), "... #### 18", r"... #### \sqrt{324}"]
    assert math_reward([r"\boxed{18}"] * 5, golds) == [1.0] * 5
    assert read_math_gold("1,5", locale="de") == Fraction(3, 2)


@pytest.mark.parametrize(
    ("settings", "completion", "gold", "reason"),
    [
        ({"answer_in": "boxed"}, r"<answer>3</answer>\boxed{\sqrt2}", r"\sqrt2", "right"),
        ({"answer_in": "boxed"}, r"<answer>\sqrt2</answer>", r"\sqrt2", "no_tag"),
        ({"answer_in": "answer_tag"}, r"\boxed{\sqrt2}", r"\sqrt2", "no_tag"),
        ({"answer_in": "hash"}, "so\n#### \\sqrt2\n", r"\sqrt2", "right"),
        ({"answer_in": "SOLUTION"}, r"<SOLUTION>$\sqrt2$</SOLUTION>", r"\sqrt2", "right"),
        ({}, r"\boxed{1} and \boxed{2}", r"\{1,2\}", "right"),
        ({}, r"\boxed{2} and \boxed{1}", "1,2", "right"),
        ({}, r"\boxed{1} and \boxed{2}", "1", "wrong"),
        ({"locale": "de"}, "<answer>1.234,5</answer>", "1234,5", "right"),
        ({"locale": "de"}, "<answer>1,5</answer>", "3/2", "right"),
        ({}, "<answer>3.33333333</answer>", "10/3", "wrong"),
        ({"tolerance": 1e-6}, "<answer>3.33333333</answer>", "10/3", "right"),
        ({"tolerance": 1e-6}, "<answer>3.3333</answer>", "10/3", "wrong"),
        ({"tolerance": 1e-3}, "<answer>1.4142</answer>", r"\sqrt2", "right"),
        ({"tolerance": 1e-3}, "<answer>1.42</answer>", r"\sqrt2", "wrong"),
        ({"tolerance": 1e-3}, r"<answer>\sqrt{2}</answer>", "1.4142", "right"),
        ({"tolerance": 1e-3}, "<answer>(1.414, 1.732)</answer>", r"(\sqrt2, \sqrt3)", "right"),
        ({"tolerance": 1e-3}, "<answer>1.4142i</answer>", r"\sqrt2 i", "right"),
        ({"tolerance": 0.5}, "<answer>x</answer>", "2x", "wrong"),
        ({"tolerance": 0.5}, "<answer>y=2x+1</answer>", "y=2x+2", "wrong"),
    ],
)
def test_settings(settings: dict, completion: str, gold: str, reason: str) -> None:
    assert math_reasons("mine", [completion, completion], [gold, None], **settings) == [reason, None]
    assert get_math_reward(**settings)([completion], [gold]) == [float(reason == "right")]


def test_without_math_verify_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["math_verify"] = None
from grpo_colab.rewards.latex import get_math_reward, math_reward
for call in (get_math_reward, lambda: math_reward(["<answer>1</answer>"], ["1"])):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.count('pip install "grpo_colab[math]"') == 2, done.stderr
