// Several questions about one picture, in C++17 on glimpse.hpp alone: questions MODEL.gguf MMPROJ.gguf PICTURE
// Every line of standard input is a question. The picture goes through the model once; each question is a fork of the
// session that has seen it, and all answers are made together, one token of each in a pass.
#include <cstdio>
#include <exception>
#include <glimpse/glimpse.hpp>
#include <iostream>
#include <string>
#include <vector>

namespace api = glimpse::api;

namespace {

void answer(const char* model_path, const char* mmproj_path, const char* picture_path) {
  std::vector<std::string> questions;
  for (std::string line; std::getline(std::cin, line);) questions.push_back(line);

  glimpse_model_params model_params = api::Model::params();
  model_params.model_path = model_path;
  model_params.mmproj_path = mmproj_path;
  const api::Model model(model_params);
  glimpse_session_params params = api::Session::params();
  params.n_ctx = 2048;
  params.n_pool = params.n_ctx + 512 * static_cast<int32_t>(questions.size());  // what they do not have in common
  api::Session seen(model, params);
  const api::Embedding picture = seen.encode_image_file(picture_path);
  seen.prefill({{"user", {{"", &picture}}}});

  glimpse_generate_params answer_params = api::Session::generate_params();
  answer_params.max_tokens = 100;
  std::vector<api::Session> sessions;
  for (const std::string& question : questions) {
    sessions.push_back(seen.fork());
    sessions.back().prefill({{"user", {{question, nullptr}}}});
    sessions.back().begin_answer(answer_params);
  }
  std::vector<api::Session*> running;
  for (api::Session& session : sessions) running.push_back(&session);
  while (!running.empty()) {
    const std::vector<glimpse_step_result> steps = api::Session::step_many(running);
    std::vector<api::Session*> left;
    for (size_t i = 0; i < steps.size(); ++i) {
      if (steps[i].finish_reason == GLIMPSE_FINISH_NONE) left.push_back(running[i]);
    }
    running = left;
  }
  for (size_t i = 0; i < questions.size(); ++i) {
    std::cout << questions[i] << "\n  " << sessions[i].answer().text << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL.gguf MMPROJ.gguf PICTURE < QUESTIONS\n", argv[0]);
    return 2;
  }
  try {
    answer(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "questions: %s\n", error.what());
    return 1;
  }
  return 0;
}
