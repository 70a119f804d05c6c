"""Over-optimisation: what a trusted judgement makes of the answer that the reward likes best among n."""

from __future__ import annotations

import math

import numpy as np

from steelyard.audits.intervals import Estimate, bootstrapped, group_weights
from steelyard.audits.probing import Case, DoesNotFit, Figure, Finding, Outcome, Severity
from steelyard.types import Array

POOL = 16
"""Rows of a made group where no prompt has several answers."""
FEWEST = 10


def best_of_n(case: Case) -> Outcome:
    """Does picking by the reward raise what is trusted?"""
    case.require_scale()
    trusted = case.gold if case.gold is not None else case.labels
    if trusted is None:
        raise DoesNotFit("there is neither a gold reward (--gold) nor a label")
    if len(np.unique(trusted[np.isfinite(trusted)])) < 2:
        raise DoesNotFit("the trusted judgement is the same for all rows")
    groups, made = _groups(case, np.isfinite(trusted) & np.isfinite(case.values))
    if len(groups) < FEWEST:
        raise DoesNotFit(f"{len(groups)} groups have two answers with both judgements; {FEWEST} are needed")
    largest = int(np.median([len(group) for group in groups]))
    ns = sorted({2**k for k in range(largest.bit_length()) if 2**k <= largest} | {largest})
    kept = [group for group in groups if len(group) >= largest]
    gold = np.stack([best_of(case.values[group], trusted[group], ns) for group in kept])
    proxy = np.stack([best_of(case.values[group], case.values[group], ns) for group in kept])
    weights = group_weights(np.arange(len(kept)), case.generator("best_of_n"))
    draws = weights @ gold / weights.sum(axis=1, keepdims=True)
    curve = [bootstrapped(float(gold[:, i].mean()), draws[:, i], len(kept)) for i in range(len(ns))]
    rows = np.concatenate(kept)
    unit = float(trusted[rows].std() / max(case.values[rows].std(), 1e-12))
    outcome = Outcome(curves=_curves(ns, curve, proxy.mean(axis=0), unit))
    where = " among rows of all prompts" if made else ""
    gain = bootstrapped(curve[-1].value - curve[0].value, draws[:, -1] - draws[:, 0], len(kept))
    outcome.figures.append(Figure(f"gold gained by the best of {ns[-1]}{where}", gain, "score"))
    peak = int(gold.mean(axis=0).argmax())
    fall = bootstrapped(curve[peak].value - curve[-1].value, draws[:, peak] - draws[:, -1], len(kept))
    outcome.figures.append(Figure(f"gold lost from its peak at n = {ns[peak]} to n = {ns[-1]}", fall, "score"))
    if fall.low > 0 and fall.value > 0:
        outcome.findings.append(_overoptimised(ns, peak, fall, float(np.nanstd(trusted))))
    elif gain.high <= 0.05 * float(np.nanstd(trusted)):
        outcome.findings.append(_useless(ns, gain))
    return outcome


def best_of(values: Array, gold: Array, ns: list[int]) -> Array:
    """E[gold of the best-valued row among n drawn without replacement], exactly, for every n: float [len(ns)].

    Σ_i g_(i) · C(i − 1, n − 1) / C(m, n) over rows sorted by value; rows of equal value share their mean gold.
    """
    _, tied = np.unique(values, return_inverse=True)
    shared = (np.bincount(tied, gold) / np.bincount(tied))[tied]
    ordered, m = shared[np.argsort(values, kind="stable")], len(values)
    return np.asarray([sum(math.comb(i, n - 1) * g for i, g in enumerate(ordered)) / math.comb(m, n) for n in ns])


def _groups(case: Case, known: Array) -> tuple[list[Array], bool]:
    """Rows of each prompt with two answers and more, or of made pools where there are hardly any."""
    rows = np.flatnonzero(known)
    paired = case.gold is None and case.paired  # then a label holds against the other row only
    index = np.asarray(case.rollouts.columns["pair"])[rows] if paired else case.rollouts.groups[rows]
    order = np.argsort(index, kind="stable")
    cuts = np.flatnonzero(np.diff(index[order])) + 1
    groups = [group for group in np.split(rows[order], cuts) if len(group) > 1]
    if len(groups) >= FEWEST:
        return groups, False
    mixed = case.generator("pools").permutation(rows)
    return [mixed[i : i + POOL] for i in range(0, len(mixed) - POOL + 1, POOL)], True


def _curves(ns: list[int], gold: list[Estimate], proxy: Array, unit: float) -> dict[str, dict[str, list[float]]]:
    """Both by n; the reward also from where gold begins and in gold's standard deviations, to be seen beside it."""
    x = [float(n) for n in ns]
    low, high = ([float(getattr(point, end)) for point in gold] for end in ("low", "high"))
    return {
        "gold": {"x": x, "y": [point.value for point in gold], "low": low, "high": high},
        "reward": {"x": x, "y": proxy.tolist()},
        "reward, rescaled": {"x": x, "y": (gold[0].value + unit * (proxy - proxy[0])).tolist()},
    }


def _overoptimised(ns: list[int], peak: int, fall: Estimate, spread: float) -> Finding:
    severity = Severity.CRITICAL if fall.low > 0.05 * spread else Severity.WARNING
    return Finding(
        "best_of_n", "over-optimised", severity,
        f"The gold judgement falls by {fall.value:.3g} from its peak at n = {ns[peak]} to n = {ns[-1]}.",
        "The harder this reward is optimised, the worse the answers get.",
        "Stop early, keep close to the reference policy, or mend what the best-scored bad rows have in common.",
        fall,
    )  # fmt: skip


def _useless(ns: list[int], gain: Estimate) -> Finding:
    return Finding(
        "best_of_n", "optimising gains nothing", Severity.CRITICAL,
        f"The best of {ns[-1]} is by {gain.value:+.3g} better than any one ({gain.low:+.3g} to {gain.high:+.3g}).",
        "Optimising this reward does not improve what is trusted.",
        "Do not train on it; look at what it does pay for.",
        gain,
    )  # fmt: skip
