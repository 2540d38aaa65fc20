// Speculation changes nothing but the number of passes: the same conversation on a session with it and on one without.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/generate/speculative_decoder.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {

// Where drafts come from.
struct Way {
  enum Model { kNone, kSame, kOther };
  int n_speculate = 0;
  Model draft_model = kNone;
  int n_draft = 0;
  float min_probability = 1e-9f;  // drafts are never given up
};
inline constexpr Way kWays[] = {
    {4}, {1}, {kMostDrafts}, {0, Way::kSame, 4}, {0, Way::kOther, 3}, {2, Way::kSame, kMostDrafts, 0}};

inline void PrintTo(const Way& way, std::ostream* out) {
  *out << way.n_speculate << " by lookup, " << way.n_draft << " by model " << way.draft_model;
}

// All that a caller sees of one call.
struct Seen {
  ErrorCode error = ErrorCode::kInternal;  // of a call that failed
  bool ok = false;
  std::vector<TokenId> tokens;
  std::string text;
  std::vector<std::string> pieces;                  // as streamed
  std::vector<std::pair<TokenId, float>> logprobs;  // drawn token and alternatives, one after another
  FinishReason reason = FinishReason::kStop;
  int64_t n_generated = 0, n_prompt = 0, n_cached = 0;
  int64_t n_past = 0;  // and the session after it
  std::vector<float> logits;
  bool operator==(const Seen&) const = default;
};

inline void PrintTo(const Seen& seen, std::ostream* out) {
  *out << "ok " << seen.ok << ", " << finish_reason_name(seen.reason) << ", n_past " << seen.n_past << ", "
       << seen.pieces.size() << " pieces of '" << seen.text << "', tokens " << ::testing::PrintToString(seen.tokens);
}

struct Counts {
  int64_t drafted = 0, accepted = 0;
};

// A conversation: the same calls on any session.
struct Talk {
  explicit Talk(Session& s) : session(s) {}
  Session& session;
  std::vector<Seen> seen;
  Counts counts;

  void generate(const std::vector<Message>& messages, GenerateOptions options, size_t cancel_after = 0) {
    Seen now;
    options.on_text = [&](std::string_view text) {
      now.pieces.emplace_back(text);
      return now.pieces.size() != cancel_after;
    };
    Result<Answer> answer = session.generate(messages, options);
    now.ok = answer.ok();
    if (answer.ok()) {
      now.error = {};
      now.tokens = answer->tokens;
      now.text = answer->text;
      now.reason = answer->reason;
      for (const SampledToken& token : answer->logprobs) {
        now.logprobs.emplace_back(token.id, token.logprob);
        for (const TokenLogprob& top : token.top) now.logprobs.emplace_back(top.id, top.logprob);
      }
      now.n_generated = answer->timings.n_generated_tokens;
      now.n_prompt = answer->timings.n_prompt_tokens;
      now.n_cached = answer->timings.n_cached_tokens;
      EXPECT_LE(answer->timings.n_accepted_tokens, answer->timings.n_drafted_tokens);
      counts.drafted += answer->timings.n_drafted_tokens;
      counts.accepted += answer->timings.n_accepted_tokens;
    } else {
      now.error = answer.error().code;
    }
    look(std::move(now));
  }
  void prefill(const std::vector<Message>& messages) {
    Seen now;
    now.ok = session.prefill(messages, {}).ok();
    look(std::move(now));
  }
  void look(Seen now) {
    now.n_past = session.n_past();
    now.logits = logits_of(session);
    seen.push_back(std::move(now));
  }
};

struct SpeculationBackend {
  std::string name;
  bool reference, quantized;
  KvElement kv;
};
inline void PrintTo(const SpeculationBackend& backend, std::ostream* out) {
  *out << backend.name;
}

inline std::vector<SpeculationBackend> speculation_backends() {
  std::vector<SpeculationBackend> backends = {{"ref", true, false, KvElement::kF32},
                                              {"quantized", false, true, SessionOptions().kv_element}};
  for (const KvElement kv : kKvElements) {
    backends.push_back({std::string("cpu_") + kv_element_name(kv), false, false, kv});
  }
  return backends;
}

class Speculation : public ::testing::TestWithParam<SpeculationBackend> {
 protected:
  // Quantised weights; float weights; the oracle.
  static std::shared_ptr<const Model> model() {
    if (!GetParam().quantized) return tied_model(GetParam().reference);
    static const std::shared_ptr<const Model> quantized = [] {
      ModelOptions options;
      options.model_path = golden_path("quantized/model.gguf");
      options.n_threads = 1;
      return must(Model::load(options));
    }();
    return quantized;
  }
  // With other weights, the same vocabulary and the same context.
  static std::shared_ptr<const Model> other_model() {
    const auto load = [](bool reference) {
      ModelOptions options;
      options.model_path = golden_path("untied/model.gguf");
      options.use_reference = reference;
      options.n_threads = 1;
      return must(Model::load(options));
    };
    static const std::shared_ptr<const Model> on_reference = load(true), on_cpu = load(false);
    return GetParam().reference ? on_reference : on_cpu;
  }
  static std::unique_ptr<Session> session(const Way& way, int64_t context = 256, int64_t pool_slots = 0) {
    SessionOptions options = small_session(context);
    options.pool_slots = pool_slots;
    options.n_speculate = way.n_speculate;
    options.n_draft = way.n_draft;
    options.draft_min_probability = way.min_probability;
    if (way.draft_model != Way::kNone) options.draft_model = way.draft_model == Way::kSame ? model() : other_model();
    options.kv_element = GetParam().kv;
    return make_session(model(), options);
  }

  // Returns the counts with four drafts of prompt lookup.
  template <typename Conversation>
  static Counts expect_the_same(Conversation converse, int64_t context = 256) {
    const auto plain = session({}, context);
    Talk without(*plain);
    converse(without);
    EXPECT_EQ(without.counts.drafted, 0);
    Counts counts;
    for (const Way& way : kWays) {
      const auto speculating = session(way, context);
      Talk with(*speculating);
      converse(with);
      EXPECT_EQ(with.seen, without.seen) << ::testing::PrintToString(way);
      if (&way == &kWays[0]) counts = with.counts;
    }
    return counts;
  }
};

// Two digits at random: drafts are often right and often wrong.
inline GenerateOptions coin(int64_t max_tokens, uint64_t seed) {
  GenerateOptions options = only({"7", "3"}, max_tokens);
  options.sampler.temperature = 1;
  options.sampler.seed = seed;
  options.n_top_logprobs = 2;
  return options;
}

}  // namespace glimpse::testing
