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
  ~ListeningThread() { stop(); }
  ListeningThread(const ListeningThread&) = delete;
  ListeningThread& operator=(const ListeningThread&) = delete;
  void stop() {
    listener_.stop();
    if (thread_.joinable()) thread_.join();
  }

 private:
  Listener& listener_;
  std::thread thread_;
};

Result<std::unique_ptr<Engine>> load_engine(const ServerOptions& options, const ServerEvents& events,
                                            Service& service) {
  ModelOptions model_options = options.model;
  model_options.progress = [&](std::string_view stage, double fraction) {
    service.show_progress(stage, fraction);
    events.progress(stage, fraction);
    return !events.interrupted();
  };
  GLIMPSE_ASSIGN(const std::shared_ptr<const Model> model, Model::load(model_options));
  return Engine::create(model, options.engine(*model));
}

}  // namespace

Status run_server(const ServerOptions& options, const ServerEvents& events) {
  Service service(options.requests, options.access);
  GLIMPSE_ASSIGN(const std::unique_ptr<Listener> listener, Listener::create(options.listener, service));
  events.listening(listener->port());
  ListeningThread listening(*listener);
  Result<std::unique_ptr<Engine>> loaded = load_engine(options, events, service);
  if (!loaded.ok()) {
    if (loaded.error().code == ErrorCode::kCancelled && events.interrupted()) return {};
    return std::move(loaded).error();
  }
  const std::unique_ptr<Engine> engine = std::move(loaded).value();
  GLIMPSE_TRY(engine->start());
  service.open(engine.get());
  events.ready();
  while (!events.interrupted()) sleep_briefly();
  events.stopping();
  service.close();
  std::thread ending([&] { engine->stop(options.grace_ms); });  // answers go on while connections are closed to others
  listening.stop();
  ending.join();
  return {};
}

}  // namespace glimpse::serve
