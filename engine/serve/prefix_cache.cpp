#include "engine/serve/prefix_cache.h"

#include <algorithm>
#include <new>
#include <utility>

namespace glimpse {
namespace {

constexpr size_t kPageRows = static_cast<size_t>(kKeyBlock);

}  // namespace

// Every node below `node`, children before their parents.
template <typename See>
void PrefixCache::walk(Node& node, See&& see) {
  for (const std::unique_ptr<Node>& child : node.children) {
    walk(*child, see);
    see(*child);
  }
}

PrefixCache::~PrefixCache() {
  walk(root_, [&](Node& node) { pages_->give_back(node.page); });
}

// The child with the most rows in common with `rows`.
PrefixCache::Child PrefixCache::best_child(const Node& parent, std::span<const RowKey> rows) {
  Child best;
  for (const std::unique_ptr<Node>& child : parent.children) {
    const auto differ = std::mismatch(child->rows.begin(), child->rows.end(), rows.begin(), rows.end());
    const auto n = static_cast<size_t>(differ.first - child->rows.begin());
    if (n > best.n_alike) best = {child.get(), n};
  }
  return best;
}

// The nodes that hold the beginning of rows, each with the number of rows in common.
template <typename See>
void PrefixCache::descend(std::span<const RowKey> rows, See&& see) const {
  for (const Node* node = &root_; !rows.empty();) {
    const Child child = best_child(*node, rows);
    if (child.node == nullptr) return;
    see(*child.node, static_cast<int64_t>(child.n_alike));
    if (child.n_alike < kPageRows) return;
    rows = rows.subspan(kPageRows);
    node = child.node;
  }
}

PrefixCache::Match PrefixCache::find(std::span<const RowKey> rows) {
  Match match;
  ++tick_;
  descend(rows, [&](Node& node, int64_t n) {
    match.pages.push_back(node.page);
    match.n_rows += n;
    node.last_used = tick_;
  });
  return match;
}

int64_t PrefixCache::n_rows_known(std::span<const RowKey> rows) const {
  int64_t n_rows = 0;
  descend(rows, [&](const Node&, int64_t n) { n_rows += n; });
  return n_rows;
}

void PrefixCache::keep(std::span<const RowKey> rows, KvCache& cache) {
  ++tick_;
  Node* node = &root_;
  for (int64_t block = 0; !rows.empty(); ++block) {
    const std::span<const RowKey> here = rows.first(std::min(rows.size(), kPageRows));
    rows = rows.subspan(here.size());
    Child child = best_child(*node, here);
    if (child.n_alike == here.size()) {
      child.node->last_used = tick_;
      // The same rows, the same bits: memory once.
      if (here.size() == kPageRows && !cache.replace_page(block, child.node->page).ok()) return;
      node = child.node;
      continue;
    }
    int32_t gone = -1;
    try {
      if (child.node == nullptr || child.n_alike < child.node->rows.size()) {
        auto added = std::make_unique<Node>();
        added->parent = node;
        child.node = added.get();
        child.node->rows.assign(here.begin(), here.end());
        node->children.push_back(std::move(added));
      } else {  // a leaf that this text goes on from
        child.node->rows.assign(here.begin(), here.end());
        gone = child.node->page;
      }
    } catch (const std::bad_alloc&) {
      return;
    }
    child.node->page = cache.page(block);
    pages_->share(child.node->page);
    if (gone >= 0) pages_->give_back(gone);
    child.node->last_used = tick_;
    node = child.node;
  }
}

int64_t PrefixCache::n_idle() const {
  int64_t n = 0;
  walk(const_cast<Node&>(root_), [&](const Node& node) { n += pages_->is_shared(node.page) ? 0 : 1; });
  return n;
}

bool PrefixCache::make_free(int64_t n) {
  while (pages_->n_free() < n) {
    Node* oldest = nullptr;
    walk(root_, [&](Node& node) {
      const bool goes = node.children.empty() && !pages_->is_shared(node.page);
      if (goes && (oldest == nullptr || node.last_used < oldest->last_used)) oldest = &node;
    });
    if (oldest == nullptr) return false;
    pages_->give_back(oldest->page);
    std::erase_if(oldest->parent->children, [&](const std::unique_ptr<Node>& child) { return child.get() == oldest; });
  }
  return true;
}

}  // namespace glimpse
