// glimpse diff: every activation of a prompt against a reference's, and the first that is too far off.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "engine/model/model.h"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/kv_type.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/cli/vision_precision.h"
#include "tools/cli/warnings.h"
#include "tools/eval/activations.h"
#include "tools/eval/budget.h"
#include "tools/eval/trace.h"

namespace glimpse::cli {
namespace {

using eval::Activation;
using eval::ActivationSet;
using eval::Difference;

struct DiffOptions {
  std::string model, mmproj, against, dump, kv_type = kUsualKvType, precision = "stored", vision_precision = "auto";
  eval::TraceInput input;
  double budget = -1;  // negative: derived
  bool json = false, force = false;

  bool f32() const { return precision == "f32"; }
};

struct Report {
  std::string backend, against;
  std::vector<Difference> rows;      // in model order
  std::vector<std::string> missing;  // activations of the reference that the run did not make
  int64_t n_unknown = 0;             // made, but not in the reference
  const Difference* first_outside() const {
    for (const Difference& row : rows) {
      if (row.outside) return &row;
    }
    return nullptr;
  }
};

Result<std::shared_ptr<const Model>> load(const DiffOptions& o, bool reference, bool f32,
                                          const ProgressSink& progress) {
  ModelOptions options;
  options.model_path = o.model;
  options.mmproj_path = o.mmproj;
  options.n_threads = o.input.n_threads;
  options.use_reference = reference;
  options.text_precision = f32 ? WeightPrecision::kF32 : WeightPrecision::kAsStored;
  // The oracle has no bf16 and int8: for these it takes the weights as they are.
  const VisionPrecision wanted = vision_precision(o.vision_precision);
  options.vision_precision = f32                                            ? VisionPrecision::kF32
                             : reference && wanted != VisionPrecision::kF32 ? VisionPrecision::kAuto
                                                                            : wanted;
  options.progress = progress;
  options.log = WarningSink{};
  return Model::load(options);
}

// What the run is compared with: a file, or the same prompt on exact arithmetic.
Result<ActivationSet> reference_activations(const DiffOptions& o, const ProgressSink& progress) {
  if (o.against != "ref" && o.against != "f32") return ActivationSet::open(o.against);
  GLIMPSE_ASSIGN(const auto model, load(o, o.against == "ref", o.against == "f32", progress));
  ActivationSet set;
  eval::TraceInput input = o.input;
  input.kv_element = KvElement::kF32;
  const auto keep = [&set](Activation activation) -> Status {
    set.add(std::move(activation));
    return {};
  };
  GLIMPSE_ASSIGN(std::vector<int32_t> ids, eval::trace(model, input, keep, progress));
  set.set_ids(std::move(ids));
  return set;
}

Result<Report> diff(const DiffOptions& o, const ProgressSink& progress) {
  ActivationSet want, dumped;
  if (!o.against.empty()) {
    GLIMPSE_ASSIGN(want, reference_activations(o, progress));
  }
  GLIMPSE_ASSIGN(const auto model, load(o, false, o.f32(), progress));
  Report report;
  report.against = o.against == "ref" ? "the oracle" : o.against == "f32" ? "float weights and activations" : o.against;
  GLIMPSE_ASSIGN(const std::unique_ptr<Ops> ops, model->make_ops(o.input.n_threads, WarningSink{}));
  report.backend = ops->describe();
  eval::TraceInput input = o.input;
  input.kv_element = o.f32() ? KvElement::kF32 : kv_element(o.kv_type);
  eval::Budget budget(eval::op_limits(*model, input.kv_element, false));
  double derived = 0;  // limit of the activation at hand; grows with those that are not asked for too
  input.on_step = [&](const std::string& name) { derived = budget.limit(name); };
  std::set<std::string> seen;
  const auto see = [&](Activation activation) -> Status {
    if (!o.against.empty() && want.has(activation.name)) {
      GLIMPSE_ASSIGN(const Activation reference, want.read(activation.name));
      if (reference.rows != activation.rows || reference.cols != activation.cols) {
        return make_error(ErrorCode::kMismatch, "%s: this run has (%d, %d), %s has (%d, %d)", activation.name,
                          activation.rows, activation.cols, o.against, reference.rows, reference.cols);
      }
      seen.insert(activation.name);
      report.rows.push_back(compare_activations(activation, reference, o.budget >= 0 ? o.budget : derived));
      if (activation.name.ends_with(".router")) {
        report.rows.back().rerouted_rows =
            eval::count_rerouted_rows(activation, reference, model->text().num_experts_per_tok);
      }
    } else {
      ++report.n_unknown;
    }
    if (!o.dump.empty()) dumped.add(std::move(activation));
    return {};
  };
  GLIMPSE_ASSIGN(const std::vector<int32_t> ids, eval::trace(model, input, see, progress));
  if (!want.ids().empty() && want.ids() != ids) {
    return make_error(ErrorCode::kMismatch, "%s is about another prompt: %d tokens, this one has %d or other ones",
                      o.against, want.ids().size(), ids.size());
  }
  for (const std::string& name : want.names()) {
    const bool asked = input.prefixes.empty() || std::any_of(input.prefixes.begin(), input.prefixes.end(),
                                                             [&](const auto& p) { return name.starts_with(p); });
    if (asked && seen.count(name) == 0) report.missing.push_back(name);
  }
  if (!o.against.empty() && report.rows.empty()) {
    return make_error(ErrorCode::kMismatch, "%s has none of this run's activations", o.against);
  }
  if (!o.dump.empty()) {
    dumped.set_ids(ids);
    GLIMPSE_TRY(dumped.save(
        o.dump, o.force ? AtomicFileWriter::Existing::kReplace : AtomicFileWriter::Existing::kRefuse, o.input.prompt));
  }
  return report;
}

void print_text(const Report& report) {
  print_format("%s against %s\n\n%-22s %6s %7s %10s %10s %12s %10s %10s\n", report.backend.c_str(),
               one_line(report.against).c_str(), "activation", "rows", "cols", "NMSE", "max abs", "cosine", "limit",
               "worst row");
  const Difference* first = report.first_outside();
  for (const Difference& d : report.rows) {
    char worst[48];
    std::snprintf(worst, sizeof worst, "%lld: %.2g", static_cast<long long>(d.worst_row), d.worst_row_nmse);
    print_format("%-22s %6lld %7lld %10.2e %10.2e %12.9f %10.2e %10s%s\n", one_line(d.name).c_str(),
                 static_cast<long long>(d.rows), static_cast<long long>(d.cols), d.nmse, d.max_abs, d.cosine, d.limit,
                 worst,
                 &d == first ? "  <- first outside"
                 : d.outside ? "  outside"
                             : "");
  }
  print_format("\n");
  if (report.n_unknown > 0) {
    print_format("%lld activations are not in the reference\n", static_cast<long long>(report.n_unknown));
  }
  for (const Difference& d : report.rows) {
    if (d.rerouted_rows == 0) continue;
    print_format("%s: %lld of %lld rows go through other experts than in the reference\n", one_line(d.name).c_str(),
                 static_cast<long long>(d.rerouted_rows), static_cast<long long>(d.rows));
  }
  for (const std::string& name : report.missing) print_format("missing in this run: %s\n", one_line(name).c_str());
  if (first == nullptr) {
    print_format("%zu activations compared, all inside the budget\n", report.rows.size());
  } else {
    print_format("first outside the budget: %s, NMSE %.3g, limit %.3g\n", one_line(first->name).c_str(), first->nmse,
                 first->limit);
  }
}

nlohmann::json finite(double value) {  // JSON has no infinity
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

void print_json(const Report& report) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Difference& d : report.rows) {
    rows.push_back({{"name", d.name},
                    {"rows", d.rows},
                    {"cols", d.cols},
                    {"nmse", finite(d.nmse)},
                    {"max_abs", finite(d.max_abs)},
                    {"cosine", finite(d.cosine)},
                    {"worst_row", d.worst_row},
                    {"worst_row_nmse", finite(d.worst_row_nmse)},
                    {"limit", d.limit},
                    {"outside", d.outside}});
    if (d.name.ends_with(".router")) rows.back()["rerouted_rows"] = d.rerouted_rows;
  }
  const Difference* first = report.first_outside();
  const nlohmann::json json = {
      {"backend", report.backend},
      {"against", report.against},
      {"activations", rows},
      {"missing", report.missing},
      {"not_in_reference", report.n_unknown},
      {"first_outside", first != nullptr ? nlohmann::json(first->name) : nlohmann::json(nullptr)}};
  print_object(json);
}

int run_diff(const DiffOptions& o) {
  if (o.against.empty() && o.dump.empty()) {
    print_error("nothing to do: give --against ref|f32|FILE.gguf, --dump FILE.gguf or both");
    return kExitUsage;
  }
  catch_interrupts();
  ProgressLine line(o.json);
  Result<Report> report =
      make_error(ErrorCode::kInvalidArgument, "%s exists already and is not overwritten (--force does)", o.dump);
  std::error_code unknown;  // then writing will say what is wrong
  if (o.dump.empty() || o.force || !std::filesystem::exists(std::filesystem::symlink_status(o.dump, unknown))) {
    report = diff(o, [&line](std::string_view stage, double fraction) {
      line.show(stage, fraction);
      return !interrupted();
    });
  }
  line.clear();
  if (!report.ok()) {
    print_error(report.error().message);
    return report.error().code == ErrorCode::kCancelled ? kExitCancelled : kExitError;
  }
  if (o.against.empty()) return kExitOk;
  (o.json ? print_json : print_text)(report.value());
  return report.value().first_outside() == nullptr && report.value().missing.empty() ? kExitOk : kExitError;
}

}  // namespace

