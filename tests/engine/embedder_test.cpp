// Vectors and scores against transformers' activations of the same weights (tests/golden/qwen3).
#include "engine/generate/embedder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/generate/conversation.h"
#include "engine/generate/picture_encoder.h"
#include "tests/engine/model_editor.h"
#include "tests/engine/session_support.h"

namespace glimpse::testing {
namespace {

constexpr int64_t kWidth = 48;

std::shared_ptr<const Model> qwen3_with(Pooling pooling, bool reference,
                                        const std::function<void(ModelEditor&)>& edit = {}) {
  ModelEditor editor("qwen3/model.gguf");
  if (pooling != Pooling::kNone) editor.set("qwen3.pooling_type", static_cast<uint64_t>(pooling));
  if (edit) edit(editor);
  ModelOptions options;
  options.model_path = editor.write();
  options.n_threads = 1;
  options.use_reference = reference;
  return must(Model::load(options));
}

// What the reference has behind its last norm, from what it had before it: (rows, kWidth).
std::vector<std::vector<double>> golden_hidden() {
  const std::vector<float> rows = GoldenCase("qwen3/case-text.gguf").floats("blk.1.ffn_out");
  ModelEditor file("qwen3/model.gguf");
  const float* const weight = file.floats("output_norm.weight");
  std::vector<std::vector<double>> out;
  for (size_t row = 0; row < rows.size() / kWidth; ++row) {
    double squares = 0;
    for (size_t i = 0; i < kWidth; ++i) squares += std::pow(static_cast<double>(rows[row * kWidth + i]), 2);
    std::vector<double>& to = out.emplace_back();
    for (size_t i = 0; i < kWidth; ++i) {
      to.push_back(rows[row * kWidth + i] / std::sqrt(squares / kWidth + 1e-6) * static_cast<double>(weight[i]));
    }
  }
  return out;
}

std::unique_ptr<Embedder> embedder_of(std::shared_ptr<const Model> model, int64_t context = 128, int64_t batch = 64) {
  SessionOptions options = small_session(context);
  options.batch = batch;
  options.n_threads = 2;
  return must(Embedder::create(std::move(model), options));
}

EmbedInput text(std::string s) {
  return {{std::move(s), nullptr}};
}

double cosine(const std::vector<float>& a, const std::vector<double>& b) {
  double dot = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += a[i] * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += b[i] * b[i];
  }
  return dot / std::sqrt(aa * bb);
}

TEST(Embedder, HiddenStatesAreTheReferences) {
  const GoldenCase golden("qwen3/case-text.gguf");
  const std::vector<int32_t> ids = golden.ints("ids");
  const std::vector<std::vector<double>> want = golden_hidden();
  for (const bool reference : {true, false}) {
    const auto embedder = embedder_of(qwen3_with(Pooling::kLast, reference));
    const Embedder::Prompt prompt{{ids.begin(), ids.end()}, {}};
    const auto all = must(embedder->run(std::span(&prompt, 1), DecoderOutput::kHidden, true, {}));
    const auto last = must(embedder->run(std::span(&prompt, 1), DecoderOutput::kHidden, false, {}));
    std::vector<float> flat;
    for (const auto& row : want) flat.insert(flat.end(), row.begin(), row.end());
    EXPECT_LE(nmse(all[0], flat), reference ? 1e-10 : 1e-4);
    EXPECT_EQ(last[0], std::vector<float>(all[0].end() - kWidth, all[0].end()));
  }
}

TEST(Embedder, PoolsAsTheFileSaysAndNormalises) {
  // A text whose rows are known: what follows it is the end token.
  const auto model = qwen3_with(Pooling::kLast, true);
  const Tokenizer& tokenizer = model->tokenizer();
  std::vector<TokenId> ids = must(tokenizer.encode("what is 7?", {}));
  ids.push_back(tokenizer.find("<|endoftext|>"));
  for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kLast}) {
    const auto embedder = embedder_of(qwen3_with(pooling, true));
    const Embedder::Prompt prompt{ids, {}};
    const auto rows = must(embedder->run(std::span(&prompt, 1), DecoderOutput::kHidden, true, {}))[0];
    const size_t n = rows.size() / kWidth;
    ASSERT_EQ(n, ids.size());
    std::vector<double> want(kWidth);
    for (size_t i = 0; i < kWidth; ++i) {
      for (size_t row = 0; row < n; ++row) {
        const bool counts = pooling == Pooling::kMean || row == (pooling == Pooling::kCls ? 0 : n - 1);
        want[i] += counts ? rows[row * kWidth + i] : 0.0;
      }
    }
    const EmbedInput input = text("what is 7?");
    const std::vector<float> vector = must(embedder->embed(std::span(&input, 1), {}, {}))[0];
    EXPECT_NEAR(cosine(vector, want), 1, 1e-7) << pooling_name(pooling);
    double length = 0;
    for (const float v : vector) length += static_cast<double>(v) * v;
    EXPECT_NEAR(length, 1, 1e-6);
    const std::vector<float> raw = must(embedder->embed(std::span(&input, 1), {.normalize = false}, {}))[0];
    const double scale = pooling == Pooling::kMean ? static_cast<double>(n) : 1;
    for (size_t i = 0; i < kWidth; ++i) EXPECT_NEAR(raw[i] * scale, want[i], 1e-4);
  }
}

