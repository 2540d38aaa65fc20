"""Writes the golden models of the other families beside those of make_golden.py: tiny random models as GGUF, laid out as
llama.cpp's converter does, and what transformers computes with the same weights, step by step.

Needs: torch, transformers >= 5, tokenizers, Pillow, numpy, gguf.   Run: python3 make_families.py [folder [family ...]]

  qwen3/      tied F32 decoder, a head wider than hidden_size / heads
  qwen3-f16/  F16 decoder with an output matrix, YaRN
  qwen2moe/   F32, experts and one that all rows go through, weights that do not add up to 1
  qwen3moe-f16/  F16, weights that add up to 1
  qwen25vl/   windows that the picture's edges cut, one layer of full attention; mmproj-legacy.gguf is the same encoder as
              the first conversions wrote it
  qwen3vl/    positions interpolated and interleaved, DeepStack, an F16 encoder with fused projections
  qwen3vlmoe-f16/  the same with experts, another tower, an F16 decoder

Cases are as make_golden.py describes. Vision taps are in the order of the encoder's rows: by windows, where it has any. Of experts, taps have a row's chosen ones in ascending order: "routing" their
weights, "ffn" their activations side by side, the shared expert's last.
"""
import os
import sys

import gguf
import numpy as np
import torch
import transformers
from make_golden import (MEAN, STD, add_greedy, add_sizes, add_taps, add_vocabulary, array, finish, make_tokenizer,
                         one_frame, picture, pixel_values, put_projections, put_tensor)
from transformers import Qwen2VLImageProcessorPil

ROWS = 320


