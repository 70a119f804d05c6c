"""A small world of image generation: coloured shapes asked for in words, and a checker that cannot be fooled."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Literal

import numpy as np

from steelyard.policies.flow import DenoisingPolicy
from steelyard.rewards.core import reward
from steelyard.types import Array, Reward, Rollouts, Sample, SteelyardError

Split = Literal["train", "validation", "test"]

SIZE = 16
SHAPES = ("circle", "square", "triangle")
COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 235), "yellow": (240, 220, 40)}
GROUND = (20, 20, 24)
RADII, OFFSETS = (4.0, 5.0, 6.0), (-1.5, 0.0, 1.5)
CLOSE = 0.16
"""Largest difference from a true picture, in shares of 255, at which an image still shows it; see `seen`."""

ASSETS = resources.files("steelyard.worlds") / "assets" / "shapes"


def coverage(shape: Array, radius: Array, x: Array, y: Array) -> Array:
    """How much of each pixel shapes cover, float [N, 16, 16] in [0, 1], edges softened over one pixel.

    Args:
        shape: int [N], index into `SHAPES`. radius: [N], in pixels. x, y: [N], the centre's distance from the middle.
    """
    grid = np.arange(SIZE) - (SIZE - 1) / 2
    across, down = grid[None, None, :] - x[:, None, None], grid[None, :, None] - y[:, None, None]
    across, down = np.broadcast_arrays(across, down)
    r = radius[:, None, None]
    circle = np.hypot(across, down) - r
    square = np.maximum(np.abs(across), np.abs(down)) - 0.85 * r
    triangle = np.maximum(down - 0.8 * r, (2 * np.abs(across) - down - r) / np.sqrt(5))
    edge = np.stack([circle, square, triangle])[shape, np.arange(len(shape))]
    return np.clip(0.5 - edge, 0.0, 1.0)


def draw(shape: Array, colour: Array, radius: Array, x: Array, y: Array) -> Array:
    """uint8 [N, 16, 16, 3]; `colour` is an index into `COLOURS`, the rest as for `coverage`."""
    share = coverage(shape, radius, x, y)[..., None]
    paint = np.asarray(list(COLOURS.values()), np.float64)[colour][:, None, None, :]
    return (share * paint + (1 - share) * np.asarray(GROUND, np.float64)).round().astype(np.uint8)


def pictures(count: int, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """Random pictures uint8 [N, 16, 16, 3], the number of their shape and of their colour, int [N] each."""
    shape, colour = generator.integers(0, len(SHAPES), count), generator.integers(0, len(COLOURS), count)
    radius = generator.uniform(RADII[0], RADII[-1], count)
    x, y = generator.uniform(OFFSETS[0], OFFSETS[-1], (2, count))
    return draw(shape, colour, radius, x, y), shape, colour


@functools.cache
def _references() -> tuple[Array, Array, Array, Array]:
    """Pictures on a grid of radius and place, float32 [R, 768] in [0, 1]; shape, colour; what they cover [R, 256]."""
    axes = (range(len(SHAPES)), range(len(COLOURS)), np.arange(4.0, 6.1, 0.5), *(np.arange(-1.5, 1.6, 0.5),) * 2)
    shape, colour, radius, x, y = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    whole = draw(shape, colour, radius, x, y).reshape(len(shape), -1).astype(np.float32) / 255
    return whole, shape, colour, coverage(shape, radius, x, y).reshape(len(shape), -1).astype(np.float32)


def seen(images: Array) -> tuple[Array, Array, Array]:
    """What images show: the nearest true picture's shape and colour, int [N] each, and how far away it is, float [N].

    The distance is the root mean square over pixels, or the difference of the covered pixels' mean paint where that is
    larger: noise averages out of the paint, and a faint picture does not pass.

    Args:
        images: uint8 [N, 16, 16, 3].

    Raises:
        SteelyardError: for images of another size.
    """
    if images.shape[1:] != (SIZE, SIZE, 3):
        raise SteelyardError(f"images are {images.shape[1:]}; the checker of shapes looks at {SIZE}×{SIZE}×3")
    whole, shape, colour, covered = _references()
    given = images.reshape(len(images), -1).astype(np.float32) / 255
    squares = (given**2).sum(1)[:, None] - 2 * given @ whole.T + (whole**2).sum(1)[None]
    nearest = squares.argmin(axis=1)
    distance = np.sqrt(np.maximum(squares[np.arange(len(images)), nearest], 0) / given.shape[1])
    apart = (given - whole[nearest]).reshape(len(images), SIZE * SIZE, 3)
    share = covered[nearest] / covered[nearest].sum(axis=1, keepdims=True)
    paint = np.abs((apart * share[..., None]).sum(axis=1)).max(axis=1)
    return shape[nearest], colour[nearest], np.maximum(distance, paint)


@reward(batch=True)
def asked_for(rollouts: Rollouts) -> Array:
    """1 where an image clearly shows the shape and the colour that its prompt asks for, else 0."""
    shape, colour, distance = seen(np.stack(list(rollouts.completions)))
    right_shape = np.asarray(SHAPES, object)[shape] == np.asarray(rollouts.column("shape"), object)
    right_colour = np.asarray(list(COLOURS), object)[colour] == np.asarray(rollouts.column("colour"), object)
    return (right_shape & right_colour & (distance <= CLOSE)).astype(np.float64)


@reward(batch=True)
def clear(rollouts: Rollouts) -> Array:
    """1 where an image clearly shows some shape, whichever it is."""
    return (seen(np.stack(list(rollouts.completions)))[2] <= CLOSE).astype(np.float64)


def prompt(colour: str, shape: str) -> str:
    """The words of a prompt."""
    return f"a {colour} {shape}"


class Shapes:
    """Twelve prompts, and a tiny Stable Diffusion 3 whose captions were wrong half of the time when it was trained.

    Args:
        steps: of sampling in training. evaluation_steps: of the ODE in measuring.
    """

    name = "shapes"
    attempts = 12
    reward: Reward = asked_for

    def __init__(self, *, steps: int = 10, evaluation_steps: int = 20) -> None:
        self.steps, self.evaluation_steps = steps, evaluation_steps

    def samples(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Sample]:
        """The prompts, over and over; splits do not differ."""
        asked = [(colour, shape) for colour in COLOURS for shape in SHAPES]
        return [_sample(f"{split}-{i}", *asked[i % len(asked)]) for i in range(count)]

    def policy(self, *, seed: int = 0) -> DenoisingPolicy:
        """The base that ships with the library; the seed changes nothing."""
        from steelyard.policies.sd3 import load_flow_policy

        return load_flow_policy(
            str(ASSETS),
            guidance=1.5,
            steps=self.steps,
            evaluation_steps=self.evaluation_steps,
            device="cpu",
            batch=512,
        )


def _sample(name: str, colour: str, shape: str) -> Sample:
    return Sample(name, prompt(colour, shape), columns={"colour": colour, "shape": shape})
