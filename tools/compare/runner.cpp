#include "tools/compare/runner.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <utility>

#include "tools/compare/machine.h"
#include "tools/compare/outputs.h"
#include "tools/compare/process.h"
#include "tools/compare/server_process.h"

namespace glimpse::compare {
namespace {

// The last lines of what a program said, for messages.
std::string tail(const std::string& text) {
  std::string end = text.size() > 600 ? text.substr(text.size() - 600) : text;
  while (!end.empty() && (end.back() == '\n' || end.back() == ' ')) end.pop_back();
  for (char& c : end) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') c = ' ';
  }
  return end;
}

class Runner {
 public:
  explicit Runner(const Settings& settings) : s_(settings) {}

  Result<Comparison> run();

 private:
  Result<ProcessResult> call(const std::string& program, const std::vector<std::string>& arguments,
                             ServerProcess* server = nullptr);
  Status check_peer();
  Status check_help(const std::string& program, const std::vector<std::string>& options, std::string* version);
  Result<std::vector<BenchRow>> bench(bool ours);
  Result<PictureRun> picture(bool ours, const std::string& image, const std::string& prompt);
  Result<ServerRun> server(bool ours);
  std::vector<std::string> server_arguments(bool ours, int port) const;
  Status measure(bool ours);
  Status pair(int index);
  Stage& stage(const std::string& name, const std::string& unit, Better better);
  void note(const std::string& name, const std::string& unit, Better better, bool ours, double value);
  void add_waterfall();

