// The report as one HTML page: charts are SVG elements in it.
#include <algorithm>

#include "engine/base/result.h"
#include "tools/compare/comparison.h"

namespace glimpse::compare {
namespace {

constexpr double kLabelWidth = 190, kChartWidth = 470, kValueWidth = 190;
constexpr double kBar = 16, kGap = 2, kGroup = 2 * kBar + kGap + 18;

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
      out += ' ';
    } else {
      out += c;
    }
  }
  return out;
}

// A bar that ends round, starts square: it stands on its axis.
std::string bar(double x, double y, double width, const char* css, const std::string& title) {
  const double w = std::max(1.0, width), r = std::min(3.0, w);
  return format("<path class=\"%s\" d=\"M%.1f %.1fh%.1fq%.1f 0 %.1f %.1fv%.1fq0 %.1f -%.1f %.1fh-%.1fz\"><title>", css,
                x, y, w - r, r, r, r, kBar - 2 * r, r, r, r, w - r) +
         escape(title) + "</title></path>\n";
}

std::string text_at(double x, double y, const char* css, const std::string& text) {
  return format("<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", css, x, y) + escape(text) + "</text>\n";
}

std::string svg(double width, double height, const std::string& label, const std::string& body) {
  return format("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", width, height) + escape(label) + "\">\n" +
         body + "</svg>\n";
}

// Two bars per stage; each stage has its own scale, since their units differ.
std::string stage_chart(const Comparison& c) {
  std::string body;
  double y = 4;
  for (const Stage& stage : c.stages) {
    const StageSummary s = summarize(stage, c.pairs);
    if (s.n_pairs == 0) continue;
    const double largest = std::max(s.ours, s.theirs);
    const double middle = y + kBar + kGap / 2 + 4;
    body += text_at(0, middle - 7, "label", stage.name);
    body += text_at(0, middle + 8, "hint",
                    stage.better == Better::kLess ? stage.unit + ", less is better" : stage.unit + ", more is better");
    const std::pair<const char*, double> bars[] = {{"ours", s.ours}, {"theirs", s.theirs}};
    for (const auto& [css, value] : bars) {
      const std::string figure = short_number(value) + " " + stage.unit;
      const double width = kChartWidth * value / largest;
      body += bar(kLabelWidth, y, width, css,
                  stage.name + ", " + (css == bars[0].first ? "glimpse: " : "llama.cpp: ") + figure);
      body += text_at(kLabelWidth + width + 6, y + kBar - 4, "value", figure);
      y += kBar + kGap;
    }
    body += text_at(kLabelWidth + kChartWidth + kValueWidth - 74, middle, "ratio", format("%.2fx", s.ratio));
    y += kGroup - 2 * (kBar + kGap);
  }
  return svg(kLabelWidth + kChartWidth + kValueWidth, y, "Figures of both engines by stage", body);
}

// One row of parts per engine on the same scale of time.
std::string waterfall_chart(const Comparison& c) {
  double totals[2] = {0, 0};
  for (const WaterfallPart& part : c.waterfall) {
    totals[0] += part.ours;
    totals[1] += part.theirs;
  }
  const double longest = std::max(totals[0], totals[1]);
  if (!(longest > 0)) return "";
  const double left = 80, width = kLabelWidth + kChartWidth + kValueWidth - left - 100;
  std::string body;
  for (int engine = 0; engine < 2; ++engine) {
    const double y = 6 + 44.0 * engine;
    body += text_at(0, y + 19, "label", engine == 0 ? "glimpse" : "llama.cpp");
    double at = left;
    for (size_t i = 0; i < c.waterfall.size(); ++i) {
      const WaterfallPart& part = c.waterfall[i];
      const double ms = engine == 0 ? part.ours : part.theirs;
      if (!(ms > 0)) continue;
      const double w = width * ms / longest;
      body += format("<rect class=\"part%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"28\"><title>", i % 5, at, y,
                     std::max(1.0, w - 1.5)) +
              escape(part.name + ": " + short_number(ms) + " ms") + "</title></rect>\n";
      at += w;
    }
    body += text_at(at + 6, y + 19, "value", short_number(totals[engine] / 1000) + " s");
  }
  std::string legend = "<p class=\"legend\">";
  for (size_t i = 0; i < c.waterfall.size(); ++i) {
    legend += format("<span><i class=\"swatch part%d\"></i>", i % 5) + escape(c.waterfall[i].name) + "</span>";
  }
  return svg(kLabelWidth + kChartWidth + kValueWidth, 90, "Time from start to the end of the answer, part by part",
             body) +
         legend + "</p>\n";
}

