// Names of files that look like pictures.
#pragma once

#include <string>

namespace glimpse::prompt {

/// By its end, whatever its case: .jpg, .png, ... What a file is says its content.
bool is_picture_name(const std::string& path);
bool is_pdf_name(const std::string& path);

}  // namespace glimpse::prompt
