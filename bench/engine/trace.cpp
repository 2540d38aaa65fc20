// The trace file: tests, stages and operations as nested events of one thread.
#include <map>
#include <nlohmann/json.hpp>

#include "bench/engine/report.h"
#include "engine/model/weights.h"

namespace glimpse::bench {
namespace {

using Json = nlohmann::ordered_json;

// Which part of the model a weight belongs to: "blk.3", "v.blk.3", "v.merger".
std::map<const PackedWeight*, std::string> weight_places(const Model& model) {
  std::map<const PackedWeight*, std::string> places;
  const auto add = [&](const Linear& linear, const std::string& place) {
    if (linear.weight != nullptr) places[linear.weight.get()] = place;
  };
  const TextWeights& text = model.text_weights();
  add(text.output, "output");
  for (size_t i = 0; i < text.layers.size(); ++i) {
    const DecoderLayerWeights& layer = text.layers[i];
    for (const Linear* linear :
         {&layer.qkv.q, &layer.qkv.k, &layer.qkv.v, &layer.attn_output, &layer.ffn_gate, &layer.ffn_down}) {
      add(*linear, "blk." + std::to_string(i));
    }
    if (!layer.experts) continue;
    const ExpertWeights& experts = *layer.experts;
    for (const Linear* linear : {&experts.router, &experts.down[0]}) add(*linear, "blk." + std::to_string(i));
  }
  if (!model.has_vision()) return places;
  const VisionWeights& vision = model.vision_weights();
  add(vision.patch_embed_still, "v.patch_embd");
  for (size_t i = 0; i < vision.layers.size(); ++i) {
    const VisionLayerWeights& layer = vision.layers[i];
    for (const Linear* linear : {&layer.qkv.q, &layer.attn_output, &layer.gate, &layer.fc1, &layer.fc2}) {
      add(*linear, "v.blk." + std::to_string(i));
    }
  }
  const auto add_merger = [&](const MergerWeights& merger, const std::string& place) {
    add(merger.fc1, place);
    add(merger.fc2, place);
  };
  add_merger(vision.merger, "v.merger");
  for (size_t i = 0; i < vision.deepstack.size(); ++i) {
    add_merger(vision.deepstack[i], "v.deepstack." + std::to_string(i));
  }
  return places;
}

class TraceWriter {
 public:
  TraceWriter(const Model& model, Clock::time_point origin) : places_(weight_places(model)), origin_(origin) {
    metadata("process_name", "glimpse bench");
    metadata("thread_name", "calling thread");
  }

  void add(const TestResult& result) {
    const Timeline& timeline = result.profile->timeline;
    event(result.name, "test", timeline.start, timeline.end, {{"threads", result.n_threads}});
    for (const StageSpan& span : timeline.spans) event(stage_name(span.stage), "stage", span.start, span.end, nullptr);
    std::string place;
    for (const OpRecord& record : result.profile->records) add_op(result, record, place);
  }

  std::string finish() {
    return Json{{"traceEvents", std::move(events_)}, {"displayTimeUnit", "ms"}}.dump(-1, ' ', false,
                                                                                     Json::error_handler_t::replace);
  }

 private:
  double microseconds(Clock::time_point time) const {
    return std::chrono::duration<double, std::micro>(time - origin_).count();
  }

  void metadata(const char* name, const char* value) {
    events_.push_back({{"name", name}, {"ph", "M"}, {"pid", 1}, {"tid", 1}, {"args", {{"name", value}}}});
  }

  void event(const std::string& name, const char* category, Clock::time_point start, Clock::time_point end, Json args) {
    Json entry = {{"name", name},
                  {"cat", category},
                  {"ph", "X"},
                  {"pid", 1},
                  {"tid", 1},
                  {"ts", microseconds(start)},
                  {"dur", microseconds(end) - microseconds(start)}};
    if (!args.is_null()) entry["args"] = std::move(args);
    events_.push_back(std::move(entry));
  }

  // place: of the last operation with a weight; operations without one belong there.
  void add_op(const TestResult& result, const OpRecord& record, std::string& place) {
    if (record.kind == OpKind::kEmbed) {
      place = "token_embd";
    } else if (record.kind == OpKind::kUpload) {
      place.clear();
    } else if (record.n_weights > 0) {
      const auto found = places_.find(record.weights[0]);
      if (found != places_.end()) place = found->second;
    }
    const Cost cost = cost_of(record, result.isa, result.roofline);
    Json args = {{"op", op_label(record)}, {"rows", record.rows}, {"flops", record.flop}, {"bytes", record.bytes}};
    const double seconds = std::chrono::duration<double>(record.end - record.start).count();
    if (record.kind == OpKind::kAttention) args["keys"] = record.n_keys;
    if (seconds > 0) {
      args["gflops"] = cost.flop / seconds / 1e9;
      args["gbs"] = cost.bytes / seconds / 1e9;
      if (result.roofline.measured()) args["pct_roofline"] = 100 * cost.floor_seconds / seconds;
    }
    event((place.empty() ? "" : place + " ") + op_kind_name(record.kind), "op", record.start, record.end,
          std::move(args));
  }

  const std::map<const PackedWeight*, std::string> places_;
  const Clock::time_point origin_;
  Json events_ = Json::array();
};

}  // namespace

std::string trace_json(const Model& model, const std::vector<TestResult>& results) {
  Clock::time_point origin = Clock::time_point::max();
  for (const TestResult& result : results) {
    if (result.profile) origin = std::min(origin, result.profile->timeline.start);
  }
  TraceWriter writer(model, origin);
  for (const TestResult& result : results) {
    if (result.profile) writer.add(result);
  }
  return writer.finish();
}

}  // namespace glimpse::bench
