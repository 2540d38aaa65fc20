#include "tokenizer/grounding_json.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "tokenizer/grounding_scanner.h"
#include "tokenizer/json.h"
#include "tokenizer/utf8.h"

namespace glimpse {
namespace {

constexpr int kMostDepth = 32;  // of lists and objects in one another

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// What the value of a member is to us.
std::optional<ShapeKind> coordinates_of(std::string_view key) {
  if (key.starts_with("bbox") || key == "box" || key == "boxes" || key == "box_2d") return ShapeKind::kBox;
  if (key.starts_with("point") || key.starts_with("keypoint")) return ShapeKind::kPoint;
  if (key.starts_with("polygon") || key.starts_with("quad") || key.starts_with("segmentation")) {
    return ShapeKind::kPolygon;
  }
  return std::nullopt;
}
bool is_other_label(std::string_view key) {
  constexpr std::string_view kKeys[] = {"name", "text", "text_content", "ref", "object", "category", "caption"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}
bool is_picture(std::string_view key) {
  return key == "picture" || key == "image";
}

}  // namespace

struct JsonShapeReader::Object {
  std::vector<Shape> shapes;
  std::string label;
  bool labelled = false;  // by "label" itself
  int picture = 0;
  bool has_coordinates = false;
};

// Innermost lists of numbers, one behind the other.
struct JsonShapeReader::Numbers {
  struct List {
    size_t begin = 0, end = 0;  // of values
    size_t parent = 0;          // lists with the same one are neighbours in it
  };
  std::vector<double> values;
  std::vector<List> lists;
  size_t n_parents = 0;
  bool mixed = false;  // a list has numbers and lists
};

bool JsonShapeReader::begins_at(size_t at) const {
  if (text_[at] == '{') return true;
  if (text_[at] != '[') return false;
  for (size_t i = at + 1; i < text_.size() && i < at + 64; ++i) {
    if (!is_space(text_[i])) return text_[i] == '{';
  }
  return false;
}

size_t JsonShapeReader::read(size_t at, std::vector<Shape>& out) {
  at_ = at;
  const End end = text_[at] == '{' ? object(0, out) : list(0, out);
  if (end == End::kCut && has_shapes_) cut_ = true;
  return std::max(at_, at + 1);
}

char JsonShapeReader::next() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonShapeReader::take(char c) {
  if (next() != c) return false;
  ++at_;
  return true;
}

JsonShapeReader::End JsonShapeReader::object(int depth, std::vector<Shape>& out) {
  ++at_;  // '{'
  Object object;
  End end = End::kWhole;
  while (true) {
    while (take(',')) {
    }
    if (take('}')) break;
    end = member(depth, object, out);
    if (end != End::kWhole) break;
  }
  if (end == End::kDamaged && object.has_coordinates) ++n_unreadable_;
  for (Shape& shape : object.shapes) {
    shape.label = object.label;
    shape.picture = object.picture;
    out.push_back(std::move(shape));
  }
  return end;
}

JsonShapeReader::End JsonShapeReader::list(int depth, std::vector<Shape>& out) {
  ++at_;  // '['
  while (true) {
    while (take(',')) {
    }
    if (take(']')) return End::kWhole;
    const End end = value(depth, out);
    if (end != End::kWhole) return end;
  }
}

JsonShapeReader::End JsonShapeReader::member(int depth, Object& object, std::vector<Shape>& out) {
  std::string key;
  End end = string(&key);
  if (end != End::kWhole) return end;
  if (!take(':')) return at_ >= text_.size() ? End::kCut : End::kDamaged;
  if (const auto kind = coordinates_of(key)) {
    has_shapes_ = object.has_coordinates = true;
    return coordinates(*kind, depth, object);
  }
  const char first = next();
  if ((first == '"' || first == '\'') && (key == "label" || (is_other_label(key) && !object.labelled))) {
    std::string text;
    end = string(&text);
    if (end != End::kWhole) return end;
    object.label = std::move(text);
    object.labelled = object.labelled || key == "label";
    return End::kWhole;
  }
  if (is_picture(key) && first >= '0' && first <= '9') {
    std::string_view digits;
    end = word(&digits);
    ShapeScanner in(digits);
    const auto number = in.number();
    if (number && in.done() && *number <= 1e6) object.picture = static_cast<int>(*number);
    return end;
  }
  return value(depth, out);
}

// Anything, for the objects that it may hold.
JsonShapeReader::End JsonShapeReader::value(int depth, std::vector<Shape>& out) {
  const char first = next();
  if (first == '"' || first == '\'') return string(nullptr);
  if (first == '{' || first == '[') {
    if (depth >= kMostDepth) return End::kDamaged;
    return first == '{' ? object(depth + 1, out) : list(depth + 1, out);
  }
  std::string_view ignored;
  return word(&ignored);
}

// A number, true, false or null.
JsonShapeReader::End JsonShapeReader::word(std::string_view* out) {
  next();
  const size_t begin = at_;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    const bool fits = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
                      c == '-' || c == '.' || c == '_';
    if (!fits) break;
    ++at_;
  }
  *out = text_.substr(begin, at_ - begin);
  if (at_ >= text_.size()) return End::kCut;
  return at_ > begin ? End::kWhole : End::kDamaged;
}

// "text" or 'text'. out: nullptr, or where it goes.
JsonShapeReader::End JsonShapeReader::string(std::string* out) {
  const char quote = next();
  if (quote == '\0') return End::kCut;
  if (quote != '"' && quote != '\'') return End::kDamaged;
  for (++at_; at_ < text_.size();) {
    const char c = text_[at_++];
    if (c == quote) return End::kWhole;
    if (c == '\\') {
      escape(out);
    } else if (out != nullptr) {
      out->push_back(c);
    }
  }
  return End::kCut;
}

// What follows a backslash; what is no escape of JSON is the character itself, or U+FFFD.
void JsonShapeReader::escape(std::string* out) {
  if (at_ >= text_.size()) return;
  const JsonEscape escape = json_escape(text_.substr(at_));
  const bool is_itself = escape.n_bytes == 0;
  if (out != nullptr && is_itself) out->push_back(text_[at_]);
  if (out != nullptr && !is_itself) append_utf8(escape.fault == nullptr ? escape.code_point : 0xFFFD, *out);
  at_ += is_itself ? 1 : escape.n_bytes;
}

JsonShapeReader::End JsonShapeReader::numbers(int depth, Numbers& out) {
  ++at_;  // '['
  const size_t parent = out.n_parents++, begin = out.values.size();
  bool has_lists = false, has_numbers = false;
  while (true) {
    while (take(',')) {
    }
    const char first = next();
    if (first == '\0') return End::kCut;
    if (take(']')) break;
    if (first == '[') {
      if (depth >= kMostDepth) return End::kDamaged;
      has_lists = true;
      const size_t n_lists = out.lists.size();
      const End end = numbers(depth + 1, out);
      if (end != End::kWhole) return end;
      if (out.lists.size() == n_lists + 1) out.lists.back().parent = parent;
      continue;
    }
    has_numbers = true;
    std::string_view text;
    const End end = word(&text);
    if (end != End::kWhole) return end;
    ShapeScanner in(text);
    const auto number = in.number();
    if (!number || !in.done()) return End::kDamaged;
    out.values.push_back(*number);
  }
  out.mixed = out.mixed || (has_lists && has_numbers);
  if (!has_lists) out.lists.push_back({begin, out.values.size(), parent});
  return End::kWhole;
}

JsonShapeReader::End JsonShapeReader::coordinates(ShapeKind kind, int depth, Object& object) {
  if (next() == 'n') {  // null: nothing is there
    std::string_view ignored;
    return word(&ignored);
  }
  if (next() == '\0') return End::kCut;
  if (next() != '[') {
    ++n_unreadable_;
    return value(depth, object.shapes);
  }
  Numbers found;
  const End end = numbers(0, found);
  if (end == End::kWhole && !add_shapes(kind, found, object)) ++n_unreadable_;
  return end;
}

// False when the numbers are no shapes of that kind.
bool JsonShapeReader::add_shapes(ShapeKind kind, const Numbers& numbers, Object& object) {
  if (numbers.mixed) return false;
  const auto points_of = [&](size_t begin, size_t end) {
    std::vector<ShapePoint> points;
    for (size_t i = begin; i + 1 < end; i += 2) points.push_back({numbers.values[i], numbers.values[i + 1]});
    return points;
  };
  const auto add = [&](ShapeKind as, std::vector<ShapePoint> points) {
    Shape shape;
    shape.kind = as;
    shape.points = std::move(points);
    object.shapes.push_back(std::move(shape));
  };
  bool whole = true;
  for (size_t i = 0; i < numbers.lists.size();) {
    // Lists of two numbers in one list are its points; but of several boxes or points each is one.
    size_t last = i;
    const auto is_pair = [&](size_t k) { return numbers.lists[k].end - numbers.lists[k].begin == 2; };
    if (kind != ShapeKind::kPoint && is_pair(i)) {
      while (last + 1 < numbers.lists.size() && is_pair(last + 1) &&
             numbers.lists[last + 1].parent == numbers.lists[i].parent) {
        ++last;
      }
    }
    const size_t begin = numbers.lists[i].begin, end = numbers.lists[last].end, n = end - begin;
    i = last + 1;
    if (n == 0) continue;
    if (n % 2 != 0) {
      whole = false;
    } else if (kind == ShapeKind::kPoint && n == 2) {
      add(ShapeKind::kPoint, points_of(begin, end));
    } else if (kind == ShapeKind::kBox && n == 4) {
      add(ShapeKind::kBox, points_of(begin, end));
    } else if (kind != ShapeKind::kPoint && n >= 6) {
      add(ShapeKind::kPolygon, points_of(begin, end));
    } else {
      whole = false;
    }
  }
  return whole;
}

}  // namespace glimpse
