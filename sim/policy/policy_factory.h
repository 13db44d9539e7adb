// The policies that can be simulated, by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sim/policy/access_future.h"
#include "sim/policy/attention_policies.h"
#include "tiering/plan/placement_policy.h"

namespace kvtier::sim {

// NOT_FOUND names what there is. `future` outlives the policy; `look_ahead` is for `sa`.
absl::StatusOr<std::unique_ptr<PlacementPolicy>> MakePolicy(absl::string_view name,
                                                            AccessFuture* future,
                                                            const LookAhead& look_ahead);
// Whether it decides by what will be read: no engine can run it but in a simulation.
bool KnowsFuture(absl::string_view name);
// In the order in which they are listed.
std::vector<std::string> PolicyNames();

}  // namespace kvtier::sim
