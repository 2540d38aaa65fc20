// Compiled schemas: whatever is written under them validates, and what should be writable is.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/constrain/boxes_schema.h"
#include "engine/constrain/schema_document.h"
#include "tests/constrain/json_validator.h"
#include "tests/constrain/support.h"

namespace glimpse::testing {
namespace {

using json = nlohmann::ordered_json;  // members are written in the order of the schema
using ::testing::HasSubstr;

Result<Constraint::Ptr> compile(const std::string& schema) {
  return Constraint::compile_json_schema(small_tokenizer(), schema);
}
Constraint::Ptr schema(const std::string& text) {
  return must(compile(text));
}
::testing::AssertionResult writes(const std::string& text_of_schema, const std::string& answer) {
  return ::testing::AssertionResult(accepts(*schema(text_of_schema), answer)) << answer << " under " << text_of_schema;
}

std::vector<json> fixtures() {
  std::ifstream in(GLIMPSE_TEST_DIR "/constrain/data/schemas.jsonl");
  std::vector<json> cases;
  for (std::string line; std::getline(in, line);) cases.push_back(json::parse(line));
  return cases;
}

// The slow twin says what jsonschema said.
TEST(JsonValidator, AgreesWithJsonschema) {
  size_t n = 0;
  for (const json& one : fixtures()) {
    const JsonValidator validator(one["schema"]);
    for (const json& instance : one["instances"]) {
      ++n;
      ASSERT_EQ(validator.valid(json::parse(instance["text"].get<std::string>())), instance["valid"].get<bool>())
          << instance["text"] << " under " << one["schema"];
    }
  }
  EXPECT_GT(n, 3000u);
}

TEST(JsonSchema, AcceptsWhatAnAnswerShouldBeAndNothingThatIsInvalid) {
  size_t n_accepted = 0;
  for (const json& one : fixtures()) {
    const auto compiled = compile(one["schema"].dump());
    if (!compiled.ok()) {  // allows no answer at all
      EXPECT_THAT(compiled.error().message, HasSubstr("no text can match")) << one["schema"];
      continue;
    }
    for (const json& instance : one["instances"]) {
      const bool accepted = accepts(*compiled.value(), instance["text"].get<std::string>());
      n_accepted += accepted;
      if (accepted) {
        ASSERT_TRUE(instance["valid"]) << instance["text"] << " under " << one["schema"];
      } else {
        ASSERT_FALSE(instance["written"]) << instance["text"] << " under " << one["schema"];
      }
    }
  }
  EXPECT_GT(n_accepted, 1500u);
}

// GLIMPSE_SCHEMAS: a file of other schemas; the answers go to GLIMPSE_ANSWERS, for make_schemas.py to validate.
TEST(JsonSchema, DrawnAnswersValidate) {
  const char* const schemas = std::getenv("GLIMPSE_SCHEMAS");
  const char* const answers = std::getenv("GLIMPSE_ANSWERS");
  std::vector<json> cases;
  if (schemas == nullptr) {
    cases = fixtures();
  } else {
    std::ifstream in(schemas);
    for (std::string line; std::getline(in, line);) cases.push_back(json::parse(line));
  }
  std::ofstream out(answers != nullptr ? answers : "/dev/null");
  size_t n_answers = 0;
  for (const json& one : cases) {
    json record = {{"schema", one["schema"]}, {"answers", json::array()}};
    const auto compiled = compile(one["schema"].dump());
    if (!compiled.ok()) record["error"] = compiled.error().message;
    for (uint64_t seed = 0; compiled.ok() && seed < 6; ++seed) {
      const auto text = draw_text(*compiled.value(), seed, 600, 0.5);
      if (!text) continue;  // strings without a bound may go on
      ++n_answers;
      record["answers"].push_back(*text);
      ASSERT_TRUE(json::accept(*text)) << *text << " under " << one["schema"];
      ASSERT_TRUE(JsonValidator(one["schema"]).valid(json::parse(*text))) << *text << " under " << one["schema"];
    }
    out << record.dump() << "\n";
  }
  EXPECT_GT(n_answers, 2 * cases.size());
}

TEST(JsonSchema, MembersStandInTheOrderOfTheSchema) {
  const std::string text =
      R"({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "null"}, "c": true}, "required": ["a"]})";
  EXPECT_TRUE(writes(text, R"({"b": 1, "a": null, "c": [1, {"x": "y"}]})"));
  EXPECT_TRUE(writes(text, R"({"a": null})"));
  EXPECT_FALSE(writes(text, R"({"a": null, "b": 1})"));
  EXPECT_FALSE(writes(text, R"({"b": 1})"));
  EXPECT_FALSE(writes(text, R"({"a": null, "d": 1})"));  // what the schema leaves open is not written
  EXPECT_FALSE(writes(text, R"({"a":null})"));           // one way to write it
  EXPECT_FALSE(writes(text, R"({ "a": null})"));
}

TEST(JsonSchema, FurtherMembersHaveOtherNames) {
  const std::string text =
      R"({"type": "object", "properties": {"ab": {"type": "integer"}, "é\"": {}}, "additionalProperties": {"type": "string"}})";
  EXPECT_TRUE(writes(text, R"({"ab": 1, "a": "x", "abc": "x", "": "x", "b": "x", "é": "x"})"));
  EXPECT_TRUE(writes(text, R"({"z": "x"})"));
  EXPECT_FALSE(writes(text, R"({"ab": "x"})"));
  EXPECT_FALSE(writes(text, R"({"z": "x", "ab": "x"})"));
  EXPECT_FALSE(writes(text, R"({"z": 1})"));
  EXPECT_FALSE(writes(text, R"({"\u0061b": "x"})"));  // the same name, spelled otherwise
}

