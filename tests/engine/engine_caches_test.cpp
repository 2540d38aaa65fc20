// The engine's caches, by themselves and in it: pages of prompts, embeddings of pictures.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/serve/embedding_cache.h"
#include "engine/serve/prefix_cache.h"
#include "tests/engine/engine_support.h"

namespace glimpse::testing {
namespace {

std::vector<RowKey> rows_of(int first, int n) {
  std::vector<RowKey> rows;
  for (int i = 0; i < n; ++i) rows.push_back({first + i, 0, {}});
  return rows;
}
std::vector<RowKey> operator+(std::vector<RowKey> a, const std::vector<RowKey>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
// Rows of a picture of this content.
std::vector<RowKey> picture(uint8_t content, int n) {
  std::vector<RowKey> rows;
  for (int i = 0; i < n; ++i) rows.push_back({PassRows::kPicture, i, {content}});
  return rows;
}

class PrefixCacheTest : public ::testing::Test {
 protected:
  static constexpr int64_t kPages = 8;

  // A text that holds n slots.
  std::unique_ptr<KvCache> text(int64_t n) {
    auto cache = must(KvCache::create(pages_, 2048));
    grow(*cache, n);
    return cache;
  }
  static void grow(KvCache& cache, int64_t n) {
    EXPECT_OK(cache.begin_pass(n));
    cache.advance(n);
  }
  void keep(const std::vector<RowKey>& rows) {
    const auto cache = text(static_cast<int64_t>(rows.size()));
    cache_.keep(rows, *cache);
  }
  int64_t n_known(const std::vector<RowKey>& rows) { return cache_.n_rows_known(rows); }

  const std::shared_ptr<const Model> model_ = tied_model(false);
  const std::unique_ptr<Ops> ops_ = must(model_->make_ops(1));
  const std::shared_ptr<KvPages> pages_ = must(KvPages::create(*model_, *ops_, kPages, KvElement::kF16));
  PrefixCache cache_{pages_};
};

TEST_F(PrefixCacheTest, FindsTheLongestBeginningInsideTheLastPageToo) {
  EXPECT_EQ(cache_.find(rows_of(0, 10)).n_rows, 0);
  keep(rows_of(0, 300));
  EXPECT_EQ(cache_.n_idle(), 2);
  for (const auto& [rows, n] : {std::pair(rows_of(0, 300), 300),
                                {rows_of(0, 400), 300},
                                {rows_of(0, 256), 256},
                                {rows_of(0, 100), 100},
                                {rows_of(0, 280) + rows_of(0, 50), 280},
                                {rows_of(0, 100) + rows_of(0, 500), 100},
                                {rows_of(1, 300), 0}}) {
    const PrefixCache::Match match = cache_.find(rows);
    EXPECT_EQ(match.n_rows, n);
    EXPECT_EQ(static_cast<int64_t>(match.pages.size()), KvPages::pages_for(n));
    EXPECT_EQ(n_known(rows), n);
  }
  // Two that part in the same page.
  keep(rows_of(0, 280) + rows_of(1000, 100));
  EXPECT_EQ(cache_.n_idle(), 3) << "the first page is there once";
  EXPECT_EQ(n_known(rows_of(0, 300)), 300);
  EXPECT_EQ(n_known(rows_of(0, 280) + rows_of(1000, 100)), 380);
}

TEST_F(PrefixCacheTest, PicturesAreTheSameByTheirContent) {
  keep(rows_of(0, 5) + picture(1, 20) + rows_of(5, 5));
  EXPECT_EQ(n_known(rows_of(0, 5) + picture(1, 20) + rows_of(9, 5)), 25);
  EXPECT_EQ(n_known(rows_of(0, 5) + picture(2, 20) + rows_of(5, 5)), 5);
  EXPECT_EQ(n_known(rows_of(0, 5) + picture(1, 10) + picture(1, 10)), 15) << "a picture begins anew";
}

TEST_F(PrefixCacheTest, ATextThatGoesOnTakesThePlaceOfItsBeginning) {
  const auto cache = text(100);
  cache_.keep(rows_of(0, 100), *cache);
  EXPECT_EQ(pages_->n_free(), kPages - 1);
  grow(*cache, 400);
  cache_.keep(rows_of(0, 500), *cache);
  EXPECT_EQ(n_known(rows_of(0, 500)), 500);
  cache->truncate(0);
  EXPECT_EQ(cache_.n_idle(), 2);
  EXPECT_EQ(pages_->n_free(), kPages - 2);
  cache_.keep(rows_of(0, 100), *text(100));  // known
  EXPECT_EQ(cache_.n_idle(), 2);
}

// Memory once, also where two computed the same at the same time.
TEST_F(PrefixCacheTest, EqualPagesBecomeOne) {
  const auto first = text(600), second = text(600);
  cache_.keep(rows_of(0, 600), *first);
  cache_.keep(rows_of(0, 600), *second);
  EXPECT_EQ(first->page(0), second->page(0));
  EXPECT_EQ(first->page(1), second->page(1));
  EXPECT_NE(first->page(2), second->page(2)) << "either may go on in it";
  EXPECT_EQ(pages_->n_free(), kPages - 4);
  const auto third = must(KvCache::create(pages_, 2048));
  const PrefixCache::Match match = cache_.find(rows_of(0, 550));
  EXPECT_OK(third->adopt(match.pages, match.n_rows));
  EXPECT_EQ(third->n_past(), 550);
  grow(*third, 1);
  EXPECT_NE(third->page(2), first->page(2)) << "its own copy";
  EXPECT_EQ(third->page(1), first->page(1));
}

TEST_F(PrefixCacheTest, GivesUpWhatWasNotUsedForLongest) {
  keep(rows_of(0, 512));
  keep(rows_of(1000, 512));
  keep(rows_of(2000, 512));
  cache_.find(rows_of(0, 10));  // used: its first page
  EXPECT_EQ(pages_->n_free(), kPages - 6);
  EXPECT_TRUE(cache_.make_free(3));
  EXPECT_EQ(n_known(rows_of(0, 512)), 256) << "the end of a text goes before its beginning";
  EXPECT_TRUE(cache_.make_free(5));
  EXPECT_EQ(n_known(rows_of(1000, 512)), 0);
  EXPECT_EQ(n_known(rows_of(2000, 512)), 512);
  EXPECT_EQ(n_known(rows_of(0, 512)), 256);
  // What somebody else uses stays.
  const auto user = must(KvCache::create(pages_, 2048));
  const PrefixCache::Match match = cache_.find(rows_of(2000, 300));
  EXPECT_OK(user->adopt(match.pages, match.n_rows));
  EXPECT_EQ(cache_.n_idle(), 1);
  EXPECT_FALSE(cache_.make_free(kPages));
  EXPECT_EQ(pages_->n_free(), kPages - 2);
  EXPECT_EQ(n_known(rows_of(2000, 512)), 512);
  user->truncate(0);
  EXPECT_TRUE(cache_.make_free(kPages));
  EXPECT_EQ(cache_.n_idle(), 0);
}

// -- embeddings ------------------------------------------------------------------------------------------------------

EmbeddingCache::Embedding embedding(float value, int64_t n_tokens = 4) {
  auto e = std::make_shared<ImageEmbedding>();
  e->grid = {1, 2, 2 * n_tokens};
  e->n_tokens = n_tokens;
  e->width = 64;
  e->original = e->resized = {56, 28};
  e->fingerprint = 7;
  e->values.assign(static_cast<size_t>(64 * n_tokens), value);
  return e;
}
constexpr uint64_t kOne = sizeof(ImageEmbedding) + 4 * 64 * sizeof(float);

TEST(EmbeddingCache, StaysWithinItsBytes) {
  EmbeddingCache cache(3 * kOne, EmbeddingFolder("", 0, 7, 64, {}));
  for (uint8_t i = 0; i < 3; ++i) cache.add({i}, embedding(i));
  cache.add_name({1}, {101});
  cache.add_name({0}, {100});
  EXPECT_EQ(cache.bytes_used(), 3 * kOne);
  Sha256Digest content{};
  ASSERT_NE(cache.find({100}, &content), nullptr);  // the oldest is used
  EXPECT_EQ(content, (Sha256Digest{0}));
  cache.add({3}, embedding(3));
  EXPECT_EQ(cache.find({1}, nullptr), nullptr);
  EXPECT_EQ(cache.find({101}, nullptr), nullptr) << "by no name";
  EXPECT_EQ(cache.find({0}, nullptr)->values[0], 0);
  EXPECT_EQ(cache.bytes_used(), 3 * kOne);
  cache.add({4}, embedding(4, 400));
  EXPECT_EQ(cache.find({4}, nullptr), nullptr) << "larger than all";
  EXPECT_NE(cache.find({3}, nullptr), nullptr);
  for (int i = 0; i < 100; ++i) cache.add_name({3}, {200, static_cast<uint8_t>(i)});
  EXPECT_NE(cache.find({200, 1}, nullptr), nullptr);
  EXPECT_EQ(cache.find({200, 99}, nullptr), nullptr) << "names of one are not without end";
}

TEST(EmbeddingCache, TakesOnlyWhatItsEncoderMadeFromItsFolder) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / format("glimpse_embeddings_%d", getpid());
  std::filesystem::create_directory(folder);
  const auto open = [&](uint64_t fingerprint, int64_t width, uint64_t n_bytes) {
    return EmbeddingCache(n_bytes, EmbeddingFolder(folder, 0, fingerprint, width, {}));
  };
  open(7, 64, 0).add({1}, embedding(1));
  EmbeddingCache same = open(7, 64, kOne);
  EXPECT_EQ(same.find({1}, nullptr), nullptr);
  EXPECT_EQ(same.load({1})->values, embedding(1)->values);
  EXPECT_NE(same.find({1}, nullptr), nullptr);
  EXPECT_EQ(same.load({2}), nullptr);
  EXPECT_EQ(open(8, 64, kOne).load({1}), nullptr);
  EXPECT_EQ(open(7, 32, kOne).load({1}), nullptr);
  // A file under another's name.
  const auto name = [&](Sha256Digest content) { return folder / (to_hex(content) + ".glic"); };
  std::filesystem::copy_file(name({1}), name({2}));
  EXPECT_EQ(same.load({2}), nullptr);
  open(7, 64, 0).add({2}, embedding(2));
  EXPECT_EQ(same.load({2})->values[0], 2);
  std::filesystem::remove_all(folder);
}

TEST(EmbeddingFolder, StaysWithinItsBytes) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / format("glimpse_folder_%d", getpid());
  std::filesystem::create_directory(path);
  const auto name = [&](uint8_t content) { return path / (to_hex(Sha256Digest{content}) + ".glic"); };
  const auto has = [&](uint8_t content) { return std::filesystem::exists(name(content)); };
  // Not ours, and what somebody left behind in the midst of writing.
  std::ofstream(path / "notes.txt") << std::string(100000, 'x');
  const std::filesystem::path begun = name(99).string() + ".7.0.tmp", stale = name(98).string() + ".7.0.tmp";
  for (const auto& file : {begun, stale}) std::ofstream(file) << "x";
  const auto now = std::filesystem::file_time_type::clock::now();
  std::filesystem::last_write_time(stale, now - std::chrono::hours(2));
  const uint64_t one = save_cached_embedding({1}, *embedding(1)).size();
  EmbeddingFolder folder(path, 3 * one, 7, 64, {});
  EXPECT_FALSE(std::filesystem::exists(stale));
  for (uint8_t i = 1; i <= 3; ++i) {
    folder.store({i}, *embedding(i));
    std::filesystem::last_write_time(name(i), now - std::chrono::seconds(100 - i));
  }
  EXPECT_TRUE(has(1) && has(2) && has(3));
  EXPECT_NE(folder.load({1}), nullptr);  // used now: 2 is the oldest
  folder.store({4}, *embedding(4));
  EXPECT_TRUE(has(1) && has(4));
  EXPECT_FALSE(has(2));
  EXPECT_EQ(folder.load({2}), nullptr);
  // Another process with less: what it finds is cut down at once; one that is too large alone is not kept.
  EmbeddingFolder small(path, one, 7, 64, {});
  EXPECT_EQ(has(1) + has(3) + has(4), 1);
  small.store({5}, *embedding(5, 40));
  EXPECT_FALSE(has(5));
  small.store({6}, *embedding(6));
  EXPECT_TRUE(has(6));
  EXPECT_EQ(has(1) + has(3) + has(4), 0);
  // Many: never more than there may be.
  EmbeddingFolder many(path, 10 * one, 7, 64, {});
  for (uint8_t i = 10; i < 60; ++i) {
    many.store({i}, *embedding(i));
    uint64_t used = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".glic") used += entry.file_size();
    }
    EXPECT_LE(used, 10 * one) << int{i};
  }
  EXPECT_TRUE(has(59));
  EXPECT_TRUE(std::filesystem::exists(path / "notes.txt") && std::filesystem::exists(begun));
  std::filesystem::remove_all(path);
}

