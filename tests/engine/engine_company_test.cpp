// The same questions a thousand times, each time in other company.
#include <stdexcept>

#include "tests/engine/engine_support.h"

namespace glimpse::testing {
namespace {

// As bytes of a file, as pixels, or encoded before.
Request with_sources(const Known& known, std::mt19937& random) {
  Request request = known.request;
  size_t n = 0;
  for (RequestMessage& message : request.messages) {
    for (RequestPart& part : message.parts) {
      if (part.image == nullptr) continue;
      const Image& picture = known.pictures[n++];
      if (random() % 2 == 0) part.image = file_bytes(picture);
    }
  }
  return request;
}

EngineOptions random_engine(std::mt19937& random) {
  EngineOptions options = small_engine();
  options.n_threads = 1 + static_cast<int>(random() % 3);
  options.n_parallel = 1 + static_cast<int>(random() % 6);
  options.batch = 4 + static_cast<int64_t>(random() % 80);
  options.pool_slots = random() % 2 == 0 ? 0 : 512 + static_cast<int64_t>(256 * (random() % 4));
  options.prompt_cache = random() % 4 != 0;
  options.image_cache_bytes = random() % 3 == 0 ? 0 : uint64_t{1} << (12 + random() % 12);
  return options;
}

struct Sent {
  const Known* known = nullptr;  // nullptr: it cannot be answered
  RequestId id = 0;
  RequestResult result;
  int n_tokens = 0, n_done = 0;
};

// The same questions a thousand times, each time in other company: among cancelled ones, late ones, bad pictures,
// priorities, full pools, with caches and without.
TEST(Engine, AnswersAreTheSameInAnyCompany) {
  std::mt19937 random(1);
  const std::vector<Known>& known = known_questions();
  size_t n_answered = 0, n_cut = 0, n_cached_rows = 0, n_cached_pictures = 0;
  for (int round = 0; n_answered < 1000; ++round) {
    ASSERT_LT(round, 200);
    const auto engine = make_engine(random_engine(random));
    if (round % 4 == 0) EXPECT_OK(engine->start());
    std::vector<std::unique_ptr<Sent>> all;
    for (size_t i = 0, n = 10 + random() % 40; i < n; ++i) {
      Sent& sent = *all.emplace_back(std::make_unique<Sent>());
      Request request = ask_for("?", 3);
      if (random() % 12 != 0) {
        sent.known = &known[random() % known.size()];
        request = with_sources(*sent.known, random);
      } else {
        auto bad = std::make_shared<RequestImage>();
        bad->bytes = "P6\n56 56\n255\ncut short";
        request.messages[0].parts.insert(request.messages[0].parts.begin(), {"", bad});
      }
      request.priority = static_cast<int>(random() % 3);
      if (random() % 10 == 0) request.deadline_ms = 1 + static_cast<int64_t>(random() % 20);
      const int stop_at = random() % 8 == 0 ? 1 + static_cast<int>(random() % 4) : -1;
      const bool throws = random() % 3 == 0;
      request.on_token = [&sent, stop_at, throws](const Session::Step& step) {
        if (step.token.id >= 0 && ++sent.n_tokens == stop_at) {
          if (throws) throw std::runtime_error("enough");
          return false;
        }
        return true;
      };
      request.on_done = [&sent](RequestResult result) {
        sent.result = std::move(result);
        ++sent.n_done;
      };
      const auto id = engine->submit(std::move(request));
      if (!id.ok()) {
        EXPECT_EQ(id.error().code, ErrorCode::kTooLarge) << id.error().message;
        all.pop_back();
        continue;
      }
      sent.id = id.value();
      if (random() % 15 == 0) engine->cancel(all[random() % all.size()]->id);
      if (random() % 3 == 0) engine->step();
    }
    if (engine->has_thread()) engine->stop(60000);
    engine->run();
    expect_all_pages_back(*engine);
    for (const auto& sent : all) {
      ASSERT_EQ(sent->n_done, 1);
      const RequestResult& result = sent->result;
      n_cached_rows += static_cast<size_t>(result.answer.timings.n_cached_tokens);
      n_cached_pictures += static_cast<size_t>(result.n_cached_images);
      if (result.status.ok()) {
        ASSERT_NE(sent->known, nullptr);
        ASSERT_TRUE(same(result.answer, sent->known->answer)) << "round " << round;
        ++n_answered;
      } else if (sent->known == nullptr) {
        const ErrorCode code = result.status.error().code;
        EXPECT_TRUE(code == ErrorCode::kTruncated || code == ErrorCode::kCancelled) << result.status.error().message;
      } else {
        const ErrorCode code = result.status.error().code;
        EXPECT_TRUE(code == ErrorCode::kCancelled || code == ErrorCode::kInternal) << result.status.error().message;
        ASSERT_TRUE(begins(result.answer, sent->known->answer)) << "round " << round;
        ++n_cut;
      }
    }
  }
  EXPECT_GT(n_cut, 50u);
  EXPECT_GT(n_cached_rows, 1000u);
  EXPECT_GT(n_cached_pictures, 100u);
}

}  // namespace
}  // namespace glimpse::testing