TEST(JsonSchema, NumbersKeepTheirBoundsExactly) {
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    int least = static_cast<int>(random() % 2400) - 1200,
        most = least + static_cast<int>(random() % (round % 2 ? 40 : 2000));
    const bool open_below = random() % 3 == 0, open_above = random() % 3 == 0, no_most = random() % 8 == 0,
               no_least = random() % 8 == 0;
    const int multiple = random() % 3 == 0 ? 1 + static_cast<int>(random() % 30) : 1;
    json s = {{"type", "integer"}};
    if (!no_least) s[open_below ? "exclusiveMinimum" : "minimum"] = least;
    if (!no_most) s[open_above ? "exclusiveMaximum" : "maximum"] = most;
    if (multiple > 1) s["multipleOf"] = multiple;
    const auto compiled = compile(s.dump());
    if (!compiled.ok()) {
      EXPECT_THAT(compiled.error().message, HasSubstr("no text can match"));
    }
    for (int x = -1500; x <= 2500; x += round % 4 == 0 ? 1 : 3) {
      const bool expected = (no_least || x > least || (x == least && !open_below)) &&
                            (no_most || x < most || (x == most && !open_above)) && x % multiple == 0;
      ASSERT_EQ(compiled.ok() && accepts(*compiled.value(), std::to_string(x)), expected) << x << " under " << s;
    }
  }
  EXPECT_TRUE(writes(R"({"type": "integer", "minimum": 12345678901234567890})", "12345678901234567890"));
  EXPECT_FALSE(writes(R"({"type": "integer", "minimum": 12345678901234567890})", "12345678901234567889"));
  EXPECT_TRUE(writes(R"({"type": "integer", "minimum": 2.5, "maximum": 4.2})", "4"));
  EXPECT_FALSE(writes(R"({"type": "integer", "minimum": 2.5, "maximum": 4.2})", "2"));
  EXPECT_FALSE(writes(R"({"type": "integer"})", "-0"));
  EXPECT_FALSE(writes(R"({"type": "integer"})", "01"));
  EXPECT_FALSE(writes(R"({"type": "integer"})", "1.0"));
}

