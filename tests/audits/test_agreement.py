"""Mean absolute error of marks by stratum."""

import math

import numpy as np
import pytest

from steelyard.audits.agreement import mark_error
from steelyard.types import SteelyardError


def test_the_error_of_marks_by_stratum() -> None:
    found = mark_error(np.array([5, 3, np.nan, 1]), np.array([4, 3, 2, 4]), ["edit", "edit", "gen", "gen"])
    assert found.mean == pytest.approx(4 / 3) and found.strata == {"edit": 0.5, "gen": 3.0}
    assert (found.rows, found.unjudged) == (3, 0.25)
    assert mark_error(np.array([1.0]), np.array([1.0])) == (0.0, {}, 1, 0.0)


def test_nothing_judged_is_no_error_of_zero() -> None:
    found = mark_error(np.array([np.nan]), np.array([3.0]), ["edit"])
    assert math.isnan(found.mean) and math.isnan(found.strata["edit"]) and found.unjudged == 1
    assert math.isnan(mark_error(np.zeros(0), np.zeros(0)).mean)


@pytest.mark.parametrize(
    ("judge", "gold", "strata", "words"),
    [
        ([1, 2], [1], None, "cannot be compared"),
        ([1, 2], [1, math.nan], None, "gold mark of row 1"),
        ([1, 2], [1, 2], ["a"], "1 strata for 2 marks"),
    ],
)
def test_bad_input_is_told(judge, gold, strata, words) -> None:
    with pytest.raises(SteelyardError, match=words):
        mark_error(np.asarray(judge, float), np.asarray(gold, float), strata)
