// Pictures whose repeated cells are left out: which stay, where they stand, and what becomes of them.
#include "engine/preprocess/repeated_cells.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>

#include "engine/generate/picture_encoder.h"
#include "engine/model/positions.h"
#include "engine/model/vision_encoder.h"
#include "engine/model/windows.h"
#include "tests/engine/engine_support.h"

namespace glimpse::testing {
namespace {

// Every cell of one colour, which a letter stands for.
Image painted(const std::vector<std::string>& cells, int64_t side = 28) {
  const auto rows = static_cast<int64_t>(cells.size()), cols = static_cast<int64_t>(cells[0].size());
  Image image;
  image.width = static_cast<int>(cols * side);
  image.height = static_cast<int>(rows * side);
  for (int64_t y = 0; y < rows * side; ++y) {
    for (int64_t x = 0; x < cols * side; ++x) {
      const char letter = cells[static_cast<size_t>(y / side)][static_cast<size_t>(x / side)];
      for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(40 * c + 5 * (letter - 'a')));
    }
  }
  return image;
}

std::vector<int32_t> kept(const std::vector<std::string>& cells, PatchForm form = PatchForm::kValues) {
  Patches patches = must(extract_patches(painted(cells), PatchConfig(), nullptr, form));
  leave_out_repeated_cells(patches, 2);
  return patches.cells;
}

TEST(RepeatedCells, AreThoseThatTheirNeighboursForetell) {
  using Cells = std::vector<int32_t>;
  EXPECT_EQ(kept({"aaaa", "aaaa", "aaaa"}), Cells({0}));
  EXPECT_EQ(kept({"abab", "cdcd"}), Cells());  // none is: all stay
  EXPECT_EQ(kept({"aabb"}), Cells({0, 2}));
  EXPECT_EQ(kept({"a", "a", "b"}), Cells({0, 2}));
  // A rectangle on a ground: its left upper corner, the ground beside it where it begins and where it ends.
  EXPECT_EQ(kept({"aaaaa", "abbba", "abbba", "aaaaa"}), Cells({0, 6, 9, 16}));
  // Stripes that run down go on below.
  EXPECT_EQ(kept({"aabb", "aabb", "aabb"}), Cells({0, 2}));
}

TEST(RepeatedCells, CanBePutBack) {
  uint32_t random = 1;
  const auto next = [&] { return (random = random * 1664525 + 1013904223) >> 16; };
  for (int round = 0; round < 50; ++round) {
    const size_t rows = 1 + next() % 6, cols = 1 + next() % 6;
    std::vector<std::string> cells(rows, std::string(cols, 'a'));
    for (std::string& row : cells) {
      for (char& cell : row) cell = static_cast<char>('a' + (next() % 3 == 0 ? next() % 3 : 0));
    }
    std::vector<int32_t> there = kept(cells);
    EXPECT_EQ(there, kept(cells, PatchForm::kBytes));
    if (there.empty()) continue;
    std::vector<std::string> back(rows, std::string(cols, '?'));
    size_t n = 0;
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < cols; ++c) {
        if (n < there.size() && there[n] == static_cast<int32_t>(r * cols + c)) {
          back[r][c] = cells[r][c];
          ++n;
        } else if (r == 0 || c == 0) {
          back[r][c] = c > 0 ? back[r][c - 1] : back[r - 1][c];
        } else {
          const bool edge = back[r - 1][c - 1] == back[r][c - 1] && back[r - 1][c - 1] != back[r - 1][c];
          back[r][c] = edge ? back[r - 1][c] : back[r][c - 1];
        }
      }
    }
    EXPECT_EQ(back, cells);
  }
}

