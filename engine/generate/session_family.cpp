// Sessions that were forked from one another: checkpoints, and steps of several in one pass.
#include <algorithm>
#include <new>
#include <utility>

#include "engine/generate/session_impl.h"

namespace glimpse {

// Another session on the same bench, with nothing said yet.
Result<std::unique_ptr<Session>> Session::Impl::sibling() const {
  GLIMPSE_ASSIGN(std::unique_ptr<Session> session, Session::create(model, bench, sizes, log_sink));
  session->impl_->cancel = cancel;
  session->impl_->conversation.set_options(conversation.options());
  return session;
}

Session::Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Session::Checkpoint::~Checkpoint() = default;

Result<std::unique_ptr<Session::Checkpoint>> Session::checkpoint() const {
  Impl& s = *impl_;
  s.drop_prompt();
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
  s.drop_prompt();
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
  if (impl_->drafter) other->impl_->drafter->follow(*impl_->drafter);
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

// The passes of all of them as one: a slice of a prompt from those where one waits, what is pending from the others.
// What fails together is tried one by one, so that it is known whose it is.
class Session::JointStep {
 public:
  JointStep(std::span<Session* const> sessions, std::span<const int64_t> most_rows) {
    members_.reserve(sessions.size());
    for (size_t i = 0; i < sessions.size(); ++i) {
      members_.push_back({*sessions[i]->impl_, most_rows.empty() ? INT64_MAX : most_rows[i]});
    }
  }
  std::vector<Result<Step>> run() {
    const Clock::time_point start = Clock::now();
    std::vector<Result<Step>> steps;
    steps.reserve(members_.size());  // before anything changes
    for (Member& m : members_) m.status = told([&] { return prepare(m); });
    forward();
    const double passed = ms_since(start);
    for (Member& m : members_) {
      if (m.status.ok()) m.status = told([&] { return m.of_prompt ? end_slice(m, passed) : end_step(m, passed); });
      if (m.status.ok()) m.session.end_step(m.step);
      steps.push_back(m.status.ok() ? Result<Step>(std::move(m.step)) : Result<Step>(std::move(m.status).error()));
    }
    return steps;
  }

 private:
  struct Member {
    Impl& session;
    int64_t most_rows;
    Status status = {};
    Step step = {};
    std::optional<TokenId> known = {};          // the token: a constraint leaves one, or the backend has drawn it
    std::vector<MropePosition> positions = {};  // of pending tokens
    PassRows rows = {};                         // what goes through the pass; none: nothing does
    bool of_prompt = false;
    bool wants_logits = true;
  };

  static Status prepare(Member& m) {
    Impl& s = m.session;
    if (s.cancelled()) return make_error(ErrorCode::kCancelled, "the step was cancelled");
    if (s.prompt) {
      m.of_prompt = true;
      if (s.prompt->n_left() == 0) return {};  // all rows are in, but the last call ended before it told
      m.rows = s.prompt_slice(std::clamp<int64_t>(m.most_rows, 1, s.prompt->n_left()));
      m.wants_logits = static_cast<int64_t>(m.rows.ids.size()) == s.prompt->n_left();
      return {};
    }
    GLIMPSE_TRY(s.begin_step());
    if (s.ends_at_once(m.step)) return {};
    GLIMPSE_ASSIGN(m.known, s.forced_token());
    if (m.known || s.conversation.pending().empty()) return {};
    if (!s.decoder->drafts().empty()) return s.forward_pending();  // a draft may spare it the pass
    m.positions = s.conversation.pending_positions(0);
    m.rows = {s.conversation.pending(), m.positions, {}};
    return {};
  }

  // As many at once as leaves each its bits.
  void forward() {
    Impl& s = members_[0].session;
    const size_t most = static_cast<size_t>(std::min<int64_t>(s.bench->ops->most_rows_alike(), s.sizes.batch));
    std::vector<Member*> group;
    size_t n_rows = 0;
    for (Member& m : members_) {
      if (m.rows.ids.empty() || !m.status.ok()) continue;
      if (n_rows + m.rows.ids.size() > most) forward(group);
      if (group.empty()) n_rows = 0;
      group.push_back(&m);
      n_rows += m.rows.ids.size();
    }
    forward(group);
  }

  // Of texts, not of prompts. What fails here is left to the pass, which has the error of each.
  static bool draw(std::span<Member* const> group) {
    const Result<bool> drawn = told([&]() -> Result<bool> {
      std::vector<TokenId> tokens(group.size());
      std::vector<Impl*> sessions;
      for (Member* m : group) {
        if (m->of_prompt) return false;
        sessions.push_back(&m->session);
      }
      GLIMPSE_ASSIGN(const bool done, Impl::draw_on_device(sessions, tokens));
      for (size_t i = 0; done && i < group.size(); ++i) group[i]->known = tokens[i];
      return done;
    });
    return drawn.ok() && drawn.value();
  }

  static Status run_pass(std::span<Member* const> group) {
    std::vector<TextDecoder::Input> inputs;
    for (Member* m : group) inputs.push_back(m->session.decoder->begin_append(m->rows, m->wants_logits));
    GLIMPSE_TRY(group[0]->session.bench->decoder->run(inputs, {}, {}));
    for (Member* m : group) {
      m->session.decoder->end_append(m->wants_logits);
      if (m->of_prompt) {
        m->session.prompt->n_done += static_cast<int64_t>(m->rows.ids.size());
      } else {
        m->session.conversation.commit_pending();
      }
    }
    return {};
  }

  static void forward(std::vector<Member*>& group) {
    if (group.empty()) return;
    if (draw(group)) return group.clear();
    const Status joint = told([&] { return run_pass(group); });
    for (Member* m : group) {
      if (joint.ok()) continue;
      m->status = group.size() == 1 ? joint : told([&] { return run_pass(std::span(&m, 1)); });
    }
    group.clear();
  }

  static Status end_step(Member& m, double passed) {
    if (m.step.finished) return {};
    const Clock::time_point own = Clock::now();
    GLIMPSE_TRY(m.session.take_step(m.known, m.step));
    m.session.timings.decode += passed + ms_since(own);
    return {};
  }

  static Status end_slice(Member& m, double passed) {
    Impl& s = m.session;
    s.prompt->prefill_ms += passed;
    if (s.prompt->n_left() > 0) return {};
    s.end_prompt();
    if (s.ends_at_once(m.step)) return {};
    GLIMPSE_ASSIGN(m.known, s.forced_token());
    return s.take_step(m.known, m.step);
  }

  std::vector<Member> members_;
};

Result<std::vector<Result<Session::Step>>> Session::step_many(std::span<Session* const> sessions,
                                                              std::span<const int64_t> most_rows) {
  if (!most_rows.empty() && most_rows.size() != sessions.size()) {
    return make_error(ErrorCode::kInvalidArgument, "numbers of rows for %d of %d sessions", most_rows.size(),
                      sessions.size());
  }
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
  return JointStep(sessions, most_rows).run();
}

}  // namespace glimpse
