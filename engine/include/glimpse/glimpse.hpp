// Thin C++17 owners over glimpse.h: handles that free themselves, errors as exceptions, strings and callables.
#pragma once

#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "glimpse/glimpse.h"

namespace glimpse::api {

/// What a failed call throws: the status and the library's message.
class Error : public std::runtime_error {
 public:
  Error(glimpse_status status, const char* message) : std::runtime_error(message), status_(status) {}
  glimpse_status status() const { return status_; }

 private:
  glimpse_status status_;
};

inline void check(glimpse_status status) {
  if (status != GLIMPSE_OK) throw Error(status, glimpse_last_error());
}

/// Returns false to cancel.
using Progress = std::function<bool(const char* stage, double fraction)>;
using OnText = std::function<bool(std::string_view text)>;

namespace detail {
// As C takes it: what follows a NUL would be lost in silence.
inline const char* c_string(const std::string& text) {
  if (text.find('\0') != std::string::npos) {
    throw Error(GLIMPSE_ERROR_INVALID_ARGUMENT, "a text that ends at a NUL in C contains one");
  }
  return text.c_str();
}
/// Callables as C callbacks. An exception of one ends the call, which then undoes what it did; check() throws it again.
class Callbacks {
 public:
  Callbacks(const Progress& progress, const OnText& on_text) : progress_(progress), on_text_(on_text) {}
  void set_progress(glimpse_progress_callback* callback, void** user) {
    if (!progress_) return;
    *callback = [](void* self, const char* stage, double fraction) {
      return static_cast<Callbacks*>(self)->guard([&](const Callbacks& c) { return c.progress_(stage, fraction); });
    };
    *user = this;
  }
  void set_on_text(glimpse_text_callback* callback, void** user) {
    if (!on_text_) return;
    *callback = [](void* self, const char* text, size_t n_bytes) {
      return static_cast<Callbacks*>(self)->guard([&](const Callbacks& c) { return c.on_text_({text, n_bytes}); });
    };
    *user = this;
  }
  void check(glimpse_status status) const {
    if (failure_) std::rethrow_exception(failure_);
    api::check(status);
  }

