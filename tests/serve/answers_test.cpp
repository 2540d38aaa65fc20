// Answers on their way from the engine to a client, and the service behind them.
#include "tools/serve/answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>

#include "tests/capi/allocation_faults.h"
#include "tests/serve/demo_requests.h"
#include "tools/serve/answer_flow.h"
#include "tools/serve/base64.h"
#include "tools/serve/chat_request.h"
#include "tools/serve/chat_response.h"
#include "tools/serve/service.h"

namespace glimpse::serve {
namespace {

EngineOptions small_engine() {
  EngineOptions options;
  options.n_threads = 1;
  options.context = 128;
  options.n_parallel = 2;
  return options;
}

// The engine's thread tells of the end even when there is no memory to tell anything with.
TEST(Answers, EndsAreToldWithoutMemory) {
  const auto model = std::shared_ptr<const Model>(std::shared_ptr<void>(), &demo());
  const auto engine = Engine::create(model, small_engine()).value();
  Request request;
  request.messages = {{"user", {{"a circle", nullptr}}}};
  request.generate.max_tokens = 4;
  for (const bool throws : {false, true}) {
    std::optional<Answers> answers;
    answers.emplace(*engine, [&](const RequestResult&) {
      if (throws) throw std::runtime_error("nobody counts");
      arm_allocation_faults(1, true);
    });
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(answers->submit(request).ok());
    int n_ends = 0;
    while (engine->step()) disarm_allocation_faults();
    disarm_allocation_faults();
    for (std::optional<AnswerEvent> event; (event = answers->next(std::chrono::milliseconds(0)));) {
      if (!event->result) continue;
      ++n_ends;
      if (event->result->status.ok()) {
        EXPECT_EQ(event->result->answer.tokens.size(), 4u);
      } else {  // the second in the pass whose first one took the memory
        EXPECT_EQ(event->result->status.error().code, ErrorCode::kOutOfMemory);
        EXPECT_EQ(event->choice, 1);
      }
    }
    EXPECT_EQ(n_ends, 2) << "somebody waits for ever";
    EXPECT_TRUE(answers->finished());
  }
}

// Nor are those forgotten whose clients left while they waited.
TEST(Answers, CancelledOnesEndWithoutMemory) {
  const auto model = std::shared_ptr<const Model>(std::shared_ptr<void>(), &demo());
  Request request;
  request.messages = {{"user", {{"a circle", nullptr}}}};
  request.generate.max_tokens = 2;
  for (long first = 1; first <= 8; ++first) {
    auto engine = Engine::create(model, small_engine()).value();
    int n_ends = 0;
    request.on_done = [&](const RequestResult&) { ++n_ends; };
    std::vector<RequestId> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(engine->submit(request).value());
    engine->step();
    for (const RequestId id : ids) engine->cancel(id);
    arm_allocation_faults(first, true);
    engine->step();
    disarm_allocation_faults();
    for (int i = 0; i < 100 && engine->step(); ++i) {
    }
    EXPECT_EQ(n_ends, 5) << first;
    EXPECT_EQ(engine->stats().n_running + engine->stats().n_waiting, 0);
    if (n_ends < 5) (void)engine.release();  // it never ends
  }
}

// Where it runs out in the midst of an answer that answer ends with an error, and others go on.
TEST(Answers, TokensWithoutMemoryAreAnError) {
  const auto model = std::shared_ptr<const Model>(std::shared_ptr<void>(), &demo());
  const auto engine = Engine::create(model, small_engine()).value();
  Answers answers(*engine, [](const RequestResult&) {});
  Request request;
  request.messages = {{"user", {{"a circle", nullptr}}}};
  request.generate.max_tokens = 8;
  ASSERT_TRUE(answers.submit(request).ok());
  int n_steps = 0, n_out_of_memory = 0;
  for (bool more = true; more; ++n_steps) {
    if (n_steps == 2) arm_allocation_faults(1, true);
    more = engine->step();
    disarm_allocation_faults();
  }
  while (!answers.finished()) {
    const std::optional<AnswerEvent> event = answers.next(std::chrono::milliseconds(0));
    ASSERT_TRUE(event.has_value()) << "it waits for ever";
    if (event->result && !event->result->status.ok()) {
      EXPECT_EQ(event->result->status.error().code, ErrorCode::kOutOfMemory);
      ++n_out_of_memory;
    }
  }
  EXPECT_EQ(n_out_of_memory, 1);
}

class Nobody : public HttpClient {
  bool has_left() const override { return false; }
};

// Nobody runs the engine: what it was asked waits.
TEST(AnswerPlan, StreamsThatWaitSaySo) {
  const auto model = std::shared_ptr<const Model>(std::shared_ptr<void>(), &demo());
  const auto engine = Engine::create(model, small_engine()).value();
  const ChatRequest chat = read(
      {{"messages", {{{"role", "user"}, {"content", "a circle"}}}}, {"max_tokens", 2}, {"sse_ping_interval", 0.01}});
  EXPECT_TRUE(chat.generation.warnings.empty());
  Metrics metrics;
  const Nobody client;
  for (const bool fails : {false, true}) {
    AnswerPlan plan;
    plan.n_requests = 1;
    plan.style = chat_style(chat, demo(), {}, "7");
    plan.head.n_choices = 1;
    plan.stream = true;
    plan.ping = chat.generation.ping;
    plan.picture_paths = {"messages[0].content[0].image_url.url"};
    plan.request = [&](size_t) {
      Request request;
      request.messages = chat.messages;
      request.generate = chat.generation.options;
      if (!fails) return request;
      auto image = std::make_shared<RequestImage>();
      image->bytes = "a cat";
      request.messages[0].parts.push_back({"", image});
      return request;
    };
    const HttpResponse response = answer_plan(*engine, metrics, std::move(plan), client);
    EXPECT_EQ(response.status, 200);
    std::string all;
    int n_waits = 0;
    response.stream([&](std::string_view piece) {
      all += piece;
      if (piece == ": waiting\n\n" && ++n_waits == 3) engine->run();
      return true;
    });
    EXPECT_GE(n_waits, 3);
    EXPECT_EQ(all.find(": waiting\n\n: waiting\n\n: waiting\n\ndata: "), 0u) << all;
    EXPECT_EQ(all.find("\"finish_reason\":\"length\"") != std::string::npos, !fails) << all;
    EXPECT_EQ(all.find("\"param\":\"messages[0].content[0].image_url.url\"") != std::string::npos, fails) << all;
    EXPECT_EQ(all.find("\"role\"") == std::string::npos, fails) << "an error is no answer";
    EXPECT_TRUE(all.ends_with("data: [DONE]\n\n")) << all;
  }
}

HttpRequest request_of(const std::string& method, const std::string& path) {
  HttpRequest request;
  request.head.method = method;
  request.head.path = path;
  request.head.fields = {{"host", "localhost"}};
  request.body = "{}";
  return request;
}

// Blocks that are left out take no room, and are not counted.
TEST(Service, CountsWhatIsShownOfAPicture) {
  ModelOptions files;
  files.model_path = GLIMPSE_SOURCE_DIR "/models/demo-Q8_0.gguf";
  files.mmproj_path = GLIMPSE_SOURCE_DIR "/models/mmproj-demo-f16.gguf";
  files.n_threads = 1;
  const auto model = Model::load(files).value();
  std::string pictures[2];  // blank, noise
  for (std::string& picture : pictures) picture = "P6\n224 224\n255\n" + std::string(3 * 224 * 224, 'w');
  uint32_t random = 1;
  for (size_t i = 15; i < pictures[1].size(); ++i) {
    pictures[1][i] = static_cast<char>((random = random * 1664525 + 1013904223) >> 24);
  }
  int64_t seen[2][2];
  for (const bool dedup : {false, true}) {
    EngineOptions options = small_engine();
    options.dedup_patches = dedup;
    options.context = 160;
    RequestPolicy policy;
    policy.pictures = options;
    Serving serving;
    serving.model = model;
    serving.engine = Engine::create(model, options).value();
    serving.context = options.context;
    ASSERT_TRUE(serving.engine->start().ok());
    Service service(policy, {});
    service.open(serving);
    for (const int i : {0, 1}) {
      const std::string url = "data:image/x-portable-pixmap;base64," + encode_base64(pictures[i]);
      HttpRequest request = request_of("POST", "/v1/chat/completions/input_tokens");
      const Json image = {{"type", "image_url"}, {"image_url", {{"url", url}}}};
      request.body = dump({{"messages", {{{"role", "user"}, {"content", {image}}}}}, {"max_tokens", 1}});
      const HttpResponse counted = service.handle(request, Nobody());
      ASSERT_EQ(counted.status, 200) << counted.body;
      request.head.path = "/v1/chat/completions";
      const HttpResponse answered = service.handle(request, Nobody());
      ASSERT_EQ(answered.status, 200) << answered.body;
      const int64_t n = Json::parse(counted.body)["input_tokens"];
      EXPECT_EQ(Json::parse(answered.body)["usage"]["prompt_tokens"], n);
      seen[dedup ? 1 : 0][i] = n;
    }
    service.close();
    serving.engine->stop(1000);
  }
  EXPECT_EQ(seen[0][0], seen[0][1]);
  EXPECT_EQ(seen[1][1], seen[0][1]);
  EXPECT_LT(seen[1][0], seen[0][0] - 50);
}

TEST(Service, TellsWhenTheModelIsNotThere) {
  Service service({}, {});
  service.show_progress("load", 0.25);
  const auto field = [](const HttpResponse& response, const std::string& name) {
    for (const auto& [key, value] : response.fields) {
      if (key == name) return value;
    }
    return std::string();
  };
  const HttpResponse health = service.handle(request_of("GET", "/health"), Nobody());
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(Json::parse(health.body), (Json{{"status", "loading"}, {"stage", "load"}, {"progress", 0.25}}));
  for (const char* const path :
       {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/tokenize", "/detokenize"}) {
    const HttpResponse response = service.handle(request_of("POST", path), Nobody());
    EXPECT_EQ(response.status, 503) << path;
    EXPECT_EQ(field(response, "Retry-After"), "1");
    EXPECT_EQ(Json::parse(response.body)["error"]["code"], "loading");
  }
  EXPECT_EQ(service.handle(request_of("GET", "/"), Nobody()).status, 200);
  service.close();
  EXPECT_EQ(Json::parse(service.handle(request_of("GET", "/health"), Nobody()).body)["status"], "stopping");
}

}  // namespace
}  // namespace glimpse::serve
