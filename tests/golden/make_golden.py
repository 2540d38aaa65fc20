"""Writes the golden models and activations of this folder: tiny random Qwen2-VL models as GGUF pairs, laid out as
llama.cpp's converter does, and what transformers computes with the same weights, step by step.

Needs: torch, transformers >= 5, tokenizers, Pillow, numpy, gguf.   Run: python3 make_golden.py [folder]

  tied/       F32 decoder with tied embeddings, F16 vision encoder of odd widths; mmproj-legacy.gguf is the same
              encoder as the 2024-12 conversion script wrote it
  untied/     F16 decoder with an output matrix, F32 vision encoder with patches of 8
  quantized/  decoder only, Q4_K, Q6_K, Q8_0 mixed; the reference computes with the dequantised weights
  */case-*.gguf  inputs and activations. Tensors carry the tap names of engine/model/model.h; those of picture i are
              prefixed "i/", slices of a video are further rows. "ids" has picture places as the pad tokens' ids,
              "positions" is (T, 3), "greedy" the continuation, "pixels/i" the pictures (height, width, 3) as int8.
"""
import os
import sys

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as QT
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl import modeling_qwen2_vl as modeling

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
CORPUS = ["user", "assistant", "system", "what is this picture", "describe the image", "the cat and the dog",
          "You are a helpful assistant.", "in this image there is a"]
CHAT_TEMPLATE = ("{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
                 "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
                 "{{ message['content'] }}<|im_end|>\n{% endfor %}")
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def make_tokenizer(rows):
    """A byte-level BPE of `rows` entries: bytes, a few merges, special tokens, [PAD]."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=256 + 32, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    import json
    merges = [" ".join(m) if isinstance(m, list) else m for m in json.loads(t.to_str())["model"]["merges"]]
    t.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in SPECIAL])
    by_id = {i: s for s, i in t.get_vocab().items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(rows)]
    types = [3 if s in SPECIAL else 5 if i not in by_id else 1 for i, s in enumerate(tokens)]
    return t, tokens, types, merges


def randomize(model, seed, text_f16, vision_f16):
    """Weights large enough that every step matters; norms and biases away from 1 and 0."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.dim() == 1:
                scale, offset = (0.2, 1.0) if "norm" in name or "ln_q" in name else (0.2, 0.0)
                if name.endswith(".bias"):
                    offset = 0.0
                p.copy_(offset + scale * torch.randn(p.shape, generator=g))
            elif "embed_tokens" in name:
                p.copy_(0.5 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(1.4 / np.sqrt(p[0].numel()) * torch.randn(p.shape, generator=g))
            half = vision_f16 if "visual" in name else text_f16
            if half and p.dim() > 1:
                p.copy_(p.half().float())


def array(p, dtype=np.float32):
    return np.ascontiguousarray(p.detach().numpy().astype(dtype))


def add_sizes(w, path, cfg):
    """What every decoder's file begins with."""
    w.add_type("model")
    w.add_name("golden " + os.path.basename(os.path.dirname(path)))
    w.add_context_length(cfg.max_position_embeddings)
    w.add_embedding_length(cfg.hidden_size)
    w.add_block_count(cfg.num_hidden_layers)
    w.add_feed_forward_length(cfg.intermediate_size)
    w.add_head_count(cfg.num_attention_heads)
    w.add_head_count_kv(cfg.num_key_value_heads)


def add_vocabulary(w, tokenizer, dtype, bos=False):
    """The type of the file, the tokenizer and the chat template."""
    _, tokens, types, merges = tokenizer
    w.add_file_type({np.float32: gguf.LlamaFileType.ALL_F32, np.float16: gguf.LlamaFileType.MOSTLY_F16}[dtype])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_eos_token_id(tokens.index("<|im_end|>"))
    w.add_pad_token_id(tokens.index("<|endoftext|>"))
    if bos:
        w.add_bos_token_id(tokens.index("<|endoftext|>"))
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)


def put_projections(put, b, attention):
    for name, proj in (("attn_q", attention.q_proj), ("attn_k", attention.k_proj), ("attn_v", attention.v_proj)):
        put(b + name + ".weight", proj.weight)
        if proj.bias is not None:
            put(b + name + ".bias", proj.bias)


