"""The detectors of the reward as a whole: each reads one step's figures after another and says what it sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from steelyard.audits.monitor.alerts import Sign
from steelyard.audits.monitor.online import Average, Baseline, Cusum, Forecast

Figures = Mapping[str, Any]


class Detector(Protocol):
    """A dataclass whose fields are plain JSON, or such dataclasses, so that it can be saved and resumed."""

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees now that this step's figures are in; see `figures.step_figures`."""
        ...


def _known(figures: Figures, *names: str) -> bool:
    return all(figures.get(name) is not None for name in names)


@dataclass
class VarianceCollapse:
    """Rewards of a group have become alike: the average of the spread is under `below` of its first steps'.

    spread = mean over groups of the standard deviation within the group: what GRPO's advantages are made of. Slowly it
    is a warning, because mastery and a task's natural ceiling look so too. At once it is an alarm, because a judge
    gives all the same: every group flat for `steps` steps or more, after at least `sudden` of the first steps' spread
    both on average and in the last three steps, where flat steps were no more than the share `usual`: with few rows,
    or a reward that is rarely won, they are ordinary.
    """

    below: float = 0.1
    sudden: float = 0.4
    steps: int = 5
    usual: float = 0.2
    baseline: Baseline = field(default_factory=Baseline)
    spread: Average = field(default_factory=Average)
    often: Average = field(default_factory=lambda: Average(0.1, 0.0))
    recent: list[float] = field(default_factory=list)
    constant: int = 0
    before: float = 0.0
    before_often: float = 0.0

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        if not _known(figures, "spread", "reward"):
            return ()
        self._count(figures["spread"])
        now = self.spread.update(figures["spread"])
        self.baseline.update(figures["spread"])
        first = self.baseline.mean
        if not self.baseline.ready or first <= 0:
            return ()
        found = {"spread": now, "at_first": first, "reward": figures["reward"]}
        sudden = self.before >= self.sudden * first and self.before_often <= self.usual
        if self.constant >= self.steps and sudden:
            seen = f"for {self.constant} steps no group has had any difference in reward; just before, its spread"
            seen += f" was {self.before:.3g} ({first:.3g} at first)."
            do = "Nobody learns that fast: look whether the judge gives every answer the same, and what changed there."
            return (Sign("alarm", seen, do, found, since=figures["step"] - self.constant + 1, patience=1),)
        if now >= self.below * first:
            return ()
        seen = f"the spread of rewards within a group fell from {first:.3g} to {now:.3g}, at a reward of"
        do = "Little is left to learn from these prompts: read a group; if it is right, take harder ones."
        return (Sign("warning", f"{seen} {figures['reward']:.3g}.", do, found, patience=5),)

    def _count(self, spread: float) -> None:
        """Count flat steps in a row, and keep what was usual before them."""
        flat = spread <= 1e-9
        if flat and not self.constant:
            recently = sum(self.recent) / max(1, len(self.recent)) if self.baseline.count >= self.steps else 0.0
            self.before = min(self.spread.value or 0.0, recently)
            self.before_often = self.often.value or 0.0
        self.constant = self.constant + 1 if flat else 0
        self.often.update(float(flat))
        self.recent = [*self.recent, spread][-3:]


@dataclass
class NoSignal:
    """Nearly every group scores all its rows the same: the average share of such groups is at least `above`."""

    above: float = 0.9
    flat: Average = field(default_factory=Average)

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        if not _known(figures, "flat"):
            return ()
        now = self.flat.update(figures["flat"])
        if now < self.above:
            return ()
        seen = f"{now:.0%} of the groups have no difference in reward, so they teach nothing."
        do = "Take prompts of another difficulty, more attempts a prompt, or a finer reward."
        return (Sign("warning", seen, do, {"flat": now}, patience=5),)


