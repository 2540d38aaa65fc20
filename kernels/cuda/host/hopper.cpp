#include "kernels/cuda/host/hopper.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <unordered_map>
#include <vector>

#include "kernels/cuda/host/executor.h"

namespace glimpse::cuda::host {
namespace {

constexpr int kLanes = 32;
constexpr int kDepth = 16;                        // values of k in one product
constexpr uint64_t kMagic = 0x6d62617272696572u;  // what a barrier's memory holds
constexpr uint32_t kNaN = 0xffffffffu;            // what accumulators hold while a product is under way
constexpr int kMaxExpected = (1 << 20) - 1;       // PTX ISA, "mbarrier": the range of both counts

struct BulkCopy {
  uint8_t* to;
  std::vector<uint8_t> bytes;
  int from;  // the block of the cluster that started it
};

struct Barrier {
  int n_arrivals = 0, pending = 0;
  int64_t missing_bytes = 0;
  uint64_t phase = 0;  // how many are over
  int thread = 0;      // that initialised it
  bool published = false;
  uint64_t published_at = 0;  // how often the cluster had met then
  std::vector<BulkCopy> copies;
};

// A product of one warp: what its lanes brought, and B as it was then.
struct Product {
  WarpgroupProduct of_lane;  // of its first: d and a are each lane's own
  int group = 0;
  std::array<float*, kLanes> d{};
  std::array<const uint32_t*, kLanes> a{};
  std::array<std::array<uint32_t, 4>, kLanes> a_then{};
  std::vector<uint16_t> b_then;
};

struct Warp {
  Product next;  // lanes fill it in
  std::vector<Product> started;
  std::map<float*, std::vector<float>> sums;  // accumulators of products under way
  int open_group = 0;
  bool fenced = false;
  bool wrong = false;  // lanes brought different things
  size_t n_products = 0;
};

// Of a block.
struct State {
  std::unordered_map<const uint64_t*, Barrier> barriers;
  std::vector<Warp> warps;
  std::vector<std::vector<uint64_t>> descriptors;  // of the products of each warpgroup, in order
};
// Of the blocks of the cluster that runs.
struct States {
  uint64_t serial = 0;  // of its first block
  std::vector<State> blocks;
};
thread_local States t_states;

uint64_t serial_of_cluster() {
  return current().serial - static_cast<uint64_t>(current().rank);
}
State& state_of(int rank) {
  if (t_states.serial != serial_of_cluster()) {
    t_states.serial = serial_of_cluster();
    t_states.blocks.assign(static_cast<size_t>(current().cluster), State{});
    for (State& s : t_states.blocks) {
      s.warps.resize(static_cast<size_t>(current().n_threads / kLanes));
      s.descriptors.resize((s.warps.size() + 3) / 4);
    }
  }
  return t_states.blocks[static_cast<size_t>(rank)];
}
State& state() {
  return state_of(current().rank);
}

size_t warp_number() {
  return static_cast<size_t>(current().thread / kLanes);
}
Warp& warp() {
  return state().warps[warp_number()];
}

bool in_shared(const void* pointer, int64_t n_bytes) {
  const auto* p = static_cast<const uint8_t*>(pointer);
  return p >= current().shared && p + n_bytes <= current().shared + current().shared_bytes;
}

// What lies in block `rank` of the cluster where p lies in this one.
template <typename T>
T* in_block(int rank, T* p) {
  return reinterpret_cast<T*>(block_of_cluster(rank).shared + (reinterpret_cast<uint8_t*>(p) - current().shared));
}

// m: in this block; the barrier there in block `rank`.
Barrier& barrier_at(uint64_t* m, int rank) {
  const uint64_t* const there = rank == current().rank ? m : in_block(rank, m);
  State& of_block = state_of(rank);
  const auto found = of_block.barriers.find(there);
  const bool found_it = found != of_block.barriers.end();
  if (rank != current().rank &&
      (!found_it || !found->second.published || cluster_meetings_seen() <= found->second.published_at)) {
    fail("a barrier of another block that was not published before the cluster met");
  }
  if (!found_it) fail("a barrier in shared memory that nobody initialised");
  if (*there != kMagic) fail("the memory of a barrier was written over");
  return found->second;
}
Barrier& barrier_at(uint64_t* m) {
  return barrier_at(m, current().rank);
}

// Phases end when all arrived and all bytes are here.
void end_phase(Barrier& b) {
  if (b.pending > 0 || b.missing_bytes != 0) return;
  ++b.phase;
  b.pending = b.n_arrivals;
}

// As late as can be: somebody waits for them.
void deliver(Barrier& b) {
  for (BulkCopy& copy : b.copies) {
    std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
    b.missing_bytes -= static_cast<int64_t>(copy.bytes.size());
  }
  if (b.copies.empty()) return;
  b.copies.clear();
  end_phase(b);
}

void arrive(Barrier& b, int expected_bytes) {
  if (b.pending == 0) fail("one arrival more than a phase of a barrier counts");
  b.missing_bytes += expected_bytes;
  if (expected_bytes < 0 || b.missing_bytes > kMaxExpected) fail("more bytes than a barrier counts");
  --b.pending;
  end_phase(b);
}

// What a descriptor says ("Matrix Descriptor Format" and "Strides" of the PTX ISA), in bytes.
struct Matrix {
  uint32_t start, leading, stride, swizzle;
  bool transposed;

