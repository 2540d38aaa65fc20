// Clusters: blocks that run together on the host executor, reach one another's barriers and copy into one another's
// shared memory; that wrong uses are found; and products of warpgroups whose blocks share their copies.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cuda/device_blocks.h"
#include "kernels/cuda/layer_hopper.h"
#include "tests/cuda/executor_support.h"
#include "tests/cuda/side.h"

namespace glimpse::cuda {
namespace {

using host::expect_error;
using host::expect_ok;
using host::kOrders;
using host::Order;
using host::run;
using host::Shape;

Shape clusters_of(int cluster, int blocks, int n_threads, int shared_bytes) {
  Shape shape{{blocks, 1, 1}, n_threads, shared_bytes};
  shape.cluster = cluster;
  return shape;
}
void arrive_at(Mbarrier* m, int rank) {
  mbarrier_arrive_if({m, rank}, 0, true);
}
void meet() {
  cluster_arrive();
  cluster_wait();
}

// ---- The executor ------------------------------------------------------------------------------------------------

TEST(HostClusters, BlocksRunTogetherAndMeet) {
  for (const Order order : kOrders) {
    std::vector<int> round_of(6, 0), ranks(6, -1);
    Shape shape = clusters_of(3, 6, 64, 64);
    expect_ok(run(
        [&] {
          const auto block = static_cast<size_t>(block_x());
          EXPECT_EQ(cluster_blocks(), 3);
          ranks[block] = cluster_rank();
          for (int round = 1; round <= 3; ++round) {
            if (thread_index() == 33) round_of[block] = round;
            meet();
            for (size_t i = block / 3 * 3; i < block / 3 * 3 + 3; ++i) EXPECT_EQ(round_of[i], round);
            meet();
          }
        },
        shape, order));
    EXPECT_EQ(ranks, (std::vector<int>{0, 1, 2, 0, 1, 2}));
  }
}

// PTX ISA, "barrier.cluster": it waits for all threads that have not exited.
TEST(HostClusters, NobodyWaitsForThreadsThatHaveEnded) {
  for (const Order order : kOrders) {
    expect_ok(run(
        [] {
          if (warp_index() == 1) return;
          cluster_arrive();
          if (cluster_rank() == 1 && lane_index() == 3) return;  // it has arrived
          cluster_wait();
          meet();
        },
        clusters_of(2, 4, 96, 0), order));
  }
}

TEST(HostClusters, BlocksHaveSharedMemoryOfTheirOwn) {
  expect_ok(run(
      [] {
        auto* const value = reinterpret_cast<float*>(shared());
        EXPECT_NE(*value, *value) << "garbage when a block starts";
        meet();
        if (thread_index() == 0) *value = static_cast<float>(block_x());
        meet();
        EXPECT_EQ(*value, static_cast<float>(block_x()));
      },
      clusters_of(2, 4, 32, 4)));
}

TEST(HostClusters, RefusesWhatADeviceWouldRefuse) {
  for (const Shape& shape : {clusters_of(2, 3, 32, 0), clusters_of(0, 2, 32, 0), clusters_of(9, 9, 32, 0)}) {
    expect_error(run([] {}, shape), "would refuse");
  }
}

// Each block copies its part to all blocks; a barrier of each counts the bytes of all parts, whichever come first.
TEST(HostClusters, CopiesReachTheSamePlaceOfAllBlocks) {
  std::vector<uint32_t> from(64);
  std::iota(from.begin(), from.end(), 0u);
  for (const Order order : kOrders) {
    expect_ok(run(
        [&] {
          auto* const to = reinterpret_cast<uint32_t*>(shared());
          auto* const m = reinterpret_cast<Mbarrier*>(shared() + 256);
          const int rank = cluster_rank();
          if (thread_index() == 0) {
            mbarrier_init(m, 1);
            mbarrier_publish();
          }
          meet();
          if (thread_index() == 0) {
            cluster_fence();
            // The second block says late what it expects.
            if (rank == 0) mbarrier_arrive_expect(m, 256);
            bulk_copy(to + rank * 32, from.data() + rank * 32, 128, m, 3);
            EXPECT_EQ(to[rank * 32], 0xffffffffu) << "the target holds nothing of use";
            if (rank == 1) mbarrier_arrive_expect(m, 256);
          }
          mbarrier_wait(m, 0);
          for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(to[i], i);
          meet();
        },
        clusters_of(2, 4, 64, 264), order));
  }
}

TEST(HostClusters, FindsWrongUses) {
  const std::vector<uint32_t> from(8);
  struct Case {
    const char* text;
    std::function<void(Mbarrier*)> use;  // by thread 0 of each block
  };
  const auto prepare = [](Mbarrier* m) {
    mbarrier_init(m, 1);
    mbarrier_publish();
    meet();
  };
  const Case cases[] = {
      {"not published before the cluster met",
       [](Mbarrier* m) {
         mbarrier_init(m, 1);
         arrive_at(m, 1 - cluster_rank());
         meet();
       }},
      {"not published before the cluster met",  // the cluster met, and later the other block was ready
       [](Mbarrier* m) {
         meet();
         mbarrier_init(m, 1);
         mbarrier_publish();
         mbarrier_wait(m, cluster_rank() == 0 ? 1 : 0);
         if (cluster_rank() == 0) arrive_at(m, 1);
       }},
      {"a block that the cluster does not have",
       [&](Mbarrier* m) {
         prepare(m);
         arrive_at(m, 2);
       }},
      {"to blocks that the cluster does not have",
       [&](Mbarrier* m) {
         prepare(m);
         bulk_copy(shared(), from.data(), 16, m, 5);
       }},
      {"reaches into a block of the cluster that has ended",
       [&](Mbarrier* m) {
         prepare(m);
         if (cluster_rank() == 0) return;
         meet();  // the other block has ended
         arrive_at(m, 0);
       }},
      {"its block ends before what is copied there has arrived",
       [&](Mbarrier* m) {
         prepare(m);
         if (cluster_rank() == 0) bulk_copy(shared(), from.data(), 16, m, 2);
         meet();
         if (cluster_rank() == 0) mbarrier_wait(m, 0);  // for ever
       }},
      {"its block ends before what it copies to another has arrived",
       [&](Mbarrier* m) {
         prepare(m);
         if (cluster_rank() == 0) return bulk_copy(shared(), from.data(), 16, m, 2);
         meet();
       }},
      {"again without having waited",
       [](Mbarrier*) {
         cluster_arrive();
         cluster_arrive();
       }},
      {"without having arrived", [](Mbarrier*) { cluster_wait(); }},
  };
  for (const Case& c : cases) {
    expect_error(run(
                     [&] {
                       if (thread_index() == 0) c.use(reinterpret_cast<Mbarrier*>(shared() + 64));
                     },
                     clusters_of(2, 2, 32, 128)),
                 c.text);
  }
}

TEST(HostClusters, NamesThreadsThatWaitForAnotherBlock) {
  expect_error(
      run(
          [] {
            if (cluster_rank() == 1 && thread_index() == 5) return part_barrier(1, 64);
            meet();
          },
          clusters_of(2, 2, 32, 0)),
      "test_kernel, block (0, 0, 0): its threads wait for one another for ever; 32 threads (0, 1, 2, 3, ...) "
      "wait for the barrier of the cluster; block (1, 0, 0); 1 thread (5) waits for a barrier of a part of the "
      "block; 31 threads (0, 1, 2, 3, ...) wait for the barrier of the cluster");
}

// ---- The ring ----------------------------------------------------------------------------------------------------

// The protocol of gemm_warpgroup.cuh with readers that look at every word: what if one of its numbers were another?
struct RingFacts {
  int arrivals = 4;          // at `empty`: warps of both blocks
  int bytes = 256;           // that `full` expects: both halves
  bool frees_other = true;   // a warp tells both blocks
  bool frees_early = false;  // before it has read
  bool meets = true;         // at the end
};
// Says what went wrong, or nothing.
std::string run_ring(const RingFacts& facts, Order order) {
  constexpr int kStages = 2, kTiles = 7, kReaders = 2, kHalf = 32;  // words
  std::vector<uint32_t> from(kTiles * 2 * kHalf);
  std::iota(from.begin(), from.end(), 1u);
  bool wrong = false;
  const Status status = run(
      [&] {
        auto* const ring = reinterpret_cast<uint32_t*>(shared());
        auto* const full = reinterpret_cast<Mbarrier*>(shared() + kStages * 2 * kHalf * 4);
        Mbarrier* const empty = full + kStages;
        const int rank = cluster_rank();
        if (thread_index() == 0) {
          for (int i = 0; i < kStages; ++i) {
            mbarrier_init(full + i, 1);
            mbarrier_init(empty + i, facts.arrivals);
          }
          mbarrier_publish();
        }
        meet();
        const auto free = [&](int tile) {
          const int lane = lane_index();
          if (tile >= 0 && lane < 2 && (facts.frees_other || lane == rank)) {
            mbarrier_arrive_if({empty, lane}, tile % kStages, true);
          }
        };
        for (int i = 0; i < kTiles; ++i) {
          const int stage = i % kStages, parity = i / kStages % 2;
          if (warp_index() == kReaders) {
            if (lane_index() > 0) break;
            if (i >= kStages) mbarrier_wait(empty + stage, 1 - parity);
            mbarrier_arrive_expect(full + stage, facts.bytes);
            const int at = stage * 2 * kHalf + rank * kHalf;
            bulk_copy(ring + at, from.data() + (2 * i + rank) * kHalf, kHalf * 4, full + stage, 3);
            continue;
          }
          mbarrier_wait(full + stage, parity);
          if (facts.frees_early) free(i);
          warp_barrier();
          for (int word = lane_index(); word < 2 * kHalf; word += kWarp) {
            wrong = wrong || ring[stage * 2 * kHalf + word] != from[static_cast<size_t>(i * 2 * kHalf + word)];
          }
          warp_barrier();
          if (!facts.frees_early) free(i - 1);  // a tile late, as products under way make it
        }
        if (facts.meets) meet();
      },
      clusters_of(2, 4, (kReaders + 1) * kWarp, kStages * 2 * kHalf * 4 + 2 * kStages * 8), order);
  return !status.ok() ? status.error().message : wrong ? "wrong values" : "";
}

TEST(ClusterRing, HoldsWhatEachTileNeeds) {
  for (const Order order : kOrders) EXPECT_EQ(run_ring({}, order), "");
}

TEST(ClusterRing, OtherNumbersAreFound) {
  const auto expect_found = [](const RingFacts& facts, const std::string& text) {
    std::string all;
    for (const Order order : kOrders) all += run_ring(facts, order) + "\n";
    EXPECT_NE(all.find(text), std::string::npos) << all;
  };
  const std::string stuck = "wait for a barrier in shared memory";
  for (const int arrivals : {2, 3, 5}) expect_found({.arrivals = arrivals}, stuck);
  for (const int bytes : {128, 384}) expect_found({.bytes = bytes}, stuck);
  expect_found({.frees_other = false}, stuck);
  expect_found({.frees_early = true}, "wrong values");
  expect_found({.meets = false}, "reaches into a block of the cluster that has ended");
}

// ---- Products ----------------------------------------------------------------------------------------------------

TEST(WarpgroupClusters, AreMadeWhereTheySaveSomething) {
  EXPECT_EQ(gemm_warpgroup_cluster(128, 40, 41, 1, 132), 2);
  EXPECT_EQ(gemm_warpgroup_cluster(256, 140, 4, 1, 132), 2);
  EXPECT_EQ(gemm_warpgroup_cluster(128, 12, 1, 6, 132), 2);
  EXPECT_EQ(gemm_warpgroup_cluster(64, 40, 41, 1, 132), 1);   // few columns
  EXPECT_EQ(gemm_warpgroup_cluster(128, 1, 41, 1, 132), 1);   // nobody to share with
  EXPECT_EQ(gemm_warpgroup_cluster(128, 27, 8, 1, 132), 2);   // 224 blocks instead of 216: two rounds
  EXPECT_EQ(gemm_warpgroup_cluster(128, 33, 4, 1, 132), 1);   // 136 instead of 132: two rounds instead of one
  EXPECT_EQ(gemm_warpgroup_cluster(128, 27, 8, 6, 1000), 1);  // sums of chunks are of blocks with rows
}

// Two blocks that share activations of 128 columns have few bytes to wait for: weights of 4 bits want no wider ones,
// those of 16 bits do.
TEST(WarpgroupClusters, ChangeWhichWidthIsSoonerDone) {
  EXPECT_EQ(gemm_warpgroup_columns(Format::kQ4_K, 140, 1024, 132, false), 256);  // gate and up of 2B
  EXPECT_EQ(gemm_warpgroup_columns(Format::kQ4_K, 140, 1024, 132, true), 128);
  EXPECT_EQ(gemm_warpgroup_columns(Format::kBF16, 40, 5184, 132, true), 256);  // of a picture
  EXPECT_EQ(gemm_warpgroup_columns(Format::kBF16, 10, 1024, 132, true), 128);  // 80 blocks, not 40
  for (const bool clusters : {false, true}) {
    EXPECT_EQ(gemm_warpgroup_columns(Format::kBF16, 9, 64, 132, clusters), 64);
    EXPECT_EQ(gemm_warpgroup_columns(Format::kQ6_K, 2, 1024, 132, clusters), 64);  // values of 2B: 32 blocks, not 16
  }
}

// A device of so many multiprocessors, with clusters or without; notes what it is asked for.
std::shared_ptr<NotingDevice> device_of(bool clusters, int n_multiprocessors, HostDeviceOptions options = {}) {
  options.warpgroups = true;
  return std::make_shared<NotingDevice>(
      std::make_shared<OtherDevice>(test_device(options), true, n_multiprocessors, clusters));
}
// Blocks in x of the products' launches in clusters.
std::vector<int64_t> clustered(const NotingDevice& device) {
  std::vector<int64_t> blocks;
  for (const NotingDevice::Launch& launch : device.launches) {
    if (launch.shape.cluster > 1) blocks.push_back(launch.shape.grid[0]);
  }
  return blocks;
}

class ClusterTypes : public ::testing::TestWithParam<DType> {};

// compute(Side&) with clusters has the bits of that without, in these orders of threads and blocks; `want`: how many
// blocks in x its launches in clusters have.
template <typename Compute>
void expect_same_bits(int n_multiprocessors, const std::vector<int64_t>& want, const Compute& compute,
                      std::initializer_list<Order> orders = {Order::kReverse}) {
  if (!test_device({.warpgroups = true})->has_clusters()) GTEST_SKIP() << "this GPU has no clusters";
  const auto alone_on = device_of(false, n_multiprocessors);
  Side alone(must(CudaOps::create(alone_on, 1)));
  const auto expected = compute(alone);
  EXPECT_EQ(clustered(*alone_on), std::vector<int64_t>());
  for (const Order order : orders) {
    const auto device = device_of(true, n_multiprocessors, {.order = order});
    Side side(must(CudaOps::create(device, 1)));
    EXPECT_EQ(compute(side), expected);
    EXPECT_EQ(clustered(*device), want);
    if (on_gpu()) break;
  }
}

TEST_P(ClusterTypes, HaveTheBitsOfBlocksAlone) {
  const DType type = GetParam();
  Random random(21);
  const int64_t k = block_columns(type) == 256 ? 512 : 288;
  // Two groups of rows, the second all but empty; blocks of 128 columns that are all but half empty, and of 256, three
  // quarters of which are there: with fewer, weights of 2 bits are better off with 64 columns.
  for (const auto& [n, n_multiprocessors] : {std::pair(int64_t{65}, 2), std::pair(int64_t{195}, 1)}) {
    SCOPED_TRACE(n);
    ASSERT_EQ(gemm_warpgroup_columns(device_format(type), 2, n, n_multiprocessors, true), n == 65 ? 128 : 256);
    const Product product(type, 130, k, n, random);
    const bool f32 = type == DType::kF32;
    expect_same_bits(n_multiprocessors, f32 ? std::vector<int64_t>() : std::vector<int64_t>{2},
                     [&](Side& s) { return product.added(s); });
  }
}
INSTANTIATE_TEST_SUITE_P(Types, ClusterTypes, ::testing::ValuesIn(weight_types()),
                         [](const auto& type) { return std::string(dtype_name(type.param)); });

// The ring of 4 or 3 stages goes round several times, and ends at other stages.
TEST(WarpgroupClusters, GoRoundForLongRows) {
  Random random(22);
  for (const auto& [k, n, n_multiprocessors] : {std::tuple(1280, 70, 2), std::tuple(1408, 129, 1)}) {
    SCOPED_TRACE(k);
    const Product product(DType::kBF16, 136, k, n, random);
    expect_same_bits(
        n_multiprocessors, {2}, [&](Side& s) { return product.added(s); }, kOrders);
  }
}

// Three groups of rows: a block without rows copies for the third.
TEST(WarpgroupClusters, GetABlockWithoutRowsWhereGroupsAreOdd) {
  Random random(23);
  for (const auto& [type, n] : {std::pair(DType::kQ4_K, 66), std::pair(DType::kBF16, 130)}) {
    const Product product(type, 272, 768, n, random);
    expect_same_bits(4, {4}, [&](Side& s) { return product.added(s); });
  }
}

// Queries, keys and values are segments of one launch, of 2 or 3, 1 and 1 groups: a cluster has blocks of two of them.
TEST(WarpgroupClusters, CrossTheBordersOfSegments) {
  Random random(24);
  constexpr int64_t kCols = 256, kColumns = 67, kDim = 64;
  for (const int64_t n_heads : {3, 5}) {
    const int64_t q_rows = n_heads * kDim, kv_rows = kDim;
    const std::vector<float> wq = random.gaussian(q_rows * kCols), wk = random.gaussian(kv_rows * kCols),
                             wv = random.gaussian(kv_rows * kCols), x = random.gaussian(kColumns * kCols),
                             angles(static_cast<size_t>(kColumns * kDim / 2), 0.6f);
    expect_same_bits(6, {n_heads == 3 ? 4 : 6}, [&](Side& s) {
      const auto linear = [&](const std::vector<float>& w, int64_t rows) {
        return s.linear(quantized(DType::kQ8_0, w, rows, kCols), DType::kQ8_0, rows, kCols, {});
      };
      const QkvWeights w{linear(wq, q_rows), linear(wk, kv_rows), linear(wv, kv_rows), n_heads, 1, kDim};
      const auto kv = must(s->make_kv(1, kDim, 80, KvElement::kBf16));
      const Mat in = s.mat(x, kColumns), out = s.poisoned(kColumns, q_rows), angle = s.mat(angles, kColumns);
      const glimpse::Segment rows{.kv = kv.get(), .n_rows = kColumns};
      s.run([&] { s->norm_qkv(in, Norm{}, w, RopeTable{angle, angle}, std::span(&rows, 1), out); });
      std::vector<float> result = s.values(out), key(kDim), value(kDim);
      for (int64_t position = 0; position < kColumns; ++position) {
        kv->read(0, position, key.data(), value.data());
        result.insert(result.end(), key.begin(), key.end());
        result.insert(result.end(), value.begin(), value.end());
      }
      return result;
    });
  }
}

// Chunks of long rows, added by one block or shared out, each cluster working for one chunk.
TEST(WarpgroupClusters, ShareTheChunksOfLongRows) {
  Random random(25);
  const int64_t k = 50 * kTileColumns, rows = 135, n = 70;
  const Product product(DType::kQ4_K, rows, k, n, random);
  const auto added = [&](Side& s) {
    EXPECT_OK(s->reserve_attention(1, 16, 64));  // the memory of sums
    return product.added(s);
  };
  for (const int n_multiprocessors : {1, 132}) {
    ASSERT_EQ(gemm_splits(2, 50, n_multiprocessors), n_multiprocessors == 1 ? 1 : 5);
    expect_same_bits(n_multiprocessors, {2}, added);
  }
}

TEST(WarpgroupClusters, ComputeSwiglu) {
  Random random(26);
  const SwigluCase swiglu(random);
  const std::vector<float> x = random.gaussian(66 * SwigluCase::kCols);
  expect_same_bits(2, {2}, [&](Side& s) { return swiglu.run(s, DType::kQ4_K, DType::kQ4_K, s.mat(x, 66)); });
}

}  // namespace
}  // namespace glimpse::cuda
