#include "engine/model/weight_reader.h"

#include <algorithm>
#include <utility>

#include "kernels/quant/quant.h"

namespace glimpse {
namespace {

std::string describe_dims(const std::vector<uint64_t>& dims) {
  std::string text = "(";
  for (size_t i = 0; i < dims.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  }
  return text + ")";
}

// The names of all types that can be multiplied with.
std::string weight_type_names() {
  std::string names;
  for (uint32_t id = 0; id < 64; ++id) {
    const DTypeInfo* info = find_dtype(id);
    if (info != nullptr && info->is_weight) names += std::string(names.empty() ? "" : " ") + info->name;
  }
  return names;
}

}  // namespace

Status LoadProgress::advance(uint64_t n_bytes) {
  done_bytes += n_bytes;
  if (futile != nullptr && futile->load(std::memory_order_relaxed)) {
    return make_error(ErrorCode::kCancelled, "loading was given up");
  }
  if (sink == nullptr || !*sink) return {};
  const double fraction =
      total_bytes == 0 ? 1.0 : std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
  if ((*sink)("load", fraction)) return {};
  return make_error(ErrorCode::kCancelled, "loading was cancelled");
}

Result<const GgufTensor*> WeightReader::expect(const std::string& name, const std::vector<uint64_t>& dims,
                                               bool float_type) {
  used_.insert(name);
  const char* path = file_.path().c_str();
  const std::string want = describe_dims(dims) + (float_type ? " of a float type" : " of a weight type");
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr) {
    return make_error(ErrorCode::kCorrupt, "%s: %s is missing: want %s", path, name, want);
  }
  bool same = true;
  for (size_t i = 0; i < 4; ++i) same = same && tensor->dims[i] == (i < dims.size() ? dims[i] : 1);
  if (!same) {
    return make_error(ErrorCode::kCorrupt, "%s: %s: want %s, file has %s", path, name, want, tensor->describe());
  }
  if (float_type ? !is_float_type(tensor->type) : !is_weight_type(tensor->type)) {
    return make_error(ErrorCode::kUnsupported, "%s: %s: want %s, file has %s; supported types: %s", path, name, want,
                      tensor->describe(), float_type ? "F32 F16 BF16" : weight_type_names().c_str());
  }
  return tensor;
}

Result<std::shared_ptr<const PackedWeight>> WeightReader::pack(const WeightSource& source, WeightPrecision precision) {
  for (const std::string& part : f32_parts_) {
    if (source.name.find(part) != std::string::npos) precision = WeightPrecision::kF32;
  }
  const uint64_t bytes = ops_.packed_bytes(source.type, source.rows, source.cols, precision);
  n_bytes_ += bytes;
  n_packed_bytes_ += bytes;
  const std::optional<uint32_t> format = ops_.packed_format(source.type, precision);
  if (format) {
    records_.push_back({pack_name_hash(source.name), *format, static_cast<uint64_t>(source.rows),
                        static_cast<uint64_t>(source.cols), 0, bytes, 0});
  }
  if (progress_ == nullptr) return std::shared_ptr<const PackedWeight>();
  const PackFile::Matrix kept = format ? cache_->find() : PackFile::Matrix();
  auto packed =
      kept.bytes.empty() ? ops_.pack(source, precision) : ops_.adopt(source, precision, kept.bytes, kept.owner);
  if (!packed.ok()) return with_context(packed.error(), file_.path());
  if (format && kept.bytes.empty()) cache_->keep(ops_.packed_data(*packed.value()));
  GLIMPSE_TRY(progress_->advance(bytes));
  return packed;
}

Result<Linear> WeightReader::linear(const std::string& stem, int64_t rows, int64_t cols, WeightPrecision precision,
                                    Presence bias) {
  return linear_part(stem, 0, rows, rows, cols, precision, bias);
}

Result<Linear> WeightReader::linear_part(const std::string& stem, int64_t first, int64_t rows, int64_t total_rows,
                                         int64_t cols, WeightPrecision precision, Presence bias) {
  GLIMPSE_ASSIGN(const GgufTensor* tensor,
                 expect(stem + ".weight", {static_cast<uint64_t>(cols), static_cast<uint64_t>(total_rows)}, false));
  GLIMPSE_ASSIGN(Linear linear, rows_of(tensor, first, rows, cols, precision));
  if (bias == Presence::kRequired || (bias == Presence::kOptional && has(stem + ".bias"))) {
    GLIMPSE_ASSIGN(linear.bias, vector(stem + ".bias", first, rows, total_rows));
  }
  return linear;
}

