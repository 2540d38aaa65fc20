// The C++ owners of glimpse.hpp, compiled as C++17: what they add to the C interface.
#include <gtest/gtest.h>

#include <fstream>
#include <glimpse/glimpse.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace {

namespace api = glimpse::api;

std::string path(const char* name) {
  return std::string(GLIMPSE_TEST_DIR "/golden/tied/") + name;
}

api::Model load(bool with_vision) {
  const std::string text = path("model.gguf"), vision = path("mmproj.gguf");
  glimpse_model_params params = api::Model::params();
  params.model_path = text.c_str();
  if (with_vision) params.mmproj_path = vision.c_str();
  params.n_threads = 1;
  return api::Model(params);
}

/// Of a session, an encoder or an engine: one thread, pictures of at most 64 tokens, a context of 256 where it has one.
template <class Handle>
auto small_params() {
  auto params = Handle::params();
  params.n_threads = 1;
  if constexpr (!std::is_same_v<Handle, api::Encoder>) params.n_ctx = 256;
  params.image_min_tokens = 1;
  params.image_max_tokens = 64;
  return params;
}
glimpse_session_params small() {
  return small_params<api::Session>();
}

glimpse_generate_params greedy(int32_t max_tokens) {
  glimpse_generate_params params = api::Session::generate_params();
  params.max_tokens = max_tokens;
  return params;
}

std::vector<uint8_t> pixels(int width, int height) {
  std::vector<uint8_t> rgb(static_cast<size_t>(3 * width * height));
  for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<uint8_t>(i * 31);
  return rgb;
}

TEST(Hpp, ThrowsTheStatusAndTheMessage) {
  glimpse_model_params params = api::Model::params();
  params.model_path = "/no/such/file.gguf";
  try {
    const api::Model model(params);
    FAIL() << "a missing file was loaded";
  } catch (const api::Error& error) {
    EXPECT_EQ(error.status(), GLIMPSE_ERROR_NOT_FOUND);
    EXPECT_NE(std::string(error.what()).find("/no/such/file.gguf"), std::string::npos);
  }
}

