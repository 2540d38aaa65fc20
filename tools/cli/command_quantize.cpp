// glimpse quantize: a model in another tensor type or mixture of types.
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/base/cpu_features.h"
#include "kernels/quant/mixture.h"
#include "loaders/gguf/gguf_text.h"
#include "tools/cli/arguments.h"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/terminal.h"
#include "tools/quantize/quantize.h"

namespace glimpse::cli {
namespace {

namespace fs = std::filesystem;

struct QuantizeCommand {
  std::string input, output, type, imatrix, output_type, embedding_type;
  std::vector<std::string> rules;
  int n_threads = 0;
  bool pure = false, allow_requantize = false, dry_run = false, force = false, json = false, list = false;
};

double megabytes(uint64_t n_bytes) {
  return static_cast<double>(n_bytes) / 1e6;
}
double bits_per_weight(uint64_t n_bytes, uint64_t n_elements) {
  return n_elements == 0 ? 0 : 8.0 * static_cast<double>(n_bytes) / static_cast<double>(n_elements);
}

void print_types() {
  print_format("%-8s %-7s %s\n", "type", "mostly", "bits per weight of that");
  for (uint32_t id = 0; id < 64; ++id) {
    const char* const name = file_type_name(id);
    const auto base = name == nullptr ? std::nullopt : file_type_base(static_cast<FileType>(id));
    if (!base) continue;
    const DTypeInfo& info = dtype_info(*base);
    print_format("%-8s %-7s %g\n", name, info.name, bits_per_weight(info.block_bytes, info.block_length));
  }
}

std::vector<std::string> writable_types() {
  std::vector<std::string> names;
  for (uint32_t id = 0; id < 64; ++id) {
    const char* const name = file_type_name(id);
    if (name != nullptr && file_type_base(static_cast<FileType>(id))) names.emplace_back(name);
  }
  return names;
}

[[noreturn]] void refuse_usage(const Error& error) {
  throw CLI::ValidationError(error.message);
}

// What the flags say. Throws CLI::ParseError: wrong flags.
QuantizeRequest parse_request(const QuantizeCommand& c) {
  QuantizeRequest request;
  const auto type = file_type_from_name(c.type);
  if (!type || !file_type_base(*type)) {
    const std::string meant = type ? "" : nearest(c.type, writable_types());
    refuse_usage(make_error(ErrorCode::kInvalidArgument, "%s files cannot be written%s (--list shows the types)",
                            glimpse::quoted(c.type),
                            type            ? ", only read"
                            : meant.empty() ? ""
                                            : "; did you mean " + meant + "?"));
  }
  request.type = *type;
  request.pure = c.pure;
  request.allow_requantize = c.allow_requantize;
  const auto set = [](const std::string& name, std::optional<DType>& to) {
    if (name.empty()) return;
    const Result<DType> parsed = parse_tensor_type(name);
    if (!parsed.ok()) refuse_usage(parsed.error());
    to = parsed.value();
  };
  set(c.output_type, request.output_type);
  set(c.embedding_type, request.embedding_type);
  for (const std::string& text : c.rules) {
    Result<TensorTypeRule> rule = parse_tensor_type_rule(text);
    if (!rule.ok()) refuse_usage(rule.error());
    request.rules.push_back(std::move(rule).value());
  }
  return request;
}

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code missing;  // then they are not the same
  return fs::equivalent(a, b, missing);
}

// Said before hours of work: what is in the way of the result.
Status check_output(const QuantizeCommand& c, const GgufFile& file) {
  for (const GgufShard& shard : file.shards()) {
    if (is_same_file(shard.path, c.output)) {
      return make_error(ErrorCode::kInvalidArgument, "%s is the input; give the output another name", c.output);
    }
  }
  if (!c.imatrix.empty() && is_same_file(c.imatrix, c.output)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is the importance matrix; give the output another name",
                      c.output);
  }
  std::error_code unknown;  // then writing will say what is wrong
  const fs::file_status status = fs::symlink_status(c.output, unknown);
  if (fs::is_directory(status)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is a directory", c.output);
  }
  if (!c.force && fs::exists(status)) {
    return make_error(ErrorCode::kInvalidArgument, "%s exists already and is not overwritten (--force does)", c.output);
  }
  return {};
}

