// JSON schemas to grammars. README.md of this room says what of JSON Schema 2020-12 is taken, and how.
#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/constrain/boxes_schema.h"
#include "engine/constrain/frontends.h"
#include "engine/constrain/json_numbers.h"
#include "engine/constrain/json_strings.h"
#include "engine/constrain/regex.h"
#include "engine/constrain/schema_document.h"

namespace glimpse::constrain {
namespace {

using Expr = GrammarBuilder::Expr;
using Rule = GrammarBuilder::Rule;
using Kind = JsonValue::Kind;

// A name that stands twice is a mistake; bounds may be larger than doubles.
constexpr JsonRules kSchemaRules = {.repeated_keys = false, .any_number = true};

constexpr uint32_t kMany = GrammarBuilder::kUnbounded;

// Which keywords speak of which type; those of all types are handled before.
struct TypeKeywords {
  const char* type;
  std::vector<std::string_view> keywords;
};
const TypeKeywords kTypes[] = {
    {"object", {"properties", "required", "additionalProperties"}},
    {"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}},
    {"string", {"minLength", "maxLength", "pattern", "format"}},
    {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}},
    {"integer", {}},
    {"boolean", {}},
    {"null", {}},
};
constexpr std::string_view kAnyType[] = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"};

bool is_known(std::string_view keyword) {
  for (const TypeKeywords& type : kTypes) {
    if (std::find(type.keywords.begin(), type.keywords.end(), keyword) != type.keywords.end()) return true;
  }
  return std::find(std::begin(kAnyType), std::end(kAnyType), keyword) != std::end(kAnyType);
}

// Any JSON, for schemas that leave it open.
class AnyJson {
 public:
  explicit AnyJson(GrammarBuilder& builder) : builder_(builder) {}

  Expr character() {
    if (!character_) character_ = builder_.as_rule(json_character(builder_), "a character");
    return *character_;
  }
  Expr string(uint32_t min = 0, uint32_t max = kMany) {
    return builder_.sequence({builder_.literal("\""), builder_.repeat(character(), min, max), builder_.literal("\"")});
  }
  Expr value() {
    if (!value_) {
      value_ = builder_.add_rule("any value");
      builder_.define(*value_,
                      builder_.choice({object(), array(), string(), number_expression(builder_, {}),
                                       builder_.literal("true"), builder_.literal("false"), builder_.literal("null")}));
    }
    return builder_.call(*value_);
  }
  Expr object() {
    if (!object_) {
      object_ = builder_.add_rule("any object");
      builder_.define(*object_, listed("{", builder_.sequence({string(), builder_.literal(": "), value()}), "}"));
    }
    return builder_.call(*object_);
  }

 private:
  Expr array() { return listed("[", value(), "]"); }
  Expr listed(std::string_view open, Expr item, std::string_view close) {
    const Expr more = builder_.repeat(builder_.sequence({builder_.literal(", "), item}), 0, kMany);
    return builder_.sequence(
        {builder_.literal(open), builder_.optional(builder_.sequence({item, more})), builder_.literal(close)});
  }

  GrammarBuilder& builder_;
  std::optional<Expr> character_;
  std::optional<Rule> value_, object_;
};

class Compiler {
 public:
  explicit Compiler(JsonValue root) : document_(std::move(root)), any_(builder_) {}

  Result<Grammar> compile() {
    const Rule root = builder_.add_rule("#");
    by_reference_.emplace("#", root);
    waiting_.push_back({root, document_.root(), "#"});
    // References, and schemas made of several, are rules of their own, compiled one after the other.
    for (; !waiting_.empty(); waiting_.pop_front()) {
      const Waiting& next = waiting_.front();
      GLIMPSE_ASSIGN(const JsonValue expanded, document_.expand(next.schema, next.at));
      GLIMPSE_ASSIGN(const Expr expr, schema(expanded, next.at));
      builder_.define(next.rule, expr);
      if (builder_.too_large()) return schema_error(next.at, "the schema is too large", ErrorCode::kTooLarge);
    }
    return builder_.build(root);
  }

 private:
  struct Waiting {
    Rule rule;
    JsonValue schema;
    std::string at;
  };

