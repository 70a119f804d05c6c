"""Video files to video files: corrupted frame by frame in constant memory, audio copied, never half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.perturb.video.kinds import KINDS
from steelyard.perturb.video.reading import check_whole, open_video, read_clip, upright
from steelyard.perturb.video.sampling import Clip, VideoPerturbation
from steelyard.perturb.video.sheet import contact_sheet
from steelyard.types import SteelyardError

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

__all__ = ["contact_sheet", "perturb_command", "perturb_file", "read_clip"]

ENCODERS = {
    ".mp4": ("libx264", {"crf": "18", "preset": "veryfast"}),
    ".m4v": ("libx264", {"crf": "18", "preset": "veryfast"}),
    ".mov": ("libx264", {"crf": "18", "preset": "veryfast"}),
    ".mkv": ("libx264", {"crf": "18", "preset": "veryfast"}),
    ".webm": ("libvpx-vp9", {"crf": "28", "b": "0", "cpu-used": "5", "deadline": "realtime"}),
}
NOMINAL_RATE = 10
"""Frames a second at which one frame moves things as far as one sampled frame of a benchmark clip."""
_UNSPECIFIED = 2


def perturb_file(
    source: str | Path, target: str | Path, kind: str, severity: int = 3, seed: int = 0, *, progress: bool = True
) -> Path:
    """Corrupt a whole video file.

    Frame times are kept (also where the rate varies), audio is copied as it is, rotation metadata is applied to the
    pixels, 4:2:2 and 4:4:4 stay so, and frames with an odd side become 4:4:4. Samples of more than 8 bits are cut
    to 8. The target appears only when it is whole.

    Args:
        target: its suffix picks the container: .mp4, .m4v, .mov, .mkv or .webm.
        kind: one of `KINDS`; severity from 1 to 5; seed at least 0.
        progress: draw a bar on standard error.

    Returns:
        The target's path.

    Raises:
        SteelyardError: in one sentence, for what cannot be read or written.
    """
    perturbation = VideoPerturbation(kind, severity, seed)
    source, target = Path(source), Path(target)
    _check_target(source, target)
    partial = target.with_name(f".{target.stem}.partial-{os.getpid()}{target.suffix}")
    try:
        with open_video(source) as (container, stream):
            _rewrite(source, container, stream, partial, perturbation, progress)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _check_target(source: Path, target: Path) -> None:
    if target.suffix.lower() not in ENCODERS:
        raise SteelyardError(f"{target} cannot be written; its name must end in {', '.join(ENCODERS)}")
    if target.is_dir():
        raise SteelyardError(f"{target} is a folder; give the path of a video file")
    if not target.parent.is_dir():
        raise SteelyardError(f"the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK):
        raise SteelyardError(f"the folder {target.parent} cannot be written to; choose another")
    if source.exists() and target.exists() and source.samefile(target):
        raise SteelyardError(f"{target} is the input itself; choose another path for the output")


def _rewrite(
    source: Path,
    container: InputContainer,
    stream: VideoStream,
    partial: Path,
    perturbation: VideoPerturbation,
    progress: bool,
) -> None:
    frames, seen = 0, 0.0
    start = (container.start_time or 0) / 1_000_000
    with _opened(partial) as output, _bar(perturbation.kind, container, stream, shown=progress) as advance:
        others = [s for s in container.streams.audio if s.codec_context is not None]
        writer = _Writer(output, stream, perturbation)
        copies = {other.index: _copied(output, other, partial) for other in others}
        waiting: list[Packet] = []
        for packet in container.demux(stream, *others):
            if packet.size and packet.pts is not None:
                seen = max(seen, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start)
            if packet.stream_index != stream.index:
                waiting += [packet] if packet.dts is not None else []
            else:
                for frame in packet.decode():
                    writer.write(frame)
                    frames += 1
                    advance()
            if frames:
                _copy(output, waiting, copies)
        check_whole(source, container, seen)
        if not frames:
            raise SteelyardError(f"{source} has a video stream without a single frame; give a video with at least one")
        writer.finish()


@contextmanager
def _opened(partial: Path) -> Iterator[OutputContainer]:
    import av

    with _written(partial.parent):
        output = av.open(str(partial), "w")
    with output:
        yield output


def _copied(output: OutputContainer, stream: Any, partial: Path) -> Any:
    try:
        return output.add_stream_from_template(stream)
    except ValueError:
        sound = stream.codec_context.name
        raise SteelyardError(f"the input's {sound} sound cannot be copied into {partial.suffix}; choose .mkv") from None


def _copy(output: OutputContainer, waiting: list[Packet], copies: dict[int, Any]) -> None:
    for packet in waiting:
        packet.stream = copies[packet.stream_index]
        with _written(Path(output.name).parent):
            output.mux(packet)
    waiting.clear()


@contextmanager
def _written(folder: Path, remedy: str = "make room, or choose another container") -> Iterator[None]:
    """What goes wrong inside is a failure to write, not damage of the input."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise SteelyardError(f"the output in {folder} cannot be written ({error.strerror}); {remedy}") from None


