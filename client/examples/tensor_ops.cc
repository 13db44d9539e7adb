#include "client/examples/tensor_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace kvtier::examples {
namespace {

// Four floats in one register on every 64-bit machine without further flags. Both compilers give it
// element-wise operators in exactly the order written.
using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));

inline Float4 Load4(const float* from) {
  Float4 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline void Store4(Float4 value, float* to) { std::memcpy(to, &value, sizeof(value)); }

inline Float4 Broadcast(float value) { return Float4{value, value, value, value}; }

// The pairwise order is part of the contract of Dot, RmsNorm and Softmax.
inline float SumLanes(Float4 value) { return (value[0] + value[1]) + (value[2] + value[3]); }

// `kTokens` rows of input times `kPanels` neighbouring panels of weights. Each output element has
// an accumulator of its own that runs over the columns in order, so the shape of the tile changes
// only how many of them are in flight.
template <size_t kTokens, size_t kPanels>
inline void Tile(const PackedMatrix& weights, size_t first_panel, const float* in, float* out) {
  constexpr size_t kVectors = kPanels * PackedMatrix::kPanelRows / kVectorWidth;
  constexpr size_t kVectorsPerPanel = PackedMatrix::kPanelRows / kVectorWidth;
  const size_t columns = weights.columns();
  const size_t rows = weights.rows();
  Float4 sums[kTokens][kVectors] = {};
  for (size_t c = 0; c < columns; ++c) {
    Float4 column[kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
      const float* panel = weights.panel(first_panel + v / kVectorsPerPanel);
      column[v] =
          Load4(panel + c * PackedMatrix::kPanelRows + (v % kVectorsPerPanel) * kVectorWidth);
    }
    for (size_t t = 0; t < kTokens; ++t) {
      const Float4 x = Broadcast(in[t * columns + c]);
      for (size_t v = 0; v < kVectors; ++v) sums[t][v] += column[v] * x;
    }
  }
  const size_t first_row = first_panel * PackedMatrix::kPanelRows;
  for (size_t t = 0; t < kTokens; ++t) {
    float values[kVectors * kVectorWidth];
    for (size_t v = 0; v < kVectors; ++v) Store4(sums[t][v], values + v * kVectorWidth);
    const size_t count = std::min(kVectors * kVectorWidth, rows - first_row);
    std::memcpy(out + t * rows + first_row, values, count * sizeof(float));
  }
}

inline Float4 Exp4(Float4 x) {
  // Written so that a NaN takes the lower end: every comparison with it is false.
  const Float4 low = Broadcast(-87.0f);
  const Float4 high = Broadcast(88.0f);
  x = x > low ? x : low;
  x = x < high ? x : high;
  // x = n * ln 2 + r with |r| <= ln 2 / 2. Adding and taking away 1.5 * 2^23 rounds to an integer;
  // ln 2 is split in two so that n * (first part) is exact.
  const Float4 magic = Broadcast(12582912.0f);
  const Float4 n = (x * 1.44269504f + magic) - magic;
  const Float4 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  // Taylor series to the sixth power: the remainder is below 2e-7 for |r| <= 0.347.
  Float4 p = Broadcast(1.0f / 720.0f);
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Int4 exponent = (__builtin_convertvector(n, Int4) + 127) << 23;
  Float4 scale;
  std::memcpy(&scale, &exponent, sizeof(scale));
  return p * scale;
}

}  // namespace

PackedMatrix::PackedMatrix(std::span<const float> row_major, size_t rows, size_t columns)
    : rows_(rows), columns_(columns), elements_(panels() * kPanelRows * columns, 0.0f) {
  for (size_t r = 0; r < rows; ++r) {
    float* panel = elements_.data() + (r / kPanelRows) * columns * kPanelRows + r % kPanelRows;
    for (size_t c = 0; c < columns; ++c) panel[c * kPanelRows] = row_major[r * columns + c];
  }
}

