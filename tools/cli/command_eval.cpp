// glimpse eval: how often a model is right, on a set of pictures and questions with known answers. Written on the
// public API alone.
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.hpp"
#include "tools/cases/cases.h"
#include "tools/cli/commands.h"
#include "tools/cli/device_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/kv_type.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/cli/vision_precision.h"
#include "tools/cli/warnings.h"

namespace glimpse::cli {
namespace {

struct EvalOptions {
  std::string model, mmproj, folder = "models/heldout", task, vision_precision = "auto", kv_type = kUsualKvType;
  int32_t n_threads = 0, n_predict = 96, n_ctx = 1024;
  DeviceChoice where;
  size_t limit = 0;
  bool json = false, wrong = false, reference = false, dedup_patches = false;
};

struct Outcome {
  const cases::Case* asked = nullptr;
  std::string said;  // control tokens included
  bool right = false;
  int32_t n_image_tokens = 0;
};

struct Tally {
  size_t right = 0, n = 0;
  void add(bool is_right) {
    right += is_right ? 1 : 0;
    ++n;
  }
};

// Cases of one task, or of all; of each task the first `limit`.
std::vector<cases::Case> selected(const EvalOptions& o) {
  std::vector<cases::Case> kept;
  std::map<std::string, size_t> seen;
  for (cases::Case& c : cases::load_cases(o.folder)) {
    if (!o.task.empty() && c.task != o.task) continue;
    if (o.limit > 0 && ++seen[c.task] > o.limit) continue;
    kept.push_back(std::move(c));
  }
  if (kept.empty()) {
    throw std::runtime_error(o.folder + ": no cases" + (o.task.empty() ? "" : " of the task '" + o.task + "'"));
  }
  return kept;
}

// Asks each case in a conversation of its own. Pictures of neighbouring cases are encoded once.
class Examiner {
 public:
  Examiner(const api::Model& model, const EvalOptions& o) : session_(model, session_params(o)) {
    params_ = api::Session::generate_params();
    params_.max_tokens = o.n_predict;
    params_.render_special = 1;  // boxes stand between control tokens
  }

  Outcome ask(const cases::Case& c, const api::Progress& progress) {
    if (paths_ != c.pictures) {
      embeddings_.clear();
      paths_.clear();
      for (const std::string& path : c.pictures) embeddings_.push_back(session_.encode_image_file(path, progress));
      paths_ = c.pictures;
    }
    session_.reset();
    Outcome outcome{&c, "", false, 0};
    for (const api::Embedding& embedding : embeddings_) outcome.n_image_tokens += embedding.info().n_tokens;
    for (size_t i = 0; i < c.turns.size(); ++i) {
      api::Message user{"user", {}};
      for (const api::Embedding& embedding : embeddings_) {
        if (i == 0) user.parts.push_back({"", &embedding});
      }
      user.parts.push_back({c.turns[i].question, nullptr});
      outcome.said = session_.generate({user}, params_, {}, progress).text;
    }
    outcome.right = cases::is_right(c.score, outcome.said, c.turns.back().answer);
    return outcome;
  }

 private:
  static glimpse_session_params session_params(const EvalOptions& o) {
    glimpse_session_params params = api::Session::params();
    params.n_threads = o.n_threads;
    params.n_ctx = o.n_ctx;
    params.kv_type = kv_type_number(o.kv_type);
    params.image_dedup = o.dedup_patches ? 1 : 0;
    params.log = show_warning;
    return params;
  }

