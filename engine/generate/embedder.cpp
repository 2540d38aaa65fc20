#include "engine/generate/embedder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/generate/conversation.h"

namespace glimpse {
namespace {

// Source: the model card of Qwen3-Reranker.
constexpr const char* kJudge =
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    "answer can only be \"yes\" or \"no\".";
constexpr const char* kUsualTask = "Given a web search query, retrieve relevant passages that answer the query";

constexpr int64_t kTextsAtOnce = 8;  // short ones: each has a page of the cache

void normalize(std::vector<float>& values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * v;
  if (sum == 0) return;
  const double scale = 1 / std::sqrt(sum);
  for (float& v : values) v = static_cast<float>(v * scale);
}

// rows: (n, width), the hidden states of a text; the last alone for Pooling::kLast.
std::vector<float> pool(const std::vector<float>& rows, int64_t width, Pooling pooling) {
  const auto w = static_cast<size_t>(width);
  const size_t n = rows.size() / w;
  if (pooling == Pooling::kLast) return {rows.end() - static_cast<ptrdiff_t>(w), rows.end()};
  if (pooling == Pooling::kCls) return {rows.begin(), rows.begin() + static_cast<ptrdiff_t>(w)};
  std::vector<float> mean(w);
  for (size_t i = 0; i < w; ++i) {
    double sum = 0;
    for (size_t row = 0; row < n; ++row) sum += rows[row * w + i];
    mean[i] = static_cast<float>(sum / static_cast<double>(n));
  }
  return mean;
}

int64_t n_tokens_of(std::span<const Embedder::Prompt> prompts) {
  int64_t n = 0;
  for (const Embedder::Prompt& prompt : prompts) n += static_cast<int64_t>(prompt.ids.size());
  return n;
}

// Of softmax(values), the part of values[which].
float probability(const std::vector<float>& values, size_t which) {
  double sum = 0;
  for (const float v : values) sum += std::exp(static_cast<double>(v) - static_cast<double>(values[which]));
  return static_cast<float>(1 / sum);
}

}  // namespace

Result<std::unique_ptr<Embedder>> Embedder::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  SessionOptions reading = options;
  reading.draft_model = nullptr;  // it says nothing
  GLIMPSE_ASSIGN(SessionSizes sizes, session_sizes(*model, reading));
  sizes.pool_slots = std::max(sizes.pool_slots, kTextsAtOnce * kKeyBlock);
  std::unique_ptr<Embedder> embedder(new Embedder(std::move(model), sizes));
  GLIMPSE_ASSIGN(std::unique_ptr<Ops> ops, embedder->model_->make_ops(sizes.n_threads, options.log));
  MemoryPlan plan = session_memory(*embedder->model_, *ops, sizes, options.kv_element);
  plan.vision_scratch = plan.image_reading = 0;
  GLIMPSE_TRY(check_available(plan, *ops, "the embedder", "a smaller context"));
  const auto allocate = [&]() -> Status {
    Embedder& e = *embedder;
    e.ops_ = std::move(ops);
    GLIMPSE_ASSIGN(e.pages_,
                   KvPages::create(*e.model_, *e.ops_, KvPages::pages_for(sizes.pool_slots), options.kv_element));
    GLIMPSE_ASSIGN(e.decoder_, TextDecoder::create(e.model_, *e.ops_, sizes.context, sizes.batch));
    return {};
  };
  if (Status allocated = allocate(); !allocated.ok()) return explain(std::move(allocated).error(), plan);
  return embedder;
}

// The token that the tokenizers of embedding models put behind a text, as the file says.
Status Embedder::add_end(Prompt& prompt) const {
  const auto said = model_->text_metadata().find("tokenizer.ggml.add_eos_token");
  const Tokenizer& tokenizer = model_->tokenizer();
  const bool is_said = said != model_->text_metadata().end();
  if (is_said && said->second != "true") return {};
  // Files that do not say: Qwen3-Embedding's tokenizer adds <|endoftext|>; prompts of a chat have their own end.
  TokenId end = is_said ? tokenizer.eos() : tokenizer.find("<|endoftext|>");
  if (!is_said && model_->text().sees_pictures()) return {};
  if (end < 0) end = tokenizer.eos();
  if (end >= 0) prompt.ids.push_back(end);
  return {};
}

Result<Embedder::Prompt> Embedder::chat_prompt(const std::vector<Message>& messages, const ChatOptions& options) const {
  Prompt prompt;
  std::vector<const ImageEmbedding*> pictures;
  GLIMPSE_ASSIGN(const std::vector<ChatMessage> chat,
                 chat_messages(messages, model_->text().embedding_width(), model_->vision_fingerprint(), pictures));
  GLIMPSE_ASSIGN(TokenizedChat tokenized, tokenize_chat(model_->tokenizer(), chat, options));
  for (const VisualSpan& span : tokenized.visuals) {
    prompt.pictures.push_back(
        {span.position, pictures[static_cast<size_t>(span.part_index)], span.slice, span.is_slice ? 1 : 0});
  }
  prompt.ids = std::move(tokenized.ids);
  return prompt;
}

