"""Numbers as people write them (`1,234.50`, `3 1/2`, `12%`, `$5`, `1.5 million`, `90 min`), and when two are equal."""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple

from steelyard.rewards.formula_text import tidy
from steelyard.rewards.units import LETTERS, Unit, unit_of

DECIMALS = 6
"""Decimals are equal when they agree after rounding to so many places, as in math-verify."""

LONGEST = 300
"""Characters of an answer; a longer one is equal to itself only."""


class Plain(NamedTuple):
    """A number as it was written: `per_cent` and `unit` (None if none is known) stand beside its value."""

    value: Fraction | int
    decimal: bool = False
    per_cent: bool = False
    unit: Unit | None = None


_INTEGER = re.compile(r"-?\d{1,18}")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:\ \d{3})+|\d{1,3}(?:'\d{3})+|\d+)"
_UNIT_WORD = r"[A-Za-z][A-Za-z .]*(?:\^\{?-?[1-3]\}?)?"
_PLAIN = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:(?P<money>[$€£¥₹])\s*(?P<inner>-?))?
    (?:(?P<whole>\d+)\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)
      |(?P<numerator>{_DIGITS})\s*/\s*(?P<denominator>-?{_DIGITS})
      |10\^\{{?(?P<ten>-?\d{{1,3}})\}}?
      |(?P<integer>{_DIGITS})?(?P<decimal>(?<=\d)\.\d*|\.\d+)?
       (?:[eE](?P<e>[-+]?\d{{1,3}})|\s*(?:\\times|\\cdot|\*)\s*10\^\{{?(?P<power>-?\d{{1,3}})\}}?)?)
    \s*(?P<cent>%|percent\b|per\ cent\b|pct\b)?\s*
    (?P<unit>°\s*~?\s*[CF]?(?![A-Za-z])|[$€£¥₹]|~[^\\]*|{_UNIT_WORD}(?:\s*/\s*{_UNIT_WORD})?)?\.?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"(?:(?<![\d.}])(\d+)\s*)?\\frac\s*(?:\{\s*(-?)\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|()(\d)\s*(\d))")
_DOTTED = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d+)(?![\d.,])|(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![\d.,])")
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?")

_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NO_UNIT_TEXT = """
and or to by plus minus times over divided squared cubed factorial remainder mod base choose infinity not sqrt pi sin
cos tan cot sec csc log ln exp root than through but if dozen half percent where when
"""
_NO_UNIT = frozenset(_NO_UNIT_TEXT.split())
_SHORT_UNITS_TEXT = "mm cm dm km mg kg lb oz ft yd mi ml cl hr hrs ms am pm mph kmh in of per a an the"
_SHORT_UNITS = frozenset(_SHORT_UNITS_TEXT.split())


@functools.lru_cache(maxsize=8192)
def plain(text: str, *, letters: bool = False) -> Plain | None:
    """The number that a text is, or None where it is more than a number with a unit.

    Args:
        text: of an answer.
        letters: whether a letter alone may be a unit (`10 m`) rather than algebra.
    """
    if _INTEGER.fullmatch(text):
        return Plain(int(text))
    if len(text) > LONGEST:
        return None
    text = _with_divisions(tidy(text)).lstrip("~ ")
    found = _PLAIN.fullmatch(text)
    if found is None or (found["sign"] and found["inner"]):
        return None
    attached = not found["unit"] or text[found.start("unit") - 1].isdigit()
    unit = _unit(found["unit"] or "", attached=attached, letters=letters)
    value = _value(found)
    if value is None or unit is None:
        return None
    name, scale = unit[0] or (unit_of("$") if found["money"] == "$" else None), unit[1]
    signed = -value if found["sign"] == "-" or found["inner"] == "-" else value
    return Plain(signed * scale, bool(found["decimal"]), bool(found["cent"]), name)


