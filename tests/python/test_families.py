"""Models that make vectors, that score, that think, that call tools: the tiny ones of tests/golden under other heads."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy
import pytest

import glimpse
from conftest import QUESTION, ROOT
from gguf_edit import with_keys

GOLDEN = ROOT / "tests/golden"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def embeds(tmp_path_factory: pytest.TempPathFactory) -> glimpse.Model:
    path = tmp_path_factory.mktemp("models") / "embeds.gguf"
    return glimpse.Model(
        with_keys(GOLDEN / "qwen3/model.gguf", path, {"qwen3.pooling_type": 3}), n_threads=1, n_ctx=128
    )


@pytest.fixture(scope="module")
def thinks(tmp_path_factory: pytest.TempPathFactory) -> glimpse.Model:
    path = tmp_path_factory.mktemp("models") / "thinks.gguf"
    template = (ROOT / "tests/tokenizer/data/chat/qwen3vl-thinking.jinja").read_text()
    markup = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    keys = {
        "tokenizer.chat_template": template,
        "tokenizer.ggml.tokens": {302 + i: word for i, word in enumerate(markup)},
        "qwen3.context_length": 2048,
    }
    return glimpse.Model(with_keys(GOLDEN / "qwen3/model.gguf", path, keys), n_threads=1, n_ctx=2048)


def test_vectors_are_those_of_the_command(embeds: glimpse.Model) -> None:
    assert embeds.pooling == "last"
    embedder = embeds.embedder()
    both = embedder.embed(["the cat", "what is 7?"])
    assert both.shape == (2, embeds.hidden_size) and both.dtype == numpy.float32
    assert numpy.allclose(numpy.linalg.norm(both, axis=1), 1, atol=1e-5)
    assert numpy.array_equal(embedder.embed("what is 7?"), both[1]) and numpy.array_equal(
        embeds.embed("the cat"), both[0]
    )
    assert numpy.array_equal(embedder.embed([["the ", "cat"], {"text": "what is 7?"}]), both)
    assert embedder.embed([]).shape == (0, embeds.hidden_size)
    if "GLIMPSE_COMMAND" in os.environ:
        command = [os.environ["GLIMPSE_COMMAND"], "embed", "-m", embeds._arguments["model"], "the cat", "what is 7?"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [numpy.array(json.loads(line)["embedding"], numpy.float32) for line in said.splitlines()]
        assert numpy.array_equal(rows, both)
    longer = embedder.embed("the cat", keep_length=True)
    assert numpy.allclose(longer / numpy.linalg.norm(longer), both[0], atol=1e-6) and numpy.linalg.norm(longer) > 1.1
    assert not numpy.array_equal(embedder.embed("the cat", instruction="animals"), both[0])
    assert not numpy.array_equal(embedder.embed("the cat", pooling="mean"), both[0])


def test_embedders_say_what_is_wrong(embeds: glimpse.Model, model: glimpse.Model, picture: str) -> None:
    embedder = embeds.embedder()
    for call, kind, said in (
        (lambda: embedder.embed("a", pooling="sum"), ValueError, "mean, cls, last"),
        (lambda: embedder.embed(3), TypeError, "no picture"),
        (lambda: embedder.embed({"txt": "a"}), ValueError, "txt"),
        (lambda: embedder.embed({"text": 3}), TypeError, "int"),
        (lambda: embedder.embed("a", instruction="b\0"), ValueError, "NUL"),
        (lambda: embedder.embed({"image": picture}), glimpse.MismatchError, "mmproj"),
        (lambda: embedder.rank("a", "b"), TypeError, "want a list"),
        (lambda: embedder.rank("a", ["b"]), glimpse.GlimpseError, "pooling_type last"),
        (lambda: embeds.ask("a"), glimpse.GlimpseError, "embedding model"),
        (lambda: model.embed("a"), glimpse.GlimpseError, "pooling_type"),
    ):
        with pytest.raises(kind, match=said):
            call()
    with pytest.raises(glimpse.CancelledError):
        embedder.embed(["the cat"] * 3, progress=lambda stage, fraction: False)
    assert embedder.embed("the cat").shape == (embeds.hidden_size,)


def test_pictures_have_vectors_too(model: glimpse.Model, picture: str) -> None:
    embedder = model.embedder(n_ctx=512)
    inputs = [{"image": picture, "text": "a"}, [Path(picture), "a"], [model.encode(picture), "a"]]
    vectors = embedder.embed(inputs, pooling="mean")
    assert numpy.array_equal(vectors[0], vectors[1]) and numpy.array_equal(vectors[0], vectors[2])
    assert not numpy.array_equal(vectors[0], embedder.embed("a", pooling="mean"))


def test_documents_are_ranked(tmp_path: Path) -> None:
    words = {"tokenizer.ggml.tokens": {310: "yes", 311: "no"}, "tokenizer.ggml.token_type": {310: 1, 311: 1}}
    path = with_keys(GOLDEN / "qwen3/model.gguf", tmp_path / "ranks.gguf", words)
    scorer = glimpse.Model(path, n_threads=1, n_ctx=512)
    scores = scorer.rank("the cat", ["what is 7?", "the cat", {"text": "the"}])
    assert len(scores) == 3 and all(0 <= score <= 1 for score in scores) and len(set(scores)) == 3
    assert scorer.rank("the cat", ["the cat"]) == [scores[1]] and scorer.rank("the cat", []) == []
    if "GLIMPSE_COMMAND" in os.environ:
        command = [os.environ["GLIMPSE_COMMAND"], "rerank", "-m", scorer._arguments["model"], "--query", "the cat"]
        said = subprocess.run([*command, "what is 7?", "the cat", "the"], check=True, capture_output=True, text=True)
        found = [json.loads(line) for line in said.stdout.splitlines()]
        assert [numpy.float32(row["score"]) for row in sorted(found, key=lambda row: row["index"])] == [
            numpy.float32(score) for score in scores
        ]


def say(session: glimpse.Session, text: str) -> None:
    for token in session.model.tokenize(text, special=True):
        session.feed(token)


def test_answers_are_taken_apart(thinks: glimpse.Model) -> None:
    assert thinks.takes_tools and thinks.opens_thinking and "thinking" in thinks.chat_format
    session = thinks.session()
    session.set_prompt(tools=[TOOL])
    session.prefill("the cat")
    session.begin_answer(max_tokens=-1)
    say(session, 'a cat\n</think>\n\nI see.\n<tool_call>\n{"name": "look", "arguments": {"at": [1, 2]}}\n</tool_call>')
    answer = session.answer
    assert answer.reasoning == "a cat" and answer.content == "I see." and answer.parts.problems == []
    assert answer.tool_calls == [glimpse.ToolCall("look", {"at": [1, 2]})]
    assert answer.text.startswith("a cat\n</think>") and str(answer) == answer.text
    assert session.fork().answer.tool_calls == answer.tool_calls
    plain = thinks.session()
    plain.prefill("the cat")
    plain.begin_answer(max_tokens=-1)
    say(plain, "a\n</think>\n\n<tool_call>{}</tool_call>\n")
    assert (
        plain.answer.content == "<tool_call>{}</tool_call>\n" and plain.answer.tool_calls == []
    ), "there were no tools"
    for text in ("", "a", "a\n\n", "\n a <b>", "x</think>y"):
        splitter = glimpse.Splitter()
        splitter.push(text)
        splitter.finish()
        assert glimpse._parts.split_answer(text, False, False) == splitter.parts


def test_splitters_take_pieces() -> None:
    splitter = glimpse.Splitter(thinking_open=True, tool_calls=True)
    pieces = [splitter.push(piece) for piece in ("so", " it is</thi", "nk>\n\nYes<tool", '_call>{"name": "a", "argu')]
    assert [piece.reasoning for piece in pieces] == ["so", " it is", "", ""]
    assert [piece.content for piece in pieces] == ["", "", "Yes", ""]
    last = splitter.push('ments": {}}</tool_call><tool_call>{"name": 3}</tool_call>')
    assert last.tool_calls == [glimpse.ToolCall("a", {})] and "tool call 2" in last.problems[0]
    assert splitter.finish().content == "" and splitter.parts.reasoning == "so it is"


def test_tools_and_thinking_are_said_in_the_prompt(thinks: glimpse.Model) -> None:
    def prompt_of(**options) -> int:
        session = thinks.session()
        session.set_prompt(**options)
        session.prefill("the cat")
        return session.n_past

    plain = prompt_of()
    assert prompt_of(tools=[json.dumps(TOOL)]) == prompt_of(tools=[TOOL]) > plain + 50
    asked = thinks.ask("the cat", tools=[TOOL], max_tokens=4)
    assert asked.timings.n_prompt_tokens > plain + 50 and asked.reasoning and not asked.content
    assert thinks.ask("the cat", max_tokens=4).timings.n_prompt_tokens == plain, "the next question has no tools"
    chat = thinks.chat(tools=[TOOL])
    chat.ask("the cat", max_tokens=2)
    chat.ask([{"role": "tool", "content": "7"}], max_tokens=2)
    with thinks.engine() as engine:
        ticket = engine.submit("the cat", tools=[TOOL], max_tokens=4)
        assert ticket.answer().parts == asked.parts and ticket.answer().tokens == asked.tokens
    for row in thinks.batch(["the cat"], max_tokens=4):
        assert row.answer is not None and row.answer.reasoning and not row.answer.content
    with pytest.raises(TypeError, match="want a list"):
        thinks.ask("the cat", tools=TOOL)
    with pytest.raises(TypeError, match="thinking"):
        thinks.ask("the cat", thinking="yes")


def test_a_template_without_tools_refuses_them(model: glimpse.Model) -> None:
    with pytest.raises(glimpse.UnsupportedError, match="tools"):
        model.ask(QUESTION, tools=[TOOL])
    assert model.ask(QUESTION).finish_reason == "stop"


def test_earlier_answers_are_written_as_the_model_said_them(thinks: glimpse.Model) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": [1, "é"]}'}}
    messages = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": None, "reasoning_content": "so", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "7"},
    ]
    text = thinks.render_chat(messages)
    assert '<tool_call>\n{"name": "look", "arguments": {"at": [1, "é"]}}\n</tool_call>' in text
    assert "<tool_response>\n7\n</tool_response>" in text
    parts = [{"type": "text", "text": "I "}, "look."]
    assert thinks.render_chat([messages[0], {"role": "assistant", "content": parts, "tool_calls": [call]}]) == (
        thinks.render_chat([messages[0], {"role": "assistant", "content": "I look.", "tool_calls": [call]}])
    )
    assert thinks.render_chat([messages[0], {"role": "assistant", "content": None}, messages[0]]) == (
        thinks.render_chat([messages[0], {"role": "assistant", "content": ""}, messages[0]])
    )
    call["function"] = {"name": "look", "arguments": '{"at": [1, "'}  # of an answer that was cut off
    assert '<tool_call>\n{"name": "look", "arguments": {"at": [1, "}\n</tool_call>' in thinks.render_chat(messages)
    parts = [messages[0], {"role": "assistant", "content": "\n</think> is a word", "reasoning_content": "a"}, messages[0]]
    assert "assistant\n\n</think> is a word<|im_end|>" in thinks.render_chat(parts)  # neither is looked for in the other
    parts[1]["reasoning_content"] = None
    assert "assistant\n is a word<|im_end|>" in thinks.render_chat(parts)
    said = '<think>\nso\n</think>\n\n<tool_call>\n{"name": "look", "arguments": {"at": [1, "é"]}}\n</tool_call>'
    assert text == thinks.render_chat([messages[0], {"role": "assistant", "content": said}, messages[2]])
    for wrong in (
        [{"role": "user", "content": "a", "tool_calls": [call]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "a"}}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": 3}}]}],
        [{"role": "assistant", "tool_calls": ["a"]}],
        [{"content": "a"}],
        ["a"],
    ):
        with pytest.raises(ValueError, match="tool_calls|message"):
            thinks.render_chat(wrong)


def test_calls_that_were_cut_off_are_written_as_the_template_quotes_them(tmp_path: Path) -> None:
    template = (ROOT / "tests/tokenizer/data/chat/qwen25.jinja").read_text()
    path = with_keys(GOLDEN / "qwen3/model.gguf", tmp_path / "quotes.gguf", {"tokenizer.chat_template": template})
    model = glimpse.Model(path, n_threads=1, n_ctx=512)
    call = {"function": {"name": "look", "arguments": '{"at": "é'}}
    text = model.render_chat([{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}])
    assert '{"name": "look", "arguments": "{\\"at\\": \\"é"}\n</tool_call>' in text
