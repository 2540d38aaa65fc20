#include "tools/serve/tools_request.h"

#include <algorithm>

#include "tokenizer/json.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostToolBytes = 128 << 10;
constexpr size_t kMostTools = 128;

void check_tool(const Json& tool, const std::string& path, std::vector<std::string>& names) {
  Fields fields(tool, path);
  if (fields.need_text("type") != "function") refuse_field(fields.path("type"), "only \"function\" is supported");
  Fields function(fields.need("function"), fields.path("function"));
  names.push_back(function.need_text("name"));
  if (names.back().empty()) refuse_field(function.path("name"), "is empty");
}

/// tool_choice: whether the model is told of the tools, whether it must call one, and which.
struct Wanted {
  bool any = true;
  bool must = false;
  std::string only;
};

Wanted read_tool_choice(Fields& body, const std::vector<std::string>& names) {
  const Json* const choice = body.find("tool_choice");
  if (choice == nullptr || *choice == "auto") return {};
  if (*choice == "none") return {false, false, ""};
  const std::string path = body.path("tool_choice");
  if (names.empty()) refuse_field(path, "there are no tools");
  if (*choice == "required") return {true, true, names.size() == 1 ? names[0] : ""};
  if (choice->is_string()) refuse_field(path, "want auto, none, required or a function's name");
  Fields fields(*choice, path);
  if (fields.need_text("type") != "function") refuse_field(fields.path("type"), "only \"function\" is supported");
  Fields function(fields.need("function"), fields.path("function"));
  const std::string name = function.need_text("name");
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    refuse_field(function.path("name"), "none of the tools has this name");
  }
  return {true, true, name};
}

// References of a schema that becomes a part of another, at `place`.
void move_references(JsonValue& schema, const std::string& place, bool are_names = false) {
  for (size_t i = 0; i < schema.items.size(); ++i) {
    JsonValue& value = schema.items[i];
    const std::string_view key = schema.is(JsonValue::Kind::kObject) ? std::string_view(schema.keys[i]) : "";
    if (!are_names && (key == "const" || key == "enum" || key == "default" || key == "examples")) continue;
    if (!are_names && key == "$ref" && value.is(JsonValue::Kind::kString) && value.text.starts_with('#')) {
      value.text.replace(0, 1, place);
    }
    move_references(value, place, !are_names && (key == "properties" || key == "$defs" || key == "definitions"));
  }
}

// place: where the schema will stand.
std::string parameters_of(const JsonValue& tool, const std::string& place) {
  const JsonValue* const function = tool.find("function");
  const JsonValue* const parameters = function == nullptr ? nullptr : function->find("parameters");
  const bool given =
      parameters != nullptr && parameters->kind == JsonValue::Kind::kObject && !parameters->items.empty();
  if (!given) return "{\"type\": \"object\"}";
  JsonValue moved = *parameters;
  if (place != "#") move_references(moved, place);
  return to_python_json(moved);
}

// Of an answer that is calls and nothing else.
std::string schema_of(const std::vector<JsonValue>& tools, const std::vector<std::string>& names,
                      const std::string& only, bool parallel) {
  std::string any;
  for (size_t i = 0; i < tools.size(); ++i) {
    if (names[i] == only) return parameters_of(tools[i], "#");
    if (i > 0) any += ", ";
    any += format(
        "{\"type\": \"object\", \"properties\": {\"name\": {\"const\": %s}, \"arguments\": %s}, "
        "\"required\": [\"name\", \"arguments\"], \"additionalProperties\": false}",
        json_quoted(names[i]), parameters_of(tools[i], format("#/items/anyOf/%d/properties/arguments", i)));
  }
  return format("{\"type\": \"array\", \"minItems\": 1, %s\"items\": {\"anyOf\": [%s]}}",
                parallel ? "" : "\"maxItems\": 1, ", any);
}

ToolCall read_call(const Json& json, const std::string& path) {
  Fields call(json, path);
  Fields function(call.need("function"), call.path("function"));
  ToolCall result{function.need_text("name"), ""};
  const Json& arguments = function.need("arguments");
  result.arguments = arguments.is_string() ? arguments.get<std::string>() : dump(arguments);
  if (result.arguments.empty()) result.arguments = "{}";
  return result;
}

}  // namespace

