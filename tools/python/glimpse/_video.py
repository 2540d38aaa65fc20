"""Videos as their frames."""

from __future__ import annotations

import ctypes
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Union

from . import _c
from ._errors import GlimpseError, InvalidArgumentError, NotFoundError, Status, UnsupportedError
from ._pictures import Picture, picture_of

if TYPE_CHECKING:
    import numpy

    from ._pictures import ImageLike


class Video:
    """A video to ask about: give it where a picture may stand. Its place in a text is <video>.

    source: its frames (a sequence of pictures, or an array (frames, height, width, 3) of uint8), a folder of them, an
    animated GIF or WebP (its path, its bytes, an open file or a Pillow image; Pillow reads it). Films are read by others: give their frames.
    frame_rate: how many of them were taken in a second; those to be seen, about fps in a second, are then chosen as the
    model's family does it, at least min_frames and at most max_frames. Not given: all are seen, as if fps of them were taken
    in a second, or at the `seconds` that are given; an animation says it itself. min_pixels, max_pixels: bounds on a
    resized frame (Qwen3-VL: on all together); max_tokens: of the video; 0: as the model was released with.
    Raises TypeError, ValueError, OSError, GlimpseError.
    """

    def __init__(
        self,
        source: Union[str, "os.PathLike[str]", bytes, Sequence["ImageLike"], "numpy.ndarray[Any, Any]"],
        *,
        frame_rate: Optional[float] = None,
        seconds: Optional[Sequence[float]] = None,
        fps: float = 2.0,
        min_frames: int = 4,
        max_frames: int = 768,
        min_pixels: int = 0,
        max_pixels: int = 0,
        max_tokens: int = 0,
    ) -> None:
        self._frames: Any  # with a length, by index
        self._frame_rate = frame_rate
        if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
            self._frames = _pictures_in(Path(source))
        elif isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(source, "seek"):
            animation = _Animation(source)
            self._frames = animation
            if frame_rate is None and seconds is None and animation.duration > 0:
                self._frame_rate = len(animation) / animation.duration
        elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            self._frames = source
        else:
            self._frames = list(source)
        if len(self._frames) == 0:
            raise InvalidArgumentError("a video without frames")
        if seconds is not None and (frame_rate is not None or len(seconds) != len(self._frames)):
            raise InvalidArgumentError(
                f"{len(seconds)} seconds for {len(self._frames)} frames: want one of each frame, and no frame_rate"
            )
        if frame_rate is not None and not frame_rate > 0 or not fps > 0:
            raise InvalidArgumentError(f"frame_rate {frame_rate}, fps {fps}: want more than 0 frames in a second")
        self._seconds = None if seconds is None else [float(second) for second in seconds]
        self._fps, self._min_frames, self._max_frames = float(fps), min_frames, max_frames
        self._limits = dict(min_pixels=min_pixels, max_pixels=max_pixels, max_tokens=max_tokens)

    def __len__(self) -> int:
        """Frames there are."""
        return len(self._frames)

    def __repr__(self) -> str:
        rate = "" if self._frame_rate is None else f", {self._frame_rate:.3g} in a second"
        return f"<glimpse.Video of {len(self)} frames{rate}>"

    def frames_seen(self, model: Any) -> List[int]:
        """Indices of the frames that a model is shown."""
        if self._frame_rate is None:
            return list(range(len(self)))
        sampling = _c.new(
            "glimpse_video_sampling", fps=self._fps, min_frames=self._min_frames, max_frames=self._max_frames
        )
        n = ctypes.c_size_t()
        given = (model._handle, len(self), self._frame_rate, ctypes.byref(sampling))
        _c.call("glimpse_sample_video", *given, None, 0, ctypes.byref(n))
        indices = (ctypes.c_size_t * max(n.value, 1))()
        _c.call("glimpse_sample_video", *given, indices, n.value, ctypes.byref(n))
        return list(indices)[: n.value]

    def _times(self, seen: List[int]) -> "tuple[float, List[float]]":
        """Frames in a second of those that are seen, and when each was taken."""
        if self._frame_rate is not None:
            return len(seen) / len(self) * self._frame_rate, [index / self._frame_rate for index in seen]
        times = self._seconds or [index / self._fps for index in seen]
        if self._seconds is not None and len(times) > 1 and times[-1] > times[0]:
            return (len(times) - 1) / (times[-1] - times[0]), times
        return self._fps, times


