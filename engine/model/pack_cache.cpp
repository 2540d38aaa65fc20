#include "engine/model/pack_cache.h"

#include <utility>

#include "engine/base/enum_names.h"
#include "kernels/matmul/panel_layout.h"

namespace glimpse {
namespace {

const char* precision_name(WeightPrecision precision) {
  constexpr const char* kNames[] = {"stored", "f32", "bf16", "int8"};
  return enum_name<WeightPrecision::kInt8>(kNames, precision, "stored");
}

}  // namespace

std::string pack_file_path(const std::string& directory, const std::string& gguf_path, WeightPrecision precision,
                           uint64_t content_key) {
  const size_t slash = gguf_path.rfind('/');
  const std::string name = slash == std::string::npos ? gguf_path : gguf_path.substr(slash + 1);
  return format("%s/%s.%s.%016x.v%d.pack", directory, name, precision_name(precision), content_key,
                kPanelLayoutVersion);
}

PackCache PackCache::open(const std::string& folder, const GgufFile& file, WeightPrecision precision,
                          std::vector<PackRecord> records, PackUse use, const PackCache* beside, int n_threads,
                          const LogSink& log) {
  PackCache cache;
  cache.log_ = log;
  cache.use_ = use;
  if (beside != nullptr && beside->writer_) cache.n_promised_ = beside->header_.file_bytes;
  if (beside != nullptr && beside->file_) cache.needed_ = beside->path_;
  cache.header_.layout_version = kPanelLayoutVersion;
  cache.header_.records = std::move(records);
  auto found_folder = find_pack_folder(folder);
  if (!found_folder.ok()) {
    cache.give_up(found_folder.error());
    return cache;
  }
  cache.folder_ = std::move(found_folder).value();
  const auto key = file.content_key();
  if (!key.ok()) {
    cache.give_up(key.error());
    return cache;
  }
  cache.header_.content_key = key.value();
  cache.path_ = pack_file_path(cache.folder_.path, file.path(), precision, key.value());
  if (const Status laid_out = lay_out_pack(cache.header_); !laid_out.ok()) {
    cache.give_up(laid_out.error());
    return cache;
  }
  auto found = PackFile::open(cache.path_, cache.header_, use);
  if (found.ok()) {
    cache.file_ = std::move(found).value();
    if (cache.folder_.most_bytes != 0) cache.file_->mark_used();
    cache.team_ = std::make_unique<ThreadTeam>(n_threads, log);
    glimpse::log(
        log, LogLevel::kInfo,
        format("packed weights are %s %s", use == PackUse::kMap ? "mapped from" : "read from", cache.path_.c_str()));
    return cache;
  }
  if (found.error().code != ErrorCode::kNotFound) {
    glimpse::log(log, LogLevel::kWarning,
                 format("%s is not used and will be replaced: %s", cache.path_, found.error().message));
  }
  cache.begin_writing();
  return cache;
}

void PackCache::begin_writing() {
  const Status room = make_room(folder_, n_promised_ + header_.file_bytes, needed_);
  if (!room.ok()) return give_up(room.error());
  auto writer = PackFileWriter::create(path_, header_);
  if (writer.ok()) {
    writer_ = std::move(writer).value();
  } else {
    give_up(writer.error());
  }
}

PackFile::Matrix PackCache::find() {
  if (!file_) return {};
  auto matrix = file_->matrix(next_, *team_);
  if (matrix.ok()) {
    ++next_;
    if (use_ == PackUse::kMap) mapped_bytes_ += matrix->bytes.size();
    return std::move(matrix).value();
  }
  const PackFile old = *std::exchange(file_, std::nullopt);
  if (matrix.error().code == ErrorCode::kOutOfMemory) return {};  // packing it will say so
  log(log_, LogLevel::kWarning,
      format("%s is not used any further and will be replaced: %s", path_.c_str(), matrix.error().message.c_str()));
  begin_writing();
  for (size_t i = 0; i < next_ && writer_; ++i) {  // those that were right
    auto again = old.matrix(i, *team_);
    if (!again.ok()) {
      give_up(again.error());
    } else {
      keep(again->bytes);
    }
  }
  return {};
}

void PackCache::give_up(const Error& error) {
  writer_.reset();
  log(log_, LogLevel::kWarning, format("no packed weights are kept: %s", error.message));
}

void PackCache::keep(std::span<const std::byte> matrix) {
  if (!writer_) return;
  if (const Status status = writer_->add(matrix); !status.ok()) give_up(status.error());
}

void PackCache::finish() {
  if (!writer_) return;
  if (const Status status = writer_->commit(); !status.ok()) return give_up(status.error());
  writer_.reset();
  log(log_, LogLevel::kInfo, format("packed weights were kept in %s", path_));
}

}  // namespace glimpse
