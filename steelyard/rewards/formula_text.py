r"""A formula's text without what changes only its looks: spaces, wrappers, other names of a symbol, Unicode."""

from __future__ import annotations

import re
import unicodedata

_SYMBOLS = {
    **dict.fromkeys("−–‐‑", "-"), **dict.fromkeys("\u00a0\u202f\u2009\u3000", " "), "⁄": "/", "∕": "/", "：": ":",
    "（": "(", "）": ")", "，": ",", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ", "·": r"\cdot ", "×": r"\times ",
    "÷": r"\div ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "φ": r"\varphi ",
}  # fmt: skip
_TABLE = str.maketrans(_SYMBOLS)
_POWER = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_SPACES = re.compile(r"(?<!\\)\\[!,;: ]|\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])")
_TIE = re.compile(r"(?<!\\)~")
_THIN = re.compile(r"\\[,;: ]")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b")
_ALIASES = {
    r"\\(?:varnothing|O)(?![A-Za-z])": r"\\emptyset ",
    r"\\lbrace(?![A-Za-z])": r"\\{",
    r"\\rbrace(?![A-Za-z])": r"\\}",
    r"\\(?:[lr]?vert|mid)(?![A-Za-z])": "|",
    r"\\(le|ge|ne)(?:q|qslant)(?![A-Za-z])": r"\\\1 ",
    r"\\colon(?![A-Za-z])|\{:\}": ":",
    r"\\log_(?:e(?![A-Za-z])|\{e\})": r"\\ln ",
    r"\\not\s*=": r"\\ne ",
    r"\\dots(?![A-Za-z])": r"\\ldots ",
    r"\\mathbb\s*([A-Z])": r"\\mathbb{\1}",
    r"\\[dtc]frac(?![A-Za-z])": r"\\frac",
    r"\\frac\s+([A-Za-z\d])\s*([A-Za-z\d])": r"\\frac{\1}{\2}",
    r"^\\approx(?![A-Za-z])\s*": "",
}
_ALIAS = [(re.compile(pattern), other) for pattern, other in _ALIASES.items()]
_FUNCTION = re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|log|ln|exp)(?=\s*\()|(?<![\\A-Za-z])pi(?![A-Za-z])")
_SQRT = re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)")
_UNEQUAL = re.compile(r"[<>]|\\[lg](?:t|e|eq|eqslant)(?![A-Za-z])")
_AND_OR = re.compile(r"\s*,?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*")
_AROUND = re.compile(r"\s*([-+*/=<>,^|])\s*")
_SCIENTIFIC = re.compile(r"(?<=\d)[eE]([-+]?\d+)(?![\w.])")
_WRAPS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("`", "`"),
)


def tidy(text: str) -> str:
    """A short text without what changes only its looks; `~` stands before what was a word in a formula."""
    text = unwrapped(text.strip())
    if not text.isascii():
        text = _ascii(text)
    text = text.replace("{,}", ",").removeprefix("≈").lstrip()
    if "\\" not in text and "~" not in text:
        return text
    text = _TEXT.sub(lambda found: " ~" + _THIN.sub(" ", found[1]), _TIE.sub("", text))
    text = _SPACES.sub("", text).replace("\\$", "$").replace("\\%", "%")
    for pattern, other in _ALIAS:
        text = pattern.sub(other, text)
    return _DEGREES.sub("°", text).strip()


def _ascii(text: str) -> str:
    text = _ROOT.sub(lambda found: rf"\sqrt{{{found[1] or found[2]}}}", text)
    text = _POWER.sub(lambda found: f"^{{{unicodedata.normalize('NFKC', found[0])}}}", text)
    return _VULGAR.sub(_fraction, text).translate(_TABLE)


def _fraction(found: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", found[0]).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}" if bottom else found[0]


def unwrapped(text: str) -> str:
    r"""Without `$…$`, `\(…\)`, `**…**` and their like around all of it."""
    changed = True
    while changed:
        changed = False
        for opening, closing in _WRAPS:
            inside = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inside.strip():
                text, changed = inside.strip(), True
    return text


def formula_text(text: str) -> str:
    """A formula as math-verify reads it, and as it is compared letter by letter: tidy, single spaces, no full stop."""
    text = tidy(text).replace("~", "").replace("**", "^").replace("°", r"^{\circ}")
    if "(" in text or "pi" in text:
        text = _FUNCTION.sub(lambda found: "\\" + found[0] + " ", _SQRT.sub(r"\\sqrt{\1}", text))
    if not _UNEQUAL.search(text):
        text = _AND_OR.sub(",", text)
    text = _AROUND.sub(r"\1", _SCIENTIFIC.sub(r" \\times 10^{\1}", text))
    return " ".join(text.split()).rstrip(".")
