"""Log-probabilities of both policies equal a plain forward pass of the Hugging Face model on each row alone."""

import numpy as np
import pytest
import torch
import transformers

from steelyard.policies import LanguagePolicy, Sampling, causal
from steelyard.types import Rollouts
from tests.policies.tiny import language_policy, text_config, text_samples, tokenizer, video_samples, vision_policy

CASES = {"language": (language_policy, text_samples), "vision": (vision_policy, video_samples)}


def plain_forward(policy, rollouts: Rollouts) -> np.ndarray:
    """[N, T] by `model(...)` on one row at a time: no cache, no padding, positions made by transformers.

    Rows into which the random model wrote a placeholder token itself are NaN: transformers would look for its pixels.
    """
    out = np.zeros(rollouts.actions.mask.shape, np.float32)
    for row, sample in enumerate(rollouts.samples):
        prompt = policy._encode_prompt(sample)
        written = rollouts.actions.data["tokens"][row][rollouts.actions.mask[row]]
        if prompt.pixels and np.isin(written, (4, 5)).any():
            out[row] = np.nan
            continue
        ids = torch.from_numpy(np.concatenate([prompt.ids, written]))[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        names = {"video": "pixel_values_videos", "image": "pixel_values"}
        for kind, (patches, grids) in prompt.pixels.items():
            inputs |= {names[kind]: torch.from_numpy(patches), f"{kind}_grid_thw": torch.from_numpy(grids)}
        if prompt.pixels:
            inputs["mm_token_type_ids"] = (ids == 5).int() + 2 * (ids == 4).int()
        with torch.no_grad():
            logits = policy.module(**inputs, use_cache=False).logits[0, len(prompt.ids) - 1 : -1].float()
        logprobs = torch.log_softmax(logits / rollouts.actions.temperature, -1)
        out[row, : len(written)] = logprobs.gather(1, torch.from_numpy(written)[:, None])[:, 0].numpy()
    return out


@pytest.fixture(params=CASES)
def case(request):
    make, samples = CASES[request.param]
    return make, samples(5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_and_rescored_equal_plain_forward(case, temperature):
    make, samples = case
    policy = make(Sampling(max_tokens=14, temperature=temperature))
    rollouts = policy.sample(samples, 3, generator=np.random.default_rng(1))
    expected = plain_forward(policy, rollouts)
    assert len(set(rollouts.actions.mask.sum(1))) > 1, "the lengths must vary for the test to mean anything"
    rows = ~np.isnan(expected).any(1)
    assert rows.sum() > len(rows) // 2
    np.testing.assert_allclose(rollouts.actions.logprobs[rows], expected[rows], atol=1e-4)
    np.testing.assert_allclose(policy.logprobs(rollouts).detach()[rows], expected[rows], atol=1e-4)


def test_any_subset_in_any_order_scores_the_same(case):
    make, samples = case
    policy = make(Sampling(max_tokens=10))
    rollouts = policy.sample(samples, 3, generator=np.random.default_rng(2))
    whole = policy.logprobs(rollouts).detach().numpy()
    rows = np.array([7, 0, 13, 6, 2])
    part = policy.logprobs(rollouts.take(rows)).detach().numpy()
    np.testing.assert_allclose(part, whole[rows, : part.shape[1]], atol=1e-4)


def gradients(policy, score, rollouts, temperature=1.0):
    policy.module.zero_grad()
    first: dict[int, int] = {}
    owner = np.array([first.setdefault(id(s), len(first)) for s in rollouts.samples])
    distinct = [rollouts.samples[i] for i in np.unique(owner, return_index=True)[1]]
    prompts = policy._prompts(distinct, room=rollouts.actions.mask.shape[1])
    tokens, mask = (torch.from_numpy(a) for a in (rollouts.actions.data["tokens"], rollouts.actions.mask))
    values = score(policy.module, prompts, owner, tokens, mask, temperature)
    (values * torch.linspace(-1, 1, values.numel()).reshape(values.shape)).sum().backward()
    return values.detach(), {name: p.grad.clone() for name, p in policy.module.named_parameters() if p.grad is not None}


def test_shared_prompt_gives_the_gradient_of_whole_sequences(case):
    make, samples = case
    policy = make(Sampling(max_tokens=10))
    rollouts = policy.sample(samples, 3, generator=np.random.default_rng(3))
    values, shared = gradients(policy, causal.score_shared, rollouts)
    others, full = gradients(policy, causal.score_full, rollouts)
    torch.testing.assert_close(values, others, atol=1e-4, rtol=0)
    assert shared.keys() == full.keys() and len(full) > 20
    for name, gradient in full.items():
        torch.testing.assert_close(shared[name], gradient, atol=1e-4 * max(1.0, float(gradient.abs().max())), rtol=0)


def test_a_large_vocabulary_goes_in_pieces_with_the_same_gradient(case, monkeypatch):
    make, samples = case
    policy = make(Sampling(max_tokens=10))
    rollouts = policy.sample(samples, 2, generator=np.random.default_rng(4))
    values, whole = gradients(policy, causal.score_shared, rollouts)
    monkeypatch.setattr(causal, "LOGIT_BUDGET", 64 * 7)
    others, pieces = gradients(policy, causal.score_shared, rollouts)
    torch.testing.assert_close(values, others, atol=1e-5, rtol=0)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, atol=1e-4 * max(1.0, float(gradient.abs().max())), rtol=0)


def test_gradient_checkpointing_gives_the_same_numbers(case):
    make, samples = case
    policy = make(Sampling(max_tokens=8))
    rollouts = policy.sample(samples, 2, generator=np.random.default_rng(5))
    plain = policy.logprobs(rollouts)
    plain.sum().backward()
    expected = {name: p.grad.clone() for name, p in policy.module.named_parameters() if p.grad is not None}
    policy.module.zero_grad()
    policy.module.activation_checkpointing_enable({"use_reentrant": False})
    policy.module.train()
    values = policy.logprobs(rollouts)
    values.sum().backward()
    torch.testing.assert_close(values.detach(), plain.detach(), atol=1e-4, rtol=0)
    for name, gradient in expected.items():
        found = dict(policy.module.named_parameters())[name].grad
        torch.testing.assert_close(found, gradient, atol=1e-4 * max(1.0, float(gradient.abs().max())), rtol=0)


FAMILIES = {
    "Llama": {},
    "Mistral": {"sliding_window": 6},
    "Qwen3": {"head_dim": 8},
    "Qwen2": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_other_families_and_attentions_are_exact(family, attention):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**text_config(**FAMILIES[family]))
    model = getattr(transformers, f"{family}ForCausalLM")._from_config(config, attn_implementation=attention).eval()
    policy = LanguagePolicy(model, tokenizer(), Sampling(max_tokens=12))
    rollouts = policy.sample(text_samples(4), 3, generator=np.random.default_rng(1))
    expected = plain_forward(policy, rollouts)
    np.testing.assert_allclose(rollouts.actions.logprobs, expected, atol=1e-4)
    np.testing.assert_allclose(policy.logprobs(rollouts).detach(), expected, atol=1e-4)
    values, _ = gradients(policy, causal.score_full, rollouts)
    np.testing.assert_allclose(values, expected, atol=1e-4)


def test_prompts_are_remembered_within_a_budget():
    policy, samples = vision_policy(Sampling(max_tokens=2)), video_samples(3)
    policy._prompts(samples[:1], room=2)
    first = policy._encoded.get(samples[0])
    policy._prompts(samples[:1], room=2)
    assert policy._encoded.get(samples[0]) is first
    policy._encoded.budget = first.pixels["video"][0].nbytes * 2
    policy._prompts(samples, room=2)
    assert [policy._encoded.get(sample) is not None for sample in samples] == [False, False, True]


@pytest.mark.parametrize("lengths", [[1], [5, 5, 5], [48, 1, 2, 30, 3, 1], list(range(1, 65))])
def test_length_buckets_hold_every_row_once(lengths):
    pieces = causal.length_buckets(np.array(lengths), overhead=4)
    assert sorted(np.concatenate(pieces)) == list(range(len(lengths)))
    padded = sum(len(rows) * max(lengths[i] for i in rows) for rows in pieces)
    assert padded <= len(lengths) * max(lengths)
