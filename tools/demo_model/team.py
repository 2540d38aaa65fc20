"""Several processes that train one model: each makes and learns its own batches on one core, and they add up their gradients
before each step. Two threads of one process are as fast on two cores as long as nothing else runs, but they wait for each
other in every product, and so for whatever takes a core from one of them, such as the making of batches."""
import os
import subprocess
import sys
import tempfile

import torch
import torch.distributed as dist


class Team:
    """Of `size` processes, made by the first of them, which alone writes files and prints."""

    def __init__(self, size):
        self.size, self.rank = size, int(os.environ.get("DEMO_RANK", 0))
        if size == 1:
            return
        place = os.environ.get("DEMO_TEAM") or os.path.join(tempfile.mkdtemp(prefix="demo-team-"), "meeting")
        if self.rank == 0:
            for i in range(1, size):
                subprocess.Popen([sys.executable] + sys.argv, env=os.environ | {"DEMO_RANK": str(i), "DEMO_TEAM": place})
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=self.rank, world_size=size)

    @property
    def first(self):
        return self.rank == 0

    def add_up(self, parameters, numbers):
        """The gradients become their mean over the team (0 where a process has none). Returns the sums of `numbers`."""
        if self.size == 1:
            return numbers
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters] +
                         [torch.tensor(numbers, dtype=torch.float32)])
        dist.all_reduce(flat)
        at = 0
        for p in parameters:
            p.grad = flat[at:at + p.numel()].reshape(p.shape) / self.size
            at += p.numel()
        return flat[at:].tolist()
