"""Writes data/animation: animated GIF and WebP files, and beside each a PNG with its frames under one another, over
white, as Pillow shows them.

Needs: Pillow (with libwebp), numpy.   Run: python3 make_animations.py
"""
import os

import numpy as np
from PIL import Image, ImageSequence

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "animation")


def scene(i, alpha):
    """A square that moves over a gradient, or over nothing."""
    a = np.zeros((24, 36, 4), np.uint8)
    y, x = np.mgrid[0:24, 0:36]
    if not alpha:
        a[..., 0], a[..., 1], a[..., 2], a[..., 3] = x // 6 * 40, y // 6 * 60, 128, 255
    a[4 + 2 * i: 12 + 2 * i, 3 + 6 * i: 13 + 6 * i] = (255, 30 * i, 0, 255)
    return Image.fromarray(a, "RGBA")


def strip(path):
    frames = []
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            white = Image.new("RGBA", frame.size, (255, 255, 255, 255))
            white.alpha_composite(frame.convert("RGBA"))
            frames.append(np.asarray(white.convert("RGB")))
    Image.fromarray(np.concatenate(frames)).save(path + ".png", optimize=True)
    print(path, os.path.getsize(path), len(frames))


def save(name, frames, **options):
    path = os.path.join(OUT, name)
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    strip(path)


os.makedirs(OUT, exist_ok=True)
opaque, clear = [scene(i, False) for i in range(4)], [scene(i, True) for i in range(4)]
save("changes.gif", [f.convert("RGB").quantize(32) for f in opaque], duration=[100, 200, 50, 0])
save("cleared.gif", clear, disposal=2, duration=80)
save("kept.gif", clear, disposal=1, duration=80)
save("restored.gif", clear, disposal=[1, 3, 3, 1], duration=80)
save("one.gif", [opaque[0].convert("RGB").quantize(32)])
save("opaque.webp", opaque, lossless=True, duration=[100, 200, 50, 40])
half = [Image.fromarray(np.asarray(f) // np.array([1, 1, 1, 2], np.uint8), "RGBA") for f in clear]
save("half.webp", half, lossless=True, duration=70, allow_mixed=False, minimize_size=True)
save("lossy.webp", opaque, quality=80, duration=70)
opaque[1].save(os.path.join(OUT, "still.webp"), lossless=True)
strip(os.path.join(OUT, "still.webp"))
