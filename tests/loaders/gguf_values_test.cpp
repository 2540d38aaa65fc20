// Typed lookups.
#include <gtest/gtest.h>

#include <cmath>

#include "loaders/gguf/gguf.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse {
namespace {

using namespace gguf_test;

class GgufValues : public testing::Test {
 protected:
  void SetUp() override {
    GgufBuilder b = sample();
    b.key("zero", GgufType::kInt16, le<int16_t>(0)).key("one", GgufType::kUint8, le<uint8_t>(1));
    b.key("false", GgufType::kBool, le<uint8_t>(0)).array("true", GgufType::kBool, 1, "\1");
    b.array("same", GgufType::kInt32, 3, le<int32_t>(28) + le<int32_t>(28) + le<int32_t>(28));
    b.array("floats", GgufType::kFloat32, 2, le(0.5f) + le(0.5f)).array("nan", GgufType::kFloat32, 1, le(NAN));
    bytes_ = b.build();
    auto parsed = parse(bytes_);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    file_.emplace(std::move(parsed).value());
  }
  std::string bytes_;
  std::optional<GgufFile> file_;
};

TEST_F(GgufValues, AnyIntegerWidthIsAnUnsignedInteger) {
  const auto is = [&](const char* key, uint64_t expected) {
    const auto value = file_->optional_uint(key);
    ASSERT_TRUE(value.ok()) << value.error().message;
    EXPECT_EQ(value.value(), std::optional(expected)) << key;
    EXPECT_EQ(file_->require_uint(key).value(), expected);
  };
  is("a.u8", 200);
  is("a.u16", 60000);
  is("a.u32", 4000000000u);
  is("a.u64", uint64_t{1} << 63);
  is("zero", 0);
  is("b.u16", 65535);  // one value
  is("b.u32", 5);      // all the same
  is("same", 28);
  EXPECT_EQ(file_->optional_uint("absent").value(), std::nullopt);
  EXPECT_EQ(file_->optional_uint("b.empty").value(), std::nullopt);
}

TEST_F(GgufValues, WrongTypesNameKeyExpectedAndFound) {
  const auto refused = [&](auto read, std::initializer_list<std::pair<const char*, const char*>> cases) {
    for (const auto& [key, words] : cases) EXPECT_TRUE(fails(read(key), ErrorCode::kCorrupt, words)) << key;
  };
  refused([&](const char* key) { return file_->optional_uint(key); },
          {{"a.i8", "test.gguf: key 'a.i8' is -3; expected an unsigned integer"},
           {"a.f32", "key 'a.f32' is float32; expected an unsigned integer"},
           {"a.bool", "is bool"},
           {"b.i32", "is array of 4 int32"},
           {"general.architecture", "is string"}});
  refused([&](const char* key) { return file_->optional_float(key); },
          {{"b.string", "is array of 3 string; expected a number"}, {"a.bool", "is bool"}});
  refused([&](const char* key) { return file_->optional_bool(key); }, {{"a.u8", "expected a bool"}});
  refused([&](const char* key) { return file_->optional_string(key); }, {{"a.u8", "is uint8; expected a string"}});
  refused([&](const char* key) { return file_->int_array(key); },
          {{"b.f32", "array of integers"}, {"b.u64", "18446744073709551615"}});
  refused([&](const char* key) { return file_->float_array(key); },
          {{"b.bool", "array of numbers"}, {"b.string", "array of numbers"}});
}

TEST_F(GgufValues, MissingKeysAreNamed) {
  EXPECT_TRUE(fails(file_->require_uint("qwen2vl.block_count"), ErrorCode::kNotFound,
                    "test.gguf: key 'qwen2vl.block_count' is missing; expected an unsigned integer"));
  EXPECT_TRUE(fails(file_->require_float("x"), ErrorCode::kNotFound, "'x' is missing"));
  EXPECT_TRUE(fails(file_->require_string("x"), ErrorCode::kNotFound, "'x' is missing"));
}

TEST_F(GgufValues, FloatsComeFromAnyNumber) {
  EXPECT_EQ(file_->require_float("a.f32").value(), 1.5);
  EXPECT_EQ(file_->require_float("a.f64").value(), -0.1);
  EXPECT_EQ(file_->require_float("a.i16").value(), -300.0);
  EXPECT_EQ(file_->require_float("a.u32").value(), 4e9);
  EXPECT_EQ(file_->require_float("floats").value(), 0.5);
  EXPECT_TRUE(std::isnan(file_->require_float("nan").value()));
  EXPECT_EQ(file_->optional_float("absent").value(), std::nullopt);
}

TEST_F(GgufValues, BoolsComeFromBoolsAndFromZeroAndOne) {
  EXPECT_EQ(file_->optional_bool("a.bool").value(), std::optional(true));
  EXPECT_EQ(file_->optional_bool("false").value(), std::optional(false));
  EXPECT_EQ(file_->optional_bool("true").value(), std::optional(true));
  EXPECT_EQ(file_->optional_bool("zero").value(), std::optional(false));
  EXPECT_EQ(file_->optional_bool("one").value(), std::optional(true));
  EXPECT_EQ(file_->optional_bool("absent").value(), std::nullopt);
}

TEST_F(GgufValues, StringsAndArrays) {
  EXPECT_EQ(file_->require_string("general.architecture").value(), "test");
  EXPECT_EQ(file_->optional_string("absent").value(), std::nullopt);
  ASSERT_NE(file_->string_array("b.string"), nullptr);
  EXPECT_EQ(file_->string_array("b.string")->size(), 3u);
  EXPECT_EQ(file_->string_array("b.i32"), nullptr);
  EXPECT_EQ(file_->string_array("absent"), nullptr);
  EXPECT_EQ(file_->int_array("b.i32").value(), (std::vector<int64_t>{16, 24, 24, 0}));
  EXPECT_EQ(file_->int_array("b.u8").value(), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(file_->int_array("b.bool").value(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(file_->int_array("a.i8").value(), std::vector<int64_t>{-3});
  EXPECT_EQ(file_->int_array("a.u8").value(), std::vector<int64_t>{200});
  EXPECT_TRUE(file_->int_array("absent").value().empty());
  EXPECT_EQ(file_->float_array("b.f32").value(), (std::vector<double>{0.25, -2.0}));
  EXPECT_EQ(file_->float_array("b.i32").value(), (std::vector<double>{16, 24, 24, 0}));
  EXPECT_EQ(file_->float_array("a.f64").value(), std::vector<double>{-0.1});
  EXPECT_TRUE(file_->float_array("absent").value().empty());
}

}  // namespace
}  // namespace glimpse
