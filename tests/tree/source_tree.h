// The include graph of the sources, and the arrows that it may follow (CONTRIBUTING.md has the table in words).
#pragma once

#include <map>
#include <string>
#include <vector>

namespace glimpse::tree_test {

struct Include {
  std::string target;  // as written, without quotes or brackets
  bool quoted = false;
  int line = 0;
};

/// Path from the repository root -> its include lines, in order.
using Sources = std::map<std::string, std::vector<Include>>;

/// The include lines of a text; what stands in comments and string literals of other lines does not count.
std::vector<Include> parse_includes(const std::string& text);

/// Reads every C and C++ file of engine, kernels, loaders, tokenizer, tools, tests and bench.
Sources read_sources(const std::string& root);

/// Each returns one line per violation: "file:line: what is wrong".
std::vector<std::string> broken_arrows(const Sources& sources);      // a room includes one that it must not know
std::vector<std::string> unknown_targets(const Sources& sources);    // a quoted include that is no file from the root
std::vector<std::string> misplaced_headers(const Sources& sources);  // system and third-party headers in the wrong room
std::vector<std::string> cycles(const Sources& sources);             // files that include one another

}  // namespace glimpse::tree_test
