// Pages of PDF files as pictures, by poppler's programs.
#pragma once

#include <functional>
#include <string>

#include "engine/base/result.h"

namespace glimpse::batch {

/// How many pages a file has. Errors: kUnsupported (poppler-utils is not installed), kCorrupt with what pdfinfo says.
Result<int32_t> pdf_pages(const std::string& path);

/// A page, from 1, as the bytes of a PPM file. cancelled: asked a few times per second. Errors: those of pdf_pages(),
/// kTooLarge, kCancelled.
Result<std::string> pdf_page(const std::string& path, int32_t page, int32_t dpi,
                             const std::function<bool()>& cancelled);

}  // namespace glimpse::batch
