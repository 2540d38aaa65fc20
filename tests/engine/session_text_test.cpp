// The text of an answer: stop strings, special tokens, bytes that are not UTF-8.
#include <gtest/gtest.h>

#include "engine/generate/answer_writer.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

struct Pieces {
  std::vector<std::string> pieces;
  std::string text;
  void watch(GenerateOptions& options) {
    options.on_text = [this](std::string_view piece) {
      pieces.emplace_back(piece);
      text += piece;
      return true;
    };
  }
};

std::string repeated(const std::string& text, int n) {
  std::string result;
  for (int i = 0; i < n; ++i) result += text;
  return result;
}

TEST(SessionText, StopStringAcrossTokensEndsTheAnswerBeforeIt) {
  const Answer whole = must(make_session()->generate({user("the cat")}, digits(30)));
  ASSERT_EQ(whole.text.size(), 30u);
  const std::string stop = whole.text.substr(11, 4);
  const size_t at = whole.text.find(stop);

  const auto session = make_session();
  GenerateOptions options = digits(30);
  options.stop = {"never", stop};
  Pieces seen;
  seen.watch(options);
  const Answer answer = must(session->generate({user("the cat")}, options));
  EXPECT_EQ(answer.reason, FinishReason::kStopString);
  EXPECT_EQ(answer.text, whole.text.substr(0, at));
  EXPECT_EQ(seen.text, answer.text);
  EXPECT_EQ(answer.tokens.size(), at + 4);

  // The conversation is what was shown: the next turn, and the answer itself, go on from there.
  ASSERT_TRUE(session->prefill({user("and?")}, {}).ok());
  EXPECT_EQ(logits_of(*session), fresh_logits({user("the cat"), assistant(answer.text), user("and?")}));
}

TEST(SessionText, AnAnswerGoesOnFromBeforeItsStopString) {
  const auto session = make_session(), reference = make_session();
  GenerateOptions seven = only({"7"}, 10);
  seven.stop = {"777"};
  EXPECT_EQ(must(session->generate({user("the cat")}, seven)).text, "");
  GenerateOptions options;
  options.max_tokens = 6;
  EXPECT_EQ(must(session->generate({}, options)).tokens, must(reference->generate({user("the cat")}, options)).tokens);
}

TEST(SessionText, StopStringInsideATokenKeepsWhatIsBeforeIt) {
  const Tokenizer& tokenizer = tied_model()->tokenizer();
  std::string token = "user";  // a token of several letters
  TokenId id = -1;
  for (TokenId i = 256; i < tokenizer.size() && id < 0; ++i) {
    const std::string_view bytes = tokenizer.token_bytes(i, false);
    if (tokenizer.type(i) == TokenType::kNormal && bytes.size() >= 3 && bytes.find(' ') == bytes.npos) {
      id = i;
      token = bytes;
    }
  }
  ASSERT_GE(id, 0);
  GenerateOptions options;
  options.max_tokens = 10;
  options.sampler.logit_bias = {{id, 1000.0f}};
  options.stop = {token.substr(1, 1) + token.substr(2)};
  const auto session = make_session();
  const Answer answer = must(session->generate({user("the cat")}, options));
  EXPECT_EQ(answer.reason, FinishReason::kStopString);
  EXPECT_EQ(answer.text, token.substr(0, 1));
  EXPECT_EQ(answer.tokens.size(), 1u);
  ASSERT_TRUE(session->prefill({user("and?")}, {}).ok());
  EXPECT_EQ(logits_of(*session), fresh_logits({user("the cat"), assistant(answer.text), user("and?")}));
}

TEST(SessionText, TextHeldBackForAStopStringComesOutAtTheEnd) {
  const auto session = make_session();
  GenerateOptions options = only({"7"}, 3);
  options.stop = {"7777"};
  Pieces seen;
  seen.watch(options);
  const Answer answer = must(session->generate({user("the cat")}, options));
  EXPECT_EQ(answer.reason, FinishReason::kMaxTokens);
  EXPECT_EQ(answer.text, "777");
  EXPECT_EQ(seen.pieces, (std::vector<std::string>{"", "", "777"}));  // one for each token
}

