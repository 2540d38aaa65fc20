// What a session costs: memory, and the tokens of a picture.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/generate/image_budget.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

TEST(SessionPlan, CountsTheCacheExactlyAndGrowsWithEveryOption) {
  const auto model = tied_model();
  const SessionOptions options = small_session();
  const MemoryPlan plan = must(plan_session(*model, options));
  EXPECT_EQ(plan.weights, model->weight_bytes());
  EXPECT_EQ(plan.kv_cache, 2u * 2 * 2 * 16 * 256 * sizeof(float));  // layers, K and V, heads, head_dim, context
  EXPECT_EQ(plan.total(),
            plan.weights + plan.kv_cache + plan.decoder_scratch + plan.vision_scratch + plan.image_reading);

  SessionOptions more = options;
  more.context = 512;
  EXPECT_EQ(must(plan_session(*model, more)).kv_cache, 2 * plan.kv_cache);
  more = options;
  more.batch = 128;
  EXPECT_GT(must(plan_session(*model, more)).decoder_scratch, plan.decoder_scratch);
  more = options;
  more.max_image_tokens = 128;
  EXPECT_GT(must(plan_session(*model, more)).vision_scratch, plan.vision_scratch);
}

TEST(SessionPlan, CountsTheBytesOfEveryTypeOfCache) {
  const auto model = tied_model(false);
  SessionOptions options = small_session();
  EXPECT_EQ(SessionOptions().kv_element, KvElement::kF16);
  const uint64_t n_heads = 2u * 2 * 2;  // layers, K and V, heads, each of 256 positions of 16 dimensions
  const std::pair<KvElement, uint64_t> sizes[] = {
      {KvElement::kF32, 16 * 256 * 4},
      {KvElement::kBf16, 16 * 256 * 2},
      {KvElement::kF16, 16 * 256 * 2},
      {KvElement::kQ8_0, 256 / 16 * (64 + 16 * 16)}};  // scales of 16 positions in a line of 64 bytes, and int8
  uint64_t scratch = 0;
  for (const auto& [element, head_bytes] : sizes) {
    options.kv_element = element;
    const MemoryPlan plan = must(plan_session(*model, options));
    EXPECT_EQ(plan.kv_cache, n_heads * head_bytes) << kv_element_name(element);
    if (scratch == 0) scratch = plan.decoder_scratch;
    EXPECT_EQ(plan.decoder_scratch, scratch) << kv_element_name(element);
  }
}

TEST(SessionPlan, ContextIsCappedByTheModelsWithAWarning) {
  SessionOptions options = small_session(100000);
  std::vector<std::string> warnings;
  options.log = [&](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) warnings.emplace_back(message);
  };
  const auto session = make_session(tied_model(), options);
  EXPECT_EQ(session->context(), 512);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("100000"), std::string::npos);
  EXPECT_NE(warnings[0].find("512"), std::string::npos);
}

TEST(SessionPlan, RejectsOptionsOutsideTheirRangeByName) {
  const auto expect_rejected = [](auto change, const char* name) {
    SessionOptions options = small_session();
    change(options);
    for (const auto& error :
         {plan_session(*tied_model(), options).error(), Session::create(tied_model(), options).error()}) {
      EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
      EXPECT_NE(error.message.find(name), std::string::npos) << error.message;
    }
  };
  expect_rejected([](SessionOptions& o) { o.n_threads = -1; }, "n_threads");
  expect_rejected([](SessionOptions& o) { o.context = 0; }, "context");
  expect_rejected([](SessionOptions& o) { o.context = int64_t{1} << 40; }, "context");
  expect_rejected([](SessionOptions& o) { o.batch = 0; }, "batch");
  expect_rejected([](SessionOptions& o) { o.max_image_tokens = -1; }, "max_image_tokens");
  expect_rejected([](SessionOptions& o) { o.min_image_tokens = 9, o.max_image_tokens = 8; }, "min_image_tokens");
  expect_rejected([](SessionOptions& o) { o.image_limits = {0, 783}; }, "image_limits");
  expect_rejected([](SessionOptions& o) { o.source_limits.max_pixels = 0; }, "image_source_max_pixels");
  expect_rejected([](SessionOptions& o) { o.source_limits.max_memory = 0; }, "image_source_max_memory");
  expect_rejected([](SessionOptions& o) { o.source_limits.max_scans = 0; }, "image_source_max_scans");
  expect_rejected([](SessionOptions& o) { o.image_limits = {5000, 4000}; }, "image_limits");
}

