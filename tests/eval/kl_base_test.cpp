// Base files: both formats, and what is wrong with damaged ones.
#include "tools/eval/kl_base.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/eval/support.h"
#include "tools/eval/log_probs.h"

namespace glimpse::eval {
namespace {

using eval_test::data_file;
using ::testing::HasSubstr;

constexpr int64_t kVocab = 11;

std::vector<Sequence> two_chunks() {
  const std::vector<int32_t> a = {0, 1, 2, 3, 4, 5, 6, 7}, b = {10, 9, 8, 7, 6, 5, 4, 3};
  return {chunk_of(a), chunk_of(b)};
}
float logit(size_t sequence, int64_t row, size_t i) {
  return static_cast<float>(
      std::sin(static_cast<double>(sequence) * 7 + static_cast<double>(row) * 3 + static_cast<double>(i)) * 4);
}
std::vector<float> row_of(size_t sequence, int64_t row) {
  std::vector<float> logits(kVocab);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = logit(sequence, row, i);
  return logits;
}

std::string write_base(const ScratchDir& dir, KlBaseWriter::Format format, const std::vector<Sequence>& sequences) {
  const std::string path = dir.file("base");
  auto writer = KlBaseWriter::create(path, AtomicFileWriter::Existing::kReplace, format, kVocab, sequences);
  EXPECT_TRUE(writer.ok());
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (int64_t r = 0; r < sequences[s].n_scored; ++r) EXPECT_TRUE(writer.value().add(row_of(s, r)).ok());
  }
  EXPECT_TRUE(writer.value().commit().ok());
  return path;
}

TEST(KlBase, ChunksScoreTheirSecondHalf) {
  const std::vector<int32_t> ids(16, 1);
  EXPECT_EQ(chunk_of(ids).first, 8);
  EXPECT_EQ(chunk_of(ids).n_scored, 7);
  EXPECT_EQ(chunk_of(std::span(ids).first(5)).n_scored, 2);
}

TEST(KlBase, BothFormatsGiveBackWhatWasWritten) {
  for (const auto format : {KlBaseWriter::Format::kLlama, KlBaseWriter::Format::kGguf}) {
    const ScratchDir dir;
    std::vector<Sequence> sequences = two_chunks();
    if (format == KlBaseWriter::Format::kGguf) {
      sequences[1] = {{1, 2, 3}, 0, 1, "00ff"};
    }
    const auto base = KlBase::open(write_base(dir, format, sequences));
    ASSERT_TRUE(base.ok()) << base.error().message;
    EXPECT_EQ(base.value().coded(), format == KlBaseWriter::Format::kLlama);
    EXPECT_EQ(base.value().n_vocab(), kVocab);
    EXPECT_EQ(base.value().sequences(), sequences);
    std::vector<float> row(kVocab);
    for (size_t s = 0; s < sequences.size(); ++s) {
      for (int64_t r = 0; r < sequences[s].n_scored; ++r) {
        ASSERT_TRUE(base.value().read_row(s, r, row).ok());
        const Softmax softmax = measure_softmax(row_of(s, r));
        for (size_t i = 0; i < row.size(); ++i) {
          EXPECT_NEAR(static_cast<double>(row[i]), static_cast<double>(logit(s, r, i)) - softmax.log_sum_exp, 1.3e-4);
        }
      }
    }
  }
}

TEST(KlBase, ReadsAFileOfLlamaPerplexity) {
  const auto base = KlBase::open(data_file("llama_base.kld"));
  ASSERT_TRUE(base.ok()) << base.error().message;
  EXPECT_EQ(base.value().n_vocab(), 320);
  ASSERT_EQ(base.value().sequences().size(), 2u);
  // The perplexities that it printed while it wrote the file.
  std::vector<float> row(320);
  double nll = 0;
  int64_t n = 0;
  for (size_t c = 0; c < 2; ++c) {
    const Sequence& s = base.value().sequences()[c];
    EXPECT_EQ(s.ids.size(), 16u);
    EXPECT_EQ(s.n_scored, 7);
    for (int64_t r = 0; r < s.n_scored; ++r, ++n) {
      ASSERT_TRUE(base.value().read_row(c, r, row).ok());
      nll -= static_cast<double>(row[static_cast<size_t>(s.ids[static_cast<size_t>(s.first + r + 1)])]);
    }
    // Codes clamp at 16 below the largest, which a model of random weights reaches: an upper bound.
    EXPECT_LE(std::exp(nll / static_cast<double>(n)), (c == 0 ? 10044.4668 : 65092.3431) * 1.001);
  }
}

TEST(KlBase, LlamaFormatHoldsChunksOfOneLengthOnly) {
  const ScratchDir dir;
  std::vector<Sequence> sequences = two_chunks();
  sequences[1].first = 1;
  const auto writer = KlBaseWriter::create(dir.file("base"), AtomicFileWriter::Existing::kRefuse,
                                           KlBaseWriter::Format::kLlama, kVocab, sequences);
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(dir.list().size(), 0u);
}

TEST(KlBase, UnfinishedFilesDoNotAppear) {
  for (const auto format : {KlBaseWriter::Format::kLlama, KlBaseWriter::Format::kGguf}) {
    const ScratchDir dir;
    {
      auto writer =
          KlBaseWriter::create(dir.file("base"), AtomicFileWriter::Existing::kRefuse, format, kVocab, two_chunks());
      ASSERT_TRUE(writer.ok());
      EXPECT_TRUE(writer.value().add(row_of(0, 0)).ok());
      EXPECT_FALSE(writer.value().commit().ok());
    }
    EXPECT_EQ(dir.list().size(), 0u);
  }
}

TEST(KlBase, TooManyRowsAreAnError) {
  const ScratchDir dir;
  auto writer = KlBaseWriter::create(dir.file("base"), AtomicFileWriter::Existing::kRefuse,
                                     KlBaseWriter::Format::kLlama, kVocab, two_chunks());
  ASSERT_TRUE(writer.ok());
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(writer.value().add(row_of(0, i)).ok());
  EXPECT_FALSE(writer.value().add(row_of(0, 0)).ok());
}

void expect_refused(const std::string& bytes, const char* word) {
  const auto base = KlBase::parse(std::as_bytes(std::span(bytes)), "damaged");
  ASSERT_FALSE(base.ok()) << word;
  EXPECT_THAT(base.error().message, HasSubstr("damaged"));
  EXPECT_THAT(base.error().message, HasSubstr(word));
}

std::string with_int(std::string bytes, size_t at, int32_t value) {
  std::memcpy(bytes.data() + at, &value, 4);
  return bytes;
}

TEST(KlBase, DamagedLlamaFilesAreRefused) {
  const ScratchDir dir;
  const std::string good = read_all(write_base(dir, KlBaseWriter::Format::kLlama, two_chunks()));
  ASSERT_TRUE(KlBase::parse(std::as_bytes(std::span(good)), "good").ok());
  for (size_t n = 0; n < good.size(); ++n) {  // every truncation
    EXPECT_FALSE(KlBase::parse(std::as_bytes(std::span(good).first(n)), "cut").ok()) << n;
  }
  expect_refused("", "0 bytes");
  expect_refused("this is some other file entirely", "_logits_");
  expect_refused(good.substr(0, good.size() - 1), "announced");
  expect_refused(good + "x", "after the last chunk");
  expect_refused(with_int(good, 8, 0), "make no sense");  // n_ctx
  expect_refused(with_int(good, 8, -8), "make no sense");
  expect_refused(with_int(good, 12, 0), "make no sense");  // n_vocab
  expect_refused(with_int(good, 12, 0x7fffffff), "make no sense");
  expect_refused(with_int(good, 12, 1 << 24), "announced");
  expect_refused(with_int(good, 16, 0), "make no sense");  // n_chunks
  expect_refused(with_int(good, 16, 1 << 24), "announced");
  expect_refused(with_int(good, 20, 11), "outside the vocabulary");  // a token
  expect_refused(with_int(good, 24, -1), "outside the vocabulary");
}

TEST(KlBase, ImpossibleRowIsNamed) {
  const ScratchDir dir;
  std::string bytes = read_all(write_base(dir, KlBaseWriter::Format::kLlama, two_chunks()));
  const float scale = NAN;
  std::memcpy(bytes.data() + 20 + 2 * 8 * 4 + 4 * coded_row_bytes(kVocab), &scale, 4);  // sequence 1, row 1
  const auto base = KlBase::parse(std::as_bytes(std::span(bytes)), "damaged");
  ASSERT_TRUE(base.ok());
  std::vector<float> row(kVocab);
  EXPECT_TRUE(base.value().read_row(1, 0, row).ok());
  const Status status = base.value().read_row(1, 1, row);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr("sequence 1, row 1"));
}

TEST(KlBase, ForeignAndDamagedGgufsAreRefused) {
  const std::string model = read_all(eval_test::golden("tied/model.gguf"));
  expect_refused(model, "qwen2vl");
  const ScratchDir dir;
  const std::string good = read_all(write_base(dir, KlBaseWriter::Format::kGguf, two_chunks()));
  ASSERT_TRUE(KlBase::parse(std::as_bytes(std::span(good)), "good").ok());
  // The last bytes are padding.
  for (size_t n = 0; n + 32 < good.size(); n += 3) {
    EXPECT_FALSE(KlBase::parse(std::as_bytes(std::span(good).first(n)), "cut").ok()) << n;
  }
  std::string renamed = good;
  renamed.replace(renamed.find("1.log_probs"), 11, "2.log_probs");
  expect_refused(renamed, "1.log_probs is missing");
}

}  // namespace
}  // namespace glimpse::eval
