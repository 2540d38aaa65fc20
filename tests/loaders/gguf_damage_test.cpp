// Truncated, damaged, hostile and huge files.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_check.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;

// Parses an exact-size copy on the heap, so that a sanitizer sees the first byte past the end.
bool survives(const std::string& bytes, uint64_t& sum) {
  const std::vector<char> copy(bytes.begin(), bytes.end());
  const auto file = GgufFile::parse(std::as_bytes(std::span(copy)), "damaged");
  if (!file.ok()) return false;
  sum += touch(file.value()) + check_gguf(file.value()).size();
  const auto findings = check_gguf_data(file.value());
  return findings.ok();
}

TEST(GgufDamage, TruncationAtEveryByteIsAnError) {
  const std::string bytes = sample().build();
  for (size_t n = 0; n < bytes.size(); ++n) {
    const std::vector<char> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    const auto file = GgufFile::parse(std::as_bytes(std::span(part)), "test.gguf");
    ASSERT_FALSE(file.ok()) << n << " of " << bytes.size() << " bytes";
    if (n == 0) continue;  // "it is empty"
    EXPECT_EQ(file.error().code, ErrorCode::kTruncated) << n << ": " << file.error().message;
    EXPECT_NE(file.error().message.find("download it again"), std::string::npos) << file.error().message;
  }
}

TEST(GgufDamage, FlippedBitsNeverCrash) {
  const std::string bytes = sample().build();
  uint64_t sum = 0;
  size_t accepted = 0, refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (unsigned flip : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 255u}) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(static_cast<unsigned char>(damaged[i]) ^ flip);
      (survives(damaged, sum) ? accepted : refused) += 1;
    }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_GT(refused, 0u);
  EXPECT_GT(sum, 0u);
}

TEST(GgufDamage, EveryFieldSurvivesExtremeNumbers) {
  const std::string bytes = sample().build();
  uint64_t sum = 0;
  size_t refused = 0;
  for (size_t i = 4; i + 8 <= bytes.size(); ++i) {
    for (uint64_t extreme : {uint64_t{0}, UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{1} << 30,
                             uint64_t{UINT32_MAX}, uint64_t{INT64_MAX}}) {
      std::string damaged = bytes;
      damaged.replace(i, 8, le(extreme));
      refused += !survives(damaged, sum);
    }
  }
  EXPECT_GT(refused, 0u);
}

class GgufDamagedFile : public GgufFolderTest {};

TEST_F(GgufDamagedFile, ErrorsNameThePath) {
  const std::string bytes = sample().build();
  const std::string cut = save("cut.gguf", bytes.substr(0, bytes.size() - 1));
  EXPECT_TRUE(fails(GgufFile::open(cut), ErrorCode::kTruncated, cut));
  const std::string page = save("page.gguf", "<html>");
  EXPECT_TRUE(fails(GgufFile::open(page), ErrorCode::kCorrupt, page));
  EXPECT_TRUE(fails(GgufFile::open(path("none.gguf")), ErrorCode::kNotFound, "none.gguf"));
  EXPECT_TRUE(fails(GgufFile::open(folder_), ErrorCode::kInvalidArgument, "directory"));
}

TEST_F(GgufDamagedFile, FilesAndMemoryAgree) {
  const std::string bytes = sample().build();
  const auto from_file = GgufFile::open(save("good.gguf", bytes));
  const auto from_memory = parse(bytes);
  ASSERT_TRUE(from_file.ok() && from_memory.ok());
  EXPECT_EQ(touch(from_file.value()), touch(from_memory.value()));
}

// Larger than the read buffer: strings and arrays that lie across its end.
TEST_F(GgufDamagedFile, ValuesCrossTheReadBuffer) {
  GgufBuilder b;
  std::string strings, numbers;
  constexpr uint64_t kCount = 100'000;
  for (uint64_t i = 0; i < kCount; ++i) {
    strings += str("token " + std::to_string(i));
    numbers += le(static_cast<uint16_t>(i));
  }
  b.array("strings", GgufType::kString, kCount, strings).array("numbers", GgufType::kUint16, kCount, numbers);
  b.text("long", std::string(700'001, 'y')).tensor("t", {8}, DType::kF32, std::string(32, 'z'));
  const auto file = GgufFile::open(save("large.gguf", b.build()));
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto* texts = file->string_array("strings");
  ASSERT_NE(texts, nullptr);
  const auto values = file->int_array("numbers");
  ASSERT_TRUE(values.ok());
  for (uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ((*texts)[i], "token " + std::to_string(i));
    ASSERT_EQ(values.value()[i], static_cast<int64_t>(i % 65536));
  }
  EXPECT_EQ(file->require_string("long").value(), std::string(700'001, 'y'));
  char last = 0;
  ASSERT_TRUE(file->read(file->tensors()[0], 31, std::as_writable_bytes(std::span(&last, 1))).ok());
  EXPECT_EQ(last, 'z');
}

// The size of Qwen2's vocabulary: 151 936 tokens, 151 387 merges, a type per token.
class GgufTiming : public GgufDamagedFile {};
TEST_F(GgufTiming, ALargeVocabularyIsParsedQuickly) {
  GgufBuilder b;
  std::string tokens, merges, types;
  for (uint64_t i = 0; i < 151'936; ++i) tokens += str("token" + std::to_string(i * 7919 % 100'000));
  for (uint64_t i = 0; i < 151'387; ++i) merges += str("tok en" + std::to_string(i));
  for (uint64_t i = 0; i < 151'936; ++i) types += le<int32_t>(1);
  b.text("general.architecture", "qwen2").array("tokenizer.ggml.tokens", GgufType::kString, 151'936, tokens);
  b.array("tokenizer.ggml.merges", GgufType::kString, 151'387, merges);
  b.array("tokenizer.ggml.token_type", GgufType::kInt32, 151'936, types);
  const std::string name = save("vocab.gguf", b.build());
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto file = GgufFile::open(name);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    ASSERT_TRUE(file.ok()) << file.error().message;
  }
  EXPECT_LT(best, 1.5);  // about 0.02 s on an idle machine without sanitizers
  RecordProperty("seconds", std::to_string(best));
}

// A sparse file: if the reader looked at tensor data, it would read 16 GB.
TEST_F(GgufDamagedFile, TensorDataIsNotRead) {
  GgufBuilder b;
  b.info("huge", {uint64_t{1} << 32}, 0, 0);
  const std::string name = save("huge.gguf", b.build());
  std::error_code error;
  std::filesystem::resize_file(name, (uint64_t{1} << 34) + b.build().size(), error);
  if (error) GTEST_SKIP() << "no sparse file of 16 GB here: " << error.message();
#ifdef __SANITIZE_THREAD__
  const long limit_kb = 5 * 64 * 1024;  // every byte has four of shadow there
#else
  const long limit_kb = 64 * 1024;
#endif
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  const auto file = GgufFile::open(name);
  getrusage(RUSAGE_SELF, &after);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->tensors()[0].n_bytes, uint64_t{1} << 34);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, limit_kb);
  // With that much behind it, a count of 2^30 keys is plausible; it must fail on the bytes, not reserve for it.
  b.n_keys = uint64_t{1} << 30;
  write_text(folder_ / "keys.gguf", b.build());
  std::filesystem::resize_file(path("keys.gguf"), uint64_t{1} << 34);
  EXPECT_FALSE(GgufFile::open(path("keys.gguf")).ok());
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, limit_kb);
}

}  // namespace
}  // namespace glimpse