 private:
  template <typename Call>
  int guard(Call&& call) {
    try {
      return call(*this) ? 1 : 0;
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  }
  const Progress& progress_;
  const OnText& on_text_;
  std::exception_ptr failure_;
};
struct Free {
  void operator()(glimpse_model* model) const { glimpse_model_free(model); }
  void operator()(glimpse_session* session) const { glimpse_session_free(session); }
  void operator()(glimpse_encoder* encoder) const { glimpse_encoder_free(encoder); }
  void operator()(glimpse_checkpoint* checkpoint) const { glimpse_checkpoint_free(checkpoint); }
  void operator()(glimpse_embedding* embedding) const { glimpse_embedding_free(embedding); }
  void operator()(glimpse_embedder* embedder) const { glimpse_embedder_free(embedder); }
  void operator()(glimpse_splitter* splitter) const { glimpse_splitter_free(splitter); }
  void operator()(glimpse_shapes* shapes) const { glimpse_shapes_free(shapes); }
  void operator()(glimpse_engine* engine) const { glimpse_engine_free(engine); }
  void operator()(glimpse_ticket* ticket) const { glimpse_ticket_free(ticket); }
  void operator()(glimpse_constraint* constraint) const { glimpse_constraint_free(constraint); }
};
template <typename Handle>
using Owner = std::unique_ptr<Handle, Free>;

// Calls whose last arguments are addresses of results.
template <typename Handle, typename Call, typename... Args>
Owner<Handle> made(Call call, const Args&... args) {
  Handle* handle = nullptr;
  check(call(args..., &handle));
  return Owner<Handle>(handle);
}
template <typename Info, typename Call, typename... Args>
Info filled(Call call, const Args&... args) {
  Info info{};
  info.struct_size = sizeof info;
  check(call(args..., &info));
  return info;
}
// Of those that tell how many values there are when they are given no room.
template <typename T, typename Call, typename... Args>
std::vector<T> counted(Call call, const Args&... args) {
  size_t n = 0;
  check(call(args..., nullptr, 0, &n));
  std::vector<T> values(n);
  if (n > 0) check(call(args..., values.data(), n, &n));
  return values;
}
template <typename Params>
Params initial(size_t (*init)(Params*, size_t)) {
  Params params;
  init(&params, sizeof params);
  return params;
}
// call(callback, user) reports to progress.
template <typename Call>
void watched(const Progress& progress, Call&& call) {
  glimpse_progress_callback callback = nullptr;
  void* user = nullptr;
  const OnText no_text;
  Callbacks callbacks(progress, no_text);
  callbacks.set_progress(&callback, &user);
  callbacks.check(call(callback, user));
}
// The same where the callback is one of the parameters.
template <typename Params, typename Call>
void watched(const Progress& progress, Params& params, Call&& call) {
  const OnText no_text;
  Callbacks callbacks(progress, no_text);
  callbacks.set_progress(&params.progress, &params.progress_user);
  callbacks.check(call());
}
inline std::vector<const char*> c_strings(const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(c_string(text));
  return pointers;
}
}  // namespace detail

/// Something that an answer points at; points are pairs x, y, one behind the other.
struct Shape {
  glimpse_shape_kind kind = GLIMPSE_SHAPE_BOX;
  glimpse_shape_unit unit = GLIMPSE_UNIT_THOUSANDTHS;  // of said
  int32_t picture = 0;                                 // from 1; 0: there are several and the answer does not say
  std::string label;
  std::vector<double> said, pixels;  // pixels: empty where picture is 0
};
struct Shapes {
  std::vector<Shape> shapes;
  std::string problem;  // "", or what could not be read
};

/// Loaded weights; share it between sessions and threads.
class Model {
 public:
  /// params.model_path and the rest of glimpse_model_params; see params().
  /// progress replaces the callback of params when set.
  explicit Model(glimpse_model_params params, const Progress& progress = {}) {
    glimpse_model* model = nullptr;
    detail::watched(progress, params, [&] { return glimpse_model_load(&params, &model); });
    handle_.reset(model);
  }
  static glimpse_model_params params() { return detail::initial(glimpse_model_params_init); }
  glimpse_model_info info() const { return detail::filled<glimpse_model_info>(glimpse_model_get_info, handle_.get()); }
  std::vector<int32_t> tokenize(std::string_view text) const {
    return detail::counted<int32_t>(glimpse_tokenize, handle_.get(), text.data(), text.size());
  }
  std::string_view token_bytes(int32_t id) const {
    const char* bytes = nullptr;
    size_t n = 0;
    check(glimpse_token_bytes(handle_.get(), id, &bytes, &n));
    return {bytes, n};
  }
  /// Which of n_frames frames, taken at fps, a video of this model is made of.
  std::vector<size_t> sample_video(size_t n_frames, double fps, const glimpse_video_sampling& sampling) const {
    return detail::counted<size_t>(glimpse_sample_video, handle_.get(), n_frames, fps, &sampling);
  }
  /// What an answer points at. text: with control tokens shown; pictures: those of the conversation, in their order.
  Shapes read_shapes(std::string_view text, const std::vector<glimpse_picture_size>& pictures) const {
    const auto handle = detail::made<glimpse_shapes>(glimpse_read_shapes, handle_.get(), text.data(), text.size(),
                                                     pictures.data(), pictures.size());
    const auto info = detail::filled<glimpse_shapes_info>(glimpse_shapes_get_info, handle.get());
    Shapes shapes{{}, info.problem};
    for (size_t i = 0; i < info.n_shapes; ++i) {
      const auto shape = detail::filled<glimpse_shape>(glimpse_shapes_get, handle.get(), i);
      const double *said = shape.said, *pixels = shape.pixels;
      const size_t n = 2 * shape.n_points;
      shapes.shapes.push_back({static_cast<glimpse_shape_kind>(shape.kind), static_cast<glimpse_shape_unit>(shape.unit),
                               shape.picture, std::string(shape.label, shape.n_label_bytes),
                               std::vector<double>(said, said + n),
                               pixels == nullptr ? std::vector<double>() : std::vector<double>(pixels, pixels + n)});
    }
    return shapes;
  }
  glimpse_model* get() const { return handle_.get(); }

