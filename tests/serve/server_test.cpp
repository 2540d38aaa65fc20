// The protocol, against one server process with the demo model: what it answers.
#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <set>
#include <sstream>

#include "tests/serve/protocol.h"

namespace glimpse::serve_test {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

TEST_F(ServeProtocol, AnswersAboutAPicture) {
  const Reply reply = server_->post(kChat, picture(sample_url()));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json json = reply.json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "demo-Q8_0");
  EXPECT_THAT(json["id"].get<std::string>(), testing::StartsWith("chatcmpl-"));
  const Json choice = json["choices"][0];
  EXPECT_EQ(choice["message"], (Json{{"role", "assistant"}, {"content", kSampleAnswer}}));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(json["usage"]["prompt_tokens_details"]["image_tokens"], 48);
  EXPECT_EQ(json["usage"]["total_tokens"],
            json["usage"]["prompt_tokens"].get<int>() + json["usage"]["completion_tokens"].get<int>());
  EXPECT_FALSE(json.contains("warnings"));
}

TEST_F(ServeProtocol, StreamsTheSameAnswer) {
  Json body = picture(sample_url());
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  body["frobnicate"] = 1;
  const Reply reply = server_->post(kChat, body);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.fields.at("content-type"), "text/event-stream");
  const std::vector<Json> events = events_of(reply.body);
  ASSERT_GT(events.size(), 4u);
  EXPECT_EQ(events[0]["choices"][0]["delta"], (Json{{"role", "assistant"}, {"content", nullptr}}));
  EXPECT_EQ(events[0]["warnings"], Json::array({"unknown field, ignored: frobnicate"}));
  std::string said;
  for (const Json& event : events) {
    EXPECT_EQ(event["id"], events[0]["id"]);
    EXPECT_EQ(event["object"], "chat.completion.chunk");
    if (&event != &events[0] && !event["choices"].empty()) said += event["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(said, kSampleAnswer);
  const Json& last = events[events.size() - 2]["choices"][0];
  EXPECT_EQ(last["finish_reason"], "stop");
  EXPECT_EQ(last["delta"], Json::object());
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["prompt_tokens_details"]["image_tokens"], 48);
  EXPECT_GT(events.back()["timings"]["predicted_n"], 0);
}

TEST_F(ServeProtocol, GivesSeveralChoicesThatASeedRepeats) {
  Json body = question("Tell me about a circle.");
  body.update({{"n", 3}, {"temperature", 3}, {"seed", 7}, {"max_tokens", 12}});
  const Json first = server_->post(kChat, body).json(), again = server_->post(kChat, body).json();
  ASSERT_EQ(first["choices"].size(), 3u);
  EXPECT_EQ(first["choices"], again["choices"]);
  EXPECT_NE(first["choices"][0]["message"], first["choices"][1]["message"]);
  body["n"] = 1;
  EXPECT_EQ(server_->post(kChat, body).json()["choices"][0], first["choices"][0]);
  body["seed"] = 8;
  EXPECT_EQ(server_->post(kChat, body).json()["choices"][0]["message"], first["choices"][1]["message"]);
}

TEST_F(ServeProtocol, TakesSeedsOfSixtyFourBits) {
  Json body = question("Tell me about a circle.");
  body.update({{"temperature", 3}, {"max_tokens", 12}});
  std::set<std::string> said;
  for (const Json& seed : {Json(INT64_MAX), Json(INT64_MIN), Json(UINT64_MAX - 1), Json((int64_t{1} << 53) + 1)}) {
    body["seed"] = seed;
    const Reply reply = server_->post(kChat, body), again = server_->post(kChat, body);
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.json()["choices"], again.json()["choices"]) << seed;
    said.insert(reply.json()["choices"].dump());
  }
  EXPECT_GT(said.size(), 1u);
}

// Of several prompts each counts, of the choices of one only one.
TEST_F(ServeProtocol, CountsPromptsOnce) {
  const auto usage = [](const Json& prompt, int n) {
    const Json body = {{"prompt", prompt}, {"n", n}, {"max_tokens", 2}};
    return server_->post("/v1/completions", body).json()["usage"]["prompt_tokens"].get<int>();
  };
  const int a = usage("A circle", 1), b = usage("A heart and a square are here", 1);
  EXPECT_NE(a, b);
  EXPECT_EQ(usage("A circle", 3), a);
  EXPECT_EQ(usage({"A circle", "A heart and a square are here"}, 2), a + b);
}

