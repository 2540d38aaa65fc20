#include "tools/batch/row.h"

#include <glob.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/batch/csv.h"
#include "tools/batch/data_url.h"
#include "tools/batch/pdf.h"
#include "tools/prompt/picture_names.h"

namespace glimpse::batch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string extension(const std::string& path) {
  std::string text = fs::path(path).extension().string();
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

InputFormat format_of(const std::string& path) {
  const std::string end = extension(path);
  if (end == ".jsonl" || end == ".ndjson") return InputFormat::kJsonl;
  if (end == ".csv" || end == ".tsv") return InputFormat::kCsv;
  return end == ".txt" || end == ".lst" || end == ".list" ? InputFormat::kList : InputFormat::kPicture;
}

// A row for a picture file, or one for each page of a PDF file.
class FileRows {
 public:
  bool empty() const { return next_page_ > n_pages_; }
  void begin(Picture picture) {
    picture_ = std::move(picture);
    next_page_ = n_pages_ = 1;
    pages_ = picture_.page == 0 && prompt::is_pdf_name(picture_.path);
    problem_.clear();
    if (!pages_) return;
    const Result<int32_t> n = pdf_pages(picture_.path);
    if (n.ok()) {
      n_pages_ = n.value();
    } else {
      problem_ = n.error().message;
      pages_ = false;
    }
  }
  Row next() {
    Row row;
    row.pictures = {picture_};
    row.problem = problem_;
    if (pages_) {
      row.pictures[0].page = next_page_;
      row.pictures[0].given += format("#page=%d", next_page_);
    }
    ++next_page_;
    return row;
  }

 private:
  Picture picture_;
  int32_t next_page_ = 1, n_pages_ = 0;
  bool pages_ = false;
  std::string problem_;
};

// Files whose names are known: of a folder, of a pattern, one.
class NamedFiles : public RowSource {
 public:
  struct Name {
    std::string path, given;
  };
  explicit NamedFiles(std::vector<Name> names) : names_(std::move(names)) {}

  Result<bool> next(Row& row) override {
    if (rows_.empty()) {
      if (at_ == names_.size()) return false;
      const Name& name = names_[at_++];
      rows_.begin({name.path, 0, name.given});
    }
    row = rows_.next();
    return true;
  }
  double fraction() const override { return static_cast<double>(at_) / static_cast<double>(names_.size()); }
  bool has_prompts() const override { return false; }

 private:
  const std::vector<Name> names_;
  size_t at_ = 0;
  FileRows rows_;
};

class LineRows : public RowSource {
 public:
  LineRows(std::unique_ptr<LineReader> lines, const InputOptions& options)
      : lines_(std::move(lines)), options_(options) {}
  double fraction() const override {
    const uint64_t size = lines_->size();
    return size == 0 ? -1 : std::min(1.0, static_cast<double>(lines_->n_read()) / static_cast<double>(size));
  }
  bool has_prompts() const override { return true; }

 protected:
  std::string at_line(int64_t line, const std::string& what) const {
    return format("%s line %d: %s", lines_->name(), line, what);
  }
  // The next line that is not empty, without its end. A row that cannot be read has a problem.
  Result<bool> next_line(Row& row) {
    row = {};
    bool cut = false;
    do {
      GLIMPSE_ASSIGN(const bool more, lines_->next(line_, cut));
      if (!more) return false;
      text_ = without_line_end(line_);
    } while (!cut && text_.find_first_not_of(" \t") == std::string_view::npos);
    if (cut) row.problem = at_line(lines_->n_lines(), format("it has more than %d bytes", kMaxLineBytes));
    return true;
  }

  // Of a row without pictures.
  bool is_known(const std::string& name) const {
    return name == options_.prompt_field || name == options_.id_field || name == "system";
  }

  const std::unique_ptr<LineReader> lines_;
  const InputOptions options_;
  std::string line_;
  std::string_view text_;  // of line_
};

class ListRows : public LineRows {
 public:
  using LineRows::LineRows;
  Result<bool> next(Row& row) override {
    if (rows_.empty()) {
      GLIMPSE_ASSIGN(const bool more, next_line(row));
      if (!more || !row.problem.empty()) return more;
      rows_.begin(picture_of(text_, options_));
    }
    row = rows_.next();
    return true;
  }
  bool has_prompts() const override { return false; }

