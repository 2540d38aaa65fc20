// Repeats tests and collects what is reported of each.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/engine/engine.h"
#include "bench/engine/op_cost.h"
#include "bench/engine/plan.h"
#include "bench/engine/statistics.h"
#include "bench/probe/gpu_roofline.h"

namespace glimpse::bench {

struct RunnerOptions {
  int repetitions = 5;
  bool warm_up = true;
  bool roofline = true;  // measured before each test
  bool profile = false;  // one more repetition of each test, with every operation recorded
  int64_t batch = 512;
  KvElement kv_element = KvElement::kF16;
  ResizeLimits image_limits;
  uint64_t seed = 1;  // of random tokens and texts
  RooflineOptions probe;
  std::function<Result<Roofline>()> gpu_roofline = measure_gpu_roofline;  // instead, for a model on a GPU
  ProgressSink progress;                                                  // returning false cancels
};

/// The repetition that was recorded.
struct Profile {
  Timeline timeline;
  std::vector<OpRecord> records;
};

struct TestResult {
  TestSpec spec;
  std::string name;
  int n_threads = 0;
  std::string gpu;        // "NVIDIA H100 80GB HBM3, sm_90"; empty: the test ran on the CPU
  Isa isa = Isa::kRef;    // of the CPU's kernels
  std::string test_time;  // UTC, when the repetitions began
  std::vector<Timeline> samples;
  int64_t n_prompt = 0, n_gen = 0;  // kText, turns: rows prefilled and tokens drawn (0: none); a picture's rows count
  int64_t n_image_tokens = 0;
  int64_t image_width = 0, image_height = 0;  // of the file
  Cost cost;                                  // of one repetition
  Roofline roofline;
  std::string no_roofline;  // why a GPU's could not be measured
  uint64_t peak_rss = 0;    // of the host
  std::optional<Profile> profile;

  /// What tokens per second are of: prompt and generated tokens, as llama-bench counts them (a first token that comes
  /// from the prefill's logits is no pass and does not count); of a picture alone, its embedding rows.
  int64_t n_tokens() const;
  std::vector<double> samples_ns() const;
  std::vector<double> samples_ts() const;  // tokens per second
  std::vector<ProfileRow> profile_rows() const;
};

class Runner {
 public:
  Runner(std::shared_ptr<const Model> model, RunnerOptions options)
      : model_(std::move(model)), options_(std::move(options)) {}

  /// Errors: those of the engine; kNotFound, kIo, ... of a picture file; kCancelled; kContextFull for more positions
  /// than the model knows.
  Result<TestResult> run(const TestSpec& test, int n_threads);

 private:
  struct Prepared;  // inputs of a test, made before any clock is read
  Result<Prepared> prepare(const TestSpec& test);
  static Status set_up(Engine& engine, const Prepared& input);
  static Status once(Engine& engine, const Prepared& input, Timeline& timeline);
  Status warm_up(Engine& engine, const Prepared& input);
  Result<Cost> count(const Prepared& input, int n_threads, const Roofline& roofline);
  EngineOptions engine_options(int n_threads, ProfiledOps::Mode mode) const;

  const std::shared_ptr<const Model> model_;
  const RunnerOptions options_;
  std::unique_ptr<Engine> engine_;  // of the last test
  int engine_threads_ = 0;
};

}  // namespace glimpse::bench
