"""Questions and messages as people write them, as the library takes them."""

from __future__ import annotations

import base64
import binascii
import ctypes
import re
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

from . import _c
from ._embedding import Embedding
from ._errors import InvalidArgumentError
from ._parts import joined_answer
from ._pictures import Picture, c_pictures, picture_of
from ._video import Video, video_of

if TYPE_CHECKING:
    from ._pictures import ImageLike

    #: A question, or messages: {"role": "user", "content": "text"} with content a text or a list of parts. A part is a
    #: text, a picture, a Video, {"type": "text", "text": ...}, {"type": "image", "image": ...}, {"type": "video",
    #: "video": ...} or OpenAI's image_url with a data URL. An "assistant" message is an earlier answer: its text as the
    #: model said it, or content with OpenAI's "tool_calls" and "reasoning_content"; a "tool" message what a tool said.
    Prompt = Union[str, Sequence[Mapping[str, Any]]]

_PLACE = re.compile(r"<image>|<video>|<__media__>")


class Part:
    """One piece of a message: a text, or what is a picture to _pictures.picture_of() or an Embedding."""

    def __init__(self, text: Optional[str] = None, image: Any = None) -> None:
        self.text, self.image = text, image


Message = Tuple[str, List[Part]]


def read_messages(
    model: _c.Handle, prompt: "Prompt", images: Sequence["ImageLike"], system: Optional[str]
) -> List[Message]:
    """The messages of a call, as the model's template has them. Pictures that come apart from the messages stand where a text says <image>, in order;
    where no text does, they are the beginning of the last user message. Raises InvalidArgumentError, TypeError.
    """
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not isinstance(prompt, (list, tuple)):
        raise TypeError(f"a question is {type(prompt).__name__}: want a text or a list of messages")
    messages = [_message(model, message) for message in prompt]
    given = [one for image in images for one in (image if isinstance(image, (list, tuple)) else [image])]
    if given:
        messages = _place(messages, given)
    if system is not None:
        messages.insert(0, ("system", [Part(text=system)]))
    return messages


def _message(model: _c.Handle, message: Mapping[str, Any]) -> Message:
    if not isinstance(message, Mapping) or "role" not in message:
        raise InvalidArgumentError(f'a message is {message!r:.80}: want {{"role": ..., "content": ...}}')
    content, calls = message.get("content"), message.get("tool_calls") or ()
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        reasoning = message.get("reasoning")
    is_answer = message["role"] == "assistant"
    said = read_parts("" if content is None and is_answer else content)  # none: programs send back what they got
    if not calls and (reasoning is None or not (reasoning or is_answer)):
        return str(message["role"]), said
    if not is_answer or any(part.text is None for part in said):
        raise InvalidArgumentError("tool_calls and reasoning_content: want them in an assistant message of text")
    try:
        texts = joined_answer(model, "".join(str(part.text) for part in said), reasoning, calls)
    except (AttributeError, KeyError, TypeError, ValueError) as failure:
        raise InvalidArgumentError(
            f'tool_calls: want {{"function": {{"name": ..., "arguments": "{{...}}"}}}} each ({failure!r})'
        ) from None
    return "assistant", [Part(text=text) for text in texts]


def read_parts(content: Any) -> List[Part]:
    if isinstance(content, str):
        return [Part(text=content)]
    if not isinstance(content, (list, tuple)):
        raise TypeError(f"a message's content is {type(content).__name__}: want a text or a list of parts")
    return [_part(part) for part in content]


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return Part(text=part)
    if not isinstance(part, Mapping):
        return Part(image=part)
    kind = part.get("type")
    if kind in ("text", "input_text"):
        return Part(text=_member(part, "text"))
    if kind == "image":
        return Part(image=_member(part, "image"))
    if kind == "video":
        return Part(image=video_of(_member(part, "video")))
    if kind in ("image_url", "input_image"):
        url = _member(part, "image_url")
        return Part(image=_data_url(_member(url, "url") if isinstance(url, Mapping) else url))
    raise InvalidArgumentError(f"a part of type {kind!r}: want text, image, video or image_url")


def _member(part: Mapping[str, Any], name: str) -> Any:
    if part.get(name) is None:
        raise InvalidArgumentError(f"a part {part!r:.80}: want its {name!r}")
    return part[name]


