#include <cstring>
#include <utility>

#include "tools/eval/kl_base.h"
#include "tools/eval/log_probs.h"

namespace glimpse::eval {

Result<KlBaseWriter> KlBaseWriter::create(const std::string& path, AtomicFileWriter::Existing existing, Format format,
                                          int64_t n_vocab, std::span<const Sequence> sequences) {
  KlBaseWriter w;
  w.format_ = format;
  w.n_vocab_ = n_vocab;
  w.sequences_.assign(sequences.begin(), sequences.end());
  for (const Sequence& s : sequences) w.rows_left_ += s.n_scored;
  if (sequences.empty()) return make_error(ErrorCode::kInvalidArgument, "no sequences to write");
  if (format == Format::kLlama) {
    const size_t n_ctx = sequences[0].ids.size();
    std::vector<int32_t> header = {static_cast<int32_t>(n_ctx), static_cast<int32_t>(n_vocab),
                                   static_cast<int32_t>(sequences.size())};
    for (const Sequence& s : sequences) {
      if (s.ids.size() != n_ctx || !(s == chunk_of(s.ids))) {
        return make_error(ErrorCode::kInvalidArgument, "llama.cpp's base files hold chunks of one length only");
      }
      header.insert(header.end(), s.ids.begin(), s.ids.end());
    }
    w.buffer_.resize(static_cast<size_t>(coded_row_bytes(n_vocab)));
    GLIMPSE_ASSIGN(w.file_, AtomicFileWriter::create(path, existing));
    GLIMPSE_TRY(w.file_.write(std::as_bytes(std::span("_logits_", 8))));
    GLIMPSE_TRY(w.file_.write(std::as_bytes(std::span(header))));
    return w;
  }
  std::vector<int32_t> firsts;
  std::vector<std::string> digests;
  for (const Sequence& s : sequences) {
    firsts.push_back(static_cast<int32_t>(s.first));
    digests.push_back(s.image_digest);
  }
  w.gguf_.add_string("general.architecture", "glimpse.kl");
  w.gguf_.add_uint32("glimpse.kl.vocab_size", static_cast<uint32_t>(n_vocab));
  w.gguf_.add_int32_array("glimpse.kl.first_rows", firsts);
  w.gguf_.add_string_array("glimpse.kl.image_digests", digests);
  for (size_t i = 0; i < sequences.size(); ++i) {
    w.gguf_.declare_tensor(std::to_string(i) + ".ids", DType::kI32, {sequences[i].ids.size()});
    w.gguf_.declare_tensor(std::to_string(i) + ".log_probs", DType::kF32,
                           {static_cast<uint64_t>(n_vocab), static_cast<uint64_t>(sequences[i].n_scored)});
  }
  w.floats_.resize(static_cast<size_t>(n_vocab));
  GLIMPSE_TRY(w.gguf_.begin(path, existing));
  return w;
}

Status KlBaseWriter::add(std::span<const float> logits) {
  if (rows_left_ == 0) return make_error(ErrorCode::kInternal, "more rows than were announced");
  --rows_left_;
  const Softmax softmax = measure_softmax(logits);
  if (format_ == Format::kLlama) {
    encode_log_probs(logits, softmax, buffer_);
    return file_.write(buffer_);
  }
  const Sequence& s = sequences_[current_];
  if (rows_done_ == 0) GLIMPSE_TRY(gguf_.append(std::as_bytes(std::span(s.ids))));
  for (size_t i = 0; i < logits.size(); ++i) {
    floats_[i] = static_cast<float>(static_cast<double>(logits[i]) - softmax.log_sum_exp);
  }
  if (++rows_done_ == s.n_scored) {
    ++current_;
    rows_done_ = 0;
  }
  return gguf_.append(std::as_bytes(std::span(floats_)));
}

Status KlBaseWriter::commit() {
  if (rows_left_ != 0) {
    return make_error(ErrorCode::kInternal, "%d rows are missing", rows_left_);
  }
  return format_ == Format::kLlama ? file_.commit() : gguf_.commit();
}

}  // namespace glimpse::eval
