// The engine's counters by name, in one table for Status, the metrics page and its documentation.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "tiering/engine/engine.h"

namespace kvtier {

struct CounterEntry {
  const char* name;  // metric: kvtier_<name>_total
  uint64_t EngineCounters::*value;
  const char* help;
};

absl::Span<const CounterEntry> EngineCounterTable();

}  // namespace kvtier
