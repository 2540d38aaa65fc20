// A small file must not make the reader ask for much memory, whatever it claims. Counts what operator new is asked for,
// in this program only; the sanitizers bring their own operator new, so there the test is left out.
#include <gtest/gtest.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#include <cstdlib>
#include <new>

#include "loaders/gguf/gguf.h"
#include "tests/loaders/gguf_builder.h"

namespace {
thread_local size_t largest_request = 0;
}

void* operator new(size_t n) {
  largest_request = n > largest_request ? n : largest_request;
  if (void* memory = std::malloc(n > 0 ? n : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
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

}  // namespace
}  // namespace glimpse

#endif
