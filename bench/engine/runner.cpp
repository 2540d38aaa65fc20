#include "bench/engine/runner.h"

#include <algorithm>
#include <utility>

#include "bench/engine/machine.h"
#include "bench/engine/synthetic_picture.h"
#include "engine/base/file.h"
#include "engine/generate/random.h"
#include "loaders/image/image.h"

namespace glimpse::bench {
namespace {

std::vector<TokenId> random_ids(Xoshiro256& random, int64_t n, int64_t vocab_size) {
  std::vector<TokenId> ids(static_cast<size_t>(n));
  for (TokenId& id : ids) id = static_cast<TokenId>(random.next() % static_cast<uint64_t>(vocab_size));
  return ids;
}

Result<std::vector<std::byte>> picture_bytes(const PictureSpec& picture) {
  if (picture.width > 0) return synthetic_jpeg(picture.width, picture.height);
  return read_file(picture.text, ImageLimits{}.max_bytes);
}

}  // namespace

struct Runner::Prepared {
  TestSpec test;
  std::vector<TokenId> depth_ids, prompt_ids, gen_ids;
  std::vector<std::byte> picture;
  Turn turn;
  std::optional<ImageCost> image;
  int64_t image_width = 0, image_height = 0;
  int64_t n_prompt = 0;  // rows of a turn's prompt
  int64_t context = 0;   // positions that the decoder needs; 0: no decoder
};

int64_t TestResult::n_tokens() const {
  switch (spec.kind) {
    case TestSpec::Kind::kImage:
      return n_image_tokens;
    case TestSpec::Kind::kFirstToken:
    case TestSpec::Kind::kEndToEnd:
      return n_prompt + n_gen - 1;
    case TestSpec::Kind::kText:
      break;
  }
  return spec.n_parallel * (n_prompt + n_gen);
}

std::vector<double> TestResult::samples_ns() const {
  std::vector<double> ns;
  for (const Timeline& sample : samples) ns.push_back(sample.total_ns());
  return ns;
}

std::vector<double> TestResult::samples_ts() const {
  std::vector<double> ts = samples_ns();
  for (double& value : ts) value = value > 0 ? 1e9 * static_cast<double>(n_tokens()) / value : 0;
  return ts;
}

std::vector<ProfileRow> TestResult::profile_rows() const {
  if (!profile) return {};
  return summarize(profile->records, isa, roofline);
}

EngineOptions Runner::engine_options(int n_threads, ProfiledOps::Mode mode) const {
  EngineOptions options;
  options.n_threads = n_threads;
  options.batch = options_.batch;
  options.kv_element = options_.kv_element;
  options.image_limits = options_.image_limits;
  options.mode = mode;
  options.profile_text = options_.profile;
  options.progress = options_.progress;
  return options;
}

Result<Runner::Prepared> Runner::prepare(const TestSpec& test) {
  Prepared p;
  p.test = test;
  const TextConfig& text = model_->text();
  Xoshiro256 random(options_.seed);
  if (test.kind == TestSpec::Kind::kText) {
    p.depth_ids = random_ids(random, test.n_depth, text.vocab_size);
    p.prompt_ids = random_ids(random, test.n_prompt, text.vocab_size);
    p.gen_ids = random_ids(random, test.n_gen, text.vocab_size);
    p.context = test.n_depth + test.n_prompt + test.n_gen;
  }
  if (test.picture) {
    GLIMPSE_ASSIGN(p.picture, picture_bytes(*test.picture));
    auto image = decode_image(p.picture, {});
    if (!image.ok()) return with_context(image.error(), test.picture->text);
    p.image_width = image->width;
    p.image_height = image->height;
    GLIMPSE_ASSIGN(p.image, engine_->image_cost(p.image_width, p.image_height));
    p.turn.picture = p.picture;
  }
  if (test.kind == TestSpec::Kind::kFirstToken || test.kind == TestSpec::Kind::kEndToEnd) {
    GLIMPSE_ASSIGN(p.turn.text, text_of_tokens(model_->tokenizer(), test.n_text, options_.seed));
    p.turn.n_gen = test.n_gen;
    GLIMPSE_ASSIGN(p.n_prompt, engine_->prompt_length(p.turn, p.image ? &*p.image : nullptr));
    p.context = p.n_prompt + test.n_gen;
  }
  if (p.context > text.max_position_embeddings && text.max_position_embeddings > 0) {
    return make_error(ErrorCode::kContextFull, "%s needs %d positions; the model has %d", test_name(test), p.context,
                      text.max_position_embeddings);
  }
  return p;
}

// Memory, and the context that text tests start from.
Status Runner::set_up(Engine& engine, const Prepared& input) {
  GLIMPSE_TRY(engine.make_decoder(input.context, input.test.n_parallel));
  GLIMPSE_TRY(engine.make_encoder(input.image ? input.image->grid.n_patches() : 0));
  return engine.fill(input.depth_ids);
}

Status Runner::once(Engine& engine, const Prepared& input, Timeline& timeline) {
  if (input.test.kind == TestSpec::Kind::kText) engine.truncate(input.test.n_depth);
  timeline.start = Clock::now();
  switch (input.test.kind) {
    case TestSpec::Kind::kText:
      if (!input.prompt_ids.empty()) GLIMPSE_TRY(engine.run_prompt(input.prompt_ids, timeline));
      if (!input.gen_ids.empty()) GLIMPSE_TRY(engine.run_tokens(input.gen_ids, timeline));
      break;
    case TestSpec::Kind::kImage:
      GLIMPSE_TRY(engine.encode(input.picture, timeline));
      break;
    case TestSpec::Kind::kFirstToken:
    case TestSpec::Kind::kEndToEnd:
      GLIMPSE_TRY(engine.run_turn(input.turn, timeline));
      break;
  }
  timeline.end = Clock::now();
  return {};
}

// As llama-bench does it: the whole prompt, one token; and a whole picture or turn, without the answer.
Status Runner::warm_up(Engine& engine, const Prepared& input) {
  Prepared less = input;
  less.turn.picture = less.picture;  // the copy's own bytes
  less.turn.n_gen = std::min<int64_t>(less.turn.n_gen, 2);
  if (less.gen_ids.size() > 1) less.gen_ids.erase(less.gen_ids.begin() + 1, less.gen_ids.end());
  Timeline ignored;
  GLIMPSE_TRY(once(engine, less, ignored));
  // A GPU records its steps for so many positions; those of the last token are recorded before the clock runs, too.
  if (model_->device() != DeviceKind::kCuda || input.gen_ids.size() < 3) return {};
  GLIMPSE_TRY(engine.fill(std::span(input.gen_ids).subspan(2)));
  return engine.run_tokens(less.gen_ids, ignored);
}

// The same repetition on operations that only say what they would do.
Result<Cost> Runner::count(const Prepared& input, int n_threads, const Roofline& roofline) {
  GLIMPSE_ASSIGN(const std::unique_ptr<Engine> counter,
                 Engine::create(model_, engine_options(n_threads, ProfiledOps::Mode::kCount)));
  GLIMPSE_TRY(set_up(*counter, input));
  GLIMPSE_ASSIGN(const Isa isa, selected_isa());
  std::vector<OpRecord> records;
  counter->record_to(&records);
  Timeline ignored;
  GLIMPSE_TRY(once(*counter, input, ignored));
  Cost cost;
  for (const OpRecord& record : records) cost += cost_of(record, isa, roofline);
  return cost;
}

Result<TestResult> Runner::run(const TestSpec& test, int n_threads) {
  if (!engine_ || engine_threads_ != n_threads) {
    engine_.reset();
    GLIMPSE_ASSIGN(engine_, Engine::create(model_, engine_options(n_threads, ProfiledOps::Mode::kExecute)));
    engine_threads_ = n_threads;
  }
  GLIMPSE_ASSIGN(Prepared input, prepare(test));
  input.turn.picture = input.picture;
  TestResult result;
  result.spec = test;
  result.name = test_name(test);
  result.n_threads = n_threads;
  GLIMPSE_ASSIGN(result.isa, selected_isa());
  const bool text = test.kind == TestSpec::Kind::kText;
  result.n_prompt = text ? test.n_prompt : input.n_prompt;
  result.n_gen = test.n_gen;
  if (input.image) result.n_image_tokens = input.image->n_tokens;
  result.image_width = input.image_width;
  result.image_height = input.image_height;

  if (model_->device() == DeviceKind::kCuda) {
    result.gpu = engine_->describe();
    if (result.gpu.starts_with("cuda ")) result.gpu.erase(0, 5);
  }
  if (options_.roofline && result.gpu.empty()) {
    GLIMPSE_ASSIGN(result.roofline, measure_roofline(result.isa, n_threads, options_.probe));
  } else if (options_.roofline) {  // a GPU too full for the probe has none; the test is worth its time all the same
    Result<Roofline> measured = options_.gpu_roofline();
    if (measured.ok()) {
      result.roofline = std::move(measured).value();
    } else {
      result.no_roofline = measured.error().message;
    }
  }
  // Counting allocates what the test will: not beside what the test before it left.
  GLIMPSE_TRY(engine_->make_decoder(0));
  GLIMPSE_TRY(engine_->make_encoder(0));
  GLIMPSE_ASSIGN(result.cost, count(input, n_threads, result.roofline));
  reset_peak_resident();
  GLIMPSE_TRY(set_up(*engine_, input));
  if (options_.warm_up) GLIMPSE_TRY(warm_up(*engine_, input));
  result.test_time = utc_now();
  for (int i = 0; i < options_.repetitions; ++i) {
    Timeline sample;
    GLIMPSE_TRY(once(*engine_, input, sample));
    result.samples.push_back(std::move(sample));
  }
  result.peak_rss = peak_resident_bytes();
  if (options_.profile) {
    Profile profile;
    engine_->record_to(&profile.records);
    const Status done = once(*engine_, input, profile.timeline);
    engine_->record_to(nullptr);
    GLIMPSE_TRY(done);
    result.profile = std::move(profile);
  }
  return result;
}

}  // namespace glimpse::bench
