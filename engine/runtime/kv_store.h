// Where keys and values lie: one store per layer, alone or over the pages of a pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "kernels/attention/attention.h"

namespace glimpse {

/// Keys and values of one layer in the backend's layout. Of a store over pages segments see the keys from a multiple of
/// kKeyBlock on.
class KvStore {
 public:
  virtual ~KvStore() = default;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t capacity = 0;  // positions, a multiple of kKeyBlock
  KvElement element = KvElement::kBf16;
  double position_bytes = 0;  // of one key and one value of every head
  /// Copies one key and value (head_dim floats each) to host memory; for tests and tensor dumps.
  virtual void read(int64_t kv_head, int64_t position, float* key, float* value) const = 0;
};

/// What a layer keeps of each position.
struct KvShape {
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  KvElement element = KvElement::kBf16;
  std::span<const int32_t> wide;  // (n_kv_heads, n_wide): see Ops::make_kv()
};

/// The pages of one text in their order, and a store for each layer over them.
class KvTable {
 public:
  virtual ~KvTable() = default;
  /// From now on positions [block * kKeyBlock, (block + 1) * kKeyBlock) lie in this page.
  virtual Status set(int64_t block, int32_t page) = 0;
  KvStore* layer(size_t index) const { return layers_[index].get(); }

 protected:
  std::vector<std::unique_ptr<KvStore>> layers_;
};

/// Memory for the keys and values of texts, in pages of kKeyBlock positions of all layers each. Who owns which of them
/// is not known here: KvPages in engine/model. Used by one context at a time, the one that made it or another of the
/// same device; outlived by no table. What a page holds that nobody has written may be anything.
class KvPool {
 public:
  virtual ~KvPool() = default;
  int64_t n_pages = 0;
  uint64_t page_bytes = 0;

  /// For texts of up to n_blocks pages.
  virtual Result<std::unique_ptr<KvTable>> make_table(int64_t n_blocks) = 0;
  virtual Status copy(int32_t from, int32_t to) = 0;
  /// Names the arrangement of a page's bytes: pages may be moved between pools with the same shapes and the same name.
  virtual const char* layout() const = 0;
  /// page_bytes to host memory, as if the positions from n_positions on held zeros: what others left behind stays here.
  virtual Status download(int32_t page, int64_t n_positions, std::span<std::byte> out) const = 0;
  /// Any bytes are safe; what is not finite shows in the results.
  virtual Status upload(int32_t page, std::span<const std::byte> bytes) = 0;
};

}  // namespace glimpse
