// What the two passes promise beside the right numbers: the same bits however the work is cut, and errors that leave
// the state as it was.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/engine/golden_backends.h"
#include "tests/engine/golden_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse {
namespace {

using testing::Backend;
using testing::CaseInput;
using testing::GoldenCase;
using testing::ModelEditor;
using testing::must;

CaseInput text_input(std::vector<TokenId> ids, int32_t first_position = 0) {
  CaseInput input;
  input.ids = std::move(ids);
  PositionCounter counter;
  counter.set_next(first_position);
  counter.append_text(static_cast<int64_t>(input.ids.size()), input.positions);
  return input;
}

// All logits of a prompt that is fed in calls of rows_per_call rows, in batches of `batch`.
std::vector<float> run_all(std::shared_ptr<const Model> model, Ops& ops, const Backend& backend, const CaseInput& input,
                           int64_t batch, int64_t rows_per_call) {
  const auto decoder = must(testing::OneText::create(model, ops, 64, batch, backend.kv));
  const int64_t vocab = model->text().vocab_size;
  const auto n = static_cast<int64_t>(input.ids.size());
  std::vector<float> out(static_cast<size_t>(n * vocab));
  int64_t embedding = 0;
  for (int64_t first = 0; first < n; first += rows_per_call) {
    const int64_t count = std::min(rows_per_call, n - first);
    PassRows part = input.view();
    part.ids = part.ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    part.positions = part.positions.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    const int64_t rows = std::count(part.ids.begin(), part.ids.end(), -1);
    part.embeddings = part.embeddings.subspan(static_cast<size_t>(embedding * model->text().hidden_size),
                                              static_cast<size_t>(rows * model->text().hidden_size));
    embedding += rows;
    EXPECT_OK(decoder->forward(
        part, std::span(out).subspan(static_cast<size_t>(first * vocab), static_cast<size_t>(count * vocab)), true, {},
        {}));
  }
  EXPECT_EQ(decoder->n_past(), n);
  return out;
}

class ModelBits : public testing::BackendTest {};

TEST_P(ModelBits, AreTheSameForEveryThreadCountAndCut) {
  const testing::CaseName cases[] = {{"tied", "case-image.gguf"},
                                     {"tied", "case-video.gguf"},
                                     {"untied", "case-images.gguf"},
                                     {"quantized", "case-text.gguf"}};
  for (const auto& [folder, file] : cases) {
    SCOPED_TRACE(std::string(folder) + "/" + file);
    const GoldenCase golden(std::string(folder) + "/" + file);
    const auto model = testing::load_golden(folder, GetParam());
    std::vector<float> first_embeddings, first_logits;
    for (const int threads : {1, 2, 3, 7}) {
      Backend backend = GetParam();
      backend.n_threads = threads;
      const auto ops = testing::make_ops(*model, backend);
      const std::vector<float> embeddings = testing::encode_pictures(model, *ops, golden, nullptr);
      if (threads == 1) first_embeddings = embeddings;
      ASSERT_EQ(embeddings, first_embeddings) << threads << " threads";
      const CaseInput input = testing::case_input(*model, golden, embeddings);
      const auto n = static_cast<int64_t>(input.ids.size());
      if (threads == 1) {
        first_logits = run_all(model, *ops, backend, input, n, n);
        ASSERT_EQ(run_all(model, *ops, backend, input, 3, n), first_logits) << "batches of 3";
        ASSERT_EQ(run_all(model, *ops, backend, input, n, 1), first_logits) << "decoded one by one";
      }
      ASSERT_EQ(run_all(model, *ops, backend, input, n, n), first_logits) << threads << " threads, one batch";
      ASSERT_EQ(run_all(model, *ops, backend, input, 2, 5), first_logits) << threads << " threads, calls of 5 in 2s";
    }
  }
}

// What stood behind the end is overwritten in pieces of any length: the layouts keep positions in twos and sixteens.
TEST_P(ModelBits, ATruncatedCacheEqualsAFreshOne) {
  const auto model = testing::load_golden("tied", GetParam(), "");
  const auto ops = testing::make_ops(*model, GetParam());
  const auto forward = [&](testing::OneText& decoder, const CaseInput& input, size_t first, size_t n) {
    std::vector<float> logits(n * 320);
    const PassRows part = {input.view().ids.subspan(first, n), input.view().positions.subspan(first, n), {}};
    EXPECT_OK(decoder.forward(part, logits, true, {}, {}));
    return logits;
  };
  std::vector<TokenId> old_ids(290), new_ids(290);
  for (size_t i = 0; i < old_ids.size(); ++i) {
    old_ids[i] = static_cast<TokenId>(i * i * 29 % 307);
    new_ids[i] = static_cast<TokenId>(i * i * 31 % 311);
  }
  const auto fresh = must(testing::OneText::create(model, *ops, 290, 290, GetParam().kv));
  const CaseInput wanted = text_input(new_ids);
  const std::vector<float> want = forward(*fresh, wanted, 0, 290);
  for (const size_t end : {1, 16, 23, 250, 257}) {
    std::vector<TokenId> ids = new_ids;  // agrees with the new ones up to `end`
    std::copy(old_ids.begin() + static_cast<std::ptrdiff_t>(end), old_ids.end(),
              ids.begin() + static_cast<std::ptrdiff_t>(end));
    const auto decoder = must(testing::OneText::create(model, *ops, 290, 290, GetParam().kv));
    forward(*decoder, text_input(ids), 0, 290);
    decoder->truncate(static_cast<int64_t>(end));
    for (size_t first = end, n = 1; first < 290; first += n, n = n * 3 + 1) {
      n = std::min(n, 290 - first);
      const std::vector<float> got = forward(*decoder, wanted, first, n);
      ASSERT_TRUE(std::equal(got.begin(), got.end(), want.begin() + static_cast<std::ptrdiff_t>(first * 320)))
          << n << " rows from " << first << " on, cut at " << end;
    }
  }
}

// More keys than two blocks of the cache: prefill in large and odd batches, then single tokens, whose keys are shared
// out among the threads.
TEST_P(ModelBits, AreTheSameWhereKeysCrossBlocks) {
  const auto model = testing::load_golden("tied", GetParam(), "");
  std::vector<TokenId> ids(530);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i * i * 31 % 311);
  const CaseInput input = text_input(ids);
  std::vector<float> want;
  for (const int threads : {1, 3}) {
    Backend backend = GetParam();
    backend.n_threads = threads;
    const auto ops = testing::make_ops(*model, backend);
    for (const int64_t batch : {530, 100}) {
      const auto decoder = must(testing::OneText::create(model, *ops, 530, batch, backend.kv));
      PassRows part = input.view();
      const size_t n_prefill = batch == 530 ? 530 : 525;
      part.ids = part.ids.first(n_prefill);
      part.positions = part.positions.first(n_prefill);
      std::vector<float> logits(n_prefill * 320);
      EXPECT_OK(decoder->forward(part, logits, true, {}, {}));
      logits.resize(530 * 320);
      for (size_t i = n_prefill; i < 530; ++i) {
        EXPECT_OK(decoder->forward({input.view().ids.subspan(i, 1), input.view().positions.subspan(i, 1), {}},
                                   std::span(logits).subspan(i * 320, 320), false, {}, {}));
      }
      if (want.empty()) want = logits;
      ASSERT_EQ(logits, want) << threads << " threads, batches of " << batch;
    }
  }
  if (GetParam().reference) return;
  const Backend reference = {.name = "ref", .reference = true};
  const auto oracle = testing::load_golden("tied", reference, "");
  const auto ops = testing::make_ops(*oracle, reference);
  const auto decoder = must(testing::OneText::create(oracle, *ops, 530, 530, KvElement::kF32));
  std::vector<float> exact(530 * 320);
  testing::ErrorBudget budget(GetParam(), "tied");
  double limit = 0;
  EXPECT_OK(decoder->forward(input.view(), exact, true,
                             [&](const std::string& name, auto&&...) { limit = budget.limit(name); }, {}));
  EXPECT_LE(testing::nmse(want, exact), limit);
}

