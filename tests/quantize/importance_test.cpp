// Importance matrices: the two forms of llama-imatrix, and files that are neither.
#include "tools/quantize/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;
using testing::ElementsAre;
using testing::HasSubstr;

Result<ImportanceMatrix> parse(const std::string& bytes) {
  return ImportanceMatrix::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "some.imatrix");
}

std::string floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += le(value);
  return bytes;
}
std::string dat_entry(const std::string& name, int32_t n_calls, const std::vector<float>& values) {
  return le(static_cast<int32_t>(name.size())) + name + le(n_calls) + le(static_cast<int32_t>(values.size())) +
         floats(values);
}
std::string dat(const std::vector<std::string>& entries) {
  std::string bytes = le(static_cast<int32_t>(entries.size()));
  for (const std::string& entry : entries) bytes += entry;
  return bytes;
}

GgufBuilder gguf_entry(const std::string& name, const std::vector<float>& sums, const std::vector<float>& counts) {
  GgufBuilder b;
  b.text("general.type", "imatrix");
  b.tensor(name + ".in_sum2", {sums.size() / std::max<size_t>(counts.size(), 1), counts.size()}, DType::kF32,
           floats(sums));
  b.tensor(name + ".counts", {1, counts.size()}, DType::kF32, floats(counts));
  return b;
}

TEST(Importance, BothFormsOfLlamaImatrixAgree) {
  const std::string folder = GLIMPSE_TEST_DIR "/fuzz/corpus/imatrix/";
  const Result<ImportanceMatrix> new_form = ImportanceMatrix::load(folder + "llama.gguf");
  const Result<ImportanceMatrix> old_form = ImportanceMatrix::load(folder + "llama.dat");
  ASSERT_TRUE(new_form.ok()) << new_form.error().message;
  ASSERT_TRUE(old_form.ok()) << old_form.error().message;
  for (const ImportanceMatrix& matrix : {new_form.value(), old_form.value()}) {
    EXPECT_EQ(matrix.n_entries(), 7u);
    EXPECT_EQ(matrix.n_chunks(), 2u);
    EXPECT_EQ(matrix.dataset(), "calib.txt");
  }
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    const std::string tensor = std::string("blk.0.") + name + ".weight";
    const std::vector<float>*const a = new_form->find(tensor), *const b = old_form->find(tensor);
    ASSERT_TRUE(a != nullptr && b != nullptr) << tensor;
    ASSERT_EQ(a->size(), tensor == "blk.0.ffn_down.weight" ? 64u : 32u);
    ASSERT_EQ(b->size(), a->size());
    for (size_t i = 0; i < a->size(); ++i) {
      EXPECT_GT((*a)[i], 0) << tensor;
      // The old form stores the mean times the number of calls: two roundings more.
      EXPECT_NEAR((*a)[i], (*b)[i], 4e-7f * (*a)[i]) << tensor;
    }
  }
  EXPECT_EQ(new_form->find("blk.1.attn_q.weight"), nullptr);
}

TEST(Importance, DatDividesByTheCalls) {
  const auto matrix = parse(dat({dat_entry("a.weight", 4, {1, 2, 0}), dat_entry("b.weight", 0, {3})}));
  ASSERT_TRUE(matrix.ok()) << matrix.error().message;
  EXPECT_THAT(*matrix->find("a.weight"), ElementsAre(0.25f, 0.5f, 0));
  EXPECT_THAT(*matrix->find("b.weight"), ElementsAre(3));  // as the reference has it
  EXPECT_EQ(matrix->n_chunks(), 0u);
  EXPECT_EQ(matrix->dataset(), "");
  EXPECT_EQ(matrix->path(), "some.imatrix");
}

TEST(Importance, GgufDividesByEachExpertsCount) {
  const auto matrix = parse(gguf_entry("x.weight", {2, 4, 30, 60, 7, 8}, {2, 10, 0}).build());
  ASSERT_TRUE(matrix.ok()) << matrix.error().message;
  EXPECT_THAT(*matrix->find("x.weight"), ElementsAre(1, 2, 3, 6, 1, 1));  // one that saw nothing: all alike
}

