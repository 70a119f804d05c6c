"""Makes the shipped image model again: `python -m steelyard.worlds.shapes_base --out DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from steelyard.learn.supervised import schedule as falling
from steelyard.policies.sd3 import SD3
from steelyard.worlds.shapes import COLOURS, SHAPES, SIZE, pictures, prompt

WIDTH, LENGTH = 32, 8


def untrained(seed: int = 0) -> Any:
    """A diffusers pipeline of tiny parts: a transformer of three blocks on patches of 4×4 pixels, two text encoders.

    Its states are the images themselves; a third text encoder and a decoder are left out.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizer = word_tokenizer(["a", *COLOURS, *SHAPES])
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoders = [CLIPTextModelWithProjection(text) for _ in range(2)]
    transformer = SD3Transformer2DModel(
        sample_size=SIZE,
        patch_size=4,
        in_channels=3,
        out_channels=3,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=64,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=4,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=None,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def word_tokenizer(words: list[str]) -> Any:
    """CLIP's tokenizer with merges that make each of these words one token."""
    from transformers import CLIPTokenizer

    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        for pair in merges:
            parts = _merged(parts, pair)
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = _merged(parts, merges[-1])
    letters = sorted(set("".join(words)))
    tokens = [*letters, *(f"{c}</w>" for c in letters), *("".join(pair) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate([*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


def train(pipeline: Any, *, steps: int, batch: int, seed: int, wrong: float = 0.5, dropped: float = 0.1) -> list[float]:
    """Flow matching on random pictures, in place; returns the loss of every step.

    Args:
        wrong: share of pictures whose caption is another one's; dropped: share of empty captions.
    """
    backbone, generator = SD3(pipeline), np.random.default_rng(seed)
    source = torch.Generator().manual_seed(seed)
    captions = [*(prompt(colour, shape) for colour in COLOURS for shape in SHAPES), ""]
    told = [torch.cat(parts) for parts in zip(*(backbone._encode(text) for text in captions), strict=True)]
    optimiser = torch.optim.AdamW(backbone.module.parameters(), lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: falling(step, steps, 50))
    losses = []
    for _ in range(steps):
        images, shape, colour = pictures(batch, generator)
        number = torch.as_tensor(colour * len(SHAPES) + shape)
        other = torch.randint(len(captions) - 1, (batch,), generator=source)
        number = torch.where(torch.rand(batch, generator=source) < wrong, other, number)
        number[torch.rand(batch, generator=source) < dropped] = len(captions) - 1
        loss = _loss(backbone, images, tuple(part[number] for part in told), source)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


def _loss(backbone: SD3, images: np.ndarray, condition: tuple[Tensor, ...], source: torch.Generator) -> Tensor:
    end = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = torch.randn(end.shape, generator=source)
    even = torch.rand(len(end), generator=source)
    time = 3 * even / (1 + 2 * even)
    share = time[:, None, None, None]
    predicted = backbone.predict(backbone.module, (1 - share) * end + share * noise, time, condition)
    return (predicted - (noise - end)).square().mean()


def main(
    out: Annotated[Path, typer.Option(help="Folder for the pipeline's parts.")],
    steps: Annotated[int, typer.Option(help="Updates.")] = 2500,
    batch: Annotated[int, typer.Option(help="Pictures of each.")] = 64,
    seed: Annotated[int, typer.Option(help="Of weights, pictures and captions.")] = 0,
) -> None:
    """Train the image model from nothing and write its parts in half precision."""
    pipeline = untrained(seed)
    losses = train(pipeline, steps=steps, batch=batch, seed=seed)
    typer.echo(f"loss {np.mean(losses[-100:]):.4f}")
    pipeline.to(torch.float16).save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
