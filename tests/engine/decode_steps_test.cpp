// DecodeSteps against a program that only counts: what is begun ahead, what is forgotten, when it is recorded anew.
#include "engine/model/decode_steps.h"

#include <gtest/gtest.h>

#include <vector>

namespace glimpse {
namespace {

// Tokens are made of all that a step depends on, so that a stale one shows.
int32_t token_after(const StepStart& from, float uniform) {
  return static_cast<int32_t>((from.token * 31 + from.n_past * 7 + from.rope_row * 3) % 1000) +
         static_cast<int32_t>(uniform * 1000) * 1000;
}

struct Log {
  int recorded = 0, started = 0, played = 0, taken = 0;
  int64_t n_positions = 0, furthest = 0;  // of the last recording; the last slot that any step had
  DrawOptions draw;
  int fail_play_at = -1;
  bool not_finite = false;
};

class CountingProgram final : public StepProgram {
 public:
  explicit CountingProgram(Log& log) : log_(log) {}
  Status start(std::span<const StepStart> rows) override {
    ++log_.started;
    at_ = rows[0];
    drawn_.clear();
    return {};
  }
  Status play(std::span<const float> luck) override {
    const float uniform = luck[0];
    if (log_.played == log_.fail_play_at) return make_error(ErrorCode::kDevice, "the device is gone");
    ++log_.played;
    log_.furthest = std::max(log_.furthest, at_.n_past);
    EXPECT_LT(std::max(at_.n_past, at_.rope_row), log_.n_positions);
    drawn_.push_back(token_after(at_, uniform));
    at_ = {drawn_.back(), at_.n_past + 1, at_.rope_row + 1};
    EXPECT_LE(static_cast<int64_t>(drawn_.size()), kMostAhead);
    return {};
  }
  Status take(std::span<int32_t> tokens) override {
    ++log_.taken;
    if (drawn_.empty()) return make_error(ErrorCode::kInternal, "nothing was begun");
    const int32_t token = drawn_.front();
    drawn_.erase(drawn_.begin());
    tokens[0] = log_.not_finite ? -1 : token;
    return {};
  }

