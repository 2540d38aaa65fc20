"""What a model said."""

from __future__ import annotations

import ctypes
import dataclasses
import html
import io
import json
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Tuple

from . import _c
from ._parts import AnswerParts, ToolCall, split_answer
from ._pictures import Picture

if TYPE_CHECKING:
    from ._model import Model

FINISH_REASONS = {
    number: _c.decode(_c.library.glimpse_finish_reason_name(number))
    for name, number in _c.numbers.items()
    if name.startswith("GLIMPSE_FINISH_")
}


@dataclasses.dataclass(frozen=True)
class Timings:
    """Where the time of an answer went; see glimpse_timings in glimpse.h."""

    image_decode_ms: float = 0.0
    image_resize_ms: float = 0.0
    image_encode_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    n_image_tokens: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_generated_tokens: int = 0
    n_drafted_tokens: int = 0
    n_accepted_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class TokenLogprob:
    """A token that could have stood at a place of the answer."""

    token: int
    logprob: float


Point = Tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Shape:
    """What an answer points at. kind: "box" (two corners), "point" (one) or "polygon".

    picture: its number in the conversation, from 1; 0 where there are several and the answer does not say. pixels: the
    points in pixels of that picture as it was given; None without it. said: the numbers of the answer, whose unit is
    "thousandths" of the picture's width and height, or "resized_pixels" of the picture as the encoder saw it.
    """

    kind: str
    label: str
    picture: int
    pixels: Optional[List[Point]]
    said: List[Point]
    unit: str

    @property
    def box(self) -> Optional[Tuple[float, float, float, float]]:
        """The smallest box around it: (x1, y1, x2, y2) in pixels."""
        if not self.pixels:
            return None
        xs, ys = [x for x, _ in self.pixels], [y for _, y in self.pixels]
        return min(xs), min(ys), max(xs), max(ys)


_KINDS = {
    number: name[len("GLIMPSE_SHAPE_") :].lower()
    for name, number in _c.numbers.items()
    if name.startswith("GLIMPSE_SHAPE_")
}
_UNITS = {
    number: name[len("GLIMPSE_UNIT_") :].lower()
    for name, number in _c.numbers.items()
    if name.startswith("GLIMPSE_UNIT_")
}


def read_shapes(model: _c.Handle, marked: str, pictures: Sequence[Picture]) -> Tuple[List[Shape], str]:
    """The shapes of a text with its control tokens shown, and what is wrong with them in words."""
    text = marked.encode()
    sizes = (_c.structs["glimpse_picture_size"] * max(len(pictures), 1))()
    for size, picture in zip(sizes, pictures):
        size.original_width, size.original_height = picture.original_size
        size.resized_width, size.resized_height = picture.resized_size
    known = all(0 not in picture.original_size + picture.resized_size for picture in pictures)
    shapes = _c.create(
        "glimpse_read_shapes", "glimpse_shapes_free", model, text, len(text), sizes if known else None, len(pictures)
    )
    info = _c.new("glimpse_shapes_info")
    _c.call("glimpse_shapes_get_info", shapes, ctypes.byref(info))
    return [_shape(shapes, index) for index in range(info.n_shapes)], _c.decode(info.problem or b"")


