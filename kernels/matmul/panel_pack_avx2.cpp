#include "kernels/simd/vec_avx2.h"
#include "kernels/simd/words_avx2.h"
// after the words
#include "kernels/matmul/panel_pack_rows.h"

namespace glimpse {

PackRows find_pack_rows_avx2(PanelFormat format) {
  return find_pack_rows<Vec256>(format);
}

}  // namespace glimpse
