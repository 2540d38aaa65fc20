// Sessions on the golden models.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/generate/session.h"
#include "tests/engine/golden_support.h"

namespace glimpse::testing {

namespace session_reference {
#include "tests/engine/session_reference.inc"
}  // namespace session_reference

/// The model of tests/golden/tied, on the oracle or on the CPU's best kernels; loaded once.
inline std::shared_ptr<const Model> tied_model(bool reference = true) {
  const auto load = [](bool on_reference) {
    ModelOptions options;
    options.model_path = golden_path("tied/model.gguf");
    options.mmproj_path = golden_path("tied/mmproj.gguf");
    options.use_reference = on_reference;
    options.n_threads = 1;
    options.vision_precision = VisionPrecision::kF32;
    return must(Model::load(options));
  };
  static const std::shared_ptr<const Model> on_reference = load(true);
  static const std::shared_ptr<const Model> on_cpu = load(false);
  return reference ? on_reference : on_cpu;
}

inline SessionOptions small_session(int64_t context = 256) {
  SessionOptions options;
  options.n_threads = 2;
  options.context = context;
  options.batch = 64;
  options.image_limits = {784, 784 * 64};
  options.kv_element = KvElement::kF32;
  return options;
}

inline std::unique_ptr<Session> make_session(std::shared_ptr<const Model> model, const SessionOptions& options) {
  return must(Session::create(std::move(model), options));
}
inline std::unique_ptr<Session> make_session(int64_t context = 256) {
  return make_session(tied_model(), small_session(context));
}

inline std::shared_ptr<const ImageEmbedding> encode(Session& session, const Image& image) {
  return must(session.encode_image(image, nullptr, {}));
}
inline std::vector<Image> golden_pictures() {
  return GoldenCase("tied/case-images.gguf").pictures();
}

inline Message user(std::string text) {
  return {"user", {{std::move(text), nullptr}}};
}
inline Message assistant(std::string text) {
  return {"assistant", {{std::move(text), nullptr}}};
}

/// Empty where there are none.
inline std::vector<float> logits_of(const Session& session) {
  const auto logits = session.logits();
  if (!logits.ok()) return {};
  return {logits.value().begin(), logits.value().end()};
}
/// What the model makes of the whole conversation in a new session.
inline std::vector<float> fresh_logits(const std::vector<Message>& messages) {
  const auto session = make_session();
  EXPECT_OK(session->prefill(messages, {}));
  return logits_of(*session);
}

/// Options under which only the given tokens can be drawn.
inline GenerateOptions only(const std::vector<std::string>& tokens, int64_t max_tokens) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  for (const std::string& token : tokens) {
    options.sampler.logit_bias.emplace_back(tied_model()->tokenizer().find(token), 1000.0f);
  }
  return options;
}
/// Digits are tokens of their own wherever they stand, so an answer of digits has the ids that its text has.
inline GenerateOptions digits(int64_t max_tokens) {
  GenerateOptions options = only({"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, max_tokens);
  options.sampler.temperature = 1;
  return options;
}

/// An answer that a flag of the session ends at its first token.
inline Answer cancelled_at_once(Session& session, const Message& message, GenerateOptions options, volatile int& flag) {
  options.on_text = [&](std::string_view) {
    flag = 1;
    return true;
  };
  const Answer answer = must(session.generate({message}, options));
  EXPECT_EQ(answer.reason, FinishReason::kCancelled);
  EXPECT_EQ(answer.tokens.size(), 1u);
  return answer;
}

inline GenerateOptions greedy(int64_t max_tokens) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  return options;
}

// The conversation of session_reference.py.
inline std::vector<Message> first_messages(Session& session) {
  const std::vector<Image> pictures = golden_pictures();
  return {{"user",
           {{"the ", nullptr},
            {"", encode(session, pictures[0])},
            {" and ", nullptr},
            {"", encode(session, pictures[1])},
            {"what is it?", nullptr}}}};
}

}  // namespace glimpse::testing
