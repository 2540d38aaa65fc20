// What the container parser accepts, what it refuses, and what it says.
#include <gtest/gtest.h>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_parser.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;

TEST(GgufReader, ReadsEveryValueType) {
  const std::string bytes = sample().build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->n_bytes(), bytes.size());
  EXPECT_EQ(file->keys().front(), "general.architecture");
  EXPECT_EQ(file->keys().back(), "b.empty");
  using Strings = std::vector<std::string>;
  const auto holds = [&](const char* key, GgufType type, auto expected) {
    const GgufValue* value = file->find(key);
    ASSERT_NE(value, nullptr) << key;
    EXPECT_EQ(value->type, type) << key;
    const auto* data = std::get_if<decltype(expected)>(&value->data);
    ASSERT_NE(data, nullptr) << key;
    EXPECT_EQ(*data, expected) << key;
  };
  const auto holds_array = [&](const char* key, GgufType element, auto expected) {
    if constexpr (std::is_same_v<decltype(expected), Strings>) {
      holds(key, GgufType::kArray, expected);
    } else {
      const auto* numbers = std::get_if<GgufNumbers>(&file->find(key)->data);
      ASSERT_NE(numbers, nullptr) << key;
      EXPECT_EQ(numbers->type(), element) << key;
      ASSERT_EQ(numbers->size(), expected.size()) << key;
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ((*numbers)[i], GgufNumber(expected[i])) << key;
      EXPECT_EQ(numbers->bytes().size(), expected.size() * gguf_type_bytes(element)) << key;
    }
    EXPECT_EQ(file->find(key)->element_type, element) << key;
    EXPECT_EQ(file->find(key)->array_size(), expected.size()) << key;
  };
  holds("general.architecture", GgufType::kString, std::string("test"));
  holds("a.u8", GgufType::kUint8, uint64_t{200});
  holds("a.i8", GgufType::kInt8, int64_t{-3});
  holds("a.u16", GgufType::kUint16, uint64_t{60000});
  holds("a.i16", GgufType::kInt16, int64_t{-300});
  holds("a.u32", GgufType::kUint32, uint64_t{4000000000u});
  holds("a.i32", GgufType::kInt32, int64_t{-70000});
  holds("a.f32", GgufType::kFloat32, 1.5);
  holds("a.bool", GgufType::kBool, uint64_t{1});  // any non-zero byte is true
  holds("a.u64", GgufType::kUint64, uint64_t{1} << 63);
  holds("a.i64", GgufType::kInt64, int64_t{INT64_MIN});
  holds("a.f64", GgufType::kFloat64, -0.1);
  holds_array("b.u8", GgufType::kUint8, std::vector<uint64_t>{1, 255});
  holds_array("b.i8", GgufType::kInt8, std::vector<int64_t>{1, -1});
  holds_array("b.u16", GgufType::kUint16, std::vector<uint64_t>{65535});
  holds_array("b.i16", GgufType::kInt16, std::vector<int64_t>{-2});
  holds_array("b.u32", GgufType::kUint32, std::vector<uint64_t>{5, 5});
  holds_array("b.i32", GgufType::kInt32, std::vector<int64_t>{16, 24, 24, 0});
  holds_array("b.f32", GgufType::kFloat32, std::vector<double>{0.25, -2.0});
  holds_array("b.bool", GgufType::kBool, std::vector<uint64_t>{0, 1});
  holds_array("b.string", GgufType::kString, Strings{"x", "", "a longer string than fits inline"});
  holds_array("b.u64", GgufType::kUint64, std::vector<uint64_t>{UINT64_MAX});
  holds_array("b.i64", GgufType::kInt64, std::vector<int64_t>{-9});
  holds_array("b.f64", GgufType::kFloat64, std::vector<double>{1e300});
  holds_array("b.empty", GgufType::kInt32, std::vector<int64_t>{});
  EXPECT_EQ(file->find("absent"), nullptr);
}

