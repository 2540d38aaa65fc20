"""Questions, pictures, conversations."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import re
import subprocess
import threading
from pathlib import Path

import numpy
import PIL.Image
import pytest

import glimpse
from conftest import DESCRIPTION, QUESTION


def test_the_answer_is_that_of_the_command(model: glimpse.Model, picture: str) -> None:
    command = os.environ.get("GLIMPSE_COMMAND")
    if command is None:
        pytest.skip("GLIMPSE_COMMAND is not set")
    files = glimpse.demo_files()
    said = subprocess.run(
        [
            command,
            "run",
            "-m",
            files["model"],
            "--mmproj",
            files["mmproj"],
            "--image",
            picture,
            "--json",
            "-p",
            QUESTION,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    answer = model.ask(QUESTION, picture)
    assert answer.text == json.loads(said.stdout)["answer"] == DESCRIPTION
    assert str(answer) == DESCRIPTION and answer.finish_reason == "stop"
    assert answer.timings.n_generated_tokens == len(answer.tokens) and answer.timings.image_encode_ms > 0


def test_a_draft_model_changes_the_passes_alone(model: glimpse.Model, picture: str) -> None:
    options: dict = dict(draft_model=model, n_draft=4, draft_min_probability=1e-9)
    chat = model.chat(**options)
    assert chat.ask(QUESTION, picture).text == DESCRIPTION, "it does not see the picture"
    ends = {model.find_token(name): -numpy.inf for name in ("<|im_end|>", "<|endoftext|>")}
    question, sampling = "Is there a heart?", dict(max_tokens=24, temperature=1.0, seed=3, logit_bias=ends)
    alone, drafted = model.ask(question, **sampling), model.session(**options).generate(question, **sampling)
    assert drafted.tokens == alone.tokens and alone.timings.n_drafted_tokens == 0
    assert drafted.timings.n_drafted_tokens >= drafted.timings.n_accepted_tokens > 0, "it says what the model says"
    assert model.plan(**options).weights == 2 * model.plan().weights
    assert model.session(draft_model=None).generate(question, **sampling).tokens == alone.tokens
    with pytest.raises(ValueError, match="n_draft"):
        model.session(draft_model=model, n_draft=16)


def test_pictures_of_every_kind_are_the_same_picture(model: glimpse.Model, picture: str) -> None:
    data = Path(picture).read_bytes()
    image = PIL.Image.open(picture)
    image.load()
    pixels = numpy.asarray(image.convert("RGB"))
    want = model.encode(picture).numpy()
    alpha = numpy.concatenate([pixels, numpy.full(pixels.shape[:2] + (1,), 255, numpy.uint8)], axis=2)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    for given in (
        data,
        bytearray(data),
        memoryview(data),
        Path(picture),
        image,
        pixels,
        alpha,
        pixels[:, ::-1][:, ::-1],
        image.convert("RGBA"),
        model.encode(picture),
    ):
        assert numpy.array_equal(model.encode(given).numpy(), want)
    session = model.session()
    assert numpy.array_equal(session.encode(pixels).numpy(), want) and numpy.array_equal(
        session.encode(data).numpy(), want
    )
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    assert model.ask([{"role": "user", "content": content}]).text == DESCRIPTION
    assert model.ask([{"role": "user", "content": [pixels, QUESTION]}]).text == DESCRIPTION


def test_repeated_blocks_are_left_out_on_request(model: glimpse.Model) -> None:
    white = numpy.full((224, 224, 3), 255, numpy.uint8)
    whole, some = model.encode(white), model.encode(white, image_dedup=True)
    assert whole.n_left_out == 0 and some.n_tokens == 1 and some.n_left_out == whole.n_tokens - 1
    assert glimpse.Embedding.load(some.tobytes()).n_left_out == some.n_left_out


def test_what_is_turned_or_transparent_is_as_the_library_reads_it(
    model: glimpse.Model, picture: str, tmp_path: Path
) -> None:
    image = PIL.Image.open(picture).convert("RGB")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned, clear = tmp_path / "turned.png", tmp_path / "clear.png"
    image.save(turned, exif=exif)
    image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    image.save(clear)
    for path in (turned, clear):
        want, opened = model.encode(path), model.encode(PIL.Image.open(path))
        assert opened.original_size == want.original_size
        assert numpy.abs(opened.numpy() - want.numpy()).max() < 0.05  # one step of 256 in rounding transparency
    grey = numpy.asarray(PIL.Image.open(picture).convert("L"))
    assert numpy.array_equal(model.encode(grey).numpy(), model.encode(grey[:, :, None]).numpy())


def test_pillow_reads_what_the_library_does_not(model: glimpse.Model, picture: str, tmp_path: Path) -> None:
    odd = tmp_path / "odd.pcx"
    PIL.Image.open(picture).convert("RGB").save(odd)
    assert numpy.array_equal(model.encode(odd).numpy(), model.encode(picture).numpy())
    assert model.ask(QUESTION, odd.read_bytes()).text == DESCRIPTION


def test_streams_say_the_answer_in_pieces(model: glimpse.Model, picture: str) -> None:
    stream = model.stream([{"role": "user", "content": QUESTION}], images=[picture])
    with pytest.raises(ValueError):
        stream.answer
    pieces = list(stream)
    assert len(pieces) > 5 and "".join(pieces) == DESCRIPTION == stream.answer.text
    assert list(stream) == []

    async def collect() -> str:
        both = [model.stream(QUESTION, images=[picture]), model.stream(QUESTION, images=[picture])]
        said = ["", ""]

        async def read(i: int) -> None:
            async for piece in both[i]:
                said[i] += piece

        await asyncio.gather(read(0), read(1))
        assert said[0] == said[1] == both[1].answer.text
        return said[0]

    assert asyncio.run(collect()) == DESCRIPTION


def test_a_stream_may_be_left(model: glimpse.Model, picture: str) -> None:
    chat = model.chat()
    with chat.stream(QUESTION, images=[picture]) as stream:
        assert next(stream) == "An"
    assert stream.answer.text == "An"
    assert chat.ask("Is there a heart?").text
    for _ in model.stream(QUESTION, images=[picture]):
        break
    assert model.ask(QUESTION, picture).text == DESCRIPTION


def test_chats_remember_and_fork(model: glimpse.Model, picture: str) -> None:
    chat = model.chat(n_pool=2048)
    assert chat.ask(QUESTION, picture).text == DESCRIPTION
    at = chat.checkpoint()
    n_past = chat.session.n_past
    other = chat.fork()
    first = chat.ask("Is there a heart?")
    assert first.timings.n_prompt_tokens < 30, "only what is new is run"
    assert other.session.n_past == n_past
    second = other.ask("Is there a triangle?")
    alone = model.chat()
    alone.ask(QUESTION, picture)
    assert alone.ask("Is there a triangle?").tokens == second.tokens
    steps = []
    chat.rewind(at)
    other.rewind(at)
    for each, question in ((chat, "Is there a triangle?"), (other, "Is there a heart?")):
        each.session.prefill(question)
        each.session.begin_answer()
    while not steps or steps[-1][0].finish_reason is None:
        steps.append(glimpse.step_many([chat.session, other.session]))
        if steps[-1][1].finish_reason is not None:
            break
    assert len(steps) > 3
    assert [pair[0].token for pair in steps] == second.tokens[: len(steps)]
    assert [pair[1].token for pair in steps] == first.tokens[: len(steps)]


def test_conversations_are_saved(model: glimpse.Model, picture: str, tmp_path: Path) -> None:
    chat = model.chat(system="Answer in one word.")
    chat.ask("How many shapes are there?", picture)
    chat.save(tmp_path / "chat.glis")
    want = chat.ask("Is there a heart?")
    later = model.chat()
    later.load(tmp_path / "chat.glis")
    assert later.ask("Is there a heart?").tokens == want.tokens
    later.load((tmp_path / "chat.glis").read_bytes())
    assert later.ask("Is there a heart?").tokens == want.tokens
    damaged = bytearray((tmp_path / "chat.glis").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(glimpse.CorruptError):
        later.load(bytes(damaged))


def test_sampling_follows_its_options(model: glimpse.Model, picture: str) -> None:
    warm = dict(temperature=1.5, max_tokens=12)
    assert model.ask(QUESTION, picture, seed=3, **warm).tokens == model.ask(QUESTION, picture, seed=3, **warm).tokens
    assert len({model.ask(QUESTION, picture, seed=seed, **warm).text for seed in range(6)}) > 1
    assert model.ask(QUESTION, picture, max_tokens=3).finish_reason == "max_tokens"
    cut = model.ask(QUESTION, picture, stop=[" blue", " heart"])
    assert cut.text == "An orange ring, a green square, a" and cut.finish_reason == "stop_string"
    an = model.ask(QUESTION, picture, max_tokens=1).tokens[0]
    assert model.ask(QUESTION, picture, logit_bias={an: -numpy.inf}).tokens[0] != an
    likely = model.ask(QUESTION, picture, n_top_logprobs=3)
    assert [place[0].token for place in likely.logprobs] == likely.tokens
    assert all(len(place) == 3 and 0 >= place[0].logprob >= place[2].logprob for place in likely.logprobs)
    assert model.ask(QUESTION, picture).logprobs == []


def test_boxes_are_found(model: glimpse.Model, picture: str) -> None:
    answer = model.ask("Give the box of the orange ring.", picture)
    assert [box.label for box in answer.boxes] == ["orange ring"]
    box = answer.boxes[0]
    with PIL.Image.open(picture) as opened:
        image = opened.convert("RGB")
    x1, y1, x2, y2 = box.box
    assert box.pixels == [(x1, y1), (x2, y2)]
    colour = image.getpixel((int(x1 + 6), int((y1 + y2) / 2)))
    assert colour[0] > 180 and colour[2] < 120, f"orange at the ring's left edge, not {colour}"


def test_answers_show_themselves(model: glimpse.Model, picture: str) -> None:
    answer = model.ask("Give the box of the orange ring.", picture)
    page = answer._repr_html_()
    assert (
        "data:image/png;base64," in page
        and f"left:{answer.boxes[0].said[0][0] / 10:.2f}%" in page
        and "orange ring" in page
    )
    png = answer._repr_png_()
    assert png is not None and png.startswith(b"\x89PNG")
    assert model.ask("Is there a heart?").pictures == () and model.ask("Is there a heart?")._repr_png_() is None
    pixels = numpy.asarray(PIL.Image.open(picture).convert("RGB"))
    shown = model.ask(QUESTION, pixels)._repr_html_()
    data = base64.b64decode(shown.split("base64,")[1].split('"')[0])
    import io

    assert numpy.array_equal(numpy.asarray(PIL.Image.open(io.BytesIO(data))), pixels), "our PNG is read back as it was"
    import dataclasses

    assert "&lt;b&gt;" in dataclasses.replace(answer, text="<b>")._repr_html_()


def test_numbers_are_seen_without_copies(model: glimpse.Model, picture: str) -> None:
    session = model.session()
    session.prefill(QUESTION, [picture])
    logits = session.logits()
    assert logits.shape == (model.vocab_size,) and logits.dtype == numpy.float32
    assert not logits.flags.owndata and not logits.flags.writeable
    assert logits.ctypes.data == session.logits().ctypes.data
    best = int(logits.argmax())
    session.begin_answer()
    assert session.step().token == best
    del session
    assert numpy.isfinite(logits).all(), "the view keeps the session's memory"
    embedding = model.encode(picture)
    values = embedding.numpy()
    assert values.shape == (embedding.n_tokens, embedding.width) and not values.flags.owndata
    assert numpy.asarray(embedding).ctypes.data == values.ctypes.data
    kept = values.copy()
    del embedding
    assert numpy.array_equal(values, kept)


def test_results_are_the_same_bits_for_any_number_of_threads(model: glimpse.Model, picture: str) -> None:
    logits = []
    for n_threads in (1, 2, 3):
        session = model.session(n_threads=n_threads)
        session.prefill(QUESTION, [picture])
        logits.append(session.logits().copy())
    assert numpy.array_equal(logits[0], logits[1]) and numpy.array_equal(logits[0], logits[2])


def test_a_token_of_the_callers_choice(model: glimpse.Model) -> None:
    session = model.session()
    session.prefill("Is there a heart?")
    session.begin_answer()
    token = model.tokenize("No")[0]
    assert session.feed(token).text == "No"
    session.forward()
    best = int(session.logits().argmax())
    assert session.step().token == best


def test_threads_may_save_to_the_same_file(
    model: glimpse.Model, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding, replace, target = model.encode(picture), os.replace, tmp_path / "same.glie"
    others = [threading.Thread(target=embedding.save, args=(target,))]

    def replace_after_another(*names) -> None:
        if others:
            other = others.pop()
            other.start()
            other.join()
        replace(*names)

    monkeypatch.setattr(os, "replace", replace_after_another)
    embedding.save(target)
    assert [path.name for path in tmp_path.iterdir()] == ["same.glie"]
    assert glimpse.Embedding.load(target).tobytes() == embedding.tobytes()


def test_embeddings_travel(model: glimpse.Model, picture: str, tmp_path: Path) -> None:
    embedding = model.encode(picture)
    embedding.save(tmp_path / "sample.glie")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample.glie"]
    for again in (glimpse.Embedding.load(tmp_path / "sample.glie"), pickle.loads(pickle.dumps(embedding))):
        assert numpy.array_equal(again.numpy(), embedding.numpy()) and again.original_size == embedding.original_size
        assert model.ask(QUESTION, again).text == DESCRIPTION
    many = model.encode([picture, embedding, PIL.Image.open(picture)])
    assert [numpy.array_equal(each.numpy(), embedding.numpy()) for each in many] == [True] * 3


def test_tokens_and_templates(model: glimpse.Model, picture: str) -> None:
    text = "Is there a héart?"
    assert model.detokenize(model.tokenize(text)) == text
    assert model.tokenize("") == [] and model.detokenize([]) == ""
    end = model.find_token("<|im_end|>")
    assert model.tokenize("<|im_end|>", special=True) == [end] != model.tokenize("<|im_end|>")
    assert model.detokenize([end]) == "" and model.detokenize([end], render_special=True) == "<|im_end|>"
    with pytest.raises(LookupError):
        model.find_token("<|no such|>")
    chat = model.render_chat("From <image> to here", [picture], system="Be brief.")
    assert "<|im_start|>system\nBe brief.<|im_end|>" in chat and "From <|vision_start|>" in chat
    assert model.metadata["general.architecture"] == "qwen2vl" == model.architecture
    assert "clip.projector_type" in model.mmproj_metadata


def test_pictures_stand_where_the_text_says(model: glimpse.Model, picture: str) -> None:
    placed = model.render_chat("From <image> to <image>: what changed?", [picture, picture])
    assert placed.count("<|vision_start|>") == 2 and "<|vision_end|> to <|vision_start|>" in placed
    first = model.render_chat(
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "And here?"},
        ],
        [picture],
    )
    assert first.index("Hi") < first.index("<|vision_start|>") < first.index("And here?")
    with pytest.raises(ValueError, match="2 places for pictures.*1 pictures"):
        model.render_chat("<image> <image>", [picture])
    assert "<image>" in model.render_chat("What does <image> mean in HTML?")


def test_plans_are_kept(model: glimpse.Model) -> None:
    plan = model.plan(n_ctx=512)
    assert plan.total >= plan.kv_cache + plan.weights and model.plan(n_ctx=1024).kv_cache == 2 * plan.kv_cache
    assert model.session(n_ctx=512).n_ctx == 512 and model.session(n_threads=1).n_threads == 1


def test_two_pictures_have_their_own_boxes(model: glimpse.Model) -> None:
    from glimpse._answer import read_shapes
    from glimpse._pictures import Picture

    marked = (
        "Picture 1: <|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(500,1000)<|box_end|> and in image 2 "
        "<|box_start|>(0,0),(100,100)<|box_end|> <|box_start|>(1,2),(3)<|box_end|>"
    )
    one, two = Picture(), Picture()
    one.original_size = one.resized_size = (200, 100)
    two.original_size = two.resized_size = (50, 10)
    shapes, problem = read_shapes(model._handle, marked, [one, two])
    assert [(shape.kind, shape.label, shape.picture, shape.box) for shape in shapes] == [
        ("box", "cat", 1, (2, 2, 100, 100)),
        ("box", "cat", 2, (0, 0, 5, 1)),
    ]
    assert shapes[0].said == [(10, 20), (500, 1000)] and shapes[0].unit == "thousandths" and problem
    assert read_shapes(model._handle, marked, [one, Picture()])[0][0].box is None
    assert read_shapes(model._handle, "nothing", []) == ([], "")


def test_answers_are_what_they_may_be(model: glimpse.Model, picture: str) -> None:
    schema = {
        "type": "object",
        "properties": {"heart": {"type": "boolean"}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["heart", "n"],
        "additionalProperties": False,
    }
    answer = model.ask("Is there a heart?", picture, schema=schema)
    assert (
        answer.finish_reason == "stop"
        and set(answer.json()) == {"heart", "n"}
        and isinstance(answer.json()["heart"], bool)
    )
    for row in model.batch([picture, picture], prompt=QUESTION, schema=schema):
        assert row.answer is not None and 1 <= row.answer.json()["n"] <= 9
    for constraint, allowed in (
        (model.constraint(choices=["red", "blue"]), "red|blue"),
        (model.constraint(regex="[0-9]{2}"), "[0-9]{2}"),
        (model.constraint(grammar='root ::= "x" | "y"'), "x|y"),
    ):
        said = {
            model.ask("What colour is the heart?", picture, constraint=constraint).text,
            "".join(model.stream("What colour is the heart?", images=[picture], constraint=constraint)),
        }
        assert len(said) == 1 and re.fullmatch(allowed, said.pop())
    assert isinstance(
        model.ask("Describe it.", picture, constraint=model.constraint(json_object=True), max_tokens=60).text, str
    )
    with pytest.raises(glimpse.GlimpseError, match="."):
        model.ask(QUESTION, picture, schema="{")
    with pytest.raises(ValueError, match="schema and regex"):
        model.constraint(schema="boxes", regex="a")
    with pytest.raises(ValueError, match="nothing"):
        model.constraint()
    with pytest.raises(ValueError, match="both"):
        model.ask(QUESTION, picture, schema="boxes", constraint=model.constraint(regex="a"))
