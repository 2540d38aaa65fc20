#include "engine/model/probe.h"

#include <algorithm>
#include <cmath>

namespace glimpse {

void Probe::append(Mat rows, std::vector<float>& values) {
  for (int64_t r = 0; r < rows.rows; ++r) {
    const size_t size = values.size();
    values.resize(size + static_cast<size_t>(rows.cols));
    ops_.download(rows.row(r), rows.cols, values.data() + size);
  }
}

void Probe::show(const char* name, const std::vector<float>& values, int64_t cols) {
  const std::string full = prefix_ + name;
  if (searching_ && first_non_finite_.empty() &&
      !std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    first_non_finite_ = full;
  }
  if (tap_) tap_(full, values.data(), static_cast<int64_t>(values.size()) / cols, cols);
}

void Probe::see(const char* name, Mat x) {
  if (!active()) return;
  std::vector<float> values;
  append(x, values);
  show(name, values, x.cols);
}

void Probe::see(const char* name, const float* host, int64_t rows, int64_t cols) {
  if (active()) show(name, std::vector<float>(host, host + rows * cols), cols);
}

void Probe::see_kv(Segments segments) {
  if (!active()) return;
  const int64_t dim = segments[0].kv->head_dim, width = segments[0].kv->n_kv_heads * dim;
  std::vector<float> keys, values;
  for (const Segment& s : segments) {
    for (int64_t i = 0; i < s.n_rows; ++i) {
      const size_t row = keys.size();
      keys.resize(row + static_cast<size_t>(width));
      values.resize(keys.size());
      for (int64_t at = 0; at < width; at += dim) {
        s.kv->read(at / dim, s.n_past + i, keys.data() + row + at, values.data() + row + at);
      }
    }
  }
  show("k", keys, width);
  show("v", values, width);
}

void Probe::see_rows(Mat rows) {
  if (active()) append(rows, collected_);
}

void Probe::finish(const char* name, int64_t cols) {
  if (!active()) return;
  show(name, collected_, cols);
  collected_.clear();
}

}  // namespace glimpse
