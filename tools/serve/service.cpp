#include "tools/serve/service.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>
#include <random>

#include "engine/generate/picture_encoder.h"
#include "loaders/image/image.h"
#include "tokenizer/utf8.h"
#include "tools/serve/answer_flow.h"
#include "tools/serve/chat_request.h"
#include "tools/serve/chat_response.h"
#include "tools/serve/completion.h"
#include "tools/serve/page.h"

namespace glimpse::serve {
namespace {

int64_t now_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

uint64_t random_word() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < b.size(); ++i) {
    difference |=
        static_cast<unsigned>(static_cast<unsigned char>(b[i]) ^ static_cast<unsigned char>(i < a.size() ? a[i] : 0));
  }
  return difference == 0;
}

// The name in "name:port", "[::1]:port", in small letters.
std::string host_name(std::string_view host) {
  const bool digits = host.substr(0, 1) == "[";
  std::string name(digits ? host.substr(0, std::min(host.find(']'), host.size() - 1) + 1)
                          : host.substr(0, host.find(':')));
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return name;
}

// Addresses in digits name no site of others.
bool is_address(std::string_view name) {
  return name.substr(0, 1) == "[" || (!name.empty() && name.find_first_not_of("0123456789.") == std::string_view::npos);
}

// Names of header lines with commas between them.
bool is_name_list(std::string_view text) {
  return !text.empty() && text.size() <= 2048 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_' ||
           c == ',' || c == ' ';
  });
}

HttpResponse json_response(const Json& json) {
  HttpResponse response;
  response.body = dump(json);
  return response;
}

// A token's text; bytes where it is no valid UTF-8, as llama.cpp has it.
Json piece_of(std::string_view bytes) {
  if (find_invalid_utf8(bytes) == std::string_view::npos) return std::string(bytes);
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

// The pictures with the sizes that the encoder will see: what some models count in. None where that cannot be said.
std::vector<ShapePicture> shape_pictures(const ChatRequest& chat, const Engine& engine, const PictureOptions& options) {
  std::vector<ShapePicture> pictures;
  if (!engine.model().has_vision()) return pictures;
  const VisionConfig& vision = engine.model().vision();
  const Result<PictureSizes> sizes = picture_sizes(options, &vision, engine.context());
  if (!sizes.ok()) return pictures;
  for (const ImageSize& size : chat.pictures) {
    const Result<ImageCost> cost = effective_image_size(size.width, size.height, vision, sizes.value().image_limits);
    const ImageSize resized = cost.ok() ? cost.value().resized : size;
    pictures.push_back({size.width, size.height, resized.width, resized.height});
  }
  return pictures;
}

}  // namespace

struct Service::Route {
  const char* path;
  const char* methods;  // "GET", "POST"
  bool needs_key;
  HttpResponse (Service::*answer)(const HttpRequest&, const HttpClient&);
};

const std::vector<Service::Route>& Service::routes() {
  static const std::vector<Route> all = {
      {"/", "GET", false, &Service::page},
      {"/health", "GET", false, &Service::health},
      {"/v1/health", "GET", false, &Service::health},
      {"/metrics", "GET", true, &Service::metrics},
      {"/v1/models", "GET", true, &Service::models},
      {"/models", "GET", true, &Service::models},
      {"/v1/models/", "GET", true, &Service::model},
      {"/v1/chat/completions", "POST", true, &Service::chat},
      {"/chat/completions", "POST", true, &Service::chat},
      {"/v1/completions", "POST", true, &Service::completions},
      {"/completions", "POST", true, &Service::llama_completion},
      {"/completion", "POST", true, &Service::llama_completion},
      {"/v1/chat/completions/input_tokens", "POST", true, &Service::input_tokens},
      {"/chat/completions/input_tokens", "POST", true, &Service::input_tokens},
      {"/apply-template", "POST", true, &Service::apply_template},
      {"/props", "GET", true, &Service::props},
      {"/slots", "GET", true, &Service::not_here},
      {"/infill", "POST", true, &Service::not_here},
      {"/lora-adapters", "GET", true, &Service::adapters},
      {"/v1/embeddings", "POST", true, &Service::embeddings},
      {"/embeddings", "POST", true, &Service::llama_embeddings},
      {"/embedding", "POST", true, &Service::llama_embeddings},
      {"/v1/rerank", "POST", true, &Service::rerank},
      {"/v1/reranking", "POST", true, &Service::rerank},
      {"/rerank", "POST", true, &Service::rerank},
      {"/reranking", "POST", true, &Service::rerank},
      {"/tokenize", "POST", true, &Service::tokenize},
      {"/detokenize", "POST", true, &Service::detokenize},
  };
  return all;
}