  // A schema inside another. That it asks for nothing but what a reference names, or several schemas at once, makes it
  // a rule, so that what refers to itself comes to an end.
  Result<Expr> inner(const JsonValue& schema, const std::string& at) {
    if (builder_.too_large()) return schema_error(at, "the schema is too large", ErrorCode::kTooLarge);
    const JsonValue* const reference = schema.find("$ref");
    if (SchemaDocument::is_combined(schema)) return rule_of(by_text_, write_json(schema), schema, at);
    if (reference == nullptr) return this->schema(schema, at);
    if (!reference->is(Kind::kString)) return schema_error(pointer_to(at, "$ref"), "want a string");
    GLIMPSE_ASSIGN(const JsonValue* target, document_.resolve(reference->text, pointer_to(at, "$ref")));
    return rule_of(by_reference_, reference->text, *target, shortened(reference->text));
  }

  Result<Expr> rule_of(std::map<std::string, Rule>& known, const std::string& key, const JsonValue& schema,
                       const std::string& at) {
    const auto found = known.find(key);
    if (found != known.end()) return builder_.call(found->second);
    GLIMPSE_TRY(document_.charge(schema, at));
    const Rule rule = builder_.add_rule(at);
    known.emplace(key, rule);
    waiting_.push_back({rule, schema, at});
    return builder_.call(rule);
  }

  // Without $ref and allOf at its top.
  Result<Expr> schema(const JsonValue& schema, const std::string& at) {
    if (schema.is(Kind::kBoolean)) return schema.boolean ? any_.value() : builder_.nothing();
    if (!schema.is(Kind::kObject)) return schema_error(at, "want a schema: an object or a boolean");
    GLIMPSE_TRY(check_keywords(schema, at));
    for (const char* key : {"anyOf", "oneOf"}) {
      if (schema.find(key) != nullptr) return branches(schema, key, at);
    }
    if (schema.find("enum") != nullptr || schema.find("const") != nullptr) return values(schema, at);
    GLIMPSE_ASSIGN(const std::vector<std::string> types, types_of(schema, at));
    if (types.empty()) return any_.value();
    std::vector<Expr> found;
    for (const std::string& type : types) {
      GLIMPSE_ASSIGN(const Expr one, of_type(type, schema, at));
      found.push_back(one);
    }
    return builder_.choice(std::move(found));
  }

  Status check_keywords(const JsonValue& schema, const std::string& at) const {
    for (size_t i = 0; i < schema.keys.size(); ++i) {
      const std::string& key = schema.keys[i];
      const std::string place = pointer_to(at, key);
      if (key == "$id" && at != "#") {
        return schema_error(place, "a schema with an $id of its own is not supported", ErrorCode::kUnsupported);
      }
      if (key == "uniqueItems" && schema.items[i].is(Kind::kBoolean) && !schema.items[i].boolean) continue;
      if (key == "uniqueItems" || (!is_known(key) && !is_annotation(key))) {
        return schema_error(place, format("the keyword \"%s\" is not supported", key), ErrorCode::kUnsupported);
      }
    }
    return {};
  }

  // The types that the schema names, or that its keywords speak of; none: any.
  Result<std::vector<std::string>> types_of(const JsonValue& schema, const std::string& at) const {
    std::vector<std::string> found;
    const JsonValue* const type = schema.find("type");
    const std::string place = pointer_to(at, "type");
    if (type != nullptr) {
      const std::vector<JsonValue> names = type->is(Kind::kArray) ? type->items : std::vector<JsonValue>{*type};
      if (names.empty()) return schema_error(place, "no type is left that it may be");
      for (const JsonValue& name : names) {
        const bool known = name.is(Kind::kString) && std::any_of(std::begin(kTypes), std::end(kTypes),
                                                                 [&](const auto& t) { return name.text == t.type; });
        if (!known)
          return schema_error(place, "want object, array, string, number, integer, boolean, null, or a list of these");
        found.push_back(name.text);
      }
      return found;
    }
    for (const TypeKeywords& one : kTypes) {
      const bool speaks = std::any_of(one.keywords.begin(), one.keywords.end(),
                                      [&](std::string_view key) { return schema.find(key) != nullptr; });
      if (speaks) found.push_back(one.type);
    }
    return found;
  }

