#include "tools/serve/answers.h"

namespace glimpse::serve {

void Answers::Mailbox::put(AnswerEvent event) {
  {
    const std::lock_guard lock(mutex);
    events.push_back(std::move(event));
  }
  arrived.notify_one();
}

Status Answers::submit(Request request) {
  const int choice = static_cast<int>(ids_.size());
  request.on_token = [box = box_, choice](const Session::Step& step) {
    box->put({choice, step, std::nullopt});
    return true;
  };
  request.on_done = [box = box_, observe = observe_, choice](RequestResult result) {
    observe(result);
    box->put({choice, {}, std::move(result)});
  };
  GLIMPSE_ASSIGN(const RequestId id, engine_.submit(std::move(request)));
  ids_.push_back(id);
  ++n_open_;
  return {};
}

std::optional<AnswerEvent> Answers::next(std::chrono::milliseconds wait) {
  std::unique_lock lock(box_->mutex);
  if (!box_->arrived.wait_for(lock, wait, [this] { return !box_->events.empty(); })) return std::nullopt;
  AnswerEvent event = std::move(box_->events.front());
  box_->events.pop_front();
  if (event.result) --n_open_;
  return event;
}

void Answers::cancel() {
  if (n_open_ == 0) return;
  for (const RequestId id : ids_) engine_.cancel(id);
}

}  // namespace glimpse::serve
