// Texts over the pages of one pool: forked, cut, saved and loaded, each as if it had memory of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/engine/golden_backends.h"
#include "tests/engine/golden_support.h"

namespace glimpse {
namespace {

using testing::must;

constexpr int64_t kVocab = 320, kContext = 1000;

// A decoder and a pool; texts are fed in passes of the same rows wherever they are.
class Pages : public testing::BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    if (IsSkipped()) return;
    model_ = testing::load_golden("tied", GetParam(), "");
    ops_ = testing::make_ops(*model_, GetParam());
    decoder_ = must(TextDecoder::create(model_, *ops_, kContext, 300));
  }
  std::shared_ptr<KvPages> pool(int64_t n_pages) {
    return must(KvPages::create(*model_, *ops_, n_pages, GetParam().kv));
  }
  // Keys and values that are finite whatever they are read as.
  static std::vector<std::byte> some_bytes(uint64_t n, uint32_t seed) {
    std::vector<std::byte> bytes(static_cast<size_t>(n));
    uint32_t x = 2654435761u * (seed + 1);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(0x20 | ((x = x * 1664525 + 1013904223) >> 24 & 0x1f));
    return bytes;
  }
  // The first n slots of a text, which no pass has filled.
  static void start(KvCache& cache, uint32_t seed, int64_t n) {
    for (int64_t first = 0; first < n; first += kKeyBlock) {
      const auto bytes = some_bytes(cache.page_bytes(), seed * 100 + static_cast<uint32_t>(first));
      EXPECT_OK(cache.load_page(std::min(kKeyBlock, n - first), bytes));
    }
  }
  // A pool whose pages were used before, and come in no order.
  std::shared_ptr<KvPages> used_pool(int64_t n_pages) {
    const auto pages = pool(n_pages);
    std::vector<int32_t> taken;
    while (const auto page = pages->take()) taken.push_back(*page);
    const auto text = must(KvCache::create(pages, 256));
    for (size_t i = 0; i < taken.size(); ++i) {
      pages->give_back(taken[i * 7 % taken.size()]);  // the next one to take
      start(*text, 1000 + static_cast<uint32_t>(i), 256);
      text->truncate(0);
      EXPECT_EQ(pages->take(), taken[i * 7 % taken.size()]);
    }
    for (size_t i = 0; i < taken.size(); ++i) pages->give_back(taken[i * 7 % taken.size()]);
    return pages;
  }
  // n tokens, from `seed`.
  struct Piece {
    TokenId seed, step = 31;
  };
  std::vector<float> feed(KvCache& cache, Piece piece, int64_t n) {
    std::vector<float> logits(kVocab);
    const Status done = try_feed(cache, piece, n, logits);
    EXPECT_TRUE(done.ok()) << (done.ok() ? "" : done.error().message);
    return logits;
  }
  Status try_feed(KvCache& cache, Piece piece, int64_t n, std::span<float> logits) {
    std::vector<TokenId> ids;
    for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<TokenId>((i * i * piece.step + piece.seed) % 311));
    PassInput input(static_cast<int32_t>(cache.n_past()));
    input.append_text(ids);
    return decoder_->forward(cache, input.rows(), logits, false, {}, {});
  }
  // What each of the pieces gives, one after another, behind `n` slots of a text of its own.
  std::vector<std::vector<float>> alone(int64_t n, const std::vector<std::pair<Piece, int64_t>>& pieces) {
    const auto cache = must(KvCache::create(*model_, *ops_, kContext, GetParam().kv));
    start(*cache, 1, n);
    std::vector<std::vector<float>> logits;
    for (const auto& [piece, count] : pieces) logits.push_back(feed(*cache, piece, count));
    return logits;
  }

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<TextDecoder> decoder_;
};

TEST_P(Pages, AForkGoesOnAsAFreshText) {
  const auto pages = used_pool(8);
  const auto first = must(KvCache::create(pages, kContext));
  start(*first, 1, 500);
  const auto fork = must(first->fork());
  EXPECT_EQ(fork->n_past(), 500);
  // In turns, over the end of the page that they shared.
  std::vector<std::vector<float>> of_first, of_fork;
  for (const int64_t n : {1, 3, 9, 1, 2}) {
    of_first.push_back(feed(*first, {7}, n));
    of_fork.push_back(feed(*fork, {8}, n));
  }
  for (const auto& [seed, got] : {std::pair(7, &of_first), std::pair(8, &of_fork)}) {
    EXPECT_EQ(*got, alone(500, {{{seed}, 1}, {{seed}, 3}, {{seed}, 9}, {{seed}, 1}, {{seed}, 2}})) << "seed " << seed;
  }
  // The fork goes back before what they shared ended, and the first does not notice.
  fork->truncate(490);
  EXPECT_EQ(feed(*fork, {9}, 2), alone(490, {{{9}, 2}})[0]);
  EXPECT_EQ(feed(*first, {7}, 2), alone(500, {{{7}, 1}, {{7}, 3}, {{7}, 9}, {{7}, 1}, {{7}, 2}, {{7}, 2}})[5]);
}