  Result<Expr> of_type(const std::string& type, const JsonValue& schema, const std::string& at) {
    if (type == "object") return object(schema, at);
    if (type == "array") return array(schema, at);
    if (type == "string") return string(schema, at);
    if (type == "number" || type == "integer") return number(schema, type == "integer", at);
    if (type == "null") return builder_.literal("null");
    return builder_.choice({builder_.literal("true"), builder_.literal("false")});
  }

  // anyOf, oneOf: what stands beside them holds for each branch.
  Result<Expr> branches(const JsonValue& schema, const std::string& key, const std::string& at) {
    const std::string place = pointer_to(at, key);
    const JsonValue& list = *schema.find(key);
    if (!list.is(Kind::kArray) || list.items.empty()) return schema_error(place, "want a list of schemas");
    JsonValue beside;
    beside.kind = Kind::kObject;
    for (size_t i = 0; i < schema.keys.size(); ++i) {
      if (schema.keys[i] == key || is_annotation(schema.keys[i])) continue;
      beside.keys.push_back(schema.keys[i]);
      beside.items.push_back(schema.items[i]);
    }
    for (size_t i = 0; key == "oneOf" && i < list.items.size(); ++i) {
      for (size_t k = 0; k < i; ++k) {
        if (list.items.size() < 200 && document_.are_disjoint(list.items[k], list.items[i])) continue;
        return schema_error(place,
                            format("alternatives %d and %d may both hold, which oneOf forbids and which cannot be "
                                   "seen while the answer is written: anyOf allows it",
                                   k, i),
                            ErrorCode::kUnsupported);
      }
    }
    std::vector<Expr> found;
    for (size_t i = 0; i < list.items.size(); ++i) {
      GLIMPSE_TRY(document_.charge(list.items[i], place));
      if (!beside.keys.empty()) GLIMPSE_TRY(document_.charge(beside, place));
      const JsonValue branch = beside.keys.empty() ? list.items[i] : all_of({list.items[i], beside});
      GLIMPSE_ASSIGN(const Expr one, inner(branch, pointer_to(place, std::to_string(i))));
      found.push_back(one);
    }
    return builder_.choice(std::move(found));
  }

  // enum, const: the values themselves, of the types that the schema names.
  Result<Expr> values(const JsonValue& schema, const std::string& at) {
    for (const std::string& key : schema.keys) {
      if (key != "enum" && key != "const" && key != "type" && !is_annotation(key)) {
        return schema_error(pointer_to(at, key), "beside enum or const the keyword is not supported",
                            ErrorCode::kUnsupported);
      }
    }
    GLIMPSE_TRY(types_of(schema, at));
    const JsonValue* const listed = schema.find("enum");
    const JsonValue* const one = schema.find("const");
    if (listed != nullptr && !listed->is(Kind::kArray))
      return schema_error(pointer_to(at, "enum"), "want a list of values");
    const std::vector<JsonValue> candidates = listed != nullptr ? listed->items : std::vector<JsonValue>{*one};
    const JsonValue* const type = schema.find("type");
    const std::vector<Kind> kinds = allowed_kinds(schema);
    std::vector<Expr> found;
    for (const JsonValue& value : candidates) {
      if (one != nullptr && !same_json(value, *one)) continue;
      if (std::find(kinds.begin(), kinds.end(), value.kind) == kinds.end()) continue;
      if (type != nullptr && value.is(Kind::kNumber) && !has_type(*type, "number") && !is_integer(value)) continue;
      found.push_back(builder_.literal(write_json(value)));
    }
    if (found.empty()) return schema_error(at, "no value is left that it may be");
    return builder_.choice(std::move(found));
  }
  static bool has_type(const JsonValue& types, std::string_view name) {
    if (types.is(Kind::kString)) return types.text == name;
    return std::any_of(types.items.begin(), types.items.end(), [&](const JsonValue& t) { return t.text == name; });
  }
  static bool is_integer(const JsonValue& number) {
    const auto value = Decimal::parse(number.text);
    return value && value->is_integer();
  }

