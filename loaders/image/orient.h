// Turning pictures upright.
#pragma once

#include "loaders/image/image.h"

namespace glimpse {

/// Turns a stored picture upright, as Pillow's ImageOps.exif_transpose. orientation: 1..8; anything else is 1.
Image apply_orientation(Image image, int orientation);

/// Which way the stored axes run: mirrored, x from the right and y from the bottom of their upright axis. With an
/// orientation from 5 on, stored x is upright y.
struct StoredAxes {
  bool x_mirrored = false, y_mirrored = false;
};
StoredAxes stored_axes(int orientation);

}  // namespace glimpse
