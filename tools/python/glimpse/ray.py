"""Answers about pictures in Ray Data:

    from glimpse.ray import Answers

    pictures = ray.data.read_binary_files("pictures/", include_paths=True)
    table = pictures.map_batches(Answers, fn_constructor_kwargs=dict(model="model.gguf", mmproj="mmproj.gguf",
                                                                     prompt="Caption this image."),
                                 compute=ray.data.ActorPoolStrategy(size=2), batch_size=16)

Each actor has one engine. A row's answer does not depend on its company; what is wrong with it is its message in the
error column and costs nothing else.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from ._model import Model


class Answers:
    """For Dataset.map_batches with batches of NumPy arrays (the default). Adds `result` and `error` to the columns.

    image: the column of pictures: bytes of files, arrays (height, width, channels), or paths. prompt: the question of all
    rows; prompt_column: of each. Sampling options (max_tokens, ...) and Model's options (n_threads, pack_cache_dir, ...)
    by their names. Give n_threads where several actors share a machine.
    """

    def __init__(
        self,
        model: str,
        mmproj: str,
        *,
        prompt: Optional[str] = None,
        system: Optional[str] = None,
        image: str = "bytes",
        prompt_column: str = "prompt",
        result: str = "result",
        error: str = "error",
        n_parallel: int = 4,
        sampling: Optional[Dict[str, Any]] = None,
        **options: Any,
    ) -> None:
        self._engine = Model(model, mmproj, **options).engine(n_parallel=n_parallel)
        self._prompt, self._system, self._sampling = prompt, system, dict(sampling or {})
        self._image, self._prompt_column, self._result, self._error = image, prompt_column, result, error

    def __call__(self, batch: Dict[str, Any]) -> Dict[str, Any]:
        import numpy

        taken = {self._result, self._error} & set(batch)
        if taken:
            raise ValueError(f"the data has a column {taken.pop()!r} already: result and error name others")
        rows = list(
            self._engine.batch(
                self._rows(batch), prompt=self._prompt, system=self._system, on_error="row", **self._sampling
            )
        )
        batch[self._result] = numpy.array([row.text for row in rows], dtype=object)
        batch[self._error] = numpy.array([row.problem for row in rows], dtype=object)
        return batch

    def _rows(self, batch: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
        prompts = batch.get(self._prompt_column) if self._prompt is None else None
        for at, image in enumerate(batch[self._image]):
            row: Dict[str, Any] = {"image": str(image) if isinstance(image, str) else b"" if image is None else image}
            if prompts is not None:
                row["prompt"] = None if prompts[at] is None else str(prompts[at])
            yield row
