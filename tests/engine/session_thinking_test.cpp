// Thinking and tools in a conversation that stays in the cache: it is the one that the template writes as a whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "engine/serve/engine.h"
#include "tests/engine/model_editor.h"
#include "tests/engine/session_support.h"
#include "tokenizer/answer_parts.h"
#include "tokenizer/earlier_thinking.h"

namespace glimpse::testing {
namespace {

// The golden model of qwen3 with another model's chat template and the tokens it needs.
std::shared_ptr<const Model> model_with(const std::string& name) {
  std::ifstream in(std::string(GLIMPSE_TEST_DIR) + "/tokenizer/data/chat/" + name + ".jinja");
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_FALSE(text.str().empty());
  ModelEditor editor("qwen3/model.gguf");
  editor.set("tokenizer.chat_template", text.str());
  const char* const markup[] = {"<think>",      "</think>",        "<tool_call>",
                                "</tool_call>", "<tool_response>", "</tool_response>"};
  for (size_t i = 0; i < std::size(markup); ++i) editor.name_token(302 + i, markup[i]);
  ModelOptions options;
  options.model_path = editor.write();
  options.n_threads = 1;
  options.use_reference = true;
  return must(Model::load(options));
}

std::shared_ptr<const Model> qwen3() {
  static const std::shared_ptr<const Model> model = model_with("qwen3");
  return model;
}

// As if the model had said it: the tokens are drawn one by one.
void say(Session& session, const std::string& text) {
  EXPECT_OK(session.begin_answer(greedy(-1)));
  const Tokenizer& tokenizer = qwen3()->tokenizer();
  std::vector<TokenId> ids = must(tokenizer.encode(text, {}));
  ids.push_back(tokenizer.find("<|im_end|>"));
  for (const TokenId id : ids) must(session.feed(id));
}

std::vector<float> logits_after(const std::shared_ptr<const Model>& model, const std::vector<Message>& messages,
                                const PromptOptions& options = {}, int64_t* n = nullptr) {
  const auto session = make_session(model, small_session(512));
  session->set_prompt_options(options);
  EXPECT_OK(session->prefill(messages, {}));
  if (n != nullptr) *n = session->n_past();
  return logits_of(*session);
}

Message tool(std::string text) {
  return {"tool", {{std::move(text), nullptr}}};
}

TEST(SessionThinking, IsForgottenWhenTheNextQuestionComes) {
  const auto session = make_session(qwen3(), small_session(512));
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  say(*session, "<think>\nis it?\n</think>\n\nthe image");
  EXPECT_EQ(session->answer().text, "<think>\nis it?\n</think>\n\nthe image");
  EXPECT_OK(session->prefill({user("and?")}, {}));
  int64_t n = 0;
  EXPECT_EQ(logits_of(*session),
            logits_after(qwen3(), {user("the cat"), assistant("the image"), user("and?")}, {}, &n));
  EXPECT_EQ(session->n_past(), n);
  // Again, with two answers of which one has nothing to forget.
  say(*session, "<think>\n\n</think>\n\nno");
  EXPECT_OK(session->prefill({user("why")}, {}));
  say(*session, "it is");
  EXPECT_OK(session->prefill({user("so")}, {}));
  EXPECT_EQ(logits_of(*session), logits_after(qwen3(), {user("the cat"), assistant("the image"), user("and?"),
                                                        assistant("no"), user("why"), assistant("it is"), user("so")}));
}

TEST(SessionThinking, StaysWhileToolsAnswer) {
  const PromptOptions options{.tools = {"{\"name\":\"f\"}"}};
  const auto session = make_session(qwen3(), small_session(512));
  session->set_prompt_options(options);
  const std::string said =
      "<think>\nask\n</think>\n\nlet me\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  say(*session, said);
  EXPECT_OK(session->prefill({tool("1"), tool("2")}, {}));
  EXPECT_EQ(logits_of(*session),
            logits_after(qwen3(), {user("the cat"), assistant(said), tool("1"), tool("2")}, options));
  say(*session, "<think>\nnow\n</think>\n\nit is 1");
  EXPECT_OK(session->prefill({user("sure?")}, {}));
  const AnswerParts call{"", "let me", {{"f", "{\"x\": 1}"}}, {}};
  EXPECT_EQ(logits_of(*session), logits_after(qwen3(),
                                              {user("the cat"), assistant(must(join_answer(call, {}, false)).said),
                                               tool("1"), tool("2"), assistant("it is 1"), user("sure?")},
                                              options));
}

TEST(SessionThinking, AnEmptyBlockSkipsItAndIsForgottenToo) {
  const PromptOptions skip{.enable_thinking = false};
  const auto session = make_session(qwen3(), small_session(512));
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  const int64_t n_thinking = session->n_past();
  session->reset();
  session->set_prompt_options(skip);
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  EXPECT_EQ(session->n_past(), n_thinking + 6);  // <think> "\n" "\n" </think> "\n" "\n"
  EXPECT_FALSE(must(session->generate({}, greedy(1))).thinking_open);
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  session->reset();
  // An unanswered prompt is taken back whole, whatever the options were when it was made.
  EXPECT_OK(session->prefill({user("the cat")}, {}));
  session->set_prompt_options({});
  EXPECT_OK(session->prefill({user("and?")}, {}));
  EXPECT_EQ(logits_of(*session), logits_after(qwen3(), {user("the cat"), user("and?")}));
}

// What an answer may be is said of what comes behind the thinking.
TEST(SessionThinking, ConstraintsHoldBehindIt) {
  const auto model = model_with("qwen3vl-thinking");
  const Tokenizer& tokenizer = model->tokenizer();
  GenerateOptions options = greedy(60);
  options.constraint = must(Constraint::compile_choice(tokenizer, std::vector<std::string>{"the cat", "the dog"}));
  const auto session = make_session(model, small_session(512));
  EXPECT_OK(session->prefill({user("which?")}, {}));
  EXPECT_OK(session->begin_answer(options));
  for (const TokenId id : must(tokenizer.encode("a cat or", {}))) EXPECT_OK(session->feed(id));
  EXPECT_OK(session->step());
  const auto fork = must(session->checkpoint());
  for (int round = 0; round < 2; ++round) {
    EXPECT_OK(session->rewind(*fork));
    EXPECT_OK(session->feed(tokenizer.find("</think>")));
    while (!must(session->step()).finished) {
    }
    const std::string text = session->answer().text;
    EXPECT_THAT(text.substr(text.find("</think>")), ::testing::AnyOf("</think>the cat", "</think>the dog"));
  }
  // Without thinking they hold from the beginning.
  const auto plain = make_session(qwen3(), small_session(512));
  options.constraint = must(Constraint::compile_choice(qwen3()->tokenizer(), std::vector<std::string>{"the cat"}));
  EXPECT_EQ(must(plain->generate({user("which?")}, options)).text, "the cat");
}

// An engine's answers are those of sessions.
TEST(SessionThinking, ConstraintsOfAnEngineHoldBehindItToo) {
  const auto model = model_with("qwen3vl-thinking");
  GenerateOptions options = greedy(60);
  options.sampler.logit_bias = {{model->tokenizer().find("</think>"), 1000.0f}};
  options.constraint =
      must(Constraint::compile_choice(model->tokenizer(), std::vector<std::string>{"the cat", "the dog"}));
  const Answer want = must(make_session(model, small_session(512))->generate({user("which?")}, options));
  EXPECT_THAT(want.text, ::testing::AnyOf("</think>the cat", "</think>the dog"));
  EngineOptions engine_options;
  static_cast<PictureOptions&>(engine_options) = small_session();
  engine_options.n_threads = 2;
  engine_options.context = 512;
  engine_options.kv_element = KvElement::kF32;
  Request request;
  request.messages = {{"user", {{"which?", nullptr}}}};
  request.generate = options;
  const RequestResult result = must(Engine::create(model, engine_options))->ask(request);
  EXPECT_EQ(result.answer.text, want.text);
  EXPECT_EQ(result.answer.tokens, want.tokens);
  EXPECT_TRUE(result.answer.thinking_open);
}

TEST(SessionThinking, AnAnswerThatBeginsInsideOfItSaysSo) {
  const auto model = model_with("qwen3vl-thinking");
  const auto session = make_session(model, small_session(512));
  const Answer answer = must(session->generate({user("the cat")}, greedy(3)));
  EXPECT_TRUE(answer.thinking_open);
  EXPECT_TRUE(must(session->generate({}, greedy(2))).thinking_open);  // it goes on
  EXPECT_TRUE(must(session->fork())->answer().thinking_open);
  session->set_prompt_options({.enable_thinking = false});
  const int64_t n = session->n_past();
  const auto refused = session->prefill({user("and?")}, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(session->n_past(), n);
  const auto raw = make_session(model, small_session(512));
  EXPECT_TRUE(must(raw->generate({{kRawRole, {{"<think>the", nullptr}}}}, greedy(1))).thinking_open);
  raw->reset();
  EXPECT_FALSE(must(raw->generate({{kRawRole, {{"<think>the</think>", nullptr}}}}, greedy(1))).thinking_open);
}

TEST(SessionThinking, AnswersBeforeAPictureKeepTheirs) {
  // Only rows of text can be computed again: nothing is taken back across a picture.
  const Tokenizer& tokenizer = qwen3()->tokenizer();
  const std::string text =
      "<|im_start|>assistant\n<think>a</think>b<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
      "<|vision_end|><|im_end|>\n<|im_start|>assistant\n<think>c</think>\n\nd<|im_end|>";
  const std::vector<TokenId> ids = must(tokenizer.encode(text, {.parse_special = true}));
  const WithoutThinking kept = must(without_thinking(tokenizer, ids, qwen3()->chat_format().style));
  std::vector<TokenId> all(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(kept.n_kept));
  all.insert(all.end(), kept.tail.begin(), kept.tail.end());
  EXPECT_EQ(tokenizer.decode(all, true),
            "<|im_start|>assistant\n<think>a</think>b<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
            "<|vision_end|><|im_end|>\n<|im_start|>assistant\nd<|im_end|>");
}

}  // namespace
}  // namespace glimpse::testing
