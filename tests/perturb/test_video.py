"""The sampling layer: twelve kinds that are deterministic, coherent in time, monotone in severity, at any size."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.perturb.video import (
    FAMILIES,
    KINDS,
    SEVERITIES,
    VideoPerturbation,
    compose,
    drop_frames,
    from_spec,
    outdoor_corruptions,
    shuffle_windows,
)
from steelyard.types import Perturbation, Sample, SteelyardError

ALL = list(KINDS)
DRAWN = [kind for kind in ALL if kind not in ("dark", "bright")]


def clip(frames=8, height=56, width=64, still=False):
    generator = np.random.default_rng(7)
    base = cv2.GaussianBlur(generator.random((height, width, 3)).astype(np.float32), (0, 0), 2)
    base = np.clip((base - base.mean()) / base.std() * 45 + 120, 0, 255).astype(np.uint8)
    return np.stack([base if still else np.roll(base, t, axis=1) for t in range(frames)])


def distance(a, b):
    return float(np.abs(a.astype(np.float64) - b).mean())


def test_the_twelve_kinds_and_their_families():
    assert ALL == [
        "dark", "bright", "static_occlusion", "dynamic_occlusion", "fog", "rain", "snow",
        "motion_blur", "zoom_blur", "frame", "crash", "lens",
    ]  # fmt: skip
    assert list(FAMILIES) == ["lighting", "occlusion", "weather", "camera"]
    assert [kind for kinds in FAMILIES.values() for kind in kinds] == ALL
    assert all(KINDS[kind].keeps_answer for kind in ALL)


@pytest.mark.parametrize("kind", ALL)
def test_same_seed_same_pixels_and_the_input_is_left_alone(kind):
    video = clip()
    before = video.copy()
    first = VideoPerturbation(kind, 3, 5).frames(video)
    np.testing.assert_array_equal(first, from_spec(VideoPerturbation(kind, 3, 5).spec()).frames(video))
    np.testing.assert_array_equal(video, before)
    assert first.dtype == np.uint8 and first.shape == video.shape
    assert distance(first, video) > 0


@pytest.mark.parametrize("kind", DRAWN)
def test_other_seeds_give_other_pixels(kind):
    video = clip()
    assert any(distance(VideoPerturbation(kind, 4, 0).frames(video), VideoPerturbation(kind, 4, s).frames(video)) > 0
               for s in (1, 2))  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_a_stream_equals_the_array(kind):
    video = clip(height=45, width=31)
    perturbation = VideoPerturbation(kind, 4, 11)
    frames, destroyed = perturbation.render(video)
    stream = perturbation.clip(45, 31)
    for t, frame in enumerate(video):
        np.testing.assert_array_equal(stream(frame), frames[t])
        np.testing.assert_array_equal(stream.destroyed, destroyed[t])


@pytest.mark.parametrize("kind", ALL)
def test_floats_agree_with_bytes(kind):
    video = clip()
    for severity in (1, 5):
        perturbation = VideoPerturbation(kind, severity, 2)
        floats = perturbation.frames((video / 255).astype(np.float32))
        assert floats.dtype == np.float32
        assert floats.min() >= 0 and floats.max() <= 1
        difference = np.abs(floats * 255 - perturbation.frames(video))
        assert difference.max() < 2.5
        assert difference.mean() < 0.6


@pytest.mark.parametrize("kind", ALL)
def test_more_severity_hurts_more(kind):
    video = clip(frames=12)
    hurt = np.array([
        [distance(VideoPerturbation(kind, severity, seed).frames(video), video) for severity in SEVERITIES]
        for seed in range(8)
    ]).mean(axis=0)  # fmt: skip
    assert (np.diff(hurt) > 0).all(), hurt


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(ALL),
    severity=st.sampled_from(SEVERITIES),
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    floats=st.booleans(),
)
def test_any_size(kind, severity, seed, shape, floats):
    video = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    video = video / 255 if floats else video
    out, destroyed = VideoPerturbation(kind, severity, seed).render(video)
    assert out.shape == video.shape and out.dtype == video.dtype
    assert destroyed.shape == video.shape[:3] and destroyed.dtype == bool
    assert np.isfinite(out).all()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (2, 9, 1), (2, 3, 2)])
def test_tiny_frames(kind, shape):
    out = VideoPerturbation(kind, 5, 3).frames(np.full((*shape, 3), 100, np.uint8))
    assert out.shape == (*shape, 3)


@pytest.mark.parametrize("kind", ["dynamic_occlusion", "fog", "motion_blur", "zoom_blur"])
def test_neighbours_in_time_are_closer_than_strangers(kind):
    video = clip(frames=24, still=True)
    near = far = 0.0
    for seed in range(6):
        changed = VideoPerturbation(kind, 4, seed).frames(video).astype(np.float64)
        near += np.abs(np.diff(changed, axis=0)).mean()
        far += np.abs(changed[:12] - changed[12:]).mean()
    assert 0 < near < 0.67 * far


@pytest.mark.parametrize("kind", ["dark", "bright", "static_occlusion", "crash", "lens"])
def test_fixed_kinds_do_not_move(kind):
    changed = VideoPerturbation(kind, 4, 1).frames(clip(still=True))
    assert (changed == changed[0]).all()


def test_fog_drifts_smoothly_and_is_thicker_far_away():
    black = np.zeros((40, 64, 64, 3), np.uint8)
    veil = VideoPerturbation("fog", 3, 0).frames(black)[..., 0].astype(np.float64)
    assert veil[:, :16].mean() > veil[:, -16:].mean() + 60
    step = np.abs(np.diff(veil, axis=0)).mean(axis=(1, 2))
    assert step.max() < 20
    assert np.abs(veil[0] - veil[-1]).mean() > step.mean()


def test_the_occluder_moves_at_constant_velocity():
    moved = False
    for seed in range(40):
        _, destroyed = VideoPerturbation("dynamic_occlusion", 1, seed).render(np.zeros((5, 400, 400, 3), np.uint8))
        if destroyed[:, [0, -1], :].any() or destroyed[:, :, [0, -1]].any():
            continue
        rows, columns = np.arange(400)[:, None], np.arange(400)
        centres = np.array([[(mask * rows).sum(), (mask * columns).sum()] / mask.sum() for mask in destroyed])
        velocity = np.diff(centres, axis=0)
        turned = np.abs(np.diff(velocity, axis=0)).max(axis=0) > 2
        if not turned.any():
            moved |= bool(np.abs(velocity).max() > 5)
            np.testing.assert_allclose(velocity, velocity[:1].repeat(4, axis=0), atol=1.5)
    assert moved


@pytest.mark.parametrize("kind", ["rain", "snow"])
def test_what_falls_falls(kind):
    """The best vertical match of a frame's particles in the next frame lies further down."""
    black = np.zeros((2, 200, 200, 3), np.uint8)
    first, second = VideoPerturbation(kind, 1, 4).frames(black)[..., 0].astype(np.float64)
    first, second = first - first.mean(), second - second.mean()
    match = {
        (dy, dx): (np.roll(first, (dy, dx), (0, 1)) * second).sum() for dy in range(-60, 61) for dx in range(-25, 26)
    }
    down, _ = max(match, key=match.get)
    assert down > 0
    assert match[max(match, key=match.get)] > 1.5 * match[0, 0]