// -- in the engine ----------------------------------------------------------------------------------------------------

TEST(Engine, ASecondQuestionAboutAPictureRunsOnlyTheQuestion) {
  const auto engine = make_engine();
  const Image picture = noise(224, 224, 3);  // 64 tokens
  const RequestResult first = engine->ask(ask_for("what is it?", 4, {picture}));
  EXPECT_OK(first.status);
  EXPECT_EQ(first.answer.timings.n_cached_tokens, 0);
  EXPECT_EQ(first.n_cached_images, 0);
  const Request other = ask_for("and the dog?", 4, {picture});
  const RequestResult second = engine->ask(other);
  EXPECT_TRUE(same(second.answer, alone(other, {picture})));
  EXPECT_GT(second.answer.timings.n_cached_tokens, 64);
  EXPECT_LT(second.answer.timings.n_prompt_tokens, 30);
  EXPECT_EQ(second.n_cached_images, 1);
  EXPECT_EQ(second.answer.timings.image_encode, 0);
  // Other text before it: the embedding is known, the rows are not.
  Request moved = ask_for("and the dog?", 4, {picture});
  moved.messages[0].parts.insert(moved.messages[0].parts.begin(), {"look: ", nullptr});
  const RequestResult third = engine->ask(moved);
  EXPECT_TRUE(same(third.answer, alone(moved, {picture})));
  EXPECT_LT(third.answer.timings.n_cached_tokens, 40);
  EXPECT_EQ(third.n_cached_images, 1);
  // The answer itself is part of what is known.
  Request turns = ask_for("what is it?", 4, {picture});
  turns.messages.push_back({"assistant", {{first.answer.text, nullptr}}});
  turns.messages.push_back({"user", {{"more", nullptr}}});
  const RequestResult fourth = engine->ask(turns);
  EXPECT_TRUE(same(fourth.answer, alone(turns, {picture})));
  EXPECT_GT(fourth.answer.timings.n_cached_tokens, first.answer.timings.n_prompt_tokens);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.n_images, 4u);
  EXPECT_EQ(stats.n_cached_images, 3u);
  EXPECT_GT(stats.n_cached_prompt_tokens, 128u);
  EXPECT_GT(stats.n_kept_pages, 0);
}

