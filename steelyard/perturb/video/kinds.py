"""The twelve corruptions of PVRBench in four families: how each draws its clip and renders one frame after another.

Severity s in 1…5 enters as u = s / 5. Source: sheet 01-rova, section 1; its formulas for dark, bright and fog are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from steelyard.perturb.video import functional as F
from steelyard.perturb.video.fields import (
    CELLS,
    RAIN,
    SNOW,
    Layer,
    drifting_noise,
    occluder,
    place,
    rain_tile,
    resize,
    snow_tile,
)
from steelyard.perturb.video.glass import cracks, dirt
from steelyard.types import Array

Step: TypeAlias = Callable[[Array], tuple[Array, Array | None]]
"""The next frame [H, W, 3] in; out comes the corrupted frame and how much of its light gets through, uint8 [H, W]
(None: all of it)."""

RHO = 0.9
REFERENCE_SIDE = 48
"""Shorter side up to which lengths in pixels are the sheet's; above it they grow with the frame."""


@dataclass(frozen=True)
class Scene:
    """What a kind needs to draw a clip.

    Attributes:
        u: severity / 5.
        tempo: how far things move between two frames: 1 for sampled clips, less for frames close in time.
    """

    generator: np.random.Generator
    u: float
    height: int
    width: int
    tempo: float

    def wander(self) -> Callable[[], float]:
        """An AR(1) path of unit variance, one value a call: z_1 = ε_1, z_t = ρ z_(t−1) + √(1 − ρ²) ε_t."""
        source = np.random.default_rng(int(self.generator.integers(2**63)))
        rho = RHO**self.tempo
        last: list[float] = []

        def following() -> float:
            fresh = float(source.standard_normal())
            last[:] = [rho * last[0] + math.sqrt(1 - rho**2) * fresh if last else fresh]
            return last[0]

        return following

    def clock(self) -> Callable[[], float]:
        """0, tempo, 2 · tempo, … one value a call."""
        ticks = [-1]

        def following() -> float:
            ticks[0] += 1
            return ticks[0] * self.tempo

        return following


@dataclass(frozen=True)
class Kind:
    """One kind of corruption.

    Attributes:
        keeps_answer: whether the right answer to a question about the clip survives it.
        start: draws a clip.
    """

    name: str
    family: str
    start: Callable[[Scene], Step]
    keeps_answer: bool = True


def _dark(scene: Scene) -> Step:
    gain, gamma = 1 - 0.8 * scene.u, 1 + 1.5 * scene.u
    return lambda frame: (F.dark(frame, gain, gamma), None)


def _bright(scene: Scene) -> Step:
    return lambda frame: (F.bright(frame, 1 + 2 * scene.u), None)


def _hang(scene: Scene, clear: Array, added: Array) -> Step:
    wide = cv2.merge([clear, clear, clear])
    return lambda frame: (F.overlay(frame, wide, added), clear)


def _static_occlusion(scene: Scene) -> Step:
    x, y = scene.generator.uniform(0.3, 0.7, 2)
    alpha, light = occluder(scene.generator, _area(scene), scene.height, scene.width)
    at = (x * scene.width, y * scene.height, scene.height, scene.width)
    return _hang(scene, 255 - place(alpha, *at), place(light, *at))


def _area(scene: Scene) -> float:
    return 0.08 + 0.34 * scene.u


def _bounce(position: float) -> float:
    """A triangle wave: there and back inside [0.12, 0.88] at constant speed."""
    low, high = 0.12, 0.88
    span = high - low
    return low + span - abs((position - low) % (2 * span) - span)


def _dynamic_occlusion(scene: Scene) -> Step:
    start = scene.generator.uniform(0.15, 0.85, 2)
    angle, speed = scene.generator.uniform(0, 2 * math.pi), scene.generator.uniform(0.05, 0.09)
    velocity = speed * np.array([math.cos(angle), 0.6 * math.sin(angle)])
    alpha, light = occluder(scene.generator, _area(scene), scene.height, scene.width)
    clock = scene.clock()

    def step(frame: Array) -> tuple[Array, Array]:
        x, y = start + velocity * clock()
        at = (_bounce(x) * scene.width, _bounce(y) * scene.height, scene.height, scene.width)
        clear = 255 - place(alpha, *at)
        return F.overlay(frame, clear, place(light, *at)), clear

    return step


