#include "tools/serve/vectors.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <optional>

#include "tokenizer/token_trie.h"
#include "tools/serve/answers.h"
#include "tools/serve/base64.h"
#include "tools/serve/completion.h"
#include "tools/serve/content.h"

namespace glimpse::serve {
namespace {

constexpr size_t kMostInputs = 2048;             // as OpenAI
constexpr std::chrono::milliseconds kLook{100};  // how often a waiting client is looked at

using Input = std::vector<RequestPart>;

VisionConfig::Family family_of(const Model& model) {
  return model.has_vision() ? model.vision().family() : VisionConfig::Family::kQwen2;
}

// Inputs are texts, lists of token ids, or objects with the parts of a message: an array of such, or one alone.
class InputReader {
 public:
  InputReader(ContentReader& content, const Tokenizer& tokenizer, TextGate& texts, int64_t n_positions)
      : content_(content), tokenizer_(tokenizer), texts_(texts), n_positions_(n_positions) {}

  std::vector<Input> read(const Json& json, const std::string& path) {
    if (!json.is_array() || is_tokens(json)) return {read_one(json, path)};
    if (json.empty() || json.size() > kMostInputs) refuse_field(path, format("want 1 to %d inputs", kMostInputs));
    std::vector<Input> inputs;
    for (size_t i = 0; i < json.size(); ++i) inputs.push_back(read_one(json[i], format("%s[%d]", path, i)));
    return inputs;
  }

  Input read_one(const Json& json, const std::string& path) {
    if (json.is_string()) return {content_.read_text(json, path)};
    if (is_tokens(json)) return {read_tokens(json, path)};
    if (!json.is_object()) refuse_field(path, "want a string, token ids, or an object with content");
    Fields fields(json, path);
    if (const Json* const text = fields.find("prompt_string"); text != nullptr) {
      fields.refuse({"multimodal_data"});
      return {content_.read_text(*text, fields.path("prompt_string"))};
    }
    const Json& parts = fields.need("content");
    if (!parts.is_array()) refuse_field(fields.path("content"), "want an array of parts");
    return content_.read(parts, fields.path("content"));
  }

 private:
  static bool is_tokens(const Json& json) { return json.is_array() && !json.empty() && json[0].is_number(); }

  // The text that they stand for: a text is data here, and has tokens of its own.
  RequestPart read_tokens(const Json& list, const std::string& path) {
    check_positions(static_cast<int64_t>(list.size()), n_positions_);
    const std::vector<TokenId> ids = read_token_ids(list, path, tokenizer_);
    std::string text = tokenizer_.decode(ids, true);
    const auto held = texts_.enter(text.size());
    const auto again = tokenizer_.encode(text, {.parse_markup = false});
    if (!again.ok() || again.value() != ids) {
      refuse_field(path, "these token ids are not those of the text that they stand for: send the text");
    }
    return content_.read_text(text, path);
  }