TEST_P(ModelBits, TruncateAndRepeatGivesTheSame) {
  const auto model = testing::load_golden("tied", GetParam());
  const auto ops = testing::make_ops(*model, GetParam());
  const auto decoder = must(testing::OneText::create(model, *ops, 32, 8, GetParam().kv));
  const CaseInput begin = text_input({1, 2, 3, 4, 5, 6, 7}), other = text_input({200, 201, 202}, 4),
                  rest = text_input({5, 6, 7}, 4);
  std::vector<float> a(320), b(320), c(320);
  EXPECT_OK(decoder->forward(begin.view(), a, false, {}, {}));
  decoder->truncate(4);
  EXPECT_EQ(decoder->n_past(), 4);
  EXPECT_OK(decoder->forward(other.view(), b, false, {}, {}));
  decoder->truncate(4);
  EXPECT_OK(decoder->forward(rest.view(), c, false, {}, {}));
  EXPECT_EQ(a, c);
  EXPECT_NE(a, b);
}

// One token overflows the first layer's feed-forward network, another does not: ffn_up is scaled by a power of two that
// ffn_down takes back.
TEST_P(ModelBits, OverflowNamesTheStepAndLeavesNothingBehind) {
  const Backend reference = {.name = "ref", .reference = true};
  const auto plain = testing::load_golden("tied", reference, "");
  const auto plain_ops = testing::make_ops(*plain, reference);
  const auto peak = [&](const std::vector<TokenId>& tokens) {
    const auto decoder = must(testing::OneText::create(plain, *plain_ops, 8, 8, KvElement::kF32));
    float most = 0;
    EXPECT_OK(decoder->forward(text_input(tokens).view(), {}, false,
                               [&](const std::string& name, const float* values, int64_t rows, int64_t cols) {
                                 if (name != "blk.0.ffn") return;
                                 for (int64_t i = 0; i < rows * cols; ++i) most = std::max(most, std::fabs(values[i]));
                               },
                               {}));
    return most;
  };
  TokenId calm = 0, wild = 0;
  for (TokenId token = 0; token < 320; ++token) {
    if (peak({token}) < peak({calm})) calm = token;
  }
  const std::vector<TokenId> quiet = {calm, calm};
  const auto then = [&](TokenId token) { return std::vector<TokenId>{calm, calm, token}; };
  for (TokenId token = 0; token < 320; ++token) {
    if (peak(then(token)) > peak(then(wild))) wild = token;
  }
  ASSERT_GT(peak(then(wild)), 4 * peak(quiet));
  const float scale = std::exp2(std::ceil(128 - std::log2(peak(then(wild)))));  // 2^128 is past the largest float
  ASSERT_LT(static_cast<double>(scale) * peak(quiet), 0.5 * std::numeric_limits<float>::max());

  ModelEditor editor("tied/model.gguf");
  editor.scale("blk.0.ffn_up.weight", scale).scale("blk.0.ffn_down.weight", 1 / scale);
  ModelOptions options;
  options.model_path = editor.write();
  options.use_reference = GetParam().reference;
  std::shared_ptr<const Model> model;
  {
    const testing::ForcedIsa forced(GetParam().isa);
    model = must(Model::load(options));
  }
  const auto ops = testing::make_ops(*model, GetParam());
  const auto decoder = must(testing::OneText::create(model, *ops, 8, 8, GetParam().kv));
  const auto fresh = must(testing::OneText::create(model, *ops, 8, 8, GetParam().kv));
  std::vector<float> want(2 * 320), got(2 * 320);
  EXPECT_OK(fresh->forward(text_input(quiet).view(), want, true, {}, {}));

  const Status status = decoder->forward(text_input(then(wild)).view(), {}, false, {}, {});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kNumeric);
  EXPECT_NE(status.error().message.find("first in blk.0.ffn ("), std::string::npos) << status.error().message;
  EXPECT_EQ(decoder->n_past(), 0);
  EXPECT_OK(decoder->forward(text_input(quiet).view(), got, true, {}, {}));
  EXPECT_EQ(got, want);
}

