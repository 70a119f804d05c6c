"""A bench-top policy that writes texts of any length: a gated recurrent unit that sees an observation at every word."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.copies import Copies
from steelyard.policies.sampling import draw_uniforms, inverse_cdf
from steelyard.types import Actions, Array, Rollouts, Sample, SteelyardError, Streams, check_attempts, streams


class RecurrentNet(nn.Module):
    """h_t = GRU(h_{t−1}, [E[token_{t−1}], W_o o]), logits_t = W h_t; token 0 ends a text and begins it.

    Args:
        observation: D; tokens: V, the end included; hidden: units.
    """

    def __init__(self, observation: int, tokens: int, hidden: int = 96) -> None:
        super().__init__()
        self.embed, self.observe = nn.Embedding(tokens, 32), nn.Linear(observation, hidden)
        self.cell = nn.GRU(32 + hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, tokens)

    def forward(self, seen: Tensor, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, T, V] of the tokens that follow `tokens` [B, T], and the state after them; `seen` [B, H]."""
        inner = torch.cat([self.embed(tokens), seen[:, None].expand(-1, tokens.shape[1], -1)], dim=-1)
        out, state = self.cell(inner, state)
        return self.head(out), state


class RecurrentPolicy:
    """Writes words one by one until it ends the text or has written `longest`.

    Args:
        module: the network; its tokens are the end and the words.
        words: what it can say.
        observe: sample to observation, float32 [D].
        longest: the most words of a completion.
    """

    def __init__(
        self, module: RecurrentNet, words: Sequence[str], *, observe: Callable[[Sample], Array], longest: int
    ) -> None:
        self.module, self.words, self.observe, self.longest = module, list(words), observe, longest
        self.copies = Copies()

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; see `types.Policy`.

        Raises:
            SteelyardError: for no samples or no attempts.
        """
        check_attempts(samples, n)
        uniforms = torch.from_numpy(draw_uniforms(streams(generator, len(samples)), n, self.longest))
        with torch.inference_mode():
            seen = self._seen(self.module, samples).repeat_interleave(n, 0)
            tokens = torch.zeros(len(seen), self.longest, dtype=torch.long)
            logprobs = torch.zeros(len(seen), self.longest)
            mask = torch.zeros(tokens.shape, dtype=torch.bool)
            last, live, state = tokens[:, :1], torch.ones(len(seen), dtype=torch.bool), None
            for t in range(self.longest):
                logits, state = self.module(seen, last, state)
                log_p = logits[:, 0].log_softmax(-1)
                token = log_p.argmax(-1) if greedy else inverse_cdf(log_p.exp(), uniforms[:, t])
                mask[:, t], tokens[:, t] = live, torch.where(live, token, 0)
                logprobs[:, t] = torch.where(live, log_p.gather(1, token[:, None])[:, 0], 0.0)
                live, last = live & (token > 0), tokens[:, t, None]
        rows = [sample for sample in samples for _ in range(n)]
        texts = [" ".join(self.words[t - 1] for t in row if t > 0) for row in tokens.tolist()]
        actions = Actions(logprobs.numpy(), mask.numpy(), {"tokens": tokens.numpy()})
        return Rollouts(rows, texts, group=np.repeat(np.arange(len(samples)), n), actions=actions)

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """Tensor [N, T]; see `types.Policy`.

        Raises:
            SteelyardError: for a copy that was not made, or rollouts without tokens.
        """
        if rollouts.actions is None or "tokens" not in rollouts.actions.data:
            raise SteelyardError("these rollouts hold no tokens; score rollouts that `sample` returned")
        module = self.module if copy is None else self.copies[copy]
        tokens = torch.from_numpy(rollouts.actions.data["tokens"])
        before = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.long), tokens[:, :-1]], dim=1)
        with torch.set_grad_enabled(copy is None and torch.is_grad_enabled()):
            logits, _ = module(self._seen(module, rollouts.samples), before)
            return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now."""
        self.copies.keep(name, self.module)

    def _seen(self, module: RecurrentNet, samples: Sequence[Sample]) -> Tensor:
        return module.observe(torch.from_numpy(np.stack([self.observe(sample) for sample in samples])))
