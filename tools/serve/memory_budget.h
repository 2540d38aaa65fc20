// Memory that all requests together may take, of one kind.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

namespace glimpse::serve {

/// Bytes that several threads share.
class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t n_bytes) : n_bytes_(n_bytes) {}
  uint64_t n_bytes() const { return n_bytes_; }
  bool take(uint64_t n);
  void give_back(uint64_t n);

 private:
  const uint64_t n_bytes_;
  std::mutex mutex_;
  uint64_t used_ = 0;
};

/// Somebody's part of a budget, given back when it goes.
class BudgetShare {
 public:
  BudgetShare() = default;
  ~BudgetShare() { give_back(); }
  BudgetShare(const BudgetShare&) = delete;
  BudgetShare& operator=(const BudgetShare&) = delete;
  /// Instead of what it had before. False: there is not so much left, and it has nothing.
  bool take(const std::shared_ptr<MemoryBudget>& from, uint64_t n);

 private:
  void give_back();
  std::shared_ptr<MemoryBudget> budget_;
  uint64_t n_ = 0;
};

}  // namespace glimpse::serve
