#!/usr/bin/env python3
"""What llama.cpp says about a text with a published model, small enough to commit: for real_models_test.cpp.

  make_real.py F32.gguf LLAMA.kld PERPLEXITY OUT.gguf

F32.gguf   glimpse perplexity -m MODEL -f LICENSE --precision f32 --kl-base F32.gguf --save-base --exact
LLAMA.kld  llama-perplexity -m MODEL -f LICENSE -c 512 --kl-divergence-base LLAMA.kld, which prints PERPLEXITY

Of every eighth scored row, the 64 tokens that the f32 run finds likeliest, with the log-probabilities that it and
llama.cpp give them. Divergences of distributions whose other tokens count as one are never above the whole ones'.
"""
import sys

import numpy as np
from gguf import GGUFReader, GGUFWriter

STRIDE, TOP = 8, 64


def read_exact(path):
    """Token ids (chunks, n_ctx), the number of scored rows, and the log-probabilities of one of them."""
    tensors = {t.name: t.data for t in GGUFReader(path).tensors}
    n_chunks = sum(name.endswith(".ids") for name in tensors)
    ids = np.stack([tensors[f"{i}.ids"] for i in range(n_chunks)])
    chunks = [tensors[f"{i}.log_probs"] for i in range(n_chunks)]
    n = len(chunks[0])
    return ids, n_chunks * n, lambda i: chunks[i // n][i % n]


def read_llama(path):
    """The same of a file of llama-perplexity."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    assert bytes(data[:8]) == b"_logits_"
    n_ctx, n_vocab, n_chunks = np.frombuffer(data[8:20], dtype="<i4")
    begin = 20 + 4 * n_ctx * n_chunks
    ids = np.frombuffer(data[20:begin], dtype="<i4").reshape(n_chunks, n_ctx)
    row_bytes = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    rows = data[begin:].reshape(-1, row_bytes)

    def row(i):
        scale, low = np.frombuffer(rows[i, :8].tobytes(), dtype="<f4")
        codes = np.frombuffer(rows[i, 8:].tobytes(), dtype="<u2")[:n_vocab]
        return low + scale * codes.astype(np.float32)

    return ids, len(rows), row


def main():
    ids, n_rows, f32 = read_exact(sys.argv[1])
    other_ids, other_rows, llama = read_llama(sys.argv[2])
    assert n_rows == other_rows and np.array_equal(ids, other_ids), "other tokens"
    rows = np.arange(0, n_rows, STRIDE, dtype=np.int32)
    tokens = np.zeros((len(rows), TOP), dtype=np.int32)
    values = {name: np.zeros((len(rows), TOP), dtype=np.float32) for name in ("f32", "llama")}
    for i, r in enumerate(rows):
        reference = f32(r)
        tokens[i] = np.argsort(-reference, kind="stable")[:TOP]
        values["f32"][i] = reference[tokens[i]]
        values["llama"][i] = llama(r)[tokens[i]]
    w = GGUFWriter(sys.argv[4], "glimpse.real")
    w.add_float64("llama.perplexity", float(sys.argv[3]))
    w.add_tensor("ids", np.ascontiguousarray(ids))
    w.add_tensor("rows", rows)
    w.add_tensor("tokens", tokens)
    for name, table in values.items():
        w.add_tensor(name, table)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