TEST_P(ModelBits, PatchesThatOverflowNameTheStepAndLeaveNothingBehind) {
  const auto model = testing::load_golden("tied", GetParam());
  const auto ops = testing::make_ops(*model, GetParam());
  const GoldenCase golden("tied/case-image.gguf");
  const Patches good = testing::patches_of(golden.pictures().at(0), model->vision());
  const auto encoder = must(VisionEncoder::create(model, *ops, 64));
  const auto want = must(encoder->encode(good, {}, {}));
  Patches bad = good;
  std::fill(bad.values.begin(), bad.values.end(), std::numeric_limits<float>::infinity());
  const auto refused = encoder->encode(bad, {}, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kNumeric);
  EXPECT_NE(refused.error().message.find("first in v.patch_embd"), std::string::npos) << refused.error().message;
  EXPECT_EQ(must(encoder->encode(good, {}, {})).values, want.values);
}

TEST_P(ModelBits, OddVideoRepeatsItsLastFrame) {
  const auto model = testing::load_golden("tied", GetParam());
  const auto ops = testing::make_ops(*model, GetParam());
  std::vector<Patches> frames;
  for (const Image& image : GoldenCase("tied/case-video.gguf").pictures()) {
    frames.push_back(testing::patches_of(image, model->vision()));
  }
  frames.resize(3);
  const auto encoder = must(VisionEncoder::create(model, *ops, 24));
  const ImageEmbedding odd = must(encoder->encode_video(frames, {}, {}));
  frames.push_back(frames[2]);
  const ImageEmbedding even = must(encoder->encode_video(frames, {}, {}));
  EXPECT_EQ(odd.grid.t, 2);
  EXPECT_EQ(odd.n_tokens, 12);
  EXPECT_EQ(odd.values, even.values);
  // Two equal frames are a still picture but for the rounding of the folded kernel.
  const ImageEmbedding still = must(encoder->encode(frames[2], {}, {}));
  const std::vector<float> last(odd.values.end() - static_cast<std::ptrdiff_t>(still.values.size()), odd.values.end());
  testing::ErrorBudget budget(GetParam(), "tied");
  double limit = 0;
  (void)encoder->encode(frames[2], [&](const std::string& name, auto&&...) { limit = budget.limit(name); }, {});
  EXPECT_LT(testing::nmse(last, still.values), limit);
}

