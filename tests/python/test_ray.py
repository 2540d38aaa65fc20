"""Pictures through Ray Data: actors with an engine each, and its HTTP processor against glimpse serve."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Dict, Iterator

import pytest

ray = pytest.importorskip("ray")

import glimpse
from conftest import QUESTION, ROOT
from test_documents import free_port, server

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
PICTURES = sorted((ROOT / "models/heldout").glob("scene00*"))


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    try:
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    except Exception as failure:  # its processes must come up within a time of theirs
        pytest.skip(f"Ray does not start here: {failure}")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for path in PICTURES:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "damaged.png").write_bytes(PICTURES[0].read_bytes()[:300])
    return folder


def test_actors_answer_as_a_session_does(started: None, folder: Path, model: glimpse.Model) -> None:
    from glimpse.ray import Answers

    files = glimpse.demo_files()
    pictures = ray.data.read_binary_files(str(folder), include_paths=True)
    table = pictures.map_batches(
        Answers,
        compute=ray.data.ActorPoolStrategy(size=2),
        batch_size=4,
        fn_constructor_kwargs=dict(
            model=files["model"],
            mmproj=files["mmproj"],
            prompt=QUESTION,
            n_threads=1,
            n_ctx=1024,
            sampling=dict(max_tokens=40),
        ),
    )
    found: Dict[str, dict] = {Path(row["path"]).name: row for row in table.take_all()}
    assert set(found) == {path.name for path in PICTURES} | {"damaged.png"}
    bad = found.pop("damaged.png")
    assert bad["result"] is None and "picture 1" in bad["error"]
    for name, row in found.items():
        assert row["error"] is None and row["result"] == model.ask(QUESTION, folder / name, max_tokens=40).text


def test_rows_have_prompts_of_their_own(folder: Path, model: glimpse.Model, picture: str) -> None:
    import numpy
    from glimpse.ray import Answers

    files = glimpse.demo_files()
    answers = Answers(files["model"], files["mmproj"], image="path", n_threads=1, n_ctx=1024)
    batch = answers({"path": numpy.array([picture, picture]), "prompt": numpy.array([QUESTION, "Is there a heart?"])})
    assert list(batch["result"]) == [model.ask(QUESTION, picture).text, model.ask("Is there a heart?", picture).text]
    assert list(batch["error"]) == [None, None]


def test_the_http_processor_asks_the_server(started: None, folder: Path, model: glimpse.Model) -> None:
    llm = pytest.importorskip("ray.data.llm")
    files, port = glimpse.demo_files(), free_port()

    def ask(row: dict) -> dict:
        url = "data:image/png;base64," + base64.b64encode(row["bytes"]).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
        return {
            "payload": {"model": "demo", "max_tokens": 40, "messages": [{"role": "user", "content": content}]},
            "path": row["path"],
        }

    def answer(row: dict) -> dict:
        return {"path": row["path"], "result": row["http_response"]["choices"][0]["message"]["content"]}

    config = llm.HttpRequestProcessorConfig(
        url=f"http://127.0.0.1:{port}/v1/chat/completions", concurrency=1, batch_size=4
    )
    build = getattr(llm, "build_processor", None) or llm.build_llm_processor
    processor = build(config, preprocess=ask, postprocess=answer)
    with server(
        f"{os.environ['GLIMPSE_COMMAND']} serve -m {files['model']} --mmproj {files['mmproj']} --port {port}", port
    ):
        rows = processor(
            ray.data.read_binary_files([str(folder / path.name) for path in PICTURES[:4]], include_paths=True)
        ).take_all()
    assert {Path(row["path"]).name: row["result"] for row in rows} == {
        path.name: model.ask(QUESTION, path, max_tokens=40).text for path in PICTURES[:4]
    }
