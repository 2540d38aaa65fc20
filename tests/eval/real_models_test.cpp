// Published weights, where somebody has them: GLIMPSE_REAL_MODELS names a folder with coder05.gguf and coder15.gguf,
// Qwen2.5-Coder-0.5B- and -1.5B-Instruct in Q4_K_M. What llama.cpp made of the same files and text is in
// tests/eval/data (make_real.py there).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "tests/engine/golden_support.h"
#include "tests/eval/support.h"
#include "tools/eval/kl_statistics.h"
#include "tools/eval/prompts.h"
#include "tools/eval/scorer.h"

namespace glimpse::eval {
namespace {

using glimpse::testing::must;

// Of some rows, the log-probabilities of the tokens that the f32 run of the same weights finds likeliest.
struct Recorded {
  int64_t n_top = 0;
  std::vector<int32_t> ids, rows, tokens;
  std::vector<float> f32, llama;
  double perplexity = 0;  // llama.cpp's

  explicit Recorded(const std::string& path) {
    const GgufFile file = must(GgufFile::open(path));
    const auto read = [&](const char* name, auto& out) {
      const GgufTensor* tensor = file.find_tensor(name);
      ASSERT_NE(tensor, nullptr) << name;
      out.resize(tensor->n_elements());
      EXPECT_OK(file.read(*tensor, 0, std::as_writable_bytes(std::span(out))));
    };
    read("ids", ids), read("rows", rows), read("tokens", tokens), read("f32", f32), read("llama", llama);
    n_top = static_cast<int64_t>(tokens.size() / rows.size());
    perplexity = must(file.require_float("llama.perplexity"));
  }
};

// KL(p || q) where all tokens but those listed count as one.
template <typename P, typename Q>
double divergence(int64_t n, const P& log_p, const Q& log_q) {
  double sum = 0, p_rest = 1, q_rest = 1;
  for (int64_t i = 0; i < n; ++i) {
    const double p = std::exp(static_cast<double>(log_p(i))), q = std::exp(static_cast<double>(log_q(i)));
    sum += p * (static_cast<double>(log_p(i)) - static_cast<double>(log_q(i)));
    p_rest -= p, q_rest -= q;
  }
  constexpr double kCoded = 1e-6;  // of 64 probabilities that were kept in 16 bits: what is left may be below zero
  return p_rest < kCoded || q_rest < kCoded ? sum : sum + p_rest * std::log(p_rest / q_rest);
}

class RealModels : public ::testing::TestWithParam<const char*> {};

TEST_P(RealModels, PredictTheirTextAsLlamaCppDoesAndNoLessExactly) {
  const char* const folder = std::getenv("GLIMPSE_REAL_MODELS");
  const std::string path = std::string(folder == nullptr ? "" : folder) + "/" + GetParam() + ".gguf";
  if (folder == nullptr || !std::filesystem::exists(path)) {
    GTEST_SKIP() << "GLIMPSE_REAL_MODELS names no folder with " << GetParam() << ".gguf";
  }
  const Recorded recorded(eval_test::data_file(std::string(GetParam()) + ".real.gguf"));
  ModelOptions options;
  options.model_path = path;
  const auto model = must(Model::load(options));
  const auto ops = must(model->make_ops(0));
  const auto license = read_all(std::string(GLIMPSE_TEST_DIR) + "/../LICENSE");
  const auto chunks = must(chunks_of_text(model->tokenizer(), license, 512, 0));
  Scorer scorer = must(Scorer::create(model, *ops, 512, KvElement::kF16));
  std::vector<int32_t> ids;
  std::vector<TokenScore> scores;
  double to_llama = 0, to_f32 = 0, llama_to_f32 = 0;
  int64_t row_before = 0;  // rows of earlier chunks
  size_t next = 0;
  for (const Sequence& s : chunks) {
    ids.insert(ids.end(), s.ids.begin(), s.ids.end());
    EXPECT_OK(scorer.run(s, {},
                         [&](int64_t row, std::span<const float> logits) -> Status {
                           const Softmax softmax = measure_softmax(logits);
                           scores.push_back(
                               score_token(logits, softmax, s.ids[static_cast<size_t>(s.first + row + 1)]));
                           if (next == recorded.rows.size() || recorded.rows[next] != row_before + row) return {};
                           const auto at = static_cast<size_t>(recorded.n_top) * next++;
                           const auto f32 = [&](int64_t i) { return recorded.f32[at + static_cast<size_t>(i)]; };
                           const auto llama = [&](int64_t i) { return recorded.llama[at + static_cast<size_t>(i)]; };
                           const auto ours = [&](int64_t i) {
                             const int32_t token = recorded.tokens[at + static_cast<size_t>(i)];
                             return logits[static_cast<size_t>(token)] - softmax.log_sum_exp;
                           };
                           to_llama += divergence(recorded.n_top, ours, llama);
                           to_f32 += divergence(recorded.n_top, f32, ours);
                           llama_to_f32 += divergence(recorded.n_top, f32, llama);
                           return {};
                         },
                         {}));
    row_before += s.n_scored;
  }
  EXPECT_EQ(ids, recorded.ids);
  ASSERT_EQ(next, recorded.rows.size());
  const auto n = static_cast<double>(next);
  EXPECT_NEAR(summarize(scores).perplexity.value / recorded.perplexity, 1, 0.005);
  EXPECT_LE(to_f32, llama_to_f32);
  // No farther apart than two engines that round on their own: then the squares of their errors add up.
  EXPECT_LT(to_llama, to_f32 + llama_to_f32);
  EXPECT_GT(llama_to_f32 / n, 1e-4);  // there is a difference to be seen
}

INSTANTIATE_TEST_SUITE_P(Coder, RealModels, ::testing::Values("coder05", "coder15"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace glimpse::eval
