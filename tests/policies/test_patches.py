"""Patches equal what transformers' own processors make."""

import importlib.util
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.policies.patches import PatchConfig, smart_resize
from steelyard.types import SteelyardError

SIZES = [(56, 56), (60, 90), (33, 200), (224, 100)]
CONFIG = PatchConfig(min_pixels=28 * 28, max_pixels=84 * 84, image_min_pixels=28 * 28, image_max_pixels=84 * 84)


def frames(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_images_equal_the_pillow_processor(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = frames(1, *size)[0]
    peer = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 84 * 84})
    expected = peer(images=[image], return_tensors="np")
    patches, grid = CONFIG.pack_image(image)
    np.testing.assert_array_equal(grid, expected["image_grid_thw"][0])
    np.testing.assert_allclose(patches, expected["pixel_values"], atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="transformers' video processor needs torchvision"
)
@pytest.mark.parametrize("size", SIZES)
def test_videos_equal_the_video_processor(size):
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    video = frames(5, *size)
    peer = Qwen2VLVideoProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 84 * 84})
    expected = peer(videos=[video.transpose(0, 3, 1, 2)], return_tensors="np", do_sample_frames=False)
    patches, grid = CONFIG.pack_video(video)
    np.testing.assert_array_equal(grid, expected["video_grid_thw"][0])
    np.testing.assert_allclose(patches, expected["pixel_values_videos"], atol=0.02)


def test_a_still_video_is_its_image():
    image = frames(1, 56, 84)[0]
    still, grid = CONFIG.pack_video(np.stack([image] * 4))
    patches, one = CONFIG.pack_image(image)
    assert grid.tolist() == [2, *one[1:].tolist()]
    np.testing.assert_array_equal(still, np.concatenate([patches, patches]))


def test_an_odd_number_of_frames_repeats_the_last():
    video = frames(3, 56, 56)
    odd, even = CONFIG.pack_video(video), CONFIG.pack_video(np.concatenate([video, video[-1:]]))
    np.testing.assert_array_equal(odd[0], even[0])
    np.testing.assert_array_equal(odd[1], even[1])


def test_float_frames_are_taken_as_zero_to_one():
    video = frames(2, 56, 56)
    np.testing.assert_array_equal(CONFIG.pack_video(video / 255.0)[0], CONFIG.pack_video(video)[0])


def test_whole_numbers_are_taken_as_zero_to_255():
    video = frames(2, 56, 56)
    np.testing.assert_array_equal(CONFIG.pack_video(video.astype(np.int64))[0], CONFIG.pack_video(video)[0])
    with pytest.raises(SteelyardError, match="hold -1 to 300; pixels must lie between 0 and 255"):
        CONFIG.pack_video(np.array([-1, 300]).repeat(56 * 56 * 3).reshape(2, 56, 56, 3))


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([8, 28]))
def test_smart_resize_keeps_to_its_bounds(height, width, factor):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(SteelyardError, match="200 times"):
            smart_resize(height, width, factor, 56 * 56, 280 * 280)
        return
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as theirs

    tall, wide = smart_resize(height, width, factor, 56 * 56, 280 * 280)
    assert (tall, wide) == theirs(height, width, factor, 56 * 56, 280 * 280)
    assert tall % factor == wide % factor == 0


def test_settings_are_read_as_the_hub_writes_them(tmp_path):
    """Qwen2.5-VL's own folder has one file, with `min_pixels` and `max_pixels` for images and video alike."""
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "image_mean": [0.1, 0.2, 0.3]})
    )
    config = PatchConfig.from_pretrained(tmp_path)
    assert (config.min_pixels, config.max_pixels, config.image_max_pixels) == (3136, 12845056, 12845056)
    assert config.mean == (0.1, 0.2, 0.3) and config.merge_size == 2


def test_without_files_the_defaults_hold(tmp_path):
    assert PatchConfig.from_pretrained(tmp_path) == PatchConfig()
