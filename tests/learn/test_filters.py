"""The spread filter: the sheet's schedule, thresholds met exactly, undefined spreads, resume."""

import json

import numpy as np
import pytest

from steelyard.learn.advantages import advantages_of, centre, chain, scale
from steelyard.learn.filters import spread_filter
from steelyard.types import Rollouts, Sample, Scores, SteelyardError

STEPS = [[0.2] * 2] * 5 + [[0.3, 0.1], [0.2, 0.2], [0.4, 0.0], [0.1, 0.1], [0.2, 0.2]]


def run(link, groups: list[list[float]]):
    values = np.concatenate(groups).astype(np.float32)
    group = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    scores = Scores(values)
    return link(advantages_of(scores), Rollouts([Sample("s", "p")] * len(values), [""] * len(values), group), scores)


def test_the_sheets_threshold():
    spread = spread_filter()
    for step in STEPS:
        assert spread.keep(np.array(step)).all()
    assert spread.keep(np.array([0.05, 0.3])).tolist() == [False, True]
    assert spread.metrics()["spread_threshold"] == pytest.approx(0.09)
    spread.keep(np.array([0.09, 0.08]))
    assert spread.metrics()["spread_threshold"] == pytest.approx(0.089975)


def test_a_prompt_at_the_threshold_stays():
    spread = spread_filter()
    for step in STEPS:
        spread.keep(np.array(step))
    assert spread.keep(np.array([0.09, 0.09 - 1e-6])).tolist() == [True, False]


def test_undefined_spreads_are_dropped_and_never_counted():
    with_nan, without = spread_filter(), spread_filter()
    for step in STEPS:
        assert with_nan.keep(np.array([*step, np.nan, np.inf])).tolist() == [True, True, False, False]
        without.keep(np.array(step))
    assert with_nan.state_dict() == without.state_dict()
    assert with_nan.keep(np.array([np.nan])).tolist() == [False], "and a step of nothing else moves nothing"
    assert with_nan.keep(np.array([0.2])).all() and with_nan.level == pytest.approx(0.18)


def test_in_a_chain_whole_prompts_get_weight_0():
    link = chain(spread_filter(collect_from=1, filter_from=2), centre(), scale(epsilon=1e-6))
    first = [[0.1, 0.4, 0.4, 0.7], [0.2, 0.2, 0.2, 0.2]]
    assert run(link, first).weights.tolist() == [1] * 8, "nothing is dropped before there is an average"
    got = run(link, [*first, [np.nan, 0.5, np.nan, np.nan]])
    assert got.weights.tolist() == [1] * 4 + [0] * 8
    assert got.values[:4] == pytest.approx([-1.2247398, 0, 0, 1.2247399], abs=1e-5)
    figures = link.metrics()
    assert figures["spread_threshold"] == pytest.approx(0.24494897 / 4, rel=1e-5)
    assert figures["spread_kept"] == pytest.approx(1 / 3)


def test_it_goes_on_where_it_was():
    whole, cut = chain(spread_filter()), chain(spread_filter())
    steps = np.random.default_rng(0).uniform(0, 0.3, (20, 8))
    for step in steps[:13]:
        whole.links[0].keep(step)
        cut.links[0].keep(step)
    again = chain(spread_filter())
    again.load_state_dict(json.loads(json.dumps(cut.state_dict())))
    for step in steps[13:]:
        assert again.links[0].keep(step).tolist() == whole.links[0].keep(step).tolist()
    assert again.state_dict() == whole.state_dict()


def test_values_that_can_never_work():
    for wrong in ({"beta": -1.0}, {"decay": 1.5}, {"collect_from": 11}, {"filter_from": 0}):
        with pytest.raises(SteelyardError, match="spread_filter"):
            spread_filter(**wrong)
    assert repr(spread_filter()) == "spread_filter(beta=0.5, decay=0.99, collect_from=6, filter_from=11)"
