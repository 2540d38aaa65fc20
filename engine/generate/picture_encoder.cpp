#include "engine/generate/picture_encoder.h"

#include <cstdint>

#include "engine/base/aligned_buffer.h"
#include "engine/base/cpu_features.h"
#include "engine/preprocess/repeated_cells.h"

namespace glimpse {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

Status check_pixels(const Image& image) {
  if (image.width >= 1 && image.height >= 1 &&
      image.pixels.size() == 3 * static_cast<size_t>(image.width) * static_cast<size_t>(image.height)) {
    return {};
  }
  return make_error(ErrorCode::kInvalidArgument, "a picture of %d x %d pixels with %d bytes: want 3 per pixel",
                    image.width, image.height, image.pixels.size());
}

Result<PreparedPicture> prepare_picture(ImageReader& picture, const ImageCost& cost, const PatchConfig& config,
                                        ThreadTeam* team, PatchForm form) {
  PreparedPicture out;
  out.original = {picture.info().upright_width(), picture.info().upright_height()};
  Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(const Image resized, read_resized(picture, cost.resized, team, &out.resize_ms));
  out.decode_ms = ms_since(start) - out.resize_ms;
  start = Clock::now();
  GLIMPSE_ASSIGN(out.patches, extract_patches(resized, config, team, form));
  out.patches_ms = ms_since(start);
  return out;
}

Result<PreparedPicture> prepare_picture(const Image& image, const ImageCost& cost, const PatchConfig& config,
                                        ThreadTeam* team, PatchForm form) {
  GLIMPSE_TRY(check_pixels(image));
  const auto reader =
      read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width));
  return prepare_picture(*reader, cost, config, team, form);
}

namespace {

// Says which of several pictures an error is about: who gave one knows.
Error about_pictures(Error error, size_t first, size_t n, size_t n_all) {
  if (n_all == 1) return error;
  error.message = n == 1 ? format("picture %d of %d: %s", first + 1, n_all, error.message)
                         : format("pictures %d to %d of %d: %s", first + 1, first + n, n_all, error.message);
  return error;
}

// That reading and resizing the picture stays within the limit, and within what the machine has.
Status check_reading(const ImageInfo& info, ImageSize resized, const ImageLimits& limits) {
  const uint64_t needed = info.memory + read_resized_bytes(info, resized);
  const auto mib = [](uint64_t n) { return static_cast<double>(n) / (1 << 20); };
  if (needed > limits.max_memory) {
    return make_error(ErrorCode::kTooLarge,
                      "reading a picture of %d x %d pixels takes %.1f MiB of memory; the limit is %.1f MiB", info.width,
                      info.height, mib(needed), mib(limits.max_memory));
  }
  if (const uint64_t available = available_memory_bytes(); needed > available) {
    return make_error(ErrorCode::kOutOfMemory, "reading the picture takes %.1f MiB of memory, %.1f MiB are available",
                      mib(needed), mib(available));
  }
  return {};
}

void add_times(const PreparedPicture& picture, PictureEncoder::Times& sum) {
  sum.decode += picture.decode_ms;
  sum.resize += picture.resize_ms + picture.patches_ms;
}

// Where they are to be left out.
void leave_out(const PictureSizes& sizes, const PatchConfig& config, PreparedPicture& prepared) {
  if (!sizes.dedup_patches) return;
  const Clock::time_point start = Clock::now();
  leave_out_repeated_cells(prepared.patches, config.merge_size);
  prepared.patches_ms += ms_since(start);
}

int64_t n_tokens_of(const PreparedPicture& prepared, const PatchConfig& config) {
  return prepared.patches.n_rows() / (config.merge_size * config.merge_size);
}

struct EncoderSetup {
  PictureSizes sizes;
  std::unique_ptr<Ops> ops;
  MemoryPlan plan;
};

Result<EncoderSetup> set_up(const Model& model, const EncoderOptions& options) {
  if (!model.has_vision()) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see pictures");
  }
  if (options.n_threads < 0 || options.n_threads > 1024) {
    return make_error(ErrorCode::kInvalidArgument, "n_threads is %d: it must be in [0, 1024]", options.n_threads);
  }
  EncoderSetup setup;
  GLIMPSE_ASSIGN(setup.sizes, picture_sizes(options, &model.vision(), INT64_MAX));
  GLIMPSE_ASSIGN(setup.ops, model.make_ops(options.n_threads > 0 ? options.n_threads : available_cpus(), options.log));
  setup.plan.weights = model.weight_bytes();
  add_pictures(model, *setup.ops, setup.sizes, setup.plan);
  return setup;
}

}  // namespace