const Service::Route* Service::find_route(std::string_view path) {
  for (const Route& route : routes()) {
    const std::string_view own = route.path;
    const bool is_folder = own.size() > 1 && own.back() == '/';
    if (is_folder ? path.substr(0, own.size()) == own && path.size() > own.size() : path == own) return &route;
  }
  return nullptr;
}

Service::Service(RequestPolicy requests, AccessPolicy access)
    : requests_(std::move(requests)), access_(std::move(access)), ids_begin_(random_word()), started_(now_seconds()) {}

void Service::show_progress(std::string_view stage, double fraction) {
  const std::lock_guard lock(progress_mutex_);
  stage_ = stage;
  fraction_ = fraction;
}

void Service::open(const Serving& serving) {
  serving_.store(&serving);
}

void Service::close() {
  closing_.store(true);
}

const Serving& Service::serving() const {
  const Serving* const serving = serving_.load();
  if (serving != nullptr && !closing_.load()) return *serving;
  ApiError error(503, closing_.load() ? "the server is being stopped" : "the model is being loaded", "",
                 closing_.load() ? "stopping" : "loading");
  error.retry_after_s = closing_.load() ? 5 : 1;
  throw error;
}

Engine& Service::engine() const {
  const Serving& serving = this->serving();
  if (serving.engine != nullptr) return *serving.engine;
  throw ApiError(501, "the model of this server makes vectors or scores, no answers", "", "not_supported");
}

void Service::admit(const HttpHead& head) {
  check_host(head);
  check_origin(head);
  const Route* const route = find_route(head.path);
  if (route == nullptr) throw ApiError(404, format("there is no %s here", head.path));
  if (head.method == "OPTIONS") return;
  if (head.method != route->methods && !(head.method == "HEAD" && std::string_view(route->methods) == "GET")) {
    ApiError error(405, format("%s takes %s, not %s", route->path, route->methods, head.method));
    error.allow = route->methods;
    throw error;
  }
  if (route->needs_key) check_key(head);
}

HttpResponse Service::handle(HttpRequest request, const HttpClient& client) {
  const Route* const route = find_route(request.head.path);
  HttpResponse response;
  try {
    if (request.head.method == "OPTIONS") {
      response.status = 204;
      response.fields.emplace_back("Allow", std::string(route->methods).append(", OPTIONS"));
    } else {
      response = (this->*route->answer)(request, client);
    }
  } catch (const ApiError& error) {
    return refuse(request.head, error);
  } catch (const std::bad_alloc&) {
    ApiError error(503, "out of memory", "", "out_of_memory");
    error.retry_after_s = 5;
    return refuse(request.head, error);
  } catch (const std::exception&) {
    return refuse(request.head, ApiError(500, "the server made a mistake: the request was not answered"));
  }
  add_access_fields(request.head, response);
  metrics_.count_response(route->path, response.status);
  return response;
}

HttpResponse Service::refuse(const HttpHead& head, const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = error_body(error);
  if (error.retry_after_s > 0) response.fields.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (!error.allow.empty()) response.fields.emplace_back("Allow", error.allow);
  if (error.status == 401) response.fields.emplace_back("WWW-Authenticate", "Bearer");
  add_access_fields(head, response);
  const Route* const route = find_route(head.path);
  metrics_.count_response(route == nullptr ? "other" : route->path, error.status);
  return response;
}

