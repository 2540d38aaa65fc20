// The pieces of the server, each alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <future>
#include <thread>

#include "engine/model/model.h"
#include "tests/capi/allocation_faults.h"
#include "tests/serve/demo_requests.h"
#include "tools/serve/answer_flow.h"
#include "tools/serve/answers.h"
#include "tools/serve/base64.h"
#include "tools/serve/chat_request.h"
#include "tools/serve/chat_response.h"
#include "tools/serve/chunked_body.h"
#include "tools/serve/service.h"
#include "tools/serve/tools_request.h"

namespace glimpse::serve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Base64, IsThatOfTheRfc) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  size_t bad = 0;
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text, &bad), bytes);
  }
  EXPECT_EQ(decode_base64("Zm9v\r\nYmE", &bad), "fooba");  // wrapped, without padding
  EXPECT_EQ(decode_base64("-_-_", &bad), decode_base64("+/+/", &bad));
  for (const char* const wrong : {"Z", "Zm9vY", "Zg===", "Zg=a", "Zm 9v", "Zm9v=", "====", "\xc3\xa4"}) {
    EXPECT_FALSE(decode_base64(wrong, &bad).has_value()) << wrong;
  }
  EXPECT_FALSE(decode_base64("Zm9v*m9v", &bad).has_value());
  EXPECT_EQ(bad, 4u);
}

TEST(ChunkedBody, IsPutTogetherFromPiecesOfAnySize) {
  const std::string text = "5;name=\"x\"\r\nhello\r\n1a\r\n" + std::string(26, 'z') + "\r\n0\r\nTrailer: x\r\n\r\n";
  for (size_t n = 1; n <= text.size(); ++n) {
    ChunkedBody body(31);
    for (size_t at = 0; at < text.size(); at += n) ASSERT_EQ(body.push(text.substr(at, n)), at + n >= text.size()) << n;
    EXPECT_EQ(body.take(), "hello" + std::string(26, 'z'));
  }
  EXPECT_TRUE(ChunkedBody(0).push("0\r\n\r\nPOST / HTTP/1.1")) << "what follows is not looked at";
  const std::string long_line(2000, '0');
  const std::pair<std::string, int> wrong[] = {{"x\r\n", 400},
                                               {"\r\n", 400},
                                               {"0x1\r\n", 400},
                                               {"-1\r\n", 400},
                                               {" 1\r\n", 400},
                                               {"1 \r\n", 400},
                                               {"1\n", 400},
                                               {"1\r2\r\n", 400},
                                               {"1;a\rb\r\n", 400},
                                               {"1\r\nab\r\n", 400},
                                               {"1\r\na\n", 400},
                                               {long_line, 400},
                                               {"21\r\n", 413},
                                               {"10000000000000000\r\n", 400},
                                               {"fffffffffffffff\r\n", 413}};
  for (const auto& [bytes, status] : wrong) {
    try {
      ChunkedBody(32).push(bytes);
      ADD_FAILURE() << bytes;
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, status) << bytes;
    }
  }
  std::string trailers = "0\r\n";
  for (int i = 0; i < 300; ++i) trailers += "X: " + std::string(100, 'x') + "\r\n";
  EXPECT_THROW(ChunkedBody(32).push(trailers), ApiError);
}

// A value costs a hundred bytes and is written with three: where there are many they are a part of what all may have.
TEST(JsonBody, ManyValuesShareWhatThereIs) {
  const auto budget = std::make_shared<MemoryBudget>(1 << 20);
  std::string many = "[0";
  for (int i = 0; i < 10000; ++i) many += ",{}";
  many += "]";
  {
    const JsonBody first(many, budget);
    EXPECT_EQ(first.json().size(), 10001u);
    try {
      const JsonBody second(many, budget);
      ADD_FAILURE();
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, 503);
      EXPECT_EQ(error.retry_after_s, 1);
    }
    EXPECT_EQ(JsonBody("[1, 2]", budget).json().size(), 2u);
    EXPECT_THROW(JsonBody("[1, 2", budget), ApiError);
  }
  EXPECT_EQ(JsonBody(many, budget).json().size(), 10001u);
  EXPECT_THROW(JsonBody(many.substr(1), budget), ApiError);
  EXPECT_TRUE(budget->take(1 << 20)) << "all is given back";
}