TEST(RepeatedCells, LeaveTheOthersWhereTheyAre) {
  const Image image = painted({"aaaab", "aacab", "aaaab"});
  const Patches all = must(extract_patches(image, PatchConfig(), nullptr));
  Patches some = all;
  leave_out_repeated_cells(some, 2);
  const auto n = static_cast<size_t>(4 * all.row_length);
  ASSERT_EQ(some.values.size(), some.cells.size() * n);
  for (size_t i = 0; i < some.cells.size(); ++i) {
    EXPECT_TRUE(std::equal(some.values.begin() + static_cast<ptrdiff_t>(i * n),
                           some.values.begin() + static_cast<ptrdiff_t>((i + 1) * n),
                           all.values.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(some.cells[i]) * n)));
  }
  EXPECT_EQ(some.n_rows(), static_cast<int64_t>(4 * some.cells.size()));

  std::vector<MropePosition> whole, part;
  PositionCounter counter, counter_of_some;
  counter.set_next(7);
  counter_of_some.set_next(7);
  counter.append_visual(all.grid, 2, 1, whole);
  counter_of_some.append_visual(some.grid, 2, 1, part, some.cells);
  ASSERT_EQ(part.size(), some.cells.size());
  for (size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], whole[static_cast<size_t>(some.cells[i])]);
  EXPECT_EQ(counter_of_some.next(), counter.next());
  EXPECT_EQ(counter_of_some.greatest(), counter.greatest());

  const int64_t half = 8;
  std::vector<float> cos(static_cast<size_t>(all.grid.n_patches() * half)), sin = cos, cos_some = cos, sin_some = cos;
  fill_vision_rope_table(all.grid, 2, 2 * half, WindowLayout(3, 5, 0), cos.data(), sin.data());
  fill_vision_rope_table(some.grid, 2, 2 * half, WindowLayout(3, 5, 0, some.cells), cos_some.data(), sin_some.data(),
                         some.cells);
  for (size_t i = 0; i < some.cells.size() * 4 * half; ++i) {
    const size_t at = static_cast<size_t>(some.cells[i / (4 * half)]) * 4 * half + i % (4 * half);
    EXPECT_EQ(cos_some[i], cos[at]);
    EXPECT_EQ(sin_some[i], sin[at]);
  }
}

TEST(RepeatedCells, WindowsHaveThoseThatAreThere) {
  const std::vector<int32_t> cells = {0, 3, 4, 6, 14};  // of 3 rows of 5
  const WindowLayout layout(3, 5, 2, cells);
  EXPECT_EQ(layout.windows, std::vector<int64_t>({2, 1, 1, 1}));  // (0, 6), (3), (4), (14)
  std::vector<int64_t> order;
  layout.for_runs(0, 5, [&](int64_t, int64_t from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) order.push_back(from + i);
  });
  EXPECT_EQ(order, std::vector<int64_t>({0, 3, 1, 2, 4}));
  std::vector<int32_t> all(15);
  std::iota(all.begin(), all.end(), 0);
  const WindowLayout named(3, 5, 2, all), plain(3, 5, 2);
  EXPECT_EQ(named.windows, plain.windows);
  std::map<int64_t, int64_t> a, b;
  named.for_runs(0, 15, [&](int64_t to, int64_t from, int64_t n) {
    while (n-- > 0) a[to++] = from++;
  });
  plain.for_runs(0, 15, [&](int64_t to, int64_t from, int64_t n) {
    while (n-- > 0) b[to++] = from++;
  });
  EXPECT_EQ(a, b);
}

// -- the encoder, the session and the engine
// -------------------------------------------------------------------------

std::shared_ptr<const Model> model_of(const std::string& pair, bool reference) {
  ModelOptions options;
  options.model_path = golden_path(pair + "/model.gguf");
  options.mmproj_path = golden_path(pair + "/mmproj.gguf");
  options.use_reference = reference;
  options.n_threads = 1;
  options.vision_precision = VisionPrecision::kF32;
  return must(Model::load(options));
}

std::shared_ptr<const ImageEmbedding> embedding_of(const std::shared_ptr<const Model>& model, const Image& image,
                                                   bool dedup) {
  SessionOptions options = small_session();
  options.image_limits = {784, 1024 * 64};
  options.dedup_patches = dedup;
  return must(make_session(model, options)->encode_image(image, nullptr, {}));
}