TEST(SessionPlan, AContextOfOneIsASession) {
  const auto session = make_session(1);
  EXPECT_EQ(session->prefill({user("")}, {}).error().code, ErrorCode::kContextFull);
}

TEST(ImageBudget, TokensOverridePixels) {
  const VisionConfig& vision = tied_model()->vision();
  const ResizeLimits pixels = {3136, 1003520};
  EXPECT_EQ(must(effective_limits(pixels, 0, 0, vision)).max_pixels, 1003520);
  VisionConfig qwen3 = vision;
  qwen3.patch.patch_size = 16;
  qwen3.position_side = 48;
  EXPECT_EQ(must(effective_limits({}, 0, 0, vision)).min_pixels, 3136);
  EXPECT_EQ(must(effective_limits({}, 0, 0, qwen3)).min_pixels, 65536);  // preprocessor_config.json of Qwen3-VL
  EXPECT_EQ(must(effective_limits({1024, 4096}, 0, 0, qwen3)).min_pixels, 1024);
  EXPECT_EQ(must(effective_limits({}, 0, 10, qwen3)).min_pixels, 10240);
  EXPECT_EQ(must(effective_limits(pixels, 8, 0, vision)).min_pixels, 8 * 784);
  EXPECT_EQ(must(effective_limits(pixels, 0, 100, vision)).max_pixels, 100 * 784);
  // One token is less than the least number of pixels, which was not asked for in tokens: it yields.
  const ResizeLimits one = must(effective_limits(pixels, 0, 1, vision));
  EXPECT_EQ(one.min_pixels, 784);
  EXPECT_EQ(one.max_pixels, 784);
  // Room for a grid of any proportions that has 2000: 45 rows need at most 44 more.
  EXPECT_EQ(must(effective_limits(pixels, 2000, 0, vision)).max_pixels, 2045 * 784);
}

// smart_resize alone gives 35 x 35 = 1225 tokens to a square picture that should have 1280.
TEST(ImageBudget, TheMinimumHoldsWhereAnyGridSatisfiesBothLimits) {
  const VisionConfig& vision = tied_model()->vision();
  const ResizeLimits defaults;
  for (const int64_t least : {1, 5, 64, 300, 1280, 1300, 4096}) {
    const ResizeLimits limits = must(effective_limits(defaults, least, 0, vision));
    for (const auto& [width, height] :
         {std::pair{1000, 1000}, {4000, 3000}, {30, 30}, {5000, 40}, {40, 5000}, {97, 701}}) {
      const ImageCost cost = must(effective_image_size(width, height, vision, limits));
      EXPECT_GE(cost.n_tokens, least) << width << " x " << height;
      EXPECT_LE(cost.n_tokens * 784, limits.max_pixels) << width << " x " << height;
      // Proportions stay as near as whole tokens allow: the shorter side is off by less than one.
      const double rows = static_cast<double>(cost.resized.height) / 28,
                   columns = static_cast<double>(cost.resized.width) / 28;
      const double aspect = static_cast<double>(width) / height;
      const double shorter = aspect > 1 ? rows : columns;
      const double wanted = std::sqrt(rows * columns * (aspect > 1 ? 1 / aspect : aspect));
      EXPECT_LT(std::fabs(shorter - wanted), 1) << width << " x " << height << ": " << columns << " x " << rows;
    }
  }
  // Both bounds: 1280 tokens exactly, 40 x 32.
  const ResizeLimits exact = must(effective_limits(defaults, 1280, 1280, vision));
  EXPECT_EQ(must(effective_image_size(1000, 800, vision, exact)).n_tokens, 1280);
  // A prime number leaves only one row: nothing nearer exists.
  const ResizeLimits prime = must(effective_limits(defaults, 101, 101, vision));
  EXPECT_EQ(must(effective_image_size(1000, 1000, vision, prime)).n_tokens, 101);
}