TEST(SessionText, SpecialTokensShowOnlyWhenAskedFor) {
  GenerateOptions options = only({"<|box_start|>"}, 3);
  EXPECT_EQ(must(make_session()->generate({user("the cat")}, options)).text, "");
  options.render_special = true;
  EXPECT_EQ(must(make_session()->generate({user("the cat")}, options)).text, repeated("<|box_start|>", 3));
  options.stop = {"start|><|box_start"};
  const Answer stopped = must(make_session()->generate({user("the cat")}, options));
  EXPECT_EQ(stopped.reason, FinishReason::kStopString);
  EXPECT_EQ(stopped.text, "<|box_");
}

TEST(SessionText, PadAndUnusedTokensAreHarmless) {
  for (const TokenId id : {tied_model()->tokenizer().find("<|image_pad|>"), TokenId{319}}) {
    GenerateOptions options;
    options.max_tokens = 3;
    options.sampler.logit_bias = {{id, 1000.0f}};
    const auto session = make_session();
    const Answer answer = must(session->generate({user("the cat")}, options));
    EXPECT_EQ(answer.tokens, (std::vector<TokenId>{id, id, id}));
    EXPECT_OK(session->prefill({user("and?")}, {}));
  }
}

TEST(SessionText, BytesThatAreNotUtf8AreReplaced) {
  const Tokenizer& tokenizer = tied_model()->tokenizer();
  TokenId lead = -1;  // the byte E2, which begins a character of three
  for (TokenId i = 0; i < tokenizer.size(); ++i) {
    if (tokenizer.token_bytes(i, false) == "\xe2") lead = i;
  }
  ASSERT_GE(lead, 0);
  GenerateOptions options;
  options.max_tokens = 3;
  options.sampler.logit_bias = {{lead, 1000.0f}};
  Pieces seen;
  seen.watch(options);
  const auto session = make_session();
  EXPECT_EQ(must(session->generate({user("the cat")}, options)).text, repeated("\xef\xbf\xbd", 3));
  EXPECT_EQ(seen.text, repeated("\xef\xbf\xbd", 3));
  EXPECT_OK(session->prefill({user("and?")}, {}));
}

// -- AnswerWriter
// ------------------------------------------------------------------------------------------------------

AnswerWriter writer(std::vector<std::string> stops) {
  return must(AnswerWriter::create(tied_model()->tokenizer(), std::move(stops), false));
}
std::vector<TokenId> ids_of(const std::string& text) {
  return must(tied_model()->tokenizer().encode(text, {}));
}

TEST(AnswerWriter, TextIsWhatWasReturned) {
  AnswerWriter w = writer({"dog"});
  std::string text;
  for (const TokenId id : ids_of("the \xe2\x82\xac do not")) text += w.push(id);
  text += w.finish();
  EXPECT_EQ(text, "the \xe2\x82\xac do not");
  EXPECT_EQ(w.text(), text);
  EXPECT_FALSE(w.stopped());
}

TEST(AnswerWriter, TokensOfTextAreThoseBeforeTheStopString) {
  AnswerWriter w = writer({"34"});
  for (const TokenId id : ids_of("12345")) w.push(id);
  EXPECT_TRUE(w.stopped());
  EXPECT_EQ(w.text(), "12");
  EXPECT_EQ(w.tokens_of_text().n_tokens, 2u);
  EXPECT_EQ(w.tokens_of_text().rest, "");
}

TEST(AnswerWriter, TokensOfTextNeverSplitACharacter) {
  AnswerWriter w = writer({"7"});
  std::vector<TokenId> ids = ids_of("\xe2\x82\xac\x37");  // the euro sign as bytes, then 7
  ASSERT_GE(ids.size(), 3u);
  for (const TokenId id : ids) w.push(id);
  EXPECT_EQ(w.text(), "\xe2\x82\xac");
  EXPECT_EQ(w.tokens_of_text().n_tokens, ids.size() - 1);
  EXPECT_EQ(w.tokens_of_text().rest, "");
}

}  // namespace
}  // namespace glimpse::testing