INSTANTIATE_TEST_SUITE_P(Backends, ModelBits, ::testing::ValuesIn(testing::golden_backends()),
                         [](const auto& test) { return test.param.name; });

// ------------------------------------------------------------------------------------- state and errors (reference)

class DecoderState : public ::testing::Test {
 protected:
  const Backend backend_ = {.name = "ref", .reference = true};
  const std::shared_ptr<const Model> model_ = testing::load_golden("tied", backend_);
  const std::unique_ptr<Ops> ops_ = testing::make_ops(*model_, backend_);
  const std::unique_ptr<testing::OneText> decoder_ =
      must(testing::OneText::create(model_, *ops_, 10, 4, KvElement::kF32));

  void expect_refused(const Status& status, ErrorCode code, const std::string& part) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, code);
    EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
  }
};

TEST_F(DecoderState, ContextIsAsAskedFor) {
  EXPECT_EQ(decoder_->cache->context(), 10);
  EXPECT_EQ(decoder_->n_past(), 0);
}

TEST_F(DecoderState, FullContextSaysHowMuchIsLeft) {
  EXPECT_OK(decoder_->forward(text_input({1, 2, 3, 4, 5, 6, 7}).view(), {}, false, {}, {}));
  expect_refused(decoder_->forward(text_input({1, 2, 3, 4}, 7).view(), {}, false, {}, {}), ErrorCode::kContextFull,
                 "4 more positions do not fit: the context has 10, 7 are used, 3 are left");
  EXPECT_EQ(decoder_->n_past(), 7);
  EXPECT_OK(decoder_->forward(text_input({1, 2, 3}, 7).view(), {}, false, {}, {}));
}

