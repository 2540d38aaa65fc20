#!/usr/bin/env python3
"""Writes the GGUF fixtures beside this file, and the seeds of the fuzzer, with gguf-py, the reference writer.

Needs: pip install gguf (0.19 was used). Run: python3 make_fixtures.py
The contents of reference.gguf are repeated in gguf_writer_test.cpp (WritesTheBytesOfGgufPy).
"""

import shutil
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFValueType, GGUFWriter

HERE = Path(__file__).parent


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def reference():
    w = GGUFWriter(HERE / "reference.gguf", "qwen2vl")
    w.add_name("Tiny mödel")
    w.add_uint32("qwen2vl.block_count", 28)
    w.add_int32("test.int32", -5)
    w.add_uint64("test.uint64", 1 << 40)
    w.add_float32("qwen2vl.attention.layer_norm_rms_epsilon", 1e-6)
    w.add_bool("clip.has_vision_encoder", True)
    w.add_bool("test.false", False)
    w.add_array("qwen2vl.rope.dimension_sections", [16, 24, 24, 0])
    w.add_array("clip.vision.image_mean", [0.5, 0.25, 0.125])
    w.add_array("clip.vision.is_deepstack_layers", [True, False, True])
    w.add_array("tokenizer.ggml.tokens", ["!", '"', "Ġthe"])
    w.add_string("test.empty_string", "")
    w.add_array("test.empty_array", [])
    w.add_tensor("f32", np.arange(6, dtype=np.float32).reshape(2, 3))
    w.add_tensor("f16", np.array([1, -2, 0.5], dtype=np.float16))
    blocks = np.arange(68, dtype=np.uint8).reshape(1, 2, 34)
    w.add_tensor("q8_0", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
    finish(w)


def all_types():
    w = GGUFWriter(HERE / "all_types.gguf", "test")
    integers = {"UINT8": 255, "INT8": -128, "UINT16": 65535, "INT16": -32768, "UINT32": 2**32 - 1,
                "INT32": -(2**31), "UINT64": 2**64 - 1, "INT64": -(2**63)}
    values = {**integers, "FLOAT32": 0.1, "FLOAT64": 0.1, "BOOL": True, "STRING": "text"}
    for name, value in values.items():
        kind = GGUFValueType[name]
        w.add_key_value(f"scalar.{name.lower()}", value, kind)
        w.add_key_value(f"array.{name.lower()}", [value, value], GGUFValueType.ARRAY, sub_type=kind)
    w.add_tensor("i8", np.array([1, -1, 2], dtype=np.int8))
    w.add_tensor("f64", np.array([[0.1]], dtype=np.float64))
    blocks = np.arange(144, dtype=np.uint8).reshape(1, 144)
    w.add_tensor("q4_k", blocks, raw_dtype=GGMLQuantizationType.Q4_K)
    finish(w)


def alignment():
    w = GGUFWriter(HERE / "alignment.gguf", "test")
    w.add_custom_alignment(64)
    w.add_tensor("a", np.array([1.0], dtype=np.float32))
    w.add_tensor("b", np.array([2.0], dtype=np.float32))
    finish(w)


def keys_only():  # as the converter writes a vocabulary
    w = GGUFWriter(HERE / "keys_only.gguf", "test")
    w.add_type("vocab")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def split():
    w = GGUFWriter(HERE / "split.gguf", "test", split_max_tensors=1, small_first_shard=True)
    w.add_tensor("a", np.arange(2, dtype=np.float32))
    w.add_tensor("b", np.arange(10, 12, dtype=np.float32))
    finish(w)


def big_endian():
    w = GGUFWriter(HERE / "big_endian.gguf", "test", endianess=GGUFEndian.BIG)
    w.add_tensor("a", np.arange(2, dtype=np.float32))
    finish(w)


for make in (reference, all_types, alignment, keys_only, split, big_endian):
    make()

SEEDS = HERE.parent.parent / "fuzz" / "corpus" / "gguf"
SEEDS.mkdir(parents=True, exist_ok=True)
for name in ("reference", "all_types", "alignment", "keys_only", "big_endian", "split-00002-of-00003"):
    shutil.copy(HERE / f"{name}.gguf", SEEDS / f"{name}.gguf")
