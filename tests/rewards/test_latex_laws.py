r"""The laws of answers in LaTeX, each with what it forbids and what it leaves right.

A question is no answer, one joiner is not another, no part of a formula is dropped, and one formula may be written in
many ways.
"""

from __future__ import annotations

import pytest

pytest.importorskip("math_verify", reason="needs grpo_colab[math]")

from grpo_colab.rewards import latex
from grpo_colab.rewards.latex import get_math_reward, math_reward, read_math_gold

DERIVATIVES = [
    r"\frac{\mathrm{d}}{\mathrm{d}x} x^2",
    r"\frac{d x^2}{dx}",
    r"\frac{d x^{2}}{d x}",
    r"\frac{d\, }{dx} x^2",
    r"\frac d{dx} x^2",
    r"\tfrac{d}{dx}x^2",
    r"\cfrac{d}{dx}x^2",
    r"\frac{d}{d\theta}\theta^2",
    r"\frac{\;d}{dx}x^2",
    r"\frac{\partial x^2}{\partial x}",
    r"\frac{\rm d}{{\rm d}x}x^2",
    r"\frac{\text{d}}{\text{d}x}x^2",
    r"{d \over dx}x^2",
    "d(x^2)/dx",
    "(x^2)'",
    r"(x^2)^{\prime}",
    r"\left.\frac{dt^2}{dt}\right|_{t=x}",
]
MATRIX = r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"
SQUARE = r"\begin{pmatrix}7&10\\15&22\end{pmatrix}"