// Each family, for its windows, its table of positions and its pieces of rows: the kernels against the oracle, and a
// picture that repeats nothing against the one that is looked at for it.
TEST(RepeatedCells, EncodersOfAllFamiliesTakeThem) {
  for (const char* pair : {"tied", "qwen25vl", "qwen3vl"}) {
    const auto oracle = model_of(pair, true), kernels = model_of(pair, false);
    const int64_t side = oracle->vision().resize_factor();
    const Image flat = painted({"aaaaaaab", "aaacaaab", "aaaaaaab", "dddddddd"}, side);
    const auto whole = embedding_of(oracle, flat, false), want = embedding_of(oracle, flat, true),
               got = embedding_of(kernels, flat, true);
    EXPECT_EQ(whole->n_tokens, 32) << pair;
    EXPECT_EQ(want->cells, std::vector<int32_t>({0, 7, 11, 12, 19, 24})) << pair;
    EXPECT_EQ(want->n_tokens, 6);
    EXPECT_EQ(got->cells, want->cells);
    ASSERT_EQ(got->values.size(), want->values.size());
    double error = 0, energy = 0, other = 0;
    for (size_t i = 0; i < want->values.size(); ++i) {
      const double was = static_cast<double>(
          whole->values[static_cast<size_t>(want->cells[i / static_cast<size_t>(want->width)] * want->width) +
                        i % static_cast<size_t>(want->width)]);
      error += std::pow(static_cast<double>(got->values[i] - want->values[i]), 2);
      other += std::pow(static_cast<double>(want->values[i]) - was, 2);
      energy += std::pow(static_cast<double>(want->values[i]), 2);
    }
    EXPECT_LT(error, 1e-3 * energy) << pair;
    EXPECT_GT(other, 1e-6 * energy) << pair;  // what is left sees less

    Image busy = flat;
    uint32_t random = 1;
    for (uint8_t& value : busy.pixels) value = static_cast<uint8_t>((random = random * 1664525 + 1013904223) >> 24);
    const auto plain = embedding_of(kernels, busy, false), looked_at = embedding_of(kernels, busy, true);
    EXPECT_TRUE(looked_at->cells.empty());
    EXPECT_EQ(looked_at->values, plain->values);
  }
}

TEST(RepeatedCells, PicturesInOnePassAreWhatTheyAreAlone) {
  const auto model = model_of("qwen25vl", false);
  const int64_t side = model->vision().resize_factor();
  const std::vector<Image> images = {painted({"aaaaaa", "aabaaa"}, side), painted({"cccd", "cccd", "eeee"}, side),
                                     painted({"ab", "cd"}, side)};
  EncoderOptions options;
  options.n_threads = 2;
  options.image_limits = {784, 1024 * 64};
  options.dedup_patches = true;
  const auto encoder = must(PictureEncoder::create(model, options));
  std::vector<std::unique_ptr<ImageReader>> readers;
  std::vector<ImageReader*> pointers;
  for (const Image& image : images) {
    readers.push_back(
        read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width)));
    pointers.push_back(readers.back().get());
  }
  const std::vector<ImageEmbedding> together = must(encoder->encode(pointers, nullptr, {}));
  for (size_t i = 0; i < images.size(); ++i) {
    const auto alone = embedding_of(model, images[i], true);
    EXPECT_EQ(together[i].cells, alone->cells);
    EXPECT_EQ(together[i].values, alone->values);
  }
}

TEST(RepeatedCells, AConversationGoesOnSavesAndLoads) {
  SessionOptions options = small_session(512);
  options.dedup_patches = true;
  const auto session = make_session(tied_model(false), options), other = make_session(tied_model(false), options);
  const auto picture = must(session->encode_image(painted(std::vector<std::string>(8, "aaaaaaaa")), nullptr, {}));
  EXPECT_EQ(picture->n_tokens, 1);
  const std::vector<Message> messages = {{"user", {{"", picture}, {"the cat", nullptr}}}};
  const Answer first = must(session->generate(messages, greedy(8)));
  EXPECT_EQ(first.timings.n_image_tokens, 1);
  std::vector<std::byte> bytes;
  EXPECT_OK(session->save([&](std::span<const std::byte> piece) -> Status {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return {};
  }));
  EXPECT_OK(other->load(bytes));  // its positions are beyond its slots
  EXPECT_EQ(must(other->generate({}, greedy(8))).tokens, must(session->generate({}, greedy(8))).tokens);
}

