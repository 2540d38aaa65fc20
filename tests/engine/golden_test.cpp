// The tiny models of tests/golden against what transformers computed: tokens, pixels, every activation in model order,
// logits and greedy text.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "engine/generate/video.h"
#include "tests/engine/golden_backends.h"
#include "tests/engine/golden_support.h"
#include "tokenizer/chat.h"

namespace glimpse {
namespace {

using testing::Backend;
using testing::CaseInput;
using testing::GoldenCase;
using testing::must;

const Backend kReference = {.name = "ref", .reference = true};

TEST(GoldenPixels, PatchesEqualPixelValuesOfTransformers) {
  for (const std::string file :
       {"tied/case-image.gguf", "tied/case-resize.gguf", "qwen25vl/case-image.gguf", "qwen3vl/case-image.gguf"}) {
    const GoldenCase golden(file);
    const GgufFile mmproj = must(GgufFile::open(testing::golden_path(file.substr(0, file.find('/')) + "/mmproj.gguf")));
    const Patches patches = testing::patches_of(golden.pictures().at(0), must(read_vision_config(mmproj)));
    const std::vector<float> want = golden.floats("0/pixel_values");
    EXPECT_EQ(patches.grid.h, golden.grids().at(0).h);
    EXPECT_EQ(patches.grid.w, golden.grids().at(0).w);
    ASSERT_EQ(patches.values.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(patches.values[i], want[i], 1e-6) << file << " value " << i;
  }
}

TEST(GoldenTokens, PromptsGiveTheIdsOfTokenizers) {
  for (const auto& [folder, file] : testing::golden_cases()) {
    const GoldenCase golden(std::string(folder) + "/" + file);
    const auto model = testing::load_golden(folder, kReference);
    std::string text = golden.prompt();
    std::vector<ChatPart> parts;
    for (const GoldenCase::Visual& visual : golden.visuals()) {
      const std::string place = visual.is_video ? "<video>" : "<image>";
      parts.emplace_back().text = text.substr(0, text.find(place));
      text.erase(0, text.find(place) + place.size());
      parts.emplace_back().kind = visual.is_video ? ChatPart::Kind::kVideo : ChatPart::Kind::kImage;
      parts.back().n_tokens = visual.grid.n_patches() / 4;
      if (golden.fps() == 0 || !visual.is_video) continue;
      ImageEmbedding embedding;
      set_times({.n_frames = static_cast<int64_t>(visual.n), .fps = golden.fps()}, model->vision().family(), embedding);
      parts.back().slice_seconds = embedding.slice_seconds;
    }
    parts.emplace_back().text = text;
    EXPECT_EQ(must(tokenize_raw(model->tokenizer(), parts, {})).ids, golden.ints("ids")) << folder << "/" << file;
  }
}

// Compares activations as they come; remembers the first that is out of bounds, for everything after it is wrong too.
class StepChecker {
 public:
  explicit StepChecker(const GoldenCase& golden) : golden_(golden) {}

  void see(const std::string& name, const std::vector<float>& got, double limit) {
    if (!golden_.has(name)) return;
    seen_.insert(name);
    const double error = testing::nmse(got, golden_.floats(name));
    worst_ = std::max(worst_, error);
    if (error <= limit || !first_wrong_.empty()) return;
    first_wrong_ = format("%s: NMSE %.3g, limit %.3g", name, error, limit);
  }
  const std::string& first_wrong() const { return first_wrong_; }
  double worst() const { return worst_; }
  const std::set<std::string>& seen() const { return seen_; }

 private:
  const GoldenCase& golden_;
  std::string first_wrong_;
  double worst_ = 0;
  std::set<std::string> seen_;
};

class GoldenModel : public testing::BackendTest {
 protected:
  /// test(folder, name, case, model, ops) for every case, on this backend.
  template <typename Test>
  static void on_each_case(Test test) {
    for (const auto& [folder, file] : testing::golden_cases()) {
      const std::string name = std::string(folder) + "/" + file;
      SCOPED_TRACE(name);
      const auto model = testing::load_golden(folder, GetParam());
      test(std::string(folder), name, GoldenCase(name), model, *testing::make_ops(*model, GetParam()));
    }
  }
};

TEST_P(GoldenModel, EveryActivationMatchesTransformersInModelOrder) {
  on_each_case([&](const std::string& folder, const std::string& file, const GoldenCase& golden,
                   const std::shared_ptr<const Model>& model, Ops& ops) {
    StepChecker checker(golden);

    // A video's slices are rows of one activation, so a name is complete when the encoder is done.
    std::vector<std::string> order;
    std::map<std::string, std::vector<float>> seen;
    const std::vector<float> embeddings = testing::encode_pictures(
        model, ops, golden, [&](int picture, const std::string& name, std::vector<float> values) {
          const std::string full = std::to_string(picture) + "/" + name;
          std::vector<float>& all = seen[full];
          if (all.empty()) order.push_back(full);
          all.insert(all.end(), values.begin(), values.end());
        });
    testing::ErrorBudget budget(GetParam(), folder, &golden);
    for (const std::string& name : order) checker.see(name, seen[name], budget.limit(name));

    const CaseInput input = testing::case_input(*model, golden, embeddings);
    const auto n = static_cast<int64_t>(input.ids.size());
    const auto decoder = must(testing::OneText::create(model, ops, 128, n, GetParam().kv));
    double limit = 0;
    std::vector<float> logits(static_cast<size_t>(n * model->text().vocab_size));
    EXPECT_OK(decoder->forward(input.view(), logits, true,
                               [&](const std::string& name, const float* values, int64_t rows, int64_t cols) {
                                 limit = budget.limit(name);
                                 checker.see(name, std::vector<float>(values, values + rows * cols), limit);
                               },
                               {}));
    for (const std::string& name : golden.activations()) EXPECT_TRUE(checker.seen().contains(name)) << name;
    EXPECT_EQ(checker.first_wrong(), "");
    checker.see("logits", logits, limit);
    EXPECT_EQ(checker.first_wrong(), "") << "as returned";
    if (std::getenv("GLIMPSE_TEST_VERBOSE") != nullptr) {
      printf("%s %s: worst NMSE %.3g of %d activations\n", GetParam().name.c_str(), file.c_str(), checker.worst(),
             static_cast<int>(checker.seen().size()));
    }
  });
}

TEST_P(GoldenModel, GreedyTokensEqualThoseOfTransformers) {
  on_each_case([&](const std::string& folder, const std::string&, const GoldenCase& golden,
                   const std::shared_ptr<const Model>& model, Ops& ops) {
    const auto decoder = must(testing::OneText::create(model, ops, 128, 128, GetParam().kv));
    std::vector<float> logits(static_cast<size_t>(model->text().vocab_size));
    testing::ErrorBudget budget(GetParam(), folder, &golden);
    double limit = 0;  // of the logits
    const auto tap = [&](const std::string& name, const float*, int64_t, int64_t) { limit = budget.limit(name); };
    const CaseInput input = testing::case_input(
        *model, golden, testing::encode_pictures(model, ops, golden, [&](int, const std::string& name, auto) {
          limit = budget.limit(name);
        }));
    EXPECT_OK(decoder->forward(input.view(), logits, false, tap, {}));
    int32_t next = 0;  // one more than the greatest position component so far
    for (const MropePosition& p : input.positions) next = std::max({next, p.t + 1, p.h + 1, p.w + 1});
    for (const int32_t want : golden.ints("greedy")) {
      const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      // A less exact backend may turn a near tie: two logits are each off by sqrt(NMSE) of the logits' size, and 4
      // standard deviations of their difference are allowed. It then follows the reference, so that the next step
      // means something.
      double square = 0;
      for (const float v : logits) square += static_cast<double>(v) * v / static_cast<double>(logits.size());
      const double tie = GetParam().reference ? 0 : 4 * std::sqrt(2 * limit * square);
      ASSERT_LE(logits[static_cast<size_t>(best)] - logits[static_cast<size_t>(want)], tie)
          << "token " << best << " instead of " << want;
      const MropePosition position{next, next, next};
      ++next;
      EXPECT_OK(decoder->forward({std::span(&want, 1), std::span(&position, 1), {}}, logits, false, {}, {}));
    }
  });
}

TEST_P(GoldenModel, OldConversionGivesTheSameEmbeddings) {
  for (const std::string folder : {"tied", "qwen25vl"}) {
    const GoldenCase golden(folder + "/case-image.gguf");
    std::vector<float> embeddings[2];
    for (int i = 0; i < 2; ++i) {
      const auto model = testing::load_golden(folder, GetParam(), i == 0 ? "mmproj.gguf" : "mmproj-legacy.gguf");
      const auto ops = testing::make_ops(*model, GetParam());
      embeddings[i] = testing::encode_pictures(model, *ops, golden, nullptr);
    }
    EXPECT_FALSE(embeddings[0].empty());
    EXPECT_EQ(embeddings[0], embeddings[1]) << folder;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, GoldenModel, ::testing::ValuesIn(testing::golden_backends()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace glimpse
