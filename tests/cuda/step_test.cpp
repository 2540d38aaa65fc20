// Recorded decode steps against the same pass launch by launch: bits of the cache and the logits, tokens drawn.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "engine/generate/sampler.h"
#include "tests/cuda/step_support.h"
#include "tests/engine/model_editor.h"

namespace glimpse::testing {
namespace {

using cuda::CudaOps;
using cuda::HostDeviceOptions;

std::vector<MropePosition> text_positions(int64_t first, size_t n) {
  std::vector<MropePosition> positions;
  for (size_t i = 0; i < n; ++i) {
    const auto p = static_cast<int32_t>(first) + static_cast<int32_t>(i);
    positions.push_back({p, p, p});
  }
  return positions;
}

TokenId best(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// A decoder that has read a few tokens, on ops of its own.
struct Reader {
  std::unique_ptr<Ops> ops;
  std::unique_ptr<OneText> decoder;
  Reader(const std::shared_ptr<const Model>& model, int64_t context, KvElement kv)
      : ops(must(model->make_ops(1))), decoder(must(OneText::create(model, *ops, context, 64, kv))) {}
  void read(const std::vector<TokenId>& ids) {
    EXPECT_OK(decoder->forward({ids, text_positions(decoder->n_past(), ids.size()), {}}, {}, false, {}, {}));
  }
  std::vector<float> forward(TokenId id, int64_t vocab) {
    return forward(*decoder->decoder, *decoder->cache, id, vocab);
  }
  static std::vector<float> forward(TextDecoder& decoder, KvCache& cache, TokenId id, int64_t vocab) {
    std::vector<float> logits(static_cast<size_t>(vocab));
    const auto positions = text_positions(cache.n_past(), 1);
    EXPECT_OK(decoder.forward(cache, {std::span(&id, 1), positions, {}}, logits, false, {}, {}));
    return logits;
  }
  std::optional<TokenId> step(TokenId id, const DrawOptions& draw, const std::vector<float>& uniform) {
    return must(decoder->step(id, text_positions(decoder->n_past(), 1)[0], draw, uniform));
  }
};

// Every way of a product (float, half, quantised; heads that are whole tiles and that are not; fused and unfused
// SwiGLU) is in one of the first three models; the last chooses experts. 128 keys are a chunk of attention: the steps
// cross its border.
TEST(CudaStep, GreedyTokensAndLogitsAreThoseOfLaunches) {
  struct Case {
    const char* folder;
    KvElement kv;
    cuda::host::Order order;
  };
  for (const Case& c : {Case{"tied", KvElement::kF16, cuda::host::Order::kRandom},
                        Case{"tied", KvElement::kF32, cuda::host::Order::kReverse},
                        Case{"untied", KvElement::kBf16, cuda::host::Order::kForward},
                        Case{"tied", KvElement::kQ8_0, cuda::host::Order::kForward},
                        Case{"quantized", KvElement::kQ8_0, cuda::host::Order::kRandom},
                        Case{"quantized", KvElement::kF16, cuda::host::Order::kReverse},
                        Case{"qwen2moe", KvElement::kF16, cuda::host::Order::kRandom}}) {
    SCOPED_TRACE(std::string(c.folder) + ", cache of " + kv_element_name(c.kv));
    const std::string path = golden_path(c.folder + std::string("/model.gguf"));
    const auto model = load_on(path, "", CudaDecode::kGraph, {.order = c.order});
    const int64_t vocab = model->text().vocab_size;
    Reader steps(model, 256, c.kv), launches(model, 256, c.kv);
    std::vector<TokenId> prompt;
    for (TokenId id = 0; id < 124; ++id) prompt.push_back(id * 7 % 200);
    steps.read(prompt);
    launches.read(prompt);
    TokenId token = 3;
    for (int i = 0; i < 8; ++i) {
      const TokenId want = best(launches.forward(token, vocab));
      const auto got = steps.step(token, {}, {0, 0, 0});
      ASSERT_TRUE(got.has_value());
      ASSERT_EQ(*got, want) << "step " << i;
      token = want;
    }
    EXPECT_EQ(steps.decoder->n_past(), launches.decoder->n_past());
    // All slots that the steps filled are in these logits.
    EXPECT_EQ(steps.forward(token, vocab), launches.forward(token, vocab));
  }
}

// Steps of several texts against the passes of each alone: tokens, and all that the steps left in the caches.
TEST(CudaStep, SeveralTextsInOneStepAreEachWhatTheyAreAlone) {
  struct Case {
    const char* folder;
    KvElement kv;
    size_t n_texts;
  };
  for (const Case& c : {Case{"tied", KvElement::kF16, 3}, Case{"quantized", KvElement::kQ8_0, 2},
                        Case{"qwen2moe", KvElement::kF16, 2}}) {
    SCOPED_TRACE(std::string(c.folder) + ", cache of " + kv_element_name(c.kv));
    const auto model = load_on(golden_path(c.folder + std::string("/model.gguf")), "", CudaDecode::kGraph);
    const int64_t vocab = model->text().vocab_size;
    const auto ops = must(model->make_ops(1));
    const auto decoder = must(TextDecoder::create(model, *ops, 256, 64));
    std::vector<std::unique_ptr<KvCache>> caches;
    std::vector<std::unique_ptr<Reader>> alone;
    std::vector<TokenId> tokens;
    for (size_t i = 0; i < c.n_texts; ++i) {
      caches.push_back(must(KvCache::create(*model, *ops, 256, c.kv)));
      alone.push_back(std::make_unique<Reader>(model, 256, c.kv));
      std::vector<TokenId> prompt;
      for (TokenId id = 0; id < static_cast<TokenId>(3 + 9 * i); ++id) prompt.push_back(id * 7 % 200);
      const auto positions = text_positions(0, prompt.size());
      EXPECT_OK(decoder->forward(*caches[i], {prompt, positions, {}}, {}, false, {}, {}));
      alone[i]->read(prompt);
      tokens.push_back(static_cast<TokenId>(3 + i));
    }
    const std::vector<float> luck(3);
    for (int step = 0; step < 4; ++step) {
      std::vector<TextDecoder::StepInput> inputs;
      for (size_t i = 0; i < c.n_texts; ++i) {
        inputs.push_back({caches[i].get(), tokens[i], text_positions(caches[i]->n_past(), 1)[0], {}, luck});
      }
      std::vector<TokenId> drawn(c.n_texts);
      const bool done = must(decoder->step(inputs, drawn));
      ASSERT_EQ(done, step > 0);  // recorded when they come together again
      for (size_t i = 0; i < c.n_texts; ++i) {
        const TokenId want = best(alone[i]->forward(tokens[i], vocab));
        if (!done) {
          const std::vector<float> logits = Reader::forward(*decoder, *caches[i], tokens[i], vocab);
          drawn[i] = best(logits);
        }
        ASSERT_EQ(drawn[i], want) << "step " << step << ", text " << i;
      }
      tokens = drawn;
    }
    for (size_t i = 0; i < c.n_texts; ++i) {
      EXPECT_EQ(caches[i]->n_past(), alone[i]->decoder->n_past());
      EXPECT_EQ(Reader::forward(*decoder, *caches[i], tokens[i], vocab), alone[i]->forward(tokens[i], vocab));
    }
  }
}

// A recorded step's launches by the first word of the kernels' names. n_texts: rows of the step.
std::map<std::string, int> launches_of_a_step(const char* folder, KvElement kv, size_t n_texts) {
  const auto device = std::make_shared<cuda::NotingDevice>(cuda::test_device({}));
  const auto model = load_on(device, golden_path(folder + std::string("/model.gguf")), "", CudaDecode::kGraph);
  const auto ops = must(model->make_ops(1));
  const auto decoder = must(TextDecoder::create(model, *ops, 256, 64));
  std::vector<std::unique_ptr<KvCache>> caches;
  std::vector<TextDecoder::StepInput> inputs;
  const std::vector<float> luck(3);
  for (size_t i = 0; i < n_texts; ++i) {
    caches.push_back(must(KvCache::create(*model, *ops, 256, kv)));
    inputs.push_back({caches[i].get(), 3, text_positions(0, 1)[0], {}, luck});
  }
  std::vector<TokenId> drawn(n_texts);
  if (n_texts > 1) {
    EXPECT_FALSE(must(decoder->step(inputs, drawn)));  // recorded when they come together again
    EXPECT_TRUE(device->recorded.empty());
  }
  EXPECT_TRUE(must(decoder->step(inputs, drawn)));
  std::map<std::string, int> counts;
  for (const cuda::NotingDevice::Launch& launch : device->recorded) {
    const std::string name = cuda::kernel_info(launch.kernel).name;
    ++counts[name.substr(0, name.find('_'))];
  }
  return counts;
}

// Per layer: QKV with rotation and cache write, attention, O, gate/up, down. What costs a launch more: a format of its
// own among Q, K and V, but for Q6_K beside Q4_K or Q5_K where there is one row; a cache of q8_0, heads that are no
// whole tiles, or several rows (keys and values are stored apart); experts (router, choice, two products, their sum;
// two products of a shared one). Several rows cost no other.
TEST(CudaStep, HasAsManyLaunchesAsItsDescriptionSays) {
  using Counts = std::map<std::string, int>;
  struct Case {
    const char* folder;
    KvElement kv;
    size_t n_texts;
    Counts want;
  };
  const Case cases[] = {
      {"tied", KvElement::kF16, 1, {{"embed", 1}, {"gemv", 2 * 4 + 1}, {"attend", 2}, {"sample", 1}}},
      {"tied", KvElement::kQ8_0, 1, {{"embed", 1}, {"gemv", 2 * 4 + 1}, {"store", 2}, {"attend", 2}, {"sample", 1}}},
      {"tied", KvElement::kF16, 5, {{"embed", 1}, {"gemv", 2 * 4 + 1}, {"rope", 2}, {"attend", 2}, {"sample", 1}}},
      {"untied", KvElement::kBf16, 1, {{"embed", 1}, {"gemv", 3 * 4 + 1}, {"attend", 3}, {"sample", 1}}},
      {"quantized", KvElement::kF16, 1, {{"embed", 1}, {"gemv", 2 * 5 + 1}, {"attend", 2}, {"sample", 1}}},
      {"quantized",
       KvElement::kQ8_0,
       8,
       {{"embed", 1}, {"gemv", 2 * 6 + 1}, {"store", 2}, {"attend", 2}, {"sample", 1}}},
      {"qwen2moe",
       KvElement::kF16,
       1,
       {{"embed", 1}, {"gemv", 2 * 7 + 1}, {"rope", 2}, {"attend", 2}, {"choose", 2}, {"add", 2}, {"sample", 1}}},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(launches_of_a_step(c.folder, c.kv, c.n_texts), c.want)
        << c.folder << ", cache of " << kv_element_name(c.kv) << ", " << c.n_texts << " texts";
  }
}

struct TwoSteps {
  const char* folder;
  KvElement kv;
  size_t n_texts;
  size_t n_past;  // of the first text, of the others a few more
};
// The tokens they draw, and the logits behind them.
std::pair<std::vector<TokenId>, std::vector<float>> after(const TwoSteps& c, const HostDeviceOptions& device) {
  const auto model = load_on(golden_path(c.folder + std::string("/model.gguf")), "", CudaDecode::kGraph, device);
  const auto ops = must(model->make_ops(1));
  const auto decoder = must(TextDecoder::create(model, *ops, 256, 64));
  std::vector<std::unique_ptr<KvCache>> caches;
  std::vector<TextDecoder::StepInput> inputs;
  const std::vector<float> luck(1);  // no step ahead
  for (size_t i = 0; i < c.n_texts; ++i) {
    caches.push_back(must(KvCache::create(*model, *ops, 256, c.kv)));
    std::vector<TokenId> prompt(c.n_past + 3 * i);
    for (size_t at = 0; at < prompt.size(); ++at) prompt[at] = static_cast<TokenId>(at * 7 % 200);
    EXPECT_OK(decoder->forward(*caches[i], {prompt, text_positions(0, prompt.size()), {}}, {}, false, {}, {}));
    inputs.push_back({caches[i].get(), 3, {}, {}, luck});
  }
  std::pair<std::vector<TokenId>, std::vector<float>> result;
  for (size_t calls = c.n_texts > 1 ? 3 : 2; calls > 0;
       --calls) {  // several are recorded when they come together again
    for (auto& input : inputs) input.position = text_positions(input.cache->n_past(), 1)[0];
    std::vector<TokenId> drawn(c.n_texts);
    if (!must(decoder->step(inputs, drawn))) continue;
    for (size_t i = 0; i < c.n_texts; ++i) inputs[i].id = drawn[i];
    result.first.insert(result.first.end(), drawn.begin(), drawn.end());
  }
  for (const auto& input : inputs) {
    const auto logits = Reader::forward(*decoder, *input.cache, input.id, model->text().vocab_size);
    result.second.insert(result.second.end(), logits.begin(), logits.end());
  }
  return result;
}

// On a GPU each launch of a step begins while those ahead of it run: what it touches before it waits for them must be
// older than the step.
TEST(CudaStep, ReadsNothingTooEarly) {
  for (const TwoSteps& c :
       {TwoSteps{"tied", KvElement::kF16, 1, 127}, TwoSteps{"quantized", KvElement::kQ8_0, 1, 2},
        TwoSteps{"quantized", KvElement::kBf16, 3, 2}, TwoSteps{"qwen2moe", KvElement::kF16, 1, 2}}) {
    const auto late = after(c, {}), early = after(c, {.order = cuda::host::Order::kRandom, .early = true});
    EXPECT_EQ(late.first.size(), 2 * c.n_texts);
    EXPECT_EQ(early, late) << c.folder << ", cache of " << kv_element_name(c.kv) << ", " << c.n_texts << " texts";
  }
}

// A row that is not finite draws nothing and leaves the state as it is.
TEST(CudaStep, RowsThatAreNotFiniteDrawNothing) {
  ModelEditor editor("quantized/model.gguf");
  editor.scale("output_norm.weight", 1e38f);
  const std::string overflowing = editor.write();
  for (const DrawOptions draw : {DrawOptions{}, DrawOptions{.temperature = 1, .top_p = 0.9f}}) {
    Reader broken(load_on(overflowing, "", CudaDecode::kGraph), 64, KvElement::kF16);
    broken.read({1, 2, 3});
    for (int i = 0; i < 2; ++i) EXPECT_EQ(broken.step(9, draw, {0, 0, 0}), std::nullopt);
    EXPECT_EQ(broken.decoder->n_past(), 3);
  }
}

TEST(CudaStep, LogitsOfTheLastSlotAreComputedAgainToTheSameBits) {
  const auto model = load_on(golden_path("quantized/model.gguf"), "", CudaDecode::kGraph);
  const int64_t vocab = model->text().vocab_size;
  Reader steps(model, 64, KvElement::kF16), launches(model, 64, KvElement::kF16);
  steps.read({1, 2, 3});
  launches.read({1, 2, 3});
  const std::vector<float> want = launches.forward(9, vocab);
  ASSERT_EQ(steps.step(9, {}, {0, 0, 0}), best(want));
  std::vector<float> got(want.size());
  EXPECT_OK(steps.decoder->last_logits(9, text_positions(3, 1)[0], got));
  EXPECT_EQ(got, want);
  EXPECT_EQ(steps.decoder->n_past(), 4);
  // And what follows is not disturbed by the steps that were ahead.
  const std::vector<float> next = launches.forward(best(want), vocab);
  EXPECT_EQ(steps.step(best(want), {}, {0, 0, 0}), best(next));
}

// A recording points at memory that is too small for a later, larger user of the same Ops.
TEST(CudaStep, StepsGoOnWhenTheirMemoryHasGrown) {
  {
    const auto model = load_on(golden_path("quantized/model.gguf"), "", CudaDecode::kGraph);
    // Keys and values go through that memory on their way to a cache of q8_0.
    Reader steps(model, 64, KvElement::kQ8_0), launches(model, 64, KvElement::kQ8_0);
    TokenId token = 9;
    for (int i = 0; i < 6; ++i) {
      const TokenId want = best(launches.forward(token, model->text().vocab_size));
      ASSERT_EQ(steps.step(token, {}, {0, 0, 0}), want);
      token = want;
      if (i != 2) continue;
      const uint64_t before = steps.ops->available_bytes();
      EXPECT_OK(steps.ops->reserve(1024, 4096));
      if (!cuda::on_gpu()) {  // whose memory others use, too
        EXPECT_EQ(before - steps.ops->available_bytes(), steps.ops->reserve_bytes(1024, 4096)) << "the old is kept";
      }
    }
  }
}

TEST(CudaStep, DrawsAreThoseOfTheSamplingKernelOnTheSameLogits) {
  const auto model = load_on(golden_path("tied/model.gguf"), "", CudaDecode::kGraph);
  const int64_t vocab = model->text().vocab_size;
  for (const DrawOptions draw :
       {DrawOptions{.temperature = 1}, DrawOptions{.temperature = 2, .top_k = 20, .top_p = 0.9f, .min_p = 0.01f}}) {
    Reader steps(model, 64, KvElement::kF16), launches(model, 64, KvElement::kF16);
    steps.read({1, 2, 3});
    launches.read({1, 2, 3});
    auto& ops = static_cast<CudaOps&>(*launches.ops);
    std::vector<float> luck;
    for (int i = 0; i < 22; ++i) luck.push_back(static_cast<float>(i * 7 % 22) / 22);
    TokenId token = 9;
    for (size_t i = 0; i < 20; ++i) {
      const auto logits = cuda::buffer(ops, launches.forward(token, vocab));
      int32_t want = -2;
      EXPECT_OK(ops.run([&] {
        ops.sample(Mat::contiguous(logits->data, 1, vocab), draw, std::span(&luck[i], 1), std::span(&want, 1));
      }));
      ASSERT_EQ(steps.step(token, draw,
                           {luck.begin() + static_cast<ptrdiff_t>(i), luck.begin() + static_cast<ptrdiff_t>(i) + 3}),
                want);
      token = want;
    }
  }
}

TEST(CudaStep, RowThatIsNotFiniteIsLeftToForwardWhichHasTheError) {
  ModelEditor editor("quantized/model.gguf");
  editor.scale("output_norm.weight", 1e38f);
  const auto model = load_on(editor.write(), "", CudaDecode::kGraph);
  Reader reader(model, 64, KvElement::kF16);
  reader.read({1, 2, 3});
  EXPECT_EQ(reader.step(9, {}, {0, 0, 0}), std::nullopt);
  EXPECT_EQ(reader.decoder->n_past(), 3);
  std::vector<float> logits(static_cast<size_t>(model->text().vocab_size));
  const TokenId id = 9;
  const Status status = reader.decoder->forward({std::span(&id, 1), text_positions(3, 1), {}}, logits, false, {}, {});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kNumeric);
}

// A step that was begun ahead may leave NaN in a slot beyond the conversation: nobody reads it as a key.
TEST(CudaStep, StepsBegunAheadAndNotTakenDisturbNoLaterPrompt) {
  for (const KvElement kv : {KvElement::kF16, KvElement::kQ8_0}) {
    TokenId drawn = -1;
    for (const bool poisoned : {false, true}) {
      ModelEditor editor("untied/model.gguf");
      auto& table = editor.tensor("token_embd.weight");  // f16: its first column decides nothing but in the drawn row
      const auto cols = static_cast<size_t>(table.dims[0]);
      auto* const rows = reinterpret_cast<uint16_t*>(table.bytes.data());
      for (size_t i = 0; i < table.bytes.size() / sizeof(uint16_t); i += cols) rows[i] = 0;
      editor.floats("blk.0.attn_norm.weight")[0] = 3e38f;
      if (poisoned) rows[static_cast<size_t>(drawn) * cols] = 0x7bff;  // 65504
      Reader reader(load_on(editor.write(), "", CudaDecode::kGraph), 64, kv);
      std::vector<TokenId> prompt;
      for (TokenId id = 1; id <= 20; ++id) prompt.push_back(id);
      reader.read(prompt);
      const auto got = reader.step(9, {}, {0, 0, 0});  // and two more
      ASSERT_TRUE(got.has_value());
      drawn = *got;
      reader.decoder->truncate(0);
      reader.read({prompt.begin(), prompt.begin() + 12});  // by tiles, in whose first the slots lie
    }
  }
}

TEST(CudaStep, WrongInputIsRefusedAndWhatAStepCannotDoIsLeftToForward) {
  const auto model = load_on(golden_path("tied/model.gguf"), "", CudaDecode::kGraph);
  Reader reader(model, 4, KvElement::kF16);
  const std::vector<float> luck = {0};
  const auto refused = [&](TokenId id, const MropePosition& position) {
    const auto result = reader.decoder->step(id, position, {}, luck);
    return result.ok() ? ErrorCode::kInternal : result.error().code;
  };
  EXPECT_EQ(refused(static_cast<TokenId>(model->text().vocab_size), {0, 0, 0}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused(-1, {0, 0, 0}), ErrorCode::kInvalidArgument);  // an embedding without its values
  for (const MropePosition& position :
       {MropePosition{0, 1, 0}, {-1, -1, -1}, {4, 4, 4}, {INT32_MAX, INT32_MAX, INT32_MAX}}) {
    EXPECT_EQ(must(reader.decoder->step(1, position, {}, luck)), std::nullopt);
  }
  EXPECT_EQ(must(reader.decoder->step(1, {0, 0, 0}, {}, {})), std::nullopt);
  EXPECT_EQ(reader.decoder->n_past(), 0);
  EXPECT_FALSE(reader.decoder->last_logits(1, {0, 0, 0}, {}).ok());  // there is no last slot
  reader.read({1, 2, 3, 4});
  EXPECT_EQ(refused(1, {4, 4, 4}), ErrorCode::kContextFull);
}

}  // namespace
}  // namespace glimpse::testing