TEST_P(Pages, WhatEightTextsShareIsInMemoryOnce) {
  const auto pages = used_pool(12);
  std::vector<std::unique_ptr<KvCache>> texts;
  texts.push_back(must(KvCache::create(pages, kContext)));
  start(*texts[0], 1, 600);
  EXPECT_EQ(pages->n_free(), 9);
  for (int i = 1; i < 8; ++i) texts.push_back(must(texts[static_cast<size_t>(i / 2)]->fork()));
  EXPECT_EQ(pages->n_free(), 9);  // three pages for eight texts of three pages each
  for (const auto& text : texts) EXPECT_EQ(text->n_pages(), 3);
  const std::vector<float> want = alone(600, {{{2}, 1}})[0];
  for (const auto& text : texts) EXPECT_EQ(feed(*text, {2}, 1), want);
  // Two whole pages are shared; each has the last, partly filled one for itself, the one that was left in it too.
  EXPECT_EQ(pages->n_free(), 12 - 2 - 8);
  for (size_t i = 1; i < texts.size(); ++i) texts[i]->truncate(512);
  EXPECT_EQ(pages->n_free(), 12 - 3);
  texts.erase(texts.begin());
  EXPECT_EQ(pages->n_free(), 12 - 2);
  texts.clear();
  EXPECT_EQ(pages->n_free(), 12);
}

TEST_P(Pages, ATextThatFindsNoPageIsAsBefore) {
  const auto pages = used_pool(3);
  const auto first = must(KvCache::create(pages, kContext));
  start(*first, 1, 500);
  auto fork = must(first->fork());
  std::vector<float> logits(kVocab);
  Status full = try_feed(*fork, {2}, 30, logits);  // a copy of the last page, and one more
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::kContextFull);
  EXPECT_NE(full.error().message.find("of the 3"), std::string::npos) << full.error().message;
  EXPECT_EQ(fork->n_past(), 500);
  EXPECT_EQ(feed(*fork, {3}, 5), alone(500, {{{3}, 5}})[0]);
  EXPECT_EQ(pages->n_free(), 0);
  full = try_feed(*first, {2}, 30, logits);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(first->n_past(), 500);
  const auto want = alone(500, {{{2}, 12}, {{4}, 3}});
  EXPECT_EQ(feed(*first, {2}, 12), want[0]);  // to the end of its last page
  fork.reset();                               // now there is one
  EXPECT_EQ(feed(*first, {4}, 3), want[1]);
  // In a pass of several, none has changed when one finds none.
  const auto second = must(KvCache::create(pool(1), kContext));
  start(*second, 1, 250);
  PassInput input(600);
  input.append_text(std::vector<TokenId>(20, 5));
  const TextDecoder::Input both[] = {{first.get(), input.rows(), {}}, {second.get(), input.rows(), {}}};
  EXPECT_FALSE(decoder_->run(both, {}, {}).ok());
  EXPECT_EQ(first->n_past(), 515);
  EXPECT_EQ(second->n_past(), 250);
  EXPECT_EQ(second->n_pages(), 1);
}

TEST_P(Pages, TheLastSlotIsComputedAgainWhereverItIs) {
  const auto pages = used_pool(5);
  for (const int64_t n : {255, 256, 257}) {
    const auto text = must(KvCache::create(pages, kContext));
    start(*text, 1, n - 1);
    const std::vector<float> want = feed(*text, {4}, 1);
    const auto fork = must(text->fork());  // its page is shared then
    const auto p = static_cast<int32_t>(n - 1);
    std::vector<float> got(kVocab);
    EXPECT_OK(decoder_->last_logits(*text, 4, {p, p, p}, got));
    EXPECT_EQ(got, want) << n;
    EXPECT_FALSE(decoder_->last_logits(*text, 5000, {p, p, p}, got).ok());
    EXPECT_EQ(text->n_past(), n);
    EXPECT_EQ(feed(*text, {9}, 3), feed(*fork, {9}, 3)) << n;
  }
  EXPECT_EQ(pages->n_free(), 5);
}

