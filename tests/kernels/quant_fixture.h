// Reads the sections of tests/kernels/data/quant/*.bin (format: make_quant_fixtures.py).
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace glimpse {

using QuantSections = std::map<std::string, std::vector<std::byte>>;

/// Empty (with a test failure) when the file is missing or damaged.
inline QuantSections read_quant_sections(const std::string& name) {
  std::ifstream file(std::string(GLIMPSE_TEST_DIR) + "/kernels/data/quant/" + name, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  QuantSections sections;
  constexpr size_t kNameBytes = 32;
  size_t at = 0;
  while (at + kNameBytes + 4 <= bytes.size()) {
    const std::string section(bytes.data() + at, strnlen(bytes.data() + at, kNameBytes));
    uint32_t size;
    std::memcpy(&size, bytes.data() + at + kNameBytes, 4);
    at += kNameBytes + 4;
    if (size > bytes.size() - at) break;
    const auto* content = reinterpret_cast<const std::byte*>(bytes.data()) + at;
    sections[section].assign(content, content + size);
    at += size;
  }
  EXPECT_TRUE(!sections.empty() && at == bytes.size()) << name << " is missing or damaged at byte " << at;
  return sections;
}

/// The section as floats.
inline std::vector<float> floats_of(const std::vector<std::byte>& bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

}  // namespace glimpse
