#include "tools/cases/cases.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tokenizer/grounding.h"

namespace glimpse::cases {
namespace {

constexpr double kBoxOverlap = 0.7;

Score score_from_name(const std::string& name) {
  if (name == "exact") return Score::kExact;
  if (name == "list") return Score::kList;
  if (name == "box") return Score::kBox;
  throw std::runtime_error("unknown score '" + name + "'");
}

Case parse_case(const nlohmann::json& json, const std::string& folder) {
  Case c;
  c.task = json.at("task").get<std::string>();
  c.score = score_from_name(json.at("score").get<std::string>());
  for (const auto& name : json.at("pictures")) c.pictures.push_back(folder + "/" + name.get<std::string>());
  for (const auto& turn : json.at("turns")) {
    c.turns.push_back({turn.at(0).get<std::string>(), turn.at(1).get<std::string>()});
  }
  if (c.turns.empty()) throw std::runtime_error("a case without a question");
  // JSON can say it, but no text has it, and no path.
  const auto check = [](const std::string& text) {
    if (text.find('\0') != std::string::npos) throw std::runtime_error("a text with a zero byte (\\u0000)");
  };
  check(c.task);
  for (const std::string& path : c.pictures) check(path);
  for (const Turn& turn : c.turns) {
    check(turn.question);
    check(turn.answer);
  }
  return c;
}

std::string_view trimmed(std::string_view text) {
  const auto space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

// "A red star, a blue ring and a pink heart on a white background." -> its things without articles, sorted.
std::vector<std::string> things(std::string_view text) {
  std::string rest(trimmed(text));
  std::transform(rest.begin(), rest.end(), rest.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  for (const std::string word : {" and ", " on "}) {
    for (size_t at = 0; (at = rest.find(word, at)) != std::string::npos;) rest.replace(at, word.size(), ", ");
  }
  std::vector<std::string> found;
  for (size_t at = 0; at <= rest.size();) {
    const size_t comma = std::min(rest.find(", ", at), rest.size());
    std::string thing = rest.substr(at, comma - at);
    for (const std::string article : {"an ", "a "}) {
      if (thing.rfind(article, 0) == 0) thing.erase(0, article.size());
    }
    found.push_back(thing);
    at = comma + 2;
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool same_box(std::string_view said, std::string_view expected) {
  // The demo model's corners stand between control tokens, whose unit is fixed.
  const auto a = read_shapes(said, ShapeUnit::kThousandths), b = read_shapes(expected, ShapeUnit::kThousandths);
  return !a.shapes.empty() && !b.shapes.empty() && overlap(a.shapes[0], b.shapes[0]) >= kBoxOverlap;
}

}  // namespace

std::vector<Case> parse_cases(const std::string& text, const std::string& folder) {
  try {
    std::vector<Case> cases;
    const nlohmann::json file = nlohmann::json::parse(text);
    for (const auto& json : file.at("cases")) {
      try {
        cases.push_back(parse_case(json, folder));
      } catch (const std::exception& error) {
        throw std::runtime_error("case " + std::to_string(cases.size() + 1) + ": " + error.what());
      }
    }
    return cases;
  } catch (const std::exception& error) {
    throw std::runtime_error(folder + "/cases.json: " + error.what());
  }
}

std::vector<Case> load_cases(const std::string& folder) {
  const std::string path = folder + "/cases.json";
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  return parse_cases(std::string(std::istreambuf_iterator<char>(in), {}), folder);
}

bool is_right(Score score, std::string_view said, std::string_view expected) {
  switch (score) {
    case Score::kExact:
      return trimmed(said) == trimmed(expected);
    case Score::kList:
      return things(said) == things(expected);
    case Score::kBox:
      return same_box(said, expected);
  }
  return false;
}

std::pair<double, double> wilson_interval(size_t right, size_t n) {
  if (n == 0) return {0, 1};
  constexpr double kZ = 1.959964;  // of 95%, both sides
  const double count = static_cast<double>(n), share = static_cast<double>(right) / count;
  const double scale = 1 + kZ * kZ / count, middle = share + kZ * kZ / (2 * count);
  const double spread = kZ * std::sqrt(share * (1 - share) / count + kZ * kZ / (4 * count * count));
  // At the ends the interval ends at 0 and 1 exactly, which rounding would miss by a hair.
  return {right == 0 ? 0.0 : (middle - spread) / scale, right == n ? 1.0 : (middle + spread) / scale};
}

}  // namespace glimpse::cases
