// The formats: names and order of columns, quoting, numbers.
#include "bench/engine/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace glimpse::bench {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

ReportContext context() {
  ReportContext c;
  c.model = {"it's a \"model\".gguf", "qwen2vl Q4_K_M", 986000000, 1543714304};
  c.mmproj = ModelFacts{"mm.gguf", "clip F16", 1331000000, 665000000};
  c.cpu = "A CPU";
  c.kv_type = "f16";
  return c;
}

Timeline sample(std::chrono::nanoseconds decode, std::chrono::nanoseconds blocks) {
  Timeline t;
  t.spans = {{Stage::kDecode, t.start, t.start + decode},
             {Stage::kBlocks, t.start + decode, t.start + decode + blocks}};
  t.end = t.start + decode + blocks;
  return t;
}

TestResult picture_result() {
  TestResult r;
  r.spec.kind = TestSpec::Kind::kImage;
  r.name = "img448x448";
  r.n_threads = 2;
  r.test_time = "2026-01-02T03:04:05Z";
  r.samples = {sample(10ms, 90ms), sample(10ms, 190ms), sample(10ms, 290ms)};
  r.n_image_tokens = 256;
  r.image_width = r.image_height = 448;
  r.cost = {4e9, 2e9, 0.05};
  r.roofline.n_threads = 2;
  r.roofline.bytes_per_second = 30e9;
  r.roofline.flop_per_second[static_cast<size_t>(Arithmetic::kBf16)] = 400e9;
  r.peak_rss = 123 << 20;
  return r;
}

TestResult text_result() {
  TestResult r;
  r.name = "pp512";
  r.spec.n_prompt = r.n_prompt = 512;
  r.n_threads = 1;
  Timeline t;
  t.spans = {{Stage::kPrefill, t.start, t.start + 2s}};
  t.end = t.start + 2s;
  r.samples = {t};
  r.cost = {1e12, 1e9, 0};
  return r;
}

TEST(Report, FormatsHaveNames) {
  for (const char* name : {"md", "csv", "json", "jsonl", "sql"}) EXPECT_TRUE(report_format_from_name(name)) << name;
  EXPECT_FALSE(report_format_from_name("xml"));
  EXPECT_FALSE(report_format_from_name(""));
}

TEST(Report, ColumnsBeginWithThoseOfLlamaBench) {
  // Those of llama-bench 0c1e57098 that mean something here, in its order.
  const std::vector<std::string> want = {"build_commit",   "build_number", "cpu_info",   "gpu_info",       "backends",
                                         "model_filename", "model_type",   "model_size", "model_n_params", "n_batch",
                                         "n_ubatch",       "n_threads",    "type_k",     "type_v",         "n_prompt",
                                         "n_gen",          "n_depth",      "test_time",  "avg_ns",         "stddev_ns",
                                         "avg_ts",         "stddev_ts"};
  const std::vector<Field> fields = report_fields(context(), picture_result());
  std::vector<std::string> names;
  for (const Field& field : fields) names.push_back(field.name);
  ASSERT_GT(names.size(), want.size());
  EXPECT_EQ(std::vector<std::string>(names.begin(), names.begin() + static_cast<ptrdiff_t>(want.size())), want);
  for (const char* own : {"test", "n_image_tokens", "flops", "bytes", "gflops", "gbs", "pct_roofline", "peak_rss",
                          "median_ns", "p10_ns", "p90_ns", "min_ns", "n_reps", "decode_ns", "vit_ns", "merger_ns"}) {
    EXPECT_THAT(names, ::testing::Contains(own));
  }
  // The same columns for every test, or rows could not stand in one table.
  std::vector<std::string> others;
  for (const Field& field : report_fields(context(), text_result())) others.push_back(field.name);
  EXPECT_EQ(others, names);
}