// The context has to hold what is shown of a picture, however large its grid; where that is too much, too.
TEST(RepeatedCells, TakeNoRoom) {
  SessionOptions options = small_session(60);
  options.dedup_patches = true;
  const auto session = make_session(tied_model(false), options);
  EngineOptions engine_options = small_engine();
  engine_options.context = 60;
  engine_options.dedup_patches = true;
  const auto engine = make_engine(engine_options);
  const Image flat = painted(std::vector<std::string>(8, "aaaaaaaa")), busy = noise(8 * 28, 8 * 28, 3);
  EXPECT_EQ(encode(*session, flat)->n_tokens, 1);
  const RequestResult answered = engine->ask(ask_for("the cat", 2, {flat}));
  EXPECT_OK(answered.status);
  EXPECT_EQ(answered.answer.timings.n_image_tokens, 1);
  const Error refused = session->encode_image(busy, nullptr, {}).error();
  EXPECT_EQ(refused.code, ErrorCode::kContextFull);
  EXPECT_EQ(refused.message.find("the picture needs 64 tokens; the context holds 60"), 0u) << refused.message;
  const Error failed = engine->ask(ask_for("the cat", 2, {busy})).status.error();
  EXPECT_EQ(failed.code, ErrorCode::kContextFull);
  EXPECT_EQ(failed.message, "picture 1: it needs 64 tokens; the context holds 60");
}

TEST(RepeatedCells, AreCountedAsTheyAreLeftOut) {
  const auto model = model_of("qwen25vl", false);
  const int64_t side = model->vision().resize_factor();
  PictureOptions options;
  options.image_limits = {784, 1024 * 64};
  for (const Image& image : {painted({"aaaaaaab", "aaacaaab", "aaaaaaab", "dddddddd"}, side), noise(90, 170, 5)}) {
    for (const bool dedup : {false, true}) {
      options.dedup_patches = dedup;
      const auto reader =
          read_pixels_of(image.pixels.data(), image.width, image.height, 3 * static_cast<size_t>(image.width));
      const PictureSizes sizes = must(picture_sizes(options, &model->vision(), 4096));
      EXPECT_EQ(must(count_image_tokens(*reader, model->vision(), sizes)), embedding_of(model, image, dedup)->n_tokens);
    }
  }
}

TEST(RepeatedCells, AnEmbeddingKeepsThemAsBytes) {
  const auto picture = embedding_of(tied_model(false), painted({"aaab", "aaab", "cccc"}), true);
  const std::vector<std::byte> bytes = save_embedding(*picture);
  const ImageEmbedding back = must(load_embedding(bytes));
  EXPECT_EQ(back.cells, picture->cells);
  EXPECT_EQ(back.values, picture->values);
  EXPECT_EQ(save_embedding(back), bytes);
  const size_t cells_at = bytes.size() - picture->values.size() * 4 - picture->cells.size() * 4;
  const auto changed = [&](size_t index, int32_t cell) {
    std::vector<std::byte> copy = bytes;
    std::memcpy(copy.data() + cells_at + 4 * index, &cell, 4);
    seal_embedding(copy);
    return load_embedding(copy).error();
  };
  EXPECT_EQ(changed(0, -1).code, ErrorCode::kCorrupt);
  EXPECT_EQ(changed(1, picture->cells[0]).code, ErrorCode::kCorrupt);
  EXPECT_EQ(changed(picture->cells.size() - 1, 12).code, ErrorCode::kCorrupt);
  EXPECT_EQ(load_embedding(std::span(bytes).first(cells_at + 3)).error().code, ErrorCode::kTruncated);
  ImageEmbedding vast = *picture;  // of more cells than there are numbers, and than can be said to be left out
  vast.grid = {1, 1 << 20, 1 << 20};
  EXPECT_EQ(load_embedding(save_embedding(vast)).error().code, ErrorCode::kCorrupt);
}