TEST(JsonSchema, FractionsKeepTheirBoundsExactly) {
  std::mt19937 random(6);
  for (int round = 0; round < 120; ++round) {
    // Hundredths, so that every comparison is one of whole numbers.
    const int least = static_cast<int>(random() % 1000) - 500,
              most = least + static_cast<int>(random() % (round % 3 ? 30 : 900));
    const bool open_below = random() % 2, open_above = random() % 2;
    const auto hundredths = [](int x) {
      return format("%s%d.%d%d", x < 0 ? "-" : "", std::abs(x) / 100, std::abs(x) / 10 % 10, std::abs(x) % 10);
    };
    const std::string s =
        format(R"({"type": "number", "%s": %s, "%s": %s})", open_below ? "exclusiveMinimum" : "minimum",
               hundredths(least), open_above ? "exclusiveMaximum" : "maximum", hundredths(most));
    const auto compiled = compile(s);
    if (!compiled.ok()) {
      EXPECT_THAT(compiled.error().message, HasSubstr("no text can match"));
    }
    for (int x = -620; x <= 1420; x += round % 5 + 1) {
      const bool expected = (open_below ? x > least : x >= least) && (open_above ? x < most : x <= most);
      const bool accepted = compiled.ok() && accepts(*compiled.value(), hundredths(x));
      // Zeros behind a bound that is met may be refused, nothing else.
      if (accepted != expected) {
        ASSERT_TRUE(expected && x == most && x % 10 == 0) << hundredths(x) << " under " << s;
        std::string shorter = hundredths(x);
        shorter.resize(shorter.size() - (x % 100 == 0 ? 3 : 1));
        ASSERT_TRUE(accepts(*compiled.value(), shorter)) << shorter << " under " << s;
      }
    }
  }
  EXPECT_TRUE(writes(R"({"type": "number"})", "-12.5e+10"));
  EXPECT_TRUE(writes(R"({"type": "number", "minimum": 0})", "0.000001"));
  EXPECT_FALSE(writes(R"({"type": "number", "exclusiveMinimum": 0})", "0.000"));
  EXPECT_TRUE(writes(R"({"type": "number", "multipleOf": 0.01})", "12.34"));
  EXPECT_FALSE(writes(R"({"type": "number", "multipleOf": 0.01})", "12.345"));
}

