// A folder of pictures into a table with a pipe to the command, one process for each partition:
//
//   MODEL=model.gguf MMPROJ=mmproj.gguf PICTURES=pictures CAPTION="Caption this image." spark-shell -i spark_pipe.scala
def json(text: String): String = "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\""

val rows = new java.io.File(sys.env("PICTURES")).listFiles.map(_.getPath).sorted
  .map(path => s"""{"image": ${json(path)}, "prompt": ${json(sys.env("CAPTION"))}}""")

// Rows that failed have their error; the command says so with status 3, which a pipe would take for its own failure.
val command = """glimpse batch - --input-format jsonl --output-format jsonl -t 1 -m "$MODEL" --mmproj "$MMPROJ" || [ $? = 3 ]"""
val answers = sc.parallelize(rows.toSeq, 2).pipe(Seq("sh", "-c", command))

import spark.implicits._
spark.read.json(spark.createDataset(answers))
  .selectExpr("reverse(split(image_name, '/'))[0] as image_name", "result", "error")
  .orderBy("image_name").show(1000, false)
System.exit(0)
