// /v1/embeddings and /v1/rerank: what the embedder says, for every shape of input; models of every kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/engine/model_editor.h"
#include "tests/serve/server_process.h"
#include "tools/serve/base64.h"
#include "tools/serve/service.h"

namespace glimpse::serve {
namespace {

using glimpse::testing::golden_path;
using glimpse::testing::ModelEditor;
using glimpse::testing::must;
using ::testing::HasSubstr;

using Vectors = std::vector<std::vector<float>>;

class Nobody : public HttpClient {
  bool has_left() const override { return false; }
};

EngineOptions small_engine() {
  EngineOptions options;
  options.n_threads = 1;
  options.context = 512;
  options.batch = 64;
  options.n_parallel = 2;
  options.image_limits = {784, 784 * 64};
  return options;
}

std::shared_ptr<const Model> load(ModelEditor& editor, const std::string& mmproj = "") {
  ModelOptions options;
  options.model_path = editor.write();
  if (!mmproj.empty()) options.mmproj_path = golden_path(mmproj);
  options.n_threads = 1;
  return must(Model::load(options));
}

/// A service with its model, as a server has it.
class Served {
 public:
  Served(std::shared_ptr<const Model> model, const VectorPolicy& policy) : service_({}, {}) {
    serving_.model = model;
    serving_.context = small_engine().context;
    if (model->text().pooling == Pooling::kNone) serving_.engine = must(Engine::create(model, small_engine()));
    if (serving_.engine != nullptr) EXPECT_OK(serving_.engine->start());
    serving_.vectors = must(VectorMaker::create(model, small_engine(), policy));
    service_.open(serving_);
  }
  ~Served() { service_.close(); }

  VectorMaker& vectors_maker() { return *serving_.vectors; }
  HttpResponse ask(const std::string& path, const Json& body) {
    HttpRequest request;
    request.head.method = "POST";
    request.head.path = path;
    request.body = body.dump();
    return service_.handle(std::move(request), Nobody());
  }
  Json get(const std::string& path, const Json& body) {
    const HttpResponse response = ask(path, body);
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body);
  }
  std::string error(const std::string& path, const Json& body, int status = 400) {
    const HttpResponse response = ask(path, body);
    EXPECT_EQ(response.status, status) << body << response.body;
    const Json json = Json::parse(response.body);
    return json.contains("error") ? json["error"]["message"].get<std::string>() : "";
  }
  Vectors vectors(const Json& input) {
    Vectors all;
    const Json answer = get("/v1/embeddings", {{"input", input}});
    for (const Json& one : answer.at("data")) {
      EXPECT_EQ(one["index"], all.size());
      EXPECT_EQ(one["object"], "embedding");
      all.push_back(one["embedding"]);
    }
    return all;
  }

