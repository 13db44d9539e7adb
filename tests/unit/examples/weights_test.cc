// Proves that weights come back from a safetensors file as they were written, that whatever is
// wrong with a file is named, and that the fingerprint tells models apart. Files live in a
// temporary directory that the test removes.

#include "client/examples/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>

#include "client/examples/file_bytes.h"
#include "tests/unit/examples/naive_llama.h"

namespace kvtier::examples {
namespace {

using ::testing::HasSubstr;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.intermediate_size = 44;
  return config;
}

constexpr const char* kSmallJson =
    R"({"vocab_size":256,"hidden_size":32,"num_hidden_layers":2,"num_attention_heads":4,
        "num_key_value_heads":2,"intermediate_size":44,"rms_norm_eps":1e-5,"rope_theta":10000.0})";

class TempDir {
 public:
  TempDir() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "kvtier_weights_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  void Write(const std::string& name, const std::string& bytes) const {
    std::FILE* file = std::fopen((path_ + "/" + name).c_str(), "w");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    ASSERT_EQ(std::fclose(file), 0);
  }

 private:
  std::string path_;
};

absl::StatusOr<Weights> FromTensors(const NamedFloats& tensors, const ModelConfig& config) {
  const std::string file = ToSafetensors(tensors);
  const auto parsed = ParseSafetensors(std::string_view(file));
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return WeightsFromTensors(config, *parsed);
}

std::string ErrorOf(const NamedFloats& tensors, const ModelConfig& config = SmallConfig()) {
  const auto weights = FromTensors(tensors, config);
  EXPECT_TRUE(absl::IsInvalidArgument(weights.status())) << weights.status();
  return std::string(weights.status().message());
}

TEST(WeightsTest, RoundTripThroughADirectory) {
  const TempDir dir;
  const NamedFloats tensors = RandomLlamaTensors(SmallConfig(), 1);
  dir.Write("config.json", kSmallJson);
  dir.Write("model.safetensors", ToSafetensors(tensors));
  const auto weights = LoadWeights(dir.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->embedding, tensors.at("model.embed_tokens.weight").second);
  EXPECT_EQ(weights->final_norm, tensors.at("model.norm.weight").second);
  ASSERT_EQ(weights->layers.size(), 2u);
  EXPECT_EQ(weights->layers[1].mlp_norm,
            tensors.at("model.layers.1.post_attention_layernorm.weight").second);
  // A packed matrix is read back through a product with unit vectors.
  const std::vector<float>& down = tensors.at("model.layers.1.mlp.down_proj.weight").second;
  for (size_t c = 0; c < 44; ++c) {
    std::vector<float> unit(44, 0.0f);
    unit[c] = 1.0f;
    std::vector<float> column(32);
    MatMul(weights->layers[1].down, unit.data(), 1, column.data());
    for (size_t r = 0; r < 32; ++r) EXPECT_EQ(column[r], down[r * 44 + c]);
  }
}

