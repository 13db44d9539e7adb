// Fields of requests as the daemon takes them.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "kvtier/types.h"

namespace kvtier {

inline std::string PackKeys(const std::vector<Key>& keys) {
  std::string bytes(keys.size() * sizeof(Key), '\0');
  if (!keys.empty()) std::memcpy(bytes.data(), keys.data(), bytes.size());
  return bytes;
}

// The zero key where the bytes are none.
inline Key KeyOf(const std::string& bytes) {
  Key key{};
  if (bytes.size() == key.size()) std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

// INVALID_ARGUMENT unless the time is positive or zero.
inline absl::StatusOr<uint64_t> Milliseconds(const char* name, absl::Duration time) {
  if (time < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", absl::FormatDuration(time), ", it must not be negative"));
  }
  if (time == absl::ZeroDuration()) return 0;
  // Rounded up: 0 would mean the default.
  return static_cast<uint64_t>(
      std::max<int64_t>(1, absl::ToInt64Milliseconds(absl::Ceil(time, absl::Milliseconds(1)))));
}

}  // namespace kvtier