 private:
  detail::Owner<glimpse_model> handle_;
};

/// What an answer may be: `params.constraint = constraint.get()`.
class Constraint {
 public:
  static Constraint json_schema(const Model& model, std::string_view schema) {
    return of(model, GLIMPSE_CONSTRAINT_JSON_SCHEMA, schema);
  }
  static Constraint json_object(const Model& model) { return of(model, GLIMPSE_CONSTRAINT_JSON_OBJECT, {}); }
  static Constraint regex(const Model& model, std::string_view expression) {
    return of(model, GLIMPSE_CONSTRAINT_REGEX, expression);
  }
  static Constraint gbnf(const Model& model, std::string_view grammar) {
    return of(model, GLIMPSE_CONSTRAINT_GBNF, grammar);
  }
  static Constraint choice(const Model& model, const std::vector<std::string>& texts) {
    const std::vector<const char*> pointers = detail::c_strings(texts);
    return Constraint(detail::made<glimpse_constraint>(glimpse_constraint_create_choice, model.get(), pointers.data(),
                                                       pointers.size()));
  }
  glimpse_constraint* get() const { return handle_.get(); }

 private:
  explicit Constraint(detail::Owner<glimpse_constraint> handle) : handle_(std::move(handle)) {}
  static Constraint of(const Model& model, glimpse_constraint_kind kind, std::string_view text) {
    const std::string terminated(text);
    return Constraint(detail::made<glimpse_constraint>(glimpse_constraint_create, model.get(), kind, terminated.c_str(),
                                                       terminated.size()));
  }

  detail::Owner<glimpse_constraint> handle_;
};

/// A picture as the decoder sees it.
class Embedding {
 public:
  explicit Embedding(detail::Owner<glimpse_embedding> handle) : handle_(std::move(handle)) {}
  static Embedding load(const std::vector<unsigned char>& bytes) {
    return Embedding(detail::made<glimpse_embedding>(glimpse_embedding_load, bytes.data(), bytes.size()));
  }
  std::vector<unsigned char> save() const {
    return detail::counted<unsigned char>(glimpse_embedding_save, handle_.get());
  }
  glimpse_embedding_info info() const {
    return detail::filled<glimpse_embedding_info>(glimpse_embedding_get_info, handle_.get());
  }
  const glimpse_embedding* get() const { return handle_.get(); }

 private:
  detail::Owner<glimpse_embedding> handle_;
};

inline glimpse_video video() {
  return detail::initial(glimpse_video_init);
}
inline glimpse_video_sampling video_sampling() {
  return detail::initial(glimpse_video_sampling_init);
}

/// Pictures to embeddings without a session; used by one thread at a time.
class Encoder {
 public:
  Encoder(const Model& model, const glimpse_encoder_params& params)
      : handle_(detail::made<glimpse_encoder>(glimpse_encoder_create, model.get(), &params)) {}
  static glimpse_encoder_params params() { return detail::initial(glimpse_encoder_params_init); }
  static glimpse_memory_plan plan(const Model& model, const glimpse_encoder_params& params) {
    return detail::filled<glimpse_memory_plan>(glimpse_plan_encoder, model.get(), &params);
  }
  static glimpse_picture file(const std::string& path) {
    glimpse_picture picture{};
    picture.path = detail::c_string(path);
    return picture;
  }
  static glimpse_picture bytes(std::string_view bytes) {
    glimpse_picture picture{};
    picture.bytes = bytes.data();
    picture.n_bytes = bytes.size();
    return picture;
  }
  static glimpse_picture rgb(const uint8_t* rgb, int32_t width, int32_t height, size_t stride = 0) {
    glimpse_picture picture{};
    picture.rgb = rgb;
    picture.width = width;
    picture.height = height;
    picture.stride = stride;
    return picture;
  }
  /// What file(), bytes() and rgb() were given must live until the call returns.
  std::vector<Embedding> encode(const std::vector<glimpse_picture>& pictures, const Progress& progress = {}) {
    std::vector<Embedding> embeddings;
    embeddings.reserve(pictures.size());
    std::vector<glimpse_embedding*> handles(pictures.size() + 1);  // never empty: out may not be NULL
    detail::watched(progress, [&](glimpse_progress_callback callback, void* user) {
      return glimpse_encoder_encode(handle_.get(), pictures.data(), pictures.size(), callback, user, handles.data());
    });
    for (size_t i = 0; i < pictures.size(); ++i) embeddings.emplace_back(detail::Owner<glimpse_embedding>(handles[i]));
    return embeddings;
  }
  /// A video, see glimpse_video; what it points at must live until the call returns.
  Embedding encode_video(const glimpse_video& video, const Progress& progress = {}) {
    glimpse_embedding* embedding = nullptr;
    detail::watched(progress, [&](glimpse_progress_callback callback, void* user) {
      return glimpse_encoder_encode_video(handle_.get(), &video, callback, user, &embedding);
    });
    return Embedding(detail::Owner<glimpse_embedding>(embedding));
  }
  glimpse_encoder* get() const { return handle_.get(); }

