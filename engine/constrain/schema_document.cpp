#include "engine/constrain/schema_document.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <optional>

#include "engine/constrain/decimal.h"

namespace glimpse::constrain {
namespace {

using Kind = JsonValue::Kind;

constexpr size_t kMostCompared = 64;      // schemas of an allOf, for equal ones
constexpr int kMostReferences = 64;       // one behind the other
constexpr int64_t kMostCopied = 1 << 21;  // values
constexpr size_t kMostPointer = 512;      // bytes: a schema of long names has many places

constexpr std::string_view kAnnotations[] = {
    "$schema",  "$id",        "$comment", "$defs",     "definitions",      "title",          "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding"};

// Values, and texts as if they were so many.
int64_t size_of(const JsonValue& value) {
  size_t n_bytes = value.text.size();
  for (const std::string& key : value.keys) n_bytes += key.size();
  auto n = static_cast<int64_t>(1 + n_bytes / sizeof(JsonValue));
  for (const JsonValue& item : value.items) n += size_of(item);
  return n;
}

bool has_type(const JsonValue& types, std::string_view name) {
  if (types.is(Kind::kString)) return types.text == name;
  return std::any_of(types.items.begin(), types.items.end(), [&](const JsonValue& t) { return t.text == name; });
}

JsonValue list_of(std::vector<JsonValue> items) {
  return {Kind::kArray, false, {}, std::move(items), {}};
}

// Types of both lists; an integer is a number.
JsonValue common_types(const JsonValue& a, const JsonValue& b) {
  std::vector<JsonValue> found;
  for (const char* name : {"object", "array", "string", "number", "integer", "boolean", "null"}) {
    const bool is_integer = std::string_view(name) == "integer";
    const bool in_a = has_type(a, name), in_b = has_type(b, name);
    const bool wide_a = is_integer && has_type(a, "number"), wide_b = is_integer && has_type(b, "number");
    if ((in_a && in_b) || (in_a && wide_b) || (in_b && wide_a)) found.push_back(JsonValue::make_string(name));
  }
  return list_of(std::move(found));
}

// The values that const and enum leave; nullopt: any.
std::optional<std::vector<JsonValue>> listed_values(const JsonValue& schema) {
  const JsonValue* const one = schema.find("const");
  const JsonValue* const several = schema.find("enum");
  if (one == nullptr && several == nullptr) return std::nullopt;
  if (one == nullptr) return several->items;
  if (several != nullptr && std::none_of(several->items.begin(), several->items.end(),
                                         [&](const JsonValue& v) { return same_json(v, *one); })) {
    return std::vector<JsonValue>();
  }
  return std::vector<JsonValue>{*one};
}

// Of two bounds the narrower.
bool is_narrower(const std::string& key, const JsonValue& a, const JsonValue& b) {
  const auto x = Decimal::parse(a.text), y = Decimal::parse(b.text);
  if (!x || !y) return false;
  const bool is_least = key == "minimum" || key == "exclusiveMinimum" || key == "minLength" || key == "minItems";
  return is_least ? compare(*x, *y) > 0 : compare(*x, *y) < 0;
}

bool is_bound(const std::string& key) {
  for (const char* name : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
                           "minItems", "maxItems"}) {
    if (key == name) return true;
  }
  return false;
}

}  // namespace

Error schema_error(const std::string& at, std::string_view what, ErrorCode code) {
  return make_error(code, "%s: %s", at, what);
}

std::string shortened(std::string_view pointer) {
  size_t n = std::min(pointer.size(), kMostPointer);
  while (n < pointer.size() && (static_cast<unsigned char>(pointer[n]) & 0xC0) == 0x80) ++n;  // whole characters
  return std::string(pointer.substr(0, n)) + (n < pointer.size() ? "..." : "");
}

std::string pointer_to(const std::string& at, std::string_view key) {
  if (at.size() >= kMostPointer) return at;
  std::string text = at + "/";
  for (const char c : shortened(key)) {
    if (c == '~') {
      text += "~0";
    } else if (c == '/') {
      text += "~1";
    } else {
      text += c;
    }
  }
  return shortened(text);
}

