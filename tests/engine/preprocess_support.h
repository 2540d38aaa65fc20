// Pictures made from integers, the same as in tests/engine/data/preprocess/make_fixtures.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "engine/base/cpu_features.h"
#include "engine/preprocess/resize.h"
#include "loaders/image/image.h"

namespace glimpse::preprocess_test {

inline std::filesystem::path fixture_folder() {
  return std::filesystem::path(GLIMPSE_TEST_DIR) / "engine/data/preprocess";
}

/// The levels that have kernels of their own, as far as this CPU runs them.
inline std::vector<Isa> resize_isas() {
  std::vector<Isa> isas;
  for (const ResizeKernels& kernels : resize_kernels()) {
    if (detect_isa().has(kernels.isa)) isas.push_back(kernels.isa);
  }
  return isas;
}

/// FNV-1a, 64 bits.
inline uint64_t fnv1a64(std::span<const uint8_t> data) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (uint8_t byte : data) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

/// A counter-based generator.
inline uint32_t hash32(uint32_t n) {
  n *= 2654435761u;
  n ^= n >> 15;
  n *= 2246822519u;
  n ^= n >> 13;
  n *= 3266489917u;
  return n ^ n >> 16;
}

/// kind: "noise", "ramp", "extremes" (0 or 255) or "photo" (waves and a little noise).
inline Image pattern(const std::string& kind, uint32_t seed, int width, int height) {
  Image image{width, height, {}};
  image.pixels.reserve(static_cast<size_t>(width) * height * 3);
  const auto wave = [](uint32_t t) { return t & 128 ? 255 - (t * 2 & 255) : t * 2 & 255; };
  uint32_t index = 0;
  for (uint32_t y = 0; y < static_cast<uint32_t>(height); ++y) {
    for (uint32_t x = 0; x < static_cast<uint32_t>(width); ++x) {
      for (uint32_t c = 0; c < 3; ++c, ++index) {
        const uint32_t noise = hash32(index + seed * 1000003u) >> 24;
        uint32_t value = noise;
        if (kind == "ramp") value = x * 5 + y * 3 + c * 85;
        if (kind == "extremes") value = (noise & 1) * 255;
        if (kind == "photo") {
          value = (wave((x * 3 + y + c * 40) & 255) * 3 + wave((y * 2 + c * 90) & 255) * 4 + noise) >> 3;
        }
        image.pixels.push_back(static_cast<uint8_t>(value));
      }
    }
  }
  return image;
}

}  // namespace glimpse::preprocess_test
