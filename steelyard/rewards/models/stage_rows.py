"""Episodes as rows that a stage model learns from and says the progress of: windows, rewinding, irrelevant words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from steelyard.rewards.core import BatchReward
from steelyard.rewards.models.stages import StageModel, Windows, predict, stage_losses
from steelyard.rewards.progress import Stage, causal_window, centred_window, rewound, stage_and_tau
from steelyard.types import Array, Rollouts, Scores, Status, SteelyardError


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode as a stage model sees it, and what was annotated.

    Attributes:
        state: float32 [T, S]. frames: embeddings [T, N, F], or None. text: embedding [E], or None.
        stages: scheme to annotated stages; a scheme that is absent was not annotated.
    """

    state: Array
    frames: Array | None = None
    text: Array | None = None
    stages: Mapping[str, Sequence[Stage]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.state)


class Window(Protocol):
    """Which frames are looked at to judge one."""

    def __call__(self, frame: Array, start: Array, end: Array) -> Array:
        """int64 [b, W] indices for frames [b] of episodes that go from `start` to before `end`."""
        ...

    @property
    def place(self) -> int:
        """Where in the window the judged frame stands."""
        ...

    @property
    def gap(self) -> int:
        """Frames between two."""
        ...


@dataclass(frozen=True)
class Centred:
    """`frames` + 1 around the judged one, as in the port: it looks ahead, so it is for relabelling only."""

    frames: int = 8
    gap: int = 30

    def __call__(self, frame: Array, start: Array, end: Array) -> Array:
        """See `progress.centred_window`."""
        return centred_window(frame, start=start, end=end, frames=self.frames, gap=self.gap)[0]

    @property
    def place(self) -> int:
        """The middle."""
        return self.frames // 2


@dataclass(frozen=True)
class Causal:
    """The episode's first frame and `frames` that end at the judged one, as in the authors' code."""

    frames: int = 8
    gap: int = 30

    def __call__(self, frame: Array, start: Array, end: Array) -> Array:
        """See `progress.causal_window`."""
        return causal_window(frame, start=start, frames=self.frames, gap=self.gap)

    @property
    def place(self) -> int:
        """The end."""
        return self.frames


class StageRows:
    """Every frame of every episode as a row: what `learn.cloning.RowTrainer` trains a stage model on.

    Args:
        model: its config names the schemes; an episode without annotation of one is left out of that one's loss.
        episodes: whole and without errors (see `progress.complete`).
        orders: scheme to the names of its stages.
        window: `Centred` or `Causal`.
        rewind: how often earlier frames are appended, backwards and with their own labels; most: how many at most.
        irrelevant: embeddings [M, E] of other tasks' words; wrong: how often a row gets one of them and target 0.
        truth: see `stage_losses`.

    Raises:
        SteelyardError: if there is no episode, one lacks all schemes, or orders and priors differ in length.
    """

    def __init__(
        self,
        model: StageModel,
        episodes: Sequence[Episode],
        orders: Mapping[str, Sequence[str]],
        *,
        window: Window,
        rewind: float = 0.8,
        most: int = 4,
        irrelevant: Array | None = None,
        wrong: float = 0.2,
        truth: float = 0.5,
    ) -> None:
        for scheme, order in orders.items():
            if model.config.count(scheme) != len(order):
                raise SteelyardError(f"{scheme!r} has {len(order)} stages and {model.config.count(scheme)} priors")
        self.module, self.window, self.orders = model, window, orders
        self.rewind, self.most, self.truth = rewind, most if rewind > 0 else 0, truth
        self.irrelevant, self.wrong = irrelevant, wrong if irrelevant is not None else 0.0
        self.frames = EpisodeFrames(model, episodes)
        self.labels = {scheme: _labels(episodes, scheme, order) for scheme, order in orders.items()}

    def __repr__(self) -> str:
        options = f"rewind={self.rewind:g}, wrong={self.wrong:g}, truth={self.truth:g}"
        return f"StageRows({type(self.module).__name__}, {self.window}, {options})"

    def __len__(self) -> int:
        return len(self.frames.start)

    def losses(self, rows: Array) -> Tensor:
        """[b], the sum over the schemes that a row's episode has."""
        generator = np.random.default_rng(int(torch.randint(2**62, ()).item()))
        index, lengths = self._indices(np.asarray(rows), generator)
        windows = self.frames.windows(index, lengths)
        off = generator.random(len(rows)) < self.wrong
        if off.any():
            assert self.irrelevant is not None
            text = torch.as_tensor(self.irrelevant[generator.integers(len(self.irrelevant), size=int(off.sum()))])
            windows.text[torch.as_tensor(off)] = text.to(windows.text)
        total = torch.zeros(len(rows), device=windows.state.device)
        for scheme, (stage, tau) in self.labels.items():
            known = stage[index[:, 0]] >= 0
            k = np.where(off[:, None] | ~known[:, None], 0, stage[index])
            far = np.where(off[:, None], 0.0, tau[index]).astype(np.float32)
            targets = [torch.as_tensor(array, device=total.device) for array in (k, far, known)]
            each = stage_losses(self.module, windows, targets[0], targets[1], scheme=scheme, truth=self.truth)
            total = total + torch.where(targets[2], each, 0.0)
        return total

    def _indices(self, rows: Array, generator: np.random.Generator) -> tuple[Array, Array]:
        """Windows [b, W + most] and how many of each row are there; rewound frames stand behind the window."""
        seen = self.window(rows, self.frames.start[rows], self.frames.end[rows])
        index = np.concatenate([seen, np.repeat(seen[:, -1:], self.most, axis=1)], axis=1)
        lengths = np.full(len(rows), seen.shape[1])
        for i in np.flatnonzero(generator.random(len(rows)) < self.rewind if self.most else []):
            steps = int(generator.integers(1, self.most + 1))
            earliest = int(seen[i, 1 if isinstance(self.window, Causal) else 0])
            back = rewound(earliest, start=int(self.frames.start[rows[i]]), steps=steps, gap=self.window.gap)
            index[i, seen.shape[1] : seen.shape[1] + len(back)] = back
            lengths[i] += len(back)
        return index, lengths


