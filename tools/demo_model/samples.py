"""One training or held-out example from (split, kind, size, seed): pictures, dense targets, questions."""
import io
import random

import numpy as np
from PIL import Image

import reading
import scenes
from scenes import Asker, cap, draw, name, pick_background, place
from words import load_words

UNIT = 28  # pixels per merged token
_words = {}


def words_for(split):
    """(list, is held out)"""
    if not _words:
        _words["train"], _words["heldout"] = load_words()
        _words["vocabulary"] = _words["train"]
    return _words[split], split == "heldout"


class Picture:
    """image: PIL, RGB, any size. canvas: what was drawn, for the dense targets."""

    def __init__(self, rng, nrng, canvas):
        image = canvas.finish(nrng, rng.uniform(2, 14) if rng.random() < .35 else 0)
        self.jpeg_quality = rng.randint(40, 92) if rng.random() < .3 else 0
        if self.jpeg_quality:
            image = Image.open(io.BytesIO(jpeg_bytes(image, self.jpeg_quality))).convert("RGB")
        self.image, self.canvas = image, canvas


def jpeg_bytes(image, quality):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def pixel_size(rng, grid, exact=False):
    """A size that smart_resize maps to `grid` merged tokens (rows, columns); two of three are that size exactly."""
    if exact or rng.random() < .67:
        return grid[1] * UNIT, grid[0] * UNIT
    return grid[1] * UNIT + rng.randint(-12, 12), grid[0] * UNIT + rng.randint(-12, 12)


def scene(rng, nrng, width, height, split, level):
    most = 6 if level > 0 else 4
    background = pick_background(rng)
    count = rng.randint(1, most)
    objects = place(rng, width, height, count, background)
    canvas = draw(rng, width, height, background, objects)
    asker = Asker(rng, width, height, background, objects)
    kinds = [asker.describe, asker.colour, asker.shape, asker.count, asker.yes_no, asker.position, asker.size, asker.box,
             asker.followup, asker.unknown]
    weights = [1, 1.3, 1, 2, 1.6, 2, 1, 2.2, .6, .35]
    questions, seen = [], set()
    for _ in range(24):
        q = rng.choices(kinds, weights)[0]()
        if q and q[0][-1][0] not in seen:
            seen.add(q[0][-1][0])
            questions.append(q)
    return [Picture(rng, nrng, canvas)], questions


def compare(rng, nrng, width, height, split, level):
    """Two scenes of the same size; half the time the second is a copy of the first, perhaps with one change."""
    background = pick_background(rng)
    objects = place(rng, width, height, rng.randint(1, 4), background)
    same = rng.random() < .45
    if rng.random() < .75 or same:
        others = [dict(o) for o in objects]
        if not same and others:
            o = rng.choice(others)
            change = rng.random()
            if change < .45:
                options = [c for c in scenes.COLOUR_NAMES if c not in (o["colour"], background[0]) and
                           scenes.contrast(scenes.COLOURS[c], background[1]) > 90]
                o["colour"] = rng.choice(options)
                o["fill"] = scenes.jitter(rng, o["colour"], 10)
            elif change < .75 or len(others) == 1:
                o["shape"] = rng.choice([s for s in scenes.SHAPES if s != o["shape"]])
            else:
                others.remove(o)
    else:
        others = place(rng, width, height, rng.randint(1, 4), background)
    first, second = (draw(rng, width, height, background, x) for x in (objects, others))
    key = lambda xs: sorted((name(o), round(o["x"]), round(o["y"])) for o in xs)
    same = key(objects) == key(others)
    questions = [([(rng.choice(["Are the two pictures the same?", "Are these pictures equal?",
                                "Do both pictures show the same?"]), "Yes" if same else "No")], "compare")]
    if len(objects) != len(others):
        questions.append(([("Which picture has more shapes?", "First" if len(objects) > len(others) else "Second")],
                          "compare"))
    a, b = {name(o) for o in objects}, {name(o) for o in others}
    for group, answer in ((a - b, "First"), (b - a, "Second"), (a & b, "Both")):
        if group:
            n = rng.choice(sorted(group))
            questions.append(([(f"Which picture has {'an' if n[0] == 'o' else 'a'} {n}?", answer)], "compare"))
    for word, xs in (("first", objects), ("second", others)):
        questions.append(([(f"How many shapes are in the {word} picture?", str(len(xs)))], "compare"))
    rng.shuffle(questions)
    return [Picture(rng, nrng, first), Picture(rng, nrng, second)], questions


def read(maker):
    def make(rng, nrng, width, height, split, level):
        canvas, questions = maker(rng, width, height, words_for(split))
        return [Picture(rng, nrng, canvas)], questions
    return make


KINDS = {"scene": scene, "compare": compare, "text": read(reading.text_picture), "chart": read(reading.chart_picture),
         "table": read(reading.table_picture)}
SEEN = {"page": read(reading.page_picture)}  # without questions
# Merged rows x columns of the pictures of each kind.
GRIDS = {"scene": [(4, 4), (4, 5), (5, 4), (5, 5), (3, 5), (4, 6), (6, 4), (5, 6), (6, 6), (6, 8), (8, 6)],
         "compare": [(4, 4), (3, 4)],
         "text": [(2, 5), (2, 6), (3, 5), (4, 4), (4, 5), (5, 5), (2, 7), (3, 4), (3, 8)],
         "chart": [(4, 4), (4, 5), (5, 5), (4, 6)], "table": [(4, 4), (5, 4), (4, 5), (5, 5)]}
SEEN_GRIDS = GRIDS | {"page": [(4, 4), (4, 5), (3, 5), (5, 5), (2, 6)]}


def make(split, kind, grid, seed, level=1, exact=False):
    """(pictures, questions). The same arguments give the same example everywhere."""
    rng = random.Random(f"{split}/{kind}/{grid[0]}x{grid[1]}/{seed}/{level}")
    nrng = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
    width, height = pixel_size(rng, grid, exact)
    return (KINDS | SEEN)[kind](rng, nrng, width, height, split, level)


assert cap
