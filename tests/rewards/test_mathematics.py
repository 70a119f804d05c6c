"""Mathematical answers: where they stand, what equals what, what is refused, and what peers and verdicts say."""

import gzip
import json
import math
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards import math_correct, score_one
from steelyard.rewards.final_answers import TAIL, final_answer
from steelyard.rewards.formula_size import is_small
from steelyard.rewards.mathematics import plain, same_answer
from steelyard.types import Status, SteelyardError

GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k-model-solutions.jsonl.gz"


def value(completion: str, answer: object) -> float:
    return float(score_one(math_correct, completion=completion, answer=answer).values[0])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{3} and then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{4} no: <answer>5</answer>", "5"),
        (r"<answer>5</answer>, that is \boxed{6}", "6"),
        (r"<answer>it is \boxed{7} eggs</answer>", "7"),
        (r"<think>\boxed{1}</think> The answer is 2.", "2"),
        ("16 - 3 = 13\nA: 13", "13"),
        ("#### 1. Compute\n#### 42", "42"),
        ("The answer is 17. No, the answer is 18.", "18"),
        ("The answer is 5 apples, because 2 + 3 = 5", "5"),
        ("**Final answer:**\n\n$14$", "14"),
        (r"Thus the area is $12\sqrt{3}$ square units.", r"12\sqrt{3}"),
        ("It costs $5 and he pays $6 in all", "$6"),
        ("He has 3 boxes with 1,250 each, that is 3,750.", "3,750"),
        ("-7/14", "-7/14"),
        (r"\boxed{unclosed and 9", "9"),
        (r"\boxed{1} and $\boxed{2}$.", "1,2"),
        (r"\boxed{1}. Later: \boxed{2}", "2"),
        (r"\boxed{7}. Put it in \boxed{}", "7"),
        (r"so $\boxed 7$", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\[ x = \frac{3}{4} \]", r"\[ x = \frac{3}{4} \]"),
        ("The final answer is\n\\[\n\\frac{3}{4}\n\\]\nI hope it is right.", r"\frac{3}{4}"),
        ("Hence $x = 3$ or $x=-2$.", "x = 3,x=-2"),
        ("The answer is 42!", "42"),
        ("The answer is 2*sqrt(3)", "2*sqrt(3)"),
        ("answer is (C) because 4 > 3", "C"),
        ("答案是7，因为 3+4=7，而不是 8。", "7"),
        ("Ответ: 7", "7"),
        ("so\n#### x^2", "x^2"),
        ("It is $1.5 million in all", "$1.5 million"),
        ("We need 3 1/2 cups", "3 1/2"),
        ("We need 3½ cups", "3½"),
        ("In total 1.234,5 euros or so", "1.234,5"),
        ("In total 1 234 567 euros", "1 234 567"),
        ("It is about 5 × 10^3 metres", "5 × 10^3"),
        ("no idea at all about this one, sorry, it is too hard for somebody like me", None),
        ("", None),
    ],
)
def test_where_the_answer_stands(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("ours", "gold"),
    [
        ("18", "18"), ("18.0", "18"), ("0018", "18"), ("+5", "5"), ("−5", "-5"), ("- 5", "-5"), (".5", "0.5"),
        ("1,234", "1234"), ("1{,}234", "1234"), ("1 234", "1234"), ("10,5", "10.5"), ("18.", "18"), ("$18$", "18"),
        ("$18", "18"), (r"\$1,234.50", "1234.5"), ("-$5", "-5"), ("$-5", "-5"), ("€5", "5"), ("9%", "9"), ("9%",
        "0.09"),
        ("12.5%", "1/8"), (r"50\%", "50%"), ("5 percent", "5%"), ("2/4", "1/2"), ("1/3", "0.333333"), ("-1/2", "-0.5"),
        (r"\frac{1}{2}", "0.5"), (r"\dfrac12", "1/2"), (r"-\frac{1}{2}", r"\frac{-1}{2}"), ("3 1/2", "3.5"),
        (r"3\frac{1}{2}", "7/2"), ("1e5", "100000"), (r"1.5 \times 10^{3}", "1500"), (r"45^\circ", "45°"), ("18 eggs",
        "18"),
        ("5cm", "5"), (r"5\text{ cm}^2", "5"), ("5 million", "5,000,000"), ("90 minutes", "1.5 hours"), ("x = 5", "5"),
        ("5", "x=5"), ("3 + 2 = 5", "5"), (r"\text{Monday}", "monday"), ("6:30", "6:30"), ("150 cents", r"\$1.50"),
        ("1" * 5000, "1" * 5000), ("½", "0.5"), ("3½", "7/2"), (r"0.\overline{3}", "1/3"), ("1.234,5", "1234.5"),
        ("1.000.000", "1,000,000"), ("1'234'567", "1234567"), ("1~234", "1234"), ("1\u202f234", "1234"),
        ("1e-3", "10^{-3}"), ("3000 m", "3 km"), ("36 km/h", "10 m/s"), ("5 m²", r"5\text{ square meters}"),
        (r"5\ \mathrm{m\,s^{-1}}", r"5\text{ m/s}"), (r"42^\circ\text{C}", "42"), (r"\approx 42", "42"),
        ("__42__", "42"),
        ("12 in", "1 ft"), ("18 dollars per day", "$18"), ("60 mph", "1 mile per minute"), ("(B) 5", "B"),
    ],
)  # fmt: skip
def test_equal(ours: str, gold: str) -> None:
    assert same_answer(ours, gold) == same_answer(gold, ours) == 1


