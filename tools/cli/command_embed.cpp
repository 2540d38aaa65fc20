// glimpse embed and glimpse rerank: vectors of texts and pictures, scores of documents. On the public API alone.
#include <bit>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/include/glimpse/glimpse.hpp"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/model_choice.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"
#include "tools/prompt/prompt.h"

namespace glimpse::cli {
namespace {

struct EmbedCommand {
  ModelChoice model;
  std::vector<std::string> texts, images;
  std::string file, instruction, pooling = "file", output_format = "jsonl", output, query;
  bool jsonl = false, keep_length = false;
};

struct Row {
  std::string id, text, image;
};

std::string read_file(const std::string& path) {
  Result<std::string> text = prompt::read_text(path);
  if (!text.ok()) throw std::runtime_error(text.error().message);
  return std::move(text).value();
}

Row parse_row(const std::string& line, size_t number) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  Row row;
  const auto text_of = [&](const char* key, std::string& to) {
    if (!json.contains(key)) return;
    to = json[key].is_string() ? json[key].get<std::string>() : json[key].dump();
  };
  if (json.is_object()) {
    text_of("id", row.id);
    text_of("text", row.text);
    text_of("image", row.image);
  }
  if (row.text.empty() && row.image.empty()) {
    throw std::runtime_error("line " + std::to_string(number) + ": want a JSON object with \"text\" or \"image\"");
  }
  return row;
}

// The texts of the command line, then the lines of the file, then pictures.
std::vector<Row> read_rows(const EmbedCommand& o) {
  std::vector<Row> rows;
  for (const std::string& text : o.texts) rows.push_back({"", text, ""});
  if (!o.file.empty()) {
    const std::string all = read_file(o.file);
    size_t number = 0;
    for (size_t begin = 0; begin < all.size();) {
      const size_t end = std::min(all.find('\n', begin), all.size());
      std::string line = all.substr(begin, end - begin);
      begin = end + 1;
      ++number;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      rows.push_back(o.jsonl ? parse_row(line, number) : Row{"", line, ""});
    }
  }
  for (const std::string& image : o.images) rows.push_back({"", "", image});
  if (rows.empty()) throw std::runtime_error("there is nothing to read: give texts, -f FILE or --image");
  return rows;
}

class Output {
 public:
  explicit Output(const std::string& path) {
    if (path.empty()) return;
    file_.open(path, std::ios::binary | std::ios::trunc);
    if (!file_) throw std::runtime_error("cannot write " + path);
  }
  void write(const std::string& bytes) {
    if (!file_.is_open()) {
      print_data(bytes);
      return;
    }
    file_ << bytes;
    if (!file_.flush()) throw std::runtime_error("cannot write all of the output");
  }

