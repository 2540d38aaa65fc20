#include "loaders/image/heif_boxes.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/image/decoder.h"

namespace glimpse {
namespace {

using Bytes = std::span<const std::byte>;

// Big-endian numbers from the front of some bytes. Past the end they are 0, and ok() no longer holds.
class Cursor {
 public:
  explicit Cursor(Bytes bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  Bytes rest() const { return rest_; }
  uint64_t u(size_t n_bytes) {
    uint64_t value = 0;
    for (const std::byte b : take(n_bytes)) value = value << 8 | std::to_integer<uint64_t>(b);
    return value;
  }
  Bytes take(uint64_t n) {
    if (n > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const Bytes taken = rest_.first(static_cast<size_t>(n));
    rest_ = rest_.subspan(static_cast<size_t>(n));
    return taken;
  }

 private:
  Bytes rest_;
  bool ok_ = true;
};

constexpr uint64_t type_of(const char (&name)[5]) {
  uint64_t type = 0;
  for (int i = 0; i < 4; ++i) type = type << 8 | static_cast<uint8_t>(name[i]);
  return type;
}

struct Box {
  uint64_t type = 0;
  Bytes body;
};

// false at the end, or where no whole box follows.
bool next_box(Cursor& in, Box& box) {
  if (in.rest().size() < 8) return false;
  uint64_t size = in.u(4), head = 8;
  box.type = in.u(4);
  if (size == 1) size = in.u(8), head = 16;
  if (size == 0) size = head + in.rest().size();
  if (!in.ok() || size < head) return false;
  box.body = in.take(size - head);
  return in.ok();
}

// Bits from the front, the highest of a byte first. Past the end they are 0.
class Bits {
 public:
  explicit Bits(Bytes bytes) : bytes_(bytes) {}
  bool ok() const { return at_ <= bytes_.size() * 8; }
  uint64_t u(unsigned n_bits) {
    uint64_t value = 0;
    for (; n_bits > 0; --n_bits, ++at_) {
      const bool inside = at_ < bytes_.size() * 8;
      value = value << 1 | (inside ? std::to_integer<uint64_t>(bytes_[at_ / 8]) >> (7 - at_ % 8) & 1 : 0);
    }
    return value;
  }
  void skip(size_t n_bits) { at_ += n_bits; }
  uint64_t exp_golomb() {  // ue(v) of H.265, uvlc() of AV1
    unsigned n_zeros = 0;
    while (n_zeros < 32 && ok() && u(1) == 0) ++n_zeros;
    return (uint64_t{1} << n_zeros) - 1 + u(n_zeros);
  }

 private:
  Bytes bytes_;
  size_t at_ = 0;
};

class Scan {
 public:
  Scan(const char* format, const ImageLimits& limits) : format_(format), limits_(limits) {}

  Result<HeifSizes> run(Bytes file) {
    file_ = file;
    Box box;
    for (Cursor in(file); next_box(in, box);) {
      if (box.type == type_of("meta")) GLIMPSE_TRY(scan_meta(box.body));
    }
    if (sizes_.n_pixels == 0) return make_error(ErrorCode::kCorrupt, "%s: there is no picture in the file", format_);
    return sizes_;
  }

 private:
  Status declare(uint64_t width, uint64_t height) {
    constexpr uint64_t kMost = uint64_t{1} << 40;
    GLIMPSE_TRY(check_size(format_, static_cast<int64_t>(std::min(width, kMost)),
                           static_cast<int64_t>(std::min(height, kMost)), limits_));
    sizes_.n_pixels = std::max(sizes_.n_pixels, width * height);
    return {};
  }
  void declare_samples(uint64_t bits, uint64_t half_planes) {
    if (bits > 8) sizes_.sample_bytes = 2;
    sizes_.half_planes = std::max(sizes_.half_planes, half_planes);
  }

  Error truncated() const { return make_error(ErrorCode::kTruncated, "%s: a picture ends too early", format_); }

  Status scan_meta(Bytes body) {
    Cursor in(body);
    in.u(4);  // version, flags
    std::map<uint64_t, uint64_t> types;
    Bytes iloc, idat;
    for (Box box; next_box(in, box);) {
      if (box.type == type_of("iinf")) read_types(box.body, types);
      if (box.type == type_of("iprp")) GLIMPSE_TRY(scan_properties(box.body));
      if (box.type == type_of("iloc")) iloc = box.body;
      if (box.type == type_of("idat")) idat = box.body;
    }
    for (const auto& [id, type] : types) {
      for (const char* other : {"jpeg", "j2k1", "j2ki", "unci", "vvc1", "avc1", "evc1", "mski", "tili"}) {
        if (type == named(other)) {
          return make_error(ErrorCode::kUnsupported, "%s: pictures coded as '%s' are not read", format_, other);
        }
      }
    }
    return scan_items(iloc, idat, types);
  }

  static uint64_t named(const char* name) {
    uint64_t type = 0;
    for (int i = 0; i < 4; ++i) type = type << 8 | static_cast<uint8_t>(name[i]);
    return type;
  }

  static void read_types(Bytes body, std::map<uint64_t, uint64_t>& types) {
    Cursor in(body);
    const uint64_t version = in.u(4) >> 24;
    in.u(version == 0 ? 2 : 4);  // how many
    for (Box box; next_box(in, box);) {
      Cursor entry(box.body);
      const uint64_t entry_version = entry.u(4) >> 24;
      const uint64_t id = entry.u(entry_version == 2 ? 2 : 4);
      entry.u(2);  // protection
      const uint64_t type = entry.u(4);
      if (entry.ok() && entry_version >= 2) types[id] = type;
    }
  }

  Status scan_properties(Bytes body) {
    Box container;
    for (Cursor in(body); next_box(in, container);) {
      if (container.type != type_of("ipco")) continue;
      Box box;
      for (Cursor properties(container.body); next_box(properties, box);) {
        Cursor value(box.body);
        if (box.type == type_of("ispe")) {
          value.u(4);
          const uint64_t width = value.u(4), height = value.u(4);
          if (value.ok()) GLIMPSE_TRY(declare(width, height));
        } else if (box.type == type_of("hvcC")) {
          GLIMPSE_TRY(scan_hevc_configuration(value));
        } else if (box.type == type_of("av1C")) {
          value.u(4);
          GLIMPSE_TRY(scan_obus(value.rest()));
        }
      }
    }
    return {};
  }

  // The bytes of every item, put together from its extents.
  Status scan_items(Bytes iloc, Bytes idat, const std::map<uint64_t, uint64_t>& types) {
    Cursor in(iloc);
    const uint64_t version = in.u(4) >> 24, sizes = in.u(2);
    const size_t offset_size = sizes >> 12, length_size = sizes >> 8 & 15, base_size = sizes >> 4 & 15;
    const size_t index_size = version >= 1 ? sizes & 15 : 0;
    const uint64_t n_items = in.u(version < 2 ? 2 : 4);
    for (uint64_t i = 0; i < n_items && in.ok(); ++i) {
      const uint64_t id = in.u(version < 2 ? 2 : 4), method = version >= 1 ? in.u(2) & 15 : 0;
      in.u(2);  // data reference
      const uint64_t base = in.u(base_size), n_extents = in.u(2);
      const Bytes source = method == 1 ? idat : file_;
      std::vector<std::byte> data;
      for (uint64_t e = 0; e < n_extents && in.ok(); ++e) {
        in.u(index_size);
        const uint64_t offset = in.u(offset_size);
        uint64_t length = in.u(length_size);
        if (offset > source.size() || base > source.size() - offset) return truncated();
        const Bytes rest = source.subspan(static_cast<size_t>(base + offset));
        if (length == 0) length = rest.size();
        if (length > rest.size()) return truncated();
        data.insert(data.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(length));
        if (data.size() > file_.size())
          return make_error(ErrorCode::kCorrupt, "%s: an item larger than the file", format_);
      }
      const auto type = types.find(id);
      if (type != types.end()) GLIMPSE_TRY(scan_item(type->second, data));
    }
    return {};
  }

  Status scan_item(uint64_t type, Bytes data) {
    if (type == type_of("hvc1") || type == type_of("hev1")) {
      for (Cursor in(data); !in.rest().empty();) {
        const Bytes nal = in.take(in.u(4));
        if (!in.ok()) return truncated();
        GLIMPSE_TRY(scan_nal(nal));
      }
    } else if (type == type_of("av01")) {
      return scan_obus(data);
    } else if (type == type_of("grid") || type == type_of("iovl")) {
      Cursor in(data);
      const uint64_t head = in.u(2), side = (head & 1) != 0 ? 4 : 2;
      in.u(type == type_of("grid") ? 2 : 8);  // rows and columns; the colour around
      const uint64_t width = in.u(side), height = in.u(side);
      if (!in.ok()) return truncated();
      return declare(width, height);
    }
    return {};
  }

  Status scan_hevc_configuration(Cursor in) {
    in.take(22);
    const uint64_t n_arrays = in.u(1);
    for (uint64_t a = 0; a < n_arrays; ++a) {
      in.u(1);
      const uint64_t n_nals = in.u(2);
      for (uint64_t n = 0; n < n_nals && in.ok(); ++n) {
        const Bytes nal = in.take(in.u(2));
        if (in.ok()) GLIMPSE_TRY(scan_nal(nal));
      }
    }
    return {};
  }

  Status scan_nal(Bytes nal) {
    constexpr unsigned kSequenceParameters = 33;
    if (nal.size() < 2 || (std::to_integer<unsigned>(nal[0]) >> 1 & 63) != kSequenceParameters) return {};
    std::vector<std::byte> plain;  // without emulation prevention: 0 0 3 stands for 0 0
    for (const std::byte b : nal.subspan(2, std::min<size_t>(nal.size() - 2, 4096))) {
      const size_t n = plain.size();
      const bool guard =
          b == std::byte{3} && n >= 2 && plain[n - 1] == std::byte{0} && plain[n - 2] == std::byte{0} && !guarded_;
      guarded_ = guard;
      if (!guard) plain.push_back(b);
    }
    guarded_ = false;
    Bits in(plain);
    in.skip(4);
    const uint64_t n_more_layers = in.u(3);
    in.skip(1 + 88 + 8);
    skip_layers(in, n_more_layers);
    in.exp_golomb();  // its number
    const uint64_t chroma = in.exp_golomb();
    if (chroma == 3) in.skip(1);
    const uint64_t width = in.exp_golomb(), height = in.exp_golomb();
    if (in.u(1) == 1) {
      for (int side = 0; side < 4; ++side) in.exp_golomb();  // the conformance window
    }
    const uint64_t luma_bits = 8 + in.exp_golomb(), chroma_bits = 8 + in.exp_golomb();
    if (!in.ok()) return truncated();
    declare_samples(std::max(luma_bits, chroma_bits), chroma == 3 ? 6 : chroma == 2 ? 4 : 3);
    return declare(width, height);
  }

  // The rest of profile_tier_level(), after the general part.
  static void skip_layers(Bits& in, uint64_t n) {
    uint64_t present[8] = {};
    for (uint64_t i = 0; i < n; ++i) present[i] = in.u(2);
    if (n > 0) in.skip(2 * (8 - n));
    for (uint64_t i = 0; i < n; ++i) in.skip((present[i] & 2) * 44 + (present[i] & 1) * 8);
  }

  Status scan_obus(Bytes data) {
    constexpr uint64_t kSequenceHeader = 1;
    for (Cursor in(data); !in.rest().empty();) {
      const uint64_t head = in.u(1);
      if ((head & 4) != 0) in.u(1);
      uint64_t size = in.rest().size();
      if ((head & 2) != 0) {
        size = 0;
        for (unsigned shift = 0; shift < 56; shift += 7) {  // leb128
          const uint64_t byte = in.u(1);
          size |= (byte & 127) << shift;
          if ((byte & 128) == 0) break;
        }
      }
      const Bytes obu = in.take(size);
      if (!in.ok()) return truncated();
      const uint64_t type = head >> 3 & 15;
      if (type == 0 || (type > 8 && type < 15)) {  // decoders print that they do not know it
        return make_error(ErrorCode::kCorrupt, "%s: a unit of the reserved type %d", format_, type);
      }
      if (type == kSequenceHeader) GLIMPSE_TRY(scan_sequence_header(obu));
    }
    return {};
  }

  Status scan_sequence_header(Bytes obu) {
    sizes_.has_av1 = true;
    Bits in(obu);
    const uint64_t profile = in.u(3);
    in.skip(1);  // still picture
    const bool reduced = in.u(1) == 1;
    if (reduced) {
      in.skip(5);
    } else {
      skip_operating_points(in);
    }
    const auto width_bits = static_cast<unsigned>(in.u(4) + 1), height_bits = static_cast<unsigned>(in.u(4) + 1);
    uint64_t width = in.u(width_bits) + 1, height = in.u(height_bits) + 1;
    if (!reduced) {  // a frame may have a size of its own, of so many bits
      width = uint64_t{1} << width_bits;
      height = uint64_t{1} << height_bits;
      if (in.u(1) == 1) in.skip(7);
    }
    in.skip(3);
    if (!reduced) skip_tools(in);
    in.skip(3);
    const bool high = in.u(1) == 1;
    if (!in.ok()) return truncated();
    declare_samples(high ? 10 : 8, profile == 0 ? 3 : 6);
    return declare(width, height);
  }

  static void skip_operating_points(Bits& in) {
    bool has_model = false;
    uint64_t delay_bits = 0;
    if (in.u(1) == 1) {  // timing
      in.skip(64);
      if (in.u(1) == 1) in.exp_golomb();
      has_model = in.u(1) == 1;
      if (has_model) {
        delay_bits = in.u(5) + 1;
        in.skip(32 + 5 + 5);
      }
    }
    const bool has_display_delay = in.u(1) == 1;
    const uint64_t n_more = in.u(5);
    for (uint64_t i = 0; i <= n_more; ++i) {
      in.skip(12);
      if (in.u(5) > 7) in.skip(1);
      if (has_model && in.u(1) == 1) in.skip(2 * delay_bits + 1);
      if (has_display_delay && in.u(1) == 1) in.skip(4);
    }
  }

  static void skip_tools(Bits& in) {
    in.skip(4);
    const bool order_hints = in.u(1) == 1;
    if (order_hints) in.skip(2);
    const uint64_t screen = in.u(1) == 1 ? 2 : in.u(1);
    if (screen > 0 && in.u(1) == 0) in.skip(1);
    if (order_hints) in.skip(3);
  }

  const char* const format_;
  const ImageLimits& limits_;
  Bytes file_;
  HeifSizes sizes_;
  bool guarded_ = false;
};

}  // namespace

Result<HeifSizes> scan_heif(const char* format, std::span<const std::byte> bytes, const ImageLimits& limits) {
  return Scan(format, limits).run(bytes);
}

}  // namespace glimpse
