#include "engine/constrain/constraint.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/constrain/support.h"
#include "tests/tokenizer/byte_vocabulary.h"

namespace glimpse::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Constraint::Ptr choice(const std::vector<std::string>& texts) {
  return must(Constraint::compile_choice(small_tokenizer(), texts));
}
Constraint::Ptr regex(const std::string& expression) {
  return must(Constraint::compile_regex(small_tokenizer(), expression));
}

std::string text_of(const std::vector<TokenId>& ids) {
  return small_tokenizer().decode(ids, true);
}

TEST(TokenTrie, HoldsEveryTokenThatIsText) {
  const Tokenizer& tokenizer = small_tokenizer();
  const auto trie = tokenizer.trie();
  EXPECT_EQ(trie, tokenizer.trie());
  std::vector<TokenId> found;
  std::string path;
  for (const TokenTrie::Node& node : trie->nodes()) {
    path.resize(node.depth);
    path.push_back(static_cast<char>(node.byte));
    if (node.token < 0) continue;
    found.push_back(node.token);
    EXPECT_EQ(tokenizer.token_bytes(node.token, false), path);
    EXPECT_EQ(trie->bytes(node.token), path);
  }
  for (const auto& [token, twin] : trie->twins()) {
    EXPECT_EQ(trie->bytes(token), trie->bytes(twin));
    found.push_back(twin);
  }
  std::sort(found.begin(), found.end());
  std::vector<TokenId> texts;
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    if (!tokenizer.token_bytes(id, false).empty()) texts.push_back(id);
  }
  EXPECT_EQ(found, texts);
  EXPECT_EQ(trie->twins().size(), 1u);
  EXPECT_THAT(trie->ends(), ElementsAre(tokenizer.find("<|im_end|>"), tokenizer.find("<|endoftext|>")));
}

TEST(Constraint, ChoiceIsOneOfItsTexts) {
  const Constraint::Ptr constraint = choice({"yes", "no", "not", "日本"});
  for (const char* text : {"yes", "no", "not", "日本"}) EXPECT_TRUE(accepts(*constraint, text)) << text;
  for (const char* text : {"", "n", "ye", "yess", "nott", "日", "maybe"})
    EXPECT_FALSE(accepts(*constraint, text)) << text;
  EXPECT_THAT(Constraint::compile_choice(small_tokenizer(), {}).error().message, HasSubstr("no texts"));
  EXPECT_THAT(Constraint::compile_choice(small_tokenizer(), std::vector<std::string>{"a", ""}).error().message,
              HasSubstr("choice 2 is empty"));
  EXPECT_THAT(Constraint::compile_choice(small_tokenizer(), std::vector<std::string>{"\xFF"}).error().message,
              HasSubstr("choice 1 is not valid UTF-8"));
}

TEST(Constraint, EndsOnlyWhereItMayAndThenSaysNothingMore) {
  const Tokenizer& tokenizer = small_tokenizer();
  ConstraintState state = must(choice({"no", "not"})->start());
  const TokenId end = tokenizer.eos(), other_end = tokenizer.find("<|endoftext|>");
  EXPECT_FALSE(must(state.allows(end)));
  EXPECT_EQ(state.accept(end).error().code, ErrorCode::kInvalidArgument);
  for (const char* c : {"n", "o"}) ASSERT_TRUE(state.accept(tokenizer.find(c)).ok());
  EXPECT_TRUE(state.can_end());
  EXPECT_FALSE(state.is_complete());
  EXPECT_TRUE(must(state.mask())->allows(end) && must(state.mask())->allows(other_end));
  EXPECT_FALSE(must(state.allows(tokenizer.find("<|box_start|>"))));
  ConstraintState longer = state;
  ASSERT_TRUE(longer.accept(tokenizer.find("t")).ok());
  EXPECT_TRUE(longer.is_complete());
  EXPECT_FALSE(state.is_complete());  // copies are independent
  ASSERT_TRUE(state.accept(other_end).ok());
  EXPECT_FALSE(must(state.allows(end)));
  EXPECT_FALSE(state.accept(tokenizer.find("t")).ok());
}

TEST(Constraint, ATokenOfOddBytesMayCrossCharacters) {
  const Tokenizer& tokenizer = small_tokenizer();
  ConstraintState state = must(choice({"é", "è"})->start());
  ASSERT_EQ(must(state.forced_text(100)), "\xC3");
  EXPECT_THAT(must(state.forced_tokens(tokenizer)), IsEmpty());  // half a character has no text
  ASSERT_TRUE(state.accept(tokenizer.find(spell_bytes("\xC3"))).ok());
  EXPECT_FALSE(state.can_end());
  EXPECT_TRUE(must(state.allows(tokenizer.find(spell_bytes("\xA9")))));
  EXPECT_FALSE(must(state.allows(tokenizer.find(spell_bytes("\xAA")))));
}