Result<Linear> WeightReader::rows_of(const GgufTensor* tensor, int64_t first, int64_t rows, int64_t cols,
                                     WeightPrecision precision, int64_t n_alike) {
  WeightSource source;
  source.name = tensor->name;
  source.type = tensor->type;
  source.rows = rows;
  source.cols = cols;
  source.n_alike = n_alike;
  source.read_rows = [&file = file_, tensor, first](int64_t row, int64_t, std::span<std::byte> out) {
    return file.read(*tensor, static_cast<uint64_t>(first + row) * tensor->row_bytes(), out);
  };
  Linear linear;
  GLIMPSE_ASSIGN(linear.weight, pack(source, precision));
  return linear;
}

Result<Linear> WeightReader::expert(const std::string& stem, int64_t expert, int64_t n_experts, int64_t first,
                                    int64_t rows, int64_t total_rows, int64_t cols, WeightPrecision precision) {
  const std::vector<uint64_t> dims = {static_cast<uint64_t>(cols), static_cast<uint64_t>(total_rows),
                                      static_cast<uint64_t>(n_experts)};
  GLIMPSE_ASSIGN(const GgufTensor* tensor, expect(stem + ".weight", dims, false));
  const int64_t n_parts = rows > 0 ? total_rows / rows : 1;  // gate and up in one tensor
  return rows_of(tensor, expert * total_rows + first, rows, cols, precision, n_experts * n_parts);
}

Status WeightReader::index_experts(ExpertWeights& w) {
  n_bytes_ += ops_.expert_index_bytes(w.n_experts());
  if (progress_ == nullptr) return {};
  auto index = ops_.index_experts(w);
  if (!index.ok()) return with_context(index.error(), file_.path());
  w.index = std::move(index).value();
  return {};
}

Result<Linear> WeightReader::row(const std::string& stem, int64_t cols, WeightPrecision precision) {
  GLIMPSE_ASSIGN(const GgufTensor* tensor, expect(stem + ".weight", {static_cast<uint64_t>(cols)}, true));
  return rows_of(tensor, 0, 1, cols, precision);
}

Result<Norm> WeightReader::norm(const std::string& stem, Norm::Kind kind, int64_t width, float eps) {
  Norm norm;
  norm.kind = kind;
  norm.eps = eps;
  norm.width = width;
  GLIMPSE_ASSIGN(norm.weight, vector(stem + ".weight", 0, width, width));
  if (kind == Norm::Kind::kLayer) {
    GLIMPSE_ASSIGN(norm.bias, vector(stem + ".bias", 0, width, width));
  }
  return norm;
}

Result<std::shared_ptr<const PackedWeight>> WeightReader::sum_of_tensors(const std::vector<std::string>& names,
                                                                         const std::vector<uint64_t>& dims,
                                                                         int64_t rows, int64_t cols) {
  std::vector<const GgufTensor*> tensors;
  WeightSource source;
  for (const std::string& name : names) {
    GLIMPSE_ASSIGN(const GgufTensor* tensor, expect(name, dims, true));
    tensors.push_back(tensor);
    source.name += (source.name.empty() ? "" : " + ") + name;
  }
  source.type = DType::kF32;
  source.rows = rows;
  source.cols = cols;
  source.read_rows = [&file = file_, tensors, cols](int64_t first, int64_t count, std::span<std::byte> out) -> Status {
    const auto n = static_cast<size_t>(count * cols);
    std::vector<float> sum(n), part(n);
    std::vector<std::byte> raw;
    for (const GgufTensor* tensor : tensors) {
      const uint64_t element = dtype_info(tensor->type).block_bytes;
      raw.resize(n * element);
      GLIMPSE_TRY(file.read(*tensor, static_cast<uint64_t>(first * cols) * element, raw));
      dequantize_row_ref(tensor->type, raw.data(), part.data(), static_cast<int64_t>(n));
      for (size_t i = 0; i < n; ++i) sum[i] += part[i];
    }
    const auto bytes = std::as_bytes(std::span(sum));
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return {};
  };
  return pack(source, WeightPrecision::kF32);
}

