// printf with types: format("%d of %s", n_bytes, name) takes any integer, any string, and is checked when compiled.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace glimpse {

/// One argument of format(): a view, made where the call is.
struct FormatArg {
  enum class Kind : uint8_t { kSigned, kUnsigned, kReal, kText };

  template <typename T>
  static constexpr Kind kind_of() {
    using Plain = std::remove_cvref_t<T>;
    if constexpr (std::is_floating_point_v<Plain>) {
      return Kind::kReal;
    } else if constexpr (std::is_integral_v<Plain> || std::is_enum_v<Plain>) {
      static_assert(std::is_convertible_v<Plain, long long>, "say which number or name of the enum class is meant");
      return std::is_signed_v<Plain> ? Kind::kSigned : Kind::kUnsigned;
    } else {
      static_assert(std::is_convertible_v<const T&, std::string_view>, "format() takes numbers and strings");
      return Kind::kText;
    }
  }

  template <typename T>
  FormatArg(const T& value) : kind(kind_of<T>()) {
    if constexpr (kind_of<T>() == Kind::kReal) {
      real = static_cast<double>(value);
    } else if constexpr (kind_of<T>() == Kind::kText) {
      text = value;
    } else {
      integer = static_cast<uint64_t>(value);
    }
  }

  Kind kind;
  uint64_t integer = 0;  // a signed one in two's complement
  double real = 0;
  std::string_view text;
};

/// One conversion of a format string: %[flags][width][.precision][length]letter, where the length (l, ll, z, ...) says
/// nothing that the argument's type does not. No '*'.
struct FormatSpec {
  std::string_view flags_and_width;
  int precision = -1;  // -1: none
  char letter = 0;     // 0: malformed
  size_t length = 0;   // characters after the '%'

  static constexpr FormatSpec parse(std::string_view text) {
    FormatSpec spec;
    size_t i = 0;
    const auto take = [&](std::string_view set) {
      const size_t begin = i;
      while (i < text.size() && set.find(text[i]) != std::string_view::npos) ++i;
      return text.substr(begin, i - begin);
    };
    take("-+ #0");
    take("0123456789");
    spec.flags_and_width = text.substr(0, i);
    if (i < text.size() && text[i] == '.') {
      ++i;
      spec.precision = 0;
      for (const char digit : take("0123456789")) spec.precision = spec.precision * 10 + (digit - '0');
    }
    take("hljzt");
    if (i == text.size() || spec.flags_and_width.size() > 8 || spec.precision > 99) return spec;
    spec.letter = text[i];
    spec.length = i + 1;
    return spec;
  }

  constexpr bool takes(FormatArg::Kind kind) const {
    const auto one_of = [this](std::string_view letters) { return letters.find(letter) != std::string_view::npos; };
    if (letter == 0) return false;
    if (kind == FormatArg::Kind::kReal) return one_of("aefgEG");
    if (kind == FormatArg::Kind::kText) return letter == 's';
    return one_of("dicu") || (kind == FormatArg::Kind::kUnsigned && one_of("xXo"));
  }
};

/// A format string whose conversions fit arguments of types Args; anything else does not compile.
template <typename... Args>
struct FormatString {
  template <size_t n>
  consteval FormatString(const char (&literal)[n]) : text(literal, n - 1) {
    constexpr std::array<FormatArg::Kind, sizeof...(Args) + 1> kinds{FormatArg::kind_of<Args>()...};
    size_t used = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') continue;
      if (i + 1 < text.size() && text[i + 1] == '%') {
        ++i;
        continue;
      }
      const FormatSpec spec = FormatSpec::parse(text.substr(i + 1));
      if (used == sizeof...(Args)) throw "more conversions than arguments";
      if (!spec.takes(kinds[used++])) throw "a conversion that does not fit its argument";
      i += spec.length;
    }
    if (used != sizeof...(Args)) throw "more arguments than conversions";
  }

  std::string_view text;
};

/// Precondition: the conversions of text fit the arguments; FormatString is how to know. Throws std::bad_alloc.
std::string format_list(std::string_view text, std::span<const FormatArg> args);

/// printf into a std::string: %d for any integer, %s for any string, %g and the like for any real.
template <typename... Args>
std::string format(FormatString<std::type_identity_t<Args>...> text, const Args&... args) {
  if constexpr (sizeof...(Args) == 0) {
    return format_list(text.text, {});
  } else {
    const FormatArg list[] = {FormatArg(args)...};
    return format_list(text.text, list);
  }
}

}  // namespace glimpse