  explicit Matrix(const WarpgroupProduct& p)
      : start(static_cast<uint32_t>(p.descriptor & 0x3fff) << 4),
        leading(static_cast<uint32_t>(p.descriptor >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(p.descriptor >> 32 & 0x3fff) << 4),
        swizzle(static_cast<uint32_t>(p.descriptor >> 62)),
        transposed(p.transposed) {}
  // Of a row of an atom; 1, 2 and 3 are swizzles of 128, 64 and 32 bytes.
  uint32_t row_bytes() const { return 256u >> swizzle; }

  // Element (k, column) of operand B. Null where it lies outside of shared memory.
  const uint16_t* element(uint32_t k, uint32_t column) const {
    // Along a row of an atom, from row to row, from atom to atom.
    const uint32_t along = transposed ? column : k, down = transposed ? k : column;
    const uint32_t width = row_bytes() / 2;
    uint32_t address = start + along / width * leading + along % width * 2 + down / 8 * stride + down % 8 * row_bytes();
    address ^= (address >> 7 & (row_bytes() / 16 - 1)) << 4;
    if (address < kSharedWindow || address + 2 > kSharedWindow + static_cast<uint32_t>(current().shared_bytes)) {
      return nullptr;
    }
    return reinterpret_cast<const uint16_t*>(current().shared + (address - kSharedWindow));
  }
};

// The first reason why a device would not multiply what the descriptor says, or null.
const char* complaint(const WarpgroupProduct& p) {
  const Matrix m(p);
  if (m.swizzle == 0) return "a descriptor without a swizzle";
  if ((p.descriptor >> 49 & 7) != 0) return "a descriptor with a base offset";
  const uint32_t in_atom = m.start % (8 * m.row_bytes()), used = p.transposed ? m.row_bytes() : 2 * kDepth;
  if (in_atom + used > m.row_bytes()) return "a descriptor that does not start at an atom";
  for (uint32_t column = 0; column < static_cast<uint32_t>(p.n_columns); ++column) {
    for (uint32_t k = 0; k < kDepth; ++k) {
      const uint16_t* const at = m.element(k, column);
      if (at == nullptr) return "a descriptor that reaches out of shared memory";
      if (copied_without_fence(at)) return "shared memory that was copied to, and not fenced";
    }
  }
  return nullptr;
}

// (16, n_columns), as shared memory holds it now.
std::vector<uint16_t> operand_b(const WarpgroupProduct& p) {
  const Matrix m(p);
  std::vector<uint16_t> b;
  for (uint32_t k = 0; k < kDepth; ++k) {
    for (uint32_t column = 0; column < static_cast<uint32_t>(p.n_columns); ++column) b.push_back(*m.element(k, column));
  }
  return b;
}

// The 64 x n product is four of 16 x n, one per warp.
void multiply(Warp& w, const Product& p) {
  float a[kDepth][kDepth];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const uint32_t bits = p.a_then[static_cast<size_t>(lane)][static_cast<size_t>(i)];
      const int row = g + 8 * (i % 2), column = 2 * t + 8 * (i / 2);
      a[row][column] = p.of_lane.value(bits & 0xffffu);
      a[row][column + 1] = p.of_lane.value(bits >> 16);
    }
  }
  const auto n = static_cast<size_t>(p.of_lane.n_columns);
  std::vector<double> b(kDepth * n), sums(n);
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<double>(p.of_lane.value(p.b_then[i]));
  for (size_t row = 0; row < kDepth; ++row) {
    // Row g or g + 8 of the four lanes of a group; the sum over k in double, rounded once.
    float* of_lane[4];
    for (size_t t = 0; t < 4; ++t) of_lane[t] = w.sums[p.d[row % 8 * 4 + t]].data();
    const auto sum_of = [&](size_t column) -> float& {
      return of_lane[column % 8 / 2][column / 8 * 4 + row / 8 * 2 + column % 2];
    };
    for (size_t column = 0; column < n; ++column) {
      sums[column] = p.of_lane.add ? static_cast<double>(sum_of(column)) : 0;
    }
    for (size_t k = 0; k < kDepth; ++k) {
      const auto factor = static_cast<double>(a[row][k]);
      for (size_t column = 0; column < n; ++column) sums[column] += factor * b[k * n + column];
    }
    for (size_t column = 0; column < n; ++column) sum_of(column) = static_cast<float>(sums[column]);
  }
}

bool holds_nan_pattern(const float* d, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (std::memcmp(d + i, &kNaN, sizeof kNaN) != 0) return false;
  }
  return true;
}

