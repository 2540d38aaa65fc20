// The same server: what is malformed, too much, too slow or not allowed, and how it ends.
#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "tests/serve/protocol.h"
#include "tools/serve/base64.h"

namespace glimpse::serve_test {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using namespace std::string_literals;

TEST_F(ServeProtocol, RefusesWhatIsNoJson) {
  const std::string whole = picture(sample_url()).dump();
  // Cut anywhere: before, between and in the middle of everything there is.
  for (size_t n = 0; n < 60; ++n) EXPECT_EQ(server_->post(kChat, whole.substr(0, n)).status, 400) << n;
  for (const size_t n : {whole.size() / 2, whole.size() - 3, whole.size() - 1})
    EXPECT_EQ(server_->post(kChat, whole.substr(0, n)).status, 400);
  EXPECT_THAT(server_->post(kChat, "{\"messages\": nonsense}"s).error(), HasSubstr("no JSON (at byte 15)"));
  EXPECT_EQ(server_->post(kChat, "[1]"s).error(), "the body is an array: want an object");
  EXPECT_THAT(server_->post(kChat, std::string(100000, '[')).error(), HasSubstr("more than 64 deep"));
  std::string deep = "{\"messages\": ";
  for (int i = 0; i < 5000; ++i) deep += "{\"a\":";
  EXPECT_THAT(server_->post(kChat, deep).error(), HasSubstr("more than 64 deep"));
  std::string wide = "{\"messages\": [";
  for (int i = 0; i < 2000000; ++i) wide += "0,";
  EXPECT_THAT(server_->post(kChat, wide).error(), HasSubstr("values"));
  EXPECT_EQ(server_->post(kChat, "{\"messages\": \"\xff\xfe\"}"s).status, 400);
  EXPECT_EQ(server_->post(kChat, "{\"a\": \"\\ud800\"}"s).status, 400);
  EXPECT_EQ(server_->post(kChat, "{\"n\": 1e999}"s).status, 400);
  Json parts = question("x");
  parts["messages"][0]["content"] = Json::array();
  for (int i = 0; i < 10000; ++i) parts["messages"][0]["content"].push_back({{"type", "text"}, {"text", "x"}});
  EXPECT_THAT(server_->post(kChat, parts).error(), HasSubstr("at most 4096 parts"));
  expect_ok();
}

TEST_F(ServeProtocol, RefusesWhatIsTooLong) {
  std::string text;
  for (int i = 0; i < 9000; ++i) text += "circle ";
  const Reply reply = server_->post(kChat, question(text));
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.json()["error"]["code"], "context_length_exceeded");
  const Json count = server_->post("/tokenize", Json{{"content", text}}).json();
  EXPECT_THAT(reply.error(), testing::ContainsRegex("[0-9]{4,}.*4096")) << count["count"];
  // 100 MB: refused by its head, whether the client waits for leave or sends at once.
  Socket socket(server_->port());
  socket.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: "
      "104857600\r\n\r\n");
  EXPECT_EQ(parse_reply(socket.receive_all()).status, 413);
  Socket hasty(server_->port());
  hasty.send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n");
  const std::string megabyte(1 << 20, 'x');
  for (int i = 0; i < 100 && hasty.send(megabyte); ++i) {
  }
  EXPECT_EQ(parse_reply(hasty.receive_all()).status, 413);
  EXPECT_THAT(server_->raw(request_text("POST", kChat, "{}", {"Expect: 100-continue"})).error(), HasSubstr("messages"));
  expect_ok();
}

