"""Trains the demo model. Resumable: stop it at any time (signal, --minutes) and give the same command again.

  python3 tools/demo_model/train.py --checkpoints DIR --team 2              two CPU cores: days; useful after hours
  python3 tools/demo_model/train.py --checkpoints DIR --team 2 --decay 4000 the last steps: the rate falls to 0, then it ends

Needs torch >= 2.4, transformers >= 5, tokenizers, Pillow, numpy, Debian's fonts named in words.py and wamerican. On a
machine without them (one GPU, 16 cores, no network; the weights go on from DIR) carry two small folders along:

  python3 tools/demo_model/train.py --pack-fonts DIR                        here: fonts and word list, 10 MB
  DEMO_FONTS=DIR DEMO_WORDS=DIR/words python3 tools/demo_model/train.py --checkpoints DIR2 --minutes 8 --workers 14 \
      --patches 16384 --budget 192                                          there, as often as the machine is lent

What the decoder is to say must first be seen. --see trains the encoder alone, with the dense targets, at three times the
pictures per second; a training may begin with it or go back to it:

  python3 tools/demo_model/train.py --checkpoints DIR --team 2 --see --patches 2048 --accumulate 2 --minutes 90

The rate is constant after the warm-up, so that more can always follow; --decay ends a training. Checkpoints hold weights,
their moving average, the optimisers and the number of the next batch; the batches are numbered and reproducible. Where
there is no checkpoint, adopt.py makes one of the pair in models/.
"""
import argparse
import fcntl
import json
import math
import os
import shutil
import signal
import sys
import time

import torch

import data
import head as heads
import model as models
import words
from lessons import Lessons
from team import Team
from vocabulary import Vocabulary

# Memory that is given back to the system and faulted in again each step costs more than the step, and threads that spin
# take the time of others. Both are read when the process starts.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184",
               "MALLOC_TOP_PAD_": "268435456"}
HERE = os.path.dirname(os.path.abspath(__file__))


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Keller Jordan et al. 2024): for the matrices inside the layers."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @staticmethod
    def orthogonal(g):
        a, b, c = 3.4445, -4.7750, 2.0315
        x = g.bfloat16()
        tall = x.shape[-2] > x.shape[-1]
        x = x.mT if tall else x
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(5):
            y = x @ x.mT
            x = a * x + (b * y + c * y @ y) @ x
        return x.mT if tall else x

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                parts = 3 if getattr(p, "fused", False) else 1
                shapes.setdefault((p.shape[0] // parts, p.shape[1]), []).append((p, update.unflatten(0, (parts, -1))))
            for (rows, columns), items in shapes.items():
                out = self.orthogonal(torch.cat([u for _, u in items]))
                scale = group["lr"] * max(1.0, rows / columns) ** .5
                at = 0
                for p, u in items:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(out[at:at + len(u)].reshape(p.shape).to(p.dtype), alpha=-scale)
                    at += len(u)


def optimisers(model, head):
    matrices, others, plain = [], [], []
    for name, p in model.named_parameters():
        inside = p.dim() == 2 and "embed_tokens" not in name and "merger.mlp.0" not in name
        if inside:
            p.fused = "qkv" in name
            matrices.append(p)
        elif p.dim() >= 2:
            others.append(p)
        else:
            plain.append(p)
    adam = torch.optim.AdamW([{"params": others + list(head.parameters()), "weight_decay": .01},
                              {"params": plain, "weight_decay": 0.0}], lr=1.0, betas=(.9, .98))
    return Muon(matrices, 1.0), adam


def rates(args, step, warm_from, decay_from):
    warm = min(1.0, (step - warm_from + 1) / args.warmup)
    if decay_from is not None:
        warm *= max(0.0, 1 - (step - decay_from) / args.decay)
    return args.muon_rate * warm, args.adam_rate * warm


class Prefixes:
    """Prefix tokens and positions by picture size, made once."""

    def __init__(self, vocabulary):
        self.vocabulary, self.known = vocabulary, {}

    def __call__(self, batch):
        key = (batch["grid"], batch["n_pictures"])
        if key not in self.known:
            ids = data.prefix_tokens(self.vocabulary, *key)
            self.known[key] = (ids, *data.prefix_positions(ids, self.vocabulary.image, batch["grid"]))
        return self.known[key]


def box_numbers(text):
    """[x1, y1, x2, y2] of the first box of an answer, or None."""
    try:
        a, b = text.split("<|box_start|>")[1].split("<|box_end|>")[0].strip("()").split("),(")
        return [int(v) for v in a.split(",") + b.split(",")]
    except (IndexError, ValueError):
        return None


def overlap(a, b):
    """Intersection over union of two boxes, 0 where one is not a box."""
    if a is None or b is None or len(a) != 4 or len(b) != 4:
        return 0.0
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])
    return w * h / (area(a) + area(b) - w * h)