std::string stage_table(const Comparison& c) {
  std::string out =
      "<table><thead><tr><th>stage</th><th>glimpse</th><th>llama.cpp</th><th>ratio</th><th>from &ndash; to</th>"
      "<th>pairs</th></tr></thead><tbody>\n";
  for (const Stage& stage : c.stages) {
    const StageSummary s = summarize(stage, c.pairs);
    if (s.n_pairs == 0) continue;
    out += "<tr><td>" + escape(stage.name) + "</td><td>" + escape(short_number(s.ours) + " " + stage.unit) +
           "</td><td>" + escape(short_number(s.theirs) + " " + stage.unit) + "</td><td><b>" + format("%.2fx", s.ratio) +
           "</b></td><td>" + format("%.2f &ndash; %.2f", s.ratio_low, s.ratio_high) + "</td><td>" +
           std::to_string(s.n_pairs) + (s.disturbed ? " (all disturbed)" : "") + "</td></tr>\n";
  }
  return out + "</tbody></table>\n";
}

std::string pair_table(const Comparison& c) {
  std::string out = "<table><thead><tr><th>pair</th><th>bandwidth</th><th>others' CPUs</th><th>state</th>";
  for (const Stage& stage : c.stages) out += "<th>" + escape(stage.name) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (size_t i = 0; i < c.pairs.size(); ++i) {
    const PairConditions& pair = c.pairs[i];
    out += pair.disturbed ? "<tr class=\"disturbed\">" : "<tr>";
    out += "<td>" + std::to_string(i + 1) + "</td><td>" + format("%.1f GB/s", pair.bandwidth / 1e9) + "</td><td>" +
           (pair.foreign_load < 0 ? std::string("&ndash;") : format("%.2f", pair.foreign_load)) + "</td>";
    out += pair.disturbed ? "<td>disturbed</td>" : "<td>quiet</td>";
    for (const Stage& stage : c.stages) {
      out += "<td>" + (stage.ratio(i) == 0 ? std::string("&ndash;") : format("%.2fx", stage.ratio(i))) + "</td>";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table>\n";
}

std::string agreements(const Comparison& c) {
  std::string out;
  for (const Agreement& a : c.agreements) {
    out += "<h3>" + escape(a.prompt) + "</h3>\n";
    if (a.n_prompt_ours != a.n_prompt_theirs) {
      out += format("<p>The prompts differ: %d and %d tokens.</p>\n", a.n_prompt_ours, a.n_prompt_theirs);
    }
    if (a.same()) {
      out += "<p>The same answer.</p><pre>" + escape(a.ours) + "</pre>\n";
    } else {
      out += format("<p>The answers part after %d bytes.</p>", a.common()) + "<p>glimpse</p><pre>" + escape(a.ours) +
             "</pre><p>llama.cpp</p><pre>" + escape(a.theirs) + "</pre>\n";
    }
  }
  return out;
}

// Colours carry the engine in the bars (blue, orange) and the part in the waterfall; both themes keep them apart from
// the page and from one another.
const char* const kStyle = R"(
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #1a1a19; --soft: #5f5e5a; --line: #dddcd8; --warn: #fdf3dc;
  --ours: #2a78d6; --theirs: #eb6834; --p0: #8a8983; --p1: #1baf7a; --p2: #2a78d6; --p3: #4a3aa7; --p4: #eda100; }
@media (prefers-color-scheme: dark) {
  :root { --page: #1a1a19; --ink: #f3f2ee; --soft: #b3b2ab; --line: #3c3b38; --warn: #3d3420;
    --ours: #3987e5; --theirs: #d95926; --p0: #8a8983; --p1: #199e70; --p2: #3987e5; --p3: #9085e9; --p4: #c98500; } }
body { margin: 0 auto; max-width: 900px; padding: 24px 20px 60px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 8px; } h2 { font-size: 18px; margin: 36px 0 8px; } h3 { font-size: 15px; margin: 20px 0 4px; }
p { margin: 6px 0; } .soft { color: var(--soft); }
svg { width: 100%; height: auto; display: block; margin: 12px 0; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .hint { font-size: 11px; fill: var(--soft); }
svg .value { font-size: 12px; fill: var(--soft); } svg .ratio { font-size: 15px; font-weight: 600; }
.ours { fill: var(--ours); background: var(--ours); } .theirs { fill: var(--theirs); background: var(--theirs); }
.part0 { fill: var(--p0); background: var(--p0); } .part1 { fill: var(--p1); background: var(--p1); }
.part2 { fill: var(--p2); background: var(--p2); } .part3 { fill: var(--p3); background: var(--p3); }
.part4 { fill: var(--p4); background: var(--p4); }
.legend span { margin-right: 18px; white-space: nowrap; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: 10px 0; }
th, td { padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; } td:first-child, th:first-child { text-align: left; }
.warning { background: var(--warn); padding: 6px 10px; }
.disturbed td { background: var(--warn); }
pre { border: 1px solid var(--line); padding: 8px 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
)";

}  // namespace

std::string html_report(const Comparison& c) {
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out +=
      std::string("<title>glimpse and llama.cpp, side by side</title>\n<style>") + kStyle + "</style></head>\n<body>\n";
  out += "<h1>glimpse and llama.cpp, side by side</h1>\n";
  out += "<p class=\"soft\">" + escape(c.date) + " &middot; " + escape(c.cpu) + " &middot; " +
         std::to_string(c.n_threads) + " threads<br>glimpse " + escape(c.our_version) + " &middot; llama.cpp " +
         escape(c.their_version) + "<br>" + escape(c.model) +
         (c.mmproj.empty() ? "" : " &middot; " + escape(c.mmproj)) + "<br>" + escape(c.settings) + "</p>\n";
  out += "<p>Both engines ran in turn, " + std::to_string(c.pairs.size()) +
         " pairs. Figures are medians; a ratio is taken pair by pair and above 1 where glimpse is better.</p>\n";
  if (!c.any_quiet()) out += "<p class=\"warning\">Every pair was disturbed: these figures are not to be quoted.</p>\n";
  out +=
      "<p class=\"legend\"><span><i class=\"swatch ours\"></i>glimpse</span><span><i class=\"swatch "
      "theirs\"></i>llama.cpp"
      "</span></p>\n";
  out += stage_chart(c) + "<div class=\"scroll\">" + stage_table(c) + "</div>\n";
  if (!c.waterfall.empty()) out += "<h2>A picture's way to the answer</h2>\n" + waterfall_chart(c);
  out += "<h2>Pair by pair</h2>\n<div class=\"scroll\">" + pair_table(c) +
         "</div>\n<p class=\"soft\">Bandwidth after the last pair: " + format("%.1f GB/s", c.bandwidth_after / 1e9) +
         ".</p>\n";
  for (size_t i = 0; i < c.pairs.size(); ++i) {
    if (c.pairs[i].disturbed)
      out += format("<p class=\"soft\">Pair %d: ", i + 1) + escape(c.pairs[i].reason) + "</p>\n";
  }
  if (!c.agreements.empty()) out += "<h2>Greedy answers</h2>\n" + agreements(c);
  if (!c.notes.empty()) {
    out += "<h2>Notes</h2>\n<ul>\n";
    for (const std::string& note : c.notes) out += "<li>" + escape(note) + "</li>\n";
    out += "</ul>\n";
  }
  return out + "</body></html>\n";
}

}  // namespace glimpse::compare
