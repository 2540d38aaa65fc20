// One prompt through both passes of a model, with every activation handed out.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/log.h"
#include "engine/base/result.h"
#include "engine/model/model.h"
#include "tools/eval/activations.h"
#include "tools/eval/pictures.h"

namespace glimpse::eval {

struct TraceInput {
  std::string prompt;                 // pictures stand at their places in it (prompt::place_pictures())
  bool raw = false;                   // no chat format: the prompt is the text
  std::vector<std::string> images;    // paths
  std::vector<std::string> prefixes;  // only activations whose name starts with one of these; empty: all
  std::function<void(const std::string& name)> on_step;  // called for every activation, wanted or not
  PictureLimits picture_limits;
  KvElement kv_element = KvElement::kF16;
  int n_threads = 0;
};

/// Called for each activation in model order, pictures first. An error ends the run.
using ActivationSink = std::function<Status(Activation activation)>;

/// Runs the prompt; returns its token ids. Memory for the activations of one pass is what the sink keeps, and the
/// logits of every row. Errors: kInvalidArgument: pictures and places do not match, or a model without vision; those of
/// the tokenizer, the picture loader and the passes.
Result<std::vector<int32_t>> trace(const std::shared_ptr<const Model>& model, const TraceInput& input,
                                   const ActivationSink& sink, const ProgressSink& progress);

}  // namespace glimpse::eval
