// The formats for programs, and what their columns hold.
#include "bench/engine/report.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "bench/engine/report_markdown.h"

namespace glimpse::bench {
namespace {

using Json = nlohmann::ordered_json;
using Type = Field::Type;

constexpr std::pair<ReportFormat, const char*> kFormats[] = {{ReportFormat::kMarkdown, "md"},
                                                             {ReportFormat::kCsv, "csv"},
                                                             {ReportFormat::kJson, "json"},
                                                             {ReportFormat::kJsonl, "jsonl"},
                                                             {ReportFormat::kSql, "sql"}};

class FieldList {
 public:
  void text(const char* name, std::string value) { fields_.push_back({name, Type::kText, std::move(value)}); }
  void integer(const char* name, int64_t value) { fields_.push_back({name, Type::kInteger, std::to_string(value)}); }
  void nanoseconds(const std::string& name, double value) {
    fields_.push_back({name, Type::kInteger, format("%.0f", value)});
  }
  void real(const char* name, double value) { fields_.push_back({name, Type::kReal, format("%.6f", value)}); }
  /// A value that may be missing.
  void maybe(bool known, const std::string& name, Type type, const std::string& value) {
    fields_.push_back({name, type, known ? std::optional(value) : std::nullopt});
  }
  std::vector<Field> take() { return std::move(fields_); }

