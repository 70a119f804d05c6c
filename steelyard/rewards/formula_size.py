r"""How large a formula's value can be, told without computing it: `9^{9^{9}}` is refused before it is evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

BITS = 20_000.0
"""The longest number that a formula may stand for."""

DEEPEST = 12
"""How deep brackets may nest."""

TERMS = 10_000.0
"""How many terms a power of a sum may have when it is multiplied out."""

HIGHEST = 2
"""How many exponents may stand on one another."""

_TOKEN = re.compile(r"\d+(?:\.\d+)?|\\[A-Za-z]+|[A-Za-z]|\^|!|[({\[]|[)}\]]")
_GROWS = re.compile(r"\\d?binom|\\Gamma|\\zeta|\\(?:sum|prod)(?![A-Za-z])|\\choose")
_NUMBER = re.compile(r"\d+")


def is_small(formula: str, longest: int) -> bool:
    """Whether a formula is short, shallow and no larger than `BITS` whatever its operators are.

    The bound in bits: a number n counts max(1, log2 n), a letter or command 1/2, neighbours add up (as if multiplied),
    x^y counts bits(x) · 2^bits(y) and x! counts bits(x) · 2^bits(x). Powers of sums with more than about `TERMS` terms,
    towers higher than `HIGHEST`, integrals, and sums, products and binomials with numbers over 2,000 are refused.
    """
    if len(formula) > longest or _depth(formula) > DEEPEST or "\\int" in formula:
        return False
    if _GROWS.search(formula) and any(len(n) > 4 or int(n) > 2000 for n in _NUMBER.findall(formula)):
        return False
    return _bits(_TOKEN.findall(formula)) <= BITS


def _depth(formula: str) -> int:
    depth = deepest = 0
    for character in formula:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _bits(tokens: Sequence[str]) -> float:
    """The bound of a whole token list, unmatched brackets forgiven."""
    total, position = 0.0, 0
    while position < len(tokens):
        size, position = _product(tokens, position, 0)
        total += size
        position += 1
    return total


def _product(tokens: Sequence[str], position: int, height: int) -> tuple[float, int]:
    """The bound of neighbours up to a closing bracket, and where that stands."""
    total = 0.0
    while position < len(tokens) and tokens[position] not in ")}]":
        size, position = _power(tokens, position, height)
        total += size
    return total, position


def _power(tokens: Sequence[str], start: int, height: int) -> tuple[float, int]:
    """The bound of one atom with its factorials and its exponent (right-associative)."""
    size, position = _atom(tokens, start, height)
    while position < len(tokens) and tokens[position] == "!":
        size, position = size * _two_to(size), position + 1
    if position < len(tokens) and tokens[position] == "^":
        letters = sum(token[0] == "\\" or token.isalpha() for token in tokens[start:position])
        command = tokens[start][0] == "\\"
        exponent, position = _power(tokens, position + 1, height + 1)
        expands = (position - start > 1 or command) and exponent * max(letters, 3 * command) > math.log2(TERMS)
        size = math.inf if expands or height >= HIGHEST else max(size, 0.5) * _two_to(exponent)
    return size, position


def _two_to(bits: float) -> float:
    return 2**bits if bits < 60 else math.inf


def _atom(tokens: Sequence[str], position: int, height: int) -> tuple[float, int]:
    if position >= len(tokens) or tokens[position] in ")}]":
        return 0.0, position
    token = tokens[position]
    if token in "({[":
        size, end = _product(tokens, position + 1, height)
        return size, end + 1
    if token[0].isdigit():
        return max(1.0, math.log2(max(2, int(token.split(".")[0][:300])))), position + 1
    return 0.5, position + 1