void Service::note(Event event) {
  event == Event::kSlowReader ? metrics_.count_slow_reader() : metrics_.count_connection_refused();
}

void Service::check_host(const HttpHead& head) const {
  if (access_.any_host) return;
  const std::string name = host_name(head.find("host"));
  const auto is_it = [&](const std::string& host) { return host_name(host) == name; };
  // No browser leaves it out.
  if (name.empty() || name == "localhost" || is_address(name) ||
      std::any_of(access_.hosts.begin(), access_.hosts.end(), is_it))
    return;
  throw ApiError(403, format("this server is not called %s (it would be with --allowed-host)", name.substr(0, 64)), "",
                 "unknown_host");
}

// Pages of other sites get nothing done here, whatever their browsers would let them read.
void Service::check_origin(const HttpHead& head) const {
  const std::string_view origin = head.find("origin");
  if (origin.empty()) return;
  const std::string_view scheme_end = "://";
  const size_t at = origin.find(scheme_end);
  if (at != std::string_view::npos && origin.substr(at + scheme_end.size()) == head.find("host")) return;
  for (const std::string& allowed : access_.cors_origins) {
    if (allowed == "*" || allowed == origin) return;
  }
  throw ApiError(403,
                 format("pages of %s may not use this server (they might with --cors-origin)", origin.substr(0, 128)),
                 "", "unknown_origin");
}

void Service::check_key(const HttpHead& head) const {
  if (access_.api_keys.empty()) return;
  std::string_view given = head.find("authorization");
  const std::string_view scheme = "bearer ";  // in any case
  const auto alike = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); };
  if (given.size() >= scheme.size() && std::equal(scheme.begin(), scheme.end(), given.begin(), alike)) {
    given.remove_prefix(scheme.size());
  } else {
    given = head.find("x-api-key");
  }
  bool known = false;
  for (const std::string& key : access_.api_keys) known = equal_in_constant_time(given, key) || known;
  if (!known) throw ApiError(401, "want a key of this server: Authorization: Bearer KEY", "", "invalid_api_key");
}

void Service::add_access_fields(const HttpHead& head, HttpResponse& response) const {
  response.fields.emplace_back("X-Content-Type-Options", "nosniff");
  const std::string_view origin = head.find("origin");
  for (const std::string& allowed : access_.cors_origins) {
    if (allowed != "*" && allowed != origin) continue;
    response.fields.emplace_back("Access-Control-Allow-Origin", allowed);
    if (allowed != "*") response.fields.emplace_back("Vary", "Origin");
    if (head.method == "OPTIONS") {
      response.fields.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
      // Whatever the page wants to send: OpenAI's own client adds a dozen of its own.
      const std::string_view wanted = head.find("access-control-request-headers");
      response.fields.emplace_back("Access-Control-Allow-Headers",
                                   is_name_list(wanted) ? wanted : "Authorization, Content-Type, X-Api-Key");
      response.fields.emplace_back("Access-Control-Max-Age", "600");
    }
    return;
  }
}

std::string Service::next_id(const char* prefix) {
  return format("%s%016x", prefix, ids_begin_ + n_ids_.fetch_add(1) * 0x9E3779B97F4A7C15u);
}

HttpResponse Service::page(const HttpRequest&, const HttpClient&) {
  const std::string nonce = format("%016x%016x", random_word(), random_word());
  HttpResponse response;
  response.content_type = "text/html; charset=utf-8";
  response.body = page_with_nonce(nonce);
  response.fields = {
      {"Content-Security-Policy",
       format("default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; img-src 'self' blob: data:; "
              "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
              nonce, nonce)},
      {"Referrer-Policy", "no-referrer"},
      {"Cache-Control", "no-store"}};
  return response;
}

HttpResponse Service::health(const HttpRequest&, const HttpClient&) {
  if (serving_.load() != nullptr && !closing_.load()) return json_response({{"status", "ok"}});
  const std::lock_guard lock(progress_mutex_);
  HttpResponse response =
      json_response({{"status", closing_.load() ? "stopping" : "loading"}, {"stage", stage_}, {"progress", fraction_}});
  response.status = 503;
  response.fields.emplace_back("Retry-After", "1");
  return response;
}

