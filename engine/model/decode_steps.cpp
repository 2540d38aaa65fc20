#include "engine/model/decode_steps.h"

#include <algorithm>
#include <utility>

namespace glimpse {

// Makes the next step to take the one that `from` asks for. False: there is no program for it.
Result<bool> DecodeSteps::prepare(const StepStart& from, const DrawOptions& draw, float uniform) {
  const int64_t needed = std::max(from.n_past, from.rope_row) + 1;
  if (refused_ || needed > max_positions_) return false;
  const bool same = running_ && from == from_ && draw == draw_ && needed <= n_positions_ &&
                    (uniforms_.empty() || uniforms_.front() == uniform);
  if (same) return true;
  running_ = false;
  uniforms_.clear();
  if (program_ == nullptr || draw != draw_ || needed > n_positions_) {
    int64_t n_positions = kFewestPositions;
    while (n_positions < needed) n_positions *= 2;
    n_positions = std::min(n_positions, max_positions_);
    program_ = nullptr;
    GLIMPSE_ASSIGN(program_, record_(n_positions, draw));
    refused_ = program_ == nullptr;
    if (refused_) return false;
    n_positions_ = n_positions;
    draw_ = draw;
  }
  GLIMPSE_TRY(program_->start(from));
  from_ = from;
  running_ = true;
  return true;
}

Result<std::optional<int32_t>> DecodeSteps::next(const StepStart& from, const DrawOptions& draw,
                                                 std::span<const float> uniform) {
  GLIMPSE_ASSIGN(const bool ready, prepare(from, draw, uniform[0]));
  if (!ready) return std::optional<int32_t>();
  running_ = false;  // until all went well
  const int64_t room = n_positions_ - std::max(from.n_past, from.rope_row);
  const auto wanted =
      static_cast<size_t>(std::min({static_cast<int64_t>(uniform.size()), room, StepProgram::kMostAhead}));
  while (uniforms_.size() < wanted) {
    const float luck = uniform[uniforms_.size()];
    GLIMPSE_TRY(program_->play(luck));
    uniforms_.push_back(luck);
  }
  GLIMPSE_ASSIGN(const int32_t token, program_->take());
  uniforms_.pop_front();
  if (token < 0) return std::optional<int32_t>();
  from_ = {token, from.n_past + 1, from.rope_row + 1};
  running_ = true;
  return std::optional<int32_t>(token);
}

}  // namespace glimpse
