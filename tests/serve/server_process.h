// A glimpse serve process, and a client that sends whatever bytes a test wants.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace glimpse::serve_test {

using Json = nlohmann::json;

/// What a server said; status 0: it closed the connection without a word.
struct Reply {
  int status = 0;
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;                           // of a chunked one its chunks joined
  Json json() const { return Json::parse(body, nullptr, false); }
  std::string error() const;  // its message, or ""
};

/// A connection to 127.0.0.1; everything gives up after timeout_s.
class Socket {
 public:
  /// receive_buffer: bytes that this end takes ahead of being read; 0: as the system likes.
  explicit Socket(int port, double timeout_s = 30, int receive_buffer = 0);
  ~Socket() { close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  bool send(std::string_view bytes);
  /// Bytes as they come; "" at the end, or when none came in time.
  std::string receive(size_t most = 1 << 16);
  /// All until the server closes.
  std::string receive_all();
  /// Closes this end for sending alone.
  void send_no_more();
  void close();

 private:
  int fd_ = -1;
};

Reply parse_reply(const std::string& bytes);
/// A request with its length and fields.
std::string request_text(const std::string& method, const std::string& path, const std::string& body,
                         const std::vector<std::string>& fields = {});

class Server {
 public:
  /// extra: options behind the model's. environment: "NAME=value", beside our own. Waits until the server is ready.
  explicit Server(const std::vector<std::string>& extra, const std::vector<std::string>& environment = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return port_; }
  pid_t pid() const { return pid_; }
  Reply get(const std::string& path, const std::vector<std::string>& fields = {}) const;
  Reply post(const std::string& path, const std::string& body, const std::vector<std::string>& fields = {}) const;
  Reply post(const std::string& path, const Json& body) const { return post(path, body.dump()); }
  Reply raw(std::string_view bytes) const;
  /// By how many KiB its resident memory is larger at the most, during `work`, than before; nothing where the system
  /// does not say.
  std::optional<long> peak_growth_kib(const std::function<void()>& work) const;
  /// A number of /metrics.
  double metric(const std::string& name) const;
  void signal(int number) const;
  /// Exit status; -1: a signal killed it.
  int wait();

 private:
  pid_t pid_ = -1;
  int port_ = 0;
  int log_ = -1;
};

/// The demo model's sample, and other files, as data: URLs.
std::string data_url(const std::string& path);
std::string sample_url();
/// One message of a user with a picture and a text.
Json picture_question(const std::string& url, const std::string& text);
/// The JSON of the events of a stream, without "[DONE]", which must be there.
std::vector<Json> events_of(const std::string& body);

}  // namespace glimpse::serve_test
