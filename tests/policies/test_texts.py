"""Given texts scored after a prompt: equal to a plain forward pass, with tokens found by their characters."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from steelyard.policies import LanguagePolicy, Sampling, texts
from steelyard.types import Sample, SteelyardError, TextScorer, overlapping
from tests.policies.tiny import language_policy, text_config, text_samples, video_samples, vision_policy

TEXTS = ["w3 w4", "w1", "w9 w8 w7 w6 w5 w4", "", "w20 w21 w22"]


def plain(policy, sample: Sample, text: str, temperature: float = 1.0) -> np.ndarray:
    """Log-probabilities of a text's tokens by one call of the Hugging Face model: no cache, no padding."""
    prompt = policy._encode_prompt(sample)
    written = np.asarray(policy.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
    ids = torch.from_numpy(np.concatenate([prompt.ids, written]))[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    names = {"video": "pixel_values_videos", "image": "pixel_values"}
    for kind, (patches, grids) in prompt.pixels.items():
        inputs |= {names[kind]: torch.from_numpy(patches), f"{kind}_grid_thw": torch.from_numpy(grids)}
    if prompt.pixels:
        inputs["mm_token_type_ids"] = (ids == 5).int() + 2 * (ids == 4).int()
    with torch.no_grad():
        logits = policy.module(**inputs, use_cache=False).logits[0, len(prompt.ids) - 1 : -1].float() / temperature
    logprobs = torch.log_softmax(logits, -1)
    return logprobs.gather(1, torch.from_numpy(written)[:, None])[:, 0].numpy()


@pytest.mark.parametrize("at_once", [64, 2])
@pytest.mark.parametrize(("make", "samples"), [(language_policy, text_samples), (vision_policy, video_samples)])
def test_equal_to_a_plain_forward_pass(make, samples, at_once, monkeypatch):
    monkeypatch.setattr("steelyard.policies.language.ROWS_AT_ONCE", at_once)
    policy = make(Sampling(max_tokens=4, temperature=0.5))
    rows = [s for s in samples(3) for _ in TEXTS]
    order = np.random.default_rng(0).permutation(len(rows))
    rows, asked = [rows[i] for i in order], [(TEXTS * 3)[i] for i in order]
    assert isinstance(policy, TextScorer)
    for temperature in (1.0, 0.7):
        found = policy.score_texts(rows, asked, temperature=temperature)
        assert found.mask.sum(1).tolist() == [len(text.split()) for text in asked]
        for row, (sample, text) in enumerate(zip(rows, asked, strict=True)):
            if text:
                expected = plain(policy, sample, text, temperature)
                np.testing.assert_allclose(found.logprobs[row, : len(expected)], expected, atol=1e-4)
        assert (found.logprobs[~found.mask] == 0).all()


def test_spans_pick_tokens_and_change_no_figure():
    policy, sample = language_policy(Sampling(max_tokens=4)), text_samples(1)[0]
    text = "w3 w4 w5 w6"
    whole = policy.score_texts([sample], [text])
    assert [text[a:b] for a, b in whole.offsets[0]] == ["w3", "w4", "w5", "w6"]
    part = policy.score_texts([sample] * 3, [text] * 3, spans=np.array([[3, 8], [7, 8], [2, 3]]))
    assert part.mask.tolist() == [[False, True, True, False], [False, False, True, False], [False] * 4]
    np.testing.assert_allclose(part.logprobs[0, 1:3], whole.logprobs[0, 1:3], atol=1e-5)
    assert part.logprobs[2].tolist() == [0, 0, 0, 0]


def test_a_copy_answers_as_the_policy_was():
    policy, sample = language_policy(Sampling(max_tokens=4)), text_samples(1)[0]
    before = policy.score_texts([sample], ["w3 w4"]).logprobs
    policy.snapshot("reference")
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(1.2)
    np.testing.assert_array_equal(policy.score_texts([sample], ["w3 w4"], copy="reference").logprobs, before)
    assert not np.allclose(policy.score_texts([sample], ["w3 w4"]).logprobs, before, atol=1e-3)
    with pytest.raises(SteelyardError, match="no copy 'old'"):
        policy.score_texts([sample], ["w3"], copy="old")


def test_scoring_leaves_mode_and_gradients_alone():
    policy, sample = language_policy(Sampling(max_tokens=4)), text_samples(1)[0]
    policy.module.train()
    policy.score_texts([sample], ["w3 w4"])
    assert policy.module.training and all(p.grad is None for p in policy.module.parameters())


def test_choices_have_the_probability_of_their_tokens():
    policy, samples = language_policy(Sampling(max_tokens=4)), text_samples(3)
    words = [f"w{i}" for i in range(57)]
    special = ["<pad>", "<end>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>", "<unk>"]
    whole = policy.choice_probabilities(samples, [*words, *special])
    np.testing.assert_allclose(whole.sum(1), 1.0, atol=1e-5)
    after = policy.choice_probabilities(samples, [" w1", " w2 w3"], after=["w7 w8", "w7", "w9"])
    expected = np.exp(plain(policy, samples[1], "w7 w2 w3")[1:].sum())
    assert after.shape == (3, 2) and after[1, 1] == pytest.approx(expected, rel=1e-4)


def test_bad_input_is_one_sentence():
    policy, samples = language_policy(Sampling(max_tokens=4)), text_samples(2)
    with pytest.raises(SteelyardError, match="1 texts, 2 samples"):
        policy.score_texts(samples, ["w1"])
    with pytest.raises(SteelyardError, match=r"spans \(1, 2\) were given"):
        policy.score_texts(samples, ["w1", "w2"], spans=np.zeros((1, 2)))
    with pytest.raises(SteelyardError, match=r"sample 't1' and its text have \d+ tokens, which passes the model's"):
        policy.score_texts(samples, ["w1", "w2 " * 256])
    with pytest.raises(SteelyardError, match="give texts that are not empty"):
        policy.choice_probabilities(samples, ["A", ""])
    policy.tokenizer = type("Slow", (), {"is_fast": False, "pad_token_id": 0})()
    with pytest.raises(SteelyardError, match="load its fast version"):
        policy.score_texts(samples, ["w1", "w2"])


def byte_policy() -> LanguagePolicy:
    """A random Qwen2 whose tokenizer joins spaces to words and tags to what stands before them, as real ones do."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    corpus = ["<answer> 42</answer> the answer is 42</answer> 7</ 7</ 7</ Zürich <think> <answer>"] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**text_config(vocab_size=len(tokenizer)))).eval()
    return LanguagePolicy(model, tokenizer, Sampling(max_tokens=4))


@pytest.mark.parametrize("reference", ["42", "Zürich", "7", "answer", "日本"])
def test_a_reference_is_found_by_its_characters_whatever_the_tokens(reference: str):
    policy, before = byte_policy(), "the answer is <answer> "
    text = f"{before}{reference}</answer>"
    span = np.array([[len(before), len(before) + len(reference)]])
    found = policy.score_texts([Sample("s", "Q: ")], [text], spans=span)
    offsets = found.offsets[0][found.mask[0]]
    assert overlapping(found.offsets, span).tolist() == found.mask.tolist()
    assert offsets[:, 0].min() <= span[0, 0] and offsets[:, 1].max() >= span[0, 1]
    outside = found.offsets[0][~found.mask[0]]
    assert all(b <= span[0, 0] or a >= span[0, 1] for a, b in outside)
    np.testing.assert_allclose(
        found.logprobs[0][found.mask[0]], plain(policy, Sample("s", "Q: "), text)[found.mask[0]], atol=1e-4
    )


def test_pieces_keep_the_rows_of_a_prompt_together():
    cut = texts.pieces(np.array([1, 0, 1, 0, 2]), 2)
    assert [rows.tolist() for rows in cut] == [[1, 3], [0, 2], [4]]
