// Pictures of requests to embeddings: each content once, several small ones in one pass of the vision encoder.
#include <algorithm>
#include <utility>

#include "engine/serve/engine_impl.h"
#include "loaders/image/source.h"

namespace glimpse {
namespace {

Sha256Digest digest_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.digest();
}

// What digests begin with, those of whole pictures with their number of slices.
constexpr uint64_t kVideo = ~uint64_t{0}, kSomeCells = ~uint64_t{1};

// What the embedding is a function of, and the original size that it tells of.
Sha256Digest content_of(const PreparedPicture& picture, std::string_view encoder) {
  Sha256 hash;
  const std::vector<int32_t>& cells = picture.patches.cells;
  if (!cells.empty()) {
    hash.add(kSomeCells);
    hash.add(static_cast<uint64_t>(cells.size()));
    hash.add(std::as_bytes(std::span(cells)));
  }
  for (const int64_t n : {picture.patches.grid.t, picture.patches.grid.h, picture.patches.grid.w,
                          picture.patches.row_length, picture.original.width, picture.original.height}) {
    hash.add(static_cast<uint64_t>(n));
  }
  hash.add(static_cast<uint64_t>(encoder.size()));
  hash.add(std::as_bytes(std::span(encoder.data(), encoder.size())));
  hash.add(static_cast<uint64_t>(picture.patches.bytes.size()));
  hash.add(std::as_bytes(std::span(picture.patches.bytes)));
  hash.add(std::as_bytes(std::span(picture.patches.values)));
  return hash.digest();
}

// Of an embedding that the caller brought.
Sha256Digest content_of(const ImageEmbedding& embedding) {
  Sha256 hash;
  for (const int64_t n : {embedding.grid.t, embedding.grid.h, embedding.grid.w, embedding.merge_size}) {
    hash.add(static_cast<uint64_t>(n));
  }
  hash.add(uint64_t{embedding.is_video});
  hash.add(static_cast<uint64_t>(embedding.cells.size()));
  hash.add(std::as_bytes(std::span(embedding.cells)));
  hash.add(std::as_bytes(std::span(&embedding.slice_step, 1)));  // its rows' positions depend on it
  hash.add(std::as_bytes(std::span(embedding.values)));
  return hash.digest();
}

// Of frames: what their embedding is a function of.
Sha256Digest content_of(const RequestVideo& video, std::string_view encoder) {
  Sha256 hash;
  hash.add(kVideo);
  hash.add(static_cast<uint64_t>(encoder.size()));
  hash.add(std::as_bytes(std::span(encoder)));
  hash.add(std::as_bytes(std::span(&video.fps, 1)));
  hash.add(static_cast<uint64_t>(video.seconds.size()));
  hash.add(std::as_bytes(std::span(video.seconds)));
  for (const int64_t n : {video.limits.min_pixels, video.limits.max_pixels, video.limits.max_tokens}) {
    hash.add(static_cast<uint64_t>(n));
  }
  for (const Image& frame : video.frames) {
    hash.add(static_cast<uint64_t>(frame.width));
    hash.add(static_cast<uint64_t>(frame.height));
    hash.add(std::as_bytes(std::span(frame.pixels)));
  }
  return hash.digest();
}

bool is_video(const JobPicture& picture) {
  return picture.source != nullptr && picture.source->video != nullptr;
}

// Of a pass that it shares with others; a video shares none.
int64_t n_rows_of(const JobPicture& picture) {
  return is_video(picture) ? 0 : picture.prepared->patches.n_rows();
}

Error about_picture(const Job& job, const JobPicture& picture, Error error) {
  return with_context(std::move(error), format("picture %d", &picture - job.pictures.data() + 1));
}

}  // namespace

VideoFrames video_frames(const RequestVideo& video) {
  VideoFrames frames;
  frames.n_frames = static_cast<int64_t>(video.frames.size());
  frames.open = [&video](int64_t index) -> Result<std::unique_ptr<ImageReader>> {
    const Image& image = video.frames[static_cast<size_t>(index)];
    return read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width));
  };
  frames.fps = video.fps;
  frames.seconds = video.seconds;
  frames.limits = video.limits;
  return frames;
}

void Engine::Impl::found_picture(Job& job, JobPicture& picture, std::shared_ptr<const ImageEmbedding> embedding) {
  picture.embedding = std::move(embedding);
  picture.prepared.reset();
  picture.source.reset();
  ++job.result.n_cached_images;
  const std::lock_guard lock(mutex);
  ++counted.n_images;
  ++counted.n_cached_images;
}

