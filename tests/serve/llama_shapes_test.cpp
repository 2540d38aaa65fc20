// What clients of llama.cpp's server send, and what they look at in the answers: the same request shapes as in its own
// tests (tools/server/tests/unit), with the demo model. Where the answer differs on purpose, README says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/serve/server_process.h"

namespace glimpse::serve_test {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

const std::string kPrompt = "<|im_start|>user\nDescribe it.<|im_end|>\n<|im_start|>assistant\n";

class ServeLlama : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<Server>(std::vector<std::string>{"--parallel", "2", "-c", "512", "--embeddings"});
  }
  static void TearDownTestSuite() { server_.reset(); }
  static Json ask(const std::string& path, const Json& body) {
    const Reply reply = server_->post(path, body);
    EXPECT_EQ(reply.status, 200) << path << body << reply.body;
    return reply.json();
  }
  static std::vector<Json> stream(const std::string& path, Json body) {
    body["stream"] = true;
    const Reply reply = server_->post(path, body);
    EXPECT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.body.find("[DONE]"), std::string::npos);
    std::vector<Json> events;
    for (size_t at = 0; (at = reply.body.find("data: ", at)) != std::string::npos;) {
      const size_t end = reply.body.find("\n\n", at);
      events.push_back(Json::parse(reply.body.substr(at + 6, end - at - 6)));
      at = end;
    }
    return events;
  }
  static std::unique_ptr<Server> server_;
};
std::unique_ptr<Server> ServeLlama::server_;

TEST_F(ServeLlama, CompletionsOfItsOwnShape) {
  const Json openai = ask("/v1/completions", {{"prompt", kPrompt}, {"max_tokens", 12}});
  for (const char* const path : {"/completion", "/completions"}) {
    const Json json = ask(path, {{"prompt", kPrompt}, {"n_predict", 12}, {"return_tokens", true}, {"seed", 5}});
    EXPECT_EQ(json["content"], openai["choices"][0]["text"]);
    EXPECT_EQ(json["stop"], true);
    EXPECT_EQ(json["index"], 0);
    EXPECT_EQ(json["prompt"], kPrompt);
    EXPECT_EQ(json["tokens_evaluated"], openai["usage"]["prompt_tokens"]);
    EXPECT_EQ(json["tokens_predicted"], openai["usage"]["completion_tokens"]);
    EXPECT_EQ(json["tokens"].size(), json["tokens_predicted"]);
    EXPECT_EQ(json["truncated"], false);
    EXPECT_EQ(json["has_new_line"], false);
    EXPECT_EQ(json["model"], "demo-Q8_0");
    EXPECT_EQ(json["generation_settings"]["n_predict"], 12);
    EXPECT_EQ(json["generation_settings"]["seed"], 5);
    EXPECT_EQ(json["timings"]["predicted_n"], json["tokens_predicted"]);
  }
  EXPECT_EQ(ask("/completion", {{"prompt", kPrompt}, {"n_predict", 2}})["tokens"], Json::array());
  EXPECT_EQ(ask("/completion", {{"prompt", kPrompt}, {"n_predict", 2}})["stop_type"], "limit");
  EXPECT_EQ(ask("/completion", {{"prompt", kPrompt}, {"n_predict", -1}})["stop_type"], "eos");
  const std::string text = ask("/completion", {{"prompt", kPrompt}, {"n_predict", -1}})["content"];
  const std::string word = text.substr(text.rfind(' '));
  const Json stopped = ask("/completion", {{"prompt", kPrompt}, {"n_predict", -1}, {"stop", {"@@", word}}});
  EXPECT_EQ(stopped["stop_type"], "word");
  EXPECT_EQ(stopped["stopping_word"], word);
  EXPECT_EQ(stopped["content"].get<std::string>() + word, text);
  // Nothing ends it but the limit.
  const Json endless = ask("/completion", {{"prompt", kPrompt}, {"n_predict", 60}, {"ignore_eos", true}});
  EXPECT_EQ(endless["stop_type"], "limit");
  EXPECT_EQ(endless["tokens_predicted"], 60);
  const Json some = ask("/completion", {{"prompt", kPrompt},
                                        {"n_predict", 4},
                                        {"response_fields", {"content", "generation_settings/n_predict", "nothing"}}});
  EXPECT_EQ(some.size(), 2u);
  EXPECT_EQ(some["generation_settings/n_predict"], 4);
}

