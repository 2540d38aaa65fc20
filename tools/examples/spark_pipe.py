"""The same with a pipe to the command, one process for each partition; the machines need no Python package:

spark-submit spark_pipe.py model.gguf mmproj.gguf pictures/ "Caption this image."
"""

import glob
import json
import os
import shlex
import sys

from pyspark.sql import SparkSession

model, mmproj, folder, caption = sys.argv[1:5]
spark = SparkSession.builder.appName("pictures").getOrCreate()
command = [
    "glimpse",
    "batch",
    "-",
    "--input-format",
    "jsonl",
    "--output-format",
    "jsonl",
    "-t",
    "1",
    "-m",
    model,
    "--mmproj",
    mmproj,
]
rows = [json.dumps({"image": path, "prompt": caption}) for path in sorted(glob.glob(f"{folder}/*"))]
answers = spark.sparkContext.parallelize(rows, 2).pipe(
    " ".join(map(shlex.quote, command)), env={"PATH": os.environ["PATH"]}
)
for answer in map(json.loads, answers.collect()):
    print(answer["image_name"].split("/")[-1], "|", answer.get("result") or answer["error"])
