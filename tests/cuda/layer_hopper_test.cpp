// The Hopper part of the layer on the host executor: layouts, descriptors, barriers and their phases, bulk copies,
// products of a warpgroup; and that wrong uses are found.
#include "kernels/cuda/layer_hopper.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <set>
#include <type_traits>
#include <vector>

#include "engine/base/half.h"
#include "kernels/cuda/attention_warpgroup.cuh"
#include "kernels/cuda/gemm_warpgroup.cuh"
#include "tests/cuda/executor_support.h"

namespace glimpse::cuda {
namespace {

using host::expect_error;
using host::expect_ok;
using host::kOrders;
using host::Order;
using host::run;
using host::Shape;

// ---- Layouts -----------------------------------------------------------------------------------------------------

// PTX ISA, "Swizzling modes": 128 bytes: address bits 4-6 are exchanged with an exclusive or of bits 7-9.
TEST(Swizzle, AtomsAreWhatTheHardwareReads) {
  std::set<int> seen;
  for (int row = 0; row < kAtomRows; ++row) {
    for (int k = 0; k < kAtomColumns; ++k) {
      const auto plain = static_cast<uint32_t>(row * 128 + k * 2);
      EXPECT_EQ(swizzled(plain + 5 * kAtomBytes), static_cast<uint32_t>(5 * kAtomBytes + 2 * atom_index(row, k)));
      EXPECT_TRUE(seen.insert(atom_index(row, k)).second) << row << ", " << k;
    }
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kAtomRows * kAtomColumns));
  EXPECT_EQ(*seen.rbegin(), kAtomRows * kAtomColumns - 1);
}

TEST(Swizzle, EightRowsOfAChunkFallIntoAllBanks) {
  for (int chunk = 0; chunk < 8; ++chunk) {
    std::set<int> banks;
    for (int row = 0; row < kAtomRows; ++row) banks.insert(atom_index(row, chunk * 8) * 2 / 16 % 8);
    EXPECT_EQ(banks.size(), 8u) << chunk;
  }
}

TEST(Swizzle, DescriptorsHaveTheirFields) {
  for (const uint32_t address : {1024u, 1024u + 96u, 0x37c00u}) {
    const uint64_t d = swizzled_descriptor(address);
    EXPECT_EQ((d & 0x3fff) << 4, address);
    EXPECT_EQ((d >> 32 & 0x3fff) << 4, 1024u);
    EXPECT_EQ(d >> 49 & 7, 0u);
    EXPECT_EQ(d >> 62, 1u);
    EXPECT_EQ(d & ~(uint64_t{0x3fff} | uint64_t{0x3fff} << 16 | uint64_t{0x3fff} << 32 | uint64_t{3} << 62), 0u);
  }
}

// "Strides" and "Canonical layouts" of the PTX ISA, in bytes: a panel of 128 or 32 bytes a row, rows one behind the
// other, then the address bits that the swizzle exchanges.
uint32_t place_in_panels(int n_rows, int n_columns, int row, int column) {
  const int row_bytes = n_columns % 64 == 0 ? 128 : 32, byte = column * 2;
  const auto address =
      static_cast<uint32_t>(byte / row_bytes * n_rows * row_bytes + row * row_bytes + byte % row_bytes);
  return address ^ (address >> 7 & (row_bytes == 128 ? 7u : 1u)) << 4;
}
template <int kRows, int kColumns>
void expect_panels_hold_each_chunk_once() {
  using Matrix = Panels<kRows, kColumns>;
  std::set<int> seen;
  for (int row = 0; row < kRows; ++row) {
    std::set<int> banks;
    for (int chunk = 0; chunk < kColumns / 8; ++chunk) {
      const int at = Matrix::chunk_at(row, chunk);
      EXPECT_EQ(static_cast<uint32_t>(at), place_in_panels(kRows, kColumns, row, chunk * 8));
      EXPECT_TRUE(seen.insert(at).second && at >= 0 && at + 16 <= Matrix::kBytes) << row << ", " << chunk;
    }
    if (row % 8 != 0) continue;
    for (int i = 0; i < 8; ++i) banks.insert(Matrix::chunk_at(row + i, 1) / 16 % 8);
    EXPECT_EQ(banks.size(), 8u) << "eight rows of a chunk fall into all banks";
  }
}
TEST(Swizzle, PanelsHoldEachChunkOnce) {
  expect_panels_hold_each_chunk_once<64, 64>();
  expect_panels_hold_each_chunk_once<64, 80>();
  expect_panels_hold_each_chunk_once<64, 128>();
  expect_panels_hold_each_chunk_once<16, 16>();
}

// Every element of a tiled matrix has a place of its own, and what one stage of one block needs is contiguous.
TEST(TiledRows, HoldEachElementOnce) {
  for (const int64_t n : {9, 16, 131, 300}) {
    const int k = 3 * kTileColumns;
    std::vector<int> seen(static_cast<size_t>(tiled_rows(n) * k), 0);
    for (int64_t row = 0; row < n; ++row) {
      for (int column = 0; column < k; ++column) {
        const int64_t at = tiled_index(n, row, column);
        ASSERT_GE(at, 0);
        ASSERT_LT(at, tiled_rows(n) * k);
        ++seen[static_cast<size_t>(at)];
        const int half = tiled_column(column) / kAtomColumns;
        const int64_t block = row / kWgColumns;
        const int64_t begin = (half * tiled_rows(n) + block * kWgColumns) * kAtomColumns;
        EXPECT_GE(at, begin);
        EXPECT_LT(at, begin + WgRing<kWgColumns>::kHalfBytes / 2);
        EXPECT_EQ(half / 2, column / kTileColumns);
      }
    }
    int64_t filled = 0;
    for (const int count : seen) {
      EXPECT_LE(count, 1);
      filled += count;
    }
    EXPECT_EQ(filled, n * k);
  }
}

TEST(TiledRows, RowsFindTheirElements) {
  for (const int64_t n : {9, 131}) {
    for (int64_t row = 0; row < n; ++row) {
      for (int k = 0; k < 3 * kTileColumns; k += 2) {
        const auto e = static_cast<uint32_t>(k / 8);
        ASSERT_EQ(TiledRow::of_row(row, k % 8 / 2, e % 2) + TiledRow::of_columns(n, e), tiled_index(n, row, k))
            << row << ", " << k;
      }
    }
  }
}

// Of the 16 values of k of a step, a lane's registers of A multiply 2t, 2t + 1, 2t + 8 and 2t + 9 (mma_bf16()): these
// must be the four columns of the cell that the lane loaded, in the order in which cell_operand() packs them.
TEST(TiledRows, GiveEachLaneItsOwnCell) {
  std::set<int> seen;
  for (int step = 0; step < 8; ++step) {
    for (int t = 0; t < 4; ++t) {
      const int of_lane[4] = {2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9};
      for (int i = 0; i < 4; ++i) {
        const int column = t * kCell + 4 * step + i;
        EXPECT_EQ(tiled_column(column), step * 16 + of_lane[i]);
        seen.insert(tiled_column(column));
      }
    }
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kTileColumns));
  EXPECT_EQ(tiled_column(5 * kTileColumns + 7), 5 * kTileColumns + tiled_column(7));
}

