"""Batches for training: pictures of one size, many independent questions about each, dense targets.

The questions about a picture are packed behind one prefix (system prompt and pictures): each sees the prefix and itself
alone, with the positions it would have as the first question. So one pass through the vision encoder serves them all."""
import hashlib
import multiprocessing as mp
import os
import queue as queues
import random
import signal

import numpy as np
from PIL import Image

import samples
from looks import Looks, mark, numbers_of_boxes, spelling
from targets import AHEAD, dense_targets

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
PREFIX = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
ASK = "<|im_end|>\n<|im_start|>assistant\n"
NEXT = "<|im_end|>\n<|im_start|>user\n"
# Shares of the kinds of picture, first while the model learns to see at all, then for good.
MIX = ({"scene": .55, "text": .33, "compare": .04, "chart": .04, "table": .04},
       {"scene": .40, "text": .46, "compare": .04, "chart": .03, "table": .07})
SEE_MIX = {"scene": .14, "text": .16, "page": .58, "chart": .04, "table": .08}


def resize(image, grid):
    """What smart_resize and the image processor do for sizes of this task: stretch to the multiple of 28."""
    size = (grid[1] * samples.UNIT, grid[0] * samples.UNIT)
    return np.asarray(image if image.size == size else image.resize(size, Image.BICUBIC))


def prefix_tokens(vocabulary, grid, n_pictures):
    ids = vocabulary.encode(PREFIX)
    for _ in range(n_pictures):
        ids += vocabulary.encode("<|vision_start|>") + [vocabulary.image] * (grid[0] * grid[1]) + vocabulary.encode(
            "<|vision_end|>")
    return ids


def prefix_positions(ids, image_id, grid):
    """(3, n) M-RoPE positions of a prefix and the next free one."""
    out, p, i = [], 0, 0
    while i < len(ids):
        if ids[i] == image_id:
            out += [(p, p + r, p + c) for r in range(grid[0]) for c in range(grid[1])]
            i += grid[0] * grid[1]
            p += max(grid)
        else:
            out.append((p, p, p))
            p += 1
            i += 1
    return np.array(out, np.int64).T, p


def encode_dialog(vocabulary, turns, looks, task):
    """(ids, labels, taught): labels are -1 outside the answers; labels[i] is what must follow ids[i]. taught has arrays for
    the tokens, what is marked for a token being about what must follow it:
    names, reads, seconds (tokens, cells) bool: where a name of the question, and the answer with its first and second head,
    look; see looks.py.
    sides (tokens): where the digits of a box follow, the number that they say, in [0, 1]; -1 elsewhere.
    compared (tokens, 2): where an answer begins that compares two things, what is compared; see Looks.compared; -1 elsewhere.
    spelled (tokens, 1 + AHEAD): see looks.spelling."""
    ids, marks, parts = [], [], []
    for i, (question, answer) in enumerate(turns):
        before = "" if i == 0 else "\n<|im_start|>user\n"
        head, head_at = vocabulary.encode_with_offsets(before + question + ASK)
        tail, tail_at = vocabulary.encode_with_offsets(answer)
        n, m = len(head), len(head) + len(tail) + 1
        ids += head + tail + [vocabulary.end]
        marks += [0] * n + [1] * (m - n)
        part = {name: np.zeros((m, looks.cells), bool) for name in ("names", "reads", "seconds")} | {
            "sides": np.full(m, -1, np.float32), "compared": np.full((m, 2), -1, np.float32),
            "spelled": np.full((m, 1 + AHEAD), -1, np.int64)}
        mark(looks.names(question), [(a - len(before), b - len(before)) for a, b in head_at], part["names"], 0, True)
        for second, name in enumerate(("reads", "seconds")):
            mark(looks.answer(question, answer, task, second), tail_at, part[name], n - 1, False)
        for a, b, number in numbers_of_boxes(answer):
            for j, (start, end) in enumerate(tail_at):
                if a <= start and end <= b:
                    part["sides"][n - 1 + j] = (number + 5) / 1000  # the middle of its step
        part["compared"][n - 1] = looks.compared(question) or -1
        part["spelled"][n - 1:-1] = spelling(looks.lines(answer, task), tail_at, AHEAD)
        parts.append(part)
    labels = [ids[i + 1] if marks[i + 1] else -1 for i in range(len(ids) - 1)]
    return ids[:-1], labels, {name: np.concatenate([part[name] for part in parts])[:-1] for name in parts[0]}