FORBIDDEN: dict[str, list[tuple[str, list[str]]]] = {  # by law: a gold, and what does not state it
    "the equation to solve is no solution": [
        (r"x=\frac{\pi}{4}", [r"4x=\pi", r"4x-\pi=0", r"\tan x=1", r"x=\frac{\pi}{4}, y=0"]),
        (r"x=\sqrt2", [r"x-\sqrt2=0", r"2x=2\sqrt2", r"2\sqrt2=2x", r"x-\sqrt2=0=0"]),
        (r"\sqrt2=x", [r"x-\sqrt2=0", r"2x=2\sqrt2"]),
        (r"x=\log_2 5", [r"x\ln 2=\ln 5"]),
        (r"x=-\frac{b}{a}", ["ax+b=0"]),
        (r"h=\frac{2A}{b}", [r"A=\frac12bh"]),
        (r"r=\frac{4}{1+\cos\theta}", [r"r+r\cos\theta=4"]),
        (r"\cos\theta=\frac35", [r"5\cos\theta=3"]),
        (r"|z|=2", ["2|z|=4"]),
        ("x=3, y=-1", ["2x=6,y+1=0", "(x,y)=(-1,3)", "(y,x)=(3,-1)"]),
        ("(x,y)=(3,-1)", ["2x=6, y=-1", "x=-1, y=3"]),
        ("x_1=2, x_2=5", ["2x_1=4, x_2=5", "x_1=5, x_2=2", "5, 2"]),
        (r"x=1 \text{ or } y=2", [r"x-1=0 \text{ or } y-2=0"]),
        ("x>2", ["2x>4", "x-2>0"]),
    ],
    "what is to be worked out is no answer": [
        ("2x", DERIVATIVES),
        ("x^2", ["(x^2)'", "x^2'"]),
        ("(x^3)'", ["x^3"]),
        (r"\frac13", [r"∫_0^1 x^2 dx", r"\intop_0^1x^2dx"]),
        ("1", [r"x^2|_{x=1}", r"\left.x^2\right|_0^1", r"lim_{x\to 0}\frac{\sin x}{x}"]),
        ("6", ["∑_{k=1}^3 k", "∏_{k=1}^3 k"]),
        ("-2", [r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", rf"\det{MATRIX}", rf"\left|{MATRIX}\right|"]),
        (SQUARE, [f"{MATRIX}^2", MATRIX + MATRIX, rf"{MATRIX}\cdot{MATRIX}"]),
    ],
    "or is not and": [
        (r"x<2 \text{ or }x>5", [r"x<2\text{ and }x>5", r"x<2\land x>5"]),
        (r"x>1\text{ and }x<5", [r"x>1\text{ or }x<5"]),
        ("x>1, x<5", ["x>1 or x<5"]),
        (r"x=1\text{ and }y=2", [r"x=1 \text{ or } y=2", r"x=1\lor y=2"]),
        ("a=1,b=2", [r"a=1\text{ or }b=2"]),
    ],
    "a ratio has no 0 that the other has not, and a time is no ratio": [
        ("3:4", ["0:0", "6:0", "4 to 3"]),
        ("1:2:3", ["0:0:0"]),
        ("0:1:2", ["0:5:9"]),
        (r"\sqrt3:1", ["0:0"]),
        ("7:30", ["14:60", "0:0"]),
    ],
    "values are exact, in matrices and sets, too": [
        (r"\begin{pmatrix}e^{-100}\\2\end{pmatrix}", [r"\begin{pmatrix}e^{-101}\\2\end{pmatrix}"]),
        (r"\{e^{-100},2\}\cup\{5\}", [r"\{e^{-101},2\}\cup\{5\}"]),
        (r"\sqrt{10^{60}+1}", [r"\sqrt{10^{60}+2}"]),
    ],
    "nothing that is written is dropped": [
        (r"\emptyset", [r"\{\emptyset\}", r"\{,\}", r"\{\{\}\}"]),
        (r"\{\emptyset\}", [r"\emptyset"]),
        (r"\mathbb{R}", [r"\{\mathbb{R}\}"]),
        ("maximum: 5, minimum: 3", ["maximum: 5, minimum: - 3"]),
        (r"\text{increase by }5", [r"\text{increase by } - 5"]),
        (r"\text{True}", ["!True"]),
        ("x^2", [r"\{x\mid x^2\}"]),
        ("x>2", [r"\{y\mid x>2\}", r"(2,\infty]"]),
        (r"(-\infty,-2)\cup(2,\infty)", [r"(-\infty,-2)\cup(2,\infty]"]),
        ("5x", [".5x"]),
        (r"\text{10 am}", ["10 pm", "10"]),
        (r"\sin 30^\circ", [r"\sin 30"]),
        ("18", [r"18 \pi \text{ cm}^2", r"\pi 18"]),
        (r"18\pi", ["18", r"18\pi^2 cm"]),
        (r"\frac{x^3}{3}+C", [r"\frac{x^3}{3}", r"\frac{x^3}{3}+C_2x", r"\frac{x^3}{3}+x_1"]),
    ],
    "a name is one for the answer": [
        ("B", ["A=B", "f(x)=B"]),
        (r"\text{(A)}", ["B=A"]),
        (
            r"\sqrt2",
            [r"\text{One of the answers} = \sqrt2", r"\text{Either answer} = \sqrt2", r"c\sqrt2", r"2c=2\sqrt2"],
        ),
        (r"\{1,2\}", ["x_1=1, y_2=2", "x_1=1", "x_1=1, x_2=3"]),
    ],
    "what says nothing is nothing": [
        (gold, ["or", "and", r"\text{or}", r"\text{ and }", "{,}", r"$\text{or}$", r"\boxed{\text{or}}", ",;"])
        for gold in (r"\sqrt{2}", "18", "1,2")
    ],
    "a doubt is none of the letters": [
        (r"\sqrt2", [r"not \sqrt2", r"about \sqrt2", r"\sqrt2\text{ or more}", r"\sqrt2 o \sqrt3", r"1 o \sqrt2"]),
    ],
}

SAME: list[tuple[str, list[str]]] = [  # a gold, and other ways to write it
    (r"\frac\pi6", [r"\frac{\pi}{6}", r"\pi/6", r"\dfrac\pi6"]),
    (r"\frac{\pi}{6}", [r"\frac\pi6"]),
    (r"\frac{2\sqrt3}{3}", [r"\frac{2\sqrt3}3", r"\frac23\sqrt3"]),
    (r"\sqrt[3]{2}", [r"\sqrt[3]2"]),
    (r"\binom{n}{2}", [r"\binom n2", r"\dbinom n2", r"{n\choose 2}"]),
    (r"\frac{x+1}{x-2}", [r"{x+1 \over x-2}"]),
    (
        r"18\pi",
        [r"18 \pi \text{ cm}^2", r"18\pi\,\mathrm{cm^2}", r"18 \pi \text{ square units}", "18\\pi square units"],
    ),
    (r"18 \pi \text{ cm}^2", [r"18\pi", r"\pi 18"]),
    (r"12\sqrt3\text{ cm}^2", [r"12\sqrt{3} cm^2", r"12\sqrt{3}"]),
    ("2+3i", ["z=2+3i"]),
    (r"\sqrt2", [r"c=\sqrt{2}", r"C=\sqrt{2}", r"u=\sqrt{2}", r"o=\sqrt2", "sqrt(2)", r"\sqrt{2}=x"]),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", [r"\left(\begin{array}{c}1\\2\end{array}\right)"]),
    (r"\frac{\sqrt2}{2}", ["sqrt(2)/2", r"\cos 45^\circ", r"\sin(45°)"]),
    (r"\ln 2", ["ln 2", "ln(2)"]),
    (r"(-\infty,3]", ["(-inf,3]", "(-infinity, 3]"]),
    (r"\infty", ["infinity", r"\text{infinity}"]),
    (r"\sin 30^\circ", [r"\frac12", "0.5", "sin 30°", r"\sin\frac{\pi}{6}"]),
    (r"\tan 15^\circ", [r"2-\sqrt3", r"\tan\frac{30^{\circ}}{2}"]),
    (r"\frac{1}{\sin 10^\circ}", [r"\frac{1}{\cos 80^\circ}"]),
    (r"\frac{\sqrt3}{8}", [r"\sin 20^\circ\sin 40^\circ\sin 80^\circ"]),
    (r"\theta=30^\circ", ["30°", "30"]),
    (r"0.\overline{3}", [r".\overline{3}", r"0.\overline3", r"\frac13"]),
    (r"\frac{x^3}{3}+C", [r"\frac{x^3}{3}+\mathrm{C}", r"\frac{x^3}{3}+C_1", r"C_{1}+\frac{x^3}{3}"]),
    (r"(-\infty,-2)\cup(2,\infty)", [r"(-\infty,-2)\text{ or }(2,\infty)", r"x<-2\lor x>2"]),
    (r"x\ne3", [r"(-\infty,3)\cup(3,\infty)", r"\mathbb{R}\setminus\{3\}"]),
    ("x<-1, x>4", ["x<-1 or x>4"]),
    ("1<x<5", ["x>1 and x<5"]),
    (r"\{1,2\}", ["x_1=1,x_2=2", "x_1=2, x_2=1", r"x_1=1 \text{ and }x_2=2", r"x = 1 \lor x = 2"]),
    ("1,2", ["x_1=1, x_2=2"]),
    (r"3\sqrt{13}", [r"|AB|=3\sqrt{13}", r"\overline{AB}=3\sqrt{13}"]),
    ("x=3,y=-1", ["(x,y)=(3,-1)", "y=-1 and x=3"]),
    ("(x,y)=(3,-1)", ["x=3, y=-1"]),
    ("101_2", ["(101)_2", "101_{2}"]),
    ("3:4", ["3 to 4", "6:8", r"\frac12:\frac23"]),
    (r"\mathbb{R}", [r"\mathbf{R}", "ℝ", r"\R"]),
    (r"\text{even}", ['"even"', "“even”"]),
    (r"\langle1,2,3\rangle", [r"\left<1,2,3\right>", r"\vec v=\langle1,2,3\rangle"]),
    (r"\text{(A)}", ["A)", "(A)", "Answer = A"]),
    (r"2\text{ hours }30\text{ minutes}", ["2 hours and 30 minutes"]),
    (r"\text{10 am}", ["10 a.m.", "10 AM"]),
    ("x=2y", ["2y=x", "y=x/2", "x-2y=0"]),
    ("y=2x+1", ["2x+1=y", "2x-y+1=0"]),
    (r"\cos\theta=\frac35", [r"\cos\theta=0.6"]),
    (r"\frac{d}{2}", [r"\frac d2"]),
    (r"\frac{d+1}{e}", [r"\frac{d}{e}+\frac{1}{e}"]),
    ("dy/dx = 2xy", [r"\frac{dy}{dx} = 2xy", r"\frac{\mathrm{d}y}{\mathrm{d}x} = 2xy"]),
    (r"\begin{vmatrix}a&b\\c&d\end{vmatrix}", [r"\begin{vmatrix} a & b \\ c & d \end{vmatrix}"]),
    (r"\begin{pmatrix}a\\b\end{pmatrix}", [r"\begin{pmatrix}a&b\end{pmatrix}^T"]),
]


def _paid(answers: list[str], gold: str) -> list[str]:
    rewards = math_reward([f"<answer>{answer}</answer>" for answer in answers], [gold] * len(answers))
    return [answer for answer, reward in zip(answers, rewards, strict=True) if reward == 1.0]


@pytest.mark.parametrize("law", FORBIDDEN)
def test_what_a_law_forbids_is_wrong_and_the_gold_is_right(law: str) -> None:
    for gold, wrong in FORBIDDEN[law]:
        assert _paid([gold, *wrong], gold) == [gold], gold


@pytest.mark.parametrize(("gold", "others"), SAME)
def test_a_formula_may_be_written_in_many_ways(gold: str, others: list[str]) -> None:
    assert _paid([gold, *others], gold) == [gold, *others]


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (r"It is not \boxed{\sqrt2}", 0.0),
        (r"The answer isn't $\boxed{\sqrt2}$.", 0.0),
        (r"The correct answer is \textbf{not} \boxed{\sqrt2}", 0.0),
        (r"The answer is not: \boxed{\sqrt2}", 0.0),
        (r"So it cannot be \boxed{\sqrt2}", 0.0),
        (r"$\boxed{\sqrt2}$ is not the answer", 0.0),
        (r"approximately \boxed{\sqrt2}", 0.0),
        (r"It is not 3, so it is \boxed{\sqrt2}", 1.0),
        (r"No other value works, so the answer is \boxed{\sqrt2}.", 1.0),
        (r"Since $x \not= 3$ we get at last that $x = \boxed{\sqrt2}$", 1.0),
        (r"Hence the least number of such sets is $\boxed{\sqrt2}$", 1.0),
        ("Thus,\n$$\n\\boxed{\\sqrt2}\n$$", 1.0),
        (r"\boxed{\sqrt2} is the answer.", 1.0),
    ],
)
def test_a_box_in_a_denial_does_not_pay(completion: str, reward: float) -> None:
    assert math_reward([completion], [r"\sqrt2"]) == [reward]