  api::Session session_;
  glimpse_generate_params params_{};
  std::vector<std::string> paths_;
  std::vector<api::Embedding> embeddings_;
};

nlohmann::json tally_json(const Tally& tally) {
  const auto [low, high] = cases::wilson_interval(tally.right, tally.n);
  return {{"right", tally.right},
          {"cases", tally.n},
          {"accuracy", static_cast<double>(tally.right) / static_cast<double>(tally.n)},
          {"interval", {low, high}}};
}

void print_row(const std::string& name, const Tally& tally) {
  const auto [low, high] = cases::wilson_interval(tally.right, tally.n);
  print_format("%-10s %5zu / %-5zu %6.1f%%   (%.1f to %.1f%%)\n", one_line(name).c_str(), tally.right, tally.n,
               100.0 * static_cast<double>(tally.right) / static_cast<double>(tally.n), 100 * low, 100 * high);
}

void print_text(const std::vector<Outcome>& outcomes, const std::map<std::string, Tally>& tasks, const Tally& all,
                bool wrong) {
  for (const Outcome& outcome : outcomes) {
    if (!wrong || outcome.right) continue;
    const cases::Case& c = *outcome.asked;
    print_format("%s: %s  %s\n  expected %s\n  said     %s\n", one_line(c.task).c_str(),
                 c.pictures.empty() ? "" : one_line(c.pictures[0]).c_str(), one_line(c.turns.back().question).c_str(),
                 one_line(c.turns.back().answer).c_str(), one_line(outcome.said).c_str());
  }
  print_format("%-10s %13s %7s   95%% interval\n", "task", "right / cases", "");
  for (const auto& [task, tally] : tasks) print_row(task, tally);
  print_row("all", all);
}

void print_json(const std::vector<Outcome>& outcomes, const std::map<std::string, Tally>& tasks, const Tally& all) {
  nlohmann::json by_task = nlohmann::json::object(), list = nlohmann::json::array();
  for (const auto& [task, tally] : tasks) by_task[task] = tally_json(tally);
  for (const Outcome& outcome : outcomes) {
    list.push_back({{"task", outcome.asked->task},
                    {"question", outcome.asked->turns.back().question},
                    {"expected", outcome.asked->turns.back().answer},
                    {"answer", outcome.said},
                    {"image_tokens", outcome.n_image_tokens},
                    {"right", outcome.right}});
  }
  const nlohmann::json json = {{"tasks", by_task}, {"all", tally_json(all)}, {"cases", list}};
  print_object(json);
}

int run_eval(const EvalOptions& o) {
  const std::vector<cases::Case> asked = selected(o);
  catch_interrupts();
  ProgressLine line(o.json);
  const api::Progress stop = [](const char*, double) { return !interrupted(); };
  glimpse_model_params params = api::Model::params();
  params.model_path = o.model.c_str();
  params.mmproj_path = o.mmproj.c_str();
  params.n_threads = o.n_threads;
  params.vision_precision = vision_precision_number(o.vision_precision);
  set_device(o.where, params);
  params.use_reference = o.reference ? 1 : 0;
  params.log = show_warning;
  const api::Model model(params, stop);
  Examiner examiner(model, o);

  std::vector<Outcome> outcomes;
  std::map<std::string, Tally> tasks;
  Tally all;
  for (const cases::Case& c : asked) {
    line.show("eval", static_cast<double>(outcomes.size()) / static_cast<double>(asked.size()));
    outcomes.push_back(examiner.ask(c, stop));
    if (interrupted()) return kExitCancelled;
    tasks[c.task].add(outcomes.back().right);
    all.add(outcomes.back().right);
  }
  line.clear();
  if (o.json) {
    print_json(outcomes, tasks, all);
  } else {
    print_text(outcomes, tasks, all, o.wrong);
  }
  return kExitOk;
}

}  // namespace

void add_eval(CLI::App& app, int* status) {
  auto o = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval", "share of right answers per task, on pictures with known answers");
  command->add_option("-m,--model", o->model, "text model, GGUF")->required();
  command->add_option("--mmproj", o->mmproj, "vision encoder, GGUF")->required();
  command->add_option("--cases", o->folder, "folder of cases.json and its pictures")->capture_default_str();
  command->add_option("--task", o->task, "only this task");
  command->add_option("--limit", o->limit, "only the first N cases of each task; 0: all")->capture_default_str();
  command->add_option("-n,--n-predict", o->n_predict, "most tokens to answer with")->capture_default_str();
  command->add_option("-c,--ctx-size", o->n_ctx, "context in tokens, pictures included")->capture_default_str();
  command->add_option("-t,--threads", o->n_threads, "threads; 0: one per available CPU")->capture_default_str();
  add_vision_precision(*command, o->vision_precision);
  add_kv_type(*command, "--kv-type", o->kv_type, "type of the key/value cache");
  add_device_choice(*command, o->where);
  command->add_flag("--dedup-patches", o->dedup_patches, "leave out blocks of pictures that repeat their neighbours");
  command->add_flag("--reference", o->reference, "run on the slow scalar oracle instead of the kernels");
  command->add_flag("--wrong", o->wrong, "show the wrong answers");
  command->add_flag("--json", o->json, "print one JSON object: accuracy per task, every answer");
  on_run(*command, status, [o] { return run_eval(*o); });
}

}  // namespace glimpse::cli
