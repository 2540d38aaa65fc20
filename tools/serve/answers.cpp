#include "tools/serve/answers.h"

#include <algorithm>

namespace glimpse::serve {

void Answers::Mailbox::put(int choice, const Session::Step& step) {
  std::list<AnswerEvent> one;
  one.push_back({choice, step, std::nullopt});
  {
    const std::lock_guard lock(mutex);
    events.splice(events.end(), one);
  }
  arrived.notify_one();
}

void Answers::Mailbox::end(int choice, RequestResult result) noexcept {
  {
    const std::lock_guard lock(mutex);
    const auto end =
        std::find_if(ends.begin(), ends.end(), [choice](const AnswerEvent& event) { return event.choice == choice; });
    if (end == ends.end()) return;
    end->result = std::move(result);
    events.splice(events.end(), ends, end);
  }
  arrived.notify_one();
}

Status Answers::submit(Request request) {
  const int choice = static_cast<int>(ids_.size());
  ids_.reserve(ids_.size() + 1);
  {
    const std::lock_guard lock(box_->mutex);
    box_->ends.push_back({choice, {}, std::nullopt});
  }
  // Where memory runs out it is the error of the choice, which has its end all the same.
  request.on_token = [box = box_, choice](const Session::Step& step) {
    box->put(choice, step);
    return true;
  };
  request.on_done = [box = box_, observe = observe_, choice](RequestResult result) {
    try {
      observe(result);
    } catch (...) {
    }
    box->end(choice, std::move(result));
  };
  GLIMPSE_ASSIGN(const RequestId id, engine_.submit(std::move(request)));
  ids_.push_back(id);
  ++n_open_;
  return {};
}

std::optional<AnswerEvent> Answers::next(std::chrono::milliseconds wait) {
  std::list<AnswerEvent> one;
  {
    std::unique_lock lock(box_->mutex);
    if (!box_->arrived.wait_for(lock, wait, [this] { return !box_->events.empty(); })) return std::nullopt;
    one.splice(one.end(), box_->events, box_->events.begin());
  }
  if (one.front().result) --n_open_;
  return std::move(one.front());
}

void Answers::cancel() {
  if (n_open_ == 0) return;
  for (const RequestId id : ids_) engine_.cancel(id);
}

}  // namespace glimpse::serve
