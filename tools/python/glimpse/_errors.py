"""What failed calls raise: one class per status of the library, each also the built-in that Python has for it."""

from __future__ import annotations

import enum
from typing import Dict, Type


class Status(enum.IntEnum):
    """glimpse_status of glimpse.h."""

    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    IO = 3
    TRUNCATED = 4
    CORRUPT = 5
    UNSUPPORTED = 6
    TOO_LARGE = 7
    MISMATCH = 8
    OUT_OF_MEMORY = 9
    CONTEXT_FULL = 10
    CANCELLED = 11
    NUMERIC = 12
    DEVICE = 13
    INTERNAL = 14
    BUSY = 15


class GlimpseError(Exception):
    """A call failed. `status` says how, the text why and what to do; objects are as they were before the call.

    status: a Status; a plain int where the library is newer than this package.
    """

    status: int = Status.INTERNAL

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        if status:
            self.status = status

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return type(self), (str(self), int(self.status))


class InvalidArgumentError(GlimpseError, ValueError):
    status = Status.INVALID_ARGUMENT


class NotFoundError(GlimpseError, LookupError, FileNotFoundError):
    """A file, a key of the metadata or a token that there is none of."""

    status = Status.NOT_FOUND


class FileError(GlimpseError, OSError):
    """The system could not read or write."""

    status = Status.IO


class TruncatedError(GlimpseError, ValueError):
    status = Status.TRUNCATED


class CorruptError(GlimpseError, ValueError):
    status = Status.CORRUPT


class UnsupportedError(GlimpseError, ValueError):
    status = Status.UNSUPPORTED


class TooLargeError(GlimpseError, ValueError):
    status = Status.TOO_LARGE


class MismatchError(GlimpseError, ValueError):
    """Things that do not belong together: a picture's embedding or a conversation and another model."""

    status = Status.MISMATCH


class OutOfMemoryError(GlimpseError, MemoryError):
    status = Status.OUT_OF_MEMORY


class ContextFullError(GlimpseError):
    status = Status.CONTEXT_FULL


class CancelledError(GlimpseError):
    status = Status.CANCELLED


class NumericError(GlimpseError, ArithmeticError):
    status = Status.NUMERIC


class DeviceError(GlimpseError):
    status = Status.DEVICE


class InternalError(GlimpseError):
    status = Status.INTERNAL


class BusyError(GlimpseError):
    """The session, or one that it shares its threads with, is in another call."""

    status = Status.BUSY


_CLASSES: Dict[int, Type[GlimpseError]] = {
    int(kind.status): kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        FileError,
        TruncatedError,
        CorruptError,
        UnsupportedError,
        TooLargeError,
        MismatchError,
        OutOfMemoryError,
        ContextFullError,
        CancelledError,
        NumericError,
        DeviceError,
        InternalError,
        BusyError,
    )
}


def error_of(status: int, message: str) -> GlimpseError:
    kind = _CLASSES.get(status)
    return kind(message, Status(status)) if kind is not None else GlimpseError(message, status)
