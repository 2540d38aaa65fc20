// What to tell a person whose file is not what they think it is.
#include <algorithm>
#include <string>
#include <string_view>

#include "loaders/gguf/gguf_parser.h"
#include "loaders/gguf/gguf_text.h"

namespace glimpse {

std::string describe_foreign_file(std::string_view first_bytes) {
  const std::string_view text = first_bytes.substr(0, 48);
  const auto is_text = [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t'; };
  if (first_bytes.empty()) return "it is empty (0 bytes); download it again";
  if (first_bytes.starts_with("version https://git-lfs")) {
    return "it is a Git LFS pointer, a small text file that stands for the model; run `git lfs pull` or download the "
           "model itself";
  }
  const size_t start = first_bytes.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  const char lead = start == std::string_view::npos ? '\0' : first_bytes[start];
  if (lead == '<') {
    return "it is an HTML or XML page (" + quoted(text) +
           "), probably an error or login page saved under the model's name; download the model itself";
  }
  if (lead == '{' || lead == '[') {
    return "it is JSON text (" + quoted(text) +
           "), probably a server's error message saved under the model's name; download the model itself";
  }
  struct Known {
    std::string_view start;
    const char* what;
  };
  static constexpr Known kKnown[] = {
      {"FUGG", "its magic bytes are reversed; it was written by a broken converter"},
      {"lmgg", "it is an old GGML file (before GGUF, 2023); download a GGUF conversion"},
      {"fmgg", "it is an old GGML file (before GGUF, 2023); download a GGUF conversion"},
      {"tjgg", "it is an old GGML file (before GGUF, 2023); download a GGUF conversion"},
      {"PK\x03\x04", "it is a ZIP archive or a PyTorch checkpoint; unpack it, or download a GGUF conversion"},
      {"\x1f\x8b", "it is compressed with gzip; unpack it first"},
      {"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"},
      {"\xfd"
       "7zXZ",
       "it is compressed with xz; unpack it first"},
      {"7z\xbc\xaf", "it is a 7z archive; unpack it first"},
      {"\x89PNG", "it is a PNG picture"},
      {"\xff\xd8\xff", "it is a JPEG picture"},
  };
  for (const Known& known : kKnown) {
    if (first_bytes.starts_with(known.start)) return known.what;
  }
  // safetensors: a 64-bit header length, then JSON.
  if (first_bytes.size() > 8 && first_bytes[8] == '{' && first_bytes.substr(4, 4) == std::string_view("\0\0\0\0", 4)) {
    return "it is a safetensors file; download a GGUF conversion, or convert it with llama.cpp's convert_hf_to_gguf.py";
  }
  if (std::all_of(first_bytes.begin(), first_bytes.end(), [](char c) { return c == '\0'; })) {
    return "it starts with zero bytes; the download reserved the space but did not fill it: download it again";
  }
  if (std::all_of(first_bytes.begin(), first_bytes.end(), is_text)) {
    return "it is text (" + quoted(text) + "), probably a server's error message; download the model itself";
  }
  return "it starts with " + quoted(first_bytes.substr(0, 4)) + ", a GGUF file with 'GGUF'";
}

std::string describe_unknown_dtype(uint32_t id) {
  // ggml.h keeps the ids of removed types out of use.
  static constexpr const char* kRepacked = "download the plain Q4_0 file, which runtimes repack themselves";
  const auto removed = [id](const char* name, const char* advice) {
    return format("tensor type %s (id %d) was removed from GGUF; %s", name, id, advice);
  };
  switch (id) {
    case 4:
      return removed("Q4_2", "download a newer conversion of the model");
    case 5:
      return removed("Q4_3", "download a newer conversion of the model");
    case 31:
      return removed("Q4_0_4_4", kRepacked);
    case 32:
      return removed("Q4_0_4_8", kRepacked);
    case 33:
      return removed("Q4_0_8_8", kRepacked);
    case 36:
      return removed("IQ4_NL_4_4", "download the plain IQ4_NL file");
    case 37:
      return removed("IQ4_NL_4_8", "download the plain IQ4_NL file");
    case 38:
      return removed("IQ4_NL_8_8", "download the plain IQ4_NL file");
    default:
      break;
  }
  return format("tensor type id %d is unknown; the file is damaged or newer than this version of glimpse", id);
}

}  // namespace glimpse
