// Rows and files of a batch without a model: CSV, JSON Lines, lines of output, and the journal cut at every byte.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/cli/process.h"
#include "tools/batch/csv.h"
#include "tools/batch/output.h"
#include "tools/batch/row.h"

namespace glimpse::cli_test {
namespace {

using namespace batch;
using testing::ElementsAre;
using testing::HasSubstr;
using Fields = std::vector<std::string>;

std::vector<CsvReader::Record> csv(const std::string& text, char delimiter = ',') {
  const auto lines = LineReader::of_text(text);
  CsvReader reader(*lines, delimiter);
  std::vector<CsvReader::Record> records;
  for (CsvReader::Record record; reader.next(record).value();) records.push_back(record);
  return records;
}
std::vector<Fields> fields(const std::string& text, char delimiter = ',') {
  std::vector<Fields> all;
  for (const CsvReader::Record& record : csv(text, delimiter)) {
    EXPECT_EQ(record.problem, "") << text;
    all.push_back(record.fields);
  }
  return all;
}

TEST(BatchCsv, ReadsWhatRfc4180Says) {
  EXPECT_THAT(fields("a,b\r\nc,d\r\n"), ElementsAre(Fields{"a", "b"}, Fields{"c", "d"}));
  EXPECT_THAT(fields("a,b\nc,d"), ElementsAre(Fields{"a", "b"}, Fields{"c", "d"}));
  EXPECT_THAT(fields("\"a,1\",\"b\"\"c\",\"d\r\ne\n\nf\"\n"), ElementsAre(Fields{"a,1", "b\"c", "d\r\ne\n\nf"}));
  EXPECT_THAT(fields(",\n,,\n\n\"\"\n"), ElementsAre(Fields{"", ""}, Fields{"", "", ""}, Fields{""}));
  EXPECT_THAT(fields(" a , b \n"), ElementsAre(Fields{" a ", " b "}));
  EXPECT_THAT(fields("a;\"b;c\"\n", ';'), ElementsAre(Fields{"a", "b;c"}));
  EXPECT_THAT(fields("\xEF\xBB\xBF"
                     "a,b\n"),
              ElementsAre(Fields{"a", "b"}));
  EXPECT_THAT(fields(""), ElementsAre());
}

TEST(BatchCsv, GoesOnBehindABadRecord) {
  const auto records = csv("a\"b,c\n\"d\"e,f\ng,h\n\"i,j\nk");
  ASSERT_EQ(records.size(), 4u);
  EXPECT_THAT(records[0].problem, HasSubstr("quote inside"));
  EXPECT_THAT(records[1].problem, HasSubstr("after the quote"));
  EXPECT_EQ(records[2].problem, "");
  EXPECT_EQ(records[2].line, 3);
  EXPECT_THAT(records[3].problem, HasSubstr("no end"));
}

TEST(BatchCsv, FieldsComeBackAsTheyWere) {
  for (const std::string text :
       {"", "a", " a", "a,b", "\"", "a\"\"b", "a\nb", "a\r\nb\r", "\r", ",", "\"\"\"", "a\\"}) {
    EXPECT_THAT(fields(csv_field(text) + "," + csv_field(text) + ",x\n"), ElementsAre(Fields{text, text, "x"}));
  }
}

TEST(BatchLines, TooLongOnesAreCutAndTheNextIsRead) {
  const auto lines = LineReader::of_text(std::string(kMaxLineBytes + 5, 'x') + "\nshort\r\n");
  std::string line;
  bool cut = false;
  ASSERT_TRUE(lines->next(line, cut).value());
  EXPECT_TRUE(cut);
  EXPECT_EQ(line.size(), kMaxLineBytes);
  ASSERT_TRUE(lines->next(line, cut).value());
  EXPECT_FALSE(cut);
  EXPECT_EQ(without_line_end(line), "short");
  EXPECT_FALSE(lines->next(line, cut).value());
}

TEST(BatchRows, CsvColumnsAreFoundByTheirNames) {
  InputOptions options;
  options.image_root = "/root";
  const auto rows = csv_rows(
      LineReader::of_text("image_2,prompt,id,image,other\n/b.png,\"x, y\",9,a.png,z\n,,,c.png,\na,b\n"), options);
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  Row row;
  ASSERT_TRUE(rows.value()->next(row).value());
  EXPECT_EQ(row.problem, "");
  ASSERT_EQ(row.pictures.size(), 2u);
  EXPECT_EQ(row.pictures[0].path, "/b.png");
  EXPECT_EQ(row.pictures[1].path, "/root/a.png");
  EXPECT_EQ(row.pictures[1].given, "a.png");
  EXPECT_EQ(row.prompt, "x, y");
  EXPECT_EQ(row.id, "\"9\"");
  ASSERT_TRUE(rows.value()->next(row).value());
  EXPECT_EQ(row.prompt, std::nullopt);
  EXPECT_EQ(row.id, "");
  ASSERT_TRUE(rows.value()->next(row).value());
  EXPECT_THAT(row.problem, HasSubstr("line 4: it has 2 fields, the first line has 5"));
  EXPECT_FALSE(rows.value()->next(row).value());
}

// A row of a megabyte could be a value in millions of others, or a million values of a byte each.
TEST(BatchRows, JsonOfTooManyValuesIsTheRowsProblem) {
  const std::string text = std::string(100000, '[') + "\n{\"prompt\": \"a\", \"x\": [0" + [] {
    std::string more;
    for (int i = 0; i < (1 << 20); ++i) more += ",0";
    return more;
  }() + "]}\n{\"prompt\": \"b\", \"x\": [[1, 2], {}]}\n";
  const auto rows = json_rows(LineReader::of_text(text), {});
  Row row;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(rows->next(row).value());
    EXPECT_THAT(row.problem, HasSubstr("more than 1048576 values, or more than 64 in one another"));
  }
  ASSERT_TRUE(rows->next(row).value());
  EXPECT_EQ(row.problem, "");
  EXPECT_EQ(row.prompt, "b");
  EXPECT_FALSE(rows->next(row).value());
}

TEST(BatchOutput, ATableHasOneLineForEachRow) {
  Outcome outcome;
  outcome.names = {"a|b.png", "c\n.png"};
  outcome.text = "one\ntwo\x1b[31m | three";
  EXPECT_EQ(output_line(outcome, OutputFormat::kTable, false), "a\\|b.png, c\\n.png | one\\ntwo\\x1b[31m | three\n");
  outcome.error = "no";
  outcome.index = 7;
  EXPECT_EQ(output_line(outcome, OutputFormat::kTable, true), "7 | a\\|b.png, c\\n.png | error: no\n");
}

// New files: some systems wait for the disk when an old one is emptied and written.
void lay(const ScratchDir& dir, const std::string& text, const std::string& journal) {
  std::filesystem::remove(dir.file("out"));
  std::filesystem::remove(dir.file("out.journal"));
  dir.write("out", text);
  dir.write("out.journal", journal);
}

// Whatever the two files were cut to when the process died, and in whatever order they reached the disk.
TEST(BatchJournal, CutAtEveryByteItGoesOnToTheSameFile) {
  const ScratchDir dir;
  const std::vector<std::string> lines = {"first\n", "second line\n", "3\n"};
  const std::string header = "head\n", path = dir.file("out");
  const auto open = [&](OutputFile::Existing existing) { return OutputFile::open(path, header, 99, existing); };
  const auto append = [&](OutputFile& out, size_t i) { return out.append(i, 100 + i, i == 1, lines[i]).ok(); };
  {
    auto out = open(OutputFile::Existing::kRefuse);
    ASSERT_TRUE(out.ok()) << out.error().message;
    for (size_t i = 0; i < lines.size(); ++i) ASSERT_TRUE(append(*out.value(), i));
    EXPECT_EQ(open(OutputFile::Existing::kResume).error().code, ErrorCode::kBusy);
    ASSERT_TRUE(out.value()->finish().ok());
  }
  EXPECT_FALSE(open(OutputFile::Existing::kRefuse).ok());
  const std::string whole = read_all(path), journal = read_all(path + ".journal");
  EXPECT_EQ(whole, "head\nfirst\nsecond line\n3\n");
  for (size_t n = 0; n <= whole.size(); ++n) {
    for (size_t k = 0; k <= journal.size(); ++k) {
      const bool begins_anew = n < header.size() || k < 32;  // which waits for the disk: a few of them
      if (begins_anew && k % 31 != 1) continue;
      lay(dir, whole.substr(0, n), journal.substr(0, k));
      auto out = open(OutputFile::Existing::kResume);
      if (k < 32 && n > 0) {  // nothing is written before the journal's head
        ASSERT_FALSE(out.ok());
        continue;
      }
      ASSERT_TRUE(out.ok()) << n << " " << k << out.error().message;
      const auto finished = out.value()->finished();
      for (size_t i = 0; i < finished.size(); ++i) {
        ASSERT_EQ(finished[i].index, i);
        ASSERT_EQ(finished[i].key, 100 + i);
        ASSERT_EQ(finished[i].failed, i == 1);
      }
      const size_t lines_there = n < 11 ? 0 : n < 23 ? 1 : n < 25 ? 2 : 3, records = k < 32 ? 0 : (k - 32) / 32;
      ASSERT_EQ(finished.size(), std::min(lines_there, records)) << n << " " << k;
      for (size_t i = finished.size(); i < lines.size(); ++i) ASSERT_TRUE(append(*out.value(), i));
      ASSERT_EQ(read_all(path), whole);
      ASSERT_EQ(read_all(path + ".journal"), journal);
    }
  }
}

// What lies where the journal will be is somebody's, unless it is one.
TEST(BatchJournal, AnotherFileOfItsNameIsNotOverwritten) {
  const ScratchDir dir;
  const std::string path = dir.file("out");
  for (const char* const there : {"notes of last year, which nobody else has\n", "note"}) {
    dir.write("out.journal", there);
    for (const auto existing : {OutputFile::Existing::kRefuse, OutputFile::Existing::kReplace}) {
      std::filesystem::remove(path);
      const auto out = OutputFile::open(path, "", 5, existing);
      ASSERT_FALSE(out.ok());
      EXPECT_THAT(out.error().message, HasSubstr("no journal of a batch"));
      EXPECT_EQ(read_all(path + ".journal"), there);
    }
  }
}

// A byte that changed, of a line or of a record, ends what is believed.
TEST(BatchJournal, BelievesNothingThatWasChanged) {
  const ScratchDir dir;
  const std::string path = dir.file("out");
  {
    auto out = OutputFile::open(path, "", 5, OutputFile::Existing::kRefuse);
    for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(out.value()->append(i, i, false, "line\n").ok());
  }
  const std::string whole = read_all(path), journal = read_all(path + ".journal");
  for (size_t at = 0; at < whole.size() + journal.size(); ++at) {
    std::string text = whole, records = journal;
    (at < whole.size() ? text[at] : records[at - whole.size()]) ^= 4;
    lay(dir, text, records);
    auto out = OutputFile::open(path, "", 5, OutputFile::Existing::kResume);
    if (at >= whole.size() && at < whole.size() + 32) {
      EXPECT_FALSE(out.ok()) << at;  // another file, or of other options
      continue;
    }
    ASSERT_TRUE(out.ok()) << at << out.error().message;
    EXPECT_EQ(out.value()->finished().size(), at < whole.size() ? at / 5 : (at - whole.size() - 32) / 32) << at;
  }
  EXPECT_EQ(OutputFile::open(path, "", 6, OutputFile::Existing::kResume).error().code, ErrorCode::kMismatch);
}

}  // namespace
}  // namespace glimpse::cli_test