def test_destroyed_pixels_no_longer_depend_on_the_scene():
    dark, light = np.zeros((6, 48, 48, 3), np.uint8), np.full((6, 48, 48, 3), 255, np.uint8)
    for kind in ("static_occlusion", "dynamic_occlusion", "lens", "crash"):
        perturbation = VideoPerturbation(kind, 4, 9)
        destroyed = perturbation.render(dark)[1]
        contrast = np.abs(perturbation.frames(light).astype(int) - perturbation.frames(dark)).max(axis=3)
        assert destroyed.any() and not destroyed.all(), kind
        assert contrast[destroyed].max() <= 64
        assert contrast[~destroyed].min() >= 60
    for kind in ("dark", "bright", "motion_blur", "zoom_blur"):
        assert not VideoPerturbation(kind, 4, 9).render(dark)[1].any()


def test_lost_frames_repeat_the_last_one_and_are_marked():
    video = clip(frames=40)
    frames, destroyed = VideoPerturbation("frame", 5, 0).render(video)
    lost = destroyed.all(axis=(1, 2))
    assert lost.any()
    for t in np.flatnonzero(lost):
        np.testing.assert_array_equal(frames[t], frames[t - 1])
    whole = ~destroyed.any(axis=(1, 2))
    np.testing.assert_array_equal(frames[whole], video[whole])
    assert 0.2 < 1 - whole.mean() < 0.6


@pytest.mark.parametrize("kind", ["static_occlusion", "fog", "rain", "snow", "crash", "lens"])
def test_one_seed_means_one_scene_at_every_size(kind):
    small, large = (VideoPerturbation(kind, 4, 3).frames(np.full((2, n, n, 3), 90, np.uint8))[1] for n in (96, 384))
    shrunk = cv2.resize(large, (96, 96), interpolation=cv2.INTER_AREA).astype(np.float64)
    low = [cv2.GaussianBlur(a.astype(np.float64), (0, 0), 3) for a in (small, shrunk)]
    assert np.corrcoef(low[0].ravel(), low[1].ravel())[0, 1] > 0.6


