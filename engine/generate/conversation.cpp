#include "engine/generate/conversation.h"

#include <algorithm>

#include "tokenizer/earlier_thinking.h"

namespace glimpse {
namespace {

// Embeddings come from the host, perhaps from a file of another model: nothing in them is taken on trust.
Status check_picture(const ImageEmbedding& e, int64_t number, int64_t embedding_width, uint64_t fingerprint) {
  if (e.width != embedding_width) {
    return make_error(ErrorCode::kMismatch,
                      "picture %d: its embedding is %d wide, the model expects %d: it was made for another model",
                      number, e.width, embedding_width);
  }
  if (fingerprint != 0 && e.fingerprint != fingerprint) {
    return make_error(
        ErrorCode::kMismatch,
        "picture %lld: its embedding was made by another vision encoder (fingerprint %016llx, the model's "
        "is %016llx): encode the picture again with this model",
        static_cast<long long>(number), static_cast<unsigned long long>(e.fingerprint),
        static_cast<unsigned long long>(fingerprint));
  }
  constexpr int64_t kMostSide = int64_t{1} << 20;
  const GridThw& g = e.grid;
  const bool sane = e.merge_size >= 1 && e.merge_size <= 64 && g.t >= 1 && g.h >= 1 && g.w >= 1 && g.t <= kMostSide &&
                    g.h <= kMostSide && g.w <= kMostSide && g.h % e.merge_size == 0 && g.w % e.merge_size == 0;
  const int64_t n_cells = sane ? g.n_patches() / (e.merge_size * e.merge_size) : 0;
  const bool some = !e.cells.empty() && g.t == 1 && !e.is_video;
  if (!sane || !are_cells(e.cells, n_cells) || (!e.cells.empty() && !some) ||
      e.n_tokens != (some ? static_cast<int64_t>(e.cells.size()) : n_cells) ||
      e.values.size() / static_cast<size_t>(e.width) != static_cast<size_t>(e.n_tokens) ||
      e.values.size() % static_cast<size_t>(e.width) != 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "picture %d: %d values, %d tokens and a grid of %d x %d x %d patches contradict one "
                      "another",
                      number, e.values.size(), e.n_tokens, g.t, g.h, g.w);
  }
  return e.is_video ? check_video_times(e) : Status();
}

// see: looks at each picture, and at the part that stands for it.
Result<std::vector<ChatMessage>> convert(const std::vector<Message>& messages,
                                         FunctionRef<Status(const ImageEmbedding&, ChatPart&)> see) {
  std::vector<ChatMessage> chat;
  for (const Message& message : messages) {
    ChatMessage& converted = chat.emplace_back();
    converted.role = message.role;
    for (const MessagePart& part : message.parts) {
      ChatPart& to = converted.parts.emplace_back();
      if (part.image == nullptr) {
        to.text = part.text;
        continue;
      }
      const ImageEmbedding& embedding = *part.image;
      to.kind = embedding.is_video ? ChatPart::Kind::kVideo : ChatPart::Kind::kImage;
      to.n_tokens = embedding.n_tokens;
      to.slice_seconds = embedding.slice_seconds;
      GLIMPSE_TRY(see(embedding, to));
    }
  }
  return chat;
}

}  // namespace

Result<std::string> render_chat(const Model& model, const std::vector<Message>& messages,
                                const PromptOptions& options) {
  GLIMPSE_ASSIGN(const std::vector<ChatMessage> chat, convert(messages, [](const ImageEmbedding&, ChatPart& part) {
                   part.n_tokens = std::max<int64_t>(1, static_cast<int64_t>(part.slice_seconds.size()));
                   return Status();
                 }));
  GLIMPSE_ASSIGN(const TokenizedChat tokenized,
                 tokenize_chat(model.tokenizer(), chat, chat_options(model.chat_format(), options)));
  return model.tokenizer().decode(tokenized.ids, true);
}

