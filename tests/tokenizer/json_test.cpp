#include "tokenizer/json.h"

#include <gtest/gtest.h>

namespace glimpse {
namespace {

std::string again(std::string_view text) {
  const Result<JsonValue> value = parse_json(text);
  return value.ok() ? to_python_json(value.value()) : "error: " + value.error().message;
}

// Right sides: json.dumps(json.loads(left), ensure_ascii=False) of Python 3.11.
TEST(Json, WritesWhatPythonWrites) {
  const std::pair<const char*, const char*> cases[] = {
      {"null", "null"},
      {" [ ] ", "[]"},
      {"{}", "{}"},
      {"{\"b\":1,\"a\":[true,false]}", "{\"b\": 1, \"a\": [true, false]}"},
      {"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}"},
      {"-0", "0"},
      {"-0.0", "-0.0"},
      {"1.0", "1.0"},
      {"1e2", "100.0"},
      {"1E+22", "1e+22"},
      {"9999999999999998.0", "9999999999999998.0"},
      {"1e16", "1e+16"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"1.25e-7", "1.25e-07"},
      {"123456789.125", "123456789.125"},
      {"1.7976931348623157e308", "1.7976931348623157e+308"},
      {"5e-324", "5e-324"},
      {"1e-400", "0.0"},
      {"1e-99999999999999999999", "0.0"},
      {"1000000e-400", "0.0"},
      {"0e999", "0.0"},
      {"12345678901234567890123", "12345678901234567890123"},
      {"\"\\u00e9\\ud83d\\ude00\\/\\\"\\\\\\b\\f\\n\\r\\t\\u001f\\u007f\"",
       "\"\u00e9\U0001F600/\\\"\\\\\\b\\f\\n\\r\\t\\u001f\x7f\""},
      {"\"\u57ce\"", "\"\u57ce\""},
  };
  for (const auto& [text, python] : cases) EXPECT_EQ(again(text), python) << text;
}

TEST(Json, SaysWhereItIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "JSON ends where a value is expected"},
      {"{\"a\" 1}", "JSON at byte 5: expected ':'"},
      {"[1,]", "JSON at byte 3: expected a value"},
      {"[1 2]", "JSON at byte 3: expected ',' or ']'"},
      {"{a: 1}", "JSON at byte 1: expected a key in quotes"},
      {"{\"a\": 1", "JSON ends where ',' or '}' is expected"},
      {"01", "JSON at byte 1: expected the end"},
      {"1.", "JSON ends where a digit is expected"},
      {"-", "JSON ends where a digit is expected"},
      {"1e99999999999999999999", "JSON at byte 0: a number that is too large"},
      {"0.001e315", "JSON at byte 0: a number that is too large"},
      {"1e999", "JSON at byte 0: a number that is too large"},
      {"\"a", "JSON ends where '\"' is expected"},
      {"\"\n\"", "JSON at byte 1: expected no control character in a string"},
      {"\"\\x\"", "JSON at byte 2: expected an escape"},
      {"\"\\u12g4\"", "JSON at byte 3: expected four hexadecimal digits"},
      {"\"\\ud800\"", "JSON at byte 7: expected both halves of a surrogate pair"},
      {"\"\\ud800\\u0041\"", "JSON at byte 13: expected the second half of a surrogate pair"},
      {"\"\xff\"", "JSON at byte 1: expected UTF-8"},
      {"nul", "JSON at byte 0: expected a value"},
  };
  for (const auto& [text, message] : cases) EXPECT_EQ(again(text), std::string("error: ") + message) << text;
}

TEST(Json, DepthIsLimited) {
  const auto nested = [](int n) {
    return std::string(static_cast<size_t>(n), '[') + std::string(static_cast<size_t>(n), ']');
  };
  EXPECT_TRUE(parse_json(nested(kMostJsonDepth)).ok());
  EXPECT_FALSE(parse_json(nested(kMostJsonDepth + 2)).ok());
  EXPECT_FALSE(parse_json(nested(1000000)).ok());
}

}  // namespace
}  // namespace glimpse