def test_dark_and_bright_follow_the_sheet():
    video = np.full((1, 1, 1, 3), 0.5)
    assert VideoPerturbation("dark", 5, 0).frames(video).item(0) == pytest.approx(0.2 * 0.5**2.5)
    assert VideoPerturbation("bright", 1, 0).frames(video).item(0) == pytest.approx(0.7)


def test_on_samples():
    sample = Sample("a", "what?", clip(), columns={"answer": "B"})
    perturbation = VideoPerturbation("rain", 2, 1)
    assert isinstance(perturbation, Perturbation)
    changed = perturbation(sample)
    assert changed.columns is sample.columns and changed.id == "a"
    np.testing.assert_array_equal(changed.video, perturbation.frames(sample.video))
    with pytest.raises(SteelyardError, match="'b' has no video"):
        perturbation(Sample("b", "what?"))


@pytest.mark.parametrize(
    "arguments", [("haze", 3, 0), ("fog", 0, 0), ("fog", 6, 0), ("fog", 2.5, 0), ("fog", 3, -1), ("fog", 3, 0.5)]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(SteelyardError):
        VideoPerturbation(*arguments)


@pytest.mark.parametrize("video", [np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3)), np.zeros((2, 4, 4, 3), int)])
def test_bad_videos_are_refused(video):
    with pytest.raises(SteelyardError, match="fog: video"):
        VideoPerturbation("fog", 3, 0).frames(video)


def test_a_stream_refuses_frames_of_another_size():
    stream = VideoPerturbation("fog", 3, 0).clip(4, 4)
    with pytest.raises(SteelyardError, match="alike"):
        stream(np.zeros((4, 5, 3), np.uint8))


def test_composition_shuffle_and_drop_survive_their_specs():
    video = clip(frames=10)
    parts = (shuffle_windows(2, 3), VideoPerturbation("snow", 2, 1), drop_frames(0.2, seed=8))
    both = compose(*parts)
    again = from_spec(json.loads(json.dumps(both.spec())))
    np.testing.assert_array_equal(both.frames(video), again.frames(video))
    step = video
    for part in parts:
        step = part.frames(step)
    np.testing.assert_array_equal(both.frames(video), step)
    assert both.keeps_answer and not compose(shuffle_windows(10, 0)).keeps_answer
    np.testing.assert_array_equal(compose().frames(video), video)


def test_dropped_frames_are_black_and_destroyed():
    video = np.full((16, 3, 3, 3), 7, np.uint8)
    out, destroyed = drop_frames(0.2, seed=0).render(video)
    assert destroyed.all(axis=(1, 2)).sum() == 4
    assert (out[destroyed] == 0).all() and (out[~destroyed] == 7).all()
    assert (drop_frames(seed=0, keep=5).frames(video).max(axis=(1, 2, 3)) > 0).sum() == 5


def test_unknown_specs_are_refused():
    for spec in ({}, {"kind": "fog"}, {"kind": "fog", "severity": 3, "seed": 0, "more": 1}, {"kind": "compose"}):
        with pytest.raises(SteelyardError):
            from_spec(spec)


def test_the_sampler_draws_families_evenly_and_restores():
    sampler = outdoor_corruptions()
    generator = np.random.default_rng(0)
    drawn = [sampler.draw(generator) for _ in range(2000)]
    shares = [sum(p.family == family for p in drawn) / 2000 for family in FAMILIES]
    np.testing.assert_allclose(shares, 0.25, atol=0.04)
    assert {p.kind for p in drawn} == set(ALL) and {p.severity for p in drawn} == set(SEVERITIES)
    assert all(sampler.restore(json.loads(json.dumps(p.spec()))) == p for p in drawn[:50])
    again = np.random.default_rng(0)
    assert [sampler.draw(again) for _ in range(10)] == drawn[:10]


def test_the_sampler_keeps_to_what_was_chosen():
    sampler = outdoor_corruptions(["fog", "lens"], severities=(2,))
    generator = np.random.default_rng(0)
    drawn = {(p.kind, p.severity) for p in (sampler.draw(generator) for _ in range(50))}
    assert drawn == {("fog", 2), ("lens", 2)}
    for bad in ({"kinds": []}, {"kinds": ["haze"]}, {"severities": (9,)}):
        with pytest.raises(SteelyardError):
            outdoor_corruptions(**bad)
