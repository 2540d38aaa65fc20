"""Writes video_reference.inc: which frames the video processors of transformers see, and at what size.

Needs: transformers >= 5, torch, numpy.   Run: python3 video_reference.py > video_reference.inc
"""
import importlib.machinery
import sys
import zlib
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
from transformers.utils import import_utils

try:
    import torchvision  # noqa: F401
except ImportError:  # sampling and sizes need nothing of it
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2", "torchvision.io",
                 "torchvision.transforms.v2.functional"):
        sys.modules[name] = MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None), __version__="0.30.0")
    import_utils.is_torchvision_available = lambda: True
    import_utils.is_torchvision_v2_available = lambda: True
    for backend in ("torchvision",):
        import_utils.BACKENDS_MAPPING[backend] = (lambda: True, "")

from transformers.models.qwen2_vl import video_processing_qwen2_vl as two
from transformers.models.qwen3_vl import video_processing_qwen3_vl as three
from transformers.video_utils import VideoMetadata


def sample(family, n, fps, wanted, least, most):
    cls = three.Qwen3VLVideoProcessor if family == 3 else two.Qwen2VLVideoProcessor
    self = SimpleNamespace(num_frames=None, fps=None, temporal_patch_size=2, min_frames=least, max_frames=most)
    metadata = VideoMetadata(total_num_frames=n, fps=fps)
    return [int(i) for i in cls.sample_frames(self, metadata, fps=wanted)]


class Resized(Exception):
    pass


def size(family, width, height, n):
    """What resize() asks its base class for."""
    module = three if family == 3 else two
    cls = module.Qwen3VLVideoProcessor if family == 3 else module.Qwen2VLVideoProcessor
    factor = 32 if family == 3 else 28
    ends = (4096, 25165824) if family == 3 else (128 * 28 * 28, 768 * 28 * 28)
    base = cls.__mro__[1]
    old = base.resize

    def see(self, image, size, resample):
        raise Resized(size.width, size.height)

    base.resize = see
    try:
        self = object.__new__(cls)
        self.max_video_tokens = cls.max_video_tokens
        cls.resize(self, SimpleNamespace(shape=(1, n, 3, height, width)),
                   SimpleNamespace(shortest_edge=ends[0], longest_edge=ends[1]), None, factor, 2,
                   cap_pixels_per_frame=True)
    except Resized as found:
        return found.args
    finally:
        base.resize = old


print("// Made by video_reference.py with transformers. Indices: their number, the first, the last, CRC-32 of the list.")
print("const Sampled kSampled[] = {")
for family in (2, 3):
    for n, fps, wanted, least, most in [
            (2, 1, 2, 4, 768), (3, 1, 2, 4, 768), (4, 30, 2, 4, 768), (5, 2, 2, 4, 768), (10, 25, 2, 4, 768), (17, 2.5, 2, 4, 14),
            (30, 30, 2, 4, 768), (31, 2, 2, 4, 30), (90, 29.97, 2, 4, 768), (100, 24, 1, 4, 768), (250, 25, 2, 4, 768),
            (301, 29.97, 3.7, 4, 768), (1000, 23.976, 2, 4, 64), (5000, 30, 0.1, 4, 768), (30000, 30, 2, 4, 768),
            (86400, 24, 2, 8, 768)]:
        try:
            indices = sample(family, n, fps, wanted, least, most)
        except Exception as problem:  # e.g. transformers takes an odd number for none
            print(f"// family {family}, {n} frames: {problem}")
            continue
        if len(indices) > 1 and indices[-1] >= n:  # torch.arange has one too many where its step is rounded
            indices = indices[:-1]
        crc = zlib.crc32(np.array(indices, "<i4").tobytes())
        print(f"  {{{family}, {n}, {fps}, {wanted}, {least}, {most}, {len(indices)}, {indices[0]}, {indices[-1]}, 0x{crc:08x}u}},")
print("};")
print("const Sized kSized[] = {")
for family in (2, 3):
    for width, height, n in [(640, 480, 4), (640, 480, 8), (1920, 1080, 4), (1920, 1080, 60), (1920, 1080, 768), (320, 240, 16),
                             (100, 80, 4), (30, 20, 4), (33, 31, 2), (1080, 1920, 33), (2000, 40, 10), (3840, 2160, 120),
                             (64, 48, 768), (701, 299, 5)]:
        w, h = size(family, width, height, n)
        print(f"  {{{family}, {width}, {height}, {n}, {w}, {h}}},")
print("};")