template <int kColumns>
void expect_ring_follows_the_phases() {
  using Ring = WgRing<kColumns>;
  int phase_of[Ring::kStages] = {};  // that is being filled
  for (int kt = 0; kt < 50; ++kt) {
    const int stage = Ring::stage(kt);
    EXPECT_EQ(stage, kt % Ring::kStages);
    EXPECT_EQ(Ring::parity(kt), phase_of[stage] % 2);
    ++phase_of[stage];
  }
}
TEST(Ring, StagesAndParitiesFollowThePhases) {
  expect_ring_follows_the_phases<64>();
  expect_ring_follows_the_phases<128>();
  expect_ring_follows_the_phases<256>();
}

TEST(Ring, PlacesFollowThePhases) {
  RingPlace<6> place;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(place.stage, i % 6);
    EXPECT_EQ(place.parity, i / 6 % 2);
    place.next();
  }
}

TEST(Bytes, BecomeFloatsOverTwoToThe23) {
  for (int byte = 0; byte < 256; ++byte) {
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = (0x5aa51cf3u & ~(255u << (8 * i))) | static_cast<uint32_t>(byte) << (8 * i);
      EXPECT_EQ(byte_over_2_23(word, i), 8388608.0f + static_cast<float>(byte));
      if (byte >= 128) {
        EXPECT_EQ(byte_over_128(word, i), static_cast<float>(byte) / 128);
      }
    }
  }
}

