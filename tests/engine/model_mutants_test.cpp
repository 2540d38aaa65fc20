// Hundreds of golden pairs, each with one to three changes of meaning: refused in words, or run to finite numbers. The
// long run: GLIMPSE_MUTANTS=100000 test_engine --gtest_filter='*ModelMutants.*'; a failure names its seed, and
// GLIMPSE_MUTANT_SEED=N runs that one alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "tests/engine/golden_support.h"
#include "tests/fuzz/model_mutant.h"
#include "tests/fuzz/run_model.h"

namespace glimpse {
namespace {

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class ModelMutants : public ::testing::TestWithParam<const char*> {};  // the folder of a golden pair

TEST_P(ModelMutants, AreRefusedOrRun) {
  const std::string folder = GetParam();
  const GgufFile text = testing::must(GgufFile::open(testing::golden_path(folder + "/model.gguf")));
  const GgufFile vision = testing::must(GgufFile::open(testing::golden_path(folder + "/mmproj.gguf")));
  const std::string whole = fuzz::ModelMutant(text).build();
  const uint64_t one = number_from("GLIMPSE_MUTANT_SEED", UINT64_MAX);
  const uint64_t first = one == UINT64_MAX ? 0 : one,
                 count = one == UINT64_MAX ? number_from("GLIMPSE_MUTANTS", folder == "tied" ? 300 : 100) : 1;
  size_t n_refused = 0, n_numeric = 0, n_run = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    std::vector<uint8_t> program(5 * (1 + random() % 3));
    for (uint8_t& byte : program) byte = static_cast<uint8_t>(random());
    const bool of_vision = seed % 2 == 1, reference = seed % 16 == 2;
    fuzz::ModelMutant mutant(of_vision ? vision : text);
    const std::string bytes = mutant.apply(program).build();
    const fuzz::ModelRun run = fuzz::run_model(of_vision ? whole : bytes, of_vision ? bytes : std::string(), reference);
    EXPECT_TRUE(fuzz::is_sane(run)) << "seed " << seed << ": "
                                    << (run.error ? run.error->message : "numbers that are not finite");
    if (!run.loaded) {
      ++n_refused;
    } else if (run.error) {
      ++n_numeric;
    } else {
      ++n_run;
    }
  }
  if (one != UINT64_MAX) return;
  // All three happen, so that the mutants are worth something.
  EXPECT_GT(n_refused, count / 4);
  EXPECT_GT(n_run, count / 10);
  RecordProperty("refused", static_cast<int>(n_refused));
  RecordProperty("not_finite", static_cast<int>(n_numeric));
  RecordProperty("run", static_cast<int>(n_run));
}

INSTANTIATE_TEST_SUITE_P(Pairs, ModelMutants, ::testing::Values("tied", "qwen25vl", "qwen3vl", "qwen3vlmoe-f16"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace glimpse