// An answer about a video begins behind its time; told as a part of a later prompt it stands closer.
TEST(Engine, AnAnswerBehindTheTimeOfAVideoIsNotThatOfALaterPrompt) {
  const auto session = make_session(tied_model(false), small_session(512));
  ImageEmbedding video = *encode(*session, noise(56, 56, 3));
  const std::vector<float> slice = video.values;
  video.is_video = true;
  video.slice_step = 16;
  for (int i = 1; i < 6; ++i) video.values.insert(video.values.end(), slice.begin(), slice.end());
  video.grid.t = 6;
  video.n_tokens *= 6;
  auto seen = std::make_shared<RequestImage>();
  seen->embedding = std::make_shared<const ImageEmbedding>(std::move(video));
  const std::string choices[] = {"the cat and the dog and 7 of them", "the cat and the dog and 7 of it"};
  Request first = ask_for("what is it?", 60);
  first.messages[0].parts.insert(first.messages[0].parts.begin(), {"", seen});
  first.generate.n_top_logprobs = 0;
  first.generate.constraint = must(Constraint::compile_choice(tied_model(false)->tokenizer(), choices));
  const auto engine = make_engine();
  const std::string said = engine->ask(first).answer.text;
  EXPECT_TRUE(said.starts_with(choices[0].substr(0, 28))) << said;
  Request second = ask_for("and now?", 8);
  second.messages.insert(second.messages.begin(), {"assistant", {{said, nullptr}}});
  second.messages.insert(second.messages.begin(), first.messages[0]);

  EngineOptions without = small_engine();
  without.prompt_cache = false;
  const RequestResult want = make_engine(without)->ask(second), result = engine->ask(second);
  EXPECT_TRUE(same(result.answer, want.answer));
  EXPECT_GT(result.answer.timings.n_cached_tokens, 20) << "the video is found";
}