  // A count that a keyword gives.
  Result<uint32_t> count(const JsonValue& schema, const char* key, uint32_t otherwise, const std::string& at) const {
    const JsonValue* const value = schema.find(key);
    if (value == nullptr) return otherwise;
    const auto number = value->is(Kind::kNumber) ? Decimal::parse(value->text) : std::nullopt;
    if (!number || number->negative || !number->is_integer()) {
      return schema_error(pointer_to(at, key), "want a whole number, 0 or more");
    }
    const std::string digits = number->integer_part();
    if (digits.size() > 6 || std::stoul(digits) > GrammarBuilder::kMaxRepeats) {
      return schema_error(pointer_to(at, key), format("at most %d is supported", GrammarBuilder::kMaxRepeats),
                          ErrorCode::kUnsupported);
    }
    return static_cast<uint32_t>(std::stoul(digits));
  }

  Result<Expr> string(const JsonValue& schema, const std::string& at) {
    const JsonValue* const pattern = schema.find("pattern");
    const JsonValue* const named = schema.find("format");
    GLIMPSE_ASSIGN(const uint32_t min, count(schema, "minLength", 0, at));
    GLIMPSE_ASSIGN(const uint32_t max, count(schema, "maxLength", kMany, at));
    if (pattern == nullptr && named == nullptr) return max < min ? builder_.nothing() : any_.string(min, max);
    const char* const key = pattern != nullptr ? "pattern" : "format";
    for (const char* other : {"format", "minLength", "maxLength"}) {
      if (schema.find(other) != nullptr && std::string_view(other) != key) {
        return schema_error(pointer_to(at, other),
                            format("beside %s the keyword is not supported: the expression can say it", key),
                            ErrorCode::kUnsupported);
      }
    }
    const JsonValue& value = pattern != nullptr ? *pattern : *named;
    const std::string place = pointer_to(at, key);
    if (!value.is(Kind::kString)) return schema_error(place, "want a string");
    const char* const expression = pattern == nullptr ? format_expression(value.text) : nullptr;
    if (pattern == nullptr && expression == nullptr) {
      return schema_error(place, format("the format \"%s\" is not supported: %s are", value.text, known_formats()),
                          ErrorCode::kUnsupported);
    }
    RegexOptions options;
    options.anywhere = pattern != nullptr;
    options.characters = [this](const CodePointSet& set) {
      if (set == CodePointSet::all()) return any_.character();
      return json_characters(builder_, set);
    };
    auto inside = parse_regex(pattern != nullptr ? value.text : expression, builder_, options);
    if (!inside.ok()) return schema_error(place, inside.error().message, inside.error().code);
    return builder_.sequence({builder_.literal("\""), inside.value(), builder_.literal("\"")});
  }

  Result<std::optional<Decimal>> decimal(const JsonValue& schema, const char* key, const std::string& at) const {
    const JsonValue* const value = schema.find(key);
    if (value == nullptr) return std::optional<Decimal>();
    if (!value->is(Kind::kNumber)) return schema_error(pointer_to(at, key), "want a number");
    const std::optional<Decimal> number = Decimal::parse(value->text);
    if (!number) return schema_error(pointer_to(at, key), "the number has too many digits", ErrorCode::kUnsupported);
    return number;
  }

  Result<Expr> number(const JsonValue& schema, bool integer, const std::string& at) {
    NumberRange range;
    GLIMPSE_ASSIGN(const auto least, decimal(schema, "minimum", at));
    GLIMPSE_ASSIGN(const auto above, decimal(schema, "exclusiveMinimum", at));
    GLIMPSE_ASSIGN(const auto most, decimal(schema, "maximum", at));
    GLIMPSE_ASSIGN(const auto below, decimal(schema, "exclusiveMaximum", at));
    if (least) range.least = Bound{*least, false};
    if (above && (!least || compare(*above, *least) >= 0)) range.least = Bound{*above, true};
    if (most) range.most = Bound{*most, false};
    if (below && (!most || compare(*below, *most) <= 0)) range.most = Bound{*below, true};
    GLIMPSE_ASSIGN(const auto multiple, decimal(schema, "multipleOf", at));
    if (multiple) GLIMPSE_TRY(set_multiple(*multiple, range, integer, pointer_to(at, "multipleOf")));
    if (range.least && range.most) {
      const int order = compare(range.least->value, range.most->value);
      if (order > 0 || (order == 0 && (range.least->exclusive || range.most->exclusive))) return builder_.nothing();
    }
    return integer ? integer_expression(builder_, range) : number_expression(builder_, range);
  }

