"""Pictures as Python has them, as the library takes them."""

from __future__ import annotations

import base64
import ctypes
import io
import os
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple, Union

from . import _c
from ._errors import GlimpseError, InvalidArgumentError, Status
from ._options import c_path

if TYPE_CHECKING:
    import numpy
    import PIL.Image

    from ._embedding import Embedding
    from ._video import Video

    #: A file's path, an encoded picture's bytes, a Pillow image, an array (height, width[, 1, 3 or 4]) of uint8, a Video, or
    #: an embedding made before. Nothing is fetched from a network.
    ImageLike = Union[
        str, "os.PathLike[str]", bytes, bytearray, memoryview, PIL.Image.Image, numpy.ndarray, Video, Embedding
    ]


class Picture:
    """One of path, bytes and pixels (RGB, 8 bits, without gaps)."""

    def __init__(
        self, path: Optional[str] = None, data: Optional[bytes] = None, pixels: Optional[Tuple[int, int, bytes]] = None
    ) -> None:
        self.path, self.data, self.pixels = path, data, pixels
        # (width, height) once it was encoded: upright, and as the encoder saw it.
        self.original_size = self.resized_size = (0, 0)

    def seen_as(self, original_size: Tuple[int, int], resized_size: Tuple[int, int]) -> "Picture":
        """This picture with the sizes that it was encoded at."""
        seen = Picture(self.path, self.data, self.pixels)
        seen.original_size, seen.resized_size = original_size, resized_size
        return seen

    def fill(self, given: Any) -> None:
        """Into a cleared glimpse_picture, which must not outlive this object."""
        if self.path is not None:
            self._path = c_path(self.path)
            given.path = self._path
        elif self.data is not None:
            given.bytes, given.n_bytes = _address(self.data), len(self.data)
        else:
            assert self.pixels is not None
            given.width, given.height, rgb = self.pixels
            given.rgb = _address(rgb)

    def decoded_elsewhere(self) -> Optional["Picture"]:
        """The same as pixels where Pillow reads it and this build of the library does not: TIFF, HEIC, AVIF, ..."""
        if self.pixels is not None:
            return None
        try:
            import PIL.Image
        except ImportError:
            return None
        try:
            with PIL.Image.open(self.path if self.path is not None else io.BytesIO(self.data or b"")) as image:
                return picture_of(image)
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            return None

    def data_url(self) -> Optional[str]:
        """For a browser, which is given files that it can show, and pixels as PNG."""
        data = self.data
        try:
            if self.path is not None:
                data = Path(self.path).read_bytes()
        except OSError:
            return None
        if self.pixels is not None:
            data = png(*self.pixels)
        for start, kind in ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp")):
            if data is not None and data.startswith(start):
                return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        if data is not None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        elsewhere = self.decoded_elsewhere()
        return None if elsewhere is None else elsewhere.data_url()


def _address(data: bytes) -> Optional[int]:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value


def png(width: int, height: int, rgb: bytes) -> bytes:
    """RGB pixels as a PNG file."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + rgb[at : at + 3 * width] for at in range(0, 3 * width * height, 3 * width))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )


def picture_of(image: Any) -> Picture:
    """A Picture of what callers give. Raises TypeError or ValueError for what is none."""
    if isinstance(image, Picture):
        return image
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Picture(data=bytes(image))
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if isinstance(path, str) and re.match(r"(https?|ftp|data):", path):
            raise InvalidArgumentError(
                f"{path[:80]}: glimpse fetches nothing: give the picture's bytes or a file's path"
            )
        return Picture(path=os.fsdecode(path))
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        return _of_pillow(image)
    if callable(getattr(image, "read", None)):
        data = image.read()
        if not isinstance(data, bytes):
            raise TypeError("a file that is read as text is no picture: open it with 'rb'")
        return Picture(data=data)
    if hasattr(image, "__array_interface__") or hasattr(image, "__array__"):
        return _of_array(image)
    raise TypeError(
        f"{type(image).__name__} is no picture: give a path, bytes, an open file, a Pillow image, an array "
        "(height, width, 3) of uint8, a glimpse.Video or a glimpse.Embedding"
    )


def _of_pillow(image: Any) -> Picture:
    # Upright, transparency over white, the first page: as the library reads files.
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    upright = upright.convert("RGB")
    return Picture(pixels=(upright.width, upright.height, upright.tobytes()))


def _of_array(image: Any) -> Picture:
    import numpy

    array = numpy.asarray(image)
    if array.dtype != numpy.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InvalidArgumentError(
            f"an array of {array.dtype} {array.shape} is no picture: want uint8 (height, width), or "
            "(height, width, channels) of 1, 3 or 4 channels; floats in [0, 1] times 255 first, channels in front moved to "
            "the end, frames as a glimpse.Video"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(numpy.uint16)
        array = ((array[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(numpy.uint8)
    array = numpy.ascontiguousarray(numpy.broadcast_to(array, array.shape[:2] + (3,)))
    return Picture(pixels=(array.shape[1], array.shape[0], array.tobytes()))


def encode_with_pillow_beside(pictures: List[Picture], encode: Any) -> Any:
    """encode(pictures); what the library cannot read is given again as pixels, if Pillow can."""
    try:
        return encode(pictures)
    except GlimpseError as failure:
        if failure.status != Status.UNSUPPORTED:
            raise
        again = [picture.decoded_elsewhere() or picture for picture in pictures]
        if all(new is old for new, old in zip(again, pictures)):
            raise
        return encode(again)


def c_pictures(pictures: List[Picture]) -> Any:
    """An array of glimpse_picture; the pictures must outlive it."""
    array = (_c.structs["glimpse_picture"] * max(len(pictures), 1))()
    for given, picture in zip(array, pictures):
        picture.fill(given)
    return array
