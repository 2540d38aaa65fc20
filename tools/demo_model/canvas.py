"""A picture with a second, hidden one beside it that says which object covers each pixel."""
import dataclasses
import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from words import CHARS, COLOUR_NAMES, COLOURS, KINDS, SHAPES, find_fonts

SCALE = 2  # everything is drawn at twice the size and averaged
_fonts = {}
_paths = []


def font(index, size):
    if not _paths:
        _paths.extend(find_fonts())
    key = (index, size)
    if key not in _fonts:
        if len(_fonts) > 4000:
            _fonts.clear()
        _fonts[key] = ImageFont.truetype(_paths[index], size)
    return _fonts[key]


@functools.lru_cache(maxsize=256)
def ink_box(font_index, size, text):
    """(left, top, right, bottom) of the ink of a text, drawn at (0, 0) in a font of `size` pixels."""
    return font(font_index, size).getbbox(text)


@functools.lru_cache(maxsize=100_000)
def advance(font_index, size, char):
    return font(font_index, size).getlength(char)


def jitter(rng, name, by=22):
    """A colour that still bears that name: the greys move together, lest they become tinted."""
    if name in ("black", "white", "gray"):
        shift = rng.randint(-by, by)
        return tuple(max(0, min(255, c + shift + rng.randint(-5, 5))) for c in COLOURS[name])
    return tuple(max(0, min(255, c + rng.randint(-by, by))) for c in COLOURS[name])


def contrast(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


@dataclasses.dataclass
class Thing:
    """Something drawn. box: x1, y1, x2, y2 in pixels. A character knows the text that it belongs to (`line`, the `row`-th
    of the picture) and its place in it (`index`); a bar has its label for a line. `link` is what a table or chart puts
    beside it: the value of a name, the name of a value."""
    kind: int
    colour: int
    char: int
    box: tuple
    radius: float = 0.0
    line: str = ""
    row: int = 0
    index: int = 0
    link: str = ""


class Canvas:
    """Draws with pixel coordinates of the final picture. `objects` has one Thing per drawn thing; index() holds 1 + its
    number for each pixel, 0 for background."""

    def __init__(self, width, height, background):
        """background: (name of its colour, its RGB)"""
        self.width, self.height = width, height
        self.background_colour, self.background = 1 + COLOUR_NAMES.index(background[0]), background[1]
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), self.background)
        self.draw = ImageDraw.Draw(self.image)
        self.label = Image.new("L", self.image.size, 0)
        self.label_draw = ImageDraw.Draw(self.label)
        self.objects = []

    def add(self, kind, colour, char, box, **more):
        if len(self.objects) >= 254:
            return 0
        self.objects.append(Thing(KINDS.index(kind), 1 + COLOUR_NAMES.index(colour),
                                  1 + CHARS.index(char) if char in CHARS and char else 0, box, **more))
        return len(self.objects)

    def polygon(self, points, fill, label):
        points = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.polygon(points, fill=fill)
        if label:
            self.label_draw.polygon(points, fill=label)

    def shape(self, shape, colour, fill, cx, cy, r, angle):
        """A shape of radius r (half the side of its upright square). Returns its bounding box."""
        points = outline(shape, cx, cy, r, angle)
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        box = (min(xs), min(ys), max(xs), max(ys))
        label = self.add(shape, colour, "", box, radius=r)
        if shape == "ring":
            self.draw.ellipse([v * SCALE for v in box], outline=fill, width=max(2, int(r * SCALE * 0.42)))
            self.label_draw.ellipse([v * SCALE for v in box], fill=label)
        else:
            self.polygon(points, fill, label)
        return box

    def rectangle(self, kind, colour, fill, box, **more):
        label = self.add(kind, colour, "", box, **more)
        scaled = [v * SCALE for v in box]
        self.draw.rectangle(scaled, fill=fill)
        self.label_draw.rectangle(scaled, fill=label)

    def line(self, points, fill, width=1):
        self.draw.line([(x * SCALE, y * SCALE) for x, y in points], fill=fill, width=int(width * SCALE))

    def text_size(self, text, font_index, size):
        box = ink_box(font_index, int(size * SCALE), text)
        return box[2] / SCALE, box[3] / SCALE, box[1] / SCALE

    def text(self, x, y, text, colour, fill, font_index, size, **more):
        """Text whose ink starts at (x, y). Returns the bounding box of the ink."""
        pixels = int(size * SCALE)
        left, top, right, bottom = ink_box(font_index, pixels, text)
        ox, oy = x * SCALE - left, y * SCALE - top
        self.draw.text((ox, oy), text, fill=fill, font=font(font_index, pixels))
        end = ox
        for i, char in enumerate(text):
            start, end = end, end + advance(font_index, pixels, char)
            if char == " ":
                continue
            cell = (start, oy + top, end - 1, oy + bottom)
            label = self.add("text", colour, char, tuple(v / SCALE for v in cell), line=text, index=i, **more)
            self.label_draw.rectangle(cell, fill=label)
        return x, y, x + (right - left) / SCALE, y + (bottom - top) / SCALE

    def rotate(self, degrees):
        """Turns the whole picture around its middle; what comes in from outside is background."""
        self.image = self.image.rotate(degrees, Image.BICUBIC, fillcolor=self.background)
        self.label = self.label.rotate(degrees, Image.NEAREST, fillcolor=0)

    def finish(self, nrng, noise=0.0):
        """The RGB picture at its final size, with Gaussian noise of that standard deviation."""
        image = self.image.reduce(SCALE)
        if noise > 0:
            a = np.asarray(image, dtype=np.float32)
            a = a + nrng.standard_normal(a.shape, dtype=np.float32) * noise
            image = Image.fromarray(np.clip(a + 0.5, 0, 255).astype(np.uint8))
        return image

    def index(self, columns, rows):
        """(rows, columns) object numbers at the centres of that grid."""
        return np.asarray(self.label.resize((columns, rows), Image.NEAREST))


def outline(shape, cx, cy, r, angle):
    """Corner points of a shape that fills the square of half side r around (cx, cy), turned by `angle` radians."""
    def turned(points):
        c, s = math.cos(angle), math.sin(angle)
        return [(cx + r * (x * c - y * s), cy + r * (x * s + y * c)) for x, y in points]

    around = lambda n, start=0.0: [(math.sin(start + 2 * math.pi * i / n), -math.cos(start + 2 * math.pi * i / n))
                                   for i in range(n)]
    if shape in ("circle", "ring"):
        return turned(around(40))
    if shape == "square":
        return turned([(-.87, -.87), (.87, -.87), (.87, .87), (-.87, .87)])
    if shape == "triangle":
        return turned([(0, -1), (.95, .75), (-.95, .75)])
    if shape == "diamond":
        return turned([(0, -1.1), (.68, 0), (0, 1.1), (-.68, 0)])
    if shape == "cross":
        a = .34
        return turned([(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a),
                       (-a, -a)])
    if shape == "star":
        outer, inner = around(5), around(5, math.pi / 5)
        return turned([p for o, i in zip(outer, inner) for p in ((o[0] * 1.1, o[1] * 1.1), (i[0] * .46, i[1] * .46))])
    assert shape == "heart", shape
    ts = [2 * math.pi * i / 36 for i in range(36)]
    return turned([(16 * math.sin(t) ** 3 / 16,
                    -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15 - .15)
                   for t in ts])


assert set(SHAPES) <= set(KINDS)
