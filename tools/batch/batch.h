// Runs the rows of a batch through an engine, many at once, and writes what comes of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/serve/engine.h"
#include "tools/batch/output.h"
#include "tools/batch/row.h"

namespace glimpse::batch {

struct Progress {
  uint64_t n_done = 0, n_failed = 0;  // rows, those of earlier runs included
  uint64_t n_resumed = 0;             // of these, by earlier runs
  double n_total = -1;                // all rows, an estimate; negative: unknown
  double seconds = 0;
};

struct Settings {
  std::string prompt, system;  // of rows that bring none
  GenerateOptions generate;
  int n_parallel = 4;
  bool ordered = true;  // lines in the order of the rows
  OutputFormat format = OutputFormat::kTable;
  int32_t pdf_dpi = 150;
  VideoSampling video{2, 4, 64};  // which frames of videos are seen
  VideoLimits video_limits;
  double frame_rate = 0;                                       // of folders of frames; 0: not told
  VisionConfig::Family family = VisionConfig::Family::kQwen2;  // of the model's vision encoder
  /// Asked between passes: from true on no row is begun, those under way are finished.
  std::function<bool()> interrupted;
  /// Told between passes.
  std::function<void(const Progress&)> progress;
};

/// Rows that are with the engine at once, under way or waiting there: its queue holds so many.
constexpr int64_t most_running(int n_parallel) {
  return 2 * int64_t{n_parallel};
}

struct Report {
  Progress progress;
  bool interrupted = false;  // rows are left
  /// Rows of this run that brought no picture and a text that was not looked at, and the name of the first such field.
  uint64_t n_unseeing = 0;
  std::string unused = {};
};

/// The engine is stepped by the caller's thread; rows and their files are read by another one, a few ahead. stop: that
/// the rows were opened with; it is raised when no more of them are wanted. finished: rows that are not run again, by
/// index. Errors: kIo of input and output; kMismatch: a finished row that is another one now. What was written stays.
Result<Report> run_batch(Engine& engine, RowSource& rows, StopSignal& stop, RowOutput& output,
                         const std::vector<OutputFile::Finished>& finished, const Settings& settings);

/// Tells rows apart by what is asked of which files; the files' contents are not looked at.
uint64_t key_of(const Row& row);

}  // namespace glimpse::batch
