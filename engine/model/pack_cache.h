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
#include "engine/model/pack_folder.h"
#include "engine/runtime/ops.h"
#include "loaders/gguf/gguf.h"

namespace glimpse {

/// Packed weights of one GGUF file, at one precision. Move-only.
class PackCache {
 public:
  /// No side file: find() finds nothing, keep() keeps nothing.
  PackCache() = default;

  /// Looks for the side file in `folder` (find_pack_folder()), or starts to write it. records: the matrices in the
  /// order in which they are loaded, without places. n_threads: that read and check. beside: of the other file of this
  /// load, opened before; room is made for both, nullptr: there is none.
  static PackCache open(const std::string& folder, const GgufFile& file, WeightPrecision precision,
                        std::vector<PackRecord> records, PackUse use, const PackCache* beside, int n_threads,
                        const LogSink& log);

  /// True when the matrices come from a map of the side file.
  bool is_mapped() const { return file_ && use_ == PackUse::kMap; }
  /// Bytes of what find() gave that are a map of the side file.
  uint64_t mapped_bytes() const { return mapped_bytes_; }
  /// The next matrix, or nothing: then it is packed, and goes to keep(). A damaged side file is given up at the first
  /// matrix that is, and a new one begun.
  PackFile::Matrix find();
  /// The next matrix, packed.
  void keep(std::span<const std::byte> matrix);
  /// All matrices are there: a new file gets its name.
  void finish();

 private:
  void begin_writing();
  void give_up(const Error& error);

  PackFolder folder_;
  std::string path_;
  LogSink log_;
  PackHeader header_;
  PackUse use_ = PackUse::kRead;
  // Of the other file of this load: bytes that are being written, or the side file that is there.
  uint64_t n_promised_ = 0;
  std::string needed_;
  std::unique_ptr<ThreadTeam> team_;
  std::optional<PackFile> file_;
  size_t next_ = 0;  // matrix, of those in file_
  uint64_t mapped_bytes_ = 0;
  std::optional<PackFileWriter> writer_;
};

/// DIR/model.gguf.stored.0123456789abcdef.v1.pack: the name for people, then what else the content depends on.
std::string pack_file_path(const std::string& directory, const std::string& gguf_path, WeightPrecision precision,
                           uint64_t content_key);

}  // namespace glimpse
