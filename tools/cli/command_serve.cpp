// glimpse serve: many questions of many clients at once, over OpenAI's interface, with a page for people.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/serve/engine.h"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/model_choice.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/sampling_choice.h"
#include "tools/cli/terminal.h"
#include "tools/cli/video_choice.h"
#include "tools/serve/process_memory.h"
#include "tools/serve/server.h"

namespace glimpse::cli {
namespace {

struct ServeOptions {
  ModelChoice model;
  SamplingChoice sampling;
  const CLI::Option* seed = nullptr;
  std::string host = "127.0.0.1", alias, api_key_file, media_path, image_cache_dir;
  std::vector<std::string> cors_origins, allowed_hosts;
  int port = 8080, n_parallel = 4, n_queued = 256, max_connections = 64, max_choices = 16, max_pictures = 64;
  int64_t pool_slots = 0, max_tokens = -1, max_body_mib = 64, image_cache_mib = 256, image_cache_dir_mib = 4096;
  double grace_s = 30, timeout_s = 10, ping_s = 15;
  int64_t video_memory_mib = 512;
  bool no_prompt_cache = false, embeddings = false, reranking = false;
  std::string pooling = "file";
  VideoChoice video;
};

void add_vector_options(CLI::App& serve, ServeOptions& o) {
  serve.add_flag("--embeddings,--embedding", o.embeddings,
                 "make embeddings with any model; those that were made for them do it anyway");
  add_word(serve, "--pooling", o.pooling,
           "how rows become one embedding: file (as the model's file says, else the mean), last, mean or cls",
           {"file", "last", "mean", "cls"});
  serve.add_flag("--reranking,--rerank", o.reranking,
                 "rank documents by the model's yes and no; models with a classifier do it anyway");
}

void add_network_options(CLI::App& serve, ServeOptions& o) {
  serve.add_option("--host", o.host, "address to listen on; 0.0.0.0: all (others can then reach the server)")
      ->capture_default_str();
  serve.add_option("--port", o.port, "0: any that is free; it is said when the server listens")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  serve.add_option("--api-key-file", o.api_key_file,
                   "keys of clients, one to a line; without, everybody who reaches the server may use it");
  serve
      .add_option("--cors-origin", o.cors_origins,
                  "site whose pages may use the server, e.g. https://example.org, or '*'; may be given several times")
      ->allow_extra_args(false);
  serve
      .add_option("--allowed-host", o.allowed_hosts,
                  "name, besides localhost and addresses, that clients may call a server on a loopback address by; may "
                  "be given several times")
      ->allow_extra_args(false);
  serve.add_option("--media-path", o.media_path,
                   "directory whose files requests may name as file:// pictures and videos; without, none");
  serve.add_option("--alias", o.alias, "name of the model for clients; default: that of its file");
}

void add_limit_options(CLI::App& serve, ServeOptions& o) {
  constexpr int kMost = 1 << 20;
  add_number(serve, "--parallel", o.n_parallel, "most requests under way at once", 1, kMost);
  add_number(serve, "--queue", o.n_queued, "most requests that wait; further ones get status 429", 1, kMost);
  serve
      .add_option("--cache-slots", o.pool_slots,
                  "positions of the cache for all requests and kept prompts together; 0: --parallel times --ctx-size")
      ->capture_default_str();
  serve.add_flag("--no-prompt-cache", o.no_prompt_cache, "do not keep prompts for those that begin alike");
  add_number(serve, "--image-cache", o.image_cache_mib, "MiB of pictures' embeddings to keep; 0: none", 0, 1 << 24);
  serve.add_option("--image-cache-dir", o.image_cache_dir, "existing directory that keeps them for the next time, too");
  add_directory_size(serve, "--image-cache-dir-size", o.image_cache_dir_mib);
  add_number(serve, "--max-connections", o.max_connections, "further ones get status 503", 1, kMost);
  add_number(serve, "--max-body", o.max_body_mib, "MiB of one request; larger ones get status 413", 1, 1 << 14);
  add_number(serve, "--max-images", o.max_pictures, "pictures of one request", 1, kMost);
  add_number(serve, "--video-memory", o.video_memory_mib,
             "MiB for the frames of all videos that are being answered; further ones get status 429", 1, 1 << 24);
  add_number(serve, "--max-choices", o.max_choices, "answers of one request (n)", 1, kMost);
  add_number(serve, "--max-tokens", o.max_tokens, "no answer gets longer, whatever its request says; -1: no limit", -1,
             int64_t{1} << 40);
  serve
      .add_option(
          "--timeout", o.timeout_s,
          "seconds for the header lines, and what a body or an answer may fall behind 16 KiB a second; then the "
          "client is cut off")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  serve
      .add_option("--sse-ping-interval", o.ping_s,
                  "seconds of silence before a stream says that it waits, so that proxies keep it; -1: never")
      ->check(CLI::Range(-1.0, 86400.0))
      ->capture_default_str();
  serve.add_option("--grace", o.grace_s, "seconds that answers under way may take when the server is told to stop")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
}

// One key to a line; blank lines and those that begin with # are none.
std::vector<std::string> read_keys(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read the keys in " + path);
  std::vector<std::string> keys;
  for (std::string line; std::getline(in, line);) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    line.erase(0, line.find_first_not_of(" \t"));
    if (!line.empty() && line[0] != '#') keys.push_back(line);
  }
  if (keys.empty()) throw std::runtime_error("there is no key in " + path);
  return keys;
}

std::string real_directory(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), std::free);
  if (real == nullptr) throw std::runtime_error("there is no directory " + path);
  return real.get();
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

