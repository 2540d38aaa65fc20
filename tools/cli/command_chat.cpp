// glimpse chat: a conversation about pictures, typed or from a script. Written on the public API alone.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.hpp"
#include "tools/chat/dropped_paths.h"
#include "tools/chat/line_editor.h"
#include "tools/cli/answer_shapes.h"
#include "tools/cli/arguments.h"
#include "tools/cli/commands.h"
#include "tools/cli/constraint_choice.h"
#include "tools/cli/draft_choice.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/model_choice.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/sampling_choice.h"
#include "tools/cli/terminal.h"
#include "tools/cli/video_choice.h"
#include "tools/prompt/picture_names.h"
#include "tools/prompt/prompt.h"

namespace glimpse::cli {
namespace {

constexpr size_t kMostUndo = 8;      // turns that can be taken back
constexpr int32_t kPageSlots = 256;  // of a checkpoint, at most one page is its own

struct ChatOptions {
  ModelChoice model;
  SamplingChoice sampling;
  ConstraintChoice constraint;
  DraftChoice drafts;
  VideoChoice video;
  std::string system, history;
  std::vector<std::string> images;
};

struct Picture {
  std::string path;
  std::shared_ptr<const api::Embedding> embedding;
  bool is_video = false;
};

// A question as it was asked, and what the session was before it.
struct Turn {
  std::optional<api::Checkpoint> before;  // none: the turn began the conversation
  std::string text;
  std::vector<Picture> pictures;
  size_t n_pictures_before = 0;  // of the conversation
};

class Chat {
 public:
  Chat(const ChatOptions& o, const api::Model& model, const std::optional<api::Model>& draft_model,
       ProgressLine& progress)
      : options_(o),
        model_(model),
        progress_(progress),
        generate_(o.sampling),
        session_(model, session_choice(o, model, draft_model)),
        constraint_(constraint_of(o.constraint, read_notation(o.constraint), model)),
        system_(o.system) {
    if (constraint_) generate_.params.constraint = constraint_->get();
  }

  /// One line of input; false: the conversation is over. Throws what went wrong with it.
  bool take_line(const std::string& line);
  void attach(const std::string& path);
  /// Video i of the choice.
  void attach_video(const VideoChoice& choice, size_t i);

 private:
  struct Command {
    const char *name, *argument, *help;
    bool (Chat::*run)(const std::string& argument);
  };
  static const std::vector<Command>& commands();

  static glimpse_session_params session_choice(const ChatOptions& o, const api::Model& model,
                                               const std::optional<api::Model>& draft_model) {
    glimpse_session_params params = session_params(o.model, model.info().context_length);
    set_drafts(o.drafts, draft_model, params);
    params.n_pool = params.n_ctx + static_cast<int32_t>(kMostUndo + 2) * kPageSlots;
    return params;
  }
  api::Progress progress() {
    return [this](const char* stage, double fraction) {
      progress_.show(stage, fraction);
      return !interrupted();
    };
  }

  bool run_command(const std::string& line);
  void ask(Turn turn);
  void answer_to(Turn& turn);
  void take_back(Turn& turn);
  bool begun() const { return glimpse_session_n_past(session_.get()) > 0; }

  bool image(const std::string& argument);
  bool video(const std::string& argument);
  bool clear(const std::string& argument);
  bool undo(const std::string& argument);
  bool again(const std::string& argument);
  bool system(const std::string& argument);
  bool save(const std::string& argument);
  bool load(const std::string& argument);
  bool draw_boxes(const std::string& argument);
  bool stats(const std::string& argument);
  bool help(const std::string& argument);
  bool quit(const std::string&) { return false; }