// One lane does it for the warp. Null, or what a kernel did to operands of a product under way.
const char* finish_products(Warp& w, int pending) {
  const auto is_due = [&](const Product& p) { return p.group < w.open_group - pending; };
  for (const Product& p : w.started) {
    if (!is_due(p)) continue;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (!std::equal(p.a_then[lane].begin(), p.a_then[lane].end(), p.a[lane])) {
        return "register operands of a product under way were changed";
      }
    }
    if (operand_b(p.of_lane) != p.b_then) return "shared memory that a product under way reads was changed";
    multiply(w, p);
  }
  std::erase_if(w.started, is_due);
  for (auto it = w.sums.begin(); it != w.sums.end();) {
    float* const d = it->first;
    const bool busy = std::any_of(w.started.begin(), w.started.end(),
                                  [&](const Product& p) { return std::find(p.d.begin(), p.d.end(), d) != p.d.end(); });
    if (!holds_nan_pattern(d, it->second.size())) return "accumulators of a product under way were changed";
    if (busy) {
      ++it;
      continue;
    }
    std::copy(it->second.begin(), it->second.end(), d);
    it = w.sums.erase(it);
  }
  return nullptr;
}

// Lane 0 of the last product of the warp: everything is in next.
const char* start_product(Warp& w) {
  if (w.wrong) return "the lanes of a warp multiply by different matrices";
  if (!w.fenced) return "a product without a fence before its group";
  Product& p = w.next;
  if (const char* why = complaint(p.of_lane)) return why;
  const size_t n_warps = state().warps.size();
  if (warp_number() / 4 * 4 + 4 > n_warps) return "a product of a warpgroup that is not complete";
  std::vector<uint64_t>& of_group = state().descriptors[warp_number() / 4];
  if (w.n_products == of_group.size()) of_group.push_back(p.of_lane.descriptor);
  if (of_group[w.n_products++] != p.of_lane.descriptor)
    return "the warps of a warpgroup multiply by different matrices";
  p.group = w.open_group;
  p.b_then = operand_b(p.of_lane);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    std::copy_n(p.a[lane], 4, p.a_then[lane].begin());
    float* const d = p.d[lane];
    const size_t n = static_cast<size_t>(p.of_lane.n_columns) / 2;
    const auto [it, fresh] = w.sums.try_emplace(d);
    if (fresh) {
      it->second.assign(d, d + n);
      std::memset(d, 0xff, n * sizeof(float));
    } else if (it->second.size() != n || !holds_nan_pattern(d, n)) {
      return "accumulators of a product under way were changed";
    }
  }
  w.started.push_back(std::move(p));
  p = {};
  return nullptr;
}

}  // namespace

uint32_t shared_address(const void* pointer) {
  return kSharedWindow + static_cast<uint32_t>(static_cast<const uint8_t*>(pointer) - current().shared);
}

