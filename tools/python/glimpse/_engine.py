"""Many questions at once."""

from __future__ import annotations

import asyncio
import collections
import ctypes
import dataclasses
import json
import os
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Deque,
    Generator,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
)

from . import _c
from ._answer import Answer, Timings, TokenLogprob, read_shapes
from ._errors import GlimpseError, InvalidArgumentError, Status, error_of
from ._messages import Message, Part, c_request_messages, read_messages
from ._options import fill
from ._pictures import Picture, picture_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._messages import Prompt
    from ._model import Model
    from ._options import EngineOptions, Sampling
    from ._pictures import ImageLike

_THINKING = {None: "GLIMPSE_THINKING_DEFAULT", True: "GLIMPSE_THINKING_ON", False: "GLIMPSE_THINKING_OFF"}
_ALL_TOKENS = ctypes.c_size_t(-1).value
_SLICE_MS = 50  # between two looks at signals


class _EngineHandle(_c.Handle):
    """An engine has a thread, which a forked child has not: there it cannot be ended, and its memory stays."""

    def __init__(self, pointer: int, free: str, keep: Any = None) -> None:
        super().__init__(pointer, free, keep)
        self.process = os.getpid()

    def __del__(self) -> None:
        if self.process == os.getpid():
            super().__del__()


@dataclasses.dataclass(frozen=True)
class EngineStats:
    """See glimpse_engine_stats in glimpse.h."""

    n_running: int
    n_waiting: int
    n_pages: int
    n_free_pages: int
    n_kept_pages: int
    page_bytes: int
    n_requests: int
    n_finished: int
    n_failed: int
    n_cancelled: int
    n_refused: int
    n_passes: int
    n_prompt_tokens: int
    n_cached_prompt_tokens: int
    n_generated_tokens: int
    n_images: int
    n_cached_images: int
    n_image_tokens: int
    image_seconds: float
    prefill_seconds: float
    decode_seconds: float


