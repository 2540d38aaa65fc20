#include "loaders/image/orientation.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>

namespace glimpse {
namespace {

// Reads numbers in the byte order of the TIFF header.
class TiffReader {
 public:
  TiffReader(std::span<const std::byte> bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}
  bool has(uint64_t offset, uint64_t n) const { return offset <= bytes_.size() && n <= bytes_.size() - offset; }
  // Precondition: has(offset, 2), has(offset, 4).
  uint32_t u16(uint64_t offset) const { return static_cast<uint32_t>(number(offset, 2)); }
  uint32_t u32(uint64_t offset) const { return static_cast<uint32_t>(number(offset, 4)); }
  // Precondition: n <= 8, has(offset, n).
  uint64_t number(uint64_t offset, uint64_t n) const {
    uint64_t value = 0;
    for (uint64_t i = 0; i < n; ++i) {
      value = value << 8 | std::to_integer<uint64_t>(bytes_[offset + (big_endian_ ? i : n - 1 - i)]);
    }
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  bool big_endian_;
};

// Types of TIFF 6.0 and BigTIFF; 13 is an offset of an IFD.
enum TiffType : uint32_t {
  kByte = 1,
  kAscii,
  kShort,
  kLong,
  kRational,
  kSByte,
  kUndefined,
  kSShort,
  kSLong,
  kSRational,
  kFloat,
  kDouble,
  kIfd,
  kLong8 = 16
};

// Bytes of one value; 0: unknown.
uint64_t size_of(uint32_t type) {
  constexpr uint8_t kSizes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};
  return type < std::size(kSizes) ? kSizes[type] : 0;
}

// The first value at `at` as a number; 0 where it is none.
double value_at(const TiffReader& tiff, uint32_t type, uint64_t at) {
  switch (type) {
    case kShort:
    case kSShort:
    case kLong:
    case kSLong:
    case kSByte:
    case kIfd:
    case kLong8:  // a negative number of these is no orientation, and as an unsigned one it is none either
      return static_cast<double>(tiff.number(at, size_of(type)));
    case kRational:
    case kSRational:
      return tiff.u32(at + 4) == 0 ? 0.0 : static_cast<double>(tiff.u32(at)) / static_cast<double>(tiff.u32(at + 4));
    case kFloat:
      return static_cast<double>(std::bit_cast<float>(tiff.u32(at)));
    case kDouble:
      return std::bit_cast<double>(tiff.number(at, 8));
    default:
      return 0;
  }
}

int valid_or_upright(double value) {
  return value >= 1 && value <= 8 && value == static_cast<int>(value) ? static_cast<int>(value) : 1;
}

bool starts_with(std::span<const std::byte> bytes, const char* prefix, size_t n) {
  return bytes.size() >= n && std::memcmp(bytes.data(), prefix, n) == 0;
}

}  // namespace

std::optional<int> exif_orientation(std::span<const std::byte> exif) {
  constexpr uint32_t kOrientationTag = 0x0112;
  for (int i = 0; i < 2 && starts_with(exif, "Exif\0\0", 6); ++i) exif = exif.subspan(6);
  const bool big_endian = starts_with(exif, "MM\0*", 4) || starts_with(exif, "MM*\0", 4);
  if (!big_endian && !starts_with(exif, "II*\0", 4) && !starts_with(exif, "II\0*", 4)) return {};
  const TiffReader tiff(exif, big_endian);
  if (!tiff.has(4, 4)) return {};
  const uint64_t ifd = tiff.u32(4);
  if (!tiff.has(ifd, 2)) return {};
  const uint32_t n_entries = tiff.u16(ifd);
  for (uint32_t i = 0; i < n_entries; ++i) {
    const uint64_t entry = ifd + 2 + uint64_t{i} * 12;  // tag u16, type u16, count u32, value or its offset u32
    if (!tiff.has(entry, 12)) return {};
    if (tiff.u16(entry) != kOrientationTag) continue;
    const uint32_t type = tiff.u16(entry + 2);
    const uint64_t n_bytes = size_of(type) * tiff.u32(entry + 4);
    const uint64_t at = n_bytes <= 4 ? entry + 8 : tiff.u32(entry + 8);
    if (n_bytes == 0) continue;  // no such type, or no value
    if (!tiff.has(at, n_bytes)) return {};
    return valid_or_upright(value_at(tiff, type, at));
  }
  return {};
}

std::optional<int> xmp_orientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = xmp.find(kName); at != xmp.npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return valid_or_upright(rest[0] - '0');
  }
  return {};
}

std::vector<std::byte> decode_raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {  // an empty line, the name, the length
    const size_t end = text.find('\n');
    if (end == text.npos) return {};
    text.remove_prefix(end + 1);
  }
  std::vector<std::byte> bytes;
  int high = -1;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (digit < 0) {
      if (c == '\n' || c == '\r' || c == ' ') continue;
      return {};
    }
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(static_cast<std::byte>(high << 4 | digit));
      high = -1;
    }
  }
  return bytes;
}

int OrientationTags::orientation() const {
  if (const std::optional<int> said = exif_orientation(exif)) return *said;
  return xmp_orientation({reinterpret_cast<const char*>(xmp.data()), xmp.size()}).value_or(1);
}

}  // namespace glimpse
