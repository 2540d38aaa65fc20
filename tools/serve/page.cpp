#include "tools/serve/page.h"

#include <string_view>

namespace glimpse::serve {

extern const unsigned char kPageBytes[];  // made of page.html when the program is built
extern const unsigned long kPageSize;

std::string page_with_nonce(const std::string& nonce) {
  constexpr std::string_view kMark = "NONCE-OF-THIS-PAGE";
  std::string_view page(reinterpret_cast<const char*>(kPageBytes), kPageSize);
  std::string out;
  out.reserve(page.size() + 64);
  for (size_t at = page.find(kMark); at != std::string_view::npos; at = page.find(kMark)) {
    out += page.substr(0, at);
    out += nonce;
    page.remove_prefix(at + kMark.size());
  }
  return out.append(page);
}

}  // namespace glimpse::serve