void mbarrier_init(uint64_t* m, int n_arrivals) {
  if (!in_shared(m, 8) || reinterpret_cast<uintptr_t>(m) % 8 != 0) fail("a barrier that is not in shared memory");
  if (n_arrivals < 1 || n_arrivals > kMaxExpected) fail("a barrier for a number of arrivals that it cannot count");
  *m = kMagic;
  Barrier b;
  b.n_arrivals = b.pending = n_arrivals;
  b.thread = current().thread;
  state().barriers[m] = std::move(b);
}

void mbarrier_publish() {
  for (auto& [m, b] : state().barriers) {
    if (b.thread != current().thread || b.published) continue;
    b.published = true;
    b.published_at = cluster_meetings();
  }
}

void mbarrier_arrive_at(uint64_t* m, int rank) {
  arrive(barrier_at(m, rank), 0);
}

void mbarrier_arrive(uint64_t* m, int expected_bytes) {
  arrive(barrier_at(m), expected_bytes);
}

void mbarrier_wait(uint64_t* m, int parity) {
  struct Wish {
    Barrier& barrier;
    uint64_t parity;
  } wish{barrier_at(m), static_cast<uint64_t>(parity)};
  wait_until(
      [](void* argument) {
        const Wish& w = *static_cast<const Wish*>(argument);
        deliver(w.barrier);
        return (w.barrier.phase & 1) != w.parity;
      },
      &wish, "a barrier in shared memory");
}

void bulk_copy(void* to, const void* from, int n_bytes, uint64_t* m, uint32_t blocks) {
  if (n_bytes <= 0 || n_bytes % 16 != 0 || shared_address(to) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    fail("a bulk copy that is not of whole, aligned pieces of 16 bytes");
  }
  if (!in_shared(to, n_bytes)) fail("a bulk copy to outside of shared memory");
  if (blocks == 0 || blocks >> current().cluster != 0) fail("a bulk copy to blocks that the cluster does not have");
  const auto* const source = static_cast<const uint8_t*>(from);
  for (int rank = 0; rank < current().cluster; ++rank) {
    if ((blocks >> rank & 1) == 0) continue;
    Barrier& b = barrier_at(m, rank);
    auto* const there = static_cast<uint8_t*>(rank == current().rank ? to : in_block(rank, to));
    b.copies.push_back({there, std::vector<uint8_t>(source, source + n_bytes), current().rank});
    std::memset(there, 0xff, static_cast<size_t>(n_bytes));
  }
}

void bulk_copy(void* to, const void* from, int n_bytes, uint64_t* m) {
  bulk_copy(to, from, n_bytes, m, 1u << current().rank);
}

const char* copies_under_way() {
  if (t_states.serial != serial_of_cluster()) return nullptr;
  for (size_t rank = 0; rank < t_states.blocks.size(); ++rank) {
    const bool mine = static_cast<int>(rank) == current().rank;
    for (const auto& [m, b] : t_states.blocks[rank].barriers) {
      for (const BulkCopy& copy : b.copies) {
        if (mine) return "its block ends before what is copied there has arrived";
        if (copy.from == current().rank) return "its block ends before what it copies to another has arrived";
      }
    }
  }
  return nullptr;
}

void warpgroup_fence() {
  warp_barrier();
  warp().fenced = true;
}

void warpgroup_commit() {
  warp_barrier();
  if (current().thread % kLanes == 0) {
    ++warp().open_group;
    warp().fenced = false;
  }
  warp_barrier();
}

void warpgroup_wait(int pending) {
  warp_barrier();
  if (current().thread % kLanes == 0) {
    if (const char* why = finish_products(warp(), pending)) fail(why);
  }
  warp_barrier();
}

void warpgroup_mma(const WarpgroupProduct& product) {
  const auto lane = static_cast<size_t>(current().thread % kLanes);
  Warp& w = warp();
  warp_barrier();
  if (lane == 0) {
    w.next.of_lane = product;
    w.wrong = false;
  }
  w.next.d[lane] = product.d;
  w.next.a[lane] = product.a;
  warp_barrier();
  if (w.next.of_lane.descriptor != product.descriptor || w.next.of_lane.n_columns != product.n_columns) w.wrong = true;
  warp_barrier();
  if (lane == 0) {
    if (const char* why = start_product(w)) fail(why);
  }
  warp_barrier();
}

}  // namespace glimpse::cuda::host
