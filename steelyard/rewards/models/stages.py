"""Stage-aware reward models (SARM, sheet 37): which stage a frame is in, and how far into it, from windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, pad
from transformers import PretrainedConfig, PreTrainedModel

from steelyard.rewards.progress import breakpoints_of
from steelyard.types import Array, SteelyardError


class Windows(NamedTuple):
    """What a stage model reads of B windows of T frames.

    Attributes:
        frames: embeddings of N cameras [B, N, T, F], N may be 0.
        text: embedding of the task's words [B, E], E may be 0.
        state: joints and whatever else is measured [B, T, S], S may be 0.
        lengths: int64 [B], how many of the T frames are there.
    """

    frames: Tensor
    text: Tensor
    state: Tensor
    lengths: Tensor


class StageConfig(PretrainedConfig):
    """Sizes of a stage model, and the priors of its stages.

    Args:
        priors: annotation scheme to ᾱ [K]: coarse and fine stages are learned jointly, each by a head of its own.
        cameras, frame_width, text_width, state_width: N, F, E, S of `Windows`.
        width, layers, heads, dropout: of each of the two transformers; the paper's are 768, 8, 12 and 0.1.
    """

    model_type = "steelyard_stages"

    def __init__(
        self,
        priors: Mapping[str, Sequence[float]] | None = None,
        cameras: int = 1,
        frame_width: int = 512,
        text_width: int = 512,
        state_width: int = 0,
        width: int = 768,
        layers: int = 8,
        heads: int = 12,
        dropout: float = 0.1,
        **others: Any,
    ) -> None:
        self.priors = {name: [float(share) for share in shares] for name, shares in (priors or {"task": [1.0]}).items()}
        self.cameras, self.frame_width = cameras, frame_width
        self.text_width, self.state_width = text_width, state_width
        self.width, self.layers, self.heads, self.dropout = width, layers, heads, dropout
        super().__init__(**others)

    def breakpoints(self, scheme: str) -> Array:
        """P_0 … P_K of a scheme.

        Raises:
            SteelyardError: for a scheme that the model has not.
        """
        if scheme not in self.priors:
            raise SteelyardError(f"the model has no stages {scheme!r}; it has {', '.join(self.priors)}")
        return breakpoints_of(self.priors[scheme])

    def count(self, scheme: str) -> int:
        """K of a scheme."""
        return len(self.breakpoints(scheme)) - 1


class _Tower(nn.Module):
    """Windows to features [B, T, width]: a causal transformer over one token a frame.

    A token is the sum of linear maps of the frame's embeddings, the task's words and the state. Only the first one gets
    a position, so that no absolute time leaks.
    """

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        c = config
        sizes = {"frames": c.cameras * c.frame_width, "text": c.text_width, "state": c.state_width}
        self.inputs = nn.ModuleDict({name: nn.Linear(size, c.width) for name, size in sizes.items() if size})
        self.first = nn.Parameter(torch.zeros(c.width))
        layer = nn.TransformerEncoderLayer(
            c.width, c.heads, 4 * c.width, c.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(c.width)

    def forward(self, windows: Windows, condition: Tensor | None = None) -> Tensor:
        seen = {"frames": windows.frames.transpose(1, 2).flatten(2), "text": windows.text[:, None]}
        seen["state"] = windows.state
        token = sum((layer(seen[name]) for name, layer in self.inputs.items()), self.first.new_zeros(()))
        token = token.expand(-1, windows.state.shape[1], -1)
        token = torch.cat([token[:, :1] + self.first, token[:, 1:]], dim=1)
        if condition is not None:
            token = token + pad(condition, (0, token.shape[-1] - condition.shape[-1]))
        steps = token.shape[1]
        later = torch.ones(steps, steps, dtype=torch.bool, device=token.device).triu(1)
        absent = torch.arange(steps, device=token.device) >= windows.lengths[:, None]
        return self.norm(self.layers(token, mask=later, src_key_padding_mask=absent))


def _mlp(config: StageConfig) -> nn.Module:
    width, inputs = config.width, config.cameras * config.frame_width + config.text_width + config.state_width
    condition = max(len(shares) for shares in config.priors.values())
    return nn.Sequential(nn.Linear(inputs + condition, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


class _Frames(nn.Module):
    """The same from each frame alone: a network of two hidden layers."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.condition = max(len(shares) for shares in config.priors.values())
        self.body = _mlp(config)

    def forward(self, windows: Windows, condition: Tensor | None = None) -> Tensor:
        seen = windows.frames.transpose(1, 2).flatten(2)
        text = windows.text[:, None].expand(-1, seen.shape[1], -1)
        told = seen.new_zeros(*seen.shape[:2], self.condition)
        if condition is not None:
            told = pad(condition, (0, self.condition - condition.shape[-1]))
        return self.body(torch.cat([seen, text, windows.state, told], dim=-1))


