#include "engine/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/base/scratch_dir.h"

namespace glimpse {
namespace {

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class AtomicFileWriterTest : public FolderTest {
 protected:
  size_t n_files() const { return scratch_.list().size(); }
};

TEST_F(AtomicFileWriterTest, UncommittedLeavesNothingBehind) {
  {
    auto writer = AtomicFileWriter::create(folder_ / "a.bin", AtomicFileWriter::Existing::kReplace);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->write(as_bytes("half a file")).ok());
  }
  EXPECT_EQ(n_files(), 0u);
}

TEST_F(AtomicFileWriterTest, NamelessShowsNothingUntilItIsCommitted) {
  for (const auto existing : {AtomicFileWriter::Existing::kReplace, AtomicFileWriter::Existing::kRefuse}) {
    std::filesystem::remove(folder_ / "a.bin");
    auto writer = AtomicFileWriter::create(folder_ / "a.bin", existing);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->write(as_bytes("wh")).ok());
    writer->start_writeback();
    ASSERT_TRUE(writer->write(as_bytes("ole")).ok());
    EXPECT_FALSE(std::filesystem::exists(folder_ / "a.bin"));
    ASSERT_TRUE(writer->commit().ok());
    const auto read = read_file(folder_ / "a.bin", 100);
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(std::memcmp(read.value().data(), "whole", 5), 0);
    EXPECT_EQ(n_files(), 1u);
  }
  auto replacing = AtomicFileWriter::create(folder_ / "a.bin", AtomicFileWriter::Existing::kReplace);
  ASSERT_TRUE(replacing.ok());
  ASSERT_TRUE(replacing->write(as_bytes("newer")).ok());
  ASSERT_TRUE(replacing->commit().ok());
  EXPECT_EQ(std::memcmp(read_file(folder_ / "a.bin", 100).value().data(), "newer", 5), 0);
  auto refused = AtomicFileWriter::create(folder_ / "b.bin", AtomicFileWriter::Existing::kRefuse);
  ASSERT_TRUE(refused.ok());
  std::filesystem::copy_file(folder_ / "a.bin", folder_ / "b.bin");
  EXPECT_FALSE(refused->commit().ok());  // appeared meanwhile
}

// Before, a rename put a file in their place.
TEST_F(AtomicFileWriterTest, DevicesPipesAndFoldersAreNotReplaced) {
  namespace fs = std::filesystem;
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  fs::create_directory(folder_ / "folder");
  fs::create_symlink("/dev/null", folder_ / "null");
  fs::create_symlink("nowhere", folder_ / "dangling");
  const std::pair<fs::path, const char*> names[] = {{folder_ / "pipe", "is a pipe"},
                                                    {folder_ / "folder", "is a directory"},
                                                    {folder_ / "null", "is a device"},
                                                    {"/dev/null", "is a device"},
                                                    {folder_ / "dangling", "cannot follow the link"}};
  for (const auto& [path, words] : names) {
    const auto before = fs::symlink_status(path).type();
    const auto writer = AtomicFileWriter::create(path, AtomicFileWriter::Existing::kReplace);
    ASSERT_FALSE(writer.ok()) << path;
    EXPECT_NE(writer.error().message.find(words), std::string::npos) << writer.error().message;
    EXPECT_EQ(fs::symlink_status(path).type(), before) << path;
  }
}

TEST_F(AtomicFileWriterTest, ALinkStaysALinkAndItsFileIsReplaced) {
  namespace fs = std::filesystem;
  fs::create_directory(folder_ / "elsewhere");
  std::ofstream(folder_ / "elsewhere" / "target") << "old";
  fs::create_symlink("elsewhere/target", folder_ / "link");
  auto writer = AtomicFileWriter::create(folder_ / "link", AtomicFileWriter::Existing::kReplace);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->write(as_bytes("newer")).ok());
  ASSERT_TRUE(writer->commit().ok());
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(std::memcmp(read_file(folder_ / "elsewhere" / "target", 100).value().data(), "newer", 5), 0);
}

TEST_F(AtomicFileWriterTest, CommittedIsWhole) {
  auto writer = AtomicFileWriter::create(folder_ / "a.bin", AtomicFileWriter::Existing::kReplace);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->write(as_bytes("xxxx world")).ok());
  ASSERT_TRUE(writer->write_at(0, as_bytes("hell")).ok());
  ASSERT_TRUE(writer->commit().ok());
  const auto read = read_file(folder_ / "a.bin", 100);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(std::memcmp(read.value().data(), "hell world", 10), 0);
  EXPECT_EQ(n_files(), 1u);
}

TEST_F(AtomicFileWriterTest, RefusesToOverwriteWhenTold) {
  auto first = AtomicFileWriter::create(folder_ / "a.bin", AtomicFileWriter::Existing::kRefuse);
  auto second = AtomicFileWriter::create(folder_ / "a.bin", AtomicFileWriter::Existing::kRefuse);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(first->write(as_bytes("one")).ok());
  ASSERT_TRUE(first->commit().ok());
  EXPECT_FALSE(second->commit().ok());  // appeared meanwhile
  EXPECT_FALSE(AtomicFileWriter::create(folder_ / "a.bin", AtomicFileWriter::Existing::kRefuse).ok());
}

TEST(File, ErrorsNameThePath) {
  const auto missing = File::open("/nonexistent/model.gguf");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/nonexistent/model.gguf"), std::string::npos);
  const auto directory = File::open("/");
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().code, ErrorCode::kInvalidArgument);
}

TEST(File, ReadsPastTheEndAreErrors) {
  const auto file = File::open("/proc/self/exe");
  ASSERT_TRUE(file.ok());
  std::byte buffer[4];
  EXPECT_TRUE(file->read_at(0, buffer).ok());
  EXPECT_EQ(file->read_at(file->size() - 3, buffer).error().code, ErrorCode::kTruncated);
  EXPECT_EQ(file->read_at(UINT64_MAX - 1, buffer).error().code, ErrorCode::kTruncated);
}

}  // namespace
}  // namespace glimpse
