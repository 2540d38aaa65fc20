#include "tools/serve/listener.h"

#include <fcntl.h>
#include <httplib.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "tools/serve/api_error.h"
#include "tools/serve/chunked_body.h"
#include "tools/serve/workers.h"

namespace glimpse::serve {
namespace {

constexpr size_t kSpareWorkers = 32;  // they tell clients beyond the limit so
constexpr uint64_t kSmallBody = 64 << 10;

/// What cpp-httplib reads and writes: the head in our spelling, with what was read of the body, then the rest of it.
class ConnectionStream : public httplib::Stream {
 public:
  ConnectionStream(Connection& connection, std::string head) : connection_(connection), head_(std::move(head)) {}
  bool is_readable() const override { return true; }
  bool is_writable() const override { return true; }
  ssize_t read(char* bytes, size_t n) override {
    if (at_ == head_.size()) return connection_.read(bytes, n);
    const size_t taken = std::min(n, head_.size() - at_);
    std::copy_n(head_.data() + at_, taken, bytes);
    at_ += taken;
    return static_cast<ssize_t>(taken);
  }
  ssize_t write(const char* bytes, size_t n) override {
    return connection_.write({bytes, n}) ? static_cast<ssize_t>(n) : -1;
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return 0; }  // asked only whether select() could take it

 private:
  Connection& connection_;
  const std::string head_;
  size_t at_ = 0;
};

// A stream goes in chunks, to clients that know them.
void copy_response(HttpResponse from, bool knows_chunks, httplib::Response& to) {
  to.status = from.status;
  for (const auto& [name, value] : from.fields) to.set_header(name, value);
  if (!from.stream) {
    to.body = std::move(from.body);
    to.set_header("Content-Type", from.content_type);
    return;
  }
  httplib::ContentProviderWithoutLength provide = [stream = std::move(from.stream)](size_t, httplib::DataSink& sink) {
    stream([&](std::string_view piece) { return sink.write(piece.data(), piece.size()); });
    sink.done();
    return true;
  };
  if (knows_chunks) {
    to.set_chunked_content_provider(from.content_type, std::move(provide));
  } else {
    to.set_content_provider(from.content_type, std::move(provide));
  }
}

/// One request of one connection; everything that is known of it is in a variable of its thread, for cpp-httplib's
/// handlers take nothing along.
struct Exchange {
  Connection& connection;
  HttpHead head;
  std::string body;  // what was read of it
};
thread_local Exchange* current = nullptr;

ApiError too_slow_body() {
  return ApiError(408, "the body took too long, or ended early");
}

class Protocol : public httplib::Server {
 public:
  explicit Protocol(HttpHandler& handler) : handler_(handler) {
    svr_sock_ = 0;  // "not shutting down"
    const auto without_body = [this](const httplib::Request&, httplib::Response& response) { answer("", response); };
    const auto with_body = [this](const httplib::Request&, httplib::Response& response,
                                  const httplib::ContentReader& read) { read_and_answer(read, response); };
    Get(".*", without_body);
    Options(".*", without_body);
    Post(".*", with_body);
    Put(".*", with_body);
    Patch(".*", with_body);
    Delete(".*", with_body);
  }

  void run(Exchange& exchange) {
    const struct Here {  // an exception ends it, too
      explicit Here(Exchange& here) { current = &here; }
      ~Here() { current = nullptr; }
    } here(exchange);
    exchange.connection.begin_body(exchange.head.content_length - exchange.body.size());
    std::string begin = plain_head(exchange.head);
    begin += std::exchange(exchange.body, {});
    ConnectionStream stream(exchange.connection, std::move(begin));
    bool closed = false;
    process_request(stream, true, closed, nullptr);
  }

 private:
  void read_and_answer(const httplib::ContentReader& read, httplib::Response& response) {
    std::string body;
    body.reserve(current->head.content_length);
    const bool complete = read([&](const char* bytes, size_t n) {
      body.append(bytes, n);
      return true;
    });
    if (complete && body.size() == current->head.content_length) return answer(std::move(body), response);
    give(handler_.refuse(current->head, too_slow_body()), response);
  }

