"""Strict parsers of what judges reply: a value, or none with the reason; never a made-up number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from steelyard.rewards.judges.templates import QUALITIES
from steelyard.types import Status, Verdict


def parse_score(text: str | None) -> Verdict:
    """A similarity judge's reply, strictly: one JSON object whose `score` is a number in [0, 1].

    A Markdown code fence around the object is allowed, prose is not. Anything else gives NaN with `UNPARSED`, and no
    reply (None) gives NaN with `FAILED`: a judge's failure is never a score.
    """
    return _read_score(text, 0.0, 1.0)


def _read_score(text: str | None, low: float, high: float) -> Verdict:
    if text is None:
        return Verdict(math.nan, Status.FAILED)
    value = number_in((json_object(text) or {}).get("score"), low, high)
    return Verdict(math.nan, Status.UNPARSED, text) if value is None else Verdict(value, Status.SCORED, text)


class Quality(NamedTuple):
    """Five scores by name, 0 to 5, all NaN unless `status` is `SCORED`."""

    scores: dict[str, float]
    status: Status


def parse_quality(text: str | None) -> Quality:
    """A quality judge's reply, strictly: one JSON object with all five scores, each a number in [0, 5].

    One missing or impossible score makes the whole reply `UNPARSED` (NaN five times); None gives `FAILED`.
    """
    if text is None:
        return Quality(dict.fromkeys(QUALITIES, math.nan), Status.FAILED)
    fields = json_object(text) or {}
    values = {name: number_in(fields.get(name), 0.0, 5.0) for name in QUALITIES}
    scores = {name: value for name, value in values.items() if value is not None}
    if len(scores) < len(QUALITIES):
        return Quality(dict.fromkeys(QUALITIES, math.nan), Status.UNPARSED)
    return Quality(scores, Status.SCORED)


def json_object(text: str) -> dict[str, Any] | None:
    """The one JSON object that the text is; None for prose, other JSON, repeated keys, NaN and infinities."""
    text = text.strip()
    head, _, body = text.partition("\n")
    fenced = head.rstrip() in ("```", "```json") and body.endswith("```")
    try:
        parsed = json.loads(body[:-3] if fenced else text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def number_in(value: Any, low: float, high: float) -> float | None:
    """A JSON number within the bounds, else None; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return float(value)


_ANY_UNIT_NUMBER = re.compile(r"0(?:\.\d+)?|1(?:\.0+)?")


def released_parse_score(text: str | None) -> float:
    """The parser of the paper's released code, kept for comparison: it turns a judge's failure into 0.

    A JSON object's `score` (0 without one); else the first 0, 0.…, 1 or 1.0 anywhere in the text, which may be any
    number's digit; clipped to [0, 1]; else 0. Use `parse_score` for training.

    Source: sheet 01, golden case `judge_score_parse`.
    """
    try:
        value = float(json.loads((text or "").strip()).get("score", 0.0))
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        found = _ANY_UNIT_NUMBER.search(text or "")
        value = float(found[0]) if found else 0.0
    return max(0.0, min(1.0, value))


Parse = Callable[[str | None], Verdict]

_WORD = re.compile(r"(?<!\w)(?:([Yy][Ee][Ss])|([Nn][Oo])|([Uu][Nn][Ss][Uu][Rr][Ee]))(?!\w)")
_ONE_WORD = re.compile(r"\W*([A-Za-z]+)\W*")
_WORTH = {"yes": 1.0, "no": 0.0}


def words_of_verdict(text: str) -> list[str]:
    """Every YES, NO and UNSURE that stands alone, in lower case and in order; `YESTERDAY` holds none."""
    return [found[0].lower() for found in _WORD.finditer(text)]


def parse_verdict(text: str | None) -> Verdict:
    """The last YES or NO that stands alone: 1 or 0.

    For judges that reason first. UNSURE as the last word is NaN with `NOT_APPLICABLE`: the judge was understood and
    did not decide. No such word is NaN with `UNPARSED`, no reply (None) NaN with `FAILED`.

    Source: sheet 47, whose recommended parser takes "none" for NO: see `yes_or_no`.
    """
    if text is None:
        return Verdict(math.nan, Status.FAILED)
    words = words_of_verdict(text)
    if not words:
        return Verdict(math.nan, Status.UNPARSED, text)
    if words[-1] == "unsure":
        return Verdict(math.nan, Status.NOT_APPLICABLE, text)
    return Verdict(_WORTH[words[-1]], Status.SCORED, text)


