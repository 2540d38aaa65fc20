"""Keyword arguments as fields of the library's parameter structs."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Union

from . import _c
from ._errors import InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import TypedDict

    from ._constraint import Constraint
    from ._model import Model

    class PictureOptions(TypedDict, total=False):
        """Bounds on the resized picture, and limits on files; see glimpse_session_params in glimpse.h."""

        n_threads: int
        image_min_tokens: int
        image_max_tokens: int
        image_min_pixels: int
        image_max_pixels: int
        image_source_max_pixels: int
        image_source_max_memory: int
        image_source_max_scans: int
        image_dedup: bool

    class SessionOptions(PictureOptions, total=False):
        """n_ctx: tokens of a conversation, pictures included. kv_type: "f16", "bf16", "f32" or "q8_0"."""

        n_ctx: int
        n_batch: int
        kv_type: str
        n_speculate: int
        n_pool: int
        draft_model: Optional[Model]  # a smaller one of the same vocabulary
        n_draft: int
        draft_min_probability: float

    class EngineOptions(PictureOptions, total=False):
        """n_ctx: most tokens of one request. n_parallel: most requests under way at once. See glimpse_engine_params."""

        n_ctx: int
        n_batch: int
        n_parallel: int
        n_queued: int
        kv_type: str
        n_pool: int
        prompt_cache: bool
        image_cache_bytes: int
        image_cache_dir: Union[str, "os.PathLike[str]"]
        image_cache_dir_bytes: int

    class Sampling(TypedDict, total=False):
        """How tokens are drawn; temperature 0, the default, is greedy. See glimpse_generate_params in glimpse.h."""

        max_tokens: int
        temperature: float
        top_k: int
        top_p: float
        min_p: float
        repetition_penalty: float
        presence_penalty: float
        frequency_penalty: float
        penalty_last_n: int
        seed: int
        logit_bias: Mapping[int, float]
        stop: Union[str, Sequence[str]]
        n_top_logprobs: int
        render_special: bool
        constraint: Optional[Constraint]
        schema: Union[str, Mapping[str, Any]]  # a constraint of this JSON schema, or "boxes"


#: Names of enumerators by the field that takes them.
_ENUMS = {
    "vision_precision": "GLIMPSE_VISION_",
    "device": "GLIMPSE_DEVICE_",
    "cuda_decode": "GLIMPSE_CUDA_DECODE_",
    "kv_type": "GLIMPSE_KV_",
    "pooling": "GLIMPSE_POOLING_",
}
_NOT_FOR_CALLERS = {
    "struct_size",
    "log",
    "log_user",
    "progress",
    "progress_user",
    "on_text",
    "on_text_user",
    "cancel",
    "n_logit_bias",
    "n_stop",
}


def c_path(path: Union[str, bytes, "os.PathLike[str]"]) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise InvalidArgumentError(f"a path with a NUL: {path!r}")
    return encoded


def _text(name: str, value: str) -> bytes:
    if "\0" in value:
        raise InvalidArgumentError(f"{name} with a NUL")
    return value.encode()


def fields_of(struct: str) -> List[str]:
    """The options that a struct has."""
    return [field[0] for field in _c.structs[struct]._fields_ if field[0] not in _NOT_FOR_CALLERS]


def fill(params: Any, options: Mapping[str, Any]) -> List[Any]:
    """Sets fields by name. Returns what must live as long as the struct."""
    keep: List[Any] = []
    names = fields_of(type(params).__name__)
    for name, value in options.items():
        if name not in names:
            raise TypeError(f"there is no option {name!r}: {', '.join(names)}")
        if name == "logit_bias":
            keep.append(_logit_bias(params, value))
        elif name == "stop":
            keep.append(_stop(params, value))
        elif name == "constraint":
            keep.append(value)
            params.constraint = None if value is None else value._handle._as_parameter_
        elif name == "draft_model":
            keep.append(value)
            params.draft_model = None if value is None else value._handle._as_parameter_
        elif name.endswith("_dir") or name.endswith("_path"):
            setattr(params, name, None if value is None else c_path(value))
        elif name in ("instruction", "device_options"):
            setattr(params, name, None if value is None else _text(name, value))
        else:
            _number(params, name, value)
    return keep


def _number(params: Any, name: str, value: Any) -> None:
    if isinstance(value, str) and name in _ENUMS:
        prefix = _ENUMS[name]
        values = {key[len(prefix) :].lower(): number for key, number in _c.numbers.items() if key.startswith(prefix)}
        if value.lower() not in values:
            raise InvalidArgumentError(f"{name} {value!r} is unknown: {', '.join(values)}")
        value = values[value.lower()]
    kind = dict(type(params)._fields_)[name]
    is_real = kind in (ctypes.c_float, ctypes.c_double)
    try:
        setattr(params, name, value)
    except TypeError:
        raise TypeError(f"{name} is {value!r:.40}: want {'a number' if is_real else 'a whole number'}") from None
    if not is_real and getattr(params, name) != value:
        raise InvalidArgumentError(f"{name} {value} is out of range")  # ctypes would cut it in silence


def _logit_bias(params: Any, bias: Mapping[int, float]) -> Any:
    array = (_c.structs["glimpse_logit_bias"] * max(len(bias), 1))()
    for entry, (token, value) in zip(array, bias.items()):
        _number(entry, "id", token)
        entry.bias = value
    params.logit_bias, params.n_logit_bias = ctypes.addressof(array), len(bias)
    return array


def _stop(params: Any, given: Union[str, Sequence[str]]) -> Any:
    stop = [given] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)
    for text in stop:
        if not isinstance(text, str):
            raise TypeError(f"stop is {given!r:.40}: want a text or a list of texts")
        if "\0" in text:
            raise InvalidArgumentError("a stop string with a NUL")
    array = (ctypes.c_char_p * max(len(stop), 1))(*[text.encode() for text in stop])
    params.stop, params.n_stop = ctypes.addressof(array), len(stop)
    return array