 private:
  FileRows rows_;
};

// What is not as it should be throws its words.
struct RowProblem {
  std::string text;
};

const json* member(const json& object, const std::string& name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::string> text_member(const json& object, const std::string& name) {
  const json* const value = member(object, name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw RowProblem{format("\"%s\" is no text", name)};
  return value->get<std::string>();
}

// The members `field` and, for several, `field`s; one of the two.
void append_pictures(const json& object, const std::string& field, bool is_video, const InputOptions& options,
                     Row& row) {
  const std::string many = field + "s";
  const json* value = member(object, field);
  if (value != nullptr && member(object, many) != nullptr) throw RowProblem{format("%ss are named twice", field)};
  if (value == nullptr) value = member(object, many);
  if (value == nullptr) return;
  const auto append = [&](const json& one) {
    if (!one.is_string()) throw RowProblem{format("\"%s\" is neither a path nor a list of paths", field)};
    row.pictures.push_back(picture_of(one.get_ref<const std::string&>(), options));
    row.pictures.back().is_video = is_video;
  };
  if (!value->is_array()) return append(*value);
  for (const json& one : *value) append(one);
}

class JsonRows : public LineRows {
  static constexpr int kMaxDepth = 64;
  static constexpr int64_t kMaxValues = int64_t{1} << 20;

 public:
  using LineRows::LineRows;
  Result<bool> next(Row& row) override {
    GLIMPSE_ASSIGN(const bool more, next_line(row));
    if (!more || !row.problem.empty()) return more;
    try {
      read(row);
    } catch (const RowProblem& problem) {
      row.problem = at_line(lines_->n_lines(), problem.text);
    } catch (const json::exception& error) {
      std::string said = error.what();
      said.erase(0, said.find("] ") == std::string::npos ? 0 : said.find("] ") + 2);
      row.problem = at_line(lines_->n_lines(), "no JSON: " + said);
    }
    return true;
  }

 private:
  void read(Row& row) {
    int64_t n_values = 0;  // what one costs in memory is many times its bytes
    const json object = json::parse(text_, [&](int depth, json::parse_event_t, const json&) {
      if (depth > kMaxDepth || ++n_values > kMaxValues) {
        throw RowProblem{format("it has more than %d values, or more than %d in one another", kMaxValues, kMaxDepth)};
      }
      return true;
    });
    if (!object.is_object()) throw RowProblem{"a row is a JSON object, {...}"};
    if (const json* const id = member(object, options_.id_field)) {
      if (id->is_structured()) throw RowProblem{format("\"%s\" is neither a text nor a number", options_.id_field)};
      row.id = id->dump();
    }
    row.prompt = text_member(object, options_.prompt_field);
    row.system = text_member(object, "system");
    append_pictures(object, options_.image_field, false, options_, row);
    append_pictures(object, options_.video_field, true, options_, row);
    if (row.pictures.empty() && !row.prompt) {
      throw RowProblem{format("it has neither \"%s\" nor \"%s\"", options_.image_field, options_.prompt_field)};
    }
    for (const auto& [name, value] : object.items()) {
      if (row.pictures.empty() && value.is_string() && row.unused.empty() && !is_known(name)) row.unused = name;
    }
  }
};

class CsvRows : public LineRows {
 public:
  CsvRows(std::unique_ptr<LineReader> lines, const InputOptions& options, char delimiter)
      : LineRows(std::move(lines), options), reader_(*lines_, delimiter) {}

  Status read_header() {
    CsvReader::Record header;
    GLIMPSE_ASSIGN(const bool more, reader_.next(header));
    if (!more) return {};
    if (!header.problem.empty()) return make_error(ErrorCode::kCorrupt, "%s: %s", lines_->name(), header.problem);
    roles_ = header.fields;
    const bool known = std::any_of(roles_.begin(), roles_.end(), [&](const std::string& name) {
      return is_one_of(name, options_.image_field) || is_one_of(name, options_.video_field) ||
             name == options_.prompt_field;
    });
    if (known) return {};
    std::string names;
    for (const std::string& name : roles_) names += (names.empty() ? "" : ", ") + name;
    return make_error(ErrorCode::kInvalidArgument,
                      "%s: none of the columns (%s) is called %s or %s (--image-field, --prompt-field); its first line "
                      "has their names",
                      lines_->name(), names, options_.image_field, options_.prompt_field);
  }

  Result<bool> next(Row& row) override {
    row = {};
    GLIMPSE_ASSIGN(const bool more, reader_.next(record_));
    if (!more) return false;
    if (record_.problem.empty() && record_.fields.size() != roles_.size()) {
      record_.problem = format("it has %d fields, the first line has %d", record_.fields.size(), roles_.size());
    }
    if (!record_.problem.empty()) {
      row.problem = at_line(record_.line, record_.problem);
      return true;
    }
    for (size_t i = 0; i < roles_.size(); ++i) {
      const bool has_text = !record_.fields[i].empty();
      take(roles_[i], std::move(record_.fields[i]), row);
      if (has_text && row.unused.empty() && !is_known(roles_[i])) row.unused = roles_[i];
    }
    if (!row.pictures.empty()) row.unused.clear();
    if (row.pictures.empty() && !row.prompt) row.problem = at_line(record_.line, "it has neither picture nor prompt");
    return true;
  }

 private:
  // "image", "images", "image2", "image_2"
  static bool is_one_of(std::string_view name, const std::string& field) {
    if (!name.starts_with(field)) return false;
    name.remove_prefix(field.size());
    if (name == "s") return true;
    if (name.starts_with('_') && name.size() > 1) name.remove_prefix(1);
    return std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  }
  void take(const std::string& role, std::string&& text, Row& row) const {
    if (text.empty()) return;
    const bool is_video = is_one_of(role, options_.video_field);
    if (is_video || is_one_of(role, options_.image_field)) {
      row.pictures.push_back(picture_of(text, options_));
      row.pictures.back().is_video = is_video;
    } else if (role == options_.prompt_field) {
      row.prompt = std::move(text);
    } else if (role == "system") {
      row.system = std::move(text);
    } else if (role == options_.id_field) {
      row.id = json(text).dump(-1, ' ', false, json::error_handler_t::replace);
    }
  }

  CsvReader reader_;
  CsvReader::Record record_;
  std::vector<std::string> roles_;
};

// Standard input: its first line says what it is.
class PipedRows : public RowSource {
 public:
  PipedRows(std::unique_ptr<LineReader> lines, const InputOptions& options)
      : lines_(std::move(lines)), options_(options) {}
  Result<bool> next(Row& row) override {
    if (rows_ == nullptr) GLIMPSE_TRY(begin());
    return rows_->next(row);
  }
  double fraction() const override { return rows_ == nullptr ? -1 : rows_->fraction(); }
  bool has_prompts() const override { return true; }

 private:
  Status begin() {
    std::string line;
    bool cut = false;
    do {
      GLIMPSE_ASSIGN(const bool more, lines_->next(line, cut));
      if (!more) break;
    } while (without_line_end(line).empty());
    const bool is_json =
        line.find_first_not_of(" \t") != std::string::npos && line[line.find_first_not_of(" \t")] == '{';
    if (!line.empty()) lines_->put_back(line);
    if (is_json) {
      rows_ = std::make_unique<JsonRows>(std::move(lines_), options_);
    } else {
      rows_ = std::make_unique<ListRows>(std::move(lines_), options_);
    }
    return {};
  }

  std::unique_ptr<LineReader> lines_;
  const InputOptions options_;
  std::unique_ptr<RowSource> rows_;
};

class ManyInputs : public RowSource {
 public:
  explicit ManyInputs(std::vector<std::unique_ptr<RowSource>> sources) : sources_(std::move(sources)) {}
  Result<bool> next(Row& row) override {
    for (; at_ < sources_.size(); ++at_) {
      GLIMPSE_ASSIGN(const bool more, sources_[at_]->next(row));
      if (more) return true;
    }
    return false;
  }
  double fraction() const override {
    const double inside = at_ < sources_.size() ? std::max(0.0, sources_[at_]->fraction()) : 0;
    return (static_cast<double>(at_) + inside) / static_cast<double>(sources_.size());
  }
  bool has_prompts() const override {
    return std::all_of(sources_.begin(), sources_.end(), [](const auto& source) { return source->has_prompts(); });
  }

 private:
  const std::vector<std::unique_ptr<RowSource>> sources_;
  size_t at_ = 0;
};

using Names = std::vector<NamedFiles::Name>;

std::unique_ptr<RowSource> named_files(Names names) {
  std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return std::make_unique<NamedFiles>(std::move(names));
}

// What a folder is searched for; a file that is named is read whatever it is called.
bool is_row_name(const std::string& path) {
  return prompt::is_picture_name(path) || prompt::is_pdf_name(path);
}

// By name; hidden files are left out.
template <typename Iterator>
void list_folder(const fs::path& folder, Iterator entries, std::error_code& error, Names& names) {
  for (const Iterator end; entries != end && !error; entries.increment(error)) {
    const fs::path& path = entries->path();
    std::error_code gone;
    if (path.filename().string().starts_with('.') || !is_row_name(path.string())) continue;
    if (entries->is_directory(gone)) continue;
    names.push_back({path.string(), path.lexically_relative(folder).string()});
  }
}

Result<std::unique_ptr<RowSource>> open_folder(const std::string& path, bool recursive) {
  Names names;
  std::error_code error;
  const fs::path folder(path);
  if (recursive) {
    list_folder(folder, fs::recursive_directory_iterator(folder, error), error, names);
  } else {
    list_folder(folder, fs::directory_iterator(folder, error), error, names);
  }
  if (error) return make_error(ErrorCode::kIo, "cannot list %s: %s", path, error.message());
  if (names.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "%s has no pictures%s", path,
                      recursive ? "" : " (folders in it are looked into with --recursive)");
  }
  return named_files(std::move(names));
}

Result<std::unique_ptr<RowSource>> open_pattern(const std::string& pattern) {
  glob_t found{};
  const int status = glob(pattern.c_str(), GLOB_MARK, nullptr, &found);
  Names names;
  for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i) {
    const std::string path = found.gl_pathv[i];
    if (!path.ends_with('/')) names.push_back({path, path});
  }
  globfree(&found);
  if (names.empty()) return make_error(ErrorCode::kNotFound, "%s: no such file, and none of that pattern", pattern);
  return named_files(std::move(names));
}

Result<std::unique_ptr<RowSource>> open_lines(const std::string& input, InputFormat format, InputOptions options,
                                              const StopSignal* stop) {
  GLIMPSE_ASSIGN(std::unique_ptr<LineReader> lines, LineReader::open(input, stop));
  if (options.delimiter == '\0') options.delimiter = extension(input) == ".tsv" ? '\t' : ',';
  if (format == InputFormat::kCsv) return csv_rows(std::move(lines), options);
  if (format == InputFormat::kJsonl) return json_rows(std::move(lines), options);
  if (format == InputFormat::kList) {
    return std::unique_ptr<RowSource>(std::make_unique<ListRows>(std::move(lines), options));
  }
  return std::unique_ptr<RowSource>(std::make_unique<PipedRows>(std::move(lines), options));
}

}  // namespace