// Another request that is under way has it.
bool Engine::Impl::share_picture(Job& job, JobPicture& picture) {
  for (const auto& other : running) {
    for (const JobPicture& theirs : other->pictures) {
      if (theirs.embedding == nullptr || theirs.content != picture.content) continue;
      found_picture(job, picture, theirs.embedding);
      return true;
    }
  }
  return false;
}

// Looked at and named; encode_group() reads its frames.
Status Engine::Impl::open_video(JobPicture& picture) {
  if (bench->encoder == nullptr) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see videos");
  }
  const RequestVideo& video = *picture.source->video;
  for (const Image& frame : video.frames) GLIMPSE_TRY(check_pixels(frame));
  picture.content = content_of(video, encoder_name);
  return {};
}

// Reads, resizes and cuts it, unless the bytes of its file are known.
Status Engine::Impl::open_picture(Job& job, JobPicture& picture) {
  if (bench->encoder == nullptr) {
    return make_error(ErrorCode::kMismatch, "the model was loaded without an mmproj file: it cannot see pictures");
  }
  DecodeOptions decode = bench->encoder->decode_options([&](std::string_view, double) { return !job.over(); });
  const RequestImage& source = *picture.source;
  std::vector<std::byte> file;
  std::span<const std::byte> bytes = std::as_bytes(std::span(source.bytes));
  if (!source.path.empty()) {
    GLIMPSE_ASSIGN(file, read_picture_file(source.path, decode));
    decode.limits.max_memory -= std::min<uint64_t>(decode.limits.max_memory, file.size());
    bytes = file;
  }
  std::unique_ptr<ImageReader> reader;
  if (source.path.empty() && source.bytes.empty()) {
    const Image& image = source.pixels;
    GLIMPSE_TRY(check_pixels(image));
    reader = read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width));
  } else {
    if (!embeddings->is_off()) {
      picture.name = digest_of(bytes);
      Sha256Digest content;
      if (auto found = embeddings->find(*picture.name, &content)) {
        picture.content = content;
        found_picture(job, picture, std::move(found));
        return {};
      }
    }
    auto opened = open_image(bytes, decode);
    if (!opened.ok()) {
      return source.path.empty() ? std::move(opened).error() : with_context(std::move(opened).error(), source.path);
    }
    reader = std::move(opened).value();
  }
  const auto fits = [&](int64_t n_tokens) -> Status {
    if (n_tokens <= context) return {};
    return make_error(ErrorCode::kContextFull, "it needs %d tokens; the context holds %d", n_tokens, context);
  };
  GLIMPSE_ASSIGN(picture.prepared, bench->encoder->prepare(*reader, fits));
  picture.content = content_of(*picture.prepared, encoder_name);
  const double resize_ms = picture.prepared->resize_ms + picture.prepared->patches_ms;
  job.spent.image_decode += picture.prepared->decode_ms;
  job.spent.image_resize += resize_ms;
  const std::lock_guard lock(mutex);
  counted.image_seconds += (picture.prepared->decode_ms + resize_ms) / 1000;
  return {};
}

// The embedding, where it is to be had; otherwise what the encoder takes.
Status Engine::Impl::get_picture(Job& job, JobPicture& picture) {
  if (picture.source != nullptr && picture.source->embedding != nullptr) {
    picture.embedding = picture.source->embedding;
    if (prefixes != nullptr) picture.content = content_of(*picture.embedding);
    picture.source.reset();
    return {};
  }
  if (is_video(picture)) {
    if (!picture.content) GLIMPSE_TRY(open_video(picture));
  } else if (!picture.prepared) {
    GLIMPSE_TRY(open_picture(job, picture));
    if (picture.embedding != nullptr) return {};
  }
  auto known = embeddings->find(*picture.content, nullptr);
  if (known == nullptr) known = embeddings->load(*picture.content);
  if (known != nullptr) {
    if (picture.name) embeddings->add_name(*picture.content, *picture.name);
    found_picture(job, picture, std::move(known));
    return {};
  }
  share_picture(job, picture);
  return {};
}