// ---- Barriers and copies -----------------------------------------------------------------------------------------

TEST(HostHopper, CopiesArriveWithThePhaseTheyCountFor) {
  std::vector<uint32_t> from(64);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint32_t>(i);
  for (const Order order : kOrders) {
    expect_ok(run(
        [&] {
          auto* const to = reinterpret_cast<uint32_t*>(shared());
          auto* const m = reinterpret_cast<Mbarrier*>(shared() + 256);
          if (thread_index() == 0) {
            mbarrier_init(m, 2);
            mbarrier_publish();
          }
          barrier();
          to[thread_index()] = 1;
          barrier();
          if (thread_index() == 0) {
            mbarrier_arrive_expect(m, 256);
            bulk_copy(to, from.data(), 128, m);
            bulk_copy(to + 32, from.data() + 32, 128, m);
            EXPECT_EQ(to[0], 0xffffffffu) << "the target holds nothing of use";
            EXPECT_EQ(to[63], 0xffffffffu);
          }
          if (thread_index() == 33) mbarrier_arrive(m);
          mbarrier_wait(m, 0);
          for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(to[i], i);
          barrier();
          // The next phase, of the other parity, without bytes.
          if (thread_index() == 5 || thread_index() == 6) mbarrier_arrive(m);
          mbarrier_wait(m, 1);
        },
        Shape{{2, 1, 1}, 64, 264}, order));
  }
}

TEST(HostHopper, NamesThreadsThatWaitForBytesThatNeverCome) {
  const std::vector<uint32_t> from(4);
  expect_error(run(
                   [&] {
                     auto* const m = reinterpret_cast<Mbarrier*>(shared() + 64);
                     if (thread_index() == 0) {
                       mbarrier_init(m, 1);
                       mbarrier_arrive_expect(m, 32);
                       bulk_copy(shared(), from.data(), 16, m);
                     }
                     barrier();
                     if (thread_index() == 7) mbarrier_wait(m, 0);
                   },
                   Shape{{1, 1, 1}, 32, 128}),
               "1 thread (7) waits for a barrier in shared memory");
}

TEST(HostHopper, FindsWrongBarriersAndCopies) {
  const std::vector<uint32_t> from(8);
  struct Case {
    const char* text;
    std::function<void(Mbarrier*)> use;
  };
  const Case cases[] = {
      {"that nobody initialised", [](Mbarrier* m) { mbarrier_arrive(m + 1); }},
      {"was written over",
       [](Mbarrier* m) {
         *m = 0;
         mbarrier_wait(m, 0);
       }},
      {"cannot count", [](Mbarrier* m) { mbarrier_init(m, 0); }},
      {"not in shared memory",
       [](Mbarrier*) {
         static Mbarrier outside;
         mbarrier_init(&outside, 1);
       }},
      {"one arrival more",
       [](Mbarrier* m) {
         mbarrier_arrive_expect(m, 16);
         mbarrier_arrive(m);
       }},
      {"more bytes than", [](Mbarrier* m) { mbarrier_arrive_expect(m, 1 << 20); }},
      {"aligned pieces of 16", [&](Mbarrier* m) { bulk_copy(shared(), from.data(), 8, m); }},
      {"aligned pieces of 16", [&](Mbarrier* m) { bulk_copy(shared() + 8, from.data(), 16, m); }},
      {"to outside of shared memory", [&](Mbarrier* m) { bulk_copy(shared() + 112, from.data(), 32, m); }},
  };
  for (const Case& c : cases) {
    const Status status = run(
        [&] {
          if (thread_index() != 3) return;
          auto* const m = reinterpret_cast<Mbarrier*>(shared() + 64);
          mbarrier_init(m, 1);
          c.use(m);
        },
        Shape{{1, 1, 1}, 32, 128});
    expect_error(status, c.text);
    expect_error(status, "test_kernel, block (0, 0, 0), thread 3: ");
  }
}

TEST(HostHopper, ForgetsTheBarriersOfOtherBlocks) {
  expect_error(run(
                   [] {
                     auto* const m = reinterpret_cast<Mbarrier*>(shared());
                     if (block_x() == 0 && thread_index() == 0) mbarrier_init(m, 1);
                     if (block_x() == 1 && thread_index() == 0) mbarrier_arrive(m);
                   },
                   Shape{{2, 1, 1}, 32, 8}),
               "block (1, 0, 0), thread 0: a barrier in shared memory that nobody initialised");
}

