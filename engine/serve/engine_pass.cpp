// Passes of the decoder: a row of every answer under way, and slices of prompts.
//
// Pages. A prompt begins when the pages that it and its answer may come to need are free or held by the prompt cache
// alone; they are then promised to it, so that it never fails half way. Requests begin in the order of their admission:
// none overtakes one that waits for pages.
//
// Slices. So many rows that a pass takes about kPassMs where answers wait for it, about kPromptMs where none does, by
// what a row took lately. Half of them are of the oldest prompt, so that it comes to an end however many follow; the
// others of the one with the fewest rows left, so that a short question need not wait for a long one. What becomes of a
// row does not depend on the slices.
//
// Alike. A prompt that begins as one that is going in waits until that is through, and finds its rows in the cache.
#include <algorithm>
#include <utility>

#include "engine/serve/engine_impl.h"

namespace glimpse {
namespace {

constexpr double kPassMs = 200, kPromptMs = 1000;
constexpr int64_t kFewestRows = 32;  // fewer would read the weights for too little
// Rows in common for which it is worth waiting.
constexpr int64_t kWorthWaiting = 32;

size_t n_alike(const std::vector<RowKey>& a, const std::vector<RowKey>& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::vector<Message> messages_of(const Job& job) {
  std::vector<Message> messages;
  size_t n = 0;
  for (const RequestMessage& message : job.request.messages) {
    Message& to = messages.emplace_back();
    to.role = message.role;
    for (const RequestPart& part : message.parts) {
      MessagePart& piece = to.parts.emplace_back();
      if (part.image != nullptr) {
        piece.image = job.pictures[n++].embedding;
      } else {
        piece.text = part.text;
      }
    }
  }
  return messages;
}

std::vector<RowKey> keys_of(const Job& job, std::span<const TokenId> ids) {
  std::vector<RowKey> rows;
  rows.reserve(ids.size());
  size_t picture = 0;
  int32_t row = 0;
  for (const TokenId id : ids) {
    RowKey& key = rows.emplace_back();
    key.token = id;
    if (id != PassRows::kPicture) continue;
    if (row == job.pictures[picture].embedding->n_tokens) ++picture, row = 0;
    key.row = row++;
    if (job.pictures[picture].content) key.picture = *job.pictures[picture].content;
  }
  return rows;
}

}  // namespace

// The prompt as rows, and the pages that it needs.
Status Engine::Impl::make_ready(Job& job) {
  job.session->set_prompt_options(job.request.prompt);
  GLIMPSE_TRY(job.session->begin(messages_of(job), job.request.generate));
  job.rows = keys_of(job, job.session->prompt_rows());
  const auto n_prompt = static_cast<int64_t>(job.rows.size());
  const int64_t max_tokens = job.request.generate.max_tokens;
  GLIMPSE_TRY(check_size(n_prompt, 0, max_tokens));
  const bool open = max_tokens < 0 || max_tokens > context;
  job.n_blocks = KvPages::pages_for(open ? context : std::min(context, n_prompt + max_tokens));
  job.request.messages.clear();  // pixels and all
  job.stage = Job::Stage::kReady;
  return {};
}

// Pages that it may still take: a page that is partly filled and shared is copied before it is written.
int64_t Engine::Impl::pages_wanted(const Job& job) const {
  const KvCache& cache = job.session->cache();
  int64_t settled = cache.n_pages();
  if (cache.n_past() % kKeyBlock != 0 && pages->is_shared(cache.page(settled - 1))) --settled;
  return std::max<int64_t>(0, job.n_blocks - settled);
}

// Pages that nobody was promised.
int64_t Engine::Impl::spare_pages() const {
  int64_t n = pages->n_free() + (prefixes == nullptr ? 0 : prefixes->n_idle());
  for (const auto& job : running) n -= job->has_pages() ? pages_wanted(*job) : 0;
  return n;
}

bool Engine::Impl::waits_for_another(const Job& job) const {
  if (prefixes == nullptr) return false;
  const int64_t n_here = prefixes->n_rows_known(job.rows);
  return std::any_of(running.begin(), running.end(), [&](const auto& other) {
    return other->stage == Job::Stage::kPrompt &&
           static_cast<int64_t>(n_alike(job.rows, other->rows)) >= n_here + kWorthWaiting;
  });
}

// With the rows that are known of it. False: there are no pages for it yet.
bool Engine::Impl::start_prompt(Job& job) {
  PrefixCache::Match match;
  const auto begin_with = [&](int64_t n) {
    match.pages.resize(static_cast<size_t>(KvPages::pages_for(n)));
    const Status adopted = job.session->adopt(match.pages, n);
    if (!adopted.ok()) {
      finish(job, adopted);
      return true;
    }
    job.stage = Job::Stage::kPrompt;
    if (spare_pages() >= 0) return true;
    job.stage = Job::Stage::kReady;
    return false;
  };
  if (prefixes != nullptr) match = prefixes->find(std::span(job.rows).first(job.rows.size() - 1));
  // A page that is partly of use must be copied, which takes one more for a while: perhaps without it.
  for (const int64_t n : {match.n_rows, match.n_rows / kKeyBlock * kKeyBlock}) {
    if (begin_with(n)) return true;
  }
  if (!job.session->adopt({}, 0).ok()) finish(job, make_error(ErrorCode::kDevice, "the cache cannot be emptied"));
  return false;
}

void Engine::Impl::start_prompts() {
  bool pages_are_short = false;
  for (const auto& job : std::vector<std::shared_ptr<Job>>(running)) {
    Status status;
    if (job->stage == Job::Stage::kPictures && job->request.only_pictures && job->sees_all()) {
      for (const JobPicture& picture : job->pictures) job->result.embeddings.push_back(picture.embedding);
      finish(*job, {});
      continue;
    }
    if (job->stage == Job::Stage::kPictures && job->sees_all()) {
      status = told_of([&] { return make_ready(*job); });
    }
    if (status.ok() && job->stage == Job::Stage::kReady && !pages_are_short) {
      status = told_of([&]() -> Status {
        pages_are_short = !waits_for_another(*job) && !start_prompt(*job);
        return {};
      });
    }
    if (!status.ok()) finish(*job, std::move(status));
  }
}

int64_t Engine::Impl::slice_rows(bool answers_wait) const {
  if (row_ms == 0) return 2 * kFewestRows;
  const double rows = (answers_wait ? kPassMs : kPromptMs) / row_ms;
  return static_cast<int64_t>(std::clamp<double>(rows, kFewestRows, 1 << 20));  // the batch is looked at elsewhere
}

// Who takes part in the next pass, with how many rows of its prompt at most.
std::vector<std::pair<Job*, int64_t>> Engine::Impl::next_pass() const {
  std::vector<std::pair<Job*, int64_t>> members;
  std::vector<std::pair<Job*, int64_t>> prompts;
  int64_t n_answers = 0;
  for (const auto& job : running) {
    if (job->stage == Job::Stage::kAnswer) members.emplace_back(job.get(), 0), ++n_answers;
    if (job->stage == Job::Stage::kPrompt) prompts.emplace_back(job.get(), 0);
  }
  if (prompts.empty()) return members;
  // Where bits depend on the number of rows in a pass, a prompt goes in as it would alone.
  if (bench->ops->most_rows_alike() < INT64_MAX) {
    members.emplace_back(prompts[0].first, INT64_MAX);
    return members;
  }
  int64_t room = std::max<int64_t>(1, std::min(slice_rows(n_answers > 0), options.batch - n_answers));
  const auto give = [&](std::pair<Job*, int64_t>& prompt, int64_t n) {
    n = std::min({n, room, prompt.first->session->n_prompt_left() - prompt.second});
    prompt.second += n;
    room -= n;
  };
  give(prompts[0], (room + 1) / 2);
  std::stable_sort(prompts.begin() + 1, prompts.end(), [](const auto& a, const auto& b) {
    return a.first->session->n_prompt_left() < b.first->session->n_prompt_left();
  });
  for (size_t i = 1; i < prompts.size(); ++i) give(prompts[i], room);
  give(prompts[0], room);
  for (const auto& prompt : prompts) {
    if (prompt.second > 0) members.push_back(prompt);
  }
  return members;
}

void Engine::Impl::run_pass() {
  const std::vector<std::pair<Job*, int64_t>> members = next_pass();
  if (members.empty()) return;
  std::vector<std::shared_ptr<Job>> jobs_of_pass;  // callbacks may end any
  std::vector<Session*> sessions;
  std::vector<int64_t> most_rows;
  int64_t n_pages = 0, n_prompt = 0;
  for (const auto& [member, n_rows] : members) {
    Session& session = *member->session;
    const int64_t n = n_rows > 0 ? std::min(n_rows, session.n_prompt_left()) : session.n_pending();
    n_prompt += n_rows > 0 ? n : 0;
    n_pages += KvPages::pages_for(session.cache().n_past() + n) - (member->n_blocks - pages_wanted(*member));
    jobs_of_pass.push_back(
        *std::find_if(running.begin(), running.end(), [&, m = member](const auto& job) { return job.get() == m; }));
    sessions.push_back(&session);
    most_rows.push_back(std::max<int64_t>(1, n));
  }
  if (prefixes != nullptr) prefixes->make_free(n_pages);  // they were promised

  const EngineClock::time_point start = EngineClock::now();
  auto steps = Session::step_many(sessions, most_rows);
  const double ms = engine_ms_since(start);
  if (n_prompt >= kFewestRows / 2) {
    const double per_row = ms / static_cast<double>(n_prompt);
    row_ms = row_ms == 0 ? per_row : (row_ms + per_row) / 2;
  }
  {
    const std::lock_guard lock(mutex);
    ++counted.n_passes;
    counted.n_prompt_tokens += static_cast<uint64_t>(n_prompt);
    (n_prompt > 0 ? counted.prefill_seconds : counted.decode_seconds) += ms / 1000;
  }
  for (size_t i = 0; i < jobs_of_pass.size(); ++i) {
    if (!steps.ok()) {
      finish(*jobs_of_pass[i], steps.error());
    } else {
      take_step(*jobs_of_pass[i], std::move(steps.value()[i]));
    }
  }
}

// What became of its step. Where memory runs out here it is this request's error alone.
void Engine::Impl::take_step(Job& job, Result<Session::Step> result) {
  if (!result.ok()) return finish(job, std::move(result).error());
  if (job.stage == Job::Stage::kPrompt && job.session->n_prompt_left() == 0) {
    job.stage = Job::Stage::kAnswer;
    const int64_t n_cached = job.session->timings().n_cached_tokens;
    {
      const std::lock_guard lock(mutex);
      counted.n_cached_prompt_tokens += static_cast<uint64_t>(n_cached);
    }
    if (prefixes != nullptr) {
      // The last page, partly filled, only where there is one for the copy that the answer then writes to.
      const size_t n = spare_pages() > 0 ? job.rows.size() : job.rows.size() / kKeyBlock * kKeyBlock;
      prefixes->keep(std::span(job.rows).first(n), job.session->cache());
    }
  }
  const Session::Step& step = result.value();
  const bool drawn = step.token.id >= 0;
  if (!drawn && !step.finished) return;  // a slice
  if (drawn) {
    if (job.result.first_token_ms == 0) job.result.first_token_ms = engine_ms_since(job.submitted);
    const std::lock_guard lock(mutex);
    ++counted.n_generated_tokens;
  }
  Status wanted = told_of([&]() -> Status {
    if (!job.request.on_token || job.request.on_token(step)) return {};
    return make_error(ErrorCode::kCancelled, "the request was cancelled by its callback");
  });
  if (!wanted.ok()) {
    finish(job, std::move(wanted));
  } else if (step.finished) {
    finish(job, {});
  }
}

}  // namespace glimpse
