"""Frames a second of the video corruptions beside the imagecorruptions package, on the same frames and one thread.

    python -m benchmarks.corruptions [--out benchmarks/corruptions.json]

The two render differently, so that outputs cannot be equal; what is checked is that both change a frame in the same
direction (brighter, flatter, softer). Setting up a clip is part of our time. The peer needs three names that left its
own dependencies since (pkg_resources, scipy.ndimage.interpolation, np.float_); `patched` puts them back for it and
changes nothing else.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from steelyard.perturb.video import VideoPerturbation

PEERS = {"bright": "brightness", "fog": "fog", "snow": "snow", "motion_blur": "motion_blur", "zoom_blur": "zoom_blur"}
SIZES = {"224x224": (224, 224), "720p": (720, 1280)}
DIRECTIONS = {
    "bright": ("brighter",),
    "fog": ("flatter", "softer"),
    "snow": ("brighter",),
    "motion_blur": ("flatter", "softer"),
    "zoom_blur": ("flatter", "softer"),
}
FRAMES, PEER_FRAMES, REPEATS, SEVERITY = 16, {"224x224": 8, "720p": 1}, 3, 3


def patched() -> Callable[..., np.ndarray]:
    """The peer's `corrupt`, importable beside today's numpy, scipy and setuptools."""
    import scipy.ndimage

    resources, interpolation = types.ModuleType("pkg_resources"), types.ModuleType("scipy.ndimage.interpolation")
    resources.resource_filename = lambda package, name: str(Path(package) / name)  # type: ignore[attr-defined]
    interpolation.map_coordinates = scipy.ndimage.map_coordinates  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", resources)
    sys.modules["scipy.ndimage.interpolation"] = interpolation
    if not hasattr(np, "float_"):
        np.float_ = np.float64  # type: ignore[attr-defined]
    from imagecorruptions import corrupt

    return corrupt


def clip(height: int, width: int) -> np.ndarray:
    """uint8 [FRAMES, H, W, 3]: coloured shapes on a gradient, moving."""
    generator = np.random.default_rng(0)
    base = np.linspace(60, 170, height)[:, None, None] * generator.uniform(0.6, 1, 3)
    frames = np.repeat(np.broadcast_to(base, (height, width, 3)).astype(np.uint8)[None], FRAMES, axis=0)
    for x, y, radius, hue in generator.uniform(0, 1, (60, 4)):
        colour = tuple(int(c) for c in 40 + 150 * np.abs(np.sin(6 * hue + np.arange(3))))
        for t, frame in enumerate(frames):
            centre = (int((x + 0.01 * t) * width), int(y * height))
            cv2.circle(frame, centre, int(2 + 0.12 * radius * height), colour, -1, cv2.LINE_AA)
    return frames


def seconds(call: Callable[[], Any]) -> float:
    """The fastest of a few calls, after one that warms up."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def changes(clean: np.ndarray, changed: np.ndarray) -> set[str]:
    """How a frame changed: brighter, flatter (less contrast), softer (less fine detail)."""
    measures = []
    for frame in (clean, changed):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float64)
        measures.append((grey.mean(), grey.std(), cv2.Laplacian(grey, cv2.CV_64F).std()))
    (mean, contrast, detail), (mean_after, contrast_after, detail_after) = measures
    named = {"brighter": mean_after > mean, "flatter": contrast_after < contrast, "softer": detail_after < detail}
    return {name for name, true in named.items() if true}


def compare(kind: str, size: str, corrupt: Callable[..., np.ndarray]) -> dict[str, Any]:
    """One kind at one size: both rates, their ratio, and whether both change the frame in the expected way."""
    frames = clip(*SIZES[size])
    perturbation = VideoPerturbation(kind, SEVERITY, 0)
    some = frames[: PEER_FRAMES[size]]

    def theirs() -> np.ndarray:
        return np.stack([corrupt(frame, severity=SEVERITY, corruption_name=PEERS[kind]) for frame in some])

    our_rate = FRAMES / seconds(lambda: perturbation.frames(frames))
    their_rate = len(some) / seconds(theirs)
    expected = set(DIRECTIONS[kind])
    np.random.seed(0)
    agree = all(expected <= changes(frames[0], out) for out in (perturbation.frames(frames)[0], theirs()[0]))
    row = {"kind": kind, "size": size, "steelyard_fps": our_rate, "imagecorruptions_fps": their_rate}
    return row | {"ratio": our_rate / their_rate, "expected": sorted(expected), "same_direction": agree}


def main() -> None:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out = parser.parse_args().out
    cv2.setNumThreads(1)
    corrupt = patched()
    rows = [compare(kind, size, corrupt) for size in SIZES for kind in PEERS]
    medians = {size: statistics.median(row["ratio"] for row in rows if row["size"] == size) for size in SIZES}
    table = Table("kind", "size", "steelyard fps", "imagecorruptions fps", "ratio", "same direction")
    for row in rows:
        figures = [f"{row[name]:.1f}" for name in ("steelyard_fps", "imagecorruptions_fps", "ratio")]
        table.add_row(row["kind"], row["size"], *figures, f"{row['same_direction']} ({', '.join(row['expected'])})")
    Console().print(table)
    print(
        f"least ratio {min(row['ratio'] for row in rows):.1f}; median "
        + ", ".join(f"{s} {m:.1f}" for s, m in medians.items())
    )
    machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1}
    versions = {"numpy": np.__version__, "opencv": cv2.__version__, "imagecorruptions": "1.1.2"}
    command = "python -m benchmarks.corruptions"
    result = {"command": command, "severity": SEVERITY, "clip_frames": FRAMES, **machine, "versions": versions}
    out.write_text(json.dumps(result | {"median_ratio": medians, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
