// Encoded pictures of megapixels, made with the libraries' encoders.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace glimpse::testing {

struct BigPicture {
  std::string name;
  std::vector<std::byte> bytes;
  bool in_rows;  // its format gives rows without holding the picture
};
/// Made once.
const std::vector<BigPicture>& big_pictures();

struct SmallPicture {
  std::string name;
  std::vector<std::byte> bytes;
};
/// Fixtures of tests/loaders/data/image, one of each kind.
std::vector<SmallPicture> small_pictures();

}  // namespace glimpse::testing
