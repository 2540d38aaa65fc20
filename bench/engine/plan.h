// Which tests a run of `glimpse bench` makes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::bench {

/// A picture file, or the size of one to be made.
struct PictureSpec {
  std::string text;           // as given: "448x448", "cat.jpg"
  int width = 0, height = 0;  // 0: a file
};

struct TestSpec {
  enum class Kind {
    kText,        // llama-bench's pp, tg and pg: passes over random tokens
    kImage,       // one picture to its embedding
    kFirstToken,  // a picture's bytes and a question to the first token
    kEndToEnd,    // the same, and the tokens after it
  };
  Kind kind = Kind::kText;
  int64_t n_prompt = 0, n_gen = 0, n_depth = 0;  // kText; kEndToEnd: n_gen tokens, the first one included
  int64_t n_parallel = 1;                        // kText: conversations in one pass, each of these sizes
  std::optional<PictureSpec> picture;            // kFirstToken and kEndToEnd may go without
  int64_t n_text = 0;                            // tokens of the question's text
};

/// llama-bench's names where it has the test: "pp512", "tg128 @ d2048", "pp512+tg128"; "tg128 x4" of four
/// conversations; "img448x448", "ttft 448x448+25",
/// "e2e 448x448+25+64".
std::string test_name(const TestSpec& test);

/// What was asked for; an unset list was not given.
struct PlanRequest {
  std::optional<std::vector<int64_t>> n_prompt, n_gen;  // 0 turns a default off
  std::vector<int64_t> n_depth = {0};
  std::vector<int64_t> n_parallel = {1};
  std::vector<std::string> prompt_and_gen;              // "512,128"
  std::optional<std::vector<std::string>> images;       // WxH or a file
  std::optional<std::vector<std::string>> first_token;  // [PICTURE+]TOKENS
  std::optional<std::vector<std::string>> end_to_end;   // [PICTURE+]TOKENS+ANSWER
  bool has_vision = false;                              // an mmproj file is given
};

/// Text tests first, by depth, then pictures, then turns. As in llama-bench, -p and -n have defaults (512 and 128) that
/// hold when any text test is asked for. Nothing asked for: pp512 and tg128, and with vision also img448x448 and
/// ttft 448x448+25. Errors: kInvalidArgument names what is wrong (a number out of range, a picture without vision, no
/// test at all).
Result<std::vector<TestSpec>> make_plan(const PlanRequest& request);

}  // namespace glimpse::bench
