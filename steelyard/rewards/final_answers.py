r"""Where a solution's final answer stands: `\boxed{}`, an answer block, `A: N` and its kin, else the last number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

TAIL = 4_000
"""How many of a solution's last characters are read for an answer without a box or a block."""

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:(\{)|([^\s{}$\\]+))")
_CUE = re.compile(
    r"^[ \t>*_-]{0,8}(?:a|ans|(?:the )?(?:final |correct )?answer)[ \t*_]{0,4}[:：]\s*(?P<line>\S.*)"
    r"|^[ \t]*\#{4}[ \t]*(?P<hash>[-+−$€£¥]{0,3}[\d.][\d,. /]*%?)[ \t]*$"
    r"|(?:\banswer(?: to [^.\n:]{1,80}?)? is:?|答案(?:[是为]|\s*[:：]))\s*(?=(?P<told>\S.*))",
    re.IGNORECASE | re.MULTILINE,
)
_LAST_HASH = re.compile(r"^\#{4}[ \t]+(\S[^\n]{0,200})\s*\Z", re.MULTILINE)
_POWER_OF_TEN = r"[eE][-+]?\d{1,3}(?![A-Za-z\d])|[ ]?(?:×|\\times|\*)[ ]?10\^\{?-?\d{1,3}\}?|\^\{?-?\d{1,3}\}?"
_NUMBER = re.compile(
    r"(?<![A-Za-z\d.])(?:(?<![\d)\]}])[-−+])?[ ]?(?:\\?[$€£¥₹][ ]?-?)?"
    r"(?:\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:[,' \u00a0\u202f]\d{3})+(?!\d)|\d+)?"
    rf"(?:(?<=\d)\.?\d*|\.\d+|[¼½¾⅐-⅞])(?:{_POWER_OF_TEN})?"
    r"(?:[ ]\d+/\d+|[ ]?/[ ]?\d+|[¼½¾⅐-⅞])?"
    r"(?:[ ]?\\?%|[ ](?:per ?cent|hundred|thousand|million|billion|trillion)\b)?"
)
_LINK = re.compile(r"[\s.$]*(?:,?\s*(?:\\text\s*\{)?\s*(?:and|or)\s*\}?|,|;)[\s$]*")
_SEGMENT = re.compile(
    r"\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]|\$\$([^$]{1,300})\$\$|(?<!\\)\$([^$\n]{1,300})(?<!\\)\$", re.DOTALL
)
_MATH = re.compile(r"[\\^_=*/]|^\s*[-+]?[\w.,]+\s*$")
_WORD = re.compile(
    r"(?<![\\A-Za-z])(?:(?!(?:sqrt|sin|cos|tan|cot|sec|csc|log|exp)\b)[A-Za-z]{3,}"
    r"|(?i:is|it|so|we|he|if|to|of|be|as|my|us|rs)(?![A-Za-z]))|[\u0400-\u1cff\u3040-\ud7ff]"
)
"""What makes a text prose: a long word, a short one that is no name of a quantity, a letter of another script."""
_CHOICE = re.compile(r"\(([A-Z])\)|([B-HJ])(?=[\s.,;:]|$)(?!\s[a-z]*\s?=)")
"""A letter that is the answer at the beginning of a sentence."""


def final_answer(completion: str) -> str | None:
    r"""The text of the final answer, or None where the completion has none.

    What follows the last `</think>` is read, if there is one. Whichever explicit mark ends last wins: a `\boxed{}` or
    an `<answer>` block (a box in the block is the answer). Without them: the last line of the form `A: …`,
    `Answer: …`, `#### …` or `… answer is …`; else a short completion that is nothing but a formula; else the last
    formula or number.
    """
    text = completion.rpartition("</think>")[2]
    found, end = last_box(text)
    block, stop = _last_block(text)
    if block is not None and stop >= end:
        inner = last_box(block)[0]
        return inner if inner is not None else told(block) or _bare(block)
    return found if found is not None else told(text) or _bare(text)


def last_box(text: str) -> tuple[str | None, int]:
    r"""What stands in the last complete `\boxed{…}`, braces matched, and where it ends; (None, −1) without one.

    Boxes beside each other (`\boxed{1} and \boxed{2}`) are one list, `1,2`; an empty box is none.
    """
    inside: list[str] = []
    first, stop = -1, -1
    for start, content, end in _boxes_from_the_end(text):
        if inside and not _LINK.fullmatch(text, end, first):
            break
        first, stop = start, max(stop, end)
        inside.insert(0, content)
    return (",".join(inside), stop) if inside else (None, -1)


