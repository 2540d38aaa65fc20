// The user's own folder for side files: whose it must be, and what goes when it is full.
#include "engine/model/pack_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "engine/model/pack_cache.h"
#include "tests/engine/golden_support.h"

namespace glimpse {
namespace {

namespace fs = std::filesystem;
using testing::golden_path;
using testing::must;

class PackFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("glimpse_pack_folder_" + std::to_string(getpid()));
    fs::create_directories(folder_);
    for (const char* name : {"XDG_CACHE_HOME", "HOME"}) {
      const char* const value = std::getenv(name);
      before_.emplace_back(name, value == nullptr ? std::nullopt : std::optional<std::string>(value));
    }
    setenv("XDG_CACHE_HOME", (folder_ / "cache").c_str(), 1);
  }
  void TearDown() override {
    for (const auto& [name, value] : before_) {
      if (value) {
        setenv(name, value->c_str(), 1);
      } else {
        unsetenv(name);
      }
    }
    fs::remove_all(folder_);
  }
  static std::string own() { return must(find_pack_folder("auto")).path; }
  /// A file of `mib` MiB without blocks, last used `hours` ago.
  void leave(const std::string& name, uint64_t mib, int hours) const {
    const fs::path path = fs::path(own()) / name;
    std::ofstream(path).put('x');
    fs::resize_file(path, mib << 20);
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  }
  static std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(own())) found.push_back(entry.path().filename());
    std::sort(found.begin(), found.end());
    return found;
  }

  fs::path folder_;
  std::vector<std::pair<const char*, std::optional<std::string>>> before_;
};