def write_text(path, model, tokenizer, rows, dtype, quantized=None):
    cfg = model.config.text_config
    w = gguf.GGUFWriter(path, "qwen2vl")
    add_sizes(w, path, cfg)
    w.add_rope_freq_base(cfg.rope_parameters["rope_theta"])
    w.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    w.add_rope_dimension_sections(list(cfg.rope_parameters["mrope_section"]) + [0])
    add_vocabulary(w, tokenizer, dtype, bos=True)
    lm = model.model.language_model
    put = lambda name, p: put_tensor(w, name, p, dtype, quantized)
    put("token_embd.weight", lm.embed_tokens.weight)
    put("output_norm.weight", lm.norm.weight)
    if not model.config.tie_word_embeddings:
        put("output.weight", model.lm_head.weight)
    for i, layer in enumerate(lm.layers):
        b, a = f"blk.{i}.", layer.self_attn
        put(b + "attn_norm.weight", layer.input_layernorm.weight)
        put_projections(put, b, a)
        put(b + "attn_output.weight", a.o_proj.weight)
        put(b + "ffn_norm.weight", layer.post_attention_layernorm.weight)
        put(b + "ffn_gate.weight", layer.mlp.gate_proj.weight)
        put(b + "ffn_up.weight", layer.mlp.up_proj.weight)
        put(b + "ffn_down.weight", layer.mlp.down_proj.weight)
    finish(w)


def put_tensor(w, name, p, dtype, quantized=None):
    if quantized is not None and name in quantized:
        type_, raw = quantized[name]
        w.add_tensor(name, raw, raw_dtype=type_)
    else:
        w.add_tensor(name, array(p, np.float32 if p.dim() == 1 else dtype))


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_mmproj(path, model, dtype, legacy=False):
    """legacy: keys and tensor names as examples/llava/qwen2_vl_surgery.py wrote them until 2025-04."""
    cfg = model.config.vision_config
    v = model.model.visual
    w = gguf.GGUFWriter(path, "clip")
    if legacy:
        w.add_description("image encoder for Qwen2VL")
        w.add_file_type(1 if dtype == np.float16 else 0)
        w.add_bool("clip.has_text_encoder", False)
        w.add_bool("clip.has_vision_encoder", True)
        w.add_bool("clip.has_qwen2vl_merger", True)
        w.add_string("clip.projector_type", "qwen2vl_merger")
        w.add_bool("clip.use_silu", False)
        w.add_bool("clip.use_gelu", False)
    else:
        w.add_type("mmproj")
        w.add_file_type(1 if dtype == np.float16 else 0)
        w.add_bool("clip.has_vision_encoder", True)
        w.add_string("clip.projector_type", "qwen2vl_merger")
    w.add_uint32("clip.vision.image_size", 560)
    w.add_uint32("clip.vision.patch_size", cfg.patch_size)
    w.add_uint32("clip.vision.embedding_length", cfg.embed_dim)
    w.add_uint32("clip.vision.feed_forward_length", 0 if legacy else cfg.hidden_size)  # wrong in released files too
    w.add_uint32("clip.vision.projection_dim", cfg.hidden_size)
    w.add_uint32("clip.vision.block_count", cfg.depth)
    w.add_uint32("clip.vision.attention.head_count", cfg.num_heads)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", MEAN)
    w.add_array("clip.vision.image_std", STD)
    put = lambda name, p: put_tensor(w, name, p, dtype)
    kernel = v.patch_embed.proj.weight  # (C, 3, 2, p, p)
    put("v.patch_embd.weight", kernel[:, :, 0])
    put("v.patch_embd.weight.1", kernel[:, :, 1])
    if legacy:
        w.add_tensor("v.position_embd.weight", np.zeros((10, 10), np.float32))
    up, down = ("ffn_down", "ffn_up") if legacy else ("ffn_up", "ffn_down")
    for i, block in enumerate(v.blocks):
        b = f"v.blk.{i}."
        for name, module in (("ln1", block.norm1), ("attn_out", block.attn.proj), ("ln2", block.norm2),
                             (up, block.mlp.fc1), (down, block.mlp.fc2)):
            put(b + name + ".weight", module.weight)
            put(b + name + ".bias", module.bias)
        for part, name in enumerate(("attn_q", "attn_k", "attn_v")):
            put(b + name + ".weight", block.attn.qkv.weight.chunk(3)[part])
            put(b + name + ".bias", block.attn.qkv.bias.chunk(3)[part])
    for name, module in (("v.post_ln", v.merger.ln_q), ("mm.0", v.merger.mlp[0]), ("mm.2", v.merger.mlp[2])):
        put(name + ".weight", module.weight)
        put(name + ".bias", module.bias)
    finish(w)


