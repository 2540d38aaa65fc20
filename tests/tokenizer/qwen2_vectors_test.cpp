// The public test vectors of Qwen2's own vocabulary (llama.cpp, models/ggml-vocab-qwen2.gguf.{inp,out}). They are too
// large to be kept here: shared/data beside the repository, or the folder that GLIMPSE_SHARED_DATA names.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/chat.h"

namespace glimpse {
namespace {

std::filesystem::path folder() {
  const char* const named = std::getenv("GLIMPSE_SHARED_DATA");
  return named ? std::filesystem::path(named) : std::filesystem::path(GLIMPSE_SOURCE_DIR) / "../shared/data";
}

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// Just enough of GGUF version 3 for the metadata of one trusted file.
class Metadata {
 public:
  explicit Metadata(const std::string& file) : file_(file) {
    at_ = 16;  // magic, version, tensor count
    for (auto n = take<uint64_t>(); n > 0; --n) {
      const std::string key = text();
      value(take<uint32_t>(), key);
    }
  }
  VocabularyData vocabulary;

 private:
  template <typename T>
  T take() {
    T v;
    std::memcpy(&v, file_.data() + at_, sizeof v);
    at_ += sizeof v;
    return v;
  }
  std::string text() {
    const auto n = take<uint64_t>();
    at_ += n;
    return file_.substr(at_ - n, n);
  }
  void value(uint32_t type, const std::string& key) {
    constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
      const std::string v = text();
      if (key == "tokenizer.ggml.tokens") vocabulary.tokens.push_back(v);
      if (key == "tokenizer.ggml.merges") vocabulary.merges.push_back(v);
      if (key == "tokenizer.ggml.model") vocabulary.model = v;
      if (key == "tokenizer.ggml.pre") vocabulary.pre = v;
    } else if (type == 9) {
      const auto element = take<uint32_t>();
      for (auto n = take<uint64_t>(); n > 0; --n) value(element, key);
    } else {
      if (key == "tokenizer.ggml.token_type") {
        int32_t v;
        std::memcpy(&v, file_.data() + at_, sizeof v);
        vocabulary.token_types.push_back(v);
      }
      if (key == "tokenizer.ggml.eos_token_id") {
        std::memcpy(&vocabulary.eos, file_.data() + at_, sizeof vocabulary.eos);
      }
      at_ += kSizes[type];
    }
  }

  const std::string& file_;
  size_t at_ = 0;
};

class Qwen2Vectors : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string file = read(folder() / "qwen2-vocab.gguf");
    if (file.empty()) return;
    const Metadata metadata(file);
    const auto start = std::chrono::steady_clock::now();
    auto created = Tokenizer::create(metadata.vocabulary);
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ASSERT_TRUE(created.ok()) << created.error().message;
    tokenizer_.emplace(std::move(created).value());
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }
  void SetUp() override {
    if (!tokenizer_) GTEST_SKIP() << (folder() / "qwen2-vocab.gguf") << " is not there";
  }
  static std::vector<TokenId> encode(std::string_view text, bool nfc = false) {
    auto ids = tokenizer_->encode(text, {.parse_special = false, .normalize_nfc = nfc});
    return ids.ok() ? std::move(ids).value() : std::vector<TokenId>{-1};
  }

  static std::optional<Tokenizer> tokenizer_;
  static double seconds_;
};

std::optional<Tokenizer> Qwen2Vectors::tokenizer_;
double Qwen2Vectors::seconds_ = 0;

TEST_F(Qwen2Vectors, All47Agree) {
  const std::string input = read(folder() / "qwen2-tokenizer-cases.inp");
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  for (size_t begin = 0; begin <= input.size();) {
    const size_t end = std::min(input.find(separator, begin), input.size());
    texts.push_back(input.substr(begin, end - begin));
    begin = end + separator.size();
  }
  const std::string output = read(folder() / "qwen2-tokenizer-cases.out");
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= output.size();) {
    const size_t end = std::min(output.find('\n', begin), output.size());
    lines.push_back(output.substr(begin, end - begin));
    begin = end + 1;
  }
  ASSERT_EQ(texts.size(), 47u);
  ASSERT_GE(lines.size(), 47u);
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(encode(texts[i]), test::parse_ids(lines[i])) << "case " << i << ": " << testing::PrintToString(texts[i]);
    EXPECT_EQ(tokenizer_->decode(encode(texts[i]), false), texts[i]);
  }
}

TEST_F(Qwen2Vectors, KnownTexts) {
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(encode("Hello world"), (Ids{9707, 1879}));
  EXPECT_EQ(encode("system\nYou are a helpful assistant."), (Ids{8948, 198, 2610, 525, 264, 10950, 17847, 13}));
  EXPECT_EQ(encode("(123,456)"), (Ids{7, 16, 17, 18, 11, 19, 20, 21, 8}));
  EXPECT_EQ(encode("I'll 'RE 2024 x=1;\n\n  y"),
            (Ids{40, 3278, 364, 787, 220, 17, 15, 17, 19, 856, 28, 16, 401, 220, 379}));
  EXPECT_EQ(encode("\u00dcn\u00efc\u00f6d\u00e9 \u00e9"), (Ids{52491, 77, 37572, 66, 2956, 128505, 3958}));
  EXPECT_EQ(encode("e\u0301"), (Ids{68, 53839}));
  EXPECT_EQ(encode("e\u0301", true), encode("\u00e9"));
}

TEST_F(Qwen2Vectors, FillersAreNotMatched) {
  EXPECT_GT(encode("[PAD151700]").size(), 1u);
  EXPECT_EQ(tokenizer_->size(), 151936);
}

// A bound with much room: this machine may be busy or instrumented.
TEST_F(Qwen2Vectors, IsCreatedQuickly) {
  EXPECT_LT(seconds_, 5.0);
}

TEST_F(Qwen2Vectors, TakesAMegabyteWithoutSpaces) {
  std::string text(1 << 20, ' ');
  std::mt19937 random(1);
  for (char& c : text) c = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[random() % 52];
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(tokenizer_->decode(encode(text), false), text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace glimpse
