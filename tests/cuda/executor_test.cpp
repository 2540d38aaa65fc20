// The host executor: that it computes what the layer promises, and finds what it says it finds.
#include "kernels/cuda/host/executor.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "engine/base/half.h"
#include "kernels/cuda/layer.h"
#include "tests/cuda/executor_support.h"

namespace glimpse::cuda {
namespace {

using host::Executor;
using host::expect_ok;
using host::kOrders;
using host::Order;
using host::run;
using host::Shape;

TEST(HostExecutor, RunsEveryThreadOfEveryBlockOnce) {
  for (const Order order : kOrders) {
    std::vector<int> seen(3 * 2 * 2 * 64, 0);
    expect_ok(run(
        [&] {
          const int block = (block_z() * 2 + block_y()) * 3 + block_x();
          ++seen[static_cast<size_t>(block * n_threads() + thread_index())];
          EXPECT_EQ(grid_x(), 3);
        },
        Shape{{3, 2, 2}, 64, 0}, order));
    for (const int count : seen) EXPECT_EQ(count, 1);
  }
}

TEST(HostExecutor, PartsOfABlockHaveBarriersOfTheirOwn) {
  for (const Order order : kOrders) {
    std::vector<int> first(2, 0), again(2, 0);
    expect_ok(run(
        [&] {
          const int part = thread_index() / 64;
          for (int round = 0; round < 2 + part; ++round) {  // the parts meet a different number of times
            if (thread_index() % 64 == 5) first[static_cast<size_t>(part)] = round + 1;
            part_barrier(1 + part, 64);
            EXPECT_EQ(first[static_cast<size_t>(part)], round + 1);
            part_barrier(1 + part, 64);
          }
          barrier();
          if (thread_index() % 64 == 0) again[static_cast<size_t>(part)] = first[static_cast<size_t>(1 - part)];
        },
        Shape{{1, 1, 1}, 128, 0}, order));
    EXPECT_EQ(again, (std::vector<int>{3, 2}));
  }
  const Status status = run(
      [] {
        if (thread_index() < 32) part_barrier(3, 64);
      },
      Shape{{1, 1, 1}, 64, 0});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("32 threads (0, 1, 2, 3, ...) wait for a barrier of a part of the block"),
            std::string::npos)
      << status.error().message;
}

TEST(HostExecutor, FindsBlocksThatDoNotWaitForEarlierLaunches) {
  const auto all = [] { dependency_wait(); };
  const auto some = [] {
    launch_dependents();
    if (block_x() == 1 && warp_index() == 1) return;
    dependency_wait();
  };
  // A second time in one warp makes up for nothing in another.
  const auto twice = [] {
    if (warp_index() == 1) return;
    dependency_wait();
    dependency_wait();
  };
  expect_ok(run(all, Shape{{3, 1, 1}, 64, 0, true}));
  expect_ok(run(some, Shape{{3, 1, 1}, 64, 0, false}));
  EXPECT_FALSE(run(twice, Shape{{1, 1, 1}, 64, 0, true}).ok());
  const Status status = run(some, Shape{{3, 1, 1}, 64, 0, true});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message, "test_kernel, block (1, 0, 0): 32 of its 64 threads waited for earlier launches");
}

// What threads find before their wait is what Early makes of it, whoever comes first; behind it what there is.
TEST(HostExecutor, ThreadsGoOnBehindTheWaitWhenAllAreThere) {
  struct Hidden final : host::Early {
    int value = 7, n_begun = 0;
    void begin() override {
      value = -1;
      ++n_begun;
    }
    void waited() override { value = 7; }
  };
  for (const Order order : kOrders) {
    Hidden hidden;
    const auto body = [&] {
      EXPECT_EQ(hidden.value, -1);
      if (warp_index() == 1) warp_barrier();
      barrier();
      EXPECT_EQ(hidden.value, -1);
      dependency_wait();
      EXPECT_EQ(hidden.value, 7);
      dependency_wait();
      barrier();
    };
    expect_ok(run(body, {.grid = {2, 1, 1}, .n_threads = 64, .must_wait = true, .early = &hidden}, order));
    EXPECT_EQ(hidden.n_begun, 2);
  }
  Hidden hidden;
  const auto some = [] {
    if (thread_index() > 2) dependency_wait();
  };
  const Status status = run(some, {.n_threads = 64, .must_wait = true, .early = &hidden});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("61 threads (3, 4, 5, 6, ...) wait for the others of the block"),
            std::string::npos)
      << status.error().message;
}

TEST(HostExecutor, RequestsForL2AreForWholePieces) {
  alignas(16) static uint8_t bytes[64];
  const auto asks = [](const uint8_t* from, int n_bytes) {
    return run([=] { prefetch_ahead(from, n_bytes); }, {}).ok() &&
           run([=] { prefetch_range(from, n_bytes, 3); }, {}).ok();
  };
  EXPECT_TRUE(asks(bytes, 64));
  EXPECT_TRUE(asks(bytes + 48, 16));
  EXPECT_FALSE(asks(bytes + 8, 16));
  EXPECT_FALSE(asks(bytes, 24));
  EXPECT_FALSE(asks(bytes, 0));
  EXPECT_FALSE(asks(bytes, -16));
}

