"""What the decoder is taught inside its layers, beside its answers: where to attend (looks.py says where), and what it is
about to say in the form in which the cells tell it: the side of a box, what it compares of two things, letters."""
import torch
import torch.nn.functional as F

from head import SIDE, as_read, in_steps, sides_loss
from targets import AHEAD

# At layer LOOKS["names"] a name of the question looks at what it names, at layer LOOKS["reads"] an answer looks at what it
# is read off, both with one head of each group; the heads of the groups part where two things are compared. Behind the
# first of these layers a linear layer reads the place of the next letter off what is to become it, so that the second can
# look there; behind the second the letters, the side of a box, and what is compared.
LOOKS = {"names": 1, "reads": 2}


class Lessons:
    """Of one batch of data.make_batch. `losses` fills while the decoder runs. prefix_ids: tokens before the questions;
    groups: query heads per group; head: the DenseHead."""

    def __init__(self, batch, prefix_ids, image_id, groups, head, device):
        self.batch, self.device, self.groups, self.head = batch, device, groups, head
        self.prefix = len(prefix_ids)
        image_at = (torch.as_tensor(prefix_ids, device=device) == image_id).nonzero()[:, 0]
        self.looked_at = torch.cat((image_at, image_at[-1:] + 1))  # the cells, and nowhere: see looks.py
        self.losses = []

    def attention(self, number):
        """What the shares (B, heads, T, keys) of attention at layer `number` are to be given to, or None."""
        heads = {LOOKS["names"]: ("names", "names"), LOOKS["reads"]: ("reads", "seconds")}.get(number)
        if not heads or not self.batch[heads[0]].any():
            return None
        return lambda shares: self.look(shares, [self.batch[name].to(self.device) for name in heads])

    def look(self, shares, where):
        """Mean of -log of the attention that falls on the cells `where`, (B, T, cells) for the first group's head and for
        those of the others, of the tokens that have any."""
        row, token = where[0].any(-1).nonzero(as_tuple=True)
        mine = shares[row, ::self.groups, self.prefix + token][..., self.looked_at]
        there = torch.stack([(mine[:, i] * where[min(i, 1)][row, token]).sum(-1) for i in range(mine.shape[1])])
        self.losses.append(-there.clamp(min=1e-6).log().mean())

    def after(self, number, x):
        """x (B, T, hidden): what layer `number` leaves."""
        if number == LOOKS["names"]:
            read, at = self.told("spelled", x)
            if len(at):
                self.losses.append(F.cross_entropy(self.head.spelled_at(read).float(), at[:, 0]))
        if number == LOOKS["reads"]:
            read, letters = self.told("spelled", x)
            if len(letters):
                logits = self.head.spelled(read).unflatten(-1, (AHEAD, -1)).flatten(0, 1)
                self.losses.append(F.cross_entropy(logits.float(), letters[:, 1:].flatten()))
            read, sides = self.told("sides", x)
            if len(sides):
                self.losses.append(sides_loss(self.head.said(read), sides))
            read, both = self.told("compared", x)
            if len(both):
                self.losses.append(sides_loss(self.head.compared(read).unflatten(-1, (2, SIDE)), both))

    def told(self, name, x):
        """(what is to be read off, what is to be read there) at the tokens of which batch[name] tells something."""
        target = self.batch[name].to(self.device)
        row, token = in_steps((target.reshape(*target.shape[:2], -1)[..., 0] >= 0).nonzero(), 64).unbind(-1)
        return as_read(x[row, self.prefix + token]), target[row, token]
