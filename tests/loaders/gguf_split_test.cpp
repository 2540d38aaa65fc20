// Models in several files.
#include <gtest/gtest.h>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_check.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;

class GgufSplit : public GgufFolderTest {
 protected:
  static GgufBuilder shard(uint16_t number, uint16_t count, int32_t n_tensors) {
    GgufBuilder b;
    if (number == 0) b.text("general.architecture", "qwen2vl");
    b.key("split.no", GgufType::kUint16, le(number)).key("split.count", GgufType::kUint16, le(count));
    b.key("split.tensors.count", GgufType::kInt32, le(n_tensors));
    return b;
  }
  static GgufBuilder& add(GgufBuilder& b, const std::string& name, char fill) {
    return b.tensor(name, {8}, DType::kF32, std::string(32, fill));
  }
  static std::string name(int number, int count) { return format("model-%05d-of-%05d.gguf", number, count); }
  char first_byte(const GgufFile& file, const std::string& tensor) const {
    char c = 0;
    EXPECT_TRUE(file.read(*file.find_tensor(tensor), 0, std::as_writable_bytes(std::span(&c, 1))).ok());
    return c;
  }
};

TEST_F(GgufSplit, OpensAllShards) {
  GgufBuilder a = shard(0, 3, 4), b = shard(1, 3, 4), c = shard(2, 3, 4);
  b.alignment_key(64);  // each shard has its own
  add(a, "a", 'a');
  add(add(b, "b", 'b'), "b2", 'B');
  add(c, "c", 'c');
  const std::string first = save(name(1, 3), a.build());
  save(name(2, 3), b.build());
  save(name(3, 3), c.build());
  const auto file = GgufFile::open(first);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->n_shards(), 3u);
  EXPECT_EQ(file->n_bytes(), a.build().size() + b.build().size() + c.build().size());
  EXPECT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->find_tensor("b2")->shard, 1u);
  EXPECT_EQ(first_byte(file.value(), "a"), 'a');
  EXPECT_EQ(first_byte(file.value(), "b"), 'b');
  EXPECT_EQ(first_byte(file.value(), "b2"), 'B');
  EXPECT_EQ(first_byte(file.value(), "c"), 'c');
  EXPECT_EQ(file->require_string("general.architecture").value(), "qwen2vl");
  EXPECT_EQ(file->alignment(), 32u);
  EXPECT_EQ(file->shards()[1].alignment, 64u);
}

TEST_F(GgufSplit, FirstShardMayHaveNoTensors) {
  GgufBuilder a = shard(0, 2, 1), b = shard(1, 2, 1);
  add(b, "b", 'b');
  const std::string first = save(name(1, 2), a.build());
  save(name(2, 2), b.build());
  const auto file = GgufFile::open(first);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(first_byte(file.value(), "b"), 'b');
  EXPECT_TRUE(check_gguf(file.value()).empty());
}

TEST_F(GgufSplit, MissingShardIsNamed) {
  GgufBuilder a = shard(0, 2, 1);
  add(a, "a", 'a');
  const auto file = GgufFile::open(save(name(1, 2), a.build()));
  EXPECT_TRUE(fails(file, ErrorCode::kNotFound, "shard 2 of 2"));
  EXPECT_TRUE(fails(file, ErrorCode::kNotFound, name(2, 2)));
}

TEST_F(GgufSplit, AnotherShardThanTheFirstSaysWhichToOpen) {
  const auto file = GgufFile::open(save(name(2, 3), shard(1, 3, 1).build()));
  EXPECT_TRUE(fails(file, ErrorCode::kMismatch, "is shard 2 of 3"));
  EXPECT_TRUE(fails(file, ErrorCode::kMismatch, "open the first one: " + path(name(1, 3))));
}

TEST_F(GgufSplit, RenamedFirstShardIsRefused) {
  const auto file = GgufFile::open(save("renamed.gguf", shard(0, 3, 1).build()));
  EXPECT_TRUE(fails(file, ErrorCode::kMismatch, "-00001-of-00003.gguf"));
}