@pytest.mark.parametrize(
    ("ours", "gold"),
    [
        ("18", "19"), ("-5", "5"), ("0.33", "1/3"), ("1.23", "123"), (r"5\text{ cm}", r"5\text{ m}"), ("5 hours",
        "5 meters"),
        ("0.0000001", "0.0000002"), ("Monday", "Tuesday"), ("1/0", "0"), ("9%", "900"), ("3 and 2", "3"), ("2xy", "2"),
        ("x=5", "y=5"), ("6:30", "6:45"), ("1" * 250, "1" * 249 + "2"), ("12", "1 2 x"), ("unknown", "18"),
        ("10 cm", "10 m"), ("10 kg", "10 g"), ("5 m/s", "5 km/h"), ("5 m^2", "5 cm^2"), ("5 ms", "5 m"),
        ("30°C", "30°F"),
        ("x=3, x=4, x=5", "5"), ("x=1 or x=2", "2"), (r"x=1 \text{ or } x=2", "2"), ("1.234", "1234"),
        ("Monday", "yadnoM"), ("No", "on"),
        ("(B) 5", "C"),
        (r"17\text{ 23}", "17"),
    ],
)  # fmt: skip
def test_not_equal(ours: str, gold: str) -> None:
    pytest.importorskip("math_verify")
    assert same_answer(ours, gold) == same_answer(gold, ours) == 0


@given(st.integers(-(10**17), 10**17), st.integers(0, 10**6), st.integers(2, 9))
def test_a_number_is_itself_however_it_is_written(number: int, other: int, k: int) -> None:
    ways = [
        f"{number:,}", f"{number}.0", f"${number}$", f"{number} apples", f"{number}/1", rf"\frac{{{number}}}{{1}}",
        rf"\text{{{number}}}", rf"\frac{{{number * k}}}{{{k}}}", f"{number:,}".replace(",", " "),
        rf"{number}\text{{ units}}",
        f"{number:,}".replace(",", "'"), f"{number:,}".replace(",", "{,}"), f"{number:,}".replace(",", ".") + ",0",
        f"{number}e0", rf"{number} \times 10^{{0}}", f"−{-number}" if number < 0 else f"+{number}",
    ]  # fmt: skip
    assert [way for way in ways if same_answer(way, str(number)) != 1 or same_answer(ways[k], way) != 1] == []
    assert [way for way in ways if same_answer(way, str(number + other)) != (other == 0)] == []


@given(st.integers(0, 999), st.integers(1, 98), st.integers(2, 99), st.booleans())
def test_a_mixed_number_in_every_form(whole: int, top: int, bottom: int, negative: bool) -> None:
    sign, sum_ = "-" if negative else "", whole * bottom + top
    forms = [
        f"{sign}{whole} {top}/{bottom}", rf"{sign}{whole}\frac{{{top}}}{{{bottom}}}", f"{sign}{sum_}/{bottom}",
        rf"{sign}{whole}\tfrac{{{top}}}{{{bottom}}}", rf"{sign}\frac{{{sum_}}}{{{bottom}}}",
    ]  # fmt: skip
    read = [plain(form) for form in forms]
    assert {each and each.value for each in read} == {Fraction(sum_, bottom) * (-1 if negative else 1)}