  const ChatOptions& options_;
  const api::Model& model_;
  ProgressLine& progress_;
  GenerateParams generate_;
  api::Session session_;
  const std::optional<api::Constraint> constraint_;
  std::string system_;
  std::deque<Turn> turns_;         // the last ones
  std::vector<Picture> waiting_;   // for the next question
  std::vector<Picture> pictures_;  // of the conversation
  api::Answer answer_;             // the last
};

const std::vector<Chat::Command>& Chat::commands() {
  static const std::vector<Command> all = {
      {"/image", "PATH", "a picture for the next question (a path dropped into a question does it too)", &Chat::image},
      {"/video", "PATH", "a video for it: a folder of frames, an animated GIF or WebP, a film", &Chat::video},
      {"/regen", "", "answer the last question again; with --temp differently", &Chat::again},
      {"/undo", "", "take back the last question and its answer (up to 8)", &Chat::undo},
      {"/clear", "", "begin a new conversation", &Chat::clear},
      {"/system", "TEXT", "another system prompt, for a new conversation; without TEXT: show it", &Chat::system},
      {"/boxes", "FILE.png", "draw what the last answer points at on its picture", &Chat::draw_boxes},
      {"/save", "FILE", "keep the conversation", &Chat::save},
      {"/load", "FILE", "go on with one that was kept", &Chat::load},
      {"/stats", "", "times of the last answer, and how full the context is", &Chat::stats},
      {"/help", "", "this list", &Chat::help},
      {"/quit", "", "end (Ctrl-D, too); Ctrl-C stops an answer", &Chat::quit}};
  return all;
}

bool is_dropped_picture(const std::string& path) {
  std::error_code none;
  return prompt::is_picture_name(path) && std::filesystem::is_regular_file(path, none);
}

bool Chat::take_line(const std::string& line) {
  const std::string word = line.substr(0, line.find(' '));
  const bool is_command =
      std::any_of(commands().begin(), commands().end(), [&](const Command& command) { return word == command.name; });
  if (is_command) return run_command(line);
  const chat::Dropped dropped = chat::take_dropped_paths(line, is_dropped_picture);
  if (dropped.paths.empty() && line.starts_with('/')) return run_command(line);
  for (const std::string& path : dropped.paths) attach(path);
  if (dropped.text.find_first_not_of(" \t") == std::string::npos) return true;
  Turn turn;
  turn.text = dropped.text;
  turn.pictures = waiting_;
  ask(std::move(turn));
  return true;
}

// "/image a b.png": the rest of the line is a word in quotes, or all of it.
bool Chat::run_command(const std::string& line) {
  const size_t end = std::min(line.find(' '), line.size());
  const std::string name = line.substr(0, end);
  const size_t begin = std::min(line.find_first_not_of(" \t", end), line.size());
  std::string argument = line.substr(begin);
  while (!argument.empty() && (argument.back() == ' ' || argument.back() == '\t')) argument.pop_back();
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.emplace_back(command.name);
    if (name != command.name) continue;
    if (*command.argument == '\0' && !argument.empty()) throw std::runtime_error(name + " takes nothing behind it");
    return (this->*command.run)(argument);
  }
  const std::string meant = nearest(name, names);
  throw std::runtime_error("there is no command " + name + (meant.empty() ? "" : "; did you mean " + meant + "?") +
                           " (/help lists them; a question may begin with a blank)");
}

// A name as it stands, or as a shell would read it.
std::string file_of(const std::string& argument) {
  std::error_code none;
  if (std::filesystem::exists(argument, none)) return argument;
  const std::vector<std::string> words = chat::shell_words(argument);
  return words.size() == 1 ? words[0] : argument;
}

void Chat::attach(const std::string& path) {
  if (options_.model.mmproj.empty()) {
    throw std::runtime_error("pictures need the vision encoder: give its file with --mmproj");
  }
  auto embedding = std::make_shared<const api::Embedding>(session_.encode_image_file(path, progress()));
  progress_.clear();
  const glimpse_embedding_info info = embedding->info();
  waiting_.push_back({path, std::move(embedding)});
  print_note("picture %zu: %s, %dx%d, %d tokens", pictures_.size() + waiting_.size(), one_line(path).c_str(),
             info.original_width, info.original_height, info.n_tokens);
}

void Chat::attach_video(const VideoChoice& choice, size_t i) {
  if (options_.model.mmproj.empty()) {
    throw std::runtime_error("videos need the vision encoder: give its file with --mmproj");
  }
  VideoFacts facts;
  auto embedding =
      std::make_shared<const api::Embedding>(encode_video(choice, i, model_, session_, progress(), &facts));
  progress_.clear();
  const glimpse_embedding_info info = embedding->info();
  waiting_.push_back({facts.path, std::move(embedding), true});
  print_note("video: %s, %dx%d, %lld of %lld frames, %d tokens", one_line(facts.path).c_str(), info.original_width,
             info.original_height, static_cast<long long>(facts.n_seen), static_cast<long long>(facts.n_frames),
             info.n_tokens);
}

void Chat::ask(Turn turn) {
  turn.n_pictures_before = pictures_.size();
  if (begun()) turn.before.emplace(session_.checkpoint());
  answer_to(turn);
  waiting_.clear();
  turns_.push_back(std::move(turn));
  if (turns_.size() > kMostUndo) turns_.pop_front();
}

// On an error the session is as before, and so is everything here.
void Chat::answer_to(Turn& turn) {
  const auto is_video = [](const Picture& picture) { return picture.is_video; };
  std::vector<Picture> placed = turn.pictures;
  const auto videos = std::stable_partition(placed.begin(), placed.end(), std::not_fn(is_video));
  const auto pieces = prompt::place_pictures(turn.text, static_cast<size_t>(videos - placed.begin()), false,
                                             static_cast<size_t>(placed.end() - videos));
  if (!pieces.ok()) throw std::runtime_error(pieces.error().message);
  std::vector<api::Message> messages;
  if (!begun() && !system_.empty()) messages.push_back({"system", {{system_, nullptr}}});
  api::Message user{"user", {}};
  auto picture = placed.begin(), video = videos;
  for (const prompt::Piece& piece : pieces.value()) {
    user.parts.push_back(piece.is_picture ? api::Part{"", (picture++)->embedding.get()}
                         : piece.is_video ? api::Part{"", (video++)->embedding.get()}
                                          : api::Part{piece.text, nullptr});
  }
  messages.push_back(std::move(user));
  bool said = false;
  const api::OnText on_text = [&](std::string_view text) {
    progress_.clear();
    said = said || !text.empty();
    print_data(text);
    flush_output();
    return !interrupted();
  };
  try {
    answer_ = session_.generate(messages, generate_.params, on_text, progress());
  } catch (...) {
    progress_.clear();
    if (said) print("\n");
    throw;
  }
  progress_.clear();
  print("\n");
  flush_output();
  pictures_.insert(pictures_.end(), placed.begin(), placed.end());
  if (answer_.reason == GLIMPSE_FINISH_CANCELLED) print_note("stopped");
  if (answer_.reason == GLIMPSE_FINISH_MAX_TOKENS)
    print_note("cut off after -n %d tokens", options_.sampling.params.max_tokens);
  if (answer_.reason == GLIMPSE_FINISH_CONTEXT_FULL) print_note("the context is full: /clear, /undo, or -c with more");
}

void Chat::take_back(Turn& turn) {
  if (turn.before) {
    session_.rewind(*turn.before);
  } else {
    session_.reset();
  }
  pictures_.resize(turn.n_pictures_before);
  answer_ = {};
}

bool Chat::image(const std::string& argument) {
  if (argument.empty()) throw std::runtime_error("/image PATH");
  attach(file_of(argument));
  return true;
}

bool Chat::video(const std::string& argument) {
  if (argument.empty()) throw std::runtime_error("/video PATH");
  VideoChoice choice = options_.video;
  choice.videos = {file_of(argument)};
  choice.frames.clear();
  attach_video(choice, 0);
  return true;
}

bool Chat::clear(const std::string&) {
  session_.reset();
  turns_.clear();
  pictures_.clear();
  waiting_.clear();
  answer_ = {};
  return true;
}

bool Chat::undo(const std::string&) {
  if (turns_.empty()) throw std::runtime_error("there is no turn to take back");
  take_back(turns_.back());
  print_note("taken back: %s", one_line(turns_.back().text, 60).c_str());
  turns_.pop_back();
  return true;
}

bool Chat::again(const std::string&) {
  if (turns_.empty()) throw std::runtime_error("there is no question to answer again");
  Turn& turn = turns_.back();
  take_back(turn);
  ++generate_.params.seed;
  answer_to(turn);
  return true;
}

bool Chat::system(const std::string& argument) {
  if (argument.empty()) {
    print_note("system prompt: %s", system_.empty() ? "the model's own" : one_line(system_).c_str());
    return true;
  }
  system_ = argument;
  return clear("");
}

bool Chat::save(const std::string& argument) {
  if (argument.empty()) throw std::runtime_error("/save FILE");
  if (!begun()) throw std::runtime_error("there is nothing to save yet");
  std::error_code none;
  if (std::filesystem::exists(std::filesystem::symlink_status(argument, none))) {
    throw std::runtime_error(argument + " exists already and is not overwritten");
  }
  session_.save(argument);
  print_note("%d tokens saved: %s", glimpse_session_n_past(session_.get()), one_line(argument).c_str());
  return true;
}

bool Chat::load(const std::string& argument) {
  if (argument.empty()) throw std::runtime_error("/load FILE");
  session_.load(file_of(argument));
  turns_.clear();
  pictures_.clear();  // their files are not in it
  waiting_.clear();
  answer_ = {};
  print_note("%d tokens loaded", glimpse_session_n_past(session_.get()));
  return true;
}

bool Chat::draw_boxes(const std::string& argument) {
  if (argument.empty()) throw std::runtime_error("/boxes FILE.png");
  if (pictures_.empty()) throw std::runtime_error("this conversation has no picture to draw on");
  if (std::any_of(pictures_.begin(), pictures_.end(), [](const Picture& picture) { return picture.is_video; })) {
    throw std::runtime_error("boxes are drawn on pictures: this conversation has a video");
  }
  ShapeFiles files{{}, argument, "", false};
  std::vector<glimpse_picture_size> sizes;
  for (const Picture& picture : pictures_) {
    const glimpse_embedding_info info = picture.embedding->info();
    sizes.push_back({info.original_width, info.original_height, info.resized_width, info.resized_height});
    files.images.push_back(picture.path);
  }
  check_shape_files(files);
  const api::Shapes shapes = shapes_of(model_, answer_, sizes);
  if (shapes.shapes.empty() && shapes.problem.empty()) throw std::runtime_error("the last answer points at nothing");
  write_shapes(shapes, sizes, files);
  return true;
}

bool Chat::stats(const std::string&) {
  const glimpse_timings t = session_.timings();
  const auto rate = [](int64_t n, double ms) { return ms > 0 ? static_cast<double>(n) * 1000 / ms : 0.0; };
  print_note("context   %d of %d tokens", glimpse_session_n_past(session_.get()),
             glimpse_session_n_ctx(session_.get()));
  if (t.n_image_tokens > 0) {
    print_note("pictures  %lld tokens, encoded in %.0f ms", static_cast<long long>(t.n_image_tokens),
               t.image_decode_ms + t.image_resize_ms + t.image_encode_ms);
  }
  print_note("prompt    %lld tokens, %lld of them from before, %.0f ms, %.1f tokens/s",
             static_cast<long long>(t.n_prompt_tokens + t.n_cached_tokens), static_cast<long long>(t.n_cached_tokens),
             t.prefill_ms, rate(t.n_prompt_tokens, t.prefill_ms));
  print_note("answer    %lld tokens, %.0f ms, %.1f tokens/s", static_cast<long long>(t.n_generated_tokens), t.decode_ms,
             rate(t.n_generated_tokens, t.decode_ms));
  return true;
}

bool Chat::help(const std::string&) {
  for (const Command& command : commands()) {
    const std::string usage = std::string(command.name) + (*command.argument == '\0' ? "" : " ") + command.argument;
    print_note("%-18s %s", usage.c_str(), command.help);
  }
  print_note("A line that ends with \\ goes on in the next.");
  return true;
}

// Lines as a question: "\" at the end of one joins it with the next.
class Lines {
 public:
  explicit Lines(const std::string& history)
      : editor_(chat::make_line_editor("> ", history, [] { return interrupted(); })) {}
  chat::LineEditor::Got read(std::string& text) {
    text.clear();
    for (std::string line;;) {
      const chat::LineEditor::Got got = editor_->read(line);
      if (got == chat::LineEditor::Got::kEnd && !text.empty()) return chat::LineEditor::Got::kLine;
      if (got != chat::LineEditor::Got::kLine) return got;
      text += line;
      if (!text.ends_with('\\')) return got;
      text.back() = '\n';
    }
  }

