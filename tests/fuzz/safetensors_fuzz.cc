// Any bytes as a safetensors file: the parser answers with tensors that lie within the file and
// agree with their shapes, or with INVALID_ARGUMENT.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/examples/safetensors.h"
#include "tiering/base/check.h"

namespace kvtier::examples {
namespace {

size_t BitsOf(TensorType type) {
  switch (type) {
    case TensorType::kBool:
    case TensorType::kU8:
    case TensorType::kI8:
    case TensorType::kF8E4M3:
    case TensorType::kF8E5M2:
      return 8;
    case TensorType::kI16:
    case TensorType::kU16:
    case TensorType::kF16:
    case TensorType::kBf16:
      return 16;
    case TensorType::kI32:
    case TensorType::kU32:
    case TensorType::kF32:
      return 32;
    case TensorType::kI64:
    case TensorType::kU64:
    case TensorType::kF64:
      return 64;
  }
  KVTIER_CHECK(false);
}

void CheckTensor(absl::Span<const uint8_t> file, const std::string& name,
                 const TensorView& tensor) {
  KVTIER_CHECK(tensor.shape.size() <= kSafetensorsRankMax);
  size_t elements = 1;
  for (const size_t extent : tensor.shape) {
    KVTIER_CHECK(extent == 0 || elements <= SIZE_MAX / 64 / extent);
    elements *= extent;
  }
  KVTIER_CHECK(tensor.bytes.size() == elements * (BitsOf(tensor.type) / 8));
  if (!tensor.bytes.empty()) {
    KVTIER_CHECK(std::greater_equal<>()(tensor.bytes.data(), file.data()));
    KVTIER_CHECK(
        std::less_equal<>()(tensor.bytes.data() + tensor.bytes.size(), file.data() + file.size()));
  }
  const auto floats = TensorToFloats(tensor, tensor.shape, name);
  KVTIER_CHECK(floats.ok() ? floats->size() == elements
                           : floats.status().code() == absl::StatusCode::kInvalidArgument);
  // Another shape is refused, not read.
  std::vector<size_t> other = tensor.shape;
  other.push_back(2);
  KVTIER_CHECK(!TensorToFloats(tensor, other, name).ok());
}

}  // namespace
}  // namespace kvtier::examples

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvtier::examples;  // NOLINT(google-build-using-namespace)
  // An exact copy on the heap, so that a read beyond its end is seen.
  const auto copy = std::make_unique<uint8_t[]>(size);
  std::copy_n(data, size, copy.get());
  const absl::Span<const uint8_t> file(copy.get(), size);
  const auto tensors = ParseSafetensors(file);
  if (!tensors.ok()) {
    KVTIER_CHECK(tensors.status().code() == absl::StatusCode::kInvalidArgument);
    KVTIER_CHECK(!tensors.status().message().empty());
    return 0;
  }
  for (const auto& [name, tensor] : *tensors) kvtier::examples::CheckTensor(file, name, tensor);
  return 0;
}