Result<int64_t> count_image_tokens(ImageReader& picture, const VisionConfig& vision, const PictureSizes& sizes) {
  const ImageInfo& info = picture.info();
  GLIMPSE_ASSIGN(const ImageCost cost,
                 effective_image_size(info.upright_width(), info.upright_height(), vision, sizes.image_limits));
  if (!sizes.dedup_patches) return int64_t{cost.n_tokens};
  GLIMPSE_TRY(check_reading(info, cost.resized, sizes.source_limits));
  GLIMPSE_ASSIGN(PreparedPicture prepared, prepare_picture(picture, cost, vision.patch, nullptr, PatchForm::kBytes));
  leave_out(sizes, vision.patch, prepared);
  return n_tokens_of(prepared, vision.patch);
}

Result<MemoryPlan> plan_encoder(const Model& model, const EncoderOptions& options) {
  GLIMPSE_ASSIGN(const EncoderSetup setup, set_up(model, options));
  return MemoryPlan(setup.plan);
}

Result<std::unique_ptr<PictureEncoder>> PictureEncoder::create(std::shared_ptr<const Model> model, Ops& ops,
                                                               const PictureSizes& sizes) {
  GLIMPSE_ASSIGN(auto vision, VisionEncoder::create(model, ops, sizes.max_image_patches));
  return std::unique_ptr<PictureEncoder>(new PictureEncoder(std::move(model), ops, sizes, std::move(vision)));
}

Result<std::unique_ptr<PictureEncoder>> PictureEncoder::create(std::shared_ptr<const Model> model,
                                                               const EncoderOptions& options) {
  GLIMPSE_ASSIGN(EncoderSetup setup, set_up(*model, options));
  GLIMPSE_TRY(check_available(setup.plan, *setup.ops, "the encoder", "a smaller image_max_tokens"));
  auto encoder = create(std::move(model), *setup.ops, setup.sizes);
  if (!encoder.ok()) return explain(std::move(encoder).error(), setup.plan);
  encoder.value()->own_ops_ = std::move(setup.ops);
  encoder.value()->cancel_ = options.cancel;
  log(options.log, LogLevel::kInfo,
      format("encoder: pictures of up to %d tokens, %s; %s", setup.sizes.max_image_tokens,
             encoder.value()->ops_.describe(), describe(setup.plan)));
  return encoder;
}

// The host's callback and its cancel flag as one.
ProgressSink PictureEncoder::watched(const ProgressSink& progress) const {
  if (cancel_ == nullptr) return progress;
  return [flag = cancel_, progress](std::string_view stage, double fraction) {
    return __atomic_load_n(flag, __ATOMIC_RELAXED) == 0 && (!progress || progress(stage, fraction));
  };
}

DecodeOptions PictureEncoder::decode_options(const ProgressSink& progress) const {
  DecodeOptions options;
  options.limits = sizes_.source_limits;
  options.progress = watched(progress);
  return options;
}

Result<ImageCost> PictureEncoder::cost(int64_t width, int64_t height) const {
  return effective_image_size(width, height, model_->vision(), sizes_.image_limits);
}

Result<ImageEmbedding> PictureEncoder::encode(ImageReader& picture, Times* times, const ProgressSink& progress) {
  return encode(
      picture, [](int64_t) { return Status(); }, times, progress);
}

Result<ImageEmbedding> PictureEncoder::encode(ImageReader& picture, Fits fits, Times* times,
                                              const ProgressSink& progress) {
  std::vector<PreparedPicture> prepared(1);
  GLIMPSE_ASSIGN(prepared[0], prepare(picture, fits));
  Times sum;
  add_times(prepared[0], sum);
  const Clock::time_point start = Clock::now();
  GLIMPSE_ASSIGN(std::vector<ImageEmbedding> one, encode(std::move(prepared), watched(progress)));
  sum.encode = ms_since(start);
  if (times != nullptr) *times = sum;
  return std::move(one[0]);
}

