"""The head that reads the dense targets of targets.py off the encoder's last hidden state. It is used in training alone: it
teaches the encoder to see long before the decoder has learned to ask."""
import torch
import torch.nn.functional as F

from targets import AHEAD, CLASSES, FACTS, LINE, LINK, POINTS, ROWS, UNTOLD
from words import CHARS

LETTERS = 1 + len(CHARS)
N = POINTS * POINTS
WHAT = list(CLASSES[:2])
HARD = ("same_kind", "same_colour", "rank_size", "radius")  # facts that are learned last
SIDE, BELL = 100, 1.5  # steps of a side of a box, as it is said; the width of the bell around the right one, in steps


def patch_coordinates(grid, device):
    """(patches, 2) row and column of each patch, in the encoder's order."""
    gh, gw = grid
    r, c = torch.arange(gh * 2, device=device), torch.arange(gw * 2, device=device)
    rc = torch.stack(torch.meshgrid(r, c, indexing="ij"), -1)
    return rc.reshape(gh, 2, gw, 2, 2).transpose(1, 2).reshape(-1, 2)


def patch_places(grid, device):
    return (patch_coordinates(grid, device).float() + .5) / torch.tensor([grid[0] * 2, grid[1] * 2], device=device)


def weighted(logits, target):
    """Cross entropy in which class 0 (background, or nothing more) counts less: it is most of what there is."""
    each = F.cross_entropy(logits.float(), target, reduction="none")
    weight = torch.where(target > 0, 1.0, 0.25)
    return (each * weight).sum() / weight.sum()