HttpResponse Service::metrics(const HttpRequest&, const HttpClient&) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  const Serving& serving = this->serving();
  response.body =
      metrics_.write(serving.engine != nullptr ? serving.engine->stats() : EngineStats(), requests_.model_name);
  return response;
}

HttpResponse Service::models(const HttpRequest&, const HttpClient&) {
  const Serving& serving = this->serving();
  Json capabilities = Json::array();
  if (serving.engine != nullptr) capabilities.push_back("completion");
  if (serving.vectors->embeds()) capabilities.push_back("embedding");
  if (serving.vectors->ranks()) capabilities.push_back("rerank");
  if (serving.model->has_vision()) capabilities.push_back("multimodal");
  const Json model = {
      {"id", requests_.model_name},       {"object", "model"},           {"created", started_}, {"owned_by", "glimpse"},
      {"max_model_len", serving.context}, {"capabilities", capabilities}};
  // The second list is that of llama.cpp.
  const Json known = {{"name", requests_.model_name}, {"model", requests_.model_name}, {"capabilities", capabilities}};
  return json_response({{"object", "list"}, {"data", {model}}, {"models", {known}}});
}

HttpResponse Service::model(const HttpRequest& request, const HttpClient& client) {
  const std::string_view given = std::string_view(request.head.path).substr(std::string_view("/v1/models/").size());
  const std::string name = percent_decoded(given).value_or("");
  const Json list = Json::parse(models(request, client).body);
  if (name == requests_.model_name) return json_response(list["data"][0]);
  throw ApiError(404, format("there is no model \"%s\" here", name.substr(0, 64)), "model", "model_not_found");
}

ChatRequest Service::read_chat(const HttpRequest& request) {
  return read_chat_request(request.body, requests_, chat_context());
}

ChatContext Service::chat_context() {
  const Model& model = *serving().model;
  ChatContext context{model.tokenizer(), model.chat_format().style, formats_, texts_};
  if (model.has_vision()) context.family = model.vision().family();
  context.n_positions = serving().context;
  return context;
}

HttpResponse Service::chat(const HttpRequest& request, const HttpClient& client) {
  Engine& engine = this->engine();
  const Model& model = engine.model();
  ChatRequest chat = read_chat(request);
  AnswerPlan plan;
  plan.n_requests = static_cast<size_t>(chat.generation.n_choices);
  plan.head = {next_id("chatcmpl-"), "chat.completion", now_seconds(), requests_.model_name, plan.n_requests};
  plan.style = chat_style(chat, model, shape_pictures(chat, engine, requests_.pictures),
                          plan.head.id.substr(plan.head.id.find('-') + 1));
  plan.stream = chat.generation.stream;
  plan.include_usage = chat.generation.include_usage;
  plan.ping = chat.generation.ping;
  plan.picture_paths = chat.picture_paths;
  plan.warnings = std::move(chat.generation.warnings);
  plan.request = [&chat, n = plan.n_requests](size_t i) {
    Request asked;
    // What is left here would live as long as the answers: frames of videos are large.
    asked.messages = i + 1 < n ? chat.messages : std::move(chat.messages);
    asked.prompt = chat.prompt;
    asked.generate = options_of_choice(chat.generation, static_cast<int>(i));
    return asked;
  };
  return answer_plan(engine, metrics_, std::move(plan), client);
}

HttpResponse Service::completions(const HttpRequest& request, const HttpClient& client) {
  return complete(request, client, CompletionKind::kOpenAi);
}

HttpResponse Service::llama_completion(const HttpRequest& request, const HttpClient& client) {
  return complete(request, client, CompletionKind::kLlama);
}

