"""Exact checks of the functional layer: the sheet's worked numbers, and properties of each function."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.perturb.video import functional as F
from steelyard.types import SteelyardError


def test_fog_worked_numbers():
    image = np.array([[[0.2, 0.4, 0.6], [0.8, 0.1, 0.0]]])
    out = F.fog(image, np.array([[0.0, 2.0]]), 0.8, 0.9)
    np.testing.assert_allclose(out, [[[0.2, 0.4, 0.6], [0.87981035, 0.73848279, 0.71829313]]], rtol=1e-6)


def test_dark_and_bright_worked_numbers():
    dark = F.dark(np.array([0.0, 0.25, 0.5, 1.0]), 0.6, 1.8)
    np.testing.assert_allclose(dark, [0, 0.04948155, 0.17230475, 0.6], rtol=1e-6)
    np.testing.assert_allclose(F.bright(np.array([0.1, 0.5, 0.9]), 1.6), [0.16, 0.8, 1.0])


def test_ar1_worked_numbers_and_ends():
    innovations = np.array([1.0, -0.5, 0.3, 0.0, 2.0])
    np.testing.assert_allclose(F.ar1(innovations, 0.9), [1, 0.68205505, 0.74461652, 0.67015486, 1.47491917], rtol=1e-6)
    np.testing.assert_array_equal(F.ar1(innovations, 0.0), innovations)
    np.testing.assert_array_equal(F.ar1(innovations, 1.0), np.ones(5))


def test_motion_blur_spreads_an_impulse_and_pads_edges():
    impulse = np.array([0, 0, 0, 1.0, 0, 0, 0])[None, :, None]
    np.testing.assert_allclose(F.motion_blur(impulse, 3).ravel(), [0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    edge = np.array([1.0, 0, 0, 0])[None, :, None]
    np.testing.assert_allclose(F.motion_blur(edge, 3).ravel(), [2 / 3, 1 / 3, 0, 0])


def mean_over_line(image, length, slope):
    """Slow and plain: the mean over the digital line through each pixel, coordinates clamped to the frame."""
    height, width = image.shape[:2]
    out = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            for i in range(-(length // 2), length // 2 + 1):
                row = y + round((x + i) * slope) - round(x * slope)
                out[y, x] += image[min(max(row, 0), height - 1), min(max(x + i, 0), width - 1)] / length
    return out


@pytest.mark.parametrize("angle", [-44, -10, 0, 7, 30])
def test_motion_blur_is_the_mean_over_a_line(angle):
    image = np.random.default_rng(0).random((9, 70, 3))
    slope = -math.tan(math.radians(angle))
    np.testing.assert_allclose(F.motion_blur(image, 5, angle), mean_over_line(image, 5, slope), atol=1e-12)
    turned = F.motion_blur(image.swapaxes(0, 1).copy(), 5, 90 - angle).swapaxes(0, 1)
    np.testing.assert_allclose(turned, mean_over_line(image, 5, slope), atol=1e-12)


def test_motion_blur_refuses_even_lengths():
    with pytest.raises(SteelyardError, match="odd"):
        F.motion_blur(np.zeros((3, 3, 3)), 4)


@given(st.integers(1, 300), st.floats(0, 1))
def test_kept_frames_is_the_floor_but_at_least_one(frames, ratio):
    kept = F.kept_frames(frames, ratio=ratio)
    assert 1 <= kept <= frames
    assert kept == 1 or abs(kept - frames * (1 - ratio)) < 1


def test_kept_frames_worked_numbers():
    assert F.kept_frames(16, ratio=0.2) == 12
    assert F.kept_frames(1, ratio=0.9) == 1
    assert F.kept_frames(16, ratio=1.0) == 1
    assert F.kept_frames(16, keep=5) == 5
    assert F.kept_frames(3, keep=5) == 3
    assert F.kept_frames(16, enabled=False) == 16
    assert F.kept_frames(10, ratio=0.9) == 1
    assert F.kept_frames(10, ratio=0.7) == 3


def test_drop_frames_blackens_exactly_the_others():
    video = np.full((10, 2, 3, 3), 9, np.uint8)
    out, mask = F.drop_frames(video, 4, np.random.default_rng(0))
    assert mask.sum() == 4
    assert (out[mask] == 9).all() and (out[~mask] == 0).all()
    assert (video == 9).all()


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_windows_keep_frames_inside(frames, width, seed):
    order = F.window_permutation(frames, width, np.random.default_rng(seed))
    assert sorted(order) == list(range(frames))
    assert (order // width == np.arange(frames) // width).all()


def test_zoom_blur_keeps_its_centre_and_flat_pictures():
    flat = np.full((21, 33, 3), 0.4, np.float32)
    np.testing.assert_allclose(F.zoom_blur(flat, 0.3), flat, atol=1e-6)
    point = np.zeros((21, 21, 3), np.float32)
    point[10, 10] = 1
    blurred = F.zoom_blur(point, 0.2)[..., 0]
    assert np.unravel_index(blurred.argmax(), blurred.shape) == (10, 10)
    ramp = np.repeat(np.arange(41, dtype=np.float32)[None, :, None] - 20, 5, axis=0).repeat(3, axis=2)
    ratios = 1.2 ** (-np.arange(8) / 7)
    np.testing.assert_allclose(F.zoom_blur(ramp, 0.2)[2, 8:33, 0], ramp[2, 8:33, 0] * ratios.mean(), atol=0.05)


def test_tear_moves_only_its_band():
    image = np.arange(10 * 8 * 3, dtype=np.uint8).reshape(10, 8, 3)
    out = F.tear(image, [(0.2, 0.3, 0.25)])
    np.testing.assert_array_equal(out[[0, 1, 6, 7, 8, 9]], image[[0, 1, 6, 7, 8, 9]])
    np.testing.assert_array_equal(out[2:6], np.roll(image[2:6], 2, axis=1))


@given(st.integers(0, 255), st.floats(0, 1))
def test_veil_on_bytes_is_the_veil_on_floats(level, airlight):
    image = np.random.default_rng(level).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    clear = np.full((4, 5), level, np.uint8)
    bytes_out = F.veil(image, clear, airlight)
    exact = image / 255 * (level / 255) + airlight * (1 - level / 255)
    np.testing.assert_allclose(bytes_out / 255, exact, atol=1.01 / 255)
    np.testing.assert_allclose(F.veil(image / 255, clear, airlight), exact, atol=0.51 / 255)


def test_soften_wide_blurs_agree_with_the_plain_one():
    import cv2

    image = cv2.GaussianBlur(np.random.default_rng(0).random((90, 120, 3)).astype(np.float32), (0, 0), 3)
    plain = cv2.GaussianBlur(image, (0, 0), 6, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(F.soften(image, 6.0) - plain).mean() < 0.1 * np.abs(image - plain).mean()


@pytest.mark.parametrize("image", [np.zeros((2, 2, 3), np.int32), [[0.0]]])
def test_other_pixel_types_are_refused(image):
    with pytest.raises(SteelyardError, match="uint8"):
        F.dark(image, 0.5, 1.0)