TEST_F(DecoderState, BadInputIsRefusedBeforeAnythingRuns) {
  std::vector<float> logits(320);
  for (const TokenId id : {320, -2, INT32_MAX}) {
    expect_refused(decoder_->forward(text_input({1, id}).view(), {}, false, {}, {}), ErrorCode::kInvalidArgument,
                   std::to_string(id));
  }
  expect_refused(decoder_->forward(text_input({}).view(), {}, false, {}, {}), ErrorCode::kInvalidArgument, "no rows");
  expect_refused(decoder_->forward(text_input({1, -1}).view(), {}, false, {}, {}), ErrorCode::kInvalidArgument,
                 "embedding values");
  expect_refused(decoder_->forward(text_input({1, 2}).view(), logits, true, {}, {}), ErrorCode::kInvalidArgument,
                 "want 640");
  CaseInput crooked = text_input({1, 2});
  crooked.positions.pop_back();
  expect_refused(decoder_->forward(crooked.view(), {}, false, {}, {}), ErrorCode::kInvalidArgument,
                 "1 positions for 2");
  CaseInput nan = text_input({-1});
  nan.embeddings.assign(64, std::numeric_limits<float>::quiet_NaN());
  expect_refused(decoder_->forward(nan.view(), {}, false, {}, {}), ErrorCode::kNumeric, "embeddings given");
  EXPECT_EQ(decoder_->n_past(), 0);
}

TEST_F(DecoderState, LogitsOfTheLastRowAreTheLastOfAllLogits) {
  const CaseInput input = text_input({9, 8, 7, 6, 5, 4});
  std::vector<float> last(320), all(6 * 320);
  EXPECT_OK(decoder_->forward(input.view(), last, false, {}, {}));
  decoder_->truncate(0);
  EXPECT_OK(decoder_->forward(input.view(), all, true, {}, {}));
  EXPECT_TRUE(std::equal(last.begin(), last.end(), all.end() - 320));
}

TEST_F(DecoderState, CancelLeavesTheCacheAsItWas) {
  const CaseInput begin = text_input({1, 2, 3}), more = text_input({4, 5, 6, 7, 8, 9}, 3);
  std::vector<float> want(320), got(320);
  EXPECT_OK(decoder_->forward(begin.view(), {}, false, {}, {}));
  EXPECT_OK(decoder_->forward(more.view(), want, false, {}, {}));
  for (int stop_at = 0; stop_at < 4; ++stop_at) {  // two batches of two layers: four questions
    decoder_->truncate(3);
    int calls = 0;
    double before = -1;
    expect_refused(decoder_->forward(more.view(), got, false, {},
                                     [&](std::string_view, double fraction) {
                                       EXPECT_GT(fraction, before);
                                       before = fraction;
                                       return calls++ < stop_at;
                                     }),
                   ErrorCode::kCancelled, "cancelled");
    EXPECT_EQ(calls, stop_at + 1);
    EXPECT_EQ(decoder_->n_past(), 3);
  }
  EXPECT_OK(decoder_->forward(more.view(), got, false, {}, {}));
  EXPECT_EQ(got, want);
}

TEST_F(DecoderState, PlanGrowsWithContextAndBatch) {
  const uint64_t kv = ops_->kv_bytes(2, 16, 256, KvElement::kF32);
  EXPECT_EQ(KvCache::plan_bytes(*model_, *ops_, 256, KvElement::kF32), 2 * kv);
  EXPECT_EQ(KvCache::plan_bytes(*model_, *ops_, 512, KvElement::kF32), 4 * kv);
  EXPECT_EQ(KvCache::plan_bytes(*model_, *ops_, 200, KvElement::kF32), 2 * kv);  // rounded up
  EXPECT_GT(TextDecoder::plan_bytes(*model_, *ops_, 256, 32), TextDecoder::plan_bytes(*model_, *ops_, 256, 16));
}

TEST_F(DecoderState, SizesThatMakeNoSenseAreRefused) {
  EXPECT_FALSE(testing::OneText::create(model_, *ops_, 0, 1, KvElement::kF32).ok());
  EXPECT_FALSE(TextDecoder::create(model_, *ops_, 0, 1).ok());
  EXPECT_FALSE(testing::OneText::create(model_, *ops_, 8, 0, KvElement::kF32).ok());
  EXPECT_FALSE(testing::OneText::create(model_, *ops_, int64_t{1} << 40, 8, KvElement::kF32).ok());
  EXPECT_FALSE(VisionEncoder::create(model_, *ops_, 0).ok());
}

