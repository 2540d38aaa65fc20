"""Where a question and its answer should look: for each of their tokens the merged cells that show what it speaks of, or
"nowhere", the token behind the last picture, where the picture has none of it. The decoder is taught to attend there (see
lessons.py), which it would find out by itself only after many times the pictures."""
import re

import numpy as np

from targets import LINE, TEXT, middles, spelled
from words import COLOUR_NAMES, ITEMS, KINDS, SHAPES

BAR = KINDS.index("bar")

NAME = re.compile(rf"\b(?:({'|'.join(COLOUR_NAMES)}) )?({'|'.join(SHAPES)}|bar)(?:e?s)?\b|"
                  rf"\b({'|'.join(COLOUR_NAMES)})\b(?! background)", re.IGNORECASE)
ROW = re.compile(rf"\b(?:{'|'.join(ITEMS)}|\d+)\b", re.IGNORECASE)
BACKGROUND = re.compile(r"\w+(?= background)")
BOX = re.compile(r"<\|box_start\|>(.*?)<\|box_end\|>")


def cells_of_things(canvas, thing):
    """(things, cells) bool: the cells that tell each thing of the picture. thing: that of each patch, 0 for none, as in
    targets.dense_targets; a cell tells what the left patch of its upper and lower half shows, or else the right one."""
    halves = thing.reshape(-1, 2, 2)
    told = np.where(halves[..., 0] > 0, halves[..., 0], halves[..., 1])
    number = np.arange(1, len(canvas.objects) + 1)[:, None, None]
    out = (told[None] == number).any(-1)
    hidden = ~out.any(-1)
    out[hidden] = (halves.reshape(len(halves), 4)[None] == number[hidden]).any(-1)
    return out


