"""The scenes behind the video questions: things on a plain, a camera that moves, and the frames that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from steelyard.types import Array

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 40),
    "green": (50, 165, 60),
    "blue": (45, 75, 210),
    "yellow": (225, 200, 45),
    "purple": (150, 55, 175),
    "white": (235, 235, 230),
}
"""Name to RGB, before the light and a small shift of each thing's own."""

SHAPES = ("ball", "box", "cone", "tower")
EYE_HEIGHT = 1.4
FOCAL = 0.95
"""Focal length in widths of the frame: a field of view of 55 degrees."""
_SUBPIXEL = 4


@dataclass(frozen=True)
class Thing:
    """One landmark, standing on the ground at (x, z); `size` is its height in metres."""

    colour: str
    shape: str
    x: float
    z: float
    size: float
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def name(self) -> str:
        """What questions call it: colour and shape."""
        return f"{self.colour} {self.shape}"

    @property
    def width(self) -> float:
        """Metres from its left edge to its right edge."""
        return self.size * (0.38 if self.shape == "tower" else 1.0)


@dataclass(frozen=True)
class Look:
    """Everything of a clip that no question asks about."""

    sky: tuple[float, float, float]
    ground: tuple[float, float, float]
    light: float
    hills: tuple[float, ...]
    texture: int
    contrast: float


@dataclass(frozen=True, eq=False)
class Scene:
    """Things, the camera's path float64 [T, 4] (x, z, yaw to the right, pitch up; metres and radians) and the look."""

    things: tuple[Thing, ...]
    path: Array
    look: Look


def draw_look(generator: np.random.Generator) -> Look:
    """A random sky, ground, light and row of hills."""
    sky = np.array([150, 185, 225]) + generator.uniform(-30, 30, 3)
    grounds = np.array([[120, 105, 80], [95, 110, 75], [115, 112, 108], [140, 125, 100]])
    ground = grounds[generator.integers(len(grounds))] + generator.uniform(-15, 15, 3)
    hills = np.concatenate([generator.uniform(0.01, 0.05, 3), generator.uniform(0, 2 * np.pi, 3)])
    return Look(
        tuple(sky.tolist()),
        tuple(ground.tolist()),
        float(generator.uniform(0.82, 1.12)),
        tuple(hills.tolist()),
        int(generator.integers(2**31)),
        float(generator.uniform(8, 26)),
    )


def project(scene: Scene, size: int) -> Array:
    """Where every thing is seen.

    Args:
        scene: T camera poses and K things.
        size: side of the square frame in pixels.

    Returns:
        float64 [T, K, 4]: column of the centre, row of the foot, height in pixels, depth in metres (≤ 0: behind).
    """
    spots = np.array([[thing.x, thing.z, thing.size] for thing in scene.things])
    x, z, yaw, pitch = (scene.path[:, i, None] for i in range(4))
    dx, dz = spots[None, :, 0] - x, spots[None, :, 1] - z
    across, depth = dx * np.cos(yaw) - dz * np.sin(yaw), dx * np.sin(yaw) + dz * np.cos(yaw)
    focal, near = FOCAL * size, np.maximum(depth, 0.05)
    column = size / 2 + focal * across / near
    foot = size / 2 + focal * np.tan(pitch) + focal * EYE_HEIGHT / near
    return np.stack([column, foot, focal * spots[None, :, 2] / near, depth], axis=-1)


def render(scene: Scene, size: int) -> Array:
    """The clip: uint8 [T, size, size, 3]."""
    frames = _background(scene, size)
    seen = project(scene, size)
    for frame, things in zip(frames, seen, strict=True):
        for k in np.argsort(-things[:, 3]):
            column, foot, height, depth = things[k]
            thing = scene.things[k]
            reach = height * thing.width / thing.size
            if depth > 0.3 and -reach < column < size + reach:
                _draw(frame, thing, column, foot, height, scene.look.light)
    return frames


