// The format of side files: what is refused, and how it is said.
#include "engine/model/pack_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/base/hash.h"
#include "kernels/matmul/panel_layout.h"
#include "tests/engine/golden_support.h"

namespace glimpse {
namespace {

namespace fs = std::filesystem;
using testing::must;

PackHeader three_matrices() {
  PackHeader header;
  header.layout_version = kPanelLayoutVersion;
  header.content_key = 42;
  for (uint64_t i = 0; i < 3; ++i) {
    header.records.push_back(
        {pack_name_hash(std::string("m").append(std::to_string(i))), 12, 16, 256, 0, 2304 + 4096 * i, 0});
  }
  EXPECT_OK(lay_out_pack(header));
  return header;
}
std::vector<std::byte> matrix(const PackHeader& header, size_t i) {
  return std::vector<std::byte>(header.records[i].n_bytes, static_cast<std::byte>(i + 1));
}

void expect_refused(const PackHeader& header, uint64_t file_bytes, ErrorCode code, const char* part) {
  const auto loaded = load_pack_header(save_pack_header(header), file_bytes);
  ASSERT_FALSE(loaded.ok()) << part;
  EXPECT_EQ(loaded.error().code, code) << loaded.error().message;
  EXPECT_NE(loaded.error().message.find(part), std::string::npos) << loaded.error().message;
}

TEST(PackHeader, ComesBackAsItWas) {
  const PackHeader header = three_matrices();
  const PackHeader back = must(load_pack_header(save_pack_header(header), header.file_bytes));
  EXPECT_EQ(back.content_key, 42u);
  EXPECT_EQ(back.file_bytes, header.file_bytes);
  ASSERT_EQ(back.records.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(back.records[i].name_hash, header.records[i].name_hash);
    EXPECT_EQ(back.records[i].offset, header.records[i].offset);
    EXPECT_EQ(back.records[i].n_bytes, header.records[i].n_bytes);
    EXPECT_EQ(back.records[i].offset % kPackAlignment, 0u);
  }
}

TEST(PackHeader, EveryDamagedByteIsFound) {
  const PackHeader header = three_matrices();
  std::vector<std::byte> bytes = save_pack_header(header);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{4};
    EXPECT_FALSE(load_pack_header(bytes, header.file_bytes).ok()) << "byte " << i;
    bytes[i] ^= std::byte{4};
  }
  EXPECT_TRUE(load_pack_header(bytes, header.file_bytes).ok());
}

TEST(PackHeader, EveryShorterOneIsRefused) {
  const PackHeader header = three_matrices();
  const std::vector<std::byte> bytes = save_pack_header(header);
  for (size_t n = 0; n < bytes.size(); ++n) {
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    const auto loaded = load_pack_header(cut, header.file_bytes);
    ASSERT_FALSE(loaded.ok()) << n;
    EXPECT_EQ(loaded.error().code, ErrorCode::kTruncated) << n;
  }
}

TEST(PackHeader, AnotherLayoutVersionIsRefused) {
  PackHeader header = three_matrices();
  header.layout_version = kPanelLayoutVersion + 1;
  expect_refused(header, header.file_bytes, ErrorCode::kUnsupported, "panel layout");
}

TEST(PackHeader, AnotherFileSizeIsRefused) {
  const PackHeader header = three_matrices();
  expect_refused(header, header.file_bytes - 1, ErrorCode::kTruncated, "its header says");
  expect_refused(header, header.file_bytes + 1, ErrorCode::kTruncated, "its header says");
}

// With a right checksum: what somebody would write who means harm.
TEST(PackHeader, PlacesOutsideTheFileAreRefused) {
  const PackHeader good = three_matrices();
  const uint64_t end = good.file_bytes;
  struct Place {
    uint64_t offset, n_bytes;
  };
  for (const Place place : {Place{0, 2304}, Place{64, 2304}, Place{good.records[0].offset, 2304}, Place{end + 4096, 64},
                            Place{good.records[1].offset + 8, 64}, Place{good.records[1].offset, end},
                            Place{good.records[1].offset, 0}, Place{good.records[1].offset, ~uint64_t{0}},
                            Place{~uint64_t{0} - 4095, 8192}, Place{good.records[2].offset, 64}}) {
    PackHeader header = good;
    header.records[1].offset = place.offset;
    header.records[1].n_bytes = place.n_bytes;
    expect_refused(header, end, ErrorCode::kCorrupt, "fit");
  }
}

TEST(PackHeader, ImpossibleCountsAreRefused) {
  PackHeader header = three_matrices();
  header.records.clear();
  expect_refused(header, 64, ErrorCode::kCorrupt, "0 matrices");
  std::vector<std::byte> bytes = save_pack_header(three_matrices());
  const uint32_t many = 0xffffffff;
  std::memcpy(bytes.data() + 32, &many, sizeof many);
  EXPECT_EQ(load_pack_header(bytes, 1 << 20).error().code, ErrorCode::kCorrupt);
}

TEST(PackHeader, SizesThatOverflowAreNotLaidOut) {
  PackHeader header = three_matrices();
  header.records[1].n_bytes = ~uint64_t{0} - 100;
  EXPECT_EQ(lay_out_pack(header).error().code, ErrorCode::kTooLarge);
}

class PackFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("glimpse_pack_file_" + std::to_string(getpid()));
    fs::create_directories(folder_);
    path_ = folder_ / "a.pack";
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const PackHeader& header) {
    PackFileWriter writer = must(PackFileWriter::create(path_, header));
    for (size_t i = 0; i < header.records.size(); ++i) EXPECT_OK(writer.add(matrix(header, i)));
    EXPECT_OK(writer.commit());
  }
  ErrorCode open_error(const PackHeader& want) {
    for (const PackUse use : {PackUse::kRead, PackUse::kMap}) {
      const auto opened = PackFile::open(path_, want, use);
      EXPECT_FALSE(opened.ok());
      if (use == PackUse::kMap) return opened.ok() ? ErrorCode::kInternal : opened.error().code;
    }
    return ErrorCode::kInternal;
  }
  ThreadTeam team_{2};
  fs::path folder_, path_;
};

