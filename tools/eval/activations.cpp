#include "tools/eval/activations.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <utility>

#include "engine/runtime/routing.h"
#include "loaders/gguf/gguf_writer.h"

namespace glimpse::eval {
namespace {

// "0/v.embd", "blk.3.ffn_out", "logits": the names of TapSink, and not those of weights.
bool is_activation_name(std::string_view name) {
  const auto digits = [&name] {  // removes leading ones
    const size_t before = name.size();
    while (!name.empty() && name[0] >= '0' && name[0] <= '9') name.remove_prefix(1);
    return name.size() < before;
  };
  const auto skip = [&name](std::string_view text) {
    if (!name.starts_with(text)) return false;
    name.remove_prefix(text.size());
    return true;
  };
  const auto any_of = [&name](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  const bool vision = digits();
  if (vision && !skip("/v.")) return false;
  if (vision ? any_of({"patch_embd", "merger", "embd"}) : any_of({"embd", "logits"})) return true;
  if (vision && skip("deepstack.")) return digits() && name == ".merger";
  if (!skip("blk.") || !digits() || !skip(".")) return false;
  return any_of({"q", "k", "v", "attn", "attn_out", "router", "routing", "ffn", "ffn_out", "deepstack"});
}

double ratio(double error, double norm) {
  if (norm > 0) return error / norm;
  return error == 0 ? 0 : std::numeric_limits<double>::infinity() * error;  // a NaN stays one
}

}  // namespace

Result<ActivationSet> ActivationSet::open(const std::string& path) {
  GLIMPSE_ASSIGN(GgufFile file, GgufFile::open(path));
  return from(std::move(file));
}

Result<ActivationSet> ActivationSet::from(GgufFile file) {
  ActivationSet set;
  set.file_ = std::move(file);
  for (const GgufTensor& tensor : set.file_->tensors()) {
    if (tensor.type == DType::kF32 && is_activation_name(tensor.name) && tensor.n_elements() > 0) {
      set.names_.push_back(tensor.name);
    }
  }
  if (set.names_.empty()) {
    return make_error(ErrorCode::kCorrupt, "%s holds no activations (F32 tensors with the names of this command)",
                      set.file_->path().c_str());
  }
  const GgufTensor* ids = set.file_->find_tensor("ids");
  if (ids != nullptr && ids->type == DType::kI32) {
    set.ids_.resize(ids->n_elements());
    GLIMPSE_TRY(set.file_->read(*ids, 0, std::as_writable_bytes(std::span(set.ids_))));
  }
  return set;
}

void ActivationSet::add(Activation activation) {
  const std::string name = activation.name;
  if (memory_.count(name) == 0) names_.push_back(name);
  memory_[name] = std::move(activation);
}

bool ActivationSet::has(const std::string& name) const {
  if (!file_) return memory_.count(name) != 0;
  const GgufTensor* tensor = file_->find_tensor(name);
  return tensor != nullptr && tensor->type == DType::kF32 && tensor->n_elements() > 0;
}

Result<Activation> ActivationSet::read(const std::string& name) const {
  if (!file_) return memory_.at(name);
  const GgufTensor& tensor = *file_->find_tensor(name);
  Activation activation{name, static_cast<int64_t>(tensor.n_rows()), static_cast<int64_t>(tensor.row_length()), {}};
  activation.values.resize(tensor.n_elements());
  GLIMPSE_TRY(file_->read(tensor, 0, std::as_writable_bytes(std::span(activation.values))));
  return activation;
}

Status ActivationSet::save(const std::string& path, AtomicFileWriter::Existing existing,
                           const std::string& prompt) const {
  GgufWriter writer;
  writer.add_string("general.architecture", "glimpse.activations");
  writer.add_string("prompt", prompt);
  if (!ids_.empty()) writer.declare_tensor("ids", DType::kI32, {ids_.size()});
  for (const std::string& name : names_) {
    const Activation& a = memory_.at(name);
    writer.declare_tensor(name, DType::kF32, {static_cast<uint64_t>(a.cols), static_cast<uint64_t>(a.rows)});
  }
  GLIMPSE_TRY(writer.begin(path, existing));
  if (!ids_.empty()) GLIMPSE_TRY(writer.append(std::as_bytes(std::span(ids_))));
  for (const std::string& name : names_) GLIMPSE_TRY(writer.append(std::as_bytes(std::span(memory_.at(name).values))));
  return writer.commit();
}

Difference compare_activations(const Activation& got, const Activation& want, double limit) {
  Difference d;
  d.name = want.name;
  d.rows = want.rows;
  d.cols = want.cols;
  d.limit = limit;
  double error = 0, norm = 0, got_norm = 0, dot = 0;
  d.worst_row_nmse = -1;
  for (int64_t r = 0; r < want.rows; ++r) {
    double row_error = 0, row_norm = 0;
    for (int64_t c = 0; c < want.cols; ++c) {
      const auto i = static_cast<size_t>(r * want.cols + c);
      const auto g = static_cast<double>(got.values[i]), w = static_cast<double>(want.values[i]);
      const double difference = g - w;
      row_error += difference * difference;
      row_norm += w * w;
      got_norm += g * g;
      dot += g * w;
      if (!(std::fabs(difference) <= d.max_abs)) d.max_abs = std::fabs(difference);  // a NaN is kept
    }
    error += row_error;
    norm += row_norm;
    const double row_nmse = ratio(row_error, row_norm);
    if (!(row_nmse <= d.worst_row_nmse) && !std::isnan(d.worst_row_nmse)) {
      d.worst_row_nmse = row_nmse;
      d.worst_row = r;
    }
  }
  d.nmse = ratio(error, norm);
  if (norm > 0 && got_norm > 0) d.cosine = dot / std::sqrt(norm * got_norm);
  if ((norm > 0) != (got_norm > 0)) d.cosine = 0;
  if (error == 0) d.cosine = 1;
  d.outside = !(d.nmse <= limit);
  return d;
}

int64_t count_rerouted_rows(const Activation& got, const Activation& want, int64_t n_used) {
  const auto choice = [&](const Activation& scores, int64_t row) {
    std::vector<float> expert(static_cast<size_t>(n_used)), weight(static_cast<size_t>(n_used));
    choose_experts(scores.values.data() + row * scores.cols, scores.cols, n_used, false, expert.data(), weight.data());
    return expert;
  };
  int64_t count = 0;
  for (int64_t r = 0; r < want.rows; ++r) count += choice(got, r) != choice(want, r) ? 1 : 0;
  return count;
}

}  // namespace glimpse::eval