// ---- Products ----------------------------------------------------------------------------------------------------

// Shared memory of the product tests: room to align to an atom, then 128 rows of 64 values.
constexpr int kMatrixBytes = kWgColumns * kAtomColumns * 2;
constexpr int kProductShared = kAtomBytes + kMatrixBytes;
uint8_t* aligned_matrix() {
  return shared() + (kAtomBytes - shared_address(shared()) % kAtomBytes) % kAtomBytes;
}
void fill_matrix(const std::vector<uint16_t>& b) {  // [row][64 values of k]
  auto* const to = reinterpret_cast<uint16_t*>(aligned_matrix());
  for (int i = thread_index(); i < kWgColumns * kAtomColumns; i += n_threads()) {
    const int row = i / kAtomColumns, k = i % kAtomColumns;
    to[row / kAtomRows * kAtomRows * kAtomColumns + atom_index(row % kAtomRows, k)] = b[static_cast<size_t>(i)];
  }
  barrier();
}

// The fragments and the matrix in shared memory, written out here once more from the PTX ISA ("Matrix Fragments for
// wgmma.mma_async.m64nNk16", "Shared Memory Matrix Layout").
TEST(HostHopper, WarpgroupsMultiplyAsDocumented) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> small(-9, 9);
  std::vector<uint16_t> a(64 * 64), b(128 * 64);  // [row][k], [column][k]
  for (uint16_t& v : a) v = float_to_bf16(static_cast<float>(small(random)));
  for (uint16_t& v : b) v = float_to_bf16(static_cast<float>(small(random)));
  for (const Order order : kOrders) {
    std::vector<float> out(2 * 64 * 128);
    expect_ok(run(
        [&] {
          fill_matrix(b);
          const int w = warp_index() % 4, g = lane_index() / 4, t = lane_index() % 4;
          const uint64_t descriptor = swizzled_descriptor(shared_address(aligned_matrix()));
          const auto pair = [&](int row, int k) {
            const uint16_t* p = &a[static_cast<size_t>((16 * w + row) * 64 + k)];
            return p[0] | static_cast<uint32_t>(p[1]) << 16;
          };
          float d[64];
          for (float& v : d) v = 0.5f;
          uint32_t operand[4][4];
          for (int s = 0; s < 4; ++s) {
            operand[s][0] = pair(g, s * 16 + 2 * t);
            operand[s][1] = pair(g + 8, s * 16 + 2 * t);
            operand[s][2] = pair(g, s * 16 + 2 * t + 8);
            operand[s][3] = pair(g + 8, s * 16 + 2 * t + 8);
            warpgroup_fence();
            warpgroup_mma_bf16(d, operand[s], descriptor + static_cast<uint64_t>(s) * 2);
            warpgroup_commit();
            if (s > 0) warpgroup_wait<1>();
            EXPECT_NE(d[0], d[0]) << "accumulators are not to be read yet";
          }
          warpgroup_finish(d);
          for (int j = 0; j < 16; ++j) {
            for (int e = 0; e < 4; ++e) {
              const int row = 16 * w + g + e / 2 * 8, column = 8 * j + 2 * t + e % 2;
              out[static_cast<size_t>((warp_index() / 4 * 64 + row) * 128 + column)] = d[4 * j + e];
            }
          }
        },
        Shape{{1, 1, 1}, 2 * kWarpgroup, kProductShared}, order));
    for (size_t row = 0; row < 64; ++row) {
      for (size_t column = 0; column < 128; ++column) {
        float want = 0.5f;
        for (size_t k = 0; k < 64; ++k) want += bf16_to_float(a[row * 64 + k]) * bf16_to_float(b[column * 64 + k]);
        ASSERT_EQ(out[row * 128 + column], want) << row << ", " << column;
        ASSERT_EQ(out[(64 + row) * 128 + column], want) << "the other warpgroup";
      }
    }
  }
}