TEST_F(PackFileTest, HoldsWhatWasWritten) {
  const PackHeader header = three_matrices();
  write(header);
  for (const PackUse use : {PackUse::kRead, PackUse::kMap}) {
    std::vector<PackFile::Matrix> taken;
    {
      const PackFile file = must(PackFile::open(path_, header, use));
      EXPECT_EQ(file.n_bytes(), fs::file_size(path_));
      for (size_t i = 0; i < 3; ++i) taken.push_back(must(file.matrix(i, team_)));
    }
    for (size_t i = 0; i < 3; ++i) {  // they outlive the file object
      const auto bytes = taken[i].bytes;
      const std::vector<std::byte> want = matrix(header, i);
      ASSERT_EQ(bytes.size(), want.size());
      EXPECT_EQ(std::memcmp(bytes.data(), want.data(), want.size()), 0);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 64, 0u);
    }
  }
}

TEST_F(PackFileTest, OfOtherMatricesIsRefused) {
  const PackHeader header = three_matrices();
  write(header);
  PackHeader want = header;
  want.content_key = 43;
  EXPECT_EQ(open_error(want), ErrorCode::kMismatch);
  for (int field = 0; field < 4; ++field) {
    want = header;
    PackRecord& record = want.records[1];
    (field == 0 ? record.name_hash : field == 1 ? record.rows : field == 2 ? record.cols : record.n_bytes) += 1;
    EXPECT_EQ(open_error(want), ErrorCode::kMismatch) << field;
  }
  want = header;
  want.records[2].format = 14;
  EXPECT_EQ(open_error(want), ErrorCode::kMismatch);
  want = header;
  want.records.pop_back();
  EXPECT_EQ(open_error(want), ErrorCode::kMismatch);
}

TEST_F(PackFileTest, WhoseDataNeverReachedTheDiskIsRefused) {
  const PackHeader header = three_matrices();
  write(header);
  fs::resize_file(path_, header.records[1].offset);
  fs::resize_file(path_, header.file_bytes);  // zeros instead
  for (const PackUse use : {PackUse::kRead, PackUse::kMap}) {
    const PackFile file = must(PackFile::open(path_, header, use));
    EXPECT_TRUE(file.matrix(0, team_).ok());
    EXPECT_EQ(file.matrix(1, team_).error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(file.matrix(2, team_).error().code, ErrorCode::kCorrupt);
  }
}

// The checksum that was of samples let most of these through.
TEST_F(PackFileTest, EveryByteOfAMatrixCounts) {
  const PackHeader header = three_matrices();
  write(header);
  const PackFile file = must(PackFile::open(path_, header, PackUse::kRead));
  std::fstream stream(path_, std::ios::in | std::ios::out | std::ios::binary);
  const PackRecord& record = header.records[2];
  for (uint64_t at = 0; at < record.n_bytes; at += 37) {
    for (const char byte : {'\x02', '\x03'}) {  // damaged; as it was
      stream.seekp(static_cast<std::streamoff>(record.offset + at));
      stream.put(byte);
      stream.flush();
      EXPECT_EQ(file.matrix(2, team_).ok(), byte == '\x03') << at;
    }
  }
}

// Found while it is read. A map would have killed the process.
TEST_F(PackFileTest, CutShortWhileItIsOpenIsAnError) {
  const PackHeader header = three_matrices();
  write(header);
  const PackFile file = must(PackFile::open(path_, header, PackUse::kRead));
  const PackFile::Matrix first = must(file.matrix(0, team_));
  fs::resize_file(path_, header.records[1].offset + 5);
  EXPECT_EQ(file.matrix(1, team_).error().code, ErrorCode::kTruncated);
  EXPECT_EQ(std::memcmp(first.bytes.data(), matrix(header, 0).data(), first.bytes.size()), 0);
}

// The same for any number of threads, and of what it always was: it is in files.
TEST(PackChecksum, NeverChanges) {
  std::vector<std::byte> bytes(2 * kPackChunk + 1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761u >> 13);
  EXPECT_EQ(pack_checksum(bytes), 0xc357b4f010b1ac5cu);
  EXPECT_EQ(pack_checksum(std::span(bytes).first(100)), 0xa7867b065c56ee51u);
  EXPECT_EQ(hash_block(std::span(bytes).first(7)), 0x5f3c70913e69f348u);
}

TEST_F(PackFileTest, CutShortIsRefused) {
  const PackHeader header = three_matrices();
  write(header);
  for (const uint64_t n : {header.file_bytes - 1, header.records[1].offset, uint64_t{100}, uint64_t{64}, uint64_t{0}}) {
    fs::resize_file(path_, n);
    EXPECT_EQ(open_error(header), ErrorCode::kTruncated) << n;
  }
}

TEST_F(PackFileTest, AppearsOnlyWhenItIsWhole) {
  const PackHeader header = three_matrices();
  {
    PackFileWriter writer = must(PackFileWriter::create(path_, header));
    EXPECT_OK(writer.add(matrix(header, 0)));
    EXPECT_EQ(writer.add(matrix(header, 2)).error().code, ErrorCode::kInvalidArgument);  // not its turn
    EXPECT_EQ(writer.commit().error().code, ErrorCode::kInvalidArgument);                // matrices are missing
    EXPECT_EQ(open_error(header), ErrorCode::kNotFound);
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace glimpse