class EpisodeFrames:
    """All frames of some episodes, one behind the other, on the model's device.

    Raises:
        SteelyardError: naming the first episode whose arrays do not have the model's widths.
    """

    def __init__(self, model: StageModel, episodes: Sequence[Episode]) -> None:
        if not episodes or not all(len(episode) for episode in episodes):
            raise SteelyardError("a stage model needs at least one episode, and each at least one frame")
        c, device = model.config, next(model.parameters()).device
        shapes = {"frames": (c.cameras, c.frame_width), "text": (c.text_width,), "state": (c.state_width,)}
        for i, episode in enumerate(episodes):
            for name, shape in shapes.items():
                _check(i, name, getattr(episode, name), shape if name == "text" else (len(episode), *shape))
        lengths = np.asarray([len(episode) for episode in episodes])
        ends = np.cumsum(lengths)
        self.start, self.end = np.repeat(ends - lengths, lengths), np.repeat(ends, lengths)
        self.episode = np.repeat(np.arange(len(episodes)), lengths)
        self.state = torch.as_tensor(np.concatenate([e.state for e in episodes]).astype(np.float32), device=device)
        frames = [np.zeros((len(e), *shapes["frames"])) if e.frames is None else e.frames for e in episodes]
        self.frames = torch.as_tensor(np.concatenate(frames).astype(np.float32), device=device)
        texts = [np.zeros(shapes["text"]) if e.text is None else e.text for e in episodes]
        self.text = torch.as_tensor(np.stack(texts).astype(np.float32), device=device)

    def windows(self, index: Array, lengths: Array) -> Windows:
        """The given frames [b, T], with the words of the episode that they belong to."""
        device = self.state.device
        at = torch.as_tensor(index, device=device)
        text = self.text[torch.as_tensor(self.episode[index[:, 0]], device=device)]
        there = torch.as_tensor(lengths, device=device)
        return Windows(self.frames[at].transpose(1, 2), text, self.state[at], there)


def _check(i: int, name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    if array is None and 0 in shape:
        return
    found = None if array is None else np.shape(array)
    if found != shape:
        raise SteelyardError(f"episode {i} has {name} of shape {found}; the model reads {shape}")


def _labels(episodes: Sequence[Episode], scheme: str, order: Sequence[str]) -> tuple[Array, Array]:
    """Stage and τ of every frame; stage −1 where the episode was not annotated."""
    found = []
    for episode in episodes:
        stages, frames = episode.stages.get(scheme), np.arange(len(episode))
        k, tau = stage_and_tau(frames, stages, order, length=len(episode))
        found.append((k if stages or len(order) == 1 else np.full_like(k, -1), tau))
    return np.concatenate([k for k, _ in found]), np.concatenate([tau for _, tau in found])


def episode_progress(
    model: StageModel, episodes: Sequence[Episode], *, window: Window, scheme: str, at_once: int = 1024
) -> list[tuple[Array, Array]]:
    """Progress [T] of every frame of each episode, and the stage's confidence [T]."""
    frames = EpisodeFrames(model, episodes)
    rows, found = np.arange(len(frames.start)), []
    for i in range(0, len(rows), at_once):
        part = rows[i : i + at_once]
        index = window(part, frames.start[part], frames.end[part])
        said = predict(model, frames.windows(index, np.full(len(part), index.shape[1])), scheme=scheme)
        found.append((said.progress[:, window.place], said.confidence[:, window.place]))
    progress, confidence = (np.concatenate(each) for each in zip(*found, strict=True))
    cuts = np.flatnonzero(np.diff(frames.episode)) + 1
    return list(zip(np.split(progress, cuts), np.split(confidence, cuts), strict=True))


def progress_reward(
    model: StageModel, *, window: Window, scheme: str, episode: Callable[[Any, Any], Episode]
) -> BatchReward:
    """A trajectory's progress at its end as its score, and what each step gained as its steps.

    steps_t = φ_{t+1} − φ_t, so that they add up to φ_T − φ_0; NaN behind a shorter trajectory's end. The confidence is
    that of the last frame's stage. Acting, take a `Causal` window: a `Centred` one looks ahead.

    Args:
        episode: a row's sample and completion to what the model sees.
    """

    def score(rollouts: Rollouts) -> Scores:
        episodes = [episode(sample, c) for sample, c in zip(rollouts.samples, rollouts.completions, strict=True)]
        found = episode_progress(model, episodes, window=window, scheme=scheme)
        steps = np.full((len(found), max(len(progress) for progress, _ in found) - 1), np.nan, np.float32)
        for row, (progress, _) in zip(steps, found, strict=True):
            row[: len(progress) - 1] = np.diff(progress)
        ends, sure = ([each[i][-1] for each in found] for i in (0, 1))
        values = np.asarray(ends, np.float32)
        status = np.where(np.isfinite(values), Status.SCORED, Status.FAILED)
        return Scores(values, status, steps=steps, confidence=np.asarray(sure, np.float32))

    return BatchReward(score, f"progress({scheme})")
