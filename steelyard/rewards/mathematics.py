r"""Whether a mathematical answer is right: plain numbers by exact arithmetic, everything else by math-verify."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import re
import threading
from fractions import Fraction
from typing import Any, NamedTuple

from steelyard.rewards.core import reward
from steelyard.rewards.final_answers import final_answer, last_box, told
from steelyard.rewards.formula_size import is_small
from steelyard.types import Status, SteelyardError, Verdict

DECIMALS = 6
"""Decimals are equal when they agree after rounding to so many places, as in math-verify."""

LONGEST = 300
"""Characters of an answer; a longer one is equal to itself only."""

SECONDS = 5
"""What math-verify may take for one answer where the main thread asks; elsewhere only the limits of size hold."""


class Plain(NamedTuple):
    """A number as it was written: `per_cent` and `unit` ("" if none is known) stand beside its value."""

    value: Fraction | int
    decimal: bool = False
    per_cent: bool = False
    unit: str = ""


_INTEGER = re.compile(r"-?\d{1,18}")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:\ \d{3})+|\d+)"
_PLAIN = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:(?P<money>[$€£¥₹])\s*(?P<inner>-?))?
    (?:(?P<whole>\d+)\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)
      |(?P<numerator>{_DIGITS})\s*/\s*(?P<denominator>-?{_DIGITS})
      |(?P<integer>{_DIGITS})?(?P<decimal>(?<=\d)\.\d*|\.\d+)?
       (?:[eE](?P<e>[-+]?\d{{1,3}})|\s*(?:\\times|\\cdot|×|\*)\s*10\^\{{?(?P<power>-?\d{{1,3}})\}}?)?)
    \s*(?P<cent>%|percent\b|per\ cent\b|pct\b)?\s*
    (?P<unit>°|[$€£¥₹]|~[^\\]*|[A-Za-z][A-Za-z .]*(?:/\s*[A-Za-z]+)?(?:\^\{{?[23]\}}?|[²³])?)?\.?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"(?:(?<![\d.}])(\d+)\s*)?\\frac\s*(?:\{\s*(-?)\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|()(\d)\s*(\d))")
_SPACES = re.compile(r"(?<!\\)\\[!,;: ]|\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])|(?<!\\)~")
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b")
_COMMA = re.compile(r"(-?\d+),(\d+)")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_FORMULA = re.compile(r"[\\\d^+*/=(){}\[\]]|^[A-Za-z]$")
_LOOSE_SPACE = re.compile(r"(?<!\d) | (?!\d)")

_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NO_UNIT_TEXT = """
and or to by plus minus times over divided squared cubed factorial remainder mod base choose infinity not sqrt pi sin
cos tan cot sec csc log ln exp root than through but if dozen half percent where when
"""
_NO_UNIT = frozenset(_NO_UNIT_TEXT.split())
_SHORT_UNITS_TEXT = "mm cm dm km mg kg lb oz ft yd mi ml cl hr hrs ms am pm mph kmh in of per a an the"
_SHORT_UNITS = frozenset(_SHORT_UNITS_TEXT.split())


def _sizes(**dimensions: str) -> dict[str, tuple[str, Fraction]]:
    """Unit to (dimension, size) from lines of `names=size`."""
    return {
        name: (dimension, Fraction(size))
        for dimension, lines in dimensions.items()
        for line in lines.split()
        for names, size in [line.split("=")]
        for name in names.split(",")
    }


_UNITS = _sizes(
    length="mm=1/1000 cm,centimeter,centimetre=1/100 m,meter,metre=1 km,kilometer,kilometre=1000 inch,inches=127/5000 "
    "ft,foot,feet=381/1250 yd,yard=1143/1250 mi,mile=201168/125",
    mass="mg=1/1000000 g,gram=1/1000 kg,kilogram=1 oz,ounce=45359237/1600000000 lb,pound=45359237/100000000",
    time="s,sec,second=1 min,minute=60 h,hr,hour=3600 day=86400 week=604800",
    volume="ml,mL,milliliter,millilitre=1/1000 l,L,liter,litre=1",
    money="cent=1/100 dollar,$=1",
)


@reward
def math_correct(completion: str, answer: str | float) -> float | Verdict:
    r"""1 iff the final answer of a completion equals the gold answer, else 0.

    The answer is found by `final_answers.final_answer`; without one the value is 0. The gold is a bare answer or a
    worked solution with one. Numbers (signs, thousands separators, decimals, percents, currency, fractions, mixed
    numbers, powers of ten, words for units) are compared exactly; decimals after rounding to 6 places; p% equals p and
    p/100; a unit counts only where both sides name one that is known: 90 min equals 1.5 hours, 5 cm is not 5 m. The
    rest is compared by math-verify, which sees no text longer than 300 characters and no formula whose value would be
    huge: such an answer is 0.

    A gold that is no answer is NaN with status `UNPARSED`; a comparison that takes too long is NaN with `TIMED_OUT`.

    Raises:
        SteelyardError: if an answer needs math-verify and it is not installed.
    """
    gold = _gold_text(str(answer))
    if not gold or gold.lower() in ("nan", "none", "null"):
        return Verdict(math.nan, Status.UNPARSED, f"the gold {answer!r:.80} holds no answer")
    ours = final_answer(completion)
    if not ours:
        return 0.0
    return same_answer(ours, gold)


@functools.lru_cache(maxsize=4096)
def _gold_text(answer: str) -> str:
    """The bare answer in a gold column, which may hold a whole worked solution."""
    text = answer.strip()
    if _INTEGER.fullmatch(text) or plain(text) is not None:
        return text
    box = last_box(text)[0]
    if box is not None:
        return box
    return told(text) or (text if "\n" not in text else final_answer(text) or "")


def same_answer(ours: str, gold: str) -> float | Verdict:
    """1 iff two bare answers are equal. See `math_correct`."""
    if ours == gold:
        return 1.0
    left, right = _without_name(ours, gold)
    a, b = plain(left), plain(right)
    if a is not None and b is not None:
        return float(same_number(a, b))
    left, right = _text(left), _text(right)
    if _LOOSE_SPACE.sub("", left) == _LOOSE_SPACE.sub("", right) or _same_with_comma(left, right):
        return 1.0
    if not (_FORMULA.search(left) and _FORMULA.search(right)):
        return float(len(left) > 1 and left.casefold() == right.casefold())
    return _by_math_verify(left, right)


def _without_name(ours: str, gold: str) -> tuple[str, str]:
    """Both sides without `x =` where only one has it, or both have the same."""
    left, right = _EQUALS.split(ours), _EQUALS.split(gold)
    if len(left) == len(right) == 1:
        return ours, gold
    if len(right) == 1 and "," not in left[0]:
        return left[-1], gold
    if len(left) == 1 and len(right) == 2 and "," not in gold:
        return ours, right[-1]
    if len(left) == len(right) == 2 and _text(left[0]) == _text(right[0]):
        return left[1], right[1]
    return ours, gold


@functools.lru_cache(maxsize=8192)
def plain(text: str) -> Plain | None:
    """The number that a text is, or None where it is more than a number with a unit."""
    if _INTEGER.fullmatch(text):
        return Plain(int(text))
    if len(text) > LONGEST:
        return None
    text = _tidy(text)
    found = _PLAIN.fullmatch(text)
    if found is None or (found["sign"] and found["inner"]):
        return None
    unit = _unit(found["unit"] or "", attached=not found["unit"] or text[found.start("unit") - 1].isdigit())
    value = _value(found)
    if value is None or unit is None:
        return None
    name, scale = unit[0] or ("$" if found["money"] == "$" else ""), unit[1]
    signed = -value if found["sign"] == "-" or found["inner"] == "-" else value
    return Plain(signed * scale, bool(found["decimal"]), bool(found["cent"]), name)


def _value(found: re.Match[str]) -> Fraction | int | None:
    """What the digits of a match say, without its sign; None without digits or with a zero below."""
    if found["top"]:
        whole, top, bottom = int(found["whole"]), int(found["top"]), int(found["bottom"])
        return Fraction(whole * bottom + top, bottom) if bottom else None
    if found["numerator"]:
        top, bottom = _integer(found["numerator"]), _integer(found["denominator"])
        return Fraction(top, bottom) if bottom else None
    if not found["integer"] and not found["decimal"]:
        return None
    digits = (found["decimal"] or ".")[1:]
    value: Fraction | int = _integer(found["integer"] or "0")
    if digits:
        value = Fraction(value * 10 ** len(digits) + int(digits), 10 ** len(digits))
    power = int(found["e"] or found["power"] or 0)
    return value if not power else value * Fraction(10) ** power


def _integer(digits: str) -> int:
    return int(digits.replace(",", "").replace(" ", ""))


def _unit(text: str, *, attached: bool) -> tuple[str, int] | None:
    """(Known unit or "", scale) of what stands behind a number; None where it may be algebra."""
    words = text.lstrip("~").replace(".", " ").split()
    scale = 1
    while words and words[0].lower() in _SCALES:
        scale *= _SCALES[words.pop(0).lower()]
    if not words or text[0] in "°$€£¥₹":
        return ("$" if text == "$" else ""), scale
    if text[0] != "~":
        stems = [re.split(r"[/^²³]", word)[0].lower() for word in words]
        if any(stem in _NO_UNIT or (len(stem) < 3 and stem not in _SHORT_UNITS) for stem in stems):
            return None
        if attached and stems[0] not in _SHORT_UNITS:
            return None
    elif any(word.lower() in _NO_UNIT for word in words):
        return None
    return (_known(words[0]) if len(words) == 1 else ""), scale


def _known(word: str) -> str:
    for name in (word, word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")):
        if name in _UNITS:
            return name
    return ""


def same_number(a: Plain, b: Plain) -> bool:
    """Whether two numbers are equal as `math_correct` says."""
    left, right, decimal = a.value, b.value, a.decimal or b.decimal
    if a.unit and b.unit and a.unit != b.unit:
        (kind, size), (other, other_size) = _UNITS[a.unit], _UNITS[b.unit]
        if kind != other:
            return False
        left, right = left * size, right * other_size
    if _close(left, right, decimal):
        return True
    if a.per_cent == b.per_cent:
        return False
    hundredth = Fraction(1, 100)
    left, right = (left * hundredth, right) if a.per_cent else (left, right * hundredth)
    return _close(left, right, decimal)


def _close(left: Fraction | int, right: Fraction | int, decimal: bool) -> bool:
    """Equal; for decimals to `DECIMALS` places, and numbers that would round to 0 to as many digits."""
    if left == right or not decimal:
        return left == right
    a, b = round(left, DECIMALS), round(right, DECIMALS)
    if a or b:
        return a == b
    return abs(left - right) * 10**DECIMALS <= max(abs(Fraction(left)), abs(Fraction(right)))


def _tidy(text: str) -> str:
    """A short text without what changes only its looks."""
    text = _unwrapped(text.strip()).replace("−", "-").replace("–", "-").replace("{,}", ",")
    if "\\" not in text:
        return text
    text = _SPACES.sub("", text).replace("\\$", "$").replace("\\%", "%")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    text = _DEGREES.sub("°", _TEXT.sub(r" ~\1", text))
    return _FRACTION.sub(_as_division, text).strip()


def _as_division(found: re.Match[str]) -> str:
    whole, minus, top, bottom = found[1], found[2] or "", found[3] or found[6], found[4] or found[7]
    before, behind = found.string[: found.start()].strip(), found.string[found.end() :].lstrip()
    if before not in ("", "-", "+", "$") or behind.startswith("^"):
        return found.group()
    if whole:
        return found.group() if minus else f"{whole} {top}/{bottom}"
    return f"{minus}{top}/{bottom}"


_WRAPS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))


def _unwrapped(text: str) -> str:
    changed = True
    while changed:
        changed = False
        for opening, closing in _WRAPS:
            inside = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inside.strip():
                text, changed = inside.strip(), True
    return text


def _text(text: str) -> str:
    """A formula's text for comparing and for math-verify: tidy, single spaces, no full stop."""
    if len(text) > LONGEST:
        return text.strip()
    return " ".join(_tidy(text).replace("~", "").replace("**", "^").split()).rstrip(".")


