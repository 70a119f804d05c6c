"""Truncated steps: several candidates for the next step from one shared prefix, one of which goes on (SLATE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from steelyard.environments import Environment
from steelyard.learn.recipe import Candidate
from steelyard.learn.trajectories import AsItIs, begun, check_agent, longer, on_main
from steelyard.types import Array, Policy, Reward, Rollouts, Sample, Scores, SteelyardError, streams


class Selection(Protocol):
    """Which candidate goes on."""

    def __call__(self, scores: Array) -> Array:
        """Probabilities [M, k] from scores [M, k]; 0 where a score is NaN, all 0 where no candidate has one."""
        ...


@dataclass(frozen=True)
class ByAdvantage:
    """See `by_advantage`."""

    eta: float

    def __call__(self, scores: Array) -> Array:
        """softmax(A / η) row by row."""
        judged = ~np.isnan(scores)
        count = judged.sum(axis=1, keepdims=True)
        mean = np.where(judged, scores, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        centred = np.where(judged, scores - mean, 0.0)
        std = np.sqrt((centred**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1))
        logits = np.where(judged, centred / (std + 1e-6) / self.eta, -np.inf)
        top = logits.max(axis=1, keepdims=True, initial=-np.finfo(np.float64).max)
        return _shares(np.exp(logits - top))


@dataclass(frozen=True)
class Best:
    """See `best`."""

    def __call__(self, scores: Array) -> Array:
        """1 at the highest score, the first of equals."""
        known = np.where(np.isnan(scores), -np.inf, scores)
        return ((np.arange(scores.shape[1]) == known.argmax(axis=1)[:, None]) & np.isfinite(known)).astype(np.float64)


@dataclass(frozen=True)
class AtRandom:
    """See `at_random`."""

    def __call__(self, scores: Array) -> Array:
        """The same for every judged candidate."""
        return _shares((~np.isnan(scores)).astype(np.float64))


def _shares(weights: Array) -> Array:
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(weights / np.where(total > 0, total, 1.0))


def by_advantage(eta: float = 0.7) -> ByAdvantage:
    """p_j ∝ exp(A_j / η), A the scores less their mean over their standard deviation; η → 0 is best of k.

    All scores equal, it is uniform.

    Raises:
        SteelyardError: for η that is not positive.

    Source: sheet 67, step 5 as the released code has it: on the normalised advantage, not on the raw score.
    """
    if not 0 < eta < float("inf"):
        raise SteelyardError(f"by_advantage(eta={eta}) has no softmax; eta must be positive (or take best())")
    return ByAdvantage(eta)


def best() -> Best:
    """The candidate with the highest score goes on."""
    return Best()


def at_random() -> AtRandom:
    """Every judged candidate goes on with the same probability, which keeps the policy's own distribution."""
    return AtRandom()


