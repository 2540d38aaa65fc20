// Loads bytes as a session's state: as they are, and with magic, version, fingerprint and checksums made right, so that
// what lies behind those is reached. What loads is a conversation that goes on.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/hash.h"
#include "engine/generate/session.h"

namespace {

using glimpse::Message;
using glimpse::Session;

std::unique_ptr<Session> make_session() {
  glimpse::ModelOptions model_options;
  model_options.model_path = GLIMPSE_TEST_DIR "/golden/tied/model.gguf";
  model_options.n_threads = 1;
  static const auto model = glimpse::Model::load(model_options);
  if (!model.ok()) __builtin_trap();
  glimpse::SessionOptions options;
  options.n_threads = 1;
  options.context = 300;
  options.batch = 64;
  auto session = Session::create(model.value(), options);
  if (!session.ok()) __builtin_trap();
  return std::move(session).value();
}

std::vector<std::byte> save(const Session& session) {
  std::vector<std::byte> bytes;
  const auto sink = [&](std::span<const std::byte> piece) -> glimpse::Status {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return {};
  };
  if (!session.save(sink).ok() || bytes.size() != session.saved_bytes()) __builtin_trap();
  return bytes;
}

void check(Session& session, std::span<const std::byte> bytes) {
  const std::vector<std::byte> before = save(session);
  const glimpse::Status loaded = session.load(bytes);
  if (!loaded.ok()) {
    if (loaded.error().message.empty() || save(session) != before) __builtin_trap();
    return;
  }
  const std::vector<std::byte> once = save(session);  // as loaded, but for zeros behind the last slot
  if (once.size() != bytes.size() || !session.load(once).ok() || save(session) != once) __builtin_trap();
  glimpse::GenerateOptions options;
  options.max_tokens = 2;
  options.sampler.repetition_penalty = 1.1f;
  const auto answer = session.generate({{"user", {{"the cat", nullptr}}}}, options);
  if (!answer.ok() && answer.error().code == glimpse::ErrorCode::kInternal) __builtin_trap();
}

// Bytes whose first half, to multiples of a piece, is taken over the state of a small conversation.
std::vector<std::byte> mended(std::span<const std::byte> bytes, std::vector<std::byte> good) {
  constexpr size_t kHeader = 16 + 9 * 8;
  const auto seal = [&](size_t first, size_t n) {
    if (good.size() < sizeof(uint64_t) || first > good.size() - sizeof(uint64_t) ||
        n > good.size() - sizeof(uint64_t) - first) {
      return false;
    }
    const uint64_t hash = glimpse::hash_block(std::span(good).subspan(first, n));
    std::memcpy(good.data() + first + n, &hash, sizeof hash);
    return true;
  };
  for (size_t i = 0; i + 2 < bytes.size(); i += 3) {  // each three bytes: a place and a value
    const size_t place = static_cast<size_t>(bytes[i]) | static_cast<size_t>(bytes[i + 1]) << 8;
    if (place >= 16) good[place % good.size()] = bytes[i + 2];
  }
  int64_t fields[6];
  std::memcpy(fields, good.data() + 16, sizeof fields);
  size_t at = kHeader + 8;
  const auto pieces = [&]() -> std::vector<size_t> {
    if (fields[0] < 0 || fields[0] > 1000 || fields[1] < 0 || fields[1] > 1000) return {};
    std::vector<size_t> sizes = {4 * static_cast<size_t>(fields[0] + fields[1])};
    if (fields[4] > 0 && fields[4] < 1000) sizes.push_back(4 * static_cast<size_t>(fields[4]));
    for (int64_t i = 0; i < (fields[0] + 255) / 256; ++i) sizes.push_back(static_cast<size_t>(fields[5]));
    return sizes;
  };
  seal(0, kHeader);
  for (const size_t n : pieces()) {
    if (!seal(at, n)) break;
    at += n + 8;
  }
  return good;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Session> session = make_session();
  static const std::vector<std::byte> good = [] {
    const auto talker = make_session();
    glimpse::GenerateOptions options;
    options.max_tokens = 3;
    if (!talker->generate({{"user", {{"the dog and the cat", nullptr}}}}, options).ok()) __builtin_trap();
    return save(*talker);
  }();
  const auto bytes = std::as_bytes(std::span(data, size));
  check(*session, bytes);
  check(*session, mended(bytes, good));
  session->reset();
  return 0;
}
