// The web page of the server: one file, tools/serve/page.html, part of the program.
#pragma once

#include <string>

namespace glimpse::serve {

/// nonce: letters and digits; scripts and styles of the page carry it.
std::string page_with_nonce(const std::string& nonce);

}  // namespace glimpse::serve