TEST_F(ServeProtocol, AssistantsMaySpeakTwice) {
  const Json said = {{"role", "assistant"}, {"content", "I see."}}, asked = {{"role", "user"}, {"content", "And?"}};
  Json body = question("Hello");
  body["messages"].insert(body["messages"].end(), {said, said, asked});
  EXPECT_EQ(server_->post(kChat, body).status, 200);
  body["messages"][1]["content"] = nullptr;
  EXPECT_EQ(server_->post(kChat, body).status, 200) << "as llama.cpp's server takes it";
  body["messages"][1].erase("content");
  EXPECT_THAT(server_->post(kChat, body).error(), HasSubstr("messages[1].content: is missing"));
  body["messages"][1] = said;
  body["messages"].erase(3);
  EXPECT_THAT(server_->post(kChat, body).error(), HasSubstr("messages[2]: two messages of the assistant at the end"));
}

// What a proxy speaks that does not know chunks.
TEST_F(ServeProtocol, StreamsToOldClientsUntilTheConnectionEnds) {
  Json body = picture(sample_url());
  body["stream"] = true;
  std::string request = request_text("POST", kChat, body.dump());
  const Reply chunked = server_->raw(request);
  request.replace(request.find("HTTP/1.1"), 8, "HTTP/1.0");
  const Reply plain = server_->raw(request);
  EXPECT_EQ(plain.status, 200);
  EXPECT_EQ(plain.fields.count("transfer-encoding") + plain.fields.count("content-length"), 0u);
  EXPECT_EQ(events_of(plain.body).size(), events_of(chunked.body).size());
}

// As .NET and Spring send bodies.
TEST_F(ServeProtocol, TakesBodiesInChunks) {
  const std::string body = picture(sample_url()).dump();
  const std::string head = format("POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n", kChat);
  std::string chunks;
  for (size_t at = 0, n = 1; at < body.size(); at += n, n = n * 3 + 1) {
    const std::string piece = body.substr(at, n);
    chunks += format("%x\r\n%s\r\n", piece.size(), piece);
  }
  chunks += "0\r\n\r\n";
  const Json want = server_->post(kChat, body).json()["choices"];
  for (const std::string& more : {"\r\n"s, "Expect: 100-continue\r\n\r\n"s}) {
    Socket socket(server_->port());
    socket.send(head + more);
    if (more.size() > 2) {
      EXPECT_THAT(socket.receive(), HasSubstr("100 Continue"));
    }
    socket.send(chunks);
    const Reply reply = parse_reply(socket.receive_all());
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.json()["choices"], want);
  }
  // They are bounded as others are, and may not stop in the middle either.
  Socket large(server_->port()), halted(server_->port());
  large.send(head + "\r\n");
  const std::string megabyte = format("100000\r\n%s\r\n", std::string(1 << 20, ' '));
  for (int i = 0; i < 20 && large.send(megabyte); ++i) {
  }
  EXPECT_EQ(parse_reply(large.receive_all()).status, 413);
  halted.send(head + "\r\n5\r\nabc");
  EXPECT_EQ(parse_reply(halted.receive_all()).status, 408);
  expect_ok();
}

// Proxies look whether it lives with the fewest words.
TEST_F(ServeProtocol, OldClientsNeedNotNameIt) {
  EXPECT_EQ(server_->raw("GET /health HTTP/1.0\r\n\r\n").status, 200);
  EXPECT_EQ(server_->raw("OPTIONS / HTTP/1.0\r\n\r\n").status, 204);
  EXPECT_EQ(server_->raw("GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n").status, 403);
}

TEST_F(ServeProtocol, TellsLogProbabilities) {
  Json body = picture(sample_url());
  body.update({{"logprobs", true}, {"top_logprobs", 3}, {"max_tokens", 5}});
  const Json choice = server_->post(kChat, body).json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  std::string said;
  ASSERT_EQ(choice["logprobs"]["content"].size(), 5u);
  for (const Json& token : choice["logprobs"]["content"]) {
    said += token["token"].get<std::string>();
    EXPECT_LE(token["logprob"], 0.0);
    ASSERT_EQ(token["top_logprobs"].size(), 3u);
    EXPECT_EQ(token["top_logprobs"][0]["token"], token["token"]);  // greedy
    EXPECT_FALSE(token["bytes"].empty());
  }
  EXPECT_EQ(said, choice["message"]["content"]);
  body["stream"] = true;
  Json streamed = Json::array();
  for (const Json& event : events_of(server_->post(kChat, body).body)) {
    const Json& logprobs = event["choices"][0]["logprobs"];
    if (!logprobs.is_null()) streamed.push_back(logprobs["content"][0]);
  }
  EXPECT_EQ(streamed, choice["logprobs"]["content"]);
}

