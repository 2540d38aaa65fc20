"""What the decoder is taught inside its layers, beside its answers: where to attend (looks.py says where), and the number
that it is about to say of a box."""
import torch

from head import as_read, in_steps, sides_loss

# At layer LOOKS["names"] a name of the question looks at what it names, at layer LOOKS["reads"] an answer looks at what it
# is read off, both with one head of each group; the heads of the groups part where two things are compared. SIDES: after
# this layer a linear layer reads the side of the box off what is to become its digits.
LOOKS = {"names": 1, "reads": 2}
SIDES = 2


class Lessons:
    """Of one batch of data.make_batch. `losses` fills while the decoder runs. prefix_ids: tokens before the questions;
    groups: query heads per group; said: DenseHead's linear layer."""

    def __init__(self, batch, prefix_ids, image_id, groups, said, device):
        self.batch, self.device, self.groups, self.said = batch, device, groups, said
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
        sides = self.batch["sides"].to(self.device)
        row, token = in_steps((sides >= 0).nonzero(), 64).unbind(-1)
        if number == SIDES and len(row):
            self.losses.append(sides_loss(self.said(as_read(x[row, self.prefix + token])), sides[row, token]))
