// glimpse run: answers, JSON, streaming, stages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/cli/process.h"

namespace glimpse::cli_test {
namespace {

using testing::HasSubstr;

std::vector<std::string> with_text_model(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"run", "-m", golden("tied/model.gguf"), "-t", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}
std::vector<std::string> with_picture(std::vector<std::string> more) {
  std::vector<std::string> arguments = {
      "run", "-m",  golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "--image", kPicture,
      "-c",  "256", "--image-max-tokens",      "16"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(Run, JsonHasTheDocumentedFields) {
  const json answer = json_of(run_glimpse(with_picture({"-p", "what is this picture", "-n", "6", "--json"})));
  EXPECT_TRUE(answer.at("answer").is_string());
  EXPECT_TRUE(answer.at("tokens").is_array());
  EXPECT_LE(answer.at("tokens").size(), 6u);
  EXPECT_THAT(answer.at("finish_reason").get<std::string>(), testing::AnyOf("stop", "max_tokens"));
  ASSERT_EQ(answer.at("images").size(), 1u);
  const json& image = answer["images"][0];
  EXPECT_EQ(image.at("path"), kPicture);
  for (const char* field : {"width", "height", "resized_width", "resized_height", "tokens"}) {
    EXPECT_GT(image.at(field).get<int>(), 0) << field;
  }
  EXPECT_EQ(image["resized_width"].get<int>() % 28, 0);
  EXPECT_LE(image["tokens"].get<int>(), 16);
  const json& timings = answer.at("timings");
  for (const char* field : {"load_ms", "image_decode_ms", "image_resize_ms", "image_encode_ms", "prefill_ms",
                            "decode_ms", "prefill_tokens_per_second", "decode_tokens_per_second"}) {
    EXPECT_TRUE(timings.at(field).is_number()) << field;
    EXPECT_GT(timings[field].get<double>(), 0) << field;
  }
  EXPECT_EQ(timings.at("image_tokens"), image["tokens"]);
  EXPECT_EQ(timings.at("generated_tokens").get<size_t>(), answer["tokens"].size());
  EXPECT_GT(timings.at("prompt_tokens").get<int>(), image["tokens"].get<int>());
  EXPECT_EQ(answer.count("logprobs"), 0u);
}

// A page of one colour, with a dark line.
TEST(Run, RepeatedBlocksAreLeftOutOnRequest) {
  const ScratchDir dir;
  std::string page = "P6\n112 112\n255\n";
  for (int y = 0; y < 112; ++y) page.append(3 * 112, y == 90 ? '\0' : '\xff');
  const auto image_of = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"run", "-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "-c", "256", "-n", "2",
                 "--json", "-p", "what is this", "--image", dir.write("page.ppm", page)});
    return json_of(run_glimpse(more)).at("images").at(0);
  };
  const json whole = image_of({}), some = image_of({"--dedup-patches"});
  EXPECT_EQ(whole.at("tokens"), 16);
  EXPECT_EQ(whole.at("tokens_left_out"), 0);
  EXPECT_EQ(some.at("tokens"), 2);
  EXPECT_EQ(some.at("tokens_left_out"), 14);
  EXPECT_EQ(some.at("resized_width"), whole.at("resized_width"));
}

// What an answer may be: in the command's five notations, from a file and as it stands there.
TEST(Run, AnswersAreBoundToWhatIsAskedFor) {
  const auto answer = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"-p", "the cat", "-n", "200", "--temp", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const RunResult result = run_glimpse(with_text_model(arguments));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out.substr(0, result.out.find_last_not_of('\n') + 1);
  };
  const std::string schema =
      R"({"type": "object", "properties": {"n": {"enum": [1, 2]}, "who": {"type": "string", "maxLength": 4}}, "required": ["n"]})";
  const ScratchDir dir;
  const std::string schema_file = dir.write("schema.json", schema + "\n");
  const std::string grammar_file = dir.write("grammar.gbnf", "root ::= \"<\" [a-c]{2} \">\"\n");
  for (const std::string& given : {schema, schema_file}) {
    const json parsed = json::parse(answer({"--json-schema", given}), nullptr, false);
    EXPECT_TRUE(parsed.is_object() && (parsed["n"] == 1 || parsed["n"] == 2)) << parsed;
  }
  EXPECT_THAT(answer({"--grammar", grammar_file}), testing::MatchesRegex("<[abc][abc]>"));
  EXPECT_THAT(answer({"--grammar", "root ::= \"x\" | \"y\""}), testing::AnyOf("x", "y"));
  EXPECT_THAT(answer({"--regex", "[0-9]{3}"}), testing::MatchesRegex("[0-9][0-9][0-9]"));
  EXPECT_THAT(answer({"--choice", "yes", "--choice", "no, not"}), testing::AnyOf("yes", "no, not"));
  const RunResult object = run_glimpse(with_text_model({"-p", "the cat", "-n", "1", "--json-object"}));
  EXPECT_THAT(object.out, testing::StartsWith("{"));

