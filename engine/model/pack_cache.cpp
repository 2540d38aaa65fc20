#include "engine/model/pack_cache.h"

#include <utility>

#include "kernels/matmul/panel_layout.h"

namespace glimpse {
namespace {

const char* precision_name(WeightPrecision precision) {
  switch (precision) {
    case WeightPrecision::kAsStored:
      return "stored";
    case WeightPrecision::kF32:
      return "f32";
    case WeightPrecision::kBf16:
      return "bf16";
    case WeightPrecision::kInt8:
      return "int8";
  }
  return "stored";
}

}  // namespace

std::string pack_file_path(const std::string& directory, const std::string& gguf_path, WeightPrecision precision,
                           uint64_t content_key) {
  const size_t slash = gguf_path.rfind('/');
  const std::string name = slash == std::string::npos ? gguf_path : gguf_path.substr(slash + 1);
  return format("%s/%s.%s.%016x.v%d.pack", directory, name, precision_name(precision), content_key,
                kPanelLayoutVersion);
}

PackCache PackCache::open(const std::string& directory, const GgufFile& file, WeightPrecision precision,
                          std::vector<PackRecord> records, const LogSink& log) {
  PackCache cache;
  cache.log_ = log;
  PackHeader header;
  header.layout_version = kPanelLayoutVersion;
  header.records = std::move(records);
  const auto key = file.content_key();
  if (!key.ok()) {
    cache.give_up(key.error());
    return cache;
  }
  header.content_key = key.value();
  cache.path_ = pack_file_path(directory, file.path(), precision, header.content_key);
  if (const Status laid_out = lay_out_pack(header); !laid_out.ok()) {
    cache.give_up(laid_out.error());
    return cache;
  }
  auto found = PackFile::open(cache.path_, header);
  if (found.ok()) {
    cache.map_ = std::make_shared<const PackFile>(std::move(found).value());
    glimpse::log(log, LogLevel::kInfo, format("packed weights are mapped from %s", cache.path_));
    return cache;
  }
  if (found.error().code != ErrorCode::kNotFound) {
    glimpse::log(log, LogLevel::kWarning,
                 format("%s is not used and will be replaced: %s", cache.path_, found.error().message));
  }
  auto writer = PackFileWriter::create(cache.path_, std::move(header));
  if (writer.ok()) {
    cache.writer_ = std::move(writer).value();
  } else {
    cache.give_up(writer.error());
  }
  return cache;
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
