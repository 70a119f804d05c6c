"""Video corruptions as pure functions of one frame [H, W, 3], uint8 in [0, 255] or float in [0, 1].

Source: sheet 01-rova, section 1 (recommended reading), and PVRBench of arXiv 2603.10652.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from steelyard.types import Array, SteelyardError

LIGHT_LOST = 64
"""A pixel counts as destroyed where less than this much of 255 of the scene's light gets through."""


def check_image(image: Array, *, where: str) -> None:
    """Refuse anything but uint8 or float pixels."""
    if not isinstance(image, np.ndarray) or not (image.dtype == np.uint8 or image.dtype.kind == "f"):
        kind = getattr(image, "dtype", type(image).__name__)
        raise SteelyardError(f"{where} has pixels of type {kind}; uint8 in [0, 255] or float in [0, 1] is needed")


def _tone(image: Array, curve: Array | None, gain: float, gamma: float) -> Array:
    if image.dtype == np.uint8:
        assert curve is not None
        return cv2.LUT(image.reshape(-1, 1), curve).reshape(image.shape) if image.size else image.copy()
    return np.clip(gain * np.clip(image, 0, 1) ** gamma, 0, 1).astype(image.dtype)


def tone_curve(gain: float, gamma: float) -> Array:
    """uint8 [256], the table of clip(gain · x^gamma)."""
    levels = np.arange(256) / 255
    return np.rint(255 * np.clip(gain * levels**gamma, 0, 1)).astype(np.uint8)


def dark(image: Array, gain: float, gamma: float) -> Array:
    """Too little light: f' = gain · f^gamma.

    Args:
        image: uint8 or float, any shape.
        gain: share of the light that is left, in [0, 1].
        gamma: above 1 the shadows close first.
    """
    check_image(image, where="dark: image")
    return _tone(image, tone_curve(gain, gamma), gain, gamma)


def bright(image: Array, gain: float) -> Array:
    """Over-exposure: f' = clip(gain · f, 0, 1), for uint8 or float of any shape."""
    check_image(image, where="bright: image")
    return _tone(image, tone_curve(gain, 1.0), gain, 1.0)


def fog(image: Array, depth: Array, beta: float, airlight: float) -> Array:
    """Scattering in fog: f' = f · e^(−βd) + A (1 − e^(−βd)).

    Args:
        image: uint8 or float [H, W, 3].
        depth: float [H, W], 0 at the lens.
        beta: density, per unit of depth.
        airlight: brightness A of the fog itself, in [0, 1].
    """
    check_image(image, where="fog: image")
    if image.shape[:2] != np.shape(depth):
        raise SteelyardError(f"fog: depth {np.shape(depth)} does not fit image {image.shape}; it must be [H, W]")
    clear = np.exp(-beta * np.asarray(depth, np.float64))[..., None]
    if image.dtype == np.uint8:
        return np.rint(image * clear + 255 * airlight * (1 - clear)).astype(np.uint8)
    return (image * clear + airlight * (1 - clear)).astype(image.dtype)


def overlay(image: Array, clear: Array, added: Array) -> Array:
    """Alpha compositing with what hangs in front of the lens: f' = f · clear / 255 + added.

    Args:
        image: uint8 or float [H, W, 3].
        clear: uint8 [H, W] or [H, W, 3], the light of the scene that gets through.
        added: uint8 [H, W] or [H, W, 3], the light of the thing itself (already times 255 − clear).
    """
    clear, added = (cv2.merge([a, a, a]) if a.ndim == 2 else a for a in (clear, added))
    if image.dtype == np.uint8:
        return cv2.add(cv2.multiply(image, clear, scale=1 / 255), added)
    values = image.astype(np.float32) * (clear * np.float32(1 / 255)) + added * np.float32(1 / 255)
    return np.clip(values, 0, 1).astype(image.dtype)