 private:
  detail::Owner<glimpse_encoder> handle_;
};

/// A text or a picture of a message. The embedding must live until the call that takes the message returns.
struct Part {
  std::string text;
  const Embedding* embedding = nullptr;
};
namespace detail {
// Parts in the C layout; they point into those that they were made from.
inline std::vector<glimpse_part> flat(const std::vector<Part>& from) {
  std::vector<glimpse_part> parts(from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i].embedding != nullptr) {
      parts[i].embedding = from[i].embedding->get();
    } else {
      parts[i].text = from[i].text.c_str();
      parts[i].n_bytes = from[i].text.size();
    }
  }
  return parts;
}
}  // namespace detail
/// Texts and pictures to vectors and scores; used by one thread at a time.
class Embedder {
 public:
  Embedder(const Model& model, const glimpse_session_params& params)
      : handle_(detail::made<glimpse_embedder>(glimpse_embedder_create, model.get(), &params)) {}
  static glimpse_embed_params params() { return detail::initial(glimpse_embed_params_init); }
  /// Vectors, one behind the other.
  std::vector<float> embed(const std::vector<std::vector<Part>>& inputs,
                           glimpse_embed_params params = Embedder::params(), const Progress& progress = {}) {
    const Flat flat(inputs);
    size_t n = 0;
    check(glimpse_embedder_embed(handle_.get(), flat.inputs.data(), inputs.size(), &params, nullptr, 0, &n));
    std::vector<float> vectors(n);
    detail::watched(progress, params, [&] {
      return glimpse_embedder_embed(handle_.get(), flat.inputs.data(), inputs.size(), &params, vectors.data(), n, &n);
    });
    return vectors;
  }
  std::vector<float> rank(const std::vector<Part>& query, const std::vector<std::vector<Part>>& documents,
                          glimpse_embed_params params = Embedder::params(), const Progress& progress = {}) {
    const std::vector<std::vector<Part>> queries{query};
    const Flat question(queries), flat(documents);
    std::vector<float> scores(documents.size());
    detail::watched(progress, params, [&] {
      return glimpse_embedder_rank(handle_.get(), question.inputs.data(), flat.inputs.data(), documents.size(), &params,
                                   scores.data());
    });
    return scores;
  }

 private:
  struct Flat {
    explicit Flat(std::vector<std::vector<Part>>&&) = delete;  // it points into what it was given
    explicit Flat(const std::vector<std::vector<Part>>& given) {
      for (const std::vector<Part>& input : given) {
        parts.push_back(detail::flat(input));
        inputs.push_back({parts.back().data(), parts.back().size()});
      }
    }
    std::deque<std::vector<glimpse_part>> parts;
    std::vector<glimpse_input> inputs;
  };
  detail::Owner<glimpse_embedder> handle_;
};

struct Message {
  std::string role;  // "system", "user", "assistant" or "raw"
  std::vector<Part> parts;
};

struct Answer {
  std::string text;
  std::vector<int32_t> tokens;
  glimpse_finish_reason reason = GLIMPSE_FINISH_STOP;
  bool thinking_open = false;  // it began inside of <think>
};