FORMULAS = [
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", 1), (r"\sqrt{2}", r"\sqrt{3}", 0), (r"\{1,2,3\}", r"\{3,2,1\}", 1),
    ("(1,2)", "(2,1)", 0), ("(1,2)", "(1, 2)", 1), ("x^2+2x+1", "(x+1)^2", 1), ("x^2+2x+1", "(x+2)^2", 0),
    (r"2\pi", "6.28", 0), (r"\pi/4", r"\frac{\pi}{4}", 1), (r"x \leq 5", r"5 \geq x", 1), (r"(-\infty, 3)",
    r"(-\infty,3]", 0),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", 1),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}", 0),
    ("2^{10}", "1024", 1), (r"\log_2 8", "3", 1), ("3+4i", "4i+3", 1), ("5!", "120", 1), (r"\binom{5}{2}", "10", 1),
    ("y = 2x+3", "2x+3", 1), ("a^2-b^2", "(a-b)(a+b)", 1), (r"\frac{x}{y}", "x/y", 1), (r"\frac{a}{b}",
    r"\frac{a}{c}", 0),
    (r"\frac{1}{2}\pi", r"\frac{\pi}{2}", 1), (r"\frac{1}{3}x^3", r"\frac{x^3}{3}", 1),
    (r"\frac{1}{2}\pi", r"\frac{1}{2\pi}", 0),
    ("1,2", "x=1, x=2", 1), (r"\{1,2\}", r"x=1 \text{ or } x=2", 1), ("(4,2)", r"x = 4 \text{ and } y = 2", 1),
     ("A, C", "C, A", 1), ("ba", "ab", 1), (r"|x|", r"\lvert x\rvert", 1), ("π", r"\pi", 1),
    (r"12\sqrt{3}", r"\sqrt{432}", 1), (r"\infty", r"-\infty", 0), (r"\frac{1}{x+1}", "(x+1)^{-1}", 1), ("9x^2",
    "(3x)^2", 1),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "ours", "verdict"), FORMULAS)
def test_formulas_have_the_verdict_of_math_verify(gold: str, ours: str, verdict: int) -> None:
    library = pytest.importorskip("math_verify")
    assert library.verify(library.parse(f"${gold}$"), library.parse(rf"\boxed{{{ours}}}")) == bool(verdict)
    assert value(rf"It is \boxed{{{ours}}}.", gold) == verdict


def test_other_threads_have_the_same_verdicts() -> None:
    pytest.importorskip("math_verify")
    verdicts: list[float] = []
    thread = threading.Thread(target=lambda: verdicts.extend(value(rf"\boxed{{{o}}}", g) for g, o, _ in FORMULAS))
    thread.start()
    thread.join()
    assert verdicts == [verdict for *_, verdict in FORMULAS]