// Operand B of n columns from a matrix of 64 x kColumns in panels: transposed, its rows are those of B and n is
// kColumns; else they are its columns, n is 64. 64 x k by k x n, twice: the second time the sum begins anew.
template <int kColumns, bool transposed, bool half>
void expect_products_from_panels(Order order) {
  using Matrix = Panels<64, kColumns>;
  constexpr int kDepth = transposed ? 64 : kColumns, kN = transposed ? kColumns : 64;
  const auto bits_of = [](float v) { return half ? float_to_half(v) : float_to_bf16(v); };
  std::mt19937 random(3);
  std::uniform_int_distribution<int> small(-9, 9);
  std::vector<float> a(64 * kDepth), b(64 * kColumns), out(64 * kN);  // [row][k]; as it lies
  for (float& v : a) v = static_cast<float>(small(random));
  for (float& v : b) v = static_cast<float>(small(random));
  expect_ok(run(
      [&] {
        uint8_t* const memory = aligned_matrix();
        for (int i = thread_index(); i < 64 * kColumns; i += n_threads()) {
          const uint32_t at = place_in_panels(64, kColumns, i / kColumns, i % kColumns);
          *reinterpret_cast<uint16_t*>(memory + at) = bits_of(b[static_cast<size_t>(i)]);
        }
        barrier();
        const int w = warp_index(), g = lane_index() / 4, t = lane_index() % 4;
        uint32_t operand[kDepth / 16][4];
        for (int i = 0; i < kDepth / 4; ++i) {
          const float* p =
              &a[static_cast<size_t>((16 * w + g + i % 2 * 8) * kDepth + i / 4 * 16 + i % 4 / 2 * 8 + 2 * t)];
          operand[i / 4][i % 4] = bits_of(p[0]) | static_cast<uint32_t>(bits_of(p[1])) << 16;
        }
        float d[kN / 2];
        for (float& v : d) v = 1e9f;
        const auto multiply = [&](const uint32_t(&one)[4], uint64_t descriptor, [[maybe_unused]] auto add) {
          if constexpr (half) {
            warpgroup_mma_half<transposed, decltype(add)::value>(d, one, descriptor);
          } else {
            warpgroup_mma_bf16<transposed, decltype(add)::value>(d, one, descriptor);
          }
        };
        for (int turn = 0; turn < 2; ++turn) {
          warpgroup_fence();
          for (int s = 0; s < kDepth / 16; ++s) {
            const uint32_t address = shared_address(memory);
            const uint64_t descriptor = transposed ? Matrix::by_columns(address) + Matrix::row_step(s)
                                                   : Matrix::by_rows(address) + Matrix::column_step(s);
            s == 0 ? multiply(operand[s], descriptor, std::false_type{})
                   : multiply(operand[s], descriptor, std::true_type{});
          }
          warpgroup_commit();
        }
        warpgroup_wait<0>(d);
        for (int i = 0; i < kN / 2; ++i) {
          const int row = 16 * w + g + i % 4 / 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
          out[static_cast<size_t>(row * kN + column)] = d[i];
        }
      },
      Shape{{1, 1, 1}, kWarpgroup, kAtomBytes + Matrix::kBytes}, order));
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < kN; ++column) {
      float want = 0;
      for (int k = 0; k < kDepth; ++k) {
        const int at = transposed ? k * kColumns + column : column * kColumns + k;
        want += a[static_cast<size_t>(row * kDepth + k)] * b[static_cast<size_t>(at)];
      }
      ASSERT_EQ(out[static_cast<size_t>(row * kN + column)], want) << row << ", " << column;
    }
  }
}
TEST(HostHopper, WarpgroupsMultiplyPanels) {
  expect_products_from_panels<64, false, false>(Order::kForward);
  expect_products_from_panels<64, true, true>(Order::kReverse);
  expect_products_from_panels<80, false, true>(Order::kRandom);
  expect_products_from_panels<80, true, false>(Order::kForward);
  expect_products_from_panels<128, false, false>(Order::kReverse);
  expect_products_from_panels<128, true, true>(Order::kRandom);
}

