#include "engine/model/kv_pages.h"

#include <utility>

#include "engine/model/weights.h"

namespace glimpse {
namespace {

// What each layer of the decoder keeps of a position. Points into the model.
std::vector<KvShape> layer_shapes(const Model& model, KvElement element) {
  const TextConfig& c = model.text();
  std::vector<KvShape> shapes;
  for (const DecoderLayerWeights& layer : model.text_weights().layers) {
    shapes.push_back({c.num_key_value_heads, c.head_dim, element, layer.wide_keys});
  }
  return shapes;
}

}  // namespace

uint64_t KvPages::plan_bytes(const Model& model, const Ops& ops, int64_t n_pages, KvElement element) {
  const auto page_floats = static_cast<int64_t>(ops.kv_page_bytes(layer_shapes(model, element)) / sizeof(float));
  return ops.buffer_bytes(n_pages * page_floats);
}

Result<std::shared_ptr<KvPages>> KvPages::create(const Model& model, Ops& ops, int64_t n_pages, KvElement element) {
  if (n_pages < 1 || n_pages > int64_t{1} << 30) {
    return make_error(ErrorCode::kInvalidArgument, "a pool of %d pages", n_pages);
  }
  GLIMPSE_ASSIGN(std::unique_ptr<KvPool> pool, ops.make_kv_pool(layer_shapes(model, element), n_pages));
  return std::shared_ptr<KvPages>(new KvPages(std::move(pool), element));
}

KvPages::KvPages(std::unique_ptr<KvPool> pool, KvElement element) : pool_(std::move(pool)), element_(element) {
  n_owners_.resize(static_cast<size_t>(pool_->n_pages));
  free_.reserve(n_owners_.size());  // giving back cannot fail
  for (auto page = static_cast<int32_t>(pool_->n_pages); page-- > 0;) free_.push_back(page);
}

int64_t KvPages::n_free() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(free_.size());
}

std::optional<int32_t> KvPages::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return std::nullopt;
  const int32_t page = free_.back();
  free_.pop_back();
  n_owners_[static_cast<size_t>(page)] = 1;
  return page;
}

void KvPages::share(int32_t page) {
  const std::lock_guard lock(mutex_);
  ++n_owners_[static_cast<size_t>(page)];
}

void KvPages::give_back(int32_t page) {
  const std::lock_guard lock(mutex_);
  if (--n_owners_[static_cast<size_t>(page)] == 0) free_.push_back(page);
}

bool KvPages::is_shared(int32_t page) const {
  const std::lock_guard lock(mutex_);
  return n_owners_[static_cast<size_t>(page)] > 1;
}

}  // namespace glimpse
