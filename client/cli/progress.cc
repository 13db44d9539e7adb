#include "client/cli/progress.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"

namespace kvtier::cli {

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

constexpr absl::Duration kTerminalPeriod = absl::Milliseconds(200);
constexpr absl::Duration kLinePeriod = absl::Seconds(1);

}  // namespace

Progress::Progress(std::string label, uint64_t total_bytes, bool always)
    : label_(std::move(label)),
      total_bytes_(total_bytes),
      terminal_(::isatty(STDERR_FILENO) == 1),
      enabled_(terminal_ || always),
      start_(absl::Now()),
      printed_(start_) {}

Progress::~Progress() {
  // The last state is shown where any was, and always where it was asked for without a terminal.
  if (!enabled_ || (terminal_ && !open_line_)) return;
  Print();
  if (terminal_) std::fputc('\n', stderr);
}

void Progress::Add(uint64_t bytes, std::string counts) {
  bytes_ += bytes;
  counts_ = std::move(counts);
  PrintIfDue();
}

void Progress::Show(std::string text) {
  text_ = std::move(text);
  PrintIfDue();
}

void Progress::PrintIfDue() {
  if (!enabled_ || absl::Now() - printed_ < (terminal_ ? kTerminalPeriod : kLinePeriod)) return;
  Print();
}

void Progress::Print() {
  printed_ = absl::Now();
  std::string line = absl::StrCat(label_, ": ", text_);
  if (text_.empty()) line = BytesLine();
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", line.c_str());
  std::fflush(stderr);
  open_line_ = true;
}

std::string Progress::BytesLine() const {
  const double seconds = absl::ToDoubleSeconds(printed_ - start_);
  const auto per_second =
      static_cast<uint64_t>(seconds > 0 ? static_cast<double>(bytes_) / seconds : 0);
  std::string line =
      absl::StrCat(label_, ": ", counts_, counts_.empty() ? "" : ", ", SizeText(bytes_));
  if (total_bytes_ > 0) {
    absl::StrAppendFormat(&line, " of %s (%d %%)", SizeText(total_bytes_),
                          bytes_ * 100 / total_bytes_);
  }
  absl::StrAppend(&line, ", ", SizeText(per_second), "/s");
  return line;
}

}  // namespace kvtier::cli
