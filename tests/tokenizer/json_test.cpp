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
      {"1e-9223372036854775808", "0.0"},
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
      {"", "line 1, column 1: it ends too early, want a value"},
      {"{\"a\" 1}", "line 1, column 6: want ':'"},
      {"[1,]", "line 1, column 4: want a value"},
      {"[1 2]", "line 1, column 4: want ',' or ']'"},
      {"{a: 1}", "line 1, column 2: want the name of a member in quotes"},
      {"{\"a\":\n \"\u00e9\u00e8\" 1", "line 2, column 7: want ',' or '}'"},
      {"{\"a\": 1", "line 1, column 8: it ends too early, want ',' or '}'"},
      {"01", "line 1, column 2: want the end, something follows"},
      {"1.", "line 1, column 3: it ends too early, want a digit behind the point"},
      {"1ex", "line 1, column 3: want a digit in the exponent"},
      {"-", "line 1, column 2: it ends too early, want a digit"},
      {"1e99999999999999999999", "line 1, column 1: a number that is too large"},
      {"0.001e315", "line 1, column 1: a number that is too large"},
      {"[1e999]", "line 1, column 2: a number that is too large"},
      {"\"a", "line 1, column 3: it ends too early, want '\"': a string has no control characters"},
      {"\"\n\"", "line 1, column 2: want '\"': a string has no control characters"},
      {"\"\\x\"", "line 1, column 3: an unknown escape"},
      {"\"\\", "line 1, column 3: it ends too early, want an escape"},
      {"\"\\u12g4\"", "line 1, column 4: want four hexadecimal digits"},
      {"\"\\ud800\"", "line 1, column 8: half of a surrogate pair"},
      {"\"\\udc00\"", "line 1, column 8: half of a surrogate pair"},
      {"\"\\ud800\\u0041\"", "line 1, column 8: half of a surrogate pair"},
      {"\"\xff\"", "line 1, column 2: it is not valid UTF-8"},
      {"nul", "line 1, column 1: want a value"},
  };
  for (const auto& [text, message] : cases) EXPECT_EQ(again(text), std::string("error: JSON, ") + message) << text;
}

TEST(Json, RulesSayWhatMoreIsTaken) {
  const char* const twice = "{\"a\": 1, \"b\": 2, \"a\": [3]}";
  EXPECT_EQ(again(twice), "{\"a\": [3], \"b\": 2}");
  const Result<JsonValue> refused = parse_json(twice, {.repeated_keys = false});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "JSON, line 1, column 18: a name that the object has already");
  const std::string huge = "[1e999, -1" + std::string(500, '0') + ".50]";
  EXPECT_FALSE(parse_json(huge).ok());
  const Result<JsonValue> exact = parse_json(huge, {.any_number = true});
  ASSERT_TRUE(exact.ok());
  EXPECT_EQ(write_json(exact.value()), huge);
}

TEST(Json, DepthIsLimited) {
  const auto nested = [](int n) {
    return std::string(static_cast<size_t>(n), '[') + std::string(static_cast<size_t>(n), ']');
  };
  EXPECT_TRUE(parse_json(nested(kMostJsonDepth)).ok());
  for (const int n : {kMostJsonDepth + 2, 1000000}) {
    const Result<JsonValue> value = parse_json(nested(n));
    ASSERT_FALSE(value.ok());
    EXPECT_EQ(value.error().code, ErrorCode::kTooLarge);
  }
}

}  // namespace
}  // namespace glimpse
