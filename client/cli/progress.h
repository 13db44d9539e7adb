// How far a long command is, on stderr.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace kvtier::cli {

// Of a clock that does not go back and knows nothing of the time of day.
double SteadySeconds();

// Prints a few times a second: on a terminal in place, else (when asked for) a line each. Not
// thread-safe.
class Progress {
 public:
  // `total_bytes` 0: unknown. Prints only if stderr is a terminal or `always`.
  Progress(std::string label, uint64_t total_bytes, bool always);
  ~Progress();  // ends the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `counts` is shown before the bytes, in place of that of the last call: "3 of 8 requests".
  void Add(uint64_t bytes, std::string counts = {});
  // In place of bytes and their rate: of what is not done in bytes.
  void Show(std::string text);

 private:
  void PrintIfDue();
  void Print();
  std::string BytesLine() const;

  const std::string label_;
  const uint64_t total_bytes_;
  const bool terminal_;
  const bool enabled_;
  const absl::Time start_;
  absl::Time printed_;
  uint64_t bytes_ = 0;
  std::string counts_;
  std::string text_;
  bool open_line_ = false;
};

}  // namespace kvtier::cli