// A request names them with a few bytes.
TEST(Media, FilesShareWhatThereIs) {
  MediaPolicy policy;
  policy.directory = GLIMPSE_SOURCE_DIR "/models";
  const auto read = [&] { return read_picture("file:///sample.png", policy, "here").image; };
  const size_t n_bytes = read()->bytes.size();
  policy.files = std::make_shared<MemoryBudget>(2 * n_bytes - 1);
  {
    const auto first = read();
    try {
      read();
      ADD_FAILURE();
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, 429);
      EXPECT_EQ(error.param, "here");
    }
  }
  EXPECT_EQ(read()->bytes.size(), n_bytes);
  policy.files = std::make_shared<MemoryBudget>(n_bytes - 1);
  try {
    read();
    ADD_FAILURE();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400) << "it will never be read";
  }
}

TEST(MemberText, IsWhatTheClientWrote) {
  const char* const body = R"({"a": {"tools": 1}, "b": "x\"tools\":", "tools": [{"z": 1.50, "a": "},]"}] , "c": 2})";
  EXPECT_EQ(member_text(body, "tools"), R"( [{"z": 1.50, "a": "},]"}] )");
  EXPECT_EQ(member_text(body, "c"), " 2");
  EXPECT_EQ(member_text(body, "d"), "");
  EXPECT_EQ(member_text(R"(["tools"])", "tools"), "");
  EXPECT_EQ(member_text(R"({"tools)", "tools"), "");
}

TEST(ElementTexts, AreWhatTheClientWrote) {
  EXPECT_THAT(element_texts(R"( [{"a": [1, "],"]}, 2 ,[],""] )"),
              ElementsAre(R"({"a": [1, "],"]})", " 2 ", "[]", R"("")"));
  EXPECT_THAT(element_texts("[]"), ElementsAre(""));
  EXPECT_THAT(element_texts(""), ElementsAre());
  EXPECT_THAT(element_texts("[1, \"2"), ElementsAre("1"));
}

// Objects where OpenAI has a text: a template writes them as they came.
TEST(ChatRequest, KeepsArgumentsAsTheyWereWritten) {
  const auto said = [](const std::string& arguments) {
    const ChatRequest request = read_text(
        R"({"messages": [{"role": "user", "content": "x, [{"},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": {"y": 1}, "name": "f"}},
                                                 {"function": {"name": "g", "arguments": )" +
        arguments + R"(}}]}, {"role": "tool", "content": "1"}]})");
    return request.messages[1].parts.at(0).text;
  };
  const std::string first = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"y\": 1}}\n</tool_call>\n";
  const std::string second = "<tool_call>\n{\"name\": \"g\", \"arguments\": ";
  EXPECT_EQ(said(R"({"z" : 1,"a":{"c": 2.50, "b": "}"}})"),
            first + second + R"({"z": 1, "a": {"c": 2.5, "b": "}"}})" + "}\n</tool_call>");
  // Where it is not told which one counts: what was read.
  EXPECT_EQ(said(R"({"z": 1, "a": 2}, "arguments": {"z": 3, "a": 4})"),
            first + second + R"({"a": 4, "z": 3})" + "}\n</tool_call>");
}

TEST(ChatRequest, KeepsToolsAsTheyWereWritten) {
  const ChatRequest request = read_text(
      R"({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function":
          {"name": "look", "description": "a", "parameters": {"type": "object", "properties": {"z": {}, "a": {"x": 1.50}}}}}]})");
  EXPECT_THAT(request.prompt.tools,
              ElementsAre(R"({"type": "function", "function": {"name": "look", "description": "a", "parameters": )"
                          R"({"type": "object", "properties": {"z": {}, "a": {"x": 1.5}}}}})"));
}

