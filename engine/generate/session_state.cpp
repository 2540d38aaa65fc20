// A conversation as bytes, little-endian:
//   header   "GLIS", u32 version (2), u64 fingerprint of model, cache and device, i64 n_cached, n_pending,
//   next_position,
//            turn, n_logits (vocab_size or 0), page_bytes, greatest position, slot and length of a jump of positions,
//            then u64 hash of these
//   tokens   (n_cached + n_pending) i32, u64 hash
//   logits   n_logits f32 of the last slot, u64 hash; nothing when n_logits is 0
//   pages    for every 256 slots: page_bytes as the backend has them, slots behind the last as zeros; u64 hash
// Hashes are hash_block() of what stands before them since the one before.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/base/hash.h"
#include "engine/generate/session_impl.h"

namespace glimpse {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[4] = {'G', 'L', 'I', 'S'};
constexpr uint32_t kVersion = 2;
enum Field { kCached, kPending, kNextPosition, kTurn, kLogits, kPageBytes, kGreatest, kJumpSlot, kJumpBy, kFields };

struct Header {
  char magic[4];
  uint32_t version;
  uint64_t fingerprint;
  int64_t fields[kFields];
};
static_assert(sizeof(Header) == 16 + 8 * kFields);

// Pieces on their way out, each with its hash behind it.
class Writer {
 public:
  explicit Writer(FunctionRef<Status(std::span<const std::byte>)> sink) : sink_(sink) {}
  Status piece(std::span<const std::byte> bytes) {
    GLIMPSE_TRY(sink_(bytes));
    const uint64_t hash = hash_block(bytes);
    return sink_(std::as_bytes(std::span(&hash, 1)));
  }

 private:
  FunctionRef<Status(std::span<const std::byte>)> sink_;
};

// Pieces of bytes that came from anywhere.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  // The next n bytes. Errors: kTruncated, kCorrupt.
  Result<std::span<const std::byte>> piece(uint64_t n, const char* what) {
    if (bytes_.size() < sizeof(uint64_t) || bytes_.size() - sizeof(uint64_t) < n) {
      return make_error(ErrorCode::kTruncated, "session state: it ends within its %s: %d bytes, want %d", what,
                        bytes_.size(), n + sizeof(uint64_t));
    }
    const std::span<const std::byte> found = bytes_.first(static_cast<size_t>(n));
    uint64_t hash = 0;
    std::memcpy(&hash, bytes_.data() + n, sizeof hash);
    if (hash != hash_block(found)) {
      return make_error(ErrorCode::kCorrupt, "session state: it is damaged: the checksum of its %s does not fit", what);
    }
    bytes_ = bytes_.subspan(static_cast<size_t>(n) + sizeof hash);
    return found;
  }
  size_t n_left() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
};

// What was read, checked, and not yet used.
struct Loaded {
  Conversation::State conversation;
  std::vector<float> logits;
  std::vector<std::span<const std::byte>> pages;
};

Result<Header> read_header(Reader& reader, std::span<const std::byte> bytes, uint64_t fingerprint) {
  if (bytes.size() >= sizeof kMagic && std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    return make_error(ErrorCode::kCorrupt, "session state: it does not start with 'GLIS'");
  }
  uint32_t version = kVersion;
  if (bytes.size() >= 8) std::memcpy(&version, bytes.data() + sizeof kMagic, sizeof version);
  if (version != kVersion) {
    return make_error(ErrorCode::kUnsupported, "session state: version %u, want %u: it was made by %s glimpse", version,
                      kVersion, version < kVersion ? "an older" : "a newer");
  }
  GLIMPSE_ASSIGN(const std::span<const std::byte> raw, reader.piece(sizeof(Header), "header"));
  Header header;
  std::memcpy(&header, raw.data(), sizeof header);
  if (header.fingerprint != fingerprint) {
    return make_error(ErrorCode::kMismatch,
                      "session state: it is of another model, another type of cache or another kind of device "
                      "(fingerprint %016x, this session's is %016x)",
                      header.fingerprint, fingerprint);
  }
  return header;
}

