// The pages of a pool and who owns them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/base/result.h"
#include "engine/model/model.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// Counts how many caches have each page of a pool: texts that begin alike share what they have in common. A page that
/// several have is not written to. Taking, sharing and giving back may happen in any thread.
class KvPages {
 public:
  /// n_pages of kKeyBlock positions, all layers together. ops: outlives nobody; whoever works on the pages runs on its
  /// device. Errors: kInvalidArgument, kOutOfMemory.
  static Result<std::shared_ptr<KvPages>> create(const Model& model, Ops& ops, int64_t n_pages, KvElement element);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t n_pages, KvElement element);
  /// Pages that hold n positions.
  static int64_t pages_for(int64_t n) { return (n + kKeyBlock - 1) / kKeyBlock; }

  KvPool& pool() const { return *pool_; }
  KvElement element() const { return element_; }
  int64_t n_pages() const { return pool_->n_pages; }
  int64_t n_free() const;

  /// A page for one owner; nullopt: none is free.
  std::optional<int32_t> take();
  /// One owner more.
  void share(int32_t page);
  /// One owner less; of the last one the page becomes free.
  void give_back(int32_t page);
  bool is_shared(int32_t page) const;

 private:
  KvPages(std::unique_ptr<KvPool> pool, KvElement element);

  const std::unique_ptr<KvPool> pool_;
  const KvElement element_;
  mutable std::mutex mutex_;
  std::vector<int32_t> n_owners_;  // by page
  std::vector<int32_t> free_;      // the next one to take last
};

}  // namespace glimpse