HOSTILE = [
    "9**9**9", r"\boxed{9^{9^{9}}}", r"\boxed{9**9**9}", r"\boxed{(9^9)^{9^9}}", r"\boxed{9^{9\cdot 9^9}}",
    "1" * 100_000,
    r"\boxed{" + "1" * 100_000 + "}", r"\boxed{" + "(" * 150 + "1" + ")" * 150 + "}", r"\boxed{100000!}",
    r"\boxed{3!!!!}",
    r"\boxed{((5!)!)!}", r"\boxed{((10^{100})^{100})^{100}}", r"\boxed{2^{-999999999}}",
    r"\boxed{\binom{100000}{50000}}",
    r"\boxed{\sum_{k=1}^{1000000} k}", r"\boxed{(x+y+z+w)^{200}}", r"\boxed{\int_0^1 e^{-x^2}\sin(x^3) dx}",
    r"\boxed{\sin^{100}(x)}", r"\boxed{" + "a^" * 30 + "a}", r"\boxed{e^{e^{e^{e}}}}", r"\boxed{" * 5000,
    "<answer>" * 5000,
    "$" * 5000, "a: " * 3000, "answer is " * 3000, "answer to " * 3000, "-" * 5000, "{" * 100_000, r"\boxed{1e999999}",
    "1,111" * 5000, r"\(" * 3000, "A:" + " " * 50_000, "\n" * 50_000 + "A:", "> " * 20_000, "\0" * 100, "²",
    r"\frac{1}{0}",
    r"\boxed{__import__('os').system('false')}",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_are_wrong_and_soon_told_so(text: str) -> None:
    pytest.importorskip("math_verify")
    before = time.process_time()
    assert value(text, "7") == value(text, r"\frac{\pi}{2}") == 0
    assert time.process_time() - before < 10  # a hang is what this looks for


def test_sizes_are_told_without_computing() -> None:
    honest = [
        r"e^{-\frac{(x-\mu)^2}{2\sigma^2}}",
        "2^{2023}",
        "x^{2023}",
        r"\frac{5!}{3!2!}",
        "(x+1)^{20}",
        "2^{2^{3}}",
        "(2n)!",
    ]
    assert all(is_small(formula, 300) for formula in honest)
    huge = [
        "9^9^9",
        "9^{9^{9}}",
        "(3^{9999})^{9}",
        "2^{100000}",
        "5000!",
        "(a+b+c)^{99}",
        "(" * 20 + ")" * 20,
        "x" * 301,
    ]
    assert not any(is_small(formula, 300) for formula in huge)


def test_a_gold_that_is_no_answer_is_not_scored() -> None:
    pytest.importorskip("math_verify")
    for gold in ("", "  ", "nan", r"\frac{1}{", "9^{9^{9}}"):
        scores = score_one(math_correct, completion=r"\boxed{x+1}", answer=gold)
        assert math.isnan(scores.values[0]) and scores.status is not None and scores.status[0] == Status.UNPARSED
    assert value("", "18") == value("I cannot tell", "18") == 0


@pytest.mark.parametrize("gold", [None, math.nan], ids=repr)
def test_without_a_gold_it_does_not_apply(gold: object) -> None:
    scores = score_one(math_correct, completion="A: 1", answer=gold)
    assert math.isnan(scores.values[0]) and scores.status is not None and scores.status[0] == Status.NOT_APPLICABLE


@pytest.mark.parametrize("gold", [["18"], {"answer": "18"}, b"18"], ids=repr)
def test_a_gold_of_another_type_is_refused(gold: object) -> None:
    with pytest.raises(SteelyardError, match="must be a text or a number"):
        value("A: 18", gold)


def test_symbols_that_math_verify_cannot_read() -> None:
    pytest.importorskip("math_verify")
    same = [
        ("√2", r"\sqrt{2}"), (r"\{x \mid 0 \leq x\}", r"\{x|0\le x\}"), ("x²+1", "x^2+1"), ("∞", r"\infty"),
        (r"\varnothing", "∅"),
        ("sqrt(3)/2", r"\frac{\sqrt{3}}{2}"),
        (r"\log_e 2", r"\ln 2"), (r"\frac ab", "a/b"), (r"\lbrace 1,2\rbrace", r"\{2,1\}"), ("b + a + c", "a+b+c"),
    ]  # fmt: skip
    assert [same_answer(*pair) for pair in same] == [same_answer(*pair[::-1]) for pair in same] == [1] * len(same)


def test_golds_may_be_numbers_or_worked_solutions() -> None:
    assert value("A: 18", np.int64(18)) == value("A: 18", np.float32(18)) == value("A: 18", Decimal("18.0")) == 1
    assert value("A: 18", 18) == value("A: 18", 18.0) == value("A: 18", "9 * 2 = 18\nA: 18") == 1
    assert value("A: 18", "so\n#### 18") == value("A: 18", r"Thus \boxed{18}.") == 1


def test_only_the_end_of_a_long_text_is_read() -> None:
    assert final_answer("A: 5\n" + "so it goes on and on. " * TAIL) is None
    assert value("filler text " * 100_000 + "\nA: 5", 5) == 1


def test_without_math_verify_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from steelyard.rewards import mathematics

    monkeypatch.setitem(sys.modules, "math_verify", None)
    mathematics._library.cache_clear()
    assert value("A: 18", "18") == 1
    with pytest.raises(SteelyardError, match=r"steelyard\[math\]"):
        value(r"\boxed{(x+1)^2}", "x^2+2x+1")
    mathematics._library.cache_clear()


@pytest.mark.skipif(not GSM8K.exists(), reason="shared/data is not beside this checkout")
def test_published_verdicts_on_gsm8k() -> None:
    with gzip.open(GSM8K, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    judged = [value(row["solution"], row["ground_truth"]) for row in rows]
    assert [row["id"] for row, ours in zip(rows, judged, strict=True) if ours != row["is_correct"]] == []
    assert len(rows) == 2640


def test_units_and_algebra_are_told_apart() -> None:
    assert plain("18 dollars per day") is not None and plain("12 oz") is not None
    assert plain("2x") is plain("5 pi") is plain("3 sqrt 2") is plain("5 or 6") is plain("2xy") is None


@pytest.mark.parametrize("completion", ["It is 42.", "So 42", "x is 42", "It is $42$.", "we get to 42"])
def test_a_short_sentence_is_read_for_its_number(completion: str) -> None:
    assert score_one(math_correct, completion=completion, answer="42").values[0] == 1.0


@pytest.mark.parametrize(("completion", "answer"), [("x = 1 or x = 2", "1"), ("ab", "b")])
def test_a_short_formula_stays_whole(completion: str, answer: str) -> None:
    assert score_one(math_correct, completion=completion, answer=answer).values[0] == 0.0
