"""Frozen CLIP embeddings of frames and words: what a stage model reads instead of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from steelyard.types import Array, SteelyardError, check_frames

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images, by colour."""


class FrozenClip:
    """Frames and words to the common space of a `CLIPModel` (512 numbers for ViT-B/32); nothing of it is trained.

    Args:
        model: a `transformers.CLIPModel`. tokenizer: its tokenizer, needed for words only.
        batch: frames that go through the model together.
    """

    def __init__(self, model: Any, tokenizer: Any = None, *, batch: int = 64) -> None:
        self.model, self.tokenizer, self.batch = model.eval().requires_grad_(False), tokenizer, batch

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, device: str | torch.device = "cpu", batch: int = 64) -> FrozenClip:
        """Load a folder or hub id.

        Raises:
            SteelyardError: if it cannot be read as a CLIP model with its tokenizer.
        """
        from transformers import CLIPModel

        from steelyard.policies.loading import architecture, load_tokenizer, read_config

        architecture(read_config(folder), folder, ("CLIPModel",))
        try:
            return cls(CLIPModel.from_pretrained(folder).to(device), load_tokenizer(folder), batch=batch)
        except (OSError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise SteelyardError(f"{folder} cannot be loaded as a CLIP model: {said}") from None

    @property
    def width(self) -> int:
        """F."""
        return int(self.model.config.projection_dim)

    def frames(self, frames: Array) -> Array:
        """float32 [T, F] from uint8 [T, H, W, 3]; frames that are not square are squeezed, not cropped."""
        check_frames(frames, where="frames for CLIP")
        found = [self._seen(frames[i : i + self.batch]) for i in range(0, len(frames), self.batch)]
        return np.concatenate(found)

    def words(self, texts: Sequence[str]) -> Array:
        """float32 [n, F].

        Raises:
            SteelyardError: without a tokenizer, or without texts.
        """
        if self.tokenizer is None or not texts:
            raise SteelyardError("words for CLIP need a tokenizer and at least one text")
        most = self.model.config.text_config.max_position_embeddings
        read = self.tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")
        with torch.inference_mode():
            inputs = {name: read[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            return _numbers(self.model.get_text_features(**inputs))

    def _seen(self, frames: Array) -> Array:
        side = self.model.config.vision_config.image_size
        with torch.inference_mode():
            pixels = torch.as_tensor(np.ascontiguousarray(frames), device=self.model.device).permute(0, 3, 1, 2) / 255.0
            if pixels.shape[2:] != (side, side):
                pixels = interpolate(pixels, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
            mean, deviation = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (MEAN, DEVIATION))
            return _numbers(self.model.get_image_features(pixel_values=(pixels - mean) / deviation))


def _numbers(found: Any) -> Array:
    """The features as an array; newer versions of transformers wrap them."""
    tensor: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return np.asarray(tensor.float().cpu().numpy())
