"""What hangs in front of a lens, drawn once a clip: drifting noise, rain and snow tiles, occluders, cracks and dirt.

Everything is drawn in shares of the frame, so that one seed means the same scene at every size, and everything
that severity scales is drawn in full first, so that a higher severity adds to a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from steelyard.types import Array

_SUBPIXEL = 4
CELLS = 32
"""Side of the coarse grid on which smooth fields are computed before they are resized."""


def drifting_noise(generator: np.random.Generator, waves: int = 14) -> Callable[[float], Array]:
    """Smooth noise that drifts: a sum of plane waves, each with its own small change of speed.

    Returns:
        time → float32 [CELLS, CELLS], mean 0 and standard deviation 1.
    """
    frequency = generator.integers(-3, 4, (waves, 2)).astype(np.float64)
    frequency[(frequency == 0).all(axis=1)] = (1, 1)
    amplitude = 1 / np.hypot(*frequency.T)
    amplitude *= math.sqrt(2) / np.linalg.norm(amplitude)
    phase = generator.uniform(0, 2 * math.pi, waves)
    wind = np.array([generator.choice([-1, 1]) * generator.uniform(0.02, 0.04), generator.uniform(-0.008, 0.008)])
    speed = 2 * math.pi * (frequency @ wind) + generator.normal(0, 0.04, waves)
    centres = (np.arange(CELLS) + 0.5) / CELLS
    angle = 2 * math.pi * (frequency[:, :1, None] * centres + frequency[:, 1:, None] * centres[:, None])
    waves_at = (angle + phase[:, None, None]).reshape(waves, -1)
    basis = np.concatenate([np.cos(waves_at) * amplitude[:, None], np.sin(waves_at) * amplitude[:, None]])

    def at(time: float) -> Array:
        weights = np.concatenate([np.cos(speed * time), np.sin(speed * time)])
        return (weights @ basis).reshape(CELLS, CELLS).astype(np.float32)

    return at


def resize(field: Array, height: int, width: int) -> Array:
    """Linear resize of [h, w] or [h, w, 3]."""
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Layer:
    """Particles at one distance: how many at full severity, how long or wide, how fast, how opaque.

    Sizes are shares of the frame's shorter side, speeds shares of its height a frame.
    """

    count: int
    size: float
    speed: float
    opacity: float


RAIN = (Layer(700, 0.07, 0.09, 0.45), Layer(380, 0.12, 0.15, 0.6), Layer(120, 0.22, 0.24, 0.8))
SNOW = (Layer(420, 0.006, 0.025, 0.75), Layer(200, 0.012, 0.04, 0.9), Layer(70, 0.026, 0.07, 0.95))


def _wrapped(points: Array, height: int, width: int) -> Array:
    """Points [N, P, 2] and their eight neighbours in a wrapped frame, those that touch it."""
    shifts = np.array([[x * width, y * height] for x in (-1, 0, 1) for y in (-1, 0, 1)], np.float64)
    copies = (points[None] + shifts[:, None, None]).reshape(-1, *points.shape[1:])
    low, high, slack = copies.min(axis=1), copies.max(axis=1), 0.05 * max(height, width) + 1
    seen = (high > -slack).all(axis=1) & (low[:, 0] < width + slack) & (low[:, 1] < height + slack)
    return copies[seen]


def rain_tile(places: Array, layer: Layer, slant: float, height: int, width: int) -> Array:
    """uint8 [H, W] opacity of streaks that end at places [N, 2] and lean by `slant` (tangent), wrapped at all edges."""
    side = min(height, width)
    tail = np.array([slant, -1.0]) / math.hypot(slant, 1) * layer.size * side
    ends = places * (width, height)
    lines = _wrapped(np.stack([ends, ends + tail], axis=1), height, width)
    thickness = layer.size * side * 0.022
    tile = np.zeros((height, width), np.uint8)
    level = round(255 * layer.opacity * min(1.0, 0.45 + 0.55 * thickness))
    heads = np.stack([lines[:, 0], 0.55 * lines[:, 0] + 0.45 * lines[:, 1]], axis=1)
    for part, share in ((lines, 0.55), (heads, 1.0)):
        points = np.rint(part * 2**_SUBPIXEL).astype(np.int32)
        cv2.polylines(tile, list(points), False, level * share, max(1, round(thickness)), cv2.LINE_AA, _SUBPIXEL)
    return tile


def snow_tile(places: Array, sizes: Array, layer: Layer, height: int, width: int) -> Array:
    """uint8 [H, W] opacity of soft flakes at places [N, 2] with relative sizes [N], wrapped at all edges."""
    side = min(height, width)
    radii = layer.size * side * sizes
    tile = np.zeros((height, width), np.uint8)
    for (x, y), radius in zip(places * (width, height), radii, strict=True):
        level = round(255 * layer.opacity * min(1.0, 0.2 + 0.8 * radius))
        for dx in (0, -width, width) if not radius + 1 < x < width - radius - 1 else (0,):
            for dy in (0, -height, height) if not radius + 1 < y < height - radius - 1 else (0,):
                _disc(tile, x + dx, y + dy, max(radius, 0.45), level)
    softness = layer.size * side * 0.35
    if softness < 0.6:
        return tile
    margin = min(height, width, int(4 * softness) + 1)
    around = cv2.GaussianBlur(
        cv2.copyMakeBorder(tile, margin, margin, margin, margin, cv2.BORDER_WRAP), (0, 0), softness
    )
    return np.ascontiguousarray(around[margin:-margin, margin:-margin])


def _disc(image: Array, x: float, y: float, radius: float, level: float) -> None:
    scale = 2**_SUBPIXEL
    centre = (round(x * scale), round(y * scale))
    cv2.circle(image, centre, round(radius * scale), level, -1, cv2.LINE_AA, _SUBPIXEL)


def occluder(generator: np.random.Generator, area: float, height: int, width: int) -> tuple[Array, Array]:
    """A soft dark thing close to the lens: a closed outline with low harmonics, feathered and shaded.

    Args:
        area: share of the frame that it covers.

    Returns:
        uint8 [h, w] opacity and uint8 [h, w, 3] light (premultiplied), both centred in an odd-sized sprite.
    """
    stretch = math.exp(generator.uniform(-0.25, 0.25))
    harmonics, phases = generator.uniform(0, 0.09, 5), generator.uniform(0, 2 * math.pi, 5)
    tint = generator.uniform(0.03, 0.13) * (1 + generator.uniform(-0.3, 0.3, 3))
    shade = drifting_noise(generator)(0.0)
    theta = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    radius = 1 + sum(h * np.cos((k + 2) * theta + p) for k, (h, p) in enumerate(zip(harmonics, phases, strict=True)))
    radius *= math.sqrt(area / (0.5 * np.mean(radius**2) * 2 * math.pi))
    outline = np.stack([radius * np.cos(theta) * width * stretch, radius * np.sin(theta) * height / stretch], axis=1)
    feather = 0.012 * min(height, width) + 0.3
    reach = np.ceil(np.abs(outline).max(axis=0) + 3 * feather + 1).astype(int)
    alpha = np.zeros((2 * reach[1] + 1, 2 * reach[0] + 1), np.uint8)
    points = np.rint((outline + reach) * 2**_SUBPIXEL).astype(np.int32)
    cv2.fillPoly(alpha, [points], 255, cv2.LINE_AA, _SUBPIXEL)
    alpha = cv2.GaussianBlur(alpha, (0, 0), feather)
    texture = np.clip(1 + 0.45 * resize(shade, *alpha.shape), 0.2, 2.2)
    light = alpha[..., None] * (texture[..., None] * tint.astype(np.float32))
    return alpha, np.rint(np.clip(light, 0, 255)).astype(np.uint8)


def place(sprite: Array, x: float, y: float, height: int, width: int) -> Array:
    """The sprite on an empty frame [H, W(, 3)], its middle at (x, y) pixels, to a fraction of a pixel."""
    shift = (x - (sprite.shape[1] - 1) / 2, y - (sprite.shape[0] - 1) / 2)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    return cv2.warpAffine(sprite, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
