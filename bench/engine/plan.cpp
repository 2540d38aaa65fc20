#include "bench/engine/plan.h"

#include <charconv>

namespace glimpse::bench {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr int64_t kMaxParallel = 256;
constexpr int64_t kMaxSide = 16384;  // of a picture that is made

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

Status check_count(int64_t n, int64_t least, const char* what) {
  if (n >= least && n <= kMaxTokens) return {};
  return make_error(ErrorCode::kInvalidArgument, "%s is %d: want %d to %d", what, n, least, kMaxTokens);
}

// "448x448"; anything else is the name of a file.
Result<PictureSpec> parse_picture(const std::string& text) {
  PictureSpec picture{text, 0, 0};
  if (text.empty()) return make_error(ErrorCode::kInvalidArgument, "a picture without a name: want WxH or a file");
  const size_t x = text.find('x');
  if (x == std::string::npos) return picture;
  const auto width = parse_number(std::string_view(text).substr(0, x));
  const auto height = parse_number(std::string_view(text).substr(x + 1));
  if (!width || !height) return picture;
  if (*width < 1 || *width > kMaxSide || *height < 1 || *height > kMaxSide) {
    return make_error(ErrorCode::kInvalidArgument, "a picture of %s pixels: want 1 to %d on a side", text, kMaxSide);
  }
  picture.width = static_cast<int>(*width);
  picture.height = static_cast<int>(*height);
  return picture;
}

// Takes "+NUMBER", or a whole NUMBER, off the end of text.
std::optional<int64_t> take_last_number(std::string& text) {
  const size_t plus = text.rfind('+');
  const size_t begin = plus == std::string::npos ? 0 : plus + 1;
  const auto number = parse_number(std::string_view(text).substr(begin));
  if (number) text.resize(plus == std::string::npos ? 0 : plus);
  return number;
}

Result<TestSpec> parse_turn(const std::string& text, bool end_to_end) {
  TestSpec test;
  test.kind = end_to_end ? TestSpec::Kind::kEndToEnd : TestSpec::Kind::kFirstToken;
  std::string rest = text;
  std::optional<int64_t> n_gen = 1;
  if (end_to_end) n_gen = take_last_number(rest);
  const auto n_text = n_gen && !rest.empty() ? take_last_number(rest) : std::nullopt;
  if (!n_text) {
    return make_error(ErrorCode::kInvalidArgument, "'%s': want [PICTURE+]TOKENS%s, as in 448x448+25%s", text,
                      end_to_end ? "+ANSWER" : "", end_to_end ? "+64" : "");
  }
  GLIMPSE_TRY(check_count(*n_text, 1, "the number of text tokens"));
  GLIMPSE_TRY(check_count(*n_gen, 1, "the number of answer tokens"));
  test.n_text = *n_text;
  test.n_gen = *n_gen;
  if (!rest.empty()) {
    GLIMPSE_ASSIGN(test.picture, parse_picture(rest));
  }
  return test;
}

Result<TestSpec> parse_pair(const std::string& text) {
  TestSpec test;
  const size_t comma = text.find(',');
  const auto n_prompt = parse_number(std::string_view(text).substr(0, comma));
  const auto n_gen = comma == std::string::npos ? std::nullopt : parse_number(std::string_view(text).substr(comma + 1));
  if (!n_prompt || !n_gen) {
    return make_error(ErrorCode::kInvalidArgument, "'%s': want PROMPT,GENERATED, as in 512,128", text);
  }
  GLIMPSE_TRY(check_count(*n_prompt, 1, "the number of prompt tokens"));
  GLIMPSE_TRY(check_count(*n_gen, 1, "the number of generated tokens"));
  test.n_prompt = *n_prompt;
  test.n_gen = *n_gen;
  return test;
}

Status add_text_tests(const PlanRequest& request, std::vector<TestSpec>& plan) {
  static const std::vector<int64_t> kPrompt = {512}, kGen = {128};
  std::vector<TestSpec> tests;
  for (const int64_t n : request.n_prompt.value_or(kPrompt)) {
    GLIMPSE_TRY(check_count(n, 0, "the number of prompt tokens"));
    TestSpec test;
    test.n_prompt = n;
    if (n > 0) tests.push_back(test);
  }
  for (const int64_t n : request.n_gen.value_or(kGen)) {
    GLIMPSE_TRY(check_count(n, 0, "the number of generated tokens"));
    TestSpec test;
    test.n_gen = n;
    if (n > 0) tests.push_back(test);
  }
  for (const std::string& text : request.prompt_and_gen) {
    GLIMPSE_ASSIGN(TestSpec test, parse_pair(text));
    tests.push_back(test);
  }
  for (const int64_t depth : request.n_depth) {
    GLIMPSE_TRY(check_count(depth, 0, "the depth"));
    for (const int64_t n_parallel : request.n_parallel) {
      if (n_parallel < 1 || n_parallel > kMaxParallel) {
        return make_error(ErrorCode::kInvalidArgument, "the number of conversations is %d: want 1 to %d", n_parallel,
                          kMaxParallel);
      }
      for (TestSpec test : tests) {
        test.n_depth = depth;
        test.n_parallel = n_parallel;
        plan.push_back(std::move(test));
      }
    }
  }
  return {};
}

}  // namespace

