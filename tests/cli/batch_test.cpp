// glimpse batch, with the demo model: what its rows say, what happens to bad ones, and what survives being killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/dialogue.h"
#include "tests/cli/process.h"
#include "tools/serve/base64.h"

namespace glimpse::cli_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const std::string kModels = GLIMPSE_SOURCE_DIR "/models/";
const std::string kTable = "image_name | result\n";

std::vector<std::string> batch(std::vector<std::string> more) {
  std::vector<std::string> all = {
      "batch", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj", kModels + "mmproj-demo-f16.gguf", "-t", "1", "-n", "24"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}
RunResult run_batch(std::vector<std::string> more, const RunSetup& setup = {}) {
  return run_glimpse(batch(std::move(more)), setup);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}
std::vector<json> rows_of(const std::string& text) {
  std::vector<json> rows;
  for (const std::string& line : lines_of(text)) rows.push_back(json::parse(line));
  return rows;
}

// n pictures of the held-out set, linked into a folder.
void add_pictures(const ScratchDir& dir, size_t n) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(kModels + "heldout")) {
    if (entry.path().extension() != ".json") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  ASSERT_GE(files.size(), n);
  const size_t step = files.size() / n;  // of all kinds
  for (size_t i = 0; i < n; ++i) {
    fs::create_symlink(files[i * step], dir.file(files[i * step].filename()));
  }
}

const char* kAsk = "Describe this image.";

TEST(Batch, ATableOfAFolderSaysWhatRunSaysAndABadPictureCostsOneRow) {
  const ScratchDir dir;
  add_pictures(dir, 4);
  dir.write("broken.png", read_all(kModels + "sample.png").substr(0, 500));
  dir.write("notes.doc", "no picture, and not called one");
  const RunResult result = run_batch({"-p", kAsk, dir.path()});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("1 of 5 rows failed"));
  std::string expected = kTable;
  for (const std::string& name : dir.list()) {
    if (name == "notes.doc" || name == "broken.png") continue;
    const RunResult one = run_glimpse({"run", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj",
                                       kModels + "mmproj-demo-f16.gguf", "-n", "24", "--image", dir.file(name), kAsk});
    expected += name + " | " + one.out;
  }
  std::string good;
  for (const std::string& line : lines_of(result.out)) {
    if (!line.starts_with("broken.png | error: ")) good += line + "\n";
  }
  EXPECT_EQ(good, expected);
  EXPECT_EQ(lines_of(result.out).size(), 6u);
}

TEST(Batch, RowsOfJsonHavePromptsPicturesAndNumbersOfTheirOwn) {
  const ScratchDir dir;
  add_pictures(dir, 2);
  const std::string a = dir.list()[0], b = dir.list()[1];
  const std::string rows = json{{"id", 7}, {"image", a}, {"prompt", "How many?"}}.dump() + "\r\n\n" +
                           json{{"id", "x\"y"}, {"images", {a, b}}, {"prompt", "Compare <image> and <image>."}}.dump() +
                           "\n" + json{{"prompt", "Hello"}, {"system", "Be brief."}}.dump() + "\n" +
                           json{{"image", b}}.dump();
  RunSetup setup;
  setup.input = "\xEF\xBB\xBF" + rows;
  const RunResult result = run_batch({"-", "-p", kAsk, "--image-root", dir.path(), "--output-format", "jsonl"}, setup);
  ASSERT_EQ(result.exit_code, 0) << result.err << result.out;
  const std::vector<json> said = rows_of(result.out);
  ASSERT_EQ(said.size(), 4u);
  EXPECT_EQ(said[0]["id"], 7);
  EXPECT_EQ(said[0]["image_name"], a);
  EXPECT_EQ(said[1]["id"], "x\"y");
  EXPECT_EQ(said[1]["image_name"], (json{a, b}));
  EXPECT_EQ(said[2]["image_name"], nullptr);
  EXPECT_FALSE(said[2].contains("id"));
  for (size_t i = 0; i < said.size(); ++i) {
    EXPECT_EQ(said[i]["index"], i);
    EXPECT_EQ(said[i]["error"], nullptr);
    EXPECT_TRUE(said[i]["result"].is_string());
    EXPECT_GT(said[i]["prompt_tokens"], 0);
  }
  const std::vector<std::string> alone = {"run",
                                          "-m",
                                          kModels + "demo-Q4_K_M.gguf",
                                          "--mmproj",
                                          kModels + "mmproj-demo-f16.gguf",
                                          "-n",
                                          "24",
                                          "--image",
                                          dir.file(a),
                                          "--image",
                                          dir.file(b),
                                          "Compare <image> and <image>."};
  EXPECT_EQ(run_glimpse(alone).out, said[1]["result"].get<std::string>() + "\n");
}