// Embeddings come from the host: nothing in them is taken on trust.
TEST(RepeatedCells, ThatContradictTheirEmbeddingAreRefused) {
  const auto session = make_session(tied_model(false), small_session());
  const auto picture = embedding_of(tied_model(false), painted({"aaab", "aaab", "cccc"}), true);
  const auto refused = [&](const std::function<void(ImageEmbedding&)>& change) {
    auto copy = std::make_shared<ImageEmbedding>(*picture);
    change(*copy);
    return session->prefill({{"user", {{"", copy}}}}, {}).error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](ImageEmbedding& e) { e.cells.pop_back(); }));
  EXPECT_TRUE(refused([](ImageEmbedding& e) { e.cells.clear(); }));
  EXPECT_TRUE(refused([](ImageEmbedding& e) { e.cells.back() = 12; }));
  EXPECT_TRUE(refused([](ImageEmbedding& e) { std::swap(e.cells[0], e.cells[1]); }));
  EXPECT_TRUE(refused([](ImageEmbedding& e) { e.is_video = true; }));
  EXPECT_OK(session->prefill({{"user", {{"", picture}}}}, {}));
}

// One cell may stand for a wide grid, and a message may have many.
TEST(RepeatedCells, PositionsHaveAnEnd) {
  auto wide = std::make_shared<ImageEmbedding>(*embedding_of(tied_model(false), painted({"aaaa"}), true));
  ASSERT_EQ(wide->n_tokens, 1);
  wide->grid = {1, 2, 1 << 20};
  const auto session = make_session(tied_model(false), small_session());
  Message message{"user", {}};
  for (int i = 0; i < 4200; ++i) message.parts.push_back({"", wide});
  EXPECT_EQ(session->prefill({message}, {}).error().code, ErrorCode::kInvalidArgument);
  message.parts.resize(3);
  EXPECT_OK(session->prefill({message}, {}));
}

TEST(RepeatedCells, ABytesVersionHasOneSlice) {
  ImageEmbedding e;
  e.grid = {2, 2, 2};
  e.original = e.resized = {28, 28};
  e.n_tokens = 2;
  e.width = 1;
  e.values = {1, 2};
  std::vector<std::byte> bytes = save_embedding(e);
  EXPECT_OK(load_embedding(bytes));
  const uint32_t with_cells = 4;
  std::memcpy(bytes.data() + 4, &with_cells, sizeof with_cells);
  seal_embedding(bytes);
  EXPECT_EQ(load_embedding(bytes).error().code, ErrorCode::kCorrupt);
}

// One folder for engines that leave cells out and those that do not: neither gets what the other made.
TEST(RepeatedCells, EnginesAnswerAsSessionsAndKeepThemApart) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / format("glimpse_cells_%d", getpid());
  std::filesystem::create_directory(folder);
  EngineOptions some = small_engine();
  some.image_cache_dir = folder;
  EngineOptions all = some;
  some.dedup_patches = true;
  const Image image = painted({"aaab", "aaab", "cccc"});
  Request request = ask_for("what is it?", 3);
  request.messages[0].parts.insert(request.messages[0].parts.begin(), {"", file_bytes(image)});
  SessionOptions options = small_session(512);
  options.dedup_patches = true;
  const auto session = make_session(tied_model(false), options);
  const Answer whole = alone(ask_for("what is it?", 3, {image}), {image}),
               want = must(session->generate({{"user", {{"", encode(*session, image)}, {"what is it?", nullptr}}}},
                                             request.generate));
  EXPECT_FALSE(same(want, whole));
  for (const int64_t n_cached : {0, 1}) {
    const RequestResult of_some = make_engine(some)->ask(request), of_all = make_engine(all)->ask(request);
    EXPECT_TRUE(same(of_some.answer, want));
    EXPECT_TRUE(same(of_all.answer, whole));
    EXPECT_EQ(of_some.n_cached_images, n_cached);
    EXPECT_EQ(of_all.n_cached_images, n_cached);
    EXPECT_EQ(of_some.answer.timings.n_image_tokens, 3);
    EXPECT_EQ(of_all.answer.timings.n_image_tokens, 12);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace glimpse::testing
