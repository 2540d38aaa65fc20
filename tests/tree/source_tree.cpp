#include "tests/tree/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

namespace glimpse::tree_test {
namespace {

namespace fs = std::filesystem;

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}
bool under_any(const std::string& path, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return starts_with(path, p); });
}

const std::vector<std::string> kRoots = {"engine", "kernels", "loaders", "tokenizer", "tools", "tests", "bench"};
const std::vector<std::string> kLibrary = {"engine/", "kernels/", "loaders/", "tokenizer/"};

struct Room {
  std::string prefix;                // of its files
  std::vector<std::string> may_use;  // prefixes of files, besides its own
};

// The first row whose prefix fits is a file's room.
const std::vector<Room> kRooms = {
    {"engine/base/", {}},
    {"engine/include/", {}},
    {"kernels/", {"engine/base/"}},
    {"loaders/gguf/", {"engine/base/"}},
    {"loaders/image/", {"engine/base/"}},
    {"tokenizer/", {"engine/base/"}},
    {"engine/constrain/", {"engine/base/", "tokenizer/"}},
    {"engine/preprocess/", {"engine/base/", "loaders/image/"}},
    {"engine/runtime/", {"engine/base/", "kernels/"}},
    {"engine/model/", {"engine/base/", "kernels/", "loaders/", "tokenizer/", "engine/preprocess/", "engine/runtime/"}},
    {"engine/generate/",
     {"engine/base/", "kernels/", "loaders/", "tokenizer/", "engine/constrain/", "engine/preprocess/",
      "engine/runtime/", "engine/model/"}},
    {"engine/serve/",
     {"engine/base/", "kernels/", "loaders/", "tokenizer/", "engine/constrain/", "engine/preprocess/",
      "engine/runtime/", "engine/model/", "engine/generate/"}},
    {"engine/capi/",
     {"engine/include/", "engine/base/", "kernels/", "loaders/", "tokenizer/", "engine/constrain/",
      "engine/preprocess/", "engine/runtime/", "engine/model/", "engine/generate/", "engine/serve/"}},
    // Commands live on the public API, so that it stays enough for other people's programs; those that look into files
    // and measure kernels reach inside.
    {"tools/boxes/", {"engine/base/", "loaders/"}},
    {"tools/cases/", {"tokenizer/"}},
    {"tools/video/request_video", {"engine/base/", "engine/serve/", "loaders/", "tools/video/"}},
    {"tools/video/", {"engine/base/", "loaders/"}},
    {"tools/cli/version", {"tools/", "engine/base/", "engine/include/"}},
    {"tools/cli/video_choice", {"tools/", "engine/base/", "engine/include/"}},
    {"tools/prompt/", {"engine/base/", "tokenizer/"}},
    {"tools/terminal/", {"engine/base/", "tokenizer/"}},
    {"tools/synth/", {"engine/base/", "kernels/", "loaders/"}},
    {"tools/quantize/", {"engine/base/", "kernels/", "loaders/"}},
    {"tools/cli/command_synth", {"tools/", "engine/base/", "engine/model/", "kernels/", "loaders/"}},
    {"tools/cli/command_inspect", {"tools/", "engine/base/", "engine/model/", "kernels/", "loaders/", "tokenizer/"}},
    {"tools/cli/command_bench", {"tools/", "bench/", "engine/", "kernels/", "loaders/", "tokenizer/"}},
    {"tools/cli/command_quantize", {"tools/", "engine/base/", "kernels/", "loaders/"}},
    {"tools/eval/", {"engine/", "kernels/", "loaders/", "tokenizer/", "tools/prompt/"}},
    {"tools/compare/", {"engine/base/"}},
    {"tools/batch/",
     {"engine/", "loaders/", "tokenizer/", "tools/compare/", "tools/prompt/", "tools/serve/base64", "tools/terminal/",
      "tools/video/"}},
    {"tools/cli/command_batch", {"tools/", "engine/"}},
    {"tools/chat/", {}},
    {"tools/load/", {"engine/base/", "tools/serve/base64"}},
    {"tools/cli/command_load", {"tools/", "engine/base/"}},
    {"tools/cli/command_compare", {"tools/", "engine/base/", "engine/include/"}},
    {"tools/cli/command_perplexity", {"tools/", "engine/", "kernels/", "loaders/", "tokenizer/"}},
    {"tools/cli/command_diff", {"tools/", "engine/", "kernels/", "loaders/", "tokenizer/"}},
    {"tools/serve/", {"engine/", "loaders/", "tokenizer/", "tools/video/"}},
    {"tools/cli/command_serve", {"tools/", "engine/"}},
    {"tools/cli/kv_type", {"tools/", "engine/include/", "kernels/"}},
    {"tools/cli/vision_precision", {"tools/", "engine/"}},
    {"tools/cli/device_choice", {"tools/", "engine/"}},
    {"tools/cli/model_choice", {"tools/", "engine/"}},
    {"tools/cli/sampling_choice", {"tools/", "engine/"}},
    {"tools/cli/exit_status", {"tools/", "engine/base/", "engine/include/"}},
    {"tools/cli/constraint_choice", {"tools/", "engine/", "tokenizer/"}},
    {"tools/", {"engine/include/"}},
    {"tests/", {""}},
    {"bench/", {"engine/", "kernels/", "loaders/", "tokenizer/", "tools/"}},
};

