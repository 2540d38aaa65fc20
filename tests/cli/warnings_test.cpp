// What the library warns of is shown by every command that loads a model, once, without --verbose.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>

#include "loaders/gguf/gguf.h"
#include "loaders/gguf/gguf_writer.h"
#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

// The golden text model with a classifier's head, which is not used and changes nothing.
std::string model_with_head(const ScratchDir& dir) {
  const auto file = GgufFile::open(golden("tied/model.gguf"));
  EXPECT_TRUE(file.ok());
  GgufWriter writer;
  for (const std::string& key : file->keys()) writer.add_value(key, *file->find(key));
  for (const GgufTensor& t : file->tensors()) {
    writer.declare_tensor(t.name, t.type, std::vector<uint64_t>(t.dims, t.dims + t.n_dims));
  }
  writer.declare_tensor("cls.weight", DType::kF32, {8});
  const std::string path = dir.file("with_head.gguf");
  EXPECT_TRUE(writer.begin(path, AtomicFileWriter::Existing::kReplace).ok());
  std::vector<std::byte> bytes;
  for (const GgufTensor& t : file->tensors()) {
    bytes.resize(t.n_bytes);
    EXPECT_TRUE(file->read(t, 0, bytes).ok());
    EXPECT_TRUE(writer.append(bytes).ok());
  }
  EXPECT_TRUE(writer.append(std::vector<std::byte>(8 * sizeof(float))).ok());
  EXPECT_TRUE(writer.commit().ok());
  return path;
}

TEST(Warnings, EveryCommandShowsThemOnce) {
  const ScratchDir dir;
  const std::string model = model_with_head(dir);
  dir.write("a.png", read_all(kPicture));
  dir.write("cases.json",
            R"({"cases": [{"task": "a", "pictures": ["a.png"], "turns": [["what is this", "?"]], "score": "exact"}]})");
  const std::vector<std::vector<std::string>> commands = {
      {"run", "-p", "the cat", "-n", "2"},
      {"eval", "--mmproj", golden("tied/mmproj.gguf"), "--cases", dir.path(), "-n", "2", "-c", "512"},
      {"perplexity", "-f", GLIMPSE_TEST_DIR "/eval/data/text.txt", "-c", "16", "--chunks", "1"},
      {"embed", "--pooling", "last", "the cat"},
      {"diff", "-p", "the cat", "--against", "ref"},  // which loads it twice
      {"bench", "--no-roofline", "-p", "4", "-n", "0", "-r", "1"}};
  for (std::vector<std::string> command : commands) {
    command.insert(command.end(), {"-m", model});
    const RunResult result = run_glimpse(command);
    EXPECT_EQ(result.exit_code, 0) << command[0] << ": " << result.err;
    const size_t first = result.err.find("cls.weight");
    ASSERT_NE(first, std::string::npos) << command[0] << ": " << result.err;
    EXPECT_NE(result.err.find("warning: "), std::string::npos) << command[0] << ": " << result.err;
    EXPECT_EQ(result.err.find("cls.weight", first + 1), std::string::npos) << command[0] << ": " << result.err;
  }
}

}  // namespace
}  // namespace glimpse::cli_test
