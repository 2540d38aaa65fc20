// Whole files: equal to llama-quantize's, whatever the threads; and what is not written.
#include "tools/quantize/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "engine/base/half.h"
#include "kernels/quant/quant.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using gguf_test::fails;
using gguf_test::GgufBuilder;
using gguf_test::le;

std::string data_file(const std::string& name) {
  return GLIMPSE_TEST_DIR "/quantize/data/" + name;
}

class QuantizeFile : public gguf_test::GgufFolderTest {
 protected:
  // Quantises the file into out.gguf.
  Status quantize(const GgufFile& file, const QuantizeRequest& request, QuantizeOptions options = {}) const {
    GLIMPSE_ASSIGN(const QuantizePlan plan, plan_quantization(file, request));
    if (options.path.empty()) options.path = path("out.gguf");
    options.overwrite = true;
    return write_quantized(file, request, plan, options);
  }
};

uint64_t fnv(const void* bytes, size_t n, uint64_t state = 0xcbf29ce484222325u) {
  for (size_t i = 0; i < n; ++i) state = (state ^ static_cast<const uint8_t*>(bytes)[i]) * 0x100000001b3u;
  return state;
}
std::string hex(uint64_t value) {
  return format("%016x", value);
}

// "NAMES_AND_TYPES DATA", as make_fixtures.py hashes them.
std::string fingerprint(const GgufFile& file) {
  std::map<std::string, const GgufTensor*> by_name;
  for (const GgufTensor& tensor : file.tensors()) by_name[tensor.name] = &tensor;
  std::string names;
  uint64_t state = fnv(nullptr, 0);
  for (const auto& [name, tensor] : by_name) {
    names += name + "=" + std::to_string(static_cast<uint32_t>(tensor->type)) + ";";
    std::vector<std::byte> bytes(tensor->n_bytes);
    EXPECT_TRUE(file.read(*tensor, 0, bytes).ok());
    state = fnv(bytes.data(), bytes.size(), state);
  }
  return hex(fnv(names.data(), names.size())) + " " + hex(state);
}

TEST_F(QuantizeFile, EqualsLlamaQuantize) {
  std::ifstream expected(data_file("expected.txt"));
  int n_files = 0;
  for (std::string line; std::getline(expected, line); ++n_files) {
    std::istringstream fields(line);
    std::string model, matrix, type, names, bytes;
    fields >> model >> matrix >> type >> names >> bytes;
    const Result<GgufFile> file = GgufFile::open(data_file(model));
    ASSERT_TRUE(file.ok()) << file.error().message;
    QuantizeRequest request;
    ASSERT_TRUE(file_type_from_name(type).has_value()) << line;
    request.type = *file_type_from_name(type);
    ImportanceMatrix importance;
    if (matrix != "-") {
      Result<ImportanceMatrix> loaded = ImportanceMatrix::load(data_file(matrix));
      ASSERT_TRUE(loaded.ok()) << loaded.error().message;
      importance = std::move(loaded).value();
      request.importance = &importance;
    }
    const Status done = quantize(file.value(), request);
    ASSERT_TRUE(done.ok()) << line << ": " << done.error().message;
    const Result<GgufFile> out = GgufFile::open(path("out.gguf"));
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(fingerprint(out.value()), names + " " + bytes) << model << " " << matrix << " " << type;
    EXPECT_EQ(out->require_uint("general.file_type").value(), static_cast<uint64_t>(request.type));
  }
  EXPECT_EQ(n_files, 94);
}

TEST_F(QuantizeFile, KeepsOrderAndMetadata) {
  GgufBuilder b;
  b.alignment_key(64);
  b.text("general.architecture", "qwen2vl").u32("general.file_type", 1).text("tokenizer.chat_template", "");
  b.u32("qwen2vl.block_count", 1).key("qwen2vl.attention.head_count", GgufType::kUint16, le<uint16_t>(1));
  b.array("some.array", GgufType::kInt16, 2, le<int16_t>(-1) + le<int16_t>(5));
  b.key("split.tensors.count", GgufType::kInt32, le<int32_t>(3));
  b.tensor("z.weight", {32, 2}, DType::kF32, std::string(256, '\0'));
  b.tensor("scale", {}, DType::kF32, le(2.5f));
  b.tensor("a.weight", {32, 1, 1, 2}, DType::kF32, std::string(256, '\0'));
  b.tensor("empty.weight", {0, 4}, DType::kF16, "");
  const std::string bytes = b.build();
  const Result<GgufFile> file = gguf_test::parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  QuantizeRequest request;
  request.type = FileType::kQ8_0;
  const Status done = quantize(file.value(), request);
  ASSERT_TRUE(done.ok()) << done.error().message;

  const Result<GgufFile> out = GgufFile::open(path("out.gguf"));
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_THAT(out->keys(),
              testing::ElementsAre("general.alignment", "general.architecture", "general.file_type",
                                   "tokenizer.chat_template", "qwen2vl.block_count", "qwen2vl.attention.head_count",
                                   "some.array", "general.quantization_version"));
  EXPECT_EQ(out->alignment(), 64u);
  EXPECT_EQ(out->find("qwen2vl.attention.head_count")->type, GgufType::kUint16);
  EXPECT_EQ(out->find("some.array")->describe_type(), "array of 2 int16");
  EXPECT_EQ(out->require_uint("general.file_type").value(), 7u);
  EXPECT_EQ(out->require_uint("general.quantization_version").value(), 2u);
  std::string tensors;
  for (const GgufTensor& tensor : out->tensors()) tensors += tensor.name + " " + tensor.describe() + "; ";
  EXPECT_EQ(tensors, "z.weight q8_0 (32, 2); scale f32 (1); a.weight q8_0 (32, 1, 1, 2); empty.weight f16 (0, 4); ");
}

