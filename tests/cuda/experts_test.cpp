// Networks of experts on the host executor: the choice against that of the host, the products against the oracle, the
// same bits for any cut, and what one row reads.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/model/model.h"
#include "engine/runtime/routing.h"
#include "tests/cuda/side.h"
#include "tests/engine/expert_network.h"

namespace glimpse::cuda {
namespace {

using glimpse::testing::Network;

struct Outcome {
  std::vector<float> experts, weights, activations, x;
  bool operator==(const Outcome&) const = default;
};

void append(std::vector<float>& to, const std::vector<float>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// x += network(RMSNorm(x)) for rows of `input`, as many a call as `cuts` says.
Outcome run(Side& s, const Network& network, const ExpertWeights& w, const std::vector<float>& input,
            const std::vector<int64_t>& cuts) {
  const Norm norm =
      s.norm(Norm::Kind::kRms, network.hidden, std::vector<float>(static_cast<size_t>(network.hidden), 1), {});
  Outcome out;
  int64_t first = 0;
  for (const int64_t n : cuts) {
    const auto from = input.begin() + first * network.hidden;
    const Mat x = s.mat({from, from + n * network.hidden}, n), activations = s.poisoned(n, w.row_width());
    const Routing routing{s.poisoned(n, w.n_experts()), s.poisoned(n, w.n_used), s.poisoned(n, w.n_slots())};
    s.run([&] {
      s->norm_experts(x, norm, w, routing, activations);
      s->experts_add(activations, w, routing, x);
    });
    append(out.experts, s.values(routing.expert));
    append(out.weights, s.values(routing.weight));
    append(out.activations, s.values(activations));
    append(out.x, s.values(x));
    first += n;
  }
  return out;
}

// Of every kind of product: float, half, blocks of 32 and of 256, two formats in one network; with and without a shared
// expert; rows that are no whole tiles; experts that nobody chooses and one that all rows choose.
const Network kNetworks[] = {
    {48, 37, 45, 6, 2, false, DType::kF32, DType::kF32},      {64, 36, 0, 9, 3, true, DType::kF16, DType::kBF16},
    {256, 64, 96, 16, 4, true, DType::kQ8_0, DType::kQ8_0},   {256, 256, 0, 11, 3, true, DType::kQ4_K, DType::kQ6_K},
    {32, 16, 0, 1, 1, false, DType::kF32, DType::kF32},       {64, 32, 32, 5, 5, true, DType::kQ8_0, DType::kF32},
    {64, 32, 0, 6, 2, true, DType::kF16, DType::kQ8_0, true}, {32, 12, 0, 7, 2, true, DType::kF32, DType::kF16, true},
};

struct Way {
  const char* name;
  std::unique_ptr<CudaOps> (*ops)(HostDeviceOptions);
};
constexpr Way kWays[] = {{"warpgroups", [](HostDeviceOptions options) { return warpgroup_ops(options); }},
                         {"other devices", [](HostDeviceOptions options) { return portable_ops(options); }}};

TEST(CudaExperts, AgreeWithTheOracleForFewRowsAndMany) {
  for (const Network& shape : kNetworks) {
    SCOPED_TRACE(std::string(dtype_name(shape.gate)) + " and " + dtype_name(shape.down));
    Network network = shape;
    Side ref(make_ref_ops());
    const ExpertWeights ref_weights = network.pack(*ref);
    const std::vector<float> input = network.gaussian(20 * network.hidden, 1);
    const Outcome want = run(ref, network, ref_weights, input, {20});
    for (const Way& way : kWays) {
      for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{20}, {1, 8, 7, 4}}) {
        SCOPED_TRACE(std::string(way.name) + ", " + std::to_string(cuts[0]) + " rows");
        Side s(way.ops({}));
        const ExpertWeights weights = network.pack(*s);
        const Outcome got = run(s, network, weights, input, cuts);
        const double limit = std::max(limit_of(network.gate, cuts[0]), limit_of(network.down, cuts[0]));
        EXPECT_EQ(got.experts, want.experts);
        EXPECT_LE(nmse(got.weights, want.weights), 1e-11);
        EXPECT_LE(nmse(got.activations, want.activations), 4 * limit);  // a product of two: the errors of both
        EXPECT_LE(nmse(got.x, want.x), 4 * limit);
      }
    }
  }
}

TEST(CudaExperts, ARowHasTheSameBitsInAnyCompany) {
  constexpr int64_t kRows = 26, kFew = 10;  // of passes of many rows, of few
  for (const size_t number : {0, 1, 3, 5}) {
    Network network = kNetworks[number];
    SCOPED_TRACE(std::string(dtype_name(network.gate)) + " and " + dtype_name(network.down));
    const auto compute = [&](const Way& way, HostDeviceOptions options, const std::vector<int64_t>& cuts) {
      Side s(way.ops(options));
      const ExpertWeights weights = network.pack(*s);
      network.random.seed(3);
      return run(s, network, weights, network.gaussian(kRows * network.hidden, 1), cuts);
    };
    const Outcome many = compute(kWays[0], {}, {kRows});
    EXPECT_EQ(compute(kWays[0], {.order = host::Order::kReverse}, {9, 17}), many);
    if (!on_gpu()) {  // whose architectures sum in orders of their own
      EXPECT_EQ(compute(kWays[1], {.order = host::Order::kRandom, .n_multiprocessors = 1}, {13, 13}), many);
    }
    const Outcome one = compute(kWays[0], {}, std::vector<int64_t>(kFew, 1));
    EXPECT_EQ(compute(kWays[0], {.order = host::Order::kRandom, .seed = 5}, {8, 2}), one);
    EXPECT_EQ(compute(kWays[1], {.order = host::Order::kReverse, .n_multiprocessors = 1}, {3, 7}), one);
    if (network.gate == DType::kF32 && network.down == DType::kF32) {
      const auto same = [](const std::vector<float>& part, const std::vector<float>& all) {
        return std::equal(part.begin(), part.end(), all.begin());
      };
      EXPECT_TRUE(same(one.x, many.x) && same(one.activations, many.activations)) << "F32 has one kernel";
    }
  }
}

TEST(CudaExperts, PassesOfMoreRowsThanAreSortedTogetherAreCutIntoPieces) {
  Network network{32, 16, 0, 4, 2, true, DType::kF16, DType::kF16};
  const std::vector<float> input = network.gaussian(1030 * network.hidden, 1);
  const auto compute = [&](const std::vector<int64_t>& cuts) {
    Side s(warpgroup_ops());
    const ExpertWeights weights = network.pack(*s);
    return run(s, network, weights, input, cuts);
  };
  EXPECT_EQ(compute({1030}), compute({500, 530}));
}

// The matrices of other experts are nowhere: who read them would crash.
TEST(CudaExperts, OneRowReadsTheWeightsOfItsExpertsAlone) {
  if (on_gpu()) GTEST_SKIP() << "an access to address 0 would end the test";
  for (const DType type : {DType::kF32, DType::kQ4_K}) {
    Network network{256, 256, 0, 12, 3, true, type, type};
    Side s(host_ops());
    const ExpertWeights weights = network.pack(*s);
    const std::vector<float> input = network.gaussian(network.hidden, 1);
    const Outcome want = run(s, network, weights, input, {1});
    const auto n_experts = static_cast<size_t>(weights.n_experts());
    std::vector<const uint8_t*> index(3 * n_experts);
    std::memcpy(index.data(), weights.index->data, index.size() * sizeof index[0]);
    for (size_t i = 0; i < index.size(); ++i) {
      const auto e = static_cast<float>(i % n_experts);
      if (std::find(want.experts.begin(), want.experts.end(), e) == want.experts.end()) index[i] = nullptr;
    }
    std::memcpy(weights.index->data, index.data(), index.size() * sizeof index[0]);
    EXPECT_EQ(run(s, network, weights, input, {1}), want);
  }
}

// Scores of a router that is the identity.
struct Scores {
  int64_t n_used;
  bool normalize;
  std::vector<float> values;
};
TEST(CudaExperts, ChooseAsTheHostDoes) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  Random random(4);
  std::vector<float> wide = random.gaussian(40, 2), equal(70, 0.5f);
  equal[3] = equal[66] = 1, equal[7] = -0.0f;
  for (const Scores& c : {Scores{2, false, {0, 1, 2, 2, 2, 1}},
                          {3, true, {0, 0, -0.0f, 0}},
                          {20, true, wide},
                          {40, false, wide},
                          {4, true, equal},
                          {1, true, {5}},
                          {2, true, {1e30f, -1e30f, 0}},
                          {2, true, {nan, 1, 2}},
                          {3, false, {-inf, -inf, 1, 2}},
                          {2, false, {inf, 0, inf}}}) {
    const auto n = static_cast<int64_t>(c.values.size());
    std::vector<float> expert(static_cast<size_t>(c.n_used)), weight(expert.size());
    choose_experts(c.values.data(), n, c.n_used, c.normalize, expert.data(), weight.data());
    for (const int64_t rows : {1, 9}) {
      SCOPED_TRACE(std::to_string(c.n_used) + " of " + std::to_string(n) + ", " + std::to_string(rows) + " rows");
      Side s(host_ops());
      Network network{n, 4, 0, n, c.n_used, c.normalize, DType::kF32, DType::kF32};
      ExpertWeights w = network.pack(*s);
      std::vector<float> ones(static_cast<size_t>(n * n));
      for (int64_t i = 0; i < n; ++i) ones[static_cast<size_t>(i * n + i)] = 1;
      const bool finite = std::all_of(c.values.begin(), c.values.end(), [](float v) { return std::isfinite(v); });
      // What is not finite would reach all scores: there the bias says it.
      const std::vector<float> bias = finite ? std::vector<float>() : c.values;
      w.router = s.linear(quantized(DType::kF32, ones, n, n), DType::kF32, n, n, bias);
      std::vector<float> x;
      for (int64_t r = 0; r < rows; ++r) append(x, finite ? c.values : std::vector<float>(c.values.size()));
      const Routing routing{s.poisoned(rows, n), s.poisoned(rows, c.n_used), s.poisoned(rows, c.n_used)};
      const Mat in = s.mat(x, rows), out = s.poisoned(rows, w.row_width());
      s.run([&] { s->norm_experts(in, Norm{}, w, routing, out); });
      const std::vector<float> experts = s.values(routing.expert), weights = s.values(routing.weight);
      for (size_t i = 0; i < experts.size(); ++i) {
        const size_t at = i % expert.size();
        if (std::isnan(weight[0])) {
          EXPECT_TRUE(experts[i] >= 0 && experts[i] < static_cast<float>(n));
          EXPECT_TRUE(std::isnan(weights[i]));
        } else {
          EXPECT_EQ(experts[i], expert[at]);
          EXPECT_NEAR(weights[i], weight[at], 1e-5f * weight[at]);
        }
      }
    }
  }
}