// The job's pictures that are not to be had otherwise join the group. False: the pass is full.
bool Engine::Impl::gather(Job& job, PictureGroup& group, Status& status) {
  for (JobPicture& picture : job.pictures) {
    if (picture.embedding != nullptr) continue;
    status = told_of([&] { return get_picture(job, picture); });
    if (!status.ok()) {
      status = about_picture(job, picture, std::move(status).error());
      return true;
    }
    const auto alike = [&](const auto& other) { return other.second->content == picture.content; };
    if (picture.embedding != nullptr || std::any_of(group.members.begin(), group.members.end(), alike)) continue;
    const int64_t n = n_rows_of(picture);
    const bool apart = picture.alone || group.alone || is_video(picture);
    if (!group.members.empty() && (apart || group.n_patches + n > bench->encoder->sizes().max_image_patches)) {
      return false;
    }
    group.members.emplace_back(&job, &picture);
    group.n_patches += n;
    group.alone = picture.alone || is_video(picture);
  }
  return true;
}

// The pictures that go through the encoder next, as many as fit into one pass of it. False: none wait.
bool Engine::Impl::encode_pictures() {
  PictureGroup group;
  bool waited = false;
  for (const auto& job : std::vector<std::shared_ptr<Job>>(running)) {
    if (job->stage != Job::Stage::kPictures || job->sees_all()) continue;
    waited = true;
    Status status;
    if (!gather(*job, group, status)) break;
    if (status.ok()) continue;
    std::erase_if(group.members, [&](const auto& member) {
      if (member.first != job.get()) return false;
      group.n_patches -= n_rows_of(*member.second);
      return true;
    });
    finish(*job, std::move(status));
  }
  if (group.members.empty()) return waited;
  const Status encoded = told_of([&] { return encode_group(group); });
  if (encoded.ok()) return true;
  for (const auto& [job, picture] : group.members) {
    if (job->over()) continue;  // drop_ended() tells
    if (group.members.size() == 1) {
      finish(*job, about_picture(*job, *picture, encoded.error()));
      break;
    }
    picture->alone = true;  // it is known then whose error it is
    picture->prepared.reset();
  }
  return true;
}

Result<ImageEmbedding> Engine::Impl::encode_video(const RequestVideo& video, const ProgressSink& progress) {
  const VideoFrames frames = video_frames(video);
  const auto fits = [&](const ImageCost& cost) -> Status {
    if (cost.n_tokens <= context) return {};
    return make_error(ErrorCode::kContextFull,
                      "the video's %d frames of %d x %d pixels need %d tokens; the context holds %d", frames.n_frames,
                      cost.resized.width, cost.resized.height, cost.n_tokens, context);
  };
  return bench->encoder->encode_video(frames, fits, nullptr, progress);
}

Status Engine::Impl::encode_group(const PictureGroup& group) {
  const ProgressSink wanted = [&](std::string_view, double) {
    return std::any_of(group.members.begin(), group.members.end(),
                       [](const auto& member) { return !member.first->over(); });
  };
  const EngineClock::time_point start = EngineClock::now();
  std::vector<ImageEmbedding> encoded;
  if (is_video(*group.members[0].second)) {
    GLIMPSE_ASSIGN(ImageEmbedding one, encode_video(*group.members[0].second->source->video, wanted));
    encoded.push_back(std::move(one));
  } else {
    std::vector<PreparedPicture> pictures;
    for (const auto& [job, picture] : group.members) {
      pictures.push_back(std::move(*picture->prepared));
      picture->prepared.reset();
    }
    GLIMPSE_ASSIGN(encoded, bench->encoder->encode(std::move(pictures), wanted));
  }
  const double ms = engine_ms_since(start);
  int64_t n_tokens = 0;
  for (const ImageEmbedding& one : encoded) n_tokens += one.n_tokens;
  for (size_t i = 0; i < group.members.size(); ++i) {
    const auto& [job, picture] = group.members[i];
    const double share = static_cast<double>(encoded[i].n_tokens) / static_cast<double>(n_tokens);
    auto embedding = std::make_shared<const ImageEmbedding>(std::move(encoded[i]));
    embeddings->add(*picture->content, embedding);
    if (picture->name) embeddings->add_name(*picture->content, *picture->name);
    picture->source.reset();
    job->spent.image_encode += ms * share;
    const std::lock_guard lock(mutex);
    ++counted.n_images;
    counted.n_image_tokens += static_cast<uint64_t>(embedding->n_tokens);
    picture->embedding = std::move(embedding);
  }
  const std::lock_guard lock(mutex);
  counted.image_seconds += ms / 1000;
  return {};
}

}  // namespace glimpse
