// Rows of JSON Lines and of CSV, and the lines that a batch writes about them. First byte: 0 JSON Lines, else CSV with
// that delimiter where it may be one.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/fuzz/fuzz.h"
#include "tools/batch/csv.h"
#include "tools/batch/output.h"
#include "tools/batch/row.h"

namespace {

using namespace glimpse::batch;

using glimpse::fuzz::require;

// What is written about a row is one line, or record, that is read back as it was.
void check_lines(const Row& row, std::string_view all) {
  Outcome outcome;
  outcome.index = row.index;
  outcome.id = row.id;
  for (const Picture& picture : row.pictures) outcome.names.push_back(picture.given);
  outcome.text = all.substr(0, 200);
  outcome.error = row.problem;
  const std::string json = output_line(outcome, OutputFormat::kJsonl, false);
  require(json.find('\n') == json.size() - 1);
  const nlohmann::json object = nlohmann::json::parse(json);
  require(object["error"].is_string() == !row.problem.empty());
  require(object.contains("id") == !row.id.empty());
  const std::string table = output_line(outcome, OutputFormat::kTable, true);
  require(table.find('\n') == table.size() - 1);
  const auto lines = LineReader::of_text(output_line(outcome, OutputFormat::kCsv, false));
  CsvReader reader(*lines, ',');
  CsvReader::Record record;
  require(reader.next(record).value());
  require(record.problem.empty() && record.fields.size() == 8);
  require(record.fields[3] == (row.problem.empty() ? outcome.text : ""));
  require(record.fields[4] == outcome.error);
  require(!reader.next(record).value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const std::string all(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  InputOptions options;
  std::unique_ptr<RowSource> rows;
  if (bytes[0] == 0) {
    rows = json_rows(LineReader::of_text(all), options);
  } else {
    options.delimiter = static_cast<char>(bytes[0]);
    if (options.delimiter == '"' || options.delimiter == '\n' || options.delimiter == '\r') return 0;
    auto opened = csv_rows(LineReader::of_text(all), options);
    if (!opened.ok()) return 0;
    rows = std::move(opened).value();
  }
  Row row;
  uint64_t n = 0;
  for (glimpse::Result<bool> more = rows->next(row); more.ok() && more.value(); more = rows->next(row)) {
    require(++n <= all.size() + 1);
    require(!row.problem.empty() || !row.pictures.empty() || row.prompt);
    row.index = n;
    check_lines(row, all);
  }
  return 0;
}
