// What a plan varies, and through which values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sim/quantity.h"

namespace kvtier::sim {

inline constexpr uint32_t kAxisValuesMax = 64;

struct PlanAxis {
  std::string name;  // "load", or the path of an override (spec_fields.h): "dram", "link.pcie"
  Unit unit = Unit::kCapacity;
  std::vector<uint64_t> values;  // as given, or ascending

  bool is_load() const { return unit == Unit::kNone; }
  // Whether both set one field: of "link.pcie" and "link.pcie.to_gpu" the later one alone would.
  bool Overlaps(const PlanAxis& other) const;
  // The override that sets the name to a value. Not of a load.
  std::string Override(uint64_t value) const;
};

// "NAME=A,B,C": these values. "NAME=A..B": `points` values from A to B, each as many times the one
// before; "NAME=A..B/N": N of them. Those between the ends are rounded, to MiB or MB/s where the
// ends are whole ones; of a load, to whole numbers, and without N every whole number is taken. A
// value without a unit has that of the last one: 10..80GiB. Doubled values are dropped.
//
// NAME is "load", "link.LINK" or "link.LINK.to_gpu" and the like (bytes a second), "compute"
// (operations a second), "tier.TIER.bandwidth", or else a tier, whose capacity it is: whether it
// exists is for the machine to say. INVALID_ARGUMENT names the axis.
absl::StatusOr<PlanAxis> ParsePlanAxis(absl::string_view text, uint32_t points);

// All axes of a plan. `points` 0: 5, or 3 of three axes or more, and 2 where the combinations would
// else be more than `combinations_max`. They may be more all the same.
absl::StatusOr<std::vector<PlanAxis>> ParsePlanAxes(const std::vector<std::string>& texts,
                                                    uint32_t points, size_t combinations_max);

}  // namespace kvtier::sim
