#include "engine/model/kv_cache.h"

#include <algorithm>
#include <utility>

#include "engine/base/checked.h"

namespace glimpse {

uint64_t KvCache::plan_bytes(const Model& model, const Ops& ops, int64_t context, KvElement element) {
  const TextConfig& c = model.text();
  return static_cast<uint64_t>(c.num_hidden_layers) *
         ops.kv_bytes(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock), element);
}

Result<std::unique_ptr<KvCache>> KvCache::create(const Model& model, Ops& ops, int64_t context, KvElement element) {
  if (context < 1 || context > int64_t{1} << 30) {
    return make_error(ErrorCode::kInvalidArgument, "a cache of %d positions", context);
  }
  const TextConfig& c = model.text();
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->context_ = context;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    GLIMPSE_ASSIGN(std::unique_ptr<KvStore> layer,
                   ops.make_kv(c.num_key_value_heads, c.head_dim, round_up(context, kKeyBlock), element));
    cache->layers_.push_back(std::move(layer));
  }
  return cache;
}

void KvCache::truncate(int64_t n) {
  if (n < n_past_) ++revision_;
  n_past_ = std::clamp<int64_t>(n, 0, n_past_);
}

}  // namespace glimpse
