"""Conversations."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import os
import threading
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
    overload,
)

from . import _c
from ._answer import FINISH_REASONS, Answer, Timings, make_answer, read_timings, read_top_logprobs
from ._embedding import Embedding
from ._errors import InvalidArgumentError
from ._interrupt import interruptible
from ._messages import Message, c_messages, read_messages
from ._options import c_path, fill
from ._parts import fill_prompt, tool_texts
from ._pictures import Picture, c_pictures, encode_with_pillow_beside, picture_of
from ._video import Video, encode_video

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Unpack

    from ._messages import Prompt
    from ._model import Model
    from ._options import Sampling, SessionOptions
    from ._parts import Tool
    from ._pictures import ImageLike

    #: Called with a stage and a fraction in [0, 1]; returning False cancels.
    Progress = Callable[[str, float], Optional[bool]]

_NOT_FINISHED = _c.numbers["GLIMPSE_FINISH_NONE"]


class ProgressCallback:
    """A caller's function for the library. What it raises ends the call, and is raised again by check()."""

    def __init__(self, function: Optional["Progress"]) -> None:
        self._function = function
        self._failure: Optional[BaseException] = None
        kind = _c.callbacks["glimpse_progress_callback"]
        self.pointer = kind(self._run) if function is not None else kind()

    def _run(self, _user: Any, stage: bytes, fraction: float) -> int:
        assert self._function is not None
        try:
            return 0 if self._function(_c.decode(stage), fraction) is False else 1
        except BaseException as failure:
            self._failure = failure
            return 0

    def call(self, name: str, *arguments: Any) -> None:
        try:
            _c.call(name, *arguments)
        finally:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure


@dataclasses.dataclass(frozen=True)
class Step:
    """One token of an answer. finish_reason: None while the answer goes on. text: what may be shown now."""

    token: int
    logprob: float
    text: str
    finish_reason: Optional[str]


class Checkpoint:
    """A moment of a session, to come back to with Session.rewind."""

    def __init__(self, handle: _c.Handle, pictures: List[Picture]) -> None:
        self._handle = handle
        self._pictures = pictures


