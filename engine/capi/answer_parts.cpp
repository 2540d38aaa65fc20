// glimpse_splitter_*: an answer taken apart, and put together; tools and thinking of prompts.
#include "tokenizer/answer_parts.h"

#include <iterator>
#include <optional>

#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace {

/// Parts with the pointers that C wants. Moved, it would point at the old place.
struct View {
  AnswerParts parts;
  std::vector<glimpse_tool_call> calls;
  std::vector<const char*> problems;

  /// Allocates nothing when it was there before.
  void point() {
    calls.clear();
    problems.clear();
    for (const ToolCall& call : parts.tool_calls) calls.push_back({call.name.c_str(), call.arguments.c_str()});
    for (const std::string& problem : parts.problems) problems.push_back(problem.c_str());
  }
  Status write(glimpse_answer_parts* out) const {
    glimpse_answer_parts filled{};
    filled.reasoning = parts.reasoning.c_str();
    filled.n_reasoning_bytes = parts.reasoning.size();
    filled.content = parts.content.c_str();
    filled.n_content_bytes = parts.content.size();
    filled.tool_calls = calls.data();
    filled.n_tool_calls = calls.size();
    filled.problems = problems.data();
    filled.n_problems = problems.size();
    return write_info(filled, out);
  }
};

// What a caller's struct says.
Result<AnswerParts> parts_of(const glimpse_answer_parts& c) {
  AnswerParts parts;
  if (c.reasoning != nullptr) parts.reasoning.assign(c.reasoning, c.n_reasoning_bytes);
  if (c.n_content_bytes > 0) {
    GLIMPSE_TRY(require(c.content, "content"));
    parts.content.assign(c.content, c.n_content_bytes);
  }
  if (c.n_tool_calls > 0) GLIMPSE_TRY(require(c.tool_calls, "tool_calls"));
  for (size_t i = 0; i < c.n_tool_calls; ++i) {
    GLIMPSE_TRY(require(c.tool_calls[i].name, "a tool call's name"));
    GLIMPSE_TRY(require(c.tool_calls[i].arguments, "a tool call's arguments"));
    parts.tool_calls.push_back({c.tool_calls[i].name, c.tool_calls[i].arguments});
  }
  return parts;
}

}  // namespace

struct glimpse_splitter {
  std::optional<AnswerSplitter> splitter;
  View piece, whole;

  // What may run out of memory comes first: a call that fails has changed nothing.
  Status take(std::string_view text, bool finish, glimpse_answer_parts* out) {
    if (out != nullptr) GLIMPSE_TRY(check_info(out));
    AnswerSplitter next = *splitter;
    View now;
    now.parts = finish ? next.finish() : next.push(text);
    AnswerParts copy = now.parts, &all = whole.parts;
    all.reasoning.reserve(all.reasoning.size() + copy.reasoning.size());
    all.content.reserve(all.content.size() + copy.content.size());
    all.tool_calls.reserve(all.tool_calls.size() + copy.tool_calls.size());
    all.problems.reserve(all.problems.size() + copy.problems.size());
    now.point();

    piece = std::move(now);
    piece.point();
    append_parts(all, std::move(copy));
    splitter.emplace(std::move(next));
    return out == nullptr ? Status() : piece.write(out);
  }
};

namespace glimpse::capi {

Result<PromptOptions> prompt_options(const char* const* tools, size_t n_tools, int32_t thinking) {
  PromptOptions options;
  if (n_tools > 0) GLIMPSE_TRY(require(tools, "tools"));
  for (size_t i = 0; i < n_tools; ++i) {
    GLIMPSE_TRY(require(tools[i], "a tool"));
    options.tools.emplace_back(tools[i]);
  }
  if (thinking < GLIMPSE_THINKING_DEFAULT || thinking > GLIMPSE_THINKING_OFF) {
    return make_error(ErrorCode::kInvalidArgument, "thinking %d is unknown", thinking);
  }
  if (thinking != GLIMPSE_THINKING_DEFAULT) options.enable_thinking = thinking == GLIMPSE_THINKING_ON;
  return options;
}

}  // namespace glimpse::capi

extern "C" {

size_t glimpse_prompt_params_init(glimpse_prompt_params* params, size_t struct_size) {
  return init_params(params, struct_size, [](auto*) {});
}

glimpse_status glimpse_session_set_prompt_params(glimpse_session* session, const glimpse_prompt_params* given) {
  return guarded([&]() -> Status {
    GLIMPSE_ASSIGN(const glimpse_prompt_params params, given_params(given, glimpse_prompt_params_init));
    SessionUse use;
    GLIMPSE_TRY(use.begin_reading(session));
    GLIMPSE_ASSIGN(PromptOptions options, prompt_options(params.tools, params.n_tools, params.thinking));
    session->session->set_prompt_options(std::move(options));
    return {};
  });
}

size_t glimpse_splitter_params_init(glimpse_splitter_params* params, size_t struct_size) {
  return init_params(params, struct_size, [](auto*) {});
}

glimpse_status glimpse_splitter_create(const glimpse_splitter_params* given, glimpse_splitter** out) {
  return give_handle(out, [&](glimpse_splitter& handle) -> Status {
    GLIMPSE_ASSIGN(const glimpse_splitter_params params, given_params(given, glimpse_splitter_params_init));
    handle.splitter.emplace(
        AnswerSplitter::Options{.thinking_open = params.thinking_open != 0, .tool_calls = params.tool_calls != 0});
    return {};
  });
}

void glimpse_splitter_free(glimpse_splitter* splitter) {
  delete splitter;
}

glimpse_status glimpse_splitter_push(glimpse_splitter* splitter, const char* text, size_t n_bytes,
                                     glimpse_answer_parts* parts) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(splitter, "splitter"));
    if (n_bytes > 0) GLIMPSE_TRY(require(text, "text"));
    return splitter->take({text, n_bytes}, false, parts);
  });
}

glimpse_status glimpse_splitter_finish(glimpse_splitter* splitter, glimpse_answer_parts* parts) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(splitter, "splitter"));
    return splitter->take({}, true, parts);
  });
}

glimpse_status glimpse_splitter_get(glimpse_splitter* splitter, glimpse_answer_parts* parts) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(splitter, "splitter"));
    splitter->whole.point();
    return splitter->whole.write(parts);
  });
}

glimpse_status glimpse_join_answer(const glimpse_model* model, const glimpse_answer_parts* given, char* text,
                                   size_t capacity, size_t* n_bytes, size_t* n_thinking_bytes) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(require(model, "model"));
    GLIMPSE_TRY(require(n_thinking_bytes, "n_thinking_bytes"));
    glimpse_answer_parts c{};
    GLIMPSE_TRY(read_params(given, &c));
    GLIMPSE_ASSIGN(const AnswerParts parts, parts_of(c));
    GLIMPSE_ASSIGN(const JoinedAnswer joined,
                   join_answer(parts, model->model->chat_format().style, c.reasoning != nullptr));
    *n_thinking_bytes = joined.thinking.size();
    return copy_out(joined.thinking + joined.said, "text", text, capacity, n_bytes);
  });
}

}  // extern "C"
