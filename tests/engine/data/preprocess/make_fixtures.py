#!/usr/bin/env python3
"""Writes the fixtures of the preprocess tests into this folder, from Pillow and transformers.

Needs: Python 3.9+, numpy, Pillow (made with 13.0.0), transformers (made with 5.23.0). Run: python3 make_fixtures.py

smart_resize.txt  height width factor min_pixels max_pixels -> height width, transformers' smart_resize
resize.txt        pattern seed width height -> width height, FNV-1a 64 of Pillow's resize(..., BICUBIC)
photo.txt         tests/data/chelsea.jpg, step by step
patches_*.f32     pixel_values of Qwen2VLImageProcessorPil without the doubled frame, little-endian f32
"""
import pathlib
import random

import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

HERE = pathlib.Path(__file__).resolve().parent
PHOTO = HERE.parents[2] / "data" / "chelsea.jpg"


def fnv1a64(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def hash32(n):
    """A counter-based generator, the same in preprocess_support.h. n: uint32 array."""
    n = n * np.uint32(2654435761)
    n ^= n >> np.uint32(15)
    n *= np.uint32(2246822519)
    n ^= n >> np.uint32(13)
    n *= np.uint32(3266489917)
    return n ^ n >> np.uint32(16)


def pattern(kind, seed, width, height):
    """(height, width, 3) uint8, from integer arithmetic alone."""
    index = np.arange(width * height * 3, dtype=np.uint32).reshape(height, width, 3)
    noise = hash32(index + np.uint32(seed * 1000003)) >> np.uint32(24)
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint32) for n in (height, width, 3)), indexing="ij")
    if kind == "noise":
        values = noise
    elif kind == "ramp":
        values = x * 5 + y * 3 + c * 85
    elif kind == "extremes":  # 0 or 255: overshoot on both sides
        values = (noise & 1) * 255
    elif kind == "photo":  # triangle waves and a little noise
        wave = lambda t: np.where(t & 128, 255 - (t * 2 & 255), t * 2 & 255)
        values = (wave(x * 3 + y + c * 40 & 255) * 3 + wave(y * 2 + c * 90 & 255) * 4 + noise) >> 3
    return (values & 255).astype(np.uint8)


RESIZES = [
    ("noise", (64, 48), (28, 28)), ("noise", (28, 28), (64, 48)), ("noise", (4, 4), (2, 2)), ("noise", (2, 2), (4, 4)),
    ("noise", (5, 5), (3, 3)), ("noise", (1, 1), (28, 28)), ("noise", (1, 97), (28, 56)), ("noise", (97, 1), (56, 28)),
    ("noise", (1, 97), (1, 28)), ("noise", (2, 97), (3, 31)), ("noise", (3, 50), (2, 50)), ("noise", (50, 3), (50, 2)),
    ("noise", (101, 67), (101, 33)), ("noise", (101, 67), (33, 67)), ("noise", (101, 67), (101, 67)),
    ("noise", (10, 10), (11, 11)), ("noise", (11, 11), (10, 10)), ("noise", (640, 480), (13, 7)),
    ("noise", (200, 1), (1, 1)), ("noise", (1, 200), (1, 1)), ("noise", (333, 7), (336, 28)),
    ("extremes", (64, 48), (100, 100)), ("extremes", (100, 100), (56, 84)), ("extremes", (31, 33), (32, 32)),
    ("ramp", (255, 77), (84, 28)), ("ramp", (17, 300), (252, 308)), ("photo", (320, 240), (308, 252)),
    ("photo", (333, 222), (336, 224)), ("photo", (640, 427), (644, 420)), ("photo", (1023, 769), (252, 196)),
    ("noise", (4001, 3), (28, 4)), ("noise", (3, 4001), (4, 28)), ("photo", (2000, 1500), (1008, 756)),
    ("noise", (1999, 13), (1000, 12)), ("extremes", (12, 13), (13, 12)),
    # Which pass goes first: rows when they lose more than twice as many as the columns.
    ("extremes", (19, 58), (10, 32)), ("extremes", (31, 58), (12, 20)), ("extremes", (31, 59), (12, 20)),
    ("extremes", (42, 51), (19, 13)), ("extremes", (9, 40), (39, 43)), ("extremes", (17, 25), (16, 23)),
    ("extremes", (400, 900), (252, 588)), ("photo", (427, 640), (420, 644)),
]


def write_smart_resize():
    rng = random.Random(5)
    lines = []
    while len(lines) < 400:
        factor = rng.choice((28, 28, 32))
        height, width = (max(1, int(2 ** rng.uniform(0, 13.5))) for _ in range(2))
        low, high = rng.choice(((3136, 12845056), (3136, 1003520), (65536, 16777216), (4 * 784, 4096 * 784),
                                (256 * 784, 1280 * 784), (784, 784 * 16)))
        if len(lines) % 8 == 0:  # exact halves, which Python rounds to even
            height, width = (factor // 2 * (2 * rng.randrange(1, 40) + 1) for _ in range(2))
        if max(height, width) / min(height, width) > 200:
            continue
        h, w = smart_resize(height, width, factor, low, high)
        if h * w > high:  # transformers passes its own limit with very thin pictures; glimpse does not
            continue
        lines.append(f"{height} {width} {factor} {low} {high} {h} {w}")
    (HERE / "smart_resize.txt").write_text("\n".join(lines) + "\n")


def write_resizes():
    lines = []
    for seed, (kind, old, new) in enumerate(RESIZES):
        image = Image.fromarray(pattern(kind, seed, *old)).resize(new, Image.Resampling.BICUBIC)
        lines.append(f"{kind} {seed} {old[0]} {old[1]} {new[0]} {new[1]} {fnv1a64(image.tobytes()):016x}")
    (HERE / "resize.txt").write_text("\n".join(lines) + "\n")


def one_frame(pixel_values, patch):
    """Rows of (3, 2, p, p) to rows of (3, p, p), both frames being equal."""
    rows = np.asarray(pixel_values, dtype="<f4").reshape(-1, 3, 2, patch * patch)
    assert (rows[:, :, 0] == rows[:, :, 1]).all()
    return np.ascontiguousarray(rows[:, :, 0]).reshape(-1, 3 * patch * patch)


def write_patches():
    for name, patch, (width, height), statistics in (
            ("qwen2", 14, (56, 28), {}),
            ("qwen3", 16, (32, 64), dict(image_mean=[0.5] * 3, image_std=[0.5] * 3))):
        processor = Qwen2VLImageProcessorPil(patch_size=patch, do_resize=False, **statistics)
        image = Image.fromarray(pattern("noise", 77, width, height))
        out = processor(images=[image], return_tensors="np")
        assert out["image_grid_thw"].tolist() == [[1, height // patch, width // patch]]
        (HERE / f"patches_{name}.f32").write_bytes(one_frame(out["pixel_values"], patch).tobytes())


def write_photo():
    """The whole way of one photograph, as hashes, and every 97th value of its patches."""
    image = Image.open(PHOTO).convert("RGB")
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 100352})
    height, width = smart_resize(image.height, image.width, 28, 3136, 100352)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    out = processor(images=[image], return_tensors="np")
    values = one_frame(out["pixel_values"], 14).reshape(-1)
    lines = [f"{image.width} {image.height} {fnv1a64(image.tobytes()):016x}",
             f"{width} {height} {fnv1a64(resized.tobytes()):016x}", str(values.size)]
    lines += [f"{v:.9g}" for v in values[::97]]
    (HERE / "photo.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_smart_resize()
    write_resizes()
    write_patches()
    write_photo()
