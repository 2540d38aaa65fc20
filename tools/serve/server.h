// A whole server: listens, loads the model behind it, answers, and ends in good order.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "engine/serve/engine.h"
#include "tools/serve/listener.h"
#include "tools/serve/service.h"

namespace glimpse::serve {

struct ServerOptions {
  ModelOptions model;
  std::function<EngineOptions(const Model& model)> engine;
  VectorPolicy vectors;
  RequestPolicy requests;
  AccessPolicy access;
  ListenerOptions listener;
  int64_t grace_ms = 30000;  // for answers under way when the server is told to stop
};

struct ServerEvents {
  std::function<void(int port)> listening;  // before the model is loaded
  std::function<void(std::string_view stage, double fraction)> progress;
  std::function<void()> ready;
  std::function<void()> stopping;
  std::function<bool()> interrupted;  // asked many times a second
};

/// Returns when it was interrupted and everything has ended. Errors: of listening, of the model, of the engine.
Status run_server(const ServerOptions& options, const ServerEvents& events);

}  // namespace glimpse::serve