class EncoderState : public DecoderState {
 protected:
  const GoldenCase golden_{"tied/case-image.gguf"};
  const Patches patches_ = testing::patches_of(golden_.pictures().at(0), model_->vision());
  const std::unique_ptr<VisionEncoder> encoder_ = must(VisionEncoder::create(model_, *ops_, 24));
};

TEST_F(EncoderState, EmbeddingKnowsItsGridAndSize) {
  const ImageEmbedding e = must(encoder_->encode(patches_, {}, {}));
  EXPECT_EQ(e.grid.t, 1);
  EXPECT_EQ(e.grid.h, 4);
  EXPECT_EQ(e.grid.w, 6);
  EXPECT_EQ(e.n_tokens, 6);
  EXPECT_EQ(e.width, 64);
  EXPECT_EQ(e.resized.width, 84);
  EXPECT_EQ(e.resized.height, 56);
  EXPECT_EQ(e.values.size(), 6u * 64);
}

TEST_F(EncoderState, BadPatchesAreRefused) {
  const auto code = [&](const Patches& patches) {
    const auto result = encoder_->encode(patches, {}, {});
    return result.ok() ? ErrorCode::kInternal : result.error().code;
  };
  Patches odd = patches_;
  odd.grid.h = 3;
  EXPECT_EQ(code(odd), ErrorCode::kInvalidArgument);
  Patches short_rows = patches_;
  short_rows.values.pop_back();
  EXPECT_EQ(code(short_rows), ErrorCode::kInvalidArgument);
  Patches empty;
  EXPECT_EQ(code(empty), ErrorCode::kInvalidArgument);
  Patches large = patches_;
  large.grid.w = 8;
  large.values.resize(static_cast<size_t>(32 * large.row_length));
  EXPECT_EQ(code(large), ErrorCode::kTooLarge);
  EXPECT_FALSE(encoder_->encode_video({}, {}, {}).ok());
  Patches turned = patches_;
  std::swap(turned.grid.h, turned.grid.w);
  const Patches pair[2] = {patches_, turned};
  EXPECT_FALSE(encoder_->encode_video(pair, {}, {}).ok());
}

TEST_F(EncoderState, CancelStopsBetweenLayers) {
  int calls = 0;
  const auto result = encoder_->encode(patches_, {}, [&](std::string_view, double) { return ++calls < 2; });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(calls, 2);
}

TEST_F(EncoderState, PlanIsLinearInThePatches) {
  const auto at_least = static_cast<uint64_t>(4096 * model_->vision().hidden_size) * sizeof(float);
  EXPECT_GE(VisionEncoder::plan_bytes(*model_, *ops_, 4096), 3 * at_least);  // x, q, attention output
  const uint64_t one = VisionEncoder::plan_bytes(*model_, *ops_, 4096),
                 two = VisionEncoder::plan_bytes(*model_, *ops_, 8192),
                 four = VisionEncoder::plan_bytes(*model_, *ops_, 16384);
  EXPECT_LE(two, 2 * one);
  EXPECT_LE(four, 2 * two);
}

