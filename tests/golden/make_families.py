"""Writes the golden models of the other families beside those of make_golden.py: tiny random models as GGUF, laid out as
llama.cpp's converter does, and what transformers computes with the same weights, step by step.

Needs: torch, transformers >= 5, tokenizers, Pillow, numpy, gguf.   Run: python3 make_families.py [folder [family ...]]

  qwen3/      tied F32 decoder, a head wider than hidden_size / heads
  qwen3-f16/  F16 decoder with an output matrix, YaRN

Cases are as make_golden.py describes. Of experts, taps have a row's chosen ones in ascending order: "routing" their
weights, "ffn" their activations side by side, the shared expert's last.
"""
import os
import sys

import gguf
import numpy as np
import torch
import transformers
from make_golden import CHAT_TEMPLATE, array, finish, make_tokenizer, put_tensor

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
    _, tokens, types, merges = tokenizer
    w = gguf.GGUFWriter(path, arch)
    w.add_type("model")
    w.add_name("golden " + os.path.basename(os.path.dirname(path)))
    w.add_context_length(cfg.max_position_embeddings)
    w.add_embedding_length(cfg.hidden_size)
    w.add_block_count(cfg.num_hidden_layers)
    w.add_feed_forward_length(cfg.intermediate_size)
    w.add_head_count(cfg.num_attention_heads)
    w.add_head_count_kv(cfg.num_key_value_heads)
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
    w.add_file_type({np.float32: gguf.LlamaFileType.ALL_F32, np.float16: gguf.LlamaFileType.MOSTLY_F16}[dtype])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_eos_token_id(tokens.index("<|im_end|>"))
    w.add_pad_token_id(tokens.index("<|endoftext|>"))
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)
    put = lambda name, p: put_tensor(w, name, p, dtype)
    put("token_embd.weight", lm.embed_tokens.weight)
    put("output_norm.weight", lm.norm.weight)
    if not cfg.tie_word_embeddings:
        put("output.weight", model.lm_head.weight)
    for i, layer in enumerate(lm.layers):
        b, a = f"blk.{i}.", layer.self_attn
        put(b + "attn_norm.weight", layer.input_layernorm.weight)
        for name, proj in (("attn_q", a.q_proj), ("attn_k", a.k_proj), ("attn_v", a.v_proj)):
            put(b + name + ".weight", proj.weight)
            if proj.bias is not None:
                put(b + name + ".bias", proj.bias)
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
            # A choice that rounding could turn would test nothing.
            p = torch.softmax(h @ mlp.gate.weight.T, -1).sort(-1, descending=True).values
            margin = (p[:, k - 1] - p[:, k]).min()
            assert margin > 1e-3, f"{prefix}: expert {k} is chosen by {margin}"

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

    def __enter__(self):
        lm, _, _ = parts(self.model)
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
        for h in self.handles:
            h.remove()


def run_case(path, model, tokenizer, prompt, keep=None):
    t = tokenizer[0]
    w = gguf.GGUFWriter(path, "golden")
    w.add_string("prompt", prompt)
    ids = torch.tensor([t.encode(prompt, add_special_tokens=False).ids])
    n = ids.shape[1]
    positions, delta = torch.arange(n).view(1, 1, -1).expand(3, 1, -1), 0
    call = lambda ids, positions: model(input_ids=ids, position_ids=positions[0], use_cache=False).logits
    with torch.no_grad(), Recorder(model) as rec:
        logits = call(ids, positions)
    rec.keep("logits", logits)
    w.add_tensor("ids", ids[0].numpy().astype(np.int32))
    w.add_tensor("positions", np.ascontiguousarray(positions[:, 0].T.numpy().astype(np.int32)))

    # Greedy continuation without a cache; near ties would make the test depend on rounding.
    greedy, current, where = [], ids, positions
    with torch.no_grad():
        for step in range(16):
            last = call(current, where)[0, -1]
            top = last.topk(2).values
            assert top[0] - top[1] > 2e-3, f"{path}: step {step}: the two best logits differ by {top[0] - top[1]}"
            greedy.append(int(last.argmax()))
            current = torch.cat([current, torch.tensor([[greedy[-1]]])], 1)
            where = torch.cat([where, torch.full((3, 1, 1), n + step + delta)], 2)
    assert len(set(greedy)) >= 4, f"{path}: a dull continuation: {greedy}"
    w.add_tensor("greedy", np.array(greedy, np.int32))
    for name, x in rec.taps.items():
        if keep is None or any(name == k or name.endswith("." + k) for k in keep):
            w.add_tensor(name, array(x))
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


def qwen3(at, tokenizer):
    config = text_config(
        transformers.Qwen3Config, hidden_size=48, intermediate_size=92, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=24, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))
    model = text_model(transformers.Qwen3ForCausalLM, config, SEEDS["qwen3"], False)
    write_text(at("qwen3", "model.gguf"), model, "qwen3", tokenizer, np.float32)
    run_case(at("qwen3", "case-text.gguf"), model, tokenizer, PROMPT)


def qwen3_f16(at, tokenizer):
    config = text_config(
        transformers.Qwen3Config, hidden_size=72, intermediate_size=101, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, head_dim=32, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=128))
    model = text_model(transformers.Qwen3ForCausalLM, config, SEEDS["qwen3-f16"], True)
    write_text(at("qwen3-f16", "model.gguf"), model, "qwen3", tokenizer, np.float16)
    run_case(at("qwen3-f16", "case-text.gguf"), model, tokenizer, PROMPT)


SEEDS = {"qwen3": 1, "qwen3-f16": 2}
FAMILIES = {"qwen3": qwen3, "qwen3-f16": qwen3_f16}


def main(folder, families):
    torch.set_num_threads(1)
    at = lambda *names: os.path.join(folder, *names)
    tokenizer = make_tokenizer(ROWS)
    for name in families or FAMILIES:
        os.makedirs(at(name), exist_ok=True)
        FAMILIES[name](at, tokenizer)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)), sys.argv[2:])
