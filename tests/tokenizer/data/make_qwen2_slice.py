#!/usr/bin/env python3
"""Cuts from Qwen2's vocabulary what the public tokenizer cases need, so that they run in every clone:

    python3 make_qwen2_slice.py qwen2-vocab.gguf qwen2-cases.inp qwen2-cases.out    # in this folder

The three files are llama.cpp's models/ggml-vocab-qwen2.gguf, .gguf.inp and .gguf.out; needs gguf and regex from PyPI.

qwen2_slice.vocab   "N <tokens of the whole>", "T <id> <type> <token>" of the tokens that a case or a merge of it touches, and of all special ones;
                    then "M <left> <right>" in the order of the ranks. Every merge that byte-level BPE considers on its
                    way through a case is there, so that the slice gives the whole vocabulary's ids.
qwen2_cases.txt     the cases, as in cases.txt, and those of KNOWN below
"""
import sys

import regex
from gguf import GGUFReader
from make_fixtures import SPLIT, escaped

# More than the public cases have: words of the chat format, digits, contractions, blanks, accents apart.
KNOWN = ["Hello world", "system\nYou are a helpful assistant.", "(123,456)", "I'll 'RE 2024 x=1;\n\n  y",
         "\u00dcn\u00efc\u00f6d\u00e9 \u00e9", "e\u0301"]
SEPARATOR = "\n__ggml_vocab_test__\n"


def byte_alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def strings(reader, key):
    field = reader.fields[key]
    return [bytes(field.parts[i]).decode() for i in field.data]


def numbers(reader, key):
    field = reader.fields[key]
    return [int(field.parts[i][0]) for i in field.data]


def bpe(piece, ranks, used):
    """The tokens of a piece; `used` gets every merge that is possible at any step."""
    parts = list(piece)
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
        used.update(rank for rank, _ in pairs)
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


def main():
    reader = GGUFReader(sys.argv[1])
    tokens, types = strings(reader, "tokenizer.ggml.tokens"), numbers(reader, "tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in strings(reader, "tokenizer.ggml.merges")]
    ranks = {pair: i for i, pair in enumerate(merges)}
    ids = {token: i for i, token in enumerate(tokens)}
    letters = byte_alphabet()
    texts = open(sys.argv[2], newline="").read().split(SEPARATOR)
    lines = open(sys.argv[3]).read().split("\n")
    cases, used = [], set()

    def encode(text):
        out = []
        for piece in regex.findall(SPLIT, text):
            out += bpe("".join(letters[b] for b in piece.encode()), ranks, used)
        return [ids[t] for t in out]

    for text, line in zip(texts, lines):
        want = [int(i) for i in line.split()]
        assert encode(text) == want, text
        cases.append((text, want))
    assert len(cases) == 47
    cases += [(text, encode(text)) for text in KNOWN]
    with open("qwen2_cases.txt", "w", newline="\n") as out:
        for text, want in cases:
            out.write(f"-\t{escaped(text)}\t{' '.join(map(str, want))}\n")
    wanted = set(letters.values()) | {tokens[i] for _, case in cases for i in case}
    for rank in used:
        left, right = merges[rank]
        wanted |= {left, right, left + right}
    kept = sorted({ids[t] for t in wanted} | {i for i, t in enumerate(types) if t in (3, 4)})
    with open("qwen2_slice.vocab", "w", newline="\n") as out:
        out.write(f"N {len(tokens)}\n")
        for i in kept:
            out.write(f"T {i} {types[i]} {tokens[i]}\n")
        for rank in sorted(used):
            out.write("M {} {}\n".format(*merges[rank]))


main()
