// Tools in the bodies of requests: what the model may call, what it called, what came of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/function_ref.h"
#include "tokenizer/answer_parts.h"
#include "tokenizer/chat_style.h"
#include "tools/serve/json_body.h"

namespace glimpse::serve {

struct ToolChoice {
  std::vector<std::string> definitions;  // JSON objects, keys in the client's order; none: no tools
  /// Set when the model must call: a JSON schema of its answer, which is then the arguments of `only`, or, when that is
  /// empty, an array of {"name", "arguments"}.
  std::string schema;
  std::string only;
};

/// The calls of an answer of that schema; none when it is cut short.
std::vector<ToolCall> forced_calls(const ToolChoice& choice, std::string_view answer);

/// tools and tool_choice. text: the body, of which `body` is what was read. Throws ApiError.
ToolChoice read_tools(Fields& body, std::string_view text);

/// The texts of an assistant's message that thought, spoke and called tools, as its chat template has them. written:
/// the message as it stands in the body, asked for where that is needed. Throws ApiError.
JoinedAnswer assistant_texts(Fields& message, const std::string& content, const ChatStyle& style,
                             FunctionRef<std::string_view()> written);

/// The bytes of the value of a key of the object that a valid JSON text is; "" when the key is not there, or spelled
/// with escapes. Of a key that comes twice, the first.
std::string_view member_text(std::string_view object, std::string_view key);
/// The bytes of each element of the array that a valid JSON text is; one of no bytes when it is empty or no array.
std::vector<std::string_view> element_texts(std::string_view array);
/// What was read of it, as the client wrote it, its keys in their order; where that cannot be found in the text (a key
/// that comes twice, or is spelled with escapes), or has more than `most` bytes, as we write it: values that are many
/// would be in memory twice.
std::string written_member(std::string_view object, std::string_view key, const Json& value, size_t most);

}  // namespace glimpse::serve