def randomize(model, seed, text_f16, vision_f16=False):
    """Weights large enough that every step matters; norms and biases away from 1 and 0."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.dim() == 1:
                norm = "norm" in name or "ln_q" in name
                p.copy_((1.0 if norm and not name.endswith(".bias") else 0.0) + 0.2 * torch.randn(p.shape, generator=g))
            elif "embed_tokens" in name:
                p.copy_(0.5 * torch.randn(p.shape, generator=g))
            elif "mlp.gate.weight" in name:  # a router: clear choices
                p.copy_(3 / np.sqrt(p.shape[-1]) * torch.randn(p.shape, generator=g))
            elif "experts." in name:
                p.copy_(1.4 / np.sqrt(p.shape[-1]) * torch.randn(p.shape, generator=g))
            else:
                p.copy_(1.4 / np.sqrt(p[0].numel()) * torch.randn(p.shape, generator=g))
            if (vision_f16 if "visual" in name else text_f16) and p.dim() > 1:
                p.copy_(p.half().float())


def parts(model):
    """The decoder, its configuration and the vision encoder, wherever the class keeps them."""
    inner = model.model
    decoder = getattr(inner, "language_model", inner)
    return decoder, getattr(model.config, "text_config", model.config), getattr(inner, "visual", None)


def write_text(path, model, arch, tokenizer, dtype, keys=()):
    lm, cfg, _ = parts(model)
    w = gguf.GGUFWriter(path, arch)
    add_sizes(w, path, cfg)
    if getattr(cfg, "head_dim", None):
        w.add_key_length(cfg.head_dim)
        w.add_value_length(cfg.head_dim)
    rope = cfg.rope_parameters
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    if rope.get("rope_type") == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if "mrope_section" in rope:
        w.add_rope_dimension_sections(list(rope["mrope_section"]) + [0])
    for key, value in keys:
        w.add_uint32(f"{arch}.{key}", value)
    add_vocabulary(w, tokenizer, dtype)
    put = lambda name, p: put_tensor(w, name, p, dtype)
    put("token_embd.weight", lm.embed_tokens.weight)
    put("output_norm.weight", lm.norm.weight)
    if not cfg.tie_word_embeddings:
        put("output.weight", model.lm_head.weight)
    for i, layer in enumerate(lm.layers):
        b, a = f"blk.{i}.", layer.self_attn
        put(b + "attn_norm.weight", layer.input_layernorm.weight)
        put_projections(put, b, a)
        if hasattr(a, "q_norm"):
            put(b + "attn_q_norm.weight", a.q_norm.weight)
            put(b + "attn_k_norm.weight", a.k_norm.weight)
        put(b + "attn_output.weight", a.o_proj.weight)
        put(b + "ffn_norm.weight", layer.post_attention_layernorm.weight)
        put_ffn(w, put, b, layer.mlp)
    finish(w)


def put_ffn(w, put, b, mlp):
    if not hasattr(mlp, "experts"):
        for name, proj in (("gate", mlp.gate_proj), ("up", mlp.up_proj), ("down", mlp.down_proj)):
            put(b + f"ffn_{name}.weight", proj.weight)
        return
    w.add_tensor(b + "ffn_gate_inp.weight", array(mlp.gate.weight))
    gate, up = mlp.experts.gate_up_proj.chunk(2, dim=1)
    for name, p in (("gate", gate), ("up", up), ("down", mlp.experts.down_proj)):
        put(b + f"ffn_{name}_exps.weight", p)
    if hasattr(mlp, "shared_expert"):
        w.add_tensor(b + "ffn_gate_inp_shexp.weight", array(mlp.shared_expert_gate.weight[0]))
        for name in ("gate", "up", "down"):
            put(b + f"ffn_{name}_shexp.weight", getattr(mlp.shared_expert, name + "_proj").weight)


def write_mmproj(path, model, dtype, legacy=False):
    """legacy: keys of the conversions of Qwen2.5-VL before llama.cpp had one."""
    _, text, v = parts(model)
    cfg = v.config
    three = hasattr(v, "deepstack_merger_list")
    w = gguf.GGUFWriter(path, "clip")
    w.add_file_type(1 if dtype == np.float16 else 0)
    w.add_bool("clip.has_vision_encoder", True)
    kind = "qwen3vl_merger" if three else "qwen2vl_merger" if legacy else "qwen2.5vl_merger"
    w.add_string("clip.projector_type", kind)
    w.add_uint32("clip.vision.image_size", 48 if three else 560)
    w.add_uint32("clip.vision.patch_size", cfg.patch_size)
    w.add_uint32("clip.vision.embedding_length", cfg.hidden_size)
    w.add_uint32("clip.vision.feed_forward_length", cfg.intermediate_size)
    w.add_uint32("clip.vision.projection_dim", 1536 if legacy else cfg.out_hidden_size)  # wrong in early files
    w.add_uint32("clip.vision.block_count", cfg.depth)
    w.add_uint32("clip.vision.attention.head_count", cfg.num_heads)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [0.5] * 3 if three else MEAN)
    w.add_array("clip.vision.image_std", [0.5] * 3 if three else STD)
    if three:
        w.add_bool("clip.use_gelu", True)
        w.add_uint32("clip.vision.spatial_merge_size", 2)
        w.add_array("clip.vision.is_deepstack_layers", [i in cfg.deepstack_visual_indexes for i in range(cfg.depth)])
    else:
        w.add_bool("clip.use_silu", True)
        w.add_uint32("clip.vision.window_size", cfg.window_size)
        if legacy:
            w.add_bool("clip.has_qwen2vl_merger", True)
            w.add_bool("clip.use_glu_mlp", True)
            w.add_bool("clip.use_rms_norm", True)
            w.add_array("clip.vision.fullatt_block_indexes", list(cfg.fullatt_block_indexes))
        else:
            w.add_uint32("clip.vision.n_wa_pattern", cfg.fullatt_block_indexes[0] + 1)
    put = lambda name, p: put_tensor(w, name, p, dtype)

    def both(name, module):
        put(name + ".weight", module.weight)
        if getattr(module, "bias", None) is not None:
            put(name + ".bias", module.bias)

    kernel = v.patch_embed.proj.weight  # (C, 3, 2, p, p)
    put("v.patch_embd.weight", kernel[:, :, 0])
    put("v.patch_embd.weight.1", kernel[:, :, 1])
    if three:
        put("v.patch_embd.bias", v.patch_embed.proj.bias)
        w.add_tensor("v.position_embd.weight", array(v.pos_embed.weight))
    for i, block in enumerate(v.blocks):
        b = f"v.blk.{i}."
        both(b + "ln1", block.norm1), both(b + "ln2", block.norm2), both(b + "attn_out", block.attn.proj)
        if three:
            both(b + "attn_qkv", block.attn.qkv)
            both(b + "ffn_up", block.mlp.linear_fc1), both(b + "ffn_down", block.mlp.linear_fc2)
        else:
            for part, name in enumerate(("attn_q", "attn_k", "attn_v")):
                put(b + name + ".weight", block.attn.qkv.weight.chunk(3)[part])
                put(b + name + ".bias", block.attn.qkv.bias.chunk(3)[part])
            for name, proj in (("gate", block.mlp.gate_proj), ("up", block.mlp.up_proj), ("down", block.mlp.down_proj)):
                both(b + "ffn_" + name, proj)
    merger = v.merger
    if three:
        both("v.post_ln", merger.norm), both("mm.0", merger.linear_fc1), both("mm.2", merger.linear_fc2)
        for layer, tap in zip(cfg.deepstack_visual_indexes, v.deepstack_merger_list):
            b = f"v.deepstack.{layer}."
            both(b + "norm", tap.norm), both(b + "fc1", tap.linear_fc1), both(b + "fc2", tap.linear_fc2)
    else:
        both("v.post_ln", merger.ln_q), both("mm.0", merger.mlp[0]), both("mm.2", merger.mlp[2])
    finish(w)


class Recorder:
    """Activations of one forward pass by tap name; every tensor as (rows, columns)."""

    def __init__(self, model):
        self.model, self.taps, self.handles = model, {}, []
        self.modeling = sys.modules[type(model).__module__]

    def keep(self, name, x):
        self.taps[name] = x.detach().reshape(-1, x.shape[-1]).clone()

    def out(self, module, name, f=lambda x: x):
        first = lambda o: o[0] if isinstance(o, tuple) else o
        self.handles.append(module.register_forward_hook(lambda _m, _i, o: self.keep(name, f(first(o)))))

    def inp(self, module, name):
        self.handles.append(module.register_forward_pre_hook(lambda _m, i: self.keep(name, i[0])))

    def experts(self, prefix, mlp):
        k = mlp.gate.top_k

        def see(module, inputs):
            h, index, weights = inputs
            order = index.argsort(-1)
            index, weights = index.gather(1, order), weights.gather(1, order)
            ffn = []
            for slot in range(k):
                both = torch.einsum("th,tfh->tf", h, module.gate_up_proj[index[:, slot]])
                gate, up = both.chunk(2, -1)
                ffn.append(module.act_fn(gate) * up)
            self.keep(prefix + "routing", weights)
            self.keep(prefix + "ffn", torch.cat(ffn, -1))
            # Backends that keep less than floats may turn a close choice: scores are a few wide, and off by 1 % at most.
            scores = (h @ mlp.gate.weight.T).sort(-1, descending=True).values
            margin = (scores[:, k - 1] - scores[:, k]).min()
            assert margin > 0.08, f"{prefix}: expert {k} is chosen by {margin}"

        self.handles.append(mlp.experts.register_forward_pre_hook(see))
        if hasattr(mlp, "shared_expert"):
            def gate(_m, _i, o):
                self.keep(prefix + "routing", torch.cat([self.taps[prefix + "routing"], torch.sigmoid(o)], -1))

            def shared(_m, i):
                self.shared = i[0].reshape(-1, i[0].shape[-1])

            def join(_m, _i, _o):
                self.keep(prefix + "ffn", torch.cat([self.taps[prefix + "ffn"], self.shared], -1))

            self.handles.append(mlp.shared_expert_gate.register_forward_hook(gate))
            self.handles.append(mlp.shared_expert.down_proj.register_forward_pre_hook(shared))
            self.handles.append(mlp.experts.register_forward_hook(join))

    def vision(self, v):
        self.inp(v.blocks[0], "v.patch_embd")
        for i, b in enumerate(v.blocks):
            p = f"v.blk.{i}."
            self.out(b.attn.qkv, p + "v", lambda o: o.chunk(3, -1)[2])
            self.inp(b.attn.proj, p + "attn")
            self.inp(b.norm2, p + "attn_out")
            self.inp(b.mlp.linear_fc2 if hasattr(b.mlp, "linear_fc2") else b.mlp.down_proj, p + "ffn")
            self.out(b, p + "ffn_out")
        self.inp(v.merger.linear_fc2 if hasattr(v.merger, "linear_fc2") else v.merger.mlp[2], "v.merger")
        for i, tap in enumerate(getattr(v, "deepstack_merger_list", [])):
            self.inp(tap.linear_fc2, f"v.deepstack.{i}.merger")
        self.handles.append(v.register_forward_hook(lambda _m, _i, o: self.keep("v.embd", torch.cat(
            [o.pooler_output, *(getattr(o, "deepstack_features", None) or [])], -1))))
        self.original_vision = self.modeling.apply_rotary_pos_emb_vision

        def turn(q, k, cos, sin):
            q, k = self.original_vision(q, k, cos, sin)
            i = sum(n.startswith("v.blk.") and n.endswith(".q") for n in self.taps)
            for name, x in (("q", q), ("k", k)):  # (N, heads, d)
                self.keep(f"v.blk.{i}.{name}", x.reshape(x.shape[0], -1))
            return q, k

        self.modeling.apply_rotary_pos_emb_vision = turn

    def __enter__(self):
        lm, _, v = parts(self.model)
        if v is not None:
            self.vision(v)
            for i in range(len(getattr(v, "deepstack_merger_list", []))):
                self.inp(lm.layers[i + 1], f"blk.{i}.deepstack")
        self.inp(lm.layers[0], "embd")
        for i, b in enumerate(lm.layers):
            p = f"blk.{i}."
            self.out(b.self_attn.v_proj, p + "v")
            self.inp(b.self_attn.o_proj, p + "attn")
            self.inp(b.post_attention_layernorm, p + "attn_out")
            if hasattr(b.mlp, "experts"):
                self.experts(p, b.mlp)
            else:
                self.inp(b.mlp.down_proj, p + "ffn")
            self.out(b, p + "ffn_out")
        self.original = self.modeling.apply_rotary_pos_emb

        def text(q, k, cos, sin, *args, **kwargs):
            q, k = self.original(q, k, cos, sin, *args, **kwargs)
            i = sum(n.startswith("blk.") and n.endswith(".q") for n in self.taps)
            for name, x in (("q", q), ("k", k)):  # (1, heads, T, d)
                self.keep(f"blk.{i}.{name}", x[0].transpose(0, 1).reshape(x.shape[2], -1))
            return q, k

        self.modeling.apply_rotary_pos_emb = text
        return self

    def __exit__(self, *_):
        self.modeling.apply_rotary_pos_emb = self.original
        if parts(self.model)[2] is not None:
            self.modeling.apply_rotary_pos_emb_vision = self.original_vision
        for h in self.handles:
            h.remove()


def video_values(processor, frames, p):
    """What Qwen2VLVideoProcessor and its like make of frames that need no resizing: pairs of frames, the last repeated
    where their number is odd."""
    values = [pixel_values(processor, f) for f in frames]
    values += values[-1:] * (len(frames) % 2)
    pairs = []
    for (a, _), (b, _) in zip(values[0::2], values[1::2]):
        pair = a.reshape(-1, 3, 2, p * p).copy()
        pair[:, :, 1] = b.reshape(-1, 3, 2, p * p)[:, :, 1]
        pairs.append(pair.reshape(len(pair), -1))
    return np.concatenate(pairs), [len(pairs), *values[0][1][1:]]


def slice_times(frames, fps):
    """Qwen3VLProcessor._calculate_timestamps: the middle of each pair of frames."""
    times = [i / fps for i in range(len(frames))]
    times += times[-1:] * (len(frames) % 2)
    return [(a + b) / 2 for a, b in zip(times[0::2], times[1::2])]


def run_case(path, model, tokenizer, prompt, pictures=(), keep=None, video=(), fps=1.0):
    """prompt: text in which <image> and <video> stand for what follows from pictures and from the frames of video,
    which were taken at fps frames per second."""
    t = tokenizer[0]
    w = gguf.GGUFWriter(path, "golden")
    w.add_string("prompt", prompt)
    text, grids, values, inputs = prompt, [], [], {}
    _, _, v = parts(model)
    if v is not None:
        p, merge = v.config.patch_size, v.config.spatial_merge_size
        mean_std = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3) if hasattr(v, "pos_embed") else {}
        processor = Qwen2VLImageProcessorPil(
            patch_size=p, merge_size=merge, size={"shortest_edge": 4 * p * p, "longest_edge": 1 << 20}, **mean_std)
    for i, pixels in enumerate(pictures):
        value, grid = pixel_values(processor, pixels)
        w.add_tensor(f"pixels/{i}", pixels.view(np.int8))
        if keep is None:
            w.add_tensor(f"{i}/pixel_values", one_frame(value, p))
        grids.append(grid), values.append(value)
        n = grid[1] * grid[2] // merge**2
        text = text.replace("<image>", "<|vision_start|>" + "<|image_pad|>" * n + "<|vision_end|>", 1)
    if pictures:
        inputs = dict(pixel_values=torch.from_numpy(np.concatenate(values)), image_grid_thw=torch.tensor(grids))
    rope = {}
    if video:
        value, grid = video_values(processor, video, p)
        for i, pixels in enumerate(video):
            w.add_tensor(f"pixels/{len(pictures) + i}", pixels.view(np.int8))
        w.add_array("frames", [1] * len(pictures) + [len(video)])
        w.add_float32("fps", fps)
        grids = grids + [grid]
        inputs |= dict(pixel_values_videos=torch.from_numpy(value), video_grid_thw=torch.tensor([grid]))
        pads = "<|vision_start|>" + "<|video_pad|>" * (grid[1] * grid[2] // merge**2) + "<|vision_end|>"
        if hasattr(v, "pos_embed"):  # Qwen3-VL: every pair a block, with its time before it
            text = text.replace("<video>", "".join(f"<{s:.1f} seconds>" + pads for s in slice_times(video, fps)))
        else:
            rope = dict(second_per_grid_ts=torch.tensor([2 / fps]))
            text = text.replace("<video>", pads.replace("<|video_pad|>", "<|video_pad|>" * grid[0]))
    ids = torch.tensor([t.encode(text, add_special_tokens=False).ids])
    n = ids.shape[1]
    positions, delta = torch.arange(n).view(1, 1, -1).expand(3, 1, -1), 0
    if grids:
        w.add_array("grids", [n for g in grids for n in g])
        kinds = (ids == model.config.image_token_id).int() + 2 * (ids == model.config.video_token_id).int()
        positions, delta = model.model.get_rope_index(
            ids, kinds, inputs.get("image_grid_thw"), inputs.get("video_grid_thw"),
            attention_mask=torch.ones_like(ids), **rope)
        delta = int(delta[0])

    def call(ids, positions):
        if v is None:
            return model(input_ids=ids, position_ids=positions[0], use_cache=False).logits
        more = dict(inputs)
        if grids:
            more["mm_token_type_ids"] = torch.nn.functional.pad(kinds, (0, ids.shape[1] - n))
        return model(input_ids=ids, position_ids=positions, use_cache=False, **more).logits

    with torch.no_grad(), Recorder(model) as rec:
        logits = call(ids, positions)
    rec.keep("logits", logits)
    w.add_tensor("ids", ids[0].numpy().astype(np.int32))
    w.add_tensor("positions", np.ascontiguousarray(positions[:, 0].T.numpy().astype(np.int32)))

    greedy = add_greedy(w, path, ids, positions, n + delta, lambda ids, positions, _: call(ids, positions)[0, -1])
    add_taps(w, rec.taps, keep, grids, lambda name: merge**2 if name == "v.embd" or name.endswith("merger") else 1,
             len(pictures) if video else None)
    finish(w)
    print(path, os.path.getsize(path), "T", n, "greedy", greedy)


def text_model(cls, config, seed, f16):
    """The first seed from `seed` on is the one to note: choices and continuations must be clear."""
    model = cls(config)
    model = model.eval().float()
    randomize(model, seed, f16)
    return model


def text_config(cls, **sizes):
    return cls(vocab_size=ROWS, bos_token_id=None, eos_token_id=None, max_position_embeddings=512, rms_norm_eps=1e-6,
               attn_implementation="eager", **sizes)


PROMPT = "<|im_start|>user\nwhat is 7?<|im_end|>"


def text_files(at, name, cls, config, arch, tokenizer, f16, keys=()):
    """A decoder alone and its case."""
    model = text_model(cls, config, SEEDS[name], f16)
    write_text(at(name, "model.gguf"), model, arch, tokenizer, np.float16 if f16 else np.float32, keys)
    run_case(at(name, "case-text.gguf"), model, tokenizer, PROMPT)


def qwen3(at, tokenizer):
    config = text_config(
        transformers.Qwen3Config, hidden_size=48, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=24, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))
    text_files(at, "qwen3", transformers.Qwen3ForCausalLM, config, "qwen3", tokenizer, False)


def qwen3_f16(at, tokenizer):
    config = text_config(
        transformers.Qwen3Config, hidden_size=72, intermediate_size=101, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, head_dim=32, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=128))
    text_files(at, "qwen3-f16", transformers.Qwen3ForCausalLM, config, "qwen3", tokenizer, True)


def qwen2moe(at, tokenizer):
    config = text_config(
        transformers.Qwen2MoeConfig, hidden_size=48, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=37,
        shared_expert_intermediate_size=45, norm_topk_prob=False, experts_implementation="eager",
        rope_parameters=dict(rope_type="default", rope_theta=1e6))
    keys = [("expert_count", 6), ("expert_used_count", 2), ("expert_feed_forward_length", 37),
            ("expert_shared_feed_forward_length", 45)]
    text_files(at, "qwen2moe", transformers.Qwen2MoeForCausalLM, config, "qwen2moe", tokenizer, False, keys)


def qwen3moe_f16(at, tokenizer):
    config = text_config(
        transformers.Qwen3MoeConfig, hidden_size=64, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=24, tie_word_embeddings=False, num_experts=9, num_experts_per_tok=3,
        moe_intermediate_size=34, norm_topk_prob=True, experts_implementation="eager",
        rope_parameters=dict(rope_type="default", rope_theta=1e6))
    keys = [("expert_count", 9), ("expert_used_count", 3), ("expert_feed_forward_length", 34)]
    text_files(at, "qwen3moe-f16", transformers.Qwen3MoeForCausalLM, config, "qwen3moe", tokenizer, True, keys)


def vision_model(cls, config_cls, tokenizer, text, vision, tied, seed, text_f16, vision_f16):
    token = tokenizer[1].index
    text = dict(vocab_size=ROWS, bos_token_id=None, eos_token_id=None, max_position_embeddings=512, rms_norm_eps=1e-6,
                tie_word_embeddings=tied, **text)
    config = config_cls(
        text_config=text, vision_config=dict(out_hidden_size=text["hidden_size"], spatial_merge_size=2,
                                             temporal_patch_size=2, **vision),
        tie_word_embeddings=tied, image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
        attn_implementation="eager", experts_implementation="eager")
    model = cls(config).eval().float()
    randomize(model, seed, text_f16, vision_f16)
    return model


VIDEO = ["patch_embd", "v.blk.1.ffn_out", "blk.0.ffn_out", "blk.1.ffn_out", "embd", "v.embd", "logits"]
COARSE = ["patch_embd", "ffn_out", "deepstack", "embd", "v.embd", "logits"]


def qwen25vl(at, tokenizer):
    name = "qwen25vl"
    model = vision_model(
        transformers.Qwen2_5_VLForConditionalGeneration, transformers.Qwen2_5_VLConfig, tokenizer,
        dict(hidden_size=64, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             rope_parameters=dict(type="mrope", rope_type="default", mrope_section=[2, 3, 3], rope_theta=1e6)),
        dict(depth=3, hidden_size=48, num_heads=4, intermediate_size=67, patch_size=8, window_size=32,
             fullatt_block_indexes=[1], tokens_per_second=2), True, SEEDS[name], False, False)
    write_text(at(name, "model.gguf"), model, "qwen2vl", tokenizer, np.float32)
    write_mmproj(at(name, "mmproj.gguf"), model, np.float32)
    write_mmproj(at(name, "mmproj-legacy.gguf"), model, np.float32, legacy=True)
    run_case(at(name, "case-image.gguf"), model, tokenizer, "user <image> is", [picture(80, 48, 21)])
    run_case(at(name, "case-images.gguf"), model, tokenizer, "a <image> and<image>.",
             [picture(32, 64, 22), picture(112, 16, 23)], keep=COARSE)
    # A step of 3.2 positions in time, which runs past the text behind the video; windows cut by the edge.
    run_case(at(name, "case-video.gguf"), model, tokenizer, "a <image> then <video>?", [picture(16, 32, 24)],
             VIDEO, [picture(48, 32, s) for s in range(25, 30)], 1.25)


def qwen3vl_tower(**sizes):
    return dict(patch_size=8, num_position_embeddings=36, hidden_act="gelu_pytorch_tanh", **sizes)


def qwen3vl(at, tokenizer):
    name = "qwen3vl"
    model = vision_model(
        transformers.Qwen3VLForConditionalGeneration, transformers.Qwen3VLConfig, tokenizer,
        dict(hidden_size=48, intermediate_size=92, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
             head_dim=32, rope_parameters=dict(rope_type="default", mrope_section=[6, 5, 5], mrope_interleaved=True,
                                               rope_theta=5e6)),
        qwen3vl_tower(depth=3, hidden_size=48, num_heads=4, intermediate_size=67, deepstack_visual_indexes=[0, 1]), True,
        SEEDS[name], False, True)
    write_text(at(name, "model.gguf"), model, "qwen3vl", tokenizer, np.float32, [("n_deepstack_layers", 2)])
    write_mmproj(at(name, "mmproj.gguf"), model, np.float16)
    run_case(at(name, "case-image.gguf"), model, tokenizer, "user <image> is", [picture(80, 48, 31)])
    # The second is as large as the table of positions, the third has one row of tokens.
    run_case(at(name, "case-images.gguf"), model, tokenizer, "a <image> and<image>.<image>",
             [picture(32, 64, 32), picture(48, 48, 33), picture(64, 16, 34)], keep=COARSE)
    run_case(at(name, "case-text.gguf"), model, tokenizer, PROMPT, keep=COARSE)
    run_case(at(name, "case-video.gguf"), model, tokenizer, "a <image> then <video>?", [picture(16, 32, 35)],
             VIDEO, [picture(32, 48, s) for s in range(36, 41)], 1.25)


def qwen3vlmoe_f16(at, tokenizer):
    name = "qwen3vlmoe-f16"
    model = vision_model(
        transformers.Qwen3VLMoeForConditionalGeneration, transformers.Qwen3VLMoeConfig, tokenizer,
        dict(hidden_size=48, intermediate_size=92, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             head_dim=16, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=35,
             rope_parameters=dict(rope_type="default", mrope_section=[4, 2, 2], mrope_interleaved=True, rope_theta=5e6)),
        qwen3vl_tower(depth=2, hidden_size=32, num_heads=2, intermediate_size=45, deepstack_visual_indexes=[0]), False,
        SEEDS[name], True, False)
    keys = [("n_deepstack_layers", 1), ("expert_count", 5), ("expert_used_count", 2), ("expert_feed_forward_length", 35)]
    write_text(at(name, "model.gguf"), model, "qwen3vlmoe", tokenizer, np.float16, keys)
    write_mmproj(at(name, "mmproj.gguf"), model, np.float32)
    run_case(at(name, "case-image.gguf"), model, tokenizer, "user <image> is", [picture(48, 32, 41)])


SEEDS = {"qwen3": 1, "qwen3-f16": 2, "qwen2moe": 6, "qwen3moe-f16": 6, "qwen25vl": 4, "qwen3vl": 3, "qwen3vlmoe-f16": 9}
FAMILIES = {"qwen3": qwen3, "qwen3-f16": qwen3_f16, "qwen2moe": qwen2moe, "qwen3moe-f16": qwen3moe_f16,
            "qwen25vl": qwen25vl, "qwen3vl": qwen3vl, "qwen3vlmoe-f16": qwen3vlmoe_f16}


def main(folder, families):
    torch.set_num_threads(1)
    at = lambda *names: os.path.join(folder, *names)
    tokenizer = make_tokenizer(ROWS)
    for name in families or FAMILIES:
        os.makedirs(at(name), exist_ok=True)
        FAMILIES[name](at, tokenizer)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)), sys.argv[2:])
