#include "engine/base/cpu_quota.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace glimpse {
namespace {

constexpr int64_t kNoQuota = std::numeric_limits<int64_t>::max();

// A mounted hierarchy that has the cpu controller.
struct Mount {
  bool is_v2 = false;
  std::string root;  // the cgroup that lies at the mount point: not "/" in many containers
  std::string point;
};

bool has_item(std::string_view list, std::string_view item) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == item) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

// "/a\040b" is "/a b".
std::string unescape(const std::string& field) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string text;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size() && octal(field[i + 1]) && octal(field[i + 2]) && octal(field[i + 3])) {
      text += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0'));
      i += 3;
    } else {
      text += field[i];
    }
  }
  return text;
}

// One line: ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER-OPTIONS
std::optional<Mount> parse_mount(const std::string& line) {
  std::istringstream in(line);
  std::string skipped, root, point, type, options;
  if (!(in >> skipped >> skipped >> skipped >> root >> point)) return {};
  while (in >> skipped && skipped != "-") {
  }
  if (!(in >> type >> skipped >> options)) return {};
  const bool is_v2 = type == "cgroup2";
  if (!is_v2 && !(type == "cgroup" && has_item(options, "cpu"))) return {};
  return Mount{is_v2, unescape(root), unescape(point)};
}

std::vector<Mount> read_mounts(const std::string& file_root) {
  std::vector<Mount> mounts;
  std::ifstream in(file_root + "/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    if (auto mount = parse_mount(line)) mounts.push_back(*std::move(mount));
  }
  if (mounts.empty()) mounts = {{true, "/", "/sys/fs/cgroup"}, {false, "/", "/sys/fs/cgroup/cpu"}};
  return mounts;
}

// The process's cgroup in the hierarchy, from lines ID:CONTROLLERS:PATH; "/" when the file does not say.
std::string own_cgroup(const std::string& file_root, bool is_v2) {
  std::ifstream in(file_root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    if (is_v2 ? line.compare(0, first, "0") == 0 && controllers.empty() : has_item(controllers, "cpu")) {
      return line.substr(second + 1);
    }
  }
  return "/";
}

// Where a cgroup lies below the mount point: "" for the mount point itself, which is also the answer for a cgroup that
// cannot be seen from here.
std::string below_mount(const Mount& mount, const std::string& cgroup) {
  if (("/" + cgroup + "/").find("/../") != std::string::npos) return "";  // outside of the namespace
  const std::string prefix = mount.root == "/" ? "" : mount.root;
  if (cgroup.compare(0, prefix.size(), prefix) != 0) return "";
  std::string rest = cgroup.substr(prefix.size());
  if (!rest.empty() && rest[0] != '/') return "";  // root "/ab", cgroup "/abc"
  while (!rest.empty() && rest.back() == '/') rest.pop_back();
  return rest;
}

int64_t cpus(int64_t quota_us, int64_t period_us) {
  if (quota_us <= 0 || period_us <= 0) return kNoQuota;
  return (quota_us - 1) / period_us + 1;
}

// The quota that one cgroup sets, as CPUs rounded up.
int64_t quota_of(bool is_v2, const std::string& folder) {
  int64_t quota = 0, period = 100000;
  if (is_v2) {  // "150000 100000" or "max 100000"
    std::ifstream in(folder + "/cpu.max");
    if (!(in >> quota)) return kNoQuota;
    in >> period;
  } else {
    std::ifstream quota_in(folder + "/cpu.cfs_quota_us"), period_in(folder + "/cpu.cfs_period_us");
    if (!(quota_in >> quota)) return kNoQuota;  // -1: none
    period_in >> period;
  }
  return cpus(quota, period);
}

}  // namespace

int cgroup_cpu_quota(const std::string& file_root) {
  int64_t least = kNoQuota;
  for (const Mount& mount : read_mounts(file_root)) {
    std::string below = below_mount(mount, own_cgroup(file_root, mount.is_v2));
    for (;;) {
      least = std::min(least, quota_of(mount.is_v2, file_root + mount.point + below));
      if (below.empty()) break;
      below.resize(below.rfind('/'));
    }
  }
  return least == kNoQuota ? 0 : static_cast<int>(std::min<int64_t>(least, std::numeric_limits<int>::max()));
}

}  // namespace glimpse
