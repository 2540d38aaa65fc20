#include "tools/chat/dropped_paths.h"

namespace glimpse::chat {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

// Reads a word from the front of the text; how many bytes it took. open: a quote has no end.
size_t read_word(std::string_view text, std::string& word, bool& open) {
  char quote = '\0';
  size_t i = 0;
  for (; i < text.size() && (quote != '\0' || !is_blank(text[i])); ++i) {
    const char c = text[i];
    const bool escapes = c == '\\' && quote != '\'' && i + 1 < text.size();
    if (escapes && (quote == '\0' || text[i + 1] == '"' || text[i + 1] == '\\' || text[i + 1] == '$')) {
      word += text[++i];
    } else if (c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
    } else {
      word += c;
    }
  }
  open = quote != '\0';
  return i;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string path_of(const std::string& word) {
  constexpr std::string_view kScheme = "file://";
  if (!word.starts_with(kScheme)) return word;
  std::string path;
  for (size_t i = kScheme.size(); i < word.size(); ++i) {
    const int high = word[i] == '%' && i + 2 < word.size() ? hex_digit(word[i + 1]) : -1;
    const int low = high < 0 ? -1 : hex_digit(word[i + 2]);
    if (low < 0) {
      path += word[i];
      continue;
    }
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return path;
}

}  // namespace

Dropped take_dropped_paths(std::string_view line, const std::function<bool(const std::string&)>& is_picture) {
  Dropped dropped;
  while (!line.empty()) {
    if (is_blank(line[0])) {
      dropped.text += line[0];
      line.remove_prefix(1);
      continue;
    }
    std::string word;
    bool open = false;
    size_t n = read_word(line, word, open);
    const std::string path = path_of(word);
    if (!open && !path.empty() && path.find('\0') == std::string::npos && is_picture(path)) {
      dropped.paths.push_back(path);
      while (n < line.size() && is_blank(line[n])) ++n;  // its blanks go with it
    } else {
      n = 0;
      while (n < line.size() && !is_blank(line[n])) ++n;
      dropped.text += line.substr(0, n);
    }
    line.remove_prefix(n);
  }
  if (dropped.paths.empty()) return dropped;
  while (!dropped.text.empty() && is_blank(dropped.text.back())) dropped.text.pop_back();
  return dropped;
}

std::vector<std::string> shell_words(std::string_view text) {
  std::vector<std::string> words;
  for (;;) {
    while (!text.empty() && is_blank(text[0])) text.remove_prefix(1);
    if (text.empty()) return words;
    std::string word;
    bool open = false;
    text.remove_prefix(read_word(text, word, open));
    words.push_back(path_of(word));
  }
}

}  // namespace glimpse::chat