@dataclass(frozen=True)
class TruncatedSteps(AsItIs):
    """See `truncated_steps`."""

    environment: Environment
    score: Reward
    k: int
    budget: int
    select: Selection
    force: str = ""

    def rollouts(self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator) -> Rollouts:
        """k candidates for every step of every question; `group` is the question, the column `step` the step."""
        check_agent(policy, k=self.k, budget=self.budget)
        views = [begun(policy, c.view) for c in candidates]  # type: ignore[arg-type]
        live, parts = np.arange(len(views)), []
        final = [""] * len(views)
        for t in range(self.budget):
            if not len(live):
                break
            sources, picks = streams(generator, len(views)), generator.random(len(views))
            part = policy.sample([views[i] for i in live], self.k, generator=[sources[i] for i in live])
            part.group = live[part.groups]
            part.columns["step"] = [t] * len(part)
            scores = on_main(policy, lambda part=part: self.score(part))  # type: ignore[misc]
            row, chosen = self._chosen(scores, picks[live])
            part.columns |= {"scored": _single(scores), "selected": _marks(row[chosen], len(part))}
            parts.append(part)
            live = self._advance(policy, views, final, part, row[chosen])
        if self.force and len(live):
            self._force(policy, views, final, live, generator)
        rollouts = Rollouts.concatenate(parts)
        rollouts.columns["final"] = [final[group] for group in rollouts.groups]
        return rollouts

    def _chosen(self, scores: Scores, picks: Array) -> tuple[Array, Array]:
        """The row that each question would go on with [M], and whether any of its candidates was judged [M]."""
        chances = self.select(scores.values.astype(np.float64).reshape(-1, self.k))
        cumulative = chances.cumsum(axis=1)
        judged = cumulative[:, -1] > 0
        last = self.k - 1 - (chances > 0)[:, ::-1].argmax(axis=1)
        pick = np.minimum((picks[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=1), last)
        return np.arange(len(chances)) * self.k + pick, judged

    def _advance(self, policy: Policy, views: list[Sample], final: list[str], part: Rollouts, rows: Array) -> Array:
        """Run the chosen steps and put what they brought behind them; the questions that go on."""
        assert part.actions is not None
        mine, texts = part.groups[rows], [part.completions[row] for row in rows]
        brought = on_main(policy, lambda: self.environment([views[i] for i in mine], texts)) if len(mine) else []
        heard = policy.read([text or "" for text in brought])  # type: ignore[attr-defined]
        for i, (question, row, text) in enumerate(zip(mine, rows, brought, strict=True)):
            final[question] = part.completions[row]
            grown = longer(views[question].prefix, final[question], part.actions, row, steps=1)
            views[question] = replace(views[question], prefix=longer(grown, text or "", heard, i, steps=0))
        return mine[[text is not None for text in brought]] if len(mine) else mine

    def _force(
        self, policy: Policy, views: list[Sample], final: list[str], live: Array, generator: np.random.Generator
    ) -> None:
        """One more step of the questions that have not ended, for the record only."""
        heard = policy.read([self.force])  # type: ignore[attr-defined]
        asked = [replace(views[i], prefix=longer(views[i].prefix, self.force, heard, 0, steps=0)) for i in live]
        for question, text in zip(live, policy.sample(asked, 1, generator=generator).completions, strict=True):
            final[question] = text


def _single(scores: Scores) -> list[Scores]:
    """One row each."""
    return [scores.take(np.array([row])) for row in range(len(scores))]


def _marks(rows: Array, count: int) -> list[bool]:
    return [bool(mark) for mark in np.isin(np.arange(count), rows)]


def truncated_steps(
    *,
    environment: Environment,
    score: Reward,
    k: int = 5,
    budget: int = 4,
    select: Selection | None = None,
    force: str = "",
) -> TruncatedSteps:
    """k candidates for the NEXT step from the prefix that they share; one goes on, all are trained on (SLATE).

    Each step: k candidates are drawn behind the prefix, every one is scored before the environment sees it, one is
    selected, only its action is run, and it and what it brought are the next prefix. A question ends where the selected
    step ends it, after `budget` steps, or where no candidate could be judged.

    Every candidate is a row whose sample carries the prefix: so a prefix runs through the model once for its k rows, in
    sampling and in training, and only the step itself is trained. Group by `("group", "step")`. Columns: `step` from 0,
    `selected`, `final` (the last selected step of the question), `scored` (read by `on_the_way`).

    Args:
        environment: answers the selected steps.
        score: of single steps; the sample's prefix says what went before, and how many steps.
        k: candidates; budget: B, the most steps.
        select: which goes on; `by_advantage(0.7)` by default.
        force: put behind a question that has not ended after B steps, to have it answer once more, untrained, in
            `final`; nothing is forced by default.

    Raises:
        SteelyardError: for k or a budget below 1.

    Source: sheet 67 (SLATE, arXiv 2602.23440), "Method".
    """
    if k < 1 or budget < 1:
        raise SteelyardError(f"truncated_steps(k={k}, budget={budget}) makes no step; both must be at least 1")
    return TruncatedSteps(environment, score, k, budget, select or by_advantage(), force)