TEST(Importance, DatTruncatedAnywhereIsAnError) {
  const std::string entries = dat({dat_entry("a.weight", 4, {1, 2}), dat_entry("b.weight", 1, {3})});
  const std::string whole = entries + le<int32_t>(5) + le<int32_t>(4) + "text";
  ASSERT_TRUE(parse(whole).ok());
  EXPECT_EQ(parse(whole)->dataset(), "text");
  EXPECT_EQ(parse(whole)->n_chunks(), 5u);
  for (size_t n = 0; n < whole.size(); ++n) {
    // Older writers stopped after the entries, or after the number of chunks.
    const bool may_end = n == entries.size() || n == entries.size() + 4;
    EXPECT_EQ(parse(whole.substr(0, n)).ok(), may_end) << n;
  }
  EXPECT_TRUE(fails(parse(whole + "x"), ErrorCode::kCorrupt, "1 bytes after the end"));
}

TEST(Importance, DatThatLiesAboutItsLengths) {
  const std::string name = le<int32_t>(8) + "a.weight";
  for (const int32_t n : {0, -1, std::numeric_limits<int32_t>::min()}) {
    EXPECT_TRUE(fails(parse(le(n)), ErrorCode::kCorrupt, "entries")) << n;
    EXPECT_TRUE(fails(parse(le<int32_t>(1) + le(n) + std::string(64, 'x')), ErrorCode::kCorrupt, "name")) << n;
    EXPECT_TRUE(fails(parse(le<int32_t>(1) + name + le<int32_t>(1) + le(n) + std::string(64, '\0')),
                      ErrorCode::kCorrupt, "values"))
        << n;
  }
  constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();
  EXPECT_TRUE(fails(parse(le(kHuge) + std::string(64, 'x')), ErrorCode::kTruncated, "some.imatrix"));
  EXPECT_TRUE(fails(parse(le<int32_t>(1) + le(kHuge) + std::string(64, 'x')), ErrorCode::kTruncated, "name"));
  EXPECT_TRUE(fails(parse(le<int32_t>(1) + name + le<int32_t>(1) + le(kHuge) + std::string(64, '\0')),
                    ErrorCode::kTruncated, "8589934588"));
  EXPECT_TRUE(fails(parse(le<int32_t>(1) + le<int32_t>(2000) + std::string(4000, 'x')), ErrorCode::kCorrupt, "2000"));
}

TEST(Importance, ValuesThatAreNoMeansOfSquares) {
  for (const float bad : {-1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    EXPECT_TRUE(fails(parse(dat({dat_entry("a.weight", 1, {1, bad})})), ErrorCode::kNumeric, "'a.weight'"));
    EXPECT_TRUE(fails(parse(gguf_entry("b.weight", {1, bad}, {1}).build()), ErrorCode::kNumeric, "'b.weight'"));
    EXPECT_TRUE(fails(parse(gguf_entry("c.weight", {1, 1}, {bad}).build()), ErrorCode::kNumeric, "'c.weight'"));
  }
}

TEST(Importance, EntriesThatContradictEachOther) {
  EXPECT_TRUE(fails(parse(dat({dat_entry("a", 1, {1}), dat_entry("a", 1, {1})})), ErrorCode::kCorrupt, "two entries"));
  GgufBuilder alone;
  alone.tensor("a.in_sum2", {2}, DType::kF32, floats({1, 2}));
  EXPECT_TRUE(fails(parse(alone.build()), ErrorCode::kCorrupt, "no counts"));
  alone.tensor("a.counts", {2}, DType::kI32, floats({1, 1}));
  EXPECT_TRUE(fails(parse(alone.build()), ErrorCode::kCorrupt, "want F32"));
  GgufBuilder uneven;
  uneven.tensor("a.in_sum2", {3}, DType::kF32, floats({1, 2, 3}));
  uneven.tensor("a.counts", {2}, DType::kF32, floats({1, 1}));
  EXPECT_TRUE(fails(parse(uneven.build()), ErrorCode::kCorrupt, "3 sums for 2 counts"));
}

TEST(Importance, FilesOfAnotherKind) {
  EXPECT_TRUE(fails(ImportanceMatrix::load(GLIMPSE_TEST_DIR "/golden/tied/model.gguf"), ErrorCode::kCorrupt,
                    "no importance matrix"));
  EXPECT_TRUE(fails(ImportanceMatrix::load(GLIMPSE_TEST_DIR "/missing"), ErrorCode::kNotFound, "missing"));
  EXPECT_TRUE(fails(ImportanceMatrix::load(GLIMPSE_TEST_DIR), ErrorCode::kInvalidArgument, "directory"));
  EXPECT_FALSE(parse("").ok());
  EXPECT_FALSE(parse("GGUF").ok());
  EXPECT_FALSE(parse("this is a letter, not a matrix of importance\n").ok());
}

}  // namespace
}  // namespace glimpse
