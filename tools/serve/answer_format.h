// What a request wants its answer to be: JSON of a schema, one of some texts, what an expression or a grammar allows.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "engine/constrain/constraint.h"
#include "tools/serve/json_body.h"

namespace glimpse::serve {

/// Constraints that were compiled lately, by what they were compiled from. Used by any thread.
class FormatCache {
 public:
  /// most_bytes: of all kept together, when one is asked for; the one used last stays.
  explicit FormatCache(size_t most_bytes = size_t{256} << 20) : most_bytes_(most_bytes) {}
  enum class Kind { kJsonObject, kJsonSchema, kRegex, kChoice, kGrammar };

  /// source: the schema, expression or grammar; a JSON array of the texts to choose from. Errors: those of Constraint.
  Result<Constraint::Ptr> find(const Tokenizer& tokenizer, Kind kind, std::string source);

 private:
  struct Entry {
    Kind kind;
    std::string source;
    Constraint::Ptr constraint;
  };
  Constraint::Ptr look(Kind kind, const std::string& source);
  void trim();
  const size_t most_bytes_;
  std::mutex compiling_;  // taken before the other
  std::mutex mutex_;
  std::list<Entry> entries_;  // the last used first
};

/// response_format as OpenAI has it, json_schema and grammar as llama.cpp, guided_* and structured_outputs as vLLM; at
/// most one of them. text: the body, of which `body` is what was read: schemas keep the order of their keys. nullptr:
/// anything. Throws ApiError.
Constraint::Ptr read_answer_format(Fields& body, std::string_view text, const Tokenizer& tokenizer, FormatCache& cache);

}  // namespace glimpse::serve
