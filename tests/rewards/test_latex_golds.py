"""Gold answers as data sets of mathematics write them: each is read, grades itself right, and no other of its kind.

They are written after MATH, college mathematics, OlympiadBench, ASDiv, DeepScaleR and NuminaMath.
"""

from __future__ import annotations

import pytest

pytest.importorskip("math_verify", reason="needs grpo_colab[math]")

from grpo_colab.rewards.latex import math_reward, read_math_gold

# No two golds of a kind state the same.
KINDS: dict[str, list[str]] = {
    "numbers": [
        "18", "1,234", r"\$18.90", r"\$32,\!348", "-3./2", ".5", "5.", r"36\%", r"60^\circ", r"\frac{14}{3}",
        r"-\frac{3}{4}", r"2 \frac{1}{2}", r"3\frac{3}{4}", "4 1/2", "5/12", "3.14", r"1.5 \times 10^{-3}", "2.5e-4",
        r"33\frac{1}{3}\%", r"0.\overline{3}", r"0.1\overline{6}", "10^{-6}", "2.5 million", r"\left|{-6}\right|",
        "+7", r"\[9\]", r"\(\frac{5}{6}\)", r"$\frac{7}{8}$.", "**42**", r"2^{10}", "10!", r"\binom{10}{4}",
    ],
    "units": [
        r"5\text{ cm}", r"12\sqrt{3}\text{ cm}^2", r"18\pi \text{ square units}", r"24\pi\mathrm{~cm}^{3}",
        r"10 \mathrm{~m/s}", r"9.8\text{ m/s}^2", r"\frac{4}{3}\text{ hours}", r"45 \text{ mph}", "9 (apples)",
        "3/4 (mile)", r"\frac{3\pi}{2}\text{ radians}", "$240$ yuan",
        r"3.6 \times 10^{4} \mathrm{~m}", "18g", "7m", "2t",
        "2 hours 30 minutes", r"3 \text{ ft } 4 \text{ in}", r"4 \text{ ft } 3 \text{ in}", "4 (r2)", "12 (r5)",
        r"6\text{ boys and }7\text{ girls}",
    ],
    "exact values": [
        r"\dfrac{\sqrt{3}}{2}", r"6\sqrt{5}", r"3+2\sqrt{2}", r"\frac{\sqrt{6}-\sqrt{2}}{4}",
        r"\frac{-1+\sqrt{5}}{2}",
        r"\sqrt[3]{2}", r"2^{\frac{2}{3}}", r"\frac{\pi}{6}", r"2\pi", "e^{2}", r"\mathrm{e}",
        r"\frac{1}{\mathrm{e}}",
        r"1-\frac{1}{e}", r"\ln 2", r"\log_2 3", r"\lg 2", r"\frac{\ln 5}{2}", r"\arctan 2", r"\tan^{-1}(3)",
        r"\pi - \arccos\frac{1}{3}", "2^{2024}-1", "2023^{2022}", "99!", "sqrt(7)/2", "pi/4", r"\infty", r"-\infty",
    ],
    "complex numbers": [
        "2+3i", r"3 + 4 \mathrm{i}", r"-\mathrm{i}", r"-\frac{1}{2}+\frac{\sqrt{3}}{2} i", r"\pm 2i", "2e^{i\\pi/3}",
        r"\cos\frac{\pi}{5}+i\sin\frac{\pi}{5}", r"3 \pm 4i", "0", "1",
    ],
    "several values": [
        r"10 \text{ and } 12", "$10$ and $13$", "$x=1$ or $x=2$", r"x=1 \text{ or } x=-3", r"$x=\frac{1}{2}$, $x=-3$",
        "$-1$, $2$ and $5$", "1,-2", "6, 7", "1, 2, 3", r"\pm 4", r"x=\pm\sqrt{3}", r"2 \pm \sqrt{3}",
        r"\frac{1 \pm \sqrt{5}}{2}", "x=-5,1", "2, 3, 5, 7", r"30^\circ \text{ or } 150^\circ",
        r"\lambda = 1, 3", "1",
        "2", r"\{0, \pi\}", r"\left\{-1, \frac12\right\}", r"\emptyset", r"\{2,3\} \text{ or } \{5\}",
    ],
    "points and vectors": [
        "(3,4)", "(4,3)", "(-1, 2, 5)", r"\left(\frac{1}{2}, -\frac{3}{2}\right)", "(0,0), (1,1)",
        r"(1,2) \text{ and } (3,4)", r"(2, \frac{\pi}{3})", r"\langle 1,2\rangle", r"\langle -3, 1, 4 \rangle",
        r"\left\langle \frac{1}{3}, 2 \right\rangle", r"\mathbf{i}+2\mathbf{j}",
        r"3\mathbf{i}-\mathbf{j}+5\mathbf{k}",
        r"(\pm 3, 0)", r"(0, \pm\sqrt{5})", "(x,y) = (1,-1)", r"\overrightarrow{AB} = (1,7)", r"\{(1,2),(2,1)\}",
        r"\vec{a}+\frac{1}{2}\vec{b}", r"\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}", "A(1,2)",
    ],
    "matrices": [
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix} 0 & -1 \\ 1 & 0 \end{bmatrix}",
        r"\left[\begin{array}{cc} 2 & 3 \\ 5 & 7 \end{array}\right]",
        r"\left(\begin{array}{c} 4 \\ 6 \end{array}\right)",
        r"\begin{pmatrix} 4 & 6 \end{pmatrix}", r"\begin{bmatrix}1\\0\end{bmatrix}, \begin{bmatrix}0\\1\end{bmatrix}",
    ],
    "intervals and inequalities": [
        "[0,1)", "(0,1]", "[0,1]", "(0,1)", r"(-\infty, 3]", r"(-\infty,-2)\cup(2,\infty)", r"[-1,1] \cup [3,5]",
        r"\left(-\infty, \frac{1}{2}\right) \cup \left(\frac12, \infty\right)", r"\mathbb{R}",
        r"\mathbb{R} \setminus \{0\}",
        "x<4", r"x \le -2", r"x > \frac{7}{3}", "-2 < x < 5", r"x<-1 \text{ or } x>4", r"x \neq 3", r"0 < a \le 7",
        r"x \in [1,3]", r"x\in\{1,5\}", r"\{x \mid x > 2\}", r"\left\{x \mid -1 \leqslant x \leqslant 2\right\}",
        r"k \geq 2", "a>b>c", "c<a<b", r"0 < r \le \frac{1}{2} \text{ or } r > 3",
    ],
    "expressions": [
        "x^2+3x+2", "3x^2 y - 2xy^2", "(x+1)(x-3)", r"\frac{x+1}{x-2}", r"C + \frac{x^2}{2}", r"\frac{x^3}{3}+C",
        r"\frac{1}{2}\ln|x+1| + C", r"\sin(x) + C", r"-\cos x + C", r"2x\cos(x^2)", r"\sec^2 x", "n!", "(n-1)!",
        r"\binom{n}{2}", r"\frac{n(n+1)(2n+1)}{6}", r"\lfloor \frac{n}{2} \rfloor", r"\lceil \log_2 n \rceil",
        "(-1)^n", r"\sqrt{x^2+1}", r"\sqrt[4]{x}", "|x-3|", "x^{-2}", "xy", "abc", r"\frac{\pi}{4}+2k\pi", r"\log x",
        r"\frac{1}{4}e^{2x}(2x-1)", r"\sinh x", "(2x+1)/(x-3)", "x**2 + 5*x", "e^(2x)", r"\alpha+\beta",
        r"\frac{n!}{k!(n-k)!}", r"\max(a,b)", r"\sum_{k=1}^{n} k^3",
    ],
    "equations": [
        "y = 2x+1", "2x+4y-3=0", "x^2-4x-2=0", "(x-1)^2+(y+2)^2=9", r"\frac{x^2}{9}+\frac{y^2}{4}=1", "y^2 = 8x",
        "f(x) = 3x-5", r"f^{-1}(x) = \frac{x-1}{2}", "y' = 2y", "y'' + 3y' + 2y = 0", r"\frac{dy}{dx} = 2xy",
        r"y'=\frac{3}{x}", "f'(x) = 6x^2", "y = C_1 e^{x} + C_2 e^{-2x}", "y = Ce^{3x}",
        "a_n = 2n-1", "x_1 = 2, x_2 = 5",
        "x=3, y=-1", r"x = 5 \quad y = 7", r"\frac{x-1}{2}=\frac{y+1}{3}=\frac{z}{4}", "x=1+2t, y=-1+3t, z=4t",
        r"\cos\theta = \frac{3}{5}", "|z|=2", r"A = \frac{1}{2}bh", r"\theta = \frac{\pi}{4}", r"P(X=2)=\frac{3}{8}",
        r"\frac{\partial z}{\partial x} = 2x", r"\nabla f = (2x, 2y)", r"f(x)=0 \text{ or } f(x)=x", "x^2+y^2=C",
        r"$y^{2}=4 x$ or $x^{2}=4y$", r"\frac{\pi}{6} + n\pi, n \in \mathbb{Z}",
        r"x = k\pi,\ k \in \mathbf{Z}", "0", "1",
    ],
    "number theory and logic": [
        r"x \equiv 3 \pmod{7}", r"x \equiv 3 \pmod 4", r"n \equiv 1 \pmod 4", "101_2", "1203_4",
        "2E7_{16}", r"110101_{2}",
        "12:15", "3:5", "1:2:3", r"\sqrt{3}:1", r"p \rightarrow q", r"p \land q", r"A \cup B", r"A \cap B^c",
        r"x \mapsto x^2", r"AB \parallel CD", r"\operatorname{sgn}(x)", r"\gcd(a,b)", r"\phi(n)", "101",
    ],
    "words": [
        "7:30 PM", r"\text{10:45 a.m.}", r"\text{Monday}", "even", r"\text{odd}",
        r"\text{ellipse}", r"\text{(A)}", "B",
        "(E)", r"\text{A, C}", "A, B, D", "yes", "No", r"\text{False}", "silent", "listen", r"\text{no solution}",
        r"\text{does not exist}", r"\text{diverges}", r"\text{undefined}", r"\text{Evelyn}",
        r"\text{Mary and Tom}", "偶数",
        "奇数", "①③", r"\text{II and III}", "maximum: 5, minimum: -3", "None of the above", r"\mathrm{II}", "DNE",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_gold_of_a_data_set_grades_itself_right_and_no_other(kind: str) -> None:
    golds = KINDS[kind]
    texts = [f"<answer>{gold}</answer>" for gold in golds]
    for gold in golds:
        read_math_gold(gold)  # raises where it cannot be read
        paid = math_reward(texts, [gold] * len(golds))
        assert [other for other, reward in zip(golds, paid, strict=True) if reward] == [gold]


def test_there_are_as_many_golds_as_the_kinds_need() -> None:
    assert sum(map(len, KINDS.values())) >= 250
