#include "bench/engine/op_cost.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "engine/runtime/cpu_ops.h"

namespace glimpse::bench {
namespace {

// Appends `text` unless it is among the words of `list`, joined by '+'.
void join_new(std::string& list, const std::string& text) {
  if (("+" + list + "+").find("+" + text + "+") != std::string::npos) return;
  list += (list.empty() ? "" : "+") + text;
}

// The type that a matrix is kept in, which is not always that of its file.
const char* packed_type(const PackedWeight& weight) {
  const auto* cpu = dynamic_cast<const CpuWeight*>(&weight);
  return cpu != nullptr ? panel_row_format(cpu->panels.format).name : dtype_name(weight.source_type);
}

}  // namespace

Arithmetic arithmetic_of(const PackedWeight& weight) {
  const auto* cpu = dynamic_cast<const CpuWeight*>(&weight);
  if (cpu == nullptr || cpu->kernel == nullptr || cpu->kernel->isa == Isa::kRef) return Arithmetic::kBaseline;
  switch (cpu->kernel->act) {
    case ActFormat::kBf16:
      return Arithmetic::kBf16;
    case ActFormat::kInt8x32:
    case ActFormat::kInt8x32Mixed:
    case ActFormat::kInt8x128K:
      return int8_arithmetic(cpu->kernel->isa);
    case ActFormat::kF32:
      break;
  }
  return cpu->kernel->isa.has(Isa::kAvx512) ? Arithmetic::kFmaAvx512 : Arithmetic::kFmaAvx2;
}

Arithmetic attention_arithmetic(KvElement element, Isa isa) {
  const Isa needed = select_attention_kernel(element, isa).isa;
  if (needed == Isa::kRef) return Arithmetic::kBaseline;
  if (element == KvElement::kQ8_0) return int8_arithmetic(needed);
  if (!needed.has(Isa::kAvx512)) return Arithmetic::kFmaAvx2;
  return needed.has(Isa::kAvx512Bf16) && element == KvElement::kBf16 ? Arithmetic::kBf16 : Arithmetic::kFmaAvx512;
}

Cost& Cost::operator+=(const Cost& other) {
  flop += other.flop;
  bytes += other.bytes;
  floor_seconds += other.floor_seconds;
  return *this;
}

Cost cost_of(const OpRecord& record, Isa isa, const Roofline& roofline) {
  Cost cost{record.flop, record.bytes, 0};
  if (!roofline.measured()) return cost;
  double multiply_seconds = 0;
  const auto add = [&](double flop, Arithmetic arithmetic) {
    const double rate = roofline.gpu_flop_per_second > 0 ? roofline.gpu_flop_per_second : roofline.rate(arithmetic);
    if (rate > 0) multiply_seconds += flop / rate;
  };
  if (record.kind == OpKind::kAttention) {
    add(record.flop, attention_arithmetic(record.element, isa));
  } else if (record.flop > 0) {  // the lookup of embeddings multiplies nothing
    for (int i = 0; i < record.n_weights; ++i) {
      add(record.weight_flop(i), arithmetic_of(*record.weights[static_cast<size_t>(i)]));
    }
  }
  cost.floor_seconds = std::max(record.bytes / roofline.bytes_per_second, multiply_seconds);
  return cost;
}

std::string op_label(const OpRecord& record) {
  std::string label = op_kind_name(record.kind);
  if (record.kind == OpKind::kAttention) {
    return label + format(" %dx%d %s", record.n_heads, record.head_dim, kv_element_name(record.element));
  }
  std::string shapes, types;
  for (int i = 0; i < record.n_weights; ++i) {
    const PackedWeight& w = *record.weights[static_cast<size_t>(i)];
    join_new(shapes, format("%dx%d", w.rows, w.cols));
    join_new(types, packed_type(w));
  }
  if (!shapes.empty()) label += " " + shapes + " " + types;
  return label;
}

std::vector<ProfileRow> summarize(const std::vector<OpRecord>& records, Isa isa, const Roofline& roofline) {
  std::map<std::string, ProfileRow> rows;
  for (const OpRecord& record : records) {
    const std::string label = op_label(record);
    ProfileRow& row = rows[label];
    row.name = label;
    ++row.n_calls;
    row.seconds += std::chrono::duration<double>(record.end - record.start).count();
    row.cost += cost_of(record, isa, roofline);
  }
  std::vector<ProfileRow> sorted;
  sorted.reserve(rows.size());
  for (auto& [label, row] : rows) sorted.push_back(std::move(row));
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  return sorted;
}

}  // namespace glimpse::bench
