"""Reward models: loaded, scored, trained on pairs, frozen, saved with a card, and robust combinations of several."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from steelyard.learn.config import TrainConfig
from steelyard.learn.pairs import PairTrainer, pair_accuracy
from steelyard.learn.preferences import bradley_terry
from steelyard.rewards import think_format
from steelyard.rewards.ensembles import robust, uncertainty_weighted
from steelyard.rewards.models.fusion import fused, nearest
from steelyard.rewards.models.heads import GaussianHeads, head_loss
from steelyard.rewards.models.sequence import RewardModel
from steelyard.types import Pairs, Rollouts, Sample, SteelyardError
from tests.policies.tiny import text_config, tokenizer


def bert(**changes: object) -> RewardModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        num_labels=1, max_position_embeddings=64, pad_token_id=0, initializer_range=0.3, **changes,
    )  # fmt: skip
    return RewardModel(BertForSequenceClassification(config).eval(), tokenizer(), max_length=48, batch=3)


def pairs(count: int = 24) -> Pairs:
    """w1 is a good word, w2 a bad one."""
    samples = [Sample(f"s{i}", f"w{10 + i % 7} w{20 + i % 5}") for i in range(count)]
    return Pairs(samples, [f"w1 w{30 + i % 9}" for i in range(count)], [f"w2 w{30 + i % 9}" for i in range(count)])


def rollouts(count: int = 7) -> Rollouts:
    given = pairs(count)
    return Rollouts(given.samples, given.chosen)


def test_batches_and_padding_change_no_score() -> None:
    model, rows = bert(), rollouts()
    together = model(rows).values
    alone = [model(rows.take([i])).values[0] for i in range(len(rows))]
    assert np.allclose(together, alone, atol=1e-5) and together.std() > 0


def test_it_stands_in_the_algebra() -> None:
    both = bert() + 0.5 * think_format
    scores = both(rollouts())
    assert set(scores.parts) == {"reward_model", "think_format"} and repr(both) == "reward_model + 0.5 * think_format"


@pytest.mark.parametrize("frozen", [False, True])
def test_pairs_train_it_and_transformers_reads_what_it_saves(tmp_path: Path, frozen: bool) -> None:
    model, data = bert(), pairs()
    if frozen:
        model.freeze_encoder()
    before = model.module.base_model.embeddings.word_embeddings.weight.detach().clone()
    config = TrainConfig(steps=30, prompts=24, lr=1e-2, weight_decay=0.0, micro_rows=24)
    PairTrainer(model, bradley_terry(), data, config, folder=tmp_path / "run", progress=False).run()
    assert pair_accuracy(model, data) == 1.0
    assert torch.equal(before, model.module.base_model.embeddings.word_embeddings.weight) == frozen
    model.save_pretrained(tmp_path / "saved", card={"accuracy": 1.0, "pairs": len(data)})
    again = RewardModel.from_pretrained(tmp_path / "saved", max_length=48)
    assert np.allclose(again(rollouts()).values, model(rollouts()).values, atol=1e-5)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").config.num_labels == 1
    assert "| accuracy | 1 |" in (tmp_path / "saved" / "README.md").read_text()


def test_kept_features_give_the_whole_models_scores() -> None:
    model, rows = bert(), rollouts()
    whole = model(rows).values
    model.freeze_encoder()
    assert np.allclose(model(rows).values, whole, atol=1e-5) and np.allclose(model(rows).values, whole, atol=1e-5)


def test_models_of_one_frozen_encoder_share_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, rows = bert(), bert(), rollouts()
    kept: dict[tuple[str, str], torch.Tensor] = {}
    first.freeze_encoder(features=kept)
    second.freeze_encoder(features=kept)
    values = first(rows).values
    assert len(kept) == len(rows)
    monkeypatch.setattr(second, "_encoded", None)  # nothing is left to encode
    assert np.array_equal(second(rows).values, values)


def test_a_causal_classifier_is_a_reward_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inner = Qwen2ForSequenceClassification(Qwen2Config(**text_config(num_labels=1)))
    RewardModel(inner, tokenizer()).save_pretrained(tmp_path)
    model = RewardModel.from_pretrained(tmp_path, batch=2)
    assert np.isfinite(model(rollouts()).values).all()
    with pytest.raises(SteelyardError, match="no pooler"):
        model.freeze_encoder()


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SteelyardError, match="has 3 labels"):
        RewardModel(BertForSequenceClassification(BertConfig(num_labels=3, hidden_size=12)), tokenizer())
    with pytest.raises(SteelyardError, match="cannot be loaded as a sequence classifier"):
        RewardModel.from_pretrained(tmp_path / "gone")
    with pytest.raises(SteelyardError, match="reads texts"):
        bert().scores([Sample("s", "p")], [3])  # type: ignore[list-item]


MU = np.array([[1, 2, -1, 0.5], [0.8, 3.5, -1.2, 0.5], [1.3, 0.1, -0.9, 0.5]])
SIGMA = np.array([[0.2, 0.9, 0.3, 0.1], [0.1, 0.5, 0.4, 0.1], [0.3, 0.7, 0.2, 0.1]])


def test_a_robust_reward_is_never_above_the_nominal_one() -> None:
    generator = np.random.default_rng(0)
    mu, sigma = generator.normal(size=(5, 200)), generator.uniform(0.1, 1, (5, 200))
    for alpha in (0.0, 0.3, 1.0):
        found = robust(mu, sigma, nominal_weight=alpha)
        assert (found.reward <= found.nominal + 1e-12).all()
        assert found.objective <= robust(mu, sigma, nominal_weight=alpha, level="batch").objective + 1e-12
        assert np.allclose(robust(mu + 2, sigma, nominal_weight=alpha).reward, found.reward + 2)
        assert np.allclose(robust(3 * mu, sigma, nominal_weight=alpha).reward, 3 * found.reward)
    one = robust(mu[:1], sigma[:1], nominal_weight=0.2)
    assert np.allclose(one.reward, mu[0]) and (one.spread == 0).all()


def test_a_row_that_a_head_could_not_judge_is_nan_and_harms_no_other() -> None:
    mu = MU.copy()
    mu[1, 0] = np.nan
    found = robust(mu, SIGMA, nominal_weight=0.4, level="batch")
    assert np.isnan(found.reward[0]) and np.isfinite(found.reward[1:]).all()


def test_robust_refuses_what_it_cannot_combine() -> None:
    for bad in ({"sigma": 0 * SIGMA}, {"sigma": SIGMA[:1]}, {"nominal_weight": 1.5}, {"level": "row"}):
        options = {"sigma": SIGMA, "nominal_weight": 0.4} | bad
        with pytest.raises(SteelyardError):
            robust(MU, options.pop("sigma"), **options)
    assert uncertainty_weighted(MU, penalty=0.0).tolist() == pytest.approx(MU.mean(0).tolist())


def test_heads_learn_to_be_unsure_where_targets_are_noisy() -> None:
    torch.manual_seed(0)
    features = torch.cat([torch.eye(2)] * 400)
    target = torch.where(features[:, 0] > 0, 1.0, 2 * torch.randn(800))
    heads = GaussianHeads(2, 3)
    optimiser = torch.optim.Adam(heads.parameters(), lr=0.05)
    for _ in range(300):
        loss = head_loss(*heads(features), target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    mu, sigma = heads(torch.eye(2))
    assert (sigma[:, 1] > 5 * sigma[:, 0]).all() and torch.allclose(mu[:, 0], torch.ones(3), atol=0.1)
    with pytest.raises(SteelyardError, match="noise"):
        head_loss(mu, sigma, torch.zeros(2), kind="mse")


def test_fusion_averages_with_near_texts_only() -> None:
    model = bert()
    vectors = {"a": [1.0, 0.0], "b": [0.95, np.sqrt(1 - 0.95**2)], "far": [0.0, 1.0]}

    def embed(texts):
        return np.asarray([vectors[text.split("\n")[0]] for text in texts])

    known = [Sample("k", "b"), Sample("f", "far")]
    rows = Rollouts([Sample("q", "a")], ["w1"])
    reward = fused(model, known, ["w1", "w2"], embed)
    own, near = model(rows).values[0], model(Rollouts(known[:1], ["w1"])).values[0]
    assert reward(rows).values[0] == pytest.approx((own + 0.95 * near) / 1.95, abs=1e-5)
    assert fused(model, known, ["w1", "w2"], embed, above=0.99)(rows).values[0] == pytest.approx(own, abs=1e-6)
    with pytest.raises(SteelyardError, match="at least one of each"):
        fused(model, [], [], embed)


def test_a_text_counts_once_among_the_nearest() -> None:
    _, counts = nearest(np.array([[0.96, 0.96, 0.92]]), ["a", "a", "b"])
    assert counts.tolist() == [[True, False, True]]
