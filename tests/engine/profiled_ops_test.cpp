// ProfiledOps: the same results, one record per operation, the FLOP and bytes of the formulas.
#include "engine/runtime/profiled_ops.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

constexpr int64_t kContext = 64;

std::vector<TokenId> some_ids(int64_t n) {
  std::vector<TokenId> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 3);
  return ids;
}

// Appends n rows of text; returns the last row's logits.
std::vector<float> forward(const Model& model, OneText& decoder, int64_t n) {
  std::vector<MropePosition> positions;
  PositionCounter counter;
  counter.set_next(static_cast<int32_t>(decoder.n_past()));
  counter.append_text(n, positions);
  std::vector<float> logits(static_cast<size_t>(model.text().vocab_size));
  const std::vector<TokenId> ids = some_ids(n);
  EXPECT_OK(decoder.forward({ids, positions, {}}, logits, false, {}, {}));
  return logits;
}

struct Pass {
  std::vector<float> logits;
  std::vector<OpRecord> records;
};
// n rows after n_past others; the records are those of the n rows.
Pass run(const std::shared_ptr<const Model>& model, ProfiledOps::Mode mode, int64_t n_past, int64_t n) {
  const std::unique_ptr<Ops> inner = must(model->make_ops(2));
  ProfiledOps ops(*inner, mode);
  const auto decoder = must(OneText::create(model, ops, kContext, kContext, KvElement::kBf16));
  if (n_past > 0) forward(*model, *decoder, n_past);
  Pass pass;
  ops.set_sink([&](const OpRecord& record) { pass.records.push_back(record); });
  pass.logits = forward(*model, *decoder, n);
  return pass;
}

TEST(ProfiledOps, GivesTheSameLogits) {
  const auto model = tied_model(false);
  const std::unique_ptr<Ops> ops = must(model->make_ops(2));
  const auto decoder = must(OneText::create(model, *ops, kContext, kContext, KvElement::kBf16));
  const std::vector<float> plain = forward(*model, *decoder, 9);
  EXPECT_EQ(run(model, ProfiledOps::Mode::kExecute, 0, 9).logits, plain);
  ProfiledOps silent(*ops);  // without a sink
  const auto silent_decoder = must(OneText::create(model, silent, kContext, kContext, KvElement::kBf16));
  EXPECT_EQ(forward(*model, *silent_decoder, 9), plain);
}

TEST(ProfiledOps, AnswersForItsBackend) {
  const auto model = tied_model(false);
  const std::unique_ptr<Ops> ops = must(model->make_ops(1));
  const ProfiledOps profiled(*ops);
  const PackedWeight& head = *model->text_weights().output.weight;
  ASSERT_TRUE(ops->packed_format(head.source_type, WeightPrecision::kAsStored).has_value());
  EXPECT_EQ(profiled.packed_format(head.source_type, WeightPrecision::kAsStored),
            ops->packed_format(head.source_type, WeightPrecision::kAsStored));
  EXPECT_EQ(profiled.packed_data(head).data(), ops->packed_data(head).data());
  EXPECT_EQ(profiled.packed_data(head).size(), head.n_bytes);
}

TEST(ProfiledOps, RecordsEveryOperationInOrder) {
  const auto model = tied_model(false);
  const Pass pass = run(model, ProfiledOps::Mode::kExecute, 0, 5);
  const OpKind layer[] = {OpKind::kNormQkv, OpKind::kAttention, OpKind::kLinearAdd, OpKind::kNormSwiglu,
                          OpKind::kLinearAdd};
  std::vector<OpKind> want = {OpKind::kUpload, OpKind::kUpload, OpKind::kEmbed};
  for (int64_t i = 0; i < model->text().num_hidden_layers; ++i) want.insert(want.end(), layer, layer + 5);
  want.insert(want.end(), {OpKind::kAllFinite, OpKind::kNormLinear, OpKind::kAllFinite, OpKind::kDownload});
  std::vector<OpKind> got;
  for (const OpRecord& record : pass.records) got.push_back(record.kind);
  EXPECT_EQ(got, want);
  for (size_t i = 0; i < pass.records.size(); ++i) {
    EXPECT_LE(pass.records[i].start, pass.records[i].end) << i;
    if (i > 0) {
      EXPECT_LE(pass.records[i - 1].end, pass.records[i].start) << i;
    }
    EXPECT_GT(pass.records[i].bytes, 0) << op_kind_name(pass.records[i].kind);
  }
}