TEST(ImageBudget, ToldSizeIsTheEncodedSize) {
  SessionOptions options = small_session();
  options.min_image_tokens = 4;
  options.max_image_tokens = 20;
  const auto session = make_session(tied_model(), options);
  const VisionConfig& vision = tied_model()->vision();
  const ResizeLimits limits = must(effective_limits(options.image_limits, 4, 20, vision));
  for (const auto& [width, height] : {std::pair{10, 10}, {75, 50}, {400, 300}, {300, 20}, {28, 28}}) {
    Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(3 * width * height), 100)};
    const ImageCost cost = must(effective_image_size(width, height, vision, limits));
    const auto embedding = encode(*session, image);
    EXPECT_EQ(embedding->n_tokens, cost.n_tokens);
    EXPECT_EQ(embedding->resized.width, cost.resized.width);
    EXPECT_EQ(embedding->resized.height, cost.resized.height);
    EXPECT_EQ(embedding->grid.h, cost.grid.h);
    EXPECT_EQ(embedding->grid.w, cost.grid.w);
    EXPECT_EQ(embedding->original.width, width);
    EXPECT_EQ(embedding->original.height, height);
    EXPECT_GE(cost.n_tokens, 4);
    EXPECT_LE(cost.n_tokens, 20);
  }
}

TEST(EncodeImage, APictureLargerThanTheContextIsCaughtBeforeItIsEncoded) {
  SessionOptions options = small_session(30);
  options.max_image_tokens = 100;
  const auto session = make_session(tied_model(), options);
  Image image{280, 280, std::vector<uint8_t>(3 * 280 * 280)};
  const auto result = session->encode_image(image, nullptr, [](std::string_view, double) -> bool {
    ADD_FAILURE() << "the encoder ran";
    return true;
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kContextFull);
  EXPECT_EQ(result.error().message,
            "the picture needs 100 tokens; the context holds 30: use a context of at least 100, or a smaller "
            "image_max_tokens");
}

TEST(EncodeImage, RefusesPixelsThatContradictTheSizeAndThinPictures) {
  const auto session = make_session();
  for (const Image& image : {Image{}, Image{4, 4, std::vector<uint8_t>(47)}, Image{-1, 4, {}},
                             Image{2010, 10, std::vector<uint8_t>(3 * 20100)}}) {
    const auto result = session->encode_image(image, nullptr, {});
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument) << result.error().message;
  }
}

TEST(EncodeImage, CanBeCancelled) {
  const auto session = make_session();
  const auto result =
      session->encode_image(golden_pictures()[0], nullptr, [](std::string_view, double) { return false; });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_OK(session->encode_image(golden_pictures()[0], nullptr, {}));
}

TEST(EncodeImage, AModelWithoutVisionSaysSoButTakesEmbeddings) {
  ModelOptions options;
  options.model_path = golden_path("tied/model.gguf");
  options.use_reference = true;
  const auto blind = make_session(must(Model::load(options)), small_session());
  const auto result = blind->encode_image(golden_pictures()[0], nullptr, {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kMismatch);
  EXPECT_NE(result.error().message.find("mmproj"), std::string::npos);
  EXPECT_EQ(must(plan_session(*must(Model::load(options)), small_session())).vision_scratch, 0u);

  const auto seeing = make_session();
  const Message message = {"user", {{"", encode(*seeing, golden_pictures()[0])}, {"what?", nullptr}}};
  ASSERT_TRUE(seeing->prefill({message}, {}).ok());
  ASSERT_TRUE(blind->prefill({message}, {}).ok());
  EXPECT_EQ(logits_of(*blind), logits_of(*seeing));
}

}  // namespace
}  // namespace glimpse::testing
