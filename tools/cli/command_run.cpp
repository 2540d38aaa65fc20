// glimpse run: one question about any number of pictures. Written on the public API alone.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.hpp"
#include "tools/cli/answer_shapes.h"
#include "tools/cli/commands.h"
#include "tools/cli/constraint_choice.h"
#include "tools/cli/draft_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/model_choice.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/sampling_choice.h"
#include "tools/cli/terminal.h"
#include "tools/cli/video_choice.h"
#include "tools/prompt/prompt.h"

namespace glimpse::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct RunOptions {
  ModelChoice model;
  SamplingChoice sampling;
  ConstraintChoice constraint;
  DraftChoice drafts;
  std::string prompt, prompt_file, system, boxes, masks, tools, thinking = "auto";
  std::vector<std::string> images;
  VideoChoice video;
  int32_t logprobs = 0;
  bool json = false, force = false, raw = false;
};

void add_options(CLI::App& run, RunOptions& o) {
  add_model_files(run, o.model);
  // One value per flag, or a list would swallow the question that follows it.
  run.add_option("--image", o.images, "picture, or '-' for standard input; may be given several times")
      ->allow_extra_args(false);
  add_video_options(run, o.video);
  CLI::Option* const question = run.add_option(
      "-p,--prompt,prompt", o.prompt,
      "the question ('-', or none: standard input); <image> and <video> in it are the places of pictures "
      "and videos, without them they come first");
  run.add_option("-f,--file", o.prompt_file,
                 "read the question from a text file ('-': standard input); its last line break is left out")
      ->excludes(question);
  CLI::Option* const system =
      run.add_option("--system", o.system, "system prompt (also -sys); default: the model's own");
  run.add_flag("--raw", o.raw,
               "give the model the prompt as it is, without chat format, for base models; control tokens in it count")
      ->excludes(system);
  run.add_option("--tools", o.tools,
                 "file with a JSON array of function definitions that the model may call ('-': standard input); --json "
                 "has the calls");
  run.add_option("--thinking", o.thinking,
                 "whether the model thinks before it answers; auto: as its chat template has it")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  add_draft_options(run, o.drafts);
  add_sampling_options(run, o.sampling);
  add_constraint_options(run, o.constraint);
  CLI::Option* const logprobs =
      run.add_option("--logprobs", o.logprobs, "most likely alternatives per token in --json")->capture_default_str();
  add_model_options(run, o.model);
  run.add_option("--boxes", o.boxes,
                 "draw the answer's boxes, points and polygons, with their labels, on the picture and write it to this "
                 "file, PNG; of several pictures to FILE-1.png, FILE-2.png, ...");
  run.add_option("--masks", o.masks,
                 "write each box and polygon of the answer as a mask, mask-PICTURE-NUMBER.png, into this directory");
  run.add_flag("--force", o.force, "let --boxes and --masks overwrite files");
  logprobs->needs(run.add_flag("--json", o.json,
                               "print one JSON object: answer, its parts (reasoning, content, tool calls), boxes, "
                               "tokens, timings, picture sizes"));
}

