// Talks with a glimpse command that runs: what it is sent depends on what it has said.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace glimpse::cli_test {

class Dialogue {
 public:
  enum class Over {
    kPipes,    // its standard input and output; standard error is with the output
    kTerminal  // one terminal for all three
  };
  Dialogue(const std::vector<std::string>& arguments, Over over, const std::vector<std::string>& environment = {});
  ~Dialogue();
  Dialogue(const Dialogue&) = delete;
  Dialogue& operator=(const Dialogue&) = delete;

  void send(const std::string& text);
  /// The end of its input.
  void end_input();
  /// Waits until it has said that, after what was waited for before; false when it ends or 20 seconds pass without.
  bool hears(const std::string& text);
  /// Waits for its end: the exit status, or minus the signal's number.
  int finish();
  /// All that it has said.
  const std::string& said() const { return said_; }
  pid_t pid() const { return pid_; }

 private:
  bool read_more(int timeout_ms);

  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string said_;
  size_t heard_ = 0;
};

}  // namespace glimpse::cli_test
