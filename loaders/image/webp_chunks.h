// The chunks of a WebP file, and the frames of an animation as still files. Private to loaders/image.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "loaders/image/decoder.h"

namespace glimpse {

// RIFF container of WebP (RFC 9649, section 2): "RIFF", size, "WEBP", then chunks of type, size, data, padded to even.
inline constexpr size_t kRiffHeaderBytes = 12, kChunkHeaderBytes = 8, kFrameHeaderBytes = 16;

struct WebpChunk {
  char type[4];
  std::span<const std::byte> data;   // without padding
  std::span<const std::byte> whole;  // with header and, where the file has it, padding
};

// The next chunk at the front of `rest`, which it is cut from. false at the end, or when the rest is not a chunk.
inline bool next_chunk(std::span<const std::byte>& rest, WebpChunk& chunk) {
  if (rest.size() < kChunkHeaderBytes) return false;
  const size_t size = load_le32(rest.data() + 4);
  if (size > rest.size() - kChunkHeaderBytes) return false;
  std::memcpy(chunk.type, rest.data(), 4);
  chunk.data = rest.subspan(kChunkHeaderBytes, size);
  chunk.whole = rest.first(std::min(rest.size(), kChunkHeaderBytes + size + (size & 1)));
  rest = rest.subspan(chunk.whole.size());
  return true;
}

inline bool is(const WebpChunk& chunk, const char* type) {
  return std::memcmp(chunk.type, type, 4) == 0;
}

inline uint32_t load_le24(const std::byte* p) {
  return load_le16(p) | load_u8(p + 2) << 16;
}

inline void append_le(std::vector<std::byte>& out, uint32_t value, int n_bytes) {
  for (int i = 0; i < n_bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

inline void append_text(std::vector<std::byte>& out, const char* text) {
  for (; *text != '\0'; ++text) out.push_back(static_cast<std::byte>(*text));
}

struct WebpFrame {
  int64_t x = 0, y = 0, width = 0, height = 0;
  uint32_t milliseconds = 0;
  bool blends = true;           // over what is there, instead of taking its place
  bool clears = false;          // its place is cleared after it
  std::vector<std::byte> file;  // the frame as a still WebP file
};

// libwebp's decoder refuses animations (its demuxer is another library): a frame's chunks (ANMF) wrapped as a still.
inline Result<WebpFrame> still_frame(std::span<const std::byte> anmf) {
  if (anmf.size() < kFrameHeaderBytes) return make_error(ErrorCode::kCorrupt, "WebP: a frame without its header");
  WebpFrame frame;  // RFC 9649, 2.7.1.2: offsets are stored halved, sizes minus one
  frame.x = int64_t{load_le24(anmf.data())} * 2;
  frame.y = int64_t{load_le24(anmf.data() + 3)} * 2;
  frame.width = int64_t{load_le24(anmf.data() + 6)} + 1;
  frame.height = int64_t{load_le24(anmf.data() + 9)} + 1;
  frame.milliseconds = load_le24(anmf.data() + 12);
  frame.blends = (load_u8(anmf.data() + 15) & 2) == 0;
  frame.clears = (load_u8(anmf.data() + 15) & 1) != 0;
  const auto parts = anmf.subspan(kFrameHeaderBytes);
  append_text(frame.file, "RIFF");
  append_le(frame.file, static_cast<uint32_t>(4 + kChunkHeaderBytes + 10 + parts.size()), 4);
  append_text(frame.file, "WEBPVP8X");
  append_le(frame.file, 10, 4);
  append_le(frame.file, 0x10, 4);  // flag: has alpha
  append_le(frame.file, static_cast<uint32_t>(frame.width - 1), 3);
  append_le(frame.file, static_cast<uint32_t>(frame.height - 1), 3);
  frame.file.insert(frame.file.end(), parts.begin(), parts.end());
  return frame;
}

inline Result<WebpFrame> first_frame(std::span<const std::byte> chunks) {
  WebpChunk chunk;
  while (next_chunk(chunks, chunk)) {
    if (is(chunk, "ANMF")) return still_frame(chunk.data);
  }
  return make_error(ErrorCode::kCorrupt, "WebP: an animation without a first frame");
}

}  // namespace glimpse
