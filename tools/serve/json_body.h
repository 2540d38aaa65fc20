// JSON that strangers send: bounded before it is read, and fields that know who has looked at them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/api_error.h"

namespace glimpse::serve {

using Json = nlohmann::json;

struct JsonLimits {
  int depth = 64;                     // arrays and objects inside one another
  int64_t values = int64_t{1} << 20;  // of all kinds: what one costs in memory is many times its bytes
};

/// Throws ApiError 400, with the byte where it stops being JSON.
Json parse_json(std::string_view body, const JsonLimits& limits = {});

/// One line; what is no UTF-8 is replaced.
std::string dump(const Json& json);

/// The fields of an object. A field that is null is one that is not there. Every getter throws ApiError 400 that names
/// the field for a value of another type or outside the range.
class Fields {
 public:
  /// path: "" for the body, "messages[0]" and the like.
  Fields(const Json& object, std::string path);

  std::string path(std::string_view name) const;
  /// nullptr: not there, or null.
  const Json* find(const char* name);
  /// As find(), but throws when there is none.
  const Json& need(const char* name);
  std::string text(const char* name, std::string otherwise);
  std::string need_text(const char* name);
  bool flag(const char* name, bool otherwise);
  int64_t integer(const char* name, int64_t least, int64_t most, int64_t otherwise);
  double number(const char* name, double least, double most, double otherwise);
  /// Known, and without effect.
  void ignore(std::initializer_list<const char*> names);
  /// Throws when one of them is there with a value that asks for something: not null, false, empty.
  void refuse(std::initializer_list<const char*> names);
  /// Fields that nobody asked for, with their paths.
  void report_unknown(std::vector<std::string>& warnings) const;

 private:
  const Json& object_;
  const std::string path_;
  std::set<std::string, std::less<>> known_;
};

[[noreturn]] void refuse_field(const std::string& path, const std::string& what);

}  // namespace glimpse::serve
