"""The row trainer and behaviour cloning: weights, micro-batches, exact resume, a real language model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.learn.cloning import ClonedRows, RowTrainer
from steelyard.learn.config import TrainConfig
from steelyard.policies.sampling import Sampling
from steelyard.rewards.progress import RunningGainWeights
from steelyard.types import Sample, SteelyardError
from tests.policies.tiny import language_policy, text_samples
from tests.policies.tiny_control import chunk_policy

CONFIG = TrainConfig(steps=6, prompts=16, lr=0.01, weight_decay=0.0, schedule="constant", micro_rows=64, grad_clip=9e9)


def rows(count: int = 48) -> ClonedRows:
    generator = np.random.default_rng(0)
    samples = [Sample(str(i), "act", columns={"observation": generator.normal(size=3)}) for i in range(count)]
    return ClonedRows(chunk_policy(), samples, generator.normal(size=(count, 2, 2)))


def trained(folder: Path, config: TrainConfig = CONFIG, **options) -> list[torch.Tensor]:
    data = rows()
    RowTrainer(data, config, folder=folder, progress=False, **options).run()
    return [p.detach().clone() for p in data.module.parameters()]


def test_a_step_is_the_gradient_of_the_weighted_mean(tmp_path: Path) -> None:
    weights = np.linspace(0, 1, 48)
    config = replace(CONFIG, steps=1, prompts=48, optimiser="sgd", lr=1.0)
    found = trained(tmp_path, config, weigh=lambda r: weights[r])
    data = rows()
    each = data.losses(np.arange(48))
    w = torch.tensor(weights, dtype=torch.float32)
    ((w * each).sum() / (w.sum() + 1e-6)).backward()
    for after, before in zip(found, data.module.parameters(), strict=True):
        assert torch.allclose(after, before.detach() - before.grad, atol=1e-5)


def test_without_weights_all_rows_count_alike(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain")
    half = trained(tmp_path / "half", weigh=lambda r: np.full(len(r), 0.5))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, half, strict=True))


def test_micro_batches_change_nothing(tmp_path: Path) -> None:
    one, many = trained(tmp_path / "one"), trained(tmp_path / "many", replace(CONFIG, micro_rows=5))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, many, strict=True))


def test_a_batch_of_regressions_has_no_loss_and_moves_nothing(tmp_path: Path) -> None:
    weigh = RunningGainWeights(np.full(48, -1.0), kappa=0.01)
    found = trained(tmp_path, replace(CONFIG, optimiser="sgd", lr=1.0), weigh=weigh)
    assert all(torch.equal(a, b) for a, b in zip(found, rows().module.parameters(), strict=True))
    log = (tmp_path / "log.jsonl").read_text()
    assert '"loss": 0.0' in log and '"weight_zero": 1.0' in log


def test_it_resumes_to_the_same_bits_with_running_statistics(tmp_path: Path) -> None:
    gain = np.random.default_rng(1).normal(size=48)
    whole = trained(tmp_path / "whole", weigh=RunningGainWeights(gain))
    config = replace(CONFIG, checkpoint_every=3)
    cut = RowTrainer(rows(), config, folder=tmp_path / "cut", weigh=RunningGainWeights(gain), progress=False)
    for _ in range(3):
        cut.loop._log(cut.train_step(), [])
    cut.loop._after_step([], False)
    again = trained(tmp_path / "cut", config, weigh=RunningGainWeights(gain))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_wrong_weights_and_rows_are_refused(tmp_path: Path) -> None:
    for name, wrong in (("nan", np.nan), ("negative", -1.0)):
        with pytest.raises(SteelyardError, match="one finite number"):
            trained(tmp_path / name, weigh=lambda r, wrong=wrong: np.full(len(r), wrong))
    with pytest.raises(SteelyardError, match="to clone"):
        ClonedRows(chunk_policy(), [Sample("a", "act")], [])
    trained(tmp_path / "other")
    with pytest.raises(SteelyardError, match="weigh"):
        trained(tmp_path / "other", weigh=RunningGainWeights(np.ones(48)))


def test_a_language_model_learns_what_it_is_shown(tmp_path: Path) -> None:
    policy, samples = language_policy(Sampling(max_tokens=4)), text_samples(2)
    data = ClonedRows(policy, samples, ["ab"] * len(samples))
    before = data.losses(np.arange(len(samples))).mean().item()
    config = replace(CONFIG, steps=5, prompts=2, lr=1e-2)
    RowTrainer(data, config, folder=tmp_path, progress=False).run()
    assert data.losses(np.arange(len(samples))).mean().item() < before