TEST_F(ServeLlama, StreamsOfItsOwnShape) {
  const Json body = {{"prompt", kPrompt}, {"n_predict", 12}, {"n_probs", 3}};
  const Json whole = ask("/completion", body);
  const std::vector<Json> events = stream("/completion", body);
  std::string said;
  Json probabilities = Json::array();
  for (const Json& event : events) {
    said += event["content"].get<std::string>();
    EXPECT_EQ(event["stop"], &event == &events.back());
    if (event["stop"] == true) continue;
    EXPECT_EQ(event["tokens"].size(), 1u);
    for (const Json& one : event["completion_probabilities"]) probabilities.push_back(one);
  }
  EXPECT_EQ(said, whole["content"]);
  EXPECT_EQ(probabilities, whole["completion_probabilities"]);
  EXPECT_EQ(events.back()["tokens_predicted"], whole["tokens_predicted"]);
  EXPECT_EQ(events.back()["generation_settings"]["stream"], true);
  for (const Json& one : probabilities) {
    EXPECT_EQ(one["top_logprobs"].size(), 3u);
    EXPECT_TRUE(one["id"].is_number() && one["bytes"].is_array());
  }
}

TEST_F(ServeLlama, PromptsOfEveryKind) {
  const Json tokens = ask("/tokenize", {{"content", kPrompt}, {"parse_special", true}})["tokens"];
  const Json want = ask("/completion", {{"prompt", kPrompt}, {"n_predict", 6}})["content"];
  EXPECT_EQ(ask("/completion", {{"prompt", tokens}, {"n_predict", 6}})["content"], want);
  const Json list = ask("/completion", {{"prompt", {tokens, kPrompt, {{"prompt_string", kPrompt}}}}, {"n_predict", 6}});
  ASSERT_EQ(list.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(list[i]["content"], want);
    EXPECT_EQ(list[i]["index"], i);
  }
  Json mixed = Json::array({tokens[0]});
  mixed.push_back(kPrompt.substr(std::string("<|im_start|>").size()));
  EXPECT_EQ(ask("/completion", {{"prompt", mixed}, {"n_predict", 6}})["content"], want);
  // Pictures, bare base64 or a URL, stand where the text says.
  const std::string url = sample_url(), bare = url.substr(url.find(',') + 1);
  const auto seen = [&](const Json& data, const std::string& places) {
    return server_->post(
        "/completion",
        {{"prompt",
          {{"prompt_string", "<|im_start|>user\n" + places + "Describe it.<|im_end|>\n<|im_start|>assistant\n"},
           {"multimodal_data", data}}},
         {"n_predict", 24}});
  };
  const Reply picture = seen({bare}, "<__media__>");
  ASSERT_EQ(picture.status, 200) << picture.body;
  EXPECT_THAT(picture.json()["content"].get<std::string>(), HasSubstr("ring"));
  EXPECT_EQ(seen({url}, "<__media__>").json()["content"], picture.json()["content"]);
  EXPECT_EQ(seen({bare, bare}, "<__media__> and <__media__>").status, 200);
  for (const auto& [data, places] : std::vector<std::pair<Json, std::string>>{{{bare}, ""},
                                                                              {Json::array(), "<__media__>"},
                                                                              {{bare}, "<__media__><__media__>"},
                                                                              {{"malformed"}, "<__media__>"},
                                                                              {"", "<__media__>"},
                                                                              {{7}, "<__media__>"}}) {
    EXPECT_EQ(seen(data, places).status, 400) << data.dump().substr(0, 30) << places;
  }
}

TEST_F(ServeLlama, BiasesOfTexts) {
  const std::string text = ask("/completion", {{"prompt", kPrompt}, {"n_predict", 8}})["content"];
  const std::string word = text.substr(text.find(' '), text.find(' ', text.find(' ') + 1) - text.find(' '));
  for (const Json& bias :
       {Json::array({Json::array({word, -100})}), Json::array({Json::array({word, false})}), Json({{word, -100}})}) {
    const std::string other =
        ask("/completion", {{"prompt", kPrompt}, {"n_predict", 8}, {"logit_bias", bias}})["content"];
    EXPECT_EQ(other.find(word + " "), std::string::npos) << other;
  }
}

