"""The tiny Qwen2.5-VL of the video world before any training: word-level tokenizer, image settings, configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from steelyard.policies.patches import PatchConfig
from steelyard.worlds.video_questions_scene import COLOURS, SHAPES

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = (
    "A B C D user assistant system Which way does the camera turn Does move toward or away from object approach is on "
    "left right middle in at end How many objects are seen was passed first Reason and answer up down moves Options "
    "turns so grows shrinks leaves then to . ? , : not yes no"
)
"""Besides colours, shapes and digits."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; the tags of reasoning and answer are ordinary tokens, so that decoding keeps them."""
    words = dict.fromkeys([*WORDS.split(), *COLOURS, *SHAPES, *"0123456789"])
    vocabulary = {token: i for i, token in enumerate(("<unk>", *SPECIAL, *TAGS, *words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=[token for token in SPECIAL if token not in ("<|endoftext|>", "<|im_end|>")],
        model_max_length=1024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


PIXELS = PatchConfig(
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    min_pixels=56 * 56,
    max_pixels=56 * 56,
    image_min_pixels=56 * 56,
    image_max_pixels=56 * 56,
    merge_size=4,
)
"""14-pixel patches, two frames a patch, 4 x 4 patches a token; larger frames are made smaller."""


def configuration(words: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """About 0.9 million parameters: 2 vision blocks of width 32, 3 text blocks of width 128.

    Two frames become one token (all 4 x 4 patches are merged): the tower knows no absolute positions, so that with
    2 x 2 tokens left and right have to be told from rotary distances alone, which takes many more clips to learn.
    """
    number = words.convert_tokens_to_ids
    text = {
        "vocab_size": len(words),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": number("<|im_end|>"),
        "pad_token_id": number("<|endoftext|>"),
        "initializer_range": 0.04,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": 128,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 4,
        "window_size": 112,
        "fullatt_block_indexes": [0, 1],
        "tokens_per_second": 2,
        "initializer_range": 0.04,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )


def save_untrained(folder: Path, *, seed: int) -> None:
    """Write model, tokenizer and image settings into a folder that `from_pretrained` reads."""
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(configuration(words))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    PIXELS.save_pretrained(folder)
