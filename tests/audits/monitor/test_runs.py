"""Whole runs of rows that are drawn, honest and not: what is an alarm, and what must be none."""

from collections.abc import Callable

import numpy as np
import pytest

from steelyard.audits.monitor import Alert, Monitor
from steelyard.types import Array

SEEDS = range(6)


def ran(
    seed: int,
    chance: Callable[[int], float],
    *,
    steps: int = 100,
    prompts: int = 8,
    attempts: int = 8,
    change: Callable[[int, Array, np.random.Generator], dict] = lambda step, right, dice: {"values": right},
) -> list[Alert]:
    """The alerts of a run whose rows are right with the step's chance, moved by how hard each prompt is."""
    dice, monitor = np.random.default_rng([seed, prompts, attempts]), Monitor()
    group = np.repeat(np.arange(prompts), attempts)
    for step in range(steps):
        odds = np.log(chance(step) / (1 - chance(step))) + dice.normal(0, 1, prompts)[group]
        right = (dice.random(len(group)) < 1 / (1 + np.exp(-odds))).astype(float)
        monitor.observe(group=group, **change(step, right, dice))
    return monitor.alerts


def alarmed(alerts: list[Alert], *kinds: str) -> list[int]:
    """The steps of the alarms, of these detectors if some are named."""
    return [a.step for a in alerts if a.level == "alarm" and (not kinds or a.detector in kinds)]


@pytest.mark.parametrize(("prompts", "attempts"), [(8, 8), (2, 4), (32, 8)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_steady_and_learning_runs_raise_no_alarm(prompts: int, attempts: int, scale: float) -> None:
    def scaled(step: int, right: Array, dice: np.random.Generator) -> dict:
        return {"values": scale * (right - 0.5)}

    for chance in (lambda t: 0.5, lambda t: 0.15 + 0.008 * min(t, 95), lambda t: 0.95 - 0.75 * np.exp(-t / 30)):
        for seed in SEEDS:
            size = {"prompts": prompts, "attempts": attempts}
            assert not alarmed(ran(seed, chance, change=scaled, **size)), (seed, scale)


@pytest.mark.parametrize(("before", "after"), [(0.25, 0.85), (0.85, 0.25)])
def test_a_jump_of_the_mean_of_64_rows_is_seen_within_ten_steps(before: float, after: float) -> None:
    runs = [ran(seed, lambda t: before if t < 50 else after) for seed in range(12)]
    assert sum(any(50 < step <= 60 for step in alarmed(alerts, "ChangePoint")) for alerts in runs) >= 9
    assert not any(step <= 50 for alerts in runs for step in alarmed(alerts))


def test_a_format_that_is_soon_learnt_is_no_dead_part() -> None:
    def with_format(step: int, right: Array, dice: np.random.Generator) -> dict:
        form = (dice.random(len(right)) < min(1.0, 0.5 + 0.03 * step)).astype(float)
        return {"values": 0.8 * right + 0.2 * form, "parts": {"right": right, "form": form}}

    for size in ((8, 8), (4, 4)):
        for seed in SEEDS:
            alerts = ran(seed, lambda t: 0.4, change=with_format, prompts=size[0], attempts=size[1])
            assert not alarmed(alerts), (size, seed)


def test_a_part_whose_judge_says_yes_to_all_is_dead() -> None:
    def with_judge(step: int, right: Array, dice: np.random.Generator) -> dict:
        judged = np.ones_like(right) if step >= 50 else right
        return {"values": judged + 0.3 * dice.random(len(right)), "parts": {"judged": judged}}

    for seed in SEEDS:
        assert 51 < min(alarmed(ran(seed, lambda t: 0.5, change=with_judge), "DeadPart")) <= 60


def test_a_reward_that_is_rarely_won_at_first_does_not_collapse() -> None:
    for seed in SEEDS:
        alerts = ran(seed, lambda t: 0.004 if t < 40 else min(0.7, 0.004 + 0.007 * (t - 40)), steps=160)
        assert not alarmed(alerts, "VarianceCollapse")


def test_a_judge_that_gives_all_the_same_collapses_small_batches_too() -> None:
    def stuck(step: int, right: Array, dice: np.random.Generator) -> dict:
        return {"values": right if step < 50 else np.full_like(right, 0.5)}

    for seed in SEEDS:
        alerts = ran(seed, lambda t: 0.5, change=stuck, prompts=4, attempts=4)
        assert 50 < min(alarmed(alerts, "VarianceCollapse")) <= 57


def test_a_few_rows_without_a_verdict_now_and_then_are_no_failure_of_small_batches() -> None:
    def gaps(rate: Callable[[int], float]) -> Callable[[int, Array, np.random.Generator], dict]:
        return lambda step, right, dice: {"values": np.where(dice.random(len(right)) < rate(step), np.nan, right)}

    runs = [ran(s, lambda t: 0.5, change=gaps(lambda t: 0.05), steps=200, prompts=2, attempts=4) for s in range(12)]
    assert sum(bool(alarmed(alerts, "Failures")) for alerts in runs) <= 1
    for seed in SEEDS:
        alerts = ran(seed, lambda t: 0.5, change=gaps(lambda t: 0.02 if t < 50 else 0.4), prompts=2, attempts=4)
        assert 50 < min(alarmed(alerts, "Failures")) <= 60


def test_growing_completions_whose_reward_does_not_follow_length_are_no_alarm_in_small_batches() -> None:
    def longer(follows: float) -> Callable[[int, Array, np.random.Generator], dict]:
        def grown(step: int, right: Array, dice: np.random.Generator) -> dict:
            length = dice.gamma(8, 12, len(right)) * (1 + step / 60) * (1 + follows * right)
            return {"values": right, "lengths": length}

        return grown

    size = {"prompts": 4, "attempts": 4, "steps": 200}
    rises = lambda t: 0.2 + 0.003 * t  # noqa: E731
    assert not any(alarmed(ran(seed, rises, change=longer(0.0), **size), "LengthDrift") for seed in SEEDS)
    assert all(alarmed(ran(seed, rises, change=longer(2.0), **size), "LengthDrift") for seed in SEEDS)
