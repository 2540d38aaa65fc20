// A conversation, in C++17 on glimpse.hpp alone: chat MODEL.gguf [MMPROJ.gguf PICTURE]
// Every line of standard input is a question; earlier turns stay in the session. The picture goes with the first.
#include <cstdio>
#include <exception>
#include <glimpse/glimpse.hpp>
#include <iostream>
#include <optional>
#include <string>

namespace api = glimpse::api;

namespace {

void chat(const char* model_path, const char* mmproj_path, const char* picture_path) {
  glimpse_model_params model_params = api::Model::params();
  model_params.model_path = model_path;
  model_params.mmproj_path = mmproj_path;
  const api::Model model(model_params);
  api::Session session(model, api::Session::params());

  std::optional<api::Embedding> picture;
  if (picture_path != nullptr) picture.emplace(session.encode_image_file(picture_path));

  glimpse_generate_params params = api::Session::generate_params();
  params.max_tokens = 200;
  for (std::string line; std::getline(std::cin, line);) {
    api::Message question{"user", {}};
    if (picture) question.parts.push_back({"", &*picture});
    question.parts.push_back({line, nullptr});
    session.generate({question}, params, [](std::string_view text) {
      std::cout << text << std::flush;
      return true;
    });
    std::cout << '\n';
    picture.reset();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL.gguf [MMPROJ.gguf PICTURE] < QUESTIONS\n", argv[0]);
    return 2;
  }
  try {
    chat(argv[1], argc > 2 ? argv[2] : nullptr, argc > 3 ? argv[3] : nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chat: %s\n", error.what());
    return 1;
  }
  return 0;
}