Status check_header(const Header& header, const SessionSizes& sizes, int64_t vocab_size, uint64_t page_bytes) {
  const auto field = [&](Field f) { return header.fields[f]; };
  const bool sane = field(kCached) >= 0 && field(kPending) >= 0 && field(kCached) <= INT32_MAX &&
                    field(kPending) <= INT32_MAX && field(kNextPosition) >= 0 &&
                    field(kNextPosition) <= kMostPosition && field(kGreatest) >= -1 &&
                    field(kGreatest) < kMostPosition && field(kJumpSlot) >= -1 && field(kJumpSlot) <= INT32_MAX &&
                    field(kJumpBy) >= 0 && field(kJumpBy) <= kMostPosition && field(kTurn) >= 0 &&
                    field(kTurn) <= static_cast<int64_t>(Conversation::Turn::kEnded) &&
                    (field(kLogits) == 0 || (field(kLogits) == vocab_size && field(kCached) > 0)) &&
                    field(kPageBytes) == static_cast<int64_t>(page_bytes);
  if (!sane) return make_error(ErrorCode::kCorrupt, "session state: its header contradicts itself");
  if (field(kCached) + field(kPending) > sizes.context + (field(kPending) > 0 ? 1 : 0)) {
    return make_error(ErrorCode::kContextFull, "the saved conversation has %d tokens; the context holds %d",
                      field(kCached) + field(kPending), sizes.context);
  }
  return {};
}

template <typename T>
void copy_values(std::span<const std::byte> bytes, size_t first, size_t n, std::vector<T>& to) {
  to.resize(n);
  if (n > 0) std::memcpy(to.data(), bytes.data() + first * sizeof(T), n * sizeof(T));
}

Result<Loaded> read_state(std::span<const std::byte> bytes, uint64_t fingerprint, const SessionSizes& sizes,
                          int64_t vocab_size, uint64_t page_bytes) {
  Reader reader(bytes);
  GLIMPSE_ASSIGN(const Header header, read_header(reader, bytes, fingerprint));
  GLIMPSE_TRY(check_header(header, sizes, vocab_size, page_bytes));
  Loaded state;
  state.conversation.next_position = static_cast<int32_t>(header.fields[kNextPosition]);
  state.conversation.turn = static_cast<Conversation::Turn>(header.fields[kTurn]);
  state.conversation.greatest = static_cast<int32_t>(header.fields[kGreatest]);
  state.conversation.jump = {header.fields[kJumpSlot], static_cast<int32_t>(header.fields[kJumpBy])};
  const auto n_cached = static_cast<size_t>(header.fields[kCached]);
  const auto n_pending = static_cast<size_t>(header.fields[kPending]);
  GLIMPSE_ASSIGN(const auto tokens, reader.piece((n_cached + n_pending) * sizeof(TokenId), "tokens"));
  copy_values(tokens, 0, n_cached, state.conversation.cached);
  copy_values(tokens, n_cached, n_pending, state.conversation.pending);
  for (const auto* ids : {&state.conversation.cached, &state.conversation.pending}) {
    for (const TokenId id : *ids) {
      if (id < 0 || id >= vocab_size) {
        return make_error(ErrorCode::kCorrupt, "session state: token %d is outside the vocabulary of %d", id,
                          vocab_size);
      }
    }
  }
  if (const auto n = static_cast<size_t>(header.fields[kLogits]); n > 0) {
    GLIMPSE_ASSIGN(const auto logits, reader.piece(n * sizeof(float), "logits"));
    copy_values(logits, 0, n, state.logits);
    for (const float x : state.logits) {
      if (!std::isfinite(x)) return make_error(ErrorCode::kCorrupt, "session state: a logit is NaN or infinite");
    }
  }
  for (int64_t i = 0; i < KvPages::pages_for(header.fields[kCached]); ++i) {
    GLIMPSE_ASSIGN(const auto page, reader.piece(page_bytes, "pages"));
    state.pages.push_back(page);
  }
  if (reader.n_left() > 0) {
    return make_error(ErrorCode::kCorrupt, "session state: %d bytes behind its end", reader.n_left());
  }
  return state;
}

}  // namespace

// Of what the bytes of pages depend on.
uint64_t Session::Impl::fingerprint() const {
  const auto add_text = [](Hash64& to, std::string_view text) { to.add(std::as_bytes(std::span(text))); };
  Hash64 hash;
  hash.add(model->text_fingerprint());
  add_text(hash, bench->pages->pool().layout());
  add_text(hash, kv_element_name(bench->pages->element()));
  hash.add(bench->pages->pool().page_bytes);
  return hash.value();
}