 private:
  std::ofstream file_;
};

std::string number(float value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", static_cast<double>(value));
  return text;
}

// The beginning of a row's line: "{"index":0,"id":"a"".
std::string line_begin(const Row& row, size_t index) {
  nlohmann::json head = {{"index", index}};
  if (!row.id.empty()) head["id"] = row.id;
  std::string line = head.dump();
  line.pop_back();
  return line;
}

std::string row_text(const EmbedCommand& o, const Row& row, size_t index, const float* vector, size_t width) {
  if (o.output_format == "bin") {
    static_assert(std::endian::native == std::endian::little);
    return {reinterpret_cast<const char*>(vector), width * sizeof(float)};
  }
  std::string values;
  for (size_t i = 0; i < width; ++i) values += (i > 0 ? "," : "") + number(vector[i]);
  if (o.output_format == "csv") return values + "\n";
  return line_begin(row, index) + ",\"embedding\":[" + values + "]}\n";
}

/// Model, pictures and rows of both commands.
struct Loaded {
  api::Model model;
  std::vector<Row> rows;
  std::vector<std::unique_ptr<api::Embedding>> pictures;  // of the rows; nullptr: none
  std::vector<std::vector<api::Part>> inputs;
};

Loaded load(const EmbedCommand& o, const api::Progress& progress) {
  std::vector<Row> rows = read_rows(o);
  Loaded loaded{api::Model(model_params(o.model), progress), std::move(rows), {}, {}};
  std::unique_ptr<api::Encoder> encoder;
  for (const Row& row : loaded.rows) {
    std::unique_ptr<api::Embedding> picture;
    if (!row.image.empty()) {
      if (o.model.mmproj.empty())
        throw std::runtime_error("pictures need the vision encoder: give its file with --mmproj");
      if (encoder == nullptr) {
        const glimpse_session_params bounds = session_params(o.model, loaded.model.info().context_length);
        glimpse_encoder_params params = api::Encoder::params();
        params.n_threads = bounds.n_threads;
        params.image_min_tokens = bounds.image_min_tokens;
        params.image_max_tokens = bounds.image_max_tokens;
        params.image_min_pixels = bounds.image_min_pixels;
        params.image_max_pixels = bounds.image_max_pixels;
        params.image_source_max_pixels = bounds.image_source_max_pixels;
        params.image_source_max_memory = bounds.image_source_max_memory;
        params.image_source_max_scans = bounds.image_source_max_scans;
        params.image_dedup = bounds.image_dedup;
        encoder = std::make_unique<api::Encoder>(loaded.model, params);
      }
      picture =
          std::make_unique<api::Embedding>(std::move(encoder->encode({api::Encoder::file(row.image)}, progress)[0]));
    }
    std::vector<api::Part> input;
    if (picture != nullptr) input.push_back({"", picture.get()});
    if (!row.text.empty()) input.push_back({row.text, nullptr});
    loaded.pictures.push_back(std::move(picture));
    loaded.inputs.push_back(std::move(input));
  }
  return loaded;
}

/// What both commands begin with.
struct Work {
  explicit Work(const EmbedCommand& o)
      : loaded(load(o, progress)),
        embedder(loaded.model, session_params(o.model, loaded.model.info().context_length)),
        params(api::Embedder::params()) {
    if (!o.instruction.empty()) params.instruction = o.instruction.c_str();
  }
  ProgressLine line{true};
  const api::Progress progress = [this](const char* stage, double fraction) {
    line.show(stage, fraction);
    return !interrupted();
  };
  const Loaded loaded;
  api::Embedder embedder;
  glimpse_embed_params params;
};

int embed(const EmbedCommand& o) {
  catch_interrupts();
  Work work(o);
  work.params.keep_length = o.keep_length ? 1 : 0;
  work.params.pooling = o.pooling == "mean"   ? GLIMPSE_POOLING_MEAN
                        : o.pooling == "cls"  ? GLIMPSE_POOLING_CLS
                        : o.pooling == "last" ? GLIMPSE_POOLING_LAST
                                              : GLIMPSE_POOLING_FILE;
  const std::vector<float> vectors = work.embedder.embed(work.loaded.inputs, work.params, work.progress);
  work.line.clear();
  Output output(o.output);
  const std::vector<Row>& rows = work.loaded.rows;
  const size_t width = vectors.size() / rows.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    output.write(row_text(o, rows[i], i, vectors.data() + i * width, width));
  }
  return kExitOk;
}

int rerank(const EmbedCommand& o) {
  catch_interrupts();
  Work work(o);
  const std::vector<float> scores =
      work.embedder.rank({{o.query, nullptr}}, work.loaded.inputs, work.params, work.progress);
  work.line.clear();
  Output output(o.output);
  for (size_t i = 0; i < scores.size(); ++i) {
    output.write(line_begin(work.loaded.rows[i], i) + ",\"score\":" + number(scores[i]) + "}\n");
  }
  return kExitOk;
}

void add_inputs(CLI::App& command, EmbedCommand& o) {
  add_model_files(command, o.model);
  command.add_option("text", o.texts, "texts, each a row");
  command.add_option("-f,--file", o.file, "file with a text in each line ('-': standard input)");
  command.add_flag("--jsonl", o.jsonl,
                   "its lines are JSON objects: \"text\", \"image\" (a file's name) or both, and \"id\"");
  command.add_option("--image", o.images, "picture, a row of its own; may be given several times")
      ->allow_extra_args(false);
  command.add_option("-o,--output", o.output, "file to write; default: standard output");
  add_model_options(command, o.model);
}

}  // namespace

void add_embed(CLI::App& app, int* status) {
  auto options = std::make_shared<EmbedCommand>();
  CLI::App* command = app.add_subcommand("embed", "texts and pictures to vectors, with an embedding model");
  add_inputs(*command, *options);
  command->add_option("--instruction", options->instruction,
                      "what the vectors are for: the rows are queries; documents take none");
  command->add_option("--pooling", options->pooling, "how rows become one vector: file (as it says), last, mean or cls")
      ->check(CLI::IsMember({"file", "last", "mean", "cls"}))
      ->capture_default_str();
  command->add_flag("--no-normalize,!--normalize", options->keep_length,
                    "keep the vectors' lengths; default: length 1");
  command
      ->add_option("--output-format", options->output_format,
                   "jsonl, csv, or bin: 32-bit floats, little-endian, row by row")
      ->check(CLI::IsMember({"jsonl", "csv", "bin"}))
      ->capture_default_str();
  on_run(*command, status, [options] { return embed(*options); });
}

void add_rerank(CLI::App& app, int* status) {
  auto options = std::make_shared<EmbedCommand>();
  CLI::App* command = app.add_subcommand("rerank", "how well documents answer a query, with a reranking model");
  add_inputs(*command, *options);
  command->add_option("-q,--query", options->query, "the query")->required();
  command->add_option("--instruction", options->instruction,
                      "what makes a document the right one; default: web search");
  on_run(*command, status, [options] { return rerank(*options); });
}

}  // namespace glimpse::cli
