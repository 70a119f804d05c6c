"""Vision-language models of the Qwen2.5-VL family as policies: video and images become patches and placeholders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from steelyard.policies.causal import Encoded
from steelyard.policies.language import LanguagePolicy
from steelyard.policies.loading import architecture, load_parts, read_config
from steelyard.policies.lora import LoRA, base_model
from steelyard.policies.patches import PatchConfig
from steelyard.policies.sampling import Sampling
from steelyard.policies.tower import quicken
from steelyard.types import Array, Sample, SteelyardError

MODALITIES = {"image": 1, "video": 2}
"""The marks by which transformers tells placeholder tokens apart (text is 0)."""


class VisionLanguagePolicy(LanguagePolicy):
    """A Qwen2.5-VL model that acts by writing tokens after text, images and video.

    A chat message holds `{"type": "video"}` and `{"type": "image"}` parts, filled in order from the sample; a plain
    text prompt gets them in front. The column `fps` of a sample, if it has one, sets how fast its video runs
    (otherwise one patch a second).

    Args:
        model: Qwen2_5_VLForConditionalGeneration, or one wrapped by peft.
        tokenizer: its tokenizer, which knows the placeholder tokens of the model's config.
        sampling: how completions are drawn.
        pixels: how frames become patches.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, sampling: Sampling, *, pixels: PatchConfig
    ) -> None:
        super().__init__(model, tokenizer, sampling)
        quicken(base_model(model).model.visual)
        self.pixels = pixels
        self._rope: dict[bytes, tuple[Array, int]] = {}

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        sampling: Sampling,
        dtype: str | torch.dtype = "auto",
        lora: LoRA | None = None,
        gradient_checkpointing: bool = False,
        device: str | torch.device | None = None,
    ) -> Self:
        """As `LanguagePolicy.from_pretrained`; how frames are packed is read from the preprocessor files."""
        model, tokenizer = load_parts(
            path_or_id,
            classes=cls.architectures(),
            dtype=dtype,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
            device=device,
        )
        return cls(model, tokenizer, sampling, pixels=PatchConfig.from_pretrained(path_or_id))

    @staticmethod
    def architectures() -> tuple[str, ...]:
        """The Hugging Face classes that this policy runs."""
        return ("Qwen2_5_VLForConditionalGeneration",)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, config, tokenizer and preprocessor files for `from_pretrained`."""
        super().save_pretrained(folder)
        self.pixels.save_pretrained(folder)

    def render(self, sample: Sample) -> str:
        """The prompt as one text, with one placeholder token per image and video."""
        text = super().render(sample)
        if not isinstance(sample.prompt, str):
            return text
        media = ["video"] * (sample.video is not None) + ["image"] * len(sample.images)
        return "".join(map(self._placeholder, media)) + text

    def _placeholder(self, kind: str) -> str:
        if kind not in MODALITIES:
            raise SteelyardError(f"a chat message holds a part of type {kind!r}; it must be text, image or video")
        start, end = (self._token(f"vision_{edge}_token_id") for edge in ("start", "end"))
        return f"{start}{self._token(f'{kind}_token_id')}{end}"

    def _token(self, name: str) -> str:
        config = base_model(self.module).config
        token = getattr(config, name, None)
        return "" if token is None else self.tokenizer.convert_ids_to_tokens(token)

    def _encode_prompt(self, sample: Sample) -> Encoded:
        chat = not isinstance(sample.prompt, str) and bool(self.tokenizer.chat_template)
        ids = np.asarray(self.tokenizer(self.render(sample), add_special_tokens=not chat)["input_ids"], np.int64)
        packs = {"image": [self.pixels.pack_image(image) for image in sample.images]}
        packs["video"] = [] if sample.video is None else [self.pixels.pack_video(sample.video)]
        pixels, config = {}, base_model(self.module).config
        kinds, repeats = np.zeros(len(ids), np.int64), np.ones(len(ids), np.int64)
        for kind, mark in MODALITIES.items():
            places = (ids == getattr(config, f"{kind}_token_id")).nonzero()[0]
            _check_media(sample, kind, len(places), len(packs[kind]))
            if packs[kind]:
                patches, grids = (list(part) for part in zip(*packs[kind], strict=True))
                pixels[kind] = np.concatenate(patches), np.stack(grids)
                kinds[places] = mark
                repeats[places] = pixels[kind][1].prod(axis=1) // self.pixels.merge_size**2
        positions, following = self._positions(np.repeat(kinds, repeats), pixels, _fps(sample))
        return Encoded(np.repeat(ids, repeats), positions, following, pixels)

    def _positions(self, kinds: Array, pixels: dict[str, tuple[Array, Array]], fps: float | None) -> tuple[Array, int]:
        """Multimodal rotary positions [3, P] by the model's own `get_rope_index`, and the first after the prompt."""
        grids = {kind: torch.from_numpy(pixels[kind][1]) if kind in pixels else None for kind in MODALITIES}
        key = b"|".join(
            [kinds.tobytes(), *(b"" if g is None else g.numpy().tobytes() for g in grids.values()), repr(fps).encode()]
        )
        if key not in self._rope:
            seconds = (
                None
                if fps is None or grids["video"] is None
                else torch.full((len(grids["video"]),), self.pixels.temporal_patch_size / fps)
            )
            positions, _ = base_model(self.module).model.get_rope_index(
                torch.zeros(1, len(kinds), dtype=torch.long),
                torch.from_numpy(kinds)[None].int(),
                image_grid_thw=grids["image"],
                video_grid_thw=grids["video"],
                second_per_grid_ts=seconds,
            )
            if len(self._rope) >= 4096:
                self._rope.clear()
            self._rope[key] = positions[:, 0].numpy(), int(positions.max()) + 1
        return self._rope[key]


def _fps(sample: Sample) -> float | None:
    """Frames a second, where the sample says it."""
    fps = sample.columns.get("fps")
    if fps is None or (isinstance(fps, int | float) and 0 < fps < float("inf")):
        return fps
    raise SteelyardError(f"sample {sample.id!r} has the fps {fps!r}; it must be a positive number")


def _check_media(sample: Sample, kind: str, asked: int, given: int) -> None:
    if asked != given:
        raise SteelyardError(
            f"the prompt of sample {sample.id!r} asks for {asked} {kind}(s) and holds {given}; they must agree"
        )


def load_policy(
    path_or_id: str | Path,
    *,
    sampling: Sampling,
    dtype: str | torch.dtype = "auto",
    lora: LoRA | None = None,
    gradient_checkpointing: bool = False,
    device: str | torch.device | None = None,
) -> LanguagePolicy | VisionLanguagePolicy:
    """The policy whose class fits the model of a folder or hub id; arguments as `LanguagePolicy.from_pretrained`.

    Raises:
        SteelyardError: if the folder is missing, is no model folder, or holds an architecture that no policy runs.
    """
    classes = (*LanguagePolicy.architectures(), *VisionLanguagePolicy.architectures())
    name = architecture(read_config(path_or_id), path_or_id, classes)
    policy = VisionLanguagePolicy if name in VisionLanguagePolicy.architectures() else LanguagePolicy
    return policy.from_pretrained(
        path_or_id,
        sampling=sampling,
        dtype=dtype,
        lora=lora,
        gradient_checkpointing=gradient_checkpointing,
        device=device,
    )