class Session:
    """One conversation, in the library's own steps; Chat is easier. Calls from other threads while one is under way raise
    BusyError; so do calls of sessions forked from one another at the same time.
    """

    def __init__(self, model: "Model", **options: "Unpack[SessionOptions]") -> None:
        self.model = model
        self._flag = ctypes.c_int(0)
        self._n_calls = 0
        params = _c.new("glimpse_session_params")
        fill(params, options)
        params.log = model._log
        params.cancel = ctypes.addressof(self._flag)
        self._adopt(
            _c.create(
                "glimpse_session_create",
                "glimpse_session_free",
                model._handle,
                ctypes.byref(params),
                keep=(self._flag, model._log),
            )
        )

    def _adopt(self, handle: _c.Handle) -> None:
        self._handle = handle
        self._pictures: List[Picture] = []
        self._n_top_logprobs = 0
        self._prompt: Tuple[Tuple[str, ...], Optional[bool]] = ((), None)  # tools and thinking

    # -- what it is

    @property
    def n_past(self) -> int:
        """Cache slots in use after the last call."""
        return int(_c.library.glimpse_session_n_past(self._handle))

    @property
    def n_ctx(self) -> int:
        """Cache slots there are."""
        return int(_c.library.glimpse_session_n_ctx(self._handle))

    @property
    def n_threads(self) -> int:
        info = _c.new("glimpse_session_info")
        _c.call("glimpse_session_get_info", self._handle, ctypes.byref(info))
        return int(info.n_threads)

    @property
    def timings(self) -> Timings:
        """Of the last answer, with the pictures since the one before."""
        return read_timings("glimpse_get_timings", self._handle)

    @property
    def answer(self) -> Answer:
        """The last answer, also one that was cut off."""
        info = _c.new("glimpse_answer_info")
        _c.call("glimpse_get_answer", self._handle, ctypes.byref(info))
        room = self._n_top_logprobs
        return make_answer(
            self.model,
            info,
            self.timings,
            lambda index: read_top_logprobs("glimpse_get_top_logprobs", self._handle, index, room),
            self._pictures,
            bool(self._prompt[0]),
        )

    def logits(self) -> "numpy.ndarray[Any, Any]":
        """(vocab_size,) float32 after the last prefill, step or forward: the library's memory, read-only. The next call
        of the session writes into it: copy what you keep.
        """
        address, n = ctypes.c_void_p(), ctypes.c_size_t()
        _c.call("glimpse_get_logits", self._handle, ctypes.byref(address), ctypes.byref(n))
        return _c.View(address.value or 0, (n.value,), self._handle).numpy()  # type: ignore[no-any-return]

    # -- long calls

    def _run(self, work: Callable[[], Any]) -> Any:
        self._n_calls += 1
        try:
            return interruptible(work, self._cancel)
        finally:
            self._n_calls -= 1
            self._flag.value = 0

    def _cancel(self) -> None:
        self._flag.value = 1

    def cancel(self) -> None:
        """Ends the call that another thread has under way, if there is one: what was said stays."""
        if self._n_calls > 0:
            self._cancel()

    @overload
    def encode(self, image: "ImageLike", progress: Optional["Progress"] = ...) -> Embedding: ...

    @overload
    def encode(self, image: List["ImageLike"], progress: Optional["Progress"] = ...) -> List[Embedding]: ...

    def encode(self, image: Any, progress: Optional["Progress"] = None) -> Any:
        """The embedding of a picture or a video, or those of a list of them."""
        if isinstance(image, list):
            return [self.encode(each, progress) for each in image]
        if isinstance(image, Embedding):
            return image
        if isinstance(image, Video):
            return encode_video(image, self.model, lambda video: self._embedding("video", (video,), progress))
        return encode_with_pillow_beside([picture_of(image)], lambda pictures: self._encode(pictures[0], progress))

    def _encode(self, picture: Picture, progress: Optional["Progress"]) -> Embedding:
        given = c_pictures([picture])[0]
        if given.path is not None:
            return self._embedding("image_file", (given.path,), progress)
        if given.rgb:
            return self._embedding("image_rgb", (given.rgb, given.width, given.height, 0), progress)
        return self._embedding("image_bytes", (given.bytes, given.n_bytes), progress)

    def _embedding(self, kind: str, source: Tuple[Any, ...], progress: Optional["Progress"]) -> Embedding:
        callback = ProgressCallback(progress)
        return Embedding(
            self._run(
                lambda: _c.create(
                    f"glimpse_encode_{kind}",
                    "glimpse_embedding_free",
                    self._handle,
                    *source,
                    callback.pointer,
                    None,
                    call=callback.call,
                )
            )
        )

    def _embed(self, images: List[Any], progress: Optional["Progress"]) -> List[Embedding]:
        embeddings = []
        for image in images:
            is_ready = isinstance(image, (Embedding, Video))
            picture = Picture() if is_ready else picture_of(image)
            given: Any = image if is_ready else picture
            embedding = self.encode(given, progress)
            embeddings.append(embedding)
            if not embedding.n_slices:  # shapes are of pictures
                self._pictures.append(picture.seen_as(embedding.original_size, embedding.resized_size))
        return embeddings

    def set_prompt(self, *, tools: Sequence["Tool"] = (), thinking: Optional[bool] = None) -> None:
        """What prompts say beside their messages, from now on: the tools that the model may call, as OpenAI's "tools" have
        them (written where a conversation begins), and whether it may think before it answers (None: as its template has
        it). The next prompt raises UnsupportedError where its template cannot.
        """
        prompt = (tool_texts(tools), thinking)
        params = _c.new("glimpse_prompt_params")
        keep = fill_prompt(params, tools, thinking)
        if prompt != self._prompt:
            _c.call("glimpse_session_set_prompt_params", self._handle, ctypes.byref(params))
            self._prompt = prompt
        del keep

    def prefill(
        self,
        prompt: "Prompt",
        images: Sequence["ImageLike"] = (),
        *,
        system: Optional[str] = None,
        progress: Optional["Progress"] = None,
    ) -> None:
        """Runs messages through the model after what the session holds."""
        self._prefill(read_messages(self.model._handle, prompt, images, system), progress)

    def _prefill(self, messages: List[Message], progress: Optional["Progress"]) -> None:
        callback = ProgressCallback(progress)
        self._say(
            messages,
            progress,
            lambda array, n: callback.call("glimpse_prefill", self._handle, array, n, callback.pointer, None),
        )

    def _say(self, messages: List[Message], progress: Optional["Progress"], work: Callable[[Any, int], None]) -> None:
        before = len(self._pictures)
        try:
            array, keep = c_messages(messages, lambda images: self._embed(images, progress))
            self._run(lambda: work(array, len(messages)))
            del keep
        except BaseException:
            del self._pictures[before:]
            raise

    def generate(
        self,
        prompt: "Prompt",
        images: Sequence["ImageLike"] = (),
        *,
        system: Optional[str] = None,
        progress: Optional["Progress"] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Answer:
        """Prefills messages after what the session holds and generates the answer."""
        params, keep = self._sampling(sampling)
        callback = ProgressCallback(progress)
        params.progress = callback.pointer
        self._say(
            read_messages(self.model._handle, prompt, images, system),
            progress,
            lambda array, n: callback.call("glimpse_generate", self._handle, array, n, ctypes.byref(params)),
        )
        del keep
        return self.answer

    def _sampling(self, sampling: Any) -> Any:
        params = _c.new("glimpse_generate_params")
        keep = fill(params, self.model._with_constraint(sampling))
        self._n_top_logprobs = params.n_top_logprobs
        return params, keep

    # -- token by token

    def begin_answer(self, **sampling: "Unpack[Sampling]") -> None:
        """Begins an answer to what was prefilled, or goes on with one that was cut off."""
        params, keep = self._sampling(sampling)
        _c.call("glimpse_begin_answer", self._handle, ctypes.byref(params))
        del keep

    def step(self) -> Step:
        """The next token of the answer."""
        result = _c.new("glimpse_step_result")
        _c.call("glimpse_step", self._handle, ctypes.byref(result))
        return _step(result)

    def feed(self, token: int) -> Step:
        """A token of the caller's choice in the place of one that a step would draw."""
        result = _c.new("glimpse_step_result")
        _c.call("glimpse_feed", self._handle, token, ctypes.byref(result))
        return _step(result)

    def forward(self) -> None:
        """Runs what was fed or drawn since the last pass: logits() are then those that follow it."""
        self._run(lambda: _c.call("glimpse_forward", self._handle))

    # -- forks, checkpoints, files

    def fork(self) -> "Session":
        """Another session that goes on from here. What the two have in common is in memory once."""
        other = object.__new__(type(self))
        other.model, other._flag, other._n_calls = self.model, self._flag, 0
        other._adopt(_c.create("glimpse_session_fork", "glimpse_session_free", self._handle, keep=self._handle.keep))
        other._pictures, other._n_top_logprobs = list(self._pictures), self._n_top_logprobs
        other._prompt = self._prompt
        return other

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            _c.create("glimpse_session_checkpoint", "glimpse_checkpoint_free", self._handle), list(self._pictures)
        )

    def rewind(self, checkpoint: Checkpoint) -> None:
        _c.call("glimpse_session_rewind", self._handle, checkpoint._handle)
        self._pictures = list(checkpoint._pictures)

    def reset(self) -> None:
        """Forgets the conversation; memory stays."""
        _c.call("glimpse_session_reset", self._handle)
        self._pictures = []

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """The conversation to a file, which appears whole or not at all."""
        _c.call("glimpse_session_save_file", self._handle, c_path(path))

    def load(self, source: Union[str, "os.PathLike[str]", bytes]) -> None:
        """Takes the place of the conversation: a file's path, or the bytes of tobytes(). Every byte is checked before."""
        if isinstance(source, bytes):
            _c.call("glimpse_session_load", self._handle, source, len(source))
        else:
            _c.call("glimpse_session_load_file", self._handle, c_path(source))
        self._pictures = []

    def tobytes(self) -> bytes:
        """The conversation, for load()."""
        return _c.sized(lambda buffer, room, n: _c.call("glimpse_session_save", self._handle, buffer, room, n))


