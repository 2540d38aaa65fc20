// Passes over several texts, and what goes into a pass: each text as if it were alone, ids and positions as they were
// written down by hand.
#include <gtest/gtest.h>

#include "engine/generate/picture_encoder.h"
#include "tests/engine/golden_backends.h"
#include "tests/engine/golden_support.h"

namespace glimpse {
namespace {

using testing::Backend;
using testing::must;

#if defined(GLIMPSE_TEST_CUDA_HOST)
constexpr bool kPromptsTogether = false;  // there, what a row becomes depends on whether its pass has more than 8 rows
#else
constexpr bool kPromptsTogether = true;
#endif

constexpr int64_t kHidden = 64, kVocab = 320;  // of the tied model

ImageEmbedding some_picture(float first, int64_t width = kHidden) {
  ImageEmbedding picture;
  picture.grid = {1, 4, 6};
  picture.n_tokens = 6;
  picture.width = width;
  for (int64_t i = 0; i < picture.n_tokens * width; ++i) {
    picture.values.push_back(first + static_cast<float>(i % 29) / 29);
  }
  return picture;
}

// A text that grows by one token a step. The first is about a picture.
struct Text {
  std::unique_ptr<KvCache> cache;
  PassInput next;  // the rows of the next pass
  std::vector<float> logits = std::vector<float>(kVocab);
  int64_t number;

