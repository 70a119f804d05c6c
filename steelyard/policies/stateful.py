"""A bench-top policy that acts step by step: a softmax over a few actions for every state it can be in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from steelyard.policies.categorical import TabularNet
from steelyard.policies.copies import Copies
from steelyard.policies.sampling import inverse_cdf
from steelyard.types import Actions, Array, Rollouts, Sample, SteelyardError, Streams, check_attempts, streams


class StatePolicy:
    """One action a call, drawn from the softmax of the state that a sample and its prefix are in.

    Args:
        states: how many there are; actions: how many in each.
        state: a sample (its prefix included) to the number of its state.
        write: a sample and an action's number to what it is as a text.
    """

    def __init__(
        self, states: int, actions: int, *, state: Callable[[Sample], int], write: Callable[[Sample, int], str]
    ) -> None:
        self.module = TabularNet(states, [actions])
        self.state, self.write = state, write
        self.copies = Copies()

    def sample(self, samples: Sequence[Sample], n: int, *, generator: Streams, greedy: bool = False) -> Rollouts:
        """n actions for each sample; see `types.Policy`.

        Raises:
            SteelyardError: for no samples or no attempts.
        """
        check_attempts(samples, n)
        uniforms = np.concatenate([child.random(n) for child in streams(generator, len(samples))])
        states = np.repeat([self.state(sample) for sample in samples], n)
        with torch.inference_mode():
            log_p = self._log_p(self.module, torch.from_numpy(states))
            tokens = log_p.argmax(-1) if greedy else inverse_cdf(log_p.double().exp(), torch.from_numpy(uniforms))
            logprobs = log_p.gather(1, tokens[:, None]).numpy()
        rows = [sample for sample in samples for _ in range(n)]
        texts = [self.write(sample, int(token)) for sample, token in zip(rows, tokens, strict=True)]
        data = {"tokens": tokens[:, None].numpy(), "state": states[:, None]}
        actions = Actions(logprobs, np.ones(logprobs.shape, bool), data)
        return Rollouts(rows, texts, group=np.repeat(np.arange(len(samples)), n), actions=actions)

    def read(self, texts: Sequence[str]) -> Actions:
        """What somebody else wrote is part of the state, and no action: nothing [N, 0]."""
        nothing = np.zeros((len(texts), 0), np.int64)
        return Actions(nothing, nothing, {"tokens": nothing, "state": nothing})

    def logprobs(self, rollouts: Rollouts, *, copy: str | None = None) -> Tensor:
        """Tensor [N, T]; see `types.Policy`.

        Raises:
            SteelyardError: for a copy that was not made, or rollouts without states.
        """
        if rollouts.actions is None or not {"tokens", "state"} <= set(rollouts.actions.data):
            raise SteelyardError("these rollouts hold no states; score rollouts that `sample` returned")
        data = {name: torch.from_numpy(array).long() for name, array in rollouts.actions.data.items()}
        with torch.set_grad_enabled(copy is None and torch.is_grad_enabled()):
            log_p = self._log_p(self.module if copy is None else self.copies[copy], data["state"])
            return log_p.gather(-1, data["tokens"][..., None])[..., 0]

    def snapshot(self, name: str) -> None:
        """Keep a frozen copy of the policy as it is now."""
        self.copies.keep(name, self.module)

    def chances(self) -> Array:
        """float64 [S, A]: how likely each action is in each state."""
        with torch.no_grad():
            found: Array = self.module.tables[0].double().softmax(-1).numpy()
        return found

    @staticmethod
    def _log_p(module: TabularNet, states: Tensor) -> Tensor:
        return module.tables[0][states].log_softmax(-1)
