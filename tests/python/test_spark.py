"""A folder of pictures through Spark: one session for all facts, it takes seconds to start."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List

import PIL.Image
import PIL.ImageDraw
import pytest

pyspark = pytest.importorskip("pyspark")

import glimpse
from conftest import ROOT

CAPTION = "Describe this picture."
N_PICTURES = 24


@pytest.fixture(scope="module")
def spark() -> Iterator["pyspark.sql.SparkSession"]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "5")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 drawn pictures, PNG and JPEG, and a damaged one."""
    folder = tmp_path_factory.mktemp("pictures")
    colours = ["red", "blue", "green", "purple", "orange", "black"]
    for i in range(N_PICTURES):
        image = PIL.Image.new("RGB", (112 + 28 * (i % 3), 112), ["white", "yellow"][i % 2])
        pen = PIL.ImageDraw.Draw(image)
        pen.ellipse((12, 12, 52, 52), fill=colours[i % 6])
        if i % 4:
            pen.rectangle((62, 58, 104, 100), fill=colours[(i + 2) % 6])
        image.save(folder / (f"{i:02}.png" if i % 2 else f"{i:02}.jpg"))
    whole = (folder / "01.png").read_bytes()
    (folder / "07 damaged.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def by_command(folder: Path) -> Dict[str, str]:
    """What glimpse batch says: answers by name, or errors."""
    files = glimpse.demo_files()
    said = subprocess.run(
        [
            os.environ["GLIMPSE_COMMAND"],
            "batch",
            folder,
            "-p",
            CAPTION,
            "-n",
            "40",
            "-m",
            files["model"],
            "--mmproj",
            files["mmproj"],
            "--output-format",
            "jsonl",
        ],
        capture_output=True,
        text=True,
    )
    assert said.returncode == 3, said.stderr
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    return {Path(row["image_name"]).name: row["result"] or "error: " + row["error"] for row in rows}


def transformer():
    from glimpse.spark import VisionModel

    files = glimpse.demo_files()
    return (
        VisionModel.loadSavedModel(files["model"], files["mmproj"])
        .setInputCols(["caption", "image"])
        .setOutputCol("completions")
        .setNCtx(1024)
        .setNPredict(40)
        .setNGpuLayers(99)
        .setTemperature(0)
        .setTopK(40)
        .setMinKeep(0)
        .setTfsZ(1)
        .setTypicalP(1)
        .setPenalizeNl(False)
        .setNProbs(0)
    )


def captioned(spark, folder: Path, n_partitions: int):
    from glimpse.spark import load_images
    from pyspark.sql.functions import lit

    return load_images(spark, str(folder)).withColumn("caption", lit(CAPTION)).repartition(n_partitions)


def as_dict(rows: List) -> Dict[str, str]:
    found = {row.image_name: row.result if row.error is None else row.error for row in rows}
    assert len(found) == len(rows)
    return found


def answered(data, model) -> Dict[str, str]:
    return as_dict(
        model.transform(data)
        .selectExpr("reverse(split(image.origin, '/'))[0] as image_name", "completions.result", "error")
        .collect()
    )


def test_the_same_rows_for_any_partitions_and_by_the_command(spark, folder: Path, by_command: Dict[str, str]) -> None:
    found = [answered(captioned(spark, folder, n), transformer()) for n in (1, 2, 7)]
    assert found[0] == found[1] == found[2] and len(found[0]) == N_PICTURES + 1
    assert {name.replace("%20", " ") for name in found[0]} == set(by_command), "Spark's paths are URIs"
    by_name = {name.replace("%20", " "): text for name, text in found[0].items()}
    bad = by_name.pop("07 damaged.png")
    assert "PNG" in bad
    assert by_name == {name: text for name, text in by_command.items() if "damaged" not in name}
    assert len(set(by_name.values())) > 5, "the pictures differ, and so do the answers"


def test_other_columns_pass_unchanged(spark, folder: Path, by_command: Dict[str, str]) -> None:
    from pyspark.sql.functions import col, lit

    files = spark.read.format("binaryFile").load(str(folder / "0[0-3].*")).withColumn("caption", lit(CAPTION))
    model = transformer().setInputCols("content", "caption").setErrorCol("problem").setOutputCol("said")
    out = model.transform(files)
    assert out.columns == files.columns + ["said", "problem"]
    before = {row.path: row for row in files.collect()}
    for row in out.collect():
        assert {name: row[name] for name in files.columns} == before[row.path].asDict()
        assert row.said.result == by_command[row.path.split("/")[-1]] and row.said.finish_reason == "stop"
        assert row.said.prompt_tokens > 20 and row.said.generated_tokens > 5
    assert out.where(col("problem").isNotNull()).count() == 0
    assert transformer().setInputCols("content", "caption").transform(files.limit(0)).count() == 0


def test_sparks_own_image_format_and_rows_without_one(spark, folder: Path, by_command: Dict[str, str]) -> None:
    from pyspark.sql.functions import lit

    images = spark.read.format("image").load(str(folder / "0[13].png")).withColumn("caption", lit(CAPTION))
    found = answered(images, transformer())
    assert found == {name: by_command[name] for name in ("01.png", "03.png")}
    nothing = spark.createDataFrame(
        [(bytearray(b"x"), "?"), (None, "?"), (bytearray(b""), None)], "image binary, caption string"
    )
    rows = transformer().transform(nothing).collect()
    assert all(row.completions is None and row.error for row in rows) and len(rows) == 3
    # Pixels of a format that Spark does not have: not a task that fails.
    odd = spark.createDataFrame(
        [((2, 3, 2, bytearray(12)), "?")],
        "image struct<height int, width int, nChannels int, data binary>, caption string",
    )
    assert [row.completions for row in transformer().transform(odd).collect()] == [None]


def test_files_of_the_context_and_saved_pipelines(
    spark, folder: Path, by_command: Dict[str, str], tmp_path: Path
) -> None:
    from glimpse.spark import VisionModel
    from pyspark.ml import Pipeline, PipelineModel

    for key in ("model", "mmproj"):
        spark.sparkContext.addFile(glimpse.demo_files()[key])
    model = (
        transformer()
        .setModelPath("/not/here/demo-Q8_0.gguf")
        .setMmprojPath("mmproj-demo-f16.gguf")
        .setPackCacheDir("none")
    )
    data = captioned(spark, folder, 1)
    Pipeline(stages=[model]).fit(data).write().overwrite().save(str(tmp_path / "pipeline"))
    again = PipelineModel.load(str(tmp_path / "pipeline"))
    stage = again.stages[0]
    assert (
        isinstance(stage, VisionModel)
        and stage.getNPredict() == 40
        and stage.getModelPath() == "/not/here/demo-Q8_0.gguf"
    )
    found = as_dict(
        again.transform(data.where("image.origin like '%03.png'"))
        .selectExpr("reverse(split(image.origin, '/'))[0] as image_name", "completions.result", "error")
        .collect()
    )
    assert found == {"03.png": by_command["03.png"]}


def test_weights_are_mapped_and_threads_divided(spark, folder: Path, tmp_path: Path) -> None:
    def look(_):
        from glimpse import spark as worker

        yield (
            len(worker._worker),
            worker._worker[1].model.mapped_bytes,
            worker._worker[1].model.weight_bytes,
            worker._worker[1].model._session_options["n_threads"],
        )

    cache = tmp_path / "packed"
    transformer().setPackCacheDir(str(cache)).transform(captioned(spark, folder, 2)).count()
    seen = (
        spark.sparkContext.parallelize([0, 1], 2)
        .mapPartitions(lambda rows: look(rows) if __import__("glimpse.spark").spark._worker else iter([]))
        .collect()
    )
    for n, mapped, weights, threads in seen:
        assert n == 2 and mapped > 0.9 * weights and threads == max(1, len(os.sched_getaffinity(0)) // 2)
    assert len(list(cache.glob("*"))) >= 3


def test_a_worker_loads_the_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import glimpse._model
    from glimpse.spark import _Job

    files = glimpse.demo_files()
    model = dict(model=files["model"], mmproj=files["mmproj"], vision_precision="auto", device="cpu")
    loads = []

    class Counted(glimpse.Model):
        def __init__(self, *arguments, **options) -> None:
            loads.append(options["n_threads"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(glimpse._model, "Model", Counted)
    for n in (2, 1, 1):  # the first worker of a machine leaves packed weights and maps them
        del loads[:]
        job = _Job(None, "image", None, "completions", "error", {}, {}, model, str(tmp_path), 1)
        assert job._load(1).mapped_bytes > 0 and len(loads) == n
    # What keeps no packed weights, as GPUs do not, has left nothing to be mapped.
    del loads[:]
    (tmp_path / "none").mkdir()
    reference = dict(model, use_reference=True)
    job = _Job(None, "image", None, "completions", "error", {}, {}, reference, str(tmp_path / "none"), 1)
    assert job._load(1).mapped_bytes == 0 and len(loads) == 1


def test_packed_weights_may_be_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import glimpse.spark

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(glimpse.spark, "_files_root", lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)
    files = glimpse.demo_files()
    model = dict(model=files["model"], mmproj=files["mmproj"], vision_precision="auto", device="cpu")
    job = glimpse.spark._Job(None, "image", None, "completions", "error", {}, {}, model, "auto", 1)
    assert job._load(1).mapped_bytes > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "lock"]


def test_what_means_nothing_here_is_refused(spark) -> None:
    from glimpse.spark import VisionModel

    model = transformer()
    with pytest.raises(ValueError, match="tfsZ 0.5"):
        model.setTfsZ(0.5)
    with pytest.raises(TypeError, match="nPredicts"):
        VisionModel(nPredicts=3)
    data = spark.createDataFrame([(b"x", "?", 1)], "image binary, caption string, n int")
    for columns, said in (
        (["caption"], "1 columns of questions and 0 of pictures"),
        (["image"], "0 columns of questions"),
        (["n", "image"], "'n' is int"),
    ):
        with pytest.raises(ValueError, match=said):
            model.setInputCols(columns).transform(data)
    for text in (
        "named_struct('data', 'a text', 'content', cast('x' as binary)) as image",
        "named_struct('bytes', cast('x' as binary)) as image",
    ):
        with pytest.raises(ValueError, match="'image' is struct"):
            model.setInputCols("image", "caption").transform(data.selectExpr("caption", text))
    with pytest.raises(ValueError, match="no model"):
        VisionModel().setInputCols("image", "caption").transform(data)
    with pytest.raises(ValueError, match="already"):
        transformer().setErrorCol("n").transform(data)


def test_the_examples_print_the_table(spark, folder: Path, by_command: Dict[str, str], monkeypatch) -> None:
    files = glimpse.demo_files()
    command = Path(os.environ["GLIMPSE_COMMAND"])
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    shown = {}
    for example in ("spark_vision.py", "spark_pipe.py"):
        monkeypatch.setattr(sys, "argv", [example, files["model"], files["mmproj"], str(folder), CAPTION])
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(ROOT / "tools/examples" / example), run_name="__main__")
        shown[example] = said.getvalue()
        for name, text in by_command.items():
            if "damaged" not in name or example == "spark_pipe.py":
                text = text.replace("error: ", "")
                assert any(name in line and text in line for line in shown[example].splitlines()), (example, name)
    assert "image_name" in shown["spark_vision.py"] and "|result" in shown["spark_vision.py"]


def test_the_scala_pipe_prints_the_table(folder: Path, by_command: Dict[str, str]) -> None:
    shell = Path(pyspark.__file__).parent / "bin" / "spark-shell"
    files = glimpse.demo_files()
    command = Path(os.environ["GLIMPSE_COMMAND"])
    environment = {
        **os.environ,
        "MODEL": files["model"],
        "MMPROJ": files["mmproj"],
        "PICTURES": str(folder),
        "CAPTION": CAPTION,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "SPARK_HOME": str(shell.parents[1]),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    assert shutil.which("sh")
    said = subprocess.run(
        [
            shell,
            "--master",
            "local[2]",
            "--conf",
            "spark.ui.enabled=false",
            "-i",
            ROOT / "tools/examples/spark_pipe.scala",
        ],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    for name, text in by_command.items():
        wanted = text if "damaged" not in name else text[len("error: ") :]
        assert any(name in line and wanted in line for line in said.stdout.splitlines()), (
            name,
            said.stdout,
            said.stderr,
        )