 private:
  std::vector<Field> fields_;
};

void add_llama_bench_fields(const ReportContext& c, const TestResult& r, FieldList& list) {
  list.text("build_commit", build_commit());
  list.integer("build_number", build_number());
  list.text("cpu_info", c.cpu);
  list.text("gpu_info", r.gpu);
  list.text("backends", r.gpu.empty() ? "CPU" : "CUDA");
  list.text("model_filename", c.model.filename);
  list.text("model_type", c.model.type);
  list.integer("model_size", static_cast<int64_t>(c.model.n_bytes));
  list.integer("model_n_params", static_cast<int64_t>(c.model.n_params));
  list.integer("n_batch", c.batch);
  list.integer("n_ubatch", c.batch);
  list.integer("n_threads", r.n_threads);
  list.text("type_k", c.kv_type);
  list.text("type_v", c.kv_type);
  list.integer("n_prompt", r.n_prompt);
  list.integer("n_gen", r.n_gen);
  list.integer("n_depth", r.spec.n_depth);
  list.text("test_time", r.test_time);
  const Summary ns = summarize_samples(r.samples_ns()), ts = summarize_samples(r.samples_ts());
  list.nanoseconds("avg_ns", ns.mean);
  list.nanoseconds("stddev_ns", ns.stddev);
  list.real("avg_ts", ts.mean);
  list.real("stddev_ts", ts.stddev);
}

void add_own_fields(const ReportContext& c, const TestResult& r, FieldList& list) {
  list.text("test", r.name);
  list.integer("n_parallel", r.spec.n_parallel);
  list.maybe(r.gpu.empty(), "isa", Type::kText, isa_name(r.isa));
  list.maybe(!r.gpu.empty(), "cuda_decode", Type::kText, c.cuda_decode);
  const bool vision = c.mmproj.has_value(), picture = r.image_width > 0;
  list.maybe(vision, "mmproj_filename", Type::kText, vision ? c.mmproj->filename : "");
  list.maybe(vision, "mmproj_type", Type::kText, vision ? c.mmproj->type : "");
  list.maybe(picture, "image_w", Type::kInteger, std::to_string(r.image_width));
  list.maybe(picture, "image_h", Type::kInteger, std::to_string(r.image_height));
  list.integer("n_image_tokens", r.n_image_tokens);
  const Summary ns = summarize_samples(r.samples_ns());
  list.integer("n_reps", static_cast<int64_t>(r.samples.size()));
  list.nanoseconds("median_ns", ns.median);
  list.nanoseconds("min_ns", ns.min);
  list.nanoseconds("p10_ns", ns.p10);
  list.nanoseconds("p90_ns", ns.p90);
  list.nanoseconds("flops", r.cost.flop);
  list.nanoseconds("bytes", r.cost.bytes);
  const Rates rates = rates_of(r.cost, ns.median / 1e9);
  list.real("gflops", rates.gflops);
  list.real("gbs", rates.gbs);
  const bool roof = r.roofline.measured();
  list.maybe(roof, "pct_roofline", Type::kReal, format("%.3f", rates.percent));
  list.maybe(roof, "roof_gbs", Type::kReal, format("%.3f", r.roofline.bytes_per_second / 1e9));
  const auto rate = [&](const char* name, double per_second) {
    list.maybe(roof && per_second > 0, name, Type::kReal, format("%.3f", per_second / 1e9));
  };
  rate("roof_int8_gops", r.roofline.int8_rate());
  const double gpu_rate = r.roofline.gpu_flop_per_second;
  rate("roof_bf16_gflops", gpu_rate > 0 ? gpu_rate : r.roofline.rate(Arithmetic::kBf16));
  rate("roof_f32_gflops", r.roofline.f32_rate());
  list.maybe(r.peak_rss > 0, "peak_rss", Type::kInteger, std::to_string(r.peak_rss));
  const std::array<double, kStages> stages = mean_stages(r);
  double sum = 0;
  for (size_t i = 0; i < kStages; ++i) {
    const bool ran = stages[i] > 0;
    list.maybe(ran, std::string(stage_name(static_cast<Stage>(i))) + "_ns", Type::kInteger, format("%.0f", stages[i]));
    sum += stages[i];
  }
  list.nanoseconds("stages_ns", sum);
}

// -- one row in each format
// ----------------------------------------------------------------------------------------------

Json json_value(const Field& field) {
  if (!field.value) return nullptr;
  if (field.type == Type::kText) return *field.value;
  // Written as printed: integers up to 2^64, reals with their digits.
  return Json::parse(*field.value, nullptr, false);
}

Json json_row(const ReportContext& context, const TestResult& result) {
  Json row;
  for (const Field& field : report_fields(context, result)) row[field.name] = json_value(field);
  row["samples_ns"] = Json::array();
  row["samples_stages_ns"] = Json::array();
  for (const Timeline& sample : result.samples) {
    row["samples_ns"].push_back(static_cast<int64_t>(sample.total_ns()));
    Json stages = Json::object();
    const std::array<double, kStages> ns = sample.stage_ns();
    for (size_t i = 0; i < kStages; ++i) {
      if (ns[i] > 0) stages[stage_name(static_cast<Stage>(i))] = static_cast<int64_t>(ns[i]);
    }
    row["samples_stages_ns"].push_back(std::move(stages));
  }
  row["samples_ts"] = result.samples_ts();
  if (!result.profile) return row;
  const double total_ns = result.profile->timeline.total_ns();
  Json ops = Json::array();
  for (const ProfileRow& op : result.profile_rows()) {
    const Rates rates = rates_of(op.cost, op.seconds);
    ops.push_back({{"op", op.name},
                   {"calls", op.n_calls},
                   {"ns", static_cast<int64_t>(op.seconds * 1e9)},
                   {"share", total_ns > 0 ? op.seconds * 1e9 / total_ns : 0},
                   {"flops", op.cost.flop},
                   {"bytes", op.cost.bytes},
                   {"gflops", rates.gflops},
                   {"gbs", rates.gbs},
                   {"pct_roofline", result.roofline.measured() ? Json(rates.percent) : Json()}});
  }
  row["profile"] = {{"ns", static_cast<int64_t>(total_ns)}, {"ops", std::move(ops)}};
  return row;
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// `value` with every `quote` doubled, in quotes.
std::string quoted(const std::string& value, char quote) {
  std::string out(1, quote);
  for (const char c : value) {
    if (c == quote) out += quote;
    out += c;
  }
  return out + quote;
}

template <typename Cell>
std::string joined(const std::vector<Field>& fields, const char* separator, Cell cell) {
  std::string out;
  for (const Field& field : fields) out.append(out.empty() ? "" : separator).append(cell(field));
  return out;
}

std::string names(const std::vector<Field>& fields, const char* separator) {
  return joined(fields, separator, [](const Field& field) { return field.name; });
}

std::string sql_type(const Field& field) {
  return field.type == Type::kText ? "TEXT" : field.type == Type::kInteger ? "INTEGER" : "REAL";
}

std::string sql_value(const Field& field) {
  if (!field.value) return "NULL";
  return field.type == Type::kText ? quoted(*field.value, '\'') : *field.value;
}

}  // namespace

std::optional<ReportFormat> report_format_from_name(std::string_view name) {
  for (const auto& [format, known] : kFormats) {
    if (name == known) return format;
  }
  return std::nullopt;
}

Rates rates_of(const Cost& cost, double seconds) {
  if (seconds <= 0) return {};
  return {cost.flop / seconds / 1e9, cost.bytes / seconds / 1e9, 100 * cost.floor_seconds / seconds};
}

std::array<double, kStages> mean_stages(const TestResult& result) {
  std::array<double, kStages> means{};
  for (const Timeline& sample : result.samples) {
    const std::array<double, kStages> ns = sample.stage_ns();
    for (size_t i = 0; i < kStages; ++i) means[i] += ns[i] / static_cast<double>(result.samples.size());
  }
  return means;
}

std::vector<Field> report_fields(const ReportContext& context, const TestResult& result) {
  FieldList list;
  add_llama_bench_fields(context, result, list);
  add_own_fields(context, result, list);
  return list.take();
}

std::string report_begin(ReportFormat format, const ReportContext& context) {
  const std::vector<Field> fields = report_fields(context, TestResult{});
  switch (format) {
    case ReportFormat::kMarkdown:
      return markdown_begin();
    case ReportFormat::kCsv:
      return names(fields, ",") + "\n";
    case ReportFormat::kJson:
      return "[\n";
    case ReportFormat::kJsonl:
      return "";
    case ReportFormat::kSql:
      break;
  }
  return "CREATE TABLE IF NOT EXISTS glimpse_bench (\n  " +
         joined(fields, ",\n  ", [](const Field& field) { return field.name + " " + sql_type(field); }) + "\n);\n\n";
}

std::string report_row(ReportFormat format, const ReportContext& context, const TestResult& result, bool first) {
  switch (format) {
    case ReportFormat::kMarkdown:
      return markdown_row(context, result);
    case ReportFormat::kCsv:
      return joined(report_fields(context, result), ",",
                    [](const Field& field) { return quoted(field.value.value_or(""), '"'); }) +
             "\n";
    case ReportFormat::kJson:
      return std::string(first ? "" : ",\n").append(dump(json_row(context, result), 2));
    case ReportFormat::kJsonl:
      return dump(json_row(context, result), -1) + "\n";
    case ReportFormat::kSql:
      break;
  }
  const std::vector<Field> fields = report_fields(context, result);
  return "INSERT INTO glimpse_bench (" + names(fields, ", ") + ") VALUES (" + joined(fields, ", ", sql_value) + ");\n";
}

std::string report_end(ReportFormat format, const ReportContext& context, const std::vector<TestResult>& results) {
  if (format == ReportFormat::kMarkdown) return markdown_end(context, results);
  return format == ReportFormat::kJson ? "\n]\n" : "";
}

}  // namespace glimpse::bench
