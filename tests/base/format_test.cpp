#include "engine/base/format.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <limits>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace glimpse {
namespace {

TEST(Format, TakesEveryIntegerByItsOwnWidth) {
  EXPECT_EQ(format("%d %d %d", int8_t{-7}, uint16_t{65535}, int64_t{-1} << 62), "-7 65535 -4611686018427387904");
  EXPECT_EQ(format("%d", std::numeric_limits<uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(format("%u", -3), "-3");
  EXPECT_EQ(format("%lld %zu %u", 1, size_t{2}, int64_t{3}), "1 2 3");  // a length says nothing new
  EXPECT_EQ(format("%05d|%-5d|%+d|%08x|%X", 42, 42, 42, 0xBEEFu, uint8_t{255}), "00042|42   |+42|0000beef|FF");
  EXPECT_EQ(format("%c%d", 'x', true), "x1");
}

TEST(Format, TakesEveryString) {
  const std::string owned = "owned";
  const char array[8] = "array";
  EXPECT_EQ(format("%s %s %s %s", owned, std::string_view("view"), "literal", array), "owned view literal array");
  EXPECT_EQ(format("[%8s][%-8s][%.3s]", owned, owned, owned), "[   owned][owned   ][own]");
  EXPECT_EQ(format("%s", std::string(100000, 'x')), std::string(100000, 'x'));
  EXPECT_EQ(format("%s", std::string_view("a\0b", 3)), std::string("a\0b", 3));
}

TEST(Format, WritesRealsAsPrintfDoes) {
  EXPECT_EQ(format("%.0f %.2f %g %9.3f %10.2e", 2.5f, 1.005, 1e300, -1.5, 12345.678),
            "2 1.00 1e+300    -1.500   1.23e+04");
  char want[512];
  std::snprintf(want, sizeof want, "%.3f", 1e300);  // longer than any buffer on the way
  EXPECT_EQ(format("%.3f", 1e300), want);
}

TEST(Format, KeepsPercentSignsAndText) {
  EXPECT_EQ(format("100%% of %d%%", 5), "100% of 5%");
  EXPECT_EQ(format(""), "");
  EXPECT_EQ(format("%%"), "%");
}

TEST(Format, MakesTheMessagesOfErrors) {
  const Error error = make_error(ErrorCode::kTooLarge, "%s has %d bytes", std::string("a"), uint64_t{1} << 40);
  EXPECT_EQ(error.code, ErrorCode::kTooLarge);
  EXPECT_EQ(error.message, "a has 1099511627776 bytes");
}

}  // namespace
}  // namespace glimpse