/// What an answer consists of.
struct ToolCall {
  std::string name, arguments;
};
struct AnswerParts {
  std::string reasoning, content;
  std::vector<ToolCall> tool_calls;
  std::vector<std::string> problems;
};
inline AnswerParts split_answer(std::string_view text, bool thinking_open, bool tool_calls) {
  auto params = detail::initial(glimpse_splitter_params_init);
  params.thinking_open = thinking_open ? 1 : 0;
  params.tool_calls = tool_calls ? 1 : 0;
  const auto splitter = detail::made<glimpse_splitter>(glimpse_splitter_create, &params);
  check(glimpse_splitter_push(splitter.get(), text.data(), text.size(), nullptr));
  check(glimpse_splitter_finish(splitter.get(), nullptr));
  const auto c = detail::filled<glimpse_answer_parts>(glimpse_splitter_get, splitter.get());
  AnswerParts parts{{c.reasoning, c.n_reasoning_bytes}, {c.content, c.n_content_bytes}, {}, {}};
  for (size_t i = 0; i < c.n_tool_calls; ++i)
    parts.tool_calls.push_back({c.tool_calls[i].name, c.tool_calls[i].arguments});
  for (size_t i = 0; i < c.n_problems; ++i) parts.problems.emplace_back(c.problems[i]);
  return parts;
}
/// The way back: an "assistant" message, as the model's chat template has it.
/// reasoning_known: false where a think block in content counts as one.
inline Message join_answer(const Model& model, const AnswerParts& parts, bool reasoning_known) {
  std::vector<glimpse_tool_call> calls;
  for (const ToolCall& call : parts.tool_calls) calls.push_back({call.name.c_str(), call.arguments.c_str()});
  glimpse_answer_parts c{};
  c.struct_size = sizeof c;
  if (reasoning_known) c.reasoning = parts.reasoning.data();
  c.n_reasoning_bytes = parts.reasoning.size();
  c.content = parts.content.data();
  c.n_content_bytes = parts.content.size();
  c.tool_calls = calls.data();
  c.n_tool_calls = calls.size();
  size_t n = 0, n_thinking = 0;
  check(glimpse_join_answer(model.get(), &c, nullptr, 0, &n, &n_thinking));
  std::string text(n, '\0');
  check(glimpse_join_answer(model.get(), &c, text.data(), n, &n, &n_thinking));
  Message message{"assistant", {}};
  if (n_thinking > 0) message.parts.push_back({text.substr(0, n_thinking)});
  message.parts.push_back({text.substr(n_thinking)});
  return message;
}

/// What a session was at a moment.
class Checkpoint {
 public:
  explicit Checkpoint(detail::Owner<glimpse_checkpoint> handle) : handle_(std::move(handle)) {}
  const glimpse_checkpoint* get() const { return handle_.get(); }

 private:
  detail::Owner<glimpse_checkpoint> handle_;
};

/// One conversation; it and those forked from it are used by one thread at a time.
class Session {
 public:
  Session(const Model& model, const glimpse_session_params& params)
      : handle_(detail::made<glimpse_session>(glimpse_session_create, model.get(), &params)) {}
  static glimpse_session_params params() { return detail::initial(glimpse_session_params_init); }
  static glimpse_memory_plan plan(const Model& model, const glimpse_session_params& params) {
    return detail::filled<glimpse_memory_plan>(glimpse_plan_session, model.get(), &params);
  }

  Embedding encode_image_file(const std::string& path, const Progress& progress = {}) {
    return encode(progress, [&](glimpse_progress_callback callback, void* user, glimpse_embedding** out) {
      return glimpse_encode_image_file(handle_.get(), detail::c_string(path), callback, user, out);
    });
  }
  Embedding encode_image_bytes(std::string_view bytes, const Progress& progress = {}) {
    return encode(progress, [&](glimpse_progress_callback callback, void* user, glimpse_embedding** out) {
      return glimpse_encode_image_bytes(handle_.get(), bytes.data(), bytes.size(), callback, user, out);
    });
  }
  Embedding encode_image_rgb(const uint8_t* rgb, int32_t width, int32_t height, size_t stride = 0,
                             const Progress& progress = {}) {
    return encode(progress, [&](glimpse_progress_callback callback, void* user, glimpse_embedding** out) {
      return glimpse_encode_image_rgb(handle_.get(), rgb, width, height, stride, callback, user, out);
    });
  }

  /// See glimpse_video; what it points at must live until the call returns.
  Embedding encode_video(const glimpse_video& video, const Progress& progress = {}) {
    return encode(progress, [&](glimpse_progress_callback callback, void* user, glimpse_embedding** out) {
      return glimpse_encode_video(handle_.get(), &video, callback, user, out);
    });
  }