// "cat-7b-Q4_K_M" of "/models/cat-7b-Q4_K_M.gguf".
std::string name_of_file(const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1);
  const size_t extension = name.rfind(".gguf");
  if (extension != std::string::npos && extension + 5 == name.size() && extension > 0) name.resize(extension);
  return name;
}

EngineOptions engine_for(const ServeOptions& o, const Model& model) {
  EngineOptions options = engine_options(o.model, model.text().max_position_embeddings);
  options.n_parallel = o.n_parallel;
  options.n_queued = o.n_queued;
  options.pool_slots = o.pool_slots;
  options.prompt_cache = !o.no_prompt_cache;
  options.image_cache_bytes = static_cast<uint64_t>(o.image_cache_mib) << 20;
  options.image_cache_dir = o.image_cache_dir;
  options.image_cache_dir_bytes = static_cast<uint64_t>(o.image_cache_dir_mib) << 20;
  return options;
}

serve::ServerOptions server_options(const ServeOptions& o) {
  serve::ServerOptions options;
  options.model = model_options(o.model);
  options.engine = [&o](const Model& model) { return engine_for(o, model); };
  options.requests.defaults = generate_options(o.sampling);
  options.requests.has_seed = o.seed->count() > 0;
  options.requests.pictures = engine_options(o.model, 0);
  options.requests.media.limits = options.requests.pictures.source_limits;
  const VideoChoice& video = o.video;
  options.requests.media.video.sampling = {video.fps, video.min_frames, video.max_frames};
  options.requests.media.video.limits = {video.min_pixels, video.max_pixels, video.max_tokens};
  options.requests.media.video.memory =
      std::make_shared<serve::MemoryBudget>(static_cast<uint64_t>(o.video_memory_mib) << 20);
  options.requests.media.video.patience.cancel = interrupt_flag();  // what is not read by then is not asked any more
  options.vectors.embeddings = o.embeddings;
  options.vectors.reranking = o.reranking;
  options.vectors.pooling = o.pooling == "mean"   ? Pooling::kMean
                            : o.pooling == "cls"  ? Pooling::kCls
                            : o.pooling == "last" ? Pooling::kLast
                                                  : Pooling::kNone;
  options.requests.media.max_pictures = static_cast<size_t>(o.max_pictures);
  if (!o.media_path.empty()) options.requests.media.directory = real_directory(o.media_path);
  options.requests.max_choices = o.max_choices;
  options.requests.ping_s = o.ping_s;
  options.requests.max_tokens = o.max_tokens;
  options.requests.n_parallel = o.n_parallel;
  options.requests.model_name = o.alias.empty() ? name_of_file(o.model.model) : o.alias;
  if (!o.api_key_file.empty()) options.access.api_keys = read_keys(o.api_key_file);
  options.access.cors_origins = o.cors_origins;
  options.access.hosts = o.allowed_hosts;
  options.access.any_host = !is_loopback(o.host);
  options.listener.host = o.host;
  options.listener.port = o.port;
  options.listener.max_connections = o.max_connections;
  options.listener.max_body = static_cast<uint64_t>(o.max_body_mib) << 20;
  options.listener.max_bodies = options.listener.max_body * 4;
  options.requests.media.files = std::make_shared<serve::MemoryBudget>(
      std::max(options.requests.media.limits.max_bytes, options.listener.max_bodies));
  const auto timeout = std::chrono::milliseconds(static_cast<int64_t>(o.timeout_s * 1000));
  options.listener.connection.head = timeout;
  options.listener.connection.stall = timeout;
  options.grace_ms = static_cast<int64_t>(o.grace_s * 1000);
  return options;
}

int run(const ServeOptions& o) {
  const serve::ServerOptions options = server_options(o);
  catch_interrupts();
  serve::bound_heaps();
  ProgressLine line(false);
  serve::ServerEvents events;
  events.listening = [&](int port) {
    const std::string name = o.host.find(':') == std::string::npos ? o.host : "[" + o.host + "]";
    print_note("listening on http://%s:%d", name.c_str(), port);
    if (!is_loopback(o.host) && o.api_key_file.empty()) {
      print_note("anybody who can reach %s may use this server: --api-key-file asks for keys", o.host.c_str());
    }
  };
  events.progress = [&](std::string_view stage, double fraction) { line.show(stage, fraction); };
  events.ready = [&] {
    line.clear();
    print_note("ready: %s", one_line(options.requests.model_name).c_str());
  };
  events.stopping = [&] { print_note("stopping: answers under way have %g seconds", o.grace_s); };
  events.interrupted = [] { return interrupted(); };
  const Status status = serve::run_server(options, events);
  line.clear();
  if (status.ok()) return kExitOk;
  print_error(status.error().message);
  return kExitError;
}

}  // namespace

void add_serve(CLI::App& app, int* status) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* const command = app.add_subcommand("serve", "answer over HTTP as OpenAI's interface does, with a web page");
  options->sampling.params.max_tokens = -1;
  add_model_files(*command, options->model);
  add_network_options(*command, *options);
  add_limit_options(*command, *options);
  options->video.max_frames = 64;
  add_seeing_options(*command, options->video);
  add_vector_options(*command, *options);
  add_model_options(*command, options->model, "most tokens of one request, pictures and answer included");
  add_sampling_options(*command, options->sampling);
  options->seed = command->get_option("--seed");
  command->footer(
      "Sampling options are what requests get that do not say otherwise: greedy, until the model ends its answer or "
      "the "
      "context is full. A request's own seed makes it repeatable; without one every request draws anew. The page for "
      "people is at /, the interface for programs below /v1.");
  on_run(*command, status, [options] { return run(*options); });
}

}  // namespace glimpse::cli
