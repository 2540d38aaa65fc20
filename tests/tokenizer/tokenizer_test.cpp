#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "tests/tokenizer/fixtures.h"
#include "tokenizer/pre_tokenizer.h"

namespace glimpse {
namespace {

using Ids = std::vector<TokenId>;

Ids encode(const Tokenizer& tokenizer, std::string_view text, const TokenizeOptions& options = {}) {
  auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids.ok());
  return ids.ok() ? std::move(ids).value() : Ids{-1};
}

Tokenizer make(const VocabularyData& data) {
  auto tokenizer = Tokenizer::create(data);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  return std::move(tokenizer).value();
}

TEST(Tokenizer, MatchesTheTokenizersLibrary) {
  int n_cases = 0, n_failures = 0;
  for (const std::string& line : test::split_lines(test::read_data("cases.txt"))) {
    const size_t first = line.find('\t'), last = line.rfind('\t');
    const std::string mode = line.substr(0, first);
    const std::string text = test::unescape(std::string_view(line).substr(first + 1, last - first - 1));
    const TokenizeOptions options{.parse_special = mode.find('s') != std::string::npos,
                                  .normalize_nfc = mode.find('n') != std::string::npos};
    const Ids ids = encode(test::small_tokenizer(), text, options);
    EXPECT_EQ(ids, test::parse_ids(line.substr(last + 1))) << line;
    ++n_cases;
    n_failures += HasFailure();
    if (n_failures > 5) break;
  }
  EXPECT_GT(n_cases, 500);
}

TEST(Tokenizer, MatchesTheDefinitionOnRandomText) {
  const VocabularyData& data = test::small_vocabulary();
  std::mt19937 random(21);
  for (int round = 0; round < 60; ++round) {
    const std::string text = test::random_text(random, random() % 60) + (round % 2 ? " theretherein" : "");
    Ids expected;
    for (size_t begin = 0; begin < text.size();) {
      const size_t n = next_piece(text, begin);
      const Ids piece = test::naive_bpe(data, std::string_view(text).substr(begin, n));
      expected.insert(expected.end(), piece.begin(), piece.end());
      begin += n;
    }
    ASSERT_EQ(encode(test::small_tokenizer(), text, {.normalize_nfc = false}), expected)
        << testing::PrintToString(text);
  }
}

TEST(Tokenizer, DecodingGivesTheTextBack) {
  const Tokenizer& tokenizer = test::small_tokenizer();
  std::mt19937 random(23);
  for (int round = 0; round < 3000; ++round) {
    std::string text = test::random_text(random, random() % 60);
    if (round % 3 == 0) text.insert(0, "<|im_end|><think>");
    for (const bool parse : {false, true}) {
      const Ids ids = encode(tokenizer, text, {.parse_special = parse, .normalize_nfc = false});
      ASSERT_EQ(tokenizer.decode(ids, true), text);
    }
  }
}

TEST(Tokenizer, ControlTokensInTextStayText) {
  const Tokenizer& tokenizer = test::small_tokenizer();
  const TokenId end = tokenizer.find("<|im_end|>"), think = tokenizer.find("<think>");
  ASSERT_GE(end, 0);
  ASSERT_GE(think, 0);
  const std::string text = "a<|im_end|><think>b";
  const Ids plain = encode(tokenizer, text, {.parse_special = false});
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), think), 1);  // user-defined tokens are always cut out
  EXPECT_EQ(tokenizer.decode(plain, false), text);
  const Ids parsed = encode(tokenizer, text, {.parse_special = true});
  EXPECT_EQ(parsed, (Ids{tokenizer.find("a"), end, think, tokenizer.find("b")}));
}

TEST(Tokenizer, RendersSpecialTokensAsAsked) {
  const Tokenizer& tokenizer = test::small_tokenizer();
  const Ids ids = {tokenizer.find("<|box_start|>"), tokenizer.find("a"), tokenizer.find("<think>"), -1,
                   static_cast<TokenId>(tokenizer.size())};
  EXPECT_EQ(tokenizer.decode(ids, true), "<|box_start|>a<think>");
  EXPECT_EQ(tokenizer.decode(ids, false), "a<think>");
  EXPECT_EQ(tokenizer.token_bytes(tokenizer.find("\u0120the"), false), " the");
}

TEST(Tokenizer, NormalizesUpToSpecialTokensOnly) {
  const Tokenizer& tokenizer = test::small_tokenizer();
  EXPECT_EQ(encode(tokenizer, "e\u0301"), encode(tokenizer, "\u00e9"));
  EXPECT_NE(encode(tokenizer, "e\u0301", {.normalize_nfc = false}), encode(tokenizer, "\u00e9"));
  const Ids split = encode(tokenizer, "e<|im_end|>\u0301", {.parse_special = true});
  EXPECT_EQ(tokenizer.decode(split, true), "e<|im_end|>\u0301");
}