 private:
  Serving serving_;
  Service service_;
};

std::unique_ptr<Embedder> embedder_of(const std::shared_ptr<const Model>& model) {
  SessionOptions options;
  static_cast<PictureOptions&>(options) = small_engine();
  options.n_threads = 2;
  options.context = 512;
  options.batch = 64;
  return must(Embedder::create(model, options));
}

TEST(Vectors, AreTheEmbeddersForEveryShapeOfInput) {
  ModelEditor editor("qwen3/model.gguf");
  editor.set("qwen3.pooling_type", static_cast<uint64_t>(Pooling::kLast));
  const auto model = load(editor);
  const std::vector<EmbedInput> inputs = {{{"the cat", nullptr}}, {{"what is 7?", nullptr}}};
  const auto embedder = embedder_of(model);
  const auto want = must(embedder->embed(inputs, {}, {}));
  const int64_t n_tokens = embedder->n_tokens();
  Served served(model, {});
  EXPECT_EQ(served.vectors({"the cat", "what is 7?"}), want);
  EXPECT_EQ(served.vectors("the cat"), Vectors{want[0]});
  const Json ids = must(model->tokenizer().encode("the cat", {.parse_markup = false}));
  EXPECT_EQ(served.vectors(ids), Vectors{want[0]});
  EXPECT_EQ(served.vectors({ids, "what is 7?"}), want);
  const Json parts = {{"content", {{{"type", "text"}, {"text", "the "}}, {{"type", "text"}, {"text", "cat"}}}}};
  EXPECT_EQ(served.vectors(parts), Vectors{want[0]});
  EXPECT_EQ(served.vectors({parts, {{"prompt_string", "what is 7?"}}}), want);

  Json body = {{"input", {"the cat", "what is 7?"}}, {"encoding_format", "base64"}, {"dimensions", 48}, {"colour", 1}};
  const Json response = served.get("/v1/embeddings", body);
  EXPECT_EQ(response["usage"], (Json{{"prompt_tokens", n_tokens}, {"total_tokens", n_tokens}}));
  EXPECT_EQ(response["warnings"], Json::array({"unknown field, ignored: colour"}));
  for (size_t i = 0; i < 2; ++i) {
    size_t bad = 0;
    const std::string bytes = *decode_base64(response["data"][i]["embedding"].get<std::string>(), &bad);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    EXPECT_EQ(values, want[i]);
  }
  body["embd_normalize"] = -1;
  body["instruction"] = "Find it.";
  body.erase("encoding_format");
  EmbedOptions other{"Find it.", false, Pooling::kLast};
  EXPECT_EQ(served.get("/v1/embeddings", body)["data"][1]["embedding"].get<std::vector<float>>(),
            must(embedder->embed(inputs, other, {}))[1]);
}

TEST(Vectors, WhatCannotBeIsRefusedByName) {
  ModelEditor editor("qwen3/model.gguf");
  editor.set("qwen3.pooling_type", static_cast<uint64_t>(Pooling::kMean));
  Served served(load(editor), {});
  const auto error = [&](const Json& body) { return served.error("/v1/embeddings", body); };
  EXPECT_THAT(error(Json::object()), HasSubstr("input: is missing"));
  EXPECT_THAT(error({{"input", Json::array()}}), HasSubstr("input: want 1 to"));
  EXPECT_THAT(error({{"input", 7}}), HasSubstr("input: want a string"));
  EXPECT_THAT(error({{"input", {"a", 7}}}), HasSubstr("input[1]: want a string"));
  EXPECT_THAT(error({{"input", {{"content", "text"}}}}), HasSubstr("input.content: want an array"));
  EXPECT_THAT(error({{"input", {{"content", {{{"type", "sound"}}}}}}}), HasSubstr("input.content[0].type"));
  EXPECT_THAT(error({{"input", {1, 1 << 20}}}), HasSubstr("input[1]: want a token id"));
  EXPECT_THAT(error({{"input", "a"}, {"dimensions", 24}}), HasSubstr("dimensions: only 48"));
  EXPECT_THAT(error({{"input", "a"}, {"encoding_format", "int8"}}), HasSubstr("encoding_format: \"int8\""));
  EXPECT_THAT(error({{"input", "a"}, {"embd_normalize", 1}}), HasSubstr("embd_normalize"));
  EXPECT_THAT(error({{"input", {"a", std::string(4000, 'x')}}}), HasSubstr("the context holds 512"));
  const Json picture = {{"type", "image_url"}, {"image_url", serve_test::sample_url()}};
  EXPECT_THAT(error({{"input", {{"content", {picture}}}}}), HasSubstr("input.content[0].image_url"));
  // A model of vectors answers nothing, and ranks nothing.
  const Json question = {{"messages", {{{"role", "user"}, {"content", "Hello"}}}}};
  EXPECT_THAT(served.error("/v1/chat/completions", question, 501), HasSubstr("vectors"));
  EXPECT_THAT(served.error("/v1/completions", {{"prompt", "a"}}, 501), HasSubstr("vectors"));
  EXPECT_THAT(served.error("/v1/rerank", {{"query", "a"}, {"documents", {"b"}}}, 501), HasSubstr("--reranking"));
  EXPECT_EQ(served.get("/tokenize", {{"content", "the cat"}})["count"],
            served.get("/tokenize", {{"content", "the cat"}})["tokens"].size());
}

TEST(Vectors, EndWithTheServer) {
  ModelEditor editor("qwen3/model.gguf");
  editor.set("qwen3.pooling_type", static_cast<uint64_t>(Pooling::kMean));
  Served served(load(editor), {});
  served.vectors_maker().stop(3600000);
  EXPECT_EQ(served.vectors("the cat").size(), 1u);
  served.vectors_maker().stop(0);
  Json inputs = Json::array();
  for (int i = 0; i < 200; ++i) inputs.push_back(std::string(400, 'x'));
  EXPECT_THAT(served.error("/v1/embeddings", {{"input", inputs}}, 503), HasSubstr("the server is being stopped"));
}

TEST(Vectors, ChatModelsMakeThemWhenTheyAreTold) {
  ModelEditor editor("qwen3/model.gguf");
  const auto model = load(editor);
  Served plain(model, {});
  EXPECT_THAT(plain.error("/v1/embeddings", {{"input", "a"}}, 501), HasSubstr("--embeddings"));
  VectorPolicy policy;
  policy.embeddings = true;
  const EmbedInput input = {{"the cat", nullptr}};
  const auto embedder = embedder_of(model);
  Served mean(model, policy);
  EmbedOptions options;
  options.pooling = Pooling::kMean;
  EXPECT_EQ(mean.vectors("the cat"), must(embedder->embed(std::span(&input, 1), options, {})));
  policy.pooling = options.pooling.emplace(Pooling::kLast);
  EXPECT_EQ(Served(model, policy).vectors("the cat"), must(embedder->embed(std::span(&input, 1), options, {})));
}

TEST(Vectors, PicturesAreSeen) {
  // A chat model's go through its engine, those of a model of vectors do not: the same vectors.
  const std::string text = "qwen3vl/model.gguf", mmproj = "qwen3vl/mmproj.gguf";
  ModelEditor chat(text), vectors(text);
  vectors.set("qwen3vl.pooling_type", static_cast<uint64_t>(Pooling::kMean));
  VectorPolicy policy;
  policy.embeddings = true;
  Served speaks(load(chat, mmproj), policy), embeds(load(vectors, mmproj), {});
  const Json picture = {{"type", "image_url"}, {"image_url", {{"url", serve_test::sample_url()}}}};
  const Json words = {{"type", "text"}, {"text", "the cat"}};
  const Json inputs = {{{"content", {picture}}}, {{"content", {picture, words}}}, "the cat"};
  const auto all = embeds.vectors(inputs);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_NE(all[0], all[1]);
  EXPECT_NE(all[1], all[2]);
  EXPECT_EQ(speaks.vectors(inputs), all);
  Json bad = inputs;
  bad[1]["content"][0]["image_url"]["url"] = "data:image/png;base64,AAAA";
  EXPECT_THAT(embeds.error("/v1/embeddings", {{"input", bad}}),
              HasSubstr("input[1].content[0].image_url.url: bad picture"));
}

TEST(Vectors, DocumentsAreRanked) {
  const size_t yes = 310, no = 311;
  ModelEditor editor("qwen3/model.gguf");
  editor.name_token(yes, "yes").name_token(no, "no").set_token_type(yes, 1).set_token_type(no, 1);
  const auto model = load(editor);
  const std::vector<std::string> documents = {"the cat", "what is 7?", "an image of it"};
  std::vector<EmbedInput> inputs;
  for (const std::string& document : documents) inputs.push_back({{document, nullptr}});
  const auto embedder = embedder_of(model);
  const std::vector<float> scores = must(embedder->rank({{"cat", nullptr}}, inputs, {}, {}));
  const int64_t n_tokens = embedder->n_tokens();
  VectorPolicy policy;
  policy.reranking = true;
  Served served(model, policy);
  Json body = {{"query", "cat"}, {"documents", documents}};
  const Json response = served.get("/v1/rerank", body);
  EXPECT_EQ(response["usage"]["prompt_tokens"], n_tokens);
  ASSERT_EQ(response["results"].size(), 3u);
  float last = 2;
  for (const Json& result : response["results"]) {
    EXPECT_EQ(result["relevance_score"].get<float>(), scores[result["index"]]);
    EXPECT_LE(result["relevance_score"].get<float>(), last);
    last = result["relevance_score"];
  }
  const Json of_tei =
      served.get("/rerank", {{"query", "cat"}, {"texts", documents}, {"top_n", 2}, {"return_text", true}});
  ASSERT_EQ(of_tei.size(), 2u);
  EXPECT_EQ(of_tei[0]["score"], response["results"][0]["relevance_score"]);
  EXPECT_EQ(of_tei[0]["text"], documents[of_tei[0]["index"]]);
  body["documents"] = {
      {{"text", "the cat"}}, {{"content", {{{"type", "text"}, {"text", "what is 7?"}}}}}, "an image of it"};
  EXPECT_EQ(served.get("/reranking", body)["results"], response["results"]);
  for (const Json& bad : {Json::array(), Json(nullptr), Json(123), Json({1, 2, 3})}) {
    body["documents"] = bad;
    EXPECT_THAT(served.error("/v1/rerank", body), HasSubstr("documents")) << bad;
  }
}

}  // namespace
}  // namespace glimpse::serve
