// Results as people and programs want them: md, csv, json, jsonl, sql. Columns that mean what they mean in llama-bench
// have its names; bench/README.md explains the others.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/engine/machine.h"
#include "bench/engine/runner.h"

namespace glimpse::bench {

enum class ReportFormat { kMarkdown, kCsv, kJson, kJsonl, kSql };
/// "md", "csv", "json", "jsonl", "sql".
std::optional<ReportFormat> report_format_from_name(std::string_view name);

/// What all rows of a report have in common.
struct ReportContext {
  ModelFacts model;
  std::optional<ModelFacts> mmproj;
  std::string cpu;
  int64_t batch = 512;
  std::string kv_type;      // as kv_element_name
  std::string cuda_decode;  // "graph", "launches"; rows of a GPU have it
};

/// A report is begin, one row per result as they come, end. With json it is valid however few rows there are.
std::string report_begin(ReportFormat format, const ReportContext& context);
std::string report_row(ReportFormat format, const ReportContext& context, const TestResult& result, bool first);
std::string report_end(ReportFormat format, const ReportContext& context, const std::vector<TestResult>& results);

/// One column of csv, json and sql.
struct Field {
  enum class Type { kText, kInteger, kReal };
  std::string name;
  Type type = Type::kText;
  std::optional<std::string> value;  // nullopt: not known, or not of this test
};
std::vector<Field> report_fields(const ReportContext& context, const TestResult& result);

/// Every operation of the recorded repetition, summed by kind, shape and type, as a Markdown table; empty without one.
std::string profile_table(const TestResult& result);
/// The recorded repetitions of all results in Chrome's trace event format (chrome://tracing, ui.perfetto.dev): tests,
/// their stages, every operation with its layer, rows, FLOP, bytes and share of the roofline.
std::string trace_json(const Model& model, const std::vector<TestResult>& results);

}  // namespace glimpse::bench