def _fog(scene: Scene) -> Step:
    noise, wander, clock = drifting_noise(scene.generator), scene.wander(), scene.clock()
    depth = (1 - (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS)[:, None]

    def step(frame: Array) -> tuple[Array, Array]:
        beta = 3 * scene.u * (1 + 0.2 * max(wander(), -3.0))
        cloud = np.clip(1 + 0.35 * noise(clock()), 0.1, 2)
        coarse = np.rint(255 * np.exp(-beta * depth * cloud)).astype(np.uint8)
        clear = resize(coarse, scene.height, scene.width)
        return F.veil(frame, clear, 0.9), clear

    return step


def _falling(
    scene: Scene, tiles: list[Array], layers: tuple[Layer, ...], lean: float, gloom: float, light: float
) -> Step:
    """Layers of particles, wrapped, each at its own fixed speed, before a veil that lets a share `gloom` through."""
    clock = scene.clock()
    through = np.rint(gloom * (255 - np.arange(256))).astype(np.uint8)

    def step(frame: Array) -> tuple[Array, Array]:
        time = clock()
        falls = [layer.speed * scene.height * time for layer in layers]
        moved = [np.roll(t, (round(f), round(-lean * f)), (0, 1)) for t, f in zip(tiles, falls, strict=True)]
        opacity = moved[0]
        for tile in moved[1:]:
            opacity = cv2.max(opacity, tile)
        clear = cv2.LUT(opacity, through).reshape(opacity.shape)
        return F.veil(frame, clear, light), clear

    return step


def _some(scene: Scene, layer: Layer, columns: int) -> Array:
    drawn = scene.generator.uniform(0, 1, (layer.count, columns))
    return drawn[: max(1, round(layer.count * scene.u))]


def _rain(scene: Scene) -> Step:
    slant = float(scene.generator.uniform(0.05, 0.3) * scene.generator.choice([-1, 1]))
    tiles = [rain_tile(_some(scene, layer, 2), layer, slant, scene.height, scene.width) for layer in RAIN]
    return _falling(scene, tiles, RAIN, slant, 1 - 0.4 * scene.u, 0.72)


def _snow(scene: Scene) -> Step:
    lean = float(scene.generator.uniform(-0.5, 0.5))
    drawn = [_some(scene, layer, 3) for layer in SNOW]
    tiles = [
        snow_tile(d[:, :2], 0.6 + 0.8 * d[:, 2], layer, scene.height, scene.width)
        for d, layer in zip(drawn, SNOW, strict=True)
    ]
    return _falling(scene, tiles, SNOW, lean, 1 - 0.3 * scene.u, 0.95)


def _scale(scene: Scene) -> float:
    return max(1.0, min(scene.height, scene.width) / REFERENCE_SIDE)


def _motion_blur(scene: Scene) -> Step:
    length = 1 + 2 * math.ceil(round(4 * scene.u * _scale(scene), 6))
    heading, wander = scene.generator.uniform(-35, 35), scene.wander()
    return lambda frame: (F.motion_blur(frame, length, float(heading + 12 * wander())), None)


def _zoom_blur(scene: Scene) -> Step:
    across, down = scene.wander(), scene.wander()
    strength = 0.2 * scene.u

    def step(frame: Array) -> tuple[Array, None]:
        centre = (0.5 + 0.05 * across(), 0.5 + 0.05 * down())
        return F.zoom_blur(frame, strength, centre), None

    return step


def _frame(scene: Scene) -> Step:
    """A share 0.4 u of the frames is lost (the last one stays) or torn in bands.

    Each frame has that probability, but the draws are spread evenly over time (steps of the golden ratio), so that
    a clip of eight frames gets its share too.
    """
    source = np.random.default_rng(int(scene.generator.integers(2**63)))
    fate = [float(scene.generator.uniform())]
    shown: list[Array] = []

    def step(frame: Array) -> tuple[Array, Array | None]:
        fate[0] = (fate[0] + (math.sqrt(5) - 1) / 2) % 1
        choice, *rest = source.uniform(0, 1, 10)
        lost = fate[0] < 0.4 * scene.u
        if lost and shown and choice < 0.5:
            return shown[0].copy(), np.zeros(frame.shape[:2], np.uint8)
        clear = None
        if lost:
            bands = [(0.85 * a, 0.08 + 0.22 * b, 0.15 + 0.7 * c) for a, b, c in np.reshape(rest, (3, 3))]
            frame = F.tear(frame, bands)
            clear = _torn(bands, frame.shape)
        shown[:] = [frame.copy()]
        return frame, clear

    return step


def _torn(bands: list[tuple[float, float, float]], shape: tuple[int, ...]) -> Array:
    clear = np.full(shape[:2], 255, np.uint8)
    for top, height, _ in bands:
        clear[int(top * shape[0]) : int((top + height) * shape[0]) + 1] = 0
    return clear


def _crash(scene: Scene) -> Step:
    clear, light, source = cracks(scene.generator, scene.u, scene.height, scene.width)
    wide, added = cv2.merge([clear, clear, clear]), cv2.merge([light, light, light])
    coarse, fine = cv2.convertMaps(source, None, cv2.CV_16SC2)
    sigma = 0.3 + 0.45 * scene.u * _scale(scene)

    def step(frame: Array) -> tuple[Array, Array]:
        work = frame if frame.dtype == np.uint8 else frame.astype(np.float32)
        split = cv2.remap(work, coarse, fine, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        soft = F.soften(split.reshape(frame.shape), sigma)
        return F.overlay(soft, wide, added).astype(frame.dtype, copy=False), clear

    return step


def _lens(scene: Scene) -> Step:
    clear, light, film = dirt(scene.generator, scene.u, scene.height, scene.width)
    wide, film = cv2.merge([clear, clear, clear]), cv2.merge([film, film, film])
    sigma = 0.5 + 1.5 * scene.u * _scale(scene)

    def step(frame: Array) -> tuple[Array, Array]:
        work = frame if frame.dtype == np.uint8 else frame.astype(np.float32)
        soft = F.soften(work, sigma)
        mixed = F.overlay(work, 255 - film, np.zeros_like(film))
        mixed = cv2.add(mixed, F.overlay(soft, film, np.zeros_like(film)))
        return F.overlay(mixed, wide, light).astype(frame.dtype, copy=False), clear

    return step


_ALL = (
    Kind("dark", "lighting", _dark),
    Kind("bright", "lighting", _bright),
    Kind("static_occlusion", "occlusion", _static_occlusion),
    Kind("dynamic_occlusion", "occlusion", _dynamic_occlusion),
    Kind("fog", "weather", _fog),
    Kind("rain", "weather", _rain),
    Kind("snow", "weather", _snow),
    Kind("motion_blur", "camera", _motion_blur),
    Kind("zoom_blur", "camera", _zoom_blur),
    Kind("frame", "camera", _frame),
    Kind("crash", "camera", _crash),
    Kind("lens", "camera", _lens),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(kind.name for kind in _ALL if kind.family == family)
    for family in dict.fromkeys(kind.family for kind in _ALL)
}
