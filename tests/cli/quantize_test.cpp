// glimpse quantize: what it prints, what it refuses, and that it writes whole files or none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "loaders/gguf/gguf.h"
#include "tests/cli/process.h"
#include "tests/loaders/gguf_builder.h"

namespace glimpse::cli_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string text_model() {
  return GLIMPSE_TEST_DIR "/quantize/data/text.gguf";
}
std::string importance(const char* form) {
  return std::string(GLIMPSE_TEST_DIR "/quantize/data/importance.") + form;
}

RunResult quantize(std::vector<std::string> arguments, const RunSetup& setup = {}) {
  arguments.insert(arguments.begin(), "quantize");
  return run_glimpse(arguments, setup);
}

std::string type_in(const std::string& path, const std::string& tensor) {
  const Result<GgufFile> file = GgufFile::open(path);
  if (!file.ok()) return file.error().message;
  const GgufTensor* const found = file->find_tensor(tensor);
  return found == nullptr ? "missing" : dtype_name(found->type);
}

TEST(Quantize, ListsEveryTensorAndTheSum) {
  const ScratchDir dir;
  const RunResult result = quantize({text_model(), dir.file("out.gguf"), "q4_k_m", "-t", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("[   1/  66] 'token_embd.weight'"));
  EXPECT_THAT(result.out, HasSubstr("F16     -> Q6_K"));
  EXPECT_THAT(result.out, HasSubstr("(fallback: rows of 96)"));
  EXPECT_THAT(result.out, HasSubstr(" bits per weight) -> "));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 66 + 1);
  EXPECT_THAT(result.err, HasSubstr("16 of 66 tensors have rows that are no whole blocks"));
  EXPECT_THAT(dir.list(), ElementsAre("out.gguf"));
  EXPECT_EQ(type_in(dir.file("out.gguf"), "blk.0.attn_v.weight"), "Q6_K");
  EXPECT_EQ(type_in(dir.file("out.gguf"), "blk.1.attn_v.weight"), "Q4_K");
}

TEST(Quantize, ModelsStillAnswer) {
  const ScratchDir dir;
  for (const char* type : {"Q8_0", "Q4_K_M"}) {
    const std::string model = dir.file(std::string(type) + ".gguf"), mmproj = dir.file(std::string(type) + "-mm.gguf");
    ASSERT_EQ(quantize({golden("tied/model.gguf"), model, type}).exit_code, 0);
    ASSERT_EQ(quantize({golden("tied/mmproj.gguf"), mmproj, type}).exit_code, 0);
    const RunResult answer = run_glimpse({"run", "-m", model, "--mmproj", mmproj, "--image", kPicture, "-n", "3", "-c",
                                          "256", "--image-max-tokens", "16", "--json", "what is this?"});
    ASSERT_EQ(answer.exit_code, 0) << type << ": " << answer.err;
    EXPECT_GE(json::parse(answer.out).at("tokens").size(), 1u);
    const RunResult inspected = run_glimpse({"inspect", model, "--check-data", "--json"});
    ASSERT_EQ(inspected.exit_code, 0) << inspected.err;
    EXPECT_EQ(json::parse(inspected.out).at("metadata").at("general.file_type"), type == std::string("Q8_0") ? 7 : 15);
  }
}

