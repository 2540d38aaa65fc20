// Files that glimpse writes: byte for byte as gguf-py writes them.
#include "loaders/gguf/gguf_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "loaders/gguf/gguf_check.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;
constexpr auto kRefuse = AtomicFileWriter::Existing::kRefuse;
constexpr auto kReplace = AtomicFileWriter::Existing::kReplace;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class GgufWriterTest : public GgufFolderTest {
 protected:
  // Copies every key and tensor of a file through the writer, in pieces of `step` bytes.
  Status copy(const GgufFile& from, const std::string& to, size_t step) {
    GgufWriter writer;
    for (const std::string& key : from.keys()) writer.add_value(key, *from.find(key));
    for (const GgufTensor& tensor : from.tensors()) {
      writer.declare_tensor(tensor.name, tensor.type, {tensor.dims, tensor.dims + std::max(tensor.n_dims, 1u)});
    }
    GLIMPSE_TRY(writer.begin(to, kRefuse));
    for (const GgufTensor& tensor : from.tensors()) {
      for (uint64_t offset = 0; offset < tensor.n_bytes; offset += step) {
        std::vector<std::byte> piece(std::min<uint64_t>(step, tensor.n_bytes - offset));
        GLIMPSE_TRY(from.read(tensor, offset, piece));
        GLIMPSE_TRY(writer.append(piece));
      }
    }
    return writer.commit();
  }
};

// The same content as make_fixtures.py gives gguf-py for reference.gguf.
TEST_F(GgufWriterTest, WritesTheBytesOfGgufPy) {
  GgufWriter writer;
  writer.add_string("general.architecture", "qwen2vl");
  writer.add_string("general.name",
                    "Tiny m\xc3\xb6"
                    "del");
  writer.add_uint32("qwen2vl.block_count", 28);
  writer.add_int32("test.int32", -5);
  writer.add_uint64("test.uint64", uint64_t{1} << 40);
  writer.add_float32("qwen2vl.attention.layer_norm_rms_epsilon", 1e-6f);
  writer.add_bool("clip.has_vision_encoder", true);
  writer.add_bool("test.false", false);
  writer.add_int32_array("qwen2vl.rope.dimension_sections", {16, 24, 24, 0});
  writer.add_float32_array("clip.vision.image_mean", {0.5f, 0.25f, 0.125f});
  writer.add_bool_array("clip.vision.is_deepstack_layers", {true, false, true});
  writer.add_string_array("tokenizer.ggml.tokens", {"!", "\"", "\xc4\xa0the"});
  writer.add_string("test.empty_string", "");
  writer.add_int32_array("test.empty_array", {});
  std::string f32, f16, q8(2 * 34, '\0');
  for (int i = 0; i < 6; ++i) f32 += le(static_cast<float>(i));
  for (int bits : {0x3c00, 0xc000, 0x3800}) f16 += le(static_cast<uint16_t>(bits));
  for (size_t i = 0; i < q8.size(); ++i) q8[i] = static_cast<char>(i);
  writer.declare_tensor("f32", DType::kF32, {3, 2});
  writer.declare_tensor("f16", DType::kF16, {3});
  writer.declare_tensor("q8_0", DType::kQ8_0, {32, 2, 1});
  ASSERT_TRUE(writer.begin(path("out.gguf"), kRefuse).ok());
  for (const std::string& data : {f32, f16, q8}) ASSERT_TRUE(writer.append(as_bytes(data)).ok());
  const Status committed = writer.commit();
  ASSERT_TRUE(committed.ok()) << committed.error().message;
  const std::string expected = read_text(fixture("reference.gguf"));
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(read_text(path("out.gguf")), expected);
}

TEST_F(GgufWriterTest, CopiesFilesOfGgufPyUnchanged) {
  for (const char* name : {"reference.gguf", "all_types.gguf", "alignment.gguf", "keys_only.gguf"}) {
    for (size_t step : {size_t{1}, size_t{7}, size_t{4096}}) {
      const auto file = GgufFile::open(fixture(name));
      ASSERT_TRUE(file.ok()) << file.error().message;
      std::filesystem::remove(path("copy.gguf"));
      const Status copied = copy(file.value(), path("copy.gguf"), step);
      ASSERT_TRUE(copied.ok()) << copied.error().message;
      EXPECT_EQ(read_text(path("copy.gguf")), read_text(fixture(name))) << name;
    }
  }
}

