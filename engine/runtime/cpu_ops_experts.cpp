// CpuOps: feed-forward networks of experts. The rows of a chunk are sorted by expert, so that each chosen expert's
// weights are read once for all rows that go through it; what a row becomes depends neither on which rows those are nor
// on how many.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/runtime/cpu_ops.h"
#include "engine/runtime/cpu_products.h"
#include "engine/runtime/routing.h"
#include "kernels/activation/activation.h"

namespace glimpse {
namespace {

// The act formats of the experts' two products that read the normalised rows; one if they are the same.
struct InputFormats {
  ActFormat formats[2];
  size_t count;

  explicit InputFormats(const ExpertWeights& w)
      : formats{cpu_weight(w.gate[0]).kernel->act, cpu_weight(w.up[0]).kernel->act},
        count(formats[0] == formats[1] ? 1 : 2) {}
};

uint64_t column_bytes(const ExpertWeights& w, size_t buffer, int64_t n_columns) {
  const InputFormats in(w);
  const uint64_t input = buffer < in.count ? act_bytes(in.formats[buffer], n_columns, w.gate[0].weight->cols) : 0;
  return buffer > 0 ? input : std::max(input, act_bytes(cpu_weight(w.down[0]).kernel->act, n_columns, w.width()));
}

}  // namespace

uint64_t CpuOps::reserve_experts_bytes(int64_t max_rows, const ExpertWeights& w) const {
  const int64_t n = std::min(max_rows, kChunk) * w.n_used;
  const auto numbers = static_cast<uint64_t>(3 * n + 2 * w.n_experts() + 1);
  return AlignedBuffer::memory_bytes(column_bytes(w, 0, n)) + AlignedBuffer::memory_bytes(column_bytes(w, 1, n)) +
         numbers * sizeof(int32_t);
}

Status CpuOps::reserve_experts(int64_t max_rows, const ExpertWeights& w) {
  const int64_t n = std::min(max_rows, kChunk) * w.n_used;
  for (size_t i = 0; i < 2; ++i) {
    const uint64_t bytes = column_bytes(w, i, n);
    if (experts_.acts[i].size() >= bytes) continue;
    GLIMPSE_ASSIGN(experts_.acts[i], AlignedBuffer::allocate(bytes, "inputs of experts"));
  }
  const auto grow = [](std::vector<int32_t>& numbers, int64_t count) {
    if (numbers.size() < static_cast<size_t>(count)) numbers.resize(static_cast<size_t>(count));
  };
  grow(experts_.begin, w.n_experts() + 1);
  experts_.active.reserve(static_cast<size_t>(w.n_experts()));
  for (std::vector<int32_t>* numbers : {&experts_.row, &experts_.slot, &experts_.column}) grow(*numbers, n);
  return {};
}

// Counting sort of a chunk's (row, slot) by expert.
void CpuOps::sort_columns(const ExpertWeights& w, Mat expert) {
  ExpertColumns& c = experts_;
  std::fill(c.begin.begin(), c.begin.end(), 0);
  const auto number = [&](int64_t r, int64_t s) { return static_cast<size_t>(expert.row(r)[s]); };
  for (int64_t r = 0; r < expert.rows; ++r) {
    for (int64_t s = 0; s < w.n_used; ++s) ++c.begin[number(r, s) + 1];
  }
  c.active.clear();
  c.most = 0;
  for (size_t e = 0; e < w.gate.size(); ++e) {
    if (c.begin[e + 1] > 0) c.active.push_back(static_cast<int32_t>(e));
    c.most = std::max<int64_t>(c.most, c.begin[e + 1]);
    c.begin[e + 1] += c.begin[e];
  }
  for (int64_t r = 0; r < expert.rows; ++r) {
    for (int64_t s = 0; s < w.n_used; ++s) {
      const int32_t column = c.begin[number(r, s)]++;
      c.row[static_cast<size_t>(column)] = static_cast<int32_t>(r);
      c.slot[static_cast<size_t>(column)] = static_cast<int32_t>(s);
      c.column[static_cast<size_t>(r * w.n_used + s)] = column;
    }
  }
  // Each begin is now the one behind it.
  std::copy_backward(c.begin.begin(), c.begin.begin() + static_cast<int64_t>(w.gate.size()),
                     c.begin.begin() + static_cast<int64_t>(w.gate.size()) + 1);
  c.begin[0] = 0;
}

// norm(x) into all columns of each row.
void CpuOps::quantize_columns(Mat x, const Norm& norm, int64_t n_used, std::span<const ActView> views) {
  const int64_t least = std::max<int64_t>(1, kAloneElements / x.cols);
  team_.for_ranges(x.rows, Grain{.most = 4 * least, .least = least}, [&](int thread, int64_t begin, int64_t end) {
    float* const h = worker(thread).row.as<float>();
    for (int64_t r = begin; r < end; ++r) {
      normalize(norm, x.row(r), x.cols, h);
      const int32_t* const columns = experts_.column.data() + r * n_used;
      for (const ActView& view : views) {
        quantize_act_row(isa_, view, columns[0], h);
        const std::byte* const first = view.data + columns[0] * view.row_bytes;
        for (int64_t s = 1; s < n_used; ++s) {
          std::memcpy(view.data + columns[s] * view.row_bytes, first, static_cast<size_t>(view.row_bytes));
        }
      }
    }
  });
}

void CpuOps::norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) {
  norm_linear(x, norm, w.router, Activation::kNone, routing.scores);
  Status grown = reserve_experts(x.rows, w);  // does nothing after the first
  if (!grown.ok() && status_.ok()) status_ = std::move(grown);
  if (!status_.ok()) return;
  team_.for_ranges(x.rows, Grain{.most = 32, .least = 8}, [&](int, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      choose_experts(routing.scores.row(r), w.n_experts(), w.n_used, w.normalize, routing.expert.row(r),
                     routing.weight.row(r));
    }
  });
  const InputFormats in(w);
  const CpuWeight &gate = cpu_weight(w.gate[0]), &up = cpu_weight(w.up[0]);
  const int64_t n_panels = gate.panels.n_panels(), n_chunks = ceil_div(x.rows, kChunk);
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const int64_t first = x.rows * chunk / n_chunks, count = x.rows * (chunk + 1) / n_chunks - first;
    sort_columns(w, routing.expert.slice(first, count));
    const int64_t n = count * w.n_used;
    ActView views[2];
    for (size_t i = 0; i < in.count; ++i) {
      views[i] = make_act_view(in.formats[i], n, x.cols, experts_.acts[i].data());
    }
    quantize_columns(x.slice(first, count), norm, w.n_used, std::span(views).first(in.count));
    const auto n_active = static_cast<int64_t>(experts_.active.size());
    const auto panel_cost = static_cast<int64_t>(gate.panels.panel_bytes + up.panels.panel_bytes) * (n / n_active);
    const Grain grain{.most = 16, .least = kTilePanels, .alone = kAloneBytes / panel_cost};
    // A range of the panels of all experts, one after another.
    team_.for_ranges(n_active * n_panels, grain, [&](int thread, int64_t begin, int64_t end) {
      float* const gate_values = worker(thread).tile.as<float>();
      float* const up_values = gate_values + kTileFloats / 2;
      std::byte* const expand = worker(thread).expand.data();
      for (int64_t item = begin; item < end;) {
        const auto e = static_cast<size_t>(experts_.active[static_cast<size_t>(item / n_panels)]);
        const int64_t column = experts_.begin[e], n_columns = experts_.begin[e + 1] - column;
        const ActView gate_act = act_columns(views[0], column, n_columns);
        const ActView up_act = act_columns(views[in.count - 1], column, n_columns);
        const int64_t panel = item % n_panels;
        const int64_t panel_end = std::min({n_panels, panel + end - item, panel + panels_per_call(gate_act)});
        multiply_panels(w.gate[e], panel, panel_end, gate_act, gate_values, expand, [](int64_t, const ProductTile&) {});
        multiply_panels(w.up[e], panel, panel_end, up_act, up_values, expand,
                        [&](int64_t row, const ProductTile& tile) {
                          for (int64_t c = 0; c < tile.n_columns; ++c) {
                            const auto at = static_cast<size_t>(column + c);
                            float* const to = out.row(first + experts_.row[at]) + experts_.slot[at] * w.width() + row;
                            swiglu(isa_, gate_values + c * tile.ld, up_values + c * tile.ld, tile.n_rows, to);
                          }
                        });
        item += panel_end - panel;
      }
    });
  }
  if (!w.has_shared()) return;
  const Mat shared_weight = routing.weight.columns(w.n_used, 1);
  norm_linear(x, norm, w.shared_router, Activation::kNone, shared_weight);
  for (int64_t r = 0; r < x.rows; ++r) {
    float& weight = shared_weight.row(r)[0];
    weight = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(weight))));
  }
  norm_swiglu(x, norm, w.shared_gate, w.shared_up, out.columns(w.n_used * w.width(), w.shared_width()));
}