uint64_t Session::saved_bytes() const {
  const Impl& s = *impl_;
  const auto hashed = [](uint64_t n) { return n + sizeof(uint64_t); };
  const auto n_tokens = static_cast<uint64_t>(s.conversation.n_cached()) + s.conversation.pending().size();
  const auto n_pages = static_cast<uint64_t>(KvPages::pages_for(s.conversation.n_cached()));
  const uint64_t logits = sizeof(float) * static_cast<uint64_t>(s.model->text().vocab_size);
  return hashed(sizeof(Header)) + hashed(n_tokens * sizeof(TokenId)) + (s.decoder->has_logits() ? hashed(logits) : 0) +
         n_pages * hashed(s.bench->pages->pool().page_bytes);
}

Status Session::save(FunctionRef<Status(std::span<const std::byte>)> sink) const {
  Impl& s = *impl_;
  s.drop_prompt();
  const Conversation::State conversation = s.conversation.state();
  std::span<const float> logits;
  if (s.decoder->has_logits()) {
    GLIMPSE_ASSIGN(logits, s.decoder->logits());
  }
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.fingerprint = s.fingerprint();
  header.fields[kCached] = static_cast<int64_t>(conversation.cached.size());
  header.fields[kPending] = static_cast<int64_t>(conversation.pending.size());
  header.fields[kNextPosition] = conversation.next_position;
  header.fields[kTurn] = static_cast<int64_t>(conversation.turn);
  header.fields[kGreatest] = conversation.greatest;
  header.fields[kJumpSlot] = conversation.jump.slot;
  header.fields[kJumpBy] = conversation.jump.by;
  header.fields[kLogits] = static_cast<int64_t>(logits.size());
  header.fields[kPageBytes] = static_cast<int64_t>(s.decoder->cache().page_bytes());
  Writer writer(sink);
  GLIMPSE_TRY(writer.piece(std::as_bytes(std::span(&header, 1))));
  std::vector<TokenId> tokens = conversation.cached;
  tokens.insert(tokens.end(), conversation.pending.begin(), conversation.pending.end());
  GLIMPSE_TRY(writer.piece(std::as_bytes(std::span(tokens))));
  if (!logits.empty()) GLIMPSE_TRY(writer.piece(std::as_bytes(logits)));
  std::vector<std::byte> page(s.decoder->cache().page_bytes());
  for (int64_t i = 0; i < KvPages::pages_for(s.conversation.n_cached()); ++i) {
    GLIMPSE_TRY(s.decoder->cache().save_page(i, page));
    GLIMPSE_TRY(writer.piece(page));
  }
  return {};
}

Status Session::load(std::span<const std::byte> bytes) {
  Impl& s = *impl_;
  KvCache& cache = s.decoder->cache();
  GLIMPSE_ASSIGN(const Loaded state,
                 read_state(bytes, s.fingerprint(), s.sizes, s.model->text().vocab_size, cache.page_bytes()));
  GLIMPSE_TRY(s.conversation.check(state.conversation));
  const auto n_cached = static_cast<int64_t>(state.conversation.cached.size());
  if (KvPages::pages_for(n_cached) > n_free_pages() + cache.n_own_pages()) {
    return make_error(ErrorCode::kContextFull,
                      "the saved conversation takes %d pages of %d slots; %d of the pool's %d are free",
                      KvPages::pages_for(n_cached), kKeyBlock, n_free_pages(), n_pages());
  }
  s.conversation.reserve(n_cached + static_cast<int64_t>(state.conversation.pending.size()));
  reset();
  for (int64_t i = 0; i < n_cached; i += kKeyBlock) {
    const Status loaded =
        cache.load_page(std::min(kKeyBlock, n_cached - i), state.pages[static_cast<size_t>(i / kKeyBlock)]);
    if (loaded.ok()) continue;  // a device that fails
    reset();
    return loaded;
  }
  s.conversation.set_state(state.conversation);
  s.decoder->set_logits(state.logits);
  return {};
}

}  // namespace glimpse