class _Writer:
    """Corrupts and encodes frames; set up when the first one shows how large and of what colour they are."""

    def __init__(self, output: OutputContainer, source: VideoStream, perturbation: VideoPerturbation) -> None:
        self._output, self._source, self._perturbation = output, source, perturbation
        codec, options = ENCODERS[Path(output.name).suffix.lower()]
        self._rate = source.average_rate or source.guessed_rate or Fraction(30)
        self._stream: Any = output.add_stream(
            codec, rate=Fraction(self._rate).limit_denominator(65535), options=options
        )
        self._clip: Clip | None = None
        self._format, self._shape = "yuv420p", (0, 0)
        self._last: int | None = None

    def write(self, frame: VideoFrame) -> None:
        """Corrupt and encode the next frame."""
        from av import VideoFrame

        image = upright(frame)
        if self._clip is None:
            self._start(frame, *image.shape[:2])
        assert self._clip is not None
        if image.shape[:2] != self._shape:
            raise SteelyardError(f"frames change from {self._shape} to {image.shape[:2]} pixels; cut the video there")
        changed = VideoFrame.from_ndarray(np.ascontiguousarray(self._clip(image)), format="rgb24")
        changed = changed.reformat(format=self._format, dst_colorspace=_matrix(frame))
        changed.pts, changed.time_base = self._when(frame), self._source.time_base
        changed.colorspace, changed.color_range = frame.colorspace, 1
        self._mux(changed)

    def _start(self, frame: VideoFrame, height: int, width: int) -> None:
        tempo = min(1.0, NOMINAL_RATE / float(self._rate))
        self._clip, self._shape = self._perturbation.clip(height, width, tempo=tempo), (height, width)
        self._format = _pixel_format(frame.format.name, height, width)
        stream, aspect = self._stream, self._source.sample_aspect_ratio
        stream.width, stream.height, stream.pix_fmt = width, height, self._format
        stream.codec_context.time_base = self._source.time_base
        context = stream.codec_context
        context.colorspace, context.color_range = frame.colorspace, 1
        given = self._source.codec_context
        context.color_primaries, context.color_trc = given.color_primaries, given.color_trc
        if aspect:
            turned = round(frame.rotation / 90) % 2
            context.sample_aspect_ratio = 1 / aspect if turned else aspect
        with _written(Path(self._output.name).parent, "its sound may not fit this container: choose .mkv"):
            self._output.start_encoding()

    def _when(self, frame: VideoFrame) -> int:
        base = self._source.time_base or 1 / self._rate
        after = 0 if self._last is None else self._last + max(1, round(1 / (self._rate * base)))
        pts = after if frame.pts is None else frame.pts
        self._last = pts if self._last is None else max(pts, self._last + 1)
        return self._last

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        self._mux(None)

    def _mux(self, frame: VideoFrame | None) -> None:
        with _written(Path(self._output.name).parent):
            self._output.mux(self._stream.encode(frame))


def _matrix(frame: VideoFrame) -> int | None:
    return None if frame.colorspace == _UNSPECIFIED else frame.colorspace


def _pixel_format(name: str, height: int, width: int) -> str:
    chroma = next((c for c in ("444", "422") if c in name), "420")
    if name.startswith(("rgb", "bgr", "gbr")) or height % 2 or width % 2:
        chroma = "444"
    return f"yuv{chroma}p"


@contextmanager
def _bar(label: str, container: InputContainer, stream: VideoStream, *, shown: bool) -> Iterator[Any]:
    """A progress bar on standard error; yields what to call after each frame."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    guess = round((container.duration or 0) / 1_000_000 * float(stream.average_rate or 0))
    total = stream.frames or guess or None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)


def perturb_command(
    source: str | Path,
    target: str | Path | None = None,
    *,
    kind: str,
    severity: int = 3,
    seed: int = 0,
    grid: str | Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """What `steelyard perturb video` does.

    One kind writes the file `target`; `all` writes one file a kind into the folder `target` (made if it is absent),
    named after the source and the kind; `grid` draws a contact sheet of the kinds instead, or as well.

    Returns:
        The paths that were written.

    Raises:
        SteelyardError: in one sentence, for what cannot be read or written, or where nothing was asked for.
    """
    if kind != "all":
        VideoPerturbation(kind, severity, seed)
    if target is None and grid is None:
        raise SteelyardError("there is nowhere to write to; give an output path, or --grid with the path of a picture")
    written = []
    if target is not None and kind == "all":
        written += _perturb_all(Path(source), Path(target), severity, seed, progress=progress)
    elif target is not None:
        written.append(perturb_file(source, target, kind, severity, seed, progress=progress))
    if grid is not None:
        kinds = None if kind == "all" else (kind,)
        written.append(contact_sheet(source, grid, severity, seed, kinds=kinds))
    return written


def _perturb_all(source: Path, folder: Path, severity: int, seed: int, *, progress: bool) -> list[Path]:
    if folder.is_file() or folder.suffix.lower() in ENCODERS:
        raise SteelyardError(f"{folder} is no folder; with all kinds the output is a folder, one file a kind")
    if not folder.parent.is_dir():
        raise SteelyardError(f"the folder {folder.parent} does not exist; make it first")
    with open_video(source):
        folder.mkdir(exist_ok=True)
    suffix = source.suffix.lower() if source.suffix.lower() in ENCODERS else ".mp4"
    names = {kind: folder / f"{source.stem}-{kind}{suffix}" for kind in KINDS}
    return [perturb_file(source, path, kind, severity, seed, progress=progress) for kind, path in names.items()]