TEST_F(ServeProtocol, RefusesHeadsThatCanBeReadInTwoWays) {
  const std::string post = "POST /v1/chat/completions HTTP/1.1\r\n";
  const std::pair<std::string, int> heads[] = {
      {post + "Host: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411},
      {post + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", 400},
      {post + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n", 400},
      {post + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", 400},
      {post + "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n{}", 413},
      {"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400},
      {post + "Host: localhost\r\nContent-Length : 2\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nContent-Length: +2\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nContent-Length: 2,2\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", 400},
      {post + "Host: localhost\nContent-Length: 2\n\n{}", 400},
      {post + "Host: localhost\r\nX: a\rb\r\n\r\n", 400},
      {post + "Host: localhost\r\nX: a\x01\r\n\r\n", 400},
      {post + "Content-Length: 2\r\n\r\n{}", 400},
      {post + "Host: localhost\r\nHost: y\r\n\r\n", 400},
      {post + "Host: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415},
      {"POST  /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET http://x/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", 505},
      {"G\xc3\x84T /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"BREW /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
      {format("GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", std::string(3000, 'a')), 414},
      {format("GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", std::string(20000, 'a')), 431},
      {"\x16\x03\x01\x02\x01\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
      {"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403}};
  for (const auto& [head, status] : heads) {
    const Reply reply = server_->raw(head);
    EXPECT_EQ(reply.status, status) << head.substr(0, 200);
    EXPECT_NE(reply.error(), "") << head.substr(0, 200);
  }
  // What follows a request is no second one.
  Socket socket(server_->port());
  socket.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const std::string all = socket.receive_all();
  EXPECT_EQ(all.find("HTTP/1.1", 8), std::string::npos) << all;
}

// A browser that was sent to https:// says no more than this.
TEST_F(ServeProtocol, TellsWhoSpeaksTlsAtOnce) {
  Socket socket(server_->port());
  socket.send("\x16\x03\x01\x02"s);
  EXPECT_THAT(parse_reply(socket.receive_all()).error(), HasSubstr("speaks HTTP"));
}

// What a proxy may send, and who types a name in capitals.
TEST_F(ServeProtocol, TakesWhatIsUnusualAndLegal) {
  for (const std::string& head : {"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n"s,
                                  "GET HTTP://LocalHost:80/health?a=http://x HTTP/1.1\r\nHost: localhost:80\r\n\r\n"s,
                                  "\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"s,
                                  "GET /health HTTP/1.1\r\nHost: LOCALHOST:8080\r\n\r\n"s}) {
    EXPECT_EQ(server_->raw(head).status, 200) << head;
  }
  EXPECT_EQ(server_->raw("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 204);
  EXPECT_EQ(server_->raw("GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n").fields.at("content-type"),
            "text/html; charset=utf-8");
  EXPECT_EQ(server_->raw("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 400);
  EXPECT_EQ(server_->raw("GET http:///health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 400);
  EXPECT_EQ(server_->raw("GET http://evil.example/health HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403);
}

TEST_F(ServeProtocol, SaysWhatIsNotThere) {
  EXPECT_EQ(server_->get("/v1/nothing").status, 404);
  EXPECT_EQ(server_->post("/v1/embeddings", "{}"s).status, 501);
  EXPECT_EQ(server_->post("/v1/nothing", "{}"s).json()["error"]["type"], "not_found_error");
  const Reply reply = server_->get(kChat);
  EXPECT_EQ(reply.status, 405);
  EXPECT_EQ(reply.fields.at("allow"), "POST");
  EXPECT_EQ(server_->raw(request_text("HEAD", "/health", "")).status, 200);
  EXPECT_EQ(server_->raw(request_text("HEAD", "/health", "")).body, "");
  EXPECT_EQ(server_->get("/health", {"Origin: http://localhost"}).status, 200);
}

TEST_F(ServeProtocol, CutsOffClientsThatKeepItWaiting) {
  Socket silent(server_->port()), half(server_->port()), body(server_->port()), burst(server_->port());
  half.send("POST /v1/chat/completions HTT");
  body.send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"mess");
  // Having sent much at once is no leave to be silent for as long as it might have taken.
  burst.send(format("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n%s",
                    std::string(1 << 20, ' ')));
  expect_ok();
  EXPECT_EQ(silent.receive_all(), "");
  EXPECT_EQ(parse_reply(half.receive_all()).status, 408);
  EXPECT_EQ(parse_reply(body.receive_all()).status, 408);
  EXPECT_EQ(parse_reply(burst.receive_all()).status, 408);
}

TEST_F(ServeProtocol, CancelsForClientsThatLeave) {
  const double before = server_->metric("glimpse:requests_cancelled_total");
  Json body = question("Count.");
  body.update({{"max_tokens", 4000}, {"logit_bias", Json::object()}, {"temperature", 50}, {"stream", true}});
  const int end = server_->post("/tokenize", {{"content", "<|im_end|>"}, {"parse_special", true}}).json()["tokens"][0];
  const int end_of_text =
      server_->post("/tokenize", {{"content", "<|endoftext|>"}, {"parse_special", true}}).json()["tokens"][0];
  body["logit_bias"] = Json::array({Json::array({end, false}), Json::array({end_of_text, false})});
  for (const bool stream : {true, false}) {
    body["stream"] = stream;
    Socket socket(server_->port());
    socket.send(request_text("POST", kChat, body.dump()));
    if (stream) {
      EXPECT_THAT(socket.receive(), HasSubstr("200 OK"));
    }
    while (server_->metric("vllm:num_requests_running") < 1) std::this_thread::yield();
    socket.close();
  }
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(20);
  while (server_->metric("glimpse:requests_cancelled_total") < before + 2 && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(server_->metric("glimpse:requests_cancelled_total"), before + 2);
  EXPECT_EQ(server_->metric("vllm:num_requests_running"), 0);
  expect_ok();
}

// Some close their side when they have asked, and read on.
TEST_F(ServeProtocol, TellsClientsThatHangUpHalf) {
  Json body = question("Count.");
  body.update({{"max_tokens", 4000}, {"temperature", 50}, {"ignore_eos", true}});
  for (const bool stream : {false, true}) {
    body["stream"] = stream;
    Socket socket(server_->port());
    socket.send(request_text("POST", kChat, body.dump()));
    if (stream) {
      EXPECT_THAT(socket.receive(64), HasSubstr("200 OK"));
    }
    socket.send_no_more();
    const std::string all = socket.receive_all();
    EXPECT_EQ(all.find("HTTP/1.1 400") == 0, !stream) << all.substr(0, 100);
    EXPECT_THAT(all, HasSubstr("\"code\":\"client_left\""));
  }
}

TEST_F(ServeProtocol, CutsOffSlowReaders) {
  const double slow = server_->metric("glimpse:slow_readers_total");
  Json body = question("Count.");
  body.update({{"max_tokens", 2000},
               {"n", 4},
               {"temperature", 30},
               {"stream", true},
               {"logprobs", true},
               {"top_logprobs", 20}});
  Socket socket(server_->port(), 30, 2048);
  socket.send(request_text("POST", kChat, body.dump()));
  EXPECT_THAT(socket.receive(64), HasSubstr("200 OK"));
  // A large response in one piece is no leave to take as long as it might have taken, either.
  Socket large(server_->port(), 30, 2048);
  large.send(
      request_text("POST", "/tokenize", Json{{"content", std::string(100000, '<')}, {"with_pieces", true}}.dump()));
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(20);
  while (server_->metric("glimpse:slow_readers_total") < slow + 2 && Clock::now() < deadline) {
    expect_ok();  // others are served meanwhile
  }
  EXPECT_EQ(server_->metric("glimpse:slow_readers_total"), slow + 2);
}

// What is refused costs little more than its bytes, and what is taken apart forty times as much at most.
TEST_F(ServeProtocol, ShortBodiesDoNotMakeLongTexts) {
  const auto expect_at_most = [](long most_mib, const char* path, const Json& body, int status, const char* message) {
    const std::string text = body.dump();
    const std::optional<long> kib = server_->peak_growth_kib([&] {
      const Reply reply = server_->post(path, text);
      EXPECT_EQ(reply.status, status) << path << reply.body.substr(0, 300);
      EXPECT_THAT(reply.error(), HasSubstr(message)) << path;
    });
    if (kib && !GLIMPSE_SANITIZED) {
      EXPECT_LT(*kib, most_mib << 10) << path << " " << text.substr(0, 40);
    }
  };
  // Values are in memory once, which is forty times their bytes.
  Json values = question("x");
  Json& parameters = values["tools"][0]["function"]["parameters"];
  values["tools"][0]["type"] = "function";
  values["tools"][0]["function"]["name"] = "f";
  for (int i = 0; i < 500000; ++i) parameters["x"].push_back(Json::object());
  expect_at_most(75, kChat, values, 400, "tools: have more than 131072 bytes");
  const Json schema = parameters;
  values = question("x");
  values["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "f"}, {"schema", schema}}}};
  expect_at_most(75, kChat, values, 400, "the JSON schema has ");
  const std::string run(3 << 20, 'a');
  expect_at_most(40, "/tokenize", {{"content", run}}, 413, "content: a text of 3145728 bytes; at most 1048576");
  expect_at_most(40, "/apply-template", question(run), 413, "messages: a text of 3145728 bytes");
  expect_at_most(40, "/v1/chat/completions/input_tokens", question(run), 413, "messages: a text of 3145728 bytes");
  // A long word, 200000 times.
  const Json token = server_->post("/tokenize", Json{{"content", " background"}}).json()["tokens"][0];
  Json list = Json::array();
  for (int i = 0; i < 200000; ++i) list.push_back(token);
  expect_at_most(40, "/detokenize", {{"tokens", list}}, 413, "tokens: a text of");
  expect_at_most(40, "/v1/completions", {{"prompt", list}}, 400, "at least 200000 tokens; the context holds");
  expect_at_most(40, "/completion", {{"prompt", {"a", list}}}, 400, "at least 200000 tokens; the context holds");
  expect_at_most(40, "/completion", {{"prompt", Json::array({1, run})}}, 400, "the context holds");
  // Of many choices none is copied before the first is taken.
  Json many = question(run);
  many["n"] = 16;
  expect_at_most(50, kChat, many, 400, "the context holds");
  expect_at_most(40, "/v1/completions", {{"prompt", run}, {"n", 16}}, 400, "the context holds");
  Json bias = question("x");
  bias["logit_bias"] = {{run, 1}};
  expect_at_most(40, kChat, bias, 400, "a text of 3145728 bytes; at most 1024");
  Json frames = question("x");
  frames["messages"][0]["content"] = Json::array(
      {{{"type", "video_url"}, {"video_url", {{"url", "data:video/jpeg;base64" + std::string(3 << 20, ',')}}}}});
  expect_at_most(40, kChat, frames, 400, "3145728 frames; at most 64");
  // Frames are looked at before they are read.
  const std::string bomb = "iVBORw0KGgoAAAANSUhEUgAALuAAAC7gAQAAAAB5PrFc" +  // a PNG of 12000 x 12000 pixels
                           serve::encode_base64("\0\0\x46\x50IDAT"s + std::string(0x4650, 'x') + "\0\0\0\0"s);
  const std::string sample = sample_url().substr(sample_url().find(',') + 1);
  Json& url = frames["messages"][0]["content"][0]["video_url"]["url"];
  url = format("data:video/jpeg;base64,%s,%s", bomb, bomb);
  expect_at_most(40, kChat, frames, 400, "the frames of the video that would be seen have 864000000 bytes");
  url = format("data:video/jpeg;base64,%s,%s", sample, bomb);
  expect_at_most(40, kChat, frames, 400, "frame 2 has another size than the first");
  expect_ok();
}

// A server of its own: keys, few of everything, its end.
TEST_F(ServeProtocol, AsksForKeysAndAllowsSites) {
  const std::string keys = (media_ / "keys").string();
  std::ofstream(keys) << "# ours\nsecret-one\n\nsecret-two  \n";
  const serve_test::Server server(
      {"--api-key-file", keys, "--cors-origin", "https://example.org", "--allowed-host", "glimpse.lan"});
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/").status, 200);
  const Reply reply = server.get("/v1/models");
  EXPECT_EQ(reply.status, 401);
  EXPECT_EQ(reply.json()["error"]["type"], "authentication_error");
  EXPECT_EQ(reply.fields.at("www-authenticate"), "Bearer");
  for (const char* const field :
       {"Authorization: Bearer secret", "Authorization: Bearer secret-one-more", "Authorization: secret-one",
        "Authorization: Bearer ", "Authorization: Bearer # ours"}) {
    EXPECT_EQ(server.get("/v1/models", {field}).status, 401) << field;
  }
  for (const char* const field : {"Authorization: Bearer secret-one", "Authorization: Bearer secret-two",
                                  "Authorization: bearer secret-one", "X-Api-Key: secret-two"}) {
    EXPECT_EQ(server.get("/v1/models", {field}).status, 200) << field;
  }
  const std::string origin = "Origin: https://example.org";
  const Reply allowed = server.raw(request_text("OPTIONS", kChat, "", {origin, "Access-Control-Request-Method: POST"}));
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.fields.at("access-control-allow-origin"), "https://example.org");
  EXPECT_THAT(allowed.fields.at("access-control-allow-headers"), HasSubstr("Authorization"));
  // OpenAI's own client sends a dozen header lines of its own from a page.
  const std::string names = "authorization,content-type,x-stainless-arch,x-stainless-os";
  const Reply asked =
      server.raw(request_text("OPTIONS", kChat, "", {origin, "Access-Control-Request-Headers: " + names}));
  EXPECT_EQ(asked.fields.at("access-control-allow-headers"), names);
  EXPECT_THAT(server.raw(request_text("OPTIONS", kChat, "", {origin, "Access-Control-Request-Headers: a;b<c>"}))
                  .fields.at("access-control-allow-headers"),
              HasSubstr("Authorization"));
  EXPECT_EQ(server.get("/v1/models", {origin}).fields.at("access-control-allow-origin"), "https://example.org");
  EXPECT_EQ(server.get("/v1/models", {"Origin: https://example.org.evil"}).status, 403);
  EXPECT_EQ(server.raw("GET /health HTTP/1.1\r\nHost: glimpse.lan:80\r\n\r\n").status, 200);
}

// Its last answer is one of about a second, whatever machine and build this is.
TEST_F(ServeProtocol, TurnsAwayWhatIsTooMuchAndFinishesWhatRuns) {
  serve_test::Server server({"--max-connections", "3", "--parallel", "1", "--queue", "1", "--grace", "20"});
  Json body = question("Count.");
  body.update({{"max_tokens", 3000}, {"temperature", 50}, {"stream", true}});
  const int end = server.post("/tokenize", {{"content", "<|im_end|>"}, {"parse_special", true}}).json()["tokens"][0];
  const int end_of_text =
      server.post("/tokenize", {{"content", "<|endoftext|>"}, {"parse_special", true}}).json()["tokens"][0];
  body["logit_bias"] = Json::array({Json::array({end, false}), Json::array({end_of_text, false})});
  const std::string request = request_text("POST", kChat, body.dump());
  Socket first(server.port()), second(server.port());
  const Clock::time_point begin = Clock::now();
  first.send(request);
  EXPECT_THAT(first.receive(64), HasSubstr("200 OK"));
  Json patient = body;
  patient["sse_ping_interval"] = 0.05;
  second.send(request_text("POST", kChat, patient.dump()));  // it waits in the queue, and is told so
  std::string told;
  for (std::string piece = second.receive(); told.find(": waiting") == std::string::npos; piece = second.receive()) {
    ASSERT_NE(piece, "") << told;
    told += piece;
  }
  EXPECT_EQ(told.find("HTTP/1.1 200 OK"), 0u) << told;
  EXPECT_EQ(told.find("data: "), std::string::npos) << told;
  EXPECT_EQ(server.metric("vllm:num_requests_waiting"), 1);
  const Reply third = server.post(kChat, body);
  EXPECT_EQ(third.status, 429) << third.body;
  EXPECT_EQ(third.fields.at("retry-after"), "1");
  const double a_second =
      server.metric("vllm:generation_tokens_total") / std::chrono::duration<double>(Clock::now() - begin).count();
  Socket fourth(server.port()), fifth(server.port());  // fourth: the third connection, which says nothing
  fifth.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const Reply reply = parse_reply(fifth.receive_all());
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.fields.at("retry-after"), "1");
  second.close();
  first.close();
  fourth.close();
  const auto is_idle = [&] {
    const Reply metrics = server.get("/metrics");
    return metrics.status == 200 &&
           metrics.body.find("num_requests_running{model_name=\"demo-Q8_0\"} 0\n") != std::string::npos;
  };
  while (!is_idle()) std::this_thread::yield();
  body["max_tokens"] = static_cast<int>(std::clamp(a_second, 20., 3000.));
  Socket last(server.port());
  last.send(request_text("POST", kChat, body.dump()));
  EXPECT_THAT(last.receive(64), HasSubstr("200 OK"));
  server.signal(SIGTERM);
  const std::string rest = last.receive_all();
  EXPECT_THAT(rest, HasSubstr("\"finish_reason\":\"length\""));
  EXPECT_THAT(rest, HasSubstr("data: [DONE]"));
  EXPECT_EQ(server.wait(), 0);
}

}  // namespace
}  // namespace glimpse::serve_test