def veil(image: Array, clear: Array, airlight: float) -> Array:
    """A veil of one brightness: f' = f · c + A (1 − c), c = clear / 255 with clear uint8 [H, W]."""
    levels = np.rint(airlight * (255 - np.arange(256))).astype(np.uint8)
    return overlay(image, clear, cv2.LUT(clear, levels).reshape(clear.shape))


def motion_blur(image: Array, length: int, angle: float = 0.0) -> Array:
    """Mean over a centred digital line, edges padded with their own pixels.

    The frame is sheared by whole pixels so that the line lies along a row (or a column), blurred with a
    box and sheared back, which is exact and does not grow with the square of the length.

    Args:
        image: uint8 or float [H, W] or [H, W, C].
        length: pixels along the longer axis of the line, odd.
        angle: degrees from the row, counter-clockwise.
    """
    check_image(image, where="motion_blur: image")
    if length < 1 or length % 2 == 0:
        raise SteelyardError(f"motion_blur: length is {length}; a centred box needs an odd number of pixels")
    angle = (angle + 90) % 180 - 90
    if length == 1:
        return image.copy()
    work = image if image.dtype in (np.uint8, np.float32, np.float64) else image.astype(np.float32)
    slope = -math.tan(math.radians(angle))
    if abs(slope) < 1e-9:
        out = cv2.blur(work, (length, 1), borderType=cv2.BORDER_REPLICATE)
    elif abs(slope) <= 1:
        out = cv2.transpose(_box_down(cv2.transpose(work), length, slope))
    else:
        out = _box_down(work, length, 1 / slope)
    return out.astype(image.dtype, copy=False).reshape(image.shape)


def _box_down(image: Array, length: int, slope: float) -> Array:
    """Box of `length` rows along lines that go `slope` columns a row, |slope| ≤ 1, band by band of rows."""
    image = image if image.ndim == 3 else image[..., None]
    height, margin = len(image), length // 2
    shifts = np.rint(np.arange(-margin, height + margin) * slope).astype(np.int64)
    out, band = np.empty_like(image), max(64, 2 * length)
    for top in range(0, height, band):
        bottom = min(top + band, height)
        above, below = max(margin - top, 0), max(bottom + margin - height, 0)
        rows = image[max(top - margin, 0) : min(bottom + margin, height)]
        out[top:bottom] = _box_band(rows, above, below, margin, shifts[top : bottom + 2 * margin])
    return out


def _box_band(rows: Array, above: int, below: int, margin: int, shifts: Array) -> Array:
    """Pad, shear by whole pixels, blur down, shear back; the outer `margin` rows only feed the others."""
    shifts = shifts - shifts.min()
    span, (_, width, channels) = int(shifts.max()), rows.shape
    padded = cv2.copyMakeBorder(rows, above, below, span, span, cv2.BORDER_REPLICATE).reshape(len(shifts), -1, channels)
    sheared = np.empty((len(shifts), width + span, channels), rows.dtype)
    out = np.empty((len(shifts), width, channels), rows.dtype)
    cuts = [0, *(np.flatnonzero(np.diff(shifts)) + 1).tolist(), len(shifts)]
    for start, stop in pairwise(cuts):
        sheared[start:stop] = padded[start:stop, shifts[start] : shifts[start] + width + span]
    blurred = cv2.blur(sheared, (1, 2 * margin + 1), borderType=cv2.BORDER_REPLICATE).reshape(sheared.shape)
    for start, stop in pairwise(cuts):
        out[start:stop] = blurred[start:stop, span - shifts[start] : span - shifts[start] + width]
    return out[margin : len(shifts) - margin]