TEST(JsonSchema, PatternsSpeakOfTheStringNotOfItsJson) {
  EXPECT_TRUE(writes(R"({"type": "string", "pattern": "^\"\\n\\\\$"})", R"("\"\n\\")"));
  EXPECT_TRUE(writes(R"({"type": "string", "pattern": "b"})", R"("a\"b\u00e9c")"));  // anywhere
  EXPECT_FALSE(writes(R"({"type": "string", "pattern": "^b"})", R"("ab")"));
  EXPECT_TRUE(writes(R"({"type": "string", "pattern": "^[^a]$"})", R"("\u0001")"));
  EXPECT_FALSE(writes(R"({"type": "string", "pattern": "^[^a]$"})", "\"\x01\""));
  EXPECT_TRUE(writes(R"({"type": "string", "minLength": 2, "maxLength": 2})", R"("é\u00e9")"));
  EXPECT_TRUE(writes(R"({"type": "string", "minLength": 1, "maxLength": 1})", "\"😀\""));
  EXPECT_FALSE(writes(R"({"type": "string"})", R"("\ud83d\ude00")"));  // written as itself
  EXPECT_FALSE(writes(R"({"type": "string"})", R"("\ud83d")"));
  EXPECT_FALSE(writes(R"({"type": "string"})", "\"\n\""));
}

TEST(JsonSchema, FormatsAreCalendarsAndAddresses) {
  const std::tuple<const char*, std::vector<const char*>, std::vector<const char*>> cases[] = {
      {"date",
       {"2024-02-29", "2000-02-29", "0001-01-01", "1999-12-31"},
       {"2023-02-29", "1900-02-29", "0000-01-01", "2024-04-31", "2024-13-01", "2024-00-10", "2024-1-1"}},
      {"time", {"23:59:59Z", "00:00:00.123+05:30"}, {"24:00:00Z", "12:60:00Z", "12:00:00", "1:00:00Z"}},
      {"date-time", {"2024-02-29T12:34:56Z"}, {"2024-02-29 12:34:56Z", "2023-02-29T12:34:56Z"}},
      {"duration", {"P1Y2M3D", "PT1H", "P1DT2M", "P3W"}, {"P", "PT", "P1S", "1D"}},
      {"email", {"a.b+c@example.org"}, {"a@b", "@example.org", "a b@example.org"}},
      {"hostname", {"a-1.example"}, {"-a.example", "a..b", "a_b"}},
      {"ipv4", {"0.0.0.0", "255.249.99.1"}, {"256.1.1.1", "1.2.3", "01.2.3.4"}},
      {"ipv6",
       {"::", "::1", "1:2:3:4:5:6:7:8", "fe80::1:2", "1::8"},
       {"1:2:3", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9"}},
      {"uuid",
       {"123e4567-e89b-12d3-a456-426614174000"},
       {"123e4567e89b12d3a456426614174000", "g23e4567-e89b-12d3-a456-426614174000"}},
      {"uri", {"https://example.org/a/b?c=d#e", "ftp://h:21/%20"}, {"example.org", "http:/x", "http://h/%2"}},
  };
  for (const auto& [name, good, bad] : cases) {
    const Constraint::Ptr compiled = schema(format(R"({"type": "string", "format": "%s"})", name));
    for (const char* text : good) EXPECT_TRUE(accepts(*compiled, format("\"%s\"", text))) << name << " " << text;
    for (const char* text : bad) EXPECT_FALSE(accepts(*compiled, format("\"%s\"", text))) << name << " " << text;
  }
}

TEST(JsonSchema, ReferencesMayGoRound) {
  const std::string tree = R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
      "v": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["v", "children"]}}})";
  EXPECT_TRUE(writes(
      tree, R"({"v": 1, "children": [{"v": 2, "children": []}, {"v": 3, "children": [{"v": 4, "children": []}]}]})"));
  EXPECT_FALSE(writes(tree, R"({"v": 1, "children": [{"v": 2}]})"));
  // As Pydantic writes a description beside a reference.
  const std::string described =
      R"({"type": "object", "properties": {"next": {"anyOf": [{"allOf": [{"$ref": "#"}], "title": "Next"}, {"type": "null"}]}}, "required": ["next"]})";
  EXPECT_TRUE(writes(described, R"({"next": {"next": {"next": null}}})"));
  EXPECT_TRUE(writes(R"({"properties": {"a/b": {"type": "null"}, "c": {"$ref": "#/properties/a~1b"}}})",
                     R"({"a/b": null, "c": null})"));
  EXPECT_TRUE(writes(R"({"$ref": "#/definitions/%C3%A9", "definitions": {"é": {"const": 1}}})", "1"));
}

TEST(JsonSchema, WhatHoldsAtOnceIsOneSchema) {
  const std::string all = R"({"allOf": [
      {"type": "object", "properties": {"a": {"type": ["integer", "null"], "minimum": 3}, "b": {"enum": [1, 2, 3]}}, "required": ["a"]},
      {"properties": {"a": {"type": "number", "maximum": 5}, "b": {"enum": [2, 3, 4]}}, "required": ["b"]}]})";
  EXPECT_TRUE(writes(all, R"({"a": 4, "b": 3})"));
  EXPECT_FALSE(writes(all, R"({"a": 6, "b": 3})"));
  EXPECT_FALSE(writes(all, R"({"a": null, "b": 3})"));
  EXPECT_FALSE(writes(all, R"({"a": 4, "b": 1})"));
  EXPECT_FALSE(writes(all, R"({"a": 4})"));
  const std::string beside =
      R"({"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"], "additionalProperties": false,
      "anyOf": [{"properties": {"kind": {"const": "x"}}}, {"properties": {"kind": {"const": "y"}}}]})";
  EXPECT_TRUE(writes(beside, R"({"kind": "y"})"));
  EXPECT_FALSE(writes(beside, R"({"kind": "z"})"));
  // A member that one of them forbids.
  EXPECT_FALSE(writes(
      R"({"allOf": [{"type": "object", "properties": {"a": true}, "additionalProperties": false}, {"properties": {"b": true}}]})",
      R"({"b": 1})"));
  EXPECT_TRUE(writes(R"({"$ref": "#/$defs/s", "maxLength": 3, "$defs": {"s": {"type": "string", "minLength": 2}}})",
                     R"("abc")"));
  EXPECT_FALSE(writes(R"({"$ref": "#/$defs/s", "maxLength": 3, "$defs": {"s": {"type": "string", "minLength": 2}}})",
                      R"("abcd")"));
}