std::string dims_text(const GgufTensor& tensor) {
  std::string text;
  for (uint32_t i = 0; i < tensor.n_dims; ++i) text += (i > 0 ? " x " : "") + std::to_string(tensor.dims[i]);
  return text;
}

void print_tensor(const QuantizePlan& plan, size_t index) {
  const PlannedTensor& tensor = plan.tensors[index];
  const GgufTensor& source = *tensor.source;
  print_format("[%4zu/%4zu] %-36s %16s  %-7s", index + 1, plan.tensors.size(), glimpse::quoted(source.name).c_str(),
               dims_text(source).c_str(), dtype_name(source.type));
  if (tensor.is_copied()) {
    print_format(" %-10s %9.3f MB", "", megabytes(source.n_bytes));
  } else {
    print_format(" -> %-7s %9.3f MB -> %9.3f MB", dtype_name(tensor.type), megabytes(source.n_bytes),
                 megabytes(tensor.n_bytes()));
  }
  if (tensor.is_fallback) print_format("  (fallback: rows of %" PRIu64 ")", source.row_length());
  if (tensor.lacks_importance) print_format("  (without importance)");
  print_format("\n");
}

struct Counts {
  size_t fallbacks = 0, without_importance = 0, with_importance = 0;
};

Counts count(const QuantizePlan& plan) {
  Counts counts;
  for (const PlannedTensor& tensor : plan.tensors) {
    counts.fallbacks += tensor.is_fallback;
    counts.without_importance += tensor.lacks_importance;
    counts.with_importance += !tensor.importance.empty();
  }
  return counts;
}

void print_summary(const QuantizePlan& plan) {
  print_format("%.3f MB (%.2f bits per weight) -> %.3f MB (%.2f bits per weight)\n", megabytes(plan.bytes_before),
               bits_per_weight(plan.bytes_before, plan.n_elements), megabytes(plan.bytes_after),
               bits_per_weight(plan.bytes_after, plan.n_elements));
}

// On stderr, so that they are seen with --json too.
void print_notes(const QuantizePlan& plan) {
  const Counts counts = count(plan);
  for (const std::string& pattern : plan.unused_rules) {
    print_note("glimpse: --tensor-type %s: no tensor that can be quantised has such a name",
               glimpse::quoted(pattern).c_str());
  }
  if (counts.fallbacks > 0) {
    print_note("glimpse: %zu of %zu tensors have rows that are no whole blocks and get another type", counts.fallbacks,
               plan.tensors.size());
  }
  if (counts.without_importance > 0) {
    print_note("glimpse: the importance matrix does not have %zu of the %zu tensors that could use it",
               counts.without_importance, counts.without_importance + counts.with_importance);
  }
}

void print_json(const QuantizeCommand& c, const QuantizeRequest& request, const QuantizePlan& plan) {
  nlohmann::json tensors = nlohmann::json::array();
  for (const PlannedTensor& tensor : plan.tensors) {
    const GgufTensor& source = *tensor.source;
    tensors.push_back({{"name", source.name},
                       {"dims", std::vector<uint64_t>(source.dims, source.dims + source.n_dims)},
                       {"from", dtype_name(source.type)},
                       {"to", dtype_name(tensor.type)},
                       {"bytes_before", source.n_bytes},
                       {"bytes_after", tensor.n_bytes()},
                       {"fallback", tensor.is_fallback},
                       {"importance", !tensor.importance.empty()}});
  }
  const nlohmann::json json = {{"input", c.input},
                               {"output", c.dry_run ? nlohmann::json() : nlohmann::json(c.output)},
                               {"type", file_type_name(static_cast<uint32_t>(request.type))},
                               {"dry_run", c.dry_run},
                               {"weights", plan.n_elements},
                               {"bytes_before", plan.bytes_before},
                               {"bytes_after", plan.bytes_after},
                               {"bits_per_weight_before", bits_per_weight(plan.bytes_before, plan.n_elements)},
                               {"bits_per_weight_after", bits_per_weight(plan.bytes_after, plan.n_elements)},
                               {"tensors", tensors}};
  print_object(json);
}