TEST(Embedder, TheFileSaysWhetherAnEndFollows) {
  const auto n_rows = [&](const std::function<void(ModelEditor&)>& edit) {
    const auto embedder = embedder_of(qwen3_with(Pooling::kLast, true, edit), 32);
    // As long as the context allows: one more token and it is refused.
    int n = 0;
    for (std::string s = "7"; n < 64; s += "7", ++n) {
      const EmbedInput input = text(s);
      if (!embedder->embed(std::span(&input, 1), {}, {}).ok()) break;
    }
    return n;
  };
  EXPECT_EQ(n_rows([](ModelEditor& e) { e.set_bool("tokenizer.ggml.add_eos_token", false); }), 32);
  EXPECT_EQ(n_rows([](ModelEditor& e) { e.set_bool("tokenizer.ggml.add_eos_token", true); }), 31);
  EXPECT_EQ(n_rows({}), 31);
}

TEST(Embedder, AnInputIsWhatItIsAlone) {
  const auto model = qwen3_with(Pooling::kMean, false);
  std::vector<EmbedInput> inputs;
  for (int i = 0; i < 12; ++i) {
    std::string s = "the cat";
    for (int k = 0; k < (i * 7) % 23; ++k) s += " is";
    inputs.push_back(text(s));
  }
  const auto together = must(embedder_of(model, 128, 64)->embed(inputs, {.instruction = "find it"}, {}));
  const auto narrow = embedder_of(model, 64, 7);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(must(narrow->embed(std::span(&inputs[i], 1), {.instruction = "find it"}, {}))[0], together[i]) << i;
  }
  // An instruction is a part of the text.
  const EmbedInput spelled = text("Instruct: find it\nQuery:the cat"), plain = text("the cat");
  EXPECT_EQ(must(narrow->embed(std::span(&spelled, 1), {}, {}))[0], together[0]);
  EXPECT_NE(must(narrow->embed(std::span(&plain, 1), {}, {}))[0], together[0]);
}

// cls.output as llama.cpp's converter makes it: the head's rows of "yes" and "no", here of two other tokens.
void add_classifier(ModelEditor& editor, size_t first, size_t second) {
  const float* const rows = editor.floats("token_embd.weight");
  std::vector<float> head(rows + first * kWidth, rows + (first + 1) * kWidth);
  head.insert(head.end(), rows + second * kWidth, rows + (second + 1) * kWidth);
  const auto bytes = std::as_bytes(std::span(head));
  editor.add({"cls.output.weight", DType::kF32, {kWidth, 2}, {bytes.begin(), bytes.end()}});
}

