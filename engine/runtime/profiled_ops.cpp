#include "engine/runtime/profiled_ops.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/base/enum_names.h"

namespace glimpse {
namespace {

double float_bytes(Mat m) {
  return static_cast<double>(sizeof(float)) * static_cast<double>(m.rows) * static_cast<double>(m.cols);
}

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

OpRecord copy_record(OpKind kind, int64_t n_floats) {
  OpRecord record;
  record.kind = kind;
  record.rows = 1;
  record.bytes = 2.0 * sizeof(float) * static_cast<double>(n_floats);
  return record;
}

}  // namespace

const char* op_kind_name(OpKind kind) {
  constexpr const char* kNames[] = {"upload",      "embed",       "norm_qkv",    "attention",
                                    "linear_add",  "norm_swiglu", "norm_linear", "norm_experts",
                                    "experts_add", "add",         "all_finite",  "download"};
  return enum_name<OpKind::kDownload>(kNames, kind);
}

template <typename Execute>
void ProfiledOps::report(OpRecord record, Execute&& execute) {
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
  const auto execute = [&] { inner_.upload(host, n_floats, backend); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  report(copy_record(OpKind::kUpload, n_floats), execute);
}

void ProfiledOps::upload_levels(const uint8_t* bytes, int64_t n_floats, int64_t run, const float* levels,
                                float* backend) {
  const auto execute = [&] { inner_.upload_levels(bytes, n_floats, run, levels, backend); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record = copy_record(OpKind::kUpload, n_floats);
  record.bytes = (1.0 + sizeof(float)) * static_cast<double>(n_floats);
  report(record, execute);
}

void ProfiledOps::download(const float* backend, int64_t n_floats, float* host) {
  const auto execute = [&] { inner_.download(backend, n_floats, host); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  report(copy_record(OpKind::kDownload, n_floats), execute);
}

void ProfiledOps::embed(const PackedWeight& table, std::span<const int32_t> ids, Mat x) {
  const auto execute = [&] { inner_.embed(table, ids, x); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kEmbed;
  record.weights[0] = &table;
  record.n_weights = 1;
  int64_t n_rows = 0;
  for (const int32_t id : ids) n_rows += id >= 0;
  record.rows = n_rows;
  const double row_bytes = static_cast<double>(table.n_bytes) / static_cast<double>(table.rows > 0 ? table.rows : 1);
  record.bytes = static_cast<double>(n_rows) * (row_bytes + sizeof(float) * static_cast<double>(x.cols));
  report(record, execute);
}

void ProfiledOps::norm_qkv(Mat x, const Norm& norm, const QkvWeights& w, const RopeTable& rope, Segments segments,
                           Mat q) {
  const auto execute = [&] { inner_.norm_qkv(x, norm, w, rope, segments, q); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kNormQkv;
  record.rows = x.rows;
  record.bytes = float_bytes(x) + float_bytes(q) + float_bytes(rope.cos) + float_bytes(rope.sin);
  for (const Segment& s : segments) record.bytes += static_cast<double>(s.n_rows) * s.kv->position_bytes;
  for (const Linear* part : {&w.q, &w.k, &w.v}) add_product(record, *part->weight, x.rows);
  report(record, execute);
}

void ProfiledOps::attention(Mat q, int64_t n_heads, Segments segments, Mat out) {
  const auto execute = [&] { inner_.attention(q, n_heads, segments, out); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kAttention;
  record.rows = q.rows;
  record.n_heads = n_heads;
  record.bytes = float_bytes(q) + float_bytes(out);
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
  report(record, execute);
}

void ProfiledOps::linear_add(Mat in, const Linear& w, Mat x) {
  const auto execute = [&] { inner_.linear_add(in, w, x); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kLinearAdd;
  record.rows = in.rows;
  record.bytes = float_bytes(in) + float_bytes(x);
  add_product(record, *w.weight, in.rows);
  report(record, execute);
}

void ProfiledOps::norm_swiglu(Mat x, const Norm& norm, const Linear& gate, const Linear& up, Mat out) {
  const auto execute = [&] { inner_.norm_swiglu(x, norm, gate, up, out); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kNormSwiglu;
  record.rows = x.rows;
  record.bytes = float_bytes(x) + float_bytes(out);
  add_product(record, *gate.weight, x.rows);
  add_product(record, *up.weight, x.rows);
  report(record, execute);
}

void ProfiledOps::norm_linear(Mat x, const Norm& norm, const Linear& w, Activation activation, Mat out) {
  const auto execute = [&] { inner_.norm_linear(x, norm, w, activation, out); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kNormLinear;
  record.rows = x.rows;
  record.bytes = float_bytes(x) + float_bytes(out);
  add_product(record, *w.weight, x.rows);
  report(record, execute);
}

void ProfiledOps::norm_experts(Mat x, const Norm& norm, const ExpertWeights& w, const Routing& routing, Mat out) {
  const auto execute = [&] { inner_.norm_experts(x, norm, w, routing, out); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kNormExperts;
  record.rows = x.rows;
  record.bytes = float_bytes(x) + float_bytes(out) + float_bytes(routing.scores) + float_bytes(routing.weight);
  add_product(record, *w.router.weight, x.rows);
  add_product(record, *w.gate[0].weight, x.rows * w.n_used, experts_touched(w, x.rows));
  add_product(record, *w.up[0].weight, x.rows * w.n_used, experts_touched(w, x.rows));
  if (w.has_shared()) {
    for (const Linear* part : {&w.shared_router, &w.shared_gate, &w.shared_up}) {
      add_product(record, *part->weight, x.rows);
    }
  }
  report(record, execute);
}

void ProfiledOps::experts_add(Mat in, const ExpertWeights& w, const Routing& routing, Mat x) {
  const auto execute = [&] { inner_.experts_add(in, w, routing, x); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kExpertsAdd;
  record.rows = in.rows;
  record.bytes = float_bytes(in) + float_bytes(x) + float_bytes(routing.weight);
  add_product(record, *w.down[0].weight, in.rows * w.n_used, experts_touched(w, in.rows));
  if (w.has_shared()) add_product(record, *w.shared_down.weight, in.rows);
  report(record, execute);
}

void ProfiledOps::add(Mat in, Mat x) {
  const auto execute = [&] { inner_.add(in, x); };
  if (!sink_ && mode_ == Mode::kExecute) return execute();
  OpRecord record;
  record.kind = OpKind::kAdd;
  record.rows = in.rows;
  record.bytes = float_bytes(in) + float_bytes(x);
  report(record, execute);
}

bool ProfiledOps::all_finite(Mat x) {
  bool finite = true;
  const auto execute = [&] { finite = inner_.all_finite(x); };
  if (!sink_ && mode_ == Mode::kExecute) {
    execute();
    return finite;
  }
  OpRecord record;
  record.kind = OpKind::kAllFinite;
  record.rows = x.rows;
  record.bytes = float_bytes(x);
  report(record, execute);
  return finite;
}

}  // namespace glimpse
