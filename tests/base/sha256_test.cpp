#include "engine/base/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace glimpse {
namespace {

std::string hex_of(const std::string& text, size_t piece) {
  Sha256 hash;
  const auto bytes = std::as_bytes(std::span(text));
  for (size_t at = 0; at < bytes.size(); at += piece) hash.add(bytes.subspan(at, std::min(piece, bytes.size() - at)));
  return to_hex(hash.digest());
}

// FIPS 180-4's examples, and what Python's hashlib says of the others.
TEST(Sha256, GivesThePublishedDigestsHoweverTheBytesAreCut) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(55, 'a'), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
      {std::string(64, 'a'), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
      {std::string(1000, 'a'), "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"},
  };
  for (const auto& [text, digest] : cases) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{64}, size_t{4096}}) EXPECT_EQ(hex_of(text, piece), digest);
  }
}

TEST(Sha256, AWordIsItsEightBytes) {
  Sha256 word, bytes;
  word.add(uint64_t{0x0807060504030201});
  const std::string text = "\x01\x02\x03\x04\x05\x06\x07\x08";
  bytes.add(std::as_bytes(std::span(text)));
  EXPECT_EQ(word.digest(), bytes.digest());
}

}  // namespace
}  // namespace glimpse
