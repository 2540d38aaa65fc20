#!/usr/bin/env python3
"""Rows per second of glimpse.spark on local[2] and of glimpse batch, in alternating pairs:

spark.py GLIMPSE [PAIRS [ROWS]]      GLIMPSE: the command; PYTHONPATH or an installed wheel has the package

Both read the held-out pictures (as many as ROWS, each with a pixel of its own, so that no cache knows one) and answer with the demo model, 4 rows under
way for each of the CPUs that Spark gives a worker; loading and the start of Spark are not counted: of Spark, because a pass over other pictures comes
before, and of the command, because its time with one row is subtracted.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import glimpse
from glimpse.spark import VisionModel, load_images
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

command = sys.argv[1]
n_pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
n_rows = int(sys.argv[3]) if len(sys.argv) > 3 else 480
caption = "Describe this picture."
files = glimpse.demo_files()
heldout = sorted((pathlib.Path(files["model"]).parent / "heldout").glob("*.png"))
if not heldout:
    sys.exit("spark.py: want the demo model's held-out pictures: GLIMPSE_DEMO names their folder's parent")


def by_command(folder: pathlib.Path) -> float:
    begin = time.perf_counter()
    subprocess.run(
        [command, "batch", str(folder), "-p", caption, "-n", "40", "-t", "2", "--parallel", "8", "-o", str(folder) + ".jsonl", "--force"]
        + ["-m", files["model"], "--mmproj", files["mmproj"]],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begin


with tempfile.TemporaryDirectory() as scratch:
    one = pathlib.Path(scratch) / "one"
    one.mkdir()
    shutil.copy(heldout[0], one)

    def pictures(number: int) -> pathlib.Path:
        folder = pathlib.Path(scratch) / f"many{number}"
        folder.mkdir()
        for i in range(n_rows):
            picture = Image.open(heldout[i % len(heldout)]).convert("RGB")
            picture.putpixel((0, 0), (number, i // 256, i % 256))
            picture.save(folder / f"{i:05}.png")
        return folder

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    model = VisionModel.loadSavedModel(files["model"], files["mmproj"]).setInputCols(["caption", "image"])
    model.setNPredict(40).setBatchSize(4).setNCtx(1024)

    def by_spark(folder: pathlib.Path) -> float:
        data = load_images(spark, str(folder)).withColumn("caption", lit(caption)).repartition(2).cache()
        assert data.count() == n_rows
        table = model.transform(data)
        begin = time.perf_counter()
        table.write.format("noop").mode("overwrite").save()
        return time.perf_counter() - begin

    by_spark(pictures(0))
    ratios = []
    for pair in range(n_pairs):
        many = pictures(pair + 1)
        batch, sparks = by_command(many) - by_command(one), by_spark(many)
        ratios.append(batch / sparks)
        print(f"glimpse batch {n_rows / batch:.1f} rows/s, Spark {n_rows / sparks:.1f} rows/s: {ratios[-1]:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")
    spark.stop()
