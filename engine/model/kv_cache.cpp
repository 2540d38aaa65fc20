#include "engine/model/kv_cache.h"

#include <algorithm>
#include <utility>

#include "engine/base/checked.h"
#include "engine/model/weights.h"

namespace glimpse {

uint64_t KvCache::plan_bytes(const Model& model, const Ops& ops, int64_t context, KvElement element) {
  const TextConfig& c = model.text();
  uint64_t bytes = 0;
  for (const DecoderLayerWeights& layer : model.text_weights().layers) {
    const int64_t n_wide = static_cast<int64_t>(layer.wide_keys.size()) / c.num_key_value_heads;
    bytes += ops.kv_bytes(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock), element, n_wide);
  }
  return bytes;
}

Result<std::unique_ptr<KvCache>> KvCache::create(const Model& model, Ops& ops, int64_t context, KvElement element) {
  if (context < 1 || context > int64_t{1} << 30) {
    return make_error(ErrorCode::kInvalidArgument, "a cache of %d positions", context);
  }
  const TextConfig& c = model.text();
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->context_ = context;
  for (const DecoderLayerWeights& layer : model.text_weights().layers) {
    GLIMPSE_ASSIGN(std::unique_ptr<KvStore> kv, ops.make_kv(c.num_key_value_heads, c.head_dim,
                                                            round_up(context, kKeyBlock), element, layer.wide_keys));
    cache->layers_.push_back(std::move(kv));
  }
  return cache;
}

void KvCache::truncate(int64_t n) {
  if (n < n_past_) ++revision_;
  n_past_ = std::clamp<int64_t>(n, 0, n_past_);
}

}  // namespace glimpse
