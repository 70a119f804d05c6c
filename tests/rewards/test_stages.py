"""Stage models: causality, no leak of absolute time, labels, rewinding, irrelevant words, folders, the reward."""

from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.cloning import RowTrainer
from steelyard.learn.config import TrainConfig
from steelyard.rewards.models.stage_rows import (
    Causal,
    Centred,
    Episode,
    EpisodeFrames,
    StageRows,
    episode_progress,
    progress_reward,
)
from steelyard.rewards.models.stages import (
    StageConfig,
    StageFrames,
    StageTransformer,
    Windows,
    load_stage_model,
    predict,
    stage_losses,
)
from steelyard.rewards.progress import Stage
from steelyard.types import Rollouts, Sample, SteelyardError

PRIORS = {"coarse": [0.25, 0.75], "fine": [0.25, 0.25, 0.5]}
SIZES = {"cameras": 2, "frame_width": 6, "text_width": 5, "state_width": 3, "width": 16, "layers": 2, "heads": 2}
ORDERS = {"coarse": ["a", "b"], "fine": ["x", "y", "z"]}
STAGES = {
    "coarse": [Stage("a", 0, 9), Stage("b", 10, 39)],
    "fine": [Stage("x", 0, 9), Stage("y", 10, 19), Stage("z", 20, 39)],
}


def transformer(kind=StageTransformer, **changes):
    torch.manual_seed(0)
    return kind(StageConfig(PRIORS, **{**SIZES, "dropout": 0.0, **changes})).eval()


def windows(rows: int = 3, steps: int = 5) -> Windows:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    lengths = torch.tensor([steps, steps - 2, 1])[:rows]
    return Windows(draw(rows, 2, steps, 6), draw(rows, 5), draw(rows, steps, 3), lengths)


def episode(length: int = 40, seed: int = 0, stages=STAGES) -> Episode:
    g = np.random.default_rng(seed)
    time = np.linspace(0, 1, length)[:, None]
    state = np.concatenate([time, g.normal(0, 0.01, (length, 2))], 1)
    return Episode(state, g.normal(0, 0.1, (length, 2, 6)), np.ones(5), stages)


@pytest.mark.parametrize("kind", [StageTransformer, StageFrames])
def test_shapes_and_the_unit_interval(kind) -> None:
    model = transformer(kind)
    for scheme, k in (("coarse", 2), ("fine", 3)):
        found = predict(model, windows(), scheme=scheme)
        assert found.probabilities.shape == (3, 5, k) and found.tau.shape == found.progress.shape == (3, 5)
        assert np.allclose(found.probabilities.sum(-1), 1, atol=1e-5)
        stage, edges = found.probabilities.argmax(-1), np.concatenate([[0], np.cumsum(PRIORS[scheme])])
        low, high = edges[stage], edges[stage + 1]
        assert (found.progress >= low).all() and (found.progress <= high).all()
        assert np.allclose(found.progress, low + (high - low) * found.tau)


def test_it_never_looks_ahead_nor_at_padding() -> None:
    model, seen = transformer(), windows()
    later = seen.state.clone()
    later[:, 3:] += 5.0
    before, after = (model.stage_logits(w, "fine") for w in (seen, seen._replace(state=later)))
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-5)
    assert not torch.allclose(before[0, 3:], after[0, 3:], atol=1e-3)
    assert torch.isfinite(before).all()


def test_only_the_first_frame_has_a_position() -> None:
    model = transformer()
    with torch.no_grad():
        for tower in (model.where, model.how_far):
            tower.first.zero_()
    one = windows(1, 1)
    many = one._replace(
        frames=one.frames.expand(1, 2, 4, 6), state=one.state.expand(1, 4, 3), lengths=torch.tensor([4])
    )
    logits = model.stage_logits(many, "fine")
    assert torch.allclose(logits, logits[:, :1].expand_as(logits), atol=1e-5)


def test_the_regressor_is_told_the_stage() -> None:
    model, seen = transformer(), windows()
    told = [model.within(seen, torch.full((3, 5), k), "fine") for k in (0, 2)]
    assert not torch.allclose(told[0], told[1], atol=1e-4)


def test_padding_frames_have_no_part_in_the_loss() -> None:
    model, seen = transformer(), windows()
    stage, tau = torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 5)
    other = stage.clone()
    other[1, 3:] = 2
    one, two = (stage_losses(model, seen, k, tau, scheme="fine", truth=1.0) for k in (stage, other))
    assert torch.allclose(one, two)
    logits = model.stage_logits(seen, "fine").log_softmax(-1)[2, 0, 0]
    expected = -logits + model.within(seen, stage, "fine")[2, 0] ** 2
    assert torch.allclose(one[2], expected, atol=1e-6)


