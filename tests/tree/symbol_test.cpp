// What the built library exports, and what it calls: its symbol tables are read with nm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

using testing::IsEmpty;

struct Symbol {
  std::string object;  // member of the archive, "" in the shared library
  std::string name;
  char type = 0;  // nm's letter
};

// One line of "nm -A -P": "lib.a[member.o]: name T value size" or "lib.so: name U".
bool parse_line(const std::string& line, Symbol* symbol) {
  static const std::regex kLine(R"(^[^\[]*?(?:\[([^\]]*)\])?: (\S+) (\S)(?: .*)?$)");
  std::smatch match;
  if (!std::regex_match(line, match, kLine)) return false;
  *symbol = {match[1].str(), match[2].str(), match[3].str()[0]};
  symbol->name = symbol->name.substr(0, symbol->name.find('@'));  // without its version
  return true;
}

std::vector<Symbol> read_symbols(const std::string& options, const std::string& file) {
  const std::string command = std::string(GLIMPSE_NM) + " -A -P " + options + " '" + file + "' 2>&1";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> buffer;
  for (size_t n; pipe != nullptr && (n = fread(buffer.data(), 1, buffer.size(), pipe.get())) > 0;) {
    text.append(buffer.data(), n);
  }
  std::vector<Symbol> symbols;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Symbol symbol;
    if (parse_line(line, &symbol)) symbols.push_back(symbol);
  }
  return symbols;
}

std::vector<std::string> complain(const std::vector<Symbol>& symbols, const std::function<bool(const Symbol&)>& wrong) {
  std::vector<std::string> found;
  for (const Symbol& symbol : symbols) {
    if (wrong(symbol)) found.push_back(symbol.object + ": " + symbol.name + " (" + symbol.type + ")");
  }
  return found;
}

bool is_undefined(const Symbol& symbol) {
  return symbol.type == 'U' || symbol.type == 'w' || symbol.type == 'v';
}

// What ends the process or writes to a stream. Allowed in spite of their family: snprintf and vsnprintf (they format
// messages into memory), write and pwrite (AtomicFileWriter, into files that the caller named), std::terminate and
// __cxa_pure_virtual (the compiler's own, in the tables of noexcept functions and abstract classes; not called by any
// input), __stack_chk_fail (likewise, where a distribution builds with stack protection).
bool is_forbidden(const std::string& name) {
  static const std::set<std::string> kNames = {
      // ends the process
      "abort", "exit", "_exit", "_Exit", "quick_exit", "at_quick_exit", "raise", "kill", "__assert_fail",
      "__assert_perror_fail", "__assert", "_ZSt20__glibcxx_assert_failPKciS0_S0_",
      // stdio to streams
      "printf", "vprintf", "fprintf", "vfprintf", "dprintf", "vdprintf", "puts", "putchar", "putc", "fputc", "fputs",
      "fwrite", "putchar_unlocked", "putc_unlocked", "fputs_unlocked", "fwrite_unlocked", "_IO_putc", "__printf_chk",
      "__vprintf_chk", "__fprintf_chk", "__vfprintf_chk", "__dprintf_chk", "__vdprintf_chk", "perror", "psignal",
      "stdout", "stderr", "err", "errx", "warn", "warnx", "error",
      // logs of the system
      "syslog", "vsyslog", "__syslog_chk", "__vsyslog_chk", "openlog",
      // C++ streams
      "_ZSt4cout", "_ZSt4cerr", "_ZSt4clog", "_ZSt5wcout", "_ZSt5wcerr", "_ZSt5wclog"};
  return kNames.count(name) > 0 || name.rfind("_ZNSt8ios_base4InitC", 0) == 0;
}

bool is_isa_object(const std::string& object) {
  static const std::regex kIsa("_(avx2|avxvnni|avx512|avx512vnni|avx512bf16)\\.cpp\\.(o|obj)$");
  return std::regex_search(object, kIsa);
}

class BuiltLibrary : public testing::Test {
 protected:
  void SetUp() override {
    if (GLIMPSE_SANITIZED) GTEST_SKIP() << "a sanitizer build: its run-time library brings symbols of its own";
  }
};

std::vector<Symbol> archive_symbols() {
  return read_symbols("", GLIMPSE_ARCHIVE);
}

TEST_F(BuiltLibrary, ArchiveCallsNothingThatEndsOrPrints) {
  const std::vector<Symbol> symbols = archive_symbols();
  ASSERT_GT(symbols.size(), 500u) << "nm read too little from " << GLIMPSE_ARCHIVE;
  EXPECT_THAT(complain(symbols, [](const Symbol& s) { return is_undefined(s) && is_forbidden(s.name); }), IsEmpty());
}