def _step(result: Any) -> Step:
    reason = None if result.finish_reason == _NOT_FINISHED else FINISH_REASONS[result.finish_reason]
    return Step(result.token, result.logprob, _c.decode(_c.text_field(result)), reason)


def step_many(sessions: Sequence[Session]) -> List[Step]:
    """A step of each of several sessions forked from one another, in one pass over the weights. Each gets what step()
    alone would give it.
    """
    n = len(sessions)
    results = (_c.structs["glimpse_step_result"] * max(n, 1))()
    for result in results:
        result.struct_size = ctypes.sizeof(result)
    handles = (ctypes.c_void_p * max(n, 1))(*[session._handle._as_parameter_.value for session in sessions])
    _c.call("glimpse_step_many", handles, n, results)
    return [_step(results[i]) for i in range(n)]


class Stream(Iterator[str], AsyncIterator[str]):
    """An answer while it is made: iterate over its pieces, with `for` or `async for`. `answer` is what was said so far,
    and the whole at the end; close() ends it early.
    """

    def __init__(
        self,
        session: Session,
        messages: List[Message],
        progress: Optional["Progress"],
        sampling: Any,
        done: Callable[[Session], None],
    ) -> None:
        self._session: Optional[Session] = session
        self._begin: Optional[Callable[[], None]] = lambda: self._prefill(session, messages, progress, sampling)
        self._done = done
        self._answer: Optional[Answer] = None
        self._lock = threading.RLock()  # close() waits for a step that another thread has under way

    @staticmethod
    def _prefill(session: Session, messages: List[Message], progress: Optional["Progress"], sampling: Any) -> None:
        session._sampling(sampling)  # what is wrong with it is said before any work is done
        session._prefill(messages, progress)
        session.begin_answer(**sampling)

    @property
    def answer(self) -> Answer:
        if self._answer is None:
            if self._session is None or self._begin is not None:
                raise InvalidArgumentError("nothing was said: iterate over the stream first")
            return self._session.answer
        return self._answer

    def close(self) -> None:
        """The session, or the chat, is free for the next question; what was said stays in it."""
        session = self._session
        if session is not None:
            session.cancel()
        with self._lock:
            session, self._session = self._session, None
            if session is None:
                return
            if self._begin is None:
                self._answer = session.answer
            self._done(session)

    def __next__(self) -> str:
        with self._lock:
            return self._next()

    def _next(self) -> str:
        while self._session is not None:
            try:
                if self._begin is not None:
                    self._begin()
                    self._begin = None
                step = self._session.step()
            except BaseException:
                self.close()
                raise
            if step.finish_reason is not None:
                self.close()
            if step.text:
                return step.text
        raise StopIteration

    async def __anext__(self) -> str:
        loop = asyncio.get_running_loop()
        try:
            piece = await loop.run_in_executor(None, next, self, None)
        except asyncio.CancelledError:
            if self._session is not None:
                self._session.cancel()
            raise
        if piece is None:
            raise StopAsyncIteration
        return piece

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Chat:
    """A conversation: each question is asked after what was said, and only what is new is computed."""

    def __init__(self, session: Session, system: Optional[str] = None) -> None:
        #: The library's session, for what Chat does not have.
        self.session = session
        self._system = system

    def _first(self) -> Optional[str]:
        return self._system if self.session.n_past == 0 else None

    def ask(
        self,
        prompt: "Prompt",
        *images: "ImageLike",
        progress: Optional["Progress"] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Answer:
        """The answer to a question, about pictures if there are any."""
        return self.session.generate(prompt, images, system=self._first(), progress=progress, **sampling)

    def stream(
        self,
        prompt: "Prompt",
        *,
        images: Sequence["ImageLike"] = (),
        progress: Optional["Progress"] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Stream:
        """The same piece by piece."""
        messages = read_messages(self.session.model._handle, prompt, images, self._first())
        return Stream(self.session, messages, progress, sampling, lambda session: None)

    def fork(self) -> "Chat":
        """Another conversation that has this one's past; it costs the memory of what is said from now on. Give
        `n_pool` to Model.chat() where both together become longer than n_ctx.
        """
        return Chat(self.session.fork(), self._system)

    def checkpoint(self) -> Checkpoint:
        return self.session.checkpoint()

    def rewind(self, checkpoint: Checkpoint) -> None:
        self.session.rewind(checkpoint)

    def reset(self) -> None:
        self.session.reset()

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        self.session.save(path)

    def load(self, source: Union[str, "os.PathLike[str]", bytes]) -> None:
        self.session.load(source)

    def cancel(self) -> None:
        self.session.cancel()
