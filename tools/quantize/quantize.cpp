#include "tools/quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <vector>

#include "engine/base/thread_team.h"
#include "kernels/quant/quant.h"
#include "loaders/gguf/gguf_text.h"
#include "loaders/gguf/gguf_writer.h"

namespace glimpse {
namespace {

constexpr uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION: of the block formats
// Elements converted between two looks at the progress: some milliseconds to a second, and a few megabytes.
constexpr uint64_t kPieceElements = uint64_t{1} << 20;
// Norms and biases are done before another thread has woken up.
constexpr uint64_t kWorthSharing = uint64_t{1} << 14;
// Past this the quantisers' searches overflow a float and may write zeros, which no later check could tell from real
// ones (kernels/quant/quant.h).
constexpr float kLargestWeight = 1e12f;

GgufValue uint32_value(uint64_t value) {
  return {GgufType::kUint32, GgufType::kUint32, value};
}
GgufValue string_value(const std::string& value) {
  return {GgufType::kString, GgufType::kUint32, value};
}

// Keys that the new file sets, in the order in which those that are new are added.
std::vector<std::pair<std::string, GgufValue>> new_values(const QuantizeRequest& request) {
  std::vector<std::pair<std::string, GgufValue>> values = {
      {"general.quantization_version", uint32_value(kQuantizationVersion)},
      {"general.file_type", uint32_value(static_cast<uint32_t>(request.type))}};
  if (const ImportanceMatrix* const matrix = request.importance) {
    // The name alone: where it lay is nobody's business who gets the file.
    values.emplace_back("quantize.imatrix.file", string_value(std::filesystem::path(matrix->path()).filename()));
    if (!matrix->dataset().empty()) {
      const std::string dataset = std::filesystem::path(matrix->dataset()).filename();
      if (is_valid_utf8(dataset)) values.emplace_back("quantize.imatrix.dataset", string_value(dataset));
    }
    values.emplace_back("quantize.imatrix.entries_count", uint32_value(matrix->n_entries()));
    if (matrix->n_chunks() > 0) {
      values.emplace_back("quantize.imatrix.chunks_count", uint32_value(matrix->n_chunks()));
    }
  }
  return values;
}

void add_metadata(const GgufFile& file, const QuantizeRequest& request, GgufWriter& writer) {
  const auto values = new_values(request);
  for (const std::string& key : file.keys()) {
    if (key.starts_with("split.")) continue;
    const auto at = std::find_if(values.begin(), values.end(), [&](const auto& value) { return value.first == key; });
    writer.add_value(key, at == values.end() ? *file.find(key) : at->second);
  }
  for (const auto& [key, value] : values) {
    if (file.find(key) == nullptr) writer.add_value(key, value);
  }
}

void declare_tensors(const QuantizePlan& plan, GgufWriter& writer) {
  for (const PlannedTensor& tensor : plan.tensors) {
    const GgufTensor& source = *tensor.source;
    // A scalar is a row of one.
    writer.declare_tensor(source.name, tensor.type, {source.dims, source.dims + std::max(source.n_dims, 1u)});
  }
}

// What is wrong with the rows of a piece: the first one counts, whichever thread found it.
struct BadRow {
  uint64_t row = std::numeric_limits<uint64_t>::max();
  enum class Kind { kNone, kNotFinite, kTooLarge } kind = Kind::kNone;
};

class Converter {
 public:
  Converter(const GgufFile& file, const QuantizeOptions& options, GgufWriter& writer)
      : file_(file), options_(options), writer_(writer), team_(options.n_threads) {
    bad_.resize(static_cast<size_t>(options.n_threads));
    floats_.resize(bad_.size());
  }

  Status convert(const PlannedTensor& tensor, uint64_t bytes_total) {
    const GgufTensor& source = *tensor.source;
    if (source.n_elements() == 0) return {};
    const uint64_t piece_rows = std::clamp<uint64_t>(kPieceElements / source.row_length(), 1, source.n_rows());
    for (std::vector<float>& row : floats_) row.resize(tensor.is_copied() ? 0 : source.row_length());
    for (uint64_t first = 0; first < source.n_rows(); first += piece_rows) {
      const uint64_t n_rows = std::min(piece_rows, source.n_rows() - first);
      GLIMPSE_TRY(convert_rows(tensor, first, n_rows));
      bytes_done_ += n_rows * source.row_bytes();
      if (options_.progress &&
          !options_.progress(static_cast<double>(bytes_done_) / static_cast<double>(bytes_total))) {
        return make_error(ErrorCode::kCancelled, "cancelled");
      }
    }
    return {};
  }

