// The small instruments: statistics, timelines, rooflines, costs, pictures, facts of machine and model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "bench/engine/machine.h"
#include "bench/engine/op_cost.h"
#include "bench/engine/statistics.h"
#include "bench/engine/synthetic_picture.h"
#include "bench/engine/timeline.h"
#include "bench/probe/gpu_roofline.h"
#include "bench/probe/rates.h"
#include "bench/probe/roofline.h"
#include "engine/base/aligned_buffer.h"
#include "loaders/image/image.h"
#include "tests/engine/golden_support.h"

namespace glimpse::bench {
namespace {

using glimpse::testing::must;
using namespace std::chrono_literals;

TEST(Statistics, AreThoseOfNumpy) {
  // numpy 2: x = [4, 1, 3, 2, 10]; mean, std(ddof=1), min, median, percentile(10), percentile(90)
  const Summary s = summarize_samples({4, 1, 3, 2, 10});
  EXPECT_DOUBLE_EQ(s.mean, 4);
  EXPECT_NEAR(s.stddev, 3.5355339059327378, 1e-12);
  EXPECT_DOUBLE_EQ(s.min, 1);
  EXPECT_DOUBLE_EQ(s.median, 3);
  EXPECT_NEAR(s.p10, 1.4, 1e-12);
  EXPECT_NEAR(s.p90, 7.6, 1e-12);
  EXPECT_DOUBLE_EQ(summarize_samples({4, 1, 3, 2}).median, 2.5);
}

TEST(Statistics, OneSampleHasNoSpread) {
  const Summary s = summarize_samples({7});
  EXPECT_EQ(s.mean, 7);
  EXPECT_EQ(s.stddev, 0);
  EXPECT_EQ(s.median, 7);
  EXPECT_EQ(s.p10, 7);
  EXPECT_EQ(s.p90, 7);
  EXPECT_EQ(summarize_samples({}).median, 0);
}

TEST(Timeline, SumsStagesAndKeepsGapsVisible) {
  Timeline t;
  const Clock::time_point zero = Clock::now();
  t.start = zero;
  t.end = zero + 100us;
  t.spans = {{Stage::kDecode, zero + 1us, zero + 11us},
             {Stage::kGenerate, zero + 20us, zero + 50us},
             {Stage::kGenerate, zero + 60us, zero + 70us}};
  EXPECT_EQ(t.total_ns(), 100000);
  EXPECT_EQ(t.stage_ns()[static_cast<size_t>(Stage::kDecode)], 10000);
  EXPECT_EQ(t.stage_ns()[static_cast<size_t>(Stage::kGenerate)], 40000);
  EXPECT_EQ(t.stage_ns()[static_cast<size_t>(Stage::kMerger)], 0);
  EXPECT_EQ(t.sum_ns(), 50000);
  EXPECT_EQ(t.timed(Stage::kResize, [] { return 5; }), 5);
  EXPECT_EQ(t.spans.back().stage, Stage::kResize);
  EXPECT_GE(t.spans.back().end, t.spans.back().start);
}

TEST(Rates, ReadingSeesEveryByte) {
  AlignedBuffer buffer = must(AlignedBuffer::allocate(4096, "a test"));
  std::vector<ReadFn> functions = {read_bytes_ref};
  if (detect_isa().has(Isa::kAvx2)) functions.push_back(read_bytes_avx2);
  if (detect_isa().has(Isa::kAvx512)) functions.push_back(read_bytes_avx512);
  for (const ReadFn read : functions) {
    EXPECT_EQ(read(buffer.data(), buffer.size()), 0u);
    for (const size_t at : {0u, 17u, 1023u, 2048u + 63u, 4095u}) {
      buffer.data()[at] = std::byte{0x40};
      EXPECT_NE(read(buffer.data(), buffer.size()), 0u) << at;
      buffer.data()[at] = std::byte{0};
    }
  }
}

TEST(Rates, LoopsDoWhatTheyCount) {
  // The sums say that the instructions were executed: chain 0 (or all) grew by the product, step by step.
  float sink = 0;
  EXPECT_GE(fma_rate_ref(1e5, &sink), 1e5);
  EXPECT_GT(sink, 66.0f);  // 0 + 1 + ... + 11
  if (detect_isa().has(Isa::kAvx2)) {
    EXPECT_GE(fma_rate_avx2(1e5, &sink), 1e5);
    EXPECT_GT(sink, 66.0f);
    EXPECT_EQ(int8_rate_avx2(1, &sink), 2.0 * 32 * 12 * 1024);
    // 12 chains fall by 2 * 3 * 2 in 16 bits, 1024 times, from 66 together.
    EXPECT_EQ(sink, static_cast<float>(static_cast<uint16_t>(66 - 12 * 1024 * 12)));
  }
  if (detect_isa().has(Isa::kAvx512)) {
    EXPECT_GE(fma_rate_avx512(1e5, &sink), 1e5);
    EXPECT_GT(sink, 120.0f);
  }
  if (detect_isa().has(Isa::kAvx512Vnni)) {
    EXPECT_EQ(int8_rate_avx512vnni(1, &sink), 2.0 * 64 * 16 * 1024);
    EXPECT_EQ(sink, 120.0f - 16 * 1024 * 4 * 6);
  }
  if (detect_isa().has(Isa::kAvx512Bf16)) {
    EXPECT_EQ(bf16_rate_avx512bf16(1, &sink), 2.0 * 32 * 16 * 1024);
    // 0x3c00 is 2^-7: each instruction adds 2 * 2^-14 to each lane.
    EXPECT_EQ(sink, 120.0f + 16 * 1024 * 2 * 0x1p-14f);
  }
}

RooflineOptions quick() {
  RooflineOptions options;
  options.n_bytes = 1 << 20;
  options.passes = 2;
  options.seconds_per_rate = 1e-4;
  options.rate_passes = 2;
  return options;
}

TEST(Roofline, MeasuresWhatTheLevelHas) {
  for (const Isa isa : all_isas()) {
    if (!detect_isa().has(isa)) continue;
    const Roofline roof = must(measure_roofline(isa, 2, quick()));
    EXPECT_TRUE(roof.measured());
    EXPECT_GT(roof.bytes_per_second, 1e7);
    for (size_t i = 0; i < kArithmetics; ++i) {
      const auto arithmetic = static_cast<Arithmetic>(i);
      if (isa.has(arithmetic_isa(arithmetic))) {
        EXPECT_GT(roof.rate(arithmetic), 1e7) << isa_name(isa) << arithmetic_name(arithmetic);
      } else {
        EXPECT_EQ(roof.rate(arithmetic), 0) << isa_name(isa) << arithmetic_name(arithmetic);
      }
    }
  }
  EXPECT_EQ(must(measure_roofline(Isa::kRef, 1, quick())).int8_rate(), 0);
}

TEST(Roofline, RejectsSizesThatMakeNoSense) {
  EXPECT_FALSE(measure_roofline(Isa::kRef, 0, quick()).ok());
  RooflineOptions tiny = quick();
  tiny.n_bytes = 4096;
  EXPECT_FALSE(measure_roofline(Isa::kRef, 2, tiny).ok());
}

// A weight that no backend made: its products count as the baseline's.
PackedWeight weight(int64_t rows, int64_t cols, uint64_t n_bytes) {
  PackedWeight w;
  w.rows = rows;
  w.cols = cols;
  w.n_bytes = n_bytes;
  return w;
}

// `rows` rows times w.
OpRecord product_of(OpKind kind, int64_t rows, const PackedWeight& w, double bytes) {
  OpRecord record;
  record.kind = kind;
  record.rows = rows;
  record.weights[0] = &w;
  record.weight_rows[0] = rows;
  record.n_weights = 1;
  record.flop = record.weight_flop(0);
  record.bytes = bytes;
  return record;
}

TEST(OpCost, FloorIsTheLargerOfBothLimits) {
  const PackedWeight w = weight(10, 20, 800);
  const OpRecord record = product_of(OpKind::kNormLinear, 3, w, 1000);
  EXPECT_EQ(record.flop, 2.0 * 3 * 10 * 20);
  Roofline roof;
  EXPECT_EQ(cost_of(record, Isa::kRef, roof).floor_seconds, 0);
  roof.n_threads = 1;
  roof.bytes_per_second = 1e3;
  roof.flop_per_second[static_cast<size_t>(Arithmetic::kBaseline)] = 1e6;
  EXPECT_DOUBLE_EQ(cost_of(record, Isa::kRef, roof).floor_seconds, 1.0);
  roof.flop_per_second[static_cast<size_t>(Arithmetic::kBaseline)] = 600;
  EXPECT_DOUBLE_EQ(cost_of(record, Isa::kRef, roof).floor_seconds, 2.0);
}

TEST(GpuRoofline, IsTheBestOfWhatWasMeasured) {
  const GpuRates hopper{2800, 2700, 500, 800, 2, ""}, older{1200, 1300, 250, -1, 2, ""};
  EXPECT_EQ(must(gpu_roofline(hopper)).bytes_per_second, 2800e9);
  EXPECT_EQ(must(gpu_roofline(hopper)).gpu_flop_per_second, 800e12);
  EXPECT_EQ(must(gpu_roofline(older)).bytes_per_second, 1300e9);
  EXPECT_EQ(must(gpu_roofline(older)).gpu_flop_per_second, 250e12);
  EXPECT_TRUE(must(gpu_roofline(older)).measured());
  EXPECT_EQ(gpu_roofline({}).error().code, ErrorCode::kDevice);
  EXPECT_NE(gpu_roofline({1, 1, 1, 1, 1, "lost"}).error().message.find("lost"), std::string::npos);
}

TEST(GpuRoofline, CountsForEveryArithmetic) {
  const PackedWeight w = weight(10, 20, 800);
  OpRecord product = product_of(OpKind::kNormLinear, 3, w, 0), attention;
  attention.kind = OpKind::kAttention;
  attention.flop = 1200;
  Roofline roof = must(gpu_roofline({1, 1, 6e-10, -1, 2, ""}));  // 600 FLOP/s
  EXPECT_DOUBLE_EQ(cost_of(product, Isa::kAvx512Bf16, roof).floor_seconds, 2.0);
  EXPECT_DOUBLE_EQ(cost_of(attention, Isa::kRef, roof).floor_seconds, 2.0);
  product.bytes = 3e9;
  EXPECT_DOUBLE_EQ(cost_of(product, Isa::kRef, roof).floor_seconds, 3.0);
}

TEST(OpCost, SummaryJoinsCallsOfOneKindAndShape) {
  const PackedWeight small = weight(10, 20, 800), large = weight(30, 20, 2400);
  const auto record = [](const PackedWeight& w, std::chrono::nanoseconds time) {
    OpRecord r = product_of(OpKind::kLinearAdd, 1, w, 10);
    r.end = r.start + time;
    return r;
  };
  const auto rows = summarize({record(small, 100ns), record(large, 700ns), record(small, 200ns)}, Isa::kRef, {});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "linear_add 30x20 F32");
  EXPECT_EQ(rows[1].name, "linear_add 10x20 F32");
  EXPECT_EQ(rows[1].n_calls, 2);
  EXPECT_DOUBLE_EQ(rows[1].seconds, 3e-7);
  EXPECT_EQ(rows[1].cost.flop, 800);
  EXPECT_EQ(rows[1].cost.bytes, 20);
}

TEST(OpCost, AttentionCountsWithItsKernelsInstructions) {
  EXPECT_EQ(attention_arithmetic(KvElement::kBf16, Isa::kAvx512Bf16), Arithmetic::kBf16);
  EXPECT_EQ(attention_arithmetic(KvElement::kBf16, Isa::kAvx512Vnni), Arithmetic::kFmaAvx512);
  EXPECT_EQ(attention_arithmetic(KvElement::kF32, Isa::kAvx512Bf16), Arithmetic::kFmaAvx512);
  EXPECT_EQ(attention_arithmetic(KvElement::kF32, Isa::kAvx2), Arithmetic::kFmaAvx2);
  EXPECT_EQ(attention_arithmetic(KvElement::kBf16, Isa::kRef), Arithmetic::kBaseline);
  EXPECT_EQ(attention_arithmetic(KvElement::kF16, Isa::kAvx512Bf16), Arithmetic::kFmaAvx512);
  EXPECT_EQ(attention_arithmetic(KvElement::kF16, Isa::kAvx2), Arithmetic::kFmaAvx2);
  EXPECT_EQ(attention_arithmetic(KvElement::kQ8_0, Isa::kAvx512Bf16), Arithmetic::kInt8Vnni);
  EXPECT_EQ(attention_arithmetic(KvElement::kQ8_0, Isa::kAvx2), Arithmetic::kInt8Avx2);
  EXPECT_EQ(attention_arithmetic(KvElement::kQ8_0, Isa::kRef), Arithmetic::kBaseline);
}

TEST(SyntheticPicture, IsAJpegOfThatSize) {
  const std::vector<std::byte> bytes = must(synthetic_jpeg(70, 41));
  const Image image = must(decode_image(bytes, {}));
  EXPECT_EQ(image.width, 70);
  EXPECT_EQ(image.height, 41);
  const auto [least, most] = std::minmax_element(image.pixels.begin(), image.pixels.end());
  EXPECT_LT(*least, 60);
  EXPECT_GT(*most, 200);
  EXPECT_EQ(bytes, must(synthetic_jpeg(70, 41)));
  EXPECT_EQ(must(decode_image(must(synthetic_jpeg(1, 1)), {})).width, 1);
}

TEST(SyntheticPicture, RejectsOtherSizes) {
  for (const auto& [width, height] : {std::pair{0, 5}, {5, 0}, {-1, 5}, {16385, 5}}) {
    EXPECT_EQ(synthetic_jpeg(width, height).error().code, ErrorCode::kInvalidArgument) << width;
  }
}

TEST(Machine, SaysWhereItRuns) {
  EXPECT_NE(cpu_info(), "");
  EXPECT_THAT(utc_now(), ::testing::MatchesRegex("[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+Z"));
  EXPECT_STRNE(build_commit(), "");
  EXPECT_GE(build_number(), 0);
}

TEST(Machine, PeakGrowsWithMemoryThatIsTouched) {
  reset_peak_resident();
  const uint64_t before = peak_resident_bytes();
  if (before == 0) GTEST_SKIP() << "no VmHWM here";
  std::vector<char> touched(64 << 20, 1);
  EXPECT_GE(peak_resident_bytes(), before + (48u << 20)) << touched[5];
}

TEST(Machine, ModelFactsAreTheFiles) {
  const ModelFacts facts = must(read_model_facts(glimpse::testing::golden_path("tied/model.gguf")));
  const GgufFile file = must(GgufFile::open(facts.filename));
  uint64_t n_params = 0, n_bytes = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    n_params += tensor.n_elements();
    n_bytes += tensor.n_bytes;
  }
  EXPECT_EQ(facts.n_params, n_params);
  EXPECT_EQ(facts.n_bytes, n_bytes);
  EXPECT_EQ(facts.type.rfind("qwen2vl", 0), 0u) << facts.type;
  EXPECT_EQ(read_model_facts("/no/such/file.gguf").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace glimpse::bench
