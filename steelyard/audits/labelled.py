"""Tables with known good and bad as rollouts: labels, chosen and rejected, or two outputs and a preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.rewards.chat import completion_text
from steelyard.rewards.loading import Row, rollouts_of
from steelyard.types import Rollouts, SteelyardError

LABELS = ("label", "is_correct", "correct", "passed")
"""Fields that are taken for the label, in this order, where none is mapped."""

WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "good": 1.0, "bad": 0.0, "1": 1.0, "0": 0.0}


def labelled_rollouts(rows: Sequence[Row], mapping: Mapping[str, str] | None = None) -> Rollouts:
    """Rows of a table as rollouts with a column `label` (1 good, 0 bad, None unknown) where the data tells.

    A row with `chosen` and `rejected` becomes two, with labels 1 and 0; so does one with `output_1`, `output_2` and
    `preference` (1 or 2; another value is a tie and has no labels). Both rows get a column `pair` with their number.

    A completion that is a list of one chat message is its text.

    Raises:
        SteelyardError: naming row and field, as `rollouts_of`, and for a label that is none.
    """
    mapping = dict(mapping or {})
    if not rows:
        raise SteelyardError("there are no rows; give at least one")
    if "completion" not in mapping and (pairs := _pairs(rows, mapping)):
        made = rollouts_of(
            pairs, {name: field for name, field in mapping.items() if name not in ("chosen", "rejected")}
        )
        columns: dict[str, Sequence[Any]] = {name: [row[name] for row in pairs] for name in ("label", "pair")}
        return Rollouts(made.samples, made.completions, made.group, made.branch, columns)
    rollouts = rollouts_of(rows, mapping)
    rollouts.completions = [_reply(completion) for completion in rollouts.completions]
    field = mapping.get("label") or next((name for name in LABELS if name in rows[0]), None)
    if field is not None:
        rollouts.columns["label"] = [_label(row.get(field), number, field) for number, row in enumerate(rows)]
    return rollouts


def _pairs(rows: Sequence[Row], mapping: Mapping[str, str]) -> list[dict[str, Any]]:
    """Two rows for each pair, the one that stands first in the table first."""
    chosen, rejected = (mapping.get(name, name) for name in ("chosen", "rejected"))
    if chosen in rows[0] and rejected in rows[0]:
        return [row for number, pair in enumerate(rows) for row in _two(pair, chosen, rejected, 1, number)]
    first, second, preferred = (mapping.get(name, name) for name in ("output_1", "output_2", "preference"))
    if all(name in rows[0] for name in (first, second, preferred)):
        return [row for n, pair in enumerate(rows) for row in _two(pair, first, second, pair.get(preferred), n)]
    return []


def _two(row: Row, first: str, second: str, better: Any, number: int) -> list[dict[str, Any]]:
    found = []
    for place, field in enumerate((first, second), 1):
        if field not in row:
            raise SteelyardError(f"row {number} has no field {field!r}; it has {', '.join(sorted(row))}")
        label = float(better == place) if better in (1, 2) else None
        found.append(
            {**row, "completion": _text(row[field]), "label": label, "pair": number, "id": row.get("id", number)}
        )
    return found


def _text(value: Any) -> Any:
    """The last message's content where a conversation is given."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping) and "content" in value[-1]:
        return value[-1]["content"]
    return value


def _reply(completion: Any) -> Any:
    """The text of a completion that is one message of a chat; all else as it is."""
    one = isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], Mapping)
    return completion_text(completion) if one else completion


def _label(value: Any, number: int, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lower() in WORDS:
        return WORDS[value.strip().lower()]
    if not isinstance(value, (bool, int, float)) or value not in (0, 1):
        raise SteelyardError(f"row {number}: {field!r} is {value!r:.40}; a label is true or false, 1 or 0, good or bad")
    return float(value)
