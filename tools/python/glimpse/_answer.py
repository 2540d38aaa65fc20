"""What a model said."""

from __future__ import annotations

import dataclasses
import html
import io
import re
from typing import Any, List, Optional, Sequence, Tuple

from ._pictures import Picture


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


@dataclasses.dataclass(frozen=True)
class Box:
    """A box of an answer, in thousandths of its picture's width and height: 0 <= x1 <= x2 <= 1000.

    picture: its number in the conversation, from 1, where the text names one; else 0.
    """

    label: str
    x1: float
    y1: float
    x2: float
    y2: float
    picture: int = 0

    def pixels(self, width: int, height: int) -> Tuple[float, float, float, float]:
        """(x1, y1, x2, y2) on the picture at this size."""
        return self.x1 * width / 1000, self.y1 * height / 1000, self.x2 * width / 1000, self.y2 * height / 1000


_NUMBER = r" *(-?\d+) *"
_CORNERS = re.compile(rf" *\({_NUMBER},{_NUMBER}\) *, *\({_NUMBER},{_NUMBER}\) *")
_MARKED = re.compile(r"<\|object_ref_start\|>((?:(?!<\|object_ref_start\|>).)*?)<\|object_ref_end\|>"
                     r"|<\|box_start\|>((?:(?!<\|box_start\|>).)*?)<\|box_end\|>", re.S)
_PICTURE = re.compile(r"(?<![a-z])(?:picture|image|photo|figure|图片|图像|图)[ #]{0,2}(\d+)", re.I)


def boxes_of(marked: str) -> List[Box]:
    """The boxes of a text with its control tokens shown, in Qwen2-VL's format; what is no box is left out."""
    boxes: List[Box] = []
    label, picture, past = "", 0, 0
    for match in _MARKED.finditer(marked):
        for named in _PICTURE.finditer(marked[past:match.start()]):
            picture = int(named[1])
        past = match.end()
        if match[1] is not None:
            label = match[1]
            continue
        corners = _CORNERS.fullmatch(match[2])
        if corners is not None:
            x, y, x_, y_ = (float(min(max(int(value), 0), 1000)) for value in corners.groups())
            boxes.append(Box(label, min(x, x_), min(y, y_), max(x, x_), max(y, y_), picture))
    return boxes


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer; `str(answer)` is its text. In a notebook it shows itself, with its boxes on the picture."""

    text: str
    tokens: List[int]
    finish_reason: str
    timings: Timings
    boxes: List[Box]
    #: For each token those that were likeliest, best first; empty unless n_top_logprobs was given.
    logprobs: List[List[TokenLogprob]]
    pictures: Sequence[Picture] = dataclasses.field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def _boxes_on(self, number: int) -> List[Box]:
        """Those of a picture, and those of none, which may be anywhere."""
        return [box for box in self.boxes if box.picture == number or not 1 <= box.picture <= len(self.pictures)]

    def _repr_html_(self) -> str:
        figures = []
        for number, picture in enumerate(self.pictures, 1):
            url = picture.data_url()
            if url is None:
                continue
            marks = "".join(
                f'<div title="{html.escape(box.label)}" style="position:absolute;box-sizing:border-box;border:2px solid '
                f'#e33;left:{box.x1 / 10:g}%;top:{box.y1 / 10:g}%;width:{(box.x2 - box.x1) / 10:g}%;'
                f'height:{(box.y2 - box.y1) / 10:g}%"></div>' for box in self._boxes_on(number))
            figures.append(f'<div style="position:relative;display:inline-block;margin:0 8px 8px 0"><img src="{url}" '
                           f'style="display:block;max-width:480px;min-width:96px">{marks}</div>')
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
        for box in self._boxes_on(number):
            x1, y1, x2, y2 = box.pixels(width, height)
            pen.rectangle((x1, y1, x2, y2), outline=(227, 51, 51), width=2)
            pen.text((x1 + 4, y1 + 3), box.label, fill=(227, 51, 51))
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
