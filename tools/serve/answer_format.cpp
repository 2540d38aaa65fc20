#include "tools/serve/answer_format.h"

#include <algorithm>

#include "tools/serve/tools_request.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostKept = 32;

using Kind = FormatCache::Kind;

/// What was asked for, and the field that asked.
struct Wish {
  Kind kind;
  std::string source;
  std::string path;
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  void read(Fields& body) {
    read_response_format(body);
    read_schema(body, "json_schema", text_);
    read_schema(body, "guided_json", text_);
    read_text(body, "grammar", Kind::kGrammar);
    read_text(body, "guided_grammar", Kind::kGrammar);
    read_text(body, "guided_regex", Kind::kRegex);
    read_choice(body, "guided_choice");
    read_structured_outputs(body);
  }
  const std::vector<Wish>& wishes() const { return wishes_; }

 private:
  void add(Kind kind, std::string source, std::string path) {
    wishes_.push_back({kind, std::move(source), std::move(path)});
    if (wishes_.size() > 1) {
      refuse_field(wishes_[1].path, format("there is %s as well: only one can be had", wishes_[0].path));
    }
  }

  // A schema as an object, or as a string that is one. `object`: the text that the field stands in.
  void read_schema(Fields& fields, const char* name, std::string_view object) {
    const Json* const schema = fields.find(name);
    if (schema == nullptr) return;
    if (schema->is_string()) return add(Kind::kJsonSchema, schema->get<std::string>(), fields.path(name));
    if (!schema->is_object() && !schema->is_boolean()) refuse_field(fields.path(name), "want a JSON schema");
    add(Kind::kJsonSchema, written_member(object, name, *schema, Constraint::kMaxSourceBytes), fields.path(name));
  }

  void read_text(Fields& fields, const char* name, Kind kind) {
    const std::string source = fields.text(name, "");
    if (!source.empty()) add(kind, source, fields.path(name));
  }

  void read_choice(Fields& fields, const char* name) {
    const Json* const choice = fields.find(name);
    if (choice == nullptr) return;
    const bool is_list = choice->is_array() && !choice->empty() &&
                         std::all_of(choice->begin(), choice->end(), [](const Json& text) { return text.is_string(); });
    if (!is_list) refuse_field(fields.path(name), "want an array of strings");
    add(Kind::kChoice, dump(*choice), fields.path(name));
  }

  void read_response_format(Fields& body) {
    const Json* const given = body.find("response_format");
    if (given == nullptr) return;
    const std::string_view object = member_text(text_, "response_format");
    Fields fields(*given, body.path("response_format"));
    const std::string type = fields.need_text("type");
    if (type == "text") return;
    if (type == "json_object") {
      if (fields.find("schema") != nullptr) return read_schema(fields, "schema", object);
      return add(Kind::kJsonObject, "", fields.path("type"));
    }
    if (type != "json_schema") {
      refuse_field(fields.path("type"), "want text, json_object or json_schema");
    }
    Fields schema(fields.need("json_schema"), fields.path("json_schema"));
    schema.need("schema");
    read_schema(schema, "schema", member_text(object, "json_schema"));
  }

  void read_structured_outputs(Fields& body) {
    const Json* const given = body.find("structured_outputs");
    if (given == nullptr) return;
    Fields fields(*given, body.path("structured_outputs"));
    read_schema(fields, "json", member_text(text_, "structured_outputs"));
    read_text(fields, "regex", Kind::kRegex);
    read_text(fields, "grammar", Kind::kGrammar);
    read_choice(fields, "choice");
    if (fields.flag("json_object", false)) add(Kind::kJsonObject, "", fields.path("json_object"));
    fields.refuse({"structural_tag"});
  }

  const std::string_view text_;
  std::vector<Wish> wishes_;
};

Result<Constraint::Ptr> compile(const Tokenizer& tokenizer, Kind kind, const std::string& source) {
  switch (kind) {
    case Kind::kJsonObject:
      return Constraint::compile_json_object(tokenizer);
    case Kind::kJsonSchema:
      return Constraint::compile_json_schema(tokenizer, source);
    case Kind::kRegex:
      return Constraint::compile_regex(tokenizer, source);
    case Kind::kGrammar:
      return Constraint::compile_gbnf(tokenizer, source);
    case Kind::kChoice:
      break;
  }
  return Constraint::compile_choice(tokenizer, Json::parse(source).get<std::vector<std::string>>());
}

}  // namespace

Result<Constraint::Ptr> FormatCache::find(const Tokenizer& tokenizer, Kind kind, std::string source) {
  if (Constraint::Ptr known = look(kind, source)) return known;
  // A few letters may take a hundred megabytes to compile: one after another, whoever asks.
  const std::lock_guard alone(compiling_);
  if (Constraint::Ptr known = look(kind, source)) return known;  // somebody else's
  GLIMPSE_ASSIGN(Constraint::Ptr made, compile(tokenizer, kind, source));
  const std::lock_guard lock(mutex_);
  entries_.push_front({kind, std::move(source), made});
  trim();
  return made;
}

Constraint::Ptr FormatCache::look(Kind kind, const std::string& source) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->kind != kind || entry->source != source) continue;
    entries_.splice(entries_.begin(), entries_, entry);
    trim();
    return entries_.front().constraint;
  }
  return nullptr;
}

// They grow as answers go through them.
void FormatCache::trim() {
  size_t n_bytes = 0;
  for (const Entry& entry : entries_) n_bytes += entry.source.size() + entry.constraint->memory_bytes();
  while (entries_.size() > kMostKept || (entries_.size() > 1 && n_bytes > most_bytes_)) {
    n_bytes -= std::min(n_bytes, entries_.back().source.size() + entries_.back().constraint->memory_bytes());
    entries_.pop_back();
  }
}

Constraint::Ptr read_answer_format(Fields& body, std::string_view text, const Tokenizer& tokenizer,
                                   FormatCache& cache) {
  Reader reader(text);
  reader.read(body);
  if (reader.wishes().empty()) return nullptr;
  const Wish& wish = reader.wishes().front();
  Result<Constraint::Ptr> constraint = cache.find(tokenizer, wish.kind, wish.source);
  if (!constraint.ok()) refuse_field(wish.path, constraint.error().message);
  return std::move(constraint).value();
}

}  // namespace glimpse::serve