def _shape(shapes: _c.Handle, index: int) -> Shape:
    shape = _c.new("glimpse_shape")
    _c.call("glimpse_shapes_get", shapes, index, ctypes.byref(shape))

    def points(address: Optional[int]) -> Optional[List[Point]]:
        if not address:
            return None
        values = (ctypes.c_double * (2 * shape.n_points)).from_address(address)
        return list(zip(values[::2], values[1::2]))

    return Shape(
        _KINDS[shape.kind],
        _c.decode(_c.text_field(shape, "label", "n_label_bytes")),
        shape.picture,
        points(shape.pixels),
        points(shape.said) or [],
        _UNITS[shape.unit],
    )


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer; `str(answer)` is its text. In a notebook it shows itself, with its boxes on the picture."""

    text: str
    tokens: List[int]
    finish_reason: str
    timings: Timings
    #: Boxes, points and polygons that it names, in the format of the model's family.
    shapes: List[Shape]
    #: For each token those that were likeliest, best first; empty unless n_top_logprobs was given.
    logprobs: List[List[TokenLogprob]]
    #: What is wrong with its shapes, if anything: damaged ones are left out.
    shapes_problem: str = ""
    pictures: Sequence[Picture] = dataclasses.field(default=(), repr=False, compare=False)
    #: The text taken apart: what was thought, what was said, tools that are called.
    parts: AnswerParts = dataclasses.field(default_factory=AnswerParts)

    def __str__(self) -> str:
        return self.text

    @property
    def reasoning(self) -> str:
        """What the model thought before it answered."""
        return self.parts.reasoning

    @property
    def content(self) -> str:
        """The text without what was thought and without calls."""
        return self.parts.content

    @property
    def tool_calls(self) -> List[ToolCall]:
        """Tools that the model calls, where there were some."""
        return self.parts.tool_calls

    def json(self) -> Any:
        """The content as JSON, which answers to a schema are unless they were cut off. Raises ValueError."""
        return json.loads(self.content)

    @property
    def boxes(self) -> List[Shape]:
        """The boxes of `shapes`."""
        return [shape for shape in self.shapes if shape.kind == "box"]

    def _shapes_on(self, number: int) -> List[Tuple[Shape, Tuple[float, float, float, float]]]:
        return [(shape, shape.box) for shape in self.shapes if shape.picture == number and shape.box is not None]

    def _repr_html_(self) -> str:
        figures = []
        for number, picture in enumerate(self.pictures, 1):
            url = picture.data_url()
            if url is None:
                continue
            width, height = picture.original_size
            marks = "".join(
                f'<div title="{html.escape(shape.label)}" style="position:absolute;box-sizing:border-box;border:2px solid '
                f"#e33;left:{100 * box[0] / width:.2f}%;top:{100 * box[1] / height:.2f}%;min-width:6px;min-height:6px;"
                f'width:{100 * (box[2] - box[0]) / width:.2f}%;height:{100 * (box[3] - box[1]) / height:.2f}%"></div>'
                for shape, box in self._shapes_on(number)
            )
            figures.append(
                f'<div style="position:relative;display:inline-block;margin:0 8px 8px 0"><img src="{url}" '
                f'style="display:block;max-width:480px;min-width:96px">{marks}</div>'
            )
        text = html.escape(self.text).replace("\n", "<br>")
        return f'<div>{"".join(figures)}<div>{text}</div></div>'

    def draw(self, number: int = 1) -> Any:
        """Picture `number` (from 1) with its boxes, as a Pillow image. Needs Pillow."""
        import PIL.Image
        import PIL.ImageDraw

        picture = self.pictures[number - 1]
        if picture.pixels is None:
            picture = picture.decoded_elsewhere() or picture
        if picture.pixels is None:
            raise ValueError("Pillow cannot read the picture")
        width, height, rgb = picture.pixels
        image = PIL.Image.frombytes("RGB", (width, height), rgb)
        pen = PIL.ImageDraw.Draw(image)
        for shape, box in self._shapes_on(number):
            if shape.kind == "polygon":
                pen.polygon(shape.pixels or [], outline=(227, 51, 51))
            else:
                grow = 3 if shape.kind == "point" else 0
                pen.rectangle(
                    (box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow), outline=(227, 51, 51), width=2
                )
            pen.text((box[0] + 4, box[1] + 3), shape.label, fill=(227, 51, 51))
        return image

    def _repr_png_(self) -> Optional[bytes]:
        if not self.pictures:
            return None
        try:
            image = self.draw()
        except (ImportError, OSError, ValueError):
            return None
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()


def make_answer(
    model: "Model",
    info: Any,
    timings: Timings,
    logprobs: Callable[[int], List[TokenLogprob]],
    pictures: Sequence[Picture],
    has_tools: bool,
) -> Answer:
    """Of a glimpse_answer_info or a glimpse_request_result. logprobs: of a token by its index."""
    tokens = list((ctypes.c_int32 * info.n_tokens).from_address(info.tokens)) if info.n_tokens else []
    text = _c.decode(_c.text_field(info))
    shapes, problem = read_shapes(model._handle, model.detokenize(tokens, render_special=True), pictures)
    return Answer(
        text,
        tokens,
        FINISH_REASONS[info.finish_reason],
        timings,
        shapes,
        [found for found in map(logprobs, range(len(tokens))) if found],
        problem,
        tuple(pictures),
        split_answer(text, bool(info.thinking_open), has_tools),
    )


def read_timings(function: str, handle: _c.Handle) -> Timings:
    timings = _c.new("glimpse_timings")
    _c.call(function, handle, ctypes.byref(timings))
    return Timings(**{field.name: getattr(timings, field.name) for field in dataclasses.fields(Timings)})


def read_top_logprobs(function: str, handle: _c.Handle, index: int, room: int) -> List[TokenLogprob]:
    if room == 0:
        return []
    ids, logprobs, n = (ctypes.c_int32 * room)(), (ctypes.c_float * room)(), ctypes.c_size_t()
    _c.call(function, handle, index, ids, logprobs, room, ctypes.byref(n))
    return [TokenLogprob(ids[i], logprobs[i]) for i in range(n.value)]
