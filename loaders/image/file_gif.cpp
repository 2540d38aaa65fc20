// GIF through giflib: what the first frame and animations share. Left out of the build when giflib is missing.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "loaders/image/decoder.h"
#include "loaders/image/gif_file.h"

namespace glimpse {
namespace {

int read_source(GifFileType* gif, GifByteType* out, int n_bytes) {
  auto& rest = *static_cast<std::span<const std::byte>*>(gif->UserData);
  const size_t n = std::min(rest.size(), static_cast<size_t>(std::max(0, n_bytes)));
  if (n > 0) std::memcpy(out, rest.data(), n);
  rest = rest.subspan(n);
  return static_cast<int>(n);
}

}  // namespace

Error gif_error(int code) {
  switch (code) {
    case D_GIF_ERR_NOT_ENOUGH_MEM:
      return make_error(ErrorCode::kOutOfMemory, "GIF: out of memory");
    case D_GIF_ERR_READ_FAILED:
    case D_GIF_ERR_EOF_TOO_SOON:
      return make_error(ErrorCode::kTruncated, "GIF: the data end in the middle of the picture");
    default: {
      const char* text = GifErrorString(code);
      return make_error(ErrorCode::kCorrupt, "GIF: %s", text != nullptr ? text : "damaged");
    }
  }
}

Status GifFile::open(std::span<const std::byte> bytes) {
  gif_.reset();
  rest_ = bytes;
  int code = D_GIF_ERR_READ_FAILED;
  gif_.reset(DGifOpen(&rest_, read_source, &code));
  if (gif_ != nullptr) return {};
  // giflib calls it a missing screen descriptor when its colour map cannot be allocated, too.
  const size_t n_colours =
      bytes.size() > 10 && (load_u8(&bytes[10]) & 0x80) != 0 ? size_t{2} << (load_u8(&bytes[10]) & 7) : 0;
  if (code == D_GIF_ERR_NO_SCRN_DSCR) {
    code = bytes.size() < 13 + 3 * n_colours ? D_GIF_ERR_EOF_TOO_SOON : D_GIF_ERR_NOT_ENOUGH_MEM;
  }
  return gif_error(code);
}

Result<bool> next_gif_frame(GifFileType* gif, GifControl& control) {
  control = {};
  GifRecordType record = UNDEFINED_RECORD_TYPE;
  while (record != IMAGE_DESC_RECORD_TYPE) {
    if (DGifGetRecordType(gif, &record) == GIF_ERROR) return gif_error(gif->Error);
    if (record == TERMINATE_RECORD_TYPE) return false;
    if (record == IMAGE_DESC_RECORD_TYPE) {
      if (DGifGetImageDesc(gif) == GIF_ERROR) return gif_error(gif->Error);
    } else if (record == EXTENSION_RECORD_TYPE) {
      int kind = 0;
      GifByteType* block = nullptr;  // its length, then its bytes
      if (DGifGetExtension(gif, &kind, &block) == GIF_ERROR) return gif_error(gif->Error);
      if (kind == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4) {
        control.transparent = (block[1] & 1) != 0 ? block[4] : -1;
        control.disposal = block[1] >> 2 & 7;
        control.delay_hundredths = block[2] | block[3] << 8;
      }
      while (block != nullptr) {
        if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return gif_error(gif->Error);
      }
    }
  }
  return true;
}

}  // namespace glimpse
