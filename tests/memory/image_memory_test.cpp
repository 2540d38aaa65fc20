// What reading a picture allocates, counted, against what was said before: ImageInfo::memory, read_resized_bytes() and
// the plan of a session. This program replaces malloc and mmap, so that libjpeg, libpng, zlib and the others are
// counted too.
#include <errno.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <new>

#include "engine/base/aligned_buffer.h"
#include "engine/model/pass_input.h"
#include "engine/model/text_decoder.h"
#include "engine/model/vision_encoder.h"
#include "engine/preprocess/preprocess.h"
#include "tests/engine/session_support.h"
#include "tests/memory/big_pictures.h"

extern "C" {
void* __libc_malloc(size_t n);
void* __libc_calloc(size_t n, size_t size);
void* __libc_realloc(void* p, size_t n);
void* __libc_memalign(size_t alignment, size_t n);
void __libc_free(void* p);
}

namespace {

std::atomic<int64_t> g_now{0}, g_peak{0};
std::atomic<int64_t> g_fail_at{-1}, g_n_calls{0};  // the call that fails; -1: none does

void add(int64_t n) {
  const int64_t now = g_now.fetch_add(n) + n;
  int64_t peak = g_peak.load();
  while (now > peak && !g_peak.compare_exchange_weak(peak, now)) {
  }
}

void* counted(void* p) {
  if (p != nullptr) add(static_cast<int64_t>(malloc_usable_size(p)));
  return p;
}

bool fails() {
  if (g_fail_at.load() < 0 || g_n_calls.fetch_add(1) != g_fail_at.load()) return false;
  errno = ENOMEM;
  return true;
}

}  // namespace

extern "C" {
void* malloc(size_t n) {
  return fails() ? nullptr : counted(__libc_malloc(n));
}
void* calloc(size_t n, size_t size) {
  return fails() ? nullptr : counted(__libc_calloc(n, size));
}
void free(void* p) {
  if (p != nullptr) add(-static_cast<int64_t>(malloc_usable_size(p)));
  __libc_free(p);
}
void* realloc(void* p, size_t n) {
  if (fails()) return nullptr;
  const int64_t before = p == nullptr ? 0 : static_cast<int64_t>(malloc_usable_size(p));
  void* moved = __libc_realloc(p, n);
  if (moved != nullptr || n == 0) add(-before);
  return counted(moved);
}
void* aligned_alloc(size_t alignment, size_t n) {
  return fails() ? nullptr : counted(__libc_memalign(alignment, n));
}
void* memalign(size_t alignment, size_t n) {
  return fails() ? nullptr : counted(__libc_memalign(alignment, n));
}
int posix_memalign(void** out, size_t alignment, size_t n) {
  if (fails()) return ENOMEM;
  *out = counted(__libc_memalign(alignment, n));
  return *out == nullptr ? ENOMEM : 0;
}
void* mmap(void* address, size_t n, int protection, int flags, int descriptor, off_t offset) {
  const long got = syscall(SYS_mmap, address, n, protection, flags, descriptor, offset);
  if (got >= 0 || got < -4095) {
    if ((flags & MAP_ANONYMOUS) != 0) add(static_cast<int64_t>(n));
  }
  return reinterpret_cast<void*>(got);
}
int munmap(void* address, size_t n) {
  add(-static_cast<int64_t>(n));  // of anonymous pages: this test maps no files
  return static_cast<int>(syscall(SYS_munmap, address, n));
}
}  // extern "C"