  static glimpse_generate_params generate_params() { return detail::initial(glimpse_generate_params_init); }
  /// on_text and progress replace the callbacks of params when set.
  Answer generate(const std::vector<Message>& messages, glimpse_generate_params params = generate_params(),
                  const OnText& on_text = {}, const Progress& progress = {}) {
    detail::Callbacks callbacks(progress, on_text);
    callbacks.set_on_text(&params.on_text, &params.on_text_user);
    callbacks.set_progress(&params.progress, &params.progress_user);
    const Flat flat(messages);
    callbacks.check(glimpse_generate(handle_.get(), flat.messages.data(), flat.messages.size(), &params));
    return answer();
  }
  void prefill(const std::vector<Message>& messages, const Progress& progress = {}) {
    const Flat flat(messages);
    detail::watched(progress, [&](glimpse_progress_callback callback, void* user) {
      return glimpse_prefill(handle_.get(), flat.messages.data(), flat.messages.size(), callback, user);
    });
  }
  void begin_answer(const glimpse_generate_params& params) { check(glimpse_begin_answer(handle_.get(), &params)); }
  glimpse_step_result step() { return detail::filled<glimpse_step_result>(glimpse_step, handle_.get()); }
  /// A step of each, in one pass. Throws where one failed, after all others have made theirs.
  static std::vector<glimpse_step_result> step_many(const std::vector<Session*>& sessions) {
    std::vector<glimpse_session*> handles;
    for (Session* session : sessions) handles.push_back(session->get());
    glimpse_step_result empty{};
    empty.struct_size = sizeof empty;
    std::vector<glimpse_step_result> results(sessions.size(), empty);
    check(glimpse_step_many(handles.data(), handles.size(), results.data()));
    return results;
  }
  glimpse_step_result feed(int32_t token) {
    return detail::filled<glimpse_step_result>(glimpse_feed, handle_.get(), token);
  }
  void forward() { check(glimpse_forward(handle_.get())); }
  Session fork() const { return Session(detail::made<glimpse_session>(glimpse_session_fork, handle_.get())); }
  Checkpoint checkpoint() const {
    return Checkpoint(detail::made<glimpse_checkpoint>(glimpse_session_checkpoint, handle_.get()));
  }
  void rewind(const Checkpoint& checkpoint) { check(glimpse_session_rewind(handle_.get(), checkpoint.get())); }
  std::vector<unsigned char> save() const {
    return detail::counted<unsigned char>(glimpse_session_save, handle_.get());
  }
  void save(const std::string& path) const { check(glimpse_session_save_file(handle_.get(), detail::c_string(path))); }
  void load(const std::vector<unsigned char>& bytes) {
    check(glimpse_session_load(handle_.get(), bytes.data(), bytes.size()));
  }
  void load(const std::string& path) { check(glimpse_session_load_file(handle_.get(), detail::c_string(path))); }
  /// (vocab_size) floats, valid until the session's next call.
  std::pair<const float*, size_t> logits() const {
    const float* values = nullptr;
    size_t n = 0;
    check(glimpse_get_logits(handle_.get(), &values, &n));
    return {values, n};
  }
  Answer answer() const {
    const auto info = detail::filled<glimpse_answer_info>(glimpse_get_answer, handle_.get());
    return {std::string(info.text, info.n_bytes), std::vector<int32_t>(info.tokens, info.tokens + info.n_tokens),
            static_cast<glimpse_finish_reason>(info.finish_reason), info.thinking_open != 0};
  }
  /// tools: a JSON object each.
  void set_prompt(const std::vector<std::string>& tools, glimpse_thinking thinking = GLIMPSE_THINKING_DEFAULT) {
    auto params = detail::initial(glimpse_prompt_params_init);
    const std::vector<const char*> c_tools = detail::c_strings(tools);
    params.tools = c_tools.data();
    params.n_tools = c_tools.size();
    params.thinking = thinking;
    check(glimpse_session_set_prompt_params(handle_.get(), &params));
  }
  glimpse_timings timings() const { return detail::filled<glimpse_timings>(glimpse_get_timings, handle_.get()); }
  void reset() { check(glimpse_session_reset(handle_.get())); }
  glimpse_session* get() const { return handle_.get(); }

 private:
  explicit Session(detail::Owner<glimpse_session> handle) : handle_(std::move(handle)) {}

  // Messages in the C layout; points into the vector it was made from.
  struct Flat {
    explicit Flat(const std::vector<Message>& from) {
      for (const Message& message : from) {
        parts.push_back(detail::flat(message.parts));
        messages.push_back({detail::c_string(message.role), parts.back().data(), parts.back().size()});
      }
    }
    std::deque<std::vector<glimpse_part>> parts;
    std::vector<glimpse_message> messages;
  };

