"""Answers in the forms of math-verify's documentation and tests: we accept each that it accepts, and more."""

import logging

import pytest

from steelyard.rewards import math_correct, score_one

SAME = [
    [r"34", r"S=34", r"S = 34", r"S_{ABC}=34", r"|S|=34", r"\text{Area}=34", r"34\text{ sq units}", r"34.0",
     r"\frac{68}{2}", r"n=34", r"x+y=34", r"34\mathrm{~km}"],
    [r"x\in[0,1]", r"[0;1]", r"[0,1]", r"x \in [0;1]", r"0\le x\le1", r"\{x|0\le x\le 1\}",
     r"\{x\mid 0\leq x\leq 1\}", r"\left[0,1\right]"],
    [r"(1,3)", r"]1,3[", r"\{x|1<x<3\}", r"1<x<3", r"x\in(1,3)", r"(1;3)"],
    [r"k=\pm1", r"k=1,k=-1", r"\{1,-1\}", r"\pm 1", r"1,-1", r"k=1 \text{ or } k=-1", r"k \in \{-1, 1\}", r"k=\pm 1"],
    [r"(4,2)", r"x=4, y=2", r"x=4,y=2", r"(x,y)=(4,2)", r"(x, y) = (4, 2)", r"\{(4,2)\}",
     r"x = 4 \text{ and } y = 2"],
    [r"a=-3, b=4", r"b=4,a=-3", r"a = -3, b = 4"],
    [r"1:2:3", r"A:B:C=1:2:3", r"1 : 2 : 3"],
    [r"3\frac{1}{3}\%", r"\frac{1}{30}", r"\frac{10}{3}\%", r"\frac{10}{3}"],
    [r"20\%", r"\frac15", r"0.2", r"20", r"20 \%"],
    [r"2019^2", r"2019^{2}", r"4076361", r"2019 \cdot 2019", r"2019\times2019"],
    [r"11,\ 12,\ 13,\ 14", r"11,12,13,14", r"\{11,12,13,14\}", r"11, 12, 13 \text{ and } 14", r"11;12;13;14"],
    [r"\dfrac{9}{2}a^{2}", r"\frac{9a^2}{2}", r"4.5a^2", r"\frac92a^2", r"9a^2/2"],
    [r"y=\pm 2x", r"y=2x, y=-2x", r"y = \pm 2 x", r"\pm2x"],
    [r"2^{n}-1", r"2^n-1", r"-1+2^n", r"a_n=2^n-1", r"a_{n}=2^{n}-1", r"f(n)=2^n-1"],
    [r"\frac{1}{x}", r"f(x)=\frac{1}{x}", r"x^{-1}", r"1/x", r"y=\frac1x"],
    [r"(-\infty,0]\cup[2,\infty)", r"(-\infty, 0] \cup [2, +\infty)", r"x\le 0\text{ or }x\ge2",
     r"x\in(-\infty,0]\cup[2,\infty)", r"(-\infty;0]\cup[2;+\infty)", r"\{x|x\le 0 \text{ or } x\ge 2\}"],
    [r"\sqrt{3}+1", r"1+\sqrt3", r"\sqrt{4+2\sqrt3}", r"x=1+\sqrt{3}"],
    [r"-\frac{\pi}{4}", r"-\pi/4", r"\frac{-\pi}{4}", r"-\frac14\pi", r"-0.25\pi"],
    [r"\log_2 3", r"\log_{2}3", r"\log_2(3)", r"\frac{\ln 3}{\ln 2}", r"\log_{2}{3}"],
    [r"e", r"e^1", r"\mathrm{e}", r"\exp(1)"],
    [r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}", r"n(n+1)/2", r"\frac12n(n+1)", r"\frac{1}{2} n (n+1)"],
    [r"\binom{n}{2}", r"\frac{n(n-1)}{2}", r"C_n^2", r"\frac{n!}{2!(n-2)!}"],
    [r"2\sqrt[3]{2}", r"\sqrt[3]{16}", r"2\cdot 2^{1/3}", r"2^{4/3}"],
    [r"0", r"0^\circ", r"\{0\}", r"x=0"],
    [r"-2", r"-2.0", r"x=-2", r"(-2)", r"\{-2\}", r"-\frac{4}{2}"],
    [r"(2,-1)", r"(2, -1)", r"\left(2,-1\right)", r"(2;-1)", r"\langle 2,-1\rangle",
     r"\begin{pmatrix}2\\-1\end{pmatrix}", r"P(2,-1)"],
    [r"x^2+y^2=1", r"y^2+x^2=1", r"x^{2}+y^{2}-1=0", r"1=x^2+y^2"],
    [r"y=x+1", r"x-y+1=0", r"x+1", r"y-x=1", r"y=1+x"],
    [r"a>1", r"1<a", r"(1,\infty)", r"(1,+\infty)", r"a\in(1,+\infty)"],
    [r"m<-1\text{ or }m>2", r"(-\infty,-1)\cup(2,\infty)", r"m>2\text{ or }m<-1"],
    [r"\frac{5\pm\sqrt{13}}{6}", r"\frac{5+\sqrt{13}}{6},\frac{5-\sqrt{13}}{6}",
     r"\left\{\frac{5-\sqrt{13}}{6},\frac{5+\sqrt{13}}{6}\right\}"],
    [r"\text{A, B}", r"A,B", r"A, B", r"\text{B, A}", r"AB", r"\{A,B\}"],
    [r"\mathrm{D}", r"D", r"\text{D}", r"(D)", r"\textbf{(D)}", r"D."],
    [r"120^{\circ}", r"120^\circ", r"120", r"\frac{2\pi}{3}", r"120°", r"120\text{ degrees}"],
    [r"5\sqrt{2}\text{ cm}", r"5\sqrt2", r"\sqrt{50}", r"5\sqrt{2} \mathrm{~cm}", r"5\sqrt{2}\,\text{cm}"],
    [r"1,000,000", r"10^6", r"1000000", r"10^{6}", r"1\,000\,000", r"1{,}000{,}000"],
    [r"3.14", r"3.140", r"\frac{157}{50}", r"314\%"],
    [r"0.1\overline{6}", r"\frac16", r"0.1\dot{6}"],
    [r"2a-b", r"-b+2a", r"2a - b", r"-(b-2a)"],
    [r"(x+1)(x-1)", r"x^2-1", r"(x-1)(x+1)"],
    [r"\frac{x-1}{x+1}", r"1-\frac{2}{x+1}", r"\frac{1-x}{-1-x}"],
    [r"\sin^2 x", r"(\sin x)^2", r"\sin^{2}(x)", r"1-\cos^2 x"],
    [r"\text{no real solutions}", r"no real solutions", r"\text{No real solutions}"],
    [r"2+3i", r"3i+2", r"2+3\mathrm{i}", r"2 + 3 \cdot i"],
    [r"\left(\frac{1}{2},3\right)", r"(0.5,3)", r"(\frac12, 3)", r"\left(\frac12;3\right)"],
    [r"5^{2}\cdot3", r"75", r"3\times25"],
    [r"\frac{1}{2},\frac{1}{3}", r"\frac13,\frac12", r"0.5, \frac{1}{3}", r"\frac12 \text{ and } \frac13"],
    [r"\begin{bmatrix}1&0\\0&1\end{bmatrix}", r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
     r"\left[\begin{array}{cc}1&0\\0&1\end{array}\right]", r"\left[\begin{matrix}1&0\\0&1\end{matrix}\right]"],
    [r"t=2\text{ s}", r"2\text{ s}", r"2", r"2\,\mathrm{s}", r"t=2"],
    [r"\$32{,}348", r"32348", r"\$32,348", r"32,\!348", r"\text{\$}32348"],
    [r"\approx 3.7", r"3.7", r"x\approx3.7"],
    [r"7/2", r"3\frac12", r"3.5", r"\frac72", r"3 \frac{1}{2}"],
]  # fmt: skip
"""Lists of one answer in several forms."""

