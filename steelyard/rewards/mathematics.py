r"""Whether a mathematical answer is right: plain numbers by exact arithmetic, everything else by math-verify."""

from __future__ import annotations

import functools
import importlib
import logging
import math
import re
import threading
from numbers import Number
from typing import Any

from steelyard.rewards.core import reward
from steelyard.rewards.final_answers import final_answer, last_box, told
from steelyard.rewards.formula_size import is_small
from steelyard.rewards.formula_text import formula_text, unwrapped
from steelyard.rewards.golds import NO_GOLD, is_missing
from steelyard.rewards.plain_numbers import LONGEST, Plain, plain, same_number
from steelyard.types import Status, SteelyardError, Verdict

SECONDS = 5
"""What math-verify may take for one answer where the main thread asks; elsewhere only the limits of size hold."""

_COMMA = re.compile(r"(-?\d+),(\d+)")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_BRACKETS = re.compile(r"[({\[][^(){}\[\]]*[)}\]]")
_LISTS = re.compile(r"[,;]|\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b")
_WORDS = re.compile(r"\\(?:text|mathrm|textrm|mbox)\s*\{([^{}]*)\}")
_NAMED = re.compile(r"\s*([A-Za-z])(?:_\{?\w\}?)?\s*=([^=]+)")
_FORMULA = re.compile(r"[\\\d^+*/=(){}\[\]|]|^[A-Za-z](?:\s*,\s*[A-Za-z])*$")
_PRODUCT = re.compile(r"[A-Za-z]{1,3}")
_LOOSE_SPACE = re.compile(r"(?<!\d) | (?!\d)")
_OPTION = re.compile(r"\(?([A-Z])(?:[).:](?!\d)|$)")


@reward
def math_correct(completion: str, answer: str | float) -> float | Verdict:
    r"""1 iff the final answer of a completion equals the gold answer, else 0.

    The answer is found by `final_answers.final_answer`; without one the value is 0. The gold is a bare answer or a
    worked solution with one. Numbers (signs, thousands separators, decimals, percents, currency, fractions, mixed
    numbers, powers of ten, words for units) are compared exactly; decimals after rounding to 6 places; p% equals p and
    p/100; a unit counts only where both sides name one that is known: 90 min equals 1.5 hours, 5 cm is not 5 m. The
    rest is compared by math-verify, which sees no text longer than 300 characters and no formula whose value would be
    huge: such an answer is 0.

    A row without a gold (None, NaN) is NaN with the status `NOT_APPLICABLE`, a gold that is no answer with `UNPARSED`,
    a comparison that takes too long with `TIMED_OUT`.

    Raises:
        SteelyardError: for a gold that is no text or number; if an answer needs math-verify and it is not installed.
    """
    if is_missing(answer):
        return NO_GOLD
    if not isinstance(answer, (str, Number)):
        raise SteelyardError(f"the answer is {answer!r:.60}; it must be a text or a number")
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
    if plain(text) is not None:
        return text
    box = last_box(text)[0]
    if box is not None:
        return box
    return told(text) or (text if "\n" not in text else final_answer(text) or "")


def same_answer(ours: str, gold: str) -> float | Verdict:
    """1 iff two bare answers are equal. See `math_correct`."""
    if ours == gold:
        return 1.0
    if max(len(ours), len(gold)) > LONGEST:
        return float(ours.split() == gold.split())
    left, right = _without_names(unwrapped(ours.strip()), unwrapped(gold.strip()))
    a, b = _numbers(left, right)
    if a is not None and b is not None:
        return float(same_number(a, b))
    left, right = formula_text(left), _gold_formula(right)
    if _LOOSE_SPACE.sub("", left) == _LOOSE_SPACE.sub("", right) or _same_with_comma(left, right):
        return 1.0
    if option := _OPTION.fullmatch(right) or _OPTION.fullmatch(left):
        chosen, named = _OPTION.match(left), _OPTION.match(right)
        return float(bool(chosen and named and chosen[1] == named[1] == option[1]))
    if not _are_formulas(left, right):
        return float(len(left) > 1 and left.casefold() == right.casefold())
    return _by_math_verify(left, right)


_gold_formula = functools.lru_cache(maxsize=4096)(formula_text)


def _numbers(left: str, right: str) -> tuple[Plain | None, Plain | None]:
    """Both as numbers. A letter behind one is read as a unit only where both sides name a unit then."""
    a, b = plain(left), plain(right)
    if a is not None and b is not None:
        return a, b
    c, d = a or plain(left, letters=True), b or plain(right, letters=True)
    return (c, d) if c is not None and d is not None and c.unit and d.unit else (a, b)


def _are_formulas(left: str, right: str) -> bool:
    """Whether both may be formulas: words are not, for as a product of letters a word would equal its anagrams."""
    sides = [_FORMULA.search(side) is not None for side in (left, right)]
    short = [_PRODUCT.fullmatch(side) is not None for side in (left, right)]
    if any(sides):
        return all(a or b for a, b in zip(sides, short, strict=True))
    return all(short) and (left + right).islower()


def _without_names(ours: str, gold: str) -> tuple[str, str]:
    """Both sides without `x =` where only one has it, or both have the same."""
    left, right = _EQUALS.split(ours), _EQUALS.split(gold)
    if len(left) == len(right) == 1:
        return ours, gold
    if _is_list(ours) or _is_list(gold):
        (name, mine), (other, theirs) = _values(ours), _values(gold)
        return (mine, theirs) if name == other or not (name and other) else (ours, gold)
    if len(right) == 1:
        return left[-1], gold
    if len(left) == 1 and len(right) == 2:
        return ours, right[-1]
    if len(left) == len(right) == 2 and formula_text(left[0]) == formula_text(right[0]):
        return left[1], right[1]
    return ours, gold


def _values(text: str) -> tuple[str, str]:
    """`x = 1 or x = 2` and `x_1 = 1, x_2 = 2` as their letter and `1,2`; no letter and the text itself for others."""
    found = [_NAMED.fullmatch(part) for part in _LISTS.split(text)]
    letters = {each[1] for each in found if each}
    if len(letters) != 1 or not all(found):
        return "", text
    return letters.pop(), ",".join(each[2].strip() for each in found if each)


def _is_list(text: str) -> bool:
    """Whether separators stand in a text outside of brackets."""
    text = _WORDS.sub(r"\1", text)
    shorter = _BRACKETS.sub("", text)
    while shorter != text:
        text, shorter = shorter, _BRACKETS.sub("", shorter)
    return _LISTS.search(text) is not None


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
