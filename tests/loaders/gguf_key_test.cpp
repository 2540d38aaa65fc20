// GgufFile::content_key(): what changes it and what does not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loaders/gguf/gguf.h"
#include "tests/base/scratch_dir.h"

namespace glimpse {
namespace {

namespace fs = std::filesystem;

class GgufContentKey : public FolderTest {
 protected:
  void SetUp() override {
    path_ = folder_ / "model.gguf";
    fs::copy_file(GLIMPSE_TEST_DIR "/golden/tied/model.gguf", path_, fs::copy_options::overwrite_existing);
    time_ = fs::last_write_time(path_);
  }

  static uint64_t key_of(const fs::path& path) {
    const auto file = GgufFile::open(path);
    EXPECT_TRUE(file.ok());
    const auto key = file.ok() ? file->content_key() : Result<uint64_t>(file.error());
    EXPECT_TRUE(key.ok());
    return key.ok() ? key.value() : 0;
  }
  /// Flips a bit and sets the time back.
  void damage(uint64_t offset) {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const auto byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
    file.close();
    fs::last_write_time(path_, time_);
  }

  fs::path path_;
  fs::file_time_type time_;
};

TEST_F(GgufContentKey, IsTheSameForACopyOfTheSameTimeUnderAnyName) {
  const fs::path copy = folder_ / "copy.gguf";
  fs::copy_file(path_, copy);
  fs::last_write_time(copy, time_);
  EXPECT_EQ(key_of(copy), key_of(path_));
}

TEST_F(GgufContentKey, DiffersWhenTheFileWasTouched) {
  const uint64_t key = key_of(path_);
  fs::last_write_time(path_, time_ + std::chrono::milliseconds(1));
  EXPECT_NE(key_of(path_), key);
}

TEST_F(GgufContentKey, DiffersWithAByteOfTheDataAtTheSameTime) {
  const uint64_t key = key_of(path_), size = fs::file_size(path_);
  for (const uint64_t offset : {size - 1, size / 2, GgufFile::open(path_)->shards()[0].data_start}) {
    damage(offset);
    EXPECT_NE(key_of(path_), key) << offset;
    damage(offset);
    EXPECT_EQ(key_of(path_), key) << offset;
  }
}

TEST_F(GgufContentKey, OfALargeFileSeesTheFirstAndTheLastByte) {
  // A golden file with zeros behind its last tensor: more bytes than all samples together.
  const auto golden = GgufFile::open(path_);
  ASSERT_TRUE(golden.ok());
  const uint64_t start = golden->shards()[0].data_start;
  fs::resize_file(path_, start + (uint64_t{3} << 20));
  fs::last_write_time(path_, time_);
  const uint64_t key = key_of(path_);
  for (const uint64_t offset : {start, start + (uint64_t{3} << 20) - 1}) {
    damage(offset);
    EXPECT_NE(key_of(path_), key) << offset;
    damage(offset);
  }
  EXPECT_EQ(key_of(path_), key);
}

TEST_F(GgufContentKey, ThereIsNoneOfBytesInMemory) {
  std::ifstream in(path_, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto file = GgufFile::parse(std::as_bytes(std::span(bytes)), "memory");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->content_key().error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace glimpse
