"""Advantage chains: worked numbers, uneven groups, NaN rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.learn.advantages import advantages_of, centre, chain, clip, keep_rows, only, scale, with_signal
from steelyard.types import Advantages, Rollouts, Sample, Scores, SteelyardError


def rollouts(group: list[int], branch: list[int] | None = None) -> Rollouts:
    n = len(group)
    columns = {"wording": [i % 2 for i in range(n)]}
    return Rollouts(
        [Sample("s", "p")] * n, [""] * n, group=np.array(group), branch=branch and np.array(branch), columns=columns
    )


def run(links, values: list[float], group: list[int], branch: list[int] | None = None) -> Advantages:
    scores = Scores(np.array(values, np.float32))
    return links(advantages_of(scores), rollouts(group, branch), scores)


GRPO = chain(centre(), scale())


def test_the_sheets_worked_numbers() -> None:
    values = [2.9, 1.15, 2.8, 0.05]
    assert run(GRPO, values, [0] * 4).values == pytest.approx([0.8544, -0.4181, 0.7817, -1.2180], abs=1e-4)
    population = chain(centre(), scale(ddof=0, epsilon=1e-6))
    assert run(population, values, [0] * 4).values == pytest.approx([0.9867, -0.4828, 0.9027, -1.4066], abs=1e-4)


def test_equal_groups_and_groups_of_one_are_zero_without_nan() -> None:
    assert run(GRPO, [3, 3, 3, 5], [0, 0, 0, 1]).values.tolist() == [0, 0, 0, 0]


def test_unjudged_rows_are_left_out_and_change_nobody_elses_advantage() -> None:
    got = run(GRPO, [1.0, np.nan, 0.0, np.nan], [0, 0, 0, 1])
    assert got.weights.tolist() == [1, 0, 1, 0] and np.isfinite(got.values).all()
    assert got.values[[0, 2]] == pytest.approx(run(GRPO, [1.0, 0.0], [0, 0]).values)


def test_branches_are_separate_groups_and_one_can_be_trained_alone() -> None:
    got = run(chain(only(branch=1), centre()), [1, 0, 9, 5], [0, 0, 0, 0], [0, 0, 1, 1])
    assert got.weights.tolist() == [0, 0, 1, 1] and got.values[2:].tolist() == [2, -2]


def test_groups_by_any_column() -> None:
    got = run(centre(by=("group", "wording")), [1, 10, 3, 20], [0, 0, 0, 0])
    assert got.values.tolist() == [-1, -5, 1, 5]
    with pytest.raises(SteelyardError, match="no column 'mood'"):
        run(centre(by=("mood",)), [1.0], [0])


def test_small_links() -> None:
    assert run(clip(1.0), [5, -5], [0, 0]).values.tolist() == [1, -1]
    assert run(with_signal(), [1, 1, 0, 1], [0, 0, 1, 1]).weights.tolist() == [0, 0, 1, 1]
    assert run(keep_rows(lambda r, s: s.values > 0), [1, 0], [0, 0]).weights.tolist() == [1, 0]
    assert repr(chain(only(branch=1), centre(), clip(2.0))) == "chain(only(branch=1), centre(), clip(2))"


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=20), st.floats(-3, 3))
def test_centred_groups_sum_to_zero_whatever_their_sizes_and_offsets(rows, offset: float) -> None:
    group, values = [g for g, _ in rows], [v for _, v in rows]
    centred = run(centre(), values, group).values
    for g in set(group):
        assert abs(centred[np.array(group) == g].sum()) < 1e-4
    shifted = run(centre(), [v + offset * g for g, v in rows], group).values
    assert np.allclose(centred, shifted, atol=1e-4)


def test_step_advantages_must_come_after_group_statistics() -> None:
    with pytest.raises(SteelyardError, match="one advantage a row"):
        centre()(Advantages(np.zeros((2, 3))), rollouts([0, 0]), Scores(np.zeros(2)))


def test_columns_of_any_kind_make_groups() -> None:
    kinds = [("a", 1), None, ("a", 1), None]
    some = Rollouts([Sample("s", "p")] * 4, [""] * 4, columns={"kind": kinds, "list": [[1], [2], [1], [2]]})
    values = Advantages(np.array([0.0, 1.0, 2.0, 5.0]))
    scores = Scores(values.values)
    assert centre(by=("kind",))(values, some, scores).values.tolist() == [-1, -2, 1, 2]
    with pytest.raises(SteelyardError, match="cannot be grouped by column 'list'"):
        centre(by=("list",))(values, some, scores)


def test_rows_are_chosen_one_by_one() -> None:
    for wrong in (lambda r, s: True, lambda r, s: np.ones(4), lambda r, s: np.ones(3, bool)):
        with pytest.raises(SteelyardError, match=r"it must give bool \[4\]"):
            run(keep_rows(wrong), [1, 2, 3, 4], [0] * 4)
    with pytest.raises(SteelyardError, match="2 advantages for 4 rollouts"):
        centre()(Advantages(np.ones(2)), rollouts([0] * 4), Scores(np.ones(4)))
    with pytest.raises(SteelyardError, match="limit must be positive"):
        clip(-1.0)