NO_NUMBERS = {"NaN": float("nan"), "inf": float("inf"), "huge": 10**9999, "text": "nan", "capitals": "NaN"}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_a_gold_that_is_no_number_pays_none(kind: str) -> None:
    latex._gold_or_warning.cache_clear()
    answers = ["nan", "inf", r"\infty", "1"]
    with pytest.warns(UserWarning, match="math_reward"):
        assert math_reward([f"<answer>{answer}</answer>" for answer in answers], [NO_NUMBERS[kind]] * 4) == [None] * 4


@pytest.mark.parametrize("gold", ["or", r"\text{or}", "and", "{,}"])
def test_a_gold_of_nothing_but_joiners_is_refused(gold: str) -> None:
    with pytest.raises(ValueError, match="gold answer"):
        read_math_gold(gold)


@pytest.mark.parametrize(
    ("answer", "reward"),
    [(r"x \equiv 10 \pmod{70}", 1.0), (r"x \equiv 80 \pmod{70}", 1.0)]
    + [(rf"x \equiv {right} \pmod{{{modulus}}}", 0.0) for right, modulus in ((11, 70), (10, 71), (10, 69.9))],
)
def test_congruences_are_exact_whatever_the_tolerance(answer: str, reward: float) -> None:
    assert get_math_reward(tolerance=0.5)([f"<answer>{answer}</answer>"], [r"x \equiv 10 \pmod{70}"]) == [reward]