TEST(Quantize, PrintsJson) {
  const ScratchDir dir;
  const RunResult result = quantize({text_model(), dir.file("out.gguf"), "Q5_K_S", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json printed = json::parse(result.out, nullptr, false);
  ASSERT_TRUE(printed.is_object()) << result.out;
  EXPECT_EQ(printed.at("type"), "Q5_K_S");
  EXPECT_EQ(printed.at("output"), dir.file("out.gguf"));
  EXPECT_EQ(printed.at("dry_run"), false);
  ASSERT_EQ(printed.at("tensors").size(), 66u);
  const json& tensor = printed.at("tensors").at(1);
  EXPECT_EQ(tensor.at("name"), "blk.0.attn_q.weight");
  EXPECT_EQ(tensor.at("from"), "F16");
  EXPECT_EQ(tensor.at("to"), "Q5_K");
  EXPECT_EQ(tensor.at("bytes_after"), 352);
  uint64_t sum = 0;
  for (const json& row : printed.at("tensors")) sum += row.at("bytes_after").get<uint64_t>();
  EXPECT_EQ(printed.at("bytes_after"), sum);
  EXPECT_NEAR(printed.at("bits_per_weight_after").get<double>(),
              8.0 * static_cast<double>(sum) / printed.at("weights").get<double>(), 1e-9);
}

TEST(Quantize, ADryRunWritesNothing) {
  const ScratchDir dir;
  const std::string kept = dir.write("kept.gguf", "something precious");
  const RunResult without = quantize({text_model(), "Q4_K_M", "--dry-run"});
  ASSERT_EQ(without.exit_code, 0) << without.err;
  const RunResult with = quantize({text_model(), kept, "Q4_K_M", "--dry-run"});
  ASSERT_EQ(with.exit_code, 0) << with.err;
  EXPECT_EQ(with.out, without.out);
  EXPECT_EQ(read_all(kept), "something precious");
  // It says what the real thing will say.
  EXPECT_EQ(quantize({text_model(), dir.file("out.gguf"), "Q4_K_M"}).out, without.out);
  EXPECT_THAT(dir.list(), ElementsAre("kept.gguf", "out.gguf"));
}

TEST(Quantize, ListsTheTypes) {
  const RunResult result = quantize({"--list"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* type : {"F32", "F16", "BF16", "Q4_0", "Q4_K_M", "Q5_K_S", "Q6_K", "Q8_0", "IQ4_XS", "Q2_K_S"}) {
    EXPECT_THAT(result.out, HasSubstr(std::string("\n") + type + " "));
  }
  EXPECT_THAT(result.out, Not(HasSubstr("IQ1_S")));
}

TEST(Quantize, FlagsChooseTypes) {
  const ScratchDir dir;
  const std::string out = dir.file("out.gguf");
  RunResult result = quantize({text_model(), out, "Q4_K_M", "--pure", "--tensor-type", "attn_k=q8_0", "--tensor-type",
                               "blk\\.[01]\\.ffn_up=bf16", "--output-tensor-type", "Q5_0", "--token-embedding-type",
                               "F16", "--tensor-type", "no_such_tensor=q8_0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("'no_such_tensor'"));
  EXPECT_EQ(type_in(out, "blk.0.attn_v.weight"), "Q4_K");
  EXPECT_EQ(type_in(out, "blk.0.attn_k.weight"), "Q8_0");
  EXPECT_EQ(type_in(out, "blk.1.ffn_up.weight"), "BF16");
  EXPECT_EQ(type_in(out, "output.weight"), "Q5_0");
  EXPECT_EQ(type_in(out, "token_embd.weight"), "F16");

  // A second time only on demand.
  const std::string again = dir.file("again.gguf");
  result = quantize({out, again, "Q3_K_M"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("--allow-requantize"));
  result = quantize({out, again, "Q3_K_M", "--allow-requantize"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(type_in(again, "blk.0.attn_q.weight"), "Q3_K");
}

TEST(Quantize, ReadsSplitModelsAndWritesOne) {
  const ScratchDir dir;
  for (uint16_t i = 0; i < 2; ++i) {
    gguf_test::GgufBuilder shard;
    if (i == 0) shard.text("general.architecture", "clip");
    shard.key("split.no", GgufType::kUint16, gguf_test::le(i));
    shard.key("split.count", GgufType::kUint16, gguf_test::le<uint16_t>(2));
    shard.key("split.tensors.count", GgufType::kInt32, gguf_test::le<int32_t>(2));
    shard.tensor("mm." + std::to_string(i) + ".weight", {32, 2}, DType::kF16, std::string(128, '\0'));
    dir.write(i == 0 ? "m-00001-of-00002.gguf" : "m-00002-of-00002.gguf", shard.build());
  }
  const std::string first = dir.file("m-00001-of-00002.gguf"), second = dir.file("m-00002-of-00002.gguf");
  const RunResult result = quantize({first, dir.file("one.gguf"), "Q8_0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Result<GgufFile> one = GgufFile::open(dir.file("one.gguf"));
  ASSERT_TRUE(one.ok()) << one.error().message;
  EXPECT_EQ(one->n_shards(), 1u);
  EXPECT_EQ(one->find("split.count"), nullptr);
  EXPECT_EQ(type_in(dir.file("one.gguf"), "mm.0.weight"), "Q8_0");
  EXPECT_EQ(type_in(dir.file("one.gguf"), "mm.1.weight"), "Q8_0");

  const RunResult over = quantize({first, second, "Q8_0", "--force"});
  EXPECT_EQ(over.exit_code, 1);
  EXPECT_THAT(over.err, HasSubstr("is the input"));
}

TEST(Quantize, ImportanceChangesTheBytesAndIsNamed) {
  const ScratchDir dir;
  ASSERT_EQ(quantize({text_model(), dir.file("plain.gguf"), "Q4_0"}).exit_code, 0);
  for (const char* form : {"gguf", "dat"}) {
    const RunResult result = quantize({text_model(), dir.file(form), "Q4_0", "--imatrix", importance(form), "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("does not have 3 of the 50"));
    EXPECT_TRUE(json::parse(result.out).at("tensors").at(2).at("importance"));
  }
  const Result<GgufFile> plain = GgufFile::open(dir.file("plain.gguf")), with = GgufFile::open(dir.file("dat"));
  ASSERT_TRUE(plain.ok() && with.ok());
  std::vector<std::byte> a(plain->find_tensor("blk.2.attn_k.weight")->n_bytes), b(a.size());
  ASSERT_TRUE(plain->read(*plain->find_tensor("blk.2.attn_k.weight"), 0, a).ok());
  ASSERT_TRUE(with->read(*with->find_tensor("blk.2.attn_k.weight"), 0, b).ok());
  EXPECT_NE(a, b);
  EXPECT_EQ(with->require_string("quantize.imatrix.file").value(), "importance.dat");
}

TEST(Quantize, RefusesWhatIsInTheWay) {
  const ScratchDir dir;
  const std::string kept = dir.write("kept.gguf", "something precious");
  RunResult result = quantize({text_model(), kept, "Q4_0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("exists already"));
  EXPECT_EQ(read_all(kept), "something precious");
  result = quantize({text_model(), kept, "Q4_0", "--force"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_all(kept).substr(0, 4), "GGUF");

  // The input itself, also by another name and with --force.
  const std::string model = dir.write("model.gguf", read_all(text_model())), link = dir.file("link.gguf");
  const std::string before = read_all(model);
  std::filesystem::create_symlink("model.gguf", link);
  for (const std::string& out : {model, link}) {
    result = quantize({model, out, "Q4_0", "--force"});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr("is the input"));
    EXPECT_EQ(read_all(model), before);
  }
  const std::string matrix = dir.write("matrix.dat", read_all(importance("dat")));
  result = quantize({model, matrix, "Q4_0", "--force", "--imatrix", matrix});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("is the importance matrix"));
  EXPECT_EQ(read_all(matrix), read_all(importance("dat")));
}

TEST(Quantize, WrongFlagsExitWithTwo) {
  const ScratchDir dir;
  const std::string model = text_model(), out = dir.file("out.gguf");
  const std::vector<std::string> wrong[] = {
      {},
      {model},
      {model, out},
      {model, out, "Q4_K_M", "more"},
      {model, out, "Q9_Z"},
      {model, out, "IQ2_XXS"},
      {model, out, "Q4_0", "--frobnicate"},
      {model, out, "Q4_0", "--imatrix"},
      {model, out, "Q4_0", "-t", "many"},
      {model, out, "Q4_0", "-t", "-1"},
      {model, out, "Q4_0", "--output-tensor-type", "Q9_Z"},
      {model, out, "Q4_0", "--token-embedding-type", "IQ1_S"},
      {model, out, "Q4_0", "--tensor-type", "attn_v"},
      {model, out, "Q4_0", "--tensor-type", "attn_v=q9"},
      {model, out, "Q4_0", "--tensor-type", "(=q8_0"},
      {model, "--dry-run"},
  };
  for (const auto& arguments : wrong) {
    const RunResult result = quantize(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.err;
    EXPECT_EQ(result.out, "") << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, HasSubstr("--help")) << testing::PrintToString(arguments);
  }
  EXPECT_THAT(dir.list(), IsEmpty());
}

TEST(Quantize, WrongFilesWriteNothing) {
  const ScratchDir dir;
  const std::string bytes = read_all(text_model());
  const ScratchDir in;
  const std::string truncated = in.write("truncated.gguf", bytes.substr(0, bytes.size() - 100));
  const std::string matrix_bytes = read_all(importance("dat"));
  const std::string half_matrix = in.write("half.dat", matrix_bytes.substr(0, matrix_bytes.size() / 2));
  const std::string out = dir.file("out.gguf");
  const std::pair<std::vector<std::string>, std::vector<std::string>> bad[] = {
      {{in.file("missing.gguf"), out, "Q4_0"}, {"missing.gguf", "No such file"}},
      {{in.path(), out, "Q4_0"}, {"directory"}},
      {{truncated, out, "Q4_0"}, {"truncated.gguf"}},
      {{in.write("text.gguf", "this is a letter\n"), out, "Q4_0"}, {"text.gguf", "GGUF"}},
      {{golden("tied/case-text.gguf"), out, "Q4_0"}, {"golden"}},
      {{text_model(), dir.file("no/such/dir/out.gguf"), "Q4_0"}, {"no/such/dir"}},
      {{text_model(), dir.path(), "Q4_0", "--force"}, {"is a directory"}},
      {{text_model(), out, "Q4_0", "--imatrix", in.file("missing.dat")}, {"missing.dat", "No such file"}},
      {{text_model(), out, "Q4_0", "--imatrix", half_matrix}, {"half.dat"}},
      {{text_model(), out, "Q4_0", "--imatrix", text_model()}, {"text.gguf", "no importance matrix"}},
      {{golden("tied/model.gguf"), out, "Q4_0", "--imatrix", importance("gguf")}, {"made for another model"}},
      {{text_model(), out, "Q2_K_S"}, {"Q2_K_S", "--imatrix"}},
      {{text_model(), out, "Q2_K_S", "--imatrix", importance("gguf")}, {"no entry for 'blk.1.attn_q.weight'"}},
  };
  for (const auto& [arguments, words] : bad) {
    const RunResult result = quantize(arguments);
    EXPECT_EQ(result.exit_code, 1) << testing::PrintToString(arguments) << result.err;
    EXPECT_EQ(result.err.rfind("glimpse: ", 0), 0u) << result.err;
    for (const std::string& word : words) EXPECT_THAT(result.err, HasSubstr(word)) << testing::PrintToString(arguments);
    EXPECT_EQ(result.out, "") << testing::PrintToString(arguments);
  }
  EXPECT_THAT(dir.list(), IsEmpty());
}

// A model that takes long enough to be interrupted half way.
const std::string& large_model() {
  static const ScratchDir dir;
  static const std::string path = [] {
    const std::string file = dir.file("large.gguf");
    const RunResult made =
        run_glimpse({"synth", "--preset", "tiny", "-m", file, "--type", "F16", "--hidden-size", "1024", "--head-dim",
                     "64", "--heads", "16", "--kv-heads", "16", "--ffn", "4096", "--layers", "2"});
    EXPECT_EQ(made.exit_code, 0) << made.err;
    return file;
  }();
  return path;
}

TEST(Quantize, SignalsLeaveNothingBehind) {
  large_model();  // before the clock starts
  expect_signals_leave_nothing(
      [](const std::string& path) {
        return std::vector<std::string>{"quantize", large_model(), path, "Q4_K_M", "-t", "1"};
      },
      1 << 20, 8 << 20);
}

TEST(Quantize, ADiskThatFillsLeavesNothingBehind) {
  expect_a_full_disk_leaves_nothing([](const std::string& path) {
    return std::vector<std::string>{"quantize", large_model(), path, "Q8_0"};
  });
}

TEST(Quantize, AReaderThatLeavesDoesNotSpoilTheFile) {
  const ScratchDir dir;
  RunSetup setup;
  setup.stdout_path = "/dev/full";
  const RunResult result = quantize({text_model(), dir.file("out.gguf"), "Q4_0"}, setup);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write to standard output"));
  EXPECT_THAT(dir.list(), ElementsAre("out.gguf"));
  EXPECT_EQ(type_in(dir.file("out.gguf"), "blk.0.attn_q.weight"), "Q4_0");

  // A closed pipe, as of `| head -1`: the list is longer than a pipe holds.
  const std::string command = std::string(GLIMPSE_BINARY) + " quantize " + text_model() + " " + dir.file("piped.gguf") +
                              " Q4_0 2>/dev/null | true";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(type_in(dir.file("piped.gguf"), "blk.0.attn_q.weight"), "Q4_0");
  EXPECT_THAT(dir.list(), ElementsAre("out.gguf", "piped.gguf"));
}

TEST(Quantize, MemoryDoesNotGrowWithTheModel) {
  const ScratchDir dir;
  const RunResult small = quantize({text_model(), dir.file("small.gguf"), "Q8_0", "-t", "1"});
  const RunResult large = quantize({large_model(), dir.file("large.gguf"), "Q8_0", "-t", "1"});
  ASSERT_EQ(small.exit_code, 0) << small.err;
  ASSERT_EQ(large.exit_code, 0) << large.err;
  const auto added_kib = std::filesystem::file_size(large_model()) / 1024;
  EXPECT_GT(added_kib, 50u << 10);
  if (GLIMPSE_SANITIZED) GTEST_SKIP() << "a sanitizer keeps freed memory";
  EXPECT_LT(large.peak_kib - small.peak_kib, 16 << 10);
}

}  // namespace
}  // namespace glimpse::cli_test
