"""What the vision encoder makes of a picture."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Tuple, Union

from . import _c

if TYPE_CHECKING:
    import numpy


class Embedding:
    """A picture or a video as the decoder sees it: keep it, save it, ask about it as often as you like in any session of a model
    with the same vision file. It can be pickled. NumPy takes it without a copy: `numpy.asarray(embedding)`.
    """

    def __init__(self, handle: _c.Handle) -> None:
        self._handle = handle
        info = _c.new("glimpse_embedding_info")
        _c.call("glimpse_embedding_get_info", handle, ctypes.byref(info))
        #: Tokens that the picture takes in a conversation.
        self.n_tokens: int = info.n_tokens
        #: Floats per token.
        self.width: int = info.width
        #: (width, height) in pixels, upright.
        self.original_size: Tuple[int, int] = (info.original_width, info.original_height)
        #: (width, height) in pixels that the encoder saw.
        self.resized_size: Tuple[int, int] = (info.resized_width, info.resized_height)
        #: Of a video: pairs of frames; 0: a picture.
        self.n_slices: int = info.n_slices
        #: Tokens that `image_dedup` spared.
        self.n_left_out: int = info.n_left_out
        self._view = _c.View(info.values or 0, (self.n_tokens, self.width), handle)
        self.__array_interface__ = self._view.__array_interface__

    def numpy(self) -> "numpy.ndarray[Any, Any]":
        """(n_tokens, width) float32: the library's own memory, read-only; it stays as long as the array does."""
        return self._view.numpy()  # type: ignore[no-any-return]

    def tobytes(self) -> bytes:
        """As `load` takes it, with a checksum and the fingerprint of the vision file."""
        return _c.sized(lambda buffer, room, n: _c.call("glimpse_embedding_save", self._handle, buffer, room, n))

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes tobytes() to a file, whole or not at all."""
        target = Path(path)
        part = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            part.write_bytes(self.tobytes())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, source: Union[str, "os.PathLike[str]", bytes]) -> "Embedding":
        """From a file's path, or from the bytes. Raises CorruptError, TruncatedError, UnsupportedError."""
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return cls(_c.create("glimpse_embedding_load", "glimpse_embedding_free", data, len(data)))

    def __reduce__(self) -> Any:
        return Embedding.load, (self.tobytes(),)

    def __repr__(self) -> str:
        slices = f", {self.n_slices} pairs of frames" if self.n_slices else ""
        width, height = self.original_size
        return f"<glimpse.Embedding of {self.n_tokens} tokens, {width}x{height} pixels{slices}>"