  Text(const Model& model, Ops& ops, const Backend& backend, int64_t number_, const ImageEmbedding& picture)
      : cache(must(KvCache::create(model, ops, 300, backend.kv))), number(number_) {
    constexpr int64_t kLengths[8] = {3, 1, 20, 9, kPromptsTogether ? 260 : 11, 16, 33, 7};
    std::vector<TokenId> ids;
    for (int64_t i = 0; i < kLengths[number]; ++i) ids.push_back(static_cast<TokenId>((i * i * 31 + number * 7) % 311));
    next.append_text(ids);
    if (number == 0) {
      next.append_picture(picture);
      next.append_text(ids);
    }
  }
  TextDecoder::Input input() { return {cache.get(), next.rows(), logits, false}; }
  void take_token(int step) {
    const auto id = static_cast<TokenId>((number * 13 + step * 31) % 300);
    next = PassInput(next.next_position());
    next.append_text(std::span(&id, 1));
  }
};

class Passes : public testing::BackendTest {};

TEST_P(Passes, TextsInOnePassAreTheSameAsAlone) {
  for (const char* const folder : {"tied", "qwen3vlmoe-f16"}) {  // the latter with experts
    SCOPED_TRACE(folder);
    constexpr int kSteps = kPromptsTogether ? 3 : 1;
    const auto model = testing::load_golden(folder, GetParam());
    const auto ops = testing::make_ops(*model, GetParam());
    const auto decoder = must(TextDecoder::create(model, *ops, 300, 40));
    const ImageEmbedding picture = some_picture(-0.5f, model->text().embedding_width());
    std::vector<std::vector<float>> want;  // [text][step] flattened
    for (int64_t number = 0; number < 8; ++number) {
      Text text(*model, *ops, GetParam(), number, picture);
      for (int step = 0; step <= kSteps; ++step) {
        EXPECT_OK(decoder->forward(*text.cache, text.next.rows(), text.logits, false, {}, {}));
        want.push_back(text.logits);
        text.take_token(step);
      }
    }
    for (const std::vector<int64_t>& company :
         {std::vector<int64_t>{0, 1}, {4, 0, 2}, {7, 6, 5, 4, 3, 2, 1, 0}, {2, 3, 1, 5, 7}}) {
      std::vector<std::unique_ptr<Text>> texts;
      for (const int64_t number : company) {
        texts.push_back(std::make_unique<Text>(*model, *ops, GetParam(), number, picture));
      }
      for (int step = 0; step <= kSteps; ++step) {
        std::vector<TextDecoder::Input> inputs;
        for (const auto& text : texts) inputs.push_back(text->input());
        if (step > 0 || kPromptsTogether) {
          EXPECT_OK(decoder->run(inputs, {}, {}));
        } else {
          for (const TextDecoder::Input& input : inputs) EXPECT_OK(decoder->run(std::span(&input, 1), {}, {}));
        }
        for (const auto& text : texts) {
          ASSERT_EQ(text->logits, want[static_cast<size_t>(text->number * (kSteps + 1) + step)])
              << "text " << text->number << " of " << texts.size() << ", step " << step;
          text->take_token(step);
        }
      }
    }
  }
}

TEST_P(Passes, WantLogitsOfAnyOfTheirTexts) {
  const auto model = testing::load_golden("tied", GetParam(), "");
  const auto ops = testing::make_ops(*model, GetParam());
  const auto decoder = must(TextDecoder::create(model, *ops, 300, 300));
  const ImageEmbedding picture = some_picture(0);
  Text last(*model, *ops, GetParam(), 2, picture), none(*model, *ops, GetParam(), 3, picture),
      all(*model, *ops, GetParam(), 5, picture), alone(*model, *ops, GetParam(), 5, picture);
  std::vector<float> every(16 * kVocab), want_every(16 * kVocab), want_last(kVocab);
  const TextDecoder::Input inputs[] = {
      last.input(), {none.cache.get(), none.next.rows(), {}}, {all.cache.get(), all.next.rows(), every, true}};
  EXPECT_OK(decoder->run(inputs, {}, {}));
  EXPECT_EQ(last.cache->n_past(), 20);
  EXPECT_EQ(none.cache->n_past(), 9);
  EXPECT_EQ(all.cache->n_past(), 16);
  EXPECT_OK(decoder->forward(*alone.cache, alone.next.rows(), want_every, true, {}, {}));
  EXPECT_EQ(every, want_every);
  last.cache->truncate(0);
  EXPECT_OK(decoder->forward(*last.cache, last.next.rows(), want_last, false, {}, {}));
  EXPECT_EQ(last.logits, want_last);
}

// with_large: one of 1440 patches among them, which the scalar kernels would take long for.
std::vector<Image> some_images(bool with_large) {
  std::vector<Image> images;
  for (const char* file : {"tied/case-image.gguf", "tied/case-images.gguf"}) {
    for (Image& image : testing::GoldenCase(file).pictures()) images.push_back(std::move(image));
  }
  if (!with_large) return images;
  Image large{28 * 20, 28 * 18, std::vector<uint8_t>(28 * 20 * 28 * 18 * 3)};  // 1440 patches: int8 where there is any
  for (size_t i = 0; i < large.pixels.size(); ++i) large.pixels[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  images.insert(images.begin() + 1, large);
  return images;
}

TEST_P(Passes, PicturesInOnePassAreTheSameAsAlone) {
  if (!kPromptsTogether) GTEST_SKIP() << "four patches are one row of the merger: few rows alone, many together";
  const auto model = testing::load_golden("tied", GetParam());
  const auto ops = testing::make_ops(*model, GetParam());
  std::vector<Patches> patches;
  const bool fast = !GetParam().reference && GetParam().isa.has(Isa::kAvx2);
  for (const Image& image : some_images(fast)) patches.push_back(testing::patches_of(image, model->vision()));
  const auto alone = must(VisionEncoder::create(model, *ops, 1440)),
             small = must(VisionEncoder::create(model, *ops, 1500)),
             roomy = must(VisionEncoder::create(model, *ops, 4000));
  std::vector<std::vector<float>> want;
  for (const Patches& picture : patches) want.push_back(must(alone->encode(picture, {}, {})).values);
  for (VisionEncoder* encoder : {small.get(), roomy.get()}) {  // in several passes, in one
    int n_asked = 0;
    double before = -1;
    const auto got = must(encoder->encode(patches, {}, [&](std::string_view, double fraction) {
      EXPECT_GT(fraction, before);
      EXPECT_LT(fraction, 1);
      before = fraction;
      return ++n_asked > 0;
    }));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i].values, want[i]) << "picture " << i;
    if (encoder == roomy.get()) {
      EXPECT_EQ(n_asked, model->vision().num_hidden_layers);
    }
  }
}

// Windows, stretched positions and DeepStack: several pictures in one pass, whose rows are not in the order of their
// cells.
TEST_P(Passes, PicturesOfOtherTowersInOnePassAreTheSameAsAlone) {
  if (!kPromptsTogether) GTEST_SKIP() << "as above";
  for (const std::string folder : {"qwen25vl", "qwen3vl"}) {
    SCOPED_TRACE(folder);
    const auto model = testing::load_golden(folder, GetParam());
    const auto ops = testing::make_ops(*model, GetParam());
    std::vector<Patches> patches;
    for (const Image& image : testing::GoldenCase(folder + "/case-images.gguf").pictures()) {
      patches.push_back(testing::patches_of(image, model->vision()));
    }
    patches.push_back(
        testing::patches_of(testing::GoldenCase(folder + "/case-image.gguf").pictures()[0], model->vision()));
    int64_t most = 0, all = 0;
    for (const Patches& p : patches) most = std::max(most, p.grid.n_patches()), all += p.grid.n_patches();
    const auto alone = must(VisionEncoder::create(model, *ops, most)),
               roomy = must(VisionEncoder::create(model, *ops, all));
    const auto together = must(roomy->encode(patches, {}, {}));
    for (size_t i = 0; i < patches.size(); ++i) {
      EXPECT_EQ(must(alone->encode(patches[i], {}, {})).values, together[i].values) << "picture " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Passes, ::testing::ValuesIn(testing::golden_backends()),
                         [](const auto& test) { return test.param.name; });

#if !defined(GLIMPSE_TEST_CUDA_HOST)
TEST(PassErrors, LeaveEveryCacheAsItWas) {
  const Backend backend = {.name = "ref", .reference = true};
  const auto model = testing::load_golden("tied", backend, "");
  const auto ops = testing::make_ops(*model, backend);
  const auto decoder = must(TextDecoder::create(model, *ops, 300, 8));
  const ImageEmbedding picture = some_picture(0);
  Text one(*model, *ops, backend, 3, picture), two(*model, *ops, backend, 5, picture);
  TextDecoder::Input inputs[] = {one.input(), two.input()};
  EXPECT_OK(decoder->run(inputs, {}, {}));
  int calls = 0;  // 25 rows in passes of 8: stops in the third
  const Status stopped = decoder->run(inputs, {}, [&](std::string_view, double) { return ++calls < 6; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(one.cache->n_past(), 9);
  EXPECT_EQ(two.cache->n_past(), 16);
  inputs[1].cache = one.cache.get();
  const Status twice = decoder->run(inputs, {}, {});
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().code, ErrorCode::kInvalidArgument);
  inputs[1] = two.input();
  two.cache->truncate(0);
  const auto small = must(KvCache::create(*model, *ops, 10, backend.kv));
  inputs[1].cache = small.get();
  const Status full = decoder->run(inputs, {}, {});
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::kContextFull);
  EXPECT_EQ(one.cache->n_past(), 9);
}

TEST(PictureEncoder, GivesSeveralPicturesWhatItGivesEach) {
  const auto model = testing::load_golden("tied", {.name = "cpu"});
  const auto ops = must(model->make_ops(2));
  PictureSizes sizes;
  sizes.image_limits = {784, 784 * 16};
  sizes.max_image_tokens = 32;
  sizes.max_image_patches = 128;
  const auto encoder = must(PictureEncoder::create(model, *ops, sizes));
  const std::vector<Image> images = some_images(true);
  const auto readers_of = [](const std::vector<Image>& all) {
    std::vector<std::unique_ptr<ImageReader>> readers;
    for (const Image& i : all) readers.push_back(read_pixels_of(i.pixels.data(), i.width, i.height, 3u * i.width));
    return readers;
  };
  const auto encode = [&](const std::vector<std::unique_ptr<ImageReader>>& readers, PictureEncoder::Times* times) {
    std::vector<ImageReader*> pointers;
    for (const auto& reader : readers) pointers.push_back(reader.get());
    return encoder->encode(pointers, times, {});
  };
  PictureEncoder::Times times;
  const auto together = must(encode(readers_of(images), &times));
  ASSERT_EQ(together.size(), images.size());
  EXPECT_GT(times.encode, 0);
  const auto readers = readers_of(images);
  for (size_t i = 0; i < images.size(); ++i) {
    const ImageCost cost = must(encoder->cost(images[i].width, images[i].height));
    EXPECT_EQ(together[i].n_tokens, cost.n_tokens);
    EXPECT_EQ(together[i].original.width, images[i].width);
    EXPECT_EQ(together[i].values, must(encoder->encode(*readers[i], nullptr, {})).values);
  }
  // The memory to read one of them is over the limit: none is encoded.
  sizes.source_limits.max_memory = 1;
  const auto strict = must(PictureEncoder::create(model, *ops, sizes));
  const auto again = readers_of(images);
  const auto refused = strict->encode(*again[1], nullptr, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
}

// The worked example of get_rope_index, twice: text, a merged grid of 2 x 3, text.
TEST(PassInput, PutsPicturesInThePlaceOfTheirPads) {
  const ImageEmbedding first = some_picture(1), second = some_picture(2);
  std::vector<TokenId> ids = {10, 11, 12};
  ids.insert(ids.end(), 6, 99);
  ids.insert(ids.end(), {13, 14});
  ids.insert(ids.end(), 6, 99);
  const PicturePlace places[] = {{3, &first}, {11, &second}};
  PassInput input(5);
  EXPECT_OK(input.append(ids, places));
  EXPECT_EQ(input.n_rows(), 17);
  const PassRows rows = input.rows();
  const std::vector<MropePosition> positions(rows.positions.begin(), rows.positions.end());
  const auto row = [](int32_t t, int32_t h, int32_t w) { return MropePosition{t, h, w}; };
  EXPECT_EQ(positions, (std::vector<MropePosition>{
                           row(5, 5, 5), row(6, 6, 6), row(7, 7, 7), row(8, 8, 8), row(8, 8, 9), row(8, 8, 10),
                           row(8, 9, 8), row(8, 9, 9), row(8, 9, 10), row(11, 11, 11), row(12, 12, 12), row(13, 13, 13),
                           row(13, 13, 14), row(13, 13, 15), row(13, 14, 13), row(13, 14, 14), row(13, 14, 15)}));
  EXPECT_EQ(input.next_position(), 16);
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(rows.ids[i], ids[i] == 99 ? PassRows::kPicture : ids[i]);
  std::vector<float> values = first.values;
  values.insert(values.end(), second.values.begin(), second.values.end());
  EXPECT_EQ(std::vector<float>(rows.embeddings.begin(), rows.embeddings.end()), values);
}

TEST(PassInput, RefusesPlacesOutsideOfTheText) {
  const ImageEmbedding picture = some_picture(0);
  const std::vector<TokenId> ids(10, 1);
  for (const std::vector<PicturePlace>& places :
       {std::vector<PicturePlace>{{5, &picture}}, {{-1, &picture}}, {{0, &picture}, {4, &picture}}, {{10, &picture}}}) {
    PassInput input;
    EXPECT_FALSE(input.append(ids, places).ok());
    EXPECT_EQ(input.n_rows(), 0);
  }
}
#endif

}  // namespace
}  // namespace glimpse
