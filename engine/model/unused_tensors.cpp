#include "engine/model/unused_tensors.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "loaders/gguf/gguf_text.h"

namespace glimpse {
namespace {

// N of "blk.N." or "v.blk.N.".
std::optional<int64_t> block_number(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool whole = error == std::errc() && end != name.data() + name.size() && *end == '.';
  return whole ? std::optional(number) : std::nullopt;
}

// Of every type here, a block of zero bytes stands for zeros.
Result<bool> is_zero(const GgufFile& file, const GgufTensor& tensor) {
  std::vector<std::byte> piece;
  for (uint64_t offset = 0; offset < tensor.n_bytes; offset += piece.size()) {
    piece.resize(static_cast<size_t>(std::min<uint64_t>(tensor.n_bytes - offset, uint64_t{1} << 18)));
    GLIMPSE_TRY(file.read(tensor, offset, piece));
    if (std::any_of(piece.begin(), piece.end(), [](std::byte b) { return b != std::byte{0}; })) return false;
  }
  return true;
}

// Parts of other models that share the file.
struct Stranger {
  std::string_view prefix;
  const char* reason;
};
constexpr Stranger kTextStrangers[] = {
    {"v.", "a vision encoder inside the text model's file is not read: give its own file as mmproj"},
    {"mm.", "a projector inside the text model's file is not read: give its own file as mmproj"},
    {"a.", "audio is not supported, text and pictures do not need it"},
    {"cls.", "a classifier's head: it takes no part in answers"},
};
constexpr Stranger kVisionStrangers[] = {
    {"a.", "audio is not supported, pictures do not need it"},
    {"mm.a.", "audio is not supported, pictures do not need it"},
    {"t.", "a text encoder inside the vision encoder's file is not read"},
    {"blk.", "a text model inside the vision encoder's file is not read: give its own file as model"},
    {"token_embd.", "a text model inside the vision encoder's file is not read: give its own file as model"},
    {"output", "a text model inside the vision encoder's file is not read: give its own file as model"},
};

struct Verdict {
  std::string reason;
  bool changes_result = true;
  ErrorCode code = ErrorCode::kUnsupported;
};

Result<Verdict> judge(const GgufFile& file, const GgufTensor& tensor, ModelSide side, int64_t n_blocks) {
  const std::string_view name = tensor.name;
  const bool text = side == ModelSide::kText;
  const auto harmless = [](const char* why) { return Verdict{why, false}; };
  if (tensor.n_elements() == 0) return harmless("it has no elements");
  for (const Stranger& stranger : text ? std::span<const Stranger>(kTextStrangers) : kVisionStrangers) {
    if (name.starts_with(stranger.prefix)) return harmless(stranger.reason);
  }
  if (name.ends_with("rotary_emb.inv_freq") || name.find("attn_rot_embd") != std::string_view::npos) {
    return harmless("the frequencies of the rotation are computed from its base");
  }
  const bool added = name.ends_with(".bias") || name == "v.position_embd.weight";
  if (added) {
    GLIMPSE_ASSIGN(const bool zero, is_zero(file, tensor));
    if (zero) return harmless("all its values are 0");
  }
  const auto number = block_number(name, text ? "blk." : "v.blk.");
  if (number && *number >= n_blocks) {
    return Verdict{
        format("block_count is %lld, so that layers of the file would be left out", static_cast<long long>(n_blocks)),
        true, ErrorCode::kCorrupt};
  }
  if (name.starts_with("rope_")) {
    return Verdict{"a rotation with factors (for long contexts) is not supported, and without them the answers differ"};
  }
  return Verdict{text ? "models of this architecture have no such part, and answers without it would differ"
                      : "encoders of this kind have no such part, and embeddings without it would differ"};
}

}  // namespace

std::string UnusedTensors::describe() const {
  const std::string first = quoted(tensors[0]->name) + " " + tensors[0]->describe();
  if (tensors.size() == 1) return format("tensor %s is not used: %s", first.c_str(), reason.c_str());
  return format("%zu tensors are not used, the first %s: %s", tensors.size(), first.c_str(), reason.c_str());
}

Result<std::vector<UnusedTensors>> find_unused_tensors(const GgufFile& file, const std::set<std::string>& used,
                                                       ModelSide side, int64_t n_blocks) {
  std::vector<UnusedTensors> groups;
  for (const GgufTensor& tensor : file.tensors()) {
    if (used.contains(tensor.name)) continue;
    GLIMPSE_ASSIGN(Verdict verdict, judge(file, tensor, side, n_blocks));
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const UnusedTensors& known) { return known.reason == verdict.reason; });
    if (group == groups.end()) {
      groups.push_back({std::move(verdict.reason), verdict.changes_result, verdict.code, {}});
      group = groups.end() - 1;
    }
    group->tensors.push_back(&tensor);
  }
  std::stable_partition(groups.begin(), groups.end(), [](const UnusedTensors& group) { return group.changes_result; });
  return groups;
}

Status refuse_unused_tensors(const GgufFile& file, const std::set<std::string>& used, ModelSide side, int64_t n_blocks,
                             const LogSink& log) {
  GLIMPSE_ASSIGN(const auto groups, find_unused_tensors(file, used, side, n_blocks));
  for (const UnusedTensors& group : groups) {
    const std::string text = file.path() + ": " + group.describe();
    if (group.changes_result) return Error{group.code, text};
    glimpse::log(log, LogLevel::kWarning, text);
  }
  return {};
}

}  // namespace glimpse
