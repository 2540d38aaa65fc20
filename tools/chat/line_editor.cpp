#include "tools/chat/line_editor.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#if GLIMPSE_HAS_LIBEDIT
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <sys/stat.h>

#include <clocale>
#include <cstring>
#include <cwchar>
#endif

namespace glimpse::chat {
namespace {

// Waits for a byte of standard input: 1, 0 at the end, -1 when it was interrupted.
int read_byte(const std::function<bool()>& interrupted, char& byte) {
  for (;;) {
    if (interrupted()) return -1;
    pollfd waiting{STDIN_FILENO, POLLIN, 0};
    const int n = poll(&waiting, 1, 500);  // a signal between the question above and this is not missed for long
    if (n == 0 || (n < 0 && errno == EINTR)) continue;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return got > 0 ? 1 : 0;
  }
}

class PlainLines : public LineEditor {
 public:
  PlainLines(std::string prompt, std::function<bool()> interrupted)
      : prompt_(isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0 ? std::move(prompt) : ""),
        interrupted_(std::move(interrupted)) {}

  Got read(std::string& line) override {
    std::fputs(prompt_.c_str(), stdout);
    std::fflush(stdout);
    line.clear();
    char byte = 0;
    int got = 0;
    while ((got = read_byte(interrupted_, byte)) == 1 && byte != '\n') line += byte;
    if (got < 0) return Got::kInterrupted;
    if (got == 0 && line.empty()) return Got::kEnd;
    if (line.ends_with('\r')) line.pop_back();
    return Got::kLine;
  }

 private:
  const std::string prompt_;
  const std::function<bool()> interrupted_;
};

#if GLIMPSE_HAS_LIBEDIT

constexpr char kEndOfInput = 'D' - '@';  // Ctrl-D

class EditedLines : public LineEditor {
 public:
  EditedLines(std::string prompt, std::string history_file, std::function<bool()> interrupted)
      : prompt_(std::move(prompt)), history_file_(std::move(history_file)), interrupted_(std::move(interrupted)) {
    // Letters are those of the terminal, which is one of UTF-8 unless the environment names another.
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(nl_langinfo(CODESET), "ANSI_X3.4-1968") == 0) std::setlocale(LC_CTYPE, "C.UTF-8");
    edit_ = el_init("glimpse", stdin, stdout, stderr);
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    if (!history_file_.empty()) history(history_, &event, H_LOAD, history_file_.c_str());
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_PROMPT, &EditedLines::prompt_of);
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_HIST, history, history_);
    el_set(edit_, EL_GETCFN, &EditedLines::read_character);
    el_set(edit_, EL_ADDFN, "complete-name", "Complete the name of a file", _el_fn_complete);
    el_set(edit_, EL_BIND, "^I", "complete-name", nullptr);
    el_source(edit_, nullptr);  // ~/.editrc
  }
  ~EditedLines() override {
    history_end(history_);
    el_end(edit_);
  }

  Got read(std::string& line) override {
    line.clear();
    was_interrupted_ = false;
    el_set(edit_, EL_PREP_TERM, 1);  // before the prompt is seen: what is typed at it is not the terminal's own to edit
    el_resize(edit_);
    int n = 0;
    const char* const typed = el_gets(edit_, &n);
    if (was_interrupted_) {
      std::fputs("\n", stdout);
      std::fflush(stdout);
      el_reset(edit_);
      return Got::kInterrupted;
    }
    if (typed == nullptr || n <= 0) {
      std::fputs("\n", stdout);
      return Got::kEnd;
    }
    line.assign(typed, static_cast<size_t>(n));
    while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
    remember(line);
    return Got::kLine;
  }

 private:
  static EditedLines* self(EditLine* edit) {
    void* found = nullptr;
    el_get(edit, EL_CLIENTDATA, &found);
    return static_cast<EditedLines*>(found);
  }
  static char* prompt_of(EditLine* edit) { return self(edit)->prompt_.data(); }

  // A character of the terminal, of one byte or several.
  static int read_character(EditLine* edit, wchar_t* character) {
    EditedLines* const lines = self(edit);
    std::mbstate_t state{};
    for (;;) {
      char byte = 0;
      const int got = read_byte(lines->interrupted_, byte);
      lines->was_interrupted_ = got < 0;
      if (got <= 0) return got;
      // A Ctrl-D that came while the terminal edited lines itself, which an answer lets it, is a zero to who reads it
      // later (Linux, n_tty.c). libedit takes that for its "quote the next one", and the next Ctrl-D for text.
      if (byte == '\0') byte = kEndOfInput;
      const size_t n = std::mbrtowc(character, &byte, 1, &state);
      if (n == static_cast<size_t>(-2)) continue;  // there is more of it
      if (n != static_cast<size_t>(-1)) return 1;
      state = {};  // no character: it is not taken
    }
  }

  void remember(const std::string& line) {
    if (line.find_first_not_of(" \t") == std::string::npos) return;
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
    if (history_file_.empty()) return;
    const int file = open(history_file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) close(file);
    history(history_, &event, H_SAVE, history_file_.c_str());
  }

  std::string prompt_;
  const std::string history_file_;
  const std::function<bool()> interrupted_;
  bool was_interrupted_ = false;
  EditLine* edit_ = nullptr;
  History* history_ = nullptr;
};

#endif

}  // namespace

std::unique_ptr<LineEditor> make_line_editor(const std::string& prompt,
                                             [[maybe_unused]] const std::string& history_file,
                                             std::function<bool()> interrupted) {
#if GLIMPSE_HAS_LIBEDIT
  if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) {
    return std::make_unique<EditedLines>(prompt, history_file, std::move(interrupted));
  }
#endif
  return std::make_unique<PlainLines>(prompt, std::move(interrupted));
}

}  // namespace glimpse::chat
