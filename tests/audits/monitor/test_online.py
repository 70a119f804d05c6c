"""The monitor's small parts on worked sequences, and that they resume."""

import json
import math

import numpy as np
import pytest

from steelyard.audits.monitor.online import Average, Baseline, Cusum, Forecast, restore, state_of


def test_average_by_hand() -> None:
    average = Average(0.5)
    assert [average.update(x) for x in (4.0, 0.0, 2.0)] == [4.0, 2.0, 2.0]


def test_baseline_freezes_after_its_figures() -> None:
    baseline = Baseline(wanted=3)
    for x in (1.0, 2.0, 6.0, 100.0):
        baseline.update(x)
    assert baseline.ready and baseline.mean == 3.0
    assert baseline.std == pytest.approx(math.sqrt(7))


def test_cusum_by_hand() -> None:
    cusum = Cusum(slack=0.5, limit=3.0)
    found = [cusum.update(z, step) for step, z in enumerate((0.0, 1.5, 0.5, 1.5, 2.0), 1)]
    assert found == [None, None, None, None, (1, 2)]  # 0, 1, 1, 2, 3.5 > 3: dated to step 2
    assert cusum.high == 0
    assert [cusum.update(-4.0, 6), cusum.low] == [(-1, 6), 0]


def test_forecast_follows_a_line_and_is_surprised_by_a_jump() -> None:
    generator = np.random.default_rng(0)
    forecast = Forecast()
    errors = [forecast.update(0.01 * t + float(generator.normal(0, 0.02))) for t in range(200)]
    assert errors[:10] == [None] * 10
    later = np.asarray(errors[50:])
    assert abs(later.mean()) < 0.3 and 0.7 < later.std() < 1.4
    jump = forecast.update(2.0 + 0.3)
    assert jump is not None and jump > 8


def test_a_part_resumes_from_plain_json() -> None:
    one, other = Forecast(), Forecast()
    for x in np.random.default_rng(1).random(30):
        one.update(float(x))
    restore(other, json.loads(json.dumps(state_of(one), allow_nan=False)))
    assert other == one and other.update(0.3) == one.update(0.3)