TEST(Embedder, ClassifiersScoresAreTheReferences) {
  const GoldenCase golden("qwen3/case-text.gguf");
  const std::vector<int32_t> ids = golden.ints("ids");
  const std::vector<float> logits = golden.floats("logits");
  const size_t yes = 40, no = 77, last = logits.size() - 320;
  const auto model = qwen3_with(Pooling::kRank, true, [&](ModelEditor& e) { add_classifier(e, yes, no); });
  const auto embedder = embedder_of(model);
  const Embedder::Prompt prompt{{ids.begin(), ids.end()}, {}};
  const auto labels = must(embedder->run(std::span(&prompt, 1), DecoderOutput::kLabels, false, {}))[0];
  ASSERT_EQ(labels.size(), 2u);
  EXPECT_NEAR(labels[0], logits[last + yes], 1e-4);
  EXPECT_NEAR(labels[1], logits[last + no], 1e-4);
}

TEST(Embedder, RanksByTheClassifierOrByYesAndNo) {
  // The same head in both forms, so that the scores agree: tokens called "yes" and "no" and a classifier of their rows.
  const size_t yes = 310, no = 311;
  const auto name = [&](ModelEditor& e) {
    e.name_token(yes, "yes").name_token(no, "no").set_token_type(yes, 1).set_token_type(no, 1);
  };
  const auto spoken = embedder_of(qwen3_with(Pooling::kNone, true, name), 512);
  const auto judged = embedder_of(qwen3_with(Pooling::kRank, true,
                                             [&](ModelEditor& e) {
                                               name(e);
                                               add_classifier(e, yes, no);
                                             }),
                                  512);
  const std::vector<EmbedInput> documents = {text("the cat"), text("what is <|im_end|> 7"), text("an image of it")};
  const std::vector<float> by_words = must(spoken->rank(text("cat"), documents, {}, {}));
  const std::vector<float> by_head = must(judged->rank(text("cat"), documents, {}, {}));
  ASSERT_EQ(by_words.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(by_words[i], by_head[i], 1e-5);
    EXPECT_GT(by_words[i], 0);
    EXPECT_LT(by_words[i], 1);
  }
  EXPECT_NE(by_words[0], by_words[1]);
  EXPECT_NE(must(judged->rank(text("cat"), documents, {.instruction = "other"}, {})), by_head);
}

