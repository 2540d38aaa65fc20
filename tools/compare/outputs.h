// What the programs of both engines print, read into figures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::compare {

/// One picture and question through an engine, milliseconds.
struct PictureRun {
  double load = 0;           // of the whole program, less what follows; the caller sets it
  double image_prepare = 0;  // picture file to pixels and resize; 0 where the program does not tell
  double image_encode = 0;
  double prefill = 0;      // prompt and picture rows through the decoder
  double first_token = 0;  // picture and prompt to the first token
  double decode = 0;       // the tokens after the first
  int64_t n_prompt = 0;    // picture rows included
  int64_t n_image = 0;
  int64_t n_decode = 0;  // tokens that `decode` took
  double peak_rss_bytes = 0;
  std::string answer;
};

/// llama-mtmd-cli with --perf -lv 4 (log) and its standard output. Its "prompt eval" begins with the text before the
/// picture and ends with the first logits, so it contains the encoding; the decoder's part is the difference.
/// Errors: kCorrupt names the line that is missing.
Result<PictureRun> parse_mtmd(const std::string& log, const std::string& output);

/// `glimpse run --json`. Errors: kCorrupt.
Result<PictureRun> parse_glimpse_run(const std::string& output);

/// A row of `llama-bench -o json` or `glimpse bench -o json`: the columns both have.
struct BenchRow {
  int64_t n_prompt = 0, n_gen = 0, n_depth = 0;
  double tokens_per_second = 0;  // mean of the repetitions
  std::string commit;
};
/// Clients of a server, of which so many ask at a time.
struct ServerRun {
  double answers_per_minute = 0, tokens_per_second = 0;  // of all clients together
  double first_token = 0, between_tokens = 0;            // milliseconds, means
};
/// `glimpse load -o json` of one level. Errors: kCorrupt.
Result<ServerRun> parse_load(const std::string& output);

/// Errors: kCorrupt.
Result<std::vector<BenchRow>> parse_bench(const std::string& output);

}  // namespace glimpse::compare
