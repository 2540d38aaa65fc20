// A fast 64-bit hash of bytes, to tell whether two things are the same by accident. Not cryptographic: whoever chooses
// the bytes can choose a collision.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace glimpse {

/// Eats bytes in any number of pieces; how they were cut is part of the hash. The value never changes between versions
/// of glimpse: it is written into files.
class Hash64 {
 public:
  void add(uint64_t word) {
    // Multiply and fold (the finaliser of MurmurHash3 has the same two steps): every input bit reaches every output bit
    // within two words.
    state_ = (state_ ^ word) * 0xff51afd7ed558ccdu;
    state_ ^= state_ >> 32;
  }
  void add(std::span<const std::byte> bytes) {
    add(static_cast<uint64_t>(bytes.size()));
    uint64_t word;
    for (; bytes.size() >= sizeof word; bytes = bytes.subspan(sizeof word)) {
      std::memcpy(&word, bytes.data(), sizeof word);
      add(word);
    }
    word = 0;
    if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
    add(word);
  }
  uint64_t value() const { return state_ ^ (state_ * 0xc4ceb9fe1a85ec53u) >> 29; }

 private:
  uint64_t state_ = 0x9e3779b97f4a7c15u;
};

/// Of megabytes at a time, at the speed of memory: four hashes side by side over every fourth word, then one of the
/// four and of what is left. The value never changes between versions of glimpse either.
inline uint64_t hash_block(std::span<const std::byte> bytes) {
  constexpr size_t kLanes = 4;
  Hash64 lanes[kLanes], all;
  uint64_t words[kLanes];
  size_t at = 0;
  for (; bytes.size() - at >= sizeof words; at += sizeof words) {
    std::memcpy(words, bytes.data() + at, sizeof words);
    for (size_t i = 0; i < kLanes; ++i) lanes[i].add(words[i]);
  }
  for (const Hash64& lane : lanes) all.add(lane.value());
  all.add(bytes.subspan(at));
  return all.value();
}

}  // namespace glimpse
