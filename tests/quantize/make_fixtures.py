#!/usr/bin/env python3
"""Makes tests/quantize/data: two small models, importance matrices, and what llama-quantize makes of them.

Usage: make_fixtures.py path/to/llama-quantize    (llama.cpp 0c1e57098; Python packages gguf, numpy)

expected.txt: one line per result: model, importance matrix or -, file type, FNV-1a of names and types, FNV-1a of the
data, both over the tensors in order of their names.
"""
import os
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
TYPES = ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS "
         "F32 F16 BF16").split()
# llama-quantize aborts on vision encoders where the rule asks for heads per key/value head.
VISION_TYPES = [t for t in TYPES if t not in ("Q2_K", "IQ4_NL", "IQ4_XS")]
LAYERS = 8
random = np.random.default_rng(1)


def weights(*shape):
    return random.standard_normal(shape).astype(np.float16)


def vector(n):
    return random.standard_normal(n).astype(np.float32)


def text(path):
    w = gguf.GGUFWriter(path, "qwen2vl")
    for key, value in (("block_count", LAYERS), ("context_length", 64), ("embedding_length", 256),
                       ("feed_forward_length", 512), ("attention.head_count", 8), ("attention.head_count_kv", 2)):
        w.add_uint32("qwen2vl." + key, value)
    w.add_float32("qwen2vl.attention.layer_norm_rms_epsilon", 1e-6)
    w.add_array("qwen2vl.rope.dimension_sections", [4, 6, 6, 0])
    w.add_file_type(1)
    w.add_string("tokenizer.ggml.model", "none")
    w.add_tensor("token_embd.weight", weights(3, 256))
    columns = {"token_embd.weight": 256}
    for i in range(LAYERS):
        for name, n in (("attn_q", 256), ("attn_k", 256), ("attn_v", 256), ("attn_output", 96), ("ffn_gate", 256),
                        ("ffn_up", 100), ("ffn_down", 512)):
            w.add_tensor(f"blk.{i}.{name}.weight", weights(2, n))
            columns[f"blk.{i}.{name}.weight"] = n
        w.add_tensor(f"blk.{i}.attn_norm.weight", vector(256))
    w.add_tensor("output.weight", weights(3, 256))
    finish(w)
    del columns["token_embd.weight"], columns["blk.1.attn_q.weight"]  # it may lack some
    return {name: (random.standard_normal(n) ** 2).astype(np.float32) for name, n in columns.items()}


def experts(path):
    """A model of experts with one that all rows go through: every kind of expert tensor."""
    n_experts = 3
    w = gguf.GGUFWriter(path, "qwen2moe")
    for key, value in (("block_count", LAYERS), ("context_length", 64), ("embedding_length", 256),
                       ("feed_forward_length", 512), ("attention.head_count", 8), ("attention.head_count_kv", 2),
                       ("expert_count", n_experts), ("expert_used_count", 2), ("expert_feed_forward_length", 256),
                       ("expert_shared_feed_forward_length", 256)):
        w.add_uint32("qwen2moe." + key, value)
    w.add_float32("qwen2moe.attention.layer_norm_rms_epsilon", 1e-6)
    w.add_file_type(1)
    w.add_string("tokenizer.ggml.model", "none")
    w.add_tensor("token_embd.weight", weights(3, 256))
    columns = {}
    for i in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"):
            w.add_tensor(f"blk.{i}.{name}.weight", weights(2, 256))
        w.add_tensor(f"blk.{i}.ffn_gate_inp.weight", random.standard_normal((n_experts, 256)).astype(np.float32))
        w.add_tensor(f"blk.{i}.ffn_gate_inp_shexp.weight", vector(256))
        for name in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"):
            w.add_tensor(f"blk.{i}.{name}.weight", weights(n_experts, 1, 256))
            columns[f"blk.{i}.{name}.weight"] = n_experts
        w.add_tensor(f"blk.{i}.attn_norm.weight", vector(256))
    finish(w)
    return {name: (random.standard_normal((n, 256)) ** 2).astype(np.float32) for name, n in columns.items()}


