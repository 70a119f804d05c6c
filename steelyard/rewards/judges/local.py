"""A judge that is a Hugging Face model on this machine."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.rewards.judges.cache import AnswerCache, drop_unread, through_cache
from steelyard.rewards.judges.usage import Usage
from steelyard.types import Array, Prompt, SteelyardError


class LocalJudge:
    """Asks a causal language model: its most likely text, or the probabilities of chosen answers.

    Chat messages go through the tokenizer's chat template; without one, the messages' texts are joined by blank
    lines and the model goes on from there. Control tokens of the tokenizer (`<|im_end|>`, `</s>`, `[/INST]`, …) that
    stand in a prompt's text are broken by a zero-width space first, so that no text can end its turn and speak as
    another role. A prompt that leaves no room for an answer in the model's context gives None, counted in `failures`;
    so does an answer that did not end by itself within `max_tokens`.

    Args:
        model: a folder or hub id, or a loaded model; then `tokenizer` is needed too.
        tokenizer: by default the model's own.
        max_tokens: longest answer.
        batch: prompts in one forward pass.
        device: `cpu`, `cuda`, …; by default CUDA where there is one. A loaded model stays where it is.
        dtype: of the weights.
        cache: a folder for answers; only for a model that was given by folder or id.

    Raises:
        SteelyardError: for settings out of range, a loaded model without a tokenizer or with a cache.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        max_tokens: int = 512,
        batch: int = 8,
        device: str | None = None,
        dtype: str = "auto",
        cache: str | Path | AnswerCache | None = None,
    ) -> None:
        if max_tokens < 1 or batch < 1:
            raise SteelyardError(f"a judge cannot have max_tokens={max_tokens} and batch={batch}; both are at least 1")
        loaded = not isinstance(model, str | Path)
        if loaded and (tokenizer is None or cache is not None):
            raise SteelyardError(
                "a judge of a loaded model needs its tokenizer, and can keep no cache: nothing names it"
            )
        self._given, self._tokenizer, self.device, self.dtype = model, tokenizer, device, dtype
        self.name = type(model).__name__ if loaded else str(model)
        self.max_tokens, self.batch = max_tokens, batch
        self.cache = cache if isinstance(cache, AnswerCache) or cache is None else AnswerCache(cache)
        self.usage = Usage()

    def __repr__(self) -> str:
        return f"LocalJudge({self.name!r})"

    @property
    def failures(self) -> Counter[str]:
        """Prompts without an answer, by the kind of error."""
        return self.usage.failures

    @cached_property
    def model(self) -> Any:
        """The model, loaded at the first question.

        Raises:
            SteelyardError: if transformers is not installed or the model cannot be loaded.
        """
        if not isinstance(self._given, str | Path):
            return self._given.eval()
        torch, transformers = self._libraries()
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(self._given, dtype=self.dtype)
        except (OSError, ValueError) as error:
            raise self._not_loaded(error) from None
        return model.to(self.device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, padding on the left."""
        if self._tokenizer is not None:
            return self._tokenizer
        try:
            return self._libraries()[1].AutoTokenizer.from_pretrained(self._given)
        except (OSError, ValueError) as error:
            raise self._not_loaded(error) from None

    def _libraries(self) -> tuple[Any, Any]:
        try:
            import torch
            import transformers
        except ImportError:
            raise SteelyardError("a local judge needs torch and transformers; install steelyard[train]") from None
        return torch, transformers

    def _not_loaded(self, error: Exception) -> SteelyardError:
        said = " ".join(str(error).split())[:300]
        return SteelyardError(f"judge {self.name!r} cannot be loaded ({said}); give a folder with model and tokenizer")

    @property
    def settings(self) -> dict[str, Any]:
        """All that determines an answer beside the prompt; for a folder, the sizes and times of its files too."""
        files = sorted(Path(self._given).glob("*")) if Path(self._given).is_dir() else []
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        stamp = hashlib.sha256(repr(stamps).encode()).hexdigest() if stamps else ""
        return {"local": self.name, "files": stamp, "max_tokens": self.max_tokens, "dtype": self.dtype}

    def ask(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """The most likely answer to every prompt (greedy), in order; None, counted, where there was no room or text."""
        settings = self.settings if self.cache is not None else {}
        return through_cache(self.cache, settings, prompts, self._ask, self.usage, same_each_time=True)

    def forget(self, prompts: Sequence[Prompt], unread: Mapping[int, str]) -> None:
        """Count replies that could not be read, and keep them no longer; see `forget_unread`."""
        settings = self.settings if self.cache is not None else {}
        drop_unread(self.cache, settings, prompts, unread, self.usage, same_each_time=True)

    def probabilities(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> Array:
        """P(the model's reply begins with this answer), for every prompt and answer.

        An answer of several tokens has the product of their probabilities. One forward pass a prompt serves all
        answers of one token.

        Args:
            prompts: N of them.
            answers: K texts, such as `("YES", "NO")`.

        Returns:
            float64 [N, K]; NaN for a prompt that leaves no room, which is counted in `failures`.

        Raises:
            SteelyardError: for no answers, or one without a token.
        """
        said = [self.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        if not said or not all(said):
            raise SteelyardError(f"a judge cannot weigh the answers {list(answers)}; give texts of a token or more")
        self.usage.add(asked=len(prompts))
        result = np.full((len(prompts), len(answers)), np.nan)
        for start in range(0, len(prompts), self.batch):
            rows = [self._tokens(prompt) for prompt in prompts[start : start + self.batch]]
            fitting = [i for i, ids in enumerate(rows) if self._fits(ids, max(map(len, said)))]
            result[[start + i for i in fitting]] = self._weighed([rows[i] for i in fitting], said)
        return result

    def _ask(self, pairs: list[tuple[str, Prompt]]) -> dict[str, str | None]:
        answers: dict[str, str | None] = dict.fromkeys(key for key, _ in pairs)
        tokens = {key: self._tokens(prompt) for key, prompt in pairs}
        fitting = sorted((key for key, ids in tokens.items() if self._fits(ids, 1)), key=lambda key: len(tokens[key]))
        for start in range(0, len(fitting), self.batch):
            keys = fitting[start : start + self.batch]
            for key, (text, whole) in zip(keys, self._written([tokens[key] for key in keys]), strict=True):
                if not whole or not text.strip():
                    self.usage.failed("empty reply" if whole else "cut off")
                    continue
                answers[key] = text
                self.usage.add(answers=1)
                if self.cache is not None:
                    self.cache.put(key, text)
        return answers

    def _written(self, rows: list[list[int]]) -> list[tuple[str, bool]]:
        """What the model writes behind each row, and whether it came to an end."""
        import torch

        ids, mask = self._padded(rows)
        room = (self._context or 2**31) - ids.shape[1]
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=min(self.max_tokens, room),
                do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None, pad_token_id=self._padding,
            )[:, ids.shape[1] :]  # fmt: skip
        self.usage.add(prompt_tokens=int(mask.sum()), completion_tokens=int((out != self._padding).sum()))
        ends = torch.tensor(self._ends, device=out.device)
        texts = self.tokenizer.batch_decode(out, skip_special_tokens=True)
        return list(zip(texts, torch.isin(out, ends).any(1).tolist(), strict=True))

    def _weighed(self, rows: list[list[int]], answers: list[list[int]]) -> Array:
        """float64 [n, K]: rows that share all but their last token are one forward pass."""
        import torch

        result = np.zeros((len(rows), len(answers)))
        starts: dict[tuple[int, ...], list[int]] = {}
        for k, answer in enumerate(answers):
            starts.setdefault(tuple(answer[:-1]), []).append(k)
        for start, members in starts.items():
            if not rows:
                break
            ids, mask = self._padded([ids + list(start) for ids in rows])
            with torch.inference_mode():
                positions = (mask.cumsum(-1) - 1).clamp(min=0)
                logits = self.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
                log_p = logits[:, -len(start) - 1 :].double().log_softmax(-1).cpu()
            self.usage.add(prompt_tokens=int(mask.sum()))
            for k in members:
                token = torch.tensor(answers[k])
                result[:, k] = log_p.gather(2, token.expand(len(rows), -1)[..., None])[..., 0].sum(1).exp().numpy()
        return result

    def _tokens(self, prompt: Prompt) -> list[int]:
        """The prompt as the model reads it, up to where its own turn begins."""
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
        turns = [turn | {"content": self._without_control(turn["content"])} for turn in turns]
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(self.tokenizer("\n\n".join(turn["content"] for turn in turns) + "\n\n")["input_ids"])

    def _without_control(self, text: Any) -> str:
        if not isinstance(text, str):
            raise SteelyardError(f"judge {self.name!r} reads text only; a message holds {type(text).__name__}")
        while (broken := self._control.sub(lambda found: f"{found[0][0]}\u200b{found[0][1:]}", text)) != text:
            text = broken
        return text

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """What the tokenizer reads as one token of its own; runs of blanks are no control."""
        special = {*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}
        known = sorted((token for token in special if len(token.strip()) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, known)) or r"(?!)")

    @property
    def _padding(self) -> int:
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return int(next(token for token in known if token is not None))

    @property
    def _ends(self) -> list[int]:
        said = getattr(self.model.generation_config, "eos_token_id", None)
        return [self.tokenizer.eos_token_id] if said is None else said if isinstance(said, list) else [said]

    @property
    def _context(self) -> int | None:
        size = getattr(self.model.config, "max_position_embeddings", None)
        return size if isinstance(size, int) and size > 0 else None

    def _fits(self, ids: list[int], room: int) -> bool:
        fits = bool(ids) and (self._context is None or len(ids) + room <= self._context)
        if not fits:
            self.usage.failed("too long" if ids else "empty prompt")
        return fits

    def _padded(self, rows: list[list[int]]) -> tuple[Any, Any]:
        import torch

        width = max(map(len, rows))
        ids = torch.tensor([[self._padding] * (width - len(row)) + row for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        return ids, mask