TEST(Batch, BadRowsSayWhatIsWrongAndCostNothingElse) {
  const ScratchDir dir;
  add_pictures(dir, 1);
  const std::string a = dir.file(dir.list()[0]);
  const std::vector<std::pair<std::string, std::string>> rows = {
      {json{{"image", a}}.dump(), ""},
      {"{\"image\": ", "no JSON"},
      {"[1]", "a row is a JSON object"},
      {"{}", "neither"},
      {json{{"image", 3}}.dump(), "neither a path nor a list"},
      {json{{"image", a}, {"prompt", 3}}.dump(), "no text"},
      {json{{"id", {1, 2}}, {"prompt", "x"}}.dump(), "\"id\" is neither"},
      {json{{"image", "/nowhere/x.png"}}.dump(), "/nowhere/x.png"},
      {json{{"image", dir.path()}}.dump(), "a directory"},
      {json{{"image", "data:image/png;base64,!!!!"}}.dump(), "base64"},
      {json{{"image", "data:image/png,abc"}}.dump(), "data: URL"},
      {json{{"image", "data:image/png;base64,aGVsbG8gd29ybGQ="}}.dump(), "glimpse reads JPEG"},
      {json{{"images", {a, a}}, {"prompt", "<image> alone"}}.dump(), "1 place for a picture"},
      {json{{"image", a}, {"images", {a}}}.dump(), "twice"},
      {std::string("{\"prompt\": \"a\xff\"}"), "no JSON"},
      {"{\"prompt\": \"a\\u0000b\"}", "zero byte"},
      {json{{"image", a}}.dump(), ""}};
  std::string text;
  for (const auto& [row, problem] : rows) text += row + "\n";
  const RunResult result =
      run_batch({dir.write("rows.jsonl", text), "-p", kAsk, "--output-format", "jsonl", "--parallel", "3"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  const std::vector<json> said = rows_of(result.out);
  ASSERT_EQ(said.size(), rows.size()) << result.out << result.err;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].second.empty()) {
      EXPECT_EQ(said[i]["error"], nullptr) << i;
      continue;
    }
    EXPECT_EQ(said[i]["result"], nullptr) << rows[i].first;
    ASSERT_TRUE(said[i]["error"].is_string()) << rows[i].first;
    EXPECT_THAT(said[i]["error"].get<std::string>(), HasSubstr(rows[i].second)) << rows[i].first;
  }
  EXPECT_EQ(said.front()["result"], said.back()["result"]);
}