TEST(Report, JsonHasTheNumbers) {
  const ReportContext c = context();
  const std::string text =
      report_begin(ReportFormat::kJson, c) + report_row(ReportFormat::kJson, c, picture_result(), true) +
      report_row(ReportFormat::kJson, c, text_result(), false) + report_end(ReportFormat::kJson, c, {});
  const json rows = json::parse(text, nullptr, false);
  ASSERT_TRUE(rows.is_array()) << text;
  ASSERT_EQ(rows.size(), 2u);
  const json& image = rows[0];
  EXPECT_EQ(image.at("model_filename"), "it's a \"model\".gguf");
  EXPECT_EQ(image.at("avg_ns"), 200000000);
  EXPECT_EQ(image.at("median_ns"), 200000000);
  EXPECT_EQ(image.at("min_ns"), 100000000);
  EXPECT_EQ(image.at("stddev_ns"), 100000000);
  EXPECT_EQ(image.at("n_reps"), 3);
  EXPECT_NEAR(image.at("avg_ts").get<double>(), (2560 + 1280 + 256 / 0.3) / 3, 1e-3);  // mean of the rates
  EXPECT_EQ(image.at("decode_ns"), 10000000);
  EXPECT_EQ(image.at("vit_ns"), 190000000);
  EXPECT_EQ(image.at("stages_ns"), 200000000);
  EXPECT_TRUE(image.at("prefill_ns").is_null());
  EXPECT_DOUBLE_EQ(image.at("gflops"), 20);
  EXPECT_DOUBLE_EQ(image.at("gbs"), 10);
  EXPECT_DOUBLE_EQ(image.at("pct_roofline"), 25);
  EXPECT_DOUBLE_EQ(image.at("roof_gbs"), 30);
  EXPECT_DOUBLE_EQ(image.at("roof_bf16_gflops"), 400);
  EXPECT_TRUE(image.at("roof_int8_gops").is_null());
  EXPECT_EQ(image.at("samples_ns"), json({100000000, 200000000, 300000000}));
  EXPECT_EQ(image.at("samples_stages_ns")[1], json({{"decode", 10000000}, {"vit", 190000000}}));
  EXPECT_EQ(image.count("profile"), 0u);
  const json& prompt = rows[1];
  EXPECT_DOUBLE_EQ(prompt.at("avg_ts"), 256);
  EXPECT_TRUE(prompt.at("image_w").is_null());
  EXPECT_TRUE(prompt.at("pct_roofline").is_null());
  EXPECT_TRUE(prompt.at("peak_rss").is_null());
}

TEST(Report, RowsOfAGpuHaveNothingOfTheCpusKernels) {
  ReportContext c = context();
  c.cuda_decode = "graph";
  TestResult gpu = picture_result();
  gpu.gpu = "NVIDIA Test, sm_90";
  gpu.roofline = Roofline{};
  gpu.roofline.bytes_per_second = 3000e9;
  gpu.roofline.gpu_flop_per_second = 700e12;
  TestResult full = gpu;
  full.roofline = Roofline{};
  full.no_roofline = "no memory for the probe";
  const auto parsed = [&](const TestResult& result) {
    return json::parse(report_row(ReportFormat::kJsonl, c, result, true), nullptr, false);
  };
  const json row = parsed(gpu), cpu = parsed(picture_result()), without = parsed(full);
  EXPECT_EQ(row.at("gpu_info"), "NVIDIA Test, sm_90");
  EXPECT_EQ(row.at("backends"), "CUDA");
  EXPECT_EQ(row.at("cuda_decode"), "graph");
  EXPECT_TRUE(row.at("isa").is_null());
  EXPECT_DOUBLE_EQ(row.at("roof_gbs"), 3000);
  EXPECT_DOUBLE_EQ(row.at("roof_bf16_gflops"), 700e3);
  EXPECT_TRUE(row.at("roof_int8_gops").is_null());
  EXPECT_TRUE(row.at("roof_f32_gflops").is_null());
  EXPECT_EQ(cpu.at("gpu_info"), "");
  EXPECT_EQ(cpu.at("backends"), "CPU");
  EXPECT_TRUE(cpu.at("cuda_decode").is_null());
  EXPECT_EQ(cpu.at("isa"), "ref");
  EXPECT_TRUE(without.at("pct_roofline").is_null());
  EXPECT_TRUE(without.at("roof_gbs").is_null());
  EXPECT_THAT(report_row(ReportFormat::kMarkdown, c, gpu, true), HasSubstr("| CUDA "));
  const std::string tail = report_end(ReportFormat::kMarkdown, c, {gpu, full});
  EXPECT_THAT(tail, HasSubstr("roofline before img448x448, GPU: 3000 GB/s, bf16 matrices 700 TFLOP/s\n"));
  EXPECT_THAT(tail, HasSubstr("no roofline before img448x448: no memory for the probe\n"));
  EXPECT_THAT(tail, HasSubstr("gpu: NVIDIA Test, sm_90; decode: graph\n"));
}

TEST(Report, JsonWithoutRowsIsStillJson) {
  const ReportContext c = context();
  const std::string text = report_begin(ReportFormat::kJson, c) + report_end(ReportFormat::kJson, c, {});
  EXPECT_EQ(json::parse(text, nullptr, false), json::array());
}

TEST(Report, JsonlIsOneObjectPerLine) {
  const ReportContext c = context();
  const std::string row = report_row(ReportFormat::kJsonl, c, picture_result(), true);
  EXPECT_EQ(std::count(row.begin(), row.end(), '\n'), 1);
  EXPECT_TRUE(json::parse(row, nullptr, false).is_object());
  EXPECT_EQ(report_begin(ReportFormat::kJsonl, c) + report_end(ReportFormat::kJsonl, c, {}), "");
}

