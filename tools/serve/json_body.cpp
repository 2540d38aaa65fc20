#include "tools/serve/json_body.h"

#include <cmath>

#include "engine/base/format.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostReported = 16;  // unknown fields in one answer
constexpr int kMostDepth = 64;        // arrays and objects inside one another
constexpr int64_t kMostValues = int64_t{1} << 20;
constexpr uint64_t kFewBytes = 512 << 10;  // whoever needs no more is not counted
// What a value costs, besides the bytes of its text, where it stands, where it is a container or a string, and where it
// has a name.
constexpr uint64_t kPlaceBytes = 32, kContainerBytes = 64, kStringBytes = 48, kNameBytes = 64;

// Memory for the values, counted before a parser allocates it. What is no JSON is counted somehow.
uint64_t memory_of(std::string_view body) {
  int depth = 0;
  int64_t n_values = 1;
  uint64_t n_bytes = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    switch (body[i]) {
      case '"':
        n_bytes += kStringBytes;
        for (++i; i < body.size() && body[i] != '"'; ++i) {
          if (body[i] == '\\') ++i;
        }
        break;
      case '{':
      case '[':
        ++n_values;
        n_bytes += kContainerBytes;
        if (++depth > kMostDepth) {
          throw ApiError(400,
                         format("the body nests arrays and objects more than %d deep (at byte %d)", kMostDepth, i));
        }
        break;
      case '}':
      case ']':
        --depth;
        break;
      case ',':
        ++n_values;
        n_bytes += kPlaceBytes;
        break;
      case ':':
        n_bytes += kNameBytes;
        break;
      default:
        break;
    }
    if (n_values > kMostValues) {
      throw ApiError(400, format("the body has more than %d values (at byte %d)", kMostValues, i));
    }
  }
  return n_bytes;
}

// What nlohmann says after its own prefix, without the text that it quotes (which is the client's, and any length).
std::string reason_of(const Json::parse_error& error) {
  std::string text = error.what();
  const size_t begin = text.find("syntax error");
  if (begin == std::string::npos) return "";
  text = text.substr(begin);
  const size_t quoted = text.find("; last read");
  if (quoted != std::string::npos) text.resize(quoted);
  return text.substr(0, 160);
}

const char* kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::null:
      return "null";
    default:
      return "a number";
  }
}

Json parse(std::string_view body) {
  try {
    return Json::parse(body.begin(), body.end());
  } catch (const Json::parse_error& error) {
    throw ApiError(400, format("the body is no JSON (at byte %d): %s", error.byte, reason_of(error)));
  } catch (const Json::exception&) {  // a number beyond every range
    throw ApiError(400, "the body has a number that no number can hold");
  }
}

}  // namespace

JsonBody::JsonBody(std::string_view text, const std::shared_ptr<MemoryBudget>& memory) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) throw ApiError(400, "the body is empty: want JSON");
  const uint64_t n_bytes = memory_of(text);
  if (n_bytes > kFewBytes && !share_.take(memory, n_bytes)) {
    ApiError error(503, "the bodies of all requests together have too many values now: try again", "",
                   "too_many_values");
    error.retry_after_s = 1;
    throw error;
  }
  json_ = parse(text);
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void refuse_field(const std::string& path, const std::string& what) {
  throw ApiError(400, format("%s: %s", path, what), path);
}

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (object.is_object()) return;
  if (path_.empty()) throw ApiError(400, format("the body is %s: want an object", kind_of(object)));
  refuse_field(path_, format("want an object, got %s", kind_of(object)));
}

std::string Fields::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : format("%s.%s", path_, name);
}

const Json* Fields::find(const char* name) {
  known_.insert(name);
  const auto field = object_.find(name);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

const Json& Fields::need(const char* name) {
  const Json* const field = find(name);
  if (field == nullptr) refuse_field(path(name), "is missing");
  return *field;
}

std::string Fields::text(const char* name, std::string otherwise) {
  const Json* const field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_string()) refuse_field(path(name), format("want a string, got %s", kind_of(*field)));
  return field->get<std::string>();
}

std::string Fields::need_text(const char* name) {
  need(name);
  return text(name, "");
}

bool Fields::flag(const char* name, bool otherwise) {
  const Json* const field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_boolean()) refuse_field(path(name), format("want true or false, got %s", kind_of(*field)));
  return field->get<bool>();
}

int64_t Fields::integer(const char* name, int64_t least, int64_t most, int64_t otherwise) {
  const double value =
      number(name, static_cast<double>(least), static_cast<double>(most), static_cast<double>(otherwise));
  const Json* const field = find(name);
  if (field == nullptr) return otherwise;
  if (value != std::floor(value)) refuse_field(path(name), format("want an integer, got %g", value));
  if (field->is_number_float()) return static_cast<int64_t>(value);  // 1e3; the range was looked at
  return field->get<int64_t>();
}

double Fields::number(const char* name, double least, double most, double otherwise) {
  const Json* const field = find(name);
  if (field == nullptr) return otherwise;
  if (!field->is_number()) refuse_field(path(name), format("want a number, got %s", kind_of(*field)));
  const auto value = field->get<double>();
  if (!(value >= least && value <= most)) {
    refuse_field(path(name), format("want a number from %g to %g, got %g", least, most, value));
  }
  return value;
}

void Fields::ignore(std::initializer_list<const char*> names) {
  known_.insert(names.begin(), names.end());
}

void Fields::refuse(std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    const Json* const field = find(name);
    if (field == nullptr || (field->is_boolean() && !field->get<bool>())) continue;
    if ((field->is_object() || field->is_array() || field->is_string()) && field->empty()) continue;
    refuse_field(path(name), "is not supported");
  }
}

void Fields::report_unknown(std::vector<std::string>& warnings) const {
  for (const auto& field : object_.items()) {
    if (known_.count(field.key()) > 0 || warnings.size() >= kMostReported) continue;
    warnings.push_back(format("unknown field, ignored: %s", path(field.key().substr(0, 64))));
  }
}

}  // namespace glimpse::serve
