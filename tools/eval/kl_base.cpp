// Reading a base file, which is untrusted: every size is checked against the file's length before it is used.
#include "tools/eval/kl_base.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "tools/eval/log_probs.h"

namespace glimpse::eval {
namespace {

constexpr char kMagic[8] = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};
constexpr uint64_t kHeaderBytes = sizeof kMagic + 3 * sizeof(int32_t);
constexpr int64_t kMostVocab = 1 << 24;
constexpr int64_t kMostContext = 1 << 24;
constexpr int64_t kMostSequences = 1 << 24;

Status check_ids(const std::vector<int32_t>& ids, int64_t n_vocab, size_t sequence) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= n_vocab) {
      return make_error(ErrorCode::kCorrupt, "sequence %d: token %d is outside the vocabulary of %d", sequence, id,
                        n_vocab);
    }
  }
  return {};
}

}  // namespace

Sequence chunk_of(std::span<const int32_t> ids) {
  Sequence s;
  s.ids.assign(ids.begin(), ids.end());
  s.first = static_cast<int64_t>(ids.size()) / 2;
  s.n_scored = std::max<int64_t>(0, static_cast<int64_t>(ids.size()) - 1 - s.first);
  return s;
}

Result<KlBase> KlBase::open(const std::string& path) {
  GLIMPSE_ASSIGN(File opened, File::open(path));
  const auto file = std::make_shared<File>(std::move(opened));
  KlBase base;
  base.name_ = path;
  base.file_ = file;
  base.read_at_ = [file](uint64_t offset, std::span<std::byte> out) { return file->read_at(offset, out); };
  char magic[4] = {};
  if (file->size() >= sizeof magic) GLIMPSE_TRY(base.read_at_(0, std::as_writable_bytes(std::span(magic))));
  Status status;
  if (std::memcmp(magic, "GGUF", sizeof magic) == 0) {
    GLIMPSE_ASSIGN(base.gguf_, GgufFile::open(path));
    status = base.parse_gguf();
  } else {
    status = base.parse_llama(file->size());
  }
  if (!status.ok()) return with_context(status.error(), path);
  return base;
}

Result<KlBase> KlBase::parse(std::span<const std::byte> bytes, const std::string& name) {
  KlBase base;
  base.name_ = name;
  base.read_at_ = [bytes](uint64_t offset, std::span<std::byte> out) -> Status {
    if (offset > bytes.size() || out.size() > bytes.size() - offset) {
      return make_error(ErrorCode::kTruncated, "the file ends before byte %d", offset + out.size());
    }
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  };
  Status status;
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) {
    GLIMPSE_ASSIGN(base.gguf_, GgufFile::parse(bytes, name));
    status = base.parse_gguf();
  } else {
    status = base.parse_llama(bytes.size());
  }
  if (!status.ok()) return with_context(status.error(), name);
  return base;
}

Status KlBase::parse_llama(uint64_t size) {
  std::byte header[kHeaderBytes];
  if (size < kHeaderBytes) {
    return make_error(ErrorCode::kCorrupt, "%d bytes are no base file of log-probabilities", size);
  }
  GLIMPSE_TRY(read_at_(0, header));
  if (std::memcmp(header, kMagic, sizeof kMagic) != 0) {
    return make_error(ErrorCode::kCorrupt,
                      "not a base file of log-probabilities: it begins neither with \"_logits_\" (llama-perplexity "
                      "--kl-divergence-base) nor with \"GGUF\"");
  }
  int32_t sizes[3];
  std::memcpy(sizes, header + sizeof kMagic, sizeof sizes);
  const int64_t n_ctx = sizes[0], n_vocab = sizes[1], n_chunks = sizes[2];
  if (n_ctx < 4 || n_ctx > kMostContext || n_vocab < 1 || n_vocab > kMostVocab || n_chunks < 1 ||
      n_chunks > kMostSequences) {
    return make_error(ErrorCode::kCorrupt, "%d chunks of %d tokens over a vocabulary of %d make no sense", n_chunks,
                      n_ctx, n_vocab);
  }
  // Below 2^24 each: a chunk's rows stay below 2^23 * 2^26, all of them below 2^73; so the division comes first.
  const uint64_t row_bytes = static_cast<uint64_t>(coded_row_bytes(n_vocab));
  const uint64_t n_scored = static_cast<uint64_t>(n_ctx - 1 - n_ctx / 2);
  const uint64_t chunk_bytes = static_cast<uint64_t>(n_ctx) * 4 + n_scored * row_bytes;
  const uint64_t rest = size - kHeaderBytes;
  if (rest / chunk_bytes < static_cast<uint64_t>(n_chunks)) {
    return make_error(ErrorCode::kTruncated, "%d chunks of %d bytes are announced, %d bytes follow", n_chunks,
                      chunk_bytes, rest);
  }
  if (rest != chunk_bytes * static_cast<uint64_t>(n_chunks)) {
    return make_error(ErrorCode::kCorrupt, "%d bytes after the last chunk",
                      rest - chunk_bytes * static_cast<uint64_t>(n_chunks));
  }
  n_vocab_ = n_vocab;
  rows_at_ = kHeaderBytes + static_cast<uint64_t>(n_chunks) * static_cast<uint64_t>(n_ctx) * 4;
  std::vector<int32_t> ids(static_cast<size_t>(n_ctx));
  for (int64_t i = 0; i < n_chunks; ++i) {
    GLIMPSE_TRY(read_at_(kHeaderBytes + static_cast<uint64_t>(i * n_ctx) * 4, std::as_writable_bytes(std::span(ids))));
    GLIMPSE_TRY(check_ids(ids, n_vocab, static_cast<size_t>(i)));
    sequences_.push_back(chunk_of(ids));
  }
  return {};
}

