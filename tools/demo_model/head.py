"""The head that reads the dense targets of targets.py off the encoder's last hidden state. It is used in training alone: it
teaches the encoder to see long before the decoder has learned to ask."""
import torch
import torch.nn.functional as F

from targets import CLASSES, FACTS, LINE, LINK, POINTS, UNTOLD
from words import CHARS

LETTERS = 1 + len(CHARS)
N = POINTS * POINTS
WHAT = list(CLASSES[:2])
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
    if not len(target):
        return logits.sum() * 0
    each = F.cross_entropy(logits.float(), target, reduction="none")
    weight = torch.where(target > 0, 1.0, 0.25)
    return (each * weight).sum() / weight.sum()


def sides_loss(logits, boxes):
    """Cross entropy of (..., SIDE) logits to bells around the sides of boxes (...) in [0, 1]: a neighbour is nearly right,
    and a linear layer that must draw bells finds places that a decoder can turn into digits."""
    steps = torch.arange(SIDE, device=boxes.device) + .5
    bell = (-.5 * ((boxes[..., None] * SIDE - steps) / BELL) ** 2).softmax(-1)
    return -(bell * logits.float().log_softmax(-1)).sum(-1).mean() if len(boxes) else logits.sum() * 0


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
        targets = self.targets(batch, index, device)
        total = 0.0
        for name, logits in self.logits(hidden).items():
            logits, target = logits.flatten(0, 1), targets[name].flatten()
            if name in FACTS:
                known = target != UNTOLD
                total = total + (F.cross_entropy(logits[known].float(), target[known]) / 6 if known.any() else 0)
            else:
                total = total + (2 if name == "line" else 1) * weighted(logits, target)
        solid, boxes = self.boxes(batch, index, device)
        return total + sides_loss(self.sides(hidden[solid]).unflatten(-1, (4, SIDE)), boxes)

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
    """(index of the patches that show something, index of their hidden states): the same numbers, patches in a row."""
    index = (batch["has"].to(device).flatten() > 0).nonzero()[:, 0]
    return index, index


def things_of_cells(batch, device):
    """A merged cell is asked about its upper and its lower pair of patches, the left one first: (index of the patch,
    index into the cells' halves in a row) where there is something."""
    has = (batch["has"].to(device).flatten() > 0).reshape(-1, 2)  # halves of cells, left and right
    half = has.any(-1).nonzero()[:, 0]
    return half * 2 + (~has[half, 0]).long(), half


def as_read(merged):
    """Merged cells as the decoder's first layer sees them."""
    return F.rms_norm(merged.float(), merged.shape[-1:])


class DenseHead(torch.nn.Module):
    """Linear layers from the encoder's width, and from that of the merged cells that the decoder gets."""

    def __init__(self, width, merged_width):
        super().__init__()
        self.points = torch.nn.Linear(width, N * sum(CLASSES))
        self.place = torch.nn.Linear(width, 4 + 2)  # the box, the patch's own place
        self.patch = ThingHead(width)
        self.cell = torch.nn.ModuleList([ThingHead(merged_width), ThingHead(merged_width)])  # upper and lower half
        self.here = torch.nn.Linear(merged_width, 2 * LINE * LETTERS)  # the letters in each half of a cell
        self.said = torch.nn.Linear(merged_width, SIDE)  # the side of a box that the decoder is about to say: see lessons.py

    def at_points(self, hidden):
        """(..., width) -> logits of CLASSES, each (..., points, classes)."""
        return self.points(hidden).unflatten(-1, (N, sum(CLASSES))).split(CLASSES, -1)

    def of_things(self, hidden, merged, batch, device):
        """(head, its input, index of the patches it is asked about) of patches and of halves of cells."""
        index, _ = things_of_patches(batch, device)
        yield self.patch, hidden.flatten(0, 1)[index], index
        index, half = things_of_cells(batch, device)
        for lower, head in enumerate(self.cell):
            mine = half % 2 == lower
            yield head, merged.flatten(0, 1)[half[mine] // 2], index[mine]

    def letters(self, merged, batch, device):
        """(logits (cells * 2, LINE, LETTERS), targets) of the letters in the halves of the cells."""
        return self.here(merged).unflatten(-1, (2, LINE, LETTERS)).flatten(0, 2), batch["here"].to(device).flatten(0, 1).long()

    def loss(self, hidden, merged, batch, device):
        """hidden (pictures, patches, width), merged (pictures, cells, merged width). Returns (loss of the points, of the
        things, of the boxes)."""
        merged = as_read(merged)
        labels = batch["labels"].to(device).long()
        points = sum(weighted(logits.flatten(0, -2), labels[..., i].flatten())
                     for i, logits in enumerate(self.at_points(hidden)))
        told = sum(head.loss(x, batch, index, device) for head, x, index in self.of_things(hidden, merged, batch, device))
        logits, target = self.letters(merged, batch, device)
        if target.any():
            told = told + 4 * weighted(logits.flatten(0, 1), target.flatten())
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
        logits, target = self.letters(merged, batch, device)
        out["cell letter"] = ((logits.argmax(-1) == target) & (target > 0)).sum(), (target > 0).sum()
        for head, x, index in self.of_things(hidden, merged, batch, device):
            before = "" if head is self.patch else "cell "
            for name, (a, b) in head.right(x, batch, index, device).items():
                a0, b0 = out.get(before + name, (0, 0))
                out[before + name] = a0 + a, b0 + b
        return {name: (int(a), int(b)) for name, (a, b) in out.items()}
