"""A folder of pictures into a table, with Spark:

spark-submit spark_vision.py model.gguf mmproj.gguf pictures/ "Caption this image."
"""

import sys

from glimpse.spark import VisionModel, load_images
from pyspark.ml import Pipeline
from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

model_path, mmproj_path, images_path, caption = sys.argv[1:5]
spark = SparkSession.builder.appName("pictures").getOrCreate()
data = load_images(spark, images_path).withColumn("caption", lit(caption))

model = (
    VisionModel.loadSavedModel(model_path, mmproj_path, spark)
    .setInputCols(["caption", "image"])
    .setOutputCol("completions")
    .setBatchSize(4)
    .setNGpuLayers(99)
    .setNCtx(2048)
    .setNPredict(40)
    .setTemperature(0)
    .setTopK(40)
    .setTopP(0.95)
)

pipeline = Pipeline().setStages([model])
(
    pipeline.fit(data)
    .transform(data)
    .selectExpr("reverse(split(image.origin, '/'))[0] as image_name", "completions.result", "error")
    .orderBy("image_name")
    .show(n=1000, truncate=False)
)
