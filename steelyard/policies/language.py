"""Causal language models as policies: load, sample, score, keep copies, save."""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from steelyard.policies.causal import Encoded, PromptBatch, PromptMemory, collate, score_full, score_shared
from steelyard.policies.certainty import CERTAINTIES
from steelyard.policies.copies import Copies
from steelyard.policies.loading import load_parts
from steelyard.policies.lora import LoRA, adapter_off, adapter_untouched, base_model
from steelyard.policies.sampling import Sampling, decode, draw_uniforms, stop_check
from steelyard.policies.texts import ROWS_AT_ONCE, pieces, tokenise
from steelyard.types import (
    Actions,
    Array,
    Rollouts,
    Sample,
    SteelyardError,
    Streams,
    TextScores,
    check_attempts,
    overlapping,
    streams,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class LanguagePolicy:
    """A causal language model that acts by writing tokens.

    Args:
        model: a Hugging Face causal model (Qwen2, Qwen3, Llama, Mistral), or one wrapped by peft.
        tokenizer: its tokenizer; a chat template is used where prompts are messages.
        sampling: how completions are drawn.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, sampling: Sampling) -> None:
        self.module, self.tokenizer, self.sampling = model, tokenizer, sampling
        self._copies = Copies()
        self._encoded = PromptMemory()

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        sampling: Sampling,
        dtype: str | torch.dtype = "auto",
        lora: LoRA | None = None,
        gradient_checkpointing: bool = False,
        device: str | torch.device | None = None,
    ) -> Self:
        """Load a local folder or a hub id; the code path is the same.

        Args:
            path_or_id: folder written by `save_pretrained`, or a hub id.
            sampling: how completions are drawn.
            dtype: of the weights; "auto" keeps the folder's own.
            lora: train low-rank adapters instead of the weights.
            gradient_checkpointing: recompute layers in the backward pass, for large models.
            device: where to put it; a GPU if there is one.

        Raises:
            SteelyardError: if the folder is missing, is no model folder, or holds an architecture that does not fit.
        """
        model, tokenizer = load_parts(
            path_or_id,
            classes=cls.architectures(),
            dtype=dtype,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            device=device,
        )
        return cls(model, tokenizer, sampling)

    @staticmethod
    def architectures() -> tuple[str, ...]:
        """The Hugging Face classes that this policy runs."""
        return ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (safetensors; adapters merged into a copy), config and tokenizer for `from_pretrained`."""
        module = self.module
        if hasattr(module, "peft_config"):
            module = copying.deepcopy(module).merge_and_unload()
        module.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n completions of each sample, n branches from one prefix where it has one.

        Every sample draws its uniforms from its own stream, so that the completions of a sample do not depend
        on its neighbours in the batch.

        Returns:
            rollouts [len(samples) * n] with `actions.data["tokens"]` int64 [N, T] and the log-probabilities under the
            tempered, untruncated distribution.

        Raises:
            SteelyardError: if a prompt and `max_tokens` do not fit into the model's context.
        """
        check_attempts(samples, n)
        uniforms = draw_uniforms(streams(generator, len(samples)), n, self.sampling.max_tokens)
        prompts = self._prompts(samples, room=self.sampling.max_tokens)
        with _evaluating(self.module) as model:
            drawn = decode(
                model,
                prompts,
                uniforms,
                self.sampling,
                end_tokens=self.end_tokens,
                stopped=stop_check(self.tokenizer, self.sampling.stop),
                greedy=greedy,
            )
        actions = Actions(drawn.logprobs, drawn.mask, {"tokens": drawn.tokens}, self.sampling.temperature)
        return Rollouts(
            samples=[sample for sample in samples for _ in range(n)],
            completions=self.texts(drawn.tokens, drawn.mask),
            group=np.repeat(np.arange(len(samples)), n),
            actions=actions,
        )

    def encode(self, samples: Sequence[Sample], completions: Sequence[str]) -> Rollouts:
        """Given completions as rollouts (one a sample), ended by the end token; log-probabilities are 0."""
        if len(samples) != len(completions) or not samples:
            raise SteelyardError(
                f"{len(samples)} samples and {len(completions)} completions were given; one each are needed"
            )
        actions = self._given([[*ids, self.end_tokens[0]] for ids in self._tokens(list(completions))])
        return Rollouts(samples=list(samples), completions=list(completions), actions=actions)

    def read(self, texts: Sequence[str]) -> Actions:
        """Texts that somebody else wrote (tool output) as tokens, to be put behind the policy's own; no end token."""
        return self._given(self._tokens(list(texts)) if texts else [])

    def _given(self, rows: Sequence[Sequence[int]]) -> Actions:
        """Token rows right-padded; their log-probabilities are 0."""
        mask = np.arange(max(map(len, rows), default=0)) < np.array([len(row) for row in rows], np.int64)[:, None]
        tokens = np.zeros(mask.shape, np.int64)
        tokens[mask] = [token for row in rows for token in row]
        return Actions(np.zeros(mask.shape, np.float32), mask, {"tokens": tokens}, self.sampling.temperature)

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> torch.Tensor:
        """float32 [N, T]: log-probability of every written token at the temperature it was drawn with; 0 elsewhere.

        Rows whose sample is the same object share one pass over the prompt.

        Args:
            rollouts: with tokens, from `sample` or `encode`, in any order and subset.
            copy: name of a `snapshot`; its answer carries no gradient. None is the policy itself, with gradients.
        """
        written = self._written(rollouts)
        if copy is None:
            model = base_model(self.module)
            recomputed = model.training and model.is_activation_checkpointing and torch.is_grad_enabled()
            score = score_full if recomputed else score_shared
            return score(model, *written)
        with torch.no_grad(), self._copy(copy) as model:
            return score_shared(model, *written)

    def certainty(self, rollouts: Rollouts, kind: str) -> Array:
        """float32 [N, T]: a figure of the distribution that every written token was drawn from; 0 elsewhere.

        One pass over prompts and completions, without gradient, at the temperature that they were drawn with.

        Args:
            rollouts: with tokens, from `sample` or `encode`.
            kind: a name of `policies.certainty.CERTAINTIES`.
        """
        figure = CERTAINTIES[kind]
        with torch.no_grad(), _evaluating(self.module) as model:
            found = score_shared(model, *self._written(rollouts), lambda logits, tokens: figure(logits))
        return found.cpu().numpy()

    def _written(self, rollouts: Rollouts) -> tuple[PromptBatch, Array, torch.Tensor, torch.Tensor, float]:
        """What scores completions: prompts, their rows, tokens, mask, temperature."""
        actions = rollouts.actions
        if actions is None or "tokens" not in actions.data:
            raise SteelyardError("these rollouts hold no tokens; score rollouts that `sample` or `encode` returned")
        owner, distinct = _owners(rollouts.samples)
        prompts = self._prompts(distinct, room=actions.mask.shape[1])
        tokens, mask = (torch.from_numpy(a).to(self.device) for a in (actions.data["tokens"], actions.mask))
        return prompts, owner, tokens, mask, actions.temperature

    def score_texts(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        *,
        spans: Array | None = None,
        copy: str | None = None,
        temperature: float = 1.0,
    ) -> TextScores:
        """How likely given texts are after their samples' prompts, token by token, without gradients.

        log p(t_i | prompt, t_1 … t_{i−1}) for the tokens t of a text. Text and prompt are tokenised apart, a text in
        one piece, so a token may lie across two words that mean different things: `offsets` tell. Rows whose sample is
        the same object share one pass over the prompt; tokens that are not wanted cost no logits.

        Args:
            samples: whose prompts are the contexts [N].
            texts: what is scored [N]; no end token is added.
            spans: int64 [N, 2], characters of each text whose tokens are wanted; all of them without it.
            copy: name of a `snapshot`; None is the policy as it is now.
            temperature: logits are divided by it.

        Raises:
            SteelyardError: for other than one text a sample, a text that does not fit into the model's context behind
                its prompt, or a tokenizer without offsets.
        """
        if len(samples) != len(texts) or not samples or (spans is not None and np.shape(spans) != (len(texts), 2)):
            given = f"{len(texts)} texts, {len(samples)} samples and spans {None if spans is None else np.shape(spans)}"
            raise SteelyardError(f"{given} were given; one text and one span [2] a sample are needed, at least one")
        tokens, written, offsets = tokenise(self.tokenizer, texts)
        mask = written if spans is None else written & overlapping(offsets, np.asarray(spans))
        owner, distinct = _owners(samples)
        logprobs = np.zeros(mask.shape, np.float32)
        using = _evaluating(self.module) if copy is None else self._copy(copy)
        with torch.no_grad(), using as model:
            for rows in pieces(owner, ROWS_AT_ONCE):
                width = max(1, int(written[rows].sum(1).max()))
                numbers, mine = np.unique(owner[rows], return_inverse=True)
                prompts = self._prompts([distinct[i] for i in numbers], room=0)
                self._check_fit(prompts, mine, written[rows], [samples[row] for row in rows])
                part, wanted = (torch.from_numpy(a[rows, :width]).to(self.device) for a in (tokens, mask))
                logprobs[rows, :width] = score_shared(model, prompts, mine, part, wanted, temperature).cpu().numpy()
        return TextScores(logprobs, mask, offsets)

    def choice_probabilities(
        self,
        samples: Sequence[Sample],
        choices: Sequence[str],
        *,
        after: Sequence[str] | None = None,
        copy: str | None = None,
    ) -> Array:
        """float32 [N, K]: the probability that each prompt is continued by each of the choices (letters, words).

        They are probabilities among all continuations, not among the choices: divide by their sum for those.

        Args:
            samples: whose prompts are the contexts [N].
            choices: K texts; a leading space belongs to a choice where the tokenizer joins it to the word.
            after: what stands between prompt and choice [N], as `"Answer:"`; nothing by default.
            copy: name of a `snapshot`; None is the policy as it is now.
        """
        before = [""] * len(samples) if after is None else list(after)
        if not choices or not all(choices) or len(before) != len(samples):
            given = f"choices {list(choices)!r:.80} after {len(before)} texts for {len(samples)} samples"
            raise SteelyardError(f"{given} cannot be scored; give texts that are not empty, and one `after` a sample")
        starts = np.repeat([len(text) for text in before], len(choices))
        texts = [text + choice for text in before for choice in choices]
        spans = np.stack([starts, [len(text) for text in texts]], axis=1)
        rows = [sample for sample in samples for _ in choices]
        scores = self.score_texts(rows, texts, spans=spans, copy=copy)
        return np.exp(scores.logprobs.sum(axis=1)).reshape(len(samples), len(choices))

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy as it is now. With an untouched adapter the copy is the base itself and costs nothing."""
        if adapter_untouched(self.module):
            self._copies[name] = None
            return
        kept = copying.deepcopy(self.module).requires_grad_(False).eval()
        kept.zero_grad(set_to_none=True)
        self._copies[name] = kept

    @property
    def copies(self) -> list[str]:
        """The names of the copies that were kept."""
        return list(self._copies)

    @property
    def end_tokens(self) -> list[int]:
        """Token ids that end a completion, the tokenizer's own first."""
        configured = getattr(base_model(self.module).generation_config, "eos_token_id", None)
        listed = configured if isinstance(configured, list) else [configured]
        ends = [token for token in (self.tokenizer.eos_token_id, *listed) if token is not None]
        if not ends:
            raise SteelyardError("the tokenizer names no end-of-sequence token; set its eos_token")
        return list(dict.fromkeys(ends))

    def texts(self, tokens: Array, mask: Array) -> list[str]:
        """Token rows [N, T] as texts, without special tokens."""
        rows = [row[keep].tolist() for row, keep in zip(tokens, mask, strict=True)]
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def render(self, sample: Sample) -> str:
        """The prompt as one text: as it is, or through the chat template (joined by newlines where there is none)."""
        if isinstance(sample.prompt, str):
            return sample.prompt
        if self.tokenizer.chat_template:
            return self.tokenizer.apply_chat_template(list(sample.prompt), tokenize=False, add_generation_prompt=True)
        return "\n".join(_plain(message["content"], self._placeholder) for message in sample.prompt)

    def _placeholder(self, kind: str) -> str:
        raise SteelyardError(
            f"a chat message holds a part of type {kind!r}, which only a vision-language model can read"
        )

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def _encode_prompt(self, sample: Sample) -> Encoded:
        chat = not isinstance(sample.prompt, str) and bool(self.tokenizer.chat_template)
        ids = np.asarray(self.tokenizer(self.render(sample), add_special_tokens=not chat)["input_ids"], np.int64)
        return Encoded(ids, np.arange(len(ids)), len(ids))

    def _encode(self, sample: Sample) -> Encoded:
        """The prompt and what stands behind it already."""
        prompt = self._encode_prompt(sample)
        if sample.prefix is None:
            return prompt
        ids = sample.prefix.data.get("tokens")
        return prompt.followed_by(np.asarray(self._tokens([sample.prefix.text])[0] if ids is None else ids, np.int64))

    def _prompts(self, samples: Sequence[Sample], *, room: int) -> PromptBatch:
        """The prompts of samples, encoded once each, checked against the context and padded."""
        longest = getattr(base_model(self.module).config.get_text_config(decoder=True), "max_position_embeddings", None)
        encoded = []
        for sample in samples:
            prompt = self._encoded.get(sample) or self._encoded.keep(sample, self._encode(sample))
            if not len(prompt.ids):
                raise SteelyardError(f"the prompt of sample {sample.id!r} is empty; give it at least one token")
            if longest is not None and len(prompt.ids) + room > longest:
                raise SteelyardError(
                    f"the prompt of sample {sample.id!r} has {len(prompt.ids)} tokens, which with {room} of completion "
                    f"passes the model's context of {longest}; shorten one of them"
                )
            encoded.append(prompt)
        return collate(encoded, device=self.device, pad=self.tokenizer.pad_token_id or 0)

    def _check_fit(self, prompts: PromptBatch, owner: Array, written: Array, samples: Sequence[Sample]) -> None:
        longest = getattr(base_model(self.module).config.get_text_config(decoder=True), "max_position_embeddings", None)
        needed = prompts.mask.sum(1).cpu().numpy()[owner] + written.sum(axis=1)
        if longest is not None and needed.max() > longest:
            row = int(needed.argmax())
            raise SteelyardError(
                f"the prompt of sample {samples[row].id!r} and its text have {needed[row]} tokens, which passes the "
                f"model's context of {longest}; shorten one of them"
            )

    @contextmanager
    def _copy(self, name: str) -> Iterator[Any]:
        kept = self._copies[name]
        if kept is not None:
            yield base_model(kept)
            return
        with adapter_off(self.module), _evaluating(self.module) as model:
            yield model


def _owners(samples: Sequence[Sample]) -> tuple[Array, list[Sample]]:
    """Which distinct sample every row [N] belongs to, and the distinct samples in order of their first row."""
    first: dict[int, int] = {}
    owner = np.array([first.setdefault(id(sample), len(first)) for sample in samples], np.int64)
    return owner, [samples[int(row)] for row in np.unique(owner, return_index=True)[1]]


def _plain(content: Any, placeholder: Callable[[str], str]) -> str:
    """The content of one message without a chat template."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else placeholder(part["type"]) for part in content)


@contextmanager
def _evaluating(module: Any) -> Iterator[Any]:
    """The Hugging Face model in eval mode for a while."""
    training = module.training
    module.eval()
    try:
        yield base_model(module)
    finally:
        module.train(training)