// What cp_async() copied, whoever multiplies: a fence of the thread that copied, then a barrier.
TEST(HostHopper, ProductsWantCopiesToBeFenced) {
  const std::vector<uint16_t> zeros(kWgColumns * kAtomColumns);
  for (const bool fenced : {true, false}) {
    const Status status = run(
        [&] {
          fill_matrix(zeros);
          if (thread_index() == 40) {
            cp_async(aligned_matrix() + 2 * kAtomBytes, zeros.data(), true);
            cp_async_commit();
            cp_async_wait<0>();
            if (fenced) shared_fence();
          }
          barrier();
          float d[64] = {};
          const uint32_t a[4] = {};
          warpgroup_fence();
          warpgroup_mma_bf16(d, a, swizzled_descriptor(shared_address(aligned_matrix())));
          warpgroup_commit();
          warpgroup_finish(d);
        },
        Shape{{1, 1, 1}, kWarpgroup, kProductShared});
    if (fenced) {
      expect_ok(status);
    } else {
      expect_error(status, "shared memory that was copied to, and not fenced");
    }
  }
}

TEST(HostHopper, FindsWrongProducts) {
  const std::vector<uint16_t> zeros(kWgColumns * kAtomColumns);
  struct Case {
    const char* text;
    std::function<void(float (&)[64], uint32_t (&)[4], uint64_t)> use;
  };
  const auto start = [](float(&d)[64], uint32_t(&a)[4], uint64_t b) {
    warpgroup_fence();
    warpgroup_mma_bf16(d, a, b);
    warpgroup_commit();
  };
  const auto changed = [&](auto change) {  // by one thread, while the product is under way
    return [start, change](float(&d)[64], uint32_t(&a)[4], uint64_t b) {
      start(d, a, b);
      if (thread_index() == 77) change(d, a);
      warpgroup_wait<0>();
    };
  };
  const Case cases[] = {
      {"without a fence", [](auto& d, auto& a, uint64_t b) { warpgroup_mma_bf16(d, a, b); }},
      {"without a fence",
       [&](auto& d, auto& a, uint64_t b) {
         start(d, a, b);
         warpgroup_mma_bf16(d, a, b);
       }},
      {"register operands of a product under way were changed", changed([](auto&, auto& a) { a[2] = 1; })},
      {"shared memory that a product under way reads was changed",
       changed([](auto&, auto&) { aligned_matrix()[kMatrixBytes - kAtomBytes] = 1; })},
      {"accumulators of a product under way were changed", changed([](auto& d, auto&) { d[63] = 0; })},
      {"accumulators of a product under way were changed",
       [&](auto& d, auto& a, uint64_t b) {
         start(d, a, b);
         d[5] = 0;
         start(d, a, b);
       }},
      {"not start at an atom", [&](auto& d, auto& a, uint64_t b) { start(d, a, b + 8); }},
      {"out of shared memory", [&](auto& d, auto& a, uint64_t b) { start(d, a, b + kAtomBytes / 16 * 2); }},
      {"without a swizzle", [&](auto& d, auto& a, uint64_t b) { start(d, a, b & ~(uint64_t{3} << 62)); }},
      {"not start at an atom",  // transposed
       [](auto& d, auto& a, uint64_t b) {
         warpgroup_fence();
         warpgroup_mma_bf16<true>(d, a, b + 2);
       }},
      {"base offset", [&](auto& d, auto& a, uint64_t b) { start(d, a, b | uint64_t{1} << 49); }},
      {"the lanes of a warp multiply by different matrices",
       [&](auto& d, auto& a, uint64_t b) { start(d, a, b + (lane_index() == 9 ? 2 : 0)); }},
      {"the warps of a warpgroup multiply by different matrices",
       [&](auto& d, auto& a, uint64_t b) { start(d, a, b + (warp_index() == 2 ? 2 : 0)); }},
  };
  for (const Case& c : cases) {
    expect_error(run(
                     [&] {
                       fill_matrix(zeros);
                       float d[64] = {};
                       uint32_t a[4] = {};
                       c.use(d, a, swizzled_descriptor(shared_address(aligned_matrix())));
                     },
                     Shape{{1, 1, 1}, kWarpgroup, kProductShared}),
                 c.text);
  }
  expect_error(run(
                   [&] {
                     fill_matrix(zeros);
                     float d[64] = {};
                     const uint32_t a[4] = {};
                     warpgroup_fence();
                     warpgroup_mma_bf16(d, a, swizzled_descriptor(shared_address(aligned_matrix())));
                   },
                   Shape{{1, 1, 1}, 2 * kWarp, kProductShared}),
               "a warpgroup that is not complete");
}

}  // namespace
}  // namespace glimpse::cuda