def _boxes_from_the_end(text: str) -> Iterator[tuple[int, str, int]]:
    """Where a box that holds something starts, what it holds and where it ends, from the last one on."""
    end = len(text)
    while (start := max(text.rfind(mark, 0, end) for mark in ("\\boxed", "\\fbox", "\\framebox"))) >= 0:
        found = _BOX.match(text, start)
        if found and found[2]:
            yield start, found[2].rstrip(".,;:"), found.end()
        elif found:
            stop = _closing(text, found.end() - 1)
            if stop >= 0 and (content := text[found.end() : stop].strip()):
                inner = last_box(content)[0] if "\\boxed" in content else None
                yield start, content if inner is None else inner, stop + 1
        if len(text) - start > TAIL and end < len(text):
            return
        end = start


def closed_box(text: str) -> str | None:
    r"""What stands in the last `\boxed{…}`; None without one, and where it was opened and never closed.

    Unlike `last_box` it never goes back to an earlier box, so that a text that was cut off has no answer.
    """
    found, end = last_box(text)
    return found if end > text.rfind("\\boxed{") else None


def _closing(text: str, start: int) -> int:
    """Where the brace that opens at `start` closes, within `TAIL` characters; −1 if it does not."""
    depth = 0
    for i in range(start, min(len(text), start + TAIL)):
        if text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if not depth:
                return i
    return -1


def _last_block(text: str) -> tuple[str | None, int]:
    stop = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, stop) if stop >= 0 else -1
    return (text[start + 8 : stop].strip(), stop) if start >= 0 else (None, -1)


def told(text: str) -> str | None:
    """What the last line says that announces an answer (`A: 18`, `#### 18`, `The answer is 18.`), or None."""
    hashed = _LAST_HASH.search(text, max(0, len(text) - 300)) if "####" in text[-300:] else None
    if hashed and not _WORD.search(hashed[1]):
        return hashed[1].strip()
    found = list(_CUE.finditer(text, max(0, len(text) - TAIL)))
    if not found:
        return None
    last = found[-1]
    if last["hash"]:
        return last["hash"]
    formula = _SEGMENT.match(text, last.start("line") if last["line"] else last.start("told"))
    if formula is not None and _is_formula(formula):
        return _inside(formula)
    return _in_line(last["line"] or last["told"])


def _in_line(line: str) -> str:
    """The answer in the rest of an announcing line: all of it, its first formula, or its first number."""
    line = line.strip().strip("*_").rstrip(".。").strip()
    if not _WORD.search(line):
        spoken = line.rstrip("!")
        return spoken if _NUMBER.fullmatch(spoken) else line
    formula = next((found for found in _SEGMENT.finditer(line) if _is_formula(found)), None)
    choice = _CHOICE.match(line)
    number = _NUMBER.search(line)
    if formula is not None:
        return _inside(formula)
    if choice is not None:
        return choice[1] or choice[2]
    return _clean(number) if number and number.group().strip() else line


def _bare(text: str) -> str | None:
    """A short formula as it stands, else the last formula (with those listed before it) or number of a text."""
    text = text.strip()
    if text and len(text) <= 300 and "\n" not in text and not _WORD.search(text):
        return text
    tail = text[-TAIL:]
    formulas = [found for found in _SEGMENT.finditer(tail) if _is_formula(found)]
    number = None
    for found in _NUMBER.finditer(tail, formulas[-1].end() if formulas else 0):
        number = found
    if number is not None:
        return _clean(number)
    if formulas:
        return _listed_last(tail, formulas)
    return text if text and len(text) <= 60 and "\n" not in text else None


def _listed_last(text: str, formulas: Sequence[re.Match[str]]) -> str:
    """The last formula, and those before it that only a comma, `and` or `or` parts from it."""
    first = len(formulas) - 1
    while first and _LINK.fullmatch(text, formulas[first - 1].end(), formulas[first].start()):
        first -= 1
    return ",".join(map(_inside, formulas[first:]))


def _inside(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None).strip()


def _is_formula(found: re.Match[str]) -> bool:
    """Two currency signs with words between them are no formula."""
    dollars = found[4]
    return dollars is None or (_MATH.search(dollars) is not None and not _WORD.search(dollars))


def _clean(number: re.Match[str]) -> str:
    return number.group().strip().rstrip(".")
