"""The waypoints' world: its demonstrations, stages and true progress."""

import numpy as np

from steelyard.rewards.progress import complete
from steelyard.worlds.waypoints import ORDER, WAYPOINTS, Points, Waypoints


def test_demonstrations_are_whole_and_some_dither() -> None:
    found = Waypoints(seed=5).demonstrations(20)
    assert all(complete(d.stages, ORDER) and d.trajectory.success for d in found)
    for d in found:
        t = d.trajectory
        assert len(t.observations) == len(t.actions) + 1 == len(d.good) + 1 == len(d.truth)
        assert d.stages[0].start == 0 and d.stages[-1].end == len(d.good) and d.truth[-1] == 1.0
        for k, stage in enumerate(d.stages[1:], 1):  # the flags of the frame at which a stage begins say so
            assert t.observations[int(stage.start), 2 + k] > 0.5 > t.observations[int(stage.start) - 1, 2 + k]
    assert [bool(d.good.all()) for d in found[::5]] == [True] * 4
    assert not all(d.good.all() for d in found)
    again = Waypoints(seed=5).demonstrations(20)
    assert all((a.trajectory.actions == b.trajectory.actions).all() for a, b in zip(found, again, strict=True))


def test_headway_is_what_brings_true_progress() -> None:
    found = Waypoints(seed=5).demonstrations(40)
    gain, good = np.concatenate([np.diff(d.truth) for d in found]), np.concatenate([d.good for d in found])
    assert gain[good].mean() > 5 * max(gain[~good].mean(), 0.0) and 0.3 < good.mean() < 0.7


def test_points_visit_in_order_and_are_held_to_a_length() -> None:
    points = Points(np.zeros((2, 2)), np.random.default_rng(0))
    points.reset()
    _, solved = points.step(np.asarray([[9.0, 0.0], [0.0, 9.0]]), np.asarray([True, False]))
    assert np.allclose(points.position, [[0.15, 0], [0, 0]]) and not solved.any()
    for target in (WAYPOINTS[1], *WAYPOINTS):  # the second one does not count before the first
        points.position[:] = target
        _, solved = points.step(np.zeros((2, 2)), np.ones(2, bool))
    assert solved.all() and np.allclose(points.progress(), 1)
