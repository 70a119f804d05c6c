"""Attempts of several steps with an environment between them: turns one behind another, what was read masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from steelyard.environments import Agent, Environment
from steelyard.learn.recipe import Candidate
from steelyard.types import Actions, Array, Policy, Prefix, Rollouts, Sample, SteelyardError, streams

T = TypeVar("T")


def attempts(
    policy: Agent,
    samples: Sequence[Sample],
    n: int,
    *,
    environment: Environment,
    budget: int,
    generator: np.random.Generator,
    force: str = "",
    greedy: bool = False,
) -> Rollouts:
    """n attempts of up to `budget` steps for each sample, the environment's answers between the steps.

    The steps of an attempt and what they brought stand behind one another in `actions`; `mask` is False on everything
    that the policy did not write, and `spans["step"]` says where each of its steps lies.

    Args:
        policy: takes one step a call (a language policy whose `sampling.stop` ends an action).
        samples: what is asked; n: attempts each.
        environment: answers the steps.
        budget: B, the most steps.
        generator: of every draw.
        force: put behind an attempt that has not ended after B steps, to have it answer; that step is masked. Nothing
            is forced by default.
        greedy: take the most likely step.

    Returns:
        rollouts [len(samples) * n] with the columns `turns` (the sample with its prefix, and the text, of every step)
        and `final` (the last step's text). `completions` hold steps and observations.

    Raises:
        SteelyardError: for a budget or n below 1, or a policy that cannot read what an environment says.

    Source: sheet 67 (full trajectories, its baseline; prefix and retrieved tokens are masked).
    """
    check_agent(policy, budget=budget, n=n)
    start = [begun(policy, sample) for sample in samples for _ in range(n)]
    rows = _Rows(policy, start, [sample for sample in samples for _ in range(n)])
    for t in range(budget):
        live = np.flatnonzero(rows.live)
        if not len(live):
            break
        if t == 0:
            part = policy.sample([start[i] for i in range(0, len(start), n)], n, generator=generator, greedy=greedy)
        else:
            part = rows.sampled(live, generator, greedy=greedy)
        seen, texts = [rows.views[i] for i in live], list(part.completions)
        rows.write(live, part)
        brought = on_main(policy, lambda seen=seen, texts=texts: environment(seen, texts))  # type: ignore[misc]
        rows.hear(live, _checked(brought, len(live)))
    left = np.flatnonzero(rows.live)
    if force and len(left):
        rows.hear(left, [force] * len(left))
        rows.write(left, rows.sampled(left, generator, greedy=greedy), own=False)
    return rows.rollouts(np.repeat(np.arange(len(samples)), n))


@dataclass
class _Rows:
    """Attempts while they grow; every field has a row an attempt."""

    policy: Agent
    views: list[Sample]
    samples: list[Sample]
    parts: list[tuple[Actions, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = np.ones(len(self.views), bool)
        self.turns: list[list[tuple[Sample, str]]] = [[] for _ in self.views]
        self.texts, self.final = [""] * len(self.views), [""] * len(self.views)

    def sampled(self, live: Array, generator: np.random.Generator, *, greedy: bool) -> Rollouts:
        """One step more of the rows that go on; a row's draws do not depend on which others do."""
        sources = streams(generator, len(self.views))
        mine, views = [sources[i] for i in live], [self.views[i] for i in live]
        return self.policy.sample(views, 1, generator=mine, greedy=greedy)

    def write(self, live: Array, part: Rollouts, *, own: bool = True) -> None:
        """Put a step behind each of these rows."""
        assert part.actions is not None
        self.parts.append((_spread(part.actions, live, len(self.views)), own))
        for i, (row, text) in enumerate(zip(live, part.completions, strict=True)):
            if own:
                self.turns[row].append((self.views[row], text))
            self.final[row] = text
            self._grow(row, text, part.actions, i, steps=1)

    def hear(self, live: Array, brought: Sequence[str | None]) -> None:
        """Put what it brought behind each of these rows; those that it ended stop."""
        heard = self.policy.read([text or "" for text in brought])
        self.parts.append((_spread(heard, live, len(self.views)), False))
        for i, (row, text) in enumerate(zip(live, brought, strict=True)):
            self.live[row] = text is not None
            self._grow(row, text or "", heard, i, steps=0)

    def _grow(self, row: int, text: str, actions: Actions, i: int, *, steps: int) -> None:
        self.texts[row] += text
        prefix = longer(self.views[row].prefix, text, actions, i, steps=steps)
        self.views[row] = replace(self.views[row], prefix=prefix)

    def rollouts(self, group: Array) -> Rollouts:
        """The attempts, as one row each."""
        actions, spans = behind_one_another(self.parts)
        return Rollouts(
            samples=self.samples,
            completions=self.texts,
            group=group,
            columns={"turns": self.turns, "final": self.final},
            actions=actions,
            spans={"step": spans},
        )


def begun(policy: Agent, sample: Sample) -> Sample:
    """The sample with a prefix, in the policy's own terms too."""
    text = sample.prefix.text if sample.prefix else ""
    if sample.prefix is not None and (sample.prefix.data or not text):
        return sample
    read = policy.read([text])
    return replace(sample, prefix=longer(None, text, read, 0, steps=sample.prefix.steps if sample.prefix else 0))


def longer(prefix: Prefix | None, text: str, actions: Actions, row: int, *, steps: int) -> Prefix:
    """A prefix with a row's text and actions behind it, `steps` of them the policy's own."""
    there = actions.mask[row]
    more = {name: array[row][there] for name, array in actions.data.items()}
    if prefix is None:
        return Prefix(text, steps, more)
    data = {name: np.concatenate([prefix.data.get(name, array[:0]), array]) for name, array in more.items()}
    return Prefix(prefix.text + text, prefix.steps + steps, data)


def behind_one_another(parts: Sequence[tuple[Actions, bool]]) -> tuple[Actions, Array]:
    """Parts of N attempts as one row each.

    Args:
        parts: actions [N, T_p] whose mask is True where a row has something, at its left end; and whether the policy
            did it.

    Returns:
        actions [N, T] whose mask is True on what the policy did; and int64 [N, S, 2], where its S parts lie, −1 where a
        row has fewer.
    """
    lengths = np.stack([part.mask.sum(axis=1) for part, _ in parts], axis=1)
    ends = lengths.cumsum(axis=1)
    starts, n, width = ends - lengths, len(lengths), int(ends[:, -1].max(initial=0))
    mask, logprobs = np.zeros((n, width), bool), np.zeros((n, width), np.float32)
    first = parts[0][0]
    data = {name: np.zeros((n, width, *array.shape[2:]), array.dtype) for name, array in first.data.items()}
    for number, (part, own) in enumerate(parts):
        row, step = np.nonzero(part.mask)
        place = row, starts[row, number] + step
        mask[place], logprobs[place] = own, part.logprobs[row, step]
        for name, array in part.data.items():
            data[name][place] = array[row, step]
    mine = np.array([own for _, own in parts])
    spans = np.stack([starts, ends], axis=2)[:, mine]
    return Actions(logprobs, mask, data, first.temperature), np.where(lengths[:, mine, None] > 0, spans, -1)


def _spread(actions: Actions, live: Array, count: int) -> Actions:
    """Actions of some rows as those of all, empty in the others."""

    def laid(array: Array) -> Array:
        whole = np.zeros((count, *array.shape[1:]), array.dtype)
        whole[live] = array
        return whole

    data = {name: laid(array) for name, array in actions.data.items()}
    return Actions(laid(actions.logprobs), laid(actions.mask), data, actions.temperature)


def on_main(policy: Policy, make: Callable[[], T]) -> T:
    """What the first of several processes computes; the others are given it, since judges and tools may not repeat."""
    shared: Callable[[Callable[[], T]], T] | None = getattr(policy, "from_main", None)
    return make() if shared is None else shared(make)


def check_agent(policy: Policy, **counts: int) -> None:
    """Refuse counts below 1, and a policy that cannot read.

    Raises:
        SteelyardError: naming what is wrong.
    """
    for name, count in counts.items():
        if count < 1:
            raise SteelyardError(f"attempts with {name}={count} make no step; give at least 1")
    if not hasattr(policy, "read"):
        what = type(policy).__name__
        raise SteelyardError(f"{what} cannot read what a tool says; give a policy with `read`, such as LanguagePolicy")


def _checked(brought: Sequence[str | None], count: int) -> Sequence[str | None]:
    if len(brought) != count or not all(text is None or isinstance(text, str) for text in brought):
        raise SteelyardError(f"the environment gave {len(brought)} answers to {count} steps; give a text or None each")
    return brought


class AsItIs:
    """A plan's way with samples that it never changes."""

    def draw(self, sample: Sample, generator: np.random.Generator) -> Candidate:
        """The sample as it is."""
        return Candidate(sample)

    def restore(self, sample: Sample, spec: Mapping[str, Any] | None) -> Candidate:
        """The sample as it is.

        Raises:
            SteelyardError: if it was stored with a change.
        """
        if spec is not None:
            raise SteelyardError(f"sample {sample.id!r} was stored with a change {dict(spec)} but the plan has none")
        return Candidate(sample)


@dataclass(frozen=True)
class Trajectories(AsItIs):
    """See `trajectories`."""

    environment: Environment
    n: int
    budget: int
    force: str = ""

    def rollouts(self, policy: Policy, candidates: Sequence[Candidate], generator: np.random.Generator) -> Rollouts:
        """n attempts for each candidate. See `attempts`."""
        return attempts(
            policy, [c.view for c in candidates], self.n,  # type: ignore[arg-type]
            environment=self.environment, budget=self.budget, generator=generator, force=self.force,
        )  # fmt: skip


def trajectories(*, environment: Environment, n: int, budget: int, force: str = "") -> Trajectories:
    """n whole attempts for every sample, of up to `budget` steps with the environment's answers between (masked).

    Score single steps of them with `steelyard.rewards.stepwise.stepwise`, put together with the outcome by `fused`
    over the spans `step`.

    Raises:
        SteelyardError: for n or a budget below 1.
    """
    if n < 1 or budget < 1:
        raise SteelyardError(f"trajectories(n={n}, budget={budget}) make no step; both must be at least 1")
    return Trajectories(environment, n, budget, force)