def _background(scene: Scene, size: int) -> Array:
    """Sky with hills, ground with a texture that stands still in the world: uint8 [T, size, size, 3]."""
    look, path = scene.look, scene.path.astype(np.float32)
    focal = np.float32(FOCAL * size)
    pixels = np.arange(size, dtype=np.float32) + np.float32(0.5)
    below = pixels[None, :] - (size / 2 + focal * np.tan(path[:, 3]))[:, None]
    ray = (pixels - size / 2) / focal
    bearing = np.arctan(ray)[None, :] + path[:, 2, None]
    height, phase = np.array(look.hills[:3], np.float32), np.array(look.hills[3:], np.float32)
    waves = np.sin(bearing[..., None] * np.array([2, 5, 11], np.float32) + phase)
    ridge = -focal * ((1 + waves) @ height)
    kind = (below[:, :, None] > ridge[:, None, :]).astype(np.uint8)
    kind += (below > 0)[:, :, None]
    sky, ground = np.array(look.sky, np.float32), np.array(look.ground, np.float32)
    palette = np.stack([sky, 0.55 * ground + 0.35 * sky, ground]) * np.float32(look.light)
    relief = np.where(kind == 0, (25 * look.light / size * below)[:, :, None], np.float32(0))
    fade = (below / (0.25 * size)).clip(0, 1) * np.float32(look.contrast * look.light)
    relief += _texture(look, path, below, ray, focal) * fade[:, :, None]
    return (palette[kind] + relief[..., None]).clip(0, 255).astype(np.uint8)


def _texture(look: Look, path: Array, below: Array, ray: Array, focal: np.float32) -> Array:
    """Brightness in [−1, 1] of the ground under each pixel [T, H, W], from `below` [T, H] and `ray` [W]."""
    depth = focal * np.float32(EYE_HEIGHT * 1.3) / np.maximum(below, np.float32(0.5))
    sine, cosine = np.sin(path[:, 2, None]), np.cos(path[:, 2, None])
    x = 1.3 * path[:, 0, None, None] + depth[:, :, None] * (ray * cosine + sine)[:, None, :]
    z = 1.3 * path[:, 1, None, None] + depth[:, :, None] * (cosine - ray * sine)[:, None, :]
    grain = np.random.Generator(np.random.Philox(look.texture)).uniform(-1, 1, 256).astype(np.float32)
    return grain[(x.astype(np.int32) & 15) * 16 + (z.astype(np.int32) & 15)]


def _draw(frame: Array, thing: Thing, column: float, foot: float, height: float, light: float) -> None:
    """Paint one thing onto a frame [H, W, 3] in place."""
    body = (np.array(COLOURS[thing.colour]) + thing.tint) * light
    shade, shine = tuple((0.6 * body).clip(0, 255).tolist()), tuple((1.15 * body).clip(0, 255).tolist())
    colour = tuple(body.clip(0, 255).tolist())
    half = height * thing.width / thing.size / 2
    top = foot - height
    if thing.shape == "ball":
        _circle(frame, column, foot - half, half, colour)
        _circle(frame, column - 0.3 * half, foot - 1.35 * half, 0.35 * half, shine)
    elif thing.shape == "cone":
        _polygon(frame, [(column, top), (column - half, foot), (column + half, foot)], colour)
        _polygon(frame, [(column, top), (column + 0.3 * half, foot), (column + half, foot)], shade)
    else:
        side = column + (0.35 if thing.shape == "box" else 0.2) * half
        _polygon(frame, [(column - half, top), (side, top), (side, foot), (column - half, foot)], colour)
        _polygon(frame, [(side, top), (column + half, top), (column + half, foot), (side, foot)], shade)


def _circle(frame: Array, x: float, y: float, radius: float, colour: tuple[float, ...]) -> None:
    scale = 1 << _SUBPIXEL
    centre = (round((x - 0.5) * scale), round((y - 0.5) * scale))
    cv2.circle(frame, centre, max(1, round(radius * scale)), colour, -1, cv2.LINE_AA, _SUBPIXEL)


def _polygon(frame: Array, corners: list[tuple[float, float]], colour: tuple[float, ...]) -> None:
    points = np.round((np.array(corners) - 0.5) * (1 << _SUBPIXEL)).astype(np.int32)
    cv2.fillConvexPoly(frame, points, colour, cv2.LINE_AA, _SUBPIXEL)