TEST_F(PackFolderTest, AutoIsMadeForItsOwnerAlone) {
  const PackFolder found = must(find_pack_folder("auto"));
  EXPECT_EQ(found.path, folder_ / "cache/glimpse");
  EXPECT_EQ(found.most_bytes, kAutoPackBytes);
  struct stat info;
  ASSERT_EQ(stat(found.path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0700u);
  EXPECT_EQ(own(), found.path);  // again, now that it is there
}

TEST_F(PackFolderTest, WithoutXdgItIsInTheHome) {
  setenv("HOME", folder_.c_str(), 1);
  for (const char* relative : {"", "cache"}) {  // as the XDG specification has it
    setenv("XDG_CACHE_HOME", relative, 1);
    EXPECT_EQ(own(), folder_ / ".cache/glimpse");
  }
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(own(), folder_ / ".cache/glimpse");
  unsetenv("HOME");
  EXPECT_EQ(find_pack_folder("auto").error().code, ErrorCode::kNotFound);
}

TEST_F(PackFolderTest, AnyOtherFolderIsTakenAsItIs) {
  const PackFolder found = must(find_pack_folder("./auto"));
  EXPECT_EQ(found.path, "./auto");
  EXPECT_EQ(found.most_bytes, 0u);
  EXPECT_FALSE(fs::exists(folder_ / "cache"));
}

TEST_F(PackFolderTest, OneThatOthersMayWriteIntoIsRefused) {
  for (const mode_t mode : {0770, 0707}) {
    ASSERT_EQ(chmod(own().c_str(), 0700), 0);
    ASSERT_EQ(chmod((folder_ / "cache/glimpse").c_str(), mode), 0);
    const auto found = find_pack_folder("auto");
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(found.error().message.find("others may write"), std::string::npos);
    ASSERT_EQ(chmod((folder_ / "cache/glimpse").c_str(), 0700), 0);
  }
  fs::remove_all(folder_ / "cache/glimpse");
  std::ofstream(folder_ / "cache/glimpse").put('x');
  EXPECT_NE(find_pack_folder("auto").error().message.find("no directory"), std::string::npos);
  fs::remove_all(folder_ / "cache");
  std::ofstream(folder_ / "cache").put('x');
  EXPECT_EQ(find_pack_folder("auto").error().code, ErrorCode::kIo);
}

TEST_F(PackFolderTest, WhatWasNotUsedForLongestGoesFirst) {
  leave("a.gguf.pack", 3, 1);
  leave("b.gguf.pack", 3, 30);
  leave("c.gguf.pack", 3, 20);
  leave("somebody's", 30, 99);  // no side file
  fs::create_directory(fs::path(own()) / "folder.pack");
  fs::create_symlink(folder_, fs::path(own()) / "link.pack");
  const auto others = [](std::vector<std::string> files) {
    files.insert(files.end(), {"folder.pack", "link.pack", "somebody's"});
    return files;
  };
  const uint64_t mib = 1 << 20;
  const PackFolder bounded{own(), 10 * mib};
  EXPECT_OK(make_room(bounded, 1 * mib));  // just fits
  EXPECT_EQ(names(), others({"a.gguf.pack", "b.gguf.pack", "c.gguf.pack"}));
  EXPECT_OK(make_room(bounded, 2 * mib));
  EXPECT_EQ(names(), others({"a.gguf.pack", "c.gguf.pack"}));
  EXPECT_EQ(make_room(bounded, 11 * mib).error().code, ErrorCode::kTooLarge);  // hopeless: nothing is deleted for it
  EXPECT_EQ(names(), others({"a.gguf.pack", "c.gguf.pack"}));
  EXPECT_OK(make_room({own(), 0}, 1 << 30));  // no bound
  EXPECT_EQ(names(), others({"a.gguf.pack", "c.gguf.pack"}));
  EXPECT_OK(make_room(bounded, 10 * mib));
  EXPECT_EQ(names(), others({}));
}

// File systems without files that have no name (NFS) keep the beginning of one when its writer is killed.
TEST_F(PackFolderTest, WhatAKilledProcessLeftIsDeletedToo) {
  leave("a.gguf.pack", 3, 1);
  leave("a.gguf.pack.17.0.tmp", 3, 30);
  leave("b.gguf.pack.18.0.tmp", 3, 0);  // somebody is writing it
  leave("notes.tmp", 3, 30);
  const uint64_t mib = 1 << 20;
  const PackFolder bounded{own(), 10 * mib};
  EXPECT_OK(make_room(bounded, 4 * mib));  // 3 and 3 are there
  EXPECT_EQ(names().size(), 4u);
  EXPECT_OK(make_room(bounded, 5 * mib));
  EXPECT_EQ(names(), (std::vector<std::string>{"a.gguf.pack", "b.gguf.pack.18.0.tmp", "notes.tmp"}));
}

// The two files of a model together, of which none is there when room is made for them.
TEST_F(PackFolderTest, APairKeepsWithinTheBound) {
  ModelOptions options;
  options.model_path = golden_path("tied/model.gguf");
  options.mmproj_path = golden_path("tied/mmproj.gguf");
  options.n_threads = 1;
  options.pack_cache_dir = "auto";
  const auto bytes = [] {
    uint64_t n = 0;
    for (const auto& entry : fs::directory_iterator(own())) n += entry.file_size();
    return n;
  };
  must(Model::load(options));
  ASSERT_EQ(names().size(), 2u);
  const uint64_t pair = bytes();
  for (const std::string& name : names()) fs::remove(fs::path(own()) / name);
  leave("old.gguf.pack", 1, 30);
  fs::resize_file(fs::path(own()) / "old.gguf.pack", kAutoPackBytes - pair + 1);  // either of them fits beside it
  must(Model::load(options));
  EXPECT_LE(bytes(), kAutoPackBytes);
  EXPECT_EQ(names().size(), 2u);
}

// Or a pair that does not fit would be written anew at every load, one file in the place of the other.
TEST_F(PackFolderTest, OneOfAPairIsNotDeletedForTheOther) {
  leave("text.gguf.pack", 6, 30);
  leave("other.gguf.pack", 2, 1);
  const uint64_t mib = 1 << 20;
  const PackFolder bounded{own(), 10 * mib};
  const std::string text = own() + "/text.gguf.pack";
  EXPECT_EQ(make_room(bounded, 5 * mib, text).error().code, ErrorCode::kTooLarge);
  EXPECT_EQ(names().size(), 2u);
  EXPECT_OK(make_room(bounded, 4 * mib, text));
  EXPECT_EQ(names(), std::vector<std::string>{"text.gguf.pack"});

  ModelOptions options;
  options.model_path = golden_path("tied/model.gguf");
  options.mmproj_path = golden_path("tied/mmproj.gguf");
  options.n_threads = 1;
  options.pack_cache_dir = "auto";
  fs::remove(text);
  must(Model::load(options));
  const std::vector<std::string> pair = names();
  ASSERT_EQ(pair.size(), 2u);
  const uint64_t of_text = fs::file_size(fs::path(own()) / pair[1]);
  fs::remove(fs::path(own()) / pair[0]);
  leave("other.gguf.pack", 1, -1);  // another program has just used it
  fs::resize_file(fs::path(own()) / "other.gguf.pack", kAutoPackBytes - of_text);
  must(Model::load(options));
  EXPECT_EQ(names(), pair);
}

TEST_F(PackFolderTest, MoreThanTheDiskHoldsIsNotBegun) {
  leave("a.gguf.pack", 3, 1);
  const PackFolder unbounded{own(), uint64_t{1} << 61};
  EXPECT_EQ(make_room(unbounded, uint64_t{1} << 60).error().code, ErrorCode::kTooLarge);
  EXPECT_EQ(names(), std::vector<std::string>{"a.gguf.pack"});
}

TEST_F(PackFolderTest, LoadsUseItAndSayWhenTheyDid) {
  ModelOptions options;
  options.model_path = golden_path("tied/model.gguf");
  options.n_threads = 1;
  options.pack_cache_dir = "auto";
  int n_used = 0, n_warnings = 0;
  options.log = [&](LogLevel level, std::string_view message) {
    n_used += message.starts_with("packed weights are read");
    n_warnings += level >= LogLevel::kWarning;
  };
  must(Model::load(options));
  ASSERT_EQ(names().size(), 1u);
  const fs::path pack = fs::path(own()) / names()[0];
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(50);
  fs::last_write_time(pack, old);
  must(Model::load(options));
  EXPECT_EQ(n_used, 1);
  EXPECT_GT(fs::last_write_time(pack), old + std::chrono::hours(49));
  ASSERT_EQ(chmod(own().c_str(), 0777), 0);
  EXPECT_EQ(n_warnings, 0);
  must(Model::load(options));
  EXPECT_EQ(n_used, 1);
  EXPECT_EQ(n_warnings, 1);
}

}  // namespace
}  // namespace glimpse