def _with_divisions(text: str) -> str:
    r"""A tidy text in which `\frac{1}{2}`, `0.\overline{3}` and `1.234,5` are written with a bar and with a point."""
    if "." in text:
        text = _REPEATING.sub(_repeating, _DOTTED.sub(_without_dots, text))
    return _FRACTION.sub(_as_division, text).strip() if "\\" in text else text


def _without_dots(found: re.Match[str]) -> str:
    whole, decimals = (found[1], f".{found[2]}") if found[1] else (found[3], "")
    return whole.replace(".", "") + decimals


def _repeating(found: re.Match[str]) -> str:
    whole, fixed, repeated = found[1] or "0", found[2], found[3]
    top = int(whole + fixed + repeated) - int(whole + fixed)
    return f"{top}/{10 ** (len(fixed) + len(repeated)) - 10 ** len(fixed)}"


def _as_division(found: re.Match[str]) -> str:
    whole, minus, top, bottom = found[1], found[2] or "", found[3] or found[6], found[4] or found[7]
    before, behind = found.string[: found.start()].strip(), found.string[found.end() :].lstrip()
    if before not in ("", "-", "+", "$") or behind.startswith("^"):
        return found.group()
    if whole:
        return found.group() if minus else f"{whole} {top}/{bottom}"
    return f"{minus}{top}/{bottom}"


def _value(found: re.Match[str]) -> Fraction | int | None:
    """What the digits of a match say, without its sign; None without digits or with a zero below."""
    if found["top"]:
        whole, top, bottom = int(found["whole"]), int(found["top"]), int(found["bottom"])
        return Fraction(whole * bottom + top, bottom) if bottom else None
    if found["numerator"]:
        top, bottom = _integer(found["numerator"]), _integer(found["denominator"])
        return Fraction(top, bottom) if bottom else None
    if found["ten"]:
        return Fraction(10) ** int(found["ten"])
    if not found["integer"] and not found["decimal"]:
        return None
    digits = (found["decimal"] or ".")[1:]
    value: Fraction | int = _integer(found["integer"] or "0")
    if digits:
        value = Fraction(value * 10 ** len(digits) + int(digits), 10 ** len(digits))
    power = int(found["e"] or found["power"] or 0)
    return value if not power else value * Fraction(10) ** power


def _integer(digits: str) -> int:
    return int(re.sub("[,' ]", "", digits))


def _unit(text: str, *, attached: bool, letters: bool) -> tuple[Unit | None, int] | None:
    """(Known unit or None, scale) of what stands behind a number; None where it may be algebra."""
    if text[:1] in ("°", "$", "€", "£", "¥", "₹"):
        return unit_of(re.sub(r"[\s~]", "", text)), 1
    words = text.lstrip("~").replace(".", " ").split()
    scale = 1
    while words and words[0].lower() in _SCALES:
        scale *= _SCALES[words.pop(0).lower()]
    if not words:
        return None, scale
    named = " ".join(words)
    if text[0] != "~":
        stems = [stem for word in words for stem in re.split(r"[/^{}\d-]+", word) if stem]
        if any(_may_be_algebra(stem, letters) for stem in stems):
            return None
        if attached and not letters and stems[0].lower() not in _SHORT_UNITS:
            return None
    elif unit_of(named) is None and any(word.lower() in _NO_UNIT or word[0].isdigit() for word in words):
        return None
    return unit_of(named), scale


def _may_be_algebra(stem: str, letters: bool) -> bool:
    if letters and stem in LETTERS:
        return False
    word = stem.lower()
    return (word in _NO_UNIT and word not in ("squared", "cubed")) or (len(word) < 3 and word not in _SHORT_UNITS)


def same_number(a: Plain, b: Plain) -> bool:
    """Whether two numbers are equal as `math_correct` says."""
    left, right, decimal = a.value, b.value, a.decimal or b.decimal
    if a.unit and b.unit and a.unit != b.unit:
        if a.unit.kind != b.unit.kind:
            return False
        left, right = left * a.unit.size, right * b.unit.size
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
