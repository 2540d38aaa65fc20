// Drives both engines' programs in turn.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "tools/compare/comparison.h"

namespace glimpse::compare {

struct Settings {
  std::string glimpse_program;  // path
  std::string llama_bin;        // folder of llama-bench, llama-mtmd-cli and llama-server
  std::string model, mmproj;
  std::vector<std::string> images;  // each is asked every prompt; empty: texts are measured only
  std::vector<std::string> prompts;
  int n_pairs = 5;
  int n_threads = 1;
  int64_t n_prompt = 512, n_gen = 64;     // of the text tests; 0 and 0: none
  std::vector<int64_t> depths = {2048};   // tokens are generated also after so many; 0 is always measured
  std::string vision_precision = "auto";  // ours
  std::vector<std::string> our_packs;     // options of `glimpse run`: where its side files are; empty: it has none
  std::vector<std::string> our_device;    // options of `glimpse run` and `glimpse bench`: where it runs
  bool on_gpu = false;                    // ours; llama.cpp is told to run there too, or to leave GPUs alone
  int64_t n_answer = 64;                  // tokens of an answer
  int64_t n_parallel = 0;                 // clients of both engines' servers, that many at a time; 0: no servers
  int64_t context = 4096;
  int64_t image_max_tokens = 1280;
  double timeout_seconds = 1800;  // of one program
  std::function<bool()> cancelled;
  std::function<void(const std::string&)> say;  // what runs now
};

/// Errors: kNotFound (a program is missing), kUnsupported (it is too old: its help does not name an option that is
/// needed), kIo, kCorrupt (what a program printed), kCancelled. Messages name the program and quote the end of what it
/// said.
Result<Comparison> run_comparison(const Settings& settings);

}  // namespace glimpse::compare
