#include "sim/schedule_terms.h"

#include <algorithm>
#include <utility>

#include "tiering/base/status_macros.h"

namespace kvtier::sim {

absl::Status AddTable(bound::TableSpec spec, bound::Instance& instance, ScheduleTerms& terms) {
  KVTIER_ASSIGN_OR_RETURN(bound::OptionTable table, bound::MakeTable(spec));
  instance.tables.push_back(std::move(table));
  if (std::count_if(spec.tiers.begin(), spec.tiers.end(),
                    [](const bound::TierPorts& ports) { return !ports.on_gpu; }) < 2)
    return absl::OkStatus();
  spec.far_copies_through_gpu = true;
  KVTIER_ASSIGN_OR_RETURN(table, bound::MakeTable(spec));
  terms.tables.push_back(std::move(table));
  return absl::OkStatus();
}

absl::StatusOr<bound::Instance> ForSchedules(const bound::Instance& instance,
                                             const ScheduleTerms& terms) {
  bound::Instance made = instance;
  if (!terms.tables.empty()) made.tables = terms.tables;
  uint64_t& room = made.tiers.front().capacity_bytes;
  room -= std::min(room, terms.kept_bytes);
  KVTIER_RETURN_IF_ERROR(bound::Check(made));
  return made;
}

}  // namespace kvtier::sim
