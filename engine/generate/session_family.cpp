// Sessions that were forked from one another: checkpoints, and steps of several in one pass.
#include <algorithm>
#include <new>
#include <utility>

#include "engine/generate/session_impl.h"

namespace glimpse {

// Another session on the same bench, with nothing said yet.
Result<std::unique_ptr<Session>> Session::Impl::sibling() const {
  std::unique_ptr<Session> session(new Session());
  session->impl_ = std::make_unique<Impl>(model, sizes);
  Impl& s = *session->impl_;
  s.log_sink = log_sink;
  s.cancel = cancel;
  s.bench = bench;
  s.conversation.set_options(conversation.options());
  s.conversation.reserve(sizes.context + 1);
  GLIMPSE_ASSIGN(SpeculativeDecoder own, SpeculativeDecoder::create(*model, bench, sizes));
  s.decoder.emplace(std::move(own));
  return session;
}

Session::Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::Checkpoint::~Checkpoint() = default;

Result<std::unique_ptr<Session::Checkpoint>> Session::checkpoint() const {
  const Impl& s = *impl_;
  auto state = std::make_unique<Checkpoint::State>();
  state->bench = s.bench;
  GLIMPSE_ASSIGN(state->decoder, impl_->decoder->mark());
  state->conversation = s.conversation.state();
  state->answer = s.answer;
  state->said = s.said;
  state->timings = s.timings;
  state->pictures = s.pictures;
  return std::unique_ptr<Checkpoint>(new Checkpoint(std::move(state)));
}

Status Session::rewind(const Checkpoint& checkpoint) {
  Impl& s = *impl_;
  const Checkpoint::State& to = *checkpoint.state_;
  if (to.bench != s.bench) {
    return make_error(ErrorCode::kInvalidArgument, "the checkpoint is of a session that was not forked from this one");
  }
  std::optional<AnswerState> answer = to.answer;  // what may need memory comes first
  Answer said = to.said;
  s.conversation.reserve(static_cast<int64_t>(to.conversation.cached.size() + to.conversation.pending.size()));
  GLIMPSE_TRY(s.decoder->go_to(to.decoder));
  s.conversation.set_state(to.conversation);
  s.answer = std::move(answer);
  s.said = std::move(said);
  s.timings = to.timings;
  s.pictures = to.pictures;
  return {};
}

Result<std::unique_ptr<Session>> Session::fork() const {
  GLIMPSE_ASSIGN(const std::unique_ptr<Checkpoint> here, checkpoint());
  GLIMPSE_ASSIGN(std::unique_ptr<Session> other, impl_->sibling());
  GLIMPSE_TRY(other->rewind(*here));
  other->impl_->warned_of_pictures = impl_->warned_of_pictures;
  return other;
}

bool Session::same_family(const Session& other) const {
  return impl_->bench == other.impl_->bench;
}

int64_t Session::n_pages() const {
  return impl_->bench->pages->n_pages();
}

uint64_t Session::page_bytes() const {
  return impl_->bench->pages->pool().page_bytes;
}

int64_t Session::n_free_pages() const {
  return impl_->bench->pages->n_free();
}

namespace {

// Memory that runs out is the error of the session that needed it.
template <typename Work>
auto told(Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return make_error(ErrorCode::kOutOfMemory, "out of memory");
  }
}

}  // namespace

// The passes of all of them as one. What fails together is tried one by one, so that it is known whose it is.
class Session::JointStep {
 public:
  explicit JointStep(std::span<Session* const> sessions) {
    members_.reserve(sessions.size());
    for (Session* session : sessions) members_.push_back({*session->impl_, {}, {}, {}, {}});
  }
  std::vector<Result<Step>> run() {
    const Clock::time_point start = Clock::now();
    for (Member& m : members_) m.status = told([&] { return prepare(m); });
    forward();
    const double passed = ms_since(start);
    std::vector<Result<Step>> steps;
    steps.reserve(members_.size());
    for (Member& m : members_) {
      const Clock::time_point own = Clock::now();
      if (m.status.ok() && !m.step.finished) {
        m.status = told([&] { return m.session.take_step(m.forced, m.step); });
        if (m.status.ok()) m.session.timings.decode += passed + ms_since(own);
      }
      if (m.status.ok()) m.session.end_step(m.step);
      steps.push_back(m.status.ok() ? Result<Step>(std::move(m.step)) : Result<Step>(std::move(m.status).error()));
    }
    return steps;
  }

 private:
  struct Member {
    Impl& session;
    Status status;
    Step step;
    std::optional<TokenId> forced;         // by a constraint
    std::vector<MropePosition> positions;  // of what goes through the pass; none: nothing does
  };

  static Status prepare(Member& m) {
    Impl& s = m.session;
    if (s.cancelled()) return make_error(ErrorCode::kCancelled, "the step was cancelled");
    GLIMPSE_TRY(s.begin_step());
    if (s.ends_at_once(m.step)) return {};
    GLIMPSE_ASSIGN(m.forced, s.forced_token());
    if (m.forced || s.conversation.pending().empty()) return {};
    if (!s.decoder->drafts().empty()) return s.forward_pending();  // a draft may spare it the pass
    m.positions = s.conversation.pending_positions(0);
    return {};
  }

  // As many at once as leaves each its bits.
  void forward() {
    Impl& s = members_[0].session;
    const size_t most = static_cast<size_t>(std::min<int64_t>(s.bench->ops->most_rows_alike(), s.sizes.batch));
    std::vector<Member*> group;
    size_t n_rows = 0;
    for (Member& m : members_) {
      if (m.positions.empty() || !m.status.ok()) continue;
      if (n_rows + m.positions.size() > most) forward(group);
      if (group.empty()) n_rows = 0;
      group.push_back(&m);
      n_rows += m.positions.size();
    }
    forward(group);
  }

  static void forward(std::vector<Member*>& group) {
    if (group.empty()) return;
    const Status joint = told([&]() -> Status {
      std::vector<TextDecoder::Input> inputs;
      for (Member* m : group) {
        inputs.push_back(m->session.decoder->begin_append({m->session.conversation.pending(), m->positions, {}}));
      }
      return group[0]->session.bench->decoder->run(inputs, {}, {});
    });
    for (Member* m : group) {
      if (joint.ok()) {
        m->session.decoder->end_append();
        m->session.conversation.commit_pending();
      } else {
        m->status = told([&] { return m->session.forward_pending(); });
      }
    }
    group.clear();
  }

  std::vector<Member> members_;
};

Result<std::vector<Result<Session::Step>>> Session::step_many(std::span<Session* const> sessions) {
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (!sessions[i]->same_family(*sessions[0])) {
      return make_error(ErrorCode::kInvalidArgument, "session %d was not forked from the same as the first", i + 1);
    }
    if (std::find(sessions.begin(), sessions.begin() + static_cast<ptrdiff_t>(i), sessions[i]) !=
        sessions.begin() + static_cast<ptrdiff_t>(i)) {
      return make_error(ErrorCode::kInvalidArgument, "session %d is among the sessions twice", i + 1);
    }
  }
  if (sessions.empty()) return std::vector<Result<Step>>();
  return JointStep(sessions).run();
}

}  // namespace glimpse