  // Multiples of whole numbers are whole; those of 0.1, 0.01, .. have so many digits behind the point.
  static Status set_multiple(const Decimal& multiple, NumberRange& range, bool& integer, const std::string& at) {
    if (multiple.negative || multiple.digits.empty()) return schema_error(at, "want a number above 0");
    const std::string whole = multiple.integer_part();
    if (multiple.is_integer()) {
      if (whole.size() > 4 || std::stoul(whole) > kMaxMultiple) {
        return schema_error(at, format("multiples of more than %d are not supported", kMaxMultiple),
                            ErrorCode::kUnsupported);
      }
      range.multiple = static_cast<uint32_t>(std::stoul(whole));
      integer = true;
      return {};
    }
    const int n_digits = static_cast<int>(multiple.fraction().size());
    if (multiple.digits != "1" || n_digits > 14) {
      return schema_error(at, "only whole numbers and 0.1, 0.01, .. are supported", ErrorCode::kUnsupported);
    }
    range.n_fraction_digits = static_cast<uint32_t>(n_digits);
    return {};
  }

  struct Member {
    Expr expr;
    bool required;
  };

  Result<std::vector<Member>> members(const JsonValue& schema, const std::string& at, std::vector<std::string>& names) {
    const JsonValue* const properties = schema.find("properties");
    const JsonValue* const required = schema.find("required");
    const JsonValue* const rest = schema.find("additionalProperties");
    if (properties != nullptr && !properties->is(Kind::kObject)) {
      return schema_error(pointer_to(at, "properties"), "want an object");
    }
    const auto all_strings = [](const JsonValue& list) {
      return list.is(Kind::kArray) &&
             std::all_of(list.items.begin(), list.items.end(), [](const JsonValue& v) { return v.is(Kind::kString); });
    };
    if (required != nullptr && !all_strings(*required))
      return schema_error(pointer_to(at, "required"), "want a list of names");
    std::vector<Member> found;
    std::set<std::string_view> required_names, known_names;
    for (size_t i = 0; required != nullptr && i < required->items.size(); ++i) {
      required_names.insert(required->items[i].text);
    }
    const auto add = [&](const std::string& name, const JsonValue& value, const std::string& place) -> Status {
      const bool needed = required_names.count(name) > 0;
      known_names.insert(name);
      GLIMPSE_ASSIGN(const Expr expr, inner(value, place));
      names.push_back(name);
      if (expr == builder_.nothing() && !needed) return {};
      // A rule: it is used twice, as the first member and as a further one.
      const Expr member = builder_.sequence({builder_.literal(json_quoted(name)), builder_.literal(": "), expr});
      found.push_back({builder_.as_rule(member, place), needed});
      return {};
    };
    for (size_t i = 0; properties != nullptr && i < properties->keys.size(); ++i) {
      const std::string place = pointer_to(pointer_to(at, "properties"), properties->keys[i]);
      GLIMPSE_TRY(add(properties->keys[i], properties->items[i], place));
    }
    // Names that must be there and are not described.
    const JsonValue any = JsonValue::make_boolean(true);
    for (size_t i = 0; required != nullptr && i < required->items.size(); ++i) {
      const std::string& name = required->items[i].text;
      if (known_names.count(name) > 0) continue;
      GLIMPSE_TRY(add(name, rest != nullptr ? *rest : any, pointer_to(at, "additionalProperties")));
    }
    return found;
  }

  // The members in the order of the schema, then others. Behind member i comes tail i + 1: the same whether those
  // before were said, but for the comma.
  Result<Expr> object(const JsonValue& schema, const std::string& at) {
    std::vector<std::string> names;
    GLIMPSE_ASSIGN(const std::vector<Member> listed, members(schema, at, names));
    const JsonValue* const rest = schema.find("additionalProperties");
    Expr more = builder_.nothing();
    if (rest != nullptr) {
      GLIMPSE_ASSIGN(const Expr value, inner(*rest, pointer_to(at, "additionalProperties")));
      if (value != builder_.nothing()) {
        more = builder_.sequence(
            {names.empty() ? any_.string() : other_name(builder_, names), builder_.literal(": "), value});
        more = builder_.as_rule(more, "a further member");
      }
    } else if (schema.find("properties") == nullptr && names.empty()) {
      return any_.object();
    }
    const Expr comma = builder_.literal(", ");
    Expr after = builder_.repeat(builder_.sequence({comma, more}), 0, kMany);
    Expr first = builder_.optional(builder_.sequence({more, after}));
    for (size_t i = listed.size(); i-- > 0;) {
      const Member& member = listed[i];
      const Expr said = builder_.sequence({member.expr, after});
      first = builder_.as_rule(member.required ? said : builder_.choice({said, first}), at);
      const Expr with_comma = builder_.sequence({comma, member.expr});
      after = builder_.sequence({member.required ? with_comma : builder_.optional(with_comma), after});
      after = builder_.as_rule(after, at);
    }
    return builder_.sequence({builder_.literal("{"), first, builder_.literal("}")});
  }

