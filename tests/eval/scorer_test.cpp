// A model run over given tokens: the same logits as a plain pass, whatever the cut.
#include "tools/eval/scorer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/engine/golden_support.h"
#include "tests/eval/support.h"
#include "tools/eval/kl_statistics.h"
#include "tools/eval/prompts.h"

namespace glimpse::eval {
namespace {

using eval_test::data_file;
using glimpse::testing::must;

std::shared_ptr<const Model> tied(WeightPrecision precision = WeightPrecision::kAsStored) {
  ModelOptions options;
  options.model_path = eval_test::golden("tied/model.gguf");
  options.n_threads = 1;
  options.text_precision = precision;
  return must(Model::load(options));
}

// Logits of every row of `ids` in one pass, (n, vocab).
std::vector<float> all_logits(const std::shared_ptr<const Model>& model, Ops& ops, const std::vector<int32_t>& ids) {
  const auto n = static_cast<int64_t>(ids.size());
  const auto decoder = must(glimpse::testing::OneText::create(model, ops, n, n, KvElement::kF32));
  std::vector<MropePosition> positions;
  PositionCounter counter;
  counter.append_text(n, positions);
  std::vector<float> logits(ids.size() * static_cast<size_t>(model->text().vocab_size));
  EXPECT_OK(decoder->forward({ids, positions, {}}, logits, true, {}, {}));
  return logits;
}

TEST(Scorer, PerplexityEqualsThatOfAPlainPass) {
  const auto model = tied();
  const auto ops = must(model->make_ops(1));
  const auto chunks = must(chunks_of_text(model->tokenizer(), read_all(data_file("text.txt")), 24, 0));
  ASSERT_GE(chunks.size(), 2u);
  Scorer scorer = must(Scorer::create(model, *ops, 24, KvElement::kF32));
  std::vector<TokenScore> scores;
  double nll = 0;
  const auto n_vocab = static_cast<size_t>(model->text().vocab_size);
  for (const Sequence& s : chunks) {
    int64_t next = 0;
    EXPECT_OK(scorer.run(s, {},
                         [&](int64_t row, std::span<const float> logits) -> Status {
                           EXPECT_EQ(row, next++);
                           scores.push_back(score_token(logits, measure_softmax(logits),
                                                        s.ids[static_cast<size_t>(s.first + row + 1)]));
                           return {};
                         },
                         {}));
    EXPECT_EQ(next, s.n_scored);
    const std::vector<float> logits = all_logits(model, *ops, s.ids);
    for (int64_t r = s.first; r + 1 < static_cast<int64_t>(s.ids.size()); ++r) {
      const float* row = logits.data() + static_cast<size_t>(r) * n_vocab;
      double sum = 0;
      for (size_t i = 0; i < n_vocab; ++i) sum += std::exp(static_cast<double>(row[i]));
      nll += std::log(sum) - static_cast<double>(row[s.ids[static_cast<size_t>(r + 1)]]);
    }
  }
  const Statistics statistics = summarize(scores);
  EXPECT_EQ(statistics.count, static_cast<int64_t>(chunks.size()) * 11);
  const double want = std::exp(nll / static_cast<double>(statistics.count));
  EXPECT_NEAR(statistics.perplexity.value / want, 1, 1e-6);
}

TEST(Scorer, AgreesWithLlamaPerplexity) {
  const auto model = tied();
  const auto ops = must(model->make_ops(1));
  const auto chunks = must(chunks_of_text(model->tokenizer(), read_all(data_file("text.txt")), 16, 2));
  const auto base = must(KlBase::open(data_file("llama_base.kld")));
  EXPECT_EQ(chunks, base.sequences());  // the same tokens
  Scorer scorer = must(Scorer::create(model, *ops, 16, KvElement::kF32));
  std::vector<TokenScore> scores;
  std::vector<float> log_probs(static_cast<size_t>(base.n_vocab()));
  for (size_t c = 0; c < chunks.size(); ++c) {
    EXPECT_OK(scorer.run(chunks[c], {},
                         [&](int64_t row, std::span<const float> logits) -> Status {
                           GLIMPSE_TRY(base.read_row(c, row, log_probs));
                           scores.push_back(score_token(logits, measure_softmax(logits),
                                                        chunks[c].ids[static_cast<size_t>(chunks[c].first + row + 1)],
                                                        log_probs, base.floor()));
                           return {};
                         },
                         {}));
    // llama-perplexity printed [1]10044.4668,[2]65092.3431; its matrices are F32 here, its activations too.
    EXPECT_NEAR(summarize(scores).perplexity.value / (c == 0 ? 10044.4668 : 65092.3431), 1, 1e-4) << c;
  }
  const Statistics s = summarize(scores);
  // A row of codes is off by half a step of 16 / 65535 at most, in one direction when all the mass is on one token.
  EXPECT_LT(std::fabs(s.kld.value), 1.3e-4);
  EXPECT_EQ(s.same_top.value, 1);
}

TEST(Scorer, PictureRowsAreThoseOfTheEngine) {
  const glimpse::testing::GoldenCase golden("tied/case-image.gguf");
  ModelOptions options;
  options.model_path = eval_test::golden("tied/model.gguf");
  options.mmproj_path = eval_test::golden("tied/mmproj.gguf");
  options.n_threads = 1;
  options.vision_precision = VisionPrecision::kF32;
  const auto model = must(Model::load(options));
  const auto ops = must(model->make_ops(1));
  const Patches patches = glimpse::testing::patches_of(golden.pictures()[0], model->vision());
  const auto encoder = must(VisionEncoder::create(model, *ops, patches.grid.n_patches()));
  const ImageEmbedding embedding = must(encoder->encode(patches, {}, {}));
  Sequence s;
  s.ids = golden.ints("ids");
  const TokenId pad = model->tokenizer().find("<|image_pad|>");
  const auto at = std::find(s.ids.begin(), s.ids.end(), pad) - s.ids.begin();
  s.first = at + embedding.n_tokens;
  s.n_scored = static_cast<int64_t>(s.ids.size()) - 1 - s.first;
  ASSERT_GE(s.n_scored, 1);
  Scorer scorer = must(Scorer::create(model, *ops, static_cast<int64_t>(s.ids.size()), KvElement::kF32));
  const std::vector<float> want = golden.floats("logits");  // of every row, by transformers
  const auto n_vocab = static_cast<size_t>(model->text().vocab_size);
  ASSERT_EQ(want.size(), s.ids.size() * n_vocab);
  EXPECT_OK(scorer.run(s, {at, &embedding},
                       [&](int64_t row, std::span<const float> logits) -> Status {
                         const float* reference = want.data() + static_cast<size_t>(s.first + row) * n_vocab;
                         for (size_t i = 0; i < n_vocab; ++i)
                           EXPECT_NEAR(logits[i], reference[i], 1e-3f) << row << " " << i;
                         return {};
                       },
                       {}));
}

TEST(Scorer, MatricesByNameAreKeptAsFloats) {
  ModelOptions options;
  options.model_path = eval_test::golden("quantized/model.gguf");
  options.n_threads = 1;
  const uint64_t stored = must(Model::load(options))->weight_bytes();
  options.f32_tensors = {"ffn_down"};
  const uint64_t some = must(Model::load(options))->weight_bytes();
  options.f32_tensors = {"no_such_matrix"};
  EXPECT_EQ(must(Model::load(options))->weight_bytes(), stored);
  options.f32_tensors = {};
  options.text_precision = WeightPrecision::kF32;
  const uint64_t all = must(Model::load(options))->weight_bytes();
  EXPECT_GT(some, stored);
  EXPECT_GT(all, some);
}

TEST(Prompts, ChunksAreWholeAndCounted) {
  const auto model = tied();
  const std::string text = read_all(data_file("text.txt"));
  const auto all = must(chunks_of_text(model->tokenizer(), text, 16, 0));
  EXPECT_EQ(must(chunks_of_text(model->tokenizer(), text, 16, 3)).size(), 3u);
  EXPECT_EQ(must(chunks_of_text(model->tokenizer(), text, 16, 1000)).size(), all.size());
  EXPECT_FALSE(chunks_of_text(model->tokenizer(), text, 100000, 0).ok());
  EXPECT_FALSE(chunks_of_text(model->tokenizer(), text, 3, 0).ok());
  EXPECT_FALSE(chunks_of_text(model->tokenizer(), "\xff\xfe", 4, 0).ok());
}

TEST(Prompts, LinesSayWhatIsWrongWithThem) {
  const auto lines =
      must(parse_prompt_lines("{\"image\": \"a.png\", \"prompt\": \"what?\", \"answer\": \"a cat\"}\n\n{\"prompt\": "
                              "\"x\", \"answer\": \"y\"}\n",
                              "folder"));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].image_path, "folder/a.png");
  EXPECT_EQ(lines[0].answer, "a cat");
  EXPECT_EQ(lines[1].image_path, "");
  for (const char* bad : {"", "\n", "not json", "[1]", "{\"prompt\": 1, \"answer\": \"y\"}", "{\"prompt\": \"x\"}",
                          "{\"prompt\": \"x\", \"answer\": \"y\", \"reply\": \"z\"}"}) {
    EXPECT_FALSE(parse_prompt_lines(bad, "").ok()) << bad;
  }
  const auto second = parse_prompt_lines("{\"prompt\": \"x\", \"answer\": \"y\"}\n{\n", "");
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("line 2"), std::string::npos) << second.error().message;
}

TEST(Prompts, AnswerAndEndOfTurnAreScored) {
  const auto model = tied();
  const PromptSequence p = must(make_prompt_sequence(*model, {"", "what is it", "a cat"}, nullptr, ""));
  const Sequence& s = p.sequence;
  const auto answer = must(model->tokenizer().encode("a cat", {}));
  EXPECT_EQ(s.n_scored, static_cast<int64_t>(answer.size()) + 1);
  EXPECT_EQ(s.ids.size(), static_cast<size_t>(s.first + 1 + s.n_scored));
  for (size_t i = 0; i < answer.size(); ++i) EXPECT_EQ(s.ids[static_cast<size_t>(s.first) + 1 + i], answer[i]);
  EXPECT_EQ(s.ids.back(), model->tokenizer().find("<|im_end|>"));
}

}  // namespace
}  // namespace glimpse::eval