TEST_F(GgufWriterTest, CopiesEveryValueType) {
  const std::string bytes = sample().build();
  const auto file = parse(bytes);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_TRUE(copy(file.value(), path("copy.gguf"), 16).ok());
  const auto again = GgufFile::open(path("copy.gguf"));
  ASSERT_TRUE(again.ok()) << again.error().message;
  ASSERT_EQ(again->keys(), file->keys());
  for (const std::string& key : file->keys()) {
    EXPECT_EQ(again->find(key)->type, file->find(key)->type) << key;
    EXPECT_EQ(again->find(key)->element_type, file->find(key)->element_type) << key;
    EXPECT_EQ(again->find(key)->data, file->find(key)->data) << key;
  }
  EXPECT_EQ(again->tensors().size(), file->tensors().size());
}

TEST_F(GgufWriterTest, WhatItWritesHasNoLayoutFindings) {
  const auto file = GgufFile::open(fixture("reference.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_TRUE(check_gguf(file.value()).empty());
}

TEST_F(GgufWriterTest, SetsTheAlignment) {
  GgufWriter writer;
  writer.add_uint32("general.alignment", 128);
  writer.declare_tensor("a", DType::kF32, {1});
  writer.declare_tensor("b", DType::kF32, {1});
  ASSERT_TRUE(writer.begin(path("a.gguf"), kRefuse).ok());
  ASSERT_TRUE(writer.append(as_bytes(le(1.0f))).ok());
  ASSERT_TRUE(writer.append(as_bytes(le(2.0f))).ok());
  ASSERT_TRUE(writer.commit().ok());
  const auto file = GgufFile::open(path("a.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->n_bytes() % 128, 0u);
  EXPECT_EQ(file->tensors()[1].file_offset - file->tensors()[0].file_offset, 128u);
}

TEST_F(GgufWriterTest, WritesZeroSizedTensors) {
  GgufWriter writer;
  writer.declare_tensor("empty", DType::kF32, {0});
  writer.declare_tensor("full", DType::kF32, {1});
  writer.declare_tensor("empty at the end", DType::kF32, {4, 0});
  ASSERT_TRUE(writer.begin(path("a.gguf"), kRefuse).ok());
  ASSERT_TRUE(writer.append(as_bytes(le(1.0f))).ok());
  ASSERT_TRUE(writer.commit().ok());
  const auto file = GgufFile::open(path("a.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 3u);
}

TEST_F(GgufWriterTest, RefusesBadDeclarations) {
  const auto begin = [&](auto&& fill) {
    GgufWriter writer;
    fill(writer);
    const Status status = writer.begin(path("bad.gguf"), kReplace);
    EXPECT_EQ(n_files(), 0u);
    return status;
  };
  const auto tensor = [](const std::string& name, DType type, std::vector<uint64_t> dims) {
    return [=](GgufWriter& w) { w.declare_tensor(name, type, dims); };
  };
  const auto code = ErrorCode::kInvalidArgument;
  EXPECT_TRUE(
      fails(begin([](GgufWriter& w) { w.add_bool("k", true), w.add_uint32("k", 1); }), code, "'k' is added twice"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) { w.add_uint32("", 1); }), code, "a key without a name"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) { w.add_uint32({"a\0", 2}, 1); }), code, "zero byte"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) { w.add_uint32("general.alignment", 24); }), code, "power of two"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) { w.add_uint64("general.alignment", 32); }), code, "uint32"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) {
                      w.add_value("k", {GgufType::kUint8, {}, uint64_t{256}});
                    }),
                    code, "'k'"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) { w.add_value("k", {GgufType::kInt32, {}, 1.0}); }), code, "'k'"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) {
                      w.add_value("k", {GgufType::kInt32, {}, std::string("1")});
                    }),
                    code, "'k'"));
  EXPECT_TRUE(fails(begin([](GgufWriter& w) {
                      w.declare_tensor("t", DType::kF32, {1});
                      w.declare_tensor("t", DType::kF32, {1});
                    }),
                    code, "'t' is declared twice"));
  EXPECT_TRUE(fails(begin(tensor(std::string(64, 'x'), DType::kF32, {1})), code, "64 bytes"));
  EXPECT_TRUE(fails(begin(tensor("", DType::kF32, {1})), code, "a tensor without a name"));
  EXPECT_TRUE(fails(begin(tensor("t", DType::kQ4_K, {100})), code, "whole Q4_K blocks"));
  EXPECT_TRUE(fails(begin(tensor("t", DType::kF32, {})), code, "dimensions"));
  EXPECT_TRUE(fails(begin(tensor("t", DType::kF32, {1, 1, 1, 1, 1})), code, "5 dimensions"));
  EXPECT_TRUE(fails(begin(tensor("t", DType::kF32, {uint64_t{1} << 40, uint64_t{1} << 40})), code, "too large"));
  EXPECT_TRUE(fails(begin(tensor("t", static_cast<DType>(31), {32})), code, "unknown type"));
}

