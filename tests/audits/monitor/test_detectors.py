"""Each detector on the sequence that it is for, and its silence on noise and on honest learning."""

from typing import Any

import numpy as np
import pytest

from steelyard.audits.monitor import Monitor
from steelyard.audits.monitor.alerts import Latch, Sign

CALM: dict[str, Any] = {
    "rows": 64, "reward": 0.5, "std": 0.3, "failed": 0.0, "max": 1.0, "min": 0.0, "top": 0.3, "spread": 0.3,
    "flat": 0.1, "length": 100.0, "follows": 0.0, "distinct": 0.9, "common": 0.1, "outcome": None, "parts": {},
}  # fmt: skip


def alerts(steps: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """(detector, level, step) of a run of figures."""
    monitor, generator = Monitor(), np.random.default_rng(0)
    for number, figures in enumerate(steps, 1):
        noise = {name: CALM[name] * float(generator.normal(1, 0.03)) for name in ("reward", "spread", "length")}
        monitor.feed({**CALM, **noise, **figures, "step": number})
    return [(alert.detector, alert.level, alert.step) for alert in monitor.alerts]


def part(mean: float, std: float = 0.4, *, share: float = 0.5, weight: float = 1.0) -> dict[str, Any]:
    return {"mean": mean, "std": std, "failed": 0.0, "max": 1.0, "min": 0.0, "share": share, "weight": weight}


def ramp(start: float, end: float, count: int) -> list[float]:
    return [float(x) for x in np.linspace(start, end, count)]


def test_a_judge_that_suddenly_fails() -> None:
    found = alerts([{}] * 30 + [{"failed": 0.4}] * 10)
    assert found == [("Failures", "alarm", 32)]


def test_spread_that_vanishes_at_once_and_slowly() -> None:
    at_once = alerts([{}] * 30 + [{"spread": 0.0}] * 6)
    assert ("VarianceCollapse", "alarm", 35) in at_once
    slowly = alerts([{"spread": 0.3 * 0.9**t} for t in range(60)])
    assert [row[:2] for row in slowly] == [("VarianceCollapse", "warning")]


def test_no_signal_and_saturation_are_warnings() -> None:
    found = alerts([{}] * 12 + [{"flat": 1.0, "top": 1.0}] * 40)
    assert {row[:2] for row in found} == {("NoSignal", "warning"), ("Saturation", "warning")}


def test_a_jump_is_a_change_point_and_a_climb_is_not() -> None:
    (found,) = alerts([{}] * 40 + [{"reward": 0.9}] * 10)
    assert found[:2] == ("ChangePoint", "alarm") and 41 <= found[2] <= 45
    assert alerts([{"reward": r} for r in ramp(0.2, 0.9, 100)]) == []


def test_rising_reward_with_falling_length_is_an_alarm_unless_the_outcome_rises_too() -> None:
    steps = [{"length": 100.0 + t % 3, "reward": 0.3 + 0.01 * (t % 2)} for t in range(15)]
    steps += [{"length": x, "reward": r} for x, r in zip(ramp(100, 20, 60), ramp(0.3, 0.9, 60), strict=True)]
    assert ("LengthDrift", "alarm") in {row[:2] for row in alerts(steps)}
    honest = [{**step, "outcome": step["reward"]} for step in steps]
    assert {row[:2] for row in alerts(honest)} == {("LengthDrift", "warning")}


def test_longer_is_an_alarm_only_where_reward_follows_length() -> None:
    steps = [{"length": 100.0 + t % 3, "reward": 0.3 + 0.01 * (t % 2)} for t in range(15)]
    steps += [{"length": x, "reward": r} for x, r in zip(ramp(100, 300, 60), ramp(0.3, 0.9, 60), strict=True)]
    assert {row[:2] for row in alerts(steps)} == {("LengthDrift", "warning")}
    bought = [{**step, "follows": 0.7} for step in steps]
    assert ("LengthDrift", "alarm") in {row[:2] for row in alerts(bought)}


def test_reward_up_while_gold_falls() -> None:
    gold = [*ramp(0.5, 0.7, 30), *ramp(0.7, 0.3, 40)]
    steps = [{"reward": r, "outcome": g} for r, g in zip(ramp(0.3, 0.9, 70), gold, strict=True)]
    (found,) = alerts(steps)
    assert found[:2] == ("Divergence", "alarm") and 33 < found[2] < 60
    slow = [*ramp(0.5, 0.7, 100), *ramp(0.7, 0.3, 150)]
    told = [g if t % 10 == 0 else None for t, g in enumerate(slow)]
    rarely = [{"reward": r, "outcome": g} for r, g in zip(ramp(0.3, 0.9, 250), told, strict=True)]
    assert [row[:2] for row in alerts(rarely)] == [("Divergence", "alarm")]
    falling = [{"reward": g, "outcome": g} for g in gold]
    assert [row[:2] for row in alerts(falling)] == [("Divergence", "warning")]


def test_one_completion_for_every_prompt() -> None:
    found = alerts([{}] * 15 + [{"common": 0.9, "distinct": 0.1}] * 30)
    assert ("Repetition", "alarm") in {row[:2] for row in found}


def test_a_part_that_crowds_another_out() -> None:
    steps = [
        {"parts": {"exact": part(e, share=1 - s), "format": part(f, share=s)}}
        for e, f, s in zip(ramp(0.6, 0.1, 60), ramp(0.2, 0.6, 60), ramp(0.4, 1.0, 60), strict=True)
    ]
    assert [row[:2] for row in alerts(steps)] == [("Dominance", "alarm")]
    won = [
        {"parts": {"exact": part(0.5, share=0.98), "format": part(f, share=0.02)}} for f in ramp(0.2, 1.0, 60)
    ]  # the format is won, and the task alone is left
    assert alerts(won) == []


def test_a_part_that_dies_at_once_slowly_and_one_that_never_lived() -> None:
    alive, dead = part(0.5), part(0.0, 0.0, share=0.0)
    assert alerts([{"parts": {"p": alive, "q": alive}}] * 20 + [{"parts": {"p": dead, "q": alive}}] * 10) == [
        ("DeadPart", "alarm", 26)
    ]
    fading = [{"parts": {"p": part(m, m), "q": alive}} for m in ramp(0.5, 0.001, 40)]
    found = alerts(fading + [{"parts": {"p": dead, "q": alive}}] * 10)
    assert ("DeadPart", "warning") in [row[:2] for row in found]
    assert alerts([{"parts": {"p": dead, "q": alive}}] * 25) == [("DeadPart", "warning", 22)]
    unjudged = {"mean": None, "std": None, "failed": 1.0, "max": None, "min": None, "share": None, "weight": None}
    gone = alerts([{"parts": {"p": alive, "q": alive}}] * 20 + [{"parts": {"p": unjudged, "q": alive}}] * 10)
    assert gone == [("DeadPart", "alarm", 26)]


@pytest.mark.parametrize("seed", range(3))
def test_stationary_noise_raises_no_alarm(seed: int) -> None:
    """Steps of 64 rows in 8 groups that only vary, some rows of them not judged."""
    generator, monitor = np.random.default_rng(seed), Monitor()
    for _ in range(400):
        right = (generator.random(64) < np.repeat(generator.beta(2, 2, 8), 8)).astype(float)
        form = (generator.random(64) < 0.8).astype(float)
        right[generator.random(64) < 0.02] = np.nan
        texts = ["x" * int(n) for n in generator.integers(50, 150, 64)]
        gold = np.nan_to_num(right)
        monitor.observe(
            0.8 * right + 0.2 * form, parts={"right": right, "form": form}, group=np.repeat(range(8), 8),
            completions=texts, gold=gold,
        )  # fmt: skip
    assert [str(alert) for alert in monitor.alerts if alert.level == "alarm"] == []


def test_a_latch_tells_once_again_when_worse_and_again_after_a_long_quiet() -> None:
    latch, warning = Latch(rearm=3), Sign("warning", "s.", "d.", {}, patience=2)
    alarm = Sign("alarm", "s.", "d.", {}, patience=2)
    told = [latch.update(sign, step) for step, sign in enumerate([warning] * 4 + [alarm] * 3, 1)]
    assert told == [False, True, False, False, False, True, False]
    assert [latch.update(None, 8 + k) for k in range(3)] == [False] * 3
    assert [latch.update(alarm, 11), latch.update(alarm, 12)] == [False, True]
    assert latch.since == 11