TEST(CudaExperts, TakeTheMemoryThatWasReserved) {
  if (on_gpu()) GTEST_SKIP() << "others use its memory, too";
  Network network{256, 64, 96, 16, 4, true, DType::kQ8_0, DType::kQ8_0};
  for (const Way& way : kWays) {
    Side s(way.ops({}));
    const ExpertWeights weights = network.pack(*s);
    EXPECT_OK(s->reserve(300, 256));
    const uint64_t before = s->available_bytes();
    EXPECT_OK(s->reserve_experts(300, weights));
    EXPECT_EQ(before - s->available_bytes(), s->reserve_experts_bytes(300, weights));
    const std::vector<float> input = network.gaussian(300 * network.hidden, 1);
    const Norm norm = s.norm(Norm::Kind::kRms, 256, std::vector<float>(256, 1), {});
    for (const int64_t n : {1, 8, 9, 70}) {
      const Mat x = s.mat({input.begin(), input.begin() + n * 256}, n), out = s.poisoned(n, weights.row_width());
      const Routing routing{s.poisoned(n, 16), s.poisoned(n, 4), s.poisoned(n, 5)};
      const uint64_t left = s->available_bytes();
      s.run([&] {
        s->norm_experts(x, norm, weights, routing, out);
        s->experts_add(out, weights, routing, x);
      });
      EXPECT_EQ(s->available_bytes(), left) << n << " rows";
    }
  }
}

