// Which format a file is in, from its first bytes. Formats that glimpse does not read are still named: "this is a
// HEIC picture" helps, "unknown format" does not.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "loaders/image/decoder.h"

namespace glimpse {
namespace {

using namespace std::string_view_literals;

constexpr auto kReadable =
    "glimpse reads JPEG, PNG, BMP, PPM"
#ifdef GLIMPSE_HAS_WEBP
    ", WebP"
#endif
#ifdef GLIMPSE_HAS_GIF
    ", GIF"
#endif
#ifdef GLIMPSE_HAS_TIFF
    ", TIFF"
#endif
#ifdef GLIMPSE_HAS_HEIF
    ", HEIC, AVIF"
#endif
    ;
constexpr auto kPngSignature = "\x89PNG\r\n\x1a\n"sv;

struct Signature {
  std::string_view bytes;
  const char* name;
  const char* advice = "";
};

constexpr auto kConvert = ": convert it to PNG, for example: magick FILE picture.png";

// Formats of a fixed beginning that glimpse does not read.
constexpr Signature kForeign[] = {
    {"II+\0"sv, "a BigTIFF picture", kConvert},
    {"MM\0+"sv, "a BigTIFF picture", kConvert},
    {"\xff\x0a"sv, "a JPEG XL picture", kConvert},
    {"\0\0\0\x0cJXL \r\n\x87\n"sv, "a JPEG XL picture", kConvert},
    {"\0\0\0\x0cjP  \r\n\x87\n"sv, "a JPEG 2000 picture", kConvert},
    {"\xff\x4f\xff\x51"sv, "a JPEG 2000 codestream", kConvert},
    {"\0\0\1\0"sv, "an ICO icon", kConvert},
    {"8BPS"sv, "a Photoshop document (PSD)", kConvert},
    {"%PDF"sv, "a PDF document", kConvert},
    {"%!PS"sv, "a PostScript document", kConvert},
    {"P1"sv, "a PBM bitmap", kConvert},
    {"P4"sv, "a PBM bitmap", kConvert},
    {"P7\n"sv, "a PAM picture", kConvert},
    {"PF\n"sv, "a PFM picture", kConvert},
    {"Pf\n"sv, "a PFM picture", kConvert},
    {"DDS "sv, "a DDS texture", kConvert},
    {"qoif"sv, "a QOI picture", kConvert},
    {"\x76\x2f\x31\x01"sv, "an OpenEXR picture", kConvert},
    {"#?RADIANCE"sv, "a Radiance HDR picture", kConvert},
    {"\x8aMNG"sv, "an MNG animation", kConvert},
    {"GGUF"sv, "a GGUF model file, not a picture"},
    {"PK\3\4"sv, "a ZIP archive (or an office document), not a picture"},
    {"\x1f\x8b"sv, "a gzip archive, not a picture"},
    {"\x7f"
     "ELF"sv,
     "a program, not a picture"},
    {"\x1a\x45\xdf\xa3"sv, "a Matroska or WebM video"},
    {"version https://git-lfs"sv, "a Git LFS pointer: the picture itself was not fetched"},
};

Error foreign(const char* what, const char* advice = "") {
  return make_error(ErrorCode::kUnsupported, "this is %s%s; %s", what, advice, kReadable);
}

// TGA has no signature at its beginning. Of the current version there is one at the end; of the old one only a header
// of 18 bytes whose fields go together: length of the identification, whether there is a colour map, kind of picture,
// colour map (first, length, bits), origin (x, y), size, bits per pixel, descriptor. (Truevision TGA 2.0, section C.)
bool is_tga(std::span<const std::byte> bytes) {
  constexpr std::string_view kFooter = "TRUEVISION-XFILE.\0"sv;
  if (bytes.size() < 18) return false;
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto u8 = [&](size_t at) { return load_u8(&bytes[at]); };
  const uint32_t kind = u8(2), bits = u8(16);
  const bool mapped = kind == 1 || kind == 9, known = mapped || kind == 2 || kind == 3 || kind == 10 || kind == 11;
  if (!known || u8(1) > 1) return false;
  if (all.ends_with(kFooter)) return true;
  if (mapped != (u8(1) == 1) || load_le16(&bytes[12]) == 0 || load_le16(&bytes[14]) == 0 || (u8(17) & 0xc0) != 0) {
    return false;
  }
  if (mapped) return bits == 8 && load_le16(&bytes[5]) > 0;
  const bool no_map = load_le16(&bytes[3]) == 0 && load_le16(&bytes[5]) == 0;
  return no_map && (bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32);
}

bool is_cursor(std::string_view head) {  // reserved, type 2, how many: at least one
  return head.starts_with("\0\0\2\0"sv) && head.size() >= 6 && (head[4] != '\0' || head[5] != '\0');
}

// Text that stands for a picture: what it is and how to make a file of it. nullptr: none of that.
const char* encoded_name(std::string_view head) {
  if (head.starts_with("data:image/")) {
    return "a data URI, text that holds a picture: decode what follows its comma (base64 -d) and give that file";
  }
  // The first bytes of JPEG, PNG, GIF, WebP (RIFF) and BMP, in base64.
  for (const std::string_view start : {"/9j/"sv, "iVBORw0KGgo"sv, "R0lGOD"sv, "UklGR"sv, "Qk0"sv}) {
    if (!head.starts_with(start)) continue;
    const auto in_base64 = [](char c) {
      return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
             std::string_view("+/=\r\n").find(c) != std::string_view::npos;
    };
    if (head.size() >= 16 && std::all_of(head.begin(), head.end(), in_base64)) {
      return "the base64 text of a picture: decode it first (base64 -d) and give that file";
    }
  }
  return nullptr;
}

// ISO base media files (ISO/IEC 14496-12): a 'ftyp' box lists brands: the major one, a version, the compatible ones.
Result<ImageFormat> media_format(std::string_view head) {
  const auto size = static_cast<size_t>(load_be32(reinterpret_cast<const std::byte*>(head.data())));
  const std::string_view box = head.substr(0, std::min(size, head.size()));
  const auto has_brand = [&](std::initializer_list<std::string_view> brands) {
    for (size_t at = 8; at + 4 <= box.size(); at += at == 8 ? 8 : 4) {  // 12..16 is the version
      if (std::find(brands.begin(), brands.end(), box.substr(at, 4)) != brands.end()) return true;
    }
    return false;
  };
  if (has_brand({"avif", "avis"})) return ImageFormat::kAvif;
  if (has_brand({"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"})) return ImageFormat::kHeic;
  if (has_brand({"crx "})) return foreign("a Canon raw picture (CR3)", kConvert);
  if (has_brand({"jp2 ", "jpx ", "jph "})) return foreign("a JPEG 2000 picture", kConvert);
  return foreign("a video or audio file (MP4, MOV)");
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// What kind of text, or nullptr when it is not text.
const char* text_name(std::string_view head) {
  if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);
  for (char c : head) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 32 ? std::strchr("\t\n\v\f\r\x1b", c) == nullptr || c == '\0' : byte == 127) return nullptr;
  }
  std::string text(head);
  std::transform(text.begin(), text.end(), text.begin(), lower);
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start == std::string::npos) return "blank text";
  const std::string_view body = std::string_view(text).substr(start);
  if (body.find("<svg") != body.npos) return "an SVG drawing";
  if (body.starts_with("<!doctype html") || body.starts_with("<html") || body.starts_with("<head")) {
    return "an HTML page (was a download answered with a web page?)";
  }
  if (body.starts_with("<?xml") || body.starts_with("<")) return "an XML text";
  if (body.starts_with("{") || body.starts_with("[")) return "a JSON text";
  // Bytes above 127 are in no ASCII text: demand more than a few bytes before calling it text.
  const bool ascii = std::all_of(head.begin(), head.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
  return ascii || head.size() >= 64 ? "a text file" : nullptr;
}

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

}  // namespace

