// Mixed load: clients that ask, stream, leave, read slowly, and send what nobody can answer, at once. Every answer is
// compared with the one that the same request got alone. GLIMPSE_SOAK_SECONDS: how long, 60 by default.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/serve/server_process.h"

namespace glimpse::serve_test {
namespace {

using Clock = std::chrono::steady_clock;
const char* const kChat = "/v1/chat/completions";
constexpr int kClients = 8;

double soak_seconds() {
  const char* const given = std::getenv("GLIMPSE_SOAK_SECONDS");
  return given == nullptr ? 60 : std::atof(given);
}

/// The requests, and what each is answered alone.
struct Questions {
  std::vector<Json> bodies;
  std::vector<Json> choices;  // without the ids that differ

  explicit Questions(const Server& server) {
    const char* const texts[] = {"Describe this picture.", "Is there a circle?", "How many shapes are there?",
                                 "Where is the heart?"};
    const std::string folder = GLIMPSE_SOURCE_DIR "/models/heldout/";
    std::vector<std::string> urls = {sample_url()};
    for (const char* const name : {"chart001.png", "chart002.png", "chart003.png"})
      urls.push_back(data_url(folder + name));
    for (size_t i = 0; i < 20; ++i) {
      Json body = {{"messages", Json::array()}, {"max_tokens", 24 + 4 * i}};
      if (i % 5 == 4) {
        body["messages"].push_back({{"role", "user"}, {"content", std::string(i * 20, 'a') + texts[i % 4]}});
      } else {
        body["messages"].push_back(picture_question(urls[i % urls.size()], texts[i % 4]));
      }
      if (i % 3 == 0) body.update({{"temperature", 1.2}, {"seed", i}, {"n", 1 + i % 2}, {"repetition_penalty", 1.1}});
      if (i % 4 == 1) body.update({{"logprobs", true}, {"top_logprobs", 2}});
      bodies.push_back(body);
      const Reply reply = server.post(kChat, body);
      if (reply.status != 200) throw std::runtime_error(reply.body);
      choices.push_back(reply.json()["choices"]);
    }
  }
};

/// One of the clients, until the time is over.
class Client {
 public:
  Client(const Server& server, const Questions& questions, unsigned seed)
      : server_(server), questions_(questions), random_(seed) {}

  void run(Clock::time_point end) {
    while (Clock::now() < end) {
      const unsigned what = random_() % 16;
      if (what < 6) {
        ask();
      } else if (what < 10) {
        stream();
      } else if (what < 12) {
        leave();
      } else if (what < 13) {
        stop_reading();
      } else {
        send_nonsense();
      }
    }
  }
  int n_compared = 0, n_left = 0, n_refused = 0;

 private:
  size_t pick() { return random_() % questions_.bodies.size(); }

  void ask() {
    const size_t i = pick();
    const Reply reply = server_.post(kChat, questions_.bodies[i]);
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.json()["choices"], questions_.choices[i]) << questions_.bodies[i]["messages"].dump().substr(0, 200);
    ++n_compared;
  }

  void stream() {
    const size_t i = pick();
    Json body = questions_.bodies[i];
    body["stream"] = true;
    const Reply reply = server_.post(kChat, body);
    ASSERT_EQ(reply.status, 200) << reply.body;
    const Json& alone = questions_.choices[i];
    std::vector<std::string> said(alone.size());
    for (const Json& event : events_of(reply.body)) {
      ASSERT_FALSE(event.contains("error")) << event;
      const Json& choice = event["choices"][0];
      if (choice["delta"].contains("content") && choice["delta"]["content"].is_string()) {
        said[choice["index"]] += choice["delta"]["content"].get<std::string>();
      }
    }
    for (size_t k = 0; k < said.size(); ++k) EXPECT_EQ(said[k], alone[k]["message"]["content"]);
    ++n_compared;
  }

