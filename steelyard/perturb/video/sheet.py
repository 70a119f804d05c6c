"""A contact sheet: one moment of a video, clean and under every kind of corruption."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from steelyard.perturb.video.kinds import FAMILIES, KINDS
from steelyard.perturb.video.reading import read_frames, shrink
from steelyard.perturb.video.sampling import VideoPerturbation
from steelyard.types import Array, SteelyardError

CELL = 400
_FRAMES = 8
_GAP, _CAPTION = 14, 34
_PAPER, _INK, _FAINT = (250, 250, 248), (28, 30, 34), (110, 114, 122)


def contact_sheet(
    video: str | Path | Array,
    out: str | Path,
    severity: int = 3,
    seed: int = 0,
    *,
    kinds: Iterable[str] | None = None,
) -> Path:
    """Draw one frame of a video, clean and under each kind, labelled.

    Args:
        video: a file, or uint8 [T, H, W, 3].
        out: a picture that Pillow can write: .png, .jpg, .webp.
        kinds: those to draw; all twelve where it is left out.

    Returns:
        The picture's path.

    Raises:
        SteelyardError: for a video that cannot be read or a picture that cannot be written.
    """
    out, chosen = Path(out), tuple(KINDS if kinds is None else kinds)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise SteelyardError(f"{out} is no picture; its name must end in .png, .jpg or .webp")
    if not out.parent.is_dir():
        raise SteelyardError(f"the folder {out.parent} does not exist; make it first")
    perturbations = [VideoPerturbation(kind, severity, seed) for kind in chosen]
    clip = video if isinstance(video, np.ndarray) else read_frames(video, _FRAMES, None, lambda image: fit(image, CELL))
    name = "" if isinstance(video, np.ndarray) else Path(video).name
    moment = len(clip) // 2
    cells = [("clean", "", clip[moment])]
    cells += [(p.kind, p.family, _telling(p, clip, moment)) for p in perturbations]
    _draw(cells, f"{name}\nseverity {severity} of 5 · seed {seed}".strip(), out)
    return out


def fit(image: Array, width: int) -> Array:
    """Scale [H, W, 3] to a width, keeping its shape."""
    return shrink(image, max(1, round(image.shape[0] * width / image.shape[1])), width)


def _telling(perturbation: VideoPerturbation, clip: Array, moment: int) -> Array:
    """The frame of this moment; where it came through untouched, the one that changed most."""
    changed = perturbation.frames(clip)
    distance = np.abs(changed.astype(np.int16) - clip).mean(axis=(1, 2, 3))
    return changed[moment if distance[moment] > 0.5 else int(distance.argmax())]


def _draw(cells: list[tuple[str, str, Array]], title: str, out: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont

    columns = min(5, len(cells))
    slots: list[tuple[str, str, Array] | None] = list(cells)
    if len(cells) == 1 + sum(map(len, FAMILIES.values())):
        slots[8:8] = [None, None]
    rows = -(-len(slots) // columns)
    height, width = cells[0][2].shape[:2]
    pitch_x, pitch_y, top = width + _GAP, height + _CAPTION + _GAP, 74
    page = Image.new("RGB", (columns * pitch_x + _GAP, top + rows * pitch_y), _PAPER)
    pen, large, small = ImageDraw.Draw(page), ImageFont.load_default(22), ImageFont.load_default(17)
    first, _, second = title.partition("\n")
    pen.text((_GAP, 14), first, _INK, large)
    pen.text((_GAP, 42), second, _FAINT, small)
    for slot, cell in enumerate(slots):
        if cell is None:
            continue
        x, y = _GAP + slot % columns * pitch_x, top + slot // columns * pitch_y
        label, family, image = cell
        page.paste(Image.fromarray(np.ascontiguousarray(image)), (x, y + _CAPTION - 6))
        pen.text((x, y), label.replace("_", " "), _INK, large)
        pen.text((x + width, y + 5), family, _FAINT, small, anchor="ra")
    page.save(out)