  const Settings& s_;
  Comparison c_;
  size_t pair_ = 0;
  double children_cpu_ = 0;  // of the programs in this pair
  struct Part {
    std::vector<double> ours, theirs;
  };
  std::vector<std::pair<std::string, Part>> parts_;
};

// What was asked of both, in a line of the report.
std::string describe(const Settings& s) {
  std::string out;
  if (s.n_prompt + s.n_gen > 0) {
    out = format("Texts of %d tokens, %d tokens generated", s.n_prompt, s.n_gen);
    for (const int64_t depth : s.depths) {
      if (depth > 0) out += format(", also after %d", depth);
    }
    out += ". ";
  }
  if (s.n_parallel > 0)
    out += format("Servers with %d clients at a time, none of which begins as another. ", s.n_parallel);
  if (!s.images.empty()) {
    out += format("Pictures of at most %d tokens, answers of %d; vision precision of glimpse: %s. ", s.image_max_tokens,
                  s.n_answer, s.vision_precision);
    if (!s.our_packs.empty()) out += "glimpse starts from side files. ";
  }
  out += s.on_gpu ? "All layers on the GPU. " : "On the CPU. ";
  return out + "llama.cpp with flash attention.";
}

std::string peer(const Settings& s, const char* name) {
  return (std::filesystem::path(s.llama_bin) / name).string();
}

// server: the program has nothing to do when that has ended.
Result<ProcessResult> Runner::call(const std::string& program, const std::vector<std::string>& arguments,
                                   ServerProcess* server) {
  const auto cancelled = [&] { return (s_.cancelled && s_.cancelled()) || (server != nullptr && !server->runs()); };
  auto done = run_process(program, arguments, s_.timeout_seconds, cancelled);
  if (!done.ok()) return done;
  const ProcessResult& r = done.value();
  children_cpu_ += r.cpu_seconds;
  const std::string name = std::filesystem::path(program).filename().string();
  if (r.timed_out) {
    return make_error(ErrorCode::kIo, "%s did not end within %.0f s (--timeout)", name, s_.timeout_seconds);
  }
  if (r.exit_code != 0) {
    const std::string how =
        r.signal != 0 ? format("was killed by signal %d", r.signal) : format("failed (status %d)", r.exit_code);
    return make_error(ErrorCode::kIo, "%s %s: %s", name, how, tail(r.err.empty() ? r.out : r.err).c_str());
  }
  return done;
}

Status Runner::check_help(const std::string& program, const std::vector<std::string>& options, std::string* version) {
  if (access(program.c_str(), X_OK) != 0) {
    return make_error(
        ErrorCode::kNotFound,
        "%s is not there or cannot be run: --llama-bin names the folder of llama.cpp's programs (built by its "
        "cmake into build/bin)",
        program);
  }
  auto help = run_process(program, {"--help"}, 60, s_.cancelled);
  if (!help.ok()) return help.error();
  const std::string text = help.value().out + help.value().err;
  for (const std::string& option : options) {
    if (text.find(option) == std::string::npos) {
      return make_error(ErrorCode::kUnsupported, "%s is too old (or no such program): its --help does not name %s",
                        program, option);
    }
  }
  auto said = run_process(program, {"--version"}, 60, s_.cancelled);
  if (!said.ok()) return said.error();
  const std::string both = said.value().err + said.value().out;
  const size_t at = both.find("version: ");
  *version = at == std::string::npos ? "of unknown version" : both.substr(at + 9, both.find('\n', at) - at - 9);
  return {};
}

Status Runner::check_peer() {
  std::string version;
  if (!s_.images.empty()) {
    GLIMPSE_TRY(check_help(peer(s_, "llama-mtmd-cli"),
                           {"--mmproj", "--image-max-tokens", "--perf", "--verbosity", "--jinja", "--flash-attn",
                            "--device", "--no-mmproj-offload"},
                           &version));
  }
  if (s_.n_parallel > 0) {
    GLIMPSE_TRY(check_help(peer(s_, "llama-server"), {"--parallel", "--port", "--device", "--jinja"}, &version));
    c_.their_version = version;
  }
  if (s_.n_prompt + s_.n_gen == 0 && !version.empty()) {
    c_.their_version = version;
    return {};
  }
  return check_help(peer(s_, "llama-bench"), {"--n-depth", "--flash-attn", "--output", "--device"}, &c_.their_version);
}

Result<std::vector<BenchRow>> Runner::bench(bool ours) {
  if (s_.n_prompt == 0 && s_.n_gen == 0) return std::vector<BenchRow>{};
  std::vector<std::string> depths = {"0"};
  for (const int64_t depth : s_.depths) {
    if (depth > 0 && s_.n_gen > 0) depths.push_back(std::to_string(depth));
  }
  std::vector<BenchRow> all;
  for (const std::string& depth : depths) {
    // A prompt at depth says nothing that the prompt without does not; the tokens after it do.
    std::vector<std::string> arguments = {"-m", s_.model,
                                          "-p", depth == "0" ? std::to_string(s_.n_prompt) : "0",
                                          "-n", std::to_string(s_.n_gen),
                                          "-d", depth,
                                          "-r", "1",
                                          "-t", std::to_string(s_.n_threads),
                                          "-o", "json"};
    if (ours) {
      arguments.insert(arguments.begin(), "bench");
      arguments.push_back("--no-roofline");
      arguments.insert(arguments.end(), s_.our_device.begin(), s_.our_device.end());
    } else {
      arguments.insert(arguments.end(), {"-fa", "1"});
      if (s_.on_gpu) {
        arguments.insert(arguments.end(), {"-ngl", "99"});
      } else {
        arguments.insert(arguments.end(), {"--device", "none"});
      }
    }
    GLIMPSE_ASSIGN(const ProcessResult done, call(ours ? s_.glimpse_program : peer(s_, "llama-bench"), arguments));
    GLIMPSE_ASSIGN(const std::vector<BenchRow> rows, parse_bench(done.out));
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

Result<PictureRun> Runner::picture(bool ours, const std::string& image, const std::string& prompt) {
  const std::string n = std::to_string(s_.n_answer), threads = std::to_string(s_.n_threads),
                    context = std::to_string(s_.context), tokens = std::to_string(s_.image_max_tokens);
  std::vector<std::string> arguments = {"-m",
                                        s_.model,
                                        "--mmproj",
                                        s_.mmproj,
                                        "--image",
                                        image,
                                        "-p",
                                        prompt,
                                        "-n",
                                        n,
                                        "--temp",
                                        "0",
                                        "-t",
                                        threads,
                                        "-c",
                                        context,
                                        "--image-max-tokens",
                                        tokens};
  if (ours) {
    arguments.insert(arguments.begin(), "run");
    arguments.insert(arguments.end(), {"--json", "--vision-precision", s_.vision_precision});
    arguments.insert(arguments.end(), s_.our_packs.begin(), s_.our_packs.end());
    arguments.insert(arguments.end(), s_.our_device.begin(), s_.our_device.end());
  } else {
    arguments.insert(arguments.end(), {"--perf", "-lv", "4", "--jinja", "-fa", "on"});
    if (s_.on_gpu) {
      arguments.insert(arguments.end(), {"-ngl", "99"});
    } else {
      arguments.insert(arguments.end(), {"--device", "none", "--no-mmproj-offload"});
    }
  }
  GLIMPSE_ASSIGN(const ProcessResult done, call(ours ? s_.glimpse_program : peer(s_, "llama-mtmd-cli"), arguments));
  GLIMPSE_ASSIGN(PictureRun run, ours ? parse_glimpse_run(done.out) : parse_mtmd(done.err, done.out));
  // What a program does before the prompt (its start, weights, warm-up) and when it ends.
  run.load = std::max(0.0, 1000 * done.wall_seconds - run.first_token - run.decode);
  run.peak_rss_bytes = done.peak_rss_bytes;
  return run;
}

// Contexts of one size: llama-server divides its own among its slots.
std::vector<std::string> Runner::server_arguments(bool ours, int port) const {
  std::vector<std::string> all = {"-m",         s_.model,
                                  "--port",     std::to_string(port),
                                  "--parallel", std::to_string(s_.n_parallel),
                                  "-t",         std::to_string(s_.n_threads),
                                  "-c",         std::to_string(ours ? s_.context : s_.context * s_.n_parallel)};
  if (!s_.images.empty()) {
    all.insert(all.end(), {"--mmproj", s_.mmproj, "--image-max-tokens", std::to_string(s_.image_max_tokens)});
  }
  if (ours) {
    all.insert(all.begin(), "serve");
    all.insert(all.end(), s_.our_device.begin(), s_.our_device.end());
    if (!s_.images.empty()) all.insert(all.end(), {"--vision-precision", s_.vision_precision});
    return all;
  }
  all.insert(all.end(), {"--jinja", "-fa", "on"});
  if (s_.on_gpu) {
    all.insert(all.end(), {"-ngl", "99"});
  } else {
    all.insert(all.end(), {"--device", "none"});
    if (!s_.images.empty()) all.push_back("--no-mmproj-offload");
  }
  return all;
}

Result<ServerRun> Runner::server(bool ours) {
  GLIMPSE_ASSIGN(const int port, free_port());
  const std::string program = ours ? s_.glimpse_program : peer(s_, "llama-server");
  GLIMPSE_ASSIGN(const std::unique_ptr<ServerProcess> started,
                 ServerProcess::start(program, server_arguments(ours, port)));
  const std::string clients = std::to_string(s_.n_parallel);
  std::vector<std::string> arguments = {"load",
                                        "http://127.0.0.1:" + std::to_string(port),
                                        "--wait",
                                        format("%.0f", s_.timeout_seconds),
                                        "--timeout",
                                        format("%.0f", s_.timeout_seconds),
                                        "--concurrency",
                                        clients,
                                        "-n",
                                        std::to_string(s_.n_answer),
                                        "-o",
                                        "json"};
  for (const std::string& image : s_.images) arguments.insert(arguments.end(), {"--image", image});
  if (!s_.prompts.empty()) arguments.insert(arguments.end(), {"-p", s_.prompts[0]});
  Result<ProcessResult> done = call(s_.glimpse_program, arguments, started.get());
  const bool runs = started->runs();
  children_cpu_ += started->stop();
  if (!done.ok() && !runs && !(s_.cancelled && s_.cancelled())) {
    return make_error(ErrorCode::kIo, "%s ended: %s", std::filesystem::path(program).filename().string(),
                      tail(started->said()));
  }
  if (!done.ok()) return std::move(done).error();
  return parse_load(done.value().out);
}

Stage& Runner::stage(const std::string& name, const std::string& unit, Better better) {
  for (Stage& s : c_.stages) {
    if (s.name == name) return s;
  }
  return c_.stages.emplace_back(Stage{name, unit, better, {}, {}});
}

void Runner::note(const std::string& name, const std::string& unit, Better better, bool ours, double value) {
  Stage& s = stage(name, unit, better);
  std::vector<double>& values = ours ? s.ours : s.theirs;
  values.resize(static_cast<size_t>(s_.n_pairs), 0.0);
  values[pair_] = value;
}

Status Runner::measure(bool ours) {
  const char* engine = ours ? "glimpse" : "llama.cpp";
  const auto per_second = [](int64_t n, double ms) { return ms > 0 ? 1000.0 * static_cast<double>(n) / ms : 0.0; };
  size_t question = 0;
  for (const std::string& image : s_.images) {
    const std::string name = std::filesystem::path(image).filename().string();
    const std::string suffix = s_.images.size() > 1 ? ", " + name : "";
    bool first = true;
    for (const std::string& prompt : s_.prompts) {
      if (s_.say) s_.say(format("pair %d of %d: %s, ", pair_ + 1, s_.n_pairs, engine) + name);
      GLIMPSE_ASSIGN(const PictureRun run, picture(ours, image, prompt));
      if (pair_ == 0) {
        if (c_.agreements.size() <= question) {
          Agreement asked;
          asked.prompt = name + ": " + prompt;
          c_.agreements.push_back(std::move(asked));
        }
        Agreement& a = c_.agreements[question];
        (ours ? a.ours : a.theirs) = run.answer;
        (ours ? a.n_prompt_ours : a.n_prompt_theirs) = run.n_prompt;
      }
      ++question;
      if (!std::exchange(first, false)) continue;  // further prompts are for the answers
      note("image encode" + suffix, "ms", Better::kLess, ours, run.image_encode);
      note("prompt with picture" + suffix, "tokens/s", Better::kMore, ours, per_second(run.n_prompt, run.prefill));
      note("first token" + suffix, "ms", Better::kLess, ours, run.first_token);
      note("decode after picture" + suffix, "tokens/s", Better::kMore, ours, per_second(run.n_decode, run.decode));
      note("load" + suffix, "ms", Better::kLess, ours, run.load);
      note("peak memory" + suffix, "MB", Better::kLess, ours, run.peak_rss_bytes / 1e6);
      if (&image != &s_.images.front()) continue;
      const std::pair<const char*, double> parts[] = {{"load", run.load},
                                                      {"picture to pixels", run.image_prepare},
                                                      {"image encode", run.image_encode},
                                                      {"prompt", run.prefill},
                                                      {"answer", run.decode}};
      if (parts_.empty()) {
        for (const auto& [part, ms] : parts) parts_.push_back({part, {}});
      }
      for (size_t i = 0; i < parts_.size(); ++i) {
        (ours ? parts_[i].second.ours : parts_[i].second.theirs).push_back(parts[i].second);
      }
    }
  }
  if (s_.n_parallel > 0) {
    if (s_.say) s_.say(format("pair %d of %d: %s, server", pair_ + 1, s_.n_pairs, engine));
    GLIMPSE_ASSIGN(const ServerRun run, server(ours));
    const std::string clients = format(", %d clients", s_.n_parallel);
    note("answers" + clients, "/min", Better::kMore, ours, run.answers_per_minute);
    note("all answers" + clients, "tokens/s", Better::kMore, ours, run.tokens_per_second);
    note("first token" + clients, "ms", Better::kLess, ours, run.first_token);
    note("between tokens" + clients, "ms", Better::kLess, ours, run.between_tokens);
  }
  if (s_.say && s_.n_prompt + s_.n_gen > 0) s_.say(format("pair %d of %d: %s, texts", pair_ + 1, s_.n_pairs, engine));
  GLIMPSE_ASSIGN(const std::vector<BenchRow> rows, bench(ours));
  for (const BenchRow& row : rows) {
    std::string name = row.n_gen == 0 ? format("prompt of %d", row.n_prompt) : std::string("decode");
    if (row.n_depth > 0) name += format(" after %d", row.n_depth);
    note(name, "tokens/s", Better::kMore, ours, row.tokens_per_second);
  }
  return {};
}

Status Runner::pair(int index) {
  pair_ = static_cast<size_t>(index);
  PairConditions& conditions = c_.pairs.emplace_back();
  GLIMPSE_ASSIGN(conditions.bandwidth, probe_bandwidth(s_.n_threads));
  children_cpu_ = 0;
  const double busy = machine_busy_seconds();
  std::timespec start{}, end{};
  clock_gettime(CLOCK_MONOTONIC, &start);
  const bool ours_first = index % 2 == 0;  // neither always meets the warmer machine
  GLIMPSE_TRY(measure(ours_first));
  GLIMPSE_TRY(measure(!ours_first));
  clock_gettime(CLOCK_MONOTONIC, &end);
  const double seconds =
      static_cast<double>(end.tv_sec - start.tv_sec) + 1e-9 * static_cast<double>(end.tv_nsec - start.tv_nsec);
  const double busy_after = machine_busy_seconds();
  conditions.foreign_load =
      busy < 0 || busy_after < 0 || seconds <= 0 ? -1 : std::max(0.0, (busy_after - busy - children_cpu_) / seconds);
  return {};
}

void Runner::add_waterfall() {
  for (const auto& [name, part] : parts_) c_.waterfall.push_back({name, median(part.ours), median(part.theirs)});
}

Result<Comparison> Runner::run() {
  GLIMPSE_TRY(check_peer());
  c_.model = std::filesystem::path(s_.model).filename().string();
  c_.mmproj = std::filesystem::path(s_.mmproj).filename().string();
  c_.cpu = cpu_name();
  c_.n_threads = s_.n_threads;
  char date[40] = "";
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &utc);
  c_.date = date;
  GLIMPSE_ASSIGN(const ProcessResult version, call(s_.glimpse_program, {"--version"}));
  c_.our_version = version.out.substr(0, version.out.find('\n'));
  if (c_.our_version.starts_with("glimpse ")) c_.our_version.erase(0, 8);
  c_.settings = describe(s_);
  if (!s_.our_packs.empty() && !s_.images.empty()) {  // a run that leaves the side files, if there are none
    if (s_.say) s_.say("side files");
    GLIMPSE_TRY(picture(true, s_.images.front(), s_.prompts.front()));
  }
  for (int i = 0; i < s_.n_pairs; ++i) GLIMPSE_TRY(pair(i));
  GLIMPSE_ASSIGN(c_.bandwidth_after, probe_bandwidth(s_.n_threads));
  mark_disturbed(c_.pairs, c_.bandwidth_after);
  add_waterfall();
  c_.notes.push_back("Key/value caches are f16, the default of both engines. Weights are the same files.");
  if (!s_.images.empty()) {
    c_.notes.push_back(
        "llama-mtmd-cli times the prompt from the text before the picture to the first logits, encoding included: its "
        "decoder part is the difference. It does not time decoding and resizing the picture: with llama.cpp they count "
        "as "
        "load, with glimpse to the first token.");
    c_.notes.push_back(
        "Load is the time of the whole program less the first token and the answer: weights, llama.cpp's warm-up run, "
        "start "
        "and end of the program.");
  }
  return std::move(c_);
}

}  // namespace

Result<Comparison> run_comparison(const Settings& settings) {
  return Runner(settings).run();
}

}  // namespace glimpse::compare