TEST(GgufReader, FindsAndReadsTensors) {
  const std::string bytes = sample().build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 3u);
  const GgufTensor& weight = file->tensors()[0];
  EXPECT_EQ(file->find_tensor("blk.0.weight"), &weight);
  EXPECT_EQ(file->find_tensor("nothing"), nullptr);
  EXPECT_EQ(weight.describe(), "q8_0 (32, 2)");
  EXPECT_EQ(weight.n_bytes, 68u);
  EXPECT_EQ(weight.n_rows(), 2u);
  EXPECT_EQ(weight.row_bytes(), 34u);
  EXPECT_EQ(weight.file_offset % 32, 0u);
  EXPECT_EQ(file->tensors()[1].describe(), "f32 (1)");
  EXPECT_EQ(file->tensors()[1].n_elements(), 1u);
  std::byte part[3];
  ASSERT_TRUE(file->read(weight, 65, part).ok());
  EXPECT_EQ(part[0], std::byte{65});
  EXPECT_EQ(part[2], std::byte{67});
  EXPECT_TRUE(fails(file->read(weight, 66, part), ErrorCode::kInvalidArgument, "blk.0.weight"));
  EXPECT_TRUE(fails(file->read(weight, UINT64_MAX, part), ErrorCode::kInvalidArgument, "blk.0.weight"));
}

TEST(GgufReader, ReadsVersion2) {
  GgufBuilder b = sample();
  b.version = 2;
  const std::string bytes = b.build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->version(), 2u);
  EXPECT_EQ(file->tensors().size(), 3u);
}

TEST(GgufReader, ReadsAFileWithoutTensors) {
  const std::string bytes = GgufBuilder().text("general.architecture", "qwen2").build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->shards()[0].data_start, bytes.size());
}

TEST(GgufReader, HonoursTheAlignmentKey) {
  const std::string bytes = GgufBuilder()
                                .alignment_key(64)
                                .tensor("a", {1}, DType::kF32, le(1.0f))
                                .tensor("b", {1}, DType::kF32, le(2.0f))
                                .build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->alignment(), 64u);
  EXPECT_EQ(file->tensors()[1].file_offset - file->tensors()[0].file_offset, 64u);
  float value = 0;
  ASSERT_TRUE(file->read(file->tensors()[1], 0, std::as_writable_bytes(std::span(&value, 1))).ok());
  EXPECT_EQ(value, 2.0f);
}

TEST(GgufReader, RejectsABadAlignment) {
  const auto with = [](GgufType type, const std::string& value) {
    return GgufBuilder().key("general.alignment", type, value);
  };
  EXPECT_TRUE(rejects(with(GgufType::kUint32, le<uint32_t>(0)), ErrorCode::kCorrupt, "power of two"));
  EXPECT_TRUE(rejects(with(GgufType::kUint32, le<uint32_t>(48)), ErrorCode::kCorrupt, "power of two"));
  EXPECT_TRUE(rejects(with(GgufType::kUint32, le<uint32_t>(1u << 21)), ErrorCode::kCorrupt, "1048576"));
  EXPECT_TRUE(rejects(with(GgufType::kUint64, le<uint64_t>(32)), ErrorCode::kCorrupt, "uint64; expected uint32"));
}

TEST(GgufReader, AcceptsAnyAlignedOrderAndGaps) {
  GgufBuilder b;
  b.info("second", {8}, 0, 64).info("first", {8}, 0, 0);
  b.data = std::string(32, 'a') + std::string(32, '-') + std::string(32, 'b');
  const std::string bytes = b.build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  char c = 0;
  ASSERT_TRUE(file->read(*file->find_tensor("second"), 0, std::as_writable_bytes(std::span(&c, 1))).ok());
  EXPECT_EQ(c, 'b');
}

TEST(GgufReader, AcceptsMissingPaddingAfterTheLastTensor) {
  const std::string bytes = GgufBuilder().tensor("a", {3}, DType::kF32, std::string(12, 'x')).build();
  EXPECT_EQ(bytes.size() % 32, 12u);
  EXPECT_TRUE(parse(bytes).ok());
}

TEST(GgufReader, AcceptsTypesThatGlimpseCannotMultiply) {
  const std::string bytes = GgufBuilder().tensor("a", {256}, DType::kIQ2_XXS, std::string(66, 'x')).build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->tensors()[0].describe(), "iq2_xxs (256)");
}

TEST(GgufReader, RejectsBadVersions) {
  GgufBuilder b = sample();
  b.version = 0;
  EXPECT_TRUE(rejects(b, ErrorCode::kCorrupt, "version 0"));
  b.version = 1;
  EXPECT_TRUE(rejects(b, ErrorCode::kUnsupported, "version 1"));
  b.version = 4;
  EXPECT_TRUE(rejects(b, ErrorCode::kUnsupported, "version 4"));
  b.version = 0x03000000;
  EXPECT_TRUE(rejects(b, ErrorCode::kUnsupported, "big-endian"));
}

