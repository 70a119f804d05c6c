"""A step's figures by hand and as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.audits.monitor import step_figures
from steelyard.types import SteelyardError


def test_figures_by_hand() -> None:
    texts, values = ["a", "bbb", "a", "a", "a"], [1.0, 0.0, 1.0, 1.0, None]
    figures = step_figures(7, values, group=[4, 4, 9, 9, 9], completions=texts, gold=[1, 0, 1, 1, 1])
    assert (figures["step"], figures["rows"], figures["failed"]) == (7, 5, pytest.approx(0.2))
    assert (figures["reward"], figures["max"], figures["top"]) == (0.75, 1.0, 0.75)
    assert (figures["spread"], figures["flat"]) == (0.25, 0.5)
    assert figures["length"] == 1.4 and figures["follows"] == pytest.approx(-1.0)
    assert (figures["distinct"], figures["common"], figures["outcome"]) == (0.4, 0.8, 0.8)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3), st.floats(-3, -0.1))
def test_shares_of_a_weighted_sum_find_its_weights_and_add_up(seed: int, a: float, b: float) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, 32))
    parts = step_figures(1, a * x + b * y, parts={"x": x, "y": y}, group=np.repeat(range(4), 8))["parts"]
    assert parts["x"]["weight"] == pytest.approx(a) and parts["y"]["weight"] == pytest.approx(b)
    assert parts["x"]["share"] + parts["y"]["share"] == pytest.approx(1.0)


@given(st.permutations(range(24)), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_nothing(order: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    values, group = generator.integers(0, 3, 24).astype(float), np.repeat(range(4), 6)
    texts = [str(t) for t in generator.integers(0, 5, 24)]
    one = step_figures(1, values, group=group, completions=texts, parts={"p": values})
    other = step_figures(
        1, values[order], group=group[order], completions=[texts[i] for i in order], parts={"p": values[order]}
    )
    assert {k: v for k, v in one.items() if k != "parts"} == pytest.approx(
        {k: v for k, v in other.items() if k != "parts"}
    )


def test_nothing_judged_and_nothing_at_all() -> None:
    figures = step_figures(1, [None, float("nan")], parts={"p": [np.nan, np.nan]})
    assert figures["failed"] == 1.0 and figures["reward"] is None and figures["parts"]["p"]["mean"] is None
    assert step_figures(1, [])["rows"] == 0


def test_a_column_of_another_length_is_named() -> None:
    with pytest.raises(SteelyardError, match="'group' has 3 rows for 2 rewards"):
        step_figures(1, [1.0, 2.0], group=[1, 2, 3])
    with pytest.raises(SteelyardError, match="'p' has 1 rows for 2 rewards"):
        step_figures(1, [1.0, 2.0], parts={"p": [1.0]})