 private:
  const std::unique_ptr<chat::LineEditor> editor_;
};

// Whether a signal asks for the end: on a terminal Ctrl-C only stops what is under way.
bool must_end(bool is_terminal) {
  if (!interrupted()) return false;
  if (!is_terminal || interrupt_signal() != SIGINT) return true;
  forget_interrupt();
  return false;
}

int converse(Chat& chat, const std::string& history) {
  const bool is_terminal = isatty(STDIN_FILENO) != 0;
  Lines lines(history);
  int status = kExitOk;
  if (is_terminal) print_note("Ask, and /image PATH or a dropped file shows a picture; /help lists the rest.");
  for (std::string text;;) {
    if (must_end(is_terminal)) return kExitCancelled;
    const chat::LineEditor::Got got = lines.read(text);
    if (got == chat::LineEditor::Got::kEnd) return status;
    if (got == chat::LineEditor::Got::kInterrupted) continue;
    try {
      if (!chat.take_line(text)) return status;
    } catch (const std::exception& error) {
      const auto* const of_library = dynamic_cast<const api::Error*>(&error);
      if (of_library != nullptr && of_library->status() == GLIMPSE_ERROR_CANCELLED) {
        print_note("stopped");
        continue;
      }
      print_error(error.what());
      if (!is_terminal) status = kExitError;  // a script goes on, and says that not all went well
    }
  }
}

int run(const ChatOptions& o) {
  if (!o.images.empty() && o.model.mmproj.empty()) {
    throw std::runtime_error("--image needs the vision encoder: give its file with --mmproj");
  }
  catch_interrupts();
  ProgressLine progress(false);
  const api::Progress show = [&](const char* stage, double fraction) {
    progress.show(stage, fraction);
    return !interrupted();
  };
  const api::Model model(model_params(o.model), show);
  const std::optional<api::Model> draft_model = load_draft_model(o.drafts, o.model, show);
  Chat chat(o, model, draft_model, progress);
  progress.clear();
  for (const std::string& path : o.images) chat.attach(path);
  for (size_t i = 0; i < o.video.n_videos(); ++i) chat.attach_video(o.video, i);
  return converse(chat, o.history);
}

}  // namespace

void add_chat(CLI::App& app, int* status) {
  auto o = std::make_shared<ChatOptions>();
  CLI::App* command = app.add_subcommand("chat", "a conversation about pictures, typed or from a script");
  add_model_files(*command, o->model);
  command->add_option("--image", o->images, "picture of the first question; may be given several times")
      ->allow_extra_args(false);
  add_video_options(*command, o->video);
  command->add_option("--system", o->system, "system prompt (also -sys); default: the model's own");
  command->add_option("--history", o->history, "file that keeps the lines that were typed, for the next time");
  add_draft_options(*command, o->drafts);
  add_sampling_options(*command, o->sampling);
  add_constraint_options(*command, o->constraint);
  add_model_options(*command, o->model);
  on_run(*command, status, [o] { return run(*o); });
}

}  // namespace glimpse::cli
