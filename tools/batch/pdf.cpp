#include "tools/batch/pdf.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <vector>

#include "tools/compare/process.h"

namespace glimpse::batch {
namespace {

constexpr double kTimeoutSeconds = 120;

// Where a program is: its path, or "".
std::string find_program(const std::string& name) {
  const char* const path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    std::string file(rest.substr(0, end));
    file += '/';
    file += name;
    if (end > 0 && access(file.c_str(), X_OK) == 0) return file;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

Result<compare::ProcessResult> run_poppler(const std::string& name, std::vector<std::string> arguments,
                                           const std::string& path, const std::function<bool()>& cancelled) {
  const std::string program = find_program(name);
  if (program.empty()) {
    return make_error(ErrorCode::kUnsupported,
                      "%s: pages of PDF files are read by pdftoppm and pdfinfo, and there is no %s here (Debian: "
                      "apt-get install poppler-utils)",
                      path, name);
  }
  // A name that begins with a dash is no option.
  arguments.push_back(path.starts_with('-') ? "./" + path : path);
  GLIMPSE_ASSIGN(compare::ProcessResult done, compare::run_process(program, arguments, kTimeoutSeconds, cancelled));
  if (done.timed_out) return make_error(ErrorCode::kIo, "%s: %s took more than %.0f s", path, name, kTimeoutSeconds);
  if (done.exit_code != 0) {
    std::string said = done.err.substr(0, done.err.find('\n'));
    if (said.empty()) said = format("status %d", done.exit_code);
    return make_error(ErrorCode::kCorrupt, "%s: %s: %s", path, name, said);
  }
  return done;
}

}  // namespace

Result<int32_t> pdf_pages(const std::string& path) {
  GLIMPSE_ASSIGN(const compare::ProcessResult done, run_poppler("pdfinfo", {}, path, [] { return false; }));
  const std::string out = "\n" + done.out;
  const size_t at = out.find("\nPages:");
  const long n = at == std::string::npos ? 0 : std::strtol(out.c_str() + at + 7, nullptr, 10);
  if (n <= 0 || n > 1000000) return make_error(ErrorCode::kCorrupt, "%s: pdfinfo names no number of pages", path);
  return static_cast<int32_t>(n);
}

Result<std::string> pdf_page(const std::string& path, int32_t page, int32_t dpi,
                             const std::function<bool()>& cancelled) {
  const std::string number = std::to_string(page);
  GLIMPSE_ASSIGN(compare::ProcessResult done,
                 run_poppler("pdftoppm", {"-f", number, "-l", number, "-r", std::to_string(dpi)}, path, cancelled));
  if (done.out.size() >= compare::kMostOutput) {
    return make_error(ErrorCode::kTooLarge, "%s: page %d has more than %d bytes at %d dots per inch", path, page,
                      compare::kMostOutput, dpi);
  }
  if (done.out.empty()) return make_error(ErrorCode::kCorrupt, "%s: pdftoppm gave no page %d", path, page);
  return std::move(done.out);
}

}  // namespace glimpse::batch
