#include "engine/runtime/profiled_ops.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "engine/base/enum_names.h"

namespace glimpse {
namespace {

// A product of `rows` rows with w: adds its FLOP and the weight's bytes, so many times.
void add_product(OpRecord& record, const PackedWeight& w, int64_t rows, double n_weights = 1) {
  record.weights[static_cast<size_t>(record.n_weights)] = &w;
  record.weight_rows[static_cast<size_t>(record.n_weights)] = rows;
  record.flop += record.weight_flop(record.n_weights++);
  record.bytes += n_weights * static_cast<double>(w.n_bytes);
}

// Experts that so many rows go through on average, if they choose independently.
double experts_touched(const ExpertWeights& w, int64_t rows) {
  const auto n = static_cast<double>(w.n_experts());
  return n * (1 - std::pow(1 - static_cast<double>(w.n_used) / n, static_cast<double>(rows)));
}

}  // namespace

const char* op_kind_name(OpKind kind) {
  constexpr const char* kNames[] = {"upload",      "embed",       "norm_qkv",    "attention",
                                    "linear_add",  "norm_swiglu", "norm_linear", "norm_experts",
                                    "experts_add", "add",         "all_finite",  "download"};
  return enum_name<OpKind::kDownload>(kNames, kind);
}

void ProfiledOps::observe(OpKind kind, int64_t rows, std::initializer_list<Mat> activations,
                          FunctionRef<void()> execute, FunctionRef<void(OpRecord&)> describe) {
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = kind;
  record.rows = rows;
  for (const Mat& m : activations) {
    record.bytes += static_cast<double>(sizeof(float)) * static_cast<double>(m.rows) * static_cast<double>(m.cols);
  }
  describe(record);
  const bool alone = mode_ == Mode::kExecute && sink_ && (!alone_ || alone_(record));
  if (alone) inner_.wait();
  record.start = record.end = OpRecord::Clock::now();
  if (mode_ == Mode::kExecute) {
    execute();
    if (alone) inner_.wait();
    record.end = OpRecord::Clock::now();
  }
  if (sink_) sink_(record);
}

Status ProfiledOps::run(FunctionRef<void()> body) {
  if (mode_ == Mode::kExecute) return inner_.run(body);
  body();
  return {};
}

void ProfiledOps::wait() {
  if (mode_ == Mode::kExecute) inner_.wait();
}

void ProfiledOps::upload(const float* host, int64_t n_floats, float* backend) {
  observe(
      OpKind::kUpload, 1, {}, [&] { inner_.upload(host, n_floats, backend); },
      [&](OpRecord& record) { record.bytes = 2.0 * sizeof(float) * static_cast<double>(n_floats); });
}

void ProfiledOps::upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels,
                                float* backend) {
  observe(
      OpKind::kUpload, 1, {}, [&] { inner_.upload_levels(bytes, n_floats, run, levels, backend); },
      [&](OpRecord& record) { record.bytes = (1.0 + sizeof(float)) * static_cast<double>(n_floats); });
}

void ProfiledOps::download(const float* backend, int64_t n_floats, float* host) {
  observe(
      OpKind::kDownload, 1, {}, [&] { inner_.download(backend, n_floats, host); },
      [&](OpRecord& record) { record.bytes = 2.0 * sizeof(float) * static_cast<double>(n_floats); });
}

void ProfiledOps::embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) {
  const auto describe = [&](OpRecord& record) {
    record.weights[0] = &table;
    record.n_weights = 1;
    record.rows = std::count_if(ids.begin(), ids.end(), [](int32_t id) { return id >= 0; });
    const double row_bytes = static_cast<double>(table.n_bytes) / static_cast<double>(table.rows > 0 ? table.rows : 1);
    record.bytes = static_cast<double>(record.rows) * (row_bytes + sizeof(float) * static_cast<double>(x.cols));
  };
  observe(
      OpKind::kEmbed, 0, {}, [&] { inner_.embed(table, ids, x); }, describe);
}

