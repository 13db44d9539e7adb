// What a benchmark of kvtier reports: a figure beside its ceiling, both measured in one run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace kvtier::bench {

struct Figure {
  std::string name;        // "copy_verified"
  double value = 0;        // the figure, in `unit`
  double p50 = 0;          // over the runs, in `unit`
  double p99 = 0;          // 99 of 100 runs are at least this good
  std::string unit;        // "GB/s", "us", "bytes"
  double ceiling = 0;      // the best possible, measured side by side, in `unit`; 0: there is none
  double ratio = 0;        // of figure and ceiling, the median over runs of both; 0: there is none
  int runs = 0;            // measured, each figure and ceiling next to each other
  int64_t page_bytes = 0;  // behind the memory that was measured; 0: does not matter
  std::string note;        // what the ceiling is and how both were measured
};

// {"figures": [{"name", "value", "p50", "p99", "unit", "ceiling", "ratio", "runs", "page_bytes",
// "note"}]}, indented.
std::string FiguresToJson(absl::Span<const Figure> figures);

// The same for people: a line a figure, then the notes. Figures of one name, which differ in the
// pages of their memory, stand together, and the name before the first of them.
std::string FiguresToText(absl::Span<const Figure> figures);

// The value below which `fraction` (0 to 1) of the samples lie; samples must not be empty.
double Quantile(std::vector<double> samples, double fraction);

}  // namespace kvtier::bench
