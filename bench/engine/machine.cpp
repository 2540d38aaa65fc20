#include "bench/engine/machine.h"

#include <cstdlib>
#include <ctime>
#include <fstream>

#include "kernels/quant/mixture.h"
#include "loaders/gguf/gguf.h"

#ifndef GLIMPSE_BUILD_COMMIT
#define GLIMPSE_BUILD_COMMIT "unknown"
#define GLIMPSE_BUILD_NUMBER 0
#endif

namespace glimpse::bench {
namespace {

// The value of the first line of a /proc file that starts with `key`, blanks after the colon left out.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t begin = line.find_first_not_of(" \t:", key.size());
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

const char* build_commit() {
  return GLIMPSE_BUILD_COMMIT;
}
int build_number() {
  return GLIMPSE_BUILD_NUMBER;
}

std::string cpu_info() {
  const std::string name = proc_value("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown" : name;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  char text[32] = "";
  if (gmtime_r(&now, &utc) != nullptr) std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

uint64_t peak_resident_bytes() {
  return std::strtoull(proc_value("/proc/self/status", "VmHWM").c_str(), nullptr, 10) * 1024;  // "123456 kB"
}

bool reset_peak_resident() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5\n";  // proc(5): resets the peak resident set size
  out.flush();
  return out.good();
}

Result<ModelFacts> read_model_facts(const std::string& path) {
  GLIMPSE_ASSIGN(const GgufFile file, GgufFile::open(path));
  ModelFacts facts;
  facts.filename = path;
  const auto architecture = file.optional_string("general.architecture");
  if (architecture.ok()) facts.type = architecture.value().value_or("unknown");
  const auto type = file.optional_uint("general.file_type");
  const char* type_name = nullptr;
  if (type.ok() && type.value() && *type.value() <= UINT32_MAX) {
    type_name = file_type_name(static_cast<uint32_t>(*type.value()));
  }
  if (type_name != nullptr) facts.type += std::string(" ") + type_name;
  for (const GgufTensor& tensor : file.tensors()) {
    facts.n_bytes += tensor.n_bytes;
    facts.n_params += tensor.n_elements();
  }
  return facts;
}

}  // namespace glimpse::bench