Result<std::shared_ptr<const PackedWeight>> WeightReader::sum_of_frames(const std::string& name,
                                                                        const std::vector<uint64_t>& dims,
                                                                        int64_t pixels, int64_t n_frames, int64_t first,
                                                                        int64_t count, int64_t rows, int64_t cols) {
  GLIMPSE_ASSIGN(const GgufTensor* tensor, expect(name, dims, true));
  WeightSource source;
  source.name = format("%s[%d, %d)", name, first, first + count);
  source.type = DType::kF32;
  source.rows = rows;
  source.cols = cols;
  source.read_rows = [=, &file = file_](int64_t first_row, int64_t n_rows, std::span<std::byte> out) -> Status {
    const int64_t row_length = cols * n_frames;
    const uint64_t element = dtype_info(tensor->type).block_bytes;
    std::vector<std::byte> raw(static_cast<size_t>(n_rows * row_length) * element);
    GLIMPSE_TRY(file.read(*tensor, static_cast<uint64_t>(first_row * row_length) * element, raw));
    std::vector<float> all(static_cast<size_t>(n_rows * row_length)), sum(static_cast<size_t>(n_rows * cols));
    dequantize_row_ref(tensor->type, raw.data(), all.data(), n_rows * row_length);
    for (int64_t plane = 0; plane < n_rows * cols / pixels; ++plane) {
      for (int64_t frame = first; frame < first + count; ++frame) {
        const float* const from = all.data() + (plane * n_frames + frame) * pixels;
        float* const to = sum.data() + plane * pixels;
        for (int64_t i = 0; i < pixels; ++i) to[i] += from[i];
      }
    }
    const auto bytes = std::as_bytes(std::span(sum));
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return {};
  };
  return pack(source, WeightPrecision::kF32);
}

std::vector<float> WeightReader::values(const BackendBuffer* vector) const {
  if (vector == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(vector->n_floats));
  ops_.download(vector->data, vector->n_floats, values.data());
  return values;
}

Result<std::shared_ptr<const BackendBuffer>> WeightReader::vector(const std::string& name, int64_t first, int64_t n,
                                                                  int64_t total) {
  GLIMPSE_ASSIGN(const GgufTensor* tensor, expect(name, {static_cast<uint64_t>(total)}, true));
  n_bytes_ += static_cast<uint64_t>(n) * sizeof(float);
  if (progress_ == nullptr) return std::shared_ptr<const BackendBuffer>();
  const uint64_t element = dtype_info(tensor->type).block_bytes;
  std::vector<std::byte> raw(static_cast<size_t>(n) * element);
  GLIMPSE_TRY(file_.read(*tensor, static_cast<uint64_t>(first) * element, raw));
  const int64_t bad = find_non_finite_block(tensor->type, raw.data(), n);
  if (bad >= 0) {
    return make_error(ErrorCode::kNumeric, "%s: %s: element %d is NaN or infinite", file_.path(), name, first + bad);
  }
  std::vector<float> values(static_cast<size_t>(n));
  dequantize_row_ref(tensor->type, raw.data(), values.data(), n);
  GLIMPSE_ASSIGN(std::unique_ptr<BackendBuffer> buffer, ops_.allocate(n, name.c_str()));
  ops_.upload(values.data(), n, buffer->data);
  return std::shared_ptr<const BackendBuffer>(std::move(buffer));
}

Result<std::vector<float>> WeightReader::host_floats(const std::string& name, const std::vector<uint64_t>& dims) {
  GLIMPSE_ASSIGN(const GgufTensor* tensor, expect(name, dims, true));
  n_bytes_ += tensor->n_elements() * sizeof(float);
  std::vector<float> values;
  if (progress_ == nullptr) return values;
  const auto n = static_cast<int64_t>(tensor->n_elements());
  std::vector<std::byte> raw(static_cast<size_t>(tensor->n_bytes));
  GLIMPSE_TRY(file_.read(*tensor, 0, raw));
  const int64_t bad = find_non_finite_block(tensor->type, raw.data(), n);
  if (bad >= 0) {
    return make_error(ErrorCode::kNumeric, "%s: %s: element %d is NaN or infinite", file_.path(), name, bad);
  }
  values.resize(static_cast<size_t>(n));
  dequantize_row_ref(tensor->type, raw.data(), values.data(), n);
  return values;
}

}  // namespace glimpse
