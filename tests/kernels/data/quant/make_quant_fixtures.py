"""Writes dequantize.bin and quantize.bin, the expected values of quant_test.cpp, beside this script.

Needs numpy, gguf (the committed files: 0.19.0) and a shared libggml-base built from llama.cpp without -march flags
(the committed files: ggml 0.25.3, llama.cpp 0c1e57098); without the library it writes dequantize.bin alone. Run:

    python make_quant_fixtures.py path/to/libggml-base.so

Both files are sequences of sections: name (32 bytes, zero padded), size in bytes (uint32), content.

dequantize.bin, for each type T: T.blocks, T.floats: blocks and what gguf's quants.py makes of them (float32); T.halves:
byte offsets of the half-precision numbers of a block (uint32).
quantize.bin: rows and importance, float32, ROWS x COLUMNS; for each type T: T.plain and T.importance: the rows
quantised by ggml_quantize_chunk without and with importance. For the types that gguf's quants.py can quantise too, the
script stops unless it agrees with T.plain.
"""

import ctypes
import pathlib
import struct
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

# Byte offsets of the half-precision fields of each block.
HALVES = {
    T.Q4_0: (0,), T.Q4_1: (0, 2), T.Q5_0: (0,), T.Q5_1: (0, 2), T.Q8_0: (0,), T.Q2_K: (80, 82), T.Q3_K: (108,),
    T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208,), T.IQ4_NL: (0,), T.IQ4_XS: (0,),
}
# Types that are read only. IQ1_M's is in the upper nibbles of its scales, MXFP4's a byte.
READ_ONLY = {
    T.TQ1_0: (52,), T.TQ2_0: (64,), T.MXFP4: (), T.IQ1_S: (0,), T.IQ1_M: (), T.IQ2_XXS: (0,), T.IQ2_XS: (0,),
    T.IQ2_S: (0,), T.IQ3_XXS: (0,), T.IQ3_S: (0,),
}
GGUF_CAN_QUANTIZE = (T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0)
COLUMNS = 512


def blocks_of(type_, rng):
    """Random and extreme blocks: (n, block_bytes) uint8. No NaN fields."""
    size = GGML_QUANT_SIZES[type_][1]
    blocks = []

    def add(body, *halves):
        block = np.array(body, dtype=np.uint8)
        if type_ == T.MXFP4:
            block[0] = halves[0] >> 8 if halves[0] < 0x7c00 else 252
        if type_ == T.IQ1_M:
            for i in range(4):
                block[49 + 2 * i] = block[49 + 2 * i] & 15 | (halves[0] >> 4 * i & 15) << 4
        for i, offset in enumerate({**HALVES, **READ_ONLY}[type_]):
            block[offset:offset + 2] = np.frombuffer(struct.pack("<H", halves[i % len(halves)]), dtype=np.uint8)
        blocks.append(block)

    zeros, ones = np.zeros(size), np.full(size, 255)
    random = lambda: rng.integers(0, 256, size)
    add(zeros, 0x0000)
    add(zeros, 0x3c00)             # smallest quants, scale 1
    add(ones, 0x7bff)              # largest quants, largest finite scale
    add(ones, 0xfbff, 0x7bff)      # the same, negative, offset of the other sign
    add(ones, 0x0001)              # smallest subnormal scale
    add(random(), 0x8001, 0x03ff)  # negative subnormal, largest subnormal
    add(random(), 0x0000, 0x3c00)  # zero scale, offset 1
    add(random(), 0x8000, 0x8000)  # negative zero
    add(random(), 0xbc00, 0x2e66)
    add(random(), 0x7c00, 0x3c00)  # infinite scale: inf and, where the quant is 0, NaN
    for _ in range(6):
        halves = [int(h) for h in rng.integers(0, 0x7c00, 2) | (rng.integers(0, 2, 2) << 15)]
        add(random(), *halves)
    return np.stack(blocks)


def rows(rng):
    """Rows to quantise and their importance: two (n, COLUMNS) float32."""
    gauss = lambda: rng.standard_normal(COLUMNS)
    outlier = 0.01 * gauss()
    outlier[300] = 50
    # Zeros of positive sign: of a group of zeros gguf-py takes the first sign, ggml always d = -0.
    gaps = np.where(np.arange(COLUMNS) // 32 % 3 != 1, gauss(), 0)
    constant = np.full(COLUMNS, 0.3)
    x = np.stack([
        0.02 * gauss(),
        gauss(),
        rng.standard_t(3, COLUMNS),
        constant,
        -constant,
        np.zeros(COLUMNS),
        outlier,
        gaps,                            # groups of zeros
        np.abs(gauss()) + 0.1,           # positive: the offset would be positive too
        np.round(gauss() * 3) / 8,       # ties
        1e-5 * gauss(),                  # scales are subnormal halves, or zero
        gauss() * 4.0 ** rng.integers(-4, 5, COLUMNS),
        gauss(),
        gauss(),
    ]).astype(np.float32)
    importance = np.exp(rng.standard_normal(x.shape))
    importance[:, ::97] = 0
    importance[-2] = 0
    importance[-1] = 1
    return x, importance.astype(np.float32)


def write_sections(path, sections):
    with open(path, "wb") as file:
        for name, content in sections:
            data = np.ascontiguousarray(content).tobytes()
            file.write(struct.pack("<32sI", name.encode(), len(data)) + data)


def main():
    here = pathlib.Path(__file__).parent
    rng = np.random.default_rng(20240829)
    sections = []
    for type_ in (*HALVES, *READ_ONLY):
        blocks = blocks_of(type_, rng)
        with np.errstate(invalid="ignore"):
            floats = gguf.quants.dequantize(blocks, type_)
        sections += [(f"{type_.name}.blocks", blocks), (f"{type_.name}.floats", floats.astype(np.float32)),
                     (f"{type_.name}.halves", np.array({**HALVES, **READ_ONLY}[type_], np.uint32))]
    write_sections(here / "dequantize.bin", sections)
    if len(sys.argv) < 2:
        return

    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    x, importance = rows(rng)

    def quantize(type_, weights):
        block_length, block_bytes = GGML_QUANT_SIZES[type_]
        out = np.zeros((x.shape[0], COLUMNS // block_length * block_bytes), dtype=np.uint8)
        for row in range(x.shape[0]):  # one at a time: each has an importance of its own
            ggml.ggml_quantize_chunk(int(type_), x[row].ctypes.data, out[row].ctypes.data, 0, 1, COLUMNS,
                                     weights[row].ctypes.data if weights is not None else None)
        return out

    sections = [("rows", x), ("importance", importance)]
    for type_ in (T.F16, T.BF16, *HALVES):
        plain = quantize(type_, None)
        if type_ in GGUF_CAN_QUANTIZE:
            with np.errstate(divide="ignore"):
                same = gguf.quants.quantize(x, type_).view(np.uint8)
            if not np.array_equal(plain, same):
                sys.exit(f"{type_.name}: ggml and gguf-py disagree in rows {np.unique(np.nonzero(plain != same)[0])}")
        sections.append((f"{type_.name}.plain", plain))
        if type_ not in (T.F16, T.BF16, T.Q8_0):  # these ignore it
            sections.append((f"{type_.name}.importance", quantize(type_, importance)))
    write_sections(here / "quantize.bin", sections)


if __name__ == "__main__":
    main()