TEST_F(BuiltLibrary, IsaObjectsHaveNoWeakSymbols) {
  // The linker keeps one copy of a weak function: it could be the one compiled for AVX-512, for every caller.
  const std::vector<Symbol> symbols = archive_symbols();
  std::set<std::string> isa_objects;
  for (const Symbol& symbol : symbols) {
    if (is_isa_object(symbol.object)) isa_objects.insert(symbol.object);
  }
  ASSERT_GT(isa_objects.size(), 3u) << "no kernels found in " << GLIMPSE_ARCHIVE;
  EXPECT_THAT(complain(symbols,
                       [](const Symbol& s) {
                         return is_isa_object(s.object) && std::string("VvWwuC").find(s.type) != std::string::npos &&
                                !is_undefined(s);
                       }),
              IsEmpty());
}

TEST_F(BuiltLibrary, SharedObjectExportsThePublicFunctionsAlone) {
  if (std::string(GLIMPSE_SHARED).empty()) GTEST_SKIP() << "this build has no shared library";
  const std::vector<Symbol> exported = read_symbols("-D --defined-only", GLIMPSE_SHARED);
  ASSERT_FALSE(exported.empty()) << "nm read nothing from " << GLIMPSE_SHARED;
  EXPECT_THAT(complain(exported, [](const Symbol& s) { return s.name.rfind("glimpse_", 0) != 0; }), IsEmpty());
}

TEST_F(BuiltLibrary, SharedObjectExportsEveryFunctionOfTheHeader) {
  if (std::string(GLIMPSE_SHARED).empty()) GTEST_SKIP() << "this build has no shared library";
  std::set<std::string> exported;
  for (const Symbol& symbol : read_symbols("-D --defined-only", GLIMPSE_SHARED)) exported.insert(symbol.name);
  const std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(GLIMPSE_HEADER, "r"), fclose);
  ASSERT_NE(file, nullptr);
  std::string header(1 << 20, '\0');
  header.resize(fread(header.data(), 1, header.size(), file.get()));
  static const std::regex kDeclaration("GLIMPSE_API [^;(]*?(glimpse_[a-z0-9_]+)\\(");
  std::set<std::string> declared;
  for (std::sregex_iterator match(header.begin(), header.end(), kDeclaration), end; match != end; ++match) {
    declared.insert((*match)[1]);
  }
  ASSERT_GT(declared.size(), 25u);
  EXPECT_EQ(exported, declared);
}

TEST_F(BuiltLibrary, SharedObjectCallsNothingThatEndsOrPrints) {
  if (std::string(GLIMPSE_SHARED).empty()) GTEST_SKIP() << "this build has no shared library";
  const std::vector<Symbol> imported = read_symbols("-D --undefined-only", GLIMPSE_SHARED);
  ASSERT_GT(imported.size(), 50u) << "nm read too little from " << GLIMPSE_SHARED;
  // The static CUDA runtime brings calls of its own; that glimpse's objects call none of them, the archive shows.
  std::set<std::string> of_cuda;
  if (!std::string(GLIMPSE_CUDART).empty()) {
    for (const Symbol& symbol : read_symbols("--undefined-only", GLIMPSE_CUDART)) of_cuda.insert(symbol.name);
    ASSERT_GT(of_cuda.size(), 20u) << "nm read too little from " << GLIMPSE_CUDART;
  }
  EXPECT_THAT(complain(imported, [&](const Symbol& s) { return is_forbidden(s.name) && of_cuda.count(s.name) == 0; }),
              IsEmpty());
}

// The reading itself.

TEST(SymbolTables, ParsesArchiveAndSharedLines) {
  Symbol symbol;
  ASSERT_TRUE(parse_line("/a/libglimpse.a[norm_avx2.cpp.o]: _ZN7glimpse3fooEv W 0 1f", &symbol));
  EXPECT_EQ(symbol.object, "norm_avx2.cpp.o");
  EXPECT_EQ(symbol.name, "_ZN7glimpse3fooEv");
  EXPECT_EQ(symbol.type, 'W');
  EXPECT_TRUE(is_isa_object(symbol.object));
  ASSERT_TRUE(parse_line("/a/libglimpse.so: abort@GLIBC_2.2.5 U", &symbol));
  EXPECT_EQ(symbol.object, "");
  EXPECT_TRUE(is_undefined(symbol));
  EXPECT_TRUE(is_forbidden(symbol.name));
  EXPECT_FALSE(parse_line("", &symbol));
  EXPECT_FALSE(is_isa_object("attention_ref.cpp.o"));
  EXPECT_FALSE(is_forbidden("vsnprintf"));
}

}  // namespace
