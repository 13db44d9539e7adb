// Errors of the C++ client as exceptions of the Python package.
#pragma once

#include <pybind11/pybind11.h>

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvtier::python {

// The exception for a status that is not OK: an instance of the class in kvtier.errors that stands
// for its code.
pybind11::object ErrorFor(const absl::Status& status);
// Raises it.
[[noreturn]] void ThrowStatus(const absl::Status& status);

inline void ThrowIfError(const absl::Status& status) {
  if (!status.ok()) ThrowStatus(status);
}
template <typename T>
T ValueOrThrow(absl::StatusOr<T> result) {
  if (!result.ok()) ThrowStatus(result.status());
  return *std::move(result);
}

// Text from a daemon, which need not be UTF-8.
pybind11::str Text(std::string_view text);

}  // namespace kvtier::python