void add_diff(CLI::App& app, int* status) {
  auto o = std::make_shared<DiffOptions>();
  CLI::App* command = app.add_subcommand(
      "diff", "compare every activation of a prompt with a reference's; exit status 1 when one is outside its budget");
  command->add_option("-m,--model", o->model, "text model (GGUF)")->required();
  command->add_option("--mmproj", o->mmproj, "vision encoder (GGUF)");
  command->add_option("--image", o->input.images, "picture; may be given several times");
  command->add_option("-p,--prompt", o->input.prompt, "the user's question; <image> in it is a picture's place")
      ->required();
  command->add_flag("--raw", o->input.raw, "the prompt is the whole text, without chat format");
  command->add_option("--against", o->against,
                      "ref: the scalar oracle (slow); f32: float weights, activations, keys and values on the fast "
                      "kernels; or a GGUF of activations, by --dump or another engine");
  command->add_option("--dump", o->dump, "write this run's activations as a GGUF of tensors");
  command->add_flag("--force", o->force, "overwrite an existing --dump");
  command->add_option("--only", o->input.prefixes, "only activations whose name starts with this: blk.3., 0/v., logits")
      ->delimiter(',');
  command
      ->add_option(
          "--budget", o->budget,
          "limit on every activation's NMSE; default: what the operations up to it may add (float 1e-10, int8 "
          "activations 1e-4 and 1e-3 after SwiGLU, bf16 products 2e-5, attention on bf16 5e-5, on f16 8e-7, on "
          "q8_0 2e-4)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--precision", o->precision, "stored, or f32: dequantised weights, float activations")
      ->check(CLI::IsMember({"stored", "f32"}))
      ->capture_default_str();
  add_kv_type(*command, "--kv-type", o->kv_type, "keys and values; f32 with --precision f32");
  add_vision_precision(*command, o->vision_precision);
  command->add_option("--image-min-tokens", o->input.picture_limits.min_tokens,
                      "enlarge smaller pictures; 0: the model's bound");
  command->add_option("--image-max-tokens", o->input.picture_limits.max_tokens, "shrink larger pictures; 0: 1280");
  command->add_option("-t,--threads", o->input.n_threads, "threads; 0: one per available CPU")->capture_default_str();
  command->add_flag("--json", o->json, "print one JSON object");
  on_run(*command, status, [o] { return run_diff(*o); });
}

}  // namespace glimpse::cli