template <typename T>
T value_or_throw(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

// The question: an argument, a file, or what is piped in.
std::string read_question(const RunOptions& o) {
  const bool picture_on_stdin = std::find(o.images.begin(), o.images.end(), "-") != o.images.end();
  std::string path = o.prompt_file;
  if (path.empty() && o.prompt == "-") path = "-";
  if (path.empty() && o.prompt.empty() && !picture_on_stdin && isatty(STDIN_FILENO) == 0) path = "-";
  const std::string question = path.empty() ? o.prompt : value_or_throw(prompt::read_text(path));
  if (question.empty()) throw std::runtime_error("there is no question: give -p TEXT or -f FILE");
  return question;
}

// A JSON array of definitions, each as it stands there.
std::vector<std::string> read_tools(const std::string& path) {
  const auto json = nlohmann::ordered_json::parse(value_or_throw(prompt::read_text(path)), nullptr, false);
  if (!json.is_array()) throw std::runtime_error("--tools " + path + ": want a JSON array of function definitions");
  std::vector<std::string> tools;
  for (const auto& tool : json) tools.push_back(tool.dump());
  return tools;
}

// Text and pictures in the order of the prompt. The message points into the embeddings.
api::Message message_of(const std::vector<prompt::Piece>& pieces, const std::vector<api::Embedding>& pictures,
                        const std::vector<api::Embedding>& videos, bool raw) {
  api::Message message{raw ? "raw" : "user", {}};
  auto picture = pictures.begin(), video = videos.begin();
  for (const prompt::Piece& piece : pieces) {
    if (piece.is_picture || piece.is_video) {
      message.parts.push_back({"", piece.is_picture ? &*picture++ : &*video++});
    } else {
      message.parts.push_back({piece.text, nullptr});
    }
  }
  return message;
}

nlohmann::json videos_json(const std::vector<VideoFacts>& facts, const std::vector<api::Embedding>& videos) {
  nlohmann::json list = nlohmann::json::array();
  for (size_t i = 0; i < videos.size(); ++i) {
    const glimpse_embedding_info info = videos[i].info();
    list.push_back({{"path", facts[i].path},
                    {"frames", facts[i].n_frames},
                    {"frames_seen", facts[i].n_seen},
                    {"fps", facts[i].fps},
                    {"width", info.original_width},
                    {"height", info.original_height},
                    {"resized_width", info.resized_width},
                    {"resized_height", info.resized_height},
                    {"tokens", info.n_tokens}});
  }
  return list;
}

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double per_second(int64_t n, double ms) {
  return ms > 0 ? static_cast<double>(n) * 1000.0 / ms : 0;
}

void print_timings(const glimpse_timings& t, double load_ms) {
  print_note("load          %9.1f ms", load_ms);
  if (t.n_image_tokens > 0) {
    print_note("decode image  %9.1f ms", t.image_decode_ms);
    print_note("resize        %9.1f ms", t.image_resize_ms);
    print_note("encode image  %9.1f ms   %lld tokens", t.image_encode_ms, static_cast<long long>(t.n_image_tokens));
  }
  print_note("prefill       %9.1f ms   %lld tokens, %.1f tokens/s", t.prefill_ms,
             static_cast<long long>(t.n_prompt_tokens), per_second(t.n_prompt_tokens, t.prefill_ms));
  print_note("decode        %9.1f ms   %lld tokens, %.1f tokens/s", t.decode_ms,
             static_cast<long long>(t.n_generated_tokens), per_second(t.n_generated_tokens, t.decode_ms));
  if (t.n_drafted_tokens > 0) {
    print_note("drafts        %9lld tokens, %lld accepted", static_cast<long long>(t.n_drafted_tokens),
               static_cast<long long>(t.n_accepted_tokens));
  }
}

ShapeFiles shape_files(const RunOptions& o) {
  return {o.images, o.boxes, o.masks, o.force};
}

nlohmann::json to_json(const api::Model& model, const api::Session& session, const api::Answer& answer,
                       const api::Shapes& shapes, const RunOptions& o, const std::vector<api::Embedding>& embeddings,
                       double load_ms) {
  const glimpse_timings t = session.timings();
  nlohmann::json images = nlohmann::json::array();
  for (size_t i = 0; i < embeddings.size(); ++i) {
    const glimpse_embedding_info info = embeddings[i].info();
    images.push_back({{"path", o.images[i]},
                      {"width", info.original_width},
                      {"height", info.original_height},
                      {"resized_width", info.resized_width},
                      {"resized_height", info.resized_height},
                      {"tokens", info.n_tokens},
                      {"tokens_left_out", info.n_left_out}});
  }
  const api::AnswerParts parts = api::split_answer(answer.text, answer.thinking_open, !o.tools.empty());
  nlohmann::json calls = nlohmann::json::array();
  for (const api::ToolCall& call : parts.tool_calls) {
    calls.push_back({{"name", call.name}, {"arguments", nlohmann::json::parse(call.arguments)}});
  }
  nlohmann::json json = {{"answer", answer.text},
                         {"reasoning", parts.reasoning},
                         {"content", parts.content},
                         {"tool_calls", calls},
                         {"tool_call_problems", parts.problems},
                         {"boxes", shapes_json(shapes, picture_sizes(embeddings), shape_files(o))},
                         {"boxes_problem", shapes.problem},
                         {"tokens", answer.tokens},
                         {"finish_reason", glimpse_finish_reason_name(answer.reason)},
                         {"images", images},
                         {"timings",
                          {{"load_ms", load_ms},
                           {"image_decode_ms", t.image_decode_ms},
                           {"image_resize_ms", t.image_resize_ms},
                           {"image_encode_ms", t.image_encode_ms},
                           {"image_tokens", t.n_image_tokens},
                           {"prefill_ms", t.prefill_ms},
                           {"prompt_tokens", t.n_prompt_tokens},
                           {"prefill_tokens_per_second", per_second(t.n_prompt_tokens, t.prefill_ms)},
                           {"decode_ms", t.decode_ms},
                           {"generated_tokens", t.n_generated_tokens},
                           {"drafted_tokens", t.n_drafted_tokens},
                           {"accepted_tokens", t.n_accepted_tokens},
                           {"decode_tokens_per_second", per_second(t.n_generated_tokens, t.decode_ms)}}}};
  if (o.logprobs > 0) {
    nlohmann::json logprobs = nlohmann::json::array();
    std::vector<int32_t> ids(static_cast<size_t>(o.logprobs));
    std::vector<float> values(ids.size());
    for (size_t i = 0; i < answer.tokens.size(); ++i) {
      size_t n = 0;
      api::check(glimpse_get_top_logprobs(session.get(), i, ids.data(), values.data(), ids.size(), &n));
      nlohmann::json top = nlohmann::json::array();
      for (size_t k = 0; k < std::min(n, ids.size()); ++k) {
        top.push_back({{"id", ids[k]}, {"token", model.token_bytes(ids[k])}, {"logprob", values[k]}});
      }
      logprobs.push_back(top);
    }
    json["logprobs"] = logprobs;
  }
  return json;
}

// "-" is standard input.
std::string picture_path(const std::string& path) {
  return path == "-" ? "/dev/stdin" : path;
}

// A pipe can be read once: standard input is one picture or the question, and there is no picture to draw boxes on.
void check_pipes(const RunOptions& o) {
  const auto n_inputs = std::count(o.images.begin(), o.images.end(), "-") +
                        (o.prompt_file == "-" || o.prompt == "-" ? 1 : 0) + (o.tools == "-" ? 1 : 0);
  if (n_inputs > 1) throw std::runtime_error("standard input ('-') can be read once: one --image, -f or --tools");
  for (const std::string& path : o.boxes.empty() ? std::vector<std::string>() : o.images) {
    std::error_code unknown;
    if (std::filesystem::is_fifo(picture_path(path), unknown)) {
      throw std::runtime_error("--boxes draws on a file; " + path + " is a pipe: save the picture first");
    }
  }
}

int run(const RunOptions& o) {
  check_pipes(o);
  const std::string question = read_question(o);  // while Ctrl-C still ends a wait for standard input
  const std::vector<std::string> tools = o.tools.empty() ? std::vector<std::string>() : read_tools(o.tools);
  const auto pieces = value_or_throw(prompt::place_pictures(question, o.images.size(), o.raw, o.video.n_videos()));
  if (!o.images.empty() && o.model.mmproj.empty()) {
    throw std::runtime_error("--image needs the vision encoder: give its file with --mmproj");
  }
  if (o.video.n_videos() > 0 && o.model.mmproj.empty()) {
    throw std::runtime_error("a video needs the vision encoder: give its file with --mmproj");
  }
  check_shape_files(shape_files(o));
  GenerateParams generate(o.sampling);
  generate.params.n_top_logprobs = o.json ? o.logprobs : 0;
  const std::string notation = read_notation(o.constraint);
  catch_interrupts();
  ProgressLine line(o.json);
  const api::Progress progress = [&](const char* stage, double fraction) {
    line.show(stage, fraction);
    return !interrupted();
  };
  const auto start = Clock::now();
  const api::Model model(model_params(o.model), progress);
  const std::optional<api::Model> draft_model = load_draft_model(o.drafts, o.model, progress);
  const std::optional<api::Constraint> constraint = constraint_of(o.constraint, notation, model);
  if (constraint) generate.params.constraint = constraint->get();
  glimpse_session_params params = session_params(o.model, model.info().context_length);
  set_drafts(o.drafts, draft_model, params);
  api::Session session(model, params);
  session.set_prompt(tools, o.thinking == "on"    ? GLIMPSE_THINKING_ON
                            : o.thinking == "off" ? GLIMPSE_THINKING_OFF
                                                  : GLIMPSE_THINKING_DEFAULT);
  const double load_ms = ms_since(start);

  std::vector<api::Embedding> embeddings;
  for (const std::string& path : o.images)
    embeddings.push_back(session.encode_image_file(picture_path(path), progress));
  std::vector<api::Embedding> videos;
  std::vector<VideoFacts> facts(o.video.n_videos());
  for (size_t i = 0; i < facts.size(); ++i) {
    videos.push_back(encode_video(o.video, i, model, session, progress, &facts[i]));
  }
  std::vector<api::Message> messages;
  if (!o.system.empty()) messages.push_back({"system", {{o.system, nullptr}}});
  messages.push_back(message_of(pieces, embeddings, videos, o.raw));

  bool is_read = true;  // nobody needs an answer that cannot be written
  const api::OnText on_text = [&](std::string_view text) {
    line.clear();
    if (!o.json) print_data(text);
    if (!o.json) is_read = flush_output();
    return is_read;
  };
  const api::Answer answer = session.generate(messages, generate.params, on_text, progress);
  line.clear();
  const std::vector<glimpse_picture_size> sizes = picture_sizes(embeddings);
  const api::Shapes shapes = shapes_of(model, answer, sizes);
  if (o.json) {
    nlohmann::json json = to_json(model, session, answer, shapes, o, embeddings, load_ms);
    if (!videos.empty()) json["videos"] = videos_json(facts, videos);
    print_object(json);
  } else {
    print("\n");
  }
  if (answer.reason != GLIMPSE_FINISH_CANCELLED && !(o.boxes.empty() && o.masks.empty())) {
    write_shapes(shapes, sizes, shape_files(o));
  }
  if (o.model.verbose) print_timings(session.timings(), load_ms);
  if (!is_read) return kExitError;
  return answer.reason == GLIMPSE_FINISH_CANCELLED ? kExitCancelled : kExitOk;
}

}  // namespace

void add_run(CLI::App& app, int* status) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "answer one question about pictures or text");
  add_options(*command, *options);
  on_run(*command, status, [options] { return run(*options); });
}

}  // namespace glimpse::cli
