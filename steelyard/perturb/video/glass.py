"""Things on the glass of the lens that stay for the whole clip: cracks that split the picture, and dirt."""

from __future__ import annotations

import math

import cv2
import numpy as np

from steelyard.perturb.video.fields import CELLS, resize
from steelyard.types import Array

_SUBPIXEL = 4
_SPOKES = 18
_RINGS = np.array([0.07, 0.16, 0.3, 0.48])


def _polyline(points: Array) -> Array:
    return np.rint(points * 2**_SUBPIXEL).astype(np.int32)


def cracks(generator: np.random.Generator, u: float, height: int, width: int) -> tuple[Array, Array, Array]:
    """A star of cracks around one point of impact.

    Args:
        u: severity in (0, 1]; more spokes, rings and larger slips of the shards.

    Returns:
        uint8 [H, W] light that gets through, uint8 [H, W] light of the edges, and float32 [H, W, 2], where each
        pixel of a slipped shard comes from.
    """
    side, reach = min(height, width), 1.2 * math.hypot(height, width)
    impact = generator.uniform(0.3, 0.7, 2) * (width, height)
    angles = (np.arange(_SPOKES) + generator.uniform(-0.35, 0.35, _SPOKES)) * 2 * math.pi / _SPOKES
    bends = generator.normal(0, 0.06, (_SPOKES, 9)).cumsum(axis=1) * np.linspace(0.3, 1, 9)
    jitter = generator.uniform(0.8, 1.2, (len(_RINGS), _SPOKES))
    slips = generator.uniform(-1, 1, (len(_RINGS) + 1, _SPOKES, 2))
    some = np.sort(generator.permutation(_SPOKES)[: round(6 + 12 * u)])
    radii = np.linspace(0, reach, 10)[1:]
    turned = angles[some, None] + bends[some]
    spokes = impact + np.stack([np.cos(turned), np.sin(turned)], axis=2) * radii[:, None]
    lines = [np.concatenate([impact[None], spoke]) for spoke in spokes]
    rings = _RINGS[: 1 + round(3 * u)]
    for ring, stretch in zip(rings, jitter, strict=False):
        at = np.stack([np.cos(angles[some]), np.sin(angles[some])], axis=1) * (ring * side * stretch[some])[:, None]
        corners = impact + at
        starts = np.flatnonzero((np.arange(len(some)) * 7 + int(100 * ring)) % 5 > 0)
        lines += [corners[[i, (i + 1) % len(some)]] for i in starts]
    source = _slipped(impact, angles[some], rings * side, slips[:, some] * 0.05 * u * side, height, width)
    return (*_draw_cracks(lines, impact, u, height, width), source)


def _slipped(impact: Array, angles: Array, rings: Array, slips: Array, height: int, width: int) -> Array:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    sector = np.searchsorted(np.sort(angles), np.arctan2(rows - impact[1], columns - impact[0]) % (2 * math.pi))
    ring = np.searchsorted(rings, np.hypot(rows - impact[1], columns - impact[0]))
    slip = slips[ring, sector % len(angles)]
    return np.stack([columns, rows], axis=2) + slip.astype(np.float32)


def _draw_cracks(lines: list[Array], impact: Array, u: float, height: int, width: int) -> tuple[Array, Array]:
    side, scale = min(height, width), 2**_SUBPIXEL
    thick = max(1, round(0.0045 * side))
    faint = min(1.0, 0.6 + 0.002 * side)
    clear = np.full((height, width), 255, np.uint8)
    light = np.zeros((height, width), np.uint8)
    shadows, edges = ([_polyline(line + shift) for line in lines] for shift in (0.004 * side, 0.0))
    for image, paths, level, wide in (
        (clear, shadows, 255 - 215 * faint, max(1, round(0.007 * side))),
        (clear, edges, 255 - 185 * faint, thick),
        (light, edges, 175 * faint, thick),
    ):
        cv2.polylines(image, paths, False, level, wide, cv2.LINE_AA, _SUBPIXEL)
    middle = (round(impact[0] * scale), round(impact[1] * scale))
    for image, level in ((clear, 25), (light, 190)):
        cv2.circle(image, middle, round((0.01 + 0.018 * u) * side * scale), level, -1, cv2.LINE_AA, _SUBPIXEL)
    dust = cv2.GaussianBlur(light, (0, 0), 0.03 * side + 0.3)
    haze = np.clip(dust.astype(np.float32) * 0.9 * u, 0, 120)
    return (clear * (1 - haze / 255)).astype(np.uint8), cv2.max(light, haze.astype(np.uint8))


def dirt(generator: np.random.Generator, u: float, height: int, width: int) -> tuple[Array, Array, Array]:
    """Vignette, blurred spots of mud and a greasy film.

    Args:
        u: severity in (0, 1]; more spots, darker corners, a thicker film.

    Returns:
        uint8 [H, W] light that gets through, uint8 [H, W, 3] light that the dirt scatters, and uint8 [H, W],
        255 where the film blurs what lies behind it.
    """
    side = min(height, width)
    places, film = generator.uniform(0, 1, (46, 2)), generator.normal(0, 1, (5, 5)).astype(np.float32)
    sizes = np.concatenate([generator.uniform(0.07, 0.15, 14), generator.uniform(0.015, 0.05, 32)])
    depth = generator.uniform(0.55, 0.97, 46)
    order = generator.permutation(46)[: round(46 * u)]
    mud = np.zeros((height, width), np.float32)
    for i in order:
        _splat(mud, places[i] * (width, height), sizes[i] * side, float(depth[i]))
    mud = cv2.GaussianBlur(mud, (0, 0), 0.012 * side + 0.3)
    y, x = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5 for n in (height, width))
    vignette = 1 / (1 + 3.2 * u * (x[None] ** 2 + y[:, None] ** 2)) ** 2
    smooth = cv2.resize(film, (CELLS, CELLS), interpolation=cv2.INTER_CUBIC)
    greasy = np.clip(resize(smooth, height, width) + 0.4, 0, 1) * u
    clear = vignette * (1 - mud) * (1 - 0.35 * greasy)
    light = (26 * mud)[..., None] * np.array([1.0, 0.85, 0.65], np.float32) + (62 * greasy * (1 - mud))[..., None]
    as_bytes = [np.rint(np.clip(a, 0, 255)).astype(np.uint8) for a in (255 * clear, light, 255 * np.sqrt(greasy))]
    return as_bytes[0], as_bytes[1], as_bytes[2]


def _splat(mud: Array, centre: Array, radius: float, depth: float) -> None:
    """Lay a disc of this opacity on the mud; the more opaque of the two stays."""
    spot = np.zeros(mud.shape, np.uint8)
    scale = 2**_SUBPIXEL
    middle = (round(centre[0] * scale), round(centre[1] * scale))
    cv2.circle(spot, middle, round(max(radius, 0.5) * scale), 255, -1, cv2.LINE_AA, _SUBPIXEL)
    np.maximum(mud, spot * np.float32(depth / 255), out=mud)
