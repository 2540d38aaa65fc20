// Reads bytes as the header of a side file: as they are, and with magic, versions and checksum made right, so that what
// lies behind those is reached. The first 8 bytes of the input are the size that the file pretends to have.
// Seeds: make_pack_seeds.py.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/model/pack_file.h"
#include "kernels/matmul/panel_layout.h"

namespace {

void check(std::span<const std::byte> bytes, uint64_t file_bytes) {
  const auto header = glimpse::load_pack_header(bytes, file_bytes);
  if (!header.ok()) {
    if (header.error().message.empty()) __builtin_trap();
    return;
  }
  // What was accepted lies in order inside the file, and is what would be written again.
  uint64_t end = glimpse::kPackHeadBytes + glimpse::kPackRecordBytes * header->records.size();
  for (const glimpse::PackRecord& record : header->records) {
    if (record.offset < end || record.offset % 64 != 0 || record.n_bytes > file_bytes - record.offset) __builtin_trap();
    end = record.offset + record.n_bytes;
  }
  if (end > file_bytes) __builtin_trap();
  const auto again = glimpse::load_pack_header(glimpse::save_pack_header(header.value()), file_bytes);
  if (!again.ok() || again->records.size() != header->records.size()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t file_bytes = 0;
  if (size < sizeof file_bytes) return 0;
  std::memcpy(&file_bytes, data, sizeof file_bytes);
  const auto raw = std::as_bytes(std::span(data + sizeof file_bytes, size - sizeof file_bytes));
  check(raw, file_bytes);
  if (raw.size() < glimpse::kPackHeadBytes) return 0;
  std::vector<std::byte> fixed(raw.begin(), raw.end());
  const uint32_t versions[2] = {1, glimpse::kPanelLayoutVersion};
  std::memcpy(fixed.data(), "GLIMPACK", 8);
  std::memcpy(fixed.data() + 8, versions, sizeof versions);
  std::memcpy(fixed.data() + 24, &file_bytes, sizeof file_bytes);
  uint32_t count = 0;
  std::memcpy(&count, fixed.data() + 32, sizeof count);
  const uint64_t n_header = glimpse::kPackHeadBytes + glimpse::kPackRecordBytes * uint64_t{count};
  if (n_header <= fixed.size()) glimpse::seal_pack_header(std::span(fixed).first(n_header));
  check(fixed, file_bytes);
  return 0;
}
