"""The video world: seeded and disjoint rows, answers that can be seen, balance, facts, and the shipped base."""

from collections import Counter

import numpy as np
import pytest

from steelyard.perturb.video import VideoPerturbation
from steelyard.rewards.answers import problem_accuracy, think_format
from steelyard.types import Rollouts, SteelyardError
from steelyard.worlds.video_questions import SPLITS, VideoQuestions, reasoning_agreement, reasoning_facts
from steelyard.worlds.video_questions_scene import Look, Scene, Thing, project, render
from steelyard.worlds.video_questions_tasks import TASKS

WORLD = VideoQuestions()
ROWS = WORLD.samples("train", 600)


def accuracy(completions, samples):
    columns = [(s.columns["answer"], s.columns["problem_type"]) for s in samples]
    return float(np.mean([problem_accuracy(c, *column) for c, column in zip(completions, columns, strict=True)]))


def choice_of(sample):
    columns = sample.columns
    return columns["options"].index(columns["answer"]) if columns["options"] else columns["answer"]


def straight(yaw=(0.0, 0.0), pitch=(0.0, 0.0), ahead=(0.0, 0.0), things=None):
    path = np.array([[0, ahead[i], yaw[i], pitch[i]] for i in range(2)], float)
    look = Look((150, 185, 225), (110, 110, 110), 1.0, (0.02,) * 6, 3, 10.0)
    return Scene(tuple(things or [Thing("red", "ball", 0.0, 6.0, 1.4)]), path, look)


def test_a_row_is_a_function_of_split_seed_and_index():
    again = VideoQuestions().samples("train", 40)
    for row in (0, 7, 33):
        assert np.array_equal(again[row].video, ROWS[row].video)
        assert again[row].columns == ROWS[row].columns
        assert again[row].id == f"train-0-{row:06d}"
    assert again[-1].id == again[39].id
    assert [s.id for s in again[2:4]] == ["train-0-000002", "train-0-000003"]


def test_rows_are_kept_only_where_asked():
    assert WORLD.samples("train", 3, seed=5).ids == [sample.id for sample in WORLD.samples("train", 3, seed=5)]
    kept, fresh = WORLD.samples("test", 2), WORLD.samples("test", 2, keep=False)
    assert kept[0] is kept[0]
    assert fresh[0] is not fresh[0]
    assert np.array_equal(fresh[0].video, kept[0].video)


def test_no_clip_is_in_two_splits_or_seeds():
    rows = [s for split in SPLITS for seed in (0, 1) for s in WORLD.samples(split, 60, seed=seed)]
    assert len({s.video.tobytes() for s in rows}) == len(rows)
    assert len({s.id for s in rows}) == len(rows)


@pytest.mark.parametrize(("frames", "size"), [(8, 56), (16, 112), (4, 33)])
def test_frames_and_size_are_as_asked(frames, size):
    for sample in VideoQuestions(frames, size).samples("test", 5):
        assert sample.video.shape == (frames, size, size, 3)
        assert sample.video.dtype == np.uint8


def test_what_cannot_be_made_is_refused():
    with pytest.raises(SteelyardError, match="at least 4 frames"):
        VideoQuestions(frames=1)
    with pytest.raises(SteelyardError, match="the splits are train"):
        WORLD.samples("dev", 3)
    with pytest.raises(SteelyardError, match="sees 8 frames"):
        VideoQuestions(16, 112).policy()
    with pytest.raises(IndexError):
        ROWS[600]


def test_gold_completions_are_right_and_well_formed():
    texts = [s.columns["solution"] for s in ROWS]
    assert accuracy(texts, ROWS) == 1.0
    assert (think_format(Rollouts(list(ROWS), texts)).values == 1).all()
    assert max(len(text.split()) + 1 for text in texts) <= 24


def test_options_are_unique_and_hold_the_answer():
    for sample in ROWS:
        options, answer = sample.columns["options"], sample.columns["answer"]
        if sample.columns["problem_type"] == "numerical":
            assert options == () and 1 <= int(answer) <= 4
            continue
        assert len(set(options)) == len(options) in (2, 4)
        assert answer in options
        assert f"Options: {', '.join(options)}." in sample.prompt[0]["content"][1]["text"]


def test_the_reasoning_ends_in_the_answer_and_speaks_of_what_is_in_the_scene():
    for sample in ROWS:
        columns = sample.columns
        facts, _, conclusion = columns["reasoning"].rpartition(" so ")
        assert conclusion == columns["answer"]
        if columns["task"] == "how many":
            assert facts.count(" then ") + 1 == int(columns["answer"])
        elif columns["task"] in ("which object", "passed first"):
            assert columns["answer"] in facts


