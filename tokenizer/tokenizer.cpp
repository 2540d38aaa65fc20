#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "tokenizer/bpe.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/token_trie.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary.h"

namespace glimpse {

namespace {

// Whether merging the bytes of a word gives the word itself. It nearly always does, but merge order can make a token
// unreachable; found out when the word is first met.
enum class Whole : uint8_t { kUnknown, kYes, kNo };

/// Appends the ids of fragments to a vector; keeps the scratch memory between pieces.
class FragmentEncoder {
 public:
  /// whole: one entry per token; learns.
  FragmentEncoder(const Vocabulary& vocabulary, std::atomic<Whole>* whole, std::vector<TokenId>& ids)
      : vocabulary_(vocabulary), whole_(whole), merger_(vocabulary.merges), ids_(ids) {}

  void encode(std::string_view fragment) {
    for (size_t begin = 0; begin < fragment.size();) {
      const size_t n = next_piece(fragment, begin);
      encode_piece(fragment.substr(begin, n));
      begin += n;
    }
  }

 private:
  void encode_piece(std::string_view piece) {
    TokenId word = -1;
    if (piece.size() <= vocabulary_.tokens.longest_word()) word = vocabulary_.tokens.find_word(piece);
    if (word >= 0 && whole_[static_cast<size_t>(word)].load(std::memory_order_relaxed) == Whole::kYes) {
      ids_.push_back(word);
      return;
    }
    symbols_.clear();
    for (const char byte : piece) symbols_.push_back(vocabulary_.byte_tokens[static_cast<unsigned char>(byte)]);
    merger_.merge(symbols_);
    ids_.insert(ids_.end(), symbols_.begin(), symbols_.end());
    if (word >= 0) {
      whole_[static_cast<size_t>(word)].store(symbols_.size() == 1 ? Whole::kYes : Whole::kNo,
                                              std::memory_order_relaxed);
    }
  }

  const Vocabulary& vocabulary_;
  std::atomic<Whole>* const whole_;
  BpeMerger merger_;
  std::vector<TokenId> symbols_;
  std::vector<TokenId>& ids_;
};

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(Vocabulary v)
      : vocabulary(std::move(v)), whole(new std::atomic<Whole>[static_cast<size_t>(vocabulary.tokens.size())]()) {}

  bool contains(TokenId id) const { return id >= 0 && id < vocabulary.tokens.size(); }

  Vocabulary vocabulary;
  // The mutable parts; every thread computes the same values.
  std::unique_ptr<std::atomic<Whole>[]> whole;
  std::mutex trie_mutex;
  std::shared_ptr<const TokenTrie> trie;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(const VocabularyData& data) {
  GLIMPSE_ASSIGN(Vocabulary vocabulary, build_vocabulary(data));
  return Tokenizer(std::make_unique<Impl>(std::move(vocabulary)));
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, const TokenizeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return make_error(ErrorCode::kTooLarge, "text of %d bytes; at most %d can be tokenized at once", text.size(),
                      kMaxTextBytes);
  }
  if (const size_t bad = find_invalid_utf8(text); bad != std::string_view::npos) {
    return make_error(ErrorCode::kInvalidArgument, "text is not valid UTF-8 at byte %d (0x%02x)", bad,
                      static_cast<unsigned char>(text[bad]));
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4 + 1);  // about what English takes
  FragmentEncoder encoder(impl_->vocabulary, impl_->whole.get(), ids);
  // Special tokens are cut out first; nothing, normalisation included, reaches across them.
  for (size_t begin = 0; begin < text.size();) {
    const auto match = impl_->vocabulary.specials.find(text, begin, options.parse_markup || options.parse_special,
                                                       options.parse_special);
    const std::string_view fragment = text.substr(begin, match.begin - begin);
    if (options.normalize_nfc && !is_nfc_quickly(fragment)) {
      encoder.encode(to_nfc(fragment));
    } else {
      encoder.encode(fragment);
    }
    if (match.id >= 0) ids.push_back(match.id);
    begin = match.end;
  }
  return ids;
}

std::string_view Tokenizer::token_bytes(TokenId id, bool render_special) const {
  switch (type(id)) {
    case TokenType::kUnused:
      return {};
    case TokenType::kControl:
    case TokenType::kUnknown:
      return render_special ? impl_->vocabulary.tokens.bytes(id) : std::string_view();
    default:
      return impl_->vocabulary.tokens.bytes(id);
  }
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool render_special) const {
  std::string bytes;
  for (const TokenId id : ids) bytes.append(token_bytes(id, render_special));
  return bytes;
}

TokenId Tokenizer::find(std::string_view text) const {
  return impl_->vocabulary.find(text);
}

TokenType Tokenizer::type(TokenId id) const {
  return impl_->contains(id) ? impl_->vocabulary.types[static_cast<size_t>(id)] : TokenType::kUnused;
}

int64_t Tokenizer::size() const {
  return impl_->vocabulary.tokens.size();
}
TokenId Tokenizer::eos() const {
  return impl_->vocabulary.eos;
}
TokenId Tokenizer::padding() const {
  return impl_->vocabulary.padding;
}

bool Tokenizer::is_end_of_generation(TokenId id) const {
  const auto& ends = impl_->vocabulary.ends;
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

std::shared_ptr<const TokenTrie> Tokenizer::trie() const {
  const std::lock_guard lock(impl_->trie_mutex);
  if (impl_->trie == nullptr) impl_->trie = std::make_shared<const TokenTrie>(*this);
  return impl_->trie;
}

}  // namespace glimpse
