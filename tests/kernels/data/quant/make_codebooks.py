"""Writes kernels/quant/codebooks.inc: which vectors the codebooks of IQ1, IQ2 and IQ3 hold.

A codebook entry is a vector of 8 (IQ1, IQ2) or 4 (IQ3) levels. Read as a number, the first level the lowest digit, the entries
of every codebook rise, so that the set of them is the whole codebook: a bitmap, 64 entries to a word.
Facts of the formats, as gguf-py's quants.py has them (gguf 0.19.0; originally llama.cpp's ggml-common.h). Needs numpy and gguf. Run:

    python make_codebooks.py
"""

import pathlib

import gguf.quants
import numpy as np

# name here, class there, levels, elements of an entry
CODEBOOKS = [("kIq2XxsSet", "IQ2_XXS", 3, 8), ("kIq2XsSet", "IQ2_XS", 3, 8), ("kIq2SSet", "IQ2_S", 3, 8),
             ("kIq1Set", "IQ1_S", 3, 8), ("kIq3XxsSet", "IQ3_XXS", 8, 4), ("kIq3SSet", "IQ3_S", 8, 4)]


def main():
    out = ["// Made by tests/kernels/data/quant/make_codebooks.py, which says what it is."]
    for name, source, n_levels, n_elements in CODEBOOKS:
        quant = getattr(gguf.quants, source)
        quant.init_grid()
        grid = quant.grid.reshape(quant.grid_shape)
        levels = np.unique(grid)
        assert len(levels) == n_levels and grid.shape[1] == n_elements
        numbers = np.searchsorted(levels, grid) @ n_levels ** np.arange(n_elements)
        assert np.all(np.diff(numbers) > 0)
        words = [0] * ((n_levels**n_elements + 63) // 64)
        for number in numbers.tolist():
            words[number // 64] |= 1 << number % 64
        out.append(f"constexpr uint64_t {name}[{len(words)}] = {{")
        out += ["    " + " ".join(f"0x{word:x}," for word in words[i:i + 6]) for i in range(0, len(words), 6)]
        out.append("};")
    path = pathlib.Path(__file__).parents[4] / "kernels" / "quant" / "codebooks.inc"
    path.write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