TEST(HostExecutor, BarriersSeparateWritesFromReads) {
  for (const Order order : kOrders) {
    std::vector<int> out(256, -1);
    expect_ok(run(
        [&] {
          auto* const values = reinterpret_cast<int*>(shared());
          for (int round = 0; round < 3; ++round) {
            values[thread_index()] = thread_index() + round;
            barrier();
            out[static_cast<size_t>(thread_index())] = values[(thread_index() + 100) % 256];
            barrier();
          }
        },
        Shape{{1, 1, 1}, 256, 1024}, order));
    for (int i = 0; i < 256; ++i) EXPECT_EQ(out[static_cast<size_t>(i)], (i + 100) % 256 + 2);
  }
}

TEST(HostExecutor, ShufflesVotesAndSums) {
  for (const Order order : kOrders) {
    expect_ok(run(
        [&] {
          const int lane = lane_index();
          EXPECT_EQ(shuffle_xor(lane, 5), lane ^ 5);
          EXPECT_EQ(shuffle(static_cast<float>(lane), 7), 7.0f);
          EXPECT_EQ(ballot(lane % 3 == 0), 0x49249249u);
          EXPECT_EQ(warp_sum(static_cast<float>(lane)), 496.0f);
          EXPECT_EQ(warp_max(static_cast<float>(-lane)), 0.0f);
          EXPECT_EQ(block_sum(1.0f, reinterpret_cast<float*>(shared())), 96.0f);
        },
        Shape{{2, 1, 1}, 96, 128}, order));
  }
}

TEST(HostExecutor, Dp4aMultipliesSignedAndUnsignedBytes) {
  EXPECT_EQ(dp4a(0x80ff7f01u, 0x7f02ff80u, 10), 10 + -128 * 127 + -1 * 2 + 127 * -1 + 1 * -128);
  EXPECT_EQ(dp4a_us(0x80ff7f01u, 0x7f02ff80u, 10), 10 + 128 * 127 + 255 * 2 + 127 * -1 + 1 * -128);
}

// The fragment layouts of mma.sync and ldmatrix (PTX ISA, "Matrix fragments for mma.m16n8k16", "ldmatrix"), written out
// here once more: rows and columns of every register of every lane.
TEST(HostExecutor, MatrixFragmentsMultiplyAsDocumented) {
  std::mt19937 random(1);
  std::vector<uint16_t> a(16 * 16), b(8 * 16);  // b as its columns: [n][k]
  std::uniform_int_distribution<int> small(-9, 9);
  for (uint16_t& v : a) v = float_to_bf16(static_cast<float>(small(random)));
  for (uint16_t& v : b) v = float_to_bf16(static_cast<float>(small(random)));
  std::vector<float> c(16 * 8, 0.5f);
  expect_ok(run(
      [&] {
        auto* const tile = reinterpret_cast<uint16_t*>(shared());
        for (int i = thread_index(); i < 256; i += 32) tile[i] = a[static_cast<size_t>(i)];
        for (int i = thread_index(); i < 128; i += 32) tile[256 + i] = b[static_cast<size_t>(i)];
        barrier();
        const int lane = lane_index(), g = lane / 4, t = lane % 4;
        uint32_t fa[4], fb[4], fv[4];
        load_matrices(fa, tile + lane % 16 * 16 + lane / 16 * 8);
        load_matrices(fb, tile + 256 + lane % 8 * 16 + lane / 8 % 2 * 8);
        const auto pair = [&](const uint16_t* p) { return p[0] | static_cast<uint32_t>(p[1]) << 16; };
        EXPECT_EQ(fa[0], pair(&a[static_cast<size_t>(g * 16 + 2 * t)]));
        EXPECT_EQ(fa[1], pair(&a[static_cast<size_t>((g + 8) * 16 + 2 * t)]));
        EXPECT_EQ(fa[2], pair(&a[static_cast<size_t>(g * 16 + 2 * t + 8)]));
        EXPECT_EQ(fa[3], pair(&a[static_cast<size_t>((g + 8) * 16 + 2 * t + 8)]));
        EXPECT_EQ(fb[0], pair(&b[static_cast<size_t>(g * 16 + 2 * t)]));
        EXPECT_EQ(fb[1], pair(&b[static_cast<size_t>(g * 16 + 2 * t + 8)]));
        load_matrices_transposed(fv, tile + lane % 16 * 16 + lane / 16 * 8);
        EXPECT_EQ(fv[0] & 0xffffu, a[static_cast<size_t>(2 * t * 16 + g)]);
        EXPECT_EQ(fv[1] >> 16, a[static_cast<size_t>((2 * t + 9) * 16 + g)]);
        EXPECT_EQ(fv[2] & 0xffffu, a[static_cast<size_t>(2 * t * 16 + g + 8)]);
        float fc[4] = {0.5f, 0.5f, 0.5f, 0.5f};
        const uint32_t columns[2] = {fb[0], fb[1]};
        mma_bf16(fc, fa, columns);
        for (int i = 0; i < 4; ++i) c[static_cast<size_t>((g + i / 2 * 8) * 8 + 2 * t + i % 2)] = fc[i];
      },
      Shape{{1, 1, 1}, 32, 768}));
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float want = 0.5f;
      for (int k = 0; k < 16; ++k) {
        want += bf16_to_float(a[static_cast<size_t>(row * 16 + k)]) *
                bf16_to_float(b[static_cast<size_t>(column * 16 + k)]);
      }
      EXPECT_EQ(c[static_cast<size_t>(row * 8 + column)], want);
    }
  }
}