Result<Embedder::Prompt> Embedder::text_prompt(const EmbedInput& input, const EmbedOptions& options) const {
  Prompt prompt;
  if (model_->text().sees_pictures()) {
    ChatOptions chat = chat_options(model_->chat_format());
    chat.default_system = options.instruction.empty() ? "Represent the user's input." : options.instruction;
    GLIMPSE_ASSIGN(prompt, chat_prompt({{"user", input}}, chat));
  } else {
    std::string text = options.instruction.empty() ? "" : "Instruct: " + options.instruction + "\nQuery:";
    for (const MessagePart& part : input) {
      if (part.image != nullptr) {
        return make_error(ErrorCode::kMismatch, "a picture is given, but the model takes texts only");
      }
      GLIMPSE_TRY(check_prompt_text(part.text, "the text"));
      text += part.text;
    }
    GLIMPSE_ASSIGN(prompt.ids, model_->tokenizer().encode(text, {.parse_markup = false}));
  }
  GLIMPSE_TRY(add_end(prompt));
  if (prompt.ids.empty()) return make_error(ErrorCode::kInvalidArgument, "it is empty");
  return prompt;
}

Result<std::vector<std::vector<float>>> Embedder::run(std::span<const Prompt> prompts, DecoderOutput what,
                                                      bool all_rows, const ProgressSink& progress) {
  std::vector<std::vector<float>> outputs;
  const int64_t width = output_width(model_->text(), what);
  for (size_t begin = 0; begin < prompts.size();) {
    // As many texts as a pass has rows and the pool has pages for, and as leaves each the bits that it has alone; a
    // long one takes passes of its own.
    std::vector<PassInput> inputs;
    std::vector<std::unique_ptr<KvCache>> caches;
    std::vector<TextDecoder::Input> pass;
    const int64_t alike = ops_->most_rows_alike();
    const bool is_short = static_cast<int64_t>(prompts[begin].ids.size()) <= alike;
    int64_t n_rows = 0, n_pages = 0;
    size_t end = begin;
    for (; end < prompts.size(); ++end) {
      const auto n = static_cast<int64_t>(prompts[end].ids.size());
      if (n > sizes_.context) {
        return make_error(ErrorCode::kContextFull, "input %d has %d tokens; the context holds %d", end + 1, n,
                          sizes_.context);
      }
      n_rows += n;
      n_pages += KvPages::pages_for(n);
      const bool fits = n_rows <= sizes_.batch && n_pages <= KvPages::pages_for(sizes_.pool_slots);
      const bool is_alike = is_short ? n_rows <= alike : n > alike;
      if (end > begin && !(fits && is_alike)) break;
    }
    inputs.reserve(end - begin);
    for (size_t i = begin; i < end; ++i) {
      GLIMPSE_TRY(inputs.emplace_back().append(prompts[i].ids, prompts[i].pictures));
      GLIMPSE_ASSIGN(std::unique_ptr<KvCache> cache, KvCache::create(pages_, sizes_.context));
      caches.push_back(std::move(cache));
      outputs.emplace_back(static_cast<size_t>(width * (all_rows ? inputs.back().n_rows() : 1)));
    }
    for (size_t i = begin; i < end; ++i) {
      pass.push_back({caches[i - begin].get(), inputs[i - begin].rows(), outputs[i], all_rows, what});
    }
    const ProgressSink here = [&](std::string_view, double fraction) {
      const double done = static_cast<double>(begin) + fraction * static_cast<double>(end - begin);
      return !progress || progress("embed", done / static_cast<double>(prompts.size()));
    };
    GLIMPSE_TRY(decoder_->run(pass, {}, here));
    n_tokens_ += n_tokens_of(prompts.subspan(begin, end - begin));
    begin = end;
  }
  return outputs;
}

// What the prompts make is wide, so that not all of it is held at once: take() gets it prompt by prompt.
Status Embedder::run_parts(std::span<const Prompt> prompts, const char* word, DecoderOutput what, bool all_rows,
                           const ProgressSink& progress, Take take) {
  const size_t n_at_once = all_rows ? static_cast<size_t>(kTextsAtOnce) : 64;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto n = static_cast<int64_t>(prompts[i].ids.size());
    if (n <= sizes_.context) continue;
    return make_error(ErrorCode::kContextFull, "%s %d has %d tokens; the context holds %d", word, i + 1, n,
                      sizes_.context);
  }
  for (size_t first = 0; first < prompts.size(); first += n_at_once) {
    const auto some = prompts.subspan(first, std::min(n_at_once, prompts.size() - first));
    const ProgressSink share = [&](std::string_view stage, double fraction) {
      const double done = static_cast<double>(first) + fraction * static_cast<double>(some.size());
      return !progress || progress(stage, done / static_cast<double>(prompts.size()));
    };
    GLIMPSE_ASSIGN(const auto made, run(some, what, all_rows, share));
    for (const std::vector<float>& of_one : made) GLIMPSE_TRY(take(of_one));
  }
  return {};
}