TEST_F(ServeLlama, LooksAtPromptsWithoutAnswering) {
  const Json body = {
      {"messages", {{{"role", "system"}, {"content", "Be brief."}}, {{"role", "user"}, {"content", "Hi"}}}}};
  const std::string prompt = ask("/apply-template", body)["prompt"];
  EXPECT_THAT(prompt, HasSubstr("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>"));
  Json asked = body;
  asked["max_tokens"] = 1;
  EXPECT_EQ(ask("/chat/completions/input_tokens", body)["input_tokens"],
            ask("/v1/chat/completions", asked)["usage"]["prompt_tokens"]);
  const Json picture = {{"messages", {picture_question(sample_url(), "What is this?")}}, {"max_tokens", 1}};
  EXPECT_EQ(ask("/v1/chat/completions/input_tokens", picture)["input_tokens"],
            ask("/v1/chat/completions", picture)["usage"]["prompt_tokens"]);
}

TEST_F(ServeLlama, TellsAboutItself) {
  const Json props = server_->get("/props").json();
  EXPECT_EQ(props["total_slots"], 2);
  EXPECT_EQ(props["default_generation_settings"]["n_ctx"], 512);
  EXPECT_THAT(props["model_path"].get<std::string>(), HasSubstr(".gguf"));
  EXPECT_EQ(props["modalities"]["vision"], true);
  const Json model = server_->get("/models").json()["models"][0];
  EXPECT_THAT(model["capabilities"].get<std::vector<std::string>>(),
              testing::IsSupersetOf({"completion", "multimodal"}));
  EXPECT_EQ(server_->get("/slots").status, 501);
  EXPECT_EQ(server_->post("/infill", "{}"s).status, 501);
  EXPECT_EQ(server_->post("/rerank", "{}"s).status, 501);
  EXPECT_EQ(server_->get("/lora-adapters").json(), Json::array());
  const Json error = server_->get("/slots").json()["error"];
  EXPECT_EQ(error["type"], "not_supported_error");
}

TEST_F(ServeLlama, PromptsThatAreTooLongSayHowLong) {
  Json body = {{"messages", {{{"role", "user"}, {"content", std::string(6000, 'x')}}}}};
  for (const bool streamed : {false, true}) {
    body["stream"] = streamed;
    const Reply reply = server_->post("/v1/chat/completions", body);
    EXPECT_EQ(reply.status, 400);
    const Json error = reply.json()["error"];
    EXPECT_EQ(error["type"], "exceed_context_size_error");
    EXPECT_EQ(error["code"], "context_length_exceeded");
    EXPECT_GT(error["n_prompt_tokens"], 512);
    EXPECT_EQ(error["n_ctx"], 512);
  }
}

TEST_F(ServeLlama, EmbeddingsOfItsOwnShape) {
  const Json vectors = ask("/v1/embeddings", {{"input", {"a", "b c"}}})["data"];
  for (const char* const path : {"/embedding", "/embeddings"}) {
    const Json own = ask(path, {{"content", {"a", "b c"}}});
    ASSERT_EQ(own.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(own[i]["index"], i);
      EXPECT_EQ(own[i]["embedding"], Json::array({vectors[i]["embedding"]}));
    }
  }
}

TEST_F(ServeLlama, AnswerFormatsGoodAndBad) {
  const auto ask_for = [](const Json& format) {
    Json body = {{"messages", {{{"role", "user"}, {"content", "Write an example"}}}}, {"max_tokens", 16}};
    body.update(format);
    return server_->post("/chat/completions", body);
  };
  const std::pair<Json, std::string> good[] = {
      {{{"response_format", {{"type", "json_object"}, {"schema", {{"const", "42"}}}}}}, "\"42\""},
      {{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"schema", {{"const", "foo"}}}}}}}}, "\"foo\""},
      {{{"json_schema", {{"const", "42"}}}}, "\"42\""},
      {{{"grammar", "root ::= \"a\"{5,5}"}}, "aaaaa"}};
  for (const auto& [format, text] : good) {
    const Reply reply = ask_for(format);
    ASSERT_EQ(reply.status, 200) << format << reply.body;
    EXPECT_EQ(reply.json()["choices"][0]["message"]["content"], text);
  }
  for (const Json& format : {Json{{"response_format", {{"type", "sound"}}}},
                             Json{{"response_format", {{"type", "json_object"}, {"schema", 123}}}},
                             Json{{"response_format", {{"type", "json_object"}, {"schema", {{"type", 123}}}}}},
                             Json{{"response_format", {{"type", "json_object"}, {"schema", {{"type", "hiccup"}}}}}},
                             Json{{"grammar", "root ::= this is (not valid GBNF"}}}) {
    EXPECT_EQ(ask_for(format).status, 400) << format;
  }
}

}  // namespace
}  // namespace glimpse::serve_test