namespace glimpse::testing {
namespace {

constexpr ImageSize kResized = {1008, 728};

// The most that `work` held beyond what was there before, and what of that is left after it.
template <typename Work>
int64_t peak_of(const Work& work) {
  const int64_t before = g_now.load();
  g_peak = before;
  work();
  return g_peak.load() - before;
}

TEST(ImageMemory, TheCountersCount) {
  EXPECT_GE(peak_of([] { std::vector<char> some(1 << 20); }), 1 << 20);
  EXPECT_GE(peak_of([] { auto some = must(AlignedBuffer::allocate(8 << 20, "a test")); }), 8 << 20);
  EXPECT_LT(peak_of([] {}), 1 << 10);
}

TEST(ImageMemory, ReadingHoldsWhatWasSaidAndNotMuchLess) {
  for (const BigPicture& picture : big_pictures()) {
    ImageInfo info;
    const int64_t peak = peak_of([&] {
      const auto reader = must(open_image(picture.bytes, {}));
      info = reader->info();
      const Image resized = must(read_resized(*reader, kResized, nullptr, nullptr));
      EXPECT_EQ(resized.width, kResized.width);
    });
    const auto result = static_cast<int64_t>(kResized.width * kResized.height * 3);
    const auto said = static_cast<int64_t>(info.memory + read_resized_bytes(info, kResized)) + result;
    EXPECT_LE(peak, said + 4096) << picture.name;
    // Not a bound so loose that it refuses what fits. WebP's tables cannot be known from the header, nor whether the
    // JPEG streams of a TIFF are progressive, nor which steps libheif takes from YCbCr to RGB.
    const bool unknown = picture.name.find("WebP") == 0, heif = picture.name.find(" 2048 x 1536") != std::string::npos;
    const bool streams = heif || picture.name.find("TIFF JPEG") == 0;
    EXPECT_LE(said, peak * 3 / 2 + (unknown ? 32 << 20 : streams ? 14 << 20 : 4 << 20)) << picture.name;
    std::printf("%-32s %6.1f MiB held, %6.1f MiB said, %6.1f MiB of pixels\n", picture.name.c_str(),
                static_cast<double>(peak) / (1 << 20), static_cast<double>(said) / (1 << 20),
                static_cast<double>(info.width * info.height * 3) / (1 << 20));
  }
}

TEST(ImageMemory, RowsAreNotHeldWhereTheFormatGivesThem) {
  for (const BigPicture& picture : big_pictures()) {
    if (!picture.in_rows) continue;
    const int64_t peak = peak_of([&] {
      const auto reader = must(open_image(picture.bytes, {}));
      (void)must(read_resized(*reader, kResized, nullptr, nullptr));
    });
    EXPECT_LT(peak, 8 << 20) << picture.name;
  }
}

TEST(ImageMemory, ASessionStaysWithinItsPlan) {
  const auto model = tied_model(false);
  (void)big_pictures();  // made before anything is counted
  SessionOptions options = small_session();
  options.n_threads = 1;
  for (const uint64_t limit : {uint64_t{16} << 20, uint64_t{256} << 20}) {
    options.source_limits.max_memory = limit;
    const MemoryPlan plan = must(plan_session(*model, options));
    EXPECT_EQ(plan.image_reading, limit);
    const auto bound = static_cast<int64_t>(plan.total() - plan.weights);
    std::unique_ptr<Session> session;
    int n_refused = 0, n_read = 0;
    const int64_t peak = peak_of([&] {
      session = make_session(model, options);
      for (const BigPicture& picture : big_pictures()) {
        const auto reader = open_image(picture.bytes, session->decode_options({}));
        if (!reader.ok()) {
          EXPECT_EQ(reader.error().code, ErrorCode::kTooLarge) << picture.name << reader.error().message;
          ++n_refused;
          continue;
        }
        const auto embedding = session->encode_image(*reader.value(), nullptr, {});
        if (embedding.ok()) {
          ++n_read;
        } else {
          EXPECT_EQ(embedding.error().code, ErrorCode::kTooLarge) << picture.name << embedding.error().message;
          ++n_refused;
        }
      }
    });
    constexpr int64_t kObjects = 1 << 20;  // the session itself, its tables, strings
    EXPECT_LE(peak, bound + kObjects) << "limit " << limit;
    EXPECT_EQ(n_refused > 0, limit < (uint64_t{32} << 20));
    EXPECT_GT(n_read, 0);
  }
}

// A decoder, an encoder and a cache allocate what their plans say and not much less; their passes allocate nothing of
// size. Buffers of 2 MiB and more, which the last case has, end at huge pages.
TEST(PlannedMemory, IsWhatIsAllocatedAndAllOfIt) {
  const auto model = tied_model(false);
  struct Sizes {
    int64_t context, batch, max_patches;
    int n_threads;
  };
  for (const Sizes& sizes :
       {Sizes{256, 64, 64, 1}, Sizes{512, 1, 800, 2}, Sizes{300, 300, 4, 3}, Sizes{12000, 2000, 12000, 1}}) {
    const auto ops = must(model->make_ops(sizes.n_threads)), eyes = must(model->make_ops(sizes.n_threads));
    const auto planned = static_cast<int64_t>(KvCache::plan_bytes(*model, *ops, sizes.context, KvElement::kF16) +
                                              TextDecoder::plan_bytes(*model, *ops, sizes.context, sizes.batch) +
                                              VisionEncoder::plan_bytes(*model, *eyes, sizes.max_patches));
    std::unique_ptr<KvCache> cache;
    std::unique_ptr<TextDecoder> decoder;
    std::unique_ptr<VisionEncoder> encoder;
    const int64_t before = g_now.load();
    const int64_t peak = peak_of([&] {
      cache = must(KvCache::create(*model, *ops, sizes.context, KvElement::kF16));
      decoder = must(TextDecoder::create(model, *ops, sizes.context, sizes.batch));
      encoder = must(VisionEncoder::create(model, *eyes, sizes.max_patches));
    });
    const int64_t held = g_now.load() - before;
    constexpr int64_t kObjects = 32 << 10;  // the objects themselves, tables, what malloc rounds up
    constexpr int64_t kHugePage = 2 << 20;  // so much address space a buffer has too much until it is cut
    EXPECT_LE(held, planned + kObjects) << "context " << sizes.context;
    EXPECT_LE(peak, planned + kObjects + (sizes.batch > 1000 ? kHugePage : 0)) << "context " << sizes.context;
    EXPECT_GE(held, planned * 2 / 3) << "context " << sizes.context;

    PassInput input;
    input.append_text(std::vector<TokenId>(200, 7));
    std::vector<float> logits(static_cast<size_t>(model->text().vocab_size));
    EXPECT_OK(decoder->forward(*cache, input.rows(), logits, false, {}, {}));  // threads begin, tables get their size
    cache->truncate(0);
    EXPECT_LE(peak_of([&] { EXPECT_OK(decoder->forward(*cache, input.rows(), logits, false, {}, {})); }), 8 << 10);
    Image image{28, 28, std::vector<uint8_t>(28 * 28 * 3, 9)};
    const Patches patches = must(extract_patches(image, model->vision().patch, nullptr));
    EXPECT_LE(peak_of([&] { (void)must(encoder->encode(patches, {}, {})); }), 16 << 10);
  }
}

// Each allocation of a decode fails once: an error that says so, or the exception that the caller turns into one.
TEST(ImageMemory, OutOfMemoryIsNeverCalledDamage) {
  for (const SmallPicture& picture : small_pictures()) {
    int n_failures = 0;
    for (int64_t n = 0;; ++n) {
      g_n_calls = 0;
      g_fail_at = n;
      bool done = false, thrown = false;
      ErrorCode code = ErrorCode::kOutOfMemory;
      std::string message;
      try {
        const auto image = decode_image(picture.bytes, {});
        g_fail_at = -1;
        done = image.ok();
        if (!done) code = image.error().code, message = image.error().message;
      } catch (const std::bad_alloc&) {
        g_fail_at = -1;
        thrown = true;
      }
      if (done && g_n_calls.load() <= n) break;  // it needs fewer allocations than n
      // libwebp itself calls some of its failed allocations a damaged bitstream.
      const bool misnamed = code == ErrorCode::kCorrupt && picture.name.ends_with(".webp");
      EXPECT_TRUE(code == ErrorCode::kOutOfMemory || misnamed)
          << picture.name << ", allocation " << n << ": " << message;
      n_failures += !done || thrown;
      ASSERT_LT(n, 5000) << picture.name;
    }
    EXPECT_GT(n_failures, 0) << picture.name;
  }
}

}  // namespace
}  // namespace glimpse::testing
