// JSON that strangers send: bounded before it is read, and fields that know who has looked at them.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/api_error.h"
#include "tools/serve/memory_budget.h"

namespace glimpse::serve {

using Json = nlohmann::json;

/// What a body says: at most 2^20 values, 64 deep. What one costs in memory is many times its bytes: where there are
/// many it is a part of what all bodies may take together.
class JsonBody {
 public:
  /// memory: of the values of all bodies. Throws ApiError 400, with the byte where it stops being JSON; 503 when others
  /// have too many values now.
  JsonBody(std::string_view text, const std::shared_ptr<MemoryBudget>& memory);
  const Json& json() const { return json_; }

 private:
  BudgetShare share_;
  Json json_;
};

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
