// What a load does with side files (engine/model/pack_file.h): use the one there is, or make one for the next time.
// Nothing here can make a load fail: what goes wrong is said in the log, and the weights come from the GGUF file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/model/pack_file.h"
#include "engine/runtime/ops.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Packed weights of one GGUF file, at one precision. Move-only.
class PackCache {
 public:
  /// No side file: find() finds nothing, keep() keeps nothing.
  PackCache() = default;

  /// Looks for the side file in `directory` and maps it, or starts to write it. records: the matrices in the order in
  /// which they are loaded, without places.
  static PackCache open(const std::string& directory, const GgufFile& file, WeightPrecision precision,
                        std::vector<PackRecord> records, const LogSink& log);

  /// True when every matrix comes from the side file.
  bool is_mapped() const { return map_ != nullptr; }
  /// Matrix i, or nothing.
  std::span<const std::byte> find(size_t i) const {
    return map_ == nullptr ? std::span<const std::byte>() : map_->matrix(i);
  }
  /// Keeps what find() gave in place.
  std::shared_ptr<const void> owner() const { return map_; }
  /// The next matrix, packed.
  void keep(std::span<const std::byte> matrix);
  /// All matrices are there: the file gets its name.
  void finish();

 private:
  void give_up(const Error& error);

  std::string path_;
  LogSink log_;
  std::shared_ptr<const PackFile> map_;
  std::optional<PackFileWriter> writer_;
};

/// DIR/model.gguf.stored.0123456789abcdef.v1.pack: the name for people, then what else the content depends on.
std::string pack_file_path(const std::string& directory, const std::string& gguf_path, WeightPrecision precision,
                           uint64_t content_key);

}  // namespace glimpse
