#include "bench/engine/report_markdown.h"

#include <algorithm>
#include <cstdlib>

namespace glimpse::bench {
namespace {

struct Column {
  std::string name;
  int width = 0;  // negative: to the left
};

// Characters, not bytes: a ± is two bytes and one character.
int display_width(const std::string& text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, int width) {
  const std::string blanks(static_cast<size_t>(std::max(0, std::abs(width) - display_width(text))), ' ');
  return width < 0 ? text + blanks : blanks + text;
}

std::string table_row(const std::vector<Column>& columns, const std::vector<std::string>& cells) {
  std::string row = "|";
  for (size_t i = 0; i < columns.size(); ++i) row.append(" ").append(padded(cells[i], columns[i].width)).append(" |");
  return row + "\n";
}

std::string table_head(const std::vector<Column>& columns) {
  std::vector<std::string> names;
  std::string rule = "|";
  for (const Column& column : columns) {
    names.push_back(column.name);
    rule.append(" ").append(static_cast<size_t>(std::abs(column.width) - 1), '-');
    rule.append(column.width > 0 ? ": |" : "- |");
  }
  return table_row(columns, names) + rule + "\n";
}

std::string file_size(uint64_t n_bytes) {
  const double mib = static_cast<double>(n_bytes) / (1 << 20);
  return mib < 1024 ? format("%.2f MiB", mib) : format("%.2f GiB", mib / 1024);
}

std::string parameters(uint64_t n) {
  return n < 1000000000 ? format("%.2f M", static_cast<double>(n) / 1e6)
                        : format("%.2f B", static_cast<double>(n) / 1e9);
}

std::string milliseconds(double ns) {
  return ns >= 1e8 ? format("%.1f", ns / 1e6) : ns >= 1e6 ? format("%.2f", ns / 1e6) : format("%.4f", ns / 1e6);
}

// 120 characters together; csv and json have the rest.
const std::vector<Column> kResultColumns = {{"model", -16}, {"size", 10}, {"backend", -7},  {"threads", 7},
                                            {"test", 22},   {"t/s", 18},  {"median ms", 9}, {"% roof", 6}};

// A line for each stage that a test has; the last of a test is the test itself.
std::string stage_table(const std::vector<TestResult>& results) {
  const std::vector<Column> columns = {{"test", 22}, {"stage", -16}, {"mean ms", 10}, {"share", 7}};
  std::string table;
  for (const TestResult& result : results) {
    if (result.spec.kind == TestSpec::Kind::kText) continue;
    const std::array<double, kStages> ns = mean_stages(result);
    const double wall = summarize_samples(result.samples_ns()).mean;
    const auto add = [&](const std::string& name, const std::string& stage, double time, double part) {
      const std::string share = wall > 0 ? format("%.1f%%", 100 * part / wall) : "";
      table += table_row(columns, {name, stage, milliseconds(time), share});
    };
    double sum = 0;
    for (size_t i = 0; i < kStages; ++i) {
      if (ns[i] <= 0) continue;
      add(sum == 0 ? result.name : "", stage_name(static_cast<Stage>(i)), ns[i], ns[i]);
      sum += ns[i];
    }
    add(sum == 0 ? result.name : "", "all (sum of them)", wall, sum);
  }
  if (table.empty()) return "";
  std::string text = "\n";
  return text.append(table_head(columns)).append(table);
}

std::string roofline_line(const TestResult& result) {
  const Roofline& roof = result.roofline;
  if (!result.no_roofline.empty()) return "no roofline before " + result.name + ": " + result.no_roofline + "\n";
  if (!roof.measured()) return "";
  if (roof.gpu_flop_per_second > 0) {
    return format("roofline before %s, GPU: %.0f GB/s, bf16 matrices %.0f TFLOP/s\n", result.name,
                  roof.bytes_per_second / 1e9, roof.gpu_flop_per_second / 1e12);
  }
  std::string line = format("roofline before %s, %d thread%s: %.1f GB/s", result.name, roof.n_threads,
                            roof.n_threads == 1 ? "" : "s", roof.bytes_per_second / 1e9);
  for (size_t i = 0; i < kArithmetics; ++i) {
    if (roof.flop_per_second[i] <= 0) continue;
    line += format(", %s %.0f", arithmetic_name(static_cast<Arithmetic>(i)), roof.flop_per_second[i] / 1e9);
  }
  return line + " GFLOP/s\n";
}

}  // namespace

std::string markdown_begin() {
  return table_head(kResultColumns);
}

std::string markdown_row(const ReportContext& context, const TestResult& result) {
  const Summary ns = summarize_samples(result.samples_ns()), ts = summarize_samples(result.samples_ts());
  const Rates rates = rates_of(result.cost, ns.median / 1e9);
  return table_row(
      kResultColumns,
      {context.model.type, file_size(context.model.n_bytes), result.gpu.empty() ? "CPU" : "CUDA",
       std::to_string(result.n_threads), result.name,
       ts.mean < 1e5 ? format("%.2f ± %.2f", ts.mean, ts.stddev) : format("%.0f ± %.0f", ts.mean, ts.stddev),
       milliseconds(ns.median), result.roofline.measured() ? format("%.1f", rates.percent) : ""});
}

std::string markdown_end(const ReportContext& context, const std::vector<TestResult>& results) {
  std::string text = stage_table(results) + "\n";
  for (const TestResult& result : results) text += roofline_line(result);
  text += "model: " + context.model.filename + ", " + parameters(context.model.n_params) + " parameters";
  if (context.batch != 512) text += format(", n_batch %d", context.batch);
  if (context.kv_type != "f16") text += ", type_k " + context.kv_type;
  uint64_t peak = 0;
  for (const TestResult& result : results) peak = std::max(peak, result.peak_rss);
  if (peak > 0) text += format(", peak %.0f MiB", static_cast<double>(peak) / (1 << 20));
  text += "\n";
  if (context.mmproj) text += "mmproj: " + context.mmproj->type + ", " + file_size(context.mmproj->n_bytes) + "\n";
  text += "cpu: " + context.cpu + "\n";
  if (!results.empty() && !results[0].gpu.empty()) {
    text += "gpu: " + results[0].gpu + "; decode: " + context.cuda_decode + "\n";
  }
  return text + format("build: %s (%d)\n", build_commit(), build_number());
}

std::string profile_table(const TestResult& result) {
  if (!result.profile) return "";
  const std::vector<Column> columns = {{"operation", -44}, {"calls", 6}, {"ms", 10},   {"share", 6},
                                       {"GFLOP/s", 8},     {"GB/s", 7},  {"% roof", 6}};
  const double wall = result.profile->timeline.total_ns() / 1e9;
  const bool roof = result.roofline.measured();
  std::string table =
      "\nprofile of " + result.name + format(" (%d thread%s)\n\n", result.n_threads, result.n_threads == 1 ? "" : "s");
  table += table_head(columns);
  const auto share = [&](double seconds) { return wall > 0 ? format("%.1f%%", 100 * seconds / wall) : std::string(); };
  double sum = 0;
  Cost cost;
  int64_t n_calls = 0;
  const auto add = [&](const std::string& name, int64_t calls, double seconds, const Cost& c) {
    const Rates rates = rates_of(c, seconds);
    table += table_row(columns, {name, std::to_string(calls), milliseconds(seconds * 1e9), share(seconds),
                                 c.flop > 0 ? format("%.1f", rates.gflops) : "", format("%.2f", rates.gbs),
                                 roof ? format("%.1f", rates.percent) : ""});
  };
  for (const ProfileRow& row : result.profile_rows()) {
    add(row.name, row.n_calls, row.seconds, row.cost);
    sum += row.seconds;
    cost += row.cost;
    n_calls += row.n_calls;
  }
  table +=
      table_row(columns, {"(between operations)", "", milliseconds((wall - sum) * 1e9), share(wall - sum), "", "", ""});
  add("all", n_calls, wall, cost);
  return table;
}

}  // namespace glimpse::bench