namespace {

// x += weight * tile, for one column.
void add_weighted(const float* values, int64_t n, float weight, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] += weight * values[i];
}

}  // namespace

void CpuOps::experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) {
  Status grown = reserve_experts(x.rows, w);  // does nothing after the first
  if (!grown.ok() && status_.ok()) status_ = std::move(grown);
  if (!status_.ok()) return;
  const CpuWeight& down = cpu_weight(w.down[0]);
  const int64_t n_chunks = ceil_div(x.rows, kChunk), width = w.width();
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const int64_t first = x.rows * chunk / n_chunks, count = x.rows * (chunk + 1) / n_chunks - first;
    sort_columns(w, routing.expert.slice(first, count));
    const ActView act = make_act_view(down.kernel->act, count * w.n_used, width, experts_.acts[0].data());
    const int64_t least = std::max<int64_t>(1, kAloneElements / width);
    team_.for_ranges(act.n, Grain{.most = 4 * least, .least = least}, [&](int, int64_t begin, int64_t end) {
      for (int64_t column = begin; column < end; ++column) {
        const auto at = static_cast<size_t>(column);
        quantize_act_row(isa_, act, column, in.row(first + experts_.row[at]) + experts_.slot[at] * width);
      }
    });
    // A thread adds all experts to its part of the rows: in ascending order, whoever has which part.
    const auto panel_bytes = static_cast<int64_t>(down.panels.panel_bytes);
    const Grain grain{.most = panels_per_call(act_columns(act, 0, experts_.most)),
                      .least = kTilePanels,
                      .alone = kAloneBytes / (panel_bytes * act.n)};
    team_.for_ranges(down.panels.n_panels(), grain, [&](int thread, int64_t begin, int64_t end) {
      for (const int32_t e : experts_.active) {
        const int64_t column = experts_.begin[static_cast<size_t>(e)];
        const ActView columns = act_columns(act, column, experts_.begin[static_cast<size_t>(e) + 1] - column);
        multiply_panels(w.down[static_cast<size_t>(e)], begin, end, columns, worker(thread).tile.as<float>(),
                        worker(thread).expand.data(), [&](int64_t row, const ProductTile& tile) {
                          for (int64_t c = 0; c < tile.n_columns; ++c) {
                            const auto at = static_cast<size_t>(column + c);
                            const int64_t r = first + experts_.row[at];
                            add_weighted(tile.values + c * tile.ld, tile.n_rows,
                                         routing.weight.row(r)[experts_.slot[at]], x.row(r) + row);
                          }
                        });
      }
    });
  }
  if (!w.has_shared()) return;
  const CpuWeight& shared = cpu_weight(w.shared_down);
  FormatList formats;
  formats.add(shared.kernel->act);
  const Mat shared_in = in.columns(w.n_used * width, w.shared_width());
  for_each_chunk(shared_in, Norm{}, formats, [&](int64_t first, const Acts& acts) {
    const ActView& act = acts.get(shared.kernel->act);
    team_.for_ranges(shared.panels.n_panels(), panel_grain(act, shared.panels.panel_bytes),
                     [&](int thread, int64_t begin, int64_t end) {
                       multiply_panels(w.shared_down, begin, end, act, worker(thread).tile.as<float>(),
                                       worker(thread).expand.data(), [&](int64_t row, const ProductTile& tile) {
                                         for (int64_t c = 0; c < tile.n_columns; ++c) {
                                           const int64_t r = first + c;
                                           add_weighted(tile.values + c * tile.ld, tile.n_rows,
                                                        routing.weight.row(r)[w.n_used], x.row(r) + row);
                                         }
                                       });
                     });
  });
}

void CpuOps::add(Mat in, Mat x) {
  team_.for_ranges(x.rows, Grain{.most = 16, .least = 4}, [&](int, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) glimpse::add(isa_, in.row(r), x.cols, x.row(r));
  });
}

}  // namespace glimpse
