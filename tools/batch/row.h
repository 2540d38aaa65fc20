// Rows of a batch: what is asked, about which pictures, and where rows come from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"
#include "tools/batch/line_reader.h"

namespace glimpse::batch {

struct Picture {
  std::string path;   // of a file, or a data: URL
  int32_t page = 0;   // of a PDF file, from 1; 0: the path is a picture, or all pages
  std::string given;  // as the input names it; of a data: URL only its beginning
  bool is_video = false;
};

struct Row {
  uint64_t index = 0;             // in the input, from 0
  std::string id;                 // JSON of a number, a string, a boolean or null; empty: the row has none
  std::vector<Picture> pictures;  // in the order of the prompt's places
  std::optional<std::string> prompt, system;
  std::string problem;  // not empty: the row cannot be asked, and why
  std::string unused;   // of a row without pictures: a field with a text that nobody asked for; a slip may be its name
};

enum class InputFormat { kAuto, kPicture, kList, kJsonl, kCsv };

struct InputOptions {
  InputFormat format = InputFormat::kAuto;  // of files and standard input
  bool recursive = false;                   // folders with all that is in them
  std::string image_root;                   // where relative paths of lists and rows begin; empty: here
  std::string image_field = "image", video_field = "video", prompt_field = "prompt", id_field = "id";
  char delimiter = '\0';  // of CSV; 0: a tab in .tsv files, else a comma
};

/// Where rows come from, one at a time. Row::index is set by who numbers them.
class RowSource {
 public:
  virtual ~RowSource() = default;
  /// false: the end. What is wrong with a row alone is its problem. Errors: kIo.
  virtual Result<bool> next(Row& row) = 0;
  /// Of all rows, the fraction that has been read; negative: unknown.
  virtual double fraction() const = 0;
  /// Whether rows may bring prompts of their own.
  virtual bool has_prompts() const = 0;
};

/// Rows of one input: a picture, a PDF file (a row for each page), a folder of such, a pattern for names of such (where
/// no file has that name), a list (.txt), JSON Lines (.jsonl, .ndjson), CSV (.csv, .tsv), or "-". Standard input that
/// begins with { is JSON Lines, else a list. stop: wakes a reader that waits for a pipe; may be nullptr. Errors:
/// kNotFound, kIo; kInvalidArgument: a folder or a pattern without pictures, a CSV file without a column that is known.
Result<std::unique_ptr<RowSource>> open_input(const std::string& input, const InputOptions& options,
                                              const StopSignal* stop);
/// Several inputs, one after the other. They are opened when their turn comes, but all are looked for at once.
Result<std::unique_ptr<RowSource>> open_inputs(const std::vector<std::string>& inputs, const InputOptions& options,
                                               const StopSignal* stop);

/// Rows of JSON Lines and CSV from lines that are open already.
std::unique_ptr<RowSource> json_rows(std::unique_ptr<LineReader> lines, const InputOptions& options);
Result<std::unique_ptr<RowSource>> csv_rows(std::unique_ptr<LineReader> lines, const InputOptions& options);

/// A picture of a row: "cat.jpg", "report.pdf#page=3", "data:image/png;base64,...".
Picture picture_of(std::string_view given, const InputOptions& options);

}  // namespace glimpse::batch
