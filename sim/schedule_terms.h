// What a schedule is held to where the bound charges less.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tiering/bound/instance.h"
#include "tiering/bound/standard_tables.h"

namespace kvtier::sim {

// Beyond the placement problem, which is what the bound is of. Plain data.
struct ScheduleTerms {
  // By table of the problem, with the same states: what is charged in schedules. Empty: the same.
  std::vector<bound::OptionTable> tables{};
  // Of the first tier, which no block may use.
  uint64_t kept_bytes = 0;

  bool none() const { return tables.empty() && kept_bytes == 0; }
};

// Adds `spec`'s table to the problem, and what schedules are charged in its place if that is more:
// copies between two tiers beside the GPU load both links in schedules, and neither in the bound,
// as there may be paths between them that no machine file names. Errors: as MakeTable.
absl::Status AddTable(bound::TableSpec spec, bound::Instance& instance, ScheduleTerms& terms);

// The problem as schedules are looked for and checked in. INVALID_ARGUMENT: as bound::Check.
absl::StatusOr<bound::Instance> ForSchedules(const bound::Instance& instance,
                                             const ScheduleTerms& terms);

}  // namespace kvtier::sim
