#include "tools/serve/chat_request.h"

#include <optional>

#include "tools/serve/content.h"

namespace glimpse::serve {
namespace {

// What it said, thought and called as one text. Content that is null is none: clients send back what they got.
void read_assistant(const Json& json, Fields& message, const ChatStyle& style, FunctionRef<std::string_view()> written,
                    ContentReader& reader, RequestMessage& result) {
  if (message.find("content") != nullptr || (!json.contains("content") && message.find("tool_calls") == nullptr)) {
    result.parts = reader.read(message.need("content"), message.path("content"));
  }
  std::string content;
  for (const RequestPart& part : result.parts) {
    if (part.image != nullptr) refuse_field(message.path("content"), "an assistant's message has no pictures");
    content += part.text;
  }
  JoinedAnswer joined = assistant_texts(message, content, style, written);
  result.parts.clear();
  if (!joined.thinking.empty()) result.parts.push_back({std::move(joined.thinking), nullptr});
  result.parts.push_back({std::move(joined.said), nullptr});
}

// written: the message as it stands in the body.
RequestMessage read_message(const Json& json, const std::string& path, const ChatStyle& style,
                            FunctionRef<std::string_view()> written, ContentReader& reader) {
  Fields message(json, path);
  RequestMessage result;
  result.role = message.need_text("role");
  if (result.role == "developer") result.role = "system";
  if (result.role == "assistant") {
    read_assistant(json, message, style, written, reader, result);
  } else if (result.role == "system" || result.role == "user" || result.role == "tool") {
    result.parts = reader.read(message.need("content"), message.path("content"));
    message.refuse({"tool_calls"});
  } else {
    refuse_field(message.path("role"),
                 format("\"%s\" is not supported: want system, user, assistant or tool", result.role.substr(0, 64)));
  }
  message.ignore({"name", "refusal", "annotations", "tool_call_id"});
  message.refuse({"function_call", "audio"});
  message.report_unknown(reader.warnings());
  return result;
}

std::vector<RequestMessage> read_messages(Fields& body, std::string_view text, const RequestPolicy& policy,
                                          const ChatStyle& style, ContentReader& reader) {
  const Json& list = body.need("messages");
  const std::string path = body.path("messages");
  if (!list.is_array() || list.empty()) refuse_field(path, "want an array of messages, at least one");
  if (static_cast<int64_t>(list.size()) > policy.max_messages) {
    refuse_field(path, format("has %d messages; at most %d are allowed", list.size(), policy.max_messages));
  }
  std::vector<RequestMessage> messages;
  std::vector<std::string_view> texts;  // of the messages, once one of them is asked for
  for (size_t i = 0; i < list.size(); ++i) {
    const auto written = [&]() -> std::string_view {
      if (texts.empty()) texts = element_texts(member_text(text, "messages"));
      return i < texts.size() ? texts[i] : std::string_view();
    };
    messages.push_back(read_message(list[i], format("%s[%d]", path, i), style, written, reader));
  }
  const size_t n = messages.size();
  if (n > 1 && messages[n - 1].role == "assistant" && messages[n - 2].role == "assistant") {
    refuse_field(format("%s[%d]", path, n - 1), "two messages of the assistant at the end");
  }
  return messages;
}

void read_logprobs(Fields& body, Generation& generation) {
  generation.logprobs = body.flag("logprobs", false);
  generation.n_top_logprobs = static_cast<int>(body.integer("top_logprobs", 0, 20, 0));
  if (generation.n_top_logprobs > 0 && !generation.logprobs) {
    refuse_field(body.path("top_logprobs"), "wants logprobs to be true");
  }
  if (generation.logprobs) generation.options.n_top_logprobs = std::max(1, generation.n_top_logprobs);
}

// As vLLM and llama.cpp take it, or OpenAI's effort: "none" is not to think.
std::optional<bool> read_thinking(Fields& body, std::vector<std::string>& warnings) {
  std::optional<bool> thinking;
  const std::string effort = body.text("reasoning_effort", "");
  if (!effort.empty()) thinking = effort != "none";
  if (body.find("enable_thinking") != nullptr) thinking = body.flag("enable_thinking", true);
  if (const Json* const given = body.find("chat_template_kwargs"); given != nullptr) {
    Fields arguments(*given, "chat_template_kwargs");
    if (arguments.find("enable_thinking") != nullptr) thinking = arguments.flag("enable_thinking", true);
    arguments.report_unknown(warnings);
  }
  return thinking;
}

void check_modalities(Fields& body) {
  const Json* const modalities = body.find("modalities");
  if (modalities == nullptr || *modalities == Json::array({"text"})) return;
  refuse_field(body.path("modalities"), "only [\"text\"] is supported");
}

// A call that must be made is an answer of a schema, too. Such answers do not think: the constraint would be in its
// way.
void read_constraint(Fields& body, std::string_view text, const ChatContext& context, ChatRequest& request) {
  Constraint::Ptr& constraint = request.generation.options.constraint;
  constraint = read_answer_format(body, text, context.tokenizer, context.formats);
  if (!request.tools.schema.empty()) {
    if (constraint != nullptr) refuse_field("tool_choice", "with response_format the model cannot be made to call");
    auto made = context.formats.find(context.tokenizer, FormatCache::Kind::kJsonSchema, request.tools.schema);
    if (!made.ok()) refuse_field("tools", made.error().message);
    constraint = std::move(made).value();
  }
}

}  // namespace

ChatRequest read_chat_request(std::string_view text, const RequestPolicy& policy, const ChatContext& context) {
  const JsonBody parsed(text, policy.values);
  Fields body(parsed.json(), "");
  ChatRequest request;
  request.generation = read_generation(body, policy, context.tokenizer);
  check_model_name(body, policy, request.generation.warnings);
  read_logprobs(body, request.generation);
  check_modalities(body);
  request.tools = read_tools(body, text);
  request.prompt.tools = request.tools.definitions;
  if (!request.tools.schema.empty() && context.style.tools == ChatStyle::Tools::kNone) {
    // The schema makes the call; the question has to say what for.
    request.prompt.tools.clear();
    request.generation.warnings.push_back("the model's chat template has no place for tools: it does not see them");
  }
  request.prompt.enable_thinking = read_thinking(body, request.generation.warnings);
  body.refuse({"audio", "prediction", "web_search_options", "functions", "function_call", "continue_final_message"});
  body.ignore({"add_generation_prompt"});
  ContentReader reader(policy, context.family, request.generation.warnings);
  request.messages = read_messages(body, text, policy, context.style, reader);
  request.pictures = reader.pictures();
  request.picture_paths = reader.picture_paths();
  read_constraint(body, text, context, request);
  body.report_unknown(request.generation.warnings);
  return request;
}

}  // namespace glimpse::serve
