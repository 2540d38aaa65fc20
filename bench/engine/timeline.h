// When each stage of one repetition began and ended. Every span has two clock readings of its own, so that what lies
// between the stages shows as a difference between their sum and the whole.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

namespace glimpse::bench {

using Clock = std::chrono::steady_clock;

enum class Stage {
  kDecode,      // picture file to pixels
  kResize,      // to the size that the encoder sees
  kPatches,     // normalised pixels, in merge order
  kPatchEmbed,  // the encoder's convolution, with what prepares the pass
  kBlocks,      // the encoder's blocks ("vit")
  kMerger,      // four patches to one token, and the embedding's way to the host
  kTokenize,    // chat format and text to ids
  kPrefill,     // the decoder over all rows of the prompt; logits of the last
  kSample,      // the first token
  kGenerate,    // single passes, with sampling where there is any
};
constexpr size_t kStages = 10;
/// "decode", "resize", "patches", "patch_embd", "vit", "merger", "tokenize", "prefill", "sample", "generate".
const char* stage_name(Stage stage);

struct StageSpan {
  Stage stage = Stage::kDecode;
  Clock::time_point start, end;
};

struct Timeline {
  Clock::time_point start, end;
  std::vector<StageSpan> spans;

  /// Runs work() as a stage.
  template <typename Work>
  decltype(auto) timed(Stage stage, Work&& work) {
    struct Closer {
      Timeline& timeline;
      const Stage stage;
      const Clock::time_point start = Clock::now();
      ~Closer() { timeline.spans.push_back({stage, start, Clock::now()}); }
    } closer{*this, stage};
    return work();
  }
  double total_ns() const;
  /// Nanoseconds by stage.
  std::array<double, kStages> stage_ns() const;
  double sum_ns() const;
};

}  // namespace glimpse::bench
