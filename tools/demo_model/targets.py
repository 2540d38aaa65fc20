"""What the vision encoder is told about each patch while it learns: what is drawn there, and the answers that the decoder
will have to give about it, in the form in which it will have to give them.

A patch has POINTS x POINTS points with kind, colour, letter and the letter's place in its text; and one thing, that at its
middle or else at a point: the thing's text and what a table or chart puts beside it, letter by letter, and FACTS."""
import math

import numpy as np

from words import CHARS, COLOUR_NAMES, KINDS

POINTS = 2  # per side of a patch
LINE, LINK = 8, 5  # letters kept of a text, and of what stands beside it
ROWS, AHEAD = 2, 3  # lines of a picture to read; letters that the decoder is taught to know before it says the next one
CLASSES = (len(KINDS), 1 + len(COLOUR_NAMES), 1 + len(CHARS), 1 + LINE)  # of a point: kind, colour, letter, its place
MOST = 7  # classes of a rank or number: 0 to 6
# Digits of the box as it is said in tens of thousandths; thirds of the picture; ranks among the shapes or bars from the
# left, from above and by size; how many there are, of its shape, of its colour; the radius of a shape, in steps of 15 %.
DIGITS = [f"{side}{digit}" for side in ("x1", "y1", "x2", "y2") for digit in ("tens", "ones")]
FACTS = dict.fromkeys(DIGITS, 10) | {"across": 3, "down": 3} | dict.fromkeys(
    ["rank_x", "rank_y", "rank_size", "number", "same_kind", "same_colour"], MOST) | {"radius": 12}
UNTOLD = 255  # this fact is not learned here
NONE, TEXT = KINDS.index("none"), KINDS.index("text")


def merge_order(a, grid, side):
    """(rows * side, columns * side, ...) in raster order -> (merged cells, 4 patches, ...) for side = 2, the order of the
    vision encoder; with side = 2 * POINTS the points of a patch come last, as (cells * 4, POINTS * POINTS)."""
    gh, gw = grid
    inner = side // 2
    rest = a.shape[2:]
    a = a.reshape(gh, 2, inner, gw, 2, inner, *rest)
    a = a.transpose(0, 3, 1, 4, 2, 5, *range(6, 6 + len(rest)))
    return a.reshape(gh * gw * 4, inner * inner, *rest)


def spelled(text, letters):
    """Classes of the first letters of a text, 0 behind its end."""
    codes = [1 + CHARS.index(c) if c in CHARS else 0 for c in text[:letters]]
    return codes + [0] * (letters - len(codes))


def third(v):
    return 0 if v < .37 else 2 if v > .63 else 1


def ranks(values):
    """The place of each value in ascending order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    return [order.index(i) for i in range(len(values))]


def radius_step(share):
    """Class of a radius, given as a share of the picture's shorter side."""
    return max(0, min(FACTS["radius"] - 1, int(math.log(share / .08) / math.log(1.15))))


def facts_of(canvas):
    """(things, facts): classes of FACTS for each thing of the picture, UNTOLD where it has none."""
    things = canvas.objects
    out = np.full((len(things), len(FACTS)), UNTOLD, np.uint8)
    at = {name: i for i, name in enumerate(FACTS)}
    solid = [i for i, o in enumerate(things) if o.kind not in (NONE, TEXT)]
    bars = any(things[i].radius == 0 for i in solid)
    size = [things[i].box[3] - things[i].box[1] if bars else things[i].radius for i in solid]
    middles = [((things[i].box[0] + things[i].box[2]) / 2, (things[i].box[1] + things[i].box[3]) / 2) for i in solid]
    orders = [ranks([m[0] for m in middles]), ranks([m[1] for m in middles]), ranks(size)]
    for n, i in enumerate(solid):
        o = things[i]
        for side, v, whole in zip(("x1", "y1", "x2", "y2"), o.box, (canvas.width, canvas.height) * 2):
            # As in scenes.box_text.
            out[i, at[side + "tens"]], out[i, at[side + "ones"]] = divmod(max(0, min(99, int(round(v / whole * 100)))), 10)
        out[i, at["across"]], out[i, at["down"]] = third(middles[n][0] / canvas.width), third(middles[n][1] / canvas.height)
        for name, order in zip(("rank_x", "rank_y", "rank_size"), orders):
            out[i, at[name]] = min(MOST - 1, order[n])
        for name, number in (("number", len(solid)), ("same_kind", sum(things[j].kind == o.kind for j in solid)),
                             ("same_colour", sum(things[j].colour == o.colour for j in solid))):
            out[i, at[name]] = min(MOST - 1, number)
        if o.radius:
            out[i, at["radius"]] = radius_step(o.radius / min(canvas.width, canvas.height))
    rows = len({o.row for o in things if o.kind == TEXT})
    for i, o in enumerate(things):
        if o.kind == TEXT and not solid:
            out[i, at["rank_y"]], out[i, at["number"]] = min(MOST - 1, o.row), min(MOST - 1, rows)
    return out


