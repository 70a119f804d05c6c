"""Policies: loading and saving, copies, adapters, number types, prompts, and errors of one sentence."""

import json

import numpy as np
import pytest
import torch

from steelyard.policies import LanguagePolicy, LoRA, Sampling, VisionLanguagePolicy, load_policy
from steelyard.types import Sample, SteelyardError
from tests.policies.tiny import PIXELS, language_policy, text_samples, video_samples, vision_policy

CASES = {"language": (language_policy, text_samples), "vision": (vision_policy, video_samples)}
SAMPLING = Sampling(max_tokens=8)


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    make, samples = CASES[request.param]
    policy = make(SAMPLING)
    policy.save_pretrained(tmp_path)
    return policy, samples(3), tmp_path


def sampled(policy, samples, seed=0):
    return policy.sample(samples, 2, generator=np.random.default_rng(seed))


def test_a_saved_policy_comes_back_the_same(case):
    policy, samples, folder = case
    again = load_policy(folder, sampling=SAMPLING)
    assert type(again) is type(policy)
    assert getattr(again, "pixels", None) == getattr(policy, "pixels", None)
    assert sampled(again, samples).completions == sampled(policy, samples).completions


def test_a_fresh_adapter_is_its_own_reference(case):
    _, samples, folder = case
    policy = load_policy(folder, sampling=SAMPLING, lora=LoRA(rank=4))
    base = load_policy(folder, sampling=SAMPLING)
    policy.snapshot("reference")
    assert sum(p.requires_grad for p in policy.module.parameters()) < sum(1 for _ in policy.module.parameters())
    rollouts = sampled(policy, samples)
    for name, weight in policy.module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))
    expected = base.logprobs(rollouts).detach()
    torch.testing.assert_close(policy.logprobs(rollouts, copy="reference"), expected, atol=1e-5, rtol=0)
    assert float((policy.logprobs(rollouts).detach() - expected).abs().max()) > 1e-3


def test_an_adapter_in_use_is_copied(case):
    _, samples, folder = case
    policy = load_policy(folder, sampling=SAMPLING, lora=LoRA(rank=4))
    outer = [weight for name, weight in policy.module.named_parameters() if "lora_B" in name]
    torch.nn.init.normal_(outer[0], generator=torch.Generator().manual_seed(0))
    rollouts = sampled(policy, samples)
    before = policy.logprobs(rollouts).detach()
    policy.snapshot("previous")
    torch.nn.init.zeros_(outer[0])
    torch.testing.assert_close(policy.logprobs(rollouts, copy="previous"), before, atol=1e-5, rtol=0)


def test_a_trained_adapter_is_saved_merged(case, tmp_path):
    _, samples, folder = case
    policy = load_policy(folder, sampling=SAMPLING, lora=LoRA(rank=4))
    for name, weight in policy.module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    rollouts = sampled(policy, samples)
    policy.save_pretrained(tmp_path / "merged")
    merged = load_policy(tmp_path / "merged", sampling=SAMPLING)
    torch.testing.assert_close(merged.logprobs(rollouts), policy.logprobs(rollouts), atol=1e-4, rtol=0)


def test_a_snapshot_stays_while_the_policy_moves(case):
    policy, samples, _ = case
    rollouts = sampled(policy, samples)
    before = policy.logprobs(rollouts)
    policy.snapshot("reference")
    before.sum().backward()
    torch.optim.SGD(policy.module.parameters(), lr=0.01).step()
    reference = policy.logprobs(rollouts, copy="reference")
    assert not reference.requires_grad
    torch.testing.assert_close(reference, before.detach(), atol=1e-5, rtol=0)
    assert float((policy.logprobs(rollouts).detach() - reference).abs().max()) > 1e-4


def test_bfloat16_with_checkpointing_and_an_adapter_trains(case):
    _, samples, folder = case
    policy = load_policy(
        folder, sampling=SAMPLING, dtype=torch.bfloat16, lora=LoRA(rank=4), gradient_checkpointing=True
    )
    policy.snapshot("reference")
    rollouts = sampled(policy, samples)
    values = policy.logprobs(rollouts)
    values.sum().backward()
    assert values.dtype == torch.float32 and policy.module.training
    gradients = [p.grad for p in policy.module.parameters() if p.requires_grad and p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() for g in gradients)
    exact = load_policy(folder, sampling=SAMPLING, dtype=torch.float32).logprobs(rollouts)
    torch.testing.assert_close(values, exact, atol=0.3, rtol=0)


def test_given_completions_are_scored_like_sampled_ones(case):
    policy, samples, _ = case
    rollouts = policy.sample(samples, 1, generator=np.random.default_rng(3))
    ended = [i for i in range(3) if (rollouts.actions.data["tokens"][i][rollouts.actions.mask[i]])[-1] == 1]
    texts = ["w3 w4", "w5", "w6 w7 w8 w9"]
    given = policy.encode(samples, texts)
    assert given.completions == texts and given.actions.mask.sum(1).tolist() == [3, 2, 5]
    assert policy.texts(given.actions.data["tokens"], given.actions.mask) == texts
    assert policy.logprobs(given).shape == (3, 5)
    again = policy.encode([samples[i] for i in ended], [rollouts.completions[i] for i in ended]) if ended else None
    if again is not None:
        found = policy.logprobs(again).detach().numpy()
        np.testing.assert_allclose(found, rollouts.take(ended).actions.logprobs, atol=1e-4)


