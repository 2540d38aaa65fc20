#include "tools/serve/server.h"

#include <chrono>
#include <thread>

namespace glimpse::serve {
namespace {

void sleep_briefly() {
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

/// Joined, with the listener stopped, however the function ends.
class ListeningThread {
 public:
  explicit ListeningThread(Listener& listener) : listener_(listener), thread_([&listener] { listener.run(); }) {}
  ~ListeningThread() {
    begin_stop();
    thread_.join();
  }
  ListeningThread(const ListeningThread&) = delete;
  ListeningThread& operator=(const ListeningThread&) = delete;
  void begin_stop() { listener_.stop(); }

 private:
  Listener& listener_;
  std::thread thread_;
};

Result<Serving> load(const ServerOptions& options, const ServerEvents& events, Service& service) {
  ModelOptions model_options = options.model;
  model_options.progress = [&](std::string_view stage, double fraction) {
    service.show_progress(stage, fraction);
    events.progress(stage, fraction);
    return !events.interrupted();
  };
  GLIMPSE_ASSIGN(const std::shared_ptr<const Model> model, Model::load(model_options));
  const EngineOptions engine_options = options.engine(*model);
  Serving serving;
  serving.model = model;
  serving.context = engine_options.context;
  if (model->text().pooling == Pooling::kNone) {
    GLIMPSE_ASSIGN(serving.engine, Engine::create(model, engine_options));
    serving.context = serving.engine->context();
  }
  GLIMPSE_ASSIGN(serving.vectors, VectorMaker::create(model, engine_options, options.vectors));
  return serving;
}

}  // namespace

Status run_server(const ServerOptions& options, const ServerEvents& events) {
  Serving serving;  // outlives all who may use it
  Service service(options.requests, options.access);
  GLIMPSE_ASSIGN(const std::unique_ptr<Listener> listener, Listener::create(options.listener, service));
  events.listening(listener->port());
  ListeningThread listening(*listener);
  Result<Serving> loaded = load(options, events, service);
  if (!loaded.ok()) {
    if (loaded.error().code == ErrorCode::kCancelled && events.interrupted()) return {};
    return std::move(loaded).error();
  }
  serving = std::move(loaded).value();
  if (serving.engine != nullptr) GLIMPSE_TRY(serving.engine->start());
  service.open(serving);
  events.ready();
  while (!events.interrupted()) sleep_briefly();
  events.stopping();
  service.close();
  serving.vectors->stop(options.grace_ms);
  listening.begin_stop();  // answers go on while connections are closed to others
  if (serving.engine != nullptr) serving.engine->stop(options.grace_ms);
  return {};
}

}  // namespace glimpse::serve
