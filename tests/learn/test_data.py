"""A JSONL file as samples: what is accepted, what is refused, and that nothing is decoded early."""

import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.learn.data import load_samples
from steelyard.types import SteelyardError

av = pytest.importorskip("av")


@pytest.fixture
def write(tmp_path):
    """Writes rows beside a small video and an image."""
    from PIL import Image

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(0, 200, 20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    Image.fromarray(np.full((5, 7, 3), 9, np.uint8)).save(tmp_path / "b.png")

    def rows(*lines) -> Path:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "data.jsonl").write_text("\n".join(texts) + "\n")
        return tmp_path / "data.jsonl"

    return rows


def test_texts_chats_questions_and_media(write):
    chat = [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "what?"}]}]
    path = write(
        {"prompt": "hello", "answer": 3},
        "",
        {"id": "clip", "messages": chat, "answer": "B", "problem_type": "multiple choice"},
        {"question": "which?", "options": ["A. x", "B. y"], "images": ["b.png"], "video": "a.mp4"},
    )
    samples = load_samples(path, frames=4, size=16, instruction="Think.")
    assert samples.ids == ["1", "clip", "4"]
    assert samples[0].prompt == "hello"
    assert samples[0].columns == {"answer": 3}
    assert samples[1].prompt == [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what?"}]}]
    assert samples[1].columns == {"answer": "B", "problem_type": "multiple choice", "video": "a.mp4"}
    assert samples[1].video.shape == (4, 16, 16, 3)
    assert samples[1].video[-1].mean() > samples[1].video[0].mean() + 100
    assert samples[2].prompt == "which? A. x B. y Think."
    assert samples[2].images[0].shape == (5, 7, 3)
    assert samples[2].video is samples[1].video, "decoded once"
    assert [sample.id for sample in samples[1:]] == ["clip", "4"]


def test_nothing_is_decoded_before_it_is_asked_for(write, tmp_path):
    samples = load_samples(write({"prompt": "x", "video": "a.mp4"}, {"prompt": "y"}))
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    assert samples[1].prompt == "y"
    with pytest.raises(SteelyardError, match=r"data\.jsonl, line 1: .*a\.mp4"):
        samples[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: this is not JSON"),
        ("[1]", "line 2: this is a JSON list"),
        ({"answer": 3}, "line 2: there is no prompt"),
        ({"prompt": 3}, "must be a text or a list of messages"),
        ({"question": "which?", "options": "A, B"}, "'options' is 'A, B'; it must be a list"),
        ({"messages": [{"role": "user", "content": 3}]}, "content must be a text or a list"),
        ({"prompt": "x", "video": "gone.mp4"}, "there is no file"),
        ({"prompt": "x", "video": 3}, "'video' is 3; it must be a path"),
        ({"prompt": "x", "videos": ["a.mp4", "a.mp4"]}, "2 videos are named"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "1 video parts for 0 video files"),
        ({"prompt": "x", "id": "1"}, "the id '1' is taken by"),
    ],
)
def test_errors_name_file_and_line(write, line, words):
    path = write({"prompt": "fine"}, line)
    with pytest.raises(SteelyardError) as caught:
        load_samples(path)
    assert words in str(caught.value)
    assert f"{path}, line 2" in str(caught.value)


def test_empty_and_missing_files(write, tmp_path):
    with pytest.raises(SteelyardError, match="has no rows"):
        load_samples(write(""))
    with pytest.raises(SteelyardError, match="cannot be read"):
        load_samples(tmp_path / "none.jsonl")
