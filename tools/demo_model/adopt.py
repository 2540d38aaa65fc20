"""Makes a checkpoint of a GGUF pair that export.py wrote, so that a training can go on from what is shipped, wherever the
repository is.

  python3 tools/demo_model/adopt.py --model models/demo-Q8_0.gguf --mmproj models/mmproj-demo-f16.gguf \\
      --state models/training.json --checkpoints DIR

The optimisers begin anew, with a warm-up. The dense head, which is never exported, learns first, on an encoder that is left
alone: a head that knows nothing would pull the encoder about."""
import argparse
import json
import os

import gguf
import torch

import data
import model as models
import train
from export import text_tensors, vision_tensors
from head import DenseHead
from vocabulary import Vocabulary

HEAD_RATE = 2e-3


def fill(path, tensors):
    """Copies the tensors of the file into the parameters of the same names; both must have the same names and shapes."""
    have = {t.name: t for t in gguf.GGUFReader(path).tensors}
    names = {name for name, _ in tensors}
    if names != set(have):
        raise SystemExit(f"{path}: not of this size of model; these tensors are not in both: {sorted(names ^ set(have))[:8]}")
    for name, parameter in tensors:
        value = torch.from_numpy(gguf.quants.dequantize(have[name].data, have[name].tensor_type).copy())
        if value.numel() != parameter.numel():
            raise SystemExit(f"{path}: {name} has {value.numel()} values, not {parameter.numel()}")
        parameter.copy_(value.reshape(parameter.shape))


def teach_head(model, head, first, batches, patches):
    """The head alone learns from the pictures of `batches` batches."""
    adam = torch.optim.AdamW(head.parameters(), lr=HEAD_RATE, betas=(.9, .98))
    for i in range(batches):
        batch = models.tensors(data.seeing_batch(first + i, patches))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                seen = models.see(model.model.visual, batch["images"], batch["grid"])
            points, told, box = head.loss(*seen, batch, torch.device("cpu"))
        for group in adam.param_groups:
            group["lr"] = HEAD_RATE * min(1.0, 2 * (1 - i / batches))
        (points + told + 4 * box).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        if (i + 1) % 50 == 0:
            print(f"head: batch {i + 1} of {batches}, texts and facts {told.item():.3f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--mmproj", required=True)
    p.add_argument("--state", required=True, help="what export.py said of the training so far")
    p.add_argument("--checkpoints", required=True, help="gets last.pt")
    p.add_argument("--size", default="small", choices=list(models.SIZES))
    p.add_argument("--head-batches", type=int, default=400)
    p.add_argument("--patches", type=int, default=2048, help="patches in a batch")
    args = p.parse_args()
    vocabulary = Vocabulary(os.path.join(train.HERE, "vocabulary.json"))
    model = models.create(vocabulary, args.size)
    head = DenseHead(model.config.vision_config.embed_dim, model.config.vision_config.hidden_size)
    with torch.no_grad():
        fill(args.model, list(text_tensors(model)))
        fill(args.mmproj, list(vision_tensors(model)))
    with open(args.state, encoding="utf-8") as file:
        state = json.load(file)
    teach_head(model, head, state["seeing"], args.head_batches, args.patches)
    state["seeing"] += args.head_batches
    state |= {"decay_from": None, "warm_from": {name: state[name] for name in ("seeing", "step")}}
    os.makedirs(args.checkpoints, exist_ok=True)
    train.save(args.checkpoints, {"model": model.state_dict(), "head": head.state_dict(), "average": model.state_dict(),
                                  "state": state, "size": args.size})
    print(f"{args.checkpoints}: goes on from step {state['step']}, {state['pictures']} pictures")


if __name__ == "__main__":
    main()