def _data_url(url: str) -> bytes:
    match = re.match(r"data:[^,]*;base64,", url)
    if match is None:
        raise InvalidArgumentError(f"{url[:80]}: glimpse fetches nothing: want data:image/...;base64,...")
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as failure:
        raise InvalidArgumentError(f"a picture's data URL is no base64: {failure}") from None


def _place(messages: List[Message], images: List[Any]) -> List[Message]:
    n_places = sum(len(_PLACE.findall(part.text or "")) for _, parts in messages for part in parts)
    if n_places == 0:
        users = [parts for role, parts in messages if role not in ("system", "assistant")]
        if not users:
            raise InvalidArgumentError("there are pictures, but no user message to hold them")
        users[-1][:0] = [Part(image=image) for image in images]
        return messages
    if n_places != len(images):
        raise InvalidArgumentError(
            f"the messages have {n_places} places for pictures (<image>), but there are {len(images)} "
            "pictures: give as many, or leave the places out (pictures then come first)"
        )
    left = iter(images)
    return [(role, [piece for part in parts for piece in _split(part, left)]) for role, parts in messages]


def _split(part: Part, images: Any) -> List[Part]:
    if part.text is None:
        return [part]
    texts = _PLACE.split(part.text)
    pieces = [Part(text=texts[0])] if texts[0] else []
    for text in texts[1:]:
        pieces.append(Part(image=next(images)))
        if text:
            pieces.append(Part(text=text))
    return pieces


def c_messages(messages: List[Message], embed: Callable[[List[Any]], List[Embedding]]) -> Tuple[Any, List[Any]]:
    """An array of glimpse_message, with all pictures embedded, and what must live as long as it."""
    embeddings = iter(embed([part.image for _, parts in messages for part in parts if part.text is None]))
    return _c_messages("glimpse_message", messages, lambda parts: c_parts(parts, lambda _: next(embeddings)))


def c_parts(parts: List[Part], embed: Callable[[Any], Embedding]) -> Tuple[Any, List[Any]]:
    """An array of glimpse_part, and what must live as long as it."""

    def set_image(c_part: Any, image: Any) -> Any:
        embedding = embed(image)
        c_part.embedding = embedding._handle._as_parameter_
        return embedding

    return _c_parts("glimpse_part", parts, set_image)


def c_request_messages(
    messages: List[Message], encode: Callable[[Video], Embedding], pictures: List[Optional[Picture]]
) -> Tuple[Any, List[Any]]:
    """An array of glimpse_request_message and what must live as long as it. Adds the messages' pictures to `pictures`;
    videos, which are encoded before they are sent, are None there.
    """

    def set_image(c_part: Any, image: Any) -> Any:
        if isinstance(image, Video):
            image = encode(image)
        if isinstance(image, Embedding):
            pictures.append(None if image.n_slices else Picture())
            c_part.embedding = image._handle._as_parameter_
            return image
        picture = picture_of(image)
        pictures.append(picture)
        array = c_pictures([picture])
        c_part.picture = ctypes.addressof(array)
        return array

    return _c_messages(
        "glimpse_request_message", messages, lambda parts: _c_parts("glimpse_request_part", parts, set_image)
    )


def _c_messages(
    kind: str, messages: List[Message], make_parts: Callable[[List[Part]], Tuple[Any, List[Any]]]
) -> Tuple[Any, List[Any]]:
    array = (_c.structs[kind] * max(len(messages), 1))()
    keep: List[Any] = [array]
    for message, (role, parts) in zip(array, messages):
        if "\0" in role:
            raise InvalidArgumentError("a role with a NUL")
        made, kept = make_parts(parts)
        message.role, message.parts, message.n_parts = role.encode(), ctypes.addressof(made), len(parts)
        keep += kept
    return array, keep


def _c_parts(kind: str, parts: List[Part], set_image: Callable[[Any, Any], Any]) -> Tuple[Any, List[Any]]:
    array = (_c.structs[kind] * max(len(parts), 1))()
    keep: List[Any] = [array]
    for c_part, part in zip(array, parts):
        if part.text is None:
            keep.append(set_image(c_part, part.image))
        else:
            if not isinstance(part.text, str):
                raise TypeError(f"a text is {type(part.text).__name__}: want str")
            c_part.text = text = part.text.encode()
            c_part.n_bytes = len(text)
    return array, keep
