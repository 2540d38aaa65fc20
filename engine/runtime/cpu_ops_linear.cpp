// CpuOps: matrix products with what is fused to them.
#include <algorithm>
#include <cmath>

#include "engine/base/checked.h"
#include "engine/runtime/cpu_ops.h"
#include "engine/runtime/cpu_products.h"
#include "kernels/activation/activation.h"
#include "kernels/attention/attention.h"
#include "kernels/norm/norm.h"
#include "kernels/rope/rope.h"

namespace glimpse {
namespace {

// Where a chunk begins: between groups of keys, which are stored faster whole. No chunk is longer for it than kChunk,
// a multiple of kKeyAlign.
int64_t chunk_row(int64_t n_rows, int64_t chunk, int64_t n_chunks) {
  return std::min(n_rows, round_up(n_rows * chunk / n_chunks, kKeyAlign));
}

}  // namespace

void CpuOps::FormatList::add(ActFormat format) {
  for (int i = 0; i < count; ++i) {
    if (formats[static_cast<size_t>(i)] == format) return;
  }
  formats[static_cast<size_t>(count++)] = format;
}

void CpuOps::normalize(const Norm& norm, const float* x, int64_t cols, float* out) const {
  for (int64_t i = 0; i < cols; i += norm.width) {
    if (norm.kind == Norm::Kind::kRms) {
      rms_norm(isa_, x + i, norm.weight->data, norm.eps, norm.width, out + i);
    } else {
      layer_norm(isa_, x + i, norm.weight->data, norm.bias->data, norm.eps, norm.width, out + i);
    }
  }
}

void CpuOps::for_each_chunk(Mat x, const Norm& norm, const FormatList& formats,
                            FunctionRef<void(int64_t, const Acts&)> body) {
  Status grown = grow_linear(x.rows, x.cols);  // does nothing after reserve()
  if (!grown.ok()) {
    if (status_.ok()) status_ = std::move(grown);
    return;
  }
  const int64_t n_chunks = ceil_div(x.rows, kChunk);  // of equal size: the last one costs a pass over the weights too
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const int64_t first = chunk_row(x.rows, chunk, n_chunks), count = chunk_row(x.rows, chunk + 1, n_chunks) - first;
    Acts acts;
    acts.count = formats.count;
    for (size_t i = 0; i < static_cast<size_t>(formats.count); ++i) {
      acts.views[i] = make_act_view(formats.formats[i], count, x.cols, acts_[i].data());
    }
    // A row takes less time than telling others of it.
    const int64_t least = std::max<int64_t>(1, kAloneElements / x.cols);
    team_.for_ranges(count, Grain{.most = 4 * least, .least = least}, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const float* row = x.row(first + r);
        if (norm.kind != Norm::Kind::kNone) {
          normalize(norm, row, x.cols, worker(thread).row.as<float>());
          row = worker(thread).row.as<float>();
        }
        for (size_t i = 0; i < static_cast<size_t>(formats.count); ++i) quantize_act_row(isa_, acts.views[i], r, row);
      }
    });
    body(first, acts);
  }
}

void CpuOps::linear_add(Mat in, const Linear& linear, Mat x) {
  const CpuWeight& w = cpu_weight(linear);
  FormatList formats;
  formats.add(w.kernel->act);
  for_each_chunk(in, Norm{}, formats, [&](int64_t first, const Acts& acts) {
    const ActView& act = acts.get(w.kernel->act);
    const Grain grain = panel_grain(act, w.panels.panel_bytes);
    team_.for_ranges(w.panels.n_panels(), grain, [&](int thread, int64_t begin, int64_t end) {
      multiply_panels(linear, begin, end, act, worker(thread).tile.as<float>(), worker(thread).expand.data(),
                      [&](int64_t row, const ProductTile& tile) { add_tile(isa_, tile, x.row(first) + row, x.ld); });
    });
  });
}

void CpuOps::norm_linear(Mat x, const Norm& norm, const Linear& linear, Activation activation, Mat out) {
  const CpuWeight& w = cpu_weight(linear);
  FormatList formats;
  formats.add(w.kernel->act);
  for_each_chunk(x, norm, formats, [&](int64_t first, const Acts& acts) {
    const ActView& act = acts.get(w.kernel->act);
    const Grain grain = panel_grain(act, w.panels.panel_bytes);
    team_.for_ranges(w.panels.n_panels(), grain, [&](int thread, int64_t begin, int64_t end) {
      multiply_panels(linear, begin, end, act, worker(thread).tile.as<float>(), worker(thread).expand.data(),
                      [&](int64_t row, const ProductTile& tile) {
                        store_tile(isa_, tile, activation, out.row(first) + row, out.ld);
                      });
    });
  });
}

