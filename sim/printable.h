// Texts of files that people get to see, in terminals too.
#pragma once

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace kvtier::sim {

inline constexpr size_t kNameBytesMax = 64;  // of a machine or a model

// ASCII in which nothing is a command to a terminal.
inline bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); });
}

}  // namespace kvtier::sim