  const RunResult refused =
      run_glimpse(with_text_model({"-p", "a", "--json-schema", R"({"type": "array", "uniqueItems": true})"}));
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.err, HasSubstr("#/uniqueItems: the keyword \"uniqueItems\" is not supported"));
  const RunResult both = run_glimpse(with_text_model({"-p", "a", "--regex", "a", "--choice", "b"}));
  EXPECT_NE(both.exit_code, 0);
  const RunResult missing = run_glimpse(with_text_model({"-p", "a", "--json-schema", "no-such-file.json"}));
  EXPECT_THAT(missing.err, HasSubstr("no-such-file.json"));
}

TEST(Run, JsonKeepsThePartsOfAnAnswerApart) {
  const json plain = json_of(run_glimpse(with_text_model({"-p", "the cat", "-n", "4", "--thinking", "off", "--json"})));
  EXPECT_EQ(plain.at("content"), plain.at("answer"));
  EXPECT_EQ(plain.at("reasoning"), "");
  EXPECT_EQ(plain.at("tool_calls"), json::array());
  EXPECT_EQ(plain.at("tool_call_problems"), json::array());
}

TEST(Run, ToolsComeFromAFile) {
  const ScratchDir dir;
  std::ofstream(dir.file("tools.json")) << "[{\"name\": \"f\"}]";
  std::ofstream(dir.file("broken.json")) << "[{]";
  const RunResult result = run_glimpse(with_text_model({"-p", "the cat", "--tools", dir.file("tools.json")}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("tools are given, but the model's chat template has no place for them"));
  const RunResult no_json = run_glimpse(with_text_model({"-p", "the cat", "--tools", dir.file("broken.json")}));
  EXPECT_THAT(no_json.err, HasSubstr("want a JSON array of function definitions"));
}

// Once, and without --verbose: the answer may end sooner than was asked for.
TEST(Run, ContextCutToTheModelsIsSaid) {
  const RunResult result = run_glimpse(with_text_model({"-p", "the cat", "-n", "2", "-c", "100000"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::string said = "warning: a context of 100000 was asked for; the model was trained for 512";
  const size_t first = result.err.find(said);
  ASSERT_NE(first, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find(said, first + 1), std::string::npos) << result.err;
}

TEST(Run, PackedWeightsAreKeptAndTakenAgain) {
  const ScratchDir dir;
  const std::vector<std::string> plain = with_picture({"-p", "what is this picture", "-n", "6", "--json"});
  std::vector<std::string> packed = plain;
  packed.insert(packed.end(), {"--pack-cache", dir.path(), "--verbose"});
  const json want = json_of(run_glimpse(plain)).at("answer");
  const RunResult first = run_glimpse(packed);
  EXPECT_EQ(json_of(first).at("answer"), want);
  EXPECT_THAT(first.err, HasSubstr("packed weights were kept in"));
  ASSERT_EQ(dir.list().size(), 2u);
  EXPECT_THAT(dir.list()[0], testing::MatchesRegex("mmproj\\.gguf\\..*\\.pack"));
  EXPECT_THAT(dir.list()[1], testing::MatchesRegex("model\\.gguf\\.stored\\..*\\.pack"));
  for (const char* use : {"read", "mapped"}) {
    if (use[0] == 'm') packed.push_back("--pack-cache-map");
    const RunResult again = run_glimpse(packed);
    EXPECT_EQ(json_of(again).at("answer"), want);
    EXPECT_THAT(again.err, testing::Not(HasSubstr("warning")));
    EXPECT_THAT(again.err, HasSubstr(std::string("packed weights are ") + use + " from"));
    EXPECT_THAT(again.err, testing::Not(HasSubstr("were kept")));
  }
}

TEST(Run, AMissingPackDirectoryIsAWarning) {
  const ScratchDir dir;
  const RunResult result = run_glimpse(with_text_model({"hi", "-n", "2", "--pack-cache", dir.file("nowhere")}));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: no packed weights are kept: cannot create"));
  EXPECT_THAT(result.err, HasSubstr("nowhere"));
  EXPECT_EQ(run_glimpse(with_text_model({"hi", "-n", "2", "--pack-cache"})).exit_code, 2);
}

TEST(Run, LogprobsComeOnRequest) {
  const json answer = json_of(run_glimpse(with_text_model({"what is 7?", "-n", "5", "--json", "--logprobs", "3"})));
  ASSERT_EQ(answer.at("logprobs").size(), answer.at("tokens").size());
  for (size_t i = 0; i < answer["tokens"].size(); ++i) {
    const json& top = answer["logprobs"][i];
    ASSERT_EQ(top.size(), 3u);
    EXPECT_EQ(top[0].at("id"), answer["tokens"][i]);  // greedy
    EXPECT_LE(top[0].at("logprob").get<double>(), 0);
    EXPECT_GE(top[0]["logprob"].get<double>(), top[1].at("logprob").get<double>());
    EXPECT_TRUE(top[0].at("token").is_string());
  }
}

TEST(Run, StreamedTextIsTheJsonAnswer) {
  for (const auto& base : {with_text_model({"describe the cat", "-n", "24", "--temp", "1", "--seed", "7"}),
                           with_picture({"-p", "describe the image", "-n", "24", "--temp", "1", "--seed", "8"})}) {
    auto arguments = base;
    const RunResult streamed = run_glimpse(arguments);
    EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
    EXPECT_EQ(streamed.err, "");
    arguments.push_back("--json");
    EXPECT_EQ(streamed.out, json_of(run_glimpse(arguments)).value("answer", "") + "\n");
  }
}

TEST(Run, QuestionMayComeFromAnywhere) {
  const ScratchDir dir;
  const std::string question = "what is this picture";
  const RunResult positional = run_glimpse(with_text_model({question, "-n", "8"}));
  EXPECT_EQ(positional.exit_code, 0) << positional.err;
  RunSetup with_input;
  with_input.input = question;
  const std::vector<std::pair<std::vector<std::string>, RunSetup>> ways = {
      {{"-p", question}, {}},
      {{"--prompt", question}, {}},
      {{"-f", dir.write("question.txt", question)}, {}},
      {{"-f", "-"}, with_input}};
  for (const auto& [way, setup] : ways) {
    auto arguments = with_text_model({"-n", "8"});
    arguments.insert(arguments.end(), way.begin(), way.end());
    const RunResult result = run_glimpse(arguments, setup);
    EXPECT_EQ(result.exit_code, 0) << way[0] << ": " << result.err;
    EXPECT_EQ(result.out, positional.out) << way[0];
  }
}

TEST(Run, QuestionMayFollowAFlagThatRepeats) {
  const json answer = json_of(run_glimpse(
      {"run", "-m", golden("tied/model.gguf"), "--mmproj", golden("tied/mmproj.gguf"), "-n", "3", "--image-max-tokens",
       "16", "--json", "--stop", "xyzzy", "--image", kPicture, "--image", kPicture, "what are these?"}));
  EXPECT_EQ(answer.at("images").size(), 2u);
}

TEST(Run, QuestionMayLookLikeAFlag) {
  const std::vector<std::string> questions[] = {{"-p", "-5 or 7?"}, {"-p", "run"}, {"--prompt=--help"}};
  for (std::vector<std::string> question : questions) {
    question.insert(question.end(), {"-n", "2"});
    const RunResult result = run_glimpse(with_text_model(question));
    EXPECT_EQ(result.exit_code, 0) << question[0] << ": " << result.err;
    EXPECT_THAT(result.out, testing::Not(HasSubstr("Usage"))) << question[0];
  }
}

TEST(Run, SystemPromptChangesThePrompt) {
  const auto prompt_tokens = [](std::vector<std::string> more) {
    more.insert(more.end(), {"-p", "what is 7?", "-n", "1", "--json"});
    return json_of(run_glimpse(with_text_model(more))).at("timings").at("prompt_tokens").get<int>();
  };
  const int bare = prompt_tokens({"--system", "x"});
  const int longer = prompt_tokens({"--system", "you are a helpful assistant and describe the image"});
  EXPECT_GT(longer, bare);
  EXPECT_EQ(prompt_tokens({"-sys", "x"}), bare);
}

TEST(Run, VerboseNamesTheStages) {
  const RunResult result = run_glimpse(with_picture({"-p", "describe", "-n", "3", "--verbose"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* stage : {"load", "decode image", "resize", "encode image", "prefill", "decode"}) {
    EXPECT_THAT(result.err, testing::ContainsRegex(std::string(stage) + " +[0-9.]+ ms")) << result.err;
  }
  EXPECT_EQ(result.out, run_glimpse(with_picture({"-p", "describe", "-n", "3"})).out);
}

TEST(Run, ReferenceAndKernelsAnswerAlike) {
  // Text of a tiny model with random weights: the first tokens agree unless a kernel is wrong.
  const auto tokens = [](const std::vector<std::string>& more) {
    auto arguments = with_text_model({"what is 7?", "-n", "4", "--json", "--kv-type", "f32"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json_of(run_glimpse(arguments)).at("tokens");
  };
  EXPECT_EQ(tokens({}), tokens({"--reference"}));
}

// On a machine with a GPU that the build can use the command answers; elsewhere it says what is missing, in one line.
TEST(Run, CudaAnswersOrSaysWhatIsMissing) {
  const RunResult result = run_glimpse(with_text_model({"-n", "2", "-p", "hello", "--device", "cuda"}));
  if (result.exit_code != 0) {
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, testing::AnyOf(HasSubstr("glimpse: no CUDA device: "), HasSubstr("has no CUDA")));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST(Run, PicturesComeFromAPipe) {
  const std::vector<std::string> rest = {"-n", "4", "-c", "256", "--image-max-tokens", "16", "what is this?"};
  const auto ask = [&](std::vector<std::string> images, const std::string& input) {
    std::vector<std::string> arguments = with_text_model({"--mmproj", golden("tied/mmproj.gguf")});
    arguments.insert(arguments.end(), images.begin(), images.end());
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    RunSetup setup;
    setup.input = input;
    return run_glimpse(arguments, setup);
  };
  const std::string bytes = read_all(kPicture);
  const RunResult file = ask({"--image", kPicture}, "");
  EXPECT_EQ(file.exit_code, 0) << file.err;
  for (const char* name : {"-", "/dev/stdin"}) {
    const RunResult piped = ask({"--image", name}, bytes);
    EXPECT_EQ(piped.exit_code, 0) << name << piped.err;
    EXPECT_EQ(piped.out, file.out) << name;
  }
  const RunResult twice = ask({"--image", "-", "--image", "-"}, bytes);
  EXPECT_EQ(twice.exit_code, 1);
  EXPECT_THAT(twice.err, HasSubstr("standard input"));
  const RunResult drawn = ask({"--image", "-", "--boxes", "/nonexistent/boxes.png"}, bytes);
  EXPECT_EQ(drawn.exit_code, 1);
  EXPECT_THAT(drawn.err, HasSubstr("pipe"));
}

// One word about it, and no more tokens for nobody.
TEST(Run, AnAnswerThatCannotBeWrittenEnds) {
  RunSetup full;
  full.stdout_path = "/dev/full";
  const RunResult result = run_glimpse(with_text_model({"-p", "the cat", "-n", "200"}), full);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "glimpse: cannot write to standard output: No space left on device\n");
}

TEST(Run, WhatIsNoPathIsTold) {
  const auto error_of = [](const std::string& path) {
    const RunResult result = run_glimpse(with_picture({"--image", path, "-p", "what?"}));
    EXPECT_EQ(result.exit_code, 1);
    return result.err;
  };
  EXPECT_THAT(error_of("https://example.org/cat.png"),
              HasSubstr("cannot open https://example.org/cat.png: it is a URL, and nothing is fetched"));
  EXPECT_THAT(error_of(""), HasSubstr("the path is empty"));
  ScratchDir dir;
  dir.write("thin.ppm", "P6\n300 1\n255\n" + std::string(900, 'x'));
  EXPECT_THAT(error_of(dir.file("thin.ppm")), HasSubstr("thin.ppm: a picture of 300 x 1 pixels is too thin"));
}

TEST(Run, PictureFilesHaveLimits) {
  const auto ask = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-n", "1", "-p", "what?"});
    return run_glimpse(with_picture(more));
  };
  const RunResult pixels = ask({"--image-source-max-pixels", "100"});
  EXPECT_EQ(pixels.exit_code, 1);
  EXPECT_THAT(pixels.err, HasSubstr("the limit is 100"));
  const std::string bomb = GLIMPSE_TEST_DIR "/loaders/data/image/bomb_rle8_16384.bmp";
  const RunResult memory =
      ask({"--image", bomb, "--image-source-max-pixels", "300000000", "--image-source-max-memory", "64"});
  EXPECT_EQ(memory.exit_code, 1);
  EXPECT_THAT(memory.err, HasSubstr("the limit is 64 MiB"));
  const std::string progressive = GLIMPSE_TEST_DIR "/loaders/data/image/jpeg_420_progressive.jpg";
  const RunResult scans = ask({"--image", progressive, "--image-source-max-scans", "3"});
  EXPECT_EQ(scans.exit_code, 1);
  EXPECT_THAT(scans.err, HasSubstr("3 scans"));
  EXPECT_EQ(ask({"--image-source-max-pixels", "10000"}).exit_code, 0);
}

TEST(Run, AutoAndNoGpuLayersNeedNoGpu) {
  const std::vector<std::string> question = {"-n", "2", "-p", "hello", "--verbose"};
  const auto ask = [&](std::vector<std::string> more) {
    more.insert(more.end(), question.begin(), question.end());
    return run_glimpse(with_text_model(more));
  };
  const RunResult zero = ask({"--device", "cuda", "--gpu-layers", "0"}), automatic = ask({"--device", "auto"});
  EXPECT_EQ(zero.exit_code, 0) << zero.err;
  EXPECT_EQ(zero.out, ask({"--device", "cpu"}).out);
  EXPECT_EQ(automatic.exit_code, 0) << automatic.err;
  EXPECT_THAT(automatic.err, testing::AnyOf(HasSubstr("device auto: the CPU, because"), HasSubstr("on cuda")));
}

// Without a GPU the option is accepted and changes nothing; with one, greedy answers are the same bits either way.
TEST(Run, CudaDecodeChangesNoGreedyAnswer) {
  const auto ask = [&](const char* decode) {
    return run_glimpse(with_text_model({"-n", "8", "-p", "hello", "--device", "auto", "--cuda-decode", decode}));
  };
  const RunResult graph = ask("graph"), launches = ask("launches");
  EXPECT_EQ(graph.exit_code, 0) << graph.err;
  EXPECT_EQ(graph.out, launches.out);
}

TEST(Run, KvTypeIsF16UnlessNamed) {
  const auto logprobs = [](const std::vector<std::string>& more) {
    auto arguments = with_text_model({"what is 7?", "-n", "4", "--json", "--logprobs", "3"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const RunResult result = run_glimpse(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json_of(result).at("logprobs").dump();
  };
  const std::string usual = logprobs({});
  EXPECT_EQ(logprobs({"--kv-type", "f16"}), usual);
  std::set<std::string> seen = {usual};
  for (const char* other : {"f32", "bf16", "q8_0"}) {
    EXPECT_TRUE(seen.insert(logprobs({"--kv-type", other})).second) << other;
  }
}

TEST(Run, AnswerDoesNotDependOnThreadsOrBatch) {
  const auto answer = [](const std::vector<std::string>& more) {
    auto arguments = with_picture({"-p", "describe the image", "-n", "16"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_glimpse(arguments).out;
  };
  const std::string one = answer({"-t", "1"});
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(answer({"-t", "3"}), one);
  EXPECT_EQ(answer({"-t", "2", "-b", "5"}), one);
}

TEST(Run, SpeculationChangesNoToken) {
  // Greedy, the tiny model of random weights repeats itself; sampled, drafts are often wrong, perhaps all of them.
  const std::vector<std::string> repeating = {
      "run", "-m", golden("quantized/model.gguf"), "-p", "the cat the cat", "-n", "60", "--json", "--logprobs", "2"};
  for (const auto& base :
       {repeating, with_picture({"-p", "7777", "-n", "60", "--json", "--temp", "0.5", "--seed", "3"})}) {
    const json plain = json_of(run_glimpse(base));
    EXPECT_EQ(plain.at("timings").at("drafted_tokens"), 0);
    EXPECT_EQ(plain.at("timings").at("accepted_tokens"), 0);
    for (const char* n : {"1", "4", "15"}) {
      auto arguments = base;
      arguments.insert(arguments.end(), {"--speculate", n});
      const json answer = json_of(run_glimpse(arguments));
      for (const char* field : {"answer", "tokens", "finish_reason"}) EXPECT_EQ(answer.at(field), plain.at(field)) << n;
      EXPECT_EQ(answer.value("logprobs", json()), plain.value("logprobs", json())) << n;
      const json& timings = answer.at("timings");
      EXPECT_GT(timings.at("drafted_tokens").get<int>(), 0) << n;
      if (base == repeating) {
        EXPECT_GT(timings.at("accepted_tokens").get<int>(), 0) << n;
      }
      EXPECT_LE(timings["accepted_tokens"].get<int>(), timings["drafted_tokens"].get<int>()) << n;
    }
  }
}

TEST(Run, ADraftModelChangesNoToken) {
  for (const char* temperature : {"0", "0.8"}) {
    std::vector<std::string> arguments = {
        "run", "-m",    golden("tied/model.gguf"), "-p", "the cat", "-n", "24", "--temp", temperature, "--seed",
        "3",   "--json"};
    const auto plain = nlohmann::json::parse(run_glimpse(arguments).out);
    arguments.insert(arguments.end(), {"-md", golden("tied/model.gguf"), "--draft-max", "3", "--draft-min-p", "1e-9"});
    const auto drafted = nlohmann::json::parse(run_glimpse(arguments).out);
    EXPECT_EQ(drafted.at("tokens"), plain.at("tokens"));
    EXPECT_GT(drafted.at("timings").at("accepted_tokens").get<int>(), 12);  // it draws what the model itself would
    EXPECT_EQ(plain.at("timings").at("drafted_tokens"), 0);
  }
  const RunResult other =
      run_glimpse({"run", "-m", golden("tied/model.gguf"), "-p", "hi", "--draft-model", "none.gguf"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.err, HasSubstr("none.gguf"));
}

TEST(Run, VerboseSaysHowManyDraftsWereAccepted) {
  const auto base = with_text_model({"the cat the cat", "-n", "60", "--verbose"});
  EXPECT_THAT(run_glimpse(base).err, testing::Not(HasSubstr("accepted")));
  auto arguments = base;
  arguments.insert(arguments.end(), {"--speculate", "4"});
  EXPECT_THAT(run_glimpse(arguments).err, testing::ContainsRegex("drafts +[0-9]+ tokens, [0-9]+ accepted"));
}

TEST(Run, UnknownForcedIsaIsAnError) {
  RunSetup setup;
  setup.environment = {"GLIMPSE_FORCE_ISA=sse9"};
  const RunResult result = run_glimpse(with_text_model({"hello"}), setup);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("sse9"));
  setup.environment = {"GLIMPSE_FORCE_ISA=ref"};
  EXPECT_EQ(run_glimpse(with_text_model({"hello", "-n", "2"}), setup).exit_code, 0);
}

TEST(Run, InterruptEndsTheWaitForStandardInput) {
  // A fifo that nobody writes keeps `run -f FIFO` waiting; Ctrl-C must end it at once.
  const ScratchDir dir;
  bool sent = false;
  int ticks = 0;
  RunSetup setup;
  setup.timeout_seconds = 20;
  setup.while_running = [&](pid_t pid) {
    if (!sent && ++ticks > 200) sent = kill(pid, SIGINT) == 0;
  };
  ASSERT_EQ(mkfifo(dir.file("fifo").c_str(), 0600), 0);
  const RunResult result = run_glimpse(with_text_model({"-f", dir.file("fifo")}), setup);
  EXPECT_TRUE(sent);
  EXPECT_EQ(result.signal, SIGINT);
  EXPECT_EQ(result.out, "");
}

}  // namespace
}  // namespace glimpse::cli_test