  template <typename Call>
  static Embedding encode(const Progress& progress, Call&& call) {
    glimpse_embedding* embedding = nullptr;
    detail::watched(progress,
                    [&](glimpse_progress_callback callback, void* user) { return call(callback, user, &embedding); });
    return Embedding(detail::Owner<glimpse_embedding>(embedding));
  }

  detail::Owner<glimpse_session> handle_;
};

/// A text or a picture of a request's message; Encoder::file(), bytes() and rgb() make pictures. What bytes(), rgb()
/// and an embedding point at must live until submit() returns.
struct RequestPart {
  RequestPart(std::string t) : text(std::move(t)) {}
  RequestPart(const char* t) : text(t) {}
  RequestPart(const glimpse_picture& p) : text(p.path == nullptr ? "" : p.path), picture(p) {}
  RequestPart(const Embedding& e) : embedding(&e) {}
  std::string text;  // or the path of a picture
  glimpse_picture picture{};
  const Embedding* embedding = nullptr;
};
struct RequestMessage {
  std::string role;
  std::vector<RequestPart> parts;
};

/// What became of a request; see glimpse_request_result.
struct RequestResult {
  bool finished = false;
  glimpse_status status = GLIMPSE_OK;
  std::string message;
  glimpse_finish_reason reason = GLIMPSE_FINISH_NONE;
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  double queued_ms = 0, first_token_ms = 0, total_ms = 0;
  int64_t n_cached_images = 0;
  bool thinking_open = false;
  std::vector<glimpse_picture_size> pictures;
};

namespace detail {
inline RequestResult wait(const glimpse_ticket* ticket, size_t n_seen, int64_t timeout_ms) {
  const auto got = filled<glimpse_request_result>(glimpse_ticket_wait, ticket, n_seen, timeout_ms);
  RequestResult result;
  result.finished = got.finished != 0;
  result.status = static_cast<glimpse_status>(got.status);
  result.message = got.message;
  result.reason = static_cast<glimpse_finish_reason>(got.finish_reason);
  result.text.assign(got.text, got.n_bytes);
  result.tokens.assign(got.tokens, got.tokens + got.n_tokens);
  if (got.logprobs != nullptr) result.logprobs.assign(got.logprobs, got.logprobs + got.n_tokens);
  result.queued_ms = got.queued_ms;
  result.first_token_ms = got.first_token_ms;
  result.total_ms = got.total_ms;
  result.n_cached_images = got.n_cached_images;
  result.thinking_open = got.thinking_open != 0;
  result.pictures.assign(got.pictures, got.pictures + got.n_pictures);
  return result;
}
}  // namespace detail

/// A request that was submitted. Cancels it when it goes before the end.
class Ticket {
 public:
  explicit Ticket(detail::Owner<glimpse_ticket> handle) : handle_(std::move(handle)) {}
  /// Until it is finished, has more than n_seen tokens, or the time is up (negative: however long it takes).
  RequestResult wait(size_t n_seen = static_cast<size_t>(-1), int64_t timeout_ms = -1) const {
    return detail::wait(handle_.get(), n_seen, timeout_ms);
  }
  void cancel() const { glimpse_ticket_cancel(handle_.get()); }
  /// Of token `index` of the last wait(), descending.
  std::vector<std::pair<int32_t, float>> top_logprobs(size_t index) const {
    size_t n = 0;
    check(glimpse_ticket_get_top_logprobs(handle_.get(), index, nullptr, nullptr, 0, &n));
    std::vector<int32_t> ids(n);
    std::vector<float> values(n);
    if (n > 0) check(glimpse_ticket_get_top_logprobs(handle_.get(), index, ids.data(), values.data(), n, &n));
    std::vector<std::pair<int32_t, float>> top;
    for (size_t i = 0; i < n; ++i) top.emplace_back(ids[i], values[i]);
    return top;
  }
  glimpse_timings timings() const { return detail::filled<glimpse_timings>(glimpse_ticket_get_timings, handle_.get()); }
  glimpse_ticket* get() const { return handle_.get(); }

 private:
  detail::Owner<glimpse_ticket> handle_;
};