TEST(ChatRequest, WritesWhatAnAssistantCalled) {
  const Json call = {
      {"id", "1"}, {"type", "function"}, {"function", {{"name", "look"}, {"arguments", R"({"z": 1, "a": 2})"}}}};
  const ChatRequest request =
      read({{"messages",
             {{{"role", "user"}, {"content", "x"}},
              {{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", "hm"}, {"tool_calls", {call}}},
              {{"role", "tool"}, {"tool_call_id", "1"}, {"content", "a cat"}}}},
            {"enable_thinking", false}});
  ASSERT_EQ(request.messages[1].parts.size(), 2u);
  EXPECT_EQ(request.messages[1].parts[0].text, "<think>\nhm\n</think>\n\n");
  EXPECT_EQ(request.messages[1].parts[1].text,
            "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"z\": 1, \"a\": 2}}\n</tool_call>");
  EXPECT_EQ(request.messages[2].role, "tool");
  EXPECT_EQ(request.prompt.enable_thinking, false);
  EXPECT_TRUE(request.generation.warnings.empty());
}

// Half an object is what an answer that was cut off leaves.
TEST(ChatRequest, TakesBackCallsThatWereCutOff) {
  for (const Json& arguments : {Json(R"({"z": "a)"), Json("3"), Json(3)}) {
    const Json call = {{"id", "1"}, {"type", "function"}, {"function", {{"name", "look"}, {"arguments", arguments}}}};
    const ChatRequest request = read({{"messages",
                                       {{{"role", "user"}, {"content", "x"}},
                                        {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", {call}}},
                                        {{"role", "tool"}, {"tool_call_id", "1"}, {"content", "no"}}}}});
    const std::string written = arguments.is_string() ? arguments.get<std::string>() : "3";
    EXPECT_EQ(request.messages[1].parts[0].text,
              "<tool_call>\n{\"name\": \"look\", \"arguments\": " + written + "}\n</tool_call>");
  }
}

TEST(ChatRequest, EmptyStopsEndNoAnswer) {
  Json body = {{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"stop", ""}};
  EXPECT_THAT(read(body).generation.options.stop, ElementsAre());
  EXPECT_THAT(read(body).generation.warnings, ElementsAre("stop is empty: it ends no answer"));
  body["stop"] = {"", "a", ""};
  EXPECT_THAT(read(body).generation.options.stop, ElementsAre("a"));
  EXPECT_THAT(read(body).generation.warnings,
              ElementsAre("stop[0] is empty: it ends no answer", "stop[2] is empty: it ends no answer"));
}

TEST(ChatRequest, RefusesToolsThatAreNone) {
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const Json tool = {{"type", "function"}, {"function", {{"name", "f"}}}};
  const std::pair<Json, const char*> wrong[] = {
      {{{"tools", "x"}}, "tools"},
      {{{"tools", {1}}}, "tools[0]"},
      {{{"tools", {{{"type", "retrieval"}}}}}, "tools[0].type"},
      {{{"tools", {{{"type", "function"}}}}}, "tools[0].function"},
      {{{"tools", {{{"type", "function"}, {"function", {{"name", ""}}}}}}}, "tools[0].function.name"},
      {{{"tools", {tool}}, {"tool_choice", "perhaps"}}, "tool_choice"}};
  for (const auto& [fields, param] : wrong) {
    Json body = fields;
    body["messages"] = messages;
    try {
      read(body);
      ADD_FAILURE() << body;
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, 400);
      EXPECT_EQ(error.param, param) << error.message;
    }
  }
  const Json both = {
      {"messages", messages}, {"tools", {tool}}, {"tool_choice", "required"}, {"grammar", "root ::= \"a\""}};
  EXPECT_THROW(read(both), ApiError);
  Json none = {{"messages", messages}, {"tools", {tool}}, {"tool_choice", "none"}};
  EXPECT_TRUE(read(none).prompt.tools.empty());
}

// Definitions of a tool stand deeper in the schema of all tools' calls than they did in its own.
TEST(ChatRequest, ReferencesOfToolsAreFoundInTheSchemaOfTheirCalls) {
  const Json parameters =
      Json::parse(R"({"type": "object", "required": ["$ref", "next"], "$defs": {"n": {"type": "null"}},
      "properties": {"$ref": {"$ref": "#/$defs/n"}, "const": {"$ref": "#/$defs/n"}, "next": {"const": {"$ref": "#/x"}}}})");
  const Json tool = {{"type", "function"}, {"function", {{"name", "f"}, {"parameters", parameters}}}};
  Json other = tool;
  other["function"]["name"] = "g";
  const ChatRequest request = read(
      {{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"tools", {tool, other}}, {"tool_choice", "required"}});
  ASSERT_NE(request.generation.options.constraint, nullptr);
  EXPECT_NE(request.tools.schema.find(R"("$ref": "#/items/anyOf/1/properties/arguments/$defs/n")"), std::string::npos)
      << request.tools.schema;
  EXPECT_NE(request.tools.schema.find(R"({"$ref": "#/x"})"), std::string::npos) << "a value is a value";
}

// Which of two counts is the parser's business; that all who look take the same one is ours.
TEST(ChatRequest, KeysThatComeTwiceAreOne) {
  const std::string tool = R"({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})";
  const std::string other = R"({"type": "function", "function": {"name": "g"}})";
  const auto body = [](const std::string& fields) {
    return R"({"messages": [{"role": "user", "content": "x"}], "tool_choice": "required", )" + fields + "}";
  };
  std::string many = tool;
  for (int i = 0; i < 100; ++i) many += ", " + tool;
  for (const std::string& first : {many, std::string(R"("none")"), std::string("{}")}) {
    for (const char* const key : {"tools", R"(to\u006fls)"}) {
      const ChatRequest request = read_text(body(
          format("\"tools\": %s, \"%s\": [%s, %s]", first[0] == '"' ? first : "[" + first + "]", key, tool, other)));
      ASSERT_EQ(request.prompt.tools.size(), 2u) << first;
      EXPECT_THAT(request.prompt.tools[1], HasSubstr("\"g\""));
      EXPECT_THAT(request.tools.schema, HasSubstr("{\"const\": \"g\"}"));
    }
  }
  // As it was written, where that is what was read.
  const ChatRequest plain = read_text(body(R"("json_schema": {"enum": [1]}, "tools": [], "tool_choice": "none",
      "json_schema": {"enum": ["b"]})"));
  ConstraintState state = plain.generation.options.constraint->start().value();
  EXPECT_EQ(state.forced_text(8).value(), "\"b\"");
}

TEST(FormatCache, KeepsNoMoreThanItsBytes) {
  FormatCache cache(1 << 20), roomy;
  const auto find = [](FormatCache& in, int n) {
    return in.find(demo().tokenizer(), FormatCache::Kind::kRegex, format("(a|b%d){20000}", n)).value();
  };
  const std::weak_ptr<const Constraint> first = find(cache, 1), kept = find(roomy, 1);
  EXPECT_GT(first.lock()->memory_bytes(), size_t{200000});
  for (int n = 2; n <= 8; ++n) find(cache, n), find(roomy, n);
  EXPECT_TRUE(first.expired());
  EXPECT_FALSE(kept.expired());
  // They grow as answers go through them, and are looked at when one is asked for.
  constexpr size_t kMost = size_t{4} << 20;
  FormatCache grown(kMost);
  const std::weak_ptr<const Constraint> large =
      grown.find(demo().tokenizer(), FormatCache::Kind::kGrammar, "root ::= \"(\" root \")\" | \"x\"").value();
  const std::weak_ptr<const Constraint> small = find(grown, 1);
  ASSERT_FALSE(large.expired());
  {
    const Constraint::Ptr walked = large.lock();
    ConstraintState state = walked->start().value();
    const TokenId open = demo().tokenizer().find("(");
    for (int i = 0; i < 10000 && walked->memory_bytes() < kMost; ++i) ASSERT_TRUE(state.accept(open).ok());
    EXPECT_GE(walked->memory_bytes(), kMost);
  }
  EXPECT_EQ(find(grown, 1), small.lock());
  EXPECT_TRUE(large.expired());
  FormatCache tiny(1);
  const std::weak_ptr<const Constraint> only = find(tiny, 1);
  EXPECT_FALSE(only.expired()) << "the last one stays";
}

// To compile one may take a hundred megabytes.
TEST(FormatCache, CompilesOnceWhatSeveralAskForAtOnce) {
  FormatCache cache;
  constexpr int kThreads = 4;
  std::barrier all(kThreads);
  std::vector<Constraint::Ptr> made(kThreads);
  std::vector<std::thread> threads;
  for (Constraint::Ptr& one : made) {
    threads.emplace_back([&] {
      all.arrive_and_wait();
      one = cache.find(demo().tokenizer(), FormatCache::Kind::kRegex, "(a|bc){20000}").value();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Constraint::Ptr& one : made) EXPECT_EQ(one, made[0]);
}

// What token ids stand for may be many times as long as they are.
TEST(Completion, LongPromptsOfTokensAreTakenApartOneAfterAnother) {
  RequestPolicy policy;
  const ChatStyle style;
  FormatCache formats;
  TextGate texts;
  Json prompt = Json::array();
  const auto word = demo().tokenizer().encode(" background", {}).value();
  for (size_t n = 0; n < 100000; n += 11) {
    for (const TokenId id : word) prompt.push_back(id);
  }
  const std::string body = dump({{"prompt", prompt}});
  const auto read = [&] {
    const ChatContext context{demo().tokenizer(), style, formats, texts};
    return read_completion_request(body, policy, context, CompletionKind::kOpenAi).prompts[0].text.size();
  };
  std::future<size_t> reading;
  {
    const auto held = texts.enter(1 << 20);
    reading = std::async(std::launch::async, read);
    EXPECT_EQ(reading.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout);
  }
  EXPECT_GT(reading.get(), 99000u);
}

// Memory that runs out while a state is made leaves those there are as they were.
TEST(FormatCache, ConstraintsStayWholeWithoutMemory) {
  const Tokenizer& tokenizer = demo().tokenizer();
  const auto make = [&] {
    return Constraint::compile_gbnf(tokenizer, "root ::= \"(\" root \")\" | \"[\" root \"]\" | \"x\"").value();
  };
  const auto masks_of = [&](const Constraint& constraint) {
    std::vector<std::vector<uint64_t>> masks;
    ConstraintState state = constraint.start().value();
    for (const char c : std::string("([[x]])")) {
      masks.push_back(state.mask().value()->words);
      EXPECT_TRUE(state.accept(tokenizer.find(std::string(1, c))).ok());
    }
    masks.push_back(state.mask().value()->words);
    return masks;
  };
  const auto want = masks_of(*make());
  long first = 1;
  for (bool ran_out = true; ran_out; ++first) {
    ran_out = false;
    const Constraint::Ptr shaken = make();
    arm_allocation_faults(first, false);
    try {
      masks_of(*shaken);
    } catch (const std::bad_alloc&) {
      ran_out = true;
    }
    disarm_allocation_faults();
    ASSERT_EQ(masks_of(*shaken), want) << first;
  }
  EXPECT_GT(first, 20);
}

// An answer that thinks, speaks and calls, whole and in pieces of every size.
TEST(ChatResponse, TakesAnswersApart) {
  const Json tool = {{"type", "function"}, {"function", {{"name", "look"}}}};
  const ChatRequest request = read({{"messages", {{{"role", "user"}, {"content", "x"}}}}, {"tools", {tool}}});
  RequestResult result;
  result.answer.text =
      "<think>\nhm, so\n</think>\n\nI look.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"z\": [1], \"a\": "
      "\"b\"}}\n</tool_call>";
  result.answer.finished = true;
  const Json whole = chat_style(request, demo(), {}, "77")->whole(0, result);
  EXPECT_EQ(whole["message"]["reasoning_content"], "hm, so");
  EXPECT_EQ(whole["message"]["content"], "I look.");
  ASSERT_EQ(whole["message"]["tool_calls"].size(), 1u);
  EXPECT_EQ(whole["message"]["tool_calls"][0]["function"],
            (Json{{"name", "look"}, {"arguments", R"({"z": [1], "a": "b"})"}}));
  EXPECT_EQ(whole["finish_reason"], "tool_calls");
  for (size_t n = 1; n < 20; ++n) {
    const auto style = chat_style(request, demo(), {}, "77");
    Json sum = {{"reasoning_content", ""}, {"content", ""}, {"tool_calls", Json::array()}};
    const auto add = [&](const Json& choice) {
      if (choice.is_null()) return;
      const Json& delta = choice["delta"];
      for (const char* const part : {"reasoning_content", "content"}) {
        sum[part] = sum[part].get<std::string>() + delta.value(part, "");
      }
      for (Json call : delta.value("tool_calls", Json::array())) {
        EXPECT_EQ(call["index"], sum["tool_calls"].size());
        call.erase("index");
        sum["tool_calls"].push_back(call);
      }
    };
    for (size_t at = 0; at < result.answer.text.size(); at += n) {
      Session::Step step;
      step.text = result.answer.text.substr(at, n);
      add(style->step(0, step));
    }
    const std::vector<Json> last = style->last(0, result);
    for (const Json& choice : last) add(choice);
    EXPECT_EQ(last.back()["finish_reason"], "tool_calls");
    for (const auto& field : sum.items()) EXPECT_EQ(field.value(), whole["message"][field.key()]) << n;
  }
}

TEST(ChatRequest, OneCallIsOneWhereSeveralAreNotWanted) {
  const Json tool = {{"type", "function"}, {"function", {{"name", "f"}}}};
  Json other = tool;
  other["function"]["name"] = "g";
  Json body = {
      {"messages", {{{"role", "user"}, {"content", "x"}}}}, {"tools", {tool, other}}, {"tool_choice", "required"}};
  for (const bool parallel : {true, false}) {
    body["parallel_tool_calls"] = parallel;
    ConstraintState state = read(body).generation.options.constraint->start().value();
    const auto ids = demo().tokenizer().encode(R"([{"name": "f", "arguments": {}})", {}).value();
    for (const TokenId id : ids) ASSERT_TRUE(state.accept(id).ok()) << demo().tokenizer().token_bytes(id, true);
    EXPECT_EQ(state.allows(demo().tokenizer().find(",")).value(), parallel);
    EXPECT_TRUE(state.allows(demo().tokenizer().find("]")).value());
  }
}

// A call that must be made is an answer of the tools' schema.
TEST(ChatResponse, TellsForcedCalls) {
  const Json tool = {{"type", "function"}, {"function", {{"name", "look"}, {"parameters", {{"type", "object"}}}}}};
  Json other = tool;
  other["function"]["name"] = "hear";
  Json body = {
      {"messages", {{{"role", "user"}, {"content", "x"}}}}, {"tools", {tool, other}}, {"tool_choice", "required"}};
  RequestResult result;
  result.answer.finished = true;
  result.answer.text = R"([{"name": "hear", "arguments": {"a": 1}}, {"name": "look", "arguments": {}}])";
  const ChatRequest any = read(body);
  EXPECT_NE(any.generation.options.constraint, nullptr);
  Json message = chat_style(any, demo(), {}, "7")->whole(0, result)["message"];
  ASSERT_EQ(message["tool_calls"].size(), 2u);
  EXPECT_EQ(message["tool_calls"][0]["function"], (Json{{"name", "hear"}, {"arguments", R"({"a": 1})"}}));
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "hear"}}}};
  result.answer.text = "<think>\nthat one\n</think>\n\n{\"b\": [2]}";
  const ChatRequest named = read(body);
  EXPECT_EQ(named.tools.schema, R"({"type": "object"})");
  const auto style = chat_style(named, demo(), {}, "7");
  const std::vector<Json> last = style->last(0, result);
  EXPECT_EQ(last[0]["delta"]["tool_calls"][0]["function"], (Json{{"name", "hear"}, {"arguments", R"({"b": [2]})"}}));
  EXPECT_EQ(last[0]["delta"]["reasoning_content"], "that one");
  EXPECT_EQ(last[1]["finish_reason"], "tool_calls");
}

}  // namespace
}  // namespace glimpse::serve
