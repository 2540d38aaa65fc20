// Activations: files of them, differences, budgets.
#include "tools/eval/activations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "loaders/gguf/gguf_writer.h"
#include "tests/engine/golden_support.h"
#include "tests/eval/support.h"
#include "tools/eval/budget.h"
#include "tools/eval/trace.h"

namespace glimpse::eval {
namespace {

using glimpse::testing::must;
using ::testing::ElementsAre;

Activation matrix(const std::string& name, int64_t rows, int64_t cols, std::vector<float> values) {
  return {name, rows, cols, std::move(values)};
}

TEST(Activations, DifferenceIsThatOfTheDefinition) {
  const Activation want = matrix("x", 2, 3, {1, 2, 3, 4, 5, 6}), got = matrix("x", 2, 3, {1, 2, 3.5f, 4, 4.5f, 6});
  const Difference d = compare_activations(got, want, 0.01);
  EXPECT_EQ(d.name, "x");
  EXPECT_DOUBLE_EQ(d.nmse, 0.5 / 91);
  EXPECT_DOUBLE_EQ(d.max_abs, 0.5);
  EXPECT_EQ(d.worst_row, 0);
  EXPECT_DOUBLE_EQ(d.worst_row_nmse, 0.25 / 14);
  const double dot = 1 + 4 + 10.5 + 16 + 22.5 + 36, got_norm = 1 + 4 + 12.25 + 16 + 20.25 + 36;
  EXPECT_DOUBLE_EQ(d.cosine, dot / std::sqrt(91 * got_norm));
  EXPECT_FALSE(d.outside);
  EXPECT_TRUE(compare_activations(got, want, 0.005).outside);
}

TEST(Activations, EqualOnesDifferInNothing) {
  for (const std::vector<float>& values : {std::vector<float>{1, -2, 3, 4}, std::vector<float>{0, 0, 0, 0}}) {
    const Difference d = compare_activations(matrix("x", 2, 2, values), matrix("x", 2, 2, values), 0);
    EXPECT_EQ(d.nmse, 0);
    EXPECT_EQ(d.max_abs, 0);
    EXPECT_EQ(d.cosine, 1);
    EXPECT_FALSE(d.outside);
  }
}

TEST(Activations, ZerosThatShouldBeZeroAndNaNsAreOutside) {
  const Activation zero = matrix("x", 1, 2, {0, 0}), one = matrix("x", 1, 2, {0, 1});
  EXPECT_EQ(compare_activations(one, zero, 1).nmse, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(compare_activations(one, zero, 1e300).outside);
  EXPECT_EQ(compare_activations(zero, one, 1).nmse, 1);
  EXPECT_EQ(compare_activations(zero, one, 1).cosine, 0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [got, want] : {std::pair(matrix("x", 2, 1, {1, nan}), matrix("x", 2, 1, {1, 1})),
                                  std::pair(matrix("x", 2, 1, {1, 1}), matrix("x", 2, 1, {1, nan}))}) {
    const Difference d = compare_activations(got, want, 1e300);
    EXPECT_TRUE(d.outside);
    EXPECT_TRUE(std::isnan(d.nmse));
    EXPECT_TRUE(std::isnan(d.max_abs));
    EXPECT_EQ(d.worst_row, 1);
  }
}

TEST(Activations, FilesGiveBackWhatWasSaved) {
  const ScratchDir dir;
  ActivationSet set;
  set.add(matrix("0/v.embd", 1, 2, {1, 2}));
  set.add(matrix("blk.0.q", 3, 2, {1, 2, 3, 4, 5, 6}));
  set.add(matrix("logits", 1, 1, {7}));
  set.set_ids({5, 6, 7});
  ASSERT_TRUE(set.save(dir.file("a.gguf"), AtomicFileWriter::Existing::kRefuse, "hello").ok());
  const ActivationSet read = must(ActivationSet::open(dir.file("a.gguf")));
  EXPECT_EQ(read.names(), set.names());
  EXPECT_EQ(read.ids(), set.ids());
  const Activation q = must(read.read("blk.0.q"));
  EXPECT_EQ(q.rows, 3);
  EXPECT_EQ(q.cols, 2);
  EXPECT_EQ(q.values, must(set.read("blk.0.q")).values);
  EXPECT_FALSE(read.has("blk.0.k"));
  EXPECT_FALSE(set.save(dir.file("a.gguf"), AtomicFileWriter::Existing::kRefuse, "hello").ok());
  EXPECT_EQ(dir.list().size(), 1u);
}

TEST(Activations, FilesOfTransformersAreRead) {
  const ActivationSet golden = must(ActivationSet::open(eval_test::golden("tied/case-images.gguf")));
  EXPECT_EQ(golden.names().size(), 12u);  // not the pixels, positions and greedy tokens
  EXPECT_EQ(golden.ids().size(), 20u);
  EXPECT_FALSE(ActivationSet::open(eval_test::golden("tied/model.gguf")).ok());  // "blk.0.ffn_up.weight" is none
}

TEST(Activations, EveryActivationOfEveryFamilyIsRead) {
  for (const auto& [folder, file] : glimpse::testing::golden_cases()) {
    const std::string name = std::string(folder) + "/" + file;
    EXPECT_EQ(must(ActivationSet::open(eval_test::golden(name))).names(),
              glimpse::testing::GoldenCase(name).activations())
        << name;
  }
}

TEST(Activations, RowsThatGoThroughOtherExpertsAreCounted) {
  const Activation want = matrix("blk.0.router", 3, 3, {1, 2, 3, 1, 2, 3, 3, 1, 2});
  EXPECT_EQ(count_rerouted_rows(want, want, 2), 0);
  // The order of the chosen ones may change; the second row takes the first expert for the second.
  const Activation got = matrix("blk.0.router", 3, 3, {0, 3, 2, 2.5f, 2, 3, 2, 1, 3});
  EXPECT_EQ(count_rerouted_rows(got, want, 2), 1);
  EXPECT_EQ(count_rerouted_rows(got, want, 1), 2);
  EXPECT_EQ(count_rerouted_rows(got, want, 3), 0);
}

TEST(Activations, FilesWithoutAnyAreRefused) {
  const ScratchDir dir;
  GgufWriter writer;
  writer.add_string("general.architecture", "x");
  writer.declare_tensor("other", DType::kF32, {1});
  writer.declare_tensor("blk.0.q", DType::kI32, {1});
  ASSERT_TRUE(writer.begin(dir.file("none.gguf"), AtomicFileWriter::Existing::kRefuse).ok());
  const std::vector<int32_t> value = {1};
  ASSERT_TRUE(writer.append(std::as_bytes(std::span(value))).ok());
  ASSERT_TRUE(writer.append(std::as_bytes(std::span(value))).ok());
  ASSERT_TRUE(writer.commit().ok());
  EXPECT_FALSE(ActivationSet::open(dir.file("none.gguf")).ok());
}

// Every step of both passes as a trace names them, and a budget that never shrinks inside one pass over the residual.
TEST(Budget, GrowsAlongTheResidualStream) {
  ModelOptions options;
  options.model_path = eval_test::golden("quantized/model.gguf");
  options.n_threads = 1;
  const auto model = must(Model::load(options));
  for (const KvElement kv : kKvElements) {
    Budget budget(op_limits(*model, kv, false));
    TraceInput input;
    input.prompt = "the cat";
    input.n_threads = 1;
    double last = 0;
    const auto ids = trace(model, input,
                           [&](Activation a) -> Status {
                             const double limit = budget.limit(a.name);
                             if (a.name.ends_with("_out") || a.name == "logits") {
                               EXPECT_GT(limit, last) << a.name;
                               last = limit;
                             }
                             return {};
                           },
                           {});
    ASSERT_TRUE(ids.ok()) << ids.error().message;
    EXPECT_GT(last, 1e-3);
    EXPECT_LT(last, 1e-2);
  }
  EXPECT_EQ(op_limits(*model, KvElement::kBf16, true).decoder_op, 1e-10);  // the oracle quantises nothing
}

TEST(Budget, AttentionMayAddWhatItsCacheRounds) {
  ModelOptions options;
  options.model_path = eval_test::golden("tied/model.gguf");
  options.n_threads = 1;
  const auto model = must(Model::load(options));
  double last = 0;
  for (const KvElement kv : {KvElement::kF32, KvElement::kF16, KvElement::kBf16, KvElement::kQ8_0}) {
    const OpLimits limits = op_limits(*model, kv, false);
    EXPECT_GT(limits.decoder_attention, last) << kv_element_name(kv);
    EXPECT_LE(limits.decoder_attention, 2e-4) << kv_element_name(kv);
    EXPECT_EQ(limits.kv_rounding > 0, kv != KvElement::kF32) << kv_element_name(kv);
    EXPECT_LT(limits.kv_rounding, limits.decoder_attention) << kv_element_name(kv);
    EXPECT_EQ(limits.vision_attention, op_limits(*model, KvElement::kF32, false).vision_attention);
    EXPECT_EQ(op_limits(*model, kv, true).decoder_attention, 1e-10) << kv_element_name(kv);
    last = limits.decoder_attention;
  }
}

TEST(Budget, FloatModelsAreHeldToFloatArithmetic) {
  ModelOptions options;
  options.n_threads = 1;
  options.text_precision = WeightPrecision::kF32;
  for (const char* name : {"tied/model.gguf", "quantized/model.gguf"}) {
    options.model_path = eval_test::golden(name);
    EXPECT_EQ(op_limits(*must(Model::load(options)), KvElement::kF32, false).decoder_heavy, 1e-10) << name;
  }
}

std::shared_ptr<const Model> tied() {
  ModelOptions options;
  options.model_path = eval_test::golden("tied/model.gguf");
  options.n_threads = 1;
  return must(Model::load(options));
}

TEST(Trace, StopsWhenTheSinkFails) {
  const auto model = tied();
  TraceInput input;
  input.prompt = "x";
  input.n_threads = 1;
  int calls = 0;
  const auto ids = trace(model, input,
                         [&](Activation) -> Status {
                           ++calls;
                           return make_error(ErrorCode::kIo, "no more");
                         },
                         {});
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.error().message, "no more");
  EXPECT_EQ(calls, 1);
}

TEST(Trace, OnlyAskedActivationsArrive) {
  const auto model = tied();
  TraceInput input;
  input.prompt = "x";
  input.n_threads = 1;
  input.prefixes = {"blk.1.ffn", "logits"};
  std::vector<std::string> names;
  ASSERT_TRUE(trace(model, input,
                    [&](Activation a) -> Status {
                      names.push_back(a.name);
                      return {};
                    },
                    {})
                  .ok());
  EXPECT_THAT(names, ElementsAre("blk.1.ffn", "blk.1.ffn_out", "logits"));
}

}  // namespace
}  // namespace glimpse::eval
