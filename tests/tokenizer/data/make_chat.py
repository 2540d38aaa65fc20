#!/usr/bin/env python3
"""Writes chat/cases.json: conversations, and what transformers (5.24, jinja2 3.1) makes of them with chat/*.jinja.

    python3 make_chat.py [OFFICIAL]      # in this folder

The templates in chat/ were written for these tests: they render what those of the released models render, with the
same literal texts. OFFICIAL is a folder with the published ones under the same names (chat_template of Qwen2-VL,
Qwen2.5-Instruct, QwQ-32B, Qwen3, Qwen3-VL-Instruct, Qwen3-VL-Thinking); with it the script demands that both render
the same.
"""
import json
import pathlib
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent / "chat"
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "Temperature \"now\", in °C \\ for a place\n(城市)\u007f\u2028.",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 12345678901234567890123},
        "scale": {"enum": [1.0, 2.5e-7, 1e16, 1.5e300, 123456789.125, 0.0001, -0.0, True, False, None, [], {}]}}}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}
TEXTS, TOOLS, PICTURES = "texts", "tools", "pictures"
LATER = "later system messages"  # Qwen3-VL-Instruct's template leaves them out; glimpse says them


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, cut=None, **arguments):
    """cut: what an answer that was cut off has left of them."""
    return {"type": "function", "function": {"name": name, "arguments": arguments if cut is None else cut}}


def think(reasoning, content):
    return f"<think>\n{reasoning}\n</think>\n\n{content}"