// Items of one schema are prefixItems of the other.
TEST(JsonSchema, ListsThatHoldAtOnceAreOneList) {
  const std::string two =
      R"({"allOf": [{"prefixItems": [{"type": ["string", "integer"]}, true]}, {"items": {"type": "integer"}}]})";
  EXPECT_TRUE(writes(two, "[1, 2]"));
  EXPECT_TRUE(writes(two, "[1, 2, 3]"));
  EXPECT_FALSE(writes(two, R"(["a", 2])"));
  EXPECT_FALSE(writes(two, R"([1, "a"])"));
  const std::string turned =
      R"({"type": "array", "items": {"minimum": 5}, "allOf": [{"prefixItems": [{"type": "integer"}], "items": false, "minItems": 1}]})";
  EXPECT_TRUE(writes(turned, "[5]"));
  EXPECT_FALSE(writes(turned, "[4]"));
  EXPECT_FALSE(writes(turned, "[5, 5]"));
  const std::string both =
      R"({"allOf": [{"prefixItems": [{"type": "integer"}]}, {"prefixItems": [{"minimum": 3}, {"type": "null"}], "minItems": 2}]})";
  EXPECT_TRUE(writes(both, "[3, null]"));
  EXPECT_FALSE(writes(both, "[2, null]"));
  EXPECT_FALSE(writes(both, "[3, 3]"));
}

TEST(JsonSchema, TheBoxesAreReady) {
  const Constraint::Ptr boxes = schema("boxes");
  EXPECT_TRUE(accepts(*boxes, "[]"));
  EXPECT_TRUE(accepts(
      *boxes, R"([{"bbox_2d": [10, 20, 300, 999], "label": "café"}, {"bbox_2d": [0, 0, 1, 1], "label": "b"}])"));
  EXPECT_FALSE(accepts(*boxes, R"([{"bbox_2d": [10, 20, 300], "label": "a"}])"));
  const json described = json::parse(constrain::kBoxesSchema);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto text = draw_text(*boxes, seed, 4000, 0.5);
    ASSERT_TRUE(text.has_value());
    EXPECT_TRUE(JsonValidator(described).valid(json::parse(*text)));
  }
}

TEST(JsonObject, IsAnyObject) {
  const Constraint::Ptr any = must(Constraint::compile_json_object(small_tokenizer()));
  EXPECT_TRUE(accepts(*any, "{}"));
  EXPECT_TRUE(accepts(*any, R"({"a": [1, -2.5e3, "x\u00e9", {"b": {}}, [[]], true, false, null]})"));
  for (const char* text : {"[]", "1", "{", R"({"a"})", R"({"a": 1,})", R"({"a": tru})"})
    EXPECT_FALSE(accepts(*any, text)) << text;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const auto text = draw_text(*any, seed, 300, 0.3);
    if (text) {
      EXPECT_TRUE(json::accept(*text)) << *text;
    }
  }
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "{\"a\": ";
  EXPECT_TRUE(accepts(*any, deep + "1" + std::string(5000, '}')));
}

