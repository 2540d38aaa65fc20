"""Models."""

from __future__ import annotations

import collections
import ctypes
import logging
import os
import types
from typing import (
    TYPE_CHECKING,
    Any,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Union,
    overload,
)

from . import _c
from ._answer import Answer
from ._constraint import Constraint, make_constraint
from ._embedder import Embedder
from ._embedding import Embedding
from ._engine import Engine, Row
from ._errors import InvalidArgumentError, NotFoundError
from ._interrupt import interruptible
from ._messages import c_messages, read_messages
from ._options import c_path, fields_of, fill
from ._pictures import c_pictures, encode_with_pillow_beside, picture_of
from ._session import Chat, ProgressCallback, Session, Stream
from ._video import Video, encode_video

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._messages import Prompt
    from ._embedder import Input
    from ._options import EngineOptions, PictureOptions, Sampling, SessionOptions
    from ._parts import Tool
    from ._pictures import ImageLike
    from ._session import Progress

    Path = Union[str, "os.PathLike[str]"]

_LOG = logging.getLogger("glimpse")
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)


def _log_message(_user: Any, level: int, message: bytes) -> None:
    try:
        _LOG.log(_LEVELS[level], "%s", _c.decode(message))
    except Exception:
        pass  # a handler of the host's; there is nobody to tell


class Plan:
    """Bytes of memory before any of it is allocated: weights, kv_cache, decoder_scratch, vision_scratch, total, and
    image_reading while a picture is read.
    """

    def __init__(self, plan: Any) -> None:
        self.weights, self.kv_cache = int(plan.weights), int(plan.kv_cache)
        self.decoder_scratch, self.vision_scratch = int(plan.decoder_scratch), int(plan.vision_scratch)
        self.image_reading, self.total = int(plan.image_reading), int(plan.total)

    def __repr__(self) -> str:
        return "Plan(" + ", ".join(f"{name}={value}" for name, value in vars(self).items()) + ")"