Result<ImageFormat> sniff_format(std::span<const std::byte> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 512));
  if (head.empty()) return make_error(ErrorCode::kTruncated, "the picture is empty (0 bytes)");

  if (head.starts_with("\xff\xd8\xff"sv)) return ImageFormat::kJpeg;
  if (head.starts_with(kPngSignature)) return ImageFormat::kPng;
  if (head.starts_with("RIFF") && head.size() >= 12 && head.substr(8, 4) == "WEBP") return ImageFormat::kWebp;
  if (head.starts_with("GIF87a") || head.starts_with("GIF89a")) return ImageFormat::kGif;
  if (head.starts_with("II*\0"sv) || head.starts_with("MM\0*"sv)) return ImageFormat::kTiff;
  if (head.starts_with("BM") && (head.size() < 18 || head.substr(15, 3) == "\0\0\0"sv)) return ImageFormat::kBmp;
  if (head.size() >= 3 && head[0] == 'P' && std::strchr("2356", head[1]) != nullptr && head[1] != '\0' &&
      (is_space(head[2]) || head[2] == '#')) {
    return ImageFormat::kPpm;
  }

  if (head.starts_with("\x89PNG"sv) && head.size() >= kPngSignature.size()) {
    return make_error(ErrorCode::kCorrupt, "PNG: damaged signature (was the file transferred as text?)");
  }
  if (is_cursor(head)) return foreign("a CUR cursor", kConvert);
  for (const Signature& signature : kForeign) {
    if (head.starts_with(signature.bytes)) return foreign(signature.name, signature.advice);
  }
  if (head.size() >= 12 && head.substr(4, 4) == "ftyp") return media_format(head);
  if (head.starts_with("RIFF") && head.size() >= 12) return foreign("a RIFF file (AVI, WAV), not a picture");

  for (const std::string_view start : {"\xff\xd8\xff"sv, kPngSignature, "RIFF"sv}) {
    if (head.size() < start.size() && start.starts_with(head)) {
      return make_error(ErrorCode::kTruncated, "the picture ends inside its signature, after %d bytes",
                        static_cast<int>(head.size()));
    }
  }
  if (head.starts_with("RIFF")) return make_error(ErrorCode::kTruncated, "WebP: the file ends inside its header");
  if (const char* name = encoded_name(head)) return foreign(name);
  if (is_tga(bytes)) return foreign("a TGA (Targa) picture", kConvert);
  if (const char* text = text_name(head)) return foreign(text);

  std::string beginning;
  for (size_t i = 0; i < std::min<size_t>(head.size(), 8); ++i) {
    beginning += format("%s%02x", i == 0 ? "" : " ", static_cast<unsigned char>(head[i]));
  }
  return make_error(ErrorCode::kUnsupported, "not a picture in a known format (it begins with %s); %s", beginning,
                    kReadable);
}

}  // namespace glimpse
