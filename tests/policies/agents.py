"""A tiny random Qwen2 whose words are whole actions, and a small corpus that it can search."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from steelyard.environments.search import Passages, SearchTool
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.sampling import Sampling
from steelyard.types import Sample
from tests.policies import tiny

SEARCHES = [f"<search>w{i}</search>" for i in range(12)]
ANSWERS = [f"<answer>w{i}</answer>" for i in range(4)]
WORDS = [*SEARCHES, *ANSWERS, *(f"w{i}" for i in range(38)), "<information>[1]", "</information>", "[1]"]
SAMPLING = Sampling(max_tokens=6, stop=("</search>", "</answer>"))
CORPUS = [f"w{i} w{(i + 1) % 38} w{(i + 5) % 38}" for i in range(12)]


def saved(folder: Path, *, seed: int = 0) -> Path:
    """The model written to a folder."""
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(**tiny.text_config())).eval()
    return tiny.saved(LanguagePolicy(model, tiny.tokenizer(WORDS), SAMPLING), folder)


def policy(folder: Path) -> LanguagePolicy:
    """The model loaded as a user would load it."""
    return LanguagePolicy.from_pretrained(folder, sampling=SAMPLING, dtype="float32")


def tool() -> SearchTool:
    """Searches twelve passages of three words."""
    return SearchTool(Passages(CORPUS), k=1)


def questions(count: int = 4) -> list[Sample]:
    """Prompts of two or three words, whose answer is one that the policy can say."""
    return [
        Sample(f"q{i}", " ".join(f"w{(3 * i + j) % 38}" for j in range(2 + i % 2)), columns={"answer": f"w{i % 4}"})
        for i in range(count)
    ]