TEST(JsonSchema, ErrorsNameKeywordAndPlace) {
  expect_errors(
      compile, "the JSON schema: ", ErrorCode::kUnsupported,
      {
          {R"({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}})",
           "#/properties/a/uniqueItems: the keyword \"uniqueItems\" is not supported"},
          {R"({"not": {}})", "#/not: "},
          {R"({"type": "object", "patternProperties": {}})", "#/patternProperties: "},
          {R"({"type": "object", "minProperties": 1})", "#/minProperties: "},
          {R"({"if": {}, "then": {}})", "#/if: "},
          {R"({"type": "array", "contains": {}})", "#/contains: "},
          {R"({"type": "array", "items": [{"type": "null"}]})", "#/items: a list of schemas is what prefixItems has"},
          {R"({"type": "string", "format": "iri"})", "#/format: the format \"iri\" is not supported"},
          {R"({"type": "string", "pattern": "^a$", "maxLength": 3})", "#/maxLength: beside pattern"},
          {R"x({"type": "string", "pattern": "(?=a)"})x", "#/pattern: character 3: look-around"},
          {R"({"type": "number", "multipleOf": 0.3})", "#/multipleOf: "},
          {R"({"type": "array", "maxItems": 1e9})", "#/maxItems: at most"},
          {R"({"enum": ["a"], "maxLength": 3})", "#/maxLength: beside enum"},
          {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "#/oneOf: alternatives 0 and 1 may both hold"},
          {R"({"$ref": "other.json"})", "#/$ref: \"other.json\" is in another document"},
          {R"({"$ref": "#name"})", "is an anchor"},
          {R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})", "/pattern: the keyword stands in several schemas"},
      });
  expect_errors(
      compile, "the JSON schema: ", ErrorCode::kInvalidArgument,
      {
          {R"({"type": "string", "pattern": "a("})", "#/pattern: character 2: "},
          {R"({"properties": {"a~/b": {"type": "text"}}})", "#/properties/a~0~1b/type: want object, array"},
          {R"({"type": "integer", "multipleOf": 0})", "#/multipleOf: want a number above 0"},
          {R"({"type": "integer", "minimum": "1"})", "#/minimum: want a number"},
          {R"({"type": "array", "minItems": -1})", "#/minItems: want a whole number"},
          {R"({"enum": ["a"], "type": "integer"})", "#: no value is left"},
          {R"({"enum": []})", "#: no value is left"},
          {R"({"anyOf": []})", "#/anyOf: want a list"},
          {R"({"$ref": "#/$defs/x"})", "#/$ref: there is nothing at \"#/$defs/x\""},
          {R"({"$ref": "#"})", "refers to itself"},
          {R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", "begins with itself"},
          {R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "no text can match"},
          {R"({"type": "integer", "minimum": 3, "maximum": 2})", "no text can match"},
          {R"([])", "#: want a schema"},
          {R"({"type": "object",})", "line 1, column 19: want the name of a member"},
          {"{\"type\":\n  \"obj", "line 2, column 7: it ends too early"},
          {R"({"type": "null", "type": "null"})", "column 18: a name that the object has already"},
          {"\"\xFF\"", "not valid UTF-8"},
          {"", "ends too early"},
      });
}

// Annotations are known to ask nothing.
TEST(JsonSchema, AnnotationsAskNothing) {
  EXPECT_TRUE(writes(
      R"({"$schema": "x", "$id": "y", "$comment": "z", "title": "t", "description": "d", "default": 3, "examples": [1],
      "deprecated": true, "readOnly": true, "x-order": 1, "$defs": {"unused": {"not": {}}}, "type": "null"})",
      "null"));
}

TEST(JsonSchema, LargeOnesAreRefusedOrCheap) {
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += R"({"items": )";
  EXPECT_EQ(compile(deep + "true" + std::string(200, '}')).error().code, ErrorCode::kTooLarge);
  // Members of members of members ...: linear, not 2^n.
  std::string nested = R"({"type": "null"})";
  for (int i = 0; i < 40; ++i) nested = R"({"properties": {"a": )" + nested + R"(, "b": {"type": "null"}}})";
  EXPECT_TRUE(compile(nested).ok());
  // References that double at every step.
  std::string doubling = R"({"$defs": {"d0": {"type": "null"})";
  for (int i = 1; i <= 40; ++i) {
    doubling += format(
        R"(, "d%d": {"allOf": [{"properties": {"a": {"$ref": "#/$defs/d%d"}}}, {"properties": {"a": {"$ref": "#/$defs/d%d"}, "b%d": true}}]})",
        i, i - 1, i - 1, i);
  }
  const auto doubled = compile(doubling + R"(}, "$ref": "#/$defs/d40"})");
  if (!doubled.ok()) {
    EXPECT_EQ(doubled.error().code, ErrorCode::kTooLarge) << doubled.error().message;
  }
  std::string many = R"({"enum": ["x")";
  for (int i = 0; i < 40000; ++i) many += format(R"(, "value number %d of many")", i);
  EXPECT_EQ(compile(many + "]}").error().code, ErrorCode::kTooLarge);
}

// A schema of a few kilobytes, or one that fits into a request, whose parts would be copied beside each of its branches
// or for each spelling of a reference: gigabytes.
TEST(JsonSchema, CopiesTogetherAreBounded) {
  std::string values, branches, references, names;
  for (int i = 0; i < 20000; ++i) values += format("%s%d", i > 0 ? "," : "", i);
  for (int i = 0; i < 3000; ++i) branches += format(R"(%s{"minimum":%d})", i > 0 ? "," : "", i);
  for (int i = 0; i < 3000; ++i) {  // "long" with some of its letters as %6c and the like
    std::string name = "longername";
    std::string spelled;
    for (size_t k = 0; k < name.size(); ++k) {
      spelled +=
          (i >> k & 1) != 0 || k > 11 ? format("%%%02x", static_cast<unsigned>(name[k])) : std::string(1, name[k]);
    }
    references += format(R"(%s{"$ref":"#/%s%s/%s"})", i > 0 ? "," : "", i >= 1024 ? "%24" : "$",
                         i >= 2048 ? "d%65fs" : "defs", spelled);
  }
  const std::string text(400000, 'x');
  for (const std::string& large :
       {R"({"enum":[)" + values + R"(],"anyOf":[)" + branches + "]}",
        R"({"pattern":")" + text + R"(","anyOf":[)" + branches + "]}",
        R"({"$defs":{"longername":{"enum":[)" + values + R"(]}},"anyOf":[)" + references + "]}"}) {
    const auto refused = compile(large);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge) << refused.error().message.substr(0, 200);
  }
  // Places are named by their beginning: each would have the name of all that is around it.
  const std::string inside = R"({"properties":{"a":{"type":"null"},"b":{"not":{}}}})";
  const auto named = compile(R"({"properties":{")" + text + R"(":)" + inside + "}}");
  ASSERT_FALSE(named.ok());
  EXPECT_THAT(named.error().message, HasSubstr("#/properties/xxxx"));
  EXPECT_LT(named.error().message.size(), 2000u);
  // Keywords of a schema are not looked for among each other.
  std::string notes;
  for (int i = 0; i < 60000; ++i) notes += format(R"("x-%d":0,)", i);
  EXPECT_TRUE(compile("{" + notes + R"("allOf":[{"type":"null"}]})").ok());
  std::string members;
  for (int i = 0; i < 30000; ++i) members = format(R"(%s"%d":0)", i > 0 ? "," : "", 29999 - i) + members;
  EXPECT_FALSE(compile(R"({"const":{)" + members + R"(},"enum":[{"0":0}]})").ok());
}

// Thousands of members, twice, to be put together: refused before it takes long.
TEST(JsonSchema, LargeOnesAreNotComparedEachWithEach) {
  std::string members, names;
  for (int i = 0; i < 8000; ++i) {
    members += format("%s\"m%d\": true", i > 0 ? ", " : "", i);
    names += format("%s\"m%d\"", i > 0 ? ", " : "", i);
  }
  const std::string object = R"({"properties": {)" + members + R"(}, "required": [)" + names + "]}";
  for (const std::string& both : {R"({"allOf": [)" + object + ", " + object + "]}",
                                  R"({"allOf": [{"enum": [)" + names + R"(]}, {"enum": ["x", )" + names + "]}]}"}) {
    const auto refused = compile(both);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
    EXPECT_THAT(refused.error().message, HasSubstr("the schema is too large, or its allOf and $ref"));
  }
}

TEST(JsonValue, ReadsWhatItWrites) {
  for (const char* text :
       {"null", "[1, -2.5e+10, true, false]", R"({"b": "q\"\\\n\u0001é😀", "a": {}})", "[]", "\"\""}) {
    EXPECT_EQ(write_json(must(parse_json(text))), text);
  }
  EXPECT_EQ(must(parse_json(R"("\ud83d\ude00\/\u00e9")")).text, "😀/é");
  for (const char* text :
       {"01", "1.", ".5", "+1", "1e", "nul", "[1,]", "{\"a\" 1}", "\"\\x\"", "\"\\ud83d\"", "\"\t\"", "1 2", "-"}) {
    EXPECT_FALSE(parse_json(text).ok()) << text;
    EXPECT_FALSE(json::accept(text)) << text;
  }
  EXPECT_TRUE(constrain::same_json(must(parse_json("{\"a\": 1.0, \"b\": [100]}")),
                                   must(parse_json("{\"b\": [1e2], \"a\": 1}"))));
}

}  // namespace
}  // namespace glimpse::testing
