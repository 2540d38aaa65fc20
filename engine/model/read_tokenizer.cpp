#include "engine/model/read_tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace glimpse {
namespace {

// ids that are optional in a file: -1 when absent or of a type that does not fit.
TokenId optional_token(const GgufFile& file, const char* key) {
  const auto found = file.optional_uint(key);
  const uint64_t id = found.ok() ? found.value().value_or(UINT64_MAX) : UINT64_MAX;
  return id <= INT32_MAX ? static_cast<TokenId>(id) : -1;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_tokenizer(const GgufFile& file, const TextConfig& config) {
  const char* path = file.path().c_str();
  VocabularyData data;
  const std::vector<std::string>* tokens = file.string_array("tokenizer.ggml.tokens");
  const std::vector<std::string>* merges = file.string_array("tokenizer.ggml.merges");
  if (tokens == nullptr || merges == nullptr) {
    return make_error(ErrorCode::kCorrupt, "%s: the file has no vocabulary: %s is missing or no list of strings", path,
                      tokens == nullptr ? "tokenizer.ggml.tokens" : "tokenizer.ggml.merges");
  }
  if (static_cast<int64_t>(tokens->size()) > config.vocab_size) {
    return make_error(ErrorCode::kCorrupt, "%s: %zu tokens, but token_embd.weight has %lld rows", path, tokens->size(),
                      static_cast<long long>(config.vocab_size));
  }
  GLIMPSE_ASSIGN(const auto model, file.optional_string("tokenizer.ggml.model"));
  GLIMPSE_ASSIGN(const auto pre, file.optional_string("tokenizer.ggml.pre"));
  GLIMPSE_ASSIGN(const std::vector<int64_t> types, file.int_array("tokenizer.ggml.token_type"));
  data.tokens = *tokens;
  data.merges = *merges;
  data.model = model.value_or("gpt2");
  data.pre = pre.value_or("");
  data.token_types.reserve(types.size());
  for (const int64_t type : types) data.token_types.push_back(static_cast<int32_t>(std::clamp<int64_t>(type, 0, 127)));
  data.eos = optional_token(file, "tokenizer.ggml.eos_token_id");
  data.padding = optional_token(file, "tokenizer.ggml.padding_token_id");
  Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
  if (!tokenizer.ok()) return with_context(tokenizer.error(), file.path());
  return std::make_unique<Tokenizer>(std::move(tokenizer).value());
}

Status TokenizerReading::start(const GgufFile& file, const TextConfig& config, bool beside) {
  constexpr int64_t kWorthAThread = 8192;  // words; a thread takes as long to start as some hundred of them
  if (beside && config.vocab_size >= kWorthAThread) {
    auto thread = OwnThread::start("glimpse-words", [&] { read(file, config); });
    if (thread.ok()) {
      thread_ = std::move(thread).value();
      return {};
    }
  }
  read(file, config);
  if (!failed_.load(std::memory_order_relaxed)) return {};
  return finish().error();
}

void TokenizerReading::read(const GgufFile& file, const TextConfig& config) noexcept {
  try {
    result_.emplace(read_tokenizer(file, config));
  } catch (...) {  // std::bad_alloc: nothing else is thrown there
    result_.reset();
  }
  if (!result_ || !result_->ok()) failed_.store(true, std::memory_order_relaxed);
}

Result<std::unique_ptr<Tokenizer>> TokenizerReading::finish() {
  thread_.join();
  if (!result_) return make_error(ErrorCode::kOutOfMemory, "not enough memory for the vocabulary");
  return std::move(*result_);
}

}  // namespace glimpse
