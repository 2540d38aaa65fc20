#include "engine/generate/workbench.h"

#include <utility>

namespace glimpse {

Result<std::shared_ptr<Workbench>> Workbench::create(const std::shared_ptr<const Model>& model,
                                                     const SessionSizes& sizes, std::unique_ptr<Ops> ops,
                                                     KvElement kv_element) {
  auto bench = std::make_shared<Workbench>();
  bench->ops = std::move(ops);
  GLIMPSE_ASSIGN(bench->pages, KvPages::create(*model, *bench->ops, KvPages::pages_for(sizes.pool_slots), kv_element));
  GLIMPSE_ASSIGN(bench->decoder, TextDecoder::create(model, *bench->ops, sizes.context, sizes.batch));
  if (sizes.draft.model != nullptr) {
    GLIMPSE_ASSIGN(bench->draft, DraftBench::create(*model, sizes, *bench->ops, kv_element));
  }
  if (model->has_vision()) {
    GLIMPSE_ASSIGN(bench->encoder, PictureEncoder::create(model, *bench->ops, sizes));
  }
  return bench;
}

}  // namespace glimpse
