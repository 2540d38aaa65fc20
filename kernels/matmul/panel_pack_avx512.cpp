#include "kernels/simd/vec_avx512.h"
#include "kernels/simd/words_avx512.h"
// after the words
#include "kernels/matmul/panel_pack_rows.h"

namespace glimpse {

PackRows find_pack_rows_avx512(PanelFormat format) {
  return find_pack_rows<Vec512>(format);
}

}  // namespace glimpse
