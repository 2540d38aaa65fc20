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

// written: the call as it stands in the body.
ToolCall read_call(const Json& json, const std::string& path, FunctionRef<std::string_view()> written) {
  Fields call(json, path);
  Fields function(call.need("function"), call.path("function"));
  const std::string name = function.need_text("name");
  const Json& arguments = function.need("arguments");
  if (arguments.is_string()) return {name, arguments.get<std::string>()};
  return {name, written_member(member_text(written(), "function"), "arguments", arguments, kMostToolBytes)};
}

// Goes through a valid JSON text, up to the end of the object or array that it is. see(c, i, end): a string of it that
// begins at i and whose closing quote is at end, or one of : , ] } at i; what stands deeper is passed over. False:
// enough.
void walk(std::string_view text, FunctionRef<bool(char c, size_t i, size_t end)> see) {
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t begin = i;
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') ++i;
      }
      if (i >= text.size()) return;
    } else if (c == '{' || c == '[') {
      ++depth;
      continue;
    } else if (c != ':' && c != ',' && c != ']' && c != '}') {
      continue;
    }
    if (depth == 1 && !see(c, begin, i)) return;
    if ((c == ']' || c == '}') && --depth == 0) return;
  }
}

}  // namespace

std::string_view member_text(std::string_view object, std::string_view key) {
  std::string_view last_string, found;
  size_t value = std::string_view::npos;  // where the wanted one began
  walk(object, [&](char c, size_t i, size_t end) {
    if (c == '"') {
      last_string = object.substr(i + 1, end - i - 1);
    } else if (c == ':') {
      if (last_string == key) value = i + 1;
    } else if (value != std::string_view::npos) {
      found = object.substr(value, i - value);
      return false;
    }
    return true;
  });
  return found;
}

std::vector<std::string_view> element_texts(std::string_view array) {
  std::vector<std::string_view> texts;
  size_t begin = array.find('[') + 1;  // 0 where it is none
  walk(array, [&](char c, size_t i, size_t) {
    if (c != ',' && c != ']') return true;
    texts.push_back(array.substr(begin, i - begin));
    begin = i + 1;
    return c == ',';
  });
  return texts;
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

JoinedAnswer assistant_texts(Fields& message, const std::string& content, const ChatStyle& style,
                             FunctionRef<std::string_view()> written) {
  AnswerParts parts;
  parts.content = content;
  const bool known = message.find("reasoning_content") != nullptr || message.find("reasoning") != nullptr;
  parts.reasoning = message.text("reasoning_content", message.text("reasoning", ""));
  if (const Json* const calls = message.find("tool_calls"); calls != nullptr) {
    const std::string path = message.path("tool_calls");
    if (!calls->is_array()) refuse_field(path, "want an array");
    std::vector<std::string_view> texts;
    for (size_t i = 0; i < calls->size(); ++i) {
      parts.tool_calls.push_back(read_call((*calls)[i], format("%s[%d]", path, i), [&]() -> std::string_view {
        if (texts.empty()) texts = element_texts(member_text(written(), "tool_calls"));
        return i < texts.size() ? texts[i] : std::string_view();
      }));
    }
  }
  Result<JoinedAnswer> joined = join_answer(parts, style, known);
  if (!joined.ok()) refuse_field(message.path("tool_calls"), joined.error().message);
  return std::move(joined).value();
}

}  // namespace glimpse::serve
