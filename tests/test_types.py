"""Types: shapes are checked at the border, rows move together, errors name row and column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.types import (
    Actions,
    Advantages,
    Pairs,
    Rollouts,
    Sample,
    Scores,
    Status,
    SteelyardError,
    broadcast_steps,
    streams,
)


def rollouts(n: int, steps: int = 3) -> Rollouts:
    samples = [Sample(f"s{i}", "p", columns={"answer": str(i)}) for i in range(n)]
    mask = np.arange(steps)[None, :] <= np.arange(n)[:, None]
    actions = Actions(np.arange(n * steps).reshape(n, steps), mask, {"tokens": np.arange(n * steps).reshape(n, steps)})
    return Rollouts(
        samples, [f"c{i}" for i in range(n)], group=np.arange(n) // 2, columns={"x": list(range(n))}, actions=actions
    )


def test_take_moves_every_field_of_a_row_together() -> None:
    picked = rollouts(5).take([3, 0])
    assert picked.completions == ["c3", "c0"] and picked.column("answer") == ["3", "0"] and picked.column("x") == [3, 0]
    assert picked.groups.tolist() == [1, 0]
    assert picked.actions is not None and picked.actions.data["tokens"].tolist() == [[9, 10, 11], [0, 1, 2]]


def test_take_cuts_actions_to_the_longest_row_left() -> None:
    picked = rollouts(5).take(np.array([True, False, False, False, False]))
    assert picked.actions is not None and picked.actions.mask.shape == (1, 1)


@given(st.integers(1, 6), st.integers(1, 6))
def test_concatenate_undoes_a_cut(n: int, cut: int) -> None:
    whole = rollouts(n)
    parts = [whole.take(np.arange(0, min(cut, n))), whole.take(np.arange(min(cut, n), n))]
    joined = Rollouts.concatenate([part for part in parts if len(part)])
    assert joined.completions == whole.completions and joined.groups.tolist() == whole.groups.tolist()
    assert joined.actions is not None and whole.actions is not None
    width = joined.actions.mask.shape[1]
    assert (joined.actions.mask == whole.actions.mask[:, :width]).all() and not whole.actions.mask[:, width:].any()


def test_a_missing_column_is_named_with_its_row() -> None:
    some = Rollouts([Sample("a", "p", columns={"answer": 1}), Sample("b", "p")], ["x", "y"])
    with pytest.raises(SteelyardError, match="row 1 has no column 'answer'"):
        some.column("answer")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rollouts([Sample("a", "p")], ["x", "y"]), "samples has 1 rows, completions has 2"),
        (lambda: Rollouts([Sample("a", "p")], ["x"], columns={"k": [1, 2]}), "column 'k' has 2 rows"),
        (lambda: Actions(np.zeros((2, 3)), np.zeros((2, 4))), "must both be"),
        (lambda: Scores(np.zeros((2, 2))), "one number a row"),
        (lambda: Scores(np.zeros(2), parts={"a": np.zeros(3)}), "'a' has 3 rows"),
        (lambda: Advantages(np.zeros(2), np.zeros(3)), "must be"),
        (lambda: Pairs([Sample("a", "p")], ["x"], []), "rejected has 0 rows"),
        (lambda: Sample("clip", "p", video=np.zeros((0, 4, 4, 3))), "sample 'clip': video"),
    ],
)
def test_wrong_shapes_are_refused_in_one_sentence(make, message: str) -> None:
    with pytest.raises(SteelyardError, match=message):
        make()


def test_nan_scores_get_a_status() -> None:
    scores = Scores(np.array([1.0, np.nan]))
    assert scores.status is not None and scores.status.tolist() == [Status.SCORED, Status.FAILED]


def test_streams_do_not_depend_on_how_the_batch_is_cut() -> None:
    whole = [child.random(3) for child in streams(np.random.default_rng(5), 4)]
    children = streams(np.random.default_rng(5), 4)
    parts = [child.random(3) for child in streams(children[:1], 1) + streams(children[1:], 3)]
    assert np.array_equal(whole, parts)
    with pytest.raises(SteelyardError, match="2 generators for 3 samples"):
        streams(children[:2], 3)


def test_broadcast_steps_lays_scores_on_actions() -> None:
    spans = np.array([[[0, 2], [2, 4]], [[1, 3], [-1, -1]]])
    laid = broadcast_steps(np.array([[1.0, 2.0], [5.0, 9.0]]), spans, 5)
    assert laid.tolist() == [[1, 1, 2, 2, 0], [0, 5, 5, 0, 0]]


def test_parts_that_do_not_fit_are_not_joined() -> None:
    plain, acted = Rollouts([Sample("a", "p")], ["x"]), rollouts(1)
    with pytest.raises(SteelyardError, match="have actions; all or none"):
        Rollouts.concatenate([Rollouts([Sample("a", "p")], ["x"], columns={"x": [1]}), acted])
    with pytest.raises(SteelyardError, match=r"columns \[x\] and \[\] cannot be joined"):
        Rollouts.concatenate([acted, plain])
    with pytest.raises(SteelyardError, match="no actions to join"):
        Actions.concatenate([])
    one, two = (Actions(np.zeros((1, 1)), np.ones((1, 1)), {name: np.zeros((1, 1))}) for name in ("tokens", "latents"))
    with pytest.raises(SteelyardError, match=r"data \[tokens\] and \[latents\]"):
        Actions.concatenate([one, two])


def test_a_mask_of_another_length_picks_nothing() -> None:
    with pytest.raises(SteelyardError, match=r"mask of shape \(3,\) cannot pick from 2 rows"):
        rollouts(2).take([True, False, True])
    with pytest.raises(SteelyardError, match="there is no row 2; there are 2"):
        rollouts(2).take([0, 2])
    with pytest.raises(SteelyardError, match="not by float64"):
        rollouts(2).take([0.5])
    assert rollouts(2).take([-1]).completions == ["c1"] and len(rollouts(2).take([])) == 0
    with pytest.raises(SteelyardError, match=r"group has shape \(1, 1\)"):
        Rollouts([Sample("a", "p")], ["x"], group=[[0]])
    with pytest.raises(SteelyardError, match="'tokens' is"):
        Actions(np.zeros((1, 2)), np.ones((1, 2)), {"tokens": [1, 2]})


def test_a_step_without_value_stays_where_it_is_and_spans_end_with_the_row() -> None:
    spans = np.array([[[0, 2], [2, 3], [4, 99]]])
    laid = broadcast_steps(np.array([[0.1, np.nan, 0.2]]), spans, 6)
    np.testing.assert_array_equal(laid, np.array([[0.1, 0.1, np.nan, 0, 0.2, 0.2]], np.float32))
    thirds = broadcast_steps(np.full((1, 3), 0.1), np.array([[[0, 1], [0, 2], [1, 2]]]), 4)
    assert thirds[0, 2:].tolist() == [0, 0]


def test_a_nan_is_never_scored() -> None:
    scores = Scores([np.nan, np.nan, 1], status=[Status.SCORED, Status.TIMED_OUT, Status.TIE])
    assert scores.status is not None and scores.status.tolist() == [Status.FAILED, Status.TIMED_OUT, Status.TIE]
    assert scores.take(np.array([2])).status.tolist() == [Status.TIE]  # type: ignore[union-attr]
    with pytest.raises(SteelyardError, match="seconds of judge"):
        Scores([1.0], seconds={"judge": np.zeros(2)})
