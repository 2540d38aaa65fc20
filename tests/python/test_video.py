"""Videos: frames, folders of them, animations."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy
import PIL.Image
import pytest

import glimpse
from conftest import ROOT

PIXELS = 4 * 28 * 28  # of a frame; the model's own least is thirty times as much
ANIMATION = ROOT / "tests/loaders/data/animation/changes.gif"


@pytest.fixture(scope="module")
def frames() -> "list[numpy.ndarray]":
    """A square that moves to the right over 4 frames."""
    made = numpy.full((4, 56, 84, 3), 255, numpy.uint8)
    for i in range(4):
        made[i, 20:40, 16 * i : 16 * i + 20] = (230, 20, 20)
    return list(made)


def small(encodes, source, **options) -> glimpse.Embedding:
    return encodes.encode(glimpse.Video(source, min_pixels=PIXELS, **options))


def test_frames_in_every_form_are_the_same_video(model: glimpse.Model, frames, tmp_path: Path) -> None:
    want = small(model, frames)
    assert want.n_slices == 2 and want.original_size == (84, 56) and "2 pairs" in repr(want)
    for i, frame in enumerate(frames):
        PIL.Image.fromarray(frame).save(tmp_path / f"frame {i + 7}.png")
    for source in (
        numpy.stack(frames),
        (frame for frame in frames),
        tmp_path,
        [PIL.Image.fromarray(frame) for frame in frames],
        sorted(tmp_path.iterdir(), key=lambda path: int(path.stem.split()[1])),
    ):
        assert numpy.array_equal(small(model, source).numpy(), want.numpy())
    assert numpy.array_equal(small(model.session(n_ctx=512), frames).numpy(), want.numpy())
    (tmp_path / "signs").mkdir()
    for i, frame in enumerate(frames):
        PIL.Image.fromarray(frame).save(tmp_path / "signs" / f"\N{SUPERSCRIPT TWO}{i}\N{SUPERSCRIPT THREE}.png")
    assert numpy.array_equal(small(model, tmp_path / "signs").numpy(), want.numpy())
    (tmp_path / "odd").mkdir()
    for i, frame in enumerate(frames):
        PIL.Image.fromarray(frame).save(tmp_path / "odd" / f"{i:02}.pcx")
    assert numpy.array_equal(small(model, tmp_path / "odd").numpy(), want.numpy())
    again = glimpse.Embedding.load(want.tobytes())
    assert again.n_slices == 2


def test_a_model_is_shown_as_many_frames_as_it_is_used_to(model: glimpse.Model, frames) -> None:
    assert glimpse.Video(frames).frames_seen(model) == list(range(4))
    film = glimpse.Video(frames * 24, frame_rate=24)
    seen = film.frames_seen(model)
    assert len(seen) == 8 and seen == sorted(seen) and seen[-1] < 96
    assert len(glimpse.Video(frames * 24, frame_rate=24, fps=1, min_frames=2).frames_seen(model)) == 4
    assert len(glimpse.Video(frames * 24, frame_rate=24, max_frames=6).frames_seen(model)) == 6
    few = model.encode(glimpse.Video(frames, min_pixels=1, max_tokens=6))
    assert few.n_tokens <= 6 < small(model, frames).n_tokens
    assert small(model, frames, seconds=[0.5, 1, 1.5, 2]).n_slices == 2


def test_videos_are_asked_about(model: glimpse.Model, frames, picture: str) -> None:
    video = glimpse.Video(frames, min_pixels=PIXELS)
    answer = model.ask("What moves?", video, max_tokens=12)
    placed = [{"role": "user", "content": [{"type": "video", "video": video}, "What moves?"]}]
    assert model.ask(placed, max_tokens=12).tokens == answer.tokens and answer.pictures == ()
    rows = [
        {"prompt": "What moves?", "video": video},
        {"prompt": "What moves?", "image": video},
        {"prompt": "What moves?", "video": model.encode(video)},
        {"prompt": "What moves?", "video": "no such.gif"},
    ]
    found = list(model.batch(rows, max_tokens=12, on_error="row"))
    assert [row.answer and row.answer.tokens for row in found] == [answer.tokens] * 3 + [None]
    assert isinstance(found[3].error, glimpse.NotFoundError)
    text = model.render_chat("From <video> to <image>", [video, picture])
    assert text.index("<|video_pad|>") < text.index(" to ") < text.index("<|image_pad|>")
    boxes = model.ask("Give the box of the orange ring.", video, picture)
    assert len(boxes.pictures) == 1 and boxes.pictures[0].original_size == model.encode(picture).original_size


def test_animations_are_those_of_the_command(model: glimpse.Model) -> None:
    video = glimpse.Video(ANIMATION, min_pixels=PIXELS)
    assert len(video) == 4 and "8.89 in a second" in repr(video)
    answer = model.ask("What happens?", video, max_tokens=12)
    with PIL.Image.open(ANIMATION) as opened, open(ANIMATION, "rb") as file:
        for source in (ANIMATION.read_bytes(), opened, file):
            again = glimpse.Video(source, min_pixels=PIXELS)
            assert model.ask("What happens?", again, max_tokens=12).tokens == answer.tokens
    if "GLIMPSE_COMMAND" in os.environ:
        files = glimpse.demo_files()
        command = [os.environ["GLIMPSE_COMMAND"], "run", "-m", files["model"], "--mmproj", files["mmproj"], "--json"]
        command += ["--video", str(ANIMATION), "--video-min-pixels", str(PIXELS), "-n", "12", "What happens?"]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert said["answer"] == answer.text and said["videos"][0]["frames_seen"] == len(video.frames_seen(model))


def test_what_is_wrong_with_a_video_is_said(model: glimpse.Model, frames, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    for make, kind, said in (
        (lambda: glimpse.Video([]), ValueError, "without frames"),
        (lambda: glimpse.Video(tmp_path / "none.gif"), glimpse.NotFoundError, "none.gif"),
        (lambda: glimpse.Video(tmp_path / "empty"), glimpse.NotFoundError, "no frames"),
        (lambda: glimpse.Video(tmp_path / "film.mp4"), glimpse.UnsupportedError, "PyAV"),
        (lambda: glimpse.Video(frames, frame_rate=0), ValueError, "more than 0"),
        (lambda: glimpse.Video(frames, seconds=[1.0]), ValueError, "1 seconds for 4 frames"),
        (lambda: glimpse.Video(3), TypeError, "int"),
        (lambda: model.encode(glimpse.Video([3, 4])), TypeError, "no picture"),
        (lambda: model.encode(glimpse.Video([frames[0], frames[1][:40]])), ValueError, "size|frame"),
        (lambda: model.encode(glimpse.Video(["no such.png"])), glimpse.NotFoundError, "no such.png"),
        (lambda: model.encode(glimpse.Video(frames, max_tokens=1)), ValueError, "."),
    ):
        with pytest.raises(kind, match=said):
            make()
