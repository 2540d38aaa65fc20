#include "tools/batch/csv.h"

namespace glimpse::batch {
namespace {

// Splits lines into fields as they come: a field in quotes may go on in the next line.
class Splitter {
 public:
  Splitter(char delimiter, CsvReader::Record& record) : delimiter_(delimiter), record_(record) {
    record_.fields.emplace_back();
  }

  void add(std::string_view line) {
    for (size_t i = 0; i < line.size(); ++i) {
      const char c = line[i];
      if (state_ == State::kQuoted) {
        in_quotes(c);
      } else if (c == delimiter_) {
        record_.fields.emplace_back();
        state_ = State::kBegin;
      } else if (c == '\n' || (c == '\r' && line.substr(i) == "\r\n")) {
        break;  // of the record
      } else {
        outside(c);
      }
    }
  }
  /// Whether the record goes on in the next line.
  bool open() const { return state_ == State::kQuoted; }

 private:
  enum class State { kBegin, kPlain, kQuoted, kAfterQuote };

  void in_quotes(char c) {
    if (c == '"') {
      state_ = State::kAfterQuote;
    } else {
      record_.fields.back() += c;
    }
  }
  void outside(char c) {
    std::string& field = record_.fields.back();
    if (state_ == State::kBegin && c == '"') {
      state_ = State::kQuoted;
      return;
    }
    if (state_ == State::kAfterQuote && c == '"') {  // doubled
      field += c;
      state_ = State::kQuoted;
      return;
    }
    if (state_ == State::kAfterQuote) complain("text after the quote that closes a field");
    if (c == '"') complain("a quote inside of a field that does not begin with one");
    field += c;
    if (state_ == State::kBegin) state_ = State::kPlain;
  }
  void complain(const char* problem) {
    if (record_.problem.empty()) record_.problem = problem;
  }

  const char delimiter_;
  CsvReader::Record& record_;
  State state_ = State::kBegin;
};

}  // namespace

Result<bool> CsvReader::next(Record& record) {
  record = {};
  bool cut = false;
  do {
    GLIMPSE_ASSIGN(const bool more, lines_.next(line_, cut));
    if (!more) return false;
  } while (!cut && without_line_end(line_).empty());
  record.line = lines_.n_lines();
  Splitter splitter(delimiter_, record);
  size_t n_bytes = 0;
  for (;;) {
    n_bytes += line_.size();
    if (cut || n_bytes > kMaxLineBytes) {
      record.problem = format("it has more than %d bytes", kMaxLineBytes);
      record.fields.clear();
      return true;
    }
    splitter.add(line_);
    if (!splitter.open()) return true;
    GLIMPSE_ASSIGN(const bool more, lines_.next(line_, cut));
    if (!more) {
      record.problem = "a field in quotes has no end";
      return true;
    }
  }
}

std::string csv_field(std::string_view text) {
  const bool plain =
      text.find_first_of(",\"\r\n") == std::string_view::npos && !text.starts_with(' ') && !text.ends_with(' ');
  if (plain) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace glimpse::batch