TEST(GgufReader, RejectsABigEndianFileOfGgufPy) {
  const auto file = GgufFile::open(fixture("big_endian.gguf"));
  EXPECT_TRUE(fails(file, ErrorCode::kUnsupported, "big-endian"));
}

TEST(GgufReader, ReadsFilesOfGgufPy) {
  const auto file = GgufFile::open(fixture("all_types.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->require_uint("scalar.uint64").value(), UINT64_MAX);
  EXPECT_EQ(file->int_array("scalar.int64").value(), std::vector<int64_t>{INT64_MIN});
  EXPECT_EQ(file->require_float("array.float32").value(), static_cast<double>(0.1f));
  EXPECT_EQ(file->require_float("scalar.float64").value(), 0.1);
  EXPECT_EQ(file->require_string("scalar.string").value(), "text");
  ASSERT_NE(file->find_tensor("q4_k"), nullptr);
  EXPECT_EQ(file->find_tensor("q4_k")->describe(), "q4_k (256, 1)");
  std::byte blocks[144];
  ASSERT_TRUE(file->read(*file->find_tensor("q4_k"), 0, blocks).ok());
  EXPECT_EQ(blocks[143], std::byte{143});
}

TEST(GgufReader, RejectsImpossibleCounts) {
  GgufBuilder b = sample();
  b.n_keys = uint64_t{1} << 63;
  EXPECT_TRUE(rejects(b, ErrorCode::kCorrupt, "key count is negative"));
  b.n_keys = 1000;
  EXPECT_TRUE(rejects(b, ErrorCode::kTruncated, "1000 keys"));
  b.n_keys.reset();
  b.n_tensors = UINT64_MAX;
  EXPECT_TRUE(rejects(b, ErrorCode::kCorrupt, "tensor count is negative (-1)"));
  b.n_tensors = uint64_t{1} << 40;
  EXPECT_TRUE(rejects(b, ErrorCode::kTruncated, "1099511627776 tensors"));
  // Plausible while the keys are unread, not after them.
  GgufBuilder late;
  late.text("general.name", std::string(500, 'x')).n_tensors = 20;
  EXPECT_TRUE(rejects(late, ErrorCode::kTruncated, "20 tensors"));
}

TEST(GgufReader, RejectsBadKeys) {
  EXPECT_TRUE(rejects(GgufBuilder().u32("", 1), ErrorCode::kCorrupt, "key 1 of 1 at offset 24 has an empty name"));
  EXPECT_TRUE(rejects(GgufBuilder().u32({"a\0b", 3}, 1), ErrorCode::kCorrupt, "'a\\x00b' contains a zero byte"));
  EXPECT_TRUE(rejects(GgufBuilder().u32("twice", 1).u32("twice", 2), ErrorCode::kCorrupt, "'twice' appears twice"));
  EXPECT_TRUE(rejects(GgufBuilder().raw_key(str("k") + le<uint32_t>(13) + le<uint32_t>(0)), ErrorCode::kCorrupt,
                      "value type 13"));
}

TEST(GgufReader, RejectsImpossibleStrings) {
  const auto with = [](uint64_t length) {
    return GgufBuilder().raw_key(str("k") + type_id(GgufType::kString) + le(length) + "abc");
  };
  EXPECT_TRUE(rejects(with(uint64_t{1} << 63), ErrorCode::kTooLarge, "9223372036854775808"));
  EXPECT_TRUE(rejects(with((uint64_t{1} << 30) + 1), ErrorCode::kTooLarge, "1073741825"));
  EXPECT_TRUE(rejects(with(4), ErrorCode::kTruncated, "a string of 4 bytes at offset 37, but only 3"));
  GgufBuilder key;
  key.raw_key(le(uint64_t{1} << 63) + std::string(20, 'x'));
  EXPECT_TRUE(rejects(key, ErrorCode::kTooLarge, "key 1 of 1"));
}

TEST(GgufReader, RejectsImpossibleArrays) {
  const auto with = [](GgufType type, uint64_t count) {
    return GgufBuilder().array("k", type, count, std::string(64, '\0'));
  };
  EXPECT_TRUE(rejects(with(GgufType::kUint8, uint64_t{1} << 40), ErrorCode::kTooLarge, "array of 1099511627776 uint8"));
  EXPECT_TRUE(rejects(with(GgufType::kUint8, UINT64_MAX), ErrorCode::kTooLarge, "'k'"));
  EXPECT_TRUE(rejects(with(GgufType::kUint8, 65), ErrorCode::kTruncated, "array of 65 uint8"));
  EXPECT_TRUE(rejects(with(GgufType::kFloat64, 9), ErrorCode::kTruncated, "array of 9 float64"));
  EXPECT_TRUE(rejects(with(GgufType::kString, 9), ErrorCode::kTruncated, "array of 9 string"));
  EXPECT_TRUE(parse(with(GgufType::kString, 8).build()).ok());
  EXPECT_TRUE(rejects(with(GgufType::kArray, 1), ErrorCode::kUnsupported, "array of arrays"));
  EXPECT_TRUE(rejects(GgufBuilder().array("k", static_cast<GgufType>(13), 1, "x"), ErrorCode::kCorrupt, "type 13"));
  GgufBuilder string_in_array;
  string_in_array.array("k", GgufType::kString, 2, str("a") + le<uint64_t>(99) + "b");
  EXPECT_TRUE(rejects(string_in_array, ErrorCode::kTruncated, "string 2 of 2"));
}

TEST(GgufReader, RejectsBadTensorNames) {
  const std::string data(32, '\0');
  const auto named = [&](const std::string& name) { return GgufBuilder().tensor(name, {8}, DType::kF32, data); };
  EXPECT_TRUE(parse(named(std::string(63, 'n')).build()).ok());
  EXPECT_TRUE(rejects(named(std::string(64, 'n')), ErrorCode::kCorrupt, "a name of 64 bytes; the limit is 63"));
  EXPECT_TRUE(rejects(named(""), ErrorCode::kCorrupt, "tensor 1 of 1 at offset 24 has an empty name"));
  EXPECT_TRUE(rejects(named({"a\0", 2}), ErrorCode::kCorrupt, "zero byte"));
  EXPECT_TRUE(
      rejects(named("x").tensor("x", {8}, DType::kF32, data), ErrorCode::kCorrupt, "'x' (at offset 57) appears"));
}

TEST(GgufReader, RejectsBadDimensions) {
  const auto with = [](const std::vector<uint64_t>& dims) { return GgufBuilder().info("t", dims, 0, 0); };
  const uint64_t big = uint64_t{1} << 32;
  EXPECT_TRUE(rejects(with({1, 1, 1, 1, 1}), ErrorCode::kCorrupt, "tensor 't' (at offset 24): 5 dimensions"));
  EXPECT_TRUE(rejects(with({8, static_cast<uint64_t>(-2)}), ErrorCode::kCorrupt, "dimension 1 is negative (-2)"));
  EXPECT_TRUE(rejects(with({big, big}), ErrorCode::kCorrupt, "overflows"));
  EXPECT_TRUE(rejects(with({0, big, big}), ErrorCode::kCorrupt, "overflows"));
  EXPECT_TRUE(rejects(with({uint64_t{1} << 62}), ErrorCode::kCorrupt, "size in bytes overflows"));
}

TEST(GgufReader, AcceptsZeroSizedTensors) {
  GgufBuilder b;
  b.info("empty", {0, 4}, 0, 0).info("empty too", {32, 0}, 8, 0).tensor("full", {8}, DType::kF32, std::string(32, 'x'));
  const std::string bytes = b.build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->tensors()[0].n_bytes, 0u);
  EXPECT_TRUE(file->read(file->tensors()[0], 0, {}).ok());
}

TEST(GgufReader, RejectsUnknownAndRemovedTypes) {
  const auto with = [](uint32_t type) { return GgufBuilder().info("blk.0.ffn_up.weight", {256}, type, 0); };
  EXPECT_TRUE(rejects(with(4), ErrorCode::kUnsupported, "Q4_2 (id 4) was removed"));
  EXPECT_TRUE(rejects(with(5), ErrorCode::kUnsupported, "Q4_3 (id 5) was removed"));
  EXPECT_TRUE(
      rejects(with(31), ErrorCode::kUnsupported, "Q4_0_4_4 (id 31) was removed from GGUF; download the plain Q4_0"));
  EXPECT_TRUE(rejects(with(32), ErrorCode::kUnsupported, "Q4_0_4_8"));
  EXPECT_TRUE(rejects(with(33), ErrorCode::kUnsupported, "Q4_0_8_8"));
  for (uint32_t id : {36u, 37u, 38u}) EXPECT_TRUE(rejects(with(id), ErrorCode::kUnsupported, "plain IQ4_NL"));
  for (uint32_t id : {43u, 1000u, UINT32_MAX}) {
    EXPECT_TRUE(rejects(with(id), ErrorCode::kUnsupported, "tensor 'blk.0.ffn_up.weight'"));
    EXPECT_TRUE(rejects(with(id), ErrorCode::kUnsupported, "id " + std::to_string(id) + " is unknown"));
  }
}

TEST(GgufReader, RejectsRowsThatAreNotWholeBlocks) {
  EXPECT_TRUE(rejects(GgufBuilder().info("t", {100}, 12, 0), ErrorCode::kCorrupt,
                      "rows of 100 elements are not whole Q4_K blocks of 256"));
}

TEST(GgufReader, RejectsMisplacedTensors) {
  const auto at = [](uint64_t offset) {
    GgufBuilder b;
    b.info("t", {8}, 0, offset).data = std::string(64, 'x');
    return b;
  };
  EXPECT_TRUE(parse(at(32).build()).ok());
  EXPECT_TRUE(rejects(at(4), ErrorCode::kCorrupt, "offset 4 is not a multiple of the alignment 32"));
  EXPECT_TRUE(rejects(at(UINT64_MAX - 31), ErrorCode::kCorrupt, "overflows"));
  EXPECT_TRUE(rejects(at(64), ErrorCode::kTruncated, "download it again"));
}

TEST(GgufReader, SaysHowMuchIsMissing) {
  GgufBuilder b;
  b.info("first", {8}, 0, 0).info("second", {1000000}, 0, 32).info("third", {1000000}, 0, 4000032);
  b.data = std::string(100, 'x');
  EXPECT_TRUE(rejects(b, ErrorCode::kTruncated, "tensor 'second' (f32 (1000000))"));
  EXPECT_TRUE(rejects(b, ErrorCode::kTruncated, "8.0 MB of at least 8.0 MB are missing"));
  EXPECT_TRUE(rejects(b, ErrorCode::kTruncated, "test.gguf: "));
}

TEST(GgufReader, RejectsOverlap) {
  GgufBuilder b;
  b.info("a", {16}, 0, 0).info("b", {8}, 0, 32).data = std::string(64, 'x');
  EXPECT_TRUE(rejects(b, ErrorCode::kCorrupt, "'a'"));
  EXPECT_TRUE(rejects(b, ErrorCode::kCorrupt, "overlap"));
  GgufBuilder same;
  same.info("a", {8}, 0, 0).info("b", {8}, 0, 0).data = std::string(32, 'x');
  EXPECT_TRUE(rejects(same, ErrorCode::kCorrupt, "overlap"));
}

TEST(GgufReader, NamesWhatAForeignFileIs) {
  const auto says = [](const std::string& bytes, const std::string& text) {
    return fails(parse(bytes), ErrorCode::kCorrupt, text);
  };
  EXPECT_TRUE(says("", "empty (0 bytes)"));
  EXPECT_TRUE(says("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"));
  EXPECT_TRUE(says("<!DOCTYPE html><html>", "HTML"));
  EXPECT_TRUE(says("\n  <html>", "HTML"));
  EXPECT_TRUE(says("{\"error\":\"Access to model is restricted\"}", "{\"error\":\"Access to model is restricted\"}"));
  EXPECT_TRUE(says("Entry not found", "'Entry not found'"));
  EXPECT_TRUE(says("tjgg" + le<uint32_t>(3), "old GGML"));
  EXPECT_TRUE(says({"PK\x03\x04\0\0", 6}, "PyTorch"));
  EXPECT_TRUE(says(le<uint64_t>(1000) + "{\"__metadata__\"", "safetensors"));
  EXPECT_TRUE(says(std::string(1000, '\0'), "zero bytes"));
  EXPECT_TRUE(
      says("\x7f"
           "ELF\x02\x01\x01",
           "starts with '\\x7fELF'"));
  EXPECT_TRUE(says("GGML", "'GGML'"));
}

TEST(GgufReader, EscapesWhatTheFileSays) {
  EXPECT_TRUE(rejects(GgufBuilder().u32("\x1b[31m", 1).u32("\x1b[31m", 2), ErrorCode::kCorrupt, "'\\x1b[31m'"));
}

TEST(GgufReader, RefusesAShardInMemory) {
  EXPECT_TRUE(rejects(GgufBuilder().u32("split.count", 2), ErrorCode::kUnsupported, "one of 2 shards"));
  EXPECT_TRUE(parse(GgufBuilder().u32("split.count", 1).build()).ok());
}

}  // namespace
}  // namespace glimpse
