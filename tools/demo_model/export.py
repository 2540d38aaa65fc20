"""Writes a checkpoint as GGUF pair, in the layout of llama.cpp's converter, and as Hugging Face folder.

  python3 tools/demo_model/export.py --checkpoints DIR --out DIR2 [--live]

DIR2 gets demo-f32.gguf, demo-f16.gguf, mmproj-demo-f32.gguf, mmproj-demo-f16.gguf, and hf/ with exactly the F32 weights.
Quantise the text with `llama-quantize demo-f32.gguf demo-Q8_0.gguf Q8_0` or `glimpse quantize`."""
import argparse
import json
import os

import gguf
import numpy as np
import torch
from transformers import Qwen2VLImageProcessorPil

import model as models
from data import MEAN, STD
from vocabulary import CHAT_TEMPLATE, Vocabulary

NAME = "Glimpse Demo"


def put(writer, name, value, half):
    value = value.detach().float().numpy()
    writer.add_tensor(name, np.ascontiguousarray(value.astype(np.float16 if half and value.ndim > 1 else np.float32)))


def start(path, arch, kind, parameters, half):
    w = gguf.GGUFWriter(path, arch)
    w.add_type(kind)
    w.add_name(NAME)
    w.add_size_label(f"{parameters / 1e6:.1f}M")
    w.add_license("apache-2.0")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    return w


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def text_tensors(model):
    """(name in the file, parameter) of the decoder."""
    lm = model.model.language_model
    yield "token_embd.weight", lm.embed_tokens.weight
    for i, layer in enumerate(lm.layers):
        b, a = f"blk.{i}.", layer.self_attn
        yield b + "attn_norm.weight", layer.input_layernorm.weight
        for name, part in (("attn_q", a.q_proj), ("attn_k", a.k_proj), ("attn_v", a.v_proj)):
            yield b + name + ".weight", part.weight
            yield b + name + ".bias", part.bias
        yield b + "attn_output.weight", a.o_proj.weight
        yield b + "ffn_norm.weight", layer.post_attention_layernorm.weight
        for name, part in (("ffn_gate", layer.mlp.gate_proj), ("ffn_up", layer.mlp.up_proj),
                           ("ffn_down", layer.mlp.down_proj)):
            yield b + name + ".weight", part.weight
    yield "output_norm.weight", lm.norm.weight


def vision_tensors(model):
    """(name in the file, parameter or a view of a part of it) of the encoder and the projector."""
    v = model.model.visual
    kernel = v.patch_embed.proj.weight  # (C, 3, 2, p, p)
    yield "v.patch_embd.weight", kernel[:, :, 0]
    yield "v.patch_embd.weight.1", kernel[:, :, 1]
    for i, block in enumerate(v.blocks):
        b = f"v.blk.{i}."
        parts = [("ln1", block.norm1.weight, block.norm1.bias), ("ln2", block.norm2.weight, block.norm2.bias),
                 ("attn_out", block.attn.proj.weight, block.attn.proj.bias),
                 ("ffn_up", block.mlp.fc1.weight, block.mlp.fc1.bias),
                 ("ffn_down", block.mlp.fc2.weight, block.mlp.fc2.bias)]
        parts += [(name, *x) for name, x in zip(("attn_q", "attn_k", "attn_v"), zip(
            block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)))]
        for name, weight, bias in parts:
            yield b + name + ".weight", weight
            yield b + name + ".bias", bias
    for name, module in (("v.post_ln", v.merger.ln_q), ("mm.0", v.merger.mlp[0]), ("mm.2", v.merger.mlp[2])):
        yield name + ".weight", module.weight
        yield name + ".bias", module.bias


def write_text(path, model, vocabulary, half):
    c, lm = model.config.text_config, model.model.language_model
    w = start(path, "qwen2vl", "model", sum(p.numel() for p in lm.parameters()), half)
    w.add_block_count(c.num_hidden_layers)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_rope_dimension_sections(list(c.rope_parameters["mrope_section"]) + [0])
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(vocabulary.tokens)
    w.add_token_types(vocabulary.types)
    w.add_token_merges(vocabulary.merges)
    w.add_eos_token_id(vocabulary.end)
    w.add_pad_token_id(vocabulary.pad)
    w.add_bos_token_id(vocabulary.pad)
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in text_tensors(model):
        put(w, name, tensor, half)
    finish(w)


def write_mmproj(path, model, half):
    c = model.config.vision_config
    w = start(path, "clip", "mmproj", sum(p.numel() for p in model.model.visual.parameters()), half)
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.projector_type", "qwen2vl_merger")
    w.add_uint32("clip.vision.projection_dim", c.hidden_size)
    w.add_uint32("clip.vision.image_size", 560)  # a placeholder, as the converter writes it
    w.add_uint32("clip.vision.patch_size", c.patch_size)
    w.add_uint32("clip.vision.embedding_length", c.embed_dim)
    w.add_uint32("clip.vision.feed_forward_length", c.hidden_size)  # this too: readers go by the tensors
    w.add_uint32("clip.vision.block_count", c.depth)
    w.add_uint32("clip.vision.attention.head_count", c.num_heads)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [float(x) for x in MEAN])
    w.add_array("clip.vision.image_std", [float(x) for x in STD])
    for name, tensor in vision_tensors(model):
        put(w, name, tensor, half)
    finish(w)


def load(checkpoints, live=False):
    """(vocabulary, model, saved state) of last.pt: the moving average of the weights, or the weights themselves."""
    here = os.path.dirname(os.path.abspath(__file__))
    vocabulary = Vocabulary(os.path.join(here, "vocabulary.json"))
    saved = torch.load(os.path.join(checkpoints, "last.pt"), map_location="cpu", weights_only=True)
    model = models.create(vocabulary, saved["size"])
    model.load_state_dict(saved["model" if live else "average"])
    return vocabulary, model.eval(), saved["state"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoints", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--live", action="store_true", help="the weights themselves instead of their moving average")
    args = p.parse_args()
    vocabulary, model, state = load(args.checkpoints, args.live)
    os.makedirs(args.out, exist_ok=True)
    with torch.no_grad():  # the pair that is shipped has an F16 encoder: let all see the same weights
        for q in model.model.visual.parameters():
            if q.dim() > 1:
                q.copy_(q.half().float())
    for half, word in ((False, "f32"), (True, "f16")):
        write_text(os.path.join(args.out, f"demo-{word}.gguf"), model, vocabulary, half)
        write_mmproj(os.path.join(args.out, f"mmproj-demo-{word}.gguf"), model, half)
    hf = os.path.join(args.out, "hf")
    model.save_pretrained(hf)
    vocabulary.save_pretrained(hf)
    Qwen2VLImageProcessorPil().save_pretrained(hf)
    with open(os.path.join(args.out, "state.json"), "w", encoding="utf-8") as file:
        json.dump(state, file)
    print(f"{args.out}: step {state['step']}, {state['pictures']} pictures, {state['questions']} questions")


if __name__ == "__main__":
    main()