@dataclass
class Saturation:
    """Nearly every row stands at the highest reward seen: the average share is at least `above`."""

    above: float = 0.95
    highest: float | None = None
    lowest: float | None = None
    top: Average = field(default_factory=Average)

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        if not _known(figures, "max", "min", "top"):
            return ()
        self.highest = figures["max"] if self.highest is None else max(self.highest, figures["max"])
        self.lowest = figures["min"] if self.lowest is None else min(self.lowest, figures["min"])
        reached = figures["max"] >= self.highest - 1e-3 * max(self.highest - self.lowest, 1e-9)
        now = self.top.update(figures["top"] if reached else 0.0)
        if now < self.above or self.highest <= self.lowest:
            return ()
        seen = f"{now:.0%} of the rows get the highest reward there has been, {self.highest:.3g}."
        do = "Either the task is mastered or the reward is too easy: check a few by hand, then make one of them harder."
        return (Sign("warning", seen, do, {"top": now, "highest": self.highest}, patience=5),)


@dataclass
class ChangePoint:
    """The reward jumps against its own trend: a CUSUM of the forecast's errors passes its limit within a few steps.

    Slow changes are what training is for; the forecast follows them. A jump is not learning.
    """

    within: int = 6
    least: float = 0.1
    forecast: Forecast = field(default_factory=lambda: Forecast(level_rate=0.2))
    cusum: Cusum = field(default_factory=lambda: Cusum(slack=0.75, limit=6.0))
    highest: float | None = None
    lowest: float | None = None
    recent: list[float] = field(default_factory=list)

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        if not _known(figures, "reward"):
            return ()
        x, step = figures["reward"], figures["step"]
        judged = (figures.get("rows") or 0) * (1 - (figures.get("failed") or 0.0))
        least = (figures.get("std") or 0.0) / math.sqrt(judged) if judged else 0.0
        self.highest = max(x if self.highest is None else self.highest, figures.get("max") or x)
        self.lowest = min(x if self.lowest is None else self.lowest, figures.get("min") or x)
        error = self.forecast.update(x, least=least)
        self.recent = [*self.recent, x][-(self.within + 4) :]
        change = None if error is None else self.cusum.update(error, step)
        if change is None:
            return ()
        direction, since = change
        gone = step - since + 1
        before = self.recent[: max(1, len(self.recent) - gone)]
        was = sum(before) / len(before)
        if gone > self.within or abs(x - was) < self.least * (self.highest - self.lowest):
            return ()
        word = "rose" if direction > 0 else "fell"
        seen = f"the reward {word} at once from {was:.3g} to {x:.3g}, which its trend did not foretell."
        do = "Look at what changed there (a judge, a column, a weight, the data); compare completions on both sides."
        return (Sign("alarm", seen, do, {"before": was, "reward": x}, since=since, patience=1),)


@dataclass
class Failures:
    """More rows than at first cannot be judged: average share > first share + max(`more`, 4 standard errors).

    The standard error is that of the average minus the first ten steps' share, p = (k + 1) / (n + 2) for k of n rows
    in these: √(p (1 − p) (1/9 + 1/10) / rows).
    """

    more: float = 0.05
    many: float = 0.3
    baseline: Baseline = field(default_factory=Baseline)
    failed: Average = field(default_factory=Average)

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        if not _known(figures, "failed"):
            return ()
        now = self.failed.update(figures["failed"])
        self.baseline.update(figures["failed"])
        if not self.baseline.ready:
            return ()
        first, rows = self.baseline.mean, figures.get("rows") or 1
        seen_first = rows * self.baseline.count
        p = (first * seen_first + 1) / (seen_first + 2) if figures.get("rows") else first
        error = math.sqrt(max(p * (1 - p), 0.0) * (1 / 9 + 1 / self.baseline.count) / rows)
        found = {"failed": now, "at_first": first}
        do = "Read such rows' statuses (timed out, unparsed, failed): a judge is down, or the policy breaks its parser."
        if now > first + max(self.more, 4 * error):
            seen = f"{now:.0%} of the rows could not be judged; it was {first:.0%} at first."
            return (Sign("alarm", seen, do, found, patience=2),)
        if first >= self.many and now >= self.many:
            return (Sign("warning", f"{now:.0%} of the rows could not be judged, from the start on.", do, found),)
        return ()