def video_of(source: Any) -> Any:
    """A Video of what is said to be one; an embedding is what it is."""
    return source if isinstance(source, Video) or hasattr(source, "n_slices") else Video(source)


def encode_video(video: Video, model: Any, encode: Callable[[Any], Any]) -> Any:
    """encode(glimpse_video*), which asks for the frames. What the library cannot read is given again as pixels, if Pillow
    can read it.
    """
    seen = video.frames_seen(model)
    fps, times = video._times(seen)
    try:
        return _encode(video, seen, fps, times, encode, False)
    except GlimpseError as failure:
        if failure.status != Status.UNSUPPORTED or picture_of(video._frames[seen[0]]).decoded_elsewhere() is None:
            raise
    return _encode(video, seen, fps, times, encode, True)


def _encode(
    video: Video, seen: List[int], fps: float, times: List[float], encode: Callable[[Any], Any], by_pillow: bool
) -> Any:
    failures: List[BaseException] = []
    frame: List[Picture] = []  # the library uses one until it asks for the next

    def give(_user: Any, index: int, picture: int) -> int:
        try:
            given = picture_of(video._frames[seen[index]])
            frame[:] = [(given.decoded_elsewhere() or given) if by_pillow else given]
            frame[0].fill(_c.structs["glimpse_picture"].from_address(picture))
            return 1
        except BaseException as failure:
            failures.append(failure)
            return 0

    callback = _c.callbacks["glimpse_frame_callback"](give)
    seconds = (ctypes.c_double * len(times))(*times)
    given = _c.new(
        "glimpse_video",
        n_frames=len(seen),
        frame=callback,
        fps=fps,
        seconds=ctypes.addressof(seconds),
        **video._limits,
    )
    try:
        return encode(ctypes.byref(given))
    except GlimpseError:
        if failures:
            raise failures[0] from None
        raise


def _pictures_in(folder: Path) -> List[str]:
    """Files in the order of the numbers in their names: frame 9 before frame 10."""

    def key(name: str) -> List[Any]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]

    names = [entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    if not names:
        raise NotFoundError(f"{folder}: there are no frames in this folder")
    return [str(folder / name) for name in sorted(names, key=key)]


class _Animation(Sequence[Any]):
    """Frames of an animated picture, read by Pillow in their order."""

    def __init__(self, source: Any) -> None:
        try:
            import PIL.Image
            import PIL.ImageSequence
        except ImportError:
            raise UnsupportedError(
                "reading an animation takes Pillow (pip install pillow); or give the frames as pictures"
            ) from None
        self._image = source
        is_open = callable(getattr(source, "read", None))
        if is_open or not hasattr(source, "seek"):
            try:
                data = source.read() if is_open else source
                if not isinstance(data, (bytes, bytearray, memoryview)):
                    data = Path(data).read_bytes()
                self._image = PIL.Image.open(io.BytesIO(data))
            except FileNotFoundError:
                raise NotFoundError(f"{source}: no file or folder of this name") from None
            except (OSError, ValueError, PIL.Image.DecompressionBombError) as failure:
                raise UnsupportedError(
                    f"{failure}: want a folder of frames, or an animated GIF or WebP. Read a film's frames with PyAV, imageio "
                    "or OpenCV (RGB) and give them: Video(frames, frame_rate=...)"
                ) from None
        self._n = int(getattr(self._image, "n_frames", 1))
        milliseconds = []
        for index in range(self._n):
            self._image.seek(index)
            shown = float(self._image.info.get("duration", 0) or 0)
            milliseconds.append(shown if shown > 10 else 100)  # as browsers do
        #: Seconds of all frames.
        self.duration = sum(milliseconds) / 1000 if self._n > 1 else 0.0

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        self._image.seek(index)
        return picture_of(self._image)
