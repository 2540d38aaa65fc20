"""Many questions at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import PIL.Image
import pytest

import glimpse
from conftest import DESCRIPTION, QUESTION, ROOT
from test_hosts import endless

PICTURES = sorted((ROOT / "models" / "heldout").glob("scene00*"))


@pytest.fixture(scope="module")
def engine(model: glimpse.Model) -> glimpse.Engine:
    return model.engine(n_parallel=3)


@pytest.fixture(scope="module")
def long_engine(model: glimpse.Model) -> glimpse.Engine:
    """Where an answer that fills the context lasts for seconds: nobody who looks at it meanwhile comes too late."""
    return model.engine(n_ctx=32768)


def test_answers_are_those_of_a_session(model: glimpse.Model, engine: glimpse.Engine, picture: str) -> None:
    rows = [
        {"image": str(path), "prompt": prompt}
        for path in PICTURES[:4]
        for prompt in (QUESTION, "How many shapes are there?")
    ]
    rows.append({"images": [picture, model.encode(picture)], "prompt": "Compare <image> and <image>."})
    rows.append({"prompt": "Is there a heart?", "system": "Answer in one word."})
    found = list(engine.batch(rows, n_top_logprobs=1))
    assert [row.index for row in found] == list(range(len(rows))) and [row.row for row in found] == rows
    for row, given in zip(found, rows):
        images = given.get("images") or ([given["image"]] if "image" in given else [])
        alone = model.ask(given["prompt"], *images, system=given.get("system"), n_top_logprobs=1)
        assert row.answer is not None and (row.answer.text, row.answer.tokens) == (alone.text, alone.tokens)
        assert row.answer.logprobs == alone.logprobs and row.answer.finish_reason == alone.finish_reason
    assert engine.stats.n_finished >= len(rows) and engine.stats.n_images > 0


def test_a_bad_row_costs_one_row(model: glimpse.Model, picture: str, tmp_path: Path) -> None:
    data = Path(picture).read_bytes()
    rows = [data, data[:700], picture, tmp_path / "none.png", PIL.Image.open(picture), 3, b"", data]
    found = list(model.batch(rows, prompt=QUESTION, on_error="row"))
    assert [row.text for row in found] == [DESCRIPTION, None, DESCRIPTION, None, DESCRIPTION, None, None, DESCRIPTION]
    assert isinstance(found[1].error, glimpse.GlimpseError) and found[1].error.status in (
        glimpse.Status.TRUNCATED,
        glimpse.Status.CORRUPT,
    )
    assert isinstance(found[3].error, glimpse.NotFoundError) and isinstance(found[5].error, TypeError)
    with pytest.raises(glimpse.NotFoundError):
        list(model.batch(rows[2:4], prompt=QUESTION))
    with pytest.raises(ValueError, match="temperature"):
        list(model.batch(rows, prompt=QUESTION, temperature=-1.0))
    with pytest.raises(TypeError, match="temprature"):
        list(model.batch(rows, prompt=QUESTION, on_error="row", temprature=0))
    with pytest.raises(ValueError, match="on_error"):
        list(model.batch(rows, prompt=QUESTION, on_error="ignore"))
    for content in ({"type": "text"}, {"type": "image"}, {"type": "image_url"}, {"type": "image_url", "image_url": {}}):
        asked = [{"prompt": [{"role": "user", "content": [content]}]}, {"image": picture, "prompt": QUESTION}]
        found = list(model.batch(asked, on_error="row"))
        assert [row.text for row in found] == [None, DESCRIPTION]
        assert isinstance(found[0].error, glimpse.InvalidArgumentError) and str(found[0].error).startswith("a part")

    class Broken:
        """A picture whose decoder raises what no picture's should."""

        def getexif(self) -> None:
            raise EOFError

        convert = load = getexif

    found = list(model.batch([Broken(), picture], prompt=QUESTION, on_error="row"))
    assert isinstance(found[0].error, EOFError) and found[1].text == DESCRIPTION
    assert [row.problem for row in found] == ["EOFError", None], "it is not silent"
    odd = tmp_path / "odd.pcx"
    PIL.Image.open(picture).convert("RGB").save(odd)
    assert [row.text for row in model.batch([odd, {"prompt": "?", "image": None}], prompt=QUESTION)][0] == DESCRIPTION


