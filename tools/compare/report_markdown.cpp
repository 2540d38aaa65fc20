// The report as Markdown.
#include <algorithm>

#include "engine/base/result.h"
#include "tools/compare/comparison.h"

namespace glimpse::compare {
namespace {

// Text in a table cell or a heading: one line, no table or code marks.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '`' || c == '<' || c == '\\' || c == '*' || c == '_') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out;
}

// A block of text as it is: fenced by more backticks than it holds in a row.
std::string block(const std::string& text) {
  size_t longest = 0, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(std::max<size_t>(3, longest + 1), '`');
  return fence + "text\n" + text + "\n" + fence + "\n";
}

std::string stage_table(const Comparison& c) {
  std::string out = "| stage | glimpse | llama.cpp | ratio | from - to | pairs |\n|---|---:|---:|---:|---:|---:|\n";
  for (const Stage& stage : c.stages) {
    const StageSummary s = summarize(stage, c.pairs);
    if (s.n_pairs == 0) continue;
    out += "| " + cell(stage.name) + " | " + short_number(s.ours) + " " + stage.unit + " | " + short_number(s.theirs) +
           " " + stage.unit + " | " + format("%.2fx", s.ratio) + " | " +
           format("%.2f - %.2f", s.ratio_low, s.ratio_high) + " | " + std::to_string(s.n_pairs) +
           (s.disturbed ? " (all disturbed)" : "") + " |\n";
  }
  return out;
}

std::string pair_table(const Comparison& c) {
  std::string out = "| pair | bandwidth before | others' CPU |";
  std::string line = "|---:|---:|---:|";
  for (const Stage& stage : c.stages) {
    out += format(" %s |", cell(stage.name));
    line += "---:|";
  }
  out += " |\n" + line + "---|\n";
  for (size_t i = 0; i < c.pairs.size(); ++i) {
    const PairConditions& pair = c.pairs[i];
    out += format("| %d | ", i + 1) + format("%.1f GB/s", pair.bandwidth / 1e9) + " | " +
           (pair.foreign_load < 0 ? std::string("-") : format("%.2f", pair.foreign_load)) + " |";
    for (const Stage& stage : c.stages) {
      out += stage.ratio(i) == 0 ? std::string(" - |") : format(" %.2fx |", stage.ratio(i));
    }
    out += pair.disturbed ? format(" disturbed: %s |\n", cell(pair.reason)) : std::string(" |\n");
  }
  return out;
}

std::string agreement_text(const Comparison& c) {
  std::string out;
  for (const Agreement& a : c.agreements) {
    out += "**" + cell(a.prompt) + "** ";
    if (a.n_prompt_ours != a.n_prompt_theirs) {
      out += format("(the prompts differ: %d and %d tokens) ", a.n_prompt_ours, a.n_prompt_theirs);
    }
    if (a.same()) {
      out += "- the same answer:\n\n" + block(a.ours) + "\n";
      continue;
    }
    out += format("- the answers part after %d bytes; glimpse, then llama.cpp:\n\n", a.common());
    out += block(a.ours) + "\n" + block(a.theirs) + "\n";
  }
  return out;
}

}  // namespace

std::string markdown_report(const Comparison& c) {
  std::string out = "# glimpse and llama.cpp, side by side\n\n";
  out += cell(c.date) + ", " + cell(c.cpu) + ", " + std::to_string(c.n_threads) + " threads. glimpse " +
         cell(c.our_version) + ", llama.cpp " + cell(c.their_version) + ".\n\n";
  out += "Model " + cell(c.model) + (c.mmproj.empty() ? "" : ", vision encoder " + cell(c.mmproj)) + ". " +
         cell(c.settings) + "\n\n";
  out += "Both engines ran in turn, " + std::to_string(c.pairs.size()) +
         " pairs. Figures are medians; a ratio is taken pair by pair and above 1 where glimpse is better.\n\n";
  if (!c.any_quiet()) out += "**Every pair was disturbed: these figures are not to be quoted.**\n\n";
  out += stage_table(c);
  if (!c.waterfall.empty()) {
    out += "\n## A picture's way to the answer (ms)\n\n| part | glimpse | llama.cpp |\n|---|---:|---:|\n";
    for (const WaterfallPart& part : c.waterfall) {
      out += "| " + cell(part.name) + " | " + short_number(part.ours) + " | " + short_number(part.theirs) + " |\n";
    }
  }
  out += "\n## Pair by pair\n\n" + pair_table(c) +
         "\nBandwidth after the last pair: " + format("%.1f GB/s", c.bandwidth_after / 1e9) + ".\n";
  if (!c.agreements.empty()) out += "\n## Greedy answers\n\n" + agreement_text(c);
  if (!c.notes.empty()) {
    out += "\n## Notes\n\n";
    for (const std::string& note : c.notes) out += "- " + cell(note) + "\n";
  }
  return out;
}

}  // namespace glimpse::compare