TEST(Hpp, ShapesOfAnAnswer) {
  const api::Model model = load(false);
  const api::Shapes shapes =
      model.read_shapes(R"([{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"polygon": [[1,)", {{1000, 500, 28, 28}});
  ASSERT_EQ(shapes.shapes.size(), 1u);
  EXPECT_EQ(shapes.shapes[0].kind, GLIMPSE_SHAPE_BOX);
  EXPECT_EQ(shapes.shapes[0].label, "a");
  EXPECT_EQ(shapes.shapes[0].said, (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(shapes.shapes[0].pixels, (std::vector<double>{1, 1, 3, 2}));
  EXPECT_NE(shapes.problem, "");
}

TEST(Hpp, OwnersMoveAndDoNotCopy) {
  static_assert(!std::is_copy_constructible_v<api::Model> && std::is_nothrow_move_constructible_v<api::Model>);
  static_assert(!std::is_copy_constructible_v<api::Session> && std::is_nothrow_move_constructible_v<api::Session>);
  static_assert(!std::is_copy_constructible_v<api::Embedding> && std::is_nothrow_move_constructible_v<api::Embedding>);
  api::Model first = load(false);
  const api::Model second = std::move(first);
  EXPECT_EQ(first.get(), nullptr);
  EXPECT_EQ(second.info().vocab_size, 320);
  EXPECT_STREQ(second.info().architecture, "qwen2vl");
}

TEST(Hpp, TokenizesAndGivesBytesBack) {
  const api::Model model = load(false);
  std::string joined;
  for (const int32_t id : model.tokenize("describe the image")) joined += model.token_bytes(id);
  EXPECT_EQ(joined, "describe the image");
  EXPECT_TRUE(model.tokenize("").empty());
  EXPECT_THROW(model.token_bytes(-1), api::Error);
}

TEST(Hpp, PlansAndAnswers) {
  const api::Model model = load(false);
  EXPECT_GT(api::Session::plan(model, small()).total, 0u);
  api::Session session(model, small());
  std::string streamed;
  int n_progress = 0;
  const api::Answer answer = session.generate(
      {{"system", {{"You are a helpful assistant."}}}, {"user", {{"what is "}, {"7?"}}}}, greedy(8),
      [&](std::string_view text) {
        streamed += text;
        return true;
      },
      [&](const char* stage, double) {
        EXPECT_STREQ(stage, "prefill");
        ++n_progress;
        return true;
      });
  EXPECT_FALSE(answer.tokens.empty());
  EXPECT_LE(answer.tokens.size(), 8u);
  EXPECT_EQ(answer.text, streamed);
  EXPECT_GT(n_progress, 0);
  EXPECT_EQ(session.timings().n_generated_tokens, static_cast<int64_t>(answer.tokens.size()));

  session.reset();
  session.prefill({{"system", {{"You are a helpful assistant."}}}, {"user", {{"what is "}, {"7?"}}}});
  session.begin_answer(greedy(8));
  glimpse_step_result step;
  do {
    step = session.step();
  } while (step.finish_reason == GLIMPSE_FINISH_NONE);
  EXPECT_EQ(session.answer().tokens, answer.tokens);
  EXPECT_EQ(session.answer().text, answer.text);
  EXPECT_EQ(session.answer().reason, answer.reason);
  EXPECT_THROW(session.step(), api::Error);
}

// What C would cut at a NUL is refused.
TEST(Hpp, NothingIsCutAtANul) {
  const api::Model model = load(true);
  api::Session session(model, small());
  const auto refused = [](const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "accepted";
    } catch (const api::Error& error) {
      EXPECT_EQ(error.status(), GLIMPSE_ERROR_INVALID_ARGUMENT) << error.what();
    }
  };
  const std::string nul("a\0b", 3);
  refused([&] { session.prefill({{"user", {{nul, nullptr}}}}); });
  refused([&] { session.prefill({{"system", {{nul, nullptr}}}}); });
  refused([&] { session.prefill({{"raw", {{nul, nullptr}}}}); });
  refused([&] { session.prefill({{std::string("user\0x", 6), {{"a", nullptr}}}}); });
  refused([&] { session.encode_image_file(std::string(path("model.gguf")) + '\0' + ".png"); });
  refused([&] { api::Constraint::choice(model, {"the cat", nul}); });
  EXPECT_EQ(glimpse_session_n_past(session.get()), 0);
}

TEST(Hpp, JoinsWhatItSplit) {
  const api::Model model = load(false);
  const std::string text = "One.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": 2}}\n</tool_call>";
  const api::Message message = api::join_answer(model, api::split_answer(text, false, true), true);
  EXPECT_EQ(message.role, "assistant");
  ASSERT_EQ(message.parts.size(), 1u);
  EXPECT_EQ(message.parts[0].text, text);
  EXPECT_THROW(api::join_answer(model, {{}, {}, {{"", "{}"}}, {}}, false), api::Error);
}

TEST(Hpp, CancelsWhenACallableSaysSo) {
  const api::Model model = load(false);
  api::Session session(model, small());
  glimpse_generate_params params = greedy(60);
  params.temperature = 1;
  const api::Answer answer =
      session.generate({{"user", {{"the cat"}}}}, params, [](std::string_view) { return false; });
  EXPECT_EQ(answer.reason, GLIMPSE_FINISH_CANCELLED);
  EXPECT_FALSE(answer.text.empty());
  try {
    session.prefill({{"user", {{"the dog"}}}}, [](const char*, double) { return false; });
    FAIL() << "a cancelled prefill went through";
  } catch (const api::Error& error) {
    EXPECT_EQ(error.status(), GLIMPSE_ERROR_CANCELLED);
  }
}

// Thrown at the first call of a callable, the second, ... until none is left to fail.
template <typename Fail>
void fails_until_it_answers(api::Session& session, const api::Answer& want, const Fail& fail) {
  const int before = glimpse_session_n_past(session.get());
  for (int n = 1; n < 1000; ++n) {
    int calls = 0;
    const auto throwing = [&] {
      if (++calls == n) throw 42;
      return true;
    };
    try {
      EXPECT_EQ(fail(throwing).tokens, want.tokens);
      EXPECT_GT(n, 2);
      return;
    } catch (const int thrown) {  // as it was thrown
      EXPECT_EQ(thrown, 42);
      EXPECT_EQ(calls, n);  // and nobody was called again
      EXPECT_EQ(glimpse_session_n_past(session.get()), before);
    }
  }
  FAIL() << "it never answered";
}

