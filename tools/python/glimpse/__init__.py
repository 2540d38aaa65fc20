"""Answers about pictures, with Qwen-VL models in GGUF files.

    model = glimpse.Model("model.gguf", mmproj="mmproj.gguf")
    print(model.ask("Describe this image.", "cat.jpg"))

Results are the same bits for any number of threads. Calls leave the interpreter free and end at Ctrl-C. What fails
raises a GlimpseError, whose status says how.
"""

from ._answer import Answer, Shape, Timings, TokenLogprob
from ._c import decode as _decode
from ._c import library as _library
from ._constraint import Constraint
from ._demo import demo, demo_files
from ._embedder import Embedder
from ._embedding import Embedding
from ._engine import Engine, EngineStats, Row, Ticket
from ._errors import (
    BusyError,
    CancelledError,
    ContextFullError,
    CorruptError,
    DeviceError,
    FileError,
    GlimpseError,
    InternalError,
    InvalidArgumentError,
    MismatchError,
    NotFoundError,
    NumericError,
    OutOfMemoryError,
    Status,
    TooLargeError,
    TruncatedError,
    UnsupportedError,
)
from ._model import Model, Plan
from ._parts import AnswerParts, Splitter, ToolCall
from ._session import Chat, Checkpoint, Session, Step, Stream, step_many
from ._video import Video

__version__: str = _decode(_library.glimpse_version())

__all__ = [
    "Answer",
    "AnswerParts",
    "BusyError",
    "CancelledError",
    "Chat",
    "Checkpoint",
    "Constraint",
    "ContextFullError",
    "CorruptError",
    "DeviceError",
    "Embedder",
    "Embedding",
    "Engine",
    "EngineStats",
    "FileError",
    "GlimpseError",
    "InternalError",
    "InvalidArgumentError",
    "MismatchError",
    "Model",
    "NotFoundError",
    "NumericError",
    "OutOfMemoryError",
    "Plan",
    "Row",
    "Session",
    "Shape",
    "Splitter",
    "Status",
    "Step",
    "Stream",
    "Ticket",
    "Timings",
    "TokenLogprob",
    "TooLargeError",
    "ToolCall",
    "TruncatedError",
    "UnsupportedError",
    "Video",
    "demo",
    "demo_files",
    "step_many",
]
