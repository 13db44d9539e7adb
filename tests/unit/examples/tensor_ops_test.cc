// Proves each kernel against its formula in double precision, and that the bits of a result do not
// depend on what is computed beside it.

#include "client/examples/tensor_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tiering/base/rng.h"

namespace kvtier::examples {
namespace {

std::vector<float> RandomFloats(size_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> floats(count);
  for (float& value : floats) value = static_cast<float>(rng.Unit() * 4.0 - 2.0);
  return floats;
}

TEST(TensorOpsTest, MatMulMatchesTheFormulaForAnyShape) {
  for (const size_t rows : {1, 7, 8, 33, 96}) {
    for (const size_t columns : {4, 20, 64}) {
      const std::vector<float> weights = RandomFloats(rows * columns, rows);
      const PackedMatrix packed(weights, rows, columns);
      const size_t tokens = 7;  // a tile of four and a rest of three
      const std::vector<float> in = RandomFloats(tokens * columns, columns);
      std::vector<float> out(tokens * rows);
      MatMul(packed, in.data(), tokens, out.data());
      for (size_t t = 0; t < tokens; ++t) {
        for (size_t r = 0; r < rows; ++r) {
          double sum = 0;
          for (size_t c = 0; c < columns; ++c)
            sum += double{weights[r * columns + c]} * in[t * columns + c];
          EXPECT_NEAR(out[t * rows + r], sum, 1e-4) << rows << "x" << columns;
        }
      }
    }
  }
}

TEST(TensorOpsTest, MatMulBitsDoNotDependOnTheBatch) {
  const size_t rows = 44;
  const size_t columns = 128;
  const PackedMatrix packed(RandomFloats(rows * columns, 1), rows, columns);
  const std::vector<float> in = RandomFloats(16 * columns, 2);
  std::vector<float> alone(16 * rows);
  for (size_t t = 0; t < 16; ++t) MatMul(packed, &in[t * columns], 1, &alone[t * rows]);
  for (const size_t batch : {2, 3, 4, 5, 8, 16}) {
    std::vector<float> together(16 * rows);
    for (size_t t = 0; t < 16; t += batch) {
      MatMul(packed, &in[t * columns], std::min(batch, 16 - t), &together[t * rows]);
    }
    EXPECT_EQ(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(float)), 0) << batch;
  }
}

TEST(TensorOpsTest, RmsNormMatchesTheFormula) {
  const std::vector<float> in = RandomFloats(64, 3);
  const std::vector<float> scale = RandomFloats(64, 4);
  double squares = 0;
  for (const float x : in) squares += double{x} * x;
  const double inverse = 1.0 / std::sqrt(squares / 64 + 1e-5);
  std::vector<float> out(64);
  RmsNorm(in, scale, 1e-5f, out.data());
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(out[i], in[i] * inverse * scale[i], 1e-6);
}

TEST(TensorOpsTest, RopeRotatesLlamasPairs) {
  const size_t head_dim = 16;
  for (const size_t position : {0, 1, 17, 100000}) {
    std::vector<float> cosines(head_dim / 2);
    std::vector<float> sines(head_dim / 2);
    RopeAngles(position, 10000.0f, cosines, sines);
    const std::vector<float> before = RandomFloats(head_dim, position);
    std::vector<float> head = before;
    Rope(cosines, sines, head.data());
    for (size_t i = 0; i < head_dim / 2; ++i) {
      const double angle = static_cast<double>(position) *
                           std::pow(10000.0, -2.0 * static_cast<double>(i) / head_dim);
      const double a = before[i];
      const double b = before[i + head_dim / 2];
      EXPECT_NEAR(head[i], a * std::cos(angle) - b * std::sin(angle), 1e-6);
      EXPECT_NEAR(head[i + head_dim / 2], b * std::cos(angle) + a * std::sin(angle), 1e-6);
    }
  }
}

TEST(TensorOpsTest, RopeMakesScoresAFunctionOfDistance) {
  const auto rotated = [](size_t position, uint64_t seed) {
    std::vector<float> cosines(8);
    std::vector<float> sines(8);
    RopeAngles(position, 10000.0f, cosines, sines);
    std::vector<float> head = RandomFloats(16, seed);
    Rope(cosines, sines, head.data());
    return head;
  };
  const float near_start = Dot(rotated(12, 1).data(), rotated(5, 2).data(), 16);
  const float further_on = Dot(rotated(1012, 1).data(), rotated(1005, 2).data(), 16);
  const float other_distance = Dot(rotated(12, 1).data(), rotated(6, 2).data(), 16);
  EXPECT_NEAR(near_start, further_on, 1e-4);
  EXPECT_GT(std::abs(near_start - other_distance), 1e-3);
}

TEST(TensorOpsTest, ExpIsAccurateAndBounded) {
  for (double x = -87.0; x <= 88.0; x += 0.0137) {
    const double exact = std::exp(static_cast<double>(static_cast<float>(x)));
    EXPECT_NEAR(Exp(static_cast<float>(x)) / exact, 1.0, 3e-7) << x;
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(Exp(-infinity), Exp(-87.0f));
  EXPECT_EQ(Exp(infinity), Exp(88.0f));
  EXPECT_EQ(Exp(std::nanf("")), Exp(-87.0f));
  EXPECT_EQ(Exp(0.0f), 1.0f);
}

TEST(TensorOpsTest, SoftmaxMatchesTheFormulaForAnySize) {
  for (size_t size = 1; size < 40; ++size) {
    std::vector<float> scores = RandomFloats(size, size);
    for (float& score : scores) score *= 10.0f;
    double sum = 0;
    for (const float score : scores) sum += std::exp(double{score});
    std::vector<float> probabilities = scores;
    Softmax(probabilities);
    for (size_t i = 0; i < size; ++i)
      EXPECT_NEAR(probabilities[i], std::exp(double{scores[i]}) / sum, 1e-6);
  }
}

TEST(TensorOpsTest, SwiGluMatchesTheFormula) {
  const std::vector<float> gate = RandomFloats(32, 5);
  const std::vector<float> up = RandomFloats(32, 6);
  std::vector<float> out = gate;
  SwiGlu(out, up);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_NEAR(out[i], double{gate[i]} / (1.0 + std::exp(-double{gate[i]})) * up[i], 1e-6);
  }
}

TEST(TensorOpsTest, ArgMaxTakesTheFirstOfEqualsAndSkipsNaN) {
  const float nan = std::nanf("");
  EXPECT_EQ(ArgMax(std::vector<float>{1, 3, 3, 2}), 1u);
  EXPECT_EQ(ArgMax(std::vector<float>{nan, 1, 2}), 2u);
  EXPECT_EQ(ArgMax(std::vector<float>{nan, nan}), 0u);
}

TEST(TensorOpsTest, Bf16RoundsToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(Bf16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(FloatToBf16(1.00390625f), 0x3f80);  // half way, down to even
  EXPECT_EQ(FloatToBf16(1.01171875f), 0x3f82);  // half way, up to even
  EXPECT_EQ(FloatToBf16(1.00390637f), 0x3f81);  // just above half way
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::infinity()), 0x7f80);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::nanf("")))));
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = Bf16ToFloat(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) {
      EXPECT_EQ(FloatToBf16(value), bits);
    }
  }
}

}  // namespace
}  // namespace kvtier::examples
