// Proves that the transformer computes Llama's formulae (against a naive double-precision one),
// that its bits do not depend on how tokens are split over calls, and that what it generates is
// varied and really comes from attention over the prompt.

#include "client/examples/transformer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <set>

#include "tests/support/sanitized.h"
#include "tests/unit/examples/naive_llama.h"

namespace kvtier::examples {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 32;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 16;  // not hidden_size / heads, on purpose
  config.intermediate_size = 44;
  return config;
}

KvGeometry Geometry(const ModelConfig& config, KvType type, size_t chunk_tokens = 16) {
  return *KvGeometry::Create(config, type, chunk_tokens);
}

std::vector<uint32_t> Tokens(const std::string& text) {
  std::vector<uint32_t> tokens;
  for (const char byte : text) tokens.push_back(static_cast<uint8_t>(byte));
  return tokens;
}

// English, a table of numbers, code, a repeated word, bytes that are no text, one letter.
std::vector<std::string> Prompts() {
  std::string binary;
  for (int i = 0; i < 300; ++i) binary.push_back(static_cast<char>(i * 37 % 256));
  const std::string text =
      "The keys and values of every token that a model has read outgrow the memory of one "
      "accelerator. They are dropped and computed again, or kept by a cache that ends with the "
      "engine that filled it.";
  return {
      text,
      "10 0.53 11 0.61 12 0.72 13 0.75 14 0.79 15 0.80 16 0.81 17 0.83",
      "for (size_t i = 0; i < size; ++i) {\n  sum += a[i] * b[i];\n}\nreturn sum;\n",
      "again and again and again and again and again and again and again and again and again",
      binary,
      "x",
  };
}

std::vector<uint32_t> Generate(Transformer& transformer, KvTable& kv, std::vector<float> logits,
                               size_t count) {
  std::vector<uint32_t> generated;
  for (size_t i = 0; i < count; ++i) {
    generated.push_back(static_cast<uint32_t>(ArgMax(logits)));
    transformer.Forward({&generated.back(), 1}, kv, logits, nullptr);
  }
  return generated;
}

std::vector<uint32_t> Answer(const Weights& weights, KvType type, const std::string& prompt,
                             size_t count = 96) {
  const KvGeometry geometry = Geometry(weights.config, type);
  Transformer transformer(weights, geometry);
  KvTable kv(geometry);
  std::vector<float> logits(256);
  transformer.Forward(Tokens(prompt), kv, logits, nullptr);
  return Generate(transformer, kv, logits, count);
}

double KeepDouble(double value) { return value; }
double RoundToBf16(double value) { return Bf16ToFloat(FloatToBf16(static_cast<float>(value))); }

class FormulaTest : public ::testing::TestWithParam<std::pair<KvType, bool>> {};