def zoom_blur(image: Array, strength: float, centre: tuple[float, float] = (0.5, 0.5)) -> Array:
    """Mean of eight zooms, evenly spaced in ratio, from 1 to 1 + strength.

    With Z the zoom by r = (1 + strength)^(1/7), the mean of Z^0 … Z^7 is (1 + Z^4)(1 + Z^2)(1 + Z) / 8: three
    resamplings instead of seven.

    Args:
        image: uint8 or float [H, W, 3].
        strength: at least 0.
        centre: the fixed point, as shares of width and height.
    """
    check_image(image, where="zoom_blur: image")
    if strength < 0:
        raise SteelyardError(f"zoom_blur: strength is {strength}; it must be at least 0")
    height, width = image.shape[:2]
    x, y = centre[0] * width - 0.5, centre[1] * height - 0.5
    work = image if image.dtype == np.uint8 else image.astype(np.float32)
    for power in (1, 2, 4):
        ratio = (1 + strength) ** (-power / 7)
        matrix = np.array([[ratio, 0, x * (1 - ratio)], [0, ratio, y * (1 - ratio)]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        zoomed = cv2.warpAffine(work, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        work = cv2.addWeighted(work, 0.5, zoomed.reshape(work.shape), 0.5, 0)
    return work.astype(image.dtype, copy=False)


def soften(image: Array, sigma: float) -> Array:
    """Gaussian blur of [H, W, 3], edges padded; wide ones are computed on a smaller copy."""
    height, width = image.shape[:2]
    work = image if image.dtype == np.uint8 else image.astype(np.float32)
    factor = min(int(sigma / 2), height, width)
    if factor >= 2:
        size = (math.ceil(width / factor), math.ceil(height / factor))
        small = cv2.resize(work, size, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
        soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        soft = cv2.GaussianBlur(work, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return soft.reshape(image.shape).astype(image.dtype, copy=False)


def tear(image: Array, bands: Sequence[tuple[float, float, float]]) -> Array:
    """Shift bands of rows sideways, wrapped: (top, height, shift) as shares of the frame's height and width."""
    out = image.copy()
    rows, columns = image.shape[:2]
    for top, height, shift in bands:
        band = slice(int(top * rows), int((top + height) * rows) + 1)
        out[band] = np.roll(out[band], round(shift * columns), axis=1)
    return out


def ar1(innovations: Array, rho: float) -> Array:
    """A smooth path: z_1 = ε_1, z_t = ρ z_(t−1) + √(1 − ρ²) ε_t (ρ → 1: constant; ρ = 0: independent).

    Args:
        innovations: float [T].
        rho: in [0, 1].
    """
    path = np.array(innovations, np.float64)
    fresh = math.sqrt(1 - rho**2)
    for t in range(1, len(path)):
        path[t] = rho * path[t - 1] + fresh * path[t]
    return path


def kept_frames(frames: int, *, ratio: float = 0.2, keep: int | None = None, enabled: bool = True) -> int:
    """How many frames the temporal mask leaves: max(1, ⌊T (1 − ratio)⌋), or `keep`, or all of them.

    Args:
        frames: T, at least 1.
        ratio: share that is dropped, in [0, 1]; not read where `keep` is given.
        keep: a fixed number (mode keep_k), cut to [1, T].
        enabled: False leaves every frame.
    """
    if not enabled:
        return frames
    if keep is not None:
        return min(max(1, keep), frames)
    return max(1, math.floor(round(frames * (1 - ratio), 9)))


def drop_frames(video: Array, kept: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Blacken all but `kept` frames, drawn without replacement; the length stays.

    Returns:
        The video [T, H, W, 3] and the bool [T] mask of frames that were kept.
    """
    mask = np.zeros(len(video), bool)
    mask[generator.permutation(len(video))[:kept]] = True
    out = video.copy()
    out[~mask] = 0
    return out, mask


def window_permutation(frames: int, width: int, generator: np.random.Generator) -> Array:
    """int64 [T], a permutation that moves frames only inside windows of `width` (1: identity, ≥ T: free)."""
    if width < 1:
        raise SteelyardError(f"shuffle: the window is {width} frames wide; it must be at least 1")
    order = np.arange(frames)
    for start in range(0, frames, width):
        order[start : start + width] = generator.permutation(order[start : start + width])
    return order