class Model:
    """Loaded weights. Share it between threads; in another process it loads itself again where it is pickled (give
    pack_cache_dir and pack_cache_map, and the processes share one copy), and a forked one has it already.

    model, mmproj: GGUF files of the text model and of the vision encoder. device: "cpu", "cuda" or "auto".
    vision_precision: "auto", "f32", "bf16" or "int8". The remaining options are those of sessions that ask(), stream(),
    chat() and session() make: n_ctx, n_threads, kv_type, image_max_tokens, ... Messages of the library go to the
    logger "glimpse". Raises NotFoundError, CorruptError, MismatchError, ...: see GlimpseError.
    """

    def __init__(
        self,
        model: "Path",
        mmproj: Optional["Path"] = None,
        *,
        vision_precision: str = "auto",
        device: str = "cpu",
        pack_cache_dir: Optional["Path"] = None,
        pack_cache_map: bool = False,
        use_reference: bool = False,
        progress: Optional["Progress"] = None,
        **session: "Unpack[SessionOptions]",
    ) -> None:
        self._arguments: Dict[str, Any] = dict(
            model=os.fspath(model),
            mmproj=None if mmproj is None else os.fspath(mmproj),
            device=device,
            vision_precision=vision_precision,
            pack_cache_map=pack_cache_map,
            use_reference=use_reference,
            pack_cache_dir=None if pack_cache_dir is None else os.fspath(pack_cache_dir),
            **session,
        )
        fill(_c.new("glimpse_session_params"), session)  # what is wrong with them is said before a long load
        self._session_options = session
        self._idle: Deque[Session] = collections.deque()
        self._log = _c.callbacks["glimpse_log_callback"](_log_message)
        params = _c.new("glimpse_model_params", log=self._log, model_path=c_path(model))
        fill(
            params,
            dict(
                mmproj_path=mmproj,
                n_threads=session.get("n_threads", 0),
                vision_precision=vision_precision,
                device=device,
                pack_cache_dir=pack_cache_dir,
                pack_cache_map=int(pack_cache_map),
                use_reference=int(use_reference),
            ),
        )
        self._handle = self._load(params, progress)
        self._info = _c.new("glimpse_model_info")
        _c.call("glimpse_model_get_info", self._handle, ctypes.byref(self._info))

    def _load(self, params: Any, progress: Optional["Progress"]) -> _c.Handle:
        stopped: List[bool] = []

        def report(stage: str, fraction: float) -> Optional[bool]:
            return False if stopped else progress(stage, fraction) if progress is not None else None

        callback = ProgressCallback(report)
        params.progress = callback.pointer
        return interruptible(
            lambda: _c.create(
                "glimpse_model_load", "glimpse_model_free", ctypes.byref(params), keep=self._log, call=callback.call
            ),
            lambda: stopped.append(True),
        )

    def __reduce__(self) -> Any:
        return _load_again, (self._arguments,)

    def __repr__(self) -> str:
        return f"<glimpse.Model {self.name or self.architecture}, {self.n_layers} layers of {self.hidden_size}>"

    # -- what it is

    @property
    def architecture(self) -> str:
        return _c.decode(self._info.architecture or b"")

    @property
    def name(self) -> str:
        return _c.decode(self._info.name or b"")

    @property
    def has_vision(self) -> bool:
        return bool(self._info.has_vision)

    @property
    def vocab_size(self) -> int:
        return int(self._info.vocab_size)

    @property
    def hidden_size(self) -> int:
        return int(self._info.hidden_size)

    @property
    def n_layers(self) -> int:
        return int(self._info.n_layers)

    @property
    def context_length(self) -> int:
        return int(self._info.context_length)

    @property
    def weight_bytes(self) -> int:
        return int(self._info.weight_bytes)

    @property
    def mapped_bytes(self) -> int:
        """Of the weights: mapped from the pack cache, shared between processes."""
        return int(self._info.mapped_bytes)

    @property
    def chat_format(self) -> str:
        """What was recognised of the file's chat template, in words."""
        return _c.decode(self._info.chat_format or b"")

    @property
    def takes_tools(self) -> bool:
        """Whether its prompts have a place for tools."""
        return bool(self._info.takes_tools)

    @property
    def opens_thinking(self) -> bool:
        """Whether its answers begin with what it thinks, unless they are told not to."""
        return bool(self._info.opens_thinking)

    @property
    def pooling(self) -> str:
        """ "none": it answers; "mean", "cls", "last": it makes vectors; "rank": scores."""
        return _c.decode(self._info.pooling or b"")

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the model's file says about itself, as text."""
        return types.MappingProxyType(self._metadata("GLIMPSE_FILE_MODEL"))

    @property
    def mmproj_metadata(self) -> Mapping[str, str]:
        """The same of the vision encoder's file; empty without one."""
        return types.MappingProxyType(self._metadata("GLIMPSE_FILE_MMPROJ") if self.has_vision else {})

    def _metadata(self, file: str) -> Dict[str, str]:
        found: Dict[str, str] = {}
        key, text, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
        while True:
            try:
                _c.call("glimpse_model_metadata_key", self._handle, _c.numbers[file], len(found), ctypes.byref(key))
            except NotFoundError:
                return found
            assert key.value is not None
            _c.call(
                "glimpse_model_metadata",
                self._handle,
                _c.numbers[file],
                key.value,
                ctypes.byref(text),
                ctypes.byref(size),
            )
            found[_c.decode(key.value)] = _c.decode(ctypes.string_at(text.value, size.value) if text.value else b"")

    def plan(self, **options: "Unpack[SessionOptions]") -> Plan:
        """The memory that a session would use."""
        params, plan = _c.new("glimpse_session_params"), _c.new("glimpse_memory_plan")
        fill(params, {**self._session_options, **options})
        _c.call("glimpse_plan_session", self._handle, ctypes.byref(params), ctypes.byref(plan))
        return Plan(plan)

    # -- tokens

    def tokenize(self, text: str, *, special: bool = False, as_typed: bool = False) -> List[int]:
        """Token ids of a text. special: control tokens in the text are those tokens: for text that you trust.
        as_typed: without Unicode normalisation (NFC).
        """
        data = text.encode()
        flags = _c.numbers["GLIMPSE_TOKENIZE_SPECIAL"] * special + _c.numbers["GLIMPSE_TOKENIZE_AS_TYPED"] * as_typed
        n = ctypes.c_size_t()
        _c.call("glimpse_tokenize_with", self._handle, data, len(data), flags, None, 0, ctypes.byref(n))
        ids = (ctypes.c_int32 * max(n.value, 1))()
        _c.call("glimpse_tokenize_with", self._handle, data, len(data), flags, ids, n.value, ctypes.byref(n))
        return list(ids)[: n.value]

    def detokenize(self, tokens: Iterable[int], *, render_special: bool = False) -> str:
        """The text of tokens; control tokens by their names when render_special, else nothing."""
        ids = list(tokens)
        array = (ctypes.c_int32 * max(len(ids), 1))(*ids)
        return _c.decode(
            _c.sized(
                lambda buffer, room, n: _c.call(
                    "glimpse_detokenize", self._handle, array, len(ids), int(render_special), buffer, room, n
                )
            )
        )

    def find_token(self, text: str) -> int:
        """The id of a token by its text as the file has it. Raises NotFoundError, a LookupError."""
        token = ctypes.c_int32()
        _c.call("glimpse_find_token", self._handle, text.encode(), ctypes.byref(token))
        return token.value

    def render_chat(self, prompt: "Prompt", images: Sequence["ImageLike"] = (), *, system: Optional[str] = None) -> str:
        """The text that the model is given for messages, with its control tokens. Pictures are encoded for it."""
        messages = read_messages(self._handle, prompt, images, system)
        array, keep = c_messages(messages, lambda pictures: [self.encode(picture) for picture in pictures])
        text = _c.sized(
            lambda buffer, room, n: _c.call("glimpse_render_chat", self._handle, array, len(messages), buffer, room, n)
        )
        del keep
        return _c.decode(text)

    # -- what an answer may be

    def constraint(
        self,
        *,
        schema: Union[None, str, Mapping[str, Any]] = None,
        json_object: bool = False,
        regex: Optional[str] = None,
        grammar: Optional[str] = None,
        choices: Optional[Sequence[str]] = None,
    ) -> Constraint:
        """Compiled once, for any number of answers: JSON of a schema (a mapping, its text, or "boxes"), any JSON object, what
        matches an expression, follows a grammar in GBNF, or is one of some texts. Raises InvalidArgumentError,
        UnsupportedError with the place that is wrong.
        """
        return make_constraint(self._handle, schema, json_object, regex, grammar, choices)

    def _with_constraint(self, sampling: Mapping[str, Any]) -> Dict[str, Any]:
        options = dict(sampling)
        if "schema" in options:
            if options.get("constraint") is not None:
                raise InvalidArgumentError("both schema and constraint: want one")
            options["constraint"] = self.constraint(schema=options.pop("schema"))
        return options

    # -- pictures

    @overload
    def encode(
        self, image: "ImageLike", *, progress: Optional["Progress"] = ..., **options: "Unpack[PictureOptions]"
    ) -> Embedding: ...

    @overload
    def encode(
        self, image: List["ImageLike"], *, progress: Optional["Progress"] = ..., **options: "Unpack[PictureOptions]"
    ) -> List[Embedding]: ...

    def encode(self, image: Any, *, progress: Optional["Progress"] = None, **options: Any) -> Any:
        """The embedding of a picture or a Video. A list of pictures is encoded at once: small ones share passes over the
        weights, and each becomes what it becomes alone, bit for bit.
        """
        images = image if isinstance(image, list) else [image]
        found = [self._made_alone(each, progress, options) for each in images]
        left = [picture_of(each) for each, done in zip(images, found) if done is None]
        if left:
            made = iter(encode_with_pillow_beside(left, lambda pictures: self._encode(pictures, progress, options)))
            found = [next(made) if done is None else done for done in found]
        return found if isinstance(image, list) else found[0]

    def _made_alone(self, image: Any, progress: Optional["Progress"], options: Any) -> Optional[Embedding]:
        if isinstance(image, Embedding):
            return image
        if not isinstance(image, Video):
            return None
        name = "glimpse_encoder_encode_video"
        made: Embedding = encode_video(
            image, self, lambda video: self._with_encoder(name, (video,), 1, progress, options)[0]
        )
        return made

    def _encode(self, pictures: Any, progress: Optional["Progress"], options: Any) -> List[Embedding]:
        given = (c_pictures(pictures), len(pictures))
        return self._with_encoder("glimpse_encoder_encode", given, len(pictures), progress, options)

    def _with_encoder(
        self, name: str, given: Any, n: int, progress: Optional["Progress"], options: Any
    ) -> List[Embedding]:
        flag = ctypes.c_int(0)
        params = _c.new("glimpse_encoder_params", log=self._log, cancel=ctypes.addressof(flag))
        names = fields_of("glimpse_encoder_params")
        fill(params, {**{name: value for name, value in self._session_options.items() if name in names}, **options})
        encoder = _c.create(
            "glimpse_encoder_create", "glimpse_encoder_free", self._handle, ctypes.byref(params), keep=(flag, self._log)
        )
        callback = ProgressCallback(progress)
        out = (ctypes.c_void_p * n)()

        def work() -> List[Embedding]:
            callback.call(name, encoder, *given, callback.pointer, None, out)
            return [Embedding(_c.Handle(pointer or 0, "glimpse_embedding_free")) for pointer in out]

        def stop() -> None:
            flag.value = 1

        return interruptible(work, stop)

    # -- conversations

    def session(self, **options: "Unpack[SessionOptions]") -> Session:
        """A conversation in the library's own steps."""
        given: Dict[str, Any] = {**self._session_options, **options}
        return Session(self, **given)

    def chat(
        self,
        *,
        system: Optional[str] = None,
        tools: Sequence["Tool"] = (),
        thinking: Optional[bool] = None,
        **options: "Unpack[SessionOptions]",
    ) -> Chat:
        """A conversation that remembers what was said. tools: what the model may call, as OpenAI's "tools"; what one said is
        asked as [{"role": "tool", "content": ...}]. thinking: whether it may think first; None: as its template has it.
        """
        session = self.session(**options)
        session.set_prompt(tools=tools, thinking=thinking)
        return Chat(session, system)

    def _take(self, tools: Sequence["Tool"], thinking: Optional[bool]) -> Session:
        # Of sessions that have answered, so that a question allocates nothing; each serves one caller at a time.
        try:
            session = self._idle.pop()
        except IndexError:
            session = self.session()
        session.reset()
        session.set_prompt(tools=tools, thinking=thinking)
        return session

    def ask(
        self,
        prompt: "Prompt",
        *images: "ImageLike",
        system: Optional[str] = None,
        tools: Sequence["Tool"] = (),
        thinking: Optional[bool] = None,
        progress: Optional["Progress"] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Answer:
        """The answer to a question, about pictures if there are any; nothing is remembered. Pictures stand where the
        question says <image>, or come first. Any thread may ask at any time. tools: what the model may call, as OpenAI's
        "tools"; see Answer.tool_calls. thinking: whether it may think first; None: as its template has it.
        """
        session = self._take(tools, thinking)
        try:
            return session.generate(prompt, images, system=system, progress=progress, **sampling)
        finally:
            self._idle.append(session)

    def stream(
        self,
        prompt: "Prompt",
        *,
        images: Sequence["ImageLike"] = (),
        system: Optional[str] = None,
        tools: Sequence["Tool"] = (),
        thinking: Optional[bool] = None,
        progress: Optional["Progress"] = None,
        **sampling: "Unpack[Sampling]",
    ) -> Stream:
        """The same piece by piece: `for piece in model.stream(...)` or `async for`."""
        messages = read_messages(self._handle, prompt, images, system)
        return Stream(self._take(tools, thinking), messages, progress, sampling, self._idle.append)

    # -- many questions at once

    def engine(self, **options: "Unpack[EngineOptions]") -> Engine:
        """Answers many requests together."""
        names = fields_of("glimpse_engine_params")
        given: Dict[str, Any] = {name: value for name, value in self._session_options.items() if name in names}
        given.update(options)
        return Engine(self, **given)

    def batch(
        self,
        rows: Iterable[Any],
        *,
        prompt: Optional["Prompt"] = None,
        system: Optional[str] = None,
        on_error: str = "raise",
        thinking: Optional[bool] = None,
        n_parallel: int = 4,
        **sampling: "Unpack[Sampling]",
    ) -> Iterator[Row]:
        """Answers to rows, in their order, n_parallel under way together: see Engine.batch."""
        with self.engine(n_parallel=n_parallel) as engine:
            yield from engine.batch(
                rows, prompt=prompt, system=system, on_error=on_error, thinking=thinking, **sampling
            )

    # -- vectors and scores, of models that do not answer

    def embedder(self, **options: "Unpack[SessionOptions]") -> Embedder:
        """Vectors of an embedding model, scores of a reranker: for many calls."""
        given: Dict[str, Any] = {**self._session_options, **options}
        return Embedder(self, **given)

    def embed(self, inputs: "Union[Input, List[Input]]", **options: Any) -> Any:
        """The vector of a text or a picture, or of each of a list of them: see Embedder.embed."""
        return self.embedder().embed(inputs, **options)

    def rank(self, query: "Input", documents: "List[Input]", **options: Any) -> List[float]:
        """How well documents fit a query: see Embedder.rank."""
        return self.embedder().rank(query, documents, **options)


def _load_again(arguments: Dict[str, Any]) -> Model:
    return Model(**arguments)