TEST(Hpp, AnExceptionOfACallableIsThrownAgainAndUndoesTheCall) {
  const api::Model model = load(false);
  api::Session calm(model, small()), session(model, small());
  const std::vector<api::Message> cat = {{"user", {{"the cat"}}}}, dog = {{"user", {{"the dog 7"}}}};
  const api::Answer first = calm.generate(cat, greedy(6)), second = calm.generate(dog, greedy(6));
  fails_until_it_answers(session, first, [&](const auto& fail) {
    return session.generate(cat, greedy(6), [&](std::string_view) { return fail(); });
  });
  fails_until_it_answers(session, second, [&](const auto& fail) {
    return session.generate(dog, greedy(6), {}, [&](const char*, double) { return fail(); });
  });
}

TEST(Hpp, AnExceptionThatPassesTheInterfaceIsAnErrorWithItsMessage) {
  const api::Model model = load(false);
  api::Session session(model, small());
  glimpse_generate_params params = greedy(4);
  params.on_text = [](void*, const char*, size_t) -> int { throw std::runtime_error("the window was closed"); };
  try {
    session.generate({{"user", {{"the cat"}}}}, params);
    FAIL() << "the exception was lost";
  } catch (const api::Error& error) {
    EXPECT_EQ(error.status(), GLIMPSE_ERROR_INTERNAL);
    EXPECT_STREQ(error.what(), "the window was closed");
  }
  params.on_text = [](void*, const char*, size_t) -> int { throw std::bad_alloc(); };
  try {
    session.generate({{"user", {{"the cat"}}}}, params);
    FAIL() << "the exception was lost";
  } catch (const api::Error& error) {
    EXPECT_EQ(error.status(), GLIMPSE_ERROR_OUT_OF_MEMORY);
  }
  EXPECT_EQ(glimpse_session_n_past(session.get()), 0);
}

TEST(Hpp, EncodesPicturesEveryWay) {
  const api::Model model = load(true);
  api::Session session(model, small());
  const std::vector<uint8_t> rgb = pixels(56, 28);
  const std::string ppm = "P6\n56 28\n255\n" + std::string(rgb.begin(), rgb.end());
  const std::string file = GLIMPSE_SCRATCH_DIR "/capi_hpp_test.ppm";
  std::ofstream(file, std::ios::binary) << ppm;

  const api::Embedding from_rgb = session.encode_image_rgb(rgb.data(), 56, 28);
  const api::Embedding from_bytes = session.encode_image_bytes(ppm);
  const api::Embedding from_file = session.encode_image_file(file);
  std::remove(file.c_str());
  const auto saved = from_rgb.save();
  EXPECT_EQ(saved, from_bytes.save());
  EXPECT_EQ(saved, from_file.save());
  EXPECT_EQ(api::Embedding::load(saved).save(), saved);
  EXPECT_EQ(from_rgb.info().n_tokens, 2);

  const api::Answer answer = session.generate({{"user", {{"", &from_rgb}, {"describe the image"}}}}, greedy(4));
  EXPECT_FALSE(answer.tokens.empty());
  EXPECT_EQ(session.timings().n_image_tokens, 2);
  EXPECT_THROW(session.encode_image_bytes("no picture"), api::Error);
  EXPECT_THROW(session.encode_image_rgb(rgb.data(), 56, 28, 0, [](const char*, double) { return false; }), api::Error);
}

TEST(Hpp, EncodesSeveralPicturesWithoutASession) {
  const api::Model model = load(true);
  const glimpse_encoder_params params = small_params<api::Encoder>();
  EXPECT_GT(api::Encoder::plan(model, params).vision_scratch, 0u);
  api::Encoder encoder(model, params);
  api::Session session(model, small());
  const std::vector<uint8_t> rgb = pixels(56, 28);
  const std::string ppm = "P6\n56 28\n255\n" + std::string(rgb.begin(), rgb.end());
  const std::vector<api::Embedding> both =
      encoder.encode({api::Encoder::rgb(rgb.data(), 56, 28), api::Encoder::bytes(ppm)});
  ASSERT_EQ(both.size(), 2u);
  const auto want = session.encode_image_rgb(rgb.data(), 56, 28).save();
  EXPECT_EQ(both[0].save(), want);
  EXPECT_EQ(both[1].save(), want);
  EXPECT_THROW(encoder.encode({api::Encoder::file("/no/such.png")}), api::Error);
  EXPECT_THROW(encoder.encode({}), api::Error);
  EXPECT_THROW(encoder.encode({api::Encoder::bytes(ppm)}, [](const char*, double) -> bool { throw 7; }), int);
}