  void answer(std::string body, httplib::Response& response) {
    give(handler_.handle({current->head, std::move(body)}, current->connection), response);
  }
  void give(HttpResponse from, httplib::Response& to) {
    copy_response(std::move(from), current->head.knows_chunks, to);
  }

  HttpHandler& handler_;
};

/// A body's share of what all of them may take.
class Reservation {
 public:
  explicit Reservation(std::atomic<uint64_t>& sum) : sum_(sum) {}
  ~Reservation() { sum_.fetch_sub(n_); }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  /// n more.
  bool take(uint64_t n, uint64_t most) {
    n_ += n;
    return sum_.fetch_add(n) + n <= most;
  }

 private:
  std::atomic<uint64_t>& sum_;
  uint64_t n_ = 0;
};

const char* reason_phrase(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 411:
      return "Length Required";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Internal Server Error";
  }
}

// A response for those who never get to cpp-httplib.
std::string plain_response(const HttpResponse& response, bool with_body) {
  std::string text =
      format("HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n", response.status,
             reason_phrase(response.status), response.content_type, response.body.size());
  for (const auto& [name, value] : response.fields) text += format("%s: %s\r\n", name, value);
  text += "\r\n";
  if (with_body) text += response.body;
  return text;
}

Result<int> open_socket(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int problem = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (problem != 0) return make_error(ErrorCode::kInvalidArgument, "%s: %s", host, gai_strerror(problem));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  int failure = EADDRNOTAVAIL;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd >= 0 && bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 128) == 0) return fd;
    failure = errno;
    if (fd >= 0) close(fd);
  }
  return make_error(ErrorCode::kIo, "cannot listen on %s port %d: %s", host, port, std::strerror(failure));
}

int port_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

}  // namespace

struct Listener::Impl {
  Impl(const ListenerOptions& given, HttpHandler& serving, int listening)
      : options(given),
        handler(serving),
        protocol(serving),
        workers(static_cast<size_t>(given.max_connections) + kSpareWorkers),
        socket(listening),
        wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Impl() {
    workers.join();
    if (socket >= 0) close(socket);
    if (wake >= 0) close(wake);
  }

  void accept_all();
  void take(int client);
  void serve(int client);
  void exchange(Connection& connection);
  void read_chunks(Exchange& exchange, Reservation& bytes);
  void reserve(uint64_t n, Reservation& bytes) const;
  void turn_away(int client);
  void reply(Connection& connection, const HttpHead& head, const ApiError& error);

  const ListenerOptions options;
  HttpHandler& handler;
  Protocol protocol;
  Workers workers;
  std::atomic<bool> stopping = false;
  std::atomic<uint64_t> n_body_bytes = 0;
  std::atomic<int> n_clients = 0;  // without those that have their answers and hang up slowly
  int socket;
  const int wake;
};

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Listener::~Listener() = default;