std::string_view member_text(std::string_view object, std::string_view key) {
  int depth = 0;
  size_t value = std::string_view::npos, string_begin = 0;  // where the wanted value, the last string began
  std::string_view last_string;
  for (size_t i = 0; i < object.size(); ++i) {
    const char c = object[i];
    if (c == '"') {
      string_begin = i + 1;
      for (++i; i < object.size() && object[i] != '"'; ++i) {
        if (object[i] == '\\') ++i;
      }
      if (i > object.size()) return {};
      last_string = object.substr(string_begin, i - string_begin);
    } else if (c == ':' && depth == 1) {
      if (last_string == key) value = i + 1;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']' || c == ',') {
      if (depth == 1 && value != std::string_view::npos) return object.substr(value, i - value);
      if (c != ',') --depth;
    }
  }
  return {};
}

std::string written_member(std::string_view object, std::string_view key, const Json& value, size_t most) {
  const std::string_view text = member_text(object, key);
  const bool is_it = !text.empty() && text.size() <= most && Json::parse(text, nullptr, false) == value;
  return is_it ? std::string(text) : dump(value);
}

ToolChoice read_tools(Fields& body, std::string_view text) {
  const Json* const tools = body.find("tools");
  const std::string path = body.path("tools");
  std::vector<std::string> names;
  if (tools != nullptr && (!tools->is_array() || tools->size() > kMostTools)) {
    refuse_field(path, format("want an array of at most %d tools", kMostTools));
  }
  const size_t n_tools = tools == nullptr ? 0 : tools->size();
  for (size_t i = 0; i < n_tools; ++i) check_tool((*tools)[i], format("%s[%d]", path, i), names);
  const Wanted wanted = read_tool_choice(body, names);
  const bool parallel = body.flag("parallel_tool_calls", true);  // false: a call that must be made is one
  ToolChoice choice;
  if (n_tools == 0 || !wanted.any) return choice;
  // As the client wrote them: templates show definitions with their keys in that order.
  const std::string written = written_member(text, "tools", *tools, kMostToolBytes);
  if (written.size() > kMostToolBytes) refuse_field(path, format("have more than %d bytes", kMostToolBytes));
  const Result<JsonValue> list = glimpse::parse_json(written);
  if (!list.ok()) refuse_field(path, list.error().message);
  for (const JsonValue& tool : list.value().items) choice.definitions.push_back(to_python_json(tool));
  if (!wanted.must) return choice;
  choice.only = wanted.only;
  choice.schema = schema_of(list.value().items, names, wanted.only, parallel);
  return choice;
}

std::vector<ToolCall> forced_calls(const ToolChoice& choice, std::string_view answer) {
  if (!choice.only.empty()) return {{choice.only, std::string(answer)}};
  std::vector<ToolCall> calls;
  const Result<JsonValue> list = glimpse::parse_json(answer);
  if (!list.ok()) return calls;
  for (const JsonValue& item : list.value().items) {
    const JsonValue* const name = item.find("name");
    const JsonValue* const arguments = item.find("arguments");
    if (name != nullptr && arguments != nullptr) calls.push_back({name->text, to_python_json(*arguments)});
  }
  return calls;
}

std::string assistant_text(Fields& message, const std::string& content, const ChatStyle& style) {
  AnswerParts parts;
  parts.content = content;
  const std::string reasoning = message.text("reasoning_content", message.text("reasoning", ""));
  if (style.thinking != ChatStyle::Thinking::kNone) parts.reasoning = reasoning;
  if (const Json* const calls = message.find("tool_calls"); calls != nullptr) {
    const std::string path = message.path("tool_calls");
    if (!calls->is_array()) refuse_field(path, "want an array");
    for (size_t i = 0; i < calls->size(); ++i) {
      parts.tool_calls.push_back(read_call((*calls)[i], format("%s[%d]", path, i)));
    }
  }
  if (parts.tool_calls.empty() && parts.reasoning.empty()) return content;
  Result<std::string> text = join_answer(parts, style.quotes_arguments);
  if (!text.ok()) refuse_field(message.path("tool_calls"), text.error().message);
  return std::move(text).value();
}

}  // namespace glimpse::serve
