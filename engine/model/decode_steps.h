// Decoding in which the backend draws the tokens: plays a recorded step ahead of the caller and hands out what it drew.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/result.h"
#include "engine/runtime/ops.h"

namespace glimpse {

/// A row of a step: where it stands, how its token is drawn, and the luck of this draw and of those that may be begun
/// ahead of their call, at least one number.
struct StepRow {
  StepStart from;
  DrawOptions draw;
  std::span<const float> uniform;
};

/// Begins steps before they are asked for, in the guess that each goes on from the one before. A call that does not
/// (another token, slot, draw) starts over, and what was begun is forgotten.
class DecodeSteps {
 public:
  /// Records a step of a row per draw, for slots and rotation rows below n_positions. nullptr: the backend records
  /// nothing.
  using Record =
      std::function<Result<std::unique_ptr<StepProgram>>(int64_t n_positions, std::span<const DrawOptions> draws)>;

  /// Attention of a recorded step is laid out for a number of positions: the least power of two from this on that holds
  /// them, so that short contexts do not pay for long ones.
  static constexpr int64_t kFewestPositions = 1024;

  /// max_positions: of the caches and of the rotation table.
  DecodeSteps(Record record, int64_t max_positions) : record_(std::move(record)), max_positions_(max_positions) {}

  /// The tokens drawn after `rows`, of one number in all calls. Later calls must bring the same numbers for the same
  /// draws, or the steps begun are worthless; as many are begun as every row has numbers for. False: no step can do it
  /// (a backend without them, a row that is not finite, a position outside the table); the caller runs the pass itself.
  /// Errors: those of the backend; the next call starts over.
  Result<bool> next(std::span<const StepRow> rows, std::span<int32_t> tokens);
  /// What was begun is worthless: a cache has changed.
  void forget() { running_ = false; }

 private:
  Result<bool> prepare(std::span<const StepRow> rows);
  bool goes_on(std::span<const StepRow> rows) const;

  const Record record_;
  const int64_t max_positions_;
  bool refused_ = false;  // the backend records nothing
  std::unique_ptr<StepProgram> program_;
  int64_t n_positions_ = 0;  // that it was recorded for
  std::vector<DrawOptions> draws_;
  bool running_ = false;                     // the steps begun go on from from_
  std::vector<StepStart> from_;              // of the next step to take
  std::deque<std::vector<float>> uniforms_;  // of the steps begun and not taken
};

}  // namespace glimpse
