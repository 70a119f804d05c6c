"""Tiny random Qwen2 and Qwen2.5-VL models with a word-level tokenizer, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from steelyard.policies.language import LanguagePolicy
from steelyard.policies.patches import PatchConfig
from steelyard.policies.sampling import Sampling
from steelyard.policies.vision import VisionLanguagePolicy
from steelyard.types import Sample

SPECIAL = ["<pad>", "<end>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>", "<unk>"]
WORDS = [f"w{i}" for i in range(57)]
PIXELS = PatchConfig(patch_size=4, min_pixels=64, max_pixels=64 * 64, image_min_pixels=64, image_max_pixels=64 * 64)


def tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    """64 tokens: seven special ones and the words w0 … w56, or 57 others."""
    words = {word: index for index, word in enumerate([*SPECIAL, *words])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=SPECIAL[2:6],
    )


def text_config(**changes: object) -> dict[str, object]:
    """Settings of a causal model of two layers."""
    base = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "eos_token_id": 1,
        "bos_token_id": None,
        "pad_token_id": 0,
        "initializer_range": 0.35,
        "tie_word_embeddings": True,
    }
    return base | changes


def language_policy(sampling: Sampling, *, seed: int = 0, **config: object) -> LanguagePolicy:
    """A random Qwen2 of two layers."""
    torch.manual_seed(seed)
    return LanguagePolicy(Qwen2ForCausalLM(Qwen2Config(**text_config(**config))).eval(), tokenizer(), sampling)


def vision_config() -> Qwen2_5_VLConfig:
    """A tower of two layers on patches of 4×4 pixels, and two layers of text."""
    tower = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
        "initializer_range": 0.2,
    }
    text = text_config(rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]})
    ids = {"vision_start_token_id": 2, "vision_end_token_id": 3, "video_token_id": 4, "image_token_id": 5}
    return Qwen2_5_VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=True, **ids)


def vision_policy(sampling: Sampling, *, seed: int = 0) -> VisionLanguagePolicy:
    """A random Qwen2.5-VL."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(vision_config()).eval()
    return VisionLanguagePolicy(model, tokenizer(), sampling, pixels=PIXELS)


def text_samples(count: int, *, seed: int = 0, longest: int = 12) -> list[Sample]:
    """Prompts of 1 to `longest` words."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [Sample(f"t{i}", " ".join(rng.choice(WORDS, length))) for i, length in enumerate(lengths)]


def video_samples(count: int, *, seed: int = 0, frames: int = 4, size: int = 16) -> list[Sample]:
    """Chat prompts about random videos; every third asks about an image too."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        images = (rng.integers(0, 256, (size, size, 3), dtype=np.uint8),) * (i % 3 == 2)
        parts = [{"type": "video"}, *({"type": "image"} for _ in images)]
        parts.append({"type": "text", "text": " " + " ".join(rng.choice(WORDS, rng.integers(1, 6)))})
        video = rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
        samples.append(Sample(f"v{i}", [{"role": "user", "content": parts}], video=video, images=images))
    return samples


def saved(policy: LanguagePolicy, folder: Path) -> Path:
    """The policy written to a folder."""
    policy.save_pretrained(folder)
    return folder