def test_tasks_and_answers_are_balanced():
    assert Counter(s.columns["task"] for s in ROWS) == dict.fromkeys(TASKS, 120)
    four = [s.columns for s in ROWS if len(s.columns["options"]) == 4]
    places = Counter(columns["options"].index(columns["answer"]) for columns in four)
    assert len(places) == 4 and max(places.values()) < 0.33 * len(four)
    for task, answers in {"turning": {"left", "right", "up", "down"}, "how many": set("1234")}.items():
        counts = Counter(s.columns["answer"] for s in ROWS if s.columns["task"] == task)
        assert set(counts) == answers and max(counts.values()) < 0.4 * sum(counts.values())


def test_a_blind_guess_is_near_chance():
    """The best constant place among the options per question, and the best constant number, found on other rows."""
    seen: dict[str, Counter] = {}
    for sample in ROWS:
        seen.setdefault(sample.columns["question"][:20], Counter())[choice_of(sample)] += 1
    test = WORLD.samples("test", 400)
    hits = [choice_of(s) == seen[s.columns["question"][:20]].most_common(1)[0][0] for s in test]
    assert np.mean(hits) < 0.4


@pytest.mark.parametrize(
    ("yaw", "pitch", "axis", "sign"), [(0.2, 0, 0, -1), (-0.2, 0, 0, 1), (0, 0.2, 1, 1), (0, -0.2, 1, -1)]
)
def test_what_is_seen_moves_against_the_turn(yaw, pitch, axis, sign):
    seen = project(straight(yaw=(0, yaw), pitch=(0, pitch)), 56)
    assert np.sign(seen[1, 0, axis] - seen[0, 0, axis]) == sign


def test_a_thing_is_drawn_where_it_is_projected_and_grows_when_near():
    scene = straight(ahead=(0.0, 3.0))
    frames, seen = render(scene, 56).astype(int), project(scene, 56)
    red = (frames[..., 0] > 150) & (frames[..., 1] < 90)
    for mask, (column, foot, height, _) in zip(red, seen[:, 0], strict=True):
        rows, columns = mask.nonzero()
        assert abs(columns.mean() + 0.5 - column) < 1.0
        assert abs(rows.mean() + 0.5 - (foot - height / 2)) < 1.5
        assert abs(mask.sum() - np.pi * height**2 / 4) < 0.35 * mask.sum() + 6
    assert red[1].sum() > 2 * red[0].sum()


def test_nearer_things_hide_farther_ones():
    things = [Thing("red", "ball", 0.0, 4.0, 1.4), Thing("blue", "ball", 0.0, 9.0, 1.4)]
    for order in (things, things[::-1]):
        frame = render(straight(things=order), 56)[0].astype(int)
        assert not ((frame[..., 2] > 170) & (frame[..., 0] < 80)).any()


def test_facts_are_clauses_subjects_and_order():
    assert reasoning_facts("<think> red box leaves left then blue ball leaves right </think> <answer> A </answer>") == {
        "red box leaves left",
        "blue ball leaves right",
        "about: red box",
        "about: blue ball",
        "red box leaves left > blue ball leaves right",
    }
    assert reasoning_facts("from left Red Box") == reasoning_facts("red   box")
    assert reasoning_facts("") == frozenset()


def test_agreement_counts_equal_facts():
    gold = "red box leaves left then blue ball leaves right"
    assert reasoning_agreement(gold, gold) == 1.0
    assert reasoning_agreement("", "") == 0.0
    # Facts of the second: 2 clauses, 2 subjects, 1 order; shared: one clause and both subjects.
    assert reasoning_agreement(gold, "red box leaves left then blue ball leaves left") == pytest.approx(2 * 3 / 10)
    assert reasoning_agreement(gold, "green cone grows") == 0.0


@pytest.fixture(scope="module")
def base():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield WORLD.policy(max_tokens=26)
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_shipped_base_sees_clean_clips_and_is_hurt_by_fog(base):
    samples = WORLD.samples("test", 128)
    foggy = [VideoPerturbation("fog", 4, seed)(sample) for seed, sample in enumerate(samples)]
    clean, fog = (
        base.sample(clips, 1, generator=np.random.default_rng(0), greedy=True).completions for clips in (samples, foggy)
    )
    assert accuracy(clean, samples) > 0.7
    assert accuracy(fog, samples) < accuracy(clean, samples) - 0.1


def test_the_shipped_base_writes_what_its_tokenizer_reads(base):
    samples = WORLD.samples("test", 10)
    texts = [s.columns["solution"] for s in samples]
    rollouts = base.encode(list(samples), texts)
    assert base.texts(rollouts.actions.data["tokens"], rollouts.actions.mask) == texts
    assert base.tokenizer.unk_token_id not in base.tokenizer(base.render(samples[0]))["input_ids"]


def test_the_shipped_base_samples_different_answers(base):
    rollouts = base.sample(WORLD.samples("test", 10), 8, generator=np.random.default_rng(0))
    distinct = [len(set(rollouts.completions[i : i + 8])) for i in range(0, 80, 8)]
    assert np.mean(distinct) > 1.5