Result<std::unique_ptr<Listener>> Listener::create(const ListenerOptions& options, HttpHandler& handler) {
  GLIMPSE_ASSIGN(const int socket, open_socket(options.host, options.port));
  auto impl = std::make_unique<Impl>(options, handler, socket);
  if (impl->wake < 0) return make_error(ErrorCode::kIo, "no event descriptor: %s", std::strerror(errno));
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

int Listener::port() const {
  return port_of(impl_->socket);
}

void Listener::run() {
  while (!impl_->stopping.load()) {
    pollfd waiting[2] = {{impl_->socket, POLLIN, 0}, {impl_->wake, POLLIN, 0}};
    poll(waiting, 2, -1);
    if ((waiting[0].revents & POLLIN) != 0) impl_->accept_all();
  }
  close(impl_->socket);  // from now on connecting fails at once
  impl_->socket = -1;
  impl_->workers.join();
}

void Listener::stop() {
  impl_->stopping.store(true);
  const uint64_t one = 1;
  if (write(impl_->wake, &one, sizeof one) < 0) return;  // it is set already
}

void Listener::Impl::accept_all() {
  for (;;) {
    const int client = accept4(socket, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) {
      take(client);
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      poll(nullptr, 0, 20);  // until one of the others is done
    }
    return;
  }
}

void Listener::Impl::take(int client) {
  const bool is_full = n_clients.load() >= options.max_connections;
  if (!is_full) n_clients.fetch_add(1);
  if (is_full) handler.note(HttpHandler::Event::kConnectionRefused);
  const bool started = workers.start([this, client, is_full] { is_full ? turn_away(client) : serve(client); });
  if (started) return;
  close(client);
  if (!is_full) n_clients.fetch_sub(1);
}

void Listener::Impl::turn_away(int client) {
  ConnectionLimits limits = options.connection;
  limits.linger = std::min(limits.linger, std::chrono::milliseconds(500));
  Connection connection(client, limits, stopping);
  try {
    ApiError error(503, format("%d clients are connected already: try again", options.max_connections), "",
                   "too_many_connections");
    error.retry_after_s = 1;
    connection.write(plain_response(handler.refuse({}, error), true));
  } catch (const std::exception&) {  // no memory for a word about it: the connection is closed
  }
  connection.finish();
}

void Listener::Impl::reply(Connection& connection, const HttpHead& head, const ApiError& error) {
  connection.write(plain_response(handler.refuse(head, error), head.method != "HEAD"));
}

void Listener::Impl::serve(int client) {
  Connection connection(client, options.connection, stopping);
  try {
    try {
      exchange(connection);
    } catch (const ApiError& error) {
      reply(connection, {}, error);
    } catch (const std::exception&) {  // memory ran out; what has begun ends where it is
      if (!connection.has_written()) reply(connection, {}, ApiError(503, "out of memory", "", "out_of_memory"));
    }
    if (connection.was_slow()) handler.note(HttpHandler::Event::kSlowReader);
  } catch (const std::exception&) {  // no memory for a word about it: the connection is closed
  }
  n_clients.fetch_sub(1);
  connection.finish();
}

void Listener::Impl::reserve(uint64_t n, Reservation& bytes) const {
  if (bytes.take(n, options.max_bodies)) return;
  ApiError error(503, "the bodies of all requests together are too large now: try again", "", "too_many_bytes");
  error.retry_after_s = 1;
  throw error;
}

// All of it, so that it is a body like others.
void Listener::Impl::read_chunks(Exchange& exchange, Reservation& bytes) {
  Connection& connection = exchange.connection;
  if (std::exchange(exchange.head.expects_continue, false)) connection.write("HTTP/1.1 100 Continue\r\n\r\n");
  connection.begin_body(UINT64_MAX);
  ChunkedBody body(options.max_body);
  for (bool whole = false; !whole;) {
    char buffer[1 << 14];
    const ssize_t n = connection.read(buffer, sizeof buffer);
    if (n <= 0) throw too_slow_body();
    reserve(static_cast<uint64_t>(n), bytes);
    whole = body.push({buffer, static_cast<size_t>(n)});
  }
  exchange.body = body.take();
  exchange.head.content_length = exchange.body.size();
}

void Listener::Impl::exchange(Connection& connection) {
  const std::string text = connection.read_head();
  if (text.empty()) return;
  Exchange exchange{connection, parse_head(text), ""};
  const uint64_t n = exchange.head.content_length;
  Reservation bytes(n_body_bytes);
  try {
    handler.admit(exchange.head);
    if (n > options.max_body) {
      throw ApiError(413, format("the body has %d bytes; at most %d are allowed", n, options.max_body));
    }
    if (n > kSmallBody) reserve(n, bytes);
    if (exchange.head.is_chunked) read_chunks(exchange, bytes);
  } catch (const ApiError& error) {
    return reply(connection, exchange.head, error);
  }
  protocol.run(exchange);
}

}  // namespace glimpse::serve
