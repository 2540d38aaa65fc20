"""Many questions at once."""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import ctypes
import dataclasses
import itertools
import math
import os
import threading
import weakref
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Deque,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from . import _c
from ._answer import Answer, make_answer, read_timings, read_top_logprobs
from ._errors import BusyError, GlimpseError, InvalidArgumentError, Status, error_of
from ._messages import Message, Part, c_request_messages, read_messages
from ._options import fill
from ._parts import fill_prompt
from ._pictures import Picture, picture_of
from ._video import video_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._messages import Prompt
    from ._model import Model
    from ._options import EngineOptions, Sampling
    from ._parts import Tool
    from ._pictures import ImageLike

_ALL_TOKENS = ctypes.c_size_t(-1).value
_SLICE_MS = 50  # between two looks at signals


#: Tasks of event loops that wait for a ticket, by what its callbacks are given.
_waiting: Dict[int, Tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
_numbers = itertools.count(1)


def _tell(number: int) -> None:
    loop, event = _waiting[number]
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(event.set)


# Of all tickets, for ever: a callback of one ticket could go while the engine's thread is on its way out of it.
@_c.callbacks["glimpse_token_callback"]  # type: ignore[untyped-decorator]
def _on_token(number: int, _step: int) -> int:
    _tell(number)
    return 1


@_c.callbacks["glimpse_done_callback"]  # type: ignore[untyped-decorator]
def _on_done(number: int, _ticket: int) -> None:
    _tell(number)
    del _waiting[number]


#: Their threads call into Python, which must not be on its way out.
_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


@atexit.register
def _close_engines() -> None:
    for engine in list(_engines):
        if engine._process == os.getpid():
            engine.close()


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
    does it, too). Any thread may ask it, and a signal's handler: BusyError where it interrupts who is reading just then.
    It is cancelled when the last reference to it goes.
    """

    def __init__(
        self,
        engine: "Engine",
        handle: _c.Handle,
        pictures: List[Optional[Picture]],
        n_top_logprobs: int,
        has_tools: bool,
        wake: Optional[Tuple[asyncio.AbstractEventLoop, asyncio.Event]],
    ) -> None:
        self._engine, self._handle, self._pictures = engine, handle, pictures
        self._n_top_logprobs, self._has_tools, self._wake = n_top_logprobs, has_tools, wake
        self._n_seen, self._n_said = 0, 0
        # A result points at what the ticket keeps until its next call: nobody else asks while one is read. Who wants to
        # has `asked`, and comes before the next slice of a thread that waits. A signal's handler is run by that thread.
        self._read, self._asked = threading.RLock(), threading.RLock()
        self._n_waits, self._in_use = 0, False

    def _wait(self, n_seen: int, timeout_ms: int) -> Any:
        result = _c.new("glimpse_request_result")
        _c.call("glimpse_ticket_wait", self._handle, n_seen, timeout_ms, ctypes.byref(result))
        return result

    def _look(self, n_seen: int, timeout_ms: int, use: Callable[[Any], Any], as_it_is: bool = False) -> Tuple[bool, Any]:
        """Whether there are more tokens, or it is finished; then, or as it is, use() of the result."""
        with self._read:
            if self._in_use:
                raise BusyError("the signal interrupted who reads the ticket: all that its handler may do now is cancel() it")
            while True:
                self._n_waits += 1
                number = self._n_waits
                result = self._wait(n_seen, timeout_ms)
                try:
                    self._in_use = True
                    if number != self._n_waits:  # a handler has asked meanwhile: this result is gone
                        timeout_ms = 0
                        continue
                    there = bool(result.finished or result.n_tokens > n_seen)
                    return there, use(result) if there or as_it_is else None
                finally:
                    self._in_use = False

    def _now(self, use: Callable[[Any], Any]) -> Any:
        """use() of what there is."""
        with self._asked:
            return self._look(_ALL_TOKENS, 0, use, as_it_is=True)[1]

    def _when(self, n_seen: int, use: Callable[[Any], Any]) -> Any:
        """use() of the result once there are more tokens, or it is finished."""
        while True:  # in slices: between them signals are handled
            there, used = self._look(n_seen, _SLICE_MS, use)
            if there:
                return used
            with self._asked:
                pass

    def _when_or_cancelled(self, n_seen: int, use: Callable[[Any], Any]) -> Any:
        try:
            return self._when(n_seen, use)
        except BaseException:
            self.cancel()
            raise

    async def _when_in_loop(self, n_seen: int, use: Callable[[Any], Any]) -> Any:
        loop = asyncio.get_running_loop()
        try:
            if self._wake is None or self._wake[0] is not loop:  # it was submitted elsewhere
                return await loop.run_in_executor(None, self._when, n_seen, use)
            while True:
                self._wake[1].clear()
                with self._asked:
                    there, used = self._look(n_seen, 0, use)
                if there:
                    return used
                await self._wake[1].wait()
        except BaseException:
            self.cancel()
            raise

    @property
    def done(self) -> bool:
        return bool(self._now(lambda result: result.finished))

    def cancel(self) -> None:
        """It ends at the next pass, with what was said and CancelledError."""
        _c.library.glimpse_ticket_cancel(self._handle)

    def answer(self) -> Answer:
        """Waits for the end. Raises what ended the request, if it was an error."""
        answer: Answer = self._when_or_cancelled(_ALL_TOKENS, self._ended)
        return answer

    def _ended(self, result: Any) -> Answer:
        if result.status:
            raise error_of(result.status, _c.decode(result.message or b""))
        return self._answer(result)

    def partial(self) -> Answer:
        """What was said so far, also of a request that an error ended."""
        answer: Answer = self._now(self._answer)
        return answer

    def _answer(self, result: Any) -> Answer:
        return make_answer(
            self._engine.model,
            result,
            read_timings("glimpse_ticket_get_timings", self._handle),
            lambda index: read_top_logprobs(
                "glimpse_ticket_get_top_logprobs", self._handle, index, self._n_top_logprobs
            ),
            list(self._seen(result)),
            self._has_tools,
        )

    def _seen(self, result: Any) -> Iterator[Picture]:
        kind = _c.structs["glimpse_picture_size"] * result.n_pictures
        sizes: Sequence[Any] = kind.from_address(result.pictures) if result.n_pictures else ()
        for index, picture in enumerate(self._pictures):
            if picture is None:
                continue  # a video: shapes are of pictures
            if index < len(sizes):
                size = sizes[index]
                picture = picture.seen_as(
                    (size.original_width, size.original_height), (size.resized_width, size.resized_height)
                )
            yield picture

    def __next__(self) -> str:
        while True:
            piece, finished = self._when_or_cancelled(self._n_seen, self._piece)
            if piece:
                return str(piece)
            if finished:
                raise StopIteration

    def _piece(self, result: Any) -> Tuple[str, bool]:
        # Bytes are cut where text may be shown: both ends are between characters.
        said, self._n_seen = _c.text_field(result), result.n_tokens
        piece, self._n_said = said[self._n_said :], len(said)
        if not piece and result.finished and result.status:
            raise error_of(result.status, _c.decode(result.message or b""))
        return _c.decode(piece), bool(result.finished)

    async def __anext__(self) -> str:
        while True:
            piece, finished = await self._when_in_loop(self._n_seen, self._piece)
            if piece:
                return str(piece)
            if finished:
                raise StopAsyncIteration

    def __await__(self) -> Generator[Any, None, Answer]:
        async def wait() -> Answer:
            answer: Answer = await self._when_in_loop(_ALL_TOKENS, self._ended)
            return answer

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

    @property
    def problem(self) -> Optional[str]:
        """The error in words: its kind where it says nothing itself."""
        return None if self.error is None else str(self.error) or type(self.error).__name__


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
        )
        _c.call("glimpse_engine_start", handle)
        self._handle: Optional[_c.Handle] = handle
        self._process = os.getpid()
        _engines.add(self)
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
        tools: Sequence["Tool"] = (),
        thinking: Optional[bool] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Ticket:
        """A request. deadline: seconds after which it ends as cancelled; 0: never. tools: what the model may call, as
        OpenAI's "tools". thinking: whether it may think first, where its template leaves a choice. Raises BusyError where
        n_queued wait already, UnsupportedError for tools that the template does not know. Errors of pictures come with
        the answer.
        """
        messages = read_messages(self.model._handle, prompt, images, system)
        return self._submit(messages, sampling, priority, deadline, tools, thinking)

    def _submit(
        self,
        messages: List[Message],
        sampling: Mapping[str, Any],
        priority: int = 0,
        deadline: float = 0.0,
        tools: Sequence["Tool"] = (),
        thinking: Optional[bool] = None,
    ) -> Ticket:
        pictures: List[Optional[Picture]] = []
        array, keep = c_request_messages(messages, self.model.encode, pictures)
        generate = _c.new("glimpse_generate_params")
        keep.append(fill(generate, self.model._with_constraint(sampling)))
        request = _c.new(
            "glimpse_request",
            messages=ctypes.addressof(array),
            n_messages=len(messages),
            generate=ctypes.addressof(generate),
            priority=priority,
            deadline_ms=math.ceil(1000 * deadline),  # 0 would be never
        )
        keep.append(fill_prompt(request, tools, thinking))
        engine = self._open()
        number, wake = _wake_of(request)
        try:
            ticket = _c.create(
                "glimpse_engine_submit", "glimpse_ticket_free", engine, ctypes.byref(request), keep=engine
            )
        except BaseException:
            _waiting.pop(number, None)
            raise
        return Ticket(self, ticket, pictures, generate.n_top_logprobs, bool(tools), wake)

    def ask(
        self,
        prompt: "Prompt",
        *images: "ImageLike",
        system: Optional[str] = None,
        tools: Sequence["Tool"] = (),
        thinking: Optional[bool] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Answer:
        """The answer to a question."""
        return self.submit(prompt, *images, system=system, tools=tools, thinking=thinking, **sampling).answer()

    def batch(
        self,
        rows: Iterable[Any],
        *,
        prompt: Optional["Prompt"] = None,
        system: Optional[str] = None,
        on_error: str = "raise",
        thinking: Optional[bool] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Iterator[Row]:
        """Answers to rows, in their order; a few are read ahead, so that n_parallel are under way.

        rows: any iterable, or a table of pandas, Polars or Arrow. A row is a mapping with "image" or "images" or "video",
        "prompt", "system" (what it lacks is the argument's), or a picture, or, where there is no prompt argument, a question.
        on_error: "raise", or "row": what goes wrong with a row is its `error` and costs nothing else.
        """
        if on_error not in ("raise", "row"):
            raise InvalidArgumentError(f"on_error {on_error!r} is unknown: raise, row")
        ready = self.model._with_constraint(sampling)
        fill(_c.new("glimpse_generate_params"), ready)  # an option that is wrong is no row's error
        under_way: Deque[_Waiting] = collections.deque()
        ahead = min(2 * self.n_parallel, max(self._n_queued // 2, 1))
        for index, row in enumerate(_rows_of(rows)):
            under_way.append(_Waiting(self, index, row, prompt, system, ready, thinking))
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


def _wake_of(request: Any) -> Tuple[int, Optional[Tuple[asyncio.AbstractEventLoop, asyncio.Event]]]:
    """Where an event loop runs, what comes is told to it: a thread for each task that waits would soon be one too many."""
    try:
        wake = asyncio.get_running_loop(), asyncio.Event()
    except RuntimeError:
        return 0, None
    number = next(_numbers)
    _waiting[number] = wake
    request.on_token, request.on_done = _on_token, _on_done
    request.on_token_user = request.on_done_user = number
    return number, wake


class _Waiting:
    """A row of a batch under way."""

    def __init__(
        self,
        engine: Engine,
        index: int,
        row: Any,
        prompt: Any,
        system: Optional[str],
        sampling: Mapping[str, Any],
        thinking: Optional[bool],
    ) -> None:
        self._engine, self._index, self._row = engine, index, row
        self._sampling, self._thinking = sampling, thinking
        self._failure: Optional[BaseException] = None
        try:
            self._messages = _row_messages(engine.model._handle, row, prompt, system)
            self._ticket = self._submit()
        except Exception as failure:  # decoders of others raise what they like
            self._failure = failure

    def _submit(self) -> Ticket:
        return self._engine._submit(self._messages, self._sampling, thinking=self._thinking)

    def result(self, on_error: str) -> Row:
        try:
            if self._failure is not None:
                raise self._failure
            return Row(self._index, self._row, self._answer())
        except Exception as failure:
            if on_error == "raise":
                raise
            return Row(self._index, self._row, error=failure)

    def _answer(self) -> Answer:
        try:
            return self._ticket.answer()
        except GlimpseError as failure:
            if failure.status != Status.UNSUPPORTED or not self._decode():
                raise
        return self._submit().answer()

    def _decode(self) -> bool:
        # Formats that this build does not read may be Pillow's.
        changed = False
        for _, parts in self._messages:
            for part in parts:
                again = picture_of(part.image).decoded_elsewhere() if _is_file(part) else None
                if again is not None:
                    part.image, changed = again, True
        return changed


def _rows_of(rows: Any) -> Iterable[Any]:
    """Of a table its rows: iterating over one gives the names of its columns, or the columns."""
    if isinstance(rows, (str, bytes, Mapping)):
        raise TypeError(f"rows is one {type(rows).__name__}: want a list of rows")
    for kind in ("to_pylist", "to_dicts"):  # Arrow's, Polars'
        if hasattr(rows, kind):
            return getattr(rows, kind)()  # type: ignore[no-any-return]
    table = hasattr(rows, "to_dict") and hasattr(rows, "columns")  # of pandas
    return rows.to_dict("records") if table else rows  # type: ignore[no-any-return]


def _is_file(part: Part) -> bool:
    return isinstance(part.image, (str, bytes, bytearray, memoryview, os.PathLike))


def _row_messages(model: _c.Handle, row: Any, prompt: Any, system: Optional[str]) -> List[Message]:
    if not isinstance(row, Mapping):
        row = {"prompt": row} if prompt is None else {"image": row}
    images = list(row["images"]) if row.get("images") is not None else []
    if row.get("image") is not None:
        images.insert(0, row["image"])
    if row.get("video") is not None:
        images.append(video_of(row["video"]))
    question = row.get("prompt", prompt)
    if question is None:
        raise InvalidArgumentError("the row has no prompt, and there is none for all")
    return read_messages(model, question, images, row.get("system", system))
