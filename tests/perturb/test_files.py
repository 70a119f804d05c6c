"""File to file: sound kept, times kept, odd and rotated frames, and one sentence for whatever cannot be done."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from steelyard.perturb.video import KINDS
from steelyard.perturb.video.files import contact_sheet, perturb_command, perturb_file, read_clip
from steelyard.types import SteelyardError

REAL = Path(__file__).parents[2] / "../shared/data/video"
FULL = Fraction(1, 12800)


def picture(t, height, width):
    """A gradient with a bright square that moves right; red at the top left corner."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = np.linspace(40, 160, width)[None]
    image[: height // 3, : width // 3] = (220, 30, 30)
    image[height // 2 : height // 2 + 6, (3 * t) % width : (3 * t) % width + 6] = 240
    return image


def make(path, *, frames=12, size=(48, 64), pixels="yuv420p", times=None, rotation=0, sound=False, codec="libx264"):
    """A small real video; `times` are presentation times in units of 1/12800 s."""
    height, width = size
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = FULL
        if rotation:
            stream.set_display_rotation(rotation)
        audio = output.add_stream("aac", rate=48000, layout="mono") if sound else None
        for t in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(t, height, width), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = times[t] if times else 512 * t, FULL
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            for start in range(0, 24 * 1024, 1024):
                tone = np.sin(0.05 * np.arange(start, start + 1024))[None].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
    return path


def described(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return {
            "pixels": stream.codec_context.pix_fmt,
            "size": (frames[0].height, frames[0].width),
            "times": [float(frame.pts * frame.time_base) for frame in frames],
            "rotation": frames[0].rotation,
        }


def sound_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_and_times_are_kept(tmp_path, suffix):
    source = make(tmp_path / f"in{suffix}", sound=True)
    target = perturb_file(source, tmp_path / f"out{suffix}", "rain", 3, 0, progress=False)
    assert sound_of(target) == sound_of(source)
    np.testing.assert_allclose(described(target)["times"], described(source)["times"], atol=1e-3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"in{suffix}", f"out{suffix}"]


def test_the_file_shows_what_the_renderer_draws(tmp_path):
    from steelyard.perturb.video import VideoPerturbation

    source = make(tmp_path / "in.mp4", pixels="yuv444p")
    target = perturb_file(source, tmp_path / "out.mp4", "static_occlusion", 3, 0, progress=False)
    drawn = VideoPerturbation("static_occlusion", 3, 0).frames(read_clip(source))
    shown = read_clip(target)
    assert np.abs(shown.astype(int) - drawn).mean() < 4
    assert np.abs(shown.astype(int) - read_clip(source)).mean() > 10


def test_colours_survive(tmp_path):
    source = make(tmp_path / "in.mp4")
    target = perturb_file(source, tmp_path / "out.mp4", "frame", 1, 4, progress=False)
    np.testing.assert_allclose(read_clip(target)[0, 4, 4], read_clip(source)[0, 4, 4], atol=8)


@pytest.mark.parametrize(
    ("size", "pixels", "expected"),
    [((48, 64), "yuv422p", "yuv422p"), ((47, 63), "yuv444p", "yuv444p"), ((48, 64), "yuv420p10le", "yuv420p")],
)
def test_odd_sizes_and_other_pixel_formats(tmp_path, size, pixels, expected):
    source = make(tmp_path / "in.mkv", size=size, pixels=pixels)
    target = perturb_file(source, tmp_path / "out.mp4", "fog", 2, 0, progress=False)
    assert described(target)["pixels"] == expected
    assert described(target)["size"] == size
    assert len(described(target)["times"]) == 12


def test_odd_sizes_of_other_codecs(tmp_path):
    source = make(tmp_path / "in.mkv", size=(33, 51), codec="ffv1", pixels="yuv420p")
    target = perturb_file(source, tmp_path / "out.mp4", "snow", 2, 0, progress=False)
    assert described(target)["size"] == (33, 51)


def test_variable_frame_rate_is_kept(tmp_path):
    times = [0, 100, 600, 700, 2000, 2001, 5000, 9000, 9100, 9900, 12000, 20000]
    source = make(tmp_path / "in.mp4", times=times)
    target = perturb_file(source, tmp_path / "out.mp4", "bright", 2, 0, progress=False)
    np.testing.assert_allclose(described(target)["times"], described(source)["times"], atol=1e-4)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_applied_once(tmp_path, rotation):
    source = make(tmp_path / "in.mp4", rotation=rotation)
    plain = make(tmp_path / "plain.mp4")
    assert abs(described(source)["rotation"]) == abs(rotation)
    upright = np.rot90(read_clip(plain)[0], round(described(source)["rotation"] / 90) % 4)
    assert np.abs(read_clip(source)[0].astype(int) - upright).mean() < 3
    target = perturb_file(source, tmp_path / "out.mp4", "frame", 1, 4, progress=False)
    assert described(target)["rotation"] == 0
    assert np.abs(read_clip(target)[0].astype(int) - upright).mean() < 6


def test_webm_without_sound(tmp_path):
    target = perturb_file(make(tmp_path / "in.mp4"), tmp_path / "out.webm", "dark", 1, 0, progress=False)
    assert len(described(target)["times"]) == 12


def refused(call, *words):
    """The call ends in one sentence that has these words."""
    with pytest.raises(SteelyardError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_sound_that_does_not_fit_is_refused(tmp_path):
    source = make(tmp_path / "in.mp4", sound=True)
    refused(lambda: perturb_file(source, tmp_path / "out.webm", "dark", 1, 0, progress=False), ".mkv")
    assert left(tmp_path) == ["in.mp4"]


def test_no_file_no_video_and_no_stream_are_refused(tmp_path):
    out = tmp_path / "out.mp4"
    refused(lambda: perturb_file(tmp_path / "none.mp4", out, "fog", progress=False), "none.mp4", "no file")
    (tmp_path / "text.mp4").write_text("this is no video")
    refused(lambda: perturb_file(tmp_path / "text.mp4", out, "fog", progress=False), "text.mp4")
    (tmp_path / "empty.mp4").touch()
    refused(lambda: perturb_file(tmp_path / "empty.mp4", out, "fog", progress=False), "empty.mp4")
    with av.open(str(tmp_path / "tone.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    refused(lambda: perturb_file(tmp_path / "tone.mp4", out, "fog", progress=False), "no video stream")
    refused(lambda: read_clip(tmp_path / "tone.mp4", frames=2), "no video stream")
    assert not out.exists()


def test_zero_frames_are_refused(tmp_path):
    with av.open(str(tmp_path / "zero.mkv"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    refused(lambda: perturb_file(tmp_path / "zero.mkv", tmp_path / "out.mp4", "fog", progress=False), "zero.mkv")
    refused(lambda: read_clip(tmp_path / "zero.mkv", frames=2), "zero.mkv")
    assert left(tmp_path) == ["zero.mkv"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_cut_short_is_refused(tmp_path, suffix):
    whole = make(tmp_path / f"in{suffix}", frames=120)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(0.5 * whole.stat().st_size)])
    refused(lambda: perturb_file(cut, tmp_path / "out.mp4", "fog", progress=False), "cut", "whole file")
    assert "out.mp4" not in left(tmp_path) and len(left(tmp_path)) == 2


def test_a_damaged_file_is_handled_or_refused(tmp_path):
    whole = make(tmp_path / "in.mp4", frames=60)
    data = bytearray(whole.read_bytes())
    generator = np.random.default_rng(0)
    for at in generator.integers(200, len(data) // 2, 300):
        data[at] = int(generator.integers(256))
    (tmp_path / "bad.mp4").write_bytes(bytes(data))
    try:
        perturb_file(tmp_path / "bad.mp4", tmp_path / "out.mp4", "fog", progress=False)
        assert described(tmp_path / "out.mp4")["size"] == (48, 64)
    except SteelyardError as error:
        assert "bad.mp4" in str(error) and left(tmp_path) == ["bad.mp4", "in.mp4"]


def test_bad_targets_are_refused_and_old_ones_survive(tmp_path):
    source = make(tmp_path / "in.mp4")
    before = source.read_bytes()
    refused(lambda: perturb_file(source, source, "fog", progress=False), "input itself")
    refused(lambda: perturb_file(source, tmp_path / "no/out.mp4", "fog", progress=False), "does not exist")
    refused(lambda: perturb_file(source, tmp_path / "out.avi", "fog", progress=False), ".mp4")
    refused(lambda: perturb_file(source, tmp_path / "out.mp4", "haze", progress=False), "haze")
    (tmp_path / "old.mp4").write_text("old")
    refused(lambda: perturb_file(tmp_path / "none.mp4", tmp_path / "old.mp4", "fog", progress=False), "none.mp4")
    assert source.read_bytes() == before and (tmp_path / "old.mp4").read_text() == "old"


def test_read_clip_spreads_frames_evenly(tmp_path):
    source = make(tmp_path / "in.mp4", frames=21)
    everything = read_clip(source)
    assert everything.shape == (21, 48, 64, 3) and everything.dtype == np.uint8
    np.testing.assert_array_equal(read_clip(source, frames=5), everything[[0, 5, 10, 15, 20]])
    np.testing.assert_array_equal(read_clip(source, frames=1), everything[:1])
    assert len(read_clip(source, frames=40)) == 40
    np.testing.assert_array_equal(read_clip(source, fps=5), everything[::5])
    assert read_clip(source, frames=3, size=56).shape == (3, 56, 56, 3)
    assert read_clip(source, frames=3, size=(20, 30)).shape == (3, 20, 30, 3)


@pytest.mark.parametrize("options", [{"frames": 0}, {"fps": 0}, {"frames": 2, "fps": 2}, {"size": 0}])
def test_read_clip_refuses_nonsense(tmp_path, options):
    source = make(tmp_path / "in.mp4", frames=3)
    refused(lambda: read_clip(source, **options), "read_clip")


def test_the_contact_sheet_has_a_cell_for_every_kind(tmp_path):
    from PIL import Image

    source = make(tmp_path / "in.mp4")
    with Image.open(contact_sheet(source, tmp_path / "all.png", 3, 0)) as page, \
            Image.open(contact_sheet(read_clip(source), tmp_path / "two.png", 3, 0, kinds=["fog"])) as two:  # fmt: skip
        assert page.width > 2000 and page.height > 900
        assert two.width < 200
    refused(lambda: contact_sheet(source, tmp_path / "all.txt"), ".png")
    refused(lambda: contact_sheet(source, tmp_path / "no/all.png"), "does not exist")


def test_the_command(tmp_path):
    source = make(tmp_path / "in.mp4", frames=3)
    options = {"severity": 3, "seed": 0, "progress": False}
    assert perturb_command(source, tmp_path / "a.mp4", kind="fog", **options) == [tmp_path / "a.mp4"]
    assert perturb_command(source, kind="all", grid=tmp_path / "g.png", **options) == [tmp_path / "g.png"]
    written = perturb_command(source, tmp_path / "each", kind="all", **options)
    assert [path.name for path in written] == [f"in-{kind}.mp4" for kind in KINDS]
    assert all(path.is_file() for path in written)
    refused(lambda: perturb_command(source, kind="fog", **options), "--grid")
    refused(lambda: perturb_command(source, tmp_path / "b.mp4", kind="all", **options), "folder")
    refused(lambda: perturb_command(source, tmp_path / "b.mp4", kind="haze", **options), "haze")


@pytest.mark.parametrize("name", ["coffee.mp4", "bedroom.mp4", "pancake.mkv"])
def test_real_videos(tmp_path, name):
    if not (REAL / name).is_file():
        pytest.skip(f"{name} of the shared data is not here")
    clip = read_clip(REAL / name, frames=4, size=(90, 160))
    assert clip.std() > 20 and np.abs(np.diff(clip.astype(int), axis=0)).mean() > 1
    assert contact_sheet(REAL / name, tmp_path / "all.png").stat().st_size > 100_000