 private:
  Log& log_;
  StepStart at_;
  std::vector<int32_t> drawn_;
};

// A call for one row: the token, or none.
Result<std::optional<int32_t>> next(DecodeSteps& steps, const StepStart& from, const DrawOptions& draw,
                                    std::span<const float> uniform) {
  const StepRow row{from, draw, uniform};
  int32_t token = 0;
  GLIMPSE_ASSIGN(const bool drawn, steps.next(std::span(&row, 1), std::span(&token, 1)));
  return drawn ? std::optional(token) : std::nullopt;
}

class Steps : public ::testing::Test {
 protected:
  DecodeSteps make(int64_t max_positions) {
    return DecodeSteps(
        [this](int64_t n_positions, std::span<const DrawOptions> draws) {
          ++log_.recorded;
          log_.n_positions = n_positions;
          log_.draw = draws[0];
          return Result<std::unique_ptr<StepProgram>>(std::make_unique<CountingProgram>(log_));
        },
        max_positions);
  }
  // One call: what it must draw, and what it drew.
  int32_t expect_next(DecodeSteps& steps, const StepStart& from, std::vector<float> uniform, DrawOptions draw = {}) {
    const auto got = next(steps, from, draw, uniform);
    EXPECT_TRUE(got.ok());
    if (!got.ok() || !got.value()) return -1;
    EXPECT_EQ(*got.value(), token_after(from, uniform[0]));
    return *got.value();
  }
  Log log_;
};

TEST_F(Steps, GoOnAheadOfTheCaller) {
  DecodeSteps steps = make(4096);
  StepStart from{5, 20, 11};
  for (int i = 0; i < 50; ++i) {
    from = {expect_next(steps, from, {0, 0, 0}), from.n_past + 1, from.rope_row + 1};
  }
  EXPECT_EQ(log_.recorded, 1);
  EXPECT_EQ(log_.started, 1);
  EXPECT_EQ(log_.taken, 50);
  EXPECT_EQ(log_.played, 52);  // two ahead
}

TEST_F(Steps, NoneIsBegunForWhichNoNumberWasGiven) {
  DecodeSteps steps = make(4096);
  StepStart from{5, 20, 20};
  for (size_t left = 3; left > 0; --left) {
    from = {expect_next(steps, from, std::vector<float>(left)), from.n_past + 1, from.rope_row + 1};
  }
  EXPECT_EQ(log_.played, 3);
  EXPECT_EQ(log_.furthest, 22);
  expect_next(steps, from, {0});  // goes on where it stands
  EXPECT_EQ(log_.started, 1);
}

TEST_F(Steps, StartOverWhereTheGuessWasWrong) {
  DecodeSteps steps = make(4096);
  const StepStart from{5, 20, 20};
  const int32_t token = expect_next(steps, from, {0, 0, 0});
  expect_next(steps, {token + 1, 21, 21}, {0, 0, 0});  // another token
  EXPECT_EQ(log_.started, 2);
  expect_next(steps, {token + 1, 21, 21}, {0, 0, 0});  // the same slot again
  EXPECT_EQ(log_.started, 3);
  expect_next(steps, {token, 30, 21}, {0, 0, 0});  // another slot
  expect_next(steps, {token, 30, 22}, {0, 0, 0});  // another position
  EXPECT_EQ(log_.started, 5);
  EXPECT_EQ(log_.recorded, 1);
}

TEST_F(Steps, OtherLuckThanTheStepsBegunHadStartsOver) {
  DecodeSteps steps = make(4096);
  StepStart from{5, 20, 20};
  from = {expect_next(steps, from, {0.25f, 0.5f, 0.75f}), 21, 21};
  from = {expect_next(steps, from, {0.5f, 0.75f, 0.125f}), 22, 22};
  EXPECT_EQ(log_.started, 1);
  expect_next(steps, from, {0.625f, 0.5f, 0.25f});
  EXPECT_EQ(log_.started, 2);
}

TEST_F(Steps, OtherDrawsAreRecordedAnew) {
  DecodeSteps steps = make(4096);
  StepStart from{5, 20, 20};
  from = {expect_next(steps, from, {0, 0}), 21, 21};
  expect_next(steps, from, {0, 0}, {.temperature = 1, .top_k = 3});
  EXPECT_EQ(log_.recorded, 2);
  EXPECT_EQ(log_.draw, (DrawOptions{.temperature = 1, .top_k = 3}));
}

TEST_F(Steps, ForgetStartsOver) {
  DecodeSteps steps = make(4096);
  StepStart from{5, 20, 20};
  from = {expect_next(steps, from, {0, 0}), 21, 21};
  steps.forget();
  expect_next(steps, from, {0, 0});
  EXPECT_EQ(log_.started, 2);
}

TEST_F(Steps, LongerContextsAreRecordedByPowersOfTwoUpToTheCache) {
  DecodeSteps steps = make(5000);
  std::vector<int64_t> recorded;
  StepStart from{5, 1000, 990};
  for (; from.n_past < 5000; from = {expect_next(steps, from, {0, 0, 0}), from.n_past + 1, from.rope_row + 1}) {
    if (recorded.empty() || recorded.back() != log_.n_positions) recorded.push_back(log_.n_positions);
  }
  EXPECT_EQ(recorded, (std::vector<int64_t>{0, 1024, 2048, 4096, 5000}));
  EXPECT_EQ(log_.n_positions, 5000);
  EXPECT_EQ(log_.recorded, 4);
  EXPECT_EQ(log_.furthest, 4999);  // nothing was begun past the last slot
  const auto past = next(steps, from, {}, std::vector<float>{0});
  ASSERT_TRUE(past.ok());
  EXPECT_FALSE(past.value().has_value());
}

TEST_F(Steps, RowThatIsNotFiniteIsNobodysToken) {
  DecodeSteps steps = make(4096);
  log_.not_finite = true;
  const auto got = next(steps, {5, 20, 20}, {}, std::vector<float>{0, 0});
  ASSERT_TRUE(got.ok());
  EXPECT_FALSE(got.value().has_value());
  log_.not_finite = false;
  expect_next(steps, {5, 20, 20}, {0, 0});
  EXPECT_EQ(log_.started, 2);
}

TEST_F(Steps, ErrorsAreSaidAndTheNextCallStartsOver) {
  DecodeSteps steps = make(4096);
  log_.fail_play_at = 1;
  const auto got = next(steps, {5, 20, 20}, {}, std::vector<float>{0, 0});
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().message, "the device is gone");
  log_.fail_play_at = -1;
  expect_next(steps, {5, 20, 20}, {0, 0});
  EXPECT_EQ(log_.started, 2);
}

TEST_F(Steps, BackendWithoutThemIsAskedOnce) {
  int asked = 0;
  DecodeSteps steps(
      [&](int64_t, std::span<const DrawOptions>) {
        ++asked;
        return Result<std::unique_ptr<StepProgram>>(std::unique_ptr<StepProgram>());
      },
      4096);
  for (int i = 0; i < 3; ++i) {
    const auto got = next(steps, {5, 20, 20}, {}, std::vector<float>{0});
    ASSERT_TRUE(got.ok());
    EXPECT_FALSE(got.value().has_value());
  }
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace glimpse
