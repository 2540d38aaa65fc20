// A conversation about pictures: cache, positions, sampler, streaming text. Several sessions may share one model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/function_ref.h"
#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/constrain/constraint.h"
#include "engine/generate/memory_plan.h"
#include "engine/generate/sampler.h"
#include "engine/generate/video.h"
#include "engine/model/image_embedding.h"
#include "engine/model/model.h"
#include "loaders/image/image.h"
#include "tokenizer/chat.h"

namespace glimpse {

constexpr int kMostDrafts = 15;  // a pass of 16 rows

struct SessionOptions : PictureOptions {
  int n_threads = 0;       // 0: available_cpus()
  int64_t context = 4096;  // cache positions; capped by the model's context_length with a log line
  int64_t batch = 512;     // rows per prefill pass
  /// Cache positions of the session with its forks and checkpoints together; less than context: as many. What several
  /// of them have in common counts once.
  int64_t pool_slots = 0;
  KvElement kv_element = KvElement::kF16;
  /// Drafts, up to so many [0, kMostDrafts], are run in the same pass as the next token and spare passes where they are
  /// what is drawn then. Whatever the sampler: tokens, texts, log-probabilities and logits are those without (on a
  /// backend that draws by itself, whose draws are not the host's, where the sampler is greedy).
  /// n_speculate: prompt lookup, what followed the last tokens where they stood before. 0: off.
  int n_speculate = 0;
  /// A smaller model of the same vocabulary drafts where prompt lookup has nothing, up to n_draft tokens, drawn by the
  /// same sampler from its own logits. Of pictures it sees nothing: they are left out of its text. nullptr: none.
  std::shared_ptr<const Model> draft_model;
  int n_draft = 8;  // [0, kMostDrafts]; 0: draft_model is not used
  /// Its drafts end where it thinks it less likely than this that all of them are drawn [0, 1]; 0: where another is
  /// likely to cost more than it spares, judged by the sizes of the models. What it says is corrected by what came
  /// true.
  float draft_min_probability = 0;
  LogSink log;
  /// Looked at between the layers of every pass and for every token, by all calls: while it is not 0 they end as when a
  /// callback returned false. nullptr: none. Another thread may set it, or a signal handler; it outlives the session.
  const volatile int* cancel = nullptr;
};

/// Memory that a session will use, before any of it is allocated.
/// Errors: kInvalidArgument names the option and its range.
Result<MemoryPlan> plan_session(const Model& model, const SessionOptions& options);

/// One piece of user input: text, or a picture as encode_image() or load_embedding() gave it. Text is data: a control
/// token written in it stays text, but in a raw message. An assistant's is what the model said, join_answer().
struct MessagePart {
  std::string text;
  std::shared_ptr<const ImageEmbedding> image;  // when set, text is ignored
};
/// Role of a message without a chat template: its parts go to the model as they are (tokenize_raw()). It is the only
/// one of its call. A chat message after it treats what was said as an answer that was cut off.
inline constexpr const char* kRawRole = "raw";
struct Message {
  std::string role;  // "system", "user", "assistant", "tool" (ChatMessage), or kRawRole
  std::vector<MessagePart> parts;
};

struct GenerateOptions {
  SamplerOptions sampler;
  int64_t max_tokens = 512;       // -1: until the context is full; 0: prefill only
  std::vector<std::string> stop;  // matched on the text, across token borders; not part of the answer
  int n_top_logprobs = 0;         // per token; 0: no log-probabilities are computed
  bool render_special = false;    // show <|box_start|> and the like
  /// What the answer may be; nullptr: anything. It is then complete when its reason is kStop, and the beginning of one
  /// otherwise. Where the prompt ends inside of <think> it holds from </think> on. An answer that goes on with one that
  /// was cut off begins anew in it. Where only one text can follow,
  /// that enters as the tokenizer writes it, without a pass for each token (unless n_top_logprobs asks for logits); the
  /// end too. Log-probabilities and logits() stay those of the model.
  std::shared_ptr<const Constraint> constraint;
  /// Called for each token with a piece of complete, valid UTF-8, never a part of a stop string, and empty where the
  /// token brought none that may be shown; returning false cancels (the answer so far is kept). Must not call the
  /// session.
  std::function<bool(std::string_view text)> on_text;
  /// Called during prefill with the fraction done (stage "prefill"); returning false cancels: generate() gives the
  /// error kCancelled and the session is as before the call.
  ProgressSink progress;
};

/// What generate() and begin_answer() check of the options themselves. Errors: kInvalidArgument names the option.
Status check_generate_options(const Model& model, const GenerateOptions& options);

enum class FinishReason { kStop, kStopString, kMaxTokens, kContextFull, kCancelled };
const char* finish_reason_name(
    FinishReason reason);  // "stop", "stop_string", "max_tokens", "context_full", "cancelled"

/// Of one turn, in milliseconds. Pictures count for the turn that begins after they were encoded. The first token comes
/// from the prefill's logits: decode is the time of n_generated_tokens - 1 - n_accepted_tokens passes.
struct Timings {
  double image_decode = 0, image_resize = 0, image_encode = 0;
  double prefill = 0, decode = 0;
  int64_t n_image_tokens = 0;      // cache slots of the prompt's pictures; part of n_prompt_tokens
  int64_t n_prompt_tokens = 0;     // run through the decoder by prefill
  int64_t n_cached_tokens = 0;     // of earlier turns, found in the cache
  int64_t n_generated_tokens = 0;  // with the one that ended the answer
  int64_t n_drafted_tokens = 0;    // by prompt lookup or the draft model, run through the decoder
  int64_t n_accepted_tokens = 0;   // of those: drawn in fact, which made a pass needless
};

struct Answer {
  std::string text;                    // the concatenation of what on_text got
  std::vector<TokenId> tokens;         // every token drawn, with <|im_end|> and those of a stop string
  std::vector<SampledToken> logprobs;  // one per token, when n_top_logprobs > 0
  bool thinking_open = false;          // it begins inside of <think>: AnswerSplitter::Options
  bool finished = false;
  FinishReason reason = FinishReason::kStop;  // when finished
  Timings timings;                            // when finished by generate()
};

struct SessionSizes;  // engine/generate/session_plan.h
struct Workbench;     // engine/generate/workbench.h
class KvCache;

/// Used by one thread at a time. The conversation that the cache holds is the messages and the answers' texts: what a
/// stop string cut off is forgotten, and what a failed or cancelled call did is undone, also when an exception ended it
/// (memory, a callback).
class Session {
 public:
  ~Session();
  /// Allocates everything that plan_session() names. Errors: kOutOfMemory with the plan's sizes; those of
  /// plan_session().
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model, const SessionOptions& options);
  /// One of the family of a bench, which was made with these sizes. Errors: kOutOfMemory.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model, std::shared_ptr<Workbench> bench,
                                                 const SessionSizes& sizes, LogSink log);

  /// With what encoded pictures are to be opened for encode_image().
  DecodeOptions decode_options(const ProgressSink& progress) const;

  /// Reads, resizes and encodes a picture, which is not held whole unless its format asks for that. timings: nullptr,
  /// or the record of this one picture. Errors: those of the reader, kInvalidArgument (aspect ratio), kMismatch (model
  /// without vision), kTooLarge (source_limits), kOutOfMemory, kContextFull (the picture alone exceeds the context;
  /// nothing was read or encoded), kNumeric, kCancelled.
  Result<std::shared_ptr<const ImageEmbedding>> encode_image(ImageReader& picture, Timings* timings,
                                                             const ProgressSink& progress);
  /// The same with pixels in memory. Errors also: kInvalidArgument (pixels that contradict the size).
  Result<std::shared_ptr<const ImageEmbedding>> encode_image(const Image& image, Timings* timings,
                                                             const ProgressSink& progress);

  /// The same for a video, frame by frame. Errors also: those of PictureEncoder::encode_video().
  Result<std::shared_ptr<const ImageEmbedding>> encode_video(const VideoFrames& video, Timings* timings,
                                                             const ProgressSink& progress);

  /// Appends messages to the conversation and prefills them with the generation prompt; earlier turns stay in the
  /// cache. After another prefill() without an answer the messages follow those before. Errors: kContextFull says how
  /// many tokens the prompt has and how many fit; kMismatch for an embedding of another model; kInvalidArgument,
  /// kUnsupported (tokenize_chat()); kNumeric, kCancelled. The session is as before the call.
  Status prefill(const std::vector<Message>& messages, const ProgressSink& progress);
  /// Tools and thinking, of the prompts from now on; forks have them too, checkpoints and files do not. Tools are
  /// written where the conversation begins. What cannot be done is said by the next prefill.
  void set_prompt_options(PromptOptions options);
  /// Begins an answer to what was prefilled, or goes on with one that was cut off (max_tokens, cancelled, ...).
  /// Errors: kInvalidArgument: an option outside its range, or nothing to answer; kMismatch: a constraint that was
  /// compiled for another model's tokenizer.
  Status begin_answer(const GenerateOptions& options);
  struct Step {
    SampledToken token;  // id -1: none was drawn (max_tokens is 0, or the context was full before)
    std::string text;    // may be shown now
    bool finished = false;
    FinishReason reason = FinishReason::kStop;  // when finished
  };
  /// The next token of the answer under the sampler of begin_answer(); for those who step by themselves. The token
  /// drawn enters the cache with the next step or prefill. Errors: kInvalidArgument without begin_answer() or after the
  /// end; kNumeric; kCancelled by the flag; those of the constraint. The step may be tried again.
  Result<Step> step();
  /// prefill + begin_answer + step until finished. No messages: goes on from where the conversation stands, as
  /// begin_answer() does. After an error the session is as before the call.
  Result<Answer> generate(const std::vector<Message>& messages, const GenerateOptions& options);

  /// As a step that drew this token: whoever samples by himself, or forces text. No pass is run; what was fed goes into
  /// the cache together, with the next step(), forward() or prefill(). Errors: kInvalidArgument also for a token
  /// outside the vocabulary.
  Result<Step> feed(TokenId id);
  /// Runs what was fed or drawn since the last pass, so that logits() are those behind it. Errors: those of the pass;
  /// it may be tried again.
  Status forward();
  /// A step of each of several sessions of one family, whose passes are one: each gets what it would get alone, bit for
  /// bit. An error of one is told in its place and does not touch the others. Errors: kInvalidArgument for sessions of
  /// several families, or one that is there twice; nothing was done then.
  /// Where a prompt waits (begin()), its next rows go through instead, at most most_rows[i] of them (empty: all); with
  /// the last of them the step draws the first token, before that its token is -1 and it is not finished.
  static Result<std::vector<Result<Step>>> step_many(std::span<Session* const> sessions,
                                                     std::span<const int64_t> most_rows = {});

  /// generate() in pieces, for those who run several sessions: the prompt is ready, and its rows go through with the
  /// calls of step_many() that follow. Until all have, any other call forgets it, and the session is as before this
  /// one. Errors: as generate(), but for those of passes.
  Status begin(const std::vector<Message>& messages, const GenerateOptions& options);
  /// Of the prompt that waits: its rows, PassRows::kPicture those of pictures, and how many are yet to go through.
  std::span<const TokenId> prompt_rows() const;
  int64_t n_prompt_left() const;
  /// The first n rows of the prompt, fewer than all, have been computed by another session of the family and are in
  /// these pages; 0: none, after all. Errors: kInvalidArgument (rows went through already, or the conversation is not
  /// empty), kDevice.
  Status adopt(std::span<const int32_t> pages, int64_t n);
  /// Tokens that go into the cache with the next pass.
  int64_t n_pending() const;
  /// Ids by slot of the cache, pad tokens where pictures are; not those of a prompt that waits.
  std::span<const TokenId> cached_tokens() const;
  KvCache& cache();

  /// All that a session is at a moment; lives on pages of the family's pool, of which it shares what it can.
  class Checkpoint {
   public:
    ~Checkpoint();

   private:
    friend class Session;
    struct State;
    explicit Checkpoint(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  Result<std::unique_ptr<Checkpoint>> checkpoint() const;
  /// Back, or forth, to a checkpoint of this session or another of its family. Errors: kInvalidArgument (of another
  /// family), kDevice.
  Status rewind(const Checkpoint& checkpoint);
  /// A session that goes on from here by itself, on the same threads, scratch and pool: a family, of which one session
  /// works at a time. An answer in the making goes on in both. Errors: kOutOfMemory.
  Result<std::unique_ptr<Session>> fork() const;
  bool same_family(const Session& other) const;
  /// Pages of kKeyBlock slots in the family's pool, and those of them that nobody has.
  int64_t n_pages() const;
  int64_t n_free_pages() const;
  uint64_t page_bytes() const;

  /// The conversation as bytes: for a session of the same model with the same kind of cache on the same kind of device.
  /// An answer in the making is one that was cut off. saved_bytes() of them, in pieces. Errors: those of the sink,
  /// kDevice.
  uint64_t saved_bytes() const;
  Status save(FunctionRef<Status(std::span<const std::byte>)> sink) const;
  /// Takes the place of what the session holds. Every byte is checked before anything changes. Errors: kTruncated,
  /// kCorrupt, kUnsupported (another version), kMismatch (another model, cache or device), kContextFull.
  Status load(std::span<const std::byte> bytes);

  /// Logits of the last slot of the cache, (vocab_size), as the model gave them: after a step those that its token was
  /// drawn from, for that token has no slot yet; a token that a constraint forced was drawn from none. Where a GPU drew
  /// it they are computed again when asked for. Errors:
  /// kInvalidArgument before the first prefill and after an undone call; kNumeric and kDevice of that pass.
  Result<std::span<const float>> logits() const;
  /// The last answer, or what steps have made of it so far.
  const Answer& answer() const;
  /// The same with its timings, moved out: answer() is empty then.
  Answer take_answer();
  /// Cache slots in use; drafts that were not drawn (n_speculate) do not count.
  int64_t n_past() const;
  /// Of these, so many stand where a prompt of the same tokens would have them: an answer about a video whose time runs
  /// ahead of the words behind it begins further away.
  int64_t n_past_as_prompt() const;
  /// Cache slots: the context asked for, or the model's.
  int64_t context() const;
  /// What the options came to.
  const SessionSizes& sizes() const;
  /// Forgets the conversation.
  void reset();
  /// Of the current or last turn.
  const Timings& timings() const;

 private:
  friend Status check_generate_options(const Model& model, const GenerateOptions& options);
  Session();
  struct Impl;
  class JointStep;
  std::unique_ptr<Impl> impl_;
};

}  // namespace glimpse
