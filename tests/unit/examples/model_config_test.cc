// Proves that config.json is read as Hugging Face writes it, and that each field that is missing,
// of the wrong type, out of range or not implemented is refused by name with its value and limit.

#include "client/examples/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kvtier::examples {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json Good() {
  return Json{{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"hidden_act", "silu"},
              {"hidden_size", 64},
              {"num_hidden_layers", 3},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"intermediate_size", 96},
              {"rms_norm_eps", 1e-6},
              {"rope_theta", 500000.0},
              {"vocab_size", 256},
              {"tie_word_embeddings", true},
              {"torch_dtype", "bfloat16"},
              {"rope_scaling", nullptr},
              {"attention_bias", false}};
}

std::string ErrorWith(const char* field, const Json& value) {
  Json json = Good();
  json[field] = value;
  const auto config = ParseModelConfig(json.dump(), "config.json");
  EXPECT_TRUE(absl::IsInvalidArgument(config.status())) << field << ": " << config.status();
  return std::string(config.status().message());
}

TEST(ModelConfigTest, ReadsAGoodFile) {
  const auto config = ParseModelConfig(Good().dump(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 64u);
  EXPECT_EQ(config->num_hidden_layers, 3u);
  EXPECT_EQ(config->num_attention_heads, 4u);
  EXPECT_EQ(config->num_key_value_heads, 2u);
  EXPECT_EQ(config->head_dim, 16u);
  EXPECT_EQ(config->intermediate_size, 96u);
  EXPECT_FLOAT_EQ(config->rms_norm_eps, 1e-6f);
  EXPECT_FLOAT_EQ(config->rope_theta, 500000.0f);
  EXPECT_TRUE(config->tie_word_embeddings);
}

TEST(ModelConfigTest, DefaultsFollowHuggingFace) {
  Json json = Good();
  json.erase("num_key_value_heads");
  json["head_dim"] = 24;
  const auto config = ParseModelConfig(json.dump(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_key_value_heads, 4u);
  EXPECT_EQ(config->query_size(), 96u);
}

TEST(ModelConfigTest, MissingFieldsAreNamed) {
  for (const char* field : {"hidden_size", "num_hidden_layers", "num_attention_heads",
                            "intermediate_size", "vocab_size"}) {
    Json json = Good();
    json.erase(field);
    const auto config = ParseModelConfig(json.dump(), "config.json");
    EXPECT_THAT(std::string(config.status().message()),
                HasSubstr(std::string("config.json: field ") + field));
  }
}

TEST(ModelConfigTest, WrongValuesNameFieldValueAndLimit) {
  EXPECT_THAT(ErrorWith("hidden_size", "64"),
              HasSubstr("field hidden_size is \"64\"; expected a whole number"));
  EXPECT_THAT(ErrorWith("hidden_size", -64), HasSubstr("field hidden_size is -64"));
  EXPECT_THAT(ErrorWith("hidden_size", 1u << 20),
              HasSubstr("hidden_size is 1048576; allowed: 1 to 65536"));
  EXPECT_THAT(ErrorWith("hidden_size", 0), HasSubstr("hidden_size is 0"));
  EXPECT_THAT(ErrorWith("num_hidden_layers", 18446744073709551615u),
              HasSubstr("allowed: 1 to 1024"));
  EXPECT_THAT(ErrorWith("num_attention_heads", 0), HasSubstr("num_attention_heads 0"));
  EXPECT_THAT(ErrorWith("num_attention_heads", 3),
              HasSubstr("not a multiple of num_attention_heads 3"));
  EXPECT_THAT(ErrorWith("num_key_value_heads", 3),
              HasSubstr("multiple of num_key_value_heads, which is 3"));
  EXPECT_THAT(ErrorWith("num_key_value_heads", 8),
              HasSubstr("num_key_value_heads is 8; allowed: 1 to 4"));
  EXPECT_THAT(ErrorWith("head_dim", 12), HasSubstr("head_dim is 12; it must be a multiple of 8"));
  EXPECT_THAT(ErrorWith("intermediate_size", 98),
              HasSubstr("intermediate_size is 98; it must be a multiple of 4"));
  EXPECT_THAT(ErrorWith("rms_norm_eps", 0.0), HasSubstr("field rms_norm_eps"));
  EXPECT_THAT(ErrorWith("rms_norm_eps", "small"), HasSubstr("field rms_norm_eps is \"small\""));
  EXPECT_THAT(ErrorWith("rope_theta", 0.5), HasSubstr("rope_theta is 0.5"));
  EXPECT_THAT(ErrorWith("rope_theta", 1e300), HasSubstr("field rope_theta"));
  EXPECT_THAT(ErrorWith("vocab_size", 32000),
              HasSubstr("vocab_size is 32000; this worker reads text as bytes and needs 256"));
  EXPECT_THAT(ErrorWith("tie_word_embeddings", 1), HasSubstr("expected true or false"));
}

TEST(ModelConfigTest, WhatIsNotImplementedIsRefused) {
  EXPECT_THAT(ErrorWith("rope_scaling", Json{{"type", "linear"}}), HasSubstr("field rope_scaling"));
  EXPECT_THAT(ErrorWith("rope_parameters", Json{{"rope_type", "yarn"}}),
              HasSubstr("field rope_parameters"));
  EXPECT_THAT(ErrorWith("partial_rotary_factor", 0.5), HasSubstr("field partial_rotary_factor"));
  EXPECT_THAT(ErrorWith("attention_bias", true), HasSubstr("field attention_bias is true"));
  EXPECT_THAT(ErrorWith("hidden_act", "gelu"),
              HasSubstr("field hidden_act is \"gelu\"; expected one of: silu"));
  EXPECT_THAT(ErrorWith("model_type", "gpt2"), HasSubstr("field model_type"));
  EXPECT_THAT(ErrorWith("torch_dtype", "int8"), HasSubstr("float32, bfloat16, float16"));
}

TEST(ModelConfigTest, AFieldThatIsGivenTwiceIsRefused) {
  std::string text = Good().dump();
  text.replace(0, 1, "{\"rope_theta\": 5.0, ");
  EXPECT_THAT(std::string(ParseModelConfig(text, "config.json").status().message()),
              HasSubstr("field rope_theta is given twice"));
}

TEST(ModelConfigTest, AnyTextIsSafe) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("\xff\x00{", 3),
        std::string(1 << 19, '['), std::string((1 << 20) + 1, ' ')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseModelConfig(text, "config.json").status()));
  }
  const std::string prefix = "{\"vocab_size\":256,\"hidden_act\":\"";
  const auto hostile = ParseModelConfig(prefix + std::string(100000, 'x') + "\"}", "config.json");
  ASSERT_FALSE(hostile.ok());
  EXPECT_LT(hostile.status().message().size(), 300u);
}

}  // namespace
}  // namespace kvtier::examples
