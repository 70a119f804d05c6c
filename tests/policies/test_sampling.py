"""Sampling: what is drawn, what is dropped, where it stops, and that no row depends on its neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicLayer

from steelyard.policies.cache import RoomyLayer
from steelyard.policies.sampling import Sampling, choose, decode, draw_uniforms, inverse_cdf, nucleus
from steelyard.types import SteelyardError, streams
from tests.policies.tiny import language_policy, text_samples, video_samples, vision_policy

CASES = {"language": (language_policy, text_samples), "vision": (vision_policy, video_samples)}


@pytest.fixture(params=CASES)
def case(request):
    make, samples = CASES[request.param]
    return make, samples(4)


def test_inverse_cdf_by_hand():
    probabilities = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).expand(5, 4)
    uniforms = torch.tensor([0.0, 0.49, 0.5, 0.75, 0.999999999], dtype=torch.float64)
    assert inverse_cdf(probabilities, uniforms).tolist() == [0, 0, 2, 3, 3]


def test_inverse_cdf_never_takes_a_token_of_probability_zero():
    probabilities = torch.tensor([[0.0, 0.3, 0.0]])
    for uniform in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        assert inverse_cdf(probabilities, torch.tensor([uniform], dtype=torch.float64)).item() == 1


def test_nucleus_by_hand():
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    torch.testing.assert_close(nucleus(probabilities, 0.5), torch.tensor([[0.0, 0.5, 0.0, 0.0]]))
    torch.testing.assert_close(nucleus(probabilities, 0.7), torch.tensor([[0.0, 0.5, 0.0, 0.25]]))
    torch.testing.assert_close(nucleus(probabilities, 1e-9), torch.tensor([[0.0, 0.5, 0.0, 0.0]]))


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.floats(0.3, 2.0))
def test_chosen_tokens_lie_in_the_nucleus_and_carry_their_untruncated_log_probability(seed, top_p, temperature):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(64, 20, generator=generator) * 3
    uniforms = torch.rand(64, generator=generator, dtype=torch.float64)
    token, logprob = choose(logits, uniforms, Sampling(1, temperature, top_p), greedy=False)
    expected = torch.softmax(logits / temperature, -1)
    chosen = expected.gather(1, token[:, None])[:, 0]
    more_likely = torch.where(expected > chosen[:, None], expected, 0.0).sum(-1)
    assert bool((more_likely < top_p + 1e-5).all())
    torch.testing.assert_close(logprob, chosen.log(), atol=1e-5, rtol=1e-5)


def test_frequencies_follow_the_tempered_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(40_000, 4)
    uniforms = torch.from_numpy(np.random.default_rng(0).random(40_000))
    token, _ = choose(logits, uniforms, Sampling(1, temperature=0.8), greedy=False)
    found = torch.bincount(token, minlength=4) / 40_000
    torch.testing.assert_close(found, torch.softmax(logits[0] / 0.8, -1), atol=0.01, rtol=0)


def test_greedy_is_what_transformers_generates(case):
    make, samples = case
    policy = make(Sampling(max_tokens=12))
    rollouts = policy.sample(samples, 1, generator=np.random.default_rng(0), greedy=True)
    for row, sample in enumerate(samples):
        prompt = policy._encode_prompt(sample)
        ids = torch.from_numpy(prompt.ids)[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        names = {"video": "pixel_values_videos", "image": "pixel_values"}
        for kind, (patches, grids) in prompt.pixels.items():
            inputs |= {names[kind]: torch.from_numpy(patches), f"{kind}_grid_thw": torch.from_numpy(grids)}
        if prompt.pixels:
            inputs["mm_token_type_ids"] = (ids == 5).int() + 2 * (ids == 4).int()
        expected = policy.module.generate(**inputs, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :].tolist()
        mask = rollouts.actions.mask[row]
        assert rollouts.actions.data["tokens"][row][mask].tolist() == expected


@pytest.mark.parametrize("drop_share", [0.0, 0.5, 2.0])
def test_finished_rows_dropped_or_kept_make_no_difference(case, drop_share):
    make, samples = case
    policy = make(Sampling(max_tokens=20))
    uniforms = draw_uniforms(streams(np.random.default_rng(3), len(samples)), 6, 20)
    prompts = policy._prompts(samples, room=20)

    def run(share):
        return decode(policy.module, prompts, uniforms, policy.sampling, end_tokens=[1, 9, 17], drop_share=share)

    expected, found = run(1 / 8), run(drop_share)
    assert expected.mask.sum(1).min() < expected.mask.shape[1] / 2
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-4)


def test_a_batch_cut_in_two_gives_the_same_completions(case):
    make, samples = case
    policy = make(Sampling(max_tokens=12, top_p=0.9))
    whole = policy.sample(samples, 3, generator=np.random.default_rng(7))
    each = streams(np.random.default_rng(7), len(samples))
    halves = [policy.sample(samples[:2], 3, generator=each[:2]), policy.sample(samples[2:], 3, generator=each[2:])]
    assert whole.completions == [text for half in halves for text in half.completions]
    assert whole.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(set(whole.completions)) > 6


def test_a_cache_layer_grows_and_drops_rows():
    torch.manual_seed(0)
    layer, peer = RoomyLayer(torch.empty(2, 3, 9, 4), 5, 2), DynamicLayer()
    for step in range(9):
        keys, values = torch.randn(len(peer.keys) if step else 5, 3, 1, 4), torch.randn(5, 3, 1, 4)
        values = values[: len(keys)]
        found, expected = layer.update(keys, values), peer.update(keys, values)
        torch.testing.assert_close(found, expected)
        if step in (2, 6):
            kept = torch.tensor([0, 2, 3])[: len(keys) - 1]
            layer.batch_select_indices(kept)
            peer.batch_select_indices(kept)


def test_rows_end_at_the_first_end_token_and_keep_it():
    policy = language_policy(Sampling(max_tokens=60))
    rollouts = policy.sample(text_samples(6), 8, generator=np.random.default_rng(0))
    tokens, mask = rollouts.actions.data["tokens"], rollouts.actions.mask
    assert mask[:, 0].all() and (np.diff(mask.astype(int), axis=1) <= 0).all()
    for row, keep in zip(tokens, mask, strict=True):
        written = row[keep]
        assert 1 not in written[:-1] and (written[-1] == 1 or len(written) == 60)
        assert not row[~keep].any()
    assert not any("<end>" in text for text in rollouts.completions)


def test_stop_texts_end_a_row_and_stay_in_it():
    free = language_policy(Sampling(max_tokens=40))
    samples = text_samples(4)
    texts = free.sample(samples, 4, generator=np.random.default_rng(5)).completions
    stops = ("w5", "w21 w")
    stopped = language_policy(Sampling(max_tokens=40, stop=stops))
    for full, short in zip(
        texts, stopped.sample(samples, 4, generator=np.random.default_rng(5)).completions, strict=True
    ):
        assert full.startswith(short)
        words = short.split()
        assert not any(stop in " ".join(words[:-1]) for stop in stops)
        assert any(stop in short for stop in stops) or short == full
    assert any(stop in text for text in texts for stop in stops)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 4, "temperature": 0.0}, "temperature"),
        ({"max_tokens": 4, "top_p": 0.0}, "top_p"),
        ({"max_tokens": 4, "stop": "abc"}, "stop"),
        ({"max_tokens": 4, "stop": ("",)}, "stop"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(SteelyardError, match=words):
        Sampling(**settings)