const Room* room_of(const std::string& path) {
  for (const Room& room : kRooms) {
    if (starts_with(path, room.prefix)) return &room;
  }
  return nullptr;
}

// A header of somebody else, and the only places that may name it.
struct Placement {
  std::string header;  // regular expression
  std::vector<std::string> places;
  std::string why;
};
const std::vector<Placement> kPlacements = {
    {"(jpeglib|jerror|png)\\.h|webp/.*",
     {"loaders/image/", "tests/", "bench/"},
     "picture formats belong to loaders/image"},
    {"utf8proc\\.h", {"tokenizer/", "tests/"}, "Unicode tables belong to the tokenizer"},
    {"omp\\.h|thread|pthread\\.h",
     {"engine/base/", "tools/", "tests/", "bench/"},
     "threads belong to engine/base/thread_team.h"},
    {"cpuid\\.h", {"engine/base/"}, "CPU features belong to engine/base/cpu_features.h"},
    {"nlohmann/.*|CLI/.*|httplib\\.h", {"tools/", "tests/", "bench/"}, "the library needs none of the tools' packages"},
    {"gtest/.*|gmock/.*", {"tests/"}, "the test framework belongs to tests"},
    {"benchmark/.*", {"bench/", "tools/cli/command_bench"}, "the benchmark framework belongs to bench"},
    {"iostream|print|syslog\\.h|cassert|assert\\.h",
     {"tools/", "tests/", "bench/"},
     "the library writes to no stream and does not abort"},
    {"(engine|kernels|loaders|tokenizer|tools|tests|bench)/.*",
     {},
     "files of this repository are included with quotes"},
    {"glimpse/.*",
     {"tests/", "bench/", "tools/examples/"},
     "inside the repository the public header has its full path, in quotes"},
};

const std::regex kIsaFile("_(avx2|avxvnni|avx512|avx512vnni|avx512bf16)\\.(cpp|h)$");

std::string at(const std::string& path, int line) {
  return path + ":" + std::to_string(line) + ": ";
}

// The file that a quoted include names: from the root; the public headers name one another as their users do, and the
// programs of tests/capi, which must not see the root, their own folder.
std::string resolve(const std::string& path, const std::string& target) {
  if (starts_with(path, "tests/capi/") && target.find('/') == std::string::npos) return "tests/capi/" + target;
  if (starts_with(path, "engine/include/") && starts_with(target, "glimpse/")) return "engine/include/" + target;
  return target;
}

// Each file of the library that a file includes, directly.
std::vector<std::pair<std::string, int>> edges(const Sources& sources, const std::string& path) {
  std::vector<std::pair<std::string, int>> found;
  const auto file = sources.find(path);
  if (file == sources.end()) return found;
  for (const Include& include : file->second) {
    if (include.quoted) found.emplace_back(resolve(path, include.target), include.line);
  }
  return found;
}

}  // namespace

