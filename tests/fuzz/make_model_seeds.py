# Writes corpus/model, corpus/plan, corpus/activations (programs of changes, model_mutant.h), corpus/embedding and
# corpus/pack_data. The embedding's checksum is left zero: the fuzzer makes it right.
import os
import random
import struct

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def write(target, name, data):
    os.makedirs(os.path.join(folder, target), exist_ok=True)
    with open(os.path.join(folder, target, name), "wb") as f:
        f.write(data)


rng = random.Random(1)
for i in range(8):
    program = bytes(rng.randrange(256) for _ in range(5 * (1 + i % 4)))
    write("model", "changes_%d" % i, bytes([i % 4]) + program)
    write("activations", "changes_%d" % i, program)
    write("plan", "changes_%d" % i, bytes([rng.choice([2, 7, 15, 18]), i]) + [b"", b"attn_q=q8_0", b"ffn.*=q6_k", b"((=f16"][i % 4] + b"\n" + program)
write("model", "none", b"\x00")

fields = (1, 2, 4, 2, 2, 3, 56, 28, 56, 28)
header = b"GLIE" + struct.pack("<I10qQQ", 2, *fields, 7, 0)
write("embedding", "two_tokens", header + struct.pack("<6f", 1, 2, 3, 4, 5, 6))
write("embedding", "video", b"GLIE" + struct.pack("<I10qQQ", 2, 3, 2, 2, 2, 3, 1, 28, 28, 28, 28, 7, 0) + struct.pack("<3f", 1, 2, 3))
write("embedding", "old", b"GLIE" + struct.pack("<I10q", 1, *fields) + struct.pack("<6f", 1, 2, 3, 4, 5, 6))
write("pack_data", "ramp", bytes(range(256)))
write("pack_data", "ones", b"\xff")
write("pack_data", "random", bytes(rng.randrange(256) for _ in range(1000)))
