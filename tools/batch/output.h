// What a batch writes: a line for each row, and where the lines go.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::batch {

/// What became of a row.
struct Outcome {
  uint64_t index = 0;              // of Row
  std::string id;                  // of Row
  std::vector<std::string> names;  // of its pictures, as they were given
  std::string text;                // the answer
  std::string error;               // not empty: the row failed, and why
  std::string finish_reason;       // finish_reason_name(); empty when it failed
  int64_t n_prompt_tokens = 0, n_generated_tokens = 0;
};

enum class OutputFormat { kTable, kJsonl, kCsv };

/// The line before the first row; "" for JSON Lines. with_index: a table shows the rows' numbers (CSV and JSON always
/// do): needed where rows come in another order.
std::string header_line(OutputFormat format, bool with_index);
/// One line with its end, whatever the answer has in it; of CSV several where a field has line ends. It says nothing
/// that depends on the company of the row, or on time.
std::string output_line(const Outcome& outcome, OutputFormat format, bool with_index);

/// Where lines go, in the order that they are to stand.
class RowOutput {
 public:
  virtual ~RowOutput() = default;
  /// key: of the row, for who resumes. Errors: kIo; nothing of the line is left where that can be undone.
  virtual Status append(uint64_t index, uint64_t key, bool failed, std::string_view line) = 0;
  virtual Status finish() = 0;
};

/// A file that can be gone on with. Beside it lies PATH.journal, where for each row stands its number, its key, the end
/// of its line and a checksum of it; a row is finished when its record is whole and its line agrees with it. Records
/// follow their lines, so that whenever and wherever the process is killed what is not finished is cut off by the next
/// run; both files are brought to the disk about once a second.
class OutputFile : public RowOutput {
 public:
  enum class Existing { kRefuse, kReplace, kResume };
  struct Finished {
    uint64_t index = 0, key = 0;
    bool failed = false;
  };
  /// fingerprint: of everything that answers depend on but the rows. Errors: kIo, kBusy (another run writes it),
  /// kInvalidArgument (it exists; it cannot be resumed), kMismatch (of other options, another model).
  static Result<std::unique_ptr<OutputFile>> open(const std::string& path, const std::string& header,
                                                  uint64_t fingerprint, Existing existing);
  ~OutputFile() override;

  /// Rows of earlier runs, by index.
  const std::vector<Finished>& finished() const { return finished_; }
  Status append(uint64_t index, uint64_t key, bool failed, std::string_view line) override;
  Status finish() override;

 private:
  OutputFile() = default;
  Status open_files(Existing existing);
  Status begin(const std::string& header, uint64_t fingerprint);
  Status resume(const std::string& header, uint64_t fingerprint);
  Status read_records();
  Status sync();
  Error failed_to(const char* what, const std::string& path) const;

  std::string path_, journal_path_;
  int file_ = -1, journal_ = -1;
  uint64_t end_ = 0, journal_end_ = 0;  // of what is finished
  std::vector<Finished> finished_;
  int64_t synced_ns_ = 0;
};

/// Lines for whoever reads along: write is given each, whole.
std::unique_ptr<RowOutput> output_stream(std::function<Status(std::string_view line)> write);

}  // namespace glimpse::batch
