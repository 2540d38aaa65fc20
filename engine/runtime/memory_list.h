// The memory of an object, from which both its plan and its creation follow.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/runtime/ops.h"

namespace glimpse {

/// What a decoder or an encoder allocates once: listed, then either summed up or allocated. What is not in the list is
/// not allocated, what is in it is in the plan.
class MemoryList {
 public:
  /// Floats of the backend.
  void buffer(const char* name, int64_t n_floats, std::unique_ptr<BackendBuffer>& to);
  /// Values of the host.
  template <typename T>
  void host(const char* name, int64_t n, std::vector<T>& to) {
    entries_.push_back({name, [n](const Ops&) { return static_cast<uint64_t>(n) * sizeof(T); },
                        [n, &to](Ops&) -> Status {
                          to.resize(static_cast<size_t>(n));
                          return {};
                        }});
  }
  /// Scratch for products of so many rows of so many inputs. Several products share theirs: what grows with the rows
  /// and what grows with the inputs alone is as large as the largest of them need it.
  void product(int64_t rows, int64_t cols) { products_.push_back({rows, cols}); }
  void experts(int64_t rows, const ExpertWeights& weights);
  /// Scratch for attention to stores of this shape.
  void attention(int64_t n_kv_heads, int64_t head_dim, int64_t capacity);
  /// A store of its own, with its scratch.
  void kv(int64_t n_kv_heads, int64_t head_dim, int64_t capacity, KvElement element, std::unique_ptr<KvStore>& to);

  /// Bytes by name.
  std::vector<std::pair<std::string, uint64_t>> sizes(const Ops& ops) const;
  uint64_t bytes(const Ops& ops) const;
  /// Errors: kOutOfMemory, kUnsupported.
  Status allocate(Ops& ops) const;

 private:
  struct Entry {
    std::string name;
    std::function<uint64_t(const Ops&)> bytes;
    std::function<Status(Ops&)> allocate;
  };
  struct Product {
    int64_t rows, cols;
  };
  uint64_t product_bytes(const Ops& ops) const;
  std::vector<Entry> entries_;
  std::vector<Product> products_;
};

}  // namespace glimpse