TEST(Report, CsvQuotesEveryCell) {
  const ReportContext c = context();
  std::string head = report_begin(ReportFormat::kCsv, c),
              row = report_row(ReportFormat::kCsv, c, picture_result(), true);
  EXPECT_THAT(row, HasSubstr("\"it's a \"\"model\"\".gguf\""));
  EXPECT_EQ(row.front(), '"');
  EXPECT_EQ(row.substr(row.size() - 2), "\"\n");
  size_t cells = 1;
  for (size_t at = 0; (at = row.find("\",\"", at)) != std::string::npos; at += 3) ++cells;
  EXPECT_EQ(cells, static_cast<size_t>(std::count(head.begin(), head.end(), ',')) + 1);
}

TEST(Report, SqlDoublesApostrophes) {
  const ReportContext c = context();
  const std::string head = report_begin(ReportFormat::kSql, c);
  EXPECT_THAT(head, HasSubstr("CREATE TABLE IF NOT EXISTS glimpse_bench (\n  build_commit TEXT,"));
  EXPECT_THAT(head, HasSubstr("  avg_ns INTEGER,\n"));
  EXPECT_THAT(head, HasSubstr("  avg_ts REAL,\n"));
  const std::string row = report_row(ReportFormat::kSql, c, picture_result(), true);
  EXPECT_THAT(row, HasSubstr("'it''s a \"model\".gguf'"));
  EXPECT_THAT(row, HasSubstr(", NULL"));
  EXPECT_EQ(row.substr(row.size() - 3), ");\n");
}

TEST(Report, MarkdownLooksLikeLlamaBench) {
  const ReportContext c = context();
  const std::string head = report_begin(ReportFormat::kMarkdown, c);
  EXPECT_EQ(head.find("| model            |       size | backend | threads |"), 0u) << head;
  const std::string row = report_row(ReportFormat::kMarkdown, c, picture_result(), true);
  EXPECT_THAT(row, HasSubstr("| qwen2vl Q4_K_M "));
  EXPECT_THAT(row, HasSubstr("940.32 MiB |"));
  EXPECT_THAT(row, HasSubstr(" img448x448 |"));
  EXPECT_THAT(row, HasSubstr("1564.44 ± 888.18 |"));  // numpy: mean and std(ddof=1) of 2560, 1280, 853.33
  // Every line of a table has the same bars.
  const auto bars = [](const std::string& line) { return std::count(line.begin(), line.end(), '|'); };
  EXPECT_EQ(bars(head.substr(0, head.find('\n'))), bars(row));
  const std::string tail = report_end(ReportFormat::kMarkdown, c, {picture_result(), text_result()});
  EXPECT_THAT(tail, ::testing::ContainsRegex("img448x448 \\| decode +\\| +10\\.00 \\| +5\\.0%"));
  EXPECT_THAT(tail, ::testing::ContainsRegex("all \\(sum of them\\) \\| +200\\.0 \\| +100\\.0%"));
  EXPECT_THAT(tail, HasSubstr("1.54 B parameters, peak 123 MiB"));
  EXPECT_THAT(tail, HasSubstr("30.0 GB/s, bf16 400 GFLOP/s"));
  EXPECT_THAT(tail, HasSubstr("build: "));
  EXPECT_THAT(tail, Not(HasSubstr("pp512")));  // one stage needs no table, and it had no roofline
}

TEST(Report, MarkdownFitsATerminal) {
  ReportContext c = context();
  c.batch = 256;
  c.kv_type = "q8_0";
  TestResult r = picture_result();
  r.name = "pp8192+tg128 @ d16384";
  r.profile = Profile{r.samples[0], {OpRecord{}}};
  const std::string text = report_begin(ReportFormat::kMarkdown, c) + report_row(ReportFormat::kMarkdown, c, r, true) +
                           report_end(ReportFormat::kMarkdown, c, {r}) + profile_table(r);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const auto characters =
        std::count_if(line.begin(), line.end(), [](char x) { return (static_cast<unsigned char>(x) & 0xC0) != 0x80; });
    EXPECT_LE(characters, 120) << line;
  }
  EXPECT_THAT(text, HasSubstr("n_batch 256, type_k q8_0"));  // what is not usual is said below the table
}

TEST(Report, ProfileTableSumsToTheWall) {
  TestResult r = text_result();
  EXPECT_EQ(profile_table(r), "");
  OpRecord record;
  record.kind = OpKind::kUpload;
  record.bytes = 3e9;
  record.end = record.start + 1500ms;
  r.profile = Profile{r.samples[0], {record}};
  const std::string table = profile_table(r);
  EXPECT_THAT(table, HasSubstr("profile of pp512 (1 thread)"));
  EXPECT_THAT(table, ::testing::ContainsRegex("upload +\\| +1 \\| +1500\\.0 \\| +75\\.0%"));
  EXPECT_THAT(table, ::testing::ContainsRegex("between operations\\) +\\| +\\| +500\\.0 \\| +25\\.0%"));
  EXPECT_THAT(table, ::testing::ContainsRegex("all +\\| +1 \\| +2000\\.0 \\| 100\\.0%"));
}

}  // namespace
}  // namespace glimpse::bench
