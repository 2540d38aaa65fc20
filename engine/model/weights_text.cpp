// The decoder's weights by their GGUF names.
#include <string>
#include <utility>

#include "engine/model/weights.h"

namespace glimpse {
namespace {

Result<QkvWeights> read_qkv(WeightReader& in, const TextConfig& c, const std::string& block,
                            WeightPrecision precision) {
  QkvWeights w;
  w.n_heads = c.num_attention_heads;
  w.n_kv_heads = c.num_key_value_heads;
  w.head_dim = c.head_dim;
  const int64_t h = c.hidden_size;
  const int64_t nq = w.n_heads * w.head_dim, nk = w.n_kv_heads * w.head_dim;
  const Presence bias = c.qkv_bias ? Presence::kRequired : Presence::kNone;
  if (c.qk_norm) {
    GLIMPSE_ASSIGN(w.q_norm, in.norm(block + "attn_q_norm", Norm::Kind::kRms, c.head_dim, c.rms_norm_eps));
    GLIMPSE_ASSIGN(w.k_norm, in.norm(block + "attn_k_norm", Norm::Kind::kRms, c.head_dim, c.rms_norm_eps));
  }
  if (!in.has(block + "attn_q.weight") && in.has(block + "attn_qkv.weight")) {
    const std::string fused = block + "attn_qkv";  // rows: all of q, then k, then v
    const int64_t n = nq + 2 * nk;
    GLIMPSE_ASSIGN(w.q, in.linear_part(fused, 0, nq, n, h, precision, bias));
    GLIMPSE_ASSIGN(w.k, in.linear_part(fused, nq, nk, n, h, precision, bias));
    GLIMPSE_ASSIGN(w.v, in.linear_part(fused, nq + nk, nk, n, h, precision, bias));
    return w;
  }
  GLIMPSE_ASSIGN(w.q, in.linear(block + "attn_q", nq, h, precision, bias));
  GLIMPSE_ASSIGN(w.k, in.linear(block + "attn_k", nk, h, precision, bias));
  GLIMPSE_ASSIGN(w.v, in.linear(block + "attn_v", nk, h, precision, bias));
  return w;
}

Result<ExpertWeights> read_experts(WeightReader& in, const TextConfig& c, const std::string& block,
                                   WeightPrecision precision) {
  const int64_t h = c.hidden_size, f = c.moe_intermediate_size, n = c.num_experts;
  ExpertWeights w;
  w.n_used = c.num_experts_per_tok;
  w.normalize = c.norm_topk_prob;
  GLIMPSE_ASSIGN(w.router, in.linear(block + "ffn_gate_inp", n, h, WeightPrecision::kF32, Presence::kNone));
  const bool fused = !in.has(block + "ffn_gate_exps.weight") && in.has(block + "ffn_gate_up_exps.weight");
  for (int64_t e = 0; e < n; ++e) {
    const auto matrix = [&](const char* name, int64_t first, int64_t rows, int64_t total_rows, int64_t cols) {
      return in.expert(block + name, e, n, first, rows, total_rows, cols, precision);
    };
    GLIMPSE_ASSIGN(Linear gate,
                   fused ? matrix("ffn_gate_up_exps", 0, f, 2 * f, h) : matrix("ffn_gate_exps", 0, f, f, h));
    GLIMPSE_ASSIGN(Linear up, fused ? matrix("ffn_gate_up_exps", f, f, 2 * f, h) : matrix("ffn_up_exps", 0, f, f, h));
    GLIMPSE_ASSIGN(Linear down, matrix("ffn_down_exps", 0, h, h, f));
    w.gate.push_back(std::move(gate));
    w.up.push_back(std::move(up));
    w.down.push_back(std::move(down));
  }
  const int64_t s = c.shared_expert_intermediate_size;
  if (s > 0) {
    GLIMPSE_ASSIGN(w.shared_router, in.row(block + "ffn_gate_inp_shexp", h, WeightPrecision::kF32));
    GLIMPSE_ASSIGN(w.shared_gate, in.linear(block + "ffn_gate_shexp", s, h, precision, Presence::kNone));
    GLIMPSE_ASSIGN(w.shared_up, in.linear(block + "ffn_up_shexp", s, h, precision, Presence::kNone));
    GLIMPSE_ASSIGN(w.shared_down, in.linear(block + "ffn_down_shexp", h, s, precision, Presence::kNone));
  }
  GLIMPSE_TRY(in.index_experts(w));
  return w;
}

Result<DecoderLayerWeights> read_layer(WeightReader& in, const TextConfig& c, const std::string& block,
                                       WeightPrecision precision) {
  const int64_t h = c.hidden_size, f = c.intermediate_size, nq = c.num_attention_heads * c.head_dim;
  const auto matrix = [&](const char* name, int64_t rows, int64_t cols) {
    return in.linear(block + name, rows, cols, precision, Presence::kNone);
  };
  DecoderLayerWeights w;
  GLIMPSE_ASSIGN(w.attn_norm, in.norm(block + "attn_norm", Norm::Kind::kRms, h, c.rms_norm_eps));
  GLIMPSE_ASSIGN(w.qkv, read_qkv(in, c, block, precision));
  w.wide_keys = wide_key_channels(in.values(w.qkv.k.bias.get()), w.qkv.n_kv_heads, w.qkv.head_dim);
  GLIMPSE_ASSIGN(w.attn_output, matrix("attn_output", h, nq));
  GLIMPSE_ASSIGN(w.ffn_norm, in.norm(block + "ffn_norm", Norm::Kind::kRms, h, c.rms_norm_eps));
  if (c.num_experts > 0) {
    GLIMPSE_ASSIGN(w.experts, read_experts(in, c, block, precision));
    return w;
  }
  GLIMPSE_ASSIGN(w.ffn_gate, matrix("ffn_gate", f, h));
  GLIMPSE_ASSIGN(w.ffn_up, matrix("ffn_up", f, h));
  GLIMPSE_ASSIGN(w.ffn_down, matrix("ffn_down", h, f));
  return w;
}

}  // namespace

Result<TextWeights> read_text_weights(WeightReader& in, const TextConfig& c, WeightPrecision precision) {
  TextWeights w;
  GLIMPSE_ASSIGN(const Linear embedding,
                 in.linear("token_embd", c.vocab_size, c.hidden_size, precision, Presence::kNone));
  w.token_embd = embedding.weight;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    GLIMPSE_ASSIGN(DecoderLayerWeights layer, read_layer(in, c, "blk." + std::to_string(i) + ".", precision));
    w.layers.push_back(std::move(layer));
  }
  GLIMPSE_ASSIGN(w.output_norm, in.norm("output_norm", Norm::Kind::kRms, c.hidden_size, c.rms_norm_eps));
  if (c.num_labels > 0) {
    GLIMPSE_ASSIGN(w.classifier, in.linear("cls.output", c.num_labels, c.hidden_size, precision, Presence::kOptional));
  }
  if (!c.tied_embeddings) {
    GLIMPSE_ASSIGN(w.output, in.linear("output", c.vocab_size, c.hidden_size, precision, Presence::kOptional));
    return w;
  }
  w.output.weight = w.token_embd;
  if (in.has("output.bias")) {
    GLIMPSE_ASSIGN(w.output.bias, in.vector("output.bias", 0, c.vocab_size, c.vocab_size));
  }
  return w;
}

}  // namespace glimpse
