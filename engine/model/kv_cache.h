// What the decoder keeps of one text: keys and values of every layer.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/result.h"
#include "engine/model/model.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// The cache of one text, filled by the passes of a TextDecoder on the same Ops. The one who knows how many slots are
/// filled.
class KvCache {
 public:
  /// context: slots (memory is rounded up to a multiple of 256). ops: outlives the cache. Errors: kInvalidArgument,
  /// kOutOfMemory.
  static Result<std::unique_ptr<KvCache>> create(const Model& model, Ops& ops, int64_t context, KvElement element);
  static uint64_t plan_bytes(const Model& model, const Ops& ops, int64_t context, KvElement element);

  int64_t context() const { return context_; }  // as asked for
  int64_t n_past() const { return n_past_; }    // slots filled
  int64_t n_left() const { return context_ - n_past_; }
  /// Forgets everything after slot n (0 <= n <= n_past()).
  void truncate(int64_t n);

  // -- for the decoder ---------------------------------------------------------------------------------------------
  KvStore* layer(size_t index) const { return layers_[index].get(); }
  /// A pass will write behind the filled slots.
  void begin_pass() { ++revision_; }
  /// n more slots are filled.
  void advance(int64_t n) { n_past_ += n; }
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

 private:
  KvCache() = default;

  std::vector<std::unique_ptr<KvStore>> layers_;
  int64_t context_ = 0, n_past_ = 0;
  std::shared_ptr<const void> identity_ = std::make_shared<int>(0);
  uint64_t revision_ = 0;
};

}  // namespace glimpse