std::string test_name(const TestSpec& test) {
  const auto n_prompt = static_cast<long long>(test.n_prompt), n_gen = static_cast<long long>(test.n_gen),
             n_text = static_cast<long long>(test.n_text);
  const std::string picture = test.picture ? test.picture->text + "+" : "";
  switch (test.kind) {
    case TestSpec::Kind::kImage:
      return (test.picture && test.picture->width > 0 ? "img" : "img ") + (test.picture ? test.picture->text : "");
    case TestSpec::Kind::kFirstToken:
      return "ttft " + picture + format("%d", n_text);
    case TestSpec::Kind::kEndToEnd:
      return "e2e " + picture + format("%d+%d", n_text, n_gen);
    case TestSpec::Kind::kText:
      break;
  }
  std::string name = n_gen == 0      ? format("pp%d", n_prompt)
                     : n_prompt == 0 ? format("tg%d", n_gen)
                                     : format("pp%d+tg%d", n_prompt, n_gen);
  if (test.n_parallel > 1) name += format(" x%d", test.n_parallel);
  if (test.n_depth > 0) name += format(" @ d%d", test.n_depth);
  return name;
}

Result<std::vector<TestSpec>> make_plan(const PlanRequest& request) {
  const bool text = request.n_prompt || request.n_gen || !request.prompt_and_gen.empty();
  const bool nothing = !text && !request.images && !request.first_token && !request.end_to_end;
  std::vector<TestSpec> plan;
  if (text || nothing) GLIMPSE_TRY(add_text_tests(request, plan));

  const bool defaults = nothing && request.has_vision;
  const std::vector<std::string> none;
  for (const std::string& name : request.images.value_or(defaults ? std::vector<std::string>{"448x448"} : none)) {
    TestSpec test;
    test.kind = TestSpec::Kind::kImage;
    GLIMPSE_ASSIGN(test.picture, parse_picture(name));
    plan.push_back(std::move(test));
  }
  for (const std::string& turn :
       request.first_token.value_or(defaults ? std::vector<std::string>{"448x448+25"} : none)) {
    GLIMPSE_ASSIGN(TestSpec test, parse_turn(turn, false));
    plan.push_back(std::move(test));
  }
  for (const std::string& turn : request.end_to_end.value_or(none)) {
    GLIMPSE_ASSIGN(TestSpec test, parse_turn(turn, true));
    plan.push_back(std::move(test));
  }
  for (const TestSpec& test : plan) {
    if (test.picture && !request.has_vision) {
      return make_error(ErrorCode::kInvalidArgument, "%s needs the vision encoder: give its file with --mmproj",
                        test_name(test));
    }
  }
  if (plan.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "no test is left: -p and -n are 0 and nothing else is asked for");
  }
  return plan;
}

}  // namespace glimpse::bench