TEST_F(GgufSplit, WrongNumbersAreRefused) {
  GgufBuilder a = shard(0, 2, 2);
  add(a, "a", 'a');
  const std::string first = save(name(1, 2), a.build());
  GgufBuilder wrong_number = shard(0, 2, 2), wrong_count = shard(1, 3, 2), no_number;
  save(name(2, 2), add(wrong_number, "b", 'b').build());
  EXPECT_TRUE(fails(GgufFile::open(first), ErrorCode::kMismatch, "shard 1 of 2; expected shard 2 of 2"));
  save(name(2, 2), add(wrong_count, "b", 'b').build());
  EXPECT_TRUE(fails(GgufFile::open(first), ErrorCode::kMismatch, "shard 2 of 3; expected shard 2 of 2"));
  save(name(2, 2), add(no_number, "b", 'b').build());
  EXPECT_TRUE(fails(GgufFile::open(first), ErrorCode::kNotFound, "'split.no' is missing"));
}

TEST_F(GgufSplit, WrongTensorTotalIsRefused) {
  GgufBuilder a = shard(0, 2, 5), b = shard(1, 2, 5);
  const std::string first = save(name(1, 2), add(a, "a", 'a').build());
  save(name(2, 2), add(b, "b", 'b').build());
  EXPECT_TRUE(fails(GgufFile::open(first), ErrorCode::kMismatch, "split.tensors.count is 5, but the 2 shards have 2"));
}

TEST_F(GgufSplit, DuplicateTensorAcrossShardsIsRefused) {
  GgufBuilder a = shard(0, 2, 2), b = shard(1, 2, 2);
  const std::string first = save(name(1, 2), add(a, "same", 'a').build());
  save(name(2, 2), add(b, "same", 'b').build());
  EXPECT_TRUE(fails(GgufFile::open(first), ErrorCode::kCorrupt, "tensor 'same' is already in " + first));
}

TEST_F(GgufSplit, ADamagedShardIsNamed) {
  GgufBuilder a = shard(0, 2, 2), b = shard(1, 2, 2);
  const std::string first = save(name(1, 2), add(a, "a", 'a').build());
  const std::string second = add(b, "b", 'b').build();
  save(name(2, 2), second.substr(0, second.size() - 1));
  EXPECT_TRUE(fails(GgufFile::open(first), ErrorCode::kTruncated, name(2, 2)));
}

TEST_F(GgufSplit, ImpossibleSplitKeysAreRefused) {
  GgufBuilder beyond = shard(3, 3, 1), huge, text;
  huge.u32("split.count", UINT32_MAX);
  text.text("split.count", "two");
  EXPECT_TRUE(fails(GgufFile::open(save("a.gguf", beyond.build())), ErrorCode::kCorrupt, "split.no is 3"));
  EXPECT_TRUE(fails(GgufFile::open(save("b.gguf", huge.build())), ErrorCode::kCorrupt, "4294967295"));
  EXPECT_TRUE(fails(GgufFile::open(save("c.gguf", text.build())), ErrorCode::kCorrupt, "'split.count' is string"));
}

// A first shard may name any count, and so may the file: the number of files opened is bounded by those that exist.
TEST_F(GgufSplit, ShardsWrittenByGgufPyOpen) {
  const auto file = GgufFile::open(fixture("split-00001-of-00003.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->n_shards(), 3u);
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensors()[0].shard, 1u);  // gguf-py's small first shard
  EXPECT_EQ(file->tensors()[1].shard, 2u);
  float value = 0;
  ASSERT_TRUE(file->read(file->tensors()[1], 4, std::as_writable_bytes(std::span(&value, 1))).ok());
  EXPECT_EQ(value, 11.0f);
}

}  // namespace
}  // namespace glimpse