@torch.no_grad()
def evaluate(model, vocabulary, prefixes, device, autocast, n):
    """Share of right answers per task on the held-out split, each token judged after the right ones before it: for answers
    that must match exactly this is what greedy decoding gives; boxes (IoU >= 0.7) come out a little too good."""
    right, total = {}, {}
    for kind, grids in data.samples.GRIDS.items():
        for i, grid in enumerate(grids[:4]):
            batch = models.tensors(data.make_batch(vocabulary, "heldout", kind, grid, range(i * 1000, i * 1000 + n), 1, 400))
            with autocast():
                _, logits, at = models.forward(model, batch, prefixes(batch), device)
            said = torch.full((batch["targets"].numel(),), -1, dtype=torch.long)
            said[at.cpu()] = logits.argmax(-1).cpu()
            said = said.reshape(batch["targets"].shape)
            for row, number, task, turns in batch["tasks"]:
                keep = (batch["block"][row] == number) & (batch["targets"][row] >= 0)
                want, got = batch["targets"][row][keep], said[row][keep]
                good = bool((want == got).all())
                if task == "box" and "<|box_start|>" in turns[-1][1]:
                    good = overlap(*(box_numbers(vocabulary.decode(x.tolist())) for x in (want, got))) >= .7
                right[task] = right.get(task, 0) + good
                total[task] = total.get(task, 0) + 1
    return {t: (right[t] / total[t], total[t]) for t in sorted(total)}


@torch.no_grad()
def seeing_accuracy(model, head, autocast, device, n):
    """Share of what the dense head says rightly of held-out pictures, per kind of picture; the first two sizes of each."""
    result = {}
    for kind in data.SEE_MIX:
        sums = {}
        for grid in data.samples.SEEN_GRIDS[kind][:2]:
            batch = models.tensors(data.dense_batch("heldout", kind, grid, range(n)))
            with autocast():
                seen = models.see(model.model.visual, batch["images"].to(device), grid)
                right = head.right(*seen, batch, device)
            for name, (a, b) in right.items():
                a0, b0 = sums.get(name, (0, 0))
                sums[name] = a0 + a, b0 + b
        result[kind] = {name: round(a / b, 3) for name, (a, b) in sums.items() if b}
    return result


def load(model, head, optimisers, saved, keep_seeing):
    """The state of a checkpoint; returns the moving average of the weights. With keep_seeing the encoder becomes that
    average, which is what will be exported."""
    if keep_seeing:
        saved["model"] |= {k: v.clone() for k, v in saved["average"].items() if ".visual." in k}
    model.load_state_dict(saved["model"])
    head.load_state_dict(saved["head"])
    for optimiser, name in zip(optimisers, ("muon", "adam")):
        if name in saved:  # not in those of adopt.py
            optimiser.load_state_dict(saved[name])
    return saved["average"]


def save(folder, state):
    path = os.path.join(folder, "last.pt")
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def pack_fonts(folder):
    os.makedirs(folder, exist_ok=True)
    for path in words.find_fonts():
        shutil.copy(path, folder)
    training, held_out = words.load_words()
    with open(os.path.join(folder, "words"), "w", encoding="utf-8") as file:
        file.write("\n".join(sorted(training + held_out)) + "\n")


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoints", help="folder of last.pt and log.jsonl; outside the repository")
    p.add_argument("--size", default="small", choices=list(models.SIZES))
    p.add_argument("--minutes", type=float, default=1e9, help="stop after this time")
    p.add_argument("--save-minutes", type=float, default=5)
    p.add_argument("--steps-between-checks", type=int, default=1000)
    p.add_argument("--check-pictures", type=int, default=24, help="per kind and size, at each check")
    p.add_argument("--patches", type=int, default=1024, help="patches in a batch")
    p.add_argument("--budget", type=int, default=144, help="question and answer tokens per picture")
    p.add_argument("--scenes-first", type=int, default=6000, help="batches of the first stage")
    p.add_argument("--see", action="store_true", help="train the encoder alone, with the dense targets")
    p.add_argument("--pages", type=int, default=0, help="patches of pictures for the dense targets alone, beside each batch")
    p.add_argument("--keep-seeing", action="store_true", help="leave the encoder as it is")
    p.add_argument("--lessons", type=float, default=0.3, help="weight of what is taught inside the decoder: see lessons.py")
    p.add_argument("--accumulate", type=int, default=1, help="batches per step of the optimisers, for each of the team")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--team", type=int, default=1, help="processes of one thread each that learn together: see team.py")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--muon-rate", type=float, default=0.006)
    p.add_argument("--adam-rate", type=float, default=7e-4)
    p.add_argument("--warmup", type=int, default=300)
    p.add_argument("--decay", type=int, default=0, help="let the rate fall to 0 over this many batches, then end")
    p.add_argument("--dense", type=float, default=0.5, help="weight of the dense targets")
    p.add_argument("--average", type=float, default=0.998, help="of the weights, per step")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--eager", action="store_true", help="do not compile the layers")
    p.add_argument("--f32", action="store_true", help="no bfloat16")
    p.add_argument("--pack-fonts", metavar="DIR", help="copy fonts and words to DIR and end")
    return p.parse_args()


