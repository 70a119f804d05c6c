"""Rewards for evidence: which single-hop statements an answer names, supports by its citations and links to itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from steelyard.rewards.citations import cited_urls
from steelyard.rewards.core import BatchReward
from steelyard.rewards.judges.parsing import parse_entities, parse_support
from steelyard.rewards.judges.scoring import named_reward, texts_of
from steelyard.rewards.judges.templates import entities_prompt, support_prompt
from steelyard.types import Array, Judge, Prompt, Rollouts, Scores, Status, SteelyardError

ANSWER = "E0"
_PLACEHOLDER = re.compile(r"<(E\d+)>")

Entities = Mapping[str, str | None]
Opened = Sequence[tuple[str, str, str]]
"""What an attempt's tools brought: address, title and text, one entry a snippet, an opened page or a match in it."""
T = TypeVar("T")


def placeholders(statements: Sequence[str]) -> list[str]:
    """The entities `<E0>`, `<E1>`, … that statements speak of, each once, by number."""
    names = {name for statement in statements for name in _PLACEHOLDER.findall(statement)}
    return sorted(names, key=lambda name: int(name[1:]))


def filled(statement: str, entities: Entities) -> str | None:
    """The statement with its entities' names put in; None where one of them is not known."""
    if any(entities.get(name) is None for name in _PLACEHOLDER.findall(statement)):
        return None
    return _PLACEHOLDER.sub(lambda found: str(entities[found[1]]), statement)


def connected(mentions: Array, supported: Array, *, start: int = 0) -> Array:
    """Which supported statements a breadth-first search from one entity reaches, over supported statements only.

    Args:
        mentions: bool [..., n, E], which entities each statement speaks of.
        supported: bool [..., n].
        start: the entity to begin at, the answer.

    Returns:
        bool [..., n]. A statement that speaks of no entity is never reached.

    Source: sheet 56, step 3.
    """
    mentions, supported = np.asarray(mentions, bool), np.asarray(supported, bool)
    shape = np.broadcast_shapes(mentions.shape[:-1], supported.shape)
    entities = np.zeros((*shape[:-1], mentions.shape[-1]), bool)
    entities[..., start : start + 1] = True
    while True:
        reached = supported & (mentions & entities[..., None, :]).any(axis=-1)
        more = entities | (reached[..., None] & mentions).any(axis=-2)
        if (more == entities).all():
            return np.broadcast_to(reached, shape).copy()
        entities = more


class Evidence(NamedTuple):
    """What an answer gives evidence for: the share of statements that count, and flags bool [n] of each."""

    value: float
    identified: Array
    supported: Array
    connected: Array


def evidence_credit(
    statements: Sequence[str], entities: Entities, supported: Sequence[bool] | Array, *, answer: str = ANSWER
) -> Evidence:
    """R_r = #{statements that are supported and connected to the answer} / n.

    A statement is identified where all its entities have names; only an identified one can be supported.

    Args:
        statements: single-hop statements over `<E0>`, `<E1>`, …; `<E0>` is the answer.
        entities: name of every entity, None where the answer does not say it.
        supported: of every statement [n], whether the cited pages support it.
        answer: the entity that the chain must reach.

    Raises:
        SteelyardError: for no statements, or flags of another number.

    Source: sheet 56, "Reward of a rollout".
    """
    if not statements or len(supported) != len(statements):
        raise SteelyardError(f"{len(supported)} flags for {len(statements)} statements; at least one, and one each")
    names = list(dict.fromkeys([answer, *placeholders(statements)]))
    mentions = np.array([[f"<{name}>" in statement for name in names] for statement in statements])
    identified = np.array([filled(statement, entities) is not None for statement in statements])
    held = identified & np.asarray(supported, bool)
    reached = connected(mentions, held)
    return Evidence(float(reached.mean()), identified, held, reached)


def cited_pages(response: str, opened: Opened, *, most: int = 20) -> str:
    """The pages that a response cites and its own tools have brought, as one text; what stands twice is shown once.

    Citations are links `[1](https://…)`. A page that was cited but never seen is left out; `""` if none is left.

    Args:
        response: the answer with its citations.
        opened: what the tools brought.
        most: how many pages.

    Source: sheet 56, step 2.
    """
    seen = {url for url, _, _ in opened}
    pages: list[str] = []
    shown: set[tuple[str, str]] = set()
    for number, url in enumerate([url for url in cited_urls(response) if url in seen][:most], 1):
        lines = [f"[Page {number}] {url}"]
        for where, title, text in opened:
            new = [part.strip() for part in (title, text) if part.strip() and (url, part.strip()) not in shown]
            if where == url:
                shown.update((url, part) for part in new)
                lines += new
        pages.append("\n".join(lines))
    return "\n\n".join(pages)


def without_references(response: str) -> str:
    """The response up to its last heading `## References`."""
    return response.rpartition("## References")[0].strip() if "## References" in response else response