@dataclass
class LengthDrift:
    """Completions have become longer or shorter by a factor of `factor` than in the first steps.

    It is an alarm where the reward rose meanwhile and either the completions shrank, or grew with the reward following
    length inside groups (average correlation ≥ `follows`, and clear of its noise): a rising reward with falling length
    is how a policy looks that has found a master key. Where an outcome is known and rose with it, it is a warning only.

    Source: sheet 47, Master-RM (arXiv 2507.08794); Singhal et al. (arXiv 2310.03716), A long way to go.
    """

    factor: float = 1.5
    follows: float = 0.3
    deviations: float = 4.0
    baseline: Baseline = field(default_factory=Baseline)
    reward_baseline: Baseline = field(default_factory=Baseline)
    outcome_baseline: Baseline = field(default_factory=Baseline)
    length: Average = field(default_factory=Average)
    reward: Average = field(default_factory=Average)
    outcome: Average = field(default_factory=Average)
    following: Average = field(default_factory=lambda: Average(0.1))
    followed: int = 0
    highest_following: float = 0.0

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        if not _known(figures, "length"):
            return ()
        for name, average in (("length", self.length), ("reward", self.reward), ("outcome", self.outcome)):
            if _known(figures, name):
                average.update(figures[name])
                {"length": self.baseline, "reward": self.reward_baseline, "outcome": self.outcome_baseline}[
                    name
                ].update(figures[name])
        if _known(figures, "follows"):
            self._follow(figures["follows"], figures.get("rows"))
        now, first = self.length.value, self.baseline.mean
        assert now is not None
        if not self.baseline.ready or first <= 0 or abs(now - first) < self.deviations * self.baseline.std:
            return ()
        longer = now > first * self.factor
        if not longer and now * self.factor > first:
            return ()
        return (self._sign(longer),)

    def _follow(self, follows: float, rows: int | None) -> None:
        """The highest average; of N rows a correlation has noise of up to √(2/N), its average 0.23 of that."""
        now, self.followed = self.following.update(follows), self.followed + 1
        noise = 4 * 0.23 * math.sqrt(2 / rows) if rows else 0.0
        if self.followed >= 10 and now >= max(self.follows, noise):
            self.highest_following = max(self.highest_following, now)

    def _sign(self, longer: bool) -> Sign:
        now, first = self.length.value or 0.0, self.baseline.mean
        risen = _risen(self.reward, self.reward_baseline)
        honest = _risen(self.outcome, self.outcome_baseline)
        bought = risen and not honest and (not longer or self.highest_following >= self.follows)
        found = {"length": now, "at_first": first, "follows": self.highest_following}
        seen = f"completions went from {first:.4g} to {now:.4g} in length"
        if risen:
            found |= {"reward": self.reward.value or 0.0, "reward_at_first": self.reward_baseline.mean}
            seen += f" while the reward rose from {self.reward_baseline.mean:.3g} to {self.reward.value:.3g}"
        if longer and bought:
            seen += f", and inside groups it follows length (correlation up to {self.highest_following:.2f})"
        do = (
            "Read the newest completions; score padded and cut copies of one answer; then cap or normalise by length."
            if longer
            else "Read the newest completions: short ones that a judge accepts are a master key; guard the judge."
        )
        return Sign("alarm" if bought else "warning", f"{seen}.", do, found, patience=5)


def _risen(average: Average, baseline: Baseline, *, deviations: float = 3.0) -> bool:
    """Whether the average stands clearly above its first steps."""
    if average.value is None or not baseline.ready:
        return False
    return average.value - baseline.mean > max(deviations * baseline.std * 0.5, 0.02 * abs(baseline.mean), 1e-9)