TEST(ProfiledOps, FlopFollowTheFormula) {
  // 2 FLOP per weight and row, the head on the last row only; attention 4 head_dim per query head and visible key.
  const auto model = tied_model(false);
  const TextConfig& c = model->text();
  const int64_t n_past = 7, n = 5, heads = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const int64_t layer = c.hidden_size * (2 * heads + 2 * kv) + 3 * c.hidden_size * c.intermediate_size;
  int64_t visible = 0;
  for (int64_t r = 0; r < n; ++r) visible += n_past + r + 1;
  const int64_t want = c.num_hidden_layers * (2 * n * layer + 4 * visible * heads) + 2 * c.hidden_size * c.vocab_size;
  double flop = 0;
  for (const OpRecord& record : run(model, ProfiledOps::Mode::kExecute, n_past, n).records) flop += record.flop;
  EXPECT_EQ(flop, static_cast<double>(want));
}

TEST(ProfiledOps, BytesCountEachOperandOnce) {
  const auto model = tied_model(false);
  const TextConfig& c = model->text();
  const int64_t n_past = 7, n = 5;
  const Pass pass = run(model, ProfiledOps::Mode::kExecute, n_past, n);
  for (const OpRecord& record : pass.records) {
    if (record.kind == OpKind::kLinearAdd) {
      const PackedWeight& w = *record.weights[0];
      EXPECT_EQ(record.bytes, static_cast<double>(w.n_bytes) + 4.0 * static_cast<double>(n * (w.cols + w.rows)));
    } else if (record.kind == OpKind::kAttention) {
      // Queries and output as floats; keys and values of 12 positions in bf16, head_dim padded to 16.
      const int64_t heads = c.num_attention_heads * c.head_dim;
      const int64_t padded = (c.head_dim + 15) / 16 * 16;
      EXPECT_EQ(record.n_keys, n_past + n);
      EXPECT_EQ(record.bytes,
                static_cast<double>(2 * 4 * n * heads + (n_past + n) * 2 * 2 * c.num_key_value_heads * padded));
    } else if (record.kind == OpKind::kDownload) {
      EXPECT_EQ(record.bytes, 8.0 * static_cast<double>(c.vocab_size));
    }
  }
}

TEST(ProfiledOps, CountingExecutesNothingAndCountsTheSame) {
  const auto model = tied_model(false);
  const Pass executed = run(model, ProfiledOps::Mode::kExecute, 6, 4);
  const Pass counted = run(model, ProfiledOps::Mode::kCount, 6, 4);
  EXPECT_EQ(counted.logits, std::vector<float>(counted.logits.size(), 0.0f));
  ASSERT_EQ(counted.records.size(), executed.records.size());
  for (size_t i = 0; i < counted.records.size(); ++i) {
    EXPECT_EQ(counted.records[i].kind, executed.records[i].kind) << i;
    EXPECT_EQ(counted.records[i].weights, executed.records[i].weights) << i;
    EXPECT_EQ(counted.records[i].flop, executed.records[i].flop) << i;
    EXPECT_EQ(counted.records[i].bytes, executed.records[i].bytes) << i;
    EXPECT_EQ(counted.records[i].start, counted.records[i].end) << i;
  }
}

TEST(ProfiledOps, PassesErrorsOn) {
  const auto model = tied_model(false);
  const std::unique_ptr<Ops> inner = must(model->make_ops(1));
  ProfiledOps ops(*inner);
  const auto decoder = must(OneText::create(model, ops, 4, 4, KvElement::kF32));
  const std::vector<TokenId> ids = some_ids(5);
  const std::vector<MropePosition> positions(5);
  EXPECT_EQ(decoder->forward({ids, positions, {}}, {}, false, {}, {}).error().code, ErrorCode::kContextFull);
  const auto cancel = [](std::string_view, double) { return false; };
  const std::span<const TokenId> three(ids.data(), 3);
  EXPECT_EQ(decoder->forward({three, std::span(positions).first(3), {}}, {}, false, {}, cancel).error().code,
            ErrorCode::kCancelled);
}

}  // namespace
}  // namespace glimpse::testing