TEST_F(ServeProtocol, ObeysStopBiasAndLength) {
  Json body = picture(sample_url());
  body["stop"] = "blue";
  Json choice = server_->post(kChat, body).json()["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "An orange ring, a green square, a ");
  EXPECT_EQ(choice["finish_reason"], "stop");
  body["stop"] = {"square", "ring"};
  EXPECT_EQ(server_->post(kChat, body).json()["choices"][0]["message"]["content"], "An orange ");
  const Json tokens = server_->post("/tokenize", Json{{"content", "An"}}).json()["tokens"];
  body = picture(sample_url());
  body["logit_bias"] = {{std::to_string(tokens[0].get<int>()), -100}};
  const std::string without = server_->post(kChat, body).json()["choices"][0]["message"]["content"];
  EXPECT_THAT(without, testing::Not(testing::StartsWith("An")));
  body["logit_bias"] = Json::array({Json::array({tokens[0], false})});
  EXPECT_EQ(server_->post(kChat, body).json()["choices"][0]["message"]["content"], without);
  body["max_completion_tokens"] = 2;
  choice = server_->post(kChat, body).json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
}

TEST_F(ServeProtocol, KeepsToTheFormatThatIsAskedFor) {
  const auto said = [](Json fields) {
    Json body = picture(sample_url());
    body["max_tokens"] = 200;
    body.update(fields);
    const Reply reply = server_->post(kChat, body);
    EXPECT_EQ(reply.status, 200) << fields << reply.body;
    return reply.status == 200 ? reply.json()["choices"][0]["message"]["content"].get<std::string>() : "";
  };
  const Json schema = {{"type", "object"},
                       {"properties", {{"shape", {{"enum", {"ring", "heart"}}}}, {"found", {{"type", "boolean"}}}}},
                       {"required", {"shape", "found"}},
                       {"additionalProperties", false}};
  for (const Json& fields :
       {Json{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "s"}, {"schema", schema}}}}}},
        Json{{"response_format", {{"type", "json_object"}, {"schema", schema}}}}, Json{{"json_schema", schema}},
        Json{{"guided_json", schema.dump()}}, Json{{"structured_outputs", {{"json", schema}}}}}) {
    const Json answer = Json::parse(said(fields), nullptr, false);
    ASSERT_TRUE(answer.is_object()) << fields;
    EXPECT_THAT(answer["shape"].get<std::string>(), testing::AnyOf("ring", "heart"));
    EXPECT_TRUE(answer["found"].is_boolean());
  }
  EXPECT_EQ(said({{"grammar", "root ::= \"a\"{5,5}"}}), "aaaaa");
  EXPECT_EQ(said({{"guided_regex", "x[0-9]y"}}).size(), 3u);
  EXPECT_THAT(said({{"guided_choice", {"blue", "green"}}}), testing::AnyOf("blue", "green"));
  EXPECT_EQ(said({{"response_format", {{"type", "text"}}}}), kSampleAnswer);
  const std::pair<Json, const char*> wrong[] = {
      {{{"response_format", {{"type", "sound"}}}}, "response_format.type"},
      {{{"response_format", {{"type", "json_object"}, {"schema", 123}}}}, "response_format.schema"},
      {{{"response_format", {{"type", "json_object"}, {"schema", {{"type", 123}}}}}}, "response_format.schema"},
      {{{"response_format", {{"type", "json_schema"}}}}, "response_format.json_schema"},
      {{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", {{"type", "hiccup"}}}}}}}},
       "response_format.json_schema.schema"},
      {{{"grammar", "root ::= this is (not valid GBNF"}}, "grammar"},
      {{{"guided_regex", "(("}}, "guided_regex"},
      {{{"guided_choice", Json::array()}}, "guided_choice"},
      {{{"grammar", "root ::= \"a\""}, {"guided_regex", "a"}}, "guided_regex"}};
  for (const auto& [fields, param] : wrong) {
    Json body = question("x");
    body.update(fields);
    const Reply reply = server_->post(kChat, body);
    EXPECT_EQ(reply.status, 400) << fields << reply.body;
    EXPECT_EQ(reply.json()["error"]["param"], param) << reply.body;
  }
}