TEST_F(GgufWriterTest, UnfinishedFilesLeaveNothing) {
  {
    GgufWriter writer;
    writer.declare_tensor("t", DType::kF32, {2});
    ASSERT_TRUE(writer.begin(path("a.gguf"), kRefuse).ok());
    ASSERT_TRUE(writer.append(as_bytes(le(1.0f))).ok());
    EXPECT_TRUE(fails(writer.commit(), ErrorCode::kInternal, "4 of its 8 bytes"));
    EXPECT_FALSE(std::filesystem::exists(path("a.gguf")));
  }
  EXPECT_EQ(n_files(), 0u);
}

TEST_F(GgufWriterTest, RefusesTooManyBytes) {
  GgufWriter writer;
  writer.declare_tensor("t", DType::kF32, {1});
  ASSERT_TRUE(writer.begin(path("a.gguf"), kRefuse).ok());
  EXPECT_TRUE(
      fails(writer.append(as_bytes(le(1.0))), ErrorCode::kInternal, "'t': 8 bytes at 0, but it was declared with 4"));
  ASSERT_TRUE(writer.append(as_bytes(le(1.0f))).ok());
  EXPECT_TRUE(fails(writer.append(as_bytes("x")), ErrorCode::kInternal, "more than all declared"));
  EXPECT_TRUE(writer.commit().ok());
  EXPECT_TRUE(fails(writer.commit(), ErrorCode::kInternal, "without begin"));
}

TEST_F(GgufWriterTest, RefusesCallsOutOfOrder) {
  GgufWriter writer;
  EXPECT_TRUE(fails(writer.append(as_bytes("x")), ErrorCode::kInternal, "append"));
  EXPECT_TRUE(fails(writer.commit(), ErrorCode::kInternal, "commit"));
  ASSERT_TRUE(writer.begin(path("a.gguf"), kRefuse).ok());
  EXPECT_TRUE(fails(writer.begin(path("b.gguf"), kRefuse), ErrorCode::kInternal, "twice"));
  writer.add_bool("late", true);
  EXPECT_TRUE(fails(writer.commit(), ErrorCode::kInternal, "'late' is added after"));
}

TEST_F(GgufWriterTest, KeepsAnExistingFileWhenTold) {
  save("a.gguf", "precious");
  GgufWriter writer;
  EXPECT_TRUE(fails(writer.begin(path("a.gguf"), kRefuse), ErrorCode::kInvalidArgument, "exists"));
  EXPECT_EQ(read_text(path("a.gguf")), "precious");
  GgufWriter replacing;
  ASSERT_TRUE(replacing.begin(path("a.gguf"), kReplace).ok());
  EXPECT_EQ(read_text(path("a.gguf")), "precious");  // until commit
  ASSERT_TRUE(replacing.commit().ok());
  EXPECT_EQ(read_text(path("a.gguf")).substr(0, 4), "GGUF");
}

TEST_F(GgufWriterTest, StreamsTensors) {
  constexpr uint64_t kBytes = uint64_t{96} << 20;
  GgufWriter writer;
  writer.declare_tensor("large", DType::kF32, {kBytes / 4});
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  ASSERT_TRUE(writer.begin(path("large.gguf"), kRefuse).ok());
  const std::vector<std::byte> piece(uint64_t{1} << 20);
  for (uint64_t done = 0; done < kBytes; done += piece.size()) ASSERT_TRUE(writer.append(piece).ok());
  ASSERT_TRUE(writer.commit().ok());
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 32 * 1024);  // kB
}

}  // namespace
}  // namespace glimpse