void ProfiledOps::norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments,
                           Mat q) {
  const auto describe = [&](OpRecord& record) {
    for (const Segment& s : segments) record.bytes += static_cast<double>(s.n_rows) * s.kv->position_bytes;
    for (const Linear* part : {&w.q, &w.k, &w.v}) add_product(record, *part->weight, x.rows);
  };
  observe(
      OpKind::kNormQkv, x.rows, {x, q, rope.cos, rope.sin}, [&] { inner_.norm_qkv(x, norm, w, rope, segments, q); },
      describe);
}

void ProfiledOps::attention(Mat q, int64_t n_heads, Segments segments, Mat out) {
  const auto describe = [&](OpRecord& record) {
    record.n_heads = n_heads;
    for (const Segment& s : segments) {
      if (s.n_rows == 0) continue;
      const int64_t n_keys = s.end_key() - s.first_key;
      const auto n = static_cast<double>(s.n_rows);
      const double pairs = n * static_cast<double>(n_keys) - (s.causal ? n * (n - 1) / 2 : 0);
      record.head_dim = s.kv->head_dim;
      record.n_keys = std::max(record.n_keys, n_keys);
      record.element = s.kv->element;
      record.flop += 4 * pairs * static_cast<double>(n_heads) * static_cast<double>(record.head_dim);
      record.bytes += static_cast<double>(n_keys) * s.kv->position_bytes;
    }
  };
  observe(
      OpKind::kAttention, q.rows, {q, out}, [&] { inner_.attention(q, n_heads, segments, out); }, describe);
}

void ProfiledOps::linear_add(Mat in, const Linear& w, Mat x) {
  observe(
      OpKind::kLinearAdd, in.rows, {in, x}, [&] { inner_.linear_add(in, w, x); },
      [&](OpRecord& record) { add_product(record, *w.weight, in.rows); });
}

void ProfiledOps::norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) {
  const auto describe = [&](OpRecord& record) {
    add_product(record, *gate.weight, x.rows);
    add_product(record, *up.weight, x.rows);
  };
  observe(
      OpKind::kNormSwiglu, x.rows, {x, out}, [&] { inner_.norm_swiglu(x, norm, gate, up, out); }, describe);
}

void ProfiledOps::norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) {
  observe(
      OpKind::kNormLinear, x.rows, {x, out}, [&] { inner_.norm_linear(x, norm, w, activation, out); },
      [&](OpRecord& record) { add_product(record, *w.weight, x.rows); });
}

void ProfiledOps::norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) {
  const auto describe = [&](OpRecord& record) {
    add_product(record, *w.router.weight, x.rows);
    add_product(record, *w.gate[0].weight, x.rows * w.n_used, experts_touched(w, x.rows));
    add_product(record, *w.up[0].weight, x.rows * w.n_used, experts_touched(w, x.rows));
    if (!w.has_shared()) return;
    for (const Linear* part : {&w.shared_router, &w.shared_gate, &w.shared_up}) {
      add_product(record, *part->weight, x.rows);
    }
  };
  observe(
      OpKind::kNormExperts, x.rows, {x, out, routing.scores, routing.weight},
      [&] { inner_.norm_experts(x, norm, w, routing, out); }, describe);
}

void ProfiledOps::experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) {
  const auto describe = [&](OpRecord& record) {
    add_product(record, *w.down[0].weight, in.rows * w.n_used, experts_touched(w, in.rows));
    if (w.has_shared()) add_product(record, *w.shared_down.weight, in.rows);
  };
  observe(
      OpKind::kExpertsAdd, in.rows, {in, x, routing.weight}, [&] { inner_.experts_add(in, w, routing, x); }, describe);
}

void ProfiledOps::add(Mat in, Mat x) {
  observe(
      OpKind::kAdd, in.rows, {in, x}, [&] { inner_.add(in, x); }, [](OpRecord&) {});
}

bool ProfiledOps::all_finite(Mat x) {
  bool finite = true;
  observe(
      OpKind::kAllFinite, x.rows, {x}, [&] { finite = inner_.all_finite(x); }, [](OpRecord&) {});
  return finite;
}

}  // namespace glimpse