Result<std::vector<ChatMessage>> chat_messages(const std::vector<Message>& messages, int64_t embedding_width,
                                               uint64_t vision_fingerprint,
                                               std::vector<const ImageEmbedding*>& pictures) {
  return convert(messages, [&](const ImageEmbedding& picture, ChatPart&) {
    pictures.push_back(&picture);
    return check_picture(picture, static_cast<int64_t>(pictures.size()), embedding_width, vision_fingerprint);
  });
}

void Conversation::reserve(int64_t n) {
  cached_.reserve(static_cast<size_t>(n));
  pending_.reserve(static_cast<size_t>(n));
}

std::vector<MropePosition> Conversation::pending_positions(int64_t n_more) const {
  std::vector<MropePosition> positions;
  PositionCounter counter = positions_;
  const int64_t n = static_cast<int64_t>(pending_.size()) + n_more;
  const int64_t n_before = std::clamp<int64_t>(jump_.slot - n_cached(), 0, n);
  counter.append_text(n_before, positions);
  counter.set_next(counter.next() + jump_between(n_cached(), n_cached() + n));
  counter.append_text(n - n_before, positions);
  return positions;
}

Result<PromptInput> Conversation::prompt(const std::vector<Message>& messages, int64_t embedding_width,
                                         uint64_t vision_fingerprint) const {
  PromptInput input;
  GLIMPSE_ASSIGN(const std::vector<ChatMessage> chat,
                 chat_messages(messages, embedding_width, vision_fingerprint, input.pictures));

  const ChatOptions options = chat_options(format_, options_);
  input.n_before = n_cached();
  input.history_ids = pending_;
  TokenizedChat tokenized;
  input.is_raw = std::any_of(chat.begin(), chat.end(), [](const ChatMessage& m) { return m.role == kRawRole; });
  if (input.is_raw) {
    if (chat.size() != 1) {
      return make_error(ErrorCode::kInvalidArgument, "a raw message stands alone: %d messages were given", chat.size());
    }
    GLIMPSE_ASSIGN(tokenized, tokenize_raw(tokenizer_, chat[0].parts, options));
    if (tokenized.ids.empty()) return make_error(ErrorCode::kInvalidArgument, "the raw message is empty");
    GLIMPSE_TRY(assemble(input, tokenized));
    return input;
  }
  switch (turn_) {
    case Turn::kStart: {
      GLIMPSE_ASSIGN(tokenized, tokenize_chat(tokenizer_, chat, options));
      break;
    }
    case Turn::kPrompted: {
      GLIMPSE_TRY(take_back(chat, input));
      const bool nothing_left = input.n_before == 0 && input.history_ids.empty();
      GLIMPSE_ASSIGN(tokenized, nothing_left ? tokenize_chat(tokenizer_, chat, options)
                                             : tokenize_chat_continuation(tokenizer_, chat, true, options));
      break;
    }
    case Turn::kOpen:
    case Turn::kEnded: {
      GLIMPSE_TRY(take_back(chat, input));
      GLIMPSE_ASSIGN(tokenized, tokenize_chat_continuation(tokenizer_, chat, false, options));
      break;
    }
  }
  GLIMPSE_TRY(assemble(input, tokenized));
  return input;
}

std::vector<TokenId> Conversation::tokens() const {
  std::vector<TokenId> all = cached_;
  all.insert(all.end(), pending_.begin(), pending_.end());
  return all;
}

