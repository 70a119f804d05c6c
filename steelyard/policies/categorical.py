"""A bench-top policy: a small network that reads an observation and writes a few tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from steelyard.policies.certainty import CERTAINTIES
from steelyard.policies.copies import Copies
from steelyard.types import Actions, Array, Rollouts, Sample, SteelyardError, Streams, check_attempts, streams


class CategoricalNet(nn.Module):
    """Observation [B, D] and the tokens before [B, t] to logits over the t-th vocabulary.

    h = MLP(observation); logits_t = W_t tanh(h_t(h) + Σ_{s<t} E_s[token_s]).
    """

    def __init__(self, observation: int, vocabularies: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(observation, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.before = nn.ModuleList(nn.Embedding(size, hidden) for size in vocabularies)
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in vocabularies)
        self.heads = nn.ModuleList(nn.Linear(hidden, size) for size in vocabularies)

    def logits(self, encoded: Tensor, tokens: Tensor, step: int) -> Tensor:
        """[B, V_step] from encoded observations [B, H] and tokens [B, ≥ step]."""
        state = self.hidden[step](encoded)
        for earlier in range(step):
            state = state + self.before[earlier](tokens[:, earlier])
        return self.heads[step](torch.tanh(state))


class TabularNet(nn.Module):
    """A softmax of its own for every prompt and step: logits_t = W_t[prompt], uniform at first.

    An observation is the prompt's number, float32 [B, 1].

    Args:
        prompts: how many there are.
        vocabularies: the number of words of every step.
    """

    def __init__(self, prompts: int, vocabularies: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(prompts, size)) for size in vocabularies)

    def encoder(self, observation: Tensor) -> Tensor:
        """int64 [B]: the prompts' numbers."""
        return observation[:, 0].long()

    def logits(self, encoded: Tensor, tokens: Tensor, step: int) -> Tensor:
        """[B, V_step]; what was said before changes nothing."""
        return self.tables[step][encoded]


class LinearNet(nn.Module):
    """A log-linear policy of one step over candidates with features: π(r | prompt) ∝ exp(θ·φ[prompt, r]).

    Args:
        features: φ, float32 [P, R, d]; an observation is the prompt's number, float32 [B, 1].
        start: θ at first [d]; 0 if left out, which is uniform.
    """

    def __init__(self, features: Array, start: Array | None = None) -> None:
        super().__init__()
        self.register_buffer("features", torch.as_tensor(features, dtype=torch.float32))
        width = self.features.shape[-1]
        self.theta = nn.Parameter(torch.zeros(width) if start is None else torch.as_tensor(start, dtype=torch.float32))

    def encoder(self, observation: Tensor) -> Tensor:
        """float32 [B, R, d]: the candidates' features."""
        return self.features[observation[:, 0].long()]

    def logits(self, encoded: Tensor, tokens: Tensor, step: int) -> Tensor:
        """[B, R]."""
        return encoded @ self.theta


Net = CategoricalNet | TabularNet | LinearNet