TEST(Tokenizer, NamesTheByteThatIsNotUtf8) {
  for (const bool parse : {false, true}) {
    const auto ids = test::small_tokenizer().encode("abc\xC3(", {.parse_special = parse});
    ASSERT_FALSE(ids.ok());
    EXPECT_EQ(ids.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(ids.error().message.find("byte 3"), std::string::npos) << ids.error().message;
  }
  EXPECT_FALSE(test::small_tokenizer().encode("\xED\xA0\x80", {}).ok());  // a surrogate
  EXPECT_FALSE(test::small_tokenizer().encode("\xF0\x9F\x98", {}).ok());  // cut off
}

TEST(Tokenizer, RefusesEndlessText) {
  const auto ids = test::small_tokenizer().encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a'), {});
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.error().code, ErrorCode::kTooLarge);
}

TEST(Tokenizer, EncodesNothingToNothing) {
  EXPECT_EQ(encode(test::small_tokenizer(), ""), Ids{});
}

TEST(Tokenizer, TakesAMegabyteWithoutSpaces) {
  // The words are one piece each: quadratic merging takes hours for this, and the test its time limit.
  std::mt19937 random(2);
  std::string letters(1 << 20, ' '), signs(1 << 20, '=');
  for (char& c : letters) c = "etaoinshrdluthe"[random() % 15];
  for (const std::string& text : {letters, signs, std::string(1 << 20, 'a'), std::string(1 << 20, '\n')}) {
    const Ids ids = encode(test::small_tokenizer(), text);
    EXPECT_EQ(test::small_tokenizer().decode(ids, false), text);
  }
}

TEST(Tokenizer, ThreadsAgree) {
  std::mt19937 random(31);
  std::string text;
  for (int i = 0; i < 300; ++i) text += test::random_text(random, 10) + " the picture shows ";
  const Tokenizer fresh = make(test::small_vocabulary());  // one that has not yet seen a word
  std::vector<Ids> ids(4);
  std::vector<std::thread> threads;
  for (Ids& mine : ids) threads.emplace_back([&] { mine = encode(fresh, text); });
  for (auto& thread : threads) thread.join();
  for (const Ids& mine : ids) EXPECT_EQ(mine, encode(test::small_tokenizer(), text));
}

TEST(Tokenizer, AWholeWordIsNotAShortcut) {
  // "abc" is a token, but the merges go to "a" + "bc" and stop there.
  const Tokenizer tokenizer = make(test::byte_vocabulary({"bc", "ab", "abc"}, {"b c", "a b", "ab c"}));
  EXPECT_EQ(encode(tokenizer, "abc"), (Ids{tokenizer.find("a"), tokenizer.find("bc")}));
  EXPECT_EQ(encode(tokenizer, "abc"), encode(tokenizer, "abc"));  // the second time from memory
  EXPECT_EQ(encode(tokenizer, "ab"), (Ids{tokenizer.find("ab")}));
}

TEST(Tokenizer, FindsTokensByTheirText) {
  const Tokenizer& tokenizer = test::small_tokenizer();
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    EXPECT_EQ(tokenizer.find(test::small_vocabulary().tokens[static_cast<size_t>(id)]), id);
  }
  EXPECT_EQ(tokenizer.find(" the"), -1);
  EXPECT_EQ(tokenizer.find(""), -1);
}

TEST(Tokenizer, KnowsWhatEndsAnAnswer) {
  VocabularyData data = test::byte_vocabulary({"<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|stop|>", "<|other|>"});
  std::fill(data.token_types.end() - 5, data.token_types.end(), 3);
  data.eos = 256;
  data.eot = 259;
  const Tokenizer tokenizer = make(data);
  for (const TokenId id : {256, 257, 259}) EXPECT_TRUE(tokenizer.is_end_of_generation(id)) << id;
  for (const TokenId id : {-1, 0, 258, 260, 99999}) EXPECT_FALSE(tokenizer.is_end_of_generation(id)) << id;
  EXPECT_EQ(tokenizer.eos(), 256);
  EXPECT_EQ(tokenizer.padding(), -1);
}

TEST(Tokenizer, FillersAreNotMatchedInText) {
  VocabularyData data = test::byte_vocabulary({"[PAD256]", "[PAD9]", "<x>"});
  std::fill(data.token_types.end() - 3, data.token_types.end(), 4);
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(encode(tokenizer, "[PAD256]").size(), 8u);
  EXPECT_EQ(encode(tokenizer, "[PAD9]"), Ids{257});  // not its own number: somebody's token
  EXPECT_EQ(encode(tokenizer, "<x>"), Ids{258});
  EXPECT_EQ(tokenizer.type(256), TokenType::kUnused);
  EXPECT_EQ(tokenizer.token_bytes(256, true), "");
}

