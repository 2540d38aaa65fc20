// The prompt cache: pages of texts that were computed, for texts that begin alike.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/base/sha256.h"
#include "engine/model/kv_cache.h"
#include "engine/model/kv_pages.h"
#include "tokenizer/tokenizer.h"

namespace glimpse {

/// What a row of a prompt is: two rows are the same when these are, and all rows before them. Positions follow from it.
struct RowKey {
  TokenId token = 0;       // PassRows::kPicture: a row of a picture
  int32_t row = 0;         // of the picture
  Sha256Digest picture{};  // its content
  bool operator==(const RowKey&) const = default;
};

/// A tree of pages: each holds the keys and values of up to kKeyBlock rows that follow those of the pages above it.
/// Only a leaf may be partly filled. What a row is gets compared itself, not a hash of it; of pictures the SHA-256 of
/// their content. Used by one thread.
class PrefixCache {
 public:
  explicit PrefixCache(std::shared_ptr<KvPages> pages) : pages_(std::move(pages)) {}
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Match {
    std::vector<int32_t> pages;  // the last one perhaps filled further than asked for
    int64_t n_rows = 0;
  };
  /// The longest beginning of rows that is here. Its pages stay as long as nothing else is called.
  Match find(std::span<const RowKey> rows);
  /// How many rows find() would give.
  int64_t n_rows_known(std::span<const RowKey> rows) const;
  /// Keeps the first rows.size() slots of a text, which hold these rows. Full pages that are here already take the
  /// place of the text's own. Where memory runs out less is kept.
  void keep(std::span<const RowKey> rows, KvCache& cache);
  /// Pages that nobody else has: as good as free.
  int64_t n_idle() const;
  /// Gives pages up until n of the pool are free, those first that were not used for longest. False: there are not so
  /// many.
  bool make_free(int64_t n);

 private:
  struct Node {
    Node* parent = nullptr;
    int32_t page = -1;
    std::vector<RowKey> rows;
    uint64_t last_used = 0;
    std::vector<std::unique_ptr<Node>> children;
  };
  struct Child {
    Node* node = nullptr;
    size_t n_alike = 0;
  };
  static Child best_child(const Node& parent, std::span<const RowKey> rows);
  template <typename See>
  void descend(std::span<const RowKey> rows, See&& see) const;
  template <typename See>
  static void walk(Node& node, See&& see);

  const std::shared_ptr<KvPages> pages_;
  Node root_;
  uint64_t tick_ = 0;
};

}  // namespace glimpse