def parse_verdict_without_conflict(text: str | None) -> Verdict:
    """As `parse_verdict`, but a reply with both YES and NO is NO.

    Source: sheet 47, the strict variant.
    """
    verdict = parse_verdict(text)
    if text is not None and {"yes", "no"} <= set(words_of_verdict(text)):
        return Verdict(0.0, Status.SCORED, text)
    return verdict


def parse_one_word(text: str | None) -> Verdict:
    """A reply that is YES, NO or UNSURE and nothing else but punctuation; all else is NaN with `UNPARSED`.

    For judges that were told to reply with one word: a candidate that makes the judge talk gains nothing by it.
    """
    alone = None if text is None else _ONE_WORD.fullmatch(text)
    if text is None or alone is None:
        return Verdict(math.nan, Status.FAILED if text is None else Status.UNPARSED, text or "")
    return (
        parse_verdict(alone[1]) if alone[1].lower() in (*_WORTH, "unsure") else Verdict(math.nan, Status.UNPARSED, text)
    )


def yes_or_no(text: str | None) -> int:
    """Sheet 47's recommended reading: the last standalone YES or NO, and 0 where there is none.

    It turns a judge's failure into NO; use `parse_verdict` for training.
    """
    words = [word for word in words_of_verdict(text or "") if word in _WORTH]
    return int(words[-1] == "yes") if words else 0


def score_reader(low: float, high: float) -> Parse:
    """A parser of one JSON object whose `score` is a number within the bounds. See `parse_score`."""

    def read(text: str | None) -> Verdict:
        return _read_score(text, low, high)

    return read


_SCORE_TAG = re.compile(r"<score>\s*([+-]?\d+(?:\.\d+)?)\s*</score>")
_RELEASED_TAG = re.compile(r"<score>\s*(-?\d+\.?\d*)\s*</score>")
_RELEASED_NUMBER = r"-?\d+\.?\d*"


def parse_ternary(text: str | None) -> Verdict:
    """A reply that gives its reasons and then −1, 0 or 1 in a score tag.

    A signed number (`+1`) is one; a number outside −1…1 is cut to the bound, so that 7 is 1. No tag, or
    tags that disagree, is NaN with `UNPARSED`; no reply (None) is NaN with `FAILED`. Numbers outside the tag are prose.

    Source: sheet 67, "Exact checks"; there an empty reply is 0, see `released_tagged_score`.
    """
    if text is None:
        return Verdict(math.nan, Status.FAILED)
    values = {float(round(max(-1.0, min(1.0, float(said))))) for said in _SCORE_TAG.findall(text)}
    if len(values) != 1:
        return Verdict(math.nan, Status.UNPARSED, text)
    return Verdict(values.pop() + 0.0, Status.SCORED, text)


def released_tagged_score(text: str | None) -> float:
    """The parser of sheet 67's released code, kept for comparison: use `parse_ternary` for training.

    The first score tag's number, which may not have a plus; else the number behind the first `Score:`, `score:`,
    `Rating:` or `rating:`, looked for in this order; else the first number anywhere; else 0. Never clipped.
    """
    text = text or ""
    labelled = (
        re.search(rf"{label}:\s*({_RELEASED_NUMBER})", text) for label in ("Score", "score", "Rating", "rating")
    )
    found = _RELEASED_TAG.search(text) or next(filter(None, labelled), None)
    if found is not None:
        return float(found[1])
    anywhere = re.search(_RELEASED_NUMBER, text)
    return float(anywhere[0]) if anywhere else 0.0


Winner = Literal["a", "b", "tie"]
_WINNERS: dict[str, Winner] = {"a": "a", "b": "b", "tie": "tie"}


def parse_winner(text: str | None) -> Winner | None:
    """A comparison's reply, strictly: one JSON object whose `winner` is A, B or tie; else None."""
    return _winner((json_object(text or "") or {}).get("winner"))


