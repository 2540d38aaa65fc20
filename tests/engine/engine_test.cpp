// Many questions at once: each is answered as if it were alone.
#include "engine/serve/engine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <thread>

#include "engine/model/kv_pages.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

EngineOptions small_engine() {
  EngineOptions options;
  static_cast<PictureOptions&>(options) = small_session();
  options.n_threads = 2;
  options.context = 512;
  options.batch = 64;
  options.kv_element = KvElement::kF32;
  return options;
}

std::unique_ptr<Engine> make_engine(const EngineOptions& options = small_engine()) {
  return must(Engine::create(tied_model(false), options));
}

std::shared_ptr<const RequestImage> pixels(Image picture) {
  auto image = std::make_shared<RequestImage>();
  image->pixels = std::move(picture);
  return image;
}
std::shared_ptr<const RequestImage> file_bytes(const Image& picture) {
  auto image = std::make_shared<RequestImage>();
  image->bytes = format("P6\n%d %d\n255\n", picture.width, picture.height);
  image->bytes.append(picture.pixels.begin(), picture.pixels.end());
  return image;
}

Request ask_for(const std::string& text, int64_t max_tokens, const std::vector<Image>& pictures = {}) {
  Request request;
  RequestMessage& message = request.messages.emplace_back();
  message.role = "user";
  for (const Image& picture : pictures) message.parts.push_back({"", pixels(picture)});
  message.parts.push_back({text, nullptr});
  request.generate = greedy(max_tokens);
  request.generate.n_top_logprobs = 2;
  return request;
}

// No end before max_tokens.
Request endless(Request request) {
  for (TokenId id = 0; id < 320; ++id) {
    if (tied_model()->tokenizer().is_end_of_generation(id)) request.generate.sampler.logit_bias.emplace_back(id, -1e9f);
  }
  return request;
}

// What a session of its own says.
Answer alone(const Request& request, const std::vector<Image>& pictures = {}) {
  const auto session = make_session(tied_model(false), small_session(512));
  std::vector<Message> messages;
  size_t n = 0;
  for (const RequestMessage& from : request.messages) {
    Message& to = messages.emplace_back(Message{from.role, {}});
    for (const RequestPart& part : from.parts) {
      if (part.image != nullptr) {
        to.parts.push_back({"", encode(*session, pictures[n++])});
      } else {
        to.parts.push_back({part.text, nullptr});
      }
    }
  }
  return must(session->generate(messages, request.generate));
}

bool same_logprobs(const std::vector<SampledToken>& a, const std::vector<SampledToken>& b, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (a[i].id != b[i].id || a[i].logprob != b[i].logprob || a[i].top.size() != b[i].top.size()) return false;
    for (size_t k = 0; k < a[i].top.size(); ++k) {
      if (a[i].top[k].id != b[i].top[k].id || a[i].top[k].logprob != b[i].top[k].logprob) return false;
    }
  }
  return true;
}
// Bit for bit, as far as log-probabilities tell.
bool same(const Answer& a, const Answer& b) {
  return a.tokens == b.tokens && a.text == b.text && a.reason == b.reason && a.logprobs.size() == b.logprobs.size() &&
         same_logprobs(a.logprobs, b.logprobs, a.logprobs.size());
}
bool begins(const Answer& part, const Answer& whole) {
  return part.tokens.size() <= whole.tokens.size() && part.logprobs.size() == part.tokens.size() &&
         std::equal(part.tokens.begin(), part.tokens.end(), whole.tokens.begin()) &&
         whole.text.starts_with(part.text) && same_logprobs(part.logprobs, whole.logprobs, part.logprobs.size());
}

Image noise(int width, int height, uint32_t seed) {
  Image image{width, height, {}};
  std::mt19937 random(seed);
  image.pixels.resize(static_cast<size_t>(3 * width * height));
  for (uint8_t& byte : image.pixels) byte = static_cast<uint8_t>(random());
  return image;
}

// Submits it and remembers what becomes of it.
RequestId submit(Engine& engine, Request request, RequestResult& result) {
  request.on_done = [&result](RequestResult done) { result = std::move(done); };
  return must(engine.submit(std::move(request)));
}

void expect_all_pages_back(const Engine& engine) {
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.n_free_pages + stats.n_kept_pages, stats.n_pages);
  EXPECT_EQ(stats.n_running, 0);
  EXPECT_EQ(stats.n_waiting, 0);
  EXPECT_EQ(stats.n_finished + stats.n_failed + stats.n_cancelled, stats.n_requests);
}