  Result<Expr> array(const JsonValue& schema, const std::string& at) {
    const JsonValue* const prefix = schema.find("prefixItems");
    const JsonValue* const items = schema.find("items");
    if (prefix != nullptr && !prefix->is(Kind::kArray))
      return schema_error(pointer_to(at, "prefixItems"), "want a list of schemas");
    if (items != nullptr && items->is(Kind::kArray)) {
      return schema_error(pointer_to(at, "items"), "a list of schemas is what prefixItems has",
                          ErrorCode::kUnsupported);
    }
    GLIMPSE_ASSIGN(const uint32_t min, count(schema, "minItems", 0, at));
    GLIMPSE_ASSIGN(const uint32_t max, count(schema, "maxItems", kMany, at));
    if (max < min) return builder_.nothing();
    const auto n_prefix = std::min(max, prefix != nullptr ? static_cast<uint32_t>(prefix->items.size()) : 0);
    // What nobody describes is there only if minItems asks for it, unless nothing is described.
    Expr item = n_prefix == 0 || min > n_prefix ? any_.value() : builder_.nothing();
    if (items != nullptr) {
      GLIMPSE_ASSIGN(item, inner(*items, pointer_to(at, "items")));
    }
    const uint32_t fewest = min > n_prefix ? min - n_prefix : 0;
    const uint32_t most = max == kMany ? (items == nullptr && n_prefix > 0 ? fewest : kMany) : max - n_prefix;
    const Expr comma = builder_.literal(", ");
    if (item != builder_.nothing()) item = builder_.as_rule(item, "an item");
    const Expr next = builder_.sequence({comma, item});
    Expr list;
    if (n_prefix > 0) {
      list = builder_.repeat(next, fewest, most);
    } else {
      const Expr others =
          builder_.repeat(next, fewest > 0 ? fewest - 1 : 0, most == kMany ? kMany : most - (most > 0 ? 1 : 0));
      list = builder_.sequence({item, others});
      if (most == 0) list = builder_.empty();
      if (fewest == 0) list = builder_.optional(list);
    }
    for (uint32_t i = n_prefix; i-- > 0;) {
      GLIMPSE_ASSIGN(const Expr one,
                     inner(prefix->items[i], pointer_to(pointer_to(at, "prefixItems"), std::to_string(i))));
      list = builder_.sequence({i > 0 ? comma : builder_.empty(), one, list});
      if (i >= min) list = builder_.optional(list);
      list = builder_.as_rule(list, "items");
    }
    return builder_.sequence({builder_.literal("["), list, builder_.literal("]")});
  }

  SchemaDocument document_;
  GrammarBuilder builder_;
  AnyJson any_;
  std::map<std::string, Rule> by_reference_, by_text_;
  std::deque<Waiting> waiting_;
};

}  // namespace

Result<Grammar> json_schema_grammar(std::string_view schema) {
  auto root = parse_json(schema == kBoxesSchemaName ? kBoxesSchema : schema, kSchemaRules);
  if (!root.ok()) return with_context(std::move(root).error(), "the JSON schema");
  auto grammar = Compiler(std::move(root).value()).compile();
  if (!grammar.ok()) return with_context(std::move(grammar).error(), "the JSON schema");
  return grammar;
}

Result<Grammar> json_object_grammar() {
  GrammarBuilder builder;
  AnyJson any(builder);
  const Rule root = builder.add_rule("a JSON object");
  builder.define(root, any.object());
  return builder.build(root);
}

}  // namespace glimpse::constrain
