// A small file must not make the reader ask for much memory, whatever it claims. Counts what operator new is asked for,
// in this program only; the sanitizers bring their own operator new, so there the test is left out.
#include <gtest/gtest.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>

#include "loaders/gguf/gguf.h"
#include "tests/loaders/gguf_builder.h"

namespace {
thread_local size_t largest_request = 0;
}

// Not inlined: GCC would see free() on what came from new, and warn.
[[gnu::noinline]] void* operator new(size_t n) {
  largest_request = n > largest_request ? n : largest_request;
  if (void* memory = std::malloc(n > 0 ? n : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace glimpse {
namespace {

using namespace gguf_test;

TEST(GgufAllocation, SmallHostileFilesAllocateLittle) {
  constexpr uint64_t kHuge[] = {uint64_t{1} << 20, uint64_t{1} << 30, uint64_t{1} << 40, INT64_MAX, UINT64_MAX};
  const std::string bytes = sample().build();
  size_t refused = 0;
  for (size_t i = 4; i + 8 <= bytes.size(); ++i) {
    for (uint64_t huge : kHuge) {
      std::string damaged = bytes;
      damaged.replace(i, 8, le(huge));
      largest_request = 0;
      refused += !parse(damaged).ok();
      ASSERT_LT(largest_request, 64u * 1024) << "byte " << i << " replaced by " << huge;
    }
  }
  EXPECT_GT(refused, 0u);
  // Sizes that the file has bytes for are the most an entry can ask for: 32 bytes in memory for each 8 in the file.
  const std::string strings = GgufBuilder().array("s", GgufType::kString, 100'000, std::string(800'000, '\0')).build();
  largest_request = 0;
  EXPECT_TRUE(parse(strings).ok());
  EXPECT_LE(largest_request, strings.size() * 4 + 64);
}

// A file of a few kilobytes on disk whose arrays are holes: n_keys arrays of `count` elements.
class SparseFile {
 public:
  SparseFile(GgufType type, uint64_t count, uint64_t element_bytes, int n_keys)
      : path_(std::filesystem::temp_directory_path() / ("glimpse_sparse_" + std::to_string(getpid()) + ".gguf")) {
    std::ofstream out(path_, std::ios::binary);
    out << "GGUF" << le<uint32_t>(3) << le<uint64_t>(0) << le<uint64_t>(n_keys);
    for (int i = 0; i < n_keys; ++i) {
      out << le<uint64_t>(3) << "k" << static_cast<char>('a' + i / 26) << static_cast<char>('a' + i % 26)
          << le<uint32_t>(9) << le(static_cast<uint32_t>(type)) << le<uint64_t>(count);
      out.seekp(static_cast<std::streamoff>(count * element_bytes), std::ios::cur);
    }
    out << "end of the file";
  }
  ~SparseFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(GgufAllocation, NumbersKeepTheirWidth) {
  constexpr uint64_t kCount = uint64_t{64} << 20;
  for (const GgufType type : {GgufType::kUint8, GgufType::kBool}) {
    const SparseFile file(type, kCount, 1, 1);
    largest_request = 0;
    EXPECT_TRUE(GgufFile::open(file.path()).ok());
    EXPECT_LE(largest_request, kCount) << gguf_type_name(type);
  }
  const SparseFile file(GgufType::kUint8, kCount, 1, 1);
  const auto gguf = GgufFile::open(file.path());
  ASSERT_TRUE(gguf.ok());
  largest_request = 0;
  EXPECT_TRUE(fails(gguf->int_array("kaa"), ErrorCode::kTooLarge, "array of 67108864 uint8"));
  EXPECT_TRUE(fails(gguf->float_array("kaa"), ErrorCode::kTooLarge, "'kaa'"));
  EXPECT_LT(largest_request, 64u * 1024);
}

TEST(GgufAllocation, HolesDoNotFillTheMemory) {
  largest_request = 0;
  const SparseFile strings(GgufType::kString, uint64_t{32} << 20, 8, 1);  // 1 GiB of empty string objects
  EXPECT_TRUE(fails(GgufFile::open(strings.path()), ErrorCode::kTooLarge, "limit is 536.9 MB"));
  EXPECT_LT(largest_request, 1u << 20);
  const SparseFile many(GgufType::kUint8, uint64_t{200} << 20, 1, 40);
  EXPECT_TRUE(fails(GgufFile::open(many.path()), ErrorCode::kTooLarge, "key 3 of 40"));
}

}  // namespace
}  // namespace glimpse

#endif