TEST(Engine, AQuestionAskedTwiceAtOnceIsComputedOnce) {
  const auto engine = make_engine();
  const Image picture = noise(280, 280, 4);
  std::vector<RequestResult> results(4);
  for (RequestResult& result : results) submit(*engine, ask_for("what is it?", 3, {picture}), result);
  engine->run();
  const Answer want = alone(ask_for("what is it?", 3, {picture}), {picture});
  int64_t n_run = 0;
  for (const RequestResult& result : results) {
    EXPECT_TRUE(same(result.answer, want));
    n_run += result.answer.timings.n_prompt_tokens;
  }
  EXPECT_EQ(n_run, static_cast<int64_t>(results[0].answer.timings.n_prompt_tokens) + 3)
      << "a row for the logits of each";
  EXPECT_EQ(engine->stats().n_images - engine->stats().n_cached_images, 1u);
}

TEST(Engine, KeepsNothingWhenTheCachesAreOff) {
  EngineOptions options = small_engine();
  options.prompt_cache = false;
  options.image_cache_bytes = 0;
  const auto engine = make_engine(options);
  const Image picture = noise(112, 112, 5);
  for (int i = 0; i < 2; ++i) {
    const RequestResult result = engine->ask(ask_for("what is it?", 3, {picture}));
    EXPECT_EQ(result.answer.timings.n_cached_tokens, 0);
    EXPECT_EQ(result.n_cached_images, 0);
  }
  EXPECT_EQ(engine->stats().n_free_pages, engine->stats().n_pages);
}

struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / format("glimpse_engine_%d", getpid())) {
    std::filesystem::create_directory(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> all;
    for (const auto& entry : std::filesystem::directory_iterator(path)) all.push_back(entry.path());
    return all;
  }
  std::filesystem::path path;
};

// A video's frames are what its embedding is made of; it shares passes with nothing, and is kept as pictures are.
TEST(Engine, VideosAreSeenAsASessionSeesThem) {
  const auto video = std::make_shared<RequestVideo>();
  for (uint32_t i = 0; i < 5; ++i) video->frames.push_back(noise(84, 56, i));
  video->fps = 2;
  video->limits.min_pixels = 784;
  const auto image = std::make_shared<RequestImage>();
  image->video = video;
  const auto session = make_session(tied_model(false), small_session(512));
  const auto made = std::make_shared<RequestImage>();
  made->embedding = must(session->encode_video(video_frames(*video), nullptr, {}));
  const auto asking = [](std::vector<std::shared_ptr<const RequestImage>> seen) {
    Request request = ask_for("what happens?", 6);
    for (auto& one : seen) request.messages[0].parts.insert(request.messages[0].parts.begin(), {"", std::move(one)});
    return request;
  };
  const auto engine = make_engine();
  const Image picture = noise(56, 56, 3);
  const RequestResult want = make_engine()->ask(asking({made}));
  const RequestResult both = make_engine()->ask(asking({made, pixels(picture)}));
  EXPECT_OK(want.status);
  RequestResult first, second, third;
  submit(*engine, asking({image}), first);
  submit(*engine, asking({image, pixels(picture)}), second);
  submit(*engine, ask_for("the cat", 3, {picture}), third);
  engine->run();
  EXPECT_OK(first.status);
  EXPECT_TRUE(same(first.answer, want.answer));
  EXPECT_TRUE(same(second.answer, both.answer));
  EXPECT_TRUE(same(third.answer, alone(ask_for("the cat", 3, {picture}), {picture})));
  const RequestResult again = engine->ask(asking({image}));
  EXPECT_EQ(again.n_cached_images, 1);
  EXPECT_TRUE(same(again.answer, want.answer));
  expect_all_pages_back(*engine);
  // Pictures alone: what they become.
  Request only = asking({image, pixels(picture)});
  only.only_pictures = true;
  only.generate.max_tokens = -5;  // not looked at
  const RequestResult seen = engine->ask(only);
  ASSERT_EQ(seen.embeddings.size(), 2u);
  EXPECT_EQ(seen.n_cached_images, 2);
  EXPECT_EQ(seen.embeddings[0]->values, encode(*session, picture)->values);
  EXPECT_EQ(seen.embeddings[1]->values, made->embedding->values);
  // One bad frame is its own request's error.
  const auto bad = std::make_shared<RequestVideo>(*video);
  bad->frames[2].pixels.pop_back();
  const auto spoilt = std::make_shared<RequestImage>();
  spoilt->video = bad;
  const RequestResult failed = engine->ask(asking({spoilt}));
  EXPECT_NE(failed.status.error().message.find("picture 1: "), std::string::npos);
  bad->frames.clear();
  EXPECT_EQ(engine->ask(asking({spoilt})).status.error().code, ErrorCode::kInvalidArgument);
}

