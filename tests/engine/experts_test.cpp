// Networks of experts: the choice by hand, the oracle against its definition, and the fast backend against the oracle,
// with the same bits for any company, cut and number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "engine/base/half.h"
#include "engine/runtime/routing.h"
#include "tests/engine/expert_network.h"
#include "tests/engine/golden_support.h"

namespace glimpse {
namespace {

using testing::ForcedIsa;
using testing::must;
using testing::Network;

struct Choice {
  std::vector<float> expert, weight;
};
Choice choose(const std::vector<float>& scores, int64_t n_used, bool normalize) {
  Choice c{std::vector<float>(static_cast<size_t>(n_used)), std::vector<float>(static_cast<size_t>(n_used))};
  choose_experts(scores.data(), static_cast<int64_t>(scores.size()), n_used, normalize, c.expert.data(),
                 c.weight.data());
  return c;
}

TEST(ChooseExperts, TakesTheBestInAscendingOrder) {
  const Choice c = choose({std::log(1.0f), std::log(4.0f), std::log(2.0f), std::log(3.0f)}, 2, false);
  EXPECT_EQ(c.expert, (std::vector<float>{1, 3}));
  EXPECT_NEAR(c.weight[0], 0.4, 1e-6);
  EXPECT_NEAR(c.weight[1], 0.3, 1e-6);
  const Choice whole = choose({std::log(1.0f), std::log(4.0f), std::log(2.0f), std::log(3.0f)}, 2, true);
  EXPECT_NEAR(whole.weight[0], 4.0 / 7, 1e-6);
  EXPECT_NEAR(whole.weight[1], 3.0 / 7, 1e-6);
}

TEST(ChooseExperts, OfEqualScoresTheLowerNumbers) {
  EXPECT_EQ(choose({1, 2, 2, 2, 1}, 2, false).expert, (std::vector<float>{1, 2}));
  EXPECT_EQ(choose({0, 0, 0}, 3, true).expert, (std::vector<float>{0, 1, 2}));
  EXPECT_EQ(choose({5}, 1, true).weight, (std::vector<float>{1}));
}

TEST(ChooseExperts, ExtremesAreSafe) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& scores :
       {std::vector<float>{nan, 1, 2}, {1, nan, 2}, {nan, nan, nan}, {inf, 0, inf}, {-inf, -inf, -inf}}) {
    const Choice c = choose(scores, 2, true);
    for (const float e : c.expert) EXPECT_TRUE(e >= 0 && e < 3);
    EXPECT_TRUE(std::isnan(c.weight[0]) || std::isnan(c.weight[1]));
  }
  const Choice far = choose({1e30f, -1e30f, 0}, 2, true);
  EXPECT_EQ(far.expert, (std::vector<float>{0, 2}));
  EXPECT_EQ(far.weight, (std::vector<float>{1, 0}));
}

struct Outcome {
  std::vector<float> x, activations, weights;
  bool operator==(const Outcome&) const = default;
};

// x += network(RMSNorm(x)), rows [first, first + count) of `input`.
Outcome run(Ops& ops, const Network& network, const ExpertWeights& w, const std::vector<float>& input, int64_t first,
            int64_t count) {
  const int64_t h = network.hidden, slots = w.n_slots();
  Outcome out;
  out.x.assign(input.begin() + first * h, input.begin() + (first + count) * h);
  out.activations.resize(static_cast<size_t>(count * w.row_width()));
  out.weights.resize(static_cast<size_t>(count * slots));
  std::vector<float> scores(static_cast<size_t>(count * w.n_experts())), experts(static_cast<size_t>(count * w.n_used));
  std::unique_ptr<BackendBuffer> ones = must(ops.allocate(h, "norm"));
  std::fill_n(ones->data, h, 1.0f);
  const Norm norm{Norm::Kind::kRms, std::shared_ptr<const BackendBuffer>(std::move(ones)), nullptr, 1e-6f, h};
  const Routing routing{Mat::contiguous(scores.data(), count, w.n_experts()),
                        Mat::contiguous(experts.data(), count, w.n_used),
                        Mat::contiguous(out.weights.data(), count, slots)};
  const Mat x = Mat::contiguous(out.x.data(), count, h),
            activations = Mat::contiguous(out.activations.data(), count, w.row_width());
  EXPECT_OK(ops.reserve(count, std::max({h, network.width, network.shared_width})));
  EXPECT_OK(ops.reserve_experts(count, w));
  EXPECT_OK(ops.run([&] {
    ops.norm_experts(x, norm, w, routing, activations);
    ops.experts_add(activations, w, routing, x);
  }));
  return out;
}