void CpuOps::norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) {
  const CpuWeight& wg = cpu_weight(gate);
  const CpuWeight& wu = cpu_weight(up);
  FormatList formats;
  formats.add(wg.kernel->act);
  formats.add(wu.kernel->act);
  for_each_chunk(x, norm, formats, [&](int64_t first, const Acts& acts) {
    const ActView& gate_act = acts.get(wg.kernel->act);
    const ActView& up_act = acts.get(wu.kernel->act);
    const Grain grain = panel_grain(gate_act, wg.panels.panel_bytes + wu.panels.panel_bytes);
    team_.for_ranges(wg.panels.n_panels(), grain, [&](int thread, int64_t begin, int64_t end) {
      float* const gate_values = worker(thread).tile.as<float>();
      float* const up_values = gate_values + kTileFloats / 2;
      std::byte* const expand = worker(thread).expand.data();
      multiply_panels(gate, begin, end, gate_act, gate_values, expand, [&](int64_t, const ProductTile& tile) {
        if (tile.bias != nullptr) store_tile(isa_, tile, Activation::kNone, gate_values, tile.ld);
      });
      multiply_panels(up, begin, end, up_act, up_values, expand, [&](int64_t row, const ProductTile& tile) {
        if (tile.bias != nullptr) store_tile(isa_, tile, Activation::kNone, up_values, tile.ld);
        for (int64_t c = 0; c < tile.n_columns; ++c) {
          swiglu(isa_, gate_values + c * tile.ld, up_values + c * tile.ld, tile.n_rows, out.row(first + c) + row);
        }
      });
    });
  });
}

// Keys and values of rows [rows.begin, rows.end) of a chunk that begins with row `first` of the pass, into the stores.
void CpuOps::store_rows(Segments segments, int64_t first, WorkRange rows, Mat keys, Mat values, Worker& worker) const {
  for (const Segment& s : segments) {
    CpuKv& kv = static_cast<CpuKv&>(*s.kv);
    const int64_t begin = std::max(rows.begin, s.first_row - first);
    const int64_t end = std::min(rows.end, s.first_row + s.n_rows - first);
    if (begin >= end) continue;
    const int64_t position = s.n_past + first + begin - s.first_row;
    kv.store(isa_, keys.row(begin), values.row(begin), keys.ld, end - begin, position);
    // The value behind an odd number of bfloat16 has weight zero, and must not be a NaN that somebody left there.
    if (position + end - begin != s.end_key() || s.end_key() % 2 == 0) continue;
    float* const zero = worker.state.as<float>();
    std::fill_n(zero, kv.head_dim, 0.0f);
    for (int64_t h = 0; h < kv.n_kv_heads; ++h) kv.clear(isa_, h, zero, 1, s.end_key());
  }
}

void CpuOps::norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments, Mat q) {
  const Linear* const parts[3] = {&w.q, &w.k, &w.v};
  const int64_t head_dim = w.head_dim;
  const int64_t kv_width = w.n_kv_heads * head_dim;
  int64_t panel_end[3];  // the panels of q, k and v in one row of work, so that threads share them evenly
  int64_t n_panels = 0;
  FormatList formats;
  for (int i = 0; i < 3; ++i) {
    n_panels += cpu_weight(*parts[i]).panels.n_panels();
    panel_end[i] = n_panels;
    formats.add(cpu_weight(*parts[i]).kernel->act);
  }
  // Keys and values wait here, (chunk, kv_width) each, until their rows are complete.
  float* const rows = kv_rows_.as<float>();
  const Mat k_rows = Mat{rows, kChunk, kv_width, 2 * kv_width};
  const Mat v_rows = Mat{rows + kv_width, kChunk, kv_width, 2 * kv_width};

  for_each_chunk(x, norm, formats, [&](int64_t first, const Acts& acts) {
    const int64_t n_rows = acts.views[0].n;
    const Grain grain = panel_grain(acts.views[0], cpu_weight(w.q).panels.panel_bytes);
    team_.for_ranges(n_panels, grain, [&](int thread, int64_t begin, int64_t end) {
      for (int i = 0; i < 3; ++i) {
        const ActView& act = acts.get(cpu_weight(*parts[i]).kernel->act);
        const int64_t base = i == 0 ? 0 : panel_end[i - 1];
        const int64_t from = std::max(begin, base) - base, to = std::min(end, panel_end[i]) - base;
        if (from >= to) continue;
        const Mat out = i == 0 ? q.slice(first, q.rows - first) : i == 1 ? k_rows : v_rows;
        multiply_panels(*parts[i], from, to, act, worker(thread).tile.as<float>(), worker(thread).expand.data(),
                        [&](int64_t row, const ProductTile& tile) {
                          store_tile(isa_, tile, Activation::kNone, out.data + row, out.ld);
                        });
      }
    });
    const int64_t unit = n_rows >= 4 * kKeyAlign ? kKeyAlign : 1;  // whole groups of keys, where there are many rows
    const Grain row_grain = grain_of({.most = 32, .least = 4}, unit);
    team_.for_ranges(ceil_div(n_rows, unit), row_grain, [&](int thread, int64_t begin_unit, int64_t end_unit) {
      const int64_t begin = begin_unit * unit, end = std::min(end_unit * unit, n_rows);
      for (int64_t r = begin; r < end; ++r) {
        const float* const cos = rope.cos.row(first + r);
        const float* const sin = rope.sin.row(first + r);
        const auto turn = [&](const Norm& head_norm, int64_t n_heads, float* head) {
          for (int64_t h = 0; h < n_heads; ++h, head += head_dim) {
            if (head_norm.kind != Norm::Kind::kNone) normalize(head_norm, head, head_dim, head);
            rope_head(isa_, head, cos, sin, head_dim);
          }
        };
        turn(w.q_norm, w.n_heads, q.row(first + r));
        turn(w.k_norm, w.n_kv_heads, k_rows.row(r));
      }
      store_rows(segments, first, {begin, end}, k_rows, v_rows, worker(thread));
    });
  });
  quantize_segment_heads(q, w.n_heads, segments);
}

}  // namespace glimpse
