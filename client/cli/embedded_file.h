// A file that a program carries within itself.
#pragma once

#include <string_view>

namespace kvtier::cli {

// Both last as long as the program.
struct EmbeddedFile {
  std::string_view path;  // relative
  std::string_view text;
};

}  // namespace kvtier::cli
