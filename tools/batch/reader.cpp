#include "tools/batch/reader.h"

#include <chrono>
#include <exception>
#include <new>

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "tools/batch/data_url.h"
#include "tools/batch/pdf.h"
#include "tools/prompt/picture_names.h"
#include "tools/prompt/prompt.h"
#include "tools/video/request_video.h"

namespace glimpse::batch {
namespace {

constexpr size_t kMaxPictures = 256;                      // of a row
constexpr uint64_t kMaxFrameBytes = uint64_t{512} << 20;  // of a video; several are read ahead

void add_text(Hash64& hash, std::string_view text) {
  hash.add(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

uint64_t key_of(const Row& row) {
  Hash64 hash;
  hash.add(row.pictures.size());
  for (const Picture& picture : row.pictures) {
    add_text(hash, picture.path);
    hash.add(static_cast<uint64_t>(picture.page));
    if (picture.is_video) hash.add(~uint64_t{0});
  }
  for (const auto& text : {row.prompt, row.system}) {
    hash.add(text ? 1u : 0u);
    add_text(hash, text.value_or(""));
  }
  add_text(hash, row.id);
  add_text(hash, row.problem);
  return hash.value();
}

RowReader::RowReader(RowSource& rows, StopSignal& stop, const std::vector<OutputFile::Finished>& finished,
                     const Settings& settings)
    : rows_(rows), stop_(stop), finished_(finished), settings_(settings), thread_([this] { read(); }) {}

RowReader::~RowReader() {
  {
    const std::lock_guard lock(mutex_);
    stop_.raise();
  }
  changed_.notify_all();
  thread_.join();
}

std::optional<PreparedRow> RowReader::take() {
  std::optional<PreparedRow> row;
  {
    const std::lock_guard lock(mutex_);
    if (ready_.empty()) return row;
    row = std::move(ready_.front());
    ready_.pop_front();
  }
  changed_.notify_all();
  return row;
}

void RowReader::wait() {
  std::unique_lock lock(mutex_);
  // A signal wakes nobody: it is looked for a few times a second.
  changed_.wait_for(lock, std::chrono::milliseconds(100), [this] { return !ready_.empty() || ended_; });
}

bool RowReader::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_ && ready_.empty();
}

Status RowReader::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void RowReader::read() {
  Status status;
  const size_t most = 2 * static_cast<size_t>(settings_.n_parallel);
  try {
    for (;;) {
      std::optional<PreparedRow> prepared;
      const Result<bool> more = read_row(prepared);
      if (!more.ok()) status = more.error();
      if (!more.ok() || !more.value() || stop_.raised()) break;
      if (!prepared) continue;
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return ready_.size() < most || stop_.raised(); });
      if (stop_.raised()) break;
      ready_.push_back(std::move(*prepared));
      lock.unlock();
      changed_.notify_all();
    }
  } catch (const std::exception& error) {
    status = make_error(ErrorCode::kOutOfMemory, "reading rows: %s", error.what());
  }
  {
    const std::lock_guard lock(mutex_);
    status_ = std::move(status);
    ended_ = true;
  }
  changed_.notify_all();
}

Result<bool> RowReader::read_row(std::optional<PreparedRow>& prepared) {
  Row row;
  GLIMPSE_ASSIGN(const bool more, rows_.next(row));
  if (!more) return false;
  row.index = n_read_.fetch_add(1, std::memory_order_relaxed);
  fraction_ = rows_.fraction();
  if (next_finished_ < finished_.size() && finished_[next_finished_].index == row.index) {
    if (finished_[next_finished_].key != key_of(row)) {
      return make_error(ErrorCode::kMismatch,
                        "row %d of the input is not the one that an earlier run finished: the input has changed (what "
                        "comes behind the old rows may), begin anew with --force",
                        row.index);
    }
    ++next_finished_;
    return true;
  }
  prepared = prepare(std::move(row));
  return true;
}

PreparedRow RowReader::prepare(Row row) const {
  PreparedRow prepared;
  prepared.key = key_of(row);
  prepared.outcome.index = row.index;
  prepared.unused = std::move(row.unused);
  prepared.outcome.id = std::move(row.id);
  for (const Picture& picture : row.pictures) prepared.outcome.names.push_back(picture.given);
  prepared.outcome.error = std::move(row.problem);
  if (!prepared.outcome.error.empty()) return prepared;
  Status status;
  try {
    status = load(row, prepared.messages);
  } catch (const std::bad_alloc&) {
    status = make_error(ErrorCode::kOutOfMemory, "there is no memory for the pictures of this row");
  }
  if (!status.ok()) {
    prepared.outcome.error = status.error().message;
    prepared.messages.clear();
  }
  return prepared;
}

Status RowReader::load(const Row& row, std::vector<RequestMessage>& messages) const {
  const std::string& prompt = row.prompt ? *row.prompt : settings_.prompt;
  const std::string& system = row.system ? *row.system : settings_.system;
  if (prompt.empty()) return make_error(ErrorCode::kInvalidArgument, "the row has no prompt, and there is no --prompt");
  std::vector<RequestPart> pictures, videos;
  for (const Picture& picture : row.pictures) {
    GLIMPSE_TRY(picture.is_video ? load_video(picture, videos) : load_picture(picture, pictures));
  }
  GLIMPSE_ASSIGN(const std::vector<prompt::Piece> pieces,
                 prompt::place_pictures(prompt, pictures.size(), false, videos.size()));
  if (!system.empty()) messages.push_back({"system", {{system, nullptr}}});
  RequestMessage user{"user", {}};
  auto picture = pictures.begin(), video = videos.begin();
  for (const prompt::Piece& piece : pieces) {
    if (piece.is_picture || piece.is_video) {
      user.parts.push_back(std::move(piece.is_picture ? *picture++ : *video++));
    } else {
      user.parts.push_back({piece.text, nullptr});
    }
  }
  messages.push_back(std::move(user));
  return {};
}

// A PDF file whose page is not named is all of its pages.
Status RowReader::load_picture(const Picture& picture, std::vector<RequestPart>& parts) const {
  Picture page = picture;
  int32_t last = page.page;
  if (page.page == 0 && !is_data_url(page.path) && prompt::is_pdf_name(page.path)) {
    page.page = 1;
    GLIMPSE_ASSIGN(last, pdf_pages(page.path));
  }
  for (; page.page <= last; ++page.page) {
    if (parts.size() == kMaxPictures) {
      return make_error(ErrorCode::kTooLarge, "the row has more than %d pictures", kMaxPictures);
    }
    auto image = std::make_shared<RequestImage>();
    GLIMPSE_ASSIGN(image->bytes, bytes_of(page));
    parts.push_back({"", std::move(image)});
  }
  return {};
}

Status RowReader::load_video(const Picture& picture, std::vector<RequestPart>& parts) const {
  if (parts.size() == kMaxPictures) {
    return make_error(ErrorCode::kTooLarge, "the row has more than %d pictures", kMaxPictures);
  }
  const auto fits = [](uint64_t n) -> Status {
    if (n <= kMaxFrameBytes) return {};
    return make_error(ErrorCode::kTooLarge,
                      "the frames that would be seen have %d bytes; at most %d are taken: fewer (--fps, --max-frames), "
                      "or smaller ones",
                      n, kMaxFrameBytes);
  };
  video::Options options;
  options.rate = settings_.frame_rate;
  const video::Seeing seeing{settings_.video, settings_.family, fits};
  auto video = std::make_shared<RequestVideo>();
  video->limits = settings_.video_limits;
  if (is_data_url(picture.path)) {
    GLIMPSE_ASSIGN(const std::string bytes, data_url_bytes(picture.path));
    GLIMPSE_ASSIGN(const video::MemoryFile file, video::MemoryFile::of(bytes));
    GLIMPSE_TRY(video::read_request_video(file.path(), options, seeing, *video));
  } else {
    GLIMPSE_TRY(video::read_request_video(picture.path, options, seeing, *video));
  }
  auto image = std::make_shared<RequestImage>();
  image->video = std::move(video);
  parts.push_back({"", std::move(image)});
  return {};
}

Result<std::string> RowReader::bytes_of(const Picture& picture) const {
  if (is_data_url(picture.path)) return data_url_bytes(picture.path);
  if (picture.page > 0) {
    return pdf_page(picture.path, picture.page, settings_.pdf_dpi, [this] { return stop_.raised(); });
  }
  GLIMPSE_ASSIGN(const std::vector<std::byte> bytes, read_file(picture.path, ImageLimits().max_bytes));
  if (bytes.empty()) return make_error(ErrorCode::kTruncated, "%s is empty", picture.path);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace glimpse::batch