Picture picture_of(std::string_view given, const InputOptions& options) {
  Picture picture;
  if (is_data_url(given)) {
    picture.path = given;
    picture.given = std::string(given.substr(0, std::min<size_t>(given.find(',') + 1, 64))) + "...";
    return picture;
  }
  picture.given = given;
  const size_t at = given.rfind("#page=");
  if (at != std::string_view::npos && prompt::is_pdf_name(std::string(given.substr(0, at)))) {
    const std::string_view digits = given.substr(at + 6);
    if (!digits.empty() && digits.size() < 8 && digits.find_first_not_of("0123456789") == std::string_view::npos) {
      picture.page = std::atoi(std::string(digits).c_str());
      given = given.substr(0, at);
    }
  }
  const fs::path path(given);
  picture.path =
      path.is_absolute() || options.image_root.empty() ? path.string() : (fs::path(options.image_root) / path).string();
  return picture;
}

std::unique_ptr<RowSource> json_rows(std::unique_ptr<LineReader> lines, const InputOptions& options) {
  return std::make_unique<JsonRows>(std::move(lines), options);
}

Result<std::unique_ptr<RowSource>> csv_rows(std::unique_ptr<LineReader> lines, const InputOptions& options) {
  auto rows = std::make_unique<CsvRows>(std::move(lines), options, options.delimiter == '\0' ? ',' : options.delimiter);
  GLIMPSE_TRY(rows->read_header());
  return std::unique_ptr<RowSource>(std::move(rows));
}