class _StageModel(PreTrainedModel):
    """Two bodies, one for the stage and one for τ, with a head for every scheme."""

    config_class = StageConfig
    body: type[nn.Module]

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self.where, self.how_far = self.body(config), self.body(config)
        self.stage = nn.ModuleDict({name: nn.Linear(config.width, config.count(name)) for name in config.priors})
        self.tau = nn.ModuleDict({name: nn.Linear(config.width, 1) for name in config.priors})
        self.register_buffer("centre", torch.zeros(config.state_width))
        self.register_buffer("scale", torch.ones(config.state_width))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own."""

    def standardise(self, state: Array) -> None:
        """Take centre and scale of the state from [n, S]; what never changes keeps scale 1."""
        deviation = np.std(state, axis=0)
        self.centre.copy_(torch.as_tensor(np.mean(state, axis=0)))
        self.scale.copy_(torch.as_tensor(np.where(deviation > 1e-6, deviation, 1.0)))

    def _seen(self, windows: Windows) -> Windows:
        return windows._replace(state=(windows.state - self.centre) / self.scale)

    def stage_logits(self, windows: Windows, scheme: str) -> Tensor:
        """[B, T, K]."""
        return self.stage[scheme](self.where(self._seen(windows)))

    def within(self, windows: Windows, stage: Tensor, scheme: str) -> Tensor:
        """τ̂ [B, T] in (0, 1), given the stage int64 [B, T] as a one-hot, zero-padded."""
        told = one_hot(stage, self.config.count(scheme)).to(windows.state.dtype)
        return self.tau[scheme](self.how_far(self._seen(windows), told))[..., 0].sigmoid()


class StageTransformer(_StageModel):
    """SARM's model: two causal transformers. 8 layers of width 768 each as in the paper, or any `StageConfig`."""

    body = _Tower


class StageFrames(_StageModel):
    """The bench-top model: two small networks that see one frame at a time."""

    body = _Frames


StageModel = StageTransformer | StageFrames


def load_stage_model(folder: str | Path) -> StageModel:
    """The model of a folder that `save_pretrained` wrote.

    Raises:
        SteelyardError: if it cannot be read, or holds another model.
    """
    classes = {each.__name__: each for each in (StageTransformer, StageFrames)}
    try:
        config = StageConfig.from_pretrained(folder)
        name = (config.architectures or ["none"])[0]
        if name in classes:
            return classes[name].from_pretrained(folder).eval()
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise SteelyardError(f"{folder} cannot be loaded as a stage model: {said}") from None
    raise SteelyardError(f"{folder} holds the architecture {name}; a stage model is one of {', '.join(classes)}")


def stage_losses(
    model: StageModel, windows: Windows, stage: Tensor, tau: Tensor, *, scheme: str, truth: float = 0.5
) -> Tensor:
    """Cross-entropy of the stage plus squared error of τ, [B]: means over the frames that are there.

    Args:
        stage: int64 [B, T]. tau: float32 [B, T].
        truth: how often the regressor is told the true stage of a window, not the likeliest one (authors 0.5, port
            0.75); drawn by torch's generator.
    """
    logits = model.stage_logits(windows, scheme)
    told = torch.rand(len(stage), 1, device=logits.device) < truth
    found = model.within(windows, torch.where(told, stage, logits.argmax(-1)), scheme)
    each = cross_entropy(logits.transpose(1, 2), stage, reduction="none") + (found - tau).square()
    there = torch.arange(stage.shape[1], device=logits.device) < windows.lengths[:, None]
    return torch.where(there, each, 0.0).sum(1) / windows.lengths


@dataclass(frozen=True)
class Progress:
    """What a model says of frames: the stage's probabilities [B, T, K], τ̂ of the likeliest one, progress in [0, 1]."""

    probabilities: Array
    tau: Array
    progress: Array

    @property
    def confidence(self) -> Array:
        """[B, T]: the likeliest stage's probability."""
        most: Array = self.probabilities.max(axis=-1)
        return most


def predict(model: StageModel, windows: Windows, *, scheme: str) -> Progress:
    """Progress = P_k + ᾱ_k τ̂ with k the likeliest stage; no gradient, no dropout."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            probabilities = model.stage_logits(windows, scheme).softmax(-1)
            stage = probabilities.argmax(-1)
            tau = model.within(windows, stage, scheme)
    finally:
        model.train(training)
    k, far, edges = stage.cpu().numpy(), tau.cpu().numpy(), model.config.breakpoints(scheme)
    return Progress(probabilities.cpu().numpy(), far, edges[k] + np.diff(edges)[k] * far)
