#include "tools/serve/memory_budget.h"

namespace glimpse::serve {

bool MemoryBudget::take(uint64_t n) {
  const std::lock_guard lock(mutex_);
  if (n > n_bytes_ - used_) return false;
  used_ += n;
  return true;
}

void MemoryBudget::give_back(uint64_t n) {
  const std::lock_guard lock(mutex_);
  used_ -= n;
}

bool BudgetShare::take(const std::shared_ptr<MemoryBudget>& from, uint64_t n) {
  give_back();
  if (!from->take(n)) return false;
  budget_ = from;
  n_ = n;
  return true;
}

void BudgetShare::give_back() {
  if (budget_ != nullptr) budget_->give_back(n_);
  budget_ = nullptr;
}

}  // namespace glimpse::serve