class Recorder:
    """Activations of one forward pass by tap name; every tensor as (rows, columns)."""

    def __init__(self, model):
        self.model, self.taps, self.handles = model, {}, []
        self.rotated = []

    def keep(self, name, x):
        self.taps[name] = x.detach().reshape(-1, x.shape[-1]).clone()

    def __enter__(self):
        m = self.model
        out = lambda mod, name, f=lambda x: x: self.handles.append(
            mod.register_forward_hook(lambda _m, _i, o: self.keep(name, f(o[0] if isinstance(o, tuple) else o))))
        inp = lambda mod, name: self.handles.append(mod.register_forward_pre_hook(lambda _m, i: self.keep(name, i[0])))
        v, lm = m.model.visual, m.model.language_model
        out(v.patch_embed, "v.patch_embd")
        for i, b in enumerate(v.blocks):
            p = f"v.blk.{i}."
            out(b.attn.qkv, p + "v", lambda o: o.chunk(3, -1)[2])
            inp(b.attn.proj, p + "attn")
            inp(b.norm2, p + "attn_out")
            inp(b.mlp.fc2, p + "ffn")
            out(b, p + "ffn_out")
        inp(v.merger.mlp[2], "v.merger")
        out(v.merger, "v.embd")
        self.handles.append(lm.layers[0].register_forward_pre_hook(lambda _m, i: self.keep("embd", i[0])))
        for i, b in enumerate(lm.layers):
            p = f"blk.{i}."
            out(b.self_attn.v_proj, p + "v")
            inp(b.self_attn.o_proj, p + "attn")
            inp(b.post_attention_layernorm, p + "attn_out")
            inp(b.mlp.down_proj, p + "ffn")
            out(b, p + "ffn_out")
        self.originals = (modeling.apply_rotary_pos_emb_vision, modeling.apply_rotary_pos_emb)

        def vision(q, k, cos, sin):
            q, k = self.originals[0](q, k, cos, sin)
            i = sum(n.startswith("v.blk.") and n.endswith(".q") for n in self.taps)
            for name, x in (("q", q), ("k", k)):  # (N, heads, d)
                self.keep(f"v.blk.{i}.{name}", x.reshape(x.shape[0], -1))
            return q, k

        def text(q, k, cos, sin, *args, **kwargs):
            q, k = self.originals[1](q, k, cos, sin, *args, **kwargs)
            i = sum(n.startswith("blk.") and n.endswith(".q") for n in self.taps)
            for name, x in (("q", q), ("k", k)):  # (1, heads, T, d)
                self.keep(f"blk.{i}.{name}", x[0].transpose(0, 1).reshape(x.shape[2], -1))
            return q, k

        modeling.apply_rotary_pos_emb_vision, modeling.apply_rotary_pos_emb = vision, text
        return self

    def __exit__(self, *_):
        modeling.apply_rotary_pos_emb_vision, modeling.apply_rotary_pos_emb = self.originals
        for h in self.handles:
            h.remove()


