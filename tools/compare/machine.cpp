#include "tools/compare/machine.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

#include "engine/base/aligned_buffer.h"
#include "engine/base/thread_team.h"

namespace glimpse::compare {
namespace {

constexpr uint64_t kProbeBytes = uint64_t{256} << 20;
constexpr int kPasses = 6;

}  // namespace

Result<double> probe_bandwidth(int n_threads) {
  GLIMPSE_ASSIGN(AlignedBuffer buffer,
                 AlignedBuffer::allocate(kProbeBytes, "the memory probe", AlignedBuffer::Pages::kHuge));
  ThreadTeam team(n_threads);
  constexpr int64_t kWords = kProbeBytes / sizeof(uint64_t);
  constexpr Grain kPieces{.most = 1 << 14, .least = 1 << 10};  // of 8 words
  uint64_t* const words = buffer.as<uint64_t>();
  team.for_ranges(kWords / 8, kPieces, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = 8 * begin; i < 8 * end; ++i) words[i] = static_cast<uint64_t>(i);
  });
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    team.for_ranges(kWords / 8, kPieces, [&](int, int64_t begin, int64_t end) {
      uint64_t sums[8] = {};
      for (int64_t i = 8 * begin; i < 8 * end; i += 8) {
        for (int lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
      }
      for (const uint64_t sum : sums) sink += sum;
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(kProbeBytes) / seconds);
  }
  return sink.load() == 0 ? 0 : best;
}

double machine_busy_seconds() {
  std::ifstream in("/proc/stat");
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0;
  if (!(in >> name >> user >> nice >> system >> idle >> wait >> irq >> softirq) || name != "cpu") return -1;
  return (user + nice + system + irq + softirq) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

}  // namespace glimpse::compare