 private:
  Status convert_rows(const PlannedTensor& tensor, uint64_t first, uint64_t n_rows) {
    const GgufTensor& source = *tensor.source;
    input_.resize(n_rows * source.row_bytes());
    GLIMPSE_TRY(file_.read(source, first * source.row_bytes(), input_));
    if (tensor.is_copied() && !is_weight_type(source.type)) return writer_.append(input_);
    if (!tensor.is_copied()) output_.resize(n_rows * dtype_row_bytes(tensor.type, source.row_length()));
    std::fill(bad_.begin(), bad_.end(), BadRow{});
    const auto least = static_cast<int64_t>(std::max<uint64_t>(1, kWorthSharing / source.row_length()));
    team_.for_ranges(static_cast<int64_t>(n_rows), Grain{.most = least, .least = least},
                     [&](int thread, int64_t begin, int64_t end) {
                       const auto index = static_cast<size_t>(thread);
                       for (int64_t i = begin; i < end && first + static_cast<uint64_t>(i) < bad_[index].row; ++i) {
                         const BadRow bad = convert_row(tensor, first, static_cast<uint64_t>(i), floats_[index].data());
                         if (bad.kind != BadRow::Kind::kNone) bad_[index] = bad;
                       }
                     });
    const BadRow bad =
        *std::min_element(bad_.begin(), bad_.end(), [](const BadRow& a, const BadRow& b) { return a.row < b.row; });
    if (bad.kind != BadRow::Kind::kNone) return describe(tensor, bad);
    return writer_.append(tensor.is_copied() ? input_ : output_);
  }

  // Row first + i of the tensor, which is row i of the piece.
  BadRow convert_row(const PlannedTensor& tensor, uint64_t first, uint64_t i, float* floats) {
    const GgufTensor& source = *tensor.source;
    const auto n = static_cast<int64_t>(source.row_length());
    const uint64_t row = first + i;
    const std::byte* const in = input_.data() + i * source.row_bytes();
    if (find_non_finite_block(source.type, in, n) >= 0) return {row, BadRow::Kind::kNotFinite};
    if (tensor.is_copied()) return {};
    dequantize_row_ref(source.type, in, floats, n);
    for (int64_t k = 0; k < n; ++k) {
      if (std::fabs(floats[k]) > kLargestWeight && tensor.type != DType::kF32) return {row, BadRow::Kind::kTooLarge};
    }
    const float* importance = nullptr;
    if (!tensor.importance.empty()) {
      importance = tensor.importance.data() + row / source.dims[1] * source.row_length();  // of this row's matrix
    }
    std::byte* const out = output_.data() + i * dtype_row_bytes(tensor.type, source.row_length());
    quantize_row_ref(tensor.type, floats, out, n, importance);
    if (find_non_finite_block(tensor.type, out, n) >= 0) return {row, BadRow::Kind::kTooLarge};
    return {};
  }

  static Error describe(const PlannedTensor& tensor, const BadRow& bad) {
    const std::string name = glimpse::quoted(tensor.source->name);
    if (bad.kind == BadRow::Kind::kNotFinite) {
      return make_error(ErrorCode::kNumeric, "tensor %s has NaN or infinity in row %d: the file is damaged", name,
                        bad.row);
    }
    return make_error(ErrorCode::kNumeric, "tensor %s has values in row %d that are too large for %s", name, bad.row,
                      dtype_name(tensor.type));
  }

  const GgufFile& file_;
  const QuantizeOptions& options_;
  GgufWriter& writer_;
  ThreadTeam team_;
  std::vector<std::byte> input_, output_;   // a piece of a tensor, before and after
  std::vector<std::vector<float>> floats_;  // a row for each thread
  std::vector<BadRow> bad_;                 // for each thread
  uint64_t bytes_done_ = 0;
};

}  // namespace

Status write_quantized(const GgufFile& file, const QuantizeRequest& request, const QuantizePlan& plan,
                       const QuantizeOptions& options) {
  GgufWriter writer;
  add_metadata(file, request, writer);
  declare_tensors(plan, writer);
  GLIMPSE_TRY(writer.begin(
      options.path, options.overwrite ? AtomicFileWriter::Existing::kReplace : AtomicFileWriter::Existing::kRefuse));
  Converter converter(file, options, writer);
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    GLIMPSE_TRY(converter.convert(plan.tensors[i], plan.bytes_before));
    if (options.tensor_done) options.tensor_done(i);
  }
  return writer.commit();
}

}  // namespace glimpse