Status KlBase::parse_gguf() {
  GLIMPSE_ASSIGN(const auto architecture, gguf_->optional_string("general.architecture"));
  if (architecture.value_or("") != "glimpse.kl") {
    return make_error(ErrorCode::kCorrupt, "a GGUF of '%s', not a base file of log-probabilities",
                      architecture.value_or(""));
  }
  GLIMPSE_ASSIGN(const uint64_t n_vocab, gguf_->require_uint("glimpse.kl.vocab_size"));
  GLIMPSE_ASSIGN(const std::vector<int64_t> firsts, gguf_->int_array("glimpse.kl.first_rows"));
  if (n_vocab < 1 || n_vocab > static_cast<uint64_t>(kMostVocab) || firsts.empty()) {
    return make_error(ErrorCode::kCorrupt, "%d sequences over a vocabulary of %d make no sense", firsts.size(),
                      n_vocab);
  }
  n_vocab_ = static_cast<int64_t>(n_vocab);
  const std::vector<std::string>* digests = gguf_->string_array("glimpse.kl.image_digests");
  if (digests == nullptr || digests->size() != firsts.size()) {
    return make_error(ErrorCode::kCorrupt, "glimpse.kl.image_digests: want %d texts", firsts.size());
  }
  for (size_t i = 0; i < firsts.size(); ++i) {
    const std::string number = std::to_string(i);
    const GgufTensor* ids = gguf_->find_tensor(number + ".ids");
    const GgufTensor* rows = gguf_->find_tensor(number + ".log_probs");
    if (ids == nullptr || rows == nullptr) {
      return make_error(ErrorCode::kCorrupt, "%s.%s is missing", number, ids == nullptr ? "ids" : "log_probs");
    }
    const uint64_t n_ids = ids->n_elements(), n_rows = rows->n_rows();
    const bool fits = ids->type == DType::kI32 && ids->n_rows() == 1 && rows->type == DType::kF32 &&
                      rows->row_length() == n_vocab && rows->dims[2] * rows->dims[3] == 1 && n_rows >= 1 &&
                      firsts[i] >= 0 && n_rows < n_ids && static_cast<uint64_t>(firsts[i]) < n_ids - n_rows;
    if (!fits) {
      return make_error(ErrorCode::kCorrupt, "sequence %d: %s of rows from %d on do not fit ids %s", i,
                        rows->describe(), firsts[i], ids->describe());
    }
    Sequence& s = sequences_.emplace_back();
    s.ids.resize(n_ids);
    GLIMPSE_TRY(gguf_->read(*ids, 0, std::as_writable_bytes(std::span(s.ids))));
    GLIMPSE_TRY(check_ids(s.ids, n_vocab_, i));
    s.first = firsts[i];
    s.n_scored = static_cast<int64_t>(n_rows);
    s.image_digest = (*digests)[i];
  }
  return {};
}

double KlBase::floor() const {
  return coded() ? -kCodedRange : -std::numeric_limits<double>::infinity();
}

Status KlBase::read_row(size_t sequence, int64_t row, std::span<float> log_probs) const {
  const Sequence& s = sequences_[sequence];
  if (gguf_) {
    const GgufTensor& tensor = *gguf_->find_tensor(std::to_string(sequence) + ".log_probs");
    GLIMPSE_TRY(
        gguf_->read(tensor, static_cast<uint64_t>(row) * tensor.row_bytes(), std::as_writable_bytes(log_probs)));
    for (const float value : log_probs) {
      if (value <= 1e-2f) continue;  // false for a NaN
      return make_error(ErrorCode::kCorrupt, "%s: sequence %d, row %d: a log-probability of %g", name_, sequence, row,
                        static_cast<double>(value));
    }
    return {};
  }
  const auto row_bytes = static_cast<uint64_t>(coded_row_bytes(n_vocab_));
  const uint64_t index =
      static_cast<uint64_t>(sequence) * static_cast<uint64_t>(s.n_scored) + static_cast<uint64_t>(row);
  std::vector<std::byte> bytes(row_bytes);
  GLIMPSE_TRY(read_at_(rows_at_ + index * row_bytes, bytes));
  Status status = decode_log_probs(bytes, log_probs);
  if (status.ok()) return {};
  return with_context(status.error(), format("%s: sequence %d, row %d", name_, sequence, row));
}

}  // namespace glimpse::eval