bool is_annotation(std::string_view keyword) {
  return keyword.substr(0, 2) == "x-" ||
         std::find(std::begin(kAnnotations), std::end(kAnnotations), keyword) != std::end(kAnnotations);
}

bool same_json(const JsonValue& a, const JsonValue& b) {
  if (a.kind != b.kind || a.boolean != b.boolean || a.items.size() != b.items.size()) return false;
  if (a.is(Kind::kArray)) return std::equal(a.items.begin(), a.items.end(), b.items.begin(), same_json);
  if (a.is(Kind::kNumber)) {
    const auto x = Decimal::parse(a.text), y = Decimal::parse(b.text);
    if (x && y) return *x == *y;
  }
  const auto by_name = [](const JsonValue& object) {
    std::vector<size_t> order(object.keys.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t i, size_t k) { return object.keys[i] < object.keys[k]; });
    return order;
  };
  const std::vector<size_t> in_a = by_name(a), in_b = by_name(b);
  return a.text == b.text && std::equal(in_a.begin(), in_a.end(), in_b.begin(), [&](size_t i, size_t k) {
           return a.keys[i] == b.keys[k] && same_json(a.items[i], b.items[k]);
         });
}

JsonValue all_of(std::vector<JsonValue> schemas) {
  std::vector<JsonValue> flat;
  for (JsonValue& schema : schemas) {
    const JsonValue* const inner = schema.keys.size() == 1 ? schema.find("allOf") : nullptr;
    for (const JsonValue& one : inner != nullptr ? inner->items : std::vector<JsonValue>{schema}) {
      if (one.is(Kind::kBoolean) && one.boolean) continue;
      if (flat.size() > kMostCompared ||
          std::none_of(flat.begin(), flat.end(), [&](const JsonValue& known) { return same_json(known, one); })) {
        flat.push_back(one);
      }
    }
  }
  if (flat.empty()) return JsonValue::make_boolean(true);
  if (flat.size() == 1) return std::move(flat[0]);
  JsonValue result;
  result.kind = Kind::kObject;
  result.set("allOf", list_of(std::move(flat)));
  return result;
}

std::vector<Kind> allowed_kinds(const JsonValue& schema) {
  std::vector<Kind> kinds;
  const auto listed = listed_values(schema);
  const JsonValue* const types = schema.find("type");
  for (const Kind kind : {Kind::kNull, Kind::kBoolean, Kind::kNumber, Kind::kString, Kind::kArray, Kind::kObject}) {
    const bool by_type = types == nullptr || has_type(*types, json_kind_name(kind)) ||
                         (kind == Kind::kNumber && has_type(*types, "integer"));
    const bool by_value =
        !listed || std::any_of(listed->begin(), listed->end(), [&](const JsonValue& v) { return v.is(kind); });
    if (by_type && by_value) kinds.push_back(kind);
  }
  return kinds;
}

// ----------------------------------------------------------------------------------------------------------------------

Result<const JsonValue*> SchemaDocument::resolve(const std::string& reference, const std::string& at) const {
  if (reference.empty() || reference[0] != '#') {
    return schema_error(
        at, format("\"%s\" is in another document: references within the schema (#/$defs/..) are supported", reference),
        ErrorCode::kUnsupported);
  }
  if (reference.size() > 1 && reference[1] != '/') {
    return schema_error(at, format("\"%s\" is an anchor: pointers (#/$defs/..) are supported", reference),
                        ErrorCode::kUnsupported);
  }
  const JsonValue* value = &root_;
  for (size_t begin = 2; begin <= reference.size() && value != nullptr;) {
    const size_t end = std::min(reference.find('/', begin), reference.size());
    std::string key;
    for (size_t i = begin; i < end; ++i) {
      const auto hex = [](char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; };
      if (reference[i] == '%' && i + 2 < end && std::isxdigit(static_cast<unsigned char>(reference[i + 1])) &&
          std::isxdigit(static_cast<unsigned char>(reference[i + 2]))) {
        key += static_cast<char>(16 * hex(reference[i + 1]) + hex(reference[i + 2]));
        i += 2;
      } else if (reference[i] == '~' && i + 1 < end) {
        key += reference[++i] == '0' ? '~' : '/';
      } else {
        key += reference[i];
      }
    }
    if (value->is(Kind::kArray)) {
      size_t index = value->items.size();
      if (!key.empty() && key.size() < 9 && key.find_first_not_of("0123456789") == std::string::npos) {
        index = static_cast<size_t>(std::stoul(key));
      }
      value = index < value->items.size() ? &value->items[index] : nullptr;
    } else {
      value = value->find(key);
    }
    begin = end + 1;
  }
  if (value == nullptr) return schema_error(at, format("there is nothing at \"%s\"", reference));
  return value;
}

