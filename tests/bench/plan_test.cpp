// Which tests a request makes, and what they are called.
#include "bench/engine/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace glimpse::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names(const PlanRequest& request) {
  const auto plan = make_plan(request);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  std::vector<std::string> found;
  if (plan.ok()) {
    for (const TestSpec& test : plan.value()) found.push_back(test_name(test));
  }
  return found;
}

std::string error_of(const PlanRequest& request) {
  const auto plan = make_plan(request);
  return plan.ok() ? "" : plan.error().message;
}

TEST(Plan, NothingAskedForGivesTheDefaults) {
  PlanRequest request;
  EXPECT_THAT(names(request), ElementsAre("pp512", "tg128"));
  request.has_vision = true;
  EXPECT_THAT(names(request), ElementsAre("pp512", "tg128", "img448x448", "ttft 448x448+25"));
}

TEST(Plan, TextTestsAreNamedAsInLlamaBench) {
  PlanRequest request;
  request.n_prompt = {128, 512};
  request.n_depth = {0, 2048};
  request.prompt_and_gen = {"32,8"};
  EXPECT_THAT(names(request), ElementsAre("pp128", "pp512", "tg128", "pp32+tg8", "pp128 @ d2048", "pp512 @ d2048",
                                          "tg128 @ d2048", "pp32+tg8 @ d2048"));
}

TEST(Plan, ConversationsShareTheirPasses) {
  PlanRequest request;
  request.n_prompt = {0};
  request.n_gen = {16};
  request.n_depth = {0, 64};
  request.n_parallel = {1, 2, 8};
  EXPECT_THAT(names(request),
              ElementsAre("tg16", "tg16 x2", "tg16 x8", "tg16 @ d64", "tg16 x2 @ d64", "tg16 x8 @ d64"));
  for (const int64_t bad : {0, -1, 257}) {
    request.n_parallel = {bad};
    EXPECT_THAT(error_of(request), HasSubstr("conversations"));
  }
}

TEST(Plan, ZeroTurnsADefaultOff) {
  PlanRequest request;
  request.n_prompt = {0};
  EXPECT_THAT(names(request), ElementsAre("tg128"));
  request.n_gen = {0};
  EXPECT_THAT(error_of(request), HasSubstr("no test is left"));
}

TEST(Plan, PictureTestsAloneBringNoTextTests) {
  PlanRequest request;
  request.has_vision = true;
  request.images = {"448x896", "a/cat.jpg", "x", "12x", "4x4.png"};
  request.first_token = {"448x448+25", "cat+1.jpg+3", "7"};
  request.end_to_end = {"28x28+5+64", "5+9"};
  EXPECT_THAT(names(request),
              ElementsAre("img448x896", "img a/cat.jpg", "img x", "img 12x", "img 4x4.png", "ttft 448x448+25",
                          "ttft cat+1.jpg+3", "ttft 7", "e2e 28x28+5+64", "e2e 5+9"));
  const auto plan = make_plan(request);
  EXPECT_EQ(plan.value()[0].picture->width, 448);
  EXPECT_EQ(plan.value()[0].picture->height, 896);
  EXPECT_EQ(plan.value()[1].picture->width, 0);
  EXPECT_EQ(plan.value()[5].n_text, 25);
  EXPECT_EQ(plan.value()[5].n_gen, 1);
  EXPECT_EQ(plan.value()[6].picture->text, "cat+1.jpg");
  EXPECT_FALSE(plan.value()[7].picture.has_value());
  EXPECT_EQ(plan.value()[8].n_gen, 64);
}

TEST(Plan, RejectsWhatMakesNoSense) {
  const auto with = [](auto change) {
    PlanRequest request;
    request.has_vision = true;
    change(request);
    return error_of(request);
  };
  EXPECT_THAT(with([](PlanRequest& r) { r.n_prompt = {-1}; }), HasSubstr("-1"));
  EXPECT_THAT(with([](PlanRequest& r) { r.n_gen = {int64_t{1} << 40}; }), HasSubstr("generated tokens"));
  EXPECT_THAT(with([](PlanRequest& r) { r.n_depth = {-3}; }), HasSubstr("depth"));
  for (const char* pair : {"", "5", "5,", ",5", "5,x", "5,6,7", "0,5", "5,0"}) {
    EXPECT_NE(with([&](PlanRequest& r) { r.prompt_and_gen = {pair}; }), "") << pair;
  }
  for (const char* size : {"", "0x5", "5x0", "16385x5", "-5x5", "99999999999x5"}) {
    EXPECT_NE(with([&](PlanRequest& r) { r.images = {size}; }), "") << size;
  }
  for (const char* turn : {"", "+", "cat.jpg", "448x448", "448x448+", "448x448+0", "448x448+x", "0x5+5"}) {
    EXPECT_NE(with([&](PlanRequest& r) { r.first_token = {turn}; }), "") << turn;
  }
  for (const char* turn : {"", "5", "448x448+5", "5+0", "0+5", "448x448+5+"}) {
    EXPECT_NE(with([&](PlanRequest& r) { r.end_to_end = {turn}; }), "") << turn;
  }
}

TEST(Plan, PicturesNeedTheVisionEncoder) {
  PlanRequest request;
  request.images = {"448x448"};
  EXPECT_THAT(error_of(request), HasSubstr("--mmproj"));
  PlanRequest turn;
  turn.first_token = {"28x28+5"};
  EXPECT_THAT(error_of(turn), HasSubstr("--mmproj"));
  turn.first_token = {"5"};
  EXPECT_THAT(names(turn), ElementsAre("ttft 5"));
}

}  // namespace
}  // namespace glimpse::bench