// Who reads an expert's weights reads them once for all columns of few rows.
TEST(CudaExperts, UpToEightColumnsReadAnExpertTogether) {
  for (const DType type : {DType::kQ4_K, DType::kQ8_0, DType::kF16, DType::kF32}) {
    SCOPED_TRACE(dtype_name(type));
    Network network{256, 256, 0, 3, 2, true, type, type};
    const auto device = std::make_shared<NotingDevice>(test_device({}));
    Side s(must(CudaOps::create(device, 1)));
    const ExpertWeights weights = network.pack(*s);
    const std::vector<float> input = network.gaussian(8 * network.hidden, 1);
    const Outcome alone = run(s, network, weights, input, std::vector<int64_t>(8, 1));
    const std::pair<int64_t, int> kRows[] = {{8, 8}, {5, 8}, {4, 4}, {2, 4}};
    for (const auto& [n, columns] : kRows) {
      const std::vector<float> some(input.begin(), input.begin() + n * network.hidden);
      device->launches.clear();
      const Outcome together = run(s, network, weights, some, {n});
      EXPECT_TRUE(std::equal(together.x.begin(), together.x.end(), alone.x.begin())) << n;
      int n_products = 0;
      for (const NotingDevice::Launch& launch : device->launches) {
        if (launch.kernel != gemv_kernel(type, columns) || launch.shape.grid[1] == 1) continue;  // the router's
        ++n_products;
        // Three experts, two of them for each row: none has more columns than there are rows.
        EXPECT_LE(launch.shape.grid[1], (2 * n - 3) / columns + 3) << n;
      }
      EXPECT_EQ(n_products, 2) << n;
    }
  }
}