class Looks:
    """Of one example: `pictures`, the size of each in cells and the things of their patches. cells: those of all pictures in
    a row, and nowhere as the last one."""

    def __init__(self, pictures, grid, things):
        self.things = [(n, i, o) for n, p in enumerate(pictures) for i, o in enumerate(p.canvas.objects)]
        self.cells_of = [cells_of_things(p.canvas, t) for p, t in zip(pictures, things)]
        self.cells = sum(c.shape[1] for c in self.cells_of) + 1
        self.nowhere, self.anywhere = (np.arange(self.cells) == self.cells - 1), (np.arange(self.cells) < self.cells - 1)
        self.letters = {(o.row, o.index): np.arange(self.cells) == half // 2  # of pictures to read, which come alone
                        for (_, _, o), half in zip(self.things, middles(pictures[0].canvas, grid)) if o.kind == TEXT}
        self.rows = any(o.link and o.kind == TEXT for _, _, o in self.things)
        self.sizes = [(p.canvas.width, p.canvas.height) for p in pictures]

    def union(self, wanted):
        """(cells) bool: where the things are for which wanted(thing) holds."""
        out = np.zeros(self.cells, bool)
        start = 0
        for n, cells in enumerate(self.cells_of):
            for picture, i, o in self.things:
                if picture == n and wanted(o):
                    out[start:start + cells.shape[1]] |= cells[i]
            start += cells.shape[1]
        return out

    @staticmethod
    def named(match):
        """Whether a thing is one that a match of NAME speaks of."""
        colour, kind = match.group(1) or match.group(3), match.group(2)
        kind = kind and KINDS.index(kind.lower())
        colour = colour and 1 + COLOUR_NAMES.index(colour.lower())
        return lambda o: o.kind != TEXT and kind in (None, o.kind) and colour in (None, o.colour)

    def or_nowhere(self, cells):
        return cells if cells.any() else self.nowhere

    def names(self, text):
        """[(start, end, cells)] of what a text names."""
        if self.rows:
            return [(*m.span(), self.or_nowhere(self.union(lambda o, m=m: o.line.lower() == m.group().lower())))
                    for m in ROW.finditer(text)]
        return [(*m.span(), self.or_nowhere(self.union(self.named(m)))) for m in NAME.finditer(text)]

    def counted(self, question):
        """The cells of what is to be counted: what the question names, or else all shapes and bars, or rows."""
        named = [] if self.rows else self.names(question)
        if named:
            return np.logical_or.reduce([cells for _, _, cells in named])
        solid = self.union(lambda o: o.radius or o.kind == BAR)
        return self.or_nowhere(solid if solid.any() or not self.rows else self.union(lambda o: o.kind == TEXT))

    def lines(self, answer, task):
        """[(start, row, line)] of the picture's lines that an answer spells, from above."""
        found, at = [], 0
        if task == "ocr" or answer.startswith(("The word", "The number", "Two lines")):
            for row, line in sorted({(o.row, o.line) for _, _, o in self.things}):
                start = answer.find(line, at)
                if start >= 0:
                    at = start + len(line)
                    found.append((start, row, line))
        return found

    def spelled(self, lines):
        """names() of each letter of what lines() found."""
        return [(start + i, start + i + 1, self.letters[row, i]) for start, row, line in lines for i in range(len(line))
                if (row, i) in self.letters]

    def compared(self, question):
        """Of the two things that a question compares what it compares, in [0, 1]: how far from the left or from above, or how
        large; or None."""
        found = [[o for _, _, o in self.things if self.named(m)(o)] for m in NAME.finditer(question)]
        if len(self.sizes) > 1 or [len(x) for x in found] != [1, 1]:
            return None
        width, height = self.sizes[0]
        if re.search(r"\b(left|right)\b", question):
            return [(o.box[0] + o.box[2]) / 2 / width for (o,) in found]
        if re.search(r"\b(above|below)\b", question):
            return [(o.box[1] + o.box[3]) / 2 / height for (o,) in found]
        if re.search(r"\b(bigger|smaller)\b", question):
            return [min(1, 2 * o.radius / min(width, height)) for (o,) in found]
        return None

    def answer(self, question, answer, task, second=0):
        """[(start, end, cells)] of what the parts of an answer are read off by the first or second head that is shown its
        place. They differ where two things are compared: a mean over both would not tell which is where."""
        whole = 0, len(answer)
        if task in ("table", "chart"):
            asked = [m.group().lower() for m in ROW.finditer(question)]
            return [(*whole, self.union(lambda o: o.link.lower() in asked))] if self.rows and asked else []
        if task == "count":
            return [(*whole, self.counted(question))]
        if task == "colour" and "background" in question:
            return [(*whole, self.anywhere)]
        if task == "colour" and "the text" in question:
            return [(*whole, self.union(lambda o: o.kind == TEXT))]
        if task == "letter":
            last = max(index for _, index in self.letters)
            return [(*whole, self.letters[0, 0 if "first" in question else last])]
        grounds = [(*m.span(), self.anywhere) for m in BACKGROUND.finditer(answer)]
        spelled = self.lines(answer, task)
        if spelled or task == "ocr":
            return self.spelled(spelled) + grounds
        if (task in ("colour", "shape", "followup", "yesno", "compare") or task == "position" and not NAME.search(answer) or
                task == "size" and NAME.search(question)):  # to be compared, which comes before knowing the answer's place
            named = [cells for _, _, cells in self.names(question)]
            if len(named) == 2 and task != "followup":  # each with a head of its own
                return [(*whole, named[second])]
            return [(*whole, np.logical_or.reduce(named or [np.zeros(self.cells, bool)]))]
        if task == "describe":
            order = sorted((o for _, _, o in self.things if o.radius), key=lambda o: o.box[0] + o.box[2])
            spans = [m.span() for m in NAME.finditer(answer) if m.group(1) and m.group(2)]
            return [(*span, self.union(lambda o, one=one: o is one)) for span, one in zip(spans, order)] + grounds
        if answer.startswith("There is no "):
            return [(0, 1, self.nowhere)]
        if task in ("position", "size", "box"):
            named = self.names(answer)
            if task == "box":
                named += [(0, 1, cells) for _, _, cells in named]
            return named + [(*m.span(1), named[0][2]) for m in BOX.finditer(answer) if named]
        return []


def numbers_of_boxes(answer):
    """[(start, end, number)] of the coordinates in an answer."""
    return [(m.start(1) + d.start(), m.start(1) + d.end(), int(d.group())) for m in BOX.finditer(answer)
            for d in re.finditer(r"\d+", m.group(1))]


def spelling(lines, offsets, ahead):
    """(tokens + 1, 1 + ahead) of the tokens of an answer and of its end, with what lines() found: the place of the next
    letter, row * (1 + LINE) + its place in the line, and the classes of this letter and of those behind it, 0 behind the end
    of the line; -1 where no line is spelled and none has just ended."""
    out = np.full((len(offsets) + 1, 1 + ahead), -1, np.int64)
    end = offsets[-1][1]
    for start, row, line in lines:
        for i, (a, b) in enumerate(offsets + [(end, end)]):
            at = max(a, start) - start
            if at < len(line) and b > start or at == len(line):
                out[i] = [row * (1 + LINE) + min(at, LINE)] + spelled(line[at:], ahead)
    return out


def mark(spans, offsets, rows, shift, last_only):
    """Puts the cells of spans of a text, where they are any, into the rows of its tokens, moved by `shift`."""
    for start, end, cells in spans:
        if cells.any():
            inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
            for i in inside[-1:] if last_only else inside:
                rows[i + shift] |= cells
