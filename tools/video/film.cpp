#include "tools/video/film.h"

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <utility>

#include "loaders/image/decoder.h"

namespace glimpse::video {
namespace {

// Kinds of files that have their pictures in them. ffmpeg takes a playlist (HLS, DASH, concat) for a film, too,
// whatever its name is, and reads the files that it names: others of this machine.
constexpr const char* kContainers =
    "3g2,3gp,amv,apng,asf,av1,avi,dv,f4v,flv,gif,gxf,h261,h263,h264,hevc,ivf,m4v,matroska,mj2,mjpeg,mov,mp4,mpeg,"
    "mpegts,mpegvideo,mxf,nut,obu,ogg,rm,roq,smk,swf,vc1,webm,wtv,yuv4mpegpipe";

// "file:" and an absolute path: no name is an option, a protocol or a list of other files to ffmpeg.
std::string input_of(const std::string& path) {
  return "file:" + std::filesystem::absolute(path).string();
}

Error no_ffmpeg(const std::string& path, const std::string& program) {
  return make_error(
      ErrorCode::kUnsupported,
      "%s: films are read through ffmpeg, and there is no program %s: install ffmpeg (Debian: apt install "
      "ffmpeg), or give a folder of frames",
      path, program);
}

// "30000/1001" or "25".
double rate_of(std::string_view text) {
  const size_t slash = text.find('/');
  double over = 0, under = 1;
  std::from_chars(text.data(), text.data() + std::min(slash, text.size()), over);
  if (slash != std::string_view::npos) std::from_chars(text.data() + slash + 1, text.data() + text.size(), under);
  return under > 0 ? over / under : 0;
}

// The value of "key=value" on a line of its own.
std::string_view value_of(std::string_view lines, std::string_view key) {
  for (size_t at = 0; at < lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    std::string_view line = lines.substr(at, end - at);
    if (line.starts_with(key) && line.substr(key.size()).starts_with('=')) return line.substr(key.size() + 1);
    at = end + 1;
  }
  return {};
}

class Film final : public Source {
 public:
  Film(std::string path, const Options& options) : path_(std::move(path)), options_(options) {}

  // How many frames there are and how fast they follow.
  Status probe() {
    auto started =
        Program::start(options_.ffprobe,
                       {"-v", "error", "-protocol_whitelist", "file", "-format_whitelist", kContainers,
                        "-select_streams", "v:0", "-count_packets", "-show_entries",
                        "stream=nb_read_packets,avg_frame_rate", "-of", "default=noprint_wrappers=1", input_of(path_)},
                       options_.patience);
    if (!started.ok()) return explained(std::move(started).error(), options_.ffprobe);
    std::vector<std::byte> bytes(1 << 16);
    GLIMPSE_ASSIGN(const size_t n, started.value()->read(bytes));
    Status ended = started.value()->finish();
    if (!ended.ok()) return with_context(std::move(ended).error(), path_);
    const std::string_view said(reinterpret_cast<const char*>(bytes.data()), n);
    const std::string_view count = value_of(said, "nb_read_packets");
    std::from_chars(count.data(), count.data() + count.size(), n_frames_);
    fps_ = rate_of(value_of(said, "avg_frame_rate"));
    if (n_frames_ < 1 || !(fps_ > 0 && fps_ <= 1e6)) {
      return make_error(ErrorCode::kUnsupported, "%s: ffprobe finds no film in it", path_);
    }
    return {};
  }

  Status select(const std::vector<int64_t>& indices) override {
    n_wanted_ = indices.size();
    std::string which = "select=";
    for (size_t i = 0; i < indices.size(); ++i) {
      which += (i == 0 ? "eq(n\\," : "+eq(n\\,") + std::to_string(indices[i]) + ")";
    }
    auto started = Program::start(options_.ffmpeg, {"-nostdin",      "-v",
                                                    "error",         "-protocol_whitelist",
                                                    "file,pipe",     "-format_whitelist",
                                                    kContainers,     "-i",
                                                    input_of(path_), "-map",
                                                    "0:v:0",         "-vf",
                                                    which,           "-fps_mode",
                                                    "passthrough",   "-f",
                                                    "image2pipe",    "-c:v",
                                                    "ppm",           "-pix_fmt",
                                                    "rgb24",         "pipe:1"},
                                  options_.patience);
    if (!started.ok()) return explained(std::move(started).error(), options_.ffmpeg);
    program_ = std::move(started).value();
    return {};
  }

