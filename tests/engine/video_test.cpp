// Videos: which frames are seen, at what size; through a session, to transformers' continuation; kept, saved, refused.
#include "engine/generate/video.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/generate/picture_encoder.h"
#include "tests/engine/session_support.h"

namespace glimpse {
namespace {

using testing::GoldenCase;
using testing::must;
using Family = VisionConfig::Family;

struct Sampled {
  int family;
  int64_t n;
  double fps, wanted;
  int64_t least, most, n_seen, first, last;
  uint32_t crc;
};
struct Sized {
  int family;
  int64_t width, height, n, resized_width, resized_height;
};
#include "tests/engine/video_reference.inc"

// CRC-32 of zip over little-endian int32.
uint32_t crc32(const std::vector<int64_t>& values) {
  uint32_t crc = ~0u;
  for (const int64_t value : values) {
    for (int byte = 0; byte < 4; ++byte) {
      crc ^= static_cast<uint32_t>(value >> (8 * byte)) & 255;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
  }
  return ~crc;
}

VisionConfig released(int family) {
  VisionConfig config;
  config.patch.patch_size = family == 3 ? 16 : 14;
  config.position_side = family == 3 ? 48 : 0;
  return config;
}

TEST(VideoSampling, TakesTheFramesThatTransformersTakes) {
  for (const Sampled& c : kSampled) {
    const auto indices = must(sample_frames(c.n, c.fps, {c.wanted, c.least, c.most}, released(c.family).family()));
    SCOPED_TRACE(format("family %d, %d frames at %g", c.family, c.n, c.fps));
    ASSERT_EQ(static_cast<int64_t>(indices.size()), c.n_seen);
    EXPECT_EQ(indices.front(), c.first);
    EXPECT_EQ(indices.back(), c.last);
    EXPECT_EQ(crc32(indices), c.crc);
  }
}

TEST(VideoSampling, StaysWithinTheVideoWhereTorchTakesOneTooMany) {
  for (int64_t n = 1; n < 200; ++n) {
    for (const Family family : {Family::kQwen2, Family::kQwen25, Family::kQwen3}) {
      for (const int64_t most : {2, 3, 14, 768}) {
        const auto indices = must(sample_frames(n, 7, {5, 1, most}, family));
        ASSERT_FALSE(indices.empty());
        ASSERT_LE(static_cast<int64_t>(indices.size()), std::min(n, most));
        ASSERT_EQ(indices.front(), 0);
        for (size_t i = 1; i < indices.size(); ++i) ASSERT_LT(indices[i - 1], indices[i]);
        ASSERT_LT(indices.back(), n);
      }
    }
  }
}

TEST(VideoSampling, RefusesNumbersThatMakeNoSense) {
  const auto fails = [](int64_t n, double fps, const VideoSampling& sampling) {
    return !sample_frames(n, fps, sampling, Family::kQwen3).ok();
  };
  EXPECT_TRUE(fails(0, 2, {}));
  EXPECT_TRUE(fails(-1, 2, {}));
  EXPECT_TRUE(fails(INT64_MAX, 2, {}));
  EXPECT_TRUE(fails(5, 0, {}));
  EXPECT_TRUE(fails(5, NAN, {}));
  EXPECT_TRUE(fails(5, 2, {INFINITY, 4, 768}));
  EXPECT_TRUE(fails(5, 2, {2, 0, 768}));
  EXPECT_TRUE(fails(5, 2, {2, 8, 4}));
  EXPECT_TRUE(fails(5, 2, {2, 1, 1}));
  EXPECT_FALSE(fails(5, 2, {}));
}

TEST(VideoSize, IsThatOfTransformers) {
  for (const Sized& c : kSized) {
    const ImageCost cost = must(video_cost(c.width, c.height, c.n, released(c.family), {}, 1 << 20));
    EXPECT_EQ(cost.resized.width, c.resized_width) << c.family << ": " << c.width << " x " << c.height << " x " << c.n;
    EXPECT_EQ(cost.resized.height, c.resized_height)
        << c.family << ": " << c.width << " x " << c.height << " x " << c.n;
    EXPECT_EQ(cost.grid.t, (c.n + 1) / 2);
  }
}

TEST(VideoSize, KeepsWhatTheEncoderAndTheCallerAllow) {
  for (const int family : {2, 3}) {
    const VisionConfig config = released(family);
    EXPECT_LE(must(video_cost(1920, 1080, 8, config, {}, 100)).n_tokens, 4 * 100);
    EXPECT_LE(must(video_cost(1920, 1080, 8, config, {.max_tokens = 60}, 1000)).n_tokens, 60);
    EXPECT_FALSE(video_cost(1920, 1080, 8, config, {.max_tokens = 3}, 1000).ok());
    EXPECT_FALSE(video_cost(1920, 1080, 0, config, {}, 1000).ok());
    EXPECT_FALSE(video_cost(1920, 1080, 8, config, {.min_pixels = 9, .max_pixels = 8}, 1000).ok());
    EXPECT_FALSE(video_cost(100000, 10, 8, config, {}, 1000).ok()) << "too thin";
  }
}

// A golden video as a session sees it: frames, read one after another.
struct GoldenVideo {
  explicit GoldenVideo(const std::string& folder) : golden(folder + "/case-video.gguf"), pictures(golden.pictures()) {
    for (const GoldenCase::Visual& visual : golden.visuals()) {
      if (!visual.is_video) continue;
      frames = std::vector<Image>(pictures.begin() + static_cast<ptrdiff_t>(visual.first),
                                  pictures.begin() + static_cast<ptrdiff_t>(visual.first + visual.n));
    }
    video.n_frames = static_cast<int64_t>(frames.size());
    video.fps = golden.fps() > 0 ? golden.fps() : 2;
    video.limits = {1, 1 << 20, 0};
    video.open = [this](int64_t i) -> Result<std::unique_ptr<ImageReader>> {
      opened.push_back(i);
      const Image& frame = frames[static_cast<size_t>(i)];
      return read_pixels_of(frame.pixels.data(), frame.width, frame.height, 3 * static_cast<size_t>(frame.width));
    };
  }

  const GoldenCase golden;
  const std::vector<Image> pictures;
  std::vector<Image> frames;
  std::vector<int64_t> opened;
  VideoFrames video;
};

std::shared_ptr<const Model> golden_model(const std::string& folder) {
  return testing::load_golden(folder, {.name = "ref", .reference = true});
}

SessionOptions options_for(const Model& model) {
  SessionOptions options = testing::small_session();
  const int64_t cell = model.vision().resize_factor() * model.vision().resize_factor();
  options.image_limits = {cell, cell * 64};
  options.pool_slots = 4 * options.context;  // forks and marks
  return options;
}

// The case's prompt as a raw message, its pictures and its video encoded by the session.
std::vector<Message> prompt_of(GoldenVideo& v, Session& session) {
  std::string text = v.golden.prompt();
  Message message{kRawRole, {}};
  for (const GoldenCase::Visual& visual : v.golden.visuals()) {
    const std::string place = visual.is_video ? "<video>" : "<image>";
    message.parts.push_back({text.substr(0, text.find(place)), nullptr});
    text.erase(0, text.find(place) + place.size());
    auto embedding = visual.is_video ? must(session.encode_video(v.video, nullptr, {}))
                                     : testing::encode(session, v.pictures[visual.first]);
    message.parts.push_back({"", embedding});
  }
  message.parts.push_back({text, nullptr});
  return {message};
}

class GoldenVideos : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenVideos, SessionSaysWhatTransformersSays) {
  GoldenVideo v(GetParam());
  const auto model = golden_model(GetParam());
  const auto session = testing::make_session(model, options_for(*model));
  const std::vector<Message> prompt = prompt_of(v, *session);
  std::vector<int64_t> all(v.frames.size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(v.opened, all) << "each frame once, in order";
  GenerateOptions options = testing::greedy(16);
  for (const char* end : {"<|im_end|>", "<|endoftext|>"}) {
    if (const TokenId id = model->tokenizer().find(end); id >= 0)
      options.sampler.logit_bias.emplace_back(id, -INFINITY);
  }
  EXPECT_EQ(must(session->generate(prompt, options)).tokens, v.golden.ints("greedy"));
  EXPECT_EQ(session->timings().n_prompt_tokens, static_cast<int64_t>(v.golden.ints("ids").size()));
}

TEST_P(GoldenVideos, SavedForkedAndRewoundSessionsGoOnAlike) {
  GoldenVideo v(GetParam());
  const auto model = golden_model(GetParam());
  const auto session = testing::make_session(model, options_for(*model));
  const std::vector<Message> prompt = prompt_of(v, *session);
  const std::vector<TokenId> want = must(session->generate(prompt, testing::greedy(8))).tokens;
  session->reset();
  EXPECT_OK(session->prefill(prompt, {}));
  const auto saved = [](const Session& s) {
    std::vector<std::byte> bytes;
    EXPECT_OK(s.save([&](std::span<const std::byte> piece) {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
      return Status();
    }));
    return bytes;
  };
  const std::vector<std::byte> at_prompt = saved(*session);
  const auto mark = must(session->checkpoint());
  EXPECT_EQ(must(must(session->fork())->generate({}, testing::greedy(8))).tokens, want);
  EXPECT_EQ(must(session->generate({}, testing::greedy(3))).tokens,
            (std::vector<TokenId>(want.begin(), want.begin() + 3)));
  const std::vector<std::byte> in_answer = saved(*session);
  EXPECT_EQ(must(session->generate({}, testing::greedy(5))).tokens,
            (std::vector<TokenId>(want.begin() + 3, want.end())));
  EXPECT_OK(session->rewind(*mark));
  EXPECT_EQ(must(session->generate({}, testing::greedy(8))).tokens, want);
  const auto other = testing::make_session(model, options_for(*model));
  EXPECT_OK(other->load(at_prompt));
  EXPECT_EQ(must(other->generate({}, testing::greedy(8))).tokens, want);
  EXPECT_OK(other->load(in_answer));
  EXPECT_EQ(must(other->generate({}, testing::greedy(5))).tokens, (std::vector<TokenId>(want.begin() + 3, want.end())));
  // What follows the answer is the same, too.
  const std::vector<Message> more = {testing::user("and the dog?")};
  EXPECT_EQ(must(other->generate(more, testing::greedy(6))).tokens,
            must(session->generate(more, testing::greedy(6))).tokens);
}

TEST_P(GoldenVideos, EmbeddingsAreSavedWithTheirTimes) {
  GoldenVideo v(GetParam());
  const auto model = golden_model(GetParam());
  const auto session = testing::make_session(model, options_for(*model));
  const auto embedding = must(session->encode_video(v.video, nullptr, {}));
  EXPECT_TRUE(embedding->is_video);
  const std::vector<std::byte> bytes = save_embedding(*embedding);
  const ImageEmbedding loaded = must(load_embedding(bytes));
  EXPECT_TRUE(loaded.is_video);
  EXPECT_EQ(loaded.slice_step, embedding->slice_step);
  EXPECT_EQ(loaded.slice_seconds, embedding->slice_seconds);
  EXPECT_EQ(loaded.values, embedding->values);
  EXPECT_EQ(loaded.slice_seconds.size(), model->vision().family() == Family::kQwen3 ? 3u : 0u);
  for (size_t n = 0; n < bytes.size(); n += 7) EXPECT_FALSE(load_embedding(std::span(bytes).first(n)).ok());
  ImageEmbedding bad = *embedding;
  bad.slice_step = NAN;
  EXPECT_FALSE(load_embedding(save_embedding(bad)).ok());
  bad = *embedding;
  bad.slice_seconds = {1};
  EXPECT_FALSE(load_embedding(save_embedding(bad)).ok());
  bad.slice_seconds = {1, -2, 3};
  EXPECT_FALSE(load_embedding(save_embedding(bad)).ok());
  const auto message = [&](const ImageEmbedding& e) {
    return std::vector<Message>{{"user", {{"", std::make_shared<ImageEmbedding>(e)}, {"what", nullptr}}}};
  };
  EXPECT_FALSE(session->prefill(message(bad), {}).ok()) << "not taken on trust";
  EXPECT_OK(session->prefill(message(loaded), {}));
}

// However many slices go through together, and on whatever they are.
TEST_P(GoldenVideos, PartsOfAVideoDoNotDependOnTheirCompany) {
  GoldenVideo v(GetParam());
  ModelOptions options;
  options.model_path = testing::golden_path(GetParam() + "/model.gguf");
  options.mmproj_path = testing::golden_path(GetParam() + "/mmproj.gguf");
  options.n_threads = 1;
  const auto model = must(Model::load(options));
  const int64_t cell = model->vision().resize_factor() * model->vision().resize_factor();
  std::vector<std::vector<float>> values;
  for (const int64_t most : {6, 12, 64}) {
    EncoderOptions of;
    of.n_threads = most == 12 ? 3 : 1;
    of.image_limits = {cell, cell * most};
    const auto encoder = must(PictureEncoder::create(model, of));
    int64_t n_tokens = 0;
    values.push_back(must(encoder->encode_video(v.video,
                                                [&](const ImageCost& cost) {
                                                  n_tokens = cost.n_tokens;
                                                  return Status();
                                                },
                                                nullptr, {}))
                         .values);
    EXPECT_EQ(n_tokens * model->text().embedding_width(), static_cast<int64_t>(values.back().size()));
  }
  EXPECT_EQ(values[0], values[1]);
  EXPECT_EQ(values[0], values[2]);
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenVideos, ::testing::Values("tied", "qwen25vl", "qwen3vl"));

TEST(Videos, WhatIsWrongIsTold) {
  GoldenVideo v("qwen3vl");
  const auto model = golden_model("qwen3vl");
  SessionOptions options = options_for(*model);
  options.context = 16;
  const auto session = testing::make_session(model, options);
  const auto fails = [&](const VideoFrames& video, ErrorCode code, const std::string& part) {
    const auto result = session->encode_video(video, nullptr, {});
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, code) << result.error().message;
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  fails(v.video, ErrorCode::kContextFull, "the context holds 16");
  EXPECT_EQ(v.opened.size(), 1u) << "nothing else was read";
  VideoFrames two = v.video;
  two.n_frames = 2;
  v.frames[1] = Image{16, 16, std::vector<uint8_t>(16 * 16 * 3)};
  fails(two, ErrorCode::kInvalidArgument, "frame 2 of 2: it has 16 x 16 pixels, the first has 32 x 48");
  two.open = [](int64_t) -> Result<std::unique_ptr<ImageReader>> {
    return make_error(ErrorCode::kIo, "the tape is torn");
  };
  fails(two, ErrorCode::kIo, "the tape is torn");
  two.n_frames = 0;
  fails(two, ErrorCode::kInvalidArgument, "0 frames");
  two.n_frames = 2;
  const double back[] = {2, 1};
  two.seconds = back;
  fails(two, ErrorCode::kInvalidArgument, "do not go back");
}

TEST(Videos, CancellingEndsBetweenFrames) {
  GoldenVideo v("tied");
  const auto model = golden_model("tied");
  const auto session = testing::make_session(model, options_for(*model));
  int n_calls = 0;
  const auto result = session->encode_video(v.video, nullptr, [&](std::string_view, double fraction) {
    EXPECT_GE(fraction, 0);
    EXPECT_LE(fraction, 1);
    return ++n_calls < 2;
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace glimpse
