#include "engine/model/pack_folder.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

namespace glimpse {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".pack", kTemporary = ".tmp";
// A side file that is being written under a temporary name grows all the time: one that did not for so long was left by
// a process that was killed.
constexpr int64_t kAbandonedNs = int64_t{3600} * 1'000'000'000;

// Of an environment variable; the XDG specification ignores paths that are not absolute.
std::string absolute_path(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && value[0] == '/' ? value : "";
}

Error system_error(const char* action, const std::string& path, int code) {
  return make_error(ErrorCode::kIo, "cannot %s %s: %s", action, path, std::generic_category().message(code));
}

Status check_owner(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return system_error("look at", path, errno);
  if (!S_ISDIR(info.st_mode)) return make_error(ErrorCode::kInvalidArgument, "%s is no directory", path);
  if (info.st_uid != geteuid()) {
    return make_error(ErrorCode::kInvalidArgument, "%s belongs to another user", path);
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return make_error(ErrorCode::kInvalidArgument, "others may write into %s", path);
  }
  return {};
}

struct SideFile {
  std::string path;
  uint64_t n_bytes = 0;
  int64_t used_ns = 0;  // the time of change: PackFile sets it whenever a file is used
};

// "x.pack", or "x.pack.PROCESS.NUMBER.tmp" as AtomicFileWriter names it.
bool is_side_file(std::string_view name, int64_t idle_ns) {
  if (name.ends_with(kSuffix)) return true;
  return name.ends_with(kTemporary) && name.find(".pack.") != std::string_view::npos && idle_ns > kAbandonedNs;
}

Result<std::vector<SideFile>> list_side_files(const std::string& folder) {
  std::vector<SideFile> files;
  const int64_t now_ns = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string path = it->path().string();
    struct stat info;
    if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const int64_t used_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
    if (!is_side_file(it->path().filename().string(), now_ns - used_ns)) continue;
    files.push_back({path, static_cast<uint64_t>(info.st_size), used_ns});
  }
  if (error) return make_error(ErrorCode::kIo, "cannot list %s: %s", folder, error.message());
  std::sort(files.begin(), files.end(), [](const SideFile& a, const SideFile& b) { return a.used_ns < b.used_ns; });
  return files;
}

Result<uint64_t> free_bytes(const std::string& folder) {
  struct statvfs info;
  if (statvfs(folder.c_str(), &info) != 0) return system_error("look at", folder, errno);
  return uint64_t{info.f_bavail} * info.f_frsize;
}

}  // namespace

Result<PackFolder> find_pack_folder(const std::string& choice) {
  if (choice != kAutoPackFolder) return PackFolder{choice, 0};
  std::string base = absolute_path("XDG_CACHE_HOME");
  if (base.empty()) {
    base = absolute_path("HOME");
    if (base.empty()) {
      return make_error(ErrorCode::kNotFound,
                        "neither XDG_CACHE_HOME nor HOME names a directory, so that there is none for packed weights");
    }
    base += "/.cache";
  }
  const std::string path = base + "/glimpse";
  std::error_code error;
  fs::create_directories(base, error);
  if (error) return system_error("make", base, error.value());
  if (mkdir(path.c_str(), S_IRWXU) != 0 && errno != EEXIST) return system_error("make", path, errno);
  GLIMPSE_TRY(check_owner(path));
  return PackFolder{path, kAutoPackBytes};
}

Status make_room(const PackFolder& folder, uint64_t n_bytes, const std::string& needed) {
  if (folder.most_bytes == 0) return {};
  GLIMPSE_ASSIGN(const std::vector<SideFile> files, list_side_files(folder.path));
  GLIMPSE_ASSIGN(uint64_t free, free_bytes(folder.path));
  uint64_t used = 0, kept = 0;
  for (const SideFile& file : files) (file.path == needed ? kept : used) += file.n_bytes;
  if (n_bytes + kept > folder.most_bytes || n_bytes + kFreeDiskBytes > free + used) {
    const auto gb = [](uint64_t n) { return static_cast<double>(n) / 1e9; };
    return make_error(ErrorCode::kTooLarge, "%.1f GB do not fit into %s, which may take %.1f GB of %.1f GB of disk%s",
                      gb(n_bytes), folder.path, gb(folder.most_bytes), gb(free + used + kept),
                      kept == 0 ? "" : format(" and has %.1f GB of the same model", gb(kept)));
  }
  for (const SideFile& file : files) {
    if (used + kept + n_bytes <= folder.most_bytes && n_bytes + kFreeDiskBytes <= free) break;
    if (file.path == needed) continue;
    if (unlink(file.path.c_str()) != 0 && errno != ENOENT) return system_error("delete", file.path, errno);
    used -= file.n_bytes;
    free += file.n_bytes;
  }
  return {};
}

}  // namespace glimpse