HttpResponse Service::complete(const HttpRequest& request, const HttpClient& client, CompletionKind kind) {
  Engine& engine = this->engine();
  const Tokenizer& tokenizer = engine.model().tokenizer();
  CompletionRequest completion = read_completion_request(request.body, requests_, chat_context(), kind);
  AnswerPlan plan;
  const auto n = static_cast<size_t>(completion.generation.n_choices);
  plan.n_requests = completion.prompts.size() * n;
  plan.style = completion_style(completion, tokenizer, kind);
  plan.head = {next_id("cmpl-"), "text_completion", now_seconds(), requests_.model_name, n};
  plan.stream = completion.generation.stream;
  plan.include_usage = completion.generation.include_usage && kind == CompletionKind::kOpenAi;
  plan.ping = completion.generation.ping;
  plan.picture_paths = completion.picture_paths;
  plan.warnings = completion.generation.warnings;
  plan.request = [&completion, n](size_t i) {
    CompletionPrompt& prompt = completion.prompts[i / n];
    Request asked;
    asked.messages = {{kRawRole, prompt.parts}};
    asked.generate = options_of_choice(completion.generation, static_cast<int>(i % n));
    if (i % n == n - 1) prompt.parts.clear();
    return asked;
  };
  return answer_plan(engine, metrics_, std::move(plan), client);
}

// Where blocks of it are left out its pixels are read to know which: one picture after another, whoever asks.
int64_t Service::count_tokens(const RequestImage& image, const std::string& path) {
  const Engine& engine = this->engine();
  if (!engine.model().has_vision()) refuse_field(path, "the model was loaded without an mmproj file: it cannot see");
  const VisionConfig& vision = engine.model().vision();
  const Result<PictureSizes> sizes = picture_sizes(requests_.pictures, &vision, engine.context());
  if (!sizes.ok()) throw api_error(sizes.error());
  std::unique_lock alone(counting_, std::defer_lock);
  if (sizes.value().dedup_patches) alone.lock();
  DecodeOptions options;
  options.limits = sizes.value().source_limits;
  const auto reader = open_image(std::as_bytes(std::span(image.bytes)), options);
  if (!reader.ok()) refuse_field(path, reader.error().message);
  const Result<int64_t> n = count_image_tokens(*reader.value(), vision, sizes.value());
  if (!n.ok()) refuse_field(path, n.error().message);
  return n.value();
}

TokenizedChat Service::tokenize_question(const HttpRequest& request) {
  Engine& engine = this->engine();
  const ChatRequest chat = read_chat(request);
  std::vector<ChatMessage> messages;
  size_t picture = 0, n_bytes = 0;
  for (const RequestMessage& message : chat.messages) {
    ChatMessage& to = messages.emplace_back();
    to.role = message.role;
    for (const RequestPart& part : message.parts) {
      ChatPart& piece = to.parts.emplace_back();
      piece.text = part.text;
      n_bytes += part.text.size();
      if (part.image == nullptr) continue;
      const std::string& path = chat.picture_paths[picture];
      if (part.image->video != nullptr) refuse_field(path, "the tokens of a video are known when it is encoded");
      piece.kind = ChatPart::Kind::kImage;
      piece.n_tokens = count_tokens(*part.image, path);
      ++picture;
    }
  }
  const auto held = texts_.enter(n_bytes, serving().context, "messages");
  auto tokenized =
      tokenize_chat(engine.model().tokenizer(), messages, chat_options(engine.model().chat_format(), chat.prompt));
  if (!tokenized.ok()) throw api_error(tokenized.error());
  return std::move(tokenized).value();
}

HttpResponse Service::input_tokens(const HttpRequest& request, const HttpClient&) {
  return json_response({{"object", "response.input_tokens"}, {"input_tokens", tokenize_question(request).ids.size()}});
}

HttpResponse Service::apply_template(const HttpRequest& request, const HttpClient&) {
  const TokenizedChat prompt = tokenize_question(request);
  return json_response({{"prompt", serving().model->tokenizer().decode(prompt.ids, true)}});
}