std::vector<Include> parse_includes(const std::string& text) {
  static const std::regex kLine(R"(^\s*#\s*(?:include|include_next|import)\s*(?:"([^"]*)\"|<([^>]*)>))");
  std::vector<Include> includes;
  std::istringstream in(text);
  std::string line;
  bool in_comment = false;
  for (int number = 1; std::getline(in, line); ++number) {
    std::smatch match;
    if (!in_comment && std::regex_search(line, match, kLine)) {
      const bool quoted = match[1].matched;
      includes.push_back({quoted ? match[1].str() : match[2].str(), quoted, number});
      continue;
    }
    for (size_t i = 0; i + 1 < line.size(); ++i) {  // block comments that reach over lines
      if (!in_comment && line.compare(i, 2, "//") == 0) break;
      if (line.compare(i, 2, in_comment ? "*/" : "/*") == 0) {
        in_comment = !in_comment;
        ++i;
      }
    }
  }
  return includes;
}

Sources read_sources(const std::string& root) {
  static const std::set<std::string> kExtensions = {".h", ".hpp", ".c", ".cc", ".cpp", ".cu", ".cuh", ".inc"};
  Sources sources;
  for (const std::string& top : kRoots) {
    if (!fs::is_directory(fs::path(root) / top)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(root) / top)) {
      if (!entry.is_regular_file() || kExtensions.count(entry.path().extension().string()) == 0) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      sources[fs::relative(entry.path(), root).generic_string()] = parse_includes(text);
    }
  }
  return sources;
}

std::vector<std::string> broken_arrows(const Sources& sources) {
  std::vector<std::string> found;
  for (const auto& [path, includes] : sources) {
    const Room* room = room_of(path);
    if (room == nullptr) {
      found.push_back(at(path, 1) + "belongs to no room; add its folder to kRooms in tests/tree/source_tree.cpp");
      continue;
    }
    for (const auto& [target, line] : edges(sources, path)) {
      const bool repository = std::any_of(kRoots.begin(), kRoots.end(),
                                          [&, t = &target](const auto& root) { return starts_with(*t, root + "/"); });
      if (!repository || starts_with(target, room->prefix) || under_any(target, room->may_use)) continue;
      std::string allowed;
      for (const std::string& prefix : room->may_use) allowed += " " + prefix;
      found.push_back(at(path, line) + room->prefix + " must not include " + target + " (it may use" +
                      (allowed.empty() ? " nothing else" : allowed) + ")");
    }
  }
  return found;
}

std::vector<std::string> unknown_targets(const Sources& sources) {
  std::vector<std::string> found;
  for (const auto& [path, includes] : sources) {
    for (const auto& [target, line] : edges(sources, path)) {
      if (sources.count(target) == 0) found.push_back(at(path, line) + "no file " + target + " in the repository");
    }
  }
  return found;
}

std::vector<std::string> misplaced_headers(const Sources& sources) {
  static const std::set<std::string> kIsaHeaders = {"immintrin.h", "cstddef", "cstdint"};
  std::vector<std::string> found;
  for (const auto& [path, includes] : sources) {
    const bool isa = std::regex_search(path, kIsaFile) && under_any(path, kLibrary);
    for (const Include& include : includes) {
      if (include.quoted) continue;
      for (const Placement& placement : kPlacements) {
        if (std::regex_match(include.target, std::regex(placement.header)) && !under_any(path, placement.places)) {
          found.push_back(at(path, include.line) + "<" + include.target + ">: " + placement.why);
        }
      }
      if (isa && kIsaHeaders.count(include.target) == 0) {
        found.push_back(
            at(path, include.line) + "<" + include.target +
            "> in a file compiled for one instruction set: " + "its inline functions could be kept for every caller");
      }
    }
  }
  return found;
}

std::vector<std::string> cycles(const Sources& sources) {
  std::vector<std::string> found;
  std::set<std::string> done;
  std::vector<std::string> stack;
  // Depth first; a file met again while it is still on the stack closes a cycle.
  const auto visit = [&](const auto& self, const std::string& path) -> void {
    stack.push_back(path);
    for (const auto& [target, line] : edges(sources, path)) {
      const auto open = std::find(stack.begin(), stack.end(), target);
      if (open != stack.end()) {
        std::string chain = at(path, line) + "includes in a circle: ";
        for (auto file = open; file != stack.end(); ++file) chain += *file + " -> ";
        found.push_back(chain + target);
      } else if (done.count(target) == 0) {
        self(self, target);
      }
    }
    stack.pop_back();
    done.insert(path);
  };
  for (const auto& [path, includes] : sources) {
    if (done.count(path) == 0) visit(visit, path);
  }
  return found;
}

}  // namespace glimpse::tree_test