Result<std::unique_ptr<RowSource>> open_input(const std::string& input, const InputOptions& options,
                                              const StopSignal* stop) {
  if (input == "-") return open_lines(input, options.format, options, stop);
  std::error_code error;
  const fs::file_status status = fs::status(input, error);
  if (fs::is_directory(status)) return open_folder(input, options.recursive);
  if (!fs::exists(status)) {
    if (input.find_first_of("*?[") != std::string::npos) return open_pattern(input);
    return make_error(ErrorCode::kNotFound, "%s: no such file or folder", input);
  }
  const InputFormat format = options.format == InputFormat::kAuto ? format_of(input) : options.format;
  if (format != InputFormat::kPicture) return open_lines(input, format, options, stop);
  return std::unique_ptr<RowSource>(std::make_unique<NamedFiles>(Names{{input, input}}));
}

Result<std::unique_ptr<RowSource>> open_inputs(const std::vector<std::string>& inputs, const InputOptions& options,
                                               const StopSignal* stop) {
  std::vector<std::unique_ptr<RowSource>> sources;
  for (const std::string& input : inputs) {
    GLIMPSE_ASSIGN(std::unique_ptr<RowSource> source, open_input(input, options, stop));
    sources.push_back(std::move(source));
  }
  if (sources.size() == 1) return std::move(sources[0]);
  return std::unique_ptr<RowSource>(std::make_unique<ManyInputs>(std::move(sources)));
}

}  // namespace glimpse::batch
