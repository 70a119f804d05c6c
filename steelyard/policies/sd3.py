"""Stable Diffusion 3 as a policy: diffusers' transformer, text encoders and decoder, read from a folder."""

from __future__ import annotations

import copy as copying
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steelyard.policies.flow import Condition, DenoisingPolicy
from steelyard.policies.kernels import ode, sde, shifted_sigmas
from steelyard.policies.lora import LoRA
from steelyard.types import Sample, SteelyardError

TARGETS = (
    "attn.add_k_proj",
    "attn.add_q_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "attn.to_k",
    "attn.to_out.0",
    "attn.to_q",
    "attn.to_v",
)
"""Layers of the transformer that get an adapter, as in Flow-GRPO's code."""

TEXT_LENGTH = 128
"""Tokens that the third text encoder reads, as in Flow-GRPO's code."""


class SD3:
    """The backbone of a Stable Diffusion 3 pipeline; a sample's prompt is a text, a completion uint8 [H, W, 3].

    The transformer predicts the velocity. Text encoders stay as they are, and a prompt is encoded once. A pipeline
    without a decoder (`vae`) holds its images themselves as states, in [−1, 1] and with three channels.

    Args:
        pipeline: a diffusers `StableDiffusion3Pipeline`.
        module: its transformer, or the transformer with adapters.
    """

    def __init__(self, pipeline: Any, module: nn.Module | None = None) -> None:
        self.pipeline, self.module = pipeline, module or pipeline.transformer
        config = pipeline.transformer.config
        if pipeline.vae is None and config.in_channels != 3:
            raise SteelyardError(f"a pipeline without a vae must have 3 channels, not {config.in_channels}")
        self.shape: tuple[int, ...] = (config.in_channels, config.sample_size, config.sample_size)
        self.times = pipeline.scheduler.config.num_train_timesteps
        self._encoded: dict[str, Condition] = {}

    def conditions(self, samples: Sequence[Sample]) -> Condition:
        """Embeddings [S, L, D] and pooled embeddings [S, P] of the prompts.

        Raises:
            SteelyardError: for a prompt that is no text.
        """
        for sample in samples:
            if not isinstance(sample.prompt, str):
                raise SteelyardError(f"sample {sample.id!r}: an image model reads a text as prompt, not chat messages")
        rows = [self._encode(str(sample.prompt)) for sample in samples]
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    def unconditional(self, count: int) -> Condition:
        """The empty prompt's."""
        return tuple(part.expand(count, *part.shape[1:]) for part in self._encode(""))

    def _encode(self, prompt: str) -> Condition:
        if prompt not in self._encoded:
            length = 1 if self.pipeline.text_encoder_3 is None else TEXT_LENGTH
            with torch.no_grad():
                embeds, _, pooled, _ = self.pipeline.encode_prompt(
                    prompt,
                    prompt,
                    prompt,
                    device=self._device,
                    do_classifier_free_guidance=False,
                    max_sequence_length=length,
                )
            self._encoded[prompt] = embeds, pooled
        return self._encoded[prompt]

    def predict(self, module: nn.Module, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The velocity [B, C, h, w]."""
        dtype = self.pipeline.transformer.dtype
        embeds, pooled = (part.to(dtype) for part in condition)
        return module(
            hidden_states=x.to(dtype),
            timestep=time * self.times,
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
            return_dict=False,
        )[0]

    def decode(self, x: Tensor) -> list[Any]:
        """uint8 [H, W, 3] each."""
        vae = self.pipeline.vae
        if vae is not None:
            latents = x / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
            x = torch.cat([vae.decode(part.to(vae.dtype), return_dict=False)[0].float() for part in latents.split(16)])
        pixels = (x.clamp(-1, 1) * 127.5 + 127.5).round().byte()
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the pipeline's parts; adapters are merged into the transformer that is written."""
        whole = copying.copy(self.pipeline)
        if hasattr(self.module, "merge_and_unload"):
            whole.transformer = copying.deepcopy(self.module).merge_and_unload()  # type: ignore[operator]
        whole.save_pretrained(folder)

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


def load_flow_policy(
    folder: str | Path,
    *,
    guidance: float = 4.5,
    steps: int = 10,
    noise_level: float = 0.7,
    trained: float = 0.99,
    evaluation_steps: int = 40,
    lora: LoRA | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    batch: int = 64,
) -> DenoisingPolicy:
    """A policy of images from a folder that diffusers' `StableDiffusion3Pipeline.save_pretrained` wrote, or a hub id.

    Parts that the folder's `model_index.json` gives as null (the third text encoder, the decoder) stay out.

    Args:
        guidance: w of classifier-free guidance.
        steps: of sampling in training; noise_level: a of the SDE; trained: the share of the steps that is trained.
        evaluation_steps: of the ODE that greedy sampling takes. The schedule's shift is the scheduler's own.
        lora: adapters instead of all weights; `LoRA(rank=32, alpha=64, targets=TARGETS)` is Flow-GRPO's.
        dtype: of the parts. device: cuda where there is one, by default.
        batch: images that go through the network together where no gradient is taken.

    Raises:
        SteelyardError: if diffusers is missing, the folder holds no such pipeline, or a part cannot be read.
    """
    pipeline = _pipeline(folder, dtype)
    pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3):
        if part is not None:
            part.requires_grad_(False).eval()
    module = pipeline.transformer if lora is None else lora.apply(pipeline.transformer)
    schedule = pipeline.scheduler.config
    shift, train_steps = float(schedule.shift), int(schedule.num_train_timesteps)

    def grid(count: int) -> Any:
        return shifted_sigmas(count, shift=shift, train_steps=train_steps)

    return DenoisingPolicy(
        SD3(pipeline, module),
        sde(grid(steps), noise_level, released_kl=True),
        evaluation=ode(grid(evaluation_steps)),
        guidance=guidance,
        trained=trained,
        batch=batch,
    )


