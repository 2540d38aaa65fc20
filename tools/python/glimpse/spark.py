"""Answers about the pictures of a Spark DataFrame.

    from glimpse.spark import VisionModel, load_images

    data = load_images(spark, "pictures/").withColumn("caption", lit("Caption this image."))
    model = VisionModel.loadSavedModel("model.gguf", "mmproj.gguf").setInputCols(["caption", "image"]) \\
        .setOutputCol("completions").setNPredict(40)
    model.transform(data).selectExpr("reverse(split(image.origin, '/'))[0] as image_name", "completions.result").show()

A pyspark.ml Transformer whose parameters have the names and, where they are not given, the meaning that Spark NLP's
AutoGGUFVisionModel gives them. Each Python worker has one engine, and batchSize rows under way in it; the weights are
mapped, so that the workers of a machine share one copy. A row's answer does not depend on its company: any partitioning
and any retry gives the same rows. What is wrong with a row is its message in errorCol and costs nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Iterator, List, Optional, Set, Tuple

from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCols, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import BinaryType, DataType, IntegerType, StringType, StructField, StructType

if TYPE_CHECKING:
    import pyarrow

    from ._engine import Engine

#: What setOutputCol's column is made of; NULL where the row has an error.
ANSWER = StructType(
    [
        StructField("result", StringType()),
        StructField("finish_reason", StringType()),
        StructField("prompt_tokens", IntegerType()),
        StructField("generated_tokens", IntegerType()),
    ]
)

_int, _float, _string, _bool = (
    TypeConverters.toInt,
    TypeConverters.toFloat,
    TypeConverters.toString,
    TypeConverters.toBoolean,
)
#: Parameters: name, converter, default (None: the library's or the model's), what it is.
_PARAMS: List[Tuple[str, Callable[[Any], Any], Any, str]] = [
    (
        "modelPath",
        _string,
        None,
        "text model, GGUF: a path on every machine, or the name of a file of SparkContext.addFile",
    ),
    ("mmprojPath", _string, None, "vision encoder, GGUF; found as modelPath is"),
    ("errorCol", _string, "error", "column of what is wrong with a row; NULL where nothing is"),
    ("nCtx", _int, 4096, "tokens of a row, picture and answer included"),
    ("nBatch", _int, 512, "rows of a prefill pass"),
    ("batchSize", _int, 4, "rows under way at once in each Python worker; answers do not depend on it"),
    ("nThreads", _int, 0, "threads of a worker; 0: the machine's CPUs divided among the workers of an executor"),
    ("nGpuLayers", _int, 0, "0: on the CPU; else on the GPU, if there is one, with all layers"),
    ("systemPrompt", _string, None, "system prompt; default: the model's own"),
    ("nPredict", _int, 100, "most tokens of an answer; -1: until the context is full"),
    ("temperature", _float, 0.0, "0: greedy"),
    ("topK", _int, None, "keep the k most likely tokens"),
    ("topP", _float, None, "keep the smallest set with this probability"),
    ("minP", _float, None, "drop tokens below this fraction of the best"),
    ("repeatPenalty", _float, None, "divides the logits of seen tokens; line breaks count as any token"),
    ("repeatLastN", _int, None, "tokens the penalties look back at; -1: all"),
    ("presencePenalty", _float, None, "subtracted from the logits of seen tokens"),
    ("frequencyPenalty", _float, None, "subtracted per occurrence"),
    ("seed", _int, None, "of each row"),
    ("stopStrings", TypeConverters.toListString, None, "an answer ends before these texts"),
    ("kvType", _string, None, "type of the key/value cache: f16, bf16, f32 or q8_0"),
    ("visionPrecision", _string, "auto", "auto, f32, bf16 or int8"),
    ("imageMinTokens", _int, None, "enlarge pictures to at least so many tokens"),
    ("imageMaxTokens", _int, None, "shrink pictures to at most so many tokens"),
    ("imageDedup", _bool, None, "leave out blocks of a picture that repeat their neighbours exactly; answers may differ"),
    (
        "packCacheDir",
        _string,
        "",
        "folder on each machine where packed weights are kept and mapped from; 'auto': the user's own; empty: one of "
        "the application; 'none': each worker has a copy of its own",
    ),
]
#: Parameters of AutoGGUFVisionModel that have one meaning here; another value is an error.
_NEUTRAL: Dict[str, Tuple[Any, ...]] = {
    "tfsZ": (1,),
    "typicalP": (1,),
    "minKeep": (0,),
    "nProbs": (0,),
    "miroStat": (0, "DISABLED"),
    "penalizeNl": (True, False),
    "useChatTemplate": (True,),
    "cachePrompt": (True, False),
    "useMmap": (True, False),
}
_SAMPLING = {
    "nPredict": "max_tokens",
    "temperature": "temperature",
    "topK": "top_k",
    "topP": "top_p",
    "minP": "min_p",
    "repeatPenalty": "repetition_penalty",
    "repeatLastN": "penalty_last_n",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "seed": "seed",
    "stopStrings": "stop",
}
_ENGINE = {
    "nCtx": "n_ctx",
    "nBatch": "n_batch",
    "batchSize": "n_parallel",
    "nThreads": "n_threads",
    "kvType": "kv_type",
    "imageMinTokens": "image_min_tokens",
    "imageMaxTokens": "image_max_tokens",
    "imageDedup": "image_dedup",
}


def load_images(spark: SparkSession, path: str) -> DataFrame:
    """A row for each file of a folder: `image`, a struct of origin (its path) and data (its bytes)."""
    files = spark.read.format("binaryFile").load(path)
    return files.selectExpr("struct(path as origin, content as data) as image")


class VisionModel(Transformer, HasInputCols, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    """inputCols: a column of questions (string) and one of pictures: the bytes of files (binary), or a struct that holds
    them as `data` or `content`, as load_images(), `binaryFile` and `image` give them. outputCol: a struct, see ANSWER.
    """

    @keyword_only
    def __init__(self, **parameters: Any) -> None:
        super().__init__()
        self._setDefault(outputCol="completions", **{name: value for name, _, value, _ in _PARAMS if value is not None})
        self.setParams(**parameters)

    def setParams(self, **parameters: Any) -> "VisionModel":
        for name, value in parameters.items():
            if not self.hasParam(name) and name not in _NEUTRAL:
                raise TypeError(f"VisionModel has no parameter {name!r}")
            getattr(self, "set" + name[0].upper() + name[1:])(value)
        return self

    @staticmethod
    def loadSavedModel(modelPath: str, mmprojPath: str, spark_session: Optional[SparkSession] = None) -> "VisionModel":
        """Of files: paths that every machine has, or names of files that SparkContext.addFile has brought there."""
        return VisionModel(modelPath=modelPath, mmprojPath=mmprojPath)

    def setInputCols(self, *columns: Any) -> "VisionModel":
        names = list(columns[0]) if len(columns) == 1 and not isinstance(columns[0], str) else list(columns)
        return self._set(inputCols=names)  # type: ignore[no-any-return]

    def setOutputCol(self, value: str) -> "VisionModel":
        return self._set(outputCol=value)  # type: ignore[no-any-return]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        prompt, image = self._columns(dataset.schema)
        values = {param.name: value for param, value in self.extractParamMap().items()}
        sampling = {ours: values[name] for name, ours in _SAMPLING.items() if name in values}
        engine = {ours: values[name] for name, ours in _ENGINE.items() if name in values}
        job = _Job(
            prompt,
            image,
            values.get("systemPrompt"),
            values["outputCol"],
            values["errorCol"],
            sampling,
            engine,
            _model_options(values),
            values["packCacheDir"],
            _workers_per_machine(dataset.sparkSession),
        )
        taken = {values["outputCol"], values["errorCol"]} & set(dataset.columns)
        if taken:
            raise ValueError(
                f"the DataFrame has a column {taken.pop()!r} already: setOutputCol and setErrorCol name others"
            )
        schema = StructType(
            dataset.schema.fields
            + [StructField(values["outputCol"], ANSWER), StructField(values["errorCol"], StringType())]
        )
        return dataset.mapInArrow(job.run, schema)

    def _columns(self, schema: StructType) -> Tuple[Optional[str], str]:
        """The columns of questions and of pictures, by their types."""
        questions, pictures = [], []
        for name in self.getInputCols():
            kind = schema[name].dataType
            if isinstance(kind, StringType):
                questions.append(name)
            elif isinstance(kind, BinaryType) or _holds_bytes(kind):
                pictures.append(name)
            else:
                raise ValueError(
                    f"column {name!r} is {kind.simpleString()}: want a string (questions), or binary or a struct "
                    "with binary `data` or `content` (pictures)"
                )
        if len(questions) != 1 or len(pictures) != 1:
            raise ValueError(
                f"setInputCols names {len(questions)} columns of questions and {len(pictures)} of pictures: want "
                "one of each; a question for all rows is withColumn('caption', lit('...'))"
            )
        return questions[0], pictures[0]


def _holds_bytes(kind: DataType) -> bool:
    held = [field for field in kind.fields if field.name in ("data", "content")] if isinstance(kind, StructType) else []
    return bool(held) and all(isinstance(field.dataType, BinaryType) for field in held)


def _accessors(name: str) -> Tuple[Callable[[VisionModel, Any], VisionModel], Callable[[VisionModel], Any]]:
    def setter(self: VisionModel, value: Any) -> VisionModel:
        return self._set(**{name: value})  # type: ignore[no-any-return]

    def getter(self: VisionModel) -> Any:
        return self.getOrDefault(name)

    return setter, getter


def _neutral_setter(name: str, values: Tuple[Any, ...]) -> Callable[[VisionModel, Any], VisionModel]:
    def setter(self: VisionModel, value: Any) -> VisionModel:
        if value not in values:
            raise ValueError(
                f"{name} {value!r}: glimpse has no such sampling or format; only {values[0]!r}, which turns it off"
            )
        return self

    return setter


for _name, _convert, _default, _doc in _PARAMS:
    _setter, _getter = _accessors(_name)
    setattr(VisionModel, _name, Param(Params._dummy(), _name, _doc, typeConverter=_convert))
    setattr(VisionModel, f"set{_name[0].upper()}{_name[1:]}", _setter)
    setattr(VisionModel, f"get{_name[0].upper()}{_name[1:]}", _getter)
for _name, _values in _NEUTRAL.items():
    setattr(VisionModel, f"set{_name[0].upper()}{_name[1:]}", _neutral_setter(_name, _values))


def _model_options(values: Dict[str, Any]) -> Dict[str, Any]:
    if not values.get("modelPath") or not values.get("mmprojPath"):
        raise ValueError(
            "no model: VisionModel.loadSavedModel(modelPath, mmprojPath), or setModelPath and setMmprojPath"
        )
    return dict(
        model=values["modelPath"],
        mmproj=values["mmprojPath"],
        vision_precision=values["visionPrecision"],
        device="auto" if values["nGpuLayers"] else "cpu",
    )


def _workers_per_machine(spark: SparkSession) -> int:
    """Python workers that run at once beside one another."""
    try:
        conf = spark.sparkContext.getConf()
        master = spark.sparkContext.master
    except Exception:  # Spark Connect has no context here
        return 1
    local = re.match(r"local(?:-cluster)?(?:\[(\d+|\*))?", master)
    if local is not None and not master.startswith("local-cluster"):
        cores = os.cpu_count() or 1 if local[1] == "*" else int(local[1] or 1)
    else:
        cores = int(conf.get("spark.executor.cores", "1") or 1)
    return max(1, cores // int(conf.get("spark.task.cpus", "1") or 1))


#: This worker's engine, and what it was made of. Spark keeps a worker for many tasks.
_worker: List[Any] = []


class _Job:
    """What a worker does, as it is sent there."""

    def __init__(
        self,
        prompt: Optional[str],
        image: str,
        system: Optional[str],
        output: str,
        error: str,
        sampling: Dict[str, Any],
        engine: Dict[str, Any],
        model: Dict[str, Any],
        pack_cache: str,
        n_workers: int,
    ) -> None:
        self.prompt, self.image, self.system, self.output, self.error = prompt, image, system, output, error
        self.sampling, self.engine, self.model = sampling, engine, model
        self.pack_cache, self.n_workers = pack_cache, n_workers

    def run(self, batches: Iterator["pyarrow.RecordBatch"]) -> Iterator["pyarrow.RecordBatch"]:
        import collections

        engine = self._engine()
        waiting: Deque[pyarrow.RecordBatch] = collections.deque()
        results: List[Any] = []

        def rows() -> Iterator[Dict[str, Any]]:
            for batch in batches:
                waiting.append(batch)
                questions = batch.column(batch.schema.get_field_index(self.prompt))
                pictures = batch.column(batch.schema.get_field_index(self.image))
                for question, picture in zip(questions, pictures):
                    yield {"prompt": question.as_py(), "image": _picture(picture.as_py())}

        for row in engine.batch(rows(), system=self.system, on_error="row", **self.sampling):
            results.append(row)
            yield from self._whole(waiting, results)
        yield from self._whole(waiting, results)  # batches without rows

    def _whole(self, waiting: Deque["pyarrow.RecordBatch"], results: List[Any]) -> Iterator["pyarrow.RecordBatch"]:
        import pyarrow

        while waiting and len(results) >= waiting[0].num_rows:
            batch = waiting.popleft()
            rows, results[: batch.num_rows] = results[: batch.num_rows], []
            kind = pyarrow.struct(
                [
                    ("result", pyarrow.string()),
                    ("finish_reason", pyarrow.string()),
                    ("prompt_tokens", pyarrow.int32()),
                    ("generated_tokens", pyarrow.int32()),
                ]
            )
            answers = pyarrow.array([None if row.answer is None else _answer(row.answer) for row in rows], kind)
            errors = pyarrow.array([row.problem for row in rows], pyarrow.string())
            yield pyarrow.RecordBatch.from_arrays(
                batch.columns + [answers, errors], batch.schema.names + [self.output, self.error]
            )

    def _engine(self) -> "Engine":
        key = repr((sorted(self.engine.items()), sorted(self.model.items()), self.pack_cache, self.n_workers))
        if not _worker or _worker[0] != key:
            _worker.clear()  # of another model: its memory goes first
            _worker.extend([key, self._make_engine()])
        return _worker[1]  # type: ignore[no-any-return]

    def _make_engine(self) -> "Engine":
        options = dict(self.engine)
        if not options.get("n_threads") and self.n_workers > 1:
            options["n_threads"] = max(1, len(os.sched_getaffinity(0)) // self.n_workers)
        return self._load(int(options.get("n_threads", 0))).engine(**options)

    def _load(self, n_threads: int) -> Any:
        from ._model import Model

        model = {
            **self.model,
            "model": _file(self.model["model"]),
            "mmproj": _file(self.model["mmproj"]),
            "n_threads": n_threads,
        }
        if self.pack_cache == "none":
            return Model(**model)
        folder = self.pack_cache or os.path.join(_files_root(), "glimpse-packed-weights")
        if folder != "auto":
            os.makedirs(folder, exist_ok=True)
        model.update(pack_cache_dir=folder, pack_cache_map=True)
        with _lock(os.path.join(_files_root() if folder == "auto" else folder, "lock")):
            before = _packed_in(folder)
            loaded = Model(**model)
            if loaded.mapped_bytes == 0 and _packed_in(folder) != before:  # it has left them there, for the next one
                del loaded  # and its copy goes before that
                loaded = Model(**model)
            return loaded


def _packed_in(folder: str) -> Set[Tuple[str, int]]:
    """The files of packed weights there and their times. On a GPU a model leaves none, nor where there is no room."""
    if folder == "auto":
        cache = os.environ.get("XDG_CACHE_HOME", "")
        folder = os.path.join(cache if os.path.isabs(cache) else os.path.expanduser("~/.cache"), "glimpse")
    try:
        with os.scandir(folder) as entries:
            return {(entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".pack")}
    except OSError:
        return set()


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files_root() -> str:
    from pyspark import SparkFiles

    return str(SparkFiles.getRootDirectory())


def _file(path: str) -> str:
    if os.path.exists(path):
        return path
    brought = os.path.join(_files_root(), os.path.basename(path))
    return brought if os.path.exists(brought) else path


def _answer(answer: Any) -> Dict[str, Any]:
    return {
        "result": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.timings.n_prompt_tokens + answer.timings.n_cached_tokens,
        "generated_tokens": len(answer.tokens),
    }


def _picture(value: Any) -> Any:
    """A cell as Python's picture. A row without one is a row with an error."""
    if isinstance(value, dict):
        data = value.get("data") if value.get("data") is not None else value.get("content")
        height, width, channels = (value.get(key) or 0 for key in ("height", "width", "nChannels"))
        if data is not None and height > 0 and channels in (1, 3, 4) and len(data) == height * width * channels:
            import numpy  # Spark's own image format: rows of BGR(A), or grey

            pixels = numpy.frombuffer(data, numpy.uint8).reshape(height, width, channels)
            return numpy.ascontiguousarray(pixels if channels == 1 else pixels[:, :, [2, 1, 0, 3][:channels]])
        value = data
    return b"" if value is None else bytes(value)
