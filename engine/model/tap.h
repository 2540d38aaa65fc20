// Looking at a pass from outside.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace glimpse {

/// Receives activations by name as a pass computes them; rows in host memory, one call per name and pass (a forward()
/// of several batches calls once per batch, a video once per temporal slice). In model order:
///   v.patch_embd          (N, hidden)   patches after the convolution
///   v.blk.L.q k v         (N, hidden)   queries and keys after rotation, values
///   v.blk.L.attn          (N, hidden)   heads, before the output projection
///   v.blk.L.attn_out      (N, hidden)   residual stream after attention
///   v.blk.L.ffn           (N, ffn)      after the activation function
///   v.blk.L.ffn_out       (N, hidden)   residual stream after the block
///   v.deepstack.I.merger  (N / 4, 4 hidden)  after GELU, of the tap number I; comes after its block
///   v.merger              (N / 4, 4 hidden)  after GELU
///   v.embd                (N / 4, decoder hidden)  the embedding
///   embd                  (T, hidden)   decoder input: token and picture embeddings
///   blk.L.q k v attn attn_out ffn ffn_out   likewise; k and v have n_kv_heads * head_dim columns
///   blk.L.router          (T, n_experts)  scores of the experts, before the softmax
///   blk.L.routing         (T, n_used)     weights of the chosen ones, by number; then the shared one's, if any
///   blk.L.deepstack       (T, hidden)     residual stream after a tap's rows were added
///   logits                (rows asked for, vocab)
using TapSink = std::function<void(const std::string& name, const float* values, int64_t rows, int64_t cols)>;

}  // namespace glimpse
