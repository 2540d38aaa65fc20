// Comma-separated values as RFC 4180 has them: fields in quotes may hold commas, quotes (doubled) and line ends.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "tools/batch/line_reader.h"

namespace glimpse::batch {

/// Reads records one at a time. Lines end with LF or CRLF; empty ones are left out.
class CsvReader {
 public:
  CsvReader(LineReader& lines, char delimiter) : lines_(lines), delimiter_(delimiter) {}

  struct Record {
    std::vector<std::string> fields;
    int64_t line = 0;     // where it begins, from 1
    std::string problem;  // empty, or what is wrong with it; the next record can be read all the same
  };
  /// false: the end. Errors: kIo.
  Result<bool> next(Record& record);

 private:
  LineReader& lines_;
  const char delimiter_;
  std::string line_;
};

/// A field as a record takes it: in quotes where it must be.
std::string csv_field(std::string_view text);

}  // namespace glimpse::batch