def make_batch(vocabulary, split, kind, grid, seeds, level, budget, exact=False):
    """A dict of arrays. B pictures or pairs, T suffix tokens; `tasks` lists (row, block, task, turns) for scoring; what
    encode_dialog says is taught, as (B, T, ...)."""
    images, dense = [], []
    rows, tasks = [], []
    for row, seed in enumerate(seeds):
        pictures, questions = samples.make(split, kind, grid, seed, level, exact)
        for picture in pictures:
            images.append(resize(picture.image, grid))
            dense.append(dense_targets(picture, grid))
        looks = Looks(pictures, grid, [d["thing"] for d in dense[-len(pictures):]])
        ids, targets, block, weights, local, taught = [], [], [], [], [], []
        number = 0
        for turns, task in questions:
            a, t, part = encode_dialog(vocabulary, turns, looks, task)
            if len(ids) + len(a) > budget:
                continue
            count = sum(x >= 0 for x in t)
            ids += a
            targets += t
            block += [number] * len(a)
            weights += [count ** -.2 if x >= 0 else 0.0 for x in t]
            local += range(len(a))
            taught.append(part)
            tasks.append((row, number, task, turns))
            number += 1
        rows.append((ids, targets, block, weights, local, {k: np.concatenate([p[k] for p in taught]) for k in taught[0]}))
    length = -(-max(len(r[0]) for r in rows) // 16) * 16  # few sizes: see head.in_steps
    pad = lambda i, value, type_: np.array([list(r[i]) + [value] * (length - len(r[i])) for r in rows], type_)
    fill = lambda x: np.pad(x, ((0, length - len(x)),) + ((0, 0),) * (x.ndim - 1), constant_values=0 if x.dtype == bool else -1)
    n_pictures = len(images) // len(rows)
    return stacked(dense) | {name: np.stack([fill(r[5][name]) for r in rows]) for name in rows[0][5]} | {
        "grid": grid, "n_pictures": n_pictures, "images": np.stack(images), "ids": pad(0, vocabulary.pad, np.int64),
        "targets": pad(1, -1, np.int64), "block": pad(2, -1, np.int32), "weights": pad(3, 0.0, np.float32),
        "local": pad(4, 0, np.int64), "tasks": tasks, "kind": kind}


def stacked(parts):
    """A list of dicts of arrays as one, with the list's index first."""
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def dense_batch(split, kind, grid, seeds):
    """Pictures of one kind and size with their dense targets alone."""
    pictures = [samples.make(split, kind, grid, seed, 1)[0][0] for seed in seeds]
    return {"grid": grid} | stacked([{"images": resize(p.image, grid)} | dense_targets(p, grid) for p in pictures])


def seeing_batch(index, patches):
    """Batch number `index` of the pictures that only the dense targets are learned from."""
    rng = random.Random(f"see/{index}")
    kind = rng.choices(list(SEE_MIX), list(SEE_MIX.values()))[0]
    grid = rng.choice(samples.SEEN_GRIDS[kind])
    base = int.from_bytes(hashlib.sha256(f"see/{index}".encode()).digest()[:6], "little")
    return dense_batch("train", kind, grid, range(base, base + max(2, patches // (4 * grid[0] * grid[1]))))


def training_batch(vocabulary, index, patches, budget, stage, pages=0):
    """Batch number `index` of the endless training set: its pictures hold about `patches` patches. With `pages`, "also" holds
    a batch for the dense targets alone, of that many patches."""
    rng = random.Random(f"batch/{index}")
    mix = MIX[min(stage, 1)]
    kind = rng.choices(list(mix), list(mix.values()))[0]
    grids = samples.GRIDS[kind]
    grid = rng.choice(grids[:4] if stage == 0 else grids)
    n = max(2, patches // (4 * grid[0] * grid[1] * (2 if kind == "compare" else 1)))
    base = int.from_bytes(hashlib.sha256(f"{index}".encode()).digest()[:6], "little")
    batch = make_batch(vocabulary, "train", kind, grid, range(base, base + n), min(stage, 1), budget)
    return batch | ({"also": seeing_batch(f"beside {index}", pages)} if pages else {})


def _work(queue, vocabulary_path, first, step, make):
    from vocabulary import Vocabulary
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the trainer's handlers are not for its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    vocabulary = Vocabulary(vocabulary_path)
    parent = os.getppid()
    index = first
    while True:
        batch = make(vocabulary, index)
        while True:
            if os.getppid() != parent:  # it was killed
                os._exit(0)
            try:
                queue.put((index, batch), timeout=10)
                break
            except queues.Full:
                pass
        index += step


class StageOf:
    """Stage of a batch: 0 for the first `scenes_first` batches."""

    def __init__(self, scenes_first):
        self.scenes_first = scenes_first

    def __call__(self, index):
        return 0 if index < self.scenes_first else 1


def made_here(vocabulary, first, step, make, keep=128):
    """Endless batches make(vocabulary, index), index = first, first + step, ..., made by this process when they are needed.
    Each comes twice, the second time some `keep` batches later: making one takes a quarter of the time of a step."""
    rng, kept = random.Random(f"again/{first}"), []
    while True:
        kept.append(make(vocabulary, first))
        yield kept[-1]
        first += step
        if len(kept) > keep:
            yield kept.pop(rng.randrange(keep))


def stream(vocabulary_path, first, workers, make):
    """Endless batches make(vocabulary, index) from `first` on, in order, made by `workers` processes."""
    context = mp.get_context("fork")
    made = [context.Queue(maxsize=6) for _ in range(workers)]
    for i, queue in enumerate(made):
        context.Process(target=_work, daemon=True,
                        args=(queue, vocabulary_path, first + i, workers, make)).start()
    index = first
    while True:
        got, batch = made[(index - first) % workers].get()
        assert got == index
        yield batch
        index += 1
