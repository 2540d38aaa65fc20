// Feeds every file of the given folders to the fuzz target, and damaged copies of each: truncations and byte flips
// at seeded places. So that the fuzzers run, and run out of bounds if they can, in every build.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void run(const std::vector<uint8_t>& bytes) {
  // An exact-size heap copy, so that a sanitizer sees the first byte past the end.
  const std::vector<uint8_t> copy(bytes);
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  size_t n_files = 0, n_runs = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      ++n_files;
      run(bytes);
      std::mt19937 random(static_cast<uint32_t>(bytes.size()) + 1);
      for (int damage = 0; damage < 64 && !bytes.empty(); ++damage, ++n_runs) {
        std::vector<uint8_t> broken(bytes);
        if (damage % 2 == 0) {
          broken.resize(random() % broken.size());
        } else {
          for (int k = 0; k < 1 + damage / 16; ++k) broken[random() % broken.size()] ^= static_cast<uint8_t>(1 + random() % 255);
        }
        run(broken);
      }
    }
  }
  std::printf("%zu files, %zu damaged copies\n", n_files, n_runs);
  return n_files > 0 ? 0 : 1;
}