TEST(Hpp, AnEngineAnswersManyQuestions) {
  const api::Model model = load(true);
  glimpse_engine_params params = small_params<api::Engine>();
  params.n_parallel = 2;
  EXPECT_GT(api::Engine::plan(model, params).kv_cache, 0u);
  api::Engine engine(model, params);
  api::Session session(model, small());
  const std::vector<uint8_t> rgb = pixels(56, 28);
  const api::Embedding picture = session.encode_image_rgb(rgb.data(), 56, 28);
  const api::Answer want = session.generate({{"user", {{"", &picture}, {"the cat"}}}}, greedy(5));

  api::Engine::Request request;
  request.messages = {{"user", {picture, "the cat"}}};
  request.generate = greedy(5);
  request.generate.n_top_logprobs = 2;
  const api::Ticket encoded = engine.submit(request);
  request.messages = {{"user", {api::Encoder::rgb(rgb.data(), 56, 28), "the cat"}}};
  const api::Ticket pictured = engine.submit(request);
  const api::Ticket dropped = engine.submit(request);
  dropped.cancel();
  std::string heard;
  int n_done = 0;
  request.on_token = [&](const glimpse_step_result& step) {
    heard.append(step.text, step.n_bytes);
    return true;
  };
  request.on_done = [&](const api::RequestResult& result) {
    ++n_done;
    EXPECT_EQ(result.text, heard);
  };
  engine.submit_unattended(request);
  request.on_token = [](const glimpse_step_result&) -> bool { throw std::runtime_error("enough"); };
  request.on_done = {};
  const api::Ticket thrown = engine.submit(request);
  for (const api::Ticket* ticket : {&encoded, &pictured}) {
    const api::RequestResult result = ticket->wait();
    EXPECT_EQ(result.status, GLIMPSE_OK) << result.message;
    EXPECT_EQ(result.tokens, want.tokens);
    EXPECT_EQ(result.text, want.text);
    EXPECT_EQ(result.logprobs.size(), result.tokens.size());
    EXPECT_EQ(ticket->top_logprobs(0).size(), 2u);
  }
  EXPECT_EQ(dropped.wait().status, GLIMPSE_ERROR_CANCELLED);
  EXPECT_EQ(thrown.wait().status, GLIMPSE_ERROR_INTERNAL);
  EXPECT_NE(thrown.wait().message.find("enough"), std::string::npos);
  while (engine.step()) {
  }
  EXPECT_EQ(n_done, 1);
  EXPECT_EQ(heard, want.text);
  EXPECT_EQ(engine.stats().n_requests, 5u);
  request.messages.clear();
  EXPECT_THROW(engine.submit(request), api::Error);
  engine.start();
  engine.stop(0);
}

TEST(Hpp, ConstraintsBindAnswers) {
  const api::Model model = load(false);
  api::Session session(model, small());
  const api::Constraint constraint = api::Constraint::choice(model, {"the dog", "the cat"});
  glimpse_generate_params params = api::Session::generate_params();
  params.max_tokens = 20;
  params.constraint = constraint.get();
  const api::Answer answer = session.generate({{"user", {{"the cat", nullptr}}}}, params);
  EXPECT_TRUE(answer.text == "the dog" || answer.text == "the cat") << answer.text;
  try {
    api::Constraint::json_schema(model, R"({"type": "object", "minProperties": 1})");
    FAIL() << "a keyword that is not supported was taken";
  } catch (const api::Error& error) {
    EXPECT_EQ(error.status(), GLIMPSE_ERROR_UNSUPPORTED);
    EXPECT_NE(std::string(error.what()).find("#/minProperties"), std::string::npos) << error.what();
  }
  EXPECT_NE(api::Constraint::regex(model, "a+").get(), nullptr);
  EXPECT_NE(api::Constraint::gbnf(model, "root ::= \"a\"").get(), nullptr);
  EXPECT_NE(api::Constraint::json_object(model).get(), nullptr);
}

}  // namespace