def vision(path):
    w = gguf.GGUFWriter(path, "clip")
    w.add_string("general.type", "mmproj")
    w.add_string("clip.projector_type", "qwen2vl_merger")
    w.add_uint32("clip.vision.block_count", 12)
    w.add_tensor("v.patch_embd.weight", weights(2, 3, 2, 2))
    w.add_tensor("v.position_embd.weight", vector(64).reshape(1, 64))
    for i in range(12):
        for name, n in (("attn_v", 256), ("attn_out", 160), ("ffn_down", 256)):
            w.add_tensor(f"v.blk.{i}.{name}.weight", weights(1, n))
        w.add_tensor(f"v.blk.{i}.attn_v.bias", vector(4))
    w.add_tensor("mm.0.weight", weights(2, 256))
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def begin_importance(name, dataset):
    w = gguf.GGUFWriter(os.path.join(HERE, name), "")
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", [dataset])
    w.add_uint32("imatrix.chunk_count", 3)
    w.add_uint32("imatrix.chunk_size", 64)
    return w


def expert_importance(values):
    """Of each expert, by how often it was chosen."""
    w = begin_importance("importance-experts.gguf", "calibration.txt")
    for name, v in values.items():
        counts = np.arange(64, 64 + len(v), dtype=np.float32).reshape(-1, 1)
        w.add_tensor(name + ".in_sum2", v * counts)
        w.add_tensor(name + ".counts", counts)
    finish(w)


def importance(values):
    w = begin_importance("importance.gguf", "folder/calibration.txt")
    for name, v in values.items():
        w.add_tensor(name + ".in_sum2", (v * np.float32(192)).reshape(1, -1))
        w.add_tensor(name + ".counts", np.array([[192]], dtype=np.float32))
    finish(w)
    with open(os.path.join(HERE, "importance.dat"), "wb") as out:
        out.write(struct.pack("<i", len(values)))
        for name, v in values.items():
            out.write(struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 3, len(v)))
            out.write((v * np.float32(3)).tobytes())
        dataset = b"calibration.txt"
        out.write(struct.pack("<ii", 3, len(dataset)) + dataset)


def fnv(data, state=0xCBF29CE484222325):
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return state


def main():
    os.makedirs(HERE, exist_ok=True)
    importance(text(os.path.join(HERE, "text.gguf")))
    vision(os.path.join(HERE, "vision.gguf"))
    expert_importance(experts(os.path.join(HERE, "experts.gguf")))
    lines = []
    for model, matrix, types in (("text.gguf", None, TYPES), ("text.gguf", "importance.gguf", TYPES),
                                 ("text.gguf", "importance.dat", ["Q4_K_M", "IQ4_XS"]),
                                 ("vision.gguf", None, VISION_TYPES),
                                 ("experts.gguf", None, TYPES),
                                 ("experts.gguf", "importance-experts.gguf", TYPES)):
        for file_type in types:
            with tempfile.TemporaryDirectory() as folder:
                out = os.path.join(folder, "out.gguf")
                flags = ["--imatrix", os.path.join(HERE, matrix)] if matrix else []
                subprocess.run([sys.argv[1], *flags, os.path.join(HERE, model), out, file_type, "1"], check=True,
                               capture_output=True)
                tensors = sorted(gguf.GGUFReader(out).tensors, key=lambda t: t.name)
                names = "".join(f"{t.name}={int(t.tensor_type)};" for t in tensors)
                data = b"".join(t.data.tobytes() for t in tensors)
                lines.append(f"{model} {matrix or '-'} {file_type} {fnv(names.encode()):016x} {fnv(data):016x}\n")
    with open(os.path.join(HERE, "expected.txt"), "w") as out:
        out.writelines(lines)


main()
