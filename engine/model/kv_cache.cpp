#include "engine/model/kv_cache.h"

#include <algorithm>
#include <utility>

namespace glimpse {

Result<std::unique_ptr<KvCache>> KvCache::create(std::shared_ptr<KvPages> pages, int64_t context) {
  if (context < 1 || context > int64_t{1} << 30) {
    return make_error(ErrorCode::kInvalidArgument, "a cache of %d positions", context);
  }
  std::unique_ptr<KvCache> cache(new KvCache(std::move(pages), context));
  const int64_t n_blocks = KvPages::pages_for(context);
  GLIMPSE_ASSIGN(cache->table_, cache->pages_->pool().make_table(n_blocks));
  cache->owned_.reserve(static_cast<size_t>(n_blocks));
  return cache;
}

Result<std::unique_ptr<KvCache>> KvCache::create(const Model& model, Ops& ops, int64_t context, KvElement element) {
  if (context < 1 || context > int64_t{1} << 30) {
    return make_error(ErrorCode::kInvalidArgument, "a cache of %d positions", context);
  }
  GLIMPSE_ASSIGN(auto pages, KvPages::create(model, ops, KvPages::pages_for(context), element));
  return create(std::move(pages), context);
}

KvCache::~KvCache() {
  give_back_from(0);
}

void KvCache::give_back_from(int64_t block) {
  while (n_pages() > block) {
    pages_->give_back(owned_.back());
    owned_.pop_back();
  }
}

int64_t KvCache::n_own_pages() const {
  return std::count_if(owned_.begin(), owned_.end(), [this](int32_t page) { return !pages_->is_shared(page); });
}

Result<std::unique_ptr<KvCache>> KvCache::fork() const {
  GLIMPSE_ASSIGN(std::unique_ptr<KvCache> other, create(pages_, context_));
  GLIMPSE_TRY(other->become(*this));
  return other;
}

Status KvCache::become(const KvCache& other) {
  if (&other == this) return {};
  ++revision_;
  for (const int32_t page : other.owned_) pages_->share(page);
  give_back_from(0);
  n_past_ = std::min(other.n_past_, context_);
  // Pages that were taken for slots which are not filled stay with the other.
  owned_.assign(other.owned_.begin(), other.owned_.end());
  give_back_from(KvPages::pages_for(n_past_));
  for (int64_t block = 0; block < n_pages(); ++block) {
    GLIMPSE_TRY(table_->set(block, owned_[static_cast<size_t>(block)]));
  }
  return {};
}

Status KvCache::adopt(std::span<const int32_t> pages, int64_t n) {
  truncate(0);
  ++revision_;
  for (const int32_t page : pages) {
    pages_->share(page);
    owned_.push_back(page);
  }
  n_past_ = n;
  for (int64_t block = 0; block < n_pages(); ++block) {
    Status set = table_->set(block, page(block));
    if (set.ok()) continue;
    truncate(0);
    return set;
  }
  return {};
}

Status KvCache::replace_page(int64_t block, int32_t page) {
  int32_t& own = owned_[static_cast<size_t>(block)];
  if (own == page) return {};
  GLIMPSE_TRY(table_->set(block, page));
  pages_->share(page);
  pages_->give_back(std::exchange(own, page));
  ++revision_;
  return {};
}

void KvCache::truncate(int64_t n) {
  if (n < n_past_) ++revision_;
  n_past_ = std::clamp<int64_t>(n, 0, n_past_);
  give_back_from(KvPages::pages_for(n_past_));
}

void KvCache::abandon_pass(int64_t n) {
  ++revision_;
  n_past_ = std::min(n, n_past_);
  give_back_from(std::max(n_pages_before_pass_, KvPages::pages_for(n_past_)));
}

void KvCache::reopen_last() {
  ++revision_;
  --n_past_;
}

Status KvCache::add_page(int64_t block) {
  const std::optional<int32_t> page = pages_->take();
  if (!page) {
    return make_error(ErrorCode::kContextFull,
                      "no page of %d slots is free: this text has %d of the %d that all texts share", kKeyBlock,
                      n_pages(), pages_->n_pages());
  }
  owned_.push_back(*page);
  return table_->set(block, *page);
}

// The page of a block for this cache alone.
Status KvCache::own_page(int64_t block) {
  int32_t& page = owned_[static_cast<size_t>(block)];
  if (!pages_->is_shared(page)) return {};
  const std::optional<int32_t> copy = pages_->take();
  if (!copy) {
    return make_error(ErrorCode::kContextFull,
                      "no page of %d slots is free for this text's own copy of the last one that it shares", kKeyBlock);
  }
  Status copied = pages_->pool().copy(page, *copy);
  if (copied.ok()) copied = table_->set(block, *copy);
  if (!copied.ok()) {
    pages_->give_back(*copy);
    return copied;
  }
  pages_->give_back(std::exchange(page, *copy));
  ++revision_;
  return {};
}

Status KvCache::reserve(int64_t n) {
  if (n > n_left()) {
    return make_error(ErrorCode::kContextFull,
                      "%d more positions do not fit: the context has %d, %d are used, %d are left", n, context_,
                      n_past_, n_left());
  }
  if (n == 0) return {};
  const int64_t n_before = n_pages(), end = KvPages::pages_for(n_past_ + n);
  const auto get = [&]() -> Status {
    // Slots from n_past() on may lie in pages that are there already.
    for (int64_t block = n_past_ / kKeyBlock; block < std::min(n_before, end); ++block) GLIMPSE_TRY(own_page(block));
    for (int64_t block = n_before; block < end; ++block) GLIMPSE_TRY(add_page(block));
    return {};
  };
  Status got = get();
  if (!got.ok()) give_back_from(n_before);  // all of them or none
  return got;
}

Status KvCache::begin_pass(int64_t n) {
  ++revision_;
  n_pages_before_pass_ = n_pages();
  return reserve(n);
}

Status KvCache::save_page(int64_t block, std::span<std::byte> out) const {
  const int64_t n = std::clamp<int64_t>(n_past_ - block * kKeyBlock, 0, kKeyBlock);
  if (n == 0 || out.size() != page_bytes()) {
    return make_error(ErrorCode::kInternal, "page %d of %d, %d bytes", block, n_pages(), out.size());
  }
  return pages_->pool().download(owned_[static_cast<size_t>(block)], n, out);
}

Status KvCache::load_page(int64_t n_slots, std::span<const std::byte> bytes) {
  if (n_past_ % kKeyBlock != 0 || n_slots < 1 || n_slots > kKeyBlock || bytes.size() != page_bytes()) {
    return make_error(ErrorCode::kInternal, "%d slots behind %d, %d bytes", n_slots, n_past_, bytes.size());
  }
  GLIMPSE_TRY(begin_pass(n_slots));
  GLIMPSE_TRY(pages_->pool().upload(owned_[static_cast<size_t>(n_past_ / kKeyBlock)], bytes));
  advance(n_slots);
  return {};
}

}  // namespace glimpse
