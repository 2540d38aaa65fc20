// Bad input of every kind: a message that says what is wrong, exit status 1, nothing on standard output, at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "loaders/gguf/gguf.h"
#include "tests/cli/process.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse::cli_test {
namespace {

using gguf_test::le;
using testing::HasSubstr;

// Processor time that a refusal may take: a second, and more where a sanitizer watches.
constexpr double kAtOnce = GLIMPSE_SANITIZED ? 10 : 1;
// Resident memory that a picture may take which is not there; a sanitizer's own is unbounded.
constexpr long kLittleKib = GLIMPSE_SANITIZED ? 64 << 20 : 300 << 10;

void expect_refused(const RunResult& result, const std::vector<std::string>& words, const std::string& what) {
  SCOPED_TRACE(what + "\nstderr: " + result.err);
  EXPECT_EQ(result.signal, 0);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_LT(result.cpu_seconds, kAtOnce);
  EXPECT_EQ(result.err.rfind("glimpse: ", 0), 0u);
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << "want one line";
  for (const std::string& word : words) EXPECT_THAT(result.err, HasSubstr(word));
}

RunResult ask(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"run", "-t", "1", "-n", "4", "-p", "what is this picture"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_glimpse(arguments);
}

const std::string& text_bytes() {
  static const std::string bytes = read_all(golden("tied/model.gguf"));
  return bytes;
}

template <typename T>
std::string patched(std::string bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  return bytes;
}

// Where the record of a tensor says its type: name, u32 n_dims, u64 dims.
size_t type_offset(const std::string& bytes, const std::string& name) {
  const size_t at = bytes.find(le<uint64_t>(name.size()) + name) + 8 + name.size();
  uint32_t n_dims = 0;
  std::memcpy(&n_dims, bytes.data() + at, sizeof n_dims);
  return at + 4 + 8 * n_dims;
}

uint64_t data_offset(const std::string& path, const std::string& tensor) {
  const Result<GgufFile> file = GgufFile::open(path);
  return file.ok() && file->find_tensor(tensor) != nullptr ? file->find_tensor(tensor)->file_offset : 0;
}

struct BrokenFile {
  std::string name, path;
  std::vector<std::string> words;  // besides the path
};

std::vector<BrokenFile> broken_files(const ScratchDir& dir) {
  const std::string& good = text_bytes();
  const auto count_at = [&](size_t offset, uint64_t value) { return patched(good, offset, value); };
  return {
      {"missing", dir.file("missing.gguf"), {"No such file"}},
      {"directory", dir.path(), {"directory"}},
      {"empty", dir.write("empty.gguf", ""), {}},
      {"text", dir.write("text.gguf", "this is a letter, not a model\n"), {"GGUF"}},
      {"4 bytes", dir.write("magic.gguf", "GGUF"), {}},
      {"header alone", dir.write("header.gguf", good.substr(0, 24)), {}},
      {"truncated metadata", dir.write("metadata.gguf", good.substr(0, 400)), {}},
      {"truncated data", dir.write("half.gguf", good.substr(0, good.size() / 2)), {}},
      {"last byte missing", dir.write("almost.gguf", good.substr(0, good.size() - 1)), {}},
      {"big-endian", GLIMPSE_TEST_DIR "/loaders/gguf_fixtures/big_endian.gguf", {"endian"}},
      {"swapped version", dir.write("swapped.gguf", patched(good, 4, uint32_t{0x03000000})), {"endian"}},
      {"version 77", dir.write("version.gguf", patched(good, 4, uint32_t{77})), {"77"}},
      {"2^60 tensors", dir.write("tensors.gguf", count_at(8, uint64_t{1} << 60)), {"tensors"}},
      {"2^60 keys", dir.write("keys.gguf", count_at(16, uint64_t{1} << 60)), {"keys"}},
      {"4 billion tensors", dir.write("billions.gguf", count_at(8, 0xFFFFFFFF)), {}},
      {"unknown type",
       dir.write("type.gguf", patched(good, type_offset(good, "blk.0.attn_q.weight"), uint32_t{99})),
       {"blk.0.attn_q.weight", "99"}},
      {"offset past the end",
       dir.write("offset.gguf", patched(good, type_offset(good, "blk.0.attn_q.weight") + 4, uint64_t{1} << 40)),
       {"blk.0.attn_q.weight"}},
      {"dimension of 2^62",
       dir.write("dims.gguf", patched(good, type_offset(good, "blk.0.attn_q.weight") - 8, uint64_t{1} << 62)),
       {"blk.0.attn_q.weight"}},
  };
}

TEST(BadInput, BrokenModelFiles) {
  const ScratchDir dir;
  for (const BrokenFile& broken : broken_files(dir)) {
    auto words = broken.words;
    words.push_back(broken.path);
    expect_refused(ask({"-m", broken.path}), words, "run -m: " + broken.name);
    expect_refused(ask({"-m", golden("tied/model.gguf"), "--mmproj", broken.path}), words, "--mmproj: " + broken.name);
    expect_refused(run_glimpse({"inspect", broken.path}), words, "inspect: " + broken.name);
  }
}

TEST(BadInput, FlippedBitsNeverCrash) {
  const ScratchDir dir;
  std::mt19937 random(1);
  size_t n_refused = 0;
  for (int i = 0; i < 60; ++i) {
    std::string bytes = text_bytes();
    // Most of the damage goes where it can do harm: header, keys, tensor records.
    const size_t limit = i % 4 == 3 ? bytes.size() : 9000;
    for (int flips = 0; flips < 1 + i % 3; ++flips) bytes[random() % limit] ^= static_cast<char>(1 << random() % 8);
    const RunResult result = ask({"-m", dir.write("flipped.gguf", bytes)});
    EXPECT_EQ(result.signal, 0) << "damage " << i << ": " << result.err;
    EXPECT_THAT(result.exit_code, testing::AnyOf(0, 1)) << "damage " << i << ": " << result.err;
    EXPECT_EQ(result.exit_code == 0, result.err.empty()) << "damage " << i << ": " << result.err;
    n_refused += result.exit_code == 1;
  }
  EXPECT_GT(n_refused, 5u);
}

TEST(BadInput, FilesThatDoNotBelongTogether) {
  const std::string text = golden("tied/model.gguf"), vision = golden("tied/mmproj.gguf");
  expect_refused(ask({"-m", vision}), {"vision encoder", "mmproj"}, "mmproj as model");
  expect_refused(ask({"-m", text, "--mmproj", text}), {"model.gguf", "text model"}, "model as mmproj");
  expect_refused(ask({"-m", vision, "--mmproj", text}), {"vision encoder"}, "swapped");
  expect_refused(ask({"-m", text, "--mmproj", golden("untied/mmproj.gguf")}), {"80", "64", "do not belong together"},
                 "widths");
}

TEST(BadInput, UnknownArchitecture) {
  const ScratchDir dir;
  std::string bytes = text_bytes();
  const size_t at = bytes.find("qwen2vl");
  bytes.replace(at, 7, "llama99");
  expect_refused(ask({"-m", dir.write("llama.gguf", bytes)}), {"llama99", "qwen2vl"}, "llama99");
  expect_refused(ask({"-m", golden("tied/case-text.gguf")}), {"golden"}, "no model at all");
}

TEST(BadInput, WeightsThatAreNoNumbers) {
  const ScratchDir dir;
  const std::string path = golden("tied/model.gguf");
  for (const char* tensor : {"blk.1.ffn_down.weight", "blk.0.attn_norm.weight", "token_embd.weight"}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const uint64_t offset = data_offset(path, tensor);
      ASSERT_GT(offset, 0u);
      const std::string broken = dir.write("nan.gguf", patched(text_bytes(), offset, bad));
      expect_refused(ask({"-m", broken}), {tensor}, std::string("run: ") + tensor);
      const RunResult inspected = run_glimpse({"inspect", broken, "--check-data"});
      EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
      EXPECT_THAT(inspected.out, HasSubstr(std::string("warning: tensor '") + tensor + "'"));
    }
  }
}