TEST(Engine, AnswersSeveralQuestionsAsIfEachWereAlone) {
  const auto engine = make_engine();
  const std::vector<std::string> questions = {"the cat", "what is it?", "the dog and the cat", "a", "is it"};
  std::vector<RequestResult> results(questions.size());
  for (size_t i = 0; i < questions.size(); ++i) submit(*engine, ask_for(questions[i], 6), results[i]);
  engine->run();
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_OK(results[i].status);
    EXPECT_TRUE(same(results[i].answer, alone(ask_for(questions[i], 6)))) << i;
    EXPECT_GT(results[i].first_token_ms, 0);
    EXPECT_GE(results[i].total_ms, results[i].first_token_ms);
  }
  EXPECT_EQ(engine->stats().n_finished, questions.size());
  expect_all_pages_back(*engine);
}

TEST(Engine, ItsOwnThreadAnswersAboutPictures) {
  const auto engine = make_engine();
  EXPECT_OK(engine->start());
  EXPECT_TRUE(engine->has_thread());
  const Request request = ask_for("what is it?", 5, golden_pictures());
  const RequestResult result = engine->ask(request);
  EXPECT_OK(result.status);
  EXPECT_TRUE(same(result.answer, alone(request, golden_pictures())));
  engine->stop(1000);
  EXPECT_EQ(engine->submit(ask_for("a", 1)).error().code, ErrorCode::kCancelled);
  EXPECT_EQ(engine->ask(ask_for("a", 1)).status.error().code, ErrorCode::kCancelled);
}

TEST(Engine, ATokenOfEveryAnswerTakesOnePass) {
  const auto engine = make_engine();
  std::vector<RequestResult> results(4);
  for (size_t i = 0; i < 4; ++i) {
    submit(*engine, endless(ask_for(format("%d", i), 12)), results[i]);
  }
  engine->run();
  EXPECT_EQ(engine->stats().n_generated_tokens, 48u);
  EXPECT_LE(engine->stats().n_passes, 11u + 4) << "and those of the prompts";
}

// -- in any company --------------------------------------------------------------------------------------------------

struct Known {
  Request request;  // without a picture's source
  std::vector<Image> pictures;
  Answer answer;
};

const std::vector<Known>& known_questions() {
  static const std::vector<Known> all = [] {
    std::vector<Known> known;
    const std::vector<Image> pictures = golden_pictures();
    const std::string long_text = [] {
      std::string text;
      for (int i = 0; i < 18; ++i) text += format("the cat %d and the dog. ", i);
      return text;
    }();
    const auto add = [&](Request request, std::vector<Image> seen) {
      Answer answer = alone(request, seen);
      known.push_back({std::move(request), std::move(seen), std::move(answer)});
    };
    add(ask_for("the cat", 8), {});
    add(ask_for(long_text, 6), {});
    add(ask_for(long_text + "what is it?", 6), {});
    add(ask_for("what is it?", 7, {pictures[0]}), {pictures[0]});
    add(ask_for("and now?", 7, {pictures[0]}), {pictures[0]});
    add(ask_for("both", 5, {pictures[0], pictures[1]}), {pictures[0], pictures[1]});
    add(ask_for("both", 5, {pictures[1], pictures[0]}), {pictures[1], pictures[0]});
    const Image wide = noise(280, 196, 7);
    add(ask_for(long_text, 4, {wide}), {wide});
    Request warm = ask_for("tell me", 12, {pictures[1]});
    warm.generate.sampler.temperature = 1;
    warm.generate.sampler.seed = 11;
    warm.generate.sampler.repetition_penalty = 1.3f;
    warm.generate.sampler.penalty_last_n = -1;
    add(warm, {pictures[1]});
    warm.generate.sampler.seed = 12;
    warm.generate.stop = {"a"};
    add(warm, {pictures[1]});
    Request turns = ask_for("the cat", 6);
    turns.messages.push_back({"assistant", {{"7 cats", nullptr}}});
    turns.messages.push_back({"user", {{"and the dog?", nullptr}}});
    turns.messages.insert(turns.messages.begin(), {"system", {{"be brief", nullptr}}});
    add(turns, {});
    add(ask_for("nothing", 0), {});
    return known;
  }();
  return all;
}

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

// -- caches ----------------------------------------------------------------------------------------------------------

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

  options.image_cache_dir = folder.path / "none";
  EXPECT_EQ(Engine::create(tied_model(false), options).error().code, ErrorCode::kNotFound);
}

// -- whose turn it is ------------------------------------------------------------------------------------------------

