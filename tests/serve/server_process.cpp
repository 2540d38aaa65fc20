#include "tests/serve/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "engine/base/format.h"
#include "tools/serve/base64.h"

namespace glimpse::serve_test {
namespace {

const std::string kModels = GLIMPSE_SOURCE_DIR "/models/";

std::string dechunked(const std::string& body) {
  std::string out;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\r\n", at);
    if (end == std::string::npos) break;
    const size_t n = std::stoul(body.substr(at, end - at), nullptr, 16);
    if (n == 0) return out;
    out += body.substr(end + 2, n);
    at = end + 2 + n + 2;
  }
  return out + "(cut)";
}

}  // namespace

std::string Reply::error() const {
  const Json parsed = json();
  return parsed.is_object() && parsed.contains("error") ? parsed["error"]["message"].get<std::string>() : "";
}

Socket::Socket(int port, double timeout_s, int receive_buffer) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const auto microseconds = static_cast<int64_t>(timeout_s * 1e6);
  const timeval timeout{microseconds / 1000000, microseconds % 1000000};
  if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
}

void Socket::send_no_more() {
  shutdown(fd_, SHUT_WR);
}

bool Socket::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string Socket::receive(size_t most) {
  std::string bytes(most, '\0');
  ssize_t n = 0;
  do n = recv(fd_, bytes.data(), bytes.size(), 0);
  while (n < 0 && errno == EINTR);  // a test that was stopped for a while goes on (signal(7), SO_RCVTIMEO)
  bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return bytes;
}

std::string Socket::receive_all() {
  std::string all;
  for (std::string piece = receive(); !piece.empty(); piece = receive()) all += piece;
  return all;
}

void Socket::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Reply parse_reply(const std::string& bytes) {
  Reply reply;
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string::npos || bytes.rfind("HTTP/1.1 ", 0) != 0) return reply;
  reply.status = std::stoi(bytes.substr(9, 3));
  if (reply.status == 100) return parse_reply(bytes.substr(end + 4));
  for (size_t at = bytes.find("\r\n") + 2; at < end;) {
    const size_t next = bytes.find("\r\n", at), colon = bytes.find(": ", at);
    std::string name = bytes.substr(at, colon - at);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    reply.fields[name] = bytes.substr(colon + 2, next - colon - 2);
    at = next + 2;
  }
  reply.body = bytes.substr(end + 4);
  if (reply.fields.count("transfer-encoding") > 0) reply.body = dechunked(reply.body);
  return reply;
}

std::string request_text(const std::string& method, const std::string& path, const std::string& body,
                         const std::vector<std::string>& fields) {
  std::string text = method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n";
  if (!body.empty() || method == "POST") text += format("Content-Length: %d\r\n", body.size());
  for (const std::string& field : fields) text += field + "\r\n";
  return text + "\r\n" + body;
}

Server::Server(const std::vector<std::string>& extra, const std::vector<std::string>& environment) {
  int log[2];
  if (pipe2(log, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  std::vector<std::string> arguments = {GLIMPSE_BINARY, "serve",
                                        "-m",           kModels + "demo-Q8_0.gguf",
                                        "--mmproj",     kModels + "mmproj-demo-f16.gguf",
                                        "--port",       "0",
                                        "-t",           "1"};
  arguments.insert(arguments.end(), extra.begin(), extra.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<std::string> given = environment;
  std::vector<char*> envp;
  for (std::string& variable : given) envp.push_back(variable.data());  // the first of a name counts
  for (char** variable = environ; *variable != nullptr; ++variable) envp.push_back(*variable);
  envp.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ == 0) {
    dup2(log[1], STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  ::close(log[1]);
  log_ = log[0];
  std::string said;
  char buffer[1024];
  while (said.find("ready: ") == std::string::npos) {
    const ssize_t n = read(log_, buffer, sizeof buffer);
    if (n <= 0) throw std::runtime_error("the server did not start: " + said);
    said.append(buffer, static_cast<size_t>(n));
  }
  port_ = std::stoi(said.substr(said.find(":", said.find("//")) + 1));
}

Server::~Server() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  wait();
}

void Server::signal(int number) const {
  kill(pid_, number);
}

int Server::wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  ::close(log_);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Reply Server::raw(std::string_view bytes) const {
  Socket socket(port_);
  socket.send(bytes);
  return parse_reply(socket.receive_all());
}

Reply Server::get(const std::string& path, const std::vector<std::string>& fields) const {
  return raw(request_text("GET", path, "", fields));
}

Reply Server::post(const std::string& path, const std::string& body, const std::vector<std::string>& fields) const {
  return raw(request_text("POST", path, body, fields));
}

std::optional<long> Server::peak_growth_kib(const std::function<void()>& work) const {
  const auto peak = [&] {
    std::ifstream in(format("/proc/%d/status", pid_));
    for (std::string line; std::getline(in, line);) {
      if (line.rfind("VmHWM:", 0) == 0) return std::stol(line.substr(6));
    }
    return 0L;
  };
  std::ofstream reset(format("/proc/%d/clear_refs", pid_));
  const bool counts = static_cast<bool>(reset << "5" << std::flush);  // from what is resident now
  const long before = peak();
  work();
  return counts && before > 0 ? std::optional(peak() - before) : std::nullopt;
}

double Server::metric(const std::string& name) const {
  const std::string text = format("\n%s", get("/metrics").body);
  const size_t at = text.find("\n" + name + "{");
  if (at == std::string::npos) throw std::runtime_error("no metric " + name);
  return std::stod(text.substr(text.find("} ", at) + 2));
}

std::string data_url(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (bytes.empty()) throw std::runtime_error("cannot read " + path);
  return format("data:image/png;base64,%s", serve::encode_base64(bytes));
}

std::string sample_url() {
  return data_url(kModels + "sample.png");
}

Json picture_question(const std::string& url, const std::string& text) {
  const Json picture = {{"type", "image_url"}, {"image_url", {{"url", url}}}};
  const Json words = {{"type", "text"}, {"text", text}};
  return {{"role", "user"}, {"content", {picture, words}}};
}

std::vector<Json> events_of(const std::string& body) {
  std::vector<Json> events;
  bool done = false;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    if (end == std::string::npos || done || body.compare(at, 6, "data: ") != 0) {
      throw std::runtime_error(format("not a stream of events: %s", body.substr(at)));
    }
    const std::string data = body.substr(at + 6, end - at - 6);
    if (data == "[DONE]") {
      done = true;
    } else {
      events.push_back(Json::parse(data));
    }
    at = end + 2;
  }
  if (!done) throw std::runtime_error("a stream without an end");
  return events;
}

}  // namespace glimpse::serve_test
