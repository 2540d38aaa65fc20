// Questions about pictures with known answers: a set of cases in a file, and when an answer counts as right.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace glimpse::cases {

/// How an answer is compared with the expected one.
enum class Score {
  kExact,  // the same text, but for white space around it
  kList,   // "A red star and a blue ring on a white background.": the same things, in any order
  kBox,    // the first box overlaps the expected one with IoU >= 0.7
};

struct Turn {
  std::string question, answer;
};

/// One scored answer: that to the last turn. The turns before it are asked too and stand in the conversation.
struct Case {
  std::string task;
  std::vector<std::string> pictures;  // paths
  std::vector<Turn> turns;            // at least one
  Score score = Score::kExact;
};

/// The cases of `folder`/cases.json, which tools/demo_model/heldout.py writes; picture names are relative to the
/// folder. Throws std::runtime_error with a message that names the file.
std::vector<Case> load_cases(const std::string& folder);

/// The same from the text of a cases.json.
std::vector<Case> parse_cases(const std::string& text, const std::string& folder);

/// said: the answer with its control tokens shown.
bool is_right(Score score, std::string_view said, std::string_view expected);

/// Bounds of the share that `right` of `n` stands for, at 95% (Wilson 1927); (0, 1) for n = 0.
std::pair<double, double> wilson_interval(size_t right, size_t n);

}  // namespace glimpse::cases