TEST_P(FormulaTest, LogitsMatchTheNaiveForwardPass) {
  ModelConfig config = SmallConfig();
  config.tie_word_embeddings = GetParam().second;
  const bool exact = GetParam().first == KvType::kFloat32;
  const NamedFloats tensors = RandomLlamaTensors(config, 7);
  const std::string file = ToSafetensors(tensors);
  const auto weights = WeightsFromTensors(config, *ParseSafetensors(std::string_view(file)));
  ASSERT_TRUE(weights.ok()) << weights.status();
  const std::vector<uint32_t> tokens = Tokens("keys and values of 37 tokens, rotated");
  const std::vector<double> expected =
      NaiveLlama(config, tensors).Logits(tokens, exact ? KeepDouble : RoundToBf16);

  const KvGeometry geometry = Geometry(config, GetParam().first, 8);
  Transformer transformer(*weights, geometry);
  KvTable kv(geometry);
  std::vector<float> logits(256);
  transformer.Forward(tokens, kv, logits, nullptr);
  double distance = 0;
  double size = 0;
  for (size_t i = 0; i < 256; ++i) {
    distance += (logits[i] - expected[i]) * (logits[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  // With bf16 a value next to a rounding boundary may fall on the other side than in double
  // precision; without rounding at all the distance would be several percent.
  EXPECT_LT(std::sqrt(distance / size), exact ? 1e-5 : 5e-3);
}

INSTANTIATE_TEST_SUITE_P(All, FormulaTest,
                         ::testing::Values(std::pair{KvType::kFloat32, false},
                                           std::pair{KvType::kFloat32, true},
                                           std::pair{KvType::kBfloat16, false}));

class SplitTest : public ::testing::TestWithParam<KvType> {};

TEST_P(SplitTest, BitsDoNotDependOnHowThePromptIsSplit) {
  const auto weights = RandomWeights(SmallConfig(), 3);
  ASSERT_TRUE(weights.ok());
  const KvGeometry geometry = Geometry(weights->config, GetParam(), 8);
  const std::vector<uint32_t> tokens = Tokens(Prompts()[0]);
  const auto run = [&](const std::vector<size_t>& steps, std::vector<float>* logits) {
    Transformer transformer(*weights, geometry);
    auto kv = std::make_unique<KvTable>(geometry);
    std::span<const uint32_t> rest(tokens);
    for (size_t i = 0; !rest.empty(); ++i) {
      const size_t count = std::min(steps[i % steps.size()], rest.size());
      transformer.Forward(rest.first(count), *kv, *logits, nullptr);
      rest = rest.subspan(count);
    }
    return kv;
  };
  std::vector<float> expected(256);
  const auto one_by_one = run({1}, &expected);
  for (const std::vector<size_t>& steps :
       {std::vector<size_t>{1000}, {2}, {3}, {7}, {16}, {17}, {1, 5, 32, 2}, {64, 1}}) {
    std::vector<float> logits(256);
    const auto kv = run(steps, &logits);
    EXPECT_EQ(logits, expected) << steps[0];
    ASSERT_EQ(kv->chunks(), one_by_one->chunks());
    for (size_t c = 0; c < kv->chunks(); ++c) {
      for (size_t p = 0; p < geometry.planes(); ++p) {
        EXPECT_EQ(std::memcmp(kv->plane(c, p).data(), one_by_one->plane(c, p).data(),
                              geometry.plane_bytes()),
                  0)
            << "chunk " << c << " plane " << p << " steps " << steps[0];
      }
    }
  }
}

TEST_P(SplitTest, BitsDoNotDependOnTheChunkSize) {
  const auto weights = RandomWeights(SmallConfig(), 3);
  std::vector<std::vector<float>> all;
  for (const size_t chunk_tokens : {1, 5, 16, 1024}) {
    const KvGeometry geometry = Geometry(weights->config, GetParam(), chunk_tokens);
    Transformer transformer(*weights, geometry);
    KvTable kv(geometry);
    all.emplace_back(256);
    transformer.Forward(Tokens(Prompts()[0]), kv, all.back(), nullptr);
    EXPECT_EQ(all.back(), all.front()) << chunk_tokens;
  }
}

TEST_P(SplitTest, CopiedKvGivesTheSameTokens) {
  const auto weights = RandomWeights(ModelConfig{}, 3);
  const KvGeometry geometry = Geometry(weights->config, GetParam());
  const std::vector<uint32_t> tokens = Tokens(Prompts()[0]);
  Transformer first(*weights, geometry);
  KvTable computed(geometry);
  std::vector<float> logits(256);
  first.Forward(tokens, computed, logits, nullptr);
  const std::vector<uint32_t> expected = Generate(first, computed, logits, 48);

  const size_t copied_chunks = tokens.size() / geometry.chunk_tokens - 1;
  KvTable copied(geometry);
  copied.Grow(copied_chunks * geometry.chunk_tokens);
  for (size_t c = 0; c < copied_chunks; ++c) {
    for (size_t p = 0; p < geometry.planes(); ++p) {
      std::memcpy(copied.writable_plane(c, p).data(), computed.plane(c, p).data(),
                  geometry.plane_bytes());
    }
  }
  copied.SetTokens(copied_chunks * geometry.chunk_tokens);
  Transformer second(*weights, geometry);
  second.Forward(std::span(tokens).subspan(copied.tokens()), copied, logits, nullptr);
  EXPECT_EQ(Generate(second, copied, logits, 48), expected);
}

TEST_P(SplitTest, OrdinaryPromptsGetVariedAnswers) {
  for (uint64_t seed = 1; seed <= (test_support::kSanitized ? 1 : 3); ++seed) {
    const auto weights = RandomWeights(ModelConfig{}, seed);
    for (const std::string& prompt : Prompts()) {
      const std::vector<uint32_t> answer = Answer(*weights, GetParam(), prompt);
      EXPECT_GE(std::set<uint32_t>(answer.begin(), answer.end()).size(), 16u)
          << "seed " << seed << ", prompt " << prompt.substr(0, 20);
    }
  }
}

TEST_P(SplitTest, OneEarlyByteChangesTheAnswer) {
  const auto weights = RandomWeights(ModelConfig{}, 1);
  for (const std::string& prompt : Prompts()) {
    if (prompt.size() < 2) continue;
    std::string changed = prompt;
    changed[1] ^= 1;
    EXPECT_NE(Answer(*weights, GetParam(), prompt), Answer(*weights, GetParam(), changed))
        << prompt.substr(0, 20);
  }
}

TEST_P(SplitTest, OneFlippedBitOfAKeyChangesTheAnswer) {
  const auto weights = RandomWeights(ModelConfig{}, 1);
  const KvGeometry geometry = Geometry(weights->config, GetParam());
  const std::vector<uint32_t> tokens = Tokens(Prompts()[1]);
  const auto answer = [&](bool flip) {
    Transformer transformer(*weights, geometry);
    KvTable kv(geometry);
    std::vector<float> logits(256);
    transformer.Forward(tokens, kv, logits, nullptr);
    // The sign of one element of an early token's key in the first layer.
    if (flip)
      kv.writable_plane(0, 0)[2 * geometry.token_bytes() + geometry.element_bytes() - 1] ^=
          std::byte{0x80};
    return Generate(transformer, kv, logits, 96);
  };
  EXPECT_EQ(answer(false), answer(false));
  EXPECT_NE(answer(true), answer(false));
}

INSTANTIATE_TEST_SUITE_P(Types, SplitTest, ::testing::Values(KvType::kFloat32, KvType::kBfloat16));

TEST(TransformerTest, DamagedKvNeverCrashes) {
  const auto weights = RandomWeights(SmallConfig(), 1);
  for (const KvType type : {KvType::kFloat32, KvType::kBfloat16}) {
    const KvGeometry geometry = Geometry(weights->config, type);
    Transformer transformer(*weights, geometry);
    KvTable kv(geometry);
    std::vector<float> logits(256);
    transformer.Forward(Tokens(Prompts()[1]), kv, logits, nullptr);
    for (size_t p = 0; p < geometry.planes(); ++p)
      std::memset(kv.writable_plane(0, p).data(), 0xff, geometry.plane_bytes());
    const std::vector<uint32_t> answer = Generate(transformer, kv, logits, 8);
    for (const uint32_t token : answer) EXPECT_LT(token, 256u);
  }
}

TEST(TransformerTest, AttentionMassSumsToTheQueries) {
  const auto weights = RandomWeights(SmallConfig(), 1);
  const KvGeometry geometry = Geometry(weights->config, KvType::kFloat32, 8);
  Transformer transformer(*weights, geometry);
  KvTable kv(geometry);
  AttentionMass mass;
  transformer.Forward(Tokens(Prompts()[1]), kv, {}, &mass);
  ASSERT_EQ(mass.queries, Prompts()[1].size());
  ASSERT_EQ(mass.layer_chunk.size(), geometry.layers);
  for (const std::vector<float>& row : mass.layer_chunk) {
    EXPECT_EQ(row.size(), kv.chunks());
    EXPECT_NEAR(std::accumulate(row.begin(), row.end(), 0.0), static_cast<double>(mass.queries),
                1e-3);
  }
  // The first token can only attend to itself, and every later one to what is before it.
  AttentionMass first;
  KvTable fresh(geometry);
  transformer.Forward(Tokens("abcdefghi"), fresh, {}, &first);
  EXPECT_LE(first.layer_chunk[0][1], 1.0f);
  EXPECT_GE(first.layer_chunk[0][0], 8.0f);
}

}  // namespace
}  // namespace kvtier::examples
