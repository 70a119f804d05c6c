r"""Units of measurement: what is measured and how large it is, so that 90 min are 1.5 hours and 5 cm are not 5 m."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """What a unit measures, as powers of dimensions (`length`, `length^2`, `length time^-1`), and its size."""

    kind: str
    size: Fraction


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
    length="mm,millimeter,millimetre=1/1000 cm,centimeter,centimetre=1/100 m,meter,metre=1 km,kilometer,kilometre=1000 "
    "in,inch,inches=127/5000 ft,foot,feet=381/1250 yd,yard=1143/1250 mi,mile=201168/125",
    mass="mg,milligram=1/1000000 g,gram=1/1000 kg,kilogram=1 oz,ounce=45359237/1600000000 lb,pound=45359237/100000000",
    time="ms,millisecond=1/1000 s,sec,second=1 min,minute=60 h,hr,hour=3600 day=86400 week=604800",
    money="cent=1/100 dollar,$=1",
    celsius="°C=1",
    fahrenheit="°F=1",
)
_LITRES = _sizes(volume="ml,mL,milliliter,millilitre=1/1000000 l,L,liter,litre=1/1000")
_SPEEDS = {"mph": ("mi", "h"), "kmh": ("km", "h"), "kph": ("km", "h")}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "squared": 2, "cubed": 3}
_TOKEN = re.compile(r"\^\{?(-?\d)\}?|(°?[A-Za-z]+|\$|°)|([/·*])|\S")
_RATE = re.compile(r"(\$|dollars?|cents?)\s*(?:/|\b(?:per|an?|each|every)\b).*", re.DOTALL)

LETTERS = frozenset("mgshlL")
"""Units of one letter, which are read as such only beside another unit: 10 m may be algebra."""


def unit_of(text: str) -> Unit | None:
    """The unit that a text names, or None. A price for something (`dollars per day`) is a price."""
    if _RATE.match(text):
        text = _RATE.sub(r"\1", text)
    powers: Counter[str] = Counter()
    size, sign, ahead = Fraction(1), 1, 1
    last: tuple[dict[str, int], Fraction, int] | None = None
    for power, word, operator in _TOKEN.findall(text):
        if word == "per" or operator == "/":
            sign = -1
        elif operator:
            continue
        elif word.lower() in ("square", "sq", "cubic"):
            ahead = _POWERS[word.lower()]
        elif power or word.lower() in _POWERS:
            if last is None:
                return None
            more = (int(power) if power else _POWERS[word.lower()]) - 1
            size = _times(powers, size, last[0], last[1], more * last[2])
        else:
            found = _known(word)
            if found is None:
                return None
            last, ahead = (*found, sign * ahead), 1
            size = _times(powers, size, *last)
    kind = " ".join(name if n == 1 else f"{name}^{n}" for name, n in sorted(powers.items()) if n)
    return Unit(kind, size) if kind else None


def _times(
    powers: Counter[str], size: Fraction, dimensions: dict[str, int], factor: Fraction, exponent: int
) -> Fraction:
    for name, n in dimensions.items():
        powers[name] += n * exponent
    return size * factor**exponent


def _known(word: str) -> tuple[dict[str, int], Fraction] | None:
    """Dimensions and size of a single word."""
    if word.lower() in _SPEEDS:
        (_, above), (_, below) = (_UNITS[name] for name in _SPEEDS[word.lower()])
        return {"length": 1, "time": -1}, above / below
    for name in (word, word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")):
        if name in _UNITS:
            return {_UNITS[name][0]: 1}, _UNITS[name][1]
        if name in _LITRES:
            return {"length": 3}, _LITRES[name][1]
    return None