// ---------------------------------------------------------------------------------------------------------- pictures

uint32_t crc32(const std::string& bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}
std::string big_endian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}
std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<uint32_t>(data.size())) + type + data + big_endian(crc32(type + data));
}
// An 8-bit RGB picture that says its size and has (nearly) no pixels.
std::string png(uint32_t width, uint32_t height) {
  std::string bytes = "\x89PNG\r\n\x1a\n";
  bytes += chunk("IHDR", big_endian(width) + big_endian(height) + std::string("\x08\x02\x00\x00\x00", 5));
  bytes += chunk("IDAT", std::string("\x78\x9c\x63\x00\x00\x00\x01\x00\x01", 9));
  return bytes + chunk("IEND", "");
}
std::string ppm(int width, int height) {
  return "P6\n" + std::to_string(width) + " " + std::to_string(height) + "\n255\n" +
         std::string(static_cast<size_t>(3) * static_cast<size_t>(width) * static_cast<size_t>(height), '\x40');
}

RunResult look_at(const std::string& path, std::vector<std::string> more = {}) {
  more.insert(more.end(), {"-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "--image", path});
  return ask(more);
}

TEST(BadInput, PicturesThatAreNone) {
  const ScratchDir dir;
  const std::string jpeg = read_all(GLIMPSE_TEST_DIR "/loaders/data/image/jpeg_420.jpg");
  const std::string good_png = read_all(kPicture);
  const std::pair<std::string, std::vector<std::string>> pictures[] = {
      {dir.file("missing.jpg"), {"No such file"}},
      {dir.path(), {"directory"}},
      {dir.write("empty.jpg", ""), {}},
      {dir.write("text.png", "this is not a picture"), {}},
      {dir.write("animation.gif", "GIF89a\x01\x01"), {"GIF"}},
      {dir.write("model.png", text_bytes()), {}},
      {dir.write("half.jpg", jpeg.substr(0, jpeg.size() / 2)), {}},
      {dir.write("half.png", good_png.substr(0, good_png.size() / 2)), {}},
      {dir.write("half.ppm", ppm(64, 64).substr(0, 5000)), {}},
      {dir.write("zero.png", png(0, 0)), {}},
      {dir.write("zero.ppm", "P6\n0 0\n255\n"), {}},
      {dir.write("thin.ppm", ppm(1, 201)), {"201"}},
      {dir.write("huge.png", png(65000, 65000)), {"65000"}},
      {dir.write("huge.ppm", "P6\n65000 65000\n255\n"), {"65000"}},
      {dir.write("promises.png", png(16000, 16000)), {}},
      {dir.write("promises.ppm", "P6\n16000 16000\n255\n"), {}},
  };
  for (const auto& [path, words] : pictures) {
    auto all = words;
    all.push_back(words == std::vector<std::string>{"201"} ? "1" : path);  // its aspect is wrong, not the file
    const RunResult result = look_at(path);
    expect_refused(result, all, path);
    EXPECT_LT(result.peak_kib, kLittleKib) << path << ": memory for pixels that are not there";
  }
  // Metadata that inflates to a thousand times its size: ignored or refused, never unpacked.
  const RunResult bomb = look_at(GLIMPSE_TEST_DIR "/loaders/data/image/png_text_bombs.png");
  EXPECT_EQ(bomb.signal, 0);
  EXPECT_LT(bomb.cpu_seconds, kAtOnce);
  EXPECT_LT(bomb.peak_kib, kLittleKib);
}

TEST(BadInput, PictureThatNeedsMoreThanTheContext) {
  const ScratchDir dir;
  const std::string path = dir.write("large.ppm", ppm(560, 560));  // 400 tokens
  expect_refused(look_at(path, {"-c", "128", "--image-min-tokens", "300"}), {"128", "use a context of at least"},
                 "alone");
  const std::string half = dir.write("half.ppm", ppm(280, 280));  // 100 tokens each
  std::vector<std::string> both = {"-c", "128", "--image", half};
  expect_refused(look_at(half, both), {"128", "200", "image_max_tokens"}, "together");
  expect_refused(look_at(half, {"--image-min-tokens", "50", "--image-max-tokens", "10"}), {"50", "10"}, "limits");
}

TEST(BadInput, PictureWithoutAnEncoder) {
  expect_refused(ask({"-m", golden("tied/model.gguf"), "--image", kPicture}), {"--mmproj"}, "--image without --mmproj");
}

// ------------------------------------------------------------------------------------------------------------- words

TEST(BadInput, PromptLongerThanTheContext) {
  const ScratchDir dir;
  const std::string path = dir.write("long.txt", std::string(5000, '7'));
  const RunResult result = run_glimpse({"run", "-m", golden("tied/model.gguf"), "-c", "256", "-f", path});
  expect_refused(result, {"the context holds 256", "50", "trained for 512"}, "5000 digits");  // and the template's
}

TEST(BadInput, PromptThatIsNotUtf8) {
  const std::string model = golden("tied/model.gguf");
  for (const char* bad : {"a\xff\xfe", "cut \xe2\x82", "overlong \xc0\xaf", "surrogate \xed\xa0\x80"}) {
    expect_refused(run_glimpse({"run", "-m", model, "-t", "1", "-p", bad}), {"UTF-8"}, bad);
    expect_refused(run_glimpse({"run", "-m", model, "-t", "1", "-p", "hello", "--system", bad}), {"UTF-8"}, bad);
  }
}

TEST(BadInput, PromptThatIsMissing) {
  const ScratchDir dir;
  const std::string model = golden("tied/model.gguf");
  expect_refused(run_glimpse({"run", "-m", model}), {"question"}, "none");
  expect_refused(run_glimpse({"run", "-m", model, "-p", ""}), {"question"}, "empty");
  expect_refused(run_glimpse({"run", "-m", model, "-f", dir.write("empty.txt", "")}), {"question"}, "empty file");
  expect_refused(run_glimpse({"run", "-m", model, "-f", dir.file("gone.txt")}), {"gone.txt"}, "missing file");
  expect_refused(run_glimpse({"run", "-m", model, "-f", dir.path()}), {dir.path()}, "directory");
}

TEST(BadInput, SettingsOutOfRange) {
  const std::string model = golden("tied/model.gguf");
  const std::pair<std::vector<std::string>, std::string> settings[] = {
      {{"-c", "0"}, "context"},
      {{"-c", "-5"}, "context"},
      {{"-b", "0"}, "batch"},
      {{"-t", "-1"}, "threads"},
      {{"-n", "-2"}, "max_tokens"},
      {{"--temp", "-1"}, "temperature"},
      {{"--temp", "nan"}, "temperature"},
      {{"--top-p", "1.5"}, "top_p"},
      {{"--min-p", "-0.5"}, "min_p"},
      {{"--top-k", "-3"}, "top_k"},
      {{"--repeat-penalty", "0"}, "repetition_penalty"},
      {{"--logit-bias", "abc"}, "abc"},
      {{"--logit-bias", "999999+1"}, "999999"},
      {{"--stop", ""}, "stop"},
      {{"--json", "--logprobs", "-1"}, "logprobs"},
  };
  for (const auto& [setting, word] : settings) {
    auto arguments = setting;
    arguments.insert(arguments.end(), {"-m", model});
    std::vector<std::string> all = {"run", "-p", "hello"};
    if (setting[0] != "-t") all.insert(all.end(), {"-t", "1"});
    all.insert(all.end(), arguments.begin(), arguments.end());
    expect_refused(run_glimpse(all), {word}, testing::PrintToString(setting));
  }
}

}  // namespace
}  // namespace glimpse::cli_test