HttpResponse Service::props(const HttpRequest&, const HttpClient&) {
  const Serving& serving = this->serving();
  const SamplerOptions& sampler = requests_.defaults.sampler;
  const Json params = {{"n_predict", requests_.defaults.max_tokens},
                       {"seed", sampler.seed},
                       {"temperature", sampler.temperature},
                       {"top_k", sampler.top_k},
                       {"top_p", sampler.top_p},
                       {"min_p", sampler.min_p}};
  return json_response({{"default_generation_settings", {{"n_ctx", serving.context}, {"params", params}}},
                        {"total_slots", requests_.n_parallel},
                        {"model_alias", requests_.model_name},
                        {"model_path", requests_.model_name + ".gguf"},  // where it lies is nobody's business
                        {"modalities", {{"vision", serving.model->has_vision()}, {"audio", false}}}});
}

HttpResponse Service::adapters(const HttpRequest&, const HttpClient&) {
  return json_response(Json::array());
}

HttpResponse Service::not_here(const HttpRequest& request, const HttpClient&) {
  throw ApiError(501, format("this server has no %s", request.head.path), "", "not_supported");
}

HttpResponse Service::embeddings(const HttpRequest& request, const HttpClient& client) {
  const Serving& serving = this->serving();
  return serving.vectors->embeddings(request.body, requests_, serving.engine.get(), client);
}

HttpResponse Service::llama_embeddings(const HttpRequest& request, const HttpClient& client) {
  HttpResponse response = embeddings(request, client);
  Json list = Json::array();
  const Json answer = Json::parse(response.body);
  for (const Json& one : answer.at("data")) {
    list.push_back({{"index", one["index"]}, {"embedding", Json::array({one["embedding"]})}});
  }
  response.body = dump(list);
  return response;
}

HttpResponse Service::rerank(const HttpRequest& request, const HttpClient& client) {
  const Serving& serving = this->serving();
  return serving.vectors->rerank(request.body, requests_, serving.engine.get(), client);
}

HttpResponse Service::tokenize(const HttpRequest& request, const HttpClient&) {
  const Serving& serving = this->serving();
  const Tokenizer& tokenizer = serving.model->tokenizer();
  const JsonBody parsed(request.body, requests_.values);
  Fields body(parsed.json(), "");
  const std::string text = body.text("content", body.text("prompt", ""));
  if (body.find("content") == nullptr && body.find("prompt") == nullptr) refuse_field("content", "is missing");
  const bool parse_special = body.flag("parse_special", false), with_pieces = body.flag("with_pieces", false);
  body.flag("add_special", false);  // Qwen's vocabularies have no token that begins a text
  const auto held = texts_.enter(text.size(), serving.context, body.find("content") != nullptr ? "content" : "prompt");
  const auto ids = tokenizer.encode(text, {.parse_special = parse_special, .normalize_nfc = true});
  if (!ids.ok()) throw api_error(ids.error());
  // As text: a million tokens as values of JSON would take a hundred times as much.
  HttpResponse response;
  response.body = format("{\"count\":%d,\"max_model_len\":%d,\"tokens\":[", ids.value().size(), serving.context);
  for (const TokenId& id : ids.value()) {
    if (&id != ids.value().data()) response.body += ',';
    response.body +=
        with_pieces ? dump({{"id", id}, {"piece", piece_of(tokenizer.token_bytes(id, true))}}) : std::to_string(id);
  }
  response.body += "]}";
  return response;
}

HttpResponse Service::detokenize(const HttpRequest& request, const HttpClient&) {
  const Tokenizer& tokenizer = serving().model->tokenizer();
  const JsonBody parsed(request.body, requests_.values);
  Fields body(parsed.json(), "");
  const std::vector<TokenId> ids = read_token_ids(body.need("tokens"), "tokens", tokenizer);
  size_t n_bytes = 0;  // a token of two digits may be a hundred blanks
  for (const TokenId id : ids) n_bytes += tokenizer.token_bytes(id, true).size();
  const auto held = texts_.enter(n_bytes, serving().context, "tokens");
  const std::string text = tokenizer.decode(ids, true);
  return json_response({{"content", text}, {"prompt", text}});
}

}  // namespace glimpse::serve