def _same_with_comma(left: str, right: str) -> bool:
    """Whether two texts are the same number when a comma that separates no thousands is a decimal one."""
    if "," not in left + right:
        return False
    a, b = plain(_COMMA.sub(r"\1.\2", left)), plain(_COMMA.sub(r"\1.\2", right))
    return a is not None and b is not None and same_number(a, b)


def _by_math_verify(ours: str, gold: str) -> float | Verdict:
    """What math-verify says of two formulas, within limits."""
    library = _library()
    if not is_small(gold, LONGEST):
        return Verdict(math.nan, Status.UNPARSED, f"the gold {gold!r:.80} is too large to compare")
    limit = SECONDS if threading.current_thread() is threading.main_thread() else None
    try:
        truth = _parsed(gold, limit)
        if not truth:
            return Verdict(math.nan, Status.UNPARSED, f"math-verify cannot read the gold {gold!r:.80}")
        if not is_small(ours, LONGEST):
            return 0.0
        answer = _parsed(ours, limit)
        return float(bool(answer) and library.verify(truth, answer, timeout_seconds=limit, raise_on_error=True))
    except library.errors.TimeoutException:
        return Verdict(math.nan, Status.TIMED_OUT, f"comparing with the gold {gold!r:.80} took over {SECONDS} s")
    except Exception:  # sympy fails in many ways on formulas that make no sense: they are not equal
        return 0.0


@functools.lru_cache(maxsize=4096)
def _parsed(formula: str, limit: int | None) -> list[Any]:
    """math-verify's reading of a formula; empty where it has none."""
    library = _library()
    targets = (library.LatexExtractionConfig(boxed_match_priority=0),)
    try:
        found: list[Any] = library.parse(
            f"\\boxed{{{formula}}}", targets, fallback_mode="no_fallback", parsing_timeout=limit, raise_on_error=True
        )
    except library.errors.TimeoutException:
        raise
    except Exception:  # whatever a parser trips over in a model's text: it has no reading
        return []
    return found


@functools.cache
def _library() -> Any:
    try:
        library = importlib.import_module("math_verify")
        importlib.import_module("math_verify.errors")
    except ImportError:
        what = "this answer is no plain number and needs math-verify"
        raise SteelyardError(f"{what}; install it with: pip install 'steelyard[math]'") from None
    for module in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(module).setLevel(logging.CRITICAL)
    return library
