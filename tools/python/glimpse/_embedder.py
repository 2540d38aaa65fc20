"""Models that read and do not answer: vectors of texts and pictures, scores of documents."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

from . import _c
from ._errors import InvalidArgumentError
from ._interrupt import interruptible
from ._messages import Part, c_parts, read_parts
from ._options import fill
from ._session import ProgressCallback

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Unpack

    from ._model import Model
    from ._options import SessionOptions
    from ._pictures import ImageLike
    from ._session import Progress

    #: One vector's, or one document: a text (a str is never a path here), a picture, a list of both, or a mapping with
    #: "text", "image" or both.
    Input = Union[str, ImageLike, Sequence[Any], Mapping[str, Any]]


class Embedder:
    """Vectors of embedding models, scores of rerankers. Calls from other threads while one is under way raise BusyError."""

    def __init__(self, model: "Model", **options: "Unpack[SessionOptions]") -> None:
        self.model = model
        self._flag = ctypes.c_int(0)
        params = _c.new("glimpse_session_params")
        fill(params, options)
        params.log, params.cancel = model._log, ctypes.addressof(self._flag)
        self._handle = _c.create(
            "glimpse_embedder_create",
            "glimpse_embedder_free",
            model._handle,
            ctypes.byref(params),
            keep=(self._flag, model._log),
        )

    def embed(
        self,
        inputs: "Union[Input, List[Input]]",
        *,
        instruction: Optional[str] = None,
        pooling: str = "file",
        keep_length: bool = False,
        progress: Optional["Progress"] = None,
    ) -> "numpy.ndarray[Any, Any]":
        """The vector of an input, (hidden_size,) float32, or of each input of a list, (n, hidden_size). Each is what it is
        alone, bit for bit.

        instruction: what the vectors are for, of queries; None for the documents that are searched. pooling: "file" (as the
        model's file says), "mean", "cls" or "last". keep_length: vectors as they are, not of length 1.
        """
        import numpy

        many = inputs if isinstance(inputs, list) else [inputs]
        array, keep = self._inputs(many, progress)
        vectors = numpy.empty((len(many), self.model.hidden_size), numpy.float32)
        n = ctypes.c_size_t()
        self._run(
            "glimpse_embedder_embed",
            (array, len(many)),
            (vectors.ctypes.data, vectors.size, ctypes.byref(n)),
            dict(instruction=instruction, pooling=pooling, keep_length=int(keep_length)),
            progress,
        )
        del keep
        assert n.value == vectors.size
        return vectors if isinstance(inputs, list) else vectors[0]

    def rank(
        self,
        query: "Input",
        documents: "List[Input]",
        *,
        instruction: Optional[str] = None,
        progress: Optional["Progress"] = None,
    ) -> List[float]:
        """How well each document fits the query, in [0, 1]. instruction: what makes one the right one; None: that of a web
        search.
        """
        if not isinstance(documents, (list, tuple)):
            raise TypeError(f"documents is a {type(documents).__name__}: want a list")
        asked, keep_query = self._inputs([query], progress)
        array, keep = self._inputs(documents, progress)
        scores = (ctypes.c_float * max(len(documents), 1))()
        self._run(
            "glimpse_embedder_rank", (asked, array, len(documents)), (scores,), dict(instruction=instruction), progress
        )
        del keep, keep_query
        return list(scores)[: len(documents)]

    def _inputs(self, inputs: Sequence[Any], progress: Optional["Progress"]) -> Tuple[Any, List[Any]]:
        read = [_read(each) for each in inputs]
        pictures = [part.image for parts in read for part in parts if part.text is None]
        embeddings = iter(self.model.encode(pictures, progress=progress) if pictures else [])
        array = (_c.structs["glimpse_input"] * max(len(read), 1))()
        keep: List[Any] = [array]
        for given, parts in zip(array, read):
            made, kept = c_parts(parts, lambda _: next(embeddings))
            given.parts, given.n_parts = ctypes.addressof(made), len(parts)
            keep += kept
        return array, keep

    def _run(
        self,
        name: str,
        inputs: Tuple[Any, ...],
        results: Tuple[Any, ...],
        options: Mapping[str, Any],
        progress: Optional["Progress"],
    ) -> None:
        def go_on(stage: str, fraction: float) -> Optional[bool]:
            return False if self._flag.value else progress(stage, fraction) if progress is not None else None

        callback = ProgressCallback(go_on)
        params = _c.new("glimpse_embed_params", progress=callback.pointer)
        keep = fill(params, options)
        try:
            interruptible(
                lambda: callback.call(name, self._handle, *inputs, ctypes.byref(params), *results), self._cancel
            )
        finally:
            self._flag.value = 0
            del keep

    def _cancel(self) -> None:
        self._flag.value = 1


def _read(given: Any) -> List[Part]:
    if isinstance(given, Mapping) and "type" not in given:
        unknown = set(given) - {"text", "image"}
        if unknown or not given:
            raise InvalidArgumentError(f'an input with {sorted(unknown) or "nothing"}: want "text", "image" or both')
        parts = [Part(image=given["image"])] if given.get("image") is not None else []
        return parts + ([Part(text=given["text"])] if given.get("text") is not None else [])
    return read_parts(list(given) if isinstance(given, (list, tuple)) else [given])