TEST(Engine, ALongPromptDoesNotHoldUpAnAnswer) {
  EngineOptions options = small_engine();
  options.batch = 8;
  const auto engine = make_engine(options);
  RequestResult short_one, long_one;
  int n_tokens_before = 0;
  bool long_began = false;
  Request first = endless(ask_for("the cat", 20));
  first.on_token = [&](const Session::Step&) {
    if (!long_began) ++n_tokens_before;
    return true;
  };
  submit(*engine, first, short_one);
  for (int i = 0; i < 8; ++i) engine->step();
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the dog and ";
  Request second = ask_for(text, 2);
  second.on_token = [&](const Session::Step&) { return long_began = true; };
  submit(*engine, second, long_one);
  engine->run();
  EXPECT_GT(n_tokens_before, 6) << "tokens of the answer while the prompt went in";
  EXPECT_TRUE(same(short_one.answer, alone(endless(ask_for("the cat", 20)))));
  EXPECT_TRUE(same(long_one.answer, alone(ask_for(text, 2))));
}

TEST(Engine, AShortPromptNeedNotWaitForALongOne) {
  EngineOptions options = small_engine();
  options.batch = 16;
  const auto engine = make_engine(options);
  std::vector<int> order;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the dog and ";
  std::vector<RequestResult> results(2);
  for (int i = 0; i < 2; ++i) {
    Request request = ask_for(i == 0 ? text : "a", 1);
    request.on_token = [&order, i](const Session::Step&) {
      order.push_back(i);
      return true;
    };
    submit(*engine, request, results[static_cast<size_t>(i)]);
  }
  engine->run();
  EXPECT_EQ(order, (std::vector<int>{1, 0}));
}

TEST(Engine, AdmitsByPriorityThenByAge) {
  EngineOptions options = small_engine();
  options.n_parallel = 1;
  const auto engine = make_engine(options);
  std::vector<int> order;
  const int priorities[] = {0, 1, 5, 1, 5};
  for (int i = 0; i < 5; ++i) {
    Request request = ask_for("a", 1);
    request.priority = priorities[i];
    request.on_done = [&order, i](const RequestResult&) { order.push_back(i); };
    must(engine->submit(std::move(request)));
  }
  engine->run();
  EXPECT_EQ(order, (std::vector<int>{2, 4, 1, 3, 0}));
}

// Never half way: what is promised is there.
TEST(Engine, WaitsForPagesAndRefusesWhatCanNeverFit) {
  EngineOptions options = small_engine();
  options.pool_slots = 512;  // two pages
  options.n_parallel = 4;
  const auto engine = make_engine(options);
  std::vector<RequestResult> results(6);
  std::string text;
  for (int i = 0; i < 30; ++i) text += format("the cat %d ", i);
  for (size_t i = 0; i < results.size(); ++i) {
    submit(*engine, ask_for(i % 2 == 0 ? text + std::to_string(i) : std::to_string(i), 30), results[i]);
  }
  engine->run();
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_OK(results[i].status);
    EXPECT_TRUE(same(results[i].answer, alone(ask_for(i % 2 == 0 ? text + std::to_string(i) : std::to_string(i), 30))));
  }
  expect_all_pages_back(*engine);
  options.pool_slots = 256;
  const auto smaller = make_engine(options);
  const auto refused = smaller->submit(ask_for("the cat", 400));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(refused.error().message.find("2 pages of 256 positions; the engine has 1"), std::string::npos)
      << refused.error().message;
  std::string much;
  for (int i = 0; i < 600; ++i) much += "7 ";
  EXPECT_EQ(smaller->submit(ask_for(much, 1)).error().code, ErrorCode::kContextFull);
  EXPECT_EQ(smaller->stats().n_refused, 2u);
}

TEST(Engine, RefusesMoreThanTheQueueHolds) {
  EngineOptions options = small_engine();
  options.n_queued = 2;
  const auto engine = make_engine(options);
  RequestResult results[2];
  for (RequestResult& result : results) submit(*engine, ask_for("a", 1), result);
  EXPECT_EQ(engine->submit(ask_for("a", 1)).error().code, ErrorCode::kBusy);
  engine->run();
  EXPECT_OK(results[1].status);
}

