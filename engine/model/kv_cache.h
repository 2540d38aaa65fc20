// What the decoder keeps of one text: the pages with the keys and values of every layer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/result.h"
#include "engine/model/kv_pages.h"
#include "engine/model/model.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// The cache of one text, filled by the passes of a TextDecoder on the same Ops. The one who knows how many slots are
/// filled. Pages are taken from the pool as slots are filled, shared by fork(), given back by truncate(): only the
/// last, partly filled one of two owners is copied, when one of them goes on.
///
/// Keys and values can be cut at any slot. A layer that keeps a running state instead could only go back to where a
/// snapshot was taken: such snapshots belong beside pages_, one per page boundary and one at n_past(), and truncate()
/// would then stop at the last one before n, whose slots the caller runs again (so callers look at n_past() after it).
class KvCache {
 public:
  /// With pages of its own. context: slots (memory is rounded up to whole pages). ops: outlives the cache. Errors:
  /// kInvalidArgument, kOutOfMemory.
  static Result<std::unique_ptr<KvCache>> create(const Model& model, Ops& ops, int64_t context, KvElement element);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t context, KvElement element) {
    return KvPages::plan_bytes(model, ops, KvPages::pages_for(context), element);
  }
  /// With pages of a pool that others use, too. Errors: kInvalidArgument, kOutOfMemory (a device's memory).
  static Result<std::unique_ptr<KvCache>> create(std::shared_ptr<KvPages> pages, int64_t context);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int64_t context() const { return context_; }  // as asked for
  int64_t n_past() const { return n_past_; }    // slots filled
  int64_t n_left() const { return context_ - n_past_; }
  const std::shared_ptr<KvPages>& pages() const { return pages_; }
  /// Pages that it has, shared ones too.
  int64_t n_pages() const { return static_cast<int64_t>(owned_.size()); }
  /// Of these, pages that become free with it.
  int64_t n_own_pages() const;

  /// Another cache with the same slots filled, in the same pages. Errors: as create().
  Result<std::unique_ptr<KvCache>> fork() const;
  /// Takes the slots of another cache of the same pool, in the same pages, for what it holds. Errors: kDevice.
  Status become(const KvCache& other);
  /// Forgets everything after slot n (0 <= n <= n_past()).
  void truncate(int64_t n);
  /// Instead of what it holds the n slots of these pages of the pool, which it shares with their owners. Errors:
  /// kDevice (it is empty then).
  Status adopt(std::span<const int32_t> pages, int64_t n);
  int32_t page(int64_t block) const { return owned_[static_cast<size_t>(block)]; }
  /// Another page takes the place of a block whose slots are filled, with the same bytes. Errors: kDevice.
  Status replace_page(int64_t block, int32_t page);

  /// The bytes of a page of filled slots, page_bytes() of them; slots that are not filled are zeros.
  uint64_t page_bytes() const { return pages_->pool().page_bytes; }
  Status save_page(int64_t block, std::span<std::byte> out) const;
  /// Fills the next slots, at most a page of them, with bytes that save_page() gave for the same number. Precondition:
  /// n_past() is at the beginning of a page. Errors: kContextFull.
  Status load_page(int64_t n_slots, std::span<const std::byte> bytes);

  // -- for the decoder ---------------------------------------------------------------------------------------------
  KvStore* layer(size_t index) const { return table_->layer(index); }
  /// A pass will write the n slots behind the filled ones: they have pages that nobody else has. Errors: kContextFull:
  /// no page is free.
  Status begin_pass(int64_t n);
  /// The pass came to nothing: n slots are filled, as before it, and pages that were taken for it go back.
  void abandon_pass(int64_t n);
  /// n more slots are filled.
  void advance(int64_t n) { n_past_ += n; }
  /// The last slot is about to be filled anew; its page stays.
  void reopen_last();
  /// Differs from that of every other cache, and from its own earlier ones when slots were given up or a pass wrote
  /// some: what a recorded step wrote behind the filled ones is worthless then.
  struct Revision {
    std::weak_ptr<const void> cache;
    uint64_t number = 0;
    bool of_same_cache(const Revision& other) const {
      return !cache.owner_before(other.cache) && !other.cache.owner_before(cache);
    }
    bool operator==(const Revision& other) const { return number == other.number && of_same_cache(other); }
  };
  Revision revision() const { return {identity_, revision_}; }
  /// Pages for n slots behind the filled ones, as begin_pass(), for steps that go on from one another.
  Status reserve(int64_t n);

 private:
  KvCache(std::shared_ptr<KvPages> pages, int64_t context) : pages_(std::move(pages)), context_(context) {}
  void give_back_from(int64_t block);
  Status add_page(int64_t block);
  Status own_page(int64_t block);

  std::shared_ptr<KvPages> pages_;
  std::unique_ptr<KvTable> table_;
  std::vector<int32_t> owned_;  // by block; room for the context from the beginning
  int64_t context_ = 0, n_past_ = 0;
  int64_t n_pages_before_pass_ = 0;
  std::shared_ptr<const void> identity_ = std::make_shared<int>(0);
  uint64_t revision_ = 0;
};

}  // namespace glimpse