def evidence_chain(
    judge: Judge,
    *,
    statements: str = "statements",
    opened: str | Callable[[Rollouts], Sequence[Opened]] = "opened",
    question: str = "prompt",
    answer: str = ANSWER,
    tries: int = 5,
    most_pages: int = 20,
    name: str = "evidence_chain",
) -> BatchReward:
    """Citation-aware rubric reward: see `evidence_credit`. Two questions to the judge a row, equal ones once.

    The first asks for the entities that the response names, the second which identified statements the cited pages
    support; it is not asked where nothing is identified or no citation can be used (0). Where the judge cannot be read
    after `tries` tries, the row is NaN and `NAME/unjudged` is 1: the policy is not punished for its judge. The parts
    `NAME/identified` and `NAME/supported` are shares of the statements.

    Args:
        judge: who is asked.
        statements: column with a list of single-hop statements a row; a row without any is not applicable.
        opened: column with what a row's tools brought, or a function of the rollouts.
        question: column with the question.
        answer: the entity that the chain must reach.
        tries: how often an unreadable reply is asked for again.
        most_pages: how many cited pages the judge reads.
        name: how logs call it.

    Raises:
        SteelyardError: for fewer than one try or page, or at the call, naming the row that holds no such list.

    Source: sheet 56 (CaRR); there a judge's failure is 0.
    """
    if min(tries, most_pages) < 1:
        raise SteelyardError(f"{name}: tries={tries}, most_pages={most_pages}; both must be at least 1")

    def score(rollouts: Rollouts) -> Scores:
        rows, place = _distinct(rollouts, statements, opened, question)
        entities = _entities(judge, rows, tries)
        supported = _supported(judge, rows, entities, tries, most_pages)
        return _scores(rows, entities, supported, answer, name).take(place)

    return named_reward(score, name, f"{name}({getattr(judge, 'name', judge)!r})")


class _Rows(NamedTuple):
    responses: list[str]
    questions: list[str]
    statements: list[tuple[str, ...]]
    opened: list[Opened]


def _distinct(rollouts: Rollouts, statements: str, opened: Any, question: str) -> tuple[_Rows, Array]:
    """Rows of which no two are equal, and the place among them of every row of the rollouts [N]."""
    rows = zip(
        (without_references(text) for text in texts_of(rollouts, "completion")),
        texts_of(rollouts, question),
        (_texts(value, i, statements) for i, value in enumerate(rollouts.column(statements))),
        (_opened(pages, i) for i, pages in enumerate(_column(rollouts, opened))),
        strict=True,
    )
    number: dict[Any, int] = {}
    place = np.array([number.setdefault(row, len(number)) for row in rows], np.int64)
    columns = [list(column) for column in zip(*number, strict=True)] or [[], [], [], []]
    return _Rows(*columns), place


def _column(rollouts: Rollouts, opened: str | Callable[[Rollouts], Sequence[Any]]) -> Sequence[Any]:
    return opened(rollouts) if callable(opened) else rollouts.column(opened)


def _texts(value: Any, row: int, column: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise SteelyardError(f"row {row}, column {column!r} holds {value!r:.60}; give a list of statements")
    return tuple(value)


def _opened(value: Any, row: int) -> Opened:
    try:
        return tuple((str(url), str(title), str(text)) for url, title, text in value)
    except (TypeError, ValueError):
        raise SteelyardError(f"row {row} opened {value!r:.60}; give [address, title, text] for every page") from None


def _asked(
    judge: Judge, prompts: Mapping[int, Prompt], parse: Callable[[int, str | None], T | None], tries: int
) -> dict[int, T | None]:
    """Row to what its reply says; None where no try could be read."""
    found: dict[int, T | None] = dict.fromkeys(prompts)
    for _ in range(tries):
        open_ = [row for row, value in found.items() if value is None]
        replies = judge.ask([prompts[row] for row in open_]) if open_ else []
        found |= {row: parse(row, reply) for row, reply in zip(open_, replies, strict=True)}
    return found


def _entities(judge: Judge, rows: _Rows, tries: int) -> dict[int, Entities | None]:
    names = [placeholders(statements) for statements in rows.statements]
    prompts = {
        row: entities_prompt(rows.questions[row], statements, rows.responses[row], names[row])
        for row, statements in enumerate(rows.statements)
        if statements
    }
    return _asked(judge, prompts, lambda row, reply: parse_entities(reply, names[row]), tries)


def _supported(
    judge: Judge, rows: _Rows, entities: Mapping[int, Entities | None], tries: int, most: int
) -> dict[int, list[bool] | None]:
    """Row to flags of its statements; all False where there is nothing to ask."""
    found: dict[int, list[bool] | None] = {}
    prompts: dict[int, Prompt] = {}
    asked: dict[int, dict[str, int]] = {}
    for row, named in entities.items():
        whole = [] if named is None else [filled(statement, named) for statement in rows.statements[row]]
        found[row] = None if named is None else [False] * len(whole)
        text = cited_pages(rows.responses[row], rows.opened[row], most=most)
        said = [(k, statement) for k, statement in enumerate(whole) if statement is not None]
        if said and text:
            asked[row] = {f"S{i}": k for i, (k, _) in enumerate(said, 1)}
            prompts[row] = support_prompt(text, {f"S{i}": statement for i, (_, statement) in enumerate(said, 1)})
    verdicts = _asked(judge, prompts, lambda row, reply: parse_support(reply, list(asked[row])), tries)
    for row, verdict in verdicts.items():
        held = {asked[row][label] for label, yes in (verdict or {}).items() if yes}
        found[row] = None if verdict is None else [k in held for k in range(len(rows.statements[row]))]
    return found


def _scores(
    rows: _Rows,
    entities: Mapping[int, Entities | None],
    supported: Mapping[int, list[bool] | None],
    answer: str,
    name: str,
) -> Scores:
    n = len(rows.responses)
    table = np.full((3, n), np.nan)
    for row, flags in supported.items():
        named = entities[row]
        if flags is not None and named is not None:
            found = evidence_credit(rows.statements[row], named, flags, answer=answer)
            table[:, row] = found.value, found.identified.mean(), found.supported.mean()
    asked = np.isin(np.arange(n), list(entities))
    unjudged = asked & np.isnan(table[0])
    status = np.where(unjudged, Status.UNPARSED, np.where(asked, Status.SCORED, Status.NOT_APPLICABLE))
    parts = {f"{name}/identified": table[1], f"{name}/supported": table[2], f"{name}/unjudged": unjudged}
    return Scores(table[0], status, parts={key: part.astype(np.float32) for key, part in parts.items()})