Status write_file(const QuantizeCommand& c, const GgufFile& file, const QuantizeRequest& request,
                  const QuantizePlan& plan) {
  catch_interrupts();
  std::signal(SIGPIPE, SIG_IGN);  // a reader of the list that leaves must not end the work, nor leave half of it behind
  ProgressLine line(false);
  QuantizeOptions options;
  options.path = c.output;
  options.overwrite = c.force;
  options.n_threads = c.n_threads > 0 ? c.n_threads : available_cpus();
  options.progress = [&](double fraction) {
    line.show("quantize", fraction);
    return !interrupted();
  };
  options.tensor_done = [&](size_t index) {
    if (c.json) return;
    line.clear();
    print_tensor(plan, index);
  };
  return write_quantized(file, request, plan, options);
}

Status run_quantize(const QuantizeCommand& c, QuantizeRequest request) {
  GLIMPSE_ASSIGN(const GgufFile file, GgufFile::open(c.input));
  if (!c.dry_run) GLIMPSE_TRY(check_output(c, file));
  ImportanceMatrix importance;
  if (!c.imatrix.empty()) {
    GLIMPSE_ASSIGN(importance, ImportanceMatrix::load(c.imatrix));
    request.importance = &importance;
  }
  GLIMPSE_ASSIGN(const QuantizePlan plan, plan_quantization(file, request));
  if (plan.tensors.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "%s has no tensors", c.input);
  }
  print_notes(plan);
  if (!c.dry_run) {
    GLIMPSE_TRY(write_file(c, file, request, plan));
  } else if (!c.json) {
    for (size_t i = 0; i < plan.tensors.size(); ++i) print_tensor(plan, i);
  }
  c.json ? print_json(c, request, plan) : print_summary(plan);
  return {};
}

void check_usage(QuantizeCommand& c) {
  if (c.dry_run && c.type.empty()) std::swap(c.output, c.type);  // a dry run needs no name for its result
  if (c.input.empty() || c.type.empty()) throw CLI::RequiredError("IN.gguf, OUT.gguf and TYPE");
  if (c.n_threads < 0 || c.n_threads > 4096) throw CLI::ValidationError("--threads", "want 0 to 4096");
}

}  // namespace

void add_quantize(CLI::App& app, int* status) {
  auto c = std::make_shared<QuantizeCommand>();
  CLI::App* command =
      app.add_subcommand("quantize", "write a model or mmproj file in another type or mixture of types");
  command->add_option("input", c->input, "GGUF file to read (the first shard of a split one), best F16, BF16 or F32");
  command->add_option("output", c->output, "GGUF file to write; may be left out with --dry-run");
  command->add_option("type", c->type, "file type: Q4_K_M, Q8_0, F16, ... (--list shows all)");
  command->add_option("--imatrix", c->imatrix, "importance matrix of llama-imatrix, GGUF or .dat");
  command->add_option("-t,--threads", c->n_threads, "threads; 0: one per available CPU")->capture_default_str();
  command->add_flag("--pure", c->pure, "give all tensors the same type instead of a mixture");
  command->add_option("--output-tensor-type", c->output_type, "tensor type of output.weight");
  command->add_option("--token-embedding-type", c->embedding_type, "tensor type of token_embd.weight");
  command
      ->add_option("--tensor-type", c->rules,
                   "EXPRESSION=TYPE: tensor type of the tensors whose names match; may be repeated, the first counts")
      ->allow_extra_args(false);
  command->add_flag("--allow-requantize", c->allow_requantize, "read tensors that are quantised already");
  command->add_flag("--dry-run", c->dry_run, "show what would be written");
  command->add_flag("--force", c->force, "overwrite an existing file");
  command->add_flag("--json", c->json, "print one JSON object");
  command->add_flag("--list", c->list, "show the file types that can be written");
  command->callback([c, status] {
    if (c->list) {
      print_types();
      return;
    }
    check_usage(*c);
    *status = exit_status_of([&] { return exit_status(run_quantize(*c, parse_request(*c))); });
  });
}

}  // namespace glimpse::cli
