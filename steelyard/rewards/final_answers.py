r"""Where a solution's final answer stands: `\boxed{}`, an answer block, `A: N` and its kin, else the last number."""

from __future__ import annotations

import re
from collections.abc import Iterator

TAIL = 4_000
"""How many of a solution's last characters are read for an answer without a box or a block."""

_BOXES = ("\\boxed", "\\fbox")
_CUE = re.compile(
    r"^[ \t>*_-]{0,8}(?:a|ans|(?:the )?(?:final |correct )?answer)[ \t*_]{0,4}:\s*(?P<line>\S.*)"
    r"|^[ \t]*\#{4}[ \t]*(?P<hash>[-+−$€£¥]{0,3}[\d.][\d,. /]*%?)[ \t]*$"
    r"|\banswer(?: to [^.\n:]{1,80}?)? is:?\s*(?=(?P<told>\S.*))",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(
    r"(?<![A-Za-z\d.])(?:(?<![\d)\]}])[-−+])?[ ]?(?:\\?[$€£¥₹][ ]?-?)?"
    r"(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.?\d*|\.\d+)"
    r"(?:[ ]?/[ ]?\d+)?(?:[ ]?\\?%)?"
)
_SEGMENT = re.compile(
    r"\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]|\$\$([^$]{1,300})\$\$|(?<!\\)\$([^$\n]{1,300})(?<!\\)\$", re.DOTALL
)
_MATH = re.compile(r"[\\^_=*/]|^\s*[-+]?[\w.,]+\s*$")
_WORD = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{3,}|(?i:is|it|so|we|he|if|to|of|be|as|my|us)(?![A-Za-z]))")
"""What makes a text prose: a long word, or a short one that is no name of a quantity."""


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
    r"""What stands in the last complete `\boxed{…}`, braces matched, and where it ends; (None, −1) without one."""
    end = len(text)
    while (start := max(text.rfind(box, 0, end) for box in _BOXES)) >= 0:
        body = text.find("{", start, start + 10)
        stop = _closing(text, body) if body >= 0 else -1
        if stop >= 0:
            return text[body + 1 : stop].strip(), stop
        end = start
        if len(text) - start > TAIL:
            break
    return None, -1


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
    found = list(_CUE.finditer(text, max(0, len(text) - TAIL)))
    if not found:
        return None
    last = found[-1]
    return last["hash"] or _in_line(last["line"] or last["told"])


def _in_line(line: str) -> str:
    """The answer in the rest of an announcing line: all of it, its first formula, or its first number."""
    line = line.strip().strip("*_").rstrip(".").strip()
    if not _WORD.search(line):
        return line
    formula = next(_formulas(line), None)
    number = _NUMBER.search(line)
    if formula is not None:
        return formula
    return _clean(number) if number and number.group().strip() else line


def _bare(text: str) -> str | None:
    """A short formula as it stands, else the last formula or number of a text."""
    text = text.strip()
    if text and len(text) <= 300 and "\n" not in text and not _WORD.search(text):
        return text
    tail = text[-TAIL:]
    formula = number = None
    for found in _SEGMENT.finditer(tail):
        if _is_formula(found):
            formula = found
    for found in _NUMBER.finditer(tail, formula.end() if formula else 0):
        number = found
    if number is not None:
        return _clean(number)
    if formula is not None:
        return next(group for group in formula.groups() if group is not None).strip()
    return text if text and len(text) <= 60 and "\n" not in text else None


def _formulas(line: str) -> Iterator[str]:
    for found in _SEGMENT.finditer(line):
        if _is_formula(found):
            yield next(group for group in found.groups() if group is not None).strip()


def _is_formula(found: re.Match[str]) -> bool:
    """Two currency signs with words between them are no formula."""
    dollars = found[4]
    return dollars is None or (_MATH.search(dollars) is not None and not _WORD.search(dollars))


def _clean(number: re.Match[str]) -> str:
    return number.group().strip().rstrip(".")
