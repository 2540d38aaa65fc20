// What a user asks, as it was typed or written into a file: the text, and where pictures stand in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace glimpse::prompt {

/// The text of a file that people wrote, as a question: UTF-8, with or without its byte order mark, line ends of Unix
/// or of Windows (they become Unix'); one line break at the end belongs to the file and not to the question. name: of
/// the file, in messages. Errors: kInvalidArgument: UTF-16 or UTF-32, a zero byte, invalid UTF-8, with offsets in the
/// file.
Result<std::string> text_of_file(std::string_view bytes, const std::string& name);

/// The same of a file, a pipe, or ("-") standard input, read to its end. Errors: kNotFound, kIo; kTooLarge beyond
/// Tokenizer::kMaxTextBytes; those of text_of_file(), a zero byte as soon as it is met.
Result<std::string> read_text(const std::string& path);

/// Pieces of a prompt in order.
struct Piece {
  bool is_picture = false;
  std::string text;  // of a text
  bool is_video = false;
};

/// Splits a prompt at the places of its pictures: "<image>", or llama.cpp's "<__media__>"; with raw also what the chat
/// template writes, "<|vision_start|><|image_pad|><|vision_end|>". Without such a place, all pictures stand before the
/// text; without pictures, the prompt is text alone, whatever it contains.
/// Videos likewise at "<video>", with raw also "<|vision_start|><|video_pad|><|vision_end|>"; without such a place
/// before everything else. Errors: kInvalidArgument: check_prompt_text(), or another number of places than of pictures
/// or videos.
Result<std::vector<Piece>> place_pictures(std::string_view prompt, size_t n_pictures, bool raw, size_t n_videos = 0);

}  // namespace glimpse::prompt
