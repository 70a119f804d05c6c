"""The algebra: values, parts, printing, NaN and errors."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.rewards.core import Expression, fill, gate, reward, score_one
from steelyard.types import Rollouts, Sample, Scores, Status, SteelyardError, Verdict


@reward
def exact(completion: str, answer: str) -> float:
    """1 iff equal."""
    return float(completion == answer)


@reward
def long(completion: str, *, least: int = 2) -> bool:
    """Whether it is long enough."""
    return len(completion) >= least


@reward
def shy(completion: str) -> float | None:
    """Does not judge an empty text."""
    return 1.0 if completion else None


@reward(run="processes", workers=2)
def slow(completion: str) -> float:
    """Runs in another process."""
    import os

    return float(os.getpid() % 2**20)


def rows(*completions: str, answer: str = "a") -> Rollouts:
    return Rollouts([Sample(f"s{i}", "p", columns={"answer": answer}) for i in range(len(completions))], completions)


def test_a_combination_prints_as_it_was_written() -> None:
    combined = 0.8 * exact + 0.2 * long - gate(shy, by=exact, above=0.5)
    assert repr(combined) == "0.8 * exact + 0.2 * long - gate(shy, by=exact, above=0.5)"
    assert repr(-exact + 1) == "-exact + 1"
    assert repr((exact + long) * shy) == "(exact + long) * shy"
    assert repr(long.using(least=5)) == "long(least=5)"


@given(st.floats(-3, 3), st.floats(-3, 3), st.lists(st.text("ab", max_size=3), min_size=1, max_size=5))
def test_sums_are_linear(a: float, b: float, texts: list[str]) -> None:
    rollouts = rows(*texts)
    expected = a * exact(rollouts).values.astype(float) + b * long(rollouts).values
    np.testing.assert_allclose((a * exact + b * long)(rollouts).values, expected, atol=1e-5)
    np.testing.assert_allclose((2.0 * (a * exact - b * long))(rollouts).values,
                               2 * a * exact(rollouts).values - 2 * b * long(rollouts).values, atol=1e-5)  # fmt: skip


def test_parts_are_kept_unweighted_and_computed_once() -> None:
    calls = []

    @reward
    def counted(completion: str) -> float:
        calls.append(completion)
        return 2.0

    scores = (0.5 * counted + gate(exact, by=counted, above=1.0) + counted)(rows("a", "b"))
    assert calls == ["a", "b"]
    assert scores.values.tolist() == [4.0, 3.0]
    assert scores.parts["counted"].tolist() == [2.0, 2.0] and scores.parts["exact"].tolist() == [1.0, 0.0]
    assert set(scores.seconds) == {"counted", "exact"} and (scores.seconds["counted"] >= 0).all()


def test_two_parts_of_one_name_are_both_kept() -> None:
    scores = (long.using(least=1) + long.using(least=3))(rows("a", "abc"))
    assert scores.parts["long"].tolist() == [1, 1] and scores.parts["long#2"].tolist() == [0, 1]


def test_what_could_not_be_judged_is_nan_with_its_status_never_zero() -> None:
    scores = (exact + shy)(rows("", "a"))
    assert math.isnan(scores.values[0]) and scores.values[1] == 2.0
    assert scores.status is not None and scores.status.tolist() == [Status.NOT_APPLICABLE, Status.SCORED]
    filled = fill(shy, -1.0)(rows("", "a"))
    assert filled.values.tolist() == [-1.0, 1.0]
    assert filled.status is not None and filled.status[0] == Status.NOT_APPLICABLE


def test_a_shut_gate_needs_no_verdict_and_an_unjudged_gate_is_nan() -> None:
    shut = gate(shy, by=exact, above=0.5, otherwise=-1.0)(rows("", "a"))
    assert shut.values.tolist() == [-1.0, 1.0]
    assert math.isnan(gate(exact, by=shy, above=0.5)(rows("")).values[0])


def test_products() -> None:
    assert (exact * long)(rows("a", "ab", answer="ab")).values.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("result", "message"),
    [(float("inf"), "not finite"), ("text", "no number"), ([1.0], "no number")],
)
def test_a_wrong_result_is_refused_with_row_and_reward(result, message: str) -> None:
    @reward
    def odd(completion: str):
        return result

    with pytest.raises(SteelyardError, match=rf"reward 'odd', row 0 \(sample 's0'\): .*{message}"):
        odd(rows("a"))
    assert math.isnan(odd.using(on_error="nan")(rows("a")).values[0])


def test_an_exception_names_reward_row_and_sample_or_is_counted() -> None:
    @reward(on_error="nan")
    def fragile(completion: str) -> float:
        return 1 / len(completion)

    scores = fragile(rows("a", "", "ab"))
    assert scores.status is not None and scores.status.tolist() == [0, Status.FAILED, 0]
    with pytest.raises(SteelyardError, match=r"row 1 .*ZeroDivisionError"):
        fragile.using(on_error="raise")(rows("a", ""))


def test_a_missing_column_names_the_reward() -> None:
    with pytest.raises(SteelyardError, match="reward 'exact': row 0 has no column 'answer'"):
        exact(Rollouts([Sample("s", "p")], ["a"]))


def test_star_parameters_and_unknown_options_are_refused() -> None:
    with pytest.raises(SteelyardError, match=r"takes \*args"):
        reward(lambda *texts: 1.0)
    with pytest.raises(SteelyardError, match="no option 'most'"):
        long.using(most=3)


def test_batch_rewards_see_groups_and_their_length_is_checked() -> None:
    @reward(batch=True)
    def popular(rollouts: Rollouts) -> Scores:
        texts = list(rollouts.completions)
        return Scores(np.array([texts.count(text) / len(texts) for text in texts]))

    assert popular(rows("a", "a", "b", "b")).values.tolist() == [0.5] * 4
    short = reward(batch=True, name="short")(lambda rollouts: np.zeros(1))
    with pytest.raises(SteelyardError, match="'short' returned 1 values for 2 rows"):
        short(rows("a", "b"))


def test_verdicts_carry_status() -> None:
    @reward
    def judged(completion: str) -> Verdict:
        return Verdict(float("nan"), Status.TIMED_OUT)

    scores = judged(rows("a"))
    assert scores.status is not None and scores.status[0] == Status.TIMED_OUT


def test_threads_run_rows_beside_each_other() -> None:
    barrier = threading.Barrier(4, timeout=10)

    @reward(run="threads", workers=4)
    def together(completion: str) -> float:
        return float(barrier.wait() >= 0)

    assert together(rows("a", "b", "c", "d")).values.tolist() == [1.0] * 4


def test_processes_are_other_processes() -> None:
    import os

    values = slow(rows("a", "b", "c")).values
    assert (values != float(os.getpid() % 2**20)).all()


def test_score_one() -> None:
    assert score_one(0.5 * exact, completion="x", answer="x").values.tolist() == [0.5]


def test_every_combination_is_a_reward() -> None:
    for combined in (
        exact + 1,
        2 * exact,
        exact * long,
        gate(exact, by=long),
        fill(exact, 0),
        1 - exact,
        exact / 2,
        sum([exact, long]),
    ):
        assert isinstance(combined, Expression) and len(combined(rows("a"))) == 1


@reward(run="processes", workers=2)
def fatal(completion: str) -> float:
    """Takes its process with it."""
    import os

    os._exit(1)


def test_numbers_on_either_side() -> None:
    both = rows("a", "b")
    assert (1 - exact)(both).values.tolist() == [0, 1] and repr(1 - exact) == "1 - exact"
    assert (exact / 4)(both).values.tolist() == (np.float32(0.25) * exact)(both).values.tolist() == [0.25, 0]
    assert (True * exact)(both).values.tolist() == (np.int64(1) * exact + 0)(both).values.tolist() == [1, 0]
    assert sum([exact, exact, long])(both).values.tolist() == [2, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [lambda: exact + "1", lambda: exact * None, lambda: np.ones(2) * exact, lambda: exact + (lambda completion: 1.0),
     lambda: exact / 0, lambda: exact / long, lambda: exact + math.nan, lambda: exact * math.inf, lambda: 1j * exact,
     lambda: gate("exact", by=exact), lambda: gate(exact, by=None), lambda: gate(exact, by=long, above=math.nan)],
)  # fmt: skip
def test_what_is_no_reward_is_refused_in_one_sentence(wrong) -> None:
    with pytest.raises(SteelyardError):
        wrong()


def test_a_number_may_be_gated() -> None:
    assert gate(2.0, by=exact, above=0.5)(rows("a", "b")).values.tolist() == [2, 0]  # type: ignore[arg-type]


def test_nan_times_zero_is_not_zero() -> None:
    never = reward(name="never")(lambda completion: math.nan)
    for product in (0 * never, exact * never, never * exact, 0 * (never + exact)):
        assert np.isnan(product(rows("b", "a")).values).all()


def test_numbers_beyond_float32_are_refused_everywhere() -> None:
    large = reward(name="large")(lambda completion: 1e300)
    batch = reward(batch=True, name="large")(lambda rollouts: np.full(len(rollouts), 1e300))
    verdict = reward(name="large")(lambda completion: Verdict(math.inf))
    for wrong in (large, batch, verdict, 1e300 * exact, (1e30 * exact) * (1e30 * exact)):
        with pytest.raises(SteelyardError, match="finite"):
            wrong(rows("a"))


def test_a_verdict_that_failed_has_no_value_and_one_without_value_was_not_scored() -> None:
    late = reward(name="late")(lambda completion: Verdict(0.0, Status.TIMED_OUT))(rows("a"))
    empty = reward(name="empty")(lambda completion: Verdict(math.nan))(rows("a"))
    assert np.isnan([late.values[0], empty.values[0]]).all()
    assert late.status is not None and late.status[0] == Status.TIMED_OUT
    assert empty.status is not None and empty.status[0] == Status.FAILED
    with pytest.raises(SteelyardError, match="no number"):
        reward(name="none")(lambda completion: Verdict(None))(rows("a"))  # type: ignore[arg-type]


def test_time_is_kept_for_failed_rows_and_for_both_of_one_name() -> None:
    import time

    @reward(on_error="nan")
    def slow_failure(completion: str, *, pause: float = 0.01) -> float:
        time.sleep(pause)
        raise RuntimeError

    scores = (slow_failure + slow_failure.using(pause=0.02))(rows("a"))
    assert scores.seconds["slow_failure"][0] >= 0.01 and scores.seconds["slow_failure#2"][0] >= 0.02


def test_an_exception_in_a_batch_reward_names_it() -> None:
    odd = reward(batch=True, name="odd")(lambda rollouts: 1 / 0)
    text = reward(batch=True, name="odd")(lambda rollouts: ["x"] * len(rollouts))
    for wrong in (odd, text):
        with pytest.raises(SteelyardError, match="reward 'odd': "):
            wrong(rows("a"))


def test_scores_that_a_batch_reward_keeps_are_not_changed() -> None:
    kept = Scores(np.ones(1))
    reward(batch=True, name="kept")(lambda rollouts: kept)(rows("a"))
    assert kept.parts == {}


def test_a_process_that_dies_is_one_sentence_and_the_next_call_works() -> None:
    with pytest.raises(SteelyardError, match="reward 'fatal': its rows could not be judged in processes"):
        fatal(rows("a", "b"))
    assert len(slow(rows("a", "b"))) == 2
    with pytest.raises(SteelyardError, match="reward 'here': it runs in processes"):
        reward(run="processes", name="here")(lambda completion: 1.0)(rows("a"))


def test_settings_of_a_reward_are_checked() -> None:
    for wrong in ({"run": "thread"}, {"on_error": "ignore"}, {"workers": 0}):
        with pytest.raises(SteelyardError, match="a reward cannot have"):
            reward(**wrong)(lambda completion: 1.0)  # type: ignore[call-overload]


def test_no_rows_at_all() -> None:
    for combined in (exact, 0.5 * exact + 1, exact * long, gate(exact, by=shy), fill(shy, 0), slow):
        assert len(combined(Rollouts([], []))) == 0


def test_a_reward_that_leaves_python_ends_no_run() -> None:
    def leaves(completion: str) -> float:
        raise SystemExit(0)

    with pytest.raises(SteelyardError, match=r"row 0 .*SystemExit"):
        score_one(reward(leaves), completion="a")
    assert score_one(reward(on_error="nan")(leaves), completion="a").status == [Status.FAILED]