// What of the tokens so far is not there any more when `next` follows: an open generation prompt with the newline
// before it, for which the continuation brings its own; and the thinking of earlier answers. All of that is text.
Status Conversation::take_back(const std::vector<ChatMessage>& next, PromptInput& input) const {
  std::vector<TokenId> all = tokens();
  if (turn_ == Turn::kPrompted) {
    const auto open = std::find(all.rbegin(), all.rend(), tokenizer_.find("<|im_start|>"));
    const auto n = static_cast<size_t>(all.rend() - open);
    all.resize(n < 2 ? 0 : n - 2);
  }
  WithoutThinking kept{all.size(), {}};
  if (ends_thinking(format_.style, next)) {
    GLIMPSE_ASSIGN(kept, without_thinking(tokenizer_, all, format_.style));
  }
  const size_t n_before = std::min(static_cast<size_t>(input.n_before), kept.n_kept);
  input.n_before = static_cast<int64_t>(n_before);
  input.history_ids.assign(all.begin() + static_cast<ptrdiff_t>(n_before),
                           all.begin() + static_cast<ptrdiff_t>(kept.n_kept));
  input.history_ids.insert(input.history_ids.end(), kept.tail.begin(), kept.tail.end());
  return {};
}

bool Conversation::inside_thinking() const {
  if (turn_ != Turn::kPrompted && turn_ != Turn::kOpen) return false;
  const TokenId open = tokenizer_.find("<think>"), close = tokenizer_.find("</think>");
  const TokenId start = tokenizer_.find("<|im_start|>");
  for (const std::span<const TokenId> ids : {pending(), cached()}) {
    const auto last = std::find_if(ids.rbegin(), ids.rend(),
                                   [&](TokenId id) { return id >= 0 && (id == open || id == close || id == start); });
    if (last != ids.rend()) return *last == open;
  }
  return false;
}

Status Conversation::assemble(PromptInput& input, const TokenizedChat& chat) const {
  const std::vector<const ImageEmbedding*>& pictures = input.pictures;
  if ((chat.visuals.empty() ? 0 : static_cast<size_t>(chat.visuals.back().part_index) + 1) != pictures.size()) {
    return make_error(ErrorCode::kInternal, "%d places for %d pictures", chat.visuals.size(), pictures.size());
  }
  const auto n_pending = static_cast<int64_t>(input.history_ids.size());
  input.history_ids.insert(input.history_ids.end(), chat.ids.begin(), chat.ids.end());
  // A jump among the tokens before the new ones stays where it is; one behind them, of a prompt that is taken back,
  // goes.
  const int64_t jump_row = jump_.slot - input.n_before;
  const bool jumps = jump_.by > 0 && jump_row >= 0 && jump_row <= n_pending;
  const auto n_first = static_cast<size_t>(jumps ? jump_row : 0);
  std::vector<PicturePlace> places;
  for (const VisualSpan& span : chat.visuals) {
    places.push_back({n_pending - static_cast<int64_t>(n_first) + span.position,
                      pictures[static_cast<size_t>(span.part_index)], span.slice, span.is_slice ? 1 : 0});
    input.n_image_tokens += span.n_tokens;
  }
  input.pass = PassInput(position_at(input.n_before));
  const std::span<const TokenId> ids(input.history_ids);
  input.pass.append_text(ids.first(n_first));
  if (jumps) input.pass.skip_positions(jump_.by);
  GLIMPSE_TRY(input.pass.append(ids.subspan(n_first), places));
  if (std::max(input.pass.greatest_position(), input.pass.next_position()) < kMostPosition) return {};
  return make_error(ErrorCode::kInvalidArgument, "pictures or the times of videos go beyond position %d",
                    kMostPosition);
}

void Conversation::commit(const PromptInput& input) {
  cached_.insert(cached_.end(), input.history_ids.begin(), input.history_ids.end());
  pending_.clear();
  positions_.set_next(input.pass.next_position());
  greatest_ = std::max(greatest_, input.pass.greatest_position());
  jump_ = {};
  if (greatest_ + 1 > positions_.next()) jump_ = {n_cached(), greatest_ + 1 - positions_.next()};
  turn_ = input.is_raw ? Turn::kOpen : Turn::kPrompted;
}

