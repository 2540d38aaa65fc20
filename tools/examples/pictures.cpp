// One question about many pictures, in C++17 on glimpse.hpp alone: pictures MODEL.gguf MMPROJ.gguf QUESTION PICTURE...
// All of them are asked at once; the engine's own thread answers some at a time, and each answer is printed when its
// turn comes. What is wrong with one picture is said in its place.
#include <cstdio>
#include <exception>
#include <glimpse/glimpse.hpp>
#include <iostream>
#include <vector>

namespace api = glimpse::api;

namespace {

int answer(int n_pictures, char** pictures, const char* model_path, const char* mmproj_path, const char* question) {
  glimpse_model_params model_params = api::Model::params();
  model_params.model_path = model_path;
  model_params.mmproj_path = mmproj_path;
  const api::Model model(model_params);
  glimpse_engine_params params = api::Engine::params();
  params.n_ctx = 2048;
  params.n_queued = n_pictures;
  api::Engine engine(model, params);
  engine.start();

  std::vector<api::Ticket> tickets;
  for (int i = 0; i < n_pictures; ++i) {
    api::Engine::Request request;
    request.messages = {{"user", {api::Encoder::file(pictures[i]), question}}};
    request.generate.max_tokens = 100;
    tickets.push_back(engine.submit(request));
  }
  int n_failed = 0;
  for (int i = 0; i < n_pictures; ++i) {
    const api::RequestResult result = tickets[static_cast<size_t>(i)].wait();
    std::cout << pictures[i] << "\n  " << (result.status == GLIMPSE_OK ? result.text : result.message) << '\n';
    if (result.status != GLIMPSE_OK) ++n_failed;
  }
  return n_failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s MODEL.gguf MMPROJ.gguf QUESTION PICTURE...\n", argv[0]);
    return 2;
  }
  try {
    return answer(argc - 4, argv + 4, argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pictures: %s\n", error.what());
    return 1;
  }
}