TEST(Batch, VideosAreSeenAsRunSeesThem) {
  const ScratchDir dir;
  const std::string gif = GLIMPSE_TEST_DIR "/loaders/data/animation/changes.gif";
  const auto says = [](std::vector<std::string> more) {
    std::vector<std::string> all = {
        "run", "-m", kModels + "demo-Q4_K_M.gguf", "--mmproj", kModels + "mmproj-demo-f16.gguf", "-n", "24"};
    all.insert(all.end(), more.begin(), more.end());
    return run_glimpse(all);
  };
  const RunResult one = says({"--video", gif, "What happens?"});
  if (one.err.find("no GIF") != std::string::npos) GTEST_SKIP() << one.err;
  const std::string picture = kModels + "sample.png";
  const std::string both = says({"--video", gif, "--image", picture, "Compare <video> and <image>."}).out;
  fs::create_directory(dir.file("frames"));
  for (const char* name : {"frames/1.png", "frames/2.png"}) fs::create_symlink(picture, dir.file(name));
  const std::string frames = says({"--video", dir.file("frames"), "What?"}).out;
  const auto row = [](const json& object) { return object.dump() + "\n"; };
  const std::string url = "data:image/gif;base64," + serve::encode_base64(read_all(gif));
  const std::string rows = dir.write(
      "rows.jsonl", row({{"video", gif}, {"prompt", "What happens?"}}) +
                        row({{"videos", {gif}}, {"image", picture}, {"prompt", "Compare <video> and <image>."}}) +
                        row({{"video", url}, {"prompt", "What happens?"}}) +
                        row({{"video", dir.file("frames")}, {"prompt", "What?"}}) +
                        row({{"video", dir.file("none.mp4")}, {"prompt", "What?"}}));
  const RunResult result = run_batch({rows, "--output-format", "jsonl"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  const std::vector<json> lines = rows_of(result.out);
  ASSERT_EQ(lines.size(), 5u) << result.out;
  EXPECT_EQ(lines[0]["result"].get<std::string>() + "\n", one.out);
  EXPECT_EQ(lines[1]["result"].get<std::string>() + "\n", both);
  EXPECT_EQ(lines[2]["result"], lines[0]["result"]);
  EXPECT_EQ(lines[3]["result"].get<std::string>() + "\n", frames);
  EXPECT_THAT(lines[4]["error"], HasSubstr("no file or folder"));
  const std::string csv = dir.write("rows.csv", "clip,prompt\n" + gif + ",What happens?\n");
  EXPECT_EQ(rows_of(run_batch({csv, "--video-field", "clip", "--output-format", "jsonl"}).out).at(0)["result"],
            lines[0]["result"]);
}

TEST(Batch, CsvListsPatternsAndDataUrlsGiveTheSameAnswers) {
  const ScratchDir dir, out;
  add_pictures(dir, 3);
  std::string csv = "id,image,notes,prompt\r\n", list;
  for (const std::string& name : dir.list()) {
    csv += "\"" + name + "\"," + name + ",\"a \"\"b\"\",\nc\",\n";
    list += name + "\n";
  }
  const std::string table = run_batch({"-p", kAsk, dir.path()}).out;
  EXPECT_EQ(run_batch({"-p", kAsk, out.write("l.txt", list), "--image-root", dir.path()}).out, table);
  EXPECT_EQ(run_batch({"-p", kAsk, out.write("c.csv", csv), "--image-root", dir.path()}).out, table);
  const std::string pattern = run_batch({"-p", kAsk, dir.path() + "/*[gp]"}).out;
  EXPECT_EQ(lines_of(pattern).size(), 4u);
  EXPECT_THAT(pattern, HasSubstr(dir.path() + "/" + lines_of(table)[2] + "\n"));
  const std::string csv_out =
      run_batch({"-p", kAsk, out.file("c.csv"), "--image-root", dir.path(), "--output-format", "csv"}).out;
  const std::string name = dir.list()[1];
  EXPECT_THAT(lines_of(csv_out)[2], testing::StartsWith("1," + name + "," + name + ","));
  EXPECT_THAT(lines_of(csv_out)[0], testing::StartsWith("index,id,image_name,result,error,"));
}

// Sampling included: a row is itself alone, whatever runs beside it and whatever was seen before.
TEST(Batch, AnswersDependOnNoCompany) {
  const ScratchDir dir, out;
  add_pictures(dir, 8);
  std::string rows;
  for (const std::string& name : dir.list()) {
    rows += json{{"image", name}, {"prompt", kAsk}}.dump() + "\n";
    rows += json{{"image", name}, {"prompt", "What colour is the thing in the middle of it?"}}.dump() + "\n";
    rows += json{{"prompt", "Say something about " + name}}.dump() + "\n";
  }
  const std::string file = out.write("rows.jsonl", rows);
  const auto ask = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {file, "--image-root", dir.path(), "--output-format", "jsonl", "--temp", "0.9", "-s", "5"});
    const RunResult result = run_batch(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const std::string alone = ask({"--parallel", "1", "--no-cache"});
  EXPECT_EQ(lines_of(alone).size(), 24u);
  EXPECT_EQ(ask({"--parallel", "1"}), alone);
  EXPECT_EQ(ask({"--parallel", "3"}), alone);
  EXPECT_EQ(ask({"--parallel", "16", "-b", "32"}), alone);
  std::vector<std::string> mixed = lines_of(ask({"--parallel", "7", "--unordered"}));
  std::vector<std::string> sorted = lines_of(alone);
  std::sort(mixed.begin(), mixed.end());
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(mixed, sorted);
}

// The rows of a folder as a list on standard input, which does not end: the batch is never done by itself.
class EndlessBatch {
 public:
  EndlessBatch(const ScratchDir& pictures, const std::string& file, std::vector<std::string> more) : file_(file) {
    more.insert(more.end(), {"-", "--input-format", "list", "--image-root", pictures.path(), "-p", kAsk, "-o", file});
    batch_ = std::make_unique<Dialogue>(batch(more), Dialogue::Over::kPipes);
    std::string list;
    for (const std::string& name : pictures.list()) list += name + "\n";
    batch_->send(list);
  }
  // Waits until the file has so many bytes, and sends the signal: what became of the batch.
  int signal_at(size_t size, int signal) {
    std::error_code none;
    for (int i = 0; i < 20000 && (!fs::exists(file_, none) || fs::file_size(file_, none) < size); ++i) usleep(1000);
    kill(batch_->pid(), signal);
    return batch_->finish();
  }
  const std::string& said() const { return batch_->said(); }

 private:
  const std::string file_;
  std::unique_ptr<Dialogue> batch_;
};

// GLIMPSE_BATCH_PICTURES=200 asks about as many. Killed at ten moments, each when the file has grown by some bytes
// more: between two rows or inside of one.
TEST(Batch, KilledTenTimesAndResumedEqualsUndisturbed) {
  const ScratchDir dir, out;
  const char* const more = std::getenv("GLIMPSE_BATCH_PICTURES");
  add_pictures(dir, more == nullptr ? 24 : std::strtoul(more, nullptr, 10));
  dir.write("zz.png", "no picture");
  for (const std::string format : {"t.txt", "t.jsonl"}) {
    const std::string file = out.file(format), whole = out.file("whole_" + format);
    const auto run_to = [&](const std::string& path) {
      return run_batch({"-p", kAsk, "--image-root", dir.path(), out.file("list.txt"), "--resume", "-o", path})
          .exit_code;
    };
    std::string list;
    for (const std::string& name : dir.list()) list += name + "\n";
    out.write("list.txt", list);
    ASSERT_EQ(run_to(whole), 3);
    const size_t size = fs::file_size(whole);
    for (size_t i = 1; i <= 10; ++i) {
      EndlessBatch killed(dir, file, {"--resume"});
      ASSERT_EQ(killed.signal_at(i * size / 11, SIGKILL), -SIGKILL) << killed.said();
    }
    EXPECT_EQ(run_to(file), 3);
    EXPECT_EQ(read_all(file), read_all(whole)) << format;
    EXPECT_EQ(run_to(file), 3);  // nothing is left to do
    EXPECT_EQ(read_all(file), read_all(whole)) << format;
  }
}

TEST(Batch, InterruptFinishesWhatRunsAndResumeTheRest) {
  const ScratchDir dir, out;
  add_pictures(dir, 24);
  const std::string file = out.file("a.jsonl");
  EndlessBatch stopped(dir, file, {"--parallel", "2"});
  EXPECT_EQ(stopped.signal_at(1, SIGINT), 130) << stopped.said();
  EXPECT_THAT(stopped.said(), HasSubstr("--resume goes on"));
  const std::vector<json> rows = rows_of(read_all(file));
  EXPECT_GT(rows.size(), 0u);
  for (const json& row : rows) EXPECT_EQ(row["error"], nullptr);
  std::string list;
  for (const std::string& name : dir.list()) list += name + "\n";
  out.write("list.txt", list);
  ASSERT_EQ(run_batch({"-p", kAsk, "--image-root", dir.path(), out.file("list.txt"), "-o", file, "--resume"}).exit_code,
            0);
  const RunResult whole = run_batch({"-p", kAsk, dir.path(), "--output-format", "jsonl"});
  EXPECT_EQ(read_all(file), whole.out);
}

TEST(Batch, ResumesNothingThatIsAnother) {
  const ScratchDir dir;
  const auto row = [](const std::string& prompt) { return json{{"prompt", prompt}}.dump() + "\n"; };
  const std::string rows = dir.write("rows.jsonl", row("a") + row("b")), file = dir.file("out.csv");
  ASSERT_EQ(run_batch({rows, "-o", file}).exit_code, 0);
  const std::string before = read_all(file);
  const auto refused = [&](std::vector<std::string> more, const std::string& why) {
    more.insert(more.begin(), {rows, "-o", file});
    const RunResult result = run_batch(more);
    EXPECT_EQ(result.exit_code, 1) << why;
    EXPECT_THAT(result.err, HasSubstr(why));
    EXPECT_EQ(read_all(file), before);
  };
  refused({}, "exists already");
  refused({"--resume", "--temp", "1"}, "other options");
  refused({"--resume", "--system", "Be brief."}, "other options");
  refused({"--resume", "--dedup-patches"}, "other options");
  dir.write("rows.jsonl", row("a") + row("c"));
  refused({"--resume"}, "row 1 of the input is not the one");
  dir.write("rows.jsonl", row("a") + row("b") + row("c"));  // it may grow
  ASSERT_EQ(run_batch({rows, "-o", file, "--resume"}).exit_code, 0);
  EXPECT_THAT(read_all(file), testing::StartsWith(before));
  EXPECT_EQ(lines_of(read_all(file)).size(), 4u);
  const std::string grown = read_all(file);
  ASSERT_EQ(run_batch({rows, "-o", file, "--force"}).exit_code, 0);
  EXPECT_EQ(read_all(file), grown);
  fs::remove(file + ".journal");
  EXPECT_THAT(run_batch({rows, "-o", file, "--resume"}).err, HasSubstr("cannot be resumed"));
  EXPECT_FALSE(fs::exists(file + ".journal"));
  EXPECT_EQ(read_all(file), grown);
}

// A slip in a field's name would be an answer about nothing.
TEST(Batch, SaysWhichFieldMayHaveBeenThePicture) {
  ScratchDir dir;
  dir.write("rows.jsonl", json{{"imgae", "cat.png"}, {"prompt", "Hello"}}.dump() + "\n" +
                              json{{"id", "a"}, {"prompt", "Hello"}, {"n", 3}}.dump() + "\n");
  dir.write("rows.csv", "picture,prompt\ncat.png,Hello\n,Hello\n");
  const RunResult rows = run_batch({dir.file("rows.jsonl")});
  EXPECT_EQ(rows.exit_code, 0);
  EXPECT_THAT(rows.err, HasSubstr("1 of 2 rows had no image and were asked without a picture; they have imgae"));
  const RunResult table = run_batch({dir.file("rows.csv")});
  EXPECT_THAT(table.err, HasSubstr("1 of 2 rows had no image and were asked without a picture; they have picture"));
  dir.write("rows.csv", "id,prompt,image\ncat,Hello,\n");
  EXPECT_EQ(run_batch({dir.file("rows.csv")}).err, "");
}

// As a filter between two programs: each line is answered before the next is there.
TEST(Batch, AnswersEachLineOfAPipeAtOnce) {
  Dialogue pipe(batch({"-", "--output-format", "jsonl"}), Dialogue::Over::kPipes);
  for (int i = 0; i < 3; ++i) {
    pipe.send(json{{"id", i}, {"prompt", "Hello"}}.dump() + "\n");
    EXPECT_TRUE(pipe.hears("\"index\":" + std::to_string(i) + ",\"id\":" + std::to_string(i))) << pipe.said();
    EXPECT_TRUE(pipe.hears("}\n"));
  }
  pipe.end_input();
  EXPECT_EQ(pipe.finish(), 0);
  EXPECT_EQ(lines_of(pipe.said()).size(), 3u) << pipe.said();
}
// And a signal reaches it while it waits.
TEST(Batch, IsInterruptedWhileItWaitsForAPipe) {
  Dialogue pipe(batch({"-", "--output-format", "jsonl"}), Dialogue::Over::kPipes);
  pipe.send(json{{"prompt", "Hello"}}.dump() + "\n");
  EXPECT_TRUE(pipe.hears("}\n"));
  kill(pipe.pid(), SIGTERM);
  EXPECT_EQ(pipe.finish(), 128 + SIGTERM) << pipe.said();
}

TEST(Batch, AsManyAtOnceAsAreWantedFindAPlace) {
  RunSetup setup;
  for (int i = 0; i < 700; ++i) setup.input += json{{"prompt", "Hello " + std::to_string(i)}}.dump() + "\n";
  const RunResult result = run_batch({"-", "--parallel", "200", "-c", "64", "--output-format", "jsonl"}, setup);
  EXPECT_EQ(result.exit_code, 0) << result.err << result.out.substr(0, 1000);
  EXPECT_EQ(rows_of(result.out).size(), 700u);
}

TEST(Batch, PagesOfPdfFilesAreRows) {
  const ScratchDir dir, bin;
  const std::string ppm = "P6\\n60 40\\n255\\n";
  bin.write("pdfinfo",
            "#!/bin/sh\ncase \"$1\" in *bad*) echo 'Syntax Error: no PDF' >&2; exit 1;; esac\n"
            "printf 'Title: x\\nPages:          3\\n'\n");
  bin.write("pdftoppm", "#!/bin/sh\n[ \"$2\" = 2 ] && { echo 'page 2 is broken' >&2; exit 3; }\nprintf '" + ppm +
                            "'\nhead -c 7200 /dev/zero\n");
  for (const std::string& program : bin.list()) chmod(bin.file(program).c_str(), 0755);
  dir.write("a.pdf", "%PDF-");
  dir.write("bad.pdf", "none");
  RunSetup setup;
  setup.environment = {"PATH=" + bin.path() + ":/usr/bin:/bin"};
  const RunResult result = run_batch({"-p", kAsk, dir.path()}, setup);
  EXPECT_EQ(result.exit_code, 3) << result.err;
  const std::vector<std::string> lines = lines_of(result.out);
  ASSERT_EQ(lines.size(), 5u) << result.out;
  EXPECT_THAT(lines[1], testing::StartsWith("a.pdf#page=1 | "));
  EXPECT_THAT(lines[1], Not(HasSubstr("error")));
  EXPECT_THAT(lines[2], testing::StartsWith("a.pdf#page=2 | error: "));
  EXPECT_THAT(lines[2], HasSubstr("page 2 is broken"));
  EXPECT_EQ(lines[3].substr(15), lines[1].substr(15));
  EXPECT_THAT(lines[4], HasSubstr("bad.pdf | error: " + dir.file("bad.pdf") + ": pdfinfo: Syntax Error: no PDF"));
  const std::string rows = dir.write("r.jsonl", json{{"image", dir.file("a.pdf#page=3")}}.dump() + "\n" +
                                                    json{{"image", dir.file("a.pdf")}}.dump() + "\n");
  const std::vector<std::string> two = lines_of(run_batch({"-p", kAsk, rows, "--no-header"}, setup).out);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_THAT(two[0], testing::EndsWith(lines[1].substr(15)));
  EXPECT_THAT(two[1], HasSubstr("page 2 is broken"));  // all pages are pictures of the row
  setup.environment = {"PATH=" + dir.path()};
  EXPECT_THAT(run_batch({"-p", kAsk, dir.file("a.pdf")}, setup).out, HasSubstr("apt-get install poppler-utils"));
}

// Rows are read as they are needed, and nothing of them is kept.
TEST(Batch, MemoryDoesNotGrowWithTheRows) {
  if (GLIMPSE_SANITIZED) GTEST_SKIP() << "a sanitizer keeps what was freed";
  const ScratchDir dir;
  const auto peak = [&](size_t n) {
    std::string rows;
    for (size_t i = 0; i < n; ++i)
      rows += "{\"image\": \"/nowhere/" + std::to_string(i) + ".png\", \"prompt\": \"x\"}\n";
    const RunResult result =
        run_batch({dir.write("rows.jsonl", rows), "-o", dir.file(std::to_string(n) + ".jsonl"), "--parallel", "2"});
    EXPECT_EQ(result.exit_code, 3) << result.err;
    EXPECT_EQ(lines_of(read_all(dir.file(std::to_string(n) + ".jsonl"))).size(), n);
    return result.peak_kib;
  };
  EXPECT_LT(peak(20000), peak(100) + 4 * 1024);
}

TEST(Batch, ProgressIsForTerminalsAlone) {
  const ScratchDir dir;
  add_pictures(dir, 6);
  RunSetup terminal;
  terminal.on_terminal = true;
  const RunResult shown = run_batch({"-p", kAsk, dir.path(), "--parallel", "1"}, terminal);
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_THAT(shown.out, HasSubstr("of 6 rows"));
  EXPECT_EQ(run_batch({"-p", kAsk, dir.path()}).err, "");
}

TEST(Batch, WhatCannotWorkIsSaidBeforeTheModelIsLoaded) {
  const ScratchDir dir;
  const std::string model = dir.write("no_model.gguf", "x"), picture = kModels + "sample.png";
  const auto said = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"batch", "-m", model});
    const RunResult result = run_glimpse(more);
    EXPECT_EQ(result.exit_code, 1) << testing::PrintToString(more);
    EXPECT_EQ(result.out, "");
    return result.err;
  };
  EXPECT_THAT(said({picture, "--mmproj", "x"}), HasSubstr("there is no question"));
  EXPECT_THAT(said({picture, "-p", "x"}), HasSubstr("--mmproj"));
  EXPECT_THAT(said({"/nowhere/x.png", "-p", "x"}), HasSubstr("/nowhere/x.png"));
  EXPECT_THAT(said({dir.path() + "/*.png", "-p", "x"}), HasSubstr("none of that pattern"));
  EXPECT_THAT(said({dir.path(), "-p", "x"}), HasSubstr("has no pictures"));
  EXPECT_THAT(said({picture, "-p", "x", "--resume"}), HasSubstr("-o FILE"));
  EXPECT_THAT(said({dir.write("a.csv", "file,question\n"), "-p", "x"}), HasSubstr("(file, question)"));
  EXPECT_THAT(said({"-", "-f", "-"}), HasSubstr("can be read once"));
  EXPECT_THAT(said({picture, "-p", "x", "--delimiter", "ab"}), HasSubstr("--delimiter"));
}

TEST(Batch, AFullDiskIsAnErrorAndTheFileCanBeResumed) {
  const ScratchDir dir, out;
  add_pictures(dir, 6);
  const std::string file = out.file("a.jsonl");
  RunSetup small;
  small.file_size_limit = 600;
  const RunResult result = run_batch({"-p", kAsk, dir.path(), "-o", file}, small);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write"));
  for (const json& row : rows_of(read_all(file))) EXPECT_EQ(row["error"], nullptr);  // whole lines alone
  ASSERT_EQ(run_batch({"-p", kAsk, dir.path(), "-o", file, "--resume"}).exit_code, 0);
  EXPECT_EQ(read_all(file), run_batch({"-p", kAsk, dir.path(), "--output-format", "jsonl"}).out);
  RunSetup full;
  full.stdout_path = "/dev/full";
  EXPECT_EQ(run_batch({"-p", kAsk, dir.path()}, full).exit_code, 1);
}

}  // namespace
}  // namespace glimpse::cli_test