Result<std::vector<std::vector<float>>> Embedder::embed(std::span<const EmbedInput> inputs, const EmbedOptions& options,
                                                        const ProgressSink& progress) {
  const TextConfig& text = model_->text();
  const Pooling pooling = options.pooling.value_or(text.pooling);
  if (text.pooling == Pooling::kRank) {
    return make_error(ErrorCode::kUnsupported, "the model is a reranker: it gives scores, not vectors");
  }
  if (pooling == Pooling::kNone || pooling == Pooling::kRank) {
    return make_error(ErrorCode::kUnsupported,
                      "the model's file has no pooling_type, it was not made for vectors: name a pooling (last, mean "
                      "or cls) to have them all the same");
  }
  n_tokens_ = 0;
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Result<Prompt> prompt = text_prompt(inputs[i], options);
    if (!prompt.ok()) return with_context(prompt.error(), format("input %d", i + 1));
    prompts.push_back(std::move(prompt).value());
  }
  std::vector<std::vector<float>> vectors;
  const auto take = [&](const std::vector<float>& rows) -> Status {
    vectors.push_back(pool(rows, text.hidden_size, pooling));
    if (options.normalize) normalize(vectors.back());
    return {};
  };
  GLIMPSE_TRY(run_parts(prompts, "input", DecoderOutput::kHidden, pooling != Pooling::kLast, progress, take));
  return vectors;
}

Result<float> Embedder::score(const std::vector<float>& values) const {
  const std::vector<std::string>& labels = model_->text().labels;
  if (model_->text().pooling == Pooling::kRank) {
    if (values.size() == 1) return static_cast<float>(1 / (1 + std::exp(-static_cast<double>(values[0]))));
    const auto yes = std::find(labels.begin(), labels.end(), "yes");
    return probability(values, yes == labels.end() ? 0 : static_cast<size_t>(yes - labels.begin()));
  }
  const TokenId yes = model_->tokenizer().find("yes"), no = model_->tokenizer().find("no");
  return probability({values[static_cast<size_t>(yes)], values[static_cast<size_t>(no)]}, 0);
}

Result<std::vector<float>> Embedder::rank(const EmbedInput& query, std::span<const EmbedInput> documents,
                                          const RankOptions& options, const ProgressSink& progress) {
  const bool has_head = model_->text().pooling == Pooling::kRank;
  if (!has_head && model_->text().pooling != Pooling::kNone) {
    return make_error(ErrorCode::kUnsupported,
                      "the model makes vectors (pooling_type %s), not scores: embed both and "
                      "compare",
                      pooling_name(model_->text().pooling));
  }
  if (!has_head && (model_->tokenizer().find("yes") < 0 || model_->tokenizer().find("no") < 0)) {
    return make_error(ErrorCode::kUnsupported, "the model has neither a classifier nor tokens for yes and no");
  }
  ChatOptions chat = chat_options(model_->chat_format());
  chat.style.opens_thinking = false;
  chat.style.can_skip_thinking = !model_->text().sees_pictures();
  chat.enable_thinking = false;
  n_tokens_ = 0;
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < documents.size(); ++i) {
    Message user{"user",
                 {{std::string("<Instruct>: ") +
                       (options.instruction.empty() ? kUsualTask : options.instruction.c_str()) + "\n<Query>: ",
                   nullptr}}};
    user.parts.insert(user.parts.end(), query.begin(), query.end());
    user.parts.push_back({"\n<Document>: ", nullptr});
    user.parts.insert(user.parts.end(), documents[i].begin(), documents[i].end());
    Result<Prompt> prompt = chat_prompt({{"system", {{kJudge, nullptr}}}, user}, chat);
    if (!prompt.ok()) return with_context(prompt.error(), format("document %d", i + 1));
    prompts.push_back(std::move(prompt).value());
  }
  const DecoderOutput what = has_head ? DecoderOutput::kLabels : DecoderOutput::kLogits;
  std::vector<float> scores;
  const auto take = [&](const std::vector<float>& values) -> Status {
    GLIMPSE_ASSIGN(const float one, score(values));
    scores.push_back(one);
    return {};
  };
  GLIMPSE_TRY(run_parts(prompts, "document", what, false, progress, take));
  return scores;
}

}  // namespace glimpse
