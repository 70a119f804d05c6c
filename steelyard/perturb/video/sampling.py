"""Seeded video perturbations of samples: one kind at one severity, shuffles, drops, compositions, and a sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.perturb.video import functional as F
from steelyard.perturb.video.kinds import KINDS, Scene
from steelyard.types import Array, Perturbation, Sample, SteelyardError, check_frames

SEVERITIES = (1, 2, 3, 4, 5)
SMALL_WINDOW = 3
"""Widest shuffle window of which this library says that the right answer survives it."""


class Clip:
    """One corruption of one clip, rendered frame after frame in constant memory.

    The frames that come out are those of `VideoPerturbation.frames` on the whole array.
    """

    def __init__(self, kind: str, severity: int, seed: int, height: int, width: int, *, tempo: float = 1.0) -> None:
        order = list(KINDS).index(kind)
        generator = np.random.default_rng([seed, order])
        self.height, self.width = height, width
        self._step = KINDS[kind].start(Scene(generator, severity / 5, height, width, tempo))
        self._clear: Array | None = None

    def __call__(self, frame: Array) -> Array:
        """The next frame [H, W, 3], uint8 or float, corrupted."""
        if frame.shape != (self.height, self.width, 3):
            raise SteelyardError(
                f"a frame has shape {frame.shape} in a clip of {(self.height, self.width, 3)}; all frames must be alike"
            )
        out, self._clear = self._step(frame)
        return out

    @property
    def destroyed(self) -> Array:
        """bool [H, W]: where the last frame no longer shows what was there (a quarter of the light or less is left)."""
        if self._clear is None:
            return np.zeros((self.height, self.width), bool)
        return self._clear < F.LIGHT_LOST


@dataclass(frozen=True)
class VideoPerturbation:
    """One of the twelve kinds at one severity: the same kind, severity and seed give the same pixels.

    Args:
        kind: a name in `KINDS`.
        severity: 1 (slight) to 5 (heavy).
        seed: of everything that is drawn, at least 0.

    Raises:
        SteelyardError: for an unknown kind, severity or seed.
    """

    kind: str
    severity: int
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SteelyardError(f"there is no corruption {self.kind!r}; it is one of {', '.join(KINDS)}")
        if self.severity not in SEVERITIES:
            raise SteelyardError(f"{self.kind}: severity is {self.severity!r}; it must be a whole number from 1 to 5")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise SteelyardError(f"{self.kind}: seed is {self.seed!r}; it must be a whole number of at least 0")

    @property
    def keeps_answer(self) -> bool:
        """Whether the right answer survives the change."""
        return KINDS[self.kind].keeps_answer

    @property
    def family(self) -> str:
        """lighting, occlusion, weather or camera."""
        return KINDS[self.kind].family

    def clip(self, height: int, width: int, *, tempo: float = 1.0) -> Clip:
        """A renderer for the frames of one clip, in order.

        Args:
            tempo: how far things move between two frames; 1 for sampled clips, about 10 / fps for whole videos.
        """
        return Clip(self.kind, self.severity, int(self.seed), height, width, tempo=tempo)

    def frames(self, video: Array) -> Array:
        """The corrupted video, [T, H, W, 3] of the same type."""
        return self.render(video)[0]

    def render(self, video: Array) -> tuple[Array, Array]:
        """The corrupted video [T, H, W, 3] and its destroyed mask, bool [T, H, W]."""
        check_frames(video, where=f"{self.kind}: video")
        F.check_image(video, where=f"{self.kind}: video")
        clip = self.clip(*video.shape[1:3])
        out, destroyed = np.empty_like(video), np.empty(video.shape[:3], bool)
        for t, frame in enumerate(video):
            out[t], destroyed[t] = clip(np.ascontiguousarray(frame)), clip.destroyed
        return out, destroyed

    def __call__(self, sample: Sample) -> Sample:
        """The sample with its video corrupted."""
        return sample.with_video(self.frames(_video(sample, self.kind)))

    def spec(self) -> dict[str, Any]:
        """`{"kind", "severity", "seed"}`."""
        return {"kind": self.kind, "severity": int(self.severity), "seed": int(self.seed)}


def _video(sample: Sample, name: str) -> Array:
    if sample.video is None:
        raise SteelyardError(f"{name}: sample {sample.id!r} has no video; a video perturbation needs one")
    return sample.video


@dataclass(frozen=True)
class ShuffleWindows:
    """Temporal shuffle inside windows of `width` frames (1: identity; at least T: any order)."""

    width: int
    seed: int

    @property
    def keeps_answer(self) -> bool:
        """True for windows of up to three frames: wider ones can turn a movement round."""
        return self.width <= SMALL_WINDOW

    def order(self, frames: int) -> Array:
        """int64 [T], which frame stands where."""
        return F.window_permutation(frames, self.width, np.random.default_rng(self.seed))

    def frames(self, video: Array) -> Array:
        """The video [T, H, W, 3] in its new order."""
        check_frames(video, where="shuffle: video")
        return video[self.order(len(video))]

    def __call__(self, sample: Sample) -> Sample:
        """The sample with its frames shuffled."""
        return sample.with_video(self.frames(_video(sample, "shuffle")))

    def spec(self) -> dict[str, Any]:
        """`{"kind": "shuffle", "width", "seed"}`."""
        return {"kind": "shuffle", "width": self.width, "seed": self.seed}


@dataclass(frozen=True)
class DropFrames:
    """Random frame dropping: max(1, ⌊T (1 − ratio)⌋) frames (or `keep` of them) stay, the others turn black."""

    ratio: float
    seed: int
    keep: int | None = None
    keeps_answer: bool = True

    def frames(self, video: Array) -> Array:
        """The video [T, H, W, 3] with black frames."""
        return self.render(video)[0]

    def render(self, video: Array) -> tuple[Array, Array]:
        """The video [T, H, W, 3] and its destroyed mask, bool [T, H, W]."""
        check_frames(video, where="drop_frames: video")
        kept = F.kept_frames(len(video), ratio=self.ratio, keep=self.keep)
        out, mask = F.drop_frames(video, kept, np.random.default_rng(self.seed))
        return out, np.broadcast_to(~mask[:, None, None], video.shape[:3]).copy()

    def __call__(self, sample: Sample) -> Sample:
        """The sample with frames dropped."""
        return sample.with_video(self.frames(_video(sample, "drop_frames")))

    def spec(self) -> dict[str, Any]:
        """`{"kind": "drop_frames", "ratio", "keep", "seed"}`."""
        return {"kind": "drop_frames", "ratio": self.ratio, "keep": self.keep, "seed": self.seed}


@dataclass(frozen=True)
class Composition:
    """Several perturbations, one after another."""

    parts: tuple[Perturbation, ...]

    @property
    def keeps_answer(self) -> bool:
        """Whether it survives every part."""
        return all(part.keeps_answer for part in self.parts)

    def frames(self, video: Array) -> Array:
        """The video [T, H, W, 3] after all parts."""
        out = self(Sample("", "", video)).video
        assert out is not None
        return out

    def __call__(self, sample: Sample) -> Sample:
        """The sample after all parts."""
        for part in self.parts:
            sample = part(sample)
        return sample

    def spec(self) -> dict[str, Any]:
        """`{"kind": "compose", "parts": [specs]}`."""
        return {"kind": "compose", "parts": [part.spec() for part in self.parts]}


def shuffle_windows(width: int, seed: int) -> ShuffleWindows:
    """Shuffle frames inside windows of `width`."""
    if width < 1:
        raise SteelyardError(f"shuffle: the window is {width} frames wide; it must be at least 1")
    return ShuffleWindows(width, seed)


def drop_frames(ratio: float = 0.2, *, seed: int, keep: int | None = None) -> DropFrames:
    """Blacken a share of the frames, or all but `keep`."""
    if not 0 <= ratio <= 1:
        raise SteelyardError(f"drop_frames: ratio is {ratio}; it must lie in [0, 1]")
    return DropFrames(ratio, seed, keep)


def compose(*perturbations: Perturbation) -> Composition:
    """One after another, in the order given; without any, the identity."""
    return Composition(tuple(perturbations))


def from_spec(spec: Mapping[str, Any]) -> Perturbation:
    """The perturbation that gave this spec.

    Raises:
        SteelyardError: if the spec is none of ours.
    """
    values = dict(spec)
    kind = values.pop("kind", None)
    try:
        if kind == "compose":
            return compose(*(from_spec(part) for part in values["parts"]))
        if kind == "shuffle":
            return shuffle_windows(**values)
        if kind == "drop_frames":
            return drop_frames(**values)
        return VideoPerturbation(str(kind), **values)
    except (TypeError, KeyError):
        raise SteelyardError(f"{dict(spec)} is no spec of a video perturbation; keep what .spec() returned") from None


@dataclass(frozen=True)
class OutdoorCorruptions:
    """A distribution over corruptions: a family first, then a kind of it, then a severity, each uniformly."""

    kinds: tuple[str, ...]
    severities: tuple[int, ...]

    def draw(self, generator: np.random.Generator) -> VideoPerturbation:
        """One corruption; its seed is drawn too."""
        families = list(dict.fromkeys(KINDS[kind].family for kind in self.kinds))
        family = families[int(generator.integers(len(families)))]
        inside = [kind for kind in self.kinds if KINDS[kind].family == family]
        kind = inside[int(generator.integers(len(inside)))]
        severity = self.severities[int(generator.integers(len(self.severities)))]
        return VideoPerturbation(kind, severity, int(generator.integers(2**31)))

    def restore(self, spec: Mapping[str, Any]) -> Perturbation:
        """The perturbation that gave this spec."""
        return from_spec(spec)


def outdoor_corruptions(
    kinds: Iterable[str] | None = None, severities: Sequence[int] = SEVERITIES
) -> OutdoorCorruptions:
    """What goes wrong outdoors, one family a clip with equal probability (as the released engine does).

    Args:
        kinds: names in `KINDS`; all twelve where it is left out.
        severities: drawn uniformly.

    Raises:
        SteelyardError: for an unknown kind or severity, or none at all.
    """
    chosen, levels = tuple(KINDS if kinds is None else kinds), tuple(severities)
    if not chosen or not levels:
        raise SteelyardError("outdoor_corruptions: no kind or no severity is left; give at least one of each")
    for kind in chosen:
        for level in levels:
            VideoPerturbation(kind, level, 0)
    return OutdoorCorruptions(chosen, levels)
