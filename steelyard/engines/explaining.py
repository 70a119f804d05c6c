"""Why a completion got its score: the expression as a tree with the value of every node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steelyard.engines.batches import numbers, status_name
from steelyard.rewards.combinators import Combination, Vector
from steelyard.rewards.core import (
    BatchReward,
    Constant,
    Expression,
    Fill,
    Gate,
    Memo,
    Product,
    RowReward,
    Sum,
    leaves,
)  # fmt: skip
from steelyard.rewards.schedules import Scheduled
from steelyard.types import Rollouts, Scores, SteelyardError


@dataclass
class Node:
    """One reward of an expression, judged.

    Attributes:
        kind: what it is: sum, product, gate, … or reward for a leaf.
        name: the expression as it was written.
        value: of the row, None without a verdict; status: what became of it.
        role: what it is to the node above: `weight 0.8`, `by`, …
        note: what the node itself did, for a reader: which side of a gate counted, why there is no value.
        parts: further numbers that it gives beside its value.
        operands: one level down.
    """

    kind: str
    name: str
    value: float | None
    status: str
    role: str = ""
    note: str = ""
    parts: dict[str, float | None] = field(default_factory=dict)
    operands: list[Node] = field(default_factory=list)


def explained(reward: Expression, rollouts: Rollouts) -> Node:
    """The tree of an expression on rollouts of one row. Every part is computed once.

    Raises:
        SteelyardError: for another number of rows, or what the reward itself raises.
    """
    if len(rollouts) != 1:
        raise SteelyardError(f"a tree explains one row, these rollouts have {len(rollouts)}")
    memo: Memo = {}
    reward._evaluate(rollouts, memo)
    return _node(reward, rollouts, memo)


def _node(reward: Expression, rollouts: Rollouts, memo: Memo, role: str = "") -> Node:
    scores = reward._evaluate(rollouts, memo)
    operands = [_node(part, rollouts, memo, role) for part, role in zip(reward.operands, _roles(reward), strict=True)]
    value, status = numbers(scores.values)[0], status_name(np.asarray(scores.status)[0])
    node = Node(_kind(reward), repr(reward), value, status, role, operands=operands)
    node.parts = {} if isinstance(reward, Constant) else _own_parts(reward, scores, memo)
    node.note = _note(reward, operands) or ("" if scores.notes is None else scores.notes[0])
    return node


KINDS: dict[type[Expression], str] = {Sum: "sum", Product: "product", Gate: "gate", Fill: "fill", Constant: "constant"}


def _kind(reward: Expression) -> str:
    if isinstance(reward, (RowReward, BatchReward)):
        return "reward"
    if isinstance(reward, Combination):
        return reward.name.partition("(")[0]
    return KINDS.get(type(reward), type(reward).__name__.lower() if reward.operands else "reward")


def _roles(reward: Expression) -> list[str]:
    """What each operand is to the reward."""
    if isinstance(reward, Sum):
        return [f"weight {weight:g}" for weight, _ in reward.terms]
    if isinstance(reward, Gate):
        return ["reward", "by"]
    if isinstance(reward, Vector):
        return [f"{name}, weight {reward.weights[name]:g}" for name in reward.names]
    if isinstance(reward, Scheduled):
        return [f"weight {reward.weight:g}" for _ in reward.operands]
    return ["" for _ in reward.operands]


def _note(reward: Expression, operands: list[Node]) -> str:
    said: dict[type[Expression], Callable[[Any, list[Node]], str]] = {Gate: _gate_note, Fill: _fill_note}
    return said.get(type(reward), lambda *_: "")(reward, operands)


def _gate_note(gate: Gate, operands: list[Node]) -> str:
    by = operands[1].value
    if by is None:
        return "not known whether it is open"
    return f"open: {by:g} > {gate.above:g}" if by > gate.above else f"shut: {by:g} is not above {gate.above:g}"


def _fill_note(fill: Fill, operands: list[Node]) -> str:
    return f"filled in: {operands[0].status}" if operands[0].value is None else ""


def _own_parts(reward: Expression, scores: Scores, memo: Memo) -> dict[str, float | None]:
    """Parts that no operand gives and that are not the value itself."""
    below = {id(part) for operand in reward.operands for part in memo[id(operand)].parts.values()}
    own = {name: part for name, part in scores.parts.items() if id(part) not in below and part is not scores.values}
    repeats = getattr(reward, "base", reward.name)
    return {name: numbers(part)[0] for name, part in own.items() if name != repeats}


def check_columns(reward: Expression, given: set[str]) -> None:
    """Refuse columns that no part reads, where all parts say what they read: a mistyped option is no column.

    Raises:
        SteelyardError: naming the column and those that are read.
    """
    parts = leaves(reward)
    if all(isinstance(part, (RowReward, Constant)) for part in parts):
        read = {name for part in parts if isinstance(part, RowReward) for names in part.reads for name in names}
        if unknown := sorted(given - read):
            raise SteelyardError(f"nothing in {reward!r} reads {unknown[0]!r}; it reads {', '.join(sorted(read))}")


def texts_of(reward: Expression) -> set[str]:
    """Columns that a part takes as `str` by its annotation: for them 42 is a text, not a number."""
    return {name for part in leaves(reward) if isinstance(part, RowReward) for name in part.texts}
