#include "engine/model/decode_steps.h"

#include <algorithm>
#include <utility>

namespace glimpse {
namespace {

// Positions that a step of these rows needs.
int64_t positions_of(std::span<const StepRow> rows) {
  int64_t n = 0;
  for (const StepRow& row : rows) n = std::max({n, row.from.n_past + 1, row.from.rope_row + 1});
  return n;
}

bool same_draws(std::span<const StepRow> rows, std::span<const DrawOptions> draws) {
  return std::equal(rows.begin(), rows.end(), draws.begin(), draws.end(),
                    [](const StepRow& row, const DrawOptions& draw) { return row.draw == draw; });
}

std::vector<float> luck_of(std::span<const StepRow> rows, size_t step) {
  std::vector<float> luck;
  for (const StepRow& row : rows) luck.push_back(row.uniform[step]);
  return luck;
}

}  // namespace

// Whether the oldest step that was begun is the one that is asked for, or the next to begin is.
bool DecodeSteps::goes_on(std::span<const StepRow> rows) const {
  const bool same = std::equal(rows.begin(), rows.end(), from_.begin(), from_.end(),
                               [](const StepRow& row, const StepStart& from) { return row.from == from; });
  return running_ && same && same_draws(rows, draws_) && positions_of(rows) <= n_positions_ &&
         (uniforms_.empty() || uniforms_.front() == luck_of(rows, 0));
}

// Makes the next step to take the one that `rows` ask for. False: there is no program for it.
Result<bool> DecodeSteps::prepare(std::span<const StepRow> rows) {
  const int64_t needed = positions_of(rows);
  if (refused_ || needed > max_positions_) return false;
  if (goes_on(rows)) return true;
  running_ = false;
  uniforms_.clear();
  if (program_ == nullptr || !same_draws(rows, draws_) || needed > n_positions_) {
    int64_t n_positions = kFewestPositions;
    while (n_positions < needed) n_positions *= 2;
    n_positions = std::min(n_positions, max_positions_);
    program_ = nullptr;
    draws_.clear();
    for (const StepRow& row : rows) draws_.push_back(row.draw);
    GLIMPSE_ASSIGN(program_, record_(n_positions, draws_));
    refused_ = program_ == nullptr;
    if (refused_) return false;
    n_positions_ = n_positions;
  }
  from_.clear();
  for (const StepRow& row : rows) from_.push_back(row.from);
  GLIMPSE_TRY(program_->start(from_));
  running_ = true;
  return true;
}

Result<bool> DecodeSteps::next(std::span<const StepRow> rows, std::span<int32_t> tokens) {
  GLIMPSE_ASSIGN(const bool ready, prepare(rows));
  if (!ready) return false;
  running_ = false;  // until all went well
  auto wanted = static_cast<size_t>(std::min(n_positions_ - positions_of(rows) + 1, StepProgram::kMostAhead));
  for (const StepRow& row : rows) wanted = std::min(wanted, row.uniform.size());
  while (uniforms_.size() < wanted) {
    std::vector<float> luck = luck_of(rows, uniforms_.size());
    GLIMPSE_TRY(program_->play(luck));
    uniforms_.push_back(std::move(luck));
  }
  GLIMPSE_TRY(program_->take(tokens));
  uniforms_.pop_front();
  if (std::any_of(tokens.begin(), tokens.end(), [](int32_t token) { return token < 0; })) return false;
  for (size_t i = 0; i < rows.size(); ++i) from_[i] = {tokens[i], rows[i].from.n_past + 1, rows[i].from.rope_row + 1};
  running_ = true;
  return true;
}

}  // namespace glimpse