class CategoricalPolicy:
    """A policy of a fixed number of steps, each over its own words.

    Args:
        module: the network, or a table.
        vocabularies: the words of every step.
        observe: sample to observation, float32 [D].
        render: the chosen words to a completion; read: a completion back to its words.
    """

    def __init__(
        self,
        module: Net,
        vocabularies: Sequence[Sequence[str]],
        *,
        observe: Callable[[Sample], Array],
        render: Callable[[Sequence[str]], str],
        read: Callable[[str], Sequence[str]],
    ) -> None:
        self.module, self.vocabularies = module, [list(words) for words in vocabularies]
        self.observe, self.render, self.read = observe, render, read
        self.copies = Copies()

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n attempts for each sample; see `types.Policy`.

        Raises:
            SteelyardError: for no samples or no attempts.
        """
        check_attempts(samples, n)
        steps = len(self.vocabularies)
        uniforms = np.concatenate([child.random((n, steps)) for child in streams(generator, len(samples))])
        with torch.inference_mode():
            encoded = self._encode(self.module, samples).repeat_interleave(n, 0)
            tokens = torch.zeros(len(encoded), steps, dtype=torch.long)
            logprobs = torch.zeros(len(encoded), steps)
            for step in range(steps):
                log_p = self.module.logits(encoded, tokens, step).log_softmax(-1)
                tokens[:, step] = log_p.argmax(-1) if greedy else _inverse_cdf(log_p, uniforms[:, step])
                logprobs[:, step] = log_p.gather(1, tokens[:, step, None])[:, 0]
        rows = [sample for sample in samples for _ in range(n)]
        return self._rollouts(rows, tokens.numpy(), logprobs.numpy(), np.repeat(np.arange(len(samples)), n))

    def encode(self, samples: Sequence[Sample], completions: Sequence[str]) -> Rollouts:
        """The rollouts that would have given these completions (log-probabilities 0), for supervised training.

        Raises:
            SteelyardError: for a word that the policy cannot say.
        """
        words = [self.read(text) for text in completions]
        try:
            tokens = [[v.index(word) for v, word in zip(self.vocabularies, row, strict=True)] for row in words]
        except ValueError as error:
            raise SteelyardError(f"a completion holds a word that this policy cannot say: {error}") from None
        array = np.asarray(tokens, np.int64)
        return self._rollouts(list(samples), array, np.zeros(array.shape, np.float32), np.arange(len(array)))

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """Tensor [N, T]; see `types.Policy`.

        Raises:
            SteelyardError: for a copy that was not made, or rollouts without tokens.
        """
        module = self.module if copy is None else self.copies[copy]
        with torch.set_grad_enabled(copy is None and torch.is_grad_enabled()):
            tokens, logits = self._again(module, rollouts)
            steps = [step.log_softmax(-1) for step in logits]
            return torch.stack([s.gather(1, tokens[:, t, None])[:, 0] for t, s in enumerate(steps)], dim=1)

    def certainty(self, rollouts: Rollouts, kind: str) -> Array:
        """float32 [N, T]: a figure of the distribution that every word was drawn from, without gradient.

        Args:
            rollouts: from `sample` or `encode`.
            kind: a name of `policies.certainty.CERTAINTIES`.
        """
        with torch.no_grad():
            _, logits = self._again(self.module, rollouts)
            return torch.stack([CERTAINTIES[kind](step) for step in logits], dim=1).numpy()

    def _again(self, module: Net, rollouts: Rollouts) -> tuple[Tensor, list[Tensor]]:
        """The words that were chosen [N, T], and the logits [N, V_t] of every step; each sample is encoded once.

        Raises:
            SteelyardError: for rollouts without tokens.
        """
        if rollouts.actions is None or "tokens" not in rollouts.actions.data:
            raise SteelyardError("these rollouts hold no tokens; score rollouts that `sample` or `encode` returned")
        distinct = {id(sample): sample for sample in rollouts.samples}
        position = {key: i for i, key in enumerate(distinct)}
        index = torch.tensor([position[id(sample)] for sample in rollouts.samples])
        tokens = torch.from_numpy(rollouts.actions.data["tokens"])
        encoded = self._encode(module, list(distinct.values()))[index]
        return tokens, [module.logits(encoded, tokens, t) for t in range(tokens.shape[1])]

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now."""
        self.copies.keep(name, self.module)

    def _encode(self, module: Net, samples: Sequence[Sample]) -> Tensor:
        return module.encoder(torch.from_numpy(np.stack([self.observe(sample) for sample in samples])))

    def _rollouts(self, samples: list[Sample], tokens: Array, logprobs: Array, group: Array) -> Rollouts:
        texts = [self.render([v[t] for v, t in zip(self.vocabularies, row, strict=True)]) for row in tokens]
        actions = Actions(logprobs, np.ones(tokens.shape, bool), {"tokens": tokens})
        return Rollouts(samples, texts, group=group, actions=actions)


_ANSWER = re.compile(r"<answer>(\d+)</answer>")


def in_tags(words: Sequence[str]) -> str:
    """The first word, a number, as a completion's answer."""
    return f"<answer>{words[0]}</answer>"


def from_tags(completion: str) -> Sequence[str]:
    """A completion back to its answer.

    Raises:
        SteelyardError: for a completion of another form.
    """
    found = _ANSWER.fullmatch(completion)
    if found is None:
        raise SteelyardError(f"{completion!r:.80} is not of the form {in_tags(('0',))}")
    return found.groups()


def numbered(sample: Sample) -> Array:
    """The observation of a policy that knows prompts by their number: the column `prompt`, float32 [1]."""
    return np.asarray([sample.columns["prompt"]], np.float32)


def choosing(module: Net, answers: Sequence[str]) -> CategoricalPolicy:
    """A policy of one step that picks one of these answers; it knows prompts by number."""
    return CategoricalPolicy(module, [answers], observe=numbered, render="".join, read=lambda text: [text])


def chances(policy: CategoricalPolicy, prompts: Sequence[int]) -> Array:
    """The exact probabilities of every first word [P, V], float64, for prompts by number."""
    with torch.no_grad():
        encoded = policy.module.encoder(torch.as_tensor(list(prompts), dtype=torch.float32)[:, None])
        logits = policy.module.logits(encoded, torch.zeros(len(encoded), 1), 0)
    return logits.double().softmax(-1).numpy()


def _inverse_cdf(log_p: Tensor, uniforms: Array) -> Tensor:
    cumulative = log_p.double().exp().cumsum(-1)
    drawn = torch.searchsorted(cumulative, torch.from_numpy(uniforms)[:, None] * cumulative[:, -1:], right=True)
    return drawn[:, 0].clamp(max=log_p.shape[1] - 1)
