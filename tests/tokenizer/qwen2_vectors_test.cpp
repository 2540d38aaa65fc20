// The public test vectors of Qwen2's own vocabulary (llama.cpp, models/ggml-vocab-qwen2.gguf.{inp,out}), with the part
// of it that they need (data/make_qwen2_slice.py). The whole is too large to be kept here: qwen2-vocab.gguf in
// shared/data beside the repository, or in the folder that GLIMPSE_SHARED_DATA names.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

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

/// The 47 public cases and some more.
void expect_cases(const Tokenizer& tokenizer) {
  const auto encode = [&](const std::string& text, bool nfc) {
    auto ids = tokenizer.encode(text, {.parse_special = false, .normalize_nfc = nfc});
    return ids.ok() ? std::move(ids).value() : std::vector<TokenId>{-1};
  };
  int n_cases = 0;
  for (const std::string& line : test::split_lines(test::read_data("qwen2_cases.txt"))) {
    const size_t first = line.find('\t'), last = line.rfind('\t');
    const std::string text = test::unescape(std::string_view(line).substr(first + 1, last - first - 1));
    const std::vector<TokenId> ids = encode(text, false);
    EXPECT_EQ(ids, test::parse_ids(line.substr(last + 1))) << line;
    EXPECT_EQ(tokenizer.decode(ids, false), text);
    ++n_cases;
  }
  EXPECT_GE(n_cases, 47);
  EXPECT_EQ(encode("e\u0301", true), encode("\u00e9", false));
}

TEST(Qwen2Slice, CasesAgree) {
  VocabularyData data;
  for (const std::string& line : test::split_lines(test::read_data("qwen2_slice.vocab"))) {
    const std::string_view rest = std::string_view(line).substr(2);
    if (line[0] == 'M') data.merges.emplace_back(rest);
    if (line[0] == 'N') {
      data.tokens.resize(std::stoul(std::string(rest)));
      data.token_types.resize(data.tokens.size(), static_cast<int32_t>(TokenType::kUnused));
    }
    if (line[0] != 'T') continue;
    std::istringstream words{std::string(rest)};
    size_t id = 0;
    int32_t type = 0;
    words >> id >> type;
    ASSERT_LT(id, data.tokens.size());
    words >> data.tokens[id];
    data.token_types[id] = type;
  }
  const auto tokenizer = Tokenizer::create(data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer.value().size(), 151936);
  expect_cases(tokenizer.value());
}

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

TEST_F(Qwen2Vectors, CasesAgree) {
  expect_cases(*tokenizer_);
}

TEST_F(Qwen2Vectors, FillersAreNotMatched) {
  EXPECT_GT(encode("[PAD151700]").size(), 1u);
  EXPECT_EQ(tokenizer_->size(), 151936);
}

class Qwen2Timing : public Qwen2Vectors {};

// With much room for sanitizers.
TEST_F(Qwen2Timing, IsCreatedQuickly) {
  EXPECT_LT(seconds_, 5.0);
}

TEST_F(Qwen2Vectors, TakesAMegabyteWithoutSpaces) {
  std::string text(1 << 20, ' ');
  std::mt19937 random(1);
  for (char& c : text) c = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[random() % 52];
  EXPECT_EQ(tokenizer_->decode(encode(text), false), text);
}

}  // namespace
}  // namespace glimpse