def resized(policy: DenoisingPolicy, size: int) -> DenoisingPolicy:
    """The same network drawing states of another size: train at a low resolution, test at the model's own.

    What trains the one trains the other; copies are kept apart.

    Args:
        policy: of a Stable Diffusion 3 model.
        size: side of the states, in cells of the latent grid (an image's side over 8, where there is a decoder).

    Raises:
        SteelyardError: for another backbone, or a size that the transformer's patches or positions do not allow.

    Source: sheet 15 (PaCo-RL, arXiv 2512.04784).
    """
    if not isinstance(policy.backbone, SD3):
        raise SteelyardError(f"a {type(policy.backbone).__name__} draws one size only; give a policy of an SD3")
    config = policy.backbone.pipeline.transformer.config
    most = config.patch_size * config.pos_embed_max_size
    if size < 1 or size % config.patch_size or size > most:
        raise SteelyardError(f"states of side {size} do not fit: multiples of {config.patch_size} up to {most} do")
    backbone = copying.copy(policy.backbone)
    backbone.shape = (config.in_channels, size, size)
    options = {name: getattr(policy, name) for name in ("evaluation", "guidance", "trained", "shared_start", "batch")}
    return DenoisingPolicy(backbone, policy.kernel, **options)


def _pipeline(folder: str | Path, dtype: torch.dtype) -> Any:
    try:
        from diffusers import StableDiffusion3Pipeline
    except ImportError:
        raise SteelyardError(
            "image generation needs diffusers; install it with `pip install 'steelyard[flow]'`"
        ) from None
    path = Path(folder)
    index = path / "model_index.json"
    if path.exists() and not index.is_file():
        raise SteelyardError(f"{path} holds no model_index.json; give a folder written by a pipeline's save_pretrained")
    if not path.exists() and (path.is_absolute() or str(folder).startswith((".", "~")) or len(path.parts) > 2):
        raise SteelyardError(f"there is no folder {path}; give a folder of pipeline parts, or a hub id (owner/name)")
    try:
        absent = _absent_parts(index) if index.is_file() else {}
        with _without_bars():
            return StableDiffusion3Pipeline.from_pretrained(str(folder), dtype=dtype, **absent)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SteelyardError(f"the pipeline {str(folder)!r} could not be loaded: {first}") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """No bars of diffusers and transformers while a small model's parts are read."""
    from diffusers.utils import logging as theirs
    from transformers.utils import logging as others

    shown = [each for each in (theirs, others) if each.is_progress_bar_enabled()]
    for each in shown:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()


def _absent_parts(index: Path) -> dict[str, None]:
    """The parts that a pipeline's index gives as null, which diffusers wants to be told again.

    Raises:
        SteelyardError: if the index is of another kind of pipeline.
    """
    about = json.loads(index.read_text("utf-8"))
    kind = about.get("_class_name")
    if kind != "StableDiffusion3Pipeline":
        raise SteelyardError(f"{index} is of a {kind}; it must be a StableDiffusion3Pipeline")
    return {name: None for name, part in about.items() if isinstance(part, list) and part[0] is None}