TEST(Tokenizer, ChatTokensAreControlTokensWhateverTheFileSays) {
  for (const int32_t type : {1, 2, 3, 4, 5, 6}) {
    VocabularyData data = test::byte_vocabulary({"<|im_end|>"});
    data.token_types.back() = type;
    const Tokenizer tokenizer = make(data);
    EXPECT_EQ(tokenizer.type(256), TokenType::kControl);
    EXPECT_EQ(encode(tokenizer, "<|im_end|>", {.parse_special = false}).size(), 10u);
    EXPECT_EQ(encode(tokenizer, "<|im_end|>", {.parse_special = true}), Ids{256});
  }
  // Nor can merges put one together.
  VocabularyData data = test::byte_vocabulary({"<|im_end|", "<|im_end|>"}, {"<|im_end|", "<|im_end| >"});
  data.merges = {"<|im_end| >"};
  data.token_types.clear();
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(encode(tokenizer, "<|im_end|>").size(), 10u);
}

TEST(Tokenizer, NormalTokensOutsideTheAlphabetAreNeverProduced) {
  const Tokenizer tokenizer = make(test::byte_vocabulary({"a b", "\u4e2d", std::string("\xFF\xFE")}));
  EXPECT_EQ(encode(tokenizer, "a b").size(), 3u);
  EXPECT_EQ(encode(tokenizer, "\u4e2d").size(), 3u);
  EXPECT_EQ(tokenizer.token_bytes(257, false), "\u4e2d");
}

// Merges are taken in batches.
TEST(Tokenizer, EveryMergeOfManyCountsAndABadOneIsNamedByItsPlace) {
  std::vector<std::string> pairs, merges;
  for (char l = 'a'; l <= 'p'; ++l) {
    for (char r = 'a'; r <= 'p'; ++r) {
      pairs.push_back({l, r});
      merges.push_back({l, ' ', r});
    }
  }
  const Tokenizer tokenizer = make(test::byte_vocabulary(pairs, merges));
  for (const std::string& pair : pairs) EXPECT_EQ(encode(tokenizer, pair), Ids{tokenizer.find(pair)});
  for (const size_t at : {size_t{0}, size_t{63}, size_t{64}, size_t{255}}) {
    for (const char* bad : {"nospace", "a zz"}) {
      std::vector<std::string> spoilt = merges;
      spoilt[at] = bad;
      const auto refused = Tokenizer::create(test::byte_vocabulary(pairs, spoilt));
      ASSERT_FALSE(refused.ok());
      EXPECT_NE(refused.error().message.find("merge " + std::to_string(at) + " "), std::string::npos)
          << refused.error().message;
    }
  }
}

struct BadVocabulary {
  const char* name;
  ErrorCode code;
  void (*spoil)(VocabularyData&);
};

class MalformedVocabulary : public testing::TestWithParam<BadVocabulary> {};

TEST_P(MalformedVocabulary, IsRefusedWithAReason) {
  VocabularyData data = test::byte_vocabulary({"ab", "<x>"}, {"a b"});
  data.token_types.back() = 3;
  ASSERT_TRUE(Tokenizer::create(data).ok());
  GetParam().spoil(data);
  const auto tokenizer = Tokenizer::create(data);
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().code, GetParam().code) << tokenizer.error().message;
  EXPECT_GT(tokenizer.error().message.size(), 10u);
}