def known_facts(logits, target):
    """Cross entropy of those that are told: logits (n, classes), target (n)."""
    known = target != UNTOLD
    each = F.cross_entropy(logits.float(), torch.where(known, target, 0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def sides_loss(logits, boxes, count=None):
    """Cross entropy of (..., SIDE) logits to bells around the sides of boxes (...) in [0, 1]: a neighbour is nearly right,
    and a linear layer that must draw bells finds places that a decoder can turn into digits. count (...): 0 or 1, which of
    them count."""
    steps = torch.arange(SIDE, device=boxes.device) + .5
    bell = (-.5 * ((boxes[..., None] * SIDE - steps) / BELL) ** 2).softmax(-1)
    each = -(bell * logits.float().log_softmax(-1)).sum(-1)
    return each.mean() if count is None else (each * count).sum() / count.expand(each.shape).sum().clamp(min=1)


def overlaps(a, b):
    """Intersection over union of boxes (n, 4)."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    return inner / ((a[:, 2:] - a[:, :2]).clamp(min=0).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - inner)


class ThingHead(torch.nn.Module):
    """What can be said of one thing: kind, colour, box, text, what stands beside it, facts."""

    def __init__(self, width):
        super().__init__()
        self.sides = torch.nn.Linear(width, 4 * SIDE)
        self.what = torch.nn.Linear(width, sum(WHAT))
        self.line = torch.nn.Linear(width, LINE * LETTERS)
        self.link = torch.nn.Linear(width, LINK * LETTERS)
        self.facts = torch.nn.Linear(width, sum(FACTS.values()))

    def logits(self, hidden):
        """(n, width) -> {name: (n, values, classes)} of kind, colour, line, link and FACTS."""
        kind, colour = self.what(hidden).split(WHAT, -1)
        out = {"kind": kind[:, None], "colour": colour[:, None], "line": self.line(hidden).unflatten(-1, (LINE, LETTERS)),
               "link": self.link(hidden).unflatten(-1, (LINK, LETTERS))}
        return out | {name: x[:, None] for name, x in zip(FACTS, self.facts(hidden).split(list(FACTS.values()), -1))}

    @staticmethod
    def targets(batch, index, device):
        """The same of the patches `index` of all pictures' patches in a row, (n, values)."""
        pick = lambda name: batch[name].to(device).flatten(0, 1)[index].long()
        what, facts = pick("what"), pick("facts")
        out = {"kind": what[:, :1], "colour": what[:, 1:], "line": pick("line"), "link": pick("link")}
        return out | {name: facts[:, i:i + 1] for i, name in enumerate(FACTS)}

    def loss(self, hidden, batch, index, device):
        """hidden (n, width): what is told of the n patches `index`, of which there is at least one."""
        pick = lambda name: batch[name].to(device).flatten(0, 1)[index]
        solid = (batch["has"].to(device).flatten()[index] == 2).float()
        return things_loss(self, hidden, self.targets(batch, index, device), pick("boxes"), solid)

    @staticmethod
    def boxes(batch, index, device):
        """(which of the patches `index` show a shape or bar, its box (., 4))"""
        solid = batch["has"].to(device).flatten()[index] == 2
        return solid, batch["boxes"].to(device).flatten(0, 1)[index[solid]]

    def right(self, hidden, batch, index, device):
        """{name: (right, of)}; texts only as a whole."""
        targets, out = self.targets(batch, index, device), {}
        for name, logits in self.logits(hidden).items():
            target = targets[name]
            known = (target != UNTOLD).all(-1) if name in FACTS else (target > 0).any(-1)
            out[name] = ((logits.argmax(-1) == target).all(-1) & known).sum(), known.sum()
        solid, boxes = self.boxes(batch, index, device)
        said = (self.sides(hidden[solid]).unflatten(-1, (4, SIDE)).argmax(-1) + .5) / SIDE
        out["box"] = (overlaps(said, boxes) >= .7).sum(), solid.sum()
        return out


def things_of_patches(batch, device):
    """Index of the patches that show something, patches of all pictures in a row."""
    return (batch["has"].to(device).flatten() > 0).nonzero()[:, 0]


def things_of_cells(batch, device):
    """A merged cell is asked about its upper and its lower pair of patches, the left one first: (index of the patch,
    index into the cells' halves in a row) where there is something."""
    has = (batch["has"].to(device).flatten() > 0).reshape(-1, 2)  # halves of cells, left and right
    half = has.any(-1).nonzero()[:, 0]
    return half * 2 + (~has[half, 0]).long(), half


def in_steps(index, step):
    """index, filled up to a multiple of `step` with a second turn of its own entries: kernels for matrix products are made
    for each number of rows that occurs, which costs more than the product."""
    n = len(index)
    return index[torch.arange(-(-n // step) * step, device=index.device) % n] if n else index


def as_read(merged):
    """Merged cells as the decoder's first layer sees them."""
    return F.rms_norm(merged.float(), merged.shape[-1:])


def things_loss(head, hidden, targets, boxes, solid):
    """The loss of a ThingHead; boxes (n, 4) count where solid (n) is 1."""
    total = sides_loss(head.sides(hidden).unflatten(-1, (4, SIDE)), boxes, solid[:, None])
    for name, logits in head.logits(hidden).items():
        logits, target = logits.flatten(0, 1), targets[name].flatten()
        if name in FACTS:
            total = total + known_facts(logits, target) * (.6 if name in HARD else 1 / 6)
        else:
            total = total + (2 if name == "line" else 1) * weighted(logits, target)
    return total


def points_loss(head, hidden, labels):
    """Of a DenseHead's points: hidden (pictures, patches, width), labels (pictures, patches, points, CLASSES)."""
    return sum(weighted(logits.flatten(0, -2), labels[..., i].flatten()) for i, logits in enumerate(head.at_points(hidden)))


def letters_loss(head, merged, target):
    """Of a DenseHead's letters in the halves of cells."""
    return weighted(head.letters(merged).flatten(0, 1), target.flatten())


def speed_up():
    """Lets torch compile the losses from here on."""
    global things_loss, points_loss, letters_loss
    things_loss, points_loss, letters_loss = (torch.compile(f, dynamic=True) for f in (things_loss, points_loss, letters_loss))


class DenseHead(torch.nn.Module):
    """Linear layers from the encoder's width, and from that of the merged cells that the decoder gets."""

    def __init__(self, width, merged_width):
        super().__init__()
        self.points = torch.nn.Linear(width, N * sum(CLASSES))
        self.place = torch.nn.Linear(width, 4 + 2)  # the box, the patch's own place
        self.patch = ThingHead(width)
        self.cell = torch.nn.ModuleList([ThingHead(merged_width), ThingHead(merged_width)])  # upper and lower half
        self.here = torch.nn.Linear(merged_width, 2 * LINE * LETTERS)  # the letters in each half of a cell
        self.background = torch.nn.Linear(merged_width, WHAT[1])  # the colour of the background, told by every cell
        # Inside the decoder, see lessons.py: the side of a box that it is about to say; what it compares of two things;
        # in which line and where in it the next letter stands; this letter and those behind it.
        self.said = torch.nn.Linear(merged_width, SIDE)
        self.compared = torch.nn.Linear(merged_width, 2 * SIDE)
        self.spelled_at = torch.nn.Linear(merged_width, ROWS * (1 + LINE))
        self.spelled = torch.nn.Linear(merged_width, AHEAD * LETTERS)

    def at_points(self, hidden):
        """(..., width) -> logits of CLASSES, each (..., points, classes)."""
        return self.points(hidden).unflatten(-1, (N, sum(CLASSES))).split(CLASSES, -1)

    def of_things(self, hidden, merged, batch, device, step=1):
        """(head, its input, index of the patches it is asked about) of patches and of halves of cells; step: see in_steps."""
        index = in_steps(things_of_patches(batch, device), step)
        yield self.patch, hidden.flatten(0, 1)[index], index
        index, half = things_of_cells(batch, device)
        for lower, head in enumerate(self.cell):
            mine = in_steps((half % 2 == lower).nonzero()[:, 0], step)
            yield head, merged.flatten(0, 1)[half[mine] // 2], index[mine]

    def letters(self, merged):
        """Logits (cells * 2, LINE, LETTERS) of the letters in the halves of the cells; batch["here"] has the targets."""
        return self.here(merged).unflatten(-1, (2, LINE, LETTERS)).flatten(0, 2)

    def backgrounds(self, merged, batch, device):
        """(logits (cells, colours), targets) of the background, told by all cells in a row."""
        target = batch["background"].to(device).long().expand(merged.shape[:2])
        return self.background(merged).flatten(0, 1), target.flatten()

    def loss(self, hidden, merged, batch, device):
        """hidden (pictures, patches, width), merged (pictures, cells, merged width). Returns (loss of the points, of the
        things, of the boxes)."""
        merged = as_read(merged)
        points = points_loss(self, hidden, batch["labels"].to(device).long())
        told = sum(head.loss(x, batch, index, device) for head, x, index in self.of_things(hidden, merged, batch, device, 128)
                   if len(index))
        logits, target = self.backgrounds(merged, batch, device)
        told = told + F.cross_entropy(logits.float(), target)
        here = batch["here"].to(device).flatten(0, 1).long()
        if here.any():
            told = told + 4 * letters_loss(self, merged, here)
        solid = (batch["has"].to(device) == 2).float()[..., None]
        rest = self.place(hidden).float()
        box = (torch.abs(rest[..., :4] - batch["boxes"].to(device)) * solid).sum() / (4 * solid.sum() + 1)
        place = torch.abs(rest[..., 4:] - patch_places(batch["grid"], device)).mean()
        return points, told, box + place

    @torch.no_grad()
    def right(self, hidden, merged, batch, device):
        """{name: (right, of)} of letters at the points, of things as the patches tell them, and, after "cell ", of things as
        the cells tell them."""
        merged = as_read(merged)
        labels, out = batch["labels"].to(device), {}
        target = labels[..., 2]
        out["letter"] = ((self.at_points(hidden)[2].argmax(-1) == target) & (target > 0)).sum(), (target > 0).sum()
        logits, target = self.letters(merged), batch["here"].to(device).flatten(0, 1)
        out["cell letter"] = ((logits.argmax(-1) == target) & (target > 0)).sum(), (target > 0).sum()
        logits, target = self.backgrounds(merged, batch, device)
        out["cell background"] = (logits.argmax(-1) == target).sum(), torch.tensor(len(target))
        for head, x, index in self.of_things(hidden, merged, batch, device):
            before = "" if head is self.patch else "cell "
            for name, (a, b) in head.right(x, batch, index, device).items():
                a0, b0 = out.get(before + name, (0, 0))
                out[before + name] = a0 + a, b0 + b
        return {name: (int(a), int(b)) for name, (a, b) in out.items()}
