// Engines on the golden model, and what sessions say to the same requests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/model/kv_pages.h"
#include "engine/serve/engine.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {

inline EngineOptions small_engine() {
  EngineOptions options;
  static_cast<PictureOptions&>(options) = small_session();
  options.n_threads = 2;
  options.context = 512;
  options.batch = 64;
  options.kv_element = KvElement::kF32;
  return options;
}

inline std::unique_ptr<Engine> make_engine(const EngineOptions& options = small_engine()) {
  return must(Engine::create(tied_model(false), options));
}

inline std::shared_ptr<const RequestImage> pixels(Image picture) {
  auto image = std::make_shared<RequestImage>();
  image->pixels = std::move(picture);
  return image;
}
inline std::shared_ptr<const RequestImage> file_bytes(const Image& picture) {
  auto image = std::make_shared<RequestImage>();
  image->bytes = format("P6\n%d %d\n255\n", picture.width, picture.height);
  image->bytes.append(picture.pixels.begin(), picture.pixels.end());
  return image;
}

inline Request ask_for(const std::string& text, int64_t max_tokens, const std::vector<Image>& pictures = {}) {
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
inline Request endless(Request request) {
  for (TokenId id = 0; id < 320; ++id) {
    if (tied_model()->tokenizer().is_end_of_generation(id)) request.generate.sampler.logit_bias.emplace_back(id, -1e9f);
  }
  return request;
}

// What a session of its own says.
inline Answer alone(const Request& request, const std::vector<Image>& pictures = {}) {
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

inline bool same_logprobs(const std::vector<SampledToken>& a, const std::vector<SampledToken>& b, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (a[i].id != b[i].id || a[i].logprob != b[i].logprob || a[i].top.size() != b[i].top.size()) return false;
    for (size_t k = 0; k < a[i].top.size(); ++k) {
      if (a[i].top[k].id != b[i].top[k].id || a[i].top[k].logprob != b[i].top[k].logprob) return false;
    }
  }
  return true;
}
// Bit for bit, as far as log-probabilities tell.
inline bool same(const Answer& a, const Answer& b) {
  return a.tokens == b.tokens && a.text == b.text && a.reason == b.reason && a.logprobs.size() == b.logprobs.size() &&
         same_logprobs(a.logprobs, b.logprobs, a.logprobs.size());
}
inline bool begins(const Answer& part, const Answer& whole) {
  return part.tokens.size() <= whole.tokens.size() && part.logprobs.size() <= whole.logprobs.size() &&
         (whole.logprobs.empty() || part.logprobs.size() == part.tokens.size()) &&
         std::equal(part.tokens.begin(), part.tokens.end(), whole.tokens.begin()) &&
         whole.text.starts_with(part.text) && same_logprobs(part.logprobs, whole.logprobs, part.logprobs.size());
}

inline Image noise(int width, int height, uint32_t seed) {
  Image image{width, height, {}};
  std::mt19937 random(seed);
  image.pixels.resize(static_cast<size_t>(3 * width * height));
  for (uint8_t& byte : image.pixels) byte = static_cast<uint8_t>(random());
  return image;
}

// Submits it and remembers what becomes of it.
inline RequestId submit(Engine& engine, Request request, RequestResult& result) {
  request.on_done = [&result](RequestResult done) { result = std::move(done); };
  return must(engine.submit(std::move(request)));
}

inline void expect_all_pages_back(const Engine& engine) {
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.n_free_pages + stats.n_kept_pages, stats.n_pages);
  EXPECT_EQ(stats.n_running, 0);
  EXPECT_EQ(stats.n_waiting, 0);
  EXPECT_EQ(stats.n_finished + stats.n_failed + stats.n_cancelled, stats.n_requests);
}

/// Questions, and what a session of its own says to each.
struct Known {
  Request request;  // without a picture's source
  std::vector<Image> pictures;
  Answer answer;
};

inline const std::vector<Known>& known_questions() {
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
    // Constrained: some tokens are drawn, others are forced and need no pass.
    const std::string choices[] = {"the cat and the dog", "the cat and 7", "nothing of it"};
    Request chosen = ask_for("which?", 30);
    chosen.generate.n_top_logprobs = 0;
    chosen.generate.constraint = must(Constraint::compile_choice(tied_model(false)->tokenizer(), choices));
    add(chosen, {});
    chosen.messages[0].parts.insert(chosen.messages[0].parts.begin(), {"", pixels(pictures[0])});
    const std::string only[] = {"the cat"};
    chosen.generate.constraint = must(Constraint::compile_choice(tied_model(false)->tokenizer(), only));
    add(chosen, {pictures[0]});
    return known;
  }();
  return all;
}

}  // namespace glimpse::testing
