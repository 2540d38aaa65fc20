#include "engine/model/check_model.h"

#include <algorithm>
#include <utility>

#include "engine/model/one_file.h"
#include "engine/model/read_tokenizer.h"
#include "engine/model/unused_tensors.h"
#include "engine/model/weights.h"

namespace glimpse {
namespace {

Status check_text(const GgufFile& file, Ops& ops, std::vector<UnusedTensors>& unused) {
  GLIMPSE_ASSIGN(const TextConfig config, read_text_config(file));
  GLIMPSE_TRY(read_tokenizer(file, config));
  WeightReader reader = WeightReader::checker(file, ops);
  GLIMPSE_TRY(read_text_weights(reader, config, WeightPrecision::kAsStored));
  GLIMPSE_ASSIGN(unused, find_unused_tensors(file, reader.used(), ModelSide::kText, config.num_hidden_layers));
  return {};
}

Status check_vision(const GgufFile& file, Ops& ops, std::vector<UnusedTensors>& unused) {
  GLIMPSE_ASSIGN(const VisionConfig config, read_vision_config(file));
  WeightReader reader = WeightReader::checker(file, ops);
  GLIMPSE_TRY(read_vision_weights(reader, config, WeightPrecision::kAsStored));
  GLIMPSE_ASSIGN(unused, find_unused_tensors(file, reader.used(), ModelSide::kVision, config.num_hidden_layers));
  return {};
}

Status check(const GgufFile& file, std::vector<UnusedTensors>& unused) {
  GLIMPSE_ASSIGN(const std::string architecture, file.require_string("general.architecture"));
  const std::unique_ptr<Ops> ops = make_ref_ops();  // counts bytes; nothing is packed
  if (architecture == "clip") return check_vision(file, *ops, unused);
  GLIMPSE_TRY(check_text(file, *ops, unused));
  if (!has_vision_inside(file)) return {};
  GLIMPSE_ASSIGN(const GgufFile inside, vision_inside(file));
  std::vector<UnusedTensors> of_vision;  // its names are not the file's: only whether it can be read is told
  GLIMPSE_TRY(check_vision(inside, *ops, of_vision));
  std::erase_if(unused, [](const UnusedTensors& group) {
    return std::all_of(group.tensors.begin(), group.tensors.end(),
                       [](const GgufTensor* tensor) { return is_vision_tensor(tensor->name); });
  });
  return {};
}

}  // namespace

std::vector<GgufFinding> check_model(const GgufFile& file) {
  std::vector<GgufFinding> findings;
  if (file.tensors().empty()) return findings;
  std::vector<UnusedTensors> unused;
  if (const Status status = check(file, unused); !status.ok()) {
    findings.push_back({GgufFinding::Level::kWarning, "glimpse does not load this file: " + status.error().message});
  }
  for (const UnusedTensors& group : unused) {
    findings.push_back({GgufFinding::Level::kWarning, group.changes_result
                                                          ? "glimpse does not load this file: " + group.describe()
                                                          : group.describe()});
  }
  return findings;
}

}  // namespace glimpse