void MatMul(const PackedMatrix& weights, const float* in, size_t tokens, float* out) {
  const size_t panels = weights.panels();
  size_t t = 0;
  for (; t + 4 <= tokens; t += 4) {
    for (size_t p = 0; p < panels; ++p) {
      Tile<4, 1>(weights, p, in + t * weights.columns(), out + t * weights.rows());
    }
  }
  for (; t < tokens; ++t) {
    const float* x = in + t * weights.columns();
    float* y = out + t * weights.rows();
    size_t p = 0;
    for (; p + 4 <= panels; p += 4) Tile<1, 4>(weights, p, x, y);
    for (; p < panels; ++p) Tile<1, 1>(weights, p, x, y);
  }
}

void RmsNorm(std::span<const float> in, std::span<const float> scale, float epsilon, float* out) {
  const float mean = Dot(in.data(), in.data(), in.size()) / static_cast<float>(in.size());
  const float inverse = 1.0f / std::sqrt(mean + epsilon);
  for (size_t i = 0; i < in.size(); ++i) out[i] = in[i] * inverse * scale[i];
}

void RopeAngles(size_t position, float theta, std::span<float> cosines, std::span<float> sines) {
  const size_t half = cosines.size();
  for (size_t i = 0; i < half; ++i) {
    // In double: at position 100,000 a float angle is already off by several milliradians.
    const double frequency =
        std::pow(static_cast<double>(theta), -static_cast<double>(i) / static_cast<double>(half));
    const double angle = static_cast<double>(position) * frequency;
    cosines[i] = static_cast<float>(std::cos(angle));
    sines[i] = static_cast<float>(std::sin(angle));
  }
}

void Rope(std::span<const float> cosines, std::span<const float> sines, float* head) {
  const size_t half = cosines.size();
  for (size_t i = 0; i < half; ++i) {
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

float Dot(const float* a, const float* b, size_t size) {
  Float4 sum = {};
  for (size_t i = 0; i < size; i += kVectorWidth) sum += Load4(a + i) * Load4(b + i);
  return SumLanes(sum);
}

float Exp(float x) { return Exp4(Broadcast(x))[0]; }

void Softmax(std::span<float> scores) {
  const size_t size = scores.size();
  const size_t whole = size - size % kVectorWidth;
  float largest = scores[0];
  for (const float score : scores) largest = score > largest ? score : largest;
  const Float4 offset = Broadcast(largest);
  Float4 sum = {};
  for (size_t i = 0; i < whole; i += kVectorWidth) {
    const Float4 e = Exp4(Load4(&scores[i]) - offset);
    Store4(e, &scores[i]);
    sum += e;
  }
  if (whole < size) {
    Float4 rest = Broadcast(largest);
    std::memcpy(&rest, &scores[whole], (size - whole) * sizeof(float));
    const Float4 e = Exp4(rest - offset);
    std::memcpy(&scores[whole], &e, (size - whole) * sizeof(float));
    for (size_t i = 0; i < size - whole; ++i) sum[i] += e[i];
  }
  const float inverse = 1.0f / SumLanes(sum);
  for (float& score : scores) score *= inverse;
}

void SwiGlu(std::span<float> gate, std::span<const float> up) {
  for (size_t i = 0; i < gate.size(); i += kVectorWidth) {
    const Float4 g = Load4(&gate[i]);
    Store4(g / (1.0f + Exp4(-g)) * Load4(&up[i]), &gate[i]);
  }
}

void AddInPlace(std::span<float> into, std::span<const float> from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] += from[i];
}

size_t ArgMax(std::span<const float> values) {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i) {
    // The second half lets a number win over a NaN in first place.
    if (values[i] > values[best] || (std::isnan(values[best]) && !std::isnan(values[i]))) best = i;
  }
  return best;
}

uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float Bf16ToFloat(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

float HalfToFloat(uint16_t value) {
  const float sign = (value & 0x8000u) != 0 ? -1.0f : 1.0f;
  const int exponent = (value >> 10) & 0x1f;
  const int mantissa = value & 0x3ff;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  if (exponent == 31) {
    return mantissa != 0 ? std::nanf("") : sign * HUGE_VALF;
  }
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

}  // namespace kvtier::examples