TEST(Experts, TheOracleByHand) {
  // Experts of one activation: gate 1, up e + 1, down 1; a row of (1, 0) scores 0, 1, 2 and takes the last two.
  const auto ops = make_ref_ops();
  const auto matrix = [&](std::vector<float> values, int64_t rows, int64_t cols) {
    WeightSource source;
    source.type = DType::kF32;
    source.rows = rows;
    source.cols = cols;
    source.read_rows = [values = std::move(values), cols](int64_t first, int64_t count, std::span<std::byte> out) {
      std::memcpy(out.data(), values.data() + first * cols, static_cast<size_t>(count * cols) * 4);
      return Status();
    };
    return Linear{must(ops->pack(source, WeightPrecision::kAsStored)), nullptr};
  };
  ExpertWeights w;
  w.n_used = 2;
  w.router = matrix({0, 0, 1, 0, 2, 0}, 3, 2);
  for (int e = 0; e < 3; ++e) {
    w.gate.push_back(matrix({1, 0}, 1, 2));
    w.up.push_back(matrix({static_cast<float>(e + 1), 0}, 1, 2));
    w.down.push_back(matrix({1, static_cast<float>(e)}, 2, 1));
  }
  w.shared_router = matrix({0, 0}, 1, 2);  // sigmoid(0) = 1/2
  w.shared_gate = matrix({1, 0}, 1, 2);
  w.shared_up = matrix({10, 0}, 1, 2);
  w.shared_down = matrix({0, 1}, 2, 1);
  std::vector<float> x = {1, 0}, scores(3), experts(2), weights(3), activations(3);
  const Routing routing{Mat::contiguous(scores.data(), 1, 3), Mat::contiguous(experts.data(), 1, 2),
                        Mat::contiguous(weights.data(), 1, 3)};
  ops->norm_experts(Mat::contiguous(x.data(), 1, 2), Norm{}, w, routing, Mat::contiguous(activations.data(), 1, 3));
  const double silu = 1 / (1 + std::exp(-1.0)), total = 1 + std::exp(1.0) + std::exp(2.0);
  EXPECT_EQ(experts, (std::vector<float>{1, 2}));
  EXPECT_NEAR(weights[0], std::exp(1.0) / total, 1e-6);
  EXPECT_NEAR(weights[1], std::exp(2.0) / total, 1e-6);
  EXPECT_EQ(weights[2], 0.5f);
  EXPECT_NEAR(activations[0], 2 * silu, 1e-6);
  EXPECT_NEAR(activations[1], 3 * silu, 1e-6);
  EXPECT_NEAR(activations[2], 10 * silu, 1e-6);
  ops->experts_add(Mat::contiguous(activations.data(), 1, 3), w, routing, Mat::contiguous(x.data(), 1, 2));
  EXPECT_NEAR(x[0], 1 + silu * (2 * weights[0] + 3 * weights[1]), 1e-6);
  EXPECT_NEAR(x[1], silu * (2 * weights[0] + 6 * weights[1] + 5), 1e-6);
}

const Network kNetworks[] = {
    {48, 37, 45, 6, 2, false, DType::kF32, DType::kF32},    {64, 34, 0, 9, 3, true, DType::kF16, DType::kBF16},
    {256, 64, 96, 16, 4, true, DType::kQ8_0, DType::kQ8_0}, {256, 256, 256, 12, 8, true, DType::kQ4_K, DType::kQ6_K},
    {32, 16, 0, 1, 1, false, DType::kF32, DType::kF32},
};

TEST(Experts, EveryInstructionSetAgreesWithTheOracle) {
  for (const Network& shape : kNetworks) {
    Network network = shape;
    const auto ref = make_ref_ops();
    const ExpertWeights ref_weights = network.pack(*ref);
    const std::vector<float> input = network.gaussian(19 * network.hidden, 1);
    const Outcome want = run(*ref, network, ref_weights, input, 0, 19);
    for (const Isa isa : all_isas()) {
      if (!detect_isa().has(isa)) continue;
      SCOPED_TRACE(std::string(isa_name(isa)) + " " + dtype_name(network.gate));
      const ForcedIsa forced(isa);
      const auto ops = must(make_cpu_ops({.n_threads = 2}));
      const ExpertWeights weights = network.pack(*ops);
      const Outcome got = run(*ops, network, weights, input, 0, 19);
      const bool quantized = network.gate == DType::kQ8_0 || network.gate == DType::kQ4_K;
      const double limit = quantized ? 2e-4 : network.gate == DType::kF16 ? 2e-5 : 1e-11;
      EXPECT_LE(testing::nmse(got.weights, want.weights), 1e-11);
      EXPECT_LE(testing::nmse(got.activations, want.activations), 2 * limit);
      EXPECT_LE(testing::nmse(got.x, want.x), 2 * limit);
    }
  }
}

TEST(Experts, ARowHasTheSameBitsInAnyCompany) {
  constexpr int64_t kRows = 700;  // more than a chunk
  for (const Network& shape : kNetworks) {
    SCOPED_TRACE(dtype_name(shape.gate));
    Network network = shape;
    const auto one = must(make_cpu_ops({.n_threads = 1}));
    const ExpertWeights weights = network.pack(*one);
    const std::vector<float> input = network.gaussian(kRows * network.hidden, 1);
    const Outcome want = run(*one, network, weights, input, 0, kRows);
    for (const int n_threads : {2, 3, 7}) {
      const auto ops = must(make_cpu_ops({.n_threads = n_threads}));
      EXPECT_TRUE(run(*ops, network, weights, input, 0, kRows) == want) << n_threads << " threads";
    }
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {5, 1}, {300, 33}, {511, 130}, {699, 1}}) {
      const Outcome got = run(*one, network, weights, input, first, count);
      const auto part = [&](const std::vector<float>& all, int64_t width) {
        return std::vector<float>(all.begin() + first * width, all.begin() + (first + count) * width);
      };
      EXPECT_EQ(got.x, part(want.x, network.hidden)) << count << " rows from " << first;
      EXPECT_EQ(got.activations, part(want.activations, weights.row_width()));
      EXPECT_EQ(got.weights, part(want.weights, weights.n_slots()));
    }
  }
}

}  // namespace
}  // namespace glimpse