DIFFERENT = [
    ("34", "43"), (r"x\in[0,1]", "[0,1)"), ("(1,3)", "(3,1)"), (r"k=\pm1", "1"), ("(4,2)", "(2,4)"),
    ("a=-3, b=4", "a=4, b=-3"),
    ("11,12,13,14", "11,12,13"), (r"\frac{9}{2}a^2", r"\frac{2}{9}a^2"), ("2^n-1", "2^{n-1}"), (r"\frac{1}{x}", "x"),
    (r"(-\infty,0]\cup[2,\infty)", r"(-\infty,0)\cup(2,\infty)"), (r"\sqrt{3}+1", r"\sqrt{3}-1"), (r"\log_2 3",
     r"\log_3 2"),
    ("(2,-1)", "(-2,1)"), ("x^2+y^2=1", "x^2-y^2=1"), ("a>1",
     r"a\ge1"), ("2a-b", "2b-a"), ("2+3i", "3+2i"), ("120^\\circ", "12"),
    (r"\begin{bmatrix}1&0\\0&1\end{bmatrix}", r"\begin{bmatrix}0&1\\1&0\end{bmatrix}"), (r"0.1\overline{6}", "0.16"),
]  # fmt: skip


def accepts(gold: str, ours: str) -> float:
    return float(score_one(math_correct, completion=rf"So it is $\boxed{{{ours}}}$.", answer=gold).values[0])


@pytest.mark.slow
@pytest.mark.parametrize("forms", SAME, ids=lambda forms: forms[0])
def test_every_form_that_math_verify_accepts(forms: list[str], caplog: pytest.LogCaptureFixture) -> None:
    library = pytest.importorskip("math_verify")
    caplog.set_level(logging.CRITICAL)
    gold = library.parse(f"${forms[0]}$")
    theirs = [bool(library.verify(gold, library.parse(rf"So it is $\boxed{{{form}}}$."))) for form in forms]
    ours = [accepts(forms[0], form) == 1 for form in forms]
    assert [form for form, we, they in zip(forms, ours, theirs, strict=True) if they and not we] == []


@pytest.mark.parametrize(("gold", "ours"), DIFFERENT)
def test_other_answers_are_not_accepted(gold: str, ours: str) -> None:
    pytest.importorskip("math_verify")
    assert accepts(gold, ours) == accepts(ours, gold) == 0