/// Many questions at once; all of it may be called from any thread.
class Engine {
 public:
  using OnToken = std::function<bool(const glimpse_step_result& step)>;
  using OnDone = std::function<void(const RequestResult& result)>;
  struct Request {
    std::vector<RequestMessage> messages;
    glimpse_generate_params generate = Session::generate_params();
    int64_t deadline_ms = 0;
    int32_t priority = 0;
    OnToken on_token{};
    OnDone on_done{};
    std::vector<std::string> tools{};
    glimpse_thinking thinking = GLIMPSE_THINKING_DEFAULT;
  };

  Engine(const Model& model, const glimpse_engine_params& params)
      : handle_(detail::made<glimpse_engine>(glimpse_engine_create, model.get(), &params)) {}
  static glimpse_engine_params params() { return detail::initial(glimpse_engine_params_init); }
  static glimpse_memory_plan plan(const Model& model, const glimpse_engine_params& params) {
    return detail::filled<glimpse_memory_plan>(glimpse_plan_engine, model.get(), &params);
  }
  void start() { check(glimpse_engine_start(handle_.get())); }
  void stop(int64_t grace_ms) { check(glimpse_engine_stop(handle_.get(), grace_ms)); }
  /// One pass, or one picture; false: there is nothing left to do.
  bool step() {
    int32_t more = 0;
    check(glimpse_engine_step(handle_.get(), &more));
    return more != 0;
  }
  Ticket submit(const Request& request) {
    glimpse_ticket* ticket = nullptr;
    submit(request, &ticket);
    return Ticket(detail::Owner<glimpse_ticket>(ticket));
  }
  /// Nobody waits for it: on_done tells.
  void submit_unattended(const Request& request) { submit(request, nullptr); }
  glimpse_engine_stats stats() const {
    return detail::filled<glimpse_engine_stats>(glimpse_engine_get_stats, handle_.get());
  }
  glimpse_engine* get() const { return handle_.get(); }

 private:
  struct Callbacks {
    OnToken on_token;
    OnDone on_done;
  };

  void submit(const Request& request, glimpse_ticket** out) {
    std::vector<std::vector<glimpse_request_part>> parts;
    std::vector<glimpse_request_message> messages;
    std::deque<glimpse_picture> pictures;
    for (const RequestMessage& message : request.messages) {
      parts.emplace_back();
      for (const RequestPart& part : message.parts) {
        const glimpse_picture& p = part.picture;
        const bool pictured = p.bytes != nullptr || p.path != nullptr || p.rgb != nullptr;
        if (pictured) pictures.push_back(p);
        if (p.path != nullptr) pictures.back().path = detail::c_string(part.text);
        parts.back().push_back({part.text.c_str(), part.text.size(),
                                part.embedding == nullptr ? nullptr : part.embedding->get(),
                                pictured ? &pictures.back() : nullptr});
      }
      messages.push_back({detail::c_string(message.role), nullptr, parts.back().size()});
    }
    for (size_t i = 0; i < messages.size(); ++i) messages[i].parts = parts[i].data();
    auto c = detail::initial(glimpse_request_init);
    c.messages = messages.data();
    c.n_messages = messages.size();
    c.generate = &request.generate;
    c.deadline_ms = request.deadline_ms;
    c.priority = request.priority;
    const std::vector<const char*> tools = detail::c_strings(request.tools);
    c.tools = tools.data();
    c.n_tools = tools.size();
    c.thinking = request.thinking;
    // Lives until on_done, which comes once for each request that was taken.
    auto callbacks = std::make_unique<Callbacks>(Callbacks{request.on_token, request.on_done});
    c.on_token_user = c.on_done_user = callbacks.get();
    if (request.on_token) {
      c.on_token = [](void* user, const glimpse_step_result* step) {
        return static_cast<Callbacks*>(user)->on_token(*step) ? 1 : 0;
      };
    }
    c.on_done = [](void* user, const glimpse_ticket* ticket) {
      const std::unique_ptr<Callbacks> self(static_cast<Callbacks*>(user));
      if (self->on_done) self->on_done(detail::wait(ticket, 0, 0));
    };
    check(glimpse_engine_submit(handle_.get(), &c, out));
    (void)callbacks.release();
  }

  detail::Owner<glimpse_engine> handle_;
};

}  // namespace glimpse::api