Result<std::vector<ImageEmbedding>> PictureEncoder::encode(std::span<ImageReader* const> pictures, Times* times,
                                                           const ProgressSink& progress) {
  std::vector<ImageCost> costs;
  int64_t n_patches = 0;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const ImageInfo& info = pictures[i]->info();
    Result<ImageCost> one = cost(info.upright_width(), info.upright_height());
    if (!one.ok()) return about_pictures(std::move(one).error(), i, 1, pictures.size());
    Status readable = check_reading(info, one.value().resized, sizes_.source_limits);
    if (!readable.ok()) return about_pictures(std::move(readable).error(), i, 1, pictures.size());
    costs.push_back(one.value());
    n_patches += costs.back().grid.n_patches();
  }
  Times sum;
  std::vector<ImageEmbedding> embeddings;
  const ProgressSink watch = watched(progress);
  int64_t n_done = 0;
  for (size_t first = 0, end = 0; first < pictures.size(); first = end) {
    int64_t n_here = 0;
    do {
      n_here += costs[end++].grid.n_patches();
    } while (end < pictures.size() && n_here + costs[end].grid.n_patches() <= sizes_.max_image_patches);
    ProgressSink share;
    if (watch) {
      share = [&](std::string_view stage, double fraction) {
        const double before = static_cast<double>(n_done) / static_cast<double>(n_patches);
        return watch(stage, before + fraction * static_cast<double>(n_here) / static_cast<double>(n_patches));
      };
    }
    GLIMPSE_TRY(encode_group(pictures, costs, first, end - first, sum, share, embeddings));
    n_done += n_here;
  }
  if (times != nullptr) *times = sum;
  return embeddings;
}

Result<PreparedPicture> PictureEncoder::prepare(ImageReader& picture, Fits fits) const {
  const ImageInfo& info = picture.info();
  GLIMPSE_ASSIGN(const ImageCost one, cost(info.upright_width(), info.upright_height()));
  if (!sizes_.dedup_patches) GLIMPSE_TRY(fits(one.n_tokens));
  GLIMPSE_TRY(check_reading(info, one.resized, sizes_.source_limits));
  GLIMPSE_ASSIGN(PreparedPicture prepared, prepare(picture, one));
  if (sizes_.dedup_patches) GLIMPSE_TRY(fits(n_tokens_of(prepared, model_->vision().patch)));
  return prepared;
}

Result<PreparedPicture> PictureEncoder::prepare(ImageReader& picture, const ImageCost& cost) const {
  const PatchConfig& config = model_->vision().patch;
  GLIMPSE_ASSIGN(PreparedPicture prepared, prepare_picture(picture, cost, config, ops_.team(), vision_->patch_form()));
  leave_out(sizes_, config, prepared);
  return prepared;
}

Result<std::vector<ImageEmbedding>> PictureEncoder::encode(std::vector<PreparedPicture> pictures,
                                                           const ProgressSink& progress) {
  std::vector<Patches> patches;
  for (PreparedPicture& picture : pictures) patches.push_back(std::move(picture.patches));
  GLIMPSE_ASSIGN(std::vector<ImageEmbedding> embeddings, vision_->encode(patches, {}, progress));
  for (size_t i = 0; i < pictures.size(); ++i) embeddings[i].original = pictures[i].original;
  return embeddings;
}

// Those that go through together.
Status PictureEncoder::encode_group(std::span<ImageReader* const> pictures, std::span<const ImageCost> costs,
                                    size_t first, size_t n, Times& sum, const ProgressSink& progress,
                                    std::vector<ImageEmbedding>& out) {
  std::vector<PreparedPicture> prepared;
  for (size_t i = first; i < first + n; ++i) {
    auto read = prepare(*pictures[i], costs[i]);
    if (!read.ok()) return about_pictures(std::move(read).error(), i, 1, pictures.size());
    prepared.push_back(std::move(read).value());
    add_times(prepared.back(), sum);
  }
  const Clock::time_point start = Clock::now();
  auto encoded = encode(std::move(prepared), progress);
  if (!encoded.ok()) return about_pictures(std::move(encoded).error(), first, n, pictures.size());
  sum.encode += ms_since(start);
  for (ImageEmbedding& embedding : encoded.value()) out.push_back(std::move(embedding));
  return {};
}

