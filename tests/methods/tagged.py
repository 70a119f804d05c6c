"""A tiny Qwen2 that has learned to write `<think> w3</think><answer> w5</answer>`, with a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from steelyard.learn.supervised import supervised
from steelyard.policies import LanguagePolicy, Sampling
from steelyard.types import Sample
from tests.policies.tiny import text_config

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
WORDS = [f"w{i}" for i in range(8)]


def tokenizer() -> PreTrainedTokenizerFast:
    """Words with their leading space, and a token a tag."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    corpus = [" ".join(["which", *WORDS])] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(corpus, trainer)
    inner.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>")


def samples(count: int = 8) -> list[Sample]:
    """Prompts whose reference is a word of their own, and which mixed answers to expect."""
    return [Sample(f"s{i}", f"which w{i % 8}", columns={"answer": WORDS[i % 8]}) for i in range(count)]


def saved(folder: Path) -> Path:
    """The model, warm-started, as a folder for `from_pretrained`."""
    torch.manual_seed(0)
    words = tokenizer()
    config = text_config(
        max_position_embeddings=1024,
        vocab_size=len(words),
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    model = Qwen2ForCausalLM(Qwen2Config(**config | {"initializer_range": 0.1}))
    policy = LanguagePolicy(model, words, Sampling(max_tokens=10))
    generator = np.random.default_rng(0)
    rows = [row for row in samples() for _ in range(8)]
    said = [f"<think> {generator.choice(WORDS)}</think><answer> {generator.choice(WORDS)}</answer>" for _ in rows]
    supervised(policy, rows, completions=said, steps=120, batch=32, lr=1e-2, generator=generator, progress=False)
    policy.save_pretrained(folder)
    return folder


def policy(folder: Path) -> LanguagePolicy:
    """The model, loaded."""
    return LanguagePolicy.from_pretrained(folder, sampling=Sampling(max_tokens=10), device="cpu")
