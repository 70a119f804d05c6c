"""Any Hugging Face sequence classifier as a reward: scored, trained on pairs, saved with its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steelyard.policies.copies import Copies
from steelyard.rewards.core import Expression, Memo
from steelyard.types import Array, Pairs, Rollouts, Sample, Scores, SteelyardError


class RewardModel(Expression):
    """r(x, y) = the one logit of a sequence classifier on prompt and answer.

    A tokenizer with a chat template spells prompt and answer as a conversation; another one gets them as a pair of
    texts. What is longer than `max_length` tokens together is cut at its end.

    Args:
        model: an `AutoModelForSequenceClassification` with one label.
        tokenizer: its tokenizer.
        max_length: tokens of prompt and answer together.
        batch: texts that go through the model together.
        name: how logs call it.

    Raises:
        SteelyardError: for a model with another number of labels.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, max_length: int = 512, batch: int = 32, name: str = "reward_model"
    ) -> None:
        if model.config.num_labels != 1:
            raise SteelyardError(
                f"the classifier has {model.config.num_labels} labels; a reward model has one: its score"
            )
        self.module, self.tokenizer, self.name = model, tokenizer, name
        self.max_length, self.batch = min(max_length, getattr(tokenizer, "model_max_length", max_length)), batch
        self.copies = Copies()
        self._features: dict[tuple[str, str], Tensor] | None = None
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, max_length: int = 512, batch: int = 32, device: str | torch.device = "cpu"
    ) -> RewardModel:
        """Load a folder or hub id; a bare encoder gets a fresh head with one label.

        Raises:
            SteelyardError: if it cannot be read as a sequence classifier.
        """
        from transformers import AutoModelForSequenceClassification

        from steelyard.policies.loading import load_tokenizer

        try:
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
            tokenizer = load_tokenizer(folder)
        except (OSError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise SteelyardError(f"{folder} cannot be loaded as a sequence classifier: {said}") from None
        return cls(model.to(device).eval(), tokenizer, max_length=max_length, batch=batch, name=Path(folder).name)

    def save_pretrained(self, folder: str | Path, *, card: Mapping[str, Any] | None = None) -> None:
        """Write a folder that `from_pretrained` and `transformers` read, with a model card of these facts."""
        from steelyard.rewards.models.card import write_card

        self.module.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_card(Path(folder), self.module.config, {"max_length": self.max_length, **(card or {})})

    def freeze_encoder(self, *, features: dict[tuple[str, str], Tensor] | None = None) -> None:
        """Train the head alone, on features that are computed once a text and kept.

        The head of a BERT is its pooler and its classifier; the features are the first token's last state.

        Args:
            features: states [1, d] of (prompt, answer) to begin with and to add to: models of the same frozen encoder
                and `max_length` share theirs.

        Raises:
            SteelyardError: for an architecture whose head cannot be run on kept features.
        """
        base = self.module.base_model
        if getattr(base, "pooler", None) is None or not hasattr(self.module, "classifier"):
            raise SteelyardError(
                f"{type(self.module).__name__} has no pooler before its classifier; train it whole (no freeze_encoder)"
            )
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_("pooler" in name or name.startswith("classifier"))
        self._features = {} if features is None else features

    def scores(self, samples: Sequence[Sample], answers: Sequence[str], *, copy: str | None = None) -> Tensor:
        """[B] scores, with gradients where the model trains and no copy is asked for.

        Raises:
            SteelyardError: for a copy that was not made, or an answer that is no text.
        """
        wrong = next((i for i, answer in enumerate(answers) if not isinstance(answer, str)), None)
        if wrong is not None:
            raise SteelyardError(f"answer {wrong} is {type(answers[wrong]).__name__}; a reward model reads texts")
        module = self._module(copy)
        if self._features is not None:
            return self._from_features(module, samples, answers)
        return module(**self._encoded(samples, answers)).logits[:, 0].float()

    def both(self, pairs: Pairs, *, copy: str | None = None) -> tuple[Tensor, Tensor]:
        """Scores [B, 2] of the chosen and the rejected answers, and lengths of 1; see `learn.pairs.PairModel`."""
        values = self.scores([*pairs.samples, *pairs.samples], [*pairs.chosen, *pairs.rejected], copy=copy)
        both = values.view(2, -1).T
        return both, torch.ones_like(both)

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the model as it is now."""
        self.copies.keep(name, self.module)

    def _compute(self, rollouts: Rollouts, memo: Memo) -> Scores:
        texts = list(rollouts.completions)
        values = np.zeros(len(texts), np.float32)
        with torch.inference_mode(), _evaluating(self.module):
            for rows in self._by_length(rollouts.samples, texts):
                part = self.scores([rollouts.samples[i] for i in rows], [texts[i] for i in rows])
                values[rows] = part.cpu().numpy()
        return Scores(values, parts={self.name: values})

    def _by_length(self, samples: Sequence[Sample], texts: Sequence[str]) -> Iterator[Array]:
        """Rows in batches of about equal length, so that little is padded."""
        lengths = [len(str(sample.prompt)) + len(str(text)) for sample, text in zip(samples, texts, strict=True)]
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self.batch):
            yield order[start : start + self.batch]

    def _module(self, copy: str | None) -> Any:
        return self.module if copy is None else self.copies[copy]

    def _encoded(self, samples: Sequence[Sample], answers: Sequence[str]) -> Any:
        options = {"truncation": True, "max_length": self.max_length, "padding": True, "return_tensors": "pt"}
        if getattr(self.tokenizer, "chat_template", None):
            spelt = [
                self.tokenizer.apply_chat_template(conversation(sample, answer), tokenize=False)
                for sample, answer in zip(samples, answers, strict=True)
            ]
            tokens = self.tokenizer(spelt, add_special_tokens=False, **options)
        else:
            tokens = self.tokenizer([plain(sample) for sample in samples], list(answers), **options)
        return tokens.to(next(iter(self.module.parameters())).device)

    def _from_features(self, module: Any, samples: Sequence[Sample], answers: Sequence[str]) -> Tensor:
        assert self._features is not None
        keys = [(plain(sample), answer) for sample, answer in zip(samples, answers, strict=True)]
        wanted = [i for key, i in {key: i for i, key in enumerate(keys)}.items() if key not in self._features]
        for rows in self._by_length([samples[i] for i in wanted], [answers[i] for i in wanted]):
            picked = [wanted[int(row)] for row in rows]
            with torch.no_grad(), _evaluating(module):
                encoded = self._encoded([samples[i] for i in picked], [answers[i] for i in picked])
                states = module.base_model(**encoded).last_hidden_state[:, :1].float()
            self._features.update(zip((keys[i] for i in picked), states, strict=True))
        hidden = torch.stack([self._features[key] for key in keys])
        return module.classifier(module.dropout(module.base_model.pooler(hidden)))[:, 0].float()


def plain(sample: Sample) -> str:
    """A prompt as one text: the contents of its messages, line by line."""
    if isinstance(sample.prompt, str):
        return sample.prompt
    return "\n".join(str(message.get("content", "")) for message in sample.prompt)


def conversation(sample: Sample, answer: str) -> list[dict[str, Any]]:
    """Prompt and answer as chat messages."""
    asked = [{"role": "user", "content": sample.prompt}] if isinstance(sample.prompt, str) else list(sample.prompt)
    return [*map(dict, asked), {"role": "assistant", "content": answer}]


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