@dataclass
class Divergence:
    """The reward keeps or rises while the outcome that it stands for falls: Goodhart's law as it is measured.

    The outcome's average is under its best by more than max(`least` of the best's size, `deviations` · σ), σ the
    standard deviation of its forecast's errors; the reward's average is at least what it was at that best. Where the
    reward falls with it, training itself is failing, which is a warning.

    Source: Gao et al. (arXiv 2210.10760), Scaling laws for reward model overoptimization.
    """

    least: float = 0.1
    deviations: float = 2.5
    times: int = 2
    seen: int = 0
    below: int = 0
    last_step: int = 0
    reward: Average = field(default_factory=Average)
    outcome: Average = field(default_factory=Average)
    noise: Forecast = field(default_factory=Forecast)
    best: float | None = None
    best_step: int = 0
    best_reward: float = 0.0

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees; between two outcomes what it saw at the last."""
        if _known(figures, "reward"):
            self.reward.update(figures["reward"])
        if self.reward.value is None:
            return ()
        if _known(figures, "outcome"):
            self._take(figures["outcome"], figures["step"], self.reward.value)
        return self._signs(self.reward.value) if self.below >= self.times else ()

    def _take(self, outcome: float, step: int, reward: float) -> None:
        """An outcome after a gap of g steps weighs 1 − (1 − rate)^g in the average."""
        gap = max(1, step - self.last_step) if self.seen else 1
        rate = 1 - (1 - self.outcome.rate) ** gap
        now = outcome if self.outcome.value is None else self.outcome.value + rate * (outcome - self.outcome.value)
        self.outcome.value, self.last_step, self.seen = now, step, self.seen + 1
        self.noise.update(outcome)
        if self.seen < 5 and gap == 1:
            return
        if self.best is None or now > self.best:
            self.best, self.best_step, self.best_reward, self.below = now, step, reward, 0
            return
        sigma = math.sqrt(self.noise.noise.value or 0.0)
        limit = max(self.least * abs(self.best), self.deviations * sigma)
        self.below = self.below + 1 if self.best - now > limit else 0

    def _signs(self, reward: float) -> Sequence[Sign]:
        assert self.best is not None and self.outcome.value is not None
        now = self.outcome.value
        kept = reward >= self.best_reward - 0.02 * abs(self.best_reward)
        found = {"outcome": now, "best": self.best, "reward": reward, "reward_at_best": self.best_reward}
        fall = f"the outcome fell from {self.best:.3g} at step {self.best_step} to {now:.3g}"
        if kept:
            seen = f"{fall} while the reward went from {self.best_reward:.3g} to {reward:.3g}."
            do = "The policy learns the reward, not the task: mend the reward and go back to the checkpoint before."
            return (Sign("alarm", seen, do, found, since=self.best_step, patience=2),)
        do = "Both fall: look at the learning rate, the KL term and the data before the reward."
        return (Sign("warning", f"{fall}, and the reward fell with it.", do, found, since=self.best_step, patience=5),)


@dataclass
class Repetition:
    """The same completion for different prompts, or ever fewer distinct ones.

    Alarm where the most common completion takes at least `common` of a step's rows, and `times` what it took at
    first; warning where distinct completions fall under `distinct` of their first share.
    """

    common: float = 0.6
    times: float = 2.5
    distinct: float = 0.2
    common_baseline: Baseline = field(default_factory=Baseline)
    distinct_baseline: Baseline = field(default_factory=Baseline)
    common_now: Average = field(default_factory=Average)
    distinct_now: Average = field(default_factory=Average)

    def update(self, figures: Figures) -> Sequence[Sign]:
        """What it sees."""
        do = "Read the most common completions: one text that pays for every prompt is a hack; else raise the KL term."
        if _known(figures, "common"):
            now = self.common_now.update(figures["common"])
            self.common_baseline.update(figures["common"])
            first = self.common_baseline.mean
            if self.common_baseline.ready and now >= max(self.common, min(1.0, self.times * first) - 0.05):
                seen = (
                    f"the same completion makes up {now:.0%} of the rows over different prompts ({first:.0%} at first)."
                )
                return (Sign("alarm", seen, do, {"common": now, "at_first": first}, patience=3),)
        if _known(figures, "distinct"):
            now = self.distinct_now.update(figures["distinct"])
            self.distinct_baseline.update(figures["distinct"])
            first = self.distinct_baseline.mean
            if self.distinct_baseline.ready and now < self.distinct * first:
                seen = f"only {now:.0%} of the completions are distinct ({first:.0%} at first)."
                return (Sign("warning", seen, do, {"distinct": now, "at_first": first}, patience=5),)
        return ()


WHOLE: tuple[Callable[[], Any], ...] = (
    VarianceCollapse, NoSignal, Saturation, ChangePoint, Failures, LengthDrift, Divergence, Repetition,
)  # fmt: skip
"""The detectors of the reward as a whole, in the order in which they are asked."""