def main():
    args = parse()
    if args.pack_fonts:
        pack_fonts(args.pack_fonts)
        return
    if not args.checkpoints:
        raise SystemExit("--checkpoints DIR is needed")
    if any(os.environ.get(k) != v for k, v in ENVIRONMENT.items()):
        os.environ.update(ENVIRONMENT)
        os.execv(sys.executable, [sys.executable] + sys.argv)
    if args.team > 1 and args.device != "cpu":
        raise SystemExit("--team is for CPUs: a GPU is one device for all")
    begin = time.time()
    os.makedirs(args.checkpoints, exist_ok=True)
    lock = open(os.path.join(args.checkpoints, "lock"), "a", encoding="utf-8")
    try:
        if "DEMO_RANK" not in os.environ:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(f"another training writes to {args.checkpoints}") from None
    torch.set_num_threads(1 if args.team > 1 else args.threads)
    team = Team(args.team)
    vocabulary_path = os.path.join(HERE, "vocabulary.json")
    vocabulary = Vocabulary(vocabulary_path)
    device = torch.device(args.device)
    model = models.create(vocabulary, args.size).to(device)
    head = heads.DenseHead(model.config.vision_config.embed_dim, model.config.vision_config.hidden_size).to(device)
    groups = model.config.text_config.num_attention_heads // model.config.text_config.num_key_value_heads
    muon, adam = optimisers(model, head)
    state = {"step": 0, "pictures": 0, "questions": 0, "seconds": 0.0, "decay_from": None}
    # Batches and pictures of --see; where the optimisers began: at 0, or where adopt.py took a training up.
    seen = {"seeing": 0, "seen": 0, "see_decay_from": None, "warm_from": {"seeing": 0, "step": 0}}
    average = None
    path = os.path.join(args.checkpoints, "last.pt")
    if os.path.exists(path):
        saved = torch.load(path, map_location=device, weights_only=True)
        average = load(model, head, (muon, adam), saved, args.keep_seeing)
        state = seen | saved["state"]
    else:
        state |= seen
        average = {k: v.clone() for k, v in model.state_dict().items()}
    counter, pictures, falls = ("seeing", "seen", "see_decay_from") if args.see else ("step", "pictures", "decay_from")
    state[falls] = (state[counter] if state[falls] is None else state[falls]) if args.decay else None
    state[counter] -= state[counter] % (args.team * args.accumulate)
    if team.first:
        size = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{size:.2f}M parameters, step {state['step']}, {device}", flush=True)

    def autocast():
        return torch.autocast(device.type, torch.bfloat16, enabled=not args.f32)

    stop = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(1))
    log = open(os.path.join(args.checkpoints, "log.jsonl"), "a", encoding="utf-8")
    before = state["seconds"]

    def write():
        if not team.first:
            return
        state["seconds"] = before + time.time() - begin
        save(args.checkpoints, {"model": model.state_dict(), "head": head.state_dict(), "muon": muon.state_dict(),
                                "adam": adam.state_dict(), "average": average, "state": state, "size": args.size})

    def check():
        if not team.first:
            return
        live = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(average)
        model.eval()
        result = {} if args.see else evaluate(model, vocabulary, prefixes, device, autocast, args.check_pictures)
        seeing = seeing_accuracy(model, head, autocast, device, args.check_pictures)
        model.train()
        model.load_state_dict(live)
        log.write(json.dumps({"step": state["step"], "pictures": state["pictures"], "seen": state["seen"],
                              "accuracy": result, "seeing": seeing}) + "\n")
        log.flush()
        print(" ".join(f"{t} {a:.3f}" for t, (a, _) in result.items()), seeing, flush=True)

    prefixes = Prefixes(vocabulary)
    if not args.eager:
        models.speed_up()
        heads.speed_up()

    def losses(batch):
        """(of the answers or None, of the lessons, of the points, of texts and facts, of the boxes: see DenseHead.loss)"""
        if args.see:
            return None, None, *head.loss(*models.see(model.model.visual, batch["images"].to(device), batch["grid"]), batch, device)
        prefix = prefixes(batch)
        lessons = Lessons(batch, prefix[0], vocabulary.image, groups, head, device) if args.lessons else None
        seen, logits, at = models.forward(model, batch, prefix, device, not args.keep_seeing, lessons)
        targets = batch["targets"].to(device).reshape(-1)[at]
        weights = batch["weights"].to(device).reshape(-1)[at]
        each = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        answers = (each * weights).sum() / weights.sum()
        taught = sum(lessons.losses) if lessons and lessons.losses else None
        # An encoder that is left alone learns nothing from the dense targets.
        if args.keep_seeing:
            return answers, taught, None, None, None
        dense = head.loss(*seen, batch, device)
        if "also" in batch:
            also = batch["also"]
            more = head.loss(*models.see(model.model.visual, also["images"].to(device), also["grid"]), also, device)
            dense = [a + b for a, b in zip(dense, more)]
        return answers, taught, *dense

    def step_optimisers(batches):
        """One step with the gradients of the last batches; `batches` were made before it."""
        muon_rate, adam_rate = rates(args, batches, state["warm_from"][counter], state[falls])
        for optimiser, rate in ((muon, muon_rate), (adam, adam_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(adam.param_groups[0]["params"] + adam.param_groups[1]["params"], 1.0)
        for optimiser in (muon, adam):
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        taken = batches - state["warm_from"][counter]
        keep = min(args.average, (taken + 1) / (taken + 10))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - keep)

    stage_of = data.StageOf(args.scenes_first)
    if args.see:
        make = lambda vocabulary, index: data.seeing_batch(index, args.patches)
    else:
        make = lambda vocabulary, index: data.training_batch(vocabulary, index, args.patches, args.budget, stage_of(index),
                                                               args.pages)
    learning = [p for name, p in model.named_parameters() if not (
        args.see and ".visual." not in name or args.keep_seeing and ".visual." in name)] + list(head.parameters())
    last_save = time.time()
    sums, count, since = [0.0] * 6, 0, time.time()
    batches = (data.made_here(vocabulary, state[counter] + team.rank, team.size, make) if team.size > 1 else
               data.stream(vocabulary_path, state[counter], args.workers, make))
    at_once, new = team.size * args.accumulate, [0, 0]  # batches per step; pictures and questions of this process since the last
    for batch in batches:
        batch = models.tensors(batch)
        with autocast():
            loss, taught, points, told, box = losses(batch)
        total = loss if loss is not None else 0
        if taught is not None:
            total = total + args.lessons * taught
        if points is not None:
            total = total + args.dense * (points + told + 4 * box)
        (total / args.accumulate).backward()
        state[counter] += team.size
        new = [new[0] + len(batch["images"]), new[1] + len(batch.get("tasks", ()))]
        count += 1
        for i, v in enumerate((loss, taught, points, told, box)):
            sums[i] += v.item() if v is not None else 0
        if state[counter] % at_once:
            continue
        over = bool(stop) or time.time() - begin > args.minutes * 60
        ended, *new = team.add_up(learning, [over, *new])
        state[pictures] += int(new[0])
        state["questions"] += int(new[1])
        sums[5] += new[0]
        new = [0, 0]
        step_optimisers(state[counter] - at_once)
        if team.first and state[counter] % 100 < at_once:
            if not math.isfinite(sum(sums)):
                raise SystemExit("the loss is not finite")
            line = {counter: state[counter], pictures: state[pictures], "loss": round(sums[0] / count, 4),
                    "lessons": round(sums[1] / count, 4), "points": round(sums[2] / count, 4),
                    "told": round(sums[3] / count, 4), "box": round(sums[4] / count, 4),
                    "pictures_per_s": round(sums[5] / (time.time() - since), 1)}
            log.write(json.dumps(line) + "\n")
            log.flush()
            print(line, flush=True)
            sums, count, since = [0.0] * 6, 0, time.time()
        if state[counter] % args.steps_between_checks < at_once:
            check()
            since = time.time()
        done = state[falls] is not None and state[counter] - state[falls] >= args.decay
        if done or ended:
            write()
            if done or not stop:
                check()
            break
        if time.time() - last_save > args.save_minutes * 60:
            write()
            last_save = time.time()


if __name__ == "__main__":
    sys.exit(main())