TEST(Constraint, ForcesWhatCannotBeOtherwise) {
  const Tokenizer& tokenizer = small_tokenizer();
  ConstraintState whole = must(choice({"{\"name\": 2024}"})->start());
  const std::vector<TokenId> ids = must(whole.forced_tokens(tokenizer));
  EXPECT_EQ(text_of(ids), "{\"name\": 2024}<|im_end|>");
  for (const TokenId id : ids) ASSERT_TRUE(whole.accept(id).ok());
  EXPECT_THAT(must(whole.forced_tokens(tokenizer)), IsEmpty());

  // Behind the forced text comes a digit, and a token has '": ' and a digit: nothing of it is forced that such a token
  // would begin in.
  ConstraintState open = must(regex(R"(\{"name": \d)")->start());
  EXPECT_EQ(must(open.forced_text(100)), "{\"name\": ");
  const std::vector<TokenId> some = must(open.forced_tokens(tokenizer));
  std::string forced = text_of(some);
  EXPECT_THAT(std::string("{\"name\": "), ::testing::StartsWith(forced));
  for (const TokenId id : some) ASSERT_TRUE(open.accept(id).ok());
  EXPECT_THAT(must(must(regex("a|b")->start()).forced_tokens(tokenizer)), IsEmpty());
}

TEST(Constraint, IsOfOneTokenizer) {
  VocabularyData data;
  add_byte_tokens(data);
  const Tokenizer other = must(Tokenizer::create(data));
  const Constraint::Ptr constraint = choice({"a"});
  EXPECT_TRUE(constraint->is_for(small_tokenizer()));
  EXPECT_FALSE(constraint->is_for(other));
}

// One constraint, several threads: each gets what it gets alone.
TEST(Constraint, ServesManyThreads) {
  const Constraint::Ptr shared = regex(R"((\{"[a-z]{1,8}": (\d{1,4}|"[^"\\]{0,9}")\},? ?){1,5})");
  std::vector<std::string> alone(8), together(8);
  for (size_t i = 0; i < alone.size(); ++i) {
    alone[i] = draw_text(*regex(R"((\{"[a-z]{1,8}": (\d{1,4}|"[^"\\]{0,9}")\},? ?){1,5})"), i, 500).value_or("?");
  }
  std::vector<std::thread> threads;
  for (size_t i = 0; i < together.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = draw_text(*shared, i, 500).value_or("?"); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, alone);
}

// States that no longer fit go; answers under way go on.
TEST(Automaton, GoesOnInAnotherWhenItIsFull) {
  auto grammar = [] {
    constrain::GrammarBuilder builder;
    const auto list = builder.add_rule("list"), root = builder.add_rule("root");
    const auto letter = builder.byte_range('a', 'c');
    builder.define(list, builder.sequence({builder.literal("["),
                                           builder.repeat(builder.choice({letter, builder.call(list)}), 0, 5),
                                           builder.literal("]")}));
    builder.define(root, builder.call(list));
    return std::make_shared<const constrain::Grammar>(must(builder.build(root)));
  }();
  const auto trie = small_tokenizer().trie();
  constrain::AutomatonLimits small;
  small.n_bytes = 20000;
  constrain::Automaton large(grammar, trie, {});
  auto tight = std::make_unique<constrain::Automaton>(grammar, trie, small);
  auto a = must(large.start()), b = must(tight->start());
  std::mt19937 random(3);
  int n_moves = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string allowed;
    for (const char c : {'[', ']', 'a', 'b', 'x'}) {
      if (must(large.next(a, static_cast<uint8_t>(c))) != constrain::Automaton::kDead) allowed.push_back(c);
    }
    const char c = allowed.empty() ? 'x' : allowed[random() % allowed.size()];
    auto next = tight->next(b, static_cast<uint8_t>(c));
    if (!next.ok()) {
      ASSERT_EQ(next.error().code, ErrorCode::kTooLarge);
      ASSERT_TRUE(tight->is_full());
      const auto exported = tight->export_state(b);
      tight = std::make_unique<constrain::Automaton>(grammar, trie, small);
      b = must(tight->import_state(exported));
      next = tight->next(b, static_cast<uint8_t>(c));
      ++n_moves;
    }
    b = must(std::move(next));
    a = must(large.next(a, static_cast<uint8_t>(c)));
    ASSERT_EQ(a == constrain::Automaton::kDead, b == constrain::Automaton::kDead);
    ASSERT_EQ(large.can_end(a), tight->can_end(b));
    ASSERT_EQ(large.forced_byte(a), tight->forced_byte(b));
    if (a == constrain::Automaton::kDead || large.is_complete(a)) {
      a = must(large.start());
      auto again = tight->start();
      if (!again.ok()) {
        tight = std::make_unique<constrain::Automaton>(grammar, trie, small);
        again = tight->start();
      }
      b = must(std::move(again));
    }
  }
  EXPECT_GT(n_moves, 3);
}

TEST(GrammarBuilder, RefusesWhatBeginsWithItself) {
  constrain::GrammarBuilder builder;
  const auto a = builder.add_rule("a"), b = builder.add_rule("b");
  builder.define(a, builder.sequence({builder.optional(builder.literal("x")), builder.call(b)}));
  builder.define(b, builder.choice({builder.call(a), builder.literal("y")}));
  EXPECT_THAT(builder.build(a).error().message, HasSubstr("begins with itself"));
}

TEST(GrammarBuilder, RefusesWhatNeverEnds) {
  constrain::GrammarBuilder builder;
  const auto a = builder.add_rule("a");
  builder.define(a, builder.sequence({builder.literal("x"), builder.call(a)}));
  EXPECT_THAT(builder.build(a).error().message, HasSubstr("no text can match"));
}

}  // namespace
}  // namespace glimpse::testing