def test_rays_actors_keep_the_columns_that_there_are(model: glimpse.Model, picture: str) -> None:
    from glimpse.ray import Answers

    files = glimpse.demo_files()
    answers = Answers(files["model"], files["mmproj"], image="path", n_threads=1, n_ctx=1024, error="problem")
    found = answers({"path": [picture] * 2, "prompt": [QUESTION, None], "error": ["mine", "yours"]})
    assert list(found["result"]) == [DESCRIPTION, None] and found["error"] == ["mine", "yours"]
    assert found["problem"][0] is None and "no prompt" in found["problem"][1]
    with pytest.raises(ValueError, match="'problem' already"):
        answers({"path": [picture], "prompt": [QUESTION], "problem": [None]})


def test_rows_are_read_a_few_ahead(model: glimpse.Model) -> None:
    read = []

    def rows():
        for i in range(40):
            read.append(i)
            yield "Is there a heart?"

    found = model.batch(rows(), n_parallel=2, max_tokens=2)
    next(found)
    assert len(read) < 10
    found.close()


def test_tickets_are_read_in_pieces(engine: glimpse.Engine, picture: str) -> None:
    assert "".join(engine.submit(QUESTION, picture)) == DESCRIPTION

    async def ask() -> None:
        answers = await asyncio.gather(*[engine.submit(QUESTION, picture) for _ in range(5)])
        assert {answer.text for answer in answers} == {DESCRIPTION}
        said = ""
        async for piece in engine.submit(QUESTION, picture):
            said += piece
        assert said == DESCRIPTION

    asyncio.run(ask())
    with pytest.raises(glimpse.NotFoundError):
        list(engine.submit(QUESTION, "/no/such.png"))


