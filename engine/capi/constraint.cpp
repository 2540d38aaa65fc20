// glimpse_constraint_*: what an answer may be.
#include "engine/constrain/constraint.h"

#include "engine/capi/handles.h"

using namespace glimpse;
using namespace glimpse::capi;

namespace {

Result<Constraint::Ptr> compile(const Tokenizer& tokenizer, int32_t kind, std::string_view text) {
  switch (kind) {
    case GLIMPSE_CONSTRAINT_JSON_SCHEMA:
      return Constraint::compile_json_schema(tokenizer, text);
    case GLIMPSE_CONSTRAINT_JSON_OBJECT:
      return Constraint::compile_json_object(tokenizer);
    case GLIMPSE_CONSTRAINT_REGEX:
      return Constraint::compile_regex(tokenizer, text);
    case GLIMPSE_CONSTRAINT_GBNF:
      return Constraint::compile_gbnf(tokenizer, text);
    default:
      return make_error(ErrorCode::kInvalidArgument, "constraint kind %d is unknown", kind);
  }
}

Status make(Result<Constraint::Ptr> constraint, glimpse_constraint** out) {
  if (!constraint.ok()) return std::move(constraint).error();
  auto handle = std::make_unique<glimpse_constraint>();
  handle->constraint = std::move(constraint).value();
  *out = handle.release();
  return {};
}

}  // namespace

extern "C" {

glimpse_status glimpse_constraint_create(const glimpse_model* model, int32_t kind, const char* text, size_t n_bytes,
                                         glimpse_constraint** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    GLIMPSE_TRY(require(model, "model"));
    std::string_view source;
    if (kind != GLIMPSE_CONSTRAINT_JSON_OBJECT) {
      GLIMPSE_TRY(require(text, "text"));
      source = n_bytes > 0 ? std::string_view(text, n_bytes) : std::string_view(text);
    }
    return make(compile(model->model->tokenizer(), kind, source), out);
  });
}

glimpse_status glimpse_constraint_create_choice(const glimpse_model* model, const char* const* texts, size_t n_texts,
                                                glimpse_constraint** out) {
  return guarded([&]() -> Status {
    GLIMPSE_TRY(clear_out(out));
    GLIMPSE_TRY(require(model, "model"));
    if (n_texts > 0) GLIMPSE_TRY(require(texts, "texts"));
    std::vector<std::string> choices;
    for (size_t i = 0; i < n_texts; ++i) {
      GLIMPSE_TRY(require(texts[i], "a text"));
      choices.emplace_back(texts[i]);
    }
    return make(Constraint::compile_choice(model->model->tokenizer(), choices), out);
  });
}

void glimpse_constraint_free(glimpse_constraint* constraint) {
  delete constraint;
}

}  // extern "C"