bool SchemaDocument::is_combined(const JsonValue& schema) {
  if (schema.find("allOf") != nullptr) return true;
  if (schema.find("$ref") == nullptr) return false;
  return std::any_of(schema.keys.begin(), schema.keys.end(),
                     [](const std::string& key) { return key != "$ref" && !is_annotation(key); });
}

// Lists of which each is compared with each.
Status SchemaDocument::charge_pairs(size_t a, size_t b, const std::string& at) {
  n_copied_ += static_cast<int64_t>(std::min(a, size_t{1} << 20) * std::min(b, size_t{1} << 20) / 16);
  return charge(JsonValue(), at);
}

// Schemas whose merging makes ever new ones end here.
Status SchemaDocument::charge(const JsonValue& copied, const std::string& at) {
  n_copied_ += size_of(copied);
  if (n_copied_ > kMostCopied) {
    return schema_error(at, "the schema is too large, or its allOf and $ref make ever new ones", ErrorCode::kTooLarge);
  }
  return {};
}

Result<JsonValue> SchemaDocument::expand(const JsonValue& schema, const std::string& at) {
  return expand(schema, at, 0);
}

Result<JsonValue> SchemaDocument::expand(const JsonValue& schema, const std::string& at, int depth) {
  if (depth > kMostReferences) return schema_error(at, "it refers to itself, or through too many references");
  GLIMPSE_TRY(charge(schema, at));
  const JsonValue* const reference = schema.find("$ref");
  const JsonValue* const all = schema.find("allOf");
  if (reference == nullptr && all == nullptr) return schema;
  JsonValue result;
  result.kind = Kind::kObject;
  for (size_t i = 0; i < schema.keys.size(); ++i) {
    if (schema.keys[i] == "$ref" || schema.keys[i] == "allOf") continue;
    result.keys.push_back(schema.keys[i]);  // which are different ones: set() would look
    result.items.push_back(schema.items[i]);
  }
  if (reference != nullptr) {
    if (!reference->is(Kind::kString)) return schema_error(pointer_to(at, "$ref"), "want a string");
    GLIMPSE_ASSIGN(const JsonValue* target, resolve(reference->text, pointer_to(at, "$ref")));
    GLIMPSE_ASSIGN(const JsonValue meant, expand(*target, shortened(reference->text), depth + 1));
    GLIMPSE_ASSIGN(result, both(meant, result, at));
  }
  if (all != nullptr) {
    const std::string here = pointer_to(at, "allOf");
    if (!all->is(Kind::kArray) || all->items.empty()) return schema_error(here, "want a list of schemas");
    for (size_t i = 0; i < all->items.size(); ++i) {
      const std::string place = pointer_to(here, std::to_string(i));
      GLIMPSE_ASSIGN(const JsonValue one, expand(all->items[i], place, depth + 1));
      GLIMPSE_ASSIGN(result, both(result, one, place));
    }
  }
  return result;
}