  Result<Frame> next() override {
    GLIMPSE_ASSIGN(std::optional<Image> image, read_ppm());
    if (!image && n_read_ > 0 && n_read_ + kMostMissing >= n_wanted_) image = last_;  // counted, but not to be decoded
    if (!image) {
      Status ended = program_->finish();
      if (!ended.ok()) return with_context(std::move(ended).error(), path_);
      return make_error(ErrorCode::kTruncated, "%s: %d frames came of %d", path_, n_read_, n_wanted_);
    }
    ++n_read_;
    if (n_read_ + kMostMissing >= n_wanted_) last_ = image;
    return Frame{"", std::move(*image)};
  }

 private:
  // Of the last frames; containers count packets that hold no picture of their own.
  static constexpr size_t kMostMissing = 2;

  Status explained(Error error, const std::string& program) const {
    return error.code == ErrorCode::kNotFound ? no_ffmpeg(path_, program) : with_context(std::move(error), path_);
  }

  // A number of the header and the white space behind it.
  Result<int64_t> read_number() {
    int64_t number = 0;
    for (int n_digits = 0; n_digits < 8; ++n_digits) {
      std::byte byte{};
      GLIMPSE_ASSIGN(const size_t n, program_->read({&byte, 1}));
      const char c = static_cast<char>(byte);
      if (n == 1 && n_digits > 0 && (c == ' ' || c == '\n')) return number;
      if (n == 0 || c < '0' || c > '9') break;
      number = 10 * number + (c - '0');
    }
    return make_error(ErrorCode::kCorrupt, "%s: ffmpeg gives something else than frames", path_);
  }

  // The next of the frames that ffmpeg writes, nullopt at the end.
  Result<std::optional<Image>> read_ppm() {
    std::byte magic[3];
    GLIMPSE_ASSIGN(const size_t n_magic, program_->read(magic));
    if (n_magic == 0) return std::optional<Image>();
    if (n_magic < 3 || magic[0] != std::byte{'P'} || magic[1] != std::byte{'6'} || magic[2] != std::byte{'\n'}) {
      return make_error(ErrorCode::kCorrupt, "%s: ffmpeg gives something else than frames", path_);
    }
    GLIMPSE_ASSIGN(const int64_t width, read_number());
    GLIMPSE_ASSIGN(const int64_t height, read_number());
    GLIMPSE_ASSIGN(const int64_t most, read_number());
    const ImageLimits& limits = options_.limits;
    if (width < 1 || height < 1 || most != 255 || width > limits.max_width || height > limits.max_height ||
        static_cast<uint64_t>(width * height) > limits.max_pixels ||
        static_cast<uint64_t>(width * height * 3) > limits.max_memory) {
      return make_error(ErrorCode::kTooLarge, "%s: frames of %d x %d pixels are outside the limits", path_, width,
                        height);
    }
    Image image{static_cast<int>(width), static_cast<int>(height),
                std::vector<uint8_t>(static_cast<size_t>(width * height * 3))};
    GLIMPSE_ASSIGN(const size_t n, program_->read(std::as_writable_bytes(std::span(image.pixels))));
    if (n < image.pixels.size()) {
      return make_error(ErrorCode::kTruncated, "%s: ffmpeg ended within a frame: %s", path_, program_->complaint());
    }
    return std::optional<Image>(std::move(image));
  }

  const std::string path_;
  const Options options_;
  std::unique_ptr<Program> program_;
  size_t n_wanted_ = 0, n_read_ = 0;
  std::optional<Image> last_;
};

// By its first bytes.
bool is_still(const std::string& path) {
  std::array<char, 64> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), head.size());
  return sniff_format(std::as_bytes(std::span(head.data(), static_cast<size_t>(file.gcount())))).ok();
}

}  // namespace

Result<std::unique_ptr<Source>> open_film(const std::string& path, const Options& options) {
  auto film = std::make_unique<Film>(path, options);
  Status probed = film->probe();
  if (!probed.ok() && is_still(path)) {
    return make_error(ErrorCode::kInvalidArgument, "%s is a picture, not a video: give it as a picture", path);
  }
  GLIMPSE_TRY(probed);
  return std::unique_ptr<Source>(std::move(film));
}

}  // namespace glimpse::video
