"""Votes beside the truth, the step of collapse, the sharpening map, and the command that reads a run."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.audits.collapse import collapse, collapse_step, label_free_signs, sharpened, vote_probe, votes
from steelyard.types import Actions, Rollouts, Sample, SteelyardError
from steelyard.worlds.shared_votes import SharedVotes


def test_worked_votes_and_a_group_that_is_right_by_luck():
    found = votes(["4", "4", "7", "4", "7", "7", "4", "7"], ["4"] * 8, np.repeat([0, 1], 4))
    assert found.label_accuracy.tolist() == [1, 0] and found.reward_accuracy.tolist() == [1, 0]
    assert found.accuracy.tolist() == [0.75, 0.25] and found.majority_reward.tolist() == [0.75, 0.75]
    scattered = votes(["1", "2", "3", "4"], ["9"] * 4, np.zeros(4, np.int64))
    assert scattered.label_accuracy[0] == 0 and scattered.reward_accuracy[0] == 0.75, "three wrong ones rightly earn 0"
    assert scattered.solved[0] == 0


def test_no_answer_has_no_vote_and_is_never_right():
    found = votes([None, None, "3"], ["3"] * 3, np.zeros(3, np.int64))
    assert (found.label_accuracy[0], found.reward_accuracy[0]) == (1, 1)
    none = votes([None, None], ["3"] * 2, np.zeros(2, np.int64))
    assert (none.label_accuracy[0], none.majority_reward[0], none.accuracy[0]) == (0, 0, 0)
    assert len(votes([], [], np.zeros(0, np.int64)).accuracy) == 0
    with pytest.raises(SteelyardError, match="each row needs all three"):
        votes(["1"], [None], np.zeros(1, np.int64))


def test_first_crossing_counts():
    assert collapse_step([0.8, 0.5, 0.2, 0.02, 0.009, 0.0]) == 4
    assert collapse_step([0.8, 0.7]) is None and collapse_step([]) is None
    assert collapse_step([0.8, 0.0, 0.9]) == 1, "a recovery does not undo it"
    assert collapse_step([0.01, None, float("nan"), 0.0]) == 3, "at the threshold is not below it"
    assert collapse_step([0.8, 0.3], threshold=0.5, steps=[0, 20]) == 20
    with pytest.raises(SteelyardError, match="one step a figure"):
        collapse_step([0.8], steps=[1, 2])


@given(st.floats(0.01, 0.99), st.floats(0.2, 3.0))
def test_the_odds_of_the_majority_grow_by_a_constant(p0, beta):
    p = sharpened(np.array([p0, (1 - p0) / 2, (1 - p0) / 2]), np.array([1.0, 0, 0]), beta=beta, steps=4)[:, 0]
    e = np.exp(1 / beta)
    for now, after in itertools.pairwise(p):
        assert after == pytest.approx(now * e / (now * e + 1 - now), rel=1e-9)


def test_the_sharpening_map_of_the_sheet():
    p = sharpened(np.array([0.4, 0.6]), np.array([1.0, 0]), beta=1.0, steps=5)
    assert p[1:, 0] == pytest.approx([0.6444, 0.8313, 0.9305, 0.9733, 0.9900], abs=1e-4)
    far = sharpened(np.array([0.4, 0.6]), np.array([1.0, 0]), beta=1.0, steps=40)
    assert far[40, 1] / far[39, 1] == pytest.approx(np.exp(-1))
    kept = sharpened(np.array([0.5, 0.3, 0.2]), np.array([1.0, 0, 0]), beta=0.5, steps=1)[1]
    assert kept == pytest.approx([0.8808, 0.0715, 0.0477], abs=1e-4)
    assert sharpened(np.array([1.0, 0]), np.array([1.0, 0]), beta=1.0, steps=3)[:, 0].tolist() == [1, 1, 1, 1]


def test_a_course_is_read_from_evaluations():
    course = [(0, 0.3, 0.6, 0.4), (5, 0.4, 0.4, 0.8), (10, 0.35, 0.005, 0.995), (15, 0.2, 0.3, 0.98)]
    rows = [
        {"step": step, "accuracy": a, "reward_accuracy": r, "majority_reward": m, "repeats": None}
        for step, a, r, m in course
    ]
    found = collapse(rows)
    assert (found.collapsed_at, found.unanimous_at, found.peak_at) == (10, 10, 5)
    assert (found.start, found.peak, found.end) == (0.3, 0.4, 0.2)
    assert collapse(rows, threshold=0.5).collapsed_at == 5 and collapse(rows, threshold=0.0).collapsed_at is None
    with pytest.raises(SteelyardError, match="no evaluations"):
        collapse([])
    with pytest.raises(SteelyardError, match="evaluations without reward_accuracy, majority_reward, accuracy"):
        collapse([{"step": 0, "reward": 1.0}])


def test_a_probe_is_the_same_at_every_call_and_near_the_exact_figures():
    world = SharedVotes()
    policy, samples = world.policy(), world.samples("test", 256)
    found = vote_probe(samples)(policy)
    assert np.isnan(found.pop("repeats")), "answers of one step repeat nothing"
    assert found.items() <= vote_probe(samples)(policy).items()
    assert found["accuracy"] == pytest.approx(world.rightness(policy)[:256].mean(), abs=0.03)
    assert found["length"] == 1 and 0 < found["entropy"] < np.log(6)
    assert found["label_accuracy"] <= found["solved"] and found["majority_reward"] >= 1 / 6


@pytest.mark.parametrize(
    ("columns", "words"), [({}, "'s0' has no 'answer'"), ({"answer": ["1", "2"]}, "one text or number is needed")]
)
def test_a_probe_without_right_answers_is_refused(columns, words):
    with pytest.raises(SteelyardError, match=words):
        vote_probe([Sample("s0", "p", columns=columns)])
    with pytest.raises(SteelyardError, match="the probe has no samples"):
        vote_probe([])


def test_signs_of_a_worked_batch():
    actions = Actions(
        np.log([[0.5, 0.5, 0.5], [0.25, 1, 1]]), [[1, 1, 1], [1, 0, 0]], {"tokens": [[3, 3, 1], [2, 2, 2]]}
    )
    signs = label_free_signs(Rollouts([Sample("s", "p")] * 2, ["", ""], actions=actions))
    assert signs == pytest.approx({"length": 2.0, "entropy": 5 * np.log(2) / 4, "repeats": 0.5})
    with pytest.raises(SteelyardError, match="carry no actions"):
        label_free_signs(Rollouts([Sample("s", "p")], [""]))


def test_the_command_reads_a_run_and_refuses_another(tmp_path):
    rows = [
        {"step": 0, "accuracy": 0.3, "reward_accuracy": 0.6, "majority_reward": 0.4},
        {"step": 8, "accuracy": 0.1, "reward_accuracy": 0.0, "majority_reward": 1.0},
    ]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "steelyard.cli", "collapse"]
    run = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0 and "collapse: reward accuracy" in run.stdout and "0.300" in run.stdout, run.stderr
    run = subprocess.run([*command, str(tmp_path / "absent")], capture_output=True, text=True)
    assert run.returncode == 2 and "holds no evaluations.jsonl" in " ".join(run.stderr.split())
