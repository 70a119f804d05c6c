"""Video files in: opened with errors that say what is wrong, frames upright as RGB, and clips for benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from steelyard.types import Array, SteelyardError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A container and its first moving-picture stream (cover art is passed over).

    Raises:
        SteelyardError: if there is no such file, it is no video, it is damaged, or it has no video stream; and for
            damage that shows while the container is in use.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise SteelyardError(f"{path} is no file; give the path of a video")
    try:
        with av.open(str(path)) as container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams:
                raise SteelyardError(f"{path} has no video stream; give a file with moving pictures")
            if streams[0].codec_context is None:
                raise SteelyardError(f"{path} is coded in a way that FFmpeg cannot read here; convert it to H.264")
            streams[0].thread_type = "AUTO"
            yield container, streams[0]
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise SteelyardError(f"{path} is damaged, cut short or no video ({reason}); get the whole file again") from None


def upright(frame: VideoFrame) -> Array:
    """The frame as it is meant to be seen: uint8 [H, W, 3] RGB, rotation metadata applied."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4))


def check_whole(path: str | Path, container: InputContainer, seen: float) -> None:
    """Refuse a file that ends well before its own header says.

    Args:
        seen: seconds from the start to the last packet or frame of any stream.
    """
    said = (container.duration or 0) / 1_000_000
    if said - seen > 1.0 + 0.05 * said:
        raise SteelyardError(f"{path} is cut short: it ends at {seen:.1f} s of {said:.1f} s; get the whole file again")


def _times(path: str | Path) -> Array:
    """float64 [N], when each frame shows, in seconds, without decoding."""
    with open_video(path) as (container, stream):
        last, times = 0.0, []
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                times.append(float(packet.pts * packet.time_base))
                last = max(last, times[-1] - (container.start_time or 0) / 1_000_000)
        if not container.streams.audio:
            check_whole(path, container, last)
    if not times:
        raise SteelyardError(f"{path} has a video stream without a single frame; give a video with at least one")
    return np.sort(np.array(times))


def _chosen(times: Array, frames: int | None, fps: float | None) -> Array:
    if frames is not None and fps is not None:
        raise SteelyardError("read_clip takes a number of frames or a rate, not both; leave one out")
    if frames is not None:
        if frames < 1:
            raise SteelyardError(f"read_clip: {frames} frames were asked for; ask for at least 1")
        return np.rint(np.linspace(0, len(times) - 1, frames)).astype(int)
    if fps is not None:
        if not fps > 0:
            raise SteelyardError(f"read_clip: fps is {fps}; it must be above 0")
        wanted = np.arange(times[0], times[-1] + 1e-6, 1 / fps)
        return np.searchsorted(times, wanted + 1e-6, side="right") - 1
    return np.arange(len(times))


def read_frames(path: str | Path, frames: int | None, fps: float | None, shape: Callable[[Array], Array]) -> Array:
    """The chosen frames, each passed through `shape` as soon as it is decoded; [T, H, W, 3]."""
    index = _chosen(_times(path), frames, fps)
    wanted, kept = set(index.tolist()), dict[int, Array]()
    with open_video(path) as (container, stream):
        number = -1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                kept[number] = shape(upright(frame))
            if number >= index[-1]:
                break
    missing = [i for i in index if i not in kept]
    if not kept or (missing and number < 0.95 * missing[0] - 1):
        raise SteelyardError(f"{path} is damaged: its frames end at number {number + 1}; get the whole file again")
    last = max(kept)
    return np.stack([kept[min(int(i), last)] if int(i) in kept or int(i) > last else kept[last] for i in index])


def read_clip(
    path: str | Path, *, frames: int | None = None, fps: float | None = None, size: int | tuple[int, int] | None = None
) -> Array:
    """A clip as a policy sees it: frames spread evenly over the whole video, upright.

    Args:
        frames: how many, first and last included (a shorter video repeats frames); or
        fps: how many a second; without either, all of them.
        size: (height, width), or one number for a square; without it, as in the file.

    Returns:
        uint8 [T, H, W, 3], RGB.

    Raises:
        SteelyardError: for a file that is missing, damaged, cut short, or holds no frame.
    """
    if size is None:
        return read_frames(path, frames, fps, lambda image: image)
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise SteelyardError(f"read_clip: size is {size}; height and width must be at least 1")
    return read_frames(path, frames, fps, lambda image: shrink(image, height, width))


def shrink(image: Array, height: int, width: int) -> Array:
    """Resize [H, W, 3] by the mean of the area that each pixel covers."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
