// Many questions at once: each is answered as if it were alone.
#include <gtest/gtest.h>

#include "engine/serve/engine.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

EngineOptions small_engine() {
  EngineOptions options;
  static_cast<PictureOptions&>(options) = small_session();
  options.n_threads = 2;
  options.context = 256;
  options.batch = 64;
  options.kv_element = KvElement::kF32;
  return options;
}

std::unique_ptr<Engine> make_engine(const EngineOptions& options = small_engine()) {
  return must(Engine::create(tied_model(false), options));
}

Request ask_for(const std::string& text, int64_t max_tokens, std::vector<Image> pictures = {}) {
  Request request;
  RequestMessage& message = request.messages.emplace_back();
  message.role = "user";
  for (Image& picture : pictures) {
    auto image = std::make_shared<RequestImage>();
    image->pixels = std::move(picture);
    message.parts.push_back({"", image});
  }
  message.parts.push_back({text, nullptr});
  request.generate = greedy(max_tokens);
  return request;
}

Answer alone(const std::string& text, int64_t max_tokens, const std::vector<Image>& pictures = {}) {
  const auto session = make_session(tied_model(false), small_session());
  Message message{"user", {}};
  for (const Image& picture : pictures) message.parts.push_back({"", encode(*session, picture)});
  message.parts.push_back({text, nullptr});
  return must(session->generate({message}, greedy(max_tokens)));
}

TEST(Engine, AnswersSeveralQuestionsAsIfEachWereAlone) {
  const auto engine = make_engine();
  std::vector<std::string> questions = {"the cat", "what is it?", "the dog and the cat", "a", "is it"};
  std::vector<RequestResult> results(questions.size());
  for (size_t i = 0; i < questions.size(); ++i) {
    Request request = ask_for(questions[i], 6 + static_cast<int64_t>(i));
    request.on_done = [&results, i](RequestResult result) { results[i] = std::move(result); };
    must(engine->submit(std::move(request)));
  }
  engine->run();
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_OK(results[i].status);
    EXPECT_EQ(results[i].answer.tokens, alone(questions[i], 6 + static_cast<int64_t>(i)).tokens) << i;
  }
  EXPECT_EQ(engine->stats().n_finished, questions.size());
  EXPECT_EQ(engine->stats().n_free_pages, engine->stats().n_pages);
}

TEST(Engine, ItsOwnThreadAnswersAboutPictures) {
  const auto engine = make_engine();
  EXPECT_OK(engine->start());
  const RequestResult result = engine->ask(ask_for("what is it?", 5, golden_pictures()));
  EXPECT_OK(result.status);
  EXPECT_EQ(result.answer.tokens, alone("what is it?", 5, golden_pictures()).tokens);
  engine->stop(1000);
  EXPECT_EQ(engine->submit(ask_for("a", 1)).error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace glimpse::testing