def picture(width, height, seed):
    """Something with edges, gradients and noise."""
    r = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([x * 255 / width, y * 255 / height, 127 + 120 * np.sin(x / 5 + y / 3 + seed)], -1)
    a[height // 4: height // 2, width // 3:] = r.integers(0, 256, 3)
    return np.clip(a + r.normal(0, 12, a.shape), 0, 255).astype(np.uint8)


def pixel_values(processor, pixels):
    out = processor(images=Image.fromarray(pixels), return_tensors="np")
    return np.asarray(out["pixel_values"], np.float32), [int(n) for n in out["image_grid_thw"][0]]


def one_frame(values, p):
    """(N, 3 * 2 * p * p) with equal frames to (N, 3 * p * p)."""
    return np.ascontiguousarray(values.reshape(-1, 3, 2, p * p)[:, :, 0]).reshape(len(values), -1)


def add_greedy(w, path, ids, positions, next_position, last_logits):
    """The continuation without a cache; near ties would make the test depend on rounding. last_logits(ids, positions,
    step): of the last row; next_position: of the first token that is made."""
    greedy = []
    with torch.no_grad():
        for step in range(16):
            last = last_logits(ids, positions, step)
            top = last.topk(2).values
            assert top[0] - top[1] > 2e-3, f"{path}: step {step}: the two best logits differ by {top[0] - top[1]}"
            greedy.append(int(last.argmax()))
            ids = torch.cat([ids, torch.tensor([[greedy[-1]]])], 1)
            positions = torch.cat([positions, torch.full((3, 1, 1), next_position + step)], 2)
    assert len(set(greedy)) >= 4, f"{path}: a dull continuation: {greedy}"
    w.add_tensor("greedy", np.array(greedy, np.int32))
    return greedy


def add_taps(w, taps, keep, grids, group_of, video=None):
    """Activations; those of the encoder picture by picture. group_of(name): patches of a row; video: the number of the
    one that went through the encoder last."""
    rows_of = [g[0] * g[1] * g[2] for g in grids]
    for name, x in taps.items():
        if keep is not None and not any(name == k or name.endswith("." + k) for k in keep):
            continue
        if not name.startswith("v."):
            w.add_tensor(name, array(x))
        elif video is not None:
            w.add_tensor(f"{video}/{name}", array(x))
        else:
            for i, part in enumerate(x.split([r // group_of(name) for r in rows_of])):
                w.add_tensor(f"{i}/{name}", array(part))


def run_case(path, model, tokenizer, prompt, pictures=(), video=(), keep=None, with_pixels=False):
    """prompt: text in which <image> and <video> stand for what follows from pictures and video."""
    t, tokens, _, _ = tokenizer
    vc = model.config.vision_config
    p, merge = vc.patch_size, vc.spatial_merge_size
    processor = Qwen2VLImageProcessorPil(
        patch_size=p, merge_size=merge, size={"shortest_edge": 4 * p * p, "longest_edge": 1 << 20})
    w = gguf.GGUFWriter(path, "golden")
    w.add_string("prompt", prompt)
    grids, values, inputs, text = [], [], {}, prompt
    for i, pixels in enumerate(pictures):
        v, grid = pixel_values(processor, pixels)
        if with_pixels:
            w.add_tensor(f"{i}/pixel_values", one_frame(v, p))
        w.add_tensor(f"pixels/{i}", pixels.view(np.int8))
        grids.append(grid), values.append(v)
        n = grid[1] * grid[2] // merge**2
        text = text.replace("<image>", "<|vision_start|>" + "<|image_pad|>" * n + "<|vision_end|>", 1)
    if pictures:
        inputs |= dict(pixel_values=torch.from_numpy(np.concatenate(values)), image_grid_thw=torch.tensor(grids))
    if len(video):
        frames = [pixel_values(processor, f) for f in video]
        for i, f in enumerate(video):
            w.add_tensor(f"pixels/{i}", f.view(np.int8))
        pairs = []
        for a, b in zip(frames[0::2], frames[1::2]):
            pair = a[0].reshape(-1, 3, 2, p * p).copy()
            pair[:, :, 1] = b[0].reshape(-1, 3, 2, p * p)[:, :, 1]
            pairs.append(pair.reshape(len(pair), -1))
        grid = [len(pairs), *frames[0][1][1:]]
        grids = [grid]
        n = grid[0] * grid[1] * grid[2] // merge**2
        text = text.replace("<video>", "<|vision_start|>" + "<|video_pad|>" * n + "<|vision_end|>", 1)
        inputs |= dict(pixel_values_videos=torch.from_numpy(np.concatenate(pairs)), video_grid_thw=torch.tensor([grid]))
    if grids:
        w.add_array("grids", [n for g in grids for n in g])
    ids = torch.tensor([t.encode(text, add_special_tokens=False).ids])
    kinds = (ids == model.config.image_token_id).int() + 2 * (ids == model.config.video_token_id).int()
    n = ids.shape[1]
    if grids:
        positions, delta = model.model.get_rope_index(ids, kinds, inputs.get("image_grid_thw"),
                                                      inputs.get("video_grid_thw"), torch.ones_like(ids))
        delta = int(delta[0])
    else:
        positions, delta = torch.arange(n).view(1, 1, -1).expand(3, 1, -1), 0
    with torch.no_grad(), Recorder(model) as rec:
        logits = model(input_ids=ids, position_ids=positions, mm_token_type_ids=kinds, use_cache=False, **inputs).logits
    rec.keep("logits", logits)
    w.add_tensor("ids", ids[0].numpy().astype(np.int32))
    w.add_tensor("positions", np.ascontiguousarray(positions[:, 0].T.numpy().astype(np.int32)))

    def last_logits(ids, positions, step):
        k = torch.cat([kinds, torch.zeros(1, step, dtype=kinds.dtype)], 1)
        return model(input_ids=ids, position_ids=positions, mm_token_type_ids=k, use_cache=False, **inputs).logits[0, -1]

    greedy = add_greedy(w, path, ids, positions, n + delta, last_logits)
    add_taps(w, rec.taps, keep, grids, lambda name: merge**2 if name in ("v.merger", "v.embd") else 1)
    finish(w)
    print(path, os.path.getsize(path), "T", n, "greedy", greedy)


def make_model(rows, tokenizer, text, vision, tied, seed, text_f16, vision_f16):
    token = tokenizer[1].index
    head_dim = text["hidden_size"] // text["num_attention_heads"]
    sections = {16: [2, 3, 3], 64: [8, 12, 12]}[head_dim]
    ffn = vision.pop("ffn")
    cfg = Qwen2VLConfig(
        text_config=dict(vocab_size=rows, bos_token_id=None, eos_token_id=None, max_position_embeddings=512, rms_norm_eps=1e-6,
                         rope_parameters=dict(type="mrope", rope_type="default", mrope_section=sections, rope_theta=1e6),
                         tie_word_embeddings=tied, **text),
        vision_config=dict(hidden_size=text["hidden_size"], spatial_merge_size=2, temporal_patch_size=2, **vision),
        tie_word_embeddings=tied, image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
        attn_implementation="eager")
    model = Qwen2VLForConditionalGeneration(cfg)
    for block in model.model.visual.blocks:  # the configuration knows whole multiples of the width only
        block.mlp = modeling.VisionMlp(vision["embed_dim"], ffn, cfg.vision_config.hidden_act)
    model = model.eval().float()
    randomize(model, seed, text_f16, vision_f16)
    return model


def random_blocks(type_, rows, cols, rng, std):
    """Random blocks of a K-quant with values of about the given spread (gguf-py cannot quantise to these)."""
    n = rows * cols // 256
    d = (std * rng.uniform(0.6, 1.4, (n, 1))).astype(np.float32)
    bytes_ = lambda k: rng.integers(0, 256, (n, k), dtype=np.uint8)
    f16 = lambda x: x.astype(np.float16).view(np.uint8)
    if type_ == QT.Q4_K:  # d, dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles
        raw = np.concatenate([f16(d / 250), f16(d / 250 * 7.5), bytes_(12), bytes_(128)], 1)
    else:  # Q6_K: 128 low nibbles, 64 high bits, 16 int8 scales, d
        scales = rng.integers(-32, 32, (n, 16), dtype=np.int8).view(np.uint8)
        raw = np.concatenate([bytes_(128), bytes_(64), scales, f16(d / 340)], 1)
    return np.ascontiguousarray(raw.reshape(rows, -1))


def quantize(model, seed):
    """Replaces the decoder's matrices by quantised ones; returns name -> (type, raw bytes)."""
    rng = np.random.default_rng(seed)
    lm, result = model.model.language_model, {}

    def replace(name, p, type_):
        rows, cols = p.shape
        if type_ == QT.Q8_0:
            raw = gguf.quants.quantize(array(p), type_)
        else:
            raw = random_blocks(type_, rows, cols, rng, 0.5 if "embd" in name else 1.4 / np.sqrt(cols))
        result[name] = (type_, raw)
        with torch.no_grad():
            p.copy_(torch.from_numpy(gguf.quants.dequantize(raw, type_)))

    replace("token_embd.weight", lm.embed_tokens.weight, QT.Q6_K)
    for i, layer in enumerate(lm.layers):
        a, m = layer.self_attn, layer.mlp
        for name, p, type_ in (("attn_q", a.q_proj, QT.Q4_K), ("attn_k", a.k_proj, QT.Q8_0), ("attn_v", a.v_proj, QT.Q6_K),
                               ("attn_output", a.o_proj, QT.Q4_K), ("ffn_gate", m.gate_proj, QT.Q4_K),
                               ("ffn_up", m.up_proj, QT.Q4_K), ("ffn_down", m.down_proj, QT.Q6_K)):
            replace(f"blk.{i}.{name}.weight", p.weight, type_)
    return result


def main(folder):
    torch.set_num_threads(1)
    for name in ("tied", "untied", "quantized"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    at = lambda *parts: os.path.join(folder, *parts)
    coarse = ["patch_embd", "ffn_out", "embd", "v.embd", "logits"]

    rows = 320
    tokenizer = make_tokenizer(rows)
    model = make_model(rows, tokenizer, dict(hidden_size=64, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4,
                                             num_key_value_heads=2),
                       dict(depth=2, embed_dim=48, num_heads=4, ffn=111, patch_size=14), True, SEEDS[0], False, True)
    write_text(at("tied", "model.gguf"), model, tokenizer, rows, np.float32)
    write_mmproj(at("tied", "mmproj.gguf"), model, np.float16)
    write_mmproj(at("tied", "mmproj-legacy.gguf"), model, np.float16, legacy=True)
    run_case(at("tied", "case-text.gguf"), model, tokenizer, "<|im_start|>user\nwhat is 7?<|im_end|>")
    run_case(at("tied", "case-image.gguf"), model, tokenizer, "user <image> is", [picture(84, 56, 1)], with_pixels=True)
    run_case(at("tied", "case-images.gguf"), model, tokenizer, "a <image> and<image>.", [picture(112, 28, 2), picture(56, 84, 3)],
             keep=coarse)
    run_case(at("tied", "case-video.gguf"), model, tokenizer, "the <video>?", video=[picture(84, 56, s) for s in range(4, 8)],
             keep=coarse)
    # A picture of another size: the processor resizes it.
    run_case(at("tied", "case-resize.gguf"), model, tokenizer, "<image>", [picture(75, 50, 9)], keep=["embd", "logits"],
             with_pixels=True)

    model = make_model(rows, tokenizer, dict(hidden_size=80, intermediate_size=101, num_hidden_layers=3, num_attention_heads=5,
                                             num_key_value_heads=1),
                       dict(depth=3, embed_dim=32, num_heads=2, ffn=67, patch_size=8), False, SEEDS[1], True, False)
    write_text(at("untied", "model.gguf"), model, tokenizer, rows, np.float16)
    write_mmproj(at("untied", "mmproj.gguf"), model, np.float32)
    run_case(at("untied", "case-image.gguf"), model, tokenizer, "user <image> is", [picture(32, 48, 11)])
    run_case(at("untied", "case-images.gguf"), model, tokenizer, "<image><image> it", [picture(48, 16, 12), picture(80, 32, 13)],
             keep=coarse)

    rows = 304
    tokenizer = make_tokenizer(rows)
    model = make_model(rows, tokenizer, dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                                             num_key_value_heads=2),
                       dict(depth=1, embed_dim=16, num_heads=2, ffn=32, patch_size=8), True, SEEDS[2], False, False)
    quantized = quantize(model, SEEDS[2])
    write_text(at("quantized", "model.gguf"), model, tokenizer, rows, np.float32, quantized)
    run_case(at("quantized", "case-text.gguf"), model, tokenizer, "<|im_start|>user\nwhat is 7?<|im_end|>",
             keep=["attn", "attn_out", "ffn", "ffn_out", "embd", "logits"])


SEEDS = [20, 31, 41]

if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
