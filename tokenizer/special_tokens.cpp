#include "tokenizer/special_tokens.h"

namespace glimpse {

SpecialTokens::SpecialTokens() : nodes_(1) {}

int32_t SpecialTokens::child(int32_t node, char byte) const {
  int32_t c = nodes_[static_cast<size_t>(node)].first_child;
  while (c >= 0 && nodes_[static_cast<size_t>(c)].byte != byte) c = nodes_[static_cast<size_t>(c)].next_sibling;
  return c;
}

void SpecialTokens::add(std::string_view text, TokenId id, Kind kind) {
  may_start_[static_cast<unsigned char>(text.front())] = true;
  int32_t node = 0;
  for (const char byte : text) {
    int32_t next = child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({-1, nodes_[static_cast<size_t>(node)].first_child, -1, Kind::kPlain, byte});
      nodes_[static_cast<size_t>(node)].first_child = next;
    }
    node = next;
  }
  Node& end = nodes_[static_cast<size_t>(node)];
  end.id = id;
  end.kind = kind;
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, size_t begin, bool with_markup,
                                         bool with_control) const {
  const auto wanted = [&](Kind kind) {
    return kind == Kind::kPlain || (kind == Kind::kMarkup ? with_markup : with_control);
  };
  for (; begin < text.size(); ++begin) {
    if (!may_start_[static_cast<unsigned char>(text[begin])]) continue;
    Match longest{begin, begin, -1};
    int32_t node = 0;
    for (size_t i = begin; i < text.size() && (node = child(node, text[i])) >= 0; ++i) {
      const Node& n = nodes_[static_cast<size_t>(node)];
      if (n.id >= 0 && wanted(n.kind)) longest = {begin, i + 1, n.id};
    }
    if (longest.id >= 0) return longest;
  }
  return {text.size(), text.size(), -1};
}

}  // namespace glimpse
