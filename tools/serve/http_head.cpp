#include "tools/serve/http_head.h"

#include <algorithm>

#include "tools/serve/api_error.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostFields = 100;

// RFC 9110, section 5.6.2
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

[[noreturn]] void malformed(const char* what) {
  throw ApiError(400, std::string("malformed HTTP: ").append(what));
}

// One line without its end, which must be CR LF.
std::string_view take_line(std::string_view& head) {
  const size_t end = head.find('\n');
  if (end == std::string_view::npos || end == 0 || head[end - 1] != '\r') malformed("a line without CR LF");
  const std::string_view line = head.substr(0, end - 1);
  head.remove_prefix(end + 1);
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 32 && c != '\t') || byte == 127) malformed("a control character");
  }
  return line;
}

// Of "http://localhost:8080/health", as proxies write it, the path; its host has to be that of Host, which is asked for
// later. Of "OPTIONS *", which is about the server, the page's.
std::string_view take_authority(std::string_view target, std::string_view method, std::string_view& authority) {
  constexpr std::string_view kScheme = "http://";
  if (method == "OPTIONS" && target == "*") return "/";
  if (lower(target.substr(0, kScheme.size())) != kScheme) return target;
  const size_t end = std::min(target.find_first_of("/?", kScheme.size()), target.size());
  authority = target.substr(kScheme.size(), end - kScheme.size());
  if (authority.empty()) malformed("a URL without a host");
  return end == target.size() ? "/" : target.substr(end);
}

// Returns the host that it names, or "".
std::string_view parse_request_line(std::string_view line, HttpHead& out) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) malformed("want METHOD path HTTP/1.1");
  const std::string_view method = line.substr(0, first), version = line.substr(last + 1);
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (method.size() > 16 || !std::all_of(method.begin(), method.end(), [](char c) { return c >= 'A' && c <= 'Z'; })) {
    malformed("the method");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") throw ApiError(505, "want HTTP/1.1");
  if (target.size() > kMostPathBytes) throw ApiError(414, "the path is too long");
  std::string_view authority;
  target = take_authority(target, method, authority);
  if (target.empty() || target.front() != '/') malformed("want a path that begins with /");
  for (const char c : target) {
    if (static_cast<unsigned char>(c) <= 32 || static_cast<unsigned char>(c) > 126) malformed("the path");
  }
  out.method = method;
  out.knows_chunks = version == "HTTP/1.1";
  const size_t mark = target.find('?');
  out.path = target.substr(0, mark);
  if (mark != std::string_view::npos) out.query = target.substr(mark + 1);
  return authority;
}

void parse_field(std::string_view line, HttpHead& out) {
  const size_t colon = line.find(':');
  if (line.front() == ' ' || line.front() == '\t') malformed("a folded header line");
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) malformed("a header's name");
  if (out.fields.size() == kMostFields) throw ApiError(431, "too many header lines");
  out.fields.emplace_back(lower(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
}

void check_fields(HttpHead& head) {
  const auto count = [&](std::string_view name) {
    return std::count_if(head.fields.begin(), head.fields.end(),
                         [&](const auto& field) { return field.first == name; });
  };
  for (const char* const single : {"content-length", "transfer-encoding", "host", "authorization", "content-type"}) {
    if (count(single) > 1) malformed(std::string("a second ").append(single).c_str());
  }
  const bool is_new = head.knows_chunks;
  if (count("host") == 0 && is_new) malformed("no Host");
  if (count("transfer-encoding") > 0) {
    if (count("content-length") > 0) malformed("both Content-Length and Transfer-Encoding");
    if (!is_new) malformed("Transfer-Encoding in HTTP/1.0");
    head.is_chunked = lower(head.find("transfer-encoding")) == "chunked";
    if (!head.is_chunked) throw ApiError(411, "want Content-Length, or no Transfer-Encoding but chunked");
  }
  const std::string_view length = head.find("content-length");
  if (count("content-length") > 0) {
    if (length.empty() || length.size() > 18 || length.find_first_not_of("0123456789") != std::string_view::npos) {
      malformed("Content-Length");
    }
    head.content_length = std::stoull(std::string(length));
  }
  head.expects_continue = lower(head.find("expect")) == "100-continue";
  if (count("expect") > 0 && !head.expects_continue) throw ApiError(417, "want no Expect but 100-continue");
  const std::string encoding = lower(head.find("content-encoding"));
  if (!encoding.empty() && encoding != "identity") throw ApiError(415, "want a body without Content-Encoding");
}

}  // namespace

std::optional<std::string> percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = digit(text[i + 1]), low = digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
    i += 2;
  }
  if (out.find('\0') != std::string::npos) return std::nullopt;
  return out;
}

std::string_view HttpHead::find(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

HttpHead parse_head(std::string_view text) {
  HttpHead head;
  if (text.size() > kMostHeadBytes) throw ApiError(431, "the header lines are too long");
  if (text.starts_with("\r\n")) text.remove_prefix(2);  // RFC 9112, section 2.2
  const std::string_view authority = parse_request_line(take_line(text), head);
  for (;;) {
    const std::string_view line = take_line(text);
    if (line.empty()) break;
    parse_field(line, head);
  }
  if (!text.empty()) malformed("bytes behind the head");
  check_fields(head);
  if (!authority.empty() && lower(authority) != lower(head.find("host"))) malformed("two hosts");
  return head;
}

std::string plain_head(const HttpHead& head) {
  std::string text = head.method;
  text += " ";
  text += head.path;
  text += " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ";
  text += std::to_string(head.content_length);
  text += "\r\n";
  if (head.expects_continue) text += "Expect: 100-continue\r\n";
  text += "\r\n";
  return text;
}

}  // namespace glimpse::serve