  ContentReader& content_;
  const Tokenizer& tokenizer_;
  TextGate& texts_;
  const int64_t n_positions_;
};

// As those of answers, together with them.
std::vector<std::shared_ptr<const ImageEmbedding>> encode_with(Engine& engine, std::vector<RequestPart> parts,
                                                               const HttpClient& client) {
  Request request;
  request.only_pictures = true;
  request.messages = {{"user", std::move(parts)}};
  Answers answers(engine, [](const RequestResult&) {});
  const Status submitted = answers.submit(std::move(request));
  if (!submitted.ok()) throw api_error(submitted.error());
  for (;;) {
    std::optional<AnswerEvent> event = answers.next(kLook);
    if (!event && client.has_left()) throw client_left();
    if (!event || !event->result) continue;
    if (!event->result->status.ok()) throw api_error(event->result->status.error());
    return std::move(event->result->embeddings);
  }
}

Json usage_of(int64_t n_tokens) {
  return {{"prompt_tokens", n_tokens}, {"total_tokens", n_tokens}};
}

HttpResponse respond(const Json& json) {
  HttpResponse response;
  response.body = dump(json);
  return response;
}

Json vector_of(const std::vector<float>& values, bool as_base64) {
  if (!as_base64) return values;
  static_assert(std::endian::native == std::endian::little);
  return encode_base64({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

}  // namespace

/// What both endpoints read with.
struct VectorMaker::Body {
  Body(std::string_view text, const RequestPolicy& policy, const Model& model, TextGate& texts, int64_t n_positions)
      : parsed(text, policy.values),
        fields(parsed.json(), ""),
        content(policy, family_of(model), warnings),
        inputs(content, model.tokenizer(), texts, n_positions) {
    check_model_name(fields, policy, warnings);
    fields.ignore({"user", "metadata", "truncate", "return_documents"});
  }
  const JsonBody parsed;
  Fields fields;
  std::vector<std::string> warnings;
  ContentReader content;
  InputReader inputs;
};

Result<std::unique_ptr<VectorMaker>> VectorMaker::create(const std::shared_ptr<const Model>& model,
                                                         const EngineOptions& options, const VectorPolicy& policy) {
  const Pooling said = model->text().pooling;
  std::unique_ptr<VectorMaker> maker(new VectorMaker(model));
  maker->ranks_ = policy.reranking || said == Pooling::kRank;
  maker->embeds_ = said != Pooling::kRank && (policy.embeddings || said != Pooling::kNone);
  maker->pooling_ = policy.pooling != Pooling::kNone ? policy.pooling : said != Pooling::kNone ? said : Pooling::kMean;
  if (!maker->ranks_ && !maker->embeds_) return maker;
  maker->context_ = options.context;
  GLIMPSE_ASSIGN(maker->embedder_, Embedder::create(model, session_options(options)));
  if (said != Pooling::kNone && model->has_vision()) {  // no engine answers with such a model
    EncoderOptions encoder;
    static_cast<PictureOptions&>(encoder) = options;
    encoder.n_threads = options.n_threads;
    encoder.log = options.log;
    GLIMPSE_ASSIGN(maker->encoder_, PictureEncoder::create(model, encoder));
  }
  return maker;
}

// When its turn comes; given up when the client leaves.
template <typename Work>
auto VectorMaker::alone(const HttpClient& client, Work&& work) {
  const auto goes_on = [&] { return !client.has_left() && Clock::now().time_since_epoch() < end_.load(); };
  const auto give_up = [&] {
    if (client.has_left()) throw client_left();
    throw api_error(make_error(ErrorCode::kCancelled, "the server is being stopped"));
  };
  std::unique_lock lock(mutex_);
  while (!free_.wait_for(lock, kLook, [this] { return !busy_; })) {
    if (!goes_on()) give_up();
  }
  if (!goes_on()) give_up();
  busy_ = true;
  lock.unlock();
  struct Leave {
    VectorMaker* maker;
    ~Leave() {
      const std::lock_guard leaving(maker->mutex_);
      maker->busy_ = false;
      maker->free_.notify_one();
    }
  };
  const Leave leave{this};
  auto looked = Clock::now();
  const ProgressSink progress = [&](std::string_view, double) {
    const auto now = Clock::now();
    if (now - looked < kLook) return true;
    looked = now;
    return goes_on();
  };
  auto made = work(progress);
  if (made.ok()) return std::move(made).value();
  if (made.error().code == ErrorCode::kCancelled) give_up();
  throw api_error(made.error());
}

void VectorMaker::stop(int64_t grace_ms) {
  end_.store((Clock::now() + std::chrono::milliseconds(grace_ms)).time_since_epoch());
}

VectorMaker::Pictures VectorMaker::encode(const std::vector<RequestPart>& parts, const HttpClient& client) {
  return alone(client, [&](const ProgressSink& progress) -> Result<Pictures> {
    Pictures pictures;
    for (size_t i = 0; i < parts.size(); ++i) {
      const RequestImage& image = *parts[i].image;
      const auto encoded = [&]() -> Result<ImageEmbedding> {
        if (image.video != nullptr) {
          return encoder_->encode_video(
              video_frames(*image.video), [](const ImageCost&) { return Status(); }, nullptr, progress);
        }
        GLIMPSE_ASSIGN(const std::unique_ptr<ImageReader> reader,
                       open_image(std::as_bytes(std::span(image.bytes)), encoder_->decode_options(progress)));
        return encoder_->encode(*reader, nullptr, progress);
      }();
      if (!encoded.ok()) return with_context(encoded.error(), format("picture %d", i + 1));
      pictures.push_back(std::make_shared<const ImageEmbedding>(encoded.value()));
    }
    return pictures;
  });
}

// What cannot fit is refused before it is taken apart.
void VectorMaker::check_text(const Input& input) const {
  size_t n_bytes = 0;
  for (const RequestPart& part : input) n_bytes += part.text.size();
  check_positions(fewest_tokens(model_->tokenizer(), n_bytes), context_);
}

// paths: of the fields of all pictures.
std::vector<EmbedInput> VectorMaker::see(std::vector<Input> inputs, const std::vector<std::string>& paths,
                                         Engine* engine, const HttpClient& client) {
  std::vector<RequestPart> parts;
  for (const Input& input : inputs) {
    check_text(input);
    std::copy_if(input.begin(), input.end(), std::back_inserter(parts),
                 [](const RequestPart& part) { return part.image != nullptr; });
  }
  if (!parts.empty() && !model_->has_vision()) {
    refuse_field(paths[0], "the model was loaded without an mmproj file: it cannot see pictures");
  }
  Pictures pictures;
  try {
    if (!parts.empty()) {
      pictures = engine != nullptr ? encode_with(*engine, std::move(parts), client) : encode(parts, client);
    }
  } catch (ApiError& error) {
    place_picture_error(paths, error);
    throw;
  }
  std::vector<EmbedInput> seen(inputs.size());
  auto picture = pictures.begin();
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (RequestPart& part : inputs[i]) {
      MessagePart& piece = seen[i].emplace_back();
      if (part.image != nullptr) {
        piece.image = *picture++;
      } else {
        piece.text = std::move(part.text);
      }
    }
  }
  return seen;
}

HttpResponse VectorMaker::embeddings(std::string_view text, const RequestPolicy& policy, Engine* engine,
                                     const HttpClient& client) {
  if (!embeds_) {
    throw ApiError(501, "this server makes no embeddings: it was started without --embeddings", "", "not_supported");
  }
  Body body(text, policy, *model_, texts_, context_);
  Fields& fields = body.fields;
  const char* const name = fields.find("input") == nullptr && fields.find("content") != nullptr ? "content" : "input";
  std::vector<Input> inputs = body.inputs.read(fields.need(name), fields.path(name));
  const std::string encoding = fields.text("encoding_format", "float");
  if (encoding != "float" && encoding != "base64") {
    refuse_field("encoding_format", format("\"%s\" is not supported: want float or base64", encoding.substr(0, 64)));
  }
  const int64_t width = model_->text().hidden_size;
  if (fields.integer("dimensions", 1, int64_t{1} << 31, width) != width) {
    refuse_field("dimensions", format("only %d, all that the model makes, is supported", width));
  }
  EmbedOptions options;
  options.instruction = fields.text("instruction", "");
  options.pooling = pooling_;
  const int64_t norm = fields.integer("embd_normalize", -1, 1 << 30, 2);  // as llama.cpp's clients say it
  if (norm != 2 && norm != -1) refuse_field("embd_normalize", "only 2 (to length 1) and -1 (not) are supported");
  options.normalize = norm == 2;
  fields.report_unknown(body.warnings);
  int64_t n_tokens = 0;
  const std::vector<EmbedInput> seen = see(std::move(inputs), body.content.picture_paths(), engine, client);
  const std::vector<std::vector<float>> vectors = alone(client, [&](const ProgressSink& progress) {
    auto made = embedder_->embed(seen, options, progress);
    n_tokens = embedder_->n_tokens();
    return made;
  });
  Json data = Json::array();
  for (size_t i = 0; i < vectors.size(); ++i) {
    data.push_back({{"object", "embedding"}, {"index", i}, {"embedding", vector_of(vectors[i], encoding == "base64")}});
  }
  Json response = {
      {"object", "list"}, {"data", std::move(data)}, {"model", policy.model_name}, {"usage", usage_of(n_tokens)}};
  if (!body.warnings.empty()) response["warnings"] = body.warnings;
  return respond(response);
}

HttpResponse VectorMaker::rerank(std::string_view text, const RequestPolicy& policy, Engine* engine,
                                 const HttpClient& client) {
  if (!ranks_) {
    throw ApiError(501, "this server ranks no documents: it was started without --reranking", "", "not_supported");
  }
  Body body(text, policy, *model_, texts_, context_);
  Fields& fields = body.fields;
  // Jina's form, or that of text-embeddings-inference.
  const bool of_tei = fields.find("documents") == nullptr && fields.find("texts") != nullptr;
  const char* const name = of_tei ? "texts" : "documents";
  const Json& list = fields.need(name);
  if (!list.is_array() || list.empty() || list.size() > kMostInputs) {
    refuse_field(name, format("want an array of 1 to %d documents", kMostInputs));
  }
  std::vector<Input> inputs = {body.inputs.read_one(fields.need("query"), "query")};
  for (size_t i = 0; i < list.size(); ++i) {
    const bool is_text_object = list[i].is_object() && list[i].contains("text");  // {"text": ...}, as Jina's have it
    inputs.push_back(body.inputs.read_one(is_text_object ? list[i]["text"] : list[i], format("%s[%d]", name, i)));
  }
  const auto most =
      static_cast<size_t>(fields.integer("top_n", 0, int64_t{1} << 31, static_cast<int64_t>(list.size())));
  const bool with_text = fields.flag("return_text", false);
  const RankOptions options{fields.text("instruction", "")};
  fields.report_unknown(body.warnings);
  int64_t n_tokens = 0;
  const std::vector<EmbedInput> seen = see(std::move(inputs), body.content.picture_paths(), engine, client);
  const std::vector<float> scores = alone(client, [&](const ProgressSink& progress) {
    auto made = embedder_->rank(seen[0], std::span(seen).subspan(1), options, progress);
    n_tokens = embedder_->n_tokens();
    return made;
  });
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), most));
  Json results = Json::array();
  for (const size_t i : order) {
    results.push_back({{"index", i}, {of_tei ? "score" : "relevance_score", scores[i]}});
    if (of_tei && with_text) results.back()["text"] = list[i];
  }
  if (of_tei) return respond(results);
  Json response = {
      {"object", "list"}, {"model", policy.model_name}, {"results", std::move(results)}, {"usage", usage_of(n_tokens)}};
  if (!body.warnings.empty()) response["warnings"] = body.warnings;
  return respond(response);
}

}  // namespace glimpse::serve