def _winner(said: Any) -> Winner | None:
    return _WINNERS.get(said.lower()) if isinstance(said, str) else None


class Judged(NamedTuple):
    """One criterion of a comparison: its kind, who does better by it, by how much, and what shows it."""

    kind: str
    winner: Winner
    size: int
    evidence: str = ""


def parse_criteria(text: str | None, *, kinds: Sequence[str] | None = None, largest: int = 3) -> list[Judged] | None:
    """A comparison criterion by criterion, strictly: one JSON object with a list `criteria`; else None.

    Every entry needs a kind (one of `kinds`, where given), a winner (A, B or tie) and a whole size from 1 to
    `largest`, 0 for a tie and only there. One bad entry makes the whole reply unreadable.
    """
    listed = (json_object(text or "") or {}).get("criteria")
    if not isinstance(listed, list):
        return None
    read = [_criterion(entry, kinds, largest) for entry in listed]
    return None if None in read else [entry for entry in read if entry is not None]


def _criterion(entry: Any, kinds: Sequence[str] | None, largest: int) -> Judged | None:
    if not isinstance(entry, dict):
        return None
    kind, winner = entry.get("kind"), _winner(entry.get("winner"))
    size = number_in(entry.get("size"), 0, largest)
    if not isinstance(kind, str) or (kinds is not None and kind not in kinds) or winner is None or size is None:
        return None
    if size != int(size) or (size == 0) != (winner == "tie"):
        return None
    return Judged(kind, winner, int(size), str(entry.get("evidence", "")))


def parse_scores(text: str | None, names: Sequence[str], *, low: float, high: float) -> list[float] | None:
    """Scores side by side, strictly: one JSON object whose `scores` has a number within the bounds for every name and
    nothing else; else None."""
    said = (json_object(text or "") or {}).get("scores")
    if not isinstance(said, dict) or set(said) != set(names):
        return None
    values = [number_in(said[name], low, high) for name in names]
    return None if None in values else [value for value in values if value is not None]


def parse_label(text: str | None, labels: Sequence[str]) -> str | None:
    """One of the labels (case does not count): one JSON object whose `label` it is; else None."""
    return _label((json_object(text or "") or {}).get("label"), labels)


def parse_labels(text: str | None, criteria: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """A label for every criterion, from one JSON object `labels`; None where it is missing or none of those allowed."""
    said = (json_object(text or "") or {}).get("labels")
    found = said if isinstance(said, dict) else {}
    return {name: _label(found.get(name), labels) for name, labels in criteria.items()}


def _label(said: Any, labels: Sequence[str]) -> str | None:
    known = {label.lower(): label for label in labels}
    return known.get(said.strip().lower()) if isinstance(said, str) else None


def parse_entities(text: str | None, names: Sequence[str]) -> dict[str, str | None] | None:
    """Names of exactly these entities, strictly: one JSON object whose `entities` maps each to a text or null.

    A blank text, and the words "null" and "none", are no names: such a reply is None, as is any other form.

    Source: sheet 56.
    """
    said = (json_object(text or "") or {}).get("entities")
    return said if is_entities(said, names) else None


def is_entities(said: Any, names: Sequence[str]) -> bool:
    """Whether this maps exactly these names to a text or None; see `parse_entities`."""
    if not isinstance(said, dict) or set(said) != set(names):
        return False
    texts = [value for value in said.values() if value is not None]
    return all(isinstance(value, str) and value.strip().lower() not in ("", "null", "none") for value in texts)


def parse_support(text: str | None, labels: Sequence[str]) -> dict[str, bool] | None:
    """Whether each of exactly these labels is supported: one JSON object `statements`; None for any other form.

    Source: sheet 56.
    """
    said = (json_object(text or "") or {}).get("statements")
    if not isinstance(said, dict) or set(said) != set(labels):
        return None
    flags: dict[str, bool] = {
        label: entry["supported"]
        for label, entry in said.items()
        if isinstance(entry, dict) and isinstance(entry.get("supported"), bool)
    }
    return flags if len(flags) == len(said) else None
