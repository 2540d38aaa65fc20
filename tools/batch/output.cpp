#include "tools/batch/output.h"

#include <nlohmann/json.hpp>

#include "tools/batch/csv.h"
#include "tools/terminal/printable.h"

namespace glimpse::batch {
namespace {

using Json = nlohmann::ordered_json;

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_line(const Outcome& o) {
  Json json = {{"index", o.index}};
  if (!o.id.empty()) json["id"] = Json::parse(o.id);
  json["image_name"] = nullptr;
  if (o.names.size() == 1) json["image_name"] = o.names[0];
  if (o.names.size() > 1) json["image_name"] = o.names;
  const bool failed = !o.error.empty();
  json["result"] = failed ? Json() : Json(o.text);
  json["error"] = failed ? Json(o.error) : Json();
  json["finish_reason"] = failed ? Json() : Json(o.finish_reason);
  json["prompt_tokens"] = o.n_prompt_tokens;
  json["generated_tokens"] = o.n_generated_tokens;
  return dumped(json) + "\n";
}

std::string csv_line(const Outcome& o) {
  std::string id = o.id;
  if (id.starts_with('"')) id = nlohmann::json::parse(id).get<std::string>();
  const std::string name = o.names.empty() ? "" : o.names.size() == 1 ? o.names[0] : dumped(o.names);
  std::string line = std::to_string(o.index);
  for (const std::string& field : {id, name, o.error.empty() ? o.text : std::string(), o.error, o.finish_reason,
                                   std::to_string(o.n_prompt_tokens), std::to_string(o.n_generated_tokens)}) {
    line += ',';
    line += csv_field(field);
  }
  return line + "\n";
}

std::string table_line(const Outcome& o, bool with_index) {
  std::string name;
  for (const std::string& each : o.names) name += (name.empty() ? "" : ", ") + each;
  std::string line = with_index ? std::to_string(o.index) + " | " : "";
  for (const char c : terminal::printable(name, terminal::Layout::kLine)) {
    if (c == '|') line += '\\';  // a column ends at the first plain one
    line += c;
  }
  line += " | ";
  line += terminal::printable(o.error.empty() ? o.text : "error: " + o.error, terminal::Layout::kLine);
  return line + "\n";
}

class Stream : public RowOutput {
 public:
  explicit Stream(std::function<Status(std::string_view)> write) : write_(std::move(write)) {}
  Status append(uint64_t, uint64_t, bool, std::string_view line) override { return write_(line); }
  Status finish() override { return {}; }

 private:
  const std::function<Status(std::string_view)> write_;
};

}  // namespace

std::string header_line(OutputFormat format, bool with_index) {
  switch (format) {
    case OutputFormat::kTable:
      return with_index ? "index | image_name | result\n" : "image_name | result\n";
    case OutputFormat::kCsv:
      return "index,id,image_name,result,error,finish_reason,prompt_tokens,generated_tokens\n";
    case OutputFormat::kJsonl:
      break;
  }
  return "";
}

std::string output_line(const Outcome& outcome, OutputFormat format, bool with_index) {
  switch (format) {
    case OutputFormat::kTable:
      return table_line(outcome, with_index);
    case OutputFormat::kCsv:
      return csv_line(outcome);
    case OutputFormat::kJsonl:
      break;
  }
  return json_line(outcome);
}

std::unique_ptr<RowOutput> output_stream(std::function<Status(std::string_view)> write) {
  return std::make_unique<Stream>(std::move(write));
}

}  // namespace glimpse::batch