def test_a_chat_template_is_used_for_messages():
    policy = language_policy(SAMPLING)
    policy.tokenizer.chat_template = (
        "{% for m in messages %}w1 {{ m['content'] }} w2 {% endfor %}{% if add_generation_prompt %}w3{% endif %}"
    )
    messages = Sample("chat", [{"role": "user", "content": "w9 w10"}])
    assert policy.tokenizer.decode(policy._encode_prompt(messages).ids) == "w1 w9 w10 w2 w3"
    assert policy.tokenizer.decode(policy._encode_prompt(Sample("text", "w9 w10")).ids) == "w9 w10"


QWEN_VL_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|> "
    "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|> "
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
"""The parts of Qwen2.5-VL's own chat template that matter here, with spaces for the word-level tokenizer."""


def test_qwens_chat_template_gets_one_placeholder_per_merged_patch():
    policy, sample = vision_policy(SAMPLING), video_samples(3, frames=8)[2]
    policy.tokenizer.chat_template = QWEN_VL_TEMPLATE
    encoded = policy._encode_prompt(sample)
    grids = {kind: int(grid.prod(axis=1).sum()) // 4 for kind, (_, grid) in encoded.pixels.items()}
    assert grids == {"video": 16, "image": 4}
    assert [int((encoded.ids == token).sum()) for token in (4, 5, 2, 3)] == [16, 4, 2, 2]
    rollouts = policy.sample([sample], 2, generator=np.random.default_rng(0))
    np.testing.assert_allclose(policy.logprobs(rollouts).detach(), rollouts.actions.logprobs, atol=1e-4)


def test_a_plain_prompt_gets_its_video_in_front():
    policy = vision_policy(SAMPLING)
    video = np.zeros((4, 16, 16, 3), np.uint8)
    ids = policy._encode_prompt(Sample("v", "w1 w2", video=video)).ids
    tokens = policy.tokenizer.convert_ids_to_tokens(ids.tolist())
    assert tokens == ["<|vision_start|>", *["<|video_pad|>"] * 8, "<|vision_end|>", "w1", "w2"]


def test_frames_per_second_move_the_positions_in_time():
    policy = vision_policy(SAMPLING)
    video = np.zeros((4, 16, 16, 3), np.uint8)
    slow, fast = (policy._encode_prompt(Sample("v", "w1", video=video, columns={"fps": fps})) for fps in (1, 4))
    assert slow.positions[0].max() > fast.positions[0].max()
    np.testing.assert_array_equal(slow.positions[1:, :9], fast.positions[1:, :9])


def timed(fps: object) -> Sample:
    return Sample("timed", "w1", video=np.zeros((4, 16, 16, 3), np.uint8), columns={"fps": fps})


def test_errors_say_what_is_wrong(tmp_path):
    policy, sight = language_policy(SAMPLING), vision_policy(SAMPLING)
    generator = np.random.default_rng(0)
    video_part = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "w1"}]}]
    cases = [
        (lambda: policy.sample([Sample("long", "w1 " * 300)], 1, generator=generator), "'long' has 300 tokens"),
        (lambda: policy.sample([Sample("none", "")], 1, generator=generator), "'none' is empty"),
        (lambda: policy.sample([Sample("seen", video_part)], 1, generator=generator), "vision-language"),
        (lambda: sight.sample([Sample("blind", video_part)], 1, generator=generator), "'blind' asks for 1 video"),
        (lambda: policy.sample([], 1, generator=generator), "0 samples"),
        (lambda: policy.logprobs(sampled(policy, text_samples(2)), copy="old"), "no copy 'old'"),
        (lambda: policy.encode(text_samples(2), ["w1"]), "2 samples and 1 completions"),
        (lambda: policy.encode([], []), "0 samples and 0 completions"),
        (lambda: sight.sample([timed("fast")], 1, generator=generator), "'timed' has the fps 'fast'"),
        (lambda: sight.sample([timed(0)], 1, generator=generator), "'timed' has the fps 0; it must be a positive"),
        (lambda: load_policy(tmp_path / "nothing", sampling=SAMPLING), "there is no folder"),
        (lambda: load_policy(tmp_path, sampling=SAMPLING), "no model folder"),
    ]
    for call, words in cases:
        with pytest.raises(SteelyardError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_other_architectures_are_refused(tmp_path):
    language_policy(SAMPLING).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen2ForTokenClassification"]}))
    with pytest.raises(SteelyardError, match="Qwen2ForTokenClassification"):
        load_policy(tmp_path, sampling=SAMPLING)
    with pytest.raises(SteelyardError, match="Qwen2_5_VLForConditionalGeneration"):
        VisionLanguagePolicy.from_pretrained(tmp_path, sampling=SAMPLING)


def test_a_damaged_model_file_is_refused_in_one_sentence(tmp_path):
    language_policy(SAMPLING).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SteelyardError, match="could not be loaded"):
        LanguagePolicy.from_pretrained(tmp_path, sampling=SAMPLING)


def test_an_adapter_without_targets_is_refused(tmp_path):
    language_policy(SAMPLING).save_pretrained(tmp_path)
    with pytest.raises(SteelyardError, match="nowhere"):
        load_policy(tmp_path, sampling=SAMPLING, lora=LoRA(targets=("nowhere",)))


def test_pixels_settings_survive_the_folder(tmp_path):
    vision_policy(SAMPLING).save_pretrained(tmp_path)
    assert VisionLanguagePolicy.from_pretrained(tmp_path, sampling=SAMPLING).pixels == PIXELS