// A video waits for a pass of its own, with nothing prepared, when a picture behind it turns out to be bad.
TEST(Engine, AVideoLeavesWithItsRequest) {
  const auto video = std::make_shared<RequestVideo>();
  for (uint32_t i = 0; i < 3; ++i) video->frames.push_back(noise(84, 56, i));
  video->limits.min_pixels = 784;
  const auto film = std::make_shared<RequestImage>(), bad = std::make_shared<RequestImage>();
  film->video = video;
  bad->bytes = "P6\n60 60\n255\n";
  Request spoilt = ask_for("what happens?", 6);
  spoilt.messages[0].parts.insert(spoilt.messages[0].parts.begin(), {RequestPart{"", film}, RequestPart{"", bad}});
  const auto engine = make_engine();
  const std::vector<Image> pictures = {noise(56, 56, 3), noise(84, 84, 4)};
  RequestResult failed, good;
  submit(*engine, spoilt, failed);
  submit(*engine, ask_for("the cat", 3, pictures), good);
  engine->run();
  ASSERT_FALSE(failed.status.ok());
  EXPECT_NE(failed.status.error().message.find("picture 2: "), std::string::npos) << failed.status.error().message;
  EXPECT_OK(good.status);
  EXPECT_TRUE(same(good.answer, alone(ask_for("the cat", 3, pictures), pictures)));
}

TEST(Engine, EmbeddingsOutliveTheProcessAndDamagedOnesAreReplaced) {
  const Folder folder;
  EngineOptions options = small_engine();
  options.image_cache_dir = folder.path;
  std::vector<std::string> warnings;
  options.log = [&](LogLevel level, std::string_view text) {
    if (level == LogLevel::kWarning) warnings.emplace_back(text);
  };
  const Image picture = noise(112, 112, 6);
  const Request request = ask_for("what is it?", 3, {picture});
  const Answer want = alone(request, {picture});
  const auto ask_fresh = [&] { return make_engine(options)->ask(request); };
  RequestResult result = ask_fresh();
  EXPECT_EQ(result.n_cached_images, 0);
  ASSERT_EQ(folder.files().size(), 1u);
  result = ask_fresh();
  EXPECT_EQ(result.n_cached_images, 1);
  EXPECT_TRUE(same(result.answer, want));
  EXPECT_TRUE(warnings.empty());

  const std::filesystem::path file = folder.files()[0];
  const auto size = static_cast<int64_t>(std::filesystem::file_size(file));
  for (const int64_t at : {int64_t{0}, int64_t{5}, int64_t{20}, int64_t{60}, size / 2, size - 1}) {
    {
      std::fstream edit(file, std::ios::in | std::ios::out | std::ios::binary);
      edit.seekg(at);
      const char old = static_cast<char>(edit.get());
      edit.seekp(at);
      edit.put(static_cast<char>(old ^ 0x10));
    }
    warnings.clear();
    result = ask_fresh();
    EXPECT_EQ(result.n_cached_images, 0) << at;
    EXPECT_TRUE(same(result.answer, want)) << at;
    EXPECT_EQ(warnings.size(), 1u) << at;
    EXPECT_EQ(ask_fresh().n_cached_images, 1) << "it was replaced";
  }
  std::filesystem::resize_file(file, 100);
  EXPECT_TRUE(same(ask_fresh().answer, want));
  EXPECT_EQ(ask_fresh().n_cached_images, 1);

  // Another encoder of the same file makes others.
  ModelOptions other;
  other.model_path = golden_path("tied/model.gguf");
  other.mmproj_path = golden_path("tied/mmproj.gguf");
  other.n_threads = 1;
  other.vision_precision = VisionPrecision::kBf16;
  const auto rounded = must(Model::load(other));
  EngineOptions no_folder = options;
  no_folder.image_cache_dir.clear();
  const RequestResult exact = must(Engine::create(rounded, no_folder))->ask(request);
  result = must(Engine::create(rounded, options))->ask(request);
  EXPECT_EQ(result.n_cached_images, 0);
  EXPECT_TRUE(same(result.answer, exact.answer));
  EXPECT_EQ(must(Engine::create(rounded, options))->ask(request).n_cached_images, 1);

  options.image_cache_dir = folder.path / "none";
  EXPECT_EQ(Engine::create(tied_model(false), options).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace glimpse::testing