TEST_P(Pages, SavedAndLoadedATextGoesOnAsIfItHadNotStopped) {
  const auto pages = used_pool(4), other = pool(3);
  const auto text = must(KvCache::create(pages, kContext)), clean = must(KvCache::create(other, kContext));
  for (KvCache* cache : {text.get(), clean.get()}) {
    start(*cache, 1, 256);
    feed(*cache, {1}, 5);
  }
  std::vector<std::vector<std::byte>> saved;
  for (int64_t block = 0; block < 2; ++block) {
    std::vector<std::byte> bytes(text->page_bytes()), same(bytes);
    EXPECT_OK(text->save_page(block, bytes));
    EXPECT_OK(clean->save_page(block, same));
    // Panels of q8_0 have room between scales when a head is an odd multiple of 16 wide, as here: nobody's slots.
    if (GetParam().kv != KvElement::kQ8_0) {
      EXPECT_EQ(bytes, same) << "what others had left in page " << block << " is in the bytes";
    }
    saved.push_back(bytes);
  }
  std::vector<std::byte> bytes(text->page_bytes());
  EXPECT_FALSE(text->save_page(2, bytes).ok());
  EXPECT_FALSE(text->save_page(0, std::span(bytes).first(9)).ok());
  const auto loaded = must(KvCache::create(pool(2), kContext));
  EXPECT_OK(loaded->load_page(256, saved[0]));
  EXPECT_OK(loaded->load_page(5, saved[1]));
  EXPECT_FALSE(loaded->load_page(1, saved[1]).ok()) << "in the middle of a page";
  EXPECT_EQ(loaded->n_past(), 261);
  EXPECT_EQ(feed(*loaded, {7}, 9), feed(*text, {7}, 9));
}

TEST_P(Pages, ATextTakesTheSlotsOfAnother) {
  const auto pages = used_pool(6);
  const auto text = must(KvCache::create(pages, kContext));
  start(*text, 1, 510);
  const auto kept = must(text->fork());
  const std::vector<float> once = feed(*text, {2}, 7);
  EXPECT_OK(text->become(*kept));
  EXPECT_EQ(text->n_past(), 510);
  EXPECT_EQ(pages->n_free(), 4);
  EXPECT_EQ(feed(*text, {2}, 7), once);
  EXPECT_OK(text->become(*kept));
  EXPECT_EQ(feed(*text, {3}, 4), alone(510, {{{3}, 4}})[0]);
}

// What is no number may lie in pages that come back to the pool; whoever gets them next does not see it.
TEST_P(Pages, WhatAFailedPassLeftBehindIsSeenByNobody) {
  const auto pages = pool(1);
  auto text = must(KvCache::create(pages, 256));
  EXPECT_OK(text->load_page(200, std::vector<std::byte>(text->page_bytes(), std::byte{0xff})));
  std::vector<float> logits(kVocab);
  const Status failed = try_feed(*text, {1}, 4, logits);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, ErrorCode::kNumeric);
  EXPECT_EQ(text->n_past(), 200);
  text.reset();
  EXPECT_EQ(pages->n_free(), 1);
  const auto next = must(KvCache::create(pages, 256));
  for (const int64_t n : {7, 1, 1, 3}) {
    const std::vector<float> got = feed(*next, {1}, n);
    for (const float x : got) ASSERT_TRUE(std::isfinite(x));
  }
  next->truncate(0);
  EXPECT_EQ(feed(*next, {1}, 9), alone(0, {{{1}, 9}})[0]);
}

#if defined(GLIMPSE_TEST_CUDA_HOST)
// Of a device: what is planned, and nothing afterwards.
TEST_P(Pages, ADeviceGivesWhatWasPlanned) {
  for (const auto& [context, batch] : {std::pair{256, 64}, {900, 1}, {300, 300}}) {
    const auto ops = testing::make_ops(*model_, GetParam());
    const uint64_t planned = KvCache::plan_bytes(*model_, *ops, context, GetParam().kv) +
                             TextDecoder::plan_bytes(*model_, *ops, context, batch);
    const uint64_t before = ops->available_bytes();
    const auto cache = must(KvCache::create(*model_, *ops, context, GetParam().kv));
    const auto decoder = must(TextDecoder::create(model_, *ops, context, batch));
    const uint64_t after = ops->available_bytes(), table = static_cast<uint64_t>(cache->context()) / 256 * 4 + 4;
    EXPECT_LE(before - after, planned + table);
    EXPECT_GE(before - after, planned / 2);
    PassInput input;
    input.append_text(std::vector<TokenId>(12, 7));
    std::vector<float> logits(kVocab);
    EXPECT_OK(decoder->forward(*cache, input.rows(), logits, false, {}, {}));
    EXPECT_EQ(ops->available_bytes(), after);
  }
}
#endif

INSTANTIATE_TEST_SUITE_P(Backends, Pages, ::testing::ValuesIn(testing::golden_backends()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace glimpse
