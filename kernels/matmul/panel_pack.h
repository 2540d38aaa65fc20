// Whole panels of 16 rows packed in registers: the fast twins of what panel.cpp does code by code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matmul/panel.h"

namespace glimpse {

/// rows: 16 rows, row_bytes apart, any alignment. For a format of integer codes n blocks of each -> n panel blocks;
/// for F32 n columns, for F16 and BF16 n pairs of columns.
using PackRows = void (*)(const std::byte* rows, uint64_t row_bytes, int64_t n, std::byte* out);

/// nullptr for formats whose codes are no bit planes.
PackRows find_pack_rows_avx2(PanelFormat format);
PackRows find_pack_rows_avx512(PanelFormat format);

}  // namespace glimpse