def test_what_a_ticket_tells_is_there_while_it_is_read(
    model: glimpse.Model,
    engine: glimpse.Engine,
    long_engine: glimpse.Engine,
    picture: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread's question replaces it: that waits, but not for the end of the answer."""
    ticket = engine.submit(QUESTION, picture)
    make_answer, others = glimpse._engine.make_answer, []

    def read_while_others_ask(*arguments) -> glimpse.Answer:
        others.append(threading.Thread(target=lambda: others.append(ticket.done)))
        others[0].start()
        others[0].join(0.05)
        assert len(others) == 1
        return make_answer(*arguments)

    monkeypatch.setattr(glimpse._engine, "make_answer", read_while_others_ask)
    assert ticket.answer().text == DESCRIPTION
    others[0].join()
    assert others[1] is True
    monkeypatch.undo()
    story = long_engine.submit("Tell me a story.", **endless(model))
    reader = threading.Thread(target=lambda: pytest.raises(glimpse.CancelledError, story.answer))
    reader.start()
    assert [story.done for _ in range(3)] == [False] * 3 and story.partial().finish_reason != "stop"
    story.cancel()
    reader.join()


def test_a_signals_handler_may_ask(model: glimpse.Model, long_engine: glimpse.Engine) -> None:
    story, seen = long_engine.submit("Tell me a story.", **endless(model)), []

    def ask(*_) -> None:
        try:
            seen.append((story.done, len(story.partial().tokens)))
        except glimpse.BusyError:
            pass
        if len(seen) == 3:
            story.cancel()

    before = signal.signal(signal.SIGALRM, ask)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        with pytest.raises(glimpse.CancelledError):
            list(story)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not seen[0][0] and seen[2][1] > 0 and len(story.partial().tokens) >= seen[2][1]


def test_requests_end_early(model: glimpse.Model, engine: glimpse.Engine, long_engine: glimpse.Engine) -> None:
    ticket = long_engine.submit("Tell me a story.", **endless(model))
    next(ticket)
    assert not ticket.done
    ticket.cancel()
    with pytest.raises(glimpse.CancelledError):
        ticket.answer()
    assert ticket.done and ticket.partial().tokens
    with pytest.raises(glimpse.CancelledError):
        engine.submit("Tell me a story.", deadline=0.005, **endless(model)).answer()
    with pytest.raises(glimpse.CancelledError):
        engine.submit("Tell me a story.", deadline=0.0001, **endless(model)).answer()  # of no whole millisecond
    closed = model.engine()
    late = closed.submit("Tell me a story.", **endless(model))
    closed.close()
    with pytest.raises(glimpse.CancelledError):
        late.answer()
    with pytest.raises(ValueError, match="closed"):
        closed.submit("Hello")
    small = model.engine(n_queued=1, n_parallel=1)
    tickets = []
    with pytest.raises(glimpse.BusyError):
        for _ in range(4):
            tickets.append(small.submit("Tell me a story.", **endless(model)))


def test_ctrl_c_ends_a_batch(model: glimpse.Model) -> None:
    started = threading.Event()
    killer = threading.Thread(target=lambda: (started.wait(), os.kill(os.getpid(), signal.SIGINT)))
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in model.batch(["Tell me a story."] * 50, n_parallel=2, **endless(model)):
            started.set()
    killer.join()


def test_a_forked_child_has_an_engine_of_its_own(model: glimpse.Model, engine: glimpse.Engine, picture: str) -> None:
    engine.ask(QUESTION, picture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            rows = list(model.batch([picture, picture], prompt=QUESTION))
            os._exit(0 if [row.text for row in rows] == [DESCRIPTION] * 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.ask(QUESTION, picture).text == DESCRIPTION


def test_requests_say_their_tools_and_whether_to_think(engine: glimpse.Engine, picture: str) -> None:
    for thinking in (None, True, False):
        assert engine.submit(QUESTION, picture, thinking=thinking).answer().text == DESCRIPTION, "it has no such choice"
    with pytest.raises(glimpse.UnsupportedError, match="tools"):
        engine.submit(QUESTION, tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}]).answer()


def test_boxes_have_pixels_without_an_embedding(model: glimpse.Model, engine: glimpse.Engine, picture: str) -> None:
    question = "Give the box of the orange ring."
    want = model.ask(question, picture).boxes
    assert want[0].pixels is not None
    for image in (picture, Path(picture).read_bytes(), PIL.Image.open(picture), model.encode(picture)):
        answer = engine.ask(question, image)
        assert answer.boxes == want and answer.pictures[0].original_size == model.encode(picture).original_size
    assert [row.answer and row.answer.boxes for row in model.batch([picture], prompt=question)] == [want]
    assert "orange ring" in engine.ask(question, picture)._repr_html_()


def test_many_tasks_wait_without_threads(model: glimpse.Model, picture: str) -> None:
    """Of the default executor's threads, which others need, none waits for an answer."""

    async def ask(engine: glimpse.Engine) -> None:
        before = threading.active_count()
        tickets = [engine.submit(QUESTION, picture) for _ in range(40)]
        tasks = [asyncio.ensure_future(wait(ticket)) for ticket in tickets]
        await asyncio.sleep(0)
        assert await asyncio.get_running_loop().run_in_executor(None, lambda: 7) == 7
        assert threading.active_count() <= before + 1
        assert {answer.text for answer in await asyncio.gather(*tasks)} == {DESCRIPTION}
        late = asyncio.ensure_future(wait(engine.submit("Tell me a story.", **endless(model))))
        await asyncio.sleep(0.05)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late

    async def wait(ticket: glimpse.Ticket) -> glimpse.Answer:
        return await ticket

    with model.engine(n_parallel=8) as engine:
        asyncio.run(ask(engine))
        outside = engine.submit(QUESTION, picture)
        assert asyncio.run(wait(outside)).text == DESCRIPTION
    assert not glimpse._engine._waiting


def test_a_program_ends_while_an_engine_works() -> None:
    code = """
import asyncio, glimpse
model = glimpse.demo(n_threads=1)
engine = model.engine(n_ctx=4096)
ends = {model.find_token(name): float("-inf") for name in ("<|im_end|>", "<|endoftext|>")}
tickets = []
async def start():
    tickets.append(engine.submit("Tell me a story.", max_tokens=-1, logit_bias=ends))
    async for piece in tickets[0]:
        break
asyncio.run(start())
"""
    said = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0 and said.stderr == ""


def test_rows_come_from_tables_too(engine: glimpse.Engine, picture: str) -> None:
    class Table:
        columns = ["image", "prompt"]

        def to_dict(self, orient: str) -> list:
            assert orient == "records"
            return [{"image": picture, "prompt": QUESTION}, {"image": float("nan"), "prompt": QUESTION}]

    found = list(engine.batch(Table(), on_error="row"))
    assert found[0].text == DESCRIPTION and "no picture" in str(found[1].error)
    for rows, said in (("a.png", "one str"), ({"image": picture}, "one dict")):
        with pytest.raises(TypeError, match=said):
            list(engine.batch(rows, prompt=QUESTION))
    with open(picture, "rb") as file:
        assert engine.ask(QUESTION, file).text == DESCRIPTION
    with open(picture, encoding="latin-1") as file, pytest.raises(TypeError, match="'rb'"):
        engine.ask(QUESTION, file)
    assert engine.ask("Compare <image> and <image>.", [picture, picture]).timings.n_prompt_tokens > 0
    with pytest.raises(TypeError, match="question is float"):
        engine.ask(float("nan"))