// More patches than one chunk of the feed-forward network: every row must still come out as it does alone.
TEST_F(EncoderState, ChunksOfRowsCoverALargePicture) {
  Image image{28 * 20, 28 * 16, std::vector<uint8_t>(28 * 20 * 28 * 16 * 3)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  const Patches patches = must(extract_patches(image, model_->vision().patch, nullptr));
  ASSERT_EQ(patches.grid.n_patches(), 1280);
  const auto encoder = must(VisionEncoder::create(model_, *ops_, 1280));
  std::vector<float> ffn_out;
  int64_t ffn_rows = 0, merger_rows = 0;
  const ImageEmbedding e =
      must(encoder->encode(patches,
                           [&](const std::string& name, const float* values, int64_t rows, int64_t cols) {
                             if (name == "v.blk.1.ffn") ffn_rows = rows;
                             if (name == "v.merger") merger_rows = rows;
                             if (name == "v.blk.1.ffn_out") ffn_out.assign(values, values + rows * cols);
                           },
                           {}));
  EXPECT_EQ(ffn_rows, 1280);
  EXPECT_EQ(merger_rows, 320);
  // The merger's last token, computed here from the last four rows.
  const VisionWeights& w = model_->vision_weights();
  std::vector<float> x(ffn_out.end() - 4 * 48, ffn_out.end()), h(192), out(64);
  EXPECT_OK(ops_->run([&] {
    ops_->norm_linear(Mat::contiguous(x.data(), 1, 192), w.merger.norm, w.merger.fc1, Activation::kGeluErf,
                      Mat::contiguous(h.data(), 1, 192));
    ops_->norm_linear(Mat::contiguous(h.data(), 1, 192), Norm{}, w.merger.fc2, Activation::kNone,
                      Mat::contiguous(out.data(), 1, 64));
  }));
  EXPECT_TRUE(std::equal(out.begin(), out.end(), e.values.end() - 64));
}

// ---------------------------------------------------------------------------------------------- embeddings as bytes

TEST_F(EncoderState, SavedEmbeddingComesBackUnchanged) {
  ImageEmbedding e = must(encoder_->encode(patches_, {}, {}));
  e.original = {1234, 567};
  const std::vector<std::byte> bytes = save_embedding(e);
  const ImageEmbedding back = must(load_embedding(bytes));
  EXPECT_EQ(back.values, e.values);
  EXPECT_EQ(back.grid.t, e.grid.t);
  EXPECT_EQ(back.grid.h, e.grid.h);
  EXPECT_EQ(back.grid.w, e.grid.w);
  EXPECT_EQ(back.merge_size, e.merge_size);
  EXPECT_EQ(back.n_tokens, e.n_tokens);
  EXPECT_EQ(back.width, e.width);
  EXPECT_EQ(back.original.width, 1234);
  EXPECT_EQ(back.original.height, 567);
  EXPECT_EQ(back.resized.width, e.resized.width);
  EXPECT_NE(e.fingerprint, 0u);
  EXPECT_EQ(back.fingerprint, e.fingerprint);
  EXPECT_EQ(save_embedding(back), bytes);
}

TEST_F(EncoderState, DamagedEmbeddingsAreRefused) {
  const std::vector<std::byte> bytes = save_embedding(must(encoder_->encode(patches_, {}, {})));
  for (size_t n = 0; n < bytes.size(); ++n) {
    const auto result = load_embedding(std::span(bytes).first(n));
    ASSERT_FALSE(result.ok()) << n << " bytes";
    EXPECT_EQ(result.error().code, ErrorCode::kTruncated);
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(load_embedding(longer).ok());
  const auto refused = [&](std::vector<std::byte> damaged, const char* word, bool seal) {
    if (seal) seal_embedding(damaged);
    const auto result = load_embedding(damaged);
    ASSERT_FALSE(result.ok()) << word;
    EXPECT_NE(result.error().message.find(word), std::string::npos) << result.error().message;
  };
  for (size_t field = 0; field < 6; ++field) {  // grid, merge size, tokens, width: each alone contradicts the others
    for (const int64_t value : {int64_t{0}, int64_t{-1}, int64_t{7}, int64_t{1} << 29, INT64_MAX}) {
      std::vector<std::byte> damaged = bytes;
      std::memcpy(damaged.data() + 8 + 8 * field, &value, 8);
      refused(damaged, "image embedding: ", true);
    }
  }
  std::vector<std::byte> magic = bytes, old = bytes, newer = bytes, nan = bytes;
  magic[0] = std::byte{'g'};
  old[4] = std::byte{1};
  newer[4] = std::byte{5};  // 3: a video's, 4: with cells
  refused(magic, "GLIE", false);
  refused(old, "older glimpse", false);
  refused(newer, "newer glimpse", false);
  EXPECT_EQ(load_embedding(old).error().code, ErrorCode::kUnsupported);
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(nan.data() + nan.size() - 4, &quiet, 4);
  refused(nan, "NaN", true);
  for (size_t at = 8; at < bytes.size(); at += 3) {  // any bit: what the fields do not betray, the checksum does
    std::vector<std::byte> flipped = bytes;
    flipped[at] ^= std::byte{0x10};
    refused(flipped, "image embedding: ", false);
  }
}

}  // namespace
}  // namespace glimpse