void Conversation::commit_pending() {
  const auto n = static_cast<int64_t>(pending_.size());
  positions_.set_next(positions_.next() + static_cast<int32_t>(n) + jump_between(n_cached(), n_cached() + n));
  cached_.insert(cached_.end(), pending_.begin(), pending_.end());
  pending_.clear();
}

void Conversation::append(TokenId id) {
  pending_.push_back(id);
  turn_ = Turn::kOpen;
}

void Conversation::uncache_from(int64_t n) {
  const auto first = cached_.begin() + static_cast<ptrdiff_t>(n);
  pending_.insert(pending_.begin(), first, cached_.end());
  positions_.set_next(position_at(n));
  cached_.erase(first, cached_.end());
}

void Conversation::cut(int64_t n, std::span<const TokenId> rest) {
  if (n < n_cached()) uncache_from(n);
  pending_.resize(static_cast<size_t>(n - n_cached()));
  pending_.insert(pending_.end(), rest.begin(), rest.end());
}

void Conversation::restore(const Checkpoint& checkpoint) {
  cached_.resize(static_cast<size_t>(checkpoint.n_cached));
  positions_.set_next(checkpoint.next_position);
  greatest_ = checkpoint.greatest;
  jump_ = checkpoint.jump;
  turn_ = checkpoint.turn;
  pending_.assign(checkpoint.pending.begin(), checkpoint.pending.end());  // keeps what was reserved
}

Status Conversation::check(const State& state) const {
  std::vector<TokenId> tokens = state.cached;
  tokens.insert(tokens.end(), state.pending.begin(), state.pending.end());
  const bool starts = state.turn == Turn::kStart;
  bool sane = starts == tokens.empty();
  const TokenId image = tokenizer_.find("<|image_pad|>"), video = tokenizer_.find("<|video_pad|>");
  if (state.turn == Turn::kPrompted) {  // what take_back() looks for, the token before it included, is text
    const auto open = std::find(tokens.rbegin(), tokens.rend(), tokenizer_.find("<|im_start|>"));
    sane = sane && open != tokens.rend() &&
           std::none_of(tokens.rbegin(), open + std::min<ptrdiff_t>(2, tokens.rend() - open),
                        [&](TokenId id) { return id == image || id == video; });
  }
  // Each token of text has a position of its own; those of a picture have at least one together.
  const auto n_text =
      std::count_if(state.cached.begin(), state.cached.end(), [&](TokenId id) { return id != image && id != video; });
  // Those of a picture have no more than it has tokens, unless repeated cells were left out; the time of a video may
  // run further.
  const auto n_cached = static_cast<int64_t>(state.cached.size());
  const bool has_video = std::find(state.cached.begin(), state.cached.end(), video) != state.cached.end();
  const bool has_visual = n_text < n_cached;
  sane = sane && state.next_position >= n_text && state.next_position <= (has_visual ? kMostPosition : n_cached) &&
         state.greatest >= -1 && state.greatest < (has_video ? kMostPosition : std::max(state.next_position, 0)) &&
         state.jump.by >= 0 && state.jump.by <= kMostPosition && (has_video || state.jump == Jump{}) &&
         state.jump.slot >= -1 && state.jump.slot <= static_cast<int64_t>(tokens.size());
  // A jump that is still to come ends behind the greatest time; one that was made is part of what came after it.
  const bool to_come = state.jump.slot >= n_cached;
  sane = sane && (state.jump.by == 0 ||
                  state.jump.by <= (to_come ? state.greatest + 1 - state.next_position : state.next_position));
  if (!sane) return make_error(ErrorCode::kCorrupt, "session state: its tokens contradict its turn or its positions");
  return {};
}

void Conversation::set_state(const State& state) {
  cached_.assign(state.cached.begin(), state.cached.end());
  pending_.assign(state.pending.begin(), state.pending.end());
  positions_.set_next(state.next_position);
  greatest_ = state.greatest;
  jump_ = state.jump;
  turn_ = state.turn;
}

}  // namespace glimpse