TEST(CudaExperts, OfATensorShareAnAllocation) {
  const auto device = std::make_shared<NotingDevice>(test_device({}));
  ModelOptions options;
  options.model_path = glimpse::testing::golden_path("qwen2moe/model.gguf");
  options.n_threads = 1;
  options.ops_factory = [&](int n_threads) -> Result<std::unique_ptr<Ops>> {
    GLIMPSE_ASSIGN(std::unique_ptr<CudaOps> ops, CudaOps::create(device, n_threads));
    return std::unique_ptr<Ops>(std::move(ops));
  };
  const auto model = must(Model::load(options));
  ASSERT_GT(model->text().num_experts, 1);
  int64_t n_tensors = 0;
  for (const auto& [purpose, n] : device->allocations) {
    if (purpose.find("_exps") == std::string::npos) continue;
    ++n_tensors;
    EXPECT_EQ(n, 1) << purpose;
  }
  EXPECT_EQ(n_tensors, 3 * model->text().num_hidden_layers);
}

TEST(CudaExperts, RefuseWidthsThatAreNoWholeVectors) {
  Network network{256, 32, 0, 4, 2, true, DType::kQ8_0, DType::kQ8_0};
  const auto ops = host_ops();
  ExpertWeights w = network.pack(*ops);
  w.shared_gate = network.matrix(*ops, DType::kF16, 33, 256);
  w.shared_down = network.matrix(*ops, DType::kF16, 256, 33);
  const auto index = ops->index_experts(w);
  ASSERT_FALSE(index.ok());
  EXPECT_EQ(index.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(index.error().message.find("33 shared"), std::string::npos) << index.error().message;
}

}  // namespace
}  // namespace glimpse::cuda