TEST(Engine, SaysAtOnceWhatIsNonsense) {
  const auto engine = make_engine();
  const auto code = [&](Request request) { return engine->submit(std::move(request)).error().code; };
  Request request = ask_for("a", 1);
  request.messages[0].role = "nobody";
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("\xff", 1);
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", -2);
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", 1);
  request.generate.stop = {""};
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", 1);
  request.messages.push_back({kRawRole, {{"b", nullptr}}});
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = ask_for("a", 1);
  request.messages[0].parts.push_back({"", std::make_shared<RequestImage>()});
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  EngineOptions options = small_engine();
  options.n_parallel = 0;
  EXPECT_EQ(plan_engine(*tied_model(false), options).error().code, ErrorCode::kInvalidArgument);
}

// -- ends
// --------------------------------------------------------------------------------------------------------------

TEST(Engine, EndsWhatIsCancelledWhereverItStands) {
  EngineOptions options = small_engine();
  options.n_parallel = 2;
  options.batch = 8;
  const auto engine = make_engine(options);
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the dog and ";
  RequestResult answering, prompting, waiting, after;
  const RequestId first = submit(*engine, endless(ask_for("a", 100)), answering);
  for (int i = 0; i < 6; ++i) engine->step();
  const RequestId second = submit(*engine, ask_for(text, 3), prompting);
  const RequestId third = submit(*engine, ask_for("b", 3), waiting);
  engine->step();
  for (const RequestId id : {first, second, third, RequestId{999}}) engine->cancel(id);
  engine->run();
  for (const RequestResult* result : {&answering, &prompting, &waiting}) {
    ASSERT_FALSE(result->status.ok());
    EXPECT_EQ(result->status.error().code, ErrorCode::kCancelled);
  }
  EXPECT_FALSE(answering.answer.tokens.empty());
  EXPECT_EQ(answering.answer.reason, FinishReason::kCancelled);
  EXPECT_FALSE(prompting.answer.finished);
  EXPECT_EQ(engine->stats().n_cancelled, 3u);
  submit(*engine, ask_for(text, 3), after);
  engine->run();
  EXPECT_TRUE(same(after.answer, alone(ask_for(text, 3))));
  EXPECT_GT(after.answer.timings.n_cached_tokens, 0) << "what the cancelled one had computed";
  expect_all_pages_back(*engine);
}

TEST(Engine, CallbacksMaySubmitCancelAndEndTheEngine) {
  for (const bool thread : {false, true}) {
    auto engine = make_engine();
    std::atomic<int> n_done{0}, n_submitted{1};
    Engine* const e = engine.get();
    Request again = ask_for("a", 2);
    again.on_done = [&](const RequestResult&) { ++n_done; };
    Request request = endless(ask_for("the cat", 50));
    std::atomic<bool> gone{false};
    request.on_token = [&, e](const Session::Step&) {
      if (n_submitted < 4) {
        must(e->submit(again));
        ++n_submitted;
        EXPECT_FALSE(e->step()) << "nothing to do in a callback";
        EXPECT_TRUE(e->in_callback());
        EXPECT_EQ(e->ask(again).status.error().code, ErrorCode::kInvalidArgument);
      } else if (!gone) {
        engine.reset();
        gone = true;
      }
      return true;
    };
    request.on_done = [&](const RequestResult& result) {
      EXPECT_FALSE(result.status.ok());
      ++n_done;
    };
    if (thread) EXPECT_OK(engine->start());
    must(engine->submit(std::move(request)));
    while (!thread && !gone) e->step();
    while (n_done < n_submitted || !gone) std::this_thread::yield();
    EXPECT_EQ(n_done, 4);
  }
}

TEST(Engine, ManyThreadsAskAtOnce) {
  for (const bool own_thread : {false, true}) {
    const auto engine = make_engine();
    if (own_thread) EXPECT_OK(engine->start());
    const std::vector<Known>& known = known_questions();
    std::atomic<int> n_right{0};
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 5; ++i) {
          const Known& one = known[(3 * t + i) % known.size()];
          const RequestResult result = engine->ask(one.request);
          if (result.status.ok() && same(result.answer, one.answer)) ++n_right;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(n_right, 20);
    if (own_thread) engine->stop(1000);
    expect_all_pages_back(*engine);
  }
}

TEST(Engine, PlansWhatItAllocates) {
  EngineOptions options = small_engine();
  const MemoryPlan one = must(plan_engine(*tied_model(false), options));
  options.n_parallel *= 2;
  const MemoryPlan two = must(plan_engine(*tied_model(false), options));
  EXPECT_EQ(two.kv_cache, 2 * one.kv_cache);
  EXPECT_GT(two.decoder_scratch, one.decoder_scratch);
  EXPECT_EQ(two.vision_scratch, one.vision_scratch);
}

}  // namespace
}  // namespace glimpse::testing