const BadVocabulary kBad[] = {
    {"Model", ErrorCode::kUnsupported, [](VocabularyData& d) { d.model = "llama"; }},
    {"PreTokenizer", ErrorCode::kUnsupported, [](VocabularyData& d) { d.pre = "gpt-4o"; }},
    {"Empty", ErrorCode::kCorrupt, [](VocabularyData& d) { d = {}; }},
    {"TypesOfAnotherLength", ErrorCode::kCorrupt, [](VocabularyData& d) { d.token_types.pop_back(); }},
    {"TypeZero", ErrorCode::kCorrupt, [](VocabularyData& d) { d.token_types[3] = 0; }},
    {"TypeSeven", ErrorCode::kCorrupt, [](VocabularyData& d) { d.token_types[3] = 7; }},
    {"NegativeType", ErrorCode::kCorrupt, [](VocabularyData& d) { d.token_types[3] = -2147483647; }},
    {"MissingByte", ErrorCode::kCorrupt, [](VocabularyData& d) { d.tokens[200] = "zz"; }},
    {"ByteAsControl", ErrorCode::kCorrupt, [](VocabularyData& d) { d.token_types[200] = 3; }},
    {"EmptyTokenOfATakenName", ErrorCode::kCorrupt,
     [](VocabularyData& d) {
       d.tokens[256] = "[EMPTY_257]";
       d.tokens[257] = "";
     }},
    {"SameWordTwice", ErrorCode::kCorrupt, [](VocabularyData& d) { d.tokens[256].assign(1, 'a'); }},
    {"SameWordAndControl", ErrorCode::kCorrupt, [](VocabularyData& d) { d.tokens[257] = "ab"; }},
    {"MergeWithoutSpace", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back("ab"); }},
    {"MergeWithLeadingSpaceOnly", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back(" ab"); }},
    {"EmptyMerge", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back(""); }},
    {"MergeOfOnePart", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back("ab "); }},
    {"MergeOfUnknownLeft", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back("xy a"); }},
    {"MergeOfUnknownRight", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back("a xy"); }},
    {"MergeToUnknown", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back("b a"); }},
    {"MergeOutsideTheAlphabet", ErrorCode::kCorrupt, [](VocabularyData& d) { d.merges.push_back("\xFF \xFE"); }},
    {"SpecialTokenInsideACharacter", ErrorCode::kCorrupt, [](VocabularyData& d) { d.tokens[257].assign(1, '\xA9'); }},
    {"HugeSpecialToken", ErrorCode::kTooLarge, [](VocabularyData& d) { d.tokens[257].assign(513, '<'); }},
    {"EosOutside", ErrorCode::kCorrupt, [](VocabularyData& d) { d.eos = 258; }},
    {"EotOutside", ErrorCode::kCorrupt, [](VocabularyData& d) { d.eot = 2147483647; }},
    {"PaddingOutside", ErrorCode::kCorrupt, [](VocabularyData& d) { d.padding = 258; }},
};

INSTANTIATE_TEST_SUITE_P(Tokenizer, MalformedVocabulary, testing::ValuesIn(kBad),
                         [](const auto& bad) { return bad.param.name; });

TEST(Tokenizer, ToleratesWhatDoesNoHarm) {
  VocabularyData data = test::byte_vocabulary({"", "a", "a", "ab", "<x>"}, {"a b", "a b"});
  for (size_t i : {256, 257, 258}) data.token_types[i] = 5;  // unused rows may be empty or equal
  data.token_types[260] = 2;
  data.pre = "default";
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(encode(tokenizer, "ab"), Ids{259});
  EXPECT_EQ(encode(tokenizer, "<x>", {.parse_special = true}), Ids{260});  // unknown-token tokens are like control
  EXPECT_EQ(encode(tokenizer, "<x>", {.parse_special = false}).size(), 3u);
}

// llama.cpp loads them, under a name of their number; they were refused.
TEST(Tokenizer, EmptyTokensHaveANameAsInLlamaCpp) {
  VocabularyData data = test::byte_vocabulary({"", "", "<x>", ""});
  data.token_types[257] = 4;
  data.token_types[259] = 3;
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(tokenizer.find("[EMPTY_256]"), 256);
  EXPECT_EQ(tokenizer.token_bytes(256, false), "[EMPTY_256]");
  EXPECT_EQ(encode(tokenizer, "[EMPTY_256]").size(), 11u);  // no merges lead there
  EXPECT_EQ(encode(tokenizer, "[EMPTY_257]"), Ids{257});    // user-defined: matched in any text
  EXPECT_EQ(encode(tokenizer, "[EMPTY_259]", {.parse_special = false}).size(), 11u);
  EXPECT_EQ(encode(tokenizer, "[EMPTY_259]", {.parse_special = true}), Ids{259});
  EXPECT_EQ(tokenizer.token_bytes(259, false), "");
}

TEST(Tokenizer, TakesHugeTokens) {
  const std::string huge(1 << 17, 'a');
  EXPECT_EQ(encode(make(test::byte_vocabulary({huge})), huge).size(), huge.size());  // no merges lead there
  // A special token of the longest kind, and text that nearly matches it everywhere.
  VocabularyData data = test::byte_vocabulary({std::string(511, 'a') + "<"});
  data.token_types.back() = 4;
  EXPECT_EQ(encode(make(data), huge + "<").size(), huge.size() - 511 + 1);
}

TEST(Tokenizer, FirstOfEqualMergesWins) {
  const Tokenizer tokenizer = make(test::byte_vocabulary({"ab", "bc"}, {"a b", "b c", "a b"}));
  EXPECT_EQ(encode(tokenizer, "abc"), (Ids{256, tokenizer.find("c")}));
}

}  // namespace
}  // namespace glimpse
