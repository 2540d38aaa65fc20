// Words of a block or panel, which stand at any address: as the file has them, least significant byte first (x86-64's
// order).
#pragma once

#include <cstdint>
#include <cstring>

namespace glimpse {

inline uint16_t load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline uint32_t load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store16(uint8_t* p, uint32_t v) {
  const auto narrow = static_cast<uint16_t>(v);
  std::memcpy(p, &narrow, sizeof narrow);
}
inline void store32(uint8_t* p, uint32_t v) {
  std::memcpy(p, &v, sizeof v);
}
inline uint8_t u8(uint32_t v) {
  return static_cast<uint8_t>(v);
}

}  // namespace glimpse