class Ticket(Iterator[str], AsyncIterator[str]):
    """A request that was submitted. Iterate over its pieces of text (`for`, `async for`), or take its answer() (`await`
    does it, too). It is cancelled when the last reference to it goes.
    """

    def __init__(self, engine: "Engine", handle: _c.Handle, pictures: List[Picture], n_top_logprobs: int) -> None:
        self._engine, self._handle, self._pictures = engine, handle, pictures
        self._n_top_logprobs = n_top_logprobs
        self._n_seen, self._n_said = 0, 0

    def _wait(self, n_seen: int, timeout_ms: int) -> Any:
        result = _c.new("glimpse_request_result")
        _c.call("glimpse_ticket_wait", self._handle, n_seen, timeout_ms, ctypes.byref(result))
        return result

    def _wait_long(self, n_seen: int) -> Any:
        while True:  # in slices: between them signals are handled
            result = self._wait(n_seen, _SLICE_MS)
            if result.finished or result.n_tokens > n_seen:
                return result

    @property
    def done(self) -> bool:
        return bool(self._wait(_ALL_TOKENS, 0).finished)

    def cancel(self) -> None:
        """It ends at the next pass, with what was said and CancelledError."""
        _c.library.glimpse_ticket_cancel(self._handle)

    def answer(self) -> Answer:
        """Waits for the end. Raises what ended the request, if it was an error."""
        try:
            result = self._wait_long(_ALL_TOKENS)
        except BaseException:
            self.cancel()
            raise
        if result.status:
            raise error_of(result.status, _c.decode(result.message or b""))
        return self._answer(result)

    def partial(self) -> Answer:
        """What was said so far, also of a request that an error ended."""
        return self._answer(self._wait(_ALL_TOKENS, 0))

    def _answer(self, result: Any) -> Answer:
        from ._session import FINISH_REASONS

        model = self._engine.model
        tokens = list((ctypes.c_int32 * result.n_tokens).from_address(result.tokens)) if result.n_tokens else []
        text = _c.decode(_c.text_field(result))
        timings = _c.new("glimpse_timings")
        _c.call("glimpse_ticket_get_timings", self._handle, ctypes.byref(timings))
        logprobs = [self._top_logprobs(index) for index in range(len(tokens))] if self._n_top_logprobs else []
        shapes, problem = read_shapes(model._handle, model.detokenize(tokens, render_special=True), self._pictures)
        return Answer(
            text,
            tokens,
            FINISH_REASONS[result.finish_reason],
            Timings(**{field.name: getattr(timings, field.name) for field in dataclasses.fields(Timings)}),
            shapes,
            logprobs,
            problem,
            tuple(self._pictures),
        )

    def _top_logprobs(self, index: int) -> List[TokenLogprob]:
        room = self._n_top_logprobs
        ids, logprobs, n = (ctypes.c_int32 * room)(), (ctypes.c_float * room)(), ctypes.c_size_t()
        _c.call("glimpse_ticket_get_top_logprobs", self._handle, index, ids, logprobs, room, ctypes.byref(n))
        return [TokenLogprob(ids[i], logprobs[i]) for i in range(n.value)]

    def __next__(self) -> str:
        while True:
            try:
                result = self._wait_long(self._n_seen)
            except BaseException:
                self.cancel()
                raise
            # Bytes are cut where text may be shown: both ends are between characters.
            said, self._n_seen = _c.text_field(result), result.n_tokens
            piece, self._n_said = said[self._n_said :], len(said)
            if piece:
                return _c.decode(piece)
            if result.finished:
                if result.status:
                    raise error_of(result.status, _c.decode(result.message or b""))
                raise StopIteration

    async def __anext__(self) -> str:
        try:
            piece = await asyncio.get_running_loop().run_in_executor(None, next, self, None)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    def __await__(self) -> Generator[Any, None, Answer]:
        async def wait() -> Answer:
            try:
                return await asyncio.get_running_loop().run_in_executor(None, self.answer)
            except asyncio.CancelledError:
                self.cancel()
                raise

        return wait().__await__()


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of a row of a batch: its answer, or the error that it cost."""

    index: int
    row: Any
    answer: Optional[Answer] = None
    error: Optional[BaseException] = None

    @property
    def text(self) -> Optional[str]:
        return None if self.answer is None else self.answer.text


class Engine:
    """Answers many requests together: they share passes over the weights, and what their prompts have in common. An
    answer is the same, bit for bit, alone and in any company. Any thread may submit. A forked child makes its own.
    """

    def __init__(self, model: "Model", **options: "Unpack[EngineOptions]") -> None:
        self.model = model
        params = _c.new("glimpse_engine_params", log=model._log)
        keep = fill(params, options)
        handle = _c.create(
            "glimpse_engine_create",
            "glimpse_engine_free",
            model._handle,
            ctypes.byref(params),
            keep=(keep, model._log),
            kind=_EngineHandle,
        )
        _c.call("glimpse_engine_start", handle)
        self._handle: Optional[_c.Handle] = handle
        self.n_parallel: int = params.n_parallel
        self._n_queued: int = params.n_queued

    def _open(self) -> _c.Handle:
        if self._handle is None:
            raise InvalidArgumentError("the engine is closed")
        return self._handle

    def submit(
        self,
        prompt: "Prompt",
        *images: "ImageLike",
        system: Optional[str] = None,
        priority: int = 0,
        deadline: float = 0.0,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: Optional[bool] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Ticket:
        """A request. deadline: seconds after which it ends as cancelled; 0: never. tools: what the model may call, as
        OpenAI's "tools". thinking: whether it may think first, where its template leaves a choice. Raises BusyError where
        n_queued wait already, UnsupportedError for tools that the template does not know. Errors of pictures come with
        the answer.
        """
        messages = read_messages(prompt, images, system)
        return self._submit(messages, sampling, priority, deadline, tools, thinking)

    def _submit(
        self,
        messages: List[Message],
        sampling: Mapping[str, Any],
        priority: int = 0,
        deadline: float = 0.0,
        tools: Sequence[Mapping[str, Any]] = (),
        thinking: Optional[bool] = None,
    ) -> Ticket:
        pictures: List[Picture] = []
        array, keep = c_request_messages(messages, pictures)
        generate = _c.new("glimpse_generate_params")
        keep.append(fill(generate, self.model._with_constraint(sampling)))
        request = _c.new(
            "glimpse_request",
            messages=ctypes.addressof(array),
            n_messages=len(messages),
            generate=ctypes.addressof(generate),
            priority=priority,
            deadline_ms=int(1000 * deadline),
        )
        texts = (ctypes.c_char_p * max(len(tools), 1))(*[json.dumps(tool).encode() for tool in tools])
        request.tools, request.n_tools = ctypes.addressof(texts), len(tools)
        request.thinking = _c.numbers[_THINKING[thinking]]
        engine = self._open()
        ticket = _c.create("glimpse_engine_submit", "glimpse_ticket_free", engine, ctypes.byref(request), keep=engine)
        return Ticket(self, ticket, pictures, generate.n_top_logprobs)

    def ask(
        self, prompt: "Prompt", *images: "ImageLike", system: Optional[str] = None, **sampling: "Unpack[Sampling]"
    ) -> Answer:
        """The answer to a question."""
        return self.submit(prompt, *images, system=system, **sampling).answer()

    def batch(
        self,
        rows: Iterable[Any],
        *,
        prompt: Optional["Prompt"] = None,
        system: Optional[str] = None,
        on_error: str = "raise",
        **sampling: "Unpack[Sampling]",
    ) -> Iterator[Row]:
        """Answers to rows, in their order; a few are read ahead, so that n_parallel are under way.

        A row is a mapping with "image" or "images", "prompt", "system" (what it lacks is the argument's), or a picture, or,
        where there is no prompt argument, a question. on_error: "raise", or "row": what goes wrong with a row is its
        `error` and costs nothing else.
        """
        if on_error not in ("raise", "row"):
            raise InvalidArgumentError(f"on_error {on_error!r} is unknown: raise, row")
        ready = self.model._with_constraint(sampling)
        fill(_c.new("glimpse_generate_params"), ready)  # an option that is wrong is no row's error
        under_way: Deque[_Waiting] = collections.deque()
        ahead = min(2 * self.n_parallel, max(self._n_queued // 2, 1))
        for index, row in enumerate(rows):
            under_way.append(_Waiting(self, index, row, prompt, system, ready))
            if len(under_way) > ahead:
                yield under_way.popleft().result(on_error)
        while under_way:
            yield under_way.popleft().result(on_error)

    @property
    def stats(self) -> EngineStats:
        stats = _c.new("glimpse_engine_stats")
        _c.call("glimpse_engine_get_stats", self._open(), ctypes.byref(stats))
        return EngineStats(**{field.name: getattr(stats, field.name) for field in dataclasses.fields(EngineStats)})

    def close(self, grace: float = 0.0) -> None:
        """Takes no more requests; those there are may go on for so many seconds, then they are cancelled."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _c.call("glimpse_engine_stop", handle, int(1000 * grace))

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class _Waiting:
    """A row of a batch under way."""

    def __init__(
        self, engine: Engine, index: int, row: Any, prompt: Any, system: Optional[str], sampling: Mapping[str, Any]
    ) -> None:
        self._engine, self._index, self._row, self._sampling = engine, index, row, sampling
        self._failure: Optional[BaseException] = None
        try:
            self._messages = _row_messages(row, prompt, system)
            self._ticket = engine._submit(self._messages, sampling)
        except (GlimpseError, TypeError, ValueError, OSError) as failure:
            self._failure = failure

    def result(self, on_error: str) -> Row:
        try:
            if self._failure is not None:
                raise self._failure
            return Row(self._index, self._row, self._answer())
        except (GlimpseError, TypeError, ValueError, OSError) as failure:
            if on_error == "raise":
                raise
            return Row(self._index, self._row, error=failure)

    def _answer(self) -> Answer:
        try:
            return self._ticket.answer()
        except GlimpseError as failure:
            if failure.status != Status.UNSUPPORTED or not self._decode():
                raise
        return self._engine._submit(self._messages, self._sampling).answer()

    def _decode(self) -> bool:
        # Formats that this build does not read may be Pillow's.
        changed = False
        for _, parts in self._messages:
            for part in parts:
                again = picture_of(part.image).decoded_elsewhere() if _is_file(part) else None
                if again is not None:
                    part.image, changed = again, True
        return changed


def _is_file(part: Part) -> bool:
    return isinstance(part.image, (str, bytes, bytearray, memoryview, os.PathLike))


def _row_messages(row: Any, prompt: Any, system: Optional[str]) -> List[Message]:
    if not isinstance(row, Mapping):
        row = {"prompt": row} if prompt is None else {"image": row}
    images: Sequence[Any] = row["images"] if row.get("images") is not None else ()
    if row.get("image") is not None:
        images = [row["image"], *images]
    question = row.get("prompt", prompt)
    if question is None:
        raise InvalidArgumentError("the row has no prompt, and there is none for all")
    return read_messages(question, list(images), row.get("system", system))
