"""What programs do to a library: errors, threads, processes, signals, the end."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest

import glimpse
from conftest import DESCRIPTION, QUESTION


@pytest.mark.parametrize(
    "call, kind, status, said",
    [
        (lambda m: glimpse.Model("/no/such.gguf"), FileNotFoundError, "NOT_FOUND", "/no/such.gguf"),
        (lambda m: glimpse.Model("/dev/null/a.gguf"), OSError, "IO", "Not a directory"),
        (lambda m: m.find_token("<|nothing|>"), LookupError, "NOT_FOUND", "nothing"),
        (lambda m: glimpse.Model(__file__), ValueError, None, "GGUF"),
        (lambda m: m.ask("a\0b"), ValueError, "INVALID_ARGUMENT", "zero byte|NUL"),
        (lambda m: m.ask("?", "/no/such.png"), FileNotFoundError, "NOT_FOUND", "/no/such.png"),
        (lambda m: m.ask("?", "a\0b.png"), ValueError, "INVALID_ARGUMENT", "NUL"),
        (lambda m: m.ask("?", b"\x89PNG\r\n\x1a\n"), ValueError, "TRUNCATED", "PNG"),
        (lambda m: m.ask("?", b"hello"), ValueError, "UNSUPPORTED", "JPEG, PNG"),
        (lambda m: m.ask("?", "https://example.org/a.png"), ValueError, "INVALID_ARGUMENT", "fetches nothing"),
        (lambda m: m.ask("?", numpy.zeros((4, 4, 3))), ValueError, "INVALID_ARGUMENT", "float64"),
        (lambda m: m.ask("?", numpy.zeros((0, 4, 3), numpy.uint8)), ValueError, "INVALID_ARGUMENT", "."),
        (lambda m: m.ask("a " * 3000), glimpse.GlimpseError, "CONTEXT_FULL", "1024"),
        (lambda m: m.session(n_ctx=2**40), ValueError, "INVALID_ARGUMENT", "out of range"),
        (lambda m: m.session(kv_type="q3"), ValueError, "INVALID_ARGUMENT", "bf16"),
        (lambda m: m.ask("?", temperature=-1.0), ValueError, "INVALID_ARGUMENT", "temperature"),
        (lambda m: m.stream("?", temperature=-1.0).__next__(), ValueError, "INVALID_ARGUMENT", "temperature"),
        (lambda m: m.detokenize([10**6]), ValueError, "INVALID_ARGUMENT", "1000000"),
        (lambda m: glimpse.Embedding.load(b"GLIE"), ValueError, None, "."),
        (lambda m: m.session().step(), ValueError, "INVALID_ARGUMENT", "."),
        (lambda m: m.chat().session.logits(), ValueError, "INVALID_ARGUMENT", "."),
    ],
)
def test_what_is_wrong_is_said(model: glimpse.Model, call, kind, status, said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        call(model)
    assert isinstance(caught.value, glimpse.GlimpseError)
    assert status is None or caught.value.status is glimpse.Status[status]
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value) and str(again) == str(caught.value) and again.status == caught.value.status


def test_what_does_not_exist_is_a_type_error(model: glimpse.Model) -> None:
    with pytest.raises(TypeError, match="n_ctxs.*n_ctx"):
        model.session(n_ctxs=3)
    with pytest.raises(TypeError, match="temprature.*temperature"):
        model.ask("?", temprature=1)
    with pytest.raises(TypeError, match="Model|option"):
        glimpse.demo(n_ctxs=3)
    for options in ({"n_ctx": "big"}, {"n_ctx": 2.5}, {"draft_min_probability": "much"}):
        with pytest.raises(TypeError, match=f"{next(iter(options))} is .*want a"):
            model.session(**options)
    for stop in (3, [3], None):
        with pytest.raises(TypeError, match="stop is .*want a text or a list of texts"):
            model.ask("?", stop=stop)
    with pytest.raises(TypeError, match="no picture"):
        model.ask("?", 3)
    with pytest.raises(TypeError, match="content"):
        model.ask([{"role": "user", "content": 3}])


def test_messages_of_the_library_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "glimpse"):
        model = glimpse.demo(n_threads=1, n_ctx=1 << 20)
        model.session()
    assert any(record.levelno == logging.WARNING and "context" in record.getMessage() for record in caplog.records)


def test_progress_is_told_and_may_stop(model: glimpse.Model, picture: str) -> None:
    seen = []
    model.ask(QUESTION, picture, progress=lambda stage, fraction: seen.append((stage, fraction)))
    assert {"encode image", "prefill"} <= {stage for stage, _ in seen} and all(0 <= at <= 1 for _, at in seen)
    with pytest.raises(glimpse.CancelledError):
        model.ask(QUESTION, picture, progress=lambda stage, fraction: False)
    with pytest.raises(glimpse.CancelledError):
        glimpse.demo(progress=lambda stage, fraction: False)

    def broken(stage: str, fraction: float) -> None:
        raise ZeroDivisionError(stage)

    with pytest.raises(ZeroDivisionError):
        model.ask(QUESTION, picture, progress=broken)
    with pytest.raises(ZeroDivisionError):
        model.encode(picture, progress=broken)
    assert model.ask(QUESTION, picture).text == DESCRIPTION


def test_threads_ask_at_once(model: glimpse.Model, picture: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert {answer.text for answer in pool.map(lambda _: model.ask(QUESTION, picture), range(8))} == {DESCRIPTION}


def test_one_session_has_one_call(model: glimpse.Model) -> None:
    session = model.session()

    def inside(stage: str, fraction: float) -> None:
        session.reset()

    with pytest.raises(glimpse.BusyError) as caught:
        session.prefill("Hello", progress=inside)
    assert caught.value.status is glimpse.Status.BUSY
    assert session.n_past == 0


def test_a_forked_child_answers(model: glimpse.Model, picture: str) -> None:
    model.ask(QUESTION, picture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12 and later: the library's threads are no danger
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if model.ask(QUESTION, picture).text == DESCRIPTION else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_spawned_worker_loads_the_model_again(picture: str) -> None:
    model = glimpse.demo(n_threads=1, n_ctx=512)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer = pool.apply(model.ask, (QUESTION, picture))
    assert answer.text == DESCRIPTION and answer == model.ask(QUESTION, picture).__class__(
        **{**answer.__dict__}
    ), "an answer travels too"


def endless(model: glimpse.Model) -> dict:
    """Options of an answer that fills the context."""
    ends = [model.find_token(name) for name in ("<|im_end|>", "<|endoftext|>")]
    return dict(max_tokens=-1, logit_bias={token: -numpy.inf for token in ends})


def test_ctrl_c_ends_a_call(model: glimpse.Model, picture: str) -> None:
    chat = model.chat(n_ctx=32768)
    for _ in range(3):
        started = threading.Event()
        killer = threading.Thread(target=lambda: (started.wait(), os.kill(os.getpid(), signal.SIGINT)))
        killer.start()
        with pytest.raises(KeyboardInterrupt):
            chat.ask(QUESTION, picture, progress=lambda stage, fraction: started.set(), **endless(model))
            pytest.fail("the answer ended by itself")
        killer.join()
    chat.reset()
    assert chat.ask(QUESTION, picture).text == DESCRIPTION
    assert model.ask(QUESTION, picture).text == DESCRIPTION


def test_any_handler_may_raise(model: glimpse.Model) -> None:
    class Late(Exception):
        pass

    def late(number: int, frame: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Late):
            for _ in range(100):
                model.ask("Tell me a story.", **endless(model))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_thread_cancels(model: glimpse.Model) -> None:
    chat = model.chat(n_ctx=32768)
    started = threading.Event()
    threading.Thread(target=lambda: (started.wait(), chat.cancel())).start()
    try:
        answer = chat.ask("Tell me a story.", progress=lambda stage, fraction: started.set(), **endless(model))
        assert answer.finish_reason == "cancelled"
    except glimpse.CancelledError:
        pass  # it was quick: still in the prompt
    chat.cancel()  # nothing is under way: nothing happens
    chat.reset()
    assert chat.ask("Is there a heart?").finish_reason == "stop"


def test_a_cancelled_task_leaves_the_model_free(model: glimpse.Model) -> None:
    async def start_and_stop() -> None:
        stream = model.stream("Tell me a story.", **endless(model))
        first = asyncio.Event()

        async def read() -> None:
            async for _ in stream:
                first.set()

        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream.close()
        assert stream.answer.tokens

    asyncio.run(start_and_stop())
    assert model.ask("Is there a heart?").finish_reason == "stop"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "import threading; threading.Thread(target=lambda: m.ask('Tell a story.', max_tokens=-1), daemon=True).start()",
        "s = m.stream('Tell a story.'); next(s)",
        "c = m.chat(); c.ask('Hello'); f = c.fork(); del c; f.ask('?'); del m; v = f.session.logits(); del f; v.sum()",
        "import sys; sys.exit = None; m.me = m; e = m.encode(glimpse.demo_files()['image']); e.me = e",
    ],
)
def test_programs_end_in_any_order(body: str) -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            f"import glimpse\nm = glimpse.demo(n_threads=2)\nm.ask('Hello')\n{body}",
        ],
        capture_output=True,
        text=True,
    )
    assert (said.returncode, said.stderr) == (0, "")


def test_a_pack_cache_is_shared(tmp_path: Path, picture: str) -> None:
    options = dict(pack_cache_dir=tmp_path, pack_cache_map=True, n_threads=1)
    assert glimpse.demo(**options).mapped_bytes == 0
    again = glimpse.demo(**options)
    assert again.mapped_bytes > 0.9 * again.weight_bytes and again.ask(QUESTION, picture).text == DESCRIPTION
