"""Multiple choice: which option a completion chooses, as a letter or in words, and whether it is the gold one."""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, get_args

from steelyard.rewards.core import reward
from steelyard.rewards.final_answers import last_box
from steelyard.rewards.golds import NO_GOLD, is_missing, listed
from steelyard.rewards.text import normalised
from steelyard.types import SteelyardError, Verdict

Take = Literal["first", "last"]
Options = Sequence[Any] | Mapping[str, Any] | None

LETTERS = string.ascii_uppercase

# Not the A of "A cat" and the I of "I think".
_LETTER = (
    r"[(\[*_]*+(?-i:(?P<letter>[B-HJ-Z]|[AI](?!\s+(?!is\b|or\b|and\b)[a-z])))"
    r"(?![A-Za-z0-9'’])[)\]*_.:,;。，]*+"
)
_CUE = r"(?:\b(?:answer|option|choice)\b(?:\s+is)?|答案(?:应?[是为选])?)[\s:：*]*+"
_TOLD = re.compile(_CUE + _LETTER, re.IGNORECASE)
_TOLD_SMALL = re.compile(_CUE + r"[(\[]?([a-z])[)\].*]*\s*$", re.IGNORECASE | re.MULTILINE)
_BEFORE_WORDS = re.compile(_CUE + r"[\"'(]*(?:the\s+)?", re.IGNORECASE)
_ALONE = re.compile(r"(?:^|(?<=\s))" + _LETTER + r"(?=\s|$)")
_ONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
_SEVERAL = re.compile(r"[(\[*]*[A-Z][)\]*.]*(?:(?:\s*[,;/&+]\s*|\s+(?:and|or)\s+|\s+)[(\[*]*[A-Z][)\]*.]*)+")
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\\[ ,;:!]|(?<!\\)[$~]")
_LABEL = re.compile(r"^\s*\(?[A-Z][).:]\s*")


@reward
def choice_correct(
    completion: str, answer: str | int, options: Options = None, *, take: Take = "last"
) -> float | Verdict:
    r"""1 iff the option chosen is the gold one; 0 without a choice.

    The choice is looked for behind the thinking: in the last `<answer>` block, else the last `\boxed{}`, else the text:
    a letter that is announced (`Answer: B`, `option (B)`), else a capital that stands alone (`B`, `(B)`, `B.`), else
    one of the options' own words. `take` says whether the first or the last of several counts. A block, box or text of
    nothing but letters (`A, C`) chooses all of them: right where the gold is the same letters, in any order.

    Args:
        completion: of the model.
        answer: the gold, a letter, words, both (`B. Paris`), several letters, or the option's number counted from 0.
        options: their words; a list, a mapping of letters to words, or `{"label": […], "text": […]}`.
        take: `last` or `first`.

    Raises:
        SteelyardError: for options or a gold that are none of these.
    """
    if is_missing(answer):
        return NO_GOLD
    words = option_words(options)
    return float(chosen(completion, words, take=take) == _gold(answer, options, words))


def option_words(options: Options) -> list[str]:
    """The options' words, in their order.

    Raises:
        SteelyardError: for what is no list, mapping, or None, or more than 26 options.
    """
    options = listed(options)
    if is_missing(options):
        return []
    if isinstance(options, Mapping):
        texts = listed(options.get("text", list(options.values())))
        options = texts if isinstance(texts, (list, tuple)) else list(options.values())
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise SteelyardError(f"the options are {options!r:.60}; give a list of their words")
    if len(options) > len(LETTERS):
        raise SteelyardError(f"there are {len(options)} options; {len(LETTERS)} have a letter")
    return [_LABEL.sub("", str(option)).strip().lower() for option in options]


def _gold(answer: str | int, options: Options, words: Sequence[str]) -> str:
    """The gold's letters, or its normalised words where they name no option."""
    text = str(answer).strip()
    if _are_words(text, words):
        return LETTERS[words.index(text.lower())]
    if isinstance(answer, Integral) and not isinstance(answer, bool):
        if not 0 <= answer < (len(words) or len(LETTERS)):
            raise SteelyardError(f"the answer is {answer}; an option's number lies from 0 to {len(words) - 1}")
        return LETTERS[int(answer)]
    if not isinstance(answer, str):
        raise SteelyardError(f"the answer is {answer!r:.60}; it must be a letter, words or an option's number")
    labels = _labels(options)
    if text in labels:
        return LETTERS[labels.index(text)]
    found = _ALONE.match(text)
    one = found and (len(text) == 1 or text[1:2] in ").:" or text[0] in "([")
    return found["letter"] if found and one else _letters(text) or normalised(text)


def _labels(options: Options) -> list[str]:
    if not isinstance(options, Mapping):
        return []
    labels = listed(options.get("label"))
    return list(map(str, labels if isinstance(labels, (list, tuple)) else options))


def chosen(completion: str, words: Sequence[str] = (), *, take: Take = "last") -> str | None:
    """The letter of the option that a completion chooses, several in order, its words where they name none, or None.

    Args:
        completion: of the model.
        words: of the options, as `option_words` gives them.
        take: which of several counts.
    """
    if take not in get_args(Take):
        raise SteelyardError(f"take is {take!r}; it is 'first' or 'last'")
    text = completion.rpartition("</think>")[2]
    blocks = [piece for piece in text.split("</answer>")[:-1] if "<answer>" in piece]
    marked = blocks[-1].partition("<answer>")[2] if blocks else last_box(text)[0]
    text = _unwrapped(text if marked is None else marked).strip()
    if _are_words(text, words):
        return LETTERS[words.index(text.lower())]
    if letters := _letters(text):
        return letters
    at = 0 if take == "first" else -1
    if found := _TOLD.findall(text) or [small.upper() for small in _TOLD_SMALL.findall(text)] or _ALONE.findall(text):
        return str(found[at])
    named = _named(text, words)
    if named:
        return LETTERS[named[at]]
    return (normalised(text) or None) if marked is not None or not words else None


def _are_words(text: str, words: Sequence[str]) -> bool:
    """Whether a text is one option's words and nothing else; a capital alone is a letter, whatever the words are."""
    return text.lower() in words and not (len(text) == 1 and text in LETTERS)


def _unwrapped(text: str) -> str:
    if "\\" in text or "$" in text:
        text = _SPACE.sub(" ", _WRAPPED.sub(r"\1", text))
    return text


def _letters(text: str) -> str:
    """The letters of a text that holds nothing else, each once and in order; "" for any other."""
    if one := _ONE.fullmatch(text):
        return one[1].upper()
    if len(text) > 300 or not _SEVERAL.fullmatch(text):
        return ""
    return "".join(sorted(set(re.findall(r"(?<![a-z])[A-Z]", text))))


def _named(text: str, words: Sequence[str]) -> list[int]:
    """The options whose words stand in a text, in order; those announced (`the answer is Oslo`) if there are any."""
    if not any(words):
        return []
    lower = text.lower()
    found = [(match.start(), words.index(match.group())) for match in _any_of(tuple(words)).finditer(lower)]
    announced = {match.end() for match in _BEFORE_WORDS.finditer(lower)}
    return [option for start, option in found if start in announced] or [option for _, option in found]


@functools.lru_cache(maxsize=1024)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """Finds the longest of the words that begins at a place, not within a longer word or number."""
    longest_first = sorted(filter(None, words), key=len, reverse=True)
    return re.compile(rf"(?<![a-z0-9])(?<!\d[.,])(?:{'|'.join(map(re.escape, longest_first))})(?![a-z0-9])(?![.,]\d)")