TEST(Embedder, ModelsDoWhatTheyWereMadeFor) {
  const EmbedInput input = text("the cat");
  const auto speaks = embedder_of(qwen3_with(Pooling::kNone, true));
  EXPECT_EQ(speaks->embed(std::span(&input, 1), {}, {}).error().code, ErrorCode::kUnsupported);
  EXPECT_TRUE(speaks->embed(std::span(&input, 1), {.pooling = Pooling::kLast}, {}).ok());
  EXPECT_EQ(speaks->rank(input, std::span(&input, 1), {}, {}).error().code, ErrorCode::kUnsupported);  // no "yes"
  const auto vectors = qwen3_with(Pooling::kLast, true);
  const auto embeds = embedder_of(vectors);
  EXPECT_NE(embeds->rank(input, std::span(&input, 1), {}, {}).error().message.find("pooling_type last"),
            std::string::npos);
  const EmbedInput picture = {{"", std::make_shared<ImageEmbedding>()}}, bad = text("\xff");
  EXPECT_EQ(embeds->embed(std::span(&picture, 1), {}, {}).error().code, ErrorCode::kMismatch);
  EXPECT_NE(embeds->embed(std::span(&bad, 1), {}, {}).error().message.find("input 1: "), std::string::npos);
  const auto chat = Session::create(vectors, small_session());
  ASSERT_FALSE(chat.ok());
  EXPECT_EQ(chat.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(chat.error().message.find("embedding model (pooling_type last): it makes vectors"), std::string::npos);
}

TEST(Embedder, FilesOfOtherKindsAreRefusedByName) {
  const auto refused = [](const std::function<void(ModelEditor&)>& edit) {
    ModelEditor editor("qwen3/model.gguf");
    edit(editor);
    ModelOptions options;
    options.model_path = editor.write();
    const auto model = Model::load(options);
    return model.ok() ? "" : model.error().message;
  };
  EXPECT_NE(refused([](ModelEditor& e) { e.set("qwen3.pooling_type", 5); }).find("known are 0 to 4"),
            std::string::npos);
  EXPECT_NE(refused([](ModelEditor& e) { e.set("qwen3.pooling_type", 4); }).find("without a classifier"),
            std::string::npos);
  EXPECT_NE(refused([](ModelEditor& e) { e.set_bool("qwen3.attention.causal", false); }).find("attention.causal"),
            std::string::npos);
}

// A picture's vector is that of the prompt around it (Qwen3-VL-Embedding).
TEST(Embedder, PicturesStandInAChat) {
  ModelEditor editor("qwen3vl/model.gguf");
  editor.set("qwen3vl.pooling_type", 3);
  ModelOptions options;
  options.model_path = editor.write();
  options.mmproj_path = golden_path("qwen3vl/mmproj.gguf");
  options.n_threads = 1;
  options.use_reference = true;
  options.vision_precision = VisionPrecision::kF32;
  const auto model = must(Model::load(options));
  EncoderOptions encoder_options;
  encoder_options.image_limits = {1, 1 << 20};
  const auto encoder = must(PictureEncoder::create(model, encoder_options));
  const std::vector<Image> pictures = GoldenCase("qwen3vl/case-image.gguf").pictures();
  const auto reader = read_pixels_of(pictures[0].pixels.data(), pictures[0].width, pictures[0].height,
                                     3 * static_cast<size_t>(pictures[0].width));
  const auto embedding = std::make_shared<const ImageEmbedding>(must(encoder->encode(*reader, nullptr, {})));
  const auto embedder = embedder_of(model, 512);
  const EmbedInput input = {{"", embedding}, {"the cat", nullptr}};
  const std::vector<float> vector = must(embedder->embed(std::span(&input, 1), {.normalize = false}, {}))[0];

  ChatOptions chat;
  chat.default_system = "Represent the user's input.";
  std::vector<const ImageEmbedding*> none;
  const auto messages =
      must(chat_messages({{"user", input}}, model->text().embedding_width(), model->vision_fingerprint(), none));
  const TokenizedChat tokenized = must(tokenize_chat(model->tokenizer(), messages, chat));
  const Embedder::Prompt prompt{tokenized.ids, {{tokenized.visuals[0].position, embedding.get()}}};
  EXPECT_EQ(must(embedder->run(std::span(&prompt, 1), DecoderOutput::kHidden, false, {}))[0], vector);
  // The times of a video's slices stand between them.
  ImageEmbedding video = *embedding;
  video.is_video = true;
  video.grid.t = 2;
  video.n_tokens *= 2;
  video.values.insert(video.values.end(), embedding->values.begin(), embedding->values.end());
  const auto vector_at = [&](double seconds) {
    video.slice_seconds = {0.5, seconds};
    const EmbedInput seen = {{"", std::make_shared<const ImageEmbedding>(video)}, {"the cat", nullptr}};
    return must(embedder->embed(std::span(&seen, 1), {.normalize = false}, {}))[0];
  };
  EXPECT_EQ(vector_at(2.5), vector_at(2.5));
  EXPECT_NE(vector_at(2.5), vector_at(7.5));

  const EmbedInput alone = {{"the cat", nullptr}};
  EXPECT_NE(must(embedder->embed(std::span(&alone, 1), {.normalize = false}, {}))[0], vector);
}

}  // namespace
}  // namespace glimpse::testing
