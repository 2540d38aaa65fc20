"""What an answer is made of: what the model thinks, what it says, the tools that it calls."""

from __future__ import annotations

import ctypes
import dataclasses
import json
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import _c

#: A tool as OpenAI's "tools" have it: {"type": "function", "function": {"name": ..., "parameters": {...}}}; or its JSON.
Tool = Union[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A tool that the model calls: give it what the tool said as {"role": "tool", "content": ...}."""

    name: str
    arguments: Dict[str, Any]


@dataclasses.dataclass(frozen=True)
class AnswerParts:
    """An answer, or a piece of one, taken apart."""

    #: What the model thinks first (its think block), without the line ends around it.
    reasoning: str = ""
    #: What it says.
    content: str = ""
    #: Looked for where tools were given.
    tool_calls: List[ToolCall] = dataclasses.field(default_factory=list)
    #: What began like a call and was none, and why; it stays content.
    problems: List[str] = dataclasses.field(default_factory=list)


class Splitter:
    """Takes an answer apart while it comes. Nothing is known of what may be the beginning of a marker or of a call until
    more has come: push() gives what is known now, finish() the rest.

    thinking_open: the answer begins inside of a think block (Model.opens_thinking). tool_calls: calls are looked for.
    """

    def __init__(self, *, thinking_open: bool = False, tool_calls: bool = False) -> None:
        params = _c.new("glimpse_splitter_params", thinking_open=int(thinking_open), tool_calls=int(tool_calls))
        self._handle = _c.create("glimpse_splitter_create", "glimpse_splitter_free", ctypes.byref(params))

    def push(self, text: str) -> AnswerParts:
        """What the next piece of the answer made known."""
        data = text.encode()
        return self._parts("glimpse_splitter_push", data, len(data))

    def finish(self) -> AnswerParts:
        """The rest, at the end of the answer."""
        return self._parts("glimpse_splitter_finish")

    @property
    def parts(self) -> AnswerParts:
        """All that was pushed."""
        return self._parts("glimpse_splitter_get")

    def _parts(self, name: str, *arguments: Any) -> AnswerParts:
        parts = _c.new("glimpse_answer_parts")
        _c.call(name, self._handle, *arguments, ctypes.byref(parts))
        return AnswerParts(
            _c.decode(_c.text_field(parts, "reasoning", "n_reasoning_bytes")),
            _c.decode(_c.text_field(parts, "content", "n_content_bytes")),
            [
                ToolCall(_c.decode(call.name), json.loads(_c.decode(call.arguments)))
                for call in _array(_c.structs["glimpse_tool_call"], parts.tool_calls, parts.n_tool_calls)
            ],
            [_c.decode(text) for text in _array(ctypes.c_char_p, parts.problems, parts.n_problems)],
        )


def _array(kind: Any, address: Optional[int], n: int) -> Sequence[Any]:
    return list((kind * n).from_address(address)) if address and n else []


def split_answer(text: str, thinking_open: bool, tool_calls: bool) -> AnswerParts:
    """An answer that is whole. Where no model thinks or calls, which is most often, nothing is to be split."""
    if not (thinking_open or tool_calls or "<think>" in text):
        return AnswerParts(content=text)
    splitter = Splitter(thinking_open=thinking_open, tool_calls=tool_calls)
    splitter.push(text)
    splitter.finish()
    return splitter.parts


def joined_answer(
    model: _c.Handle, content: str, reasoning: Optional[str], calls: Sequence[Mapping[str, Any]]
) -> List[str]:
    """The texts of an earlier answer, as the model's template has it, of the parts that OpenAI's messages have.
    reasoning: None where content is all that is known. Raises AttributeError, KeyError, TypeError, ValueError.
    """
    parts = _c.new("glimpse_answer_parts")
    if reasoning is not None:
        parts.reasoning = text = reasoning.encode()
        parts.n_reasoning_bytes = len(text)
    parts.content = text = content.encode()
    parts.n_content_bytes = len(text)
    array = (_c.structs["glimpse_tool_call"] * max(len(calls), 1))()
    for c_call, call in zip(array, calls):
        function = call.get("function", call)
        arguments = function["arguments"]
        given = arguments if isinstance(arguments, str) else json.dumps(dict(arguments), ensure_ascii=False)
        c_call.name, c_call.arguments = _no_nul(function["name"]).encode(), _no_nul(given).encode()
    parts.tool_calls, parts.n_tool_calls = ctypes.addressof(array), len(calls)
    n_thinking = ctypes.c_size_t()
    joined = _c.sized(
        lambda buffer, room, n: _c.call(
            "glimpse_join_answer", model, ctypes.byref(parts), buffer, room, n, ctypes.byref(n_thinking)
        )
    )
    thinking, said = joined[: n_thinking.value], joined[n_thinking.value :]
    return [_c.decode(text) for text in ([thinking, said] if thinking else [said])]


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL")
    return text


_THINKING = {None: "GLIMPSE_THINKING_DEFAULT", True: "GLIMPSE_THINKING_ON", False: "GLIMPSE_THINKING_OFF"}


def fill_prompt(params: Any, tools: Sequence[Tool], thinking: Optional[bool]) -> Any:
    """Sets the tools and thinking of a prompt. Returns what must live as long as the struct."""
    if thinking not in _THINKING:
        raise TypeError(f"thinking is {thinking!r}: want True, False, or None for the model's default")
    if isinstance(tools, (str, Mapping)):
        raise TypeError("tools is one tool: want a list of them")
    texts = tool_texts(tools)
    array = (ctypes.c_char_p * max(len(texts), 1))(*[text.encode() for text in texts])
    params.tools, params.n_tools = ctypes.addressof(array), len(texts)
    params.thinking = _c.numbers[_THINKING[thinking]]
    return array


def tool_texts(tools: Sequence[Tool]) -> Tuple[str, ...]:
    return tuple(tool if isinstance(tool, str) else json.dumps(tool) for tool in tools)