  void leave() {
    Json body = questions_.bodies[pick()];
    body["stream"] = random_() % 2 == 0;
    const std::string text = request_text("POST", kChat, body.dump());
    Socket socket(server_.port());
    socket.send(std::string_view(text).substr(0, random_() % 3 == 0 ? random_() % text.size() : text.size()));
    if (random_() % 2 == 0 && body["stream"]) socket.receive(16);
    ++n_left;
  }

  // Asks for much and takes none of it.
  void stop_reading() {
    Json body = questions_.bodies[4];
    body.update({{"stream", true},
                 {"max_tokens", 400},
                 {"n", 4},
                 {"temperature", 30},
                 {"logprobs", true},
                 {"top_logprobs", 20}});
    Socket socket(server_.port(), 30, 2048);
    socket.send(request_text("POST", kChat, body.dump()));
    std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 900));
    ++n_left;
  }

  void send_nonsense() {
    std::string text = request_text("POST", kChat, questions_.bodies[pick()].dump());
    switch (random_() % 4) {
      case 0:
        for (int k = 0; k < 8; ++k) text[random_() % text.size()] = static_cast<char>(random_());
        break;
      case 1:
        text = request_text("POST", kChat, std::string(1 + random_() % 5000, '['));
        break;
      case 2:
        text = request_text("POST", kChat, text.substr(text.find("\r\n\r\n") + 4, random_() % 3000));
        break;
      default:
        for (char& c : text) c = static_cast<char>(random_());
        break;
    }
    Socket socket(server_.port(), 2);
    socket.send(text);
    const Reply reply = parse_reply(socket.receive_all());
    EXPECT_NE(reply.status, 500) << reply.body;
    ++n_refused;
  }

  const Server& server_;
  const Questions& questions_;
  std::mt19937 random_;
};

TEST(ServeSoak, AnswersAsAloneWhateverOthersDo) {
  Server server({"--parallel", "8", "--timeout", "3", "--max-body", "4", "-c", "1024"});
  const Questions questions(server);
  const auto begin = Clock::now();
  const auto after = [&](double share) {
    return begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(soak_seconds() * share));
  };
  long warm = 0;
  std::vector<Client> clients;
  for (unsigned i = 0; i < kClients; ++i) clients.emplace_back(server, questions, i + 1);
  {
    std::vector<std::thread> threads;
    for (Client& client : clients) threads.emplace_back([&] { client.run(after(1)); });
    std::this_thread::sleep_until(after(0.4));
    warm = server.resident_kib();
    for (std::thread& thread : threads) thread.join();
  }
  int n_compared = 0, n_left = 0, n_refused = 0;
  for (const Client& client : clients) {
    n_compared += client.n_compared;
    n_left += client.n_left;
    n_refused += client.n_refused;
  }
  const long end = server.resident_kib();
  std::printf("%d answers compared, %d clients left, %d refused; resident %ld KiB after warm-up, %ld at the end\n",
              n_compared, n_left, n_refused, warm, end);
  EXPECT_GT(n_compared, 20);
  EXPECT_GT(n_left, 5);
  EXPECT_GT(n_refused, 5);
  if (!GLIMPSE_SANITIZED) {  // sanitizers keep what was freed
    EXPECT_LT(end, warm + (24 << 10));
  }
  // Nothing of those who left runs on.
  const auto patience = Clock::now() + std::chrono::seconds(20);
  while (server.metric("vllm:num_requests_running") > 0 && Clock::now() < patience) std::this_thread::yield();
  EXPECT_EQ(server.metric("vllm:num_requests_running"), 0);
  EXPECT_EQ(server.metric("vllm:num_requests_waiting"), 0);
  EXPECT_EQ(server.post(kChat, questions.bodies[0]).json()["choices"], questions.choices[0]);
  server.signal(15);
  EXPECT_EQ(server.wait(), 0);
}

}  // namespace
}  // namespace glimpse::serve_test