TEST(WeightsTest, FingerprintIsOfTheParametersNotOfTheFile) {
  const NamedFloats tensors = RandomLlamaTensors(SmallConfig(), 1);
  NamedFloats extra = tensors;
  extra["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{1}, {1.0f}};
  NamedFloats changed = tensors;
  changed["model.layers.1.mlp.down_proj.weight"].second.back() += 1e-3f;
  ModelConfig other = SmallConfig();
  other.rope_theta = 20000.0f;
  const auto fingerprint = [](const NamedFloats& floats, const ModelConfig& config) {
    const std::string file = ToSafetensors(floats);
    return WeightsFromTensors(config, *ParseSafetensors(std::string_view(file)))->fingerprint;
  };
  const std::string expected = fingerprint(tensors, SmallConfig());
  EXPECT_EQ(expected.size(), 32u);
  EXPECT_EQ(fingerprint(extra, SmallConfig()), expected);
  EXPECT_NE(fingerprint(changed, SmallConfig()), expected);
  EXPECT_NE(fingerprint(tensors, other), expected);
}

TEST(WeightsTest, RandomWeightsFollowTheirSeed) {
  EXPECT_EQ(RandomWeights(SmallConfig(), 1)->fingerprint,
            RandomWeights(SmallConfig(), 1)->fingerprint);
  EXPECT_NE(RandomWeights(SmallConfig(), 1)->fingerprint,
            RandomWeights(SmallConfig(), 2)->fingerprint);
}

TEST(WeightsTest, RandomWeightsAreLimited) {
  ModelConfig config = SmallConfig();
  config.hidden_size = 65536;
  config.num_hidden_layers = 64;
  const auto weights = RandomWeights(config, 1);
  EXPECT_THAT(std::string(weights.status().message()), HasSubstr("parameters; at most 268435456"));
}

TEST(WeightsTest, TiedModelsNeedNoVocabularyMatrix) {
  NamedFloats tensors = RandomLlamaTensors(SmallConfig(), 1);
  tensors.erase("lm_head.weight");
  EXPECT_THAT(ErrorOf(tensors), HasSubstr("tensor lm_head.weight is missing"));
  ModelConfig tied = SmallConfig();
  tied.tie_word_embeddings = true;
  const std::string file = ToSafetensors(tensors);
  EXPECT_TRUE(WeightsFromTensors(tied, *ParseSafetensors(std::string_view(file))).ok());
}

TEST(WeightsTest, WrongTensorsAreNamed) {
  const NamedFloats good = RandomLlamaTensors(SmallConfig(), 1);
  NamedFloats missing = good;
  missing.erase("model.layers.1.self_attn.k_proj.weight");
  EXPECT_THAT(ErrorOf(missing),
              HasSubstr("tensor model.layers.1.self_attn.k_proj.weight is missing"));

  NamedFloats reshaped = good;
  reshaped["model.layers.0.self_attn.k_proj.weight"] = {{32, 16}, std::vector<float>(512, 0.5f)};
  EXPECT_THAT(ErrorOf(reshaped), HasSubstr("shape is [32, 16]; the configuration needs [16, 32]"));

  NamedFloats damaged = good;
  damaged["model.norm.weight"].second[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(ErrorOf(damaged), HasSubstr("tensor model.norm.weight: element 3 is nan"));

  ModelConfig more_layers = SmallConfig();
  more_layers.num_hidden_layers = 1000;
  EXPECT_THAT(ErrorOf(good, more_layers),
              HasSubstr("model.layers.2.input_layernorm.weight is missing"));
}

TEST(WeightsTest, ModelsThatWouldRunWronglyAreRefused) {
  const NamedFloats good = RandomLlamaTensors(SmallConfig(), 1);
  NamedFloats biased = good;
  biased["model.layers.0.self_attn.q_proj.bias"] = {{32}, std::vector<float>(32, 0.5f)};
  EXPECT_THAT(ErrorOf(biased), HasSubstr("tensor model.layers.0.self_attn.q_proj.bias is none"));

  ModelConfig fewer_layers = SmallConfig();
  fewer_layers.num_hidden_layers = 1;
  EXPECT_THAT(ErrorOf(good, fewer_layers), HasSubstr("is none that a model of 1 layers"));

  ModelConfig tied = SmallConfig();
  tied.tie_word_embeddings = true;
  EXPECT_THAT(ErrorOf(good, tied), HasSubstr("tensor lm_head.weight is none"));
  NamedFloats equal = good;
  equal["lm_head.weight"] = equal["model.embed_tokens.weight"];
  EXPECT_TRUE(FromTensors(equal, tied).ok());

  // What some exporters leave in, and every model of this kind computes itself.
  NamedFloats with_frequencies = good;
  with_frequencies["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{4}, {1, 2, 3, 4}};
  EXPECT_TRUE(FromTensors(with_frequencies, SmallConfig()).ok());
}

TEST(WeightsTest, FilesAreNamedInErrors) {
  const TempDir dir;
  EXPECT_TRUE(absl::IsNotFound(LoadWeights(dir.path()).status()));
  dir.Write("config.json", kSmallJson);
  EXPECT_THAT(std::string(LoadWeights(dir.path()).status().message()),
              HasSubstr("model.safetensors: No such file"));
  dir.Write("model.safetensors", "short");
  EXPECT_THAT(std::string(LoadWeights(dir.path()).status().message()),
              HasSubstr("model.safetensors: safetensors: 5 bytes"));
  std::filesystem::remove(dir.path() + "/model.safetensors");
  ASSERT_EQ(mkfifo((dir.path() + "/model.safetensors").c_str(), 0600), 0);
  EXPECT_THAT(std::string(LoadWeights(dir.path()).status().message()),
              HasSubstr("not a regular file"));
}

TEST(FileBytesTest, LimitsAreKept) {
  const TempDir dir;
  dir.Write("f", "0123456789");
  EXPECT_EQ(*ReadFileBytes(dir.path() + "/f", 10), "0123456789");
  EXPECT_THAT(std::string(ReadFileBytes(dir.path() + "/f", 9).status().message()),
              HasSubstr("10 bytes; at most 9"));
  EXPECT_EQ(*ReadFileStart(dir.path() + "/f", 4), "0123");
  EXPECT_EQ(*ReadFileStart(dir.path() + "/f", 100), "0123456789");
}

}  // namespace
}  // namespace kvtier::examples
