"""VeRPO's small world says what the sandbox says, and its recipe trains a real model class on real code tests."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from steelyard.learn.advantages import advantages_of
from steelyard.learn.config import TrainConfig
from steelyard.learn.trainer import Trainer
from steelyard.methods.verpo import verpo
from steelyard.policies import load_policy
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.rewards import code_tests
from steelyard.types import Rollouts, Sample
from steelyard.worlds.stub_or_real import KINDS, PARTS, TESTS, TOKENS, StubOrReal, exact_checks, read, render
from tests.policies.tiny import SPECIAL, text_config

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: apt-get install bubblewrap)"
)


@needs_bubblewrap
def test_the_world_s_verifier_says_what_the_sandbox_says() -> None:
    generator, world = np.random.default_rng(0), StubOrReal()
    samples = world.samples("train", 24)
    programs = []
    for sample in samples:
        kind, right = generator.choice(KINDS[:3], p=[0.6, 0.2, 0.2]), generator.random(PARTS) < 0.7
        parts = [p if ok else generator.choice(TOKENS) for p, ok in zip(sample.columns["parts"], right, strict=True)]
        programs.append(render([kind, *parts]))
    programs[0] = render(["real", *samples[0].columns["parts"]])
    rollouts = Rollouts(samples, programs)
    ours, theirs = exact_checks(rollouts), code_tests.using(seconds=10.0)(rollouts)
    np.testing.assert_array_equal(ours.steps, theirs.steps)
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-6)
    assert ours.values[0] == 1 and len(set(ours.values.tolist())) > 4 and ours.steps.shape == (24, TESTS)  # type: ignore[union-attr]


def test_programs_are_read_as_they_were_written() -> None:
    words = ("real", "0", "1", "2", "3", "0")
    assert tuple(read(render(words))) == words
    with pytest.raises(ValueError, match="not of the form"):
        read("def build(): pass")


def test_a_uniform_policy_s_figures_are_exact() -> None:
    world = StubOrReal()
    figures = world.figures(world.policy())
    assert figures == pytest.approx({"pass_at_1": 0.25**6, "stub": 0.25})


class Own:
    """A setting with real code tests."""

    attempts = 6
    checks = code_tests.using(seconds=10.0)


def code_policy(folder: Path) -> Path:
    """A random Qwen2 whose words are assignments, so that what it writes is mostly a program."""
    words = [*SPECIAL, *(f"{name}={value};" for name in "abcdefgh" for value in range(7)), "a"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**text_config(initializer_range=0.05)))
    LanguagePolicy(model, tokenizer, Sampling(max_tokens=8)).save_pretrained(folder)
    return folder


@needs_bubblewrap
def test_the_recipe_trains_a_real_model_on_real_tests(tmp_path: Path) -> None:
    policy = load_policy(str(code_policy(tmp_path / "model")), sampling=Sampling(max_tokens=8))
    tests = ["a", "b", "assert a < 4", "assert a < 4 and b < 4", "assert c + d < 6", "raise ValueError"]
    samples = [Sample(f"s{i}", f"a={i}; b={i};", columns={"tests": tests}) for i in range(4)]
    recipe = verpo(Own())
    rollouts = recipe.plan.rollouts(
        policy, [recipe.plan.draw(s, np.random.default_rng(0)) for s in samples], np.random.default_rng(1)
    )
    scores = recipe.reward(rollouts)
    advantages = recipe.advantage(advantages_of(scores), rollouts, scores)
    assert np.isfinite(advantages.values).all() and advantages.values.any() and scores.parts["code_tests"].any()

    before = {name: p.detach().clone() for name, p in policy.module.named_parameters()}
    config = TrainConfig(steps=3, prompts=2, lr=1e-3, micro_rows=12)
    Trainer(policy, recipe, samples, config, folder=tmp_path / "run", progress=False).run()
    assert any(not torch.equal(p, before[name]) for name, p in policy.module.named_parameters())
    assert all(torch.isfinite(p).all() for p in policy.module.parameters())