Result<JsonValue> SchemaDocument::both(const JsonValue& a, const JsonValue& b, const std::string& at) {
  GLIMPSE_TRY(charge(a, at));
  GLIMPSE_TRY(charge(b, at));
  for (const JsonValue* one : {&a, &b}) {
    if (one->is(Kind::kBoolean)) return one->boolean ? (one == &a ? b : a) : *one;
    if (!one->is(Kind::kObject)) return schema_error(at, "want a schema: an object or a boolean");
  }
  GLIMPSE_TRY(charge_pairs(a.keys.size(), b.keys.size(), at));
  JsonValue result = a;
  // Members that one of them lists are for the other among the rest.
  const JsonValue* const rest_a = a.find("additionalProperties");
  const JsonValue* const rest_b = b.find("additionalProperties");
  const JsonValue* const members_a = a.find("properties");
  const JsonValue* const members_b = b.find("properties");
  if (members_a != nullptr || members_b != nullptr) {
    JsonValue members;
    members.kind = Kind::kObject;
    const auto add = [&](const JsonValue* from, const JsonValue* other, const JsonValue* rest) {
      for (size_t i = 0; from != nullptr && i < from->keys.size(); ++i) {
        const JsonValue* const also = other != nullptr ? other->find(from->keys[i]) : nullptr;
        const JsonValue* const second = also != nullptr ? also : rest;
        if (members.find(from->keys[i]) != nullptr) continue;
        members.set(from->keys[i], second == nullptr ? from->items[i] : all_of({from->items[i], *second}));
      }
    };
    for (const JsonValue* one : {members_a, members_b}) {
      if (one != nullptr && !one->is(Kind::kObject))
        return schema_error(pointer_to(at, "properties"), "want an object");
    }
    const size_t n_a = members_a != nullptr ? members_a->keys.size() : 0;
    const size_t n_b = members_b != nullptr ? members_b->keys.size() : 0;
    GLIMPSE_TRY(charge_pairs(n_a + n_b, n_a + n_b, at));
    add(members_a, members_b, rest_b);
    add(members_b, members_a, rest_a);
    result.set("properties", std::move(members));
  }
  GLIMPSE_ASSIGN(const bool lists_joined, join_lists(result, a, b, at));
  for (size_t i = 0; i < b.keys.size(); ++i) {
    if (b.keys[i] == "properties") continue;
    if (lists_joined && (b.keys[i] == "prefixItems" || b.keys[i] == "items")) continue;
    if (result.find(b.keys[i]) == nullptr) {
      result.set(b.keys[i], b.items[i]);
    } else if (!is_annotation(b.keys[i])) {
      GLIMPSE_TRY(join_keyword(result, b.keys[i], b.items[i], at));
    }
  }
  if (a.find("const") != nullptr && b.find("const") != nullptr && !same_json(*a.find("const"), *b.find("const"))) {
    return JsonValue::make_boolean(false);
  }
  return result;
}

// prefixItems of one of them stand where the other's items, or its own prefixItems, hold as well. False: there is
// nothing to join.
Result<bool> SchemaDocument::join_lists(JsonValue& to, const JsonValue& a, const JsonValue& b, const std::string& at) {
  const JsonValue any = JsonValue::make_boolean(true);
  const JsonValue* const prefix[] = {a.find("prefixItems"), b.find("prefixItems")};
  const JsonValue* const items[] = {a.find("items"), b.find("items")};
  if ((prefix[0] == nullptr && items[0] == nullptr) || (prefix[1] == nullptr && items[1] == nullptr)) return false;
  if (prefix[0] == nullptr && prefix[1] == nullptr) return false;
  size_t n = 0;
  for (const JsonValue* one : prefix) {
    if (one == nullptr) continue;
    if (!one->is(Kind::kArray)) return schema_error(pointer_to(at, "prefixItems"), "want a list of schemas");
    n = std::max(n, one->items.size());
  }
  const auto of = [&](int which, size_t i) -> const JsonValue& {
    if (prefix[which] != nullptr && i < prefix[which]->items.size()) return prefix[which]->items[i];
    return items[which] != nullptr ? *items[which] : any;
  };
  std::vector<JsonValue> joined;
  for (size_t i = 0; i < n; ++i) {
    joined.push_back(all_of({of(0, i), of(1, i)}));
    GLIMPSE_TRY(charge(joined.back(), at));
  }
  to.set("prefixItems", list_of(std::move(joined)));
  if (items[0] != nullptr || items[1] != nullptr) to.set("items", all_of({of(0, n), of(1, n)}));
  return true;
}

