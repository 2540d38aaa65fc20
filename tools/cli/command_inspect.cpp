// glimpse inspect: what a GGUF file holds, and what is wrong with it.
#include <cinttypes>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/model/check_model.h"
#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_check.h"
#include "tokenizer/chat_style.h"
#include "tools/cli/commands.h"
#include "tools/cli/exit_status.h"
#include "tools/cli/option_kinds.h"
#include "tools/cli/terminal.h"

namespace glimpse::cli {
namespace {

struct InspectOptions {
  std::string file;
  bool json = false, check_data = false, no_tensors = false, all_values = false;
};

std::string quoted_line(const std::string& text, size_t limit) {
  return "\"" + one_line(text, limit) + "\"";
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}
std::string element(uint64_t value) {
  return std::to_string(value);
}
std::string element(int64_t value) {
  return std::to_string(value);
}
std::string element(double value) {
  return number(value);
}
std::string element(const GgufNumber& value) {
  return std::visit([](auto v) { return element(v); }, value);
}
std::string element(const std::string& value) {
  return quoted_line(value, 60);
}

// One line for a value; arrays show their first elements unless all are wanted.
std::string show(const GgufValue& value, bool all) {
  return std::visit(
      [&](const auto& data) -> std::string {
        using T = std::decay_t<decltype(data)>;
        if constexpr (std::is_same_v<T, std::string>) {
          return quoted_line(data, all ? SIZE_MAX : 100);
        } else if constexpr (std::is_arithmetic_v<T>) {
          if (value.type == GgufType::kBool) return data != 0 ? "true" : "false";
          return element(data);
        } else {
          std::string text = std::string(gguf_type_name(value.element_type)) + "[" + std::to_string(data.size()) + "] ";
          const size_t n = all ? data.size() : std::min<size_t>(data.size(), 6);
          for (size_t i = 0; i < n; ++i) text += (i > 0 ? ", " : "") + element(data[i]);
          return n < data.size() ? text + ", ..." : text;
        }
      },
      value.data);
}

nlohmann::json to_json(const GgufValue& value) {
  return std::visit(
      [](const auto& data) -> nlohmann::json {
        if constexpr (std::is_same_v<std::decay_t<decltype(data)>, GgufNumbers>) {
          nlohmann::json list = nlohmann::json::array();
          for (size_t i = 0; i < data.size(); ++i) std::visit([&](auto v) { list.push_back(v); }, data[i]);
          return list;
        } else {
          return data;
        }
      },
      value.data);
}

std::string dims_text(const GgufTensor& tensor) {
  std::string text = "(";
  for (uint32_t i = 0; i < tensor.n_dims; ++i) text += (i > 0 ? ", " : "") + std::to_string(tensor.dims[i]);
  return text + ")";
}

struct TypeTotal {
  uint64_t n_tensors = 0, n_elements = 0, n_bytes = 0;
};

std::map<std::string, TypeTotal> totals_by_type(const GgufFile& file) {
  std::map<std::string, TypeTotal> totals;
  for (const GgufTensor& tensor : file.tensors()) {
    TypeTotal& total = totals[dtype_name(tensor.type)];
    ++total.n_tensors;
    total.n_elements += tensor.n_elements();
    total.n_bytes += tensor.n_bytes;
  }
  return totals;
}

// What glimpse makes of a text model's chat template; "" of other files.
std::string chat_format(const GgufFile& file) {
  const auto architecture = file.optional_string("general.architecture"),
             text = file.optional_string("tokenizer.chat_template");
  if (!architecture.ok() || !text.ok() || file.find("tokenizer.ggml.tokens") == nullptr) return "";
  const bool thinks = architecture.value().value_or("").starts_with("qwen3");
  const ChatFormat format = recognise_chat_format(text.value().value_or(""), thinks);
  return format.is_chatml ? format.name : "of " + format.name + ": not supported, prompts are written as ChatML";
}

const char* level_name(GgufFinding::Level level) {
  return level == GgufFinding::Level::kNote ? "note" : "warning";
}

void print_text(const GgufFile& file, const std::vector<GgufFinding>& findings, const InspectOptions& o) {
  print_format("%s: GGUF version %u, %.1f MB", quoted_line(file.path(), 4096).c_str(), file.version(),
               static_cast<double>(file.n_bytes()) / 1e6);
  if (file.n_shards() > 1) print_format(" in %u files", file.n_shards());
  print_format(", alignment %" PRIu64 ", %zu keys, %zu tensors\n\n", file.alignment(), file.keys().size(),
               file.tensors().size());
  for (const std::string& key : file.keys()) {
    print_format("  %-44s %s\n", quoted_line(key, 200).c_str(), show(*file.find(key), o.all_values).c_str());
  }
  if (!o.no_tensors) {
    print_format("\n  %-36s %-8s %-24s %12s %14s\n", "tensor", "type", "dims (fastest first)", "bytes", "offset");
    for (const GgufTensor& tensor : file.tensors()) {
      print_format("  %-36s %-8s %-24s %12" PRIu64 " %14" PRIu64 "\n", quoted_line(tensor.name, 80).c_str(),
                   dtype_name(tensor.type), dims_text(tensor).c_str(), tensor.n_bytes, tensor.file_offset);
    }
  }
  print_format("\n  %-8s %8s %16s %12s %8s\n", "type", "tensors", "weights", "MB", "bits");
  for (const auto& [name, total] : totals_by_type(file)) {
    print_format(
        "  %-8s %8" PRIu64 " %16" PRIu64 " %12.1f %8.3f\n", name.c_str(), total.n_tensors, total.n_elements,
        static_cast<double>(total.n_bytes) / 1e6,
        total.n_elements == 0 ? 0.0 : 8.0 * static_cast<double>(total.n_bytes) / static_cast<double>(total.n_elements));
  }
  if (const std::string format = chat_format(file); !format.empty()) {
    print_format("\nchat template: %s\n", one_line(format).c_str());
  }
  print_format("\n");
  for (const GgufFinding& finding : findings) {
    print_format("%s: %s\n", level_name(finding.level), one_line(finding.text).c_str());
  }
  if (findings.empty()) print_format("nothing unusual found\n");
}

void print_json(const GgufFile& file, const std::vector<GgufFinding>& findings, const InspectOptions& o) {
  nlohmann::json json = {{"path", file.path()},
                         {"version", file.version()},
                         {"alignment", file.alignment()},
                         {"bytes", file.n_bytes()},
                         {"shards", file.n_shards()}};
  json["chat_format"] = chat_format(file);
  nlohmann::json& metadata = json["metadata"] = nlohmann::json::object();
  for (const std::string& key : file.keys()) {
    const GgufValue& value = *file.find(key);
    metadata[key] = value.array_size() > 64 && !o.all_values ? nlohmann::json(show(value, false)) : to_json(value);
  }
  nlohmann::json& tensors = json["tensors"] = nlohmann::json::array();
  for (const GgufTensor& tensor : file.tensors()) {
    tensors.push_back({{"name", tensor.name},
                       {"type", dtype_name(tensor.type)},
                       {"dims", std::vector<uint64_t>(tensor.dims, tensor.dims + tensor.n_dims)},
                       {"bytes", tensor.n_bytes},
                       {"offset", tensor.file_offset},
                       {"shard", tensor.shard}});
  }
  nlohmann::json& list = json["findings"] = nlohmann::json::array();
  for (const GgufFinding& finding : findings)
    list.push_back({{"level", level_name(finding.level)}, {"text", finding.text}});
  print_object(json);
}

int inspect(const InspectOptions& o) {
  const Result<GgufFile> file = GgufFile::open(o.file);
  if (!file.ok()) {
    print_error(file.error().message);
    return kExitError;
  }
  std::vector<GgufFinding> findings = check_gguf(file.value());
  for (GgufFinding& finding : check_model(file.value())) findings.push_back(std::move(finding));
  if (o.check_data) {
    catch_interrupts();
    ProgressLine line(o.json);
    Result<std::vector<GgufFinding>> found = check_gguf_data(file.value(), [&](std::string_view, double fraction) {
      line.show("check", fraction);
      return !interrupted();
    });
    line.clear();
    if (!found.ok()) {
      print_error(found.error().message);
      return found.error().code == ErrorCode::kCancelled ? kExitCancelled : kExitError;
    }
    for (GgufFinding& finding : found.value()) findings.push_back(std::move(finding));
  }
  o.json ? print_json(file.value(), findings, o) : print_text(file.value(), findings, o);
  return kExitOk;
}

}  // namespace

void add_inspect(CLI::App& app, int* status) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      app.add_subcommand("inspect", "show metadata and tensors of a GGUF file, and what is wrong with it");
  command->add_option("file", options->file, "GGUF file (the first shard of a split one)")->required();
  command->add_flag("--check-data", options->check_data, "read every tensor and look for NaN and infinity");
  command->add_flag("--no-tensors", options->no_tensors, "leave the tensor list out");
  command->add_flag("--all", options->all_values, "show arrays and long texts whole");
  command->add_flag("--json", options->json, "print one JSON object");
  on_run(*command, status, [options] { return inspect(*options); });
}

}  // namespace glimpse::cli
