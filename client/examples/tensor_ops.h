#pragma once

// Dense kernels of the decode worker: matrix product, RMSNorm, rotary embedding, softmax, SwiGLU.
//
// Every function sums in an order that depends on the shapes alone, never on how many tokens are
// computed together and never on what other rows hold. A token therefore has the same bits whether
// it was computed alone, inside a batch, or in another process, which is what makes KV that was
// stored by one worker interchangeable with KV that another would compute. The sources are compiled
// without contraction to fused multiply-add for the same reason.
//
// All functions are pure and thread-safe. Sizes are element counts. Sizes that feed four-wide loops
// must be multiples of kVectorWidth; callers guarantee it (see ModelConfig).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvtier::examples {

inline constexpr size_t kVectorWidth = 4;

// A weight matrix y = W x with W of [rows][columns], kept in panels of kPanelRows rows so that the
// inner loop runs along rows and every output is one sequential sum over the columns.
class PackedMatrix {
 public:
  static constexpr size_t kPanelRows = 8;

  PackedMatrix() = default;
  // `row_major` holds rows * columns elements. Rows are padded with zeros up to a whole panel.
  PackedMatrix(std::span<const float> row_major, size_t rows, size_t columns);

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  // Panel p: for each column, kPanelRows consecutive elements.
  const float* panel(size_t p) const { return elements_.data() + p * columns_ * kPanelRows; }

 private:
  size_t rows_ = 0;
  size_t columns_ = 0;
  std::vector<float> elements_;
};

// out[t][r] = sum over c of weights[r][c] * in[t][c], for `tokens` rows of `in` ([tokens][columns])
// and `out` ([tokens][rows]). `in` and `out` must not overlap.
void MatMul(const PackedMatrix& weights, const float* in, size_t tokens, float* out);

// out[i] = in[i] / sqrt(mean(in^2) + epsilon) * scale[i]. `out` may be `in`. Size: multiple of 4.
void RmsNorm(std::span<const float> in, std::span<const float> scale, float epsilon, float* out);

// Cosines and sines of one position, head_dim / 2 of each: angle_i = position *
// theta^(-2i/head_dim).
void RopeAngles(size_t position, float theta, std::span<float> cosines, std::span<float> sines);

// Llama's rotation of one head in place: element i pairs with element i + head_dim / 2.
void Rope(std::span<const float> cosines, std::span<const float> sines, float* head);

// Sum of products; four partial sums, added pairwise at the end. Size: multiple of 4.
float Dot(const float* a, const float* b, size_t size);

// e^x with a relative error below 3e-7 for x in [-87, 88]; outside, the value at the nearer end. A
// NaN gives e^-87, so that damaged input cannot spread into integer conversions.
float Exp(float x);

// Turns scores into probabilities in place. Size: any; the sum runs over four lanes by index.
void Softmax(std::span<float> scores);

// gate[i] = silu(gate[i]) * up[i].
void SwiGlu(std::span<float> gate, std::span<const float> up);

// into[i] += from[i].
void AddInPlace(std::span<float> into, std::span<const float> from);

// The index of the largest value; the lowest index wins ties. A NaN is never larger. Size: at
// least 1.
size_t ArgMax(std::span<const float> values);

// Round to nearest even; NaN stays NaN.
uint16_t FloatToBf16(float value);
float Bf16ToFloat(uint16_t value);
float HalfToFloat(uint16_t value);

}  // namespace kvtier::examples