// A keyword that both have, properties apart.
Status SchemaDocument::join_keyword(JsonValue& to, const std::string& key, const JsonValue& value,
                                    const std::string& at) {
  const JsonValue& known = *to.find(key);
  const std::string place = pointer_to(at, key);
  GLIMPSE_TRY(charge_pairs(known.items.size(), value.items.size(), place));
  if (same_json(known, value)) return {};
  if (key == "type") {
    to.set(key, common_types(known, value));
  } else if (key == "required") {
    JsonValue names = known;
    for (const JsonValue& name : value.items) {
      if (std::none_of(names.items.begin(), names.items.end(),
                       [&](const JsonValue& n) { return same_json(n, name); })) {
        names.items.push_back(name);
      }
    }
    to.set(key, std::move(names));
  } else if (key == "enum") {
    std::vector<JsonValue> common;
    for (const JsonValue& one : known.items) {
      if (std::any_of(value.items.begin(), value.items.end(), [&](const JsonValue& v) { return same_json(v, one); })) {
        common.push_back(one);
      }
    }
    to.set(key, list_of(std::move(common)));
  } else if (key == "additionalProperties" || key == "items") {  // beside prefixItems join_lists() has them
    to.set(key, all_of({known, value}));
  } else if (key == "anyOf" || key == "oneOf") {
    // One of these and one of those: each of these with one of those.
    JsonValue choice;
    choice.kind = Kind::kObject;
    choice.set(key, value);
    std::vector<JsonValue> branches;
    for (const JsonValue& branch : known.items) {
      branches.push_back(all_of({branch, choice}));
      GLIMPSE_TRY(charge(branches.back(), place));
    }
    to.set(key, list_of(std::move(branches)));
  } else if (is_bound(key)) {
    if (is_narrower(key, value, known)) to.set(key, value);
  } else if (key != "const") {
    return schema_error(place, "the keyword stands in several schemas that hold at once: that is not supported",
                        ErrorCode::kUnsupported);
  }
  return {};
}

// ----------------------------------------------------------------------------------------------------------------------

bool SchemaDocument::are_disjoint(const JsonValue& first, const JsonValue& second, int depth) {
  if (depth > 8) return false;
  const Result<JsonValue> expanded_a = expand(first, "#"), expanded_b = expand(second, "#");
  if (!expanded_a.ok() || !expanded_b.ok()) return false;
  const JsonValue &a = expanded_a.value(), &b = expanded_b.value();
  for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (one->is(Kind::kBoolean) && !one->boolean) return true;
    for (const char* key : {"anyOf", "oneOf"}) {
      const JsonValue* const branches = one->find(key);
      if (branches != nullptr && branches->is(Kind::kArray) &&
          std::all_of(branches->items.begin(), branches->items.end(),
                      [&, o = other](const JsonValue& branch) { return are_disjoint(branch, *o, depth + 1); })) {
        return true;
      }
    }
  }
  const std::vector<Kind> kinds_a = allowed_kinds(a), kinds_b = allowed_kinds(b);
  std::vector<Kind> common;
  std::set_intersection(kinds_a.begin(), kinds_a.end(), kinds_b.begin(), kinds_b.end(), std::back_inserter(common));
  if (common.empty()) return true;
  const auto listed_a = listed_values(a), listed_b = listed_values(b);
  if (listed_a && listed_b) {
    if (!charge_pairs(listed_a->size(), listed_b->size(), "#").ok()) return false;
    return std::none_of(listed_a->begin(), listed_a->end(), [&](const JsonValue& x) {
      return std::any_of(listed_b->begin(), listed_b->end(), [&](const JsonValue& y) { return same_json(x, y); });
    });
  }
  return common == std::vector<Kind>{Kind::kObject} &&
         (have_disjoint_members(a, b, depth) || have_disjoint_members(b, a, depth));
}

// A member that a asks for, and that b does not let be what it must be.
bool SchemaDocument::have_disjoint_members(const JsonValue& a, const JsonValue& b, int depth) {
  const JsonValue* const required = a.find("required");
  if (required == nullptr) return false;
  const JsonValue any = JsonValue::make_boolean(true);
  for (const JsonValue& name : required->items) {
    const auto member = [&](const JsonValue& schema) -> const JsonValue& {
      const JsonValue* const members = schema.find("properties");
      const JsonValue* const found = members != nullptr ? members->find(name.text) : nullptr;
      const JsonValue* const rest = schema.find("additionalProperties");
      return found != nullptr ? *found : rest != nullptr ? *rest : any;
    };
    if (are_disjoint(member(a), member(b), depth + 1)) return true;
  }
  return false;
}

}  // namespace glimpse::constrain