// Frames [begin, end). first: a reader of the first of them, where it was opened before.
Status PictureEncoder::read_frames(const VideoFrames& video, const ImageCost& cost, int64_t begin, int64_t end,
                                   std::unique_ptr<ImageReader> first, ImageSize& original, Times& sum,
                                   std::vector<Patches>& out) {
  const auto about_frame = [&](Error error, int64_t i) {
    error.message = format("frame %d of %d: %s", i + 1, video.n_frames, error.message);
    return error;
  };
  for (int64_t i = begin; i < end; ++i) {
    std::unique_ptr<ImageReader> reader = std::move(first);
    if (reader == nullptr) {
      auto opened = video.open(i);
      if (!opened.ok()) return about_frame(std::move(opened).error(), i);
      reader = std::move(opened).value();
    }
    const ImageInfo& info = reader->info();
    if (info.upright_width() != original.width || info.upright_height() != original.height) {
      return about_frame(make_error(ErrorCode::kInvalidArgument, "it has %d x %d pixels, the first has %d x %d",
                                    info.upright_width(), info.upright_height(), original.width, original.height),
                         i);
    }
    Status readable = check_reading(info, cost.resized, sizes_.source_limits);
    if (!readable.ok()) return about_frame(std::move(readable).error(), i);
    auto read = prepare_picture(*reader, cost, model_->vision().patch, ops_.team(), vision_->patch_form());
    if (!read.ok()) return about_frame(std::move(read).error(), i);
    add_times(read.value(), sum);
    out.push_back(std::move(read).value().patches);
  }
  return {};
}

Result<ImageEmbedding> PictureEncoder::encode_video(const VideoFrames& video,
                                                    FunctionRef<Status(const ImageCost& cost)> fits, Times* times,
                                                    const ProgressSink& progress) {
  GLIMPSE_TRY(check_frames(video));
  auto first = video.open(0);
  if (!first.ok()) return first.error();
  ImageSize original = {first.value()->info().upright_width(), first.value()->info().upright_height()};
  GLIMPSE_ASSIGN(const ImageCost cost, video_cost(original.width, original.height, video.n_frames, model_->vision(),
                                                  video.limits, sizes_.max_image_tokens));
  GLIMPSE_TRY(fits(cost));
  // Patches of both frames of a slice are held, no more than those of the largest picture unless one slice has them.
  const int64_t slice_patches = cost.grid.h * cost.grid.w;
  const int64_t frames_at_once = 2 * std::max<int64_t>(1, sizes_.max_image_patches / (2 * slice_patches));
  const ProgressSink watch = watched(progress);
  Times sum;
  ImageEmbedding embedding;
  for (int64_t begin = 0; begin < video.n_frames; begin += frames_at_once) {
    const int64_t end = std::min(begin + frames_at_once, video.n_frames);
    std::vector<Patches> frames;
    GLIMPSE_TRY(read_frames(video, cost, begin, end, std::move(first).value(), original, sum, frames));
    ProgressSink share;
    if (watch) {
      share = [&](std::string_view stage, double fraction) {
        const double done = static_cast<double>(begin) + fraction * static_cast<double>(end - begin);
        return watch(stage, done / static_cast<double>(video.n_frames));
      };
    }
    const Clock::time_point start = Clock::now();
    GLIMPSE_ASSIGN(ImageEmbedding part, vision_->encode_video(frames, {}, share));
    sum.encode += ms_since(start);
    if (begin == 0) {
      embedding = std::move(part);
      embedding.values.reserve(static_cast<size_t>(cost.n_tokens * embedding.width));
    } else {
      embedding.values.insert(embedding.values.end(), part.values.begin(), part.values.end());
    }
  }
  embedding.grid.t = cost.grid.t;
  embedding.n_tokens = cost.n_tokens;
  embedding.original = original;
  set_times(video, model_->vision().family(), embedding);
  if (times != nullptr) *times = sum;
  return embedding;
}

}  // namespace glimpse
