"""Frames to the patches that Qwen2.5-VL reads, in numpy: resize, normalise, pack; no torchvision needed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from steelyard.types import Array, SteelyardError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PatchConfig:
    """How frames become patches; read from a model folder's preprocessor files.

    Attributes:
        patch_size: pixels a side of a patch.
        temporal_patch_size: frames a patch; a still image is repeated to fill it.
        merge_size: patches a side that the tower merges into one token.
        mean, std: of the three colours, on the scale 0 to 1.
        min_pixels, max_pixels: a video frame is resized to lie between them.
        image_min_pixels, image_max_pixels: the same for a still image.
    """

    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 768 * 28 * 28
    image_min_pixels: int = 56 * 56
    image_max_pixels: int = 1280 * 28 * 28

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path) -> PatchConfig:
        """Read `video_preprocessor_config.json` and `preprocessor_config.json`; what neither says keeps its default."""
        image = _read_json(path_or_id, "preprocessor_config.json")
        video = _read_json(path_or_id, "video_preprocessor_config.json")
        either = {**image, **video}
        names = {"patch_size": "patch_size", "temporal_patch_size": "temporal_patch_size", "merge_size": "merge_size"}
        values: dict[str, Any] = {ours: int(either[theirs]) for ours, theirs in names.items() if theirs in either}
        for ours, theirs in {"mean": "image_mean", "std": "image_std"}.items():
            if theirs in either:
                values[ours] = tuple(float(v) for v in either[theirs])
        for prefix, source in {"": video or image, "image_": image}.items():
            bounds = _pixel_bounds(source)
            values |= {f"{prefix}{name}": value for name, value in bounds.items()}
        return cls(**values)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both preprocessor files as transformers reads them."""
        shared = {
            "patch_size": self.patch_size,
            "temporal_patch_size": self.temporal_patch_size,
            "merge_size": self.merge_size,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        image = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor", **shared}
        video = {"video_processor_type": "Qwen2VLVideoProcessor", "processor_class": "Qwen2_5_VLProcessor", **shared}
        image["size"] = {"shortest_edge": self.image_min_pixels, "longest_edge": self.image_max_pixels}
        video["size"] = {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels}
        files = {"preprocessor_config.json": image, "video_preprocessor_config.json": video}
        for name, content in files.items():
            Path(folder, name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

    def pack_video(self, frames: Array) -> tuple[Array, Array]:
        """Patches of a video.

        Args:
            frames: uint8 [T, H, W, 3]; the last is repeated until T is a multiple of `temporal_patch_size`.

        Returns:
            float32 [t·h·w, 3 · temporal · patch · patch] and the grid int64 [3] = (t, h, w), in patches.
        """
        tall, wide = frames.shape[1:3]
        height, width = smart_resize(tall, wide, self._factor, self.min_pixels, self.max_pixels)
        return self._pack(_resize_tensor(as_uint8(frames), height, width))

    def pack_image(self, image: Array) -> tuple[Array, Array]:
        """Patches of a still image, uint8 [H, W, 3]: as `pack_video`, with t = 1."""
        tall, wide = image.shape[:2]
        height, width = smart_resize(tall, wide, self._factor, self.image_min_pixels, self.image_max_pixels)
        return self._pack(_resize_pillow(as_uint8(image), height, width)[None])

    @property
    def _factor(self) -> int:
        return self.patch_size * self.merge_size

    def _pack(self, frames: Array) -> tuple[Array, Array]:
        missing = -len(frames) % self.temporal_patch_size
        frames = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]) if missing else frames
        p, m, k = self.patch_size, self.merge_size, self.temporal_patch_size
        t, h, w = len(frames) // k, frames.shape[1] // p, frames.shape[2] // p
        blocks = frames.reshape(t, k, h // m, m, p, w // m, m, p, 3)
        patches = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(t * h * w, 3, k * p * p)
        std = np.asarray(self.std, np.float32)[:, None]
        scaled = patches * (np.float32(1 / 255) / std) - np.asarray(self.mean, np.float32)[:, None] / std
        return scaled.reshape(t * h * w, -1), np.array([t, h, w], np.int64)


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The nearest height and width that `factor` divides and whose product lies between the bounds (Qwen2-VL).

    Raises:
        SteelyardError: if one side is more than 200 times the other.
    """
    if max(height, width) > 200 * min(height, width):
        raise SteelyardError(
            f"frames of {height}×{width} cannot be packed; one side may be at most 200 times the other"
        )
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        tall = max(factor, math.floor(height / shrink / factor) * factor)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
    elif tall * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        tall = math.ceil(height * grow / factor) * factor
        wide = math.ceil(width * grow / factor) * factor
    return tall, wide


def as_uint8(frames: Array) -> Array:
    """Frames as uint8; floats are taken to lie in [0, 1], whole numbers in [0, 255].

    Raises:
        SteelyardError: for whole numbers outside that.
    """
    if frames.dtype.kind in "iu" and frames.dtype != np.uint8:
        if frames.min(initial=0) < 0 or frames.max(initial=0) > 255:
            ends = f"{frames.min()} to {frames.max()}"
            raise SteelyardError(f"frames of type {frames.dtype} hold {ends}; pixels must lie between 0 and 255")
        return frames.astype(np.uint8)
    return frames if frames.dtype == np.uint8 else np.clip(np.rint(frames * 255.0), 0, 255).astype(np.uint8)


def _resize_tensor(frames: Array, height: int, width: int) -> Array:
    """uint8 [T, H, W, 3] by antialiased bicubic interpolation, as torchvision's tensor backend does it."""
    if frames.shape[1:3] == (height, width):
        return frames
    tensor = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    resized = F.interpolate(tensor, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _resize_pillow(image: Array, height: int, width: int) -> Array:
    """uint8 [H, W, 3] by Pillow's bicubic filter, as transformers' PIL backend does it."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _read_json(path_or_id: str | Path, name: str) -> dict[str, Any]:
    """A file of a model folder or hub id; empty where there is none."""
    if Path(path_or_id).is_dir():
        found: str | Path | None = Path(path_or_id, name)
    else:
        from transformers.utils import cached_file

        found = cached_file(str(path_or_id), name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(found).read_text()) if found and Path(found).is_file() else {}


def _pixel_bounds(source: dict[str, Any]) -> dict[str, int]:
    """`min_pixels` and `max_pixels`, which newer files call the edges of `size`."""
    size = source.get("size") or {}
    named = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    named |= {name: source[name] for name in named if source.get(name) is not None}
    return {name: int(value) for name, value in named.items() if value is not None}