TEST(HostExecutor, CopiesArriveWhenTheyAreWaitedFor) {
  const std::vector<uint32_t> from(8, 7);
  expect_ok(run(
      [&] {
        if (thread_index() != 0) return;
        auto* const to = reinterpret_cast<uint32_t*>(shared());
        cp_async(to, from.data(), true);
        cp_async_commit();
        cp_async(to + 4, from.data(), false);
        cp_async_commit();
        EXPECT_EQ(to[0], 0xffffffffu);
        cp_async_wait<1>();
        EXPECT_EQ(to[3], 7u);
        EXPECT_EQ(to[4], 0xffffffffu);
        cp_async_wait<0>();
        EXPECT_EQ(to[4], 0u);
      },
      Shape{{1, 1, 1}, 32, 32}));
}

TEST(HostExecutor, SharedMemoryHoldsGarbageWhenABlockStarts) {
  expect_ok(run(
      [&] {
        auto* const value = reinterpret_cast<float*>(shared());
        EXPECT_NE(*value, *value);
        barrier();
        *value = 1;
      },
      Shape{{2, 1, 1}, 32, 4}));
}

void expect_stuck(const Status& status, const std::vector<std::string>& texts) {
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kDevice);
  for (const std::string& text : texts) {
    EXPECT_NE(status.error().message.find(text), std::string::npos) << text << " in: " << status.error().message;
  }
}

TEST(HostExecutor, NamesThreadsThatMissABarrier) {
  const auto body = [] {
    if (thread_index() != 5) barrier();
  };
  expect_stuck(run(body, Shape{{3, 1, 1}, 64, 0}),
               {"test_kernel", "block (0, 0, 0)", "63 threads (0, 1, 2, 3, ...) wait for a block barrier",
                "1 thread (5) waits for nothing, it has ended"});
}

TEST(HostExecutor, NamesLanesThatMissAShuffle) {
  const auto body = [] {
    if (lane_index() < 16) (void)shuffle_xor(1, 1);
  };
  expect_stuck(run(body, Shape{{1, 1, 1}, 32, 0}), {"16 threads (0, 1, 2, 3, ...) wait for a shuffle"});
}

TEST(HostExecutor, FindsLanesAtDifferentInstructions) {
  for (const Order order : kOrders) {
    const auto body = [] {
      if (lane_index() == 3) {
        (void)ballot(true);
      } else {
        (void)shuffle_xor(1, 1);
      }
    };
    expect_stuck(run(body, Shape{{1, 1, 1}, 32, 0}, order), {"(3) waits for a vote", "31 threads"});
  }
}

TEST(HostExecutor, GoesOnAfterAStuckBlock) {
  Executor executor;
  struct Args {
    bool stuck;
    int count;
  } args{true, 0};
  const auto body = [](const void* raw) {
    auto& a = *static_cast<Args*>(const_cast<void*>(raw));
    if (!a.stuck || thread_index() > 0) barrier();
    ++a.count;
  };
  EXPECT_FALSE(executor.launch("k", body, &args, Shape{{1, 1, 1}, 64, 0}).ok());
  args = {false, 0};
  expect_ok(executor.launch("k", body, &args, Shape{{2, 1, 1}, 64, 0}));
  EXPECT_EQ(args.count, 128);
}

TEST(HostExecutor, RefusesWhatADeviceWouldRefuse) {
  const auto body = [] {};
  for (const Shape& shape : {Shape{{1, 1, 1}, 31, 0}, Shape{{1, 1, 1}, 2048, 0}, Shape{{0, 1, 1}, 32, 0},
                             Shape{{1, 70000, 1}, 32, 0}, Shape{{1, 1, 1}, 32, 300000}}) {
    expect_stuck(run(body, shape), {"would refuse"});
  }
}

}  // namespace
}  // namespace glimpse::cuda