TEST_F(QuantizeFile, SaysWhatImportanceWasUsed) {
  const Result<GgufFile> file = GgufFile::open(data_file("text.gguf"));
  const Result<ImportanceMatrix> matrix = ImportanceMatrix::load(data_file("importance.gguf"));
  ASSERT_TRUE(file.ok() && matrix.ok());
  QuantizeRequest request;
  request.importance = &matrix.value();
  ASSERT_TRUE(quantize(file.value(), request).ok());
  const Result<GgufFile> out = GgufFile::open(path("out.gguf"));
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->require_string("quantize.imatrix.file").value(), "importance.gguf");  // not where it lay
  EXPECT_EQ(out->require_string("quantize.imatrix.dataset").value(), "calibration.txt");
  EXPECT_EQ(out->require_uint("quantize.imatrix.entries_count").value(), matrix->n_entries());
  EXPECT_EQ(out->require_uint("quantize.imatrix.chunks_count").value(), 3u);
}

// A matrix of many pieces, with numbers that a seed makes.
std::string large_model(uint64_t columns, uint64_t rows) {
  GgufBuilder b;
  b.text("general.architecture", "clip");
  std::string halves;
  uint32_t state = 1;
  for (uint64_t i = 0; i < columns * rows; ++i) {
    state = state * 1664525 + 1013904223;
    halves += le(float_to_half(static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f));
  }
  return b.tensor("mm.0.weight", {columns, rows}, DType::kF16, halves).build();
}

TEST_F(QuantizeFile, PiecesAndThreadsLeaveNoTrace) {
  constexpr uint64_t kColumns = 256, kRows = 9001;
  const std::string bytes = large_model(kColumns, kRows);
  const Result<GgufFile> file = gguf_test::parse(bytes);
  ASSERT_TRUE(file.ok());
  QuantizeRequest request;
  request.type = FileType::kQ8_0;
  std::string first;
  for (const int n_threads : {1, 3}) {
    QuantizeOptions options;
    options.n_threads = n_threads;
    std::vector<double> fractions;
    options.progress = [&](double fraction) {
      fractions.push_back(fraction);
      return true;
    };
    ASSERT_TRUE(quantize(file.value(), request, options).ok());
    EXPECT_EQ(fractions.size(), 3u);  // pieces of 4096 rows
    EXPECT_EQ(fractions.back(), 1);
    const std::string written = gguf_test::read_text(path("out.gguf"));
    if (first.empty()) first = written;
    EXPECT_EQ(written, first);
  }
  const Result<GgufFile> out = GgufFile::open(path("out.gguf"));
  ASSERT_TRUE(out.ok());
  std::vector<std::byte> got(out->tensors()[0].n_bytes), source(file->tensors()[0].n_bytes), want(got.size());
  ASSERT_TRUE(out->read(out->tensors()[0], 0, got).ok());
  ASSERT_TRUE(file->read(file->tensors()[0], 0, source).ok());
  std::vector<float> row(kColumns);
  for (uint64_t i = 0; i < kRows; ++i) {
    dequantize_row_ref(DType::kF16, source.data() + i * 2 * kColumns, row.data(), kColumns);
    quantize_row_ref(DType::kQ8_0, row.data(), want.data() + i * dtype_row_bytes(DType::kQ8_0, kColumns), kColumns,
                     nullptr);
  }
  EXPECT_EQ(got, want);
}

TEST_F(QuantizeFile, CancelledLeavesNothing) {
  const std::string bytes = large_model(256, 9001);
  const Result<GgufFile> file = gguf_test::parse(bytes);
  ASSERT_TRUE(file.ok());
  QuantizeOptions options;
  int calls = 0;
  options.progress = [&](double) { return ++calls < 2; };
  EXPECT_TRUE(fails(quantize(file.value(), {}, options), ErrorCode::kCancelled, "cancelled"));
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(n_files(), 0u);
}

TEST_F(QuantizeFile, NumbersThatAreNoneAreNamed) {
  struct Case {
    float value;
    FileType type;
    const char* words;
  };
  const Case cases[] = {{std::nanf(""), FileType::kQ4_0, "NaN or infinity in row 2"},
                        {-std::numeric_limits<float>::infinity(), FileType::kF32, "NaN or infinity in row 2"},
                        {1e13f, FileType::kQ2_K, "row 2 that are too large for Q2_K"},
                        {1e8f, FileType::kQ8_0, "row 2 that are too large for Q8_0"},
                        {1e6f, FileType::kF16, "row 2 that are too large for F16"}};
  for (const Case& c : cases) {
    GgufBuilder b;
    b.text("general.architecture", "clip");
    std::string bytes(4 * 300 * 256, '\0');
    for (const size_t row : {2, 3, 299}) bytes.replace(4 * (row * 256 + 17), 4, le(c.value));
    b.tensor("mm.0.weight", {256, 300}, DType::kF32, bytes);
    const std::string whole = b.build();
    const Result<GgufFile> file = gguf_test::parse(whole);
    ASSERT_TRUE(file.ok());
    for (const int n_threads : {1, 2}) {
      QuantizeRequest request;
      request.type = c.type;
      QuantizeOptions options;
      options.n_threads = n_threads;
      EXPECT_TRUE(fails(quantize(file.value(), request, options), ErrorCode::kNumeric, c.words));
      EXPECT_EQ(n_files(), 0u);
    }
  }
}

}  // namespace
}  // namespace glimpse