def test_a_folder_gives_the_same_model(tmp_path: Path) -> None:
    for kind in (StageTransformer, StageFrames):
        model = transformer(kind)
        model.save_pretrained(tmp_path / kind.__name__)
        loaded = load_stage_model(tmp_path / kind.__name__)
        assert type(loaded) is kind and loaded.config.priors == PRIORS
        assert torch.equal(loaded.stage_logits(windows(), "fine"), model.stage_logits(windows(), "fine"))
    with pytest.raises(SteelyardError, match="cannot be loaded as a stage model"):
        load_stage_model(tmp_path / "nothing")
    with pytest.raises(SteelyardError, match="no stages 'rough'"):
        model.config.count("rough")


def test_rewound_frames_stand_behind_the_window_with_their_own_labels() -> None:
    rows = StageRows(transformer(), [episode()], ORDERS, window=Centred(frames=4, gap=3), rewind=1.0, most=4)
    index, lengths = rows._indices(np.asarray([20, 8]), np.random.default_rng(0))
    assert index[0, :5].tolist() == [14, 17, 20, 23, 26] and index[1, :5].tolist() == [2, 5, 8, 11, 14]
    assert 1 <= lengths[0] - 5 <= 4 and lengths[1] == 5  # no history before frame 2
    assert index[0, 5 : lengths[0]].tolist() == [11, 8, 5, 2][: lengths[0] - 5]
    causal = StageRows(transformer(), [episode()], ORDERS, window=Causal(frames=3, gap=4), rewind=1.0)
    index, lengths = causal._indices(np.asarray([30]), np.random.default_rng(0))
    assert index[0, :4].tolist() == [0, 22, 26, 30]
    assert index[0, 4 : lengths[0]].tolist() == [18, 14, 10, 6][: lengths[0] - 4] and lengths[0] > 4


def test_irrelevant_words_make_the_target_nothing() -> None:
    torch.manual_seed(0)
    model, bank = transformer(), np.full((1, 5), 7.0)
    options = {"window": Centred(frames=0, gap=1), "rewind": 0.0, "truth": 1.0}
    wrong = StageRows(model, [episode()], ORDERS, irrelevant=bank, wrong=1.0, **options)
    found = wrong.losses(np.asarray([35]))
    e = episode()
    arrays = (e.frames[35][None, :, None], bank, e.state[35][None, None])
    seen = Windows(*(torch.as_tensor(a, dtype=torch.float32) for a in arrays), torch.tensor([1]))
    zero = torch.zeros(1, 1, dtype=torch.long)
    expected = sum(stage_losses(model, seen, zero, zero.float(), scheme=s, truth=1.0) for s in ORDERS)
    assert torch.allclose(found, expected, atol=1e-5)


def test_an_episode_counts_only_in_the_schemes_that_it_has() -> None:
    half = episode(stages={"coarse": STAGES["coarse"]})
    options = {"window": Centred(frames=0, gap=1), "rewind": 0.0, "truth": 1.0}
    model = transformer()
    both = StageRows(model, [half], ORDERS, **options).losses(np.arange(4))
    coarse = StageRows(model, [half], {"coarse": ORDERS["coarse"]}, **options).losses(np.arange(4))
    assert torch.allclose(both, coarse)


def test_wrong_shapes_are_named() -> None:
    bad = Episode(np.zeros((4, 3)), np.zeros((4, 2, 5)), np.zeros(5), STAGES)
    with pytest.raises(SteelyardError, match=r"episode 1 has frames of shape \(4, 2, 5\)"):
        EpisodeFrames(transformer(), [episode(), bad])
    with pytest.raises(SteelyardError, match="at least one episode"):
        EpisodeFrames(transformer(), [])
    with pytest.raises(SteelyardError, match="'fine' has 2 stages and 3 priors"):
        StageRows(transformer(), [episode()], {"fine": ["x", "y"]}, window=Causal())


def test_a_trained_model_rewards_what_gets_somewhere(tmp_path: Path) -> None:
    model, window = transformer(), Causal(frames=3, gap=2)
    rows = StageRows(model, [episode(seed=i) for i in range(6)], ORDERS, window=window)
    config = TrainConfig(steps=160, prompts=32, micro_rows=32, lr=3e-3, weight_decay=0.0, grad_clip=1.0)
    run = RowTrainer(rows, config, folder=tmp_path, progress=False).run()
    losses = [row["loss"] for row in run.rows()]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    reward = progress_reward(model, window=window, scheme="coarse", episode=lambda sample, completion: completion)
    whole, cut = episode(seed=9), episode(seed=9)
    cut = Episode(cut.state[:15], cut.frames[:15], cut.text)
    scores = reward(Rollouts([Sample("a", "x"), Sample("b", "x")], [whole, cut]))
    assert scores.values[0] > scores.values[1] + 0.2
    assert scores.steps.shape == (2, 39) and np.isnan(scores.steps[1, 14:]).all() and (scores.confidence >= 0.5).all()
    progress = episode_progress(model, [whole], window=window, scheme="coarse")[0][0]
    assert np.corrcoef(progress, np.arange(40))[0, 1] > 0.9
    assert np.allclose(np.nansum(scores.steps[0]), progress[-1] - progress[0], atol=1e-5)