CASES = [
    # (needs, options, tools, messages)
    (TEXTS, {}, [], [say("user", "Hi")]),
    (TEXTS, {}, [], [say("system", "Be brief."), say("user", "Hi\n"), say("assistant", "\nHello."), say("user", "")]),
    (LATER, {}, [], [say("user", "Hi"), say("system", "S"), say("user", " x ")]),
    (TEXTS, {"add_generation_prompt": False}, [], [say("system", ""), say("user", "Hi"), say("assistant", "Yes")]),
    (TEXTS, {"enable_thinking": False}, [], [say("user", "Hi")]),
    (TEXTS, {"enable_thinking": True}, [], [say("user", "Hi")]),
    # thinking of earlier turns, of the last one, and none of it
    (TEXTS, {}, [], [say("user", "A"), say("assistant", think("a\n\nb", "One.")), say("user", "B"),
                     say("assistant", think("c", "Two.\n")), say("user", "C")]),
    (TEXTS, {"add_generation_prompt": False}, [], [say("user", "A"), say("assistant", think("a", "One.")),
                                                   say("user", "B"), say("assistant", think("b", "Two."))]),
    (TEXTS, {"add_generation_prompt": False}, [], [say("user", "A"), say("assistant", "\n\nno thought\n")]),
    (TEXTS, {}, [], [say("user", "A"), say("assistant", "opened by the template\n</think>\n\nOne."), say("user", "B")]),
    # tools
    (TOOLS, {}, [WEATHER], [say("user", "Warm in Ulm?")]),
    (TOOLS, {}, [WEATHER, ADD], [say("system", "Be brief."), say("user", "Warm in Ulm?")]),
    (TOOLS, {}, [ADD], [say("system", ""), say("user", "1 + 1"),
                        say("assistant", "", tool_calls=[call("add", a=1, b=1.0)]), say("tool", "2")]),
    (TOOLS, {}, [ADD, WEATHER], [say("user", "1 + 1, and Ulm"),
                                 say("assistant", "Both.", tool_calls=[call("add"), call("weather", city="Ülm \"x\"")]),
                                 say("tool", "2"), say("tool", "{\"t\": 3}\n"), say("assistant", "2 and 3."),
                                 say("user", "Thanks")]),
    (TOOLS, {}, [ADD], [say("user", "1 + 1"),
                        say("assistant", "Well.", reasoning_content="ask it", tool_calls=[call("add", a=1)]),
                        say("tool", "1"),
                        say("assistant", "", reasoning_content="again\n", tool_calls=[call("add", b={"c": [1, "d"]})]),
                        say("tool", "2")]),
    (TOOLS, {}, [ADD], [say("user", "1 + 1"),
                        say("assistant", "So.", reasoning_content="ask it", tool_calls=[call("add", a=1)]),
                        say("tool", "1"), say("assistant", "It is 1.", reasoning_content="done"), say("user", "Sure?")]),
    (TOOLS, {}, [], [say("user", "A"), say("assistant", "x", reasoning_content="r"), say("tool", "late"),
                     say("user", "<tool_response>\nby hand\n</tool_response>")]),
    (TOOLS, {}, [ADD], [say("user", "1 + 1"),
                        say("assistant", "", tool_calls=[call("add", cut='{"a": 1, "b": "é\\"'), call("add", cut="3")]),
                        say("tool", "cut"), say("user", "Go on")]),
    # reasoning that came apart: neither is looked for in the other, and line ends stay where the template leaves them
    *[(TOOLS, options, [], [say("user", "A"), say("assistant", content, reasoning_content=reasoning, tool_calls=calls),
                            *later])
      for content, reasoning, calls, options, later in [
          ("\n\nOne.", "\n\na\n", [], {}, [say("user", "B")]),
          ("\n\nOne.", "\n\na\n", [], {"add_generation_prompt": False}, []),
          ("One.", "\n", [call("add", z=1, a=2)], {}, [say("tool", "3")]),
          ("<think>\nx\n</think>\n\nOne.", "", [], {}, [say("user", "B")]),
          ("<think>\nx\n</think>\n\nOne.", "", [call("add")], {}, [say("tool", "3")]),
          ("Say </think>, and <think>x</think>.\n", "a </think> b", [], {"add_generation_prompt": False}, []),
          ("Say </think>, and <think>x</think>.\n", "a", [], {}, [say("tool", "late")]),
          ("x", "a", [call("add", cut='{"a": "</think>')], {}, [say("tool", "3")]),
          ("<think>a</think>", None, [call("add", b="</think>")], {}, [say("tool", "3"), say("user", "B")]),
          ("\n\n", "a", [call("add", b=1)], {}, [say("tool", "3")]),
          ("", "", [call("add", cut='{"a": "<think>\n</think>\n')], {}, [say("tool", "3")]),
          ("<think>\na\n</think>\n\nx", None, [call("add", cut='{"a": "\n</think>\n')], {}, [say("tool", "3")]),
      ]],
    # pictures
    (PICTURES, {}, [], [say("user", [{"type": "image"}, {"type": "text", "text": "What?"}, {"type": "video"}])]),
    (PICTURES, {}, [], [say("user", [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}]),
                        say("assistant", "Cats."), say("user", [{"type": "video"}, {"type": "image"}])]),
]
PICTURES_AND_TOOLS = [
    ({}, [ADD], [say("system", "S"), say("user", [{"type": "image"}, {"type": "text", "text": "Count."}]),
                 say("assistant", "", tool_calls=[call("add", a=2)]),
                 say("tool", [{"type": "text", "text": "see"}, {"type": "image"}])]),
]
KNOWS = {"qwen2vl": {TEXTS, LATER, PICTURES}, "qwen25": {TEXTS, LATER, TOOLS}, "qwq": {TEXTS, LATER, TOOLS},
         "qwen3": {TEXTS, LATER, TOOLS}, "qwen3vl": {TEXTS, TOOLS, PICTURES},
         "qwen3vl-thinking": {TEXTS, LATER, TOOLS, PICTURES}}


def render(source, options, tools, messages):
    return _compile_jinja_template(source).render(
        messages=messages, tools=tools or None, **{"add_generation_prompt": True, **options})


def main():
    official = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    written = []
    for name, known in KNOWS.items():
        source = (HERE / f"{name}.jinja").read_text()
        cases = [c[1:] for c in CASES if c[0] in known] + (PICTURES_AND_TOOLS if known >= {TOOLS, PICTURES} else [])
        for options, tools, messages in cases:
            text = render(source, options, tools, messages)
            if official:
                theirs = render((official / f"{name}.jinja").read_text(), options, tools, messages)
                assert text == theirs, f"{name}: {messages}\n{text!r}\n{theirs!r}"
            written.append({"template": name, "options": options, "tools": tools, "messages": messages, "text": text})
    with open(HERE / "cases.json", "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in written) + "\n]\n")
    print(len(written), "cases" + (", official templates agree" if official else ""))


if __name__ == "__main__":
    main()