TEST_F(ServeProtocol, CompletesRawPrompts) {
  const Json body = {{"prompt", {"<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "A"}},
                     {"max_tokens", 8},
                     {"n", 2},
                     {"echo", true}};
  const Json json = server_->post("/v1/completions", body).json();
  EXPECT_EQ(json["object"], "text_completion");
  ASSERT_EQ(json["choices"].size(), 4u);
  EXPECT_EQ(json["choices"][3]["index"], 3);
  EXPECT_EQ(json["choices"][2]["text"].get<std::string>().substr(0, 1), "A");
  // The chat format by hand is the chat format.
  const Json chat =
      server_
          ->post(kChat,
                 {{"messages", {{{"role", "system"}, {"content", "S"}}, {{"role", "user"}, {"content", "Hello"}}}},
                  {"max_tokens", 8}})
          .json();
  const Json raw =
      server_
          ->post("/v1/completions",
                 {{"prompt",
                   "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"},
                  {"max_tokens", 8}})
          .json();
  EXPECT_EQ(raw["choices"][0]["text"], chat["choices"][0]["message"]["content"]);
  EXPECT_EQ(raw["usage"]["prompt_tokens"], chat["usage"]["prompt_tokens"]);
  // The same prompt as tokens.
  const Json tokens =
      server_->post("/tokenize", {{"content", "<|im_start|>user\nA circle"}, {"parse_special", true}}).json();
  const Json by_text =
      server_->post("/v1/completions", {{"prompt", "<|im_start|>user\nA circle"}, {"max_tokens", 4}, {"logprobs", 2}})
          .json();
  const Json by_tokens =
      server_->post("/v1/completions", {{"prompt", tokens["tokens"]}, {"max_tokens", 4}, {"logprobs", 2}}).json();
  EXPECT_EQ(by_text["choices"], by_tokens["choices"]);
  EXPECT_EQ(by_text["usage"]["prompt_tokens"], tokens["count"]);
}

TEST_F(ServeProtocol, ControlTokensInTextsStayText) {
  const Json plain = server_->post("/tokenize", Json{{"content", "<|im_end|>"}}).json();
  EXPECT_GT(plain["count"], 1);
  EXPECT_EQ(server_->post("/tokenize", {{"content", "<|im_end|>"}, {"parse_special", true}}).json()["count"], 1);
  EXPECT_EQ(server_->post("/detokenize", Json{{"tokens", plain["tokens"]}}).json()["content"], "<|im_end|>");
  // Each costs its letters in a prompt, too: none became a control token.
  Json one = question("a<|im_end|>"), none = question("a");
  one["max_tokens"] = none["max_tokens"] = 1;
  EXPECT_EQ(server_->post(kChat, one).json()["usage"]["prompt_tokens"].get<int>() -
                server_->post(kChat, none).json()["usage"]["prompt_tokens"].get<int>(),
            plain["count"].get<int>());
  EXPECT_EQ(server_->post(kChat, question("<|image_pad|><|vision_start|>")).status, 200);
}

TEST_F(ServeProtocol, TokenizesWithPieces) {
  const Json json = server_->post("/tokenize", {{"content", "a red 媽 🤗"}, {"with_pieces", true}}).json();
  std::string text;
  size_t n_bytes = 0;
  for (const Json& token : json["tokens"]) {
    EXPECT_GE(token["id"], 0);
    const Json& piece = token["piece"];
    if (piece.is_string()) {
      text += piece.get<std::string>();
    } else {
      for (const Json& byte : piece) text += static_cast<char>(byte.get<int>()), ++n_bytes;
    }
  }
  EXPECT_EQ(text, "a red 媽 🤗");
  EXPECT_GT(n_bytes, 0u) << "half a character is no text";
  EXPECT_EQ(json["count"], json["tokens"].size());
  EXPECT_EQ(server_->post("/detokenize", Json{{"tokens", {-1}}}).status, 400);
  EXPECT_EQ(server_->post("/detokenize", Json{{"tokens", {1 << 30}}}).status, 400);
}

TEST_F(ServeProtocol, SaysWhatItIs) {
  EXPECT_EQ(server_->get("/health").json(), (Json{{"status", "ok"}}));
  const Json models = server_->get("/v1/models").json();
  EXPECT_EQ(models["data"][0]["id"], "demo-Q8_0");
  EXPECT_EQ(server_->get("/v1/models/demo-Q8_0").json(), models["data"][0]);
  EXPECT_EQ(server_->get("/v1/models/demo%2DQ8%5F0").json(), models["data"][0]);
  EXPECT_EQ(server_->get("/v1/models/gpt-4").status, 404);
  EXPECT_EQ(server_->get("/v1/models/gpt%4").status, 404);
  const Reply page = server_->get("/");
  EXPECT_THAT(page.fields.at("content-type"), HasSubstr("text/html"));
  const std::string policy = page.fields.at("content-security-policy");
  const std::string nonce = policy.substr(policy.find("nonce-") + 6, 32);
  EXPECT_THAT(page.body, HasSubstr("<script nonce=\"" + nonce + "\">"));
  EXPECT_THAT(page.body, testing::Not(HasSubstr("NONCE-OF")));
  EXPECT_THAT(server_->get("/").fields.at("content-security-policy"), testing::Not(HasSubstr(nonce)));
  const Json answer =
      server_->post(kChat, {{"model", "gpt-4"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}}).json();
  EXPECT_THAT(answer["warnings"][0].get<std::string>(), HasSubstr("\"gpt-4\""));
}

TEST_F(ServeProtocol, CountsForPrometheus) {
  const double n = server_->metric("vllm:generation_tokens_total"), images = server_->metric("glimpse:images_total");
  expect_ok();
  EXPECT_GT(server_->metric("vllm:generation_tokens_total"), n);
  EXPECT_EQ(server_->metric("glimpse:images_total"), images + 1);
  const Reply reply = server_->get("/metrics");
  EXPECT_THAT(reply.fields.at("content-type"), HasSubstr("version=0.0.4"));
  // Every line is a comment or a sample whose name has a type.
  std::set<std::string> typed;
  std::istringstream lines(reply.body);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# TYPE ", 0) == 0) typed.insert(line.substr(7, line.find(' ', 7) - 7));
    if (line.rfind("#", 0) == 0) continue;
    std::string name = line.substr(0, line.find('{'));
    for (const char* const suffix : {"_bucket", "_sum", "_count"}) {
      const size_t at = name.rfind(suffix);
      if (at != std::string::npos && at + std::string(suffix).size() == name.size() && typed.count(name) == 0)
        name.resize(at);
    }
    EXPECT_EQ(typed.count(name), 1u) << line;
    EXPECT_NO_THROW(std::stod(line.substr(line.find("} ") + 2))) << line;
  }
}

TEST_F(ServeProtocol, RefusesWrongBodies) {
  const std::pair<Json, const char*> wrong[] = {
      {{{"messages", nullptr}}, "messages: is missing"},
      {Json::object(), "messages: is missing"},
      {{{"messages", "text"}}, "messages: want an array"},
      {{{"messages", Json::array()}}, "at least one"},
      {{{"messages", {123}}}, "messages[0]: want an object, got a number"},
      {{{"messages", {Json::object()}}}, "messages[0].role: is missing"},
      {{{"messages", {{{"role", 123}}}}}, "messages[0].role: want a string"},
      {{{"messages", {{{"role", "user"}, {"content", 123}}}}}, "messages[0].content: want a string or an array"},
      {{{"messages", {{{"role", "pope"}, {"content", "x"}}}}}, "messages[0].role: \"pope\" is not supported"},
      {{{"messages", {{{"role", "user"}, {"content", {{{"type", "input_audio"}}}}}}}},
       "content[0].type: \"input_audio\""},
      {{{"messages", {{{"role", "user"}, {"content", "a\0b"s}}}}}, "zero"},
  };
  for (const auto& [body, message] : wrong) {
    const Reply reply = server_->post(kChat, body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_THAT(reply.error(), HasSubstr(message)) << body;
    EXPECT_EQ(reply.json()["error"]["type"], "invalid_request_error");
  }
  const std::pair<const char*, Json> fields[] = {{"temperature", "hot"},
                                                 {"temperature", -1},
                                                 {"top_p", 2},
                                                 {"n", 0},
                                                 {"n", 1.5},
                                                 {"n", 1000},
                                                 {"stop", 5},
                                                 {"stop", {1, 2}},
                                                 {"max_tokens", -7},
                                                 {"logit_bias", "x"},
                                                 {"logit_bias", {{"", 1}}},
                                                 {"logit_bias", {{"1", "much"}}},
                                                 {"logit_bias", {{"99999999", 1}}},
                                                 {"seed", "lucky"},
                                                 {"stream", "yes"},
                                                 {"stream_options", 1},
                                                 {"top_logprobs", 3},
                                                 {"logprobs", 5},
                                                 {"audio", {{"voice", "alloy"}}},
                                                 {"modalities", {"audio"}},
                                                 {"functions", {1}},
                                                 {"top_k", 1e300},
                                                 {"frequency_penalty", Json::array()}};
  for (const auto& [name, value] : fields) {
    Json body = question("x");
    body[name] = value;
    const Reply reply = server_->post(kChat, body);
    EXPECT_EQ(reply.status, 400) << name << ": " << value << reply.body;
    EXPECT_NE(reply.error(), "") << name;
  }
  expect_ok();
}

TEST_F(ServeProtocol, RefusesBadPicturesByTheirPlace) {
  Json body = picture(sample_url());
  body["messages"].push_back({{"role", "assistant"}, {"content", "I see."}});
  body["messages"].push_back(picture_question(sample_url(), "And this?"));
  const auto error_with = [&](const std::string& url) {
    Json bad = body;
    bad["messages"][2]["content"][0]["image_url"]["url"] = url;
    const Reply reply = server_->post(kChat, bad);
    EXPECT_EQ(reply.status, 400) << url.substr(0, 80);
    EXPECT_EQ(reply.json()["error"]["param"], "messages[2].content[0].image_url.url") << url.substr(0, 80);
    return reply.error();
  };
  EXPECT_THAT(error_with("malformed"), HasSubstr("want a URL data:image/png;base64"));
  EXPECT_THAT(error_with("https://example.org/cat.png"), HasSubstr("nothing is fetched from the network"));
  EXPECT_THAT(error_with("HTTP://example.org/cat.png"), HasSubstr("nothing is fetched"));
  EXPECT_THAT(error_with("data:text/html;base64,aGVsbG8="), HasSubstr("bad picture"));
  EXPECT_THAT(error_with("data:image/png;base64,a*b"), HasSubstr("bad base64 at byte 23"));
  EXPECT_THAT(error_with("data:image/png,hello"), HasSubstr("not base64"));
  EXPECT_THAT(error_with("data:image/png;base64,"), HasSubstr("bad picture"));
  // A bomb: a few bytes that say they are 60000 x 60000 pixels.
  EXPECT_THAT(error_with("data:image/png;base64,UDYgNjAwMDAgNjAwMDAgMjU1Cg=="), HasSubstr("bad picture"));
  // One that is cut short is known only when it is read.
  const std::string url = sample_url();
  Json bad = body;
  bad["messages"][2]["content"][0]["image_url"]["url"] = url.substr(0, url.size() * 3 / 4);
  for (const bool stream : {false, true}) {
    bad["stream"] = stream;
    const Reply reply = server_->post(kChat, bad);
    EXPECT_EQ(reply.status, 400) << reply.body;
    EXPECT_EQ(reply.json()["error"]["param"], "messages[2].content[0].image_url.url") << reply.body;
  }
  Json many = question("x");
  many["messages"][0]["content"] = Json::array();
  for (int i = 0; i < 5; ++i) many["messages"][0]["content"].push_back(picture_question(url, "")["content"][0]);
  EXPECT_THAT(server_->post(kChat, many).error(), HasSubstr("at most 4 pictures"));
  expect_ok();
}

TEST_F(ServeProtocol, ReadsFilesOfItsDirectoryAlone) {
  for (const std::string& url :
       {"file:///below/a%20sample.png"s, "file://below/a%20sample.png"s,
        format("file://%s/below/a%%20sample.png", media_.string()), "file:///./below//a sample.png"s}) {
    const Reply reply = server_->post(kChat, picture(url));
    EXPECT_EQ(reply.status, 200) << url << reply.body;
    EXPECT_EQ(reply.json()["choices"][0]["message"]["content"], kSampleAnswer);
  }
  for (const std::string& url :
       {"file:///etc/passwd"s, "file:///../etc/passwd"s, "file:///below/../../etc/passwd"s,
        "file:///%2e%2e/etc/passwd"s, "file:///link"s, "file:///linked/passwd"s, "file:///inside/a sample.png"s,
        "file:///pipe"s, "file:///below"s, "file://"s, "file:///"s, "file:///below/a%00sample.png"s,
        "file:///below/a%2"s, "file:///nothing"s, format("file://%s/../../etc/passwd", media_.string()),
        format("file://%sx/passwd", media_.string())}) {
    const Reply reply = server_->post(kChat, picture(url));
    EXPECT_EQ(reply.status, 400) << url;
    EXPECT_THAT(reply.error(), testing::AnyOf(HasSubstr("no such picture file"), HasSubstr("bad %-escape"))) << url;
  }
}

}  // namespace
}  // namespace glimpse::serve_test