def middles(canvas, grid):
    """The half of a merged cell, 2 * cell + (0 upper, 1 lower), in which the middle of each thing lies; -1 where it cannot be
    seen."""
    gh, gw = grid
    fine = POINTS * 7  # samples per side of a cell
    index = canvas.index(gw * fine, gh * fine)
    rows, columns = np.nonzero(index)
    thing = index[rows, columns]
    count = np.bincount(thing, minlength=256)
    row, column = ((np.bincount(thing, v, 256) / np.maximum(count, 1)) for v in (rows, columns))
    half = (row / fine * 2).astype(int)
    where = (half // 2 * gw + (column / fine).astype(int)) * 2 + half % 2
    return np.where(count > 0, where, -1)[1:len(canvas.objects) + 1]


def letters_of_halves(canvas, grid):
    """(cells * 2, LINE): the letters whose middles lie in the upper and lower half of each merged cell, each at its place in
    its text; 0 where it is not here."""
    out = np.zeros((grid[0] * grid[1] * 2, LINE), np.uint8)
    for o, half in zip(canvas.objects, middles(canvas, grid)):
        if half >= 0 and o.char and o.index < LINE:
            out[half, o.index] = o.char
    return out


def dense_targets(picture, grid):
    """A dict of arrays, all in the order of the encoder's patches:
    thing (patches): 1 + the number of the canvas's thing that the patch is about, or 0;
    labels (patches, POINTS^2, 4): CLASSES of the points;
    has (patches): 0 nothing is there, 1 a text, 2 a shape or bar;
    boxes (patches, 4): of the shape or bar, in [0, 1];
    what (patches, 2): kind and colour; line (patches, LINE), link (patches, LINK): letters, as in `labels`;
    facts (patches, FACTS): classes, UNTOLD where there is none;
    here (cells * 2, LINE): see letters_of_halves;
    background (1): its colour, which every cell is to tell."""
    canvas = picture.canvas
    side = 2 * POINTS
    points = merge_order(canvas.index(grid[1] * side, grid[0] * side), grid, side)
    things = canvas.objects
    table = np.array([(0, 0, 0, 0)] + [
        (o.kind, o.colour, o.char, min(LINE, 1 + o.index) if o.kind == TEXT else 0) for o in things], np.uint8)
    middle = merge_order(canvas.index(grid[1] * 2, grid[0] * 2), grid, 2)[:, 0]
    thing = np.where(middle > 0, middle, points.max(axis=1))
    whole = np.array([canvas.width, canvas.height] * 2, np.float32)
    boxes = np.array([(0, 0, 0, 0)] + [o.box for o in things], np.float32) / whole
    kinds = table[thing, 0]
    line = np.array([[0] * LINE] + [spelled(o.line, LINE) for o in things], np.uint8)
    link = np.array([[0] * LINK] + [spelled(o.link, LINK) for o in things], np.uint8)
    facts = np.concatenate((np.full((1, len(FACTS)), UNTOLD, np.uint8), facts_of(canvas)))
    return {"background": np.array([canvas.background_colour], np.uint8), "thing": thing.astype(np.uint8),
            "here": letters_of_halves(canvas, grid), "labels": table[points],
            "has": np.where(kinds == NONE, 0, np.where(kinds == TEXT, 1, 2)).astype(np.uint8),
            "what": table[thing, :2], "boxes": boxes[thing], "line": line[thing], "link": link[thing], "facts": facts[thing]}
